"""The page of `microbp train --report`: a run on a table."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from typing import Any

from ..core.text import counted
from ..data.arrays import Array
from ..network.network import Network
from ..settings import optimizers
from ..tables import quality
from ..tables.cautions import cautions
from ..tables.fitted import report
from ..tables.fitted.importance import Importance, importance
from ..tables.fitted.runs import TableRun
from ..tables.parts import inputs
from ..tables.predictor import Predictor
from ..tables.readers.errors import Argument
from ..tables.scores import Scores
from . import markup, pictures
from .findings import findings

_LISTED = 40  # columns
_CLASSES = 30  # of more classes, only the most frequent mistakes are shown


def page(run: TableRun, scores: Scores, found: Predictor, command: str, out: Any, spell: Callable[[Argument], str]) -> str:
    """The page. found: what predicts. command: the command line. out: the file of the network, or None. spell: how to write arguments."""
    data, known = run.data, report.facts(run, scores, spell)
    remarks = [remark.text(spell) for remark in quality.remarks(data, run.trained[0].history, report.longer(run))]
    stopped = [] if run.is_done else [f"The training was stopped in {run.place}."]
    sections = [
        markup.section("What was trained", markup.facts("Training", dict(_facts(run, known))), markup.code("Command", command)),
        markup.section(
            "Result",
            *(markup.text(line, "bad") for line in [*stopped, *(f"Warning: {caution.text(spell)}" for caution in cautions(data))]),
            _metrics(scores),
            *map(markup.text, [*quality.baseline(scores), *remarks]),
        ),
        markup.section("Learning curves", markup.text(_OF_FIRST * (len(run.trained) > 1)), pictures.curves(run.trained[0].history)),
        markup.section("What the doctor says", _findings(run)),
        markup.section("Predictions for the test rows", *_predictions(run, scores)),
        markup.section("Columns", *_columns(run)),
        markup.section("Importance of columns", _importance(run, found)),
        markup.section("Network", markup.code("Network", report.networks(found.net))),
        markup.section("Load and predict", *_how_to(run, out)),
    ]
    return markup.page(f"Training report: {report.title(run)}", sections)


_OF_FIRST = "Of the first network, whose best epoch the validation rows choose."


def _facts(run: TableRun, known: dict[str, Any]) -> Iterator[tuple[str, str]]:
    data, choices = run.data, run.choices
    yield "data", data.where
    yield "task", report.columns(data.preparation)
    yield "network", f"{known['net']}, {run.settings.activation.text}, {known['parameters']:,} parameters"
    yield "networks", f"the mean of {known['networks']}" if known["networks"] > 1 else "1"
    if run.linear is not None:
        yield "linear model", f"{100 * run.linear.share:.0f} % of the vote"
    yield "loss", data.loss.text
    yield "optimizer", report.rounded(optimizers.parse(run.trainer.optimizer))
    yield "rows in an update", f"{choices.batch}"
    if choices.dropout:
        yield "dropout", f"{choices.dropout:g}"
    yield "epochs", f"{known['epochs']} (best: {', '.join(map(str, known['best_epochs']))})"
    yield "seconds", f"{known['seconds']:.2f}"
    yield "seed", f"{run.settings.seed}"


def _metrics(scores: Scores) -> str:
    """The metrics of each part, and the intervals of the test."""
    parts = [part for part in ("test", "validation", "train") if scores.rows.get(part)]
    has_test, names = parts[0] == "test", [name for name in scores.parts[parts[0]] if name != "log_loss"]  # it is the loss
    head = [*parts]
    rows: list[list[str]] = [["rows", *(f"{scores.rows[part]:,}" for part in parts)]]
    rows += [[name, *(markup.number(scores.parts[part].get(name), name) for part in parts)] for name in names]
    if has_test:
        head.insert(1, "95 % interval")
        for row, name in zip(rows, ["rows", *names], strict=True):
            row.insert(2, markup.interval(scores.intervals.get(name), name))
    head.insert(0, "metric")
    return markup.numbers("Loss and metrics", head, rows)


def _findings(run: TableRun) -> str:
    """Of the last network on training rows: of many, the first piece of a file that is read in pieces."""
    rows, preparation, net = next(run.data.pieces("train")), run.data.preparation, run.trainer.net
    names = [name for name, columns in preparation.blocks for _ in range(columns.start, columns.stop)]
    return findings(run.trainer, inputs(net, rows.x), rows.y, names, sample_weight=rows.weight)


def _predictions(run: TableRun, scores: Scores) -> Iterator[str]:
    if not scores.rows["test"]:
        return
    if scores.confusion is None:
        yield pictures.residuals("", scores.true, scores.predicted)
        return
    names = run.data.preparation.target.classes
    yield pictures.confusion("", scores.confusion, names)
    if len(names) <= _CLASSES:
        rows = []
        for name, one in zip(names, scores.classes, strict=True):
            recall = markup.number(one.recall, "accuracy"), markup.interval(one.recall_interval, "accuracy")
            rows.append((name, f"{one.rows:,}", *recall, markup.number(one.f1), markup.interval(one.f1_interval)))
        yield markup.numbers("Each class", ("class", "rows", "recall", "95 % interval", "f1", "95 % interval"), rows)


def _columns(run: TableRun) -> Iterator[str]:
    preparation = run.data.preparation
    if run.data.where != "digits":
        yield markup.items([*run.assumptions, *preparation.gaps])
    features = {feature.name: report.described_feature(feature) for feature in preparation.features[:_LISTED]}
    yield markup.facts("Columns that the network uses", features) if features else ""
    more = len(preparation.features) - len(features)
    yield markup.text(f"And {counted(more, 'more column')}." * (more > 0))
    yield markup.facts("Columns that are left out", preparation.left_out) if preparation.left_out else ""


def _importance(run: TableRun, found: Predictor) -> str:
    """Of the test rows; without any, of validation rows."""
    preparation, parts = run.data.preparation, run.data.parts
    pieces = (piece for part in ("test", "validation") for piece in parts[part]() if len(piece.x))
    if preparation.sparse or (rows := next(pieces, None)) is None:
        return ""

    def measured(index: Array, repeats: int) -> Importance | None:
        sample = rows.take(index)
        return importance(found, preparation, sample, repeats, 0) if sample.weights.any() else None

    nets = [found.net] if isinstance(found.net, Network) else found.net
    return pictures.importance(len(rows.x), len(preparation.features), sum(len(net.params) for net in nets), measured)


def _how_to(run: TableRun, out: Any) -> tuple[str, ...]:
    if out is None:
        return (markup.text("The network is not saved; train with --out net.safetensors to save it."),)
    where = run.data.where
    name = os.path.basename(out)
    lines = ["import microbp as bp", "", f"model = bp.load_table({name!r})"]
    lines += [f"print(model.predict({where!r}))  # a file or a data frame with these columns"]
    return (
        markup.text(f"In the folder of {name}, in a shell and in Python:"),
        markup.code("In a shell", f"microbp predict {shlex.quote(name)} {shlex.quote(where)}"),
        markup.code("In Python", "\n".join(lines)),
    )
