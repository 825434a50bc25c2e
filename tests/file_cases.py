"""Networks, notes and extras for the tests of files."""

import random

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
