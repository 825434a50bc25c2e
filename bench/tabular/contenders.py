"""The contenders of the race: each is trained with its defaults on a table of numbers and categories, on one thread.

What scikit-learn needs before its models is done as its users do it: categories become numbers for trees, and columns of 0 and 1 for the
others, where numbers are standardised and gaps get the median; the rarest categories of a long list share one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

import microbp as bp

Array = npt.NDArray[np.float64]
Predict = Callable[[pd.DataFrame], Array]  # columns -> the numbers, or the probabilities of the classes in sorted order
Train = Callable[[pd.DataFrame, pd.Series, int], Predict]  # (columns, target, seed) -> predict

OURS, REFERENCE, LINEAR = "microbp", "HistGradientBoosting", "linear"
MOST_CATEGORIES = 254  # HistGradientBoosting takes 255, with the one for gaps
MOST_COLUMNS = 100  # of 0 and 1, for a column of categories

_categories = make_column_selector(dtype_exclude="number")
_numbers = make_column_selector(dtype_include="number")


def ours(budget: str | None) -> Train:
    """microbp's `fit_table` without options, or with a budget."""
    options: dict[str, Any] = {} if budget is None else {"budget": budget}

    def train(columns: pd.DataFrame, target: pd.Series, seed: int) -> Predict:
        name = "target"
        while name in columns:
            name += "_"
        table = columns.assign(**{name: target})  # also its test rows, which its report needs: those of the race stay unseen
        model = bp.fit_table(table, target=name, test_file=table, seed=seed, threads=1, progress=False, **options)
        if target.dtype == np.float64:
            return lambda rows: np.asarray(model.predict(rows), np.float64)
        kinds = list(map(str, model.classes))
        order = [kinds.index(kind) for kind in sorted(set(target))]
        return lambda rows: np.asarray(model.predict_proba(rows), np.float64)[:, order]

    return train


def _peer(create: Callable[[pd.DataFrame, bool, int], Any]) -> Train:
    """create(columns, classifies, seed) is an estimator of scikit-learn."""

    def train(columns: pd.DataFrame, target: pd.Series, seed: int) -> Predict:
        classifies = target.dtype != np.float64
        model = create(columns, classifies, seed).fit(columns, target)
        return model.predict_proba if classifies else model.predict  # type: ignore[no-any-return]

    return train


def _for_trees() -> Any:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=MOST_CATEGORIES)
    return make_column_transformer((encoder, _categories), remainder="passthrough", verbose_feature_names_out=False).set_output(
        transform="pandas"
    )


def _for_others() -> Any:
    encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MOST_COLUMNS, sparse_output=False)
    return make_column_transformer((encoder, _categories), (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), _numbers))


def _boosting(columns: pd.DataFrame, classifies: bool, seed: int) -> Any:
    kind = HistGradientBoostingClassifier if classifies else HistGradientBoostingRegressor
    return make_pipeline(_for_trees(), kind(categorical_features=_categories(columns), random_state=seed))


def _forest(columns: pd.DataFrame, classifies: bool, seed: int) -> Any:
    return make_pipeline(_for_trees(), (RandomForestClassifier if classifies else RandomForestRegressor)(n_jobs=1, random_state=seed))


def _linear(columns: pd.DataFrame, classifies: bool, seed: int) -> Any:
    return make_pipeline(_for_others(), LogisticRegression(max_iter=300) if classifies else Ridge())


def _mlp(columns: pd.DataFrame, classifies: bool, seed: int) -> Any:
    net = (
        MLPClassifier(random_state=seed)
        if classifies
        else TransformedTargetRegressor(MLPRegressor(random_state=seed), transformer=StandardScaler())
    )
    return make_pipeline(_for_others(), net)


PEERS: dict[str, Train] = {
    REFERENCE: _peer(_boosting),
    "RandomForest": _peer(_forest),
    LINEAR: _peer(_linear),
    "MLP": _peer(_mlp),
}
