"""The torch.nn.Module of net.to_torch. Imported only where PyTorch is installed."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from ...data.hashing import hash_features
from ...network.layers import Activation
from ...network.network import Network
from ...network.positions.recurrent import GATES
from ...network.records import LayerInfo, NodeInfo
from ..shared.steps import steps

Tensor = Any  # torch.Tensor
ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "identity": lambda z: z,
    **{name: getattr(F, name) for name in ("relu", "selu", "gelu", "silu", "mish", "softsign")},
    **{name: getattr(torch, name) for name in ("sigmoid", "tanh", "abs", "square", "exp", "sin", "cos")},
    "leaky_relu": lambda z, slope=0.01: F.leaky_relu(z, slope),
    "elu": lambda z, alpha=1.0: F.elu(z, alpha),
    "softplus": lambda z: F.softplus(z, threshold=50),
    "hard_sigmoid": F.hardsigmoid,
    "scaled_tanh": lambda z: 1.7159 * torch.tanh(2 / 3 * z),
    "affine": lambda z, factor=1.0, addend=0.0: factor * z + addend,
}
OUTPUT_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda o: o,
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "softmax": lambda o: torch.softmax(o, -1),
}


class _Layer(torch.nn.Module):  # type: ignore[misc]  # PyTorch is optional
    """The tensors of a layer, by microbp's names."""

    weight: Tensor
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, info: LayerInfo, tensors: dict[str, Any]) -> None:
        super().__init__()
        self.info, self.bias = info, None
        for name, values in tensors.items():
            values = torch.from_numpy(np.ascontiguousarray(values))
            if name in ("weight", "bias"):
                setattr(self, name, torch.nn.Parameter(values, requires_grad=not info.frozen))
            else:
                self.register_buffer(name, values)

    def extra_repr(self) -> str:
        return f"{self.info.kind}, {self.info.inputs} -> {self.info.units}"


