import datasets
import numpy as np
import pytest

from rnnjax.training.fingerprint import (
    digest_of_code,
    digest_of_data,
    digest_of_files,
    fingerprint,
)
from rnnjax.training.optimizer import OptimizerConfig

ROWS = {"train": [{"text": "a", "label": 1}, {"text": "b", "label": 0}], "test": []}


def test_the_digest_is_of_the_content_not_of_how_it_is_stored(tmp_path):
    """The same rows as lists, as tuples, as Arrow in memory and as Arrow read from a disk."""
    reordered = (dict(reversed(row.items())) for row in ROWS["train"])
    assert digest_of_data({"test": (), "train": reordered}) == digest_of_data(ROWS)
    rows = ROWS["train"] * 50
    for name in ("one", "two"):
        datasets.Dataset.from_list(rows).save_to_disk(tmp_path / name)
        stored = datasets.load_from_disk(tmp_path / name)
        assert digest_of_data({"train": stored}) == digest_of_data({"train": rows})


def test_a_digest_is_frozen():
    """It is written into results: another version of this module must not give another."""
    value = [None, True, -3, 0.5, "né", b"\0", {"b": [], "a": ()}, np.arange(3, dtype=">i2")]
    frozen = "64d7aaac1d256a13f17d8d71970224bd23b1292a1c49035cf0aaec740b870ec7"
    assert digest_of_data(value) == frozen


def test_values_that_differ_have_different_digests():
    values = [
        None, False, True, 0, 1, 0.0, -0.0, "", "0", b"", b"0", "1", [], {}, [[]], [{}], ["a", "b"],
        ["ab"], ["a", ["b"]], {"a": "b"}, {"a": None}, np.zeros(2), np.zeros(3), np.zeros((2, 1)),
        np.zeros(2, np.float32), np.zeros(2, np.int32), [0.0, 0.0], "\ud800",
    ]  # fmt: skip
    assert len({digest_of_data(value) for value in values}) == len(values)


@pytest.mark.parametrize("value", [{1}, object(), {1: 2}, [3j]])
def test_what_has_no_order_or_no_content_is_refused(value):
    with pytest.raises(ValueError, match=r"^data: got a value of type \w+, expected numbers"):
        digest_of_data([value])


def sources(folder):
    (folder / "package" / "part").mkdir(parents=True)
    (folder / "package" / "a.py").write_text("a = 1\n")
    (folder / "package" / "part" / "b.cc").write_text("int b;\n")
    (folder / "module.py").write_text("c = 1\n")
    return folder / "package", folder / "module.py"


def test_the_digest_of_code_follows_its_sources_alone(tmp_path):
    here, there = sources(tmp_path / "here"), sources(tmp_path / "there")
    digest = digest_of_code(*here)
    assert digest == digest_of_code(*there) == digest_of_code(*reversed(there))
    (there[0] / "notes.txt").write_text("not code")
    assert digest_of_code(*there) == digest
    (there[0] / "part" / "b.cc").rename(there[0] / "b.cc")
    assert digest_of_code(*there) != digest
    (here[0] / "a.py").write_text("a = 2\n")
    assert digest_of_code(*here) != digest
    assert digest_of_files(tmp_path, [here[1]]) != digest_of_files(tmp_path, [there[1]])


def test_code_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^code: got .*empty without a source"):
        digest_of_code(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        digest_of_code(tmp_path / "missing.py")


def test_each_part_of_a_fingerprint_follows_what_it_is_of(tmp_path):
    code = sources(tmp_path)
    config = {"run": "runs/a", "seed": 0, "optimizer": OptimizerConfig().__dict__}

    def made(data=ROWS, config=config):
        return fingerprint(data=data, config=config, code=code, without=["run"])

    first = made()
    assert made(config=config | {"run": "runs/b"}) == first
    assert set(first) == {"data", "config", "code", "all"}
    others = {
        "data": made(data={"train": ROWS["train"]}),
        "config": made(config=config | {"seed": 1}),
    }
    (code[1]).write_text("c = 2\n")
    others["code"] = made()
    for name, other in others.items():
        assert {key for key in first if first[key] != other[key]} == {name, "all"}


@pytest.mark.parametrize("name", ["runs", "optimizer.rate", "seed.x"])
def test_a_field_that_is_left_out_must_be_there(name, tmp_path):
    config = {"run": "runs/a", "seed": 0, "optimizer": {}}
    with pytest.raises(ValueError, match=f"^without: got '{name}', expected a field"):
        fingerprint(data=[], config=config, code=sources(tmp_path), without=[name])
