"""bp.hash_features: one level for a value in whatever form it comes, evenly spread levels, refusals that name the place."""

import math

import numpy as np
import pytest

import microbp as bp
from microbp.data import hashing

WORDS = ["Rome", "Oslo", "", "São Paulo", "日本", "a much longer name, of more than thirty-two bytes"]
NUMBERS = [0, 1, -1, 127, -128, 77]
STRINGS = {
    "list": list,
    "tuple": tuple,
    "strings of NumPy": np.array,
    "objects": lambda words: np.array(words, object),
    "strings among objects": lambda words: np.array([np.str_(word) for word in words], object),
    "bytes": lambda words: [word.encode() for word in words],
    "bytes of NumPy": lambda words: np.array([word.encode() for word in words]),
    "every second": lambda words: np.repeat(np.array(words), 2)[::2],
    "big-endian": lambda words: np.array(words).astype(">U60"),
}


@pytest.fixture
def each_backend(backend, monkeypatch):
    monkeypatch.setenv("MICROBP_BACKEND", backend)


@pytest.mark.usefixtures("each_backend")
@pytest.mark.parametrize("form", STRINGS)
def test_a_string_has_one_level_in_every_form(form):
    found = bp.hash_features(STRINGS[form](WORDS), levels=2**30)
    assert found.dtype == np.int64 and found.shape == (len(WORDS),)
    assert found.tolist() == [bp.hash_features(word, levels=2**30).item() for word in WORDS]
    assert len(set(found)) == len(WORDS)


@pytest.mark.usefixtures("each_backend")
@pytest.mark.parametrize("dtype", [*np.typecodes["AllInteger"], ">i2", ">i8", ">u4", object])
def test_a_number_has_one_level_in_every_dtype(dtype):
    numbers = np.array(NUMBERS).astype(dtype)
    expected = bp.hash_features([int(number) for number in numbers], levels=2**30)
    for given in (numbers, numbers[::-1][::-1], np.repeat(numbers, 2)[::2], list(numbers), np.array(list(numbers), object)):
        np.testing.assert_array_equal(bp.hash_features(given, levels=2**30), expected)


@pytest.mark.parametrize("dtype", [np.int64, "U5", object])
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (5,), (4, 3), (2, 3, 4)])
def test_the_result_has_the_shape_of_the_values(dtype, shape):
    values = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    found = bp.hash_features(values, levels=1000)
    assert found.shape == shape
    assert found.ravel().tolist() == [bp.hash_features(value, levels=1000).item() for value in values.ravel()]
    np.testing.assert_array_equal(bp.hash_features(values.T, levels=1000), found.T)


@pytest.mark.parametrize("values", [np.arange(25), np.arange(25).astype(str)])
def test_parts_change_nothing(values, monkeypatch):
    whole = bp.hash_features(values, levels=10**6)
    monkeypatch.setattr(hashing, "_AT_ONCE", 7)
    np.testing.assert_array_equal(bp.hash_features(values, levels=10**6), whole)


def test_items_of_a_list_keep_their_types():
    assert bp.hash_features(["5", 5, "a\0", "a"], levels=2**30).tolist() == [
        bp.hash_features(value, levels=2**30).item() for value in ("5", np.int8(5), b"a\0", b"a")
    ]


def test_columns_of_pandas_and_polars():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    words, numbers = bp.hash_features(WORDS, 2**30), bp.hash_features(NUMBERS, 2**30)
    for dtype in ("str", "string", object, "category"):
        np.testing.assert_array_equal(bp.hash_features(pandas.Series(WORDS, dtype=dtype), 2**30), words)
    for dtype in ("int8", "Int64", "category", object):
        np.testing.assert_array_equal(bp.hash_features(pandas.Series(NUMBERS, dtype=dtype), 2**30), numbers)
    both = bp.hash_features(pandas.DataFrame({"word": WORDS, "number": NUMBERS}), 2**30)
    np.testing.assert_array_equal(both, np.stack([words, numbers], axis=1))
    polars = pytest.importorskip("polars", reason="polars is not installed")
    np.testing.assert_array_equal(bp.hash_features(polars.Series(WORDS), 2**30), words)


# ---- statistics ----

COUNT = 200_000
KEYS = {
    "neighbours": np.arange(COUNT),
    "multiples": np.arange(COUNT) * 2**32,
    "negative": -np.arange(COUNT) - 1,
    "words": np.char.add("user", np.arange(COUNT).astype(str)),
    "long": np.char.add("a key with many equal bytes at its start, ", np.arange(COUNT).astype(str)),
}


