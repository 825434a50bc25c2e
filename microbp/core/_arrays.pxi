# Part of _core.pyx: converts Python objects to mbp_array and back.

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, Py_buffer, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AsString
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.number cimport PyNumber_Index
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.string cimport memcpy, memset


# ---- objects to arrays ----

cdef int read_dtype(const Py_buffer *view, mbp_dtype *dtype) except -1:
    """Finds the dtype from the format code of the `struct` module and the size of an item."""
    cdef const char *code = view.format
    if code[0] == b"@" or code[0] == b"=" or code[0] == b"<":
        code += 1
    cdef Py_ssize_t size = view.itemsize
    cdef int kind = 0
    if code[1] == 0:
        if code[0] == b"f" or code[0] == b"d" or code[0] == b"e":
            dtype[0] = MBP_F32 if size == 4 else MBP_F64 if size == 8 else MBP_F16
            return 0
        kind = 1 if code[0] in b"bhilqn" else 2 if code[0] in b"?BHILQN" else 0
    if kind and size == 1:
        dtype[0] = MBP_I8 if kind == 1 else MBP_U8
    elif kind and size == 2:
        dtype[0] = MBP_I16 if kind == 1 else MBP_U16
    elif kind and size == 4:
        dtype[0] = MBP_I32 if kind == 1 else MBP_U32
    elif kind and size == 8:
        dtype[0] = MBP_I64 if kind == 1 else MBP_U64
    else:
        raise TypeError(f"cannot read an array of format {(<bytes>view.format).decode()!r}: use a native float, integer or bool dtype")
    return 0


cdef int check_parts(mbp_array *array, const Py_buffer *data, const Py_buffer *indices, const Py_buffer *indptr) except -1:
    """The parts of CSR must be contiguous vectors, and contain what indptr says."""
    cdef mbp_dtype index, pointer
    cdef int64_t last
    read_dtype(data, &array.dtype)
    read_dtype(indices, &index)
    read_dtype(indptr, &pointer)
    if index != pointer or (index != MBP_I32 and index != MBP_I64):
        raise TypeError("the parts indices and indptr of sparse rows must both be int32 or int64")
    for part in (data.ndim, indices.ndim, indptr.ndim):
        if part != 1:
            raise ValueError("the parts of sparse rows must be vectors")
    if array.rows < 0 or indptr.shape[0] != array.rows + 1:
        raise ValueError(f"indptr must have {array.rows + 1} numbers, not {indptr.shape[0]}")
    last = (<const int64_t *>indptr.buf)[array.rows] if index == MBP_I64 else (<const int *>indptr.buf)[array.rows]
    if last > data.shape[0] or last > indices.shape[0]:
        raise ValueError(f"indptr ends with {last}, but there are {min(data.shape[0], indices.shape[0])} values")
    array.data, array.indices, array.indptr, array.index_dtype = data.buf, indices.buf, indptr.buf, index
    return 0


cdef int read_csr(object source, Py_buffer *view, Py_buffer *places, mbp_array *array) except -1:
    """The same for sparse rows: an object with data, indices, indptr and shape. places: the views of indices and indptr."""
    cdef int taken = 0
    cdef int flags = PyBUF_ND | PyBUF_FORMAT
    if getattr(source, "format", "csr") != "csr":
        raise TypeError("sparse rows must have the format csr")
    memset(array, 0, sizeof(mbp_array))
    rows, cols = source.shape
    array.rows, array.cols = PyNumber_Index(rows), PyNumber_Index(cols)  # floats are refused
    try:  # one by one: a loop over the names takes 3 % of a step of one row
        PyObject_GetBuffer(source.data, view, flags)
        taken = 1
        PyObject_GetBuffer(source.indices, &places[0], flags)
        taken = 2
        PyObject_GetBuffer(source.indptr, &places[1], flags)
        taken = 3
        check_parts(array, view, &places[0], &places[1])
    except BaseException:
        array.indptr = NULL
        if taken > 0:
            PyBuffer_Release(view)
        for i in range(1, taken):
            PyBuffer_Release(&places[i - 1])
        raise
    return 0


# What an argument of an array may be, besides a matrix.
cdef enum:
    MATRIX
    COLUMN  # a vector, which becomes one column
    ROW  # a vector, which becomes one row


