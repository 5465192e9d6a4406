"""DNA as the vectors that a network reads."""

import numpy as np

BASES = "ACGT"
"""The order of the four inputs: a base and its complement stand mirrored."""

AMBIGUOUS = {
    "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
"""IUPAC's letters for a base that is not known, and which ones it may be."""


def _table() -> np.ndarray:
    """`(256, 4)`: what a byte is; zeros of one that is no letter of DNA."""
    table = np.zeros((256, len(BASES)), np.float32)
    for letter, bases in ({base: base for base in BASES} | {"U": "T"} | AMBIGUOUS).items():
        for case in (letter, letter.lower()):
            for base in bases:
                table[ord(case), BASES.index(base)] = 1 / len(bases)
    return table


_SHARES = _table()


def encode_bases(sequence: str, name: str = "sequence") -> np.ndarray:
    """The course's one-hot vectors x^<t> of a sequence of bases.

    x^<t>_k = 1 if the base at t is the k-th of `BASES`. One that is not known, in IUPAC's letters,
    is equal shares of those it may be: N is (¼, ¼, ¼, ¼). Case does not matter, and U is read as T.

    Args:
        sequence: The letters.
        name: What an error calls it.

    Returns:
        `(T, 4)` float32; each row sums to 1.

    Raises:
        ValueError: There is no letter, or one that stands for no base, such as a gap.
    """
    if not sequence:
        raise ValueError(f"{name}: got no letter, expected at least one base")
    shares = _SHARES[np.frombuffer(sequence.encode("ascii", "replace"), np.uint8)]
    wrong = np.flatnonzero(shares.sum(axis=1) == 0)
    if wrong.size:
        place = int(wrong[0])
        raise ValueError(
            f"{name}: got {sequence[place]!r} at place {place + 1:,}, expected letters of {BASES}, "
            f"or of {''.join(AMBIGUOUS)} for bases that are not known"
        )
    return shares


def reverse_complement(xs: np.ndarray) -> np.ndarray:
    """The other strand as it is read: backwards, A for T and C for G.

    Args:
        xs: `(T, 4)` as `encode_bases` gives it.

    Returns:
        `(T, 4)`, a view.
    """
    return xs[::-1, ::-1]
