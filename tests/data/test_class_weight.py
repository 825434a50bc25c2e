"""Class weights: row weights by class, with scikit-learn's "balanced"; for both backends."""

import numpy as np
import pytest
from cases import own_mse

import microbp as bp
from microbp.data.class_weight import classes_of, weighted
from microbp.data.rows import Rows

RNG = np.random.default_rng(4)
X = RNG.normal(size=(60, 3))
LABELS = RNG.choice([0, 1, 3], 60, p=[0.7, 0.2, 0.1])  # class 2 does not occur
SIGNS = np.where(LABELS > 0, 1.0, -1.0)
BY_CLASS = np.array([0.5, 3, 1, 2])
WEIGHT = RNG.uniform(0.5, 2, 60)

# loss: (outputs, targets, dict, array, weights of the rows)
TABLE = {
    "cross_entropy": (4, LABELS, {0: 0.5, 1: 3, 3: 2}, BY_CLASS, BY_CLASS[LABELS]),
    "bce": (1, SIGNS > 0, {1: 3}, [1, 3], np.where(SIGNS > 0, 3, 1)),
    "hinge": (1, SIGNS[:, None], {-1: 0.5, 1: 0}, [0.5, 0], np.where(SIGNS > 0, 0, 0.5)),
}


def make(backend, loss):
    return bp.Trainer(bp.mlp([3, 4, TABLE[loss][0] if loss in TABLE else 2], dtype="float64", seed=1, backend=backend), loss)


@pytest.mark.parametrize("loss", TABLE)
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_class_weights_multiply_row_weights(backend, loss, weight):
    _, y, by_label, by_class, rows = TABLE[loss]
    product = rows if weight is None else rows * weight
    for given in (by_label, by_class):
        t, by_hand = make(backend, loss), make(backend, loss)
        history = t.fit(X, y, epochs=2, batch_size=16, sample_weight=weight, class_weight=given)
        assert history["loss"] == by_hand.fit(X, y, epochs=2, batch_size=16, sample_weight=product)["loss"]
        np.testing.assert_array_equal(t.net.params, by_hand.net.params)
        t, by_hand = make(backend, loss), make(backend, loss)
        for _ in zip(range(2), t.epochs(X, y, weight, class_weight=given), by_hand.epochs(X, y, product)):
            pass
        np.testing.assert_array_equal(t.net.params, by_hand.net.params)


@pytest.mark.parametrize("loss", TABLE)
def test_balanced_weights_equal_scikit_learn(loss):
    utils = pytest.importorskip("sklearn.utils.class_weight", reason="scikit-learn is not installed")
    y = np.asarray(TABLE[loss][1]).reshape(-1)
    classes = classes_of(make("compiled", loss).losses[0], TABLE[loss][0])
    rows = weighted(Rows([X], [y], None, 60), np.arange(60), "balanced", classes)
    np.testing.assert_allclose(rows.weight, utils.compute_sample_weight("balanced", y), rtol=1e-15)


@pytest.mark.parametrize("loss", TABLE)
def test_balanced_weights_count_rows_by_their_weights(loss):
    y, weight = np.asarray(TABLE[loss][1]).reshape(-1), np.arange(60) % 5 / 8
    rows = weighted(Rows([X], [y], weight, 60), np.arange(60), "balanced", classes_of(make("compiled", loss).losses[0], TABLE[loss][0]))
    sums = [rows.weight[y == label].sum() for label in np.unique(y)]
    np.testing.assert_allclose(sums, weight.sum() / len(sums))


def test_balanced_counts_training_rows_and_does_not_weight_validation(backend):
    held_out, weight = np.arange(60) % 5 == 0, np.where(np.arange(60) % 7 == 0, 0.0, 1.0)
    trains = ~held_out & (weight > 0)
    counts = np.bincount(LABELS[trains], minlength=4)
    balanced = trains.sum() / (3 * np.maximum(counts, 1))
    validation = (X[held_out], LABELS[held_out])
    t, by_hand = make(backend, "cross_entropy"), make(backend, "cross_entropy")
    rest = X[~held_out], LABELS[~held_out]
    history = t.fit(*rest, epochs=2, sample_weight=weight[~held_out], class_weight="balanced", validation=validation)
    expected = by_hand.fit(*rest, epochs=2, sample_weight=(weight * balanced[LABELS])[~held_out], validation=validation)
    assert history["loss"] == pytest.approx(expected["loss"], rel=1e-12)
    assert history["val_loss"][-1] == t.evaluate(*validation)
    fraction = make(backend, "cross_entropy").fit(X, LABELS, epochs=1, class_weight={0: 0, 1: 9}, validation=0.3)
    assert np.isfinite(fraction["val_loss"][0])


@pytest.mark.parametrize(
    ("loss", "y", "given", "words"),
    [
        ("cross_entropy", LABELS, "balance", '"balanced"'),
        ("cross_entropy", LABELS, {4: 1}, "4 is not one of the classes 0, 1, 2, 3"),
        ("cross_entropy", LABELS, {0: -1}, "at least 0"),
        ("cross_entropy", LABELS, {0: np.nan}, "finite"),
        ("cross_entropy", LABELS, [1, 2, 3], "classes 0, 1, 2, 3"),
        ("cross_entropy", LABELS, {0: 0, 1: 0, 3: 0}, "every training row a weight of 0"),
        ("cross_entropy", np.eye(4)[LABELS], "balanced", "one label per row"),
        ("cross_entropy", LABELS + 1, "balanced", r"row \d+ of y is 4, not"),
        ("bce", np.full(60, 0.5), "balanced", "row 0 of y is 0.5, not one of the classes 0, 1"),
        ("hinge", SIGNS, {0: 1}, "classes -1, 1"),
        ("mse", RNG.normal(size=(60, 2)), "balanced", "class_weight needs a classification loss"),
        (own_mse, RNG.normal(size=(60, 2)), "balanced", "class_weight needs a classification loss"),
    ],
)
def test_invalid_class_weights_are_refused(backend, loss, y, given, words):
    t = make(backend, loss)
    before = t.net.params.copy()
    for call in (lambda: t.fit(X, y, epochs=1, class_weight=given), lambda: t.epochs(X, y, class_weight=given)):
        with pytest.raises(ValueError, match=words):
            call()
    np.testing.assert_array_equal(t.net.params, before)
    assert t.steps == 0


def test_weights_whose_product_is_too_large_are_refused(backend):
    t = make(backend, "cross_entropy")
    with pytest.raises(ValueError, match="class_weight times sample_weight is too large for a float64"):
        t.fit(X, LABELS, epochs=1, class_weight={1: 1e200}, sample_weight=np.full(60, 1e200))
    assert t.steps == 0
