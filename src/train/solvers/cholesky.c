/* The Cholesky factor, row by row: rows of a panel by the rows above them in it, then all rows below the panel by one
 * product of kernels for each strip of rows. */
#include "train/solvers/cholesky.h"

#include "train/solvers/solver.h"

#include <math.h>
#include <string.h>

#if MICROBP_SOLVERS
enum { PANEL = 32, STRIP = 64, GROUP = 4, LINE = 8 /* doubles in 64 bytes */ };

/* Rows i to i + rows - 1 of A, from column i on, less (panel)^T times the panel, which is in U at row k. */
static mbp_product strip(const mbp_cholesky *c, int64_t k, int64_t i) {
    const int64_t n = c->n, rows = n - i < STRIP ? n - i : STRIP;
    return (mbp_product){.pattern = MBP_TN,
                         .m = rows,
                         .n = n - i,
                         .k = PANEL,
                         .a = {c->panel + i, n},
                         .b = {c->matrix + k * n + i, n},
                         .c = {c->matrix + i * n + i, n},
                         .add = 1,
                         .threads = 1};
}

int64_t mbp_product_numbers(const mbp_product *product) {
    size_t bytes = 0;
    for (int i = 0; mbp_isa_name(i); i++) {
        const mbp_kernels *kernels = mbp_kernels_find(mbp_isa_name(i), MBP_F64);
        const size_t needs = kernels ? kernels->product_scratch(product) : 0;
        bytes = needs > bytes ? needs : bytes;
    }
    return (int64_t)(bytes / sizeof(double)) + 2 * LINE;
}

void *mbp_product_place(double *numbers) { return (void *)(((uintptr_t)numbers + 63) & ~(uintptr_t)63); }

int64_t mbp_cholesky_numbers(int64_t n) {
    const mbp_cholesky c = {.n = n};
    const mbp_product largest = strip(&c, 0, 0);
    return 2 * n + (n > PANEL ? PANEL * n + STRIP * STRIP + mbp_product_numbers(&largest) : 0);
}

void mbp_cholesky_place(mbp_cholesky *c, int64_t n, double *matrix, double *numbers) {
    *c = (mbp_cholesky){.n = n, .matrix = matrix, .diagonal = numbers, .inverse = numbers + n};
    c->panel = c->inverse + n;
    c->corner = c->panel + PANEL * n;
    c->scratch = mbp_product_place(c->corner + STRIP * STRIP);
}

void mbp_cholesky_keep(mbp_cholesky *c) {
    for (int64_t i = 0; i < c->n; i++)
        c->diagonal[i] = c->matrix[i * c->n + i];
}

/* ---- the factor ---- */

/* y -= the sum of rows k of u (ld n) times factor[k ld]: in the order of k, four at a time. */
static void subtract_rows(int64_t rows, int64_t length, int64_t n, const double *factor, int64_t ld, const double *u,
                          double *restrict y) {
    int64_t k = 0;
    for (; k + 4 <= rows; k += 4) {
        const double *a = u + k * n, *b = a + n, *c = b + n, *d = c + n;
        const double fa = factor[k * ld], fb = factor[(k + 1) * ld], fc = factor[(k + 2) * ld],
                     fd = factor[(k + 3) * ld];
        for (int64_t j = 0; j < length; j++)
            y[j] = y[j] - fa * a[j] - fb * b[j] - fc * c[j] - fd * d[j];
    }
    for (; k < rows; k++)
        for (int64_t j = 0; j < length; j++)
            y[j] -= factor[k * ld] * u[k * n + j];
}

/* Rows first to last - 1 of U; all rows above are subtracted but those from `first` on. */
static int factor_panel(mbp_cholesky *c, int64_t first, int64_t last) {
    const int64_t n = c->n;
    for (int64_t i = first; i < last; i++) {
        double *row = c->matrix + i * n;
        const double *above = c->matrix + first * n + i;
        subtract_rows(i - first, n - i, n, above, n, above, row + i);
        if (!(row[i] > 0 && row[i] < INFINITY))
            return 0;
        row[i] = sqrt(row[i]);
        c->inverse[i] = 1 / row[i];
        for (int64_t j = i + 1; j < n; j++)
            row[j] *= c->inverse[i];
    }
    return 1;
}

