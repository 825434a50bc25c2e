"""Training tells one story: parameters, counters, schedule, average and history belong together, and a call that fails changes nothing."""

import copy
import os
import pickle
import time
import warnings

import cases
import numpy as np
import pytest

import microbp as bp
from microbp.training import trainer_file

RNG = np.random.default_rng(5)
X, HELD_OUT = RNG.normal(size=(2, 23, 3))
Y = np.sin(X[:, :2] * X[:, 1:]) + 0.3 * RNG.normal(size=(23, 2))
RIGHT = np.sin(HELD_OUT[:, :2] * HELD_OUT[:, 1:])
AVERAGES = [bp.EMA(0.9), bp.SWA(), bp.SWA(3, 4), bp.SWA(0, 5), bp.SWA(1001)]


def make(backend="compiled", loss="mse", **options):
    x = bp.Input(3)
    net = bp.Network(x, bp.Dense(2)(bp.Dropout(0.1)(bp.Dense(5, activation="tanh")(x))), backend=backend, seed=3)
    return bp.Trainer(net, loss, bp.Adam(lr=0.05), seed=4, **({"average": bp.SWA(2, 3)} | options))


def now(t):
    """Everything that training changes, except the history."""
    state = t._engine.snapshot()
    vectors = [state[name].tobytes() for name in ("params", "buffers", "grads")] + [t.state[name].tobytes() for name in t.state]
    average = None if state["average"] is None else state["average"].tobytes()
    return vectors, average, state["average_count"], state["losses"]["last_loss"], t.lr, state["numbers"], t.schedule, t.steps, t.epoch


def whole(t):
    """Everything that a failed call must not change."""
    text, vectors = trainer_file.encode(t.net, t.__getstate__())
    return text, vectors, t.net.params.tobytes(), t.net.buffers.tobytes(), copy.deepcopy(t.history), t.finished


def values(history):
    return {name: numbers for name, numbers in history.items() if name != "seconds"}


def options(epochs, **more):
    return {"epochs": epochs, "batch_size": 5, "validation": (HELD_OUT, RIGHT), "patience": 3} | more


# ---- early stopping ----


@pytest.mark.parametrize("schedule", [None, bp.Cosine(0.05), bp.ReduceOnPlateau(0.05, factor=0.5, patience=0, threshold=0.2)], ids=repr)
def test_after_early_stopping_everything_is_the_best_epochs(backend, schedule):
    t, kept = make(backend), []
    history = t.fit(X, Y, **options(40, schedule=schedule, callback=lambda record: kept.append(now(t))))
    best = int(np.argmin(history["val_loss"]))
    assert len(kept) == best + 4 < 40 and t.epoch == best + 1
    assert now(t) == kept[best]
    assert len(history["loss"]) == len(kept), "the history says what was tried"
    records = []
    t.fit(X, Y, epochs=1, callback=records.append)
    assert records[0].epoch == best + 2 and records[0].steps == t.steps


@pytest.mark.parametrize(("patience", "epochs"), [(3, 40), (30, 12), (30, 1)], ids=["stopped", "epochs used up", "one epoch"])
@pytest.mark.parametrize("pauses", [(), (1,), (2, 4), (3, 9)])
def test_a_script_that_loads_and_fits_can_be_started_again(backend, patience, epochs, pauses, tmp_path):
    """The program in the docstring of fit, interrupted at some epochs and started again after the end."""
    path, seen = tmp_path / "run", set()

    def pause(record):
        if record.epoch in pauses and record.epoch not in seen:
            seen.add(record.epoch)
            raise KeyboardInterrupt

    def script(path, **more):
        t = bp.Trainer.load(path, backend=backend) if os.path.exists(path) else make(backend)
        arguments = options(epochs - t.epoch, patience=patience, schedule=t.schedule or bp.Cosine(lr=0.05), checkpoint=path, **more)
        try:
            t.fit(X, Y, **arguments)
        except KeyboardInterrupt:
            return None
        return t

    once, t = script(tmp_path / "once"), None
    while t is None:
        t = script(path, callback=pause)
    for _ in range(3):
        assert now(t) == now(once) and values(t.history) == values(once.history)
        assert t.finished == once.finished == (patience == 3)
        t = script(path)
    whole_fit = make(backend)
    whole_fit.fit(X, Y, **options(epochs, patience=patience, schedule=bp.Cosine(lr=0.05)))
    assert now(whole_fit) == now(once)


