"""From the command line to frozen options, the help, and errors."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

import microbp as bp
from microbp.cli import main as cli
from microbp.cli.options import COMMANDS, InfoOptions, LrFindOptions, PredictOptions, TrainOptions
from microbp.cli.parser import parse, spell
from microbp.core.specs import OptimizerSpec, table
from microbp.settings import schedules
from microbp.tables import recipe
from microbp.tables.encodings.summary import CLASSES
from microbp.tables.readers.errors import Argument

PACKAGE = Path(cli.__file__).parents[1]

# Arguments after `train x.csv`, the name of a field, and its value.
MEANINGS = [
    ([], "drop", ()),
    ([], "test", 0.2),
    ([], "activation", bp.Activation("gelu")),
    ([], "optimizer", OptimizerSpec("adam")),
    ([], "batch", None),
    ([], "stream", False),
    ([], "seed", 0),
    (["--drop", "a,b,,c d"], "drop", ("a", "b", "c d")),
    (["--test", ".5"], "test", 0.5),
    (["--test-file", "t.csv"], "test_file", "t.csv"),
    (["--net", "x-8-4-y"], "net", (None, 8, 4, None)),
    (["--net", "3-8-1"], "net", (3, 8, 1)),
    (["--activation", "leaky_relu(slope=0.2)"], "activation", bp.Activation("leaky_relu", slope=0.2)),
    (["--loss", "quantile(q=0.9)"], "loss", bp.Loss("quantile", q=0.9)),
    (["--lr", "auto"], "lr", "auto"),
    (["--lr", "1e-2"], "lr", 0.01),
    (["--decay", "0"], "decay", 0.0),
    (["--schedule", "constant"], "schedule", "constant"),
    (["--schedule", "step_decay(lr=0.1,step_size=3)"], "schedule", bp.StepDecay(lr=0.1, step_size=3)),
    (["--out", "n.safetensors"], "out", Path("n.safetensors")),
    (["--json", "--force"], "json", True),
]


@pytest.mark.parametrize(("words", "name", "value"), MEANINGS)
def test_arguments_become_values(words, name, value):
    command, options = parse(["train", "x.csv", *words])
    assert command == "train"
    assert options.data == "x.csv"
    assert getattr(options, name) == value
    assert type(getattr(options, name)) is type(value)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["train", "x.csv"], TrainOptions),
        (["lr-find", "x.csv"], LrFindOptions),
        (["predict", "net", "x.csv"], PredictOptions),
        (["info", "net"], InfoOptions),
    ],
)
def test_options_are_frozen(words, kind):
    command, options = parse(words)
    assert type(options) is kind is COMMANDS[command].options
    for field in dataclasses.fields(options):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(options, field.name, 1)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option(capsys, command):
    with pytest.raises(SystemExit) as exit_:
        parse([command, "--help"])
    out = capsys.readouterr().out
    assert exit_.value.code == 0
    for field in dataclasses.fields(COMMANDS[command].options):
        assert (spell(Argument(field.name)) if field.metadata["is_option"] else field.metadata["argparse"]["metavar"]) in out


@pytest.mark.parametrize("command", ["", *COMMANDS])
@pytest.mark.parametrize("columns", [80, 100, 200])
def test_help_fits_100_columns(capsys, monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        parse([*command.split(), "--help"])
    text = capsys.readouterr().out.partition("examples:")[0] if columns < 100 else capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= min(columns, 100)


@pytest.mark.parametrize("command", ["train", "lr-find"])
def test_help_lists_every_name(capsys, command):
    with pytest.raises(SystemExit):
        parse([command, "--help"])
    lines = " ".join(capsys.readouterr().out.split())
    for kind in ("activation", "loss", "optimizer"):
        assert f"{kind}: {', '.join(table(kind))} " in lines
    assert (f"schedule: {', '.join(name for name in schedules.NAMED if name != 'delay')} " in lines) == (command == "train")


def test_help_has_the_default_of_every_option(capsys):
    with pytest.raises(SystemExit):
        parse(["train", "--help"])
    *_, texts = " ".join(capsys.readouterr().out.partition("examples:")[0].split()).partition("data: DATA")
    for field in dataclasses.fields(TrainOptions):
        if field.metadata["kind"] and field.metadata["is_option"] and field.name != "config":
            text = texts.partition(f" {spell(Argument(field.name))} {field.metadata['argparse']['metavar']} ")[2]
            assert "(default: " in re.split(r" --[a-z-]+ [A-Z]{3}", text)[0], field.name
    chosen = [recipe.choose(rows, 10, 2, True, budget=budget) for rows in (3, 700, 5000, 10**9) for budget in recipe.BUDGETS]
    for values in ({one.batch for one in chosen}, {one.hidden[0] for one in chosen}):
        *others, last = map(str, sorted(values))
        assert f"{', '.join(others)} or {last}" in texts
    assert f"{min(one.epochs for one in chosen)} to {max(one.epochs for one in chosen)}, by the number of rows" in texts
    for classifies, kind in ((True, "classes"), (False, "numbers")):
        assert f"{recipe.choose(100, 10, 2, classifies).lr} for {kind}" in texts
    assert f"at most {CLASSES} different whole numbers" in texts


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_in_help_are_valid(command):
    for example in COMMANDS[command].examples:
        program, *arguments = shlex.split(example.removeprefix("mpiexec -n 4 "))
        assert program == "microbp" and parse(arguments)[0] == command


def test_a_config_file_sets_options_and_the_command_line_overrides_it(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('drop = ["a", "b"]\nnet = "x-7-y"\nlr = 0.01\ntest-file = "t.csv"\njson = true\nforce = false\nepochs = 3\n')
    arguments = ["--drop", "a,b", "--net", "x-7-y", "--lr", "0.01", "--test-file", "t.csv", "--json", "--epochs", "5"]
    of_file = parse(["train", "x.csv", "--config", str(config), "--epochs", "5"])[1]
    assert dataclasses.replace(of_file, config=None) == parse(["train", "x.csv", *arguments])[1]


def test_only_the_parser_uses_argparse():
    names = {
        path: {node.id for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Name)}
        for path in PACKAGE.rglob("*.py")
    }
    assert [path.name for path, used in names.items() if "argparse" in used] == ["parser.py"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("test", 5), ("test", "x"), ("validation", None), ("stream", 1), ("seed", -1), ("seed", 2**64), ("batch", 0), ("batch", None),
        ("epochs", "ten"), ("patience", []), ("activation", "rleu"), ("activation", {}), ("test_file", True), ("rows", None),
    ],
)  # fmt: skip
def test_a_checkpoint_with_invalid_notes_is_refused_in_one_line(capsys, tmp_path, monkeypatch, name, value):
    monkeypatch.chdir(tmp_path)
    Path("x.csv").write_text("a,y\n" + "".join(f"{i},{i * i % 17}.5\n" for i in range(60)))
    assert cli.main(["train", "x.csv", "--epochs", "2", "--net", "x-8-y", "--checkpoint", "run", "--json"]) == 0
    trainer = bp.Trainer.load("run")
    notes = json.loads(json.dumps(dict(trainer.net.notes)))
    (notes["microbp.run"] if name == "rows" else notes["microbp.run"]["options"])[name] = value
    trainer.net.notes = notes
    trainer.save("run")
    capsys.readouterr()
    assert cli.main(["train", "x.csv", "--resume", "run"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("microbp: error: run: not a microbp train checkpoint") or name == "rows"
