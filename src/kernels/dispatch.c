/* Floor 2: which kernel tables this build has and which of them can run here. Only this file and vector.h name
 * instruction sets. */
#include "kernels/kernels.h"

#include <string.h>

/* What the compiler may use for a variant is what the processor must have: CMakeLists.txt makes a flag (-mavx2, ...)
 * from each HAS of a line. __builtin_cpu_supports also asks the operating system (xgetbv) whether it saves the
 * registers. */
#define HAS(feature) __builtin_cpu_supports(#feature)
#define AVX2_NEEDS HAS(avx2) && HAS(fma)
#define AVX512_NEEDS HAS(avx2) && HAS(fma) && HAS(avx512f) && HAS(avx512vl) && HAS(avx512dq) && HAS(avx512bw)

/* VARIANT(isa, runs), best first. */
#define VARIANTS \
    MBP_IF(MICROBP_AVX512)(VARIANT, avx512, AVX512_NEEDS) MBP_IF(MICROBP_AVX2)(VARIANT, avx2, AVX2_NEEDS) \
        MBP_IF(MICROBP_SSE2)(VARIANT, sse2, 1) MBP_IF(MICROBP_NEON)(VARIANT, neon, 1) \
            MBP_IF(MICROBP_GENERIC)(VARIANT, generic, 1)

#if MICROBP_F32
#define TABLE_F32(isa) &mbp_kernels_##isa##_f32
#else
#define TABLE_F32(isa) NULL
#endif
#if MICROBP_F64
#define TABLE_F64(isa) &mbp_kernels_##isa##_f64
#else
#define TABLE_F64(isa) NULL
#endif

#define VARIANT(isa, runs) extern const mbp_kernels mbp_kernels_##isa##_f32, mbp_kernels_##isa##_f64;
VARIANTS
#undef VARIANT

/* NULL: this build does not have the dtype. */
static const struct {
    const char *isa;
    const mbp_kernels *table[2];
} variants[] = {
#define VARIANT(isa, runs) {#isa, {[MBP_F32] = TABLE_F32(isa), [MBP_F64] = TABLE_F64(isa)}},
    VARIANTS
#undef VARIANT
};

enum { COUNT = sizeof variants / sizeof *variants };

const char *mbp_isa_name(int i) { return i >= 0 && i < COUNT ? variants[i].isa : NULL; }

int mbp_isa_runs(int i) {
    int variant = 0;
#define VARIANT(isa, runs) \
    if (i == variant++) \
        return (runs) != 0;
    VARIANTS
#undef VARIANT
    return 0;
}

const mbp_kernels *mbp_kernels_find(const char *isa, mbp_dtype dtype) {
    for (int i = 0; i < COUNT; i++)
        if (mbp_isa_runs(i) && (!isa || strcmp(isa, variants[i].isa) == 0))
            return variants[i].table[dtype == MBP_F64];
    return NULL;
}

/* AMD's first processors with AVX-512 compute 64 bytes in two steps, and wider vectors leave more lanes empty. With
 * AVX2 a step of nets with rows of at most 128 bytes takes 0.80 to 1.04 of the time: 4-8-2 0.94, 4-32-32-2 0.93,
 * 20-20-20-3 0.80 (Zen 4, float32). */
#if defined(__x86_64__)
enum { NARROW_BYTES = 128 };
#define PREFERS_AVX2(row_bytes) ((row_bytes) <= NARROW_BYTES && __builtin_cpu_is("amd"))
#else
#define PREFERS_AVX2(row_bytes) ((void)(row_bytes), 0)
#endif

const mbp_kernels *mbp_kernels_suited(mbp_dtype dtype, int64_t widest) {
    const int64_t item = dtype == MBP_F64 ? 8 : 4;
    const mbp_kernels *narrow = PREFERS_AVX2(widest * item) ? mbp_kernels_find("avx2", dtype) : NULL;
    return narrow ? narrow : mbp_kernels_find(NULL, dtype);
}
