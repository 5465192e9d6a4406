"""Clips and recordings: read as they are, refused where they are broken, nothing in them run."""

import io
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from experiments.data import clip_folder, recording_files, sprite_clips, watch_recordings
from experiments.data.allowed_pickle import read_object_array
from experiments.data.clip_rows import GROUND, Clip, data_set, decode_clip, split_frames
from experiments.data.recording_rows import AXES

# Pickles


def npy(value, pickled=None):
    """A .npy file of one object; of another pickle, if one is given."""
    stream = io.BytesIO()
    array = np.empty((), object)
    array[()] = value
    np.save(stream, array, allow_pickle=True)
    content = stream.getvalue()
    if pickled is None:
        return content
    return content[: content.index(b"\n") + 1] + pickled


def test_arrays_lists_and_text_come_out_as_they_went_in():
    found = read_object_array(
        npy(
            {
                "X": [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(2, 3))],
                "y": np.array([3, 1], ">i4"),
                "names": np.array(["PEN", "ROW"]),
                "any": (1, None, True, "x", b"y"),
                "objects": np.array([np.ones(2), "z"], object),
            }
        ),
        "a.npy",
    )
    np.testing.assert_array_equal(found["X"][0], np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(found["X"][1], np.eye(2, 3))
    assert found["y"].tolist() == [3, 1]
    assert found["names"].tolist() == ["PEN", "ROW"]
    assert found["any"] == (1, None, True, "x", b"y")
    assert found["objects"][1] == "z"
    assert not isinstance(found["objects"], np.ndarray)


class Hostile:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def test_nothing_that_a_pickle_names_is_run(tmp_path):
    trap = tmp_path / "trap"
    attacks = {
        "posix.system": Hostile(os.system, (f"touch {trap}",)),
        "__builtin__.eval": Hostile(eval, (f"open({str(trap)!r}, 'w')",)),
        "__builtin__.getattr": Hostile(getattr, ("", "join")),
        "numpy.fromfile": Hostile(np.fromfile, ("/etc/hostname", "u1")),
    }
    for name, attack in attacks.items():
        for hidden in (attack, {"X": [np.ones(2), attack]}):
            content = npy(None, pickle.dumps(hidden, protocol=2))
            with pytest.raises(
                ValueError, match=rf"^a\.npy: got a pickle .*it names {name}, which"
            ):
                read_object_array(content, "a.npy")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("pickled", "reason"),
    [
        (b"", "Ran out of input"),
        (b"cnumpy\nndarray\n.", "it has a type"),
        (b"cnumpy\ndtype\n(S'O8'\ntR.", "it has a _DType"),
        (b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", "it has text in 'rot13'"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(I1\nI1\nI1\ntR.", "it begins an array as 1"),
        (b"]\x94(h\x00e.", "cannot be read"),  # a list that holds itself
        (b"\x80\x02}q\x00(X\x01\x00", "cannot be read"),
    ],
)
def test_a_pickle_that_is_no_array_is_refused(pickled, reason):
    with pytest.raises(ValueError, match=r"^a\.npy: got a pickle that cannot be read") as error:
        read_object_array(npy(None, pickled), "a.npy")
    assert reason in str(error.value)


def test_a_file_that_is_no_object_array_is_refused():
    numbers = io.BytesIO()
    np.save(numbers, np.ones(3))
    for content, message in (
        (b"", r"a\.npy: got no \.npy file"),
        (b"\x93NUMPY\x07\x00", r"a\.npy: got no \.npy file"),
        (numbers.getvalue(), r"a\.npy: got an array float64 of shape \(3,\), expected one pickled"),
        (npy(np.ones(3))[:-40], r"a\.npy: got a pickle that cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            read_object_array(content, "a.npy")


# Recordings


def watch(**fields):
    return {
        "X": [np.ones((5, 6)), np.zeros((4, 6))],
        "X_labels": list(AXES),
        "y": np.array([0, 1]),
        "y_labels": ["PEN", "ROW"],
        "subject": np.array([3, 10]),
        "side": np.array([1.0, 0.0]),
    } | fields


def test_recordings_of_the_package_have_names_and_sides():
    first, second = watch_recordings.recordings(watch())
    assert (first.exercise, first.subject, first.side) == ("pendulum", "03", "right")
    assert (second.exercise, second.subject, second.side) == ("upright row", "10", "left")
    assert first.signal.shape == (5, 6)
    with pytest.raises(ValueError, match=r"X_labels: got \('ax', 'ay'\), expected"):
        watch_recordings.recordings(watch(X_labels=["ax", "ay"]))
    with pytest.raises(ValueError, match=r"y_labels: got \['RUN'\], expected some of"):
        watch_recordings.recordings(watch(y_labels=["PEN", "RUN"]))


HEADER = "time,wx,wy,wz,ax,ay,az\n"


def test_files_of_ones_own_are_read_by_the_names_of_their_columns(tmp_path):
    (tmp_path / "index.csv").write_text("file,subject,side,exercise\na.csv,eve,left,row\n")
    (tmp_path / "a.csv").write_text(HEADER + "0,1,2,3,4,5,6\n0.02,7,8,9,10,11,12\n")
    rows = recording_files.load(tmp_path)["recordings"].with_format("numpy")
    assert len(rows) == 1
    row = rows[0]
    np.testing.assert_array_equal(row["signal"], [[4, 5, 6, 1, 2, 3], [10, 11, 12, 7, 8, 9]])
    assert (row["subject"], row["side"]) == ("eve", "left")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "file: a.csv is empty, expected a line of names and then rows"),
        (b"\n \n", "file: a.csv is empty, expected"),
        (b"ax,ay,az,wx,wz\n1,2,3,4,5\n", "file: a.csv has no column wy, expected ax, ay, az, wx,"),
        (HEADER.encode(), "file: a.csv has no row below its line of names"),
        (HEADER.encode() + b"0,1,2,3,4,5\n", "file: a.csv row 2 has 6 fields, expected 7"),
        (HEADER.encode() + b"0,1,2,3,4,5,x\n", "file: a.csv has something else than numbers"),
        (HEADER.encode() + b"0,1,2,3,4,5,nan\n", "file: a.csv line 2 is not finite"),
        ("é".encode("latin-1"), "file: a.csv is not UTF-8 text"),
        (b"\x93NUMPY\x01\x00\x00", "file: a.csv is not UTF-8 text"),
    ],
)
def test_a_broken_recording_is_refused(content, message, tmp_path):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        recording_files.read_signal(tmp_path / "a.csv")


