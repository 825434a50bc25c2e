"""`bp.explain` and its result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.checks import new_file, string
from ..core.specs import unknown
from ..core.text import brief, counted
from ..core.whole_file import replacing
from ..data.arrays import Array
from ..data.faults import bad_tensor
from ..network.network import Network
from ..training.engine.losses import as_argument
from ..training.trainer import Trainer
from . import page, picture, reading, text, ways
from .units import ALL, Row, reference_of, shape_of, weight_name


class Explanation:
    """One row forward and backward, as `bp.explain` returns it. `print(e)` shows a table of at most 100 columns; in a notebook it is a
    drawing whose steps you click through.

    values, grads: the values of nodes and weights, and the derivatives by them: float64 arrays by the names in the table. "dense_0.z" are
    the sums before the activation. loss: its value, or None. differentiated: what the gradients are derivatives of, as text.

    >>> e = bp.explain(bp.mlp([2, 3, 1], activation="tanh", seed=0), [1, 2], 1, "mse")
    >>> e.values["dense_0.z"].shape, e.grads["dense_0.weight"].shape
    ((3,), (3, 2))
    """

    def __init__(self, row: Row, loss: float | None, differentiated: str, notes: Sequence[str]) -> None:
        self._row, self.loss, self.differentiated = row, loss, differentiated
        self._head = [f"Differentiated: {differentiated}.", *notes]
        self.values: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        for group in row.groups:
            self.values[group.name] = np.array(group.values).reshape(group.shape)
            self.grads[group.name] = np.array(group.grads).reshape(group.shape)
        for tensor, matrix, grads in zip(row.tensors, row.weights, row.grads, strict=True):
            for named, numbers in ((self.values, matrix.data), (self.grads, grads)):
                array = np.array(numbers).reshape(tensor.rows, tensor.cols)
                named[f"{tensor.layer}.{tensor.name}"] = (array if tensor.is_table else array.T).reshape(shape_of(tensor))

    def ways(self, name: str) -> ways.Ways:
        """The ways from a weight or a number, as the table names it, to the end. The product of the local derivatives along each way is a
        part of the gradient, which is their sum. `print` shows the 12 largest.

        ValueError: the name is unknown, or the net has more than 100 numbers.

        >>> x = bp.Input(1)
        >>> net = bp.Network(x, bp.Dense(1, init=[[2]])(x) * x)
        >>> print(bp.explain(net, [3]).ways("x[0]"))
        x[0]: 2 ways
             6.00 = 2.00 * 3.00
                    x[0] -> dense_0[0] -> multiply_2[0]
             6.00 = 6.00
                    x[0] -> multiply_2[0]
             12.0   the gradient: their sum
        """
        if not self._row.is_whole:
            raise ValueError(f"ways: this net has more than {ALL} numbers, too many to follow: explain a part of it, net.part(...)")
        found = {unit.name: (unit.grad, unit.uses, unit.start) for unit in self._row.units}
        uses = self._row.uses_of_weights()
        weights = [(weight_name(tensor, place), by) for tensor, place, _, by in self._row.each_weight()]
        found |= {one: (by, uses.get(one, []), 0.0) for one, by in weights}
        if string("ways: name", name) not in found:
            raise unknown("weight or number", name, found)
        return ways.find(self._row.units, name, *found[name])

    def __str__(self) -> str:
        return text.table(self._row, self._head)

    def __repr__(self) -> str:
        return f"Explanation({self.differentiated}: {counted(len(self._row.units), 'number')})"

    def svg(self) -> str:
        """The drawing: values above, gradients below; on lines, weights with their gradients or local derivatives.

        >>> bp.explain(bp.mlp([2, 1], seed=0), [1, 2]).svg()[:4]
        '<svg'
        """
        return picture.Drawing(self._row).svg()

    def html(self) -> str:
        """A page with the drawing, its steps, and the table. It needs no network.

        >>> bp.explain(bp.mlp([2, 1], seed=0), [1, 2]).html()[:15]
        '<!DOCTYPE html>'
        """
        return page.whole(self._repr_html_(), str(self))

    def _repr_html_(self) -> str:
        return page.figure(self._row, self.svg(), self._head)

    def save(self, path: Any) -> None:
        """Writes a file: the table (.txt), the drawing (.svg) or the page (.html). ValueError: another ending.

        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     bp.explain(bp.mlp([2, 1], seed=0), [1, 2]).save(f"{folder}/row.html")
        ...     [file.name for file in pathlib.Path(folder).iterdir()]
        ['row.html']
        """
        makers = {".txt": lambda: f"{self}\n", ".svg": self.svg, ".html": self.html}
        with replacing(new_file(path)) as file:  # type: ignore[arg-type]
            if file.suffix.lower() not in makers:
                raise ValueError(f"save: the name must end with .txt, .svg or .html, not {brief(path)}")
            file.write_text(makers[file.suffix.lower()](), "utf-8")


def explain(net: Network | Trainer, x: Any, y: Any = None, loss: Any = None, *, output: int | None = None) -> Explanation:
    """Explains one row forward and backward: every value, every local derivative, every gradient.

    net: a network, or a trainer, whose losses it uses. x: one row, with or without an axis of rows; for several inputs a list. y, loss: the
    target and the loss, as in bp.Trainer; a trainer needs only y. Without them the raw outputs are differentiated, as with dL/dy = 1:
    their sum, or only column `output`, counted over all outputs.

    As in `predict`, dropout and noise are the identity, and batch_norm uses its running statistics. Penalties do not count; frozen layers
    are differentiated too. Derivatives follow from the reference's chain rule (Rumelhart, Hinton & Williams 1986). Of a net with more than
    100 numbers, the 4 of each node with the largest value times gradient are shown; `values` and `grads` have all. Nothing in the net
    changes. ValueError, TypeError: x or y does not fit or has NaN, the net has NaN, or only one of y and loss is given.

    >>> x = bp.Input(2)
    >>> net = bp.Network(x, bp.Dense(1, "sigmoid", init=[[2, -3]], bias_init=[-3])(x))
    >>> bp.explain(net, [-1, -2]).grads["dense_0.weight"].round(2)
    array([[-0.2 , -0.39]])
    """
    trainer = net if isinstance(net, Trainer) else None
    if trainer is not None:
        if loss is not None:
            raise ValueError("explain: the trainer has its loss: leave loss out, or pass the net: bp.explain(t.net, x, y, loss)")
        net, loss = trainer.net, None if y is None else as_argument(trainer.losses)
    if not isinstance(net, Network):
        raise TypeError(f"explain: the first argument must be a bp.Network or a bp.Trainer, not {brief(net)}")
    if (y is None) != (loss is None):
        absent = "y without a loss: pass loss='mse' or another" if loss is None else "loss without a target: pass y"
        raise ValueError(f"explain has {absent}; or leave both out, to differentiate the outputs")
    if loss is not None and output is not None:
        raise ValueError("explain: with a loss, the loss is differentiated: leave output out, or y and loss")
    if wrong := bad_tensor(net.tensors):
        raise ValueError(f"explain: {wrong}")
    copy = reference_of(net)
    xs = reading.one_row(copy, x)
    row, value = Row(copy, xs), None
    if loss is None:
        start, what = reading.outputs(row, output)
        row.differentiate(start, None)
    else:
        weights = trainer.loss_weights if trainer else (1.0,) * len(net.outputs)
        start, value, name, said = reading.loss_of(copy, row, xs, y, loss, weights)
        what = f"the loss {name} = {text.short(value)}"
        row.differentiate(start, (said, value))
    return Explanation(row, value, what, reading.notes(net, loss is None))
