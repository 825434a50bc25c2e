"""Exported C files of int8 networks predict with the bits of bp.QuantizedNetwork."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

import numpy as np
import pytest
from cases import ACTIVATIONS

import microbp as bp
from microbp.exchange.c.int8 import int8_source

GCC, GXX = os.environ.get("CC") or shutil.which("cc"), shutil.which("c++")
WARNINGS = ("-Wall", "-Wextra", "-pedantic", "-Werror", "-ffp-contract=off")
pytestmark = pytest.mark.skipif(not GCC, reason="there is no C compiler")
RANDOM = np.random.default_rng(0)


def image(layer, last: int = 3) -> bp.Network:
    x = bp.Grid(9, 8, 2)
    return bp.Network(x, bp.Dense(last)(bp.Flatten()(layer(x))), seed=1)


def scaled() -> bp.Network:
    x = bp.Input(4)
    net = bp.Network(x, bp.Dense(3)(bp.Dense(9, "relu")(bp.Standardize()(x))), seed=1)
    net.tensors["standardize_0.mean"][:] = 1, -2, 0, 3
    return net


def networks() -> dict[str, bp.Network]:
    found = {f"a{i}": bp.mlp([6, 9, 5], row.spec, seed=i) for i, row in enumerate(ACTIVATIONS.values())}
    found["deep"] = bp.mlp([20, 70, 8, 64, 5], "relu", seed=1)
    found["one"] = bp.mlp([3, 1], seed=1)
    found["scaled"] = scaled()
    found["same"] = image(lambda x: bp.Conv(4, (2, 3), stride=2, activation="tanh")(bp.Pool(2)(bp.Conv(5, 3, pad=1, activation="relu")(x))))
    found["mean"] = image(lambda x: bp.Pool((3, 2), stride=2, kind="mean")(bp.Conv(5, 3, pad=2, dilation=2, activation="relu")(x)))
    found["sequence"] = bp.Network(s := bp.Sequence(12, 2), bp.Dense(2)(bp.Dense(3, "relu")(bp.Conv(4, 3)(s))), seed=1)
    pixel = bp.Grid(2, 2, 3)
    found["pixel"] = bp.Network(pixel, bp.Dense(2)(bp.Flatten()(bp.Pool(1)(bp.Conv(4, 3, pad=1)(bp.Pool(2)(pixel))))), seed=1)
    for net, kind in zip(found.values(), ["softmax", "sigmoid", "exp", "identity"] * len(found), strict=False):
        net.set_output(0, kind)
    found["one"].set_output(0, "identity", [2.0], [0.3])
    return found


def test_predictions_have_the_bits_of_the_library(tmp_path):
    quantized = {}
    for name, net in networks().items():
        x = RANDOM.normal(size=(50, *net.inputs[0].row_shape)).astype(np.float32)
        quantized[name] = bp.quantize(net, x), np.concatenate([x[:5], 100 * x[:2], np.full_like(x[:1], np.nan)])
    options = {"raw": False, "header": False}
    text = "".join(int8_source(q, name=name, **options) for name, (q, _) in quantized.items())
    text += int8_source(quantized["deep"][0], name="raw", raw=True, header=True)
    (tmp_path / "all.c").write_text(text, "ascii")
    flags = ["-std=c99", *WARNINGS, "-O1", "-shared", "-fPIC", tmp_path / "all.c", "-o", tmp_path / "all.so"]
    commands = [
        [GCC, "-Wno-unused-function", *flags],
        *([[GXX, "-xc++", "-std=c++17", *WARNINGS, "-fsyntax-only", tmp_path / "all.c"]] * bool(GXX)),
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:3000]
    built = ctypes.CDLL(str(tmp_path / "all.so"))
    for name, (q, xs) in quantized.items():
        assert built[f"{name}_check"]() == 0, name
        expected = q.predict(xs).reshape(len(xs), -1)
        found = np.empty_like(expected)
        for i in range(len(xs)):
            row = np.ascontiguousarray(xs[i])
            built[f"{name}_predict"](row.ctypes.data_as(ctypes.c_void_p), found[i].ctypes.data_as(ctypes.c_void_p))
        np.testing.assert_array_equal(found, expected, err_msg=name)
