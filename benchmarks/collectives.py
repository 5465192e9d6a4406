"""What a compiled program sends between devices, read off its text."""

import re
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {
    "pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s32": 4, "u32": 4,
    "f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16,
}  # fmt: skip
_INSTRUCTION = re.compile(rf"= (\(?.*?\)?) ({'|'.join(KINDS)})(?:-start)?\((.*)$", re.MULTILINE)
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_LISTED = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_COUNTED = re.compile(r"replica_groups=\[(\d+),(\d+)\]")


class Collective(NamedTuple):
    """One instruction, as each device carries it out once."""

    kind: str  # one of `KINDS`
    result_bytes: int  # on each device
    group: int  # how many devices take part together

    @property
    def sent_bytes(self) -> float:
        """What each device sends where the group is a ring.

        Chan et al. (2007), Collective communication: theory, practice, and experience, section 5:
        all-gather and reduce-scatter of R bytes (g − 1) / g R, all-reduce both of them.
        """
        share = (self.group - 1) / self.group
        return {
            "all-reduce": 2 * share * self.result_bytes,
            "all-gather": share * self.result_bytes,
            "reduce-scatter": share * self.result_bytes * self.group,
            "all-to-all": share * self.result_bytes,
            "collective-permute": float(self.result_bytes),
        }[self.kind]


def collectives_in(program: str, devices: int) -> list[Collective]:
    """The collectives of a compiled program in the order of its text.

    One inside a loop counts once, whatever the loop does: the programs measured here have none.

    Args:
        program: `compiled.as_text()`.
        devices: How many run it.

    Raises:
        ValueError: An array is of a dtype without a known size.
    """
    found = []
    for types, kind, rest in _INSTRUCTION.findall(program):
        listed, counted = _LISTED.search(rest), _COUNTED.search(rest)
        group = devices
        if listed is not None:
            group = listed[1].count(",") + 1
        elif counted is not None:
            group = int(counted[2])
        found.append(Collective(kind, _bytes_of(_ARRAY.findall(types)), group))
    return found


def _bytes_of(arrays: Sequence[tuple[str, str]]) -> int:
    for dtype, _ in arrays:
        if dtype not in BYTES:
            raise ValueError(f"program: got an array of dtype {dtype}, expected one of {[*BYTES]}")
    return sum(
        BYTES[dtype] * prod(int(size) for size in shape.split(",") if size)
        for dtype, shape in arrays
    )
