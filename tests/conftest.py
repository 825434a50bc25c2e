"""Fixtures for many tests."""

import importlib
import random
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import browser
import cases
import pytest
from file_cases import BACKENDS

try:
    import hypothesis
except ImportError:  # only some tests need it, none of those that compare with other libraries
    pass
else:
    hypothesis.settings.register_profile("microbp", deadline=None)  # other programs may slow down an example
    hypothesis.settings.load_profile("microbp")


def pytest_report_header() -> str:
    """The seed of random tests, and the kernel variants of this machine."""
    return f"MICROBP_SEED={cases.SEED}, kernels: {', '.join(cases.ISAS)}"


@pytest.fixture(params=["compiled", "reference"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn."""
    return str(request.param)


@pytest.fixture(params=cases.ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each kernel variant of this machine in turn, for all networks that the test creates."""
    monkeypatch.setenv("MICROBP_ISA", request.param)
    return str(request.param)


@pytest.fixture(params=cases.DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    """Each dtype in turn."""
    return str(request.param)


@pytest.fixture
def module(backend: str) -> ModuleType:
    """Each backend's module in turn, without the Python API above it."""
    return importlib.import_module(BACKENDS[backend])


@pytest.fixture
def rng() -> random.Random:
    """A random generator with the seed of the run."""
    return random.Random(cases.SEED)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium of playwright, for `browser.View`."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if browser.program() is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        started = browser.launch(playwright)
        yield started
        started.close()
