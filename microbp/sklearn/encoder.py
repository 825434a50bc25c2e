"""MLPEncoder: what a hidden layer of a trained network computes, as new features."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from ..core.specs import Loss
from ..data.arrays import Array
from ..data.sparse import SparseRows
from ..network.layers import Activation
from ..training.trainer import Trainer
from .base import DTYPES, NetEstimator, no_text, rows_of
from .goals import Goal, of_numbers
from .hooks import with_callbacks
from .parameters import naming
from .regressor import read_numbers
from .tables.estimator import labels

_LINEAR = Activation("identity")


def _reconstructs(estimator: MLPEncoder) -> bool:
    """Whether an encoder was trained without y, and so has a decoder; or may be."""
    return not estimator.__sklearn_is_fitted__() or estimator._itself


class MLPEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, NetEstimator):  # type: ignore[misc]  # its bases are not typed
    """Reduces each row to `n_components` features. A network learns them: they are the outputs of its linear hidden layer.

    `fit(X)` trains an autoencoder: after the layers `hidden_layer_sizes` and those features, the same layers in reverse reconstruct X by
    the squared error (Hinton & Salakhutdinov 2006). `fit(X, y)` trains the features to predict y, by one linear layer after them.

    n_components=16: the number of features.
    loss="auto": with y, "squared_error" if y is of floats or has several columns, else "cross_entropy": each different value of y is a
    class. Or a loss of numbers such as "mae", or "cross_entropy" for classes that are floats.
    {parameters}

    Attributes as of MLPRegressor, without those of its output. For settings of an optimizer that have no parameter here, pass a
    bp.Optimizer as `solver`. Scale X before.

    >>> from microbp.sklearn import MLPEncoder
    >>> random = np.random.default_rng(0)
    >>> X = random.normal(size=(500, 2)) @ random.normal(size=(2, 6))  # two numbers in six columns
    >>> encoder = MLPEncoder(2, (), learning_rate_init=0.01, random_state=0, tol=1e-6).fit(X)
    >>> encoder.transform(X).shape, encoder.get_feature_names_out().tolist()
    ((500, 2), ['mlpencoder0', 'mlpencoder1'])
    >>> bool(np.abs(encoder.inverse_transform(encoder.transform(X)) - X).mean() < 0.05)
    True
    """

    def __init__(
        self,
        n_components: int = 16,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        loss: Any = "auto",
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: float = 10,
        dropout: float = 0.0,
        schedule: Any = None,
        callback: Any = None,
        max_time: Any = None,
        n_threads: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.loss = loss
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.dropout = dropout
        self.schedule = schedule
        self.callback = callback
        self.max_time = max_time
        self.n_threads = n_threads

    # ---- fit ----

    def _read(self, X: Any, y: Any, *, first: bool, classes: Any = None) -> tuple[Array, Array]:
        self._itself, self._classes = y is None, 0
        if y is None:
            X = rows_of(validate_data(self, no_text(X), accept_sparse="csr", dtype=DTYPES, reset=first))
            self._targets_count = X.shape[1]
            return X, X.toarray() if isinstance(X, SparseRows) else X
        if not self._has_classes(y):
            X, y = read_numbers(self, X, y, first=first)
            self._targets_count = y.shape[1]
            return X, y
        X, y = validate_data(self, no_text(X), labels(y), accept_sparse="csr", dtype=DTYPES, reset=first)
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        self._classes = len(classes)
        return rows_of(X), codes

    def _has_classes(self, y: Any) -> bool:
        name = self.loss.name if isinstance(self.loss, Loss) else str(self.loss).partition("(")[0]
        if name != "auto":
            return name == "cross_entropy"
        given = np.asarray(y)
        is_one = given.ndim < 2 or given.shape[1] == 1
        return is_one and given.dtype.kind != "f" and not type_of_target(labels(y), input_name="y").startswith("continuous")

    def _stratify(self, y: Array) -> Array | None:
        return y if self._classes else None

    def _goal(self, of: SimpleNamespace) -> Goal:
        is_auto = isinstance(of.loss, str) and of.loss == "auto"
        if self._classes:
            return Goal(max(self._classes, 2), Loss.parse("cross_entropy" if is_auto else of.loss), "accuracy", activation="softmax")
        loss = "squared_error" if is_auto else of.loss
        return naming(of.estimator, "loss", lambda: of_numbers(loss, self._targets_count, "identity", ("auto", "cross_entropy")))

    def _new_trainer(self, of: SimpleNamespace, goal: Goal, X: Array, seed: int | None) -> Trainer:
        sizes, activations = of.hidden_layer_sizes, of.activations
        back = (sizes[::-1], activations[::-1]) if self._itself else ((), [])
        chain = {"hidden_layer_sizes": (*sizes, of.n_components, *back[0]), "activations": [*activations, _LINEAR, *back[1]]}
        self._place, self._n_features_out = len(sizes), of.n_components
        return super()._new_trainer(SimpleNamespace(**vars(of) | chain), goal, X, seed)

    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Trains. X: (rows, features). y: None, or the class or number of each row, (rows,), or numbers, (rows, targets). sample_weight:
        (rows,), at least 0. Errors: as of MLPRegressor."""
        return self._fit(X, y, sample_weight)  # type: ignore[no-any-return]

    # ---- features ----

    @property
    def _code(self) -> str:
        """The name of the layer that computes the features."""
        return [layer.name for layer in self._trainer.net.layers if layer.kind == "dense"][self._place]

    def transform(self, X: Any) -> Array:
        """The features of each row, shape (rows, n_components)."""
        X = self._features(X)
        return np.asarray(self._trainer.net.predict(X, at=[self._code])[0])

    @available_if(_reconstructs)
    def inverse_transform(self, Z: Any) -> Array:
        """Rows as X, shape (rows, features), reconstructed from features; of an encoder that was trained without y."""
        check_is_fitted(self)
        Z = check_array(Z, dtype=DTYPES, estimator=self, input_name="Z")
        return np.asarray(self._trainer.net.part(inputs=self._code).predict(Z))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
