"""Records of epochs, and the files that a history goes into."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...core.whole_file import replacing


class Record(dict[str, float]):
    """What is known of an epoch: a dict whose items are attributes too.

    epoch: its number, from 1. loss: the mean of its rows' losses, each at its own update. lr: the last rate. steps: the updates so far.
    seconds: that it took. From `fit` also val_loss and metrics, by their names. An attribute that it lacks is an AttributeError.

    >>> t = bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse", optimizer=bp.SGD(lr=0.5))
    >>> record = next(t.epochs(np.ones((40, 3)), np.ones(40)))
    >>> record.epoch, record.steps, record["lr"]
    (1, 2, 0.5)
    """

    def __getattr__(self, name: str) -> float:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the record has no {name!r}; it has {', '.join(self)}") from None


def save_history(history: Mapping[str, Sequence[float]], path: str | Path) -> None:
    """Writes a trainer's history, all or nothing: .csv, a line per epoch under a line of names; .json, an object of lists.

    Every number reads back exactly. NaN, for an epoch that had no such value, is empty in CSV and null in JSON; JSON has no infinity
    either, so that is null too. ValueError for any other ending of the path.

    >>> bp.save_history({"loss": [0.5, 0.25], "lr": [0.1, 0.1]}, "history.csv")
    >>> from pathlib import Path
    >>> Path("history.csv").read_text().split()
    ['loss,lr', '0.5,0.1', '0.25,0.1']
    """
    path = Path(path)
    if path.suffix not in (".json", ".csv"):
        raise ValueError(f"save_history: {str(path)!r} must end in .csv or .json")
    with replacing(path) as beside:
        _write(history, beside)


def _write(history: Mapping[str, Sequence[float]], path: Path) -> None:
    import csv  # only a file needs them
    import json

    if path.suffix == ".json":
        lists = {name: [value if math.isfinite(value) else None for value in values] for name, values in history.items()}
        path.write_text(json.dumps(lists, indent=1) + "\n", encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(history)
            rows.writerows([["" if math.isnan(value) else repr(value) for value in row] for row in zip(*history.values(), strict=True)])
