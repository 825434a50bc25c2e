"""Compares the compiled backend with the reference on random graphs. Before each step, both have the same state.

tests/long tests/reference/test_differential.py has 10,000 graphs. With MICROBP_SEED=n, -k "[17]" replays graph 17 of seed n.
"""

from __future__ import annotations

from dataclasses import dataclass

import cases
import graphs
import numpy as np
import pytest
from cases import DIFFERENTIAL, EPS, ORACLE
from rounding_bounds import Passes, Rounded

import microbp as bp
from microbp.reference.spec import Spec

DAGS = 10_000 if cases.LONG else len(cases.ACTIVATIONS) * len(cases.OPTIMIZERS)  # so many graphs have all pairs of formulas
STEPS = 2
FLOOR = 1e-30  # allowed absolute error, for products and sums that are flushed to zero
TAME = 30  # maximum absolute value in a step; other tests check overflows

MEAN, STD = 1.5, 4.0  # of scaled outputs; exact, so that the losses see the same targets
worst: dict[str, list[float]] = {}


@pytest.fixture(scope="module", autouse=True)
def errors_are_mostly_far_below_the_bound():
    """Checks after all graphs that 99 % of the errors are below a quarter of the bound. So a loss of precision is found early."""
    yield
    for what, ratios in worst.items():
        print(f"{what}: worst {max(ratios):.3g}, 99 % below {np.quantile(ratios, 0.99):.3g}")
        few = len(ratios) < 100
        assert few or what.startswith("oracle") or np.quantile(ratios, 0.99) <= DIFFERENTIAL / 4, what


@dataclass
class Case:
    """A graph with everything that a step needs. row: the names of an activation, a loss and an optimizer."""

    row: tuple[str, str, str]
    dtype: str
    inputs: list[bp.Node]
    outputs: list[bp.Node]
    losses: list[str]
    loss_weights: list[float]
    frozen: list[bool]
    xs: list[np.ndarray]
    ys: list[np.ndarray]
    weight: np.ndarray | None

    @property
    def scaled(self) -> list[bool]:
        """Which outputs scale their targets: a third of those whose loss can."""
        losses = [bp.Loss(loss) for loss in self.losses]
        can = [loss.detail == "identity" and loss.name != "hinge" for loss in losses]
        return [able and (i + len(self.xs[0]) + self.xs[0].shape[1]) % 3 == 0 for i, able in enumerate(can)]

    @property
    def given(self) -> list[np.ndarray]:
        """The targets as a user gives them; ys are what the losses see."""
        return [STD * y + MEAN if scaled else y for y, scaled in zip(self.ys, self.scaled, strict=True)]

    def trainer(self, backend: str) -> bp.Trainer:
        net = graphs.spread(bp.Network(self.inputs, self.outputs, dtype=self.dtype, seed=1, backend=backend))
        for i, scaled in enumerate(self.scaled):
            if scaled:
                net.set_output(i, "identity", mean=MEAN, std=STD)
        for layer, frozen in zip([layer.name for layer in net.layers], self.frozen, strict=False):
            if frozen:
                net.freeze(layer)
        return bp.Trainer(net, self.losses, cases.OPTIMIZERS[self.row[2]].spec, self.loss_weights)


def names(i: int) -> tuple[str, str, str]:
    """Activation, loss and optimizer of graph i."""
    activations, losses, optimizers = (list(table) for table in (cases.ACTIVATIONS, cases.LOSSES, cases.OPTIMIZERS))
    optimizer, activation = divmod(i, len(activations))
    turn, optimizer = divmod(optimizer, len(optimizers))
    return activations[activation], losses[(activation + optimizer + turn) % len(losses)], optimizers[optimizer]


def loss_for(random: np.random.Generator, node: bp.Node) -> str:
    """A loss for an output that may be in the middle of the graph. Losses of classes need at least two columns, bce is refused after a
    sigmoid, and in poisson and gaussian_nll exp(o) becomes large."""
    unfit = {"bce", "poisson", "gaussian_nll", *(["cross_entropy", "kl"] if node.width == 1 else [])}
    return str(random.choice([name for name in cases.LOSSES if name not in unfit]))


def draw(i: int, attempt: int) -> Case:
    random = np.random.default_rng((cases.SEED, i, attempt))
    row, dtype, rows = names(i), cases.DTYPES[i % 2], int(random.choice(cases.BATCHES))
    width = int(random.choice(cases.WIDTHS[1:6])) * cases.LOSSES[row[1]].columns  # of the first output
    inputs, outputs = graphs.draw(random, rows, cases.ACTIVATIONS[row[0]].spec, width)
    losses = [row[1], *(loss_for(random, node) for node in outputs[1:])]
    xs = [random.normal(size=(rows, node.width)).astype(np.float32) for node in inputs]
    ys = [cases.LOSSES[loss].targets(random, rows, node.width).astype(np.float32) for loss, node in zip(losses, outputs, strict=True)]
    weight = random.choice([0.0, 0.5, 1.0, 3.0], rows) if random.random() < 0.5 else None
    if weight is not None and np.count_nonzero(weight) < 2:  # batch_norm needs two rows
        weight = None
    frozen = (random.random(12) < 0.15).tolist()
    factors = np.round(random.uniform(0.2, 2, len(outputs)), 2).tolist()
    specs = [cases.LOSSES[loss].spec for loss in losses]
    return Case(row, dtype, inputs, outputs, specs, factors, frozen, xs, [y.astype(np.float64) for y in ys], weight)


