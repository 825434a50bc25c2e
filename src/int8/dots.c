#include "int8/dots.h"

#include <string.h>

#if MICROBP_AVX2 || MICROBP_AVX512
#include <immintrin.h>
#elif MICROBP_NEON && defined(__aarch64__)
#include <arm_neon.h>
#ifdef __linux__
#include <sys/auxv.h>
#endif
#endif

/* A loop of a constant length, whose variables then stay in registers. */
#ifdef __clang__
#define EVERY(i, first, n) _Pragma("clang loop unroll(full)") for (int i = (first); i < (n); i++)
#else
#define EVERY(i, first, n) _Pragma("GCC unroll 8") for (int i = (first); i < (n); i++)
#endif
#define INLINED static inline __attribute__((always_inline))

/* The weights of 16 units from number `unit` on, and how far apart their groups of four inputs are. */
INLINED const int8_t *units_at(const mbp_dots_job *p, int64_t unit, int64_t *step) {
    const int64_t panel = unit / MBP_DOT_PANEL * MBP_DOT_PANEL, bytes = p->fours * MBP_DOT_INPUTS;
    const int is_wide = p->n - panel >= MBP_DOT_PANEL;
    *step = (is_wide ? MBP_DOT_PANEL : MBP_DOT_UNITS) * MBP_DOT_INPUTS;
    return p->weight + panel * bytes + (unit - panel) * (is_wide ? MBP_DOT_INPUTS : bytes);
}

/* Adding and subtracting 1.5 x 2^23 rounds a float of at most 2^22 to a whole number, half to even. */
#define ROUND(name, attributes) \
    attributes static void name(int64_t n, uint8_t *restrict q, const float *restrict x, float factor, int zero) { \
        const float low = (float)-zero, high = (float)(255 - zero), to_whole = 12582912.0f; \
        for (int64_t j = 0; j < n; j++) { \
            float t = x[j] * factor; \
            t = t > low ? t : low; \
            t = t < high ? t : high; \
            q[j] = (uint8_t)((int)((t + to_whole) - to_whole) + zero); \
        } \
    }
ROUND(round_plain, )

static void product_plain(const mbp_dots_job *p) {
    for (int64_t unit = 0; unit < p->n; unit += MBP_DOT_UNITS) {
        int64_t step;
        const int8_t *first = units_at(p, unit, &step);
        for (int64_t r = 0; r < p->m; r++) {
            const uint8_t *x = p->x + r * p->ld;
            const int8_t *w = first;
            int32_t sum[MBP_DOT_UNITS];
            memcpy(sum, p->start + unit, sizeof sum);
            for (int64_t k = 0; k < p->fours; k++, w += step, x += MBP_DOT_INPUTS)
                for (int u = 0; u < MBP_DOT_UNITS; u++)
                    sum[u] += x[0] * w[4 * u] + x[1] * w[4 * u + 1] + x[2] * w[4 * u + 2] + x[3] * w[4 * u + 3];
            for (int u = 0; u < MBP_DOT_UNITS; u++)
                p->z[r * p->n + unit + u] = (float)sum[u] * p->scale[unit + u];
        }
    }
}

#if MICROBP_AVX2 || MICROBP_AVX512
#define FOR_AVX2 __attribute__((target("avx2,fma")))
FOR_AVX2 INLINED __m256i four_wide(const uint8_t *x) { /* four bytes as 16-bit numbers, four times */
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
}

/* 16 units of some rows. Weights become 16-bit numbers: products of bytes would saturate. A vector has two sums of each
 * of 4 units. */
