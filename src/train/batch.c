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

static mbp_status check_target(const mbp_trainer *trainer, int i, const mbp_array *y, int64_t rows, mbp_error *error) {
    const int64_t width = mbp_net_output_width(trainer->net, i);
    const int is_float = (unsigned)y->dtype < MBP_I8;
    if (trainer->objective[i].labels && is_float && y->cols == 1)
        return mbp_fail(error, MBP_INVALID,
                        "target %d has labels of dtype %s, but %s needs integer labels, or %lld probabilities per row",
                        i, mbp_array_dtype_name(y->dtype), mbp_formula_name(MBP_LOSS, trainer->objective[i].loss.row),
                        (long long)width);
    return mbp_array_check(y, "target", i, rows, are_labels(trainer, i, y) ? 1 : width, error);
}

mbp_status mbp_batch_check(const mbp_trainer *trainer, const mbp_batch *given, mbp_batch *batch, int64_t *rows,
                           mbp_error *error) {
    const mbp_net *net = trainer->net;
    mbp_status status = mbp_sized_read(batch, sizeof *batch, given, "mbp_batch", error);
    if (status == MBP_OK && (batch->element_weights || batch->lengths))
        return mbp_fail(error, MBP_UNSUPPORTED, "batch.%s is not supported yet: set it to NULL",
                        batch->lengths ? "lengths" : "element_weights");
    if (status == MBP_OK)
        status = mbp_inputs_check(net, batch->x, batch->n_x, rows, error);
    if (status == MBP_OK && *rows == 0)
        status = mbp_fail(error, MBP_INVALID, "the batch has 0 rows, but needs at least 1");
    if (status == MBP_OK)
        status = mbp_count_check("y", batch->y, batch->n_y, "output", net->outputs, error);
    for (int i = 0; i < net->outputs && status == MBP_OK; i++) {
        if (trainer->objective[i].loss.row < 0)
            return mbp_fail(error, MBP_INVALID,
                            "output %d has no loss: use forward, and backward_from with a gradient that you compute",
                            i);
        status = check_target(trainer, i, &batch->y[i], *rows, error);
    }
    if (status == MBP_OK && batch->weight)
        status = mbp_array_check(batch->weight, "weight", -1, *rows, 1, error);
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
                            mbp_fail(error, MBP_INVALID,
                                     "target %d, row %lld: label %lld is not in 0 to %lld, the classes of the output",
                                     i, (long long)mbp_row_number(rows, r), (long long)w->labels[i][r],
                                     (long long)classes - 1));
    return MBP_OK;
}

static int target_is_wrong(const mbp_objective *objective, double t) {
    if (objective->signs)
        return t != -1 && t != 1 && !isnan(t);
    return !isnan(t) && !mbp_interval_has(objective->targets, t);
}

static mbp_status fail_target(const mbp_objective *objective, int i, int64_t row, int64_t column, double value,
                              mbp_error *error) {
    char number[MBP_NUMBER_SIZE];
    mbp_print_float(number, value);
    return fail_row(error, row,
                    mbp_fail(error, MBP_INVALID, "target %d, row %lld, column %lld is %s, but %s needs values in %s", i,
                             (long long)row, (long long)column, number, mbp_formula_name(MBP_LOSS, objective->loss.row),
                             objective->signs    ? "{-1, 1}"
                             : objective->labels ? "[0,1]"
                                                 : mbp_loss_targets(objective->loss.row)));
}

/* A NaN target passes here: it makes the loss NaN, and a step with such a loss fails. */
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
                return fail_target(objective, i, mbp_row_number(rows, r), j, t, error);
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

/* If `total`, the sum of the weights, is not finite: refuses the first weight that is not finite. */
static mbp_status check_weights(const mbp_workspace *w, mbp_selection rows, double total, mbp_error *error) {
    char number[MBP_NUMBER_SIZE];
    for (int64_t r = 0; r < rows.count && !isfinite(total); r++)
        if (!isfinite(w->weight[r])) {
            const int64_t row = mbp_row_number(rows, r);
            mbp_print_number(number, w->weight[r]);
            return fail_row(error, row,
                            mbp_fail(error, MBP_INVALID, "the weight of row %lld is %s, but must be finite",
                                     (long long)row, number));
        }
    return MBP_OK;
}

mbp_status mbp_total_check(double total, mbp_error *error) {
    if (total > 0 && !isinf(total))
        return MBP_OK;
    char number[MBP_NUMBER_SIZE];
    mbp_print_float(number, total);
    return mbp_fail(error, MBP_INVALID, "the row weights of a batch sum to %s, but the sum must be finite and above 0",
                    number);
}

mbp_status mbp_targets_load(const mbp_trainer *trainer, const mbp_batch *batch, mbp_selection rows, double *total,
                            mbp_error *error) {
    const mbp_net *net = trainer->net;
    mbp_workspace *w = trainer->workspace;
    *total = load_weights(w, batch->weight, rows);
    mbp_status status = check_weights(w, rows, *total, error);
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
