"""Exploding gradients, and what clipping does about them: many runs from ever larger weights.

    python -m experiments.exploding_gradients --preset demo

Elman's network echoes bits: y^<t> = x^<t-d>, a loss at each step, plain gradient descent. Its
recurrent weights begin normal, scaled to a spectral radius; the larger it is, the more the gradient
grows on its way back. From each radius and seed three runs set out: without clipping, clipped by
norm (Pascanu et al. 2013) and clipped by value. All of them are trained together, in one `vmap`.
Shown are the share of runs that diverge and that learn, their loss curves, how well diagnostics of
the untrained network tell who will diverge, and the cliffs of the loss themselves: of Pascanu's
network of one unit, and along a line through the parameters of the networks trained here.

"Diverged" is said of a run whose loss at the end is not finite, or worse than that of knowing
nothing, ln 2 nats a bit; "learned" of one that ends below a tenth of that. What counts is the mean
loss of the last tenth of the steps.

Recorded: runs that diverged from a spectral radius of 3: no clipping 88%, by norm 0%, by value 0%.
`python -m experiments.exploding_gradients --preset demo`, 0.5 minutes on 2 cores of AMD EPYC
(docs/results/exploding_gradients/report.md).
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax import Array, lax

import rnnjax
from experiments.command_line import one_line_errors, preset_named, say
from experiments.trained_run import code_of, made_by
from rnnjax.diagnostics.clip_statistics import clip_statistics
from rnnjax.diagnostics.spectral_radius import spectral_radius
from rnnjax.layers.checks import check_size
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense
from rnnjax.losses.cross_entropy import mean_cross_entropy
from rnnjax.recurrences.elman import ElmanParams
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.norms import global_norm
from rnnjax.training.optimizer_links import ClipState, record_clipping
from rnnjax.training.run_folder import RunFolder, open_run_folder
from rnnjax.training.step import TrainState, initial_train_state

RUN = Path("runs/exploding_gradients")
METHODS = ("no clipping", "by norm", "by value")
GUESSING = math.log(2)
"""Nats a bit, of who knows nothing."""
LEARNED = 0.1
"""Below this share of it a run has learned."""


@dataclass(frozen=True)
class Train:
    """Train all runs, or go on training; then report.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" takes minutes on two cores, "smoke" shows in
            seconds that everything runs, "full" has more of everything.
        radii: Spectral radii of the recurrent weights at the start.
        seeds: Runs of each radius and method.
        hidden_size: H.
        delay: d, how many steps later a bit is echoed.
        window: T, steps of a sequence.
        batch_size: B.
        steps: Of training.
        learning_rate: Of plain gradient descent.
        clip_norm: Largest norm of a gradient, where that is clipped.
        clip_value: Largest entry of a gradient, where those are clipped.
        checkpoint_every: Steps between checkpoints.
        seed: Of parameters and data.
    """

    run: Path = RUN
    preset: Literal["demo", "smoke", "full"] = "demo"
    radii: tuple[float, ...] = (0.5, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
    seeds: int = 8
    hidden_size: int = 32
    delay: int = 4
    window: int = 50
    batch_size: int = 16
    steps: int = 600
    learning_rate: float = 0.5
    clip_norm: float = 1.0
    clip_value: float = 0.05
    checkpoint_every: int = 100
    seed: int = 0


PRESETS = {
    "demo": Train(),
    "smoke": Train(
        run=RUN.with_name("exploding_gradients_smoke"),
        preset="smoke",
        radii=(0.8, 3.0),
        seeds=2,
        hidden_size=6,
        delay=1,
        window=12,
        batch_size=4,
        steps=20,
        checkpoint_every=10,
    ),
    "full": Train(
        run=RUN.with_name("exploding_gradients_full"),
        preset="full",
        radii=(0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0),
        seeds=32,
        hidden_size=64,
        window=100,
        steps=2000,
        checkpoint_every=200,
    ),
}


class EchoParams(NamedTuple):
    """Elman's network and a head that tells the bit at each step."""

    layer: ElmanParams
    head: DenseParams  # (H, 2)


class Curves(NamedTuple):
    """What each of R runs did, step by step; NaN for steps still to come."""

    loss: Array  # (steps, R) nats a bit
    norm_before: Array  # (steps, R) of the gradient
    norm_after: Array  # (steps, R) after clipping