def is_even(levels_found, levels):
    """Whether Pearson's chi-square of the counts is within five standard deviations of its mean."""
    counts = np.bincount(levels_found, minlength=levels)
    chi_square = ((counts - COUNT / levels) ** 2).sum() / (COUNT / levels)
    return counts.size == levels and abs(chi_square - (levels - 1)) < 5 * math.sqrt(2 * (levels - 1))


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("levels", [2, 2**4, 2**10, 2**14, 3, 1000, 9973])
@pytest.mark.parametrize("seed", [0, 1])
def test_levels_are_evenly_spread(keys, levels, seed):
    assert is_even(bp.hash_features(KEYS[keys], levels, seed), levels)


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("seeds", [(0, 1), (1, 2), (0, 2**63), (0, 2**32)])
def test_levels_of_two_seeds_are_independent(keys, seeds):
    first, second = (bp.hash_features(KEYS[keys], 61, seed) for seed in seeds)
    assert is_even(61 * first + second, 61 * 61)


def test_the_docstring_says_how_many_levels_differ():
    for levels in (1000, 10**5, 10**7):
        expected = levels * (1 - math.exp(-COUNT / levels))
        assert abs(len(np.unique(bp.hash_features(KEYS["words"], levels))) - expected) < 5 * math.sqrt(min(COUNT, levels))


# ---- refusals ----

ONE_OF = "but each must be a string, bytes or a whole number"
BAD = {
    "None": (None, TypeError, f"values has None, {ONE_OF}; fill missing values first"),
    "a set": ({1}, TypeError, f"values has {{1}}, {ONE_OF}"),
    "None in a list": (["a", None], TypeError, f"values has None at row 1, {ONE_OF}; fill missing values first"),
    "NaN": ([["a", "b"], ["c", math.nan]], TypeError, f"values has nan at row 1, column 1, {ONE_OF}; fill missing values first"),
    "a float": ([[["a"], [2.0]]], TypeError, f"values has 2.0 at axis 0: 0, axis 1: 1, axis 2: 0, {ONE_OF}"),
    "a bool": ([1, True], TypeError, f"values has True at row 1, {ONE_OF}"),
    "unequal lists": ([[1, 2], [3]], TypeError, f"values has [1, 2] at row 0, {ONE_OF}"),
    "floats": (np.ones(2), TypeError, f"values has dtype float64, {ONE_OF}; for whole numbers, fill gaps and use values.astype(int)"),
    "bools": (np.ones(2, bool), TypeError, f"values has dtype bool, {ONE_OF}"),
    "dates": (np.zeros(2, "M8[D]"), TypeError, f"values has dtype datetime64[D], {ONE_OF}"),
    "too large": ([0, 2**64], ValueError, f"values has {2**64} at row 1, but whole numbers must be from -2**63 to 2**64 - 1"),
    "no UTF-8": (["a", "\ud800"], ValueError, r"values has '\ud800' at row 1, which cannot be written as UTF-8"),
    "masked": (
        np.ma.array([1, 2], mask=[False, True]),
        ValueError,
        "values has masked elements: fill them, as in values.filled(0), or leave them out",
    ),
}


@pytest.mark.usefixtures("each_backend")
@pytest.mark.parametrize("what", BAD)
def test_a_value_without_a_hash_is_refused_with_its_place(what):
    values, error, text = BAD[what]
    with pytest.raises(error) as caught:
        bp.hash_features(values, levels=10)
    assert str(caught.value) == text


def test_a_refused_value_has_its_row_beyond_the_first_part():
    values = np.array(["a"] * (hashing._AT_ONCE + 9), object)
    values[-2] = None
    with pytest.raises(TypeError, match=f"values has None at row {len(values) - 2},"):
        bp.hash_features(values, levels=10)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"levels": 0}, ValueError, "levels must be at least 1, not 0"),
        ({"levels": 2**31}, ValueError, r"levels must be below 2\*\*31, not 2147483648"),
        ({"levels": 10.0}, TypeError, "levels must be a whole number, not 10.0"),
        ({"levels": 10, "seed": -1}, ValueError, "seed must be at least 0, not -1"),
        ({"levels": 10, "seed": 2**64}, ValueError, r"seed must be below 2\*\*64"),
        ({"levels": 10, "seed": "a"}, TypeError, "seed must be a whole number, not 'a'"),
    ],
)
def test_wrong_settings_are_refused(settings, error, text):
    with pytest.raises(error, match=text):
        bp.hash_features(["a"], **settings)
    assert bp.hash_features(["a"], np.int64(2**31 - 1), seed=2**64 - 1).max() < 2**31 - 1
