# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, auto_pickle=False
"""The compiled backend: calls the C library of microbp.h. Only this module, with its parts *.pxi, uses C pointers."""

import os
from array import array
from weakref import WeakSet

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_READ, PyBUF_STRIDES, PyBUF_WRITABLE, PyBUF_WRITE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy, memset
from microbp cimport *

# A call with less work than this, about 50 microseconds at 20 GFLOP/s, keeps the GIL. Getting the GIL back from a
# busy thread takes about 500 microseconds.
cdef double KEEP_GIL_FLOPS = 1e6


# ---- errors ----

_EXCEPTIONS = {MBP_NO_MEMORY: MemoryError, MBP_NONFINITE: FloatingPointError, MBP_BUSY: RuntimeError, MBP_CANCELLED: RuntimeError}


cdef int check(mbp_status status, const mbp_error *error) except -1:
    if status == MBP_OK:
        return 0
    text = (<bytes>error.text).decode("utf-8", "replace")
    if status == MBP_IO:
        # Python chooses the subclass by the number (FileNotFoundError, PermissionError, ...), and adds the number to the text.
        raise OSError(error.number, text.removesuffix(f" (errno {error.number})"))
    raise _EXCEPTIONS.get(status, ValueError)(text)


include "_arrays.pxi"
include "_files.pxi"
include "_states.pxi"


# ---- formulas, kernel variants, permutations ----

def formulas(kind, /):
    """(name, parameters, detail, meaning) of each formula of a kind: activation, loss, optimizer, initializer, output_activation, solver."""
    cdef mbp_kind number = {"activation": MBP_ACTIVATION, "loss": MBP_LOSS, "optimizer": MBP_OPTIMIZER, "initializer": MBP_INITIALIZER,
                            "output_activation": MBP_OUTPUT_ACTIVATION, "solver": MBP_SOLVER}[kind]
    cdef int i = 0
    rows = []
    while mbp_formula_name(number, i) != NULL:
        rows.append(tuple([(<bytes>text).decode() for text in (
            mbp_formula_name(number, i), mbp_formula_parameters(number, i), mbp_formula_detail(number, i),
            mbp_formula_meaning(number, i))]))
        i += 1
    return rows


def target_columns(loss, int64_t columns, /):
    """How many target columns an output of this many columns has with a loss."""
    cdef mbp_error error
    cdef int64_t targets = 0
    check(mbp_loss_target_columns(loss.encode(), columns, &targets, &error), &error)
    return targets


def isas():
    """The kernel variants of this build, best first, and whether each runs on this machine."""
    cdef int i = 0
    found = {}
    while mbp_isa_name(i) != NULL:
        found[(<bytes>mbp_isa_name(i)).decode()] = bool(mbp_isa_runs(i))
        i += 1
    return found


def permutation(uint64_t seed, int purpose, uint64_t instance, int64_t n, /):
    """A permutation of 0 .. n - 1 as a buffer of int64, the same for the same arguments."""
    order = bytearray(8 * <object>n)  # a Python int, which does not overflow
    cdef Py_buffer view
    PyObject_GetBuffer(order, &view, PyBUF_WRITABLE)
    mbp_permutation(seed, <mbp_purpose>purpose, instance, n, <int64_t *>view.buf)
    PyBuffer_Release(&view)
    return memoryview(order).cast("q")


include "_net.pxi"


# ---- training ----

