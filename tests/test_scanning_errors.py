"""The door refuses bad input in one line, before anything is traced, compiled or run."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

import rnnjax
from rnnjax.plans.protocol import Plan

T, B, I, H = 4, 2, 3, 5  # noqa: E741 - the letters of the documentation


def params_of(recurrence: rnnjax.Recurrence, hidden_size: int = H, dtype: str = "float32") -> Any:
    """Zeros in the shapes of `init`, without the compiles of `init`."""
    shapes = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), I, hidden_size, dtype=dtype))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


class Watched:
    """A recurrence whose steps are counted, and the compiles that happen meanwhile."""

    def __init__(self, recurrence: rnnjax.Recurrence) -> None:
        self.steps = self.compiles = 0
        self.recurrence = dataclasses.replace(
            recurrence,
            step=self._counted(recurrence.step),
            project=self._counted(recurrence.project),
        )

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self.steps += 1
            return function(*arguments)

        return counted

    def listen(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        self.compiles += event == "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched(rnnjax.lstm)
    jax.monitoring.register_event_duration_secs_listener(watched.listen)
    yield watched
    jax.monitoring.unregister_event_duration_listener(watched.listen)


def arguments(**changed: Any) -> dict[str, Any]:
    """Good arguments of an LSTM, but for those given."""
    good = {"params": params_of(rnnjax.lstm), "xs": np.zeros((T, B, I), "float32")}
    return good | changed


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


def test_the_watch_sees_what_good_arguments_compile(watched):
    """Else the tests below could not fail."""
    rnnjax.scan(watched.recurrence, **arguments())
    assert watched.steps > 0
    assert watched.compiles > 0


lacking = Plan("lacking", "", lambda *_: None, "", "", lambda _: "it lacks `reverse`")  # type: ignore[arg-type, return-value]

BAD = {
    # xs
    "xs of rank 1": ({"xs": zeros(I + 1)}, ValueError, "xs: got shape (4,), expected (T, *B, 3)"),
    "xs a vector of I": ({"xs": zeros(I)}, ValueError, "xs: got shape (3,), expected (T, *B, 3)"),
    "xs of another I": (
        {"xs": zeros(T, B, 7)},
        ValueError,
        "xs: got shape (4, 2, 7), expected (T, *B, 3)",
    ),
    "no time step": (
        {"xs": zeros(0, B, I)},
        ValueError,
        "xs: got shape (0, 2, 3), expected at least 1 time step",
    ),
    "xs of float64": (
        {"xs": zeros(T, B, I, dtype="float64")},
        TypeError,
        "xs: got dtype float64, expected float32, that of params, or a floating dtype of 16 bits",
    ),
    "xs of integers": (
        {"xs": zeros(T, B, I, dtype="int32")},
        TypeError,
        "xs: got dtype int32, expected float32, that of params, or a floating dtype of 16 bits; "
        "indices go through an embedding or one_hot first",
    ),
    "no xs": (
        {"xs": None},
        TypeError,
        "xs: got NoneType, expected numbers in the shape of an array",
    ),
    "xs of text": (
        {"xs": "abc"},
        TypeError,
        "xs: got str, expected numbers in the shape of an array",
    ),
    "xs of texts": (
        {"xs": np.full((T, B, I), "a")},
        TypeError,
        "xs: got ndarray, expected numbers in the shape of an array",
    ),
    "xs ragged": (
        {"xs": [[[1.0], [2.0, 3.0]]]},
        TypeError,
        "xs: got list, expected numbers in the shape of an array",
    ),
    # carry
    "carry of text": (
        {"carry": ("h", "cell")},
        TypeError,
        "carry[0]: got str, expected numbers in the shape of an array",
    ),
    "carry of another structure": (
        {"carry": zeros(B, H)},
        ValueError,
        "carry: got PyTreeDef(*), expected PyTreeDef((*, *)), as lstm.initial_carry",
    ),
    "carry of another H": (
        {"carry": (zeros(B, H), zeros(B, 7))},
        ValueError,
        "carry[1]: got shape (2, 7), expected (2, 5)",
    ),
    "carry without batch": (
        {"carry": (zeros(H), zeros(H))},
        ValueError,
        "carry[0]: got shape (5,), expected (2, 5)",
    ),
    "carry of float64": (
        {"carry": (zeros(B, H), zeros(B, H, dtype="float64"))},
        TypeError,
        "carry[1]: got dtype float64, expected float32",
    ),
    # lengths
    "a length below 0": (
        {"lengths": np.array([2, -1])},
        ValueError,
        "lengths: got -1, expected values within 0 … 4 (T)",
    ),
    "a length above T": (
        {"lengths": np.array([5, 2])},
        ValueError,
        "lengths: got 5, expected values within 0 … 4 (T)",
    ),
    "lengths of floats": (
        {"lengths": np.array([1.0, 2.0])},
        TypeError,
        "lengths: got dtype float64, expected an integer dtype",
    ),
    "lengths of bools": (
        {"lengths": np.array([True, False])},
        TypeError,
        "lengths: got dtype bool, expected an integer dtype",
    ),
    "lengths of another batch": (
        {"lengths": np.array([1, 2, 3])},
        ValueError,
        "lengths: got shape (3,), expected (2,) (*B)",
    ),
    "one length for all": ({"lengths": 2}, ValueError, "lengths: got shape (), expected (2,) (*B)"),
    "lengths of text": (
        {"lengths": "ab"},
        TypeError,
        "lengths: got str, expected numbers in the shape of an array",
    ),
    # resets
    "resets ragged": (
        {"resets": [[True], [True, False]]},
        TypeError,
        "resets: got list, expected numbers in the shape of an array",
    ),
    "resets batch-major": (
        {"resets": zeros(B, T, dtype="bool")},
        ValueError,
        "resets: got shape (2, 4), expected (4, 2) (T, *B)",
    ),
    "resets of integers": (
        {"resets": zeros(T, B, dtype="int32")},
        TypeError,
        "resets: got dtype int32, expected bool",
    ),
    # reverse
    "reverse an integer": ({"reverse": 1}, TypeError, "reverse: got int, expected a bool"),
    "reverse an array": (
        {"reverse": np.array([True, False])},
        TypeError,
        "reverse: got ndarray, expected a bool",
    ),
    # plan
    "an unknown plan": (
        {"plan": "fusde"},
        ValueError,
        f"plan: got 'fusde', expected one of {', '.join(['auto', *rnnjax.plans.REGISTRY])}, "
        "or a Plan",
    ),
    "a plan of another kind": (
        {"plan": None},
        TypeError,
        "plan: got NoneType, expected a name or a Plan",
    ),
    "a plan that lacks an option": (
        {"plan": lacking, "reverse": True},
        ValueError,
        "plan: 'lacking' cannot serve this: it lacks `reverse`",
    ),
    # params
    "params of two dtypes": (
        {"params": params_of(rnnjax.lstm)._replace(b=zeros(4 * H, dtype="float64"))},
        TypeError,
        "params: got arrays of dtypes float32, float64, expected one dtype for all",
    ),
    "params of text": (
        {"params": "abc"},
        TypeError,
        "params: got str, expected numbers in the shape of an array",
    ),
    "params in a dict": (
        {"params": params_of(rnnjax.lstm)._asdict()},
        TypeError,
        "params: cannot read the input_shape of lstm "
        "('dict' object has no attribute 'w_x'), expected what rnnjax.lstm.init returns",
    ),
    "params of integers": (
        {"params": jax.tree.map(lambda leaf: leaf.astype("int32"), params_of(rnnjax.lstm))},
        TypeError,
        "params: got {'input_size': 3, 'hidden_size': 5} and dtype int32, "
        "which rnnjax.lstm.init refuses (dtype: got int32, expected a floating dtype)",
    ),
    "params with a bias of one gate": (
        {"params": params_of(rnnjax.lstm)._replace(b=zeros(H))},
        ValueError,
        "params.b: got shape (5,), expected (20,), "
        "as rnnjax.lstm.init returns for {'input_size': 3, 'hidden_size': 5}",
    ),
    "params of another record": (
        {"params": params_of(rnnjax.minimal_gru)},
        TypeError,
        "params: got MinimalGRUParams, expected LSTMParams, as rnnjax.lstm.init returns",
    ),
    "no params": (
        {"params": None},
        TypeError,
        "params: cannot read the input_shape of lstm "
        "('NoneType' object has no attribute 'w_x'), expected what rnnjax.lstm.init returns",
    ),
}


@pytest.mark.parametrize("door", [rnnjax.scan, rnnjax.explain_plan])
@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_refused_in_one_line_with_nothing_compiled(door, bad, watched):
    changed, kind, message = BAD[bad]
    with pytest.raises(kind) as caught:
        door(watched.recurrence, **arguments(**changed))
    assert type(caught.value) is kind
    assert str(caught.value) == message
    assert watched.steps == 0


def test_bad_input_in_numpy_compiles_nothing(watched):
    """Of sizes that no other test has, for a second compile of one shape is not seen."""
    xs, wrong = zeros(13, 7, I), zeros(13, 7, 11)
    for bad in (
        {"xs": wrong},
        {"xs": xs, "lengths": np.zeros(17, "int32")},
        {"xs": xs, "resets": zeros(17, 7, dtype="bool")},
        {"xs": xs, "carry": (zeros(19, H), zeros(19, H))},
        {"xs": xs, "plan": "fusde"},
    ):
        with pytest.raises(ValueError, match=r"expected"):
            rnnjax.scan(watched.recurrence, **arguments(**bad))
    assert watched.compiles == 0


def test_bad_input_in_jax_arrays_compiles_nothing(watched):
    xs, lengths = jnp.zeros((13, 7, I), "float32"), jnp.zeros(17, "int32")
    params = jax.tree.map(jnp.asarray, params_of(rnnjax.lstm))
    for bad in ({"xs": xs[..., :2]}, {"xs": xs, "lengths": lengths}, {"xs": xs, "plan": "fusde"}):
        watched.compiles = 0
        with pytest.raises(ValueError, match=r"expected"):
            rnnjax.scan(watched.recurrence, **arguments(**{"params": params} | bad))
        assert (watched.steps, watched.compiles) == (0, 0)


@pytest.mark.parametrize("door", [rnnjax.scan, rnnjax.explain_plan])
def test_a_recurrence_by_name_is_refused(door):
    with pytest.raises(TypeError) as caught:
        door("lstm", **arguments())
    assert str(caught.value) == "recurrence: got str, expected a Recurrence such as rnnjax.lstm"


def test_what_is_unknown_under_jit_is_clamped_and_what_is_known_is_refused():
    """A value cannot be seen while tracing; a shape or a dtype can."""

    @jax.jit
    def run(lengths: Any) -> Any:
        return rnnjax.scan(
            rnnjax.lstm, **arguments(xs=np.ones((T, B, I), "float32")), lengths=lengths
        )

    assert_close(run(jnp.array([-3, 9])), run(jnp.array([0, T])), "float32")
    with pytest.raises(TypeError, match="lengths: got dtype float32"):
        run(jnp.array([1.0, 2.0], "float32"))


@pytest.mark.parametrize("wanted", rnnjax.recurrences.REGISTRY)
@pytest.mark.parametrize("hidden_size", [2, 12])
def test_params_of_another_recurrence_are_refused(wanted, hidden_size):
    """H of 2 and 12 divide by numbers of gates, so that splitting them alone would not tell."""
    watched = Watched(rnnjax.recurrences.REGISTRY[wanted])
    own = params_of(watched.recurrence, hidden_size)
    for given, recurrence in rnnjax.recurrences.REGISTRY.items():
        params = params_of(recurrence, hidden_size)
        if isinstance(params, type(own)):
            continue
        with pytest.raises((TypeError, ValueError), match=r"^params") as caught:
            rnnjax.scan(watched.recurrence, **arguments(params=params))
        assert "\n" not in str(caught.value), given
        assert f"rnnjax.{wanted}.init" in str(caught.value), given
        assert watched.steps == 0, given


@pytest.mark.parametrize("recurrence", rnnjax.recurrences.REGISTRY.values(), ids=repr)
def test_every_recurrence_states_by_which_sizes_its_parameters_come(recurrence):
    params = params_of(recurrence)
    sizes = recurrence.sizes(params)
    again = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), **sizes))
    assert jax.tree.map(np.shape, again) == jax.tree.map(np.shape, params)


def test_a_recurrence_of_other_sizes_states_them_and_one_that_states_none_is_not_checked():
    """Parameters that two sizes do not tell: here with a projection of the output."""

    class Projected(NamedTuple):
        inner: Any
        out: Any  # (H, P)

    def init(key: Any, *, inputs: int, units: int, outputs: int, dtype: Any) -> Projected:
        inner = rnnjax.elman.init(key, inputs, units, dtype=dtype)
        return Projected(inner, jnp.zeros((units, outputs), dtype))

    def step(params: Projected, carry: Any, z: Any) -> Any:
        carry, y = rnnjax.elman.step(params.inner, carry, z)
        return carry, y @ params.out

    projected = rnnjax.Recurrence(
        name="projected",
        summary="",
        init=init,
        initial_carry=lambda params, shape: rnnjax.elman.initial_carry(params.inner, shape),
        project=lambda params, xs: rnnjax.elman.project(params.inner, xs),
        step=step,
        input_shape=lambda params: rnnjax.elman.input_shape(params.inner),
        sizes=lambda params: {
            "inputs": params.inner.w_x.shape[0],
            "units": params.inner.w_h.shape[0],
            "outputs": params.out.shape[1],
        },
    )
    good = Projected(params_of(rnnjax.elman), np.ones((H, 7), "float32"))
    xs = zeros(T, B, I)
    _, ys = rnnjax.scan(projected, good, xs, plan="reference")
    assert ys.shape == (T, B, 7)
    bad = good._replace(inner=params_of(rnnjax.elman)._replace(b=zeros(1)))
    with pytest.raises(ValueError, match=r"^params\.inner\.b: got shape \(1,\), expected \(5,\)"):
        rnnjax.explain_plan(projected, bad, xs)
    rnnjax.explain_plan(dataclasses.replace(projected, sizes=None), bad, xs)


def test_lists_are_arrays_and_so_are_lists_of_traced_arrays():
    params = jax.tree.map(lambda leaf: np.asarray(leaf, "float64"), params_of(rnnjax.elman))
    params = params._replace(w_x=params.w_x + 0.1)

    def scanned(xs: Any, lengths: Any) -> Any:
        return rnnjax.scan(rnnjax.elman, params, xs, lengths=lengths, plan="reference")

    rows = [np.full((B, I), t, "float64") for t in range(T)]
    expected = scanned(np.stack(rows), np.array([1, 3]))
    for xs in ([row.tolist() for row in rows], [jnp.asarray(row) for row in rows]):
        for lengths in ([1, 3], [1, jnp.int32(3)]):
            assert_close(scanned(xs, lengths), expected, "float64")
    assert_close(jax.jit(scanned)(rows, [1, 3]), expected, "float64")
    with pytest.raises(ValueError, match=r"^lengths: got 9, expected values within 0"):
        scanned(rows, [1, 9])


def test_numpy_of_64_bits_is_taken_as_jax_takes_it_without_64_bits():
    with jax.enable_x64(False):
        xs, lengths = np.ones((T, B, I)), np.array([1, 3])
        _, ys = rnnjax.scan(rnnjax.lstm, params_of(rnnjax.lstm), xs, lengths=lengths)
        assert ys.dtype == "float32"
        assert rnnjax.sequence_ends(np.ones((T, B), bool), lengths).dtype == bool


def test_shapes_do_for_an_explanation_as_arrays_do():
    def explained(arguments: dict[str, Any]) -> Any:
        return rnnjax.explain_plan(rnnjax.lstm, **arguments)

    whole = arguments(
        carry=(zeros(B, H), zeros(B, H)),
        lengths=np.array([1, 2], "int32"),
        resets=zeros(T, B, dtype="bool"),
    )
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), whole)
    assert explained(shapes | {"reverse": np.True_}) == explained(whole | {"reverse": True})
    assert explained(shapes) != explained(whole | {"reverse": True})


FIRST_ORDER = ("fused", "checkpointed")
ANY_ORDER = ("reference", "unrolled")


def of_one_number(plan: Any) -> Callable[[Any], Any]:
    """A smooth function of a number through a scan; its derivatives need the scan's."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), params_of(rnnjax.elman)
    )
    xs = jnp.asarray(rng.normal(size=(2, B, I)))

    def function(scale: Any) -> Any:
        carry, ys = rnnjax.scan(rnnjax.elman, params, scale * xs, plan=plan)
        return jnp.sum(ys**2) + jnp.sum(carry)

    return function


