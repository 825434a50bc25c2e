/* One training step. It calls these functions:
 *
 *     mbp_trainer_step            holds the net and sets the floating-point state (trainer.c)
 *       mbp_batch_check           compares the caller's arrays with the net (batch.c, passes/inputs.c, passes/array.c)
 *       mbp_trainer_make_room     makes room if this batch is the largest so far (net/workspace.c)
 *       mbp_step_load
 *         mbp_rows_next           chooses the rows with a weight above 0; the others are never read (batch.c)
 *         mbp_targets_load        uses targets in the caller's memory if possible, otherwise copies the rows; also
 *                                 labels. Nothing is refused after it, so from here on the values of an earlier
 *                                 forward may be overwritten
 *       mbp_step_join             with other processes: the sum of the row weights of all (reduce.c)
 *       mbp_step_rows
 *         mbp_inputs_load         the same for the inputs
 *         mbp_forward_pass        nodes from first to last: z = x W + b, then y = activation(z) (passes/passes.c)
 *         mbp_loss_pass           per output: the loss, and its derivative with respect to the raw outputs, which are
 *                                 the deltas that backward starts from (loss.c)
 *         mbp_backward_pass       nodes from last to first: dy to dz, dW = x^T dz, db = sum of dz, dx = dz W^T. If a
 *                                 node or layer is used several times, the plan (passes/plan/plan.c) decides which one
 *                                 stores and which ones add, so that nothing has to be zeroed
 *         join_gradients          with other processes: adds the gradients and losses of all
 *         mbp_update_pass         if the loss and all gradients are finite: the optimizer, over the flat vector
 *                                 (update.c)
 *
 * Large matrix products, elementwise functions, copies of rows and updates are shared with the pool's threads
 * (system/threads). Parameters, buffers and slots do not change before the update, and the update cannot fail. */
#include "train/steps/step.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "net/states/states.h"
#include "passes/inputs.h"
#include "passes/plan/pass.h"
#include "passes/sparse.h"
#include "system/sized.h"
#include "train/loss.h"
#include "train/steps/iterate.h"
#include "train/update.h"

/* 0 or a positive number that is not subnormal. Compares bits, because a comparison takes subnormal numbers for 0. */
static int is_total(double total) {
    uint64_t bits;
    memcpy(&bits, &total, sizeof bits);
    return bits << 1 == 0 || (total >= DBL_MIN && total <= DBL_MAX);
}

mbp_status mbp_backward_check(mbp_backward *how, const mbp_backward *given, mbp_error *error) {
    mbp_status status = mbp_sized_read(how, sizeof *how, given, "mbp_backward", error);
    if (status != MBP_OK)
        return status;
    if (!is_total(how->total))
        return mbp_fail(error, MBP_INVALID,
                        "total must be the sum of all row weights, finite and at least 2.3e-308, or 0 (to use the sum "
                        "of this batch)");
    if (how->first_row < 0)
        return mbp_fail(error, MBP_INVALID, "first_row is %lld, but must be at least 0", (long long)how->first_row);
    return MBP_OK;
}

/* Reads and checks the caller's batch, makes room for it, and loads its rows. *rows: how many it has, those of weight 0
 * included. */
static mbp_status read_batch(mbp_trainer *t, const mbp_batch *given, mbp_batch *batch, int needs, int may_be_none,
                             int accumulate, int64_t *rows, mbp_chosen *chosen, mbp_error *error) {
    mbp_status status = mbp_batch_check(t, given, batch, rows, error);
    if (status == MBP_OK)
        status = mbp_trainer_make_room(t, *rows, needs | mbp_batch_needs(t, batch), batch->x, error);
    mbp_batch_cursor from = {NULL, 0, *rows};
    status = status == MBP_OK ? mbp_step_load(t, batch, &from, *rows, may_be_none, chosen, error) : status;
    return mbp_sparse_ask(t, status, batch->x, accumulate, error);
}

/* The same, joined with the rows of other processes; this one may have none then. */
static mbp_status open_batch(mbp_trainer *t, const mbp_batch *given, mbp_batch *batch, int needs, int64_t *rows,
                             mbp_chosen *chosen, mbp_joint *joint, mbp_error *error) {
    const mbp_status status = read_batch(t, given, batch, needs, mbp_ranks_of(t) != NULL, 0, rows, chosen, error);
    return mbp_step_join(t, status, chosen, 0, joint, error);
}

/* ---- recurrent nodes that go on from a state ---- */

static void start_states(mbp_trainer *t, const mbp_batch *batch) {
    if (MICROBP_POSITIONS && batch->state) {
        mbp_state_begin(batch->state);
        mbp_state_load(batch->state, t->net, t->workspace, 0);
    }
}

/* Keeps the states after the call, if it succeeded. */
static void end_states(mbp_trainer *t, const mbp_batch *batch, mbp_status status) {
    if (MICROBP_POSITIONS)
        t->workspace->carry = NULL;
    if (MICROBP_POSITIONS && batch->state && status == MBP_OK)
        mbp_state_keep(batch->state);
}

/* An update, or an iteration. */
static mbp_status move(mbp_trainer *t, const mbp_batch *batch, const mbp_chosen *chosen, const mbp_joint *joint,
                       double *loss, mbp_error *error) {
    if (MICROBP_SOLVERS && t->solver)
        return mbp_iterate(t, batch, chosen, joint->total, loss, error);
    return mbp_step_rows(t, batch, chosen, joint, loss, error);
}