def check(config: Train) -> None:
    """Refuse what would fail only after the run folder is made.

    Raises:
        ValueError: A number is out of range.
    """
    for name in (
        "seeds", "hidden_size", "delay", "window", "batch_size", "steps", "checkpoint_every",
    ):  # fmt: skip
        check_size(name, getattr(config, name))
    if config.delay >= config.window:
        raise ValueError(f"delay: got {config.delay}, expected below window = {config.window}")
    for name in ("learning_rate", "clip_norm", "clip_value"):
        value = getattr(config, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: got {value}, expected a finite number above 0")
    if not config.radii or not all(0 < radius < math.inf for radius in config.radii):
        raise ValueError(f"radii: got {list(config.radii)}, expected some finite numbers above 0")
    if len(set(config.radii)) < len(config.radii):
        raise ValueError(f"radii: got {list(config.radii)}, expected none twice")


# The task


def echo_batch(config: Train, step: Array | int) -> tuple[Array, Array, Array]:
    """Random bits and what to answer, the same for every run.

    Returns:
        xs: `(T, B, 1)`, −1 or 1.
        targets: `(T, B)`, 0 or 1, the bit of d steps ago.
        weights: `(T, B)`, 0 as long as there was none.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    bits = jax.random.bernoulli(key, shape=(config.window, config.batch_size)).astype(jnp.int32)
    targets = jnp.roll(bits, config.delay, axis=0)
    weights = jnp.arange(config.window) >= config.delay
    weights = jnp.broadcast_to(weights[:, None], bits.shape).astype(jnp.float32)
    return (2 * bits - 1).astype(jnp.float32)[..., None], targets, weights


def echo_loss(params: EchoParams, batch: tuple[Array, Array, Array]) -> Array:
    """The mean cross-entropy of a bit, nats."""
    xs, targets, weights = batch
    # The plan that has a batching rule for what is hand-written.
    _, ys = rnnjax.scan(rnnjax.elman, params.layer, xs, plan="fused")
    return mean_cross_entropy(apply_dense(params.head, ys), targets, weights)


def init_of_radius(key: Array, hidden_size: int, radius: float) -> EchoParams:
    """Normal recurrent weights scaled to a spectral radius, exactly; the rest as usual."""
    key_layer, key_h, key_head = jax.random.split(key, 3)
    layer = rnnjax.elman.init(key_layer, 1, hidden_size)
    w_h = jax.random.normal(key_h, (hidden_size, hidden_size), jnp.float32)
    w_h = w_h * (radius / float(spectral_radius(w_h)))
    return EchoParams(layer._replace(w_h=w_h), init_dense(key_head, hidden_size, 2))


def initial_params(config: Train) -> EchoParams:
    """Networks side by side, leaves `(radii · seeds, …)`: all seeds of the first radius first.

    A seed draws the same matrix for every radius, scaled differently.
    """
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    networks = [
        init_of_radius(key, config.hidden_size, radius) for radius in config.radii for key in keys
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)


def limits(config: Train) -> tuple[Array, Array]:
    """For each of the R runs the largest norm and the largest entry; ∞ where not clipped.

    Runs are in the order of `METHODS`, each of them with every network once.
    """
    networks = len(config.radii) * config.seeds
    by_norm = np.repeat([math.inf, config.clip_norm, math.inf], networks)
    by_value = np.repeat([math.inf, math.inf, config.clip_value], networks)
    return jnp.asarray(by_norm, jnp.float32), jnp.asarray(by_value, jnp.float32)


# Training


def clipped(gradient: Any, by_norm: Array, by_value: Array) -> tuple[Any, ClipState]:
    """A gradient clipped by value, then by its norm, and the norms before and after."""
    clip = record_clipping(optax.chain(optax.clip(by_value), optax.clip_by_global_norm(by_norm)))
    with jax.numpy_dtype_promotion("standard"):  # Optax leans on implicit promotion.
        after, state = clip.update(gradient, clip.init(gradient))
    _, norms = cast(tuple[Any, ClipState], state)
    return after, norms


def one_update(
    config: Train, params: EchoParams, by_norm: Array, by_value: Array, batch: Any
) -> tuple[EchoParams, tuple[Array, Array, Array]]:
    """A step of plain gradient descent of one run: also a step into nothing is taken."""
    loss, gradient = jax.value_and_grad(echo_loss)(params, batch)
    after, norms = clipped(gradient, by_norm, by_value)
    params = jax.tree.map(lambda p, g: p - config.learning_rate * g, params, after)
    return params, (loss, norms.gradient_norm, norms.clipped_gradient_norm)


@partial(jax.jit, static_argnums=(0, 1))
def train_some(config: Train, count: int, state: TrainState) -> TrainState:
    """So many steps of all runs at once."""
    by_norm, by_value = limits(config)

    def step(carry: tuple[EchoParams, Curves], number: Array) -> tuple[Any, None]:
        params, curves = carry
        update = jax.vmap(partial(one_update, config), in_axes=(0, 0, 0, None))
        params, seen = update(params, by_norm, by_value, echo_batch(config, number))
        curves = Curves(*(c.at[number].set(s) for c, s in zip(curves, seen, strict=True)))
        return (params, curves), None

    numbers = state.step + jnp.arange(count, dtype=jnp.int32)
    (params, curves), _ = lax.scan(step, (state.params, state.memory), numbers)
    after = state.step + jnp.asarray(count, jnp.int32)
    return state._replace(step=after, params=params, memory=curves)


def new_state(config: Train) -> TrainState:
    """All runs before the first step; their curves go along as the state's memory."""
    networks = initial_params(config)
    params = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * len(METHODS)), networks)
    runs = len(METHODS) * len(config.radii) * config.seeds
    curves = Curves(*(jnp.full((config.steps, runs), jnp.nan, jnp.float32) for _ in Curves._fields))
    return initial_train_state(params, optax.identity(), curves, jax.random.key(config.seed))