def test_a_broken_index_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a folder with index\.csv"):
        recording_files.load(tmp_path)
    (tmp_path / "index.csv").write_text("file,subject,side,exercise\na.csv,eve,both,row\n")
    with pytest.raises(ValueError, match=r"side: got 'both' in index\.csv line 2, expected one of"):
        recording_files.load(tmp_path)
    (tmp_path / "index.csv").write_text("file,subject,side,exercise\na.csv,eve,left,row\n")
    with pytest.raises(FileNotFoundError, match=r"a\.csv"):
        recording_files.load(tmp_path)


# Clips


def image(size=(4, 4), colour=(255, 0, 0, 255), kind="PNG", **options):
    stream = io.BytesIO()
    mode = "RGBA" if kind == "PNG" else "RGB"
    Image.new(mode, size, colour if mode == "RGBA" else colour[:3]).save(stream, kind, **options)
    return stream.getvalue()


def test_pictures_are_fitted_into_a_square_and_what_is_transparent_is_grey():
    clip = decode_clip([image((8, 4)), image((8, 4), (0, 0, 255, 0))], 4, "a")
    assert clip.shape == (2, 4, 4, 3)
    np.testing.assert_array_equal(clip[0, 1:3], np.broadcast_to([255, 0, 0], (2, 4, 3)))
    for grey in (clip[0, 0], clip[0, 3], clip[1, 1]):
        np.testing.assert_array_equal(grey, np.broadcast_to(GROUND, (4, 3)))
    np.testing.assert_array_equal(decode_clip([image()], 4, "a")[0, 0, 0], [255, 0, 0])
    jpeg = decode_clip([image(kind="JPEG")], 4, "a")[0, 0, 0].astype(int)
    assert np.abs(jpeg - [255, 0, 0]).max() < 5


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "clip a: got no frame, expected at least one"),
        ([b""], "clip a: frame 1 is an empty file, expected an image"),
        ([image(), b"GIF of nothing"], "clip a: frame 2 is no image that Pillow knows"),
        ([image((400, 400))[:200]], "clip a: frame 1 is a damaged image"),
        (
            [image(), image((4, 3))],
            "clip a: frame 2 has 4 × 3 pixels and frame 1 4 × 4, expected one size",
        ),
    ],
)
def test_broken_frames_are_refused(frames, message):
    with pytest.raises(ValueError, match=message):
        decode_clip(frames, 4, "a")


def test_a_picture_that_claims_to_be_huge_is_not_decoded(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"frame 1 is a damaged image .*decompression bomb"):
        decode_clip([image()], 4, "a")


def test_a_file_of_several_frames_is_split():
    frames = [Image.new("RGB", (4, 4), (40 * i, 0, 0)) for i in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    clip = decode_clip(split_frames(stream.getvalue(), "a.gif"), 4, "a.gif")
    assert clip[:, 0, 0, 0].tolist() == [0, 40, 80]
    assert len(split_frames(image(), "a.png")) == 1
    for content, message in ((b"", "is an empty file"), (b"text", "is no image that Pillow knows")):
        with pytest.raises(ValueError, match=f"clip a {message}"):
            split_frames(content, "a")


def test_a_folder_has_a_clip_in_each_folder_and_numbers_count(tmp_path):
    for split in clip_folder.SPLITS:
        for action in ("run", "jump"):
            clip = tmp_path / split / action / "one"
            clip.mkdir(parents=True)
            for number in (10, 9, 1):
                (clip / f"frame{number}.png").write_bytes(image(colour=(number, 0, 0, 255)))
    (tmp_path / "train" / "run" / "one" / ".hidden").write_text("")
    rows = clip_folder.load(tmp_path)
    assert rows["train"].features["action"].names == ["jump", "run"]
    first = rows["test"][0]
    assert decode_clip(first["frames"], 4, "a")[:, 0, 0, 0].tolist() == [1, 9, 10]
    assert first["name"] == "test/jump/one"
    (tmp_path / "test" / "swim").mkdir()
    with pytest.raises(ValueError, match="path: got 'swim' in test, expected one of train, jump"):
        clip_folder.load(tmp_path)
    (tmp_path / "test" / "swim").rmdir()
    (tmp_path / "train" / "run" / "two").mkdir()
    with pytest.raises(ValueError, match="clip two: got no frame, expected at least one"):
        clip_folder.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"path: got .*nowhere/train', expected a folder"):
        clip_folder.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="split test: got no clip, expected at least one"):
        data_set({"test": []}, ["run"])