/* Copies what is below the diagonal of a strip's square: the product writes the whole square. */
static void copy_below(int64_t rows, double *to, int64_t to_ld, const double *from, int64_t from_ld) {
    for (int64_t i = 1; i < rows; i++)
        memcpy(to + i * to_ld, from + i * from_ld, (size_t)i * sizeof *to);
}

static void subtract_panel(mbp_cholesky *c, int64_t first, const mbp_kernels *kernels) {
    const int64_t n = c->n, last = first + PANEL;
    for (int64_t k = 0; k < PANEL; k++)
        for (int64_t j = last; j < n; j++)
            c->panel[k * n + j] = -c->matrix[(first + k) * n + j];
    for (int64_t i = last; i < n; i += STRIP) {
        const mbp_product product = strip(c, first, i);
        double *square = product.c.at;
        copy_below(product.m, c->corner, STRIP, square, n);
        kernels->product_run(&product, 0, INT64_MAX, c->scratch);
        copy_below(product.m, square, n, c->corner, STRIP);
    }
}

/* Copies A above the diagonal, in squares, whose columns stay in the cache. */
static void mirror(mbp_cholesky *c) {
    const int64_t n = c->n;
    for (int64_t first = 0; first < n; first += PANEL)
        for (int64_t i = first; i < n; i++)
            for (int64_t j = first; j < i && j < first + PANEL; j++)
                c->matrix[j * n + i] = c->matrix[i * n + j];
}

int mbp_cholesky_factor(mbp_cholesky *c, const double *added, const mbp_kernels *kernels) {
    const int64_t n = c->n;
    mirror(c);
    for (int64_t i = 0; i < n; i++)
        c->matrix[i * n + i] = c->diagonal[i] + added[i];
    for (int64_t first = 0; first < n; first += PANEL) {
        if (!factor_panel(c, first, first + PANEL < n ? first + PANEL : n))
            return 0;
        if (first + PANEL < n)
            subtract_panel(c, first, kernels);
    }
    return 1;
}

void mbp_cholesky_solve(const mbp_cholesky *c, double *v) {
    const int64_t n = c->n;
    for (int64_t i = 0; i < n; i++) {
        v[i] *= c->inverse[i];
        mbp_add_scaled(n - i - 1, -v[i], c->matrix + i * n + i + 1, v + i + 1);
    }
    for (int64_t i = n - 1; i >= 0; i--)
        v[i] = (v[i] - mbp_dot(n - i - 1, c->matrix + i * n + i + 1, v + i + 1)) * c->inverse[i];
}

/* The sum of squares of U^-1 = W, whose rows replace those of U from the last to the first. */
double mbp_cholesky_trace(mbp_cholesky *c, double *work) {
    const int64_t n = c->n;
    double sum = 0;
    for (int64_t i = n - 1; i >= 0; i--) {
        double *row = c->matrix + i * n;
        for (int64_t k = i + 1; k < n; k++) {
            work[k] = row[k] * c->inverse[i];
            row[k] = 0;
        }
        row[i] = c->inverse[i];
        for (int64_t k = i + 1; k < n; k += GROUP) {
            const int64_t rows = n - k < GROUP ? n - k : GROUP, last = k + rows - 1;
            for (int64_t r = k; r < last; r++) /* the columns where W has not all of these rows */
                mbp_add_scaled(last - r, -work[r], c->matrix + r * n + r, row + r);
            subtract_rows(rows, n - last, n, work + k, 1, c->matrix + k * n + last, row + last);
        }
        sum += mbp_dot(n - i, row + i, row + i);
    }
    return sum;
}
#endif
