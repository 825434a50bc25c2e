"""Networks as files: a second implementation of src/file, which gives the same bytes.

    8 bytes     N, the length of the header, little-endian
    N bytes     JSON, padded with spaces until 8 + N is a multiple of 64 and the file has the minimum size for its graph (_least):
                "__metadata__" with the graph text and a checksum, then for each tensor
                {"dtype":"F32","shape":[out,in],"data_offsets":[begin,end]}
    the rest    the tensors, in layer order and without gaps; a weight is (out, in) row-major, the transpose of the one in memory;
                of an embedding (levels, units), as in memory

A trainer's file has extras: a text in the metadata, and vectors in the net's dtype that follow the tensors.

This is a safetensors file. The checksum is the CRC-32C of the whole file, computed with zeros in place of its eight digits. Nothing in
a file is trusted: reading raises ValueError unless the file is exactly what `write` could have written, before it allocates memory for it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from array import array
from typing import Any

from .arrays import FORMATS, counted
from .files.disk import START, read_file, write_file
from .graph import NODES_MAX, Graph
from .layers import Layer, Norm, Tensor
from .net import Net

_ALIGNMENT = 64
_RNG = "philox4x32-10/1"
_NO_CRC = "00000000"
_DTYPES = {"float32": "F32", "float64": "F64"}
_KEYS = {"format", "microbp.format", "microbp.graph", "microbp.seed", "microbp.rng", "microbp.crc32c"}
_MORE_KEYS = {"microbp.notes", "microbp.trainer", "microbp.dtype"}  # optional
_VECTORS_MAX, _TEXT_MAX = 64, 2**24 - 1
_VECTOR_NAME = re.compile(r"(?=.{1,63}\Z)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2,}")  # at least two dots; tensors have one
Extras = tuple[str, dict[str, bytes]]  # a text, and vectors by name
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_OURS = {key.encode() for key in (_KEYS | _MORE_KEYS) - {"format"}}
# Parts of the metadata in the first bytes of a file: its begin, a key with the comma before it, a value, an unfinished member, the end.
_SPACE, _QUOTED = r"[ \n\r\t]*", r'"((?:[^"\\\x00-\x1f]|\\.)*)'
_METADATA = re.compile(rf'\{{{_SPACE}"__metadata__"{_SPACE}:{_SPACE}\{{'.encode())
_KEY = re.compile(rf'{_SPACE},?{_SPACE}{_QUOTED}"{_SPACE}:'.encode())
_VALUE = re.compile(rf'{_SPACE}{_QUOTED}"'.encode())
_MEMBER_BEGUN = re.compile(rf'{_SPACE},?{_SPACE}(?:{_QUOTED}(?:\\|"{_SPACE}(?::{_SPACE}(?:{_QUOTED}\\?)?)?)?)?'.encode())
_END = re.compile(rf"{_SPACE}\}}".encode())
_CRC_VALUE = re.compile(rb'"microbp\.crc32c"\s*:\s*"([0-9a-f]{8})"')  # cannot match inside a string, whose quotes are escaped


def write(net: Net) -> bytes:
    """The bytes of the net's file; the same net always gives the same bytes."""
    return _write(net, None)


def write_with(net: Net, text: str, vectors: dict[str, bytes]) -> bytes:
    """The bytes of a file with extras."""
    if not 1 <= len(text.encode()) <= _TEXT_MAX or "\0" in text:
        raise ValueError(f"extras.text must be valid UTF-8 of 1 to {_TEXT_MAX} bytes")
    if len(vectors) > _VECTORS_MAX:
        raise ValueError(f"extras must have at most {_VECTORS_MAX} vectors, not {len(vectors)}")
    for name, data in vectors.items():
        if not _VECTOR_NAME.fullmatch(name):
            raise ValueError(f'the name of a vector must have at least three parts, like "trainer.slots.m", not {name!r}')
        if len(data) % net.params.itemsize:
            raise ValueError(f"the vector {name} has {len(data)} bytes, not a multiple of {net.params.itemsize}, the size of an element")
    return _write(net, (text, vectors))


