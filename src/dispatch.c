/* Floor 2: which kernel tables this build has, which of them run here, and the processor's floating-point state. The only C file that
 * names instruction sets. MBP_HAVE_AVX2 and MBP_HAVE_AVX512 come from the build. */
#include "kernels.h"

#include <string.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#define BASELINE sse2
#else
#define BASELINE neon
#endif

/* Best first. runs: an expression that asks the processor and the operating system. */
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
#define VARIANT(isa, runs)                                                                                                                 \
    if (i == variant++)                                                                                                                    \
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

/* ---- floating-point state: no arithmetic in these functions, since compilers move it across the writes ---- */

#if defined(__x86_64__)
typedef unsigned int fp_state;
enum { FLUSH_TO_ZERO = 0x8040 }; /* FTZ and DAZ of MXCSR */
static fp_state read_state(void) { return _mm_getcsr(); }
static void write_state(fp_state state) { _mm_setcsr(state); }
#elif defined(__aarch64__)
typedef uint64_t fp_state;
enum { FLUSH_TO_ZERO = 1 << 24 }; /* FZ of FPCR; the flags of FPSR travel in the upper half */
static fp_state read_state(void) {
    fp_state control, flags;
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(control), "=r"(flags));
    return control | flags << 32;
}
static void write_state(fp_state state) {
    __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(state & 0xffffffff), "r"(state >> 32));
}
#else
typedef int fp_state;
enum { FLUSH_TO_ZERO = 0 };
static fp_state read_state(void) { return 0; }
static void write_state(fp_state state) { (void)state; }
#endif

__attribute__((noinline)) mbp_status mbp_with_flush_to_zero(mbp_status (*work)(void *), void *argument) {
    fp_state before = read_state();
    write_state(before | FLUSH_TO_ZERO);
    mbp_status status = work(argument);
    write_state(before);
    return status;
}
