"""The process of a contender: it waits for a net to prepare or work to time, and sends the result."""

from __future__ import annotations

import contextlib
import os
import tempfile
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from contenders import ENTRIES
from contenders.contender import Contender, Results
from contenders.work import NETS, Work

MOST_CALLS = 100_000  # maximum number of calls in one turn
PREPARE_SECONDS, WORK_SECONDS = 300, 120  # timeouts


class ContenderError(RuntimeError):
    """The reason why a contender cannot train or use a net."""


class Server:
    """The part that runs in the contender's process."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        self.contender: Contender | None = None

    def prepare(self, net: str) -> Results:
        """Builds the net, replacing the previous one, and returns results to check."""
        if self.contender is not None:
            self.contender.close()
        self.contender = None  # frees the memory first
        self.work = Work(NETS[net])
        self.contender = ENTRIES[self.name].load()(self.work, self.threads)
        return self.contender.results(self.work)

    def calibrate(self, kind: str, seconds: float) -> int:
        """How many units of a kind take about this many seconds."""
        count = 1
        while (taken := self.seconds(kind, count)) < seconds / 4 and count < MOST_CALLS:
            count *= 4
        return max(1, min(MOST_CALLS, round(seconds / taken * count)))

    def seconds(self, kind: str, count: int) -> float:
        """The time in seconds of `count` units."""
        assert self.contender is not None
        return self.contender.seconds(self.work, kind, count)


def serve(connection: Connection, name: str, threads: int, log: str) -> None:
    """Sends (True, result) or (False, error) for each call until the other end closes. The output of libraries goes to the log."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    server = Server(name, threads)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            method, arguments = connection.recv()
            try:
                connection.send((True, getattr(server, method)(*arguments)))
            except Exception as error:  # a peer can raise any exception
                connection.send((False, f"{type(error).__name__}: {str(error).strip() or 'no message'}"))


class Process:
    """Starts the process of a contender and calls it."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self.log = tempfile.NamedTemporaryFile("r", prefix="compare_")  # noqa: SIM115
        self.connection, theirs = get_context("spawn").Pipe()
        # Not a daemon: a peer may start processes to compile.
        self.process = get_context("spawn").Process(target=serve, args=(theirs, name, threads, self.log.name))
        self.process.start()
        theirs.close()

    def prepare(self, net: str) -> Results:
        results = self._call(PREPARE_SECONDS, "prepare", net)
        assert isinstance(results, Results)
        return results

    def calibrate(self, kind: str, seconds: float) -> int:
        return int(self._call(WORK_SECONDS, "calibrate", kind, seconds))

    def seconds(self, kind: str, count: int) -> float:
        return float(self._call(WORK_SECONDS, "seconds", kind, count))

    def _call(self, limit: float, method: str, *arguments: Any) -> Any:
        try:
            self.connection.send((method, arguments))
            if not self.connection.poll(limit):
                self.close()
                raise ContenderError(f"no result within {limit} seconds")
            succeeded, result = self.connection.recv()
        except (EOFError, OSError):
            lines = self.log.read().strip().splitlines() or ["no output"]
            raise ContenderError(f"its process ended: {lines[-1]}") from None
        if not succeeded:
            raise ContenderError(" ".join(result.split())[:200])
        return result

    def alive(self) -> bool:
        """Whether the process is still running."""
        return not self.connection.closed and self.process.is_alive()

    def close(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.log.close()
        self.process.join(1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
