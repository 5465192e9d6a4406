"""The experiment as its user runs it: train, resume, classify, and what it refuses."""

import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import activity_recognition as experiment
from experiments import activity_sensors, activity_video
from experiments.data.recording_rows import AXES

pytestmark = pytest.mark.xdist_group("activity_recognition")  # they share two runs

VIDEO = [
    "train-video", "--preset=smoke", "--data.source=path", "--data.still", "stay",
    "--networks", "recurrent", "--model.recurrence=elman", "--batch-size=16",
    "--optimizer.total-steps=60", "--evaluate-every=30", "--checkpoint-every=30",
    "--model.channels", "8", "--dropout=0", "--strips=1",
]  # fmt: skip
SENSORS = [
    "train-sensors", "--preset=smoke", "--data.source=path", "--model.recurrence=elman",
    "--model.no-bidirectional",
    "--optimizer.total-steps=60", "--evaluate-every=30", "--checkpoint-every=30", "--dropout=0.1",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is computed does not depend on how hard XLA tries; how long compilation takes does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def picture(top, left, size=16):
    image = np.full((size, size, 3), 90, np.uint8)
    image[top : top + 4, left : left + 6] = 230
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def write_clip(folder, action, top, left):
    """A bar that falls by three pixels a frame, or stays."""
    folder.mkdir(parents=True)
    for t in range(4):
        (folder / f"{t}.png").write_bytes(picture(top + 3 * t * (action == "fall"), left))
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for split, count in (("train", 24), ("validation", 6), ("test", 6)):
        for action in ("stay", "fall"):
            for number in range(count):
                top, left = rng.integers(0, (4 if action == "fall" else 13, 11))
                write_clip(root / split / action / str(number), action, top, left)
    return root


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three people who wave slowly or fast, one of them with the left arm."""
    root, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    lines = ["file,subject,side,exercise"]
    for subject, side in (("ann", "right"), ("ben", "right"), ("eve", "left")):
        for exercise, rate in (("slow", 0.5), ("fast", 2.5)):
            name = f"{subject}_{exercise}.csv"
            write_recording(root / name, rate, side, rng)
            lines.append(f"{name},{subject},{side},{exercise}")
    (root / "index.csv").write_text("\n".join(lines) + "\n")
    return root


def write_recording(path, rate, side, rng, seconds=8):
    time = np.arange(seconds * 50) / 50
    wave = np.sin(2 * np.pi * rate * time + rng.uniform(0, 6))
    signal = wave[:, None] * [1, 0.5, 0.2, 1, 0.3, 0.1] + rng.normal(0, 0.1, (len(time), 6))
    if side == "left":
        signal = signal * activity_sensors.MIRROR
    np.savetxt(path, signal, "%.4f", ",", header=",".join(AXES), comments="")
    return path


@pytest.fixture(scope="module")
def video_run(clips, tmp_path_factory, quick_compilation):
    folder = tmp_path_factory.mktemp("video")
    experiment.main([*VIDEO, f"--run={folder}", f"--data.path={clips}"])
    return folder


@pytest.fixture(scope="module")
def sensor_run(recordings, tmp_path_factory, quick_compilation):
    folder = tmp_path_factory.mktemp("sensors")
    experiment.main([*SENSORS, f"--run={folder}", f"--data.path={recordings}"])
    return folder


@pytest.mark.slow
def test_a_run_on_clips_learns_and_leaves_its_record(video_run):
    report = json.loads((video_run / "report.json").read_text())
    assert report["classes"] == ["fall", "stay", "fall, backwards"]
    test = report["networks"]["recurrent"]["parts"]["test"]
    assert test["action_accuracy"] > 0.9
    assert test["direction_accuracy"] > 0.9
    assert np.sum(report["confusion"]["recurrent/test"]) == 2 * report["clips"]["test"] == 24
    page = (video_run / "report.md").read_text()
    assert f"| frames in order | {test['action_accuracy']:.3f} |" in page
    assert f"{report['machine']['cores']} cores" in page
    for name in ("training.png", "scores.png", "confusion.png", "filmstrip.png"):
        assert (video_run / name).read_bytes().startswith(b"\x89PNG"), name


@pytest.mark.slow
def test_a_finished_run_on_clips_is_reported_again_not_trained_again(video_run, clips, capsys):
    log = video_run / "networks" / "recurrent" / "metrics.jsonl"
    before, report = log.read_text(), json.loads((video_run / "report.json").read_text())
    experiment.main([*VIDEO[:-1], "--strips=2", f"--run={video_run}", f"--data.path={clips}"])
    assert "resuming from step 60" in capsys.readouterr().err
    assert log.read_text() == before
    again = json.loads((video_run / "report.json").read_text())
    assert again["networks"] == report["networks"]


@pytest.mark.slow
def test_clips_are_told_and_what_cannot_be_told_is_said(video_run, tmp_path, capsys):
    falling = write_clip(tmp_path / "falling", "fall", 1, 4)
    rising = tmp_path / "rising"
    rising.mkdir()
    for t in range(4):
        (rising / f"{t}.png").write_bytes((falling / f"{3 - t}.png").read_bytes())
    one = tmp_path / "one.png"
    one.write_bytes(picture(5, 5))
    drawn = tmp_path / "strips.png"
    arguments = [f"--run={video_run}", f"--picture={drawn}"]
    experiment.main(["classify-clip", *map(str, (falling, rising, one)), *arguments])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{falling}: fall ")
    assert lines[1].startswith("    shown forwards")
    assert lines[2].startswith(f"{rising}: fall ")
    assert lines[3].startswith("    shown backwards")
    assert lines[4].startswith(f"{one}: stay ")
    assert lines[5] == "    one frame: which way it is shown cannot be told"
    assert lines[6] == "    1 of 4 frames: some are shown again"
    assert drawn.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_without_order_a_network_tells_no_way(clips, tmp_path):
    arguments = [argument for argument in VIDEO if argument not in ("--networks", "recurrent")]
    experiment.main([*arguments, f"--run={tmp_path / 'run'}", f"--data.path={clips}"])
    networks = json.loads((tmp_path / "run" / "report.json").read_text())["networks"]
    for name in (activity_video.SINGLE, activity_video.BAG):
        assert networks[name]["parts"]["test"]["direction_accuracy"] == 0.5
    for name in (activity_video.RECURRENT, activity_video.CONV_LSTM):
        assert networks[name]["parts"]["test"]["direction_accuracy"] > 0.8


def test_a_run_on_recordings_learns_and_leaves_its_record(sensor_run):
    report = json.loads((sensor_run / "report.json").read_text())
    assert [cell["people"] for cell in report["folds"]] == [["ann", "eve"], ["ben"]]
    assert report["scores"][activity_sensors.NETWORK]["accuracy"] > 0.8
    assert report["scores"][activity_sensors.FOREST]["accuracy"] > 0.8
    for cell in report["folds"]:
        counts = np.sum(cell["confusion"][activity_sensors.NETWORK])
        assert counts == cell["windows"] == 7 * 2 * len(cell["people"])
    assert report["published"] == {}  # there are none of these recordings
    page = (sensor_run / "report.md").read_text()
    assert f"| {report['scores'][activity_sensors.FOREST]['accuracy']:.3f} |" in page
    for name in ("training.png", "folds.png", "confusion.png", "signals.png"):
        assert (sensor_run / name).read_bytes().startswith(b"\x89PNG"), name


def test_recordings_are_told_by_their_windows_also_a_short_one(sensor_run, tmp_path, capsys):
    rng = np.random.default_rng(1)
    fast = write_recording(tmp_path / "fast.csv", 2.5, "left", rng)
    short = write_recording(tmp_path / "short.csv", 2.5, "left", rng, seconds=1)
    arguments = [f"--run={sensor_run}", "--side=left"]
    experiment.main(["classify-recording", str(fast), str(short), *arguments])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{fast}: fast, in ")
    assert lines[0].endswith(" of 7 windows of 2 s")
    assert lines[1].startswith(f"{short}: ")
    assert lines[2] == "    1.0 s are less than one window"


def test_a_recording_of_the_left_arm_is_that_of_the_right_one_in_a_mirror():
    """Two arms that move alike: one signal, whichever arm it was. And twice a mirror is none."""
    rng = np.random.default_rng(0)
    right = rng.normal(size=(12, 6)).astype(np.float32)
    left = right * activity_sensors.MIRROR
    of_left = activity_sensors.prepared(left, "left", 3)
    np.testing.assert_allclose(of_left, activity_sensors.prepared(right, "right", 3), rtol=1e-6)
    np.testing.assert_allclose(of_left[0], right[:3].mean(0), rtol=1e-5)
    # A mirror turns arrows round in one axis, and rotations in the two others: ω × r stays true.
    turns, arrow = right[0, 3:], right[1, :3]
    mirrored = np.cross(turns * activity_sensors.MIRROR[3:], arrow * activity_sensors.MIRROR[:3])
    expected = np.cross(turns, arrow) * activity_sensors.MIRROR[:3]
    np.testing.assert_allclose(mirrored, expected, rtol=1e-5)


def test_turning_a_watch_keeps_lengths_and_the_forearm_and_can_be_undone():
    rng = np.random.default_rng(0)
    signals, angles = rng.normal(size=(4, 3, 6)).astype(np.float32), rng.normal(size=3)
    around = activity_sensors.turned(signals, angles)
    for sensor in (slice(0, 3), slice(3, 6)):
        lengths = [np.linalg.norm(one[..., sensor], axis=-1) for one in (around, signals)]
        np.testing.assert_allclose(*lengths, rtol=1e-5)
    np.testing.assert_array_equal(around[..., [0, 3]], signals[..., [0, 3]])
    np.testing.assert_allclose(activity_sensors.turned(around, -angles), signals, atol=1e-5)


def test_a_signal_is_read_between_its_steps_and_each_person_is_held_out_once():
    signal = np.arange(5.0)[:, None] * [1, 10]
    read = activity_sensors.read_at(signal, np.array([0, 0.5, 3.25, 4, 9]))
    np.testing.assert_allclose(read, np.array([0, 0.5, 3.25, 4, 4])[:, None] * [1, 10])
    np.testing.assert_allclose(activity_sensors.read_at(signal[:1], np.array([0, 2])), 0)
    people = [f"{number:02}" for number in range(10)] * 3
    folds = activity_sensors.folds_of(people, 5)
    assert sorted(person for fold in folds for person in fold) == sorted(set(people))
    assert {len(one) for one in folds} == {2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify-clip", "x", "--run=nowhere"], "run: got nowhere, expected the folder of a run"),
        (["classify-clip", "x", "--run={sensors}"], "run: got {sensors}, expected the folder of a"),
        ([*VIDEO, "--data.path={nothing}", "--run={tmp}"], "path: got '{nothing}/train', expected"),
        ([*VIDEO, "--run={tmp}"], "path: got None with source='path'; source='path' needs it"),
        ([*VIDEO, "--data.path={clips}", "--run={tmp}", "--data.still", "swim"], "data.still: got"),
        (
            [*VIDEO, "--data.path={clips}", "--run={tmp}", "--shift=-1"],
            "shift: got -1, expected at",
        ),
        (
            [*VIDEO, "--data.path={clips}", "--run={tmp}", "--networks", "cnn"],
            "networks: got 'cnn'",
        ),
        (["classify-recording", "--run={sensors}"], "files: got none, expected at least one"),
        (
            ["classify-recording", "{empty}", "--run={sensors}"],
            "file: empty.csv is empty, expected",
        ),
        (["classify-recording", "{axes}", "--run={sensors}"], "file: axes.csv has no column wz, "),
        (
            ["classify-recording", "{short}", "--run={sensors}"],
            "signal: got 1 samples, expected at least 5",
        ),
        ([*SENSORS, "--run={tmp}", "--data.path={nothing}"], "path: got '{nothing}', expected a"),
        (
            [*SENSORS, "--run={tmp}", "--data.path={recordings}", "--folds=4"],
            "folds: got 4 for 3 people, expected at most as many",
        ),
        (
            [*SENSORS, "--run={tmp}", "--data.path={recordings}", "--data.seconds=0"],
            "data.seconds: got 0.0, expected at least one step, 0.1 s",
        ),
        (
            [*SENSORS, "--run={tmp}", "--data.path={recordings}", "--model.plan=fast"],
            "plan: got 'fast', expected one of auto, reference",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message, sensor_run, files, capsys):
    refuse(arguments, message, files | {"sensors": sensor_run}, capsys)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify-clip", "--run={video}"], "clips: got none, expected at least one"),
        (
            ["classify-clip", "x", "--run={video}", "--network=conv_lstm"],
            "network: got 'conv_lstm', expected one of recurrent",
        ),
        (["classify-clip", "x", "--run={video}", "--picture=a.jpg"], "picture: got 'a.jpg'"),
        (["classify-clip", "{empty}", "--run={video}"], "clip empty.csv is an empty file"),
        (["classify-clip", "{nothing}", "--run={video}"], "clip nothing: got no frame, expected"),
        (["classify-clip", "{unequal}", "--run={video}"], "clip unequal: frame 2 has 8 × 8 pixels"),
        (["classify-clip", "{short}", "--run={video}"], "clip short.csv is no image that Pillow"),
        (
            [*VIDEO, "--data.path={clips}", "--run={video}", "--batch-size=4"],
            "config: the run in {video} was made with another one: batch_size was 16, now 4",
        ),
        (
            ["classify-recording", "x", "--run={video}"],
            "run: got {video}, expected the folder of a finished run of `train-sensors`",
        ),
    ],
)
def test_bad_input_to_a_run_on_clips_is_one_line(arguments, message, video_run, files, capsys):
    refuse(arguments, message, files | {"video": video_run}, capsys)


@pytest.fixture
def files(clips, recordings, tmp_path):
    """Places by name: what is there, what is broken, and "tmp", which is not there."""
    places = {"clips": clips, "recordings": recordings}
    places |= {name: tmp_path / f"{name}.csv" for name in ("empty", "axes", "short")}
    places |= {name: tmp_path / name for name in ("nothing", "unequal", "tmp")}
    places["empty"].touch()
    places["axes"].write_text("ax,ay,az,wx,wy\n1,2,3,4,5\n")
    places["short"].write_text("ax,ay,az,wx,wy,wz\n1,2,3,4,5,6\n")
    places["nothing"].mkdir()
    places["unequal"].mkdir()
    for name, size in (("1.png", 16), ("2.png", 8)):
        (places["unequal"] / name).write_bytes(picture(0, 0, size))
    return places


def refuse(arguments, message, places, capsys):
    with pytest.raises(SystemExit) as stopped:
        experiment.main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    assert not places["tmp"].exists()  # nothing of a run that never began is kept
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: " + message.format(**places))


def test_unknown_flags_and_presets_are_refused_and_help_shows_the_others(capsys):
    for arguments in (
        ["train-video", "--frame-size=3"],
        ["train-sensors", "--preset=fast"],
        ["classify-recording", "x", "--side=both"],
    ):
        with pytest.raises(SystemExit) as stopped:
            experiment.main(arguments)
        assert stopped.value.code == 2
    capsys.readouterr()
    for command, flags in (
        ("train-video", ("--data.frames", "--networks", "--shift", "--model.conv-lstm-channels")),
        ("train-sensors", ("--folds", "--data.hop", "--turn", "--model.pooling")),
    ):
        with pytest.raises(SystemExit) as stopped:
            experiment.main([command, "--help"])
        assert stopped.value.code == 0
        text = capsys.readouterr().out
        assert all(flag in text for flag in flags), command
