from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

import rnnjax
from rnnjax.layers.bidirectional import BidirectionalParams, add, scan_bidirectional
from rnnjax.layers.deep import Layer, init_deep, initial_deep_carry, scan_deep, step_deep
from rnnjax.recurrences.elman import ElmanParams

T, B, I = 6, 3, 2  # noqa: E741
MIXED = (rnnjax.lstm, rnnjax.gru)
LENGTHS = np.array([6, 0, 4])
DTYPE = "float64"
LEVEL_0 = {"xla_backend_optimization_level": 0}  # compiled in less time, to the same values
# All that a layer may be: of sizes 2 -> 8 -> 8 -> 4 -> 4.
OF_ALL_KINDS = (
    Layer(rnnjax.gru, backward=rnnjax.elman),
    Layer(rnnjax.elman, backward=rnnjax.gru, merge=add, residual=True),
    rnnjax.minimal_gru,
    Layer(rnnjax.lstm, residual=True),
)
SIZES = (4, 8, 4, 4)


def drawn(rng, shapes):
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)


def drawn_params(rng, layers, sizes):
    return drawn(
        rng,
        jax.eval_shape(lambda: init_deep(jax.random.key(0), layers, I, sizes, dtype=jnp.float64)),
    )


@pytest.fixture(scope="module")
def params():
    return drawn_params(np.random.default_rng(0), MIXED, (4, 5))


@pytest.fixture(scope="module")
def xs():
    return jax.random.normal(jax.random.key(1), (T, B, I), jnp.float64)


def test_it_is_one_scan_upon_another_with_all_options(params, xs):
    resets = jnp.zeros((T, B), bool).at[2, 0].set(True)
    options = {"lengths": LENGTHS, "resets": resets, "reverse": True, "plan": "reference"}

    @partial(jax.jit, compiler_options=LEVEL_0)
    def both_ways(params, xs):
        low, hidden = rnnjax.scan(rnnjax.lstm, params[0], xs, **options)
        high, ys = rnnjax.scan(rnnjax.gru, params[1], hidden, **options)
        return scan_deep(MIXED, params, xs, **options), ((low, high), ys)

    by_layers, expected = both_ways(params, xs)
    assert_close(by_layers, expected, DTYPE)


