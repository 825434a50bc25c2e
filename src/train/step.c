/* One training step. It calls these functions:
 *
 *     mbp_trainer_step            locks the trainer and sets the floating-point state (trainer.c)
 *       mbp_batch_check           compares the caller's arrays with the net (batch.c, passes/inputs.c, passes/array.c)
 *       mbp_trainer_reserve       makes room if this batch is the largest so far (net/workspace.c)
 *       mbp_step_rows
 *         mbp_targets_load        uses targets in the caller's memory if possible, otherwise copies the rows; also
 *                                 labels and row weights. Nothing is refused after it, so from here on the
 *                                 values of an earlier forward may be overwritten
 *         mbp_inputs_load         the same for the inputs
 *         mbp_forward_pass        nodes from first to last: z = x W + b, then y = activation(z) (passes/passes.c)
 *         mbp_loss_pass           per output: the loss, and its derivative with respect to the raw outputs, which are
 *                                 the deltas that backward starts from (loss.c)
 *         mbp_backward_pass       nodes from last to first: dy to dz, dW = x^T dz, db = sum of dz, dx = dz W^T. If a
 *                                 node or layer is used several times, the plan (passes/plan.c) decides which one
 *                                 stores and which ones add, so that nothing has to be zeroed
 *         mbp_update_pass         if the loss and all gradients are finite: the optimizer, over the flat vector
 *                                 (update.c)
 *
 * Large matrix products, elementwise functions, copies of rows and updates are shared with the pool's threads
 * (system/pool.c). Parameters, buffers and slots do not change before the update, and the update cannot fail. */
#include "train/step.h"

#include <math.h>
#include <string.h>

#include "passes/inputs.h"
#include "passes/pass.h"
#include "system/sized.h"
#include "train/loss.h"
#include "train/update.h"

mbp_status mbp_backward_check(mbp_backward *how, const mbp_backward *given, mbp_error *error) {
    mbp_status status = mbp_sized_read(how, sizeof *how, given, "mbp_backward", error);
    if (status != MBP_OK)
        return status;
    if (how->totals)
        return mbp_fail(error, MBP_UNSUPPORTED, "how.totals is not supported yet: set it to NULL and use total");
    if (!(how->total >= 0 && isfinite(how->total)))
        return mbp_fail(
            error, MBP_INVALID,
            "total must be positive and finite (the sum of all row weights), or 0 (to use the sum of this batch)");
    if (how->first_row < 0)
        return mbp_fail(error, MBP_INVALID, "first_row is %lld, but must be at least 0", (long long)how->first_row);
    return MBP_OK;
}

void mbp_train_forward(mbp_trainer *t, int64_t rows, int64_t first_row) {
    t->chance = (mbp_chance){.seed = t->seed, .step = (uint64_t)t->running.steps, .first_row = first_row};
    mbp_forward_pass(&(pass){.net = t->net, .w = t->workspace, .rows = rows, .chance = &t->chance}, t->net->nodes - 1);
}

/* Computes in t->pending the running statistics that the next update will set. accumulate: starts from t->pending if a
 * backward pass has set it; otherwise from the net's. */
static void follow_statistics(mbp_trainer *t, int64_t rows, int accumulate) {
    const mbp_net *net = t->net;
    if (!net->buffers)
        return;
    if (!accumulate || !t->is_pending)
        memcpy(t->pending, mbp_net_running(net), (size_t)net->buffers * net->item);
    t->is_pending = 1;
    mbp_statistics_follow(net, t->workspace, rows, t->pending);
}

void mbp_train_backward(mbp_trainer *t, int64_t rows, int accumulate, double share) {
    t->nonfinite = 0;
    mbp_backward_pass(&(pass){.net = t->net,
                              .w = t->workspace,
                              .rows = rows,
                              .chance = &t->chance,
                              .plan = &t->plan,
                              .grads = t->grads,
                              .accumulate = accumulate,
                              .share = share,
                              .nonfinite = &t->nonfinite});
    follow_statistics(t, rows, accumulate);
}

