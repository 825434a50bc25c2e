/* Compares the three products of a dense layer with BLAS libraries, which take turns in one process:
 *
 *     products ISA f32|f64 ROUNDS BATCHxINxOUT LIBRARY:FUNCTION:32|64 ...
 *
 * FUNCTION is the library's cblas gemm, and the number is the width of its integers. For each pattern, prints the
 * median GFLOP/s of microbp and of each library, and the median over the rounds of microbp's speed / the fastest
 * library's speed. All matrices are dense, without padding. Compile it with -DMBP_DOUBLE for f64. */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/kernels.h"

#ifdef MBP_DOUBLE
typedef double T;
#else
typedef float T;
#endif

enum { LIBRARIES = 4, CONTENDERS = LIBRARIES + 1, ROUNDS = 1001, ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };

typedef void (*gemm_32)(int, int, int, int, int, int, T, const T *, int, const T *, int, T, T *, int);
typedef void (*gemm_64)(int, int, int, int64_t, int64_t, int64_t, T, const T *, int64_t, const T *, int64_t, T, T *,
                        int64_t);

typedef struct library {
    void *function;
    int wide;
} library;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static T *matrix(int64_t rows, int64_t cols) {
    T *m = aligned_alloc(64, ((size_t)(rows * cols) * sizeof(T) + 127) / 64 * 64);
    for (int64_t i = 0; i < rows * cols; i++)
        m[i] = (T)(rand() / (double)RAND_MAX - 0.5);
    return m;
}

static library open_library(char *text) {
    char *function = strchr(text, ':'), *width = function ? strchr(function + 1, ':') : NULL;
    if (!width)
        return (library){0};
    *function = *width = 0;
    void *handle = dlopen(text, RTLD_NOW | RTLD_LOCAL);
    return (library){handle ? dlsym(handle, function + 1) : NULL, strcmp(width + 1, "64") == 0};
}

static void run_library(const library *l, const mbp_product *p) {
    const int a = p->pattern == MBP_TN ? TRANSPOSED : PLAIN, b = p->pattern == MBP_NT ? TRANSPOSED : PLAIN;
    if (l->wide)
        ((gemm_64)l->function)(ROW_MAJOR, a, b, p->m, p->n, p->k, 1, p->a.at, p->a.ld, p->b.at, p->b.ld, 0, p->c.at,
                               p->c.ld);
    else
        ((gemm_32)l->function)(ROW_MAJOR, a, b, (int)p->m, (int)p->n, (int)p->k, 1, p->a.at, (int)p->a.ld, p->b.at,
                               (int)p->b.ld, 0, p->c.at, (int)p->c.ld);
}

static int by_value(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static double median(double *v, int n) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

typedef struct bench {
    const mbp_kernels *kernels;
    library libraries[LIBRARIES];
    int count, rounds;
    void *scratch;
} bench;

static double seconds(const bench *b, const mbp_product *p, int contender, int repeats) {
    const double start = now();
    for (int i = 0; i < repeats; i++)
        if (contender == 0)
            b->kernels->product_run(p, 0, b->kernels->product_pieces(p), b->scratch);
        else
            run_library(&b->libraries[contender - 1], p);
    return (now() - start) / repeats;
}

static void compare(const bench *b, const mbp_product *p, const char *shape) {
    static const char *const names[] = {[MBP_NN] = "NN", [MBP_NT] = "NT", [MBP_TN] = "TN"};
    static double gflops[CONTENDERS][ROUNDS], ratio[ROUNDS];
    const double flops = 2.0 * (double)p->m * (double)p->n * (double)p->k;
    const int repeats = (int)(0.002 / seconds(b, p, 0, 3)) + 1;
    for (int r = 0; r < b->rounds; r++) {
        double best = 0;
        for (int c = 0; c <= b->count; c++) {
            seconds(b, p, c, 1); /* fills the caches */
            gflops[c][r] = flops / seconds(b, p, c, repeats) / 1e9;
            best = c && gflops[c][r] > best ? gflops[c][r] : best;
        }
        ratio[r] = gflops[0][r] / best;
    }
    printf("%-14s %s", shape, names[p->pattern]);
    for (int c = 0; c <= b->count; c++)
        printf(" %7.1f", median(gflops[c], b->rounds));
    printf(" %6.3f\n", median(ratio, b->rounds));
}

int main(int count, char **arguments) {
    long long batch, in, out;
    bench b = {.kernels = count > 2 ? mbp_kernels_find(arguments[1], sizeof(T) == 8 ? MBP_F64 : MBP_F32) : NULL,
               .count = count - 5};
    if (!b.kernels || count < 6 || b.count > LIBRARIES ||
        sscanf(arguments[4], "%lldx%lldx%lld", &batch, &in, &out) != 3)
        return fprintf(stderr, "usage: products ISA f32|f64 ROUNDS BATCHxINxOUT LIBRARY:FUNCTION:32|64 ..., with an "
                               "ISA that runs here\n"),
               2;
    b.rounds = atoi(arguments[3]) < ROUNDS ? atoi(arguments[3]) : ROUNDS;
    for (int i = 0; i < b.count; i++) {
        b.libraries[i] = open_library(arguments[5 + i]);
        if (!b.libraries[i].function)
            return fprintf(stderr, "cannot open %s\n", arguments[5 + i]), 2;
    }
    T *x = matrix(batch, in), *w = matrix(in, out), *z = matrix(batch, out);
    const mbp_product products[] = {
        {.pattern = MBP_NN, .m = batch, .n = out, .k = in, .a = {x, in}, .b = {w, out}, .c = {matrix(batch, out), out}},
        {.pattern = MBP_NT, .m = batch, .n = in, .k = out, .a = {z, out}, .b = {w, out}, .c = {matrix(batch, in), in}},
        {.pattern = MBP_TN, .m = in, .n = out, .k = batch, .a = {x, in}, .b = {z, out}, .c = {matrix(in, out), out}},
    };
    for (int i = 0; i < 3; i++) {
        b.scratch = aligned_alloc(64, b.kernels->product_scratch(&products[i]) / 64 * 64 + 64);
        compare(&b, &products[i], arguments[4]);
        free(b.scratch);
    }
    return 0;
}
