"""How each kind of node is written: nodes that work on each position by itself. The others are in positions.py."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ...core.specs import table
from ...network.layers import Activation
from ...network.records import NodeInfo, OutputInfo
from ..shared.steps import Step, refuse
from .formulas import PARTS, ROWS, parts
from .numbers import literal
from .writer import Constants, Lines, Writer, at

Emitter = Callable[[Writer, Step, list[str], str], None]  # the places of the operands, and that of the value

ROWS_AT_ONCE = 4  # a product of patches takes this many places at a time
PARTS |= parts("""
/* How many sums are in registers at once. */
#if defined(__OPTIMIZE_SIZE__)
#define @WIDEST 1
#elif defined(__AVX512F__)
#define @WIDEST 128
#elif defined(__AVX__) || defined(__ARM_NEON)
#define @WIDEST 64
#else
#define @WIDEST 32
#endif

/* y[j] = start[j] + the sum of x[i] w[i ld + j], for m columns. start NULL: 0. */
@INLINE void @columns(const int m, int k, const float *x, const float *w, int ld, const float *start, float *y) {
    float sum[@WIDEST];
    for (int j = 0; j < m; j++)
        sum[j] = start ? start[j] : 0;
    for (int i = 0; i < k; i++, w += ld)
        for (int j = 0; j < m; j++)
            sum[j] += x[i] * w[j];
    for (int j = 0; j < m; j++)
        y[j] = sum[j];
}

/* The same for n columns. y may be start. */
static void @dense(int n, int k, const float *x, const float *w, int ld, const float *start, float *y) {
    int j = 0;
#define @COLUMNS(m) \\
    for (; n - j >= (m); j += (m)) \\
        @columns(m, k, x, w + j, ld, start ? start + j : start, y + j); \\
    if (n - j > (m) / 2 && n > (m) && start != y) { /* some columns again */ \\
        @columns(m, k, x, w + n - (m), ld, start ? start + n - (m) : start, y + n - (m)); \\
        return; \\
    }
    @COLUMNS(@WIDEST)
#if @WIDEST > 32
    @COLUMNS(32)
#endif
#if @WIDEST > 1
    @COLUMNS(16) @COLUMNS(8) @COLUMNS(4) @COLUMNS(2) @COLUMNS(1)
#endif
}

#if defined(__GNUC__) && !defined(__OPTIMIZE_SIZE__)
typedef float @eight __attribute__((vector_size(32)));
#endif

/* The same for 8 columns of four rows of x and y, which have k and n columns. */
#if defined(__GNUC__) && !defined(__OPTIMIZE_SIZE__)
static void @tile(int n, int k, const float *x, const float *w, const float *start, float *y) {
    @eight v = {0}, p, q, r, s;
    if (start)
        memcpy(&v, start, sizeof v);
    p = q = r = s = v;
    for (int i = 0; i < k; i++, w += n) {
        memcpy(&v, w, sizeof v);
        p += x[i] * v;
        q += x[k + i] * v;
        r += x[2 * k + i] * v;
        s += x[3 * k + i] * v;
    }
    memcpy(y, &p, sizeof v);
    memcpy(y + n, &q, sizeof v);
    memcpy(y + 2 * n, &r, sizeof v);
    memcpy(y + 3 * n, &s, sizeof v);
}
#endif

static void @dense_rows(int rows, int n, int k, const float *x, const float *w, const float *start, float *y) {
    int i = 0;
#if defined(__GNUC__) && !defined(__OPTIMIZE_SIZE__)
    for (; rows - i >= 4 && n >= 8; i += 4, x += 4 * k, y += 4 * n) {
        for (int j = 0; j < n - 7; j += 8)
            @tile(n, k, x, w + j, start ? start + j : start, y + j);
        if (n % 8)
            @tile(n, k, x, w + n - 8, start ? start + n - 8 : start, y + n - 8);
    }
#endif
    for (; i < rows; i++, x += k, y += n)
        @dense(n, k, x, w, n, start, y);
}

/* The mean of a row and, as *inverse, 1 / its standard deviation. Sums have 16 partial sums. */
static double @row_statistics(int n, const float *x, double eps, double *inverse) {
    double sums[16] = {0}, squares[16] = {0};
    for (int j = 0; j < n; j++)
        sums[j % 16] += (double)x[j];
    const double mean = @sum_lanes(sums) / n;
    for (int j = 0; j < n; j++)
        squares[j % 16] += ((double)x[j] - mean) * ((double)x[j] - mean);
    *inverse = 1 / @square_root(@sum_lanes(squares) / n + eps);
    return mean;
}

