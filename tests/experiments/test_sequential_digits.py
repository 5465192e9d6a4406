"""The experiment as its user runs it: train, resume, classify, compare, and what it refuses."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from PIL import Image
from support.made_up_digits import made_up_digits, write_mnist_files

from experiments import sequential_digits as experiment
from experiments.sequential_digits import Group, Reading

pytestmark = pytest.mark.xdist_group("sequential_digits")  # they share one run

SMALL = ["--preset=smoke", "--data.source=path"]
PNG = b"\x89PNG"


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is computed does not depend on how hard XLA tries; how long compilation takes does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with 264 made up digits to learn from, 24 for validation and 60 for the test."""
    folder = tmp_path_factory.mktemp("digits")
    write_mnist_files(folder, made_up_digits(288, seed=0), made_up_digits(60, seed=1))
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory, quick_compilation):
    """A finished run of 60 steps, row by row."""
    folder = tmp_path_factory.mktemp("run")
    experiment.main(["train", *SMALL, f"--run={folder}", f"--data.path={data}"])
    return folder


def test_a_run_learns_and_leaves_its_record(run):
    report = json.loads((run / "report.json").read_text())
    assert report["test"]["accuracy"] > 0.9
    assert set(report["baselines"]) == {
        experiment.NEIGHBOURS, experiment.LOGISTIC, experiment.ONE_TO_ONE,
    }  # fmt: skip
    for score in report["baselines"].values():
        assert score["accuracy"] > 0.9
        assert score["count"] == 60
    assert report["published"] == {}  # there is nothing published of these
    page = (run / "report.md").read_text()
    low, high = report["test"]["interval"]
    cell = f"{report['test']['accuracy']:.3f} ({low:.3f} … {high:.3f})"
    assert f"| this network | {cell} | " in page
    assert "row by row, T = 28, in order" in " ".join(page.split())
    for name in ("training.png", "sequences.png", "verdicts.png"):
        assert (run / name).read_bytes().startswith(PNG)


@pytest.mark.slow
def test_the_finished_run_is_reported_again_not_trained_again(run, data, capsys):
    before = (run / "metrics.jsonl").read_text()
    experiment.main(["train", *SMALL, f"--run={run}", f"--data.path={data}", "--shown=0"])
    printed = capsys.readouterr()
    assert "resuming from step 60" in printed.err
    assert "| this network |" in printed.out
    assert (run / "metrics.jsonl").read_text() == before


def test_images_of_all_kinds_are_told(run, tmp_path, capsys):
    """Light on dark, dark on light, in colours, with a transparent ground, of one bit."""
    (image,), (label,) = made_up_digits(1, seed=7)
    ink = np.where(image > 100, np.uint8(255), np.uint8(0))
    plain, turned = tmp_path / "plain.png", tmp_path / "turned.png"
    Image.fromarray(image).save(plain)
    Image.fromarray(255 - image).convert("RGB").save(turned)
    clear, bits = tmp_path / "clear.png", tmp_path / "bits.png"
    Image.fromarray(np.dstack([ink, ink, ink, ink])).save(clear)
    Image.fromarray(ink).convert("1").save(bits)
    picture = tmp_path / "verdicts.png"
    light = [str(path) for path in (plain, clear, bits)]
    experiment.main(["classify", *light, f"--run={run}", f"--picture={picture}"])
    lines = capsys.readouterr().out.splitlines()
    for line, path in zip(lines, light, strict=False):
        assert line.startswith(f"{label} ")
        assert line.endswith(path)
    assert picture.read_bytes().startswith(PNG)
    experiment.main(["classify", str(turned), f"--run={run}", "--dark-on-light"])
    assert capsys.readouterr().out.split()[:2] == lines[0].split()[:2]
    experiment.main(["classify", str(turned), f"--run={run}"])
    assert "perhaps --dark-on-light?" in capsys.readouterr().out


@pytest.mark.slow
def test_recurrences_are_compared_and_what_is_done_is_kept(run, data, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "baselines.json").write_bytes((run / "baselines.json").read_bytes())
    arguments = ["compare", *SMALL, f"--data.path={data}", f"--run={folder}"]
    arguments += ["--short.recurrences", "elman"]
    experiment.main(arguments)
    first = capsys.readouterr()
    summary = json.loads((folder / "report.json").read_text())
    points = [tuple(record["point"].values()) for record in summary["points"]]
    assert sorted(points) == sorted(
        (place, name, permuted, 0)
        for place, name in (("short", "elman"), ("long", "min_gru"))
        for permuted in (False, True)
    )
    for record in summary["points"]:
        wanted = summary["config"][record["point"]["place"]]["parameters"]
        assert abs(record["parameters"] / wanted - 1) < experiment.WITHIN
        if record["point"]["place"] == "short":
            assert record["curve"][-1]["cross_entropy"] < record["curve"][0]["cross_entropy"]
        low, high = record["test"]["interval"]
        assert f"{record['test']['accuracy']:.3f} ({low:.3f} … {high:.3f})" in first.out
    page = (folder / "report.md").read_text()
    assert "No network was trained with several seeds." in page
    for name in ("accuracies.png", "curves.png"):
        assert (folder / name).read_bytes().startswith(PNG)

    # A kill may cut the last line short; its network is trained again, the others are not.
    lines = (folder / experiment.POINTS).read_text().splitlines(keepends=True)
    (folder / experiment.POINTS).write_text("".join(lines[:-1]) + lines[-1][:40])
    experiment.main(arguments)
    again = capsys.readouterr()
    assert "network 1 of 1" in again.err
    scores = [[r["test"] for r in s["points"]] for s in (summary, _report(folder))]
    assert scores[0] == scores[1]


