import gzip
import struct
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from support.made_up_digits import made_up_digits, write_mnist_files

from experiments.data import digits
from experiments.data.package_files import DataUnavailable


def idx(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + bytes(array)
    )


def test_the_standard_files_are_read_and_the_last_twelfth_is_for_validation(tmp_path: Path):
    train, test = made_up_digits(60, seed=0), made_up_digits(20, seed=1)
    write_mnist_files(tmp_path, train, test)
    plain = tmp_path / "train-images-idx3-ubyte"
    plain.with_suffix(".gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.rename(tmp_path / "not read")
    plain.with_suffix(".gz").rename(tmp_path / "train-images-idx3-ubyte.gz")
    rows = digits.load("path", path=tmp_path)
    assert list(rows) == list(digits.SPLITS)
    assert rows["train"].features["label"].names == list(digits.CLASSES)
    parts = [digits.as_arrays(rows[split]) for split in digits.SPLITS]
    assert [len(part.labels) for part in parts] == [55, 5, 20]
    for part in parts:
        assert (part.images.dtype, part.labels.dtype) == (np.uint8, np.int32)
    images, labels = (np.concatenate([part[place] for part in parts[:2]]) for place in (0, 1))
    np.testing.assert_array_equal(images, train[0])
    np.testing.assert_array_equal(labels, train[1])
    np.testing.assert_array_equal(parts[2].images, test[0])


def test_pictures_of_the_hub_are_read(monkeypatch: pytest.MonkeyPatch):
    images, labels = made_up_digits(48, seed=0)
    of_hub = datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {"image": [Image.fromarray(image) for image in images], "label": labels.tolist()}
            )
            for split in ("train", "test")
        }
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: of_hub)
    rows = digits.load("hub", "some/digits")
    assert [len(rows[split]) for split in digits.SPLITS] == [44, 4, 48]
    np.testing.assert_array_equal(digits.as_arrays(rows["train"]).images, images[:44])
    with pytest.raises(ValueError, match="columns: got text, expected image and label"):
        digits._of_pictures(datasets.Dataset.from_dict({"text": ["a"]}))
    small = datasets.Dataset.from_dict({"image": [Image.new("L", (8, 9))], "label": [0]})
    with pytest.raises(ValueError, match=r"image: got \(9, 8\) pixels, expected 28 × 28"):
        digits._of_pictures(small)


def test_a_data_set_that_is_not_there_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch):
    def offline(*_):
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataUnavailable, match=r"could not be fetched \(no network\)"):
        digits.load("hub")


IMAGES, LABELS = np.zeros((24, 28, 28), np.uint8), np.arange(24, dtype=np.uint8) % 10


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train-images-idx3-ubyte", None, "without train-images-idx3-ubyte or train-images-idx3-"),
        ("train-images-idx3-ubyte", b"", "'train-images-idx3-ubyte' that begins with nothing"),
        ("train-images-idx3-ubyte", b"GIF89a" * 9, "begins with 47494638, expected 00000803"),
        ("train-images-idx3-ubyte", idx(LABELS), "begins with 00000801, expected 00000803"),
        ("train-images-idx3-ubyte", idx(IMAGES)[:-1], "got 18815 bytes in 'train-images-idx3-ub"),
        ("train-images-idx3-ubyte", idx(IMAGES[:, :14]), "got images of 14 × 28 pixels in train-"),
        ("train-images-idx3-ubyte", idx(IMAGES[:9]), "got 9 images in train-images-idx3-ubyte and"),
        (
            "t10k-labels-idx1-ubyte",
            gzip.compress(idx(LABELS), mtime=0)[:-9],
            "damaged (Compressed file end",
        ),
        ("t10k-labels-idx1-ubyte", idx(LABELS + 1), "got label 10 in t10k-labels-idx1-ubyte"),
        ("train-labels-idx1-ubyte", idx(LABELS % 9), "split train: got no digit 9, expected some"),
    ],
)
def test_files_that_are_not_of_the_format_are_refused(
    file: str, content: bytes | None, message: str, tmp_path: Path
):
    write_mnist_files(tmp_path, (IMAGES, LABELS), (IMAGES, LABELS))
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        digits.load("path", path=tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_sources_and_paths_go_together(tmp_path: Path):
    with pytest.raises(ValueError, match="path: got None with source='path'"):
        digits.load("path")
    with pytest.raises(ValueError, match="with source='package'"):
        digits.load("package", path=tmp_path)
    with pytest.raises(ValueError, match="source: got 'web', expected 'package', 'hub' or 'path'"):
        digits.load("web")  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_the_digits_of_the_package_are_all_there_and_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RNNJAX_CACHE", str(tmp_path))
    rows = digits.load()
    parts = [digits.as_arrays(rows[split]) for split in digits.SPLITS]
    assert [len(part.labels) for part in parts] == [7863, 711, 1426]
    labels = np.concatenate([part.labels for part in parts])
    counts = [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]
    assert np.bincount(labels).tolist() == counts
    images = np.concatenate([part.images for part in parts])
    assert len({image.tobytes() for image in images}) == 10_000
    for part, split in zip(parts, digits.SPLITS, strict=True):
        assert {digits.split_of(image) for image in part.images} == {split}
    # The first zero of MNIST's training part, whose bytes are known.
    assert any((image[4, 15:20] == [51, 159, 253, 159, 50]).all() for image in images)
