"""Settings as text, checks of values, and the error for an unknown name."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import microbp as bp
from microbp.core import _core
from microbp.core.checks import file_path, floating, increasing, new_file, real, string, two, whole_number
from microbp.core.specs import OptimizerSpec, unknown
from microbp.core.text import call, number, read_call, read_number

NET = _core.Net("input 1\ndense 0 units=1\noutput 1\n")


@given(st.floats(allow_nan=False))
def test_number_and_read_number_are_inverse(value):
    assert read_number(number(value)) == value
    assert set(number(value)) <= set("0123456789abcdefinpx.+-")


@given(
    st.from_regex(r"\w+", fullmatch=True), st.dictionaries(st.from_regex(r"[a-z]+", fullmatch=True), st.sampled_from(["1", "f(a=1,b=2)"]))
)
def test_call_and_read_call_are_inverse(name, settings):
    assert read_call(call(name, settings)) == (name, settings)


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("relu", "relu", {}),
        (" relu ( ) ", "relu", {}),
        ("f(a = 1, b=2,)", "f", {"a": "1", "b": "2"}),
        ("f(a=g(b=1,c=2),d=h(e=3))", "f", {"a": "g(b=1,c=2)", "d": "h(e=3)"}),
        ("two words", "two words", {}),
        (" adam ( lr = 1E-3, eps=1e-30 ) ", "adam", {"lr": "1E-3", "eps": "1e-30"}),
    ],
)
def test_a_call_is_a_name_with_settings(text, name, settings):
    assert read_call(text) == (name, settings)


def test_a_setting_is_given_once():
    with pytest.raises(ValueError, match="a is given twice"):
        read_call("f(a=1,b=2,a=1)")
    with pytest.raises(ValueError, match="loss 'quantile': q is given twice, in the text and as an argument"):
        bp.Loss("quantile(q=0.5)", q=0.5)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: bp.Init("normal(std=1)"), "normal(std=1.0)"),
        (lambda: bp.Loss("quantile( q = 9E-1 )"), "quantile(q=0.9)"),
        (lambda: bp.Activation(" leaky_relu(slope=0.2) "), "leaky_relu(slope=0.2)"),
        (lambda: OptimizerSpec("rprop(lr=0.5)"), "irprop_minus(lr=0.5)"),
        (lambda: OptimizerSpec("adam(lr=1E-2, eps=1e-30)"), f"adam(lr=0.01,eps={(1e-30).hex()})"),
        (lambda: bp.Init("normal"), "normal"),
    ],
)
def test_a_formula_is_made_from_text_with_parameters(made, text):
    assert made().text == text and type(made()).parse(text) == made()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-30", 1e-30),
        ("1E-3", 1e-3),
        ("5e-324", 5e-324),
        ("123456789012345e-330", 123456789012345e-330),
        ("1e23", 1e23),
        ("0X1P-3", 0.125),
    ],
)
def test_both_backends_read_the_same_numbers(module, text, value):
    net = module.Net("input 1\ndense 0 units=1 activation=elu( alpha = 1E0 )\noutput 1\n")
    t = module.Trainer(net, [" mse "], [1.0], f" sgd ( lr = {text} ) ")
    assert t.get("lr") == value
    with pytest.raises(ValueError, match=r"lr must be in \[0,inf\), not inf"):
        module.Trainer(net, ["mse"], [1.0], "sgd(lr=1e400)")


@given(st.integers(0, 10**15 - 1), st.integers(-345, 308))
def test_decimals_are_the_nearest_doubles(mantissa, exponent):
    text = f"{mantissa}e{exponent}"
    value = float(text)
    if value < math.inf:
        assert _core.Trainer(NET, ["mse"], [1.0], f"sgd(lr={text})").get("lr") == value


@pytest.mark.parametrize("text", ["leaky_relu(0.2)", "f(a=1,b)"])
def test_a_setting_has_a_name(text):
    with pytest.raises(ValueError, match="written name=value"):
        read_call(text)


@pytest.mark.parametrize(
    ("name", "valid", "hint"),
    [
        ("Relu", ["elu", "relu", "selu"], "relu"),
        ("swish", ["sigmoid", "silu"], "silu"),  # names of other libraries
        ("Linear", ["relu", "identity"], "identity"),
        ("Linear", ["dense", "relu"], "dense"),
        ("xavier", ["he_normal", "glorot_uniform"], "glorot_uniform"),
        ("categorical_crossentropy", ["bce", "cross_entropy"], "cross_entropy"),
        ("swish", ["relu", "tanh"], None),
        ("ADAM", ["adamw", "adam"], "adam"),
        ("adma", ["adamax", "adam", "nadam"], "adam"),
        ("cross", ["mse", "cross_entropy"], "cross_entropy"),
        ("Leaky", ["relu", "leaky_relu"], "leaky_relu"),
        ("LeakyReLU", ["relu", "leaky_relu"], "leaky_relu"),
        ("softmx", ["sigmoid", "softmax"], "softmax"),
        ("prise", ["Price", "size"], "Price"),
        ("sgd_", ["sgd_nesterov", "sgd_momentum"], "sgd_nesterov"),
        ("other", ["relu"], None),
        ("", ["relu"], None),
        ("relu", [], None),
        (5, ["relu"], None),
    ],
)
def test_the_error_suggests_the_nearest_name(name, valid, hint):
    text = str(unknown("thing", name, valid))
    assert text.startswith(f"unknown thing {name!r}; did you mean {hint!r}? valid: " if hint else f"unknown thing {name!r}; valid: ")
    assert text.endswith(", ".join(valid) or "none")


@pytest.mark.parametrize("value", [1, np.int8(1), np.uint64(1), np.array(1), 2**63 - 1])
def test_whole_numbers(value):
    assert whole_number(value, "n") == int(value) and type(whole_number(value, "n")) is int


@pytest.mark.parametrize(
    ("check", "error", "words"),
    [
        (lambda: whole_number(True, "n"), TypeError, "n must be a whole number, not True"),
        (lambda: whole_number(np.True_, "n"), TypeError, "n must be a whole number"),
        (lambda: whole_number(1.0, "n"), TypeError, "n must be a whole number, not 1.0"),
        (lambda: whole_number("1", "n"), TypeError, "n must be a whole number, not '1'"),
        (lambda: whole_number(0, "n"), ValueError, "n must be at least 1, not 0"),
        (lambda: whole_number(2**63, "n"), ValueError, r"n must be below 2\*\*63"),
        (lambda: whole_number(-1, "seed", least=0, bits=64), ValueError, "seed must be at least 0"),
        (lambda: whole_number(2**64, "seed", least=0, bits=64), ValueError, r"seed must be below 2\*\*64"),
        (lambda: floating("n", "much"), TypeError, "n must be a number, not 'much'"),
        (lambda: real("(0,1]")("n", 0), ValueError, r"n must be in \(0,1\], not 0"),
        (lambda: real("[0,1)")("n", 1), ValueError, r"n must be in \[0,1\), not 1"),
        (lambda: real("[-inf,inf]")("n", math.nan), ValueError, "n must be in .*, not nan"),
        (lambda: increasing("n", (2, 2)), ValueError, "n must be increasing whole numbers"),
        (lambda: two((1, 2))("n", (1, 2, 3)), ValueError, r"n must be two numbers, for example \(1, 2\)"),
        (lambda: two((1, 2))("n", 1.0), ValueError, "n must be two numbers"),
        (lambda: read_number("x"), ValueError, "'x' is not a number"),
        (lambda: read_call("f(a=1"), ValueError, r"'f\(a=1' must end with '\)'"),
        (lambda: string("n", 1), TypeError, "n must be a string, not 1"),
        (lambda: file_path(3), TypeError, r"path must be a str or os\.PathLike, not int"),
        (lambda: new_file("/nowhere/x"), FileNotFoundError, "cannot write /nowhere/x: the directory /nowhere does not exist; create it"),
        (lambda: real("(0,1]")("n", np.ones((2, 3))), TypeError, r"n must be a number, not an array of shape \(2, 3\)"),
        (lambda: string("n", bp.Adam), TypeError, r"n must be a string, not the class Adam \(add parentheses: bp\.Adam\(\.\.\.\)\)"),
        (lambda: string("n", range), TypeError, "n must be a string, not the class range$"),
        (lambda: string("n", ["a" * 300]), TypeError, r"n must be a string, not \['a{198}\.\.\.$"),
    ],
)
def test_wrong_values_are_refused(check, error, words):
    with pytest.raises(error, match=words):
        check()
