# cython: language_level=3
"""Trains XOR in Cython. cimport finds the declarations beside the installed package."""
from libc.string cimport memset
from microbp cimport (mbp_array, mbp_batch, mbp_error, mbp_f32, mbp_net, mbp_net_create, mbp_net_free, mbp_net_predict, mbp_status,
                      mbp_trainer, mbp_trainer_create, mbp_trainer_free, mbp_trainer_step)


cdef int check(mbp_status status, const mbp_error *error) except -1:
    if status:
        raise RuntimeError((<bytes>error.text).decode())
    return 0


def main():
    cdef float[8] x = [0, 0, 0, 1, 1, 0, 1, 1]
    cdef float[4] y = [0, 1, 1, 0]
    cdef float[4] predictions
    cdef mbp_array inputs = mbp_f32(x, 4, 2), targets = mbp_f32(y, 4, 1), outputs = mbp_f32(predictions, 4, 1)
    cdef const char *losses = "bce"
    cdef mbp_batch batch
    cdef mbp_net *net = NULL
    cdef mbp_trainer *trainer = NULL
    cdef mbp_error error
    cdef double loss = 0
    memset(&batch, 0, sizeof(batch))
    batch.size, batch.x, batch.n_x, batch.y, batch.n_y = sizeof(batch), &inputs, 1, &targets, 1
    try:
        check(mbp_net_create(&net, b"input 2\ndense 0 units=8 activation=tanh\ndense 1 units=1\noutput 2\n", NULL, &error), &error)
        check(mbp_trainer_create(&trainer, net, &losses, NULL, 1, b"adam(lr=0.05)", &error), &error)
        for _ in range(300):
            check(mbp_trainer_step(trainer, &batch, &loss, &error), &error)
        check(mbp_net_predict(net, &inputs, 1, &outputs, 1, 0, -1, &error), &error)
    finally:
        mbp_trainer_free(trainer)
        mbp_net_free(net)
    learnt = [p > 0.5 for p in predictions] == [t > 0.5 for t in y]
    print("learnt" if learnt else "wrong", f"{loss * 2.0**70:.0f}")
    return not learnt
