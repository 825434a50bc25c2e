# Part of _core.pyx: the states of recurrent nodes between calls, the structure of a batch, which thread may use a network, and signals.

cdef class State:
    """The states of a net's recurrent nodes, in C. One call at a time may use them."""

    cdef mbp_state *state
    cdef bint is_taken  # by a call, which may have released the GIL
    cdef bint is_double

    def __init__(self, dtype, int64_t rows, columns, /):
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
    batch.same = False


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


# ---- the thread pool of the process, which all nets share ----

MAX_THREADS = 255

cdef mbp_pool *shared_pool = NULL  # created for the first net; its threads start when they are first needed


cdef mbp_pool *pool() except NULL:
    global shared_pool
    cdef mbp_error error
    if shared_pool == NULL:
        check(mbp_pool_create(&shared_pool, MAX_THREADS, NULL, &error), &error)
    return shared_pool


def cpus():
    """The number of processors that this process may use."""
    return mbp_cpus()


def thread_limit():
    """The maximum number of threads of any net."""
    return mbp_pool_threads(pool())


def set_thread_limit(int limit, /):
    cdef mbp_error error
    check(mbp_pool_set_limit(pool(), limit, &error), &error)


# ---- signals during an epoch ----

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec, tv_nsec
    enum:
        TIME_UTC
    int timespec_get(timespec *ts, int base)


cdef class Poll:
    """Every 50 ms of an epoch, checks for a pending signal (Ctrl-C) and calls `stop`, unless it is None. Before the last of its steps,
    calls `last`."""

    cdef long long next_look
    cdef int64_t left  # steps until `last` is called; 0 or less: it is not called
    cdef object stop, last
    cdef object error


cdef long long now() noexcept nogil:
    """The time in milliseconds."""
    cdef timespec time
    timespec_get(&time, TIME_UTC)
    return time.tv_sec * <long long>1000 + time.tv_nsec // 1000000


cdef int look(void *user) noexcept with gil:
    cdef Poll poll = <Poll>user
    poll.next_look = now() + 50
    try:
        PyErr_CheckSignals()
        if poll.left == 0:
            poll.last()
        return poll.stop is not None and bool(poll.stop())
    except BaseException as error:
        poll.error = error
        return 1


cdef int poll_signals(void *user) noexcept nogil:
    cdef int64_t *left = &(<Poll>user).left
    left[0] -= 1
    return look(user) if left[0] == 0 or now() >= (<Poll>user).next_look else 0


# ---- other processes ----

cdef class Peers:
    """Functions of Python that exchange bytes with other processes, and the error of the one that failed."""

    cdef int64_t ranks
    cdef object gather, swap, begin, finish
    cdef object error

    cdef int call(self, function, const void *mine, int64_t given, void *theirs, int64_t got) noexcept:
        try:
            function(PyMemoryView_FromMemory(<char *>mine, given, PyBUF_READ), PyMemoryView_FromMemory(<char *>theirs, got, PyBUF_WRITE))
            return 0
        except BaseException as error:
            self.error = error
            return 1


cdef int call_gather(const void *mine, void *all, int64_t bytes, void *user) noexcept with gil:
    cdef Peers peers = <Peers>user
    return peers.call(peers.gather, mine, bytes, all, peers.ranks * bytes)


cdef int call_swap(const void *mine, void *theirs, int64_t bytes, void *user) noexcept with gil:
    cdef Peers peers = <Peers>user
    return peers.call(peers.swap, mine, peers.ranks * bytes, theirs, peers.ranks * bytes)


cdef int call_begin(const void *mine, void *theirs, int64_t bytes, void *user) noexcept with gil:
    cdef Peers peers = <Peers>user
    return peers.call(peers.begin, mine, peers.ranks * bytes, theirs, peers.ranks * bytes)


cdef int call_finish(void *user) noexcept with gil:
    cdef Peers peers = <Peers>user
    try:
        peers.finish()
        return 0
    except BaseException as error:
        peers.error = error
        return 1


