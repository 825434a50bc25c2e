/* Prints the GFLOP/s of the three products: products ISA PATTERN(NN|NT|TN) BATCH IN OUT SECONDS. The best of as many runs as fit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *matrix(int64_t rows, int64_t cols) {
    float *m = aligned_alloc(64, ((size_t)(rows * cols) * sizeof(float) + 127) / 64 * 64);
    for (int64_t i = 0; i < rows * cols; i++)
        m[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    return m;
}

int main(int count, char **arguments) {
    const mbp_kernels *kernels = count == 7 ? mbp_kernels_find(arguments[1], MBP_F32) : NULL;
    if (!kernels)
        return fprintf(stderr, "usage: products ISA NN|NT|TN BATCH IN OUT SECONDS, with an ISA that runs here\n"), 2;
    const int64_t batch = atoll(arguments[3]), in = atoll(arguments[4]), out = atoll(arguments[5]);
    float *x = matrix(batch, in), *w = matrix(in, out), *z = matrix(batch, out);
    const mbp_product products[] = {
        {.pattern = MBP_NN, .m = batch, .n = out, .k = in, .a = {x, in}, .b = {w, out}, .c = {z, out}},
        {.pattern = MBP_NT, .m = batch, .n = in, .k = out, .a = {z, out}, .b = {w, out}, .c = {x, in}},
        {.pattern = MBP_TN, .m = in, .n = out, .k = batch, .a = {x, in}, .b = {z, out}, .c = {w, out}},
    };
    const mbp_product *p = &products[strcmp(arguments[2], "NT") == 0 ? 1 : strcmp(arguments[2], "TN") == 0 ? 2 : 0];
    void *pack = aligned_alloc(64, (kernels->pack + 63) / 64 * 64);
    const double flops = 2.0 * (double)batch * (double)in * (double)out, end = now() + atof(arguments[6]);
    const int repeats = (int)(2e6 / flops) + 1;
    double best = 1e9;
    while (now() < end) {
        const double start = now();
        for (int i = 0; i < repeats; i++)
            kernels->product_run(p, 0, kernels->product_pieces(p), pack);
        const double seconds = (now() - start) / repeats;
        best = seconds < best ? seconds : best;
    }
    printf("%.2f\n", flops / best / 1e9);
    return 0;
}
