"""The checks of the network as it is: what its layers give, their gradients, and updates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate

import numpy as np

from ..data.arrays import Array
from ..network.records import LayerInfo
from ..training.layers import measure
from ..training.loop.epoch import DEFAULT_BATCH
from .data import new_start, new_trainer
from .patient import Patient, Sign, Unchecked, engine_of

_HEALTHY = 1e-3  # the change of parameters by an update, relative to their norm (Karpathy, CS231n, "Ratio of weights:updates")
_UPDATES = 10
_SAME_RATE = 2.0  # rates of range tests that differ by less are the same
_KINDS = ("dense", "recurrent")


def _trained(p: Patient) -> list[LayerInfo]:
    """The layers that training changes."""
    return [layer for layer in p.net.layers if layer.parameters and not layer.frozen and layer.lr > 0]


def frozen(p: Patient) -> Iterator[Sign]:
    """1 if nothing can change: all layers are frozen, or a rate is 0."""
    stopped = bool(_trained(p)) and not p.engine.is_solver and p.rate == 0
    if _trained(p) and not stopped:
        return
    p.prevents = p.prevents or "no parameter can change"
    if stopped:
        yield Sign(1, "trainer.lr", "the learning rate is 0", "trainer.lr = 1e-3")
    elif not any(layer.parameters for layer in p.net.layers):
        yield Sign(1, "net", "the network has no parameters", f"output = bp.Dense({p.net.outputs[0].width})")
    elif all(layer.frozen for layer in p.net.layers if layer.parameters):
        yield Sign(1, "net", "all layers are frozen", "trainer.net.unfreeze()")
    else:
        yield Sign(1, "net", "the factors lr of all layers are 0", "trainer.net.unfreeze(); trainer.net.set_layer(lr=1.0)")


def start_loss(p: Patient) -> Iterator[Sign]:
    """The loss of the initial weights, divided by that of outputs that are 0: ln K for K classes, the mean square of targets."""
    if p.engine.has_custom_losses:
        raise Unchecked("what a loss of your own is at the start is not known")
    if p.zero <= 0:
        raise Unchecked("the loss of outputs that are 0 is not above 0")
    last = [layer.name for layer in p.net.layers if layer.parameters][-1]
    ratio = p.start / p.zero
    text = f"with the initial weights the loss is {p.start:.3g}, with outputs of 0 it is {p.zero:.3g}: the outputs are too large"
    yield Sign(ratio, last, text, f'trainer.net.tensors["{last}.weight"][...] *= {min(1.0, 1 / ratio):.2g}')


def dead(p: Patient) -> Iterator[Sign]:
    """The share of a layer's units that get no gradient from any row."""
    for name, found in p.units.items():
        if not math.isnan(found.dead):
            text = f"{found.dead:.0%} of its units have an activation function that is flat for all rows, so that they do not learn"
            if p.trainer.steps and not p.engine.is_solver and not p.first_units[name].dead > found.dead / 2:
                text = f"{text}; with the initial weights it was {p.first_units[name].dead:.0%}: large updates made the others so"
                yield Sign(found.dead, name, text, f"{new_start(p)}; trainer.lr = {p.rate / 10:.2g}")
            else:
                yield Sign(found.dead, name, text, new_start(p, name))


def saturated(p: Patient) -> Iterator[Sign]:
    """The share of a layer's values that are at the flat ends of its activation function."""
    for name, found in p.units.items():
        if not math.isnan(found.saturated):
            text = f"{found.saturated:.0%} of its values are where the activation function is nearly flat, so that it hardly learns"
            yield Sign(found.saturated, name, text, new_start(p, name))


def _gradients(p: Patient) -> dict[str, float]:
    """The root mean square of the gradient of each dense or recurrent layer that is trained, in order."""
    found = [layer for layer in _trained(p) if layer.kind in _KINDS]
    if len(found) < 2:
        raise Unchecked("fewer than two dense or recurrent layers are trained")
    has_weights = [bool(p.net.tensors[f"{layer.name}.weight"].any()) for layer in found]
    if any(has_weights) and not has_weights[-1]:
        raise Unchecked("the weights of the last layer are 0, so that other layers get a gradient only after the first update")
    return {layer.name: p.norms[layer.name].gradient / math.sqrt(layer.parameters) for layer in found}


