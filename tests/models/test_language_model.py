from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.tolerances import assert_close

from rnnjax.models.checks import reads_vectors
from rnnjax.models.language_model import (
    MOST_PROJECTED_TOKENS,
    LanguageModelConfig,
    _step_of_a_sample,
    apply_language_model,
    init_language_model,
    initial_state,
    language_model_loss,
    sample_language_model,
    step_language_model,
    text_log_probability,
)
from rnnjax.recurrences import REGISTRY
from rnnjax.text.streams import TextBatch, lay_out, window
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.step import initial_train_state, make_train_step

T, B, V, BEGIN = 6, 2, 5, 4
CONFIG = LanguageModelConfig(V, "lstm", (6, 4), embedding_size=None, dtype="float64")

apply = jax.jit(apply_language_model, static_argnums=0)
loss_and_gradient = jax.jit(
    jax.value_and_grad(language_model_loss, argnums=1, has_aux=True), static_argnums=0
)
score = jax.jit(text_log_probability, static_argnums=(0, 3))


@pytest.fixture(scope="module")
def params():
    return init_language_model(jax.random.key(0), CONFIG)


@pytest.fixture(scope="module")
def batch():
    inputs, targets = jax.random.randint(jax.random.key(1), (2, T, B), 0, V, jnp.int32)
    resets = jnp.zeros((T, B), bool).at[3, 1].set(True)
    weights = jnp.ones((T, B), jnp.float32).at[4:, 0].set(0)
    return TextBatch(inputs, targets, resets, weights)


def zero_state(params):
    return initial_state(CONFIG, params, (B,))


