"""The map between tokens and the ids a model works on."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

UNKNOWN = "<unk>"
PADDING = "<pad>"
BEGIN = "<s>"
END = "</s>"

_FORMAT = "rnnjax.vocabulary/1"
_FIELDS = ("unknown", "padding", "begin", "end")
_CODE_POINTS = 0x110000


@dataclass(frozen=True)
class Vocabulary:
    """V tokens in id order, among them the token every unknown one is mapped to.

    Attributes:
        tokens: the V tokens; a token's place is its id.
        unknown: the token for everything outside the vocabulary (the course's UNK).
        padding: the token that fills rows up to a common length, or None.
        begin: the token before the first one of a document, or None.
        end: the token after the last one of a document (the course's EOS), or None.
    """

    tokens: tuple[str, ...]
    unknown: str = UNKNOWN
    padding: str | None = None
    begin: str | None = None
    end: str | None = None

    def __post_init__(self) -> None:
        if len(self._ids) != len(self.tokens):
            repeated = [token for token, count in Counter(self.tokens).items() if count > 1]
            raise ValueError(
                f"tokens: got {repeated[0]!r} more than once, expected distinct tokens"
            )
        special = [token for token in self.special_tokens if token not in self._ids]
        if special:
            raise ValueError(f"tokens: {special[0]!r} is missing, expected every special token")
        if len(set(self.special_tokens)) != len(self.special_tokens):
            raise ValueError(
                f"special tokens: got {list(self.special_tokens)}, expected distinct ones"
            )

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The special tokens that this vocabulary has: padding, unknown, begin, end."""
        named = (self.padding, self.unknown, self.begin, self.end)
        return tuple(token for token in named if token is not None)

    @property
    def unknown_id(self) -> int:
        """The id of the unknown token."""
        return self._ids[self.unknown]

    @property
    def padding_id(self) -> int:
        """The id of the padding token. Raises: ValueError if there is none."""
        return self._special_id("padding", self.padding)

    @property
    def begin_id(self) -> int:
        """The id of the begin token. Raises: ValueError if there is none."""
        return self._special_id("begin", self.begin)

    @property
    def end_id(self) -> int:
        """The id of the end token. Raises: ValueError if there is none."""
        return self._special_id("end", self.end)

    def encode(self, tokens: Sequence[str]) -> np.ndarray:
        """Ids of tokens: (T,) int32. What the vocabulary lacks becomes `unknown_id`.

        A `str` is a sequence of characters, and is encoded character by character, fast.
        """
        if isinstance(tokens, str):
            return self._ids_of_code_points[_code_points(tokens)]
        ids, unknown = self._ids, self.unknown_id
        return np.fromiter((ids.get(token, unknown) for token in tokens), np.int32, len(tokens))

    def decode(self, ids: ArrayLike) -> list[str]:
        """Tokens of ids (T,), an integer array.

        Raises:
            ValueError: ids are not one row of integers in 0..V-1.
        """
        row = np.asarray(ids)
        if row.ndim != 1:
            raise ValueError(f"ids: got shape {row.shape}, expected one axis")
        if row.size == 0:
            return []
        if not np.issubdtype(row.dtype, np.integer):
            raise ValueError(f"ids: got dtype {row.dtype}, expected an integer dtype")
        if row.min() < 0 or row.max() >= len(self):
            raise ValueError(
                f"ids: got values from {row.min()} to {row.max()}, expected 0..{len(self) - 1}"
            )
        return [self.tokens[index] for index in row.tolist()]

    def unknown_rate(self, tokens: Sequence[str]) -> float:
        """The fraction of tokens that become the unknown token, in [0, 1].

        Raises:
            ValueError: there are no tokens.
        """
        if len(tokens) == 0:
            raise ValueError("tokens: got none, expected at least one")
        return float(np.mean(self.encode(tokens) == self.unknown_id))

    def to_json(self) -> str:
        """This vocabulary as one JSON object, with a tag that names the format."""
        special = {field: getattr(self, field) for field in _FIELDS}
        return json.dumps({"format": _FORMAT, **special, "tokens": self.tokens}, ensure_ascii=True)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    @cached_property
    def _ids_of_code_points(self) -> np.ndarray:
        table = np.full(_CODE_POINTS, self.unknown_id, np.int32)
        for token, index in self._ids.items():
            if len(token) == 1:
                table[ord(token)] = index
        return table

    def _special_id(self, field: str, token: str | None) -> int:
        if token is None:
            raise ValueError(f"{field}: this vocabulary has no {field} token")
        return self._ids[token]


def from_counts(
    counts: Mapping[str, int],
    *,
    maximum_size: int | None = None,
    minimum_count: int = 1,
    unknown: str = UNKNOWN,
    padding: str | None = None,
    begin: str | None = None,
    end: str | None = None,
) -> Vocabulary:
    """A vocabulary of the most frequent tokens; ties are broken by code point order.

    Special tokens come first (padding, unknown, begin, end), and then the others by falling count.
    A counted token that is spelled as a special token is that special token.

    Args:
        counts: how often each token occurs.
        maximum_size: the greatest V, special tokens included; None is no limit.
        minimum_count: rarer tokens are left to the unknown token.
        unknown: spelling of the token for everything unknown.
        padding: spelling of the padding token; None is to have none.
        begin: spelling of the begin token; None is to have none.
        end: spelling of the end token; None is to have none.

    Raises:
        ValueError: the corpus is empty, or the maximum size has no place for any of its tokens.
    """
    if not counts:
        raise ValueError("corpus: got no tokens, expected at least one")
    special = tuple(token for token in (padding, unknown, begin, end) if token is not None)
    if maximum_size is not None and maximum_size <= len(special):
        raise ValueError(
            f"maximum_size: got {maximum_size}, expected more than "
            f"the {len(special)} special tokens"
        )
    ranked = sorted(
        (token for token, count in counts.items() if count >= minimum_count),
        key=lambda token: (-counts[token], token),
    )
    ordinary = [token for token in ranked if token not in special]
    kept = ordinary if maximum_size is None else ordinary[: maximum_size - len(special)]
    return Vocabulary((*special, *kept), unknown, padding, begin, end)


def from_tokens(
    tokens: Iterable[str],
    *,
    maximum_size: int | None = None,
    minimum_count: int = 1,
    unknown: str = UNKNOWN,
    padding: str | None = None,
    begin: str | None = None,
    end: str | None = None,
) -> Vocabulary:
    """Count tokens (a `str` is a sequence of characters), and build as `from_counts` does.

    Raises:
        ValueError: as `from_counts`.
    """
    return from_counts(
        Counter(tokens),
        maximum_size=maximum_size,
        minimum_count=minimum_count,
        unknown=unknown,
        padding=padding,
        begin=begin,
        end=end,
    )


def from_json(text: str) -> Vocabulary:
    """The vocabulary that `Vocabulary.to_json` wrote.

    Raises:
        ValueError: the text is no JSON, is not tagged as a vocabulary, or holds a bad one.
    """
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"vocabulary: not JSON ({error})") from None
    tag = record.get("format") if isinstance(record, dict) else None
    if tag != _FORMAT:
        raise ValueError(f"vocabulary: got JSON with format {tag!r}, expected {_FORMAT!r}")
    if set(record) != {"format", "tokens", *_FIELDS}:
        raise ValueError(
            f"vocabulary: got fields {sorted(record)}, expected format, tokens, "
            + ", ".join(_FIELDS)
        )
    tokens, special = record["tokens"], {field: record[field] for field in _FIELDS}
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ValueError("vocabulary: tokens is not a list of strings")
    if not isinstance(special["unknown"], str) or not all(
        value is None or isinstance(value, str) for value in special.values()
    ):
        raise ValueError(f"vocabulary: got special tokens {special}, expected strings or null")
    return Vocabulary(tuple(tokens), **special)


def _code_points(text: str) -> np.ndarray:
    """Code points of a text: (T,) uint32. Lone surrogates, which Python allows, pass."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))