def vanishing(p: Patient) -> Iterator[Sign]:
    """How many times smaller the gradient of a layer is than that of a later one."""
    sizes = list(_gradients(p).items())[::-1]
    for (name, size), later in zip(sizes[1:], accumulate((size for _, size in sizes), max), strict=False):
        if later > 0:
            ratio = later / size if size > 0 else math.inf
            text = f"its gradient (root mean square {size:.2g}) is {f'1 / {ratio:.3g}' if size > 0 else '0 times'} that of a later layer"
            yield Sign(ratio, name, text, _other_layers(p))


def exploding(p: Patient) -> Iterator[Sign]:
    """How many times larger the gradient of a layer is than that of a later one, or its values than those of an earlier one. The last layer
    does not count: start_loss looks at it."""
    sizes = [(name, size) for name, size in list(_gradients(p).items())[:-1] if size > 0][::-1]
    for (name, size), later in zip(sizes[1:], accumulate((size for _, size in sizes), min), strict=False):
        text = f"its gradient (root mean square {size:.2g}) is {size / later:.3g} times that of a later layer"
        yield Sign(size / later, name, text, new_start(p, name))
    values = [(name, p.norms[name].activation) for name, _ in sizes[::-1] if p.norms[name].activation > 0]
    for (name, size), earlier in zip(values[1:], accumulate((size for _, size in values), min), strict=False):
        text = f"its values (root mean square {size:.2g}) are {size / earlier:.3g} times those of an earlier layer"
        yield Sign(size / earlier, name, text, new_start(p, name))


def _other_layers(p: Patient) -> str:
    """The code of layers whose gradients do not vanish; of new weights, if those are the cause: all 0, for example."""
    layers = p.net.layers
    zero = [layer.name for layer in _trained(p) if layer.kind == "dense" and not p.net.tensors[f"{layer.name}.weight"].any()]
    if zero:
        return new_start(p, zero[0])
    if all(layer.kind == "dense" for layer in layers):
        widths = [layers[0].inputs, *(layer.units for layer in layers)]
        return new_trainer(p, f'bp.mlp({widths}, activation="gelu", seed={p.net.seed})')
    return 'layer = bp.Dense(units, activation="gelu")'


def updates(p: Patient) -> Iterator[Sign]:
    """How many times the change of a layer by an update is larger or smaller than 1e-3 of its parameters."""
    if p.engine.is_solver:
        raise Unchecked("a solver has no learning rate")
    trainer = p.fresh()
    net = trainer.net
    layers = [layer.name for layer in _trained(p) if layer.kind in _KINDS]
    ratios = {name: list[float]() for name in layers if net.tensors[f"{name}.weight"].any()}  # those that start from 0 change more
    nothing = {layer.name: list[Array]() for layer in net.layers}
    for k in range(_UPDATES):
        p.watch_time()
        before = net.params.copy()
        engine_of(trainer).step(p.sample.take(np.arange(k % p.sample.count, p.sample.count, -(-p.sample.count // DEFAULT_BATCH))))
        norms = measure.of_layers(net, nothing, before, before)
        for name, found in ratios.items():
            found.append(norms[name].update / norms[name].weight if norms[name].weight > 0 else 0.0)
    for name, found in ratios.items():
        ratio = float(np.median(found))
        if ratio > 0:
            text = f"an update changes it by {ratio:.1g} of its parameters; about {_HEALTHY:g} is usual"
            yield Sign(max(ratio / _HEALTHY, _HEALTHY / ratio), name, text, _other_rate(p, name, p.rate * _HEALTHY / ratio))


def _other_rate(p: Patient, name: str, wanted: float) -> str:
    """The code of a rate on the way to the wanted one, up to that of a range test; of other layers, if that is as high as it is now."""
    try:
        best = p.range.suggestion
    except (ValueError, Unchecked):
        best = wanted
    low, high = sorted((p.rate, wanted))
    lr = min(max(best, low), high)
    if max(lr / p.rate, p.rate / lr) > _SAME_RATE:
        return f"trainer.lr = {lr:.1g}"
    return _other_layers(p) if wanted > p.rate else new_start(p, name)
