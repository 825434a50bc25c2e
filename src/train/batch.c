#include "train/batch.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "passes/inputs.h"
#include "system/sized.h"

static int64_t output_width(const mbp_trainer *t, int i) { return t->net->node[t->net->output[i].node].width; }

static int is_integer(mbp_dtype dtype) { return dtype >= MBP_I8; }

static int may_be_labels(const mbp_trainer *trainer, int i) { return MBP_HAS_LABELS && trainer->objective[i].labels; }

/* Whether the i-th output's targets are labels: one integer per row instead of one value per column. */
static int are_labels(const mbp_trainer *trainer, int i, const mbp_array *y) {
    return may_be_labels(trainer, i) && is_integer(y->dtype) && y->cols == 1;
}

static mbp_status check_target(const mbp_trainer *trainer, int i, const mbp_array *y, int64_t rows, mbp_error *error) {
    const int64_t width = output_width(trainer, i);
    const int is_float = (unsigned)y->dtype < MBP_I8;
    if (may_be_labels(trainer, i) && is_float && y->cols == 1)
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

/* A label above INT64_MAX is read again, because `label` cannot hold it. */
static mbp_status fail_label(const mbp_array *y, int i, int64_t row, int64_t label, int64_t classes, mbp_error *error) {
    uint64_t size = label < 0 ? -(uint64_t)label : (uint64_t)label;
    if (y->dtype == MBP_U64)
        memcpy(&size, (const char *)y->data + row * y->row_stride, sizeof size);
    return fail_row(error, row,
                    mbp_fail(error, MBP_INVALID,
                             "target %d, row %lld: label %s%llu is not in 0 to %lld, the classes of the output", i,
                             (long long)row, label < 0 ? "-" : "", (unsigned long long)size, (long long)classes - 1));
}

static mbp_status load_labels(mbp_workspace *w, int i, const mbp_array *y, int64_t classes, mbp_selection rows,
                              mbp_error *error) {
    w->target[i].at = NULL;
    mbp_array_gather(y, rows, MBP_I64, (mbp_view){w->labels[i], 1});
    for (int64_t r = 0; r < rows.count; r++)
        if (w->labels[i][r] < 0 || w->labels[i][r] >= classes)
            return fail_label(y, i, mbp_row_number(rows, r), w->labels[i][r], classes, error);
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
static mbp_status check_targets(const mbp_trainer *trainer, int i, const mbp_selection *rows, mbp_error *error) {
    const mbp_objective *objective = &trainer->objective[i];
    const mbp_view target = trainer->workspace->target[i];
    const int64_t n = output_width(trainer, i);
    if (!objective->signs && isinf(objective->targets.low) && isinf(objective->targets.high))
        return MBP_OK;
    for (int64_t r = 0; r < rows->count; r++)
        for (int64_t j = 0; j < n; j++) {
            const int64_t at = r * target.ld + j;
            const double t = trainer->net->dtype == MBP_F64 ? ((const double *)target.at)[at]
                                                            : (double)((const float *)target.at)[at];
            if (target_is_wrong(objective, t))
                return fail_target(objective, i, mbp_row_number(*rows, r), j, t, error);
        }
    return MBP_OK;
}

/* ---- which rows are there ---- */

static uint64_t bits_of(double weight) {
    uint64_t bits;
    memcpy(&bits, &weight, sizeof bits);
    return bits;
}

/* By its bits: a comparison would take a subnormal weight for 0, because they are flushed. */
static int is_zero(double weight) { return bits_of(weight) << 1 == 0; }
static int is_weight(double weight) { return weight >= 0 && weight <= DBL_MAX; }
/* Whether a weight is above 0 and finite, in a single comparison of its bits. */
static int is_usual(double weight) { return bits_of(weight) - 1 < bits_of(DBL_MAX); }

/* Fails with the first of these weights that is not one. */
static mbp_status fail_weight(const double *weight, mbp_selection rows, mbp_error *error) {
    char number[MBP_NUMBER_SIZE];
    int64_t r = 0;
    while (is_weight(weight[r]))
        r++;
    mbp_print_number(number, weight[r]);
    return fail_row(error, mbp_row_number(rows, r),
                    mbp_fail(error, MBP_INVALID, "the weight of row %lld is %s, but must be finite and at least 0",
                             (long long)mbp_row_number(rows, r), number));
}

mbp_status mbp_index_check(const int64_t *index, int64_t count, int64_t first, int64_t rows, mbp_error *error) {
    const uint64_t last = (uint64_t)rows - 1;
    uint64_t wrong = 0; /* its top bit: a number is below 0, or above the last one */
    int64_t i = 0;
    for (int64_t k = 0; k < count; k++)
        wrong |= (uint64_t)index[k] | (last - (uint64_t)index[k]);
    if (wrong >> 63 == 0)
        return MBP_OK;
    while (i < count - 1 && index[i] >= 0 && index[i] < rows) /* another thread may have mended the wrong one */
        i++;
    return mbp_fail(error, MBP_INVALID, "index[%lld] is %lld, but must be a row number from 0 to %lld",
                    (long long)(first + i), (long long)index[i], (long long)rows - 1);
}

/* Copies the numbers of the next rows to `to` and checks the copies. */
static mbp_status copy_numbers(const mbp_batch_cursor *from, int64_t *to, int64_t count, int64_t rows,
                               mbp_error *error) {
    memcpy(to, from->index + from->at, (size_t)count * sizeof *to);
    return mbp_index_check(to, count, from->at, rows, error);
}

/* Loads the weights of some rows to `weight` and checks them. *zeros: whether one of them is 0. */
static mbp_status load_weights(const mbp_array *given, mbp_selection rows, double *weight, int *zeros,
                               mbp_error *error) {
    int usual = 1, wrong = 0;
    *zeros = 0;
    if (given)
        mbp_array_gather(given, rows, MBP_F64, (mbp_view){weight, 1});
    for (int64_t r = 0; r < rows.count; r++)
        if (given)
            usual &= is_usual(weight[r]);
        else
            weight[r] = 1;
    for (int64_t r = 0; r < rows.count && !usual; r++) {
        *zeros |= is_zero(weight[r]);
        wrong |= !is_weight(weight[r]);
    }
    return wrong ? fail_weight(weight, rows, error) : MBP_OK;
}

/* Appends those of the rows that have a weight above 0 to the `count` rows that the workspace lists, and returns how
 * many it lists then. The weights of the rows follow those of the listed ones. */
static int64_t list_rows(mbp_workspace *w, mbp_selection rows, int64_t count) {
    const double *weight = w->weight + count;
    for (int64_t r = 0; r < rows.count; r++)
        if (!is_zero(weight[r])) {
            w->chosen[count] = mbp_row_number(rows, r);
            w->weight[count++] = weight[r];
        }
    return count;
}

mbp_status mbp_rows_next(const mbp_trainer *t, const mbp_batch *batch, mbp_batch_cursor *from, int64_t limit,
                         mbp_chosen *chosen, mbp_error *error) {
    mbp_workspace *w = t->workspace;
    const int64_t first = from->at, most = from->end - first < limit ? from->end - first : limit;
    int64_t count = 0;
    if (!MICROBP_SMALL && !batch->weight && !from->index) {
        for (int64_t r = 0; r < most; r++)
            w->weight[r] = 1;
        *chosen = (mbp_chosen){{NULL, first, most}, (double)most};
        from->at += most;
        return MBP_OK;
    }
    int listed = from->index != NULL, zeros;
    while (count < limit && from->at < from->end) {
        const int64_t left = from->end - from->at, n = left < limit - count ? left : limit - count;
        const mbp_selection next = {from->index ? w->chosen : NULL, from->index ? count : from->at, n};
        mbp_status status = from->index ? copy_numbers(from, w->chosen + count, n, batch->x[0].rows, error) : MBP_OK;
        if (status == MBP_OK)
            status = load_weights(batch->weight, next, w->weight + count, &zeros, error);
        if (status != MBP_OK)
            return status;
        for (int64_t i = 0; i < count && zeros && !listed; i++)
            w->chosen[i] = first + i;
        listed |= zeros;
        /* Row numbers from an index are in their place already, if all these rows are there. */
        count = zeros || (listed && !from->index) ? list_rows(w, next, count) : count + n;
        from->at += n;
    }
    *chosen = (mbp_chosen){{listed ? w->chosen : NULL, listed ? 0 : first, count}, 0};
    for (int64_t r = 0; r < count && batch->weight; r++)
        chosen->total += w->weight[r];
    if (!batch->weight)
        chosen->total = (double)count;
    return MBP_OK;
}

mbp_status mbp_total_check(int64_t given, int64_t rows, double total, mbp_error *error) {
    if (total > 0 && !isinf(total))
        return MBP_OK;
    if (given == 0)
        return mbp_fail(error, MBP_INVALID, "the batch has 0 rows, but needs at least 1");
    if (rows == 0)
        return mbp_fail(error, MBP_INVALID,
                        "all row weights are 0, so no row is there: give at least one row a weight above 0");
    char number[MBP_NUMBER_SIZE];
    mbp_print_float(number, total);
    return mbp_fail(error, MBP_INVALID, "the row weights of a batch sum to %s, but the sum must be finite and above 0",
                    number);
}

mbp_status mbp_targets_load(const mbp_trainer *trainer, const mbp_batch *batch, const mbp_selection *rows,
                            mbp_error *error) {
    const mbp_net *net = trainer->net;
    mbp_workspace *w = trainer->workspace;
    mbp_status status = MBP_OK;
    for (int i = 0; i < net->outputs && status == MBP_OK; i++) {
        const mbp_array *y = &batch->y[i];
        if (trainer->objective[i].weight == 0)
            continue;
        w->target[i] = w->target_home[i];
        if (are_labels(trainer, i, y)) {
            status = load_labels(w, i, y, output_width(trainer, i), *rows, error);
            continue;
        }
        if (!mbp_array_in_place(y, rows, net->dtype, &w->target[i]))
            mbp_gather(net, y, *rows, w->target[i]);
        status = check_targets(trainer, i, rows, error);
    }
    return status;
}
