"""Compares statistics of deep nets with those of Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural
networks" (AISTATS), and shows a net of sigmoids that starts saturated.

    python bench/learning/published.py [--data DIR] [--picture PATH] [--quick] [start] [training] [sigmoid]

start     784 - 5 x 1000 tanh - 10, before training, on 300 rows of MNIST, pixels from 0 to 1: per layer the standard deviation of the
          activations, that of the gradients with respect to them (cross-entropy), and the average singular value of the Jacobian of
          its output by its input (at 2 rows, of the layers from 1000 to 1000). Weights: "normalised", U[+-sqrt(6 / (n_in + n_out))],
          here "glorot_uniform"; "standard", U[+-1 / sqrt(n_in)], here "fan_in_uniform". Biases 0.
          Published: average singular values of about 0.8 and 0.5. The variance of gradients with the standard weights falls by
          n Var[W] = 1/3 with each layer in the linear regime, that is, the standard deviation by 0.577.
training  The same nets on 10,000 rows, batches of 50, SGD with rate 0.02, 8 epochs: activations and gradients of the layers over the
          epochs, by fit(watch="layers") and a callback. The paper has figures of the start and of the training, on Shapeset, with
          rates that were chosen by validation and are not published.
sigmoid   784 - 3 x 100 sigmoid - 10 with weights from N(0, 1), and with init="auto": the fraction of saturated values (derivative
          below 5 % of its maximum), the gradient of each layer's parameters, before training, and the test error after 5 epochs of
          Adam.

The rows, their order and the rates are ours: the paper does not specify them for MNIST.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

import microbp as bp
from microbp.training.layers import measure, units

sys.path.append(str(Path(__file__).parents[1]))
from training import data

Array = np.ndarray[Any, np.dtype[Any]]
INITS = {"normalised": bp.Init("glorot_uniform"), "standard": bp.Init("fan_in_uniform")}
PUBLISHED = {"normalised": ("0.8", "1"), "standard": ("0.5", "0.577")}
WIDTH, DEPTH = 1000, 5
RATE, BATCH, EPOCHS = 0.02, 50, 8


def network(init: bp.Init, width: int = WIDTH) -> bp.Network:
    """Five hidden layers of tanh, and ten outputs; biases 0."""
    x = bp.Input(784)
    h: bp.Node = x
    for i in range(DEPTH):
        h = bp.Dense(width, activation="tanh", init=init, bias_init="zeros", name=f"layer_{i + 1}")(h)
    return bp.Network(x, bp.Dense(10, init=init, bias_init="zeros", name="out")(h), seed=0)


def rows_of(root: Path, count: int, part: int = 0) -> tuple[Array, Array]:
    """Rows of MNIST, pixels from 0 to 1, and their labels. part: 1: of the test part."""
    digits = data.mnist(root)[part]
    return digits.x[:count], digits.labels[:count]


# ---- before training ----


def deviations(net: bp.Network, x: Array) -> list[float]:
    """The standard deviation of each hidden layer's output."""
    return [float(np.std(net.predict(x, at=f"layer_{i}"))) for i in range(1, DEPTH + 1)]


def gradients_by_layer(net: bp.Network, x: Array, y: Array) -> list[float]:
    """The standard deviation of the gradients of the rows' losses with respect to each hidden layer's output."""
    found = []
    for i in range(1, DEPTH + 1):
        rest = bp.Trainer(net.part(inputs=f"layer_{i}"), "cross_entropy", "sgd")
        rest.backward(net.predict(x, at=f"layer_{i}"), y, input_grads=True)
        assert rest.input_grads is not None
        found.append(float(np.std(rest.input_grads[0]) * len(x)))  # the loss is a mean over the rows
    return found


def singular_values(net: bp.Network, x: Array) -> list[float]:
    """The average singular value of the Jacobians between hidden layers."""
    found = []
    for i in range(1, DEPTH):
        step = net.part(inputs=f"layer_{i}", outputs=f"layer_{i + 1}")
        jacobians = step.jacobian(net.predict(x, at=f"layer_{i}"), by="inputs")
        found.append(float(np.linalg.svd(jacobians, compute_uv=False).mean()))
    return found


def start(root: Path, width: int) -> dict[str, list[list[float]]]:
    """Prints the table; returns per rule the deviations of activations and of gradients."""
    x, y = rows_of(root, 300)
    print(f"\n784 - {DEPTH} x {width} tanh - 10 before training\n")
    print("| weights | statistic | " + " | ".join(f"layer {i}" for i in range(1, DEPTH + 1)) + " | mean | published |")
    print("|---|---|" + "---|" * (DEPTH + 2))
    drawn = {}
    for rule, init in INITS.items():
        net = network(init, width)
        activations = deviations(net, x)
        gradients, singular = gradients_by_layer(net, x, y), singular_values(net, x[:2])
        ratios = [a / b for a, b in itertools.pairwise(gradients)]
        value, ratio = PUBLISHED[rule]
        print_row(rule, "average singular value", ["", *map(three, singular)], float(np.mean(singular)), f"about {value}")
        print_row(rule, "standard deviation of activations", map(three, activations))
        print_row(rule, "standard deviation of gradients", [f"{one:.2e}" for one in gradients])
        print_row(rule, "of gradients: to the next layer", [*map(three, ratios), ""], float(np.mean(ratios)), f"about {ratio}")
        drawn[rule] = [activations, gradients]
    return drawn


def three(value: float) -> str:
    return f"{value:.3f}"


def print_row(rule: str, name: str, cells: Any, mean: float | None = None, published: str = "") -> None:
    print(" | ".join([f"| {rule}", name, *cells, "" if mean is None else three(mean), published]) + " |", flush=True)


