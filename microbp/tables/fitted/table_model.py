"""Models of tables in Python: `fit_table` trains one, `load_table` reads a file of `microbp train`."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ..._doors import door
from ...core.checks import file_path
from ...core.specs import Loss
from ...core.text import counted, printable
from ...data.arrays import Array
from ...data.sparse import concatenate
from ...many.ensemble import Ensemble
from ...many.loading import load
from ...network.layers import Activation
from ...network.network import Network
from ...ranks.ranks import joined as together
from ...ranks.ranks import read
from ...settings.optimizers import Optimizer
from ...settings.schedules import Schedule
from .. import scores
from ..columns import targeted
from ..encodings.tally import Tally
from ..parts import Data, Part, inputs, joined, targets
from ..predictor import Predictor
from ..preparation import Preparation
from ..readers.sources import Source, find
from ..readers.table import Table
from ..row_columns import weights
from . import report, runs
from .arguments import checked, count, switch
from .arguments import seed as whole_seed
from .importance import Importance, importance

_PACKAGE = __name__.partition(".")[0] + "."
_LOSSES = {"softmax": "cross_entropy", "sigmoid": "bce", "exp": "poisson"}  # by output activation, for files that do not name the loss


class TableModel:
    """A network for the rows of a table, with the preparation of the columns. `fit_table` and `load_table` create it.

    net: the network, or the bp.Ensemble of several, the last of which may be a linear model; it takes features, not columns. target: the
    name of the predicted column. classes: its classes, as whole numbers or bools if all of them are, else as strings; empty if the target
    is a number. columns: the columns used. scores: after `fit_table`, the metrics by part ("train", "validation", "test") and name, those
    of the validation rows of the first network, because others were trained on them; else empty. report: after `fit_table`, the text that
    `microbp train` prints; else empty. The methods take tables as `fit_table` does: they need the columns used in training, in any order.

    A cell that should be a number and is not, a value that training did not have, and a missing value in a column without any in training
    do not stop a prediction: a UserWarning counts them. strict=True makes the first such cell that should be a number a ValueError, and
    also each assumption about the file. no_header=True: the first row of a text file or a sheet does not name the columns.

    >>> table = {"size": [1, 2, 3, 4] * 30, "colour": ["red", "red", "blue"] * 40, "kind": ["a", "b", "b", "a"] * 30}
    >>> model = bp.fit_table(table, target="kind", epochs=20)
    >>> model.target, model.classes, model.columns
    ('kind', ('a', 'b'), ('size', 'colour'))
    >>> model.predict({"size": [1, 2], "colour": ["red", "blue"]})
    array(['a', 'b'], dtype='<U1')
    >>> model.predict_proba(table).shape
    (120, 2)
    """

    def __init__(self, net: Network | Ensemble, preparation: Preparation, loss: Loss) -> None:
        self.net = net
        self.preparation = preparation
        self.loss = loss
        self.target = preparation.target.name
        self.classes = preparation.target.labels
        self.columns = tuple(dict.fromkeys(feature.name for feature in preparation.features))
        self.scores: dict[str, dict[str, Any]] = {}
        self.report = ""

    # ---- predictions ----

    def predict(self, table: Any, *, no_header: bool = False, strict: bool = False) -> Array:
        """The predicted class or number of each row, shape (rows,); numbers in the unit of the target.

        ValueError: the table has no rows, or lacks a column that was used in training.

        >>> model = bp.fit_table({"x": range(50), "y": [i > 20 for i in range(50)]}, target="y", lr=0.1)
        >>> model.predict({"x": [3, 40]})
        array([False,  True])
        """
        outputs = self._outputs(table, no_header, strict)
        if self.classes:
            return np.asarray(np.array(self.classes)[outputs.argmax(axis=1)])
        return self.preparation.target.numbers(outputs[:, 0])

    def predict_proba(self, table: Any, *, no_header: bool = False, strict: bool = False) -> Array:
        """The probability of each class, shape (rows, classes), in the order of `classes`. With the loss "bce" each class is judged by
        itself, so that a row's sum may differ from 1.

        ValueError: as in `predict`, or the outputs are not probabilities: the target is a number, or the loss is for scores ("hinge").

        >>> model = bp.fit_table({"x": range(50), "y": [i > 20 for i in range(50)]}, target="y", lr=0.1)
        >>> model.predict_proba({"x": [3, 40]}).round(1)
        array([[1., 0.],
               [0., 1.]], dtype=float32)
        """
        if not self.has_probabilities:
            what = f"{self.target!r} is a number" if not self.classes else f"the outputs of the loss {self.loss.name!r} are scores"
            raise ValueError(f"predict_proba: there are no probabilities, because {what}; use predict")
        return self._outputs(table, no_header, strict)

    @property
    def has_probabilities(self) -> bool:
        """Whether the outputs are probabilities of classes."""
        return bool(self.classes) and self.net.outputs[0].activation in ("softmax", "sigmoid")

    def _outputs(self, table: Any, no_header: bool, strict: bool) -> Array:
        return np.concatenate(
            [outputs for _, outputs in predictions(self, find(table, header=False if no_header else None), strict=strict)]
        )

    def features(self, table: Any, *, no_header: bool = False, strict: bool = False) -> Any:
        """What the network gets for each row, (rows, features), float32, sparse where the rows are: for `net.predict`, or
        `net.std` of several networks. If a column has an embedding, a list of these, then for each such column its ids, (rows, 1).

        ValueError: as in `predict`.

        >>> model = bp.fit_table({"x": range(50), "y": [i > 20 for i in range(50)]}, target="y", budget="fast")
        >>> model.features({"x": [3, 40]}).shape == (2, model.net.inputs[0].width)
        True
        """
        source = find(table, header=False if no_header else None)
        return inputs(self.net, concatenate([_matrix(self, one, Tally(), strict) for one in (source.tests or source.tables)()]))

    # ---- quality ----

    def evaluate(self, table: Any, *, stream: bool = False, no_header: bool = False, strict: bool = False) -> dict[str, Any]:
        """The metrics for the rows of a table, by name: those of `microbp train` for its test rows, weighted if the model was trained with
        `weight` and the table has that column. "rows" is the number of rows,
        "without_target" the number of rows that were left out because their target is missing.

        stream: read a file in pieces. ValueError: as in `predict`, or no row has a target, or the target has a class that training did not.

        >>> model = bp.fit_table({"x": range(50), "y": [i > 20 for i in range(50)]}, target="y", lr=0.1)
        >>> found = model.evaluate({"x": [3, 40, 9], "y": [False, True, None]})
        >>> found["rows"], found["without_target"], found["accuracy"]
        (2, 1, 1.0)
        """
        source, tally, left_out = find(table, stream=stream, header=False if no_header else None), Tally(), 0

        def parts() -> Iterator[Part]:
            nonlocal left_out
            for known, missing in self._labelled(source):
                left_out += missing
                yield self._part(known, tally, strict)

        data = Data(source.where, self.preparation, self.loss, {"test": parts}, 0, source.is_stream)
        measured = scores.measure(self._predictor(), data)
        _warn(source.where, tally)
        return {"rows": measured.rows["test"], "without_target": left_out, **measured.parts["test"]}

    def importance(self, table: Any, *, repeats: int = 5, seed: int = 0, no_header: bool = False, strict: bool = False) -> Importance:
        """How much worse the loss is when the values of a column are shuffled, for each column used: what the model loses without it.

        repeats: how often each column is shuffled. seed: of the shuffles. Rows without a target are left out. Columns that tell the same
        share their importance. Source: Breiman 2001; Fisher, Rudin & Dominici 2019. Errors as in `evaluate`.

        >>> table = {"a": range(5, 205), "b": [i * 7 % 200 for i in range(200)], "y": [i / 2 for i in range(200)]}
        >>> found = bp.fit_table(table, target="y", epochs=30).importance(table)
        >>> found.columns, bool(found.importances_mean[0] > 10 * found.importances_mean[1])
        (('a', 'b'), True)
        """
        repeats, seed = checked("repeats", count, repeats), checked("seed", whole_seed, seed)
        if self.preparation.sparse:
            raise ValueError("importance: the model was trained on sparse rows, which have no named columns to shuffle")
        source, tally = find(table, header=False if no_header else None), Tally()
        parts = [self._part(known, tally, strict) for known, _ in self._labelled(source)]
        _warn(source.where, tally)
        return importance(self._predictor(), self.preparation, joined(parts), repeats, seed)

    def _labelled(self, source: Source) -> Iterator[tuple[Table, int]]:
        """The tables without the rows whose target is missing, and how many rows those were. ValueError if no row is left."""
        has_rows = False
        for table in (source.tests or source.tables)():
            table.require(self.target)
            known = targeted(replace(table, readings=self.preparation.readings), self.target)
            left_out = table.count - known.count
            if name := self._weighted(known):
                known = known.take(np.flatnonzero(weights(known, name)))
            has_rows = has_rows or known.count > 0
            if known.count:
                yield known, left_out
        if not has_rows:
            raise ValueError(f"{source.where}: no row has a value of the target {self.target!r}")

    def _weighted(self, table: Table) -> str | None:
        """The column with the weights of rows, if there is one."""
        name = self.preparation.weight
        return name if name in table.columns else None

    def _part(self, table: Table, tally: Tally, strict: bool) -> Part:
        name = self._weighted(table)
        weight = None if name is None else weights(table, name)
        return Part(_matrix(self, table, tally, strict), targets(self.preparation.target, table, self.loss), weight)

    def _predictor(self) -> Predictor:
        """The networks with their loss."""
        return Predictor(self.net, self.loss)

    # ---- files and text ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the network with its preparation, as `microbp train --out` does. `load_table` and `microbp predict` read the file.

        OSError: the file cannot be written; an existing file stays as it was.

        >>> bp.fit_table({"x": range(50), "y": range(50)}, epochs=1).save("model.safetensors")
        """
        self.net.save(path)

    def __repr__(self) -> str:
        return f"<TableModel of {self.target!r} with {counted(len(self.columns), 'column')}>"

    def __str__(self) -> str:
        lines = [f"TableModel: {report.columns(self.preparation)}", report.networks(self.net)]
        return "\n".join([*lines, f"columns: {', '.join(map(printable, self.columns))}"])


