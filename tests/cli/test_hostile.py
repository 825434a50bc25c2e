"""Files of strangers: any value in them gives a result or an error of one line, and no character that a terminal obeys."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import shutil

import cases
import pytest

import microbp as bp
from microbp.cli.main import main
from microbp.training import trainer_file

KINDS = "size,colour,kind\n" + "".join(f"{i + 5},{'red' if i % 3 else 'blue'},{'abc'[i % 3]}\n" for i in range(60))
NUMBERS = "size,price\n" + "".join(f"{i if i % 7 else ''},{10 * i + 0.5}\n" for i in range(60))
ESCAPE = "\x1b[31m\x9b\u202e\r"
OBEYED = re.compile("[^\n\t -~\xa0-\u200d\u2010-\u2027\u2030-\U0010ffff]|\u202e")

# Values as JSON text: of each type, limits of numbers, what only some readers take for JSON, what other places of the file contain.
HOSTILE = [
    *("null", "true", "false", "0", "-0", "-1", "1", "3", "1.5", "1e-320", "1e308", "1e999", "9223372036854775808"),
    *("1" * 400, "-1" + "0" * 400),
    *("NaN", "-Infinity", "1" * 5000, '""', '"x"', '"nan"', '"1e999"', json.dumps(ESCAPE), '"\\ud800"', '"\\u0000"', f'"{"x" * 10_000}"'),
    *("[]", "[[]]", "[null]", "[0]", '["a"]', '["a","a"]', "{}", '{"":0}', '{"name":[]}', "[" * 2000 + "]" * 2000),
    '{"a":' * 500 + "1" + "}" * 500,
    *('{"$float":"x"}', '{"$float":[]}', '{"$array":"x"}', '{"$array":{}}', '{"$tuple":1}', '{"$Loss":[]}', '{"$Loss":"mse(x=1"}'),
    '{"$SGD":{}}',
    *('{"$SGD":1}', '{"$SGD":{"lr":{"$float":"inf"}}}', '{"$Cosine":{"lr":1,"steps":0}}', f'{{"${"x" * 500}":1}}', '{"$\\u001b[31m":1}'),
]  # fmt: skip


def places(value, path=()):
    """The paths of all values inside a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inside in items:
        yield from places(inside, (*path, key))


def edits(value, under=(), every=7):
    """Each path inside a JSON value, with each hostile text to put there; or, in a short run, one of `every` such pairs. All texts and, if
    `every` is below their number, all paths are among them; the pairs depend on the seed of the run."""
    pairs = [((*under, *path), raw) for path in places(value) for raw in HOSTILE]
    assert math.gcd(every, len(HOSTILE)) == 1
    return pairs if cases.LONG else pairs[cases.SEED % every :: every]


def edited(value, path, raw):
    """The JSON text of a value in which the text `raw` replaces the value at the path."""

    def change(value, path):
        if not path:
            return "@hostile@"
        copy = dict(value) if isinstance(value, dict) else list(value)
        copy[path[0]] = change(value[path[0]], path[1:])
        return copy

    return json.dumps(change(value, path), ensure_ascii=False, separators=(",", ":")).replace('"@hostile@"', raw)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with tables, checkpoints and networks."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, text in (("kinds", KINDS), ("numbers", NUMBERS)):
            (folder / f"{name}.csv").write_text(text)
            options = ["--epochs", "2", "--ensemble", "1", "--net", "x-8-y", "--checkpoint", f"{name}.run"]
            assert main(["train", f"{name}.csv", *options, "--out", name]) == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *arguments):
    """Runs a command. It ends with a result, or with an error of one line. Returns the exit code and the output."""
    capsys.readouterr()
    try:
        code = main(list(arguments))
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    shown = out.replace("\u202e", "") if arguments[0] == "predict" else out  # data keeps what is no control character
    assert not OBEYED.search(shown) and not OBEYED.search(err), (arguments, out, err)
    assert code in (0, 1, 2) and (code == 0 or re.fullmatch(r"(.*\n)*microbp.*: error: .+\n", err)), (arguments, code, err)
    return code, out, err


