"""The learning-rate range test: fastai's rates, smoothing and suggestions; the trainer does not change; for both backends."""

import copy
import math

import numpy as np
import pytest
from cases import own_mse

import microbp as bp
from microbp.core import backend as backends

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = X @ RNG.normal(size=(3, 2)) + 0.1 * RNG.normal(size=(40, 2))


def make(backend, loss="mse", dtype="float32"):
    t = bp.Trainer(bp.mlp([3, 8, 2], dtype=dtype, seed=1, backend=backend), loss, bp.Adam(lr=0.01))
    t.fit(X, Y, epochs=2, batch_size=16, validation=0.2, schedule=bp.Cosine(0.02))
    return t


def everything(t):
    """The whole state of a trainer and its net, bit for bit."""
    vectors = [t.net.params, t.net.buffers, t.grads, *t.state.values()]
    return [v.tobytes() for v in vectors], t.lr, t.steps, t.epoch, copy.deepcopy(t.history), t.schedule


# ---- fastai's algorithms ----


def fastai_smoothed(losses, beta=0.98):
    value, smoothed = 0.0, []
    for count, loss in enumerate(losses, start=1):
        value = loss + beta * (value - loss)
        smoothed.append(value / (1 - beta**count))
    return smoothed


def fastai_valley(lrs, losses):
    count = len(losses)
    max_start = max_end = 0
    lengths = [1] * count
    for i in range(1, count):
        for j in range(i):
            if losses[i] < losses[j] and lengths[i] < lengths[j] + 1:
                lengths[i] = lengths[j] + 1
            if lengths[max_end] < lengths[i]:
                max_end = i
                max_start = max_end - lengths[max_end]
    sections = (max_end - max_start) / 3
    return lrs[max(max_start + int(sections) + int(sections / 2), 0)]


def fastai_steep(lrs, losses):
    slopes = [(b - a) / (math.log(v) - math.log(u)) for a, b, u, v in zip(losses, losses[1:], lrs, lrs[1:])]
    return lrs[slopes.index(min(slopes))]


@pytest.mark.parametrize("seed", range(20))
def test_suggestions_agree_with_fastai(seed):
    rng = np.random.default_rng(seed)
    lrs = np.geomspace(1e-7, 10, 60)
    smoothed = rng.normal(size=60).cumsum() + (rng.choice([-1, 1, 0]) * np.arange(60))
    found = bp.RangeTest(lrs, smoothed, smoothed, 60)
    seen = lrs[6:-5].tolist(), smoothed[6:-5].tolist()
    assert found.suggestion == found.valley == fastai_valley(*seen)
    fall = slice(seen[0].index(found.valley), max(int(np.argmin(seen[1])), seen[0].index(found.valley) + 1) + 1)
    assert found.steep == fastai_steep(seen[0][fall], seen[1][fall])
    assert found.minimum == seen[0][int(np.argmin(seen[1]))] / 10


@pytest.mark.parametrize("seed", range(20))
def test_steep_ignores_noise_before_the_loss_falls(seed):
    lrs = np.geomspace(1e-7, 10, 100)
    losses = 10 - 2 * np.clip(np.log10(lrs / 1e-4), 0, None)  # flat up to 1e-4
    losses += np.random.default_rng(seed).normal(size=100)
    found = bp.RangeTest(lrs, losses, np.array(fastai_smoothed(losses)), 100)
    assert found.steep > 1e-4


# ---- the test ----


def test_rates_grow_by_equal_factors_and_losses_equal_steps(backend):
    t = make(backend)
    twin = copy.deepcopy(t)
    found = bp.lr_find(t, X, Y, start_lr=1e-4, end_lr=1.0, num_it=20, batch_size=16, stop_div=False)
    np.testing.assert_allclose(found.lrs, 1e-4 * 1e4 ** (np.arange(20) / 20), rtol=1e-12)
    expected, stop = [], len(found.lrs)
    twin.fit(
        X, Y, epochs=7, batch_size=16, schedule=lambda step: found.lrs[min(step - t.steps, 19)],
        batch_callback=lambda record: expected.append(record.loss) or len(expected) == stop,
    )  # fmt: skip
    assert found.losses.tolist() == expected
    np.testing.assert_allclose(found.smoothed, fastai_smoothed(found.losses), rtol=1e-12)


def test_the_suggestion_trains(backend):
    t = make(backend)
    t.net.init(seed=1)
    t.reset()
    before = t.evaluate(X, Y)
    t.lr = bp.lr_find(t, X, Y, batch_size=8).suggestion
    assert 1e-4 < t.lr < 1
    t.fit(X, Y, epochs=20, batch_size=8)
    assert t.evaluate(X, Y) < before / 4


