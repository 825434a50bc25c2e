"""Training in C files: the gradients of one row after the other, then the update of an optimizer, with the library's formulas."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from ...core.specs import OptimizerSpec, table
from ...core.text import brief
from ...network.layers import Activation
from ...network.network import Network
from ...network.records import OutputInfo
from ...tables.preparation import Preparation
from ..shared.steps import Step, refuse, steps
from .file import Source, frame
from .formulas import PARTS, ROWS, parts
from .nodes import EMITTERS, activate, copy, view
from .numbers import constant
from .writer import at

PARTS |= parts("""
/* The gradient of a weight of n units and k inputs, with that of a row more: x dz. */
static void @weight_gradient(int n, int k, const float *x, const float *dz, float *g) {
    for (int i = 0; i < k; i++)
        for (int j = 0; j < n; j++)
            g[i * n + j] += x[i] * dz[j];
}

/* m numbers of dx = dz W^T, or of dx plus that: chains that a processor can add at the same time. */
@INLINE void @chains(const int m, int n, const float *dz, const float *w, int adds, float *dx) {
    float sum[8];
    for (int i = 0; i < m; i++)
        sum[i] = adds ? dx[i] : 0;
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++)
            sum[i] += dz[j] * w[i * n + j];
    for (int i = 0; i < m; i++)
        dx[i] = sum[i];
}

static void @operand_gradient(int n, int k, const float *dz, const float *w, int adds, float *dx) {
    for (; k >= 8; k -= 8, w += 8 * n, dx += 8)
        @chains(8, n, dz, w, adds, dx);
    for (; k > 0; k--, w += n, dx++)
        @chains(1, n, dz, w, adds, dx);
}

/* dx of a layer norm, or dx plus that; gamma and beta get the gradients of a row more. */
static void @layer_norm_gradient(int n, const float *x, const float *dy, const float *gamma, double eps, float *dgamma, float *dbeta,
                                 int adds, float *dx) {
    double inverse, sums[2][16] = {{0}, {0}};
    const double mean = @row_statistics(n, x, eps, &inverse);
    for (int j = 0; j < n; j++) {
        const double g = (double)gamma[j] * (double)dy[j], hat = ((double)x[j] - mean) * inverse;
        sums[0][j % 16] += g;
        sums[1][j % 16] += g * hat;
        if (dgamma)
            dgamma[j] += (float)((double)dy[j] * hat);
        if (dbeta)
            dbeta[j] += dy[j];
    }
    const double sum = @sum_lanes(sums[0]), product = @sum_lanes(sums[1]);
    for (int j = 0; dx && j < n; j++) {
        const double hat = ((double)x[j] - mean) * inverse;
        const float d = (float)(inverse * ((double)gamma[j] * (double)dy[j] - sum / n - hat * (product / n)));
        dx[j] = adds ? dx[j] + d : d;
    }
}

