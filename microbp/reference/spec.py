"""Formula specs: `name` or `name(key=value,key=value)`, and the parameter texts that say what a formula takes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from .formulas import EVERY_OPTIMIZER, TABLES

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII)
_HEXADECIMAL = re.compile(r"[+-]?0x([0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(p[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_DIGITS = 15  # a decimal with so many digits survives the way into a double and back
_PARAMETER = re.compile(r"(\w+)=([^\[(]+)([\[(][^\])]+[\])])")


@dataclass(frozen=True)
class Interval:
    """The values a parameter or a target may have, written "[0,inf)": a square bracket includes its end."""

    text: str
    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Interval:
        low, high = text[1:-1].split(",")
        return cls(text, float(low), float(high))

    def __contains__(self, value: float) -> bool:
        above = value >= self.low if self.text[0] == "[" else value > self.low
        below = value <= self.high if self.text[-1] == "]" else value < self.high
        return above and below


def parameters(text: str) -> dict[str, tuple[float, Interval]]:
    """Name -> (default, interval) of a parameter text, "lr=0.001[0,inf) momentum=0.9[0,1)"."""
    return {name: (float(default), Interval.parse(interval)) for name, default, interval in _PARAMETER.findall(text)}


def check_parameter(text: str, name: str, value: float) -> float:
    """The value, if the parameter text knows the name and admits the value."""
    known = parameters(text)
    if name not in known:
        raise ValueError(f'unknown parameter "{name}"; the parameters are: {text or "none"}')
    interval = known[name][1]
    if value not in interval:
        raise ValueError(f"{name}={number_text(value)} is not in {interval.text}")
    return value


def parse_number(text: str) -> float:
    """A decimal with at most 15 significant digits, or a hexadecimal number as float.hex() writes it."""
    if _HEXADECIMAL.fullmatch(text):
        try:
            return float.fromhex(text)
        except OverflowError:
            return math.inf
    if _DECIMAL.fullmatch(text) and len(re.sub(r"e.*|\D", "", text).lstrip("0")) <= _DIGITS:
        return float(text)
    raise ValueError(f'"{text}" is no number: give a decimal with at most {_DIGITS} digits, or a hexadecimal one (0x1.8p-3)')


def number_text(value: float) -> str:
    """The shortest plain decimal that reads back as this value, if 15 digits are enough; else the 53-bit mantissa in hexadecimal."""
    if not math.isfinite(value):
        return str(value)
    sign, value = ("-" if value < 0 else ""), abs(value)
    for places in range(_DIGITS + 1):
        text = f"{value:.{places}f}"
        if len(text.replace(".", "").lstrip("0")) > _DIGITS:
            break
        if float(text) == value:
            return sign + text
    mantissa, exponent = math.frexp(value)
    return f"{sign}0x{int(math.ldexp(mantissa, 53)):x}p{exponent - 53}"


@dataclass(frozen=True)
class Spec:
    """A formula with its parameters; `entry` is its row in the table of its kind."""

    kind: str
    name: str
    values: dict[str, float]

    @classmethod
    def parse(cls, kind: str, text: str) -> Spec:
        name, bracket, inside = text.partition("(")
        table = TABLES[kind]
        if name not in table:
            raise ValueError(f'unknown {kind.replace("_", " ")} "{name}"; there are: {", ".join(table)}')
        if bracket and not inside.endswith(")"):
            raise ValueError(f"the parameters of {name} must end in ')'")
        accepted = accepted_parameters(kind, name)
        values = {key: default for key, (default, _) in parameters(accepted).items()}
        for pair in inside[:-1].split(",") if inside[:-1] else ():
            key, _, number = pair.partition("=")
            values[key] = check_parameter(accepted, key, parse_number(number))
        return cls(kind, name, values)

    @property
    def entry(self) -> Any:
        return TABLES[self.kind][self.name]

    def __str__(self) -> str:
        if not self.values:
            return self.name
        return f"{self.name}({','.join(f'{key}={number_text(value)}' for key, value in self.values.items())})"


def accepted_parameters(kind: str, name: str) -> str:
    """The parameter text of a formula, with what every formula of its kind takes."""
    text = TABLES[kind][name].parameters
    return f"{text} {EVERY_OPTIMIZER}" if kind == "optimizer" else text