FORWARD_MODE = {
    "jvp": lambda f: jax.jvp(f, (0.7,), (1.0,)),
    "linearize": lambda f: jax.linearize(f, 0.7)[1](1.0),
    "jit of jvp": lambda f: jax.jit(lambda x: jax.jvp(f, (x,), (1.0,)))(0.7),
    "jvp of vmap": lambda f: jax.jvp(jax.vmap(f), (jnp.ones(2),), (jnp.ones(2),)),
    "vmap of jvp": lambda f: jax.vmap(lambda x, t: jax.jvp(f, (x,), (t,)))(
        jnp.ones(2), jnp.ones(2)
    ),
    "jacfwd": lambda f: jax.jacfwd(f)(0.7),
    "jit of jacfwd": lambda f: jax.jit(jax.jacfwd(f))(0.7),
    "jacfwd of remat": lambda f: jax.jacfwd(jax.checkpoint(f))(0.7),
}
SECOND_ORDER = {
    "grad of grad": lambda f: jax.grad(jax.grad(f))(0.7),
    "jacrev of grad": lambda f: jax.jacrev(jax.grad(f))(0.7),
    "jvp of grad": lambda f: jax.jvp(jax.grad(f), (0.7,), (1.0,)),
    "hessian": lambda f: jax.hessian(f)(0.7),
}


