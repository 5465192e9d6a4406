"""A genome base by base: which strand each base codes on, if on any.

Source: the Debian package `r-cran-seqinr` 4.2-23-1 (GPL-2), whose `ct.gbk.gz` is the GenBank entry
of *Chlamydia trachomatis* D/UW-3/CX as published (Stephens et al. 1998, Science 282: 754–759; the
entry AE001273 without restrictions on use): 1,042,519 bases, 895 coding sequences. The package's
`ct.predict` is what the gene finder GLIMMER 3 (Delcher et al. 2007, Bioinformatics 23: 673–679)
says of the same genome.

The split is by region, in the order of the genome: the first 70 % are train, the next 10 %
validation, the last 20 % test. So no gene, and no neighbour of a base, is on both sides of a split
but the one that is cut by it.
"""

import gzip
import warnings
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import Literal, NamedTuple

import datasets
import numpy as np

from experiments.data.converted import converted_once
from experiments.data.fasta import read_text
from experiments.data.package_files import fetch_debian, read_members
from rnnjax.text.nucleotides import encode_bases

PACKAGE = (
    "r-cran-seqinr",
    "4.2-23-1",
    "62aca5d68b8b41182ed2300fee62d62a190b41356723fab5d4506293877d4d9d",
)
FEATURES = datasets.Features(
    {
        "name": datasets.Value("string"),
        "start": datasets.Value("int64"),
        "sequence": datasets.Value("large_string"),
        "strands": datasets.Value("large_string"),
        "codons": datasets.Value("large_string"),
        "glimmer": datasets.Value("large_string"),
    }
)
NONE, FORWARD, REVERSE, BOTH = ".+-*"
"""A letter of `strands` a base: it codes on no strand, on one of them, or in genes of both."""
CODONS = ".123456*"
"""A letter of `codons` a base: its place in a codon, 4 to 6 on the other strand; * of two genes."""
SHORTEST_GENOME = 1000  # bases from which there is something to split

_LOADER_VERSION = 1


class Gene(NamedTuple):
    """Places `start` to `end`, counted from 0, the last one not in it; strand 1 or -1."""

    start: int
    end: int
    strand: int


