import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

from rnnjax.layers.convolution import (
    ConvolutionParams,
    apply_convolutions,
    compiled,
    init_convolutions,
    map_shape,
    product_of_patches,
)


def in_numpy(image, w, b):
    """One layer place by place: half the zeros around the image, the odd one below and right."""
    (height, width, _), size = image.shape, w.shape[0]
    rows, columns = -(-height // 2), -(-width // 2)
    around = [2 * (n - 1) + size - m for n, m in ((rows, height), (columns, width))]
    padded = np.pad(image, [*((p // 2, p - p // 2) for p in around), (0, 0)])
    out = np.empty((rows, columns, w.shape[-1]))
    for r in range(rows):
        for c in range(columns):
            patch = padded[2 * r : 2 * r + size, 2 * c : 2 * c + size]
            out[r, c] = np.einsum("ijk,ijko->o", patch, w) + b
    return np.maximum(out, 0)


def test_it_is_the_correlation_at_every_second_place_image_by_image():
    rng = np.random.default_rng(0)
    params = [
        ConvolutionParams(
            jnp.asarray(rng.normal(size=(3, 3, i, o))), jnp.asarray(rng.normal(size=o))
        )
        for i, o in ((2, 4), (4, 3))
    ]
    images = rng.normal(size=(2, 3, 6, 5, 2))
    apply = jax.jit(apply_convolutions)
    got = apply(params, jnp.asarray(images))
    expected = images.reshape(6, 6, 5, 2)
    for w, b in params:
        expected = np.stack([in_numpy(one, np.asarray(w), np.asarray(b)) for one in expected])
    assert map_shape((6, 5), 2) == expected.shape[1:3]
    assert_close(got, expected.reshape(2, 3, *expected.shape[1:]), "float64")
    alone = jax.eval_shape(apply, params, jnp.asarray(images[0, 0]))
    assert alone.shape == expected.shape[1:]


def test_the_product_of_patches_is_the_compilers_convolution():
    rng = np.random.default_rng(1)
    kernel = jnp.asarray(rng.normal(size=(5, 5, 2, 3)))
    images = jnp.asarray(rng.normal(size=(2, 7, 4, 2)))
    by_patches, by_compiler = jax.jit(
        lambda x: (product_of_patches(x, kernel), compiled(x, kernel))
    )(images)
    assert_close(by_patches, np.asarray(by_compiler), "float64")


def test_the_variance_of_what_is_drawn_is_two_over_what_a_kernel_sees():
    (layer,) = init_convolutions(jax.random.key(0), 8, (64,), kernel_size=5)
    assert layer.w.shape == (5, 5, 8, 64)
    np.testing.assert_allclose(np.var(np.asarray(layer.w)), 2 / (5 * 5 * 8), rtol=0.05)
    assert not np.asarray(layer.b).any()


def test_bad_arguments_are_refused():
    key = jax.random.key(0)
    params = init_convolutions(key, 3, (2,))
    for call, message in (
        (lambda: init_convolutions(key, 3, ()), "channels: got none, expected at least one layer"),
        (lambda: init_convolutions(key, 3, (2, 0)), r"channels\[1\]: got 0, expected an integer"),
        (lambda: init_convolutions(key, 3, (2,), kernel_size=2), "kernel_size: got 2, expected an"),
        (lambda: apply_convolutions((), jnp.zeros((4, 4, 3))), "params: got no layers, expected"),
        (
            lambda: apply_convolutions(params, jnp.zeros((4, 4, 1))),
            r"images: got shape \(4, 4, 1\)",
        ),
        (lambda: apply_convolutions(params, jnp.zeros((4, 3))), r"images: got shape \(4, 3\), exp"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="images: got uint8, expected a floating dtype"):
        apply_convolutions(params, jnp.zeros((4, 4, 3), jnp.uint8))
