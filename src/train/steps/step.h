/* Floor 8: a training step on some rows of a checked batch. */
#ifndef MBP_STEP_H
#define MBP_STEP_H

#include "passes/inputs.h"
#include "passes/plan/pass.h"
#include "passes/positions/lengths.h"
#include "train/batch.h"

/* Chooses at most `limit` of the next rows, to train on them, and loads their targets. All that can be refused is
 * refused here; the workspace must have room for `limit` rows. may_be_none: 1: no row need be there. */
mbp_status mbp_step_load(const mbp_trainer *t, const mbp_batch *batch, mbp_batch_cursor *from, int64_t limit,
                         int may_be_none, mbp_chosen *chosen, mbp_error *error);
/* The batch that a step divides by: the chosen rows, or those of all processes together. */
typedef struct mbp_joint {
    double total; /* the sum of the row weights */
    int64_t rows;
    int64_t first_row; /* the number of the first row of this process */
} mbp_joint;

/* Forward, loss, backward and update with these rows. joint: of mbp_step_join. *loss: the weighted mean loss of the
 * joint batch. */
mbp_status mbp_step_rows(mbp_trainer *t, const mbp_batch *batch, const mbp_chosen *chosen, const mbp_joint *joint,
                         double *loss, mbp_error *error);

/* Computes the gradients of rows that mbp_step_load has chosen. how->total is set. *loss: the loss, divided by it. */
mbp_status mbp_gradients(mbp_trainer *t, const mbp_batch *batch, const mbp_chosen *chosen, const mbp_backward *how,
                         double *loss, mbp_error *error);
/* The factor of the penalties: which part of the logical batch these rows are; with "penalty_per_row" divided by the
 * weight of that batch. */
double mbp_penalty_share(const mbp_trainer *t, const mbp_chosen *chosen, double total);

/* ---- several processes (reduce.c) ---- */

struct mbp_mean;

/* A header: two numbers that are added, then whether the process has failed. */
enum { MBP_HEADER = 3 };

/* mbp_trainer_set_reduce puts these functions into the trainer, so that a program that never calls it does not contain
 * them. status: what this process has done so far. If it failed in one process, all of them fail, so that none waits
 * for another; `status` and its error remain. */
typedef struct mbp_together {
    mbp_status (*join)(mbp_trainer *t, mbp_status status, double values[2], mbp_error *error);
    mbp_status (*join_rows)(mbp_trainer *t, mbp_status status, const mbp_chosen *chosen, int may_be_none,
                            mbp_joint *joint, mbp_error *error);
    /* The same for a part of a logical batch, without its totals. */
    mbp_status (*join_part)(mbp_trainer *t, mbp_status status, int64_t rows, double total, mbp_joint *joint,
                            mbp_error *error);
    /* The same for mbp_trainer_backward: sets how->first_row, the number of the first row of this process in the
     * logical batch, and how->total; is_part: that is known. */
    mbp_status (*join_backward)(mbp_trainer *t, mbp_status status, const mbp_chosen *chosen, int is_part,
                                mbp_backward *how, mbp_error *error);
    /* Adds the losses, then the gradients of all processes. status: of this process's gradients. */
    mbp_status (*join_gradients)(mbp_trainer *t, mbp_status status, double *loss, mbp_error *error);
    void (*ended)(mbp_peers *peers, int id); /* for the pass of a step */
    /* Of steps on the own rows (means.h). */
    void (*count_step)(mbp_trainer *t);
    mbp_status (*end_step)(mbp_trainer *t, mbp_status status, mbp_error *error);
    mbp_status (*end_epoch)(mbp_trainer *t, struct mbp_mean *mean, mbp_error *error);
    /* The largest of these numbers of all processes. */
    mbp_status (*most)(mbp_trainer *t, mbp_status status, int64_t *number, mbp_error *error);
    mbp_status (*add_gradients)(mbp_trainer *t, double sparse, mbp_error *error); /* sparse: mbp_sparse_layers of all */
    /* `all` gets the bytes of each process, in their order. */
    mbp_status (*gather)(mbp_trainer *t, const void *mine, void *all, int64_t bytes, mbp_error *error);
    /* Values in the net's dtype become their sums over all processes. */
    mbp_status (*add)(mbp_trainer *t, void *values, int64_t count, mbp_error *error);
    /* In a net with joint statistics, after the loss: if it is not finite in one process, or if there are too few rows,
     * all fail, so that none waits in the backward pass. rows 0: first the part of this process in the forward pass.
     * status: of the loss. */
    mbp_status (*join_loss)(mbp_trainer *t, int64_t rows, mbp_status status, mbp_error *error);
    /* Without rows: the part of this process in the backward pass. */
    void (*absent_backward)(mbp_trainer *t, int accumulate);
    mbp_status (*check)(mbp_trainer *t, mbp_error *error); /* whether an exchange of a pass has failed */
    /* Numbers become their sums over all processes. */
    mbp_status (*sum)(mbp_trainer *t, double *values, int64_t count, mbp_error *error);
} mbp_together;

