"""The report of `microbp train`, as JSON and as text."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...core.specs import OptimizerSpec
from ...core.text import counted, printable
from ...settings import optimizers
from .. import quality
from ..cautions import cautions
from ..model import epochs_done
from ..preparation import Preparation
from ..readers.errors import Argument
from ..scores import Scores
from .runs import TableRun


def facts(run: TableRun, scores: Scores, spell: Callable[[Argument], str] = str) -> dict[str, Any]:
    """The object that --json prints. spell: how to write arguments in warnings."""
    trainer = run.trainer
    seconds = sum(trainer.history.get("seconds", []))
    kind = "classification" if run.data.preparation.target.classes else "regression"
    return {
        "task": run.data.where if run.data.where == "digits" else kind,
        "net": _net(run),
        "parameters": len(trainer.net.params),
        "epochs": epochs_done(trainer),
        "seconds": seconds,
        "rows_per_second": epochs_done(trainer) * run.data.training / seconds if seconds else 0.0,
        **quality.facts(scores, run.data.preparation.target),
        "warnings": [caution.text(spell) for caution in cautions(run.data)],
    }


def title(run: TableRun) -> str:
    """The title of the report: the data and the network, such as "digits, 64-128-10 relu"."""
    return f"{printable(run.data.where.rpartition('/')[2])}, {_net(run)} {run.settings.activation.text}"


def _net(run: TableRun) -> str:
    return "-".join(map(str, [run.data.preparation.width, *(layer.units for layer in run.trainer.net.layers)]))


def text(
    run: TableRun, scores: Scores, written: Sequence[str] = (), taken: str | None = None, spell: Callable[[Argument], str] = str
) -> str:
    """The report as text. written: the names of the written files, starting with the network's. taken: an existing file that would have had
    this name. spell: as in `facts`.
    """
    data, trainer, known = run.data, run.trainer, facts(run, scores, spell)
    is_digits = data.where == "digits"
    best = int(np.argmin(trainer.history["val_loss"])) + 1
    optimizer = rounded(optimizers.parse(trainer.optimizer))
    lines = [
        f"{title(run)}: {known['parameters']:,} parameters, {data.loss.text}, {optimizer}, batch {run.batch}, seed {run.settings.seed}",
        *([] if is_digits else [columns(data.preparation)]),
        *map(printable, (*run.assumptions, *data.preparation.gaps)),
        *(f"ignored column {printable(name)}: {printable(why)}" for name, why in data.preparation.left_out.items()),
        *quality.lines(scores, data.preparation.target),
        f"{counted(known['epochs'], 'epoch')} (best: {best}) in {known['seconds']:.2f} s, {known['rows_per_second']:,.0f} rows per second",
        *(remark.text(spell) for remark in quality.remarks(data, trainer.history)),
        *(f"warning: {printable(warning)}" for warning in known["warnings"]),
    ]
    if written:
        lines.append(f"wrote {' and '.join(map(printable, written))}{f', because {printable(taken)} exists' if taken else ''}")
    if written and written[0].endswith(".safetensors"):
        lines.append(f"to predict: microbp predict {printable(shlex.quote(written[0]))} {'digits' if is_digits else 'DATA'}")
    return "\n".join(lines)


def rounded(optimizer: OptimizerSpec) -> str:
    """An optimizer as text, with rounded numbers."""
    inside = ",".join(f"{key}={value:.3g}" for key, value in optimizer.parameters.items())
    return f"{optimizer.name}({inside})" if inside else optimizer.name


def columns(preparation: Preparation) -> str:
    """What is predicted, and from how many columns."""
    target = preparation.target
    what = f"one of {len(target.classes)} classes" if target.classes else "a number"
    columns, features = counted(len(preparation.features), "column"), counted(preparation.width, "feature")
    return f"predicts {printable(target.name)}, {what}, from {columns} ({features})"


def metrics(found: dict[str, Any]) -> str:
    """The metrics of `model.evaluate` as text, one in a line."""
    lines = [f"{'rows':20}{found['rows']:>10,}"]
    if found["without_target"]:
        lines.append(f"left out: {counted(found['without_target'], 'row')} without a target")
    values = {key: value for key, value in found.items() if key not in ("rows", "without_target")}
    return "\n".join([*lines, *(f"{key:20}{quality.cell(key, value)}" for key, value in values.items())])
