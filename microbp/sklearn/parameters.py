"""The parameters that estimators share: their checks, and what they mean for a network and a trainer."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
from sklearn.utils import check_random_state

from ..core.checks import Check, flag, one_of, or_none, real, whole, whole_number
from ..core.specs import Init, Loss, SolverSpec, table, unknown
from ..core.text import brief
from ..network.layers import Activation, Dense, Dropout
from ..network.network import Network
from ..network.nodes import Input, Node
from ..settings import optimizers
from ..settings.schedules import Schedule
from ..training.loop.rates import read_schedule

_ACTIVATIONS = {"logistic": "sigmoid"}  # scikit-learn's names, where they differ
_NAMES = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}

T = TypeVar("T")


class InvalidParameterError(ValueError, TypeError):
    """A parameter has a wrong value or type: both, as in scikit-learn."""


def naming(estimator: str, parameter: str, read: Callable[[], T]) -> T:
    """What `read` returns. Its errors get the name of the estimator, and of the parameter where they lack it."""
    try:
        return read()
    except (TypeError, ValueError) as error:
        raise _named(estimator, parameter, error) from None


def _named(estimator: str, parameter: str, error: Exception) -> InvalidParameterError:
    where = estimator if parameter in str(error) else f"{estimator}: {parameter}"
    return InvalidParameterError(f"{where}: {error}")


def _range(text: str) -> Check:
    """A check for a number in an interval, such as "(0,1]"."""
    inside, ends = real(text), [float(end) for end in text[1:-1].split(",")]
    shown = f"{text[0]}{ends[0]}, {ends[1]}{text[-1]}"

    def check(what: str, value: Any) -> Any:
        try:
            return inside(what, value)
        except (TypeError, ValueError):
            raise ValueError(f"{what} must be a number in the range {shown}, not {brief(value)}") from None

    return check


def _batch_size(what: str, value: Any) -> int | None:
    """None: "auto"."""
    if isinstance(value, str) and value == "auto":
        return None
    if isinstance(value, str):
        raise ValueError(f'{what} must be "auto" or a whole number, not {brief(value)}')
    return whole_number(value, what)


def _patience(what: str, value: Any) -> float:
    return math.inf if value == math.inf else whole_number(value, what)


def _sizes(what: str, value: Any) -> tuple[int, ...]:
    given = list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    return tuple(whole_number(size, f"{what}[{i}]" if hasattr(value, "__iter__") else what) for i, size in enumerate(given))


def _functions(what: str, value: Any) -> list[Callable[..., Any]]:
    found = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    for one in found:
        if not callable(one):
            raise TypeError(f"{what} must be a function, a list of functions or None, not {brief(one)}")
    return found


def _verbose(what: str, value: Any) -> bool:
    return value > 0 if isinstance(value, int) else flag(what, value)


def _random_state(what: str, value: Any) -> Any:
    check_random_state(value)
    return value


def _schedule(what: str, value: Any) -> Any:
    if isinstance(value, str):
        return read_schedule(value)
    if not (value is None or callable(value) or isinstance(value, Schedule)):
        raise TypeError(f"{what} must be a schedule such as bp.Cosine(lr=0.1), its text, a function or None, not {brief(value)}")
    return value


def _as_it_is(what: str, value: Any) -> Any:
    return value


def _network(what: str, value: Any) -> Any:
    if not (value is None or isinstance(value, Network) or callable(value)):
        raise TypeError(f"{what} must be a bp.Network, a function of (features, outputs) that returns one, or None, not {brief(value)}")
    return value


def _levels(what: str, value: Any) -> tuple[float, ...]:
    found = tuple(np.atleast_1d(np.asarray(value, dtype=np.float64)).tolist()) if np.ndim(value) < 2 else ()
    if not found or len(set(found)) < len(found) or not all(0 < level < 1 for level in found):
        raise ValueError(f"{what} must be different numbers between 0 and 1, such as (0.05, 0.5, 0.95), not {brief(value)}")
    return found


def _seconds(what: str, value: Any) -> Any:
    return value if isinstance(value, timedelta) else or_none(_range("(0,inf)"))(what, value)


CHECKS: dict[str, Check] = {
    "hidden_layer_sizes": _sizes,
    "activation": _as_it_is,
    "solver": _as_it_is,
    "loss": _as_it_is,
    "alpha": _range("[0,inf)"),
    "batch_size": _batch_size,
    "learning_rate": one_of("constant", "invscaling", "adaptive"),
    "learning_rate_init": _range("(0,inf)"),
    "power_t": _range("[0,inf)"),
    "max_iter": whole(1),
    "shuffle": flag,
    "random_state": _random_state,
    "tol": _range("[0,inf)"),
    "verbose": _verbose,
    "warm_start": flag,
    "momentum": _range("[0,1)"),
    "nesterovs_momentum": flag,
    "early_stopping": flag,
    "validation_fraction": _range("[0,1)"),
    "beta_1": _range("[0,1)"),
    "beta_2": _range("[0,1)"),
    "epsilon": _range("(0,inf)"),
    "n_iter_no_change": _patience,
    "max_fun": whole(1),
    "l1": _range("[0,inf)"),
    "dropout": _range("[0,1)"),
    "schedule": _schedule,
    "class_weight": _as_it_is,
    "out_activation": _as_it_is,
    "network": _network,
    "callback": _functions,
    "max_time": _seconds,
    "n_threads": or_none(whole(1)),
    "n_components": whole(1),
    "quantiles": _levels,
}


# What the parameters are in an estimator that has fewer than MLPRegressor: the defaults there.
_ABSENT = {
    "learning_rate": "constant", "power_t": 0.5, "shuffle": True, "momentum": 0.9, "nesterovs_momentum": True, "beta_1": 0.9,
    "beta_2": 0.999, "epsilon": 1e-8, "max_fun": 15000, "l1": 0.0, "network": None, "warm_start": False,
}  # fmt: skip


def checked(estimator: Any) -> SimpleNamespace:
    """The parameters of an estimator, checked and converted. InvalidParameterError names the one that is wrong."""
    name = type(estimator).__name__
    given = _ABSENT | estimator.get_params(deep=False)
    found = SimpleNamespace(estimator=name)
    key = ""
    try:
        for key, value in given.items():
            setattr(found, key, CHECKS.get(key, _as_it_is)(key, value))
    except (TypeError, ValueError) as error:
        raise _named(name, key, error) from None
    found.activations = naming(name, "activation", lambda: _activations(found.activation, len(found.hidden_layer_sizes)))
    if given.get("out_activation") is not None:
        naming(name, "out_activation", lambda: parse_activation(found.out_activation))
    found.optimizer = naming(name, "solver", lambda: optimizer(found))
    found.is_solver = uses_all_rows(found.optimizer)
    if optimizers.parse(found.optimizer).name == "bayesian_regularization":
        found.alpha = 0.0  # it chooses the penalty
    if found.is_solver and (found.dropout or found.l1 or found.schedule is not None):
        has = f"solver is {solver_text(found.solver)}, which works without dropout, l1 and schedule"
        raise InvalidParameterError(f'{name}: {has}; use "adam", or remove them')
    found.used = _used(found)
    return found


# ---- the network ----


def parse_activation(given: Any) -> Activation:
    """An activation by scikit-learn's name or microbp's, or with parameters."""
    if isinstance(given, str) and given == "softmax":
        raise ValueError('"softmax" is not for single layers: classifiers with a loss such as "cross_entropy" have it by themselves')
    try:
        return Activation.parse(_ACTIVATIONS.get(given, given) if isinstance(given, str) else given)
    except ValueError:
        known = [*_ACTIVATIONS, *table("activation")]
        if isinstance(given, str) and (word := given.partition("(")[0]) not in known:
            raise unknown("activation", word, known) from None
        raise


def activation_name(ours: str) -> str:
    """The name of an activation as scikit-learn writes it in `out_activation_`."""
    return _NAMES.get(ours, ours)


def _activations(given: Any, layers: int) -> list[Activation]:
    """The activation of each hidden layer."""
    if not isinstance(given, list | tuple):
        return [parse_activation(given)] * layers
    if len(given) != layers:
        raise ValueError(f"activation has {len(given)} names, but hidden_layer_sizes has {layers} numbers; give one for each")
    return [parse_activation(one) for one in given]


def build(of: SimpleNamespace, features: int, columns: int, dtype: Any, seed: int) -> Network:
    """The network that parameters describe, with its first weights."""
    if isinstance(of.network, Network):
        return _fitting(of.network.copy(), features, columns, of.estimator)
    if of.network is not None:
        net = of.network(features, columns)
        if not isinstance(net, Network):
            raise InvalidParameterError(f"{of.estimator}: network must return a bp.Network, not {brief(net)}")
        _fitting(net, features, columns, of.estimator).init(seed=seed)
        return net
    return _chain(of, features, columns, dtype, seed)


def _fitting(net: Network, features: int, columns: int, estimator: str) -> Network:
    widths = [entry.width for entry in net.inputs], [entry.width for entry in net.outputs]
    if widths != ([features], [columns]):
        has = f"{estimator}: network has inputs {widths[0]} and outputs {widths[1]}"
        two = '; two classes have two outputs with loss="cross_entropy"' if (widths[1], columns) == ([2], 1) else ""
        raise ValueError(f"{has}, but X and y need one input of {features} and one output of {columns}{two}")
    return net


def _chain(of: SimpleNamespace, features: int, columns: int, dtype: Any, seed: int) -> Network:
    """Dense layers one after another. A layer's first weights and biases are uniform from -a to a with a = sqrt(6 / (in + out)), or with 2
    instead of 6 for the logistic function, as in scikit-learn; the last layer follows the last hidden one."""
    x = Input(features)
    node: Node = x
    drop = Dropout(of.dropout)
    last = Activation.parse("identity") if of.__dict__.get("out_activation") is None else parse_activation(of.out_activation)
    layers = [*zip(of.hidden_layer_sizes, of.activations, strict=True), (columns, last)]
    for i, (units, activation) in enumerate(layers):
        is_last = i == len(layers) - 1
        shaped = layers[max(i - 1, 0)][1] if is_last else activation
        limit = math.sqrt((2 if shaped.name == "sigmoid" else 6) / (node.width + units))
        init = Init("uniform", limit=limit)
        node = Dense(units, activation, init, bias_init=init, l1=of.l1, l2=of.alpha)(node)
        if of.dropout and not is_last:
            node = drop(node)
    return Network(x, node, dtype, seed, n_threads=of.n_threads)


# ---- the optimizer ----


def optimizer(of: SimpleNamespace) -> Any:
    """What a trainer gets for `solver`. A name alone gets the rate learning_rate_init; a spec with numbers and a bp.Optimizer have their
    own."""
    solver = of.solver
    if not isinstance(solver, str):
        if not isinstance(solver, optimizers.Optimizer):
            raise TypeError(f'solver must be "adam", "sgd", "lbfgs", the name of an optimizer or a bp.Optimizer, not {brief(solver)}')
        return solver
    if solver == "adam":
        return optimizers.Adam(lr=of.learning_rate_init, betas=(of.beta_1, of.beta_2), eps=of.epsilon, eps_hat=True)
    if solver == "sgd":
        if of.momentum == 0:
            return optimizers.SGD(lr=of.learning_rate_init)
        return optimizers.Momentum(lr=of.learning_rate_init, momentum=of.momentum, nesterov=of.nesterovs_momentum)
    if "(" in solver or solver in table("solver"):
        return optimizers.parse(solver)
    if solver not in (known := dict.fromkeys(["adam", "sgd", "lbfgs", *table("solver"), *table("optimizer"), "rprop"])):
        raise unknown("solver", solver, known)
    return f"{solver}(lr={of.learning_rate_init!r})"


def uses_all_rows(optimizer: Any) -> bool:
    """Whether it needs all rows at once: "lbfgs" and others. Each epoch is then one iteration."""
    return isinstance(optimizers.parse(optimizer), SolverSpec)


def solver_text(solver: Any) -> str:
    """A parameter `solver`, as errors write it."""
    return f'"{solver}"' if isinstance(solver, str) else repr(solver)


# ---- fits that continue ----


def _used(of: SimpleNamespace) -> dict[str, Any]:
    """What a network and a trainer are made of, by the names of the parameters, in a form that can be compared."""
    given = of.__dict__.get("loss")
    loss = given.text if isinstance(given, Loss) else given
    found = {"network": of.network, "loss": loss, "solver": of.optimizer, "learning_rate": (of.learning_rate, of.power_t)}
    if of.network is not None:
        return found
    last = of.__dict__.get("out_activation")
    return found | {
        "hidden_layer_sizes": of.hidden_layer_sizes,
        "activation": [one.text for one in of.activations],
        "dropout": of.dropout,
        "out_activation": None if last is None else parse_activation(last).text,
        "alpha": of.alpha,
        "l1": of.l1,
        "n_threads": of.n_threads,
    }


def check_fixed(estimator: Any, changed: set[str]) -> None:
    """ValueError if a parameter has changed that a network keeps."""
    for name in ("network", "loss", "hidden_layer_sizes", "activation", "dropout", "out_activation"):
        if name in changed:
            before = estimator._used.get(name)
            has = f"{name} is {brief(getattr(estimator, name))}, but the network was made with {brief(before)}"
            raise ValueError(f"{type(estimator).__name__}: {has}; set it back, or start again: call fit with warm_start=False")


def set_numbers(net: Network, values: dict[str, Any]) -> None:
    """Sets alpha, l1 and n_threads of a network; values: `used`. A network of the user has its own. A layer that reads sparse rows has no
    penalty, which would change all of its rows in each update."""
    if values["network"] is None:
        net.set_layer(l1=values["l1"], l2=values["alpha"])
        if values.get("sparse"):
            net.set_layer(net.layers[0].name, l1=0.0, l2=0.0)
        net.n_threads = values["n_threads"]
