"""The estimators inside scikit-learn's tools: pipelines, searches in processes and threads, calibration, importance, routing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from microbp.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # tests train for few epochs


@pytest.fixture
def rows(numbers):
    X = numbers.normal(size=(150, 4))
    return X, np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")


def model(**settings) -> MLPClassifier:
    return MLPClassifier((16,), learning_rate_init=0.02, max_iter=30, random_state=0, **settings)


def test_pipelines_of_frames(numbers):
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    columns = {"a": numbers.normal(size=80), "b": numbers.integers(3, size=80).astype(str)}
    y = columns["a"] + (columns["b"] == "1")
    both = ColumnTransformer([("numbers", StandardScaler(), ["a"]), ("names", OneHotEncoder(sparse_output=False), ["b"])])
    regressor = MLPRegressor(learning_rate_init=0.03, max_iter=60, random_state=0)
    pipeline = make_pipeline(both, TransformedTargetRegressor(regressor, transformer=StandardScaler()))
    found = [pipeline.fit(frame, y).predict(frame) for frame in (pandas.DataFrame(columns), polars.DataFrame(columns))]
    assert found[0].tobytes() == found[1].tobytes()
    assert pipeline.score(pandas.DataFrame(columns), y) > 0.9


def test_cross_validation_calibration_and_importance(rows):
    X, y = rows
    assert cross_val_predict(model(), X, y, cv=3, method="predict_proba").sum(axis=1) == pytest.approx(1)
    found = cross_validate(model(), X, y, cv=3, scoring=["accuracy", "roc_auc", "neg_log_loss"], error_score="raise")
    assert found["test_roc_auc"].mean() > 0.9
    assert CalibratedClassifierCV(model(), cv=3).fit(X, y).score(X, y) > 0.9
    importance = permutation_importance(model().fit(X, y), X, y, random_state=0).importances_mean
    assert set(np.argsort(importance)[-2:]) == {0, 1}
    assert MultiOutputClassifier(model()).fit(X, np.stack([y, y[::-1]], axis=1)).predict(X).shape == (150, 2)


def test_weights_are_routed(rows):
    X, y = rows
    weight = np.linspace(0.1, 2, len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        asked = model().set_fit_request(sample_weight=True, eval_set=False).set_score_request(sample_weight=True)
        found = cross_validate(asked, X, y, cv=3, params={"sample_weight": weight}, return_estimator=True, error_score="raise")
        search = GridSearchCV(asked, {"alpha": [1e-4]}, cv=3).fit(X, y, sample_weight=weight)
    assert len(found["estimator"]) == 3 and search.best_score_ > 0.8


SEARCH = """
import sys, warnings, joblib, numpy as np
warnings.simplefilter("ignore")
from sklearn.model_selection import GridSearchCV
from microbp.sklearn import MLPClassifier
X = np.random.default_rng(0).normal(size=(600, 30)); y = (X[:, 0] > 0).astype(int)
MLPClassifier((300,), max_iter=2).fit(X, y)  # starts threads before a fork
def search(backend):
    with joblib.parallel_config(backend, n_jobs=2):
        found = GridSearchCV(MLPClassifier((300,), max_iter=3, random_state=0), {"alpha": [1e-4, 1.0]}, cv=2, error_score="raise").fit(X, y)
    return found.cv_results_["mean_test_score"].tolist()
if __name__ == "__main__":
    print(*search(sys.argv[1])); print(*search("sequential"))
"""


def check_search(backend, tmp_path, program=SEARCH):
    """The parallel search finds what one process finds."""
    (tmp_path / "search.py").write_text(program, "utf-8")
    command = [sys.executable, "-P", str(tmp_path / "search.py"), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    parallel, alone = done.stdout.splitlines()[-2:]
    assert parallel == alone


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_searches_in_parallel_do_not_hang(backend, tmp_path):
    check_search(backend, tmp_path)


CLUSTERS = {
    "dask": ("distributed", "from distributed import Client; Client(n_workers=2, threads_per_worker=1, dashboard_address=None)"),
    "ray": ("ray", "import ray; from ray.util.joblib import register_ray; ray.init(num_cpus=2, log_to_driver=False); register_ray()"),
}


@pytest.mark.parametrize("backend", CLUSTERS)
def test_searches_on_clusters(backend, tmp_path):
    module, start = CLUSTERS[backend]
    pytest.importorskip(module, reason=f"{module} is not installed")
    check_search(backend, tmp_path, SEARCH.replace('"__main__":', f'"__main__":\n    {start}'))


def test_importing_microbp_does_not_import_scikit_learn():
    code = """if True:
        import sys, microbp
        microbp.Trainer, microbp.sklearn
        assert 'sklearn' not in sys.modules
        microbp.sklearn.MLPClassifier
        assert 'sklearn' in sys.modules"""
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False, timeout=60).returncode == 0
