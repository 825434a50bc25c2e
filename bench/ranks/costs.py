"""Fits the cost of a step to measured ones, checks it, and reads it out to 1,024 ranks.

    python bench/ranks/costs.py ranks.json [tcp.json] [--picture ranks.png]

The files are those of bench/ranks/measure.py, without and with --tcp.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from measure import NETS
from model import Compute, Network, fit_compute, fit_network, simulate, step, typical, usual

MICRO = 1e6
RANKS = [1 << power for power in range(11)]
MACHINE = 64  # ranks that share memory
BATCHES = 256, 4096, 65536  # rows of a step, of all ranks
EVERY = 1, 4, 16, 64
SLOW = "Ethernet 10 Gbit/s"
COLOURS = {"shared memory": "#c8102e", "InfiniBand 100 Gbit/s": "#4d77cf", SLOW: "#ee8a2e"}


def table(head: list[str], rows: list[list[str]]) -> None:
    for row in [head, ["---"] * len(head), *rows]:
        print("| " + " | ".join(row) + " |")
    print()


def constants(compute: Compute, networks: dict[str, Network]) -> None:
    flops = 6 / compute.row / 1e9  # 2 for a weight and a row, forward; twice as many backward
    print(f"compute: {compute.call * MICRO:.1f} us + parameters x ({compute.update * 1e9:.2f} ns + rows x {compute.row * 1e12:.0f} ps)")
    print(f"(6 operations for a weight and a row: {flops:.0f} Gflop/s)\n")
    names = ["network", "latency us", "overhead us", "GB/s", "additions GB/s", "switch us", "call us", "apart ns"]
    rows = [
        [n.latency * MICRO, n.overhead * MICRO, 1e-9 / n.byte, 1e-9 / n.add, n.switch * MICRO, n.call * MICRO, n.apart * 1e9]
        for n in networks.values()
    ]
    table(names, [[name, *(f"{value:.3g}" for value in row)] for name, row in zip(networks, rows)])


def check(measured: dict[str, Any], compute: Compute, network: Network) -> None:
    """Steps and exchanges on the ranks that were measured, the formula, the simulation."""
    one, rows = measured["ranks"]["1"], []
    for ranks, found in measured["ranks"].items():
        for net, by_rows in found["step"].items():
            for count in ("16", "128"):
                if count in by_rows and ranks != "1":
                    here, n = usual(by_rows[count]), int(ranks)
                    formula = step(compute, network, NETS[net], n * int(count), n)
                    replayed = simulate(one["step"][net][count], network, NETS[net], n)
                    values = [
                        *(f"{value * MICRO:,.0f}" for value in (here, formula, replayed)),
                        f"{formula / here:.2f}",
                        f"{replayed / here:.2f}",
                    ]
                    rows.append([net, count, ranks, *values])
    table(["net", "rows of a rank", "ranks", "measured us", "formula us", "replayed us", "formula / measured", "replayed / measured"], rows)
    rows = []
    for ranks, found in measured["ranks"].items():
        for net in found["apply"] if ranks != "1" else ():
            parameters = NETS[net]
            exchange = usual(found["apply"][net]) - usual(one["apply"][net]) * network.shared(int(ranks))
            plain = usual(found["allreduce"][str(4 * parameters)])
            formula = network.exchange(int(ranks), parameters)
            rows.append([net, ranks, *(f"{value * MICRO:,.0f}" for value in (exchange, formula, plain)), f"{exchange / plain:.2f}"])
    table(["net", "ranks", "exchange us", "formula us", "MPI_Allreduce us", "exchange / Allreduce"], rows)


def speedup(compute: Compute, network: Network, parameters: int, rows: int, ranks: int, every: int = 1) -> float:
    return compute.seconds(parameters, rows) / step(compute, network, parameters, rows, ranks, every)


def counts(name: str, rows: int) -> list[int]:
    """The numbers of ranks that make sense on a network, each with a row or more."""
    return [n for n in RANKS if n <= rows and (n <= MACHINE or name != "shared memory")]


def most(compute: Compute, name: str, network: Network, parameters: int, rows: int, every: int = 1) -> str:
    """The most ranks that are at least half as many times as fast as one; and how many times."""
    good = [n for n in counts(name, rows) if speedup(compute, network, parameters, rows, n, every) >= n / 2]
    return f"{good[-1]:,}: {speedup(compute, network, parameters, rows, good[-1], every):,.3g}" if good[-1] > 1 else "-"


def read_out(compute: Compute, networks: dict[str, Network]) -> None:
    rows, rare = [], []
    for net, parameters in NETS.items():
        for batch in BATCHES:
            head = [net, f"{batch:,}"]
            alone = f"{compute.seconds(parameters, batch) * 1e3:,.2f}"
            rows.append([*head, alone, *(most(compute, *item, parameters, batch) for item in networks.items())])
            rare.append([*head, *(most(compute, SLOW, networks[SLOW], parameters, batch, every) for every in EVERY)])
    table(["net", "rows of a step", "one rank ms", *(f"{name}, ranks: times as fast" for name in networks)], rows)
    table(["net", "rows of a step", *(f"sync_every={every}" for every in EVERY)], rare)


def picture(compute: Compute, networks: dict[str, Network], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for axes, batch in zip(figure.subplots(1, 3, sharey=True), BATCHES):
        for name, network in networks.items():
            for (net, parameters), style in zip(list(NETS.items())[1:], (":", "--", "-")):
                x = counts(name, batch)
                y = [speedup(compute, network, parameters, batch, n) for n in x]
                axes.plot(x, y, style, color=COLOURS[name], label=f"{net}, {name}")
        axes.plot(RANKS, RANKS, color="#bbbbbb", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel="ranks", ylim=(0.3, 1024))
        axes.set_title(f"{batch:,} rows a step", loc="left", fontsize=10)
        axes.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1,024"])
        axes.set_yticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1,024"])
        axes.minorticks_off()
    figure.axes[0].set_ylabel("times as fast as one rank")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path)
    parser.add_argument("tcp", type=Path, nargs="?")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    found = [json.loads(path.read_text(encoding="utf-8")) for path in (options.json, options.tcp) if path]
    compute = fit_compute(found[0]["ranks"]["1"])
    fitted = [fit_network(measured) for measured in found]
    networks = typical(fitted[0])
    constants(compute, networks | dict(zip(["TCP between namespaces"], fitted[1:])))
    for measured, network in zip(found, fitted):
        check(measured, compute, network)
    read_out(compute, networks)
    if options.picture:
        picture(compute, networks, options.picture)


if __name__ == "__main__":
    main()
