"""Formulas by name and parameters: what users write, checked against the backend's tables, and the one token it becomes."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import ClassVar, NamedTuple, Self

from . import backend

_PARAMETER = re.compile(r"(\w+)=([^\[(]+)([\[(])([^,]+),([^\])]+)([\])])")
_SPEC = re.compile(r"(\w+)(?:\((.*)\))?")


class Range(NamedTuple):
    """A parameter's default and the interval of its valid values."""

    default: float
    low: float
    high: float
    text: str  # the interval as mathematics writes it

    def holds(self, value: float) -> bool:
        above = self.low <= value if self.text[0] == "[" else self.low < value
        below = value <= self.high if self.text[-1] == "]" else value < self.high
        return above and below


class Formula(NamedTuple):
    """A row of the backend's table."""

    parameters: dict[str, Range]
    detail: str


@functools.cache
def table(kind: str) -> dict[str, Formula]:
    """The formulas of a kind: activation, loss, optimizer, initialiser or output_activation. Every backend has the same."""
    return {name: Formula(_ranges(kind, text), detail) for name, text, detail in backend.load().formulas(kind)}


def _ranges(kind: str, text: str) -> dict[str, Range]:
    ranges = {}
    for key, default, opening, low, high, closing in _PARAMETER.findall(text):
        ranges[key] = Range(float(default), float(low), float(high), f"{opening}{low},{high}{closing}")
    if kind == "optimizer":  # a choice that every optimizer offers, whatever its row
        ranges["decay_bias"] = Range(0.0, 0.0, 1.0, "[0,1]")
    return ranges


def unknown(what: str, name: object, valid: Iterable[str]) -> ValueError:
    """The error for a name that is not there: the nearest one that is, and the whole list."""
    import difflib  # only an error needs it, and importing it takes 2 ms

    names = list(valid)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return ValueError(f"unknown {what} {name!r}{hint} valid: {', '.join(names) or 'none'}")


def number(value: float) -> str:
    """A number as the backends read it: decimal if 15 digits scaled by at most 10^22 say it exactly, else hexadecimal."""
    is_short = float(f"{value:.15g}") == value and (value == 0 or 1e-8 <= abs(value) < 1e22)
    return repr(value) if is_short else value.hex()


def read_number(text: str) -> float:
    """What `number` wrote."""
    try:
        return float.fromhex(text) if "x" in text else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None


class Spec:
    """A formula with its parameters; missing parameters take the default of the formula's row."""

    kind: ClassVar[str]
    name: str
    parameters: dict[str, float]

    def __init__(self, name: str, **parameters: float) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a {self.kind} is a name or a bp.{type(self).__name__}, not {name!r}")
        rows = table(self.kind)
        if name not in rows:
            raise self._unknown(name, rows)
        self.name = name
        self.parameters = {key: self._value(key, value, rows[name].parameters) for key, value in parameters.items()}

    def _unknown(self, name: str, rows: dict[str, Formula]) -> ValueError:
        return unknown(self.kind, name, rows)

    def _value(self, key: str, value: float, ranges: dict[str, Range]) -> float:
        if key not in ranges:
            raise unknown(f"parameter of {self.kind} {self.name!r}:", key, ranges)
        try:
            result = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{self.name}: {key} must be a number, not {value!r}") from None
        if not ranges[key].holds(result):
            raise ValueError(f"{self.name}: {key}={value!r} is outside {ranges[key].text}")
        return result

    @classmethod
    def parse(cls, value: str | Self) -> Self:
        """A spec from a name, from a token such as leaky_relu(slope=0.2), or from itself."""
        if isinstance(value, cls):
            return value
        match = _SPEC.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return cls(value)  # type: ignore[arg-type]  # the constructor names what is wrong
        return cls(match[1], **{key: read_number(text) for key, _, text in _pairs(match[2])})

    @property
    def text(self) -> str:
        """The token that stands for it in graph text."""
        inside = ",".join(f"{key}={number(value)}" for key, value in self.parameters.items())
        return f"{self.name}({inside})" if inside else self.name

    @property
    def detail(self) -> str:
        """A loss's output activation, an optimizer's slots and what they start from."""
        return table(self.kind)[self.name].detail

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in self.parameters.items())])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and (self.kind, self.text) == (other.kind, other.text)

    def __hash__(self) -> int:
        return hash((self.kind, self.text))


def _pairs(inside: str | None) -> list[tuple[str, str, str]]:
    return [part.partition("=") for part in inside.split(",")] if inside else []


class Loss(Spec):
    """A loss with parameters: `Loss("quantile", q=0.9)`."""

    kind = "loss"


class Init(Spec):
    """An initialiser with parameters: `Init("normal", std=0.1)`."""

    kind = "initialiser"


class OptimizerSpec(Spec):
    """A row of the optimizers' table with parameters; the settings classes in `optimizers` become one. "rprop" is PyTorch's iRprop-."""

    kind = "optimizer"

    def __init__(self, name: str, **parameters: float) -> None:
        super().__init__("irprop_minus" if name == "rprop" else name, **parameters)
