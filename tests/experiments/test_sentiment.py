"""The experiment as its user runs it: train, resume, classify, compare, and what it refuses."""

import json
import random

import jax
import numpy as np
import pytest

from experiments import sentiment as experiment

pytestmark = pytest.mark.xdist_group("sentiment")  # they share one run

SMALL = [
    "--preset=smoke", "--data.source=path", "--data.minimum-count=1", "--batch-size=16",
    "--evaluate-every=50", "--checkpoint-every=50", "--log-every=25", "--explained=40",
    "--optimizer.total-steps=150", "--optimizer.learning-rate=0.02", "--dropout=0.2",
    "--model.recurrence=elman",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is computed does not depend on how hard XLA tries; how long compilation takes does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


FILLING = ("the", "a", "film", "plot", "is", "with", "and", "his", "her")


def table(path, texts, label_of):
    path.write_text("".join(f"{label_of(text)}\t{text}\n" for text in texts))
    return path


@pytest.fixture(scope="module")
def texts():
    """Texts of 7 words, one of which says what the writer thinks; of one length: one shape."""
    rng = random.Random(0)
    found = set()
    while len(found) < 400:
        words = [rng.choice(FILLING) for _ in range(6)]
        words.insert(rng.randrange(7), rng.choice(("superb", "moving", "dull", "awful")))
        found.add(" ".join(words))
    return sorted(found)


@pytest.fixture(scope="module")
def corpus(texts, tmp_path_factory):
    def label_of(text):
        return "pos" if {"superb", "moving"} & set(text.split()) else "neg"

    return table(tmp_path_factory.mktemp("corpus") / "opinions.tsv", texts, label_of)


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory, quick_compilation):
    """A finished run of 150 steps."""
    folder = tmp_path_factory.mktemp("run")
    experiment.main(["train", *SMALL, f"--run={folder}", f"--data.path={corpus}"])
    return folder


def test_a_run_learns_and_leaves_its_record(run):
    report = json.loads((run / "report.json").read_text())
    test, baselines = report["test"], report["baselines"]["test"]
    assert set(baselines) == {experiment.MAJORITY, experiment.BAG}
    assert baselines[experiment.MAJORITY]["balanced_accuracy"] == 0.5
    assert baselines[experiment.BAG]["accuracy"] == 1  # one word decides
    assert test["accuracy"] > 0.9
    assert report["published"] == {}  # there are none of this corpus
    page = (run / "report.md").read_text()
    assert f"| this model | {test['accuracy']:.3f} |" in page
    assert f"{report['machine']['cores']} cores" in page
    assert f"is {report['attention_agrees']:.2f} in the mean" in page
    for picture in ("training.png", "words.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")
    # Without a word that praises, a text is not praise; without one that blames, it is not either.
    carried = report["words"]["most"]
    assert {"superb", "moving"} == {word for word, change in carried.items() if change > 1}


def test_the_finished_run_is_reported_again_not_trained_again(run, corpus, capsys):
    before = (run / "metrics.jsonl").read_text()
    experiment.main(["train", *SMALL, f"--run={run}", f"--data.path={corpus}", "--explained=10"])
    printed = capsys.readouterr()
    assert "resuming from step 150" in printed.err
    assert "| this model |" in printed.out
    assert (run / "metrics.jsonl").read_text() == before


def test_a_verdict_names_the_words_that_carry_it(run, capsys, tmp_path):
    file, picture = tmp_path / "texts.txt", tmp_path / "words.png"
    file.write_text("a dull plot with the film\n\n")
    long = "the film " * 20 + "is $uperb superb"
    experiment.main(
        ["classify", "his moving film and the plot", long, f"--file={file}", "--words=2",
         f"--run={run}", f"--picture={picture}"]
    )  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("positive ")
    assert lines[1].split()[0] == "moving"
    assert len(lines[1].split()) == 4  # two words and what they carry
    assert "    unknown to the model, read as UNK: $, uperb" in lines
    assert "    44 words, where the longest text it learned from has 7" in lines
    (last,) = (line for line in lines if line.endswith("a dull plot with the film"))
    assert last.startswith("negative ")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_a_word_carries_is_the_change_without_it(run):
    """Against the texts cut by hand, and the probability against the verdicts in a batch."""
    trained = experiment.load_trained(run)
    model, plan, params, vocabulary, *_ = trained
    text = "the plot is awful with a film"
    one = experiment.explain(model, plan, params, vocabulary, text)
    words = text.split()
    cut = [" ".join(words[:t] + words[t + 1 :]) for t in range(len(words))]
    found = experiment.predict(
        model, plan, params, experiment.encode(vocabulary, [text, *cut]), batch_size=3
    )
    np.testing.assert_allclose(one.log_probabilities, found[0], atol=1e-5)
    log_odds = found[:, 1] - found[:, 0]
    np.testing.assert_allclose(one.carried, log_odds[0] - log_odds[1:], atol=1e-5)
    assert one.weights is not None
    np.testing.assert_allclose(one.weights.sum(), 1, rtol=1e-5)


