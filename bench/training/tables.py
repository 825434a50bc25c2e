"""Results of `microbp train` on tables without options, compared with goals.

    python bench/training/tables.py [--data DIR] [--seeds N] [set ...]

The tables of scikit-learn are written to CSV, and the command splits them, once for each seed. The UCI sets have published splits; a9a and
MNIST have a test part.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import data
import numpy as np

import microbp as bp
from microbp.cli.main import main as microbp

# The metric and the goal for its mean: minimum accuracy or maximum error; None: no goal.
AIMS = {
    "digits": ("accuracy", 0.97),
    "cancer": ("accuracy", 0.96),
    "wine": ("accuracy", 0.95),
    "a9a": ("accuracy", 0.845),
    "mnist": ("accuracy", 0.978),
    "diabetes": ("rmse", None),
    "energy": ("rmse", 1.1),
    "yacht": ("rmse", 1.2),
    "concrete": ("rmse", None),
}


def write(path: Path, x: Any, y: Any) -> str:
    """Writes a table to CSV, with the target last."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*(f"column {i}" for i in range(len(x[0]))), "out"])
        rows.writerows([*row, out] for row, out in zip(np.asarray(x).tolist(), np.asarray(y).tolist()))
    return str(path)


def runs(name: str, root: Path, folder: Path, seeds: int) -> Iterator[list[str]]:
    """The arguments of each run."""
    if name in ("energy", "yacht", "concrete"):
        table = data.uci(root, name)
        for i, (train, test) in enumerate(table.splits):
            files = [write(folder / f"{part}.csv", table.x[rows], table.y[rows]) for part, rows in (("train", train), ("test", test))]
            yield [files[0], "--test-file", files[1], "--seed", str(i)]
    elif name == "a9a":
        yield [str(root / "a9a" / "a9a.gz"), "--test-file", str(root / "a9a" / "a9a.t.gz")]
    elif name == "mnist":
        first, second = data.mnist(root)
        pixels = [np.round(part.x * 255).astype(np.uint8) for part in (first, second)]
        np.savez(folder / "mnist.npz", x_train=pixels[0], y_train=first.labels, x_test=pixels[1], y_test=second.labels)
        yield [str(folder / "mnist.npz")]
    else:
        yield from ([_scikit(name, folder), "--seed", str(seed)] for seed in range(seeds))


def _scikit(name: str, folder: Path) -> str:
    from sklearn import datasets

    if name == "digits":
        return name
    bunch = {"cancer": datasets.load_breast_cancer, "wine": datasets.load_wine, "diabetes": datasets.load_diabetes}[name]()
    return write(folder / f"{name}.csv", bunch.data, bunch.target if name == "diabetes" else bunch.target_names[bunch.target])


def report(name: str, root: Path, seeds: int) -> None:
    """Prints the row of a data set."""
    measure, aim = AIMS[name]
    reached, nets, start = [], set(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for arguments in runs(name, root, Path(folder), seeds):
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = microbp(["train", *arguments, "--json", "--out", f"{folder}/net.safetensors", "--force"])
            if code:
                raise SystemExit(err.getvalue())
            result = json.loads(out.getvalue())
            reached.append(result["test"][measure])
            nets.add(result["net"])
    mean, spread = np.mean(reached), np.std(reached) / len(reached) ** 0.5
    seconds = (time.perf_counter() - start) / len(reached)
    print(
        f"| {name} | {measure} | {mean:.4f} +- {spread:.4f} | {aim or ''} | {len(reached)} | {seconds:.1f} | {', '.join(nets)} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help=f"{', '.join(AIMS)} (default: all)")
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=20, help="number of splits of tables without published splits (default: %(default)s)")
    arguments = parser.parse_args()
    print(f"microbp {bp.__version__}\n\n| set | metric | mean | goal | runs | seconds each | net |\n|---|---|---|---|---|---|---|")
    for name in arguments.sets or AIMS:
        report(name, arguments.data, arguments.seeds)


if __name__ == "__main__":
    main()
