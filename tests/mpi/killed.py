"""A fit of many epochs, which tests/mpi/kills ends: python -m mpi4py killed.py FOLDER EPOCHS RANK PLACE

FOLDER: for the checkpoint, from which the fit goes on if it is there, the number of each rank's process, and a line with a digest of
the trainer after each epoch. RANK raises an error at PLACE: import, reading, fit or callback; none: no rank does.
"""

from __future__ import annotations

import faulthandler
import hashlib
import os
import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI

FOLDER, EPOCHS, RANK, PLACE = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
COMM = MPI.COMM_WORLD
faulthandler.dump_traceback_later(25)  # what each rank waits for, if the run does not end


def fail(place: str) -> None:
    if place == PLACE and COMM.rank == RANK:
        raise OSError(f"no data for {place}")


(FOLDER / f"{COMM.rank}.new").write_text(str(os.getpid()), encoding="utf-8")
(FOLDER / f"{COMM.rank}.new").rename(FOLDER / f"{COMM.rank}.pid")
fail("import")

import microbp as bp  # noqa: E402


def rows() -> tuple[np.ndarray, np.ndarray]:
    fail("reading")
    random = np.random.default_rng(0)
    X = random.normal(size=(203, 8))  # noqa: N806
    return X, X[:, :2] * X[:, 2:4]


def trainer() -> bp.Trainer:
    path = FOLDER / "run.safetensors"
    if path.exists():
        return bp.Trainer.load(path, comm=COMM, shard=True)
    x = bp.Input(8)
    net = bp.Network(x, bp.Dense(2)(bp.Dropout(0.1)(bp.BatchNorm()(bp.Dense(64, "relu")(x)))), seed=0)
    return bp.Trainer(net, "mse", bp.Adam(lr=0.003), comm=COMM, shard=True)


def each(record: bp.Record) -> None:
    if record.epoch == 20:
        fail("callback")
    if COMM.rank == 0:
        digest = hashlib.sha256(t.net.params.tobytes() + b"".join(v.tobytes() for v in t.net.tensors.values())).hexdigest()
        with (FOLDER / "digests").open("a", encoding="utf-8") as file:
            file.write(f"{int(record.epoch)} {digest} {record.loss!r}\n")


data = rows()
t = trainer()
if PLACE == "fit" and COMM.rank == RANK:
    data = data[0], data[1][:100]
t.fit(*data, epochs=EPOCHS - t.epoch, batch_size=32, validation=0.2, callback=each, checkpoint=FOLDER / "run.safetensors", progress=False)
