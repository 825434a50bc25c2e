"""The statements of graph text for positions: both backends read them alike."""

import pytest

from microbp.core import backend as backends

LINES = [
    "grid 0 height=4 width=3", "grid 0 height=1 width=1", "grid 0 height=5 width=3", "grid 0 height=4", "grid 0 height=2.5 width=2",
    "grid 0 height=0 width=2", "grid 0 height=1e300 width=1", "grid 1 height=2 width=6", "grid 0 height=2 width=3 depth=1", "grid",
    "window 2 size=3x2", "window 2 size=3x2 stride=2x1 pad=1x0 dilation=1x2", "window 2 size=5x1", "window 2 size=5x1 pad=1x0", "window 2",
    "window 2 size=3", "window 2 size=0x1", "window 2 size=1x-1", "window 2 size=3x2x1", "window 2 size=x",
    "window 2 size=1x1 pad=0x0 size=1x1",
    "window 2 size=70000x70000 pad=70000x70000", "window 2 size=1x1 pad=99999x99999", "window 2 size=1x1 kind=max",
    "window 2 size=1x1 pad=2147483648x0", "window 0 size=1x1", "window 0 size=3x3 pad=1x1",
    "pool 2 size=2x2", "pool 2 size=2x2 stride=1x1 kind=mean", "pool 2 size=2x2 kind=sum", "pool 2 size=5x3", "pool 2 pad=1x1", "pool 2",
    "repeat 0 times=3", "repeat 0", "repeat 0 times=2.5", "repeat 2 times=2", "repeat 0 times=1e9", "repeat 0 times=0",
    "last 2", "last 0", "last", "last 2 0", "last 9", "add 2 0", "concat 2 0", "concat 2 3", "multiply 2 3",
    "recurrent 2 units=3", "recurrent 2 units=3 cell=lstm reverse=1 bias=0", "recurrent 0 layer=a units=12 cell=tanh state=0",
    "recurrent 2 units=12 state=1", "recurrent 2 units=6 cell=lstm state=1", "recurrent 2 units=3 state=1", "recurrent 2 units=12 state=2",
    "recurrent 2 units=12 cell=lstm state=1", "recurrent 2 units=3 state=9", "recurrent 2 units=3 state=x", "recurrent 2 units=3 state=",
    "recurrent 2 units=3 cell=rnn", "recurrent 2", "recurrent", "recurrent 2 units=0", "recurrent 2 units=3 reverse=2",
    "recurrent 2 units=3 bias=0 bias_lr=1", "recurrent 2 units=3 bias=0 bias_init=normal", "recurrent 2 units=3 activation=tanh",
    "recurrent 2 units=1000000000", "recurrent 2 units=200000000", "recurrent 2 units=3 init=orthogonal recurrent_init=normal(std=0.2)",
    "recurrent 2 units=3 init=orthogonal(gain=0.5) bias_init=uniform lr=0.5 l1=1 l2=2 max_norm=3 bias_lr=4 frozen=1",
    "recurrent 2 layer=r units=3 cell=gru\nrecurrent 3 layer=r", "recurrent 2 layer=r units=3\nrecurrent 3 layer=r units=3",
    "recurrent 2 layer=r units=1\nrecurrent 2 layer=r reverse=1\nrecurrent 4 layer=r",
    "recurrent 2 layer=r units=1 cell=tanh\ndense 2 layer=r",
    "recurrent 2 layer=r units=12 cell=tanh\nrecurrent 3 layer=r reverse=1 state=0",
    "recurrent 2 layer=r units=3\nrecurrent 0 layer=r", "dense 2 units=1073741824",
]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_both_backends_read_statements_alike(line):
    """The same text and nodes, or the same error."""
    results = []
    for backend in ("compiled", "reference"):
        text = f"input 12\ninput 12\ngrid 0 height=4 width=3\ngrid 1 height=3 width=4\n{line}\noutput 4\n"
        try:
            net = backends.load(backend).Net(text)
            results.append((net.text(), net.nodes()))
            assert backends.load(backend).Net(net.text()).text() == net.text()
        except ValueError as error:
            results.append(str(error))
    assert results[0] == results[1]


def test_a_scaled_output_has_one_position():
    for backend in ("compiled", "reference"):
        with pytest.raises(ValueError, match=r"graph line 3: output 0 has several positions, so it cannot have mean and std"):
            backends.load(backend).Net("input 4\ngrid 0 height=1 width=2\noutput 1 activation=identity mean=(0 1) std=(1 1)\n")
