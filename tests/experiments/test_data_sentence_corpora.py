import io
import tarfile
from pathlib import Path

import datasets
import pytest

from experiments.data import brown, sentence_corpus, text_hub
from experiments.data.sentence_rows import FEATURES, Sentence, sentence_data_set
from experiments.data.text_rows import Document, data_set

SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNJAX_CACHE", str(tmp_path / "cache"))


def words(rows: datasets.DatasetDict, split: str) -> list[list[str]]:
    return list(rows[split]["words"])


def test_tags_are_taken_off_and_quotation_marks_are_one():
    tagged = "\n\n\tHe/pps said/vbd ``/`` 1/2/cd ''/'' ./.\n\n\n\tYes/rb ,/,\n"
    assert brown.sentences(tagged) == [["He", "said", '"', "1/2", '"', "."], ["Yes", ","]]
    for bad in ("word", "/nn", "word/"):
        with pytest.raises(ValueError, match=f"tagged: got the token '{bad}', expected word/tag"):
            brown.sentences(f"a/at {bad}")


def test_texts_are_split_by_the_words_before_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = tmp_path / "corpus.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("ca01", "ca02", "cr09", "README", "cats.txt"):
            content = f"{name}/nn in/in\n\nall/abn\n".encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(brown, "fetch_npm", lambda *_: archive)
    monkeypatch.setattr(brown, "VALIDATION_FROM", 2)
    monkeypatch.setattr(brown, "TEST_FROM", 5)
    rows = sentence_corpus.load()
    assert {split: words(rows, split) for split in SPLITS} == {
        "train": [["ca01", "in"], ["all"]],
        "validation": [["ca02", "in"], ["all"]],
        "test": [["cr09", "in"], ["all"]],
    }
    assert list(rows["test"]["document"]) == ["cr09", "cr09"]
    assert rows["train"].features == FEATURES


def test_a_line_is_a_sentence_and_an_empty_one_has_no_words(tmp_path: Path):
    for split in SPLITS:
        (tmp_path / f"ptb.{split}.txt").write_text(f" the <unk> {split} .\n\nN %, isn't\n")
    rows = sentence_corpus.load("path", path=tmp_path)
    assert words(rows, "test") == [["the", "<unk>", "test", "."], [], ["N", "%,", "isn't"]]
    rows = sentence_corpus.load("path", path=tmp_path, tokeniser="words")
    assert words(rows, "test")[2] == ["N", "%", ",", "isn't"]


def test_the_hub_is_asked_for_an_id_a_configuration_and_a_column(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def load(*arguments: object) -> datasets.DatasetDict:
        asked.append(arguments)
        return data_set({split: [Document("all", "one two\n = three = \n")] for split in SPLITS})

    monkeypatch.setattr(text_hub, "load", load)
    for name in ("some/id", "some/id:part", "some/id::line"):
        rows = sentence_corpus.load("hub", name)
        assert words(rows, "validation") == [["one", "two"], ["=", "three", "="]]
    assert asked == [
        ("some/id", None, "text"),
        ("some/id", "part", "text"),
        ("some/id", None, "line"),
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: sentence_corpus.load("path"), "path: got None with source='path'"),
        (lambda f: sentence_corpus.load("hub", "x", f), "with source='hub'"),
        (lambda _: sentence_corpus.load("package", "green"), "expected one of brown"),
        (
            lambda f: sentence_corpus.load("path", path=f, tokeniser="bytes"),
            "tokeniser: got 'bytes', expected one of spaces, words",
        ),
        (
            lambda _: sentence_corpus.load(tokeniser="words"),
            "tokeniser: got 'words' with source='package'",
        ),
        (
            lambda _: sentence_corpus.load("web"),  # pyright: ignore[reportArgumentType]
            "source: got 'web', expected 'package', 'hub' or 'path'",
        ),
        (
            lambda _: sentence_data_set({"train": [Sentence("a", [])]}),
            "split train: got no words, expected at least one",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message: str, tmp_path: Path):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call(tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_real_brown_corpus_is_all_there():
    rows = brown.load()
    counts = {split: sum(map(len, words(rows, split))) for split in SPLITS}
    assert sum(counts.values()) == 1_161_192
    assert len(set().union(*(rows[split]["document"] for split in SPLITS))) == 500
    assert sum(len(rows[split]) for split in SPLITS) == 57_340
    assert 800_000 <= counts["train"] < 803_000
    assert 1_000_000 <= counts["train"] + counts["validation"] < 1_003_000
