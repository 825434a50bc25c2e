"""One step of Levenberg-Marquardt is -(A + mu I)^-1 gradient; A is made in NumPy of net.jacobian and the losses' second derivatives."""

from __future__ import annotations

from typing import Any

import graphs
import numpy as np
import pytest
from graphs import rows_of

import microbp as bp

MU = 4.0  # as a part of the largest diagonal element of J^T J: so large that the first step is taken
BOUNDS = {"float32": 3e-5, "float64": 1e-12}  # of a step, as a part of its largest element
# cross_entropy only for outputs of several columns
LOSSES = ["mse", "half_sse", "bce(pos_weight=2,label_smoothing=0.1)", "cross_entropy(label_smoothing=0.1,temperature=2)"]
SHAPES = list(graphs.SHAPES)


def network(shape: str, backend: str, dtype: str, l2: float = 0.0) -> bp.Network:
    """Without what solvers refuse."""
    with pytest.MonkeyPatch.context() as patch:
        for random in ("Dropout", "GaussianNoise"):
            patch.setattr(bp, random, lambda *_: lambda node: node)
        net = graphs.network(shape, dtype=dtype, backend=backend)
    for layer in net.layers:
        if layer.kind == "batch_norm":
            net.freeze(layer.name)
        plain = {"lr": 1, "bias_lr": 1, "max_norm": 0, "l2": l2}
        if settings := {key: value for key, value in plain.items() if getattr(layer, key, None) not in (None, value)}:
            net.set_layer(layer.name, **settings)
    return net


