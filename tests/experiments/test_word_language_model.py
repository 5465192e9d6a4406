"""The experiment as its user runs it: train, score, sample, and what it refuses."""

import json
import random

import numpy as np
import pytest

from experiments import word_language_model as experiment
from rnnjax.text.vocabulary import BEGIN, END, from_tokens

pytestmark = pytest.mark.xdist_group("word_language_model")  # they share one run

SMALL = [
    "--preset=smoke", "--data.source=path", "--window=10", "--evaluate-every=50",
    "--checkpoint-every=50", "--log-every=10", "--model.dropout=0.1",
    "--model.hidden-sizes", "16",
    "--optimizer.learning-rate=0.03", "--optimizer.total-steps=150",
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Sentences whose last word is known from their first one, three words before."""
    rng = random.Random(0)
    folder = tmp_path_factory.mktemp("corpus")
    for split, count in (("train", 600), ("valid", 60), ("test", 60)):
        lines = []
        for _ in range(count):
            first, last = rng.choice([("the", "sleeps"), ("a", "wakes")])
            lines.append(f"{first} {rng.choice('uvwxyz')} {rng.choice('uvwxyz')} {last}")
        (folder / f"{split}.txt").write_text("\n".join([*lines, f"rare{split}"]) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A finished run of 150 steps."""
    folder = tmp_path_factory.mktemp("run")
    experiment.main(["train", *SMALL, f"--run={folder}", f"--data.path={corpus}"])
    return folder


def test_a_run_learns_and_leaves_its_record(run):
    report = json.loads((run / "report.json").read_text())
    perplexity = report["perplexity"]
    assert len(perplexity) == 6
    assert perplexity[experiment.THIS] < perplexity[experiment.UNIGRAM] / 2
    assert perplexity[experiment.MIXED] < perplexity[experiment.UNIGRAM]
    assert report["test_words"] == 60 * 5 + 2
    assert report["vocabulary_size"] == 3 + 6 + 4
    assert report["unknown"]["test"] == pytest.approx(1 / 241)
    assert report["published"] == []
    nats = report["baselines"]["test"][experiment.ORDER_5]
    assert np.exp(nats) == pytest.approx(perplexity[experiment.ORDER_5])
    page = (run / "report.md").read_text()
    assert f"| this model | {perplexity['this model']:.2f} |" in page
    assert (run / "training.png").read_bytes().startswith(b"\x89PNG")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    held_out = [r["held_out/perplexity"] for r in records if "held_out/perplexity" in r]
    assert len(held_out) == 3
    assert held_out[-1] < held_out[0]


def test_score_ranks_what_was_seen_above_what_was_not(run, capsys):
    experiment.main(["score", "wakes the u", "the u v sleeps", "the u v snores", f"--run={run}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("the u v sleeps")
    assert lines[-1].endswith("says little: snores")
    log_probability, perplexity = map(float, lines[1].split()[:2])
    assert perplexity == pytest.approx(2 ** (-log_probability / 5), rel=1e-2)


def test_samples_begin_with_the_prime_end_at_end_and_depend_on_the_seed(run, capsys):
    def sample(*flags):
        experiment.main(["sample", f"--run={run}", "--prime=the u", "--temperature=1", *flags])
        return capsys.readouterr().out

    assert sample("--seed=1") == sample("--seed=1") != sample("--seed=2")
    lines = sample("--count=4").splitlines()
    assert len(lines) == 4
    assert all(line.startswith("the u") and "<" not in line for line in lines)
    assert sample("--prime=the zebra").startswith("the zebra")  # read as UNK
    assert sample("--length=1", "--count=1", "--temperature=0").endswith("…\n")


def test_marks_come_off_only_of_words_that_are_not_known():
    vocabulary = from_tokens(["U.S.", "isn't", "it", "."], begin=BEGIN, end=END)
    tokens = experiment.tokens_of("U.S. isn't it. (Maybe)", vocabulary)
    assert tokens == ["U.S.", "isn't", "it", ".", "(", "Maybe", ")"]


def test_streams_clear_the_state_where_asked_and_begin_each_sentence_alike():
    vocabulary = from_tokens("abc", begin=BEGIN, end=END)
    documents = [[vocabulary.encode([*s, END]) for s in text] for text in (["ab", "c"], ["b"])]
    sentence, document = (
        experiment.streams_of(documents, vocabulary, 1, memory)
        for memory in ("sentence", "document")
    )
    read = vocabulary.decode(sentence.inputs[:, 0])
    assert read == [BEGIN, "a", "b", BEGIN, "c", BEGIN, "b"]
    np.testing.assert_array_equal(document.inputs, sentence.inputs)
    np.testing.assert_array_equal(document.targets, sentence.targets)
    assert np.flatnonzero(sentence.resets).tolist() == [0, 3, 5]
    assert np.flatnonzero(document.resets).tolist() == [0, 5]


def test_the_first_prediction_is_by_frequency_and_nothing_is_impossible():
    vocabulary = from_tokens("aab", begin=BEGIN, end=END)
    documents = [[vocabulary.encode([*"aab", END])]]
    share = dict(
        zip(vocabulary.tokens, experiment.frequencies(documents, vocabulary).tolist(), strict=True)
    )
    assert share == {"<unk>": 1 / 6, BEGIN: 1 / 6, END: 1 / 6, "a": 2 / 6, "b": 1 / 6}


def test_thinned_text_is_of_whole_sentences_from_all_over():
    documents = [[np.full(3, place)] * 4 for place in range(10)]
    thin = experiment.thinned(documents, 30)
    assert [text[0][0] for text in thin] == [0, 4, 8]
    assert [len(text) for text in thin] == [4, 4, 2]
    assert len(experiment.sentences_of(experiment.thinned(documents, 10**6))) == 40
    assert len(experiment.sentences_of(experiment.thinned(documents, 1))) == 1  # never nothing


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--run=nowhere"], "error: run: got nowhere, expected the folder of a run"),
        (["score", "--run={run}"], "error: sentences: got an empty one or none, expected at least"),
        (["score", " ", "--run={run}"], "error: sentences: got an empty one or none, expected"),
        (["score", "--file={latin}", "--run={run}"], "error: file: {latin} is not UTF-8 text"),
        (["sample", "--run={run}", "--top-k=0"], "error: top_k: got 0, expected an integer"),
        (
            ["train", "--data.source=path", "--run={tmp}"],
            "error: path: got None with source='path'",
        ),
        (
            ["train", "--data.tokeniser=words", "--run={tmp}"],
            "error: tokeniser: got 'words' with source='package'",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={run}", "--batch-size=5"],
            "error: config: the run in {run} was made with another one: batch_size was 8, now 5",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--model.embedding-size=8"],
            "error: embedding_size: got 8, expected 16, the size of the top layer's outputs",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--model.dropout=1"],
            "error: dropout: got 1.0, expected 0 ≤ dropout < 1",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--model.plan=fast"],
            "error: plan: got 'fast', expected one of auto, reference",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--data.maximum-vocabulary=3"],
            "error: maximum_size: got 3, expected more than the 3 special tokens",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message, run, corpus, tmp_path, capsys):
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"\xe9t\xe9")
    places = {"run": run, "corpus": corpus, "tmp": tmp_path / "new", "latin": latin}
    with pytest.raises(SystemExit) as stopped:
        experiment.main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    assert not places["tmp"].exists()  # nothing of a run that never began is kept
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(message.format(**places))


def test_the_presets_say_what_was_published():
    full = experiment.PRESETS["full"]
    assert full.model.hidden_sizes == (650, 650)
    assert full.data.name in experiment.PUBLISHED
    assert full.data.maximum_vocabulary is None
