/* Floor 4: a chain of steps of whole numbers.
 *
 *     two buffers of bytes, which the steps read and write in turn; floats for the input and the values of dense steps
 *
 * Rows go through all steps in blocks that fit a cache. */
#ifndef MBP_INT8_H
#define MBP_INT8_H

#include "int8/dots.h"
#include "kernels/catalog.h"
#include "net/net.h"

typedef enum mbp_int8_operation {
    MBP_INT8_QUANTIZE,
    MBP_INT8_DENSE,
    MBP_INT8_WINDOW,
    MBP_INT8_POOL
} mbp_int8_operation;

typedef struct mbp_int8_part {
    mbp_int8_operation operation;
    int64_t positions, width, inputs; /* inputs: of a position of a dense step */
    int64_t operand[3], window[8];
    int is_mean;
    mbp_formula activation;
    mbp_dots_job dot;          /* dense: its weights */
    const float *mean, *scale; /* quantize; NULL: 0 and 1 */
    float inverse;
    int zero;
} mbp_int8_part;

/* The buffers of one call: of `threads` threads, each for `rows` rows. */
typedef struct mbp_int8_room {
    int64_t rows;
    int threads;
    size_t bytes, each; /* of all, of a thread */
} mbp_int8_room;

struct mbp_int8 {
    mbp_memory memory;
    size_t bytes; /* of this block */
    const mbp_kernels *kernels;
    const mbp_dots *dots;
    mbp_pool *pool;
    int threads; /* the limit; 0: no limit */
    int count;
    mbp_int8_part *part;
    int64_t columns, outputs;
    int output;                    /* its activation; -1: none */
    const double *mean, *std;      /* NULL: none */
    int64_t row_bytes, row_floats; /* the most that a row needs in a buffer of bytes, and of floats */
    int64_t block;                 /* rows that go through the steps together */
    double work;                   /* of a row, in the unit of system/threads/pool.h */
    void *room;                    /* an mbp_int8_room that no call uses; NULL: none */
};

/* How many numbers the value of a step has. */
static inline int64_t mbp_int8_numbers(const mbp_int8_part *part) { return part->positions * part->width; }
static inline int64_t mbp_int8_padded(int64_t units) {
    return (units + MBP_DOT_UNITS - 1) / MBP_DOT_UNITS * MBP_DOT_UNITS;
}
/* How many threads a prediction of so many rows is worth. */
int mbp_int8_threads(const mbp_int8 *net, int64_t rows);
/* A room for this many threads and rows (at most `block` each), or NULL. The caller must give it back. */
mbp_int8_room *mbp_int8_take(mbp_int8 *net, int64_t rows, int threads);
void mbp_int8_give(mbp_int8 *net, mbp_int8_room *room);

#endif