@pytest.mark.parametrize("plan", [*FIRST_ORDER, rnnjax.plans.checkpointed_in(2)], ids=str)
@pytest.mark.parametrize("derivative", [*FORWARD_MODE, *SECOND_ORDER])
def test_derivatives_that_a_plan_lacks_are_refused(derivative, plan):
    take = (FORWARD_MODE | SECOND_ORDER)[derivative]
    with pytest.raises(NotImplementedError) as caught:
        take(of_one_number(plan))
    message = str(caught.value)
    name = plan if isinstance(plan, str) else "checkpointed"
    assert re.fullmatch(
        rf"plan: '{name}' has no .*(forward-mode|second order).*, "
        "expected plan='reference', which has",
        message,
    )


@pytest.mark.parametrize("plan", ANY_ORDER)
def test_derivatives_of_any_order_and_mode_where_they_are_promised(plan):
    assert rnnjax.plans.REGISTRY[plan].derivatives == "any order, forward and reverse mode"
    f, x, eps = of_one_number(plan), 0.7, 1e-4
    slope = jax.grad(f)
    central = (f(x + eps) - f(x - eps)) / (2 * eps)
    central_of_slope = (slope(x + eps) - slope(x - eps)) / (2 * eps)
    np.testing.assert_allclose(slope(x), central, rtol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(f)(x), slope(x), rtol=1e-12)
    np.testing.assert_allclose(jax.hessian(f)(x), central_of_slope, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(slope)(x), jax.hessian(f)(x), rtol=1e-12)


