"""Sentences without a short cut, and the experiment as its user runs it."""

import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import agreement as experiment
from experiments.data.agreement_sentences import (
    NUMBER_OF,
    SUBJECT,
    WORDS,
    draw_pair,
    draw_pairs,
    draw_sentences,
    encoded,
    sentences_as_words,
    words_between,
)
from rnnjax.diagnostics.gates import gate_values

pytestmark = pytest.mark.xdist_group("agreement")  # they share one run

DISTANCES = [*range(1, 60), 199, 200]
SMALL = [
    "--preset=smoke", "--networks", "elman", "--parameters=40", "--distances", "3",
    "--longest=3", "--batch-size=4", "--pairs=2", "--gram-sentences=40",
    "--optimizer.total-steps=3",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is learned does not depend on how hard XLA tries; how long these tests take does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def test_the_verb_is_told_by_the_subject_and_by_no_other_word():
    """A pair differs in its subject alone, so who does not read that is right once of twice."""
    rng = random.Random(0)
    for distance in DISTANCES:
        for _ in range(5):
            singular, plural = draw_pair(rng, distance)
            assert len(singular) == len(plural) == distance + 1
            differ = [at for at, pair in enumerate(zip(singular, plural, strict=True))
                      if pair[0] != pair[1]]  # fmt: skip
            assert differ == [SUBJECT]
            assert (NUMBER_OF[singular[SUBJECT]], NUMBER_OF[plural[SUBJECT]]) == (0, 1)


def test_nouns_in_between_have_either_number_equally_often_everywhere():
    rng = random.Random(1)
    firsts, lasts, all_ = [], [], []
    for _ in range(2000):
        numbers = [NUMBER_OF[w] for w in words_between(rng, 30) if w in NUMBER_OF]
        firsts.append(numbers[0])
        lasts.append(numbers[-1])
        all_ += numbers
    assert len(all_) > 5 * 2000
    for numbers in (firsts, lasts, all_):
        # Five standard deviations of a fair coin.
        assert abs(np.mean(numbers) - 0.5) < 2.5 / np.sqrt(len(numbers))


def test_baselines_know_what_is_near_and_guess_what_is_far():
    config = experiment.Train(gram_sentences=2000, batch_size=50, longest=60)
    test = draw_pairs(random.Random(2), [k for k in range(1, 61) for _ in range(4)], 61)
    found = experiment.baseline_accuracies(config, test)
    assert set(found[experiment.ALWAYS_WAS].values()) == {0.5}
    for k, accuracy in found[experiment.LAST_NOUN].items():
        assert accuracy == (1.0 if k < 5 else 0.5), k
    for k, accuracy in found[experiment.N_GRAM].items():
        if k == 1:
            assert accuracy == 1.0, k
        elif k > experiment.ORDER:
            assert accuracy == 0.5, k


def test_a_batch_is_of_its_step_alone_and_all_distances_are_met():
    config = experiment.Train(longest=40, batch_size=16)
    bounds = {end for _, end in experiment.buckets(40)}
    met, verbs = set(), []
    for step in range(200):
        batch = experiment.batch_of_all(config, step)
        assert len(batch.tokens) - 1 in bounds
        assert batch.tokens.max() < len(WORDS)
        met |= set(batch.lengths - SUBJECT)
        verbs.append(batch.verbs.mean())
    assert met == set(range(1, 41))
    assert abs(np.mean(verbs) - 0.5) < 2.5 / np.sqrt(200 * 16)
    for first, again in zip(
        experiment.batch_of_all(config, 7), experiment.batch_of_all(config, 7), strict=True
    ):
        np.testing.assert_array_equal(first, again)


def test_words_come_back_from_their_ids():
    sentences = draw_sentences(random.Random(3), [1, 9, 4], 12)
    words = list(sentences_as_words(sentences))
    assert [len(one) for one in words] == [2, 10, 5]
    again = encoded(words, list(sentences.verbs), 12)
    np.testing.assert_array_equal(again.tokens, sentences.tokens)
    assert [NUMBER_OF[one[SUBJECT]] for one in words] == list(sentences.verbs)


def test_a_batch_of_one_distance_is_of_that_distance():
    config = experiment.Train(batch_size=8)
    batch = experiment.batch_of_one(config, 6, 0)
    assert batch.tokens.shape == (7, 8)
    assert set(batch.lengths - SUBJECT) == {6}
    assert not np.array_equal(batch.tokens, experiment.batch_of_one(config, 6, 1).tokens)


def test_the_test_holds_as_many_of_either_number_at_each_distance():
    config = experiment.Train(distances=(4, 9), longest=9, pairs=3)
    assert experiment.tested_distances(config) == [1, 2, 3, 4, 5, 9]
    test = experiment.test_sentences(config)
    for distance in experiment.tested_distances(config):
        some = experiment.of_distance(test, distance)
        assert some.tokens.shape == (distance + 1, 6)
        assert some.verbs.tolist() == [0, 1] * 3
    right = experiment.accuracy_by_distance(np.zeros(36, int), test)
    assert set(right.values()) == {0.5}


SOME = ("elman", "lstm_chrono")
EVERY = [
    pytest.param(name, marks=[] if name in SOME else [pytest.mark.slow])
    for name in experiment.NETWORKS
]


@pytest.mark.parametrize("name", EVERY)
def test_networks_are_of_equal_size_and_read_from_their_state(name):
    network = experiment.NETWORKS[name]

    def count(hidden_size):
        shapes = jax.eval_shape(
            lambda key: network.init(key, 16, hidden_size, 2), jax.random.key(0)
        )
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))

    size = experiment.hidden_size_of(network, 16, 10_000)
    errors = [abs(count(near) - 10_000) for near in (size - 1, size, size + 1)]
    assert errors[1] == min(errors) < 250

    # ∂L/∂h^<Tx> is zero unless the output is part of the carry.
    params = network.init(jax.random.key(0), 2, 3, 9)
    recurrence, x = network.recurrence, jnp.ones(2, jnp.float32)
    carry = recurrence.initial_carry(params, ())
    carry, y = recurrence.step(params, carry, recurrence.project(params, x))
    np.testing.assert_array_equal(jax.tree.leaves(carry)[0], y)


