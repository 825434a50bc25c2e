/* Floor 2: which kernel tables this build has and which of them can run here. Only this file and vector.h name
 * instruction sets. MBP_HAVE_AVX2 and MBP_HAVE_AVX512 come from the build. */
#include "kernels/kernels.h"

#include <string.h>

#if defined(__x86_64__)
#define BASELINE sse2
#else
#define BASELINE neon
#endif

/* VARIANT(isa, runs), best first. runs: an expression that tests the processor and the operating system. */
#if MBP_HAVE_AVX512
#define AVX512_VARIANT VARIANT(avx512, __builtin_cpu_supports("avx512f"))
#else
#define AVX512_VARIANT
#endif
#if MBP_HAVE_AVX2
#define AVX2_VARIANT VARIANT(avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#else
#define AVX2_VARIANT
#endif
#define BASELINE_VARIANT(name) VARIANT(name, 1)
#define VARIANTS AVX512_VARIANT AVX2_VARIANT BASELINE_VARIANT(BASELINE)

#define TABLE_(isa, dtype) mbp_kernels_##isa##_##dtype
#define TABLE(isa, dtype) TABLE_(isa, dtype)

#define VARIANT(isa, runs) extern const mbp_kernels TABLE(isa, f32), TABLE(isa, f64);
VARIANTS
#undef VARIANT

static const mbp_kernels *const tables[][2] = {
#define VARIANT(isa, runs) {&TABLE(isa, f32), &TABLE(isa, f64)},
    VARIANTS
#undef VARIANT
};

enum { TABLES = sizeof tables / sizeof *tables };

const char *mbp_isa_name(int i) { return i >= 0 && i < TABLES ? tables[i][0]->isa : NULL; }

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
    for (int i = 0; i < TABLES; i++)
        if (mbp_isa_runs(i) && (!isa || strcmp(isa, tables[i][0]->isa) == 0))
            return tables[i][dtype == MBP_F64];
    return NULL;
}
