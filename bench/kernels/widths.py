"""What odd widths cost: a training step beside that of the next multiple of 16, scaled by the operations of the products.

    python bench/kernels/widths.py [--nets 8-30-30-1 ...] [--activation tanh ...] [--dtype f64 ...] [--isa avx2] [--cpu 0] [--quick]

A net is its widths, such as 8-30-30-1. Its hidden widths are rounded up to multiples of 16 for the net beside it, here 8-32-32-1. Both take
turns in one C program (steps.c), 32 rows, Adam, one thread; the times are the least of all turns. A cost of 1.00 means that the odd net
takes as much time per operation; a "time" above 1 means that it takes longer than the wider net.
"""

from __future__ import annotations

import argparse
import os
import tempfile

import machine
import steps

NETS = ("8-20-20-1", "8-30-30-1", "10-50-50-3", "16-100-100-1", "16-500-500-1")
ROWS, SECONDS, QUICK_SECONDS = 32, 1.0, 0.05


def beside(widths: list[int]) -> list[int]:
    """The same net with its hidden widths rounded up to multiples of 16."""
    return [widths[0], *(-(-width // 16) * 16 for width in widths[1:-1]), widths[-1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=NETS, metavar="WIDTHS", help=f"default: {' '.join(NETS)}")
    parser.add_argument("--activation", nargs="+", default=["tanh", "gelu", "relu"])
    parser.add_argument("--dtype", nargs="+", default=["f32", "f64"], choices=("f32", "f64"))
    parser.add_argument("--isa", help="kernel variant, such as avx2 (default: the best)")
    parser.add_argument("--cpu", type=int, default=0, help="number of the CPU (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS} seconds for each pair instead of {SECONDS:g}")
    options = parser.parse_args()
    if options.isa:
        os.environ["MICROBP_ISA"] = options.isa
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.cpu})
    print(f"{machine.describe()}\n{ROWS} rows, Adam, one thread, the least nanoseconds of a step")
    print(f"{'net':<16}{'activation':<12}{'dtype':<7}{'ns':>9}   {'beside':<16}{'ns':>9}{'time':>8}{'cost':>8}")
    with tempfile.TemporaryDirectory() as folder:
        program = steps.build(folder)
        for name in options.nets:
            odd = [int(width) for width in name.split("-")]
            even = beside(odd)
            for dtype in options.dtype:
                for activation in options.activation:
                    graphs = [steps.graph(widths, activation) for widths in (odd, even)]
                    seconds = QUICK_SECONDS if options.quick else SECONDS
                    ns = steps.nanoseconds(program, seconds, ROWS, dtype, graphs)
                    time = ns[0] / ns[1]
                    cost = time * steps.flops(even) / steps.flops(odd)
                    other = "-".join(map(str, even))
                    print(
                        f"{name:<16}{activation:<12}{dtype:<7}{ns[0]:>9.0f}   {other:<16}{ns[1]:>9.0f}{time:>8.2f}{cost:>8.2f}", flush=True
                    )


if __name__ == "__main__":
    main()
