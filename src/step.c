/* Floor 4: one training step, and its parts. A step walks through the floors like this:
 *
 *     mbp_trainer_step            takes the trainer, checks the batch (batch.c), makes room if this batch is the largest so far (plan.c)
 *       mbp_step_rows             with subnormals flushed to zero (floats.c):
 *         mbp_inputs_load         an input's value is the caller's memory where that can be read as it is, else gathered rows
 *         mbp_targets_load        the same for targets, labels and row weights
 *         mbp_forward_pass        nodes by rising number: z = x W + b, then y = activation(z), each in the node's place (passes.c)
 *         mbp_loss_pass           per output: value, and derivative by the raw outputs into their deltas
 *         mbp_backward_pass       nodes by falling number: dy to dz, dW = x^T dz, db = sum of dz, dx = dz W^T; the plan says who stores and
 *                                 who adds where a node or a layer is used several times, so nothing is zeroed
 *         mbp_update_pass         one pass of the optimizer over the flat vector, after the loss and all gradients proved finite (apply.c)
 *
 * Products, maps, gathered rows and updates that are large enough are shared with the pool's threads (threads.c). Nothing the caller can
 * see changes before the update, and the update cannot fail. */
#include "net.h"

#include <math.h>
#include <string.h>

/* ---- the loss ---- */

/* One output's loss; rows in chunks of MBP_LOSS_CHUNK, whose sums are added in order. */
static double output_loss(mbp_trainer *t, int i, int64_t rows, double total, int gradients) {
    const mbp_objective *objective = &t->objective[i];
    const int id = t->net->output[i].node;
    const mbp_workspace *w = t->workspace;
    const mbp_view o = w->value[id], target = w->target[i], g = gradients && t->plan.wanted[id] ? w->delta[id] : (mbp_view){0};
    double sum = 0;
    for (int64_t r = 0; r < rows; r += MBP_LOSS_CHUNK) {
        const size_t item = t->net->item;
        const mbp_loss_rows chunk = {
            .rows = rows - r < MBP_LOSS_CHUNK ? rows - r : MBP_LOSS_CHUNK,
            .n = t->net->node[id].width,
            .output = {(char *)o.at + r * o.ld * (int64_t)item, o.ld},
            .target = {target.at ? (char *)target.at + r * target.ld * (int64_t)item : NULL, target.ld},
            .gradient = {g.at ? (char *)g.at + r * g.ld * (int64_t)item : NULL, g.ld},
            .labels = w->labels[i] + r,
            .weight = w->weight + r,
            .scale = objective->weight / total,
            .parameters = objective->loss.parameters,
        };
        sum += t->net->kernels->loss[objective->loss.row](&chunk);
    }
    return objective->weight * (sum / total);
}

double mbp_loss_pass(mbp_trainer *trainer, int64_t rows, double total, int gradients) {
    double loss = 0;
    for (int i = 0; i < trainer->net->outputs; i++)
        loss += output_loss(trainer, i, rows, total, gradients);
    return loss;
}

/* ---- the step, and its parts ---- */

/* Plans anew when layers were changed, or input gradients or clipping by layer asked for; gradients of frozen layers are 0. */
static void refresh_plan(mbp_trainer *t, int input_grads) {
    const size_t item = t->net->item;
    const int per_tensor = t->setting[MBP_CLIP_LAYER_NORM] < INFINITY || t->net->kernels->measure[t->optimizer.row];
    if (t->plan.layers_version == t->net->layers_version && t->plan.input_grads == input_grads && t->plan.per_tensor == per_tensor)
        return;
    mbp_plan_make(t->net, &t->plan, input_grads, t->optimizer.parameters[t->decay_bias] != 0, per_tensor);
    for (int i = 0; i < t->net->layers; i++) {
        const mbp_layer *layer = &t->net->layer[i];
        if (layer->frozen)
            memset(t->grads + (size_t)layer->weight * item, 0, (size_t)(layer->in * layer->out) * item);
        if (layer->frozen && layer->bias >= 0)
            memset(t->grads + (size_t)layer->bias * item, 0, (size_t)layer->out * item);
    }
}

