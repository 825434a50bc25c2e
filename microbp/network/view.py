"""The attributes of a network: its values, its graph, and how it prints. Its methods are in network.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.attributes import Closed
from ..core.backend import CoreNet
from ..data.arrays import Array, Views, assign
from . import notes as json_notes
from . import records, summary


class NetworkView(Closed):
    """The attributes of a Network. Each is stored in the backend's net, or is a view of its memory."""

    __slots__ = ("_arrays", "_backend", "_buffers", "_core", "_dtype", "_params", "_records", "_tensors")

    _core: CoreNet
    _arrays: dict[str, Array]  # initial weights and biases given as arrays, by the tensor's name
    _backend: str
    _dtype: np.dtype[Any]
    _params: Array
    _buffers: Array
    _tensors: Views
    _records: records.Records

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters and of all arithmetic."""
        return self._dtype

    @property
    def seed(self) -> int:
        """The seed of the initial parameters."""
        return self._core.seed

    @property
    def backend(self) -> str:
        """ "compiled" or "reference"."""
        return self._backend

    @property
    def params(self) -> Array:
        """All parameters as one flat writable view: the weights of dense layers in order, each (in, out) row-major, then all biases
        and scales. The property always returns the same array, which keeps the memory alive. Assigning to `params` writes into it. Those of
        a part (help(bp.Network.part)) are all parameters of the whole network.

        >>> net = bp.mlp([2, 3, 1], seed=0)
        >>> len(net.params)
        13
        >>> net.params[:] = 0
        >>> net.predict([1.0, 2.0])
        array([0.], dtype=float32)
        """
        self._core.settle()
        return self._params

    @params.setter
    def params(self, values: Any) -> None:  # also called by `net.params *= 0.9`; writes into the same memory
        assign(self.params, values, "params")

    @property
    def buffers(self) -> Array:
        """Values that are saved but not trained, as one flat writable view: the running statistics of batch_norm layers, and
        the means and standard deviations of bp.Standardize layers."""
        return self._buffers

    @buffers.setter
    def buffers(self, values: Any) -> None:
        assign(self._buffers, values, "buffers")

    @property
    def tensors(self) -> Mapping[str, Array]:
        """Views of parameters and buffers by name, in layer order: "dense_0.weight" of shape (out, in), "dense_0.bias" of shape (out,);
        "batch_norm_0.weight", ".bias", ".running_mean", ".running_var" of shape (width,).

        >>> net = bp.mlp([2, 3, 1], seed=0)
        >>> {name: view.shape for name, view in net.tensors.items()}
        {'dense_0.weight': (3, 2), 'dense_0.bias': (3,), 'dense_1.weight': (1, 3), 'dense_1.bias': (1,)}
        """
        self._core.settle()
        return self._tensors

    @property
    def nodes(self) -> list[records.NodeInfo]:
        """All nodes, in the order of `print(net)`, as records with the fields node, operation, operands, width, layer, activation, amount.

        >>> net = bp.mlp([2, 3, 1], seed=0)
        >>> [(node.operation, node.width) for node in net.nodes]
        [('input', 2), ('dense', 3), ('dense', 1)]
        """
        return self._records.nodes.copy()

    @property
    def layers(self) -> list[records.LayerInfo]:
        """The layers with parameters, in order of first use: name, sizes, settings, and the nodes where each is used.

        >>> net = bp.mlp([2, 3, 1], seed=0)
        >>> [(layer.name, layer.activation, layer.parameters) for layer in net.layers]
        [('dense_0', 'relu', 9), ('dense_1', 'identity', 4)]
        """
        return self._records.layers.copy()

    @property
    def inputs(self) -> list[records.InputInfo]:
        """The inputs, with node and width."""
        return self._records.inputs.copy()

    @property
    def outputs(self) -> list[records.OutputInfo]:
        """The outputs, with node, width and activation (None: not set yet)."""
        return self._records.outputs

    def text(self) -> str:
        """The graph as text, with all defaults; microbp.h documents it.

        >>> x = bp.Input(3)
        >>> print(bp.Network(x, x + x).text(), end="")
        input 3
        add 0 0
        output 1
        """
        return self._core.text()

    def __repr__(self) -> str:
        return f"{self._title()}\n{summary.text(self._records)}"

    def _repr_html_(self) -> str:
        """The network as an HTML table, for notebooks."""
        return summary.html(self._records, self._title())

    def _title(self) -> str:
        count, all_of_them = self._records.parameters, len(self._params)
        parameters = "1 parameter" if count == 1 else f"{count:,} parameters"
        of = "" if count == all_of_them else f" of {all_of_them:,} (part of a network)"
        return f"microbp.Network: {parameters}{of}, {self._dtype}, seed {self.seed}, {self._backend} backend"

    @property
    def notes(self) -> json_notes.Notes:
        """A JSON object for your own use, such as the names of classes. Copies and files keep it.

        Set it to a dict of at most 16 MiB as JSON text. It cannot be changed in place.

        >>> net = bp.mlp([2, 1])
        >>> net.notes = {"classes": ["cat", "dog"]}
        >>> net.notes |= {"version": 2}
        >>> net.notes
        {'classes': ['cat', 'dog'], 'version': 2}
        """
        return json_notes.read(self._core.notes)

    @notes.setter
    def notes(self, notes: Mapping[str, Any]) -> None:
        self._core.notes = json_notes.write(notes)
