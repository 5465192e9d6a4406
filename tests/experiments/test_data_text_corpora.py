from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from experiments.data import folk_tunes, shakespeare, text_corpus, text_file, text_hub
from experiments.data.converted import converted_once
from experiments.data.text_rows import FEATURES, Document, data_set

SPLITS = {"train", "validation", "test"}


def texts(rows: datasets.DatasetDict, split: str) -> list[str]:
    return list(rows[split]["text"])


def three(text: str) -> datasets.DatasetDict:
    return data_set({split: [Document(split, text + split)] for split in sorted(SPLITS)})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("RNNJAX_CACHE", str(folder))
    return folder


def test_one_file_is_cut_by_position_and_nothing_is_lost(tmp_path: Path):
    text = "".join(chr(0x4E00 + index) for index in range(1000))
    (tmp_path / "one.txt").write_text(text, encoding="utf-8")
    rows = text_file.load(tmp_path / "one.txt")
    assert rows["train"].features == FEATURES
    parts = [texts(rows, split)[0] for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [900, 50, 50]
    assert "".join(parts) == text
    of_folder = text_file.load(tmp_path)
    assert [texts(of_folder, split)[0] for split in ("train", "validation", "test")] == parts


def test_a_folder_is_split_by_file(tmp_path: Path):
    for index in range(40):
        (tmp_path / f"{index:02}.txt").write_text(f"text {index}", encoding="utf-8")
    rows = text_file.load(tmp_path)
    assert texts(rows, "test") == ["text 38", "text 39"]
    assert texts(rows, "validation") == ["text 36", "text 37"]
    assert list(rows["train"]["title"]) == [f"{index:02}" for index in range(36)]


def test_names_say_the_official_split(tmp_path: Path):
    for name in ("ptb.train", "ptb.valid"):
        (tmp_path / f"{name}.txt").write_text(name, encoding="utf-8")
    assert set(text_file.load(tmp_path)) == {"train", "validation"}
    (tmp_path / "ptb.test.txt").write_text("ptb.test", encoding="utf-8")
    rows = text_file.load(tmp_path)
    assert {str(split): texts(rows, str(split)) for split in rows} == {
        "train": ["ptb.train"],
        "validation": ["ptb.valid"],
        "test": ["ptb.test"],
    }


def test_rows_are_converted_once_and_again_when_damaged_or_changed(cache: Path):
    calls: list[str] = []

    def convert(text: str) -> Callable[[], datasets.DatasetDict]:
        def made() -> datasets.DatasetDict:
            calls.append(text)
            return three(text)

        return made

    first = converted_once("tiny", "1", convert("a"))
    assert texts(converted_once("tiny", "1", convert("a")), "test") == texts(first, "test")
    assert calls == ["a"]
    assert texts(converted_once("tiny", "2", convert("b")), "test") == ["btest"]
    assert calls == ["a", "b"]
    for file in cache.glob("arrow/tiny-*/test/*.arrow"):
        file.write_bytes(file.read_bytes()[:40])
    assert texts(converted_once("tiny", "1", convert("c")), "test") == ["ctest"]
    assert not list(cache.glob("arrow/.converting-*"))


def test_a_conversion_that_fails_leaves_nothing(cache: Path):
    def broken() -> datasets.DatasetDict:
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        converted_once("tiny", "1", broken)
    assert not list((cache / "arrow").iterdir())


def test_a_tune_keeps_what_the_music_needs():
    notation = (
        "X: 7\nT: The Gate\nT:Other name\nM: 6/8\n% a comment\nL:1/8\nR: jig \nN: a note\n"
        "Z: somebody\nK: D\nABc def | % trailing\nW: words\nG:|\nK:G\n|: gfe d3 :|\n\n"
    )
    assert folk_tunes.tune(notation) == Document(
        "The Gate", "R:jig\nM:6/8\nL:1/8\nK:D\nABc def |\nG:|\nK:G\n|: gfe d3 :|\n"
    )
    with pytest.raises(ValueError, match="no field K:"):
        folk_tunes.tune("X:1\nT:Broken\n")


def test_spellings_of_a_title_fall_on_one_side_and_titles_are_shared_out():
    assert folk_tunes.split_of("The Gate") == folk_tunes.split_of(" the 'gate' ")
    sides = [folk_tunes.split_of(f"tune {index}") for index in range(2000)]
    assert 60 < sides.count("test") < 140
    assert 60 < sides.count("validation") < 140


def test_hub_lines_are_joined():
    lines = datasets.Dataset.from_dict({"text": ["one\n", "", "two"]})
    parts = datasets.DatasetDict(dict.fromkeys(text_hub.SPLITS, lines))
    assert texts(text_hub.joined("some/id", parts, "text"), "test") == ["one\n\ntwo\n"]
    with pytest.raises(ValueError, match="column: got 'line', expected one of text"):
        text_hub.joined("some/id", parts, "line")
    del parts["test"]
    with pytest.raises(ValueError, match="has splits train, validation, expected"):
        text_hub.joined("some/id", parts, "text")


def test_an_unreachable_hub_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_: object) -> None:
        raise ConnectionError("Couldn't reach the Hub\nand more")

    monkeypatch.setattr(text_hub.datasets, "load_dataset", unreachable)
    with pytest.raises(text_hub.DataUnavailable, match="Couldn't reach the Hub") as error:
        text_corpus.load("hub", "some/id:part")
    assert "datasets.load_dataset('some/id', 'part')" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: text_corpus.load("path"), "path: got None with source='path'"),
        (lambda folder: text_corpus.load("hub", "x", folder), "with source='hub'"),
        (lambda _: text_corpus.load("package", "bible"), "expected one of shakespeare, folk_tunes"),
        (lambda _: text_corpus.load("web", "x"), "source: got 'web'"),  # pyright: ignore[reportArgumentType]
        (lambda folder: text_file.load(folder / "none"), "expected a text file or a folder"),
        (lambda folder: text_file.load(folder), "got 2 .txt files"),
        (lambda folder: text_file.load(folder / "short.txt"), "got 5 characters in 'short'"),
        (lambda folder: text_file.load(folder / "latin.txt"), "is not UTF-8 text"),
        (lambda _: data_set({"train": []}), "split train: got no text"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message: str, tmp_path: Path):
    (tmp_path / "short.txt").write_text("short", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes(b"\xe9t\xe9" * 20)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call(tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_real_shakespeare_is_all_there():
    rows = shakespeare.load()
    works = [text for split in sorted(SPLITS) for text in texts(rows, split)]
    assert set(rows) == SPLITS
    assert len(works) == 42
    assert sum(map(len, works)) == 5_057_198
    assert len(set("".join(works))) == 84
    assert list(rows["validation"]["title"]) == ["Much Ado About Nothing", "King Richard II"]
    assert list(rows["test"]["title"]) == ["Othello", "The Tempest"]
    for split in ("validation", "test"):
        assert sum(map(len, texts(rows, split))) / 5_057_198 == pytest.approx(0.05, abs=0.001)
    assert not any("gutenberg" in text.lower() for text in works)


@pytest.mark.slow
def test_the_real_folk_tunes_are_all_there():
    rows = folk_tunes.load()
    tunes = [text for split in sorted(SPLITS) for text in texts(rows, split)]
    assert set(rows) == SPLITS
    assert len(tunes) == len(set(tunes)) == 4062
    assert all("\nK:" in text or text.startswith("K:") for text in tunes)
