/* Floor 1: random numbers by Philox 4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011). The
 * key is the seed. A number depends on its position in the stream, not on the numbers drawn before. All is computed in
 * double and without fused multiply-adds, so that microbp/reference/random.py gives the same bits. */
#ifndef MBP_RANDOM_H
#define MBP_RANDOM_H

#ifndef MBP_DOUBLE
#define MBP_DOUBLE
#endif
#include "formulas/formulas.h"
#include "formulas/philox.h"

/* Cosine and sine of 2 pi u for 0 <= u < 1. First the nearest multiple of a quarter turn is subtracted, which is exact.
 * The rest is an angle x with |x| <= pi/4. */
FORMULA void mbp_turn(double u, double *cosine, double *sine) {
    const double quarter = nearest(4 * u), x = 0x1.921fb54442d18p+2 * (u - quarter * 0.25);
    const double s = sine_near_0(x), c = cosine_near_0(x);
    const int odd = quarter == 1 || quarter == 3;
    const double along = odd ? s : c, across = odd ? c : s;
    *cosine = quarter == 1 || quarter == 2 ? -along : along;
    *sine = quarter == 2 || quarter == 3 ? -across : across;
}

/* Replaces two uniform numbers by two normal ones (Box & Muller 1958). */
SHARED void mbp_normal_pair(double pair[2]) {
    const double radius = SQRT(-2 * LOG(1 - pair[0]));
    double cosine, sine;
    mbp_turn(pair[1], &cosine, &sine);
    pair[0] = radius * cosine;
    pair[1] = radius * sine;
}

/* Uniform in [0, 1), with 24 and with 53 bits. */
FORMULA double mbp_uniform_24(uint32_t word) { return (double)(int32_t)(word >> 8) * 0x1p-24; }
FORMULA double mbp_uniform_53(uint32_t high, uint32_t low) {
    return (double)(int64_t)(((uint64_t)high << 32 | low) >> 11) * 0x1p-53;
}

/* Draws `count` elements of a stream, from element `first` on, which is a multiple of 4 (random.c). The stream is
 * purpose << 24 | layer or node. They are uniform in [0, 1), with 24 bits or, if f64, with 53; or, if `normal`,
 * standard normal. */
void mbp_draw(double *out, int64_t first, int64_t count, int normal, int f64, uint64_t seed, uint32_t stream,
              uint64_t step);

/* The upper half of a 128-bit product. */
static inline uint64_t mbp_upper_product(uint64_t a, uint64_t b) {
    const uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    const uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), other = a0 * b1 + (uint32_t)middle;
    return a1 * b1 + (middle >> 32) + (other >> 32);
}

/* Fills order with a permutation of 0 .. n - 1 by the Fisher-Yates shuffle: 64 random bits are scaled to an index in
 * 0 .. i (Lemire 2019, without rejection: the bias is below n / 2^64). */
static inline void mbp_fill_permutation(uint64_t seed, uint32_t purpose, uint64_t instance, int64_t n, int64_t *order) {
    uint32_t w[4] = {0};
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        const uint64_t block = (uint64_t)i / 2;
        if (i % 2 || i == n - 1) {
            const uint32_t counter[4] = {(uint32_t)block, purpose << 24 | ((uint32_t)(block >> 32) & 0xFFFFFF),
                                         (uint32_t)instance, (uint32_t)(instance >> 32)};
            mbp_philox(seed, counter, w);
        }
        const uint64_t bits = (uint64_t)w[2 * (i % 2)] << 32 | w[2 * (i % 2) + 1];
        const int64_t j = (int64_t)mbp_upper_product(bits, (uint64_t)i + 1), swapped = order[i];
        order[i] = order[j];
        order[j] = swapped;
    }
}

#endif
