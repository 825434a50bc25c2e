"""mbp_trainer_fit and mbp_trainer_measure give what Python's fit and metrics give: fit_in_c.c runs them on the same files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import microbp as bp
from microbp.core import specs
from microbp.settings import metrics as metric_functions
from microbp.settings import optimizers

ROOT = Path(__file__).parents[3]
CC = shutil.which(os.environ.get("CC", "cc"))
DTYPES = {"float32": 0, "float64": 1, "int64": 9}

pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "fit_in_c"
    includes = ["-I", ROOT / "src/include", "-I", ROOT / "tests/c"]
    library = f"{bp.get_library_dir()}/libmicrobp.a"
    subprocess.run([CC, "-std=gnu11", "-O1", *includes, Path(__file__).with_name("fit_in_c.c"), library, "-o", path, "-lm", "-pthread"],
                   check=True, timeout=120)  # fmt: skip
    return path


def hidden(kind, dtype):
    """A network with two layers below its outputs: (inputs, last node)."""
    x = bp.Input(5)
    h = bp.Dense(9, activation="tanh")(bp.Standardize()(x) if kind == "standardize" else x)
    if kind == "dropout":
        h = bp.Dropout(0.3)(h)
    if kind == "batch_norm":
        h = bp.BatchNorm()(h)
    return x, h


def network(kind, widths, dtype):
    x, h = hidden(kind, dtype)
    return bp.Network(x, [bp.Dense(width)(h) for width in widths], dtype=dtype, seed=3)


def targets(loss, rows, width, random):
    if loss.startswith("cross_entropy"):
        return random.integers(0, width, rows)
    if loss == "hinge":
        return random.choice([-1.0, 1.0], (rows, width))
    y = random.random((rows, width // 2 if loss.startswith(("gaussian_nll", "quantile(q=[")) else width))
    return (y > 0.5).astype(float) if loss == "bce" else y


def arrays(losses, widths, rows, dtype, weighted, random):
    x = random.normal(size=(rows, 5)).astype(dtype)
    ys = [targets(loss, rows, width, random) for loss, width in zip(losses, widths, strict=True)]
    weight = random.choice([0.0, 0.5, 1.0, 2.0], rows) if weighted else None
    return x, [y.astype(np.int64 if y.dtype.kind == "i" else dtype) for y in ys], weight


def write(folder, name, array):
    array = np.ascontiguousarray(array).reshape(len(array), -1)
    (folder / f"{name}.bin").write_bytes(array.tobytes())
    (folder / f"{name}.txt").write_text(f"{DTYPES[str(array.dtype)]} {array.shape[0]} {array.shape[1]}")


def write_rows(folder, name, rows):
    x, ys, weight = rows
    write(folder, f"{name}0", x)
    for i, y in enumerate(ys):
        write(folder, f"{name}_y{i}", y)
    if weight is not None:
        write(folder, f"{name}_weight0", weight)


def as_arguments(rows):
    x, ys, weight = rows
    return x, ys if len(ys) > 1 else ys[0], weight


def run(program, folder, *words):
    done = subprocess.run([str(word) for word in (program, folder, *words)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


# (losses, widths), optimizer, network, weights of rows, validation rows (-1: none), its weights, patience, min_delta, options of fit
CASES = [
    ((["mse"], [2]), "adam", "plain", False, -1, False, 0, 0.0, {}),
    ((["mse"], [1]), "sgd", "dropout", True, 40, True, 2, 0.0, {}),
    ((["mae"], [3]), "momentum", "batch_norm", True, 700, False, 1, 1e-3, {"batch_size": 16}),
    ((["huber"], [1]), "rmsprop", "plain", False, 40, True, 3, 0.01, {"shuffle": False}),
    ((["bce"], [3]), "adamw", "dropout", False, 33, False, 1, 0.0, {"batch_size": 7}),
    ((["hinge"], [2]), "lion", "batch_norm", False, 40, True, 2, 0.0, {"shuffle": False}),
    ((["poisson"], [2]), "nadam", "plain", True, -1, False, 0, 0.0, {"shuffle": False}),
    ((["cross_entropy"], [4]), "lamb", "dropout", True, 40, False, 1, 0.0, {"batch_size": 1000}),
    ((["half_sse"], [1]), "adam", "standardize", True, 30, True, 2, 0.0, {}),
    ((["cross_entropy"], [2]), "rprop", "batch_norm", False, 40, True, 2, 0.0, {}),
    ((["quantile"], [1]), "adadelta", "plain", True, 10, False, 0, 0.0, {"halve_at": 2}),
    ((["mse", "cross_entropy"], [2, 3]), "adam", "dropout", True, 40, True, 1, 0.0, {"halve_at": 1}),
    ((["bce", "poisson"], [1, 2]), "ftrl", "batch_norm", True, -1, False, 0, 0.0, {"stop_at": 3}),
    ((["mae", "hinge"], [1, 1]), "adagrad", "plain", False, 300, True, 2, 0.0, {"stop_at": 2, "halve_at": 1}),
    ((["mse"], [2]), "adam", "plain", False, 40, False, 2, 0.0, {"standardize_targets": True}),
    ((["huber", "quantile(q=[0.1 0.9])"], [2, 4]), "sgd", "standardize", True, -1, False, 0, 0.0, {"standardize_targets": True}),
    ((["gaussian_nll"], [4]), "adam", "plain", True, -1, False, 0, 0.0, {"standardize_targets": True}),
    ((["mse"], [2]), "adam", "plain", False, -1, False, 0, 0.0, {"goal": 0.9}),
    ((["mse"], [1]), "sgd", "plain", False, -1, False, 0, 0.0, {"batch_size": 203, "gradient_tolerance": 0.3}),
    ((["mse"], [2]), "lbfgs", "plain", True, -1, False, 0, 0.0, {}),
    ((["cross_entropy"], [3]), "lbfgs", "plain", False, 40, True, 2, 0.0, {}),
    ((["mse", "cross_entropy"], [2, 3]), "lbfgs", "plain", True, 40, False, 1, 0.0, {"stop_at": 12}),
    ((["mse"], [1]), "lbfgs", "standardize", False, -1, False, 0, 0.0, {"goal": 0.2, "standardize_targets": True}),
    ((["bce"], [2]), "lbfgs", "plain", True, -1, False, 0, 0.0, {"gradient_tolerance": 0.05}),
]  # fmt: skip


def in_python(t, data, validation, patience, min_delta, options, epochs):
    """The records of two fits."""
    records, options = [], dict(options)
    halve_at, stop_at = options.pop("halve_at", 0), options.pop("stop_at", 0)

    def callback(record):
        records.append(record)
        if record.epoch == halve_at:
            t.lr = t.lr / 2
        return record.epoch == stop_at

    if patience:
        options |= {"patience": patience, "min_delta": min_delta}
    x, y, weight = as_arguments(data)
    for _ in range(2):
        t.fit(x, y, epochs=epochs, sample_weight=weight, validation=validation and as_arguments(validation), callback=callback, **options)
    return records


def floats(values):
    return np.array([float.fromhex(value) if "x" in value else float(value) for value in values])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{'+'.join(case[0][0])}-{case[1]}-{case[2]}")
def test_fit_gives_the_same_bits(case, dtype, program, tmp_path):
    (losses, widths), optimizer, kind, weighted, tested, tested_weighted, patience, min_delta, options = case
    random = np.random.default_rng(1)
    data = arrays(losses, widths, 203, dtype, weighted, random)
    validation = None if tested < 0 else arrays(losses, widths, tested, dtype, tested_weighted, random)
    net = network(kind, widths, dtype)
    loss_weights = [1.0, 0.5][: len(losses)]
    options = dict(options)
    scaled = options.pop("standardize_targets", False)
    t = bp.Trainer(net, losses if len(losses) > 1 else losses[0], optimizer, loss_weights, seed=11, standardize_targets=scaled)
    net.save(tmp_path / "net.safetensors")
    write_rows(tmp_path, "data", data)
    if validation:
        write_rows(tmp_path, "validation", validation)
    words = [optimizers.parse(optimizer).text, 11, 9, options.get("batch_size", 0), int(not options.get("shuffle", True)) + 2 * scaled]
    words += [patience, min_delta, options.get("halve_at", 0), options.get("stop_at", 0)]
    words += [options.get("goal", 0), options.get("gradient_tolerance", 0), len(losses)]
    words += [word for pair in zip([specs.Loss.parse(loss).text for loss in losses], loss_weights, strict=True) for word in pair]
    *lines, end = run(program, tmp_path, *words)
    records = in_python(t, data, validation, patience, min_delta, options, 9)
    found = [line.split() for line in lines]
    assert [[int(line[0]), int(line[1])] for line in found] == [[record.epoch, record.steps] for record in records]
    for i, name in enumerate(["loss", "val_loss", "lr"]):
        expected = [record.get(name, np.nan) for record in records]
        np.testing.assert_array_equal(floats(line[2 + i] for line in found), expected, name)
    assert end == f"{t.epoch} {t.steps} {t.stop_reason}"
    state = np.concatenate([net.params, net.buffers, *t.state.values()])
    assert (tmp_path / "state.bin").read_bytes() == state.tobytes()


LABELS = ("accuracy", "subset_accuracy", "balanced_accuracy", "f1")
NUMBERS = ("rmse", "mae", "r2", "pinball")
MEASURES = {"cross_entropy": (*LABELS, "brier"), "bce": (*LABELS, "brier", *NUMBERS), "hinge": LABELS}


@pytest.mark.parametrize("rows", [1, 203, 1500])
@pytest.mark.parametrize(
    ("spoiled", "weighted"), [(None, False), (None, True), ("inputs", True), ("targets", False), ("targets", True), ("constant", True)]
)
@pytest.mark.parametrize(
    ("losses", "widths"),
    [
        (["mse"], [1]), (["mae"], [3]), (["quantile(q=0.9)"], [2]), (["poisson"], [2]), (["bce"], [1]), (["bce"], [3]), (["hinge"], [1]),
        (["hinge"], [2]), (["cross_entropy"], [2]), (["cross_entropy"], [4]), (["probabilities"], [3]), (["mse", "cross_entropy"], [2, 3]),
    ],
)  # fmt: skip
def test_measures_equal_those_of_python(losses, widths, spoiled, weighted, rows, program, tmp_path):
    random = np.random.default_rng(rows)
    are_probabilities, losses = losses == ["probabilities"], ["cross_entropy" if loss == "probabilities" else loss for loss in losses]
    x, ys, weight = arrays([specs.Loss.parse(loss).name for loss in losses], widths, rows, "float32", weighted, random)
    if are_probabilities:
        ys = [random.dirichlet(np.ones(3), rows).astype("float32")]
    spoil(spoiled, x, ys)
    if weighted:
        weight[0] = 0.7
    net = network("plain", widths, "float32")
    t = bp.Trainer(net, losses if len(losses) > 1 else losses[0], "sgd")
    net.save(tmp_path / "net.safetensors")
    write_rows(tmp_path, "data", (x, ys, weight))
    names = [(i, name) for i, loss in enumerate(losses) for name in MEASURES.get(loss, NUMBERS)]
    words = ["sgd", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, len(losses), *(word for loss in losses for word in (loss, 1))]
    found = floats(run(program, tmp_path, *words, *(f"{i}:{name}" for i, name in names))[1:])
    outputs = t.predict(x)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    for (i, name), value in zip(names, found, strict=True):
        expected = getattr(bp, name)(ys[i], outputs[i], sample_weight=weight, loss=losses[i])
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13, err_msg=f"{name} of output {i}")
    if spoiled is None and len(losses) == 1:
        t.lr = 0
        records = t.fit(x, ys[0], epochs=1, sample_weight=weight, metrics=[name for _, name in names])
        for (_, name), value in zip(names, found, strict=True):
            np.testing.assert_allclose(value, records[name], rtol=1e-6, atol=1e-6, err_msg=f"{name} in fit")


def spoil(how, x, ys):
    """Changes some values of every fifth row, from the second on."""
    for y in ys:
        if how == "constant" and y.dtype.kind == "f":
            y[:] = 1
        elif how == "targets" and y.dtype.kind == "f":
            y[1::5, -1] = np.nan
    if how == "inputs":
        x[1::5, 2] = np.nan


def test_the_errors_of_measures(program, tmp_path):
    random = np.random.default_rng(0)
    net = network("plain", [2], "float32")
    bp.Trainer(net, "mse", "sgd")
    net.save(tmp_path / "net.safetensors")
    write_rows(tmp_path, "data", arrays(["mse"], [2], 20, "float32", False, random))
    words = [program, tmp_path, "sgd", *[0] * 10, 1, "mse", 1]
    for measure, text in [
        ("0:acuracy", 'the loss mse has no measure "acuracy"; valid: rmse, mae, r2, pinball'),
        ("0:maee", 'the loss mse has no measure "maee"; did you mean "mae"? valid: rmse, mae, r2, pinball'),
        ("3:mae", "there is no output 3: the net has 1 output"),
    ]:
        done = subprocess.run([str(word) for word in (*words, measure)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert text in done.stdout


def test_python_names_the_same_measures():
    for loss in ("mse", "bce", "hinge", "cross_entropy"):
        fitting = {name for name, named in metric_functions.NAMED.items() if named.fits(specs.Loss.parse(loss))}
        assert set(MEASURES.get(loss, NUMBERS)) == fitting - {"auc", "log_loss"}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("loss", "width"), [("mse", 1), ("mae", 3), ("quantile(q=0.9)", 2), ("bce", 3), ("hinge", 2), ("cross_entropy", 3)]
)
def test_measures_and_fits_with_missing_targets_equal_those_of_python(loss, width, weighted, program, tmp_path):
    random = np.random.default_rng(width)
    x, (y,), weight = arrays([specs.Loss.parse(loss).name], [width], 203, "float32", weighted, random)
    if y.dtype.kind == "f":
        y[random.random(y.shape) < 0.3] = np.nan
        y[40:50] = np.nan
        gaps = np.isnan(y)
    else:
        y[random.random(y.shape) < 0.3] = -1
        gaps = (y == -1).reshape(-1)
    net = network("plain", [width], "float32")
    parsed = specs.Loss.parse(loss)
    t = bp.Trainer(net, specs.Loss(parsed.name, missing=True, **parsed.parameters), "sgd")
    net.save(tmp_path / "net.safetensors")
    write_rows(tmp_path, "data", (x, [y], weight))
    names = MEASURES.get(loss, NUMBERS)
    words = ["sgd", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, t.losses[0].text, 1]
    found = floats(run(program, tmp_path, *words, *(f"0:{name}" for name in names))[1:])
    of_rows = np.ones(203) if weight is None else weight
    each = np.where(gaps, 0.0, of_rows if gaps.ndim == 1 else of_rows[:, None])
    each = each.reshape(-1) if each.shape == (203, 1) else each
    for name, value in zip(names, found, strict=True):
        expected = getattr(bp, name)(np.where(gaps, 0, y), t.predict(x), sample_weight=each, loss=loss)
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13, err_msg=name)
    t.lr = 0
    records = t.fit(x, y, epochs=1, sample_weight=weight, metrics=list(names))
    for name, value in zip(names, found, strict=True):
        np.testing.assert_allclose(value, records[name], rtol=1e-6, atol=1e-6, err_msg=f"{name} in fit")
