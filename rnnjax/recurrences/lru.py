"""The linear recurrent unit: a complex diagonal recurrence."""

from math import tau
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from rnnjax.recurrences.initializers import check_sizes, drawing_dtype
from rnnjax.recurrences.linear import LinearForm, Stage, linear_step
from rnnjax.recurrences.products import product
from rnnjax.recurrences.protocol import Recurrence


class LRUParams(NamedTuple):
    """Real numbers all, so that they are trained as such; H is the paper's N."""

    nu_log: Array  # (H,)
    theta_log: Array  # (H,)
    gamma_log: Array  # (H,)
    b_re: Array  # (I, H)
    b_im: Array  # (I, H)
    c_re: Array  # (H, O)
    c_im: Array  # (H, O)
    d: Array  # (I,) where O = I, else (I, O)


class Projected(NamedTuple):
    """What does not depend on the carry."""

    drive: Array  # (..., H)  complex
    skip: Array  # (..., O)


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    output_size: int | None = None,
    r_min: float = 0.0,
    r_max: float = 1.0,
    max_phase: float = tau,
    dtype: DTypeLike = jnp.float32,
) -> LRUParams:
    """Draw parameters as in the paper's appendix A, eigenvalues uniformly on a ring.

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H, the number of complex states.
        output_size: O; None is I, as in the paper.
        r_min: The eigenvalues' absolute values begin above this …
        r_max: … and below this; close to 1 for long memory.
        max_phase: Their phases begin within 0 … this.
        dtype: Floating.

    Raises:
        ValueError: A size is not an integer or below one, or not 0 <= r_min < r_max <= 1, or
            `max_phase` is not positive.
        TypeError: The dtype is not floating.
    """
    if output_size is None:
        output_size = input_size
    input_size, hidden_size, output_size = check_sizes(
        dtype, input_size=input_size, hidden_size=hidden_size, output_size=output_size
    )
    if not 0 <= r_min < r_max <= 1:
        raise ValueError(f"r_min, r_max: got {r_min}, {r_max}, expected 0 <= r_min < r_max <= 1")
    if not max_phase > 0:
        raise ValueError(f"max_phase: got {max_phase}, expected a positive number")
    drawn = drawing_dtype(dtype)
    keys = jax.random.split(key, 5)
    # 0 has no logarithm, though it is one of the 2^23 numbers that are drawn from.
    positive = {"shape": (hidden_size,), "dtype": drawn, "minval": jnp.finfo(drawn).tiny}
    gap = (1 - r_max**2) + (r_max**2 - r_min**2) * jax.random.uniform(keys[0], **positive)
    phase = max_phase * jax.random.uniform(keys[1], **positive)

    def normal(key: Array, shape: tuple[int, ...], variance: float) -> Array:
        return variance**0.5 * jax.random.normal(key, shape, drawn)

    b_re, b_im = normal(keys[2], (2, input_size, hidden_size), 0.5 / input_size)
    c_re, c_im = normal(keys[3], (2, hidden_size, output_size), 1 / hidden_size)
    params = LRUParams(
        nu_log=jnp.log(-0.5 * jnp.log1p(-gap)),  # gap is 1 − |λ|²
        theta_log=jnp.log(phase),
        gamma_log=0.5 * jnp.log(gap),
        b_re=b_re,
        b_im=b_im,
        c_re=c_re,
        c_im=c_im,
        d=normal(keys[4], (input_size,), 1.0)
        if output_size == input_size
        else normal(keys[4], (input_size, output_size), 1 / input_size),
    )
    return LRUParams(*(leaf.astype(dtype) for leaf in params))


def input_shape(params: LRUParams) -> tuple[int, ...]:
    """`(I,)`."""
    return (params.b_re.shape[0],)


def sizes(params: LRUParams) -> dict[str, Any]:
    """I, H and O."""
    (input_size, hidden_size), output_size = params.b_re.shape, params.c_re.shape[1]
    return {"input_size": input_size, "hidden_size": hidden_size, "output_size": output_size}


def initial_carry(params: LRUParams, batch_shape: tuple[int, ...]) -> Array:
    """h^<0> = 0, `(*B, H)`, complex."""
    zero = jnp.zeros((*batch_shape, params.nu_log.shape[0]), params.nu_log.dtype)
    return _complex(zero, zero)


def _complex(real: Array, imaginary: Array) -> Array:
    """Of 32-bit parts at least: there are none of 16."""
    dtype = jnp.float64 if real.dtype == jnp.float64 else jnp.float32
    return lax.complex(real.astype(dtype), imaginary.astype(dtype))


def project(params: LRUParams, xs: Array) -> Projected:
    """`(..., I) -> (exp(γ) B x, D x)`. All that does not depend on the carry."""
    gamma = jnp.exp(params.gamma_log)
    drive = _complex(gamma * product(xs, params.b_re), gamma * product(xs, params.b_im))
    skip = params.d * xs if params.d.ndim == 1 else product(xs, params.d)
    return Projected(drive, skip)


def eigenvalues(params: LRUParams) -> Array:
    """λ = exp(−exp(ν) + i exp(θ)), `(H,)`; |λ| < 1 whatever the parameters."""
    size, phase = jnp.exp(-jnp.exp(params.nu_log)), jnp.exp(params.theta_log)
    return _complex(size * jnp.cos(phase), size * jnp.sin(phase))


def _state(params: LRUParams, z: Projected, entered: tuple[Array, ...]) -> tuple[Array, Array]:
    del entered
    return eigenvalues(params), z.drive


def _read(params: LRUParams, z: Projected, entered: Array, h: Array) -> Array:
    del entered
    real, imaginary = h.real.astype(z.skip.dtype), h.imag.astype(z.skip.dtype)
    return product(real, params.c_re) - product(imaginary, params.c_im) + z.skip


LINEAR = LinearForm((Stage(_state),), _read)
"""h' = λ h + exp(γ) B x, y = Re(C h') + D x."""


def step(params: LRUParams, h: Array, z: Projected) -> tuple[Array, Array]:
    """One step of the LRU; linear in the carry.

    λ = exp(−exp(ν) + i exp(θ))
    h' = λ h + exp(γ) (B x),  y = Re(C h') + D x

    Shapes: h, h' and λ `(..., H)`, complex; y `(..., O)`. The carry is `h`, of complex128 beside
    float64, else of complex64. D is diagonal where O = I, as in the paper, else a matrix.

    References:
        Orvieto et al. (2023), "Resurrecting Recurrent Neural Networks for Long Sequences",
        arXiv:2303.06349, section 3, and appendix A for the initial parameters.
    """
    return linear_step(LINEAR, params, h, z)


lru = Recurrence(
    name="lru",
    summary="Orvieto et al. (2023), a complex diagonal state; linear in the carry",
    init=init,
    initial_carry=initial_carry,
    project=project,
    step=step,
    input_shape=input_shape,
    sizes=sizes,
    linear=LINEAR,
)
