/* The variant of the kernels that is chosen where the processor, or the operating system, lacks a feature: one that
 * needs no feature that is missing. The features are taken away from the processor that dispatch.c sees. */
#define MICROBP_SSE2 1 /* what the library has that the test is linked to */
#define MICROBP_AVX2 1
#define MICROBP_AVX512 1
#include "api.h"

#include <string.h>

#if defined(__x86_64__)
#define FEATURES 6

static const char *const features[FEATURES] = {"avx2", "fma", "avx512f", "avx512vl", "avx512dq", "avx512bw"};
static unsigned present; /* bit i: whether the processor has features[i] */

static int supports(const char *feature) {
    for (int i = 0; i < FEATURES; i++)
        if (strcmp(feature, features[i]) == 0)
            return present >> i & 1;
    CHECK(0, "an unknown feature, %s", feature);
    return 0;
}

#define __builtin_cpu_supports supports
#define mbp_isa_name masked_name
#define mbp_isa_runs masked_runs
#define mbp_kernels_find masked_find
#include "kernels/dispatch.c"
#undef __builtin_cpu_supports
#undef mbp_isa_name
#undef mbp_isa_runs
#undef mbp_kernels_find

/* Every set of features, so also all but one. */
static void test_features(void) {
    for (present = 0; present < 1u << FEATURES; present++) {
        const char *const best = present == (1u << FEATURES) - 1 ? "avx512" : (present & 3) == 3 ? "avx2" : "sse2";
        for (int dtype = MBP_F32; dtype <= MBP_F64; dtype++) {
            const mbp_kernels *found = masked_find(NULL, (mbp_dtype)dtype);
            CHECK(strcmp(found->isa, best) == 0, "features %#x: %s, not %s", present, found->isa, best);
            CHECK(masked_find("sse2", (mbp_dtype)dtype) && !masked_find("neon", (mbp_dtype)dtype), "features %#x",
                  present);
            CHECK(!masked_find("avx512", (mbp_dtype)dtype) == (strcmp(best, "avx512") != 0), "features %#x", present);
        }
        CHECK(masked_runs(2) && !masked_runs(3) && !masked_runs(-1) && !masked_name(3), "features %#x", present);
    }
}
#else
static void test_features(void) {}
#endif

/* The best variant that runs is the default, and it can be named. */
static void test_names(void) {
    int best = 0;
    while (!mbp_isa_runs(best))
        best++;
    mbp_net *net = net_new("input 1\noutput 0\n", NULL);
    CHECK(strcmp(mbp_net_isa(net), mbp_isa_name(best)) == 0, "%s, not %s", mbp_net_isa(net), mbp_isa_name(best));
    mbp_net_free(net);
}

int main(void) {
    test_features();
    test_names();
    return report("dispatch");
}
