"""The accuracy of `bp.fit_table` on two known sets of libsvm text, which tests read where MICROBP_DATA names their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import microbp as bp

DATA = Path(os.environ.get("MICROBP_DATA", "no folder"))


@pytest.mark.parametrize(("name", "test", "least"), [("a9a/a9a.gz", "a9a/a9a.t.gz", 0.85), ("w8a/w8a.gz", None, 0.986)])
def test_the_accuracy_is_that_of_other_methods_or_better(name, test, least):
    if not (DATA / name).exists():
        pytest.skip("MICROBP_DATA names no folder with a9a and w8a")
    model = bp.fit_table(DATA / name, test_file=None if test is None else DATA / test, budget="fast")
    assert model.scores["test"]["accuracy"] >= least
