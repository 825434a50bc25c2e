"""Compresses wheels again, in place, with zopfli, whose deflate streams are some 4 % shorter than zlib's: python compress_wheel.py WHEEL...

Needs zopflipy. The files in a wheel, their order and attributes stay the same.
"""

import sys
import zipfile
from pathlib import Path

import zopfli


def compress(path: Path) -> None:
    smaller = path.with_suffix(".smaller")
    with zipfile.ZipFile(path) as old, zopfli.ZipFile(smaller, "w") as new:
        for info in old.infolist():
            new.writestr(info, old.read(info))
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(smaller) as new:
        assert [old.read(name) for name in old.namelist()] == [new.read(name) for name in new.namelist()], f"{path} has changed"
    smaller.replace(path)


for name in sys.argv[1:]:
    compress(Path(name))