def _report(folder):
    return json.loads((folder / "report.json").read_text())


def test_a_sequence_holds_the_image_in_its_order():
    images, _ = made_up_digits(3, seed=0)
    flat = images.reshape(3, 784) / 255
    pixels = experiment.as_sequences(images, Reading("pixels"))
    assert pixels.shape == (784, 3, 1)
    np.testing.assert_allclose(pixels[..., 0].T, flat, rtol=1e-6)
    rows = experiment.as_sequences(images, Reading("rows"))
    np.testing.assert_allclose(rows.swapaxes(0, 1), images / 255, rtol=1e-6)
    averages = experiment.as_sequences(images, Reading("averages"))
    assert averages.shape == (196, 3, 1)
    np.testing.assert_allclose(averages[15, 1, 0], images[1, 2:4, 2:4].mean() / 255, rtol=1e-6)
    permuted = Reading("pixels", permuted=True, order_seed=1)
    order = experiment.order_of(permuted)
    assert sorted(order) == list(range(784))
    found = experiment.as_sequences(images, permuted)
    np.testing.assert_array_equal(found[..., 0].T, pixels[order, :, 0].T)
    # The same order for all images, and by rows what pixel by pixel comes one after the other.
    by_rows = experiment.as_sequences(images, replace(permuted, step="rows"))
    np.testing.assert_array_equal(by_rows.swapaxes(0, 1).reshape(3, 784), found[..., 0].T)
    assert not np.array_equal(order, experiment.order_of(replace(permuted, order_seed=2)))


def test_each_digit_stands_in_an_epoch_once():
    digits = experiment.Digits(*made_up_digits(23, seed=0))
    batches = experiment.training_batches(digits, Reading("rows"), 5, seed=0)
    assert batches.per_epoch == 4
    epochs = []
    for epoch in range(2):
        xs = np.concatenate([batch.inputs for batch in batches.epoch(epoch)], axis=1)
        images = np.rint(xs.swapaxes(0, 1) * 255).astype(np.uint8)
        places = [
            next(n for n, one in enumerate(digits.images) if np.array_equal(one, image))
            for image in images
        ]
        assert len(set(places)) == 20
        epochs.append(places)
    assert epochs[0] != epochs[1]


def test_an_interval_is_wilsons():
    found = experiment.shares(8, 10)
    z, p = 1.959964, 0.8
    middle = (p + z**2 / 20) / (1 + z**2 / 10)
    half = z / (1 + z**2 / 10) * np.sqrt(p * 0.2 / 10 + z**2 / 400)
    assert found["interval"] == pytest.approx([middle - half, middle + half], abs=1e-6)
    p = np.array([[0.1, 0.9], [0.5, 0.5], [0.7, 0.3]])
    found = experiment.scores(np.log(p), np.array([1, 1, 0]))
    assert (found["right"], found["count"]) == (2, 3)
    assert found["cross_entropy"] == pytest.approx(-np.log([0.9, 0.5, 0.7]).mean())
    with np.errstate(divide="ignore"):
        impossible = experiment.scores(np.log(np.array([[1.0, 0.0]])), np.array([1]))
    assert impossible["cross_entropy"] is None


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("demo", ("lstm_projected", "lru")),
        *(pytest.param(preset, None, marks=pytest.mark.slow) for preset in ("demo", "full")),
    ],
)
def test_all_have_about_as_many_parameters(preset, names):
    config = experiment.COMPARISONS[preset]
    of_group = experiment.check_comparison(config)
    for place in ("short", "long"):
        for name in names or of_group[place]:
            experiment.fitting_network(config, place, name)  # refuses what is too far off


