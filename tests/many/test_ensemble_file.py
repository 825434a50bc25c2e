"""The file of an ensemble: read back bit for bit, by other libraries too; anything else is refused, and names the call that reads it."""

import copy
import json
import os
import pickle
import re

import graphs
import numpy as np
import pytest

import microbp as bp
from microbp.many import loading
from microbp.network import nets_file

NOTES = {"columns": ["a", 'b"\\', "é\U0001f600"], "n": 1.5}


def ensemble(shape="chain", count=3, **options):
    nets = [graphs.network(shape, activation, seed=i, **options) for i, activation in enumerate(("tanh", "relu", "sigmoid")[:count])]
    for i, net in enumerate(nets):
        net.set_output(0, "softmax")
        net.set_layer(l2=0.25 * i)
        net.notes = {"member": i}
    found = bp.Ensemble(nets)
    found.notes = NOTES
    return found


def small():
    found = bp.Ensemble([bp.mlp([2, 3, 1], seed=0), bp.mlp([2, 2, 1], seed=1)])
    found.notes = {"a": 1}
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "e.safetensors"


@pytest.mark.parametrize("shape", graphs.SHAPES)
def test_an_ensemble_is_read_back_bit_for_bit(shape, backend, dtype, path):
    saved = ensemble(shape, backend=backend, dtype=dtype)
    saved.save(path)
    loaded = bp.Ensemble.load(path, backend=backend, n_threads=1)
    x = graphs.rows_of(saved[0], 6)
    for found, expected in zip(loaded, saved, strict=True):
        assert (found.text(), found.seed, found.notes) == (expected.text(), expected.seed, expected.notes)
        assert (found.backend, found.n_threads) == (backend, 1)
        assert (found.params.tobytes(), found.buffers.tobytes()) == (expected.params.tobytes(), expected.buffers.tobytes())
    for call in (bp.Ensemble.predict, bp.Ensemble.std):
        assert np.array_equal(np.hstack(call(loaded, x)), np.hstack(call(saved, x)))
    assert loaded.notes == NOTES
    before = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == before


def test_weights_are_read_back_and_files_without_them_stay_as_they_were(path):
    nets = [bp.mlp([2, 3, 1], seed=seed) for seed in range(3)]
    saved = bp.Ensemble(nets, weights=[0.1, 1 / 3, 7])
    saved.save(path)
    loaded = bp.Ensemble.load(path)
    assert loaded.weights == saved.weights == (0.1, 1 / 3, 7.0)
    assert np.array_equal(loaded.predict([1.0, 2.0]), saved.predict([1.0, 2.0]))
    before = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == before and b'"microbp.ensemble":"2"' in before
    bp.Ensemble(nets).save(path)
    assert b'"microbp.ensemble":"1"' in path.read_bytes() and b"weights" not in path.read_bytes()
    assert bp.Ensemble.load(path).weights is None


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ([1.0], "weights has 1 number for 2 networks"),
        ([1.0, -1.0], "numbers of at least 0"),
        (["a", 1.0], r"weights\[0\] must be a number"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, text, path):
    nets_file.write(path, [NET, NET], "", weights)
    with pytest.raises(ValueError, match=re.escape(f"{path}: ") + ".*" + text):
        bp.Ensemble.load(path)


def test_backends_write_the_same_bytes(path):
    saved = ensemble("heads", backend="compiled")
    saved.save(path)
    bp.Ensemble.load(path, backend="reference").save(path.with_name("other"))
    assert path.read_bytes() == path.with_name("other").read_bytes()


def test_safetensors_opens_the_file(path):
    safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")
    saved = ensemble("normal")
    saved.save(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert set(file.keys()) == {f"{i}.{name}" for i, net in enumerate(saved) for name in net.tensors}
        for i, net in enumerate(saved):
            assert all(np.array_equal(file.get_tensor(f"{i}.{name}"), view) for name, view in net.tensors.items())
            header = json.loads(file.metadata()[f"microbp.member.{i}"])
            assert header["__metadata__"]["microbp.graph"] == net.text()
        assert json.loads(file.metadata()["microbp.notes"]) == NOTES


def test_networks_without_parameters_and_many_networks(path):
    x = bp.Input(2)
    bp.Ensemble([bp.Network(x, x + x), bp.Network(x, x * x), bp.Network(x, bp.Dense(2)(x), seed=0)]).save(path)
    assert bp.Ensemble.load(path).predict([2.0, 3.0]).shape == (2,)
    many = bp.Ensemble([bp.mlp([1, 1], seed=i) for i in range(300)])
    many.save(path)
    assert [net.seed for net in bp.Ensemble.load(path)] == list(range(300))


# ---- files that are refused ----


def test_every_byte_counts(path):
    small().save(path)
    data = path.read_bytes()
    for i in range(0, len(data), 3):
        path.write_bytes(data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1 :])
        with pytest.raises(ValueError, match=re.escape(f"{path}: ")):
            bp.Ensemble.load(path)