FOR_AVX2 INLINED void tile_avx2(const mbp_dots_job *p, int64_t unit, int64_t row, const int rows) {
    __m256i sum[3][4];
    int64_t step;
    const int8_t *w = units_at(p, unit, &step);
    const uint8_t *x = p->x + row * p->ld;
    EVERY(r, 0, rows)
    EVERY(v, 0, 4)
    sum[r][v] = _mm256_setzero_si256();
    for (int64_t k = 0; k < p->fours; k++, w += step, x += MBP_DOT_INPUTS)
        EVERY(v, 0, 4) {
            const __m256i weight = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(w + 16 * v)));
            EVERY(r, 0, rows)
            sum[r][v] = _mm256_add_epi32(sum[r][v], _mm256_madd_epi16(four_wide(x + r * p->ld), weight));
        }
    EVERY(r, 0, rows)
    EVERY(half, 0, 2) {
        const int v = 2 * half;
        float *z = p->z + (row + r) * p->n + unit + 4 * v;
        const __m256i pairs = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sum[r][v], sum[r][v + 1]), 0xd8);
        const __m256i start = _mm256_loadu_si256((const __m256i *)(const void *)(p->start + unit + 4 * v));
        _mm256_storeu_ps(z, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(pairs, start)),
                                          _mm256_loadu_ps(p->scale + unit + 4 * v)));
    }
}

FOR_AVX2 static void product_avx2(const mbp_dots_job *p) {
    for (int64_t unit = 0; unit < p->n; unit += MBP_DOT_UNITS) {
        int64_t row = 0;
        for (; row + 3 <= p->m; row += 3)
            tile_avx2(p, unit, row, 3);
        for (; row < p->m; row++)
            tile_avx2(p, unit, row, 1);
    }
}
ROUND(round_avx2, FOR_AVX2)
#endif

#if MICROBP_AVX512
#define FOR_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
typedef int32_t sums_vnni __attribute__((vector_size(64))); /* in an array, __m512i would not stay in registers */

/* Four inputs times the weights of 16 units. */
FOR_VNNI INLINED sums_vnni add_vnni(sums_vnni sum, const uint8_t *x, const int8_t *w) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    return (sums_vnni)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32(four), _mm512_loadu_si512(w));
}

/* 16 x `vectors` units of some rows or, if is_split, of one row: then as many parts of its inputs have sums of their
 * own, which need not wait for each other. */
FOR_VNNI INLINED void tile_vnni(const mbp_dots_job *p, int64_t unit, int64_t row, const int rows, const int vectors,
                                const int is_split) {
    sums_vnni sum[6][4];
    int64_t step, k = p->fours;
    const int8_t *w = units_at(p, unit, &step);
    const uint8_t *x = p->x + row * p->ld;
    const int64_t x_next = is_split ? MBP_DOT_INPUTS : p->ld, together = is_split ? rows : 1;
    EVERY(r, 0, rows)
    EVERY(v, 0, vectors)
    sum[r][v] = r && is_split ? (sums_vnni){0} : (sums_vnni)_mm512_loadu_si512(p->start + unit + 16 * v);
    for (; k >= together; k -= together, w += together * step, x += together * MBP_DOT_INPUTS)
        EVERY(r, 0, rows)
    EVERY(v, 0, vectors)
    sum[r][v] = add_vnni(sum[r][v], x + r * x_next, w + (is_split ? r * step : 0) + 64 * v);
    for (; is_split && k; k--, w += step, x += MBP_DOT_INPUTS)
        EVERY(v, 0, vectors)
    sum[0][v] = add_vnni(sum[0][v], x, w + 64 * v);
    if (is_split)
        EVERY(r, 1, rows)
    EVERY(v, 0, vectors)
    sum[0][v] += sum[r][v];
    EVERY(r, 0, rows)
    EVERY(v, 0, vectors)
    if (r == 0 || !is_split)
        _mm512_storeu_ps(
            p->z + (row + r) * p->n + unit + 16 * v,
            _mm512_mul_ps(_mm512_cvtepi32_ps((__m512i)sum[r][v]), _mm512_loadu_ps(p->scale + unit + 16 * v)));
}

