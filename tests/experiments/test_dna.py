"""The experiment as its user runs it: train, resume, classify, label; and what it refuses."""

import json
import random

import jax
import numpy as np
import pytest
from support.genbank import genbank

from experiments import dna as experiment
from experiments.dna_pages import ONE_DIRECTION
from experiments.equal_parameters import parameter_count
from rnnjax.models.window_network import init_window_network

pytestmark = pytest.mark.xdist_group("dna")  # they share runs

LENGTH = 20


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is asked here does not depend on how hard XLA tries; how long it takes does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


SMALL = ["--preset=smoke", "--data.source=path", "--log-every=10", "--evaluate-every=20"]


def _bases(rng, count):
    return "".join(rng.choice("ACGT") for _ in range(count))


def _junction(rng, label):
    """As junctions are: GT behind an exon, AG before one."""
    left, right = _bases(rng, LENGTH // 2 - 2), _bases(rng, LENGTH // 2 - 2)
    return left + {"EI": "CAGT", "IE": "AGCA", "N": "CCCC"}[label] + right


@pytest.fixture(scope="module")
def junctions(tmp_path_factory):
    """A file of UCI's form."""
    rng = random.Random(0)
    rows = [
        f"{label},  X-{number},   {_junction(rng, label)}\n"
        for number, label in enumerate(("EI", "IE", "N") * 100)
    ]
    path = tmp_path_factory.mktemp("junctions") / "splice.data"
    path.write_text("".join(rows))
    return path


@pytest.fixture(scope="module")
def splice_run(junctions, tmp_path_factory):
    """A finished run of task=splice."""
    folder = tmp_path_factory.mktemp("splice")
    experiment.main(
        ["train", *SMALL, f"--data.path={junctions}", f"--run={folder}",
         "--optimizer.total-steps=200"]
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def genome_file(tmp_path_factory):
    """A GenBank file whose genes are of few codons, on both strands by turns."""
    rng, letters, locations, place = random.Random(0), [], [], 0
    for number in range(60):
        gap, size = 20, 3 * rng.randrange(15, 25)
        gene = "".join(rng.choice(("AAG", "GAA", "GCT")) for _ in range(size // 3))
        begin, end = place + gap + 1, place + gap + size
        letters += [_bases(rng, gap), gene if number % 2 else gene[::-1].translate(_PAIRS)]
        locations.append(f"{begin}..{end}" if number % 2 else f"complement({begin}..{end})")
        place = end
    path = tmp_path_factory.mktemp("genome") / "tiny.gbk"
    path.write_text(genbank("".join(letters), locations))
    return path


_PAIRS = str.maketrans("ACGT", "TGCA")


@pytest.fixture(scope="module")
def genome_run(genome_file, tmp_path_factory):
    """A finished run of task=genome."""
    folder = tmp_path_factory.mktemp("genome_run")
    experiment.main(
        ["train", *SMALL, "--task=genome", f"--data.path={genome_file}", f"--run={folder}",
         "--model.stride=3",
         "--optimizer.total-steps=60"]
    )  # fmt: skip
    return folder


def test_a_run_learns_finds_the_junctions_and_leaves_its_record(splice_run):
    report = json.loads((splice_run / "report.json").read_text())
    baselines = report["baselines"]["test"]
    assert report["test"]["accuracy"] > max(0.8, baselines[experiment.MAJORITY])
    assert set(baselines) == {experiment.MAJORITY, experiment.KMERS, experiment.POSITIONS}
    assert np.sum(report["confusion"]) == report["sequences"]["test"]
    strongest = {(one["place"], one["base"]) for one in report["gradients"]["EI"]}
    assert strongest & {(1, "G"), (2, "T")}
    page = (splice_run / "report.md").read_text()
    assert f"| {experiment.THIS} | {report['test']['accuracy']:.1%} |" in page
    assert report["seconds"] > 0
    for picture in ("gradients.png", "training.png"):
        assert (splice_run / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_finished_run_is_reported_again_not_trained_again(splice_run, junctions, capsys):
    before = (splice_run / "metrics.jsonl").read_text()
    experiment.main(
        ["train", *SMALL, f"--data.path={junctions}", f"--run={splice_run}",
         "--optimizer.total-steps=200"]
    )  # fmt: skip
    assert "resuming from step 200" in capsys.readouterr().err
    assert (splice_run / "metrics.jsonl").read_text() == before


def test_sequences_are_classified(splice_run, tmp_path, capsys):
    rng, labels = random.Random(1), ("EI", "IE", "N") * 5
    path = tmp_path / "some.fasta"
    path.write_text(
        "".join(f">{n}\n{_junction(rng, label).lower()}\n" for n, label in enumerate(labels))
    )
    experiment.main(["classify", str(path), f"--run={splice_run}"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(n) for n in range(len(labels))]
    told = [line.split("\t")[1] for line in lines]
    assert np.mean([a == b for a, b in zip(told, labels, strict=True)]) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("task", ["splice", "genome"])
def test_one_direction_is_trained_and_reported(task, junctions, genome_file, tmp_path):
    path = junctions if task == "splice" else genome_file
    experiment.main(
        ["train", *SMALL, f"--task={task}", f"--data.path={path}", f"--run={tmp_path}",
         "--one-direction"]
    )  # fmt: skip
    report = json.loads((tmp_path / "report.json").read_text())
    scores = report["one_direction"] if task == "splice" else report["scores"][ONE_DIRECTION]
    assert 0 < scores["accuracy"] <= 1
    assert (tmp_path / "one_direction" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_a_genome_is_learned_beside_its_baselines(genome_run):
    report = json.loads((genome_run / "report.json").read_text())
    scores = report["scores"]
    assert scores[experiment.THIS]["accuracy"] > scores[experiment.MAJORITY]["accuracy"]
    assert scores[experiment.HIDDEN_MARKOV]["accuracy"] > 0.95
    assert experiment.HEXAMERS in scores
    assert experiment.GLIMMER not in scores  # nobody ran it on this file
    assert (genome_run / "genome.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_sequences_are_labelled_short_and_long_and_written(genome_run, tmp_path, capsys):
    rng = random.Random(2)
    gene = "".join(rng.choice(("AAG", "GAA", "GCT")) for _ in range(60))
    path, output = tmp_path / "some.fasta", tmp_path / "some.gff"
    path.write_text(f">short\n{gene[:90]}\n>long other\n{gene}NN{gene[::-1].translate(_PAIRS)}\n")
    experiment.main(
        ["label", str(path), f"--run={genome_run}", f"--output={output}", "--shortest=30"]
    )
    printed = capsys.readouterr().out
    assert "short: 90 bases" in printed
    assert "long: 362 bases" in printed
    header, *lines = output.read_text().splitlines()
    assert header == "##gff-version 3"
    rows = [line.split("\t") for line in lines]
    assert {row[0] for row in rows} == {"short", "long"}
    for row in rows:
        assert int(row[4]) - int(row[3]) + 1 >= 30
        assert 0 < float(row[5]) <= 1
    strands = {row[6] for row in rows if row[0] == "long"}
    assert strands == {"+", "-"}


def test_in_one_direction_there_are_as_many_parameters():
    both = experiment.PRESETS["smoke"].model

    def count(model):
        config = experiment.model_config(model, "genome", 3)
        return parameter_count(lambda key: init_window_network(key, config))

    one = experiment.in_one_direction(both, "genome", 3)
    assert not one.bidirectional
    assert count(one) == pytest.approx(count(both), rel=0.05)


def test_stretches_are_runs_of_one_strand():
    labels = np.asarray([0, 1, 1, 1, 2, 2, 0, 1])
    probabilities = np.where(np.eye(3)[labels] == 1, 0.8, 0.1)
    found = experiment.stretches("x", probabilities, 2)
    assert [one[:4] for one in found] == [("x", 2, 4, "+"), ("x", 5, 6, "-")]
    assert found[0].probability == pytest.approx(0.8)


def test_the_other_strand_is_read_with_its_labels():
    strands = "+" * 6 + "-" * 4 + "." * 8 + "*" * 2
    sequence = "".join(random.Random(0).choice("ACGT") for _ in strands)
    region = experiment.Region(0, sequence, strands, "." * 20, "")
    batch = experiment.make_pieces_at(region, 40, 20, seed=0)(0)
    inputs, labels_of, weights_of = map(np.asarray, (batch.inputs, batch.labels, batch.weights))
    letters = ["".join("ACGT"[k] for k in row) for row in inputs.argmax(-1).T]
    other = sequence[::-1].translate(_PAIRS)
    assert set(letters) == {sequence, other}
    for row, read in enumerate(letters):
        labels, weights = labels_of[:, row], weights_of[:, row]
        if read == other:
            labels, weights = np.asarray([0, 2, 1])[labels[::-1]], weights[::-1]
        assert (labels == region.labels).all()
        assert (weights == region.counted).all()


def test_accuracy_is_told_apart_by_the_bases_behind_a_change():
    region = experiment.Region(0, "A" * 100, "+" * 50 + "." * 50, "." * 100, "")
    told = region.labels.copy()
    told[50:60] = 1  # ten bases late
    assert experiment.accuracy_after_changes(told, region) == {
        "1 … 30": pytest.approx(50 / 60), "31 … 100": 1.0,
    }  # fmt: skip


@pytest.mark.slow
def test_every_sequence_is_left_out_once(tmp_path, capsys):
    rng = random.Random(3)
    rows = [f"+,a{n},\t{_bases(rng, 6)}TATAAT{_bases(rng, 3)}\n" for n in range(8)]
    rows += [f"-,b{n},\t{_bases(rng, 6)}GCGCGC{_bases(rng, 3)}\n" for n in range(8)]
    (tmp_path / "promoters.data").write_text("".join(rows))
    folder = tmp_path / "run"
    experiment.main(
        ["promoters", "--preset=smoke", "--source=path", f"--path={tmp_path}", f"--run={folder}",
         "--optimizer.total-steps=30"]
    )  # fmt: skip
    report = json.loads((folder / "report.json").read_text())
    assert report["sequences"] == 16
    assert report["test"]["errors"] == len(report["wrong"]) <= 4
    assert report["baselines"]["test"][experiment.POSITIONS] > 0.8
    assert "errors of 16" in capsys.readouterr().out
    assert (folder / "gradients.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("command", "content", "message"),
    [
        ("classify", "", "file: '{file}' is empty, expected at least one record, '>name'"),
        ("classify", ">a\nACGT\n", "record 'a': got 4 bases, expected at least 20"),
        ("classify", ">a\n" + "A" * 21, "record 'a': got 21 bases, expected 20: 10 before"),
        ("classify", ">a\n" + "AX" * 10, "record 'a': got 'X' at place 2, expected letters of"),
        ("classify", "ACGT", "file: '{file}' begins with 'ACGT', expected '>name'"),
        ("label", "", "file: '{file}' is empty, expected at least one record, '>name'"),
        ("label", ">a\n" + "A" * 89, "record 'a': got 89 bases, expected at least 90"),
        ("label", ">a\n" + "A-" * 90, "record 'a': got '-' at place 2, expected letters of"),
        ("label", None, "[Errno 2] No such file or directory: '{file}'"),
    ],
)
def test_bad_files_are_one_line(
    command, content, message, splice_run, genome_run, tmp_path, capsys
):
    file = tmp_path / "x.fasta"
    if content is not None:
        file.write_text(content)
    run = splice_run if command == "classify" else genome_run
    with pytest.raises(SystemExit) as stopped:
        experiment.main([command, str(file), f"--run={run}"])
    assert stopped.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"error: {message.format(file=file)}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "x.fasta", "--run=nowhere"], "run: got nowhere, expected the folder of a"),
        (["classify", "x.fasta", "--run={genome}"], "run: got {genome}, of task genome, expected"),
        (["label", "x.fasta", "--run={splice}"], "run: got {splice}, of task splice, expected one"),
        (["label", "x.fasta", "--output=x.txt"], "output: got 'x.txt', expected a name ending in"),
        (["label", "x.fasta", "--shortest=0"], "shortest: got 0, expected an integer of at least"),
        (["train", "--task=genome", "--data.source=hub"], "data.source: got 'hub' with task="),
        (["train", "--dropout=1"], "dropout: got 1.0"),
        (["train", "--piece=2"], "piece: got 2, expected at least 8"),
        (["train", "--model.plan=fast"], "plan: got 'fast', expected one of auto, reference"),
        (["train", "--model.answer=each"], "model.answer: got 'each', expected one that says how"),
        (["train", "--data.source=path"], "path: got None with source='path'"),
        (["train", *SMALL, "--data.path={junctions}", "--run={splice}", "--seed=1"],
         "config: the run in {splice} was made with another one: "),
        (["promoters", "--seeds=0"], "seeds: got 0, expected an integer of at least 1"),
        (["promoters", "--dropout=-1"], "dropout: got -1.0"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    arguments, message, splice_run, genome_run, junctions, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    places = {"splice": splice_run, "genome": genome_run, "junctions": junctions}
    with pytest.raises(SystemExit) as stopped:
        experiment.main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    assert list(tmp_path.iterdir()) == []  # nothing of a run that never began is kept
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"error: {message.format(**places)}")