cdef int read_array(object source, Py_buffer *view, Py_buffer *places, mbp_array *array, int vectors, int flags) except -1:
    """Fills `view` and `array` from an object with the buffer protocol; of sparse rows, also two `places`. After success the caller must
    release the views; after an error it must not."""
    if not PyObject_CheckBuffer(source):
        if hasattr(source, "indptr") and vectors != COLUMN:
            return read_csr(source, view, places, array)
        raise TypeError(f"{type(source).__name__} cannot be read as an array: it does not support the buffer protocol")
    PyObject_GetBuffer(source, view, flags)
    try:
        read_dtype(view, &array.dtype)
        if view.ndim != 2 and (view.ndim != 1 or vectors == MATRIX):
            raise ValueError(f"an array must have {'2' if vectors == MATRIX else '1 or 2'} dimensions, not {view.ndim}")
    except BaseException:
        PyBuffer_Release(view)
        raise
    array.data = view.buf
    if view.ndim == 1 and vectors == ROW:
        array.rows, array.cols = 1, view.shape[0]
        array.row_stride, array.col_stride = view.len, view.strides[0]
    else:
        array.rows = view.shape[0]
        array.cols = view.shape[1] if view.ndim == 2 else 1
        array.row_stride = view.strides[0]
        array.col_stride = view.strides[1] if view.ndim == 2 else view.itemsize
    array.indptr = array.indices = NULL
    array.index_dtype = MBP_I64
    array.flags = MBP_SHARED  # elements may share memory, as in NumPy's broadcast and sliding views
    return 0


# The arrays of one argument during a call. A few, the usual case, need no allocation.
cdef enum:
    FEW = 3

cdef struct Held:
    int count
    int extra  # lengths, one for each of the `count` inputs, are the arrays after these
    bint is_list
    mbp_array *array
    Py_buffer *view
    Py_buffer *places  # two for each array: indices and indptr of sparse rows
    mbp_array few_arrays[FEW]
    Py_buffer few_views[FEW]
    Py_buffer few_places[2 * FEW]


cdef inline int ndim_of(const Held *held, int i) noexcept:
    return held.view[i].ndim if held.array[i].indptr == NULL else 2


cdef void release(Held *held) noexcept:
    cdef int i
    for i in range(held.count + held.extra):
        PyBuffer_Release(&held.view[i])
        if held.array[i].indptr != NULL:
            PyBuffer_Release(&held.places[2 * i])
            PyBuffer_Release(&held.places[2 * i + 1])
    held.count = held.extra = 0
    if held.array != held.few_arrays:
        PyMem_Free(held.array)
        PyMem_Free(held.view)
        PyMem_Free(held.places)
    held.array = held.few_arrays


cdef int hold(Held *held, object source, int vectors, int flags=PyBUF_STRIDES | PyBUF_FORMAT, bint may_be_none=False) except -1:
    """Holds one array, a list of arrays, or none for None; of a dict {"x": inputs, "lengths": lengths}, both. Afterwards `release` may be
    called any number of times, even after an error. may_be_none: items of the list may be None; their data is NULL."""
    held.count = held.extra = 0
    held.is_list = type(source) is list
    held.array = held.few_arrays
    held.view = held.few_views
    held.places = held.few_places
    if source is None:
        return 0
    if type(source) is dict:
        return hold_with_lengths(held, source["x"], source["lengths"], vectors, flags)
    if type(source) is not list:
        read_array(source, held.view, held.places, held.array, vectors, flags)
        held.count = 1
        return 0
    cdef Py_ssize_t n = len(source)
    if n > FEW:
        held.array = <mbp_array *>PyMem_Calloc(n, sizeof(mbp_array))
        held.view = <Py_buffer *>PyMem_Calloc(n, sizeof(Py_buffer))
        held.places = <Py_buffer *>PyMem_Calloc(2 * n, sizeof(Py_buffer))
    try:
        if held.array == NULL or held.view == NULL or held.places == NULL:
            raise MemoryError
        for item in source:
            if item is None and may_be_none:
                memset(&held.array[held.count], 0, sizeof(mbp_array))
                memset(&held.view[held.count], 0, sizeof(Py_buffer))
            else:
                read_array(item, &held.view[held.count], &held.places[2 * held.count], &held.array[held.count], vectors, flags)
            held.count += 1
    except BaseException:
        release(held)
        raise
    return 0


cdef int hold_with_lengths(Held *held, object inputs, list lengths, int vectors, int flags) except -1:
    inputs = inputs if type(inputs) is list else [inputs]
    hold(held, inputs + lengths, vectors, flags, True)
    held.count, held.extra = len(inputs), len(lengths)
    return 0


cdef class Block:
    """A writable buffer of float32 or float64: either the memory of `owner`, which it keeps alive, or memory that it allocated itself."""

    cdef object owner
    cdef char *at
    cdef bint is_double, is_own
    cdef int ndim
    cdef Py_ssize_t[2] shape
    cdef Py_ssize_t[2] strides

    def __dealloc__(self):
        if self.is_own:
            PyMem_Free(self.at)

    def __getbuffer__(self, Py_buffer *view, int flags):
        view.buf = self.at
        view.obj = self
        view.itemsize = 8 if self.is_double else 4
        view.len = self.shape[0] * (self.shape[1] if self.ndim == 2 else 1) * view.itemsize
        view.readonly = 0
        view.format = b"d" if self.is_double else b"f"
        view.ndim = self.ndim
        view.shape = self.shape
        view.strides = self.strides
        view.suboffsets = NULL
        view.internal = NULL

    def __releasebuffer__(self, Py_buffer *view):
        pass