def test_windows_that_carry_the_state_give_the_logits_of_the_whole(params, batch):
    whole_state, whole = apply(CONFIG, params, zero_state(params), batch.inputs, batch.resets)
    half = T // 2
    state, first = apply(
        CONFIG, params, zero_state(params), batch.inputs[:half], batch.resets[:half]
    )
    state, second = apply(CONFIG, params, state, batch.inputs[half:], batch.resets[half:])
    np.testing.assert_allclose(jnp.concatenate([first, second]), whole, rtol=1e-12, atol=1e-14)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(whole_state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_steps_give_the_logits_of_the_whole(params, batch):
    _, whole = apply(CONFIG, params, zero_state(params), batch.inputs, jnp.zeros((T, B), bool))
    step = jax.jit(step_language_model, static_argnums=0)
    state = zero_state(params)
    for t in range(T):
        state, logits = step(CONFIG, params, state, batch.inputs[t])
        np.testing.assert_allclose(logits, whole[t], rtol=1e-12, atol=1e-14)


def test_one_hot_inputs_are_a_lookup_in_the_input_weights(params, batch):
    """An identity table makes the embedding a one-hot; W_x as the table makes its rows the x W."""
    config = LanguageModelConfig(V, "lstm", (6, 4), embedding_size=V, dtype="float64")
    embedded = init_language_model(jax.random.key(2), config)
    assert embedded.embedding is not None
    eye = embedded.embedding._replace(table=jnp.eye(V, dtype=jnp.float64))
    _, expected = apply(CONFIG, params, zero_state(params), batch.inputs, batch.resets)
    _, logits = apply(
        config, params._replace(embedding=eye), zero_state(params), batch.inputs, batch.resets
    )
    np.testing.assert_allclose(logits, expected, rtol=1e-12, atol=1e-14)

    bottom = params.layers[0]
    config = LanguageModelConfig(V, "lstm", (6, 4), embedding_size=24, dtype="float64")
    rows = params._replace(
        embedding=embedded.embedding._replace(table=bottom.w_x),
        layers=(bottom._replace(w_x=jnp.eye(24, dtype=jnp.float64)), *params.layers[1:]),
    )
    _, logits = apply(config, rows, zero_state(params), batch.inputs, batch.resets)
    np.testing.assert_allclose(logits, expected, rtol=1e-12, atol=1e-14)


def test_every_recurrence_that_reads_vectors_predicts_tokens():
    """Of any size of outputs; nothing is computed."""

    def logits(config, key, inputs):
        params = init_language_model(key, config)
        state = initial_state(config, params, (B,))
        return apply_language_model(config, params, state, inputs, plan="reference")[1]

    names = [name for name in REGISTRY if reads_vectors(name)]
    assert set(REGISTRY) - set(names) == {"conv_lstm_1d", "conv_lstm_2d"}
    for name in names:
        config = LanguageModelConfig(V, name, (6, 6), embedding_size=3)
        inputs = jax.ShapeDtypeStruct((T, B), jnp.int32)
        out = jax.eval_shape(partial(logits, config), jax.random.key(0), inputs)
        assert (out.shape, out.dtype) == ((T, B, V), jnp.float32), name


def test_the_loss_is_the_sum_over_time_and_the_mean_over_the_batch(params, batch):
    (loss, (_, metrics)), _ = loss_and_gradient(
        CONFIG, params, zero_state(params), batch, jax.random.key(0)
    )
    _, logits = apply(CONFIG, params, zero_state(params), batch.inputs, batch.resets)
    log_p = np.asarray(jax.nn.log_softmax(logits))
    per_step = -np.take_along_axis(log_p, np.asarray(batch.targets)[..., None], -1)[..., 0]
    counted = per_step[np.asarray(batch.weights) == 1]
    np.testing.assert_allclose(loss, counted.sum() / B, rtol=1e-12)
    np.testing.assert_allclose(metrics["nats"], counted.sum(), rtol=1e-12)
    assert metrics["tokens"] == counted.size == T * B - 2
    np.testing.assert_allclose(metrics["cross_entropy"], counted.mean(), rtol=1e-12)
    np.testing.assert_allclose(
        metrics["bits_per_character"], np.log2(np.e) * counted.mean(), rtol=1e-12
    )
    np.testing.assert_allclose(metrics["perplexity"], np.exp(counted.mean()), rtol=1e-12)


def test_the_gradient_is_that_of_finite_differences(params, batch):
    def loss(params):
        return loss_and_gradient(CONFIG, params, zero_state(params), batch, jax.random.key(0))

    _, gradient = loss(params)
    leaves, structure = jax.tree.flatten(params)
    step = 1e-5
    for i, slope in enumerate(jax.tree.leaves(gradient)):
        place = np.unravel_index(np.abs(slope).argmax(), slope.shape)
        values = []
        for sign in (1, -1):
            moved = [*leaves[:i], leaves[i].at[place].add(sign * step), *leaves[i + 1 :]]
            values.append(float(loss(jax.tree.unflatten(structure, moved))[0][0]))
        assert slope[place] != 0
        np.testing.assert_allclose((values[0] - values[1]) / (2 * step), slope[place], rtol=1e-6)


def test_probabilities_of_all_texts_of_one_length_add_up_to_one(params):
    texts = np.stack(np.meshgrid(*[np.arange(V)] * 3, indexing="ij")).reshape(3, -1)
    log_p = score(CONFIG, params, texts, BEGIN)
    np.testing.assert_allclose(np.exp(np.asarray(log_p).sum(0)).sum(), 1, rtol=1e-12)
    # The first factor knows nothing of what follows it.
    np.testing.assert_allclose(log_p[0, :25], log_p[0, 0], rtol=1e-12)


def test_texts_of_several_lengths_in_one_batch_are_as_probable_as_alone(params):
    long, short = np.array([2, 0, 3, 3, 1, 4]), np.array([1, 1, 2])
    padded = np.stack([long, np.concatenate([short, [-1, 99, -1]])], axis=1)
    lengths = np.array([6, 3])
    together = np.asarray(score(CONFIG, params, padded, BEGIN, lengths=lengths))
    np.testing.assert_allclose(together[:, 0], score(CONFIG, params, long, BEGIN), rtol=1e-12)
    np.testing.assert_allclose(together[:3, 1], score(CONFIG, params, short, BEGIN), rtol=1e-12)
    np.testing.assert_array_equal(together[3:, 1], 0)


def test_a_stream_scores_its_documents_as_the_texts_they_are(params):
    documents = [np.array([0, 1, 2]), np.array([3, 3, 0, 1, 2, 0, 1, 0, 2])]
    stream = window(lay_out(documents, B, BEGIN), 0, T)
    # Stream 1 starts inside the second document, so only stream 0 is whole texts from their start.
    _, logits = apply(CONFIG, params, zero_state(params), stream.inputs, stream.resets)
    log_p = np.asarray(jax.nn.log_softmax(logits))[np.arange(T), 0, stream.targets[:, 0]]
    np.testing.assert_allclose(log_p[:3], score(CONFIG, params, documents[0], BEGIN), rtol=1e-12)
    np.testing.assert_allclose(
        log_p[3:], score(CONFIG, params, documents[1][:3], BEGIN), rtol=1e-12
    )


def test_greedy_samples_are_the_likeliest_continuation_of_the_prime(params):
    # Weights as large as these make what follows depend on all that came before.
    params = jax.tree.map(lambda array: 8 * array, params)
    prime = np.array([[4, 1], [2, 0], [0, 3]])
    text = prime
    for _ in range(4):
        padded = np.concatenate([text, np.zeros((7 - len(text), 2), np.int32)])
        _, logits = apply(CONFIG, params, zero_state(params), padded)
        text = np.concatenate([text, np.asarray(logits[len(text) - 1].argmax(-1))[None]])
    written = sample_language_model(CONFIG, params, jax.random.key(0), prime, 4, temperature=0.0)
    np.testing.assert_array_equal(written, text[3:])


@pytest.mark.parametrize(
    ("name", "embedding_size"),
    [("lstm", None), *((name, 3) for name in REGISTRY if reads_vectors(name))],
)
def test_tokens_projected_once_predict_what_the_steps_of_the_model_do(name, embedding_size):
    config = LanguageModelConfig(V, name, (4, 4), embedding_size)
    params = init_language_model(jax.random.key(0), config)
    tokens = jax.random.randint(jax.random.key(1), (3, 2), 0, V)

    def logits_of(step):
        return lax.scan(step, initial_state(config, params, (2,)), tokens)[1]

    actual = logits_of(_step_of_a_sample(config, params))
    expected = logits_of(partial(step_language_model, config, params))
    assert_close(actual, expected, "float32")


def test_many_tokens_are_not_projected_beforehand():
    config = LanguageModelConfig(MOST_PROJECTED_TOKENS + 1, "elman", (2,), 2)
    step = _step_of_a_sample(config, init_language_model(jax.random.key(0), config))
    assert isinstance(step, partial)
    assert step.func is step_language_model


def test_the_same_seed_writes_the_same_text_without_what_is_forbidden(params):
    forbidden = np.arange(V) == 2

    def write(seed):
        return np.asarray(
            sample_language_model(
                CONFIG,
                params,
                jax.random.key(seed),
                np.array([BEGIN]),
                40,
                temperature=1.5,
                top_p=0.99,
                forbidden=forbidden,
            )
        )

    text = write(0)
    np.testing.assert_array_equal(write(0), text)
    assert not np.array_equal(write(1), text)
    assert 2 not in text
    assert len(set(text.tolist())) > 2


def test_it_learns_a_periodic_text_and_then_writes_it():
    config = LanguageModelConfig(V, "gru", (16,), embedding_size=8)
    optimizer = build_optimizer(OptimizerConfig(0.02, "constant", 0, total_steps=60, clip_norm=8.0))
    params = init_language_model(jax.random.key(0), config)
    # "0 0 1 0 0 2": what follows a 0, or two, is known only from what came before them.
    period = np.array([0, 0, 1, 0, 0, 2])
    streams = lay_out(np.tile(period, 16), B, BEGIN)
    state = initial_train_state(
        params, optimizer, initial_state(config, params, (B,)), jax.random.key(1)
    )
    train_step = make_train_step(partial(language_model_loss, config), optimizer)
    bits = []
    for position in range(120):
        state, metrics = train_step(state, window(streams, position, 12))
        bits.append(float(metrics["bits_per_character"]))
    assert bits[0] > 1.5
    assert np.mean(bits[-4:]) < 0.1
    written = sample_language_model(
        config, state.params, jax.random.key(0), np.tile(period, 2), 12, temperature=0.0
    )
    np.testing.assert_array_equal(written, np.tile(period, 2))


def test_a_model_of_low_precision_says_about_the_same_and_sums_its_loss_in_float32(batch):
    losses = {}
    for dtype in ("float32", "bfloat16"):
        config = LanguageModelConfig(V, "lstm", (6, 4), 3, dtype)
        params = init_language_model(jax.random.key(0), config)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
        state = initial_state(config, params, (B,))
        (loss, (new_state, _)), _ = loss_and_gradient(
            config, params, state, batch, jax.random.key(0)
        )
        assert loss.dtype == jnp.float32
        assert {leaf.dtype for leaf in jax.tree.leaves(new_state)} == {jnp.dtype(dtype)}
        losses[dtype] = float(loss)
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=1e-2)


