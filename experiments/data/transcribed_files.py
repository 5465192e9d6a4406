"""WAV files with a table of what is said in them.

`transcripts.txt` is UTF-8 text, a file a line: its name without `.wav`, a colon, and what is said,
as Asterisk has it. A line that begins with a semicolon is a remark. Where names have folders, the
speaker is the first of them, if `speaker_in_name`.
"""

from collections.abc import Mapping

import datasets

from experiments.data.audio_files import as_int16, decode_wav
from experiments.data.speech_rows import (
    SPLITS,
    Utterance,
    data_set,
    split_of,
    spoken,
)

TABLE = "transcripts.txt"


def transcripts(table: str) -> dict[str, str]:
    """Name -> what is said.

    Raises:
        ValueError: a line has no colon.
    """
    found = {}
    for number, line in enumerate(table.splitlines(), start=1):
        if line.strip() and not line.startswith(";"):
            name, colon, text = line.partition(":")
            if not colon:
                raise ValueError(f"{TABLE} line {number}: got no colon, expected 'name: text'")
            found[name.strip()] = text.strip()
    return found


def load(
    files: Mapping[str, bytes], table: str, *, speaker: str | None = None
) -> datasets.DatasetDict:
    """Rows as `speech_rows.FEATURES` has them, split by a hash of the text, 80/10/10.

    A recording is left out if `speech_rows.spoken` does not know what is said in it, as of tones,
    silence and long numbers.

    Args:
        files: name without `.wav` -> content.
        table: what is said in each, as the module says.
        speaker: of all of them; None is the first folder of each name.

    Raises:
        ValueError: the table has a line without a colon, a recording is no sound, or a part of the
            three is empty.
    """
    splits: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    for name, transcript in transcripts(table).items():
        text = spoken(transcript)
        if text is None or name not in files:
            continue
        samples = as_int16(decode_wav(files[name], name).samples)
        who = speaker if speaker is not None else name.rpartition("/")[0].partition("/")[0]
        splits[split_of(text)].append(Utterance(name, who, text, samples))
    return data_set(splits)
