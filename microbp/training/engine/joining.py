"""What makes an engine one of several processes: the arguments comm, shard and sync_every, and what all ranks must have in common."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from ...core.checks import flag, whole_number
from ...core.specs import Loss, SolverSpec
from ...network.network import Network
from ...ranks import ranks as reader
from ...ranks.ending import end_together
from ...ranks.ranks import Ranks
from ...settings import optimizers
from .engine import Engine


@dataclass(frozen=True)
class Joining:
    """The arguments of a call, not yet checked. ranks: None: there is one process."""

    call: str
    comm: Any
    shard: Any
    sync_every: Any
    ranks: Ranks | None

    def joined(self) -> AbstractContextManager[Any]:
        """The block in which the trainer is made."""
        return nullcontext() if self.ranks is None else self.ranks.joined()

    def agree(self, net: Network, losses: Sequence[Any], optimizer: Any, seed: int, **settings: Any) -> int:
        """The seed of rank 0. ValueError or TypeError: the arguments are invalid, or cannot be used for this trainer, or those of the ranks
        differ."""
        spec = optimizers.parse(optimizer)
        self.check(losses, isinstance(spec, SolverSpec))
        if self.ranks is None:
            return seed
        graph = {"network": net._core.text(), "dtype": net.dtype, "backend": net.backend}
        facts = graph | {"loss": [loss and loss.text for loss in losses], "optimizer": spec.text} | settings
        self.ranks.check_same(self.call, facts | {"shard": self.shard, "sync_every": self.sync_every})
        return int.from_bytes(self.ranks.gather_bytes(seed.to_bytes(8))[0])

    def check(self, losses: Sequence[Any], is_solver: bool) -> None:
        """TypeError or ValueError if the arguments are invalid, or cannot be used for this trainer."""
        shard, every = flag(f"{self.call}: shard", self.shard), whole_number(self.sync_every, f"{self.call}: sync_every")
        if self.comm is None:
            if shard or every != 1:
                name = f"shard={shard}" if shard else f"sync_every={every}"
                raise ValueError(f"{self.call}: {name} needs a communicator, such as comm=mpi4py.MPI.COMM_WORLD")
        elif is_solver:
            raise ValueError(
                f"{self.call}: comm does not work with an optimizer that uses all rows at once; use another, such as bp.Adam()"
            )
        elif any(loss is not None and not isinstance(loss, Loss) for loss in losses):
            raise ValueError(
                f"{self.call}: comm works with named losses only; for a loss of your own, pass loss=None, and call t.forward, "
                "t.backward_from and t.apply"
            )

    def join(self, engine: Engine) -> None:
        """From now on, the engine's steps are those of all ranks, with the parameters of rank 0."""
        engine.comm, engine.shard, engine.sync_every = self.comm, bool(self.shard), int(self.sync_every)
        if self.ranks is None:
            return
        with engine.hold():
            params, buffers = engine.net.params.copy(), engine.net.buffers.copy()
            for values in (params, buffers):
                self.ranks.broadcast(values)
            engine.net._core.assign(params, buffers)
            engine.join(self.ranks)
        end_together(self.ranks)


def read(call: str, comm: Any, shard: Any, sync_every: Any) -> Joining:
    """The arguments; TypeError if comm is no communicator. call: for errors."""
    ranks = reader.read(comm)
    comm = None if ranks is None else ranks.comm
    return Joining(call, comm, shard, sync_every, None if ranks is None or ranks.size == 1 else ranks)
