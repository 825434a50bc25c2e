/* Part of kernels.c: a vector type, the operations that need intrinsics, and the size of a tile. Only this file and
 * dispatch.c name instruction sets. */

#if defined(MBP_GENERIC) /* no intrinsics */
#elif defined(__x86_64__)
#include <immintrin.h>
#define X86
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#define NEON
#endif

#include "formulas/formulas.h"

/* VARIANT_NAME(mbp_kernels_, f32) is the name of this variant's symbol, such as mbp_kernels_avx2_f32. */
#define JOIN_(a, b, c) a##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define VARIANT_NAME(prefix, dtype) JOIN(prefix, MBP_ISA, dtype)
#ifdef MBP_DOUBLE
#define DTYPE_NAME f64
#else
#define DTYPE_NAME f32
#endif

/* VB: bytes of a vector. A tile has TILE_ROWS x TILE_VECTORS accumulators. With TILE_VECTORS vectors of b and one of a
 * they fill the registers: 32 on AVX-512 and NEON, 16 on AVX2 and SSE2. Other processors have the vectors of SSE2,
 * which the compiler takes apart if there are none. */
#if defined(X86) && defined(__AVX512F__)
#define VB 64
#define TILE_ROWS 6
#define TILE_VECTORS 4
#elif defined(X86) && defined(__AVX2__) && defined(__FMA__)
#define VB 32
#define TILE_ROWS 6
#define TILE_VECTORS 2
#elif defined(NEON)
#define VB 16
#define TILE_ROWS 6
#define TILE_VECTORS 4
#else
#define VB 16
#define TILE_ROWS 4
#define TILE_VECTORS 2
#endif

/* Small code has few sizes of tiles and transposes nothing; without vector registers its vectors are single numbers. */
#if MICROBP_SMALL
#undef TILE_ROWS
#undef TILE_VECTORS
#define TILE_ROWS 2
#define TILE_VECTORS 2
#if !defined(__SSE2__) && !defined(__ARM_NEON) && !defined(__wasm_simd128__) && !defined(__ALTIVEC__)
#define ONE_LANE
#endif
#endif

/* Losses of elements, updates, norms and noise are hardly faster with vectors of 64 bytes, and have the same bits. So
 * AVX-512 takes those of AVX2, if the build has them. */
#if MICROBP_AVX2 && VB == 64
#define BORROWS 1
#define LENDER avx2
#else
#define BORROWS 0
#define LENDER MBP_ISA
#endif

#ifdef MBP_DOUBLE
#define ITEM 8
#else
#define ITEM 4
#endif
#if defined(ONE_LANE)
#define VECTOR_LANES 1
#elif VB == 16 * ITEM
#define VECTOR_LANES 16
#elif VB == 8 * ITEM
#define VECTOR_LANES 8
#elif VB == 4 * ITEM
#define VECTOR_LANES 4
#else
#define VECTOR_LANES 2
#endif
enum { VL = VECTOR_LANES };

/* vr: T in each lane; vr_memory: vr at any address; vi: integers of the size of T; vu: 64-bit unsigned integers. */
#ifdef ONE_LANE
typedef T vr, vr_memory;
#else
typedef T vr __attribute__((vector_size(VB)));
typedef T vr_memory __attribute__((vector_size(VB), aligned(__alignof__(T)), may_alias));
#ifdef MBP_DOUBLE
typedef int64_t vi __attribute__((vector_size(VB)));
#else
typedef int32_t vi __attribute__((vector_size(VB)));
#endif
#endif
#if !MICROBP_SMALL
typedef uint64_t vu __attribute__((vector_size(VB)));
#endif

/* FMA_ONE: a * b + c of numbers, rounded once, where the processor has an instruction for it but no vectors above. */
#if defined(MBP_DOUBLE) && (defined(__FP_FAST_FMA) || __riscv_flen >= 64 || (__ARM_FEATURE_FMA && __ARM_FP & 8))
#define FMA_ONE __builtin_fma
#elif !defined(MBP_DOUBLE) && (defined(__FP_FAST_FMAF) || __riscv_flen >= 32 || __ARM_FEATURE_FMA)
#define FMA_ONE __builtin_fmaf
#endif

/* a * b + c, rounded once; twice on processors without fused multiply-adds, such as those with SSE2. */
static inline __attribute__((always_inline)) vr fma_vector(vr a, vr b, vr c) {
#if VB == 64 && defined(MBP_DOUBLE)
    return (vr)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif VB == 64
    return (vr)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif VB == 32 && defined(MBP_DOUBLE)
    return (vr)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif VB == 32
    return (vr)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(NEON) && defined(MBP_DOUBLE)
    return (vr)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#elif defined(NEON)
    return (vr)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#elif defined(FMA_ONE) && defined(ONE_LANE)
    return FMA_ONE(a, b, c);
#elif defined(FMA_ONE)
    for (int l = 0; l < VL; l++)
        c[l] = FMA_ONE(a[l], b[l], c[l]);
    return c;
#else
    return a * b + c;
#endif
}

