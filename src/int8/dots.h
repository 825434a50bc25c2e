/* Floor 4: products of whole numbers: rows of bytes times weights of 8 bits, for each instruction set. */
#ifndef MBP_DOTS_H
#define MBP_DOTS_H

#include "kernels/kernels.h"

/* Weights are packed for 64 units at a time, then for 16: of each, four inputs of every unit side by side, (inputs / 4,
 * 64 or 16, 4). Units and inputs that there are not have weights of 0. */
enum { MBP_DOT_UNITS = 16, MBP_DOT_PANEL = 64, MBP_DOT_INPUTS = 4 };

/* z (m, n) = float(start + x w) * scale. n: a multiple of 16; rows of x are `ld` bytes apart, and up to 3 bytes after
 * the last one are read. start: what the unsigned bytes of x need; see is_signed. */
typedef struct mbp_dots_job {
    int64_t m, n, fours, ld;
    const uint8_t *x;
    const int8_t *weight;
    const int32_t *start;
    const float *scale;
    float *z;
} mbp_dots_job;

typedef struct mbp_dots {
    void (*product)(const mbp_dots_job *p);
    /* q (n) = round(x * factor) + zero, cut to 0 to 255; NaN is 0. Half-way cases go to the even number. */
    void (*round)(int64_t n, uint8_t *q, const float *x, float factor, int zero);
    int is_signed; /* 1: the product subtracts 128 from x, so `start` is larger by 128 times the sum of the weights */
} mbp_dots;

/* Those that suit a table of kernels and this processor. */
const mbp_dots *mbp_dots_find(const mbp_kernels *kernels);

#endif
