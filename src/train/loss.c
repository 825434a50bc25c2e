#include "train/loss.h"

#include <math.h>

#include "passes/inputs.h"
#include "passes/pass.h"
#include "system/text.h"
#include "train/batch.h"

/* The loss of one output. The sums of chunks of MBP_LOSS_CHUNK rows are added in order. */
static double output_loss(mbp_trainer *t, int i, int64_t rows, double total, int gradients) {
    const mbp_objective *objective = &t->objective[i];
    const int id = t->net->output[i].node;
    const mbp_workspace *w = t->workspace;
    const mbp_view o = w->value[id], target = w->target[i],
                   g = gradients && t->plan.wanted[id] ? w->delta[id] : (mbp_view){0};
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

mbp_status mbp_loss_fail(mbp_trainer *t, int64_t rows, double total, mbp_error *error) {
    char spec[MBP_SPEC_SIZE], number[MBP_NUMBER_SIZE];
    for (int i = 0; i < t->net->outputs; i++) {
        const double loss = output_loss(t, i, rows, total, 0);
        mbp_print_float(number, loss);
        mbp_formula_print(MBP_LOSS, &t->objective[i].loss, spec);
        if (!isfinite(loss))
            return mbp_fail(error, MBP_NONFINITE, "the loss of output %d (%s) is %s, not a finite number", i, spec,
                            number);
    }
    return mbp_fail(error, MBP_NONFINITE, "the sum of the losses of the outputs is not finite");
}

void mbp_mean_add(mbp_mean *mean, double sum, double total) {
    mean->sum += sum;
    mean->total += total;
    mean->value = mean->sum / mean->total;
}

/* ---- the loss of any number of rows in inference, in slices ---- */

static mbp_status add_slice(mbp_trainer *t, const mbp_batch *batch, mbp_selection rows, mbp_mean *mean,
                            mbp_error *error) {
    double total;
    mbp_inputs_load(t->net, t->workspace, batch->x, rows);
    mbp_status status = mbp_targets_load(t, batch, rows, &total, error);
    if (status != MBP_OK)
        return status;
    mbp_forward_pass(&(pass){.net = t->net, .w = t->workspace, .rows = rows.count}, t->net->nodes - 1);
    mbp_mean_add(mean, mbp_loss_pass(t, rows.count, 1, 0), total);
    return MBP_OK;
}

static MBP_APART mbp_status evaluate(mbp_trainer *t, const mbp_batch *given, double *loss, mbp_error *error) {
    const int64_t slice = mbp_slice_rows(t->net);
    mbp_batch batch;
    mbp_mean mean = {0};
    int64_t rows;
    mbp_status status = mbp_batch_check(t, given, &batch, &rows, error);
    if (status == MBP_OK)
        status = mbp_trainer_reserve(t, rows < slice ? rows : slice, MBP_TARGETS, error);
    if (status != MBP_OK)
        return status;
    mbp_trainer_forget(t);
    for (int64_t first = 0; status == MBP_OK && first < rows; first += slice) {
        const int64_t left = rows - first;
        status = add_slice(t, &batch, (mbp_selection){NULL, first, left < slice ? left : slice}, &mean, error);
    }
    if (status == MBP_OK)
        status = mbp_total_check(mean.total, error);
    if (status == MBP_OK)
        *loss = mean.value;
    return status;
}

mbp_status mbp_trainer_evaluate(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error) {
    if (!batch || !loss)
        return mbp_fail_null(error, batch ? "loss" : "batch", batch ? MBP_A_LOSS : MBP_A_BATCH);
    mbp_status status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, evaluate(trainer, batch, loss, error)) : status;
}
