"""The drawing of an explanation, as SVG: numbers in boxes, in columns from left to right, and lines between them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from .text import cut
from .text import short as plain
from .units import Row, Weight

_STYLE = Path(__file__).with_name("style.css").read_text("utf-8")
_W, _H, _MIDDLE, _R = 74, 38, 56, 13  # a box; between a sum and its activation; a circle
_HEAD, _LANE, _BETWEEN, _EDGE = 38, 10, 24, 12
_WIDE, _NARROW = 180, 100  # between columns, with and without labels of weights
_LANES = 12  # up to this many lines keep a distance where they pass a column
_LABELLED = 48  # up to this many lines have labels
_SMALL = 500  # up to this width, a drawing becomes smaller where there is little room; a larger one scrolls
_CHAR = 6.4  # the width of a letter of 12 px, about
TIMES = "\N{MULTIPLICATION SIGN}"
Point = tuple[float, float]
Label = tuple[int, list[Point], list[tuple[str, str]]]  # the unit where the line ends, the line, texts with their kinds


def short(value: float) -> str:
    """A number with a minus, which is longer than a hyphen."""
    return plain(value).replace("-", "\N{MINUS SIGN}")


@dataclass
class Block:
    """What has a place in a column: a node, whose groups are side by side; a 1, for the biases of a layer; or the lanes in which lines
    pass the column. y: the middle of its first row. above, foot: the space above that, and below the middle of the last row."""

    column: int
    rows: int
    pitch: float  # from row to row
    head: tuple[str, str] = ("", "")
    above: float = _HEAD + _H / 2
    foot: float = _H / 2
    operands: list[Block] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    hidden: int = 0
    is_one: bool = False
    y: float = 0.0

    @property
    def width(self) -> float:
        return max(len(self.groups) * (_W + _MIDDLE) - _MIDDLE, *(_CHAR * len(text) for text in self.head))

    @property
    def below(self) -> float:
        return (self.rows - 1) * self.pitch + self.foot


class Layout:
    """Where everything is."""

    def __init__(self, row: Row) -> None:
        self.row = row
        lines = sum(len(unit.terms) + len(unit.of("bias")) for unit in row.units)
        self.has_labels = lines <= _LABELLED
        most = max(len(unit.uses) for unit in row.units)  # the labels of a box's lines are one above the other
        self.pitch = max(_H + 14.0, 20.0 * (most + 1)) if self.has_labels else _H + 6.0
        self.of_group: list[Block] = []
        self.ones: dict[int, Block] = {}  # of each dense group with a bias
        blocks = self._blocks()
        self.columns: list[list[Block]] = [[] for _ in range(max(block.column for block in blocks) + 1)]
        for block in blocks:
            self.columns[block.column].append(block)
        self.lanes: dict[tuple[int, int], Block] = {}
        for block in blocks:
            for source in block.operands:
                for column in range(source.column + 1, block.column):
                    if (id(source), column) not in self.lanes:
                        pitch = _LANE if source.rows <= _LANES else 0.0
                        before = self.lanes.get((id(source), column - 1), source)
                        self.lanes[id(source), column] = lane = Block(
                            column, source.rows, pitch, above=_LANE, foot=_LANE, operands=[before]
                        )
                        self.columns[column].append(lane)
        self.x: list[Point] = []  # of each column: its begin and its end
        self._place()

    def _blocks(self) -> list[Block]:
        blocks: list[Block] = []
        for number, group in enumerate(self.row.groups):
            if group.sums is not None and list(group.units) == list(self.row.groups[group.sums].units):
                block = self.of_group[group.sums]
                block.head = group.name, f"sum, then {cut(group.detail, 20)}"
            else:
                operands = [self.of_group[operand] for operand in group.operands]
                column = 1 + max((block.column for block in operands), default=-1)
                head = cut(group.name, 26), cut(group.detail or group.kind, 26)
                hidden = len(group.grads) - len(group.units)
                block = Block(column, len(group.units), self.pitch, head, foot=_H / 2 + 16 * bool(hidden), operands=operands, hidden=hidden)
                blocks.append(block)
                if self.has_labels and any(unit.of("bias") for unit in self.row.units_of(group)):
                    self.ones[number] = Block(column - 1, 1, 0.0, ("1", "for the bias"), is_one=True)
                    blocks.append(self.ones[number])
            block.groups.append(number)
            self.of_group.append(block)
        return blocks

    def _place(self) -> None:
        x = float(_EDGE)
        for column in self.columns:
            end = x + max(block.width for block in column)
            self.x.append((x, end))
            x = end + (_WIDE if any(block.is_one for block in column) else _NARROW)
            column.sort(key=self._height)
            y = 0.0
            for block in column:
                block.y = y + block.above
                y = block.y + block.below + _BETWEEN
            for block in column:
                block.y -= y / 2
        blocks = [block for column in self.columns for block in column]
        top = min(block.y - block.above for block in blocks)
        for block in blocks:
            block.y += _EDGE - top
        self.width, self.height = self.x[-1][1] + _EDGE, max(block.y + block.below for block in blocks) + _EDGE

    def _height(self, block: Block) -> float:
        """The mean height of what a block is computed from: blocks of a column are sorted by it, so that few lines cross."""
        before = [self.lanes.get((id(one), block.column - 1), one) for one in block.operands]
        return math.inf if block.is_one else sum(one.y + (one.rows - 1) * one.pitch / 2 for one in before) / max(len(before), 1)

    def corner(self, u: int) -> Point:
        """The left end of a unit's box, in its middle."""
        number = self.row.units[u].group
        block = self.of_group[number]
        first = (sum(self.x[block.column]) - len(block.groups) * (_W + _MIDDLE) + _MIDDLE) / 2
        row = u - next(iter(self.row.groups[number].units.values()))
        return first + block.groups.index(number) * (_W + _MIDDLE), block.y + row * block.pitch

    def line(self, u: int, v: int) -> list[Point]:
        """The points of the line from one unit's box to another's."""
        (x, y), end = self.corner(u), self.corner(v)
        a, b = (self.of_group[self.row.units[one].group] for one in (u, v))
        if a is b:
            return [(x + _W, y), end]
        points = [(x + _W, y), (self.x[a.column][1], y)]
        for column in range(a.column + 1, b.column):
            lane = self.lanes[id(a), column]
            at = lane.y + round((y - a.y) / a.pitch) * lane.pitch
            points += [(self.x[column][0], at), (self.x[column][1], at)]
        return [*points, (self.x[b.column][0], end[1]), end]

    def line_of_bias(self, v: int) -> list[Point]:
        """That from the 1 of its layer."""
        one, end = self.ones[self.row.units[v].group], self.corner(v)
        column = self.of_group[self.row.units[v].group].column
        return [(sum(self.x[one.column]) / 2 + _R, one.y), (self.x[one.column][1], one.y), (self.x[column][0], end[1]), end]


