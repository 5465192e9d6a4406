import copy
import dataclasses
import importlib.util
import sys
from functools import partial
from itertools import product
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from support.tolerances import assert_close

import rnnjax
import rnnjax.nnx as modules
from rnnjax.interop import safetensors
from rnnjax.interop.network import Network
from rnnjax.layers.bidirectional import BidirectionalParams, add, scan_bidirectional
from rnnjax.layers.deep import Layer, init_deep, scan_deep
from rnnjax.recurrences.elman import ElmanParams
from rnnjax.recurrences.gru import GRUParams
from rnnjax.recurrences.lstm import LSTMParams

T, B, I, H = 5, 3, 4, 6  # noqa: E741
LENGTHS = np.array([5, 0, 3])
DTYPE = "float64"
LEVEL_0 = {"xla_backend_optimization_level": 0}  # compiled in less time, to the same values
# A bidirectional layer, and a residual one on top.
LAYERS = (Layer(rnnjax.elman, backward=rnnjax.minimal_gru), Layer(rnnjax.elman, residual=True))


def drawn(seed, shapes):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes)


def drawn_cell(recurrence, seed=0, dtype=DTYPE, **options):
    """Of numbers none of which is zero."""
    shapes = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), I, H, dtype=dtype))
    return modules.Cell(recurrence, drawn(seed, shapes), **options)


@pytest.fixture(scope="module")
def xs():
    """`(T, B, I)`, as the functions take it."""
    return jax.random.normal(jax.random.key(1), (T, B, I), jnp.float64)


@pytest.fixture(scope="module")
def inputs(xs):
    """`(B, T, I)`, as the modules take it."""
    return jnp.moveaxis(xs, 0, 1)


@pytest.fixture(scope="module")
def network():
    init = partial(init_deep, layers=LAYERS, input_size=I, hidden_sizes=(H, 2 * H))
    shapes = jax.eval_shape(partial(init, dtype=jnp.float64), jax.random.key(0))
    return Network(LAYERS, drawn(0, shapes))


def compiled(function, module, *arguments):
    """`function(module, *arguments)`, in one program."""
    graph, state = nnx.split(module)

    @partial(jax.jit, compiler_options=LEVEL_0)
    def run(state, arguments):
        return function(nnx.merge(graph, state), *arguments)

    return run(state, arguments)


def total(tree):
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(tree))


def gradient_of(loss, module):
    """A module that holds the gradients in place of the parameters."""
    return nnx.merge(nnx.graphdef(module), nnx.grad(loss)(module))


def turned_round(ys, lengths):
    """Row by row: the outputs in the order in which they were made."""
    ys = np.array(ys)
    for row, length in enumerate(lengths):
        ys[:length, row] = ys[:length, row][::-1].copy()
    return ys


def time_first(out):
    carry, ys = out
    return carry, jnp.moveaxis(ys, 1, 0)


def test_an_rnn_is_the_scan_in_every_layout_order_and_option(xs, inputs):
    start, fresh = drawn(2, jnp.zeros((2, B, H)))
    resets = jnp.zeros((T, B), bool).at[2].set(True).at[3, 0].set(True)

    def by_module(rnn, time_major, reverse, keep_order, masked):
        rows = resets if time_major else resets.T
        out = rnn(
            xs if time_major else inputs,
            initial_carry=start,
            return_carry=True,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
            **({"seq_lengths": LENGTHS, "resets": rows, "fresh_carry": fresh} if masked else {}),
        )
        return out if time_major else time_first(out)

    def by_function(params, reverse, masked):
        masks = {"lengths": LENGTHS, "resets": resets, "fresh_carry": fresh} if masked else {}
        return rnnjax.scan(
            rnnjax.elman, params, xs, start, reverse=reverse, plan="reference", **masks
        )

    def everything(rnn):
        outputs = {way: by_module(rnn, *way) for way in product((False, True), repeat=4)}
        params = rnn.cell.params
        expected = {way: by_function(params, *way) for way in product((False, True), repeat=2)}
        gradient = gradient_of(lambda rnn: total(by_module(rnn, False, True, False, True)), rnn)
        of_function = jax.grad(lambda params: total(by_function(params, True, True)))(params)
        return outputs, expected, (gradient.cell.params, of_function)

    rnn = modules.RNN(drawn_cell(rnnjax.elman), plan="reference")
    outputs, expected, (gradient, of_function) = compiled(everything, rnn)
    for (time_major, reverse, keep_order, masked), (carry, ys) in outputs.items():
        expected_carry, expected_ys = expected[reverse, masked]
        if reverse and not keep_order:
            expected_ys = turned_round(expected_ys, LENGTHS if masked else (T,) * B)
        context = f"{time_major=} {reverse=} {keep_order=} {masked=}"
        assert_close((carry, ys), (expected_carry, expected_ys), DTYPE, context)
    assert_close(gradient, of_function, DTYPE)


def test_what_a_module_was_made_with_holds_where_a_call_says_nothing(xs, inputs):
    options: Any = {"time_major": True, "return_carry": True, "reverse": True, "keep_order": True}
    opposite: Any = dict.fromkeys(options, False)

    def both(cell):
        made = modules.RNN(cell, plan="reference", **options)
        told = modules.RNN(cell, plan="reference")
        by_init = made(xs), made(inputs, **opposite)
        return by_init, (told(xs, **options), told(inputs))

    by_init, by_call = compiled(both, drawn_cell(rnnjax.elman))
    assert_close(by_init, by_call, DTYPE)


