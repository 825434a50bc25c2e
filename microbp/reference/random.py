"""Random numbers by Philox 4x32-10 (Salmon et al., SC 2011). A number depends on its place in the stream, not on the numbers drawn before.
At the end, the initial weights and biases.

The seed is the key. The numbers equal those of src/formulas/random.h bit for bit, because the operations on floats and their order are the
same.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .layers import GATES, Layer, Recurrent
from .spec import Spec

Words = tuple[int, int, int, int]

_WORD = 0xFFFFFFFF
_LN2_HIGH, _LN2_LOW = 0.6931471805582987, 1.6465949582897082e-12  # ln 2 in two parts: k * _LN2_HIGH is exact for every exponent k
_SQRT_HALF = 0.7071067811865476
# minimax fits: (2 atanh(s) / s - 2) / x, (sin(y) / y - 1) / x and (cos(y) - 1 + y^2 / 2) / x^2, with x = s^2 or y^2
_LOG_SERIES = (
    0.6666666666666734,
    0.3999999999941432,
    0.28571428742474875,
    0.22222198563486237,
    0.181835648666087,
    0.15314035837351037,
    0.14796105416849814,
)
_SIN_SERIES = (
    -0.16666666666666632,
    0.008333333333322425,
    -0.00019841269829816942,
    2.755731369522346e-06,
    -2.505075865275635e-08,
    1.5896827897333608e-10,
)
_COS_SERIES = (
    0.0416666666666666,
    -0.0013888888888874138,
    2.4801587289491827e-05,
    -2.755731435524159e-07,
    2.0875723684385627e-09,
    -1.1359669864671813e-11,
)


@dataclass(frozen=True)
class Place:
    """The place of the random numbers of a pass in training: the trainer's seed and step count, and the number of the first row in the
    logical batch."""

    seed: int
    step: int
    first_row: int


def draws(seed: int, purpose: int, layer: int, count: int, normal: bool, dtype: str) -> list[float]:
    """The first `count` numbers of a stream: uniform in [0, 1), with 24 bits in float32 and 53 in float64; or standard normal."""
    uniform = _uniform_float32 if dtype == "float32" else _uniform_float64
    numbers: list[float] = []
    block = 0
    while len(numbers) < count + count % 2:  # normal numbers come in pairs
        numbers += uniform(_philox(seed, (block, purpose << 24 | layer, 0, 0)))
        block += 1
    if normal:
        numbers = [number for i in range(0, count, 2) for number in _normal_pair(numbers[i], numbers[i + 1])]
    return numbers[:count]


def matrix_draws(place: Place, purpose: int, node: int, rows: int, cols: int, normal: bool, dtype: str) -> list[float]:
    """A number for each element of a node's matrix, row-major. The uniform numbers of dropout have 24 bits in both dtypes. In the stream, a
    row has cols elements rounded up to a multiple of 4."""
    whole, words = -(-cols // 4) * 4, 2 if normal and dtype == "float64" else 1
    uniform = _uniform_float64 if words == 2 else _uniform_float32
    numbers: list[float] = []
    for row in range(place.first_row, place.first_row + rows):
        first = row * whole * words // 4
        counters = (
            (block & _WORD, purpose << 24 | node, place.step & _WORD, place.step >> 32)
            for block in range(first, first + whole * words // 4)
        )
        drawn = [number for counter in counters for number in uniform(_philox(place.seed, counter))]
        if normal:
            drawn = [number for i in range(0, whole, 2) for number in _normal_pair(drawn[i], drawn[i + 1])]
        numbers += drawn[:cols]
    return numbers


def permutation(seed: int, purpose: int, instance: int, n: int) -> array[int]:
    """A permutation of 0 .. n - 1 by the Fisher-Yates shuffle: the i-th 64 random bits are scaled to an index in 0 .. i."""
    order = array("q", range(n))
    for i, bits in zip(range(n - 1, 0, -1), _bits_downwards(seed, purpose, instance, n - 1), strict=True):
        j = bits * (i + 1) >> 64
        order[i], order[j] = order[j], order[i]
    return order


def _bits_downwards(seed: int, purpose: int, instance: int, last: int) -> Iterator[int]:
    """The random 64-bit numbers at positions `last`, `last` - 1, ..., 1 of the stream. A block of four words contains two of them."""
    for block in range(last // 2, -1, -1):
        words = _philox(seed, (block & _WORD, purpose << 24 | block >> 32, instance & _WORD, instance >> 32))
        if 2 * block + 1 <= last:
            yield words[2] << 32 | words[3]
        if block > 0:
            yield words[0] << 32 | words[1]


def _philox(seed: int, counter: Words) -> Words:
    """Four random words for a counter. Multipliers and key increments are from section 4 of the paper."""
    key0, key1 = seed & _WORD, seed >> 32
    w0, w1, w2, w3 = counter
    for _ in range(10):
        a, b = 0xD2511F53 * w0, 0xCD9E8D57 * w2
        w0, w1, w2, w3 = b >> 32 ^ w1 ^ key0, b & _WORD, a >> 32 ^ w3 ^ key1, a & _WORD
        key0, key1 = key0 + 0x9E3779B9 & _WORD, key1 + 0xBB67AE85 & _WORD
    return w0, w1, w2, w3


def _uniform_float32(words: Words) -> list[float]:
    return [(word >> 8) * 2.0**-24 for word in words]


def _uniform_float64(words: Words) -> list[float]:
    return [((high << 32 | low) >> 11) * 2.0**-53 for high, low in (words[:2], words[2:])]


def _normal_pair(u1: float, u2: float) -> tuple[float, float]:
    """Two normal numbers from two uniform ones (Box & Muller 1958)."""
    radius = math.sqrt(-2 * _log(1 - u1))
    cosine, sine = _turn(u2)
    return radius * cosine, radius * sine


def _log(x: float) -> float:
    """log x, with x = 2^k (1 + f) and 1 + f between sqrt(1/2) and sqrt(2)."""
    mantissa, k = math.frexp(x)
    if mantissa < _SQRT_HALF:
        mantissa, k = 2 * mantissa, k - 1
    f = mantissa - 1
    s = f / (2 + f)
    square, half_square = s * s, f * f * 0.5
    return k * _LN2_HIGH - (half_square - (s * (half_square + square * _polynomial(square, _LOG_SERIES)) + k * _LN2_LOW) - f)


def _turn(u: float) -> tuple[float, float]:
    """Cosine and sine of 2 pi u. The nearest multiple of a quarter turn is subtracted; the rest is from -pi/4 to pi/4."""
    quarter = round(4 * u)
    y = math.tau * (u - quarter * 0.25)
    x = y * y
    sine = y + y * (x * _polynomial(x, _SIN_SERIES))
    cosine = 1 - x * 0.5 + x * x * _polynomial(x, _COS_SERIES)
    return ((cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine))[quarter % 4]


def _polynomial(x: float, coefficients: Sequence[float]) -> float:
    """The polynomial with these coefficients, lowest first, by Horner's rule in x^2 on pairs."""
    if len(coefficients) == 1:
        return coefficients[0]
    pair = coefficients[0] + coefficients[1] * x
    return pair + x * x * _polynomial(x, coefficients[2:]) if len(coefficients) > 2 else pair


