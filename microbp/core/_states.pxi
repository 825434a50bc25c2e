# Part of _core.pyx: the states of recurrent nodes between calls, the structure of a batch, and which thread may use a network.

cdef class State:
    """The states of a net's recurrent nodes, in C. One call at a time may use them."""

    cdef mbp_state *state
    cdef bint is_taken  # by a call, which may have released the GIL
    cdef bint is_double

    def __init__(self, dtype, int64_t rows, columns):
        cdef mbp_error error
        widths = array("q", columns)
        self.is_double = dtype == "float64"
        check(mbp_state_create_for(&self.state, MBP_F64 if self.is_double else MBP_F32, rows,
                                   <const int64_t *><size_t>widths.buffer_info()[0], <int>len(widths), &error), &error)

    def __dealloc__(self):
        mbp_state_free(self.state)

    cdef mbp_state *take(self) except NULL:
        """For a call, which must set is_taken to False."""
        if self.is_taken:
            raise RuntimeError("another thread uses the state")
        self.is_taken = True
        return self.state

    @property
    def rows(self):
        return mbp_state_rows(self.state)

    @property
    def dtype(self):
        return "float64" if self.is_double else "float32"

    def values(self):
        """(columns, flat view of the rows) of each recurrent node."""
        cdef int64_t columns = 0
        cdef void *at
        cdef int i = 0
        found = []
        while True:
            at = mbp_state_values(self.state, i, &columns)
            if at == NULL:
                return found
            found.append((columns, block_of(self, at, columns * mbp_state_rows(self.state), self.is_double)))
            i += 1

    def reset(self, rows=None):
        """Sets the rows with these numbers to 0; None: all."""
        cdef mbp_error error
        numbers = array("q", rows or ())
        cdef const int64_t *at = <const int64_t *><size_t>numbers.buffer_info()[0]
        if rows is None or len(numbers):
            check(mbp_state_reset(self.state, NULL if rows is None else at, len(numbers), &error), &error)


cdef int hold_weight(Held *held, object source, int outputs) except -1:
    """`hold` for row weights, which are a vector; for weights of the outputs, a list of an array or None for each; or None."""
    if type(source) is list and len(source) != outputs:
        raise ValueError(f"weight has {len(source)} items, but the net has {outputs} outputs")
    hold(held, source, COLUMN, PyBUF_STRIDES | PyBUF_FORMAT, True)
    if held.count and type(source) is not list and held.view.ndim != 1:
        release(held)
        raise ValueError("weight must have 1 dimension, not 2; for weights of the columns, pass a list with one array per output")
    return 0


cdef inline void fill_batch(mbp_batch *batch, const Held *x, const Held *y, const Held *weight) noexcept nogil:
    batch.size = sizeof(mbp_batch)
    batch.x, batch.n_x, batch.y, batch.n_y = x.array, x.count, y.array, y.count
    batch.weight = weight.array if weight.count and not weight.is_list else NULL
    batch.element_weights = weight.array if weight.is_list else NULL
    batch.lengths = x.array + x.count if x.extra else NULL
    batch.state = NULL


nets = WeakSet()  # all of them, for the child after a fork


def after_fork():
    cdef Net net
    for net in list(nets):
        mbp_net_after_fork(net.net)
        if net.family.guest_of != PyThread_get_thread_ident():
            net.family.guests = 0


os.register_at_fork(after_in_child=after_fork)


cdef class Family:
    """What a net and its parts share besides the memory."""

    cdef int guests  # functions of the user that run inside a training; only the thread that holds the nets changes it
    cdef unsigned long guest_of  # that thread


cdef class Hold:
    """`with`: holds a net for this thread, and the calls of other threads that change it or its trainers are refused. trains: as a training,
    which is refused in a function that a training calls. It may be used again, also inside itself."""

    cdef Net net
    cdef bint trains

    def __enter__(self):
        cdef mbp_error error
        check(mbp_net_lock(self.net.net, &error), &error)
        if self.trains and self.net.family.guests:
            mbp_net_unlock(self.net.net)
            refuse_guest()

    def __exit__(self, *_):
        mbp_net_unlock(self.net.net)


cdef class Guest:
    """`with`, in a thread that holds the net: runs a function of the user, which may do everything with the net except training."""

    cdef Net net

    def __enter__(self):
        self.net.family.guest_of = PyThread_get_thread_ident()
        self.net.family.guests += 1

    def __exit__(self, *_):
        self.net.family.guests -= 1


cdef int refuse_guest() except -1:
    raise RuntimeError("training is not possible inside a function that a training call has called: return from it first")
