"""Why a fit has stopped: goal, gradient, patience, time and callbacks, for a solver and for other optimizers; and fits that end badly."""

import math

import numpy as np
import pytest

import microbp as bp

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(40, 3))
Y = np.sin(X.sum(axis=1, keepdims=True))
OPTIMIZERS = {"lbfgs": bp.LBFGS(), "adam": bp.Adam(lr=0.05), "rprop": bp.Rprop(), "sgd": bp.SGD(lr=0.1)}


def trainer(optimizer, dtype="float64", backend="compiled", loss="mse", activation="tanh"):
    net = bp.mlp([3, 6, 1], activation=activation, dtype=dtype, seed=1, backend=backend)
    return bp.Trainer(net, loss, OPTIMIZERS[optimizer])


def batch(optimizer):
    """All rows in a batch, which a solver has anyway."""
    return {} if optimizer == "lbfgs" else {"batch_size": len(X)}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_reason(optimizer):
    t = trainer(optimizer)
    assert t.stop_reason is None
    first = t.fit(X, Y, epochs=3, **batch(optimizer))["loss"][-1]
    assert t.stop_reason == "epochs"
    t.fit(X, Y, epochs=0)
    assert t.stop_reason == "epochs"
    t.fit(X, Y, epochs=1000, goal=0.9 * first, **batch(optimizer))
    assert t.stop_reason == "goal"
    assert t.history["loss"][-1] <= 0.9 * first < t.history["loss"][-2]
    t.fit(X, Y, epochs=1000, gradient_tolerance=np.abs(t.grads).max() * 1.01, **batch(optimizer))
    assert t.stop_reason == "gradient"
    t.fit(X, Y, epochs=9, callback=lambda record: record.epoch > t.epoch - 1, **batch(optimizer))
    assert t.stop_reason == "callback"
    t.fit(X, Y, epochs=10**6, max_time=1e-9, **batch(optimizer))
    assert t.stop_reason == "max_time"
    with pytest.raises(ZeroDivisionError):
        t.fit(X, Y, epochs=9, callback=lambda record: 1 / 0, **batch(optimizer))
    assert t.stop_reason is None


def test_a_batch_callback_is_a_callback():
    t = trainer("adam")
    t.fit(X, Y, epochs=9, batch_callback=lambda record: record.steps == 3, batch_size=8)
    assert t.stop_reason == "callback"
    assert t.steps == 3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_max_fail_is_the_patience_of_the_validation_loss(optimizer):
    a, b = trainer(optimizer), trainer(optimizer)
    noise = RANDOM.normal(size=(20, 1))
    held = X[20:], Y[20:] + noise
    a.fit(X[:20], Y[:20], epochs=3000, validation=held, max_fail=6)
    b.fit(X[:20], Y[:20], epochs=3000, validation=held, patience=6)
    assert a.stop_reason == b.stop_reason == "patience"
    assert a.history["val_loss"] == b.history["val_loss"]
    assert np.array_equal(a.net.params, b.net.params)
    best = int(np.argmin(a.history["val_loss"]))
    assert a.epoch == best + 1 == len(a.history["val_loss"]) - 6
    assert a.evaluate(*held) == a.history["val_loss"][best]


def test_patience_that_ends_with_the_last_epoch_is_the_reason():
    t = trainer("lbfgs")
    t.fit(X[:20], Y[:20], epochs=3000, validation=(X[20:], -Y[20:]), max_fail=4)
    epochs, again = len(t.history["loss"]), trainer("lbfgs")
    again.fit(X[:20], Y[:20], epochs=epochs, validation=(X[20:], -Y[20:]), max_fail=4)
    assert again.stop_reason == "patience"
    assert again.finished


@pytest.mark.parametrize("given", [{"patience": 5}, {"stop": bp.EarlyStopping(5)}, {"monitor": "loss"}])
def test_max_fail_alone(given):
    with pytest.raises(ValueError, match='fit: max_fail is the patience for monitor="val_loss"; pass patience= and monitor=, or stop='):
        trainer("lbfgs").fit(X, Y, epochs=1, validation=0.2, max_fail=6, **given)
    with pytest.raises(ValueError, match="fit: max_fail must be at least 1, not 0"):
        trainer("lbfgs").fit(X, Y, epochs=1, validation=0.2, max_fail=0)
    with pytest.raises(ValueError, match="val_loss"):
        trainer("lbfgs").fit(X, Y, epochs=1, max_fail=6)


