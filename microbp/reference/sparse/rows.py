"""Reads compressed sparse rows (CSR): an object with data, indices, indptr and shape."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any


def is_sparse(value: Any) -> bool:
    """Whether these are sparse rows."""
    return hasattr(value, "indptr")


def read_rows(value: Any, what: str) -> list[list[tuple[int, Any]]]:
    """For each row its (column, value) pairs. ValueError if the columns of a row do not ascend, or are not columns."""
    if getattr(value, "format", "csr") != "csr":
        raise TypeError("sparse rows must have the format csr")
    (rows, cols), data, indices, indptr = value.shape, *(part.tolist() for part in (value.data, value.indices, value.indptr))
    if rows < 0 or len(indptr) != rows + 1:
        raise ValueError(f"indptr must have {rows + 1} numbers, not {len(indptr)}")
    if indptr[-1] > min(len(data), len(indices)):
        raise ValueError(f"indptr ends with {indptr[-1]}, but there are {min(len(data), len(indices))} values")
    if indptr[0] < 0:
        raise ValueError(f"{what}: indptr[0] is {indptr[0]}, but must be at least 0")
    found = []
    for row, (start, end) in enumerate(pairwise(indptr)):
        if end < start:
            raise ValueError(f"{what}, row {row}: indptr goes from {start} to {end}, but must not descend")
        _check_columns(indices, start, end, cols, f"{what}, row {row}")
        found.append(list(zip(indices[start:end], data[start:end])))
    return found


def _check_columns(indices: Sequence[int], start: int, end: int, cols: int, where: str) -> None:
    before = -1
    for i in range(start, end):
        if not 0 <= indices[i] < cols:
            raise ValueError(f"{where}: indices[{i}] is {indices[i]}, but must be a column from 0 to {cols - 1}")
        if indices[i] <= before:
            order = "the columns of a row must ascend, without repeats"
            raise ValueError(f"{where}: indices[{i}] is {indices[i]} after {before}, but {order}")
        before = indices[i]


def dense_rows(value: Any, what: str) -> list[list[Any]]:
    """The rows as lists of numbers, with their zeros."""
    found = []
    for pairs in read_rows(value, what):
        row = [0.0] * value.shape[1]
        for column, number in pairs:
            row[column] = number
        found.append(row)
    return found


def stored_columns(value: Any) -> list[list[int]]:
    """For each row its columns with a stored value."""
    return [[column for column, _ in pairs] for pairs in read_rows(value, "")]


def check_readers(graph: Any, i: int) -> None:
    """ValueError if another node than a dense one reads input i."""
    own = _number(graph, i)
    for reader, node in enumerate(graph.nodes):
        if own in node.operands and node.kind not in ("dense", "embedding"):
            raise ValueError(
                f"input {i} is sparse, but node {reader} ({node.kind}) reads it, and only dense layers and embeddings "
                "read sparse rows: pass a dense array"
            )
    for k, output in enumerate(graph.outputs):
        if output.node == own:
            raise ValueError(f"input {i} is sparse, but is output {k} too: pass a dense array")


def check_places(graph: Any, xs: Sequence[Any], chosen: Sequence[int]) -> None:
    """ValueError if a sparse input is among the nodes whose values are wanted."""
    for node in chosen:
        if node >= 0 and graph.nodes[node].kind == "ids":
            raise ValueError(f"node {node} has ids, which are not predicted: choose another node")
    for i, x in enumerate(xs):
        if is_sparse(x) and _number(graph, i) in chosen:
            raise ValueError(f"node {_number(graph, i)} is a sparse input: pass a dense array to get its values")


def _number(graph: Any, i: int) -> int:
    """The number of the node that is input i."""
    return [number for number, node in enumerate(graph.nodes) if node.is_input][i]


def refuse(graph: Any, xs: Sequence[Any], why: str) -> None:
    """ValueError for sparse inputs and ids. why: "a Jacobian needs"."""
    for i, x in enumerate(xs):
        if graph.nodes[_number(graph, i)].kind == "ids":
            raise ValueError(f"input {i} has ids, but {why} numbers, which have derivatives")
        if is_sparse(x) or getattr(x, "stored", None) is not None:
            raise ValueError(f"input {i} is sparse, but {why} dense rows: pass a dense array")
