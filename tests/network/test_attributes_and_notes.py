"""Attributes, pickles, arguments and notes of networks."""

import copy
import gc
import json
import math
import pickle
import weakref
from types import MappingProxyType

import numpy as np
import pytest

import microbp as bp


@pytest.fixture
def net(backend):
    return bp.mlp([4, 3, 2], seed=1, backend=backend)


# ---- attributes ----


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("n_thread", "no attribute 'n_thread'; did you mean 'n_threads'"),
        ("note", "did you mean 'notes'"),
        ("parms", "Network has no attribute 'parms'; did you mean 'params'\\?"),
        ("x", "writable attributes: buffers, n_threads, notes, params"),
        *((name, f"Network.{name} is read-only") for name in ("tensors", "layers", "nodes", "inputs", "outputs")),
        *((name, f"Network.{name} is read-only") for name in ("dtype", "seed", "backend", "predict", "save")),
    ],
)
def test_other_attributes_are_refused(net, name, words):
    before = net.params.copy()
    with pytest.raises(AttributeError, match=words):
        setattr(net, name, before)
    with pytest.raises(AttributeError):
        delattr(net, name)
    np.testing.assert_array_equal(net.params, before)


def test_params_can_be_set_as_a_whole(net):
    view, before = net.params, net.params.copy()
    net.params *= 2
    np.testing.assert_array_equal(view, 2 * before)
    net.params = before
    assert net.params is view
    np.testing.assert_array_equal(view, before)
    for wrong, error, words in (
        (before[:3], ValueError, r"params has shape \(23,\); it cannot be set to an array of shape \(3,\)"),
        (None, TypeError, "params is None; it must be an array of numbers"),
        ("abc", TypeError, "params must contain real numbers, not strings"),
    ):
        with pytest.raises(error, match=words):
            net.params = wrong
    with pytest.raises(ValueError, match=r"buffers has shape \(0,\)"):
        net.buffers = before
    np.testing.assert_array_equal(view, before)
    net.params = 0
    assert not view.any()


def test_raw_must_be_true_or_false(net):
    x, out = np.zeros((2, 4)), np.zeros((2, 2), "f")
    for wrong, words in ((out, r"an array of shape \(2, 2\)"), ("no", "'no'"), (2, "2"), (None, "None")):
        for predict in (net.predict, bp.Trainer(net, "mse").predict):
            with pytest.raises(TypeError, match=f"predict: raw must be True or False, not {words}"):
                predict(x, wrong)
    np.testing.assert_array_equal(net.predict(x, np.True_), net.predict(x, True))
    assert net.predict(x, out=out) is out


def test_records_cannot_be_changed(net):
    with pytest.raises(TypeError, match=r"read-only; to change values: net\.tensors\['dense_0\.weight'\]\[\.\.\.\] = values"):
        net.tensors["dense_0.weight"] = np.zeros((3, 4))
    for change in (lambda: net.tensors.clear(), lambda: net.tensors.pop("dense_0.weight"), lambda: net.tensors.update({})):
        with pytest.raises(TypeError, match=r"net\.tensors is read-only; its arrays can be written to"):
            change()
    with pytest.raises(KeyError, match=r"unknown name in net\.tensors: 'dense_0\.weigth'; did you mean 'dense_0\.weight'"):
        net.tensors["dense_0.weigth"]
    assert "dense_0.weigth" not in net.tensors and net.tensors.get("dense_0.weigth") is None
    with pytest.raises(AttributeError):
        net.outputs[0].activation = "exp"
    net.layers.clear()
    assert len(net.layers) == 2


class Named(bp.Network):
    """A user's subclass with a further attribute."""

    label = "?"

    def name(self):
        return f"{self.label}: {self.predict(np.zeros(4)).shape}"


