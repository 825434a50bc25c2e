"""Trainer files: files of networks that also contain the state of a trainer. They contain data, no code.

The state is a text of lines key=value, and vectors. `src/include/microbp_file.h` describes both, and C reads and writes them too. What only
Python knows is in the lines and vectors whose names start with python: JSON, as trainer_values.py writes it. Of the history, the JSON lists
the names; the values are one vector of float64 numbers, one entry after another, so that a save costs the same after many epochs.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ..core import backend as backends
from ..core import threads
from ..core.checks import new_file, own_file
from ..core.specs import Loss, OptimizerSpec, SolverSpec, Spec, table
from ..core.text import brief, call, counted, number, numbers, printable, read_number
from ..network.network import Network
from ..settings import averages, optimizers
from . import trainer_json
from .engine import losses as loss_reader
from .engine.custom_loss import CustomLoss, Joint, name_of
from .engine.engine_state import CONSTANT, LIMITS
from .trainer_values import Function, from_json, history_of, to_json

T = TypeVar("T")
Extras: TypeAlias = tuple[str, dict[str, bytes]]  # a file's contents besides the network: text and vectors
_VERSION = "3"
# Entries of which Python alone knows something.
_PYTHON = ("losses", "optimizer", "schedule", "history", "best", "stopped", "standardize_targets")
_HISTORY = "trainer.python.history"  # the vector


def save(path: str | os.PathLike[str], net: Network, state: dict[str, Any]) -> None:
    """Writes a network and the state of its trainer, completely or not at all."""
    net._core.save_with(new_file(path), *encode(net, state))


def load(cls: type[T], path: str | os.PathLike[str], backend: str | None, n_threads: int | None, loss: Any) -> T:
    """Reads a file that `save` or C wrote. Returns a trainer of class `cls`, with a new network. loss: for its custom losses."""
    with own_file(path) as name:
        return _loaded(cls, path, backends.load(backend).Net.load_with(name), backend, n_threads, loss)


def to_bytes(net: Network, state: dict[str, Any]) -> bytes:
    """The contents of the file that `save` writes."""
    return bytes(net._core.write_with(*encode(net, state)))


def from_bytes(cls: type[T], data: bytes, backend: str | None, n_threads: int | None, loss: Any) -> T:
    """`load` from the contents of a file."""
    return _loaded(cls, "the bytes", backends.load(backend).Net.read_with(data), backend, n_threads, loss)


def _loaded(
    cls: type[T], path: str | os.PathLike[str], read: tuple[Any, Extras | None], backend: str | None, n_threads: int | None, loss: Any
) -> T:
    """The trainer that a backend has read. path: for errors."""
    limit = threads.check(n_threads)
    core, extras = read
    if extras is None:
        raise ValueError(f"{os.fspath(path)}: contains a network but no trainer; load it with bp.load and create a bp.Trainer for it")
    net = Network._from(core, backends.resolve(backend), {}, limit)
    with _errors_of(path):
        state = _state(*extras, net.dtype)
    losses = _with_functions(path, state["losses"], loss)
    with _errors_of(path):
        trainer: T = _restore(cls, net, state, losses)
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


def check(settings: Mapping[str, Any]) -> None:
    """Raises TypeError if one of a trainer's settings cannot be saved."""
    for key, value in settings.items():
        to_json(value, ("trainer", "python", key), np.dtype("float32"), {})


def _restore(cls: Any, net: Network, state: dict[str, Any], losses: list[Loss | CustomLoss | Joint | None]) -> Any:
    """Creates a trainer with this state; the constructor checks the settings. ValueError if saving it would not give the same data."""
    with loss_reader.accepted(net, losses):
        trainer = cls(net, loss_reader.as_argument(losses), state["optimizer"], state["loss_weights"], state["seed"])
    initial = trainer.__getstate__()["engine"]["numbers"]
    best = (state["best"] or {}).get("snapshot")
    for engine in [state["engine"]] + [best] * (best is not None):  # files of earlier versions have no numbers, or fewer
        engine["numbers"] = initial | engine.get("numbers", {})
    with np.errstate(all="ignore"):  # a value that the net's dtype cannot hold is found below
        trainer.__setstate__(trainer.__getstate__() | state | {"losses": losses})
    text, vectors = encode(net, state)
    again, same_vectors = encode(net, trainer.__getstate__() | {"losses": state["losses"]})
    if text != again:
        key = next(line for line in text.split("\n") if line not in again.split("\n")).partition("=")[0]
        raise ValueError(f"{key!r} has invalid values or sizes")
    if vectors != same_vectors:
        raise ValueError("its vectors do not match the network")
    return trainer


