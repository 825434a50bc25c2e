/* The step in parts, for a custom loss of the caller: forward; reading the outputs; backward from the gradients with
 * respect to the outputs. The update is mbp_trainer_apply. */
#include "train/steps/step.h"

#include <math.h>

#include "passes/inputs.h"
#include "passes/plan/pass.h"
#include "passes/positions/lengths.h"
#include "system/text.h"
#include "train/update.h"

static MBP_APART mbp_status forward(mbp_trainer *t, const mbp_array *x, int n_x, mbp_error *error) {
    int64_t rows = 0;
    mbp_joint joint;
    mbp_status status = mbp_inputs_check(t->net, x, n_x, NULL, &rows, error);
    if (status == MBP_OK && rows == 0)
        status = mbp_total_check(0, 0, 0, error);
    if (status == MBP_OK && !mbp_is_joined(t))
        status = mbp_statistics_check(t->net, NULL, rows, error);
    if (status == MBP_OK)
        status = mbp_trainer_make_room(t, rows, MBP_TARGETS | MBP_DELTAS | MBP_INPUT_DELTAS, x, error);
    if (MICROBP_SPARSE && status == MBP_OK && mbp_may_be_sparse(t))
        status = mbp_sparse_open(t, x, 0, error);
    status = mbp_part_join(t, status, rows, (double)rows, &joint, error);
    if (status != MBP_OK)
        return status;
    mbp_trainer_forget(t);
    mbp_lengths_load(t->net, t->workspace, NULL, NULL);
    mbp_train_load(t, x, &(mbp_selection){NULL, 0, rows});
    mbp_train_forward(t, rows, joint.first_row);
    status = mbp_pass_check(t, error);
    if (status != MBP_OK)
        return status;
    t->forward_rows = rows;
    t->forward_joint = joint.rows;
    t->forward_layers = t->net->layers_version;
    t->forward_changes = t->net->shared->changes;
    return MBP_OK;
}

mbp_status mbp_trainer_forward(mbp_trainer *trainer, const mbp_array *x, int n_x, mbp_error *error) {
    mbp_status status = mbp_trainer_enter_training(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, forward(trainer, x, n_x, error)) : status;
}

/* A view of a node's rows in the workspace as an array for the caller. */
static mbp_array array_of(const mbp_net *net, mbp_view view, int64_t rows, int id) {
    const mbp_node *node = &net->node[id];
    mbp_array array = mbp_contiguous(view.at, net->dtype, (int64_t)net->item, rows, mbp_row_width(node));
    array.row_stride = mbp_positions(node) * view.ld * (int64_t)net->item;
    return array;
}

/* Copies the caller's gradient of an output to its delta, position by position. */
static void load_gradient(const mbp_trainer *t, const mbp_array *gradient, int i, mbp_selection rows) {
    const int id = t->net->output[i].node;
    const int64_t positions = mbp_trainer_positions(t, i);
    const mbp_view delta = t->workspace->delta[id];
    mbp_array part = *gradient;
    part.cols = t->net->node[id].width;
    for (int64_t k = 0; k < positions; k++) {
        const mbp_view to = {(char *)delta.at + (size_t)(k * delta.ld) * t->net->item, positions * delta.ld};
        part.data = (const char *)gradient->data + k * part.cols * gradient->col_stride;
        mbp_array_gather(&part, rows, t->net->dtype, to);
    }
}

static mbp_status get_output(const mbp_trainer *t, int i, mbp_array *output, mbp_error *error) {
    if (i < 0 || i >= t->net->outputs)
        return mbp_fail_index(error, "output", i, t->net->outputs);
    if (!t->forward_rows)
        return mbp_fail(error, MBP_INVALID, "output %d has no values: call forward first", i);
    const int id = t->net->output[i].node;
    *output = array_of(t->net, t->workspace->value[id], t->forward_rows, id);
    return MBP_OK;
}

static mbp_status check_arguments(const mbp_trainer *trainer, const mbp_array *array, const char *name,
                                  mbp_error *error) {
    if (trainer && array)
        return MBP_OK;
    return mbp_fail_null(error, trainer ? name : "trainer",
                         trainer ? "an mbp_array, which this call fills in" : MBP_A_TRAINER);
}

mbp_status mbp_trainer_output(mbp_trainer *trainer, int i, mbp_array *output, mbp_error *error) {
    mbp_status status = check_arguments(trainer, output, "output", error);
    if (status == MBP_OK)
        status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, get_output(trainer, i, output, error)) : status;
}

static mbp_status check_gradients(const mbp_trainer *t, const mbp_array *gradients, int n, mbp_error *error) {
    if (!t->forward_rows)
        return mbp_fail(error, MBP_INVALID, "the outputs have no values: call forward first");
    if (t->forward_layers != t->net->layers_version)
        return mbp_fail(error, MBP_INVALID,
                        "layers were frozen, unfrozen or changed after forward: call forward again");
    if (t->forward_changes != t->net->shared->changes)
        return mbp_fail(error, MBP_INVALID, "the parameters were changed after forward: call forward again");
    mbp_status status = mbp_count_check("gradients", gradients, n, "output", t->net->outputs, error);
    for (int i = 0; i < n && status == MBP_OK; i++)
        status = mbp_array_check(&gradients[i], "gradient", i, t->forward_rows, mbp_net_output_width(t->net, i), error);
    return status;
}

