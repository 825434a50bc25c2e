"""Explanations as text, drawings and pages: their form, and their steps in a browser."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import graphs
import numpy as np
import pytest
from browser import View

import microbp as bp

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
ALL = "All values and gradients. Next goes to the start."
START = "Start: the inputs and the weights."


def row_of(inputs: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=inputs)


def neuron() -> bp.Explanation:
    x = bp.Input(2)
    return bp.explain(bp.Network(x, bp.Dense(1, "sigmoid", init=[[2, -3]], bias_init=[-3])(x)), [-1, -2])


def xor() -> bp.Explanation:
    return bp.explain(bp.mlp([2, 3, 1], activation="tanh", seed=0), [0, 1], 1, "bce")


def skip() -> bp.Explanation:
    x = bp.Input(2)
    h = bp.Dense(2, "tanh")(x)
    return bp.explain(bp.Network(x, bp.Dense(1)(bp.Dense(2, "relu")(h) + x * h), seed=1), [0.5, -1])


def heads() -> bp.Explanation:
    """Two inputs, two outputs, a layer that is used twice, and a name that must be escaped."""
    x, z, shared = bp.Input(2), bp.Input(3), bp.Dense(2, "tanh", name="a-very-long-name-of-a-layer-that-is-used-twice")
    both = bp.concat([x, z])
    net = bp.Network([x, z], [bp.Dense(1, name="left")(shared(x) * shared(z[:, :2])), bp.Dense(2, name="right")(both)], seed=1)
    return bp.explain(net, [[1, 2], [3, 4, 5]], [1, [2, 3]], ["mse", "huber"])


def sixty() -> bp.Explanation:
    return bp.explain(bp.mlp([10, 30, 20, 10], seed=0), row_of(10), 3, "cross_entropy")


def large() -> bp.Explanation:
    x = bp.Grid(12, 12)
    h = bp.Flatten()(bp.Pool(2)(bp.Conv(8, 3, activation="relu")(x)))
    net = bp.Network(x, bp.Dense(10)(bp.Dropout()(bp.Dense(64, "relu")(bp.BatchNorm()(h)))), seed=0)
    return bp.explain(net, row_of(144).reshape(12, 12), output=3)


def many() -> bp.Explanation:
    """A long list of losses."""
    x = bp.Input(2)
    net = bp.Network(x, [bp.Dense(1)(x) for _ in range(6)], seed=0)
    return bp.explain(net, [1, 2], [1, 2, 3, 4, 5, 6], ["smooth_l1(beta=0.123456789)"] * 6)


CASES = {case.__name__: case for case in (neuron, xor, skip, heads, many, sixty, large)}
SHAPES = {shape: lambda shape=shape: explained(shape) for shape in (*graphs.SHAPES, "embedded")}


def explained(shape: str) -> bp.Explanation:
    net = graphs.network(shape)
    row = graphs.rows_of(net, 1)
    return bp.explain(net, row)


@pytest.mark.parametrize("name", [*CASES, *SHAPES])
def test_the_text_fits_100_columns_and_the_drawing_is_xml(name):
    e = (CASES | SHAPES)[name]()
    lines = str(e).splitlines()
    assert max(map(len, lines)) <= 100
    assert all(line == line.rstrip() for line in lines)
    drawing = ET.fromstring(e.svg())
    assert drawing.find("{http://www.w3.org/2000/svg}title") is not None
    assert not re.search(r"nan|inf\b", e.svg())
    assert e.svg() in e._repr_html_() and e._repr_html_() in e.html()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("width", [390, 1200])
def test_a_page_has_no_faults_at_any_step(name, width, chromium):
    with View(chromium, CASES[name]().html(), width=width, dark=width == 390) as view:
        assert view.faults() == []
        page = view.page
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        last = int(page.get_attribute("input", "max"))
        for step in {0, 1, last // 2, last - 1}:
            page.evaluate(f"document.querySelector('input').value = {step}; document.querySelector('input').oninput()")
            assert view.faults() == []


def visible(page, selector: str = "li") -> list[str]:
    """The texts that are seen."""
    return page.eval_on_selector_all(
        selector, "all => all.filter(e => e.checkVisibility({visibilityProperty: true})).map(e => e.textContent)"
    )


def test_steps_go_forward_and_backward_by_click_and_by_key(chromium):
    with View(chromium, neuron().html()) as view:
        page = view.page
        assert visible(page) == [ALL]
        assert {f"{MINUS}0.39", "0.73"} <= set(visible(page, "svg text"))
        page.click("button >> text=Next")
        assert visible(page) == [START]
        assert not {f"{MINUS}0.39", "0.73", "0.20"} & set(visible(page, "svg text"))
        page.click("button >> text=Next")
        assert f"2.00 {TIMES} -1.00 + -3.00 {TIMES} -2.00 + -3.00 = 1.00" in visible(page)[0]
        assert "0.73" in visible(page, "svg text") and "0.20" not in visible(page, "svg text")
        assert (
            len(visible(page, "path.now")) == 4 and len(visible(page, ".box.now")) == 2
        )  # x[0], x[1] and the 1 to the sum; its activation
        page.focus(".bp-explain")
        page.keyboard.press("ArrowRight")
        assert visible(page)[0].startswith("Backward: the gradient of dense_0[0]")
        assert {"0.20", f"{MINUS}0.20", f"{MINUS}0.39"} <= set(visible(page, "svg text"))
        assert page.evaluate("document.querySelector('svg').classList.contains('back')")
        assert len(visible(page, "path.now")) == 1  # of what uses the sum
        page.keyboard.press("ArrowLeft")
        assert visible(page)[0].startswith("Forward")
        page.click("button >> text=Back")
        page.click("button >> text=Back")
        assert visible(page) == [ALL]
        page.focus("input")
        page.keyboard.press("Home")
        assert visible(page) == [START]


def test_figures_in_one_page_do_not_disturb_each_other(chromium):
    figures = [neuron()._repr_html_(), xor()._repr_html_(), neuron()._repr_html_()]
    page = f'<!DOCTYPE html><html lang="en"><head><title>Three</title></head><body>{"".join(figures)}</body></html>'
    with View(chromium, page) as view:
        view.page.locator("button >> text=Next").nth(1).click()
        assert visible(view.page)[1] == START
        assert visible(view.page)[::2] == [ALL] * 2
        assert view.errors == []


def test_without_a_script_everything_is_shown(chromium):
    with View(chromium, re.sub(r"<script>.*?</script>", "", neuron().html(), flags=re.DOTALL)) as view:
        assert len(visible(view.page)) == 6
        assert {f"{MINUS}0.39", "0.73"} <= set(visible(view.page, "svg text"))


@pytest.mark.parametrize(("ending", "begin"), [(".txt", "Differentiated"), (".svg", "<svg"), (".html", "<!DOCTYPE"), (".HTML", "<!DOC")])
def test_save(ending, begin, tmp_path):
    file = tmp_path / f"row{ending}"
    neuron().save(file)
    text = file.read_text("utf-8")
    assert text.startswith(begin)
    neuron().save(str(file))
    assert file.read_text("utf-8") == text


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the name must end with .txt, .svg or .html, not '.*row.png'"):
        neuron().save(str(tmp_path / "row.png"))
    with pytest.raises(FileNotFoundError, match="does not exist; create it first"):
        neuron().save(tmp_path / "nowhere" / "row.svg")
    with pytest.raises(TypeError, match="path must be a str"):
        neuron().save(3)
    assert not list(tmp_path.iterdir())


def test_the_pictures_of_the_tutorial_are_those_that_its_programs_write(tmp_path, monkeypatch):
    """To write them again, run the programs in docs/tutorials."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for code in re.findall(r"^```python\n(.*?)^```", (TUTORIALS / "one-neuron.md").read_text("utf-8"), re.MULTILINE | re.DOTALL):
        exec(code, namespace)
    written = sorted(tmp_path.glob("*.svg"))
    assert [path.name for path in written] == ["one-neuron.svg", "two-ways.svg"]
    for path in written:
        assert path.read_text("utf-8") == (TUTORIALS / path.name).read_text("utf-8")
