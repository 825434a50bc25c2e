"""Networks as files: the format of src/file.c, written and read a second time, byte for byte the same.

    8 bytes     N, the header's length, little-endian
    N bytes     JSON, padded with spaces until 8 + N is a multiple of 64: "__metadata__" with the graph's text and a checksum,
                then for each tensor {"dtype":"F32","shape":[out,in],"data_offsets":[begin,end]}
    the rest    the tensors, in layer order and without gaps; a weight is (out, in) row-major, the transpose of what memory holds

This is a safetensors file. The checksum is the CRC-32C of the whole file with its own eight digits taken as zeros. Reading trusts
nothing: what is not exactly what `write` could have written is refused with a ValueError, before memory is asked for.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import sys
from array import array
from contextlib import suppress
from errno import EBUSY, EEXIST, EINVAL, EISDIR, ENODEV
from typing import Any

from .arrays import FORMATS
from .graph import Graph
from .net import Net

_ALIGNMENT = 64
_RNG = "philox4x32-10/1"
_NO_CRC = "00000000"
_DTYPES = {"float32": "F32", "float64": "F64"}
_KEYS = {"format", "microbp.format", "microbp.graph", "microbp.seed", "microbp.rng", "microbp.crc32c"}
_MORE_KEYS = {"microbp.notes"}  # which only some files have
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_CRC_VALUE = re.compile(rb'"microbp\.crc32c"\s*:\s*"([0-9a-f]{8})"')  # cannot match inside a string, whose quotes are escaped


def write(net: Net) -> bytes:
    """The bytes of the net's file; the same net always gives the same bytes."""
    if not net.params and net.dtype != "float32":
        raise ValueError(f"a {net.dtype} network without parameters cannot be written: a file keeps the dtype with the tensors")
    metadata = {
        "format": "microbp",
        "microbp.format": "1",
        "microbp.graph": net.text(),
        "microbp.seed": str(net.seed),
        "microbp.rng": _RNG,
        "microbp.crc32c": _NO_CRC,
    }
    if net.notes:
        metadata["microbp.notes"] = net.notes
    header = _json({"__metadata__": metadata, **_entries(net)}).encode()
    header += b" " * (-(8 + len(header)) % _ALIGNMENT)
    whole = len(header).to_bytes(8, "little") + header + _data(net)
    found = _CRC_VALUE.search(whole)
    assert found
    return whole[: found.start(1)] + b"%08x" % crc32c(whole) + whole[found.end(1) :]


def read(data: bytes) -> Net:
    """The net from a file's bytes; ValueError if they are not exactly a microbp file."""
    data = bytes(memoryview(data))
    header, metadata, tensors = _header(data)
    _check_metadata(data, header, metadata)
    dtype, text = _dtype(tensors), metadata["microbp.graph"]
    if not re.fullmatch("[ -~\n]*", text):
        raise _damaged("its graph has a character that is not ASCII")
    try:
        count = sum(layer.units * (layer.inputs + layer.bias) for layer in Graph.parse(text).layers.values())
    except ValueError as error:
        raise ValueError(f"the file's graph is refused: {error}") from None
    item, numbers = array(FORMATS[dtype]).itemsize, data[8 + len(header) :]
    if count * item != len(numbers):
        raise _damaged(f"its graph has {count} parameters of {item} bytes, and it holds {len(numbers)} bytes of them")
    net = Net(text, dtype, int(metadata["microbp.seed"]))
    _check_tensors(tensors, _entries(net))
    _fill(net, numbers)
    try:
        net.notes = metadata.get("microbp.notes", "")
    except ValueError:
        raise _damaged("its notes are no text") from None
    return net


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, reflected polynomial 0x82f63b78)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def _crc_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC_TABLE = [_crc_of_byte(byte) for byte in range(256)]


# ---- the parts of a file ----


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _entries(net: Net) -> dict[str, dict[str, Any]]:
    """The header's entry for each tensor."""
    entries, begin = {}, 0
    for layer, name, _, inputs, units in net.tensors():
        end = begin + inputs * units * net.params.itemsize
        shape = [units, inputs] if name == "weight" else [units]
        entries[f"{layer}.{name}"] = {"dtype": _DTYPES[net.dtype], "shape": shape, "data_offsets": [begin, end]}
        begin = end
    return entries


