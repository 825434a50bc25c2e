"""What is refused before it is read: other files, however large, and whatever is not a file."""

import json
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from file_cases import SMALL, little_memory, state, substitute, verdict

import microbp as bp

GIB = 2**30


def head(length, text):
    return length.to_bytes(8, "little") + text


def foreign(metadata, length=None):
    text = json.dumps({"__metadata__": metadata, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return head(length or len(text), text)


# The first bytes of a file of 1 GiB that is no model, and what the error says. The rest is zeros.
STARTS = {
    "zeros": (b"", "cut short"),
    "pickle": (b"\x80\x04\x95" + bytes(20), "start like"),
    "text": (b"a,b,c\n" * 1000, "cut short"),
    "array": (head(1000, b"[1,2]"), "start like"),
    "header of spaces": (head(GIB - 8, b" " * 5000), "start like"),
    "no metadata": (head(5000, b'{"w":{"dtype":"F32"'), "header does not start with a microbp.graph"),
    "other metadata": (foreign({"format": "pt"}), "no microbp.graph"),
    "long metadata": (foreign({"format": "pt", "description": "x" * 10_000}), "no microbp.graph"),
    "many metadata": (foreign({f"key {i}": "\u00e9\n" for i in range(1000)}), "no microbp.graph"),
    "header of 1 GiB": (foreign({"format": "pt", "note": "x"}, GIB - 8), "no microbp.graph"),
    "not JSON": (head(5000, b'{"__metadata__":{"format":microbp'), "not valid safetensors JSON"),
    "raw control character": (head(5000, b'{"__metadata__":{"format":"a\0' + b"x" * 5000), "not valid safetensors JSON"),
}


def loaders(backend):
    return [
        lambda path: bp.load(path, backend=backend),
        lambda path: bp.Trainer.load(path, backend=backend),
        bp.mlp([2, 1], backend=backend).load_tensors,
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs sparse files and a limit on memory")
@pytest.mark.parametrize("start", STARTS)
def test_a_large_file_that_is_no_model_is_not_read(backend, start, tmp_path):
    begin, text = STARTS[start]
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(GIB)
    before = Path("/proc/self/io").read_text().split()
    for load in loaders(backend)[:2]:
        with little_memory(), pytest.raises(ValueError, match=f"large: .*{text}"):
            load(path)
    after = Path("/proc/self/io").read_text().split()
    assert int(after[1]) - int(before[1]) < 2**20, "bytes read"
    with little_memory(), pytest.raises(ValueError, match="large: "):
        loaders(backend)[2](path)


@pytest.mark.parametrize("spaces", [0, 3, 4070, 4096, 9000])
@pytest.mark.parametrize("place", [b"{", b'"__metadata__":', b'{"format":"microbp",', b'"microbp.format":'])
def test_the_first_bytes_decide_only_what_they_show(module, spaces, place):
    """A model is read, however far from its start its metadata goes on."""
    data = module.Net(SMALL).write()
    assert verdict(module, substitute(data, place, place + b" " * spaces)) == verdict(module, data)


@pytest.mark.parametrize("spaces", [0, 3, 4070, 4096, 9000])
def test_a_model_with_spaces_is_loaded(module, spaces, tmp_path):

    net = module.Net(SMALL)
    net.notes = "n" * 5000
    for place in (b"{", b'"__metadata__":', b'{"format":"microbp",', b'"microbp.notes":'):
        (tmp_path / "net").write_bytes(substitute(net.write(), place, place + b" " * spaces))
        assert state(module.Net.load(tmp_path / "net")) == state(net)


# ---- only regular files ----


@pytest.fixture(params=["pipe", "socket", "directory", "/dev/zero", "/dev/null", "link to a pipe"])
def no_file(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path(request.param) if request.param.startswith("/") else tmp_path / request.param.replace(" ", "_")
    if request.param == "directory":
        path.mkdir()
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as file:
            file.bind(path.name)  # its whole path would be too long
    elif not request.param.startswith("/"):
        os.mkfifo(tmp_path / "pipe")
        if path.name != "pipe":
            path.symlink_to("pipe")
    return path


def test_only_regular_files_are_loaded(backend, no_file):
    for load in loaders(backend):
        with pytest.raises(OSError, match="not a regular file|[Ii]s a directory") as raised:
            load(no_file)
        assert str(no_file) in str(raised.value)


@pytest.mark.parametrize("path", [0, 99, True, None, 1.5, np.int64(3), [], b""], ids=repr)
def test_a_number_is_not_a_path(backend, path):
    """open(99) would read whatever file has this descriptor."""
    for load in loaders(backend):
        with pytest.raises((TypeError, OSError), match="path must be a str or os.PathLike" if path != b"" else "o such file"):
            load(path)


def test_the_start_of_a_foreign_value_is_shown_without_control_characters(module):

    for key, old in ((b"microbp.format", b"1"), (b"microbp.rng", b"philox4x32-10/1")):
        data = substitute(module.Net(SMALL).write(), b'"%s":"%s"' % (key, old), b'"%s":"a\\u001b[31m\xc3\xa9\xc2\x9b"' % key)
        with pytest.raises((ValueError, NotImplementedError), match=r" a\?\[31m\?{4}, but"):
            module.Net.read(data)
