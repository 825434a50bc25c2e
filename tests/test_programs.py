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


CAPTIONER = Path(__file__).parents[1] / "examples/captioner"


@pytest.fixture
def captioner(monkeypatch):
    monkeypatch.syspath_prepend(CAPTIONER)
    return importlib.import_module("captioner")


def test_captions_follow_from_the_places(captioner):
    pictures, captions = map(importlib.import_module, ("pictures", "captions"))
    assert len(captioner.WORDS) > 50 and pictures.count_captions() >= 10**5
    boxes = np.full((200, 3, 2), 12)
    corners, order, steps = pictures.place(boxes, np.random.default_rng(0))
    for where, turn, moves in zip(corners, order, steps):
        for (down, right), (a, b) in zip(moves, zip(where[turn], where[turn][1:])):
            assert {1: b[0] - a[0] > 10, 0: abs(b[0] - a[0]) < 6, -1: a[0] - b[0] > 10}[down]
            assert {1: b[1] - a[1] > 10, 0: abs(b[1] - a[1]) < 6, -1: a[1] - b[1] > 10}[right]
        assert all((abs(where[i] - where[j]) > 12).any() for i in range(3) for j in range(i))
    assert captions.caption((3, 7, 9), ((1, 0), (0, 1))) == "a three above a seven and a nine to its right"
    every = [
        [((d,), (s,)) for d in range(10) for s in np.ndindex(3, 3)],
        [((a, b), (s,)) for a, b in np.ndindex(10, 10) for s in captions.STEPS],
    ]
    every.append([(d, (s, r)) for d in np.ndindex(10, 10, 10) for s in captions.STEPS for r in captions.STEPS])
    every[0] = [(d, ((s[0][0] - 1, s[0][1] - 1),)) for d, s in every[0]]
    assert [len({captions.caption(*one) for one in some}) for some in every] == [90, 490, 25000]


def test_a_network_learns_to_describe_one_digit(captioner, tmp_path):
    digits = np.zeros((10, 28, 28), np.float32)
    for label in range(10):  # bars in ten places of a box
        digits[label, 4:24, 8:20] = 0.1
        digits[label, 4 + 2 * label : 6 + 2 * label, 8:20] = 1
    source = captioner.Pictures(digits, np.arange(10))
    net, random = captioner.network(), np.random.default_rng(0)
    t = captioner.bp.Trainer(net, captioner.bp.Loss("cross_entropy", missing=True), captioner.bp.AdamW(lr=0.004), seed=0)
    pictures, captions = source.draw(1600, 1, random)
    rows = captioner.in_numbers(captions)
    t.fit([pictures, captioner.shifted(rows)], rows, epochs=8, batch_size=32, schedule=captioner.bp.OneCycle(lr=0.004))
    pictures, captions = source.draw(100, 1, random)
    assert np.mean([one == other for one, other in zip(captioner.write(net, pictures), captions)]) > 0.8
    seen, told = source.draw(8, 2, random, captioner.together([(0, 1)]))
    assert all("zero" in caption and "one" in caption for caption in told) and seen.shape == (8, 56, 56, 1)
