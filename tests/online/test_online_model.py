"""OnlineModel: as documented, bit for bit after any interruption, and unchanged by a call that fails."""

import copy
import math
import pickle

import numpy as np
import pandas
import pytest

import microbp as bp

TARGETS = ("number", "classes")
STILL = (bp.Adagrad(lr=0.05), bp.Adam(lr=0.01), bp.SGD(lr=0.01), bp.Ftrl(lr=0.05))  # a step changes no row that it does not name
OPTIMIZERS = (*STILL, bp.AdamW(lr=0.01), "sgd_momentum")  # of the last two, saving rounds rows anew, because they catch up


def stream(target, count, rng):
    """Rows whose features appear and vanish: numbers of several types and scales, strings, bools, gaps."""
    for i in range(count):
        x = {
            "height": rng.gauss(1.7, 0.1),
            "steps": rng.randrange(10_000),
            "city": rng.choice(["Rome", "Oslo", "città"]),
            "new": rng.random() < 0.5,
            "gap": rng.choice([None, math.nan, pandas.NA, 3.5]),
            "narrow": np.float32(rng.gauss(0, 1)),
            "whole": np.int8(rng.randrange(-5, 5)),
            "constant": 1e9,
            f"name {i // 4}": rng.choice([1.0, "a", np.bool_(True)]),
        }
        names = rng.sample(sorted(x), rng.randrange(len(x) + 1))
        y = sum(len(name) for name in names) + x["height"]
        yield {name: x[name] for name in names}, 1000 + 50 * y if target == "number" else f"class {int(y) % 3}"


def model(target, **options):
    return bp.OnlineModel(target, **({"levels": 500, "hidden": (5,), "max_classes": 4, "seed": 3, "dtype": "float64"} | options))


def taught(target, rng, count=20, **options):
    m = model(target, **options)
    for x, y in stream(target, count, rng):
        m.learn_one(x, y)
    return m


def everything(m):
    """All that a model is. Brings all rows up to date."""
    t = m.trainer
    values = {"params": t.net.params, **t.state}
    return m.__getstate__()["model"], {name: one.tobytes() for name, one in values.items()}, t.steps, t.lr, t.net.notes, t.net.text()


# ---- what it computes ----


def documented(rows, target, levels):
    """Dense rows and targets as the documentation of OnlineModel defines them."""
    seen = {}

    def standard(name, value):
        values = seen.setdefault(name, [])
        values.append(float(value))
        spread = np.std(values)
        return (values[-1] - np.mean(values)) / spread if max(values) > min(values) else 0.0

    dense, y, labels = np.zeros((len(rows), levels)), [], []
    for row, (x, label) in zip(dense, rows, strict=True):
        for name, value in x.items():
            if isinstance(value, str | bool | np.bool_):
                row[bp.hash_features(f"{name}={value}", levels)] += 1
            elif not pandas.isna(value):
                row[bp.hash_features(name, levels)] += standard(name, value)
        if target == "classes" and label not in labels:
            labels.append(label)
        y.append(labels.index(label) if target == "classes" else standard("", label))
    return dense, np.array(y), labels


@pytest.mark.parametrize("levels", [7, 500])  # with many collisions, and with few
@pytest.mark.parametrize("target", TARGETS)
def test_it_learns_what_a_trainer_learns_from_the_documented_rows(target, levels, backend, rng):
    rows = list(stream(target, 30, rng))
    m = model(target, levels=levels, backend=backend)
    trainer = bp.Trainer(copy.deepcopy(m.trainer.net), "mse" if target == "number" else "cross_entropy", m.trainer.optimizer)
    dense, encoded, labels = documented(rows, target, levels)
    for i, (x, y) in enumerate(rows):
        outputs, prediction = trainer.predict(dense[i : i + 1])[0], m.learn_one(x, y)
        before = [label for _, label in rows[:i]]
        if target == "number":
            expected = np.mean(before) + outputs[0] * np.std(before) if i else 0
            assert math.isclose(prediction, expected, rel_tol=1e-9, abs_tol=1e-9)
        else:
            seen = len(set(before))
            assert prediction == (labels[outputs[:seen].argmax()] if seen else None)
        trainer.step(dense[i : i + 1], encoded[i : i + 1])
    assert np.allclose(m.trainer.net.params, trainer.net.params, rtol=0, atol=1e-9)
    assert m.classes == tuple(labels)


