"""Exported C files: they compile without warnings, and predict with the bits of the library."""

from __future__ import annotations

import ctypes
import math
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import graphs
import numpy as np
import pytest
from cases import ACTIVATIONS, ISAS, LONG, SEED, WITHOUT_FMA

import microbp as bp
from microbp.exchange.c.file import BOUND
from microbp.exchange.c.int8 import int8_source
from microbp.exchange.c.nodes import EMITTERS, VIEWS
from microbp.exchange.c.numbers import constant
from microbp.exchange.c.source import c_source
from microbp.exchange.shared.fold import fold
from microbp.exchange.shared.together import together
from microbp.tables.encodings.category import Category
from microbp.tables.encodings.date import Date
from microbp.tables.encodings.number import Number
from microbp.tables.encodings.sparse_columns import SparseColumns
from microbp.tables.encodings.target import Target
from microbp.tables.fitted.table_model import TableModel
from microbp.tables.preparation import NOTE, Preparation

ROOT = Path(__file__).parents[3]
GCC, GXX = os.environ.get("CC") or shutil.which("cc"), shutil.which("c++")
PLAIN = [isa for isa in ISAS if isa in WITHOUT_FMA]
WARNINGS = ("-Wall", "-Wextra", "-pedantic", "-Werror")
FMA = ("-mfma",) if "avx2" in ISAS else ()
SOME = ("recurrent", "embedded", "image", "activations", "normal", "outputs", "one_value")  # which have each text
compiles = pytest.mark.skipif(not GCC, reason="there is no C compiler")
POINTER = ctypes.c_void_p


