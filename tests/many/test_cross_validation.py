"""bp.cross_validate: folds that partition the rows, trainings as alone, scores and predictions of rows that were not trained on."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import own_mse

import microbp as bp

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(61, 4))
NUMBERS, LABELS = X[:, :2] * X[:, 1:3], (X[:, 0] > X[:, 1]).astype(int) + (X[:, 2] > 1)
SIGNS = np.where(X[:, 0] > 0.3, 1, -1)


def new(loss="mse", outputs=2, **options):
    return lambda fold: bp.Trainer(bp.mlp([4, 9, outputs], seed=fold, **options), loss)


def same(a, b):
    return a.net.params.tobytes() == b.net.params.tobytes()


CASES = {
    "numbers": (new(), NUMBERS, {"metrics": ["rmse", "r2"]}),
    "labels": (new("cross_entropy", 3), LABELS, {"metrics": ["accuracy", "auc"], "class_weight": "balanced"}),
    "signs": (new("hinge", 1), SIGNS, {"metrics": "accuracy"}),
    "weights": (new(), NUMBERS, {"sample_weight": np.arange(61.0) % 7}),
    "early stopping": (new(), NUMBERS, {"validation": 0.2, "patience": 1, "metrics": "mae"}),
    "own loss": (new(own_mse), NUMBERS, {}),
    "reference": (new(backend="reference"), NUMBERS, {}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor(3)], ids=["default", "threads"])
def test_each_fold_is_trained_as_alone_and_measured_on_its_rows(executor, name):
    make, y, fit = CASES[name]
    found = bp.cross_validate(make, X, y, cv=3, epochs=3, executor=executor, **fit)
    weight = fit.get("sample_weight")
    for i, (train, test) in enumerate(found.folds):
        alone = make(i)
        own = fit | ({} if weight is None else {"sample_weight": weight[train]})
        alone.fit(X[train], y[train], epochs=3, progress=False, **own)
        assert same(alone, found.trainers[i])
        assert alone.evaluate(X[test], y[test], None if weight is None else weight[test]) == found.scores["loss"][i]
        assert np.array_equal(found.predictions[test], alone.predict(X[test]))
        if name == "labels":
            assert found.scores["accuracy"][i] == bp.accuracy(y[test], alone.predict(X[test]))
        if name == "numbers":
            assert found.scores["rmse"][i] == bp.rmse(y[test], alone.predict(X[test]))
    assert list(found.scores) == ["loss", *([fit["metrics"]] if isinstance(fit.get("metrics"), str) else fit.get("metrics", []))]
    assert found.mean["loss"] == found.scores["loss"].mean() and found.std["loss"] == np.std(found.scores["loss"], ddof=1)
    assert [net is t.net for net, t in zip(found.ensemble, found.trainers)] == [True] * 3
    assert repr(found).startswith("CrossValidation: 3 folds\nloss ")


@pytest.mark.parametrize("cv", [2, 5, 61, np.int64(7)])
@pytest.mark.parametrize("name", ["numbers", "labels", "signs"])
def test_folds_partition_the_rows_and_stratify_labels(name, cv):
    make, y, _ = CASES[name]
    found = bp.cross_validate(make, X, y, cv=cv, epochs=0)
    assert np.array_equal(np.sort(np.concatenate([test for _, test in found.folds])), np.arange(61))
    for train, test in found.folds:
        assert np.array_equal(np.sort(np.r_[train, test]), np.arange(61))
    groups = [np.ones(61, bool)] if name == "numbers" else [y == label for label in np.unique(y)]
    for group in groups:
        counts = [int(group[test].sum()) for _, test in found.folds]
        assert max(counts) - min(counts) <= 1
    sizes = [len(test) for _, test in found.folds]
    assert max(sizes) - min(sizes) <= 1


def test_the_seed_determines_the_folds():
    folds = [bp.cross_validate(new(), X, NUMBERS, cv=3, epochs=0, seed=seed).folds for seed in (0, 0, 1)]
    assert all(np.array_equal(a, b) for a, b in zip(folds[0][0], folds[1][0]))
    assert not np.array_equal(folds[0][0][1], folds[2][0][1])


def test_folds_of_the_caller_rows_without_test_and_rows_of_several_folds():
    pairs = [([0, 1, 2, 3], [4, 5]), (np.arange(6, 61), np.array([5, 0]))]
    found = bp.cross_validate(new(), X, NUMBERS, cv=iter(pairs), epochs=2)
    first, second = (trainer.predict(X) for trainer in found.trainers)
    assert np.isnan(found.predictions[6:]).all() and np.isnan(found.predictions[1:4]).all()
    assert np.array_equal(found.predictions[4], first[4]) and np.array_equal(found.predictions[0], second[0])
    assert np.allclose(found.predictions[5], (first[5] + second[5]) / 2, atol=1e-6)


def test_splitters_of_scikit_learn():
    model_selection = pytest.importorskip("sklearn.model_selection", reason="scikit-learn is not installed")
    groups = np.arange(61) // 5
    found = bp.cross_validate(new(), X, NUMBERS, cv=model_selection.GroupKFold(3).split(X, groups=groups), epochs=1)
    for train, test in found.folds:
        assert not set(groups[train]) & set(groups[test])


def test_a_trainer_is_copied_for_each_fold():
    trainer = new()(0)
    before = trainer.net.params.copy()
    found = bp.cross_validate(trainer, X, NUMBERS, cv=3, epochs=2)
    assert np.array_equal(trainer.net.params, before) and trainer.steps == 0
    made = bp.cross_validate(lambda fold: new()(0), X, NUMBERS, cv=3, epochs=2)
    assert all(map(same, found.trainers, made.trainers))


def test_validation_rows_that_no_fold_tests():
    folds, held = [(np.arange(40), np.arange(40, 50)), (np.arange(10, 50), np.arange(10))], np.arange(50, 61)
    found = bp.cross_validate(new(), X, NUMBERS, cv=folds, epochs=4, patience=1, validation=held)
    other = bp.cross_validate(new(), X, NUMBERS, cv=folds, epochs=4, patience=1, validation=(X[held], NUMBERS[held]))
    assert all(map(same, found.trainers, other.trainers)) and "val_loss" in found.trainers[0].history


def test_several_inputs_and_outputs():
    x, z = bp.Input(4), bp.Input(3)
    h = bp.Dense(5, "tanh")(bp.concat([x, z]))
    trainer = bp.Trainer(bp.Network([x, z], [bp.Dense(2)(h), bp.Dense(3)(h)], seed=0), ["mse", "cross_entropy"])
    found = bp.cross_validate(trainer, [X, X[:, :3]], [NUMBERS, LABELS], cv=4, epochs=2)
    assert set(found.scores) == {"loss", *(f"loss_{output.name}" for output in trainer.net.outputs)}
    assert [one.shape for one in found.predictions] == [(61, 2), (61, 3)] and not np.isnan(found.predictions[1]).any()


def trained():
    trainer = new()(0)
    trainer.fit(X, NUMBERS, epochs=1, progress=False)
    return trainer


ONE = new()(0)
MISTAKES = {
    "one fold": ((new(), X, NUMBERS), {"cv": 1}, ValueError, "cv must be at least 2, not 1"),
    "more folds than rows": ((new(), X, NUMBERS), {"cv": 62}, ValueError, "cv=62 needs at least 62 rows, but X has 61"),
    "no folds": ((new(), X, NUMBERS), {"cv": []}, ValueError, "cv contains no fold"),
    "no number": ((new(), X, NUMBERS), {"cv": 2.5}, TypeError, "cv must be a number of folds, or pairs .*not 2.5"),
    "no pair": ((new(), X, NUMBERS), {"cv": [[1, 2, 3]]}, TypeError, r"cv\[0\] must be a pair"),
    "wrong rows": ((new(), X, NUMBERS), {"cv": [([0], [61])]}, ValueError, r"test rows of cv\[0\] must be .* from 0 to 60"),
    "no rows": ((new(), X, NUMBERS), {"cv": [([], [1])]}, ValueError, r"training rows of cv\[0\] must be"),
    "leak": ((new(), X, NUMBERS), {"cv": [([0, 1], [2]), ([3, 4], [5, 4])]}, ValueError, r"cv\[1\] tests row 4, on which it trains too"),
    "mask": ((new(), X, NUMBERS), {"cv": [(np.arange(61) > 9, [1])]}, ValueError, r"training rows of cv\[0\] are a mask, .*flatnonzero"),
    "tested": ((new(), X, NUMBERS), {"validation": np.array([5])}, ValueError, "validation contains row 5, which fold . tests; pass a fr"),
    "tested X": ((new(), X, NUMBERS), {"validation": (X, NUMBERS)}, ValueError, "validation contains rows of X, which the folds test"),
    "part of X": ((new(), X, NUMBERS), {"validation": (X[40:], NUMBERS[40:])}, ValueError, "validation contains rows of X, which the f"),
    "rows": ((new(), X, NUMBERS), {"rows": [1]}, ValueError, "rows is not one of its arguments; cv= gives each trainer its rows"),
    "argument": ((new(), X, NUMBERS), {"epoch": 3}, TypeError, "fit has no argument 'epoch'; did you mean 'epochs'"),
    "a network": ((ONE.net, X, NUMBERS), {}, TypeError, "make_trainer must be a function that returns a bp.Trainer, not"),
    "returns a network": ((lambda fold: ONE.net, X, NUMBERS), {}, TypeError, "make_trainer must return a bp.Trainer, not"),
    "one network": ((lambda fold: ONE, X, NUMBERS), {}, ValueError, "must create a new network in each call"),
    "trained": ((trained(), X, NUMBERS), {}, ValueError, "the trainer has made 2 updates, so its network knows the rows"),
    "shape": ((new(), X[:, :2], NUMBERS), {}, ValueError, "X has shape"),
    "metric": ((new(), X, NUMBERS), {"metrics": "accuracy"}, ValueError, "makes no sense for the loss mse"),
    "patience": ((new(), X, NUMBERS), {"patience": 3}, ValueError, "fold 0: .*needs validation"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_refused(name):
    arguments, options, error, text = MISTAKES[name]
    with pytest.raises(error, match=text):
        bp.cross_validate(*arguments, epochs=1, **options)
    assert ONE.steps == 0


def test_a_splitter_itself_is_refused_with_advice():
    class Splitter:
        def split(self, rows):
            return []

    with pytest.raises(TypeError, match=r"; pass its splits: cv.split\(X, y\)"):
        bp.cross_validate(new(), X, NUMBERS, epochs=1, cv=Splitter())


def test_a_fold_that_fails_is_named_and_the_others_are_kept():
    def make(fold, bad=(1,)):
        trainer = new()(fold)
        trainer.net.params[:] = 1e30 if fold in bad else trainer.net.params
        return trainer

    with pytest.warns(RuntimeWarning, match=r"^cross_validate: fold 1 failed: FloatingPointError: .*epoch 1, step 1"):
        found = bp.cross_validate(make, X, NUMBERS, cv=3, epochs=1, metrics="mae")
    whole = bp.cross_validate(new(), X, NUMBERS, cv=3, epochs=1, metrics="mae")
    test = found.folds[1][1]
    assert list(found.errors) == [1] and len(found.ensemble) == 2 and np.isnan(found.predictions[test]).all()
    for name, values in whole.scores.items():
        assert np.isnan(found.scores[name]).tolist() == [False, True, False] and (found.scores[name][::2] == values[::2]).all()
    others = np.setdiff1d(np.arange(61), test)
    assert np.array_equal(found.predictions[others], whole.predictions[others])
    with pytest.raises(FloatingPointError, match=r"^fold 0: .*; 2 others failed too: 1, 2$"):
        bp.cross_validate(lambda fold: make(fold, range(3)), X, NUMBERS, cv=3, epochs=1)
