"""Schedules: compared with PyTorch's and with values by hand, their properties and their text; and in fit, for both backends."""

import inspect
import math
import pickle
import re
import signal
from dataclasses import MISSING, fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import microbp as bp
from microbp.settings import schedules
from microbp.settings.checkpoint import Checkpoint
from microbp.settings.schedules import Delay

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = X @ RNG.normal(size=(3, 2))
LR = 0.1

# name: (schedule, PyTorch's scheduler for an optimizer with rate LR, rates by hand)
TABLE = {
    "constant": (bp.Constant(LR), lambda t, o: t.LambdaLR(o, lambda step: 1.0), {0: 0.1, 999: 0.1}),
    "step_decay": (bp.StepDecay(LR, 10, 0.5), lambda t, o: t.StepLR(o, 10, 0.5), {0: 0.1, 9: 0.1, 10: 0.05, 25: 0.025}),
    "multi_step": (bp.MultiStep(LR, (5, 20)), lambda t, o: t.MultiStepLR(o, [5, 20]), {4: 0.1, 5: 0.01, 19: 0.01, 20: 0.001}),
    "exponential": (bp.Exponential(LR, 0.02), lambda t, o: t.ExponentialLR(o, math.exp(-0.02)), {0: 0.1, 50: 0.1 / math.e}),
    "inverse_time": (bp.InverseTime(LR, 0.1), lambda t, o: t.LambdaLR(o, lambda step: 1 / (1 + 0.1 * step)), {0: 0.1, 10: 0.05}),
    "polynomial": (bp.Polynomial(LR, 40, power=2), lambda t, o: t.PolynomialLR(o, 40, power=2), {0: 0.1, 20: 0.025, 40: 0, 90: 0}),
    "cosine": (bp.Cosine(LR, 60, 0.01), lambda t, o: t.CosineAnnealingLR(o, 60, 0.01), {0: 0.1, 30: 0.055, 60: 0.01, 90: 0.01}),
    "cosine_restarts": (
        bp.CosineRestarts(LR, 8, 2, 0.01),
        lambda t, o: t.CosineAnnealingWarmRestarts(o, 8, 2, 0.01),
        {0: 0.1, 4: 0.055, 8: 0.1, 16: 0.055, 24: 0.1, 56: 0.1},
    ),
    "cos_log": (
        bp.CosLog(LR, 150),
        lambda t, o: t.LambdaLR(o, lambda step: (1 - math.cos(2 * math.pi * math.log2(1 + step / 10))) / 2),
        {0: 0, 10: 0, 20: 0.1 * math.sin(math.pi * math.log2(3)) ** 2, 30: 0, 70: 0, 150: 0, 999: 0},
    ),
    "one_cycle": (bp.OneCycle(LR, 60), lambda t, o: t.OneCycleLR(o, LR, 60, cycle_momentum=False), {0: 0.004, 17: 0.1, 59: 4e-7, 99: 4e-7}),
    "warmup": (
        bp.Warmup(bp.Cosine(LR, 50), 10, 0.02),
        lambda t, o: t.SequentialLR(o, [t.LinearLR(o, 0.2, total_iters=10), t.CosineAnnealingLR(o, 50)], [10]),
        {0: 0.02, 5: 0.06, 10: 0.1, 35: 0.05, 60: 0},
    ),
    "delay": (Delay(bp.Polynomial(LR, 10), 5), None, {0: 0.1, 5: 0.1, 10: 0.05, 15: 0}),
    "reduce_on_plateau": (bp.ReduceOnPlateau(LR, mode="max", best=3.5, bad=2), None, {0: 0.1, 99: 0.1}),
}
SCHEDULES = {name: row[0] for name, row in TABLE.items()}


def make(backend, lr=0.01, seed=1):
    return bp.Trainer(bp.mlp([3, 4, 2], dtype="float64", seed=seed, backend=backend), "mse", bp.Adam(lr=lr))


# ---- the rates ----


def test_the_table_has_every_schedule():
    assert set(TABLE) == set(schedules.NAMED)