def train_runs(config: Train, run: RunFolder) -> Curves:
    """Train to the end, from the last checkpoint if there is one."""
    from rnnjax.training.checkpoints import Checkpoints

    checkpoints = Checkpoints(run.checkpoints, keep_last=1)
    metadata = {"experiment": "exploding_gradients"}
    state = new_state(config)
    restored = checkpoints.restore_latest(state, metadata)
    if restored is not None:
        say(f"resuming from step {restored.step:,} ({restored.path})")
        state = restored.state
    runs = state.memory.loss.shape[1]
    while (done := int(state.step)) < config.steps:
        state = train_some(config, min(config.checkpoint_every, config.steps - done), state)
        checkpoints.save(state, {}, metadata)
        losses = np.asarray(state.memory.loss)[int(state.step) - 1]
        lost = np.count_nonzero(~(losses < GUESSING))
        say(f"step {int(state.step):,} of {config.steps:,}: {lost} of {runs} runs above guessing")
    return jax.tree.map(np.asarray, state.memory)


# What the untrained networks tell


def predictors(config: Train) -> dict[str, np.ndarray]:
    """Name -> one number of each untrained network, `(radii · seeds,)`."""
    from rnnjax.diagnostics.gradient_through_time import gradient_norms_through_time
    from rnnjax.diagnostics.lyapunov import lyapunov_exponents
    from rnnjax.diagnostics.step_jacobian import singular_values_of_steps

    networks = initial_params(config)
    batch = echo_batch(config, config.steps)  # none that is trained on
    xs, targets, weights = batch

    @jax.jit
    @jax.vmap
    def of_network(params: EchoParams) -> tuple[Array, Array, Array, Array]:
        def loss(carry: Any, ys: Array) -> Array:
            del carry
            return mean_cross_entropy(apply_dense(params.head, ys), targets, weights)

        norms = gradient_norms_through_time(rnnjax.elman, params.layer, xs, loss)
        values = singular_values_of_steps(rnnjax.elman, params.layer, xs[:, :4])
        exponents = lyapunov_exponents(
            rnnjax.elman, params.layer, xs[:, :4], jax.random.key(0), count=1
        )
        gradient = jax.grad(echo_loss)(params, batch)
        return (
            jnp.mean(jnp.log(values[..., 0])),
            jnp.mean(exponents),
            # The last steps have little to pass back yet: what is at the beginning has all of it.
            jnp.mean(jnp.log(norms[0] / norms[-2])),
            jnp.log(global_norm(gradient)),
        )

    singular, exponent, growth, norm = map(np.asarray, of_network(networks))
    return {
        "spectral radius of W": spectral_radius(networks.layer.w_h),
        "largest singular value of a step (mean log)": singular,
        "largest Lyapunov exponent": exponent,
        "growth of ∂L/∂h from last to first step (log)": growth,
        "norm of the gradient (log)": norm,
    }


def area_under_curve(scores: np.ndarray, happened: np.ndarray) -> float | None:
    """The chance that a run to which it happened scores higher than one to which it did not.

    0.5 is guessing, 1 tells them apart; None where it happened to all or to none.
    """
    from sklearn.metrics import roc_auc_score

    if happened.all() or not happened.any():
        return None
    return float(roc_auc_score(happened, scores))


