"""What docs/guide/07-coming-from-other-frameworks.md says of calls, asked of the frameworks.

That weights mean what it says is shown by the tests of `rnnjax.interop`.
"""

import os
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

import rnnjax
from rnnjax.interop.haiku import from_haiku_params
from rnnjax.interop.keras import from_keras
from rnnjax.interop.torch import from_torch
from rnnjax.layers.deep import scan_deep
from rnnjax.nnx import RNN, Cell, DeepRNN

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad"),
]

T, B, I, H = 5, 3, 4, 6  # noqa: E741
LENGTHS = np.array([5, 2, 0])
MASK = np.arange(T) < LENGTHS[:, None]
DTYPE = "float32"


@pytest.fixture(autouse=True)
def as_users_run_them():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def torch() -> Any:
    return import_module("torch")


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ["KERAS_BACKEND"] = "jax"
    return import_module("keras")


@pytest.fixture(scope="module")
def haiku() -> Any:
    return import_module("haiku")


@pytest.fixture(scope="module")
def inputs():
    """`(B, T, I)`."""
    return np.random.default_rng(0).normal(size=(B, T, I)).astype(DTYPE)


def test_torch_returns_all_states_in_one_array_by_layer_and_direction(torch, inputs):
    lstm = torch.nn.LSTM(I, H, num_layers=2, bidirectional=True, batch_first=True)
    with torch.no_grad():
        y, (h_n, c_n) = lstm(torch.tensor(inputs))
    carry, ys = DeepRNN(from_torch(lstm), return_carry=True)(inputs)
    assert_close(ys, y.numpy(), DTYPE)
    for layer, ((h, c), (h_back, c_back)) in enumerate(carry):
        assert_close((h, c), (h_n[2 * layer].numpy(), c_n[2 * layer].numpy()), DTYPE)
        assert_close(
            (h_back, c_back), (h_n[2 * layer + 1].numpy(), c_n[2 * layer + 1].numpy()), DTYPE
        )
    with torch.no_grad():
        alone, _ = torch.nn.GRU(I, H)(torch.tensor(inputs[0]))
    assert alone.shape == (T, H)
    with pytest.raises(ValueError, match="Expected input to be 2D or 3D"):
        lstm(torch.zeros(2, B, T, I))


def test_torch_packs_rows_that_are_not_empty(torch, inputs):
    pack = torch.nn.utils.rnn.pack_padded_sequence
    gru, lengths = torch.nn.GRU(I, H, batch_first=True), [2, 5, 1]
    with torch.no_grad():
        packed, h_n = gru(pack(torch.tensor(inputs), lengths, True, enforce_sorted=False))
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    (h,), ys = DeepRNN(from_torch(gru), return_carry=True)(inputs, seq_lengths=np.array(lengths))
    assert_close((h, ys), (h_n[0].numpy(), y.numpy()), DTYPE)
    with pytest.raises(RuntimeError, match="has to be greater than 0"):
        pack(torch.tensor(inputs), [5, 2, 0], batch_first=True)


def test_torch_drops_anew_at_each_step_between_layers(torch):
    rnn = torch.nn.RNN(H, H, num_layers=2, nonlinearity="relu", dropout=0.5, bias=False)
    with torch.no_grad():
        for name, weight in rnn.named_parameters():
            weight.copy_(torch.eye(H) if "weight_ih" in name else torch.zeros(H, H))
        y = rnn(torch.ones(200, B, H))[0].numpy()
    assert set(np.unique(y)) == {
        0.0,
        2.0,
    }  # out of the top layer nothing is dropped, or 4 were here
    assert not (y[1:] == y[:-1]).all(axis=0).any()


def test_keras_returns_outputs_then_states(keras, inputs):
    layer = keras.layers.LSTM(H, return_sequences=True, return_state=True)
    y, h, c = map(np.asarray, layer(inputs))
    ((h_ours, c_ours),), ys = DeepRNN(from_keras(layer), return_carry=True)(inputs)
    assert_close((ys, h_ours, c_ours), (y, h, c), DTYPE)
    last = keras.layers.LSTM(H)
    last(inputs)
    last.set_weights(layer.get_weights())
    assert_close(h_ours, np.asarray(last(inputs)), DTYPE)

    both = keras.layers.Bidirectional(layer)
    _, *states = map(np.asarray, both(inputs))
    (((h, c), (h_back, c_back)),), _ = DeepRNN(from_keras(both), return_carry=True)(inputs)
    assert_close((h, c, h_back, c_back), tuple(states), DTYPE)


@pytest.mark.parametrize("zero", [False, True])
def test_keras_repeats_the_last_output_over_a_mask_or_is_zero(keras, inputs, zero):
    options = {"return_sequences": True, "return_state": True}
    layer = keras.layers.GRU(H, zero_output_for_mask=zero, **options)
    start = np.random.default_rng(1).normal(size=(B, H)).astype(DTYPE)
    y, h = map(np.asarray, layer(inputs, mask=MASK, initial_state=[start]))
    (ours,), ys = DeepRNN(from_keras(layer), return_carry=True)(
        inputs, initial_carry=(start,), seq_lengths=LENGTHS
    )
    assert_close(ours, h, DTYPE)
    assert np.array_equal(h[2], start[2])
    assert_close(np.where(MASK[..., None], y, 0), np.asarray(ys), DTYPE)
    assert_close(y[1, 2:], np.zeros((3, H)) if zero else np.tile(y[1, 1], (3, 1)), DTYPE)