@pytest.mark.parametrize("name", TABLE)
def test_rates_equal_values_by_hand(name):
    schedule, _, points = TABLE[name]
    for step, rate in points.items():
        assert schedule(step) == pytest.approx(rate, rel=1e-12, abs=1e-18)


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row[1]])
@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")  # PyTorch warns about its own SequentialLR, and about schedulers that run before an optimizer step
def test_rates_equal_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    schedule, scheduler, _ = TABLE[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    other = scheduler(torch.optim.lr_scheduler, optimizer)
    for step in range(60):
        assert schedule(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-11, abs=1e-15), step
        optimizer.step()
        if step < 59:
            other.step()


@given(
    st.floats(1e-6, 10), st.integers(1, 300), st.floats(0, 1), st.integers(0, 2000), st.floats(0, 1), st.integers(1, 50), st.integers(1, 3)
)
def test_rates_stay_in_their_bounds_and_reach_their_final_value(lr, steps, end_lr, step, share, period, growth):
    end_lr *= lr
    slack = 1e-12 * lr
    falling = [bp.Polynomial(lr, steps, end_lr, power=0.5 + share), bp.Cosine(lr, steps, end_lr)]
    for schedule in falling:
        assert schedule(0) == pytest.approx(lr)
        assert schedule(steps) == schedule(steps + step) == pytest.approx(end_lr)
        assert schedule(step + 1) <= schedule(step) + slack
    for schedule in [*falling, bp.CosineRestarts(lr, period, growth, end_lr)]:
        assert end_lr - slack <= schedule(step) <= lr + slack
    assert bp.CosineRestarts(lr, period, growth, end_lr)(period) == pytest.approx(lr)
    waves = bp.CosLog(lr, steps, growth)
    assert -slack <= waves(step) <= lr + slack and waves(0) == 0
    assert waves(steps) == waves(steps + step) == pytest.approx(0, abs=slack)
    cycle = bp.OneCycle(lr, steps, share)
    assert 0 < cycle(step) <= lr + slack
    if steps - 1 > max(share * steps - 1, 0):
        assert cycle(steps - 1) == cycle(steps + step) == pytest.approx(lr / 25e4)


@pytest.mark.parametrize("cycles", [1, 2, 4, 7, 63])
def test_each_wave_of_cos_log_is_twice_as_long_as_the_one_before(cycles):
    schedule = bp.CosLog(LR, 2**cycles - 1, cycles)  # log2(1 + t)
    for wave in range(cycles):
        begin, top, end = (2.0 ** (wave + part) - 1 for part in (0, 0.5, 1))
        assert schedule.at(np.array([begin, top, end])) == pytest.approx([0, LR, 0], abs=1e-12)


@pytest.mark.parametrize("name", TABLE)
def test_a_warm_up_is_a_line_that_leads_to_any_schedule(name):
    inner = SCHEDULES[name]
    schedule = bp.Warmup(inner, 8, 0.01)
    line = [schedule(step) for step in range(9)]
    np.testing.assert_allclose(np.diff(line), (inner(0) - 0.01) / 8, rtol=1e-9)
    assert (schedule(0), schedule(8), schedule(30)) == (0.01, inner(0), inner(22))


# ---- their text ----


@pytest.mark.parametrize("name", TABLE)
def test_text_is_parsed_to_an_equal_schedule(name):
    for schedule in (SCHEDULES[name], bp.Warmup(SCHEDULES[name], 7), replace(SCHEDULES[name])):
        assert schedules.parse(schedule.text) == schedule
        assert not set(schedule.text) & set(" \n\t")
        assert pickle.loads(pickle.dumps(schedule)) == schedule


@given(st.floats(0, 1e300), st.floats(1e-300, 1), st.lists(st.integers(1, 10**18), min_size=1, unique=True), st.integers(1, 10**18))
def test_numbers_round_trip_through_schedule_text(lr, gamma, milestones, steps):
    for schedule in (
        bp.Warmup(bp.MultiStep(lr, sorted(milestones), gamma), steps, gamma),
        bp.ReduceOnPlateau(lr, monitor="r2", best=-lr, min_lr=lr * gamma),
    ):
        assert schedules.parse(schedule.text) == schedule


def test_text_needs_only_settings_without_defaults():
    assert schedules.parse("cosine(lr=0.5)") == bp.Cosine(0.5)
    assert schedules.parse("warmup(steps=3, schedule=cosine_restarts(lr=1, period=4))") == bp.Warmup(bp.CosineRestarts(1, 4), 3)
    assert schedules.parse("multi_step(lr=0.5,milestones=30)") == bp.MultiStep(0.5, 30)
    assert bp.Cosine(lr=np.float32(0.5), steps=np.int64(3)).text == "cosine(lr=0.5,steps=3,end_lr=0.0)"


@pytest.mark.parametrize(
    ("make_it", "error", "words"),
    [
        (lambda: bp.Constant(-1), ValueError, r"Constant: lr must be in \[0,inf\), not -1"),
        (lambda: bp.Constant(math.nan), ValueError, "lr must be in .*, not nan"),
        (lambda: bp.Constant("much"), TypeError, "lr must be a number"),
        (lambda: bp.Cosine(0.1, 0), ValueError, "steps must be at least 1"),
        (lambda: bp.Cosine(0.1, 2.5), TypeError, "steps must be a whole number"),
        (lambda: bp.CosLog(0.1, 9, 0), ValueError, "CosLog: cycles must be at least 1, not 0"),
        (lambda: bp.CosLog(0.1, 9, 64), ValueError, r"CosLog: cycles must be below 2\*\*6, not 64"),
        (lambda: bp.CosLog(0.1, 9, 2.0), TypeError, "CosLog: cycles must be a whole number"),
        (lambda: bp.CosLog(0.1, 9)(-1), ValueError, "CosLog: the number of updates must be at least 0, not -1"),
        (lambda: bp.InverseTime(0.1, 1).rates(range(-3, 5)), ValueError, "InverseTime: the number of updates must be at least 0, not -3"),
        (lambda: bp.Cosine(0.1)(3), ValueError, "Cosine has no length: pass steps="),
        (lambda: bp.StepDecay(0.1, 5, 2), ValueError, "gamma"),
        (lambda: bp.MultiStep(0.1, (5, 5)), ValueError, "increasing"),
        (lambda: bp.MultiStep(0.1, ()), ValueError, "increasing"),
        (lambda: bp.OneCycle(0.1, 5, 1.5), ValueError, "pct_start"),
        (lambda: bp.Warmup(0.1, 5), TypeError, "schedule must be a schedule"),
        (lambda: bp.ReduceOnPlateau(0.1, monitor="val loss"), ValueError, "name of a record"),
        (lambda: bp.ReduceOnPlateau(0.1, monitor="beauty"), ValueError, "mode="),
        (lambda: bp.ReduceOnPlateau(0.1, mode="up"), ValueError, "mode is .up."),
        (lambda: bp.ReduceOnPlateau(0.1, factor=1), ValueError, "factor"),
        (lambda: schedules.parse("cosin(lr=1)"), ValueError, "did you mean 'cosine'"),
        (lambda: schedules.parse("cosine(lr=1,step=3)"), ValueError, "did you mean 'steps'"),
        (lambda: schedules.parse("cosine"), ValueError, "needs lr="),
        (lambda: schedules.parse("cosine(lr=1"), ValueError, r"must end with '\)'"),
        (lambda: schedules.parse("cosine(lr=x)"), TypeError, "lr must be a number"),
        (lambda: schedules.parse("warmup(schedule=3,steps=1)"), TypeError, "schedule must be a schedule"),
    ],
)
def test_wrong_settings_are_refused(make_it, error, words):
    with pytest.raises(error, match=words):
        make_it()


# ---- many rates at once ----


class Halved(bp.Cosine):
    """A schedule of one's own, derived from another one."""

    def __call__(self, step):
        assert type(step) is int
        return super().__call__(step) / 2


@pytest.mark.parametrize(
    "schedule", [*SCHEDULES.values(), bp.OneCycle(LR, 1), bp.OneCycle(LR, 20, 1.0), Halved(LR, 60), bp.Warmup(Halved(LR, 50), 10)], ids=repr
)
def test_many_rates_are_those_of_one_call_each_bit_for_bit(schedule):
    for steps in (range(100), range(7, 90, 3), [0, 10**6, 2**40, 2**53 + 1, 2**62], [5, 5, 0], []):
        rates = schedule.rates(steps)
        assert rates.dtype == np.float64 and rates.tolist() == [schedule(step) for step in steps]
    if type(schedule) is not Halved:
        assert bp.Warmup(schedule, 3).rates(range(50)).tolist() == [bp.Warmup(schedule, 3)(step) for step in range(50)]


def test_fit_uses_the_schedule_of_a_subclass_and_calls_functions_one_by_one(backend):
    seen, calls = [], []
    t = make(backend)
    t.fit(X, Y, epochs=1, batch_size=len(X) // 3, schedule=Halved(LR, 60), batch_callback=lambda record: seen.append(record.lr))
    assert seen == [Halved(LR, 60)(step) for step in range(len(seen))]
    t.fit(X, Y, epochs=1, batch_size=len(X) // 3, schedule=lambda step: calls.append(step) or 0.01)
    assert calls == list(range(len(seen), 2 * len(seen)))


# ---- reduction on a plateau ----


@pytest.mark.peers
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("options", [{}, {"patience": 0}, {"patience": 2, "cooldown": 3, "threshold": 0.05}, {"min_lr": 0.02}])
def test_plateaus_equal_pytorch(mode, options):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    other = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, factor=0.5, eps=0, **options)
    schedule = bp.ReduceOnPlateau(LR, 0.5, monitor="mine", mode=mode, **options)
    values = np.random.default_rng(3).uniform(1, 2, 80)
    for epoch, value in enumerate([*values, math.nan, math.nan, 1.5]):
        schedule = schedule.after({"mine": value})
        other.step(value)
        assert schedule(epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        schedule = schedules.parse(schedule.text)
    assert schedule(0) < LR


@pytest.mark.parametrize("kind", schedules.KINDS)
def test_help_has_the_default_of_each_setting(kind):
    for setting in fields(kind):
        if setting.default is not MISSING and setting.name not in ("best", "bad", "rest"):
            (text,) = re.findall(rf"^{setting.name}: (.+(?:\n(?!\w+: ).+)*)", inspect.getdoc(kind), re.MULTILINE)
            ((plain, none),) = re.findall(r'([^\s"]+)"? (?:by default|\(the default\))|(None), the default', text)
            assert str(setting.default) == (plain or none) or setting.default == float(plain)


def test_the_threshold_of_a_plateau_holds_for_negative_values():
    """An improvement of -1 by a thousandth is -1.001, not -0.999."""
    schedule = bp.ReduceOnPlateau(LR, patience=0, threshold=1e-3, best=-1, monitor="loss")
    assert schedule.after({"loss": -0.9995})(0) == pytest.approx(LR / 10)
    assert schedule.after({"loss": -1.002})(0) == LR


def test_a_plateau_in_fit_follows_the_record(backend):
    t = make(backend)
    history = t.fit(X, Y, epochs=12, batch_size=20, schedule=bp.ReduceOnPlateau(0.05, 0.5, patience=1, threshold=0.3, monitor="loss"))
    schedule, expected = bp.ReduceOnPlateau(0.05, 0.5, patience=1, threshold=0.3, monitor="loss"), []
    for loss in history["loss"]:
        expected.append(schedule(0))
        schedule = schedule.after({"loss": loss})
    assert history["lr"] == expected
    assert expected[-1] < 0.05
    assert t.schedule == schedule


# ---- in fit ----


def fresh(name):
    """The schedule of a row, ready for fit."""
    return replace(SCHEDULES[name], monitor="loss", mode=None, best=None) if name == "reduce_on_plateau" else SCHEDULES[name]


@pytest.mark.parametrize("name", TABLE)
def test_fit_gives_the_same_result_for_objects_text_and_functions(backend, name):
    schedule = fresh(name)
    nets = []
    for form in (schedule, schedule.text, lambda step: schedule(step)):
        t = make(backend)
        t.fit(X, Y, epochs=2, batch_size=16, schedule=form)
        nets.append(t.net.params.copy())
        assert t.lr == schedule(5)
    np.testing.assert_array_equal(nets[0], nets[1])
    np.testing.assert_array_equal(nets[0], nets[2])


def test_an_epoch_of_a_backend_does_not_change_the_rate(backend):
    t = make(backend, lr=0.25)
    t._engine._core.epoch(X, Y, None, None, 16, np.array([0.1, 0.2, 0.3]))
    assert (t.lr, t.steps) == (0.25, 3)
    with pytest.raises(ValueError, match="lr"):
        t._engine._core.epoch(X, Y, None, None, 16, np.array([0.1, 0.2, -0.3]))
    assert (t.lr, t.steps) == (0.25, 3)
    with pytest.raises(FloatingPointError):
        t._engine._core.epoch(1e300 * X, Y, None, None, 16, np.array([0.1, 0.2, 0.3]))
    assert t.lr == 0.25


@pytest.mark.parametrize("stops", [None, lambda record: record.steps == 4])
def test_the_last_used_rate_is_kept(backend, stops):
    t = make(backend)
    rate = bp.Exponential(0.1, 0.02)
    t.fit(X, Y, epochs=2, batch_size=16, schedule=rate, batch_callback=stops)
    assert t.lr == rate(t.steps - 1) and t.steps == (4 if stops else 6)
    assert t.history["lr"] == [rate(2), rate(t.steps - 1)]


def test_the_rate_of_a_diverging_step_is_kept_and_reported(backend):
    """The failed step has used its rate too. All rates differ from the trainer's rate before fit."""
    t, x = make(backend), X.copy()
    x[20] = 1e300
    t.step(X, Y)
    rates = [1.0, 0.5, 0.25, 0.125]
    with pytest.raises(FloatingPointError, match=r"epoch 1, step 3\).*now 0\.25\)"):
        t.fit(x, Y, epochs=1, batch_size=16, shuffle=False, schedule=rates.__getitem__)
    assert (t.lr, t.steps) == (0.25, 2)


def interrupt_by_signal(t):
    """C checks for signals every 50 ms of an epoch."""

    def handler(*_):
        if t.steps:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)


def interrupt_by_hand(t):
    """Interrupts the reference in its third step; a signal would interrupt it anywhere."""
    update = t._engine._core._update

    def interrupted():
        if t.steps == 2:
            raise KeyboardInterrupt
        update()

    t._engine._core._update = interrupted


@pytest.mark.parametrize(
    ("backend", "rows", "interrupt"), [("compiled", 300_000, interrupt_by_signal), ("reference", 9, interrupt_by_hand)]
)
def test_an_interrupted_epoch_keeps_its_last_rate(backend, rows, interrupt):
    t, x, before = make(backend), np.zeros((rows, 3)), signal.getsignal(signal.SIGALRM)
    interrupt(t)
    try:
        with pytest.raises(KeyboardInterrupt):
            t.fit(x, x[:, :2], epochs=1, batch_size=1, schedule=lambda step: 0.5 / (1 + step))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert 0 < t.steps < rows
    assert t.lr == 0.5 / t.steps


@pytest.mark.parametrize("schedule", [*map(fresh, TABLE), bp.Cosine(0.1), bp.OneCycle(0.1), bp.Warmup(bp.Polynomial(0.1), 3)], ids=repr)
def test_a_schedule_continues_from_a_checkpoint(backend, schedule, tmp_path):
    """A fit of 6 epochs is interrupted in the fourth, and continued from its checkpoint."""
    once, stopped, steps = make(backend), make(backend), []
    once.fit(X, Y, epochs=6, batch_size=16, schedule=schedule)

    def stop(record):
        steps.append(record.lr)
        if len(steps) == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.fit(X, Y, epochs=6, batch_size=16, schedule=schedule, batch_callback=stop, checkpoint=Checkpoint(tmp_path / "run", every=9))
    resumed = bp.Trainer.load(tmp_path / "run", backend=backend)
    assert resumed.epoch == stopped.epoch == 3
    resumed.fit(X, Y, epochs=3, batch_size=16, schedule=resumed.schedule)
    np.testing.assert_array_equal(resumed.net.params, once.net.params)
    assert resumed.history["lr"] == once.history["lr"] and resumed.schedule == once.schedule


@pytest.mark.parametrize("schedule", [bp.Cosine(0.1, end_lr=0.01), bp.OneCycle(0.1), bp.Polynomial(0.1), bp.Warmup(bp.Cosine(0.1), 3)])
def test_a_schedule_without_steps_lasts_as_long_as_the_fit(backend, schedule):
    """Each fit of 3 epochs of 3 updates runs through the schedule once."""
    t = make(backend)
    expected = [schedule.over(9)(step) for step in range(9)]
    for _ in range(2):
        rates = []
        t.fit(X, Y, epochs=3, batch_size=16, schedule=schedule, batch_callback=lambda record, rates=rates: rates.append(record.lr))
        assert rates == expected
    assert t.schedule == Delay(schedule.over(9), 9)
    assert schedules.parse(t.schedule.text) == t.schedule


@pytest.mark.parametrize("schedule", [bp.Cosine(0.05, 12), bp.Warmup(bp.StepDecay(0.05, 3), 4), "one_cycle(lr=0.1,steps=12)"])
def test_a_schedule_continues_where_fit_stopped(backend, schedule):
    once, twice = make(backend), make(backend)
    once.fit(X, Y, epochs=4, batch_size=16, schedule=schedule)
    twice.fit(X, Y, epochs=1, batch_size=16, schedule=schedule)
    twin = pickle.loads(pickle.dumps(twice))
    assert twin.schedule == twice.schedule
    twin.fit(X, Y, epochs=3, batch_size=16, schedule=twin.schedule)
    np.testing.assert_array_equal(once.net.params, twin.net.params)


def test_a_plateau_continues_where_fit_stopped(backend):
    once, twice = make(backend), make(backend)
    schedule = bp.ReduceOnPlateau(0.05, 0.5, patience=1, threshold=0.3)
    once.fit(X, Y, epochs=9, validation=0.25, schedule=schedule)
    twice.fit(X, Y, epochs=4, validation=0.25, schedule=schedule)
    twin = pickle.loads(pickle.dumps(twice))
    twin.fit(X, Y, epochs=5, validation=0.25, schedule=twin.schedule.text)
    np.testing.assert_array_equal(once.net.params, twin.net.params)
    assert once.lr == twin.lr < 0.05


def test_the_trainer_has_no_schedule_after_a_function_or_a_reset(backend):
    t = make(backend)
    assert t.schedule is None
    t.fit(X, Y, epochs=1, schedule=bp.Constant(0.1))
    t.fit(X, Y, epochs=1)
    assert t.schedule == bp.Constant(0.1)
    t.fit(X, Y, epochs=1, schedule=lambda step: 0.1)
    assert t.schedule is None
    t.fit(X, Y, epochs=1, schedule="constant(lr=0.1)")
    t.reset()
    assert t.schedule is None


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("cosine(lr=-1)", "lr"),
        (bp.ReduceOnPlateau(0.1), "validation="),
        (bp.ReduceOnPlateau(0.1, monitor="r2"), "the schedule monitors .r2., which is not a metric of this fit; add metrics=.r2."),
    ],
)
def test_fit_refuses_a_schedule_before_anything_changes(backend, schedule, words):
    t = make(backend)
    before = t.net.params.copy()
    with pytest.raises(ValueError, match=words):
        t.fit(X, Y, epochs=1, schedule=schedule)
    np.testing.assert_array_equal(t.net.params, before)
    assert (t.steps, t.schedule, t.history) == (0, None, {})
