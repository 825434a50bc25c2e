"""Networks, notes and extras for the tests of files, the state of a trainer, and changes of files."""

import random
import re
import resource
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from microbp.reference.file import crc32c
from microbp.training import trainer_file

BACKENDS = {"compiled": "microbp.core._core", "reference": "microbp.reference"}
SMALL = "input 3\ndense 0 units=2\noutput 1\n"
GRAPHS = {
    "small": SMALL,
    "branches": "input 7\ndense 0 layer=a units=33 activation=relu\ndense 1 units=33 activation=leaky_relu(slope=0.2)\nadd 1 2\n"
    "concat 3 0\ndense 4 units=5 bias=0 frozen=1\noutput 5\n",
    "shared": "input 4\ninput 2\ndense 0 layer=shared units=4\ndense 2 layer=shared\nconcat 3 1\ndense 4 units=1\n"
    "output 5 activation=sigmoid\noutput 2\n",
    "scalar": "input 1\ndense 0 units=1\noutput 1\n",
}


NOTES = "".join(map(chr, range(1, 300))) + '\\u0041 \\/ "quoted"\U0001f600\ud7ff\ue000\U0010ffff'  # all kinds of characters


def make(module, text=SMALL, dtype="float32", seed=0):
    """A net whose parameters are random bits, including NaNs and subnormals."""
    net = module.Net(text, dtype, seed)
    numbers = memoryview(net.params).cast("B")
    numbers[:] = random.Random(seed).randbytes(len(numbers))
    return net


def state(net):
    return net.text(), net.dtype, net.seed, net.notes, bytes(memoryview(net.params))


EXTRAS = (NOTES, {"trainer.slots.m": bytes(range(256)), "trainer.state.empty": b"", "a.b-_9.c.d": bytes(8)})


def fix(data):
    """The bytes with the correct checksum."""
    found = re.search(rb'"microbp.crc32c":"(.{8})"', data, re.DOTALL)
    if not found:
        return data
    zeros = data[: found.start(1)] + b"00000000" + data[found.end(1) :]
    return data[: found.start(1)] + b"%08x" % crc32c(zeros) + data[found.end(1) :]


def replace(data, begin, end, new):
    """Replaces the bytes from begin to end of a header, and corrects its length and the checksum."""
    length = int.from_bytes(data[:8], "little") + len(new) - (end - begin)
    return fix(length.to_bytes(8, "little") + data[8:begin] + new + data[end:])


def substitute(data, old, new):
    begin = data.index(old)
    return replace(data, begin, begin + len(old), new)


def verdict(module, data):
    """What a backend reads from the bytes: the state of a net, and its extras, if any. None if the bytes are refused."""
    try:
        net, extras = module.Net.read_with(data)
        return (*state(net), extras) if extras else state(net)
    except (ValueError, NotImplementedError):
        return None


def everything(t):
    """The whole state of a trainer and its network, except the durations of epochs."""
    text, vectors = trainer_file.encode(t.net, t.__getstate__())
    seconds = [value for name, values in t.history.items() for value in ([0.0] * len(values) if name == "seconds" else values)]
    vectors = vectors | {trainer_file._HISTORY: np.array(seconds).tobytes()}
    return t.net.text(), t.net.seed, t.net.params.tobytes(), t.net.buffers.tobytes(), text, vectors


@contextmanager
def little_memory():
    """Limits the address space to half a GiB more than now, so that allocating a hostile size raises MemoryError."""
    if not sys.platform.startswith("linux"):
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
