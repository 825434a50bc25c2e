"""Trainer files: files of networks that also contain the state of a trainer. They contain data, no code.

A file contains the entries of `Trainer.__getstate__` named in SAVED. Arrays become vectors of the file, the rest is JSON. For types that
JSON does not have, there are objects with one key that starts with $: {"$array": name of the vector}, {"$tuple": [...]}, {"$float": "nan"},
{"$Loss": "quantile(q=0.9)"}, {"$Adam": {"lr": 0.001, ...}}. A new settings class that a trainer can contain needs an entry in `_SETTINGS`.

Of a custom loss the file contains the name, {"$function": "my_loss"}. Of the history the JSON lists the names; the values are one vector of
float64 numbers, one entry after another, so that a save costs the same after many epochs.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from ..core import backend as backends
from ..core import threads
from ..core.checks import file_path, new_file
from ..core.specs import Loss, OptimizerSpec, Spec
from ..core.text import brief, counted, printable
from ..network.network import Network
from ..settings import averages, optimizers, schedules, stopping
from ..settings.base import Settings
from .engine import losses as loss_reader
from .engine.custom_loss import CustomLoss, name_of

T = TypeVar("T")
SAVED = ("losses", "loss_weights", "optimizer", "seed", "averaging", "limits", "engine", "epoch", "schedule", "history", "best", "stopped")
_VERSION = 2
_HISTORY = "trainer.state.history"  # the vector
_SPECS: dict[str, type[Spec]] = {kind.__name__: kind for kind in (Loss, OptimizerSpec)}
_SETTINGS: dict[str, type[Settings]] = {
    kind.__name__: kind
    for kind in (
        optimizers.AdaBelief, optimizers.Adadelta, optimizers.Adagrad, optimizers.Adam, optimizers.Adamax, optimizers.AdamW,
        optimizers.ASGD, optimizers.Ftrl, optimizers.Lamb, optimizers.Lion, optimizers.Momentum, optimizers.NAdam, optimizers.RAdam,
        optimizers.RMSprop, optimizers.Rprop, optimizers.SGD, averages.EMA, averages.SWA, stopping.EarlyStopping,
        *schedules.KINDS,
    )
}  # fmt: skip


def save(path: str | os.PathLike[str], net: Network, state: dict[str, Any]) -> None:
    """Writes a network and the state of its trainer, completely or not at all."""
    net._core.save_with(new_file(path), *encode(net, state))


def load(cls: type[T], path: str | os.PathLike[str], backend: str | None, n_threads: int | None, loss: Any) -> T:
    """Reads a file that `save` wrote. Returns a trainer of class `cls`, with a new network. loss: for its custom losses."""
    limit = threads.check(n_threads)
    core, extras = backends.load(backend).Net.load_with(file_path(path))
    if extras is None:
        raise ValueError(f"{os.fspath(path)}: contains a network but no trainer; load it with bp.load and create a bp.Trainer for it")
    net = Network._from(core, backends.resolve(backend), {}, limit)
    with _errors_of(path):
        read, vectors = _read(*extras)
        state = _decoded(read, net.dtype, vectors)
    losses = _with_functions(path, state["losses"], loss)
    with _errors_of(path):
        trainer: T = _restore(cls, net, state, losses, read, vectors)
    return trainer


@contextlib.contextmanager
def _errors_of(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raises errors about a trainer's state as a ValueError that names the file."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        where = f"{os.fspath(path)}: the trainer's state is invalid"
        what = printable(" ".join(f"{type(error).__name__}: {error}"[:200].split()))
        raise ValueError(f"{where} ({what}); bp.load loads the network alone") from error


def encode(net: Network, state: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """The contents of a file besides the network: JSON text and vectors. TypeError names a value that cannot be saved."""
    vectors: dict[str, bytes] = {}
    losses = [loss if isinstance(loss, Spec | _Function) else _Function(name_of(loss)) for loss in state["losses"]]
    saved = {key: state[key] for key in SAVED} | {"losses": losses, "history": list(state["history"])}
    encoded = _encode(saved, ("trainer", "state"), net.dtype, vectors)
    if state["history"]:
        vectors[_HISTORY] = np.array(list(state["history"].values()), np.float64).tobytes()
    return json.dumps({"version": _VERSION, "state": encoded}, allow_nan=False, ensure_ascii=False, separators=(",", ":")), vectors


def check(settings: Mapping[str, Any]) -> None:
    """Raises TypeError if one of a trainer's settings cannot be saved."""
    _encode(dict(settings), ("trainer", "state"), np.dtype("float32"), {})