def test_any_number_of_batch_axes():
    """Lengths, order of running and carry are those of the rows in one axis."""
    flat = drawn(3, jnp.zeros((6, T, I)))
    lengths = np.arange(6) % (T + 1)
    run = partial(modules.RNN, reverse=True, return_carry=True, plan="reference")

    def everything(cell):
        rnn = run(cell)
        shaped = rnn(flat.reshape(2, 3, T, I), seq_lengths=lengths.reshape(2, 3))
        alone = [rnn(flat[row], seq_lengths=lengths[row]) for row in (3, 0)]
        return rnn(flat, seq_lengths=lengths), shaped, alone

    of_rows, shaped, alone = compiled(everything, drawn_cell(rnnjax.lstm))
    expected = jax.tree.map(lambda leaf: leaf.reshape(2, 3, *leaf.shape[1:]), of_rows)
    assert_close(shaped, expected, DTYPE)
    for row, out in zip((3, 0), alone, strict=True):
        assert_close(out, jax.tree.map(lambda leaf, row=row: leaf[row], of_rows), DTYPE)


def test_the_order_of_running_holds_for_narrow_and_for_unknown_lengths():
    """A time of 130 is none of int8; under `jit` a length of −1 acts as 0 and of 131 as 130."""
    time_steps = 130
    cell = modules.Cell(rnnjax.elman, ElmanParams(jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.ones(1)))
    xs = drawn(0, jnp.zeros((3, time_steps, 1)))

    def runs(cell, narrow, outside):
        rnn = modules.RNN(cell, reverse=True, plan="reference")
        running = [rnn(xs, seq_lengths=lengths) for lengths in (narrow, outside)]
        return running, [rnn(xs, seq_lengths=n, keep_order=True) for n in (narrow, outside)]

    narrow, outside = np.array([127, 3, 0], np.int8), np.array([131, -1, 127])
    running, ordered = compiled(runs, cell, narrow, outside)
    for ys, in_order, lengths in zip(running, ordered, (narrow, outside), strict=True):
        assert np.any(ys[0] != in_order[0])
        expected = turned_round(np.moveaxis(in_order, 1, 0), np.clip(lengths, 0, time_steps))
        assert_close(np.moveaxis(ys, 1, 0), expected, DTYPE)


def test_a_bidirectional_module_is_its_function(xs, inputs):
    pair = (rnnjax.elman, rnnjax.minimal_gru)
    start, fresh = drawn(2, ((jnp.zeros((B, H)),) * 2,) * 2)
    starts = jnp.zeros((T, B), bool).at[2, 0].set(True)

    def by_module(module, **options):
        return time_first(module(inputs, seq_lengths=LENGTHS, return_carry=True, **options))

    def by_function(params, *carry, **options):
        return scan_bidirectional(
            pair, params, xs, *carry, lengths=LENGTHS, merge=add, plan="reference", **options
        )

    def params_of(module):
        rnns = module.forward_rnn, module.backward_rnn
        return BidirectionalParams(*(rnn.cell.params for rnn in rnns))

    def everything(module):
        params, packed = params_of(module), {"fresh_carry": fresh}
        outputs = (
            by_module(module),
            by_module(module, initial_carry=start, resets=starts.T, **packed),
            module(xs, seq_lengths=LENGTHS, time_major=True),
        )
        expected = by_function(params), by_function(params, start, resets=starts, **packed)
        gradient = gradient_of(lambda module: total(by_module(module)), module)
        of_function = jax.grad(lambda params: total(by_function(params)))(params)
        return outputs, (*expected, expected[0][1]), (params_of(gradient), of_function)

    cells = drawn_cell(rnnjax.elman), drawn_cell(rnnjax.minimal_gru, seed=1)
    rnns = [modules.RNN(cell, plan="reference") for cell in cells]
    module = modules.Bidirectional(*rnns, merge_fn=add)
    outputs, expected, (gradient, of_function) = compiled(everything, module)
    assert_close(outputs, expected, DTYPE)
    assert_close(gradient, of_function, DTYPE)


def test_a_deep_module_is_its_function(xs, inputs, network):
    start, fresh = drawn(2, (((jnp.zeros((B, H)),) * 2, jnp.zeros((B, 2 * H))),) * 2)
    starts = jnp.zeros((T, B), bool).at[2, 0].set(True)
    masks = {"fresh_carry": fresh, "resets": starts}

    def by_module(module):
        options = {**masks, "resets": starts.T, "initial_carry": start, "seq_lengths": LENGTHS}
        return time_first(module(inputs, return_carry=True, **options))

    def by_function(params):
        return scan_deep(LAYERS, params, xs, start, lengths=LENGTHS, plan="reference", **masks)

    def everything(module):
        params = module.network.params
        outputs = by_module(module), module(xs, time_major=True)
        expected = by_function(params), scan_deep(LAYERS, params, xs, plan="reference")[1]
        gradient = gradient_of(lambda module: total(by_module(module)), module)
        of_function = jax.grad(lambda params: total(by_function(params)))(params)
        return outputs, expected, (gradient.network.params, of_function)

    module = modules.DeepRNN(network, plan="reference")
    outputs, expected, (gradient, of_function) = compiled(everything, module)
    assert_close(outputs, expected, DTYPE)
    assert_close(gradient, of_function, DTYPE)
    assert module.network.layers == LAYERS
    assert_close(module.network.params, network.params, DTYPE)


