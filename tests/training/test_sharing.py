"""Several threads on one network: each call succeeds or raises RuntimeError, and the state is always that of whole calls."""

import contextlib
import copy
import itertools
import os
import pickle
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest

import microbp as bp

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = X[:, :2].copy()


def own_mse(outputs, targets, weight):
    time.sleep(0)  # another thread may run here
    return float(((outputs - targets) ** 2).mean()), 2 * (outputs - targets) / outputs.size


LOSSES = {"named": "mse", "own": own_mse}


def trainer(loss="mse", backend=None, **settings):
    net = bp.mlp([4, 8, 2], seed=0, backend=backend)
    return bp.Trainer(net, loss=loss, optimizer=bp.Adam(lr=0.01), average=bp.EMA(0.9), **settings)


def one_epoch(t, **arguments):
    for _ in t.epochs(X, Y, batch_size=8, **arguments):
        break


def set_all(t):
    t.lr, t.clip_norm, t.steps, t.epoch, t.schedule = 0.01, 1.0, t.steps, t.epoch, None


def settings(net):
    net.freeze("dense_0")
    net.unfreeze()
    net.set_layer(l2=0.001)
    net.notes = {"a": 1}


def load_tensors(t):
    path = f"{threading.get_ident()}.tensors.safetensors"
    t.net.save(path)
    t.net.load_tensors(path)


def averaged(t):
    """An average that has not started is refused: `reset` and `lr_find` of another thread may set the steps to 0 at any time."""
    try:
        t.averaged()
    except ValueError as error:
        if "has not started" not in str(error):
            raise


def describe(t):
    return repr(t), repr(t.net), t.net.text(), t.net.layers, t.net.notes, t.history, t.lr, t.steps, t.epoch, t.average_params, t.clip_norm


# Calls that a thread may be refused, and calls that it never is.
TRAINS = {
    "step": lambda t: t.step(X, Y),
    "step of lists": lambda t: t.step(X.tolist(), Y.tolist()),
    "backward": lambda t: t.backward(X, Y, input_grads=True),
    "apply": lambda t: t.apply(),
    "fit": lambda t: t.fit(X, Y, epochs=2, batch_size=8, validation=0.2, patience=5, callback=lambda record: None, progress=False),
    "fit by updates": lambda t: t.fit(X, Y, epochs=1, batch_size=8, batch_callback=lambda record: None, progress=False),
    "fit a stream": lambda t: t.fit(lambda: [(X, Y)], epochs=1, batch_size=8, progress=False),
    "epochs": one_epoch,
    "lr_find": lambda t: bp.lr_find(t, X, Y, num_it=10, stop_div=False),
}
HOLDS = {
    "evaluate": lambda t: t.evaluate(X, Y),
    "check_gradients": lambda t: t.check_gradients(X[:3], Y[:3]),
    "reset": lambda t: t.reset(),
    "set": set_all,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda t: pickle.dumps(t) if t.losses[0] is not own_mse else None,
    "averaged": averaged,
    "init": lambda t: t.net.init(seed=1),
    "load tensors": load_tensors,
    "settings": lambda t: settings(t.net),
    "another trainer": lambda t: bp.Trainer(t.net, "mse").step(X, Y) and None,
    "save trainer": lambda t: t.save(f"{threading.get_ident()}.safetensors") if t.losses[0] is not own_mse else None,
}
FREE = {
    "predict": lambda t: t.predict(X),
    "predict a layer": lambda t: t.predict(X, at="dense_0"),
    "copy net": lambda t: t.net.copy(),
    "pickle net": lambda t: pickle.dumps(t.net),
    "save net": lambda t: t.net.save(f"{threading.get_ident()}.net.safetensors"),
    "describe": describe,
}
CALLS = TRAINS | HOLDS | FREE


