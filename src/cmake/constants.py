"""Removes the symbols of constants from an object file, in place: python constants.py FILE

A constant (.LC0, .LCPI0_0) has a symbol only because linkers may merge equal constants; that is done when kernels are joined. Here the
relocations get the section and an offset instead, and the section is no longer mergeable; strip can then remove the symbol.
Objects that are not 64-bit ELF for x86-64 or aarch64 stay as they are: elsewhere, relocations may need their symbols.
"""

import struct
import sys
from pathlib import Path

ELF64 = b"\x7fELF\x02\x01"  # 64 bits, little-endian
MACHINES = (62, 183)  # x86-64, aarch64
SYMTAB, RELA = 2, 4  # types of sections
MERGE, STRINGS = 0x10, 0x20  # flags of sections
LOCAL, SECTION = 0, 3  # binding and type of symbols
ABSOLUTE = 0xFF00  # numbers from here on are no sections


def change(data: bytearray) -> None:
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    headers = range(table, table + size * count, size)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, at) for at in headers]  # name, type, flags, address, offset, size, ...
    _, _, _, _, start, length, *_ = next(section for section in sections if section[1] == SYMTAB)
    symbols = [struct.unpack_from("<IBBHQQ", data, at) for at in range(start, start + length, 24)]
    of_section = {section: i for i, (_, kind, _, section, *_) in enumerate(symbols) if kind == LOCAL << 4 | SECTION}
    for _, kind, _, _, start, length, *_ in sections:
        for at in range(start, start + length, 24) if kind == RELA else ():
            offset, info, addend = struct.unpack_from("<QQq", data, at)
            _, bind, _, section, value, _ = symbols[info >> 32]
            if bind >> 4 == LOCAL and 0 < section < ABSOLUTE and sections[section][2] & MERGE and section in of_section:
                struct.pack_into("<QQq", data, at, offset, of_section[section] << 32 | info & 0xFFFFFFFF, addend + value)
    for at, section in zip(headers, sections, strict=True):
        struct.pack_into("<Q", data, at + 8, section[2] & ~(MERGE | STRINGS))


path = Path(sys.argv[1])
content = bytearray(path.read_bytes())
if content[:6] == ELF64 and struct.unpack_from("<H", content, 0x12)[0] in MACHINES:
    change(content)
    path.write_bytes(content)
