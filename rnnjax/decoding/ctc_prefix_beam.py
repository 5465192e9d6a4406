"""Likely labellings of connectionist temporal classification, with or without a language model."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from rnnjax.layers.checks import check_floating, check_size, checked_ids
from rnnjax.losses.ctc import BLANK
from rnnjax.precision import default_accumulation_dtype

_NOTHING = -1  # in the place of a label that is not there


class LabelScorer(NamedTuple):
    """A language model of labels: how likely each is after those before.

    Log-probabilities are finite. In the place of the blank, which is no label, is that of the end.

    Attributes:
        state: At the beginning of a text, leaves `(…)`.
        first: `(V,)`, the log-probabilities of the first label.
        step: `(state, labels (K,)) -> (state, log-probabilities (K, V))` of K texts side by side,
            leaves `(K, …)`: reads a label of each, and predicts the next one.
    """

    state: Any
    first: Array
    step: Callable[[Any, Array], tuple[Any, Array]]


class Labellings(NamedTuple):
    """What a search found, best first.

    Attributes:
        labels: `(T, B, K)` int32; −1 past a length.
        lengths: `(B, K)` int32, Ty.
        log_probabilities: `(B, K)`, log P(y | x) of the network alone, the sum over those paths
            whose prefixes stayed in the beam; −inf where there is no further labelling.
        scores: `(B, K)`, by which they are sorted.
    """

    labels: Array
    lengths: Array
    log_probabilities: Array
    scores: Array


class _Beam(NamedTuple):
    """K prefixes, all different where they have a probability; leaves `(K, …)`."""

    labels: Array  # (K, T)
    lengths: Array
    ends_blank: Array  # log P of the paths that say it and end in a blank
    ends_label: Array  # and of those that end in its last label
    text: Array  # what the language model and the bonus say of it
    state: Any
    following: Array  # (K, V), log-probabilities of the language model


def ctc_prefix_beam(
    logits: ArrayLike,
    *,
    beam_width: int,
    lengths: ArrayLike | None = None,
    scorer: LabelScorer | None = None,
    scorer_weight: ArrayLike = 1.0,
    label_bonus: ArrayLike = 0.0,
) -> Labellings:
    """The labellings of highest score among those of a beam of prefixes.

    score(y) = log P(y | x) + α log P_scorer(y) + β Ty,
    P(y | x) = Σ_π Π_t softmax(logits^<t>)[π^<t>]

    At each step each of the K best prefixes stays as it is, by a blank or by its last label once
    more, or is made longer by each label; ways to the same prefix are added up. Where no prefix has
    to be dropped, P(y | x) is the whole sum over the paths of `rnnjax.losses.ctc`.

    Compiled once for each shape; wrap the call in `jax.jit` where it is made again and again.

    Args:
        logits: `(T, B, V)`, floating. Label 0 is the blank.
        beam_width: K.
        lengths: `(B,)` integer, 0 … T; None is T for all.
        scorer: A language model, or None for none.
        scorer_weight: α.
        label_bonus: β, for each label, against the preference of a language model for short texts.

    Raises:
        TypeError: An argument is of the wrong dtype.
        ValueError: K is below 1, shapes do not fit, or a known length is out of range.

    References:
        Graves and Jaitly (2014), ICML, algorithm 1; Hannun et al. (2014), arXiv:1408.2873,
        algorithm 1, with a language model of labels in place of words.
    """
    check_size("beam_width", beam_width)
    logits = jnp.asarray(logits)
    check_floating("logits", logits.dtype)
    if logits.ndim != 3:
        raise ValueError(f"logits: got shape {logits.shape}, expected (T, B, V)")
    steps, rows, count = logits.shape
    if lengths is None:
        lengths = jnp.full((rows,), steps, jnp.int32)
    lengths = checked_ids("lengths", lengths, steps + 1).astype(jnp.int32)
    if lengths.shape != (rows,):
        raise ValueError(f"lengths: got shape {lengths.shape}, expected {(rows,)}")
    if scorer is not None and jnp.shape(scorer.first) != (count,):
        raise ValueError(f"scorer: got first of {jnp.shape(scorer.first)}, expected {(count,)}")
    dtype = default_accumulation_dtype(logits.dtype)
    search = partial(
        _search_row,
        beam_width,
        scorer,
        jnp.asarray(scorer_weight, dtype),
        jnp.asarray(label_bonus, dtype),
    )
    found = jax.vmap(search, in_axes=(1, 0))(jax.nn.log_softmax(logits.astype(dtype)), lengths)
    return found._replace(labels=jnp.moveaxis(found.labels, -1, 0))


def _search_row(
    width: int,
    scorer: LabelScorer | None,
    weight: Array,
    bonus: Array,
    log_probabilities: Array,
    length: Array,
) -> Labellings:
    """One row, `(T, V)`; labels come as `(K, T)`."""
    steps, count = log_probabilities.shape
    dtype = log_probabilities.dtype

    def each(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        return jnp.broadcast_to(leaf, (width, *leaf.shape))

    nowhere = jnp.full((width,), -jnp.inf, dtype)
    beam = _Beam(
        jnp.full((width, steps), _NOTHING, jnp.int32),
        jnp.zeros((width,), jnp.int32),
        nowhere.at[0].set(0.0),
        nowhere,
        jnp.zeros((width,), dtype),
        () if scorer is None else jax.tree.map(each, scorer.state),
        each(jnp.zeros((count,), dtype) if scorer is None else scorer.first.astype(dtype)),
    )

    def at_step(beam: _Beam, at_t: tuple[Array, Array]) -> tuple[_Beam, None]:
        t, log_p = at_t
        longer = _extended(beam, log_p, scorer, weight, bonus)
        return jax.tree.map(lambda new, old: jnp.where(t < length, new, old), longer, beam), None

    places = _places(steps)
    beam, _ = lax.scan(at_step, beam, (places, log_probabilities))
    total = jnp.logaddexp(beam.ends_blank, beam.ends_label)
    score = total + beam.text
    if scorer is not None:
        score = score + weight * beam.following[:, BLANK]
    score, best = lax.top_k(score, width)
    return Labellings(beam.labels[best], beam.lengths[best], total[best], score)


def _places(count: int) -> Array:
    return jnp.arange(count, dtype=jnp.int32)


def _extended(
    beam: _Beam, log_p: Array, scorer: LabelScorer | None, weight: Array, bonus: Array
) -> _Beam:
    """The K best prefixes after one step more."""
    (width, count), steps = beam.following.shape, beam.labels.shape[1]
    total = jnp.logaddexp(beam.ends_blank, beam.ends_label)
    is_there = total > -jnp.inf
    has_labels = beam.lengths > 0
    place = jnp.maximum(beam.lengths - 1, 0)
    last = jnp.take_along_axis(beam.labels, place[:, None], axis=1)[:, 0]
    last = jnp.where(has_labels, last, BLANK)
    is_last = (_places(count) == last[:, None]) & has_labels[:, None]  # (K, V)

    # The last label once more is a new one only after a blank.
    longer = jnp.where(is_last, beam.ends_blank[:, None], total[:, None]) + log_p
    longer = longer.at[:, BLANK].set(-jnp.inf)
    ends_blank = total + log_p[BLANK]
    ends_label = jnp.where(has_labels, beam.ends_label + log_p[last], -jnp.inf)

    # What a prefix becomes may be in the beam already: [j, k] says that k is j and a label more.
    at_last = _places(steps) == (beam.lengths - 1)[:, None]
    without_last = jnp.where(at_last, _NOTHING, beam.labels)
    is_child = jnp.all(without_last[None] == beam.labels[:, None], axis=-1)
    is_child &= (has_labels & is_there)[None] & is_there[:, None]
    gained = jnp.max(jnp.where(is_child, longer[:, last], -jnp.inf), axis=0)
    ends_label = jnp.logaddexp(ends_label, gained)
    longer = jnp.where(jnp.any(is_child[..., None] & is_last[None], axis=1), -jnp.inf, longer)

    gain = weight * beam.following + bonus  # (K, V)
    ranks = jnp.concatenate(
        [
            jnp.logaddexp(ends_blank, ends_label) + beam.text,
            (longer + beam.text[:, None] + gain).reshape(-1),
        ]
    )
    _, best = lax.top_k(ranks, width)
    stays = best < width
    parent = jnp.where(stays, best, (best - width) // count)
    label = jnp.where(stays, BLANK, (best - width) % count).astype(jnp.int32)
    lengths = beam.lengths[parent]
    is_new = (_places(steps) == lengths[:, None]) & ~stays[:, None]
    state = jax.tree.map(lambda leaf: leaf[parent], beam.state)
    following = beam.following[parent]
    if scorer is not None:
        read, predicted = scorer.step(state, label)

        def unless_it_stays(new: Array, old: Array) -> Array:
            return jnp.where(stays.reshape(-1, *(1,) * (new.ndim - 1)), old, new)

        state = jax.tree.map(unless_it_stays, read, state)
        following = unless_it_stays(predicted.astype(following.dtype), following)
    return _Beam(
        jnp.where(is_new, label[:, None], beam.labels[parent]),
        lengths + (~stays).astype(jnp.int32),
        jnp.where(stays, ends_blank[parent], -jnp.inf),
        jnp.where(stays, ends_label[parent], longer[parent, label]),
        beam.text[parent] + jnp.where(stays, 0.0, gain[parent, label]),
        state,
        following,
    )
