#include "train/batch.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "net/states/states.h"
#include "passes/inputs.h"
#include "passes/positions/lengths.h"
#include "system/sized.h"

enum { NO_TARGET = -1 }; /* the label of a row without one, if targets may be missing */

static int is_integer(mbp_dtype dtype) { return dtype >= MBP_I8; }

static int may_be_labels(const mbp_trainer *trainer, int i) { return MBP_HAS_LABELS && trainer->objective[i].labels; }

/* Whether the i-th output's targets are labels: one integer per position instead of one value per column. */
static int are_labels(const mbp_trainer *trainer, int i, const mbp_array *y) {
    return may_be_labels(trainer, i) && is_integer(y->dtype) && y->cols == mbp_trainer_positions(trainer, i);
}

static mbp_status check_target(const mbp_trainer *trainer, int i, const mbp_array *y, int64_t rows, mbp_error *error) {
    const int64_t width = mbp_output_row(trainer->net, i), positions = mbp_trainer_positions(trainer, i);
    const int is_float = (unsigned)y->dtype < MBP_I8;
    if (may_be_labels(trainer, i) && is_float && y->cols == positions)
        return mbp_fail(error, MBP_INVALID,
                        "target %d has labels of dtype %s, but %s needs integer labels, or %lld probabilities per row",
                        i, mbp_array_dtype_name(y->dtype), mbp_formula_name(MBP_LOSS, trainer->objective[i].loss.row),
                        (long long)width);
    return mbp_array_check(y, "target", i, rows,
                           positions * (are_labels(trainer, i, y) ? 1 : trainer->objective[i].width), error);
}

/* How many weights a row has: one per target, or one if the loss needs all columns of a row. Of several positions, one
 * for each. */
static int64_t weight_columns(const mbp_trainer *t, int i) {
    const mbp_objective *objective = &t->objective[i];
    if (mbp_trainer_positions(t, i) > 1)
        return mbp_trainer_positions(t, i);
    const int of_rows = may_be_labels(t, i) ||
                        (objective->width != mbp_output_width(t->net, i) && !mbp_has_columns(objective));
    return of_rows ? 1 : objective->width;
}

static mbp_status check_weights(const mbp_trainer *t, int i, const mbp_array *weights, int64_t rows, mbp_error *error) {
    if (!weights->data)
        return MBP_OK;
    return mbp_array_check(weights, "element_weights", i, rows, weights->cols == 1 ? 1 : weight_columns(t, i), error);
}

mbp_status mbp_batch_check(const mbp_trainer *trainer, const mbp_batch *given, mbp_batch *batch, int64_t *rows,
                           mbp_error *error) {
    const mbp_net *net = trainer->net;
    mbp_status status = mbp_sized_read(batch, MICROBP_POSITIONS ? sizeof *batch : offsetof(mbp_batch, lengths), given,
                                       "mbp_batch", error);
    if (!MICROBP_GAPS && status == MBP_OK && batch->element_weights)
        return mbp_fail_extra(error, "element weights", "gaps");
    if (MICROBP_POSITIONS && !MICROBP_GAPS && status == MBP_OK && batch->lengths)
        return mbp_fail_extra(error, "lengths", "gaps");
    if (status == MBP_OK)
        status = mbp_inputs_check(net, batch->x, batch->n_x, MICROBP_POSITIONS ? batch->lengths : NULL, rows, error);
    if (status == MBP_OK)
        status = mbp_count_check("y", batch->y, batch->n_y, "output", net->outputs, error);
    for (int i = 0; i < net->outputs && status == MBP_OK; i++) {
        if (trainer->objective[i].loss.row < 0)
            return mbp_fail(error, MBP_INVALID,
                            "output %d has no loss: use forward, and backward_from with a gradient that you compute",
                            i);
        status = check_target(trainer, i, &batch->y[i], *rows, error);
        if (status == MBP_OK && MICROBP_GAPS && batch->element_weights)
            status = check_weights(trainer, i, &batch->element_weights[i], *rows, error);
    }
    if (status == MBP_OK && batch->weight)
        status = mbp_array_check(batch->weight, "weight", -1, *rows, 1, error);
    if (MICROBP_POSITIONS && status == MBP_OK && batch->state)
        status = mbp_state_check(batch->state, net, *rows, error);
    return status;
}

