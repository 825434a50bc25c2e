/* Floor 2: noise, for one ISA. It is computed in double for both dtypes, so this file is compiled once for each ISA: a
 * build without float64 has no other code in double. */
#ifndef MBP_DOUBLE
#define MBP_DOUBLE
#endif
#define MBP_NOISE
#include "kernels/kernels.h"

#include "formulas/random.h"
#include "kernels/vector.h"

#include "kernels/dropout.h"

/* CHANCE_WORDS normal numbers, from element `first` on. Each is made from one random word, or, if f64, from two. */
#if MICROBP_SMALL
static void chance_normals(const mbp_chance *chance, const chance_keys *keys, uint64_t first, int f64,
                           double out[CHANCE_WORDS]) {
    mbp_draw(out, (int64_t)first, CHANCE_WORDS, 1, f64, keys->seed, chance->stream, chance->step);
}
#else
static inline __attribute__((always_inline)) void chance_normals(const mbp_chance *chance, const chance_keys *keys,
                                                                 uint64_t first, int f64, double out[CHANCE_WORDS]) {
    uint32_t words[2 * CHANCE_WORDS];
    chance_words(chance, keys, first / (f64 ? 2 : 4), words);
    if (f64)
        chance_words(chance, keys, first / 2 + CHANCE_BLOCKS, words + CHANCE_WORDS);
    for (int k = 0; k < CHANCE_WORDS; k++)
        out[k] = f64 ? mbp_uniform_53(words[2 * k], words[2 * k + 1]) : mbp_uniform_24(words[k]);
    INDEPENDENT
    for (int k = 0; k < CHANCE_WORDS; k += 2)
        mbp_normal_pair(out + k);
}
#endif

#define NOISE(dtype, E, f64) \
    void VARIANT_NAME(mbp_noise_, dtype)(int64_t rows, int64_t n, mbp_view out, mbp_view in, \
                                         const mbp_chance *chance) { \
        chance_keys keys; \
        chance_prepare(chance, &keys); \
        for (int64_t r = 0; r < rows; r++) { \
            E *to = (E *)out.at + r * out.ld; \
            const E *from = (const E *)in.at + r * in.ld; \
            for (int64_t j = 0; j < n; j += CHANCE_WORDS) { \
                double normal[CHANCE_WORDS]; \
                const int64_t left = n - j < CHANCE_WORDS ? n - j : CHANCE_WORDS; \
                chance_normals(chance, &keys, chance_row(chance, r, n) + (uint64_t)j, f64, normal); \
                INDEPENDENT \
                for (int64_t k = 0; k < left; k++) \
                    to[j + k] = from[j + k] + (E)(chance->amount * normal[k]); \
            } \
        } \
    }
#if MICROBP_F32
NOISE(f32, float, 0)
#endif
#if MICROBP_F64
NOISE(f64, double, 1)
#endif
