"""An explanation as HTML: the drawing, its steps in words, and a small script that goes through them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from . import text
from .picture import TIMES
from .units import Row

_SCRIPT = Path(__file__).with_name("page.js").read_text("utf-8")


def figure(row: Row, svg: str, head: Sequence[str]) -> str:
    """The drawing with its steps. Several of them in one page do not disturb each other: the script starts each once."""
    words, backward = _steps(row)
    items = "\n".join(f"<li>{escape(one)}</li>" for one in words)
    last = len(words) - 1
    return (
        f'<div class="bp-explain" tabindex="0" role="group" aria-label="One row forward and backward" data-back="{backward}">'
        f'<p>{escape(" ".join(head))}</p><p class="bar" hidden><button type="button" value="-1">Back</button> '
        f'<button type="button" value="1">Next</button> <input type="range" min="0" max="{last}" value="{last}" aria-label="Step"></p>'
        f'<ol aria-live="polite">\n{items}\n</ol><div class="wide">{svg}</div><script>{_SCRIPT}</script></div>'
    )


def whole(figure: str, table: str) -> str:
    """A page with the drawing and the table."""
    title = "One row, forward and backward"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>body{{color:#222;background:#fff;font-family:Arial,Helvetica,sans-serif}}"
        f"pre{{overflow-x:auto}}</style></head>\n<body><main><h1>{title}</h1>\n"
        f'{figure}\n<h2>As text</h2>\n<pre tabindex="0">{escape(table)}</pre></main></body></html>\n'
    )


def _steps(row: Row) -> tuple[list[str], int]:
    """What happens at each step, in words, and the first step backward. The last step shows everything."""
    each = row.steps()
    words: list[list[str]] = [[] for _ in range(max(back for _, back in each) + 2)]
    words[0], words[-1] = ["Start: the inputs and the weights."], ["All values and gradients. Next goes to the start."]
    for unit, (step, _) in zip(row.units, each, strict=True):
        words[step] += [f"Forward: {unit.name} = {text.forward(row, unit)} = {text.short(unit.value)}."] * bool(step)
    for unit, (_, step) in reversed(list(zip(row.units, each, strict=True))):
        said = f"Backward: the gradient of {unit.name} = {text.backward(row, unit)} = {text.short(unit.grad)}."
        weights = [f"{one.name} {text.short(one.local)} * {text.short(unit.grad)}" for one in unit.weights[:4]]
        words[step].append(said + (f" Weights: {', '.join(weights)}{', ..' * (len(unit.weights) > 4)}." if weights else ""))
    return [" ".join(said).replace("*", TIMES) for said in words], max(step for step, _ in each) + 1