# Sprites

TEXT = """
image=images/enemies/dot.png
[run]
frames=2
frame=0,0,0,0,2,2,1,2
frame=1,0,2,0,2,2,1,2
[critdie]
frame=0,0,0,0,2,2,1,2
frame=1,0,4,0,6,2,3,2
[fly]
frame=0,0,0,0,2,2,1,2
"""


def test_the_sheet_and_its_patches_are_read():
    name, found = sprite_clips.parse_animations(TEXT)
    assert name == "images/enemies/dot.png"
    assert found["run"][0] == {
        0: sprite_clips.Patch(0, 0, 2, 2, 1, 2), 1: sprite_clips.Patch(2, 0, 2, 2, 1, 2)
    }  # fmt: skip
    with pytest.raises(ValueError, match="text: got line 1 'frame=0,0,1'"):
        sprite_clips.parse_animations("frame=0,0,1")


def test_what_an_actor_does_is_drawn_to_one_scale_about_its_anchor(monkeypatch):
    size = 24
    monkeypatch.setattr(sprite_clips, "SIZE", size)
    sheet = Image.new("RGBA", (10, 2), (200, 100, 0, 255))
    _, animations = sprite_clips.parse_animations(TEXT)
    clips = list(sprite_clips.render({"body": sprite_clips.Layer(sheet, animations)}, "dot"))
    assert [(clip.action, clip.name) for clip in clips] == [
        ("run", "dot/run/0"), ("die", "dot/critdie/0")
    ]  # fmt: skip
    small, wide = (decode_clip(clips[1].frames, size, "dot")[t] != GROUND for t in (0, 1))
    # All that is drawn is 6 wide and 2 high, in the middle of a square of 6.
    assert wide.any(-1).sum() == size * size // 3
    assert small.any(-1).sum() == size * size // 9
    columns = np.flatnonzero(small.any((0, 2)))
    assert (columns[0], columns[-1]) == (size // 3, 2 * size // 3 - 1)


def test_layers_lie_over_each_other_and_the_weapon_behind_or_before_them():
    sheets = {
        "feet": Image.new("RGBA", (2, 2), (0, 255, 0, 255)),
        "main": Image.new("RGBA", (2, 2), (0, 0, 255, 255)),
    }
    patch = sprite_clips.Patch(0, 0, 2, 2, 1, 2)
    layers = {
        part: sprite_clips.Layer(sheet, {"run": {0: {0: patch, 1: patch}, 3: {0: patch}}})
        for part, sheet in sheets.items()
    }
    del layers["feet"].animations["run"][0][1]  # in the second frame the weapon alone is seen
    layers["main"].animations["hit"] = {0: {0: patch}}  # which the body never does
    behind, before = sprite_clips.render(layers, "x")
    assert decode_clip(behind.frames, 8, "x")[1, 0, 0].tolist() == [0, 0, 255]
    assert decode_clip(behind.frames, 8, "x")[0, 0, 0].tolist() == [0, 255, 0]
    assert decode_clip(before.frames, 8, "x")[0, 0, 0].tolist() == [0, 0, 255]


def test_a_clip_of_the_same_pictures_or_of_one_is_left_out():
    def clip(frames, name):
        return Clip(frames, "run", "x", name)

    kept = sprite_clips.without_repetitions(
        [
            clip([b"a", b"b"], "1"),
            clip([b"a", b"b"], "2"),
            clip([b"b", b"a"], "3"),
            clip([b"a"], "4"),
        ]
    )
    assert [one.name for one in kept] == ["1", "3"]


def test_who_is_held_out_is_never_learned_from():
    outfits = sprite_clips.outfits()
    assert len(outfits) == len(set(outfits)) == 44
    splits = {"/".join(outfit): sprite_clips.split_of("/".join(outfit)) for outfit in outfits}
    for outfit, split in splits.items():
        armour = outfit.split("/")[1]
        assert (split == "test") == (armour == "plate"), outfit
        assert (split == "validation") == (armour == "chain"), outfit
    assert {"male", "female"} == {o.split("/")[0] for o, s in splits.items() if s == "test"}
    assert sprite_clips.split_of("zombie") == "new_kinds"
    assert sprite_clips.split_of("fire_ant") == "test"
    assert sprite_clips.split_of("goblin") == "train"