static void @layer_norm(int n, const float *x, const float *gamma, const float *beta, double eps, float *y) {
    double inverse;
    const double mean = @row_statistics(n, x, eps, &inverse);
    for (int j = 0; j < n; j++)
        y[j] = gamma[j] * (float)(((double)x[j] - mean) * inverse) + beta[j];
}

/* Adds the rows of w that ids name, all or (apart = units) each to a place of its own. An id beyond the levels adds nothing. */
static void @look_up(int columns, const @id *ids, int levels, int units, const float *w, int apart, float *y) {
    for (int j = 0; j < (apart ? columns * apart : units); j++)
        y[j] = 0;
    for (int i = 0; i < columns; i++, y += apart)
        for (int j = 0; ids[i] >= 0 && ids[i] < levels && j < units; j++)
            y[j] += w[ids[i] * (ptrdiff_t)units + j];
}

/* The same for numbers that are hashed to levels. */
static void @look_up_hashed(int columns, const @id *ids, int levels, int units, const float *w, int apart, float *y) {
    for (int i = 0; i < columns; i++) {
        const @id id = (@id)@hash_level(@hash_number(ids[i], 0), levels);
        if (apart || i == 0)
            @look_up(1, &id, levels, units, w, 0, y + i * apart);
        else
            for (int j = 0; j < units; j++)
                y[j] += w[id * (ptrdiff_t)units + j];
    }
}