def saved_with(net, notes, path):
    net._core.notes = notes
    net._core.save(path)


@pytest.mark.parametrize("name", ["kinds", "numbers"])
def test_any_value_in_the_notes_of_a_table(capsys, folder, name):
    net = bp.load(name)
    notes = json.loads(net._core.notes)
    refused = 0
    pairs = edits(notes)
    for path, raw in pairs:
        saved_with(net, edited(notes, path, raw), "model")
        code, _, err = run(capsys, "info", "model")
        assert code == 0 or "model" in err, (path, raw, err)
        code, _, err = run(capsys, "predict", "model", f"{name}.csv")
        assert code == 0 or "model" in err or f"{name}.csv" in err, (path, raw, err)
        refused += code != 0
    assert refused > len(pairs) / 2


def test_any_value_in_the_options_of_a_checkpoint(capsys, folder):
    trainer = bp.Trainer.load("kinds.run")
    notes = json.loads(trainer.net._core.notes)
    shutil.copy("kinds.run.networks", "run.networks")
    refused = 0
    pairs = edits(notes["microbp.run"], under=("microbp.run",), every=3) + edits({}, every=1)
    for path, raw in pairs:
        trainer.net._core.notes = edited(notes, path, raw)
        trainer.save("run")
        code, _, err = run(capsys, "train", "kinds.csv", "--resume", "run", "--out", "again", "--force")
        assert code == 0 or any(name in err for name in ("run", "kinds.csv", "--test-file", "name too long")), (path, raw, err)
        refused += code != 0
    assert refused > len(pairs) / 2


def hostile_lines(text):
    """The text of a trainer with any value in any line."""
    lines = text.removesuffix("\n").split("\n")
    for i, line in enumerate(lines):
        key, _, value = line.partition("=")
        values = HOSTILE
        if key.startswith("python."):
            kept = json.loads(value)
            values = [*HOSTILE, *(edited(kept, path, raw) for path, raw in edits(kept, every=1))]
        for new in values:
            yield "".join(f"{one}\n" for one in [*lines[:i], f"{key}={new}", *lines[i + 1 :]])


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_any_value_in_the_state_of_a_trainer(folder, backend):
    trainer = bp.Trainer.load("kinds.run")
    text, vectors = trainer_file.encode(trainer.net, trainer.__getstate__())
    refused = 0
    every = 11 if backend == "compiled" else 67  # the reference's checksum is slow
    changed = list(hostile_lines(text))[cases.SEED % every :: every]
    for new in changed:
        trainer.net._core.save_with("run", new, vectors)
        try:
            bp.Trainer.load("run", backend=backend)
            continue
        except ValueError as error:
            found = str(error)
        assert found.startswith("run: ") and not OBEYED.search(found), new
        refused += 1
    assert refused > len(changed) / 2


@pytest.mark.parametrize("raw", HOSTILE, ids=range(len(HOSTILE)))
def test_any_notes_of_a_network(raw, tmp_path):
    net = bp.mlp([2, 1])
    for text in (raw, f'{{"a":{raw}}}'):
        saved_with(net, text, str(tmp_path / "net"))
        loaded = bp.load(tmp_path / "net")
        with contextlib.suppress(ValueError):
            assert isinstance(loaded.notes, dict) and json.loads(json.dumps(loaded.notes)) == loaded.notes


CYCLE: list[object] = []
CYCLE.append(CYCLE)


VALUES = [(value, True) for value in (10**300, -(10**300), 1.5, "é", {"b": [1, None]})]
VALUES += [(value, False) for value in (10**400, -(10**4000), 10**5000, float("nan"), CYCLE, "\ud800", {1}, b"x")]


@pytest.mark.parametrize(("value", "is_json"), VALUES, ids=range(len(VALUES)))
def test_notes_that_are_accepted_are_read_back(value, is_json):
    net = bp.mlp([2, 1])
    net.notes = {"kept": 1}
    before = dict(net.notes)
    if is_json:
        net.notes = {"a": value}
        assert net.notes == {"a": value} == net.copy().notes
    else:
        with pytest.raises((TypeError, ValueError), match="notes"):
            net.notes = {"a": value}
        assert net.notes == before


