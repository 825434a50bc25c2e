"""Readers of the data sets that the scripts here train on."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"  # where the data lies unless --data says otherwise


class Digits(NamedTuple):
    """Images, a row each, and their labels 0 to 9."""

    x: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def usps(root: Path) -> tuple[Digits, Digits]:
    """The training and the test part of the ZIP-code digits: 16x16 grey levels in [-1, 1], text of a label and 256 values per line."""
    return _usps_part(root / "usps" / "zip.train.gz"), _usps_part(root / "usps" / "zip.test.gz")


def mnist(root: Path) -> tuple[Digits, Digits]:
    """The training and the test part of MNIST: 28x28 pixels scaled to [0, 1], from the four idx files."""
    return _mnist_part(root / "mnist", "train"), _mnist_part(root / "mnist", "t10k")


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
        return gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        sys.exit(f"{path} is not there: give the folder that holds usps/ and mnist/ with --data DIR")
