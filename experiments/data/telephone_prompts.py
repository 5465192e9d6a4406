"""Telephone prompts in English, spoken by Allison Smith for the telephone exchange Asterisk.

Source: the Debian packages `asterisk-core-sounds-en-wav` (recordings, 8 kHz) and
`asterisk-core-sounds-en` (transcripts) 1.6.1-1; copyright 2003–2010 Allison Smith, CC-BY-SA-3.0.
Tones, silence, and prompts with numbers of several digits are left out. What is said in several
recordings stands in one part of the split.
"""

import gzip

import datasets

from experiments.data import transcribed_files
from experiments.data.converted import converted_once
from experiments.data.package_files import fetch_debian, read_members

RECORDINGS = (
    "asterisk-core-sounds-en-wav",
    "1.6.1-1",
    "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
)
TRANSCRIPTS = (
    "asterisk-core-sounds-en",
    "1.6.1-1",
    "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
)
SPEAKER = "Allison"

_LOADER_VERSION = 1


def load() -> datasets.DatasetDict:
    """Rows as `speech_rows.FEATURES` has them.

    Raises:
        DataUnavailable: a package is not in the cache, and cannot be fetched.
        DataMismatch: the archive of Debian is another one than the pinned one.
    """

    def convert() -> datasets.DatasetDict:
        (table,) = read_members(fetch_debian(*TRANSCRIPTS), "*/core-sounds-en.txt.gz").values()
        folder = "/en_US_f_Allison/"
        files = {
            name.partition(folder)[2].removesuffix(".wav"): content
            for name, content in read_members(fetch_debian(*RECORDINGS), f"*{folder}*.wav").items()
        }
        text = gzip.decompress(table).decode("utf-8")
        return transcribed_files.load(files, text, speaker=SPEAKER)

    return converted_once(
        "telephone-prompts", f"{RECORDINGS} {TRANSCRIPTS} {_LOADER_VERSION}", convert
    )