def test_streaming_in_windows_and_in_steps_is_the_whole(params, xs):
    @partial(jax.jit, compiler_options=LEVEL_0)
    def every_way(params, xs):
        scan = partial(scan_deep, MIXED, params, plan="reference")
        middle, first = scan(xs[: T // 2])
        carry, second = scan(xs[T // 2 :], middle)
        in_windows = carry, jnp.concatenate([first, second])
        start = initial_deep_carry(MIXED, params, (B,))
        return scan(xs), in_windows, jax.lax.scan(partial(step_deep, MIXED, params), start, xs)

    whole, in_windows, in_steps = every_way(params, xs)
    assert_close(in_windows, whole, DTYPE)
    assert_close(in_steps, whole, DTYPE)


def test_plans_agree_on_the_gradient_of_every_layer(params, xs):
    def loss(params, plan):
        _, ys = scan_deep(MIXED, params, xs, lengths=LENGTHS, plan=plan)
        return jnp.sum(jnp.sin(ys))

    @partial(jax.jit, compiler_options=LEVEL_0)
    def gradients(params):
        return [jax.grad(loss)(params, plan) for plan in ("fused", "reference")]

    by_fused, by_reference = gradients(params)
    assert_close(by_fused, by_reference, DTYPE)


def test_one_recurrence_serves_all_layers_each_with_weights_of_its_own():
    init = partial(init_deep, layers=rnnjax.elman, input_size=3, hidden_sizes=[3, 3])
    params = jax.jit(init, compiler_options=LEVEL_0)(jax.random.key(0))
    first, second = params
    assert not np.array_equal(first.w_h, second.w_h)
    x = jnp.ones((1, 3), jnp.float32)
    by_two = scan_deep((rnnjax.elman,) * 2, params, x)
    assert_close(scan_deep(rnnjax.elman, params, x), by_two, "float32")


@pytest.fixture(scope="module")
def all_kinds():
    """Parameters, a carry, a fresh carry and masks, of numbers none of which is zero."""
    rng = np.random.default_rng(0)
    params = drawn_params(rng, OF_ALL_KINDS, SIZES)
    carry = jax.eval_shape(lambda p: initial_deep_carry(OF_ALL_KINDS, p, (B,)), params)
    masks = (drawn(rng, jnp.zeros((T, B, 8))), None, drawn(rng, jnp.zeros((B, 4))))
    return params, drawn(rng, carry), drawn(rng, carry), masks


def test_layers_of_all_kinds_are_their_scans_one_upon_another(all_kinds, xs):
    """Bidirectional, residual, with dropout between, from given carries and fresh ones."""
    starts = jnp.zeros((T, B), bool).at[2, 0].set(True).at[1, 2].set(True)
    shared = {"lengths": LENGTHS, "resets": starts, "plan": "reference"}
    within = (jnp.arange(T)[:, None] < LENGTHS)[..., None]

    def at_once(params, xs, carry, fresh, masks):
        options = {**shared, "fresh_carry": fresh, "dropout_masks": masks}
        return scan_deep(OF_ALL_KINDS, params, xs, carry, **options)

    def by_hand(params, xs, carry, fresh, masks):
        def both(directions, index, xs, merge):
            options = {**shared, "fresh_carry": fresh[index], "merge": merge}
            return scan_bidirectional(directions, params[index], xs, carry[index], **options)

        def one(recurrence, index, xs):
            options = {**shared, "fresh_carry": fresh[index]}
            return rnnjax.scan(recurrence, params[index], xs, carry[index], **options)

        concatenate = OF_ALL_KINDS[0].merge
        carry_0, first = both((rnnjax.gru, rnnjax.elman), 0, xs, concatenate)
        carry_1, second = both((rnnjax.elman, rnnjax.gru), 1, first * masks[0], add)
        second = first + second
        carry_2, third = one(rnnjax.minimal_gru, 2, second)
        carry_3, fourth = one(rnnjax.lstm, 3, third * masks[2][None])
        return (carry_0, carry_1, carry_2, carry_3), jnp.where(within, third + fourth, 0)

    @partial(jax.jit, compiler_options=LEVEL_0)
    def both_ways(arguments):
        return at_once(*arguments), by_hand(*arguments)

    params, carry, fresh, masks = all_kinds
    by_layers, expected = both_ways((params, xs, carry, fresh, masks))
    assert_close(by_layers, expected, DTYPE)


def test_a_residual_layer_hands_its_inputs_on_and_no_padding(xs):
    """With zero weights its outputs are zero, so it is the identity: within the lengths."""
    layer = Layer(rnnjax.elman, residual=True)
    zero = ElmanParams(jnp.zeros((I, I)), jnp.zeros((I, I)), jnp.zeros(I))
    past = (jnp.arange(T)[:, None] >= LENGTHS)[..., None]
    _, ys = scan_deep(layer, (zero, zero), jnp.where(past, jnp.nan, xs), lengths=LENGTHS)
    assert_close(ys, jnp.where(past, 0, xs), DTYPE)


def test_a_residual_dropped_network_streams_in_windows_and_in_steps(all_kinds, xs):
    layers = OF_ALL_KINDS[2:]
    params, carry = all_kinds[0][2:], all_kinds[1][2:]
    wide = jnp.concatenate([xs] * 4, axis=-1)
    mask = all_kinds[3][0][..., :4]

    @partial(jax.jit, compiler_options=LEVEL_0)
    def every_way():
        def masked(times, carry):
            options = {"dropout_masks": (mask[times],), "plan": "reference"}
            return scan_deep(layers, params, wide[times], carry, **options)

        whole = masked(slice(None), carry)
        middle, early = masked(slice(None, 2), carry)
        last, late = masked(slice(2, None), middle)
        in_windows = last, jnp.concatenate([early, late])
        undropped = scan_deep(layers, params, wide, carry, plan="reference")
        in_steps = jax.lax.scan(partial(step_deep, layers, params), carry, wide)
        return (whole, undropped), (in_windows, in_steps)

    whole, streamed = every_way()
    assert_close(streamed, whole, DTYPE)


def test_inputs_of_16_bits_give_outputs_of_16_bits_through_all_layers(all_kinds, xs):
    layers, (mask, _, _) = OF_ALL_KINDS[2:], all_kinds[3]
    params = jax.tree.map(lambda a: a.astype(jnp.float32), all_kinds[0][2:])
    low = jnp.concatenate([xs] * 4, axis=-1).astype(jnp.bfloat16)

    @partial(jax.jit, compiler_options=LEVEL_0)
    def in_both(params):
        def network(params, xs):
            options = {"lengths": LENGTHS, "plan": "reference"}
            masks = (mask[..., :4].astype(xs.dtype),)
            return scan_deep(layers, params, xs, dropout_masks=masks, **options)

        exact = jax.tree.map(lambda a: a.astype(jnp.float64), params)
        return network(params, low), network(exact, low.astype(jnp.float64))

    (carry, ys), (_, expected) = in_both(params)
    assert {leaf.dtype for leaf in jax.tree.leaves((carry, ys))} == {jnp.dtype(jnp.bfloat16)}
    assert_close(ys, expected, "bfloat16")


def test_a_repeated_call_traces_once(params, xs):
    traces = 0

    def counted(params, carry, z):
        nonlocal traces
        traces += 1
        return rnnjax.elman.step(params, carry, z)

    elman = rnnjax.Recurrence(
        "counted",
        "",
        rnnjax.elman.init,
        rnnjax.elman.initial_carry,
        rnnjax.elman.project,
        counted,
        rnnjax.elman.input_shape,
    )
    weights = drawn_params(np.random.default_rng(0), elman, (2, 2))
    scan_deep(elman, weights, xs)
    after_the_first = traces
    scan_deep(elman, weights, xs + 1)
    assert traces == after_the_first


def test_bad_arguments_are_refused(params, xs):
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="hidden_sizes: got none, expected at least one layer"):
        init_deep(key, rnnjax.gru, I, ())
    with pytest.raises(ValueError, match=r"hidden_sizes\[1\]: got 0, expected an integer"):
        init_deep(key, rnnjax.gru, I, (3, 0))
    with pytest.raises(ValueError, match="layers: got 2, expected 1 or 3, one a layer"):
        init_deep(key, MIXED, I, (3, 3, 3))
    with pytest.raises(ValueError, match="params: got no layers, expected at least one"):
        scan_deep(MIXED, (), xs)
    with pytest.raises(ValueError, match="carry: got 1, expected a carry for each of 2"):
        scan_deep(MIXED, params, xs, initial_deep_carry(MIXED, params, (B,))[:1])
    with pytest.raises(ValueError, match="carry: got 1, expected 2, one a layer"):
        step_deep(MIXED, params, initial_deep_carry(MIXED, params, (B,))[:1], xs[0])
    with pytest.raises(ValueError, match="lengths: got 7, expected values within 0 … 6"):
        scan_deep(MIXED, params, xs, lengths=np.array([1, 7, 2]))
    other = (params[1]._replace(w_x=jnp.zeros((7, 15))),)
    with pytest.raises(ValueError, match=r"params\[1\]: takes inputs of shape \(7,\), expected"):
        scan_deep(MIXED, (params[0], *other), xs)


def test_bad_layers_are_refused(all_kinds, xs):
    params, carry, _, masks = all_kinds
    key = jax.random.key(0)
    scan = partial(scan_deep, OF_ALL_KINDS, params, xs)
    with pytest.raises(TypeError, match=r"layers\[1\]: got str, expected a Recurrence or a Layer"):
        init_deep(key, (rnnjax.gru, "gru"), I, (3, 3))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"layers\[0\]: is residual and makes outputs of shape"):
        jax.eval_shape(lambda: init_deep(key, Layer(rnnjax.elman, residual=True), I, (3,)))
    with pytest.raises(ValueError, match=r"layers\[0\]: is residual and makes outputs of shape"):
        step_deep(
            Layer(rnnjax.minimal_gru, residual=True), params[2:3], carry[2:3], jnp.ones((B, 8))
        )
    with pytest.raises(TypeError, match=r"params\[1\]: got GRUParams, expected Bidirectional"):
        scan_deep(OF_ALL_KINDS[:2], (params[0], params[1].backward), xs)
    with pytest.raises(TypeError, match=r"params\[0\]: got BidirectionalParams, expected those of"):
        scan_deep(rnnjax.gru, params[:1], xs)
    with pytest.raises(ValueError, match="reverse: got True of a network whose layer 0 is bidir"):
        scan(reverse=True)
    with pytest.raises(ValueError, match="one step of a network whose layer 0 is bidirectional"):
        step_deep(OF_ALL_KINDS, params, carry, xs[0])
    with pytest.raises(ValueError, match="fresh_carry: got 1, expected a carry for each o"):
        scan(fresh_carry=carry[:1])
    with pytest.raises(ValueError, match="dropout_masks: got 2, expected 3, one between two lay"):
        scan(dropout_masks=masks[:2])
    with pytest.raises(
        ValueError, match=r"dropout_masks\[0\]: got shape \(2, 8\), expected one br"
    ):
        scan(dropout_masks=(jnp.ones((2, 8)), None, None))
    with pytest.raises(TypeError, match=r"dropout_masks\[0\]: got dtype float32, expected float64"):
        scan(dropout_masks=(jnp.ones(8, jnp.float32), None, None))
    with pytest.raises(ValueError, match=r"carry\[0\]: got shape") as refused:
        scan((*carry[:3], tuple(leaf[:1] for leaf in carry[3])))
    assert "In layer 3 of 4, the bottom one being 0." in refused.value.__notes__
    swapped = BidirectionalParams(params[0].backward, params[0].forward)
    with pytest.raises(TypeError, match="params: got ElmanParams, expected GRUParams"):
        scan_deep(OF_ALL_KINDS, (swapped, *params[1:]), xs)
