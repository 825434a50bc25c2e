"""scikit-learn's own checks of estimators, on all but MLPClassifier and MLPRegressor: which fail, and why."""

import doctest
import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
from microbp import sklearn as estimators

pytest.importorskip("pandas", reason="without pandas, scikit-learn skips checks")
pytest.importorskip("polars", reason="without polars, scikit-learn skips checks")

SPLIT = {
    "check_sample_weight_equivalence_on_dense_data": "the validation rows are drawn from all rows, so another number of rows draws others"
}
ESTIMATORS = {  # how it is created, and the checks that must fail, with the reason
    "TableClassifier(budget='fast', epochs=8, ensemble=1, net='x-16-y', lr=0.02)": SPLIT,
    "TableRegressor(budget='fast', epochs=8, ensemble=1, net='x-16-y', lr=0.02)": SPLIT,
    "QuantileRegressor()": {},
    "QuantileRegressor((0.25, 0.5), (16, 16), 'tanh')": {},
    "MLPEncoder()": {},
    "MLPEncoder(2, (16, 16), 'tanh', loss='mae')": {},
    "EnsembleClassifier(n_estimators=2)": {},
    "EnsembleRegressor(n_estimators=2)": {},
}
CODE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import microbp.sklearn
from sklearn.utils.estimator_checks import check_estimator
for created in sys.argv[1:]:
    estimator = eval(created, {name: getattr(microbp.sklearn, name) for name in microbp.sklearn.__all__})
    found = check_estimator(estimator, on_fail=None, on_skip=None)
    print(json.dumps([[one["check_name"], one["status"], repr(one["exception"])] for one in found]))
"""


@pytest.fixture(scope="module")
def found():
    """The checks of each estimator. In a process of its own, because SciPy reads SCIPY_ARRAY_API when it is imported."""
    command = [sys.executable, "-P", "-c", CODE, *ESTIMATORS]
    environment = os.environ | {"SCIPY_ARRAY_API": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    return dict(zip(ESTIMATORS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("created", ESTIMATORS)
def test_all_checks_pass_but_those_that_must_fail(found, created):
    assert len(found[created]) >= 50
    failed = {name: why for name, status, why in found[created] if status != "passed"}
    assert failed.keys() == ESTIMATORS[created].keys(), failed


@pytest.mark.parametrize("name", sorted({created.partition("(")[0] for created in ESTIMATORS}))
def test_examples_print_what_they_show(name):
    report = []
    example = doctest.DocTestParser().get_doctest(getattr(estimators, name).__doc__, {"np": np}, name, None, None)
    assert example.examples
    doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert not report, "".join(report)
