"""The playground: one page, which trains the library as WebAssembly. Every control works, wrong input breaks nothing, and the numbers have
the bits of Python's."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest
from browser import View

import microbp as bp

BUILD = Path(__file__).parents[2] / "docs/playground/build.py"
SETS = {"Circle": "two", "XOR": "two", "Two moons": "two", "Spiral": "two", "Gaussians": "three", "Wave": "curve"}


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, built once."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the package ziglang, which compiles C to WebAssembly, is not installed")
    path = tmp_path_factory.mktemp("playground") / "playground.html"
    done = subprocess.run([sys.executable, BUILD, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no warnings
    return path


class Play:
    """The page in a window."""

    def __init__(self, view: View) -> None:
        self.view, self.page = view, view.page
        self.wait("document.querySelector('#sets button') && core.task")

    def js(self, code: str) -> Any:
        return self.page.evaluate(code)

    def wait(self, code: str) -> None:
        """Until this is true. The page's policy forbids playwright's own way, which is `eval` in the page."""
        for _ in range(600):
            if self.js(code):
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"after 30 s, not {code}")

    def set(self, name: str, value: Any) -> None:
        """Changes a field as a user does."""
        field = self.page.locator(f"#{name}")
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(str(value))
        else:
            field.fill(str(value))
            field.dispatch_event("change")

    def press(self, text: str) -> None:
        self.page.get_by_role("button", name=text, exact=True).click()

    def train(self, epochs: int) -> None:
        """As One epoch does, several times."""
        self.js(f"attempt(() => train({epochs})), show()")

    @property
    def message(self) -> str:
        return str(self.page.inner_text("#message"))

    @property
    def score(self) -> float:
        return float(self.js("core.measure()"))

    @property
    def params(self) -> np.ndarray[Any, Any]:
        """Those that are learnt."""
        count = self.js(
            "Object.entries(core.explain(0).tensors).reduce((n, [name, t]) => n + !name.startsWith('probe_') * t.numbers.length, 0)"
        )
        return np.array(self.js(f"Array.from(core.floats(core.c.params(Core.TRAINED), {count}))"), np.float32)

    def points(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """X and y, as Python reads them."""
        task, rows = self.js("state.task"), self.js("used().map(({x, y, label}) => [x, y, label])")
        array = np.array(rows)
        return (array[:, :1], array[:, 1]) if task == "curve" else (array[:, :2], array[:, 2].astype(int))


@pytest.fixture
def play(chromium: Any, page: Path) -> Iterator[Play]:
    """The page, opened; it must not have reported errors at the end."""
    with View(chromium, page) as view:
        yield Play(view)
        assert view.errors == []


def test_it_is_one_small_file_that_names_no_address(page):
    text = page.read_text("utf-8")
    assert len(text.encode()) <= 400_000
    assert not [part for part in ("http://", "https://", "src=", "@import", "url(") if part in text]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 800, 1200])
@pytest.mark.parametrize("name", ["Circle", "Gaussians", "Wave"])
def test_a_reader_finds_no_fault(chromium, page, name, width, dark):
    with View(chromium, page, width=width, dark=dark) as view:
        play = Play(view)
        play.press(name)
        assert view.faults() == []
        play.train(300)
        play.js("document.querySelector('[data-unit=\"1 3\"]').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
        assert "dense_0[3]" in play.page.inner_text("#words")
        play.set("lr", "-1")
        assert play.message
        assert view.faults() == []


@pytest.mark.parametrize("name", ["Circle", "XOR", "Two moons"])
def test_it_learns_when_the_button_is_pressed(play, name):
    play.press(name)
    play.press("Learn")
    play.wait("core.measure() > 0.95")
    play.press("Pause")
    epoch = play.js("core.epoch")
    play.page.wait_for_timeout(100)
    assert play.js("core.epoch") == epoch > 0
    assert play.page.inner_text("#epoch") == f"{epoch:,}"


def test_it_trains_thousands_of_steps_per_second(play):
    """2-8-8-1, 10 rows per step: the page shows about 300,000 on a machine of its own."""
    play.set("pace", "Infinity")
    play.press("Learn")
    play.wait("Number(document.querySelector('#speed').textContent.replaceAll(',', '')) >= 2000")


@pytest.mark.parametrize("name", SETS)
def test_every_activation_trains_on_every_data_set(play, name):
    play.press(name)
    assert play.js("state.task") == SETS[name]
    for activation in cases.ACTIVATIONS:
        for layer in (1, 2):
            play.page.get_by_label(f"Activation of layer {layer}").select_option(activation)
        before = play.js("core.fit(10, 1)[0]")
        after = play.js("core.fit(10, 40)[39]")
        assert play.message == "" and after < before, activation


def test_every_activation_and_optimizer_can_be_chosen(play):
    activations = play.js("[...document.querySelector('#layers select').options].map(option => option.value)")
    assert sorted(activations) == sorted(cases.ACTIVATIONS)
    for name in play.js("[...document.querySelector('#optimizer').options].map(option => option.value)"):
        play.set("optimizer", name)
        play.train(5)
        assert play.message == "" and play.js("core.steps") == 100, name
        assert play.page.inner_text("#meaning").startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "fields", "epochs"),
    [
        ("Circle", {}, 60),
        ("Gaussians", {"optimizer": "sgd_nesterov", "lr": 0.05, "batch": 7, "seed": 11}, 20),
        ("Wave", {"optimizer": "rprop_minus", "batch": 200, "penalty": "l1", "strength": 0.002}, 30),
        ("Spiral", {"penalty": "dropout", "strength": 0.1, "seed": 4294967295}, 25),
        ("XOR", {"penalty": "l2", "strength": 0.01, "optimizer": "lion", "lr": 0.001}, 25),
    ],
)
def test_the_numbers_have_the_bits_of_the_python_program_that_it_shows(play, monkeypatch, name, fields, epochs):
    """WebAssembly has no fused multiply-add, and neither has SSE2."""
    for field, value in fields.items():
        play.set(field, value)
    play.press(name)
    program = play.page.inner_text("#python")
    play.train(epochs)
    if "sse2" not in cases.ISAS:
        pytest.skip("this machine has no SSE2")
    monkeypatch.setenv("MICROBP_ISA", "sse2")
    X, y = play.points()  # noqa: N806
    names: dict[str, Any] = {"X": X, "y": y}
    exec(program.replace("epochs=100", f"epochs={epochs}"), names)
    net = names["net"]
    assert net.text().strip() == play.js("core.graph(Core.TRAINED)").strip()
    assert np.array_equal(net.params, play.params)
    assert names["t"].history["loss"][-1] == play.js("losses.last")
    predicted = play.js(f"Array.from(core.predict(Float32Array.from({json.dumps(X.ravel().tolist())})))")
    assert np.array_equal(np.ravel(net.predict(X)), np.array(predicted, np.float32))


GRAPHS = {
    "chain": """input 2
        dense 0 units=3 activation=softplus
        dense 1 units=1 bias=0
        output 2""",
    "skip": """input 2
        dense 0 units=3 activation=affine(factor=2, addend=1) l2=0.1
        dropout 1 rate=0.3
        dense 2 units=3
        add 1 3
        dense 4 units=1
        output 5""",
    "others": """input 2
        dense 0 layer=probe_1 units=3 activation=gelu
        batch_norm 1
        concat 0 2
        multiply 3 3
        layer_norm 4
        scale 5
        dense 6 units=1
        output 7""",
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_derivatives_of_a_point_are_those_of_differences(play, name):
    """Of each value of the drawing: what the loss changes by if something is added to it."""
    play.set("graph", "\n".join(line.strip() for line in GRAPHS[name].splitlines()))
    play.press("Use this text")
    assert play.message == ""
    play.train(3)
    differences = play.js("""() => {
        const grads = explained(core, probe, 3, '').blocks.map(({units}) => units.map(({grad}) => grad)), shape = core.place('shape', 12)
        const change = (offset, by) => {
            core.floats(core.c.params(Core.PROBE), offset + 1)[offset] = by
            return core.explain(3).loss
        }
        const offsets = {}
        for (let k = 0, name, layer = core.place('layer', 4); (name = core.c.tensor(k, layer, shape)); k++)
            offsets[`${core.text(core.ints(layer, 1)[0])}.${core.text(name)}`] = core.ints(shape, 3)[0]
        return probe.nodes.flatMap(({value}, node) => grads[node].map((grad, j) => {
            const offset = offsets[`${probe.prefix}${value}.bias`] + j
            const found = [grad, (change(offset, 0.01) - change(offset, -0.01)) / 0.02]
            change(offset, 0)
            return found
        }))
    }""")
    given, expected = np.array(differences).T
    assert np.abs(given).max() > 0.01
    assert np.allclose(given, expected, rtol=0.02, atol=1e-3)  # float32: a loss has an error of about 1e-7, a difference of 1e-5


WRONG = {
    "lr": ["-1", "", "1e999"],
    "batch": ["0", "2.5", ""],
    "seed": ["-1", "0.5", "4294967296"],
    "strength": ["-0.1", ""],
}


@pytest.mark.parametrize("field", WRONG)
def test_wrong_numbers_get_a_message_and_change_nothing(play, field):
    play.train(5)
    before, right = play.params, play.page.input_value(f"#{field}")
    for value in WRONG[field]:
        play.set(field, value)
        assert play.message and play.page.get_attribute(f"#{field}", "aria-invalid") == "true", value
        play.press("Gaussians")  # refused too, for the same reason
        assert play.js("state.task") == "two" and play.page.input_value("#task") == "two"
        assert np.array_equal(play.params, before)
    play.set(field, right)
    play.press("Start again")
    assert play.message == "" and play.page.get_attribute(f"#{field}", "aria-invalid") == "false"
    play.train(5)
    assert np.array_equal(play.params, before)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ("input 2\ndense 0 units=8 activation=tanhh\noutput 1", "tanhh"),
        ("input 2\ndense 7 units=1\noutput 1", "7"),
        ("input 3\ndense 0 units=1\noutput 1", "one input of width 2"),
        ("input 2\ndense 0 units=2\noutput 1", "one output of width 1"),
        ("", "output"),
        ("input 2\ndense 0 units=2000000\ndense 1 units=1\noutput 2", "choose smaller layers"),
        ("input 2\nrecurrent 0 units=2\ndense 1 units=1\noutput 2", "recurrent"),
    ],
)
def test_a_wrong_graph_text_gets_the_librarys_error_and_changes_nothing(play, graph, message):
    play.train(5)
    before = play.params
    play.set("graph", graph)
    play.press("Use this text")
    assert message in play.message
    assert np.array_equal(play.params, before)
    play.press("One epoch")
    assert play.js("core.epoch") == 6
    play.press("Start again")
    assert play.message == ""


def test_a_loss_that_is_not_finite_stops_with_advice(play):
    play.press("Wave")
    play.set("optimizer", "sgd")
    play.set("lr", "1000")
    play.press("Learn")
    play.wait("!state.running")
    assert "smaller learning rate" in play.message and play.page.inner_text("#run") == "Learn"
    assert play.view.faults() == []
    play.set("lr", "0.01")
    play.press("Start again")
    assert play.message == ""
    play.train(50)
    assert play.message == "" and play.score < 1


def test_points_are_drawn_erased_and_chosen_by_the_mouse(play):
    play.press("Clear")
    play.press("Learn")
    play.wait("!state.running")
    assert "no points" in play.message
    box = play.page.locator("#plane").bounding_box()
    mouse = play.page.mouse

    def drag(tool: str, places: list[tuple[float, float]]) -> None:
        play.page.check(f"[name=tool][value='{tool}']")
        mouse.move(*(box[side] + box[size] * at for side, size, at in zip("xy", ("width", "height"), places[0])))
        mouse.down()
        for place in places[1:]:
            mouse.move(*(box[side] + box[size] * at for side, size, at in zip("xy", ("width", "height"), place)), steps=20)
        mouse.up()

    drag("0", [(0.2, 0.2), (0.2, 0.8)])
    drag("1", [(0.8, 0.2), (0.8, 0.8)])
    X, y = play.points()  # noqa: N806
    assert np.sum(y == 0) >= 8 and np.sum(y == 1) >= 8
    assert (X[y == 0, 0] < -0.5).all() and (X[y == 1, 0] > 0.5).all()
    play.train(100)
    assert play.score == 1
    drag("choose", [(0.8, 0.8)])
    assert "of class 1" in play.page.inner_text("#words")
    drag("erase", [(0.8, 0.2), (0.8, 0.8)])
    assert set(play.points()[1]) == {0}


def test_points_are_drawn_by_keys(play):
    play.press("Clear")
    play.page.focus("#plane")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Enter"):
        play.page.keyboard.press(key)
    X, y = play.points()  # noqa: N806
    assert np.allclose(X, [[0.1, 0.05]]) and list(y) == [0]


def test_layers_are_added_changed_and_removed(play):
    play.press("Add a layer")
    play.page.get_by_label("Units of layer 3").fill("5")
    play.page.get_by_label("Units of layer 3").dispatch_event("change")
    play.page.get_by_label("Activation of layer 1").select_option("relu")
    assert play.page.input_value("#graph").splitlines()[1:4] == [
        "dense 0 units=8 activation=relu", "dense 1 units=8 activation=tanh", "dense 2 units=5 activation=tanh",
    ]  # fmt: skip
    for _ in range(3):
        play.page.get_by_role("button", name="Remove layer 1").click()
    assert play.page.input_value("#graph") == "input 2\ndense 0 units=1\noutput 1"
    for _ in range(6):
        play.press("Add a layer")
    assert play.page.is_disabled("#add")
    play.page.get_by_label("Units of layer 2").fill("65")
    play.page.get_by_label("Units of layer 2").dispatch_event("change")
    assert "from 1 to 64" in play.message


def test_a_task_keeps_the_points_of_the_others(play):
    play.press("Gaussians")
    before = play.js("state.points")
    play.set("task", "two")
    assert len(play.points()[0]) == sum(point["label"] < 2 for point in before)
    play.train(5)
    play.set("task", "three")
    assert play.js("state.points") == before and len(play.points()[0]) == len(before)
    assert play.message == ""


def test_the_drawing_shows_the_numbers_of_the_library(play):
    """The boxes of a chain against the network in Python: values by predict, derivatives by the input by jacobian."""
    play.train(20)
    shown = play.js("explained(core, probe, 5, '').blocks.map(({units}) => units.map(({value, grad, sum}) => [value, grad, sum]))")
    X, y = play.points()  # noqa: N806
    x = h = bp.Input(2)
    for units, activation in ((8, "tanh"), (8, "tanh"), (1, "identity")):
        h = bp.Dense(units, activation=activation)(h)
    net = bp.Network(x, h)
    net.params[:] = play.params
    net.set_output(0, "sigmoid")
    for node, block in enumerate(shown):
        assert np.allclose([value for value, _, _ in block], net.predict(X[5:6], at=node)[0], rtol=1e-5, atol=1e-6)
    by_output = float(net.predict(X[5:6]).ravel()[0]) - y[5]  # of bce by the raw output
    assert np.isclose(shown[-1][0][1], by_output, rtol=1e-4, atol=1e-6)
    assert np.allclose([grad for _, grad, _ in shown[0]], by_output * net.jacobian(X[5:6], by="inputs")[0, 0], rtol=1e-3, atol=1e-6)


def test_build_says_what_it_needs():
    done = subprocess.run([sys.executable, BUILD], capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 1 and "usage: python docs/playground/build.py OUT.html" in done.stderr
