"""Describes the machine of a measurement: processor, system, versions."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import microbp as bp


def describe(*others: str) -> str:
    """A line with processor, system and versions. others: further versions, such as "torch 2.13.0"."""
    versions = [f"microbp {bp.__version__}", *others, f"Python {platform.python_version()}"]
    return f"{_processor()}, {os.cpu_count()} CPUs, {platform.system()}; {', '.join(versions)}"


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        names = [line.partition(":")[2].strip() for line in listing.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()
