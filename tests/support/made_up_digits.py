"""Digits that are easily told apart, in MNIST's own format."""

import struct
from pathlib import Path

import numpy as np


def made_up_digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images `(N, 28, 28)` and labels `(N,)`, uint8: of a digit two columns of ink in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 10).astype(np.uint8)
    images = rng.integers(0, 60, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        top = rng.integers(0, 8)
        image[top : top + 20, 4 + 2 * label : 6 + 2 * label] = 250
    return images, labels


def write_mnist_files(
    folder: Path, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> None:
    """Write the four standard files."""
    for prefix, (images, labels) in (("train", train), ("t10k", test)):
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
            (folder / f"{prefix}-{name}-ubyte").write_bytes(header + array.tobytes())
