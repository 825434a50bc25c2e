/* Floor 2: which kernel tables this build has and which of them can run here. Only this file and vector.h name
 * instruction sets. */
#include "kernels/kernels.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

static int is_amd(void) {
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == 0x68747541; /* "Auth" of AuthenticAMD */
}

#if MICROBP_AVX2 || MICROBP_AVX512
/* A bit of cpuid: of its leaf 1, register ecx, or of leaf 7, registers ebx and, from 32 on, ecx; and the registers that
 * the operating system must save for it, as bits of xcr0 (Intel's manual, volume 1, 13.3): those of SSE and AVX, or
 * those of AVX-512 too. */
enum { SAVES_AVX = 0x6, SAVES_AVX512 = 0xe6, OSXSAVE = 27 };
enum { CPU_fma, CPU_avx2, CPU_avx512f, CPU_avx512dq, CPU_avx512bw, CPU_avx512vl, CPU_avx512vnni };
static const struct {
    unsigned leaf, bit, saved;
} features[] = {[CPU_fma] = {1, 12, SAVES_AVX},
                [CPU_avx2] = {7, 5, SAVES_AVX},
                [CPU_avx512f] = {7, 16, SAVES_AVX512},
                [CPU_avx512dq] = {7, 17, SAVES_AVX512},
                [CPU_avx512bw] = {7, 30, SAVES_AVX512},
                [CPU_avx512vl] = {7, 31, SAVES_AVX512},
                [CPU_avx512vnni] = {7, 32 + 11, SAVES_AVX512}};

static int asks_processor(int feature) {
    unsigned a, b, c, d, saved = 0, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> OSXSAVE & 1))
        return 0;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if ((saved & features[feature].saved) != features[feature].saved)
        return 0;
    if (features[feature].leaf == 1)
        return c >> features[feature].bit & 1;
    const unsigned bit = features[feature].bit;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && ((bit < 32 ? b : c) >> bit % 32 & 1);
}
#endif
#endif

/* What the compiler may use for a variant is what the processor must have: CMakeLists.txt makes a flag (-mavx2, ...)
 * from each HAS of a line. The compiler's runtime has a table of features; that of zig 0.17 is empty, so it does not
 * even have sse2, as every x86-64. Only then cpuid is asked, which takes microseconds in a virtual machine. */
#define IS_FILLED __builtin_cpu_supports("sse2")
#define HAS(name) (IS_FILLED ? __builtin_cpu_supports(#name) : asks_processor(CPU_##name))
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

#if MICROBP_AVX512
int mbp_has_vnni(void) { return HAS(avx512vnni) != 0; }
#endif

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
#define PREFERS_AVX2(row_bytes) ((row_bytes) <= NARROW_BYTES && (IS_FILLED ? __builtin_cpu_is("amd") : is_amd()))
#else
#define PREFERS_AVX2(row_bytes) ((void)(row_bytes), 0)
#endif

const mbp_kernels *mbp_kernels_suited(mbp_dtype dtype, int64_t widest) {
    const int64_t item = dtype == MBP_F64 ? 8 : 4;
    const mbp_kernels *narrow = PREFERS_AVX2(widest * item) ? mbp_kernels_find("avx2", dtype) : NULL;
    return narrow ? narrow : mbp_kernels_find(NULL, dtype);
}
