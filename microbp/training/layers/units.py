"""Dead and saturated units: where the derivative of a layer's activation function is 0, or small, for some rows."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...data.arrays import Array
from ...data.ids import as_inputs
from ...data.sparse import SparseRows
from ...network.layers import Activation
from ...network.network import Network
from ...network.nodes import Input
from .measure import values_at

SATURATED = 0.05  # of the largest derivative: where tanh is above 0.975 or below -0.975
_DEAD = 1e-6  # of the largest derivative: updates of the unit round to nothing
_FAR = 30.0  # where saturating functions are flat


class LayerUnits(NamedTuple):
    """The units of a layer. dead: the fraction of units whose activation function has the derivative 0 for all rows and positions (relu:
    units that are 0), so that they get no gradient. saturated: the fraction of values where the derivative is below SATURATED times its
    maximum, of functions that are flat on both sides, such as tanh and sigmoid. finite: whether all values are finite.

    dead and saturated are NaN for layers without an activation function after them, among these recurrent layers, whose functions are in
    their gates; saturated also for functions that are not flat on both sides, such as relu.
    """

    dead: float
    saturated: float
    finite: bool


@dataclass(frozen=True)
class _Site:
    """An activation function that is applied to a layer. node: the values that it gets, or the operand of the dense layer that has it."""

    layer: str
    activation: str
    node: int
    is_dense: bool


def units_of(net: Network, X: Any, lengths: Any = None) -> dict[str, LayerUnits]:  # noqa: N803
    """Counts for each layer, in the order of `net.layers`, its dead and saturated units for these rows. X, lengths: as in `net.predict`."""
    sites = _sites(net)
    sparse = {entry.node: x for entry, x in zip(net.inputs, as_inputs(X, net._ids), strict=True) if isinstance(x, SparseRows)}
    nodes = {node for layer in net.layers for node in layer.nodes} | {site.node for site in sites if site.node not in sparse}
    values: dict[int, Any] = {**values_at(net, sorted(nodes), X, lengths), **sparse}
    found = {}
    for layer in net.layers:
        own = [site for site in sites if site.layer == layer.name]
        slopes = [_slopes(site.activation, _before(net, site, values[site.node])) for site in own]
        flat = [small for site, small in zip(own, slopes, strict=True) if _curve(site.activation).is_flat]
        finite = all(bool(np.isfinite(values[node]).all()) for node in layer.nodes)
        found[layer.name] = LayerUnits(_dead(slopes), _saturated(flat), finite)
    return found


def _sites(net: Network) -> list[_Site]:
    nodes, found = net.nodes, []
    for node in nodes:
        if node.activation in (None, "identity"):
            continue
        is_dense = node.operation == "dense"
        source = node if is_dense else nodes[node.operands[0]]
        while source.operation in ("dropout", "noise"):  # predictions pass through them
            source = nodes[source.operands[0]]
        if source.layer is not None and (is_dense or node.operation == "activation"):
            found.append(_Site(source.layer, str(node.activation), node.operands[0], is_dense))
    return found


def _before(net: Network, site: _Site, values: Array | SparseRows) -> Array:
    """What the activation function gets, (rows, units): a dense layer stores only the result."""
    rows = values if isinstance(values, SparseRows) else values.reshape(-1, values.shape[-1])
    if not (site.is_dense or isinstance(rows, SparseRows)):
        return rows
    z = _product(rows, net.tensors[f"{site.layer}.weight"].T)
    bias = net.tensors.get(f"{site.layer}.bias")
    return z if bias is None else z + bias


def _product(rows: Array | SparseRows, weight: Array) -> Array:
    if not isinstance(rows, SparseRows):
        found: Array = rows @ weight
        return found
    found = np.zeros((len(rows), weight.shape[1]))
    np.add.at(found, rows.row_of_each(), rows.data[:, None] * weight[rows.indices])
    return found


def _dead(slopes: list[Array]) -> float:
    if not slopes or not sum(map(len, slopes)):
        return math.nan
    return float(np.mean(np.concatenate(slopes).max(axis=0) <= _DEAD))


def _saturated(slopes: list[Array]) -> float:
    if not slopes or not sum(map(len, slopes)):
        return math.nan
    return float(np.mean(np.concatenate(slopes) < SATURATED))


# ---- derivatives, as the network computes them ----


@dataclass(frozen=True)
class _Curve:
    net: Network  # the function alone
    steepest: float
    is_flat: bool  # on both sides


@functools.lru_cache(maxsize=64)
def _curve(activation: str) -> _Curve:
    x = Input(1)
    net = Network(x, Activation.parse(activation)(x), dtype="float64", seed=0)
    steepest = float(_derivative(net, np.linspace(-8, 8, 1601)).max())
    return _Curve(net, steepest, bool((_derivative(net, np.array([-_FAR, _FAR])) < SATURATED * steepest).all()))


def _derivative(net: Network, z: Array) -> Array:
    return np.abs(net.jacobian(z.reshape(-1, 1), by="inputs")).reshape(z.shape)


def _slopes(activation: str, z: Array) -> Array:
    """The absolute derivatives at z, divided by the largest that the function has near 0."""
    curve = _curve(activation)
    return _derivative(curve.net, z.astype(np.float64)) / curve.steepest