def test_a_cell_makes_the_steps_of_its_rnn_and_runs_in_that_of_flax(inputs):
    """The carry of an LSTM is (h, c); a step is what `flax.nnx.RNN` takes."""

    def everything(cell):
        whole = modules.RNN(cell, return_carry=True, plan="reference")(inputs)
        carry, ys = cell.initialize_carry((B, I)), []
        for t in range(T):
            carry, y = cell(carry, inputs[:, t])
            ys.append(y)
        by_flax = nnx.RNN(cell, return_carry=True, rngs=False)
        return whole, (carry, jnp.stack(ys, axis=1)), by_flax(inputs), carry[0]

    cell = drawn_cell(rnnjax.lstm)
    assert isinstance(cell, nnx.RNNCellBase)
    whole, in_steps, by_flax, h = compiled(everything, cell)
    assert_close(in_steps, whole, DTYPE)
    assert_close(by_flax, whole, DTYPE)
    assert np.array_equal(h, in_steps[1][:, -1])


@pytest.mark.parametrize(
    ("recurrence", "options"),
    [
        (rnnjax.conv_lstm_2d, {"spatial_shape": (3, 2)}),
        (rnnjax.mlstm, {"heads": 2}),
        (rnnjax.lru, {}),
        (rnnjax.qrnn, {}),
        (rnnjax.lstm_projected, {"projection_size": 3}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_every_recurrence_can_be_a_cell(recurrence, options):
    """Made without a value, as for a model too large to be made twice; images have more axes."""

    def rnn():
        cell = modules.init_cell(recurrence, I, H, rngs=nnx.Rngs(0), **options)
        return modules.RNN(cell, return_carry=True, plan="reference")

    abstract = nnx.eval_shape(rnn)
    params = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), I, H, **options))
    held = nnx.to_pure_dict(nnx.state(abstract.cell))
    assert held == params._asdict()

    features = recurrence.input_shape(params)
    xs = jax.ShapeDtypeStruct((T, 2, B, *features), jnp.float32)
    inputs = jax.ShapeDtypeStruct((2, B, T, *features), jnp.float32)
    out = nnx.eval_shape(lambda rnn, inputs: rnn(inputs), abstract, inputs)
    carry, ys = jax.eval_shape(
        lambda params, xs: rnnjax.scan(recurrence, params, xs, plan="reference"), params, xs
    )
    assert out[0] == carry
    assert out[1].shape == (2, B, T, *ys.shape[3:])


def test_the_cells_of_one_recurrence_draw_by_its_init():
    """With its options, in any floating dtype, from the stream `params`."""
    for of_one, recurrence in (
        (modules.ElmanCell, rnnjax.elman),
        (modules.MinimalGRUCell, rnnjax.minimal_gru),
        (modules.GRUCell, rnnjax.gru),
        (modules.LSTMCell, rnnjax.lstm),
    ):
        made = nnx.eval_shape(lambda of_one=of_one: of_one(I, H, rngs=nnx.Rngs(0)))
        assert made.recurrence is recurrence
        assert (made.in_features, made.hidden_features) == (I, H)

    drawn_with = []

    def init(key, *sizes, **options):
        drawn_with.append((jax.random.key_data(key).tolist(), sizes, options))
        return LSTMParams(*jnp.zeros((3, 1)))

    class ProbeCell(modules.LSTMCell):
        _recurrence = dataclasses.replace(rnnjax.lstm, init=init)

    options = {"forget_bias": 3.0, "initializers": None}
    rngs = nnx.Rngs(params=7)
    ProbeCell(in_features=I, hidden_features=H, param_dtype=jnp.bfloat16, rngs=rngs, **options)
    key = jax.random.key_data(nnx.Rngs(params=7).params()).tolist()
    assert drawn_with == [(key, (I, H), {"dtype": jnp.bfloat16, **options})]


def test_an_initial_carry_is_drawn_only_where_it_is_to_be():
    def key_of(key, shape, dtype):
        return jnp.full(shape, jax.random.key_data(key)[-1], dtype)

    cell = drawn_cell(rnnjax.lstm)
    assert_close(cell.initialize_carry((2, B, I)), (np.zeros((2, B, H)),) * 2, DTYPE)
    by_streams = cell.initialize_carry((B, I), nnx.Rngs(carry=0), key_of)
    h, c = by_stream = cell.initialize_carry((B, I), nnx.Rngs(carry=0).carry, key_of)
    assert_close(by_streams, by_stream, DTYPE)
    assert h.shape == c.shape == (B, H)
    assert not np.any(h == c)


