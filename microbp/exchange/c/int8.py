"""C files of int8 networks: whole numbers from layer to layer, as the library computes them (shared/integers.py)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...data.arrays import Array
from ..shared.integers import IntegerStep
from .file import BOUND, frame
from .formulas import PARTS, parts
from .nodes import activate, finish
from .numbers import constant, how_many, literal

PARTS |= parts("""
/* t + zero as a whole number from 0 to 255, halves to even; 0 for NaN. 1.5 * 2^23: the sum has no bits left for a fraction. */
static uint8_t @byte(float t, int zero) {
    t = t > (float)-zero ? t : (float)-zero;
    t = t < (float)(255 - zero) ? t : (float)(255 - zero);
    t += 12582912.0f;
    return (uint8_t)((int)(t - 12582912.0f) + zero);
}

static int32_t @dot(const int8_t *w, const uint8_t *x, int n, int32_t sum) {
    for (int k = 0; k < n; k++)
        sum += w[k] * x[k];
    return sum;
}

/* n numbers of each position of a window that starts at (row, column) of high x wide positions; outside of them is `zero`. */
static void @window_bytes(const uint8_t *x, int high, int wide, int n, int row, int column, int rows, int columns, int down, int right,
                    int zero, uint8_t *to) {
    for (int i = row; i < row + rows * down; i += down)
        for (int j = column; j < column + columns * right; j += right)
            for (int k = 0; k < n; k++)
                *to++ = i >= 0 && i < high && j >= 0 && j < wide ? x[(i * wide + j) * n + k] : (uint8_t)zero;
}

/* The largest of each of n numbers under a pool of `rows` x `columns` positions that starts at x. */
static void @largest_bytes(const uint8_t *x, int wide, int n, int rows, int columns, uint8_t *to) {
    for (int k = 0; k < n; k++) {
        to[k] = 0;
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++)
                to[k] = x[(i * wide + j) * n + k] > to[k] ? x[(i * wide + j) * n + k] : to[k];
    }
}

