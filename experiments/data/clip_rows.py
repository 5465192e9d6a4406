"""The rows every set of clips has: pictures in the order they are shown, what is done, by whom."""

import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import datasets
import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

GROUND = (90, 90, 90)
"""The grey that is put behind what is transparent, and around what is not square."""


class Clip(NamedTuple):
    """One clip; its pictures are the bytes of image files, as PNG or JPEG."""

    frames: list[bytes]
    action: str
    actor: str  # a creature, an outfit: what is held out together
    name: str  # what an error calls it


def data_set(splits: Mapping[str, Iterable[Clip]], actions: Sequence[str]) -> datasets.DatasetDict:
    """Clips by split, as rows {"frames": binary files, "action": class, "actor", "name"}.

    Args:
        splits: each with at least one clip.
        actions: what the classes are, in their order.

    Raises:
        ValueError: a split has no clip, or a clip no frame.
    """
    features = datasets.Features(
        {
            "frames": datasets.List(datasets.Value("binary")),
            "action": datasets.ClassLabel(names=list(actions)),
            "actor": datasets.Value("string"),
            "name": datasets.Value("string"),
        }
    )
    made: dict[str | datasets.NamedSplit, datasets.Dataset] = {}
    for split, clips in splits.items():
        rows = list(clips)
        if not rows:
            raise ValueError(f"split {split}: got no clip, expected at least one")
        for row in rows:
            if not row.frames:
                raise ValueError(f"clip {row.name}: got no frame, expected at least one")
        columns = {name: [getattr(row, name) for row in rows] for name in Clip._fields}
        made[split] = datasets.Dataset.from_dict(columns, features=features)
    return datasets.DatasetDict(made)


def decode_clip(frames: Sequence[bytes], size: int, name: str) -> np.ndarray:
    """The pictures of a clip in colours, fitted into a square.

    Args:
        frames: image files.
        size: pixels along a side of the square; pictures that are not square get grey around them,
            larger ones are made smaller, each pixel the mean of those it covers.
        name: what an error calls the clip.

    Returns:
        `(n, size, size, 3)` uint8.

    Raises:
        ValueError: there is no frame, one is empty, no image or damaged, or they differ in size.
    """
    if not frames:
        raise ValueError(f"clip {name}: got no frame, expected at least one")
    pictures = [_decoded(frame, f"clip {name}: frame {i}") for i, frame in enumerate(frames, 1)]
    first = pictures[0].size
    for number, picture in enumerate(pictures, start=1):
        if picture.size != first:
            raise ValueError(
                f"clip {name}: frame {number} has {picture.width} × {picture.height} pixels and "
                f"frame 1 {first[0]} × {first[1]}, expected one size"
            )
    return np.stack([_fitted(picture, size) for picture in pictures])


def split_frames(content: bytes, name: str) -> list[bytes]:
    """The frames of an image file that may hold several, such as a GIF, as files of their own.

    Raises:
        ValueError: the file is empty, no image or damaged.
    """
    if not content:
        raise ValueError(f"clip {name} is an empty file, expected an image")
    frames = []
    try:
        with Image.open(io.BytesIO(content)) as picture:
            for frame in ImageSequence.Iterator(picture):
                stream = io.BytesIO()
                frame.convert("RGBA").save(stream, format="PNG")
                frames.append(stream.getvalue())
    except UnidentifiedImageError:
        raise ValueError(
            f"clip {name} is no image that Pillow knows, expected a picture or a folder of them"
        ) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"clip {name} is a damaged image ({error})") from None
    return frames


def _decoded(content: bytes, name: str) -> Image.Image:
    if not content:
        raise ValueError(f"{name} is an empty file, expected an image")
    try:
        with warnings.catch_warnings():
            # A small file may claim to be a huge picture.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as picture:
                picture = picture.convert("RGBA")
    except UnidentifiedImageError:
        raise ValueError(f"{name} is no image that Pillow knows, expected one") from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ValueError(f"{name} is a damaged image ({error})") from None
    ground = Image.new("RGBA", picture.size, (*GROUND, 255))
    return Image.alpha_composite(ground, picture).convert("RGB")


def _fitted(picture: Image.Image, size: int) -> np.ndarray:
    if picture.size == (size, size):
        return np.asarray(picture)
    longest = max(picture.size)
    width, height = (max(1, round(side * size / longest)) for side in picture.size)
    square = Image.new("RGB", (size, size), GROUND)
    small = picture.resize((width, height), Image.Resampling.BOX)
    square.paste(small, ((size - width) // 2, (size - height) // 2))
    return np.asarray(square)
