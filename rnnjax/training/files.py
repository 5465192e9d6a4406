"""Files that are either the old ones or the new ones, never in between."""

import os
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Write UTF-8 text to a temporary neighbour, flush it to the disk, and rename it to `path`."""
    temporary = path.with_name(f".{path.name}.incomplete")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    flush_to_disk(path.parent)


def flush_to_disk(path: Path) -> None:
    """Wait until the file's content, or the folder's list of names, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