def passes(case: Case, trainer: bp.Trainer) -> Passes | None:
    """The error scales of this step. None if a number is near a kink, so that two correct results may differ, or if numbers are large."""
    weight = np.ones(len(case.xs[0])) if case.weight is None else case.weight
    there = weight > 0
    ys = [y[there] for y in case.ys]
    found = Passes(trainer.net, [x[there] for x in case.xs], trainer)
    if found.largest() > TAME or found.clearance(case.losses, ys) < DIFFERENTIAL * EPS[case.dtype]:
        return None
    found.backward(case.losses, ys, weight[there], case.loss_weights)
    return found


def near(what: str, case: Case, computed, reference, error, bound: float = DIFFERENTIAL) -> None:
    """Checks |computed - reference| <= bound x eps x error for each element; records the largest ratio."""
    computed, reference = np.asarray(computed, np.float64), np.asarray(reference, np.float64)
    off = abs(computed - reference) - FLOOR
    ratio = float(np.max(np.divide(off, EPS[case.dtype] * error, out=np.where(off > 0, np.inf, 0), where=error > 0), initial=0))
    worst.setdefault(f"{what} {case.dtype}", []).append(ratio)
    assert ratio <= bound, f"{what}: off by {ratio:.3g} eps x the error scale, the bound is {bound}"


def update_error(case: Case, trainer: bp.Trainer, grads: Rounded) -> list[np.ndarray]:
    """The error scales of the new parameters and slots: the rounding errors of the optimizer, and the effects of errors in the gradient,
    the parameters and the slots. If the sign of a gradient is uncertain, the scale is a whole step of Adam: then any step passes."""
    spec = Spec.parse("optimizer", cases.OPTIMIZERS[case.row[2]].spec)
    hyper = dict(spec.values)
    decay, decay_bias = hyper.pop("weight_decay"), hyper.pop("decay_bias")
    errors = np.zeros((1 + len(trainer.state), len(trainer.net.params)))
    for layer, name, at, rows, cols in trainer.net._core.tensors():
        decays = trainer.net.tensors[f"{layer}.{name}"].ndim == 2 or decay_bias
        place = slice(at, at + rows * cols)
        errors[:, place] = tensor_error(case, trainer, spec.entry, hyper, decay if decays else 0.0, grads, place)
    return list(errors)


def tensor_error(case, trainer: bp.Trainer, entry, hyper: dict[str, float], decay: float, grads: Rounded, place: slice) -> np.ndarray:
    """The error scales of update_error for one tensor."""
    delta, step = DIFFERENTIAL * EPS[case.dtype], trainer.steps + 1
    params = trainer.net.params[place].tolist()
    states = np.array([slot[place] for slot in trainer.state.values()], np.float64).reshape(len(trainer.state), len(params)).T.tolist()
    if entry.loss_rose:
        hyper = hyper | {"loss_rose": trainer._engine._core.get("loss") > trainer._engine._core.get("last_loss")}
    rows, directions = [], []
    for p, g, e, own in zip(params, grads.value[place].tolist(), grads.error[place].tolist(), states, strict=True):
        q = p - hyper["lr"] * decay * p if entry.decay == "decoupled" else p
        if entry.decay == "gradient":
            g, e = g + decay * p, e + decay * abs(p)
        e += abs(g)
        found, new = entry.update(q, g, own, step, **hyper)
        moves = [(q, g - delta * e, own), (q, g + delta * e, own), (q * (1 + delta), g, own)]
        moves += [(q, g, [*own[:j], s * (1 + delta), *own[j + 1 :]]) for j, s in enumerate(own) if s]
        terms = cases.OPTIMIZERS[case.row[2]].terms(q, new, hyper)
        row = [abs(q) + abs(found), *(abs(a) + abs(b) + term for a, b, term in zip(own, new, terms))]
        for moved in moves:
            found_moved, new_moved = entry.update(*moved, step, **hyper)
            row = [error + abs(a - b) / delta for error, a, b in zip(row, [found_moved, *new_moved], [found, *new], strict=True)]
        rows.append(row)
        directions.append(found + decay * p)
    errors = np.array(rows).T
    if entry.decay == "trust":
        errors[0] = trust_error(np.array(params), np.array(directions), errors[0], hyper["lr"])
    return errors


