/* Floor 4: the passes of one training step. A step walks through the floors like this:
 *
 *     mbp_trainer_step            takes the trainer, checks the batch (batch.c), makes room if this batch is the largest so far (plan.c)
 *       mbp_step_rows             with subnormals flushed to zero (dispatch.c):
 *         mbp_inputs_load         an input's value is the caller's memory where that can be read as it is, else gathered rows
 *         mbp_targets_load        the same for targets, labels and row weights
 *         mbp_forward             nodes by rising number: z = x W + b, then y = activation(z), each in the node's place
 *         mbp_loss_pass           per output: value, and derivative by the raw outputs into their deltas
 *         backward                nodes by falling number: dy to dz, dW = x^T dz, db = sum of dz, dx = dz W^T; the plan says who stores and
 *                                 who adds where a node or a layer is used several times, so nothing is zeroed
 *         update                  one pass of the optimizer over the flat vector, after the loss and all gradients proved finite
 *
 * Nothing the caller can see changes before the update, and the update cannot fail. For each kind of node the forward and the backward
 * function stand together, in the letters of formulas.h. */
#include "net.h"

#include <math.h>
#include <string.h>

/* What the functions of one node need. */
typedef struct pass {
    const mbp_net *net;
    const mbp_kernels *kernels;
    mbp_workspace *w;
    mbp_trainer *trainer; /* backward only */
    int64_t rows;
    int accumulate; /* backward: add to the gradients that are there */
} pass;

static int operand(const pass *p, const mbp_node *node, int i) { return p->net->operands[node->first_operand + i]; }
static mbp_write edge(const pass *p, const mbp_node *node, int i) { return p->trainer->plan.edge[node->first_operand + i]; }
static void *element(const pass *p, void *base, int64_t i) { return (char *)base + (size_t)i * p->net->item; }

/* ---- from dy to dz ---- */

/* What the derivative of a node's activation reads: y or z. */
static mbp_view kept(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    if (!mbp_activation_keeps_z(node->activation.row))
        return p->w->value[id];
    return node->kind == MBP_DENSE ? p->w->z[id] : p->w->value[operand(p, node, 0)];
}

/* Turns the node's complete delta from dy into dz, unless its last writer did. */
static void derive(const pass *p, int id) {
    const mbp_formula *activation = &p->net->node[id].activation;
    if (activation->row != ACTIVATION_identity && p->trainer->plan.deriver[id] < 0)
        p->kernels->backward[activation->row](p->rows, p->net->node[id].width, p->w->delta[id], kept(p, id), activation->parameters);
}

/* Adds to, or stores as, the delta of the node's i-th operand. */
static void write_delta(const pass *p, const mbp_node *node, int i, mbp_view from) {
    const mbp_map write = edge(p, node, i) == MBP_STORE ? p->kernels->copy : p->kernels->accumulate;
    if (edge(p, node, i) != MBP_SKIP)
        write(p->rows, p->net->node[operand(p, node, i)].width, p->w->delta[operand(p, node, i)], from, NULL);
}

/* ---- dense: z = x W + b, y = activation(z) ---- */

static void run_product(const pass *p, const mbp_product *product) {
    p->kernels->product_run(product, 0, p->kernels->product_pieces(product), p->w->pack);
}

static void forward_dense(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_layer *layer = &p->net->layer[node->layer];
    const mbp_view y = p->w->value[id], z = p->w->z[id].at ? p->w->z[id] : y;
    const mbp_product product = {.pattern = MBP_NN, .m = p->rows, .n = layer->out, .k = layer->in,
                                 .a = p->w->value[operand(p, node, 0)],
                                 .b = {element(p, p->net->block, layer->weight), layer->out},
                                 .bias = layer->bias >= 0 ? element(p, p->net->block, layer->bias) : NULL,
                                 .c = z,
                                 .map = p->kernels->forward[node->activation.row], .map_out = y, .map_in = z,
                                 .parameters = node->activation.parameters};
    run_product(p, &product);
}

/* dW = x^T dz, db = sum of dz. */
static void backward_weights(const pass *p, const mbp_node *node, mbp_view dz, mbp_write write) {
    const mbp_layer *layer = &p->net->layer[node->layer];
    mbp_trainer *t = p->trainer;
    const mbp_product product = {.pattern = MBP_TN, .m = layer->in, .n = layer->out, .k = p->rows,
                                 .a = p->w->value[operand(p, node, 0)],
                                 .b = dz,
                                 .c = {element(p, t->grads, layer->weight), layer->out},
                                 .db = layer->bias >= 0 ? element(p, t->grads, layer->bias) : NULL,
                                 .add = p->accumulate || write == MBP_ACCUMULATE,
                                 .nonfinite = &t->nonfinite};
    run_product(p, &product);
}

