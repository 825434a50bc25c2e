"""bp.train_many: each trainer ends with the same bits as alone, in threads and in processes; errors name their trainer."""

import inspect
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

import numpy as np
import pytest
from cases import own_mse
from many.executor_tasks import Pickling

import microbp as bp
from microbp.training import trainer_file

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 4))
NUMBERS, LABELS = X[:, :2] * X[:, 1:3], (X[:, 0] > X[:, 1]).astype(int)


def mlp(seed, **options):
    return bp.mlp([4, 9, 2], seed=seed, **options)


def dropout(seed):
    x = bp.Input(4)
    h = bp.Dropout(0.3)(bp.Dense(9, "relu")(bp.GaussianNoise(0.1)(x)))
    return bp.Network(x, bp.Dense(2)(h), seed=seed)


def norms(seed):
    x = bp.Input(4)
    return bp.Network(x, bp.Dense(2)(bp.BatchNorm()(bp.Dense(9)(bp.LayerNorm()(x)))), seed=seed)


def two_ends(seed):
    x, z = bp.Input(4), bp.Input(3)
    h = bp.Dense(5, "tanh")(bp.concat([x, z]))
    return bp.Network([x, z], [bp.Dense(2)(h), bp.Dense(2)(h)], seed=seed)


def chunks():
    return [(X[:25], NUMBERS[:25]), (X[25:], NUMBERS[25:])]


@dataclass
class Case:
    """What is trained: networks and trainers for a seed, data, and arguments of fit."""

    net: object = mlp
    loss: object = "mse"
    trainer: dict = field(default_factory=dict)
    data: tuple = (X, NUMBERS)
    fit: dict = field(default_factory=dict)

    def trainers(self, count=3, **options):
        return [bp.Trainer(self.net(seed, **options), self.loss, **self.trainer) for seed in range(count)]


CASES = {
    "plain": Case(),
    "labels": Case(loss="cross_entropy", data=(X, LABELS), fit={"class_weight": "balanced", "metrics": ["accuracy", "f1"]}),
    "huber": Case(loss="huber(delta=0.5)", trainer={"optimizer": bp.AdamW(lr=0.01), "clip_norm": 0.1}),
    "dropout and noise": Case(net=dropout, trainer={"optimizer": bp.SGD(lr=0.1, momentum=0.9)}),
    "norms and an average": Case(net=norms, trainer={"average": bp.EMA(0.9)}),
    "schedule": Case(net=dropout, fit={"schedule": bp.Warmup(bp.Cosine(lr=0.01), steps=4)}),
    "plateau": Case(fit={"schedule": bp.ReduceOnPlateau(lr=0.1, patience=1), "validation": 0.2}),
    "early stopping": Case(trainer={"optimizer": bp.Adam(lr=0.3)}, fit={"validation": 0.3, "patience": 2}),
    "weights": Case(fit={"sample_weight": np.arange(60.0), "shuffle": False}),
    "micro-batches": Case(net=dropout, fit={"accumulate": 2}),
    "own loss": Case(loss=own_mse),
    "stream": Case(net=dropout, data=(chunks, None)),
    "chunks": Case(data=(chunks(), None)),
    "several ends": Case(net=two_ends, loss=["mse", "mae"], data=([X, X[:, :3]], [NUMBERS, NUMBERS[:, ::-1]])),
}


def state(trainer):
    """All bits of a trainer and its network, except the durations of epochs."""
    found = trainer.__getstate__()
    found["history"] = {name: values for name, values in found["history"].items() if name != "seconds"}
    return trainer_file.encode(trainer.net, found), trainer.net.params.tobytes(), trainer.net.buffers.tobytes()


