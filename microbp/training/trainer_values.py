"""Values of a trainer's state as JSON. Arrays become vectors of the file.

For types that JSON does not have, there are objects with one key that starts with $: {"$array": name of the vector}, {"$tuple": [...]},
{"$float": "nan"}, {"$Loss": "quantile(q=0.9)"}, {"$Adam": {"lr": 0.001, ...}}, and for a custom loss its name, {"$function": "my_loss"},
or {"$joint_function": "my_loss"} for one function of all outputs.
A new settings class that a trainer can contain needs an entry in `SETTINGS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..core.specs import Loss, OptimizerSpec, SolverSpec, Spec
from ..settings import averages, optimizers, schedules, solvers, stopping
from ..settings.base import Settings

SPECS: dict[str, type[Spec]] = {kind.__name__: kind for kind in (Loss, OptimizerSpec, SolverSpec)}
SETTINGS: dict[str, type[Settings]] = {
    kind.__name__: kind
    for kind in (
        optimizers.AdaBelief, optimizers.Adadelta, optimizers.Adagrad, optimizers.Adam, optimizers.Adamax, optimizers.AdamW,
        optimizers.ASGD, optimizers.Ftrl, optimizers.Lamb, optimizers.Lion, optimizers.Momentum, optimizers.NAdam, optimizers.RAdam,
        optimizers.RMSprop, optimizers.Rprop, optimizers.SGD, solvers.BayesianRegularization, solvers.LBFGS, solvers.LevenbergMarquardt,
        solvers.SCG, averages.EMA, averages.SWA, stopping.EarlyStopping, *schedules.KINDS,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Function:
    """A custom loss in a file: its name, and whether it is one function for all outputs."""

    name: str
    is_joint: bool = False


def to_json(value: Any, place: tuple[str, ...], dtype: np.dtype[Any], vectors: dict[str, bytes]) -> Any:
    """The value as JSON; arrays are added to `vectors`, named after their place, ("trainer", "python", "best", ...)."""
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
        parts = [to_json(part, (*place, str(i)), dtype, vectors) for i, part in enumerate(value)]
        return parts if isinstance(value, list) else {"$tuple": parts}
    if isinstance(value, dict) and all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: to_json(part, (*place, key), dtype, vectors) for key, part in value.items()}
    name = type(value).__name__
    if SPECS.get(name) is type(value):
        return {f"${name}": value.text}
    if isinstance(value, Function):
        return {"$joint_function" if value.is_joint else "$function": value.name}
    if isinstance(value, Settings) and SETTINGS.get(name) is type(value):
        settings = {field.name: getattr(value, field.name) for field in fields(value)}
        return {f"${name}": to_json(settings, place, dtype, vectors)}
    raise TypeError(f"save: {'.'.join(place[2:])} is {value!r}, which cannot be saved to a file")


def from_json(value: Any, dtype: np.dtype[Any], vectors: dict[str, bytes]) -> Any:
    """The value from JSON; its arrays are taken out of `vectors`."""
    if isinstance(value, list):
        return [from_json(part, dtype, vectors) for part in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    if not tag.startswith("$"):
        return {key: from_json(part, dtype, vectors) for key, part in value.items()}
    if len(value) > 1:
        raise ValueError(f"more than {tag} in one value")
    inside = value[tag]
    if tag == "$array":
        return np.frombuffer(bytearray(vectors.pop(inside)), dtype)
    if tag == "$tuple":
        return tuple(from_json(inside, dtype, vectors))
    if tag == "$float":
        return float(inside)
    if tag in ("$function", "$joint_function"):
        return Function(str(inside), is_joint=tag == "$joint_function")
    if tag[1:] in SPECS:
        return SPECS[tag[1:]].parse(inside)
    kind = SETTINGS.get(tag[1:])
    if kind is None:
        raise ValueError(f"unknown type {tag}")
    return kind(**from_json(inside, dtype, vectors))


def history_of(names: Any, values: bytes) -> dict[str, list[float]]:
    """The history from the names and the vector in a file."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError("the names of the history are not a list of different texts")
    return dict(zip(names, np.frombuffer(values, np.float64).reshape(len(names), -1).tolist(), strict=True))