def test_a_subclass_may_have_further_attributes(backend, tmp_path):
    x = bp.Input(4)
    net = Named(x, bp.Dense(2)(x), backend=backend)
    net.label, net.extra, net.itself = "mine", [1, 2], net
    assert net.name() == "mine: (2,)"
    for other in (net.copy(), copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert type(other) is Named
        assert other.name() == "mine: (2,)" and other.extra == [1, 2]
        np.testing.assert_array_equal(other.params, net.params)
    assert copy.deepcopy(net).extra is not net.extra and copy.deepcopy(net).itself is not net
    del net.itself


def test_weak_references_do_not_keep_a_network(backend):
    net = bp.mlp([2, 1], backend=backend)
    seen, view = weakref.ref(net), net.params
    assert seen() is net
    del net
    gc.collect()
    assert seen() is None
    view[:] = 1  # a view keeps the memory


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_has_everything(backend, protocol):
    x = bp.Input(4)
    net = bp.Network(x, bp.Dense(2, init=np.ones((2, 4)))(x), dtype="float64", seed=3, backend=backend, n_threads=2)
    net.params[:] = 5
    net.notes = {"a": [1]}
    net.freeze()
    net.set_output(0, "exp")
    back = pickle.loads(pickle.dumps(net, protocol))
    assert (back.text(), back.dtype, back.notes) == (net.text(), np.float64, {"a": [1]})
    assert (back.seed, back.backend, back.n_threads) == (3, backend, 2)
    np.testing.assert_array_equal(back.params, net.params)
    back.init(seed=1)
    np.testing.assert_array_equal(back.tensors["dense_0.weight"], np.ones((2, 4)))


# ---- calls ----


def test_settings_of_mlp_are_given_by_name(backend):
    assert bp.mlp([4, 3, 2], "tanh", backend=backend).layers[0].activation == "tanh"
    with pytest.raises(TypeError):
        bp.mlp([4, 3, 2], "tanh", "float64")


def test_set_output_takes_arguments_by_position_or_name(net):
    for call in (lambda: net.set_output(0, "exp"), lambda: net.set_output(i=0, activation="exp")):
        net.set_output(0, None)
        call()
        assert net.outputs[0].activation == "exp"


# ---- notes ----

NOTES = {"classes": ["a", "b"], "table": {"columns": [{"name": "x", "scale": 0.5}, {"name": "y", "levels": []}]}, "none": None}


def inside(value):
    """The dicts and lists in a value, and the value itself."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(found for part in parts for found in inside(part))] if isinstance(value, dict | list) else []


CHANGES = {
    dict: [
        lambda d: d.__setitem__("a", 1),
        lambda d: d.__delitem__(next(iter(d), "a")),
        lambda d: d.update(a=1),
        lambda d: d.setdefault("z", 1),
        lambda d: d.pop("a", None),
        lambda d: d.popitem(),
        lambda d: d.clear(),
    ],
    list: [
        lambda v: v.__setitem__(slice(0, 0), [1]),
        lambda v: v.__delitem__(slice(0, 1)),
        lambda v: v.__iadd__([1]),
        lambda v: v.__imul__(2),
        lambda v: v.append(1),
        lambda v: v.extend([1]),
        lambda v: v.insert(0, 1),
        lambda v: v.pop(),
        lambda v: v.remove(v[0] if v else 0),
        lambda v: v.reverse(),
        lambda v: v.sort(),
        lambda v: v.clear(),
    ],
}


def test_notes_are_read_only_all_the_way_down(net):
    net.notes = NOTES
    notes = net.notes
    parts = inside(notes)
    assert len(parts) == 7
    for part in parts:
        for change in CHANGES[dict if isinstance(part, dict) else list]:
            with pytest.raises(TypeError, match=r"cannot be changed in place; replace them: net\.notes"):
                change(part)
    assert notes == net.notes == NOTES


def test_every_method_that_changes_notes_is_refused():
    """The methods that change notes are those of dict and list that mapping proxies and tuples do not have."""
    reading = {*dir(tuple), *dir(MappingProxyType), "fromkeys", "copy"}
    for plain, changes in CHANGES.items():
        names = set(dir(plain)) - reading
        assert len(names) == len(changes), names


@pytest.mark.parametrize(
    ("notes", "error", "words"),
    [
        ({"a": 10**400}, ValueError, r"notes\['a'\] must be a finite number"),
        ({"a": 10**5000}, ValueError, r"notes\['a'\] must be a finite number .*, not int of 16610 bits"),
        ({"a": [1, {"b": math.nan}]}, ValueError, r"notes\['a'\]\[1\]\['b'\] must be a finite number .*, not nan"),
        ({"a": (math.inf,)}, ValueError, r"notes\['a'\]\[0\] must be a finite number"),
        ({1: 2}, TypeError, "the names in notes must be strings, not 1"),
        ({"a": [{None: 2}]}, TypeError, r"the names in notes\['a'\]\[0\] must be strings, not None"),
        ({"a": np.int64(3)}, TypeError, r"notes\['a'\] must be .*, not np\.int64\(3\); use \.tolist\(\)"),
        ({"a": np.ones(3)}, TypeError, r"notes\['a'\] must be .*, not an array of shape \(3,\); use \.tolist\(\)"),
        ({"a": {1, 2}}, TypeError, r"notes\['a'\] must be a dict, list, string, number, bool or None"),
        ([], TypeError, "notes must be a dict, not list"),
    ],
)
def test_notes_that_json_cannot_hold_are_refused(net, notes, error, words):
    net.notes = NOTES
    with pytest.raises(error, match=words):
        net.notes = notes
    assert net.notes == NOTES


def test_notes_that_contain_themselves_are_refused(net):
    notes = {}
    notes["a"] = notes
    with pytest.raises(ValueError, match="notes are nested too deeply, or contain themselves"):
        net.notes = notes


def test_notes_are_set_as_a_whole(net):
    net.notes = NOTES
    net.notes |= {"more": 1}
    assert net.notes == NOTES | {"more": 1}
    assert net.notes | {"other": 2} == NOTES | {"more": 1, "other": 2}
    assert net.notes == NOTES | {"more": 1}
    notes = net.notes
    notes |= {"here": 3}  # a new dict, as += makes a new tuple
    notes["there"] = 4
    assert "here" not in net.notes
    other = net.copy()
    other.notes = net.notes
    assert other.notes == net.notes


def test_copies_of_notes_are_plain_dicts(net):
    net.notes = NOTES
    assert json.loads(json.dumps(net.notes)) == json.loads(json.dumps(dict(net.notes))) == NOTES
    assert repr(net.notes) == repr(NOTES)
    for plain in (copy.deepcopy(net.notes), pickle.loads(pickle.dumps(net.notes)), json.loads(json.dumps(net.notes))):
        assert {type(part) for part in inside(plain)} == {dict, list}
        plain["table"]["columns"].append("z")
    assert net.notes == NOTES


def test_deeply_nested_notes_are_kept(net):
    deep = json.loads("[" * 200 + "]" * 200)
    net.notes = {"deep": deep}
    assert net.notes == {"deep": deep}