/* The forward pass in training; first_row: the place of its rows in the logical batch. */
static void forward(mbp_trainer *t, int64_t rows, int64_t first_row) {
    t->chance = (mbp_chance){.seed = t->seed, .step = (uint64_t)t->running.steps, .first_row = first_row};
    mbp_forward_pass(t->net, t->workspace, rows, t->net->nodes - 1, t);
}

static mbp_status check_loss(double loss, mbp_error *error) {
    return isfinite(loss) ? MBP_OK : mbp_fail(error, MBP_NONFINITE, "the loss is not finite");
}

/* One call's arguments, for the functions that run with subnormals flushed. */
typedef struct work {
    mbp_trainer *trainer;
    const mbp_batch *batch;
    const mbp_array *arrays; /* inputs of forward, gradients of backward_from */
    mbp_selection rows;
    mbp_backward how;
    double loss, total;
    mbp_mean *mean; /* where the loss is added; NULL: nowhere */
    mbp_error *error;
} work;

static mbp_status work_backward(void *argument) {
    work *w = argument;
    mbp_trainer *t = w->trainer;
    mbp_inputs_load(t->net, t->workspace, w->batch->x, w->rows);
    mbp_status status = mbp_targets_load(t, w->batch, w->rows, &w->total, w->error);
    if (status == MBP_OK)
        status = mbp_total_check(w->total, w->error);
    if (status != MBP_OK)
        return status;
    forward(t, w->rows.count, w->how.first_row);
    const double divisor = w->how.total > 0 ? w->how.total : w->total;
    w->loss = mbp_loss_pass(t, w->rows.count, divisor, 1);
    status = check_loss(w->loss, w->error);
    if (status != MBP_OK)
        return status;
    mbp_backward_pass(t, w->rows.count, w->how.accumulate, w->total / divisor);
    mbp_statistics_prepare(t, w->rows.count, w->how.accumulate);
    t->running.loss = w->how.accumulate && !isnan(t->running.loss) ? t->running.loss + w->loss : w->loss;
    return MBP_OK;
}

static mbp_status work_step(void *argument) {
    work *w = argument;
    mbp_status status = work_backward(w);
    if (status != MBP_OK)
        return status;
    if (w->trainer->nonfinite)
        return mbp_nonfinite_fail(w->trainer, w->error);
    mbp_update_pass(w->trainer);
    if (w->mean)
        mbp_mean_add(w->mean, w->loss * w->total, w->total);
    return MBP_OK;
}

mbp_status mbp_step_rows(mbp_trainer *trainer, const mbp_batch *batch, mbp_selection rows, double *loss, mbp_mean *mean, mbp_error *error) {
    work w = {.trainer = trainer, .batch = batch, .rows = rows, .mean = mean, .error = error};
    trainer->forward_rows = trainer->input_grad_rows = 0;
    refresh_plan(trainer, 0);
    mbp_status status = mbp_with_flush_to_zero(work_step, &w);
    if (status == MBP_OK)
        *loss = w.loss;
    return status;
}

static mbp_status step(mbp_trainer *t, const mbp_batch *batch, double *loss, mbp_error *error) {
    int64_t rows;
    mbp_status status = mbp_batch_check(t, batch, &rows, error);
    if (status == MBP_OK)
        status = mbp_statistics_check(t->net, rows, error);
    if (status == MBP_OK)
        status = mbp_trainer_reserve(t, rows, MBP_TARGETS | MBP_DELTAS, error);
    if (status == MBP_OK)
        status = mbp_step_rows(t, batch, (mbp_selection){NULL, 0, rows}, loss, NULL, error);
    return status;
}

static mbp_status check_arguments(const mbp_batch *batch, const double *loss, mbp_error *error) {
    return batch && loss ? MBP_OK : mbp_fail(error, MBP_INVALID, "%s is NULL", batch ? "loss" : "batch");
}

