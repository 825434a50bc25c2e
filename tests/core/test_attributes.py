"""Objects with a fixed set of attributes."""

import pickle
import subprocess
import sys
import weakref

import pytest

from microbp.core.attributes import Closed


class Lamp(Closed):
    __slots__ = ("__weakref__", "_power", "height", "lr")

    @property
    def power(self):
        return self._power

    @power.setter
    def power(self, value):
        self._power = value.watts

    @property
    def colour(self):
        return "red"

    def shine(self):
        pass


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("heigth", r"Lamp has no attribute 'heigth'; did you mean 'height'\? Writable attributes: height, lr, power"),
        ("learning_rate", r"Lamp has no attribute 'learning_rate'; did you mean 'lr'\? Writable attributes: height, lr, power"),
        ("color", r"Lamp has no attribute 'color'; did you mean 'colour', which is read-only\? Writable attributes: height, lr, power"),
        ("zzz", "Lamp has no attribute 'zzz'; writable attributes: height, lr, power"),
        ("colour", "Lamp.colour is read-only; writable attributes: height, lr, power"),
        ("shine", "Lamp.shine is read-only"),
    ],
)
def test_other_attributes_are_refused(name, message):
    with pytest.raises(AttributeError, match=message):
        setattr(Lamp(), name, 1)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("bp.mlp([2, 1]).parms", "params"),
        ("bp.mlp([2, 1]).parms = 1", "params"),
        ("bp.Trainer(bp.mlp([2, 1]), 'mse').average", "averaged"),
        ("bp.Trainer(bp.mlp([2, 1]), 'mse').stpes = 1", "steps"),
        ("bp.Adma", "Adam"),
    ],
)
def test_a_traceback_suggests_the_name_once(code, hint):
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import microbp as bp; {code}"], capture_output=True, text=True, check=False, timeout=60
    )
    message = done.stderr.splitlines()[-1]
    assert message.startswith("AttributeError")
    assert message.lower().count("did you mean") == 1
    assert f"'{hint}'" in message


def test_attributes_can_be_set():
    lamp = Lamp()
    lamp.height = 3
    assert lamp.height == 3
    assert weakref.ref(lamp)() is lamp


def test_an_error_in_a_setter_is_passed_on():
    with pytest.raises(AttributeError, match="'int' object has no attribute 'watts'"):
        Lamp().power = 3


class Room(Lamp):
    pass


def test_a_subclass_may_have_further_attributes():
    room = Room()
    room.door = 1
    room.height = 2
    again = pickle.loads(pickle.dumps(room))
    assert (again.door, again.height) == (1, 2)
