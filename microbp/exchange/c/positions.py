"""How nodes are written that mix positions: windows, pools and recurrent layers."""

from __future__ import annotations

import numpy as np

from ...network.records import NodeInfo
from ..shared.steps import Step
from .formulas import PARTS, parts
from .nodes import EMITTERS, ROWS_AT_ONCE, positions
from .writer import Writer, at

PARTS |= parts("""
/* The numbers under a window. g: height, width and channels of x; places across; size, stride, pad, dilation. */
static void @patch(const int32_t *g, const float *x, int i, int j, float *y) {
    const int c = (int)g[2], left = (int)(j * g[7] - g[9]), whole = g[11] == 1 && left >= 0 && left + g[5] <= g[1];
    for (int k = 0; k < g[4]; k++, y += g[5] * c) {
        const int row = (int)(i * g[6] - g[8] + k * g[10]), inside = row >= 0 && row < g[0];
        if (whole && inside) {
            memcpy(y, x + (row * g[1] + left) * c, (size_t)g[5] * (size_t)c * sizeof(float));
            continue;
        }
        for (int l = 0; l < g[5]; l++) {
            const int column = (int)(left + l * g[11]);
            for (int m = 0; m < c; m++)
                y[l * c + m] = inside && column >= 0 && column < g[1] ? x[(row * g[1] + column) * c + m] : 0;
        }
    }
}

/* The largest number under a window: the first of equal ones, or NaN. */
static void @pool_max(const int32_t *g, const float *x, int i, int j, float *y) {
    const int c = (int)g[2];
    x += (i * g[6] * g[1] + j * g[7]) * c;
    for (int m = 0; m < c; m++)
        y[m] = x[m];
    for (int k = 0; k < g[4]; k++)
        for (int l = k == 0; l < g[5]; l++) {
            const float *v = x + (k * g[1] + l) * c;
            for (int m = 0; m < c; m++)
                y[m] = v[m] <= y[m] || y[m] != y[m] ? y[m] : v[m];
        }
}

static void @pool_mean(const int32_t *g, const float *x, int i, int j, float *y) {
    const int c = (int)g[2];
    x += (i * g[6] * g[1] + j * g[7]) * c;
    for (int m = 0; m < c; m++)
        y[m] = x[m];
    for (int k = 0; k < g[4]; k++)
        for (int l = k == 0; l < g[5]; l++)
            for (int m = 0; m < c; m++)
                y[m] += x[(k * g[1] + l) * c + m];
    for (int m = 0; m < c; m++)
        y[m] /= (float)(g[4] * g[5]);
}

/* h (and c after it) before the first position. */
static void @first_state(int n, const float *state, float *s) {
    for (int j = 0; j < n; j++)
        s[j] = state ? state[j] : 0;
}

/* n positions of k columns; w: the rows of x, then those of h; s: h, then what a step needs. */
static void @cell_tanh(int n, int k, int u, int reverse, const float *x, const float *w, const float *b,
    const float *state, float *s, float *y) {
    const float *h = s;
    @first_state(u, state, s);
    for (int i = 0; i < n; i++) {
        const int at = reverse ? n - 1 - i : i;
        @dense(u, k, x + at * k, w, u, b, y + at * u);
        @dense(u, u, h, w + k * u, u, y + at * u, y + at * u);
        @map_tanh(u, y + at * u);
        h = y + at * u;
    }
}

static void @cell_gru(int n, int k, int u, int reverse, const float *x, const float *w, const float *b,
    const float *state, float *s, float *y) {
    const float *h = s, *v = w + 3 * k * u;
    float *z = s + u;
    @first_state(u, state, s);
    for (int i = 0; i < n; i++) {
        const int at = reverse ? n - 1 - i : i;
        float *out = y + at * u;
        @dense(3 * u, k, x + at * k, w, 3 * u, b, z);
        @dense(2 * u, u, h, v, 3 * u, z, z);
        @dense(u, u, h, v + 2 * u, 3 * u, b ? b + 3 * u : b, z + 3 * u);
        @map_sigmoid(2 * u, z);
        for (int j = 0; j < u; j++)
            z[2 * u + j] += z[j] * z[3 * u + j];
        @map_tanh(u, z + 2 * u);
        for (int j = 0; j < u; j++)
            out[j] = (h[j] - z[2 * u + j]) * z[u + j] + z[2 * u + j];
        h = out;
    }
}

static void @cell_lstm(int n, int k, int u, int reverse, const float *x, const float *w, const float *b,
    const float *state, float *s, float *y) {
    const float *h = s;
    float *c = s + u, *z = s + 2 * u;
    @first_state(2 * u, state, s);
    for (int i = 0; i < n; i++) {
        const int at = reverse ? n - 1 - i : i;
        float *out = y + at * u;
        @dense(4 * u, k, x + at * k, w, 4 * u, b, z);
        @dense(4 * u, u, h, w + 4 * k * u, 4 * u, z, z);
        @map_sigmoid(2 * u, z);
        @map_tanh(u, z + 2 * u);
        @map_sigmoid(u, z + 3 * u);
        for (int j = 0; j < u; j++) {
            c[j] = c[j] * z[u + j] + z[j] * z[2 * u + j];
            out[j] = c[j];
        }
        @map_tanh(u, out);
        for (int j = 0; j < u; j++)
            out[j] *= z[3 * u + j];
        h = out;
    }
}
""")
_SCRATCH = {"tanh": 1, "gru": 5, "lstm": 6}  # times the units