FOR_VNNI static void product_vnni(const mbp_dots_job *p) {
    for (int64_t unit = 0; unit < p->n;) {
        const int is_wide = p->n - unit >= MBP_DOT_PANEL;
        int64_t row = 0;
        for (; row + 6 <= p->m; row += 6)
            if (is_wide)
                tile_vnni(p, unit, row, 6, 4, 0);
            else
                tile_vnni(p, unit, row, 6, 1, 0);
        for (; row < p->m; row++)
            if (is_wide)
                tile_vnni(p, unit, row, 2, 4, 1);
            else
                tile_vnni(p, unit, row, 4, 1, 1);
        unit += is_wide ? MBP_DOT_PANEL : MBP_DOT_UNITS;
    }
}
#endif

#if MICROBP_NEON && defined(__aarch64__)
#define FOR_NEON __attribute__((target("arch=armv8.2-a+dotprod")))
/* The dot product of signed bytes: 128 is subtracted from x. */
FOR_NEON INLINED void tile_neon(const mbp_dots_job *p, int64_t unit, int64_t row, const int rows) {
    int32x4_t sum[4][4];
    int64_t step;
    const int8_t *w = units_at(p, unit, &step);
    const uint8_t *x = p->x + row * p->ld;
    EVERY(r, 0, rows)
    EVERY(v, 0, 4)
    sum[r][v] = vld1q_s32(p->start + unit + 4 * v);
    for (int64_t k = 0; k < p->fours; k++, w += step, x += MBP_DOT_INPUTS) {
        int8x16_t four[4];
        EVERY(r, 0, rows) {
            uint32_t bytes;
            memcpy(&bytes, x + r * p->ld, sizeof bytes);
            four[r] = vreinterpretq_s8_u32(vdupq_n_u32(bytes ^ 0x80808080u));
        }
        EVERY(v, 0, 4) {
            const int8x16_t weight = vld1q_s8(w + 16 * v);
            EVERY(r, 0, rows)
            sum[r][v] = vdotq_s32(sum[r][v], four[r], weight);
        }
    }
    EVERY(r, 0, rows)
    EVERY(v, 0, 4)
    vst1q_f32(p->z + (row + r) * p->n + unit + 4 * v,
              vmulq_f32(vcvtq_f32_s32(sum[r][v]), vld1q_f32(p->scale + unit + 4 * v)));
}

FOR_NEON static void product_neon(const mbp_dots_job *p) {
    for (int64_t unit = 0; unit < p->n; unit += MBP_DOT_UNITS) {
        int64_t row = 0;
        for (; row + 4 <= p->m; row += 4)
            tile_neon(p, unit, row, 4);
        for (; row < p->m; row++)
            tile_neon(p, unit, row, 1);
    }
}

/* Whether the processor has the dot products of ARMv8.2. */
static int has_dots(void) {
#if defined(__ARM_FEATURE_DOTPROD) || defined(__APPLE__)
    return 1;
#elif defined(__linux__)
    return (int)(getauxval(AT_HWCAP) >> 20 & 1); /* HWCAP_ASIMDDP */
#else
    return 0;
#endif
}
#endif

const mbp_dots *mbp_dots_find(const mbp_kernels *kernels) {
    static const mbp_dots plain = {product_plain, round_plain, 0};
#if MICROBP_AVX512
    static const mbp_dots vnni = {product_vnni, round_avx2, 0};
    if (strcmp(kernels->isa, "avx512") == 0 && mbp_has_vnni())
        return &vnni;
#endif
#if MICROBP_AVX2 || MICROBP_AVX512
    static const mbp_dots avx2 = {product_avx2, round_avx2, 0};
    if (strncmp(kernels->isa, "avx", 3) == 0)
        return &avx2;
#endif
#if MICROBP_NEON && defined(__aarch64__)
    static const mbp_dots neon = {product_neon, round_plain, 1};
    if (strcmp(kernels->isa, "neon") == 0 && has_dots())
        return &neon;
#endif
    (void)kernels;
    return &plain;
}
