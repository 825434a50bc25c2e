"""The split of rows into train, validation and test, read whole and as a stream; weights of rows and of classes."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import table_runs

from microbp.cli.main import main
from microbp.core.specs import Loss
from microbp.tables import split
from microbp.tables.draws import PARTS, TEST, TRAIN, VALIDATION, Sizes, grouped, ordered, stratified
from microbp.tables.encodings.target import Target
from microbp.tables.readers import sources
from microbp.tables.readers.errors import ArgumentError
from microbp.tables.readers.sources import Source
from microbp.tables.split import Split, gather, prepared


def source_of(folder, rows, tests=0, stream=False):
    for name, count in (("t", rows), ("u", tests)):
        (folder / f"{name}.csv").write_text("a,row,y\n" + "".join(f"{i % 7},{i},{i / 4}\n" for i in range(count)))
    return sources.find(str(folder / "t.csv"), str(folder / "u.csv") if tests else None, stream=stream)


def drawn(chosen, target="y", classes=()):
    list(chosen.look())
    chosen.draw(Target(target, tuple(classes)))
    return chosen


def rows_of(chosen, part):
    return np.concatenate([[], *(piece.numbers("row") for piece in chosen.pieces(part))])


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 30, 100])
@pytest.mark.parametrize(("test", "validation"), [(0.2, 0.1), (0.5, 0.5), (0.9, 0.1), (0.01, 0.99), (0.0, 0.2)])
@pytest.mark.parametrize("tests", [0, 5])
@pytest.mark.parametrize("stream", [False, True])
def test_each_row_is_in_one_part_and_no_part_is_empty_or_the_error_says_why(tmp_path, monkeypatch, rows, test, validation, tests, stream):
    monkeypatch.setattr(sources, "CHUNK", 40)
    chosen = Split(source_of(tmp_path, rows, tests, stream), test=test, validation=validation)
    own = ("train", "validation") if tests or not test else ("train", "validation", "test")
    first = min(rows, 40) if stream else rows  # the rows of the first piece
    tested = 0 if len(own) == 2 else max(1, round(test * first))
    if tested + max(1, round(validation * (first - tested))) >= first:
        words = f"at least {len(own)} are needed" if first < len(own) else "leaves none of the .* use a smaller fraction"
        with pytest.raises(ArgumentError if first >= len(own) else ValueError, match=words):
            drawn(chosen)
        return
    drawn(chosen)
    parts = [rows_of(chosen, part) for part in own]
    assert sorted(np.concatenate(parts)) == list(range(rows))
    assert all(map(len, parts)) and chosen.training == len(parts[0])
    assert not tests or rows_of(chosen, "test").tolist() == list(range(tests))


@pytest.mark.parametrize("most", [1, 5, 7, 20, 100])
@pytest.mark.parametrize("stream", [False, True])
def test_only_some_validation_rows_of_a_stream_are_used_and_kept_in_memory(tmp_path, monkeypatch, most, stream):
    monkeypatch.setattr(sources, "CHUNK", 40)
    monkeypatch.setattr(split, "_KEPT", most)
    source, reads = source_of(tmp_path, 200, stream=stream), []
    counted = Source(source.where, lambda: reads.append(1) or source.tables(), source.tests, source.is_stream)
    data = gather(Split(counted, validation=0.25), target="y")
    found = {}
    for part in ("train", "validation"):
        before = len(reads)
        found[part] = sum(len(piece.x) for piece in data.parts[part]())
        assert len(reads) - before == (stream and part == "train")
    assert found["train"] == 120
    assert found["validation"] == 40 if not stream else 0 < found["validation"] <= most + 5  # up to a row more in each piece


# ---- which rows: random by class, by group, by time ----

RNG = np.random.default_rng(7)
LABELS = {
    "one class": np.zeros(50, int),
    "3 of 103": np.repeat([0, 1], [100, 3]),
    "2 of 1000": np.repeat([0, 1], [998, 2]),
    "1 of 60": np.repeat([0, 1], [59, 1]),
    "pairs": np.arange(60) % 30,
    "many": RNG.permutation(np.repeat(np.arange(26), RNG.integers(1, 40, 26))),
    "all different": np.arange(12),
    "a class that does not occur": np.repeat([0, 2], 20),
}


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize(("test", "validation"), [(0.2, 0.1), (0.5, 0.3), (0.05, 0.9)])
@pytest.mark.parametrize("seed", range(5))
def test_classes_are_drawn_in_proportion_and_each_is_in_train(name, test, validation, seed):
    labels = LABELS[name]
    count = len(labels)
    sizes = Sizes(round(test * count), round(validation * (count - round(test * count))))
    part = stratified(np.random.default_rng(seed).permutation(count), labels, sizes)
    rows = np.array([np.bincount(labels[part == one], minlength=labels.max() + 1) for one in (TRAIN, VALIDATION, TEST)])
    total = rows.sum(axis=0)
    assert (rows[TRAIN] >= (total >= 2)).all()
    if (total == 1).all():
        return
    assert rows[TEST].sum() == min(sizes.test, np.maximum(total - 1, 0).sum() - 1)
    if name in ("one class", "3 of 103", "1 of 60", "a class that does not occur"):  # enough rows for all rare classes
        assert (np.abs(rows[TEST] - sizes.test * total / count) < 1).all()
        assert (rows[TEST] >= (total >= 3)).all()
    if name != "pairs":
        assert len({tuple(stratified(np.random.default_rng(i).permutation(count), labels, sizes)) for i in range(9)}) > 1


def test_every_row_is_as_likely_as_others_of_its_class_to_be_tested():
    labels = np.repeat([0, 1], [30, 10])
    tested = sum(stratified(np.random.default_rng(i).permutation(40), labels, Sizes(10, 4)) == TEST for i in range(4000))
    assert np.abs(tested / 4000 - 0.25).max() < 0.035  # five standard errors


@pytest.mark.parametrize("sizes", [Sizes(20, 8), Sizes(0, 10), Sizes(1, 1), Sizes(60, 30)])
@pytest.mark.parametrize("groups", [RNG.integers(0, 20, 100), np.repeat(np.arange(4), [85, 5, 5, 5]), np.arange(100) % 3], ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_together_and_no_part_is_empty(sizes, groups, seed):
    groups = np.unique(groups, return_inverse=True)[1]
    part = grouped(groups, np.random.default_rng(seed).permutation(groups.max() + 1), sizes)
    assert {frozenset(part[groups == group]) for group in groups} <= {frozenset([one]) for one in (TRAIN, VALIDATION, TEST)}
    assert set(part) == {TRAIN, VALIDATION} | ({TEST} if sizes.test else set())
    if len(set(groups)) == 20 and sizes.test == 20:
        assert abs((part == TEST).sum() - 20) <= np.bincount(groups).max() / 2


def test_too_few_groups():
    assert grouped(np.array([0, 0, 1]), np.arange(2), Sizes(1, 1)) is None
    assert grouped(np.array([0, 0, 0]), np.arange(1), Sizes(0, 1)) is None
    assert grouped(np.array([0, 0, 1]), np.arange(2), Sizes(0, 1)) is not None


def test_the_latest_rows_are_the_test():
    times = RNG.permutation(50)
    assert ordered(times, Sizes(10, 4))[np.argsort(times)].tolist() == [TRAIN] * 36 + [VALIDATION] * 4 + [TEST] * 10
    assert set(ordered(times, Sizes(0, 4))) == {TRAIN, VALIDATION}


@pytest.mark.parametrize("most", [1, 4, 30])
@pytest.mark.parametrize("sizes", [Sizes(20, 8), Sizes(0, 10), Sizes(60, 20), Sizes(1, 1)])
def test_rows_of_a_time_stay_together_and_parts_are_ordered(most, sizes):
    times = np.repeat(RNG.permutation(200), RNG.integers(1, most + 1, 200))[:100]
    times[:3] = 1000, 1001, 1002  # enough times
    part = ordered(times, sizes)
    found = [set(times[part == name]) for name in ((TRAIN, VALIDATION, TEST) if sizes.test else (TRAIN, VALIDATION))]
    assert all(max(one) < min(other) for one, other in itertools.pairwise(found))
    assert not sizes.test or abs((part == TEST).sum() - sizes.test) <= max(most, 3)


def test_too_few_times():
    assert ordered(np.array([5, 5, 7]), Sizes(1, 1)) is None
    assert ordered(np.array([5, 5, 5]), Sizes(0, 1)) is None
    assert ordered(np.array([5, 5, 7]), Sizes(0, 1)).tolist() == [TRAIN, TRAIN, VALIDATION]


# ---- in a table ----

HOURS = RNG.permutation(200)
COLUMNS = {
    "row": range(200),
    "hour": HOURS,
    "day": [f"2024-{1 + day // 28 % 12:02}-{1 + day % 28:02}" for day in HOURS],
    "week": HOURS // 7,
    "person": [f"p{i % 23}" for i in range(200)],
    "size": RNG.normal(size=200).round(3),
    "copies": RNG.integers(0, 3, 200),
    "kind": [("no", "no", "no", "no", "yes")[i % 5] for i in range(200)],
}


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "CHUNK", 60)
    lines = [",".join(COLUMNS), *(",".join(map(str, row)) for row in zip(*COLUMNS.values(), strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")


def source(stream=False):
    return sources.find("t.csv", stream=stream)


@pytest.mark.parametrize("how", ["random", "last", "time:hour", "time:day", "time:week", "group:person"])
@pytest.mark.parametrize("weight", [None, "copies"])
@pytest.mark.parametrize("stream", [False, True])
def test_every_split_uses_each_row_that_is_there_once_and_always_the_same(table, how, weight, stream):
    if stream and ":" in how:
        with pytest.raises(ArgumentError, match=f"split: {how} needs all rows in memory; omit stream"):
            Split(source(stream), how=how)
        return
    first, again, other = (drawn(Split(source(stream), seed=seed, how=how, weight=weight), "kind", ("no", "yes")) for seed in (3, 3, 4))
    rows = {part: rows_of(first, part).astype(int) for part in PARTS}
    there = np.flatnonzero(np.asarray(COLUMNS["copies"]) > 0) if weight else np.arange(200)
    assert sorted(np.concatenate(list(rows.values()))) == there.tolist()
    assert all((rows[part] == rows_of(again, part)).all() for part in PARTS)
    assert any(len(rows[part]) != len(new := rows_of(other, part)) or (rows[part] != new).any() for part in PARTS) == (
        how in ("random", "group:person")
    )
    assert first.rows == {part: len(found) for part, found in rows.items()}
    if how == "last":
        assert np.concatenate([rows[part] for part in PARTS]).tolist() == there.tolist()
    if how.startswith("time"):
        column = np.asarray(COLUMNS[how.partition(":")[2]])
        times = [sorted(column[rows[part]].tolist()) for part in PARTS]
        assert times[0][-1] < times[1][0] and times[1][-1] < times[2][0]
    if how.startswith("group"):
        people = [set(np.asarray(COLUMNS["person"])[rows[part]]) for part in PARTS]
        assert not people[0] & people[1] and not (people[0] | people[1]) & people[2]


def test_a_rare_class_is_in_the_test_and_one_that_is_too_rare_is_named(tmp_path):
    for rare, missing in ((3, []), (1, ["yes"])):
        path = tmp_path / f"{rare}.csv"
        path.write_text("row,a,y\n" + "".join(f"{i},{i % 7},{'yes' if i < rare else 'no'}\n" for i in range(100 + rare)))
        chosen = drawn(Split(sources.find(str(path))), "y", ("no", "yes"))
        assert chosen.not_tested() == missing == list(gather(Split(sources.find(str(path))), target="y").not_tested)


WRONG = [
    ({"how": "sometimes"}, "split: must be random, last, time:COLUMN or group:COLUMN, not 'sometimes'"),
    ({"how": "time"}, "split: must be random, last, time:COLUMN or group:COLUMN, not 'time'"),
    ({"how": "last:row"}, "split: must be random, last, time:COLUMN or group:COLUMN, not 'last:row'"),
    ({"how": "time:houer"}, "split: t.csv: unknown column 'houer'; did you mean 'hour'"),
    ({"how": "time:person"}, "t.csv, row 1 (line 2), column 'person': 'p0' is not a number or an ISO date such as 2024-03-31"),
    ({"how": "group:kind"}, "split: 'kind' is the target; choose another column"),
    ({"weight": "kind"}, "weight: 'kind' is the target; choose another column"),
    ({"weight": "weights"}, "weight: t.csv: unknown column 'weights'"),
    ({"weight": "size"}, "the weight is -"),
]


@pytest.mark.parametrize(("settings", "text"), WRONG, ids=str)
def test_an_error_names_the_argument_or_the_cell(table, settings, text):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is checked below
        gather(Split(source(), **settings), target="kind", drop=["day"])
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "what"), [("", "is missing; fill it in, or use 0 to leave the row out"), ("-2", "is -2, but must be at least 0")]
)
def test_a_wrong_weight_is_named_by_its_row(tmp_path, cell, what):
    path = tmp_path / "t.csv"
    path.write_text("a,w,y\n" + "".join(f"{i % 7},{cell if i == 41 else 1},{i / 4}\n" for i in range(60)))
    with pytest.raises(ValueError, match=r"row 42 \(line 43\), column 'w': the weight " + what):
        gather(Split(sources.find(str(path)), weight="w"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("place", ["t.csv", "u.csv"])
def test_poisson_names_the_first_negative_target_before_training(tmp_path, monkeypatch, seed, stream, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "CHUNK", 20)
    for name in ("t.csv", "u.csv"):
        rows = "".join(f"{i % 7},{-3 if i in (33, 44) and name == place else i % 5}\n" for i in range(60))
        (tmp_path / name).write_text(f"a,y\n{rows}")
    with pytest.raises(ValueError, match=rf"^{place}, row 34 \(line 35\), column 'y': the target is -3, but poisson needs"):
        gather(Split(sources.find("t.csv", "u.csv", stream), seed=seed), loss=Loss("poisson"))


# ---- weights ----


def test_balanced_class_weights_are_those_of_scikit_learn(table):
    utils = pytest.importorskip("sklearn.utils.class_weight", reason="scikit-learn is not installed")
    data = gather(Split(source()), target="kind", drop=["day"], class_weight="balanced")
    labels = data.part("train").y
    np.testing.assert_allclose(data.class_weight, utils.compute_class_weight("balanced", classes=np.arange(2), y=labels))
    weighted = gather(Split(source(), weight="copies"), target="kind", drop=["day"], class_weight="balanced")
    weight = weighted.part("train").weight
    sums = np.bincount(weighted.part("train").y, weight)
    np.testing.assert_allclose(weighted.class_weight, weight.sum() / (2 * sums))  # scikit-learn from 1.7 on, with sample_weight
    (found,) = weighted.pieces("train")
    np.testing.assert_allclose(np.bincount(found.y, found.weight), weight.sum() / 2)
    (found,) = data.pieces("train")
    np.testing.assert_allclose(found.weight, data.class_weight[labels])
    assert data.part("validation").weight is None  # scores do not count classes alike
    with pytest.raises(ArgumentError, match="class_weight: needs classes, but 'size' is a number; omit it"):
        gather(Split(source()), target="size", drop=["day"], class_weight="balanced")


@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "hinge", "mse"])
def test_class_weights_work_with_every_loss_and_in_a_stream(table, loss):
    found = [
        [part.weight for part in data.pieces("train")]
        for data in (
            gather(Split(source(stream), how="last"), target="kind", drop=["day"], loss=Loss(loss), class_weight="balanced")
            for stream in (False, True)
        )
    ]
    np.testing.assert_array_equal(np.concatenate(found[0]), np.concatenate(found[1]))
    assert len(set(found[0][0])) == 2


def fitted(data):
    trainer = table_runs.first(data, epochs=4)
    return trainer, table_runs.measured(trainer, data)


@pytest.mark.parametrize("target", ["kind", "size"])
def test_a_row_of_weight_0_is_absent(tmp_path, monkeypatch, table, target):
    """The run is that of the table without these rows."""
    lines = (tmp_path / "t.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    position = list(COLUMNS).index("copies")
    (tmp_path / "u.csv").write_text("\n".join([lines[0], *(",".join(row) for row in rows if row[position] != "0")]) + "\n")
    both = []
    for name in ("t.csv", "u.csv"):
        data = gather(Split(sources.find(name), weight="copies"), target=target, drop=["day", "row"])
        assert "copies" not in [feature.name for feature in data.preparation.features] and "copies" in data.preparation.left_out
        both.append(fitted(data))
    assert both[0][0].net.params.tobytes() == both[1][0].net.params.tobytes()
    assert both[0][1].parts == both[1][1].parts


def test_a_weight_of_2_is_the_row_twice_in_the_scores(tmp_path, table):
    """Not in the split, which counts rows: so the test rows come from a file of their own."""
    lines = (tmp_path / "t.csv").read_text().splitlines()
    copies = list(COLUMNS).index("copies")
    twice = [line for line in lines[1:] for _ in range(int(line.split(",")[copies]))]
    (tmp_path / "u.csv").write_text("\n".join([lines[0], *twice]) + "\n")
    data = gather(Split(sources.find("t.csv", "t.csv"), weight="copies"), target="kind", drop=["day", "person"])
    trainer, weighted = fitted(data)
    plain = table_runs.measured(
        trainer, prepared(drawn(Split(sources.find("t.csv", "u.csv")), "kind", ("no", "yes")), data.preparation, data.loss)
    )
    for name, value in plain.parts["test"].items():
        assert weighted.parts["test"][name] == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize("options", [["--split", "time:hour"], ["--split", "group:person"], ["--weight", "copies", "--stream"],
                                     ["--class-weight", "balanced"]])  # fmt: skip
def test_a_resumed_run_has_the_same_split_and_weights(table, capsys, options):
    reports = []
    for arguments in (["t.csv", "--target", "kind", "--drop", "day", "--epochs", "5", *options], ["t.csv", "--resume", "run"]):
        assert (
            main(["train", *arguments, *["--checkpoint", "run"] * ("--resume" not in arguments), "--json", "--out", "net", "--force"]) == 0
        )
        report = json.loads(capsys.readouterr().out)
        reports.append([report[part] for part in PARTS])
    assert reports[0] == reports[1]