def _data(net: Net) -> bytes:
    """Unit by unit: in memory, the weights of one unit are `units` apart."""
    numbers = array(net.params.typecode)
    for _, _, offset, inputs, units in net.tensors():
        for unit in range(units):
            numbers += net.params[offset + unit : offset + inputs * units : units]
    return _little_endian(numbers).tobytes()


def _fill(net: Net, data: bytes) -> None:
    numbers, begin = _little_endian(array(net.params.typecode, data)), 0
    for _, _, offset, inputs, units in net.tensors():
        for unit in range(units):
            net.params[offset + unit : offset + inputs * units : units] = numbers[begin : begin + inputs]
            begin += inputs


def _little_endian(numbers: array) -> array:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


# ---- what reading refuses ----


def _damaged(what: str) -> ValueError:
    return ValueError(f"the file is damaged: {what}; restore it from a copy")


def _foreign(why: str) -> ValueError:
    return ValueError(f"this is not a microbp file: {why}")


def _header(data: bytes) -> tuple[bytes, dict[str, str], dict[str, Any]]:
    """The header's bytes, its metadata and its tensors."""
    length = int.from_bytes(data[:8], "little") if len(data) >= 8 else 0
    if length < 2 or length > len(data) - 8:
        raise _foreign(f"or it was cut short: its {len(data)} bytes do not hold the header they announce")
    header = data[8 : 8 + length]
    if not header.startswith(b"{"):
        raise _foreign("it does not begin as a safetensors file does")
    try:
        tensors = json.loads(header.decode(), object_pairs_hook=_unique, parse_int=_natural, parse_float=_natural, parse_constant=_natural)
    except (ValueError, RecursionError):
        raise _damaged("its header is not the JSON of a safetensors file") from None
    if next(iter(tensors), None) != "__metadata__":
        raise _foreign("there is no microbp.graph at the start of its header")
    metadata = tensors.pop("__metadata__")
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged("its header is not the JSON of a safetensors file")
    return header, metadata, tensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _natural(text: str) -> int:
    if not re.fullmatch("[0-9]{1,19}", text) or int(text) >= 2**63:
        raise ValueError(f"{text} is no whole number from 0 to 2^63 - 1")
    return int(text)


def _check_metadata(data: bytes, header: bytes, metadata: dict[str, str]) -> None:
    if "microbp.crc32c" in metadata and not _checksum_holds(data, header):
        raise _damaged("its checksum does not match")
    if "microbp.graph" not in metadata:
        raise _foreign("its metadata has no microbp.graph")
    for key in _KEYS - metadata.keys():
        raise _damaged(f"its metadata has no {key}")
    if metadata["microbp.format"] != "1":
        raise ValueError("the file is of another format than 1, which this microbp reads; use a newer microbp")
    if metadata["microbp.rng"] != _RNG:
        raise ValueError(f"the file's random numbers are not {_RNG}, which this microbp has; use a newer microbp")
    if metadata["format"] != "microbp" or metadata.keys() - _KEYS - _MORE_KEYS or metadata.get("microbp.notes") == "":
        raise _damaged("its metadata is not what microbp writes")
    if any(_json(json.loads(string)) != string for string in _STRING.findall(header.decode())):
        raise _damaged("its header has a character that is escaped otherwise than microbp does")
    seed = metadata["microbp.seed"]
    if not re.fullmatch("0|[1-9][0-9]{0,19}", seed) or int(seed) >= 2**64:
        raise _damaged("its seed is no number")


def _checksum_holds(data: bytes, header: bytes) -> bool:
    found = _CRC_VALUE.search(header)
    if not found:
        return False
    begin, end = 8 + found.start(1), 8 + found.end(1)
    return int(found[1], 16) == crc32c(data[:begin] + _NO_CRC.encode() + data[end:])


def _dtype(tensors: dict[str, Any]) -> str:
    """That of the first tensor, with which _check_tensors compares the rest."""
    first = next(iter(tensors.values()), {"dtype": "F32"})
    for dtype, name in _DTYPES.items():
        if isinstance(first, dict) and first.get("dtype") == name:
            return dtype
    raise _damaged("its first tensor is neither F32 nor F64")


