"""The adding problem and copy memory are what they are said to be, and their baselines hold."""

import math

import jax
import numpy as np
import pytest

from experiments.data.memory_tasks import (
    ADDING_BASELINE,
    BLANK,
    COPIED,
    DELIMITER,
    ONE_UNKNOWN,
    SYMBOLS,
    adding_batch,
    copy_baseline,
    copy_batch,
)

ROWS, BLANKS = 4000, 3


@pytest.fixture(scope="module")
def adding():
    return jax.tree.map(np.asarray, adding_batch(jax.random.key(0), 9, ROWS, 0.5))


def test_the_sum_is_that_of_two_numbers_one_in_each_half(adding):
    numbers, marks, asked = np.moveaxis(adding.xs, -1, 0)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    np.testing.assert_array_equal(marks[:4].sum(0), 1)
    np.testing.assert_array_equal(marks[5:].sum(0), 1)
    np.testing.assert_array_equal(marks[4], 0)
    assert marks.mean(axis=1)[[0, 1, 2, 3, 5, 6, 7, 8]] == pytest.approx(0.25, abs=0.04)
    np.testing.assert_allclose(adding.sums, (numbers * marks).sum(0), rtol=1e-6)
    np.testing.assert_array_equal(np.argmax(asked, axis=0), adding.asked)
    np.testing.assert_array_equal(asked.sum(0), 1)
    np.testing.assert_array_equal(adding.asked, np.repeat([4, 8], ROWS // 2))


def test_what_the_baselines_of_adding_err_by(adding):
    """Who always says 1, and who knows the first number and says 1/2 for the second."""
    numbers, marks, _ = np.moveaxis(adding.xs, -1, 0)
    first = (numbers * marks)[:4].sum(0)
    for told, expected in ((1.0, ADDING_BASELINE), (first + 0.5, ONE_UNKNOWN)):
        errors = (told - adding.sums) ** 2
        assert errors.mean() == pytest.approx(
            expected, abs=5 * float(errors.std()) / math.sqrt(ROWS)
        )


@pytest.fixture(scope="module")
def copied():
    return jax.tree.map(np.asarray, copy_batch(jax.random.key(0), BLANKS, ROWS))


def test_what_is_copied_comes_back_after_the_delimiter(copied):
    tokens, targets = copied
    symbols = tokens[:COPIED]
    assert set(np.unique(symbols)) == set(range(SYMBOLS))
    np.testing.assert_array_equal(tokens[COPIED : COPIED + 2], BLANK)
    np.testing.assert_array_equal(tokens[COPIED + 2], DELIMITER)
    np.testing.assert_array_equal(tokens[COPIED + 3 :], BLANK)
    np.testing.assert_array_equal(targets[: COPIED + 3], BLANK)
    np.testing.assert_array_equal(targets[COPIED + 3 :], symbols)
    shares = np.bincount(symbols.ravel()) / symbols.size
    assert shares == pytest.approx(1 / SYMBOLS, abs=5 * math.sqrt(1 / 8 * 7 / 8 / symbols.size))


def test_the_baseline_of_copy_is_to_know_when_and_not_what(copied):
    """Who is sure of the blanks and guesses at each symbol loses ln 8 wherever there is one."""
    _, targets = copied
    losses = np.where(targets == BLANK, 0.0, math.log(SYMBOLS))
    np.testing.assert_allclose(losses.mean(axis=0), copy_baseline(BLANKS))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda key: adding_batch(key, 3, 2), "time_steps: got 3, expected at least 4"),
        (lambda key: adding_batch(key, 4, 2, 1.5), "share_in_the_middle: got 1.5, expected within"),
        (lambda key: copy_batch(key, 0, 2), "blanks: got 0, expected at least 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call(jax.random.key(0))
