/* Part of kernels.c: dropout; and of noise.c: noise. Each element uses the random number that random.h gives for its
 * position; here many are computed at once. */

/* noise.c */
extern void JOIN(mbp_noise_, LENDER, f32)(int64_t rows, int64_t n, mbp_view out, mbp_view in, const mbp_chance *chance);
extern void JOIN(mbp_noise_, LENDER, f64)(int64_t rows, int64_t n, mbp_view out, mbp_view in, const mbp_chance *chance);

#if MICROBP_SMALL
#include "formulas/philox.h"

enum { CHANCE_BLOCKS = 1, CHANCE_WORDS = 4 };

typedef struct chance_keys {
    uint64_t seed;
} chance_keys;

static inline void chance_prepare(const mbp_chance *chance, chance_keys *keys) { keys->seed = chance->seed; }

static inline void chance_words(const mbp_chance *chance, const chance_keys *keys, uint64_t first,
                                uint32_t words[CHANCE_WORDS]) {
    const uint32_t counter[4] = {(uint32_t)first, chance->stream, (uint32_t)chance->step,
                                 (uint32_t)(chance->step >> 32)};
    mbp_words(keys->seed, counter, words);
}
#else
/* Philox runs on three vectors of counters together, which hides the latency of its multiplications: dropout takes
 * 0.58 ns per element with AVX2. Each word is in the lower half of a 64-bit lane; the upper half is ignored. */
enum { CHANCE_VECTORS = 3, CHANCE_BLOCKS = CHANCE_VECTORS * VB / 8, CHANCE_WORDS = 4 * CHANCE_BLOCKS, ROUNDS = 10 };

/* The two keys of each round, in all lanes. */
typedef struct chance_keys {
    vu of[ROUNDS][2];
} chance_keys;

static inline void chance_prepare(const mbp_chance *chance, chance_keys *keys) {
    uint32_t key0 = (uint32_t)chance->seed, key1 = (uint32_t)(chance->seed >> 32);
    for (int round = 0; round < ROUNDS; round++, key0 += 0x9E3779B9, key1 += 0xBB67AE85) {
        keys->of[round][0] = (vu){0} + key0;
        keys->of[round][1] = (vu){0} + key1;
    }
}

/* The random words of CHANCE_BLOCKS counters, from `first` on: four words each, in order. */
static inline __attribute__((always_inline)) void chance_words(const mbp_chance *chance, const chance_keys *keys,
                                                               uint64_t first, uint32_t words[CHANCE_WORDS]) {
    vu w[4][CHANCE_VECTORS];
    uint64_t pairs[2][CHANCE_BLOCKS], in_order[2 * CHANCE_BLOCKS];
    static const uint64_t counts[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,
                                      12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};
    memcpy(w[0], counts, sizeof w[0]);
    for (int v = 0; v < CHANCE_VECTORS; v++) {
        w[0][v] += first;
        w[1][v] = (vu){0} + chance->stream;
        w[2][v] = (vu){0} + (uint32_t)chance->step;
        w[3][v] = (vu){0} + (chance->step >> 32);
    }
    for (int round = 0; round < ROUNDS; round++) {
        EACH(v, CHANCE_VECTORS) {
            const vu a = multiply_low(w[0][v], (vu){0} + 0xD2511F53u), b = multiply_low(w[2][v], (vu){0} + 0xCD9E8D57u);
            w[0][v] = (b >> 32) ^ (w[1][v] ^ keys->of[round][0]);
            w[1][v] = b;
            w[2][v] = (a >> 32) ^ (w[3][v] ^ keys->of[round][1]);
            w[3][v] = a;
        }
    }
    EACH(v, CHANCE_VECTORS) {
        w[0][v] = (w[0][v] & 0xFFFFFFFF) | w[1][v] << 32;
        w[2][v] = (w[2][v] & 0xFFFFFFFF) | w[3][v] << 32;
    }
    memcpy(pairs, w, sizeof pairs[0]);
    memcpy(pairs[1], w[2], sizeof pairs[1]);
    for (int i = 0; i < CHANCE_BLOCKS; i++) {
        in_order[2 * i] = pairs[0][i];
        in_order[2 * i + 1] = pairs[1][i];
    }
    memcpy(words, in_order, sizeof in_order);
}
#endif

/* The position of the first element of a row in the stream. */
static inline uint64_t chance_row(const mbp_chance *chance, int64_t row, int64_t n) {
    return (uint64_t)(chance->first_row + row) * (uint64_t)((n + 3) / 4 * 4);
}

#ifndef MBP_NOISE
/* ---- dropout: an element is kept if its uniform number u is at least the rate; u has 24 bits in both dtypes ---- */

static __attribute__((noinline)) void drop(int64_t rows, int64_t n, mbp_view out, mbp_view in, const mbp_chance *chance,
                                           int add) {
    /* u x 2^24 is an integer: it is compared with the rate x 2^24, rounded up. */
    const double bound = chance->amount * 0x1p24;
    const int32_t below = (int32_t)bound, least = below + (below < bound);
    const T scale = (T)(1 / (1 - chance->amount));
    chance_keys keys;
    chance_prepare(chance, &keys);
    for (int64_t r = 0; r < rows; r++) {
        T *to = (T *)out.at + r * out.ld;
        const T *from = (const T *)in.at + r * in.ld;
        for (int64_t j = 0; j < n; j += CHANCE_WORDS) {
            uint32_t words[CHANCE_WORDS];
            const int64_t left = n - j < CHANCE_WORDS ? n - j : CHANCE_WORDS;
            chance_words(chance, &keys, (chance_row(chance, r, n) + (uint64_t)j) / 4, words);
            T y[CHANCE_WORDS];
            INDEPENDENT
            for (int64_t k = 0; k < left; k++) {
                const T scaled = scale * from[j + k];
                y[k] = (int32_t)(words[k] >> 8) >= least ? scaled : 0;
            }
            if (add)
                for (int64_t k = 0; k < left; k++)
                    to[j + k] += y[k];
            else
                memcpy(to + j, y, (size_t)left * sizeof(T));
        }
    }
}

static void dropout(int64_t rows, int64_t n, mbp_view out, mbp_view in, const mbp_chance *chance) {
    drop(rows, n, out, in, chance, 0);
}

static void accumulate_dropout(int64_t rows, int64_t n, mbp_view out, mbp_view in, const mbp_chance *chance) {
    drop(rows, n, out, in, chance, 1);
}
#endif
