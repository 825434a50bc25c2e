"""scikit-learn's own checks of estimators, all of them, in both dtypes."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.utils.estimator_checks import parametrize_with_checks

from microbp.sklearn import MLPClassifier, MLPRegressor

ESTIMATORS = [
    MLPClassifier(),
    MLPRegressor(),
    MLPClassifier(solver="lbfgs", alpha=0.1),
    MLPRegressor(solver="sgd", learning_rate="adaptive"),
]

# With SCIPY_ARRAY_API=1 one check more is run, which is skipped without it.
ALL = """
import warnings
from sklearn.utils.estimator_checks import check_estimator
from microbp.sklearn import MLPClassifier, MLPRegressor
warnings.simplefilter("ignore")
for estimator in (MLPClassifier(), MLPRegressor()):
    print(*(f"{one['check_name']}: {one['status']} {one['exception']}"
            for one in check_estimator(estimator, on_fail=None, on_skip=None) if one["status"] != "passed"))
"""


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda estimator: {})
@pytest.mark.filterwarnings("ignore")  # of checks that fit on data of one class, with columns without names, ...
def test_check(estimator, check):
    if "array_api_input" in str(check):
        pytest.skip("test_no_check_fails_or_is_skipped runs it with SCIPY_ARRAY_API=1")
    check(estimator)


def test_no_check_fails_or_is_skipped():
    pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("polars", reason="polars is not installed")
    environment = {**os.environ, "SCIPY_ARRAY_API": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-P", "-c", ALL], capture_output=True, text=True, env=environment, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_a_float32_array_trains_in_float32(estimator, numbers):
    X, y = numbers.normal(size=(60, 3)).astype("float32"), numbers.integers(2, size=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = estimator.set_params(max_iter=5, random_state=0).fit(X, y)
    assert {array.dtype.name for array in fitted.coefs_ + fitted.intercepts_} == {"float32"}