static MBP_APART mbp_status step(mbp_trainer *t, const mbp_batch *given, double *loss, mbp_error *error) {
    mbp_batch batch;
    mbp_chosen chosen;
    int64_t rows = 0;
    mbp_joint joint;
    double result = 0;
    mbp_status status = open_batch(t, given, &batch, MBP_TARGETS | MBP_DELTAS, &rows, &chosen, &joint, error);
    if (status == MBP_OK) {
        start_states(t, &batch);
        status = move(t, &batch, &chosen, &joint, &result, error);
        end_states(t, &batch, status);
    }
    if (mbp_ranks_of(t))
        status = t->together->end_step(t, status, error);
    if (status == MBP_OK) {
        mbp_outputs_keep(t);
        *loss = result;
    }
    return status;
}

static mbp_status check_arguments(const mbp_batch *batch, const double *loss, mbp_error *error) {
    if (batch && loss)
        return MBP_OK;
    return mbp_fail_null(error, batch ? "loss" : "batch", batch ? MBP_A_LOSS : MBP_A_BATCH);
}

mbp_status mbp_trainer_step(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error) {
    mbp_status status = check_arguments(batch, loss, error);
    if (status == MBP_OK)
        status = mbp_trainer_enter_training(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, step(trainer, batch, loss, error)) : status;
}

static mbp_status check_totals(const mbp_trainer *t, const double *totals, mbp_error *error) {
    for (int i = 0; i < t->net->outputs; i++)
        if (!is_total(totals[i]))
            return mbp_fail(error, MBP_INVALID,
                            "totals[%d] must be the sum of all weights of output %d, finite and at least 2.3e-308, or "
                            "0 (if the whole batch has no target for it)",
                            i, i);
    return MBP_OK;
}

/* Sets what the losses of a part of a logical batch are divided by. */
static mbp_status divide_part(mbp_trainer *t, const mbp_chosen *chosen, mbp_backward *how, mbp_error *error) {
    mbp_workspace *w = t->workspace;
    if (how->totals && !mbp_is_weighted(w))
        mbp_outputs_weigh(t, chosen->total);
    for (int i = 0; i < t->net->outputs && how->totals; i++)
        if (how->totals[i] == 0 && t->objective[i].total > 0 && t->objective[i].weight != 0)
            return mbp_fail(error, MBP_INVALID,
                            "totals[%d] is 0, but output %d has targets in this part: set it to the sum of all its "
                            "weights in the whole batch",
                            i, i);
    mbp_outputs_divide(t, how->total, how->totals);
    how->total = how->totals ? chosen->total : how->total;
    return MBP_OK;
}

static MBP_APART mbp_status backward(mbp_trainer *t, const mbp_batch *given, const mbp_backward *given_how,
                                     double *loss, mbp_error *error) {
    mbp_batch batch;
    mbp_backward how;
    mbp_chosen chosen;
    int64_t rows = 0;
    double result = 0;
    mbp_status status = mbp_backward_check(&how, given_how, error);
    const int needs = MBP_TARGETS | MBP_DELTAS | (how.input_grads ? MBP_INPUT_DELTAS : 0);
    if (status == MBP_OK && how.totals && !MICROBP_GAPS)
        status = mbp_fail_extra(error, "totals of outputs", "gaps");
    if (status == MBP_OK && how.totals)
        status = check_totals(t, how.totals, error);
    const int is_part = how.total > 0 || how.totals;
    if (status == MBP_OK)
        status = read_batch(t, given, &batch, needs, is_part || mbp_ranks_of(t), how.accumulate, &rows, &chosen, error);
    if (status == MBP_OK && how.input_grads)
        status = mbp_inputs_dense_check(t->net, batch.x, "input_grads needs", error);
    if (status == MBP_OK && how.first_row > INT64_MAX - chosen.rows.count)
        status = mbp_fail(error, MBP_INVALID, "first_row is %lld: with %lld row%s, row numbers would exceed 2^63 - 1",
                          (long long)how.first_row, (long long)chosen.rows.count, mbp_plural(chosen.rows.count));
    if (status == MBP_OK && is_part)
        status = divide_part(t, &chosen, &how, error);
    if (mbp_ranks_of(t))
        status = t->together->join_backward(t, status, &chosen, is_part, &how, error);
    else if (status == MBP_OK && !is_part)
        how.total = chosen.total;
    if (status == MBP_OK) {
        start_states(t, &batch);
        status = mbp_gradients(t, &batch, &chosen, &how, &result, error);
        end_states(t, &batch, status);
    }
    if (status != MBP_OK)
        return mbp_tell(t, status);
    if (how.input_grads)
        mbp_input_grads_spread(t->net, t->workspace, chosen.rows, rows);
    t->input_grad_rows = how.input_grads ? rows : 0;
    mbp_outputs_keep(t);
    *loss = result;
    return MBP_OK;
}

mbp_status mbp_trainer_backward(mbp_trainer *trainer, const mbp_batch *batch, const mbp_backward *how, double *loss,
                                mbp_error *error) {
    mbp_status status = check_arguments(batch, loss, error);
    if (status == MBP_OK)
        status = mbp_trainer_enter_training(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, backward(trainer, batch, how, loss, error)) : status;
}

#if !MICROBP_RANKS
mbp_status mbp_trainer_set_reduce(mbp_trainer *trainer, const mbp_reduce *how, mbp_error *error) {
    (void)trainer;
    return how ? mbp_fail_extra(error, "training on several processes", "ranks") : MBP_OK;
}

int64_t mbp_trainer_failed_rank(const mbp_trainer *trainer) {
    (void)trainer;
    return -1;
}
#endif
