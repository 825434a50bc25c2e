"""The named losses of a trainer without its network: a backend's trainer of a network whose inputs are the outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core import backend as backends
from ...core.specs import Loss
from ...data import faults
from ...data.rows import Rows, Shape
from ...network.network import Network


class NamedLosses:
    """Computes the losses that have names. losses: one per output; others than a Loss count 0."""

    def __init__(self, net: Network, losses: Sequence[Any], loss_weights: Sequence[float], shape: Shape) -> None:
        self._net, self._shape, self._widths, self._dtype = net._core, shape, shape.outputs, net.dtype
        self._losses, self._is_named = losses, [isinstance(loss, Loss) for loss in losses]
        module = backends.load(net.backend)
        count = len(self._widths)
        lines = [f"input {width}\n" for width in self._widths]
        lines += [f"grid {i} height=1 width={shape.positions(i)}\n" for i in range(count)]
        text = "".join([*lines, *(f"output {count + i}\n" for i in range(count))])
        texts = [loss.text if isinstance(loss, Loss) else "mse" for loss in losses]
        self._weights = weights = [weight if named else 0.0 for weight, named in zip(loss_weights, self._is_named, strict=True)]
        self.output_losses = [math.nan] * len(weights)  # of the last call, before their loss weights; NaN: it has no name
        self._core = module.Trainer(module.Net(text, str(net.dtype)), texts, weights, "sgd", 0)

    def _asks(self, rows: Rows) -> bool:
        """Whether a row has a target of a named loss."""
        counts = (i for i, weight in enumerate(self._weights) if weight)
        return any(weight is None or bool(np.any(weight)) for weight in map(rows.weight_of, counts))

    def check(self, rows: Rows) -> None:
        """Raises an error for targets that a step would refuse, by computing the losses of zero outputs. The inputs are not read."""
        outputs = [np.zeros((rows.count, width), self._dtype) for width in self._widths]
        self.of(outputs, rows, has_gradients=False)

    def of(self, outputs: Sequence[Any], rows: Rows, has_gradients: bool) -> tuple[float, list[Any]]:
        """The sum of the losses, each times its weight, and the gradients with respect to the outputs. Without a target, it is 0."""
        if not self._asks(rows):
            self.output_losses = [0.0 if weight else math.nan for weight in self._weights]
            return 0.0, [np.zeros((rows.count, width), self._dtype) for width in self._widths]
        self._copy_scales()
        x, y = list(outputs), [target if named else output for target, named, output in zip(rows.ys, self._is_named, outputs, strict=True)]
        if len(x) == 1:
            x, y = x[0], y[0]
        try:
            if not has_gradients:
                gradients: list[Any] = [None] * len(outputs)
                loss = self._core.evaluate(x, y, rows.weight)
            else:
                loss = self._core.backward(x, y, rows.weight, input_grads=True)
                gradients = list(self._core.input_grads())
        except ValueError as error:
            if found := faults.refused_target(str(error), rows, None, self._shape, self._losses):
                raise ValueError(found) from None
            raise
        self.output_losses = self._core.output_losses
        return loss, gradients

    def _copy_scales(self) -> None:
        """Gives the outputs the mean and std that they have in the network."""
        for i, named in enumerate(self._is_named):
            if named and (scale := self._net.scale(i)) != self._core.net.scale(i):
                self._core.net.set_scale(i, *scale) if scale else self._core.net.set_output(i, "identity")
