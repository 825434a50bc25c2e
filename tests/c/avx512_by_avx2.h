/* Force-included before kernels.c: compiles its AVX-512 form (64-byte vectors, its tile sizes) for AVX2, so that this form is tested on
 * processors without AVX-512. The compiler splits the vectors; only the one intrinsic needs a stand-in. */
#include <immintrin.h>
#include <string.h>

#define HALVES(name, whole, half, intrinsic)                                                                                               \
    static inline __attribute__((always_inline)) whole name(whole a, whole b, whole c) {                                                   \
        half x[2], y[2], z[2];                                                                                                             \
        memcpy(x, &a, sizeof a), memcpy(y, &b, sizeof b), memcpy(z, &c, sizeof c);                                                         \
        for (int i = 0; i < 2; i++)                                                                                                        \
            z[i] = intrinsic(x[i], y[i], z[i]);                                                                                            \
        memcpy(&c, z, sizeof c);                                                                                                           \
        return c;                                                                                                                          \
    }
HALVES(fma_halves_f32, __m512, __m256, _mm256_fmadd_ps)
HALVES(fma_halves_f64, __m512d, __m256d, _mm256_fmadd_pd)
#undef HALVES
#define _mm512_fmadd_ps fma_halves_f32
#define _mm512_fmadd_pd fma_halves_f64
#define __AVX512F__ 1
