"""What each loader of translations makes of its source; the real packages in the slow tests."""

import gzip
import struct
import zlib

import datasets
import pytest

from experiments.data import pair_corpus, pair_files, pair_hub, sword_text, verses
from experiments.data.pair_rows import Pair, data_set, languages_of
from experiments.data.sword_text import Verse, plain_text, read_testament


def module(texts):
    """The three files of a testament, a block for each list of verses."""
    index = places = blocks = b""
    for number, of_block in enumerate(texts):
        content = b""
        for text in of_block:
            raw = text.encode()
            places += struct.pack("<IIH", number, len(content), len(raw))
            content += raw
        packed = zlib.compress(content)
        index += struct.pack("<III", len(blocks), len(packed), len(content))
        blocks += packed
    return index, places, blocks


GENESIS = [
    '<div canonical="true" osisID="Gen" sID="gen2" type="book"/><title level="1">Genesis</title>',
    '<chapter n="1" osisID="Gen.1" sID="Gen.1"/> ',
    'In the <w lemma="strong:H7225">beginning</w>, ¿que fué?<note n="a">a note</note> ',
    "",
    '<chapter n="2" osisID="Gen.2" sID="Gen.2"/>',
    'la<transChange type="added">que fué</transChange>de \\nd LORD <chapter eID="Gen.2"/>',
]
EXODUS = ['<div osisID="Exod" sID="gen9" type="book"/>', "Now these."]


def test_verses_are_read_with_their_chapters_and_without_markup():
    assert read_testament(*module([GENESIS, EXODUS])) == [
        Verse("Gen", ""),
        Verse("Gen.1", ""),
        Verse("Gen.1", "In the beginning, ¿que fué?"),
        Verse("Gen.1", ""),
        Verse("Gen.2", ""),
        Verse("Gen.2", "la que fué de LORD"),
        Verse("Exod", ""),
        Verse("Exod", "Now these."),
    ]
    assert plain_text('<title type="x"/>a <transChange>b</transChange> , c¶ ¿ d') == "a b, c ¿d"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda i, v, b: (i[:-1], v, b), "got an index of 23 and 80 bytes, expected multiples"),
        (lambda i, v, b: (i[:12], v, b), "got block 1, expected 0 … 0"),
        (lambda i, v, b: (i, v, b[:-9]), "block 1 is damaged"),
        (lambda i, v, b: (i, struct.pack("<IIH", 0, 10**6, 9) + v, b), "verse 0 does not lie with"),
    ],
)
def test_a_damaged_module_is_refused(damage, message):
    with pytest.raises(ValueError, match=message):
        read_testament(*damage(*module([GENESIS, EXODUS])))


def test_chapters_that_are_counted_otherwise_are_left_out():
    def book(*chapters):
        return [
            Verse(f"Ruth.{number}", text)
            for number, of_chapter in enumerate(chapters, start=1)
            for text in ("", *of_chapter)
        ]

    english = book("ab", "cd", "ef", "gh")
    spanish = book("AB", ["C", ""], ["D", "EF"], "GH")
    assert [pair.texts for pair in verses.aligned(english, spanish)] == [
        ("a", "A"), ("b", "B"), ("g", "G"), ("h", "H"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="got 12 and 3 places, expected one versification"):
        verses.aligned(english, spanish[:3])
    with pytest.raises(ValueError, match=r"place 0 is of Ruth\.1 and of Ruth\.2"):
        verses.aligned(english, spanish[3:] + spanish[:3])


def test_books_are_split_whole():
    books = [*verses.TEST, *verses.VALIDATION, "Gen"]
    splits = verses.split_by_book([Pair(book, ("a", "b")) for book in books for _ in range(2)])
    by_split = {name: {pair.document for pair in pairs} for name, pairs in splits.items()}
    assert by_split == {
        "train": {"Gen"}, "validation": set(verses.VALIDATION), "test": set(verses.TEST),
    }  # fmt: skip


def folder(tmp_path, **texts):
    """Files of texts; of a name that ends with _gz a packed one."""
    for name, text in texts.items():
        content = text.encode() if isinstance(text, str) else text
        stem, _, language = name.removesuffix("_gz").rpartition("_")
        if name.endswith("_gz"):
            (tmp_path / f"{stem}.{language}.gz").write_bytes(gzip.compress(content))
        else:
            (tmp_path / f"{stem}.{language}").write_bytes(content)
    return tmp_path


WHOLE = {"train_en": "a b\nc\n", "train_de": "A B\nC\n", "val_en_gz": "d\n", "val_de_gz": "D"}


def test_files_are_paired_line_by_line(tmp_path):
    place = folder(tmp_path, **WHOLE, train_fr="x\ny\n")
    (place / "README.md").write_text("not data")
    rows = pair_corpus.load("path", path=place, languages=("de", "en"))
    assert list(rows) == ["train", "validation"]
    assert languages_of(rows) == ("de", "en")
    assert list(rows["train"]["de"]) == ["A B", "C"]
    assert list(rows["train"]["en"]) == ["a b", "c"]
    assert list(rows["validation"]["en"]) == ["d"]


def test_of_several_test_parts_the_published_one_is_read(tmp_path):
    tests = {f"{stem}_{language}": f"{stem}\n" for stem in ("test_2016_flickr", "test_2017_flickr")
             for language in ("en", "de")}  # fmt: skip
    rows = pair_files.load(folder(tmp_path, **WHOLE, **tests), ("en", "de"))
    assert list(rows["test"]["de"]) == ["test_2016_flickr"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"val_de_gz": None}, "has no validation part in de"),
        ({"val_en_gz": None, "val_de_gz": None}, "has no validation part in en and de"),
        ({"test_en": "e"}, "has no test part in de"),
        ({"train_en": "a\n"}, r"train\.en has 1 lines and train\.de 2, expected the same number"),
        ({"train_en": "a\n\n"}, r"train\.en line 2 is empty, expected a text"),
        ({"train_en": "\n \n"}, r"train\.en has no text, expected a line at least"),
        ({"train_en": b"a\n\xff\n"}, r"train\.en' is not UTF-8 text"),
        ({"train.2_en": "a\nb\n"}, "got 2 files of the split train in en"),
        (dict.fromkeys(WHOLE), "expected a folder of files such as"),
    ],
)
def test_bad_files_are_refused(tmp_path, changed, message):
    texts = {name: text for name, text in (WHOLE | changed).items() if text is not None}
    with pytest.raises(ValueError, match=message):
        pair_files.load(folder(tmp_path, **texts), ("en", "de"))


