"""Records of epochs, and history files."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ....core.checks import new_file
from ....core.whole_file import replacing
from ....data.arrays import as_array
from ....settings.metrics import RESERVED


class Record(dict[str, float]):
    """The measurements of an epoch: a dict whose items are also attributes.

    epoch: its number, from 1. loss: the mean loss of its rows, each measured during its own update. lr: the last learning rate. steps: the
    number of updates so far. seconds: the duration. With several outputs, loss_<name> is the loss of each, before its loss
    weight. `fit` adds val_loss, val_loss_<name> and the metrics, by name; with validation rows, record["val_accuracy"] is
    record["accuracy"], and so on. AttributeError: no such entry.

    >>> t = bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse", optimizer=bp.SGD(lr=0.5))
    >>> record = next(t.epochs(np.ones((40, 3)), np.ones(40)))
    >>> record.epoch, record.steps, record["lr"]
    (1, 2, 0.5)
    """

    def __missing__(self, name: str) -> float:
        measured = name.removeprefix("val_")
        if measured not in (name, *RESERVED) and "val_loss" in self and measured in self:
            return self[measured]
        raise KeyError(name)

    def __getattr__(self, name: str) -> float:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the record has no entry {name!r}; it has {', '.join(self)}") from None


def save_history(history: Mapping[str, Sequence[float]], path: str | Path) -> None:
    """Writes a trainer's history to a file, completely or not at all. The extension of the path chooses the format.

    .csv: a header line with the names, then a line per epoch. .json: an object of lists. Numbers are written exactly. NaN, for an epoch
    without a value, is empty in CSV and null in JSON. Infinity is null in JSON too. ValueError: another extension, or lists of different
    lengths.

    >>> bp.save_history({"loss": [0.5, 0.25], "lr": [0.1, 0.1]}, "history.csv")
    >>> from pathlib import Path
    >>> Path("history.csv").read_text().split()
    ['loss,lr', '0.5,0.1', '0.25,0.1']
    """
    if not isinstance(history, Mapping):
        raise TypeError(f"save_history: history must be a dict of lists such as t.history, not {type(history).__name__}")
    path = Path(os.fsdecode(new_file(path)))
    if path.suffix not in (".json", ".csv"):
        raise ValueError(f"save_history: the path must end in .csv or .json, not {str(path)!r}")
    lists = {name: as_array(values, f"save_history: history[{name!r}]") for name, values in history.items()}
    shapes = {array.shape for array in lists.values()}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        found = ", ".join(f"{name!r}: {array.shape}" for name, array in lists.items())
        raise ValueError(f"save_history: history must be a dict of lists of equal lengths, but their shapes are {found}")
    with replacing(path) as temporary:
        _write({name: array.tolist() for name, array in lists.items()}, temporary)


def _write(history: Mapping[str, Sequence[float]], path: Path) -> None:
    import csv  # imported only when needed
    import json

    if path.suffix == ".json":
        lists = {name: [value if math.isfinite(value) else None for value in values] for name, values in history.items()}
        path.write_text(json.dumps(lists, indent=1) + "\n", encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(history)
            rows.writerows([["" if math.isnan(value) else repr(value) for value in row] for row in zip(*history.values(), strict=True)])
