"""bp.report: the numbers are those of evaluate and the metrics, texts are escaped, the code runs, and a browser finds no fault."""

from __future__ import annotations

import builtins
import html
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import View

import microbp as bp
from microbp.settings.metrics import find
from microbp.tables import intervals

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

Made = tuple[bp.Trainer, object, object]


def digits() -> Made:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    x, y = datasets.load_digits(return_X_y=True)
    t = bp.Trainer(bp.mlp([64, 32, 10], seed=0), loss="cross_entropy", optimizer=bp.Adam(lr=0.01))
    t.fit(x[:1200] / 16, y[:1200], epochs=8, validation=0.2, metrics="accuracy")
    return t, x[1200:] / 16, y[1200:]


def numbers(epochs: int = 5, **settings: object) -> Made:
    x = np.random.default_rng(0).normal(size=(300, 4))
    y = 50 + 10 * x[:, 0] + x[:, 1]
    t = bp.Trainer(bp.mlp([4, 8, 1], seed=0), loss="mse", standardize_targets=True, **settings)
    t.fit(x, y, epochs=epochs)
    return t, x, y


def thirty() -> Made:
    random = np.random.default_rng(0)
    x = random.normal(size=(900, 8))
    y = (x @ random.normal(size=(8, 30))).argmax(axis=1)
    t = bp.Trainer(bp.mlp([8, 32, 30], seed=0), loss="cross_entropy", optimizer=bp.Adam(lr=0.01))
    t.fit(x, y, epochs=3)
    return t, x, y


def pair() -> Made:
    x = np.random.default_rng(0).normal(size=(200, 2))
    t = bp.Trainer(bp.mlp([2, 8, 1], seed=0), loss="bce")
    t.fit(x, x[:, 0] > 0, epochs=3)
    return t, x, (x[:, 0] > 0).astype(int)


def hinge() -> Made:
    x = np.random.default_rng(0).normal(size=(200, 2))
    y = np.where(x[:, 0] > 0, 1, -1)
    t = bp.Trainer(bp.mlp([2, 8, 1], seed=0), loss="hinge")
    t.fit(x, y, epochs=3)
    return t, x, y


def labels() -> Made:
    x = np.random.default_rng(0).normal(size=(200, 3))
    t = bp.Trainer(bp.mlp([3, 8, 3], seed=0), loss="bce")
    t.fit(x, x > 0, epochs=3)
    return t, x, (x > 0).astype(int)


def outputs() -> Made:
    node = bp.Input(4)
    h = bp.Dense(8, "tanh")(node)
    net = bp.Network(node, [bp.Dense(3, name="policy")(h), bp.Dense(2, name="value")(h)], seed=0)
    t = bp.Trainer(net, ["cross_entropy", "mse"], loss_weights=[1, 0.5])
    random = np.random.default_rng(0)
    x, y = random.normal(size=(200, 4)), [random.integers(0, 3, 200), random.normal(size=(200, 2))]
    t.fit(x, y, epochs=3)
    return t, x, y


def own_loss() -> Made:
    def cubic(outputs: np.ndarray, targets: np.ndarray, weight: object) -> tuple[float, np.ndarray]:
        gap = outputs - targets
        return float(np.abs(gap**3).mean()), 3 * gap * np.abs(gap) / gap.size

    x = np.random.default_rng(0).normal(size=(60, 3))
    t = bp.Trainer(bp.mlp([3, 4, 1], seed=0), loss=cubic)
    t.fit(x, x[:, 0], epochs=2)
    return t, x, x[:, 0]


def quantiles() -> Made:
    x = np.random.default_rng(0).normal(size=(60, 3))
    t = bp.Trainer(bp.mlp([3, 4, 2], seed=0), loss=bp.Loss("quantile", q=(0.1, 0.9)))
    t.fit(x, x[:, 0], epochs=2)
    return t, x, x[:, 0]


def means_and_variances() -> Made:
    x = np.random.default_rng(0).normal(size=(60, 3))
    t = bp.Trainer(bp.mlp([3, 4, 4], seed=0), loss="gaussian_nll")
    t.fit(x, x[:, :2], epochs=2)
    return t, x, x[:, :2]


