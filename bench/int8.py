"""Networks in int8 beside float32: errors, accuracy, bytes and time; the anomaly detector of MLPerf Tiny also beside LiteRT.

    python bench/int8.py [--data FOLDER] [--quick]

Errors are rms(predictions - those in float64) / rms(those in float64). The detector: 640-128-128-128-128-8-128-128-128-128-640, batch norms
folded, calibrated with the 20 even rows of the file ad.bin; the error is that of the odd rows, and of all. LiteRT's network is the one that
the benchmark publishes, calibrated by its authors. MNIST: 784-512-512-10, relu, trained for a few epochs, calibrated with 1,000 training
images. Times are medians of one thread: float32 and int8 in turns from C (kernels/int8_rows.c, with the installed library), LiteRT's from
Python (invoke). Needs h5py; LiteRT (pip install ai-edge-litert) if installed.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from training.data import DEFAULT_FOLDER, mnist

import microbp as bp
from microbp.exchange.quantize import QuantizeMethod

Array = npt.NDArray[Any]
METHODS: tuple[QuantizeMethod, ...] = get_args(QuantizeMethod)
DETECTOR = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]


def detector(folder: Path, dtype: Any) -> bp.Network:
    """The network of ad01.h5."""
    h5py = importlib.import_module("h5py")
    x: Any = bp.Input(640)
    h = x
    for width in DETECTOR[1:-1]:
        h = bp.Activation("relu")(bp.BatchNorm(eps=1e-3)(bp.Dense(width)(h)))
    net = bp.Network(x, bp.Dense(640)(h), dtype=dtype)
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    with h5py.File(folder / "ad01.h5") as file:
        for i in range(len(DETECTOR) - 1):
            end = f"_{i}" if i else ""
            dense = file["model_weights"][f"dense{end}"][f"dense{end}"]
            net.tensors[f"dense_{i}.weight"][...] = np.asarray(dense["kernel:0"]).T
            net.tensors[f"dense_{i}.bias"][...] = dense["bias:0"]
            for ours, theirs in names.items() if f"batch_norm_{i}.weight" in net.tensors else ():
                norm = f"batch_normalization{end}"
                net.tensors[f"batch_norm_{i}.{ours}"][...] = file["model_weights"][norm][norm][f"{theirs}:0"]
    return net


def error(found: Array, exact: Array) -> float:
    return float(np.sqrt(np.square(found - exact).mean() / np.square(exact).mean()))


class Lite:
    """The published network in LiteRT's interpreter, of one row."""

    def __init__(self, path: Path) -> None:
        self.net = importlib.import_module("ai_edge_litert.interpreter").Interpreter(str(path), num_threads=1)
        self.net.allocate_tensors()
        self.x, self.y = self.net.get_input_details()[0], self.net.get_output_details()[0]

    def predict(self, rows: Array) -> Array:
        (scale, zero), (y_scale, y_zero) = self.x["quantization"], self.y["quantization"]
        found = []
        for row in rows:
            self.net.set_tensor(self.x["index"], np.clip(np.rint(row / scale) + zero, -128, 127).astype(np.int8)[None])
            self.net.invoke()
            found.append((self.net.get_tensor(self.y["index"])[0].astype(np.float64) - y_zero) * y_scale)
        return np.array(found)

    def microseconds(self, seconds: float) -> float:
        times = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            for _ in range(100):
                self.net.invoke()
            times.append((time.perf_counter() - start) * 1e4)
        return statistics.median(times)