/* Whether each step is one on the rows of all processes; else, with other processes, each step is on the own rows. */
static inline int mbp_is_joined(const mbp_trainer *t) { return mbp_ranks_of(t) && mbp_ranks_of(t)->how.every <= 1; }
static inline mbp_peers *mbp_peers_of(const mbp_trainer *t) {
    return mbp_is_joined(t) ? &mbp_ranks_of(t)->peers : NULL;
}

/* Whether batch_norm layers have the statistics of the rows of all processes, if there are any. */
int mbp_joins_statistics(const mbp_trainer *t);
/* If they have: whether an exchange of a pass has failed. */
mbp_status mbp_pass_check(mbp_trainer *t, mbp_error *error);

/* How many layers are sparse. */
static inline double mbp_sparse_layers(const mbp_trainer *t) {
    double count = 0;
    for (int i = 0; MICROBP_SPARSE && t->lazy && i < t->net->layers; i++)
        count += t->lazy->grad[i].is_on;
    return count;
}
/* What a process tells the others about a layer. */
enum { MBP_JOINT_BYTES = 16 };
/* Gradients of sparse layers become their sums over all processes, if one has any (join_rows.c). */
mbp_status mbp_join_rows(mbp_trainer *t, mbp_error *error);

/* Before other processes hear of a step: what can be refused for sparse layers. */
static inline mbp_status mbp_sparse_ask(mbp_trainer *t, mbp_status status, const mbp_array *x, int accumulate,
                                        mbp_error *error) {
    if (MICROBP_SPARSE && status == MBP_OK && mbp_is_joined(t) && mbp_may_be_sparse(t))
        return mbp_sparse_open(t, x, accumulate, error);
    return status;
}

/* Replaces two numbers by their sums over all processes. Alone, it returns `status`. */
static inline mbp_status mbp_join(mbp_trainer *t, mbp_status status, double values[2], mbp_error *error) {
    return mbp_ranks_of(t) ? t->together->join(t, status, values, error) : status;
}
/* Tells the other processes that this one has failed, unless they know it. Returns status. */
static inline mbp_status mbp_tell(mbp_trainer *t, mbp_status status) {
    if (status != MBP_OK && mbp_ranks_of(t) && !mbp_ranks_of(t)->failed_rank)
        (void)t->together->join(t, status, NULL, NULL);
    return status;
}
/* Joins the chosen rows with those of other processes, or tells them that this one has failed. status: of
 * mbp_step_load. may_be_none: as in mbp_step_load, for the joint batch. */
static inline mbp_status mbp_step_join(mbp_trainer *t, mbp_status status, const mbp_chosen *chosen, int may_be_none,
                                       mbp_joint *joint, mbp_error *error) {
    if (mbp_ranks_of(t))
        return t->together->join_rows(t, status, chosen, may_be_none, joint, error);
    if (status == MBP_OK)
        *joint = (mbp_joint){chosen->total, chosen->rows.count, 0};
    return status;
}
/* The same for a part of a logical batch, whose total is known. */
static inline mbp_status mbp_part_join(mbp_trainer *t, mbp_status status, int64_t rows, double total, mbp_joint *joint,
                                       mbp_error *error) {
    if (mbp_ranks_of(t))
        return t->together->join_part(t, status, rows, total, joint, error);
    *joint = (mbp_joint){total, rows, 0};
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
