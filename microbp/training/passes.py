"""forward, backward_from and apply: between the first two, the caller computes the gradient with respect to the outputs. A check of
gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.arrays import Array
from ..data.sparse import SparseRows
from . import gradcheck
from .view import View


class Passes(View):
    """The methods of a Trainer for gradients of your own."""

    __slots__ = ()

    def forward(self, X: Any) -> Array | Any:  # noqa: N803
        """The raw outputs as in training, with dropout, noise and batch statistics; a list of arrays for several outputs.

        X: as in `step`. The arrays returned, of shape (rows, outputs), are copies and yours; of X a copy is kept until the next call.
        Dropout and noise depend on the number of updates and on the row's place in X, so a second `forward` before an update draws the
        same. Works for every trainer, also one with losses, which `forward` does not use; loss=None is for those that need none.

        ValueError or TypeError: X does not fit the network.

        >>> t = bp.Trainer(bp.mlp([3, 4, 2], seed=0), loss=None)
        >>> t.forward(np.ones((5, 3))).shape
        (5, 2)
        """
        shape, engine = self._engine.shape, self._engine
        is_plain = type(X) is SparseRows or (type(X) is np.ndarray and X.dtype == engine.net.dtype)
        is_plain = is_plain and X.shape[1:] == shape.inputs
        outputs = engine.forward([X] if is_plain else shape.read_inputs(X))
        return outputs[0] if len(outputs) == 1 else outputs

    def backward_from(self, gradients: Any, accumulate: bool = False, input_grads: bool = False) -> None:
        """Computes `grads` by the chain rule from the gradient of your loss with respect to the outputs of the last `forward`: a
        vector-Jacobian product. `apply` then updates the parameters.

        gradients: an array of the shape of the outputs; for several outputs a list, or a dict by output. All weights and means are in
        them: nothing is divided by the number of rows. The gradient of the layers' l1 and l2 penalties is added unless `accumulate`, which
        adds to `grads` instead of overwriting them. input_grads: also compute `input_grads`, the gradient with respect to X.

        Call no step, evaluate, update or the like of this trainer between `forward` and `backward_from`, and change no layer or parameter;
        several backward_from after one forward are fine. ValueError: there was no forward, or such a call came after it; or a gradient has
        another shape than the outputs. FloatingPointError: a gradient is not finite. After an error, nothing has changed.

        >>> t = bp.Trainer(bp.mlp([3, 1], seed=0), loss=None, optimizer=bp.SGD(lr=0.1))
        >>> X, y = np.ones((8, 3)), np.ones((8, 1))
        >>> outputs = t.forward(X)
        >>> t.backward_from(2 * (outputs - y) / y.size)  # of the loss "mse"
        >>> t.apply()
        >>> bool(abs(t.forward(X) - y).max() < abs(outputs - y).max())
        True
        """
        self._engine.backward_from(gradients, accumulate, input_grads)

    def apply(self) -> None:
        """Updates the parameters from the current `grads`. `backward` followed by `apply` is a `step`.

        `grads` are those of the last `backward`, or numbers that you wrote. They stay, so a second `apply` uses them again; in a new
        trainer they are 0.

        >>> t = bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse")
        >>> _ = t.backward(np.ones((8, 3)), np.ones(8))
        >>> t.apply()
        >>> t.steps
        1
        """
        try:
            self._engine.apply()
        except FloatingPointError as error:
            raise self._run.diverged(error) from error

    def check_gradients(self, X: Any, y: Any = None, sample_weight: Any = None, lengths: Any = None) -> gradcheck.GradientCheck:  # noqa: N803
        """Compares the gradients with central differences, on a float64 copy of the network. Print the result, or read its `error`.

        X, y, sample_weight, lengths: as in `step`; a few rows are enough. Of up to 2000 parameters, all are checked; of more, a sample of
        about 500.

        >>> t = bp.Trainer(bp.mlp([3, 4, 2], activation="tanh", seed=0), loss="mse")
        >>> t.check_gradients(np.ones((5, 3)), np.ones((5, 2))).error < 1e-6
        True
        """
        rows = self._engine.read(X, y, sample_weight, lengths=lengths).present()
        try:
            with self._engine.hold():
                return gradcheck.check(self._engine, rows)
        except FloatingPointError as error:
            raise self._run.diverged(error, rows) from error
