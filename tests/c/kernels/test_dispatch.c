/* The variant of the kernels that is chosen where the processor, or the operating system, lacks a feature: one that
 * needs no feature that is missing. The features are taken away from the processor that dispatch.c sees. */
#define MICROBP_SSE2 1 /* what the library has that the test is linked to */
#define MICROBP_AVX2 1
#define MICROBP_AVX512 1
#include "api.h"

#include <string.h>

#if defined(__x86_64__)
#define FEATURES 6

static const char *const names[FEATURES] = {"avx2", "fma", "avx512f", "avx512vl", "avx512dq", "avx512bw"};
static unsigned present; /* bit i: whether the processor has names[i] */

static int supports(const char *feature) {
    if (strcmp(feature, "sse2") == 0)
        return 1;
    if (strcmp(feature, "avx512vnni") == 0)
        return (int)(present & 1);
    for (int i = 0; i < FEATURES; i++)
        if (strcmp(feature, names[i]) == 0)
            return present >> i & 1;
    CHECK(0, "an unknown feature, %s", feature);
    return 0;
}

#define __builtin_cpu_supports supports
#define mbp_isa_name masked_name
#define mbp_isa_runs masked_runs
#define mbp_kernels_find masked_find
#define mbp_has_vnni masked_has_vnni
#define mbp_kernels_suited masked_suited
#include "kernels/dispatch.c"
#undef __builtin_cpu_supports
#undef mbp_isa_name
#undef mbp_isa_runs
#undef mbp_kernels_find
#undef mbp_has_vnni
#undef mbp_kernels_suited

/* Every set of features, so also all but one. */
static void test_features(void) {
    for (present = 0; present < 1u << FEATURES; present++) {
        CHECK(masked_has_vnni() == (int)(present & 1), "features %#x", present);
        const char *const best = present == (1u << FEATURES) - 1 ? "avx512" : (present & 3) == 3 ? "avx2" : "sse2";
        for (int dtype = MBP_F32; dtype <= MBP_F64; dtype++) {
            const mbp_kernels *found = masked_find(NULL, (mbp_dtype)dtype);
            CHECK(strcmp(found->isa, best) == 0, "features %#x: %s, not %s", present, found->isa, best);
            CHECK(masked_suited((mbp_dtype)dtype, 1 << 20) == found, "features %#x", present);
            const char *const narrow = masked_suited((mbp_dtype)dtype, 1)->isa;
            CHECK(strcmp(narrow, best) == 0 || ((present & 3) == 3 && strcmp(narrow, "avx2") == 0), "features %#x: %s",
                  present, narrow);
            CHECK(masked_find("sse2", (mbp_dtype)dtype) && !masked_find("neon", (mbp_dtype)dtype), "features %#x",
                  present);
            CHECK(!masked_find("avx512", (mbp_dtype)dtype) == (strcmp(best, "avx512") != 0), "features %#x", present);
        }
        CHECK(masked_runs(2) && !masked_runs(3) && !masked_runs(-1) && !masked_name(3), "features %#x", present);
    }
}

/* cpuid says the same as the compiler's runtime. */
static void test_the_processor_is_asked(void) {
#define SAME(name) \
    CHECK(!asks_processor(CPU_##name) == !__builtin_cpu_supports(#name), "cpuid: %s is %d", #name, \
          asks_processor(CPU_##name))
    SAME(avx2);
    SAME(fma);
    SAME(avx512f);
    SAME(avx512vl);
    SAME(avx512dq);
    SAME(avx512bw);
    CHECK(!is_amd() == !__builtin_cpu_is("amd"), "cpuid: amd is %d", is_amd());
}
#else
static void test_features(void) {}
static void test_the_processor_is_asked(void) {}
#endif

/* The best variant that runs is the default of wide nets. Narrow nets have it or AVX2, in copies too. */
static void test_defaults(void) {
    int best = 0;
    while (!mbp_isa_runs(best))
        best++;
    for (int dtype = MBP_F32; dtype <= MBP_F64; dtype++) {
        mbp_net *wide = net_new("input 1\ndense 0 units=33\noutput 1\n", OPTIONS(.dtype = (mbp_dtype)dtype)), *copy;
        mbp_net *narrow = net_new("input 1\ndense 0 units=16\noutput 1\n", OPTIONS(.dtype = (mbp_dtype)dtype));
        const char *const isa = mbp_net_isa(narrow);
        CHECK(strcmp(mbp_net_isa(wide), mbp_isa_name(best)) == 0, "%s, not %s", mbp_net_isa(wide), mbp_isa_name(best));
        CHECK(strcmp(isa, mbp_isa_name(best)) == 0 || strcmp(isa, "avx2") == 0, "%s for a narrow net", isa);
        OK(mbp_net_copy(&copy, narrow, OPTIONS(.seed = 0), &error));
        CHECK(strcmp(mbp_net_isa(copy), isa) == 0, "%s in a copy, not %s", mbp_net_isa(copy), isa);
        mbp_net_free(wide);
        mbp_net_free(narrow);
        mbp_net_free(copy);
    }
}

int main(void) {
    test_features();
    test_the_processor_is_asked();
    test_defaults();
    return report("dispatch");
}