# ---- during training ----


def training(root: Path, width: int, count: int, epochs: int) -> dict[str, list[list[float]]]:
    """Prints what the layers do at the first and the last epoch; returns the deviations of the activations from before the training on."""
    x, y = rows_of(root, count)
    print(f"\nTraining on {count:,} rows, first and last of {epochs} epochs\n")
    print("| weights | entry | " + " | ".join(f"layer {i}" for i in range(1, DEPTH + 1)) + " | loss |")
    print("|---|---|" + "---|" * (DEPTH + 1))
    found = {}
    for rule, init in INITS.items():
        t = bp.Trainer(network(init, width), "cross_entropy", bp.SGD(lr=RATE), seed=0)
        found[rule] = [deviations(t.net, x[:300])]
        keep = partial(append_deviations, found[rule], t.net, x[:300])
        history = t.fit(x, y, epochs=epochs, batch_size=BATCH, watch="layers", callback=keep)
        for place in (0, -1):
            loss = three(history["loss"][place])
            for entry in ("activation", "gradient"):
                cells = [f"{history[f'layer_{i}.{entry}'][place]:.3g}" for i in range(1, DEPTH + 1)]
                print(" | ".join([f"| {rule}", f"{entry}, epoch {place % epochs + 1}", *cells, loss]) + " |", flush=True)
    return found


def append_deviations(to: list[list[float]], net: bp.Network, x: Array, record: bp.Record) -> None:
    to.append(deviations(net, x))


# ---- saturated sigmoids ----


def sigmoid(root: Path, epochs: int) -> None:
    """Prints saturation and gradients of a net whose weights are too large, beside the default."""
    (x, y), (new_x, new_y) = rows_of(root, 10_000), rows_of(root, 10_000, 1)
    names = ["hidden_1", "hidden_2", "hidden_3"]
    print("\n784 - 3 x 100 sigmoid - 10 before training\n")
    print(f"| weights | statistic | layer 1 | layer 2 | layer 3 | test error after {epochs} epochs |\n|---|---|---|---|---|---|")
    rules: dict[str, bp.Init | Literal["auto"]] = {"N(0, 1)": bp.Init("normal", std=1), "auto": "auto"}
    for rule, init in rules.items():
        node: bp.Node = (inputs := bp.Input(784))
        for name in names:
            node = bp.Dense(100, activation="sigmoid", init=init, name=name)(node)
        net = bp.Network(inputs, bp.Dense(10, name="out")(node), seed=0)
        t = bp.Trainer(net, "cross_entropy", bp.Adam(lr=1e-3), seed=0)
        saturated = units.units_of(net, x[:300])
        t.backward(x[:300], y[:300])
        norms = measure.of_layers(net, measure.values_of(net, x[:300]), t.grads, net.params)
        t.fit(x, y, epochs=epochs, batch_size=BATCH)
        error = np.mean(t.predict(new_x).argmax(axis=1) != new_y)
        print(" | ".join([f"| {rule}", "saturated values", *(f"{saturated[name].saturated:.1%}" for name in names), f"{error:.2%}"]) + " |")
        print(" | ".join([f"| {rule}", "norm of the gradient", *(f"{norms[name].gradient:.2e}" for name in names), ""]) + " |", flush=True)


# ---- picture ----


def picture(path: Path, begun: dict[str, list[list[float]]], trained: dict[str, list[list[float]]]) -> None:
    """Draws gradients and activations per layer before training, and activations over the epochs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    layers = np.arange(1, DEPTH + 1)
    figure, panels = plt.subplots(2, 2, figsize=(9, 7), layout="constrained", sharey="row")
    for panel, (rule, (activations, gradients)) in zip(panels[0], begun.items(), strict=True):
        for values, colour, name in ((activations, "#1f5fa8", "activations"), (gradients, "#d9730d", "gradients")):
            panel.plot(layers, np.array(values) / values[-1 if colour == "#d9730d" else 0], "o-", color=colour, label=name)
        panel.set(title=f"{rule} weights, before training", xlabel="layer", yscale="log", xticks=layers)
        panel.legend(loc="lower center")
    panels[0, 0].set_ylabel("standard deviation, of the layer\nthat comes first in its pass: 1")
    for panel, (rule, rows) in zip(panels[1], trained.items(), strict=True):
        for i, values in zip(layers, np.transpose(rows), strict=True):
            panel.plot(values, "o-", color=plt.get_cmap("viridis")((i - 1) / DEPTH), label=f"layer {i}")
        panel.set(title=f"{rule} weights, training", xlabel="epoch")
    panels[1, 0].set_ylabel("standard deviation of activations")
    panels[1, 1].legend(fontsize=8, ncols=2)
    figure.savefig(path, dpi=90)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", choices=[[], "start", "training", "sigmoid"], help="default: all")
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder that contains mnist/ (default: %(default)s)")
    parser.add_argument("--picture", type=Path, help="a PNG file to write; needs matplotlib and the parts start and training")
    parser.add_argument("--quick", action="store_true", help="nets of 50 units, few rows and epochs: only to see that it works")
    given = parser.parse_args(arguments)
    parts = given.parts or ["start", "training", "sigmoid"]
    width, count, epochs = (50, 200, 2) if given.quick else (WIDTH, 10_000, EPOCHS)
    print(f"microbp {bp.__version__}")
    begun = start(given.data, width) if "start" in parts else {}
    trained = training(given.data, width, count, epochs) if "training" in parts else {}
    if "sigmoid" in parts:
        sigmoid(given.data, 1 if given.quick else 5)
    if given.picture:
        picture(given.picture, begun, trained)


if __name__ == "__main__":
    main()
