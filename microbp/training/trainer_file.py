"""Trainer files: files of networks that also contain the state of a trainer. They contain data, no code.

A file contains the entries of `Trainer.__getstate__` named in SAVED. Arrays become vectors of the file, the rest is JSON. For types that
JSON does not have, there are objects with one key that starts with $: {"$array": name of the vector}, {"$tuple": [...]}, {"$float": "nan"},
{"$Loss": "quantile(q=0.9)"}, {"$Adam": {"lr": 0.001, ...}}. A new settings class that a trainer can contain needs an entry in `_SETTINGS`.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from ..core import backend as backends
from ..core import threads
from ..core.checks import file_path, new_file
from ..core.specs import Loss, OptimizerSpec, Spec
from ..network.network import Network, without_activations
from ..settings import averages, optimizers, schedules
from ..settings.base import Settings

T = TypeVar("T")
SAVED = ("losses", "loss_weights", "optimizer", "seed", "averaging", "limits", "engine", "epoch", "schedule", "records", "best")
_VERSION = 1
_SPECS: dict[str, type[Spec]] = {kind.__name__: kind for kind in (Loss, OptimizerSpec)}
_SETTINGS: dict[str, type[Settings]] = {
    kind.__name__: kind
    for kind in (
        optimizers.AdaBelief, optimizers.Adadelta, optimizers.Adagrad, optimizers.Adam, optimizers.Adamax, optimizers.AdamW,
        optimizers.ASGD, optimizers.Ftrl, optimizers.Lamb, optimizers.Lion, optimizers.Momentum, optimizers.NAdam, optimizers.RAdam,
        optimizers.RMSprop, optimizers.Rprop, optimizers.SGD, averages.EMA, averages.SWA, *schedules.KINDS,
    )
}  # fmt: skip


def save(path: str | os.PathLike[str], net: Network, state: dict[str, Any]) -> None:
    """Writes a network and the state of its trainer, completely or not at all."""
    net._core.save_with(new_file(path), *encode(net, state))


def load(cls: type[T], path: str | os.PathLike[str], backend: str | None, n_threads: int | None) -> T:
    """Reads a file that `save` wrote. Returns a trainer of class `cls`, with a new network."""
    limit = threads.check(n_threads)
    core, extras = backends.load(backend).Net.load_with(file_path(path))
    if extras is None:
        raise ValueError(f"{os.fspath(path)}: contains a network but no trainer; load it with bp.load and create a bp.Trainer for it")
    net = Network._from(core, backends.resolve(backend), {}, limit)
    try:
        trainer: T = _restore(cls, net, *extras)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        where = f"{os.fspath(path)}: the trainer's state is invalid"
        what = " ".join(f"{type(error).__name__}: {error}"[:200].split())
        raise ValueError(f"{where} ({what}); bp.load loads the network alone") from error
    return trainer


def encode(net: Network, state: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """The contents of a file besides the network: JSON text and vectors. ValueError or TypeError names a value that cannot be saved."""
    for loss in state["losses"]:
        if not isinstance(loss, Spec):
            raise ValueError(
                f"save: the loss {getattr(loss, '__name__', loss)!r} is a custom function, and files contain no code; save the network "
                "alone with t.net.save(path), or pickle the trainer, which stores the function's name"
            )
    vectors: dict[str, bytes] = {}
    encoded = _encode({key: state[key] for key in SAVED}, ("trainer", "state"), net.dtype, vectors)
    return json.dumps({"version": _VERSION, "state": encoded}, allow_nan=False, ensure_ascii=False, separators=(",", ":")), vectors


def _restore(cls: Any, net: Network, text: str, vectors: dict[str, bytes]) -> Any:
    """Creates a trainer with this state; the constructor checks the settings. ValueError if saving it would not give the same data."""
    read = json.loads(text)
    if read["version"] != _VERSION:
        raise ValueError(f"the state has version {read['version']!r}, but this microbp only reads version {_VERSION}; use a newer microbp")
    if other := read["state"].keys() ^ set(SAVED):
        raise ValueError(f"missing or unknown entries: {', '.join(map(repr, sorted(other)))}")
    state = {key: _decode(value, net.dtype, vectors) for key, value in read["state"].items()}
    with without_activations(net):
        trainer = cls(net, list(state["losses"]), state["optimizer"], state["loss_weights"], state["seed"])
    trainer.__setstate__(trainer.__getstate__() | state)
    again, same_vectors = encode(net, trainer.__getstate__())
    for key, value in json.loads(again)["state"].items():
        if read["state"][key] != value:
            raise ValueError(f"{key!r} has invalid values or sizes")
    if same_vectors != vectors:
        raise ValueError("its vectors do not match the network")
    return trainer


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
    if len(value) != 1 or not tag.startswith("$"):
        return {key: _decode(part, dtype, vectors) for key, part in value.items()}
    inside = value[tag]
    if tag == "$array":
        return np.frombuffer(bytearray(vectors[inside]), dtype)
    if tag == "$tuple":
        return tuple(_decode(inside, dtype, vectors))
    if tag == "$float":
        return float(inside)
    if tag[1:] in _SPECS:
        return _SPECS[tag[1:]].parse(inside)
    kind = _SETTINGS.get(tag[1:])
    if kind is None:
        raise ValueError(f"unknown type {tag}")
    return kind(**_decode(inside, dtype, vectors))