# The cliffs


def loss_along_gradient(
    config: Train, params: EchoParams, places: np.ndarray
) -> tuple[np.ndarray, float]:
    """The loss at θ − s g/‖g‖ for every place s, and ‖g‖, g being the gradient at θ."""
    batch = echo_batch(config, config.steps)
    gradient = jax.grad(echo_loss)(params, batch)
    norm = global_norm(gradient)

    @jax.jit
    def at(place: Array) -> Array:
        moved = jax.tree.map(lambda p, g: p - place * g / norm, params, gradient)
        return echo_loss(moved, batch)

    losses = lax.map(at, jnp.asarray(places, jnp.float32), batch_size=32)
    return np.asarray(losses), float(norm)


def one_unit_loss(w: np.ndarray, b: np.ndarray, steps: int = 50) -> np.ndarray:
    """Pascanu's error surface: (σ(x^<50>) − 0.7)², x^<t> = w σ(x^<t-1>) + b, x^<0> = 0.5.

    References:
        Pascanu, Mikolov and Bengio (2013), arXiv:1211.5063, section 2.3 and figure 6.
    """
    x = np.full(np.broadcast_shapes(w.shape, b.shape), 0.5)
    for _ in range(steps):
        x = w / (1 + np.exp(-x)) + b
    return (1 / (1 + np.exp(-x)) - 0.7) ** 2


# The report