def sequences() -> Made:
    node = bp.Sequence(12, 3)
    net = bp.Network(node, bp.Dense(4)(bp.Recurrent(6)(node)), seed=0)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 12, 3)), random.integers(0, 4, size=(40, 12))
    t = bp.Trainer(net, loss="cross_entropy")
    t.fit(x, y, epochs=2)
    return t, x, y


def untrained() -> Made:
    return bp.Trainer(bp.mlp([2, 1], seed=0), loss="mse"), np.ones((5, 2)), np.arange(5.0)


def diverged() -> Made:
    x = np.random.default_rng(0).normal(size=(100, 4))
    t = bp.Trainer(bp.mlp([4, 8, 1], seed=0), loss="mse", optimizer=bp.SGD(lr=30.0))
    with pytest.raises(FloatingPointError):
        t.fit(x, 100 * x[:, 0], epochs=30)
    return t, x, 100 * x[:, 0]


def one_epoch() -> Made:
    return numbers(1)


def watched() -> Made:
    x = np.random.default_rng(0).normal(size=(100, 4))
    t = bp.Trainer(bp.mlp([4, 8, 8, 1], seed=0), loss="mse")
    t.fit(x, x[:, 0], epochs=6, watch="layers")
    return t, x, x[:, 0]


CASES: list[Callable[[], Made]] = [
    digits, numbers, thirty, pair, hinge, labels, outputs, own_loss, quantiles, means_and_variances, sequences, untrained,
    diverged, one_epoch, watched,
]  # fmt: skip