def alone(case, epochs=4, **options):
    trainers = case.trainers(**options)
    for trainer in trainers:
        trainer.fit(*case.data, epochs=epochs, batch_size=8, progress=False, **case.fit)
    return trainers


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor(3), Pickling()], ids=["default", "threads", "pickles"])
def test_each_trainer_has_the_bits_of_fit_alone(executor, name):
    case = CASES[name]
    trainers, expected = case.trainers(), alone(case)
    nets, params = [trainer.net for trainer in trainers], [trainer.net.params for trainer in trainers]
    histories = bp.train_many(trainers, *case.data, epochs=4, batch_size=8, executor=executor, **case.fit)
    for i, trainer in enumerate(trainers):
        assert state(trainer) == state(expected[i])
        assert trainer.net is nets[i] and trainer.net.params is params[i]
        assert histories[i] is trainer.history
    # and goes on like the others
    trainers[0].fit(*case.data, epochs=1, progress=False)
    expected[0].fit(*case.data, epochs=1, progress=False)
    assert state(trainers[0]) == state(expected[0])


@pytest.mark.parametrize("name", ["dropout and noise", "own loss", "early stopping"])
def test_processes(processes, name):
    case = CASES[name]
    trainers = case.trainers()
    bp.train_many(trainers, *case.data, epochs=4, batch_size=8, executor=processes, **case.fit)
    assert list(map(state, trainers)) == list(map(state, alone(case)))


def test_the_reference_backend():
    case = CASES["plain"]
    trainers = case.trainers(backend="reference")
    bp.train_many(trainers, *case.data, epochs=1, batch_size=8)
    assert list(map(state, trainers)) == list(map(state, alone(case, 1, backend="reference")))


def test_more_trainers_than_threads_and_a_second_call():
    trainers, expected = (CASES["plain"].trainers(count=7) for _ in range(2))
    for _ in range(2):
        bp.train_many(trainers, X, NUMBERS, epochs=2)
    for trainer in expected:
        trainer.fit(X, NUMBERS, epochs=2, progress=False)
        trainer.fit(X, NUMBERS, epochs=2, progress=False)
    assert list(map(state, trainers)) == list(map(state, expected))


EACH = {
    "arrays": (CASES["plain"], [X, X[:30], X[10:]], [NUMBERS, NUMBERS[:30], NUMBERS[10:]]),
    "lists": (CASES["plain"], [X.tolist(), X[:30].tolist(), X], (NUMBERS, NUMBERS[:30], NUMBERS)),
    "several ends": (CASES["several ends"], [[X[i:], X[i:, :3]] for i in range(3)], [[NUMBERS[i:], NUMBERS[i:]] for i in range(3)]),
    "streams": (CASES["stream"], [chunks, lambda: chunks()[:1], lambda: iter(chunks())], None),
}


@pytest.mark.parametrize("name", EACH)
def test_each_trainer_may_have_data_of_its_own(name):
    case, xs, ys = EACH[name]
    trainers, expected = case.trainers(), case.trainers()
    bp.train_many(trainers, xs, ys, epochs=2)
    for i, trainer in enumerate(expected):
        trainer.fit(xs[i], None if ys is None else ys[i], epochs=2, progress=False)
    assert list(map(state, trainers)) == list(map(state, expected))


# ---- rows ----

INDEX = [np.r_[5:40], RANDOM.integers(0, 60, 45), np.arange(60)[::-1], list(range(0, 60, 2))]  # a fold, a bootstrap, an order, a list
OF_ROWS = [name for name in CASES if name not in ("stream", "chunks")]


def taken(data, index):
    return [part[index] for part in data] if isinstance(data, list) else data[index]


@pytest.mark.parametrize("name", OF_ROWS)
def test_rows_give_the_bits_of_a_copy_of_these_rows(name):
    case = CASES[name]
    trainers, expected = (case.trainers(len(INDEX)) for _ in range(2))
    bp.train_many(trainers, *case.data, epochs=4, batch_size=8, rows=INDEX, **case.fit)
    for trainer, index in zip(expected, INDEX):
        weights = {"sample_weight": case.fit["sample_weight"][index]} if "sample_weight" in case.fit else {}
        data = [taken(part, index) for part in case.data]
        trainer.fit(*data, epochs=4, batch_size=8, progress=False, **case.fit | weights)
    assert list(map(state, trainers)) == list(map(state, expected))