class Drawing:
    """The elements of the drawing. data-s: the steps at which they are marked; numbers appear at the first of them."""

    def __init__(self, row: Row) -> None:
        self.row, self.layout, self.steps = row, Layout(row), row.steps()
        self.parts: list[str] = []
        self.taken: list[tuple[float, float, float, float]] = []  # places where labels must not be

    def svg(self) -> str:
        """The drawing."""
        for column in self.layout.columns:
            for block in column:
                self._block(block)
        labels = [label for v in range(len(self.row.units)) for label in self._lines(v)]
        for label in labels if self.layout.has_labels else []:
            self._label(*label)
        for u in range(len(self.row.units)):
            self._unit(u)
        return self._whole()

    def _lines(self, v: int) -> Iterator[Label]:
        """Draws the lines to a unit; gives their labels."""
        unit, units, layout = self.row.units[v], self.row.units, self.layout
        weights = unit.of("weight") if self.row.groups[unit.group].kind == "dense" else []
        largest = max((abs(local * units[u].value) for u, local in unit.terms), default=0.0) or 1.0
        for i, (u, local) in enumerate(unit.terms):
            yield self._line(layout.line(u, v), u, v, weights[i] if weights else local, abs(local * units[u].value) / largest)
        for bias in unit.of("bias") if unit.group in layout.ones else []:
            yield self._line(layout.line_of_bias(v), None, v, bias, 0)
        x, y = layout.corner(v)
        self.taken.append((x, y - _H / 2, x + _W, y + _H / 2))

    def _whole(self) -> str:
        width, y, at = max(self.layout.width, 400.0), self.layout.height + 18, float(_EDGE)
        legend = [("v", "above: value, forward"), ("g", "below: gradient, backward")]
        legend += [("v", "on lines: weight"), ("g", "on lines: its gradient"), ("d", f"{TIMES} local derivative")] * self.layout.has_labels
        for kind, text in legend:
            if at + _CHAR * len(text) > width:
                at, y = float(_EDGE), y + 18
            self._text(at, y, text, kind, anchor="start")
            at += _CHAR * len(text) + 12
        least = width if width > _SMALL else 0.75 * width
        size = f'viewBox="0 0 {width:.0f} {y + 12:.0f}" width="{width:.0f}" style="min-width:{least:.0f}px"'
        title = f"<title>{len(self.row.units)} numbers of a network, forward and backward</title><style>{_STYLE}</style>"
        return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" class="bp-row" role="img" {size}>{title}', *self.parts, "</svg>"])

    def _text(self, x: float, y: float, text: str, kind: str, step: int | None = None, anchor: str = "middle") -> None:
        data = "" if step is None else f' data-s="{step}"'
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"{data}>{escape(text)}</text>')

    def _line(self, points: list[Point], u: int | None, v: int, by: Weight | float, size: float) -> Label:
        """Marked when v is computed forward, and u backward. by: the weight on the line, or the local derivative. size: its part of the
        sum, which makes a line without a label fainter."""
        opacity = "" if self.layout.has_labels else f' opacity="{0.15 + 0.85 * size:.2f}"'
        back = "" if u is None else f" {self.steps[u][1]}"
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path d="M{path}"{opacity} data-s="{self.steps[v][0]}{back}"/>')
        return v, points, [("d", TIMES + short(by))] if isinstance(by, float) else [("v", short(by.value)), ("g", short(by.grad))]

    def _block(self, block: Block) -> None:
        """The texts at a block, and the circle of a 1."""
        middle, y = sum(self.layout.x[block.column]) / 2, block.y - _H / 2
        for text, kind, at in ((block.head[0], "n", y - 22), (block.head[1], "d", y - 8)) if block.head[0] else ():
            self._text(middle, at, text, kind)
            self.taken.append((middle - _CHAR * len(text) / 2, at - 11, middle + _CHAR * len(text) / 2, at + 3))
        if block.hidden:
            self._text(middle, block.y + block.below - 2, f"{block.hidden:,} more", "d")
        if block.is_one:
            self.parts.append(f'<circle cx="{middle:.1f}" cy="{block.y:.1f}" r="{_R}" class="box"/>')
            self._text(middle, block.y + 4, "1", "v")
            self.taken.append((middle - _R, block.y - _R, middle + _R, block.y + _R))

    def _label(self, v: int, points: list[Point], texts: list[tuple[str, str]]) -> None:
        """Texts side by side on the first sloping part of a line, where they are on nothing else; nowhere if everything is full."""
        start, end = points[0:2] if len(points) == 2 else points[1:3]
        widths = [_CHAR * len(text) + 6 for _, text in texts]
        for t in (0.5,) if len(points) == 2 else (0.3, 0.4, 0.5, 0.22, 0.6, 0.7, 0.78):
            x, y = (a + (b - a) * t for a, b in zip(start, end, strict=True))
            y -= 9 * (len(points) == 2)
            box = x - sum(widths) / 2, y - 8, x + sum(widths) / 2, y + 8
            if not any(box[0] < c and a < box[2] and box[1] < d and b < box[3] for a, b, c, d in self.taken):
                self.taken.append(box)
                at = box[0]
                for (kind, text), width in zip(texts, widths, strict=True):
                    step = {"v": 0, "d": self.steps[v][0], "g": self.steps[v][1]}[kind]
                    self.parts.append(f'<rect x="{at:.1f}" y="{y - 8:.1f}" width="{width:.1f}" height="16" data-s="{step}"/>')
                    self._text(at + width / 2, y + 4, text, kind, step)
                    at += width
                return

    def _unit(self, u: int) -> None:
        (x, y), unit, (forward, backward) = self.layout.corner(u), self.row.units[u], self.steps[u]
        index = unit.name.partition("[")[2][:-1]
        self.parts.append(f"<g><title>{escape(unit.name)}</title>")
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y - _H / 2:.1f}" width="{_W}" height="{_H}" rx="9" class="box" data-s="{forward} {backward}"/>'
        )
        self._text(x + 5, y + 4, index if len(index) <= 3 else "", "i", anchor="start")
        self._text(x + 46, y - 4, short(unit.value), "v", forward)
        self._text(x + 46, y + 13, short(unit.grad), "g", backward)
        self.parts.append("</g>")