def _read(text: str, vectors: dict[str, bytes]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The state as JSON, and the vectors, in the form of the current version."""
    read = json.loads(text)
    if read["version"] == 1:
        return _from_version_1(read["state"], vectors)
    if read["version"] != _VERSION:
        raise ValueError(f"the state has version {read['version']!r}, but this microbp only reads up to {_VERSION}; use a newer microbp")
    return read["state"], vectors


def _decoded(read: dict[str, Any], dtype: np.dtype[Any], vectors: dict[str, bytes]) -> dict[str, Any]:
    if other := read.keys() ^ set(SAVED):
        raise ValueError(f"missing or unknown entries: {', '.join(map(repr, sorted(other)))}")
    state = {key: _decode(value, dtype, vectors) for key, value in read.items()}
    names = [str(name) for name in state["history"]]
    values = np.frombuffer(vectors[_HISTORY], np.float64).reshape(len(names), -1).tolist() if names else []
    return state | {"history": dict(zip(names, values, strict=True)), "losses": list(state["losses"])}


def _restore(
    cls: Any, net: Network, state: dict[str, Any], losses: list[Loss | CustomLoss], read: dict[str, Any], vectors: dict[str, bytes]
) -> Any:
    """Creates a trainer with this state; the constructor checks the settings. ValueError if saving it would not give the same data."""
    with loss_reader.accepted(net, losses):
        trainer = cls(net, losses, state["optimizer"], state["loss_weights"], state["seed"])
    initial = trainer.__getstate__()["engine"]["numbers"]
    for engine in (*_engines(state), *_engines(read)):  # files of earlier versions have no numbers, or fewer
        engine["numbers"] = initial | engine.get("numbers", {})
    with np.errstate(all="ignore"):  # a value that the net's dtype cannot hold is found below
        trainer.__setstate__(trainer.__getstate__() | state | {"losses": losses})
    again, same_vectors = encode(net, trainer.__getstate__() | {"losses": state["losses"]})
    for key, value in json.loads(again)["state"].items():
        if read[key] != value:
            raise ValueError(f"{key!r} has invalid values or sizes")
    if same_vectors != vectors:
        raise ValueError("its vectors do not match the network")
    return trainer


# ---- custom losses ----


@dataclass(frozen=True)
class _Function:
    """A custom loss in a file: its name."""

    name: str


def _with_functions(path: str | os.PathLike[str], saved: Sequence[Any], given: Any) -> list[Loss | CustomLoss]:
    """The losses of a trainer: those in the file, or, if those are functions, the given ones, a function or a list with one per output."""
    own = [loss.name for loss in saved if isinstance(loss, _Function)]
    if given is None and not own:
        return list(saved)
    if not own:
        texts = ", ".join(loss.text for loss in saved)
        raise ValueError(f"{os.fspath(path)}: the trainer has no custom loss, but {texts}; omit loss=")
    names = [name if name.isidentifier() else "f" for name in own]
    example = names[0] if len(names) == 1 else f"[{', '.join(names)}]"
    line = f"write Trainer.load({os.fspath(path)!r}, loss={example})"
    if given is None:
        what = f"the function {own[0]}" if len(own) == 1 else f"the functions {', '.join(own)}"
        raise ValueError(f"{os.fspath(path)}: the trainer's loss is {what}, which files do not contain; {line}")
    losses = list(given) if isinstance(given, list | tuple) else [given]
    if len(losses) != len(saved):
        raise ValueError(f"loss has {counted(len(losses), 'item')}, but the trainer has {counted(len(saved), 'output')}; {line}")
    for one, name in zip(losses, own, strict=True):
        if isinstance(one, type | Spec) or not callable(one):
            raise TypeError(f"loss must be a function where the trainer had {name}, not {brief(one)}; {line}")
    return losses


# ---- values ----


def _encode(value: Any, place: tuple[str, ...], dtype: np.dtype[Any], vectors: dict[str, bytes]) -> Any:
    """The value as JSON; arrays are added to `vectors`, named after their place."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, np.ndarray) and value.dtype == dtype and value.ndim == 1:
        name = ".".join(place)
        vectors[name] = value.tobytes()
        return {"$array": name}
    if isinstance(value, list | tuple):
        parts = [_encode(part, (*place, str(i)), dtype, vectors) for i, part in enumerate(value)]
        return parts if isinstance(value, list) else {"$tuple": parts}
    if isinstance(value, dict) and all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: _encode(part, (*place, key), dtype, vectors) for key, part in value.items()}
    name = type(value).__name__
    if _SPECS.get(name) is type(value):
        return {f"${name}": value.text}
    if isinstance(value, _Function):
        return {"$function": value.name}
    if isinstance(value, Settings) and _SETTINGS.get(name) is type(value):
        settings = {field.name: getattr(value, field.name) for field in fields(value)}
        return {f"${name}": _encode(settings, place, dtype, vectors)}
    raise TypeError(f"save: {'.'.join(place)} is {value!r}, which cannot be saved to a file")


