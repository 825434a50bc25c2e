"""The nodes of a network as a writer of another format meets them."""

from __future__ import annotations

from typing import NamedTuple

from ...data.arrays import Array
from ...network.network import Network
from ...network.records import LayerInfo, NodeInfo
from ...network.reuse import between


class Step(NamedTuple):
    """A node and its layer. tensors: copies, by their names without the layer's: "weight" (out, in), "bias", "running_mean", ..."""

    node: NodeInfo
    layer: LayerInfo | None
    tensors: dict[str, Array]

    @property
    def place(self) -> str:
        """Names the node in an error."""
        layer = f"layer {self.layer.name} ({{}})" if self.layer else "{}"
        return layer.format(f"node {self.node.node}, {self.node.operation}")


def steps(net: Network) -> list[Step]:
    """The inputs, and the nodes that an output depends on, in order. All tensors are of one moment, though another thread may train."""
    used = set(between(net._records, [], [output.node for output in net.outputs])) | {entry.node for entry in net.inputs}
    with net._core.hold():
        layers = {layer.name: layer for layer in net.layers}
        tensors: dict[str, dict[str, Array]] = {}
        for name, view in net.tensors.items():
            layer, _, tensor = name.rpartition(".")
            tensors.setdefault(layer, {})[tensor] = view.copy()
    return [Step(node, layers.get(node.layer or ""), tensors.get(node.layer or "", {})) for node in net.nodes if node.node in used]


def refuse(what: str, step: Step, why: str) -> ValueError:
    """The error for a node that a format does not have: refuse("ONNX", step, "ids are hashed")."""
    return ValueError(f"{what}: {step.place} cannot be written: {why}")
