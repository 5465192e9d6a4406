from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.losses.conditional_random_field import conditional_random_field_loss
from rnnjax.models.sequence_tagger import (
    SequenceTaggerConfig,
    apply_sequence_tagger,
    init_sequence_tagger,
    sequence_tagger_loss,
    spell_words,
    tag_probabilities,
    tag_sentences,
)
from rnnjax.text.bio import allowed_bio
from rnnjax.text.tagged_sentences import Spellings, TaggedBatch, TaggerInputs
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.step import initial_train_state, make_train_step

T, B, C, W, V, CHARACTERS = 5, 3, 4, 6, 7, 5
LABELS = ("O", "B-X", "I-X")
K = len(LABELS)
ALLOWED = allowed_bio(LABELS)
CONFIG = SequenceTaggerConfig(
    V, K, CHARACTERS, "elman", (6,), embedding_size=4, character_embedding_size=3,
    character_hidden_size=2, dtype="float64",
)  # fmt: skip
LENGTHS = np.array([5, 2, 0])
VALID = np.arange(T)[:, None] < LENGTHS

loss_and_gradient = jax.jit(
    jax.value_and_grad(
        partial(sequence_tagger_loss, allowed=ALLOWED, plan="reference"), 1, has_aux=True
    ),
    static_argnums=0,
)
apply, spell, decode, probabilities = (
    jax.jit(partial(function, plan="reference"), static_argnums=0)
    for function in (apply_sequence_tagger, spell_words, tag_sentences, tag_probabilities)
)
init = jax.jit(init_sequence_tagger, static_argnums=1)


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """What is computed does not depend on how hard XLA tries; how long the tests take does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def params():
    return init(jax.random.key(0), CONFIG)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    spellings = Spellings(
        rng.integers(0, CHARACTERS, (C, W)),
        np.array([1, 4, 2, 3, 1, 0]),
        rng.integers(0, 5, (T, B)),
    )
    tags = np.array([[1, 0, 0], [2, 1, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0]])
    return TaggedBatch(TaggerInputs(rng.integers(0, V, (T, B)), LENGTHS, spellings), tags)


def evaluated(config):
    """Without dropout, the loss must not depend on the key."""
    return replace(config, dropout=0.0)


def test_a_word_is_its_characters_whatever_follows_and_wherever_it_stands(params, batch):
    spellings = batch.inputs.spellings
    together = spell(CONFIG, params.characters, spellings.characters, spellings.lengths)
    for word, length in enumerate(spellings.lengths):
        alone = np.zeros((C, 1), int)
        alone[:length, 0] = spellings.characters[:length, word]
        vector = spell(CONFIG, params.characters, alone, np.array([length]))
        np.testing.assert_allclose(vector[0], together[word], rtol=1e-12)
    np.testing.assert_array_equal(together[5], 0)
    np.testing.assert_array_equal(jnp.isfinite(together), True)


def test_a_sentence_scores_the_same_alone_and_in_a_batch(params, batch):
    together = apply(CONFIG, params, batch.inputs)
    for row, length in enumerate(LENGTHS[:2]):
        words, _, spellings = batch.inputs
        alone = TaggerInputs(
            words[:length, row : row + 1],
            np.array([length]),
            spellings._replace(of_words=spellings.of_words[:length, row : row + 1]),
        )
        scores = apply(CONFIG, params, alone)
        np.testing.assert_allclose(scores[:, 0], together[:length, row], rtol=1e-12)


def test_the_backward_direction_sees_what_comes_later(params, batch):
    changed = batch.inputs.words.copy()
    changed[4, 0] = (changed[4, 0] + 1) % V
    later = batch.inputs._replace(words=changed)
    moved = np.abs(apply(CONFIG, params, batch.inputs) - apply(CONFIG, params, later))[:, 0].max(-1)
    assert (moved > 0).all()
    one_way = replace(CONFIG, bidirectional=False)
    params = init(jax.random.key(0), one_way)
    moved = np.abs(apply(one_way, params, batch.inputs) - apply(one_way, params, later))
    np.testing.assert_array_equal(moved[:4, 0], 0)
    assert moved[4, 0].max() > 0


def test_the_loss_is_that_of_the_field_in_the_mean_of_the_sentences(params, batch):
    key = jax.random.key(0)
    (loss, (_, metrics)), _ = loss_and_gradient(evaluated(CONFIG), params, (), batch, key)
    scores = apply(CONFIG, params, batch.inputs)
    field = params.field._replace(
        transitions=jnp.where(ALLOWED.transitions, params.field.transitions, -jnp.inf),
        start=jnp.where(ALLOWED.start, params.field.start, -jnp.inf),
    )
    expected = conditional_random_field_loss(field, scores, batch.tags, lengths=LENGTHS)
    np.testing.assert_allclose(loss, expected.sum() / 2, rtol=1e-12)
    np.testing.assert_allclose(metrics["nats"], expected.sum(), rtol=1e-12)
    np.testing.assert_allclose(metrics["cross_entropy"], expected.sum() / 7, rtol=1e-12)
    assert metrics["words"] == 7


def test_without_a_field_it_is_a_softmax_of_each_word(batch):
    config = replace(CONFIG, head="softmax", dropout=0.0)
    params = init(jax.random.key(0), config)
    assert params.field is None
    (loss, _), _ = loss_and_gradient(config, params, (), batch, jax.random.key(0))
    log_p = np.asarray(jax.nn.log_softmax(apply(config, params, batch.inputs)))
    per_word = -np.take_along_axis(log_p, batch.tags[..., None], -1)[..., 0]
    np.testing.assert_allclose(loss, per_word[VALID].sum() / 2, rtol=1e-12)
    tags = np.asarray(decode(config, params, batch.inputs))
    np.testing.assert_array_equal(tags[VALID], log_p.argmax(-1)[VALID])
    np.testing.assert_allclose(
        probabilities(config, params, batch.inputs), np.exp(log_p) * VALID[..., None], rtol=1e-9
    )


def test_tags_are_well_formed_and_probabilities_add_up(params, batch):
    """Also of an untrained tagger that would rather begin with I-X."""
    params = params._replace(head=params.head._replace(b=jnp.array([0.0, 0.0, 9.0])))
    free = np.asarray(decode(CONFIG, params, batch.inputs))
    assert (free[0, :2] == 2).all()
    tags = np.asarray(decode(CONFIG, params, batch.inputs, allowed=ALLOWED))
    assert (tags[0, :2] == 1).all()
    np.testing.assert_array_equal(tags[~VALID], 0)
    probable = np.asarray(probabilities(CONFIG, params, batch.inputs, allowed=ALLOWED))
    np.testing.assert_allclose(probable.sum(-1), VALID, atol=1e-12)
    np.testing.assert_array_equal(probable[0, :, 2], 0)


def test_nothing_leaks_out_of_padding(params, batch):
    key = jax.random.key(0)
    clean = loss_and_gradient(evaluated(CONFIG), params, (), batch, key)
    words, lengths, spellings = batch.inputs
    hidden = np.arange(C)[:, None] >= spellings.lengths
    poisoned = TaggedBatch(
        TaggerInputs(
            np.where(VALID, words, -9),
            lengths,
            Spellings(
                np.where(hidden, 99, spellings.characters),
                spellings.lengths,
                np.where(VALID, spellings.of_words, 99),
            ),
        ),
        np.where(VALID, batch.tags, -1),
    )
    found = loss_and_gradient(evaluated(CONFIG), params, (), poisoned, key)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(clean), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_dropout_is_drawn_from_the_key_in_training_alone(params, batch):
    losses = [
        float(loss_and_gradient(CONFIG, params, (), batch, jax.random.key(seed))[0][0])
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]
    np.testing.assert_array_equal(
        apply(CONFIG, params, batch.inputs), apply(evaluated(CONFIG), params, batch.inputs)
    )


@pytest.mark.slow
def test_it_learns_a_name_by_its_capital_letter():
    """Words are all unknown; only spelling tells a name, and a name goes on in lower case."""
    config = SequenceTaggerConfig(
        1, K, 3, "elman", (8,), embedding_size=2, character_embedding_size=4,
        character_hidden_size=4, dropout=0.0,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    # Word 0 begins with the capital, word 1 is a particle, which goes on with a name; 2 and 3 not.
    characters = np.array([[2, 0, 1, 1], [0, 1, 0, 1]], np.int32)
    optimizer = build_optimizer(OptimizerConfig(0.03, "constant", 0, total_steps=80))
    state = initial_train_state(init(jax.random.key(0), config), optimizer, (), jax.random.key(1))
    train_step = make_train_step(partial(sequence_tagger_loss, config, allowed=ALLOWED), optimizer)

    def drawn():
        of_words = rng.integers(0, 4, (T, 8)).astype(np.int32)
        tags = np.where(of_words == 0, 1, 0)
        for t in range(1, T):
            tags[t] = np.where((of_words[t] == 1) & (tags[t - 1] > 0), 2, tags[t])
        spellings = Spellings(characters, np.full(4, 2, np.int32), of_words)
        inputs = TaggerInputs(np.zeros((T, 8), np.int32), np.full(8, T, np.int32), spellings)
        return TaggedBatch(inputs, tags.astype(np.int32))

    for _ in range(120):
        state, _ = train_step(state, drawn())
    unseen = drawn()
    tags = tag_sentences(config, state.params, unseen.inputs, allowed=ALLOWED)
    assert np.mean(np.asarray(tags) == unseen.tags) > 0.99


def test_parameters_and_loss_have_the_dtypes_asked_for(batch):
    for dtype in ("float32", "bfloat16"):
        config = replace(CONFIG, dtype=dtype, dropout=0.0)
        params = jax.eval_shape(partial(init_sequence_tagger, config=config), jax.random.key(0))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
        run = partial(sequence_tagger_loss, config)
        loss, _ = jax.eval_shape(run, params, (), batch, jax.random.key(0))
        assert loss.dtype == jnp.float32


def test_bad_arguments_are_refused(params, batch):
    for fields, message in (
        ({"tag_count": 0}, "tag_count: got 0, expected an integer of at least 1"),
        ({"recurrence": "ltsm"}, r"recurrence: got 'ltsm', expected one of elman, .*lstm"),
        ({"hidden_sizes": ()}, r"hidden_sizes: got \(\), expected a tuple of at least one size"),
        ({"head": "crv"}, "head: got 'crv', expected one of crf, softmax"),
        ({"dropout": 1.0}, r"dropout: got 1\.0, expected 0 ≤ dropout < 1"),
        ({"character_count": 0}, "character_count: got 0, expected an integer of at least 1"),
        ({"dtype": "int32"}, "dtype: got 'int32', expected one of bfloat16, float16, float32"),
    ):
        with pytest.raises(ValueError, match=message):
            SequenceTaggerConfig(**{"vocabulary_size": V, "tag_count": K, **fields})
    bare = batch.inputs._replace(spellings=None)
    with pytest.raises(ValueError, match="spellings: got none, expected some, as the tagger was"):
        apply_sequence_tagger(CONFIG, params, bare)
    words_only = replace(CONFIG, character_count=None)
    other = params._replace(characters=None)
    with pytest.raises(ValueError, match="spellings: got some, expected none"):
        apply_sequence_tagger(words_only, other, batch.inputs)
    far = batch.inputs._replace(words=np.full((T, B), 99))
    with pytest.raises(ValueError, match="words: got values from 99 to 99, expected 0 … 6"):
        apply_sequence_tagger(CONFIG, params, far)
    with jax.enable_x64(False), pytest.raises(ValueError, match="float64 while jax_enable_x64"):
        init_sequence_tagger(jax.random.key(0), CONFIG)
