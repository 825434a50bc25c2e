"""Training on tables from Python: errors name arguments, and the results are those of the command line."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

import microbp as bp
from microbp.cli.main import main
from microbp.core.specs import OptimizerSpec
from microbp.tables import model, scores
from microbp.tables.defaults import choose
from microbp.tables.preparation import Preparation
from microbp.tables.readers import sources
from microbp.tables.readers.errors import Argument, ArgumentError, TableError
from microbp.tables.split import Split, gather

ROWS = "size,colour,price\n" + "".join(f"{i + 5},{'red' if i % 3 else 'blue'},{i * i % 17}.5\n" for i in range(200))


@pytest.fixture(autouse=True)
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(ROWS)


def trained(target, epochs=5, **settings):
    """A trainer of the table, and its data."""
    data = gather(Split(sources.find("t.csv", **settings)), target=target)
    choices = choose(data.training, bool(data.preparation.target.classes), epochs=epochs)
    trainer = model.build(data, choices, optimizer=OptimizerSpec("adam"))
    updates = epochs * -(-data.training // choices.batch)
    model.fit(trainer, data, epochs=epochs, batch=choices.batch, schedule=model.schedule(None, trainer, updates))
    return trainer, data


@pytest.mark.parametrize("target", ["price", "colour"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_command_line_gives_the_same_result(capsys, target, stream):
    trainer, data = trained(target, stream=stream)
    measured = scores.measure(trainer, data)
    assert main(["train", "t.csv", "--target", target, "--epochs", "5", "--json", "--out", "net", *["--stream"] * stream]) == 0
    report = json.loads(capsys.readouterr().out)
    assert measured.parts == {part: report[part] for part in ("train", "validation", "test")}
    net = bp.load("net")
    assert net.params.tobytes() == trainer.net.params.tobytes()
    assert Preparation.of(net, "net") == Preparation.of(trainer.net, "net") == data.preparation


def test_fit_trains_up_to_a_total_number_of_epochs():
    trainer, data = trained("price", epochs=3)
    model.fit(trainer, data, epochs=5, batch=16)
    assert model.epochs_done(trainer) == 5
    model.fit(trainer, data, epochs=5, batch=16)
    assert model.epochs_done(trainer) == 5


def test_fit_stops_early_and_restores_the_best_epoch():
    """The rmse of epochs is in the unit of the target, as in the report."""
    for patience in (None, 2):
        data = gather(Split(sources.find("t.csv")), target="price")
        trainer = model.build(data, choose(data.training, False), optimizer=OptimizerSpec("adam"), lr=0.3)
        model.fit(trainer, data, epochs=40, batch=16, patience=patience)
        best = int(np.argmin(trainer.history["val_loss"]))
        assert trainer.lr == 0.3
        assert model.epochs_done(trainer) == (40 if patience is None else best + 1 + patience)
        assert trainer.history["rmse"][best] == pytest.approx(scores.measure(trainer, data).parts["validation"]["rmse"])


def test_a_schedule_is_the_given_one():
    trainer, _ = trained("price", epochs=1)
    mine = bp.StepDecay(lr=0.1, step_size=3)
    found = [model.schedule(given, trainer, 7) for given in (None, "cosine", "constant", mine)]
    assert found == [bp.Cosine(trainer.lr, 7), bp.Cosine(trainer.lr, 7), None, mine]


WRONG = [
    (lambda: sources.find("no.csv"), "table: there is no file 'no.csv'; the only built-in data set is digits"),
    (lambda: sources.find("t.csv", test_file="."), "test_file: '.' is a directory; name a file"),
    (
        lambda: gather(Split(sources.find("t.csv"), validation=0.999)),
        "validation: leaves none of the 200 rows for training; use a smaller fraction",
    ),
    (lambda: gather(Split(sources.find("t.csv"), test=0.999)), "test: leaves none of the 200 rows for training; use a smaller fraction"),
    (
        lambda: model.build(gather(Split(sources.find("t.csv"))), choose(144, False), net=[5, 9, 1], optimizer=OptimizerSpec("adam")),
        "net: 5-9-1 does not fit t.csv, which has 3 features and 1 output; use net='3-9-1'",
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
