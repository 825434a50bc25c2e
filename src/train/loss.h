/* Floor 7: the loss of the rows in a trainer's workspace, and the mean over several batches. */
#ifndef MBP_LOSS_H
#define MBP_LOSS_H

#include "net/statements.h"
#include "arrays/array.h"
#include "train/batch.h"
#include "train/trainer.h"

/* Returns the sum over the outputs of loss weight * sum(row weight * row loss) / total. If outputs have weights of
 * their own (mbp_workspace.weighted), that of an output is divided by its divisor instead. gradients 1: also writes its
 * derivatives to the deltas of the outputs. */
double mbp_loss_pass(mbp_trainer *t, int64_t rows, double total, int gradients);

/* The losses of the outputs, for mbp_trainer_output_loss. A pass sets t->now; the first function does it for no rows.
 * mbp_outputs_keep: the call that computed them has succeeded. An epoch or an evaluation calls start, after each batch
 * add with the batch's divisor (1 if t->now are sums), and at the end keep_mean. The penalties in the loss are kept
 * along: their mean weighs a batch by the sum of the divisors. */
void mbp_outputs_clear(mbp_trainer *t);
void mbp_outputs_keep(mbp_trainer *t);
void mbp_outputs_start(mbp_trainer *t);
void mbp_outputs_add(mbp_trainer *t, double total);
/* Outputs with weights of their own: what their losses are divided by. totals NULL: `total` for all. */
void mbp_outputs_divide(mbp_trainer *t, double total, const double *totals);

/* Writes the spec of the loss of output i, which has one, with all its lists. */
void mbp_objective_write(mbp_writer *w, const mbp_trainer *t, int i);

/* Fails with MBP_NONFINITE after a pass whose loss is not finite; the error names the first output with such a loss,
 * and the row at fault. */
mbp_status mbp_loss_fail(mbp_trainer *t, mbp_selection rows, double total, mbp_error *error);

/* Gives each output the weights of the rows as its own; total: their sum. */
void mbp_outputs_weigh(mbp_trainer *t, double total);
/* The mean loss of several batches, each weighted by the sum of its row weights. */
typedef struct mbp_mean {
    int64_t rows;
    double sum, total, value;
} mbp_mean;
/* Sets the losses of the outputs to their means over these batches, and returns the mean loss. */
double mbp_outputs_keep_mean(mbp_trainer *t, const mbp_mean *mean);
/* Adds a batch. sum: the sum of row weight * row loss; total: the sum of the row weights. */
void mbp_mean_add(mbp_mean *mean, int64_t rows, double sum, double total);
/* Takes at most `slice` of the next rows that are there, loads their targets, and computes the outputs as in
 * inference. */
mbp_status mbp_slice_predict(mbp_trainer *t, const mbp_batch *batch, mbp_batch_cursor *from, int64_t slice,
                             mbp_chosen *chosen, mbp_error *error);
/* Checks the weights and targets of all rows of a checked batch, `slice` rows at a time, for which the workspace has
 * room. *mean: the number of rows of a weight above 0, and the sum of their weights. */
mbp_status mbp_slices_check(mbp_trainer *t, const mbp_batch *batch, int64_t rows, int64_t slice, mbp_mean *mean,
                            mbp_error *error);

#endif
