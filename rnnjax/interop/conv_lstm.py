"""The convolutional LSTM that Flax and Haiku share: other names, one equation."""

import numpy as np

from rnnjax.interop.cells import Arrays, Cell, reorder_gates, split_gates, stack_gates
from rnnjax.recurrences.conv_lstm import ConvLSTMParams, conv_lstm_1d, conv_lstm_2d

_RECURRENCES = {1: conv_lstm_1d, 2: conv_lstm_2d}


def conv_lstm_cell(
    kind: str,
    spatial_axes: int,
    names: tuple[str, str, str, str],
    spatial_shape: tuple[int, ...] | None = None,
) -> Cell:
    """A convolutional LSTM without peepholes, its gates in the order (i, g, f, o).

    i = σ(W_xi * x + W_hi * h + b_xi + b_hi) and so for g and o, f = σ(… + 1)

    Our one bias is b_x + b_h, and 1 more for f; written is all of it as b_x. Our peepholes are zero
    when read, and must be to be written.

    Args:
        kind: What the framework calls it.
        spatial_axes: 1 or 2.
        names: Of the kernel and bias of inputs, and the kernel and bias of the state.
        spatial_shape: *S, which no array there says; not asked for writing.

    Raises:
        ValueError: There is no such recurrence of so many axes.
    """
    if spatial_axes not in _RECURRENCES:
        raise ValueError(f"{kind}: got {spatial_axes} spatial axes, expected 1 or 2")
    w_x, b_x, w_h, b_h = names
    # One letter for all widths: our kernels are as wide as high.
    kernel = ("K",) * spatial_axes

    def read(name: str, arrays: Arrays) -> Arrays:
        if not isinstance(spatial_shape, tuple) or len(spatial_shape) != spatial_axes:
            raise ValueError(
                f"spatial_shape: got {spatial_shape!r}, expected the {spatial_axes} sizes of an "
                f"image in a tuple, for {name}"
            )
        width = arrays[w_x].shape[0]
        if width % 2 == 0:
            raise ValueError(f"{name}.{w_x}: got kernels {width} wide, expected an odd number")
        bias = split_gates(arrays[b_x] + arrays[b_h], "igfo")
        bias["f"] = bias["f"] + one(bias["f"])
        return {
            "w_x": reorder_gates(arrays[w_x], "igfo", "ifgo"),
            "w_h": reorder_gates(arrays[w_h], "igfo", "ifgo"),
            "b": stack_gates(bias, "ifgo"),
            "peepholes": np.zeros((*spatial_shape, 3 * arrays[w_h].shape[-2]), arrays[w_x].dtype),
        }

    def write(name: str, fields: Arrays) -> Arrays:
        if np.any(fields["peepholes"]):
            raise ValueError(f"{name}.peepholes: got some that are not zero, {kind} has none")
        bias = split_gates(fields["b"], "ifgo")
        bias["f"] = bias["f"] - one(bias["f"])
        return {
            w_x: reorder_gates(fields["w_x"], "ifgo", "igfo"),
            b_x: stack_gates(bias, "igfo"),
            w_h: reorder_gates(fields["w_h"], "ifgo", "igfo"),
            b_h: np.zeros_like(fields["b"]),
        }

    return Cell(
        kind,
        _RECURRENCES[spatial_axes],
        ConvLSTMParams,
        {w_x: (*kernel, "I", "4H"), b_x: ("4H",), w_h: (*kernel, "H", "4H"), b_h: ("4H",)},
        read,
        write,
        optional=(b_x, b_h),
    )


def one(like: np.ndarray) -> np.ndarray:
    """1 in the array's dtype: bfloat16 is no dtype that NumPy promotes to."""
    return np.ones((), like.dtype)
