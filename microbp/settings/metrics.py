"""The metrics of fit: names, functions, and functions with settings. Each is bound to the losses, and then computed from what a net gives.

>>> t = bp.Trainer(bp.mlp([2, 8, 3], seed=0), loss="cross_entropy", optimizer="adam")
>>> sorted(t.fit(np.eye(6, 2), np.arange(6) % 3, epochs=2, metrics=["accuracy", bp.top_k(2)]))
['accuracy', 'loss', 'lr', 'seconds', 'top_2']
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

from ..core.checks import string
from ..core.specs import Loss, unknown
from ..core.text import brief
from ..data.arrays import Array
from ..data.by_output import number_of
from ..data.weights import Weights, of_output
from . import class_metrics, number_metrics
from .base import Settings
from .decisions import Case, activated, read


def _function(what: str, value: Any) -> Callable[..., Any]:
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{what} must be a function f(targets, outputs), not {brief(value)}")
    return value  # type: ignore[no-any-return]


def _name(what: str, value: Any) -> str | None:
    if isinstance(value, str) and not value:
        raise ValueError(f"{what} must not be empty")
    return None if value is None else string(what, value)


class Metric(Settings):
    """A function as a metric of `Trainer.fit`, with what it gets and its name.

    function: f(targets, outputs) -> number. If it has a parameter `sample_weight`, it gets the rows' weights by that name, if there are
    weights. Rows of weight 0 are left out.
    on: what it gets. "predictions", the default: the targets as they are, and what `predict` gives. "raw": the outputs before the output
    activation. "labels": targets and outputs as labels: class numbers of shape (rows,) for "cross_entropy"; for "bce" 0 or 1, for "hinge"
    -1 or 1, of shape (rows,) for one column, else (rows, columns). For a loss of your own, the rule of bp.accuracy with loss=None. An
    output of NaN has the label -1, for "hinge" 0.
    name: of the entry in the records; by default the function's.

    For several outputs, the function gets lists. ValueError: "labels" with a loss that has none, such as "mse".

    >>> def rows_of_class_1(y, labels):
    ...     return labels.sum()
    >>> t = bp.Trainer(bp.mlp([2, 1], seed=0), loss="bce")
    >>> t.fit(np.ones((4, 2)), np.ones(4), epochs=1, metrics=bp.Metric(rows_of_class_1, on="labels", name="ones"))["ones"]
    [4.0]
    """

    function: Annotated[Callable[..., Any], _function]
    on: Literal["predictions", "labels", "raw"] = "predictions"
    name: Annotated[str | None, _name] = None


MetricName = Literal[
    "accuracy", "subset_accuracy", "balanced_accuracy", "f1", "auc", "log_loss", "brier", "rmse", "mae", "r2", "pinball"
]  # fmt: skip
OneMetric: TypeAlias = MetricName | Metric | Callable[..., Any]
# A dict: by the names of entries, or by the names or numbers of outputs.
Metrics: TypeAlias = OneMetric | Sequence[OneMetric] | Mapping[Any, OneMetric | Sequence[OneMetric] | Mapping[str, OneMetric]]

RESERVED = ("epoch", "loss", "val_loss", "lr", "steps", "seconds")  # the other entries of records


# ---- metrics with a name ----


@dataclass(frozen=True)
class Named:
    """A metric that follows the rule of the loss. function: the public function."""

    function: Callable[..., float]
    needs: Literal["classes", "labels", "probabilities", "numbers"]
    of: Callable[[Case], float] | None = None  # for numbers None: the function itself

    def fits(self, loss: Loss) -> bool:
        """Whether the metric makes sense for a loss."""
        if isinstance(loss.parameters.get("q"), tuple):
            return False  # several numbers for each target
        by_detail = {"softmax": ("classes", "labels", "probabilities"), "sigmoid": ("labels", "probabilities", "numbers")}
        return self.needs in by_detail.get(loss.detail, ("labels",) if loss.name == "hinge" else ("numbers",))

    def __call__(self, loss: Any, seen: Outputs) -> float:
        """The metric of one output. loss: a Loss, or a loss of your own, which has no rule: the function guesses it."""
        y, weight = seen.targets[0], of_output(seen.weight, 0)
        if not isinstance(loss, Loss):
            return self.function(y, seen.predictions[0], sample_weight=weight)
        if self.of is None:
            return self.function(y, activated(seen.raw[0], loss.detail), sample_weight=weight, loss=loss)
        return self.of(seen.case)


NAMED: dict[str, Named] = {
    "accuracy": Named(class_metrics.accuracy, "labels", class_metrics.accuracy_of),
    "subset_accuracy": Named(class_metrics.subset_accuracy, "labels", class_metrics.subset_accuracy_of),
    "balanced_accuracy": Named(class_metrics.balanced_accuracy, "labels", class_metrics.balanced_accuracy_of),
    "f1": Named(class_metrics.f1, "labels", class_metrics.f1_of),
    "auc": Named(class_metrics.auc, "labels", class_metrics.auc_of),
    "log_loss": Named(class_metrics.log_loss, "probabilities", class_metrics.log_loss_of),
    "brier": Named(class_metrics.brier, "probabilities", class_metrics.brier_of),
    "rmse": Named(number_metrics.rmse, "numbers"),
    "mae": Named(number_metrics.mae, "numbers"),
    "r2": Named(number_metrics.r2, "numbers"),
    "pinball": Named(number_metrics.pinball, "numbers"),
}


def find(name: str) -> Named | None:
    """The metric with this name, if there is one."""
    top = re.fullmatch(r"top_(\d+)", name)
    if not top:
        return NAMED.get(name)
    function = class_metrics.top_k(int(top[1]))
    return Named(function, "classes", partial(class_metrics.top_k_of, k=int(top[1])))


# ---- the argument of fit ----


@dataclass(frozen=True)
class OfOutput:
    """A metric of one of several outputs, by its number."""

    output: int
    metric: Metric | Named


Chosen: TypeAlias = Metric | Named | OfOutput


def resolve(metrics: Metrics, outputs: Sequence[str]) -> dict[str, Chosen]:
    """The metrics by their names in the records. The name of a function is its __name__. outputs: the names of the outputs.

    Of several outputs, a key that is the name or number of one chooses metrics of this output, whose entries end in _ and its name.
    """
    if len(outputs) == 1 or not isinstance(metrics, Mapping):
        return {**_resolve(metrics, outputs, {*RESERVED, *losses_named(outputs)})}
    chosen: dict[str, Chosen] = {}
    for key, some in metrics.items():
        taken = {*RESERVED, *losses_named(outputs), *chosen}
        if (output := number_of(key, outputs)) is None:
            if not isinstance(key, str) or not _is_of_all(some):
                raise unknown("output in metrics:", key, outputs)
            chosen |= _resolve({key: some}, outputs, taken)
        else:
            end = f"_{outputs[output]}"
            found = _resolve(some, [outputs[output]], {name.removesuffix(end) for name in taken if name.endswith(end)})
            chosen |= {f"{name}{end}": OfOutput(output, metric) for name, metric in found.items()}
    return chosen


def _is_of_all(metric: Any) -> bool:
    """Whether this can be a metric of all outputs together: a function of the user."""
    return isinstance(metric, Metric) or (callable(metric) and not _is_ours(metric))


def _is_ours(metric: Any) -> bool:
    return any(named.function is metric for named in NAMED.values())


def losses_named(outputs: Sequence[str]) -> list[str]:
    """The entries of records for the losses of several outputs."""
    return [f"{part}loss_{name}" for name in outputs for part in ("", "val_")] if len(outputs) > 1 else []


def _resolve(metrics: Any, outputs: Sequence[str], taken: Set[str]) -> dict[str, Metric | Named]:
    """The metrics that do not choose an output. taken: names that their entries cannot have."""
    chosen: dict[str, Metric | Named] = {}
    is_one = isinstance(metrics, str | Metric) or callable(metrics)
    if not is_one and not isinstance(metrics, list | tuple | Mapping):
        raise TypeError(f"metrics must be a name, a function f(y, outputs), a bp.Metric, a dict or a list of these, not {brief(metrics)}")
    given: Any = [metrics] if is_one else metrics
    for name, one in given.items() if isinstance(given, Mapping) else [(None, one) for one in given]:
        if not isinstance(name, str | None):
            raise TypeError(f"metrics: the keys must be names, not {brief(name)}")
        _name("metrics: a key", name)
        metric, entry = _metric(one, outputs), name or _name_of(one)
        if entry in chosen or entry in taken:
            raise ValueError(f"metrics: the name {entry!r} is already in use; choose another with metrics={{'other': metric}}")
        chosen[entry] = metric
    return chosen


def _metric(metric: Any, outputs: Sequence[str]) -> Metric | Named:
    if metric is class_metrics.top_k:
        raise TypeError("metrics: top_k needs a number: pass bp.top_k(3), or its name 'top_3'")
    if isinstance(metric, Metric):
        return metric
    found = find(metric) if isinstance(metric, str) else None
    if isinstance(metric, str) and found is None:
        raise unknown("metric", metric, [*NAMED, "top_3"])
    if found is None and not callable(metric):
        raise TypeError(f"metrics: a metric is a name or a function f(y, outputs), not {brief(metric)}")
    if len(outputs) > 1 and (found or _is_ours(metric)):
        name = _name_of(metric)
        advice = f"choose an output, as in {{{outputs[0]!r}: {name!r}}} (the outputs are {', '.join(outputs)}), or use a function"
        raise ValueError(f"metric {name!r} works with one output only; {advice} f(list of targets, list of outputs)")
    return found or Metric(metric)


def _name_of(metric: Any) -> str:
    if isinstance(metric, Metric):
        return metric.name or _name_of(metric.function)
    return metric if isinstance(metric, str) else getattr(metric, "__name__", type(metric).__name__)


# ---- computing them ----


T = TypeVar("T")


class _Kept(Generic[T]):
    """As functools.cached_property, without its lock for all threads: a value may wait for other ranks, which may be threads."""

    def __init__(self, function: Callable[[Any], T]) -> None:
        self._function = function

    def __get__(self, one: Any, _: Any = None) -> T:
        found: T = one.__dict__.setdefault(self._function.__name__, self._function(one))
        return found


class Outputs:
    """Targets and outputs of a net on the rows of weight above 0: one array per output. Each kind of outputs is computed when first needed.

    losses: one per output. predict: returns the predictions, or with raw=True the raw outputs. activations: of the outputs; if there are
    none but identity, these are the same.
    """

    def __init__(
        self,
        targets: list[Array],
        weight: Weights,
        losses: Sequence[Any],
        predict: Callable[..., list[Array]],
        activations: Sequence[str | None],
    ) -> None:
        self.targets, self.weight, self.losses, self._predict, self._activations = targets, weight, losses, predict, activations
        self._one: dict[int, Outputs] = {}

    def one(self, i: int) -> Outputs:
        """Output i alone."""
        if i not in self._one:

            def predict(raw: bool = False) -> list[Array]:
                return [self.raw[i] if raw else self.predictions[i]]

            weight = of_output(self.weight, i)
            self._one[i] = Outputs([self.targets[i]], weight, [self.losses[i]], predict, [self._activations[i]])
        return self._one[i]

    def take(self, rows: Any) -> Outputs:
        """Some of the rows. rows: indices, a mask or a slice."""

        def of(array: Any) -> Any:
            return array if array is None else array[rows]

        def predict(raw: bool = False) -> list[Array]:
            return [of(array) for array in (self.raw if raw else self.predictions)]

        weight = [of(one) for one in self.weight] if isinstance(self.weight, list) else of(self.weight)
        return Outputs([of(target) for target in self.targets], weight, self.losses, predict, self._activations)

    @_Kept
    def raw(self) -> list[Array]:
        """The outputs that the losses get."""
        return self.predictions if {*self._activations} <= {None, "identity"} else self._predict(raw=True)

    @_Kept
    def predictions(self) -> list[Array]:
        """What `predict` gives."""
        return self._predict()

    @_Kept
    def case(self) -> Case:
        """What metrics of classes read, of a net with one output and a named loss."""
        return read(self.targets[0], self.raw[0], of_output(self.weight, 0), self.losses[0], is_raw=True)

    @_Kept
    def labels(self) -> list[tuple[Array, Array]]:
        """The labels of targets and outputs, as users write them."""
        cases = []
        for i, loss in enumerate(self.losses):
            known = loss if isinstance(loss, Loss) else None
            outputs = self.predictions[i] if known is None else self.raw[i]
            cases.append(read(self.targets[i], outputs, None, known, is_raw=known is not None))
        return [(case.written(case.true), case.written(case.decided)) for case in cases]


def bind(metrics: Mapping[str, Chosen], losses: Sequence[Any]) -> dict[str, Callable[[Outputs], Any]]:
    """The metrics as functions of outputs; ValueError if one makes no sense for the losses."""
    return {name: _chosen(name, metric, losses) for name, metric in metrics.items()}


def _chosen(name: str, metric: Chosen, losses: Sequence[Any]) -> Callable[[Outputs], Any]:
    if isinstance(metric, OfOutput):
        output, of_one = metric.output, _chosen(name, metric.metric, [losses[metric.output]])
        return lambda seen: of_one(seen.one(output))
    if isinstance(metric, Named):
        _check(name, metric, losses[0])
        return partial(metric, losses[0])
    return _bound(name, metric, losses)


def _check(name: str, metric: Named, loss: Any) -> None:
    if isinstance(loss, Loss) and not metric.fits(loss):
        fitting = [known for known, named in NAMED.items() if named.fits(loss)] + ["top_3"] * (loss.detail == "softmax")
        advice = f"; choose among {', '.join(fitting)}, or pass a function"
        if not fitting:
            advice = ", which predicts several numbers for each target; pass a function f(y, outputs)"
        raise ValueError(f"metrics: {name!r} makes no sense for the loss {loss.text}{advice}")


def _bound(name: str, metric: Metric, losses: Sequence[Any]) -> Callable[[Outputs], Any]:
    """A function as a metric. If it is ours, it is the metric of its name where that makes sense for the loss."""
    ours = next((named for named in NAMED.values() if named.function is metric.function), None)
    if ours and len(losses) == 1 and metric.on == "predictions" and (not isinstance(losses[0], Loss) or ours.fits(losses[0])):
        return partial(ours, losses[0])
    without = [loss.text for loss in losses if isinstance(loss, Loss) and not NAMED["accuracy"].fits(loss)]
    if metric.on == "labels" and without:
        raise ValueError(f'metrics: {name!r} is on="labels", which the loss {without[0]} does not have; use on="predictions"')
    return partial(_call, metric, _takes_weight(metric.function))


def _call(metric: Metric, takes_weight: bool, seen: Outputs) -> Any:
    if metric.on == "labels":
        targets, outputs = map(list, zip(*seen.labels, strict=True))
    else:
        targets, outputs = seen.targets, seen.raw if metric.on == "raw" else seen.predictions
    if len(outputs) == 1:
        targets, outputs = targets[0], outputs[0]
    weight = of_output(seen.weight, 0) if len(seen.targets) == 1 else seen.weight
    return metric.function(targets, outputs, **({"sample_weight": weight} if takes_weight and weight is not None else {}))


def _takes_weight(function: Callable[..., Any]) -> bool:
    try:
        return "sample_weight" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some functions of C have no signature
        return False