@pytest.mark.parametrize("fit", [{}, {"validation": 0.25}, {"validation": (X[:9], LABELS[:9])}, {"class_weight": {0: 2, 1: 0}}])
@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_what_depends_on_all_rows_sees_the_chosen_ones(backend, fit):
    """Metrics of training rows, standardized inputs, class weights. The other rows are not read."""
    labels, hidden = LABELS.copy(), X.copy()
    for index in INDEX:
        labels[:], hidden[:] = LABELS, X
        others = np.setdiff1d(np.arange(60), index)
        labels[others], hidden[others] = 7, np.nan
        twins = [bp.Trainer(standardized(backend), "cross_entropy") for _ in range(2)]
        twins[0].fit(hidden, labels, rows=index, epochs=2, metrics=["accuracy", "auc"], progress=False, **fit)
        twins[1].fit(X[index], LABELS[index], epochs=2, metrics=["accuracy", "auc"], progress=False, **fit)
        assert state(twins[0]) == state(twins[1])


@pytest.mark.parametrize("chosen", [[3, 4], [np.int64(5)]])
def test_validation_rows_may_be_a_list(chosen):
    twins = [bp.Trainer(standardized("compiled"), "cross_entropy") for _ in range(2)]
    for twin, validation in zip(twins, (chosen, np.array(chosen)), strict=True):
        twin.fit(X, LABELS, epochs=2, validation=validation, progress=False)
    assert state(twins[0]) == state(twins[1])


def standardized(backend):
    x = bp.Input(4)
    return bp.Network(x, bp.Dense(2)(bp.Dense(5, "tanh")(bp.Standardize()(x))), seed=0, backend=backend)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (np.zeros(0, np.int64), r"fit: rows must be a 1-D array of row indices, not int64 of shape \(0,\)"),
        ([], r"fit: rows must be a 1-D array of row indices, not float64 of shape \(0,\)"),
        ([0, 60], "fit: rows: row indices must be from 0 to 59, but they are from 0 to 60"),
        ([-1], "fit: rows: row indices must be from 0 to 59, but they are from -1 to -1"),
        ([True], r"fit: rows must be a 1-D array of row indices, not bool of shape \(1,\); of a mask, pass np.flatnonzero\(mask\)"),
        ([[1]], "fit: rows must be a 1-D array of row indices, not int64"),
        ([3], "fit: rows contains only rows of weight 0"),
    ],
)
def test_wrong_rows_are_refused(rows, text):
    before = state(ONE)
    with pytest.raises(ValueError, match=text):
        ONE.fit(X, NUMBERS, rows=rows, sample_weight=np.arange(60) != 3, epochs=1)
    as_validation = (
        "fraction" if isinstance(rows, list) and not rows else text.replace("fit: rows", "fit: validation")
    )  # floats are no indices
    with pytest.raises(ValueError, match=as_validation):
        ONE.fit(X, NUMBERS, validation=np.array(rows), sample_weight=np.arange(60) != 3, epochs=1)
    with pytest.raises(ValueError, match=r"fit: rows does not work with a stream; leave the other rows out of the chunks"):
        ONE.fit(chunks, rows=[1], epochs=1)
    assert state(ONE) == before


@pytest.mark.parametrize(
    ("count", "x", "y"),
    [
        (3, X[:3].tolist(), NUMBERS[:3].tolist()),  # as many rows as trainers
        (2, [X, X[:, :3]], [NUMBERS, NUMBERS]),  # as many inputs and outputs as trainers
        (2, [X.tolist(), X[:, :3].tolist()], [NUMBERS, NUMBERS]),
        (2, chunks(), None),  # as many chunks as trainers
    ],
    ids=["rows", "ends", "lists", "chunks"],
)
def test_data_for_all_is_not_taken_for_data_of_each(count, x, y):
    case = CASES["several ends"] if y is not None and len(x[0]) == len(X) and len(x) == 2 else CASES["plain"]
    trainers, expected = case.trainers(count), case.trainers(count)
    bp.train_many(trainers, x, y, epochs=2)
    for trainer in expected:
        trainer.fit(x, y, epochs=2, progress=False)
    assert list(map(state, trainers)) == list(map(state, expected))