/* Computes the gradients of the selected rows of a checked batch. *loss: the loss with the divisor of `how`; *total:
 * the sum of the row weights. */
static mbp_status gradients(mbp_trainer *t, const mbp_batch *batch, mbp_selection rows, const mbp_backward *how,
                            double *loss, double *total, mbp_error *error) {
    mbp_status status = mbp_targets_load(t, batch, rows, total, error);
    if (status == MBP_OK)
        status = mbp_total_check(*total, error);
    if (status != MBP_OK)
        return status;
    mbp_trainer_forget(t);
    mbp_trainer_plan(t, how->input_grads != 0);
    mbp_inputs_load(t->net, t->workspace, batch->x, rows);
    mbp_train_forward(t, rows.count, how->first_row);
    const double divisor = how->total > 0 ? how->total : *total;
    *loss = mbp_loss_pass(t, rows.count, divisor, 1);
    if (!isfinite(*loss))
        return mbp_loss_fail(t, rows.count, divisor, error);
    mbp_train_backward(t, rows.count, how->accumulate, *total / divisor);
    t->running.loss = how->accumulate && !isnan(t->running.loss) ? t->running.loss + *loss : *loss;
    return MBP_OK;
}

mbp_status mbp_step_rows(mbp_trainer *t, const mbp_batch *batch, mbp_selection rows, double *loss, double *total,
                         mbp_error *error) {
    mbp_status status = gradients(t, batch, rows, &(mbp_backward){0}, loss, total, error);
    if (status == MBP_OK && t->nonfinite)
        status = mbp_nonfinite_fail(t, error);
    if (status == MBP_OK)
        mbp_update_pass(t);
    return status;
}

/* Reads and checks the caller's batch, and makes room for it. */
static mbp_status open_batch(mbp_trainer *t, const mbp_batch *given, mbp_batch *batch, int64_t *rows, int needs,
                             mbp_error *error) {
    mbp_status status = mbp_batch_check(t, given, batch, rows, error);
    if (status == MBP_OK)
        status = mbp_statistics_check(t->net, *rows, error);
    return status == MBP_OK ? mbp_trainer_reserve(t, *rows, needs, error) : status;
}

static MBP_APART mbp_status step(mbp_trainer *t, const mbp_batch *given, double *loss, mbp_error *error) {
    mbp_batch batch;
    int64_t rows;
    double result = 0, total;
    mbp_status status = open_batch(t, given, &batch, &rows, MBP_TARGETS | MBP_DELTAS, error);
    if (status == MBP_OK)
        status = mbp_step_rows(t, &batch, (mbp_selection){NULL, 0, rows}, &result, &total, error);
    if (status == MBP_OK)
        *loss = result;
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
        status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, step(trainer, batch, loss, error)) : status;
}

static MBP_APART mbp_status backward(mbp_trainer *t, const mbp_batch *given, const mbp_backward *given_how,
                                     double *loss, mbp_error *error) {
    mbp_batch batch;
    mbp_backward how;
    int64_t rows;
    double result = 0, total;
    mbp_status status = mbp_backward_check(&how, given_how, error);
    const int needs = MBP_TARGETS | MBP_DELTAS | (how.input_grads ? MBP_INPUT_DELTAS : 0);
    if (status == MBP_OK)
        status = open_batch(t, given, &batch, &rows, needs, error);
    if (status == MBP_OK)
        status = gradients(t, &batch, (mbp_selection){NULL, 0, rows}, &how, &result, &total, error);
    if (status != MBP_OK)
        return status;
    t->input_grad_rows = how.input_grads ? rows : 0;
    *loss = result;
    return MBP_OK;
}

mbp_status mbp_trainer_backward(mbp_trainer *trainer, const mbp_batch *batch, const mbp_backward *how, double *loss,
                                mbp_error *error) {
    mbp_status status = check_arguments(batch, loss, error);
    if (status == MBP_OK)
        status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, backward(trainer, batch, how, loss, error)) : status;
}
