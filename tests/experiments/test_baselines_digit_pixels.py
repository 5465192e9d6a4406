"""What is not a neural network and has no sequence: digits by their pixels."""

import numpy as np
import pytest

from experiments.baselines.digit_pixels import logistic_regression, nearest_neighbours

IMAGES = np.array([[0.0, 0.0], [0.1, 0.0], [1.0, 1.0], [1.0, 0.9]])
LABELS = np.array([0, 0, 1, 1])


@pytest.mark.parametrize("fit", [nearest_neighbours, logistic_regression])
def test_what_is_near_is_alike_in_whatever_order_pixels_stand(fit):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 20))
    labels = rng.permutation(np.arange(60) % 3)
    images = centres[labels] + 0.3 * rng.normal(size=(60, 20))
    order = rng.permutation(20)
    parts = images[:40], labels[:40], images[40:50], labels[40:50]
    model = fit(*parts)
    assert (model.predict(images[50:]) == labels[50:]).all()
    permuted = fit(parts[0][:, order], parts[1], parts[2][:, order], parts[3])
    assert (permuted.predict(images[50:][:, order]) == labels[50:]).all()


def test_validation_chooses_the_number_of_neighbours():
    # The nearest neighbour of 0.3 is of the other class, the two after it together outweigh it.
    images = np.array([[0.0], [0.1], [0.45], [9.0]])
    labels = np.array([0, 0, 1, 1])
    model = nearest_neighbours(images, labels, np.array([[0.3]]), np.array([0]))
    assert model.chosen == 3
    assert nearest_neighbours(images, labels, np.array([[0.44]]), np.array([1])).chosen == 1


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match=r"neighbours: got \(5,\), expected one of at most 4"):
        nearest_neighbours(IMAGES, LABELS, IMAGES, LABELS, neighbours=(5,))
    with pytest.raises(ValueError, match="labels: got class 0 only, expected several"):
        logistic_regression(IMAGES, 0 * LABELS, IMAGES, LABELS)
