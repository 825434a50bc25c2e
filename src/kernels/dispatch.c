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
#if defined(__x86_64__)
#define VARIANTS VARIANT(avx512, AVX512_NEEDS) VARIANT(avx2, AVX2_NEEDS) VARIANT(sse2, 1)
#else
#define VARIANTS VARIANT(neon, 1)
#endif

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