def test_inputs_of_16_bits_give_outputs_of_16_bits_near_those_of_64(inputs, network):
    """Sums, and a carry that was given, are of 32; `dtype` says that inputs are to be rounded."""
    to_32 = partial(jax.tree.map, lambda leaf: leaf.astype(jnp.float32))
    low = inputs.astype(jnp.bfloat16)
    cell = drawn_cell(rnnjax.gru)

    def in_32(recurrence, dtype=None):
        given = modules.Cell(recurrence, to_32(drawn_cell(recurrence).params), dtype=dtype)
        return modules.RNN(given, return_carry=True, plan="reference")

    rnn, elman = in_32(rnnjax.gru), in_32(rnnjax.elman)
    of_32 = Network(LAYERS, to_32(network.params))
    low_modules = (
        rnn,
        in_32(rnnjax.gru, jnp.bfloat16),
        modules.Bidirectional(rnn, elman, return_carry=True),
        modules.DeepRNN(of_32, return_carry=True, plan="reference", dtype="bfloat16"),
    )

    def everything(low_modules):
        rounded = [module(low) for module in low_modules]
        from_32 = [low_modules[i](low.astype(jnp.float32)) for i in (1, 3)]
        kept, _ = rnn(low, initial_carry=jnp.zeros((B, H), jnp.float32))
        exact = modules.RNN(cell, plan="reference")(low.astype(jnp.float64))
        step = rnn.cell(kept, low[:, 0])
        return rounded, from_32, (kept, step), exact

    rounded, from_32, (kept, (carry, y)), exact = compiled(everything, nnx.List(low_modules))
    for out in (*rounded, *from_32):
        assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype(jnp.bfloat16)}
    assert_close(rounded[0][1], exact, "bfloat16")
    for by_dtype, by_inputs in zip(from_32, (rounded[0], rounded[3]), strict=True):
        assert_close(by_dtype, by_inputs, "bfloat16")
    assert (kept.dtype, carry.dtype, y.dtype) == (jnp.float32, jnp.float32, jnp.bfloat16)


def test_a_plan_and_a_dtype_of_sums_reach_the_scan(inputs, network):
    """All plans give the same; what a plan cannot do is said by it."""
    plans = ("reference", "fused", rnnjax.plans.checkpointed_in(2))
    made = [
        [modules.RNN(drawn_cell(rnnjax.gru), plan=plan, return_carry=True) for plan in plans],
        [modules.DeepRNN(network, plan=plan, return_carry=True) for plan in plans],
    ]
    outputs = compiled(
        lambda made: [[module(inputs) for module in group] for group in made],
        nnx.List(map(nnx.List, made)),
    )
    for by_reference, *others in outputs:
        for out in others:
            assert_close(out, by_reference, DTYPE)

    cannot = "'associative' cannot serve this: {} is not linear in its carry"
    refused = modules.RNN(drawn_cell(rnnjax.gru), plan="associative")
    with pytest.raises(ValueError, match=cannot.format("gru")):
        refused(inputs)
    with pytest.raises(ValueError, match=cannot.format("gru")):
        modules.Bidirectional(refused, refused)(inputs)
    with pytest.raises(ValueError, match=cannot.format("elman")):
        modules.DeepRNN(network, plan="associative")(inputs)
    narrow = {"accumulation_dtype": jnp.bfloat16}
    rnn = modules.RNN(drawn_cell(rnnjax.gru), **narrow)
    for module in (rnn, modules.Bidirectional(rnn, rnn), modules.DeepRNN(network, **narrow)):
        with pytest.raises(TypeError, match="accumulation_dtype: got bfloat16, expected a float"):
            module(inputs)


def identities(count, rate=0.5, **options):
    """Layers each of which returns its non-negative inputs."""
    params = ElmanParams(jnp.eye(H), jnp.zeros((H, H)), jnp.zeros(H))
    network = Network((Layer(rnnjax.elman_relu),) * count, (params,) * count)
    return modules.DeepRNN(network, dropout_rate=rate, plan="reference", **options)


def test_dropout_is_of_what_goes_between_layers():
    """Of each unit, row and step by itself, and the rest scaled; out of a single layer, nothing."""

    @partial(jax.jit, compiler_options=LEVEL_0)
    def through(inputs):
        return [identities(n, rate=0.25, rngs=nnx.Rngs(0))(inputs) for n in (1, 2, 3)]

    by_1, by_2, by_3 = map(np.asarray, through(jnp.ones((50, T, H))))
    assert (by_1 == 1).all()
    assert_close(np.unique(by_2), np.array([0, 1 / 0.75]), DTYPE)
    assert_close(np.unique(by_3), np.array([0, 1 / 0.75**2]), DTYPE)
    for axis in range(3):
        assert not np.array_equal(by_2, np.roll(by_2, 1, axis))
    kept = np.mean(by_2 > 0), np.mean(by_3 > 0)
    assert np.allclose(kept, (0.75, 0.75**2), rtol=0, atol=0.05)  # of 1500 draws, over 3 deviations


def test_dropout_is_reproducible_and_off_in_evaluation():
    @partial(jax.jit, compiler_options=LEVEL_0)
    def run():
        module, silent = (identities(2, rngs=nnx.Rngs(dropout=3)) for _ in range(2))
        without = identities(2)
        inputs = jnp.ones((B, T, H))
        first, again = module(inputs), module(inputs)
        same = [silent(inputs, deterministic=False)]
        silent.eval()
        quiet = [silent(inputs), module(inputs, deterministic=True)]
        silent.train()
        same.append(silent(inputs))
        by_call = [
            without(inputs, rngs=nnx.Rngs(dropout=5)),
            without(inputs, rngs=nnx.Rngs(dropout=5).dropout),
            without(inputs.mT.mT, time_major=True, rngs=nnx.Rngs(dropout=6)),
        ]
        return (first, again), same, quiet, by_call

    dropped, same, quiet, by_call = run()
    assert not np.array_equal(*dropped)
    assert np.array_equal(dropped, same)
    assert np.array_equal(quiet, np.ones_like(quiet))
    assert np.array_equal(by_call[0], by_call[1])
    assert not np.array_equal(by_call[0], by_call[2])
    assert identities(2, deterministic=True)(np.ones((B, T, H))).all()


