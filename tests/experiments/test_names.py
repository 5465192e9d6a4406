"""The experiment as its user runs it: train, report again, sample, score, and what it refuses."""

import json
import random
from collections import Counter

import jax
import numpy as np
import pytest

from experiments import names as experiment

pytestmark = pytest.mark.xdist_group("names")  # they share one run

GROUPS = {"hard": "bdgkpt", "soft": "flmnrs"}
FLAGS = ["--preset=smoke", "--data.source=path", "--samples=50", "--batch-size=32"]


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Names of a consonant and a vowel, again and again; the consonants tell the group."""
    rng, folder = random.Random(0), tmp_path_factory.mktemp("data")
    for group, consonants in GROUPS.items():
        names = {
            "".join(rng.choice(consonants) + rng.choice("aeiou") for _ in range(rng.randint(2, 4)))
            for _ in range(400)
        }
        (folder / f"{group}.txt").write_text("\n".join(sorted(names)))
    return folder


@pytest.fixture(scope="module")
def command(folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    return ["train", *FLAGS, f"--run={run}", f"--data.path={folder}", "--optimizer.total-steps=120"]


@pytest.fixture(scope="module")
def run(command):
    """The folder of a finished run."""
    experiment.main(command)
    return experiment.parse(command).run


@pytest.fixture(scope="module")
def corpus(folder):
    return experiment.load_corpus(experiment.Data("path", folder))


@pytest.fixture(scope="module")
def trained(run):
    return experiment.load_trained(run)


def test_a_run_learns_the_groups_and_leaves_its_record(run):
    report = json.loads((run / "report.json").read_text())
    test = report["test"]
    assert test["bits_per_character"] == pytest.approx(np.mean([test[g] for g in GROUPS]))
    assert test["bits_per_character"] < report["baselines"]["test"][experiment.UNIGRAM]
    assert report["right_group"]["this model"] > 0.9
    for row, count in zip(report["likeliest_group"], report["test_names"].values(), strict=True):
        assert sum(row) == count
    page = (run / "report.md").read_text()
    assert f"| this model | {test['hard']:.3f} | {test['soft']:.3f} |" in page
    assert (run / "training.png").read_bytes().startswith(b"\x89PNG")
    for sampled in report["sampled"].values():
        assert 0 < sampled["distinct"] <= 1
        assert 0 <= sampled["new"] <= 1


def test_the_finished_run_is_reported_again_not_trained_again(run, command, capsys):
    log, report = (run / "metrics.jsonl").read_text(), json.loads((run / "report.json").read_text())
    experiment.main(command)
    assert "resuming from step 120" in capsys.readouterr().err
    assert (run / "metrics.jsonl").read_text() == log
    again = json.loads((run / "report.json").read_text())
    for part in ("test", "sampled", "samples", "likeliest_group", "baselines"):
        assert again[part] == report[part]


def test_a_name_is_as_probable_whatever_stands_beside_it(trained, corpus, monkeypatch):
    nats_of = experiment.make_nats_of(trained.model, "auto")
    names = experiment.as_arrays(corpus.test, trained.vocabulary)
    whole = nats_of(trained.params, names)
    monkeypatch.setattr(experiment, "ROWS_AT_A_TIME", 7)
    np.testing.assert_allclose(nats_of(trained.params, names), whole, rtol=1e-5)
    bits = experiment.bits_by_group(whole, names, list(GROUPS))
    kept = len(corpus.test["hard"])
    characters = sum(len(name) + 1 for name in corpus.test["hard"])
    assert bits["hard"] == pytest.approx(whole[:kept].sum() / characters / np.log(2))


def test_first_letters_and_the_end_share_the_probability(trained):
    """Scored on one step; what is left goes to UNK and to the tokens of groups."""
    letters = [token for token in trained.vocabulary.tokens if len(token) == 1]
    names = experiment.as_arrays({"hard": ["", *letters]}, trained.vocabulary)
    names = names._replace(lengths=np.ones_like(names.lengths))
    nats = experiment.make_nats_of(trained.model, "auto")(trained.params, names)
    assert 0.95 < np.exp(-nats).sum() < 1 + 1e-5


def test_groups_are_drawn_by_the_root_of_their_size_and_names_of_one_alike(corpus):
    few = {"hard": corpus.train["hard"][:16], "soft": corpus.train["soft"][:144]}
    names = experiment.as_arrays(few, corpus.vocabulary)
    batch_at = experiment.make_batch_at(names, 1000, seed=0)
    batch, other = batch_at(0), batch_at(1)
    rows = Counter(tuple(row) for row in np.where(batch.weights > 0, batch.targets, -1).T)
    (token,) = corpus.vocabulary.encode([experiment.group_token("hard")])
    assert np.mean(batch.inputs[0] == token) == pytest.approx(4 / (4 + 12), abs=0.05)
    assert len(rows) > 150
    assert batch.resets[0].all()
    assert not batch.resets[1:].any()
    np.testing.assert_array_equal(batch_at(0).targets, batch.targets)
    assert not np.array_equal(other.targets, batch.targets)


def test_samples_are_of_their_group_and_depend_on_the_seed_alone(run, capsys):
    def sample(*flags):
        experiment.main(["sample", f"--run={run}", "--count=30", *flags])
        return capsys.readouterr().out

    assert sample("--seed=1") == sample("--seed=1") != sample("--seed=2")
    assert sample().splitlines()[1].startswith("soft: ")
    found = sample("--group=hard", "--temperature=0.5")
    letters = Counter(found.removeprefix("hard: "))
    own, others = (sum(letters[c] for c in GROUPS[group]) for group in ("hard", "soft"))
    assert own > 9 * others


def test_score_tells_the_group_and_says_what_is_unknown(run, capsys):
    experiment.main(["score", "batoku", "melina", "zzyzzyzzyzzyzzy", f"--run={run}"])
    lines = capsys.readouterr().out.splitlines()
    hard, soft = (int(lines[1].split()[place].rstrip("%")) for place in (0, 1))
    assert hard > 90 > 10 > soft
    assert int(lines[2].split()[1].rstrip("%")) > 90
    assert lines[-1] == "unknown to the model, scored as <unk>: 'yz'"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--run=nowhere"], "error: run: got nowhere, expected the folder of a run"),
        (["sample", "--run={run}", "--group=male"], "error: group: got 'male', expected one of"),
        (["sample", "--run={run}", "--count=0"], "error: count: got 0, expected an integer of"),
        (["sample", "--run={run}", "--temperature=-1"], "error: temperature: got -1.0, expected"),
        (["score", "--run={run}"], "error: names: got an empty name or none, expected at least"),
        (["train", "--data.source=path", "--run={tmp}"], "error: path: got None with source="),
        (["train", *FLAGS, "--data.path={tmp}", "--run={tmp}"], "error: path: got "),
        (
            ["train", *FLAGS, "--data.path={folder}", "--run={tmp}", "--batch-size=0"],
            "error: batch_size: got 0, expected an integer of at least 1",
        ),
        (
            ["train", *FLAGS, "--data.path={folder}", "--run={tmp}", "--model.recurrence=lstn"],
            "error: recurrence: got 'lstn', expected one of elman",
        ),
        (
            ["train", *FLAGS, "--data.path={folder}", "--run={tmp}", "--model.plan=fast"],
            "error: plan: got 'fast', expected one of auto, reference",
        ),
        (
            ["train", *FLAGS, "--data.path={folder}", "--run={run}", "--batch-size=5"],
            "error: config: the run in {run} was made with another one: batch_size was 32, now 5",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message, run, folder, tmp_path, capsys):
    places = {"run": run, "folder": folder, "tmp": tmp_path / "new"}
    with pytest.raises(SystemExit) as stopped:
        experiment.main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    assert not places["tmp"].exists()
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(message.format(**places))


def test_a_checkpoint_of_another_experiment_is_refused(run, tmp_path, capsys):
    config = json.loads((run / "config.json").read_text())
    (tmp_path / "vocabulary.json").write_text((run / "vocabulary.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"window": 64}))
    with pytest.raises(SystemExit):
        experiment.main(["sample", f"--run={tmp_path}"])
    assert "error: config: got unknown window" in capsys.readouterr().err


def test_confusion_counts_and_the_share_right_weighs_groups_alike():
    nats = np.asarray([[0.0, 1.0, 0.0, 3.0], [1.0, 0.0, 1.0, 2.0]])
    cells = experiment.confusion(nats, np.asarray([0, 0, 0, 1]))
    assert cells == [[2, 1], [0, 1]]
    assert experiment.share_right(cells) == pytest.approx((2 / 3 + 1) / 2)


def test_baselines_of_a_group_tell_its_names(corpus):
    baselines = experiment.fit_baselines(corpus.train)
    names = [name for of_group in corpus.test.values() for name in of_group]
    groups = np.repeat([0, 1], [len(of_group) for of_group in corpus.test.values()])
    nats = experiment.baseline_nats(baselines[experiment.ORDER_5], names)
    assert experiment.share_right(experiment.confusion(nats, groups)) > 0.95
    bits = experiment.baseline_bits(baselines, corpus.test)[experiment.ORDER_5]
    kept = len(corpus.test["hard"])
    characters = sum(len(name) + 1 for name in corpus.test["hard"])
    assert bits["hard"] == pytest.approx(nats[0, :kept].sum() / characters / np.log(2))
