"""Files that are either the old ones or the new ones, never in between."""

import os
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Replace a file by UTF-8 text, as `replace_bytes`."""
    replace_bytes(path, text.encode("utf-8"))


def replace_bytes(path: Path, content: bytes) -> None:
    """Write to a temporary neighbour, flush it to the disk, and rename it to `path`.

    Raises:
        OSError: it cannot be written; the old file is as it was, the temporary one gone.
    """
    temporary = path.with_name(f".{path.name}.incomplete")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # On a full disk it would be in the way.
        raise
    flush_to_disk(path.parent)


def flush_to_disk(path: Path) -> None:
    """Wait until the file's content, or the folder's list of names, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