def _check_tensors(found: dict[str, Any], expected: dict[str, Any]) -> None:
    entries = list(found.items())
    for i, entry in enumerate(expected.items()):
        if _json(entries[i : i + 1]) != _json([entry]):  # as text, in which 1 and true differ
            raise _damaged(f"the entry of {entry[0]} is not what the graph asks for")
    if len(found) > len(expected):
        raise _damaged("its header goes on after the last tensor of the graph")


# ---- on disk ----


def save(net: Net, path: str | os.PathLike[str]) -> None:
    """Writes the net's file, all or nothing: at every moment, and after a crash, the path names the old file or the new. A symbolic
    link is written through, and an existing file keeps its permissions."""
    data = write(net)
    try:
        _write_file(os.fsdecode(path), data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None


def load(path: str | os.PathLike[str]) -> Net:
    """The net of a file; ValueError if it is damaged or not microbp's."""
    data = _read_file(os.fsdecode(path))
    try:
        return read(data)
    except ValueError as error:
        raise ValueError(f"{os.fsdecode(path)}: {error}") from None


def _write_file(path: str, data: bytes) -> None:
    """The order: temporary file beside the target, write, fsync, rename over the target, fsync of the directory."""
    target = os.path.realpath(path) if os.path.exists(path) else path
    mode = _mode(target)
    directory = os.open(os.path.dirname(target) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        temp, file = _create_temp(target, 0o666 if mode is None else mode)
        try:
            if mode is not None:
                with suppress(OSError):  # where a file system knows no modes, it stays as it was created
                    os.fchmod(file, mode)
            _write_all(file, data)
            os.rename(temp, target)
        except BaseException:
            os.unlink(temp)
            raise
        finally:
            os.close(file)  # only now: closing gives up the lock
        _sync_directory(directory)
    finally:
        os.close(directory)


def _mode(target: str) -> int | None:
    """Permissions of the file that will be replaced; None if there is none."""
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise _not_a_file(mode, target)
    return mode & 0o777


def _not_a_file(mode: int, path: str) -> OSError:
    if stat.S_ISDIR(mode):
        return IsADirectoryError(EISDIR, os.strerror(EISDIR), path)
    return OSError(ENODEV, "not a regular file", path)


def _create_temp(target: str, mode: int) -> tuple[str, int]:
    """A new file beside the target, locked. Each name is tried twice: once to find it stale, once to take it."""
    directory, name = os.path.split(target)
    for attempt in range(64):
        temp = os.path.join(directory, f"{os.fsdecode(os.fsencode(name)[:247])}.{attempt // 2}.tmp")
        try:
            file = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            _remove_stale(temp)
            continue
        if _lock(file) is not False and _is_named(temp, file):
            return temp, file
        os.close(file)  # another writer took it for stale before it was locked, and removes it
    raise FileExistsError(EEXIST, "its temporary names are all in use", target)


def _remove_stale(temp: str) -> None:
    """Removes what a killed writer left. A writer's lock ends with its process, so whoever gets the lock knows that nobody writes the
    file any more; and only who has it removes the file."""
    try:
        file = os.open(temp, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        if _lock(file) and _is_named(temp, file):
            os.unlink(temp)
    finally:
        os.close(file)


def _lock(file: int) -> bool | None:
    """False: another process has the lock; None: this file system has no locks, which also keeps others from removing the file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_named(temp: str, file: int) -> bool:
    try:
        return os.path.samestat(os.lstat(temp), os.fstat(file))
    except FileNotFoundError:
        return False


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
    os.fsync(file)


def _sync_directory(directory: int) -> None:
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno != EINVAL:  # this file system has nothing to sync in a directory
            raise


def _read_file(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)  # opening a pipe must not wait for a writer
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(status.st_mode, path)
        parts, rest = [], status.st_size
        while rest:
            parts.append(os.read(file, rest))
            rest -= len(parts[-1])
            if not parts[-1]:
                raise OSError(EBUSY, "it is being cut short right now", path)
        return b"".join(parts)
    finally:
        os.close(file)
