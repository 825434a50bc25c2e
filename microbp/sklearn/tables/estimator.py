"""What TableClassifier and TableRegressor share: the columns of X, and `bp.fit_table`."""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.validation import _check_sample_weight, validate_data

from ...core.checks import or_none, whole
from ...data.arrays import Array
from ...data.weights import read_weight

if TYPE_CHECKING:
    from ...tables.fitted.table_model import TableModel
    from ...tables.readers.errors import Argument

_ARGUMENTS = (
    "keep", "missing", "validation", "split", "budget", "ensemble", "net", "activation", "dropout", "optimizer", "lr", "decay", "schedule",
    "epochs", "batch", "patience",
)  # fmt: skip


class TableEstimator(BaseEstimator):  # type: ignore[misc]  # it is not typed
    """What TableClassifier and TableRegressor have in common. The parameters in _ARGUMENTS are those of `fit_table`."""

    _only: str  # what y is, or has, if all its values are equal

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _fit(self, X: Any, y: Array, sample_weight: Any, loss: Any, class_weight: str | None = None, *, shown: Array | None = None) -> Self:
        """Trains the model. shown: y as the caller gave it. After an error, attributes are as before."""
        before = dict(vars(self))
        try:
            self._train(X, y, sample_weight, loss, class_weight, y if shown is None else shown)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return self

    def _train(self, X: Any, y: Array, sample_weight: Any, loss: Any, class_weight: str | None, shown: Array) -> None:
        from ...tables.fitted.table_model import fit_table  # imported here, like frames: the other estimators do not need it
        from ...tables.readers.errors import TableError

        columns = self._named(X, reset=True)
        check_consistent_length(X, y)
        target, weight = _free("y", columns), None
        if sample_weight is not None:
            weight = _free("weight", columns)
            columns |= {weight: read_weight(_check_sample_weight(sample_weight, X), len(y), "X")}
            shown = shown[columns[weight] > 0]
        name = type(self).__name__
        if (shown == shown[0]).all():
            where = "" if weight is None else ", in the rows with a weight above 0"
            raise ValueError(f"{name}: y {self._only}, {shown[:1].tolist()[0]!r}{where}: there is nothing to predict")
        try:
            self.model_ = fit_table(
                columns | {target: y},
                target,
                weight=weight,
                test=0.0,
                loss=loss,
                class_weight=class_weight,
                seed=_seed(self.random_state),
                threads=or_none(whole(1))(f"{name}: n_threads", self.n_threads),
                progress=bool(self.verbose),
                **{name: getattr(self, name) for name in _ARGUMENTS},
            )
        except TableError as error:
            raise ValueError(f"{name}: {error.text(_spelled).replace('table: ', '', 1)}") from error
        self.left_out_ = {name: why for name, why in self.model_.preparation.left_out.items() if name != weight}
        unused = {name: why for name, why in self.left_out_.items() if why not in ("constant", "empty")}
        if unused:
            listed = ", ".join(f"{name} ({why})" for name, why in unused.items())
            warnings.warn(f"{type(self).__name__}: columns that are not used: {listed}; keep={list(unused)} uses them", stacklevel=4)

    def _named(self, X: Any, reset: bool) -> dict[str, Any]:
        """The columns of X by name: of a data frame, or of an array, whose columns are called x0, x1, ... In a prediction they have the
        names that they had in `fit`, by their places.
        """
        from ...tables.readers import frames
        from ...tables.readers.table import column_names

        found = None if isinstance(X, np.ndarray) else frames.named_columns(X)
        if found is None or isinstance(X, dict):
            X = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan", ensure_min_samples=1 + reset)
            found = [(f"x{i}", _checked(X[:, i])) for i in range(X.shape[1])]
        else:
            validate_data(self, X, reset=reset, skip_check_array=True)
        if reset:
            self._names = tuple(column_names(name for name, _ in found)[0])
        return dict(zip(self._names, (column for _, column in found), strict=True))

    # ---- copies and files ----

    def __getstate__(self) -> dict[str, Any]:
        """The model as the bytes of its file, which any pickler keeps."""
        state = dict(super().__getstate__())
        model = state.pop("model_", None)
        return state if model is None else state | {"_saved": (_file_of(model), model.scores, model.report)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        saved = state.pop("_saved", None)
        super().__setstate__(state)
        if saved is not None:
            file, scores, text = saved
            self.model_ = _model_of(file, self.n_threads)
            self.model_.scores, self.model_.report = scores, text


def _file_of(model: TableModel) -> bytes:
    """The bytes of the file of a model."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        model.save(path)
        return path.read_bytes()


def _model_of(file: bytes, n_threads: int | None) -> TableModel:
    """The model whose file has these bytes."""
    from ...tables.fitted.table_model import load_table

    with TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        path.write_bytes(file)
        return load_table(path, threads=n_threads)


def _checked(column: Array) -> Array:
    """A column of an array; TypeError if a cell is neither a number nor text."""
    if column.dtype == object:
        for row, cell in enumerate(column):
            if isinstance(cell, dict | list | tuple | set | np.ndarray):
                raise TypeError(f"X: row {row + 1} has a {type(cell).__name__}, but the argument must be a string or a number")
    return column


def _spelled(argument: Argument) -> str:
    """An argument of `fit_table` as the parameter is called here."""
    name = {"seed": "random_state", "threads": "n_threads"}.get(argument.name, argument.name)
    return str(argument._replace(name=name))


def _free(name: str, columns: dict[str, Any]) -> str:
    """A name that no column has."""
    while name in columns:
        name += "_"
    return name


def _seed(random_state: Any) -> int:
    """A whole number is the seed of `fit_table`; others draw one."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def numbers(y: Any) -> Any:
    """y; ValueError if it is text, also of digits, as in scikit-learn's MLPRegressor."""
    if np.asarray(y).dtype.kind in "US":
        raise ValueError("y has text, but must have numbers: y.astype(float), or use a classifier")
    return y


def known(y: Any) -> Any:
    """y; ValueError if there is none."""
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    return y
