import random
from pathlib import Path

import pytest

from experiments.data import names


def made_up(count: int, letters: str, seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choice(letters) for _ in range(rng.randint(3, 8))) for _ in range(count)]


def in_split(rows, split: str) -> dict[str, list[str]]:
    labels = rows[split].features["group"].names
    found: dict[str, list[str]] = {label: [] for label in labels}
    for name, label in zip(rows[split]["name"], rows[split]["group"], strict=True):
        found[labels[label]].append(name)
    return found


def test_each_name_is_in_one_split_and_in_the_same_one_in_all_its_groups():
    both = made_up(200, "abcdefgh", 0)
    given = {"one": [*both, *made_up(200, "ijklmnop", 1), both[0]], "two": both}
    rows = names.data_set(given)
    splits = {split: in_split(rows, split) for split in names.SPLITS}
    for group, of_group in given.items():
        found = [name for split in names.SPLITS for name in splits[split][group]]
        assert sorted(found) == sorted(set(of_group))
    for split in names.SPLITS:
        assert set(splits[split]["two"]) <= set(splits[split]["one"])
    assert names.split_of("ANNA") == names.split_of("Anna")
    shares = [len(splits[split]["one"]) / len(set(given["one"])) for split in names.SPLITS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.05)


def test_a_folder_has_a_group_a_file_and_a_name_a_line(tmp_path: Path):
    for group, letters in (("French", "éàu"), ("Greek", "αβγ")):
        lines = [f" {name}  {name} " for name in made_up(100, letters, 2)]
        (tmp_path / f"{group}.txt").write_text("\n\n".join(lines), encoding="utf-8")
    rows = names.load("path", tmp_path)
    assert rows["train"].features["group"].names == ["French", "Greek"]
    for name in rows["train"]["name"]:
        first, second = name.split(" ")
        assert first == second


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda folder: names.load("path", folder / "none"), "expected a folder with a .txt file"),
        (lambda folder: names.load("path", folder / "empty"), "empty.txt' without a name"),
        (lambda folder: names.load("path", folder / "few"), "group 'few': got 2 names and none in"),
        (lambda folder: names.load("path", folder / "latin"), "is not UTF-8 text"),
        (lambda folder: names.load("path", folder / "prose"), "got a line of 101 characters in"),
        (lambda _: names.load("path"), "path: got None with source='path'"),
        (lambda folder: names.load("package", folder), "with source='package'"),
        (lambda _: names.load("hub"), "source: got 'hub', expected 'package' or 'path'"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_bad_input_is_refused_in_one_line(call, message: str, tmp_path: Path):
    for file, content in (
        ("empty", b" \n\n"),
        ("few", b"Anna\nBert\n"),
        ("latin", b"Andr\xe9\n" * 9),
        ("prose", b"x" * 101),
    ):
        (tmp_path / file).mkdir()
        (tmp_path / file / f"{file}.txt").write_bytes(content)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call(tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_real_names_are_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RNNJAX_CACHE", str(tmp_path))
    rows = names.load()
    parts = [in_split(rows, split) for split in names.SPLITS]
    counts = {group: sum(len(part[group]) for part in parts) for group in parts[0]}
    assert counts == {"male first": 1219, "female first": 4275, "last": 88799}
    assert "James" in [name for part in parts for name in part["male first"]]