@cython.no_gc_clear  # the net, which __dealloc__ uses, must not be freed first
cdef class Trainer:
    """Losses, an optimizer and their state for one net, in C."""

    cdef mbp_trainer *trainer
    cdef readonly Net net
    cdef object optimizer
    cdef Peers peers  # None: this process trains alone
    cdef object forwarded  # views of the inputs of the last forward, which backward_from reads: they keep the memory

    def __init__(self, Net net not None, losses, loss_weights, optimizer, /, seed=None):
        cdef mbp_error error
        cdef mbp_trainer *trainer = NULL
        cdef Py_ssize_t i, n = len(losses)
        cdef uint64_t own_seed = mbp_net_seed(net.net) if seed is None else seed
        if len(loss_weights) != n:
            raise ValueError(f"loss_weights has length {len(loss_weights)}; it must have length {n}, one weight per loss")
        specs = [None if loss is None else loss.encode() for loss in losses]
        spec = optimizer.encode()
        cdef const char **names = <const char **>PyMem_Calloc(n + 1, sizeof(char *))
        cdef double *weights = <double *>PyMem_Calloc(n + 1, sizeof(double))
        try:
            if names == NULL or weights == NULL:
                raise MemoryError
            for i in range(n):
                names[i] = NULL if specs[i] is None else <const char *>specs[i]
                weights[i] = loss_weights[i]
            check(mbp_trainer_create(&trainer, net.net, names, weights, <int>n, spec, &error), &error)
        finally:
            PyMem_Free(names)
            PyMem_Free(weights)
        self.net = net
        self.trainer = trainer
        self.optimizer = optimizer.partition("(")[0]
        check(mbp_trainer_set_seed(trainer, own_seed, &error), &error)

    def __dealloc__(self):
        with nogil:  # it may wait for a training of another trainer of the net, which needs the GIL now and then
            mbp_trainer_free(self.trainer)

    cdef int check(self, mbp_status status, const mbp_error *error) except -1:
        """Raises the error of a call, or that of the function of `set_reduce` that made it fail."""
        if status != MBP_OK and self.peers is not None and self.peers.error is not None:
            raised, self.peers.error = self.peers.error, None
            raise raised
        return check(status, error)

    cdef double run(self, x, y, weight, const mbp_backward *how, int what, State state, bint same=False) except? -1:
        """Runs one batch. what: 0 step, 1 backward, 2 evaluate. same: as in mbp_batch."""
        cdef Held hx, hy, hw
        cdef mbp_batch batch
        cdef mbp_error error
        cdef mbp_status status
        cdef double loss = 0
        hold(&hx, x, MATRIX)
        try:
            hold(&hy, y, COLUMN)
            try:
                hold_weight(&hw, weight, mbp_net_outputs(self.net.net))
                fill_batch(&batch, &hx, &hy, &hw)
                batch.same = same
                if state is not None:
                    batch.state = state.take()
                if hx.count and 3 * self.net.flops * hx.array[0].rows > KEEP_GIL_FLOPS:
                    with nogil:
                        status = self.call(&batch, how, what, &loss, &error)
                else:
                    status = self.call(&batch, how, what, &loss, &error)
                if state is not None:
                    state.is_taken = False
                release(&hw)
            finally:
                release(&hy)
        finally:
            release(&hx)
        self.check(status, &error)
        return loss

    cdef mbp_status call(self, const mbp_batch *batch, const mbp_backward *how, int what, double *loss, mbp_error *error) noexcept nogil:
        if what == 0:
            return mbp_trainer_step(self.trainer, batch, loss, error)
        if what == 1:
            return mbp_trainer_backward(self.trainer, batch, how, loss, error)
        return mbp_trainer_evaluate(self.trainer, batch, loss, error)

    def step(self, x, y, /, weight=None, State state=None, bint same=False):
        if self.net.family.guests:
            self.net.refuse_training()
        return self.run(x, y, weight, NULL, 0, state, same)

    def backward(self, x, y, /, weight=None, bint accumulate=False, total=0.0, int64_t first_row=0, bint input_grads=False,
                 State state=None):
        cdef mbp_backward how
        cdef Held held
        if self.net.family.guests:
            self.net.refuse_training()
        memset(&how, 0, sizeof(how))
        how.size = sizeof(how)
        how.accumulate, how.input_grads, how.first_row = accumulate, input_grads, first_row
        if isinstance(total, (int, float)):
            how.total = total
            return self.run(x, y, weight, &how, 1, state)
        hold(&held, total, 1)  # one per output
        try:
            how.totals = <const double *>vector(&held, MBP_F64, mbp_net_outputs(self.net.net), "total")
            return self.run(x, y, weight, &how, 1, state)
        finally:
            release(&held)

    def evaluate(self, x, y, /, weight=None, State state=None):
        return self.run(x, y, weight, NULL, 2, state)

    def apply(self):
        cdef mbp_error error
        if self.net.family.guests:
            self.net.refuse_training()
        self.check(mbp_trainer_apply(self.trainer, &error), &error)

    def forward(self, x, /):
        cdef mbp_error error
        if self.net.family.guests:
            self.net.refuse_training()
        check(mbp_net_lock(self.net.net, &error), &error)
        try:
            return self.forward_held(x)
        finally:
            mbp_net_unlock(self.net.net)

    cdef object forward_held(self, x):
        cdef Held held
        cdef mbp_error error
        cdef mbp_array output
        cdef mbp_status status
        # sparse rows are copied
        views = [memoryview(one) for one in (x if type(x) is list else [x]) if not hasattr(one, "indptr")]
        hold(&held, x, MATRIX)
        if held.count and self.net.flops * held.array[0].rows > KEEP_GIL_FLOPS:
            with nogil:
                status = mbp_trainer_forward(self.trainer, held.array, held.count, &error)
        else:
            status = mbp_trainer_forward(self.trainer, held.array, held.count, &error)
        release(&held)
        self.check(status, &error)
        self.forwarded = views
        outputs = []
        for i in range(mbp_net_outputs(self.net.net)):
            check(mbp_trainer_output(self.trainer, i, &output, &error), &error)
            outputs.append(copy_of(&output))
        return outputs

    def backward_from(self, gradients, /, bint accumulate=False, bint input_grads=False):
        if self.net.family.guests:
            self.net.refuse_training()
        self.pass_back(gradients, accumulate, input_grads)

    cdef int pass_back(self, gradients, bint accumulate, bint input_grads) except -1:
        cdef Held held
        cdef mbp_backward how
        cdef mbp_error error
        cdef mbp_status status
        memset(&how, 0, sizeof(how))
        how.size = sizeof(how)
        how.accumulate, how.input_grads = accumulate, input_grads
        hold(&held, gradients, COLUMN)
        if held.count and 2 * self.net.flops * held.array[0].rows > KEEP_GIL_FLOPS:
            with nogil:
                status = mbp_trainer_backward_from(self.trainer, held.array, held.count, &how, &error)
        else:
            status = mbp_trainer_backward_from(self.trainer, held.array, held.count, &how, &error)
        release(&held)
        self.check(status, &error)

    def step_with(self, x, losses, /, bint accumulate=False, bint input_grads=False, bint update=True):
        return step_with_losses(self, x, losses, accumulate, input_grads, update)

    def iterate_with(self, x, losses, /, bint same=False):
        return iterate_with_losses(self, x, losses, same)

    def epoch(self, x, y, weight, index, int64_t batch_rows, lr, /, stop=None, last=None):
        cdef Held hx, hy, hw, hi, hl
        cdef Held *held[5]
        cdef int i, taken = 0
        if self.net.family.guests:
            self.net.refuse_training()
        held[0], held[1], held[2], held[3], held[4] = &hx, &hy, &hi, &hl, &hw
        try:
            for source in (x, y, index, lr):
                hold(held[taken], source, MATRIX if taken == 0 else COLUMN)
                taken += 1
            hold_weight(&hw, weight, mbp_net_outputs(self.net.net))
            taken += 1
            return self.run_epoch(&hx, &hy, &hw, &hi, batch_rows, &hl, stop, last)
        finally:
            for i in range(taken):
                release(held[i])

    cdef object run_epoch(self, Held *x, Held *y, Held *weight, Held *index, int64_t batch_rows, Held *lr, stop, last):
        cdef mbp_batch batch
        cdef mbp_error error
        cdef mbp_status status
        cdef double loss = 0
        cdef int64_t steps = 0, n = index.array.rows if index.count else x.array.rows if x.count else 0
        cdef const int64_t *order = <const int64_t *>vector(index, MBP_I64, n, "index")
        cdef bytes ended = b"" if self.peers is None else ended_rates(lr)
        cdef const double *rates = <const double *><const char *>ended if ended else <const double *>vector(
            lr, MBP_F64, -(-n // batch_rows) if batch_rows > 0 else 0, "lr")
        cdef Poll poll = Poll()
        poll.stop, poll.last = stop, last
        poll.left = -(-n // batch_rows) if last is not None and batch_rows > 0 else 0
        poll.next_look = now() + 50
        fill_batch(&batch, x, y, weight)
        if 3 * self.net.flops * n > KEEP_GIL_FLOPS:
            with nogil:
                status = mbp_trainer_epoch(self.trainer, &batch, order, n, batch_rows, rates, poll_signals, <void *>poll, &loss, &steps, &error)
        else:
            status = mbp_trainer_epoch(self.trainer, &batch, order, n, batch_rows, rates, poll_signals, <void *>poll, &loss, &steps, &error)
        if poll.error is not None:
            raise poll.error
        if self.peers is not None and self.peers.error is not None or status != MBP_CANCELLED:  # else `stop` returned True
            self.check(status, &error)
        return loss

    def set_reduce(self, rank, /, int64_t ranks=1, gather=None, swap=None, begin=None, finish=None, int64_t every=0):
        self.peers = set_peers(self.trainer, rank, ranks, gather, swap, begin, finish, every)

    @property
    def failed_rank(self):
        return mbp_trainer_failed_rank(self.trainer)

    @property
    def grads(self):
        return self.vector_at(mbp_trainer_grads(self.trainer))

    @property
    def slots(self):
        details = {name: detail for name, _, detail, _ in formulas("optimizer")}
        names = [word.partition("=")[0] for word in details.get(self.optimizer, "").split()]  # a solver has none
        return {name: self.vector_at(mbp_trainer_slot(self.trainer, i)) for i, name in enumerate(names)}

    cdef object vector_at(self, void *at):
        cdef int64_t count = 0
        mbp_net_params(self.net.net, &count)
        return block_of(self, at, count, mbp_net_dtype(self.net.net) == MBP_F64)

    @property
    def solver_state(self):
        """What the next iteration of a solver depends on besides the parameters, as the bytes of doubles."""
        return solver_state_of(self.trainer)

    def set_solver_state(self, bytes numbers, /):
        put_solver_state(self.trainer, numbers)

    def sparse_grad(self, layer, /):
        """The row numbers and the rows of the gradient of a sparse layer's weight; None: the layer is not sparse."""
        cdef mbp_array values
        cdef mbp_error error
        cdef const int32_t *rows
        name = layer.encode()
        check(mbp_net_lock(self.net.net, &error), &error)
        try:
            if mbp_trainer_sparse_grad(self.trainer, name, &rows, &values, &error) != MBP_OK:
                return None
            return array("i", (<const char *>rows)[:4 * values.rows]), copy_of(&values)
        finally:
            mbp_net_unlock(self.net.net)

    def set_sparse(self, layer, /, bytes rows=b""):
        """Makes a layer sparse, whose gradient becomes that of these rows (int32) in `grads`; layer None: makes all layers dense."""
        cdef mbp_error error
        name = b"" if layer is None else layer.encode()
        cdef const char *given = NULL if layer is None else <const char *>name
        check(mbp_trainer_set_sparse(self.trainer, given, <const int32_t *><char *>rows, len(rows) // 4, &error), &error)

    def input_grads(self):
        cdef mbp_array gradient
        cdef mbp_error error
        gradients = []
        check(mbp_net_lock(self.net.net, &error), &error)
        try:
            for i in range(mbp_net_inputs(self.net.net)):
                check(mbp_trainer_input_grad(self.trainer, i, &gradient, &error), &error)
                gradients.append(copy_of(&gradient))
        finally:
            mbp_net_unlock(self.net.net)
        return gradients

    def get(self, name, /):
        cdef mbp_error error
        cdef double value = 0
        key = name.encode()
        check(mbp_trainer_get(self.trainer, key, &value, &error), &error)
        return value

    def set(self, name, double value, /):
        cdef mbp_error error
        key = name.encode()
        check(mbp_trainer_set(self.trainer, key, value, &error), &error)

    @property
    def output_losses(self):
        cdef mbp_error error
        cdef double value = 0
        losses = []
        for i in range(mbp_net_outputs(self.net.net)):
            check(mbp_trainer_output_loss(self.trainer, i, &value, &error), &error)
            losses.append(value)
        return losses

    @property
    def steps(self):
        return mbp_trainer_steps(self.trainer)

    @steps.setter
    def steps(self, int64_t value):
        cdef mbp_error error
        check(mbp_trainer_set_steps(self.trainer, value, &error), &error)

    def reset(self):
        cdef mbp_error error
        check(mbp_trainer_reset(self.trainer, &error), &error)

    def set_average(self, double decay, int64_t start, int64_t every, /):
        cdef mbp_error error
        check(mbp_trainer_set_average(self.trainer, decay, start, every, &error), &error)

    @property
    def average(self):
        cdef int64_t params = 0, buffers = 0
        cdef void *at = mbp_trainer_average(self.trainer, NULL)
        mbp_net_params(self.net.net, &params)
        mbp_net_buffers(self.net.net, &buffers)
        return None if at == NULL else block_of(self, at, params + buffers, mbp_net_dtype(self.net.net) == MBP_F64)

    @property
    def average_count(self):
        cdef int64_t count = 0
        mbp_trainer_average(self.trainer, &count)
        return count


# ---- steps with losses of the caller, functions that get the raw outputs ----

cdef object pass_with_losses(Trainer trainer, x, losses, bint accumulate, bint input_grads):
    """A forward and a backward pass; returns the loss."""
    family = trainer.net.family
    outputs = trainer.forward_held(x)
    family.guest_of = PyThread_get_thread_ident()
    family.guests += 1
    try:
        loss, gradients = losses(outputs)
    finally:
        family.guests -= 1
    trainer.pass_back(gradients, accumulate, input_grads)
    return loss


cdef object step_with_losses(Trainer trainer, x, losses, bint accumulate, bint input_grads, bint update):
    cdef mbp_error error
    cdef double before = 0
    if trainer.net.family.guests:
        trainer.net.refuse_training()
    check(mbp_net_lock(trainer.net.net, &error), &error)
    try:
        if accumulate:
            check(mbp_trainer_get(trainer.trainer, b"loss", &before, &error), &error)
        loss = pass_with_losses(trainer, x, losses, accumulate, input_grads)
        check(mbp_trainer_set(trainer.trainer, b"loss", loss + before if before == before else loss, &error), &error)
        if update:
            trainer.check(mbp_trainer_apply(trainer.trainer, &error), &error)
        return loss
    finally:
        mbp_net_unlock(trainer.net.net)


cdef class OwnLoss:
    """The losses of the caller while a solver iterates."""

    cdef Trainer trainer
    cdef object x, losses
    cdef object raised  # the error of the last call


cdef mbp_status call_own_loss(void *user, double *value, mbp_error *error) noexcept with gil:
    cdef OwnLoss own = <OwnLoss>user
    own.raised = None
    try:
        value[0] = pass_with_losses(own.trainer, own.x, own.losses, False, False)
        return MBP_OK
    except BaseException as raised:
        own.raised = raised
        return MBP_NONFINITE if isinstance(raised, FloatingPointError) else MBP_CANCELLED


cdef object iterate_with_losses(Trainer trainer, x, losses, bint same):
    """An iteration of the solver."""
    cdef mbp_error error
    cdef double loss = 0
    cdef mbp_status status
    cdef OwnLoss own = OwnLoss()
    if trainer.net.family.guests:
        trainer.net.refuse_training()
    own.trainer, own.x, own.losses = trainer, x, losses
    status = mbp_trainer_iterate(trainer.trainer, call_own_loss, <void *>own, same, &loss, &error)
    if status != MBP_OK and own.raised is not None:
        raise own.raised
    check(status, &error)
    return loss
