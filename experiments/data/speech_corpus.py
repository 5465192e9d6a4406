"""The one door to a corpus of speech, wherever its recordings come from."""

import zipfile
from pathlib import Path
from typing import Literal

import datasets

from experiments.data import speech_hub, spoken_digits, telephone_prompts, transcribed_files

Source = Literal["package", "hub", "path"]
PACKAGED = {"prompts": telephone_prompts.load}


def load(
    source: Source = "package", name: str = "prompts", path: str | Path | None = None
) -> datasets.DatasetDict:
    """A corpus in splits train, validation and, where it has one, test; rows of `speech_rows`.

    Args:
        source: "package" for a corpus out of a pinned package, "hub" for one of the Hugging Face
            hub, "path" for the user's own files.
        name: "prompts" of the packages, or the id on the hub, with its configuration after a colon
            where it needs one. Not used with source="path".
        path: the folder or .zip of source="path": spoken digits, or recordings with a
            `transcripts.txt`. The others take none.

    Raises:
        ValueError: an argument is unknown, the path is missing or superfluous, or what lies there
            is no speech.
        DataUnavailable: the data is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    if (source == "path") != (path is not None):
        raise ValueError(f"path: got {path!r} with source={source!r}; source='path' needs it alone")
    if path is not None:
        return _of_files(Path(path))
    if source == "hub":
        identifier, _, configuration = name.partition(":")
        return speech_hub.load(identifier, configuration or None)
    if source != "package":
        raise ValueError(f"source: got {source!r}, expected 'package', 'hub' or 'path'")
    if name not in PACKAGED:
        raise ValueError(f"name: got {name!r}, expected one of {', '.join(PACKAGED)}")
    return PACKAGED[name]()


def _of_files(place: Path) -> datasets.DatasetDict:
    files = read_files(place)
    if spoken_digits.has_such_names(list(files)):
        return spoken_digits.load(files)
    tables = [name for name in files if name.rpartition("/")[2] == transcribed_files.TABLE]
    if len(tables) != 1:
        raise ValueError(
            f"path: got {str(place)!r} with {len(files)} files, expected a folder or .zip of "
            f"DIGIT_SPEAKER_INDEX.wav, or of recordings and one {transcribed_files.TABLE}"
        )
    try:
        table = files[tables[0]].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"path: {tables[0]!r} is not UTF-8 text ({error})") from None
    folder = tables[0].removesuffix(transcribed_files.TABLE)
    recordings = {
        name.removeprefix(folder).removesuffix(".wav"): content
        for name, content in files.items()
        if name.endswith(".wav")
    }
    return transcribed_files.load(recordings, table)


def read_files(place: Path) -> dict[str, bytes]:
    """The .wav and .txt files of a folder and the folders in it, or of a .zip, by their paths.

    Raises:
        ValueError: there is no such folder or .zip.
    """
    endings = (".wav", ".txt")
    if place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.suffix in endings)
        return {file.relative_to(place).as_posix(): file.read_bytes() for file in files}
    if not zipfile.is_zipfile(place):
        raise ValueError(f"path: got {str(place)!r}, expected a folder or a .zip of recordings")
    with zipfile.ZipFile(place) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(endings))
        try:
            return {name: archive.read(name) for name in names}
        except (zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"path: {str(place)!r} is a damaged .zip ({error})") from None
