"""A step on all ranks has the bits of one process that adds the gradients of the ranks' parts in their order."""

from __future__ import annotations

import math

import graphs
import numpy as np
import pytest
from optimizer_cases import OPTIMIZERS
from ranks_threads import run_ranks

import microbp as bp
from microbp.core.specs import OptimizerSpec

STEPS = 3


def penalized(dtype):
    x = bp.Input(5)
    h = bp.Dense(9, "relu", l1=0.01, l2=0.02)(x)
    return bp.Network(x, bp.Dense(3, max_norm=0.7)(bp.Dropout(0.3)(h)), dtype=dtype, seed=7)


def made(comm=None, shape="chain", optimizer="adam(lr=0.01)", dtype="float64", loss="mse", **options):
    net = penalized(dtype) if shape == "penalized" else graphs.network(shape, dtype=dtype)
    return bp.Trainer(net, [loss] * len(net.outputs), OptimizerSpec.parse(optimizer), comm=comm, **options)


def parts_of(net, ranks, step, weights="none"):
    """For each rank (X, y, weight); of several ranks, one has no rows. Weights have exact sums, and those of targets exact means."""
    random = np.random.default_rng(step)
    sizes = random.integers(1, 12, ranks)
    if ranks > 1:
        sizes[step % ranks] = 0
    rows, ends = sizes.sum(), np.cumsum(sizes)
    shared = graphs.rows_of(net, rows, step)
    xs = shared if isinstance(shared, list) else [shared]
    ys = [random.normal(size=(rows, output.width)) for output in net.outputs]
    w = {"none": None, "rows": random.integers(0, 5, rows) / 4, "targets": [random.integers(0, 5, y.shape) * y.shape[1] / 4 for y in ys]}[
        weights
    ]
    if weights == "rows":
        w[-1] = 1.0  # not all are 0
    cuts = [slice(end - size, end) for size, end in zip(sizes, ends)]
    return [([x[c] for x in xs], [y[c] for y in ys], [v[c] for v in w] if isinstance(w, list) else w if w is None else w[c]) for c in cuts]


def taken(part):
    """The arguments of `step`: a list of one array is the array."""
    return [values[0] if isinstance(values, list) and len(values) == 1 else values for values in part]


def totals(parts):
    """What `backward` takes as total, and the first row of each part."""
    kept = [np.ones(len(y[0])) if w is None else w for _, y, w in parts]
    if isinstance(kept[0], list):
        there = [np.any([v.mean(axis=1) > 0 for v in w], axis=0) for w in kept]
        total = [math.fsum(w[i].mean(axis=1).sum() for w in kept) for i in range(len(kept[0]))]
    else:
        there, total = [w > 0 for w in kept], math.fsum(w.sum() for w in kept)
    return total, np.cumsum([0, *(rows.sum() for rows in there)])[:-1].tolist()


def step_in_order(t, parts):
    total, first = totals(parts)
    loss = gradient = None
    for shard, row in zip(parts, first):
        part = t.backward(*taken(shard), total=total, first_row=row)
        loss, gradient = (part, t.grads.copy()) if gradient is None else (loss + part, gradient + t.grads)
    for i, (shard, row) in enumerate(zip(parts, first)):
        t.backward(*taken(shard), total=total, first_row=row, accumulate=i > 0)  # for optimizers that compare losses
    t.grads[...] = gradient
    t.apply()
    return loss


def bits(t):
    arrays = [t.net.params, *t.net.tensors.values(), *t.state.values()]
    return [np.ascontiguousarray(array).tobytes() for array in arrays]


def run(comm, weights="none", **case):
    """The losses, and the bits after STEPS steps."""
    t = made(comm, **case)
    losses = [t.step(*taken(parts_of(t.net, comm.Get_size(), step, weights)[comm.Get_rank()])) for step in range(STEPS)]
    return losses, bits(t)


IN_ORDER = {
    **{name: {"optimizer": row.spec} for name, row in OPTIMIZERS.items()},
    "dropout and noise": {"shape": "random_ways"},
    "penalties": {"shape": "penalized"},
    "penalties per row": {"shape": "penalized", "penalty_per_row": True},
    "clip_norm": {"clip_norm": 0.1},
    "clip_layer_norm and clip_value": {"clip_layer_norm": 0.1, "clip_value": 0.01},
    "EMA": {"average": bp.EMA(0.7)},
    "SWA": {"average": bp.SWA(1, 2)},
    "weights of rows": {"weights": "rows", "shape": "random_ways"},
    "weights of targets": {"weights": "targets", "shape": "heads"},
    "several outputs": {"shape": "heads", "optimizer": "sgd_momentum(momentum=0.8)"},
    "a sequence": {"shape": "sequence"},
    "recurrent layers": {"shape": "recurrent"},
}
_MOMENTUM = {"optimizer": "sgd_momentum(lr=0.05,momentum=0.8)"}  # Adam makes large steps of gradients that are 0 up to rounding
WHOLE = {  # the statistics, or the touched rows, of all ranks
    "batch_norm": {"shape": "normal", **_MOMENTUM},
    "batch_norm, shared": {"shape": "normal_often", "average": bp.EMA(0.7), **_MOMENTUM},
    "batch_norm, standardize, dropout": {"shape": "standardized", **_MOMENTUM},
    "batch_norm of positions": {"shape": "image", "clip_norm": 0.5, **_MOMENTUM},
    "weights of rows": {"shape": "normal", "weights": "rows", **_MOMENTUM},
    **{f"sparse layers, {spec}": {"shape": "embedded", "optimizer": spec} for spec in ("sgd(lr=0.1)", "adagrad(lr=0.1)", "adam", "ftrl")},
}


@pytest.mark.parametrize("case", IN_ORDER)
def test_bits_are_those_of_the_parts_added_in_the_order_of_the_ranks(comm, case, dtype):
    options = {**IN_ORDER[case], "dtype": dtype}
    losses, ours = run(comm, **options)
    weights = options.pop("weights", "none")
    t = made(**options)
    assert losses == [step_in_order(t, parts_of(t.net, comm.size, step, weights)) for step in range(STEPS)]
    assert ours == bits(t)


@pytest.mark.parametrize("case", WHOLE)
def test_statistics_and_sparse_rows_are_those_of_all_ranks(comm, case, dtype):
    """The bits of threads that are the ranks, and the numbers of one process with all rows."""
    options = {**WHOLE[case], "dtype": dtype}
    losses, ours = run(comm, **options)
    threads = run_ranks(comm.size, lambda thread: run(thread, **options))
    assert [losses, ours] == [*threads[0]] == [*threads[-1]]
    weights, tolerance = options.pop("weights", "none"), {"float64": 1e-10, "float32": 2e-4}[dtype]
    t = made(**options)
    for step, loss in enumerate(losses):
        parts = parts_of(t.net, comm.size, step, weights)
        x, y = ([np.concatenate(arrays) for arrays in zip(*(part[i] for part in parts))] for i in (0, 1))
        w = None if weights == "none" else np.concatenate([part[2] for part in parts])
        assert t.step(*taken([x, y, w])) == pytest.approx(loss, rel=tolerance)
    for name, values in t.net.tensors.items():
        np.testing.assert_allclose(values.ravel(), np.frombuffer(ours[1 + [*t.net.tensors].index(name)], dtype), tolerance, tolerance)
