from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

from rnnjax.layers.bidirectional import scan_bidirectional
from rnnjax.models.sequence_classifier import (
    LabelledBatch,
    SequenceClassifierConfig,
    apply_sequence_classifier,
    class_log_probabilities,
    draw_dropout_masks,
    drop_words,
    init_sequence_classifier,
    log_probabilities_without_each,
    median_class,
    output_sizes,
    sequence_classifier_loss,
)
from rnnjax.recurrences import REGISTRY
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.step import initial_train_state, make_train_step

T, B, V, K = 5, 4, 7, 3
DTYPE = "float64"
LENGTHS = np.array([5, 3, 1, 0])


def config(**fields):
    return SequenceClassifierConfig(
        **{
            "vocabulary_size": V, "class_count": K, "recurrence": "elman", "hidden_sizes": (4,),
            "embedding_size": 3, "attention_size": 2, "dtype": DTYPE,
        } | fields
    )  # fmt: skip


ATTENTIVE = config(bidirectional=True, pooling="attention")

init = jax.jit(init_sequence_classifier, static_argnums=1)
apply = jax.jit(apply_sequence_classifier, static_argnums=0)
log_probabilities = jax.jit(class_log_probabilities, static_argnums=0)
without_each = jax.jit(log_probabilities_without_each, static_argnums=0, static_argnames=("rows",))
loss_of = jax.jit(
    partial(sequence_classifier_loss, ATTENTIVE), static_argnames=("dropout", "word_dropout")
)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is computed does not depend on how hard XLA tries; how long compilation takes does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def params(quick_compilation):
    return init(jax.random.key(0), ATTENTIVE)


@pytest.fixture(scope="module")
def batch():
    inputs = jax.random.randint(jax.random.key(1), (T, B), 0, V, jnp.int32)
    return LabelledBatch(
        inputs, jnp.asarray(LENGTHS, jnp.int32), jnp.array([2, 0, 1, 1], jnp.int32), jnp.ones(B)
    )


def test_a_text_in_a_batch_is_what_it_is_alone_whatever_the_padding(params, batch):
    together = log_probabilities(ATTENTIVE, params, batch.inputs, batch.lengths)
    other = jnp.where(jnp.arange(T)[:, None] < LENGTHS, batch.inputs, (batch.inputs + 1) % V)
    assert_close(
        log_probabilities(ATTENTIVE, params, other, batch.lengths), np.asarray(together), DTYPE
    )
    np.testing.assert_allclose(np.exp(np.asarray(together)).sum(-1), 1, rtol=1e-12)
    alone = log_probabilities(ATTENTIVE, params, batch.inputs[:3, 1])
    assert_close(together[1], np.asarray(alone), DTYPE)
    empty = jax.nn.log_softmax(params.head.b)  # an empty text: the bias alone decides
    assert_close(together[-1], np.asarray(empty), DTYPE)


def test_the_last_state_of_both_directions_is_their_carries(batch):
    """Of a bidirectional network: h→ after the last word and h← after the first one."""
    ends = config(bidirectional=True)
    params = init(jax.random.key(2), ends)

    @jax.jit
    def from_carries(params, inputs, lengths):
        xs = params.embedding.table[inputs]
        carries, _ = scan_bidirectional(REGISTRY["elman"], params.layers[0], xs, lengths=lengths)
        return jnp.concatenate(carries, -1) @ params.head.w + params.head.b

    logits, weights = apply(ends, params, batch.inputs, batch.lengths)
    expected = from_carries(params, batch.inputs, batch.lengths)
    assert_close(logits, np.asarray(expected), DTYPE)
    assert weights is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pooling", "bidirectional"),
    [("last", False), ("mean", False), ("max", True), ("attention", True)],
)
def test_an_order_of_words_is_learnt(pooling, bidirectional):
    """Class 1 has word 1 before word 2, class 0 after it: no bag of words can tell."""
    rng = np.random.default_rng(0)
    inputs = np.full((T, 32), 3, np.int32)
    labels = np.arange(32, dtype=np.int32) % 2
    for row, label in enumerate(labels):
        first, second = np.sort(rng.choice(T, 2, replace=False))
        inputs[first, row], inputs[second, row] = (1, 2) if label else (2, 1)
    batch = LabelledBatch(inputs, np.full(32, T, np.int32), labels, np.ones(32, np.float32))
    optimizer = build_optimizer(OptimizerConfig(learning_rate=0.05, total_steps=120))
    tried = config(class_count=2, pooling=pooling, bidirectional=bidirectional)
    step = make_train_step(partial(sequence_classifier_loss, tried), optimizer)
    params = init(jax.random.key(0), tried)
    state, metrics = initial_train_state(params, optimizer, (), jax.random.key(1)), {}
    for _ in range(120):
        state, metrics = step(state, batch)
    assert metrics["accuracy"] == 1
    assert metrics["cross_entropy"] < 0.1


