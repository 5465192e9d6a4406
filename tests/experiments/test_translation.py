"""The experiment as its user runs it: train, resume, translate, evaluate, and what it refuses."""

import json
import random

import jax
import numpy as np
import pytest

from experiments import translation as experiment
from experiments import translator
from experiments.subwords import Languages, learn_subwords
from experiments.translation_pages import draw_by_length

pytestmark = pytest.mark.xdist_group("translation")  # they share one run

SMALL = [
    "--preset=smoke", "--data.source=path", "--model.recurrence=elman", "--model.plan=reference",
    "--model.dropout=0", "--model.no-bidirectional", "--batch-size=16", "--evaluate-every=120",
    "--checkpoint-every=120", "--log-every=20", "--decoding.beam-width=1",
    "--data.vocabulary-size=60", "--optimizer.total-steps=240",
]  # fmt: skip
NOUNS = {"casa": "house", "mesa": "table", "luna": "moon", "rosa": "rose"}
ADJECTIVES = {"roja": "red", "blanca": "white", "negra": "black", "alta": "high"}


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """What is computed does not depend on how hard XLA tries; how long the tests take does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def pair(rng):
    """A noun and what it is like, which stand the other way round in the other language."""
    noun, adjective = rng.choice(list(NOUNS)), rng.choice(list(ADJECTIVES))
    return f"the {ADJECTIVES[adjective]} {NOUNS[noun]}.", f"la {noun} {adjective}."


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Sentences of three words, which a small network learns in no time."""
    rng, folder = random.Random(0), tmp_path_factory.mktemp("corpus")
    for split, count in (("train", 300), ("val", 30)):
        pairs = [pair(rng) for _ in range(count)]
        for language, texts in zip(("en", "es"), zip(*pairs, strict=True), strict=True):
            (folder / f"{split}.{language}").write_text("\n".join(texts) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A finished run of 240 steps."""
    folder = tmp_path_factory.mktemp("run")
    experiment.main(["train", *SMALL, f"--run={folder}", f"--data.path={corpus}"])
    return folder


def test_a_run_learns_and_leaves_its_record(run):
    report = json.loads((run / "report.json").read_text())
    assert report["split"] == "validation"
    greedy = report["decodings"]["greedy"]
    # The order of words is what it is about: word by word it comes out wrong.
    assert greedy["bleu"] == report["validation"]["bleu"] > 60
    assert report["baseline_scores"][experiment.BY_WORD]["bleu"] < 30
    assert set(report["baselines"]["validation"]) == {experiment.BY_WORD, experiment.NEAREST}
    assert [row["from"] for row in report["by_length"]["this model"]] == [1]
    assert report["by_length"]["this model"][0]["pairs"] == 30
    page = (run / "report.md").read_text()
    assert f"| this model, greedy | {greedy['bleu']:.1f} |" in page
    assert f"{report['machine']['cores']} cores" in page
    assert all(one["true"] in page for one in report["samples"])
    for picture in ("training.png", "bleu_by_length.png", "attention.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_finished_run_is_reported_again_not_trained_again(run, corpus, capsys):
    before = (run / "metrics.jsonl").read_text()
    experiment.main(["train", *SMALL, f"--run={run}", f"--data.path={corpus}"])
    printed = capsys.readouterr()
    assert "resuming from step 240" in printed.err
    assert "greedy" in printed.out
    assert (run / "metrics.jsonl").read_text() == before


def test_texts_are_translated(run, tmp_path, capsys):
    file = tmp_path / "texts.txt"
    file.write_text("the white table.\n\n", encoding="utf-8")
    picture = tmp_path / "attention.png"
    experiment.main(
        ["translate", f"--file={file}", f"--run={run}", "--beam-width=1", f"--picture={picture}"]
    )
    assert capsys.readouterr().out.splitlines() == ["the white table.", "  la mesa blanca."]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_is_unlike_the_training_part_is_said(run, capsys):
    """A text with unknown letters, and one longer than any that was learned from."""
    translate = ["translate", f"--run={run}", "--beam-width=1"]
    experiment.main([*translate, "the ш house."])
    printed = capsys.readouterr()
    assert "'the ш house.': has letters or marks that the model has not learned" in printed.err
    assert printed.out.splitlines()[1].startswith("  ")
    experiment.main([*translate, " ".join(["the red moon"] * 5)])
    printed = capsys.readouterr()
    assert "15 words, and the longest that the model has learned from are 10" in printed.err
    assert len(printed.out.splitlines()) == 2


def test_a_part_of_the_corpus_is_evaluated(run, corpus, tmp_path, capsys):
    """Also one that the folder that was learned from lacks."""
    for name in ("train", "val"):
        for language in ("en", "es"):
            text = (corpus / f"{name}.{language}").read_text()
            (tmp_path / f"{name}.{language}").write_text(text)
            (tmp_path / f"test.{language}").write_text(text)
    report = json.loads((run / "report.json").read_text())
    experiment.main(
        ["evaluate", f"--run={run}", f"--path={tmp_path}", "--split=test", "--beam-width=1"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "30 sentences of the test part"
    assert lines[3].split()[0] == f"{report['validation']['bleu']:.1f}"


def test_a_model_of_another_vocabulary_is_refused(run, corpus, tmp_path, capsys):
    other = tmp_path / "run"
    other.mkdir()
    for name in ("config.json", "vocabulary.json"):
        (other / name).write_text((run / name).read_text())
    (other / "checkpoints").symlink_to(run / "checkpoints")
    texts = ["x y z"] * 9
    alien = Languages(learn_subwords(texts, 60), learn_subwords(texts, 60))
    (other / "vocabulary.json").write_text(alien.to_json())
    with pytest.raises(SystemExit) as stopped:
        experiment.main(["translate", f"--run={other}", "x y"])
    assert stopped.value.code == 2
    assert "vocabulary" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["translate", "--run=nowhere", "a"], "run: got nowhere, expected the folder of a run"),
        (["translate", "--run={run}"], "texts: got an empty text or none, expected at least"),
        (["translate", "--run={run}", "a", " "], "texts: got an empty text or none"),
        (["translate", "--run={run}", "ш!"], "texts: got 'ш!', without a letter that the model"),
        (
            ["translate", "--run={run}", "a", "--target=fr"],
            "target: got 'fr', expected 'es': the run in {run} translates en into es",
        ),
        (["translate", "--run={run}", "a", "--beam-width=0"], "beam_width: got 0, expected an"),
        (
            ["translate", "--run={run}", "a", "--length-exponent=-1"],
            "length_exponent: got -1.0, expected at least 0",
        ),
        (["translate", "--run={run}", "--file={latin}"], "file: '{latin}' is not UTF-8 text"),
        (["evaluate", "--run={run}"], "split: got 'test', but the corpus has no such part"),
        (
            ["train", *SMALL, "--data.path={corpus}", "--data.target-language=fr", "--run={tmp}"],
            "language: got 'fr', expected one of en, es, those of",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--data.longest-words=2", "--run={tmp}"],
            "data.longest_words: got 2, but no training pair is as short",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--data.vocabulary-size=3", "--run={tmp}"],
            "size: got 3, expected more than the 3 special tokens",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--own-tokens=2", "--run={tmp}"],
            "own_tokens: got 2.0, expected 0 … 1",
        ),
        (
            [
                "train", *SMALL, "--data.path={corpus}", "--model.attention=dot",
                "--model.decoder-hidden-sizes=8", "--run={tmp}",
            ],
            "attention: got 'dot' of the decoder's outputs of size 8",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={run}", "--seed=5"],
            "config: the run in {run} was made with another one: seed was 0, now 5",
        ),
        (
            ["compare", *SMALL, "--data.path={corpus}", "--run={tmp}", "--attentions"],
            "attentions: got (), expected distinct ones of",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(arguments, message, run, corpus, tmp_path, capsys):
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"ma\xf1ana\n")
    places = {"run": run, "corpus": corpus, "tmp": tmp_path / "new", "latin": latin}
    with pytest.raises(SystemExit) as stopped:
        experiment.main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    assert not places["tmp"].exists()  # nothing of a run that never began is kept
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"error: {message.format(**places)}")


def test_each_pair_is_in_one_batch_and_padded_to_its_longer_side():
    texts = ["a b", "a b a b a b", "b", "a b a"]
    others = ["b a b a", "a", "b", "a b a b"]
    learned = Languages(learn_subwords(texts, 10), learn_subwords(others, 10))
    pairs = translator.Pairs(texts, others)
    batches = translator.pair_batches(learned, pairs, batch_size=3, growth=1.2, seed=1)
    assert next(translator.pair_batches(learned, pairs, 4, 2.0, shortest=40).epoch())[0].shape == (
        40, 4,
    )  # fmt: skip
    short = list(translator.pair_batches(learned, pairs, 1, 2.0, longest=3).epoch())
    assert [int(batch.source_lengths.max()) <= 3 for batch in short] == [True]
    with pytest.raises(ValueError, match="longest: got 1, but no pair has as few sub-words"):
        translator.pair_batches(learned, pairs, 1, 2.0, longest=1)
    seen = []
    for batch in batches.epoch():
        assert batch.sources.shape == batch.targets.shape
        longest = max(batch.source_lengths.max(), batch.target_lengths.max())
        assert batch.sources.shape[0] == longest
        for row in np.flatnonzero(batch.weights):
            sizes = batch.source_lengths[row], batch.target_lengths[row]
            ids = batch.sources[: sizes[0], row], batch.targets[: sizes[1], row]
            seen.append(tuple(tuple(side.tolist()) for side in ids))
    assert sorted(seen) == sorted(
        tuple(tuple(side.tolist()) for side in sides)
        for sides in zip(
            *(translator.encoded(one, own) for one, own in zip(learned, pairs, strict=True)),
            strict=True,
        )
    )


def test_bleu_by_length_is_bleu_of_each_bin():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefgh"), n)) for n in [4] * 20 + [9] * 25 + [13] * 3]
    pairs = translator.Pairs(texts, texts)
    rows = translator.bleu_by_length([*texts[:20], *texts[:28]], pairs)
    assert [(row["from"], row["to"], row["pairs"]) for row in rows] == [(1, 5, 20), (6, 10, 25)]
    assert rows[0]["bleu"] == pytest.approx(100)
    assert rows[1]["bleu"] == pytest.approx(translator.scores_of(texts[:25], texts[20:45])["bleu"])
    assert translator.scores_of([texts[0]] * 2, texts[:2])["length"] == pytest.approx(1)


def test_a_picture_of_too_few_sentences_is_empty(tmp_path):
    picture = tmp_path / "picture.png"
    by_length = {name: [] for name in [*experiment.NAMES.values(), "sampled", "by word"]}
    draw_by_length(
        {
            "by_length": by_length,
            "baseline_scores": {"by word": {}},
            "longest_words": 20,
            "split": "test",
        },
        picture,
    )
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_ways_to_decode_are_told_apart():
    names = [one.name for one in translator.decodings_of(translator.Decoding(3, 0.6))]
    assert names == ["greedy", "beam of 3, α = 0", "beam of 3, α = 0.6"]
    assert translator.decodings_of(translator.Decoding(1, 0.6)) == [translator.GREEDY]
    assert len(translator.decodings_of(translator.Decoding(3, 0.0))) == 2


@pytest.mark.slow
def test_attentions_are_compared(corpus, tmp_path, capsys):
    """With a beam, and with scheduled sampling."""
    command = ["compare", *SMALL, f"--data.path={corpus}", f"--run={tmp_path}"]
    command += ["--decoding.beam-width=2", "--optimizer.total-steps=40", "--scheduled-sampling=0.5"]
    command += ["--attentions", "none", "additive", "general"]
    experiment.main(command)
    report = json.loads((tmp_path / "report.json").read_text())
    rows = report["variants"]
    assert list(rows) == [
        "without attention", "additive attention", "multiplicative attention",
        "additive attention, scheduled sampling",
    ]  # fmt: skip
    assert [len(row["decodings"]) for row in rows.values()] == [1, 3, 1, 3]
    parameters = {name: row["parameters"] for name, row in rows.items()}
    assert parameters["without attention"] == min(parameters.values())
    assert set(rows) < set(report["by_length"])
    for picture in ("bleu_by_length.png", "attention.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    experiment.main(command)
    assert capsys.readouterr().err.count("resuming from step 40") == 4
    experiment.main(["translate", f"--run={tmp_path}/none", "the red moon.", "--count=2"])
    assert len(capsys.readouterr().out.splitlines()) == 3
