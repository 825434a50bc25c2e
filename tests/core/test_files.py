"""Files: both backends write the same bytes, read them back bit for bit, and refuse all other bytes."""

import importlib
import json
import os
import re
from array import array
from collections import OrderedDict

import pytest
from file_cases import BACKENDS, EXTRAS, GRAPHS, NOTES, SMALL, fix, little_memory, make, replace, state, substitute, verdict

from microbp.reference.file import crc32c

each_graph = pytest.mark.parametrize("text", GRAPHS.values(), ids=GRAPHS)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


# ---- files are read back ----


def test_crc32c_check_value():
    assert crc32c(b"123456789") == 0xE3069283


@each_graph
@each_dtype
def test_backends_write_the_same_bytes(text, dtype):
    compiled, reference = (importlib.import_module(name) for name in BACKENDS.values())
    for seed in (0, 1, 2**64 - 1):
        a, b = make(compiled, text, dtype, seed), make(reference, text, dtype, seed)
        data = a.write()
        assert data == b.write()
        assert state(compiled.Net.read(data)) == state(reference.Net.read(data)) == state(a)


@each_graph
@each_dtype
def test_a_net_is_read_back_bit_for_bit(module, text, dtype, tmp_path):
    net, path = make(module, text, dtype, 7), tmp_path / "net.safetensors"
    for _ in range(2):
        net.save(path)
        assert path.read_bytes() == net.write()
    assert state(module.Net.load(path)) == state(net)
    module.Net.load(path).save(path)
    assert path.read_bytes() == net.write()
    assert os.listdir(tmp_path) == [path.name]


def test_notes_are_kept(module):
    compiled, reference = (importlib.import_module(name) for name in BACKENDS.values())
    net, other = make(compiled), make(reference)
    assert net.notes == other.notes == ""
    bare = net.write()
    assert b"notes" not in bare
    for notes in (NOTES, "n", '{"a":[1,"é"]}', "x" * (2**24 - 1)):
        net.notes = other.notes = notes
        assert net.notes == other.notes == notes
        if len(notes) < 1000:  # the reference's checksum is slow
            assert net.write() == other.write()
            assert state(reference.Net.read(net.write())) == state(net)
        assert state(compiled.Net.read(net.write())) == state(net)
    for notes in ("x" * 2**24, "zero\0byte", "\ud800"):
        for one in (net, other):
            with pytest.raises(ValueError, match="notes|surrogate"):
                one.notes = notes
            assert len(one.notes) == 2**24 - 1
    net.notes = other.notes = ""
    assert net.write() == other.write() == bare


# Characters in a JSON string: OURS as microbp writes them; NOT_OURS as only other programs write them, or invalid. NOT_UTF8 in hexadecimal.
OURS = [r"\"", r"\\", r"\n", r"\b", r"\f", r"\r", r"\t", r"\u0001", r"\u001f", "\x7f", "\u00e9", "\U0010ffff"]
NOT_OURS = [r"\/", r"\u001F", r"\u000a", r"\u0000", r"\u0041", r"\u00e9", r"\ud83d\ude00", r"\x", r"\u12", "\\", "\n", "\0"]
NOT_UTF8 = ["80", "c3", "c080", "c1bf", "e09fbf", "eda080", "f08fbfbf", "f4908080", "f5808080", "ff", "c35c2f"]


def test_notes_have_one_form(module):
    net = make(module)
    net.notes = "here"
    data = net.write()
    for text in OURS + NOT_OURS:
        changed = substitute(data, b"here", text.encode())
        assert (verdict(module, changed) is not None) == (text in OURS), text
        assert text not in OURS or b'"microbp.notes":"' + text.encode() + b'"}' in module.Net.read(changed).write()
    for text in ["", *NOT_UTF8]:
        assert verdict(module, substitute(data, b"here", bytes.fromhex(text))) is None, text


@each_graph
@each_dtype
def test_extras_are_kept(text, dtype, tmp_path):
    compiled, reference = (importlib.import_module(name) for name in BACKENDS.values())
    net, path = make(compiled, text, dtype), tmp_path / "run"
    net.notes = "notes"
    for extras in (EXTRAS, ("only a text", {})):
        data = net.write_with(*extras)
        assert reference.Net.read(net.write()).write_with(*extras) == data
        net.save_with(path, *extras)
        assert path.read_bytes() == data
        for module in (compiled, reference):
            for back, kept in (module.Net.read_with(data), module.Net.load_with(path)):
                assert state(back) == state(net)
                assert kept == extras
            assert state(module.Net.load(path)) == state(net)
            assert module.Net.read_with(net.write())[1] is None


