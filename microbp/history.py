"""Records of epochs, and the files that a history goes into."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from .whole_file import replacing


class Record(dict[str, float]):
    """What is known of an epoch: epoch, loss, lr, steps, seconds, and from `fit` val_loss and metrics; items, also as attributes."""

    def __getattr__(self, name: str) -> float:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the record has no {name!r}; it has {', '.join(self)}") from None


def save_history(history: Mapping[str, Sequence[float]], path: str | Path) -> None:
    """Writes a trainer's history, all or nothing: .csv, a line per epoch under a line of names; .json, an object of lists.

    Every number reads back exactly. NaN, for an epoch that had no such value, is empty in CSV and null in JSON; JSON has no infinity
    either, so that is null too.
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
