"""Sub-words: what a translation is read and written in, learned by byte-pair encoding.

Frequent words are one token, rare ones are spelled from parts of others, so that a few thousand
tokens write any word of the letters that were learned from. A letter that was not is UNK.

Sennrich, Haddow and Birch (2016), arXiv:1508.07909; by the library `tokenizers`.
"""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from rnnjax.text.vocabulary import BEGIN, END, UNKNOWN

SPECIAL = (UNKNOWN, BEGIN, END)
UNKNOWN_ID, BEGIN_ID, END_ID = range(3)


class Languages(NamedTuple):
    """The sub-words of what is read and of what is written."""

    source: Tokenizer
    target: Tokenizer

    def to_json(self) -> str:
        """As one JSON object."""
        both = {name: json.loads(getattr(self, name).to_str()) for name in self._fields}
        return json.dumps(both, ensure_ascii=True)


def languages_from_json(text: str) -> Languages:
    """What `Languages.to_json` wrote.

    Raises:
        ValueError: The text is something else.
    """
    try:
        record = json.loads(text)
        found = [Tokenizer.from_str(json.dumps(record[name])) for name in Languages._fields]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"vocabulary: got something else than sub-words ({error!r})") from None
    except Exception as error:  # noqa: BLE001  # the library raises nothing more special
        raise ValueError(f"vocabulary: got no sub-words ({error})") from None
    return Languages(*map(_without_special_text, found))


def learn_subwords(texts: Iterable[str], size: int) -> Tokenizer:
    """Sub-words of texts: letters, and then again and again the most frequent pair of neighbours.

    Args:
        texts: What is learned from.
        size: How many at most, with UNK, BEGIN and END, which are 0, 1 and 2.

    Raises:
        ValueError: There is no place for a letter.
    """
    if size <= len(SPECIAL):
        raise ValueError(f"size: got {size}, expected more than the {len(SPECIAL)} special tokens")
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, fuse_unk=True))
    tokenizer.normalizer = normalizers.NFC()
    # "▁" stands for the space before a word, so that the text comes back as it was.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _without_special_text(tokenizer)


def encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Each text as ids, END behind it: `(T,)` int32."""
    return [
        np.asarray([*encoding.ids, END_ID], np.int32)
        for encoding in tokenizer.encode_batch([" ".join(text.split()) for text in texts])
    ]


def decoded(tokenizer: Tokenizer, rows: Iterable[np.ndarray]) -> list[str]:
    """The text of each row of ids, up to its END."""
    texts = []
    for row in rows:
        ids = row.tolist()
        end = ids.index(END_ID) if END_ID in ids else len(ids)
        texts.append(tokenizer.decode(ids[:end]).strip())
    return texts


def pieces(tokenizer: Tokenizer, ids: np.ndarray) -> list[str]:
    """The sub-words of ids, "▁" where a word begins."""
    return [tokenizer.id_to_token(id_) or UNKNOWN for id_ in ids.tolist()]


def _without_special_text(tokenizer: Tokenizer) -> Tokenizer:
    """A text in which somebody wrote "</s>" does not end there."""
    tokenizer.encode_special_tokens = True
    return tokenizer