def test_modules_of_many_weights_by_vmap_and_of_many_layers_by_scan(inputs):
    """Of one program, and the same as a loop over them."""

    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs):
        cell = modules.ElmanCell(I, I, param_dtype=jnp.float64, rngs=rngs)
        return modules.RNN(cell, plan="reference")

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    def upon_another(xs, rnn):
        return rnn(xs)

    def everything(rnns):
        graph, state = nnx.split(rnns)
        each = [nnx.merge(graph, jax.tree.map(lambda leaf, i=i: leaf[i], state)) for i in range(3)]
        above = inputs
        for rnn in each:
            above = rnn(above)
        side_by_side = nnx.vmap(lambda rnn, xs: rnn(xs), in_axes=(0, None))(rnns, inputs)
        in_a_loop = jnp.stack([rnn(inputs) for rnn in each]), above
        return (side_by_side, upon_another(inputs, rnns)), in_a_loop

    graph, shapes = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    at_once, in_a_loop = compiled(everything, nnx.merge(graph, drawn(0, shapes)))
    assert_close(at_once, in_a_loop, DTYPE)


def test_a_module_is_split_merged_cloned_copied_and_shown(inputs, network):
    rnn = modules.RNN(drawn_cell(rnnjax.elman), plan="unrolled")
    expected = rnn(inputs)
    graph, params, rest = nnx.split(rnn, nnx.Param, ...)
    assert not jax.tree.leaves(rest)
    for again in (nnx.merge(graph, params), nnx.clone(rnn), copy.deepcopy(rnn)):
        assert isinstance(again, modules.RNN)
        assert again.cell.recurrence is rnnjax.elman
        assert nnx.graphdef(again) == graph
        assert np.array_equal(again(inputs), expected)
    assert copy.deepcopy(rnnjax.plans.unrolled_by(3)) is rnnjax.plans.unrolled_by(3)

    held = dict(nnx.to_flat_state(nnx.state(modules.DeepRNN(network))))
    assert ("cells", 0, 1, "w_h") in held
    assert ("cells", 1, "b") in held
    assert "recurrence=<recurrence elman>" in repr(rnn)

    cell = nnx.eval_shape(lambda: modules.LSTMCell(I, H, rngs=nnx.Rngs(0)))
    cell.w_h.set_metadata(out_sharding=(None, "model"))
    spec: Any = nnx.get_partition_spec(nnx.state(cell))
    assert spec["w_h"].get_value() == jax.P(None, "model")


def test_training_with_an_optimizer_decreases_the_loss_and_is_traced_once():
    """Which sign had the first input? With lengths, and dropout between layers."""
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.choice([-1.0, 1.0], (32, T, 1)))
    lengths = jnp.asarray(rng.integers(2, T + 1, 32))
    shapes = jax.eval_shape(
        lambda: init_deep(jax.random.key(0), rnnjax.elman, 1, (8, 8), dtype=jnp.float64)
    )
    stack = Network((Layer(rnnjax.elman),) * 2, jax.tree.map(lambda a: 0.3 * a, drawn(0, shapes)))
    traces = []

    @nnx.jit
    def train_step(model, optimizer, inputs, lengths):
        traces.append(1)

        def loss(model):
            carry, _ = model(inputs, seq_lengths=lengths, return_carry=True)
            return jnp.mean((jnp.mean(carry[-1], axis=-1) - inputs[:, 0, 0]) ** 2)

        value, gradient = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradient)
        return value

    model = modules.DeepRNN(stack, dropout_rate=0.1, plan="fused", rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(0.02), wrt=nnx.Param)
    with jax.numpy_dtype_promotion("standard"):  # Optax leans on it
        losses = [float(train_step(model, optimizer, inputs, lengths)) for _ in range(80)]
    assert np.mean(losses[-10:]) < 0.3 * losses[0]
    assert len(traces) == 1
    assert optimizer.step[...] == 80
    assert model.rngs is not None
    assert model.rngs.count[...] == 80


def test_a_checkpoint_brings_back_weights_and_the_next_mask(tmp_path):
    module = identities(2, rngs=nnx.Rngs(dropout=0))
    module(np.ones((B, T, H)))
    graph, state = nnx.split(module)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "module", state)
    same, abstract = nnx.split(nnx.eval_shape(lambda: identities(2, rngs=nnx.Rngs(dropout=1))))
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "module", abstract)
    assert same == graph

    @partial(jax.jit, compiler_options=LEVEL_0)
    def twice(state):
        module = nnx.merge(graph, state)
        return module(jnp.ones((B, T, H))), module(jnp.ones((B, T, H)))

    first, second = twice(state)
    assert not np.array_equal(first, second)
    assert np.array_equal(twice(restored), (first, second))


def test_a_file_of_weights_brings_back_a_module(tmp_path, inputs, network):
    """By the functions' own records, and of any module by the names of its arrays."""
    path = tmp_path / "weights.safetensors"
    deep = modules.DeepRNN(network, plan="reference")
    safetensors.save(path, deep.network)
    again = modules.DeepRNN(safetensors.load(path), plan="reference")
    assert np.array_equal(again(inputs), deep(inputs))

    rnn = modules.RNN(drawn_cell(rnnjax.elman), plan="reference")
    safetensors.save(path, nnx.to_pure_dict(nnx.state(rnn)))
    other = modules.RNN(drawn_cell(rnnjax.elman, seed=1), plan="reference")
    state = nnx.state(other)
    nnx.replace_by_pure_dict(state, safetensors.load(path))
    nnx.update(other, state)
    assert np.array_equal(other(inputs), rnn(inputs))