BAD_EXTRAS = [
    ("", {}),
    ("zero\0byte", {}),
    ("x" * 2**24, {}),
    ("\ud800", {}),
    ("text", {"trainer.m": b""}),
    ("text", {"trainer..m": b""}),
    ("text", {".trainer.m": b""}),
    ("text", {"trainer.m.": b""}),
    ("text", {"trainer.a b.m": b""}),
    ("text", {"trainer.é.m": b""}),
    ("text", {"trainer.m\0.m": b""}),
    ("text", {"trainer.m.m\n": b""}),
    ("text", {"a.b." + "c" * 60: b""}),
    ("text", {"trainer.slots.m": bytes(7)}),
    ("text", {f"trainer.slots.{i}": b"" for i in range(65)}),
]


@pytest.mark.parametrize("extras", BAD_EXTRAS, ids=range(len(BAD_EXTRAS)))
def test_invalid_extras_are_refused(module, extras, tmp_path):
    with pytest.raises(ValueError, match="extras|surrogate|zero byte|vector"):
        make(module).save_with(tmp_path / "run", *extras)
    assert os.listdir(tmp_path) == []


def test_limits_of_extras(module):
    extras = ("x", {f"trainer.{'s' * (51 + (i < 10))}.{i}": bytes(4 * i) for i in range(64)})
    assert max(map(len, extras[1])) == 62
    assert module.Net.read_with(make(module).write_with(*extras))[1] == extras


def test_frozen_layers_and_output_activations_are_kept(module):
    net = module.Net(GRAPHS["shared"])
    net.freeze("shared", True)
    net.set_output(1, "exp")
    back = module.Net.read(net.write())
    assert back.text() == net.text() and "frozen=1" in back.text() and "output 2 activation=exp" in back.text()


def test_a_file_without_settings_of_layers_loads(module):
    net = module.Net(SMALL)
    old = substitute(net.write(), b" lr=1 l1=0 l2=0 max_norm=0", b"")
    assert state(module.Net.read(old)) == state(net)