static MBP_APART mbp_status backward_from(mbp_trainer *t, const mbp_array *gradients, int n, const mbp_backward *given,
                                          mbp_error *error) {
    mbp_backward how;
    const mbp_selection rows = {NULL, 0, t->forward_rows};
    mbp_status status = mbp_backward_check(&how, given, error);
    if (status == MBP_OK)
        status = check_gradients(t, gradients, n, error);
    for (int i = 0; i < t->net->inputs && status == MBP_OK && how.input_grads && t->workspace->sparse; i++)
        if (mbp_is_ids(&t->net->node[t->net->input_nodes[i]]))
            status = mbp_fail(error, MBP_INVALID,
                              "input %d has ids, but input_grads needs numbers, which have derivatives", i);
        else if (t->workspace->input[i].is_sparse)
            status = mbp_fail(error, MBP_INVALID,
                              "input %d is sparse, but input_grads needs dense rows: pass a dense array to forward", i);
    if (MICROBP_SPARSE && status == MBP_OK && mbp_may_be_sparse(t))
        status = mbp_sparse_open(t, NULL, how.accumulate, error);
    if (mbp_joins_statistics(t))
        status = mbp_join(t, status, (double[2]){0, 0}, error);
    if (status != MBP_OK)
        return status;
    if (MICROBP_SPARSE && t->lazy)
        mbp_sparse_start(t, NULL, how.accumulate);
    mbp_trainer_plan(t, how.input_grads != 0);
    for (int i = 0; i < n; i++) {
        const int id = t->net->output[i].node;
        if (t->plan.wanted[id])
            load_gradient(t, &gradients[i], i, rows);
    }
    const double joint = (double)t->forward_joint;
    const double share = (double)rows.count / joint / (t->setting[MBP_PENALTY_PER_ROW] != 0 ? joint : 1);
    mbp_lengths_load(t->net, t->workspace, NULL, NULL); /* a call that was refused since then may have set some */
    mbp_train_backward(t, rows.count, how.accumulate, how.accumulate ? 0 : share);
    mbp_put_number(&t->running.loss, NAN);
    t->input_grad_rows = how.input_grads ? rows.count : 0;
    return MBP_OK;
}

mbp_status mbp_trainer_backward_from(mbp_trainer *trainer, const mbp_array *gradients, int n, const mbp_backward *how,
                                     mbp_error *error) {
    mbp_status status = mbp_trainer_enter_training(trainer, error);
    if (status != MBP_OK)
        return status;
    status = backward_from(trainer, gradients, n, how, error);
    return mbp_trainer_leave(trainer, mbp_tell(trainer, status));
}

static mbp_status get_input_grad(const mbp_trainer *t, int i, mbp_array *gradient, mbp_error *error) {
    if (i < 0 || i >= t->net->inputs)
        return mbp_fail_index(error, "input", i, t->net->inputs);
    if (!t->input_grad_rows)
        return mbp_fail(error, MBP_INVALID, "input %d has no gradient: call backward with input_grads=1 first", i);
    const int id = t->net->input_nodes[i];
    if (!t->net->node[id].uses)
        return mbp_fail(error, MBP_INVALID, "input %d has no gradient, because no output depends on it", i);
    *gradient = array_of(t->net, t->workspace->delta[id], t->input_grad_rows, id);
    return MBP_OK;
}

mbp_status mbp_trainer_input_grad(mbp_trainer *trainer, int i, mbp_array *gradient, mbp_error *error) {
    mbp_status status = check_arguments(trainer, gradient, "gradient", error);
    if (status == MBP_OK)
        status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, get_input_grad(trainer, i, gradient, error)) : status;
}

/* ---- mbp_trainer_apply ---- */

static mbp_status check_apply(const mbp_trainer *t, mbp_error *error) {
    mbp_status status = mbp_solver_refuse(t, "apply", error);
    return status == MBP_OK && MICROBP_SPARSE && t->lazy ? mbp_sparse_check_layers(t, error) : status;
}

static MBP_APART mbp_status apply(mbp_trainer *t, mbp_error *error) {
    double loss[2] = {t->running.loss, mbp_sparse_layers(t)};
    mbp_status status = check_apply(t, error);
    if (mbp_is_joined(t))
        status = mbp_join(t, status, loss, error);
    if (status != MBP_OK)
        return mbp_tell(t, status);
    mbp_trainer_plan(t, t->plan.input_grads);
    if (mbp_is_joined(t))
        status = t->together->add_gradients(t, loss[1], error);
    if (status == MBP_OK)
        status = mbp_gradients_check(t, error);
    if (status == MBP_OK) {
        mbp_put_number(&t->running.loss, loss[0]);
        mbp_update_pass(t);
    }
    return mbp_ranks_of(t) ? t->together->end_step(t, status, error) : status;
}

mbp_status mbp_trainer_apply(mbp_trainer *trainer, mbp_error *error) {
    mbp_status status = mbp_trainer_enter_training(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, apply(trainer, error)) : status;
}
