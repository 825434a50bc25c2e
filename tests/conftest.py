"""Fixtures that many tests share."""

import importlib
import random
from types import ModuleType

import cases
import pytest
from file_cases import BACKENDS


def pytest_report_header() -> str:
    """What random tests draw from, and the kernel variants that run here."""
    return f"MICROBP_SEED={cases.SEED}, kernels: {', '.join(cases.ISAS)}"


@pytest.fixture(params=["compiled", "reference"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn: what holds for one holds for the other."""
    return str(request.param)


@pytest.fixture(params=cases.ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each kernel variant that runs here in turn, for the networks that the test makes."""
    monkeypatch.setenv("MICROBP_ISA", request.param)
    return str(request.param)


@pytest.fixture(params=cases.DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    """Each dtype in turn."""
    return str(request.param)


@pytest.fixture
def module(backend: str) -> ModuleType:
    """The module of each backend in turn, below the API."""
    return importlib.import_module(BACKENDS[backend])


@pytest.fixture
def rng() -> random.Random:
    """Random numbers from the run's seed."""
    return random.Random(cases.SEED)