def load(
    source: Literal["package", "path"] = "package", path: Path | None = None
) -> datasets.DatasetDict:
    """Splits train, validation and test of one row a region.

    A row is {"name", "start" (of the region, counted from 0), "sequence", "strands", "codons",
    "glimmer"}; the last one is what GLIMMER says in the letters of `strands`, or empty.

    Args:
        source: "package"; "path": a GenBank file with coding sequences, also compressed, `.gz`.
        path: the file of source="path".

    Raises:
        ValueError: the path is missing or superfluous, or what it holds is something else.
        DataUnavailable: the package is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    if (source == "path") != (path is not None):
        raise ValueError(f"path: got {path!r} with source={source!r}; source='path' needs it alone")
    if path is not None:
        return split_by_region(*read_genbank(read_text(path), str(path)))
    return converted_once("genome", f"{PACKAGE} {_LOADER_VERSION}", _convert)


def read_genbank(text: str, file: str) -> tuple[str, str, list[Gene]]:
    """The name, the bases and the coding sequences (CDS) of a GenBank file of one entry.

    A CDS that is joined of parts is a gene each part.

    Raises:
        ValueError: It is no such file, has no or several entries, no bases or no CDS, or a letter
            stands for no base.
    """
    from Bio import BiopythonParserWarning, SeqIO
    from Bio.Seq import UndefinedSequenceError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BiopythonParserWarning)  # of the entry's layout
            entries = list(SeqIO.parse(StringIO(text), "genbank"))
        if len(entries) != 1:
            raise ValueError(f"got {len(entries)} entries, expected one")
        (entry,) = entries
        sequence = str(entry.seq).upper()
        encode_bases(sequence)
    except (ValueError, UndefinedSequenceError) as error:
        raise ValueError(f"path: {file!r} is no GenBank file of a genome ({error})") from None
    genes = [
        Gene(int(part.start), int(part.end), int(part.strand))
        for feature in entry.features
        if feature.type == "CDS" and feature.location is not None
        for part in feature.location.parts
        if part.strand in (1, -1)
    ]
    if not genes:
        raise ValueError(f"path: {file!r} has no coding sequence (CDS), expected at least one")
    return entry.name, sequence, genes


def read_glimmer(text: str, size: int) -> list[Gene]:
    """The genes of GLIMMER's `.predict`, lines of name, start, end, frame and score.

    Places there count from 1; a gene of the circle that goes over its end becomes two.
    """
    genes = []
    for line in text.splitlines():
        if line.startswith(">") or not line.strip():
            continue
        _, first, last, frame, *_ = line.split()
        strand = -1 if frame.startswith("-") else 1
        start, end = (int(first), int(last)) if strand == 1 else (int(last), int(first))
        if start <= end:
            genes.append(Gene(start - 1, end, strand))
        else:
            genes += [Gene(start - 1, size, strand), Gene(0, end, strand)]
    return genes


def strands_of(genes: Iterable[Gene], size: int) -> str:
    """The letter of each base: on which strand it codes."""
    codes = np.zeros((2, size), bool)
    for gene in genes:
        codes[int(gene.strand < 0), gene.start : gene.end] = True
    letters = np.frombuffer((NONE + FORWARD + REVERSE + BOTH).encode(), np.uint8)
    return letters[codes[0] + 2 * codes[1]].tobytes().decode()


def codons_of(genes: Iterable[Gene], size: int) -> str:
    """The letter of each base: its place in a codon."""
    states = np.zeros(size, np.int64)
    for start, end, strand in genes:
        along = np.arange(end - start)
        here = along % 3 + 1 if strand > 0 else along[::-1] % 3 + 4
        before = states[start:end]
        states[start:end] = np.where((before == 0) | (before == here), here, len(CODONS) - 1)
    return np.frombuffer(CODONS.encode(), np.uint8)[states].tobytes().decode()


def split_by_region(
    name: str, sequence: str, genes: Sequence[Gene], glimmer: str = ""
) -> datasets.DatasetDict:
    """Rows as `load` has them.

    Raises:
        ValueError: The genome is shorter than `SHORTEST_GENOME`, or a region has no coding base.
    """
    size = len(sequence)
    if size < SHORTEST_GENOME:
        raise ValueError(f"sequence: got {size} bases, expected at least {SHORTEST_GENOME}")
    strands, codons = strands_of(genes, size), codons_of(genes, size)
    bounds = {
        "train": (0, size * 7 // 10),
        "validation": (size * 7 // 10, size * 8 // 10),
        "test": (size * 8 // 10, size),
    }
    made: dict[str | datasets.NamedSplit, datasets.Dataset] = {}
    for split, (start, end) in bounds.items():
        if set(strands[start:end]) == {NONE}:
            raise ValueError(f"split {split}: got no coding base, expected at least one")
        row = {
            "name": [name],
            "start": [start],
            "sequence": [sequence[start:end]],
            "strands": [strands[start:end]],
            "codons": [codons[start:end]],
            "glimmer": [glimmer[start:end]],
        }
        made[split] = datasets.Dataset.from_dict(row, features=FEATURES)
    return datasets.DatasetDict(made)


def _convert() -> datasets.DatasetDict:
    archive = fetch_debian(*PACKAGE)
    (content,) = read_members(archive, "*/seqinr/sequences/ct.gbk.gz").values()
    (predicted,) = read_members(archive, "*/seqinr/sequences/ct.predict").values()
    name, sequence, genes = read_genbank(gzip.decompress(content).decode("ascii"), "ct.gbk.gz")
    glimmer = strands_of(read_glimmer(predicted.decode("ascii"), len(sequence)), len(sequence))
    return split_by_region(name, sequence, genes, glimmer)
