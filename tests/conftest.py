"""Fixtures that many tests share."""

import pytest


@pytest.fixture(params=["compiled", "reference"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn: what holds for one holds for the other."""
    return str(request.param)
