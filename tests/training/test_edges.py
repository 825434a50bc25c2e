"""Small rules of training, at their edges: held-out fractions, the state after an interrupt, the cooldown of plateaus, wrong histories."""

import numpy as np
import pytest

import microbp as bp


def net_and_rows(backend, count=12):
    random = np.random.default_rng(0)
    return bp.mlp([2, 3, 1], seed=0, backend=backend), random.normal(size=(count, 2)), random.normal(size=(count, 1))


@pytest.mark.parametrize("fraction", [1e-9, 0.2, 0.5, 0.8, 1 - 1e-9])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_fraction_leaves_a_row_on_each_side(backend, count, fraction):
    net, x, y = net_and_rows(backend, count)
    t = bp.Trainer(net, "mse", seed=0)
    t.fit(x, y, epochs=1, batch_size=1, validation=fraction)
    assert t.steps == count - min(max(1, round(fraction * count)), count - 1)
    assert 1 <= t.steps < count
    with pytest.raises(ValueError, match="needs at least 2 rows; X has 1"):
        t.fit(x[:1], y[:1], epochs=1, validation=fraction)


def test_an_interrupted_checkpoint_leaves_the_trainer_where_it_was(backend, tmp_path):
    """The file has the end of the last epoch; the trainer has the updates since then, as without a checkpoint."""
    path, trainers = tmp_path / "run", []

    def interrupt(step, *_):
        interrupt.count += 1
        if interrupt.count == 8:
            raise KeyboardInterrupt

    for options in ({}, {"checkpoint": path, "checkpoint_every": 100}):
        net, x, y = net_and_rows(backend)
        t, interrupt.count = bp.Trainer(net, "mse", seed=0), 0
        with pytest.raises(KeyboardInterrupt):
            t.fit(x, y, epochs=5, batch_size=2, batch_callback=interrupt, **options)
        trainers.append(t)
    plain, kept = trainers
    assert plain.steps == kept.steps > 6
    assert kept.epoch == plain.epoch == 1
    np.testing.assert_array_equal(kept.net.params, plain.net.params)
    saved = bp.Trainer.load(path, backend=backend)
    assert (saved.epoch, saved.steps) == (1, 6)
    assert (saved.net.params != kept.net.params).any()


@pytest.mark.parametrize("patience", [0, 1, 2])
@pytest.mark.parametrize("cooldown", [0, 1, 3])
@pytest.mark.parametrize("best", [None, 1.0])
def test_a_plateau_rests_as_many_epochs_as_its_cooldown(patience, cooldown, best):
    """With a loss that never improves, the first reduction is after patience + 1 epochs, and each later one `cooldown` epochs later
    than that. The first epoch counts only if there is a best value to compare it with."""
    schedule, found = bp.ReduceOnPlateau(1.0, factor=0.5, patience=patience, cooldown=cooldown, monitor="loss", best=best), []
    for epoch in range(30):
        before, schedule = schedule.lr, schedule.after({"loss": 1.0})
        found += [epoch] * (schedule.lr < before)
    assert found == list(range(patience + (best is None), 30, cooldown + patience + 1))


def test_a_trainer_tells_its_loss_weights_and_refuses_other_ones(backend):
    x = bp.Input(2)
    net = bp.Network(x, [bp.Dense(1)(x), bp.Dense(1)(x)], backend=backend)
    assert list(bp.Trainer(net, ["mse", "mae"], loss_weights=[0.5, 2]).loss_weights) == [0.5, 2]
    for wrong in ([1], [1, -1], [1, np.nan], [1, "a"], 3):
        with pytest.raises((TypeError, ValueError), match="loss_weights"):
            bp.Trainer(net, ["mse", "mae"], loss_weights=wrong)
    with pytest.raises(TypeError, match="net must be a bp.Network"):
        bp.Trainer(3, "mse")
    custom = bp.Trainer(bp.mlp([2, 1], backend=backend), lambda outputs, targets: (0.0, np.zeros_like(outputs)))
    with pytest.raises(ValueError, match="total= works with named losses only"):
        custom.backward(np.ones((2, 2)), np.ones((2, 1)), total=2.0)


@pytest.mark.parametrize("pct_start", [0.25, 0.5])
def test_one_cycle_is_half_way_up_and_half_way_down(pct_start):
    """On a cosine from a to b, the middle is (a + b) / 2."""
    cycle, steps = bp.OneCycle(lr=1.0, steps=81, pct_start=pct_start, div_factor=5.0, final_div_factor=2.0), 81
    peak = pct_start * steps - 1
    for step, value in ((peak / 2, 0.6), (peak, 1.0), ((peak + steps - 1) / 2, 0.55)):
        assert cycle(step) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("history", "error", "words"),
    [
        ({"loss": ["a"]}, TypeError, r"history\['loss'\] must contain real numbers, not strings"),
        ({"loss": [1.0], "b": []}, ValueError, r"lists of equal lengths, but their shapes are 'loss': \(1,\), 'b': \(0,\)"),
        ({"loss": 1.0}, ValueError, r"dict of lists of equal lengths, but their shapes are 'loss': \(\)"),
    ],
)
def test_a_wrong_history_is_refused_before_a_file_is_written(tmp_path, history, error, words):
    for name in ("h.csv", "h.json"):
        with pytest.raises(error, match=words):
            bp.save_history(history, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_history_may_have_arrays(tmp_path):
    bp.save_history({"loss": np.array([0.5, 2.0]), "n": [1, 2]}, tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text().split() == ["loss,n", "0.5,1", "2.0,2"]