/* dx = dz W^T, which the last writer takes on to the dz of the node below. */
static void backward_operand(const pass *p, int id, mbp_view dz) {
    const mbp_node *node = &p->net->node[id];
    const mbp_layer *layer = &p->net->layer[node->layer];
    const int below = operand(p, node, 0);
    mbp_product product = {.pattern = MBP_NT, .m = p->rows, .n = layer->in, .k = layer->out,
                           .a = dz,
                           .b = {element(p, p->net->block, layer->weight), layer->out},
                           .c = p->w->delta[below],
                           .add = edge(p, node, 0) == MBP_ACCUMULATE};
    const mbp_formula *activation = &p->net->node[below].activation;
    if (p->trainer->plan.deriver[below] == id && activation->row != ACTIVATION_identity) {
        product.map = p->kernels->backward[activation->row];
        product.map_out = product.c;
        product.map_in = kept(p, below);
        product.parameters = activation->parameters;
    }
    run_product(p, &product);
}

static void backward_dense(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_view dz = p->w->delta[id];
    derive(p, id);
    if (p->trainer->plan.grads[id] != MBP_SKIP)
        backward_weights(p, node, dz, p->trainer->plan.grads[id]);
    if (edge(p, node, 0) != MBP_SKIP)
        backward_operand(p, id, dz);
}

/* ---- activation: y = activation(z) ---- */

static void forward_elementwise(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    p->kernels->forward[node->activation.row](p->rows, node->width, p->w->value[id], p->w->value[operand(p, node, 0)],
                                              node->activation.parameters);
}

static void backward_elementwise(const pass *p, int id) {
    derive(p, id);
    write_delta(p, &p->net->node[id], 0, p->w->delta[id]);
}

/* ---- add: y = a + b ---- */

static void forward_add(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    p->kernels->add(p->rows, node->width, p->w->value[id], p->w->value[operand(p, node, 0)], p->w->value[operand(p, node, 1)]);
}

static void backward_add(const pass *p, int id) {
    for (int i = 0; i < 2; i++)
        write_delta(p, &p->net->node[id], i, p->w->delta[id]);
}

/* ---- multiply: y = a b, da = b dy, db = a dy ---- */

static void forward_multiply(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    p->kernels->multiply(p->rows, node->width, p->w->value[id], p->w->value[operand(p, node, 0)], p->w->value[operand(p, node, 1)]);
}

static void backward_multiply(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    for (int i = 0; i < 2; i++) {
        const mbp_binary write = edge(p, node, i) == MBP_STORE ? p->kernels->multiply : p->kernels->accumulate_product;
        if (edge(p, node, i) != MBP_SKIP)
            write(p->rows, node->width, p->w->delta[operand(p, node, i)], p->w->delta[id], p->w->value[operand(p, node, 1 - i)]);
    }
}

/* ---- concat: y = [a b ...], whose parts mostly are in place already ---- */

static mbp_view columns(const pass *p, mbp_view whole, int64_t first) { return (mbp_view){element(p, whole.at, first), whole.ld}; }

static void forward_concat(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    int64_t column = 0;
    for (int i = 0; i < node->operands; i++) {
        const mbp_view from = p->w->value[operand(p, node, i)], to = columns(p, p->w->value[id], column);
        const int64_t width = p->net->node[operand(p, node, i)].width;
        if (from.at != to.at)
            p->kernels->copy(p->rows, width, to, from, NULL);
        column += width;
    }
}

static void backward_concat(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    int64_t column = 0;
    for (int i = 0; i < node->operands; i++) {
        write_delta(p, node, i, columns(p, p->w->delta[id], column));
        column += p->net->node[operand(p, node, i)].width;
    }
}

/* ---- the passes ---- */

typedef void (*node_pass)(const pass *p, int id);

void mbp_forward(const mbp_net *net, mbp_workspace *workspace, int64_t rows, int last) {
    static const node_pass forward[] = {[MBP_DENSE] = forward_dense, [MBP_ELEMENTWISE] = forward_elementwise, [MBP_ADD] = forward_add,
                                        [MBP_MULTIPLY] = forward_multiply, [MBP_CONCAT] = forward_concat};
    const pass p = {net, net->kernels, workspace, NULL, rows, 0};
    for (int id = 0; id <= last; id++)
        if (net->node[id].reached && net->node[id].kind != MBP_INPUT)
            forward[net->node[id].kind](&p, id);
}

static void backward(mbp_trainer *trainer, int64_t rows, int accumulate) {
    static const node_pass backward_of[] = {[MBP_DENSE] = backward_dense, [MBP_ELEMENTWISE] = backward_elementwise, [MBP_ADD] = backward_add,
                                            [MBP_MULTIPLY] = backward_multiply, [MBP_CONCAT] = backward_concat};
    const mbp_net *net = trainer->net;
    const pass p = {net, net->kernels, trainer->workspace, trainer, rows, accumulate};
    trainer->nonfinite = 0;
    for (int id = net->nodes - 1; id >= 0; id--)
        if (trainer->plan.wanted[id] && net->node[id].kind != MBP_INPUT)
            backward_of[net->node[id].kind](&p, id);
}

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

/* ---- the update ---- */

