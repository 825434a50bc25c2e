"""What TableClassifier and TableRegressor share: the columns of X, and `bp.fit_table`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
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


_TEXTS = {r"^table: ": "", r"(;|,? or) choose another (target )?with target": "", r", separated by , ; \| or tab": ""}


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

        columns = self._named(X, reset=True)
        check_consistent_length(X, y)
        if not len(y):
            raise ValueError(f"{type(self).__name__}: X has no rows")
        unknown = [one for one in self.keep if one not in columns] if isinstance(self.keep, list | tuple) else []
        if unknown:
            raise ValueError(f"{type(self).__name__}: keep: unknown column {unknown[0]!r}; valid: {', '.join(columns)}")
        target, weight = _free("y", columns), None
        if sample_weight is not None:
            weight = _free("weight", columns)
            columns |= {weight: read_weight(_check_sample_weight(sample_weight, X), len(y), "X")}
            shown = shown[columns[weight] > 0]
        name = type(self).__name__
        if (shown == shown[0]).all():
            where = "" if weight is None else ", in the rows with a weight above 0"
            raise ValueError(f"{name}: y {self._only}, {shown[:1].tolist()[0]!r}{where}: there is nothing to predict")
        with self._telling():
            self._threads = or_none(whole(1))(f"{name}: n_threads", self.n_threads)
            self.model_ = fit_table(
                columns | {target: y},
                target,
                weight=weight,
                test=0.0,
                loss=loss,
                class_weight=class_weight,
                seed=_seed(self.random_state),
                threads=self._threads,
                progress=bool(self.verbose),
                **{name: getattr(self, name) for name in _ARGUMENTS},
            )
        self.left_out_ = {name: why for name, why in self.model_.preparation.left_out.items() if name != weight}
        unused = {name: why for name, why in self.left_out_.items() if why not in ("constant", "empty")}
        if unused:
            listed = ", ".join(f"{name} ({why})" for name, why in unused.items())
            warnings.warn(f"{type(self).__name__}: columns that are not used: {listed}; keep={list(unused)} uses them", stacklevel=4)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Errors about a table become those of X: with the parameters of the estimator, and rows that count from 0."""
        from ...tables.readers.errors import TableError

        try:
            yield
        except ValueError as error:
            text = error.text(_spelled) if isinstance(error, TableError) else str(error)
            for pattern, ours in _TEXTS.items():
                text = re.sub(pattern, ours, text)
            text = re.sub(r"^table, row (\d+)", lambda found: f"X, row {int(found[1]) - 1}", text)
            raise ValueError(text if text.startswith(type(self).__name__) else f"{type(self).__name__}: {text}") from error

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
            self.model_ = _model_of(file, self._threads)
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
                raise TypeError(f"X: row {row} has a {type(cell).__name__}, but the argument must be a string or a number")
    return column


def _spelled(argument: Argument) -> str:
    """An argument of `fit_table` as the parameter is called here, or what takes its place."""
    if argument.name == "drop" and argument.value is not None:
        return f"X.drop(columns={argument.value!r})"
    if argument == ("loss", "mse"):
        return "TableRegressor"
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
    """y; ValueError if it is text, also of digits, as in scikit-learn's MLPRegressor, or has dates."""
    values = np.asarray(y)
    if values.dtype.kind in "US":
        raise ValueError("y has text, but must have numbers: y.astype(float), or use a classifier")
    if values.dtype.kind in "mM" or (values.dtype == object and _is_date(values)):
        raise ValueError("y has dates or times, but must have numbers, such as days: (y - y.min()) / np.timedelta64(1, 'D')")
    return y


def labels(y: Any, name: str = "y") -> Any:
    """y of a classifier; ValueError for the first label that is missing, and for labels of types that cannot be sorted."""
    if y is None or hasattr(y, "toarray"):
        return y
    values = np.asarray(y)
    kind = values.dtype.kind
    flat = values.reshape(-1)
    missing: Any = np.isnat(flat) if kind in "mM" else np.isnan(flat) if kind == "f" else False
    if kind == "O":
        missing = [_is_missing(one) for one in flat]
    if np.any(missing):
        place = int(np.argmax(missing))
        where = ", ".join(map(str, np.unravel_index(place, values.shape)))
        raise ValueError(f"{name}[{where}] is missing ({flat[place]}); leave out such rows, or give them a class of their own")
    if kind == "O":
        examples = list({type(one): one for one in flat}.values())
        try:
            sorted(examples)
        except TypeError:
            has = " and ".join(repr(one) for one in examples[:2])
            raise ValueError(
                f"{name} has labels of types that cannot be sorted, such as {has}; convert them: [str(x) for x in y]"
            ) from None
    return y


def _is_missing(label: Any) -> bool:
    """Whether a label is None, NaN, NaT or pandas.NA, which are not equal to themselves, or refuse the comparison."""
    try:
        return label is None or bool(label != label)
    except TypeError:
        return True
    except ValueError:  # an array
        return False


def _is_date(values: Array) -> bool:
    return bool(values.size) and isinstance(values.flat[0], date | timedelta)


def known(y: Any) -> Any:
    """y; ValueError if there is none."""
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    return y
