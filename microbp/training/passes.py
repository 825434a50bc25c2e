"""forward, backward_from and apply: between the first two, the caller computes the gradient with respect to the outputs. The loss as a
function of the parameters, for solvers of others. A check of gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..data import faults
from ..data.arrays import Array, as_array
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
        if engine.ranks is not None and engine.must_join:
            with engine.joined(closes=False):
                return Passes.forward(self, X)
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
        if self._engine.ranks is not None and self._engine.must_join:
            with self._engine.joined(closes=False):
                return Passes.backward_from(self, gradients, accumulate, input_grads)
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
        if self._engine.ranks is not None and self._engine.must_join:
            with self._engine.joined(closes=False):
                return Passes.apply(self)
        try:
            self._engine.apply()
        except FloatingPointError as error:
            raise self._run.diverged(error) from error

    def loss_and_gradient(
        self,
        params: Any,
        X: Any,  # noqa: N803
        y: Any = None,
        sample_weight: Any = None,
        lengths: Any = None,
    ) -> tuple[float, Array]:
        """The function that a solver of another library minimizes: the loss with the layers' l1 and l2 penalties, if the network had these
        parameters, and its gradient, a new float64 array in the order of `net.params`. For SciPy:

            found = scipy.optimize.minimize(t.loss_and_gradient, t.net.params, args=(X, y), jac=True)
            t.net.params[:] = found.x

        params: shape (parameters,). X, y, sample_weight, lengths: as in `step`, with any number of rows. The gradient is 0 for frozen
        layers. Loss and gradient are computed in the network's dtype: a line search needs exact losses, so create the network with
        dtype="float64". Where one of them is not finite, the result is (inf, zeros), so that a solver takes a shorter step. Dropout and
        noise draw the same in each call until the next update. The network's parameters are the same after the call as before; `grads` and
        `output_losses` change as by `backward`. While it runs, predictions in other threads use `params`.

        ValueError or TypeError: params or the arrays do not fit the network. FloatingPointError: X or y is not finite.

        >>> t = bp.Trainer(bp.mlp([3, 1], dtype="float64", seed=0), loss="mse")
        >>> X, y = np.ones((8, 3)), np.ones(8)
        >>> loss, gradient = t.loss_and_gradient(t.net.params, X, y)
        >>> t.loss_and_gradient(t.net.params - 0.01 * gradient, X, y)[0] < loss == t.evaluate(X, y)
        True
        """
        engine = self._engine
        if engine.ranks is not None:
            raise ValueError("loss_and_gradient is of one process: use it with a trainer without comm=, such as copy.copy(t)")
        rows = engine.read(X, y, sample_weight, lengths=lengths)
        at, count = as_array(params, "loss_and_gradient: params"), len(engine.net.params)
        if at.shape != (count,) or at.dtype.kind not in "fiu":
            raise ValueError(f"loss_and_gradient: params must be {count} numbers, not {at.dtype} of shape {at.shape}")
        with np.errstate(over="ignore"):
            at = at.astype(engine.net.dtype)
        try:
            loss, gradient = engine.loss_and_gradient(at, rows)
        except FloatingPointError as error:
            there = engine.shape.cleared(rows)
            if faults.not_finite(there, None, engine.net.dtype, engine.loss_weights, engine.losses):
                raise self._run.diverged(error, rows) from error
            return math.inf, np.zeros(count)
        return loss, gradient.astype(np.float64)

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