def predictions(model: TableModel, source: Source, *, strict: bool = False) -> Iterator[tuple[Table, Array]]:
    """The test tables of a source, else all its tables, each with the outputs of the network. Warns at the end."""
    where, tally, is_empty = source.where, Tally(), True
    for table in (source.tests or source.tables)():
        is_empty = False
        yield table, model.net.predict(inputs(model.net, _matrix(model, table, tally, strict)))
    if is_empty:
        raise ValueError(f"{where}: the file has no rows")
    _warn(where, tally)


def _matrix(model: TableModel, table: Table, tally: Tally, strict: bool) -> Any:
    if strict:
        runs.refuse_assumptions(table.where, table.assumptions)
    table = replace(table, can_drop=False)
    return model.preparation.matrix(table, None if strict else tally)


_COUNTED = {
    "unseen": "values that training did not have",
    "bad": "cells that cannot be read, taken as missing",
    "gaps": "missing values in columns that had none in training, which count as a middle number or date",
    "far": "numbers far outside the range of training",
}


def _warn(where: str, tally: Tally) -> None:
    """Warns of the cells that were counted, once for each kind."""
    for kind, text in _COUNTED.items():
        listed = [f"{column} ({cells})" for column, cells in getattr(tally, kind).items() if cells]
        if listed:
            warnings.warn(f"{where}: {text}: {', '.join(listed)}", UserWarning, stacklevel=_outside())


