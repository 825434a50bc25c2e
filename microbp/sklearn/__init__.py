"""Estimators for scikit-learn, which train with microbp: put them where `sklearn.neural_network` was imported.

>>> from microbp.sklearn import MLPClassifier
>>> X = np.random.default_rng(0).normal(size=(200, 2))
>>> y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
>>> clf = MLPClassifier((32,), learning_rate_init=0.01, random_state=0).fit(X, y)
>>> clf.predict([[1.0, 1.0], [1.0, -1.0]])
array(['same', 'other'], dtype='<U5')
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the names for type checkers; `as` marks them as exported
    from .classifier import MLPClassifier as MLPClassifier
    from .encoder import MLPEncoder as MLPEncoder
    from .ensembles import EnsembleClassifier as EnsembleClassifier
    from .ensembles import EnsembleRegressor as EnsembleRegressor
    from .quantile import QuantileRegressor as QuantileRegressor
    from .regressor import MLPRegressor as MLPRegressor
    from .tables.classifier import TableClassifier as TableClassifier
    from .tables.regressor import TableRegressor as TableRegressor

else:  # the same names at run time, each imported on first use: not everybody needs tables and ensembles
    _HOME = {
        "EnsembleClassifier": "ensembles",
        "EnsembleRegressor": "ensembles",
        "MLPClassifier": "classifier",
        "MLPEncoder": "encoder",
        "MLPRegressor": "regressor",
        "QuantileRegressor": "quantile",
        "TableClassifier": "tables.classifier",
        "TableRegressor": "tables.regressor",
    }
    __all__ = sorted(_HOME)

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}", name=name)
        globals()[name] = value = getattr(import_module(f".{_HOME[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        return __all__