def test_keras_goes_backwards_with_padding_first(keras, inputs):
    layer = keras.layers.SimpleRNN(H, return_sequences=True, go_backwards=True)
    y = np.asarray(layer(inputs, mask=MASK))
    network = from_keras(layer, reverse=True)
    _, in_order = scan_deep(*network, jnp.moveaxis(inputs, 1, 0), lengths=LENGTHS, reverse=True)
    running = RNN(Cell(rnnjax.elman, network.params[0]), reverse=True)(inputs, seq_lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        assert_close(y[row, T - length :], np.asarray(running[row, :length]), DTYPE)
        assert_close(y[row, T - length :], np.asarray(in_order[:length, row][::-1]), DTYPE)


def test_keras_drops_the_same_at_all_steps_and_by_gate_in_gated_layers(keras):
    rnn = keras.layers.SimpleRNN(H, "relu", dropout=0.5, return_sequences=True, use_bias=False)
    ones = np.ones((B, T, H), DTYPE)
    rnn(ones)
    rnn.set_weights([np.eye(H), np.zeros((H, H))])
    y = np.asarray(rnn(ones, training=True))
    assert set(np.unique(y)) == {0.0, 2.0}
    assert (y == y[:, :1]).all()
    for layer, masks in ((keras.layers.GRU, 3), (keras.layers.LSTM, 4)):
        assert layer(H, recurrent_dropout=0.5).cell.dropout_mask_count == masks


def test_the_forget_gate_begins_with_1_in_keras_and_with_0_in_flax(keras, inputs):
    nnx = import_module("flax.nnx")
    lstm = keras.layers.LSTM(H)
    lstm(inputs)
    expected = np.repeat(np.array([0, 1, 0, 0], DTYPE), H)
    assert np.array_equal(lstm.get_weights()[2], expected)
    ours = rnnjax.lstm.init(jax.random.key(0), I, H)
    assert np.array_equal(ours.b, expected)
    assert not nnx.OptimizedLSTMCell(I, H, rngs=nnx.Rngs(0)).dense_h.bias[...].any()


def test_haiku_returns_outputs_then_states_and_resets_before_the_step(haiku, inputs):
    resets = np.random.default_rng(0).random((B, T)) < 0.4

    def unroll(inputs, resets):
        core = haiku.ResetCore(haiku.LSTM(H, name="lstm"))
        start = core.initial_state(B)
        return haiku.dynamic_unroll(core, (inputs, resets), start, time_major=False)

    network = haiku.without_apply_rng(haiku.transform(unroll))
    params = network.init(jax.random.key(0), inputs, resets)
    y, state = network.apply(params, inputs, resets)
    ours = from_haiku_params({"lstm": "LSTM"}, params)
    ((h, c),), ys = DeepRNN(ours, return_carry=True)(inputs, resets=resets)
    assert_close((ys, h, c), (y, state.hidden, state.cell), DTYPE)


def test_haiku_reverses_in_the_order_of_the_inputs_and_takes_one_batch_axis(haiku, inputs):
    def unroll(inputs):
        core = haiku.DeepRNN([haiku.VanillaRNN(H, name="below"), haiku.GRU(H, name="above")])
        return haiku.dynamic_unroll(core, inputs, core.initial_state(B), reverse=True)

    network = haiku.without_apply_rng(haiku.transform(unroll))
    xs = np.moveaxis(inputs, 1, 0)
    params = network.init(jax.random.key(0), xs)
    y, states = network.apply(params, xs)
    ours = from_haiku_params({"below": "VanillaRNN", "above": "GRU"}, params)
    carry, ys = scan_deep(*ours, xs, reverse=True)
    assert_close((carry, ys), (states, y), DTYPE)
    for core in (haiku.LSTM, haiku.GRU):
        one_step = haiku.transform(lambda x, core=core: core(H)(x, core(H).initial_state(B)))
        with pytest.raises(ValueError, match="rank-1 or rank-2"):
            one_step.init(jax.random.key(0), jnp.zeros((2, B, I)))


def test_linen_has_the_faults_of_nnx_but_for_the_bias_of_its_gru(inputs):
    """A row of length 0, several batch axes with a carry, and float32 out of bfloat16."""
    linen: Any = import_module("flax.linen")
    rnn = linen.RNN(linen.GRUCell(H, dtype=jnp.bfloat16), return_carry=True)
    low = inputs.astype(jnp.bfloat16)
    variables = rnn.init(jax.random.key(0), low)
    assert variables["params"]["cell"]["hn"]["bias"].shape == (H,)
    carry, ys = rnn.apply(variables, low, seq_lengths=LENGTHS)
    after_padding, _ = rnn.apply(variables, low)
    assert ys.dtype == carry.dtype == jnp.float32
    assert np.array_equal(carry[2], after_padding[2])
    with pytest.raises(ValueError, match="Incompatible shapes for broadcasting"):
        rnn.apply(variables, np.stack([low, low]), seq_lengths=np.stack([LENGTHS, LENGTHS]))
