"""Formula specs: `name` or `name(key=value,key=value)`, and the parameter texts that list the parameters of a formula."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .formulas import EVERY_LOSS, EVERY_OPTIMIZER, TABLES
from .positions.window import LARGEST

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,18})?", re.ASCII | re.IGNORECASE)
_HEXADECIMAL = re.compile(r"[+-]?0x([0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(p[+-]?\d{1,18})?", re.ASCII | re.IGNORECASE)
_DIGITS, _HEXADECIMAL_DIGITS = 15, 14  # a decimal with at most 15 digits is the same after a conversion to double and back
BLANKS = " \t\r"
_LIST = 160  # characters of the words that an error lists
INTEGER = re.compile(r"[0-9]{1,18}")
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
    """Returns the value. Raises ValueError if the parameter text does not have the name, or the value is out of its range."""
    known = parameters(text)
    if name not in known:
        raise unknown("unknown parameter", name, text.split())
    interval = known[name][1]
    if value not in interval:
        raise ValueError(f"{name} must be in {interval.text}, not {number_text(value)}")
    return value


def unknown(what: str, word: str, valid: Sequence[str]) -> ValueError:
    """The error for an unknown word: lists the valid words and suggests the closest one. Compares only the parts before "="."""
    names = [name.partition("=")[0] for name in valid]
    closest = min(names, key=lambda name: _distance(word, name), default="")
    hint = f'; did you mean "{closest}"?' if closest and 3 * _distance(word, closest) <= len(word) else ";"
    return ValueError(f'{what} "{word}"{hint} valid: {_listed(valid) or "none"}')


def _listed(words: Sequence[str]) -> str:
    """The words, as many as an error has room for."""
    found = ""
    for word in words:
        if len(found) + len(word) + len(", , ...") + 1 >= _LIST:
            return f"{found}, ..."
        found += f"{', ' if found else ''}{word}"
    return found


def _distance(a: str, b: str) -> int:
    """How many letters must be inserted, removed or replaced to turn a into b; case does not count (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a.lower(), 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b.lower(), 1):
            before, row[j] = row[j], min(before + (letter != other), row[j - 1] + 1, row[j] + 1)
    return row[-1]


def parse_number(text: str, key: str) -> float:
    """A decimal with at most 15 significant digits, or a hexadecimal number as float.hex() writes it. key: its name for errors."""
    if text in ("inf", "+inf", "-inf"):
        return float(text)
    if (match := _HEXADECIMAL.fullmatch(text)) and len(match[1].replace(".", "").lstrip("0")) <= _HEXADECIMAL_DIGITS:
        try:
            return float.fromhex(text)
        except OverflowError:
            return math.copysign(math.inf, -1 if text.startswith("-") else 1)
    if (match := _DECIMAL.fullmatch(text)) and len(match[1].replace(".", "").lstrip("0")) <= _DIGITS:
        return float(text)
    raise ValueError(f'{key} must be a number, not "{text}": a decimal with at most {_DIGITS} digits, or hexadecimal (0x1.8p-3)')


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
    """A formula with its parameters; `entry` is its row in the table of its kind. A parameter of some losses may be a list."""

    kind: str
    name: str
    values: dict[str, Any]

    @classmethod
    def parse(cls, kind: str, text: str) -> Spec:
        if kind != "output_activation":  # a plain name, without blanks around it
            text = text.strip(BLANKS)
        name, bracket, inside = text.partition("(")
        name = name if kind == "output_activation" else name.strip(BLANKS)
        if name not in TABLES[kind]:
            raise _unknown_formula(kind, name)
        if bracket and not inside.endswith(")"):
            raise ValueError(f'"{text}" does not end with ")": add ")"')
        accepted = accepted_parameters(kind, name)
        known, given = parameters(accepted), dict[str, Any]()
        pairs = [pair.strip(BLANKS) for pair in inside[:-1].split(",")]
        for pair in pairs if pairs[-1] else pairs[:-1]:
            key, number = (part.strip(BLANKS) for part in pair.partition("=")[::2])
            if key not in known:
                raise unknown("unknown parameter", key, accepted.split())
            may_be_list = kind == "loss" and TABLES[kind][name].apart and key != "missing"
            value = _read_value(accepted, key, number, may_be_list)
            if key in given:
                raise ValueError(f"{key} is given twice")
            given[key] = value
        return cls(kind, name, {key: given.get(key, default) for key, (default, _) in known.items()})

    @property
    def entry(self) -> Any:
        return TABLES[self.kind][self.name]

    def __str__(self) -> str:
        values = {key: value for key, value in self.values.items() if value or key != "missing"}
        if not values:
            return self.name
        return f"{self.name}({','.join(f'{key}={_value_text(value)}' for key, value in values.items())})"


