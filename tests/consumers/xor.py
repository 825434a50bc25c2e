"""Trains XOR through ctypes: python xor.py libmicrobp.so"""

import ctypes
import sys
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_double, c_float, c_int, c_int64, c_size_t, c_void_p


class Error(Structure):
    _fields_ = (("status", c_int), ("node", c_int), ("row", c_int64), ("step", c_int64), ("number", c_int), ("text", c_char * 256))


class Array(Structure):
    _fields_ = (
        *(("data", c_void_p), ("dtype", c_int), ("rows", c_int64), ("cols", c_int64), ("row_stride", c_int64), ("col_stride", c_int64)),
        *(("indptr", c_void_p), ("indices", c_void_p), ("index_dtype", c_int), ("flags", c_int)),
    )


class Batch(Structure):
    _fields_ = (
        *(("size", c_size_t), ("x", POINTER(Array)), ("n_x", c_int), ("y", POINTER(Array)), ("n_y", c_int)),
        *(("weight", POINTER(Array)), ("element_weights", POINTER(Array)), ("lengths", POINTER(Array))),
        *(("state", c_void_p), ("same", c_int)),
    )


def matrix(values: ctypes.Array[c_float], rows: int, cols: int) -> Array:
    return Array(data=ctypes.addressof(values), rows=rows, cols=cols, row_stride=4 * cols, col_stride=4)


def main(path: str) -> int:
    library = ctypes.CDLL(path)
    error = Error()

    def call(name: str, *arguments: object) -> None:
        if getattr(library, name)(*arguments, byref(error)) != 0:
            raise SystemExit(f"xor: {error.text.decode()}")

    x, y, predictions = (c_float * 8)(0, 0, 0, 1, 1, 0, 1, 1), (c_float * 4)(0, 1, 1, 0), (c_float * 4)()
    inputs, targets, outputs = matrix(x, 4, 2), matrix(y, 4, 1), matrix(predictions, 4, 1)
    batch = Batch(size=ctypes.sizeof(Batch), x=ctypes.pointer(inputs), n_x=1, y=ctypes.pointer(targets), n_y=1)
    net, trainer, loss = c_void_p(), c_void_p(), c_double()
    call("mbp_net_create", byref(net), b"input 2\ndense 0 units=8 activation=tanh\ndense 1 units=1\noutput 2\n", None)
    call("mbp_trainer_create", byref(trainer), net, (c_char_p * 1)(b"bce"), None, 1, b"adam(lr=0.05)")
    for _ in range(300):
        call("mbp_trainer_step", trainer, byref(batch), byref(loss))
    call("mbp_net_predict", net, byref(inputs), 1, byref(outputs), 1, 0, -1)
    learnt = [p > 0.5 for p in predictions] == [t > 0.5 for t in y]
    library.mbp_trainer_free(trainer)
    library.mbp_net_free(net)
    print("learnt" if learnt else "wrong", f"{loss.value * 2.0**70:.0f}")
    return not learnt


sys.exit(main(sys.argv[1]))
