"""Long short-term memory of images: convolutions in place of matrix products."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences.convolutions import convolution
from rnnjax.recurrences.initializers import (
    DEFAULT_INITIALIZERS,
    Initializers,
    add_forget_bias,
    check_sizes,
    per_gate,
)
from rnnjax.recurrences.lstm_peephole import gates_with_peepholes
from rnnjax.recurrences.protocol import Recurrence


class ConvLSTMParams(NamedTuple):
    """Gates are stacked on the last axis in the order (i, f, g, o), peepholes as (i, f, o).

    *S are the spatial axes, *K as many widths of a kernel, I and H channels.
    """

    w_x: Array  # (*K, I, 4H)
    w_h: Array  # (*K, H, 4H)
    b: Array  # (4H,)
    peepholes: Array  # (*S, 3H)


def initial_carry(params: ConvLSTMParams, batch_shape: tuple[int, ...]) -> tuple[Array, Array]:
    """(h^<0>, c^<0>) = 0, `(*B, *S, H)` each."""
    shape = (*batch_shape, *params.peepholes.shape[:-1], params.w_h.shape[-2])
    return jnp.zeros(shape, params.b.dtype), jnp.zeros(shape, params.b.dtype)


def project(params: ConvLSTMParams, xs: Array) -> Array:
    """`(..., *S, I) -> (..., *S, 4H)`. All that does not depend on the carry."""
    return convolution(xs, params.w_x) + params.b


def step(
    params: ConvLSTMParams, carry: tuple[Array, Array], z: Array
) -> tuple[tuple[Array, Array], Array]:
    """One step of the convolutional LSTM; not linear in the carry.

    i = σ(W_xi * x + W_hi * h + p_i c + b_i)
    f = σ(W_xf * x + W_hf * h + p_f c + b_f)
    g = tanh(W_xg * x + W_hg * h + b_g)
    c' = f c + i g
    o = σ(W_xo * x + W_ho * h + p_o c' + b_o)
    h' = o tanh(c'),  y = h'

    Shapes: h, c and y `(..., *S, H)`, each p `(*S, H)`, z `(..., *S, 4H)`. The carry is `(h, c)`.
    `*` is the convolution with zeros around the image; the products with p are elementwise, and p
    is of every place its own. The gates need parameters, so there is no `mix`.

    References:
        Shi et al. (2015), arXiv:1506.04214, equation 3; its W_c are p. The ConvLSTM of Keras has no
        peepholes.
    """
    h, c = carry
    # Peepholes have the shape of an image, and so were rounded as matrices are.
    peepholes = params.peepholes.astype(c.dtype)
    return gates_with_peepholes(z + convolution(h, params.w_h), c, peepholes)


def input_shape(params: ConvLSTMParams) -> tuple[int, ...]:
    """`(*S, I)`."""
    return (*params.peepholes.shape[:-1], params.w_x.shape[-2])


def sizes(params: ConvLSTMParams) -> dict[str, Any]:
    """I, H, *S and K."""
    return {
        "input_size": params.w_x.shape[-2],
        "hidden_size": params.w_h.shape[-2],
        "spatial_shape": params.peepholes.shape[:-1],
        "kernel_size": params.w_x.shape[0],
    }


def of_spatial_shape(name: str, default: tuple[int, ...]) -> Recurrence:
    """A convolutional LSTM over as many spatial axes as the default shape has.

    Args:
        name: What to call it.
        default: *S, where `init` is given none.
    """
    spatial_axes = len(default)

    def init(
        key: Array,
        input_size: int,
        hidden_size: int,
        *,
        spatial_shape: tuple[int, ...] = default,
        kernel_size: int = 3,
        forget_bias: float = 1.0,
        dtype: DTypeLike = jnp.float32,
        initializers: Initializers = DEFAULT_INITIALIZERS,
    ) -> ConvLSTMParams:
        """Draw parameters, gate by gate; by default Glorot, orthogonal and zero bias.

        The peepholes begin at zero.

        Args:
            key: A random key.
            input_size: I, channels of an input.
            hidden_size: H, channels of the state.
            spatial_shape: *S, width or height and width of inputs and state.
            kernel_size: Width of the kernels along each spatial axis, odd.
            forget_bias: Added to the forget gate's bias at the start.
            dtype: Floating.
            initializers: What each gate's block is drawn from, kernels being `(*K, I, H)`.

        Raises:
            ValueError: A size is not an integer or below one, the kernel's is even, or the spatial
                shape has another number of axes.
            TypeError: The dtype is not floating.
        """
        input_size, hidden_size, kernel_size = check_sizes(
            dtype, input_size=input_size, hidden_size=hidden_size, kernel_size=kernel_size
        )
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: got {kernel_size}, expected an odd number")
        if not isinstance(spatial_shape, tuple) or len(spatial_shape) != spatial_axes:
            raise ValueError(
                f"spatial_shape: got {spatial_shape!r}, expected a tuple of {spatial_axes} sizes"
            )
        spatial_shape = check_sizes(
            dtype, **{f"spatial_shape[{i}]": size for i, size in enumerate(spatial_shape)}
        )
        key_x, key_h, key_b = jax.random.split(key, 3)
        kernel = (kernel_size,) * spatial_axes
        shape_x, shape_h = (*kernel, input_size, hidden_size), (*kernel, hidden_size, hidden_size)
        b = per_gate(initializers.bias, key_b, 4, (hidden_size,), dtype)
        return ConvLSTMParams(
            per_gate(initializers.input, key_x, 4, shape_x, dtype),
            per_gate(initializers.recurrent, key_h, 4, shape_h, dtype),
            add_forget_bias(b, forget_bias),
            jnp.zeros((*spatial_shape, 3 * hidden_size), dtype),
        )

    return Recurrence(
        name=name,
        summary=f"convolutional LSTM in {spatial_axes}D with peepholes, Shi et al. (2015); "
        "not linear in the carry",
        init=init,
        initial_carry=initial_carry,
        project=project,
        step=step,
        input_shape=input_shape,
        sizes=sizes,
    )


conv_lstm_1d = of_spatial_shape("conv_lstm_1d", (8,))
conv_lstm_2d = of_spatial_shape("conv_lstm_2d", (8, 8))
