from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

from rnnjax.models import encoder_decoder
from rnnjax.models.checks import reads_vectors
from rnnjax.models.encoder_decoder import (
    ATTENTIONS,
    NOT_BRIDGED,
    EncoderDecoderConfig,
    TranslationBatch,
    apply_encoder_decoder,
    attention_weights,
    decode,
    draw_dropout_masks,
    encode,
    encoder_decoder_loss,
    init_encoder_decoder,
    scheduled_sampling_loss,
    step_decoder,
    translate,
    translate_greedily,
    translation_log_probability,
)
from rnnjax.recurrences import REGISTRY
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.step import initial_train_state, make_train_step

TX, TY, B, V_SOURCE, V_TARGET, BEGIN, END = 5, 4, 3, 6, 7, 1, 2
DTYPE = "float64"
SOURCE_LENGTHS, TARGET_LENGTHS = np.array([[5, 3, 1], [2, 4, 3]], np.int32)


def config(**fields):
    return EncoderDecoderConfig(
        **{
            "source_vocabulary_size": V_SOURCE, "target_vocabulary_size": V_TARGET,
            "begin_id": BEGIN, "end_id": END, "recurrence": "elman",
            "encoder_hidden_sizes": (3,), "decoder_hidden_sizes": (6,), "embedding_size": 3,
            "attention_size": 2, "dtype": DTYPE,
        } | fields
    )  # fmt: skip


CONFIG = config()

init = jax.jit(init_encoder_decoder, static_argnums=1)
apply = jax.jit(apply_encoder_decoder, static_argnums=0)
log_probability = jax.jit(translation_log_probability, static_argnums=0)
loss_and_gradient = jax.jit(jax.value_and_grad(partial(encoder_decoder_loss, CONFIG), has_aux=True))


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is computed does not depend on how hard XLA tries; how long compilation takes does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return TranslationBatch(
        rng.integers(1, V_SOURCE, (TX, B), np.int32),
        SOURCE_LENGTHS,
        rng.integers(1, V_TARGET, (TY, B), np.int32),
        TARGET_LENGTHS,
        np.ones(B, np.float32),
    )


