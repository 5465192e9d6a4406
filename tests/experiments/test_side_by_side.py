"""Runs side by side are what each would be alone, and one that explodes disturbs no other."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.side_by_side import Problem, each_done, make_train_some, new_runs


def _draw(key):
    return jax.random.normal(key, (4,), jnp.float32)


PROBLEM = Problem(
    lambda params, batch: jnp.mean((params["w"] - batch) ** 2),
    _draw,
    lambda params: {"w": params["w"][0]},
)
START = {"w": jnp.asarray([3.0, -1.0, 0.5, 2.0], jnp.float32)}
KEYS = jax.random.split(jax.random.key(0), 3)
RATES = (1e-2, 1e-1, 1e-2)


def test_each_run_is_adam_on_its_own_batches():
    train_some = make_train_some(PROBLEM, steps=5, clip_norm=0.5)
    runs = new_runs([START] * 3, KEYS, RATES, clip_norm=0.5)
    found = []
    for first in (0, 5):
        runs, losses, scores = train_some(runs, jnp.asarray(first, jnp.int32))
        assert losses.shape == (5, 3)
        np.testing.assert_array_equal(scores["w"], runs.params["w"][:, 0])
        found.append(np.asarray(losses))

    for place, (key, rate) in enumerate(zip(KEYS, RATES, strict=True)):
        optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate))
        params, state, alone = START, optimizer.init(START), []
        for number in range(10):
            batch = _draw(jax.random.fold_in(key, number))
            loss, gradient = jax.value_and_grad(PROBLEM.loss)(params, batch)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(gradient, state)
                params = optax.apply_updates(params, updates)
            alone.append(float(loss))
        np.testing.assert_allclose(np.concatenate(found)[:, place], alone, rtol=1e-5)
    assert runs.skipped.tolist() == [0, 0, 0]


def test_a_step_that_is_not_finite_is_skipped_in_its_run_alone():
    problem = PROBLEM._replace(
        loss=lambda params, batch: jnp.mean(jnp.log(params["w"]) * batch[0] ** 2)
    )
    bad = {"w": jnp.zeros(4, jnp.float32)}
    good = {"w": jnp.ones(4, jnp.float32)}
    runs, losses, _ = make_train_some(problem, steps=3, clip_norm=1.0)(
        new_runs([bad, good], KEYS[:2], RATES[:2], clip_norm=1.0), jnp.asarray(0, jnp.int32)
    )
    assert runs.skipped.tolist() == [3, 0]
    np.testing.assert_array_equal(runs.params["w"][0], bad["w"])
    assert (np.asarray(runs.params["w"][1]) < 1).all()
    assert np.isfinite(np.asarray(losses)[:, 1]).all()


def test_as_many_of_each_are_wanted():
    with pytest.raises(ValueError, match=r"^params, keys, rates: got 2, 3 and 3, expected as many"):
        new_runs([START] * 2, KEYS, RATES, clip_norm=1.0)


def test_all_jobs_are_done_and_after_an_error_none_begins():
    done = []
    each_done([lambda n=n: done.append(n) for n in range(5)], workers=1)
    assert done == [0, 1, 2, 3, 4]

    begun = []

    def fail():
        begun.append("fails")
        raise ValueError("this one")

    def work():
        begun.append("works")
        time.sleep(0.2)

    with pytest.raises(ValueError, match=r"^this one$"):
        each_done([fail, *[work] * 20], workers=1)
    # At most what began before the error was seen.
    assert begun in (["fails"], ["fails", "works"])
