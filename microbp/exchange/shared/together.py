"""The networks of an ensemble as one network."""

from __future__ import annotations

from typing import Any, cast

from ...core.backend import BackendName
from ...many.ensemble import Ensemble
from ...network.network import Network
from ...network.nodes import Ids, Input


def together(model: Network | Ensemble) -> tuple[Network, list[float] | None]:
    """One network with the outputs of all members that count, one member after the other, and the weight of each of these. Its layers have
    the names of the members' with "m0_", "m1_", ... before them. A network alone stays as it is, without weights.

    >>> net, weights = together(bp.Ensemble([bp.mlp([2, 1], seed=i) for i in range(3)]))
    >>> len(net.outputs), weights
    (3, [1.0, 1.0, 1.0])
    """
    if isinstance(model, Network):
        return model, None
    members = model._voters
    nodes = [Ids(one.width, one.levels, hash=bool(one.hash)) if one.levels else Input(one.width) for one in members[0].inputs]
    ends: list[Any] = []
    for i, net in enumerate(members):
        found = net(nodes, prefix=f"m{i}_")
        ends += found if isinstance(found, list) else [found]
    joined = Network(nodes, ends, model.dtype, members[0].seed, cast("BackendName", members[0].backend), members[0].n_threads)
    for i, output in enumerate(output for net in members for output in net.outputs):
        joined.set_output(i, output.activation, output.mean, output.std)
    joined.notes = model.notes
    return joined, model._votes or [1.0] * len(members)
