/* Floor 3: A = U^T U for a symmetric matrix A, and what is computed with it. Its big products are the kernels'. */
#ifndef MBP_CHOLESKY_H
#define MBP_CHOLESKY_H

#include "kernels/kernels.h"

typedef struct mbp_cholesky {
    int64_t n;
    double *matrix;             /* (n, n): below the diagonal that of A, which stays; the rest is U */
    double *diagonal, *inverse; /* n each: that of A; 1 / the diagonal of U */
    double *panel, *corner;     /* of products */
    void *scratch;              /* of products; 64-byte aligned */
} mbp_cholesky;

/* How many doubles of scratch a product of float64 needs on any instruction set, with the bytes that it reads beyond an
 * end; and the scratch in them, aligned. */
int64_t mbp_product_numbers(const mbp_product *product);
void *mbp_product_place(double *numbers);

/* How many doubles mbp_cholesky_place needs, beside the matrix. */
int64_t mbp_cholesky_numbers(int64_t n);
void mbp_cholesky_place(mbp_cholesky *c, int64_t n, double *matrix, double *numbers);

/* Call it when a new A is in the matrix, on and below the diagonal: keeps its diagonal. */
void mbp_cholesky_keep(mbp_cholesky *c);
/* U of A + the diagonal matrix `added`. 0: that is not positive definite, or not finite. */
int mbp_cholesky_factor(mbp_cholesky *c, const double *added, const mbp_kernels *kernels);
/* Replaces v by the solution x of U^T U x = v. */
void mbp_cholesky_solve(const mbp_cholesky *c, double *v);
/* The trace of the inverse of U^T U. U is lost. work: n doubles. */
double mbp_cholesky_trace(mbp_cholesky *c, double *work);
#endif