def flax_cell(of_flax, seed=0, **options):
    """A cell of Flax, of numbers none of which is zero."""
    options = {"dtype": jnp.float64, "param_dtype": jnp.float64, **options}
    abstract = nnx.eval_shape(lambda: of_flax(I, H, rngs=nnx.Rngs(0), **options))
    graph, shapes = nnx.split(abstract)
    return nnx.merge(graph, drawn(seed, shapes))


def as_cell(cell) -> Any:
    """The same weights in a cell of rnnjax."""

    def stacked(what, *names):
        return jnp.concatenate([getattr(getattr(cell, name), what)[...] for name in names], axis=-1)

    match cell:
        case nnx.LSTMCell():
            w_x = stacked("kernel", "ii", "if_", "ig", "io")
            hidden = "hi", "hf", "hg", "ho"
            params = LSTMParams(w_x, stacked("kernel", *hidden), stacked("bias", *hidden))
            return modules.Cell(rnnjax.lstm, params)
        case nnx.OptimizedLSTMCell():
            biases = stacked("bias", "dense_h")
            params = LSTMParams(stacked("kernel", "dense_i"), stacked("kernel", "dense_h"), biases)
            return modules.Cell(rnnjax.lstm, params)
        case nnx.GRUCell():
            b_x = stacked("bias", "dense_i")
            w_x, w_h = stacked("kernel", "dense_i"), stacked("kernel", "dense_h")
            return modules.Cell(rnnjax.gru, GRUParams(w_x, w_h, b_x, 0 * b_x))
        case nnx.SimpleCell():
            biases = stacked("bias", "dense_i")
            params = ElmanParams(stacked("kernel", "dense_i"), stacked("kernel", "dense_h"), biases)
            return modules.Cell(rnnjax.elman, params)


CELLS_OF_FLAX = (nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell)


def test_weights_of_flax_compute_what_flax_computes(inputs):
    """Within the lengths of rows that are not empty: values, carries, gradients, all orders."""
    lengths = np.array([T, 1, 3])
    within = (jnp.arange(T) < lengths[:, None])[..., None]
    options = {"seq_lengths": lengths, "return_carry": True}

    def outputs(of, cells, inputs):
        first, second, third, fourth = cells
        ordered = of.RNN(first)(inputs, reverse=True, keep_order=True, **options)
        running = of.RNN(second)(inputs, reverse=True, **options)
        both_ways = of.Bidirectional(of.RNN(third), of.RNN(fourth))(inputs, **options)
        return [(carry, jnp.where(within, ys, 0)) for carry, ys in (ordered, running, both_ways)]

    def loss(of, cells, inputs):
        out = outputs(of, cells if of is nnx else [*map(as_cell, cells)], inputs)
        return total(out), out

    def everything(cells):
        with_gradients = partial(nnx.value_and_grad, argnums=(0, 1), has_aux=True)
        return [with_gradients(partial(loss, of))(cells, inputs) for of in (nnx, modules)]

    by_flax, ours = compiled(everything, nnx.List(map(flax_cell, CELLS_OF_FLAX)))
    ((_, out_of_flax), gradients_of_flax), ((_, out), gradients) = by_flax, ours
    for index in (0, 1):  # the LSTMs: their carry is (c, h) in Flax
        (c, h), ys = out_of_flax[index]
        out_of_flax[index] = (h, c), ys
    assert_close(out, out_of_flax, DTYPE)
    assert_close(gradients, gradients_of_flax, DTYPE)


def test_a_row_of_length_0_returns_its_initial_carry_and_in_flax_that_of_its_padding(inputs):
    start = drawn(2, jnp.zeros((B, H)))
    options: Any = {"initial_carry": start, "return_carry": True}

    def everything(cell):
        ours, lengths = modules.RNN(as_cell(cell), plan="reference"), jnp.asarray(LENGTHS)
        return [
            [rnn(inputs, seq_lengths=lengths, **options)[0] for rnn in (ours, nnx.RNN(cell))],
            nnx.RNN(cell)(inputs, **options)[0],
        ]

    (ours, by_flax), after_padding = compiled(everything, flax_cell(nnx.GRUCell))
    assert_close(ours[::2], by_flax[::2], DTYPE)
    assert np.array_equal(ours[1], start[1])
    assert_close(by_flax[1], after_padding[1], DTYPE)
    assert not np.any(np.isclose(by_flax[1], start[1]))


def test_several_batch_axes_take_lengths_and_in_flax_no_carry_comes_of_it():
    """That Flax fails where the axes differ, and returns a wrong shape where they do not."""
    inputs = drawn(0, jnp.zeros((2, 3, T, I)))
    lengths = jnp.array([[5, 1, 3], [2, 4, 5]])
    cell = flax_cell(nnx.SimpleCell)
    ours = modules.RNN(as_cell(cell), return_carry=True, plan="reference")
    of_flax = nnx.RNN(cell, return_carry=True)
    carry, ys = ours(inputs, seq_lengths=lengths)
    assert carry.shape == (2, 3, H)
    for place, length in np.ndenumerate(np.asarray(lengths)):
        assert np.array_equal(carry[place], ys[place][length - 1])
    with pytest.raises(ValueError, match="Incompatible shapes for broadcasting"):
        of_flax(inputs, seq_lengths=lengths)

    def carry_shape(rnn):
        run = partial(type(rnn).__call__, seq_lengths=lengths[:, :2])
        return nnx.eval_shape(run, rnn, inputs[:, :2])[0].shape

    assert carry_shape(ours) == (2, 2, H)
    assert carry_shape(of_flax) == (2, 2, 2, H)