def microseconds(rows: int, widths: list[int], seconds: float) -> tuple[float, float]:
    """The time of a call in float32 and in int8, from C."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "rows"
        library = Path(bp.get_library_dir()) / "libmicrobp.a"
        source = Path(__file__).parent / "kernels" / "int8_rows.c"
        subprocess.run(
            ["cc", "-O2", f"-I{bp.get_include()}", str(source), str(library), "-lm", "-lpthread", "-o", str(program)], check=True
        )
        words = [str(program), str(rows), str(seconds), *map(str, widths)]
        floats, whole = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    return float(floats) / 1000, float(whole) / 1000


def show_detector(data: Path, seconds: float) -> None:
    folder = data / "mlperf-tiny"
    rows = np.fromfile(folder / "ad.bin", np.float32).reshape(-1, 640)
    net, exact = detector(folder, "float32"), detector(folder, "float64").predict(rows)
    print("| detector | error of odd rows | of all 40 | bytes |\n|---|---|---|---|")
    print(
        f"| float32 | {error(net.predict(rows)[1::2], exact[1::2]):.2e} | {error(net.predict(rows), exact):.2e} | {net.params.nbytes:,} |"
    )
    for method in METHODS:
        made = bp.quantize(net, rows[::2], method)
        found = made.predict(rows)
        print(f"| int8, {method} | {error(found[1::2], exact[1::2]):.4f} | {error(found, exact):.4f} | {made.nbytes:,} |")
    lite = None
    try:
        lite = Lite(folder / "ad01_int8.tflite")
        found = lite.predict(rows)
        size = (folder / "ad01_int8.tflite").stat().st_size
        print(f"| LiteRT int8 | {error(found[1::2], exact[1::2]):.4f} | {error(found, exact):.4f} | {size:,} |")
    except ImportError:
        print("| LiteRT is not installed |")
    floats, whole = microseconds(1, DETECTOR, seconds)
    print(f"\none row, us: float32 {floats:.2f}, int8 {whole:.2f}" + (f", LiteRT int8 {lite.microseconds(seconds):.2f}" if lite else ""))


def show_outliers() -> None:
    """7-32-3 with relu and normal inputs: 4,000 rows for calibration, of whose 28,000 numbers one is far out."""
    net = bp.mlp([7, 32, 3], activation="relu", seed=0)
    x = np.random.default_rng(0).normal(size=(4000, 7)).astype(np.float32)
    print("\n| one number of X is | " + " | ".join(METHODS) + " |\n" + "|---" * (1 + len(METHODS)) + "|")
    for size in (0, 10, 40, 400):
        rows = x.copy()
        rows[0, 0] = size
        cells = [error(bp.quantize(net, rows, method).predict(x), net.predict(x)) for method in METHODS]
        print(f"| {size} | " + " | ".join(f"{cell:.4f}" for cell in cells) + " |")


def show_mnist(data: Path, seconds: float, epochs: int) -> None:
    train, test = mnist(data)
    print("\n| MNIST 784-512-512-10, seed | float32 % | " + " | ".join(METHODS) + " |\n" + "|---" * (2 + len(METHODS)) + "|")
    for seed in range(3 if epochs > 1 else 1):
        net = bp.mlp([784, 512, 512, 10], activation="relu", seed=seed)
        bp.Trainer(net, loss="cross_entropy", optimizer=bp.Adam(lr=1e-3)).fit(train.x, train.labels, epochs=epochs, batch_size=128)
        cells = [bp.accuracy(test.labels, net.predict(test.x))]
        cells += [bp.accuracy(test.labels, bp.quantize(net, train.x[:1000], method).predict(test.x)) for method in METHODS]
        print(f"| {seed} | " + " | ".join(f"{100 * cell:.2f}" for cell in cells) + " |")
    print("\n| rows | float32 us | int8 us | ratio |\n|---|---|---|---|")
    for rows in (1, 1024):
        floats, whole = microseconds(rows, [784, 512, 512, 10], seconds)
        print(f"| {rows} | {floats:,.1f} | {whole:,.1f} | {floats / whole:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--quick", action="store_true", help="short, for a test")
    options = parser.parse_args()
    seconds = 0.2 if options.quick else 3.0
    show_detector(options.data, seconds)
    show_outliers()
    show_mnist(options.data, seconds, 1 if options.quick else 5)


if __name__ == "__main__":
    main()
