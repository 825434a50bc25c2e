"""Plots of training: curves, searches, comparisons, paths and layers show the numbers that they are given."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from optimizer_cases import FLAT, OPTIMIZERS
from plot_cases import COUNTED, HISTORY, PATH, WATCHED, rosenbrock, swept, watched

import microbp as bp
from microbp import plot

NAN = float("nan")


def labels(axes):
    """The texts of the legend."""
    return [text.get_text() for text in axes.get_legend().get_texts()]


def data(lines):
    return [line.get_xydata().tolist() for line in lines]


# ---- curves ----


def test_curves_show_the_history_and_its_best_epoch():
    training, validation, best = plot.learning_curves(HISTORY).lines
    assert training.get_ydata().tolist() == HISTORY["loss"]
    assert validation.get_ydata().tolist() == HISTORY["val_loss"]
    assert best.get_xydata().tolist() == [[2, 0.4]]


def test_curves_of_the_loss_of_an_output():
    history = HISTORY | {"loss_a": [3.0, 2.0, 1.0], "val_loss_a": [4.0, 3.0, 5.0], "accuracy_a": [0.5, 0.6, 0.7]}
    training, validation, best = plot.learning_curves(history, "loss_a").lines
    assert [list(line.get_ydata()) for line in (training, validation)] == [history["loss_a"], history["val_loss_a"]]
    assert best.get_xydata().tolist() == [[2, 3.0]], "the epoch with the lowest validation loss"
    alone = plot.learning_curves(history, "val_loss_a")
    assert alone.lines[0].get_label() == "validation" and alone.get_yscale() == "log"
    assert plot.learning_curves(history, "accuracy_a").get_yscale() == "linear"


@pytest.mark.parametrize("top", [0.3, 0.62, 0.97, 1.0])
def test_the_accuracy_axis_ends_where_the_data_ends(top):
    values = np.linspace(top - 0.1, top, 20)
    axes = plot.learning_curves({"loss": np.geomspace(1, 0.1, 20), "accuracy": values}, "accuracy")
    assert top <= axes.get_ylim()[1] <= min(top + 0.02, 1.01)


def test_epochs_without_validation_leave_gaps():
    nan = float("nan")
    axes = plot.learning_curves({"loss": [3.0, 2.0, 1.0], "val_loss": [nan, 1.5, 2.5], "lr": [1.0, 0.5, 0.2]})
    assert axes.lines[-1].get_xydata().tolist() == [[2, 1.5]]
    assert axes.get_yscale() == "log"
    axes = plot.learning_curves({"loss": [3.0], "val_loss": [nan]})
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]


def test_entries_without_a_finite_number_give_no_warning():
    with warnings.catch_warnings(action="error"):
        for name in ("loss", "val_loss", "accuracy"):
            plot.learning_curves(dict.fromkeys(("loss", "val_loss", "accuracy", "lr"), [NAN] * 3), name, lr=True)


def test_a_history_may_contain_arrays_and_the_curve_of_lr_has_no_legend():
    with warnings.catch_warnings(action="error"):
        axes = plot.learning_curves({"loss": np.ones(3), "lr": np.array([0.1, 0.2, 0.3])}, "lr")
    assert axes.lines[0].get_ydata().tolist() == [0.1, 0.2, 0.3]
    assert axes.get_legend() is None


def test_the_learning_rate_has_an_axis_of_its_own():
    rates = [0.1, 0.1, 0.01]
    axes = plot.learning_curves(HISTORY | {"lr": rates}, lr=True)
    (line,) = axes.figure.axes[1].lines
    assert line.get_xydata().tolist() == [[1, 0.1], [2, 0.1], [3, 0.01]]
    assert labels(axes)[-1] == "learning rate" and axes.lines[0].get_ydata().tolist() == HISTORY["loss"]
    assert len(plot.learning_curves(HISTORY | {"lr": rates}).figure.axes) == 1


# ---- searches ----


def test_marks_of_a_range_test_are_at_their_rates():
    X = np.random.default_rng(0).normal(size=(200, 3))  # noqa: N806
    result = bp.lr_find(bp.Trainer(bp.mlp([3, 8, 1], seed=0), loss="mse"), X, X[:, :1] ** 2)
    marks = {line.get_label().partition(":")[0]: line.get_xdata()[0] for line in plot.lr_find(result).lines[2:]}
    assert marks == {"valley, the suggestion": result.valley, "steep": result.steep, "minimum / 10": result.minimum}


def test_a_sweep_plots_its_scores_or_its_curves():
    result = swept([1e-1, 1e-3, 1e-2], (np.nan, 0.5, 0.1))
    scores, best, failed, _ = result.plot().lines
    np.testing.assert_array_equal(scores.get_xydata(), [[1e-3, 0.5], [1e-2, 0.1], [1e-1, np.nan]])
    assert best.get_xydata().tolist() == [[1e-2, 0.1]] and best.get_label() == "the best: 0.01"
    assert failed.get_xdata().tolist() == [1e-1] and labels(scores.axes)[-1] == "failed or diverged"
    curves = result.plot(curves=True).lines
    assert [line.get_label() for line in curves] == ["lr = 0.1", "lr = 0.001", "lr = 0.01"]
    assert [line.get_ydata().tolist() for line in curves] == [[], [1.0, 0.5], [1.0, 0.1]]


@pytest.mark.parametrize("curves", [False, True])
def test_a_sweep_leaves_no_room_for_what_diverged(curves):
    axes = swept([1e-3, 1e-2, 1e-1, 1.0], (0.5, 0.2, 0.3, 1e30)).plot(curves=curves)
    low, high = axes.get_ylim()
    assert low < 0.2 and high < 100


@pytest.mark.parametrize(
    ("values", "scale", "labels"),
    [
        ([1, 2, 3], "linear", None),
        ([0, 1e-4, 1], "linear", None),
        ([1e-4, 1e-2, 1], "log", None),
        (["relu", "$x$ tanh", "sin"], "linear", ["relu", "$x$ tanh", "sin"]),
        ([True, False, None], "linear", ["True", "False", "None"]),
        ([(8,), (8, 8), (64, 64)], "linear", ["(8,)", "(8, 8)", "(64, 64)"]),
    ],
)
def test_the_axis_of_a_sweep_suits_its_values(values, scale, labels):
    axes = plot.sweep(swept(values, rises=True))
    assert axes.get_xscale() == scale and axes.lines[1].get_label() == f"the best: {values[0]}"
    axes.figure.draw_without_rendering()
    assert labels is None or [label.get_text() for label in axes.get_xticklabels()] == labels
    assert not any(label.get_parse_math() for label in axes.get_xticklabels()) or labels is None


# ---- several trainings ----

SLOW = {"loss": [3.0, 2.0, 1.0], "val_loss": [3.0, 2.5, 2.0], "lr": [0.5, 0.1, 0.1], "seconds": [1.0, 2.0, 3.0]}
FAST = {"loss": [2.0, 1.0], "val_loss": [2.0, 1.5], "lr": [0.1, 0.1], "seconds": [0.5, 0.5]}


def test_histories_are_compared_by_their_validation_loss_over_epochs_or_seconds():
    axes = plot.compare({"slow": SLOW, "fast": FAST})
    assert axes.get_ylabel() == "val_loss" and labels(axes) == ["slow: lr = 0.5", "fast: lr = 0.1"]
    assert data(axes.lines) == [[[1, 3.0], [2, 2.5], [3, 2.0]], [[1, 2.0], [2, 1.5]]]
    axes = plot.compare({"slow": SLOW, "fast": FAST}, "loss", seconds=True)
    assert data(axes.lines) == [[[1, 3.0], [3, 2.0], [6, 1.0]], [[0.5, 2.0], [1.0, 1.0]]]
    assert axes.get_xlabel() == "seconds of training"
    alone = {name: values for name, values in FAST.items() if name not in ("val_loss", "lr")}
    axes = plot.compare({"slow": SLOW, "fast": alone})
    assert axes.get_ylabel() == "loss" and labels(axes)[1] == "fast"


def test_of_several_seeds_all_are_drawn_with_their_median():
    curves = [[3.0, 2.0, NAN], [1.0, 4.0], [2.0, 3.0, 1.0]]
    axes = plot.compare({"a": [{"loss": curve} for curve in curves]})
    assert [line.get_ydata().tolist() for line in axes.lines[1:3]] == curves[1:]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), curves[0])
    assert axes.lines[3].get_ydata().tolist() == [2.0, 3.0] and labels(axes) == ["a"]


def test_of_sweeps_the_value_with_the_best_median_is_compared():
    values = [1e-3, 1e-2, 1e-1]
    sweeps = [swept(values, scores) for scores in ([0.5, 0.1, 0.3], [0.4, 0.6, 0.3], [0.5, 0.5, NAN])]
    axes = plot.compare({"a": sweeps, "b": sweeps[0]})
    assert labels(axes) == ["a: lr = 0.001", "b: lr = 0.01"]  # 0.1 failed once; the medians of the others are 0.5 and 0.5: the first
    assert [line.get_ydata().tolist() for line in axes.lines] == [[1.0, 0.5], [1.0, 0.4], [1.0, 0.5], [1.0, 0.5], [1.0, 0.1]]


def test_a_curve_that_diverges_leaves_the_others_their_room():
    axes = plot.compare({"a": {"loss": [1.0, 0.5, 0.2]}, "b": {"loss": [1.0, 2.0, 1e30]}})
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), [1.0, 2.0, NAN])
    assert axes.get_ylim()[1] < 100
    axes = plot.compare({"a": {"loss": [0.1], "accuracy": [0.9]}, "b": {"loss": [0.1], "accuracy": [1.0]}}, "accuracy")
    assert 1.0 <= axes.get_ylim()[1] <= 1.01


def test_several_sweeps_share_the_axis_of_the_rates():
    values, other = [1e-3, 1e-1, 1e-2], [1e-4, 1e-2, 1.0]
    axes = plot.sweep({"a": swept(values), "b": [swept(other, [0.4, 0.2, NAN]), swept(other, [0.6, 0.3, 0.5])]})
    assert axes.get_xscale() == "log" and labels(axes) == ["a: best 0.1", "b: best 0.01", "failed or diverged"]
    a, ring, _, *thin, b, ring_b, failed, _ = axes.lines
    assert data([a, ring, ring_b]) == [[[1e-3, 0.5], [1e-2, 0.3], [1e-1, 0.1]], [[1e-1, 0.1]], [[1e-2, 0.25]]]
    np.testing.assert_array_equal(thin[0].get_xydata(), [[1e-4, 0.4], [1e-2, 0.2], [1.0, NAN]])
    np.testing.assert_array_equal(b.get_xydata(), [[1e-4, 0.5], [1e-2, 0.25], [1.0, NAN]])
    assert failed.get_xdata().tolist() == [1.0] and failed.get_color() == b.get_color() != a.get_color()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot.compare({}), "compare: the dict of runs is empty"),
        (lambda: plot.compare({"a": []}), "compare: a list of runs is empty"),
        (lambda: plot.compare(HISTORY), "compare: the runs of 'loss' must be histories such as t.history, or results of bp.sweep"),
        (lambda: plot.compare({"a": {}}), "unknown entry of the history 'loss'"),
        (lambda: plot.compare({"a": {"loss": []}}), "compare: 'loss' of a history is empty; call fit first"),
        (lambda: plot.compare({"a": HISTORY}, "acuracy"), "unknown entry of the history 'acuracy'; did you mean 'accuracy'"),
        (lambda: plot.compare({"a": HISTORY}, seconds=True), "unknown entry of the history 'seconds'"),
        (lambda: plot.compare([HISTORY]), "compare: pass a dict by the names for the legend"),
        (lambda: plot.compare({"a": 3}), "compare: the runs of 'a' must be histories such as t.history"),
        (lambda: plot.compare({"a": [swept([1.0]), swept([2.0])]}), "sweeps of 'a' must have the same setting, monitor and values"),
        (lambda: plot.compare({"a": [swept([1.0], [0.5]), swept([1.0], [NAN])]}), "a training of 'a' failed with each value"),
        (lambda: plot.sweep({"a": HISTORY}), "sweep: pass a result of bp.sweep, or a dict of several by name"),
        (lambda: plot.sweep(HISTORY["loss"]), "sweep: pass a result of bp.sweep, or a dict of several by name"),
        (lambda: plot.sweep({"a": swept([1.0, 2.0, 3.0]), "b": swept("abc")}), "sweep: the results must have the same values"),
        (lambda: plot.sweep({"a": swept([1.0])}, curves=True), "bp.plot.compare draws the best curves of several"),
        (lambda: plot.learning_curves(HISTORY, lr=True), "learning_curves: the history has no learning rate 'lr'"),
        (lambda: plot.learning_curves(HISTORY, lr=1), "learning_curves: lr must be True or False"),
        (lambda: plot.layers(HISTORY), "layers: the history has no 'update' of layers; call fit with watch='layers'"),
        (lambda: plot.layers(WATCHED, "gradients"), "unknown number of a layer 'gradients'; did you mean 'gradient'"),
        (lambda: plot.histograms(COUNTED, "dense_9"), "unknown layer 'dense_9'"),
        (lambda: plot.histograms(bp.Histograms(bp.mlp([1, 1]), [[0.0]])), "histograms: nothing was counted"),
        (lambda: plot.paths(rosenbrock, {}), "paths: points is empty"),
        (lambda: plot.paths(rosenbrock, {"a": [[1, 2, 3]]}), r"paths: the path of 'a' must have the shape \(points, 2\) .* is \(1, 3\)"),
        (lambda: plot.paths(rosenbrock, {"a": [[NAN, 1.0]]}), "paths: the path of 'a' must have .* a finite start"),
        (lambda: plot.paths(rosenbrock, {"a": PATH}, limits=(0, 1)), r"paths: limits must be \(\(low, high\), \(low, high\)\)"),
        (lambda: plot.path_of(rosenbrock, [[1.0, 2.0]], "sgd"), r"path_of: start must be finite numbers of shape \(n,\)"),
        (
            lambda: plot.path_of(lambda x: x @ x, [1.0, 2.0], "sgd"),
            r"path_of: function must return its value and its gradient of shape \(2,\)",
        ),
        (lambda: plot.path_of(rosenbrock, [1.0, 2.0], "sdg"), "did you mean 'sgd'"),
        (lambda: plot.path_of(rosenbrock, [1.0, 2.0], "sgd", steps=0), "path_of: steps must be"),
    ],
)
def test_invalid_arguments_are_refused(draw, message):
    with pytest.raises((ValueError, TypeError), match=message):
        draw()


# ---- paths ----


def test_paths_and_contours():
    axes = plot.paths(rosenbrock, {"a": PATH, "b": [*PATH[:2], [NAN, 0.0]]}, limits=((-2, 2), (-1, 3)))
    a, end, b, end_b, *starts = axes.lines
    assert data([a, end, b, end_b]) == [PATH, PATH[-1:], PATH[:2], PATH[1:2]] and data(starts) == [PATH[:1]] * 2
    assert labels(axes) == ["a: 2 steps to 0", "b: 1 step to 2.5"]
    assert axes.get_xlim() == (-2, 2)
    (contours,) = axes.collections
    for level, path in zip(contours.levels, contours.get_paths()):
        found = [rosenbrock(x)[0] for x in path.vertices]
        assert np.allclose(found, level, rtol=0.2, atol=5)  # between points of the grid, it is linear


@pytest.mark.parametrize("function", [lambda x: rosenbrock(x)[0], lambda x: np.float32(rosenbrock(x)[0])])
def test_contours_need_only_values(function):
    levels = [plot.paths(one, {"a": PATH}).collections[0].levels for one in (function, rosenbrock)]
    np.testing.assert_allclose(*levels, rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_path_is_that_of_the_textbook(name):
    case, p = OPTIMIZERS[name], 1.0
    slots, points = [*case.slots.values(), 0.0], [p]
    for step in range(1, 4):
        gradient = 2 * p
        if case.decoupled:
            p = case.hand(p if name == "lamb" else p - 0.1 * 0.1 * p, gradient, slots, step)
        else:
            p = case.hand(p, gradient + 0.1 * p, slots, step)
        points.append(p)
    found = plot.path_of(lambda x: (x @ x, 2 * x), [1.0], f"{name}(lr=0.1,weight_decay=0.1)", steps=3)
    np.testing.assert_allclose(found[:, 0], points, rtol=1e-7)


@pytest.mark.parametrize("name", ["rosenbrock", "beale", "wood"])
@pytest.mark.parametrize("solver", ["lbfgs", "scg"])
def test_solvers_walk_to_the_minimum(name, solver):
    case = FLAT[name]
    path = plot.path_of(lambda x: tuple(map(np.asarray, case(x))), case.start, solver, steps=400)
    assert path[0].tolist() == list(case.start) and path.dtype == np.float64
    np.testing.assert_allclose(path[-1], case.minimum, atol=1e-4)


def test_without_finite_values_paths_have_no_contours():
    axes = plot.paths(lambda x: float("nan"), {"a": PATH})
    assert not axes.collections and axes.lines[0].get_xydata().tolist() == np.asarray(PATH).tolist()


def test_a_path_ends_where_its_numbers_do():
    with warnings.catch_warnings(action="error"), np.errstate(over="ignore"):
        path = plot.path_of(rosenbrock, [-1.2, 1.0], "sgd(lr=1)", steps=50)
    assert 2 < len(path) < 20 and np.isfinite(path).all()


def test_marks_are_seen_on_dark_axes():
    from matplotlib import style
    from matplotlib.colors import same_color

    with style.context("dark_background"):
        start = plot.paths(rosenbrock, {"a": PATH[:2]}).lines[-1]
        rings = [plot.learning_curves(HISTORY).lines[-1], plot.sweep(swept([1.0, 2.0, 3.0])).lines[-2]]
    assert same_color(start.get_color(), "white")
    assert all(same_color(ring.get_markeredgecolor(), "white") and len(ring.get_xdata()) == 1 for ring in rings)


# ---- layers ----


def test_layers_show_the_epochs_that_were_measured():
    history = {"a.gradient": [1e-4, NAN, 2e-4, 0.0], "b.gradient": [0.1, NAN, 0.2, NAN], "loss": [1.0] * 4, "a.weight": [1.0] * 4}
    axes = plot.layers(history, "gradient")
    a, b, _, zeros = axes.lines
    assert data([a, b]) == [[[1, 1e-4], [3, 2e-4]], [[1, 0.1], [3, 0.2]]] and zeros.get_xdata().tolist() == [4]
    assert labels(axes) == ["a", "b", "first / last layer: 0.001", "0 in a"] and axes.get_yscale() == "log"


def test_the_update_is_shown_relative_to_the_weights():
    lines = plot.layers(WATCHED).lines
    for line, layer in zip(lines[:3], ("dense_0", "dense_1", "dense_2"), strict=True):
        ratio = np.divide(WATCHED[f"{layer}.update"], WATCHED[f"{layer}.weight"])
        assert line.get_xydata().tolist() == [[i + 1, one] for i, one in enumerate(ratio) if np.isfinite(one)]
    assert set(lines[3].get_ydata()) == {1e-3}
    assert np.isfinite(lines[0].get_ydata()).all() and len(lines[0].get_ydata()) >= 2


def test_a_layer_without_weights_has_no_ratio():
    assert labels(plot.layers({"a.update": [0.1], "a.weight": [0.0], "b.update": [0.2], "b.weight": [2.0]}))[:2] == ["a", "b"]
    axes = plot.layers({"a.update": [0.0]}, "update")
    assert labels(axes)[-1] == "0 in a"


@pytest.mark.parametrize("weights", [False, True])
def test_histograms_have_the_shape_of_the_counts(weights):
    found = COUNTED.weights if weights else COUNTED.activations
    for name, one in found.items():
        for patch, counts in zip(plot.histograms(COUNTED, name, weights=weights).patches, one.counts, strict=True):
            heights, edges, baseline = patch.get_data()
            inside = np.searchsorted(one.edges, edges)  # the bins at the ends that are always empty are left out
            np.testing.assert_array_equal(edges, one.edges[inside])
            np.testing.assert_allclose((heights - baseline) / (heights - baseline).max(), counts[inside[:-1]] / counts.max(), atol=1e-12)
            assert counts[inside[:-1]].sum() == counts.sum()


def test_histograms_of_layers_without_a_finite_number_are_flat():
    net = bp.mlp([1, 2, 1], seed=0)
    net.params[...] = NAN
    found = bp.Histograms(net, [[1.0]])
    found.count(0)
    with warnings.catch_warnings(action="error"):
        for weights in (False, True):
            assert not any(np.ptp(patch.get_data().values) for patch in plot.histograms(found, weights=weights).patches)


def test_histograms_of_all_layers_and_of_many_epochs():
    _, found = watched(epochs=40)
    axes = plot.histograms(found)
    shown = [int(label.get_text()) for label in axes.get_yticklabels()]
    assert len(shown) == 12 and shown[0] == 1 and shown[-1] == 40 and (np.diff(shown) >= 3).all()
    assert len(axes.patches) == 12 * 3
    assert [label.get_text().split("\n")[0] for label in axes.get_xticklabels()] == ["dense_0", "dense_1", "dense_2"]
    edges = np.array([patch.get_data().edges[[0, -1]] for patch in axes.patches[::12]])
    np.testing.assert_allclose(edges, [[0, 0.9], [1, 1.9], [2, 2.9]])
