"""What writes speech without a neural net: the nearest template, and pooled cepstra."""

from collections.abc import Sequence

import numpy as np

from experiments.baselines.template_matching import match, match_string, templates_of
from experiments.data.audio_files import RATE
from experiments.speech_features import Features, Heard, Recording, join, scale_of, steps_of
from experiments.speech_pages import TEMPLATES
from experiments.speech_scores import METRIC, error_rates
from experiments.speech_training import Corpus, Train, held_out_sounds, place_by_name

PENALTIES = (20.0, 40.0, 60.0, 80.0)
"""What a further template may cost; chosen on what also chooses the checkpoint."""
TEMPLATES_OF_EACH = 5
"""Templates of a digit of a speaker."""
TEMPLATE_FEATURES = Features("mfcc", 13, 1)


def template_frames(samples: np.ndarray, every: int) -> np.ndarray:
    """Cepstra `(T, D)`, each the mean of `every` frames of 10 ms."""
    frames = steps_of(TEMPLATE_FEATURES, samples)
    whole = len(frames) // every * every
    return frames[:whole].reshape(-1, every, frames.shape[1]).mean(1)


def baseline_texts(
    config: Train, corpus: Corpus, alone: Sequence[Heard], in_rows: Sequence[Heard]
) -> dict[str, dict[str, list[str]]]:
    """What the nearest template says of each sound: for each kind of sound, name -> texts."""
    every = 2 if corpus.of_single_characters else 6
    chosen = template_recordings(corpus)
    rng = np.random.default_rng([config.seed, 6])
    frames = [template_frames(join([one], rng).samples, every) for one in chosen]
    kept = [place for place, one in enumerate(frames) if len(one)]
    scale = scale_of([frames[place] for place in kept])
    templates = templates_of([scale(frames[place]) for place in kept])
    texts = [chosen[place].text for place in kept]

    def heard(sound: Heard, begin: float, end: float) -> np.ndarray:
        samples = sound.samples[int(begin * RATE) : int(end * RATE)]
        return scale(template_frames(samples, every))

    def nearest(sounds: Sequence[Heard]) -> list[str]:
        found = []
        for one in sounds:
            costs = match(templates, heard(one, *one.spans[0]))
            found.append(texts[int(np.argmin(costs))] if np.isfinite(costs).any() else "")
        return found

    def strings(sounds: Sequence[Heard], penalty: float) -> list[str]:
        found = []
        for one in sounds:
            row = match_string(templates, heard(one, 0, one.spans[-1][1]), penalty)
            found.append("".join(texts[number] for number in row))
        return found

    written: dict[str, dict[str, list[str]]] = {"alone": {TEMPLATES: nearest(alone)}, "joined": {}}
    if in_rows:
        _, rows = held_out_sounds(config, corpus.development, 4, 20)
        said = [one.text for one in rows]
        best = min(PENALTIES, key=lambda one: error_rates(said, strings(rows, one))[METRIC])
        written["joined"] = {TEMPLATES: strings(in_rows, best)}
    return written


def template_recordings(corpus: Corpus) -> list[Recording]:
    """Training recordings that serve as templates: all, or `TEMPLATES_OF_EACH` of each digit.

    They are told by the speaker and the text, and taken in the order of a hash of their names.
    """
    ordered = sorted(corpus.train, key=lambda one: place_by_name(one.name))
    if not corpus.of_single_characters:
        return ordered
    taken: dict[tuple[str, str], int] = {}
    found = []
    for one in ordered:
        key = one.speaker, one.text
        taken[key] = taken.get(key, 0) + 1
        if taken[key] <= TEMPLATES_OF_EACH:
            found.append(one)
    return found


def pooled_accuracy(corpus: Corpus) -> float:
    """How often a logistic regression of cepstra pooled over time is right.

    It sees the mean and the deviation of each third of a recording.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def pooled(recordings: Sequence[Recording]) -> np.ndarray:
        rows = []
        for one in recordings:
            frames = steps_of(TEMPLATE_FEATURES, one.samples / np.float32(32768))
            thirds = np.array_split(frames, 3) if len(frames) >= 3 else [frames] * 3
            rows.append(np.concatenate([part for t in thirds for part in (t.mean(0), t.std(0))]))
        return np.stack(rows)

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    model.fit(pooled(corpus.train), [one.text for one in corpus.train])
    return float(model.score(pooled(corpus.held_out), [one.text for one in corpus.held_out]))