def _read_value(accepted: str, key: str, text: str, may_be_list: bool) -> float | tuple[float, ...]:
    """A number or, if it may be one, a list "[0.1 0.9]", as a tuple."""
    if not (may_be_list and text.startswith("[")):
        return check_parameter(accepted, key, parse_number(text, key))
    words = re.split(f"[{BLANKS}]+", text[1:-1].strip(BLANKS))
    if not text.endswith("]") or words == [""]:
        raise ValueError(f'{key} must be a list of numbers like [0.1 0.9], not "{text}"')
    return tuple(check_parameter(accepted, key, parse_number(word, key)) for word in words)


def _value_text(value: float | tuple[float, ...]) -> str:
    return f"[{' '.join(map(number_text, value))}]" if isinstance(value, tuple) else number_text(value)


def target_columns(loss: str, columns: int) -> int:
    """How many target columns an output of this many columns has with a loss."""
    if columns < 1:
        raise ValueError(f"columns is {columns}, but must be at least 1")
    spec = Spec.parse("loss", loss)
    lists = [len(value) if isinstance(value, tuple) else 0 for key, value in spec.values.items() if key != "missing"]
    each = spec.entry.columns or lists.pop(0) or 1
    if columns % each:
        needs = f"the output needs a multiple of {each} columns, not {columns}"
        raise ValueError(f"{spec.name} has {each} columns for each target, so {needs}")
    for length in lists:
        if length not in (0, columns):
            has = f"{length} number{'s' * (length != 1)}, but the output has {columns} column{'s' * (columns != 1)}"
            raise ValueError(f"a list in {spec.name} has {has}")
    return columns // each


def read_scale(given: dict[str, str], activation: str | None, n: int) -> tuple[list[float], list[float]] | None:
    """The scale of an output of n columns, from its settings."""
    texts = [given.get(key, "") for key in ("mean", "std")]
    if not any(texts):
        return None
    if not all(texts):
        raise ValueError(f"an output with {'mean' if texts[0] else 'std'} needs {'std' if texts[0] else 'mean'} too")
    if activation != "identity":
        raise ValueError("an output with mean and std needs activation=identity")
    for key, text in zip(("mean", "std"), texts):
        if not text.startswith("("):
            raise ValueError(f"{key}={text} must be a list of numbers in ( )")
        if len(text) < 2 * n + 1:
            raise ValueError(f"{key} has fewer numbers than the output has columns: {n}")
    mean, std = (_read_list(key, text, n) for key, text in zip(("mean", "std"), texts))
    return check_scale(mean, std)


def _read_list(key: str, text: str, n: int) -> list[float]:
    """A list of n numbers: (0.5 2e3)."""
    words = text[1:-1].split()
    found = []
    for word in words[:n]:
        try:
            found.append(parse_number(word, key))
        except ValueError:
            raise ValueError(f'{key} must be numbers, not "{word}"') from None
    if len(words) != n:
        count = f"{len(words)}" if len(words) < n else f"more than {n}"
        one = len(words) == 1 if len(words) < n else n == 1
        raise ValueError(f"{key} has {count} number{'' if one else 's'}, but the output has {n} column{'' if n == 1 else 's'}")
    return found


_FLOAT32_MIN, _FLOAT32_MAX = 2.0**-126, 2.0**128 - 2.0**104  # float32's smallest normal number, and its largest


