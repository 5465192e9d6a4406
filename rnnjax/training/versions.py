"""What produced a file: the versions of the software that decides the numbers."""

import platform
from importlib.metadata import PackageNotFoundError, version


def installed_versions() -> dict[str, str]:
    """The versions of Python, jax, jaxlib, optax and rnnjax; "unknown" if run uninstalled."""
    packages = {"jax": "jax", "jaxlib": "jaxlib", "optax": "optax", "rnnjax": "rnnjax-lib"}
    return {"python": platform.python_version()} | {
        name: _version(distribution) for name, distribution in packages.items()
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