def _decode(value: Any, dtype: np.dtype[Any], vectors: dict[str, bytes]) -> Any:
    if isinstance(value, list):
        return [_decode(part, dtype, vectors) for part in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    if not tag.startswith("$"):
        return {key: _decode(part, dtype, vectors) for key, part in value.items()}
    inside = value[tag]
    if tag == "$array":
        return np.frombuffer(bytearray(vectors[inside]), dtype)
    if tag == "$tuple":
        return tuple(_decode(inside, dtype, vectors))
    if tag == "$float":
        return float(inside)
    if tag == "$function":
        return _Function(str(inside))
    if tag[1:] in _SPECS:
        return _SPECS[tag[1:]].parse(inside)
    kind = _SETTINGS.get(tag[1:])
    if kind is None:
        raise ValueError(f"unknown type {tag}")
    return kind(**_decode(inside, dtype, vectors))


# ---- earlier versions ----


def _engines(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The states of the engine: now, and after the best epoch if there is one."""
    best = (state["best"] or {}).get("snapshot")
    return [state["engine"]] if best is None else [state["engine"], best]


def _from_version_1(state: dict[str, Any], vectors: dict[str, bytes]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Version 1 had a list of records instead of the history, and the number of averaged states followed from the steps."""
    records = [_decode(record, np.dtype("float64"), {}) for record in state["records"]]
    names = list(dict.fromkeys(name for record in records for name in record if name not in ("epoch", "steps")))
    new = {key: value for key, value in state.items() if key != "records"} | {"history": names, "stopped": None}
    for engine in _engines(new):
        engine["average_count"] = _count_in_version_1(state["averaging"], engine["steps"])
    if new["best"] is not None:
        new["best"]["schedule"] = state["schedule"]
    if not names:
        return new, vectors
    values = np.array([[record.get(name, math.nan) for record in records] for name in names], np.float64)
    return new, vectors | {_HISTORY: values.tobytes()}


def _count_in_version_1(averaging: Any, steps: int) -> int:
    if averaging is None:
        return 0
    rule = averaging.get("$SWA", {"start": 0, "every": 1})
    first = rule["start"] or rule["every"]
    return int(max(0, (steps - first) // rule["every"] + 1))
