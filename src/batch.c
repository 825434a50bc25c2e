/* Floor 4: the caller's arrays, checked against the network and brought into a workspace. */
#include "net.h"

#include <math.h>
#include <string.h>

static mbp_status check_count(const char *what, const void *arrays, int given, int expected, mbp_error *error) {
    if (given != expected || !arrays)
        return mbp_fail(error, MBP_INVALID, "%d %s arrays are given, but the network has %d", arrays ? given : 0, what, expected);
    return MBP_OK;
}

mbp_status mbp_inputs_check(const mbp_net *net, const mbp_array *x, int n_x, int64_t *rows, mbp_error *error) {
    mbp_status status = check_count("input", x, n_x, net->inputs, error);
    *rows = n_x && x ? x[0].rows : 0;
    for (int i = 0; i < net->inputs && status == MBP_OK; i++)
        status = mbp_array_check(&x[i], "input", i, *rows, mbp_net_input_width(net, i), error);
    return status;
}

static int is_integer(mbp_dtype dtype) { return dtype >= MBP_I8; }

/* Whether the i-th output's targets are labels: one integer a row for several outputs. */
static int are_labels(const mbp_trainer *trainer, int i, const mbp_array *y) {
    return trainer->objective[i].labels && is_integer(y->dtype) && y->cols == 1;
}

mbp_status mbp_batch_check(const mbp_trainer *trainer, const mbp_batch *batch, int64_t *rows, mbp_error *error) {
    const mbp_net *net = trainer->net;
    mbp_status status = mbp_inputs_check(net, batch->x, batch->n_x, rows, error);
    if (status == MBP_OK && *rows == 0)
        status = mbp_fail(error, MBP_INVALID, "the batch has no rows");
    if (status == MBP_OK)
        status = check_count("target", batch->y, batch->n_y, net->outputs, error);
    for (int i = 0; i < net->outputs && status == MBP_OK; i++) {
        if (trainer->objective[i].loss.row < 0)
            return mbp_fail(error, MBP_INVALID, "output %d has no loss: use forward, then backward_from with your own gradient", i);
        const int64_t cols = are_labels(trainer, i, &batch->y[i]) ? 1 : mbp_net_output_width(net, i);
        status = mbp_array_check(&batch->y[i], "target", i, *rows, cols, error);
    }
    if (status == MBP_OK && batch->weight)
        status = mbp_array_check(batch->weight, "row weight", 0, *rows, 1, error);
    return status;
}

/* Rows of a caller's array on their way into the workspace. */
typedef struct gather_job {
    const mbp_array *array;
    mbp_selection rows;
    mbp_dtype dtype;
    mbp_view to;
    size_t item;
    int64_t piece_rows;
} gather_job;

static void run_gather(void *context, int64_t first, int64_t last, int thread) {
    const gather_job *job = context;
    const int64_t row = first * job->piece_rows, left = job->rows.count - row, count = (last - first) * job->piece_rows;
    const mbp_selection rows = {job->rows.index, job->rows.first + row, count < left ? count : left};
    (void)thread;
    mbp_array_gather(job->array, rows, job->dtype, (mbp_view){(char *)job->to.at + (size_t)(row * job->to.ld) * job->item, job->to.ld});
}

static void gather(const mbp_net *net, const mbp_array *array, mbp_selection rows, mbp_view to) {
    gather_job job = {array, rows, net->dtype, to, net->item, mbp_piece_rows(array->cols)};
    const double work = (double)MBP_ELEMENT_WORK * (double)rows.count * (double)array->cols;
    const int threads = mbp_pool_take(net->pool, mbp_net_threads(net), work);
    mbp_pool_run(net->pool, threads, (rows.count + job.piece_rows - 1) / job.piece_rows, run_gather, &job);
}

void mbp_inputs_load(const mbp_net *net, mbp_workspace *w, const mbp_array *x, mbp_selection rows) {
    memcpy(w->value, w->home, (size_t)net->nodes * sizeof(mbp_view));
    for (int i = 0; i < net->inputs; i++) {
        const int id = net->input_nodes[i];
        if (net->node[id].reached && !mbp_array_in_place(&x[i], rows, net->dtype, &w->value[id]))
            gather(net, &x[i], rows, w->home[id]);
    }
}

/* The caller's number of the r-th selected row. */
static int64_t row_number(mbp_selection rows, int64_t r) { return rows.index ? rows.index[rows.first + r] : rows.first + r; }

static mbp_status fail_row(mbp_error *error, int64_t row, mbp_status status) {
    if (error)
        error->row = row;
    return status;
}

static mbp_status load_labels(mbp_workspace *w, int i, const mbp_array *y, int64_t classes, mbp_selection rows, mbp_error *error) {
    w->target[i].at = NULL;
    mbp_array_gather(y, rows, MBP_I64, (mbp_view){w->labels[i], 1});
    for (int64_t r = 0; r < rows.count; r++)
        if (w->labels[i][r] < 0 || w->labels[i][r] >= classes)
            return fail_row(error, row_number(rows, r),
                            mbp_fail(error, MBP_INVALID, "target %d, row %lld: label %lld is not in 0..%lld", i, (long long)row_number(rows, r),
                                     (long long)w->labels[i][r], (long long)classes - 1));
    return MBP_OK;
}

static int target_is_wrong(const mbp_objective *objective, double t) {
    if (objective->signs)
        return t != -1 && t != 1 && !isnan(t);
    return !isnan(t) && !mbp_interval_has(objective->targets, t);
}

/* NaN passes: it makes the loss NaN, which is refused with the step named. */
static mbp_status check_targets(const mbp_trainer *trainer, int i, mbp_selection rows, mbp_error *error) {
    const mbp_objective *objective = &trainer->objective[i];
    const mbp_view target = trainer->workspace->target[i];
    const int64_t n = mbp_net_output_width(trainer->net, i);
    if (!objective->signs && isinf(objective->targets.low) && isinf(objective->targets.high))
        return MBP_OK;
    for (int64_t r = 0; r < rows.count; r++)
        for (int64_t j = 0; j < n; j++) {
            const int64_t at = r * target.ld + j;
            const double t = trainer->net->dtype == MBP_F64 ? ((const double *)target.at)[at] : (double)((const float *)target.at)[at];
            if (target_is_wrong(objective, t))
                return fail_row(error, row_number(rows, r),
                                mbp_fail(error, MBP_INVALID, "target %d, row %lld, column %lld is not in %s, as %s needs", i,
                                         (long long)row_number(rows, r), (long long)j,
                                         objective->signs ? "{-1, 1}" : objective->labels ? "[0, 1]" : mbp_loss_targets(objective->loss.row),
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

void mbp_mean_add(mbp_mean *mean, double sum, double total) {
    mean->sum += sum;
    mean->total += total;
    mean->value = mean->sum / mean->total;
}

mbp_status mbp_targets_load(const mbp_trainer *trainer, const mbp_batch *batch, mbp_selection rows, double *total, mbp_error *error) {
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
            gather(net, y, rows, w->target[i]);
        status = check_targets(trainer, i, rows, error);
    }
    return status;
}
