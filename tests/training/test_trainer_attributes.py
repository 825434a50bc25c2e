"""A trainer's attributes and how it prints; copies, subclasses, weak references."""

import copy
import html
import pickle
import weakref

import numpy as np
import pytest
from cases import own_mse

import microbp as bp

X, Y = np.ones((6, 3)), np.ones((6, 2))


def make(backend="compiled", kind=bp.Trainer, **options):
    return kind(bp.mlp([3, 4, 2], dropout=0.5, seed=0, backend=backend), bp.Loss("huber", delta=0.5), bp.Adam(lr=0.01), seed=1, **options)


READ_ONLY = {
    "net": None, "losses": [], "loss_weights": [1], "optimizer": "sgd", "seed": 2, "averaging": None, "input_grads": 0,
    "output_losses": [1], "sparse_grads": {}, "stop_reason": "goal", "evaluations": 1, "comm": None, "shard": True, "sync_every": 2,
    "state": {}, "average_params": None, "history": {}, "step": print, "fit": print,
}  # fmt: skip


@pytest.mark.parametrize("name", READ_ONLY)
def test_attributes_that_cannot_change_are_read_only(name):
    t = make()
    advice = "writable attributes: clip_layer_norm, .*lr, .*schedule, steps" if name in ("step", "fit") else "t\\.|bp\\."
    with pytest.raises(AttributeError, match=rf"Trainer\.{name} is read-only; .*({advice})"):
        setattr(t, name, READ_ONLY[name])


def test_gradients_can_be_assigned(backend):
    t = make(backend)
    t.backward(X, Y)
    view, before = t.grads, t.grads.copy()
    t.grads /= 2
    np.testing.assert_array_equal(view, before / 2)
    t.grads = before
    assert t.grads is view
    with pytest.raises(ValueError, match=r"grads has shape \(26,\); it cannot be set to an array of shape \(2,\)"):
        t.grads = [1, 2]
    for large in (1e308, [1e39] * 26, -(10**300)):
        with pytest.raises(ValueError, match=r"grads cannot be set to 1e\+\d+, which is too large for float32"):
            t.grads = large
    np.testing.assert_array_equal(t.grads, before)
    with pytest.raises(TypeError, match=r"t\.state is read-only; to change values: t\.state\['m'\]"):
        t.state["m"] = before
    with pytest.raises(KeyError, match=r"unknown name in t\.state: 'M'; did you mean 'm'"):
        t.state["M"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("learning_rate", "lr"), ("step_", "steps"), ("epochs_", "epoch"), ("clip", "clip_norm"), ("zzz", None), ("_lr", "lr")],
)
def test_unknown_attributes_are_refused_with_the_nearest_name(name, nearest):
    hint = f"did you mean '{nearest}'" if nearest else "writable attributes"
    with pytest.raises(AttributeError, match=f"Trainer has no attribute '{name}'; {hint}"):
        setattr(make(), name, 1)


def test_every_attribute_works_when_assigned_or_is_refused(backend):
    """Refused attributes keep their value; what is accepted is used: the table SETTABLE, and grads."""
    t = make(backend, average=bp.EMA(0.5))
    t.fit(X, Y, epochs=1)
    t.backward(X, Y, input_grads=True)
    names, accepted = [name for name in dir(bp.Trainer) if not name.startswith("_")], set()
    for name in names:
        before = getattr(t, name)
        error = refusal(t, name, before)
        accepted |= set() if error else {name}
        assert error == "" or f"Trainer.{name} is read-only; " in error
        after = getattr(t, name)
        assert after is before or np.array_equal(after, before)
    assert accepted == {*SETTABLE, "grads"}
    assert set(names) - accepted == {name for name in names if name in READ_ONLY or callable(getattr(bp.Trainer, name))}


def refusal(t, name, value):
    try:
        setattr(t, name, value)
    except AttributeError as error:
        return str(error)
    return ""


def test_accepted_values_are_used(backend):
    """One update with the value differs from one without it, or the next one has its number."""

    def after(**values):
        t = make(backend)
        for name, value in values.items():
            setattr(t, name, value)
        t.fit(X, Y, epochs=1, batch_size=4)
        return t

    plain = after()
    changed = {"lr": 0.5, "weight_decay": 0.5, "dropout": 0.5, "clip_norm": 1e-9, "clip_layer_norm": 1e-9, "clip_value": 1e-12, "steps": 7}
    for name, value in changed.items():
        assert (after(**{name: value}).net.params != plain.net.params).any(), name
    assert (after(steps=7).steps, after(epoch=7).epoch) == (9, 8)
    assert after(schedule=bp.Constant(0.1)).schedule == bp.Constant(0.1)


SETTABLE = {
    "finished": (False, [True, "a", None]),
    "lr": (0.5, [-1, "fast", None, float("nan"), float("inf")]),
    "steps": (7, [-1, 1.5, "7", None, 2**62, 2**63]),
    "epoch": (7, [-1, 1.5, "7", None, 2**62, 2**63]),
    "clip_norm": (0.5, [0, -1, float("nan"), "a"]),
    "clip_layer_norm": (2, [[1, 2]]),
    "clip_value": (None, [0, "a"]),
    "dropout": (0.5, [-0.5, 1.5, "a", None, True, float("nan")]),
    "weight_decay": (0.5, [-0.5, "a", None, [1, 2], float("nan"), float("inf")]),
    "penalty_per_row": (True, [2, "a", None]),
    "schedule": (bp.Constant(0.1), [1, "constan(lr=1)"]),
}