cdef bytes ended_rates(Held *lr):
    """The learning rates of an epoch, which has as many steps as the process with the most; after them one that is refused."""
    cdef const double *rates = <const double *>vector(lr, MBP_F64, lr.array.rows, "lr")
    return b"" if rates == NULL else PyBytes_FromStringAndSize(<const char *>rates, 8 * lr.array.rows) + array("d", [float("nan")]).tobytes()


cdef Peers set_peers(mbp_trainer *trainer, rank, int64_t ranks, gather, swap, begin, finish, int64_t every):
    cdef mbp_error error
    cdef mbp_reduce how
    cdef Peers peers = Peers()
    if rank is None:
        check(mbp_trainer_set_reduce(trainer, NULL, &error), &error)
        return None
    peers.ranks, peers.gather, peers.swap, peers.begin, peers.finish = ranks, gather, swap, begin, finish
    memset(&how, 0, sizeof(how))
    how.size, how.rank, how.ranks, how.every, how.user = sizeof(how), rank, ranks, every, <void *>peers
    if gather is not None:
        how.gather = call_gather
    if swap is not None:
        how.swap = call_swap
    if begin is not None:
        how.begin = call_begin
    if finish is not None:
        how.finish = call_finish
    check(mbp_trainer_set_reduce(trainer, &how, &error), &error)
    return peers


# ---- the state of a solver ----

cdef bytes solver_state_of(const mbp_trainer *trainer):
    numbers = bytearray(8 * mbp_trainer_solver_state(trainer, NULL))
    if numbers:
        mbp_trainer_solver_state(trainer, <double *><char *>numbers)
    return bytes(numbers)


