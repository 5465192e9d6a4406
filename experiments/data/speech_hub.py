"""A corpus of speech of the Hugging Face hub, by its id, whose sounds are WAV files.

`PolyAI/minds14:en-US` is calls to a bank over the telephone. Sounds in other formats are refused.
"""

import datasets

from experiments.data import text_hub
from experiments.data.audio_files import as_int16, decode_wav
from experiments.data.speech_rows import (
    SPLITS,
    Utterance,
    data_set,
    split_of,
    spoken,
)

TEXTS = ("text", "transcription", "sentence", "transcript")
SPEAKERS = ("speaker_id", "speaker", "client_id")


def load(identifier: str, configuration: str | None = None) -> datasets.DatasetDict:
    """Rows as `speech_rows.FEATURES` has them.

    A data set with the training part alone is split by a hash of the text, 80/10/10.

    Raises:
        DataUnavailable: the hub cannot be reached or lacks the data set, and it is not cached.
        ValueError: there is no column of sounds or of texts, or a sound is no WAV file.
    """
    parts = text_hub.fetched(identifier, configuration, splits=("train",))
    found = {split: utterances(parts[split], split) for split in SPLITS if split in parts}
    if "validation" not in found:
        splits: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
        for one in found.get("train", []):
            splits[split_of(one.text)].append(one)
        found = splits
    return data_set(found)


def utterances(rows: datasets.Dataset, split: str) -> list[Utterance]:
    """Rows of a benchmark as ours; a text whose spoken form is not known is left out.

    Raises:
        ValueError: there is no column of sounds or of texts, or a sound is no WAV file.
    """
    text = next((name for name in TEXTS if name in rows.column_names), None)
    if text is None or "audio" not in rows.column_names:
        raise ValueError(
            f"columns: got {', '.join(rows.column_names)}, expected audio, and {' or '.join(TEXTS)}"
        )
    speaker = next((name for name in SPEAKERS if name in rows.column_names), None)
    if isinstance(rows.features["audio"], datasets.Audio):
        rows = rows.cast_column("audio", datasets.Audio(decode=False))
    found = []
    for number, row in enumerate(rows):
        said = spoken(row[text])  # pyright: ignore[reportCallIssue, reportArgumentType]
        if said is None:
            continue
        content = row["audio"]["bytes"]  # pyright: ignore[reportCallIssue, reportArgumentType]
        name = f"{split} row {number}"
        who = "" if speaker is None else str(row[speaker])  # pyright: ignore[reportCallIssue, reportArgumentType]
        sound = decode_wav(content or b"", name)
        found.append(Utterance(name, who, said, as_int16(sound.samples)))
    return found