@pytest.mark.parametrize("load", [bp.Ensemble.load, bp.load, bp.Trainer.load], ids=["Ensemble.load", "load", "Trainer.load"])
def test_a_file_that_is_cut_short_or_longer_is_refused(load, path):
    small().save(path)
    data = path.read_bytes()
    for cut in (*(data[:i] for i in range(0, len(data), 7)), data[:-1], data + b"\0"):
        path.write_bytes(cut)
        with pytest.raises(ValueError, match=re.escape(f"{path}: ")):
            load(path)


def pack(entries, data):
    header = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % 64)
    return len(header).to_bytes(8, "little") + header + data


def change(path, edit):
    """Rewrites the file with other entries, and with the data that `edit` returns if these are bytes."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    entries, rest = json.loads(data[8:end]), data[end:]
    found = edit(entries["__metadata__"], entries)
    path.write_bytes(pack(entries, found if isinstance(found, bytes) else rest))


def inner(metadata, old, new):
    assert old in metadata["microbp.member.1"]
    metadata["microbp.member.1"] = metadata["microbp.member.1"].replace(old, new)


CHANGES = {
    "version": (
        lambda m, _: m.update({"microbp.ensemble": "3"}),
        "has the ensemble format '3', but this version of microbp reads only 1 and 2",
    ),
    "no weights": (lambda m, _: m.update({"microbp.ensemble": "2"}), "the weights of its networks are not a list of numbers"),
    "a weight alone": (
        lambda m, _: m.update({"microbp.ensemble": "2", "microbp.weights": "1"}),
        "the weights of its networks are not a list",
    ),
    "weights without format": (lambda m, _: m.update({"microbp.weights": "[1.0, 2.0]"}), "its header or its checksum"),
    "member missing": (lambda m, _: m.pop("microbp.member.1"), "it has 1 network, but should have '2'"),
    "first member missing": (lambda m, _: m.pop("microbp.member.0"), "it has 0 networks, but should have '2'"),
    "no members": (lambda m, _: (m.pop("microbp.member.0"), m.update({"microbp.members": "0"})), "it has 0 networks"),
    "number missing": (lambda m, _: m.pop("microbp.members"), "should have None"),
    "unknown key": (lambda m, _: m.update({"microbp.more": "1"}), "its header or its checksum is not that of its networks"),
    "other notes": (lambda m, _: m.update({"microbp.notes": '{"a":2}'}), "its header or its checksum"),
    "half a character": (lambda m, _: m.update({"microbp.member.1": "\\ud800"}), "not valid safetensors JSON"),
    "other checksum": (lambda m, _: m.update({"microbp.crc32": "00000000"}), "its header or its checksum"),
    "a tensor missing": (lambda _, e: e.pop("1.dense_0.bias"), "its header or its checksum"),
    "another seed": (lambda m, _: inner(m, '"microbp.seed":"1"', '"microbp.seed":"2"'), "network 1: .*its checksum does not match"),
    "another graph": (lambda m, _: inner(m, "input 2", "input 3"), "network 1: .*damaged"),
    "a huge member": (lambda m, _: inner(m, "[32,36]", "[32,9223372036854775807]"), "it is cut short: network 1 needs"),
    "a negative size": (lambda m, _: m.update({"microbp.member.1": '{"a":{"data_offsets":[0,-1]}}'}), "not valid safetensors JSON"),
    "a size of text": (lambda m, _: m.update({"microbp.member.1": '{"a":{"data_offsets":[0,"1"]}}'}), "not valid safetensors JSON"),
    "a list": (lambda m, _: m.update({"microbp.member.1": "[1,2]"}), "not valid safetensors JSON"),
    "deep JSON": (lambda m, _: m.update({"microbp.member.1": "[" * 100_000}), "not valid safetensors JSON"),
    "no header": (lambda m, _: m.update({"microbp.member.1": ""}), "not valid safetensors JSON"),
    "an empty header": (lambda m, _: m.update({"microbp.member.1": "{}"}), "network 1: not a microbp file"),
    "less data": (lambda *_: b"1234", "it is cut short: network 0 needs 52 bytes, but 4 bytes of data are left"),
    "no metadata": (lambda _, e: e.pop("__metadata__"), "not a file of bp.Ensemble"),
    "metadata of numbers": (lambda m, _: m.update({"microbp.members": 2}), "not a file of bp.Ensemble"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_headers_are_refused(name, backend, path):
    edit, text = CHANGES[name]
    small().save(path)
    change(path, edit)
    with pytest.raises(ValueError, match=re.escape(f"{path}: ") + ".*" + text):
        bp.Ensemble.load(path, backend=backend)


def test_members_that_do_not_fit_are_refused(path):
    nets_file.write(path, [bp.mlp([2, 1]), bp.mlp([3, 1])], "")
    with pytest.raises(ValueError, match=re.escape(f"{path}: ") + r".*nets\[1\] has input widths 3"):
        bp.Ensemble.load(path)


@pytest.mark.parametrize(
    ("save", "text"),
    [
        (lambda path: NET.save(path), "contains one network; load it with bp.load"),
        (lambda path: bp.Trainer(NET, "mse").save(path), "contains a trainer; load it with bp.Trainer.load"),
        (lambda path: path.write_bytes(pack({"__metadata__": {"format": "pt"}}, b"")), "not a file of bp.Ensemble"),
        (lambda path: path.write_text("a,b\n1,2\n" * 100), "not a safetensors file"),
        (lambda path: path.touch(), "not a safetensors file"),
    ],
)
def test_other_files_are_refused(save, text, path):
    save(path)
    with pytest.raises(ValueError, match=re.escape(f"{path}: ") + ".*" + text):
        bp.Ensemble.load(path)


NET = bp.mlp([2, 1], seed=0)


@pytest.mark.parametrize("count", [1, 60])  # the metadata of 60 networks is longer than the first bytes that decide
@pytest.mark.parametrize("load", [bp.load, bp.Trainer.load], ids=["load", "Trainer.load"])
def test_the_other_calls_name_the_one_that_loads_an_ensemble(load, count, backend, path):
    bp.Ensemble([NET] * count).save(path)
    with pytest.raises(ValueError, match=re.escape(f"{path}: the file contains several networks; load them with bp.Ensemble.load")):
        load(path, backend=backend)
    with pytest.raises(ValueError, match=r"the file has no tensor 'dense_0.weight'; did you mean '\d.dense_0.weight'"):
        NET.load_tensors(path)


# ---- saves ----


@pytest.mark.parametrize(
    ("place", "error"),
    [("no/such/e.safetensors", FileNotFoundError), ("read-only", PermissionError), (".", OSError), (5, TypeError)],
)
def test_a_save_that_is_refused_changes_nothing(place, error, tmp_path):
    old = tmp_path / "read-only"
    old.write_bytes(b"kept")
    old.chmod(0o444)
    with pytest.raises(error):
        small().save(place if isinstance(place, int) else tmp_path / place)
    assert os.listdir(tmp_path) == ["read-only"] and old.read_bytes() == b"kept"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full disk", "Ctrl-C"])
def test_a_save_that_fails_keeps_the_old_file(error, path, monkeypatch):
    small().save(path)
    before = path.read_bytes()

    def fails(*_):
        raise error

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(type(error)):
        ensemble().save(path)
    assert os.listdir(path.parent) == [path.name] and path.read_bytes() == before


def test_a_header_that_no_library_would_read_is_not_written(path, monkeypatch):
    monkeypatch.setattr(nets_file, "HEADER_MAX", 1000)
    with pytest.raises(ValueError, match=r"would have [\d,]+ bytes, but the limit is 1,000; save fewer networks"):
        small().save(path)
    assert not path.exists()


def test_paths_as_bytes_and_strings(path):
    small().save(os.fsencode(path))
    assert len(bp.Ensemble.load(os.fsencode(path))) == len(bp.Ensemble.load(str(path))) == 2


def test_a_file_of_one_network_or_of_several_is_loaded_as_what_it_is(path):
    net, several = bp.mlp([2, 3, 1], seed=0), small()
    net.save(path)
    found = loading.load(path, n_threads=1)
    assert (found.params.tobytes(), found.text(), found.n_threads) == (net.params.tobytes(), net.text(), 1)
    several.save(path)
    assert [one.seed for one in loading.load(path)] == [0, 1]
    path.write_text("no file of microbp")
    with pytest.raises(ValueError, match="not a microbp file"):
        loading.load(path)
    with pytest.raises(OSError, match=r"none\.safetensors"):
        loading.load(path.with_name("none.safetensors"))


def test_networks_without_parameters(backend, dtype, tmp_path):
    """Their files have no tensors that tell the dtype."""
    x = bp.Input(3)
    net = bp.Network(x, x[:, :2] * x[:, 1:], dtype=dtype, backend=backend)
    t = bp.Trainer(net, "mse", "adam")
    net.save(tmp_path / "net.safetensors")
    bp.Ensemble([net, net.copy()]).save(tmp_path / "nets.safetensors")
    t.save(tmp_path / "t.safetensors")
    loaded = bp.Trainer.load(tmp_path / "t.safetensors", backend=backend)
    loaded.step([[1, 2, 3]], [[2, 6]])
    found = [net.copy(), copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net)), copy.copy(t).net, loaded.net, net.part()]
    found += [bp.load(tmp_path / "net.safetensors", backend=backend), *bp.Ensemble.load(tmp_path / "nets.safetensors", backend=backend)]
    for other in found:
        assert (other.dtype, other.text()) == (net.dtype, net.text())
        assert other.predict([[1, 2, 3]]).tolist() == [[2, 6]]
