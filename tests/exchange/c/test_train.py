"""Training in exported C files: after 100 steps the parameters have the bits of bp.Trainer."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

import numpy as np
import pytest
from cases import ACTIVATIONS, ISAS, WITHOUT_FMA

import microbp as bp
from microbp.exchange.c.nodes import EMITTERS
from microbp.exchange.c.source import c_source
from microbp.exchange.c.train import BACKWARD, LOSSES

GCC = os.environ.get("CC") or shutil.which("cc")
PLAIN = [isa for isa in ISAS if isa in WITHOUT_FMA]
WARNINGS = ("-Wall", "-Wextra", "-pedantic", "-Werror")
compiles = pytest.mark.skipif(not GCC, reason="there is no C compiler")
SIZE = """
#ifdef __cplusplus
extern "C"
#endif
unsigned long {0}_size(void) {{ return sizeof({0}_trainer); }}
"""


def graph(output: str) -> bp.Network:
    """A network of all kinds of nodes that C trains, with two inputs and two outputs, a shared layer, and layers with settings."""
    x, z, shared = bp.Input(3), bp.Input(4), bp.Dense(6, activation="sigmoid", bias_lr=2.0)
    a = bp.Dense(6, activation="tanh", lr=0.5)(bp.Standardize()(x))
    b = bp.Dense(6, activation="gelu", name="frozen")(z)
    h = bp.Scale()(bp.LayerNorm()(shared(a) * b - shared(b) + a))
    h = bp.concat([h[:, :3], x, h[:, 2:5] * a[:, 1:4], z])
    net = bp.Network([x, z], [bp.Dense(3)(h), bp.Dense(2, bias=False)(bp.LayerNorm()(h))], seed=2)
    net.freeze("frozen")
    net.tensors["standardize_0.mean"][:] = 0.5, -1, 0
    net.set_output(0, output)
    net.set_output(1, "identity", [1.0, -2.0], [3.0, 0.5])
    return net


def activations() -> bp.Network:
    x = bp.Input(3)
    each = [part for row in ACTIVATIONS.values() for part in (bp.Dense(2, row.spec)(x), bp.Activation(row.spec)(bp.Dense(2)(x)))]
    net = bp.Network(x, bp.Dense(2)(bp.concat(each)), seed=1)
    net.set_output(0, "softmax")
    return net


NETS = {
    "formulas": (activations, "adam(lr=0.01,weight_decay=0.01)"),
    "classes": (lambda: graph("softmax"), "sgd_momentum(lr=0.01,weight_decay=0.1)"),
    "labels": (lambda: graph("sigmoid"), "adamw(lr=0.01)"),
    "numbers": (lambda: graph("identity"), "sgd_nesterov(lr=0.01)"),
    "counts": (lambda: graph("exp"), "sgd(lr=0.01)"),
    "plain": (lambda: bp.mlp([4, 8, 1], activation="relu", seed=0), "momentum_nesterov(lr=0.01)"),
    "hat": (lambda: bp.mlp([4, 8, 1], activation="tanh", seed=0), "adam(lr=0.01,eps_hat=1)"),
}


def source(net: bp.Network, spec: str, name: str = "model") -> str:
    return c_source(net, None, raw=False, train=spec, name=name, header=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("c")
    text = "".join(source(make(), spec, name) + SIZE.format(name) for name, (make, spec) in NETS.items())
    (folder / "all.c").write_text(text, "ascii")
    flags = [*WARNINGS, "-O0", "-ffp-contract=off", "-shared", "-fPIC"]
    done = subprocess.run([GCC, "-std=c99", *flags, folder / "all.c", "-o", folder / "all.so"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    if cpp := shutil.which("c++"):
        done = subprocess.run(
            [cpp, "-xc++", "-std=c++17", *WARNINGS, "-fsyntax-only", folder / "all.c"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[:3000]
    return ctypes.CDLL(str(folder / "all.so"))


class InC:
    """A trainer of a C file, and its memory."""

    def __init__(self, built: ctypes.CDLL, name: str, net: bp.Network) -> None:
        self.built, self.name = built, name
        self.memory = ctypes.create_string_buffer(built[f"{name}_size"]() + 8)
        self.train = built[f"{name}_train"]
        self.train.restype = ctypes.c_float
        built[f"{name}_train_init"](self.memory)
        self.parameters = np.frombuffer(self.memory, np.float32, len(net.params))

    def step(self, x: np.ndarray, targets: np.ndarray) -> float:
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (x, targets)]
        return self.train(self.memory, *pointers, len(x))

    def predict(self, x: np.ndarray, width: int) -> np.ndarray:
        y = np.empty((len(x), width), np.float32)
        for i in range(len(x)):
            self.built[f"{self.name}_predict"](self.memory, *(row.ctypes.data_as(ctypes.c_void_p) for row in (x[i], y[i])))
        return y


def data(net: bp.Network, rows: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(seed)
    xs = [random.normal(size=(rows, entry.width)).astype(np.float32) for entry in net.inputs]
    kinds = {"softmax": lambda n: random.integers(0, n, (rows, 1)), "identity": lambda n: random.normal(size=(rows, n))}
    return xs, [kinds.get(end.activation or "identity", lambda n: random.integers(0, 2, (rows, n)) + 0.0)(end.width) for end in net.outputs]


def compare(built: ctypes.CDLL, name: str, rows: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The parameters of both after some steps."""
    make, spec = NETS[name]
    net = make()
    there = InC(built, name, net)
    np.testing.assert_array_equal(there.parameters, net.params)
    trainer = bp.Trainer(net, loss=[LOSSES[output.activation or "identity"] for output in net.outputs], optimizer=spec)
    for seed in range(steps):
        xs, ys = data(net, rows, seed)
        joined = [np.ascontiguousarray(np.hstack(arrays), np.float32) for arrays in (xs, ys)]
        ys = [y[:, 0] if y.dtype.kind == "i" else y.astype(np.float32) for y in ys]
        loss = trainer.step(*((xs, ys) if len(ys) > 1 else (xs[0], ys[0])))
        np.testing.assert_allclose(there.step(*joined), loss, rtol=1e-4, atol=1e-5)
    found = net.predict(xs if len(xs) > 1 else xs[0])
    expected = np.hstack(found if isinstance(found, list) else [found])
    np.testing.assert_allclose(there.predict(joined[0], expected.shape[1]), expected, rtol=1e-4, atol=1e-4)
    return there.parameters, net.params