def test_several_seeds_are_of_the_recurrence_that_is_repeated():
    config = replace(
        experiment.COMPARISONS["smoke"],
        short=Group("rows", ("elman", "gru"), 3000, 1, 1, 1e-3),
        long=Group("pixels", (), 3000, 1, 1, 1e-3),
        repeated="gru",
        seeds=2,
        seed=3,
    )
    points = experiment.points_of(config, experiment.check_comparison(config))
    assert [tuple(point)[1:] for point in points] == [
        ("elman", False, 3), ("elman", True, 3), ("gru", False, 3), ("gru", True, 3),
        ("gru", False, 4), ("gru", True, 4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "--run={run}"], "images: got none, expected at least one file"),
        (["classify", "{tmp}/none.png", "--run={run}"], "images: got '{tmp}/none.png', expected a"),
        (["classify", "{tmp}/empty.png", "--run={run}"], "images: got '{tmp}/empty.png', an empty"),
        (
            ["classify", "{tmp}/text.png", "--run={run}"],
            "images: got '{tmp}/text.png', which is no",
        ),
        (["classify", "{tmp}/half.png", "--run={run}"], "images: got '{tmp}/half.png' damaged ("),
        (
            ["classify", "{tmp}/wide.png", "--run={run}"],
            "images: got '{tmp}/wide.png' of 30 × 28 pixels, expected 28 × 28",
        ),
        (
            ["classify", "{tmp}/deep.png", "--run={run}"],
            "images: got '{tmp}/deep.png' of mode I;16",
        ),
        (["classify", "{tmp}/blank.png", "--run={run}"], "images: got '{tmp}/blank.png' without a"),
        (["classify", "{tmp}/good.png", "--run=nowhere"], "run: got nowhere, expected the folder"),
        (["classify", "{tmp}/good.png", "--run={foreign}"], "config: got unknown window, expected"),
        (
            ["classify", "{tmp}/good.png", "--run={run}", "--picture=a.jpg"],
            "picture: got 'a.jpg', expected a name ending in .png",
        ),
        (["train", *SMALL, "--run={new}"], "path: got None with source='path'"),
        (
            ["train", *SMALL, "--run={new}", "--data.path={tmp}"],
            "path: got '{tmp}' without train-images-idx3-ubyte",
        ),
        (
            ["train", *SMALL, "--run={new}", "--data.path={data}", "--batch-size=265"],
            "batch_size: got 265, expected at most 264, the digits",
        ),
        (
            ["train", *SMALL, "--run={new}", "--data.path={data}", "--model.recurrence=lstn"],
            "recurrence: got 'lstn', expected one of elman",
        ),
        (
            ["train", *SMALL, "--run={new}", "--data.path={data}", "--model.plan=fast"],
            "plan: got 'fast', expected one of auto, reference",
        ),
        (
            ["train", *SMALL, "--run={new}", "--data.path={data}", "--shown=-1"],
            "shown: got -1, expected at least 0",
        ),
        (
            ["train", *SMALL, "--run={new}", "--data.path={data}", "--reading.order-seed=-1"],
            "order_seed: got -1, expected at least 0",
        ),
        (
            ["train", *SMALL, "--run={run}", "--data.path={data}", "--batch-size=5"],
            "config: the run in {run} was made with another one: batch_size was 32, now 5",
        ),
        (
            ["compare", *SMALL, "--run={new}", "--short.recurrences", "lstn"],
            "short.recurrences: got 'lstn', expected some of elman, ",
        ),
        (
            ["compare", *SMALL, "--run={new}", "--long.recurrences", "conv_lstm_1d"],
            "long.recurrences: got 'conv_lstm_1d', expected some of elman, ",
        ),
        (
            ["compare", *SMALL, "--run={new}", "--long.recurrences", "gru", "gru"],
            "long.recurrences: got gru, gru, expected each once",
        ),
        (
            ["compare", *SMALL, "--run={new}", "--short.parameters=20"],
            "short.parameters: got 20, which elman meets by ",
        ),
        (["compare", *SMALL, "--run={new}", "--repeated=rnn"], "repeated: got 'rnn', expected one"),
        (["compare", *SMALL, "--run={new}", "--short.training-steps=0"], "short.training_steps: "),
        (["compare", *SMALL, "--run={new}", "--seed=-2"], "seed: got -2, expected at least 0"),
    ],
)
def test_bad_input_is_one_line(arguments, message, run, data, tmp_path, capsys):
    (image,), _ = made_up_digits(1, seed=7)
    Image.fromarray(image).save(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("a seven")
    content = (tmp_path / "good.png").read_bytes()
    (tmp_path / "half.png").write_bytes(content[: len(content) // 2])
    Image.new("L", (30, 28)).save(tmp_path / "wide.png")
    Image.fromarray(image.astype(np.uint16)).save(tmp_path / "deep.png")
    Image.new("L", (28, 28), 9).save(tmp_path / "blank.png")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text('{"window": 3}')
    places = {"run": run, "data": data, "tmp": tmp_path, "foreign": tmp_path / "foreign"}
    places["new"] = tmp_path / "new"
    with pytest.raises(SystemExit) as stopped:
        experiment.main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    assert not places["new"].exists()  # nothing of a run that never began is kept
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"error: {message.format(**places)}")


def test_unknown_flags_are_refused(capsys):
    for arguments in (
        ["train", "--hiden-size=3"],
        ["train", "--reading.step=columns"],
        ["compare", "--preset=fast"],
    ):
        with pytest.raises(SystemExit) as stopped:
            experiment.main(arguments)
        assert stopped.value.code == 2
    capsys.readouterr()
