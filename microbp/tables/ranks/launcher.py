"""Whether mpiexec, or srun, has started this process as one of several. Needs neither NumPy nor mpi4py if it has not."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ...ranks.ranks import Ranks

_VARIABLES = (  # the number of processes, and the number of this one
    ("PMI_SIZE", "PMI_RANK"),  # MPICH, Intel MPI, and srun --mpi=pmi2
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI
    ("SLURM_NTASKS", "PMIX_RANK"),  # srun --mpi=pmix
)


class Launched(NamedTuple):
    """The number of this process, from 0, and how many there are."""

    rank: int
    ranks: int


def launched() -> Launched:
    """How this process was started; (0, 1) if it was started alone."""
    for size, rank in _VARIABLES:
        found = os.environ.get(size, ""), os.environ.get(rank, "")
        if all(text.isascii() and text.isdecimal() for text in found):
            return Launched(int(found[1]), int(found[0]))
    return Launched(0, 1)


def started() -> Ranks | None:
    """The processes that were started together; None: this one is alone. ImportError: mpi4py is missing, or is for another MPI."""
    count = launched().ranks
    if count == 1:
        return None
    try:
        comm = importlib.import_module("mpi4py.MPI").COMM_WORLD
    except ImportError as error:
        what = f"mpiexec has started {count} processes, which need mpi4py, and it cannot be imported ({error})"
        raise ImportError(f'{what}: python -m pip install "microbp[mpi]"') from None
    if comm.Get_size() != count:
        what = f"mpiexec has started {count} processes, but mpi4py sees {comm.Get_size()}: it was built for another MPI"
        raise ImportError(f"{what}; start them with the mpiexec of the MPI that mpi4py uses")
    from ...ranks.ending import end_together
    from ...ranks.ranks import Ranks

    ranks = Ranks(comm)
    end_together(ranks)
    return ranks
