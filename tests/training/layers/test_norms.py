"""Norms of layers: those of NumPy, for all graphs, from a step with SGD whose change is known."""

import math

import graphs
import numpy as np
import pytest

import microbp as bp
from microbp.training.layers import measure

LR = 0.125
SHAPES = [*graphs.SHAPES, "embedded"]


def trainer(net, **options):
    return bp.Trainer(net, ["mse"] * len(net.outputs) if len(net.outputs) > 1 else "mse", bp.SGD(lr=LR), **options)


def targets_of(net, rows):
    random = np.random.default_rng(1)
    ys = [random.normal(size=(rows, math.prod(output.row_shape))) for output in net.outputs]
    return ys if len(ys) > 1 else ys[0]


def place(net, tensor):
    """Where a tensor is in the vector of parameters: by its address."""
    first = min(tensor.ctypes.data, tensor[-1:].ctypes.data) - net.params.ctypes.data
    return slice(first // net.params.itemsize, first // net.params.itemsize + tensor.size)


def tensors_of(net, layer):
    buffers = net.buffers
    return {name: view for name, view in net.tensors.items() if name.rpartition(".")[0] == layer and not np.shares_memory(view, buffers)}


def norms_after_a_step(net, t, rows=6):
    x, before = graphs.rows_of(net, rows), net.params.copy()
    t.step(x, targets_of(net, rows))
    return x, measure.of_layers(net, measure.values_of(net, x), t._engine.grads, before, t.sparse_grads)


@pytest.mark.parametrize("shape", SHAPES)
def test_norms_are_those_of_numpy(shape, backend):
    net = graphs.network(shape, dtype="float64", backend=backend)
    t = trainer(net)
    old = {name: view.copy() for name, view in net.tensors.items()}
    x, found = norms_after_a_step(net, t)
    assert list(found) == [layer.name for layer in net.layers]
    for layer in net.layers:
        norms, own = found[layer.name], tensors_of(net, layer.name)
        values = np.concatenate([np.ravel(net.predict(x, at=node)) for node in layer.nodes])
        assert norms.activation == pytest.approx(np.sqrt(np.mean(values**2)), rel=1e-12)
        if not own:
            assert layer.kind == "standardize" and np.isnan(norms[1:]).all()
            continue
        is_sparse = layer.name in t.sparse_grads
        parts = [t._engine.grads[place(net, view)] for name, view in own.items() if not (is_sparse and name.endswith(".weight"))]
        parts += [t.sparse_grads[layer.name][1].ravel()] if is_sparse else []
        assert norms.gradient == pytest.approx(np.linalg.norm(np.concatenate(parts)), rel=1e-12) and norms.gradient > 0
        assert norms.weight == pytest.approx(np.linalg.norm(np.concatenate([view.ravel() for view in own.values()])), rel=1e-12)
        change = np.linalg.norm(np.concatenate([(view - old[name]).ravel() for name, view in own.items()]))
        assert math.isnan(norms.update) if is_sparse else norms.update == pytest.approx(change, rel=1e-9)
        if not is_sparse and layer.lr == 1 and layer.bias_lr is None and layer.max_norm is None:
            assert norms.update == pytest.approx(LR * norms.gradient, rel=1e-9)  # what SGD does


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_are_measured(seed, backend):
    random = np.random.default_rng(seed)
    net = bp.Network(*graphs.draw(random, 4, "tanh", None), seed=seed, backend=backend)
    _, found = norms_after_a_step(net, trainer(net), rows=4)
    assert list(found) == [layer.name for layer in net.layers]
    assert all(np.isfinite(norms[:1] if layer.kind == "standardize" else norms).all() for layer, norms in zip(net.layers, found.values()))


@pytest.mark.parametrize("shape", SHAPES)
def test_frozen_layers_have_gradient_and_update_0(shape, backend):
    net = graphs.network(shape, backend=backend)
    frozen = [layer.name for layer in net.layers[:-1] if layer.kind not in ("standardize", "batch_norm")]
    for name in frozen:
        net.freeze(name)
    if all(layer.frozen for layer in net.layers if layer.kind != "standardize"):
        net.unfreeze(frozen.pop())
    _, found = norms_after_a_step(net, trainer(net))
    for name in frozen:
        assert found[name].gradient == 0 and found[name].weight >= 0
        assert found[name].update == 0 or (math.isnan(found[name].update) and net.layers[list(found).index(name)].kind == "embedding")


def test_a_part_is_measured_by_its_own_layers(backend):
    whole = bp.mlp([4, 6, 5, 2], activation="tanh", dtype="float64", seed=0, backend=backend)
    part = whole.part(inputs="dense_0")
    t = trainer(part)
    x, before = np.random.default_rng(0).normal(size=(5, 6)), part.params.copy()
    t.step(x, np.ones((5, 2)))
    found = measure.of_layers(part, measure.values_of(part, x), t.grads, before)
    assert list(found) == ["dense_1", "dense_2"]
    for name, norms in found.items():
        weights = np.concatenate([whole.tensors[f"{name}.weight"].ravel(), whole.tensors[f"{name}.bias"]])
        assert norms.weight == pytest.approx(np.linalg.norm(weights), rel=1e-12)
        assert norms.update == pytest.approx(LR * norms.gradient, rel=1e-9)


def test_squares_of_small_and_large_numbers_count():
    assert measure.norm([np.full(4, 1e-30, np.float32)]) == pytest.approx(2e-30, rel=1e-6)
    assert measure.norm([np.full(4, 1e30, np.float32)]) == pytest.approx(2e30, rel=1e-6)
    many = np.arange(100_001, dtype=np.float32)
    assert measure.norm([many, many]) == pytest.approx(np.linalg.norm(np.tile(many.astype(float), 2)), rel=1e-12)
    assert measure.norm([many], [many - 1]) == pytest.approx(math.sqrt(100_001), rel=1e-12)


def test_positions_beyond_a_length_are_left_out(backend):
    x = bp.Sequence(6, 2)
    h = bp.Conv(4, 3, pad=1, activation="tanh", name="conv")(x)
    net = bp.Network(x, bp.Dense(1, name="out")(bp.Last()(bp.Recurrent(3, "gru", name="gru")(h))), dtype="float64", seed=0, backend=backend)
    random = np.random.default_rng(0)
    rows, lengths = random.normal(size=(3, 6, 2)), [6, 1, 4]
    found = measure.values_of(net, rows, lengths)
    assert {name: [one.shape for one in values] for name, values in found.items()} == {"conv": [(11, 4)], "gru": [(11, 3)], "out": [(3, 1)]}
    np.testing.assert_array_equal(found["conv"][0][:6], measure.values_of(net, rows[:1])["conv"][0][0])