/* The cross-entropy of softmax(o) and a class; its gradient times scale. */
static float @cross_entropy(int n, const float *o, float label, double scale, float *gradient) {
    const int chosen = label >= 0 && label < (float)n ? (int)label : 0;
    const float most = @row_max(n, o), excess = @row_exponentials(n, o, most, 1, gradient);
    const float factor = (float)(scale / (double)(1 + excess));
    for (int j = 0; j < n; j++)
        gradient[j] *= factor;
    gradient[chosen] -= (float)scale;
    return label == (float)chosen ? most - o[chosen] + @LOG1P(excess) : @NOT_A_NUMBER;
}
""")


LOSSES = {"softmax": "cross_entropy", "sigmoid": "bce", "identity": "mse", "exp": "poisson"}


def _named(letters: str, value: str) -> str:
    """Definitions for the letters of formulas.def that a formula uses."""
    texts = {"y": "kept[j]", "z": "kept[j]", "dy": "at[j]", "o": "output[j]", "t": "target[j]", "d": "output[j] - target[j]"}
    used = [f"{letter} = {texts[letter]}" for letter in letters.split() if re.search(rf"\b{letter}\b", value)]
    return f"const float {', '.join(used)};"


def _add_parts() -> None:
    for name, (keep, _, value) in ROWS["ACTIVATION"].items():
        settings = "".join(f", float {p}" for p in ("p0", "p1") if p in "".join(ROWS["ACTIVATION"][name]))
        arguments = {"p0": "p0" in settings, "p1": "p1" in settings, keep.lower(): True}
        unused = "".join(
            f"    (void){'kept' if letter in 'yz' else letter};\n"
            for letter, is_there in arguments.items()
            if is_there and not re.search(rf"\b{letter}\b", value)
        )
        PARTS[f"back_{name}"] = (
            f"static void @back_{name}(int n, const float *kept, float *at{settings}) {{\n{unused}    for (int j = 0; j < n; j++) {{\n"
            f"        {_named(f'{keep.lower()} dy', value)}\n        at[j] = {value};\n    }}\n}}"
        )
    for name in LOSSES.values():
        if name in ROWS["LOSS"]:
            value, derivative = (re.sub(r"\bp0\b", "0", re.sub(r"\bp1\b", "1", text)) for text in ROWS["LOSS"][name][3:])
            PARTS[f"loss_{name}"] = (
                f"static float @loss_{name}(int n, const float *output, const float *target, double scale, float *gradient) {{\n"
                f"    const float each = (float)(scale * (1 / (double)n));\n    float sum = 0;\n    for (int j = 0; j < n; j++) {{\n"
                f"        {_named('o t d', value + derivative)}\n        sum += {value};\n        gradient[j] = each * ({derivative});\n"
                "    }\n    return sum / (float)n;\n}"
            )


_add_parts()


class Training(Source):
    """Writes a file that can train. p: the parameters, laid out as net.params; g, d: the gradients of parameters and of nodes' values."""

    reuses = False

    def __init__(self, net: Network, raw: bool, name: str, header: bool) -> None:
        _check(net)
        super().__init__(net, None, None, raw, name, header)
        self.offsets = {(layer, tensor): offset for layer, tensor, offset, _, _ in net._core.tensors()}
        self.trained = {layer.name for layer in net.layers if not layer.frozen and layer.kind != "standardize"}
        self.z: dict[int, str] = {}
        self.delta: dict[int, str] = {}  # of the nodes whose gradient some parameter needs
        self.deltas = 0  # floats of d
        self.written: set[int] = set()  # nodes whose gradient has a value
        self.targets = 0
        self.meanings: list[str] = []  # of the targets of each output

    def parameter(self, step: Step, tensor: str) -> str:
        """Where a tensor is: trained, or a constant."""
        if step.layer is None or (step.layer.name, tensor) not in self.offsets:
            return super().parameter(step, tensor)
        return at("p", self.offsets[step.layer.name, tensor])

    def compute(self) -> None:
        """Writes the values of all nodes, and z where the derivative of an activation needs it."""
        for step in self.steps:
            node = step.node
            operands, y = [self.place[operand] for operand in node.operands], self.place[node.node]
            if (step.layer and step.layer.name in self.trained) or self.delta.keys() & set(node.operands):
                self.delta[node.node] = self._gradient_room(node.width)
            self.z[node.node] = operands[0]
            if node.operation == "dense" and ROWS["ACTIVATION"][Activation.parse(node.activation or "identity").name][0] == "Z":
                z = self.z[node.node] = at("s", self.floats)
                self.floats += node.width
                EMITTERS["dense"](self, step._replace(node=node._replace(activation="identity")), operands, z)
                copy(self, node.width, z, y)
                activate(self, node.activation, node.width, y)
            elif view(node, self.node(node.operands[0])) is None:
                EMITTERS[node.operation](self, step, operands, y)

    def _gradient_room(self, size: int) -> str:
        place, self.deltas = at("d", self.deltas), self.deltas + size
        return place

    # ---- what the backward pass of a node uses ----

    def gradient(self, step: Step, tensor: str) -> str | None:
        """Where the gradient of a tensor is; None: it is not trained."""
        if step.layer is None or step.layer.name not in self.trained or tensor not in step.tensors:
            return None
        return at("g", self.offsets[step.layer.name, tensor])

    def adds(self, operand: int) -> bool:
        """Whether the gradient of an operand has a value already; after this call it has."""
        found = operand in self.written
        self.written.add(operand)
        return found

    def each(self, count: int, text: str) -> None:
        """Adds a statement for each j."""
        self.line(f"for (int j = 0; j < {count}; j++)\n    {text}")

    def write(self, step: Step, i: int, value: str, first: int = 0, columns: int | None = None) -> None:
        """Stores in the gradient of the i-th operand, or adds to it: `value`, an expression of the column j."""
        operand = step.node.operands[i]
        if operand in self.delta:
            sign = "+=" if self.adds(operand) else "="
            self.each(columns or step.node.width, f"({at(self.delta[operand], first)})[j] {sign} {value};")

    def backward(self) -> None:
        """Writes the losses of a row, and the gradients from the last node to the first."""
        for output in self.net.outputs:
            self.targets += self._loss(output, at("target", self.targets))
        for step in reversed(self.steps):
            if step.node.node in self.delta:
                BACKWARD[step.node.operation](self, step)

    def updates(self, enters: str, decay: float) -> None:
        """Writes the updates of all tensors: neighbours with the same settings together."""
        layers = {layer.name: layer for layer in self.net.layers if layer.name in self.trained}
        spans: list[tuple[float, float, int, int]] = []
        for name, tensor, offset, inputs, outputs in sorted(self.net._core.tensors(), key=lambda row: row[2]):
            if name not in layers:
                continue
            layer = layers[name]
            rate = layer.bias_lr if tensor == "bias" and layer.bias_lr is not None else layer.lr
            decays = decay if tensor == "weight" and layer.kind == "dense" else 0.0
            end = offset + inputs * outputs
            if spans and spans[-1][:2] == (rate, decays) and spans[-1][3] == offset:
                offset = spans.pop()[2]
            spans.append((rate, decays, offset, end))
        for rate, decays, first, end in spans:
            lr = "t->lr" if rate == 1 else f"t->lr * {rate!r}"
            shrinks = f"(float)({lr} * {decays!r})" if enters == "DECOUPLED" else f"(float){decays!r}"
            if rate:
                self.line(f"@update(t, {lr}, {shrinks if decays else 0}, {first}, {end});")

    def _loss(self, output: OutputInfo, target: str) -> int:
        loss, n, value = LOSSES[output.activation or "identity"], output.width, self.place[output.node]
        gradient = self.delta.get(output.node) or self._gradient_room(n)
        self.written.add(output.node)
        self.meanings.append("the number of a class (cross_entropy)" if loss == "cross_entropy" else f"{n} numbers ({loss})")
        if loss == "cross_entropy":
            self.line(f"loss += @cross_entropy({n}, {value}, *({target}), share, {gradient});")
            return 1
        if output.mean and output.std:
            mean, std = (self.array(np.array(numbers, np.float64), "mean and std") for numbers in (output.mean, output.std))
            scaled = self._gradient_room(n)
            self.each(n, f"({scaled})[j] = (float)(((double)({target})[j] - {mean}[j]) / {std}[j]);")
            target = scaled
        self.line(f"loss += @loss_{loss}({n}, {value}, {target}, share, {gradient});")
        return n


