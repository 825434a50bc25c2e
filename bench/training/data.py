"""Readers for the data sets that these scripts train on."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DEFAULT_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data"  # the default of --data


class Digits(NamedTuple):
    """Images, a row each, and their labels 0 to 9."""

    x: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def usps(root: Path) -> tuple[Digits, Digits]:
    """The training and the test part of the ZIP-code digits: 16x16 grey levels in [-1, 1], text with a label and 256 values per line."""
    return _usps_part(root / "usps" / "zip.train.gz"), _usps_part(root / "usps" / "zip.test.gz")


def mnist(root: Path) -> tuple[Digits, Digits]:
    """The training and the test part of MNIST: 28x28 pixels scaled to [0, 1], from the four idx files."""
    return _mnist_part(root / "mnist", "train"), _mnist_part(root / "mnist", "t10k")


class Examples(NamedTuple):
    """Inputs and targets, a row each."""

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


class Table(NamedTuple):
    """A regression table with its published splits: (training rows, test rows) of each."""

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    splits: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]


def proben1(root: Path, problem: str) -> tuple[Examples, Examples, Examples]:
    """The training, validation and test part of a Proben1 problem such as "cancer1": seven lines of counts, then a line per example."""
    lines = _read(root / "proben1" / problem.rstrip("0123456789") / f"{problem}.dt").decode("ascii").split("\n")
    count = {key: int(value) for key, value in (line.split("=") for line in lines[:7])}
    table = np.array([line.split() for line in lines[7:] if line.strip()], dtype=np.float64)
    inputs = count["bool_in"] + count["real_in"]
    ends = np.cumsum([count["training_examples"], count["validation_examples"], count["test_examples"]])
    parts = [Examples(part[:, :inputs], part[:, inputs:]) for part in np.split(table, ends[:2])]
    return parts[0], parts[1], parts[2]


def uci(root: Path, name: str) -> Table:
    """A UCI regression set in Hernandez-Lobato and Adams's form: a table, and index files of its columns and its splits."""
    folder = root / "uci-regression" / name
    table, columns = _numbers(folder / "data.txt"), _numbers(folder / "index_features.txt").astype(np.int64)
    target, count = int(_numbers(folder / "index_target.txt")), int(_numbers(folder / "n_splits.txt"))
    splits = [tuple(_numbers(folder / f"index_{part}_{i}.txt").astype(np.int64) for part in ("train", "test")) for i in range(count)]
    return Table(table[:, columns], table[:, target], [(train, test) for train, test in splits])


def _numbers(path: Path) -> npt.NDArray[np.float64]:
    return np.loadtxt(_read(path).decode("ascii").splitlines())


def _usps_part(path: Path) -> Digits:
    table = np.loadtxt(_read(path).decode("ascii").splitlines(), dtype=np.float32)
    return Digits(table[:, 1:], table[:, 0].astype(np.int64))


def _mnist_part(folder: Path, part: str) -> Digits:
    images = _idx(_read(folder / f"{part}-images-idx3-ubyte.gz"))
    labels = _idx(_read(folder / f"{part}-labels-idx1-ubyte.gz"))
    return Digits(images.reshape(len(images), -1).astype(np.float32) / np.float32(255), labels.astype(np.int64))


def _idx(content: bytes) -> npt.NDArray[np.uint8]:
    """An array of bytes in LeCun's idx format: two zeros, the type, the number of axes, their lengths as big-endian int32, the values."""
    zeros, kind, axes = content[:2], content[2], content[3]
    if zeros != b"\0\0" or kind != 8:
        raise ValueError("not an idx file of unsigned bytes")
    shape = np.frombuffer(content, ">i4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        sys.exit(f"the file {path} does not exist: use --data DIR with the folder that contains the data sets")
    return gzip.decompress(content) if path.suffix == ".gz" else content
