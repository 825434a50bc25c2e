"""One safetensors file of several networks.

The metadata has "microbp.ensemble" (the format: "1", with weights "2"), "microbp.members" (how many), "microbp.member.0", ... (the header
of the file that `save` writes for this network: its graph, seed, notes, checksum), "microbp.notes", "microbp.weights" (a JSON list, only if
the networks have weights), and "microbp.crc32": the CRC-32 of the data followed by everything before it, computed with zeros in place of
its own eight digits. The tensors are those of all networks, "0.dense_0.weight", ...: the data of the networks' own files, one after
another. So the backends write and read the networks, and check everything inside them.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..core import backend as backends
from ..core import threads
from ..core.checks import file_path, new_file, own_file
from ..core.text import brief, counted
from ..core.whole_file import opened, replacing
from .network import Network
from .tensors_file import HEADER_MAX, header, read_bytes

_FORMAT, _WITH_WEIGHTS = "1", "2"  # versions of the format; readers of the first alone would ignore the weights
_ALIGNMENT = 64  # the data begins at a multiple of it, as in files of one network
_LENGTH = 8  # bytes of the length before a header


class _Texts(NamedTuple):
    """What the metadata say. members: the headers of the networks' own files. weights: JSON; "" if the networks have none."""

    members: Sequence[str]
    notes: str
    weights: str


def write(path: str | os.PathLike[str], nets: Sequence[Network], notes: str, weights: Sequence[float] | None = None) -> None:
    """Writes networks, notes and weights, completely or not at all."""
    target = os.fsdecode(new_file(path))
    files = [memoryview(net._core.write()) for net in nets]
    ends = [_LENGTH + int.from_bytes(file[:_LENGTH], "little") for file in files]
    parts = [file[end:] for file, end in zip(files, ends, strict=True)]
    members = [str(file[_LENGTH:end], "utf-8") for file, end in zip(files, ends, strict=True)]
    texts = _Texts(members, notes, "" if weights is None else json.dumps(list(weights)))
    crc = 0
    for data in parts:
        crc = zlib.crc32(data, crc)
    start = _start(texts, crc)
    if len(start) > HEADER_MAX:
        raise ValueError(f"the header of the file would have {len(start):,} bytes, but the limit is {HEADER_MAX:,}; save fewer networks")
    with replacing(target) as temporary, temporary.open("wb") as file:
        file.write(start)
        file.writelines(parts)


def read(path: str | os.PathLike[str], backend: str | None, n_threads: int | None) -> tuple[list[Network], str, list[Any] | None]:
    """Networks, notes and weights from a file that `write` wrote; the weights are as they were written, and not checked. ValueError if the
    file is damaged, or another file.
    """
    limit = threads.check(n_threads)
    where = os.fsdecode(file_path(path))
    with own_file(path), opened(path) as file:
        try:
            cores, texts = _read(file, backends.load(backend).Net)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    nets = [Network._from(core, backends.resolve(backend), {}, limit) for core in cores]
    return nets, texts.notes, json.loads(texts.weights) if texts.weights else None


def has_several(path: str | os.PathLike[str]) -> bool:
    """Whether a file says that it has several networks. OSError if it cannot be read."""
    file_path(path)
    with opened(path) as file, contextlib.suppress(ValueError):
        metadata = header(file)[0].get("__metadata__")
        return isinstance(metadata, dict) and "microbp.ensemble" in metadata
    return False


def _read(file: int, kind: type[backends.CoreNet]) -> tuple[list[backends.CoreNet], _Texts]:
    entries, data_at, rest = header(file)
    metadata = _metadata(entries)
    texts = _Texts(_members(metadata), metadata.get("microbp.notes", ""), _weights(metadata))
    crc, cores = 0, []
    for i, text in enumerate(texts.members):
        size = _data_size(text)
        if size > rest:
            raise _damaged(f"it is cut short: network {i} needs {counted(size, 'byte')}, but {counted(rest, 'byte')} of data are left")
        data = read_bytes(file, size)
        rest -= size
        crc = zlib.crc32(data, crc)
        try:
            encoded = text.encode()
            cores.append(kind.read(b"".join([len(encoded).to_bytes(_LENGTH, "little"), encoded, data])))
        except ValueError as error:
            raise ValueError(f"network {i}: {error}") from None
    if rest:
        raise _damaged(f"after its networks, it has {counted(rest, 'byte')} more")
    if os.pread(file, data_at, 0) != _start(texts, crc):
        raise _damaged("its header or its checksum is not that of its networks")
    return cores, texts