def _j(place: str, first: int = 0) -> str:
    """The number in column j."""
    return f"({at(place, first)})[j]"


def _derive(c: Training, step: Step) -> None:
    """Makes dz of dy where it is."""
    node = step.node
    keeps = ROWS["ACTIVATION"][Activation.parse(node.activation or "identity").name][0]
    kept = c.place[node.node] if keeps == "Y" else c.z[node.node]
    activate(c, node.activation, node.width, c.delta[node.node], "back", kept)


def _dense(c: Training, step: Step) -> None:
    _derive(c, step)
    (operand,), dz = step.node.operands, c.delta[step.node.node]
    sizes = f"{step.node.width}, {c.node(operand).width}"
    if weight := c.gradient(step, "weight"):
        c.line(f"@weight_gradient({sizes}, {c.place[operand]}, {dz}, {weight});")
    if bias := c.gradient(step, "bias"):
        c.each(step.node.width, f"{_j(bias)} += {_j(dz)};")
    if operand in c.delta:
        c.line(f"@operand_gradient({sizes}, {dz}, {c.parameter(step, 'weight')}, {int(c.adds(operand))}, {c.delta[operand]});")


def _activation(c: Training, step: Step) -> None:
    _derive(c, step)
    c.write(step, 0, _j(c.delta[step.node.node]))


def _add(c: Training, step: Step) -> None:
    for i in range(len(step.node.operands)):
        c.write(step, i, _j(c.delta[step.node.node]))


def _subtract(c: Training, step: Step) -> None:
    for i, sign in enumerate(("", "-")):
        c.write(step, i, sign + _j(c.delta[step.node.node]))


def _multiply(c: Training, step: Step) -> None:
    for i, other in enumerate(reversed(step.node.operands)):
        c.write(step, i, f"{_j(c.delta[step.node.node])} * {_j(c.place[other])}")