def test_the_layout_of_a_file(module):
    net = module.Net(SMALL)
    memoryview(net.params)[:] = memoryview(array("f", range(8)))
    data = net.write()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert (8 + length) % 64 == 0
    assert list(header) == ["__metadata__", "dense_0.weight", "dense_0.bias"]
    assert header["__metadata__"]["microbp.graph"] == net.text()
    assert header["dense_0.weight"] == {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    assert header["dense_0.bias"] == {"dtype": "F32", "shape": [2], "data_offsets": [24, 32]}
    assert memoryview(data[8 + length :]).cast("f").tolist() == [0, 2, 4, 1, 3, 5, 6, 7]


@pytest.mark.parametrize("line", ["add {0} 0", "activation {0} relu", "dense {0} units=1", "concat 0 0", "layer_norm {0}"])
def test_a_graph_of_many_lines_needs_a_large_file(line):
    """Reading takes little memory in proportion to the file's size. A smaller file with this graph is refused."""
    lines = 700
    text = "input 1\n" + "".join(line.format(i) + "\n" for i in range(lines)) + f"output {lines}\n"
    nets = [importlib.import_module(name).Net(text, "float32", 3) for name in BACKENDS.values()]
    data = nets[0].write()
    assert data == nets[1].write()
    header = 8 + int.from_bytes(data[:8], "little")
    end = len(data[:header].rstrip(b" "))
    words = sum(len(line.split()) - 1 for line in nets[0].text().splitlines())
    cost = 128 * (lines + 2) + 512 * (line.split()[0] in ("dense", "layer_norm")) * lines + 4 * words
    assert len(data) >= (cost - 2**15) // 2 > len(data) - 64, "the file has exactly the promised padding"
    for net in nets:
        assert state(type(net).read(data)) == state(net)
        with pytest.raises(ValueError, match="too few for the lines of its graph"):
            type(net).read(replace(data, end, header, b" " * (-end % 64)))


def test_the_length_of_a_graph_has_a_limit(module):
    with pytest.raises(ValueError, match="at most 16384 nodes"):
        module.Net("input 1\n" + "add 0 0\n" * 2**14 + "output 0\n", "float32", 0)
    assert module.Net("input 1\n" + "add 0 0\n" * (2**14 - 1) + "output 0\n", "float32", 0)


def test_a_net_without_parameters(module):
    text = "input 3\nactivation 0 tanh\noutput 1\n"
    from microbp import reference

    files = {dtype: module.Net(text, dtype).write() for dtype in ("float32", "float64")}
    assert files == {dtype: reference.Net(text, dtype).write() for dtype in files}
    for dtype, data in files.items():
        assert verdict(module, data) == state(module.Net(text, dtype))
        assert (b'"microbp.dtype":"F64"' in data) == (dtype == "float64")
    for dtype in (b"F32", b"F16", b""):
        assert verdict(module, substitute(files["float64"], b'"microbp.dtype":"F64"', b'"microbp.dtype":"%s"' % dtype)) is None
    whole = module.Net(SMALL, "float64").write()
    assert verdict(module, substitute(whole, b'"},"dense_0', b'","microbp.dtype":"F64"},"dense_0')) is None


# ---- all other bytes are refused ----


def step(module, compiled):
    """The step of a loop over cases: `compiled` for the compiled backend, 29 for the slow reference."""
    return compiled if module.__name__ == BACKENDS["compiled"] else 29


def test_truncation_and_bit_flips(module):
    data = make(module).write()
    for size in range(0, len(data), step(module, 1)):
        assert verdict(module, data[:size]) is None, size
        assert verdict(module, fix(data[:size])) is None, size
    for bit in range(0, 8 * len(data), step(module, 1)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert verdict(module, bytes(flipped)) is None, bit


def test_appended_bytes(module):
    data = make(module).write()
    for extra in range(1, 17):
        assert verdict(module, data + bytes(extra)) is None
        assert verdict(module, fix(data + bytes(extra))) is None


INTEGERS = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("text", [GRAPHS["small"], GRAPHS["branches"]], ids=["small", "branches"])
def test_hostile_integers(module, text):
    data = make(module, text).write()
    with little_memory():
        for length in INTEGERS:
            assert verdict(module, fix(length.to_bytes(8, "little") + data[8:])) is None, length
        numbers = [*re.finditer(rb"(?<=[\[,])\d+(?=[],])|(?<=units=)\d+|(?<=input )\d+", data)]
        assert len(numbers) >= 8
        for found in numbers:
            for value in INTEGERS:
                if value != int(found[0]):
                    assert verdict(module, replace(data, *found.span(), b"%d" % value)) is None, (found, value)


REPLACEMENTS = [
    ('"format":"microbp"', '"format":"pt"'),
    ('"format":"microbp"', '"format":"microbp","format":"microbp"'),
    ('"format":"microbp"', '"format":"microbp","other":"x"'),
    ('"format":"microbp",', ""),
    ('"microbp.format":"1"', '"microbp.format":"2"'),
    ('"microbp.seed":"0"', '"microbp.seed":"18446744073709551616"'),
    ('"microbp.seed":"0"', '"microbp.seed":"-1"'),
    ('"microbp.seed":"0"', '"microbp.seed":"00"'),
    ('"microbp.seed":"0"', '"microbp.seed":0'),
    ('"microbp.seed":"0",', ""),
    ("philox4x32-10/1", "philox4x32-10/2"),
    ("input 3\\n", "input 3\n"),
    ("input 3\\n", "input 3\\n\\u0000"),
    ("input 3\\n", "input 3\\n# \u00e9\\n"),
    ("input 3\\n", "\\u0069nput 3\\n"),
    ("activation=identity", "activation=wishful"),
    ("output 1", "output 2"),
    ("dense_0.weight", "dense_1.weight"),
    ("dense_0.weight", "dense_0.bias"),
    ("dense_0.weight", "dense\\u005f0.weight"),
    ('"F32"', '"F64"'),
    ('"F32"', '"BF16"'),
    ("[2,3]", "[3,2]"),
    ("[2,3]", "[6]"),
    ("[2,3]", "[2,3,1]"),
    ("[2,3]", "[2.0,3]"),
    ("[2,3]", "[2,true]"),
    ("[2,3]", "[02,3]"),
    ("[2,3]", "[2,-3]"),
    ("[2]", "[2,1]"),
    ("[0,24]", "[-0,24]"),
    ("[0,24]", "[24,0]"),
    ("[24,32]", "[0,8]"),
    ('"dtype":"F32","shape":[2]', '"dtype":"F32","dtype":"F32","shape":[2]'),
    (',"dense_0.bias":{"dtype":"F32","shape":[2],"data_offsets":[24,32]}', ""),
    ("[24,32]}", '[24,32]},"dense_0.bias":{"dtype":"F32","shape":[2],"data_offsets":[24,32]}'),
    ("[24,32]}", '[24,32]},"extra":{"dtype":"F32","shape":[0],"data_offsets":[32,32]}'),
    ("[24,32]}}", "[24,32]}"),
    ("[24,32]}}", "[24,32]}}}"),
    ("[24,32]}}", "[24,32]},}"),
    ("[24,32]}}", "[24,32]}}\0"),
    ('{"__metadata__"', ' {"__metadata__"'),
    ('{"__metadata__"', '{"":{},"__metadata__"'),
    ('"__metadata__":{', '"__metadata__":{"deep":' + "[" * 100_000 + "],"),
]


@pytest.mark.parametrize(("old", "new"), REPLACEMENTS, ids=range(len(REPLACEMENTS)))
def test_hostile_headers(module, old, new):
    data = module.Net(SMALL).write()
    assert verdict(module, substitute(data, old.encode(), new.encode())) is None


EXTRA_REPLACEMENTS = [
    ('"trainer.slots.m"', '"trainer.m"'),
    ('"trainer.slots.m"', '"trainer.state.empty"'),
    ('"trainer.slots.m"', '"a.b-_9.c.d"'),
    ('"trainer.slots.m"', '"dense_0.weight"'),
    ('"trainer.slots.m"', '"trainer.slots.\u00e9"'),
    ('"trainer.slots.m"', '"trainer.slots.' + "m" * 60 + '"'),
    (',"microbp.trainer":"here"', ""),
    ('"microbp.trainer":"here"', '"microbp.trainer":""'),
    ('"microbp.trainer":"here"', '"microbp.trainer":"\\u0000"'),
    ('"microbp.trainer":"here"', '"microbp.trainer":"\\/"'),
    ('"microbp.trainer":"here"', '"microbp.trainer":{}'),
    ('"microbp.trainer":"here"', '"microbp.trainer":"here","microbp.trainer":"here"'),
    ('"shape":[64]', '"shape":[63]'),
    ('"shape":[64]', '"shape":[64,1]'),
    ('"shape":[64]', '"shape":[]'),
    ('"shape":[64]', '"shape":[true]'),
    ('"shape":[64],"data_offsets":[32,288]', '"shape":[64],"data_offsets":[288,32]'),
    ('"shape":[64],"data_offsets":[32,288]', '"shape":[64],"data_offsets":[36,292]'),
    ('"shape":[64],"data_offsets":[32,288]', '"shape":[63],"data_offsets":[32,287]'),
    ('"shape":[64],"data_offsets":[32,288]', '"shape":[63],"data_offsets":[32,284]'),
    ('"shape":[64],"data_offsets":[32,288]', '"shape":[4611686018427387904],"data_offsets":[32,32]'),
    ('"shape":[64],"data_offsets":[32,288]', '"shape":[2305843009213693951],"data_offsets":[32,9223372036854775807]'),
    ('"dtype":"F32","shape":[64]', '"dtype":"F64","shape":[32]'),
    ('"trainer.state.empty":{"dtype":"F32"', '"trainer.state.empty":{"dtype":"F64"'),
    ("[288,296]}}", "[288,292]}}"),
    ("[288,296]}}", '[288,296]},"x.y.z":{"dtype":"F32","shape":[1],"data_offsets":[296,300]}}'),
    ("[288,296]}}", "[288,296]}}}"),
    ("[288,296]}}", "[288,296]},}"),
]


@pytest.mark.parametrize(("old", "new"), EXTRA_REPLACEMENTS, ids=range(len(EXTRA_REPLACEMENTS)))
def test_hostile_extras(module, old, new):
    data = make(module).write_with("here", EXTRAS[1])
    assert verdict(module, data) == (*state(make(module)), ("here", EXTRAS[1]))
    assert verdict(module, substitute(data, old.encode(), new.encode())) is None


def test_valid_json_that_differs_only_in_space_is_read(module):
    net = make(module)
    data = substitute(net.write(), b',"dense_0.bias":', b' ,\t"dense_0.bias" :\n ')
    assert verdict(module, data) == state(net)


def test_backends_agree_on_mutants(rng):
    """Random edits of the header, with the correct checksum: both backends refuse the bytes, or both read the same net."""
    compiled, reference = (importlib.import_module(name) for name in BACKENDS.values())
    data = make(compiled, GRAPHS["scalar"]).write_with("text", {"a.b.c": bytes(8), "a.b.d": bytes(4)})
    end = data.rindex(b"}") + 1
    with little_memory():
        for _ in range(2000):
            begin = rng.randrange(8, end)
            other = rng.randrange(8, end)
            cut, paste = rng.randrange(4), data[other : other + rng.randrange(12)]
            if rng.random() < 0.5:
                paste = rng.choice([b"0", b"1", b" ", b",", b"{", b"}", b"[", b'"', b"\\", b"\\n", b"\\u0041", b":", b"\xc3", b"-", b"e"])
            mutant = replace(data, begin, min(begin + cut, end), paste)
            assert verdict(compiled, mutant) == verdict(reference, mutant), mutant


@pytest.mark.parametrize(
    "metadata", [{}, {"__metadata__": {"format": "pt", "note": 'a "quoted" \u00e9 \\ \n'}}], ids=["bare", "with metadata"]
)
def test_foreign_safetensors(module, metadata):
    header = json.dumps({**metadata, "w": {"dtype": "BF16", "shape": [1, 2, 1], "data_offsets": [0, 4]}}).encode()
    with pytest.raises(ValueError, match=r"not a microbp file.*microbp.graph.*net\.load_tensors\(file\)"):
        module.Net.read(len(header).to_bytes(8, "little") + header + bytes(4))


@pytest.mark.parametrize("data", [b"", b"abc", bytes(64), b"\x80\x02}q\x00." * 20, b"PK\x03\x04" * 50, b"\xff" * 100])
def test_other_files(module, data):
    with pytest.raises(ValueError, match="not a microbp file"):
        module.Net.read(data)


def test_an_error_shows_its_errno_once(module):
    """Python shows the errno of an OSError, so the text must not repeat it."""
    for call in (module.Net.load, module.Net(SMALL).save):
        with pytest.raises(FileNotFoundError, match=r"^\[Errno 2\] [^0-9]*nowhere[^0-9]*$"):
            call("/nowhere/net")


def test_errors_of_damaged_files(module, tmp_path):
    data, path = bytearray(make(module).write()), tmp_path / "net.safetensors"
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"net.safetensors: the file is damaged: its checksum does not match; restore it from a copy"):
        module.Net.load(path)
    with pytest.raises(ValueError, match="damaged.*no microbp.crc32c"):
        module.Net.read(re.sub(rb',"microbp.crc32c":"(.{8})"', rb'}           ,       "y":{"z":""', bytes(data)))


# ---- other libraries ----


def test_safetensors_opens_the_file(module, tmp_path):
    safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")
    np = pytest.importorskip("numpy")
    net, path = module.Net(GRAPHS["branches"], seed=3), tmp_path / "net.safetensors"
    net.save(path)
    numbers = np.asarray(net.params)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata()["microbp.graph"] == net.text()
        assert set(file.keys()) == {f"{layer}.{name}" for layer, name, *_ in net.tensors()}
        for layer, name, offset, rows, cols in net.tensors():
            expected = numbers[offset : offset + rows * cols].reshape(rows, cols).T
            np.testing.assert_array_equal(file.get_tensor(f"{layer}.{name}"), expected if name == "weight" else expected[:, 0])


@pytest.mark.peers
def test_torch_loads_the_file(module, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    safetensors_torch = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    np = pytest.importorskip("numpy")
    text = "input 4\ndense 0 layer=hidden units=8 activation=relu\ndense 1 layer=last units=3\noutput 2\n"
    net, path = module.Net(text, seed=3), tmp_path / "net.safetensors"
    net.save(path)
    modules = {"hidden": torch.nn.Linear(4, 8), "relu": torch.nn.ReLU(), "last": torch.nn.Linear(8, 3)}
    other = torch.nn.Sequential(OrderedDict(modules))
    other.load_state_dict(safetensors_torch.load_file(path))
    x, out = np.random.default_rng(0).normal(size=(5, 4)).astype("float32"), np.empty((5, 3), "float32")
    net.predict([x], [out], False, -1)
    np.testing.assert_allclose(out, other(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-6)
