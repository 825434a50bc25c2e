# Part of _core.pyx: what a file holds beside a net: a text, and vectors as bytes by name.

cdef class Extras:
    """For writing. Keeps alive what the structure points at."""

    cdef mbp_extras extras
    cdef mbp_vector[MBP_VECTORS_MAX] vectors
    cdef list kept

    def __init__(self, text, vectors, Py_ssize_t item):
        cdef bytes data, encoded
        if len(vectors) > MBP_VECTORS_MAX:
            raise ValueError(f"a file holds at most {MBP_VECTORS_MAX} vectors beside the network, not {len(vectors)}")
        self.kept = [text_bytes(text, "the text")]
        self.extras.text = PyBytes_AsString(self.kept[0])
        self.extras.vector = self.vectors
        self.extras.count = <int>len(vectors)
        for i, (name, data) in enumerate(vectors.items()):
            if len(data) % item:
                raise ValueError(f"the vector {name} has {len(data)} bytes, no multiple of the {item} of an element")
            encoded = text_bytes(name, "the name of a vector")
            self.kept += [encoded, data]
            self.vectors[i].name = PyBytes_AsString(encoded)
            self.vectors[i].data = PyBytes_AsString(data)
            self.vectors[i].count = len(data) // item


cdef bytes text_bytes(text, what):
    data = text.encode()
    if b"\0" in data:
        raise ValueError(f"{what} has a zero byte in it")
    return data


cdef object take_extras(mbp_extras *extras, Py_ssize_t item):
    """(text, vectors), or None; frees what was read."""
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