def check_scale(mean: Sequence[float], std: Sequence[float], dtype: str = "float64") -> tuple[list[float], list[float]]:
    """The scale of an output. ValueError: a mean is not finite in this dtype, or a standard deviation is not finite and above 0."""
    least, most, where = (0.0, sys.float_info.max, "") if dtype == "float64" else (_FLOAT32_MIN, _FLOAT32_MAX, " in float32")
    for j, (m, s) in enumerate(zip(mean, std)):
        if not abs(m) <= most:
            raise ValueError(f"mean of column {j} is {number_text(m)}, but must be finite{where}")
        if not (s > 0 and least <= s <= most):
            raise ValueError(f"std of column {j} is {number_text(s)}, but must be finite and above 0{where}")
    return list(map(float, mean)), list(map(float, std))


def _unknown_formula(kind: str, name: str) -> ValueError:
    if kind == "activation" and name in TABLES["output_activation"]:
        loss = next(loss for loss, entry in TABLES["loss"].items() if entry.detail == name)
        return ValueError(
            f"{name} is an output activation, not a layer activation: keep the layer linear and use the loss {loss}, which includes it, "
            f'or write "output N activation={name}"'
        )
    return unknown(f"unknown {kind.replace('_', ' ')}", name, list(TABLES[kind]))


def kind_of(optimizer: str) -> str:
    """The kind of formula that an optimizer's spec names."""
    return "solver" if optimizer.partition("(")[0].strip(BLANKS) in TABLES["solver"] else "optimizer"


def accepted_parameters(kind: str, name: str) -> str:
    """The parameter text of a formula, with the parameter that all formulas of its kind have."""
    text = TABLES[kind][name].parameters
    every = {"optimizer": EVERY_OPTIMIZER, "loss": EVERY_LOSS}.get(kind, "")
    return f"{text} {every}".strip()


# ---- words of graph text ----


def exactly(arguments: tuple[str, ...], count: int) -> tuple[str, ...]:
    """The arguments of a statement, with "" for each that is missing. More than `count` are an error."""
    if len(arguments) > count:
        raise ValueError(f'unexpected "{arguments[count]}" at the end of the line')
    return arguments + ("",) * (count - len(arguments))


def read_settings(words: Sequence[str], known: tuple[str, ...]) -> dict[str, str]:
    """Reads key=value words. known: keys whose value is text, and parameters (key=default[low,high)) whose value is a number."""
    numbers = {key: "=" in text for key, text in ((text.partition("=")[0], text) for text in known)}
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in numbers:
            raise unknown("unknown setting", key, known)
        if not equals or not (value or numbers[key]):
            raise ValueError(f"{key} needs a value: {key}=VALUE")
        if not numbers[key] and "(" in value and not value.endswith(")"):
            raise ValueError(f'"{value}" does not end with ")": add ")"')
        if key in found:
            raise ValueError(f"{key} is given twice")
        found[key] = value
    return found


def read_width(what: str, text: str) -> int:
    """The number of columns of a node."""
    if not INTEGER.fullmatch(text) or not 1 <= int(text) <= LARGEST:
        raise ValueError(f'{what} must be a whole number from 1 to {LARGEST}, not "{text}"')
    return int(text)


def read_flag(key: str, text: str) -> bool:
    """The value of a setting that is 0 or 1."""
    if text not in ("0", "1"):
        raise ValueError(f'{key} must be 0 or 1, not "{text}"')
    return text == "1"


def read_initializers(given: dict[str, str], activation: Spec) -> tuple[Spec, Spec]:
    """The initializers of weight and bias. "auto" is the one that suits the activation; for the bias, zeros if init is not "auto"."""
    init, bias_init = given.get("init", "auto"), given.get("bias_init", "auto")
    automatic = (activation.entry.init, activation.entry.bias_init) if init == "auto" else (init, "zeros")
    return (
        Spec.parse("initializer", automatic[0]),
        Spec.parse("initializer", automatic[1] if bias_init == "auto" else bias_init),
    )


def check_no_bias(name: str, given: dict[str, str]) -> None:
    """A layer without a bias must not have settings of it."""
    for key in ("bias_lr", "bias_init"):
        if given.get(key, "auto") != "auto":
            raise ValueError(f"layer {name} has no bias: remove {key}=, or set bias=1")
