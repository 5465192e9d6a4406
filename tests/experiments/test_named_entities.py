"""The experiment as its user runs it: train, resume, tag, compare, and what it refuses."""

import json
import random

import jax
import pytest

from experiments import named_entities as experiment
from rnnjax.text.bio import decode_bio

pytestmark = pytest.mark.xdist_group("named_entities")  # they share one run

SMALL = [
    "--preset=smoke", "--data.source=path", "--model.recurrence=elman", "--model.plan=reference",
    "--batch-size=8", "--evaluate-every=30", "--checkpoint-every=30", "--log-every=10",
    "--unknown-rate=0", "--model.dropout=0",
]  # fmt: skip
FIRST, LAST = ("Harry", "Ron", "Hermione", "Ginny"), ("Potter", "Weasley", "Granger")
CITIES = ("London", "Paris", "Rome")


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """What is computed does not depend on how hard XLA tries; how long the tests take does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def sentence(rng):
    """Four words, so that all batches have one shape."""
    two = rng.random() < 0.7
    rows = [(rng.choice(FIRST), "B-person")]
    rows += [(rng.choice(LAST), "I-person")] if two else []
    rows += [(rng.choice(("sees", "leaves", "loves")), "O"), (rng.choice(CITIES), "B-place")]
    return rows if two else [*rows, (".", "O")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """People and places, which a small tagger learns in no time."""
    rng, folder = random.Random(0), tmp_path_factory.mktemp("corpus")
    for split, count in (("train", 200), ("dev", 30), ("test", 30)):
        text = "\n\n".join(
            "\n".join(f"{word}\t{tag}" for word, tag in sentence(rng)) for _ in range(count)
        )
        (folder / f"{split}.conll").write_text(text + "\n")
    return folder


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A finished run of 60 steps."""
    folder = tmp_path_factory.mktemp("run")
    experiment.main(
        ["train", *SMALL, f"--run={folder}", f"--data.path={corpus}", "--optimizer.total-steps=60"]
    )
    return folder


def test_a_run_learns_and_leaves_its_record(run):
    report = json.loads((run / "report.json").read_text())
    test, baselines = report["test"], report["baselines"]["test"]
    assert test["f1"] > 90
    assert set(baselines) == {experiment.BY_WORD, experiment.LINEAR}
    assert test["entities"] == test["kinds"]["person"]["entities"] + 30
    assert test["kinds"]["place"]["entities"] == 30
    page = (run / "report.md").read_text()
    assert f"| this model | {test['f1']:.1f} |" in page
    assert f"{report['machine']['cores']} cores" in page
    for picture in ("training.png", "probabilities.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")
    example = report["example"]
    assert example["expected"] == [1, 1, 0, 1, 1, 0, 0, 0, 0, 0]
    assert len(example["x"]) == len(example["tags"]) == len(example["people"]) == 10
    samples = (run / "samples.md").read_text()
    assert samples.count("(place)") >= 6
    assert "(place)" not in page


def test_the_finished_run_is_reported_again_not_trained_again(run, corpus, capsys):
    before = (run / "metrics.jsonl").read_text()
    experiment.main(
        ["train", *SMALL, f"--run={run}", f"--data.path={corpus}", "--optimizer.total-steps=60"]
    )
    printed = capsys.readouterr()
    assert "resuming from step 60" in printed.err
    assert "this model" in printed.out
    assert (run / "metrics.jsonl").read_text() == before


def test_entities_of_texts_are_named(run, tmp_path, capsys):
    file = tmp_path / "texts.txt"
    # The last sentence is longer than any seen, and has words and characters that are unknown.
    longest = " ".join(["Ron Weasley sees Rome ."] * 12) + " ☃☃ xyzzy"
    file.write_text(f"Harry Potter loves London.\n\nsees .\n{longest}\n", encoding="utf-8")
    experiment.main(["tag", "Ginny leaves Paris", f"--file={file}", f"--run={run}"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:] for line in lines[1:3]] == [["person", "Ginny"], ["place", "Paris"]]
    assert [line.split()[1:] for line in lines[4:6]] == [
        ["person", "Harry", "Potter"], ["place", "London"],
    ]  # fmt: skip
    assert all(0 < float(line.split()[0]) <= 1 for line in [*lines[1:3], *lines[4:6]])
    assert lines[6:8] == ["sees .", "  no entity"]
    assert sum("Rome" in line for line in lines[9:]) >= 10


def test_tokens_are_cut_as_those_of_the_corpora():
    words, characters = experiment.Data(), experiment.Data(tokens="characters")
    assert experiment.tokens_of("It's @ron: I don't! http://a.b/c?d", words) == [
        "It", "'s", "@ron", ":", "I", "do", "n't", "!", "http://a.b/c?d",
    ]  # fmt: skip
    assert experiment.tokens_of("江泽民 说。", characters) == list("江泽民说。")
    assert experiment.tokens_of("It's a-b c.", words, tokenised=True) == ["It's", "a-b", "c."]
    assert len(experiment.tokens_of(experiment.EXAMPLE, words)) == 10
    normalised = [experiment.normalised(w) for w in ("Harry", "@ron", "@", "Www.x.y", "B52")]
    assert normalised == ["harry", "<user>", "@", "<address>", "b00"]


