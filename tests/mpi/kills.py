"""Ends a random rank of a run at a random time; all must be gone soon, say why, and go on from the checkpoint: python tests/mpi/kills.py

    python tests/mpi/kills.py [TIMES]         default 50; SEED=n in the environment: another course of events

A rank is killed (SIGKILL) or interrupted (SIGINT) from outside, or raises an error: when it is imported, when it reads data, in fit, in a
callback. Then as many ranks go on from the checkpoint, with the bits of an undisturbed run, or one more or less, whose loss is the same
up to rounding.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
EPOCHS, MORE = 100_000, 3  # of a run that is ended, and those that follow its checkpoint
GONE = 10.0  # seconds from the end of one rank to that of all
ACTIONS = ("SIGKILL", "SIGINT", "import", "reading", "fit", "callback")


def mpiexec() -> str | None:
    """That of this Python's environment, or that in PATH."""
    return shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")


def command(ranks: int, folder: Path, epochs: int, rank: int = -1, place: str = "none") -> list[str]:
    # of mpi4py: an error outside of microbp ends all ranks
    words = [mpiexec(), "-n", ranks, sys.executable, "-m", "mpi4py", HERE / "killed.py", folder, epochs, rank, place]
    return [str(word) for word in words]


def digests(folder: Path) -> dict[int, tuple[str, float]]:
    """After each epoch: the digest of the parameters and the loss."""
    lines = (folder / "digests").read_text(encoding="utf-8").split("\n") if (folder / "digests").exists() else []
    return {int(epoch): (digest, float(loss)) for epoch, digest, loss in (line.split() for line in lines if line)}


def is_there(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    return False


def wait_for(ready, seconds: float, what: str) -> float:
    """How long it took."""
    begin = time.monotonic()
    while not ready():
        assert time.monotonic() < begin + seconds, f"after {seconds} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - begin


def end(choice: random.Random, ranks: int, folder: Path, action: str) -> tuple[str, float]:
    """Starts a run and ends one rank; what happened, and how many seconds later all ranks were gone."""
    rank = choice.randrange(ranks)
    log, pids = folder / "log", [folder / f"{r}.pid" for r in range(ranks)]
    with log.open("wb") as file:
        place = "none" if action.startswith("SIG") else action
        run = subprocess.Popen(command(ranks, folder, EPOCHS, rank, place), stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: all(path.exists() for path in pids), 30, "not started")
        numbers = [int(path.read_text(encoding="utf-8")) for path in pids]
        if place == "none":
            time.sleep(choice.uniform(0, 2.5))
            os.kill(numbers[rank], getattr(signal, action))
            seconds = wait_for(lambda: run.poll() is not None and not any(map(is_there, numbers)), GONE, f"{action} did not end all ranks")
        else:
            wait_for(lambda: not is_there(numbers[rank]), 30, f"an error at {action} did not end the rank")
            seconds = wait_for(
                lambda: run.poll() is not None and not any(map(is_there, numbers)), GONE, f"an error at {action} did not end all"
            )
    except AssertionError as error:
        error.add_note(
            f"rank {rank} of {ranks}, after {max(digests(folder), default=0)} epochs:\n{log.read_text(encoding='utf-8', errors='replace')}"
        )
        raise
    finally:
        run.kill()
        for path in pids:
            if path.exists() and is_there(int(path.read_text(encoding="utf-8"))):
                os.kill(int(path.read_text(encoding="utf-8")), signal.SIGKILL)
    text = log.read_text(encoding="utf-8", errors="replace")
    assert run.returncode != 0, text
    expected = {
        "SIGKILL": ["PID ", "signal 9"],  # MPICH names the process, but not always the one that was killed
        "SIGINT": [f"rank {rank}", "KeyboardInterrupt"],
        "fit": [f"rank {rank}", "100"],
    }
    for reason in expected.get(action, [f"rank {rank}", f"no data for {action}"]):
        assert reason in text, f"{action} of rank {rank} of {ranks}: the output does not contain {reason!r}:\n{text}"
    return f"{action} of rank {rank} of {ranks} after {max(digests(folder), default=0)} epochs", seconds


def go_on(folder: Path, ranks: int, straight: dict[int, tuple[str, float]], is_exact: bool) -> str:
    """Trains MORE epochs from the checkpoint."""
    before = max(digests(folder), default=0)
    (folder / "digests").unlink(missing_ok=True)
    done = subprocess.run(command(ranks, folder, before + MORE), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = digests(folder)
    assert max(found) == before + MORE
    for epoch, (digest, loss) in found.items():
        if epoch in straight:
            assert math.isclose(loss, straight[epoch][1], rel_tol=1e-3), (epoch, loss, straight[epoch])
            assert not is_exact or digest == straight[epoch][0], f"epoch {epoch} differs"
    return f"{min(found)} to {max(found)} on {ranks} ranks"


def main(times: int, most: int = 3, known: int = 40) -> None:
    """known: the epochs of an undisturbed run to compare with."""
    choice = random.Random(int(os.environ.get("SEED", "0")))
    straight: dict[int, dict[int, tuple[str, float]]] = {}
    slowest = 0.0
    with tempfile.TemporaryDirectory(prefix="microbp_kills_") as name:
        for number in range(times):
            action = ACTIONS[number % len(ACTIONS)]
            folder, ranks = Path(name) / str(number), choice.randint(2, most)
            folder.mkdir()
            what, seconds = end(choice, ranks, folder, action)
            slowest = max(slowest, seconds)
            if action != "import" and digests(folder):
                if ranks not in straight:
                    alone = Path(name) / f"straight{ranks}"
                    alone.mkdir()
                    subprocess.run(command(ranks, alone, known), check=True, timeout=300)
                    straight[ranks] = digests(alone)
                other = choice.choice([ranks, ranks, max(1, ranks - 1)])
                what += f"; epochs {go_on(folder, other, straight[ranks], other == ranks)}"
            print(f"{number + 1}: {what}; all gone after {seconds:.2f} s", flush=True)
    print(f"{times} runs ended as they should; the slowest took {slowest:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
