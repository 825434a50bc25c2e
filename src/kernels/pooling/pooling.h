/* Floor 1: pools over the positions of one row. */
#ifndef MBP_POOLING_H
#define MBP_POOLING_H

#include "microbp.h"

/* x (height x across positions) and y (out_height x out_across), `n` columns each; x's are ld apart, y's n. Position
 * (i, j) of y is made of size[0] x size[1] positions of x from (stride[0] i, stride[1] j) on. */
typedef struct mbp_pooling {
    int64_t across, out_height, out_across;
    int64_t size[2], stride[2];
    int64_t n, ld;
} mbp_pooling;

/* y of one row of the net. */
typedef void (*mbp_pool_forward)(const mbp_pooling *pool, const void *x, void *y);
/* Adds to dx, whose positions are dx_ld apart. */
typedef void (*mbp_pool_backward)(const mbp_pooling *pool, const void *x, const void *y, const void *dy, void *dx,
                                  int64_t dx_ld);

/* kind: 0: the largest, 1: the mean. */
mbp_pool_forward mbp_pool_forward_of(mbp_dtype dtype, int kind);
mbp_pool_backward mbp_pool_backward_of(mbp_dtype dtype, int kind);

#endif
