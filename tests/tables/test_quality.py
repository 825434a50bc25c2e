"""What `microbp train` achieves with its smallest budget; `bench/tables.py` measures more splits and sets, and other libraries."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from microbp.cli.main import main

SHARED = Path(__file__).parents[3] / "shared" / "data"


def mean(capsys, name, measure, path, seeds, *arguments):
    """The mean over splits of a metric on the test rows."""
    found = []
    for seed in range(seeds):
        assert (
            main(
                [
                    "train",
                    str(path),
                    "--budget",
                    "fast",
                    "--json",
                    "--seed",
                    str(seed),
                    "--out",
                    f"{path.parent}/{name}.{seed}.safetensors",
                    *arguments,
                ]
            )
            == 0
        )
        found.append(json.loads(capsys.readouterr().out)["test"][measure])
    return np.mean(found)


def write(path, x, y):
    lines = [[f"x{i}" for i in range(x.shape[1])] + ["y"], *([*map(repr, row), label] for row, label in zip(x.tolist(), y.tolist()))]
    path.write_text("\n".join(",".join(map(str, line)) for line in lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("name", "measure", "low", "high"),
    [("breast_cancer", "accuracy", 0.96, 1), ("wine", "accuracy", 0.95, 1), ("diabetes", "rmse", 45, 65)],
)
def test_tables_of_scikit_learn(capsys, tmp_path, name, measure, low, high):
    datasets = pytest.importorskip("sklearn.datasets")
    data = getattr(datasets, f"load_{name}")()
    y = data.target if measure == "rmse" else data.target_names[data.target]
    assert low <= mean(capsys, name, measure, write(tmp_path / "x.csv", data.data, y), 4) <= high


@pytest.mark.parametrize(("name", "most"), [("energy", 1.1), ("yacht", 1.2)])
def test_tables_of_uci(capsys, tmp_path, name, most):
    folder = SHARED / "uci-regression" / name
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    table = np.loadtxt(folder / "data.txt")
    columns = np.loadtxt(folder / "index_features.txt", dtype=int)
    target = int(np.loadtxt(folder / "index_target.txt"))
    assert mean(capsys, name, "rmse", write(tmp_path / "x.csv", table[:, columns], table[:, target]), 3, "--test", "0.1") <= most


def test_a9a(capsys, tmp_path):
    if not (SHARED / "a9a").is_dir():
        pytest.skip(f"there is no {SHARED / 'a9a'}")
    files = [tmp_path / "a9a.gz", tmp_path / "a9a.t.gz"]
    for file in files:
        file.symlink_to(SHARED / "a9a" / file.name)
    assert mean(capsys, "a9a", "accuracy", files[0], 1, "--test-file", str(files[1])) >= 0.845
