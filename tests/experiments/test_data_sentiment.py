import io
import tarfile
from pathlib import Path

import datasets
import pytest

from experiments.data import (
    pang_lee_reviews,
    sentiment_corpus,
    sentiment_file,
    sentiment_hub,
    text_hub,
    vader_snippets,
)
from experiments.data.sentiment_rows import (
    CLASSES,
    SPLITS,
    Opinion,
    data_set,
    features,
    split_by_text,
    split_of,
)

BOTH = [Opinion(f"fine {index}", 1) for index in range(60)] + [
    Opinion(f"poor {index}", 0) for index in range(60)
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("RNNJAX_CACHE", str(folder))
    return folder


def test_equal_texts_fall_on_one_side_and_nothing_is_lost():
    assert split_of("A good, FILM!") == split_of("a good film")
    sides = [split_of(f"text {index}") for index in range(2000)]
    assert 140 < sides.count("test") < 260
    assert 140 < sides.count("validation") < 260
    splits = split_by_text(BOTH)
    assert sorted(one for split in splits.values() for one in split) == sorted(BOTH)
    rows = data_set(splits, "binary")
    assert list(rows) == list(SPLITS)
    assert rows["train"].features == features("binary")


def test_ratings_become_signs_or_stars():
    rows = vader_snippets.snippets(
        "1\t-4\tbad\r\n2_1\t-2.4\tpoor\r3\t-0.8\tso so\n4\t0\tit &amp; that\n5\t2.39\tgood \n"
        "6\t4\tbest\n\n"
    )
    assert rows[3] == ("it & that", 0.0)
    assert [one.text for one in vader_snippets.opinions(rows, "binary")] == [
        "bad", "poor", "so so", "good", "best",
    ]  # fmt: skip
    assert [one.label for one in vader_snippets.opinions(rows, "binary")] == [0, 0, 0, 1, 1]
    assert [one.label for one in vader_snippets.opinions(rows, "stars")] == [0, 1, 2, 2, 3, 4]
    with pytest.raises(ValueError, match="table: got 2 fields in line 2, expected 3"):
        vader_snippets.snippets("1\t2\ta\n2\t3\n")


def test_an_archive_within_an_archive_is_read_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def archive(members: dict[str, bytes]) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz") as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return stream.getvalue()

    lines = "".join(
        f"{index}\t{1 if one.label else -1}\t{one.text}\r\n" for index, one in enumerate(BOTH)
    )
    inner = archive(
        {
            "hutto_ICWSM_2014/tweets_GroundTruth.txt": lines.encode(),
            "hutto_ICWSM_2014/vaderSentiment.py": b"raise SystemExit(3)",
        }
    )
    outer = tmp_path / "outer.tar.gz"
    outer.write_bytes(
        archive(
            {
                "v-2.5/additional_resources/hutto_ICWSM_2014.tar.gz": inner,
                "v-2.5/vaderSentiment/vader_lexicon.txt": b"good\t1.9\t0.9\t[2, 2]\nbad\t-2.5\n",
            }
        )
    )
    monkeypatch.setattr(vader_snippets, "fetch_pypi_sdist", lambda *_: outer)
    rows = sentiment_corpus.load(name="tweets")
    found = {
        (text, label)
        for split in rows.values()
        for text, label in zip(split["text"], split["label"], strict=True)
    }
    assert found == {(one.text, one.label) for one in BOTH}
    assert vader_snippets.lexicon().startswith("good\t1.9")


def test_reviews_are_read_from_their_table():
    table = '"1","a ""great"" film ,\n  well made"\n"-1","dull"\n'
    assert pang_lee_reviews.reviews(table) == [('a "great" film , well made', 1), ("dull", 0)]
    with pytest.raises(ValueError, match=r"table: got a row .*, expected 1 or -1, and a text"):
        pang_lee_reviews.reviews('"0","so so"\n')


def test_tables_of_the_users_own(tmp_path: Path):
    (tmp_path / "one.csv").write_text('label,text\nPOS,"fine, ""really"""\n\n0,poor\n')
    assert sentiment_file.read_table(tmp_path / "one.csv", "binary") == [
        ('fine, "really"', 1), ("poor", 0),
    ]  # fmt: skip
    (tmp_path / "one.tsv").write_text('\ufeff5\tso "good\n1\tno, bad\n', encoding="utf-8")
    assert sentiment_file.read_table(tmp_path / "one.tsv", "stars") == [
        ('so "good', 4), ("no, bad", 0),
    ]  # fmt: skip
    for split in SPLITS:
        (tmp_path / f"{split}.tsv").write_text(f"neg\tpoor {split}\npos\tfine {split}\n")
    rows = sentiment_corpus.load("path", path=tmp_path)
    assert {split: list(rows[split]["text"]) for split in SPLITS} == {
        split: [f"poor {split}", f"fine {split}"] for split in SPLITS
    }


def test_labels_of_the_hub_become_classes():
    def rows(labels: list, **columns: list) -> datasets.Dataset:
        texts = columns or {"sentence": [f" text {index}" for index in range(len(labels))]}
        return datasets.Dataset.from_dict(texts | {"label": labels})

    degrees = rows([0.0, 0.2, 0.21, 0.4, 0.5, 0.6, 0.61, 0.81, 1.0])
    stars = [one.label for one in sentiment_hub.opinions(degrees, "stars")]
    assert stars == [0, 0, 1, 1, 2, 2, 3, 4, 4]
    signs = sentiment_hub.opinions(degrees, "binary")
    assert [one.label for one in signs] == [0, 0, 0, 0, 1, 1, 1]
    assert signs[0].text == "text 0"
    assert [one.label for one in sentiment_hub.opinions(rows([1, 0]), "binary")] == [1, 0]
    five = rows([0, 1, 2, 3, 4])
    assert [one.label for one in sentiment_hub.opinions(five, "stars")] == [0, 1, 2, 3, 4]
    assert [one.label for one in sentiment_hub.opinions(five, "binary")] == [0, 0, 1, 1]
    for bad, target, message in (
        (rows([0, 1]), "stars", "label: got 0, 1 with target='stars', expected 0 to 4"),
        (rows([-1, -1]), "binary", "label: got -1 with target='binary', expected 0 and 1"),
        (rows([2.0]), "binary", r"label: got 2\.0, expected within 0\.\.1"),
        (rows([1], review=["x"]), "binary", "columns: got review, label, expected text or"),
    ):
        with pytest.raises(ValueError, match=message):
            sentiment_hub.opinions(bad, target)  # pyright: ignore[reportArgumentType]


def test_an_unreachable_hub_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_: object) -> None:
        raise ConnectionError("Couldn't reach the Hub\nand more")

    monkeypatch.setattr(text_hub.datasets, "load_dataset", unreachable)
    with pytest.raises(text_hub.DataUnavailable, match="Couldn't reach the Hub") as error:
        sentiment_corpus.load("hub", "cornell-movie-review-data/rotten_tomatoes")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: sentiment_corpus.load("path"), "path: got None with source='path'"),
        (lambda folder: sentiment_corpus.load("hub", "x", folder), "with source='hub'"),
        (lambda _: sentiment_corpus.load("package", "imdb"), "expected one of movies, tweets"),
        (lambda _: sentiment_corpus.load("web", "x"), "source: got 'web'"),  # pyright: ignore[reportArgumentType]
        (lambda _: sentiment_corpus.load(target="ternary"), "target: got 'ternary'"),  # pyright: ignore[reportArgumentType]
        (lambda _: sentiment_corpus.load(name="reviews", target="stars"), "target: got 'stars' of"),
        (lambda _: vader_snippets.load("imdb", "binary"), "name: got 'imdb'"),
        (
            lambda folder: sentiment_file.load(folder / "none", "binary"),
            "with 0 files of the split",
        ),
        (lambda folder: sentiment_file.load(folder / "a.txt", "binary"), "expected a file .tsv or"),
        (lambda folder: sentiment_file.load(folder / "empty.tsv", "binary"), "without a row"),
        (lambda folder: sentiment_file.load(folder / "latin.tsv", "binary"), "is not UTF-8 text"),
        (
            lambda folder: sentiment_file.load(folder / "three.tsv", "binary"),
            "got 3 fields in three",
        ),
        (lambda folder: sentiment_file.load(folder / "blank.tsv", "binary"), "text: got none in"),
        (
            lambda folder: sentiment_file.load(folder / "odd.tsv", "stars"),
            "label: got '6' in odd.tsv",
        ),
        (lambda _: data_set({"train": BOTH, "test": []}, "binary"), "split test: got no text"),
        (lambda _: data_set({"train": BOTH}, "stars"), "got no text of class 3, 4, 5"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message: str, tmp_path: Path):
    for name, content in {
        "a.txt": "pos\tfine", "empty.tsv": "", "three.tsv": "pos\tfine\tfilm",
        "blank.tsv": "pos\t ", "odd.tsv": "1\tpoor\n6\tfine",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(content)
    (tmp_path / "latin.tsv").write_bytes(b"pos\t\xe9t\xe9\n")
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call(tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_real_snippets_and_reviews_are_all_there():
    counts = {"movies": 10_605, "tweets": 4_200, "amazon": 3_708, "nyt": 5_190}
    for name, count in counts.items():
        rows = vader_snippets.load(name, "stars")
        assert sum(len(rows[split]) for split in SPLITS) == count
        texts = {split: set(rows[split]["text"]) for split in SPLITS}
        assert not texts["train"] & (texts["validation"] | texts["test"])
    rows = vader_snippets.load("movies", "binary")
    assert [len(rows[split]) for split in SPLITS] == [8_499, 1_010, 1_059]
    assert len(CLASSES["binary"]) == rows["train"].features["label"].num_classes
    rows = pang_lee_reviews.load("binary")
    labels = [label for split in SPLITS for label in rows[split]["label"]]
    assert (len(labels), sum(labels)) == (1_500, 750)