@pytest.mark.parametrize("name", SETTABLE)
def test_values_of_attributes_are_checked(backend, name):
    t, (right, wrong) = make(backend), SETTABLE[name]
    setattr(t, name, right)
    for value in wrong:
        with pytest.raises((TypeError, ValueError), match="schedule" if name == "schedule" else name):
            setattr(t, name, value)
    assert getattr(t, name) == right


def test_a_printed_trainer(backend):
    t = make(backend)
    t.fit(X, Y, epochs=3, batch_size=2)
    t.lr = 0.005
    facts = {
        "net": "3 to 2, 26 parameters, float32", "loss": "huber(delta=0.5)", "optimizer": "Adam(lr=0.01), lr 0.005",
        "steps": "9", "epoch": "3",
    }  # fmt: skip
    head, *lines = repr(t).splitlines()
    assert head == "microbp.Trainer"
    assert [line.split(None, 1) for line in lines] == [[name, value] for name, value in facts.items()]
    table = t._repr_html_()
    for name, value in facts.items():
        assert f"<th>{name}</th><td>{html.escape(value)}</td>" in table


def test_a_printed_trainer_shows_what_is_set():
    x = bp.Input(3)
    net = bp.Network(x, [bp.Dense(1)(x), bp.Dense(2)(x)])
    t = bp.Trainer(net, ["mse", "mae"], loss_weights=[0.5, 2], clip_norm=3, clip_value=0.25, average=bp.EMA(0.5))
    t.weight_decay = 0.125
    facts = [line.split(None, 1) for line in repr(t).splitlines()[1:]]
    assert facts[2] == ["loss_weights", "0.5, 2"]
    assert facts[4:8] == [["weight_decay", "0.125"], ["clip_norm", "3"], ["clip_value", "0.25"], ["average", "EMA(decay=0.5)"]]


def test_a_printed_trainer_with_functions_and_several_inputs_and_outputs(backend):
    x, z = bp.Input(3), bp.Input(2)
    net = bp.Network([x, z], [bp.Dense(1)(x), bp.Dense(2)(z)], backend=backend)
    text = repr(bp.Trainer(net, [own_mse, own_mse]))
    assert "3 + 2 to 1 + 2" in text and "own_mse, own_mse" in text and " adam, lr 0.001\n" in text
    assert "&lt;lambda&gt;" in bp.Trainer(net.copy(), [lambda *_: None] * 2)._repr_html_()


def test_a_refused_trainer_does_not_change_the_net():
    net = bp.mlp([3, 2], seed=0)
    for options in (
        {"clip_norm": -1},
        {"loss_weights": [1, 2]},
        {"loss_weights": 2},
        {"loss_weights": ["a"]},
        {"optimizer": "adm"},
        {"seed": -1},
        {"average": 3},
        {"average": bp.EMA},
        {"optimizer": bp.Adam},
    ):
        with pytest.raises((TypeError, ValueError)):
            bp.Trainer(net, "bce", **options)
        assert net.outputs[0].activation is None, options


class Counting(bp.Trainer):
    """A subclass with an additional attribute."""

    def step(self, *arguments, **options):
        self.calls = getattr(self, "calls", 0) + 1
        return super().step(*arguments, **options)


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("kind", [bp.Trainer, Counting])
def test_copies_have_everything(backend, twin, kind):
    t = make(backend, kind, average=bp.EMA(0.5), clip_norm=3)
    t.fit(X, Y, epochs=2, validation=0.5, schedule=bp.Cosine(0.1))
    t.step(X, Y)
    t.dropout, t.weight_decay = 0.25, 0.125
    of_one = ("net", "state", "average_params", "input_grads", "output_losses", "step", "fit")
    other, names = twin(t), [name for name in READ_ONLY if name not in of_one]
    assert type(other) is kind
    for name in (*names, *SETTABLE):
        assert getattr(other, name) == getattr(t, name), name
    assert getattr(other, "calls", None) == (1 if kind is Counting else None)
    np.testing.assert_array_equal(other.average_params, t.average_params)
    assert (other.net is t.net) == (twin is copy.copy)
    other.epoch = 9
    other.state["m"][:] = 0
    assert t.epoch == 2 and t.state["m"].any()


def test_weak_references(backend):
    t = make(backend)
    assert weakref.ref(t)() is t


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda views: pickle.loads(pickle.dumps(views))])
def test_copies_of_named_views_are_dicts(backend, twin):
    t = make(backend)
    t.step(X, Y)
    for views in (t.state, t.net.tensors):
        copied = twin(views)
        assert type(copied) is dict
        assert copied.keys() == views.keys()
        assert all(np.array_equal(copied[name], views[name]) for name in views)


@pytest.mark.parametrize("wrong", [b"x", {1.0}, np.ma.array([1.0], mask=[True])])
def test_loss_weights_are_a_list(wrong):
    with pytest.raises(TypeError, match="loss_weights must be a list of 1 number"):
        bp.Trainer(bp.mlp([3, 1]), "mse", loss_weights=wrong)