def test_a_file_that_is_not_packed_though_it_says_so_is_refused(tmp_path):
    place = folder(tmp_path, **WHOLE)
    (place / "val.de.gz").write_bytes(b"D")
    with pytest.raises(ValueError, match=r"val\.de\.gz' cannot be unpacked"):
        pair_files.load(place, ("en", "de"))


@pytest.mark.parametrize("shape", ["columns", "translation"])
def test_rows_of_the_hub_are_converted(shape):
    pairs = [{"en": "a ", "de": "A"}, {"en": "b", "de": " "}]
    rows = pairs if shape == "columns" else [{"translation": pair} for pair in pairs]
    parts = datasets.DatasetDict(
        {name: datasets.Dataset.from_list(rows) for name in ("train", "validation", "test")}
    )
    converted = pair_hub.converted("someone/something", parts, ("de", "en"))
    assert [list(converted["test"][name]) for name in ("de", "en")] == [["A"], ["a"]]
    with pytest.raises(ValueError, match="language: got 'fr', expected one of"):
        pair_hub.converted("someone/something", parts, ("en", "fr"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "path"}, "path: got None with source='path'"),
        ({"path": "x"}, "path: got 'x' with source='package'"),
        ({"source": "web"}, "source: got 'web', expected 'package', 'hub' or 'path'"),
        ({"name": "novels"}, "name: got 'novels', expected one of verses"),
        ({"languages": ("en", "en")}, "languages: got 'en' twice"),
        ({"source": "path", "path": "nowhere"}, "path: got 'nowhere', expected a folder"),
    ],
)
def test_the_door_refuses_what_it_does_not_know(arguments, message):
    with pytest.raises(ValueError, match=message):
        pair_corpus.load(**arguments)


def test_an_unknown_language_is_named_with_the_known_ones(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="language: got 'fr', expected one of de, en, those of"):
        pair_files.load(folder(tmp_path, **WHOLE), ("en", "fr"))
    rows = data_set({"train": [Pair("Gen", ("a", "b"))]}, ("en", "es"))
    monkeypatch.setitem(pair_corpus.PACKAGED, "verses", lambda: rows)
    with pytest.raises(ValueError, match="language: got 'fr', expected one of en, es"):
        pair_corpus.load(languages=("en", "fr"))


def test_an_empty_side_is_refused():
    with pytest.raises(ValueError, match=r"pair 2 \(Gen\) has no es, expected a text on both"):
        data_set({"train": [Pair("Gen", ("a", "b")), Pair("Gen", ("c", " "))]}, ("en", "es"))
    with pytest.raises(ValueError, match="split train: got no pairs"):
        data_set({"train": []}, ("en", "es"))


@pytest.mark.slow
def test_the_bible_verse_by_verse():
    rows = pair_corpus.load()
    assert {name: len(rows[name]) for name in rows} == {
        "train": 27161, "validation": 1363, "test": 1968,
    }  # fmt: skip
    assert rows["train"][0] == {
        "document": "Gen",
        "en": "In the beginning God created the heaven and the earth.",
        "es": "EN el principio crió Dios los cielos y la tierra.",
    }
    assert not [text for text in rows["train"]["en"] if "<" in text or "\\" in text]
    assert sword_text.plain_text("") == ""
