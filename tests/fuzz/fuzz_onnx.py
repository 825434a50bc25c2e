"""Fuzzes `bp.from_onnx` with atheris: any bytes give a network or a ValueError. tests/fuzz/run 600 s onnx

`python fuzz_onnx.py FILE...` tests files and does not need atheris. Seeds are the files of tests/exchange/onnx.
"""

import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import FunctionType

import numpy as np

import microbp as bp

PARTS = ("read", *(f"reading.{name}" for name in ("wire", "values", "elementwise", "layers", "views")))


def one(data: bytes) -> None:
    with suppress(ValueError):
        bp.from_onnx(data)


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
    for part in PARTS:
        module = import_module(f"microbp.exchange.onnx.{part}")
        for name, value in vars(module).items():
            if isinstance(value, FunctionType) and value.__module__ == module.__name__:
                setattr(module, name, atheris.instrument_func(value))
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