@compiles
@pytest.mark.skipif(not PLAIN, reason="all kernels have fused multiply-adds")
@pytest.mark.parametrize("name", NETS)
def test_parameters_have_the_bits_of_kernels_without_fused_multiply_adds(built, name, monkeypatch):
    monkeypatch.setenv("MICROBP_ISA", PLAIN[0])
    assert built[f"{name}_check"]() == 0
    np.testing.assert_array_equal(*compare(built, name, 1, 100))


@compiles
@pytest.mark.parametrize("name", NETS)
def test_batches_train_as_in_the_library(built, name):
    np.testing.assert_allclose(*compare(built, name, 70, 20), rtol=1e-4, atol=1e-5)


@compiles
def test_a_step_that_is_not_finite_or_has_a_wrong_class_changes_nothing(built):
    net = NETS["classes"][0]()
    there = InC(built, "classes", net)
    x, target = np.ones((1, 7), np.float32), np.array([[1, 0, 0]], np.float32)
    assert np.isfinite(there.step(x, target))
    before = there.parameters.copy()
    for wrong in (3, -1, 0.5, np.nan):
        assert np.isnan(there.step(x, np.array([[wrong, 0, 0]], np.float32)))
    assert not np.isfinite(there.step(x * np.inf, target))
    assert not np.isfinite(there.step(x, np.array([[1, np.inf, 0]], np.float32)))
    there.step(x[:0], target)
    np.testing.assert_array_equal(there.parameters, before)
    assert np.isfinite(there.step(x, target))
    assert (there.parameters != before).any()


def test_each_kind_of_node_is_trained_or_known_not_to_be():
    positions = {"window", "pool", "repeat", "recurrent"}
    assert set(EMITTERS) - set(BACKWARD) == positions | {"embedding"} & set(EMITTERS)
    assert set(BACKWARD) <= set(EMITTERS)


def test_what_c_cannot_train_is_refused_by_name():
    x = bp.Input(4)
    refused = {
        r"layer batch_norm_0 \(node 2, batch_norm\) cannot be written: only dense, .* can be trained there": bp.BatchNorm()(bp.Dense(3)(x)),
        r"node 1, dropout cannot be written": bp.Dropout()(x),
        r"layer dense_0 \(node 1, dense\) cannot be written: its layer has max_norm": bp.Dense(3, max_norm=1.0)(x),
        r"layer dense_0 .* its layer has l2": bp.Dense(3, l2=0.1)(x),
    }
    for text, node in refused.items():
        with pytest.raises(ValueError, match=f"training in C: {text}"):
            source(bp.Network(x, bp.Dense(1)(node)), "sgd")
    sequence = bp.Sequence(5, 2)
    with pytest.raises(ValueError, match=r"training in C: .*node 1, grid"):
        source(bp.Network(sequence, bp.Dense(1)(bp.Last()(bp.Dense(2)(sequence)))), "sgd")
    frozen = bp.mlp([2, 1])
    frozen.freeze("dense_0")
    for net in (frozen, bp.Network(x, bp.Dense(1, lr=0)(x)), bp.Network(x, x[:, 1:3])):
        with pytest.raises(ValueError, match="training in C: no parameter would change: unfreeze a layer, or export"):
            source(net, "sgd")
    net = bp.mlp([2, 1])
    with pytest.raises(ValueError, match="training in C: 'lion' is not there; choose one of sgd, sgd_momentum, .*adam"):
        source(net, "lion")
    with pytest.raises(ValueError, match="training in C: decay_bias=1 is not there"):
        source(net, "sgd(decay_bias=1)")
    with pytest.raises(ValueError, match=r"only a single network can be trained, not an ensemble of 2; export one of its nets"):
        c_source(net, None, [1.0, 2.0], raw=False, train="sgd", name="model", header=False)
