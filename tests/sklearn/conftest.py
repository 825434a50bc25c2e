"""Random arrays for the tests of estimators."""

from __future__ import annotations

import cases
import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


@pytest.fixture
def numbers() -> np.random.Generator:
    """A generator of arrays with the seed of the run."""
    return np.random.default_rng(cases.SEED)
