/* Floor 8: a training step on some rows of a checked batch. */
#ifndef MBP_STEP_H
#define MBP_STEP_H

#include "passes/inputs.h"
#include "passes/positions/lengths.h"
#include "train/batch.h"

/* Chooses at most `limit` of the next rows, to train on them, and loads their targets. All that can be refused is
 * refused here; the workspace must have room for `limit` rows. may_be_none: 1: no row need be there. */
mbp_status mbp_step_load(const mbp_trainer *t, const mbp_batch *batch, mbp_batch_cursor *from, int64_t limit,
                         int may_be_none, mbp_chosen *chosen, mbp_error *error);
/* Forward, loss, backward and update with these rows. *loss: the weighted mean loss of the joint batch. */
mbp_status mbp_step_rows(mbp_trainer *t, const mbp_batch *batch, const mbp_chosen *chosen, double total, double *loss,
                         mbp_error *error);

/* Computes the gradients of rows that mbp_step_load has chosen. how->total is set. *loss: the loss, divided by it. */
mbp_status mbp_gradients(mbp_trainer *t, const mbp_batch *batch, const mbp_chosen *chosen, const mbp_backward *how,
                         double *loss, mbp_error *error);
/* The factor of the penalties: which part of the logical batch these rows are; with "penalty_per_row" divided by the
 * weight of that batch. */
double mbp_penalty_share(const mbp_trainer *t, const mbp_chosen *chosen, double total);

/* ---- several processes (reduce.c) ---- */

/* The batch that a step divides by: the chosen rows, or those of all processes together. */
typedef struct mbp_joint {
    double total; /* the sum of the row weights */
    int64_t rows;
} mbp_joint;

/* mbp_trainer_set_reduce puts these functions into the trainer, so that a program that never calls it does not contain
 * them. status: what this process has done so far. If it failed in one process, all of them fail, so that none waits
 * for another; `status` and its error remain. */
typedef struct mbp_together {
    mbp_status (*join)(mbp_trainer *t, mbp_status status, double values[2], mbp_error *error);
    mbp_status (*join_rows)(mbp_trainer *t, mbp_status status, const mbp_chosen *chosen, int may_be_none,
                            mbp_joint *joint, mbp_error *error);
    /* Adds the gradients and losses of all processes. status: of this process's gradients. A process whose loss is not
     * finite takes part too; then the sum is not finite, and all processes fail. */
    mbp_status (*join_gradients)(mbp_trainer *t, mbp_status status, double *loss, mbp_error *error);
    mbp_status (*add_gradients)(mbp_trainer *t, double *loss, mbp_error *error); /* the same without checks */
} mbp_together;

/* Replaces two numbers by their sums over all processes. Without a reduce function, it returns `status`. */
static inline mbp_status mbp_join(mbp_trainer *t, mbp_status status, double values[2], mbp_error *error) {
    return t->reduce ? t->together->join(t, status, values, error) : status;
}
/* Joins the chosen rows with those of other processes. status: of mbp_step_load. may_be_none: as in mbp_step_load, for
 * the joint batch. */
static inline mbp_status mbp_step_join(mbp_trainer *t, mbp_status status, const mbp_chosen *chosen, int may_be_none,
                                       mbp_joint *joint, mbp_error *error) {
    if (t->reduce)
        return t->together->join_rows(t, status, chosen, may_be_none, joint, error);
    if (status == MBP_OK)
        *joint = (mbp_joint){chosen->total, chosen->rows.count};
    return status;
}

/* ---- functions that parts.c uses too ---- */

/* Reads the caller's structure into *how and checks it. */
mbp_status mbp_backward_check(mbp_backward *how, const mbp_backward *given, mbp_error *error);
/* Turns sparse inputs, and brings the rows up to date that they name. */
void mbp_train_turn(mbp_trainer *t, int64_t rows);
/* Loads the inputs of the selected rows, for a forward pass and a backward pass. */
static inline void mbp_train_load(mbp_trainer *t, const mbp_array *x, const mbp_selection *rows) {
    mbp_inputs_load(t->net, t->workspace, x, rows);
    if (MICROBP_POSITIONS && mbp_has_lengths(t->workspace))
        mbp_inputs_cut(t->net, t->workspace, x, rows);
    if (MICROBP_SPARSE && t->lazy)
        mbp_train_turn(t, rows->count);
}
/* The forward pass in training. first_row: the number of its first row in the logical batch. */
void mbp_train_forward(mbp_trainer *t, int64_t rows, int64_t first_row);
/* The backward pass from the deltas of the outputs. Also computes the running statistics that the next update will set.
 * share: factor of the penalties. */
void mbp_train_backward(mbp_trainer *t, int64_t rows, int accumulate, double share);

#endif
