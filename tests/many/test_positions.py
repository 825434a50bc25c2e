"""Cross-validation and searches of networks with several positions, and of sequences of different length."""

import numpy as np
import pytest

import microbp as bp

RANDOM = np.random.default_rng(0)
X, LENGTHS = RANDOM.normal(size=(41, 5, 2)), RANDOM.integers(1, 6, 41)
TAGS, TOTAL = (X[:, :, 0] > 0).astype(int), X.sum(axis=(1, 2))
BEYOND = np.arange(5) >= LENGTHS[:, None]


def new(seed=0, backend=None):
    x = bp.Sequence(5, 2)
    h = bp.Recurrent(4)(x)
    net = bp.Network(x, [bp.Dense(2)(h), bp.Dense(1)(bp.Last()(h))], seed=int(seed), backend=backend)
    return bp.Trainer(net, loss=["cross_entropy", "mse"], optimizer=bp.Adam(lr=0.01))


def padded(value):
    """X with this value where there is no position."""
    return np.where(BEYOND[:, :, None], value, X)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["all", "lengths"])
def test_folds_measure_and_predict_the_positions_of_their_rows(lengths, backend):
    rows = X if lengths is None else padded(np.nan)
    found = bp.cross_validate(lambda fold: new(fold, backend), rows, [TAGS, TOTAL], cv=3, epochs=2, lengths=lengths)
    for i, (train, test) in enumerate(found.folds):
        own = {} if lengths is None else {"lengths": lengths[test]}
        alone = new(i, backend)
        alone.fit(rows[train], [TAGS[train], TOTAL[train]], epochs=2, lengths=None if lengths is None else lengths[train])
        assert alone.evaluate(rows[test], [TAGS[test], TOTAL[test]], **own) == found.scores["loss"][i]
        for predicted, expected in zip(found.predictions, alone.predict(rows[test], **own)):
            assert np.array_equal(predicted[test], expected)


@pytest.mark.parametrize("validation", ["fraction", "rows", "others"])
def test_searches_measure_the_positions_that_are_there(validation):
    held = {"fraction": 0.3, "rows": np.arange(12), "others": (padded(np.nan), [TAGS, TOTAL], None, LENGTHS)}[validation]
    arguments = {"lengths": LENGTHS, "epochs": 2, "validation": held}
    found = bp.sweep(new, [0, 1], padded(np.nan), [TAGS, TOTAL], **arguments)
    for score, trainer in zip(found.scores, found.trainers):
        assert score == trainer.history["val_loss"][-1]


def test_carried_states_are_refused():
    with pytest.raises(ValueError, match="cross_validate: carry_state needs all rows in their order"):
        bp.cross_validate(new, X, [TAGS, TOTAL], epochs=1, carry_state=True)
    with pytest.raises(ValueError, match="sweep: carry_state is not one of its arguments"):
        bp.sweep(new, [0, 1], X, [TAGS, TOTAL], epochs=1, carry_state=True, validation=(X, [TAGS, TOTAL]))
