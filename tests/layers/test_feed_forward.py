import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

from rnnjax.layers.dense import DenseParams
from rnnjax.layers.feed_forward import apply_feed_forward, init_feed_forward


def test_it_is_affine_maps_with_the_activation_between_and_not_after():
    rng = np.random.default_rng(0)
    (w1, b1), (w2, b2), xs = (
        (rng.normal(size=(3, 5)), rng.normal(size=5)),
        (rng.normal(size=(5, 2)), rng.normal(size=2)),
        rng.normal(size=(4, 2, 3)),
    )
    params = [DenseParams(jnp.asarray(w), jnp.asarray(b)) for w, b in ((w1, b1), (w2, b2))]
    got = apply_feed_forward(params, jnp.asarray(xs))
    assert_close(got, np.tanh(xs @ w1 + b1) @ w2 + b2, "float64")
    got = apply_feed_forward(params, jnp.asarray(xs), jax.nn.relu)
    assert_close(got, np.maximum(xs @ w1 + b1, 0) @ w2 + b2, "float64")
    assert_close(apply_feed_forward(params[:1], jnp.asarray(xs)), xs @ w1 + b1, "float64")


def test_each_layer_begins_with_weights_of_its_own_and_fits_the_one_below():
    params = init_feed_forward(jax.random.key(0), 3, (3, 3, 4))
    assert [layer.w.shape for layer in params] == [(3, 3), (3, 3), (3, 4)]
    assert not np.array_equal(params[0].w, params[1].w)


def test_bad_arguments_are_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="sizes: got none, expected at least one layer"):
        init_feed_forward(key, 3, ())
    with pytest.raises(ValueError, match=r"sizes\[1\]: got 0, expected an integer of at least 1"):
        init_feed_forward(key, 3, (2, 0))
    with pytest.raises(ValueError, match="params: got no layers, expected at least one"):
        apply_feed_forward((), jnp.zeros((2, 3)))
