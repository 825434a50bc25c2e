/* The Cholesky factor of each size: the matrix again, its solution, its trace, and the same bits on all instruction sets
 * with a fused multiply-add. */
#include "check.h"
#include "train/solvers/cholesky.h"
#include "train/solvers/solver.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HOLDS(condition) CHECK(condition, "%s", #condition)

#if MICROBP_SOLVERS && MICROBP_F64
static uint64_t state = 1;
static double draw(void) { /* from -1 to 1 */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)state / 9.3e18;
}

static double *numbers_of(int64_t count) {
    double *numbers = aligned_alloc(64, ((size_t)count * sizeof *numbers + 63) / 64 * 64);
    HOLDS(numbers != NULL);
    return numbers;
}

/* A = B B^T with B (n, n + 3), below the diagonal and on it; NaN above. */
static void draw_matrix(int64_t n, double *matrix) {
    double *b = numbers_of(n * (n + 3));
    for (int64_t i = 0; i < n * (n + 3); i++)
        b[i] = draw();
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            matrix[i * n + j] = j > i ? (double)NAN : mbp_dot(n + 3, b + i * (n + 3), b + j * (n + 3));
    free(b);
}

static void test_factor(int64_t n, const mbp_kernels *kernels, double *factor) {
    double *a = numbers_of(n * n), *u = numbers_of(n * n), *added = numbers_of(n), *x = numbers_of(n),
           *v = numbers_of(n);
    double *numbers = numbers_of(mbp_cholesky_numbers(n)), trace = 0;
    mbp_cholesky c;
    state = (uint64_t)n;
    draw_matrix(n, a);
    memcpy(u, a, (size_t)(n * n) * sizeof *u);
    mbp_cholesky_place(&c, n, u, numbers);
    mbp_cholesky_keep(&c);
    for (int again = 0; again < 2; again++) { /* the second time with the diagonal that was kept */
        for (int64_t i = 0; i < n; i++)
            added[i] = 0.5 + (double)(i % 3) + 10 * !again;
        HOLDS(mbp_cholesky_factor(&c, added, kernels));
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) {
            double sum = 0, size = 0;
            for (int64_t k = 0; k <= j; k++) {
                sum += u[k * n + i] * u[k * n + j];
                size += fabs(u[k * n + i] * u[k * n + j]);
            }
            HOLDS(fabs(sum - a[i * n + j] - (i == j) * added[i]) <= 1e-14 * size);
            HOLDS(i == j || u[i * n + j] == a[i * n + j]);
        }
    }
    memcpy(factor, u, (size_t)(n * n) * sizeof *u);
    for (int64_t k = 0; k < n; k++) {
        for (int64_t i = 0; i < n; i++)
            x[i] = i == k;
        mbp_cholesky_solve(&c, x);
        trace += x[k];
        for (int64_t i = 0; i < n && k < 3; i++) {
            double sum = added[i] * x[i] - (i == k), size = 1;
            for (int64_t j = 0; j < n; j++) {
                const double term = x[j] * (j > i ? a[j * n + i] : a[i * n + j]);
                sum += term;
                size += fabs(term);
            }
            HOLDS(fabs(sum) <= 1e-13 * size);
        }
    }
    HOLDS(fabs(mbp_cholesky_trace(&c, v) - trace) <= 1e-13 * trace);
    u[n * n - 1] = NAN; /* of U: a new factor is made of A */
    HOLDS(mbp_cholesky_factor(&c, added, kernels) && memcmp(u, factor, (size_t)(n * n) * sizeof *u) == 0);
    for (int bad = 0; bad < 3; bad++) {
        added[n - 1] = bad == 0 ? (double)NAN : bad == 1 ? INFINITY : -2 * a[n * n - 1];
        HOLDS(!mbp_cholesky_factor(&c, added, kernels));
    }
    double *all[] = {a, u, added, x, v, numbers};
    for (int i = 0; i < 6; i++)
        free(all[i]);
}

/* Every size, instruction set, and the same bits on all that have a fused multiply-add. */
static void test_factors(void) {
    for (int64_t n = 1; n <= 200; n += n < 70 ? 1 : 13) {
        double *first = numbers_of(n * n), *next = numbers_of(n * n);
        const char *fused = NULL;
        for (int i = 0; mbp_isa_name(i); i++) {
            if (!mbp_isa_runs(i))
                continue;
            const char *isa = mbp_isa_name(i);
            test_factor(n, mbp_kernels_find(isa, MBP_F64), next);
            if (strcmp(isa, "sse2") == 0 || strcmp(isa, "generic") == 0)
                continue;
            if (fused)
                CHECK(memcmp(first, next, (size_t)(n * n) * sizeof *first) == 0, "%s and %s, n %d", fused, isa, (int)n);
            memcpy(first, next, (size_t)(n * n) * sizeof *first);
            fused = isa;
        }
        free(first);
        free(next);
    }
}

#endif

int main(void) {
#if MICROBP_SOLVERS && MICROBP_F64
    test_factors();
#endif
    return report("Cholesky");
}