def _concat(c: Training, step: Step) -> None:
    column = 0
    for i, operand in enumerate(step.node.operands):
        width = c.node(operand).width
        c.write(step, i, _j(c.delta[step.node.node], column), columns=width)
        column += width


def _slice(c: Training, step: Step) -> None:
    assert step.node.columns
    (operand,) = step.node.operands
    if operand in c.delta and not c.adds(operand):
        c.line(f"memset({c.delta[operand]}, 0, {c.node(operand).width} * sizeof(float));")
    c.write(step, 0, _j(c.delta[step.node.node]), step.node.columns[0])


def _scale(c: Training, step: Step) -> None:
    (operand,), dy = step.node.operands, _j(c.delta[step.node.node])
    if gain := c.gradient(step, "weight"):
        c.each(step.node.width, f"{_j(gain)} += {dy} * {_j(c.place[operand])};")
    if bias := c.gradient(step, "bias"):
        c.each(step.node.width, f"{_j(bias)} += {dy};")
    c.write(step, 0, f"{dy} * {_j(c.parameter(step, 'weight'))}" if "weight" in step.tensors else dy)


def _standardize(c: Training, step: Step) -> None:
    c.write(step, 0, f"{_j(c.delta[step.node.node])} / {_j(c.parameter(step, 'std'))}")


def _layer_norm(c: Training, step: Step) -> None:
    assert step.layer
    (operand,), n = step.node.operands, step.node.width
    gradients = ", ".join(c.gradient(step, tensor) or "NULL" for tensor in ("weight", "bias"))
    to = f"{int(c.adds(operand))}, {c.delta.get(operand, 'NULL')}"
    read = f"{c.place[operand]}, {c.delta[step.node.node]}, {c.parameter(step, 'weight')}"
    c.line(f"@layer_norm_gradient({n}, {read}, {step.layer.eps!r}, {gradients}, {to});")


BACKWARD: dict[str, Callable[[Training, Step], None]] = {
    "dense": _dense,
    "activation": _activation,
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "concat": _concat,
    "slice": _slice,
    "scale": _scale,
    "standardize": _standardize,
    "layer_norm": _layer_norm,
}


def _check(net: Network) -> None:
    """ValueError: the network has something that files do not train."""
    for step in steps(net):
        node, layer = step.node, step.layer
        if node.operation not in (*BACKWARD, "input"):
            raise refuse("training in C", step, f"only {', '.join(BACKWARD)} can be trained there")
        if node.grid:
            raise refuse("training in C", step, "it has several positions")
        for setting, value in (("l1", layer.l1), ("l2", layer.l2), ("max_norm", layer.max_norm)) if layer else ():
            if value:
                raise refuse("training in C", step, f"its layer has {setting}, which is not done there")


def _optimizer(spec: str) -> tuple[list[str], list[float], float]:
    """The row of an optimizer, its settings in order, and its weight decay."""
    name = spec.partition("(")[0].strip()
    if name not in ROWS["OPTIMIZER"]:
        raise ValueError(f"training in C: {brief(name)} is not there; choose one of {', '.join(ROWS['OPTIMIZER'])}")
    chosen = OptimizerSpec.parse(spec)
    defaults = {key: valid.default for key, valid in table("optimizer")[chosen.name].parameters.items()}
    settings = defaults | chosen.parameters
    if settings.pop("decay_bias"):
        raise ValueError("training in C: decay_bias=1 is not there")
    return ROWS["OPTIMIZER"][chosen.name], list(settings.values()), settings["weight_decay"]


