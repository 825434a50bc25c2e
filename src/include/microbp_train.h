/* Part of microbp.h: training. */
#ifndef MICROBP_TRAIN_H
#define MICROBP_TRAIN_H

#include "microbp_net.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mbp_batch {
    size_t size;        /* sizeof(mbp_batch) */
    const mbp_array *x; /* one array per input, (rows, width) */
    int n_x;
    const mbp_array *y; /* one array per output: (rows, width), or for cross_entropy integer labels (rows, 1) */
    int n_y;
    const mbp_array *weight;          /* of each row, (rows, 1), at least 0 (0: the row is not read); NULL: all 1 */
    const mbp_array *element_weights; /* per output, (rows, 1) or (rows, width); not supported yet: NULL */
    const mbp_array *lengths;         /* the number of valid positions of each row; not supported yet: NULL */
} mbp_batch;

/* losses: one SPEC per output; NULL for an output whose gradient the caller passes to mbp_trainer_backward_from.
 * loss_weights: one factor per output (0: its targets are not read); NULL: all 1. The net must outlive the trainer.
 * A loss implies an output activation (mbp_formula_detail). If none is chosen for the output yet, this call sets it in
 * the net. If a different one is chosen, the call fails; mbp_net_set_output changes it. */
MBP_API mbp_status mbp_trainer_create(mbp_trainer **trainer, mbp_net *net, const char *const *losses,
                                      const double *loss_weights, int n_losses, const char *optimizer,
                                      mbp_error *error);
MBP_API void mbp_trainer_free(mbp_trainer *trainer);

/* One training step: forward, loss, backward, update. *loss: the sum over the outputs of
 * loss weight * sum(row weight * row loss) / sum(row weights), before the update. */
MBP_API mbp_status mbp_trainer_step(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error);

typedef struct mbp_backward {
    size_t size;          /* sizeof(mbp_backward) */
    int accumulate;       /* 1: add to the gradients; 0: replace them */
    int input_grads;      /* 1: also compute the gradients with respect to the inputs; 0 for rows of weight 0 */
    double total;         /* the divisor: the sum of the row weights of the whole logical batch; 0: of this batch */
    const double *totals; /* instead, one divisor per output; NULL: `total` for all. For now MBP_UNSUPPORTED */
    int64_t first_row;    /* how many rows of the logical batch are before this part; rows of weight 0 do not count */
} mbp_backward;

/* Computes the gradient of loss and penalties, without the update. A logical batch may be given in several parts, all
 * but the first with `accumulate`. So that the parts add up to the whole, the penalties are multiplied by this batch's
 * sum of row weights / total. If total is set, a part may have no rows. how = NULL means that all fields are 0. */
MBP_API mbp_status mbp_trainer_backward(mbp_trainer *trainer, const mbp_batch *batch, const mbp_backward *how,
                                        double *loss, mbp_error *error);
/* Updates the parameters from the gradients and adds 1 to the step count. MBP_NONFINITE if a gradient is not finite. */
MBP_API mbp_status mbp_trainer_apply(mbp_trainer *trainer, mbp_error *error);

/* The step in parts, for a custom loss of the caller; mbp_trainer_apply is the last part.
 * mbp_trainer_forward: the forward pass as in training, with x as the first rows of the logical batch.
 * mbp_trainer_output: *output becomes a view of the i-th output's raw values, valid until the next forward, backward,
 * step, evaluate or epoch of this trainer that is not refused. With several threads, read it under mbp_net_lock.
 * mbp_trainer_backward_from: the backward pass. gradients: one array per output, (rows, width), the gradient of the
 * loss (all weights included) with respect to the output's raw values. The gradient of the penalties is added unless
 * `accumulate` is set. x must still be valid, and the layers unchanged since mbp_trainer_forward. */
MBP_API mbp_status mbp_trainer_forward(mbp_trainer *trainer, const mbp_array *x, int n_x, mbp_error *error);
MBP_API mbp_status mbp_trainer_output(mbp_trainer *trainer, int i, mbp_array *output, mbp_error *error);
MBP_API mbp_status mbp_trainer_backward_from(mbp_trainer *trainer, const mbp_array *gradients, int n,
                                             const mbp_backward *how, mbp_error *error);

/* The loss of a batch of any size, as in inference (no dropout or noise, running statistics). Updates nothing. */
MBP_API mbp_status mbp_trainer_evaluate(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error);

typedef int (*mbp_poll)(void *user); /* called before each step of an epoch; a non-zero result cancels the epoch */