# ---- errors ----


class UserError(Exception):
    """An error of a user."""


def fails(record):
    raise UserError("a", "b")


@pytest.mark.parametrize("executor", [None, Pickling()], ids=["threads", "pickles"])
def test_if_one_fails_the_others_finish(executor):
    trainers, expected = CASES["plain"].trainers(), alone(CASES["plain"])
    trainers[1].net.params[:] = 1e30
    before = state(trainers[1])
    with pytest.raises(FloatingPointError, match=r"^trainers\[1\]: .*epoch 1, step 1"):
        bp.train_many(trainers, X, NUMBERS, epochs=4, batch_size=8, executor=executor)
    assert [state(trainers[i]) for i in (0, 2)] == [state(expected[i]) for i in (0, 2)]
    assert state(trainers[1]) == before  # the first step was refused


def test_after_a_failure_in_another_process_the_trainer_is_as_before():
    trainers = CASES["plain"].trainers()
    before = [state(trainer) for trainer in trainers]
    with pytest.raises(UserError) as caught:
        bp.train_many(trainers, X, NUMBERS, epochs=4, callback=fails, executor=Pickling())
    assert [state(trainer) for trainer in trainers] == before
    assert caught.value.args == ("a", "b") and caught.value.__notes__ == ["trainers[0]; 2 others failed too: 1, 2"]


def test_the_error_lists_all_that_failed():
    trainers = CASES["plain"].trainers(4)
    for i in (1, 3):
        trainers[i].net.params[:] = np.nan
    with pytest.raises(FloatingPointError, match=r"^trainers\[1\]: .*; 1 other failed too: 3$"):
        bp.train_many(trainers, X, NUMBERS, epochs=1)


def test_what_cannot_be_sent_is_refused():
    trainers = [bp.Trainer(mlp(0), lambda outputs, targets, weight: own_mse(outputs, targets, weight))]
    with pytest.raises((AttributeError, pickle.PicklingError), match=r"trainers\[0\]: .*pickle"):
        bp.train_many(trainers, X, NUMBERS, epochs=1, executor=Pickling())