def _outside() -> int:
    """The `stacklevel` of a warning, in the function that calls this one, that shows the line that called microbp."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


# ---- training and loading ----


def fit_table(
    table: Any,
    target: str | int | None = None,
    *,
    drop: str | Sequence[str | int] = (),
    keep: str | Sequence[str | int] = (),
    missing: str | Sequence[str] = (),
    no_header: bool = False,
    test: float = 0.2,
    test_file: Any = None,
    validation: float = 0.1,
    split: str = "random",
    weight: str | int | None = None,
    stream: bool = False,
    strict: bool = False,
    budget: Literal["fast", "normal", "best"] = "normal",
    ensemble: int | None = None,
    net: str | Sequence[int | None] | None = None,
    activation: str | Activation = "gelu",
    dropout: float | None = None,
    loss: str | Loss | None = None,
    class_weight: str | None = None,
    optimizer: str | Optimizer = "adam",
    lr: float | Literal["auto"] | None = None,
    decay: float | None = None,
    schedule: str | Schedule | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    patience: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: bool | None = None,
    comm: Any = None,
) -> TableModel:
    """Trains a network on a table and measures it on test rows. The arguments are the options of `microbp train`, as Python objects or as
    text; the same arguments give the same network, bit for bit.

    table: the path of a file, a data frame of pandas or polars, or a dict of columns. target: the column to predict; by default the column
    named target, label, class or y, else the last one. drop: columns to ignore. keep: columns to use although they look like row numbers or
    ids. missing: words for missing values, besides the usual ones such as "NA". no_header: the first row of a text file or a sheet does not
    name the columns. strict: an assumption about the table is an error.

    test: the fraction of the rows held out for the test; 0: none, for a last training on all rows. test_file: a table with the test rows
    instead. validation: the fraction of the other rows held out to choose the best epoch. split: how these rows are chosen: "random" (for
    classes, from each class in proportion), "last", "time:COLUMN" (the latest rows; equal times stay together) or "group:COLUMN" (rows with
    the same value stay together). weight: a column with the weights of the rows; 0 leaves a row out. stream: read a file in pieces, for
    files larger than memory.

    budget: how long to train: "fast", "normal" or "best" take about 1, 10 or 60 seconds of a processor core for each 20,000 rows, and at
    least 1, 3 or 20; what is None below depends on it, and on the number of rows. ensemble: how many networks to train, one after
    another; the prediction is their mean. They come in pairs: the first chooses the best epoch by validation rows, the second is trained
    on all rows but those of the test, for as many epochs. 1: a single network, trained on all these rows. None: chosen; on a small table
    a linear model may then join them, with a share of the vote that the validation rows choose.

    net: the widths of inputs, hidden layers and outputs, as text or as a list: "x-64-64-y" or [None, 64, 64, None] has two hidden layers of
    64 units. activation: of the hidden layers. dropout: the rate after each hidden layer; None: 0, or 0.2 if no number has bins. loss: by
    default "cross_entropy" if the target is text or has at most 20 different whole numbers, else "mse". class_weight: "balanced" makes all
    classes count alike. optimizer, lr, decay: the optimizer, its learning rate ("auto": found by a range test) and weight decay. schedule:
    of the learning rate, by default "cos_log", waves that end at 0; or "cosine" or "constant". epochs: passes over the training rows, of
    each network. batch: rows per update. patience: stop after this many epochs that are not better; None: do not stop early.

    seed: of the split, the initial weights and the order of rows. threads: the maximum number; None: the number of processors. progress:
    show the progress on stderr; None: if it is a terminal or a notebook.

    comm: a communicator such as mpi4py.MPI.COMM_WORLD, whose processes train together; all call this with the same arguments, and get the
    same model. Each reads its part of a file; of a table in memory, each passes its own rows. RuntimeError: another process has failed.

    ValueError: the table or an argument is invalid; the text names the file, row and column, or the argument, and says what to do.
    TypeError: an argument has a wrong type. FloatingPointError: the loss is not finite; use a lower lr.

    >>> model = bp.fit_table({"x": range(100), "y": [3 * i + 1.5 for i in range(100)]}, net="x-16-y", epochs=100, lr=0.02)
    >>> model.target, bool(model.scores["test"]["r2"] > 0.99)
    ('y', True)
    >>> "predicts y, a number, from 1 column" in model.report
    True
    >>> bp.fit_table({"x": [1, 2, 3], "y": [1, 2, 3]}, epochs=0)
    Traceback (most recent call last):
    ...
    microbp.tables.readers.errors.ArgumentError: epochs: the value must be at least 1, not 0
    """
    given = dict(locals())
    del given["table"], given["progress"], given["comm"]
    progress = progress if progress is None else checked("progress", switch, progress)
    ranks = read(comm)
    ranks = ranks if ranks and ranks.size > 1 else None
    with together(ranks):
        settings = runs.Settings(**{name: runs.converted(name, value) for name, value in given.items()})
        run = runs.begin(table, settings, ranks=ranks)
        runs.fit(run, progress=progress)
        found = runs.predictor(run)
        model = TableModel(found.net, run.data.preparation, run.data.loss)
        measured = runs.scores(run, found)
        model.scores, model.report = measured.parts, report.text(run, measured)
    return model


def load_table(path: str | os.PathLike[str], *, threads: int | None = None) -> TableModel:
    """Loads a model that `microbp train` or `model.save` has written, or that bp.export wrote as ONNX. threads: the maximum number;
    None: the number of processors.

    ValueError: the file is not such a model, or is damaged. OSError: it cannot be read.

    >>> model = bp.fit_table({"x": range(50), "y": [i % 3 for i in range(50)]}, epochs=5)
    >>> model.save("model.safetensors")
    >>> bp.load_table("model.safetensors").classes
    (0, 1, 2)
    """
    where = os.fsdecode(file_path(path))
    limit = runs.converted("threads", threads)
    return of_net(door("load_table")(where, limit) or load(path, n_threads=limit), where)


def of_net(net: Network | Ensemble, where: str) -> TableModel:
    """The model of a network whose notes say how columns are prepared. where: names the file in errors."""
    preparation = Preparation.of(net, where)
    if preparation is None:
        what = "contains no column names, because neither microbp train nor bp.fit_table wrote it"
        raise ValueError(f"{where}: {what}; use net.predict in Python, or train with microbp train")
    text = net.notes.get(runs.LOSS_NOTE)
    implied = "hinge" if preparation.target.classes else "mse"
    try:
        loss = Loss.parse(text or _LOSSES.get(str(net.outputs[0].activation), implied))
        Predictor(net, loss)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: the note on the loss ({runs.LOSS_NOTE}) cannot be read; train again") from None
    return TableModel(net, preparation, loss)
