/* The limits of this machine: peaks SECONDS PARAMETERS prints the GFLOP/s of fused multiply-adds in registers (float32), and the GB/s of
 * an Adam-like pass over PARAMETERS parameters (four arrays read, three written, 28 bytes each); each is the best of all tries in SECONDS.
 * Compile with -O3 -march=native -ffp-contract=fast. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
enum {
    CHAINS = 10,
    FMAS = 10000
}; /* enough independent chains for two units with a latency of 4 or 5; few enough for 16 registers */
typedef float vector __attribute__((vector_size(LANES * sizeof(float))));

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double fma_seconds(void) {
    vector chains[CHAINS], factor = (vector){0} + 0.999f, term = (vector){0} + 1e-3f;
    for (int i = 0; i < CHAINS; i++)
        chains[i] = (vector){0} + (float)i;
    const double start = now();
    for (int n = 0; n < FMAS; n++)
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++)
            chains[i] = chains[i] * factor + term;
    for (int i = 0; i < CHAINS; i++)
        __asm__ volatile("" ::"m"(chains[i])); /* keeps the compiler from removing them */
    return now() - start;
}

static void pass(float *restrict p, const float *restrict g, float *restrict m, float *restrict v, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        m[i] = 0.9f * m[i] + 0.1f * g[i];
        v[i] = 0.999f * v[i] + 0.001f * g[i];
        p[i] -= 0.001f * m[i] + 0.001f * v[i];
    }
}

int main(int count, char **arguments) {
    if (count != 3)
        return fprintf(stderr, "usage: peaks SECONDS PARAMETERS\n"), 2;
    const double budget = atof(arguments[1]);
    const int64_t n = atoll(arguments[2]);
    float *blocks[4];
    for (int i = 0; i < 4; i++) {
        blocks[i] = aligned_alloc(64, ((size_t)n * sizeof(float) + 63) / 64 * 64);
        if (!blocks[i])
            return fprintf(stderr, "no memory\n"), 1;
        for (int64_t k = 0; k < n; k++)
            blocks[i][k] = 0.5f;
    }
    double fma = 1e9, stream = 1e9, seconds;
    for (double end = now() + budget; now() < end;)
        fma = (seconds = fma_seconds()) < fma ? seconds : fma;
    for (double end = now() + budget; now() < end;) {
        const int repeats = (int)(100000 / n) + 1;
        const double start = now();
        for (int i = 0; i < repeats; i++)
            pass(blocks[0], blocks[1], blocks[2], blocks[3], n);
        stream = (seconds = (now() - start) / repeats) < stream ? seconds : stream;
    }
    printf("%.2f %.2f\n", 2.0 * LANES * CHAINS * FMAS / fma * 1e-9, 28.0 * (double)n / stream * 1e-9);
    return 0;
}