@pytest.mark.parametrize("target", TARGETS)
def test_learn_one_returns_what_predict_one_returns_before(target, rng):
    m = model(target)
    for x, y in stream(target, 20, rng):
        before, state = m.predict_one(x), everything(m)
        assert everything(m) == state
        assert m.learn_one(x, y) == before
    assert m.trainer.steps == 20


@pytest.mark.parametrize("target", TARGETS)
def test_before_the_first_row_nothing_is_known(target, rng):
    m = model(target)
    x, y = next(stream(target, 1, rng))
    assert m.predict_one(x) == m.learn_one(x, y) == (0.0 if target == "number" else None)
    assert bp.OnlineModel(target, levels=10).predict_one({}) == (0.0 if target == "number" else None)


def test_probabilities_are_those_of_the_classes_that_have_appeared(rng):
    m = model("classes")
    for x, y in stream("classes", 30, rng):
        found = m.predict_proba_one(x)
        assert tuple(found) == m.classes
        assert not found or math.isclose(sum(found.values()), 1)
        assert m.predict_one(x) == max(found, key=found.__getitem__, default=None)
        m.learn_one(x, y)
    assert len(m.classes) == 3


def test_the_order_of_features_does_not_matter(rng):
    rows = list(stream("number", 20, rng))
    one, other = model("number", levels=2**20, hidden=()), model("number", levels=2**20, hidden=())
    for x, y in rows:
        assert one.learn_one(x, y) == other.learn_one(dict(reversed(x.items())), y)
    assert one.trainer.net.params.tobytes() == other.trainer.net.params.tobytes()


@pytest.mark.parametrize("labels", [["a", "b"], [3, -1], [True, False], [np.int64(3), 4], [np.str_("a"), "b"], [np.True_, False]])
def test_labels_come_back_as_they_were(labels):
    m = model("classes")
    for y in labels * 30:
        m.learn_one({"y": str(y)}, y)
    assert m.classes == tuple(labels)
    for y in labels:
        found = m.predict_one({"y": str(y)})
        assert found == y
        assert type(found) in (str, int, bool)


@pytest.mark.parametrize("values", [[1e149, -1e149, 0], [0, 5e-324, 0], [1e9, 1e9 + 1e-6], [7] * 5, [10**100, 1]])
def test_numbers_of_any_size_are_learnt(values):
    m = model("number")
    for value in values * 3:
        assert math.isfinite(m.learn_one({"a": value}, value))
    assert np.isfinite(m.trainer.net.params).all()


def test_numbers_of_any_unit_give_the_same_model(rng):
    rows = [(rng.gauss(0, 1), rng.gauss(0, 1)) for _ in range(30)]
    one, other = model("number"), model("number")
    for a, y in rows:
        found, expected = other.learn_one({"a": 8 * a}, 1024 * y), one.learn_one({"a": a}, y)
        assert found == 1024 * expected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("hidden", [(), (32,)])
def test_rows_of_one_feature_are_learnt(hidden, seed):
    m = bp.OnlineModel("number", levels=2**10, hidden=hidden, seed=seed)
    for _ in range(300):
        errors = [abs(m.learn_one({"city": city}, y) - y) for city, y in (("Rome", 30), ("Oslo", 10))]
    assert max(errors) < 2


# ---- copies and files ----


def by_file(m, path):
    m.save(path)
    return bp.OnlineModel.load(path)