def test_inputs_of_16_bits_stay_so_and_in_flax_gated_cells_return_32():
    """Flax's simple cell fails: its first carry has 32 bits and its next one 16."""
    low = jax.ShapeDtypeStruct((B, T, I), jnp.bfloat16)
    dtypes = {"dtype": jnp.bfloat16, "param_dtype": jnp.float32}

    def dtypes_of(of, cell):
        rnn = of.RNN(cell, return_carry=True)
        out = nnx.eval_shape(lambda rnn, inputs: rnn(inputs), rnn, low)
        return {leaf.dtype.name for leaf in jax.tree.leaves(out)}

    with jax.numpy_dtype_promotion("standard"):
        for of_flax in CELLS_OF_FLAX:
            cell = flax_cell(of_flax, **dtypes)
            assert dtypes_of(modules, as_cell(cell)) == {"bfloat16"}
            if of_flax is nnx.SimpleCell:
                with pytest.raises(TypeError, match="input and carry output must have equal types"):
                    dtypes_of(nnx, cell)
            else:
                assert dtypes_of(nnx, cell) == {"float32"}


def test_a_gru_has_a_bias_within_its_reset_gate_and_that_of_flax_has_none():
    """Inputs that reach the reset gate alone act on the first output by that bias only."""
    cell = flax_cell(nnx.GRUCell)
    assert cell.dense_h.bias is None
    cell.dense_i.kernel[...] = cell.dense_i.kernel[...].at[:, H:].set(0)
    x = drawn(1, jnp.zeros((8, I)))
    of_flax, _ = cell(jnp.zeros((8, H)), x)
    assert_close(of_flax, jnp.broadcast_to(of_flax[0], (8, H)), DTYPE)

    ours = as_cell(cell)
    assert_close(ours(jnp.zeros((8, H)), x)[0], of_flax, DTYPE)
    ours.b_h[...] = ours.b_h[...].at[2 * H :].set(1.0)
    with_bias, _ = ours(jnp.zeros((8, H)), x)
    assert (np.ptp(with_bias, axis=0) > 0.05).all()


def test_padding_of_nan_reaches_no_gradient_and_in_flax_it_does(inputs):
    within = (jnp.arange(T) < LENGTHS[:, None])[..., None]

    def gradients(cell):
        def loss(cell, of):
            poisoned = jnp.where(within, inputs, jnp.nan)
            rnn = of.RNN(as_cell(cell) if of is modules else cell)
            return total(jnp.where(within, rnn(poisoned, seq_lengths=LENGTHS), 0))

        return [nnx.grad(partial(loss, of=of))(cell).dense_h.kernel[...] for of in (modules, nnx)]

    ours, of_flax = compiled(gradients, flax_cell(nnx.SimpleCell))
    assert np.isfinite(ours).all()
    assert np.isnan(of_flax).all()


def test_an_rnn_runs_under_plain_transforms_and_that_of_flax_does_not(inputs):
    """It holds weights alone; that of Flax counts keys of a carry that is not random."""
    cell = flax_cell(nnx.SimpleCell)
    ours, of_flax = modules.RNN(as_cell(cell), plan="reference"), nnx.RNN(cell)

    @partial(jax.jit, compiler_options=LEVEL_0)
    def run(inputs):
        return ours(inputs), jax.grad(lambda inputs: total(ours(inputs)))(inputs)

    ys, gradient = run(inputs)
    assert_close(ys, ours(inputs), DTYPE)
    assert (np.asarray(gradient) != 0).all()
    with pytest.raises(flax.errors.TraceContextError, match="Cannot mutate RngCount"):
        jax.eval_shape(of_flax, inputs)


WORDS = "xs are the inputs with time first, as are resets; lengths are seq_lengths"


