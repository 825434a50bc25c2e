"""bp.sweep and bp.train_best: all values are measured on the same rows, each trained as alone; failures do not win."""

import numpy as np
import pytest

import microbp as bp

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 4))
NUMBERS, LABELS = X[:, :2] * X[:, 1:3], (X[:, 0] > X[:, 1]).astype(int)
RATES = (1e-4, 1e-2, 1e-1)


def numbers(lr, seed=0):
    return bp.Trainer(bp.mlp([4, 9, 2], seed=seed), "mse", bp.SGD(lr=lr))


def labels(units):
    return bp.Trainer(bp.mlp([4, units, 2], seed=0), "cross_entropy", bp.Adam(lr=0.02))


def of_seed(seed):
    return numbers(0.05, seed)


VALIDATIONS = [0.25, np.array([3, 1, 59, 30]), (X[:20], NUMBERS[:20]), (X[:20], NUMBERS[:20], np.arange(20.0))]


@pytest.mark.parametrize("fit", [{}, {"sample_weight": np.arange(60.0) % 5}, {"patience": 2}, {"metrics": "mae", "monitor": "mae"}])
@pytest.mark.parametrize("validation", VALIDATIONS, ids=["fraction", "index", "rows", "weights"])
def test_each_value_is_trained_as_alone_and_scored_on_the_validation_rows(validation, fit):
    found = bp.sweep(numbers, RATES, X, NUMBERS, epochs=5, validation=validation, **fit)
    assert (found.name, found.values, found.rises) == ("lr", RATES, False)
    for value, trainer, score, history in zip(RATES, found.trainers, found.scores, found.histories):
        alone = numbers(value)
        own = {name: argument for name, argument in fit.items() if name != "monitor"}
        alone.fit(X, NUMBERS, epochs=5, progress=False, validation=validation, **own)
        assert alone.net.params.tobytes() == trainer.net.params.tobytes()
        values = alone.history[found.monitor]
        assert score == (min(values) if "patience" in fit else values[-1]) and history is trainer.history
    assert found.best == RATES[int(np.argmin(found.scores))] and found.best_trainer in found.trainers


def test_a_metric_of_which_higher_is_better():
    found = bp.sweep(labels, [1, 2, 16], X, LABELS, epochs=20, metrics=["accuracy"], monitor="val_accuracy", patience=5)
    assert found.rises and found.scores.max() == found.scores[found.values.index(found.best)] > 0.6
    other = bp.sweep(labels, [1, 2, 16], X, LABELS, epochs=20, metrics=["accuracy"], monitor="accuracy", mode="min")
    assert other.scores[other.values.index(other.best)] == other.scores.min()


def test_trainings_that_fail_do_not_win():
    found = bp.sweep(numbers, [1e-2, 1e30, 1e-3], X, NUMBERS, epochs=5)
    assert np.isnan(found.scores).tolist() == [False, True, False] and found.best in (1e-2, 1e-3)
    assert repr(found).splitlines()[2].endswith("nan  failed") and "the best" in repr(found)
    with pytest.raises(FloatingPointError, match=r"lr=1e\+30: .*; 1 other failed too: 1e\+31"):
        bp.sweep(numbers, [1e30, 1e31], X, NUMBERS, epochs=5)


def test_a_fraction_holds_out_the_same_rows_for_all():
    """Although each seed alone would hold out others."""
    found = bp.sweep(of_seed, range(3), X, NUMBERS, epochs=3, validation=0.3)
    alone = [of_seed(seed) for seed in range(3)]
    for trainer in alone:
        trainer.fit(X, NUMBERS, epochs=3, validation=0.3, progress=False)
    same = [a.net.params.tobytes() == b.net.params.tobytes() for a, b in zip(alone, found.trainers)]
    assert same == [True, False, False]
    rows = RANDOM.permutation(60)[:20]
    part, copied = (
        bp.sweep(of_seed, range(3), *data, epochs=3, **own)
        for data, own in (((X, NUMBERS), {"rows": rows}), ((X[rows], NUMBERS[rows]), {}))
    )
    assert np.array_equal(part.scores, copied.scores)


def test_train_best_is_the_best_of_a_sweep_over_seeds():
    best = bp.train_best(of_seed, X, NUMBERS, n_init=5, epochs=4, validation=0.3)
    found = bp.sweep(of_seed, range(5), X, NUMBERS, epochs=4, validation=0.3)
    assert best.net.seed == found.best and best.net.params.tobytes() == found.best_trainer.net.params.tobytes()
    assert len(set(found.scores)) == 5 and best.history["val_loss"][-1] == found.scores.min()


