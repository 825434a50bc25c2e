"""The hand-written stub of the extension module against the module, where mypy is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_the_stub_says_what_the_module_offers(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    command = [sys.executable, "-P", "-m", "mypy.stubtest", "microbp.core._core", "--allowlist", str(HERE / "stubtest-allowlist.txt")]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert answer.returncode == 0, answer.stdout
