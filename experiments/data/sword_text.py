"""Texts of the SWORD project in its format zText, verse by verse.

A module has three files for each testament. `.bzz` is blocks, compressed by zlib, here one a book;
`.bzs` has for each block its place in `.bzz`, its size there and its size unpacked, three 32-bit
integers; `.bzv` has for each verse its block (32 bits), its place in it (32 bits) and its size
(16 bits), little-endian all. Modules of the same versification have the same verse at the same
place of `.bzv`; headings of testaments, books and chapters have places of their own there. The
text of a verse is UTF-8 in OSIS, a markup whose elements need not be closed where they are opened.
"""

import re
import struct
import zlib
from typing import NamedTuple

_BLOCK, _VERSE = struct.Struct("<III"), struct.Struct("<IIH")
_LEFT_OUT = re.compile(r"<(note|title)\b[^>]*(?<!/)>.*?</\1>", re.DOTALL)
_ADDED = re.compile(r"</?transChange\b[^>]*>")
_MARK = re.compile(r"<[^>]*>|¶|\\\w+")  # of OSIS, and what an importer has left of USFM
_HEADING = re.compile(r"<(?:div|chapter)\b(?=[^>]*\bsID=)[^>]*\bosisID=\"([^\"]+)\"")


class Verse(NamedTuple):
    """One place of the index: which chapter it is of, and its plain text."""

    chapter: str  # as OSIS calls it, such as "Gen.1", before the first one of a book "Gen"
    text: str  # empty of headings and of verses that the module lacks


def read_testament(index: bytes, verses: bytes, blocks: bytes) -> list[Verse]:
    """All places of a testament, in the order of the versification.

    Args:
        index: the file `.bzs`.
        verses: the file `.bzv`.
        blocks: the file `.bzz`.

    Raises:
        ValueError: a file is cut off, or does not fit the others.
    """
    if len(index) % _BLOCK.size or len(verses) % _VERSE.size:
        raise ValueError(
            f"zText: got an index of {len(index)} and {len(verses)} bytes, expected multiples of "
            f"{_BLOCK.size} and {_VERSE.size}"
        )
    places = list(_BLOCK.iter_unpack(index))
    unpacked: dict[int, bytes] = {}
    found: list[Verse] = []
    chapter = ""
    for number, (block, begin, size) in enumerate(_VERSE.iter_unpack(verses)):
        if not size:
            found.append(Verse(chapter, ""))
            continue
        if block not in unpacked:
            unpacked[block] = _unpacked(blocks, places, block)
        raw = unpacked[block][begin : begin + size]
        if len(raw) != size:
            raise ValueError(f"zText: verse {number} does not lie within block {block}")
        markup = raw.decode("utf-8")
        heading = _HEADING.search(markup)
        chapter = heading[1] if heading else chapter
        found.append(Verse(chapter, plain_text(markup)))
    return found


def plain_text(markup: str) -> str:
    """The text of a verse: without notes and titles, words that translators added kept."""
    # Added words stand without a space in places: "la<transChange>que fué</transChange>de".
    text = _ADDED.sub(" ", _LEFT_OUT.sub("", markup))
    text = " ".join(_MARK.sub("", text).split())
    return re.sub(r"(?<=[¿¡(]) | (?=[,.;:?!)])", "", text)


def _unpacked(blocks: bytes, places: list[tuple[int, int, int]], block: int) -> bytes:
    if block >= len(places):
        raise ValueError(f"zText: got block {block}, expected 0 … {len(places) - 1}")
    begin, packed, size = places[block]
    try:
        content = zlib.decompress(blocks[begin : begin + packed])
    except zlib.error as error:
        raise ValueError(f"zText: block {block} is damaged ({error})") from None
    if len(content) != size:
        raise ValueError(f"zText: block {block} has {len(content)} bytes, expected {size}")
    return content
