"""An explanation as text of at most 100 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from heapq import nlargest

from .units import Group, Row, Unit, weight_name

_NAME, _WIDTH = 26, 100  # columns: of names, in all
_TERMS = 4  # of a sum that are shown
_WEIGHTS, _LARGEST = 60, 12  # up to 60 weights all are listed; of more the 12 largest
_COPIES = ("concat", "slice", "dropout", "noise", "grid", "repeat", "window", "last")
_BY = "local derivative * gradient, added up over all ways"


def short(value: float) -> str:
    """A number in at most 7 letters: 0.20, -12.3, 1.2e-5."""
    size = abs(value)
    if not math.isfinite(value) or value == 0:
        return f"{value:.0f}" if value else "0"
    if 0.00995 <= size < 9999.5:
        return f"{value:.{3 if size < 0.0995 else 2 if size < 9.995 else 1 if size < 99.95 else 0}f}"
    digits, exponent = f"{value:.{0 if size < 1e-99 or size > 1e99 else 1}e}".split("e")
    return f"{digits}e{int(exponent)}"


def cut(text: str, most: int) -> str:
    """The text, or its begin and its end."""
    return text if len(text) <= most else f"{text[: most // 2 - 2]} .. {text[len(text) - most // 2 + 2 :]}"


def _total(terms: Sequence[tuple[str, float]], rest: float | None = None, room: int = _WIDTH - _NAME - 12) -> str:
    """A sum: the largest terms in their order, as many as have room, and the sum of the others. rest: of terms that are not known."""
    text = ""
    for most in range(_TERMS, 0, -1):
        chosen = sorted(sorted(range(len(terms)), key=lambda i: -abs(terms[i][1]))[:most])
        left = [term for i, (_, term) in enumerate(terms) if i not in chosen]
        others = [f"{short(sum(left, rest or 0.0))} from {len(left) if rest is None else 'the'} others"] if left or rest is not None else []
        text = " + ".join([*(terms[i][0] for i in chosen), *others])
        if len(text) <= room:
            break
    return text


def _products(row: Row, uses: Sequence[tuple[int, float]], of: str) -> list[tuple[str, float]]:
    """Each local derivative times the value or the gradient of its unit."""
    pairs = [(local, getattr(row.units[u], of)) for u, local in uses]
    return [(f"{short(local)} * {short(other)}", local * other) for local, other in pairs]


def forward(row: Row, unit: Unit) -> str:
    """How the number is computed."""
    group, values = row.groups[unit.group], [short(row.units[u].value) for u, _ in unit.terms]
    if not group.operands:
        return "input"
    if not values:
        ids = ", ".join(short(value) for value in row.groups[group.operands[0]].values[:_TERMS])
        return f"rows of the table for {ids}" if group.kind == "embedding" else f"{group.kind} of numbers that are not shown"
    if group.kind == "dense":
        terms = _products(row, unit.terms, "value")
        if row.is_whole:
            return _total(terms + [(short(weight.value), weight.value) for weight in unit.of("bias")])
        return _total(terms, unit.value - sum(term for _, term in terms))
    sign = {"add": " + ", "subtract": " - ", "multiply": " * "}.get(group.kind)
    if sign and 1 < len(values) <= _TERMS:
        return sign.join(values)
    if group.kind in _COPIES and len(values) == 1:
        return f"the same as {row.units[unit.terms[0][0]].name}"
    inside = ", ".join(values[:_TERMS]) + ", .." * (len(values) > _TERMS)
    return (
        f"{group.detail}({inside})" if group.kind == "activation" else f"{group.detail if group.kind == 'loss' else group.kind} of {inside}"
    )


def backward(row: Row, unit: Unit) -> str:
    """How its gradient is computed."""
    terms = _products(row, unit.uses, "grad")
    terms = [(f"{short(unit.start)}, where it starts", unit.start)] * bool(unit.start) + [one for one in terms if row.is_whole or one[1]]
    rest = unit.grad - sum(term for _, term in terms)
    if row.is_whole or abs(rest) <= 1e-6 * abs(unit.grad):
        return _total(terms) or "nothing that is differentiated depends on it"
    return _total(terms, rest)


def table(row: Row, head: Sequence[str]) -> str:
    """All sections."""
    lines = [*(cut(line, _WIDTH) for line in head), "", _line("forward", "value", "computed as")]
    for group in row.groups:
        lines += [_line(unit.name, short(unit.value), forward(row, unit)) for unit in row.units_of(group)]
        lines += _others(group)
    lines += ["", _line("backward", "gradient", _BY)]
    for group in reversed(row.groups):
        lines += [_line(unit.name, short(unit.grad), backward(row, unit)) for unit in row.units_of(group)]
    return "\n".join([*lines, *_weights(row)])


def _line(name: str, number: str, text: str) -> str:
    return f"{cut(name, _NAME):{_NAME}}{number:>9}   {cut(text, _WIDTH - _NAME - 12)}"


def _others(group: Group) -> list[str]:
    """What the numbers are that are not shown."""
    count = len(group.grads)
    if count == len(group.units):
        return []
    size, norm = math.hypot(*group.values) / count**0.5, math.hypot(*group.grads)
    return [_line(f"  {count - len(group.units):,} more", "", f"root mean square of all {short(size)}, norm of the gradient {short(norm)}")]


def _weights(row: Row) -> Iterator[str]:
    each, uses = list(row.each_weight()), row.uses_of_weights()
    if 0 < len(each) <= _WEIGHTS:
        yield from ["", f"{'weights':{_NAME}}{'value':>9}{'gradient':>11}   {_BY}"]
        for tensor, place, value, by in each:
            name = weight_name(tensor, place)
            text = _total(_products(row, uses.get(name, []), "grad"), None, _WIDTH - _NAME - 23) if row.is_whole else ""
            yield f"{cut(name, _NAME):{_NAME}}{short(value):>9}{short(by):>11}   {text}".rstrip()
        return
    for title, size in (("largest gradients", lambda w: abs(w[3])), ("largest contributions", lambda w: abs(w[2] * w[3]))):
        yield from ["", f"{title:{_NAME}}{'value':>9}{'gradient':>11}   value * gradient"] if each else []
        for tensor, place, value, by in nlargest(_LARGEST, each, key=size):
            yield f"{cut(weight_name(tensor, place), _NAME):{_NAME}}{short(value):>9}{short(by):>11}{short(value * by):>19}"