def test_the_loss_is_the_mean_over_the_batch_and_counts_what_weighs(params, batch):
    weighted = batch._replace(weights=jnp.array([1.0, 1, 1, 0]), labels=batch.labels.at[3].set(99))
    loss, (memory, metrics) = loss_of(params, (), weighted, jax.random.key(0))
    found = np.asarray(log_probabilities(ATTENTIVE, params, batch.inputs, batch.lengths))
    nats = -found[np.arange(3), np.asarray(batch.labels[:3])]
    np.testing.assert_allclose(loss, nats.sum() / B, rtol=1e-12)
    np.testing.assert_allclose(metrics["nats"], nats.sum(), rtol=1e-12)
    np.testing.assert_allclose(metrics["cross_entropy"], nats.mean(), rtol=1e-12)
    right = found[:3].argmax(-1) == np.asarray(batch.labels[:3])
    assert float(metrics["correct"]) == right.sum()
    np.testing.assert_allclose(metrics["accuracy"], right.mean(), rtol=1e-12)
    assert metrics["examples"] == 3
    assert memory == ()


def test_without_each_word_is_the_text_cut_and_read_again(params):
    """Leave-one-out against brute force, one text at a time, also of one word and of none."""
    tokens = np.array([3, 1, 4, 6, 5])
    for length in (4, 1, 0):
        found = without_each(ATTENTIVE, params, tokens, np.int32(length))
        cut = [np.delete(tokens[:length], t) for t in range(length)] + [tokens[:length]] * (
            T - length
        )
        padded = np.zeros((T, T), np.int32)
        for row, text in enumerate(cut):
            padded[: len(text), row] = text
        lengths = np.array([len(text) for text in cut])
        brute = log_probabilities(ATTENTIVE, params, padded, lengths)
        assert_close(found, np.asarray(brute), DTYPE)
    # and of a text that fills its array, each one alone; here in batches of two
    found = without_each(ATTENTIVE, params, tokens, np.int32(T), rows=2)
    for t in (0, 2, T - 1):
        alone = log_probabilities(ATTENTIVE, params, np.delete(tokens, t))
        assert_close(found[t], np.asarray(alone), DTYPE)


def test_dropout_is_in_the_mean_nothing_and_leaves_what_is_not_dropped(params, batch):
    deep = config(bidirectional=True, hidden_sizes=(4, 3))
    masks = draw_dropout_masks(jax.random.key(0), deep, 0.5, (T, B))
    assert (masks.inputs.shape, masks.pooled.shape) == ((T, B, 3), (B, 6))
    assert [mask.shape for mask in masks.layers] == [(T, B, 8)]
    kept = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(masks)])
    assert set(kept) == {0.0, 2.0}
    masks = draw_dropout_masks(jax.random.key(0), ATTENTIVE, 0.5, (T, B))
    ones = jax.tree.map(jnp.ones_like, masks)
    plain, _ = apply(ATTENTIVE, params, batch.inputs, batch.lengths)
    same, _ = apply(ATTENTIVE, params, batch.inputs, batch.lengths, ones)
    assert_close(same, np.asarray(plain), DTYPE)
    one, again, other = (
        loss_of(params, (), batch, jax.random.key(seed), dropout=0.5)[0] for seed in (1, 1, 2)
    )
    assert one == again != other

    words = jnp.asarray(np.random.default_rng(0).integers(1, V, (200, 50)))
    dropped = np.asarray(drop_words(jax.random.key(0), 0.25, words, 0))
    assert abs((dropped == 0).mean() - 0.25) < 0.02
    np.testing.assert_array_equal(dropped[dropped != 0], np.asarray(words)[dropped != 0])


