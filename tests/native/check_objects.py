"""Whether the native library, as it was compiled, runs on a processor without AVX.

    python tests/native/check_objects.py BUILD    # a folder in which CMake has built it

Two things could break that, and neither shows on a newer processor:

- An instruction of AVX in an object that is not compiled for it.
- A function with external linkage in two objects that are compiled for different instruction sets:
  the linker keeps either. So whatever a kernel's object shares must be in the namespace of its set.

Uses objdump and nm (binutils), of x86-64 objects.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FOR_AVX = ("avx2", "avx512")
# AVX encodes with a prefix of its own: its mnemonics begin with a v, but for those of masks.
AVX = re.compile(
    r"^\s*[0-9a-f]+:\t(v[a-z0-9]+|k(?:mov|and|or|xor|xnor|not|add|shift|test|unpck)\w*)\b"
)
NOT_AVX = ("verr", "verw", "vmcall", "vmfunc")


def objects(build: Path) -> dict[Path, str]:
    """Object file -> the instruction set that it is compiled for."""
    found = {}
    for path in sorted(build.rglob("*.o")):
        name = re.search(r"kernels_(\w+)\.dir", str(path))
        found[path] = name[1] if name else "baseline"
    if set(found.values()) != {"baseline", *FOR_AVX}:
        raise SystemExit(f"BUILD: got {build} with objects of {sorted(set(found.values()))}")
    return found


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def avx_instructions(path: Path) -> Iterator[str]:
    """The instructions of an object that an older processor does not know."""
    for line in _lines("objdump", "--disassemble", "--no-show-raw-insn", str(path)):
        match = AVX.match(line)
        if match and match[1] not in NOT_AVX:
            yield line.strip()


def shared_functions(path: Path) -> set[str]:
    """Functions that the linker may take from any object that defines them."""
    functions = set()
    for line in _lines("nm", "--defined-only", "--format=posix", str(path)):
        name, kind, *_ = line.split()
        if kind in "Ww":
            functions.add(name)
    return functions


def main(build: Path) -> None:
    """Raise SystemExit, naming what was found, unless the objects are sound."""
    sets = objects(build)
    for path, instructions in sets.items():
        if instructions == "baseline":
            for line in avx_instructions(path):
                raise SystemExit(f"{path}: has an instruction of AVX: {line}")
        else:
            # Else the search could not find any.
            assert next(avx_instructions(path), None), path
    for path, instructions in sets.items():
        elsewhere = {
            name
            for other, its in sets.items()
            if its != instructions
            for name in shared_functions(other)
        }
        both = sorted(shared_functions(path) & elsewhere)
        if both and instructions != "baseline":
            raise SystemExit(f"{path}: shares a function with an object of other flags: {both[0]}")
    count = len(sets)
    print(f"{count} objects: no AVX where it is not asked for, nothing shared between sets")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
