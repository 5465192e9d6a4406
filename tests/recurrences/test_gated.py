"""What is particular to the gated recurrences: what they become of, and what leaves them as is."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.testing as npt
import pytest
from recurrences.gated_equations import slstm as slstm_equation
from recurrences.linear_equations import cut
from support.contract import normal
from support.tolerances import assert_close

import rnnjax
from rnnjax.recurrences.convolutions import compiled, convolution, product_of_patches
from rnnjax.recurrences.initializers import Initializers
from rnnjax.recurrences.lstm import LSTMParams

T, B, I, H = 4, 2, 3, 4  # noqa: E741 - the letters of the documentation


def random_case(recurrence: rnnjax.Recurrence, **options: Any) -> tuple[Any, Any, Any]:
    """Random parameters, a random carry and inputs `(T, B, ...)`, all float64."""
    rng = np.random.default_rng(0)

    def init() -> Any:
        return recurrence.init(jax.random.key(0), I, H, dtype="float64", **options)

    params = normal(rng, jax.eval_shape(init))
    carry = normal(rng, recurrence.initial_carry(params, (B,)))
    xs = jnp.asarray(rng.normal(size=(T, B, *recurrence.input_shape(params))))
    return params, carry, xs


@partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
def scan(recurrence: rnnjax.Recurrence, params: Any, xs: Any, carry: Any = None) -> Any:
    return rnnjax.scan(recurrence, params, xs, carry, plan="reference")


def constant(value: float, shapes: set[Any]) -> Any:
    """An initializer that writes down the shapes it was asked for."""

    def initializer(key: Any, shape: Any, dtype: Any) -> Any:
        shapes.add(shape)
        return np.full(shape, value, dtype)

    return initializer


ZEROS = Initializers(*(constant(0, set()) for _ in range(3)))


def test_without_peepholes_or_with_a_projection_that_does_nothing_it_is_an_lstm():
    params, carry, xs = random_case(rnnjax.lstm)
    expected = scan(rnnjax.lstm, params, xs, carry)

    peephole, _, _ = random_case(rnnjax.lstm_peephole)
    peephole = type(peephole)(*params, peepholes=jnp.zeros(3 * H))
    assert_close(scan(rnnjax.lstm_peephole, peephole, xs, carry), expected, "float64")

    projected, _, _ = random_case(rnnjax.lstm_projected, projection_size=H)
    projected = type(projected)(params.w_x, params.w_h, jnp.eye(H), params.b)
    assert_close(scan(rnnjax.lstm_projected, projected, xs, carry), expected, "float64")


def test_an_lstm_of_one_place_and_a_kernel_of_one_is_dense_at_every_place():
    dense, (h, c), xs = random_case(rnnjax.lstm_peephole)
    expected = scan(rnnjax.lstm_peephole, dense, xs, (h, c))
    for recurrence, shape in ((rnnjax.conv_lstm_1d, (2,)), (rnnjax.conv_lstm_2d, (1, 2))):
        params, _, _ = random_case(recurrence, spatial_shape=shape, kernel_size=1)
        params = type(params)(
            dense.w_x.reshape(params.w_x.shape),
            dense.w_h.reshape(params.w_h.shape),
            dense.b,
            jnp.broadcast_to(dense.peepholes, params.peepholes.shape),
        )

        def everywhere(a: Any, shape: Any = shape) -> Any:
            a = a.reshape(*a.shape[:-1], *(1 for _ in shape), a.shape[-1])
            return jnp.broadcast_to(a, (*a.shape[: -1 - len(shape)], *shape, a.shape[-1]))

        actual = scan(recurrence, params, everywhere(xs), (everywhere(h), everywhere(c)))
        assert_close(actual, jax.tree.map(everywhere, expected), "float64")


def test_images_of_height_one_see_the_middle_row_of_a_kernel():
    params, carry, xs = random_case(rnnjax.conv_lstm_2d, spatial_shape=(1, 5))
    line, _, _ = random_case(rnnjax.conv_lstm_1d, spatial_shape=(5,))
    line = type(line)(params.w_x[1], params.w_h[1], params.b, params.peepholes[0])
    carry_of_line, ys = scan(
        rnnjax.conv_lstm_1d, line, xs[:, :, 0], jax.tree.map(lambda c: c[:, 0], carry)
    )
    expected = jax.tree.map(lambda c: c[:, None], carry_of_line), ys[:, :, None]
    assert_close(scan(rnnjax.conv_lstm_2d, params, xs, carry), expected, "float64")


@pytest.mark.parametrize(("image", "widths"), [((5,), (4,)), ((4, 3), (3, 2))])
def test_a_product_of_patches_is_the_compilers_convolution(image, widths):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, *image, I)), rng.normal(size=(*widths, I, H))

    @partial(jax.jit, static_argnums=0)
    def value_and_gradient(function: Any, x: Any, kernel: Any) -> Any:
        y, vjp = jax.vjp(function, x, kernel)
        return y, vjp(jnp.sin(y))

    expected = value_and_gradient(compiled, x, kernel)
    assert_close(value_and_gradient(product_of_patches, x, kernel), expected, "float64")


def test_a_convolution_of_16_bits_is_summed_and_returned_in_32():
    """1203 ones: bfloat16 has 1200 and 1208 and nothing between."""

    def at_the_middle(x: Any, kernel: Any) -> Any:
        return convolution(x, kernel)[1, 0]

    arguments = jnp.ones((3, 401), "float32"), jnp.ones((3, 401, 1), "bfloat16")
    y, (dx, dkernel) = jax.jit(jax.value_and_grad(at_the_middle, (0, 1)))(*arguments)
    assert (y.dtype, dx.dtype, dkernel.dtype) == ("float32", "float32", "bfloat16")
    assert y == 1203
    assert dx.all()
    assert dkernel.all()


@pytest.mark.parametrize("name", ["lstm_layer_norm", "gru_layer_norm"])
def test_a_weight_added_to_all_outputs_of_a_normalised_product_changes_nothing(name):
    """Ba et al. (2016), section 5.1: re-centering of the whole weight matrix."""
    recurrence = rnnjax.recurrences.REGISTRY[name]
    params, carry, xs = random_case(recurrence)
    rng = np.random.default_rng(1)

    def shifted(w: Any) -> Any:
        if name == "lstm_layer_norm":
            return w + rng.normal(size=(len(w), 1))
        gates, new = rng.normal(size=(2, len(w), 1))  # normalised apart
        return w + np.concatenate([gates, gates, new], axis=1).repeat(H, axis=1)

    other = params._replace(w_x=shifted(params.w_x), w_h=shifted(params.w_h))
    expected = scan(recurrence, params, xs, carry)
    assert_close(scan(recurrence, other, xs, carry), expected, "float64")


def test_an_indrnn_is_an_elman_network_of_a_diagonal_matrix():
    params, carry, xs = random_case(rnnjax.indrnn)
    elman, _, _ = random_case(rnnjax.elman_relu)
    elman = type(elman)(params.w_x, jnp.diag(params.w_h), params.b)
    expected = scan(rnnjax.elman_relu, elman, xs, carry)
    assert_close(scan(rnnjax.indrnn, params, xs, carry), expected, "float64")


def test_recurrent_weights_of_an_indrnn_fill_the_bounds_asked_for():
    for options, (low, high) in (
        ({}, (0, 1)),
        ({"smallest_recurrent": -0.5, "largest_recurrent": 1.1}, (-0.5, 1.1)),
    ):
        w_h = np.asarray(
            rnnjax.indrnn.init(jax.random.key(0), 1, 500, initializers=ZEROS, **options).w_h
        )
        assert low <= w_h.min() < low + 0.02
        assert high - 0.02 < w_h.max() <= high


def test_outputs_of_an_slstm_do_not_depend_on_its_stabiliser():
    params, carry, xs = random_case(rnnjax.slstm)
    carry = carry._replace(n=jnp.abs(carry.n))
    shift = normal(np.random.default_rng(2), carry.m)
    scale = jnp.exp(-shift)
    shifted = carry._replace(c=carry.c * scale, n=carry.n * scale, m=carry.m + shift)
    last, expected = scan(rnnjax.slstm, params, xs, carry)
    last_of_shifted, ys = scan(rnnjax.slstm, params, xs, shifted)
    assert_close(ys, expected, "float64")

    def memory(last: Any) -> Any:
        return last.c * jnp.exp(last.m), last.n * jnp.exp(last.m)

    assert_close(memory(last_of_shifted), memory(last), "float64")


def test_an_slstm_begins_empty_wherever_its_stabiliser_begins():
    """Also where the first input gate is the exponential of ±500, which no float32 holds."""
    params, _, xs = random_case(rnnjax.slstm)
    start = rnnjax.slstm.initial_carry(params, (B,))
    _, expected = scan(rnnjax.slstm, params, xs, start._replace(m=jnp.zeros_like(start.m)))
    assert_close(scan(rnnjax.slstm, params, xs)[1], expected, "float64")

    low_params, low_xs = jax.tree.map(lambda a: a.astype("float32"), (params, xs))
    for level in (-500.0, 500.0):
        moved = low_params._replace(b=low_params.b.at[:H].add(jnp.float32(level)))
        last, ys = scan(rnnjax.slstm, moved, low_xs[:1])
        assert_close(ys, expected[:1], "float32")  # the first step has no other to weigh against
        npt.assert_array_equal(last.n, 1)


def test_heads_of_an_slstm_are_the_blocks_of_a_block_diagonal_matrix():
    params, carry, xs = random_case(rnnjax.slstm, heads=2)
    gates = zip(*(cut(block, 4) for block in np.asarray(params.w_h)), strict=True)
    dense = np.zeros((4, H, H))
    for of_gate, (first, second) in zip(dense, gates, strict=True):
        of_gate[: H // 2, : H // 2], of_gate[H // 2 :, H // 2 :] = first, second
    whole = params._replace(w_h=jnp.concatenate(jnp.asarray(dense), axis=1)[None])
    expected = scan(rnnjax.slstm, whole, xs, carry)
    assert_close(scan(rnnjax.slstm, params, xs, carry), expected, "float64")
    in_numpy = jax.tree.map(np.asarray, (params, carry, xs[0]))
    step = rnnjax.one_step(rnnjax.slstm, params, carry, xs[0])
    assert_close(step, slstm_equation(*in_numpy), "float64")


@pytest.mark.parametrize(
    "name", ["lstm_peephole", "lstm_projected", "lstm_layer_norm", "conv_lstm_1d", "slstm"]
)
def test_forget_bias_is_added_to_the_forget_gate_alone(name):
    init = rnnjax.recurrences.REGISTRY[name].init
    for options, expected in (({}, 1.0), ({"forget_bias": 2.5}, 2.5)):
        b = init(jax.random.key(0), I, H, initializers=ZEROS, **options).b
        npt.assert_array_equal(np.split(b, 4), [[value] * H for value in (0, expected, 0, 0)])


@pytest.mark.parametrize(
    ("name", "options", "of_input", "of_recurrent"),
    [
        ("lstm_peephole", {}, {(I, H)}, {(H, H)}),
        ("lstm_projected", {"projection_size": 2}, {(I, H), (H, 2)}, {(2, H)}),
        ("lstm_layer_norm", {}, {(I, H)}, {(H, H)}),
        ("gru_layer_norm", {}, {(I, H)}, {(H, H)}),
        ("indrnn", {"smallest_recurrent": 1.0}, {(I, H)}, set()),
        ("conv_lstm_1d", {}, {(3, I, H)}, {(3, H, H)}),
        ("conv_lstm_2d", {}, {(3, 3, I, H)}, {(3, 3, H, H)}),
        ("slstm", {"heads": 2}, {(I, H)}, {(H // 2, H // 2)}),
    ],
)
def test_initializers_are_used_gate_by_gate_and_the_rest_begins_as_stated(
    name, options, of_input, of_recurrent
):
    shapes = set(), set(), set()
    given = Initializers(*(constant(i + 2, of_kind) for i, of_kind in enumerate(shapes)))
    recurrence = rnnjax.recurrences.REGISTRY[name]
    without_forget_bias = {} if name in ("indrnn", "gru_layer_norm") else {"forget_bias": 0.0}
    params = recurrence.init(
        jax.random.key(0), I, H, initializers=given, **options, **without_forget_bias
    )
    assert shapes == (of_input, of_recurrent, {(H,)})
    fields = params._asdict()
    expected = {"w_x": 2, "w_h": 3, "w_projection": 2, "peepholes": 0} | (
        {"w_h": 1} if name == "indrnn" else {}
    )
    for field, value in fields.items():
        npt.assert_array_equal(value, expected.get(field, 4 if field.startswith("b") else 1))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "lstm_projected",
            {"projection_size": 0},
            "projection_size: got 0, expected an integer of at least 1",
        ),
        (
            "indrnn",
            {"smallest_recurrent": 2.0},
            "smallest_recurrent, largest_recurrent: got 2.0, 1.0, "
            "expected smallest_recurrent <= largest_recurrent",
        ),
        ("conv_lstm_1d", {"kernel_size": 2}, "kernel_size: got 2, expected an odd number"),
        (
            "conv_lstm_1d",
            {"spatial_shape": (3, 4)},
            "spatial_shape: got (3, 4), expected a tuple of 1 sizes",
        ),
        (
            "conv_lstm_2d",
            {"spatial_shape": (3, 0)},
            "spatial_shape[1]: got 0, expected an integer of at least 1",
        ),
        ("slstm", {"heads": 3}, "heads: got 3, expected a divisor of hidden_size, 4"),
        ("slstm", {"heads": 0}, "heads: got 0, expected an integer of at least 1"),
    ],
)
def test_options_that_are_none_are_refused(name, options, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        rnnjax.recurrences.REGISTRY[name].init(jax.random.key(0), I, H, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lstm_projected", {"projection_size": 3}),
        ("conv_lstm_1d", {"spatial_shape": (4,), "kernel_size": 5}),
        ("conv_lstm_2d", {"spatial_shape": (4, 3), "kernel_size": 1}),
        ("slstm", {"heads": 4}),
    ],
)
def test_options_are_read_off_the_shapes(name, options):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    params, _, _ = random_case(recurrence, **options)
    sizes = recurrence.sizes
    assert sizes is not None
    assert sizes(params) == {"input_size": I, "hidden_size": H, **options}


def test_an_image_of_another_shape_is_refused():
    params, _, xs = random_case(rnnjax.conv_lstm_2d, spatial_shape=(4, 3))
    with pytest.raises(ValueError, match=r"^xs: got .*, expected \(T, \*B, 4, 3, 3\)"):
        scan(rnnjax.conv_lstm_2d, params, jnp.swapaxes(xs, 2, 3))


def test_parameters_of_an_lstm_are_not_those_of_one_with_peepholes():
    params, _, xs = random_case(rnnjax.lstm)
    assert isinstance(params, LSTMParams)
    with pytest.raises(TypeError, match="expected LSTMPeepholeParams"):
        scan(rnnjax.lstm_peephole, params, xs)