def test_the_name_of_the_setting():
    assert bp.sweep(lambda units: labels(units), [2], X, LABELS, epochs=1).name == "units"
    assert bp.sweep(lambda *settings: labels(*settings), [2], X, LABELS, epochs=1).name == "settings"


MISTAKES = {
    "no values": ((numbers, [], X, NUMBERS), {}, ValueError, "values is empty"),
    "no function": ((numbers(0.1), [1], X, NUMBERS), {}, TypeError, "make_trainer must be a function that returns a bp.Trainer"),
    "no trainer": ((lambda lr: None, [1], X, NUMBERS), {}, TypeError, "make_trainer must return a bp.Trainer, not None"),
    "no validation": ((numbers, [1], X, NUMBERS), {"validation": None}, ValueError, "validation is None, but the comparison needs rows"),
    "fraction": ((numbers, [1], X, NUMBERS), {"validation": 1.5}, ValueError, "validation must be .* a fraction between 0 and 1, not 1.5"),
    "all rows": ((numbers, [1], X, NUMBERS), {"validation": np.arange(60)}, ValueError, "validation contains all rows"),
    "index": ((numbers, [1], X, NUMBERS), {"validation": np.array([60])}, ValueError, "fit: validation: row indices must be from 0 to 59"),
    "monitor": ((numbers, [1], X, NUMBERS), {"monitor": "mae"}, ValueError, "sweep: the comparison monitors 'mae', which is not a metric"),
    "training": ((numbers, [1], X, NUMBERS), {"monitor": "loss"}, ValueError, "sweep: 'loss' is of the training rows, .*'val_loss'"),
    "mode": ((numbers, [1], X, NUMBERS), {"mode": "up"}, ValueError, "unknown mode 'up'"),
    "argument": ((numbers, [1], X, NUMBERS), {"batchsize": 1}, TypeError, "sweep: fit has no argument 'batchsize'"),
    "checkpoint": ((numbers, [1], X, NUMBERS), {"checkpoint": "a"}, ValueError, "sweep: checkpoint names one file"),
    "executor": ((numbers, [1], X, NUMBERS), {"executor": 2}, TypeError, "executor must be a concurrent.futures.Executor"),
    "shape": ((numbers, [1], X[:, 1:], NUMBERS), {}, ValueError, "X has shape"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_refused(name):
    arguments, options, error, text = MISTAKES[name]
    with pytest.raises(error, match=text):
        bp.sweep(*arguments, epochs=1, **options)


def test_losses_of_outputs_are_compared_on_the_validation_rows():
    def new(seed):
        x = bp.Input(4)
        return bp.Trainer(bp.Network(x, [bp.Dense(2)(x), bp.Dense(1)(x)], seed=seed), ["mse", "mae"])

    y = [NUMBERS, X[:, :1]]
    found = bp.sweep(new, [0, 1], X, y, epochs=2, validation=0.5, monitor="val_loss_0")
    assert found.scores.tolist() == [history["val_loss_0"][-1] for history in found.histories]
    with pytest.raises(ValueError, match="train_best: 'loss_0' is of the training rows, .*'val_loss_0'"):
        bp.train_best(new, X, y, epochs=1, monitor="loss_0")


def test_train_best_speaks_of_itself():
    with pytest.raises(ValueError, match="train_best: validation is None, but the comparison needs rows"):
        bp.train_best(of_seed, X, NUMBERS, epochs=1, validation=None)
    with pytest.raises(TypeError, match="train_best: fit has no argument 'batchsize'"):
        bp.train_best(of_seed, X, NUMBERS, epochs=1, batchsize=1)


@pytest.mark.parametrize("n_init", [0, 1.5, "8"])
def test_train_best_needs_a_number_of_starts(n_init):
    with pytest.raises((TypeError, ValueError), match="n_init must be"):
        bp.train_best(of_seed, X, NUMBERS, n_init=n_init, epochs=1)


def test_an_array_of_validation_rows_with_a_stream_is_refused():
    with pytest.raises(ValueError, match="a stream cannot be split"):
        numbers(0.1).fit([(X, NUMBERS)], epochs=1, validation=np.array([1]))