def test_the_median_class_errs_least_by_the_models_own_account():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(5, 0.4), 200)
    expected = np.abs(np.arange(5)[:, None] - np.arange(5)) @ p.T  # (guess, text)
    chosen = np.asarray(median_class(np.log(p)))
    np.testing.assert_allclose(expected[chosen, np.arange(200)], expected.min(0), rtol=1e-12)
    assert (chosen != p.argmax(-1)).any()


@pytest.mark.slow
@pytest.mark.parametrize("recurrence", REGISTRY)
def test_every_recurrence_that_reads_vectors_serves(recurrence, batch):
    if recurrence.startswith("conv_lstm"):
        with pytest.raises(ValueError, match=f"recurrence: got {recurrence!r}, which reads images"):
            config(recurrence=recurrence)
        return
    tried = config(recurrence=recurrence, bidirectional=True, hidden_sizes=(4, 4))
    params = init_sequence_classifier(jax.random.key(0), tried)
    loss, _ = sequence_classifier_loss(tried, params, (), batch, jax.random.key(0), dropout=0.5)
    assert np.isfinite(loss)


def test_sizes_of_outputs_are_those_of_the_recurrence():
    assert output_sizes(config(hidden_sizes=(4, 3), bidirectional=True)) == (8, 6)
    assert output_sizes(config(hidden_sizes=(4, 2))) == (4, 2)
    narrow = config(recurrence="lstm_projected", bidirectional=True)
    params = jax.eval_shape(partial(init_sequence_classifier, config=narrow), jax.random.key(0))
    assert params.head.w.shape == (output_sizes(narrow)[-1], K)


def test_bad_input_is_refused_by_name(params, batch):
    for fields, message in (
        ({"class_count": 1}, "class_count: got 1, expected at least 2"),
        ({"recurrence": "lstn"}, "recurrence: got 'lstn', expected one of elman"),
        ({"recurrence": "conv_lstm_1d"}, "which reads images"),
        ({"pooling": "sum"}, "pooling: got 'sum', expected one of"),
        ({"hidden_sizes": ()}, "hidden_sizes: got"),
        ({"hidden_sizes": (4, 0)}, r"hidden_sizes\[1\]: got 0"),
        ({"dtype": "int32"}, "dtype: got 'int32'"),
        ({"vocabulary_size": 0}, "vocabulary_size: got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            config(**fields)
    key = jax.random.key(0)
    for call, message in (
        (
            lambda: apply_sequence_classifier(ATTENTIVE, params, batch.inputs.at[0, 0].set(V)),
            "inputs: got values from .* to 7, expected 0 … 6",
        ),
        (
            lambda: apply_sequence_classifier(ATTENTIVE, params, batch.inputs, LENGTHS + 1),
            "lengths: got 6, expected",
        ),
        (
            lambda: sequence_classifier_loss(
                ATTENTIVE, params, (), batch._replace(labels=batch.labels.at[0].set(K)), key
            ),
            "targets: got values from 0 to 3, expected 0 … 2",
        ),
        (
            lambda: sequence_classifier_loss(ATTENTIVE, params, (), batch, key, dropout=1.0),
            "dropout: got 1.0, expected 0 ≤ dropout < 1",
        ),
        (
            lambda: sequence_classifier_loss(ATTENTIVE, params, (), batch, key, word_dropout=-0.1),
            "word_dropout: got -0.1, expected 0 ≤ word_dropout < 1",
        ),
        (
            lambda: log_probabilities_without_each(ATTENTIVE, params, batch.inputs),
            r"tokens: got shape \(5, 4\), expected \(T,\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="params: got none of the pooling"):
        apply_sequence_classifier(ATTENTIVE, params._replace(pooling=None), batch.inputs)
    with jax.enable_x64(False), pytest.raises(ValueError, match="float64 while jax_enable_x64"):
        init_sequence_classifier(key, ATTENTIVE)