def drawn(config, seed):
    """Parameters of no compilation, and of more decided predictions."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(partial(init_encoder_decoder, config=config), jax.random.key(0))
    return jax.tree.map(lambda leaf: rng.normal(0, 0.8, leaf.shape), shapes)


@pytest.fixture(scope="module")
def params():
    return drawn(CONFIG, 0)


def given(batch):
    return batch.sources, batch.targets, batch.source_lengths, batch.target_lengths


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_teacher_forcing_is_one_step_after_another(attention, batch):
    tried = config(attention=attention)

    params = drawn(tried, 0)
    inputs = np.concatenate([np.full((1, B), BEGIN, np.int32), batch.targets[:-1]])

    @jax.jit
    def both(params, sources, lengths, inputs):
        before, annotations = encode(tried, params, sources, lengths)
        after, whole, weights = decode(tried, params, before, annotations, inputs)
        last, steps = jax.lax.scan(
            lambda state, token: step_decoder(tried, params, state, annotations, token),
            before,
            inputs,
        )
        return (after, whole), (last, steps), weights

    whole, steps, weights = both(params, batch.sources, SOURCE_LENGTHS, inputs)
    assert_close(whole, steps, DTYPE)
    if tried == CONFIG:  # known targets are read one step late
        logits, _ = apply(tried, params, *given(batch))
        inside = np.arange(TY)[:, None] < TARGET_LENGTHS
        assert_close(np.asarray(logits)[inside], np.asarray(whole[1])[inside], DTYPE)
    if attention == "none":
        assert weights is None
        return
    assert weights.shape == (TY, TX, B)
    np.testing.assert_allclose(np.asarray(weights).sum(1), 1, rtol=1e-12)
    past = np.arange(TX)[:, None] >= SOURCE_LENGTHS
    assert np.all(np.asarray(weights)[:, past] == 0)
    assert np.all(np.asarray(weights)[:, ~past] > 0)


def test_padding_reaches_neither_loss_nor_gradient(params, batch):
    """Whatever it is: NaN vectors, no token at all, and more of it."""
    (loss, (_, metrics)), gradient = loss_and_gradient(params, (), batch, jax.random.key(0))
    assert np.isfinite(loss)
    assert float(metrics["tokens"]) == TARGET_LENGTHS.sum()
    in_source = np.arange(TX)[:, None] < SOURCE_LENGTHS
    in_target = np.arange(TY)[:, None] < TARGET_LENGTHS
    other = batch._replace(
        sources=np.where(in_source, batch.sources, -5),
        targets=np.where(in_target, batch.targets, V_TARGET + 9),
    )

    def first_is_nan(table):
        return np.concatenate([np.full_like(table[:1], np.nan), table[1:]])

    nan = params._replace(  # the vector of token 0, which is read in padding only
        source_embedding=jax.tree.map(first_is_nan, params.source_embedding),
        target_embedding=jax.tree.map(first_is_nan, params.target_embedding),
    )
    same = loss_and_gradient(nan, (), other, jax.random.key(0))
    assert_close((same[0][0], same[1]), jax.tree.map(np.asarray, (loss, gradient)), DTYPE)
    assert not np.any(same[1].source_embedding.table[0])
    longer = batch._replace(
        sources=np.pad(batch.sources, ((0, 2), (0, 0))),
        targets=np.pad(batch.targets, ((0, 3), (0, 0))),
    )
    of_longer = np.asarray(log_probability(CONFIG, params, *given(longer)))
    np.testing.assert_allclose(-of_longer.sum() / B, loss, rtol=1e-12)
    assert not np.any(of_longer[TY:])


def test_a_row_of_a_batch_is_what_it_is_alone(params, batch):
    together = np.asarray(log_probability(CONFIG, params, *given(batch)))
    assert np.all(together[np.arange(TY)[:, None] >= TARGET_LENGTHS] == 0)
    row, (tx, ty) = 1, (SOURCE_LENGTHS[1], TARGET_LENGTHS[1])
    alone = log_probability(CONFIG, params, batch.sources[:tx, row], batch.targets[:ty, row])
    assert_close(alone, together[:ty, row], DTYPE)
    (loss, (_, metrics)), _ = loss_and_gradient(
        params, (), batch._replace(weights=np.array([1, 0, 1], np.float32)), jax.random.key(0)
    )
    np.testing.assert_allclose(loss, -together[:, [0, 2]].sum() / B, rtol=1e-12)
    np.testing.assert_allclose(metrics["cross_entropy"], metrics["nats"] / 5, rtol=1e-12)


def test_attention_weights_are_those_of_each_step_and_zero_past_both_lengths(params, batch):
    found = jax.jit(attention_weights, static_argnums=0)(CONFIG, params, *given(batch))
    _, weights = apply(CONFIG, params, *given(batch))
    inside = np.arange(TY)[:, None] < TARGET_LENGTHS
    expected = np.where(inside[..., None], np.moveaxis(np.asarray(weights), 1, -1), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(-1), inside, rtol=1e-12)


def test_an_empty_source_says_nothing(params, batch):
    lengths = np.array([0, 3, 1], np.int32)
    bridge = tuple(dense._replace(w=2 * np.asarray(dense.w)) for dense in params.bridge)
    (one, weights), (other, _) = (
        apply(CONFIG, of, batch.sources, batch.targets, lengths, TARGET_LENGTHS)
        for of in (params, params._replace(bridge=bridge))
    )
    same = np.isclose(one, other, rtol=1e-12).all((0, 2))
    np.testing.assert_array_equal(same, lengths == 0)
    np.testing.assert_array_equal(np.any(np.asarray(weights), (0, 1)), lengths > 0)


def test_translations_by_beam_are_never_below_greedy_ones(batch):
    """A beam of one is greedy search, but for what scores higher by ending elsewhere."""
    length, same, better = TY, 0, 0
    sources, of_one = batch.sources, {"length": length, "length_exponent": 0.7}
    for seed in range(6):
        params = drawn(CONFIG, seed)
        greedy = translate_greedily(CONFIG, params, sources, SOURCE_LENGTHS, length=length)
        tokens, lengths = (np.asarray(a) for a in greedy)
        narrow, wide = (
            jax.tree.map(
                lambda a: np.asarray(a)[..., 0],
                translate(CONFIG, params, sources, SOURCE_LENGTHS, beam_width=width, **of_one),
            )
            for width in (1, 4)
        )
        logits, _ = apply(CONFIG, params, sources, tokens, SOURCE_LENGTHS, lengths)
        inside = np.arange(length)[:, None] < lengths
        np.testing.assert_array_equal(np.asarray(logits).argmax(-1)[inside], tokens[inside])
        for row, size in enumerate(lengths):
            assert np.all(tokens[size:, row] == END)
            assert not np.any(tokens[: size - 1, row] == END)
            assert size == length or tokens[size - 1, row] == END
        of_each = [
            np.asarray(
                log_probability(CONFIG, params, sources, a.tokens, SOURCE_LENGTHS, a.lengths)
            ).sum(0)
            for a in (narrow, wide, narrow._replace(tokens=tokens, lengths=lengths))
        ]
        np.testing.assert_allclose(narrow.log_probabilities, of_each[0], rtol=1e-10)
        np.testing.assert_allclose(wide.log_probabilities, of_each[1], rtol=1e-10)
        scores = of_each[2] / lengths**0.7
        assert np.all(wide.scores >= narrow.scores - 1e-12)
        assert np.all(narrow.scores >= scores - 1e-12)
        equal = np.all(narrow.tokens == tokens, axis=0)
        assert np.all(equal | (narrow.scores > scores))
        before_an_end = np.arange(length)[:, None] < np.minimum(narrow.lengths, lengths) - 1
        np.testing.assert_array_equal(narrow.tokens[before_an_end], tokens[before_an_end])
        same += np.sum(equal)
        better += np.sum(wide.scores > narrow.scores + 1e-6)
    assert same > 0
    assert better > 0


def test_decoding_is_compiled_once_and_padding_reaches_no_translation(batch, monkeypatch):
    """Other values and lengths of one shape make no new program; NaN in padding changes nothing."""
    traced = []

    def counted(*arguments, **options):
        traced.append(None)
        return encode(*arguments, **options)

    monkeypatch.setattr(encoder_decoder, "encode", counted)
    length = TY + 2  # of no other test, so that nothing is compiled yet
    searches = partial(translate_greedily, length=length), partial(translate, length=length)
    in_source = np.arange(TX)[:, None] < SOURCE_LENGTHS
    for search in searches:
        traced.clear()
        for seed in (0, 1):
            params = drawn(CONFIG, seed)
            found = search(CONFIG, params, batch.sources, SOURCE_LENGTHS)
            table = np.asarray(params.source_embedding.table)
            nan = np.concatenate([np.full_like(table[:1], np.nan), table[1:]])
            same = search(
                CONFIG,
                params._replace(source_embedding=params.source_embedding._replace(table=nan)),
                np.where(in_source, batch.sources, -5),
                SOURCE_LENGTHS,
            )
            jax.tree.map(np.testing.assert_array_equal, found, same)
            search(CONFIG, params, batch.sources, SOURCE_LENGTHS[::-1].copy())
        assert len(traced) == 1


def test_dropout_is_in_the_mean_nothing(params, batch):
    deep = config(encoder_hidden_sizes=(3, 2), decoder_hidden_sizes=(4, 6), attention="none")
    shapes = jax.eval_shape(partial(init_encoder_decoder, config=deep), jax.random.key(0))
    draw = partial(draw_dropout_masks, jax.random.key(0), deep, shapes, 0.5, (TX, B), (TY, B))
    masks = jax.eval_shape(draw)
    assert jax.tree.map(jnp.shape, masks) == (
        (TX, B, 3), ((TX, B, 6),), (TY, B, 3), ((TY, B, 4),), (TY, B, 6)
    )  # fmt: skip
    shapes = jax.eval_shape(
        lambda: draw_dropout_masks(jax.random.key(0), CONFIG, params, 0.5, (TX, B), (TY, B))
    )
    ones = jax.tree.map(lambda mask: np.ones(mask.shape, mask.dtype), shapes)
    plain, _ = apply(CONFIG, params, *given(batch))
    same, _ = apply(CONFIG, params, *given(batch), ones)
    assert_close(same, np.asarray(plain), DTYPE)
    dropped = jax.jit(partial(encoder_decoder_loss, CONFIG, dropout=0.5))
    one, again, other = (dropped(params, (), batch, jax.random.key(seed))[0] for seed in (1, 1, 2))
    assert one == again != other


def test_scheduled_sampling_reads_the_truth_or_what_the_model_writes(params, batch):
    scheduled = jax.jit(jax.value_and_grad(partial(scheduled_sampling_loss, CONFIG), has_aux=True))
    key = jax.random.key(0)
    (plain, _), gradient = loss_and_gradient(params, (), batch, key)
    (true, _), same = scheduled(params, (), batch, key, truth_probability=jnp.float32(1))
    assert_close((true, same), jax.tree.map(np.asarray, (plain, gradient)), DTYPE)

    # A model that is sure of one token whatever it read: the inputs are this one, and no draw.
    sure = params._replace(head=params.head._replace(b=1e3 * np.eye(V_TARGET)[3]))
    own = batch._replace(targets=np.full_like(batch.targets, 3))
    (drawn, _), gradient = scheduled(sure, (), batch, key, truth_probability=jnp.float32(0))
    table = np.asarray(gradient.target_embedding.table)
    assert set(np.flatnonzero(table.any(-1))) == {BEGIN, 3}
    logits, _ = apply(CONFIG, sure, *given(own))
    predicted = np.asarray(logits) - np.logaddexp.reduce(np.asarray(logits), -1, keepdims=True)
    of_true = np.take_along_axis(predicted, batch.targets[..., None], -1)[..., 0]
    inside = np.arange(TY)[:, None] < TARGET_LENGTHS
    np.testing.assert_allclose(drawn, -of_true[inside].sum() / B, rtol=1e-12)


def test_narrow_dtypes_go_through_all_of_it(batch):
    """Loops refuse a carry that changes its dtype; to see that nothing need be computed."""
    for fields, expected in (
        ({"dtype": "float32", "compute_dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "bfloat16", "output_dtype": "float32"}, "float32"),
        ({"dtype": "bfloat16", "recurrence": "lru", "attention": "none"}, "bfloat16"),
    ):
        tried = config(**fields)
        params = jax.eval_shape(partial(init_encoder_decoder, config=tried), jax.random.key(0))
        logits, _ = jax.eval_shape(partial(apply_encoder_decoder, tried), params, *given(batch))
        assert logits.dtype == expected
        for search in (translate, translate_greedily):
            of_search = partial(search, tried, length=2)
            found = jax.eval_shape(of_search, params, batch.sources, SOURCE_LENGTHS)
            assert found[0].dtype == jnp.int32
        loss = partial(scheduled_sampling_loss, tried, truth_probability=0.5)
        assert jax.eval_shape(loss, params, (), batch, jax.random.key(0))[0].dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_short_strings_of_digits_are_reversed(attention):
    rng = np.random.default_rng(0)
    digits, steps, rows = 4, 4, 64
    shown = rng.integers(3, 3 + digits, (200, steps, rows), np.int32)
    lengths = rng.integers(1, steps + 1, (200, rows))
    targets = np.full((200, steps + 1, rows), END, np.int32)
    for index, row in np.ndindex(200, rows):
        size = lengths[index, row]
        targets[index, :size, row] = shown[index, :size, row][::-1]

    def batch_of(index):
        return TranslationBatch(
            shown[index], lengths[index], targets[index], lengths[index] + 1,
            np.ones(rows, np.float32),
        )  # fmt: skip

    tried = config(
        source_vocabulary_size=3 + digits, target_vocabulary_size=3 + digits, recurrence="gru",
        encoder_hidden_sizes=(16,), decoder_hidden_sizes=(32,), embedding_size=8,
        attention=attention, attention_size=16, dtype="float32",
    )  # fmt: skip
    total = 1200
    optimizer = build_optimizer(OptimizerConfig(learning_rate=0.01, total_steps=total))
    step = make_train_step(partial(encoder_decoder_loss, tried), optimizer)
    state = initial_train_state(init(jax.random.key(0), tried), optimizer, (), jax.random.key(1))
    for index in range(total):
        state, _ = step(state, batch_of(index % 199))
    held_out = batch_of(199)
    found, _ = translate_greedily(
        tried, state.params, held_out.sources, held_out.source_lengths, length=steps + 1
    )
    assert np.mean(np.all(np.asarray(found) == held_out.targets, axis=0)) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("recurrence", REGISTRY)
def test_every_recurrence_with_a_carry_of_plain_arrays_serves(recurrence, batch):
    if not reads_vectors(recurrence) or recurrence in NOT_BRIDGED:
        with pytest.raises(ValueError, match=f"recurrence: got {recurrence!r}, wh"):
            config(recurrence=recurrence)
        return
    tried = config(recurrence=recurrence, encoder_hidden_sizes=(4,), decoder_hidden_sizes=(4, 4))
    params = init(jax.random.key(0), tried)
    found = translate(tried, params, batch.sources, SOURCE_LENGTHS, length=TY, beam_width=2)
    tokens, lengths = np.asarray(found.tokens)[..., 0], np.asarray(found.lengths)[:, 0]
    of_each = log_probability(tried, params, batch.sources, tokens, SOURCE_LENGTHS, lengths)
    total = np.asarray(of_each).sum(0)
    np.testing.assert_allclose(np.asarray(found.log_probabilities)[:, 0], total, rtol=1e-10)
    loss = partial(encoder_decoder_loss, tried, dropout=0.5)
    assert jax.eval_shape(loss, params, (), batch, jax.random.key(0))[0].shape == ()


def test_bad_input_is_refused_by_name(params, batch):
    for fields, message in (
        ({"source_vocabulary_size": 0}, "source_vocabulary_size: got 0"),
        ({"begin_id": V_TARGET}, "begin_id: got 7, expected 0 … 6"),
        ({"end_id": -1}, "end_id: got -1, expected 0 … 6"),
        ({"recurrence": "lstn"}, "recurrence: got 'lstn', expected one of elman"),
        ({"recurrence": "conv_lstm_1d"}, "which reads images"),
        ({"recurrence": "slstm"}, "recurrence: got 'slstm', whose carry no dense layer can make"),
        ({"attention": "sum"}, "attention: got 'sum', expected one of"),
        ({"encoder_hidden_sizes": ()}, "encoder_hidden_sizes: got"),
        ({"decoder_hidden_sizes": (4, 0)}, r"decoder_hidden_sizes\[1\]: got 0"),
        ({"dtype": "int32"}, "dtype: got 'int32'"),
    ):
        with pytest.raises(ValueError, match=message):
            config(**fields)
    key, sources, targets = jax.random.key(0), batch.sources, batch.targets
    none = replace(CONFIG, attention="none")
    for call, message in (
        (
            lambda: init_encoder_decoder(key, config(attention="dot", decoder_hidden_sizes=(5,))),
            "attention: got 'dot' of the decoder's outputs of size 5 and the encoder's of size 6",
        ),
        (
            lambda: apply_encoder_decoder(CONFIG, params, sources + V_SOURCE, targets),
            "sources: got values from .* expected 0 … 5",
        ),
        (
            lambda: apply_encoder_decoder(CONFIG, params, sources, targets + V_TARGET),
            "targets: got values from .* expected 0 … 6",
        ),
        (
            lambda: apply_encoder_decoder(CONFIG, params, sources, targets[:, :2]),
            r"targets: got shape \(4, 2\), expected \(Ty, \*B\) with \(3,\)",
        ),
        (
            lambda: apply_encoder_decoder(CONFIG, params, sources[:0], targets),
            r"sources: got shape \(0, 3\), expected \(T, \*B\) with T of at least 1",
        ),
        (
            lambda: translate(CONFIG, params, sources, SOURCE_LENGTHS + 1, length=2),
            "lengths: got 6, expected values within 0 … 5",
        ),
        (
            lambda: translate(CONFIG, params, sources, SOURCE_LENGTHS[:2], length=2),
            r"lengths: got shape \(2,\), expected \(3,\)",
        ),
        (
            lambda: translate(CONFIG, params, sources[:, 0], length=2),
            r"sources: got shape \(5,\), expected \(Tx, N\)",
        ),
        (lambda: translate(CONFIG, params, sources, length=2, beam_width=0), "beam_width: got 0"),
        (lambda: translate_greedily(CONFIG, params, sources, length=0), "length: got 0"),
        (
            lambda: attention_weights(none, params, sources, targets),
            "attention: got 'none', expected one of additive",
        ),
        (
            lambda: encoder_decoder_loss(CONFIG, params, (), batch, key, dropout=1.0),
            "dropout: got 1.0, expected 0 ≤ dropout < 1",
        ),
        (
            lambda: scheduled_sampling_loss(CONFIG, params, (), batch, key, truth_probability=2.0),
            "truth_probability: got 2.0, expected 0 … 1",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    state, annotations = jax.eval_shape(partial(encode, CONFIG), params, sources)
    token = np.zeros(B, np.int32)
    with pytest.raises(TypeError, match="annotations: got none, expected those of"):
        jax.eval_shape(partial(step_decoder, CONFIG), params, state, None, token)
    with pytest.raises(TypeError, match="annotations: got some, expected none of"):
        jax.eval_shape(partial(step_decoder, none), params, state, annotations, token)
    with pytest.raises(TypeError, match="sources: got dtype float32"):
        translate_greedily(CONFIG, params, np.ones((TX, B), np.float32), length=2)
    with jax.enable_x64(False), pytest.raises(ValueError, match="float64 while jax_enable_x64"):
        init_encoder_decoder(key, CONFIG)