def test_an_interrupted_fit_continues_in_memory(backend, tmp_path):
    """Without loading the file: the epochs after the best one are trained again."""
    once, t = make(backend), make(backend)
    once.fit(X, Y, **options(40))

    def interrupt(record):
        if record.epoch == once.epoch + 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        t.fit(X, Y, **options(40, checkpoint=tmp_path / "run", callback=interrupt))
    assert t.epoch == once.epoch and not t.finished
    t.fit(X, Y, **options(40 - t.epoch, checkpoint=tmp_path / "run"))
    assert t.finished and now(t) == now(once)


def finished(backend, path):
    t = make(backend)
    t.fit(X, Y, **options(40, checkpoint=path))
    assert t.finished
    return t


def test_a_finished_run_is_told_from_an_interrupted_one(backend, tmp_path):
    path = tmp_path / "run"
    t = finished(backend, path)
    for one in (t, bp.Trainer.load(path), pickle.loads(pickle.dumps(t)), copy.copy(t)):
        assert one.finished and f"finished   EarlyStopping(patience=3), after {t.epoch + 3} epochs" in repr(one)
        before = whole(one)
        assert one.fit(X, Y, **options(9, checkpoint=path)) is one.history
        assert whole(one) == before
    with pytest.raises(ValueError, match="finished can only be set to False, to train on"):
        t.finished = True
    assert "finished" not in repr(make(backend))


TRAIN_ON = {
    "no checkpoint": lambda t, path: t.fit(X, Y, **options(1)),
    "no early stopping": lambda t, path: t.fit(X, Y, epochs=1, checkpoint=path),
    "another patience": lambda t, path: t.fit(X, Y, **options(1, patience=4), checkpoint=path),
    "another monitor": lambda t, path: t.fit(X, Y, **options(1, monitor="loss"), checkpoint=path),
    "epochs": lambda t, path: next(t.epochs(X, Y)),
}


@pytest.mark.parametrize("name", TRAIN_ON)
def test_other_fits_train_on(backend, name, tmp_path):
    t = finished(backend, tmp_path / "run")
    epoch, length = t.epoch, len(t.history["loss"])
    TRAIN_ON[name](t, tmp_path / "run")
    assert not t.finished and (t.epoch, len(t.history["loss"])) == (epoch + 1, length + 1)


def test_a_finished_run_trains_on_if_told_so(backend, tmp_path):
    t = finished(backend, tmp_path / "run")
    length = len(t.history["loss"])
    t.finished = False
    t.fit(X, Y, **options(2, checkpoint=tmp_path / "run"))
    assert len(t.history["loss"]) == length + 2


# ---- a call that fails ----


def raise_(error):
    raise error