WAYS = {
    "file": by_file,
    "pickle": lambda m, path: pickle.loads(pickle.dumps(m)),
    "copy": lambda m, path: copy.copy(m),
    "deepcopy": lambda m, path: copy.deepcopy(m),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("way", WAYS)
def test_a_copy_goes_on_bit_for_bit(way, target, optimizer, rng, tmp_path):
    options = {"optimizer": optimizer, "dtype": "float32"}
    m, never_saved, chain = model(target, **options), model(target, **options), [model(target, **options)]
    for i, (x, y) in enumerate(stream(target, 30, rng)):
        if i % 7 == 5:
            chain.append(WAYS[way](chain[-1], tmp_path / "m.safetensors"))
            m.save(tmp_path / "other.safetensors")
        found = {str(one.learn_one(x, y)) for one in (m, chain[-1], *[never_saved] * (optimizer in STILL))}
        assert len(found) == 1
    assert everything(chain[-1]) == everything(m)
    assert optimizer not in STILL or everything(never_saved) == everything(m)
    assert [one.trainer.steps for one in chain] == [5, 12, 19, 26, 30]  # they are independent


def test_a_file_of_each_backend_goes_on_in_the_other(target_rows, backend, tmp_path):
    target, rows = target_rows
    m = model(target, backend=backend, levels=50)
    for x, y in rows:
        m.learn_one(x, y)
    m.save(tmp_path / "m.safetensors")
    other = bp.OnlineModel.load(tmp_path / "m.safetensors", backend="reference" if backend == "compiled" else "compiled")
    assert (other.trainer.net.backend == backend, other.levels, other.target, other.classes) == (False, 50, target, m.classes)
    for x, y in rows:
        found, expected = other.learn_one(x, y), m.learn_one(x, y)
        assert found == (pytest.approx(expected, rel=1e-9) if target == "number" else expected)


@pytest.fixture(params=TARGETS)
def target_rows(request, rng):
    return request.param, list(stream(request.param, 10, rng))


def test_notes_of_the_network_stay(tmp_path, rng):
    m = taught("classes", rng)
    m.trainer.net.notes = {"mine": [1, 2]}
    again = by_file(m, tmp_path / "m.safetensors")
    assert m.trainer.net.notes == again.trainer.net.notes == {"mine": [1, 2]}
    with pytest.raises(FileNotFoundError):
        m.save(tmp_path / "missing" / "m.safetensors")
    assert m.trainer.net.notes == {"mine": [1, 2]}
    assert bp.load(tmp_path / "m.safetensors").notes["online_model"]["seen"] == list(m.classes)


@pytest.mark.parametrize(
    "change",
    [
        {"target": "text"},
        {"moments": [1]},
        {"moments": {"a": [1, 2]}},
        {"moments": {"a": [-1, 0, 0]}},
        {"moments": {"a": [1.5, 0, 0]}},
        {"moments": {"a": [1, "b", 0]}},
        {"moments": {"a": [1, 0, -1]}},
        {"seen": ["a", "a"]},
        {"seen": ["a", 1]},
        {"seen": list("abcde")},
        {"seen": 3},
    ],
    ids=str,
)
def test_a_file_with_another_state_is_refused(change, tmp_path, rng):
    path = tmp_path / "m.safetensors"
    m = taught("classes", rng)
    m.save(path)
    t = bp.Trainer.load(path)
    t.net.notes = {"online_model": dict(t.net.notes["online_model"]) | change}
    t.save(path)
    with pytest.raises(ValueError, match=r"m\.safetensors: the online model's state is invalid \("):
        bp.OnlineModel.load(path)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "t.safetensors"
    bp.Trainer(bp.mlp([3, 1]), "mse").save(path)
    with pytest.raises(ValueError, match=r"t\.safetensors: contains a trainer, but no online model; load it with bp\.Trainer\.load"):
        bp.OnlineModel.load(path)
    bp.mlp([3, 1]).save(path)
    with pytest.raises(ValueError, match="contains a network but no trainer"):
        bp.OnlineModel.load(path)


# ---- what is refused ----

X = {"a": 1, "b": "c"}
WRONG_ROWS = [
    ([1, 2], TypeError, r"x must be a dict of features by name, not \[1, 2\]"),
    ({1: 2}, TypeError, "x has the name 1, but names must be strings"),
    (X | {"d": [1]}, TypeError, r"x\['d'\] must be a number, a string, True, False or None, not \[1\]"),
    (X | {"d": b"e"}, TypeError, r"x\['d'\] must be a number, a string, True, False or None, not b'e'"),
    (X | {"d": math.inf}, ValueError, r"x\['d'\] is inf, but numbers must be between -1e\+150 and 1e\+150"),
    (X | {"d": 10**400}, ValueError, r"x\['d'\] is 1000+\.\.\., but numbers must be between"),
    (X | {"d\ud800": 1}, ValueError, r"x has 'd\\ud800', which cannot be written as UTF-8"),
    (X | {"d": "\ud800"}, ValueError, r"x has 'd=\\ud800', which cannot be written as UTF-8"),
]
WRONG_TARGETS = {
    "number": [
        ("a", TypeError, "y must be a number, not 'a'"),
        (None, TypeError, "y must be a number, not None"),
        (True, TypeError, "y must be a number, not True"),
        (math.nan, ValueError, "y is nan, but numbers must be between"),
        (-math.inf, ValueError, "y is -inf, but numbers must be between"),
    ],
    "classes": [
        (1, TypeError, "y is 1, but the classes so far are strings"),
        (None, TypeError, "y is None, but the classes so far are strings"),
        ("fifth", ValueError, "y is 'fifth', class number 5, but the model has outputs for 4: create a model with a larger max_classes"),
    ],
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_call_that_fails_changes_nothing(target, rng):
    m = taught(target, rng)
    right = 1.0 if target == "number" else "class 1"
    if target == "classes":
        m.learn_one(X, "fourth")
    before = everything(m)
    for x, kind, text in WRONG_ROWS:
        for call in (lambda x=x: m.learn_one(x, right), lambda x=x: m.predict_one(x)):
            with pytest.raises(kind, match=text):
                call()
            assert everything(m) == before
    for y, kind, text in WRONG_TARGETS[target]:
        with pytest.raises(kind, match=text):
            m.learn_one(X | {"unseen": 5}, y)
        assert everything(m) == before


def test_a_step_that_fails_changes_nothing():
    m = bp.OnlineModel("number", levels=20, hidden=(4,), optimizer=bp.SGD(lr=1e30), seed=0)
    for i in range(2):
        m.learn_one({"a": i}, i)
    before = everything(m)
    with pytest.raises(FloatingPointError, match="use a lower lr"):
        m.learn_one({"a": 7, "new": 1}, 1)
    assert everything(m) == before


def test_the_first_class_decides_what_classes_are():
    for y in (1.5, None, b"a", [1], np.float32(1)):
        with pytest.raises(TypeError, match="but the classes must be strings, whole numbers or bools"):
            model("classes").learn_one(X, y)
    m = model("classes")
    m.learn_one(X, 1)
    with pytest.raises(TypeError, match="y is True, but the classes so far are whole numbers"):
        m.learn_one(X, True)


def test_a_number_has_no_probabilities():
    with pytest.raises(ValueError, match="predict_proba_one: the target is a number, which has no probabilities: use predict_one"):
        model("number").predict_proba_one(X)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"target": "text"}, ValueError, "OnlineModel: target is 'text'; it must be one of 'number', 'classes'"),
        ({"target": 3}, TypeError, "OnlineModel: target is 3"),
        ({"levels": 0}, ValueError, "OnlineModel: levels must be at least 1, not 0"),
        ({"levels": 2**31}, ValueError, r"OnlineModel: levels must be below 2\*\*31"),
        ({"levels": 1.5}, TypeError, "OnlineModel: levels must be a whole number, not 1.5"),
        ({"max_classes": 1}, ValueError, "OnlineModel: max_classes must be at least 2, not 1"),
        ({"hidden": 16}, TypeError, r"OnlineModel: hidden must be a list such as \[16\], not 16"),
        ({"hidden": "16"}, TypeError, "OnlineModel: hidden must be a list"),
        ({"hidden": [0]}, ValueError, r"OnlineModel: hidden\[0\] must be at least 1, not 0"),
        ({"activation": "rleu"}, ValueError, "did you mean 'relu'"),
        ({"optimizer": "lion"}, ValueError, "lion changes all rows in each step: use another optimizer"),
        ({"optimizer": bp.Adam(weight_decay=0.1)}, ValueError, "adam with weight_decay changes all rows in each step"),
        ({"dtype": "float16"}, ValueError, "float16"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(options, kind, text):
    with pytest.raises(kind, match=text):
        bp.OnlineModel(**({"target": "number", "levels": 5} | options))


def test_the_attributes_are_read_only():
    m = model("classes")
    assert (m.target, m.levels, m.classes, m.trainer.steps) == ("classes", 500, (), 0)
    for name in ("target", "levels", "classes", "trainer"):
        with pytest.raises(AttributeError, match=f"OnlineModel.{name} is read-only"):
            setattr(m, name, 1)
    m.trainer.lr = 0.25
    assert m.trainer.lr == 0.25
    assert repr(m) == "microbp.OnlineModel: 0 classes so far, 500 levels, Adagrad(lr=0.05), 0 rows learnt"