mbp_status mbp_trainer_step(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error) {
    mbp_status status = check_arguments(batch, loss, error);
    if (status == MBP_OK)
        status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, step(trainer, batch, loss, error)) : status;
}

static mbp_status backward_call(mbp_trainer *t, const mbp_batch *batch, const mbp_backward *how, double *loss, mbp_error *error) {
    work w = {.trainer = t, .batch = batch, .how = how ? *how : (mbp_backward){0}, .error = error};
    const int needs = MBP_TARGETS | MBP_DELTAS | (w.how.input_grads ? MBP_INPUT_DELTAS : 0);
    mbp_status status = mbp_batch_check(t, batch, &w.rows.count, error);
    if (status == MBP_OK)
        status = mbp_statistics_check(t->net, w.rows.count, error);
    if (status == MBP_OK && !(w.how.total >= 0 && isfinite(w.how.total)))
        status = mbp_fail(error, MBP_INVALID, "total must be the positive sum of all row weights, or 0 for this batch's own");
    if (status == MBP_OK && w.how.first_row < 0)
        status = mbp_fail(error, MBP_INVALID, "first_row is %lld; the logical batch begins with row 0", (long long)w.how.first_row);
    if (status == MBP_OK)
        status = mbp_trainer_reserve(t, w.rows.count, needs, error);
    if (status != MBP_OK)
        return status;
    t->forward_rows = t->input_grad_rows = 0;
    refresh_plan(t, w.how.input_grads != 0);
    status = mbp_with_flush_to_zero(work_backward, &w);
    if (status == MBP_OK && w.how.input_grads)
        t->input_grad_rows = w.rows.count;
    if (status == MBP_OK)
        *loss = w.loss;
    return status;
}

mbp_status mbp_trainer_backward(mbp_trainer *trainer, const mbp_batch *batch, const mbp_backward *how, double *loss, mbp_error *error) {
    mbp_status status = check_arguments(batch, loss, error);
    if (status == MBP_OK)
        status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, backward_call(trainer, batch, how, loss, error)) : status;
}

static mbp_status work_apply(void *argument) {
    work *w = argument;
    const mbp_trainer *t = w->trainer;
    for (int i = 0; i < t->plan.groups; i++)
        if (!t->net->kernels->finite(t->plan.group[i].length, t->grads + (size_t)t->plan.group[i].offset * t->net->item))
            return mbp_nonfinite_fail(t, w->error);
    mbp_update_pass(w->trainer);
    return MBP_OK;
}

mbp_status mbp_trainer_apply(mbp_trainer *trainer, mbp_error *error) {
    mbp_status status = mbp_trainer_enter(trainer, error);
    if (status != MBP_OK)
        return status;
    work w = {.trainer = trainer, .error = error};
    refresh_plan(trainer, trainer->plan.input_grads);
    return mbp_trainer_leave(trainer, mbp_with_flush_to_zero(work_apply, &w));
}

/* ---- the step in parts, for a loss of the caller's own ---- */

static mbp_status work_forward(void *argument) {
    const work *w = argument;
    mbp_inputs_load(w->trainer->net, w->trainer->workspace, w->arrays, w->rows);
    forward(w->trainer, w->rows.count, 0);
    return MBP_OK;
}

mbp_status mbp_trainer_forward(mbp_trainer *trainer, const mbp_array *x, int n_x, mbp_error *error) {
    work w = {.trainer = trainer, .arrays = x, .error = error};
    mbp_status status = mbp_trainer_enter(trainer, error);
    if (status != MBP_OK)
        return status;
    status = mbp_inputs_check(trainer->net, x, n_x, &w.rows.count, error);
    if (status == MBP_OK)
        status = mbp_statistics_check(trainer->net, w.rows.count, error);
    if (status == MBP_OK)
        status = mbp_trainer_reserve(trainer, w.rows.count, MBP_TARGETS | MBP_DELTAS | MBP_INPUT_DELTAS, error);
    if (status == MBP_OK) {
        trainer->input_grad_rows = 0;
        trainer->forward_rows = w.rows.count;
        trainer->forward_layers = trainer->net->layers_version;
        mbp_with_flush_to_zero(work_forward, &w);
    }
    return mbp_trainer_leave(trainer, status);
}

