"""Splice junctions, promoters, genomes and FASTA: what is read, and what is refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from support.genbank import genbank

from experiments.data import genome, promoters, splice_junctions
from experiments.data.fasta import read_fasta
from experiments.data.labelled_sequences import (
    Labelled,
    distinct,
    read_uci,
    rows_of,
    split_by_sequence,
)


def test_a_fasta_file_is_read_also_compressed_and_with_other_line_ends(tmp_path):
    text = ">first of two\nACGT\nacgn\n\n>second\nTT\n"
    for name, content in (
        ("a.fasta", text.encode()),
        ("a.fasta.gz", gzip.compress(text.encode())),
        ("b.fasta", text.replace("\n", "\r\n").encode()),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        found = read_fasta(path)
        assert [tuple(record) for record in found] == [("first", "ACGTacgn"), ("second", "TT")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "^file: '.*x.fasta' is empty, expected at least one record, '>name'"),
        (b" \n\n", "^file: '.*x.fasta' is empty"),
        (b"ACGT\n", "^file: '.*x.fasta' begins with 'ACGT', expected '>name'"),
        (b">a\n>b\nACGT\n", "^record 'a': got 0 bases, expected at least 2"),
        (b">a\nA\n", "^record 'a': got 1 bases, expected at least 2"),
        (b">a\nACGJ\n", "^record 'a': got 'J' at place 4, expected letters of ACGT"),
        (b">\nAC-T\n", "^record 'number 1': got '-' at place 3"),
        (b"\xff\xfe>a", "^file: '.*x.fasta' is no text"),
    ],
)
def test_what_is_no_fasta_is_refused(content, message, tmp_path):
    path = tmp_path / "x.fasta"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_fasta(path, shortest=2)


def test_a_damaged_archive_is_refused(tmp_path):
    path = tmp_path / "x.fasta.gz"
    path.write_bytes(gzip.compress(b">a\nACGT\n" * 99)[:-20])
    with pytest.raises(ValueError, match=r"^file: '.*x\.fasta\.gz' is no text"):
        read_fasta(path)


def test_equal_sequences_are_in_one_split_once():
    rows = [Labelled("ACGT", "EI"), Labelled("AAAA", "N"), Labelled("ACGT", "N")]
    assert distinct(rows) == rows[:2]
    rng = np.random.default_rng(0)
    rows = [Labelled("".join(rng.choice(list("ACGT"), 20)), "N") for _ in range(2000)]
    splits = split_by_sequence(rows)
    assert sum(map(len, splits.values())) == len(rows)
    for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert len(splits[name]) == pytest.approx(share * len(rows), rel=0.2)
    again = split_by_sequence(reversed(rows))
    assert {name: set(of) for name, of in splits.items()} == {
        name: set(of) for name, of in again.items()
    }


def test_files_of_uci_are_read_and_named_or_in_a_folder(tmp_path):
    (tmp_path / "splice.data").write_text("EI,  A-1,  ACGT\nN,B-2,ACGN\n\n")
    (tmp_path / "promoters.data").write_text("+,S10,\t\tacgt\n-,  20,\tttttt\n")
    rows = read_uci(tmp_path, "splice.data")
    assert rows == [Labelled("ACGT", "EI"), Labelled("ACGN", "N")]
    assert read_uci(tmp_path / "splice.data", "else") == rows
    with pytest.raises(ValueError, match=r"^path: got 5 bases in line 2 of .* expected 4, as in"):
        promoters.load("path", tmp_path)
    (tmp_path / "promoters.data").write_text("+,S10,\t\tacgt\n-,  20,\ttttt\n")
    loaded = rows_of(promoters.load("path", tmp_path)["train"])
    assert loaded == [Labelled("ACGT", "+"), Labelled("TTTT", "-")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "^path: got no line in"),
        ("EI,ACGT\n", "^path: got 2 fields in line 1"),
        ("EI,a,ACXT\n", "^line 1 of .*: got 'X' at place 3"),
        ("XX,a,ACGT\n" * 40, "^label: got 'XX', expected one of EI, IE, N|^split"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    path = tmp_path / "splice.data"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        splice_junctions.load("path", path=path)


def test_a_path_goes_with_its_source():
    with pytest.raises(ValueError, match=r"^path: got None with source='path'"):
        splice_junctions.load("path")
    with pytest.raises(ValueError, match=r"^path: got PosixPath"):
        genome.load("package", Path("x"))
    with pytest.raises(ValueError, match=r"^path: got None with source='path'"):
        promoters.load("path")


def test_three_indicators_are_a_base():
    indicators = np.asarray([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0])
    assert splice_junctions.from_indicators(indicators) == "ACGT"
    with pytest.raises(ValueError, match=r"^indicators: got"):
        splice_junctions.from_indicators(np.asarray([1, 1, 0]))


def test_genes_are_read_with_their_strands_and_the_places_in_codons():
    sequence = "ACGT" * 300
    name, bases, genes = genome.read_genbank(
        genbank(sequence, ["1..6", "complement(10..15)", "join(20..22,30..32)"]), "tiny.gbk"
    )
    assert (name, bases) == ("TINY", sequence)
    assert genes == [(0, 6, 1), (9, 15, -1), (19, 22, 1), (29, 32, 1)]
    assert genome.strands_of(genes[:2], 16) == "++++++...------."
    assert genome.codons_of(genes[:2], 16) == "123123...654654."
    overlapping = [genome.Gene(0, 6, 1), genome.Gene(4, 10, 1), genome.Gene(8, 11, -1)]
    assert genome.strands_of(overlapping, 12) == "++++++++**-."
    assert genome.codons_of(overlapping, 12) == "1231**31**4."


def test_a_genome_is_split_by_region():
    sequence = "ACGT" * 300
    genes = [genome.Gene(0, 1200, -1)]
    splits = genome.split_by_region("tiny", sequence, genes)
    assert [splits[name][0]["start"] for name in ("train", "validation", "test")] == [0, 840, 960]
    for column, whole in (("sequence", sequence), ("strands", "-" * 1200)):
        parts = "".join(splits[name][0][column] for name in ("train", "validation", "test"))
        assert parts == whole
    with pytest.raises(ValueError, match=r"^sequence: got 8 bases, expected at least 1000"):
        genome.split_by_region("tiny", "ACGTACGT", genes)
    with pytest.raises(ValueError, match=r"^split test: got no coding base"):
        genome.split_by_region("tiny", sequence, [genome.Gene(0, 900, 1)])


def test_genes_of_glimmer_count_from_one_and_go_over_the_end():
    text = ">TINY\norf1 2 7 +2 5.4\norf2 12 10 -1 2.0\norf3 19 3 +1 1.0\n"
    assert genome.read_glimmer(text, 20) == [
        (1, 7, 1),
        (9, 12, -1),
        (18, 20, 1),
        (0, 3, 1),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^path: 'x\.gbk' is no GenBank file of a genome \(got 0 entries, expected one\)"),
        (">a\nACGT\n", r"^path: 'x\.gbk' is no GenBank file"),
        (genbank("ACGT" * 300, []), r"^path: 'x\.gbk' has no coding sequence"),
        (genbank("ACGJ" * 300, ["1..6"]), r"^path: 'x\.gbk' is no GenBank file.*got 'J' at"),
        (genbank("", ["1..6"]), r"^path: 'x\.gbk' is no GenBank file"),
    ],
)
def test_what_is_no_genome_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        genome.read_genbank(text, "x.gbk")
