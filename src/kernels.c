/* Floor 1: one kernel table. This file is compiled once for each ISA (MBP_ISA and the compiler's flags) and dtype (MBP_DOUBLE or not) and
 * exports one symbol, mbp_kernels_<isa>_<dtype>; all else in it is static, so that no function compiled for one ISA can be linked
 * into another's. Only the vector block below knows instructions: it sets the width, the tile and the one fused multiply-add. */
#include "kernels.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include "optimizers.h"

/* VB: bytes of a vector. TILE_ROWS x TILE_VECTORS accumulators, with TILE_VECTORS more for b and one for a, fill the registers: 32 on
 * AVX-512 and NEON, 16 on AVX2 and SSE2. */
#if defined(__AVX512F__)
#define VB 64
#define TILE_ROWS 6
#define TILE_VECTORS 4
#elif defined(__AVX2__) && defined(__FMA__)
#define VB 32
#define TILE_ROWS 6
#define TILE_VECTORS 2
#elif defined(__ARM_NEON)
#define VB 16
#define TILE_ROWS 6
#define TILE_VECTORS 4
#else
#define VB 16
#define TILE_ROWS 4
#define TILE_VECTORS 2
#endif

#ifdef MBP_DOUBLE
#define ITEM 8
#else
#define ITEM 4
#endif
#if VB == 16 * ITEM
#define VECTOR_LANES 16
#elif VB == 8 * ITEM
#define VECTOR_LANES 8
#elif VB == 4 * ITEM
#define VECTOR_LANES 4
#else
#define VECTOR_LANES 2
#endif
enum { VL = VECTOR_LANES };
typedef T vr __attribute__((vector_size(VB)));
typedef T vr_memory __attribute__((vector_size(VB), aligned(__alignof__(T)), may_alias)); /* at any address */
#ifdef MBP_DOUBLE
typedef int64_t vi __attribute__((vector_size(VB)));
#else
typedef int32_t vi __attribute__((vector_size(VB)));
#endif

/* a x b + c, rounded once (SSE2, which has no such instruction, rounds twice). */
static inline __attribute__((always_inline)) vr fma_vector(vr a, vr b, vr c) {
#if defined(__AVX512F__) && defined(MBP_DOUBLE)
    return (vr)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__AVX512F__)
    return (vr)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__) && defined(MBP_DOUBLE)
    return (vr)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(__AVX2__) && defined(__FMA__)
    return (vr)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_NEON) && defined(MBP_DOUBLE)
    return (vr)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#elif defined(__ARM_NEON)
    return (vr)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

/* The products of the lower halves of 64-bit lanes. */
typedef uint64_t vu __attribute__((vector_size(VB)));
static inline __attribute__((always_inline)) vu multiply_low(vu a, vu b) {
#if VB == 64
    return (vu)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif VB == 32
    return (vu)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
    return (vu)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
    return (vu)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#endif
}

/* VB / 16 pieces of 16 bytes, `apart` elements from one to the next. */
static inline __attribute__((always_inline)) vr load_16s(const T *at, int64_t apart) {
#define PIECE(i) _mm_loadu_si128((const __m128i_u *)(at + (i)*apart))
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

/* The lanes of a and b taken in turn, from the lower and from the upper halves of each 16 bytes. */
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

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)") /* iterations touch only their own elements, also in place */
#else
#define UNROLL _Pragma("GCC unroll 32")
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

#include "elementwise.h"
#include "tile.h"
#include "pack.h"
#include "product.h"
#include "update.h"
#include "chance.h"
#include "norm.h"

#define JOIN_(a, b, c) a##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define STRING_(x) #x
#define STRING(x) STRING_(x)
#ifdef MBP_DOUBLE
#define DTYPE_NAME f64
#else
#define DTYPE_NAME f32
#endif

extern const mbp_kernels JOIN(mbp_kernels_, MBP_ISA, DTYPE_NAME);
const mbp_kernels JOIN(mbp_kernels_, MBP_ISA, DTYPE_NAME) = {
    .isa = STRING(MBP_ISA),
    .dtype = sizeof(T) == sizeof(float) ? MBP_F32 : MBP_F64,
    .pack = PACK_BYTES,
    .product_pieces = product_pieces,
    .product_run = product_run,
    .forward = {
#define ACTIVATION(name, ...) [ACTIVATION_##name] = forward_##name,
#include "formulas.def"
    },
    .backward = {
#define ACTIVATION(name, ...) [ACTIVATION_##name] = backward_##name,
#include "formulas.def"
    },
    .link = {
#define LINK(name, ...) [LINK_##name] = link_##name,
#define ROW_LINK(name, ...) [LINK_##name] = link_##name,
#include "formulas.def"
    },
    .loss = {
#define LOSS(name, ...) [LOSS_##name] = loss_##name,
#define ROW_LOSS(name, ...) [LOSS_##name] = loss_##name,
#include "formulas.def"
    },
    .update = {
#define OPTIMIZER(name, ...) [OPTIMIZER_##name] = update_##name,
#define TRUST_OPTIMIZER(name, ...) [OPTIMIZER_##name] = update_##name,
#include "formulas.def"
    },
    .measure = {
#define TRUST_OPTIMIZER(name, ...) [OPTIMIZER_##name] = measure_##name,
#include "formulas.def"
    },
    .copy = copy,
    .accumulate = accumulate,
    .penalise = penalise,
    .mix = mix,
    .dropout = dropout,
    .accumulate_dropout = accumulate_dropout,
#ifdef MBP_DOUBLE
    .noise = {[MBP_F32] = noise_f32, [MBP_F64] = noise_f64},
#endif
    .norm_columns = norm_columns,
    .norm_fixed = norm_fixed,
    .norm_follow = norm_follow,
    .norm_sums = norm_sums,
    .norm_rows = norm_rows,
    .norm_apply = norm_apply,
    .norm_backward = norm_backward,
    .add = add,
    .multiply = multiply,
    .accumulate_product = accumulate_product,
    .finite = all_finite,
    .sum_squares = sum_squares,
    .limit_columns = limit_columns,
};