static void @unscale(int n, const double *std, const double *mean, float *y) {
    for (int j = 0; j < n; j++)
        y[j] = (float)((double)y[j] * std[j] + mean[j]);
}
""")


def _loop(name: str, arguments: str, body: str) -> str:
    return f"static void @{name}({arguments}) {{\n    for (int j = 0; j < n; j++) {body}\n}}"


for _name, (_, _value, _) in ROWS["ACTIVATION"].items():
    _settings = ", float p0, float p1" if "p1" in _value else ", float p0" if "p0" in _value else ""
    PARTS[f"map_{_name}"] = _loop(
        f"map_{_name}", f"int n, float *y{_settings}", f"{{\n        const float z = y[j];\n        y[j] = {_value};\n    }}"
    )
for _name, _sign in {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}.items():
    PARTS[_name] = _loop(_name, "int n, float *y, const float *x", f"y[j] {_sign}= x[j];")


def positions(node: NodeInfo) -> int:
    """How many positions a row of the node has."""
    return math.prod(node.grid)


def each(count: int, text: str, *moving: tuple[str, int]) -> str:
    """A statement for each of `count` positions. text has a {} for each of `moving`: a place, and how far it moves each time."""
    if count == 1:
        return text.format(*(place for place, _ in moving))
    return f"for (int i = 0; i < {count}; i++) " + text.format(*(at(place, f"i * {step}") for place, step in moving))


def copy(c: Writer, size: int, x: str, y: str) -> None:
    """y = x."""
    if x != y:
        c.line(f"memcpy({y}, {x}, {size} * sizeof(float));")


def activate(c: Lines, spec: str | None, size: int, y: str, function: str = "map", *kept: str) -> None:
    """y = activation(y). function, kept: for training, its derivative, and what that reads."""
    one = Activation.parse(spec or "identity")
    ranges = table("activation")[one.name].parameters
    settings = [literal(one.parameters.get(key, valid.default)) for key, valid in ranges.items()]
    if one.name != "identity":
        c.line(f"@{function}_{one.name}({', '.join([str(size), *kept, y, *settings])});")


def finish(c: Constants, output: OutputInfo, size: int, y: str) -> None:
    """Makes predictions of raw outputs: the output activation, then the unit of the targets."""
    if output.activation == "softmax":
        for i in range(math.prod(output.grid)):
            row = at(y, i * output.width)
            c.line(f"@row_softmax({output.width}, {row}, {row});")
    else:
        activate(c, output.activation, size, y)
    if output.mean is not None and output.std is not None:
        count = size // output.width
        mean, std = (c.array(np.tile(np.array(numbers), count), what) for what, numbers in (("mean", output.mean), ("std", output.std)))
        c.line(f"@unscale({size}, {std}, {mean}, {y});")


def _dense(c: Writer, step: Step, operands: list[str], y: str) -> None:
    node, below = step.node, c.node(step.node.operands[0])
    if below.operation == "ids":
        raise refuse("C", step, "a dense layer does not read ids: use bp.Embedding")
    count, n, k = positions(node), node.width, below.width
    weight, bias = c.parameter(step, "weight"), c.parameter(step, "bias")
    if below.node in c.gathered:
        patch, across = c.scratch(step, ROWS_AT_ONCE * k), below.grid[-1] if below.grid else 1
        c.line(f"for (int i = 0; i < {count}; i += {ROWS_AT_ONCE}) {{")
        c.line(f"    const int m = {count} - i < {ROWS_AT_ONCE} ? {count} - i : {ROWS_AT_ONCE};")
        place = f"(i + l) / {across}, (i + l) % {across}, {at(patch, f'l * {k}')}"
        c.line(f"    for (int l = 0; l < m; l++) @patch({c.gathered[below.node]}, {operands[0]}, {place});")
        c.line(f"    @dense_rows(m, {n}, {k}, {patch}, {weight}, {bias}, {at(y, f'i * {n}')});\n}}")
    elif count > 1:
        c.line(f"@dense_rows({count}, {n}, {k}, {operands[0]}, {weight}, {bias}, {y});")
    else:
        c.line(f"@dense({n}, {k}, {operands[0]}, {weight}, {n}, {bias}, {y});")
    activate(c, node.activation, count * n, y)


def _embedding(c: Writer, step: Step, operands: list[str], y: str) -> None:
    below, layer = c.node(step.node.operands[0]), step.layer
    assert layer is not None
    if below.operation != "ids":
        _dense(c, step, operands, y)
        return
    apart = 0 if layer.combine == "sum" else layer.units
    function = "look_up_hashed" if below.hash else "look_up"
    weight = c.parameter(step, "weight")
    c.line(f"@{function}({below.width}, {operands[0]}, {layer.inputs}, {layer.units}, {weight}, {apart}, {y});")


def _activation(c: Writer, step: Step, operands: list[str], y: str) -> None:
    size = positions(step.node) * step.node.width
    copy(c, size, operands[0], y)
    activate(c, step.node.activation, size, y)


def _arithmetic(c: Writer, step: Step, operands: list[str], y: str) -> None:
    size = positions(step.node) * step.node.width
    copy(c, size, operands[0], y)
    for operand in operands[1:]:
        c.line(f"@{step.node.operation}({size}, {y}, {operand});")


def _concat(c: Writer, step: Step, operands: list[str], y: str) -> None:
    node, column = step.node, 0
    for operand, x in zip(node.operands, operands):
        width = c.node(operand).width
        c.line(each(positions(node), f"memcpy({{}}, {{}}, {width} * sizeof(float));", (at(y, column), node.width), (x, width)))
        column += width


def _slice(c: Writer, step: Step, operands: list[str], y: str) -> None:
    node = step.node
    assert node.columns is not None
    width = c.node(node.operands[0]).width
    moving = (y, node.width), (at(operands[0], node.columns[0]), width)
    c.line(each(positions(node), f"memcpy({{}}, {{}}, {node.width} * sizeof(float));", *moving))


def _layer_norm(c: Writer, step: Step, operands: list[str], y: str) -> None:
    assert step.layer is not None
    n = step.node.width
    arguments = f"{c.parameter(step, 'weight')}, {c.parameter(step, 'bias')}, {step.layer.eps!r}"
    c.line(each(positions(step.node), f"@layer_norm({n}, {{}}, {arguments}, {{}});", (operands[0], n), (y, n)))


def _by_rows(*functions: tuple[str, str]) -> Emitter:
    """Functions of a row and a tensor of the layer, which has it or not."""

    def emit(c: Writer, step: Step, operands: list[str], y: str) -> None:
        n, count = step.node.width, positions(step.node)
        copy(c, n * count, operands[0], y)
        for function, tensor in functions:
            if tensor in step.tensors:
                c.line(each(count, f"@{function}({n}, {{}}, {c.parameter(step, tensor)});", (y, n)))

    return emit


EMITTERS: dict[str, Emitter] = {
    "dense": _dense,
    "embedding": _embedding,
    "activation": _activation,
    "add": _arithmetic,
    "subtract": _arithmetic,
    "multiply": _arithmetic,
    "concat": _concat,
    "slice": _slice,
    "layer_norm": _layer_norm,
    "scale": _by_rows(("multiply", "weight"), ("add", "bias")),
    "standardize": _by_rows(("subtract", "mean"), ("divide", "std")),
}
# Kinds that read an element of their first operand only to write the same element, or that have read all before
OVER = {"activation", "add", "subtract", "multiply", "layer_norm", "scale", "standardize"}


VIEWS = {"dropout", "noise", "grid", "last"}  # kinds whose value is in the memory of their operand's


def view(node: NodeInfo, below: NodeInfo) -> int | None:
    """How far after its operand's value a node's value begins, if it is in the same memory; else None."""
    if node.operation in VIEWS:
        return (positions(below) - 1) * below.width if node.operation == "last" else 0
    if node.operation == "slice" and positions(node) == 1:
        assert node.columns is not None
        return node.columns[0]
    return None
