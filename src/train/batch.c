#include "train/batch.h"

#include <math.h>
#include <string.h>

#include "passes/inputs.h"
#include "system/sized.h"

static int is_integer(mbp_dtype dtype) { return dtype >= MBP_I8; }

/* Whether the i-th output's targets are labels: one integer per row instead of one value per column. */
static int are_labels(const mbp_trainer *trainer, int i, const mbp_array *y) {
    return trainer->objective[i].labels && is_integer(y->dtype) && y->cols == 1;
}

mbp_status mbp_batch_check(const mbp_trainer *trainer, const mbp_batch *given, mbp_batch *batch, int64_t *rows,
                           mbp_error *error) {
    const mbp_net *net = trainer->net;
    mbp_status status = mbp_sized_read(batch, sizeof *batch, given, "mbp_batch", error);
    if (status == MBP_OK && (batch->element_weights || batch->lengths))
        return mbp_fail(error, MBP_UNSUPPORTED, "%s of a batch are not built yet: leave them NULL",
                        batch->lengths ? "lengths" : "element_weights");
    if (status == MBP_OK)
        status = mbp_inputs_check(net, batch->x, batch->n_x, rows, error);
    if (status == MBP_OK && *rows == 0)
        status = mbp_fail(error, MBP_INVALID, "the batch has no rows");
    if (status == MBP_OK)
        status = mbp_count_check("target", batch->y, batch->n_y, net->outputs, error);
    for (int i = 0; i < net->outputs && status == MBP_OK; i++) {
        if (trainer->objective[i].loss.row < 0)
            return mbp_fail(error, MBP_INVALID,
                            "output %d has no loss: use forward, then backward_from with your own gradient", i);
        const int64_t cols = are_labels(trainer, i, &batch->y[i]) ? 1 : mbp_net_output_width(net, i);
        status = mbp_array_check(&batch->y[i], "target", i, *rows, cols, error);
    }
    if (status == MBP_OK && batch->weight)
        status = mbp_array_check(batch->weight, "row weight", 0, *rows, 1, error);
    return status;
}

static mbp_status fail_row(mbp_error *error, int64_t row, mbp_status status) {
    if (error)
        error->row = row;
    return status;
}

static mbp_status load_labels(mbp_workspace *w, int i, const mbp_array *y, int64_t classes, mbp_selection rows,
                              mbp_error *error) {
    w->target[i].at = NULL;
    mbp_array_gather(y, rows, MBP_I64, (mbp_view){w->labels[i], 1});
    for (int64_t r = 0; r < rows.count; r++)
        if (w->labels[i][r] < 0 || w->labels[i][r] >= classes)
            return fail_row(error, mbp_row_number(rows, r),
                            mbp_fail(error, MBP_INVALID, "target %d, row %lld: label %lld is not in 0..%lld", i,
                                     (long long)mbp_row_number(rows, r), (long long)w->labels[i][r],
                                     (long long)classes - 1));
    return MBP_OK;
}

static int target_is_wrong(const mbp_objective *objective, double t) {
    if (objective->signs)
        return t != -1 && t != 1 && !isnan(t);
    return !isnan(t) && !mbp_interval_has(objective->targets, t);
}

/* NaN passes here. It makes the loss NaN, and then the step is refused. */
static mbp_status check_targets(const mbp_trainer *trainer, int i, mbp_selection rows, mbp_error *error) {
    const mbp_objective *objective = &trainer->objective[i];
    const mbp_view target = trainer->workspace->target[i];
    const int64_t n = mbp_net_output_width(trainer->net, i);
    if (!objective->signs && isinf(objective->targets.low) && isinf(objective->targets.high))
        return MBP_OK;
    for (int64_t r = 0; r < rows.count; r++)
        for (int64_t j = 0; j < n; j++) {
            const int64_t at = r * target.ld + j;
            const double t = trainer->net->dtype == MBP_F64 ? ((const double *)target.at)[at]
                                                            : (double)((const float *)target.at)[at];
            if (target_is_wrong(objective, t))
                return fail_row(error, mbp_row_number(rows, r),
                                mbp_fail(error, MBP_INVALID,
                                         "target %d, row %lld, column %lld is not in %s, as %s needs", i,
                                         (long long)mbp_row_number(rows, r), (long long)j,
                                         objective->signs    ? "{-1, 1}"
                                         : objective->labels ? "[0, 1]"
                                                             : mbp_loss_targets(objective->loss.row),
                                         mbp_formula_name(MBP_LOSS, objective->loss.row)));
        }
    return MBP_OK;
}

static double load_weights(mbp_workspace *w, const mbp_array *weight, mbp_selection rows) {
    double total = 0;
    if (weight)
        mbp_array_gather(weight, rows, MBP_F64, (mbp_view){w->weight, 1});
    for (int64_t r = 0; r < rows.count; r++) {
        if (!weight)
            w->weight[r] = 1;
        total += w->weight[r];
    }
    return total;
}

mbp_status mbp_total_check(double total, mbp_error *error) {
    if (total > 0 && !isinf(total))
        return MBP_OK;
    return mbp_fail(error, MBP_INVALID, "the row weights of a batch must be finite and their sum above 0");
}

mbp_status mbp_targets_load(const mbp_trainer *trainer, const mbp_batch *batch, mbp_selection rows, double *total,
                            mbp_error *error) {
    const mbp_net *net = trainer->net;
    mbp_workspace *w = trainer->workspace;
    mbp_status status = MBP_OK;
    *total = load_weights(w, batch->weight, rows);
    for (int i = 0; i < net->outputs && status == MBP_OK; i++) {
        const mbp_array *y = &batch->y[i];
        w->target[i] = w->target_home[i];
        if (are_labels(trainer, i, y)) {
            status = load_labels(w, i, y, mbp_net_output_width(net, i), rows, error);
            continue;
        }
        if (!mbp_array_in_place(y, rows, net->dtype, &w->target[i]))
            mbp_gather(net, y, rows, w->target[i]);
        status = check_targets(trainer, i, rows, error);
    }
    return status;
}