# ---- initial weights and biases ----

_WEIGHTS, _BIASES, _STATES = 1, 6, 7  # purposes of random numbers


def draw_tensor(params: array[float], name: str, offset: int, layer: Layer, seed: int, number: int) -> None:
    """Draws the weight or the bias of a layer: its number in the net, and the place of the tensor in the flat vector."""

    def draw(init: Spec, purpose: int, first: int, shape: tuple[int, int], inputs: int, gates: int = 1) -> None:
        """Each gate is a matrix of its own: as many columns of the tensor, whose shape is given."""
        distribution, count, units = init.entry.distribution, shape[0] * shape[1], shape[1] // gates
        if distribution == "keep":
            return
        outputs = layer.units
        scale, normal = init.entry.scale(inputs, outputs, **init.values), distribution != "uniform"
        factor = 1.0 if distribution == "orthogonal" and scale else scale
        dtype = "float64" if params.typecode == "d" else "float32"
        drawn = draws(seed, purpose, number, count, normal, dtype) if scale else [0.0] * count
        values = array(params.typecode, [factor * (n if normal or not scale else 2 * n - 1) for n in drawn])
        for g in range(gates if distribution == "orthogonal" and scale else 0):
            _orthogonalize(values, g * units, (shape[0], units), shape[1], scale)
        params[first : first + count] = values

    rows, cols = layer.shape
    if name == "weight" and not isinstance(layer, Recurrent):
        draw(layer.init, _WEIGHTS, offset, (rows, cols), 1 if layer.kind == "embedding" else rows)
    elif isinstance(layer, Recurrent) and name == "weight":
        gates = GATES[layer.cell]
        draw(layer.init, _WEIGHTS, offset, (layer.inputs, cols), layer.inputs, gates)
        draw(layer.recurrent_init, _STATES, offset + layer.inputs * cols, (layer.units, cols), layer.units, gates)
    else:
        draw(layer.bias_init, _BIASES, offset, (1, layer.biases), layer.inputs, layer.biases // layer.units)
    if name == "bias" and isinstance(layer, Recurrent) and layer.cell == "lstm" and layer.bias_init.entry.distribution != "keep":
        for i in range(offset + layer.units, offset + 2 * layer.units):  # the forget gate (Gers et al. 2000)
            params[i] += 1.0


def _orthogonalize(values: array[float], first: int, shape: tuple[int, int], ld: int, length: float) -> None:
    """Makes the columns of a matrix orthogonal, or its rows if there are fewer, and `length` long, by the method of Gram and Schmidt;
    twice, because once leaves rounding errors. first: the place of its first element. ld: between its rows."""
    rows, cols = shape
    count, n, step, next_one = (cols, rows, ld, 1) if rows >= cols else (rows, cols, 1, ld)
    places = [range(first + a * next_one, first + a * next_one + n * step, step) for a in range(count)]

    def dot(a: range, b: range) -> float:
        total = 0.0
        for i, j in zip(a, b):
            total += values[i] * values[j]
        return total

    def add_multiple(a: range, b: range, by: float) -> None:
        for i, j in zip(a, b):
            values[i] = values[i] + by * values[j]

    for a, place in enumerate(places):
        for _ in range(2):
            for other in places[:a]:
                add_multiple(place, other, -dot(place, other))
            add_multiple(place, place, 1 / math.sqrt(dot(place, place)) - 1)
    for place in places if length != 1 else []:
        add_multiple(place, place, length - 1)