def test_lr_find_stops_when_the_loss_diverges(backend):
    found = bp.lr_find(make(backend), X, Y, start_lr=1e-3, end_lr=1e6, num_it=300)  # slow enough to see a loss between 4 and 5 times it
    further = bp.lr_find(make(backend), X, Y, start_lr=1e-3, end_lr=1e6, num_it=300, batch_size=32, stop_div=False)
    assert found.losses.tolist() == further.losses[: len(found.losses)].tolist()
    assert 10 < len(found.lrs) < 300
    assert found.smoothed[-1] > 4 * found.smoothed.min()
    assert (found.smoothed[:-1] <= 4 * np.minimum.accumulate(found.smoothed)[:-1]).all()
    assert str(found) == f"RangeTest(suggestion {found.suggestion:.2g}, {len(found.lrs)} of 300 rates)"
    assert str(bp.RangeTest(found.lrs[:9], found.losses[:9], found.smoothed[:9], 90)).startswith(
        "RangeTest(no suggestion: the loss diverged"
    )


def test_lr_find_stops_when_the_loss_is_not_finite(backend):
    t = make(backend)
    before = everything(t)
    order = backends.load(backend).permutation(t.seed, 2, t.epoch, 40)
    broken = X.copy()
    broken[order[30]] = 1e38  # in the fourth batch of the next epoch; its squared error is not finite
    found = bp.lr_find(t, broken, Y, batch_size=8, stop_div=False)
    assert len(found.lrs) == len(found.losses) == len(found.smoothed) == 3
    assert np.isfinite(found.losses).all()
    assert everything(t) == before


@pytest.mark.parametrize("loss", ["mse", own_mse])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_changes_and_training_continues_as_without_it(backend, loss, dtype):
    t, untouched = make(backend, loss, dtype), make(backend, loss, dtype)
    before = everything(t)
    bp.lr_find(t, X, Y, batch_size=8, sample_weight=np.arange(40) % 3)
    assert everything(t) == before
    for trainer in (t, untouched):
        trainer.fit(X, Y, epochs=2, batch_size=8)
    assert t.history["loss"] == untouched.history["loss"]
    np.testing.assert_array_equal(t.net.params, untouched.net.params)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_nothing_changes_after_an_error(backend, error):
    calls = []

    def loss(outputs, targets, weight):
        calls.append(1)
        if len(calls) == 25:
            raise error
        return own_mse(outputs, targets, weight)

    t = bp.Trainer(bp.mlp([3, 8, 2], seed=1, backend=backend), loss)
    t.step(X, Y)
    before = everything(t)
    with pytest.raises(error):
        bp.lr_find(t, X, Y)
    assert everything(t) == before


def test_too_few_points_give_no_suggestion(backend):
    found = bp.lr_find(make(backend), np.full_like(X, 1e38), Y)
    assert len(found.lrs) == 0
    with pytest.raises(ValueError, match="after 0 of 100 rates.*use a lower start_lr"):
        _ = found.suggestion


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"start_lr": 0}, ValueError),
        ({"start_lr": 1, "end_lr": 0.1}, ValueError),
        ({"end_lr": math.inf}, ValueError),
        ({"start_lr": "a"}, TypeError),
        ({"stop_div": "a"}, TypeError),
        ({"num_it": 5}, ValueError),
        ({"num_it": 10.5}, TypeError),
        ({"batch_size": 0}, ValueError),
        ({"sample_weight": np.zeros(40)}, ValueError),
    ],
)
def test_wrong_arguments_are_refused(backend, options, error):
    t = make(backend)
    before = everything(t)
    with pytest.raises(error):
        bp.lr_find(t, X, Y, **options)
    assert everything(t) == before


def test_a_network_instead_of_a_trainer_is_refused():
    with pytest.raises(TypeError, match=r"must be a bp\.Trainer, not Network"):
        bp.lr_find(make("compiled").net, X, Y)


def test_lr_find_plot(tmp_path):
    figures = pytest.importorskip("matplotlib.figure", reason="matplotlib is not installed")
    found = bp.lr_find(make("compiled"), X, Y)
    own = figures.Figure().subplots()
    assert found.plot(own) is own
    axes = found.plot()
    assert axes.get_xscale() == "log"
    low, high = axes.get_ylim()
    assert low < found.losses.min() < found.smoothed[0] < high
    batch, smoothed, *marks = axes.lines
    assert (batch.get_ydata() == found.losses).all() and (smoothed.get_ydata() == found.smoothed).all()
    for mark, rate in zip(marks, (found.valley, found.steep, found.minimum), strict=True):
        np.testing.assert_allclose(mark.get_xydata(), [[rate, np.interp(rate, found.lrs, found.smoothed)]])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    rates = [f"{name}: {rate:.2g}" for name, rate in (("valley, the suggestion", found.suggestion), ("steep", found.steep))]
    assert labels == [
        "loss of the batch",
        "smoothed",
        *rates,
        f"minimum / 10: {found.minimum:.2g} (lowest at {10 * found.minimum:.2g})",
    ]
    axes.figure.savefig(tmp_path / "found.png")
