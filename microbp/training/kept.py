"""How a trainer is kept: copies, pickles and files."""

from __future__ import annotations

import copy
import hashlib
import os
from typing import Any, Self

import numpy as np

from . import part_state, trainer_file
from .engine import joining as several
from .engine import losses as loss_reader
from .engine.engine import Engine
from .loop.run import Run
from .passes import Passes


class Kept(Passes):
    """The methods of a Trainer for its whole state."""

    __slots__ = ("_plain", "_step")

    def _attach(self, engine: Engine) -> None:
        self._engine = engine
        self._run = Run(engine)
        self._step = engine.array_step
        # The type of arrays that `_step` accepts unchanged, besides an X of SparseRows
        self._plain = np.ndarray if engine.has_losses and not engine.has_custom_losses and engine.ranks is None else None

    def reset(self) -> None:
        """Resets gradients, optimizer state, average, counters and history. The network's parameters stay.

        >>> t = bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse")
        >>> _ = t.step(np.ones((4, 3)), np.ones(4))
        >>> t.reset()
        >>> t.steps, bool(t.state["m"].any())
        (0, False)
        """
        with self._engine.hold():
            self._engine.reset()
            self._run.reset()

    def __getstate__(self) -> dict[str, Any]:
        """The whole state, for pickles and copies, which are of one process. Files contain it without "attributes"."""
        engine = self._engine
        with engine.hold():
            settings = {"losses": list(engine.losses), "loss_weights": list(engine.loss_weights), "optimizer": engine.optimizer}
            settings |= {"seed": engine.seed, "averaging": engine.averaging, "limits": engine.limits}
            settings |= {"standardize_targets": engine.standardize_targets, "penalty_per_row": engine.penalty_per_row}
            attributes = dict(getattr(self, "__dict__", {}))  # of a subclass
            state = {"net": engine.net, **settings, "engine": engine.state(), **self._run.state(), "attributes": attributes}
            # The parameters are of the same step as the rest; the net is pickled later, when another thread may have trained it.
            values = {"params": engine.net.params.copy(), "buffers": engine.net.buffers.copy()}
            return part_state.own(engine.net, state | {"values": values})

    def __copy__(self) -> Self:
        """A trainer of the same network, with a state of its own."""
        with self._engine.hold():
            twin = type(self).__new__(type(self))
            twin.__setstate__(self.__getstate__())
            return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """An independent trainer of a copy of the network."""
        with self._engine.hold():
            twin = type(self).__new__(type(self))
            memo[id(self)] = twin
            twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
            return twin

    def __setstate__(self, state: dict[str, Any]) -> None:
        losses, weights = tuple(state["losses"]), tuple(state["loss_weights"])
        with loss_reader.accepted(state["net"], losses):  # the output activations may have changed since the trainer was created
            settings = state["optimizer"], weights, state["seed"], state["averaging"], state["limits"]
            later = state.get("standardize_targets", False), state.get("penalty_per_row", False)  # than version 0.1
            self._attach(Engine(state["net"], losses, *settings, *later))
        state = part_state.whole(state["net"], state)
        self._engine.set_state(state["engine"])
        state["net"]._core.assign(**state["values"])
        self._run.set_state(state)
        for name, value in state["attributes"].items():
            setattr(self, name, value)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the trainer and its network to a safetensors file, completely or not at all.

        Training continues from `Trainer.load(path)`, or from mbp_trainer_load in C, bit for bit as if never interrupted. `bp.load(path)`
        loads the network alone. Of a loss of your own, the file contains the name only; pass the function to `load`. TypeError: a schedule
        class of your own, which cannot be saved. OSError: the file cannot be written.

        >>> bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse").save("run.safetensors")
        >>> len(bp.load("run.safetensors").params)
        4
        """
        with self._engine.hold():
            trainer_file.save(path, self.net, self.__getstate__())

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        backend: str | None = None,
        n_threads: int | None = None,
        loss: Any = None,
        comm: Any = None,
        shard: bool = False,
        sync_every: int = 1,
    ) -> Self:
        """Loads a trainer that `save` wrote; its network is `net`. backend, n_threads: as in bp.load. comm, shard, sync_every: as in the
        constructor, for they are not in the file; every rank reads it. ValueError: the ranks have read different contents.

        loss: the same as in the constructor, if the trainer had a loss of your own, which files do not contain: a function, or a list for
        several outputs. For a trainer without a loss it may be given too.

        ValueError: the file contains no trainer, or is damaged; or loss= is missing, or given for a trainer with named losses.

        >>> bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse", optimizer=bp.SGD(lr=0.5)).save("run.safetensors")
        >>> bp.Trainer.load("run.safetensors").lr
        0.5
        """
        joining = several.read("Trainer.load", comm, shard, sync_every)
        with joining.joined():
            trainer = trainer_file.load(cls, path, backend, n_threads, loss)
            joining.check(trainer._engine.losses, trainer._engine.is_solver)
            if joining.ranks is not None:
                contents = hashlib.sha256(trainer_file.to_bytes(trainer.net, trainer.__getstate__())).hexdigest()
                settings = {"shard": shard, "sync_every": sync_every}
                joining.ranks.check_same("Trainer.load", {f"hash of the contents of {os.fspath(path)}": contents} | settings)
            joining.join(trainer._engine)
            trainer._plain = trainer._plain if joining.ranks is None else None
        return trainer
