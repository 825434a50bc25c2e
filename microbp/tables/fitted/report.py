"""The report of `microbp train`, as JSON and as text."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

from ...core.specs import OptimizerSpec
from ...core.text import counted, printable
from ...many.ensemble import Ensemble
from ...network.network import Network
from ...settings import optimizers
from .. import quality
from ..cautions import cautions
from ..encodings.date import Date
from ..encodings.number import Number
from ..encodings.sparse_columns import described
from ..encodings.target import Target
from ..preparation import Feature, Preparation
from ..readers.errors import Argument
from ..scores import Scores
from .runs import TableRun


def facts(run: TableRun, scores: Scores, spell: Callable[[Argument], str] = str) -> dict[str, Any]:
    """The object that --json prints. spell: how to write arguments in warnings."""
    trained = run.trained
    seconds = sum(one.seconds for one in trained)
    kind = "classification" if run.data.preparation.target.classes else "regression"
    return {
        "task": run.data.where if run.data.where == "digits" else kind,
        "net": _net(run),
        "networks": len(run.nets),
        "linear_share": run.linear.share if run.linear else 0.0,
        "parameters": len(run.trainer.net.params),
        "epochs": trained[0].epochs,
        "best_epochs": [one.best for one in trained[::2]],
        "seconds": seconds,
        "rows_per_second": sum(one.epochs * one.rows for one in trained) / seconds if seconds else 0.0,
        **quality.facts(scores, run.data.preparation.target),
        "warnings": [caution.text(spell) for caution in cautions(run.data)],
    }


def title(run: TableRun) -> str:
    """The title of the report: the data and the network, such as "digits, 64-128-10 relu"."""
    return f"{printable(run.data.where.rpartition('/')[2])}, {_net(run)} {run.settings.activation.text}"


def _net(run: TableRun) -> str:
    dense = [layer.units for layer in run.trainer.net.layers if layer.kind == "dense"]
    return "-".join(map(str, [run.data.preparation.width, *dense]))


def text(
    run: TableRun, scores: Scores, written: Sequence[str] = (), taken: str | None = None, spell: Callable[[Argument], str] = str
) -> str:
    """The report as text. written: the names of the written files, starting with the network's. taken: an existing file that would have had
    this name. spell: as in `facts`.
    """
    data, trainer, known = run.data, run.trainer, facts(run, scores, spell)
    is_digits = data.where == "digits"
    optimizer = rounded(optimizers.parse(trainer.optimizer))
    several = f"{counted(known['networks'], 'network')} of " if known["networks"] > 1 else ""
    dropout = f"dropout {run.choices.dropout:g}, " if run.choices.dropout else ""
    seconds, speed = known["seconds"], known["rows_per_second"]
    lines = [
        f"{title(run)}: {several}{known['parameters']:,} parameters, {data.loss.text}, {optimizer}, {dropout}batch "
        f"{run.choices.batch}, seed {run.settings.seed}",
        *([] if is_digits else [columns(data.preparation)]),
        *map(printable, (*run.assumptions, *data.preparation.gaps)),
        *(f"ignored column {printable(name)}: {printable(why)}" for name, why in data.preparation.left_out.items()),
        *quality.lines(scores, data.preparation.target),
        *([] if run.linear is None else [f"a linear model has {_percent(run.linear.share)} of the vote"]),
        f"{counted(known['epochs'], 'epoch')} (best: {', '.join(map(str, known['best_epochs']))}) in {seconds:.2f} s, "
        f"{speed:,.0f} rows per second",
        *(remark.text(spell) for remark in quality.remarks(data, run.trained[0].history, longer(run))),
        *(f"warning: {printable(warning)}" for warning in known["warnings"]),
        *([] if run.is_done else [f"the training was stopped in {run.place}"]),
    ]
    if written:
        lines.append(f"wrote {' and '.join(map(printable, written))}{f', because {printable(taken)} exists' if taken else ''}")
    if written and written[0].endswith(".safetensors"):
        lines.append(f"to predict: microbp predict {printable(shlex.quote(written[0]))} {'digits' if is_digits else 'DATA'}")
    return "\n".join(lines)


def longer(run: TableRun) -> Argument:
    """The argument for more epochs."""
    is_chosen = run.settings.epochs is None and run.settings.budget != "best"
    return Argument("budget", "best") if is_chosen else Argument("epochs", 2 * run.choices.epochs)


def rounded(optimizer: OptimizerSpec) -> str:
    """An optimizer as text, with rounded numbers."""
    inside = ",".join(f"{key}={value:.3g}" for key, value in optimizer.parameters.items())
    return f"{optimizer.name}({inside})" if inside else optimizer.name


def columns(preparation: Preparation) -> str:
    """What is predicted, and from how many columns."""
    target = preparation.target
    what = f"one of {len(target.classes)} classes" if target.classes else "a number" + ", learnt as its logarithm" * target.log
    if preparation.sparse:
        return f"predicts {printable(target.name)}, {what}, from {described(preparation.sparse)}"
    columns, features = counted(len(preparation.features), "column"), counted(preparation.width, "feature")
    embedded = f", {len(preparation.embedded)} with an embedding" if preparation.embedded else ""
    return f"predicts {printable(target.name)}, {what}, from {columns} ({features}{embedded})"


def networks(net: Network | Ensemble) -> str:
    """The layers of a network; of an ensemble, those of its first network, because the others have the same, but for a linear model."""
    if isinstance(net, Network):
        return repr(net)
    if net.weights is None:
        return f"the mean of {counted(len(net), 'network')}, each like the first:\n{net[0]!r}"
    share = _percent(net.weights[-1] / sum(net.weights))
    return f"the mean of {counted(len(net) - 1, 'network')}, each like the first, and a linear model with {share} of the vote:\n{net[0]!r}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def metrics(found: dict[str, Any]) -> str:
    """The metrics of `model.evaluate` as text, one in a line."""
    lines = [f"{'rows':20}{found['rows']:>10,}"]
    if found["without_target"]:
        lines.append(f"left out: {counted(found['without_target'], 'row')} without a target")
    values = {key: value for key, value in found.items() if key not in ("rows", "without_target")}
    return "\n".join([*lines, *(f"{key:20}{quality.cell(key, value)}" for key, value in values.items())])


def described_feature(feature: Feature) -> str:
    """What the cells of a column are, and how the network gets them."""
    if isinstance(feature, Date):
        return f"a time{', or missing' * feature.missing}, used as {', '.join((*feature.linear, *feature.periodic))}"
    if isinstance(feature, Number):
        bins = f", {feature.bins} bins" if feature.bins else ""
        return f"a number{', or missing' * feature.missing}{scaling('x', feature)}{', clipped' * feature.clip}{bins}"
    if feature.embedded:
        return f"one of {counted(len(feature.levels), 'value')} or another one, an embedding of {counted(feature.embedded, 'number')}"
    values = [(repr(value) if "," in value else printable(value)) or "missing" for value in feature.levels]
    others = ["another value" + (f" in {feature.shared} features" if feature.shared > 1 else "")] if feature.shared else []
    return ", or ".join([*([f"one of {', '.join(values)}"] if values else []), *others])


def scaling(variable: str, column: Number | Target) -> str:
    """How a number is scaled, after a comma; "" if it is not."""
    if isinstance(column, Target) and column.log:
        variable = f"log {variable}"
    if (column.centre, column.scale) == (0, 1):
        return ""
    shift = variable if not column.centre else f"({variable} {'-' if column.centre > 0 else '+'} {abs(column.centre):.6g})"
    return f", scaled to {shift} / {column.scale:.6g}"