/* 0 for negative numbers. Keeps NaN. */
static inline __attribute__((always_inline)) vr relu_vector(vr v) {
#ifdef ONE_LANE
    return v < 0 ? 0 : v;
#else
    return (vr)(~(vi)(v < 0) & (vi)v);
#endif
}

/* The sum of the lanes. */
static inline T sum_vector(vr v) {
#ifdef ONE_LANE
    return v;
#else
    T sum = 0;
    for (int l = 0; l < VL; l++)
        sum += v[l];
    return sum;
#endif
}

#if !MICROBP_SMALL
/* The products of the lower halves of 64-bit lanes, as 64-bit numbers. */
static inline __attribute__((always_inline)) vu multiply_low(vu a, vu b) {
#if VB == 64
    return (vu)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif VB == 32
    return (vu)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(X86)
    return (vu)_mm_mul_epu32((__m128i)a, (__m128i)b);
#elif defined(NEON)
    return (vu)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#else
    return (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF);
#endif
}
#endif

static inline __attribute__((always_inline)) vr load(const T *at) { return (vr)(*(const vr_memory *)at); }
static inline __attribute__((always_inline)) void store(T *at, vr v) { *(vr_memory *)at = (vr_memory)v; }

#if !MICROBP_SMALL
/* A vector made of VB / 16 pieces of 16 bytes, which are `apart` elements apart. */
static inline __attribute__((always_inline)) vr load_16s(const T *at, int64_t apart) {
#define PIECE(i) _mm_loadu_si128((const __m128i_u *)(at + (i) * apart))
#if VB == 64
    const __m512i first = _mm512_inserti32x4(_mm512_castsi128_si512(PIECE(0)), PIECE(1), 1);
    return (vr)_mm512_inserti32x4(_mm512_inserti32x4(first, PIECE(2), 2), PIECE(3), 3);
#elif VB == 32
    return (vr)_mm256_inserti128_si256(_mm256_castsi128_si256(PIECE(0)), PIECE(1), 1);
#else
    (void)apart;
    return (vr)(*(const vr_memory *)at);
#endif
#undef PIECE
}

/* INTERLEAVE(LOW, a, b) and INTERLEAVE(HIGH, a, b) take lanes of a and b in turn, from the lower and from the upper
 * half of each 16 bytes. */
#define LOW_2(i) (i), VECTOR_LANES + (i)
#define HIGH_2(i) (i) + 1, VECTOR_LANES + (i) + 1
#define LOW_4(i) LOW_2(i), LOW_2((i) + 1)
#define HIGH_4(i) LOW_2((i) + 2), LOW_2((i) + 3)
#if ITEM == 8
#define IN_16(half, i) half##_2(i)
#define STEP_16 2
#else
#define IN_16(half, i) half##_4(i)
#define STEP_16 4
#endif
#if VB == 16
#define LANES_OF(half) IN_16(half, 0)
#elif VB == 32
#define LANES_OF(half) IN_16(half, 0), IN_16(half, STEP_16)
#else
#define LANES_OF(half) IN_16(half, 0), IN_16(half, STEP_16), IN_16(half, 2 * STEP_16), IN_16(half, 3 * STEP_16)
#endif
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif
#define INTERLEAVE(half, a, b) SHUFFLE(a, b, LANES_OF(half))
#endif

/* UNROLL: the loop is unrolled completely. INDEPENDENT: each iteration reads and writes only its own elements, also in
 * place, so the loop may be vectorized. Small code is not. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#if MICROBP_SMALL
#define INDEPENDENT
#elif defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif
/* A function with the loops that take the time. Without it their place in a cache line, and up to 6 % of the time of a
 * step of 8-64-64-1, depends on what the linker puts before them (Zen 3). */
#if MICROBP_SMALL
#define HOT
#else
#define HOT __attribute__((aligned(64)))
#endif
/* An unrolled loop over i from 0 to n - 1. */
#define EACH(i, n) UNROLL for (int i = 0; i < (n); i++)

/* Whether all lanes are +0. */
static inline int is_zero(vr v) {
#if MICROBP_SMALL
    return sum_vector(v) == 0;
#else
    uint64_t bits = 0;
    EACH(l, VB / 8)
        bits |= ((vu)v)[l];
    return !bits;
#endif
}