@pytest.mark.parametrize("plan", FIRST_ORDER)
def test_reverse_mode_is_served_through_batching_and_recomputation(plan):
    """The refusal of forward mode must not catch these."""
    points = jnp.array([0.7, 0.3])
    f = of_one_number(plan)
    slopes = jax.vmap(jax.grad(of_one_number("reference")))(points)
    for of_points in (
        jax.vmap(jax.grad(f)),
        jax.grad(lambda x: jnp.sum(jax.vmap(f)(x))),
        jax.vmap(jax.grad(jax.checkpoint(f))),
        lambda x: jnp.diagonal(jax.jacrev(jax.vmap(f))(x)),
    ):
        assert_close(jax.jit(of_points)(points), slopes, "float64")


@pytest.mark.parametrize("plan", FIRST_ORDER)
def test_plans_without_second_order_say_so_in_their_explanation(plan):
    explanation = rnnjax.explain_plan(rnnjax.lstm, **arguments(plan=plan))
    assert explanation.derivatives == "first order, reverse mode"


def test_sequence_ends_are_where_the_next_sequence_starts_or_the_row_ends():
    starts = np.array([[1, 0], [0, 0], [1, 1], [0, 1], [0, 0]], bool)
    ends = rnnjax.sequence_ends(starts)
    expected = np.array([[0, 0], [1, 1], [0, 1], [0, 0], [1, 1]], bool)
    np.testing.assert_array_equal(ends, expected)
    # A filled part of 4 steps ends at step 3; an empty row has no end.
    ends = rnnjax.sequence_ends(starts, lengths=np.array([4, 5], "int32"))
    np.testing.assert_array_equal(ends[3], [True, False])
    # One row without batch axes, and more batch axes than one.
    np.testing.assert_array_equal(rnnjax.sequence_ends(starts[:, 0]), expected[:, 0])
    np.testing.assert_array_equal(
        rnnjax.sequence_ends(starts[:, None], lengths=np.array([[4, 5]], "int32"))[:, 0], ends
    )