def _metadata(entries: dict[str, Any]) -> dict[str, str]:
    """The metadata of a file of several networks; ValueError if it is another file."""
    found = entries.get("__metadata__")
    metadata = found if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()) else {}
    if "microbp.trainer" in metadata:
        raise ValueError("the file contains a trainer; load it with bp.Trainer.load, or its network alone with bp.load")
    if "microbp.graph" in metadata:
        raise ValueError("the file contains one network; load it with bp.load")
    if "microbp.ensemble" not in metadata:
        raise ValueError("not a file of bp.Ensemble: its metadata has no microbp.ensemble")
    if metadata["microbp.ensemble"] not in (_FORMAT, _WITH_WEIGHTS):
        found, known = brief(metadata["microbp.ensemble"]), f"{_FORMAT} and {_WITH_WEIGHTS}"
        raise ValueError(f"the file has the ensemble format {found}, but this version of microbp reads only {known}; use a newer version")
    return metadata


def _members(metadata: dict[str, str]) -> list[str]:
    """The headers of the networks' own files."""
    texts: list[str] = []
    while (text := metadata.get(f"microbp.member.{len(texts)}")) is not None:
        texts.append(text)
    if not texts or metadata.get("microbp.members") != str(len(texts)):
        raise _damaged(f"it has {counted(len(texts), 'network')}, but should have {brief(metadata.get('microbp.members'))}")
    return texts


def _weights(metadata: dict[str, str]) -> str:
    """The weights as JSON; "" if there are none."""
    if metadata["microbp.ensemble"] == _FORMAT:
        return ""
    text = metadata.get("microbp.weights", "")
    with contextlib.suppress(RecursionError, ValueError):
        if isinstance(json.loads(text), list):
            return text
    raise _damaged("the weights of its networks are not a list of numbers")


def _data_size(text: str) -> int:
    """The size of the data of a network's own file, by its header. What else is in the header, the backend checks."""
    with contextlib.suppress(AttributeError, LookupError, RecursionError, TypeError, ValueError):
        entries = json.loads(text)
        size = max((entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"), default=0)
        if type(size) is int and size >= 0:
            return size
    raise _damaged("the header of a network is not valid safetensors JSON")


def _start(texts: _Texts, crc_of_data: int) -> bytes:
    """The file up to its data: the length of the header, and the header."""
    start = _with_checksum(texts, "0" * 8)
    return _with_checksum(texts, f"{zlib.crc32(start, crc_of_data):08x}")


def _with_checksum(texts: _Texts, crc: str) -> bytes:
    version = _WITH_WEIGHTS if texts.weights else _FORMAT
    metadata = {"format": "microbp", "microbp.ensemble": version, "microbp.crc32": crc, "microbp.members": str(len(texts.members))}
    metadata |= {f"microbp.member.{i}": text for i, text in enumerate(texts.members)}
    metadata |= {name: text for name, text in (("microbp.notes", texts.notes), ("microbp.weights", texts.weights)) if text}
    entries: dict[str, Any] = {"__metadata__": metadata}
    begin = 0
    for i, text in enumerate(texts.members):
        own = json.loads(text)
        del own["__metadata__"]
        entries |= {f"{i}.{name}": entry | {"data_offsets": [begin + at for at in entry["data_offsets"]]} for name, entry in own.items()}
        begin += _data_size(text)
    whole = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    whole += b" " * (-(_LENGTH + len(whole)) % _ALIGNMENT)
    return len(whole).to_bytes(_LENGTH, "little") + whole


def _damaged(what: str) -> ValueError:
    return ValueError(f"the file is damaged: {what}; restore it from a copy")