def outcomes(config: Train, curves: Curves) -> tuple[np.ndarray, np.ndarray]:
    """Which runs diverged and which learned, `(methods, radii, seeds)` each."""
    last = np.asarray(curves.loss)[-max(1, config.steps // 10) :]
    final = np.mean(last, axis=0).reshape(len(METHODS), len(config.radii), config.seeds)
    return ~(final <= GUESSING), final < LEARNED * GUESSING


def run_fingerprint(config: Train) -> dict[str, str]:
    """Digests of the first bits, of the settings that decide the result, and of the code."""
    return fingerprint(
        data=[np.asarray(part) for part in echo_batch(config, 0)],
        config=config,
        code=code_of(Path(__file__)),
        without=("run", "preset", "checkpoint_every"),
    )


def train(config: Train) -> dict[str, Any]:
    """Train all runs to the end, or go on; then report.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    check(config)
    with open_run_folder(
        config.run, config, may_differ=("checkpoint_every",), fingerprint=run_fingerprint(config)
    ) as run:
        networks = len(config.radii) * config.seeds
        say(f"{len(METHODS) * networks} runs: {networks} networks, {', '.join(METHODS)}")
        return report(config, run, train_runs(config, run))


def report(config: Train, run: RunFolder, curves: Curves) -> dict[str, Any]:
    """Write the report and its pictures, and print what it says."""
    diverged, learned = outcomes(config, curves)
    told = predictors(config)
    shape = (config.steps, *diverged.shape)
    clipping = clip_statistics(curves.norm_before, curves.norm_after)
    share_clipped = clipping.share_clipped.reshape(diverged.shape)
    summary = run.start | {
        "seconds": run.seconds(),
        "steps": config.steps,
        "delay": config.delay,
        "window": config.window,
        "hidden_size": config.hidden_size,
        "learning_rate": config.learning_rate,
        "clip_norm": config.clip_norm,
        "clip_value": config.clip_value,
        "radii": list(config.radii),
        "seeds": config.seeds,
        "methods": {
            method: {
                "diverged": diverged[m].mean(-1).tolist(),
                "learned": learned[m].mean(-1).tolist(),
                "clipped": _finite_mean(share_clipped[m]),
            }
            for m, method in enumerate(METHODS)
        },
        "largest_exponent": told["largest Lyapunov exponent"]
        .reshape(diverged.shape[1:])
        .mean(-1)
        .tolist(),
        "predictors": {
            name: {
                "diverges": area_under_curve(values, diverged[0].ravel()),
                "does_not_learn": area_under_curve(values, ~learned[0].ravel()),
            }
            for name, values in told.items()
        },
    }
    replace_text(
        run.path / "report.json",
        json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False),
    )
    replace_text(run.path / "report.md", report_page(summary))
    draw_outcomes(summary, told, run.path / "outcomes.png")
    draw_curves(config, np.asarray(curves.loss).reshape(shape), run.path / "loss.png")
    draw_norms(config, np.asarray(curves.norm_before).reshape(shape), run.path / "norms.png")
    draw_cliffs(config, run.path / "cliffs.png")
    print(outcome_table(summary) + "\n\n" + predictor_table(summary))
    print(f"\nIn {run.path}: report.md, outcomes.png, loss.png, norms.png, cliffs.png")
    return summary


def _finite_mean(values: np.ndarray) -> list[float | None]:
    """Means over seeds, of those that are numbers."""
    return [
        float(np.mean(row[~np.isnan(row)])) if (~np.isnan(row)).any() else None for row in values
    ]


def outcome_table(summary: Mapping[str, Any]) -> str:
    """Shares of runs by radius, as Markdown."""
    head = ["radius", "largest exponent"]
    head += [f"{what}, {method}" for what in ("diverged", "learned") for method in METHODS]
    head += [f"clipped steps, {method}" for method in METHODS[1:]]
    lines = [f"| {' | '.join(head)} |", f"|{' ---: |' * len(head)}"]
    for r, radius in enumerate(summary["radii"]):
        cells = [f"{radius:g}", f"{summary['largest_exponent'][r]:.2f}"]
        shares = [summary["methods"][m][w][r] for w in ("diverged", "learned") for m in METHODS]
        shares += [summary["methods"][m]["clipped"][r] for m in METHODS[1:]]
        cells += ["–" if share is None else f"{share:.0%}" for share in shares]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def predictor_table(summary: Mapping[str, Any]) -> str:
    """How well each diagnostic tells, as Markdown."""
    lines = ["| of the untrained network | diverges | does not learn |", "| --- | ---: | ---: |"]
    for name, areas in summary["predictors"].items():
        cells = ["–" if area is None else f"{area:.2f}" for area in areas.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def report_page(summary: Mapping[str, Any]) -> str:
    """The report as a page, with the command, the machine and the versions."""
    return f"""# Exploding gradients

{made_by(summary)}

Elman's network with H = {summary["hidden_size"]} echoes bits of {summary["delay"]} steps ago, over
{summary["window"]} steps; {summary["steps"]} steps of gradient descent at a rate of
{summary["learning_rate"]:g}; clipped to a norm of {summary["clip_norm"]:g}, or to entries of
{summary["clip_value"]:g}; {summary["seeds"]} seeds at each spectral radius. "Diverged": ends worse
than guessing, or not finite. "Learned": ends below a tenth of the loss of guessing. The exponent is
that of the untrained network, in nats a step, the mean over seeds.

{outcome_table(summary)}

![shares of runs that diverge and that learn](outcomes.png)

The loss; of a radius the median and the middle half over seeds:

![loss curves](loss.png)

The norm of the gradient before it is clipped:

![norms of gradients](norms.png)

How well a number tells which of the runs without clipping will go wrong, as the area under the ROC
curve: 0.5 is guessing, 1 is knowing.

{predictor_table(summary)}

The cliffs: left, the error of Pascanu's network of one unit over its two parameters; right, the
loss of networks trained here, untrained, along their own gradient. A dot marks where a step of
gradient descent lands, as far as it is within the picture, a square where one clipped by norm does.

![the cliffs of the loss](cliffs.png)
"""


def _shades(count: int) -> Sequence[Any]:
    from matplotlib import colormaps

    return [colormaps["viridis"](0.9 * i / max(1, count - 1)) for i in range(count)]


def draw_outcomes(
    summary: Mapping[str, Any], told: Mapping[str, np.ndarray], png_path: Path
) -> None:
    """Shares that diverge and learn by radius, and the exponent of each untrained network."""
    from rnnjax.diagnostics.plots import COLORS, picture

    radii = summary["radii"]
    with picture(png_path, 1, 3, width=12, height=3.8) as panels:
        for axes, what in zip(panels[0], ("diverged", "learned"), strict=False):
            for method, color in zip(METHODS, COLORS, strict=False):
                shares = summary["methods"][method][what]
                axes.plot(radii, shares, color=color, marker="o", markersize=4, label=method)
            axes.set_ylim(-0.04, 1.04)
            axes.set_ylabel(f"Runs that {what} (share)")
        panels[0, 0].legend(frameon=False)
        axes = panels[0, 2]
        exponents = told["largest Lyapunov exponent"]
        places = np.repeat(radii, summary["seeds"])
        axes.plot(places, exponents, linestyle="none", marker="o", color=COLORS[4], alpha=0.6)
        axes.axhline(0, color="#555555", linewidth=0.9, linestyle=(0, (5, 3)))
        axes.set_ylabel("Largest Lyapunov exponent\n(nats per step, before training)")
        for axes in panels[0]:
            axes.set_xlabel("Spectral radius at the start")


def draw_curves(config: Train, losses: np.ndarray, png_path: Path) -> None:
    """The loss of each method, a line a radius."""
    _draw_by_radius(config, losses, png_path, "Loss (nats per bit)", (1e-3, 30), GUESSING)


def draw_norms(config: Train, norms: np.ndarray, png_path: Path) -> None:
    """The gradient's norm before clipping of each method, a line a radius."""
    _draw_by_radius(config, norms, png_path, "Gradient norm before clipping", (1e-3, 1e5), None)


def _draw_by_radius(
    config: Train,
    values: np.ndarray,
    png_path: Path,
    label: str,
    limits_: tuple[float, float],
    level: float | None,
) -> None:
    from rnnjax.diagnostics.plots import draw_with_quartiles, picture

    # Means over some steps, for the lines to be told apart; a mean with NaN is a gap.
    width = max(1, config.steps // 60)
    count = config.steps // width
    means = values[: count * width].reshape(count, width, *values.shape[1:]).mean(1)
    steps = width * (np.arange(count) + 0.5)
    with picture(png_path, 1, len(METHODS), width=12, height=4) as panels:
        for m, (axes, method) in enumerate(zip(panels[0], METHODS, strict=True)):
            for r, color in enumerate(_shades(len(config.radii))):
                label_ = f"{config.radii[r]:g}"
                draw_with_quartiles(axes, steps, means[:, m, r], color, label_)
            if level is not None:
                axes.axhline(level, color="#555555", linewidth=1, linestyle=(0, (5, 3)))
            axes.set_yscale("log")
            axes.set_title(method.capitalize(), fontsize=11)
            axes.set_xlabel("Training step")
        low = min(axes.get_ylim()[0] for axes in panels[0])
        high = max(axes.get_ylim()[1] for axes in panels[0])
        for axes in panels[0]:
            axes.set_ylim(max(low, limits_[0]), min(high, limits_[1]))
        panels[0, 0].set_ylabel(label)
        panels[0, -1].legend(
            title="Radius", frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5)
        )


def draw_cliffs(config: Train, png_path: Path) -> None:
    """Pascanu's surface, and the loss along the gradient of some networks."""
    from rnnjax.diagnostics.plots import COLORS, picture

    radii = [config.radii[i] for i in sorted({0, len(config.radii) // 2, len(config.radii) - 1})]
    key = jax.random.split(jax.random.key(config.seed), config.seeds)[0]
    places = np.linspace(-1, 2, 601)
    with picture(png_path, 1, 2, width=11, height=4.4) as panels:
        left, right = panels[0]
        w, b = np.linspace(4.5, 7, 400)[None, :], np.linspace(-3.6, -2.2, 400)[:, None]
        surface = left.pcolormesh(
            w[0], b[:, 0], one_unit_loss(w, b), cmap="viridis", rasterized=True
        )
        left.figure.colorbar(surface, ax=left, label="Error")
        left.set_xlabel("w")
        left.set_ylabel("b")
        left.set_title("One unit, 50 steps", fontsize=11)
        for radius, color in zip(radii, COLORS, strict=False):
            params = init_of_radius(key, config.hidden_size, radius)
            losses, norm = loss_along_gradient(config, params, places)
            label = f"radius {radius:g}, ‖g‖ = {norm:.2g}"
            right.plot(places, losses, color=color, linewidth=1, label=label)
            for length, marker in (
                (config.learning_rate * norm, "o"),
                (config.learning_rate * min(norm, config.clip_norm), "s"),
            ):
                if length <= places[-1]:
                    at = losses[np.argmin(np.abs(places - length))]
                    right.plot(length, at, color=color, marker=marker, markersize=7, alpha=0.7)
        right.axvline(0, color="#555555", linewidth=0.9, linestyle=(0, (5, 3)))
        right.set_yscale("log")
        right.set_xlabel("s: how far along −g / ‖g‖")
        right.set_ylabel("Loss (nats per bit)")
        right.set_title("Untrained networks, along their gradient", fontsize=11)
        right.legend(frameon=False, fontsize=9)


def parse(arguments: list[str]) -> Train:
    """The command line as a record; `--preset` says which defaults the other flags have."""
    return tyro.cli(
        Train,
        args=arguments,
        default=preset_named(arguments, PRESETS),
        description=(__doc__ or "").split("\n\n")[0],
    )


def main(arguments: list[str] | None = None) -> None:
    """Run a command line."""
    with one_line_errors():
        train(parse(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    main()