def trust_error(params: np.ndarray, directions: np.ndarray, errors: np.ndarray, lr: float) -> np.ndarray:
    """The error of p - lr |p| / |d| d from the errors of the directions d. The errors of the norms are the same for all elements."""
    long, of_direction = np.linalg.norm(params), np.linalg.norm(directions)
    ratio = long / of_direction if long and of_direction else 1.0
    of_ratio = 2 + np.linalg.norm(errors) / of_direction if of_direction else 0.0
    return 2 * abs(params) + lr * ratio * (errors + abs(directions) * of_ratio)


def one(values: list):
    """The item of a list of length 1, otherwise the list. Trainers accept both."""
    return values[0] if len(values) == 1 else values


def several(value) -> list:
    """The inverse of `one`."""
    return value if isinstance(value, list) else [value]


def copy_state(source: bp.Trainer, target: bp.Trainer) -> None:
    target.net.params[:] = source.net.params
    target.net.buffers[:] = source.net.buffers
    for name, slot in source.state.items():
        target.state[name][:] = slot
    target._engine._core.steps = source.steps
    target._engine._core.set("last_loss", source._engine._core.get("last_loss"))


def compare_step(case: Case, compiled: bp.Trainer, reference: bp.Trainer, found: Passes) -> None:
    """Does the same step in both, and compares outputs, loss, gradients, parameters and slots."""
    x, y = one(case.xs), one(case.given)
    inference = Passes(compiled.net, case.xs)
    outputs = [inference.values[output.node] for output in inference.outputs]
    predicted = [several(t.net.predict(x, raw=True)) for t in (compiled, reference)]
    for a, b, scale in zip(*predicted, outputs, strict=True):
        near("oracle", case, b, scale.value.astype(case.dtype), scale.error, ORACLE if case.dtype == "float64" else DIFFERENTIAL)
        near("output", case, a, b, scale.error)
    predicted = [several(t.net.predict(x)) for t in (compiled, reference)]
    for a, b, scale, scaled in zip(*predicted, outputs, case.scaled, strict=True):
        if scaled:
            near("prediction", case, a, b, STD * scale.error + abs(STD * scale.value) + abs(b))
    losses = [t.backward(x, y, case.weight, input_grads=True) for t in (compiled, reference)]
    near("loss", case, *losses, found.loss.error)
    near("oracle", case, losses[1], found.loss.value, found.loss.error)
    near("gradient", case, compiled.grads, reference.grads, found.grads.error)
    near("oracle", case, reference.grads, found.grads.value, found.grads.error)
    there = slice(None) if case.weight is None else case.weight > 0
    for i, scale in enumerate(found.input_grads):
        gradients = [t._engine.input_grads[i] for t in (compiled, reference)]
        near("input gradient", case, *(gradient[there] for gradient in gradients), scale.error)
        assert all(case.weight is None or not gradient[~there].any() for gradient in gradients)
    scales = update_error(case, compiled, found.grads)
    of_backward = compiled.grads.copy()
    assert compiled.step(x, y, case.weight) == losses[0]
    np.testing.assert_array_equal(compiled.grads, of_backward)
    reference.apply()
    for name, scale in found.running.items():
        near("buffer", case, compiled.net.tensors[name], reference.net.tensors[name], scale.error)
        near("oracle", case, reference.net.tensors[name], scale.value, scale.error)
    assert {name for name in compiled.net.tensors if "running" in name} >= set(found.running)
    near("parameter", case, compiled.net.params, reference.net.params, scales[0])
    for name, scale in zip(compiled.state, scales[1:], strict=True):
        near("slot", case, compiled.state[name], reference.state[name], scale)


@pytest.mark.parametrize("i", range(DAGS))
def test_a_step_equals_the_reference(i, monkeypatch):
    monkeypatch.setenv("MICROBP_ISA", cases.ISAS[i // 2 % len(cases.ISAS)])
    for attempt in range(100):
        case = draw(i, attempt)
        compiled = case.trainer("compiled")
        found = passes(case, compiled)
        if found:
            break
    assert found, "no tame graph in 100 attempts"
    print(f"seed {cases.SEED}, graph {i}, attempt {attempt}, {compiled.net._core.isa}: {case.row}, {case.losses}\n{compiled.net.text()}")
    reference = case.trainer("reference")
    np.testing.assert_array_equal(compiled.net.params, reference.net.params)
    for _ in range(STEPS):
        compare_step(case, compiled, reference, found)
        copy_state(compiled, reference)
        found = passes(case, compiled)
        if found is None:
            break


def test_every_pair_of_formulas_occurs():
    rows = [names(i) for i in range(DAGS)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        tables = (cases.ACTIVATIONS, cases.LOSSES, cases.OPTIMIZERS)
        assert {(row[a], row[b]) for row in rows} == {(x, y) for x in tables[a] for y in tables[b]}
    for i in range(min(DAGS, 20)):
        case = draw(i, 0)
        text = case.trainer("compiled").net.text()
        assert f" {case.row[0]}" in text.replace("=", " ") and case.losses[0].startswith(case.row[1])
