"""Schedules of dropout, weight decay and other numbers in fit and epochs, and t.dropout, in both backends."""

import copy
import functools
import json
import pickle
import re

import numpy as np
import pytest
from cases import own_mse
from optimizer_cases import OPTIMIZERS

import microbp as bp
from microbp.training import trainer_file

RNG = np.random.default_rng(3)
X, HELD_OUT = RNG.normal(size=(2, 23, 3))
Y, RIGHT = np.sin(X[:, :2]), np.sin(HELD_OUT[:, :2])
UPDATES = 5  # of an epoch, with 5 rows each
ENCODE = trainer_file.encode


def make(backend="compiled", loss="mse", optimizer=None, rate=0.4, dtype="float64"):
    """A trainer of a net with two dropout nodes, one of which shares its operand. rate: None: the same net without dropout."""
    x, drop = bp.Input(3), (lambda node: node) if rate is None else bp.Dropout(rate)
    h = bp.Dense(6, activation="tanh")(x)
    net = bp.Network(x, bp.Dense(2)(bp.concat([drop(h), drop(x), h])), dtype=dtype, seed=1, backend=backend)
    return bp.Trainer(net, loss, optimizer or bp.AdamW(lr=0.05), seed=2)


def whole(t):
    """All that training changes."""
    history = {name: values for name, values in t.history.items() if name != "seconds"}
    vectors = [t.net.params, t.grads, *t.state.values()]
    return [vector.tobytes() for vector in vectors], t.lr, t.dropout, t.weight_decay, t.steps, t.epoch, history


# ---- what fit does ----

WAYS = {
    "one call": {},
    "custom loss": {"loss": own_mse},
    "micro-batches": {"accumulate": 2, "batch_size": 3},
    "callback": {"batch_callback": lambda record: None},
    "stream": {"stream": True},
}
SCHEDULES = {  # given, and the same with the length of a fit of 6 epochs
    "no length": (bp.Cosine(0.5), lambda updates: bp.Cosine(0.5, steps=6 * updates)),
    "waves": (bp.CosLog(0.5), lambda updates: bp.CosLog(0.5, steps=6 * updates)),
    "warm-up": (bp.Warmup(bp.Cosine(0.5), steps=7), lambda updates: bp.Warmup(bp.Cosine(0.5, steps=6 * updates - 7), steps=7)),
    "length": (bp.Polynomial(0.5, steps=9), lambda updates: bp.Polynomial(0.5, steps=9)),
    "text": ("exponential(lr=0.5,decay=0.1)", lambda updates: bp.Exponential(0.5, decay=0.1)),
    "constant": (bp.Constant(0.5), lambda updates: bp.Constant(0.5)),
    "function": (lambda step: 0.5 / (1 + step), lambda updates: lambda step: 0.5 / (1 + step)),
}


def fit(t, epochs, stream=False, **options):
    data = ([(X[:9], Y[:9]), (X[9:], Y[9:])],) if stream else (X, Y)
    return t.fit(*data, epochs=epochs, **{"batch_size": 5} | options)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", SCHEDULES)