def _write(net: Net, extras: Extras | None) -> bytes:
    text, vectors = extras or ("", {})
    with net.gate:  # one state
        graph, seed, notes, numbers = net.text(), str(net.seed), net.notes, _data(net)
    metadata = {
        "format": "microbp",
        "microbp.format": "1",
        "microbp.graph": graph,
        "microbp.seed": seed,
        "microbp.rng": _RNG,
        "microbp.crc32c": _NO_CRC,
    }
    if notes:
        metadata["microbp.notes"] = notes
    if extras:
        metadata["microbp.trainer"] = text
    if not net.layout and not net.buffer_layout and not vectors and net.dtype != "float32":
        metadata["microbp.dtype"] = _DTYPES[net.dtype]
    header = _json({"__metadata__": metadata, **_entries(net, {name: len(data) for name, data in vectors.items()})}).encode()
    data = numbers + b"".join(vectors.values())
    header = header.ljust(_least(metadata["microbp.graph"]) - len(data) - 8)
    header += b" " * (-(8 + len(header)) % _ALIGNMENT)
    whole = len(header).to_bytes(8, "little") + header + data
    found = _CRC_VALUE.search(whole)
    assert found
    return whole[: found.start(1)] + b"%08x" % crc32c(whole) + whole[found.end(1) :]