@pytest.mark.parametrize(
    ("name", "gate"),
    [
        pytest.param("gru_chrono", "kept", marks=pytest.mark.slow),
        pytest.param("lstm_chrono", "forget"),
    ],
)
def test_chrono_gates_keep_for_as_many_words_as_there_are(name, gate):
    """At rest a gate is u / (u + 1), u being spread evenly over 1 … longest − 1 words."""
    network = experiment.NETWORKS[name]
    params = network.init(jax.random.key(0), 2, 400, 101)
    values = gate_values(network.recurrence, params, jnp.zeros((1, 2), jnp.float32))
    kept = np.asarray(values[gate][0], np.float64)
    times = kept / (1 - kept)
    assert times.min() >= 1 - 1e-4
    assert times.max() <= 100.1
    assert times.mean() == pytest.approx(50.5, rel=0.1)
    if gate == "forget":
        np.testing.assert_allclose(values["input"][0], 1 - kept, rtol=1e-3)


def test_a_network_breaks_where_it_is_first_wrong():
    assert experiment.breaks_at({1: 1.0, 20: 0.9, 3: 0.6, 40: 0.5}) == 3
    assert experiment.breaks_at({1: 1.0, 20: 0.75}) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agreement")
    with jax.numpy_dtype_promotion("strict"):
        experiment.main([*SMALL, f"--run={folder}"])
    return folder


def test_a_run_leaves_its_record(run):
    report = json.loads((run / "report.json").read_text())
    network = report["networks"]["elman"]
    assert list(network["alone"]) == ["3"]
    assert list(network["all"]) == ["1", "2", "3"]
    assert network["steps"] == {"3": 3, "all": 3}
    assert len(network["before"]["gradient_norms"]) == 3
    assert network["before"]["gates"] == {}
    assert report["baselines"][experiment.ALWAYS_WAS]["3"] == 0.5
    page = (run / "report.md").read_text()
    assert report["command"] in page
    for table in (experiment.alone_table, experiment.all_table, experiment.gradient_table):
        assert table(report) in page
    for name in ("accuracy.png", "gradient.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")


def test_a_killed_run_goes_on_at_the_point_it_was_at(run, capsys):
    """Points that are there are not made again; one that is lost is made again, and the same."""
    path, report = run / experiment.POINTS, run / "report.json"
    before, points = json.loads(report.read_text()), path.read_text()
    lines = points.splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:20])
    experiment.main([*SMALL, f"--run={run}"])
    assert capsys.readouterr().err.splitlines()[-1].startswith("elman, 3: ")
    assert path.read_text() == points
    after = json.loads(report.read_text())
    assert after["networks"] == before["networks"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [*SMALL, "--run={run}", "--batch-size=5"],
            "error: config: the run in {run} was made with another one: batch_size was 4, now 5",
        ),
        (
            ["--networks", "lru", "--run={tmp}"],
            "error: networks: got 'lru', expected some of elman",
        ),
        (["--networks", "gru", "gru", "--run={tmp}"], "error: networks: got ['gru', 'gru'], exp"),
        (["--distances", "300", "--run={tmp}"], "error: distances: got 300, expected at most"),
        (["--distances", "0", "--run={tmp}"], "error: distances: got 0, expected an integer"),
        (["--longest=0", "--run={tmp}"], "error: longest: got 0, expected an integer"),
    ],
)
def test_bad_input_is_one_line(arguments, message, run, tmp_path, capsys):
    places = {"run": run, "tmp": tmp_path / "new"}
    with pytest.raises(SystemExit) as stopped:
        experiment.main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    assert not places["tmp"].exists()
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(message.format(**places))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_pair(random.Random(0), 0), "distance: got 0, expected at least 1"),
        (lambda: words_between(random.Random(0), -1), "count: got -1, expected at least 0"),
        (lambda: encoded([["the", "unicorn"]], [0], 2), "sentence: got 'unicorn', expected words"),
        (lambda: encoded([["the", "cat"]], [0], 1), "sentence: got 2 words, expected 1 … 1"),
    ],
)
def test_what_cannot_be_a_sentence_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
