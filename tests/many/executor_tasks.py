"""An executor for tests, and what they do in other processes, which import it from here."""

import os
import pickle
from concurrent.futures import Executor, Future

import microbp as bp


class Pickling(Executor):
    """Does the work at once, on what arrives when it is sent to another process and back."""

    def submit(self, function, /, *arguments, **options):
        future = Future()
        try:
            function, arguments, options = pickle.loads(pickle.dumps((function, arguments, options)))
            future.set_result(pickle.loads(pickle.dumps(function(*arguments, **options))))
        except Exception as error:
            future.set_exception(error)
        return future


class Dies(bp.Trainer):
    """Its worker ends."""

    __slots__ = ()

    def fit(self, *arguments, **options):
        os._exit(1)


class OddError(Exception):
    """An error that cannot be unpickled."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def raise_odd(record):
    raise OddError(1, 2)


def fit(shared, trainer, own):
    trainer.fit(**shared, **own)


def steps(trainer):
    return trainer.steps