def _least(graph: str) -> int:
    """The minimum size of a file with this graph, so that a small file cannot cause a large allocation: see src/file/file.h."""
    words = [line.split() for line in graph.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    layers = sum(line[0] in ("dense", "embedding", "recurrent", "batch_norm", "layer_norm", "scale", "standardize") for line in words)
    cost = 128 * min(len(words), NODES_MAX) + 512 * min(layers, NODES_MAX) + 4 * sum(len(line) - 1 for line in words)
    return max(0, (cost - 32 * 1024) // 2)


def read_with(data: bytes) -> tuple[SavedNet, Extras | None]:
    """The net from a file's bytes, and its extras; ValueError if the bytes are not exactly a microbp file."""
    data = bytes(memoryview(data))
    header, metadata, tensors = _header(data)
    _check_metadata(data, header, metadata)
    dtype, text = _dtype(tensors, metadata.get("microbp.dtype")), metadata["microbp.graph"]
    if not re.fullmatch("[ -~\n]*", text):
        raise _damaged("its graph has a character that is not ASCII")
    if _least(text) > len(data):
        raise _damaged(f"its {len(data)} bytes are too few for the lines of its graph")
    try:
        count = sum(_numbers(layer) for layer in Graph.parse(text).layers.values())
    except ValueError as error:
        raise ValueError(f"the file's graph is invalid: {error}") from None
    item, numbers = array(FORMATS[dtype]).itemsize, data[8 + len(header) :]
    has_extras = "microbp.trainer" in metadata
    if len(numbers) % item or (count * item > len(numbers) if has_extras else count * item != len(numbers)):
        raise _damaged(f"its graph needs {counted(count, 'parameter')} of {item} bytes, but its data has {len(numbers)} bytes")
    try:
        net = SavedNet(text, dtype, int(metadata["microbp.seed"]))
    except ValueError as error:
        raise ValueError(f"the file's graph is invalid: {error}") from None
    vectors = _read_vectors(net, dict(list(tensors.items())[len(_tensors(net)) :]), numbers[count * item :]) if has_extras else {}
    _check_tensors(tensors, _entries(net, {name: len(vector) for name, vector in vectors.items()}))
    _fill(net, numbers[: count * item])
    net.notes = metadata.get("microbp.notes", "")
    return net, (metadata["microbp.trainer"], vectors) if has_extras else None


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


def _numbers(layer: Layer | Norm) -> int:
    """How many numbers a file contains for a layer."""
    if isinstance(layer, Layer):
        return layer.shape[0] * layer.shape[1] + layer.biases * layer.bias
    return layer.units * (layer.gain + layer.bias + len(layer.statistics))


def _tensors(net: Net) -> list[tuple[Tensor, array]]:
    """Each tensor with its flat vector, layer by layer; in a layer, the buffers are last."""
    both = [(tensor, net.params) for tensor in net.layout] + [(tensor, net.buffers) for tensor in net.buffer_layout]
    place = {name: i for i, name in enumerate(net.graph.layers)}
    return sorted(both, key=lambda pair: place[pair[0].layer])


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _entries(net: Net, vectors: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The header's entries of the tensors, and of the vectors (name -> size in bytes)."""
    entries, begin = {}, 0
    for tensor, _ in _tensors(net):
        end = begin + tensor.rows * tensor.cols * net.params.itemsize
        shape = [tensor.rows, tensor.cols] if tensor.is_table else [tensor.cols, tensor.rows] if tensor.is_matrix else [tensor.cols]
        entries[f"{tensor.layer}.{tensor.name}"] = {"dtype": _DTYPES[net.dtype], "shape": shape, "data_offsets": [begin, end]}
        begin = end
    for name, size in vectors.items():
        offsets = [begin, begin + size]
        entries[name] = {"dtype": _DTYPES[net.dtype], "shape": [size // net.params.itemsize], "data_offsets": offsets}
        begin += size
    return entries


def _data(net: Net) -> bytes:
    """All tensors, unit by unit: in memory, the weights of a unit are `units` elements apart."""
    numbers = array(net.params.typecode)
    for tensor, vector in _tensors(net):
        for place in tensor.saved:
            numbers += vector[place]
    return _little_endian(numbers).tobytes()


def _fill(net: Net, data: bytes) -> None:
    numbers, begin = _little_endian(array(net.params.typecode, data)), 0
    for tensor, vector in _tensors(net):
        for place in tensor.saved:
            count = len(vector[place])
            vector[place] = numbers[begin : begin + count]
            begin += count


def _read_vectors(net: Net, entries: dict[str, Any], data: bytes) -> dict[str, bytes]:
    """The vectors of a file's last entries. _check_tensors later compares these entries with those that `write_with` writes."""
    vectors: dict[str, bytes] = {}
    begin = 0
    for name, entry in entries.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        count = shape[0] if isinstance(shape, list) and shape and type(shape[0]) is int else -1
        size = count * net.params.itemsize
        if not _VECTOR_NAME.fullmatch(name) or not 0 <= size <= len(data) - begin or len(vectors) == _VECTORS_MAX:
            raise _damaged(f"entry {len(vectors)} after the tensors is not a valid vector")
        vectors[name] = data[begin : begin + size]
        begin += size
    if begin != len(data):
        raise _damaged("its header does not describe all of the data")
    return vectors


def _little_endian(numbers: array) -> array:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


# ---- checks of a file ----


def _damaged(what: str) -> ValueError:
    return ValueError(f"the file is damaged: {what}; restore it from a copy")


_TENSORS = "; for arrays of another library use net.load_tensors(file) in Python"


def _foreign(why: str) -> ValueError:
    return ValueError(f"not a microbp file: {why}")


def _not_json() -> ValueError:
    return _damaged("its header is not valid safetensors JSON")


def _not_first() -> ValueError:
    return _foreign("its header does not start with a microbp.graph" + _TENSORS)


def _no_graph() -> ValueError:
    return _foreign("its metadata has no microbp.graph" + _TENSORS)


def _several() -> ValueError:
    return ValueError(
        "the file contains several networks; load them with bp.Ensemble.load, or a model of a table with bp.load_table; in C, with "
        "mbp_net_load_member"
    )


def _shown(value: str) -> str:
    """The start of a value, without characters that a terminal would obey."""
    data = value.encode("utf-8", "surrogatepass")
    return re.sub(rb"[^ -~]", b"?", data[:40]).decode() if len(data) < 80 else ""


def _check_start(start: bytes, size: int) -> None:
    """Refuses a file of this size if its first bytes show that it is not microbp's."""
    length = int.from_bytes(start[:8], "little") if size >= 8 else 0
    if length < 2 or length > size - 8:
        raise ValueError(f"not a microbp file, or cut short: it has {counted(size, 'byte')}, fewer than its header needs")
    header, goes_on = start[8 : 8 + length], length > len(start) - 8
    if not header.startswith(b"{"):
        raise _foreign("it does not start like a safetensors file")
    begin = _METADATA.match(header)
    if not begin:
        if goes_on and b'{"__metadata__":{'.startswith(re.sub(rb"[ \n\r\t]", b"", header)):
            return
        raise _not_first()
    keys, at = set(), begin.end()
    while found := _KEY.match(header, at):
        keys.add(found[1])
        value = _VALUE.match(header, found.end())
        if not value:
            break
        at = value.end()
    if b"microbp.ensemble" in keys:
        raise _several()
    if _END.match(header, at):
        if not keys & {b"microbp.graph", b"microbp.crc32c"}:
            raise _no_graph()
    elif goes_on and not _MEMBER_BEGUN.fullmatch(header, at):
        raise _not_json()
    elif goes_on and not keys & _OURS and keys - {b"format"}:
        raise _no_graph()


def _is_begun(start: bytes) -> bool:
    """Whether these can be the first bytes of a file that `_write` began. Some may be zero instead, because a power cut leaves zeros."""
    first = b"\0\0\0\0" + b'{"__metadata__":{"format":"microbp"'  # after the header's length, which is 8 less than a multiple of 64
    has_length = start[:1] in (b"", b"\0") or start[0] % _ALIGNMENT == _ALIGNMENT - 8
    return has_length and all(byte in (0, expected) for byte, expected in zip(start[4:], first))


def _header(data: bytes) -> tuple[bytes, dict[str, str], dict[str, Any]]:
    """The header's bytes, its metadata and its tensors."""
    _check_start(data[:START], len(data))
    header = data[8 : 8 + int.from_bytes(data[:8], "little")]
    try:
        tensors = json.loads(header.decode(), object_pairs_hook=_unique, parse_int=_natural, parse_float=_natural, parse_constant=_natural)
    except (ValueError, RecursionError):
        raise _not_json() from None
    if next(iter(tensors), None) != "__metadata__":
        raise _not_first()
    metadata = tensors.pop("__metadata__")
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _not_json()
    return header, metadata, tensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _natural(text: str) -> int:
    if not re.fullmatch("[0-9]{1,19}", text) or int(text) >= 2**63:
        raise ValueError(f"{text} is not a whole number from 0 to 2^63 - 1")
    return int(text)


def _check_metadata(data: bytes, header: bytes, metadata: dict[str, str]) -> None:
    if "microbp.ensemble" in metadata:
        raise _several()
    if "microbp.crc32c" in metadata and not _checksum_holds(data, header):
        raise _damaged("its checksum does not match")
    if "microbp.graph" not in metadata:
        raise _no_graph()
    for key in _KEYS - metadata.keys():
        raise _damaged(f"its metadata has no {key}")
    if metadata["microbp.format"] != "1":
        found = _shown(metadata["microbp.format"])
        raise ValueError(f"the file has the format {found}, but this version of microbp reads only format 1; use a newer version")
    if metadata["microbp.rng"] != _RNG:
        found = f"the file uses the random number generator {_shown(metadata['microbp.rng'])}"
        raise ValueError(f"{found}, but this version of microbp only has {_RNG}; use a newer version")
    given = {metadata[key] for key in _MORE_KEYS & metadata.keys()}
    if metadata["format"] != "microbp" or metadata.keys() - _KEYS - _MORE_KEYS or "" in given:
        raise _damaged("its metadata is not what microbp writes")
    if any(_json(json.loads(string)) != string for string in _STRING.findall(header.decode())):
        raise _damaged("its header has an escape that microbp does not write")
    if any("\0" in text or len(text.encode()) > _TEXT_MAX for text in given):
        raise _damaged("its notes or its microbp.trainer are not a valid text")
    seed = metadata["microbp.seed"]
    if not re.fullmatch("0|[1-9][0-9]{0,19}", seed) or int(seed) >= 2**64:
        raise _damaged("its seed is not a number")


def _checksum_holds(data: bytes, header: bytes) -> bool:
    found = _CRC_VALUE.search(header)
    if not found:
        return False
    begin, end = 8 + found.start(1), 8 + found.end(1)
    return int(found[1], 16) == crc32c(data[:begin] + _NO_CRC.encode() + data[end:])


def _dtype(tensors: dict[str, Any], given: str | None) -> str:
    """The dtype of the first tensor; _check_tensors checks that the others have the same. If there is none, that of the metadata."""
    if given is not None and (tensors or given != "F64"):
        raise _damaged("its metadata is not what microbp writes")
    first = next(iter(tensors.values()), {"dtype": given or "F32"})
    for dtype, name in _DTYPES.items():
        if isinstance(first, dict) and first.get("dtype") == name:
            return dtype
    raise _damaged("its first tensor is neither F32 nor F64")


def _check_tensors(found: dict[str, Any], expected: dict[str, Any]) -> None:
    entries = list(found.items())
    for i, entry in enumerate(expected.items()):
        if _json(entries[i : i + 1]) != _json([entry]):  # as text, because in Python 1 == True
            raise _damaged(f"the entry of {entry[0]} does not match the graph")
    if len(found) > len(expected):
        raise _damaged("its header has more entries than its graph has tensors")


# ---- on disk ----


def save(net: Net, path: str | os.PathLike[str]) -> None:
    """Writes the net's file, all or nothing."""
    save_bytes(write(net), path)


def save_with(net: Net, path: str | os.PathLike[str], text: str, vectors: dict[str, bytes]) -> None:
    """Writes the net's file with extras, all or nothing."""
    save_bytes(write_with(net, text, vectors), path)


def save_bytes(data: bytes, path: str | os.PathLike[str]) -> None:
    """Writes the bytes that `write` or `write_with` returned."""
    try:
        write_file(os.fsdecode(path), data, _is_begun)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None


def load_with(path: str | os.PathLike[str]) -> tuple[SavedNet, Extras | None]:
    """The net of a file, and its extras; ValueError if the file is damaged or not a microbp file."""
    try:
        return read_with(read_file(os.fsdecode(path), _check_start))
    except ValueError as error:
        raise ValueError(f"{os.fsdecode(path)}: {error}") from None


# ---- the network of this backend ----


class SavedNet(Net):
    """A network that can be written to a file and read from one."""

    def write(self) -> bytes:
        """The bytes of its file."""
        return write(self)

    def write_with(self, text: str, vectors: dict[str, bytes]) -> bytes:
        """The bytes of its file with extras: a text and vectors."""
        return write_with(self, text, vectors)

    @staticmethod
    def read(data: bytes) -> SavedNet:
        """The net from the bytes of a file."""
        return read_with(data)[0]

    @staticmethod
    def read_with(data: bytes) -> tuple[SavedNet, Extras | None]:
        """The net from the bytes of a file, and its extras, or None."""
        return read_with(data)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes its file, all or nothing."""
        save(self, path)

    def save_with(self, path: str | os.PathLike[str], text: str, vectors: dict[str, bytes]) -> None:
        """Writes its file with extras: a text and vectors."""
        save_with(self, path, text, vectors)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> SavedNet:
        """The net from a file."""
        return load_with(path)[0]

    @staticmethod
    def load_with(path: str | os.PathLike[str]) -> tuple[SavedNet, Extras | None]:
        """The net from a file, and its extras, or None."""
        return load_with(path)
