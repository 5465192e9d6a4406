"""Data sets converted to Arrow once and kept in the cache."""

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets

from experiments.data.package_files import cache_folder


def converted_once(
    name: str, fingerprint: str, convert: Callable[[], datasets.DatasetDict]
) -> datasets.DatasetDict:
    """The data set from the cache, or converted now and kept there; complete or not at all.

    Args:
        name: what the data set is called; part of its folder's name.
        fingerprint: everything the rows depend on: hashes of the sources, version of the loader.
        convert: makes the data set.
    """
    key = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
    folder = cache_folder() / "arrow" / f"{name}-{key}"
    if folder.exists():
        try:
            return _opened(folder)
        except (OSError, ValueError, KeyError) as error:
            print(f"{folder}: damaged ({error}), converting again", file=sys.stderr, flush=True)
            shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as scratch:
        fresh = Path(scratch) / "fresh"
        with _without_progress_bars():
            convert().save_to_disk(fresh)
        try:
            fresh.replace(folder)
        except OSError:
            # Another process was faster. What it kept is the same.
            if not folder.exists():
                raise
    return _opened(folder)


def _opened(folder: Path) -> datasets.DatasetDict:
    opened = datasets.load_from_disk(folder)
    if not isinstance(opened, datasets.DatasetDict):
        raise ValueError(f"{folder}: got one data set, expected one with splits")
    return opened


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Three bars for a second's work are noise."""
    disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not disabled:
            datasets.enable_progress_bars()
