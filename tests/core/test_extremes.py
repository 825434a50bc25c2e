"""Extreme and wrong values of every public parameter that is a number, a flag or a word: accepted with exactly that meaning, or refused by
name, with TypeError for a wrong type and ValueError for a value out of range. Never OverflowError, and never changed in silence."""

import inspect
import math
import numbers
from dataclasses import fields
from fractions import Fraction

import numpy as np
import pytest

import microbp as bp

HOSTILE = {
    "2**63": 2**63, "2**63-1": 2**63 - 1, "2**64": 2**64, "-1": -1, "10**400": 10**400, "10**5000": 10**5000, "1.5": 1.5, "nan": math.nan,
    "inf": math.inf, "1e-320": 1e-320, "'1'": "1", "b'1'": b"1", "True": True, "1": 1, "None": None, "[]": [], "[1]": [1],
    "array([1.])": np.ones(1),
    "float32(1)": np.float32(1), "int8(3)": np.int8(3), "uint64(2**63)": np.uint64(2**63), "True_": np.True_, "Fraction": Fraction(1, 2),
    "class": float,
}  # fmt: skip


def is_flag(value):
    return isinstance(value, bool | np.bool_)


TYPES = {
    "number": lambda value: isinstance(value, numbers.Real) and not is_flag(value),
    "whole": lambda value: isinstance(value, numbers.Integral) and not is_flag(value),
    "flag": is_flag,
    "word": lambda value: isinstance(value, str),
    "node": lambda value: isinstance(value, str) or TYPES["whole"](value),
    "nodes": lambda value: all(map(TYPES["node"], value)) if isinstance(value, list) else TYPES["node"](value),
    "dtype": lambda value: isinstance(value, str | type),
}

X, Y = np.ones((6, 3)), np.ones((6, 2))


def net(backend, **options):
    return bp.mlp([3, 4, 2], seed=0, backend=backend, **options)


def trainer(backend, **options):
    return bp.Trainer(net(backend), "mse", **options)


def backward(t, **options):
    t.backward(X, Y, **options)


def attribute(name):
    """Sets an attribute of a trainer and reads it back."""

    def call(value, backend, path):
        t = trainer(backend)
        setattr(t, name, value)
        return getattr(t, name)

    return call


LIMITS = ("clip_norm", "clip_layer_norm", "clip_value")


def limit(found, value):
    """Infinity is the same as None: no limit."""
    return value if found is None and value in (None, math.inf) else found


def limit_given(name):
    return lambda value, backend, path: limit(getattr(trainer(backend, **{name: value}), name), value)


def limit_set(name):
    return lambda value, backend, path: limit(attribute(name)(value, backend, path), value)


def dropped(value, backend, path):
    """The number of the first row decides which elements are dropped, so both calls must be possible."""
    x = bp.Input(3)
    t = bp.Trainer(bp.Network(x, bp.Dense(2)(bp.Dropout()(x)), backend=backend), "mse")
    t.backward(X, Y, first_row=value)
    return None


def fitted(**fixed):
    """Passes the value to fit as the argument that `fixed` leaves as ..., with a callback that ends it after an epoch."""
    (name,) = (name for name, value in fixed.items() if value is ...)

    def call(value, backend, path):
        options = {"epochs": 1} | fixed | {name: value, "callback": lambda record: True}
        trainer(backend).fit(X, Y, **{key: path if one == "path" else one for key, one in options.items()})

    return call


def init_again(value, backend, path):
    n = net(backend)
    n.init(value)
    return n.seed if value is not None else None


def set_layer(name):
    def call(value, backend, path):
        n = net(backend)
        n.set_layer(**{name: value})
        return getattr(n.layers[0], name) if value is not None else None

    return call


def saved(path, backend):
    trainer(backend).save(path)
    return path


def lr_found(**options):
    (name,) = options
    return lambda value, backend, path: bp.lr_find(trainer(backend), X, Y, **{"num_it": 10, name: value}) and None