def targets_of(loss: str, shape: tuple[int, ...], seed: int = 3) -> np.ndarray:
    random = np.random.default_rng(seed)
    if loss.startswith("cross"):
        return random.dirichlet(np.ones(shape[-1]), shape[:-1])
    return random.uniform(0, 1, shape)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def hessians(spec: bp.Loss, o: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The second derivatives of the loss of each row (last axis) by its raw outputs."""
    width, eye = o.shape[-1], np.eye(o.shape[-1])
    if spec.name == "cross_entropy":
        temperature = spec.parameters.get("temperature", 1)
        p = softmax(o / temperature)
        return (p[..., None] * eye - p[..., None] * p[..., None, :]) / temperature**2
    if spec.name == "bce":
        smoothing, positive = (np.array(spec.parameters.get(key, value)) for key, value in (("label_smoothing", 0), ("pos_weight", 1)))
        p, t = 1 / (1 + np.exp(-o)), (1 - smoothing) * t + smoothing / 2
        return ((positive * t + 1 - t) * p * (1 - p))[..., None] * eye / width
    return np.broadcast_to({"mse": 2 / width, "half_sse": 1.0}[spec.name] * eye, (*o.shape, width))


def listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, (list, tuple)) else [found]


def explicit(t: bp.Trainer, x: Any, targets: list[np.ndarray], weights: list[np.ndarray]) -> np.ndarray:
    """The Gauss-Newton matrix. weights: of each output for each row, (rows,), or for each target, (rows, columns)."""
    matrix = np.zeros((len(t.net.params),) * 2)
    factors = [1.0] * len(t.net.outputs) if t.loss_weights is None else t.loss_weights
    for loss, factor, z, o, y, w in zip(
        t.losses, factors, listed(t.net.jacobian(x)), listed(t.net.predict(x, raw=True)), targets, weights, strict=True
    ):
        rows, width = len(o), o.shape[-1]
        z, o, y = (
            z.astype(float).reshape(rows, -1, width, z.shape[-1]),
            o.astype(float).reshape(rows, -1, width),
            y.reshape(rows, -1, width),
        )
        total = (w if w.ndim == 1 else w.mean(1)).sum()
        h = hessians(loss, o, np.nan_to_num(y))
        root = np.sqrt(w).reshape(rows, 1, -1, 1)
        h = h * root * np.swapaxes(root, -1, -2) * factor / (total * o.shape[1])
        matrix += np.einsum("rpia,rpij,rpjb->ab", z, h, z, optimize=True)
    return matrix


def place_of(net: bp.Network, name: str) -> slice:
    """Where a tensor is among the parameters."""
    first = net.tensors[name].__array_interface__["data"][0] - net.params.__array_interface__["data"][0]
    return slice(first // net.params.itemsize, first // net.params.itemsize + net.tensors[name].size)


def step_of(t: bp.Trainer, matrix: np.ndarray, share: float) -> np.ndarray:
    """From t.grads, which include those of the penalties, times `share`."""
    g = t.grads.astype(float)
    trained, penalties = np.zeros(len(g), bool), np.zeros(len(g))
    for layer in t.net.layers:
        for name, tensor in t.net.tensors.items():
            if name.rpartition(".")[0] == layer.name and np.shares_memory(tensor, t.net.params):
                trained[place_of(t.net, name)] = not layer.frozen
                penalties[place_of(t.net, name)] = share * getattr(layer, "l2", 0) if name.endswith(".weight") else 0
    a = matrix + np.diag(penalties) + MU * matrix.diagonal().max() * np.eye(len(g))
    step = np.zeros(len(g))
    step[trained] = -np.linalg.solve(a[np.ix_(trained, trained)], g[trained])
    return step


def check(t: bp.Trainer, x: Any, targets: list[np.ndarray], weights: list[np.ndarray], *data: Any, share: float = 1) -> None:
    """data: targets and weights as a step gets them."""
    matrix, before = explicit(t, x, targets, weights), t.net.params.copy()
    t.backward(x, *data)
    expected = step_of(t, matrix, share)
    loss = t.step(x, *data)
    assert t.steps == 1
    bound = BOUNDS[str(t.net.dtype)] * np.abs(expected).max()
    np.testing.assert_allclose(t.net.params - before, expected, rtol=0, atol=bound)
    grads = t.grads.copy()
    assert t.backward(x, *data) == loss
    assert np.array_equal(grads, t.grads)


STEPS = [  # 2 rows: fewer residuals than parameters; 40: more
    ("compiled", dtype, shape, loss, rows) for dtype in ("float32", "float64") for shape in SHAPES for loss in LOSSES for rows in (2, 40)
]
STEPS += [("reference", "float64", shape, LOSSES[i % len(LOSSES)], 2) for i, shape in enumerate(SHAPES)]  # it is slow


@pytest.mark.parametrize(("backend", "dtype", "shape", "loss", "rows"), STEPS)
def test_a_step_is_that_of_numpy(backend, dtype, shape, loss, rows):
    net = network(shape, backend, dtype)
    x = rows_of(net, rows)
    outputs = listed(net.predict(x, raw=True))
    losses = [LOSSES[0] if o.shape[-1] == 1 and loss.startswith("cross") else loss for o in outputs]
    targets = [targets_of(one, o.shape) for one, o in zip(losses, outputs)]
    t = bp.Trainer(net, losses, bp.LevenbergMarquardt(mu=MU), loss_weights=np.linspace(1, 2, len(losses)))
    check(t, x, targets, [np.ones(rows)] * len(outputs), targets if len(targets) > 1 else targets[0])


# ---- weights, gaps, labels, penalties ----

ROWS, A, B = 40, 4, 3
RNG = np.random.default_rng(5)
X = RNG.normal(size=(ROWS, 3))
OF_ROWS = RNG.uniform(0.1, 2, ROWS) * (RNG.random(ROWS) < 0.7)
ELEMENTS = RNG.uniform(0.1, 2, (ROWS, A)) * (RNG.random((ROWS, A)) < 0.7)
ELEMENTS[10:15] = 0  # rows that are absent in the first output
OF_ROWS[12:18] = 0  # of these, 12 to 14 are absent in both
GAPS = ELEMENTS == 0
LABELS = RNG.integers(0, B, ROWS)
NO_LABEL = RNG.random(ROWS) < 0.3
ONES = np.ones(ROWS)


def heads(backend: str, losses: list[Any], **options: Any) -> bp.Trainer:
    x = bp.Input(3)
    h = bp.Dense(6, activation="tanh", l2=0.01)(x)
    net = bp.Network(x, [bp.Dense(A, activation="tanh")(h), bp.Dense(B)(h)], dtype="float64", seed=5, backend=backend)
    return bp.Trainer(net, losses, bp.LevenbergMarquardt(mu=MU), **({"loss_weights": [0.5, 2.0]} | options))


def missing(loss: str) -> bp.Loss:
    parsed = bp.Loss.parse(loss)
    return bp.Loss(parsed.name, missing=True, **parsed.parameters)


ELEMENTWISE = [*LOSSES[:3], "bce(pos_weight=[1 2 3 4],label_smoothing=[0 0.1 0 0.2])"]
WAYS = {  # weights of the first output, and of the second; what a step gets
    "rows": (OF_ROWS, OF_ROWS, OF_ROWS),
    "elements": (ELEMENTS, ONES, [ELEMENTS, None]),
    "both": (ELEMENTS, OF_ROWS, [ELEMENTS, OF_ROWS]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_weights(loss, way, backend):
    first, second, given = WAYS[way]
    targets = [targets_of(loss, (ROWS, A)), targets_of(LOSSES[3], (ROWS, B))]
    check(heads(backend, [loss, LOSSES[3]]), X, targets, [first, second], targets, given)


@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_missing_targets_and_labels(loss, backend):
    y = targets_of(loss, (ROWS, A))
    t = heads(backend, [missing(loss), missing("cross_entropy")])
    given = [np.where(GAPS, np.nan, y), np.where(NO_LABEL, -1, LABELS)]
    check(t, X, [y, np.eye(B)[LABELS]], [(~GAPS).astype(float), (~NO_LABEL).astype(float)], given)


@pytest.mark.parametrize("per_row", [False, True])
def test_penalties_and_frozen_layers(per_row, backend):
    y = [targets_of("mse", (ROWS, A)), targets_of("mse", (ROWS, B))]
    t = heads(backend, ["mse", "half_sse"], penalty_per_row=per_row)
    t.net.freeze("dense_1")
    check(t, X, y, [ONES, ONES], y, share=1 / ROWS if per_row else 1)


def test_an_output_without_a_loss_weight_is_not_read(backend):
    t = heads(backend, ["mse", "mae"], loss_weights=[0.5, 0])
    x = bp.Input(3)
    net = bp.Network(x, bp.Dense(A, activation="tanh")(bp.Dense(6, activation="tanh", l2=0.01)(x)), dtype="float64", backend=backend)
    alone = bp.Trainer(net, "mse", bp.LevenbergMarquardt(mu=MU), loss_weights=[0.5])
    before = {name: tensor.copy() for name, tensor in t.net.tensors.items()}
    for name, tensor in net.tensors.items():
        tensor[...] = before[name]
    y = targets_of("mse", (ROWS, A))
    assert t.step(X, [y, np.full((ROWS, B), np.nan)]) == pytest.approx(alone.step(X, y), rel=1e-13)
    for name, tensor in t.net.tensors.items():
        np.testing.assert_allclose(tensor, net.tensors.get(name, before[name]), rtol=1e-12, atol=0)


# ---- many rows ----


def wide(dtype: str = "float64", threads: int = 1) -> bp.Trainer:
    net = bp.mlp([2, 40, 1], activation="tanh", dtype=dtype, seed=0)
    net.n_threads = threads
    return bp.Trainer(net, "mse", bp.LevenbergMarquardt(mu=MU))


MANY = RNG.uniform(-1, 1, (3000, 2))


@pytest.mark.parametrize("way", ["all", "rows"])
def test_rows_of_several_blocks(way, dtype):
    """A row of J has 161 numbers, so that 256 KB are 203 rows."""
    y, w = np.sin(3 * MANY[:, :1]) * MANY[:, 1:], np.tile([0.0, 1.5, 0.5], 1000)
    x = MANY.astype(dtype)
    check(wide(dtype), x, [y], [w if way == "rows" else np.ones(3000)], y, *([w] if way == "rows" else []))


@pytest.mark.parametrize("loss", LOSSES)
def test_rows_of_different_lengths(loss):
    """Both backends; and 200 times the same rows, in several blocks, give the step that they give once."""
    random, steps = np.random.default_rng(2), []
    x, lengths = random.normal(size=(9, 5, 3)), random.integers(0, 6, 9)
    for backend, times in (("compiled", 1), ("reference", 1), ("compiled", 200)):
        rows = bp.Sequence(5, 3)
        h = bp.Recurrent(3, "gru")(bp.Conv(3, 3, pad=1, activation="tanh")(rows))
        net = bp.Network(rows, bp.Dense(2)(h), dtype="float64", seed=1, backend=backend)
        before, t = net.params.copy(), bp.Trainer(net, loss, bp.LevenbergMarquardt(mu=MU))
        y = targets_of(loss, (9, 5, 2))
        t.step(np.tile(x, (times, 1, 1)), np.tile(y, (times, 1, 1)), lengths=np.tile(lengths, times))
        steps.append(net.params - before)
    for step in steps[1:]:
        np.testing.assert_allclose(step, steps[0], rtol=0, atol=1e-12 * np.abs(step).max())


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_no_bit_depends_on_threads(loss, dtype):
    found = []
    for threads in (1, 2, 3):
        net = bp.mlp([2, 40, 30, 2], activation="tanh", dtype=dtype, seed=0)
        net.n_threads = threads
        t = bp.Trainer(net, loss, bp.LevenbergMarquardt())
        y = (MANY[:, 0] > MANY[:, 1]).astype(int) if loss == "cross_entropy" else np.sin(3 * MANY)
        found.append([*(t.step(MANY, y) for _ in range(3)), *net.params])
    assert found[0] == found[1] == found[2]


# ---- both backends ----


@pytest.mark.parametrize("geodesic", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_both_backends_are_the_same(loss, geodesic):
    y, found = targets_of(loss, (12, 2)), []
    for backend in ("compiled", "reference"):
        x = bp.Input(3)
        net = bp.Network(x, bp.Dense(2, l2=1e-3)(bp.Dense(3, activation="tanh")(x)), dtype="float64", seed=0, backend=backend)
        t = bp.Trainer(net, loss, bp.LevenbergMarquardt(geodesic=geodesic))
        found.append([*(t.step(X[:12], y) for _ in range(6)), *net.params])
    np.testing.assert_allclose(*found, rtol=1e-8, atol=1e-8)


# ---- what is refused ----

NEEDS = "levenberg_marquardt needs mse, half_sse, bce or cross_entropy, without gamma; use another loss, or lbfgs"


@pytest.mark.parametrize("loss", ["mae", "huber", "poisson", "kl", "gaussian_nll", "bce(gamma=2)", "cross_entropy(gamma=1)"])
def test_losses_that_are_refused(loss, backend):
    x = bp.Input(3)
    net = bp.Network(x, bp.Dense(4)(x), seed=0, backend=backend)
    t = bp.Trainer(net, loss, bp.LevenbergMarquardt())
    y = RNG.dirichlet(np.ones(4), ROWS) if loss[:2] in ("kl", "cr") else RNG.uniform(0, 1, (ROWS, 2 if loss == "gaussian_nll" else 4))
    before = net.params.copy()
    name = loss.partition("(")[0] + (" with gamma" if "gamma" in loss else "")
    with pytest.raises(ValueError, match=f"the loss of output 0 is {name}, but {NEEDS}"):
        t.step(X, y)
    assert np.array_equal(net.params, before) and t.steps == 0


def test_inputs_that_are_refused(backend):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    x = bp.Input(3)
    t = bp.Trainer(bp.Network(x, bp.Dense(1)(x), seed=0, backend=backend), "mse", bp.LevenbergMarquardt())
    with pytest.raises(ValueError, match="input 0 is sparse, but levenberg_marquardt needs dense rows: pass a dense array"):
        t.step(sparse.csr_array(X), X[:, :1])
    ids = bp.Ids(1, 5)
    t = bp.Trainer(bp.Network(ids, bp.Dense(1)(bp.Embedding(5, 2)(ids)), seed=0, backend=backend), "mse", bp.LevenbergMarquardt())
    with pytest.raises(ValueError, match="input 0 has ids, but levenberg_marquardt needs numbers, which have derivatives"):
        t.step(LABELS[:, None], X[:, :1])


def test_a_matrix_that_is_too_large(backend):
    """With fewer residuals than parameters, J and J J^T are there instead."""
    x = bp.Input(6000)
    t = bp.Trainer(bp.Network(x, bp.Dense(1)(x), seed=0, backend=backend), "mse", bp.LevenbergMarquardt())
    size = 8 * 6001**2
    with pytest.raises(
        MemoryError, match=f"levenberg_marquardt needs matrices of {size} bytes for 6001 parameters, but at most 268435456 are"
    ):
        t.step(np.zeros((6001, 6000)), np.zeros(6001))
    if backend == "compiled":
        assert t.step(np.eye(6000)[:20], np.ones(20)) < 1
