"""What a benchmark ran on: the machine, the versions, and the very code that was measured."""

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import rnnjax
from rnnjax.training.versions import installed_versions


def machine_record() -> dict[str, Any]:
    """The processor's model, its cores that this process may use, memory in bytes, the system."""
    return {
        "cpu": _cpu_model(Path("/proc/cpuinfo")),
        "cores": _usable_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": _system(),
        "architecture": platform.machine(),
    }


def versions_record() -> dict[str, str]:
    """Versions of Python and the packages, the digest of rnnjax's source, and XLA's options."""
    return installed_versions() | {
        "rnnjax_source_sha256": source_digest(Path(rnnjax.__file__).parent),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def source_digest(package: Path) -> str:
    """The first 12 digits of the SHA-256 of what a benchmark of scans runs in a package.

    That is its `scanning.py` and every module of `plans` and `recurrences`: results of one digest
    are results of one code, whatever version it is called.
    """
    files = [package / "scanning.py"]
    for folder in ("plans", "recurrences"):
        files += sorted((package / folder).glob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(package).as_posix().encode() + b"\0")
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _cpu_model(cpuinfo: Path) -> str:
    if cpuinfo.exists():
        for line in cpuinfo.read_text("utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or "unknown"


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"