/* The first layer with a gradient that is not finite. */
static mbp_status fail_nonfinite(const mbp_trainer *t, mbp_error *error) {
    const mbp_net *net = t->net;
    int index = 0;
    for (; index < net->layers - 1; index++) {
        const mbp_layer *layer = &net->layer[index];
        if (!net->kernels->finite(layer->in * layer->out, t->grads + (size_t)layer->weight * net->item) ||
            (layer->bias >= 0 && !net->kernels->finite(layer->out, t->grads + (size_t)layer->bias * net->item)))
            break;
    }
    mbp_status status = mbp_fail(error, MBP_NONFINITE, "the gradient of layer %s is not finite", net->layer[index].name);
    if (error)
        error->node = index;
    return status;
}

/* p from g over all groups; the gradients are finite. */
static void update(mbp_trainer *t) {
    const int row = t->optimizer.row;
    const size_t item = t->net->item;
    double constants[MBP_CONSTANTS_MAX] = {0};
    const double *h = t->optimizer.parameters;
    for (int i = 0; i < t->power_count; i++)
        t->powers[i] *= h[t->power_of[i]];
    mbp_optimizer_prepare(row, h, t->powers, constants);
    for (int i = 0; i < t->plan.groups; i++) {
        const mbp_group group = t->plan.group[i];
        const size_t at = (size_t)group.offset * item;
        void *slots[MBP_SLOTS_MAX] = {0};
        for (int s = 0; s < t->slot_count; s++)
            slots[s] = (char *)t->slots[s] + at;
        t->net->kernels->update[row](group.length, t->net->block + at, t->grads + at, slots, constants, group.decay ? h[t->decay] : 0);
    }
    t->steps++;
}

/* ---- the step, and its parts ---- */

/* Plans anew when layers were frozen or released, or input gradients asked for; gradients of frozen layers are 0. */
static void refresh_plan(mbp_trainer *t, int input_grads) {
    const size_t item = t->net->item;
    if (t->plan.frozen_version == t->net->frozen_version && t->plan.input_grads == input_grads)
        return;
    mbp_plan_make(t->net, &t->plan, input_grads, t->optimizer.parameters[t->decay_bias] != 0);
    for (int i = 0; i < t->net->layers; i++) {
        const mbp_layer *layer = &t->net->layer[i];
        if (layer->frozen)
            memset(t->grads + (size_t)layer->weight * item, 0, (size_t)(layer->in * layer->out) * item);
        if (layer->frozen && layer->bias >= 0)
            memset(t->grads + (size_t)layer->bias * item, 0, (size_t)layer->out * item);
    }
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
    mbp_forward(t->net, t->workspace, w->rows.count, t->net->nodes - 1);
    w->loss = mbp_loss_pass(t, w->rows.count, w->how.total > 0 ? w->how.total : w->total, 1);
    status = check_loss(w->loss, w->error);
    if (status == MBP_OK)
        backward(t, w->rows.count, w->how.accumulate);
    return status;
}

static mbp_status work_step(void *argument) {
    work *w = argument;
    mbp_status status = work_backward(w);
    if (status != MBP_OK)
        return status;
    if (w->trainer->nonfinite)
        return fail_nonfinite(w->trainer, w->error);
    update(w->trainer);
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
        status = mbp_workspace_reserve(t->net, &t->workspace, rows, MBP_TARGETS | MBP_DELTAS, error);
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
    if (status == MBP_OK && !(w.how.total >= 0 && isfinite(w.how.total)))
        status = mbp_fail(error, MBP_INVALID, "total must be the positive sum of all row weights, or 0 for this batch's own");
    if (status == MBP_OK)
        status = mbp_workspace_reserve(t->net, &t->workspace, w.rows.count, needs, error);
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
            return fail_nonfinite(t, w->error);
    update(w->trainer);
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
    mbp_forward(w->trainer->net, w->trainer->workspace, w->rows.count, w->trainer->net->nodes - 1);
    return MBP_OK;
}

mbp_status mbp_trainer_forward(mbp_trainer *trainer, const mbp_array *x, int n_x, mbp_error *error) {
    work w = {.trainer = trainer, .arrays = x, .error = error};
    mbp_status status = mbp_trainer_enter(trainer, error);
    if (status != MBP_OK)
        return status;
    status = mbp_inputs_check(trainer->net, x, n_x, &w.rows.count, error);
    if (status == MBP_OK)
        status = mbp_workspace_reserve(trainer->net, &trainer->workspace, w.rows.count, MBP_TARGETS | MBP_DELTAS | MBP_INPUT_DELTAS, error);
    if (status == MBP_OK) {
        trainer->input_grad_rows = 0;
        trainer->forward_rows = w.rows.count;
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
    backward(t, w->rows.count, w->how.accumulate);
    return MBP_OK;
}

static mbp_status backward_from(mbp_trainer *t, const mbp_array *gradients, int n, const mbp_backward *how, mbp_error *error) {
    work w = {.trainer = t, .arrays = gradients, .how = how ? *how : (mbp_backward){0}, .rows = {NULL, 0, t->forward_rows}, .error = error};
    if (!t->forward_rows)
        return mbp_fail(error, MBP_INVALID, "there are no values to go back from: call forward first");
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
