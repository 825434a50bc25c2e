/* Floor 5: a training step on some rows of a checked batch. */
#ifndef MBP_STEP_H
#define MBP_STEP_H

#include "train/batch.h"

/* Chooses at most `limit` of the next rows, to train on them, and loads their targets. All that can be refused is
 * refused here; the workspace must have room for `limit` rows. may_be_none: 1: no row need be there. */
mbp_status mbp_step_load(const mbp_trainer *t, const mbp_batch *batch, mbp_cursor *from, int64_t limit, int may_be_none,
                         mbp_chosen *chosen, mbp_error *error);
/* Forward, loss, backward and update with these rows. *loss: their weighted mean loss. */
mbp_status mbp_step_rows(mbp_trainer *t, const mbp_batch *batch, const mbp_chosen *chosen, double *loss,
                         mbp_error *error);

/* ---- functions that parts.c uses too ---- */

/* Reads the caller's structure into *how and checks it. */
mbp_status mbp_backward_check(mbp_backward *how, const mbp_backward *given, mbp_error *error);
/* The forward pass in training. first_row: the number of its first row in the logical batch. */
void mbp_train_forward(mbp_trainer *t, int64_t rows, int64_t first_row);
/* The backward pass from the deltas of the outputs. Also computes the running statistics that the next update will set.
 * share: factor of the penalties. */
void mbp_train_backward(mbp_trainer *t, int64_t rows, int accumulate, double share);

#endif
