"""Pictures of a page: plots of ../plots as SVG inside the page, and confusion matrices as tables."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..core.text import counted
from ..data.arrays import Array
from . import markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..tables.fitted.importance import Importance

_CELLS = 12  # a confusion matrix of more classes is a picture
_MISTAKES = 10  # of these, the most frequent mistakes
_POINTS = 3000  # rows in a picture
_BARS = 20  # columns whose importance is shown
_SHUFFLED, _REPEATS = 2000, 3  # for the importance: rows, and shuffles of each column
_WORK, _FEWEST = 3e9, 50  # multiplications, about a second; if they are too few for so many rows, nothing is measured
_OTHERS = ("lr", "seconds")  # entries of the history that are not drawn; the losses are in one picture


def require_matplotlib() -> None:
    """ImportError, which says how to install it, if matplotlib is missing."""
    from ..plots.curves import learning_curves  # noqa: F401


def svg(name: str, title: str, draw: Callable[[Axes], object], height: float = 3.6) -> str:
    """A figure with a picture. name: of letters, another for each picture of a page. title: what it shows, in words."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure, file = Figure(figsize=(5.4, height), dpi=100, layout="constrained"), io.StringIO()
    with warnings.catch_warnings(), rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # letters that no font contains are drawn as boxes
        draw(figure.subplots())
        figure.savefig(file, format="svg", metadata={"Date": None})
    drawing = file.getvalue()
    drawing = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", drawing[drawing.index("<svg") :], flags=re.DOTALL)
    drawing = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", drawing)  # ids of all pictures of a page differ
    drawing = re.sub(r' (width|height)="[\d.]+pt"', "", drawing, count=2)
    drawing = drawing.replace("<svg ", '<svg role="img" ', 1).replace(">", f"><title>{markup.safe(title)}</title>", 1)
    return f"<figure>{drawing.strip()}<figcaption>{markup.safe(title)}</figcaption></figure>\n"


def curves(history: Mapping[str, Sequence[float]]) -> str:
    """The losses and the metrics over the epochs."""
    from ..plots.curves import learning_curves
    from ..plots.layers import layers

    if not np.isfinite(history.get("loss", [])).any():
        return markup.text("There are none: no epoch of fit has ended with a finite loss.")
    count, known = counted(len(history["loss"]), "epoch"), _finite(history)
    found: list[str] = []
    for name in [name for name in history if name not in _OTHERS and not re.match(r"val_loss|loss_|.*\.", name)][:3]:
        values = [value for value in known[name] if np.isfinite(value)]
        if values:
            what = f"{name} over {count}: first {markup.number(values[0], name)}, last {markup.number(values[-1], name)}"
            found.append(svg(f"curve{len(found)}", what, lambda axes, name=name: learning_curves(known, name, axes)))  # type: ignore[misc]
    for name in ("update/weight", "gradient"):
        if any(entry.endswith(f".{name.partition('/')[0]}") for entry in history):
            found.append(svg(f"curve{len(found)}", f"{name} of each layer", lambda axes, name=name: layers(known, name, axes), 4.6))  # type: ignore[misc]
    return f'<div class="two">{"".join(found)}</div>'


def _finite(history: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """The history with gaps instead of infinity, which has no place on an axis."""
    return {name: [value if np.isfinite(value) else np.nan for value in values] for name, values in history.items()}


def confusion(name: str, counts: Array, classes: Sequence[str]) -> str:
    """A confusion matrix: a table; of many classes, a picture and the most frequent mistakes."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(classes) <= _CELLS:
        rows = [(one, *map(_count, row)) for one, row in zip(classes, counts.tolist())]
        return markup.numbers(
            "Confusion matrix. Rows: the true class; columns: the predicted one", ("true", *classes), rows, shares.tolist()
        )
    from ..plots.classes import confusion_matrix

    drawn = svg(
        f"confusion{name}", f"Confusion matrix of {len(classes)} classes", lambda axes: confusion_matrix(counts, classes, axes), 5.4
    )
    wrong = counts - np.diag(np.diag(counts))
    places = [divmod(int(place), len(classes)) for place in np.argsort(-wrong, axis=None, kind="stable")[:_MISTAKES]]
    rows = [(classes[i], classes[j], _count(counts[i, j]), markup.number(shares[i, j], "accuracy")) for i, j in places if wrong[i, j]]
    return drawn + (markup.numbers("Most frequent mistakes", ("true", "predicted", "rows", "share of the class"), rows) if rows else "")


def _count(count: float) -> str:
    return f"{count:.0f}" if count % 1 == 0 else f"{count:.4g}"  # weights may be fractions


def residuals(name: str, true: Array, predicted: Array) -> str:
    """Predicted against true numbers, and what is usual of their difference."""
    from ..plots.numbers import predicted_against_true

    known = np.isfinite(true) & np.isfinite(predicted)
    true, predicted = true[known], predicted[known]
    if not len(true):
        return markup.text("No prediction is a finite number.", "bad")
    rows = slice(None, None, -(-len(true) // _POINTS))
    low, middle, high = (markup.number(float(value)) for value in np.quantile(true - predicted, [0.05, 0.5, 0.95]))
    said = f"true minus predicted: median {middle}, 90 % between {low} and {high}"
    shown = f"Predicted against true, {len(true[rows]):,} of {len(true):,} rows" if len(true) > _POINTS else "Predicted against true"
    return svg(f"residuals{name}", f"{shown}; {said}", lambda axes: predicted_against_true(true[rows], predicted[rows], axes), 4.2)


def importance(count: int, columns: int, params: int, measured: Callable[[Array, int], Importance | None]) -> str:
    """The importance of columns as bars, measured in about a second on some of `count` rows. measured: gets their indices and how often to
    shuffle; None: they have no weight. params: of all nets.
    """
    most = int(min(_SHUFFLED, count, _WORK // max(params * columns * _REPEATS, 1)))
    if most < min(_FEWEST, count):
        return markup.text("Not measured: the net has too many parameters or columns to shuffle each column within a second.")
    if columns < 2 or not most or (found := measured(spaced(count, most), _REPEATS)) is None:
        return ""
    mean, std, order = found.importances_mean, found.importances_std, found.order
    longest = max(float(mean.max()), 1e-300)
    shown = [(found.columns[i], f"{mean[i]:.3g} ± {std[i]:.1g}", max(float(mean[i] / longest), 0.0)) for i in order[:_BARS]]
    rest = order[_BARS:]
    more = f"{counted(len(rest), 'more column')}: at most {mean[rest[0]]:.3g} each." if rest else ""
    name = f"Increase of the loss ({found.loss}, {found.baseline:.4g}) when a column is shuffled, for {most:,} rows"
    return markup.bars(name, ("column", "increase"), shown) + markup.text(more)


def spaced(count: int, most: int) -> Array:
    """The indices of at most this many rows, evenly spaced."""
    return np.linspace(0, count - 1, min(most, count)).astype(np.int64)