def test_fit_sets_the_numbers_at_the_start_of_each_epoch(backend, way, kind):
    options, (given, with_length) = dict(WAYS[way]), SCHEDULES[kind]
    loss = options.pop("loss", "mse")
    t, by_hand, constant = (make(backend, loss) for _ in range(3))
    fit(t, 6, schedules={"dropout": given, "weight_decay": given}, **options)
    value = with_length(t.steps // 6)
    for _ in range(6):
        by_hand.dropout = by_hand.weight_decay = value(by_hand.steps)
        fit(by_hand, 1, **options)
    fit(constant, 6, **options)
    assert whole(t) == whole(by_hand)
    assert t.dropout == t.weight_decay == value(5 * (t.steps // 6))
    assert (t.net.params != constant.net.params).any()


@pytest.mark.parametrize("kind", ["length", "text", "constant", "function"])
def test_epochs_and_fit_agree(backend, kind):
    fitted, looped = make(backend), make(backend)
    schedules = {"dropout": SCHEDULES[kind][0], "weight_decay": SCHEDULES[kind][0]}
    fit(fitted, 4, schedules=schedules)
    for record in looped.epochs(X, Y, batch_size=5, schedules=schedules):
        if record.epoch == 4:
            break
    assert whole(fitted) == whole(looped)


def changing(name, value):
    """A function that starts at the value and stays in its range."""
    return lambda step: value * (1 - step / 200) if value else step / 1000


@pytest.mark.parametrize("spec", [entry.spec for entry in OPTIMIZERS.values()])
def test_every_number_of_every_optimizer_can_change(spec, tmp_path):
    """The backends agree, and an interrupted fit continues bit for bit."""
    ends = []
    for backend in ("compiled", "reference"):
        t = make(backend, optimizer=spec)
        schedules = {name: changing(name, value) for name, value in t._engine.numbers.items()}
        fit(t, 2, schedules=schedules)
        t.save(tmp_path / "run")
        loaded = bp.Trainer.load(tmp_path / "run", backend=backend)
        for one in (t, loaded):
            fit(one, 2, schedules=schedules)
        assert whole(t) == whole(loaded)
        assert t._engine.numbers == {name: function(3 * UPDATES) for name, function in schedules.items()}
        ends.append(t.net.params)
    np.testing.assert_allclose(*ends, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("schedule", [None, bp.Cosine(0.05)], ids=["lr", "lr schedule"])
@pytest.mark.parametrize("patience", [2, 30])
@pytest.mark.parametrize("pauses", [(1,), (2, 5), (7,)])
def test_a_script_that_loads_and_fits_can_be_started_again(backend, schedule, patience, pauses, tmp_path):
    schedules = {"weight_decay": bp.Cosine(0.5), "dropout": bp.CosLog(1), "eps": bp.Exponential(1e-3, decay=0.01)}
    options = {"validation": (HELD_OUT, RIGHT), "patience": patience, "schedules": schedules}
    uninterrupted, path = make(backend), tmp_path / "run"
    fit(uninterrupted, 9, schedule=schedule, **options)

    def pause(record, epoch):
        if record.epoch == epoch:
            raise KeyboardInterrupt

    for epoch in (*pauses, 100, 101):
        t = bp.Trainer.load(path, backend=backend) if path.exists() else make(backend)
        try:
            stop = functools.partial(pause, epoch=epoch)
            fit(t, 9 - t.epoch, schedule=t.schedule or schedule, checkpoint=path, callback=stop, **options)
        except KeyboardInterrupt:
            pass
    assert whole(t) == whole(uninterrupted)
    assert whole(bp.Trainer.load(path, backend=backend)) == whole(uninterrupted)


def test_early_stopping_restores_the_numbers_of_the_best_epoch(backend):
    t, seen = make(backend), []
    schedules = {"weight_decay": bp.Constant(3.0), "dropout": lambda step: 1 / (1 + step), "eps": lambda step: 1e-3 / (1 + step)}
    options = {"validation": (HELD_OUT, RIGHT), "patience": 3, "schedules": schedules}
    fit(t, 60, callback=lambda record: seen.append(t._engine.numbers), **options)
    assert t.epoch == len(seen) - 3
    assert t._engine.numbers == seen[t.epoch - 1] != seen[-1]


# ---- what is refused ----

REFUSED = [
    (3, TypeError, r'schedules must be a dict such as \{"weight_decay": bp\.Cosine\(0\.02\)\}, or None, not 3$'),
    ([("dropout", "cosine(lr=1)")], TypeError, "schedules must be a dict"),
    ({"lr": bp.Cosine(0.1)}, ValueError, r'schedules: "lr" has its own argument of fit, schedule=bp\.Cosine'),
    ({"weight_decy": bp.Cosine(0.1)}, ValueError, "number of a trainer with adamw .* 'weight_decy'; did you mean 'weight_decay'"),
    ({"momentum": bp.Cosine(0.1)}, ValueError, "unknown number .* 'momentum'; valid: dropout, eps, weight_decay$"),
    ({3: bp.Cosine(0.1)}, ValueError, "unknown number .* 3; valid: dropout"),
    ({"beta1": bp.Cosine(0.1)}, ValueError, "beta1 must be the same in all updates of adamw; numbers that may change: dropout, eps"),
    ({"decay_bias": bp.Cosine(0.1)}, ValueError, "decay_bias must be the same in all updates of adamw"),
    ({"dropout": 0.5}, TypeError, r"dropout must be a schedule such as bp\.Cosine\(0\.02\), its text, or a function, not 0\.5"),
    ({"dropout": bp.Cosine}, TypeError, r"dropout must be a schedule .*\(add parentheses: bp\.Cosine"),
    ({"dropout": "cosin(lr=1)"}, ValueError, "unknown schedule 'cosin'; did you mean 'cosine'"),
    ({"dropout": bp.ReduceOnPlateau(1, monitor="loss")}, ValueError, "dropout cannot follow the records of epochs, as ReduceOnPlateau"),
    ({"dropout": lambda step: "x"}, TypeError, "schedules: epoch 1: dropout must be a number, not 'x'"),
    ({"dropout": lambda step: 1 / step}, ZeroDivisionError, "division by zero"),
    ({"dropout": bp.Constant(1.5)}, ValueError, r"schedules: epoch 1: dropout must be in \[0,1\], not 1\.5$"),
    ({"weight_decay": bp.Constant(0.3), "dropout": lambda step: -1}, ValueError, r"schedules: epoch 1: dropout must be in \[0,1\], not -1"),
    ({"dropout": bp.Constant(0.3), "weight_decay": lambda step: -0.5}, ValueError, r": weight_decay must be in \[0,inf\), not -0\.5$"),
    ({"weight_decay": lambda step: float("nan")}, ValueError, r"weight_decay must be in \[0,inf\), not nan$"),
]  # fmt: skip


@pytest.mark.parametrize(("schedules", "error", "words"), REFUSED, ids=range(len(REFUSED)))
@pytest.mark.parametrize("call", ["fit", "epochs"])
def test_wrong_schedules_change_nothing(backend, call, schedules, error, words):
    t = make(backend)
    before = whole(t)
    with pytest.raises(error, match=words):
        fit(t, 1, schedules=schedules) if call == "fit" else next(t.epochs(X, Y, schedules=schedules))
    assert whole(t) == before


@pytest.mark.parametrize("schedule", [bp.Cosine(0.5), bp.CosLog(0.5), bp.Warmup(bp.Cosine(0.5), steps=3), "one_cycle(lr=0.5)"], ids=str)
def test_a_loop_without_an_end_needs_a_schedule_with_a_length(schedule):
    with pytest.raises(ValueError, match=r"weight_decay: a loop over epochs has no end, so the schedule needs steps="):
        make().epochs(X, Y, schedules={"weight_decay": schedule})


def test_a_later_epoch_that_is_refused_is_named(backend):
    t, short = make(backend), make(backend)
    with pytest.raises(ValueError, match=r"schedules: epoch 4: dropout must be in \[0,1\], not 1\.5"):
        fit(t, 6, schedules={"weight_decay": lambda step: step / 100, "dropout": lambda step: step / 10})
    fit(short, 3, schedules={"weight_decay": lambda step: step / 100, "dropout": lambda step: step / 10})
    assert whole(t) == whole(short)


def test_a_fit_without_an_update_leaves_the_numbers_as_they_were(backend):
    t = make(backend)
    with pytest.raises(FloatingPointError):
        t.fit(X, Y * np.nan, epochs=2, schedules={"weight_decay": bp.Constant(0.5), "dropout": bp.Constant(0.5)})
    assert (t.steps, t.dropout, t.weight_decay) == (0, 1, 0.01)


# ---- the factor of the dropout rates ----


@pytest.mark.parametrize("rate", [0.5, 0.25, 0.9])
@pytest.mark.parametrize("factor", [0, 0.125, 0.5, 1])
def test_a_factor_gives_the_bits_of_the_product_of_factor_and_rate(backend, dtype, rate, factor):
    """Also in parts of a step, and with a factor of 0 the bits of a net without dropout."""
    t, others = make(backend, rate=rate, dtype=dtype), [make(backend, rate=rate * factor, dtype=dtype)]
    others += [make(backend, rate=None, dtype=dtype)] * (factor == 0)
    t.dropout = factor
    for one in (t, *others):
        one.step(X, Y)
        one.backward(X[:9], Y[:9], total=23, input_grads=True)
        one.backward(X[9:], Y[9:], total=23, first_row=9, accumulate=True)
        one.apply()
        fit(one, 2)
    for other in others:
        for a, b in ((t.net.params, other.net.params), (t.grads, other.grads), *zip(t.state.values(), other.state.values(), strict=True)):
            assert a.tobytes() == b.tobytes()
    assert t.evaluate(X, Y) == others[0].evaluate(X, Y)


@pytest.mark.parametrize("factor", [0, 0.3, 1])
def test_gradients_are_checked_with_the_factor(backend, factor):
    t, other = make(backend), make(backend, rate=0.4 * factor)
    t.dropout = factor
    found, expected = t.check_gradients(X, Y), other.check_gradients(X, Y)
    assert found.error < 1e-6
    assert found == expected


def test_a_loss_of_your_own_that_changes_the_factor_gets_the_gradients_of_its_outputs(backend):
    def loss(outputs, targets, weight):
        t.dropout = 1 - t.dropout
        return own_mse(outputs, targets, weight)

    t, plain = make(backend, loss), make(backend, own_mse)
    for one in (t, plain):
        one.backward(X, Y)
    assert t.dropout == 0
    assert t.grads.tobytes() == plain.grads.tobytes()


TWINS = {
    "copy": lambda t, path: copy.copy(t),
    "deepcopy": lambda t, path: copy.deepcopy(t),
    "pickle": lambda t, path: pickle.loads(pickle.dumps(t)),
    "file": lambda t, path: t.save(path) or bp.Trainer.load(path, backend=t.net.backend),
}


@pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)
def test_copies_and_files_keep_the_numbers(backend, twin, tmp_path):
    t = make(backend)
    t.dropout, t.weight_decay = 0.375, 1 / 3
    other = twin(t, tmp_path / "run")
    for _ in range(2):
        assert (other.dropout, other.weight_decay) == (0.375, 1 / 3)
        other.reset()  # which keeps them, as it keeps lr


@pytest.mark.parametrize("lost", [["dropout"], ["dropout", "weight_decay", "eps"], None], ids=str)
def test_files_of_earlier_versions_have_no_numbers(backend, lost, tmp_path, monkeypatch):
    """They load with the numbers of a new trainer, also as those of the best epoch. lost: None: there is no entry at all."""

    def encode(net, state):
        text, vectors = ENCODE(net, state)
        lines = dict(line.split("=", 1) for line in text.splitlines())
        best = json.loads(lines["python.best"])
        for name in lost or best["snapshot"]["numbers"]:
            lines.pop(name, None)  # dropout
            lines["optimizer"] = re.sub(rf",{name}=[^,)]*", "", lines["optimizer"])
        if lost is None:
            del best["snapshot"]["numbers"]
        for name in lost or ():
            del best["snapshot"]["numbers"][name]
        lines["python.best"] = json.dumps(best)
        return "".join(f"{key}={value}\n" for key, value in lines.items()), vectors

    def save(record):
        if record.epoch == 4:
            t.save(tmp_path / "new")
            with monkeypatch.context() as earlier:
                earlier.setattr(trainer_file, "encode", encode)
                t.save(tmp_path / "old")

    t, options = make(backend), {"validation": (HELD_OUT, RIGHT), "patience": 9}
    fit(t, 9, callback=save, **options)
    old, new = (bp.Trainer.load(tmp_path / name, backend=backend) for name in ("old", "new"))
    assert (old.dropout, old.weight_decay) == (1, 0.01)
    for one in (old, new):
        fit(one, 5, **options)
    assert whole(old) == whole(new)
