"""The process of one contender: it waits for a net to prepare or for work to time, and answers."""

from __future__ import annotations

import contextlib
import os
import tempfile
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from contenders import ENTRIES
from contenders.contender import Answers, Contender
from contenders.work import NETS, Work

MOST_CALLS = 100_000  # of a round
PREPARE_SECONDS, WORK_SECONDS = 300, 120  # after which a contender is given up


class ContenderError(RuntimeError):
    """A contender cannot do a net, and why."""


class Server:
    """What runs in the process."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        self.contender: Contender | None = None

    def prepare(self, net: str) -> Answers:
        """Builds the net, instead of the one before, and shows that it does the work."""
        if self.contender is not None:
            self.contender.close()
        self.contender = None  # lets go of the memory first
        self.work = Work(NETS[net])
        self.contender = ENTRIES[self.name].load()(self.work, self.threads)
        return self.contender.answers(self.work)

    def calibrate(self, kind: str, seconds: float) -> int:
        """How many units of a kind take about so long."""
        count = 1
        while (taken := self.seconds(kind, count)) < seconds / 4 and count < MOST_CALLS:
            count *= 4
        return max(1, min(MOST_CALLS, round(seconds / taken * count)))

    def seconds(self, kind: str, count: int) -> float:
        """The time of so many units."""
        assert self.contender is not None
        return self.contender.seconds(self.work, kind, count)


def serve(connection: Connection, name: str, threads: int, log: str) -> None:
    """Answers (True, result) or (False, the error) until the other end closes. What libraries print goes to the log."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    server = Server(name, threads)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            method, arguments = connection.recv()
            try:
                connection.send((True, getattr(server, method)(*arguments)))
            except Exception as error:  # any peer may fail in any way
                connection.send((False, f"{type(error).__name__}: {str(error).strip() or 'no message'}"))


class Process:
    """The other end: a contender by name, and its calls."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self.log = tempfile.NamedTemporaryFile("r", prefix="compare_")  # noqa: SIM115
        self.connection, theirs = get_context("spawn").Pipe()
        # No daemon: a peer may start processes to compile.
        self.process = get_context("spawn").Process(target=serve, args=(theirs, name, threads, self.log.name))
        self.process.start()
        theirs.close()

    def prepare(self, net: str) -> Answers:
        answers = self._call(PREPARE_SECONDS, "prepare", net)
        assert isinstance(answers, Answers)
        return answers

    def calibrate(self, kind: str, seconds: float) -> int:
        return int(self._call(WORK_SECONDS, "calibrate", kind, seconds))

    def seconds(self, kind: str, count: int) -> float:
        return float(self._call(WORK_SECONDS, "seconds", kind, count))

    def _call(self, limit: float, method: str, *arguments: Any) -> Any:
        try:
            self.connection.send((method, arguments))
            if not self.connection.poll(limit):
                self.close()
                raise ContenderError(f"gave no answer within {limit} seconds")
            succeeded, result = self.connection.recv()
        except (EOFError, OSError):
            lines = self.log.read().strip().splitlines() or ["without a word"]
            raise ContenderError(f"its process ended: {lines[-1]}") from None
        if not succeeded:
            raise ContenderError(" ".join(result.split())[:200])
        return result

    def alive(self) -> bool:
        """Whether it still answers."""
        return not self.connection.closed and self.process.is_alive()

    def close(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.log.close()
        self.process.join(1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