def test_the_tolerance_sees_the_gradients_of_sparse_layers():
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    t = trainer("sgd")
    t.fit(sparse.csr_array(X), Y, epochs=3, gradient_tolerance=1e-9)
    assert t.sparse_grads["dense_0"][1].any()
    assert t.stop_reason == "epochs"
    t.fit(sparse.csr_array(X), Y, epochs=3, batch_size=40, gradient_tolerance=10.0)
    assert t.stop_reason == "gradient"


# ---- fits that are interrupted ----


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_after_ctrl_c_the_last_point_is_there(error, tmp_path):
    """And the file of the checkpoint continues to the result of an uninterrupted fit, bit for bit."""
    whole, t = trainer("lbfgs"), trainer("lbfgs")
    whole.fit(X, Y, epochs=25)

    def interrupt(record):
        if record.epoch == 11:
            raise error

    with pytest.raises(error):
        t.fit(X, Y, epochs=25, callback=interrupt, checkpoint=tmp_path / "t", checkpoint_every=100)
    assert t.epoch == t.steps == 11
    assert t.evaluate(X, Y) == pytest.approx(t.history["loss"][-1], rel=1e-15)
    other = bp.Trainer.load(tmp_path / "t")
    for one in (t, other):
        one.fit(X, Y, epochs=14)
        assert one.history["loss"] == whole.history["loss"]
        assert np.array_equal(one.net.params, whole.net.params)


def test_early_stopping_goes_on_from_a_file_bit_for_bit(tmp_path):
    """Interrupted after its best epoch, before patience has ended it."""
    held = X[20:], Y[20:] + RANDOM.normal(size=(20, 1))
    how = {"validation": held, "patience": 8, "checkpoint": tmp_path / "t"}
    whole = trainer("lbfgs")
    whole.fit(X[:20], Y[:20], epochs=500, validation=held, patience=8)
    t, stop = trainer("lbfgs"), whole.epoch + 3

    def interrupt(record):
        if record.epoch == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        t.fit(X[:20], Y[:20], epochs=500, callback=interrupt, **how)
    other = bp.Trainer.load(tmp_path / "t")
    other.fit(X[:20], Y[:20], epochs=500 - other.epoch, **how)
    assert other.stop_reason == "patience"
    assert other.epoch == whole.epoch
    assert np.array_equal(other.net.params, whole.net.params)
    assert other.history["val_loss"] == whole.history["val_loss"]


def test_records_have_no_learning_rate():
    t, seen = trainer("lbfgs"), []
    t.fit(X, Y, epochs=2, validation=0.2, metrics="rmse", callback=seen.append)
    assert sorted(seen[0]) == ["epoch", "loss", "rmse", "seconds", "steps", "val_loss"]
    assert math.isnan(t.lr)


# ---- losses that blow up ----

HARD = {
    "huge targets": ("mse", "tanh", X, 1e7 * Y),
    "huge inputs": ("mse", "relu", 1e15 * X, Y),
    "exp": ("mse", "exp", 30 * X, Y),
    "exp of exp": ("poisson", "exp", 30 * X, np.abs(Y)),
    "steep": ("cross_entropy", "square", 1e4 * X, (Y[:, 0] > 0).astype(int)),
    "a constant": ("mse", "tanh", np.zeros_like(X), np.zeros_like(Y)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", HARD)
def test_a_fit_is_never_worse_and_never_nan(case, dtype):
    loss, activation, x, y = HARD[case]
    net = bp.mlp([3, 6, 2 if loss == "cross_entropy" else 1], activation=activation, dtype=dtype, seed=1)
    net.params[:] *= 0.01 if "exp" in case or case == "steep" else 1  # so that the first loss is finite
    t = bp.Trainer(net, loss, bp.LBFGS())
    first = t.evaluate(x, y)
    losses = t.fit(x, y, epochs=60)["loss"]
    assert np.isfinite([first, *losses]).all()
    assert [first, *losses] == sorted([first, *losses], reverse=True)
    assert np.isfinite(t.net.params).all()
    assert losses[-1] < first or first == 0
