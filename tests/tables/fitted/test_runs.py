"""Runs of several networks: who sees which rows, for how long, and what predicts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import table_runs

import microbp as bp
from microbp.cli.main import main
from microbp.tables import model, scores
from microbp.tables.fitted import runs
from microbp.tables.predictor import Predictor
from microbp.tables.readers import sources
from microbp.tables.split import Split, gather

RNG = np.random.default_rng(4)
COUNT = 160
SIZE, AGE = RNG.normal(size=(2, COUNT)).round(4)
COLUMNS = {
    "row": (1000 * np.arange(COUNT) + RNG.integers(0, 1000, COUNT)).tolist(),
    "size": SIZE.tolist(),
    "age": AGE.tolist(),
    "group": [f"g{i % 19}" for i in range(COUNT)],
    "copies": RNG.integers(1, 4, COUNT).tolist(),
    "kind": ["abc"[int(i)] for i in np.digitize(SIZE + AGE + 0.5 * RNG.normal(size=COUNT), [0, 1.4])],
    "price": (3 * SIZE - 2 * AGE + 0.3 * RNG.normal(size=COUNT)).round(4).tolist(),
}
KIND = {"target": "kind", "drop": ["price", "group", "copies"]}
PRICE = {"target": "price", "drop": ["kind", "group", "copies"]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "CHUNK", 70)
    lines = [",".join(COLUMNS), *(",".join(map(str, row)) for row in zip(*COLUMNS.values(), strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")


def gathered(target="kind", stream=False, how="random", **options):
    drop = [name for name in ("kind", "price", "group", "copies") if name != target and name not in how]
    return gather(Split(sources.find("t.csv", stream=stream), how=how), target=target, drop=drop, **options)


def trained(data, **settings):
    run = table_runs.begun(data, **{"epochs": 3, **settings})
    runs.fit(run)
    return run


def keys(part):
    """The rows of a part, each by its features."""
    return sorted(map(tuple, part.x.tolist()))


# ---- rows ----

FOLDS = 4


@pytest.mark.parametrize("target", ["kind", "price"])
@pytest.mark.parametrize("how", ["random", "last", "time:row", "group:group"])
def test_the_folds_of_a_random_split_differ_and_others_do_not(target, how):
    data = gathered(target, how=how)
    folds = [data.fold(number) for number in range(FOLDS)]
    everything = sorted(keys(data.part("train")) + keys(data.part("validation")))
    for train, validation in folds:
        assert sorted(keys(train) + keys(validation)) == everything
        assert len(validation.x) == len(data.part("validation").x)
    validated = {tuple(keys(validation)) for _, validation in folds}
    assert len(validated) == (FOLDS if how == "random" else 1)
    assert keys(folds[0][1]) == keys(data.part("validation"))
    again = gathered(target, how=how)
    assert all((one.x == other.x).all() for number in range(FOLDS) for one, other in zip(folds[number], again.fold(number)))


@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "hinge"])
def test_each_fold_has_each_class_in_proportion(loss):
    data = gathered(loss=bp.Loss(loss))
    for number in range(FOLDS):
        train, validation = data.fold(number)
        all_rows = np.bincount(train.labels) + np.bincount(validation.labels)
        share = len(validation.x) / (len(train.x) + len(validation.x))
        assert (np.abs(np.bincount(validation.labels, minlength=3) - share * all_rows) < 1).all()


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_rows_keep_their_targets_and_weights_in_each_fold(class_weight):
    data = gather(Split(sources.find("t.csv"), weight="copies"), target="kind", drop=["price", "group"], class_weight=class_weight)
    known = {}
    for number in range(FOLDS):
        for part in data.fold(number):
            for x, label, weight in zip(part.x.tolist(), part.labels.tolist(), part.weight.tolist()):
                assert known.setdefault(tuple(x), (label, weight)) == (label, weight)
    assert len(known) == len(data.part("train").x) + len(data.part("validation").x)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", ["random", "last"])
def test_the_first_of_a_pair_has_validation_rows_and_the_second_all_rows_but_the_test(how, stream):
    data, seen = gathered(stream=stream, how=how), []
    run = table_runs.begun(data, epochs=3, ensemble=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bp.Trainer, "fit", lambda trainer, x, y, **options: seen.append((x, options)) or fit(trainer, x, y, **options))
        runs.fit(run)
    counts = [len(data.part(part).x) for part in ("train", "validation")]
    for number, (x, options) in enumerate(seen):
        rows = [part.x for part in x()] if stream else [x]
        assert sum(map(len, rows)) == counts[0] + (number % 2) * counts[1] == run.stages[number].rows
        assert (options["validation"] is None) == (number % 2 == 1)
    test = set(map(tuple, data.part("test").x.tolist()))
    assert not any(test & set(map(tuple, np.concatenate([x] if not stream else [p.x for p in x()]).tolist())) for x, _ in seen)


fit = bp.Trainer.fit


# ---- epochs and predictions ----


@pytest.mark.parametrize("ensemble", [1, 2, 3, 4])
@pytest.mark.parametrize("patience", [None, 2])
def test_the_second_of_a_pair_is_trained_for_the_best_epochs_of_the_first(ensemble, patience):
    run = trained(gathered("price"), ensemble=ensemble, epochs=12, patience=patience)
    updates = -(-run.data.training // run.choices.batch)
    first = -(-model._LEAST_UPDATES // updates)  # of few validation rows, an earlier network may be the best by chance
    assert 1 < first < 12 and len(run.stages) == max(ensemble, 2) and len(run.nets) == ensemble
    for number, stage in enumerate(run.stages):
        if number % 2:
            assert stage.epochs == stage.best == run.stages[number - 1].best
        else:
            losses = np.array(stage.history["val_loss"])
            assert stage.best >= first and losses[stage.best - 1] == losses[first - 1 :].min() and "rmse" in stage.history
            assert stage.epochs == (12 if patience is None else min(stage.best + patience, 12))
    assert [net.params.tobytes() for net in run.nets] == [stage.net.params.tobytes() for stage in run.stages[-ensemble:]]
    assert len({stage.net.seed for stage in run.stages}) == len(run.stages)


def test_more_networks_begin_with_the_same_ones():
    few, many = (trained(gathered(), ensemble=ensemble) for ensemble in (2, 4))
    assert [stage.net.params.tobytes() for stage in few.stages] == [stage.net.params.tobytes() for stage in many.stages[:2]]


@pytest.mark.parametrize("target", ["kind", "price"])
@pytest.mark.parametrize("ensemble", [1, 2, 3])
def test_the_mean_of_the_networks_predicts_and_validation_rows_are_judged_by_the_first(target, ensemble):
    data = gathered(target)
    run = trained(data, ensemble=ensemble)
    found = runs.predictor(run)
    x = data.part("test").x
    mean = np.mean([net.predict(x).astype(np.float64) for net in run.nets], axis=0)
    np.testing.assert_allclose(found.predict(x), mean, rtol=1e-5, atol=1e-6)
    measured, first = runs.scores(run, found), scores.measure(Predictor(run.stages[0].net, data.loss), data)
    assert measured.parts["validation"] == first.parts["validation"]
    together = scores.measure(found, data).parts
    assert [measured.parts[part] for part in ("train", "test")] == [together[part] for part in ("train", "test")]
    assert sorted(found.net.notes) == ["microbp.loss", "microbp.table"]
    assert ensemble == 1 or not any(net.notes for net in found.net)


# ---- the doors ----

LOSSES = [("kind", loss) for loss in ("cross_entropy", "bce", "hinge", "mse")] + [
    ("price", loss) for loss in ("mse", "mae", "huber", "quantile(q=0.3)")
]


@pytest.mark.parametrize(("target", "loss"), LOSSES)
@pytest.mark.parametrize("ensemble", [1, 2])
def test_a_model_gives_the_same_from_its_file(capsys, target, loss, ensemble):
    options = KIND if target == "kind" else PRICE
    model = bp.fit_table("t.csv", **options, loss=loss, epochs=2, net="x-8-y", ensemble=ensemble)
    model.save("m.safetensors")
    again = bp.load_table("m.safetensors")
    assert (again.net.notes, again.loss, again.columns) == (model.net.notes, model.loss, model.columns)
    assert again.predict("t.csv").tolist() == model.predict("t.csv").tolist()
    assert again.evaluate("t.csv") == model.evaluate("t.csv")
    assert again.importance("t.csv", repeats=1).importances.tolist() == model.importance("t.csv", repeats=1).importances.tolist()
    assert main(["evaluate", "m.safetensors", "t.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == model.evaluate("t.csv")
    assert main(["predict", "m.safetensors", "t.csv"]) == 0
    printed = [line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]]
    if target == "kind":
        assert printed == model.predict("t.csv").tolist()
    else:
        np.testing.assert_allclose(np.array(printed, float), model.predict("t.csv"), rtol=1e-6, atol=1e-6)
    assert main(["explain-columns", "m.safetensors", "t.csv", "--json", "--repeats", "1"]) == 0
    mean = {name: column["mean"] for name, column in json.loads(capsys.readouterr().out)["columns"].items()}
    found = model.importance("t.csv", repeats=1)
    assert mean == dict(zip(found.columns, found.importances_mean.tolist()))
    assert main(["info", "m.safetensors"]) == 0
    assert ("the mean of 2 networks" in capsys.readouterr().out) == ("the mean of 2 networks" in str(model)) == (ensemble == 2)


@pytest.mark.parametrize("options", [{}, {"ensemble": 1}, {"ensemble": 3, "stream": True}, {"weight": "copies", "class_weight": "balanced"},
                                     {"lr": "auto"}, {"split": "time:row"}, {"budget": "fast", "dropout": 0.3}], ids=str)  # fmt: skip
def test_all_doors_give_the_same_bits(capsys, options):
    pandas = pytest.importorskip("pandas")
    settings = {"target": "kind", "drop": ["price", "group"], "epochs": 2, "net": "x-8-y", "ensemble": 2, **options}
    words = [f"--{name.replace('_', '-')}={','.join(value) if isinstance(value, list) else value}" for name, value in settings.items()]
    words = [word.removesuffix("=True") for word in words]
    assert main(["train", "t.csv", *words, "--json", "--out", "m"]) == 0
    expected, report = bp.load_table("m"), json.loads(capsys.readouterr().out)
    tables = ["t.csv"] if "stream" in options else ["t.csv", COLUMNS, pandas.DataFrame(COLUMNS)]
    for table in tables:
        model = bp.fit_table(table, **settings)
        assert model.scores == {part: report[part] for part in ("train", "validation", "test")}
        assert model.predict_proba("t.csv").tobytes() == expected.predict_proba("t.csv").tobytes()
        assert model.net.notes == expected.net.notes


# ---- extremes ----


def numbers(rows, columns):
    found = {f"x{i}": RNG.normal(size=rows).tolist() for i in range(columns)}
    return found | {"y": RNG.normal(size=rows).tolist()}


EXTREMES = {
    **{f"{rows} rows": numbers(rows, 2) for rows in (4, 6, 10, 30)},
    "many columns": numbers(60, 300),
    "a class of one row": {"x": [1.0] * 20 + [2.0] * 20, "y": ["a"] * 39 + ["b"]},
    "weights far apart": {"x": RNG.normal(size=30).tolist(), "y": ["a", "b"] * 15, "w": [1e-30, 1e30] * 15},
    "huge targets": {"x": [None, 1.5] * 20, "y": [1e30, -1e30] * 20},
    "many classes": {"x": RNG.normal(size=40).tolist(), "y": [i % 20 for i in range(40)]},
}


@pytest.mark.filterwarnings("ignore:table. numbers far outside the range of training")  # of few rows
@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("ensemble", [1, 3])
def test_an_extreme_table_gives_a_model(name, ensemble):
    table = EXTREMES[name]
    model = bp.fit_table(table, "y", weight="w" if "w" in table else None, epochs=2, net="x-8-y", ensemble=ensemble)
    assert len(model.predict(table)) == len(table["y"])
    assert np.isfinite(model.scores["train"]["loss"])


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match=r"^table: only 1 row left for training after the split .*; at least 3 are needed$"):
        bp.fit_table(numbers(3, 2), "y")