class Module(torch.nn.Module):  # type: ignore[misc]
    """A network of microbp as a torch.nn.Module. module(X) gives what net.predict(X) gives, module(X, raw=True) raw outputs, for losses
    such as CrossEntropyLoss. Several inputs are several arguments; several outputs are a tuple. X has the shapes that `predict` takes."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.plan: list[NodeInfo] = []
        self.inputs, self.outputs = net.inputs, net.outputs
        for node, layer, tensors in steps(net):
            self.plan.append(node)
            if layer and layer.name not in self._modules:
                self.add_module(layer.name, _Layer(layer, tensors))
        self.scales = [None if one.mean is None else np.array([one.mean, one.std], net.dtype) for one in net.outputs]

    def forward(self, *xs: Tensor, raw: bool = False) -> Any:
        """The predictions for rows of each input."""
        if len(xs) != len(self.inputs):
            raise TypeError(f"the module has {len(self.inputs)} inputs, but got {len(xs)}")
        values = {one.node: x.reshape(len(x), one.width) for one, x in zip(self.inputs, xs, strict=True)}
        for node in self.plan:
            layer = self._modules[node.layer] if node.layer else None
            operands = [values[operand] for operand in node.operands] or [values[node.node]]
            values[node.node] = KINDS[node.operation](self, node, layer, *operands)
        found = [values[output.node] for output in self.outputs]
        if not raw:
            found = [self._predicted(*pair) for pair in enumerate(found)]
        return found[0] if len(found) == 1 else tuple(found)

    def _predicted(self, i: int, o: Tensor) -> Tensor:
        scale = self.scales[i]
        if scale is not None:
            mean, std = torch.as_tensor(scale, device=o.device, dtype=o.dtype)
            return mean + std * o
        return OUTPUT_ACTIVATIONS[self.outputs[i].activation or "identity"](o)


# ---- nodes: the module, the node, its layer, its operands, of shape (rows, positions, columns) ----


def _activate(node: NodeInfo, z: Tensor) -> Tensor:
    spec = Activation.parse(node.activation or "identity")
    return ACTIVATIONS[spec.name](z, **spec.parameters)


def _dense(_: Any, node: NodeInfo, layer: Any, x: Tensor) -> Tensor:
    return _activate(node, F.linear(x, layer.weight, layer.bias))


def _embedding(module: Any, node: NodeInfo, layer: Any, x: Tensor) -> Tensor:
    if x.is_floating_point():
        return x @ layer.weight
    found = F.embedding(x, layer.weight)
    return found.sum(1) if layer.info.combine == "sum" else found.flatten(1)


def _ids(_: Any, node: NodeInfo, layer: Any, x: Tensor) -> Tensor:
    return torch.from_numpy(hash_features(x.cpu().numpy(), node.levels or 1)).to(x.device) if node.hash else x.long()


def _placed(node: NodeInfo, xs: Any) -> list[Tensor]:
    """The operands with the positions of the node, of which some may have only one."""
    return [x.reshape(len(x), *node.grid, x.shape[-1]) for x in xs]


def _random(module: Any, node: NodeInfo, layer: Any, x: Tensor) -> Tensor:
    if node.operation == "dropout":
        return F.dropout(x, node.amount, module.training)
    return x + node.amount * torch.randn_like(x) if module.training else x


def _batch_norm(module: Any, node: NodeInfo, layer: Any, x: Tensor) -> Tensor:
    info, tensors = layer.info, (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    is_training = module.training and not info.frozen
    return F.batch_norm(x.reshape(-1, x.shape[-1]), *tensors, is_training, info.momentum, info.eps).reshape(x.shape)


def _layer_norm(_: Any, node: NodeInfo, layer: Any, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], layer.weight, layer.bias, layer.info.eps)


def _scale(_: Any, node: NodeInfo, layer: Any, x: Tensor) -> Tensor:
    x = x * layer.weight if layer.info.gain else x
    return x if layer.bias is None else x + layer.bias


def _image(x: Tensor) -> Tensor:
    """Channels first, with a height."""
    return x.reshape(len(x), *(1,) * (4 - x.dim()), *x.shape[1:]).movedim(-1, 1)


def _window(_: Any, node: NodeInfo, layer: Any, x: Tensor) -> Tensor:
    window: Any = node.window
    found = F.unfold(_image(x), window.size, window.dilation, window.pad, window.stride)
    return found.reshape(len(x), x.shape[-1], math.prod(window.size), -1).permute(0, 3, 2, 1).reshape(len(x), *node.grid, node.width)


def _pool(_: Any, node: NodeInfo, layer: Any, x: Tensor) -> Tensor:
    window: Any = node.window
    pool = F.max_pool2d if window.kind == "max" else F.avg_pool2d
    return pool(_image(x), window.size, window.stride).movedim(1, -1).reshape(len(x), *node.grid, node.width)


def _recurrent(_: Any, node: NodeInfo, layer: Any, x: Tensor, state: Tensor | None = None) -> Tensor:
    info, rows = layer.info, len(x)
    weight, units, parts = layer.weight, info.units, GATES[info.cell]
    inputs = weight.shape[1] - units
    tensors = [weight[:, :inputs].contiguous(), weight[:, inputs:].contiguous()]
    if layer.bias is not None:
        count = parts * units
        none = layer.bias.new_zeros(count)
        tensors += [layer.bias[:count], torch.cat([none[: count - units], layer.bias[count:]]) if info.cell == "gru" else none]
    sequence = x.reshape(rows, -1, x.shape[-1])
    sequence = sequence.flip(1) if node.reverse else sequence
    first: Any = x.new_zeros(rows, units * (2 if info.cell == "lstm" else 1)) if state is None else state.reshape(rows, -1)
    first = [part.contiguous() for part in first[None].split(units, -1)]
    run: Any = {"tanh": torch.rnn_tanh, "gru": torch.gru, "lstm": torch.lstm}[info.cell]
    found = run(sequence, first if info.cell == "lstm" else first[0], tensors, layer.bias is not None, 1, 0.0, False, False, True)[0]
    return (found.flip(1) if node.reverse else found).reshape(rows, *node.grid, units)


KINDS: dict[str, Callable[..., Tensor]] = {
    "input": lambda _, node, layer, x: x,
    "ids": _ids,
    "dense": _dense,
    "embedding": _embedding,
    "activation": lambda _, node, layer, x: _activate(node, x),
    "add": lambda _, node, layer, *xs: reduce(operator.add, _placed(node, xs)),
    "subtract": lambda _, node, layer, *xs: reduce(operator.sub, _placed(node, xs)),
    "multiply": lambda _, node, layer, *xs: reduce(operator.mul, _placed(node, xs)),
    "concat": lambda _, node, layer, *xs: torch.cat(_placed(node, xs), -1),
    "slice": lambda _, node, layer, x: x[..., slice(*node.columns)],
    "dropout": _random,
    "noise": _random,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "scale": _scale,
    "standardize": lambda _, node, layer, x: (x - layer.mean) / layer.std,
    "grid": lambda _, node, layer, x: x.reshape(len(x), *node.grid, node.width),
    "window": _window,
    "pool": _pool,
    "repeat": lambda _, node, layer, x: x.reshape(len(x), 1, node.width).expand(-1, node.grid[0] if node.grid else 1, -1),
    "last": lambda _, node, layer, x: x.reshape(len(x), -1, node.width)[:, -1],
    "recurrent": _recurrent,
}
