"""Makes wheels smaller, in place: python compress_wheel.py WHEEL...

On Linux it joins the objects of a static library, whose headers and tables of symbols and relocations are then shared: 6 % of the library.
Its functions keep sections of their own, so `--gc-sections` leaves out what a program does not call, as before. Then it compresses all
files with zopfli, whose deflate streams are some 4 % shorter than zlib's. Needs zopflipy, and `ar`, `ld` and `strip` on Linux.
"""

import base64
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import zopfli


def joined(library: bytes) -> bytes:
    """A static library with the same code in one object."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "old.a").write_bytes(library)
        members = subprocess.run(["ar", "t", "old.a"], cwd=folder, check=True, capture_output=True, text=True).stdout.split()
        for command in (
            ["ar", "x", "old.a"],
            ["ld", "-r", "-o", "microbp.o", *members],
            ["strip", "--strip-unneeded", "microbp.o"],
            ["ar", "rcsD", "new.a", "microbp.o"],
        ):
            subprocess.run(command, cwd=folder, check=True)
        return Path(folder, "new.a").read_bytes()


def record(name: str, data: bytes) -> str:
    """A file's line in RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}"


def smaller(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files with joined libraries, and the RECORD of these."""
    changed = {name: joined(data) for name, data in files.items() if name.endswith(".a") and sys.platform == "linux"}
    (list_name,) = (name for name in files if name.endswith(".dist-info/RECORD"))
    lines = files[list_name].decode().splitlines()
    lines = [next((record(name, data) for name, data in changed.items() if line.startswith(f"{name},")), line) for line in lines]
    return {**files, **changed, list_name: "".join(f"{line}\n" for line in lines).encode()}


def compress(path: Path) -> None:
    new_path = path.with_suffix(".smaller")
    with zipfile.ZipFile(path) as old, zopfli.ZipFile(new_path, "w") as new:
        files = smaller({info.filename: old.read(info) for info in old.infolist()})
        for info in old.infolist():
            new.writestr(info, files[info.filename])
    with zipfile.ZipFile(new_path) as new:
        assert {name: new.read(name) for name in new.namelist()} == files, f"{path} is not what was written"
    new_path.replace(path)


for name in sys.argv[1:]:
    compress(Path(name))