# name in errors: (kind, whether None is accepted, call); the call returns what was understood, or None if it cannot be seen
PARAMETERS = {
    "seed": ("whole", True, lambda v, b, p: net(b).__class__(*graph(), seed=v, backend=b).seed if v is not None else None),
    "n_threads": ("whole", True, lambda v, b, p: bp.Network(*graph(), n_threads=v, backend=b).n_threads),
    "backend": ("word", True, lambda v, b, p: bp.Network(*graph(), backend=v) and None),
    "dtype": ("dtype", False, lambda v, b, p: bp.Network(*graph(), dtype=v, backend=b) and None),
    "mlp: bias": ("flag", False, lambda v, b, p: net(b, bias=v).layers[0].bias),
    "mlp: rate": ("number", False, lambda v, b, p: net(b, dropout=v) and None),
    "mlp: activation": ("word", False, lambda v, b, p: net(b, activation=v) and None),
    "mlp: widths": ("whole", False, lambda v, b, p: bp.mlp([3, v], backend=b).outputs[0].width),
    "net: n_threads": ("whole", True, lambda v, b, p: (setattr(n := net(b), "n_threads", v), n.n_threads)[1]),
    "init: seed": ("whole", True, init_again),
    "set_output: i": ("node", False, lambda v, b, p: net(b).set_output(v, "exp")),
    "set_output: activation": ("word", True, lambda v, b, p: net(b).set_output(0, v)),
    "freeze: layer": ("word", True, lambda v, b, p: net(b).freeze(v)),
    "unfreeze: layer": ("word", True, lambda v, b, p: net(b).unfreeze(v)),
    "Activation: slope": ("number", False, lambda v, b, p: bp.Activation("leaky_relu", slope=v).parameters["slope"]),
    "Adam: beta": ("number", False, lambda v, b, p: bp.Adam(betas=(v, 0.9)).betas[0]),
    "Rprop: eta": ("number", False, lambda v, b, p: bp.Rprop(etas=(0.5, v)).etas[1]),
    "MultiStep: milestones": ("whole", False, lambda v, b, p: bp.MultiStep(0.1, milestones=(v,)).milestones[0]),
    "top_k: k": ("whole", False, lambda v, b, p: bp.top_k(v) and None),
    "set_layer: layer": ("word", True, lambda v, b, p: net(b).set_layer(v, lr=1)),
    "set_layer: lr": ("number", True, set_layer("lr")),
    "set_layer: l1": ("number", True, set_layer("l1")),
    "set_layer: l2": ("number", True, set_layer("l2")),
    "set_layer: max_norm": ("number", True, set_layer("max_norm")),
    "predict: raw": ("flag", False, lambda v, b, p: net(b).predict(X, raw=v) is None or None),
    "trainer: predict: raw": ("flag", False, lambda v, b, p: trainer(b).predict(X, raw=v) is None or None),
    "predict: at": ("nodes", True, lambda v, b, p: net(b).predict(X, at=v) is None or None),
    "load: backend": ("word", True, lambda v, b, p: bp.load(saved(p, b), backend=v) and None),
    "load: n_threads": ("whole", True, lambda v, b, p: bp.load(saved(p, b), n_threads=v).n_threads),
    "Trainer.load: n_threads": ("whole", True, lambda v, b, p: bp.Trainer.load(saved(p, b), n_threads=v).net.n_threads),
    "Trainer: seed": ("whole", True, lambda v, b, p: trainer(b, seed=v).seed if v is not None else None),
    "Trainer: loss_weights": ("number", False, lambda v, b, p: trainer(b, loss_weights=[v]).loss_weights[0]),
    **{f"Trainer: {name}": ("number", True, limit_given(name)) for name in LIMITS},
    **{name: ("number", True, limit_set(name)) for name in LIMITS},
    "lr": ("number", False, attribute("lr")),
    "steps": ("whole", False, attribute("steps")),
    "epoch": ("whole", False, attribute("epoch")),
    "backward: accumulate": ("flag", False, lambda v, b, p: backward(trainer(b), accumulate=v)),
    "backward: input_grads": ("flag", False, lambda v, b, p: backward(trainer(b), input_grads=v)),
    "backward: total": ("number", True, lambda v, b, p: backward(trainer(b), total=v)),
    "backward: first_row": ("whole", False, dropped),
    "epochs: batch_size": ("whole", False, lambda v, b, p: next(trainer(b).epochs(X, Y, batch_size=v)) and None),
    "epochs: accumulate": ("whole", False, lambda v, b, p: next(trainer(b).epochs(X, Y, accumulate=v)) and None),
    "fit: epochs": ("whole", False, fitted(epochs=...)),
    "fit: batch_size": ("whole", False, fitted(batch_size=...)),
    "fit: shuffle": ("flag", False, fitted(shuffle=...)),
    "fit: patience": ("whole", True, fitted(patience=..., monitor="loss")),
    "fit: monitor": ("word", False, fitted(patience=3, monitor=...)),
    "fit: mode": ("word", True, fitted(patience=3, monitor="loss", mode=...)),
    "fit: min_delta": ("number", False, fitted(patience=3, monitor="loss", min_delta=...)),
    "fit: accumulate": ("whole", False, fitted(accumulate=...)),
    "fit: max_time": ("number", True, fitted(max_time=...)),
    "fit: every": ("whole", False, fitted(checkpoint="path", checkpoint_every=...)),
    "fit: progress": ("flag", True, fitted(progress=...)),
    "lr_find: start_lr": ("number", False, lr_found(start_lr=...)),
    "lr_find: end_lr": ("number", False, lr_found(end_lr=...)),
    "lr_find: num_it": ("whole", False, lr_found(num_it=...)),
    "lr_find: batch_size": ("whole", False, lr_found(batch_size=...)),
    "lr_find: stop_div": ("flag", False, lr_found(stop_div=...)),
}  # fmt: skip


