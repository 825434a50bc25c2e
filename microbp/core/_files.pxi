# Part of _core.pyx: the extra contents of a file besides the net: one text, and a dict of name -> bytes.

cdef class Extras:
    """An mbp_extras to write, and the memory that it points to."""

    cdef mbp_extras extras
    cdef mbp_vector[MBP_VECTORS_MAX] vectors
    cdef list kept

    def __init__(self, text, vectors, Py_ssize_t item, /):
        cdef bytes data, encoded
        if len(vectors) > MBP_VECTORS_MAX:
            raise ValueError(f"extras must have at most {MBP_VECTORS_MAX} vectors, not {len(vectors)}")
        self.kept = [text_bytes(text, "the text")]
        self.extras.text = PyBytes_AsString(self.kept[0])
        self.extras.vector = self.vectors
        self.extras.count = <int>len(vectors)
        for i, (name, data) in enumerate(vectors.items()):
            if len(data) % item:
                raise ValueError(f"the vector {name} has {len(data)} bytes, not a multiple of {item}, the size of an element")
            encoded = text_bytes(name, "the name of a vector")
            self.kept += [encoded, data]
            self.vectors[i].name = PyBytes_AsString(encoded)
            self.vectors[i].data = PyBytes_AsString(data)
            self.vectors[i].count = len(data) // item


cdef bytes text_bytes(text, what):
    data = text.encode()
    if b"\0" in data:
        raise ValueError(f"{what} contains a zero byte")
    return data


cdef object take_extras(mbp_extras *extras, Py_ssize_t item):
    """(text, vectors), or None for NULL; frees the extras."""
    cdef int i
    if extras == NULL:
        return None
    try:
        vectors = {}
        for i in range(extras.count):
            name = (<bytes>extras.vector[i].name).decode()
            vectors[name] = PyBytes_FromStringAndSize(<const char *>extras.vector[i].data, extras.vector[i].count * item)
        return (<bytes>extras.text).decode(), vectors
    finally:
        mbp_extras_free(extras)
