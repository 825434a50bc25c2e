/* Floor 8: a batch as a problem of least squares. Its value is the loss and the penalties. For sums of squares, J is
 * the Jacobian of the residuals sqrt(scale) (y - t), and the loss is half the sum of their squares. For other losses
 * J^T J is the generalized Gauss-Newton matrix (Schraudolph 2002): J = F Z, where Z is the Jacobian of the raw outputs,
 * and H = F^T F has the second derivatives of the loss by them. */
#ifndef MBP_LEAST_SQUARES_H
#define MBP_LEAST_SQUARES_H

#include "train/steps/iterate.h"

/* Refuses a loss without such a factor F, and inputs that have no gradient of each row. */
mbp_status mbp_squares_check(const mbp_trainer *t, const mbp_batch *batch, mbp_error *error);
/* The rows of J: one for each column of each output, for each of these rows of the net. */
int64_t mbp_squares_residuals(const mbp_trainer *t, int64_t rows);
/* How many of these have a target and a weight above 0. */
int64_t mbp_squares_targets(const mbp_batch_loss *o);
/* The kernels for products of J. */
const mbp_kernels *mbp_squares_kernels(const mbp_net *net);
/* Makes room in t->squares, for these rows of the net and what the solver needs. Refuses matrices that are too large.
 * If this is other memory than before, value and gradient are not known any more. */
mbp_status mbp_squares_open(mbp_trainer *t, int64_t rows, mbp_error *error);

/* The loss and the penalties. MBP_NONFINITE: they are not finite. */
mbp_status mbp_squares_value(const mbp_batch_loss *o, double *value, mbp_error *error);
/* After mbp_gradients with the same parameters: J (residuals, n), if by_rows is 1; else the lower triangle of J^T J
 * (n, n). The values in the workspace are lost. J may be read up to 63 bytes beyond its end. */
void mbp_squares_matrix(const mbp_batch_loss *o, int by_rows, double *matrix);
/* The second derivatives of the penalties; -1 for parameters that are not trained. */
void mbp_squares_diagonal(const mbp_batch_loss *o, double *diagonal);

/* product = J^T r, with r the residuals at other parameters, in two calls: `keep` with those, `cross` with the others.
 * Of a loss that is no sum of squares, the product is Z^T times its gradient by the raw outputs there. */
mbp_status mbp_squares_keep(const mbp_batch_loss *o, mbp_error *error);
mbp_status mbp_squares_cross(const mbp_batch_loss *o, double *product, mbp_error *error);

#endif
