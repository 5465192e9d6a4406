"""From a text to its tokens and back."""

import re
from collections.abc import Iterable, Sequence

_WORD_OR_MARK = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
_NO_SPACE_BEFORE = frozenset(".,;:!?)]}%’”")
_NO_SPACE_AFTER = frozenset("([{$“‘")


def characters(text: str) -> list[str]:
    """The characters (Unicode code points) of a text. `join_characters` is the exact inverse."""
    return list(text)


def join_characters(tokens: Iterable[str]) -> str:
    """The text of its characters."""
    return "".join(tokens)


def words(text: str) -> list[str]:
    """Words and punctuation marks in order; white space is dropped, case is kept.

    A word keeps its inner apostrophes and hyphens ("don't", "well-kept"); each other mark is a
    token of its own.
    """
    return _WORD_OR_MARK.findall(text)


def lower_case_words(text: str) -> list[str]:
    """`words` of the text in lower case."""
    return words(text.lower())


def join_words(tokens: Sequence[str]) -> str:
    """A readable line: one space between words, none before a closing or after an opening mark.

    `words(join_words(tokens)) == tokens` for whatever `words` returns.
    """
    pieces: list[str] = []
    for index, token in enumerate(tokens):
        opened = index > 0 and tokens[index - 1] in _NO_SPACE_AFTER
        if index > 0 and not opened and token not in _NO_SPACE_BEFORE:
            pieces.append(" ")
        pieces.append(token)
    return "".join(pieces)
