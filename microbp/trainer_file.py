"""Trainers as files: a network's file with the trainer's state beside it. Data only: settings by name, vectors as tensors.

The state is what `Trainer.__getstate__` gives. Its arrays become vectors of the file, the rest is JSON, in which an object with one key
that starts with $ stands for what JSON has not: {"$array": name of the vector}, {"$tuple": [...]}, {"$float": "nan"},
{"$specs.Loss": "quantile(q=0.9)"}, {"$optimizers.Adam": {"lr": 0.001, ...}}.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import time
from dataclasses import fields, is_dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from . import backend as backends
from . import snapshot, threads
from .network import Network
from .specs import Spec
from .stopping import check as check_best

if TYPE_CHECKING:
    from .trainer import Trainer

T = TypeVar("T", bound="Trainer")
_VERSION = 1
_SETTINGS = ("optimizers", "schedules", "averages")  # modules whose frozen dataclasses a state may have


def save(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Writes the trainer and its network, all or nothing."""
    text, vectors = _encode_trainer(trainer)
    trainer.net._core.save_with(os.fspath(path), text, vectors)


def load(cls: type[T], path: str | os.PathLike[str], backend: str | None, n_threads: int | None) -> T:
    """The trainer that `save` wrote, with a network of its own."""
    limit = threads.check(n_threads)
    core, extras = backends.load(backend).Net.load_with(os.fspath(path))
    if extras is None:
        raise ValueError(f"{os.fspath(path)}: the file holds a network and no trainer; open it by bp.load, and make a bp.Trainer for it")
    net = Network._from(core, backends.resolve(backend), {}, limit)
    try:
        return _restore(cls, net, *extras)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        where = f"{os.fspath(path)}: the trainer's state is not what microbp writes"
        what = " ".join(f"{type(error).__name__}: {error}"[:200].split())
        raise ValueError(f"{where} ({what}); bp.load opens the network alone") from error


def _encode_trainer(trainer: Trainer) -> tuple[str, dict[str, bytes]]:
    for loss in trainer.losses:
        if not isinstance(loss, Spec):
            raise ValueError(
                f"save: the loss {getattr(loss, '__name__', loss)!r} is a function of your own, and files hold no code: save the network "
                "alone by t.net.save(path), or the trainer by pickle, which finds the function by its name"
            )
    vectors: dict[str, bytes] = {}
    state = {key: value for key, value in trainer.__getstate__().items() if key != "net"}
    encoded = _encode(state, ("trainer", "state"), trainer.net.dtype, vectors)
    return json.dumps({"version": _VERSION, "state": encoded}, allow_nan=False, ensure_ascii=False, separators=(",", ":")), vectors


def _restore(cls: type[T], net: Network, text: str, vectors: dict[str, bytes]) -> T:
    """A new trainer, whose constructor checks the settings, brought into the state; what it then would write must be what was read."""
    read = json.loads(text)
    if read["version"] != _VERSION:
        raise ValueError(f"it is of version {read['version']!r}, and this microbp reads {_VERSION}; use a newer microbp")
    state = {key: _decode(value, net.dtype, vectors) for key, value in read["state"].items()}
    with net._without_activations():
        trainer = cls(net, state["losses"], state["optimizer"], state["loss_weights"], state["seed"])
    fresh = trainer.__getstate__()
    if unknown := state.keys() - fresh.keys():
        raise ValueError(f"it has an unknown {unknown.pop()!r}")
    _check_course(state)
    trainer.__setstate__(fresh | state)
    check_best(trainer._best, trainer)
    again, same_vectors = _encode_trainer(trainer)
    written = json.loads(again)["state"]
    for key, value in read["state"].items():
        if written[key] != value:
            raise ValueError(f"its {key!r} has values or sizes that do not fit")
    if same_vectors != vectors:
        raise ValueError("its vectors do not fit the network")
    return trainer


def _check_course(state: dict[str, Any]) -> None:
    """What a trainer takes as it is given."""
    if type(state["epoch"]) is not int or state["epoch"] < 0:
        raise ValueError(f"its epoch is {state['epoch']!r}")
    for record in state["_records"]:
        if not isinstance(record, dict) or not all(type(value) in (int, float) for value in record.values()):
            raise ValueError("its history has an entry that is no number")


# ---- values ----