class Rows(HTMLParser):
    """The cells of all rows of tables, as texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self._inside = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def cells(page: str) -> dict[str, list[str]]:
    """The cells of each row by its name, from the section Result on; of rows with the same name, those of the first."""
    found: dict[str, list[str]] = {}
    for name, *others in filter(None, Rows(page[page.index("<h2>Result") :]).rows):
        found.setdefault(name, others)
    return found


def shown(value: float, name: str) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.2f} %" if name in ("accuracy", "balanced_accuracy") else f"{value:.4g}"


# ---- what a browser shows ----


@pytest.mark.parametrize("case", CASES)
def test_a_browser_finds_no_fault(case, chromium):
    page = bp.report(*case()).html
    for width, dark in ((390, False), (390, True), (1200, False)):
        with View(chromium, page, width=width, dark=dark) as view:
            assert view.faults() == []
            assert view.page.locator("h1").count() == 1
            assert view.page.locator("table:not(:has(th[scope]))").count() == 0


def test_all_ids_differ_and_all_references_lead_somewhere():
    page = bp.report(*outputs()).html
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert {*re.findall(r'href="#([^"]+)"', page), *re.findall(r"url\(#([^)]+)\)", page)} <= set(ids)


@pytest.mark.parametrize("case", [digits, thirty])
def test_a_page_is_small(case):
    assert len(bp.report(*case()).html) < 200_000


def test_colours_of_confusion_matrices_have_contrast(chromium):
    """Behind these texts are colours with alpha, which View does not check."""
    page = bp.report(*digits()).html
    for dark in (False, True):
        with View(chromium, page, dark=dark) as view:
            assert view.page.evaluate(
                """() => Math.min(...[...document.querySelectorAll('td[style]')].map(cell => {
                    const of = text => text.match(/[\\d.]+/g).map(Number), light = ([r, g, b]) => [r, g, b].map(x => (x /= 255) <= 0.04045
                        ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4).reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
                    const style = getComputedStyle(cell), paper = of(getComputedStyle(document.body).backgroundColor);
                    const [r, g, b, a = 1] = of(style.backgroundColor), back = [r, g, b].map((x, i) => a * x + (1 - a) * paper[i]);
                    const [x, y] = [light(back), light(of(style.color))].sort((p, q) => q - p);
                    return (x + 0.05) / (y + 0.05);
                }))"""
            ) > 4.5  # fmt: skip


# ---- what it says ----


def test_layers_are_drawn_if_they_were_watched():
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", bp.report(*watched()).html)
    assert titles[1:3] == ["update/weight of each layer", "gradient of each layer"]
    assert "of each layer" not in bp.report(*numbers()).html


def test_the_findings_of_the_doctor_are_listed():
    t, x, y = numbers()
    t.net.freeze()
    page = bp.report(t, x, y).html
    assert "Error: frozen" in page and "trainer.net.unfreeze()" in page


@pytest.mark.parametrize("case", [digits, numbers, thirty, pair, hinge, one_epoch])
def test_numbers_are_those_of_evaluate_and_of_the_metrics(case):
    t, x, y = case()
    found = cells(bp.report(t, x, y).html)
    assert found["loss"][0] == f"{t.evaluate(x, y):.4g}"
    names = ("rmse", "mae", "r2") if case in (numbers, one_epoch) else ("accuracy", "balanced_accuracy", "f1", "auc")
    for name in names:
        loss = {} if case in (numbers, one_epoch) else {"loss": t.losses[0]}
        value = find(name).function(y, t.predict(x), **loss)
        assert found[name][0] == shown(value, name)
        if np.isnan(value):  # a class without rows has no AUC
            continue
        low, high = (float(end.strip(" %")) for end in found[name][1].split(" to "))
        assert low <= float(found[name][0].strip(" %")) <= high and low < high


def test_the_interval_of_an_accuracy_is_wilsons():
    t, x, y = digits()
    low, high = intervals.wilson(bp.accuracy(y, t.predict(x)), len(y))
    assert cells(bp.report(t, x, y).html)["accuracy"][1] == f"{100 * low:.2f} to {100 * high:.2f} %"


def test_the_metrics_of_several_outputs():
    t, x, y = outputs()
    found = cells(bp.report(t, x, y).html)
    t.evaluate(x, y)  # sets output_losses
    probabilities, values = t.predict(x)
    assert found["accuracy_policy"][0] == shown(bp.accuracy(y[0], probabilities), "accuracy")
    assert found["rmse_value"][0] == shown(bp.rmse(y[1], values), "rmse")
    assert found["loss_policy"][0] == shown(t.output_losses[0], "loss")


def test_weights_and_lengths_count():
    t, x, y = digits()
    weight = np.random.default_rng(0).integers(0, 3, len(y))
    found = cells(bp.report(t, x, y, sample_weight=weight).html)
    assert found["loss"][0] == f"{t.evaluate(x, y, weight):.4g}"
    assert found["accuracy"][0] == shown(bp.accuracy(y, t.predict(x), weight), "accuracy")
    t, x, y = sequences()
    lengths = np.arange(40) % 12 + 1
    assert cells(bp.report(t, x, y, lengths=lengths).html)["loss"][0] == f"{t.evaluate(x, y, lengths=lengths):.4g}"


def test_the_confusion_matrix_counts_all_rows():
    t, x, y = digits()
    rows = [row for row in Rows(bp.report(t, x, y).html).rows if len(row) == 11 and row[0].isdigit()]
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (y, t.predict(x).argmax(axis=1)), 1)
    assert np.array_equal(np.array(rows, int)[:, 1:], expected)


def test_of_many_rows_a_sample_is_measured_and_the_page_says_so():
    x = np.arange(50_000.0).reshape(-1, 1) / 50_000
    t = bp.Trainer(bp.mlp([1, 1], seed=0), loss="mse")
    assert "Measured on 20,000 of 50,000 rows, evenly spaced." in bp.report(t, x, x).html


def test_the_most_important_column_is_first():
    page = bp.report(*numbers()).html
    order = [row[0] for row in Rows(page[page.index("Importance of columns") :]).rows if row[0].startswith("column ")]
    assert order[:2] == ["column 0", "column 1"] and len(order) == 4


def test_columns_have_the_names_of_a_data_frame():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    t, x, y = numbers()
    evil = ["<script>alert(1)</script>", '"quotes\' & more"', "列", "line\nend"]
    page = bp.report(t, pandas.DataFrame(x, columns=evil), y).html
    assert "<script" not in page and html.escape(evil[1]) in page and "列" in page and "line\\nend" in page


def test_a_net_with_evil_names_is_escaped():
    node = bp.Input(2)
    net = bp.Network(node, [bp.Dense(1, name="a")(node), bp.Dense(1, name="b")(node)])
    t = bp.Trainer(net, ["mse", "mse"])

    def evil(y: object, outputs: object) -> float:
        return 1.0

    t.fit(np.ones((4, 2)), [np.ones(4), np.ones(4)], epochs=2, metrics={"<script>alert('x')</script>": evil})
    page = bp.report(t, np.ones((4, 2)), [np.ones(4), np.ones(4)]).html
    assert "<script" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize("case", [digits, outputs, sequences])
def test_the_code_on_the_page_runs(case, tmp_path):
    t, x, y = case()
    save, load = (html.unescape(code) for code in re.findall(r"<code>([^<]*)</code>", bp.report(t, x, y).html)[-2:])
    (tmp_path / "load.py").write_text(load)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        exec(save, {"trainer": t})
        done = subprocess.run([sys.executable, "-P", "load.py"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.count("[[") >= 1, done.stderr


# ---- what it does ----


@pytest.mark.parametrize("case", [digits, outputs])
def test_nothing_in_the_trainer_changes(case, tmp_path):
    t, x, y = case()
    t.save(tmp_path / "before")
    bp.report(t, x, y)
    t.save(tmp_path / "after")
    assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()


def test_both_backends_have_the_same_sections():
    pages = []
    for backend in ("compiled", "reference"):
        x = np.random.default_rng(0).normal(size=(30, 2))
        t = bp.Trainer(bp.mlp([2, 4, 1], seed=0, backend=backend), loss="mse")
        t.fit(x, x[:, 0], epochs=2)
        pages.append(re.findall(r"<h[1-6]>.*?</h[1-6]>", bp.report(t, x, x[:, 0]).html))
    assert pages[0] == pages[1] and len(pages[0]) >= 7


def test_files_are_written_completely_or_not_at_all(tmp_path):
    t, x, y = numbers()
    path = tmp_path / "run.html"
    page = bp.report(t, x, y, path)
    assert path.read_text("utf-8") == page.html
    path.write_text("old")
    with pytest.raises(ValueError, match="X"):
        bp.report(t, x[:, :2], y, path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    page.save(str(path))
    assert path.read_text("utf-8") == page.html
    with pytest.raises(FileNotFoundError):
        bp.report(t, x, y, tmp_path / "absent" / "run.html")


def test_another_ending_is_refused_before_anything_is_written(tmp_path):
    t, x, y = numbers()
    for name in ("run.pdf", "run"):
        for save in (lambda path: bp.report(t, x, y, path), bp.report(t, x, y).save):
            with pytest.raises(ValueError, match=r"report: the file name must end in \.html or \.htm, not '"):
                save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_notebook_shows_it_in_a_frame(chromium):
    with View(chromium, f"<!DOCTYPE html><html lang='en'><title>x</title>{bp.report(*numbers())._repr_html_()}</html>") as view:
        assert view.page.frame_locator("iframe").locator("h2").count() >= 6
        assert view.faults() == []


def test_what_is_no_trainer_is_refused():
    with pytest.raises(TypeError, match=r"report: trainer must be a bp\.Trainer, not"):
        bp.report(bp.mlp([1, 1]), [[1.0]], [1.0])
    with pytest.raises(ValueError, match="loss"):
        bp.report(bp.Trainer(bp.mlp([1, 1]), loss=None), [[1.0]], [1.0])


def test_without_matplotlib_an_error_says_how_to_install_it(monkeypatch):
    usual = builtins.__import__

    def without(name: str, *arguments: object) -> object:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return usual(name, *arguments)

    for name in [name for name in sys.modules if name.startswith(("matplotlib", "microbp.plots"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="python -m pip install matplotlib"):
        bp.report(bp.Trainer(bp.mlp([1, 1]), loss="mse"), [[1.0]], [1.0])
