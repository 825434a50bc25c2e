"""Compares microbp with every installed peer, on the same work in the same run.

    python bench/compare.py [--nets xs s ...] [--work step ...] [--peers numpy ...] [--threads 2] [--json FILE] [--picture FILE]
    python bench/compare.py --read FILE [--picture FILE] [--markdown FILE]

Work: float32, relu, Adam with lr 1e-3; mean squared error for one output, else cross-entropy with integer labels. `step` is a training step
called from Python on NumPy arrays that returns the loss as a float; `epoch` is a step inside an epoch of shuffled minibatches; `predict_1`
and `predict_1024` predict NumPy outputs from NumPy rows. Before the timing, each contender starts with the same weights, and its losses and
outputs must agree with a float64 computation.

Method: each contender has its own process, because XLA and BLAS read their settings on import, because contenders must not share threads
and caches, and because one that fails or never stops compiling must not stop the others. All are pinned to the same CPUs and take turns of
about 60 ms; waiting contenders sleep. A round is a turn of each. The report gives medians over the rounds, and the ratio within a round,
fastest peer's time / microbp's time: its median, and the interval of the middle 95 % of the rounds. If a call takes longer than a turn,
contenders that take more than twice the time of the fastest peer take part in the first 5 rounds only.

Limit: the least time that the machine needs, as a fraction of microbp's time. Of a training step it is the time for the arithmetic of the
products (2 operations per multiply-add, three products per layer, the first layer two), and that of `apply` alone, which divisions, roots
and memory bound: Adam's update as microbp does it. Of a prediction it is the time for the arithmetic or for reading 4 bytes per weight,
whichever is larger. kernels/peaks.c measures the speeds of arithmetic and memory in the same run.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import statistics
import sys
import tempfile
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # must be set before NumPy is imported; only for this process, which checks results

import report
from contenders import ENTRIES, OURS, OURS_IN_C, PEERS, versions
from contenders.check import difference, expected
from contenders.serve import ContenderError, Process
from contenders.work import KINDS, NETS

from kernels import machine, peaks

ROUND_SECONDS = 0.06  # a contender's turn: much longer than clock resolution and scheduling delays
LEAST_ROUNDS, QUICK_ROUNDS = 21, 3  # fewer than 21 rounds give no meaningful interval
APPLY_ROUNDS = 5
SLOW_ROUNDS = 5  # for slow contenders, if a call takes longer than a turn
QUICK_NETS = ("xs", "s", "m")


def settle(cpu: int, threads: int) -> None:
    """Pins this process and its children to as many CPUs as threads, and limits the threads of their libraries."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {(cpu + k) % (os.cpu_count() or 1) for k in range(threads)})
    os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)))
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # otherwise torch.compile keeps a pool of processes
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class Comparison:
    """A run: its processes and results."""

    def __init__(self, peers: list[str], threads: int, rounds: int) -> None:
        self.threads, self.rounds = threads, rounds
        missing = {name: PEERS[name].missing() for name in peers}
        self.missing = {name: packages for name, packages in missing.items() if packages}
        names = [OURS, *([OURS_IN_C] if threads == 1 else []), *(name for name in peers if name not in self.missing)]
        self.processes = {name: Process(name, threads) for name in names}
        self.failures: list[report.Failure] = []
        self.rows: list[report.Row] = []

    def close(self) -> None:
        for process in self.processes.values():
            process.close()

    def measure(self, net: str, kinds: list[str], limits: peaks.Peaks) -> None:
        """Measures a net; adds a row for each kind of work."""
        print(f"{net} ...", end="", file=sys.stderr, flush=True)
        ready = self._prepare(net)
        for kind in kinds:
            times = self._rounds(net, ready, kind) if OURS in ready else {}
            if OURS in times:
                self.rows.append(report.Row(net, kind, times, self._limit(net, kind, limits), limits))
        print(f"\r{'':20}\r", end="", file=sys.stderr, flush=True)

    def _limit(self, net: str, kind: str, limits: peaks.Peaks) -> float:
        """The least seconds for a unit of work."""
        flops = NETS[net].flops(kind)
        if kind not in ("step", "epoch"):
            return limits.seconds(flops, NETS[net].bytes)
        process = self.processes[OURS]
        count = process.calibrate("apply", ROUND_SECONDS / APPLY_ROUNDS)
        return flops / limits.flops + min(process.seconds("apply", count) / count for _ in range(APPLY_ROUNDS))

    def _prepare(self, net: str) -> list[str]:
        """Prepares a net; returns the contenders that compute it correctly."""
        right, ready = expected(net), []
        for name in list(self.processes):
            try:
                wrong = difference(self.processes[name].prepare(net), right)
            except ContenderError as failed:
                self._fail(net, name, failed)
            else:
                if wrong:
                    self.failures.append(report.Failure(net, name, wrong))
                else:
                    ready.append(name)
        return ready

    def _fail(self, net: str, name: str, failed: ContenderError) -> None:
        """Records a failure. If the process has ended, starts a new one for the next net."""
        self.failures.append(report.Failure(net, name, str(failed)))
        if not self.processes[name].alive():
            self.processes[name].close()
            self.processes[name] = Process(name, self.threads)

    def _rounds(self, net: str, ready: list[str], kind: str) -> dict[str, list[float]]:
        """The seconds of each contender in each round: per call, or for "epoch" per step."""
        units = NETS[net].steps if kind == "epoch" else 1
        counts: dict[str, int] = {}
        times: dict[str, list[float]] = {name: [] for name in ready}
        for turn in range(-1, self.rounds):
            for name in list(times) if turn < SLOW_ROUNDS else _near(times, ROUND_SECONDS / units):
                try:
                    if turn < 0:
                        counts[name] = self.processes[name].calibrate(kind, ROUND_SECONDS)
                    else:
                        times[name].append(self.processes[name].seconds(kind, counts[name]) / counts[name] / units)
                except ContenderError as failed:
                    self._fail(net, name, failed)
                    ready.remove(name)
                    del times[name]
        return times


