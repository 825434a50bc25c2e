"""`bp.report` and its result."""

from __future__ import annotations

import contextlib
import math
import os
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..core.whole_file import replacing
from ..data.arrays import Array
from ..explaining.explanation import explain
from ..tables.fitted.importance import Importance, permuted
from ..training import measure
from ..training.trainer import Trainer
from . import markup, pictures
from .findings import findings
from .measured import Measured, of_number

_ROWS = 20_000  # of more, this many, evenly spaced, are measured
_DRAWN = 40  # numbers of a net whose graph is drawn
_PICTURES = 4  # columns of a target that are drawn


class Report:
    """A report as an HTML page. html: the page. In a notebook it is shown in a frame.

    >>> t = bp.Trainer(bp.mlp([1, 1], seed=0), loss="mse")
    >>> bp.report(t, [[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0]).html[:15]
    '<!DOCTYPE html>'
    """

    def __init__(self, html: str) -> None:
        self.html = html

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the page to a file, completely or not at all. ValueError: its name does not end in .html or .htm. OSError: it cannot be
        written; an existing file stays as it was.

        >>> t = bp.Trainer(bp.mlp([1, 1], seed=0), loss="mse")
        >>> bp.report(t, [[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0]).save("run.html")
        """
        with _new_page(path) as temporary:
            temporary.write_text(self.html, "utf-8", newline="\n")

    def __repr__(self) -> str:
        return f"<Report of {len(self.html):,} characters; save it to a file, such as run.html>"

    def _repr_html_(self) -> str:
        return f'<iframe title="Report" style="width:100%;height:40rem;border:0" srcdoc="{escape(self.html)}"></iframe>'


def report(
    trainer: Trainer,
    X: Any,  # noqa: N803
    y: Any = None,
    path: str | os.PathLike[str] | None = None,
    *,
    sample_weight: Any = None,
    lengths: Any = None,
) -> Report:
    """Describes a training as one HTML page, which needs no network: what was trained, how good it is on these rows, with 95 % intervals,
    the learning curves, the predictions, which columns matter, and code to load and predict.

    X, y, sample_weight, lengths: rows as in `t.evaluate`; rows that were not trained on, else the result is too good. Of more than 20,000
    rows, that many are measured, evenly spaced; the page says so. path: an .html file to write the page to, completely or not at all.
    The columns have the names of a data frame, else numbers. Importance (Breiman 2001) is measured for a single input of at most 256
    numbers. Intervals: Wilson 1927; the jackknife, Shao & Tu 1995; not for outputs of positions. Nothing in the trainer changes.

    For tables, `microbp train --report run.html` also describes the columns. ValueError, TypeError: the rows do not fit, as in
    `t.evaluate`. ImportError: matplotlib is missing. OSError: the file cannot be written.

    >>> X = np.linspace(-1, 1, 60).reshape(-1, 1)
    >>> t = bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse")
    >>> _ = t.fit(X[::2], np.sin(X[::2]), epochs=5)
    >>> page = bp.report(t, X[1::2], np.sin(X[1::2]), "run.html")
    >>> f"{t.evaluate(X[1::2], np.sin(X[1::2])):.4g}" in page.html
    True
    """
    if not isinstance(trainer, Trainer):
        advice = "; for tables: microbp train DATA --report run.html" if hasattr(trainer, "preparation") else ""
        raise TypeError(f"report: trainer must be a bp.Trainer, not {type(trainer).__name__}{advice}")
    pictures.require_matplotlib()
    with contextlib.nullcontext() if path is None else _new_page(path) as file:
        page = Report(_page(trainer, X, y, sample_weight, lengths))
        if file is not None:
            file.write_text(page.html, "utf-8", newline="\n")
    return page


def _new_page(path: str | os.PathLike[str]) -> contextlib.AbstractContextManager[Path]:
    name = os.fspath(path)
    if Path(name).suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"report: the file name must end in .html or .htm, not {name!r}")
    return replacing(path)


def _page(trainer: Trainer, X: Any, y: Any, sample_weight: Any, lengths: Any) -> str:  # noqa: N803
    count = measure.count_rows(trainer, X, y, sample_weight, lengths)
    index = pictures.spaced(count, _ROWS) if count > _ROWS else None
    rows = {"sample_weight": sample_weight, "lengths": lengths, "index": index}
    losses = measure.measure(trainer, X, y, **rows)
    seen = measure.outputs_of(trainer, X, y, **rows)
    found = [of_number(seen, i, bool(output.grid)) for i, output in enumerate(trainer.net.outputs)]
    names = [output.name or str(i) for i, output in enumerate(trainer.net.outputs)] if len(found) > 1 else [""]
    outputs = {name: one for name, one in zip(names, found, strict=True) if one}
    known = measure.facts(trainer)
    of_all = f"{count:,} row{'s' * (count != 1)}"
    sections = [
        markup.section("What was trained", markup.facts("Training", known | _course(trainer))),
        markup.section(
            "Result",
            markup.text(f"Measured on {of_all if index is None else f'{_ROWS:,} of {of_all}, evenly spaced'}."),
            _result(losses, outputs),
        ),
        markup.section("Learning curves", pictures.curves(trainer.history)),
        markup.section("What the doctor says", findings(trainer, X, y, sample_weight=sample_weight, lengths=lengths)),
        markup.section("Predictions", *(_predictions(name, i, one) for i, (name, one) in enumerate(outputs.items()))),
        markup.section("Importance of columns", _importance(trainer, X, y, sample_weight, lengths) if np.isfinite(losses["loss"]) else ""),
        markup.section("Network", markup.code("Network", repr(trainer.net)), _one_row(trainer, X, y)),
        markup.section("Load and predict", *_how_to(trainer)),
    ]
    return markup.page(f"Training report: {known['net'].rpartition(',')[0]}", sections)


def _course(trainer: Trainer) -> dict[str, str]:
    """How the training went."""
    history, found = trainer.history, {}
    if history.get("seconds"):
        found["seconds"] = f"{np.nansum(history['seconds']):.3g}"
    if np.isfinite(history.get("val_loss", [])).any():
        found["best epoch"] = f"{int(np.nanargmin(history['val_loss'])) + 1}, by the lowest validation loss"
    return found | ({"stopped by": trainer.stop_reason} if trainer.stop_reason else {})


def _result(losses: dict[str, float], outputs: dict[str, Measured]) -> str:
    rows: dict[str, Any] = {name: (value, None) for name, value in losses.items()}
    for name, one in outputs.items():
        rows |= {f"{key}_{name}".rstrip("_"): both for key, both in one.metrics.items()}
    is_bad = not np.isfinite(losses["loss"])
    bad = "The loss is not finite: the training has diverged (try a lower learning rate), or X contains NaN."
    return markup.text(bad * is_bad, "bad") + markup.metrics("Loss and metrics", rows)


def _predictions(name: str, i: int, one: Measured) -> str:
    """The predictions of output i. name: "" if it is the only one."""
    head = f"<h3>Output {markup.safe(name)}</h3>\n" if name else ""
    if one.has_classes:
        return head + pictures.confusion(str(i), *one.confusion())
    true, predicted = one.seen.targets[0], one.seen.predictions[0]
    if "rmse" not in one.metrics:
        return ""
    true, level = true.reshape(len(predicted), -1), 4 if name else 3
    width = true.shape[1]  # gaussian_nll has more predictions: first the means, then the variances
    drawn = [
        f"<h{level}>Column {k}</h{level}>\n" * (width > 1) + pictures.residuals(f"{i}x{k}", true[:, k], predicted[:, k])
        for k in range(min(width, _PICTURES))
    ]
    return "".join([head, *drawn, markup.text(f"The other {width - _PICTURES} columns are not drawn." * (width > _PICTURES))])


def _importance(trainer: Trainer, X: Any, y: Any, sample_weight: Any, lengths: Any) -> str:  # noqa: N803
    net, first = trainer.net, trainer.net.inputs[0]
    if len(net.inputs) > 1 or len(first.row_shape) > 1 or first.levels or lengths is not None or y is None or hasattr(X, "indptr"):
        return ""
    names, x = [str(name) for name in getattr(X, "columns", ())], np.asarray(X)
    names = names if len(set(names)) == x.shape[1] else [f"column {i}" for i in range(x.shape[1])]
    places = {name: slice(i, i + 1) for i, name in enumerate(names)}

    def measured(rows: Array, repeats: int) -> Importance | None:
        weight = None if sample_weight is None else np.asarray(sample_weight)[rows]
        if weight is not None and not weight.any():
            return None
        target = _taken(y, rows, len(net.outputs))
        return permuted(lambda other: trainer.evaluate(other, target, weight), measure.facts(trainer)["loss"], x[rows], places, repeats)

    return pictures.importance(len(x), x.shape[1], len(net.params), measured)


def _one_row(trainer: Trainer, X: Any, y: Any) -> str:  # noqa: N803
    """The drawing of a small net with the first row; nothing if the row or the loss has no such drawing."""
    net = trainer.net
    if sum(math.prod(node.row_shape) for node in net.nodes) > _DRAWN or len(net.inputs) + len(net.outputs) > 2 or hasattr(X, "indptr"):
        return ""
    first = np.asarray(X)[:1]
    try:
        found = explain(trainer, first, np.asarray(y)[:1]) if y is not None else explain(net, first)
    except (TypeError, ValueError):  # a loss of the user's, or NaN in the row
        return ""
    head = f"The first row, forward (values above) and backward (gradients below). Differentiated: {found.differentiated}."
    return markup.text(head) + markup.drawing("The first row forward and backward", found.svg())


def _taken(y: Any, rows: Array, outputs: int) -> Any:
    """The targets of some rows."""
    if isinstance(y, dict):
        return {name: np.asarray(one)[rows] for name, one in y.items()}
    return np.asarray(y)[rows] if outputs == 1 else [None if one is None else np.asarray(one)[rows] for one in y]


def _how_to(trainer: Trainer) -> tuple[str, ...]:
    """Code that saves the net, and code that loads it and predicts."""
    zeros = [f"np.zeros(({', '.join(map(str, (1, *entry.row_shape)))}){', np.int32' * bool(entry.levels)})" for entry in trainer.net.inputs]
    rows = zeros[0] if len(zeros) == 1 else f"[{', '.join(zeros)}]"
    lines = ["import numpy as np", "import microbp as bp", "", 'net = bp.load("net.safetensors")', f"X = {rows}  # one row; put yours here"]
    return (
        markup.text("In the program that has trained it, save the network; or the trainer, to train on later:"),
        markup.code("Save", 'trainer.net.save("net.safetensors")\ntrainer.save("run.safetensors")'),
        markup.text("In any other program:"),
        markup.code("Load and predict", "\n".join([*lines, "print(net.predict(X))"])),
    )