def test_poolings_and_directions_are_compared_and_what_is_done_is_kept(corpus, tmp_path, capsys):
    arguments = ["compare", *SMALL, f"--data.path={corpus}", f"--run={tmp_path / 'run'}"]
    arguments += ["--poolings", "attention", "--seeds=1"]
    experiment.main(arguments)
    first = capsys.readouterr()
    summary = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [cell["bidirectional"] for cell in summary["cells"]] == [False, True]
    for cell in summary["cells"]:
        accuracy = f"{cell['scores']['test']['accuracy']:.3f}"
        side = "both directions" if cell["bidirectional"] else "one direction"
        assert f"| attention, {side} | {accuracy} |" in first.out
    assert (tmp_path / "run" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    experiment.main(arguments)
    again = capsys.readouterr()
    assert again.out == first.out
    assert "texts to learn from" not in again.err


def test_scores_are_those_of_a_table_written_out():
    p = np.array([[0.1, 0.2, 0.7], [0.5, 0.0, 0.5], [0.2, 0.45, 0.35], [0.3, 0.3, 0.4]])
    labels = np.array([2, 1, 1, 0])
    with np.errstate(divide="ignore"):
        found = experiment.scores(np.log(p), labels)
    assert found["accuracy"] == 2 / 4
    assert found["balanced_accuracy"] == pytest.approx((0 + 1 / 2 + 1) / 3)
    assert found["mean_absolute_error"] == (0 + 1 + 0 + 2) / 4
    assert found["mean_absolute_error_of_median"] == (0 + 1 + 0 + 1) / 4
    assert found["cross_entropy"] == np.inf
    assert experiment.favour(np.log(np.array([0.2, 0.8]))) == pytest.approx(np.log(4))
    assert experiment.favour(np.log(np.array([0.5, 0.25, 0.25]))) == pytest.approx(1.75)


def test_texts_of_the_picture_are_the_first_ones_right_and_wrong():
    def one(words, verdict):
        log_probabilities = np.log([0.9, 0.1] if verdict == 0 else [0.1, 0.9])
        return experiment.Explained(
            ["a"] * words, [True] * words, log_probabilities, np.zeros(words), None
        )

    verdicts = [0, 1, 1, 0, 0, 0, 1, 0]
    explained = [one(31 if place == 2 else 5, verdict) for place, verdict in enumerate(verdicts)]
    assert experiment.shown_texts(explained, np.zeros(8, int)) == [0, 3, 4, 5, 1, 6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "x", "--run=nowhere"], "error: run: got nowhere, expected the folder of a"),
        (["classify", "x", "--run={foreign}"], "error: run: got {foreign}, expected the folder of"),
        (["classify", "--run={run}"], "error: texts: got an empty text or none, expected at least"),
        (["classify", " ", "--run={run}"], "error: texts: got an empty text or none"),
        (["classify", "x", "--run={run}", "--words=0"], "error: words: got 0, expected"),
        (["classify", "x", "--run={run}", "--picture=a.jpg"], "error: picture: got 'a.jpg'"),
        (["classify", "--run={run}", "--file={latin}"], "error: file: '{latin}' is not UTF-8 text"),
        (
            ["train", "--data.source=path", "--run={tmp}"],
            "error: path: got None with source='path'",
        ),
        (
            ["train", *SMALL, "--run={tmp}", "--data.path={empty}"],
            "error: path: got '{empty}' with",
        ),
        (["train", *SMALL, "--run={tmp}", "--data.path={latin}"], "error: path: '{latin}' is not"),
        (
            ["train", *SMALL, "--run={tmp}", "--data.path={corpus}", "--data.target=stars"],
            "error: label: got 'neg' in opinions.tsv line 1, expected one of 1, 2",
        ),
        (
            ["train", *SMALL, "--run={tmp}", "--data.path={one}"],
            "error: split train: got no text of class positive, expected some of each",
        ),
        (
            ["train", "--data.name=reviews", "--data.target=stars", "--run={tmp}"],
            "error: target: got 'stars' of reviews",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={run}", "--batch-size=5"],
            "error: config: the run in {run} was made with another one: batch_size was 16, now 5",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--model.recurrence=lstn"],
            "error: recurrence: got 'lstn', expected one of elman",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--dropout=1"],
            "error: dropout: got 1.0, expected 0 ≤ dropout < 1",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--growth=1"],
            "error: growth: got 1.0, expected above 1",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--model.plan=fast"],
            "error: plan: got 'fast', expected one of auto, reference",
        ),
        (
            ["compare", *SMALL, "--data.path={corpus}", "--run={tmp}", "--seeds=0"],
            "error: seeds: got 0, expected an integer of at least 1",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message, run, corpus, texts, tmp_path, capsys):
    places = {"run": run, "corpus": corpus, "tmp": tmp_path / "new"}
    places |= {name: tmp_path / f"{name}.tsv" for name in ("empty", "latin", "one")}
    places["foreign"] = tmp_path / "foreign"
    places["foreign"].mkdir()
    (places["foreign"] / "config.json").write_text("{}")
    places["empty"].write_text("label\ttext\n")
    places["latin"].write_bytes("pos\tété\n".encode("latin-1"))
    table(places["one"], texts, lambda _: "neg")
    with pytest.raises(SystemExit) as stopped:
        experiment.main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    assert not places["tmp"].exists()  # nothing of a run that never began is kept
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(message.format(**places))


def test_unknown_flags_and_presets_are_refused_and_help_shows_the_others(capsys):
    for arguments in (
        ["train", "--hiden-size=3"],
        ["train", "--preset=fast"],
        ["train", "--model.pooling=sum"],
        ["compare", "--poolings", "sum"],
    ):
        with pytest.raises(SystemExit) as stopped:
            experiment.main(arguments)
        assert stopped.value.code == 2
    capsys.readouterr()
    for command, flags in (
        ("train", ("--model.pooling", "--data.target", "--word-dropout", "--patience")),
        ("compare", ("--poolings", "--seeds", "--run", "--model.recurrence")),
        ("classify", ("--file", "--words", "--picture")),
    ):
        with pytest.raises(SystemExit) as stopped:
            experiment.main([command, "--help"])
        assert stopped.value.code == 0
        text = capsys.readouterr().out
        assert all(flag in text for flag in flags), command
