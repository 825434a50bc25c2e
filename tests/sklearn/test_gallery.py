"""Programs like those of scikit-learn's gallery, in gallery/: with one import changed they run, and their results are as good."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

GALLERY = Path(__file__).parent / "gallery"
IMPORTS = {"theirs": "from sklearn.neural_network import", "ours": "from microbp.sklearn import"}


@pytest.fixture(scope="module")
def run():
    """Runs a program of the gallery with one of the imports; returns its variables."""
    done: dict[tuple[str, str], dict[str, Any]] = {}

    def find(name: str, whose: str) -> dict[str, Any]:
        if (name, whose) not in done:
            text = (GALLERY / f"{name}.py").read_text("utf-8")
            assert text.count(IMPORTS["theirs"]) == 1
            done[name, whose] = {"__name__": name}
            # One thread for NumPy, as the matrices are small. The programs ignore warnings that they expect; Python shows others.
            with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
                warnings.simplefilter("default")
                exec(compile(text.replace(IMPORTS["theirs"], IMPORTS[whose]), name, "exec"), done[name, whose])
        return done[name, whose]

    return find


def by_set(scores: dict[tuple[str, Any], float], of: Callable[[list[float]], Any]) -> dict[str, float]:
    """The median, mean or best score for each set of data."""
    names = dict.fromkeys(name for name, _ in scores)
    return {name: float(of([score for (one, _), score in scores.items() if one == name])) for name in names}


def test_the_program_about_alpha(run):
    ours, theirs = run("alpha", "ours"), run("alpha", "theirs")
    for name, score in by_set(ours["scores"], np.median).items():
        assert score == pytest.approx(by_set(theirs["scores"], np.median)[name], abs=0.05)
    for program in (ours, theirs):  # a larger alpha makes smaller weights, and so a flatter picture
        for name in program["SETS"]:
            sizes = [program["sizes"][name, alpha] for alpha in program["ALPHAS"]]
            steepness = [np.abs(np.diff(program["pictures"][name, alpha], axis=0)).max() for alpha in program["ALPHAS"]]
            assert sizes == sorted(sizes, reverse=True) and steepness[0] > steepness[-1]
    same = [np.mean((picture > 0.5) == (theirs["pictures"][key] > 0.5)) for key, picture in ours["pictures"].items()]
    assert np.median(same) > 0.9  # of each picture, the part where both see the same class


def test_the_program_about_filters(run):
    ours, theirs = run("filters", "ours"), run("filters", "theirs")
    for name, score in ours["scores"].items():
        assert score > 0.9 and score == pytest.approx(theirs["scores"][name], abs=0.03)
    assert len(ours["pictures"]) == len(theirs["pictures"]) == 40
    assert ours["mlp"].coefs_[0].std() == pytest.approx(theirs["mlp"].coefs_[0].std(), rel=0.1)


def test_the_program_about_strategies(run):
    ours, theirs = run("strategies", "ours"), run("strategies", "theirs")
    for of in (np.mean, max):
        for name, score in by_set(ours["scores"], of).items():
            assert score == pytest.approx(by_set(theirs["scores"], of)[name], abs=0.06)
    for key, (curve, last) in ours["curves"].items():
        assert last == curve[-1] == pytest.approx(theirs["curves"][key][1], abs=0.25), key
    for program in (ours, theirs):  # rates that fall with the rows seen learn least
        found = program["scores"]
        assert np.mean([found[name, "falling"] for name in program["SETS"]]) < np.mean([found[name, "adam"] for name in program["SETS"]])