def test_reverse_scan_with_sequence_ends_is_a_reverse_scan_of_each_sequence():
    rng = np.random.default_rng(7)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), params_of(rnnjax.gru)
    )
    xs = jnp.asarray(rng.normal(size=(7, I)))
    cuts = [(0, 3), (3, 4), (4, 6)]  # and one step of padding
    starts = np.zeros(7, bool)
    starts[[first for first, _ in cuts]] = True
    ends = rnnjax.sequence_ends(starts, lengths=np.array(6, "int32"))
    _, packed = rnnjax.scan(
        rnnjax.gru,
        params,
        xs,
        lengths=np.array(6, "int32"),
        resets=ends,
        reverse=True,
        plan="reference",
    )
    apart = [
        rnnjax.scan(rnnjax.gru, params, xs[first:last], reverse=True, plan="reference")[1]
        for first, last in cuts
    ]
    assert_close(packed, jnp.concatenate([*apart, jnp.zeros((1, H))]), "float64")


def test_starts_that_are_not_boolean_are_refused():
    with pytest.raises(TypeError) as caught:
        rnnjax.sequence_ends(np.ones((T, B), np.int32))
    assert str(caught.value) == "starts: got dtype int32, expected bool"


def test_lengths_of_sequence_ends_are_any_integers_and_checked():
    starts = np.zeros((T, B), bool)
    ends = rnnjax.sequence_ends(starts, lengths=np.array([2, 3], "int64"))
    np.testing.assert_array_equal(np.argmax(ends, axis=0), [1, 2])
    with pytest.raises(TypeError, match=r"^lengths: got dtype float32, expected an integer dtype$"):
        rnnjax.sequence_ends(starts, lengths=np.array([2, 3], "float32"))
    with pytest.raises(ValueError, match=r"^lengths: got shape \(3,\)"):
        rnnjax.sequence_ends(starts, lengths=np.array([2, 3, 1], "int32"))
    with pytest.raises(ValueError, match=r"^starts: got shape \(\)"):
        rnnjax.sequence_ends(np.array(True))
