"""What an uncaught exception, and an early end, of one process do to the others."""

from __future__ import annotations

import subprocess
import sys

import pytest
from ranks_threads import run_ranks

from microbp.ranks import ending
from microbp.ranks.ranks import Ranks

SCRIPT = """
import sys, time
from microbp.ranks import ending
from microbp.ranks.failing import mark_as_told

class Ranks:
    rank, size = 2, 4
    class comm:
        def Abort(code):
            print("Abort", code, flush=True)
    def end(self):
        print("end")

for _ in range(2):
    ending.end_together(Ranks())
ending._GRACE = 0
"""


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("", "end\n"),
        ("raise ValueError('bad')", "Abort 1\n"),
        ("error = ValueError('bad'); mark_as_told(error, 1); raise error", "Abort 1\n"),
    ],
)
def test_an_uncaught_exception_aborts_all_and_an_end_is_told(code, printed):
    done = subprocess.run([sys.executable, "-P", "-c", SCRIPT + code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == printed
    assert done.stderr.startswith("rank 2 of 4 failed:\nTraceback") and "bad" in done.stderr if code else not done.stderr


def test_a_communicator_without_abort_changes_nothing():
    before = sys.excepthook

    def body(comm):
        ending.end_together(Ranks(comm))

    run_ranks(2, body)
    assert sys.excepthook is before


def test_a_rank_that_ends_early_is_named():
    def body(comm):
        r = Ranks(comm)
        if r.rank == 1:
            return r.end()
        with pytest.raises(RuntimeError, match="rank 1 failed: SystemExit: its program has ended before theirs"), r.joined():
            r.exchange()

    run_ranks(3, body)


def test_ranks_that_end_together_are_told_nothing():
    assert run_ranks(3, lambda comm: Ranks(comm).end()) == [None] * 3
