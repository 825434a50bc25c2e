"""load_tensors: arrays by name and shape from safetensors files of other libraries."""

import json

import graphs
import numpy as np
import pytest

import microbp as bp

KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def pack(arrays, header=None):
    """The bytes of a safetensors file; header: changes to its entries."""
    entries, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (kind, array) in arrays.items():
        raw = np.ascontiguousarray(array).tobytes()
        entries[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps({**entries, **(header or {})}).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensors_of(net, kind="F32"):
    """The arrays of a network for a file, in a different order and with an additional one."""
    rng = np.random.default_rng(0)
    found = {"more.weight": ("I64", np.zeros(3, "<i8"))}
    for name, view in reversed(net.tensors.items()):
        values = rng.integers(0, 60, view.shape) / 4
        found[name] = kind, values.astype(KINDS[kind]) if kind != "BF16" else (values.astype("<f4").view("<u4") >> 16).astype("<u2")
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_type(kind, backend, dtype, tmp_path):
    net = graphs.network("heads", backend=backend, dtype=dtype)
    arrays = tensors_of(net, kind)
    (tmp_path / "other").write_bytes(pack(arrays))
    net.load_tensors(tmp_path / "other")
    for name, view in net.tensors.items():
        values = arrays[name][1]
        assert np.array_equal(view, values if kind != "BF16" else (values.astype("<u4") << 16).view("<f4")), name


def test_files_of_microbp_and_of_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    net, other = graphs.network("heads", seed=1), graphs.network("heads", seed=2)
    net.save(tmp_path / "net")
    other.load_tensors(tmp_path / "net")
    assert np.array_equal(other.params, net.params)
    safetensors.save_file({name: np.ascontiguousarray(view) for name, view in net.tensors.items()}, tmp_path / "other")
    third = graphs.network("heads", seed=3)
    third.load_tensors(tmp_path / "other")
    assert np.array_equal(third.params, net.params)
    bp.Trainer(net, ["mse"] * 3).save(tmp_path / "run")
    loaded = safetensors.load_file(tmp_path / "run")
    assert loaded["trainer.slots.m"].shape == net.params.shape
    assert all(np.array_equal(loaded[name], view) for name, view in net.tensors.items())


def entry(shape, offsets, kind="F32"):
    return {"dtype": kind, "shape": shape, "data_offsets": offsets}


# (changes to the header, expected error), for layers dense_0 (3, 2) and last (1, 3)
BAD = [
    ({"last.weight": entry([3, 1], [0, 12])}, r"last.weight has shape \[3, 1\] in the file, but \[1, 3\] in the network"),
    ({"last.weight": entry([3], [0, 12])}, "shape"),
    ({"last.weight": entry(None, [0, 12])}, "shape None"),
    ({"last.weight": entry([1, 3], [0, 12], "I32")}, "has type I32; it must be one of F16, F32, F64, BF16"),
    ({"last.weight": entry([1, 3], [0, 12], [])}, "has type"),
    ({"last.weight": entry([1, 3], [0, 16])}, "data_offsets"),
    ({"last.weight": entry([1, 3], [12, 0])}, "data_offsets"),
    ({"last.weight": entry([1, 3], [-12, 0])}, "data_offsets"),
    ({"last.weight": entry([1, 3], [2**62, 2**62 + 12])}, "data_offsets"),
    ({"last.weight": entry([1, 3], [0.0, 12])}, r"data_offsets must be two integers, not \[0.0, 12\]"),
    ({"last.weight": entry([1, 3], 5)}, "data_offsets must be two integers, not 5"),
    ({"last.weight": 5}, "shape"),
]


@pytest.mark.parametrize(("header", "text"), BAD, ids=range(len(BAD)))
def test_a_tensor_that_does_not_fit_changes_nothing(header, text, tmp_path):
    x = bp.Input(2)
    net = bp.Network(x, bp.Dense(1, name="last")(bp.Dense(3)(x)), seed=0)
    before, arrays = net.params.copy(), tensors_of(net)
    (tmp_path / "other").write_bytes(pack(arrays, header))
    with pytest.raises(ValueError, match=rf"other: .*{text}"):
        net.load_tensors(tmp_path / "other")
    del arrays["last.weight"]
    (tmp_path / "other").write_bytes(pack(arrays))
    with pytest.raises(ValueError, match=r"other: the file has no tensor 'last.weight'.* its tensors: more.weight, "):
        net.load_tensors(tmp_path / "other")
    assert np.array_equal(net.params, before)


@pytest.mark.parametrize("data", [b"", b"abc", bytes(64), b"\xff" * 64, b"\2" + bytes(7) + b"[]", b"\2" + bytes(7) + b"\xff\xff", None])
def test_other_files_are_refused(data, tmp_path):
    deep = b"[" * 100_000
    (tmp_path / "other").write_bytes(len(deep).to_bytes(8, "little") + deep if data is None else data)
    with pytest.raises(ValueError, match="other: not a safetensors file"):
        graphs.network("chain").load_tensors(tmp_path / "other")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        graphs.network("chain").load_tensors(tmp_path / "nowhere")
