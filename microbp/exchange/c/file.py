"""The C file of a network while it is made."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version

import numpy as np

from ...data.arrays import Array
from ...network.network import Network
from ...network.records import OutputInfo
from ...tables.preparation import Preparation
from ..shared.steps import refuse, steps
from . import positions, prepare
from .formulas import PARTS, needed, with_prefix
from .nodes import EMITTERS, OVER, VIEWS, copy, finish, view
from .numbers import comment, constant, how_many, literals
from .places import Need, plan
from .writer import Writer, at

_FUNCTION = re.compile(r"^((?!static\b|typedef\b)[a-z][^\n(;]*@\w+\([^\n)]*\)) \{$", re.MULTILINE)
BOUND = 1e-4  # of model_check, times the largest expected number of an output (at least 1)


class Source(Writer):
    """A file that predicts. The settings are those of `c_source`."""

    reuses = True  # whether a node may take the place of a value that nothing reads any more

    def __init__(
        self, net: Network, preparation: Preparation | None, weights: Sequence[float] | None, raw: bool, name: str, header: bool
    ) -> None:
        super().__init__(net)
        self.preparation, self.weights, self.raw, self.name, self.header = preparation, weights, raw, name, header
        self.steps = [step for step in steps(net) if step.node.operation not in ("input", "ids")]
        self.floats = 0  # of scratch
        self.has_ids = any(entry.levels for entry in net.inputs)
        self.has_numbers = any(not entry.levels for entry in net.inputs)
        self.is_wide = any(entry.hash for entry in net.inputs)
        for step in self.steps:
            if step.node.operation not in EMITTERS and step.node.operation not in VIEWS:
                raise refuse("C", step, "C has no text for such a node yet")

    # ---- where values are ----

    @cached_property
    def _outputs(self) -> list[OutputInfo]:
        return self.net.outputs

    @property
    def members(self) -> int:
        """Of an ensemble; else 1."""
        return len(self.weights) if self.weights else 1

    @property
    def results(self) -> str:
        """Where outputs are: of an ensemble first in an array of all members'."""
        return "y" if self.members == 1 else "o"

    @property
    def inputs_size(self) -> int:
        """The numbers of x."""
        return sum(entry.width for entry in self.net.inputs if not entry.levels)

    @property
    def outputs_size(self) -> int:
        """The numbers of y."""
        return sum(math.prod(output.row_shape) for output in self._outputs) // self.members

    def arrange(self) -> None:
        """Gives every node its place."""
        x = ids = y = 0
        for entry in self.net.inputs:
            if entry.levels:
                self.place[entry.node], ids = at("ids", ids), ids + entry.width
            else:
                self.place[entry.node], x = at("x", x), x + entry.width
        ends: dict[int, str] = {}
        for output in self._outputs if self.reuses else ():
            ends.setdefault(output.node, at(self.results, y))
            y += math.prod(output.row_shape)
        roots, last = self._lifetimes()
        needs = []
        for step in self.steps:
            node = step.node
            has_own = roots[node.node] == (node.node, 0)
            size = math.prod(node.row_shape) if has_own and node.node not in ends else 0
            below = self.node(node.operands[0])
            cell = step.layer.cell if step.layer else None
            scratch = positions.scratch(node, below, cell, below.node in self.gathered)
            over = roots[below.node][0] if node.operation in OVER and node.operands.count(below.node) == 1 else None
            over = over if over is not None and roots[below.node] == (over, 0) and roots[below.node][0] == below.node else None
            needs.append(Need(node.node, size, last[node.node], scratch, over))
        values, self._scratch, self.floats = plan(needs, self.reuses)
        for step in self.steps:
            number = step.node.node
            root, offset = roots[number]
            if root == number:
                self.place[number] = ends.get(number) or at("s", values[number])
            else:
                self.place[number] = at(self.place[root], offset)

    def _lifetimes(self) -> tuple[dict[int, tuple[int, int]], dict[int, int]]:
        """For each node, the node in whose memory it is and where in it; and the last step that reads its memory."""
        ends = {output.node for output in self._outputs}
        readers: dict[int, set[str]] = {}
        for step in self.steps:
            for operand in step.node.operands:
                readers.setdefault(operand, set()).add(step.node.operation)
        roots = {entry.node: (entry.node, 0) for entry in self.net.inputs}
        for step in self.steps:
            node, below = step.node, self.node(step.node.operands[0])
            offset = view(node, below)
            if node.operation == "window" and node.node not in ends and readers.get(node.node) == {"dense"}:
                self.gathered[node.node] = positions.geometry(self, node)
                offset = 0
            root, start = roots[below.node]
            roots[node.node] = (node.node, 0) if offset is None else (root, start + offset)
        last: dict[int, int] = {}
        for i, step in enumerate(self.steps):
            last |= dict.fromkeys((roots[number][0] for number in (step.node.node, *step.node.operands)), i)
        last |= {roots[end][0]: len(self.steps) for end in ends}
        return roots, {node: last.get(root, 0) for node, (root, _) in roots.items()}

    # ---- functions ----

    def compute(self) -> None:
        """Writes the values of all nodes."""
        for step in self.steps:
            node = step.node
            if node.node not in self.gathered and view(node, self.node(node.operands[0])) is None:
                EMITTERS[node.operation](self, step, [self.place[operand] for operand in node.operands], self.place[node.node])

    def collect(self) -> None:
        """Writes raw outputs where predictions will be. All of them first, since one may be in the memory of another."""
        start = 0
        for output in self._outputs:
            size = math.prod(output.row_shape)
            copy(self, size, self.place[output.node], at(self.results, start))
            start += size

    def finish(self) -> None:
        """Writes predictions over raw outputs."""
        start = 0
        for output in self._outputs:
            size = math.prod(output.row_shape)
            if not self.raw:
                finish(self, output, size, at(self.results, start))
            start += size
        if self.weights and self.members > 1:
            self._mean(self.weights)

    def _mean(self, weights: Sequence[float]) -> None:
        """Writes the mean of the members' outputs, which are one after the other."""
        size = self.outputs_size
        terms = [f"(double)o[{i * size} + j] * {weight!r}" for i, weight in enumerate(weights)]
        self.line(f"for (int j = 0; j < {size}; j++) {{\n    double sum = {terms[0]};")
        self.lines += [f"        sum += {term};" for term in terms[1:]]
        self.line(f"    y[j] = (float)(sum / {sum(weights)!r});\n}}")

    @property
    def arguments(self) -> str:
        """The arguments of model_predict."""
        ids = "const int64_t *ids" if self.is_wide else "const int32_t *ids"
        return ", ".join([*(["const float *x"] if self.has_numbers else []), *([ids] if self.has_ids else []), "float *y"])

    def predict(self) -> str:
        """The text of model_predict."""
        self.arrange()
        self.compute()
        self.collect()
        if self.floats:  # the scratch is free when raw outputs are there
            self.lines = ["    {", f"        float s[{self.floats}];", *(f"    {line}" for line in self.lines), "    }"]
        self.finish()
        body = "\n".join(self.lines)
        unused = [f"    (void){one};" for one in ("x",) * self.has_numbers + ("ids",) * self.has_ids if not _uses(body, one)]
        results = [f"    float o[{self.members * self.outputs_size}];"] * (self.members > 1)
        return "\n".join([f"{self.linkage}void @predict({self.arguments}) {{", *results, *unused, body, "}"])

    @property
    def linkage(self) -> str:
        """What is before a function that callers use."""
        return "static inline " if self.header else ""

    def check(self, call: str = "@predict") -> str:
        """The text of model_check: one row and what the library predicts for it."""
        x, ids, expected = self.example()
        lines = [f"{self.linkage}int @check(void) {{"]
        names = []
        if self.has_numbers:
            lines.append(constant("x", x))
            names.append("x")
        if self.has_ids:
            lines.append(constant("ids", ids))
            names.append("ids")
        bounds: list[float] = []
        for output in self._outputs[: len(self._outputs) // self.members]:
            size = math.prod(output.row_shape)
            part = expected[len(bounds) : len(bounds) + size]
            bounds += [max(1.0, float(np.abs(part).max())) * BOUND] * size
        lines += [constant("expected", expected), f"    float y[{len(expected)}];"]
        lines.append(f"    {call}({', '.join([*names, 'y'])});")
        bound = literals(np.array([max(bounds)], np.float32))[0]
        lines.append(f"    for (int j = 0; j < {len(expected)}; j++)")
        lines.append(f"        if (!(y[j] - expected[j] <= {bound} && expected[j] - y[j] <= {bound})) return j + 1;")
        return "\n".join([*lines, "    return 0;", "}"])

    def example(self) -> tuple[Array, Array, Array]:
        """A row of numbers, one of ids, and the predictions for it."""
        random = np.random.default_rng(0)
        rows = [
            random.integers(0, entry.levels, (1, entry.width)) if entry.levels else random.normal(size=(1, entry.width)).astype(np.float32)
            for entry in self.net.inputs
        ]
        shaped = [row.reshape(1, *entry.row_shape) for row, entry in zip(rows, self.net.inputs)]
        found = self.net.predict(shaped if len(shaped) > 1 else shaped[0], raw=self.raw)
        outputs = [np.ravel(one) for one in (found if isinstance(found, list) else [found])]
        if self.weights:
            each = len(outputs) // self.members
            total = sum(self.weights)
            outputs = [
                np.asarray(sum(w * one.astype(np.float64) for w, one in zip(self.weights, outputs[i::each])) / total) for i in range(each)
            ]
        expected = np.concatenate(outputs).astype(np.float32)
        if not np.isfinite(expected).all():
            raise ValueError("C: the network's predictions are not finite: there is nothing to check the file with")
        numbers = [row.ravel() for row, entry in zip(rows, self.net.inputs) if not entry.levels]
        ids = [row.ravel() for row, entry in zip(rows, self.net.inputs) if entry.levels]
        wide = np.int64 if self.is_wide else np.int32
        return (
            np.concatenate(numbers) if numbers else np.zeros(0, np.float32),
            np.concatenate(ids).astype(wide) if ids else np.zeros(0, wide),
            expected,
        )

    # ---- the file ----

    def text(self) -> str:
        """The whole file."""
        functions = [self.predict(), self.check()]
        if self.preparation is not None:
            functions += prepare.functions(self.preparation, self.linkage, self.raw)
        return frame(self.name, self.header, self.head(), [*self.constants.values(), *functions], self.own_parts())

    def own_parts(self) -> dict[str, str]:
        """Parts that only this file has."""
        return {"id": f"typedef int{64 if self.is_wide else 32}_t @id;"}

    def head(self) -> str:
        """The first comment."""
        name, net = self.name, self.net
        at_x = at_ids = start = 0
        lines = [f"{name}: predictions of a neural network, written by microbp {version('microbp')}.", ""]
        for i, entry in enumerate(net.inputs):
            shape = " x ".join(map(str, entry.row_shape))
            if entry.levels:
                what = "any whole numbers, which are hashed" if entry.hash else f"whole numbers from 0 to {entry.levels - 1}"
                lines.append(f"    input {i}: ids[{at_ids}] to ids[{at_ids + entry.width - 1}], {what}")
                at_ids += entry.width
            else:
                lines.append(f"    input {i}: x[{at_x}] to x[{at_x + entry.width - 1}], {how_many(shape)}")
                at_x += entry.width
        for i, output in enumerate(self._outputs[: len(self._outputs) // self.members]):
            size = math.prod(output.row_shape)
            what = "raw" if self.raw else output.activation or "identity"
            unit = "" if self.raw or output.mean is None else ", in the unit of the targets"
            lines.append(
                f"    output {i}: y[{start}] to y[{start + size - 1}], {how_many(' x '.join(map(str, output.row_shape)))}, {what}{unit}"
            )
            start += size
        products = sum(
            step.tensors["weight"].size * math.prod(step.node.grid) for step in self.steps if step.node.operation in ("dense", "recurrent")
        )
        scratch = 4 * (self.floats + self.outputs_size * (self.members if self.members > 1 else 0))
        lines += [
            "",
            f"{name}_check returns 0, or 1 + the first output that is off.",
            f"Memory: {self.bytes} bytes of constants, {scratch} bytes of scratch on the stack. Multiply-adds: {products}.",
            "y must not overlap x. Several threads may call the functions at once.",
            "Computed in float, with the library's formulas in its order: with -ffp-contract=off the results have the bits of its",
            "kernels without fused multiply-adds. exp is within 2 units in the last place, tanh and the sigmoid within 3, others within 6.",
        ]
        if net.dtype == np.float64:
            lines.append("The network has float64 parameters, which are rounded here.")
        return "\n".join(lines)


def _uses(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w@]){word}\b", text) is not None  # and not a name of the file's


def _declarations(texts: Sequence[str]) -> list[str]:
    """The functions of texts that are not static, and the types that their arguments have."""
    functions = [found for text in texts for found in _FUNCTION.findall(text)]
    trainers = any("@trainer" in function for function in functions)
    types = [text for text in texts if re.match(r"typedef struct @(running|trainer)\b", text)] if trainers else []
    return [*(line for text in types for line in re.sub(r" /\*.*?\*/", "", text).split("\n")), *(f"{function};" for function in functions)]


def frame(name: str, header: bool, head: str, texts: Sequence[str], own: dict[str, str] | None = None) -> str:
    """A file: its first comment, the parts that the texts need, and the texts."""
    known = PARTS | (own or {})
    chosen = [known[part] for part in needed(texts, known)]
    lines = [f" * {comment(line)}".rstrip() for line in head.split("\n")]
    if not header:
        lines += [" *", " * For other files that call it:", " *", *(f" *     {line}" for line in _declarations([*chosen, *texts]))]
    start = ["/*" + lines[0][2:], *lines[1:], " */"]
    guard = f"{name}_H"
    if header:
        start += [f"#ifndef {guard}", f"#define {guard}"]
    start += ["#include <stddef.h>", "#include <stdint.h>", "#include <string.h>"]
    if not header:
        start += ["#ifdef __cplusplus", 'extern "C" {', "#endif"]
    end = ["#endif"] if header else ["#ifdef __cplusplus", "}", "#endif"]
    return with_prefix("\n".join([*start, "", "\n\n".join([*chosen, *texts]), "", *end]) + "\n", name)