_FUNCTIONS = """\
static void @forward(const float *p, const float *x, float *s) {{
{forward}
}}

{linkage}void @predict(const float *p, const float *x, float *y) {{
    float s[{floats}];
    @forward(p, x, s);
{collect}
{finish}
}}

/* Starts with the parameters and the learning rate of the file. */
{linkage}void @train_init(@trainer *t) {{
    memset(t, 0, sizeof *t);
    memcpy(t->parameter, @start, sizeof t->parameter);
    t->lr = {lr!r};
    t->run.power[0] = t->run.power[1] = 1;
}}

/* Adds the gradients of a row, times share, to g, and returns its loss. */
static float @gradients(const float *p, const float *x, const float *target, double share, float *g) {{
    float s[{floats}], d[{deltas}], loss = 0;
    @forward(p, x, s);
{backward}
    return loss;
}}

static void @update(@trainer *t, double lr, float decay, int from, int to) {{
    const double h[] = {{lr{settings}}};
    double constant[6] = {{0, 0, 0, 0, 0, 0}};
    float c[6], *const p = t->parameter, *const g = t->gradient;
    {prepare}(h, &t->run, constant);
    for (int i = 0; i < 6; i++)
        c[i] = (float)constant[i];
    for (int i = from; i < to; i++) {{
        float s[] = {{{slots}}};
        p[i] = {step}({inner}, s, c);{keep}
    }}
}}

/* A step of training on `rows` rows of x and of targets. Returns the mean of their losses before the step. If that or a
   gradient is not finite, no parameter changes. */
{linkage}float @train(@trainer *t, const float *x, const float *target, int rows) {{
    const double h[] = {{t->lr{settings}}};
    float loss = 0, *const g = t->gradient;
    int is_bad = rows < 1;
    memset(g, 0, sizeof t->gradient);
    for (int i = 0; i < rows; i++, x += {inputs}, target += {targets})
        loss += @gradients(t->parameter, x, target, 1 / (double)rows, g);
    for (int i = 0; i < {count}; i++)
        is_bad |= !(g[i] - g[i] == 0);
    if (is_bad || !(loss - loss == 0))
        return loss / (float)rows;
    t->run.steps++;
    {powers}(h, &t->run);
{updates}
    return loss / (float)rows;
}}"""


def trained_source(
    net: Network,
    preparation: Preparation | None,
    weights: Sequence[float] | None,
    spec: str,
    *,
    raw: bool,
    name: str,
    header: bool,
) -> str:
    """The text of a file that predicts and trains. spec: the text of an optimizer."""
    if weights:
        raise ValueError(f"training in C: only a single network can be trained, not an ensemble of {len(weights)}; export one of its nets")
    if preparation is not None:
        raise ValueError("training in C: the file takes features, not the columns of a table; export model.net, or give --features")
    (slots, powers, enters, prepare, step), settings, decay = _optimizer(spec)
    c = Training(net, raw, name, header)
    c.arrange()
    texts: dict[str, str] = {}
    writers = {"forward": c.compute, "collect": c.collect, "finish": c.finish, "backward": c.backward}
    for part, write in writers.items():
        c.lines = []
        write()
        texts[part] = "\n".join(c.lines)
    c.lines = []
    c.updates(enters, decay)
    if not c.lines:
        raise ValueError("training in C: no parameter would change: unfreeze a layer, or export the network without train")
    count, names = len(net.params), slots.split()
    size = 4 * count * (2 + len(names))
    functions = _FUNCTIONS.format(
        **texts,
        updates="\n".join(c.lines),
        linkage=c.linkage,
        floats=c.floats,
        deltas=c.deltas,
        inputs=c.inputs_size,
        targets=c.targets,
        count=count,
        lr=settings[0],
        settings="".join(f", {value!r}" for value in settings[1:]),
        powers=powers,
        prepare=prepare,
        step=step,
        inner="p[i] - decay * p[i], g[i]" if enters == "DECOUPLED" else "p[i], g[i] + decay * p[i]",
        slots=", ".join(f"t->slot[{i}][i]" for i in range(len(names))) or "0",
        keep="".join(f"\n        t->slot[{i}][i] = s[{i}];" for i in range(len(names))),
    )
    room = f"    float slot[{len(names)}][{count}]; /* {slots} */\n" if names else ""
    start = constant("@start", net.params.astype(np.float32))
    check = c.check().replace("@predict(", "@predict(@start, ")
    c.bytes += 4 * count
    head = f"""{c.head()}

It trains too, with {OptimizerSpec.parse(spec).text}.
{name}_train_init(&t) starts a {name}_trainer t, which is memory of the caller: about {size} bytes.
{name}_train(&t, x, targets, rows) is a step, and returns the loss before it. The targets of a row: {", ".join(c.meanings)}.
t.parameter, which {name}_predict reads, is laid out as net.params of microbp. You may change t.lr, the learning rate. Functions take up to
{4 * (c.floats + c.deltas)} bytes of stack."""
    fields = f"    float parameter[{count}];\n{room}    float gradient[{count}];\n    double lr;\n    @running run;\n"
    trainer = f"typedef struct @trainer {{\n{fields}}} @trainer;"
    return frame(name, header, head, [*c.constants.values(), start, trainer, functions, check], {"trainer": "", "start": ""})
