"""The state of a solver: what its next iteration depends on besides the parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.specs import OptimizerSpec, SolverSpec
from ...network.network import Network


def state_of(core: Any, net: Network, is_solver: bool) -> dict[str, Any]:
    """The entry of a state with that of the solver, as doubles whose bytes are shown in the net's dtype. {}: no solver."""
    return {"solver": np.frombuffer(bytearray(core.solver_state), net.dtype)} if is_solver else {}


def recorded(core: Any, optimizer: OptimizerSpec) -> dict[str, float]:
    """What a record tells of the optimizer: the numbers of the solver, or the learning rate."""
    return {name: core.get(name) for name in (optimizer.detail.split() if isinstance(optimizer, SolverSpec) else ["lr"])}


def restore(core: Any, state: dict[str, Any]) -> None:
    """Restores the state of the solver, or, without a solver, the learning rate."""
    if "solver" in state:
        core.set_solver_state(state["solver"].tobytes())
    else:
        core.set("lr", state["lr"])