def test_bad_arguments_are_refused(params, batch):
    for fields, message in (
        ({"vocabulary_size": 0}, "vocabulary_size: got 0, expected an integer of at least 1"),
        ({"recurrence": "ltsm"}, "recurrence: got 'ltsm', expected one of elman, .*lstm"),
        ({"hidden_sizes": ()}, r"hidden_sizes: got \(\), expected a tuple of at least one size"),
        ({"hidden_sizes": (3, -1)}, r"hidden_sizes\[1\]: got -1, expected an integer"),
        ({"embedding_size": 0}, "embedding_size: got 0, expected an integer of at least 1"),
        (
            {"recurrence": "conv_lstm_1d"},
            "recurrence: got 'conv_lstm_1d', which reads images, expected one that reads vectors",
        ),
        ({"dtype": "int32"}, "dtype: got 'int32', expected one of bfloat16, float16, float32"),
    ):
        with pytest.raises(ValueError, match=message):
            LanguageModelConfig(**{"vocabulary_size": V, **fields})
    key = jax.random.key(0)
    for prime, message in (
        (np.zeros(0, np.int32), r"prime: got shape \(0,\), expected at least one token"),
        (np.array([0, V]), "prime: got values from 0 to 5, expected 0 … 4"),
    ):
        with pytest.raises(ValueError, match=message):
            sample_language_model(CONFIG, params, key, prime, 3)
    with pytest.raises(ValueError, match=r"top_p: got 2\.0, expected within"):
        sample_language_model(CONFIG, params, key, np.array([0]), 3, top_p=2.0)
    with pytest.raises(ValueError, match="top_k: got 6, expected at most 5"):
        sample_language_model(CONFIG, params, key, np.array([0]), 3, top_k=6)
    with pytest.raises(ValueError, match="begin_id: got values from 9 to 9, expected 0 … 4"):
        text_log_probability(CONFIG, params, np.array([0, 1]), 9)
    with pytest.raises(ValueError, match=r"tokens: got shape \(0,\), expected at least one token"):
        text_log_probability(CONFIG, params, np.zeros(0, np.int32), BEGIN)
    with pytest.raises(ValueError, match=r"inputs: got values from -1 to .*, expected 0 … 4"):
        apply_language_model(
            CONFIG, params, zero_state(params), batch.inputs.at[0, 0].set(-1), batch.resets
        )
    with jax.enable_x64(False), pytest.raises(ValueError, match="float64 while jax_enable_x64"):
        init_language_model(key, CONFIG)