/* A view of the workspace as the caller sees arrays. */
static mbp_array array_of(const mbp_net *net, mbp_view view, int64_t rows, int64_t cols) {
    return (mbp_array){view.at, net->dtype, rows, cols, view.ld * (int64_t)net->item, (int64_t)net->item, NULL, NULL};
}

mbp_status mbp_trainer_output(mbp_trainer *trainer, int i, mbp_array *output, mbp_error *error) {
    if (!trainer || !output || !trainer->forward_rows || i < 0 || i >= trainer->net->outputs)
        return mbp_fail(error, MBP_INVALID, "there is no output %d to read: call forward first", i);
    const int id = trainer->net->output[i].node;
    *output = array_of(trainer->net, trainer->workspace->value[id], trainer->forward_rows, trainer->net->node[id].width);
    return MBP_OK;
}

static mbp_status work_backward_from(void *argument) {
    const work *w = argument;
    mbp_trainer *t = w->trainer;
    for (int i = 0; i < t->net->outputs; i++)
        if (t->plan.wanted[t->net->output[i].node])
            mbp_array_gather(&w->arrays[i], w->rows, t->net->dtype, t->workspace->delta[t->net->output[i].node]);
    mbp_backward_pass(t, w->rows.count, w->how.accumulate, w->how.accumulate ? 0 : 1);
    mbp_statistics_prepare(t, w->rows.count, w->how.accumulate);
    t->running.loss = NAN;
    return MBP_OK;
}

static mbp_status backward_from(mbp_trainer *t, const mbp_array *gradients, int n, const mbp_backward *how, mbp_error *error) {
    work w = {.trainer = t, .arrays = gradients, .how = how ? *how : (mbp_backward){0}, .rows = {NULL, 0, t->forward_rows}, .error = error};
    if (!t->forward_rows)
        return mbp_fail(error, MBP_INVALID, "there are no values to go back from: call forward first");
    if (t->forward_layers != t->net->layers_version)
        return mbp_fail(error, MBP_INVALID, "layers were frozen, released or set since forward: call forward again");
    if (n != t->net->outputs || !gradients)
        return mbp_fail(error, MBP_INVALID, "%d gradients are given for %d outputs", gradients ? n : 0, t->net->outputs);
    for (int i = 0; i < n; i++) {
        mbp_status status = mbp_array_check(&gradients[i], "gradient", i, t->forward_rows, mbp_net_output_width(t->net, i), error);
        if (status != MBP_OK)
            return status;
    }
    refresh_plan(t, w.how.input_grads != 0);
    mbp_with_flush_to_zero(work_backward_from, &w);
    t->input_grad_rows = w.how.input_grads ? t->forward_rows : 0;
    return MBP_OK;
}

mbp_status mbp_trainer_backward_from(mbp_trainer *trainer, const mbp_array *gradients, int n, const mbp_backward *how, mbp_error *error) {
    mbp_status status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, backward_from(trainer, gradients, n, how, error)) : status;
}

mbp_status mbp_trainer_input_grad(mbp_trainer *trainer, int i, mbp_array *gradient, mbp_error *error) {
    if (!trainer || !gradient || !trainer->input_grad_rows || i < 0 || i >= trainer->net->inputs)
        return mbp_fail(error, MBP_INVALID, "there is no gradient by input %d: call backward with input_grads first", i);
    const int id = trainer->net->input_nodes[i];
    if (!trainer->net->node[id].reached)
        return mbp_fail(error, MBP_INVALID, "no output depends on input %d", i);
    *gradient = array_of(trainer->net, trainer->workspace->delta[id], trainer->input_grad_rows, trainer->net->node[id].width);
    return MBP_OK;
}
