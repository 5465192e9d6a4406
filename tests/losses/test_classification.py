import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.losses.classification import classification_loss

LOGITS = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
LABELS = np.array([0, 2, 1, 99])
WEIGHTS = np.array([1.0, 1.0, 1.0, 0.0])
classify = jax.jit(classification_loss)


def test_each_example_weighs_the_same_and_a_missing_one_nothing():
    loss, metrics = classify(LOGITS, LABELS, WEIGHTS)
    log_p = np.asarray(jax.nn.log_softmax(LOGITS))
    nats = -log_p[np.arange(3), LABELS[:3]]
    np.testing.assert_allclose(loss, nats.sum() / 4, rtol=1e-12)
    np.testing.assert_allclose(metrics["cross_entropy"], nats.mean(), rtol=1e-12)
    right = log_p[:3].argmax(-1) == LABELS[:3]
    assert (float(metrics["correct"]), float(metrics["examples"])) == (right.sum(), 3)
    np.testing.assert_allclose(metrics["accuracy"], right.mean(), rtol=1e-12)
    _, of_none = classify(LOGITS, LABELS, np.zeros(4))
    assert of_none["accuracy"] == of_none["cross_entropy"] == 0


def test_a_label_that_counts_is_one_of_the_classes():
    with pytest.raises(ValueError, match=r"targets: got values from 0 to 99"):
        classification_loss(LOGITS, LABELS, np.ones(4))