# ---- writing ----


def encode(net: Network, state: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """The contents of a file besides the network: text and vectors. TypeError names a value that cannot be saved."""
    engine, slots = state["engine"], {f"trainer.slots.{name}": slot for name, slot in state["engine"]["slots"].items()}
    vectors = {name: vector.tobytes() for name, vector in ({"trainer.state.grads": engine["grads"]} | slots).items()}
    losses = [_saved(loss) for loss in state["losses"]]
    optimizer, now = optimizers.parse(state["optimizer"]), _rate(engine["lr"]) | engine["numbers"]
    dropout = now.pop("dropout")
    lines = {
        "version": _VERSION,
        "losses": " ".join(_text(loss.name, _numbers(loss)) if isinstance(loss, Spec) else "none" for loss in losses),
        "loss_weights": " ".join(map(number, state["loss_weights"])),
        "optimizer": _text(optimizer.name, _numbers(optimizer) | now),
        **{name: number(limit) for name, limit in state["limits"].items() if limit is not None},
        **({"dropout": number(dropout)} if dropout != 1 else {}),
        **({"penalty_per_row": "1"} if state["penalty_per_row"] else {}),
        **{"seed": str(state["seed"]), "steps": str(engine["steps"]), "epoch": str(state["epoch"])},
        **{name: number(loss) for name, loss in engine["losses"].items()},
    }
    if state["averaging"] is not None:
        decay, start, every = state["averaging"].rule
        lines |= {"average_decay": number(decay), "average_start": str(start), "average_every": str(every)}
        lines["average_count"] = str(engine["average_count"])
        vectors["trainer.state.average"] = engine["average"].tobytes()
    if "sparse" in engine:
        lines["sparse"] = " ".join(f"{layer} {count}" for layer, count in engine["sparse"]["counts"].items())
        vectors["trainer.state.sparse"] = engine["sparse"]["rows"].tobytes()
    known = {name: state[name] for name in _PYTHON} | {"losses": losses, "history": list(state["history"]) or None}
    known["solver"] = engine.get("solver")
    for key, value in (known | {"standardize_targets": state["standardize_targets"] or None}).items():
        if value is not None:
            coded = to_json(value, ("trainer", "python", key), net.dtype, vectors)
            lines[f"python.{key}"] = json.dumps(coded, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    if state["history"]:
        vectors[_HISTORY] = np.array(list(state["history"].values()), np.float64).tobytes()
    return "".join(f"{key}={value}\n" for key, value in lines.items()), vectors


def _saved(loss: Any) -> Loss | Function | None:
    """A loss as files contain it."""
    return loss if loss is None or isinstance(loss, Loss | Function) else Function(name_of(loss), isinstance(loss, Joint))


def _numbers(spec: Spec) -> dict[str, Any]:
    """All parameters, those with their defaults too: a file does not change its meaning with a later version's defaults. missing=0 and
    eps_hat=0 are left out: earlier versions do not know them."""
    known = {key: valid.default for key, valid in table(spec.kind)[spec.name].parameters.items()} | spec.parameters
    return {key: value for key, value in known.items() if key not in ("missing", "eps_hat") or value != 0}


def _text(name: str, parameters: dict[str, Any]) -> str:
    return call(name, {key: numbers(value) for key, value in parameters.items()})


# ---- reading ----


def _slot_names(optimizer: OptimizerSpec) -> list[str]:
    """The detail of a solver has the names of its numbers instead."""
    return [] if isinstance(optimizer, SolverSpec) else [word.partition("=")[0] for word in optimizer.detail.split()]


def _state(text: str, vectors: dict[str, bytes], dtype: np.dtype[Any]) -> dict[str, Any]:
    """The state, in the form of Trainer.__getstate__, from the contents of a file."""
    if text.startswith("{"):
        state = trainer_json.read(text, vectors, dtype)
    else:
        lines = _lines(text)
        own = [key for key in (*_PYTHON, "solver") if f"python.{key}" in lines]
        kept = {key: from_json(json.loads(lines.pop(f"python.{key}")), dtype, vectors) for key in own}
        state = _known_to_c(lines, vectors, dtype, kept) | {key: kept.get(key) for key in ("schedule", "best", "stopped")}
        state["standardize_targets"] = kept.get("standardize_targets") is True
        if math.isnan(state["engine"]["lr"]):  # a solver; C writes no pairs
            state["engine"]["solver"] = kept.get("solver", np.zeros(0, dtype))
        state["history"] = history_of(kept["history"], vectors.pop(_HISTORY)) if "history" in kept else {}
        if lines:
            raise ValueError(f"unknown entries, perhaps of a newer version: {', '.join(map(repr, lines))}")
    if vectors:
        raise ValueError(f"unknown vectors: {', '.join(map(repr, vectors))}")
    return state


def _lines(text: str) -> dict[str, str]:
    """The values of the lines after the first, by key."""
    lines: dict[str, str] = {}
    for i, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        key, sign, value = line.partition("=")
        if not sign:
            raise ValueError(f"line {i} is not key=value")
        if key in lines:
            raise ValueError(f"{key} is given twice")
        lines[key] = value
    if next(iter(lines)) != "version":
        raise ValueError(f"its first line is not version={_VERSION}")
    if (version := lines.pop("version")) != _VERSION:
        raise ValueError(f"the state has version {version[:40]}, but this microbp only reads up to {_VERSION}; use a newer microbp")
    return lines


def _known_to_c(lines: dict[str, str], vectors: dict[str, bytes], dtype: np.dtype[Any], kept: dict[str, Any]) -> dict[str, Any]:
    """The part of the state that C knows. Takes its lines and vectors out. kept: what Python knows of losses and optimizer."""

    def vector(name: str) -> Any:
        return np.frombuffer(bytearray(vectors.pop(f"trainer.{name}")), dtype)

    averaging, now = None, OptimizerSpec.parse(_line(lines, "optimizer"))
    limits = {name: read_number(lines.pop(name)) if name in lines else None for name in LIMITS}
    state = {
        "losses": _losses(_line(lines, "losses"), kept.get("losses")),
        "loss_weights": [read_number(weight) for weight in _line(lines, "loss_weights").split()],
        "optimizer": _optimizer(now, kept.get("optimizer")),
        "seed": _whole(lines, "seed", 2**64),
        "epoch": _whole(lines, "epoch"),
        "limits": {name: None if limit == math.inf else limit for name, limit in limits.items()},
        "penalty_per_row": read_number(lines.pop("penalty_per_row", "0")) != 0,
    }
    engine = {
        "lr": _numbers(now).get("lr", math.nan),
        "numbers": _changing(now) | {"dropout": read_number(lines.pop("dropout", "1"))},
        "steps": _whole(lines, "steps"),
        "losses": {name: read_number(_line(lines, name)) for name in ("loss", "last_loss")},
        "grads": vector("state.grads"),
        "slots": {name: vector(f"slots.{name}") for name in _slot_names(now)},
        "average": None,
        "average_count": 0,
    }
    if "average_decay" in lines:
        averaging = _average(read_number(lines.pop("average_decay")), _whole(lines, "average_start"), _whole(lines, "average_every"))
        engine |= {"average": vector("state.average"), "average_count": _whole(lines, "average_count")}
    if "sparse" in lines:
        words = lines.pop("sparse").split()
        counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        engine["sparse"] = {"counts": counts, "rows": vector("state.sparse")}
    return state | {"engine": engine, "averaging": averaging}


def _line(lines: dict[str, str], key: str) -> str:
    """Takes the value of a line that each file has."""
    if key not in lines:
        raise ValueError(f"the line {key}= is missing")
    return lines.pop(key)


def _whole(lines: dict[str, str], key: str, end: int = 2**63) -> int:
    value = _line(lines, key)
    if not re.fullmatch("0|[1-9][0-9]{0,19}", value) or int(value) >= end:
        raise ValueError(f"{key} must be a whole number below 2**{end.bit_length() - 1}, not {value[:40]!r}")
    return int(value)


def _losses(line: str, kept: list[Loss | Function | None] | None) -> list[Loss | Function | None]:
    """The losses: as Python wrote them, or, in a file that C wrote, from C's texts. "none": the caller computes the loss, or, if all are
    none, its gradient."""
    texts = re.findall(r"[^ (]+(?:\([^)]*\))?", line)
    if " ".join(texts) != line:
        raise ValueError(f"losses must be losses with blanks between them, not {line[:40]!r}")
    found: list[Any] = [None if text == "none" else Loss.parse(text) for text in texts]
    if kept is None and not any(found):
        return found
    if kept is None:
        return [_short(loss) if isinstance(loss, Loss) else Function("f") for loss in found]
    if not all(_is_same(one, other) for one, other in zip(found, kept, strict=True)):
        raise ValueError("python.losses and losses differ")
    return kept


def _is_same(one: Loss | None, other: Loss | Function | None) -> bool:
    if isinstance(one, Loss) and isinstance(other, Loss):
        return (one.name, _numbers(one)) == (other.name, _numbers(other))
    return one is None and not isinstance(other, Loss)


def _optimizer(now: OptimizerSpec, kept: Any) -> Any:
    """The optimizer as given to the constructor, if C has changed none of its numbers that a trainer does not change."""
    if kept is not None:
        given = optimizers.parse(kept)
        if given.name == now.name and _numbers(given) | _changing(now) | _rate(_numbers(now).get("lr", math.nan)) == _numbers(now):
            return kept
    return _short(now)


def _rate(lr: float) -> dict[str, float]:
    """The learning rate by its name; a solver has none."""
    return {} if math.isnan(lr) else {"lr": lr}


def _changing(spec: OptimizerSpec) -> dict[str, float]:
    """The numbers that a trainer may change besides lr."""
    is_solver = isinstance(spec, SolverSpec)  # whose numbers stay
    return {name: value for name, value in _numbers(spec).items() if name not in CONSTANT and not is_solver}


def _short(spec: Any) -> Any:
    """The same formula without the parameters that have their defaults."""
    defaults = table(spec.kind)[spec.name].parameters
    return type(spec)(spec.name, **{key: value for key, value in spec.parameters.items() if value != defaults[key].default})


def _average(decay: float, start: int, every: int) -> averages.Average:
    return averages.SWA(start, every) if decay == 1 else averages.EMA(decay, start, every)


# ---- custom losses ----


def _with_functions(path: str | os.PathLike[str], saved: Sequence[Any], given: Any) -> list[Any]:
    """The losses of a trainer: those in the file, with the given functions where they are functions. given: the constructor's loss=."""
    own = [loss for loss in saved if isinstance(loss, Function)]
    where = os.fspath(path)
    if given is None and not own:
        return list(saved)
    if not own and any(saved):
        raise ValueError(f"{where}: the trainer has no custom loss, but {', '.join(loss.text for loss in saved)}; omit loss=")
    names = [_named(loss) for loss in saved]
    is_joint = bool(own and own[0].is_joint)
    example = names[0] if len(names) == 1 or is_joint else f"[{', '.join(names)}]"
    line = f"write Trainer.load({where!r}, loss={example})"
    if given is None:
        listed = ", ".join(loss.name for loss in own[: 1 if is_joint else None])
        what = f"the function{'s' if len(own) > 1 and not is_joint else ''} {listed}"
        raise ValueError(f"{where}: the trainer's loss is {what}, which files do not contain; {line}")
    if is_joint or (not own and len(saved) > 1 and not isinstance(given, list | tuple)):
        return [Joint(_function(given, names[0], line))] * len(saved)
    losses = list(given) if isinstance(given, list | tuple) else [given]
    if len(losses) != len(saved):
        raise ValueError(f"loss has {counted(len(losses), 'item')}, but the trainer has {counted(len(saved), 'output')}; {line}")
    return [_given(one, loss, name, line) for one, loss, name in zip(losses, saved, names, strict=True)]


def _named(loss: Loss | Function | None) -> str:
    """A saved loss as code: of a function, its name."""
    if isinstance(loss, Loss):
        return f"bp.{loss!r}" if loss.parameters else f'"{loss.name}"'
    return loss.name if loss is not None and loss.name.isidentifier() else "f"


def _given(one: Any, saved: Loss | Function | None, name: str, line: str) -> Any:
    """One of the given losses, where the file has `saved`."""
    if not isinstance(saved, Loss):
        return _function(one, name, line)
    if not (isinstance(one, str | Loss) and Loss.parse(one) == saved):
        raise ValueError(f"loss has {brief(one)} where the trainer had {name}; {line}")
    return saved


def _function(one: Any, name: str, line: str) -> Any:
    if isinstance(one, type | Spec) or not callable(one):
        raise TypeError(f"loss must be a function where the trainer had {name}, not {brief(one)}; {line}")
    return one
