"""The versions, and the very code that was measured."""

import os
from pathlib import Path

import rnnjax
from rnnjax.training.fingerprint import digest_of_files
from rnnjax.training.versions import installed_versions


def versions_record() -> dict[str, str]:
    """Versions of Python and the packages, the digest of rnnjax's source, and options set outside.

    The last are XLA's, those of the C library's allocator, and whether calls on a CPU may return
    before they are done.
    """
    return installed_versions() | {
        "rnnjax_source_sha256": source_digest(Path(rnnjax.__file__).parent),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "JAX_CPU_ENABLE_ASYNC_DISPATCH": os.environ.get("JAX_CPU_ENABLE_ASYNC_DISPATCH", ""),
        "malloc": " ".join(
            f"{name}={value}"
            for name, value in sorted(os.environ.items())
            if name.startswith("MALLOC_")
        ),
    }


def source_digest(package: Path) -> str:
    """The first 12 digits of the SHA-256 of what a benchmark of scans runs in a package.

    That is its `scanning.py` and every module of `plans` and `recurrences`: results of one digest
    are results of one code, whatever version it is called.
    """
    files = [package / "scanning.py"]
    for folder in ("plans", "recurrences"):
        files += sorted((package / folder).glob("*.py"))
    return digest_of_files(package, files)[:12]