def _encode(value: Any, place: tuple[str, ...], dtype: np.dtype[Any], vectors: dict[str, bytes]) -> Any:
    """The value as JSON; arrays go to `vectors`, named by their place."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, np.ndarray) and value.dtype == dtype and value.ndim == 1:
        name = ".".join(part.lstrip("_") for part in place)
        vectors[name] = value.tobytes()
        return {"$array": name}
    if isinstance(value, list | tuple):
        parts = [_encode(part, (*place, str(i)), dtype, vectors) for i, part in enumerate(value)]
        return parts if isinstance(value, list) else {"$tuple": parts}
    if isinstance(value, dict) and all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: _encode(part, (*place, key), dtype, vectors) for key, part in value.items()}
    module = type(value).__module__.rpartition(".")[2]
    tag = f"${module}.{type(value).__name__}"
    if isinstance(value, Spec):
        return {tag: value.text}
    if is_dataclass(value) and module in _SETTINGS:
        settings = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        return {tag: _encode(settings, place, dtype, vectors)}
    raise TypeError(f"save: {'.'.join(place)} is {value!r}, which no file can hold")


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
    return _decode_settings(tag[1:], _decode(inside, dtype, vectors))


def _decode_settings(name: str, inside: Any) -> Any:
    module, _, kind = name.partition(".")
    if module not in ("specs", *_SETTINGS):
        raise ValueError(f"it has an unknown ${name}")
    cls = getattr(importlib.import_module(f"{__package__}.{module}"), kind)
    if module == "specs" and isinstance(cls, type) and issubclass(cls, Spec):
        return cls.parse(inside)
    if not (isinstance(cls, type) and is_dataclass(cls) and cls.__module__ == f"{__package__}.{module}"):
        raise ValueError(f"${name} is no kind of settings")
    return cls(**inside)


# ---- while fit runs ----


class Checkpoint:
    """Saves a trainer again and again: after every so many epochs, or when so much time has passed since the last save. Without a path
    it does nothing."""

    def __init__(self, trainer: Trainer, path: str | os.PathLike[str] | None, every: int | timedelta = 1) -> None:
        self._trainer = trainer
        self._path = path
        self._every = every
        self._epoch, self._steps, self._time = trainer.epoch, trainer.steps, time.monotonic()  # of the last save
        self._whole: Course | None = None  # the end of the last epoch
        if path is not None:
            self._check(path)
        elif every != 1:
            raise ValueError(f"fit: every={every!r} needs checkpoint=, the file to save to")

    def _check(self, path: str | os.PathLike[str]) -> None:
        """Refuses what would not work before hours of training."""
        every = self._every
        if isinstance(every, bool) or not isinstance(every, int | timedelta):
            raise TypeError(f"every must be a number of epochs or a datetime.timedelta, not {every!r}")
        if not (every > timedelta() if isinstance(every, timedelta) else every >= 1):
            raise ValueError(f"every must be at least 1 epoch, or a time above 0, not {every!r}")
        _encode_trainer(self._trainer)
        folder = os.path.dirname(os.path.realpath(path))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OSError(f"checkpoint: cannot write into the folder {folder}")

    def _save(self) -> None:
        if self._path is not None:
            save(self._trainer, self._path)
            self._epoch, self._steps, self._time = self._trainer.epoch, self._trainer.steps, time.monotonic()

    def _is_due(self) -> bool:
        if isinstance(self._every, timedelta):
            return time.monotonic() - self._time >= self._every.total_seconds()
        return self._trainer.epoch - self._epoch >= self._every

    def after_epoch(self) -> None:
        """Saves if it is time to."""
        if self._path is not None:
            self._whole = _course(self._trainer)
            if self._is_due():
                self._save()

    def interrupted(self) -> None:
        """Saves the end of the last whole epoch, from which a run can go on as if nothing had happened."""
        if self._whole is None or self._whole.attributes["epoch"] == self._epoch:
            return
        now = _course(self._trainer)
        _set_course(self._trainer, self._whole)
        try:
            self._save()
        finally:
            _set_course(self._trainer, now)

    def finish(self) -> None:
        """Saves if anything has changed since the last save."""
        if (self._trainer.epoch, self._trainer.steps) != (self._epoch, self._steps):
            self._save()


class Course(NamedTuple):
    """All that fit changes in a trainer: what its steps do, and some of its attributes."""

    state: dict[str, Any]
    attributes: dict[str, Any]


def _course(trainer: Trainer) -> Course:
    """A copy."""
    best = None if trainer._best is None else dict(trainer._best)
    attributes = {"epoch": trainer.epoch, "schedule": trainer.schedule, "_records": trainer._records[:], "_best": best}
    return Course(snapshot.take(trainer), attributes)


def _set_course(trainer: Trainer, course: Course) -> None:
    snapshot.restore(trainer, course.state)
    vars(trainer).update(course.attributes)