def test_scores_are_those_of_whole_entities():
    true = [["B-X", "I-X", "O", "B-Y"], ["B-X", "O"]]
    found = [["B-X", "O", "O", "B-Y"], ["B-Y", "O"]]
    scores = experiment.entity_scores(true, found)
    assert (scores["entities"], scores["kinds"]["X"]["entities"]) == (3, 2)
    assert scores["precision"] == scores["recall"] == scores["f1"] == pytest.approx(100 / 3)
    hits = sum(
        len(set(decode_bio(a)) & set(decode_bio(b))) for a, b in zip(true, found, strict=True)
    )
    assert scores["recall"] == pytest.approx(100 * hits / 3)
    nothing = experiment.entity_scores(true, [["O"] * 4, ["O"] * 2])
    assert nothing["f1"] == nothing["precision"] == 0


@pytest.mark.slow
def test_each_part_is_left_out_in_turn(corpus, tmp_path, capsys):
    base = [flag.replace("--", "--base.", 1) for flag in SMALL[1:]]
    base += [f"--base.data.path={corpus}", "--base.optimizer.total-steps=20"]
    command = ["compare", "--preset=smoke", *base, f"--run={tmp_path}", "--seeds", "0", "1"]
    experiment.main(command)
    report = json.loads((tmp_path / "report.json").read_text())
    names = [row["variant"] for row in report["rows"]]
    assert names == [name for name in dict.fromkeys(names) for _ in range(2)]
    assert len(set(names)) == 4
    parameters = {row["variant"]: row["parameters"] for row in report["rows"]}
    assert all(parameters[name] < parameters[experiment.WHOLE] for name in names[2:])
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    experiment.main(command)
    printed = capsys.readouterr()
    assert printed.err.count("resuming from step 20") == 8
    assert experiment.comparison_table(report) in printed.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tag", "a", "--run=nowhere"], "error: run: got nowhere, expected the folder of a run"),
        (["tag", "--run={run}"], "error: texts: got an empty text or none, expected at least"),
        (["tag", " ", "--run={run}"], "error: texts: got an empty text or none, expected at"),
        (["tag", "--file={empty}", "--run={run}"], "error: texts: got an empty text or none"),
        (["tag", "--file={latin}", "--run={run}"], "error: file: '{latin}' is not UTF-8 text"),
        (["tag", "a", "--run={other}"], "error: config: got unknown window, expected"),
        (["tag", "a", "--run={mixed}"], "error: vocabulary: got something else than a tagger's"),
        (["train", "--data.source=path", "--run={tmp}"], "error: path: got None with source='path"),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={run}", "--batch-size=5"],
            "error: config: the run in {run} was made with another one: batch_size was 8, now 5",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--model.recurrence=lstn"],
            "error: recurrence: got 'lstn', expected one of elman",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--model.plan=fast"],
            "error: plan: got 'fast', expected one of auto, reference",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--bucket-growth=1"],
            "error: bucket_growth: got 1.0, expected above 1",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--model.dropout=1"],
            "error: dropout: got 1.0, expected 0 ≤ dropout < 1",
        ),
        (
            ["train", *SMALL, "--data.path={tmp}", "--run={tmp}"],
            "error: path: got '{tmp}', expected a folder of CoNLL files",
        ),
        (
            ["compare", "--preset=smoke", "--base.data.source=path", "--base.data.path={corpus}",
             "--run={tmp}", "--seeds", "1", "1"],
            "error: seeds: got (1, 1), expected distinct ones, one at least",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(arguments, message, run, corpus, tmp_path, capsys):
    places = {name: tmp_path / name for name in ("empty", "latin", "other", "mixed")}
    places |= {"run": run, "corpus": corpus, "tmp": tmp_path / "new"}
    places["empty"].write_text("\n \n")
    places["latin"].write_bytes("Zoë\n".encode("latin-1"))
    for name in ("other", "mixed"):
        places[name].mkdir()
        (places[name] / "vocabulary.json").write_text('{"tokens": []}')
    (places["other"] / "config.json").write_text('{"window": 8}')
    (places["mixed"] / "config.json").write_text((run / "config.json").read_text())
    with pytest.raises(SystemExit) as stopped:
        experiment.main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    assert not places["tmp"].exists()  # nothing of a run that never began is kept
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(message.format(**places))


def test_unknown_flags_and_presets_are_refused(capsys):
    for arguments in (
        ["train", "--hiden-size=3"],
        ["train", "--preset=fast"],
        ["train", "--model.head=crv"],
        ["walk"],
    ):
        with pytest.raises(SystemExit) as stopped:
            experiment.main(arguments)
        assert stopped.value.code == 2
    assert "fast" in capsys.readouterr().err
