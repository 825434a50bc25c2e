"""Fuzzes the file readers in Python with atheris: any bytes give a network, a trainer or a ValueError. tests/fuzz/run 600 s python

`python fuzz_load.py FILE...` tests files and does not need atheris.
"""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import FunctionType

import numpy as np

import microbp as bp
from microbp.network import notes, tensors_file
from microbp.reference import file as reference_file
from microbp.reference import graph as reference_graph
from microbp.tables import preparation
from microbp.tables.preparation import Preparation
from microbp.training import trainer_file, trainer_json, trainer_values

PATH = Path(tempfile.mkdtemp()) / "file"
KEY = b'"microbp.crc32c":"'


def fixed(data: bytes) -> bytes:
    """The bytes with the correct length and checksum, because a reader refuses all other files at once."""
    end = max(data.rfind(b"]}}"), data.rfind(b'"}}')) + 3
    if end > 8:
        end += len(data[end:]) - len(data[end:].lstrip(b" "))
        data = (end - 8).to_bytes(8, "little") + data[8:]
    at = data.find(KEY) + len(KEY)
    if at < len(KEY) or at + 8 > len(data):
        return data
    return data[:at] + b"%08x" % reference_file.crc32c(data[:at] + b"00000000" + data[at + 8 :]) + data[at + 8 :]


def read_again(load, backend: str) -> bytes | None:
    """Loads and saves the file with a backend; returns the saved bytes, None if it is refused."""
    try:
        found = load(PATH, backend=backend)
    except ValueError:
        return None
    found.save(PATH.with_suffix(".again"))
    return PATH.with_suffix(".again").read_bytes()


def one(data: bytes) -> None:
    PATH.write_bytes(fixed(data))
    for load in (bp.load, bp.Trainer.load):
        assert read_again(load, "compiled") == read_again(load, "reference")
    with suppress(ValueError):
        bp.mlp([3, 2], seed=0).load_tensors(PATH)
    with suppress(ValueError):
        Preparation.of(bp.load(PATH), PATH)  # reads the notes


def main() -> None:
    files = [Path(name) for name in sys.argv[1:] if Path(name).is_file()]
    for file in files:
        one(file.read_bytes())
    if files:
        return
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris, or give files to run")
    np.seterr(all="ignore")
    for module in (tensors_file, trainer_file, trainer_json, trainer_values, notes, preparation, reference_file, reference_graph):
        for name, value in vars(module).items():
            if isinstance(value, FunctionType) and value.__module__ == module.__name__ and name != "crc32c":
                setattr(module, name, atheris.instrument_func(value))
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