/* Their mean. */
static void @mean_bytes(const uint8_t *x, int wide, int n, int rows, int columns, int zero, uint8_t *to) {
    for (int k = 0; k < n; k++) {
        int sum = -zero * rows * columns;
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++)
                sum += x[(i * wide + j) * n + k];
        to[k] = @byte((float)sum / (float)(rows * columns), zero);
    }
}
""")


class _Writer:
    """Writes the constants and a function of each step, and what the function of predictions calls."""

    def __init__(self, steps: tuple[IntegerStep, ...]) -> None:
        self.constants: dict[str, str] = {}
        self.functions: list[str] = []
        self.lines: list[str] = []
        self.calls: list[str] = []
        self.flash = self.operations = self.patch = 0
        self.bytes = [0, 0]  # of the two places where values are, one after the other
        waiting = None
        for i, step in enumerate(steps):
            following = steps[i + 1] if i + 1 < len(steps) else None
            if step.operation == "window" and following and following.weight is not None and following.weight.shape[1] == step.width:
                waiting = step  # what it shows is made place by place, for the dense step
                continue
            self._write(i, step, waiting)
            waiting = None

    def array(self, values: Array, what: str) -> str:
        """A constant array: its name."""
        name = f"@{what}"
        self.constants[what] = constant(name, values)
        self.flash += values.nbytes
        return name

    def line(self, text: str) -> None:
        """A statement of the step that is written (see nodes.activate)."""
        self.lines += [f"    {line}" for line in text.split("\n")]

    def _write(self, i: int, step: IntegerStep, window: IntegerStep | None) -> None:
        last, number = step.y is None, len(self.calls)
        to, loop = "y" if last else "ab"[number % 2], getattr(self, f"_{step.operation}")(i, step, window)
        signature = f"static void @step{i}(const {'uint8_t' if number else 'float'} *x, {'float' if last else 'uint8_t'} *y)"
        self.functions.append(f"/* {step.operation} {step.name} */\n{signature} {{\n{loop}}}")
        self.calls.append(f"@step{i}({'ab'[1 - number % 2] if number else 'x'}, {to});")
        if not last:
            self.bytes[number % 2] = max(self.bytes[number % 2], step.positions * step.width)

    def _quantize(self, i: int, step: IntegerStep, _window: object) -> str:
        assert step.scale is not None and step.y
        n, columns = step.positions * step.width, len(step.scale)
        at = "j" if columns == n else f"j % {columns}" if columns > 1 else "0"
        scale = f"{self.array(step.scale, f'scale{i}')}[{at}]"
        value = "x[j]" if step.mean is None else f"(x[j] - {self.array(step.mean, f'mean{i}')}[{at}])"
        return f"    for (int j = 0; j < {n}; j++)\n        y[j] = @byte({value} * {scale}, {step.y.zero});\n"

    def _dense(self, i: int, step: IntegerStep, window: IntegerStep | None) -> str:
        assert step.weight is not None and step.start is not None and step.scale is not None
        (units, inputs), places = step.weight.shape, step.positions
        self.operations += units * inputs * places
        weight, start, scale = (
            self.array(values, f"{name}{i}") for name, values in (("w", step.weight), ("start", step.start), ("scale", step.scale))
        )
        z = f"(float)@dot({weight} + j * {inputs}, {'patch' if window else 'x'}, {inputs}, {start}[j]) * {scale}[j]"
        self.lines = []
        self.line(f"float z = {z};")
        activate(self, step.activation, 1, "&z")
        self.line(f"y[j] = @byte(z * {literal(step.y.inverse)}, {step.y.zero});" if step.y else "y[j] = z;")
        body = "\n".join([f"for (int j = 0; j < {units}; j++) {{", *self.lines, "}\n"])
        if window:
            self.patch = max(self.patch, inputs)
            return _at_places(window, f"@window_bytes(x, {_under(window)}, patch);\n{body}y += {units};\n", f"uint8_t patch[{inputs}];\n")
        if places > 1:
            body = f"for (int i = 0; i < {places}; i++, x += {inputs}, y += {units})\n{_indented(body)}"
        return _indented(body)

    def _window(self, _i: int, step: IntegerStep, _window: object) -> str:
        return _at_places(step, f"@window_bytes(x, {_under(step)}, y);\ny += {step.width};\n")

    def _pool(self, _i: int, step: IntegerStep, _window: object) -> str:
        assert step.window and step.x
        (_, wide, n), (rows, columns) = step.operand, step.window.size
        call, zero = ("largest_bytes", "") if step.window.kind == "max" else ("mean_bytes", f"{step.x.zero}, ")
        x = f"x + (row * {wide} + column) * {n}"
        return _at_places(step, f"@{call}({x}, {wide}, {n}, {rows}, {columns}, {zero}y);\ny += {n};\n")


def _under(step: IntegerStep) -> str:
    """The arguments of @window_bytes from `high` to `zero`."""
    assert step.window and step.x
    high, wide, n = step.operand
    size, dilation = step.window.size, step.window.dilation
    return f"{high}, {wide}, {n}, row, column, {size[0]}, {size[1]}, {dilation[0]}, {dilation[1]}, {step.x.zero}"


def _at_places(step: IntegerStep, body: str, declared: str = "") -> str:
    """A loop over the places of a window or a pool, with the row and the column where it starts."""
    assert step.window
    window = step.window
    grid = (1, 1, *step.grid)[-2:]
    rows, columns = (
        f"for (int {name} = {-pad}; {name} < {count * stride - pad}; {name} += {stride})"
        for name, pad, stride, count in zip(("row", "column"), window.pad, window.stride, grid, strict=True)
    )
    return _indented(f"{declared}{rows}\n    {columns} {{\n{_indented(_indented(body))}    }}\n")


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def int8_source(model: Any, *, raw: bool, name: str, header: bool) -> str:
    """A C99 file, or a header with static functions, that predicts what a bp.QuantizedNetwork does, with the same bits."""
    c, output = _Writer(model.steps), model.output
    size = math.prod(output.row_shape)
    c.lines = [f"    {line}" for line in c.calls]
    if not raw:
        finish(c, output, size, "y")
    linkage = "static inline " if header else ""
    places = "\n".join(f"    uint8_t {place}[{count}];" for place, count in zip("ab", c.bytes, strict=True) if count)
    predict = f"{linkage}void @predict(const float *x, float *y) {{\n{places}\n" + "\n".join(c.lines) + "\n}"
    x = _example(model.steps[0])
    expected = model.predict(x.reshape(1, *model.input_shape), raw=raw).ravel()
    bound = literal(BOUND * max(1.0, float(np.abs(expected).max())))
    check = f"""{linkage}int @check(void) {{
    {constant("x", x)}
    {constant("expected", expected)}
    float y[{size}];
    @predict(x, y);
    for (int j = 0; j < {size}; j++)
        if (!(y[j] - expected[j] <= {bound} && expected[j] - y[j] <= {bound})) return j + 1;
    return 0;
}}"""
    shapes = (how_many(" x ".join(map(str, shape))) for shape in (model.input_shape, output.row_shape))
    head = "\n".join(
        [
            f"{name}: predictions of a neural network in int8, written by microbp.",
            "",
            "    input: x, {}; output: y, {}, {}".format(*shapes, "raw" if raw else output.activation or "identity"),
            "",
            f"Memory: {c.flash} bytes of constants, {sum(c.bytes) + c.patch} bytes on the stack. Multiply-adds of weights: {c.operations}.",
            f"{name}_check returns 0 if it predicts for one row what microbp did.",
            "y must not overlap x. Several threads may call the functions at once.",
            "With -ffp-contract=off, the results have the bits of bp.QuantizedNetwork.predict.",
        ]
    )
    return frame(name, header, head, [*c.constants.values(), *c.functions, predict, check])


def _example(step: IntegerStep) -> Array:
    """A row of the numbers that the first step makes random bytes of."""
    assert step.scale is not None and step.y
    q = np.random.default_rng(0).integers(0, 256, (step.positions * step.width)).reshape(-1, len(step.scale))
    x = (q - step.y.zero) / step.scale.astype(np.float64) + (0 if step.mean is None else step.mean)
    return np.ravel(x).astype(np.float32)