static mbp_status fail_row(mbp_error *error, int64_t row, mbp_status status) {
    if (error)
        error->row = row;
    return status;
}

/* Whether an element has the weight 0. */
static int is_absent(const mbp_workspace *w, int i, int64_t r, int64_t j) {
    const mbp_own *own = &w->own[i];
    return mbp_is_weighted(w) && own->columns && own->at[(j < own->columns ? j : 0) * w->rows + r] == 0;
}

/* A label above INT64_MAX is read again, because `label` cannot hold it. */
static mbp_status fail_label(const mbp_array *y, int i, int64_t row, int64_t position, int64_t label, int64_t classes,
                             mbp_error *error) {
    char place[48] = "";
    uint64_t size = label < 0 ? -(uint64_t)label : (uint64_t)label;
    if (y->dtype == MBP_U64)
        memcpy(&size, (const char *)y->data + row * y->row_stride + position * y->col_stride, sizeof size);
    if (y->cols > 1)
        snprintf(place, sizeof place, ", position %lld", (long long)position);
    return fail_row(
        error, row,
        mbp_fail(error, MBP_INVALID,
                 "target %d, row %lld%s: label %s%llu is not in 0 to %lld, the classes of the output%s", i,
                 (long long)row, place, label < 0 ? "-" : "", (unsigned long long)size, (long long)classes - 1,
                 label == NO_TARGET ? "; if -1 means that the row has no label, set missing=1 in the loss" : ""));
}

static mbp_status load_labels(const mbp_trainer *t, int i, const mbp_array *y, mbp_selection rows, mbp_error *error) {
    const int64_t classes = mbp_output_width(t->net, i);
    mbp_workspace *w = t->workspace;
    w->target[i].at = NULL;
    const int64_t positions = mbp_trainer_positions(t, i);
    mbp_array_gather(y, rows, MBP_I64, (mbp_view){w->labels[i], positions});
    for (int64_t r = 0; r < rows.count * positions; r++)
        if ((w->labels[i][r] < 0 || w->labels[i][r] >= classes) && !is_absent(w, i, r / positions, r % positions))
            return fail_label(y, i, mbp_row_number(rows, r / positions), r % positions, w->labels[i][r], classes,
                              error);
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
                             mbp_objective_targets(objective)));
}