/* Trains on n rows of the data, one step for each `batch_rows` of them, without counting rows of weight 0; the last
 * batch may be smaller. index: the n row numbers, in the order of training; NULL: 0, 1, ..., n - 1. lr: one learning
 * rate per step; NULL: the trainer's "lr", which does not change. poll may be NULL. *loss: the weighted mean of the
 * losses of the rows, each at its own step; set on MBP_CANCELLED too if there was a step. *steps: the number of steps
 * completed, even on failure; they are not undone. All is checked before the first step, and again when it is used. */
MBP_API mbp_status mbp_trainer_epoch(mbp_trainer *trainer, const mbp_batch *data, const int64_t *index, int64_t n,
                                     int64_t batch_rows, const double *lr, mbp_poll poll, void *user, double *loss,
                                     int64_t *steps, mbp_error *error);

/* The flat gradient vector, in the net's dtype, in the order of mbp_net_params. */
MBP_API void *mbp_trainer_grads(mbp_trainer *trainer);
/* The optimizer's i-th slot (state per parameter), in the same order; NULL after the last. See mbp_formula_detail. */
MBP_API void *mbp_trainer_slot(mbp_trainer *trainer, int i);
/* The gradient with respect to the i-th input, from a backward or backward_from with input_grads. Valid as those of
 * mbp_trainer_output, and until the next backward_from. */
MBP_API mbp_status mbp_trainer_input_grad(mbp_trainer *trainer, int i, mbp_array *gradient, mbp_error *error);

/* Numbers of the trainer, by name. A value out of range is refused.
 * Parameters of the optimizer: "lr", "beta1", ...
 * Gradient clipping, off (infinity) unless set. The optimizer gets the clipped gradients; mbp_trainer_grads is not
 * clipped. Applied in this order: "clip_layer_norm" limits the Euclidean norm of each layer's gradient, weight and bias
 * together; "clip_norm" limits the norm of the whole gradient, of all layers that are not frozen (Pascanu et al. 2013);
 * "clip_value" limits the absolute value of each element.
 * "dropout": a factor in [0, 1] of the rates of all dropout nodes, from the next forward pass on; 1 unless set.
 * State: "loss" is the loss of the current gradients (with `accumulate` the parts' losses are added), "last_loss" that
 * of the last update; NaN: unknown, as after mbp_trainer_backward_from. "average_count": the states in the average. */
MBP_API mbp_status mbp_trainer_get(const mbp_trainer *trainer, const char *name, double *value, mbp_error *error);
MBP_API mbp_status mbp_trainer_set(mbp_trainer *trainer, const char *name, double value, mbp_error *error);
/* The number of updates so far, up to 9e18. To restore an earlier state of the optimizer, set it and write the slots.
 * mbp_trainer_set_steps also resets "loss" and "last_loss" to NaN, and keeps the average. */
MBP_API int64_t mbp_trainer_steps(const mbp_trainer *trainer);
MBP_API mbp_status mbp_trainer_set_steps(mbp_trainer *trainer, int64_t steps, mbp_error *error);
/* Sets the seed of dropout and noise; the default is the net's. Each number depends only on seed, step count, node, row
 * in the logical batch, and column, so it is the same for any split of a batch into parts or among threads. */
MBP_API mbp_status mbp_trainer_set_seed(mbp_trainer *trainer, uint64_t seed, mbp_error *error);
/* Keeps an average of [parameters, buffers] over the states after updates number start, start + every, ..., as counted
 * by mbp_trainer_steps. decay < 1: a running average, in which a new state has the weight 1 - decay (Polyak & Juditsky
 * 1992). decay = 1: the mean of all these states (Izmailov et al. 2018, equation 2). It starts as a copy of the first
 * such state from now on. The first call allocates memory; each further call, and a reset, starts a new average. */
MBP_API mbp_status mbp_trainer_set_average(mbp_trainer *trainer, double decay, int64_t start, int64_t every,
                                           mbp_error *error);
/* The average: parameters, then buffers; NULL: none. *count (may be NULL): its number of states; 0: not started. */
MBP_API void *mbp_trainer_average(mbp_trainer *trainer, int64_t *count);
/* Zeroes gradients and average, and resets slots, step count, "loss" and "last_loss". */
MBP_API mbp_status mbp_trainer_reset(mbp_trainer *trainer, mbp_error *error);

#ifdef __cplusplus
}
#endif

#endif
