"""The network of a table, its training, and errors that name arguments."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import table_runs

import microbp as bp
from microbp.core.specs import OptimizerSpec
from microbp.tables import model, recipe
from microbp.tables.fitted import runs
from microbp.tables.readers import sources
from microbp.tables.readers.errors import Argument, ArgumentError, TableError
from microbp.tables.split import Split, gather

ROWS = "size,colour,price\n" + "".join(f"{i + 5},{'red' if i % 3 else 'blue'},{i * i % 17}.5\n" for i in range(200))


@pytest.fixture(autouse=True)
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(ROWS)


def gathered(target="price", **settings):
    return gather(Split(sources.find("t.csv", **settings)), target=target)


@pytest.mark.parametrize("target", ["price", "colour"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_network_predicts_the_same_for_all_rows_at_first_and_its_rates_are_those_of_the_paper(target, dropout):
    """The last layer starts at 0. Holzmueller, Grinsztajn & Steinwart 2024: x W / sqrt(n) + b, with standard normal W and b."""
    data = gathered(target)
    net = table_runs.begun(data, net=(None, 400, 300, None), dropout=dropout).trainer.net
    outputs = net.predict(data.part("train").x)
    assert outputs.shape[1] == data.preparation.outputs and (outputs == outputs[0]).all()
    scale, *dense = [layer for layer in net.layers if layer.kind in ("scale", "dense")]
    assert scale.lr == model.FACTOR_LR and "scale_0.bias" not in net.tensors
    assert repr(net).count(" dropout") == (2 if dropout else 0)
    for layer, inputs in zip(dense, (data.preparation.width, 400, 300)):
        assert layer.lr == pytest.approx(1 / np.sqrt(inputs)) and layer.bias_lr == model.BIAS_LR
    hidden = net.tensors["dense_1.weight"]
    assert hidden.std() * np.sqrt(400) == pytest.approx(1, rel=0.05) and net.tensors["dense_1.bias"].std() == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize(
    ("given", "settings", "expected"),
    [
        (OptimizerSpec("adam"), {}, {"lr": 0.04, "beta2": model.BETA2}),
        (OptimizerSpec("adam"), {"lr": 0.5, "decay": 0.1}, {"lr": 0.5, "beta2": model.BETA2, "weight_decay": 0.1}),
        (OptimizerSpec("adam", lr=0.25), {}, {"lr": 0.25}),
        (OptimizerSpec("sgd_momentum", lr=0.25), {"lr": 0.5}, {"lr": 0.5}),
        (OptimizerSpec("adamw"), {"decay": 0.0}, {"weight_decay": 0.0}),
    ],
)
def test_only_adam_without_parameters_has_the_rates_of_the_recipe(given, settings, expected):
    choices = recipe.Choices((8,), 64, 5, 0.04, 0.0, 2)
    found = model.optimizer(choices, given, settings.get("lr"), settings.get("decay"))
    assert found == OptimizerSpec(given.name, **expected)


def test_fit_trains_up_to_a_total_number_of_epochs():
    data = gathered()
    trainer, parts = table_runs.begun(data).trainer, data.fold(0)
    for epochs, done in ((3, 3), (5, 5), (5, 5)):
        model.fit(trainer, data, *parts, epochs=epochs, batch=16)
        assert model.epochs_done(trainer) == done


@pytest.mark.parametrize("rows", [200, 8000])
@pytest.mark.parametrize("target", ["price", "colour"])
def test_the_last_of_the_best_epochs_is_restored(rows, target):
    """The best by the loss, or by the accuracy where many rows tell it."""
    with open("t.csv", "w", encoding="utf-8") as file:
        file.write(ROWS.partition("\n")[0] + "\n" + "\n".join(ROWS.splitlines()[1:] * (rows // 200)) + "\n")
    data = gathered(target)
    trainer = table_runs.first(data, epochs=12, lr=0.3)
    many = target == "colour" and len(data.part("validation").x) >= model._ENOUGH
    assert many == (target == "colour" and rows == 8000)
    values = np.array(trainer.history["accuracy"]) * -1 if many else np.array(trainer.history["val_loss"])
    first = min(-(-model._LEAST_UPDATES // -(-data.training // recipe.batch(data.training))), 12)
    values[: first - 1] = np.inf
    assert trainer.epoch == np.flatnonzero(values == values.min())[-1] + 1
    found = table_runs.measured(trainer, data).parts["validation"]
    name = "rmse" if target == "price" else "accuracy"
    assert trainer.history[name][trainer.epoch - 1] == pytest.approx(found[name])


def test_a_schedule_lasts_for_all_updates():
    mine = bp.StepDecay(lr=0.1, step_size=3)
    given = (None, "cosine", "constant", mine, bp.Cosine(0.2), bp.Warmup(bp.Cosine(0.2), 3))
    found = [model.schedule(one, 0.5, 7) for one in given]
    expected = [bp.CosLog(0.5, 7), bp.Cosine(0.5, 7), None, mine, bp.Cosine(0.2, 7), bp.Warmup(bp.Cosine(0.2, 4), 3)]
    assert found == expected


def test_a_network_without_validation_rows_has_the_rates_of_its_pair():
    """ReduceOnPlateau watches the validation loss."""
    run = table_runs.begun(gathered(), epochs=9, schedule=bp.ReduceOnPlateau(lr=0.3, patience=1, factor=0.5))
    runs.fit(run)
    first, second = run.stages[:2]
    assert len(set(first.history["lr"])) > 1
    assert second.history["lr"] == first.history["lr"][: first.best]


FEATURES = 2 + recipe.encoding(144, 3, False).bins  # a category of two values, a number, and its bins
WRONG = [
    (lambda: sources.find("no.csv"), "table: there is no file 'no.csv'; the only built-in data set is digits"),
    (lambda: sources.find("t.csv", test_file="."), "test_file: '.' is a directory; name a file"),
    (
        lambda: gather(Split(sources.find("t.csv"), validation=0.999)),
        "validation: leaves none of the 200 rows for training; use a smaller fraction",
    ),
    (lambda: gather(Split(sources.find("t.csv"), test=0.999)), "test: leaves none of the 200 rows for training; use a smaller fraction"),
    (
        lambda: table_runs.begun(gathered(), net=(500, 9, 1)),
        f"net: 500-9-1 does not fit t.csv, which has {FEATURES} features and 1 output; use net='{FEATURES}-9-1'",
    ),
    *(
        (
            lambda optimizer=optimizer: bp.fit_table({"a": [1, 2], "y": [1, 2]}, optimizer=optimizer),
            "optimizer: lbfgs uses all rows in each step, but tables are trained in batches; use another optimizer, such as adam",
        )
        for optimizer in (bp.LBFGS(), "lbfgs", "LBFGS(history=5)")
    ),
]


@pytest.mark.parametrize(("call", "text"), WRONG)
def test_an_error_names_the_wrong_argument(call, text):
    with pytest.raises(ArgumentError) as caught:
        call()
    assert str(caught.value) == text


def test_errors_format_arguments_for_python_and_for_the_command_line():
    error = TableError("t.csv: 'y' is empty; use ", Argument("drop", "y"), ", or choose another with ", Argument("target"))
    assert str(error) == "t.csv: 'y' is empty; use drop='y', or choose another with target"
    assert (
        error.text(lambda argument: f"<{argument.name} {argument.value}>")
        == "t.csv: 'y' is empty; use <drop y>, or choose another with <target None>"
    )
    wrong = ArgumentError("test_file", "is empty; omit ", Argument("stream"))
    assert str(pickle.loads(pickle.dumps(wrong))) == str(wrong) == "test_file: is empty; omit stream"
    assert wrong.text(lambda argument: f"--{argument.name}") == "--test_file: is empty; omit --stream"
    assert isinstance(wrong, ValueError)