def test_bad_arguments_are_refused(xs, inputs, network):
    cell = drawn_cell(rnnjax.elman)
    rnn, deep = modules.RNN(cell), modules.DeepRNN(network)
    both = modules.Bidirectional(rnn, rnn)
    for module in (rnn, both, deep):
        with pytest.raises(ValueError, match=r"inputs: got shape \(3, 5, 3\), expected \(\*B, T"):
            module(inputs[..., :3])
        with pytest.raises(ValueError, match=r"inputs: got shape \(4,\), expected \(T, \*B, 4\)"):
            module(inputs[0, 0], time_major=True)
        with pytest.raises(ValueError, match=r"lengths: got 6, expected values within 0 … 5") as by:
            module(inputs, seq_lengths=np.array([1, 6, 2]))
        assert by.value.__notes__[-1].startswith(WORDS)
        with pytest.raises(ValueError, match=r"lengths: got shape \(5,\), expected \(3,\) \(\*B\)"):
            module(inputs, seq_lengths=np.ones(T, int))
        with pytest.raises(ValueError, match=r"resets: got shape \(3, 5\), expected \(5, 3\)"):
            module(inputs, resets=np.zeros((T, B), bool))
        with pytest.raises(ValueError, match=r"resets: got shape \(\), expected \(5, 3\)"):
            module(inputs, resets=np.bool_(True))
        with pytest.raises(TypeError, match="xs: got dtype int32, expected float64"):
            module(inputs.astype(jnp.int32))
    with pytest.raises(ValueError, match=r"carry: got shape \(3, 5\), expected \(3, 6\)"):
        rnn(inputs, initial_carry=jnp.zeros((B, H - 1)))
    with pytest.raises(ValueError, match="carry: got 3 carries, expected a forward and a backward"):
        both(inputs, initial_carry=(None, None, None))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="carry: got 1, expected a carry for each of 2 layers"):
        deep(inputs, initial_carry=(None,))

    with pytest.raises(TypeError, match="recurrence: got rnnjax's ElmanParams, expected rnnj"):
        modules.Cell(cell.params, cell.params)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="dtype: got int32, expected a floating dtype"):
        modules.Cell(rnnjax.elman, cell.params, dtype=jnp.int32)
    with pytest.raises(ValueError, match="params: got an array named 'dtype', which a Cell has"):
        modules.Cell(rnnjax.elman, {"dtype": jnp.ones(1)})
    with pytest.raises(ValueError, match=r"input_shape: got \(3, 6\), expected \(\*B, 4\)"):
        cell.initialize_carry((B, H))
    with pytest.raises(ValueError, match="rngs: got None, expected random streams, one of them 'c"):
        cell.initialize_carry((B, I), carry_init=jax.nn.initializers.ones)
    streams = nnx.Rngs(0)
    with pytest.raises(ValueError, match="in_features: got 0, expected an integer of at least 1"):
        modules.LSTMCell(0, H, rngs=streams)
    with pytest.raises(ValueError, match="hidden_features: got -1, expected an integer of a"):
        modules.LSTMCell(I, -1, rngs=streams)
    with pytest.raises(TypeError, match="param_dtype: got int32, expected a floating dtype"):
        modules.GRUCell(I, H, param_dtype=jnp.int32, rngs=streams)
    with pytest.raises(TypeError, match="unexpected keyword argument 'gate_fn'"):
        modules.GRUCell(I, H, gate_fn=jax.nn.relu, rngs=streams)

    of_flax = flax_cell(nnx.SimpleCell)
    with pytest.raises(TypeError, match="cell: got flax's SimpleCell, expected rnnjax's Cell"):
        modules.RNN(of_flax)  # pyright: ignore[reportArgumentType]
    for i, name in enumerate(("forward_rnn", "backward_rnn")):
        pair = [rnn, rnn]
        pair[i] = nnx.RNN(of_flax)  # pyright: ignore[reportArgumentType, reportCallIssue]
        with pytest.raises(TypeError, match=f"{name}: got flax's RNN, expected rnnjax's RNN"):
            modules.Bidirectional(*pair)
    rounding = modules.Cell(rnnjax.elman, cell.params, dtype="bfloat16")
    for other, message in (
        (modules.RNN(cell, plan="fused"), "plan: got fused, expected that of forward_rnn, auto"),
        (modules.RNN(cell, accumulation_dtype=jnp.float64), "accumulation_dtype: got float64, exp"),
        (modules.RNN(rounding), r"cell\.dtype: got bfloat16, expected that of forward_rnn, None"),
    ):
        with pytest.raises(ValueError, match=f"backward_rnn.{message}"):
            modules.Bidirectional(rnn, other)

    layers, params = network
    with pytest.raises(TypeError, match="network: got builtins's tuple, expected rnnjax's Network"):
        modules.DeepRNN((layers, params))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="network: got 2 layers and parameters of 1, expected as"):
        modules.DeepRNN(Network(layers, params[:1]))
    with pytest.raises(ValueError, match="network: got 0 layers and parameters of 0, expected as"):
        modules.DeepRNN(Network((), ()))
    bare: tuple = (rnnjax.elman,)
    with pytest.raises(TypeError, match=r"network.layers\[0\]: got rnnjax's Recurrence, expected"):
        modules.DeepRNN(Network(bare, params[1:]))
    with pytest.raises(TypeError, match=r"network.params\[0\]: got ElmanParams, expected Bidirect"):
        modules.DeepRNN(Network(layers[:1], params[1:]))
    with pytest.raises(ValueError, match="dropout_rate: got 1, expected 0 ≤ dropout_rate < 1"):
        modules.DeepRNN(network, dropout_rate=1)
    with pytest.raises(TypeError, match="dtype: got int32, expected a floating dtype"):
        modules.DeepRNN(network, dtype=jnp.int32)
    with pytest.raises(ValueError, match="rngs: got None, expected random streams, one of them 'd"):
        modules.DeepRNN(network, dropout_rate=0.5)(inputs)
    with pytest.raises(ValueError, match="in_features: got 0, expected an integer of at least 1"):
        modules.init_deep_rnn(rnnjax.elman, 0, (H,), rngs=streams)
    with pytest.raises(ValueError, match="layers: got 2, expected 1 or 1, one a layer"):
        modules.init_deep_rnn(LAYERS, I, (H,), rngs=streams)


def test_without_flax_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "flax", None)
    spec = importlib.util.spec_from_file_location("without_flax", modules.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.raises(ImportError, match=r"needs flax: pip install 'rnnjax-lib\[flax\]'"):
        spec.loader.exec_module(module)
