"""GenBank files of made-up genomes."""

GENBANK = """LOCUS       TINY {size:>22} bp    DNA     circular BCT 01-JAN-2000
DEFINITION  made up.
ACCESSION   TINY
FEATURES             Location/Qualifiers
     source          1..{size}
{features}ORIGIN
{lines}
//
"""


def genbank(sequence, locations):
    """A GenBank entry with a CDS at each location."""
    features = "".join(f"     CDS             {location}\n" for location in locations)
    lines = []
    for begin in range(0, len(sequence), 60):
        row = sequence[begin : begin + 60].lower()
        tens = " ".join(row[at : at + 10] for at in range(0, len(row), 10))
        lines.append(f"{begin + 1:>9} {tens}")
    return GENBANK.format(size=len(sequence), features=features, lines="\n".join(lines))