cdef Block block_of(object owner, void *at, int64_t count, bint is_double):
    """A flat view of memory that lives as long as `owner`."""
    cdef Block block = Block()
    block.owner = owner
    block.at = <char *>at
    block.is_double = is_double
    block.ndim = 1
    block.shape[0] = count
    block.strides[0] = 8 if is_double else 4
    return block


cdef Block copy_of(const mbp_array *array):
    """Copies a matrix, because the library will reuse its memory."""
    cdef Block block = Block()
    cdef Py_ssize_t item = 8 if array.dtype == MBP_F64 else 4
    cdef int64_t row
    block.at = <char *>PyMem_Malloc(array.rows * array.cols * item)
    if block.at == NULL:
        raise MemoryError
    block.is_own = True
    block.is_double = array.dtype == MBP_F64
    block.ndim = 2
    block.shape = [array.rows, array.cols]
    block.strides = [array.cols * item, item]
    for row in range(array.rows):
        memcpy(block.at + row * array.cols * item, <const char *>array.data + row * array.row_stride, array.cols * item)
    return block


cdef const void *vector(Held *held, mbp_dtype dtype, int64_t n, what) except? NULL:
    """The data of a contiguous vector of this dtype and length; NULL for None."""
    if not held.count:
        return NULL
    if held.array.dtype != dtype:
        raise ValueError(f"{what} must have dtype {'int64' if dtype == MBP_I64 else 'float64' if dtype == MBP_F64 else 'float32'}")
    if held.array.rows != n or held.array.cols != 1:
        shape = f"({held.array.rows}, {held.array.cols})" if held.view.ndim == 2 else f"({held.array.rows},)"
        raise ValueError(f"{what} must have shape ({n},), not {shape}")
    if n > 1 and held.array.row_stride != held.view.itemsize:
        raise ValueError(f"{what} must be contiguous")
    return held.array.data


# ---- hashes ----

cdef Py_ssize_t KEEP_GIL_HASHES = 10000  # about 50 microseconds, as KEEP_GIL_FLOPS


cdef int bytes_of(object value, const char **at, Py_ssize_t *count, int64_t *number) except -1:
    """Finds what is hashed of a value. 0: it has no hash; 1: the bytes of a string, as UTF-8, or of bytes; 2: a whole number."""
    if isinstance(value, bytes):
        at[0] = PyBytes_AsString(value)
        count[0] = len(<bytes>value)
        return 1
    try:
        if isinstance(value, str):
            at[0] = PyUnicode_AsUTF8AndSize(value, count)
            return 1
        if isinstance(value, bool):
            return 0
        whole = PyNumber_Index(value)
        number[0] = <int64_t>whole if whole < 0 else <int64_t><uint64_t>whole
        return 2
    except (TypeError, OverflowError, UnicodeEncodeError):
        return 0


cdef Py_ssize_t hash_list(list values, int64_t levels, uint64_t seed, int64_t *out) except -1:
    cdef const char *at = NULL
    cdef Py_ssize_t i, count = 0
    cdef int64_t number = 0
    cdef int kind
    for i in range(len(values)):
        kind = bytes_of(values[i], &at, &count, &number)
        if not kind:
            return i
        out[i] = mbp_hash_level(mbp_hash(at, count, seed) if kind == 1 else mbp_hash_number(number, seed), levels)
    return len(values)


cdef void hash_numbers(const int64_t *numbers, Py_ssize_t count, int64_t levels, uint64_t seed, int64_t *out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        out[i] = mbp_hash_level(mbp_hash_number(numbers[i], seed), levels)


def hash_values(values, int64_t levels, uint64_t seed, out, /):
    """Writes a level for each value of a list, or of a vector of int64, to the vector `out` of int64. Returns how many it wrote: fewer than
    there are if the next value has no hash."""
    cdef Held held, written
    cdef Py_ssize_t count = len(values)
    cdef const int64_t *numbers
    cdef int64_t *levels_of
    hold(&written, out, COLUMN, PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE)
    try:
        levels_of = <int64_t *>vector(&written, MBP_I64, count, "out")
        if type(values) is list:
            return hash_list(values, levels, seed, levels_of)
        hold(&held, values, COLUMN)
        try:
            numbers = <const int64_t *>vector(&held, MBP_I64, count, "values")
            if count > KEEP_GIL_HASHES:
                with nogil:
                    hash_numbers(numbers, count, levels, seed, levels_of)
            else:
                hash_numbers(numbers, count, levels, seed, levels_of)
        finally:
            release(&held)
        return count
    finally:
        release(&written)