INCOMPLETE = {
    "metric": ({"metrics": lambda y, outputs: 1 / 0}, ZeroDivisionError),
    "interrupted metric": ({"metrics": lambda y, outputs: raise_(KeyboardInterrupt())}, KeyboardInterrupt),
    "text metric": ({"metrics": lambda y, outputs: "x"}, TypeError),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_an_epoch_counts_when_its_record_is_complete(backend, name, tmp_path):
    t, twin, path = make(backend), make(backend), tmp_path / "run"
    for one in (t, twin):
        one.fit(X, Y, epochs=2, batch_size=5, checkpoint=path)
    more, error = INCOMPLETE[name]
    with pytest.raises(error):
        t.fit(X, Y, epochs=3, batch_size=5, checkpoint=path, **more)
    assert (t.epoch, t.steps) == (2, 15) and values(t.history) == values(twin.history)
    assert now(bp.Trainer.load(path, backend=backend)) == now(twin)
    records = []
    t.fit(X, Y, epochs=1, batch_size=5, callback=records.append)
    assert records[0].epoch == 3 and len(t.history["loss"]) == 3


def test_validation_that_raises_does_not_count_the_epoch(backend):
    calls = []

    def own(outputs, targets, weight):
        calls.append(len(outputs))
        if len(outputs) == len(HELD_OUT):
            raise OSError("no more")
        return cases.own_mse(outputs, targets, weight)

    t = make(backend, own)
    with pytest.raises(OSError, match="no more"):
        t.fit(X, Y, epochs=3, batch_size=5, validation=(HELD_OUT, RIGHT))
    assert (t.epoch, t.steps, t.history) == (0, 5, {})


REFUSED = {
    "metric": {"metrics": "acuracy"},
    "monitor": {"monitor": "rmse"},
    "callback": {"callback": [print, 3]},
    "batch callback": {"batch_callback": 3},
    "validation": {"validation": (HELD_OUT, RIGHT[:3])},
    "validation columns": {"validation": (HELD_OUT[:, :2], RIGHT)},
    "directory": {"checkpoint": "."},
    "no directory": {"checkpoint": "nowhere/run"},
    "rate below 0": {"schedule": lambda step: -1.0},
    "rate that is no number": {"schedule": lambda step: "x"},
    "a schedule that raises": {"schedule": lambda step: 1 / 0},
    "batch size": {"batch_size": 0},
    "number without a schedule": {"schedules": {"beta1": bp.Constant(0.5)}},
    "second of two numbers": {"schedules": {"weight_decay": bp.Constant(0.5), "dropout": bp.Constant(2)}},
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("kind", ["new", "finished", "in the middle of a fit", "own loss"])
def test_a_refused_fit_changes_nothing(backend, name, kind, tmp_path):
    t = make(backend, cases.own_mse if kind == "own loss" else "mse")
    if kind == "finished":
        t = finished(backend, tmp_path / "run")
    elif kind == "in the middle of a fit":
        t.fit(X, Y, **options(40, callback=lambda record: t.save(tmp_path / str(record.epoch))))
        t = bp.Trainer.load(tmp_path / str(t.epoch + 2), backend=backend)
        assert t._run.best.epoch < t.epoch
    before = whole(t)
    with pytest.raises((TypeError, ValueError, OSError, ZeroDivisionError)):
        t.fit(X, Y, **options(3, **REFUSED[name]))
    assert whole(t) == before


class Own:
    """A loss that gives `answer` at call number `at`."""

    def __init__(self, answer, at=1):
        self.answer, self.at, self.calls = answer, at, 0

    def __call__(self, outputs, targets, weight):
        self.calls += 1
        right = cases.own_mse(outputs, targets, weight)
        return right if self.calls != self.at else self.answer(*right)


GARBAGE = {
    "nothing": (lambda loss, gradient: None, TypeError),
    "a number": (lambda loss, gradient: loss, TypeError),
    "text": (lambda loss, gradient: ("x", gradient), TypeError),
    "gradient of texts": (lambda loss, gradient: (loss, np.full(gradient.shape, "x")), TypeError),
    "gradient of objects": (lambda loss, gradient: (loss, gradient.astype(object)), TypeError),
    "complex gradient": (lambda loss, gradient: (loss, gradient + 1j), TypeError),
    "no gradient": (lambda loss, gradient: (loss, None), TypeError),
    "masked gradient": (lambda loss, gradient: (loss, np.ma.array(gradient, mask=gradient > 0)), ValueError),
    "ragged gradient": (lambda loss, gradient: (loss, [[1], [2, 3]]), ValueError),
    "too large for float64": (lambda loss, gradient: (loss, gradient + np.longdouble("1e400")), FloatingPointError),
    "transposed": (lambda loss, gradient: (loss, gradient.T), ValueError),
    "NaN loss": (lambda loss, gradient: (np.nan, gradient), FloatingPointError),
    "NaN gradient": (lambda loss, gradient: (loss, gradient * np.nan), FloatingPointError),
    "too large for float32": (lambda loss, gradient: (loss, np.full(gradient.shape, 1e300)), FloatingPointError),
    "an error": (lambda loss, gradient: 1 / 0, ZeroDivisionError),
}
CALLS = {
    "step": lambda t: t.step(X, Y),
    "backward": lambda t: t.backward(X, Y),
    "accumulate": lambda t: t.backward(X, Y, accumulate=True),
    "input_grads": lambda t: t.backward(X, Y, input_grads=True),
    "fit": lambda t: t.fit(X, Y, epochs=1, batch_size=5, schedule=bp.Constant(0.7)),
    "epochs": lambda t: next(t.epochs(X, Y)),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", GARBAGE)
def test_an_own_loss_that_returns_garbage_changes_nothing(backend, name, call):
    answer, error = GARBAGE[name]
    own = Own(answer, at=3)
    t = make(backend, own)
    t.step(X, Y)
    t.backward(X, Y)
    before = whole(t)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error):
            CALLS[call](t)
    assert own.calls == 3 and whole(t) == before


def test_a_gradient_that_the_dtype_cannot_hold_is_named():
    t = make(loss=lambda outputs, targets, weight: (1.0, np.full(outputs.shape, 1e39)), loss_weights=[10])
    message = r"<lambda> returned a gradient of up to 1e\+39, times loss_weights\[0\] = 10, which float32 cannot hold"
    with pytest.raises(FloatingPointError, match=message):
        t.step(X, Y)


def test_ftrl_refuses_a_schedule_that_reaches_0(backend):
    t = bp.Trainer(bp.mlp([3, 2], seed=0, backend=backend), "mse", bp.Ftrl(0.1))
    with pytest.raises(ValueError, match="the learning rate of step 2 is 0, by which Ftrl divides; set end_lr above 0"):
        t.fit(X, Y, epochs=2, batch_size=12, schedule=bp.Cosine(0.1, steps=2))
    assert (t.epoch, t.steps) == (1, 2)


# ---- the average and the number of updates ----


def train(t, steps):
    """The states after each update, with their numbers."""
    found = []
    for _ in range(steps):
        t.step(X, Y)
        found.append((t.steps, np.append(t.net.params, t.net.buffers).astype(float)))
    return found


def expected(average, states):
    """The average of the states whose numbers are to be averaged; None if there are none."""
    decay, start, every = average.rule
    chosen = [state for number, state in states if number >= start and (number - start) % every == 0]
    mean = None
    for count, state in enumerate(chosen, 1):
        rate = 1 - decay if decay < 1 else 1 / count
        mean = state if mean is None else mean + rate * (state - mean)
    return mean, len(chosen)


def jump(t, to):
    t.steps = to
    return t


def pickled(t):
    return pickle.loads(pickle.dumps(t))


def loaded(t, path):
    t.save(path)
    return bp.Trainer.load(path, backend=t.net.backend)


EVENTS = {
    "nothing": (lambda t, path: t, True),
    "steps = 1000": (lambda t, path: jump(t, 1000), True),
    "steps = 0": (lambda t, path: jump(t, 0), True),
    "steps = 2**62 - 20": (lambda t, path: jump(t, 2**62 - 20), True),
    "load": (loaded, True),
    "pickle": (lambda t, path: pickled(t), True),
    "copy": (lambda t, path: copy.copy(t), True),
    "reset": (lambda t, path: t.reset() or t, False),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("before", [0, 5])
@pytest.mark.parametrize("average", AVERAGES, ids=repr)
def test_the_average_contains_exactly_the_states_to_be_averaged(backend, average, before, event, tmp_path):
    happens, keeps = EVENTS[event]
    t = make(backend, average=average)
    states = train(t, before)
    t = happens(t, tmp_path / "run")
    states = (states if keeps else []) + train(t, 7)
    mean, count = expected(average, states)
    assert t._engine.average_count == count
    if count:
        np.testing.assert_allclose(t.average_params, mean[: len(t.net.params)], rtol=1e-5, atol=1e-6)
        t.averaged()
    else:
        assert not t.average_params.any()
        with pytest.raises(ValueError, match="the average has not started"):
            t.averaged()


def test_the_example_of_a_fresh_trainer_with_many_steps(backend):
    t = make(backend, average=bp.SWA())
    t.steps = 1000
    states = [state for _, state in train(t, 3)]
    np.testing.assert_allclose(t.averaged().params, np.mean(states, axis=0)[: len(t.net.params)], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "radam", "nadam", "sgd"])
def test_the_edges_of_steps(backend, optimizer, tmp_path):
    """Beyond the limit a value is refused; up to it, updates count on."""
    t = bp.Trainer(bp.mlp([3, 2], seed=0, backend=backend), "mse", optimizer, average=bp.SWA(5, 2**63 - 1))
    for name in ("steps", "epoch"):
        for wrong in (2**62, 2**63 - 1, 2**63, 10**400, -1):
            with pytest.raises(ValueError, match=name):
                setattr(t, name, wrong)
    for wrong in (9 * 10**18 + 1, 2**63 - 1):
        with pytest.raises(ValueError, match=rf"steps is {wrong}, but must be at most 9000000000000000000"):
            t._engine._core.steps = wrong
    assert (t.steps, t.epoch) == (0, 0)
    t.steps = t.epoch = 2**62 - 1
    t.fit(X, Y, epochs=2, batch_size=12, schedule=bp.Warmup(bp.Cosine(0.1, 10), 10))
    assert (t.steps, t.epoch) == (2**62 + 3, 2**62 + 1) and np.isfinite(t.net.params).all()
    assert t._engine.average_count == 0
    assert now(loaded(t, tmp_path / "run")) == now(t)


def test_steps_with_betas_close_to_1_are_set_exactly():
    """As counting them, and fast: the limit is far above what a loaded machine needs, and far below 2**30 updates."""
    started = time.process_time()
    counted, jumped = (bp.Trainer(bp.mlp([1, 1], seed=0), "mse", bp.Adam(betas=(0.999999, 0.9999999))) for _ in range(2))
    x = np.ones((1, 1))
    for _ in range(3000):
        counted.step(x, x)
    jumped.steps = 3000
    for name in counted.state:
        jumped.state[name][:] = counted.state[name]
    jumped.net.params[:] = counted.net.params
    for t in (counted, jumped):
        t.step(x, x)
    assert counted.net.params.tobytes() == jumped.net.params.tobytes()
    for steps in (2**20, 2**24, 2**24 + 1, 2**40, 2**62 - 1):
        jumped.steps = steps
        jumped.step(x, x)
    assert time.process_time() - started < 5


# ---- the history ----


def test_the_history_is_one_dict_of_equally_long_lists(backend):
    t = make(backend)
    history = t.history
    t.fit(X, Y, epochs=1)
    assert t.fit(X, Y, epochs=2, validation=(HELD_OUT, RIGHT), metrics="rmse") is t.history is history
    next(t.epochs(X, Y))
    assert {name: len(numbers) for name, numbers in history.items()} == dict.fromkeys(history, 4)
    assert np.isnan(history["rmse"]).tolist() == np.isnan(history["val_loss"]).tolist() == [True, False, False, True]
    t.reset()
    assert t.history == {} and len(history["loss"]) == 4, "a reset starts a new dict"


def test_a_fit_and_a_checkpoint_cost_the_same_after_many_epochs(tmp_path):
    """CPU time, with much room: rebuilding the history made the first 100 times slower here."""

    def cost(t):
        started = time.process_time()
        for _ in range(50):
            t.fit(X, Y, epochs=1)
        return time.process_time() - started

    few, many = make(), make()
    few.fit(X, Y, epochs=2)
    many.fit(X, Y, epochs=2)
    for name in many.history:
        many.history[name].extend([0.5] * 100_000)
    cost(few)
    assert cost(many) < 5 * cost(few) + 0.05
    texts = [trainer_file.encode(t.net, t.__getstate__())[0] for t in (few, many)]
    assert abs(len(texts[0]) - len(texts[1])) < 100
    many.save(tmp_path / "run")
    assert bp.Trainer.load(tmp_path / "run").history == many.history


# ---- outputs of a living trainer ----


def test_a_changed_output_activation_is_saved_with_the_trainer(backend, tmp_path):
    net = bp.mlp([3, 4, 2], seed=0, backend=backend)
    t = bp.Trainer(net, "bce")
    net.set_output(0, activation="identity")
    t.fit(X, (Y > 0).astype(float), epochs=1)
    t.save(tmp_path / "run")
    again = bp.Trainer.load(tmp_path / "run", backend=backend)
    for other in (again, pickled(t), copy.copy(t)):
        np.testing.assert_array_equal(other.predict(X), t.predict(X))
        np.testing.assert_array_equal(t.predict(X), t.predict(X, raw=True))
        assert other.evaluate(X, (Y > 0).astype(float)) == t.evaluate(X, (Y > 0).astype(float))


@pytest.mark.parametrize("epochs", [0, 3])
def test_a_fit_that_trains_nothing_saves_its_checkpoint_if_there_is_none(backend, epochs, tmp_path):
    t = bp.Trainer(bp.mlp([2, 3, 1], seed=0, backend=backend), "mse", bp.SGD(lr=0.0))
    x, y = np.ones((4, 2)), np.ones(4)
    t.fit(x, y, epochs=9, patience=1, monitor="loss")
    assert t.finished
    path = tmp_path / "run.safetensors"
    t.fit(x, y, epochs=epochs, patience=1, monitor="loss", checkpoint=path)
    assert bp.Trainer.load(path, backend=backend).finished
