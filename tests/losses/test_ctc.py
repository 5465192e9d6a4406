"""The loss of connectionist temporal classification against the sum over every path."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.ctc_paths import probabilities_of_labellings

from rnnjax.losses.ctc import LabelWindows, ctc_loss

T, V, TY = 5, 3, 3
LENGTHS = np.array([5, 5, 3, 0])
LABELS = np.array([[1, 2, 1], [1, 1, 0], [2, 0, 0], [0, 0, 0]]).T  # (Ty, B)
LABEL_LENGTHS = np.array([3, 2, 1, 0])
LOGITS = np.random.default_rng(0).normal(0, 2, (T, 4, V))
FIRST = np.array([[0, 1, 2], [0, 2, 0], [1, 0, 0], [0, 0, 0]]).T
LAST = np.array([[1, 3, 4], [1, 4, 0], [2, 0, 0], [0, 0, 0]]).T
WINDOWS = LabelWindows(FIRST, LAST)


@jax.jit
def losses(logits, windows):
    loss = partial(ctc_loss, logits, LABELS, lengths=LENGTHS, label_lengths=LABEL_LENGTHS)
    return loss(), loss(windows=windows)


def expected(row, counts=lambda path: True):
    found = probabilities_of_labellings(LOGITS[: LENGTHS[row], row], counts)
    return -np.log(found[tuple(LABELS[: LABEL_LENGTHS[row], row])])


def test_the_loss_is_the_sum_over_every_path_that_says_the_labels():
    found, restricted = losses(LOGITS, WINDOWS)
    np.testing.assert_allclose(found, [*map(expected, range(3)), 0], rtol=1e-9, atol=1e-9)
    wide = LabelWindows(np.zeros_like(LABELS), np.full_like(LABELS, T))
    # What a text does not have is never open to it, so the other label must be in the text.
    np.testing.assert_allclose(losses(LOGITS, wide)[1][0], found[0], rtol=1e-9)
    assert (np.asarray(restricted)[:3] >= np.asarray(found)[:3]).all()


def test_paths_with_a_label_outside_of_its_windows_do_not_count():
    _, restricted = losses(LOGITS, WINDOWS)
    for row in range(3):
        places = range(LABEL_LENGTHS[row])

        def counts(path, row=row, places=places):
            return all(
                label == 0
                or any(
                    LABELS[n, row] == label and FIRST[n, row] <= t <= LAST[n, row] for n in places
                )
                for t, label in enumerate(path)
            )

        np.testing.assert_allclose(restricted[row], expected(row, counts), rtol=1e-9)


def test_padding_is_not_read_and_has_no_gradient():
    padding = np.arange(T)[:, None] >= LENGTHS
    poisoned = np.where(padding[..., None], np.nan, LOGITS)
    total = jax.jit(jax.grad(lambda logits: sum(map(jnp.sum, losses(logits, WINDOWS)))))
    gradient = np.asarray(total(poisoned))
    np.testing.assert_allclose(gradient, total(LOGITS), rtol=1e-9)
    assert (gradient[padding] == 0).all()
    # At each step the gradient of the plain loss sums to 0: a softmax knows no level.
    np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"logits": LOGITS.astype(int)}, TypeError, "logits: got int"),
        ({"logits": LOGITS[:0]}, ValueError, r"logits: got shape \(0, 4, 3\)"),
        ({"labels": LABELS[:, :2]}, ValueError, r"labels: got shape \(3, 2\)"),
        ({"labels": LABELS + 1}, ValueError, "labels: got values from 1 to 3, expected 0 … 2"),
        ({"labels": LABELS * 1.0}, TypeError, "labels: got dtype float64"),
        ({"lengths": np.full(4, 6)}, ValueError, "lengths: got values from 6 to 6"),
        ({"label_lengths": np.zeros(3, int)}, ValueError, r"label_lengths: got shape \(3,\)"),
        ({"windows": LabelWindows(LABELS[:2], LABELS)}, ValueError, r"windows.first: got shape"),
        ({"windows": LabelWindows(LABELS, LABELS * 1.0)}, TypeError, "windows.last: got dtype"),
    ],
)
def test_what_it_refuses(changes, kind, message):
    arguments = {"logits": LOGITS, "labels": LABELS} | changes
    with pytest.raises(kind, match=message):
        ctc_loss(**arguments)
