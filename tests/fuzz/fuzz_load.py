"""Any bytes give a network, a trainer, or a ValueError: Python's side of the reading of files, for atheris (tests/fuzz/run SECONDS s python).

Without atheris: `python fuzz_load.py FILE...` runs files.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import microbp as bp
from microbp.reference.file import crc32c

PATH = Path(tempfile.mkdtemp()) / "file"
KEY = b'"microbp.crc32c":"'


def fixed(data: bytes) -> bytes:
    """The bytes with the checksum made right, or else every file would end there."""
    at = data.find(KEY) + len(KEY)
    if at < len(KEY) or at + 8 > len(data):
        return data
    return data[:at] + b"%08x" % crc32c(data[:at] + b"00000000" + data[at + 8 :]) + data[at + 8 :]


def one(data: bytes) -> None:
    PATH.write_bytes(fixed(data))
    for load in (bp.load, bp.Trainer.load):
        try:
            found = load(PATH)
        except (ValueError, MemoryError):
            continue
        net = found if load is bp.load else found.net
        found.save(PATH.with_suffix(".again"))
        again = load(PATH.with_suffix(".again"))
        same = again if load is bp.load else again.net
        assert same.text() == net.text() and same.params.tobytes() == net.params.tobytes()
    try:
        bp.mlp([3, 2], seed=0).load_tensors(PATH)
    except ValueError:
        pass


def main() -> None:
    try:
        import atheris
    except ImportError:
        files = [Path(name) for name in sys.argv[1:] if Path(name).is_file()]
        if not files:
            sys.exit("atheris is not installed: pip install atheris, or give files to run")
        for file in files:
            one(file.read_bytes())
        return
    np.seterr(all="ignore")
    atheris.instrument_all()
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
