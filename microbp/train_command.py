"""`microbp train`: data, split, training and the report."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import backend, metrics
from .arrays import Array
from .network import mlp
from .specs import Loss, OptimizerSpec
from .trainer import Trainer

_SPLIT = 5  # the purpose of a permutation that splits rows, as in microbp.h
_VALIDATION = 0.1  # of the rows that are not for the test: enough to draw a curve


class Data(NamedTuple):
    """Rows to learn from: features between 0 and 1, and the class of each."""

    x: Array
    labels: Array
    classes: int


class Part(NamedTuple):
    """The rows of one part of the split, with targets as the loss wants them."""

    x: Array
    y: Array


def run(arguments: argparse.Namespace) -> None:
    """Trains as the parsed arguments say; prints the report, saves and draws."""
    plot = _plotter(arguments.plot)
    _check_directories(arguments.out, arguments.plot)
    data = _digits()
    _check_net(arguments, data)
    parts = _split(data, _targets(data, arguments.loss), arguments.test, arguments.seed)
    trainer = _train(arguments, parts)
    report = _report(arguments, trainer, parts)
    if arguments.out:
        trainer.net.save(arguments.out)
    if plot:
        plot(trainer.history, arguments.plot, _title(arguments), report["test"]["accuracy"])
    print(json.dumps(report) if arguments.json else _text(arguments, report, parts))


# ---- before the training: all that could be wrong ----


def _plotter(path: Path | None) -> Any:
    if path is None:
        return None
    from . import plot

    if path.suffix.lower() not in plot.FORMATS:
        raise argparse.ArgumentTypeError(f"argument --plot: {str(path)!r} must end in one of {', '.join(plot.FORMATS)}")
    return plot.save_curves


def _check_directories(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise argparse.ArgumentTypeError(f"the directory of {str(path)!r} does not exist: make it first, or choose another")


def _digits() -> Data:
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise ImportError("the digits come with scikit-learn, which is not installed: python -m pip install scikit-learn") from None
    x, labels = load_digits(return_X_y=True)
    return Data(x / 16, labels, 10)


def _check_net(arguments: argparse.Namespace, data: Data) -> None:
    inner = arguments.net[1:-1]
    right = [data.x.shape[1], *inner, data.classes]
    if arguments.net != right:
        raise argparse.ArgumentTypeError(
            f"argument --net: {_join(arguments.net)} does not fit {arguments.task}, which has {right[0]} features and {right[-1]} classes: "
            f"write --net {_join(right)}"
        )


def _join(widths: list[int]) -> str:
    return "-".join(map(str, widths))


def _targets(data: Data, loss: Loss) -> Array:
    """Labels for a loss over classes, else a column per class: 1 for the row's own and 0 (for hinge -1) for the others."""
    if loss.detail == "softmax":
        return data.labels
    return np.where(data.labels[:, None] == np.arange(data.classes), 1.0, -1.0 if loss.name == "hinge" else 0.0)


def _split(data: Data, targets: Array, test: float, seed: int) -> dict[str, Part]:
    count = len(data.x)
    order = np.asarray(backend.load().permutation(seed, _SPLIT, 0, count))
    tested = max(1, round(test * count))
    validated = tested + max(1, round(_VALIDATION * (count - tested)))
    if validated >= count:
        raise argparse.ArgumentTypeError(f"argument --test: {test} leaves none of the {count} rows to train on: choose less")
    rows = {"train": order[validated:], "validation": order[tested:validated], "test": order[:tested]}
    return {name: Part(data.x[chosen], targets[chosen]) for name, chosen in rows.items()}


# ---- training and the report ----


def _train(arguments: argparse.Namespace, parts: dict[str, Part]) -> Trainer:
    net = mlp(arguments.net, arguments.activation, seed=arguments.seed)
    trainer = Trainer(net, arguments.loss, _optimizer(arguments))
    trainer.fit(
        *parts["train"],
        epochs=arguments.epochs,
        batch_size=arguments.batch,
        validation=tuple(parts["validation"]),
        metrics="accuracy",
        progress=True,
    )
    return trainer


def _optimizer(arguments: argparse.Namespace) -> OptimizerSpec:
    """What --optimizer says, at the rate of --lr where that is given."""
    chosen: OptimizerSpec = arguments.optimizer
    return chosen if arguments.lr is None else OptimizerSpec(chosen.name, **chosen.parameters | {"lr": arguments.lr})


def _report(arguments: argparse.Namespace, trainer: Trainer, parts: dict[str, Part]) -> dict[str, Any]:
    seconds = sum(trainer.history["seconds"])
    return {
        "task": arguments.task,
        "net": _join(arguments.net),
        "parameters": len(trainer.net.params),
        "epochs": trainer.epoch,
        "seconds": seconds,
        "rows_per_second": trainer.epoch * len(parts["train"].x) / seconds,
        **{name: _scores(trainer, part) for name, part in parts.items()},
    }


def _scores(trainer: Trainer, part: Part) -> dict[str, float]:
    """Loss and accuracy; under a loss of regression its measures too."""
    outputs = trainer.predict(part.x)
    scores = {"loss": trainer.evaluate(*part), "accuracy": metrics.accuracy(part.y, outputs)}
    if trainer.losses[0].name not in ("cross_entropy", "bce", "hinge"):  # type: ignore[union-attr]  # never a function here
        scores |= {"rmse": metrics.rmse(part.y, outputs), "r2": metrics.r2(part.y, outputs)}
    return scores


def _title(arguments: argparse.Namespace) -> str:
    return f"{arguments.task}, {_join(arguments.net)} {arguments.activation.text}"


def _text(arguments: argparse.Namespace, report: dict[str, Any], parts: dict[str, Part]) -> str:
    lines = [
        f"{_title(arguments)}: {report['parameters']:,} parameters, {arguments.loss.text}, {_optimizer(arguments).text}, "
        f"batch {arguments.batch}, seed {arguments.seed}",
        "".join([f"{'':12}", *(f"{column:>10}" for column in ("rows", *report["test"]))]),
        *(_line(name, len(part.x), report[name]) for name, part in parts.items()),
        f"{report['epochs']} epochs in {report['seconds']:.2f} s, {report['rows_per_second']:,.0f} rows per second",
    ]
    written = [str(path) for path in (arguments.out, arguments.plot) if path]
    return "\n".join([*lines, *([f"wrote {' and '.join(written)}"] if written else [])])


def _line(name: str, rows: int, scores: dict[str, float]) -> str:
    cells = [f"{100 * value:>8.2f} %" if key == "accuracy" else f"{value:>10.4f}" for key, value in scores.items()]
    return "".join([f"{name:12}", f"{rows:>10,}", *cells])
