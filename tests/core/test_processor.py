"""The kernels that are chosen are the best that the processor has, in a wheel too: its compiler may not know the processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from microbp.core import _core

NEEDS = {"avx512": {"avx2", "fma", "avx512f", "avx512vl", "avx512dq", "avx512bw"}, "avx2": {"avx2", "fma"}, "sse2": set()}


def test_the_instruction_sets_are_those_of_the_processor():
    cpuinfo = Path("/proc/cpuinfo")
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "") if cpuinfo.exists() else ""
    if not flags:
        pytest.skip("/proc/cpuinfo does not list flags, as that of x86-64 Linux does")
    has = set(flags.partition(":")[2].split())
    assert _core.isas() == {name: NEEDS[name] <= has for name in _core.isas()}
