import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

from rnnjax.layers.pooling import (
    AttentionPoolingParams,
    attention_pooling,
    both_ends,
    init_attention_pooling,
    last_step,
    max_over_time,
    mean_over_time,
)

T, B, H, A = 5, 4, 6, 3
LENGTHS = np.array([5, 0, 3, 1])
DTYPE = "float64"
WITHIN = np.arange(T)[:, None] < LENGTHS


def _normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


YS = _normal(0, T, B, H)
PARAMS = AttentionPoolingParams(_normal(1, H, A), _normal(2, A), _normal(3, A))


def every_pooling(params, ys, lengths=None):
    return {
        "last": last_step(ys, lengths),
        "ends": both_ends(ys, lengths),
        "mean": mean_over_time(ys, lengths),
        "max": max_over_time(ys, lengths),
        "attention": attention_pooling(params, ys, lengths),
    }


@jax.jit
def with_gradients(params, ys, lengths):
    def scalar(params, ys):
        pooled = every_pooling(params, ys, lengths)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(pooled)), pooled

    return jax.grad(scalar, (0, 1), has_aux=True)(params, ys)


attend = jax.jit(attention_pooling)


def of_one_row(row):
    """In NumPy, of the `(Tx, H)` of one row."""
    if not len(row):
        zero = np.zeros(H)
        return dict.fromkeys(("last", "ends", "mean", "max"), zero), zero, np.zeros(0)
    fit = np.tanh(row @ np.asarray(PARAMS.w) + np.asarray(PARAMS.b)) @ np.asarray(PARAMS.v)
    alpha = np.exp(fit) / np.exp(fit).sum()
    simple = {
        "last": row[-1],
        "ends": np.concatenate([row[-1, : H // 2], row[0, H // 2 :]]),
        "mean": row.sum(0) / len(row),
        "max": row.max(0),
    }
    return simple, alpha @ row, alpha


def test_each_row_is_pooled_as_if_it_were_alone_and_an_empty_one_is_zero():
    _, pooled = with_gradients(PARAMS, YS, LENGTHS)
    context, weights = pooled.pop("attention")
    for b, length in enumerate(LENGTHS):
        simple, expected, alpha = of_one_row(np.asarray(YS[:length, b]))
        for name, value in simple.items():
            assert_close(pooled[name][b], value, DTYPE, name)
        assert_close(context[b], expected, DTYPE)
        assert_close(weights[:length, b], alpha, DTYPE)
    np.testing.assert_array_equal(np.asarray(weights)[~WITHIN], 0)


def test_a_nan_in_padding_reaches_no_value_and_no_gradient():
    clean = with_gradients(PARAMS, YS, LENGTHS)
    spoiled = with_gradients(PARAMS, jnp.where(WITHIN[..., None], YS, jnp.nan), LENGTHS)
    assert_close(spoiled, clean, DTYPE)
    of_ys = np.asarray(clean[0][1])
    np.testing.assert_array_equal(of_ys[~WITHIN], 0)
    assert (of_ys[WITHIN] != 0).any(-1).all()  # and the words themselves have one


def test_full_lengths_are_none_and_batches_may_have_any_axes():
    @jax.jit
    def every_way(ys):
        return (
            every_pooling(PARAMS, ys),
            every_pooling(PARAMS, ys, np.full(B, T)),
            every_pooling(PARAMS, ys.reshape(T, 2, 2, H), np.full((2, 2), T)),
            every_pooling(PARAMS, ys[:, 1], np.int32(T)),
        )

    without, full, two_axes, row = every_way(YS)
    assert_close(full, without, DTYPE)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, B)[:, 1], full["attention"][1])
    assert_close(row["attention"][1], flat, DTYPE)
    for name in ("last", "ends", "mean", "max"):
        assert_close(two_axes[name].reshape(B, H), without[name], DTYPE, name)
        assert_close(row[name], without[name][1], DTYPE, name)


def test_attention_that_finds_all_alike_is_the_mean_and_one_that_is_sure_picks_a_step():
    even = PARAMS._replace(v=jnp.zeros(A))
    pooled, weights = attend(even, YS, LENGTHS)
    assert_close(pooled, mean_over_time(YS, LENGTHS), DTYPE)
    assert_close(weights[:3, 2], np.full(3, 1 / 3), DTYPE)
    # One hidden unit looks at the first output alone, and every difference is enlarged.
    sure = AttentionPoolingParams(
        jnp.zeros((H, 1)).at[0, 0].set(1.0), jnp.zeros(1), jnp.full(1, 1e4)
    )
    pooled, _ = attend(sure, YS, LENGTHS)
    for b in (0, 2, 3):
        best = int(np.argmax(YS[: LENGTHS[b], b, 0]))
        assert_close(pooled[b], YS[best, b], DTYPE)


def test_sixteen_bits_are_summed_in_thirty_two():
    """A sum of 1 and many 2⁻⁸ that bfloat16 would lose one by one."""
    ys = jnp.full((257, 1), 2.0**-8, jnp.bfloat16).at[0].set(1)
    pooled = mean_over_time(ys)
    assert pooled.dtype == jnp.bfloat16
    assert float(pooled[0]) == float(jnp.bfloat16(2 / 257))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    pooled, weights = attend(params, YS.astype(jnp.bfloat16), LENGTHS)
    assert pooled.dtype == weights.dtype == jnp.bfloat16
    assert_close(pooled, attend(PARAMS, YS, LENGTHS)[0], "bfloat16")


def test_bad_input_is_refused_by_name():
    for call, kind, message in (
        (lambda: last_step(jnp.zeros((T, B, H), int)), TypeError, "ys: got int64, expected"),
        (lambda: mean_over_time(jnp.zeros(T)), ValueError, r"ys: got shape \(5,\), expected"),
        (lambda: max_over_time(jnp.zeros((0, B, H))), ValueError, r"ys: got shape \(0, 4, 6\)"),
        (lambda: last_step(YS, np.array([6, 1, 1, 1])), ValueError, "lengths: got 6, expected"),
        (lambda: last_step(YS, np.ones(B)), TypeError, "lengths: got dtype float64"),
        (lambda: last_step(YS, np.ones(3, int)), ValueError, r"lengths: got shape \(3,\)"),
        (lambda: both_ends(YS[..., :5], LENGTHS), ValueError, "expected two directions of one"),
        (lambda: attention_pooling(PARAMS, YS[..., :5]), ValueError, r"expected \(S, \*B, 6\)"),
        (lambda: init_attention_pooling(jax.random.key(0), H, 0), ValueError, "attention_size: "),
    ):
        with pytest.raises(kind, match=message):
            call()
