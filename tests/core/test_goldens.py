"""Files of every version so far still load, and give the same predictions (goldens/make.py wrote them)."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from goldens import make

import microbp as bp

CASES = [
    (folder.parent.name, name) for folder in sorted(make.HERE.glob("*/expected.json")) for name in json.loads(folder.read_text("utf-8"))
]
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}  # needed because kernels without FMA and the reference round differently


def numbers(texts):
    return [float.fromhex(text) for text in texts]


def test_the_current_version_has_files():
    assert (bp.__version__, "trainer") in CASES


@pytest.mark.parametrize(("version", "name"), CASES)
def test_old_files_load(version, name, backend):
    folder: Path = make.HERE / version
    path, expected = folder / f"{name}.safetensors", json.loads((folder / "expected.json").read_text("utf-8"))[name]
    net = bp.load(path, backend=backend)
    assert (net.seed, net.notes) == (expected["seed"], expected["notes"])
    outputs = make.predictions(net)
    for found, right in zip(outputs, expected["predictions"], strict=True):
        np.testing.assert_allclose(numbers(found), numbers(right), rtol=TOLERANCE[str(net.dtype)], atol=TOLERANCE[str(net.dtype)])
    if version == bp.__version__:
        assert net.text() == expected["text"]
    if "steps" in expected:
        t = bp.Trainer.load(path, backend=backend)
        assert (t.steps, t.history["loss"]) == (expected["steps"], expected["loss"])
        loss = t.step(make.rows_for(t.net), np.arange(make.ROWS) % 2)
        assert loss == pytest.approx(float.fromhex(expected["next"]), rel=1e-5)


def test_the_fuzz_target_reads_and_saves_the_files():
    """No other test runs fuzz_load.py, which imports modules of the package by name."""
    target, files = make.HERE.parent / "fuzz/fuzz_load.py", sorted(make.HERE.glob("*/*.safetensors"))
    subprocess.run([sys.executable, "-P", target, *files], check=True, timeout=100)