/* A NaN target passes here: it makes the loss NaN, and a step with such a loss fails. */
static mbp_status check_targets(const mbp_trainer *trainer, int i, const mbp_selection *rows, mbp_error *error) {
    const mbp_objective *objective = &trainer->objective[i];
    const mbp_view target = trainer->workspace->target[i];
    const int64_t n = objective->width;
    const int64_t positions = mbp_trainer_positions(trainer, i);
    if (mbp_objective_has_unit(objective))
        return MBP_OK;
    for (int64_t r = 0; r < rows->count * positions; r++)
        for (int64_t j = 0; j < n; j++) {
            const int64_t at = r * target.ld + j;
            const double t = trainer->net->dtype == MBP_F64 ? ((const double *)target.at)[at]
                                                            : (double)((const float *)target.at)[at];
            const int64_t weight = positions > 1 ? r % positions : j;
            if (target_is_wrong(objective, t) && !is_absent(trainer->workspace, i, r / positions, weight))
                return fail_target(objective, i, mbp_row_number(*rows, r / positions), r % positions * n + j, t, error);
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

/* ---- weights of an output of its own ---- */

static int has_own(const mbp_trainer *t, const mbp_batch *batch, int i) {
    const mbp_objective *objective = &t->objective[i];
    return MICROBP_GAPS && objective->weight != 0 &&
           (objective->missing || mbp_trainer_positions(t, i) > 1 ||
            mbp_valid_of(t->workspace, t->net->output[i].node) || (mbp_goes_on(batch) && batch->weight) ||
            (batch->element_weights && batch->element_weights[i].data));
}

/* Reads a column of an array, or the only one, as doubles. */
static void read_column(const mbp_array *array, int64_t j, mbp_selection rows, double *to) {
    mbp_array column = *array;
    column.cols = 1;
    if (array->cols > 1)
        column.data = (const char *)array->data + j * array->col_stride;
    mbp_array_gather(&column, rows, MBP_F64, (mbp_view){to, 1});
}

static mbp_status fail_element(int i, int64_t row, int64_t column, double value, mbp_error *error) {
    char number[MBP_NUMBER_SIZE];
    mbp_print_float(number, value);
    return fail_row(error, row,
                    mbp_fail(error, MBP_INVALID,
                             "element_weights %d, row %lld, column %lld is %s, but must be finite and at least 0", i,
                             (long long)row, (long long)column, number));
}

/* Sets the weights to 0 where the i-th output's target of column j is missing; if the row has one weight, where any of
 * its columns is NaN. Of several positions, where any column of position j is. */
static void drop_missing(const mbp_trainer *t, int i, const mbp_array *y, int64_t j, mbp_selection rows, double *to) {
    double *value = t->workspace->column[2];
    const int64_t all = y->cols / (mbp_trainer_positions(t, i) > 1 || weight_columns(t, i) == 1
                                       ? mbp_trainer_positions(t, i)
                                       : y->cols);
    const int labels = are_labels(t, i, y);
    if (is_integer(y->dtype) && !labels)
        return;
    for (int64_t k = 0; k < all; k++) {
        read_column(y, weight_columns(t, i) == 1 ? k : j * all + k, rows, value);
        for (int64_t r = 0; r < rows.count; r++)
            if (labels ? value[r] == NO_TARGET : isnan(value[r]))
                to[r] = 0;
    }
}

/* Loads column j of an output's weights. weight: those of the rows; elements of a row of weight 0 are not checked. */
static mbp_status load_column(const mbp_trainer *t, const mbp_batch *batch, int i, int64_t j, mbp_selection rows,
                              const double *weight, double *to, mbp_error *error) {
    const mbp_array *given = batch->element_weights ? &batch->element_weights[i] : NULL;
    if (given && given->data) {
        read_column(given, j, rows, to);
        for (int64_t r = 0; r < rows.count; r++)
            if (!is_weight(to[r]) && !is_zero(weight[r]))
                return fail_element(i, mbp_row_number(rows, r), given->cols == 1 ? 0 : j, to[r], error);
        for (int64_t r = 0; r < rows.count; r++)
            to[r] = is_zero(weight[r]) ? 0 : weight[r] * to[r];
    } else
        memcpy(to, weight, (size_t)rows.count * sizeof *to);
    if (t->objective[i].missing)
        drop_missing(t, i, &batch->y[i], j, rows, to);
    const int32_t *valid = mbp_valid_of(t->workspace, t->net->output[i].node);
    for (int64_t r = 0; r < rows.count && valid; r++)
        if ((mbp_trainer_positions(t, i) > 1 ? j : 0) >= valid[r])
            to[r] = 0;
    return MBP_OK;
}

/* Sets the weight of a row to 0 if it is absent in every output whose loss weight is not 0. *zeros: whether a weight
 * is 0. */
static mbp_status drop_absent(const mbp_trainer *t, const mbp_batch *batch, mbp_selection rows, double *weight,
                              int *zeros, mbp_error *error) {
    double *seen = t->workspace->column[0], *column = t->workspace->column[1];
    mbp_status status = MBP_OK;
    int read = 0;
    memset(seen, 0, (size_t)rows.count * sizeof *seen);
    for (int i = 0; i < t->net->outputs; i++) {
        if (t->objective[i].weight != 0 && !has_own(t, batch, i))
            return MBP_OK; /* every row is there in this output */
        for (int64_t j = 0; has_own(t, batch, i) && j < weight_columns(t, i) && status == MBP_OK; j++) {
            status = load_column(t, batch, i, j, rows, weight, column, error);
            for (int64_t r = 0; r < rows.count && status == MBP_OK; r++)
                seen[r] = is_zero(column[r]) ? seen[r] : 1;
            read = 1;
        }
    }
    for (int64_t r = 0; r < rows.count && read && status == MBP_OK; r++)
        if (is_zero(seen[r])) {
            weight[r] = 0;
            *zeros = 1;
        }
    return status;
}

/* The sum over the rows of the mean of their weights. */
static double own_total(const mbp_workspace *w, const mbp_own *own, int64_t rows) {
    const double *weight = own->columns ? own->at : w->weight;
    double total = 0;
    for (int64_t r = 0; r < rows; r++) {
        double sum = weight[r];
        for (int64_t j = 1; j < own->columns; j++)
            sum += weight[j * w->rows + r];
        total += own->columns > 1 ? sum / (double)own->columns : sum;
    }
    return total;
}

static mbp_status check_own_total(const mbp_workspace *w, int i, int64_t rows, double total, mbp_error *error) {
    const mbp_own *own = &w->own[i];
    int any = 0;
    for (int64_t j = 0; j < own->columns; j++)
        for (int64_t r = 0; r < rows; r++)
            any |= !is_zero(own->at[j * w->rows + r]);
    if (!any || (total > 0 && !isinf(total)))
        return MBP_OK;
    char number[MBP_NUMBER_SIZE];
    mbp_print_float(number, total);
    return mbp_fail(error, MBP_INVALID,
                    "the weights of output %d in a batch sum to %s, but the sum must be finite and above 0", i, number);
}

/* Loads the weights of the i-th output for the chosen rows, whose own weights are in the workspace, and sets its
 * total. */
static mbp_status load_own(const mbp_trainer *t, const mbp_batch *batch, int i, mbp_selection rows, mbp_error *error) {
    mbp_workspace *w = t->workspace;
    mbp_own *own = &w->own[i];
    mbp_objective *objective = &t->objective[i];
    mbp_status status = MBP_OK;
    int64_t different = 0;
    own->columns = has_own(t, batch, i) ? weight_columns(t, i) : 0;
    for (int64_t j = 0; j < own->columns && status == MBP_OK; j++) {
        status = load_column(t, batch, i, j, rows, w->weight, own->at + j * w->rows, error);
        different |= memcmp(own->at + j * w->rows, own->at, (size_t)rows.count * sizeof *own->at) != 0;
    }
    if (status != MBP_OK)
        return status;
    if (own->columns > 1 && !different)
        own->columns = 1;
    objective->total = objective->joint = objective->divisor = own_total(w, own, rows.count);
    return check_own_total(w, i, rows.count, objective->total, error);
}

mbp_status mbp_rows_next(const mbp_trainer *t, const mbp_batch *batch, mbp_batch_cursor *from, int64_t limit,
                         mbp_chosen *chosen, mbp_error *error) {
    mbp_workspace *w = t->workspace;
    const int64_t first = from->at, most = from->end - first < limit ? from->end - first : limit;
    int64_t count = 0;
    if (!MICROBP_SMALL && !batch->weight && !from->index && !mbp_batch_needs(t, batch)) {
        for (int64_t r = 0; r < most; r++)
            w->weight[r] = 1;
        *chosen = (mbp_chosen){{NULL, first, most}, (double)most};
        mbp_lengths_load(t->net, w, NULL, NULL);
        from->at += most;
        return MBP_OK;
    }
    int listed = from->index != NULL, zeros = 0;
    while (count < limit && from->at < from->end) {
        const int64_t left = from->end - from->at, n = left < limit - count ? left : limit - count;
        const mbp_selection next = {from->index ? w->chosen : NULL, from->index ? count : from->at, n};
        mbp_status status = from->index ? copy_numbers(from, w->chosen + count, n, batch->x[0].rows, error) : MBP_OK;
        if (status == MBP_OK)
            status = load_weights(batch->weight, next, w->weight + count, &zeros, error);
        if (status == MBP_OK) /* else the row numbers may be wrong */
            mbp_lengths_load(t->net, w, batch->lengths, &next);
        if (mbp_goes_on(batch))
            zeros = 0;
        else if (status == MBP_OK && mbp_batch_needs(t, batch))
            status = drop_absent(t, batch, next, w->weight + count, &zeros, error);
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
    mbp_lengths_load(t->net, w, batch->lengths, &chosen->rows);
    const int is_sum = batch->weight &&
                       !(MICROBP_GAPS && mbp_goes_on(batch)); /* else outputs have totals of their own */
    for (int64_t r = 0; r < count && is_sum; r++)
        chosen->total += w->weight[r];
    if (!is_sum)
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

mbp_status mbp_target_column(const mbp_trainer *t, const mbp_batch *batch, int i, int64_t j, const mbp_selection *rows,
                             double *value, double *weight, int64_t *count, mbp_error *error) {
    const double *of_rows = t->workspace->weight;
    const int own = has_own(t, batch, i);
    const int64_t column = weight_columns(t, i) == 1 ? 0 : j;
    mbp_status status = own ? load_column(t, batch, i, column, *rows, of_rows, weight, error) : MBP_OK;
    *count = 0;
    if (status != MBP_OK)
        return status;
    read_column(&batch->y[i], j, *rows, value);
    for (int64_t r = 0; r < rows->count; r++)
        if (!own || !is_zero(weight[r]))
            value[(*count)++] = value[r];
    return MBP_OK;
}

/* Loads the targets of an output that scales them: (target - mean) / std, rounded once. */
static void load_scaled(const mbp_trainer *t, int i, const mbp_array *y, const mbp_selection *rows) {
    enum { CHUNK = 64 };
    const mbp_view target = t->workspace->target[i];
    const double *mean = mbp_scale_of(t->net, i), *std = mean + mbp_output_width(t->net, i);
    double value[CHUNK];
    for (int64_t j = 0; j < t->objective[i].width; j++)
        for (int64_t r = 0; r < rows->count; r += CHUNK) {
            const int64_t n = rows->count - r < CHUNK ? rows->count - r : CHUNK, at = r * target.ld + j;
            read_column(y, j, (mbp_selection){rows->index, rows->first + r, n}, value);
            for (int64_t k = 0; k < n; k++)
                if (t->net->dtype == MBP_F64)
                    ((double *)target.at)[at + k * target.ld] = (value[k] - mean[j]) / std[j];
                else
                    ((float *)target.at)[at + k * target.ld] = (float)((value[k] - mean[j]) / std[j]);
        }
}

/* Loads the targets of several positions: a matrix with a row for each position. */
static void load_positions(const mbp_trainer *t, int i, const mbp_array *y, const mbp_selection *rows) {
    mbp_view *target = &t->workspace->target[i];
    if (!mbp_array_in_place(y, rows, t->net->dtype, target) || (target->ld != y->cols && rows->count > 1)) {
        *target = (mbp_view){t->workspace->target_home[i].at, y->cols};
        mbp_gather(t->net, y, *rows, *target);
    }
    target->ld = t->objective[i].width;
}

mbp_status mbp_targets_load(const mbp_trainer *trainer, const mbp_batch *batch, const mbp_selection *rows,
                            mbp_error *error) {
    const mbp_net *net = trainer->net;
    mbp_workspace *w = trainer->workspace;
    mbp_status status = MBP_OK;
    w->weighted = mbp_batch_needs(trainer, batch) != 0;
    for (int i = 0; i < net->outputs && mbp_is_weighted(w) && status == MBP_OK; i++)
        status = load_own(trainer, batch, i, *rows, error);
    for (int i = 0; i < net->outputs && status == MBP_OK; i++) {
        const mbp_array *y = &batch->y[i];
        if (trainer->objective[i].weight == 0)
            continue;
        w->target[i] = w->target_home[i];
        if (are_labels(trainer, i, y)) {
            status = load_labels(trainer, i, y, *rows, error);
            continue;
        }
        if (mbp_trainer_positions(trainer, i) > 1)
            load_positions(trainer, i, y, rows);
        else if (mbp_scale_of(net, i))
            load_scaled(trainer, i, y, rows);
        else if (!mbp_array_in_place(y, rows, net->dtype, &w->target[i]))
            mbp_gather(net, y, *rows, w->target[i]);
        status = check_targets(trainer, i, rows, error);
    }
    return status;
}
