"""Experiments use more devices when there are more, and score as on one."""

import json
import random
import tempfile
from pathlib import Path

import jax
import pytest
from support.simulated_devices import checks_in, simulated_devices

ROUNDS = 6
"""Steps: few, so that differences of rounding do not grow."""

WORDS = ("the cat", "a dog", "sees", "hears", "the bird", "and", "then")


def same_on_one_and_on_all(experiment, arguments, score):
    """`train` with `--batch-size=8` of one device, then of all four; the scores of both."""
    scores = []
    for devices in (jax.devices()[:1], jax.devices()):
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr("rnnjax.training.placement.jax.devices", lambda seen=devices: seen)
            steps = [f"--optimizer.total-steps={ROUNDS}", f"--evaluate-every={ROUNDS}"]
            steps += [f"--checkpoint-every={ROUNDS}", f"--log-every={ROUNDS}", "--batch-size=8"]
            experiment.main(["train", "--preset=smoke", f"--run={folder}", *arguments, *steps])
            lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
        records = {name: value for line in lines for name, value in json.loads(line).items()}
        names = (f"held_out/{score}", "train/loss", "train/gradient_norm")
        scores.append([records[name] for name in names])
    one, four = scores
    assert one[1] > 0
    assert four == pytest.approx(one, rel=1e-4)


def check_slow_character_language_model():
    from experiments import character_language_model

    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_text("".join(rng.choice(WORDS) + rng.choice(" .\n") for _ in range(4000)))
        data = ["--data.source=path", f"--data.path={path}", "--sample-length=4"]
        same_on_one_and_on_all(character_language_model, data, "bits_per_character")


def check_slow_word_language_model():
    from experiments import word_language_model

    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        sentences = (" ".join(rng.choices(WORDS, k=6)) for _ in range(900))
        path.write_text("\n".join(sentences))
        data = ["--data.source=path", f"--data.path={path}", "--model.dropout=0.3"]
        same_on_one_and_on_all(word_language_model, data, "cross_entropy")


def check_slow_names():
    from experiments import names

    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        for group in ("one", "two"):
            made = {"".join(rng.choices("aeioulmn", k=rng.randint(3, 7))) for _ in range(200)}
            (Path(folder) / f"{group}.txt").write_text("\n".join(sorted(made)))
        data = ["--data.source=path", f"--data.path={folder}"]
        same_on_one_and_on_all(names, data, "bits_per_character")


def check_slow_sentiment():
    from experiments import sentiment

    rng = random.Random(0)
    texts = sorted({" ".join(rng.choices((*WORDS, "superb", "dull"), k=6)) for _ in range(400)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "opinions.tsv"
        label = {True: "pos", False: "neg"}
        path.write_text("".join(f"{label['superb' in text]}\t{text}\n" for text in texts))
        data = ["--data.source=path", f"--data.path={path}", "--data.minimum-count=1"]
        data += ["--dropout=0.2", "--explained=4"]
        same_on_one_and_on_all(sentiment, data, "cross_entropy")


def check_slow_named_entities():
    from experiments import named_entities

    rng = random.Random(0)
    rows = (("Harry", "B-person"), ("sees", "O"), ("London", "B-place"), (".", "O"))
    with tempfile.TemporaryDirectory() as folder:
        for split in ("train", "dev", "test"):
            text = "\n\n".join(
                "\n".join("\t".join(row) for row in rng.choices(rows, k=rng.randint(2, 6)))
                for _ in range(100)
            )
            (Path(folder) / f"{split}.conll").write_text(text + "\n")
        data = ["--data.source=path", f"--data.path={folder}", "--unknown-rate=0"]
        same_on_one_and_on_all(named_entities, data, "f1")


with_devices = simulated_devices(__file__, 4)


@pytest.mark.parametrize("check", checks_in(globals()))
def test_with_four_devices(check, with_devices):
    with_devices(check)