def test_deep_notes_are_refused():
    net, deep = bp.mlp([2, 1]), []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="notes are nested too deeply"):
        net.notes = {"a": deep}


CONFIGS = [f"{name} = {'[' * 200}{']' * 200}" for name in ("net", "drop", "epochs", "activation")]
CONFIGS += ["x = " + "[" * 2000 + "]" * 2000, "epochs = " + "9" * 400, "epochs = " + "9" * 5000, "lr = nan", "net = [[1]]", "seed = -1"]
CONFIGS += ["epochs = 1979-05-27", "x = \x1b", 'loss = "\\u001b[31m"', "lr = 1e999", "epochs = []", "drop = [{}]", "\ud800", "json = 1"]


@pytest.mark.parametrize("text", CONFIGS, ids=range(len(CONFIGS)))
def test_any_config(capsys, folder, text):
    (folder / "c.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    code, _, err = run(capsys, "train", "kinds.csv", "--config", "c.toml", "--epochs", "1")
    assert code == 0 or "c.toml" in err, err


def test_names_of_strangers_are_shown_escaped(capsys, folder):
    """Also in the CSV of predictions, where only control characters are escaped, and in errors. A class that starts with = is unchanged."""
    hostile = KINDS.replace("size", f"size{ESCAPE[:-1]}").replace("kind", f"kind{ESCAPE[:-1]}")
    hostile = re.sub("b$", f"=b{ESCAPE[:-1]}", hostile, flags=re.MULTILINE).replace("red", f"red{ESCAPE[:-1]}")
    (folder / "odd.csv").write_text(hostile)
    for command in (
        ["train", "odd.csv", "--epochs", "1", "--out", "odd"],
        ["info", "odd"],
        ["predict", "odd", "odd.csv"],
        ["predict", "odd", "odd.csv", "--json"],
        ["predict", "odd", "numbers.csv"],
        ["train", "odd.csv", "--target", f"kin{ESCAPE}"],
        ["info", f"none{ESCAPE}"],
        [f"none{ESCAPE}"],
    ):
        try:
            code = main(command)
        except SystemExit as stopped:
            code = stopped.code
        out, err = capsys.readouterr()
        assert "\\x1b[31m" in out + err or "\\u001b[31m" in out or (code == 0 and command[0] == "train"), command
        shown = out.replace("\u202e", "") if command[0] == "predict" else out  # data keeps what is no control character
        assert not OBEYED.search(shown) and not OBEYED.search(err.replace("\r", "")), (command, out, err)
    assert main(["predict", "odd", "odd.csv", "--json"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    assert next(iter(row)) == f"kind{ESCAPE[:-1]}" and f"=b{ESCAPE[:-1]}" in row["probabilities"]
    assert main(["predict", "odd", "odd.csv"]) == 0
    head = next(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert "p(=b\\x1b[31m\\x9b\u202e)" in head


@pytest.mark.parametrize("name", ["out", "plot", "checkpoint"])
def test_a_read_only_output_is_refused_before_the_work(capsys, folder, name):
    target = folder / "kept.png"
    target.write_text("mine")
    target.chmod(0o444)
    code, out, err = run(capsys, "train", "kinds.csv", f"--{name}", "kept.png", "--force")
    assert code == 1 and "kept.png" in err and "read-only" in err and not out
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    "arguments", ["train DEVICE", "predict kinds DEVICE", "train kinds.csv --config DEVICE", "predict DEVICE kinds.csv"]
)
def test_devices_are_not_read(capsys, folder, arguments):
    """/dev/null is an empty table; other devices never end."""
    for device, text in (("/dev/zero", "is a device|not a regular file"), ("/dev/null", "is empty|not a regular file")):
        if "--config" not in arguments or device != "/dev/null":  # which sets no option
            code, _, err = run(capsys, *arguments.replace("DEVICE", device).split())
            assert code in (1, 2) and device in err and re.search(text, err), err
