"""examples/python: each program learns what it is about, for several seeds, and is short."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import numpy as np
import pytest

PROGRAMS = Path(__file__).parents[1] / "examples/python"
SEEDS = range(3)


@pytest.fixture
def program(request, monkeypatch):
    """The module of a program, by its name."""
    monkeypatch.syspath_prepend(PROGRAMS)
    if request.param in ("autoencoder", "triplet", "distillation"):
        pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    return importlib.import_module(request.param)


def named(name):
    return pytest.mark.parametrize("program", [name], indirect=True, ids=[name])


def code_lines(text):
    """How many lines have code: not only a docstring, a comment or nothing."""
    strings = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    documented = {line for node in strings for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    lines = enumerate(text.splitlines(), 1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and number not in documented for number, line in lines)


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*.py")), ids=lambda path: path.stem)
def test_a_program_is_short_and_tested(path):
    assert code_lines(path.read_text()) <= 40
    assert path.stem == "worlds" or f"named({path.stem!r})".replace("'", '"') in Path(__file__).read_text()


@named("dqn")
def test_a_deep_q_network_balances_a_pole(program):
    assert np.mean([program.mean_return(program.train(seed)) for seed in SEEDS]) >= 150


@named("ppo")
def test_proximal_policy_optimization_balances_a_pole(program):
    assert np.mean([np.mean(program.train(seed)[1][-10:]) for seed in SEEDS]) >= 300


@named("ddpg")
def test_an_actor_swings_a_pendulum_up_through_its_critic(program):
    assert np.mean([np.mean(program.train(seed)[1][-10:]) for seed in SEEDS]) >= -300


@named("gan")
def test_a_generator_finds_the_clusters(program):
    found, near = zip(*(program.quality(program.train(seed)) for seed in SEEDS), strict=True)
    assert np.mean(found) >= 6 and np.mean(near) >= 0.8


@named("autoencoder")
def test_an_autoencoder_beats_principal_components_and_its_decoder_draws(program):
    error, linear, way = program.main()
    assert error < 0.8 * linear
    assert way.shape == (7, 64) and np.abs(np.diff(way, axis=0)).max() < 1


@named("triplet")
def test_distances_of_codes_say_more_than_those_of_pixels(program):
    pixels, codes = program.main()
    assert codes > pixels + 0.15


@named("multitask")
def test_one_network_of_all_numbers_beats_a_network_for_each(program):
    together, apart = np.mean([program.main(seed) for seed in SEEDS], axis=0)
    assert together < 0.75 * apart


@named("distillation")
def test_a_small_network_learns_more_from_a_large_one_than_from_few_labels(program):
    teacher, alone, student = program.main()
    assert teacher > 0.97 and student > 0.9 > 0.8 > alone


@named("pinn")
def test_the_solution_of_an_equation(program):
    points = np.linspace(0, 6, 1000)
    errors = [np.abs(program.solve(seed)(points) - np.sin(points)).max() for seed in SEEDS]
    assert np.median(errors) < 0.01
