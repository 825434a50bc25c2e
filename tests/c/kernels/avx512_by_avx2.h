/* Included before kernels.c by a compiler option. It compiles the AVX-512 variant (64-byte vectors and their tile
 * sizes) for AVX2, so that this variant is tested on processors without AVX-512. The compiler splits the vectors; only
 * the intrinsics need replacements. */
#include <immintrin.h>
#include <string.h>

#define HALVES(name, whole, half, intrinsic) \
    static inline __attribute__((always_inline)) whole name(whole a, whole b, whole c) { \
        half x[2], y[2], z[2]; \
        memcpy(x, &a, sizeof a), memcpy(y, &b, sizeof b), memcpy(z, &c, sizeof c); \
        for (int i = 0; i < 2; i++) \
            z[i] = intrinsic(x[i], y[i], z[i]); \
        memcpy(&c, z, sizeof c); \
        return c; \
    }
HALVES(fma_halves_f32, __m512, __m256, _mm256_fmadd_ps)
HALVES(fma_halves_f64, __m512d, __m256d, _mm256_fmadd_pd)
#undef HALVES

static inline __attribute__((always_inline)) __m512i multiply_halves(__m512i a, __m512i b) {
    __m256i x[2], y[2];
    memcpy(x, &a, sizeof a), memcpy(y, &b, sizeof b);
    for (int i = 0; i < 2; i++)
        x[i] = _mm256_mul_epu32(x[i], y[i]);
    memcpy(&a, x, sizeof a);
    return a;
}

static inline __attribute__((always_inline)) __m512i insert_quarter(__m512i whole, __m128i quarter, int place) {
    memcpy((char *)&whole + 16 * place, &quarter, sizeof quarter);
    return whole;
}
#define _mm512_castsi128_si512(quarter) insert_quarter((__m512i){0}, quarter, 0)
#undef _mm512_inserti32x4 /* a macro in clang */
#define _mm512_inserti32x4 insert_quarter
#define _mm512_mul_epu32 multiply_halves
#define _mm512_fmadd_ps fma_halves_f32
#define _mm512_fmadd_pd fma_halves_f64
#define __AVX512F__ 1
