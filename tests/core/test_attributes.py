"""Objects with a fixed set of attributes."""

import pickle
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
        ("heigth", r"Lamp has no attribute 'heigth'; did you mean 'height'\? What can be set: height, lr, power"),
        ("learning_rate", r"Lamp has no attribute 'learning_rate'; did you mean 'lr'\? What can be set: height, lr, power"),
        ("color", r"Lamp has no attribute 'color'; did you mean 'colour', which is read-only\? What can be set: height, lr, power"),
        ("zzz", "Lamp has no attribute 'zzz'; what can be set: height, lr, power"),
        ("colour", "Lamp.colour is read-only; what can be set: height, lr, power"),
        ("shine", "Lamp.shine is read-only"),
    ],
)
def test_other_attributes_are_refused(name, message):
    with pytest.raises(AttributeError, match=message):
        setattr(Lamp(), name, 1)


def test_what_can_be_set_is_set():
    lamp = Lamp()
    lamp.height = 3
    assert lamp.height == 3
    assert weakref.ref(lamp)() is lamp


def test_an_error_of_a_setter_is_its_own():
    with pytest.raises(AttributeError, match="'int' object has no attribute 'watts'"):
        Lamp().power = 3


class Room(Lamp):
    pass


def test_a_subclass_may_have_more():
    room = Room()
    room.door = 1
    room.height = 2
    again = pickle.loads(pickle.dumps(room))
    assert (again.door, again.height) == (1, 2)