def graph():
    x = bp.Input(3)
    return x, bp.Dense(2)(x)


def is_same(found, value):
    """Whether the number, flag or word is the one that was given, up to a rounding to float."""
    if is_flag(value):
        return is_flag(found) and found == value
    return found == value or (TYPES["number"](value) and found == float(value))


def fault(kind, optional, name, value, call):
    """What is wrong with the answer to a value: None, or a text."""
    right = TYPES[kind](value) or (optional and value is None)
    try:
        found = call(value)
    except (TypeError, ValueError) as error:
        names = [name.split(": ")[-1], *("output", "layer")[: 2 * right]]
        named = any(one in str(error) for one in names)
        return None if type(error) is (ValueError if right else TypeError) and named else repr(error)
    except Exception as error:
        return repr(error)
    too_large = kind == "whole" and value is not None and value >= 2**64
    no_number = kind == "number" and value is not None and math.isnan(value)
    meant = right and not too_large and not no_number and (found is None or is_same(found, value))
    return None if meant else f"was accepted as {found!r}"


def faults(kind, optional, name, call):
    """The hostile values whose answers are wrong, with what is wrong."""
    found = {text: fault(kind, optional, name, value, call) for text, value in HOSTILE.items()}
    return {text: wrong for text, wrong in found.items() if wrong is not None}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_is_understood_or_refused_by_name(backend, name, tmp_path):
    kind, optional, call = PARAMETERS[name]
    assert faults(kind, optional, name, lambda value: call(value, backend, str(tmp_path / "t"))) == {}


# ---- settings and layers: their attributes show what was understood ----


def subclasses(kind):
    return [found for one in kind.__subclasses__() for found in [one, *subclasses(one)]]


REQUIRED = {
    "function": max,
    "units": 3,
    "lr": 0.1,
    "steps": 5,
    "step_size": 5,
    "milestones": (1, 2),
    "decay": 0.5,
    "k": 0.5,
    "period": 5,
    "patience": 5,
    "path": "x",
}
SETTINGS = {
    one.__name__: one
    for base in (bp.Optimizer, bp.Schedule, bp.EMA.__base__, bp.EarlyStopping.__base__, bp.Metric.__base__)
    for one in subclasses(base)
    if getattr(bp, one.__name__, None) is one and fields(one)
}
KINDS = {"float": "number", "int": "whole", "bool": "flag", "str": "word"}


def kind_of(annotation):
    """The kind of a parameter, and whether it may be None; (None, False): it is neither a number, a flag nor a word."""
    names = str(annotation).removeprefix("<class '").removesuffix("'>").replace("typing.", "")
    optional = names.startswith("Optional[") or names.endswith("| None")
    names = names.removeprefix("Optional[").removesuffix("]").removesuffix(" | None")
    return KINDS.get(names), optional


def parameters(one):
    for parameter in inspect.signature(one).parameters.values():
        kind, optional = kind_of(parameter.annotation)
        if kind is not None:
            yield parameter.name, kind, optional


def made(one, name, value):
    needed = {
        key: REQUIRED[key] for key, given in inspect.signature(one).parameters.items() if given.default is given.empty and key in REQUIRED
    }
    if one is bp.Warmup:
        needed["schedule"] = bp.Constant(0.1)
    return getattr(one(**needed | {name: value}), name)


LAYERS = {"Dense": bp.Dense, "Dropout": bp.Dropout, "GaussianNoise": bp.GaussianNoise, "BatchNorm": bp.BatchNorm, "LayerNorm": bp.LayerNorm}
FIELDS = [(one, *found) for one in SETTINGS.values() for found in parameters(one)]
FIELDS += [(one, *found) for one in LAYERS.values() for found in parameters(one)]


def test_the_tables_are_complete():
    assert len(SETTINGS) >= 30 and len(FIELDS) > 100
    assert {kind for _, _, kind, _ in FIELDS} == set(KINDS.values())


@pytest.mark.parametrize(("one", "name", "kind", "optional"), FIELDS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_setting_is_understood_or_refused_by_name(one, name, kind, optional):
    assert faults(kind, optional, name, lambda value: made(one, name, value)) == {}
