"""Makes wheels smaller, in place: python compress_wheel.py WHEEL...

On Linux it joins the objects of a static library, and their sections: headers, symbols and relocations are 15 % of it. A program that
links it gets all of it, 1 MB; small programs need a build of their own (docs/c-install.md). Then it compresses all files with zopfli, whose
deflate streams are some 4 % shorter than zlib's. Needs zopflipy, and `ar`, `ld` and `strip` on Linux.
"""

import base64
import hashlib
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import zopfli

SECTIONS = """SECTIONS {
  .text : { *(.text .text.*) *(.rodata .rodata.*) }
  .data.rel.ro : { *(.data.rel.ro .data.rel.ro.*) }
  .data : { *(.data .data.*) }
  .bss : { *(.bss .bss.*) }
}"""
X86_64, SYMTAB, RELA = 62, 2, 4  # a machine; types of sections
RELATIVE = (2, 4)  # R_X86_64_PC32 and R_X86_64_PLT32: target + addend - place


def resolve(data: bytearray) -> None:
    """Computes the distances within a section of an object, which then needs no relocations for them."""
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    headers = range(table, table + size * count, size)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, at) for at in headers]  # name, type, flags, address, offset, size, link, info, ...
    symbols_at = next(section[4] for section in sections if section[1] == SYMTAB)
    for header, (_, kind, _, _, start, length, _, target, *_) in zip(headers, sections, strict=True):
        kept = bytearray()
        for at in range(start, start + length, 24) if kind == RELA else ():
            place, info, addend = struct.unpack_from("<QQq", data, at)
            _, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", data, symbols_at + 24 * (info >> 32))
            if info & 0xFFFFFFFF in RELATIVE and section == target:
                struct.pack_into("<i", data, sections[target][4] + place, value + addend - place)
            else:
                kept += data[at : at + 24]
        if kind == RELA:
            data[start : start + len(kept)] = kept
            struct.pack_into("<Q", data, header + 0x20, len(kept))


def joined(library: bytes) -> bytes:
    """A static library with the same code in one object."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "microbp.o")
        Path(folder, "old.a").write_bytes(library)
        Path(folder, "sections").write_text(SECTIONS)
        members = subprocess.run(["ar", "t", "old.a"], cwd=folder, check=True, capture_output=True, text=True).stdout.split()
        for command in (["ar", "x", "old.a"], ["ld", "-r", "-T", "sections", "-o", path.name, *members]):
            subprocess.run(command, cwd=folder, check=True)
        data = bytearray(path.read_bytes())
        if struct.unpack_from("<H", data, 0x12)[0] == X86_64:
            resolve(data)
            path.write_bytes(data)
        for command in (["strip", "--strip-unneeded", path.name], ["ar", "rcsD", "new.a", path.name]):
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
    with zipfile.ZipFile(path) as old, zopfli.ZipFile(new_path, "w", block_splitting_max=0) as new:
        files = smaller({info.filename: old.read(info) for info in old.infolist()})
        for info in old.infolist():
            new.writestr(info, files[info.filename])
    with zipfile.ZipFile(new_path) as new:
        assert {name: new.read(name) for name in new.namelist()} == files, f"{path} is not what was written"
    new_path.replace(path)


for name in sys.argv[1:]:
    compress(Path(name))
