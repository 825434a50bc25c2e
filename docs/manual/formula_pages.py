"""Tables of all formulas: activations, losses, optimizers, initializers, schedules, metrics, with parameters, defaults, sources."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import microbp as bp
from microbp.core.specs import table
from microbp.settings import metrics, schedules

from .text import cell, inline

# Title, name of the table of formulas, what its letters mean, its classes in Python.
_TABLES = (
    ("Activations", "activation", "z is the value before the activation. Derivatives at a kink are those of PyTorch.", "`bp.Activation`"),
    (
        "Losses",
        "loss",
        "o is a raw output, t its target, d = o - t; mean and sum are over the outputs of a row. Every loss also has `missing`.",
        "`bp.Loss`",
    ),
    ("Output activations", "output_activation", "o is a raw output. A loss implies one.", "`net.set_output`"),
    (
        "Optimizers",
        "optimizer",
        "p is a parameter, g its gradient, t the number of the step, from 1. Every optimizer also has `decay_bias`. State starts at 0, or "
        'at the parameter after "=".',
        "the classes of `bp.Optimizer`",
    ),
    (
        "Solvers",
        "solver",
        "Optimizers that use the loss of the same rows several times in a step.",
        "`bp.LBFGS`, `bp.SCG`, `bp.LevenbergMarquardt`, `bp.BayesianRegularization`",
    ),
    ("Initializers", "initializer", "in and out are the numbers of a layer's inputs and outputs.", "`bp.Init`"),
)
# What the last column of a table has.
_DETAIL = {"activation": ["z from -3 to 3"], "loss": ["output activation"], "optimizer": ["state"], "solver": ["numbers"]}
_IN_EVERY_ROW = {"missing", "decay_bias"}


def pages() -> Iterator[tuple[str, str]]:
    """(file, Markdown) of the page."""
    text = "The names are those of SPEC texts, such as `adam(lr=0.01)`, in Python, in C and on the command line."
    parts = ["# Tables of all formulas", text]
    for title, kind, letters, classes in _TABLES:
        head = ["name", "parameters: default, range", "formula", "source", *_DETAIL.get(kind, [])]
        parts += [f"## {title}", f"{letters} In Python: {classes}.", _rows(head, _formulas(kind))]
    head = ["name", "parameters: default", "rate", "an example"]
    parts += ["## Schedules", "t is the number of updates so far. In Python: the classes of `bp.Schedule`.", _rows(head, _schedules())]
    parts += ["## Metrics", "For `metrics=` of `t.fit`, by name; `top_K` for any K.", _rows(["name", "what"], _metrics())]
    yield "formulas", "\n\n".join(parts) + "\n"


def _rows(head: list[str], rows: Iterator[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _formulas(kind: str) -> Iterator[list[str]]:
    for name, row in table(kind).items():
        formula, _, source = row.meaning.partition("; ")
        while source and not re.search(r"\d{4}", source.partition("; ")[0]):  # a part of the formula
            more, _, source = source.partition("; ")
            formula += f"; {more}"
        own = [f"`{key}={valid.default:g}` {inline(valid.text)}" for key, valid in row.parameters.items() if key not in _IN_EVERY_ROW]
        detail = [_curve(name, _activation(name))] if kind == "activation" else [cell(row.detail)] if kind in _DETAIL else []
        yield [cell(name), "<br>".join(own), inline(formula), inline(source), *detail]


def _schedules() -> Iterator[list[str]]:
    for name, schedule in schedules.NAMED.items():
        if schedule.__name__ in bp.__all__:
            own = [
                f"`{each.name}`" if each.default is each.empty else f"`{each.name}={each.default}`"
                for each in inspect.signature(schedule).parameters.values()
            ]
            first = (inspect.getdoc(schedule) or "").split("\n\n")[0].replace("\n", " ")
            example = _curve(name, _rates(schedule)) if schedule is not bp.ReduceOnPlateau else ""  # it depends on the losses
            yield [f"{cell(name)}<br>`bp.{schedule.__name__}`", "<br>".join(own), inline(first), example]


def _metrics() -> Iterator[list[str]]:
    functions = {name: named.function for name, named in metrics.NAMED.items()} | {"top_K": bp.top_k}
    for name, function in functions.items():
        first = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
        yield [f"`bp.{name}`" if name in bp.__all__ else "`bp.top_k`", inline(first)]


# ---- curves ----

# Settings of the schedules that are drawn over 100 updates.
_SETTINGS = {"lr": 1.0, "steps": 100, "step_size": 25, "milestones": (30, 70), "decay": 0.03, "k": 0.05, "period": 30}


def _activation(name: str) -> np.ndarray[Any, Any]:
    x = bp.Input(1)
    return bp.Network(x, bp.Activation(name)(x), dtype="float64").predict(np.linspace(-3, 3, 61).reshape(-1, 1)).ravel()


def _rates(schedule: Any) -> list[float]:
    own = {name: value for name, value in _SETTINGS.items() if name in inspect.signature(schedule).parameters}
    made = bp.Warmup(bp.Cosine(lr=1.0, steps=90), steps=10) if schedule is bp.Warmup else schedule(**own)
    return [made(t) for t in range(101)]


def _curve(name: str, values: Sequence[float] | np.ndarray[Any, Any]) -> str:
    """The values from left to right as a drawing of 96 x 40, with the line of 0."""
    low, high = min(0.0, *values), max(0.0, *values)
    places = [36 - 32 * (value - low) / (high - low) for value in (0.0, *values)]
    points = " ".join(f"{92 * i / (len(values) - 1) + 2:.1f},{y:.1f}" for i, y in enumerate(places[1:]))
    axis = f'<line x1="2" x2="94" y1="{places[0]:.1f}" y2="{places[0]:.1f}" />'
    return f'<svg class="curve" role="img" viewBox="0 0 96 40"><title>{name}: its curve</title>{axis}<polyline points="{points}" /></svg>'