cdef int put_solver_state(mbp_trainer *trainer, bytes numbers) except -1:
    cdef mbp_error error
    if len(numbers) % 8:
        raise ValueError(f"the state of a solver has {len(numbers)} bytes, but must have a multiple of 8")
    check(mbp_trainer_set_solver_state(trainer, <const double *><const char *>numbers, len(numbers) // 8, &error), &error)
    return 0


# ---- solvers on functions of Python ----

cdef int copy_bytes(void *to, bytes source, Py_ssize_t size) except -1:
    if len(source) != size:
        raise ValueError("function must return as many doubles as there are values and derivatives")
    memcpy(to, <const char *>source, size)
    return 0


cdef int call_function(const double *x, double *values, double *derivatives, void *user) noexcept with gil:
    cdef list call = <list>user  # the function; the bytes of x, values and derivatives; its error, if it has failed
    try:
        found = call[0](PyBytes_FromStringAndSize(<const char *>x, call[1]))
        copy_bytes(values, found[0], call[2])
        if derivatives != NULL:
            copy_bytes(derivatives, found[1], call[3])
        return 0
    except BaseException as error:
        call.append(error)
        return 1


def minimize(solver, int64_t residuals, function, int64_t iterations, double goal, double gradient_tolerance, bytearray x, /):
    """Minimizes from x on, doubles, which become the best point, also after an error of `function`. Returns the value, the gradient, how
    many iterations have moved x, and the reason to stop."""
    cdef mbp_error error
    cdef mbp_status status
    cdef mbp_function given
    cdef mbp_minimum found
    cdef Py_ssize_t size = len(x)
    cdef bytes spec = solver.encode(), gradient = PyBytes_FromStringAndSize(NULL, size)
    cdef list call = [function, size, 8 * (residuals or 1), size * (residuals or 1)]
    cdef const char *text = spec
    cdef double *slope = <double *><char *>gradient
    cdef double *at = <double *><char *>x
    given.size, given.n, given.residuals, given.compute, given.user = sizeof(given), size // 8, residuals, call_function, <void *>call
    found.size = sizeof(found)
    with nogil:
        status = mbp_minimize(text, &given, iterations, goal, gradient_tolerance, at, slope, &found, &error)
    if len(call) > 4:
        raise call[4]
    check(status, &error)
    return found.value, gradient, found.iterations, (<bytes>found.reason).decode()


# ---- networks of whole numbers ----

cdef class Int8:
    """A chain in int8. steps: a tuple (operation, positions, width, operand, window, pool, weight, start, scale, mean, activation, inverse,
    zero) each: the fields of mbp_int8_step, arrays as bytes or None. mean, std: sequences, or None."""

    cdef mbp_int8 *net
    cdef double work
    cdef bytes variant

    def __init__(self, steps, output=None, mean=None, std=None, int threads=1):
        cdef mbp_options options
        cdef mbp_error error
        cdef mbp_int8_step *made
        cdef int i, k
        memset(&options, 0, sizeof(options))
        self.variant = os.environ.get("MICROBP_ISA", "").encode()
        options.size, options.pool, options.threads = sizeof(options), pool(), threads
        if self.variant:
            options.isa = PyBytes_AsString(self.variant)
        texts = [[None if word_ is None else word_.encode() for word_ in (step[0], step[5], step[10])] for step in steps]
        means, stds = (array("d", mean), array("d", std)) if mean is not None else (None, None)
        made = <mbp_int8_step *>PyMem_Calloc(len(steps) + 1, sizeof(mbp_int8_step))
        if made == NULL:
            raise MemoryError
        try:
            numbers = 0
            for i, (_, positions, width, operand, window, _, weight, start, scale, mean_, _, inverse, zero) in enumerate(steps):
                made[i].size, made[i].positions, made[i].width = sizeof(mbp_int8_step), positions, width
                made[i].operation, made[i].pool, made[i].activation = data_of(texts[i][0]), data_of(texts[i][1]), data_of(texts[i][2])
                for k in range(3):
                    made[i].operand[k] = operand[k]
                for k in range(8):
                    made[i].window[k] = window[k]
                made[i].weight = <const int8_t *>data_of(sized(weight, numbers // positions * width))
                made[i].start = <const int32_t *>data_of(sized(start, 4 * width))
                made[i].scale = <const float *>data_of(sized(scale, 4 * width))
                made[i].mean = <const float *>data_of(sized(mean_, 4 * width))
                made[i].inverse, made[i].zero = inverse, zero
                self.work += positions * width * (1 + (numbers // positions if weight else 0))
                numbers = positions * width
            if means is not None and not len(means) == len(stds) == numbers:
                raise ValueError(f"mean and std must have {numbers} numbers")
            check(mbp_int8_create(&self.net, made, <int>len(steps), NULL if output is None else <const char *>(output := output.encode()),
                                  NULL if means is None else <const double *><size_t>means.buffer_info()[0],
                                  NULL if stds is None else <const double *><size_t>stds.buffer_info()[0], &options, &error), &error)
        finally:
            PyMem_Free(made)

    def __dealloc__(self):
        mbp_int8_free(self.net)

    @property
    def bytes(self):
        """The memory that it has in the library."""
        return mbp_int8_bytes(self.net)

    def predict(self, xs, outs, bint raw):
        """Predicts the rows of a matrix, or one row of a vector."""
        cdef Held x, out
        cdef mbp_error error
        cdef mbp_status status
        hold(&x, xs, ROW)
        try:
            hold(&out, outs, ROW, PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE)
            try:
                if self.work * x.array[0].rows > KEEP_GIL_FLOPS:
                    with nogil:
                        status = mbp_int8_predict(self.net, x.array, out.array, raw, &error)
                else:
                    status = mbp_int8_predict(self.net, x.array, out.array, raw, &error)
            finally:
                release(&out)
        finally:
            release(&x)
        check(status, &error)


cdef const char *data_of(object of) except? NULL:
    return NULL if of is None else PyBytes_AsString(of)


cdef object sized(object numbers, Py_ssize_t size):
    """The bytes of an array, which must be so many."""
    if numbers is not None and len(numbers) != size:
        raise ValueError(f"an array of a step has {len(numbers)} bytes, but must have {size}")
    return numbers
