"""DNA of the user's own, in FASTA: a line `>name`, then the bases on as many lines as they take."""

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

from rnnjax.text.nucleotides import encode_bases


class Record(NamedTuple):
    """One sequence of a file."""

    name: str
    sequence: str


def read_fasta(path: Path, shortest: int = 1) -> list[Record]:
    """The records of a FASTA file, also of a compressed one, `.gz`.

    Args:
        path: The file.
        shortest: The fewest bases that a record may have.

    Raises:
        ValueError: It is no FASTA file, holds no record, or a record is too short or has a letter
            that stands for no base.
        OSError: It cannot be read.
    """
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    text = read_text(path)
    if not text.strip():
        raise ValueError(f"file: {str(path)!r} is empty, expected at least one record, '>name'")
    if not text.lstrip().startswith(">"):
        begin = text.lstrip().split("\n", 1)[0][:20]
        raise ValueError(f"file: {str(path)!r} begins with {begin!r}, expected '>name'")
    records = []
    for title, letters in SimpleFastaParser(iter(text.lstrip().splitlines(keepends=True))):
        name = (title.split() or [f"number {len(records) + 1}"])[0]
        if len(letters) < shortest:
            raise ValueError(
                f"record {name!r}: got {len(letters)} bases, expected at least {shortest}"
            )
        encode_bases(letters, f"record {name!r}")
        records.append(Record(name, letters))
    return records


def read_text(path: Path) -> str:
    """The text of a file, or of a compressed one, `.gz`.

    Raises:
        ValueError: It is not text, or damaged.
        OSError: It cannot be read.
    """
    content = path.read_bytes()
    try:
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"file: {str(path)!r} is no text ({error})") from None
