"""Makes the playground, one HTML file that needs nothing else: python docs/playground/build.py OUT.html

It compiles the C library and playground.c to WebAssembly with the package ziglang from PyPI, and puts all files of this folder into one."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE.parent.parent / "src"
SCRIPTS = ["core.js", "probe.js", "data.js", "surface.js", "drawing.js", "page.js"]
# What the page does not use. All activations stay, and of the losses those of its three tasks.
LEFT_OUT = [
    *("FILES", "THREADS", "FOCAL", "GAPS", "INT8", "JACOBIAN", "LISTS", "POSITIONS", "RANKS", "SCALES", "SLICE", "SOLVERS", "SPARSE"),
    *("STANDARDIZE", "SUBTRACT"),
]
TARGET = ["-target", "wasm32-wasi", "-mexec-model=reactor", "-msimd128", "-Wl,--strip-all", "-Wl,--max-memory=536870912"]
FLAGS = ["-Oz", "-DMICROBP_SMALL=0", "-std=c11", "-Wall", "-Wextra"]  # small, but for the kernels


def compiled() -> bytes:
    """The library and playground.c as WebAssembly. It imports nothing."""
    if importlib.util.find_spec("ziglang") is None:
        sys.exit("build.py: it needs the package ziglang, which compiles C to WebAssembly: pip install ziglang")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, SOURCES / "amalgamate.py", folder], check=True)
        sources = [HERE / "playground.c", f"{folder}/microbp.c", f"-I{folder}", *(f"-DMICROBP_{name}=0" for name in LEFT_OUT)]
        subprocess.run([sys.executable, "-m", "ziglang", "cc", *TARGET, *FLAGS, *sources, "-o", f"{folder}/playground.wasm"], check=True)
        return Path(folder, "playground.wasm").read_bytes()


def page(wasm: bytes) -> str:
    """The page with style, scripts and WebAssembly in it. Its policy allows these alone: nothing from any network."""
    style = (HERE / "style.css").read_text("utf-8")
    code = f'"use strict"\nconst WASM = "{base64.b64encode(gzip.compress(wasm, mtime=0)).decode()}"\n'
    code += "\n".join((HERE / name).read_text("utf-8") for name in SCRIPTS)
    hashes = ["'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'" for text in (style, code)]
    policy = f"default-src 'none'; style-src {hashes[0]}; script-src {hashes[1]} 'wasm-unsafe-eval'"
    parts = {"POLICY": policy, "STYLE": style, "SCRIPT": code}
    return re.sub(r"@(\w+)@", lambda found: parts[found[1]], (HERE / "index.html").read_text("utf-8"))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python docs/playground/build.py OUT.html")
    Path(sys.argv[1]).write_text(page(compiled()), encoding="utf-8", newline="\n")
