# Part of _core.pyx: networks.

cdef object path_bytes(object path):
    path = os.fsencode(path)
    if b"\0" in path:
        raise ValueError("the path contains a zero byte")
    return path


cdef str word(const char *text):
    return (<bytes>text).decode()


cdef object window_of(const mbp_node_info *node):
    """(size, stride, pad, dilation, kind) of a window or a pool, each but kind for height and width; kind: "" of a window. None: neither."""
    if node.window[0] == 0:
        return None
    pairs = [(node.window[2 * k], node.window[2 * k + 1]) for k in range(4)]
    return (*pairs, "" if node.pool == NULL else word(node.pool))


cdef int refuse_mixed(const Held *x, const Held *out) except -1:
    """Vectors are only together with vectors."""
    cdef int i
    for i in range(x.count):
        if ndim_of(x, i) != ndim_of(x, 0):
            raise ValueError("the inputs must be matrices or vectors, not both")
    for i in range(out.count):
        if x.count and out.view[i].ndim != ndim_of(x, 0):
            raise ValueError("the outputs must have as many dimensions as the inputs")
    return 0


cdef class Net:
    """A network in C. text: the graph; dtype: float32 or float64. The environment variable MICROBP_ISA can select a
    kernel variant."""

    cdef mbp_net *net
    cdef double flops
    cdef Family family
    cdef Net whole  # the net that this one is of another length
    cdef bytes variant  # the value of MICROBP_ISA, which the options point to
    cdef object __weakref__

    def __init__(self, text, /, dtype="float32", uint64_t seed=0):
        cdef mbp_options options
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be 'float32' or 'float64', not {dtype!r}")
        self.set_options(&options, MBP_F64 if dtype == "float64" else MBP_F32, seed)
        cdef mbp_net *net = NULL
        cdef mbp_error error
        graph = text.encode()
        if b"\0" in graph:
            raise ValueError("the graph text contains a zero byte")
        check(mbp_net_create(&net, graph, &options, &error), &error)
        self.adopt(net)

    cdef int set_options(self, mbp_options *options, mbp_dtype dtype, uint64_t seed) except -1:
        self.variant = os.environ.get("MICROBP_ISA", "").encode()
        memset(options, 0, sizeof(mbp_options))
        options.size = sizeof(mbp_options)
        options.dtype = dtype
        options.seed = seed
        options.pool = pool()
        options.threads = 1
        if self.variant:
            options.isa = PyBytes_AsString(self.variant)
        return 0

    cdef int adopt(self, mbp_net *net) except -1:
        mbp_net_free(self.net)
        self.net = net
        if self.family is None:
            self.family = Family()
        self.flops = mbp_net_flops(net)
        nets.add(self)

    def hold(self, bint trains=False):
        cdef Hold hold = Hold()
        hold.net, hold.trains = self, trains
        return hold

    def guest(self):
        cdef Guest guest = Guest()
        guest.net = self
        return guest

    cdef int refuse_training(self) except -1:
        """For a training while a function runs that a training has called: raises the error for its thread, or for another one."""
        cdef mbp_error error
        check(mbp_net_lock(self.net, &error), &error)
        mbp_net_unlock(self.net)
        refuse_guest()

    def assign(self, params, buffers):
        """Copies new values into the parameters and the buffers; a prediction in another thread sees all of them or none."""
        cdef Held held, other
        cdef mbp_error error
        cdef int64_t n_params = 0, n_buffers = 0
        cdef mbp_dtype dtype = mbp_net_dtype(self.net)
        mbp_net_params(self.net, &n_params)
        mbp_net_buffers(self.net, &n_buffers)
        hold(&held, params, COLUMN)
        try:
            hold(&other, buffers, COLUMN)
            try:
                check(mbp_net_assign(self.net, vector(&held, dtype, n_params, "params"), vector(&other, dtype, n_buffers, "buffers"),
                                     &error), &error)
            finally:
                release(&other)
        finally:
            release(&held)

    def flush(self):
        """Brings all parameters up to date; RuntimeError if some are not, and another thread uses the net."""
        cdef mbp_error error
        check(mbp_net_flush(self.net, &error), &error)

    def settle(self):
        """The same, unless another thread uses the net."""
        mbp_net_params(self.net, NULL)

    def __dealloc__(self):
        mbp_net_free(self.net)

    def part(self, inputs, outputs, /):
        """A net of the nodes between these, which shares the parameters, the buffers and the lock."""
        cdef Net part = Net.__new__(Net)
        cdef mbp_net *made = NULL
        cdef mbp_error error
        cdef int i, n_inputs = <int>len(inputs), n_outputs = <int>len(outputs)
        cdef int *nodes = <int *>PyMem_Calloc(n_inputs + n_outputs + 1, sizeof(int))
        if nodes == NULL:
            raise MemoryError
        try:
            for i, node in enumerate([*inputs, *outputs]):
                nodes[i] = node
            check(mbp_net_part(&made, self.net, nodes, n_inputs, nodes + n_inputs, n_outputs, &error), &error)
        finally:
            PyMem_Free(nodes)
        part.family = self.family
        part.adopt(made)
        return part

    def with_length(self, int64_t positions, /):
        """The same net for sequences of this many positions, which shares the parameters; its predictions have the outputs' settings and the
        threads that this net has then."""
        cdef Net other = Net.__new__(Net)
        cdef mbp_net *made = NULL
        cdef mbp_error error
        check(mbp_net_with_length(&made, self.net, positions, &error), &error)
        other.family, other.whole = self.family, self
        other.adopt(made)
        return other

    def state(self, int64_t rows, /):
        cdef State state = State.__new__(State)
        cdef mbp_error error
        state.is_double = mbp_net_dtype(self.net) == MBP_F64
        check(mbp_state_create(&state.state, self.net, rows, &error), &error)
        return state

    def text(self):
        cdef size_t size = mbp_net_text(self.net, NULL, 0)
        text = bytearray(size)
        mbp_net_text(self.net, text, size)
        return text[:size - 1].decode()

    def nodes(self):
        """(operation, operands, width, layer's number or -1, activation or "", rate or std, columns of a slice, levels of ids, whether they
        are hashed, height and width of its positions, settings of a window or a pool: window_of, whether a recurrent node is reverse) of each
        node."""
        cdef mbp_node_info node
        cdef mbp_error error
        cdef int i, k
        found = []
        node.size = sizeof(node)
        for i in range(mbp_net_nodes(self.net)):
            check(mbp_net_node(self.net, i, &node, &error), &error)
            operands = tuple([node.operand[k] for k in range(node.operands)])
            columns, grid = (node.from_, node.to), (node.height, node.positions // node.height)
            found.append((word(node.operation), operands, node.width, node.layer, word(node.activation), node.amount, columns,
                          node.levels, bool(node.hash), grid, window_of(&node), bool(node.reverse)))
        return found

    def layers(self):
        """(name, operation, inputs, units, activation, init, bias_init, gain, bias, frozen, settings, sums, cell, recurrent_init) of each layer. Activation, init
        and bias_init are "" if it has none, bias_init also if it has no bias. gain: False only for a scale without it. sums: whether an
        embedding adds. cell, recurrent_init: "" unless it is recurrent."""
        cdef mbp_layer_info layer
        cdef mbp_error error
        cdef int i
        found = []
        layer.size = sizeof(layer)
        for i in range(mbp_net_layers(self.net)):
            check(mbp_net_layer(self.net, i, &layer, &error), &error)
            operation = word(layer.operation)
            if operation in ("dense", "recurrent"):
                settings = {"lr": layer.lr, "l1": layer.l1, "l2": layer.l2, "max_norm": layer.max_norm, "bias_lr": layer.bias_lr}
            elif operation == "embedding":
                settings = {"lr": layer.lr, "max_norm": layer.max_norm}
            else:
                settings = {} if operation == "standardize" else {"lr": layer.lr}
            if operation in ("batch_norm", "layer_norm"):
                settings["eps"] = layer.eps
            if operation == "batch_norm":
                settings["momentum"] = layer.momentum
            found.append((word(layer.name), operation, layer.in_, layer.out, word(layer.activation), word(layer.init),
                          word(layer.bias_init), bool(layer.gain), bool(layer.bias), bool(layer.frozen), settings, bool(layer.sums),
                          "" if layer.cell == NULL else word(layer.cell), word(layer.recurrent_init)))
        return found

    def outputs(self):
        """(node, activation or None, None or (means, standard deviations)) of each output."""
        cdef int i
        found = []
        for i in range(mbp_net_outputs(self.net)):
            activation = None if mbp_net_output_activation(self.net, i) == NULL else word(mbp_net_output_activation(self.net, i))
            found.append((mbp_net_output_node(self.net, i), activation, self.scale(i)))
        return found

    def scale(self, int i, /):
        """The means and the standard deviations of an output; None: it has none."""
        if not mbp_net_scale(self.net, i, NULL, NULL):
            return None
        mean, std = (array("d", bytes(8 * mbp_net_output_width(self.net, i))) for _ in range(2))
        mbp_net_scale(self.net, i, <double *><size_t>mean.buffer_info()[0], <double *><size_t>std.buffer_info()[0])
        return mean.tolist(), std.tolist()

    def set_scale(self, int i, mean, std, /):
        """Sets them, and the activation identity. mean, std: sequences of numbers, one per column."""
        cdef mbp_error error
        cdef mbp_node_info node
        means, stds = array("d", mean), array("d", std)
        node.size = sizeof(node)
        if i >= 0 and i < mbp_net_outputs(self.net):
            check(mbp_net_node(self.net, mbp_net_output_node(self.net, i), &node, &error), &error)
            if not len(means) == len(stds) == node.width:
                raise ValueError(f"mean and std of output {i} must have {node.width} numbers")
        check(mbp_net_set_scale(self.net, i, <const double *><size_t>means.buffer_info()[0],
                                <const double *><size_t>stds.buffer_info()[0], &error), &error)

    @property
    def dtype(self):
        return "float64" if mbp_net_dtype(self.net) == MBP_F64 else "float32"

    @property
    def seed(self):
        return mbp_net_seed(self.net)

    @property
    def isa(self):
        return (<bytes>mbp_net_isa(self.net)).decode()

    @property
    def threads(self):
        """The maximum number of threads for this net; the limit of the process also applies."""
        return mbp_net_threads(self.net)

    @threads.setter
    def threads(self, int threads):
        cdef mbp_error error
        check(mbp_net_set_threads(self.net, threads, &error), &error)

    @property
    def params(self):
        cdef int64_t count = 0
        cdef void *at = mbp_net_params(self.net, &count)
        return block_of(self, at, count, mbp_net_dtype(self.net) == MBP_F64)

    @property
    def buffers(self):
        cdef int64_t count = 0
        cdef void *at = mbp_net_buffers(self.net, &count)
        return block_of(self, at, count, mbp_net_dtype(self.net) == MBP_F64)

    def tensors(self):
        return self.tensors_of(False)

    def buffer_tensors(self):
        return self.tensors_of(True)

    cdef object tensors_of(self, bint buffers):
        cdef mbp_tensor tensor
        cdef int i = 0
        found = []
        while mbp_net_tensor(self.net, i, &tensor):
            if tensor.buffer == buffers:
                found.append(((<bytes>tensor.layer).decode(), (<bytes>tensor.name).decode(), tensor.offset, tensor.in_, tensor.out))
            i += 1
        return found

    def init(self, uint64_t seed, /):
        cdef mbp_error error
        check(mbp_net_init(self.net, seed, &error), &error)

    def freeze(self, layer, bint frozen, /):
        cdef mbp_error error
        name = None if layer is None else layer.encode()
        check(mbp_net_freeze(self.net, NULL if name is None else <const char *>name, frozen, &error), &error)

    def set_layer(self, layer, name, double value, /):
        cdef mbp_error error
        where = None if layer is None else layer.encode()
        key = name.encode()
        check(mbp_net_set_layer(self.net, NULL if where is None else <const char *>where, key, value, &error), &error)

    def set_output(self, int i, activation, /):
        cdef mbp_error error
        name = None if activation is None else activation.encode()
        check(mbp_net_set_output(self.net, i, NULL if name is None else <const char *>name, &error), &error)

    @property
    def notes(self):
        """A text that is stored with the net and in its file; "" if there is none."""
        cdef const char *notes = mbp_net_notes(self.net)
        return "" if notes == NULL else (<bytes>notes).decode()

    @notes.setter
    def notes(self, notes):
        cdef mbp_error error
        text = text_bytes(notes, "the text of the notes")
        check(mbp_net_set_notes(self.net, text, &error), &error)

    cdef int follow(self) except -1:
        """Takes over the outputs' settings and the threads of the whole net, which may have changed."""
        cdef mbp_net *whole = self.whole.net
        cdef int i
        for i in range(mbp_net_outputs(whole)):
            if mbp_net_output_activation(whole, i) != mbp_net_output_activation(self.net, i):
                self.set_output(i, self.whole.outputs()[i][1])
            if mbp_net_scale(whole, i, NULL, NULL) and self.whole.scale(i) != self.scale(i):
                self.set_scale(i, *self.whole.scale(i))
            elif mbp_net_scale(self.net, i, NULL, NULL) and not mbp_net_scale(whole, i, NULL, NULL):
                self.set_output(i, self.whole.outputs()[i][1])
        if mbp_net_threads(self.net) != mbp_net_threads(whole):
            self.threads = mbp_net_threads(whole)
        return 0

    def predict(self, xs, outs, raw, /, nodes=None, seed=None, State state=None):
        """Predicts the rows of matrices, or one row of vectors. xs: also {"x": inputs, "lengths": lengths}. nodes: None: all outputs;
        otherwise, for each of `outs`, the number of a node or -1 - i for output i. seed: of dropout and noise; None: without them. state:
        what recurrent nodes go on from."""
        cdef mbp_prediction how
        cdef Held x, out
        cdef mbp_error error
        cdef mbp_status status
        cdef int one
        if raw is not False and raw is not True:
            raise TypeError("raw must be True or False")
        if self.whole is not None:
            self.follow()
        memset(&how, 0, sizeof(how))
        how.size = sizeof(how)
        how.raw = raw is True
        if seed is not None:
            how.training, how.seed = True, seed
        chosen = None
        if type(nodes) is int:
            one = nodes
            how.nodes, how.n_nodes = &one, 1
        elif nodes is not None:
            chosen = array("i", nodes)
            how.nodes, how.n_nodes = <const int *><size_t>chosen.buffer_info()[0], len(chosen)
        hold(&x, xs, ROW)
        try:
            hold(&out, outs, ROW, PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE)
            try:
                refuse_mixed(&x, &out)
                how.lengths = x.array + x.count if x.extra else NULL
                if state is not None:
                    how.state = state.take()
                if x.count and self.flops * x.array[0].rows > KEEP_GIL_FLOPS:
                    with nogil:
                        status = mbp_net_predict_with(self.net, x.array, x.count, out.array, out.count, &how, &error)
                else:
                    status = mbp_net_predict_with(self.net, x.array, x.count, out.array, out.count, &how, &error)
                if state is not None:
                    state.is_taken = False
            finally:
                release(&out)
        finally:
            release(&x)
        check(status, &error)

    def jacobian(self, xs, outs, bint by_inputs, int output, /):
        """Writes the derivatives of output number `output` (-1: all), with respect to the parameters or to the inputs."""
        cdef Held x, out
        cdef mbp_error error
        cdef mbp_status status
        cdef mbp_by by = MBP_BY_INPUTS if by_inputs else MBP_BY_PARAMS
        hold(&x, xs, MATRIX)
        try:
            hold(&out, outs, MATRIX, PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE)
            try:
                with nogil:
                    status = mbp_net_jacobian(self.net, x.array, x.count, by, output, out.array, out.count, &error)
            finally:
                release(&out)
        finally:
            release(&x)
        check(status, &error)

    def standardize(self, xs, bint again, /):
        """Sets the statistics of standardize layers from rows. again: also of those that have some."""
        cdef Held x
        cdef mbp_error error
        cdef mbp_status status
        hold(&x, xs, MATRIX)
        try:
            with nogil:
                status = mbp_net_standardize(self.net, x.array, x.count, again, &error)
        finally:
            release(&x)
        check(status, &error)

    cdef Py_ssize_t item(self):
        return 8 if mbp_net_dtype(self.net) == MBP_F64 else 4

    cdef bytes bytes_with(self, const mbp_extras *extras):
        cdef mbp_error error
        cdef size_t size = 0
        mbp_net_write_with(self.net, extras, NULL, &size, &error)
        data = PyBytes_FromStringAndSize(NULL, size)
        check(mbp_net_write_with(self.net, extras, PyBytes_AsString(data), &size, &error), &error)
        return data

    def write(self):
        return self.bytes_with(NULL)

    def write_with(self, text, vectors, /):
        cdef Extras extras = Extras(text, vectors, self.item())
        return self.bytes_with(&extras.extras)

    @staticmethod
    def read_with(bytes data, /):
        cdef Net net = Net.__new__(Net)
        cdef mbp_options options
        cdef mbp_error error
        cdef mbp_net *made = NULL
        cdef mbp_extras *extras = NULL
        net.set_options(&options, MBP_F32, 0)
        check(mbp_net_read_with(&made, &extras, PyBytes_AsString(data), len(data), &options, &error), &error)
        net.adopt(made)
        return net, take_extras(extras, net.item())

    @staticmethod
    def read(bytes data, /):
        return Net.read_with(data)[0]

    def save(self, path, /):
        cdef mbp_error error
        name = path_bytes(path)
        check(mbp_net_save(self.net, name, &error), &error)

    def save_with(self, path, text, vectors, /):
        cdef mbp_error error
        cdef Extras extras = Extras(text, vectors, self.item())
        name = path_bytes(path)
        check(mbp_net_save_with(self.net, &extras.extras, name, &error), &error)

    @staticmethod
    def load_with(path, /):
        cdef Net net = Net.__new__(Net)
        cdef mbp_options options
        cdef mbp_error error
        cdef mbp_net *made = NULL
        cdef mbp_extras *extras = NULL
        name = path_bytes(path)
        net.set_options(&options, MBP_F32, 0)
        check(mbp_net_load_with(&made, &extras, name, &options, &error), &error)
        net.adopt(made)
        return net, take_extras(extras, net.item())

    @staticmethod
    def load(path, /):
        return Net.load_with(path)[0]
