"""Exported C files beside the library, and their sizes.

    python bench/exported.py [--seconds 0.3] [--compiler "gcc -O3 -march=native"]

One program calls in turns the library and the exported function, on one row and one thread: predictions, int8 predictions and steps of
training. Times are the least of 21 rounds, in nanoseconds. By hand: 4-8-2 as a C programmer writes it, with tanhf. Sizes: bytes of code and
constants with -Os, linked with --gc-sections, without model_check; and the stack that the file's first comment tells. Cortex-M4: by
arm-none-eabi-gcc, if it is installed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import microbp as bp

DETECTOR = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
NETS: dict[str, tuple[list[int], Any, Any]] = {  # widths, activation, output activation
    "small": ([4, 8, 2], "tanh", "identity"),
    "middle": ([4, 32, 32, 2], "relu", "identity"),
    "wide": ([64, 64, 64, 64], "tanh", "identity"),
    "fc3": ([10, 26, 26, 2], "relu", "softmax"),
    "detector": (DETECTOR, "relu", "identity"),
}
TRAINED = ("small", "middle")
LOSSES = {"identity": "mse", "softmax": "cross_entropy"}
M4 = "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 --specs=nano.specs --specs=nosys.specs"

BY_HAND = """\
static void by_hand(const float *x, float *y) {
    float h[8];
    for (int i = 0; i < 8; i++) {
        float z = hand_b0[i];
        for (int j = 0; j < 4; j++) z += hand_w0[i][j] * x[j];
        h[i] = tanhf(z);
    }
    for (int i = 0; i < 2; i++) {
        y[i] = hand_b1[i];
        for (int j = 0; j < 8; j++) y[i] += hand_w1[i][j] * h[j];
    }
}
"""
PROGRAM = """\
#include <math.h>
#include <microbp.h>
#include <stdio.h>
#include <time.h>
{includes}
{hand}
static float x[1024], y[1024], target[1024];
static double now(void) {{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}}
/* The least time of a call. */
#define TIME(best, call) {{ \\
    const double start = now(); \\
    long calls = 0; \\
    while (now() - start < EACH) {{ \\
        for (int i = 0; i < 20; i++) {{ call; x[0] += y[0] * 1e-30f; }} \\
        calls += 20; \\
    }} \\
    const double took = (now() - start) / (double)calls; \\
    if (took < best) best = took; \\
}}
int main(void) {{
    mbp_error error;
    for (int i = 0; i < 1024; i++) x[i] = (float)(i % 7) / 4 - 0.7f;
{bodies}
    return 0;
}}
"""


def body(name: str, widths: list[int], calls: dict[str, str], setup: str) -> str:
    """A block of main: prints the least time of each call."""
    lines = [f"    {{ double best[{len(calls)}];", f"    for (int k = 0; k < {len(calls)}; k++) best[k] = 1e30;"]
    lines += [f'    mbp_net *net = NULL; if (mbp_net_load(&net, "{name}.safetensors", NULL, &error)) return puts(error.text), 1;']
    lines += [f"    mbp_array in = mbp_f32(x, 1, {widths[0]}), out = mbp_f32(y, 1, {widths[-1]}), goal = mbp_f32(target, 1, {widths[-1]});"]
    lines += ["    (void)goal;", setup, "    for (int round = 0; round < 21; round++) {"]
    lines += [f"        TIME(best[{k}], {call})" for k, call in enumerate(calls.values())]
    lines += ["    }", *(f'    printf("{name}|{what}|%.0f\\n", best[{k}]);' for k, what in enumerate(calls)), "    mbp_net_free(net); }"]
    return "\n".join(lines)


def make(folder: Path) -> dict[str, Any]:
    """Writes the networks and their C files."""
    made = {}
    for name, (widths, activation, output) in NETS.items():
        net = made[name] = bp.mlp(widths, activation, seed=0)
        net.set_output(0, output)
        net.save(folder / f"{name}.safetensors")
        bp.export(net, folder / f"{name}.h", name=name)
        if name in TRAINED:
            bp.export(net, folder / f"{name}_sgd.h", name=f"{name}_sgd", train="sgd(lr=0.001)")
            bp.export(net, folder / f"{name}_adam.h", name=f"{name}_adam", train="adam")
        rows = np.random.default_rng(0).normal(size=(200, widths[0]))
        bp.export(bp.quantize(net, rows), folder / f"{name}_int8.h", name=f"{name}_int8")
    return made


def times(folder: Path, made: dict[str, Any], compiler: str, seconds: float) -> str:
    bodies = []
    for name, (widths, _, output) in NETS.items():
        calls = {"library": "mbp_net_predict(net, &in, 1, &out, 1, 0, -1, &error)", "exported": f"{name}_predict(x, y)"}
        calls["exported int8"] = f"{name}_int8_predict(x, y)"
        if name == "small":
            calls["by hand"] = "by_hand(x, y)"
        setup = ""
        for kind in ("sgd", "adam") if name in TRAINED else ():
            spec = {"sgd": "sgd(lr=0.001)", "adam": "adam"}[kind]
            losses = f'(const char *[]){{"{LOSSES[output]}"}}'
            setup += f"    mbp_trainer *{kind} = NULL; {name}_{kind}_trainer own_{kind}; {name}_{kind}_train_init(&own_{kind});\n"
            setup += f'    if (mbp_trainer_create(&{kind}, net, {losses}, NULL, 1, "{spec}", &error)) return puts(error.text), 1;\n'
            setup += "    " * (kind == "sgd") + "    mbp_batch batch = mbp_batch_of(&in, &goal); double loss;\n" * (kind == "sgd")
            calls[f"{kind} step, library"] = f"mbp_trainer_step({kind}, &batch, &loss, &error)"
            calls[f"{kind} step, exported"] = f"{name}_{kind}_train(&own_{kind}, x, target, 1)"
        bodies.append(body(name, widths, calls, setup))
    hand = []
    for tensor, values in (("w0", "dense_0.weight"), ("b0", "dense_0.bias"), ("w1", "dense_1.weight"), ("b1", "dense_1.bias")):
        array = made["small"].tensors[values]
        shape = "".join(f"[{size}]" for size in array.shape)
        hand.append(f"static const float hand_{tensor}{shape} = {{{', '.join(f'{value:.9g}' for value in array.ravel().tolist())}}};")
    includes = "".join(f'#include "{path.name}"\n' for path in sorted(folder.glob("*.h")))
    text = PROGRAM.format(includes=includes, hand="\n".join(hand) + "\n" + BY_HAND, bodies="\n".join(bodies))
    (folder / "times.c").write_text(text.replace("EACH", f"{seconds * 1e9 / 21:.0f}"))
    library = [f"-I{bp.get_include()}", *map(str, Path(bp.get_include()).parent.rglob("libmicrobp.a"))]
    run(*compiler.split(), "-Wno-missing-braces", "times.c", *library, "-lm", "-lpthread", "-o", "times", folder=folder)
    return run("./times", folder=folder)


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr[:4000])
    return done.stdout


def size(folder: Path, name: str, compiler: str) -> tuple[int, int]:
    """Bytes of code and constants that a call of name_predict (and of name_train) brings, and the stack of the first comment."""
    text = (folder / f"{name}.h").read_text()
    trains = f"{name}_trainer" in text
    call = f"(const float *x, float *y) {{ {name}_predict(x, y); }}"
    if trains:
        calls = f"{name}_train_init(t); {name}_train(t, x, x, 1); {name}_predict(t->parameter, x, y);"
        call = f"({name}_trainer *t, const float *x, float *y) {{ {calls} }}"
    (folder / "size.c").write_text(f'#include "{name}.h"\nvoid called{call}\n')
    run(*compiler.split(), "-std=c99", "-Os", "-fno-asynchronous-unwind-tables", "-c", "size.c", "-o", "size.o", folder=folder)
    tool = "arm-none-eabi-size" if compiler.startswith("arm") else "size"
    code, data, *_ = run(tool, "size.o", folder=folder).splitlines()[1].split()
    stack = re.findall(r"(\d+)[^\d,]*bytes[^\d,]*stack", text[: text.index("*/")])
    return int(code) + int(data), int(stack[-1])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=0.3)
    options.add_argument("--compiler", default="gcc -O3 -march=native")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        made = make(folder)
        print(f"{'network':<10} {'what':<22} {'ns':>8}")
        for line in times(folder, made, given.compiler, given.seconds).splitlines():
            name, what, nanoseconds = line.split("|")
            print(f"{name:<10} {what:<22} {nanoseconds:>8}")
        print(f"\n{'file':<16} {'parameters':>10} {'x86-64':>8} {'Cortex-M4':>10} {'stack':>6}")
        for file in sorted(folder.glob("*.h")):
            host, stack = size(folder, file.stem, "gcc")
            m4 = size(folder, file.stem, M4)[0] if shutil.which("arm-none-eabi-gcc") else 0
            print(f"{file.stem:<16} {len(made[file.stem.split('_')[0]].params):>10} {host:>8} {m4 or '':>10} {stack:>6}")


if __name__ == "__main__":
    main()
