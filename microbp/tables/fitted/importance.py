"""The importance of columns by permutation: how much the loss grows when the values of a column are shuffled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ...core.text import printable
from ...data.arrays import Array
from ..parts import Part
from ..predictor import Predictor
from ..preparation import Preparation


@dataclass(frozen=True, eq=False)
class Importance:
    """The increases of the loss when a column is shuffled; the names are those of scikit-learn's permutation_importance.

    columns: the names of the columns used. loss: the name of the loss. baseline: the loss without shuffling. importances: the increases,
    shape (columns, repeats). importances_mean, importances_std: their means and standard deviations, shape (columns,). order: the indices
    of the columns, the most important first.

    >>> found = bp.Importance(("area", "lift"), "mse", 0.25, np.array([[0.125, 0.25], [0.5, 0.75]]))
    >>> print(found)
    increase of the loss (mse, 0.25) when a column is shuffled
    lift       0.625 +- 0.12
    area      0.1875 +- 0.062
    """

    columns: tuple[str, ...]
    loss: str
    baseline: float
    importances: Array

    @property
    def importances_mean(self) -> Array:
        """The mean increase of each column."""
        return np.asarray(self.importances.mean(axis=1))

    @property
    def importances_std(self) -> Array:
        """The standard deviation of the increases of each column."""
        return np.asarray(self.importances.std(axis=1))

    @property
    def order(self) -> list[int]:
        """The indices of the columns, the most important first."""
        return [int(i) for i in np.argsort(-self.importances_mean, kind="stable")]

    def __str__(self) -> str:
        names = [printable(name) for name in self.columns]
        width = max(map(len, names))
        mean, std = self.importances_mean, self.importances_std
        lines = [f"{names[i]:{width}} {mean[i]:>11.4g} +- {std[i]:.2g}" for i in self.order]
        return "\n".join([f"increase of the loss ({self.loss}, {self.baseline:.4g}) when a column is shuffled", *lines])


def importance(predictor: Predictor, preparation: Preparation, rows: Part, repeats: int, seed: int) -> Importance:
    """The importance of each column of the preparation for some rows.

    Shuffling a column of the table shuffles its features together, because the features of a row depend on this row alone.
    """
    places: dict[str, slice] = dict(preparation.blocks)
    x, y, weight = rows
    return permuted(lambda other: predictor.evaluate(other, y, weight), predictor.loss.text, x, places, repeats, seed)


def permuted(
    evaluate: Callable[[Array], float], loss: str, x: Array, places: Mapping[str, slice], repeats: int, seed: int = 0
) -> Importance:
    """The importance of columns of a matrix. evaluate: the loss of a matrix with the shape of x. places: the columns by name."""
    random = np.random.default_rng(seed)
    baseline = evaluate(x)
    increases, shuffled = np.empty((len(places), repeats)), x.copy()
    for i, columns in enumerate(places.values()):
        for repeat in range(repeats):
            shuffled[:, columns] = x[random.permutation(len(x))][:, columns]
            increases[i, repeat] = evaluate(shuffled) - baseline
        shuffled[:, columns] = x[:, columns]
    return Importance(tuple(places), loss, baseline, increases)