def _near(times: dict[str, list[float]], short: float) -> list[str]:
    """The contenders that continue: microbp, and those that take at most `short` seconds or at most twice the fastest peer's time."""
    first = {name: statistics.median(seconds[:SLOW_ROUNDS]) for name, seconds in times.items()}
    bound = max(short, 2 * min((seconds for name, seconds in first.items() if name in PEERS), default=0))
    return [name for name, seconds in first.items() if name == OURS or seconds <= bound]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=NETS, metavar="NET", help=f"{', '.join(NETS)} (default: all)")
    parser.add_argument("--work", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=f"{', '.join(KINDS)} (default: all)")
    peers = list(PEERS)
    parser.add_argument("--peers", nargs="*", choices=peers, default=peers, metavar="PEER", help=f"{', '.join(peers)} (default: all)")
    parser.add_argument("--threads", type=int, default=1, choices=(1, 2), help="number of threads and CPUs (default: %(default)s)")
    parser.add_argument("--cpu", type=int, default=0, help="number of the first CPU (default: %(default)s)")
    parser.add_argument("--rounds", type=int, help=f"rounds, at least {LEAST_ROUNDS} (default: {LEAST_ROUNDS})")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds, and the nets {', '.join(QUICK_NETS)} unless --nets is given"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all times to FILE")
    parser.add_argument("--read", type=Path, metavar="FILE", help="measure nothing: report a FILE of --json, of any machine")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table of RESULTS.md to FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the times to FILE (needs matplotlib)")
    options = parser.parse_args()
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else LEAST_ROUNDS)
    options.nets = options.nets or list(QUICK_NETS if options.quick else NETS)
    if options.rounds < LEAST_ROUNDS and not options.quick:
        parser.error(f"--rounds must be at least {LEAST_ROUNDS}, for a meaningful interval")
    if options.picture and not importlib.util.find_spec("matplotlib"):
        parser.error("--picture needs matplotlib: python -m pip install matplotlib")
    return options


def measure(options: argparse.Namespace) -> report.Report:
    """Runs the comparison."""
    settle(options.cpu, options.threads)
    comparison = Comparison(options.peers, options.threads, options.rounds)
    try:
        with tempfile.TemporaryDirectory() as folder:
            program = peaks.build(folder)
            for net in options.nets:
                comparison.measure(net, options.work, peaks.measure(program, NETS[net].parameters, options.threads))
    except KeyboardInterrupt:
        print("interrupted; results so far:", file=sys.stderr)
    finally:
        comparison.close()
    command = shlex.join(["python", "bench/compare.py", *sys.argv[1:]])
    return report.Report(
        machine.describe(*versions()), command, options.threads, options.rounds, comparison.rows, comparison.failures, comparison.missing
    )


def main() -> None:
    options = arguments()
    found = report.from_json(options.read.read_text(encoding="utf-8")) if options.read else measure(options)
    print(report.text(found, list(ENTRIES)))
    if options.json:
        options.json.write_text(report.as_json(found), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(report.markdown(found), encoding="utf-8")
    if options.picture:
        import picture  # imports matplotlib

        picture.draw(found, options.picture)


if __name__ == "__main__":
    main()