def geometry(c: Writer, node: NodeInfo) -> str:
    """The numbers of a window or a pool, as an array of the file."""
    below, window = c.node(node.operands[0]), node.window
    assert window is not None
    high, wide = (1, 1, *below.grid)[-2:]
    numbers = [high, wide, below.width, node.grid[-1] if node.grid else 1, *window.size, *window.stride, *window.pad, *window.dilation]
    return c.array(np.array(numbers, np.int32), "a window")


def _places(function: str, c: Writer, step: Step, operands: list[str], y: str) -> None:
    node = step.node
    count, across = positions(node), node.grid[-1] if node.grid else 1
    text = f"@{function}({geometry(c, node)}, {operands[0]}, i / {across}, i % {across}, {at(y, f'i * {node.width}')});"
    c.line(f"for (int i = 0; i < {count}; i++) {text}")


def _window(c: Writer, step: Step, operands: list[str], y: str) -> None:
    _places("patch", c, step, operands, y)


def _pool(c: Writer, step: Step, operands: list[str], y: str) -> None:
    assert step.node.window is not None
    _places(f"pool_{step.node.window.kind}", c, step, operands, y)


def _repeat(c: Writer, step: Step, operands: list[str], y: str) -> None:
    node = step.node
    to = at(y, f"i * {node.width}")
    c.line(f"for (int i = 0; i < {positions(node)}; i++) memcpy({to}, {operands[0]}, {node.width} * sizeof(float));")


def _recurrent(c: Writer, step: Step, operands: list[str], y: str) -> None:
    node, layer = step.node, step.layer
    assert layer is not None and layer.cell is not None
    k, state = c.node(node.operands[0]).width, operands[1] if len(operands) > 1 else "NULL"
    own = f"{positions(node)}, {k}, {node.width}, {int(bool(node.reverse))}, {operands[0]}"
    tensors = f"{c.parameter(step, 'weight')}, {c.parameter(step, 'bias')}"
    c.line(f"@cell_{layer.cell}({own}, {tensors}, {state}, {c.scratch(step, _SCRATCH[layer.cell] * node.width)}, {y});")


EMITTERS |= {"window": _window, "pool": _pool, "repeat": _repeat, "recurrent": _recurrent}


def scratch(node: NodeInfo, below: NodeInfo | None, cell: str | None, gathered: bool) -> int:
    """The floats that a node needs only while it is computed."""
    if cell:
        return _SCRATCH[cell] * node.width
    return ROWS_AT_ONCE * below.width if gathered and below else 0