@pytest.fixture
def often(tmp_path, monkeypatch):
    """Threads change often, and files go to a folder of the test."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    monkeypatch.chdir(tmp_path)
    yield
    sys.setswitchinterval(before)


def storm(works, seconds):
    """Calls each work in its own thread, at least once, until the time is over. Returns the errors that are not refusals."""
    end, wrong = time.monotonic() + seconds, []

    def run(name, work):
        while True:
            try:
                work()
            except RuntimeError as error:
                if name in FREE or "in use by another thread" not in str(error):
                    wrong.append((name, error))
            except BaseException as error:
                wrong.append((name, error))
            if wrong or time.monotonic() > end:
                return

    threads = [threading.Thread(target=run, args=item) for item in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def names(count):
    """Combinations of calls: pairs are all pairs with a call that trains or holds; triples are a sample."""
    found = [both for both in itertools.combinations_with_replacement(CALLS, count) if not set(both) <= set(FREE)]
    return found if count == 2 else [found[i] for i in np.random.default_rng(1).choice(len(found), 40, replace=False)]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("count", [2, 3])
def test_calls_of_several_threads_succeed_or_are_refused(often, loss, count):
    for chosen in names(count):
        t = trainer(LOSSES[loss])
        wrong = storm([(name, partial(CALLS[name], t)) for name in chosen], 0.004)
        assert not wrong, (chosen, wrong)
        assert np.isfinite(t.step(X, Y)), chosen  # nothing is left busy


@pytest.mark.parametrize("loss", LOSSES)
def test_calls_of_two_threads_on_the_reference(often, loss):
    few = ("step", "backward", "fit", "epochs", "evaluate", "set", "init", "predict", "save net")
    for chosen in itertools.combinations_with_replacement(few, 2):
        t = trainer(LOSSES[loss], backend="reference")
        assert not (wrong := storm([(name, partial(CALLS[name], t)) for name in chosen], 0.001)), (chosen, wrong)


@pytest.mark.parametrize("loss", LOSSES)
def test_steps_of_two_threads_do_not_mix(often, backend, loss):
    t, alone = trainer(LOSSES[loss], backend), trainer(LOSSES[loss], backend)
    done = []

    def step():
        t.step(X, Y)
        done.append(1)

    assert not storm([("step", step), ("step", step), ("predict", lambda: t.predict(X))], 0.3)
    for _ in done:
        alone.step(X, Y)
    assert t.steps == len(done) > 0
    np.testing.assert_array_equal(t.net.params, alone.net.params)


@pytest.mark.parametrize("way", ["save", "copy", "pickle"])
def test_networks_saved_beside_a_fit_are_those_of_a_step(often, tmp_path, backend, way):
    width, rows, size = (256, 400, 32) if backend == "compiled" else (32, 16, 8)  # a compiled step of this size releases the GIL
    wide = np.random.default_rng(1).normal(size=(rows, width))
    t = bp.Trainer(bp.mlp([width, width, width], seed=0, backend=backend), "mse")
    states, saved, over = {t.net.params.tobytes()}, [], threading.Event()

    def save():
        while not over.is_set():
            if way == "save":
                t.net.save(tmp_path / "beside.safetensors")
                net = bp.load(tmp_path / "beside.safetensors", backend=backend)
            else:
                net = t.net.copy() if way == "copy" else pickle.loads(pickle.dumps(t.net))
            saved.append(net.params.tobytes())

    thread = threading.Thread(target=save)
    thread.start()
    with contextlib.suppress(KeyboardInterrupt):
        t.fit(
            wide, wide, epochs=100 if backend == "compiled" else 1, batch_size=size, progress=False,
            batch_callback=lambda record: states.add(t.net.params.tobytes()) or len(saved) > 30,
        )  # fmt: skip
    over.set()
    thread.join()
    assert saved
    assert set(saved) <= states


def test_a_trainer_saved_beside_steps_is_that_of_a_step(often, tmp_path):
    t, alone = trainer(), trainer()
    over, saved = threading.Event(), []

    def save():
        while not over.is_set():
            with contextlib.suppress(RuntimeError):
                t.save(tmp_path / "beside.safetensors")
                saved.append(bp.Trainer.load(tmp_path / "beside.safetensors"))
            with contextlib.suppress(RuntimeError):
                saved.append(pickle.loads(pickle.dumps(t)))
            with contextlib.suppress(RuntimeError):
                saved.append(copy.deepcopy(t))

    thread = threading.Thread(target=save)
    thread.start()
    while len(saved) < 60:
        with contextlib.suppress(RuntimeError):
            t.step(X, Y)
    over.set()
    thread.join()
    for other in sorted(saved, key=lambda one: one.steps):
        while alone.steps < other.steps:
            alone.step(X, Y)
        np.testing.assert_array_equal(other.net.params, alone.net.params)
        np.testing.assert_array_equal(other.state["v"], alone.state["v"])
        np.testing.assert_array_equal(other.average_params, alone.average_params)


@pytest.mark.parametrize("name", ["evaluate", "check_gradients", "copy", "deepcopy", "pickle", "averaged", "save trainer"])
def test_calls_that_change_nothing_are_not_seen_by_predictions(often, tmp_path, backend, name):
    t = bp.Trainer(bp.mlp([4, 8, 2], seed=0, backend=backend), "bce", average=bp.EMA(0.9))
    targets = (Y > 0).astype("float32")
    t.step(X, targets)
    before, path = t.predict(X), tmp_path / "beside.safetensors"
    own = {"evaluate": lambda t: t.evaluate(X, targets), "check_gradients": lambda t: t.check_gradients(X[:3], targets[:3])}

    def save():
        t.net.save(path)
        np.testing.assert_array_equal(bp.load(path, backend).predict(X), before)

    def predict():
        np.testing.assert_array_equal(t.predict(X), before)

    assert not storm([(name, partial((CALLS | own)[name], t)), ("predict", predict), ("save net", save)], 0.3)


def test_tensors_are_loaded_at_once(often, tmp_path, backend):
    net = bp.mlp([4, 8, 2], seed=0, backend=backend)
    other = bp.mlp([4, 8, 2], seed=1, backend=backend)
    wanted = {one.predict(X).tobytes() for one in (net, other)}
    for i, one in enumerate((net, other)):
        one.save(tmp_path / f"{i}.safetensors")
    numbers = itertools.count()

    def predict():
        assert net.predict(X).tobytes() in wanted

    def load():
        net.load_tensors(tmp_path / f"{next(numbers) % 2}.safetensors")

    assert not storm([("init", load), ("predict", predict)], 0.3)


# ---- functions of the user that a training calls ----


def in_own_loss(t, act):
    return bp.Trainer(t.net, lambda o, y, w: act() or own_mse(o, y, w)).step(X, Y)


GUESTS = {
    "callback": lambda t, act: t.fit(X, Y, epochs=1, callback=lambda record: act(), progress=False),
    "batch_callback": lambda t, act: t.fit(X, Y, epochs=1, batch_callback=lambda record: act(), progress=False),
    "metric": lambda t, act: t.fit(X, Y, epochs=1, metrics=bp_metric(act), progress=False),
    "schedule": lambda t, act: t.fit(X, Y, epochs=1, schedule=lambda step: act() or 0.01, progress=False),
    "stream": lambda t, act: t.fit(lambda: act() or [(X, Y)], epochs=1, progress=False),
    "own loss": in_own_loss,
}


def bp_metric(act):
    def metric(targets, outputs):
        act()
        return 0.0

    return metric


@pytest.mark.parametrize("way", GUESTS)
def test_functions_of_the_user_may_do_everything_but_train(often, backend, way):
    t, seen = trainer(backend=backend), []

    def act():
        if seen:
            return
        seen.append(way)
        for name, call in (HOLDS | FREE).items():
            if name != "another trainer" and (name, way) != ("settings", "own loss"):  # a gradient needs the layers of its forward
                call(t)
        for name, call in TRAINS.items():
            before = t.net.params.copy(), t.steps, t.epoch
            with pytest.raises(RuntimeError, match="training is not possible inside a function that a training call has called"):
                call(t)
            assert (t.steps, t.epoch) == before[1:], name
            np.testing.assert_array_equal(t.net.params, before[0])

    GUESTS[way](t, act)
    assert seen
    t.step(X, Y)


def test_another_thread_is_told_that_the_network_is_in_use_during_a_callback(backend):
    t, seen = trainer(backend=backend), []

    def refused():
        for name, call in (TRAINS | HOLDS).items():
            try:
                call(t)
            except RuntimeError as error:
                seen.append(str(error))
            else:
                seen.append(name)

    def callback(record):
        thread = threading.Thread(target=refused)
        thread.start()
        thread.join()

    t.step(X, Y)
    t.fit(X, Y, epochs=1, callback=callback, progress=False)
    busy = "the network is in use by another thread: wait until its call returns, or use one network per thread"
    assert [text for text in seen if text != busy] == []
    assert len(seen) == len(TRAINS | HOLDS)


def test_an_iterator_of_epochs_that_is_kept_does_not_hold_the_network(backend):
    t = trainer(backend=backend)
    kept = t.epochs(X, Y)
    next(kept)
    assert not storm([("fit", lambda: t.fit(X, Y, epochs=1, progress=False))], 0)
    assert t.epoch == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_uses_a_network_that_a_thread_of_the_parent_trains(backend):
    t = trainer(own_mse, backend)
    over = threading.Event()
    thread = threading.Thread(target=lambda: t.fit(X, Y, epochs=10**6, callback=lambda record: over.is_set(), progress=False))
    thread.start()
    try:
        while t.epoch == 0:
            time.sleep(0.001)
        for _ in range(5):
            child = os.fork()
            if child == 0:
                try:
                    t.predict(X)
                    t.step(X, Y)
                    os._exit(0)
                finally:
                    os._exit(1)
            end = time.monotonic() + 30
            while not (result := os.waitpid(child, os.WNOHANG))[0]:
                assert time.monotonic() < end, "the child hangs"
                time.sleep(0.001)
            assert result[1] == 0
    finally:
        over.set()
        thread.join()
