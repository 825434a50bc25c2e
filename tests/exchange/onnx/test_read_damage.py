"""Damaged ONNX files: a ValueError that says so, within bounded time and memory, and no other error."""

from __future__ import annotations

import random
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import cases
import graphs
import pytest

import microbp as bp
from microbp.exchange.onnx import write

FILES = sorted((Path(__file__).parent / "files").glob("*.onnx"))
WORDS = [b"\0", b"\xff\xff\xff\xff\x0f", b"\x80", b"\xff" * 9 + b"\1", b"Reshape", b"Concat", b"Gather", b"Conv", b"GRU", b"Expand"]


def seeds() -> list[bytes]:
    """Files of others, and of ours as such and as those of another program."""
    own = [write.onnx_bytes(graphs.network(shape), None, None, raw=False, fold=False, name="n") for shape in graphs.SHAPES]
    return [*(path.read_bytes() for path in FILES), *own, *(data.replace(b"microbp.nodes", b"microbp.nodez") for data in own)]


def mutated(draw: random.Random, data: bytes) -> bytes:
    """Some bytes changed, removed, put in or doubled."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        at, word = draw.randrange(len(found) + 1), draw.choice(WORDS)
        way = draw.randrange(5)
        if way == 0:
            found[at : at + 1] = bytes([draw.randrange(256)])
        elif way == 1:
            found[at : at + len(word)] = word
        elif way == 2:
            found[at:at] = word
        elif way == 3:
            begin = draw.randrange(len(found) + 1)
            found[at:at] = found[begin : begin + draw.randrange(64)]
        else:
            del found[at : at + draw.choice((1, 1, 8, 10**6))]
    return bytes(found)


def test_mutated_files_are_read_or_refused():
    draw, files = random.Random(cases.SEED), seeds()
    for _ in range(20_000 if cases.LONG else 600):
        data = mutated(draw, draw.choice(files))
        with suppress(ValueError):
            bp.from_onnx(data)


@pytest.mark.parametrize("path", FILES[::9], ids=lambda path: path.stem)
def test_files_cut_short_are_refused(path):
    data = path.read_bytes()
    for length in range(0, len(data) // 2, 7):  # the second half may be metadata only
        with pytest.raises(ValueError, match="^from_onnx: "):
            bp.from_onnx(data[:length])


def field(number: int, data: bytes) -> bytes:
    """A field with bytes."""
    size = len(data)
    digits = [size >> 7 * i & 127 for i in range(max(1, -(-size.bit_length() // 7)))]
    return bytes([number << 3 | 2, *(digit | 128 for digit in digits[:-1]), digits[-1]]) + data


def test_sizes_are_not_believed():
    """A tensor of 2**40 numbers in 30 bytes, one with packed sizes without end, an attribute with a long list, graphs in each other."""
    huge = field(5, b"\x08\x80\x80\x80\x80\x80\x20\x10\x01" + field(8, b"w") + field(9, b"\0\0\0\0"))
    deep = b""
    for _ in range(300):
        deep = field(6, field(1, field(5, deep)))
    cases_of = {
        "its shape": huge,
        "cut short": field(5, b"\x4a\xff\xff\xff\xff\x0f"),
        "is a graph": field(1, field(4, b"If") + field(5, field(1, b"body") + deep)),
        "not an ONNX file": b"\x0b\x0c",
    }
    tracemalloc.start()
    for text, graph in cases_of.items():
        with pytest.raises(ValueError, match=text):
            bp.from_onnx(b"\x08\x09" + field(7, graph))
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_work_is_linear_in_the_size():
    """Many operators over one constant, and many uses of one tensor."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    import numpy as np
    from onnx import helper, numpy_helper

    ends = [helper.make_tensor_value_info(name, 1, [None, 64]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.eye(64, dtype=np.float32), "w")

    def read(nodes):
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
        data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()
        begin = time.process_time()
        try:
            return bp.from_onnx(data), time.process_time() - begin
        except ValueError as error:
            return error, time.process_time() - begin

    assert onnx
    doubled = [helper.make_node("Concat", [f"c{i}" if i else "w"] * 2, [f"c{i + 1}"], axis=0) for i in range(30)]
    found, _ = read(doubled)
    assert "numbers out of constants" in str(found)
    chain = [helper.make_node("MatMul", [f"x{i}" if i else "x", "w"], [f"x{i + 1}" if i < 999 else "y"]) for i in range(1000)]
    net, seconds = read(chain)
    assert len(net.layers) == 1 and seconds < 5
    kinds = ["Relu", "Tanh", "Sigmoid", "Softplus", "Mish", "Softsign", "Selu", "Gelu"]
    many = [
        helper.make_node(kind, [f"m{i}"], [f"x{i + 1}" if i < 799 else "y"], **({"alpha": 1 + i / 1000} if kind == "Elu" else {}))
        for i, kind in enumerate(["Elu"] * 792 + kinds)
    ]
    products = [helper.make_node("MatMul", [f"x{i}" if i else "x", "w"], [f"m{i}"]) for i in range(800)]
    found, _ = read([one for pair in zip(products, many, strict=True) for one in pair])
    assert "the network would have 3276800 parameters" in str(found)
