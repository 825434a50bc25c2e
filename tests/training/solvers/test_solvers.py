"""Every solver: the same in both backends, never a worse point, what it refuses, copies and files, fit; the iterates of L-BFGS."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from cases import SOLVERS

import microbp as bp
from microbp.core.specs import table
from microbp.training.engine import penalties

ROWS = 30
CASES = {  # loss, sizes, options of layers, options of the trainer
    "a quadratic": ("mse", [6, 2], {}, {}),
    "tanh": ("mse", [3, 5, 1], {"activation": "tanh"}, {}),
    "l2": ("half_sse", [3, 4, 2], {"activation": "tanh", "l2": 0.01}, {}),
    "l2 by row": ("mse", [3, 4, 2], {"activation": "tanh", "l2": 0.1}, {"penalty_per_row": True}),
    "classes": ("cross_entropy", [4, 6, 3], {"activation": "sigmoid"}, {}),
    "two layers": ("bce", [3, 6, 4, 2], {"activation": "softplus"}, {}),
}
BACKENDS = ["compiled", "reference"]
SETTINGS = {
    "lbfgs": bp.LBFGS(), "scg": bp.SCG(), "levenberg_marquardt": bp.LevenbergMarquardt(),
    "bayesian_regularization": bp.BayesianRegularization(),
}  # fmt: skip
# How near the losses of both backends are after 5 steps, in float64 and float32.
CLOSE = {"lbfgs": (1e-10, 1e-4), "scg": (1e-8, 0.03), "levenberg_marquardt": (1e-9, 0.01), "bayesian_regularization": (1e-8, 0.03)}
MINIMIZERS = [name for name in SOLVERS if name != "bayesian_regularization"]  # whose loss may rise, as it finds its own penalty
PAIRS = [(solver, case) for solver in SOLVERS for case in CASES if solver in MINIMIZERS or "l2" not in CASES[case][2]]

every_minimizer = pytest.mark.parametrize("solver", MINIMIZERS)
every_solver = pytest.mark.parametrize("solver", SOLVERS)


def network(sizes, backend, dtype="float64", seed=0, activation=None, **options):
    x = h = bp.Input(sizes[0])
    for units in sizes[1:-1]:
        h = bp.Dense(units, activation, **options)(h)
    return bp.Network(x, bp.Dense(sizes[-1], **options)(h), dtype=dtype, seed=seed, backend=backend)


def data(loss, sizes, rows=ROWS):
    random = np.random.default_rng(1)
    x = random.normal(size=(rows, sizes[0]))
    if loss == "cross_entropy":
        return x, random.integers(0, sizes[-1], rows)
    y = np.sin(x @ random.normal(size=(sizes[0], sizes[-1])))
    return x, (y > 0).astype(float) if loss == "bce" else y


def trainer(solver, case, backend="compiled", dtype="float64"):
    loss, sizes, options, of_trainer = CASES[case]
    return bp.Trainer(network(sizes, backend, dtype, **options), loss, SETTINGS[solver], **of_trainer), *data(loss, sizes)


def test_every_solver_is_tested():
    assert {one.spec.name for one in SETTINGS.values()} == SOLVERS.keys() == CLOSE.keys()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_the_iterates_are_those_of_scipy(case, backend):
    """30 iterations, and as many evaluations of the loss."""
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")
    t, x, y = trainer("lbfgs", case, backend)
    other, *_ = trainer("lbfgs", case)
    found = []

    def f(params):
        other.net.params[...] = params
        loss = other.backward(x, y)
        return loss + (0 if other.penalty_per_row else penalties.of_net(other.net)), other.grads.copy()

    options = {"maxcor": 10, "maxiter": 30, "ftol": 0, "gtol": 1e-10}
    optimize.minimize(f, other.net.params.copy(), jac=True, method="L-BFGS-B", options=options, callback=lambda p: found.append(p.copy()))
    assert len(found) > 10
    for params in found:
        t.step(x, y)
        np.testing.assert_allclose(t.net.params, params, rtol=0, atol=1e-8 * max(1, np.abs(params).max()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("solver", "case"), PAIRS)
def test_both_backends_are_the_same(solver, case, dtype):
    (a, x, y), (b, *_) = trainer(solver, case, "compiled", dtype), trainer(solver, case, "reference", dtype)
    close = CLOSE[solver][dtype == "float32"]
    for _ in range(5):
        losses = a.step(x, y), b.step(x, y)
        assert losses[0] == pytest.approx(losses[1], rel=close)
    np.testing.assert_allclose(a.net.params, b.net.params, rtol=0, atol=10 * close)
    assert 4 <= a.steps <= 5 and 4 <= b.steps <= 5  # at the minimum of a quadratic, rounding decides whether there is a better point


@pytest.mark.parametrize("backend", BACKENDS)
@every_minimizer
def test_a_step_is_never_worse_and_ends_where_rounding_does(solver, backend):
    """After it: the loss that it returns, its gradient, and the last loss."""
    t, x, y = trainer(solver, "l2 by row", backend)
    before, steps = t.step(x, y), 0
    for _ in range(500 if backend == "compiled" else 40):
        steps, loss = t.steps, t.step(x, y)
        assert loss <= before
        assert t._engine._core.get("loss") == loss
        assert t._engine._core.get("last_loss") == before
        assert t.backward(x, y) == loss
        before = loss
        if t.steps == steps:
            break
    grads = t.grads.copy()
    t.backward(x, y)
    assert np.array_equal(grads, t.grads)
    if backend == "compiled":
        assert t.steps == steps
        assert np.abs(grads).max() < 1e-7


@every_solver
def test_the_number_of_threads_changes_no_bit(solver):
    x, y = np.random.default_rng(0).normal(size=(3000, 20)), np.random.default_rng(1).normal(size=(3000, 1))
    found = []
    for threads in (1, 2, 5):
        net = bp.mlp([20, 24, 1], activation="tanh", seed=0)
        net.n_threads = threads
        t = bp.Trainer(net, "mse", SOLVERS[solver])
        found.append([t.step(x, y) for _ in range(8)] + t.net.params.tolist())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("backend", BACKENDS)
@every_minimizer
def test_losses_that_blow_up_leave_finite_parameters(solver, backend):
    """exp of exp of large inputs: most steps are not finite."""
    loss = "mse" if solver == "levenberg_marquardt" else "poisson"
    t = bp.Trainer(bp.mlp([1, 3, 1], activation="exp", seed=1, backend=backend), loss, SETTINGS[solver])
    x = np.linspace(-30, 30, 15).reshape(-1, 1)
    losses = [t.step(x, np.abs(np.sin(x))) for _ in range(10)]
    assert np.isfinite(losses).all()
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    assert np.isfinite(t.net.params).all()


@pytest.mark.parametrize("backend", BACKENDS)
@every_solver
def test_a_step_that_fails_changes_nothing(solver, backend):
    t, x, y = trainer(solver, "tanh", backend)
    t.step(x, y)
    before, steps, bad = t.net.params.copy(), t.steps, x.copy()
    bad[3, 0] = math.nan
    with pytest.raises(FloatingPointError, match="X contains NaN, first at row 3"):
        t.step(bad, y)
    assert np.array_equal(before, t.net.params)
    assert t.steps == steps


@pytest.mark.parametrize("backend", BACKENDS)
@every_solver
def test_frozen_layers_stay(solver, backend):
    net = network([3, 5, 1], backend, activation="tanh")
    net.freeze("dense_0")
    before, (x, y) = net.tensors["dense_0.weight"].copy(), data("mse", [3, 5, 1])
    t = bp.Trainer(net, "mse", SOLVERS[solver])
    losses = [t.step(x, y) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert np.array_equal(before, net.tensors["dense_0.weight"])


def of_squares(outputs, targets, _weight):
    errors = outputs - targets.reshape(outputs.shape)
    return float((errors**2).mean()), 2 * errors / errors.size


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
@pytest.mark.parametrize(("solver", "loss"), [*((one, "mse") for one in SOLVERS), ("lbfgs", of_squares), ("scg", of_squares)])
def test_layers_that_are_frozen_between_steps_stay(solver, loss, cell, backend):
    """The last steps, which the next one is made of, have moved them."""
    rows, random = bp.Sequence(4, 2), np.random.default_rng(0)
    net = bp.Network(rows, bp.Dense(1)(bp.Recurrent(3, cell)(rows)), dtype="float64", seed=0, backend=backend)
    t, x, y = bp.Trainer(net, loss, SOLVERS[solver]), random.normal(size=(9, 4, 2)), random.normal(size=(9, 4, 1))
    last = [t.step(x, y) for _ in range(3)][-1]
    again = bp.Trainer(net.copy(), loss, SOLVERS[solver])
    again._engine._core.set_solver_state(t._engine._core.solver_state)
    for one in (t, again):
        one.net.freeze("recurrent_0")
        before = {name: tensor.copy() for name, tensor in one.net.tensors.items()}
        assert one.step(x, y) < last
        for name, tensor in one.net.tensors.items():
            assert np.array_equal(tensor, before[name]) == name.startswith("recurrent_0")
        assert np.count_nonzero(one.grads) <= 4  # those of the dense layer


LAYERS = {
    "node 2 is dropout": [bp.Dense(3), bp.Dropout(0.5)],
    "node 2 is noise": [bp.Dense(3), bp.GaussianNoise(0.5)],
    "layer batch_norm_0 has batch_norm": [bp.Dense(3), bp.BatchNorm()],
    "layer dense_0 has l1": [bp.Dense(3, l1=0.1)],
    "layer dense_0 has max_norm": [bp.Dense(3, max_norm=1.0)],
    "layer dense_0 has a factor of lr": [bp.Dense(3, lr=2.0)],
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("words", LAYERS)
@every_solver
def test_layers_that_are_refused(solver, words, backend):
    x = h = bp.Input(3)
    for layer in LAYERS[words]:
        h = layer(h)
    t = bp.Trainer(bp.Network(x, bp.Dense(1)(h), seed=0, backend=backend), "mse", SOLVERS[solver])
    with pytest.raises(ValueError, match=f"{words}, which does not work with {solver}: remove it, .*or use adam"):
        t.step(*data("mse", [3, 5, 1]))


@pytest.mark.parametrize("backend", BACKENDS)
@every_solver
def test_what_is_refused(solver, backend):
    t, x, y = trainer(solver, "tanh", backend)
    refused = {
        "apply": t.apply,
        "clipping of gradients": lambda: setattr(t, "clip_norm", 1.0),
        "an average": lambda: bp.Trainer(t.net, "mse", SOLVERS[solver], average=bp.EMA()),
        "an epoch in batches": lambda: t._engine._core.epoch(x, y, None, np.arange(ROWS), 8, None),
    }
    reason = "finds its steps by losses of the same rows; use another optimizer, such as adam"
    for what, call in refused.items():
        with pytest.raises(ValueError, match=f"{what} does not work with {solver}, which {reason}"):
            call()
    with pytest.raises(ValueError, match=f'a trainer with {solver} has no parameter "lr"'):
        t.lr = 0.1
    with pytest.raises(ValueError, match=r"lr_find does not work with .*, which has no learning rate; use another, such as bp.Adam\(\)"):
        bp.lr_find(t, x, y)
    for name in SETTINGS[solver].spec.parameters:
        with pytest.raises(ValueError, match=f'{name} cannot be changed: create a trainer with it, "{solver}\\({name}=...\\)"'):
            t._engine._core.set(name, 5)
    assert math.isnan(t.lr)


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_that_are_refused(backend):
    net = bp.mlp([1, 1], backend=backend)
    with pytest.raises(ValueError, match=r"history must be a whole number, not 2\.5"):
        bp.Trainer(net, "mse", "lbfgs(history=2.5)")
    with pytest.raises(ValueError, match=r"history must be in \[1,100\], not 101"):
        bp.LBFGS(history=101)
    with pytest.raises(ValueError, match=r"lambda_ must be in \(0,inf\), not 0"):
        bp.SCG(lambda_=0)
    with pytest.raises(ValueError, match=r"sigma must be in \(0,inf\), not 0"):
        bp.Trainer(net, "mse", "scg(sigma=0)")
    with pytest.raises(ValueError, match="did you mean 'lbfgs'.* valid: sgd, .*, scg, levenberg_marquardt, bayesian_regularization$"):
        bp.Trainer(net, "mse", "lbfg")


@pytest.mark.parametrize("backend", BACKENDS)
@every_solver
def test_states_that_are_refused(solver, backend):
    """Wrong counts, and numbers that no state has. The state stays."""
    t, x, y = trainer(solver, "tanh", backend)
    t.step(x, y)
    core = t._engine._core
    state = core.solver_state
    assert state
    for bad in (state + bytes(8), bytes(8), state[:-1]):
        with pytest.raises(ValueError, match=r"a state of \w+ for \d+ parameters cannot have \d+ numbers|must have a multiple of 8"):
            core.set_solver_state(bad)
        assert core.solver_state == state


# ---- copies and files ----


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_solver
def test_copies_and_files_go_on_bit_for_bit(solver, dtype, backend, tmp_path):
    t, x, y = trainer(solver, "tanh", backend, dtype)
    for _ in range(13):
        t.step(x, y)
    t.save(tmp_path / "a")
    others = [bp.Trainer.load(tmp_path / "a", backend=backend), pickle.loads(pickle.dumps(t)), copy.deepcopy(t)]
    for other in others:
        assert other.optimizer == t.optimizer
    losses = [t.step(x, y) for _ in range(5)]
    for other in others:
        assert [other.step(x, y) for _ in range(5)] == losses
        assert np.array_equal(t.net.params, other.net.params)
    others[0].reset()
    assert others[0]._engine._core.solver_state == b""


@every_solver
def test_a_fit_with_checkpoints_goes_on_bit_for_bit(solver, tmp_path):
    a, x, y = trainer(solver, "tanh")
    a.fit(x, y, epochs=30)
    b, *_ = trainer(solver, "tanh")
    b.fit(x, y, epochs=17, checkpoint=tmp_path / "b")
    b = bp.Trainer.load(tmp_path / "b")
    b.fit(x, y, epochs=13)
    assert np.array_equal(a.net.params, b.net.params)
    assert a.history["loss"] == b.history["loss"]


# ---- fit ----


@every_solver
def test_fit_is_an_iteration_of_all_rows_in_each_epoch(solver):
    (a, x, y), (b, *_) = trainer(solver, "tanh"), trainer(solver, "tanh")
    history = a.fit(x, y, epochs=20)
    assert history["loss"] == [b.step(x, y) for _ in range(20)]
    assert set(history) == {"loss", "seconds", *table("solver")[solver].detail.split()}
    assert a.stop_reason == "epochs"
    assert a.steps == a.epoch == 20
    (c, *_), (d, *_) = trainer(solver, "tanh"), trainer(solver, "tanh")
    for record in c.epochs(x, y):
        if record.epoch == 20:
            break
    d.fit(x, y, epochs=8)
    d.fit(x, y, epochs=12)
    assert np.array_equal(a.net.params, c.net.params)
    assert np.array_equal(a.net.params, d.net.params)


@pytest.mark.parametrize("backend", BACKENDS)
@every_minimizer
def test_reasons_to_stop(solver, backend):
    t, x, y = trainer(solver, "a quadratic", backend)
    assert t.stop_reason is None
    goal = t.fit(x, y, epochs=1)["loss"][-1]
    assert t.stop_reason == "epochs"
    t.fit(x, y, epochs=100, goal=goal)
    assert t.stop_reason == "goal"
    assert t.epoch == 2
    assert t.history["loss"][-1] <= goal
    t.fit(x, y, epochs=100, gradient_tolerance=1e-5)
    assert t.stop_reason == "gradient"
    assert np.abs(t.grads).max() <= 1e-5
    t.fit(x, y, epochs=1000)
    assert t.stop_reason == "no step"
    t.fit(x, y, epochs=1, callback=lambda record: True)
    assert t.stop_reason == "callback"
    t.fit(x, y, epochs=9, max_time=1e-9)
    assert t.stop_reason == "max_time"


@every_solver
def test_early_stopping_restores_the_best_iteration(solver):
    t, x, y = trainer(solver, "tanh")
    history = t.fit(x[:20], y[:20], epochs=500, validation=(x[20:], y[20:]), patience=6)
    best = int(np.argmin(history["val_loss"])) + 1
    assert t.stop_reason == "patience"
    assert t.epoch == best == len(history["loss"]) - 6
    assert t.evaluate(x[20:], y[20:]) == history["val_loss"][best - 1]


@pytest.mark.parametrize(
    "given",
    [{"batch_size": 8}, {"accumulate": 2}, {"batch_callback": print}, {"carry_state": True}, {"schedule": "cosine(lr=0.1)"},
     {"schedules": {"dropout": bp.Cosine(1.0)}}],
    ids=lambda given: next(iter(given)),
)  # fmt: skip
@every_solver
def test_arguments_of_fit_that_are_refused(solver, given):
    t, x, y = trainer(solver, "tanh")
    what, name = next(iter(given)), type(SETTINGS[solver]).__name__
    words = f"fit: {what} does not work with {name}\\(\\), which uses all rows at once, without a learning rate"
    with pytest.raises(ValueError, match=words):
        t.fit(x, y, epochs=1, **given)
    with pytest.raises(ValueError, match="needs all rows at once, as arrays, not as a stream"):
        t.fit([(x, y)], epochs=1)
    assert t.steps == 0


@pytest.mark.parametrize("optimizer", ["adam(lr=0.1)", *MINIMIZERS])
def test_goals_of_every_optimizer(optimizer):
    loss, sizes, options, _ = CASES["tanh"]
    t = bp.Trainer(network(sizes, "compiled", **options), loss, optimizer)
    x, y = data(loss, sizes)
    t.fit(x, y, epochs=1000, goal=0.05)
    assert t.stop_reason == "goal"
    assert t.history["loss"][-1] <= 0.05 < min(t.history["loss"][:-1], default=1)