def run(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[:3000]


def library(text: str, folder: Path, *flags: str) -> ctypes.CDLL:
    """A shared library of C files that are joined."""
    source = folder / "all.c"
    source.write_text(text, "ascii")
    run(GCC, "-std=c99", *WARNINGS, *(flags or ("-O0", "-ffp-contract=off")), "-shared", "-fPIC", source, "-o", folder / "all.so")
    return ctypes.CDLL(str(folder / "all.so"))


def source(net: bp.Network, name: str = "model", preparation: Preparation | None = None, **options) -> str:
    return c_source(net, preparation, **{"raw": False, "train": None, "name": name, "header": False, **options})


def inputs_of(net: bp.Network, rows: int, seed: int = 1) -> list[np.ndarray]:
    found = graphs.rows_of(net, rows, seed)
    return [x.astype(np.float32) if x.dtype.kind == "f" else x for x in (found if isinstance(found, list) else [found])]


def predictions(net: bp.Network, xs: list[np.ndarray], **options) -> np.ndarray:
    """A row of all outputs for each row."""
    shaped = [x.reshape(len(x), *entry.row_shape) for x, entry in zip(xs, net.inputs)]
    found = net.predict(shaped if len(shaped) > 1 else shaped[0], **options)
    return np.hstack([one.reshape(len(one), -1) for one in (found if isinstance(found, list) else [found])]).astype(np.float32)


def called(built: ctypes.CDLL, net: bp.Network, xs: list[np.ndarray], name: str) -> np.ndarray:
    width = sum(math.prod(output.row_shape) for output in net.outputs)
    wide = np.int64 if any(entry.hash for entry in net.inputs) else np.int32
    rows = []
    for r in range(len(xs[0])):
        numbers = [x[r].ravel() for x, entry in zip(xs, net.inputs) if not entry.levels]
        ids = [x[r].ravel() for x, entry in zip(xs, net.inputs) if entry.levels]
        arrays = [np.concatenate(numbers)] * bool(numbers) + ([np.concatenate(ids).astype(wide)] if ids else [])
        y = np.zeros(width, np.float32)
        built[f"{name}_predict"](*(array.ctypes.data_as(POINTER) for array in (*arrays, y)))
        rows.append(y)
    return np.array(rows)


def various(net: bp.Network) -> bp.Network:
    """Makes the parts of batch norms, layer norms and scales differ from their initial values."""
    random = np.random.default_rng(3)
    for view_of in net.tensors.values():
        if view_of.ndim == 1 and len(np.unique(view_of)) == 1:
            view_of[:] = random.uniform(0.5, 1.5, view_of.shape)
    return net


def of_outputs(shape: str, activation: str) -> bp.Network:
    """A network of which each output has another activation, and the last a scale of its targets."""
    net = graphs.network(shape, activation)
    for i, (_, chosen) in enumerate(zip(net.outputs, ("softmax", "exp", "sigmoid"))):
        net.set_output(i, chosen)
    last = net.outputs[-1]
    net.set_output(len(net.outputs) - 1, "identity", np.linspace(-1, 2, last.width), np.linspace(0.5, 3, last.width))
    return net


def some_nets() -> dict[str, bp.Network]:
    nets = {shape: various(graphs.network(shape, "tanh")) for shape in [*graphs.SHAPES, "embedded"]}
    x = bp.Input(7)
    formulas = [bp.Activation.parse(row.spec) for row in ACTIVATIONS.values()]
    nets["activations"] = bp.Network(x, [formula(bp.Dense(5)(x)) for formula in formulas] + [bp.Dense(3, f)(x) for f in formulas], seed=1)
    nets["outputs"] = of_outputs("heads", "silu")
    nets["wide"] = bp.Network(x, bp.Dense(299, "relu")(bp.Dense(67)(x)), seed=2)
    nets["one_value"] = bp.Network(x, [x, bp.Dropout()(x), x[:, 2:4], bp.Dense(3)(x), bp.concat([x, x])], seed=2)
    pixel = bp.Grid(2, 2, channels=3)
    nets["pixel"] = bp.Network(pixel, bp.Conv(9, 3, pad=1)(bp.Pool(1)(bp.Pool(2)(pixel))), seed=2)
    nets["float64"] = graphs.network("skip", "tanh", dtype="float64")
    return nets


@pytest.fixture(scope="module")
def nets() -> dict[str, bp.Network]:
    return some_nets()


@compiles
@pytest.mark.skipif(not PLAIN, reason="all kernels have fused multiply-adds")
def test_predictions_have_the_bits_of_kernels_without_fused_multiply_adds(nets, tmp_path, monkeypatch):
    built = library("".join(source(net, name) for name, net in nets.items()), tmp_path)
    monkeypatch.setenv("MICROBP_ISA", PLAIN[0])
    for name, net in nets.items():
        assert built[f"{name}_check"]() == 0, name
        same, xs = fold(net), inputs_of(net, 3)
        if net.dtype == np.float64:
            same = graphs.network("skip", "tanh")
            same.params[:] = net.params
        np.testing.assert_array_equal(called(built, net, xs, name), predictions(same, xs), err_msg=name)


@compiles
def test_predictions_with_fused_multiply_adds_are_within_the_bound(nets, tmp_path):
    text = "".join(source(nets[name], name) for name in SOME)
    built = library(text, tmp_path, "-O1", "-D__OPTIMIZE_SIZE__", "-ffp-contract=fast", *FMA)
    for name in SOME:
        net = nets[name]
        assert built[f"{name}_check"]() == 0, name
        expected = predictions(net, xs := inputs_of(net, 3, seed=2))
        assert np.abs(called(built, net, xs, name) - expected).max() <= BOUND * max(1, np.abs(expected).max()), name


@compiles
@pytest.mark.parametrize("header", [False, True])
def test_c_and_cpp_compile_without_warnings(nets, tmp_path, header):
    """The functions of a header may be unused, and it may be included twice, also beside one whose name differs by case."""
    files = {name: source(nets[name], name, header=header) for name in SOME}
    files["table"] = source(*table_model(), header=header)
    files["image2"] = source(nets["image"], "Image", header=header)
    for name, text in files.items():
        (tmp_path / f"{name}.h").write_text(text, "ascii")
    whole = "".join(f'#include "{name}.h"\n' * 2 for name in files) if header else "".join(files.values())
    whole += "int both(void);\nint both(void) { return image_check() + Image_check(); }\n"
    (tmp_path / "all.c").write_text(whole, "ascii")
    compilers = ((GCC, "c", "c99"), (GXX, "c++", "c++17"), (shutil.which("clang"), "c", "c99"))
    for compiler, language, standard in (one for one in compilers if one[0]):
        for flags in ((), ("-D__OPTIMIZE_SIZE__",)):
            run(compiler, "-x", language, f"-std={standard}", *WARNINGS, *flags, "-fsyntax-only", tmp_path / "all.c")


def random_nets() -> dict[str, bp.Network]:
    nets = {}
    for i in range(200 if LONG else 6):
        random = np.random.default_rng([SEED, i])
        activation = ACTIVATIONS[str(random.choice(list(ACTIVATIONS)))].spec
        net = graphs.spread(bp.Network(*graphs.draw(random, 40, activation, None), seed=i))
        for j in range(len(net.outputs)):
            net.set_output(j, random.choice(["identity", "softmax", "sigmoid"]))
        nets[f"n{i}"] = various(net)
    return nets


def program(nets: dict[str, bp.Network], xs: dict[str, list[np.ndarray]], expected: dict[str, np.ndarray]) -> str:
    """A program that prints which networks predict other bits for their first row."""
    text = "".join(source(net, name) for name, net in nets.items()) + "#include <stdio.h>\nint main(void) {\n"
    for name in nets:
        x, y = np.concatenate([one[0].ravel() for one in xs[name]]), expected[name][0]
        text += f"{{\n{constant('x', x)}\n{constant('y', y)}\nfloat z[{y.size}];\n{name}_predict(x, z);\n"
        text += f'for (int i = 0; i < {y.size}; i++) if (z[i] != y[i]) puts("{name}");\n}}\n'
    return text + 'puts("end");\nreturn 0;\n}\n'


@compiles
@pytest.mark.skipif(not PLAIN, reason="all kernels have fused multiply-adds")
def test_random_networks_have_the_same_bits_here_and_in_webassembly(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROBP_ISA", PLAIN[0])
    nets = random_nets()
    xs = {name: inputs_of(net, 2) for name, net in nets.items()}
    expected = {name: predictions(fold(net), xs[name]) for name, net in nets.items()}
    (tmp_path / "all.c").write_text(program(nets, xs, expected), "ascii")
    run(GCC, "-std=c99", *WARNINGS, "-O0", "-ffp-contract=off", tmp_path / "all.c", "-o", tmp_path / "all")
    assert subprocess.run([tmp_path / "all"], capture_output=True, text=True, check=True).stdout == "end\n"
    tools = Path(os.environ.get("MICROBP_TARGETS", Path.home() / ".cache/microbp-targets"), "bin/python")  # of tests/targets/run
    if LONG and tools.exists():
        flags = ("-target", "wasm32-wasi", "-O1", "-std=c99", "-ffp-contract=off")  # else clang computes constants with fused ones
        run(tools, "-m", "ziglang", "cc", *flags, tmp_path / "all.c", "-o", tmp_path / "all.wasm")
        command = [tools, ROOT / "tests/targets/wasi.py", tmp_path / "all.wasm"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "end\n"


def test_each_kind_of_node_has_a_text():
    words = re.findall(r'\[MBP_NODE_\w+\] = \{"(\w+)"', (ROOT / "src/net/statements.c").read_text())
    assert len(words) > 20
    folded = {"batch_norm", "dropout", "noise"}
    assert {*EMITTERS, *VIEWS, *folded, "input", "ids"} == set(words)


def test_files_call_no_function_of_libc_but_memcpy(nets, tmp_path):
    if not GCC or not shutil.which("nm"):
        pytest.skip("there is no C compiler or no nm")
    (tmp_path / "all.c").write_text("".join(source(nets[name], name) for name in SOME) + source(*table_model()), "ascii")
    run(GCC, "-std=c99", "-Os", "-fno-pie", "-fno-stack-protector", "-c", tmp_path / "all.c", "-o", tmp_path / "all.o")
    needed = subprocess.run(["nm", "-u", tmp_path / "all.o"], capture_output=True, text=True, check=True).stdout.split()
    assert {name.lstrip("_") for name in needed} - {"U", "GLOBAL_OFFSET_TABLE_"} <= {"memcpy", "memset"}  # gcc clears arrays by memset
    with_data = subprocess.run(["nm", tmp_path / "all.o"], capture_output=True, text=True, check=True).stdout
    assert not re.search(r" [bBdDC] ", with_data)  # no state


# ---- tables ----

TABLE = {
    "size": [1.5, 2.25, None, 4.0, -1e30, 1e9],
    "age": [20, 30, 41, None, 60, 18],
    "plain": [0, 1, 1, 0, None, 1],
    "colour": ["red", "@row", "", "green", 'x\\y"?', "é"],
    "side@1": ["left", "right", "left", "other", "right", None],
    "word": ["a", "b", "c", "long word", "é", ""],
    "user": ["u1", "u2", "u3", "u9", "", "u1"],
}


def table_model(target: Target | None = None) -> tuple[bp.Network, str, Preparation]:
    """A network, the name "table", and a preparation with columns of all kinds."""
    features = (
        Number("size", 2.0, 0.75, True, clip=True, edges=(1.0, 2.0, 4.5)),
        Number("age", 33.0, 12.0, False, edges=(18.0, 30.0, 60.0), central=True),
        Number("plain", 0.0, 1.0, True),
        Category("colour", ("", "@row", "blue", "red", 'x\\y"?'), shared=1),
        Category("side@1", ("left", "right"), signed=True),
        Category("word", ("a", "b"), shared=5),
        Category("user", ("u1", "u2"), embedded=3),
    )
    preparation = Preparation(features, target or Target("kind", ("no", "yes", "may*/be@all")))
    x, user = bp.Input(preparation.width - 1), bp.Ids(1, 3)
    h = bp.Dense(6, "tanh")(bp.concat([x, bp.Embedding(3, 3)(user)]))
    net = bp.Network([x, user], bp.Dense(preparation.outputs)(h), seed=4)
    net.set_output(0, "softmax" if preparation.target.classes else "identity")
    net.notes = {NOTE: preparation.as_dict()}
    return net, "table", preparation


def prepared(built: ctypes.CDLL, preparation: Preparation, row: int) -> np.ndarray:
    cells = [(feature, TABLE[feature.name][row]) for feature in preparation.features]
    numbers = np.array([np.nan if cell is None else cell for feature, cell in cells if isinstance(feature, Number)])
    texts = [None if cell is None else cell.encode() for feature, cell in cells if isinstance(feature, Category)]
    x, ids = np.full(preparation.width - 1, np.nan, np.float32), np.full(1, -1, np.int32)
    pointers = [array.ctypes.data_as(POINTER) for array in (numbers, x, ids)]
    built.table_prepare(pointers[0], (ctypes.c_char_p * len(texts))(*texts), *pointers[1:])
    return np.concatenate([x, ids.astype(np.float32)])


@compiles
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_the_columns_of_a_table_are_prepared_as_the_library_does(tmp_path):
    net, name, preparation = table_model()
    built = library(source(net, name, preparation), tmp_path)
    expected = np.hstack(TableModel(net, preparation, bp.Loss("cross_entropy")).features(TABLE))
    found = [prepared(built, preparation, row) for row in range(len(TABLE["size"]))]
    np.testing.assert_array_equal(found, expected)
    built.table_class.restype = ctypes.c_char_p
    assert [built.table_class(i).decode() for i in range(3)] == list(preparation.target.classes)
    assert built.table_check() == 0
    assert " * texts[1]: side@1\n" in source(net, name, preparation)


@compiles
def test_the_first_comment_declares_what_other_files_call(tmp_path):
    texts = {
        "table": source(*table_model()),
        "tuned": c_source(bp.mlp([3, 4, 2], seed=0), None, None, raw=False, train="adam", name="tuned", header=False),
        "small": int8_source(bp.quantize(bp.mlp([3, 4, 2], seed=0), np.ones((1, 3))), raw=False, name="small", header=False),
    }
    for name, text in texts.items():
        head, body = text.split(" */\n", 1)
        declared = re.sub(r"^ \* ?", "", head.split("For other files that call it:")[1], flags=re.MULTILINE)
        (tmp_path / f"{name}.h").write_text(f"#include <stdint.h>\n{declared}", "ascii")
        functions = set(re.findall(rf"^(?!static|{name}_INLINE)[a-z].*\b{name}_(\w+)\(.*\) {{$", body, flags=re.MULTILINE))
        assert functions == set(re.findall(rf"\b{name}_(\w+)\(", declared))
        (tmp_path / "main.c").write_text(f'#include "{name}.h"\nint main(void) {{ return {name}_check(); }}\n', "ascii")
        (tmp_path / f"{name}.c").write_text(text, "ascii")
        run(GCC, "-std=c99", *WARNINGS, tmp_path / "main.c", tmp_path / f"{name}.c", "-o", tmp_path / name)
        run(tmp_path / name)


def test_comments_keep_names_of_columns():
    net, name, preparation = table_model()
    features = (replace(preparation.features[0], name="a@predict */"), *preparation.features[1:])
    assert " * numbers[0]: a@predict * /\n" in source(net, name, replace(preparation, features=features))


@compiles
def test_outputs_are_in_the_unit_of_the_target(tmp_path):
    targets = [
        Target("price", centre=3.0, scale=2.0),
        Target("price", centre=3.0, scale=2.0, low=0.5, high=4.0),
        Target("price", centre=1.0, scale=0.7, log=True, low=1.5, high=40.0, factor=1.25),
    ]
    net, _, preparation = table_model(targets[0])
    built = library("".join(source(net, f"t{i}", replace(preparation, target=target)) for i, target in enumerate(targets)), tmp_path)
    for i, target in enumerate(targets):
        function = built[f"t{i}_target"]
        function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
        values = np.linspace(-3, 6, 19, dtype=np.float32)
        np.testing.assert_allclose([function(value) for value in values], target.numbers(values), rtol=1e-6)


# ---- ensembles, errors ----


@compiles
@pytest.mark.parametrize("weights", [[1, 0.5, 2], [0, 3, 0]])
def test_an_ensemble_is_the_mean_of_its_members(tmp_path, weights):
    x, z = bp.Input(3), bp.Input(2)
    h = bp.Dense(5, "tanh")(bp.concat([x, z]))
    members = [bp.Network([x, z], [h, h[:, 1:4], z[:, :1], bp.Dense(2)(h)], seed=i) for i in range(3)]
    for net in members:
        for i, output in enumerate(("softmax", "exp", "sigmoid")):
            net.set_output(i, output)
    ensemble = bp.Ensemble(members, weights=weights)
    joined, votes = together(ensemble)
    built = library(c_source(joined, None, votes, raw=False, train=None, name="model", header=False), tmp_path)
    xs = inputs_of(members[0], 4)
    expected = np.hstack(ensemble.predict(xs))
    found = called(built, members[0], xs, "model")
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
    assert built.model_check() == 0


def test_what_c_cannot_have_is_refused_by_name():
    net, name, preparation = table_model()
    dated = replace(preparation, features=(*preparation.features, Date("day", {"year": (2000.0, 3.0)}, (), False)))
    with pytest.raises(ValueError, match=r"C: column 'day' is a date, which C cannot read"):
        source(net, name, dated)
    with pytest.raises(ValueError, match="C: the table's features are sparse rows"):
        source(net, name, replace(preparation, sparse=SparseColumns(9, 2.5)))
    net.params[5] = np.nan
    with pytest.raises(ValueError, match=r"C: layer \w+ \(node \d+, \w+\) has numbers that are not finite"):
        source(net)
