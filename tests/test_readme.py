"""The README keeps its word: its programs run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(command: list[str], folder: Path) -> str:
    """The standard output of a command that must succeed, with this interpreter first on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_program_learns_what_it_says(tmp_path):
    (program,) = blocks("python")
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    out = run([sys.executable, "program.py"], tmp_path)
    assert float(out.split()[-1]) > 0.95
    assert (tmp_path / "xor.safetensors").exists()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler named cc")
def test_the_c_program_compiles_as_written_and_learns_xor(tmp_path):
    (program,) = blocks("c")
    (tmp_path / "xor.c").write_text(program, encoding="utf-8")
    (command,) = [block for block in blocks("sh") if block.startswith("cc xor.c")]
    run(["sh", "-c", command.replace("cc xor.c", "cc -Wall -Wextra -Werror xor.c")], tmp_path)
    predictions = [float(word) for word in run([str(tmp_path / "xor")], tmp_path).split("xor")[1].split()]
    np.testing.assert_allclose(predictions, [0, 1, 1, 0], atol=0.05)


def test_the_two_commands_are_marked_and_single_lines():
    for what, needs in (("run", "microbp train digits"), ("test", "pytest")):
        command = re.search(rf"^<!-- fresh: {what} -->\n```sh\n(.*)\n```$", README, re.MULTILINE)
        assert command is not None
        assert needs in command[1]


def test_it_is_short():
    assert len(README.splitlines()) <= 150