ONE = bp.Trainer(mlp(0), "mse")
MISTAKES = {
    "no list": ((ONE, X, NUMBERS), {}, TypeError, "trainers must be a list of bp.Trainer, not Trainer"),
    "empty": (([], X, NUMBERS), {}, ValueError, "trainers is empty"),
    "a network": (([mlp(0)], X, NUMBERS), {}, TypeError, r"trainers\[0\] must be a bp.Trainer"),
    "twice": (([ONE, ONE], X, NUMBERS), {}, ValueError, r"trainers\[0\] and trainers\[1\] train the same network; give each its own"),
    "one network": (([ONE, bp.Trainer(ONE.net, "mse")], X, NUMBERS), {}, ValueError, "train the same network"),
    "executor": (([ONE], X, NUMBERS), {"executor": 4}, TypeError, "executor must be a concurrent.futures.Executor or None, not 4"),
    "argument": (([ONE], X, NUMBERS), {"batchsize": 4}, TypeError, "fit has no argument 'batchsize'; did you mean 'batch_size'"),
    "checkpoint": (([ONE], X, NUMBERS), {"checkpoint": "a"}, ValueError, "checkpoint names one file"),
    "fewer data": (([ONE], [X, X], [NUMBERS, NUMBERS]), {}, ValueError, "so X must be a list of 1, not a list of 2"),
    "fewer targets": (([ONE], [X], [NUMBERS, NUMBERS]), {}, ValueError, "so y must be a list of 1, not a list of 2"),
    "targets of all": (([ONE], [X], NUMBERS), {}, ValueError, r"so y must be a list of 1, not an array of shape \(60, 2\)"),
    "iterator": (([ONE, bp.Trainer(mlp(1), "mse")], iter(chunks())), {}, ValueError, "an iterator can be read only once"),
    "streams": (([ONE], [chunks, chunks]), {}, ValueError, "so X must be a list of 1, not a list of 2"),
    "wrong value": (([ONE], X, NUMBERS), {"batch_size": 0}, ValueError, r"trainers\[0\]: batch_size must be at least 1"),
    "wrong shape": (([ONE], X[:, :2], NUMBERS), {}, ValueError, r"trainers\[0\]: X has"),
    "rows of none": (
        ([ONE], X, NUMBERS),
        {"rows": [[1], [2]]},
        ValueError,
        "rows must be a list of 1, the row indices of each trainer, not",
    ),
    "no list of rows": (([ONE], X, NUMBERS), {"rows": 3}, ValueError, "rows must be a list of 1, the row indices of each trainer, not 3"),
    "ragged": (([ONE], [[1.0], [1.0, 2.0]], NUMBERS), {}, ValueError, r"trainers\[0\]: X cannot be read"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_refused(name):
    arguments, options, error, text = MISTAKES[name]
    before = state(ONE)
    with pytest.raises(error, match=text):
        bp.train_many(*arguments, epochs=1, **options)
    assert state(ONE) == before


def test_every_argument_of_fit_is_passed_on():
    """With its default, each argument of fit is accepted; fit itself checks the values."""
    defaults = {name: one.default for name, one in inspect.signature(bp.Trainer.fit).parameters.items() if one.default is not one.empty}
    del defaults["y"]
    assert len(bp.train_many(CASES["plain"].trainers(1), X, NUMBERS, epochs=1, **defaults)) == 1


# ---- Ctrl-C ----


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}], ids=["epochs", "updates"])
def test_ctrl_c_in_one_thread_ends_all(options):
    """A callback that raises KeyboardInterrupt stands for Ctrl-C in the main thread."""
    trainers = CASES["plain"].trainers(6)

    def interrupts(record):
        if record.epoch == 5:
            raise KeyboardInterrupt

    with ThreadPoolExecutor(3) as executor:
        with pytest.raises(KeyboardInterrupt):
            bp.train_many(trainers, X, NUMBERS, epochs=10**9, callback=interrupts, executor=executor, **options)
        for trainer in trainers:
            trainer.fit(X, NUMBERS, epochs=1, progress=False)  # no thread trains it any more
            again = executor.submit(trainer.fit, X, NUMBERS, epochs=1, progress=False)
            assert again.exception() is None  # the threads can train again
            assert len(trainer.history["loss"]) == trainer.epoch


INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
import microbp as bp

signal.signal(signal.SIGINT, signal.default_int_handler)  # the parent process may ignore it
x = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32)
trainers = [bp.Trainer(bp.mlp([64, 1024, 1024, 8], seed=seed), "mse") for seed in range(4)]  # an epoch takes seconds
trains = threading.Event()

def interrupt():
    trains.wait()
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    bp.train_many(trainers, x, x[:, :8], epochs=10, schedule=lambda step: trains.set() or 0.001)
except KeyboardInterrupt:
    pass
else:
    sys.exit("no KeyboardInterrupt")
assert threading.active_count() == 1
for t in trainers:
    assert np.isfinite(t.net.params).all() and t.epoch == 0 and not t.history
    t.fit(x[:64], x[:64, :8], epochs=1, progress=False)
print("done")
"""


def test_ctrl_c_ends_all_threads_within_an_epoch():
    run = subprocess.run([sys.executable, "-P", "-c", INTERRUPTED], capture_output=True, text=True, timeout=60, check=False)
    assert run.stdout == "done\n", run.stderr
