/* An epoch: one step after the other on mini-batches, whose rows are given by an array of row numbers. */
#include "formulas/random.h"
#include "passes/pass.h"
#include "system/text.h"
#include "train/loss.h"
#include "train/step.h"

typedef struct epoch {
    mbp_trainer *trainer;
    mbp_batch data;
    const int64_t *index;
    int64_t n, batch_rows;
    const double *lr;
    mbp_poll poll;
    void *user;
    mbp_error *error;
} epoch;

static mbp_status check_index(const epoch *e, int64_t rows) {
    if (!e->index && e->n > rows)
        return mbp_fail(e->error, MBP_INVALID, "n is %lld, but the data has %lld row%s", (long long)e->n,
                        (long long)rows, mbp_plural(rows));
    for (int64_t i = 0; e->index && i < e->n; i++)
        if (e->index[i] < 0 || e->index[i] >= rows)
            return mbp_fail(e->error, MBP_INVALID, "index[%lld] is %lld, but must be a row number from 0 to %lld",
                            (long long)i, (long long)e->index[i], (long long)rows - 1);
    return MBP_OK;
}

static mbp_status check_rates(const epoch *e) {
    const char *parameters = mbp_formula_parameters(MBP_OPTIMIZER, e->trainer->optimizer.row);
    mbp_status status = MBP_OK;
    for (int64_t first = 0, s = 0; e->lr && first < e->n && status == MBP_OK; first += e->batch_rows, s++)
        status = mbp_parameter_check(parameters, 0, e->lr[s], e->error);
    return status;
}

static mbp_selection batch_rows_at(const epoch *e, int64_t first) {
    const int64_t left = e->n - first;
    return (mbp_selection){e->index, first, left < e->batch_rows ? left : e->batch_rows};
}

/* Checks every batch's targets and row weights, so that a bad one is refused before the first step. */
static mbp_status check_targets(const epoch *e) {
    mbp_status status = MBP_OK;
    double total;
    for (int64_t first = 0; first < e->n && status == MBP_OK; first += e->batch_rows) {
        status = mbp_targets_load(e->trainer, &e->data, batch_rows_at(e, first), &total, e->error);
        if (status == MBP_OK)
            status = mbp_total_check(total, e->error);
    }
    return status;
}

/* Checks everything that can be refused, and makes room for the largest batch. */
static mbp_status check(epoch *e, const mbp_batch *given) {
    int64_t rows;
    mbp_status status = mbp_batch_check(e->trainer, given, &e->data, &rows, e->error);
    if (status != MBP_OK)
        return status;
    if (e->n < 1 || e->batch_rows < 1)
        return mbp_fail(e->error, MBP_INVALID, "%s is %lld, but must be at least 1", e->n < 1 ? "n" : "batch_rows",
                        (long long)(e->n < 1 ? e->n : e->batch_rows));
    const int64_t last = e->n % e->batch_rows, largest = e->n < e->batch_rows ? e->n : e->batch_rows;
    status = mbp_statistics_check(e->trainer->net, last ? last : e->batch_rows, e->error);
    if (status == MBP_OK)
        status = check_index(e, rows);
    if (status == MBP_OK)
        status = check_rates(e);
    if (status == MBP_OK)
        status = mbp_trainer_reserve(e->trainer, largest, MBP_TARGETS | MBP_DELTAS, e->error);
    return status == MBP_OK ? check_targets(e) : status;
}

/* poll runs in the caller's floating-point state. */
static int is_cancelled(const epoch *e) {
    if (!e->poll)
        return 0;
    mbp_float_leave(e->trainer->floats);
    const int cancelled = e->poll(e->user) != 0;
    e->trainer->floats = mbp_float_enter(MBP_FLUSH_SUBNORMALS);
    return cancelled;
}

static mbp_status run(const epoch *e, mbp_mean *mean, int64_t *steps) {
    double loss, total;
    for (int64_t first = 0; first < e->n; first += e->batch_rows, ++*steps) {
        if (is_cancelled(e))
            return mbp_fail(e->error, MBP_CANCELLED, "cancelled after %lld step%s of the epoch", (long long)*steps,
                            mbp_plural(*steps));
        e->trainer->rate = e->lr ? &e->lr[*steps] : NULL;
        mbp_status status = mbp_step_rows(e->trainer, &e->data, batch_rows_at(e, first), &loss, &total, e->error);
        if (status != MBP_OK) {
            if (e->error)
                e->error->step = *steps;
            return status;
        }
        mbp_mean_add(mean, loss * total, total);
    }
    return MBP_OK;
}

static MBP_APART mbp_status train(epoch *e, const mbp_batch *given, double *loss, int64_t *steps) {
    mbp_mean mean = {0};
    mbp_status status = check(e, given);
    if (status == MBP_OK)
        status = run(e, &mean, steps);
    e->trainer->rate = NULL;
    if (status == MBP_OK || (status == MBP_CANCELLED && *steps > 0))
        *loss = mean.value;
    return status;
}

mbp_status mbp_trainer_epoch(mbp_trainer *trainer, const mbp_batch *data, const int64_t *index, int64_t n,
                             int64_t batch_rows, const double *lr, mbp_poll poll, void *user, double *loss,
                             int64_t *steps, mbp_error *error) {
    epoch e = {trainer, {0}, index, n, batch_rows, lr, poll, user, error};
    if (!data)
        return mbp_fail_null(error, "data", MBP_A_BATCH);
    if (!loss)
        return mbp_fail_null(error, "loss", MBP_A_LOSS);
    if (!steps)
        return mbp_fail_null(error, "steps", "an int64_t, where the number of steps is stored");
    *steps = 0;
    mbp_status status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, train(&e, data, loss, steps)) : status;
}

void mbp_permutation(uint64_t seed, int purpose, uint64_t instance, int64_t n, int64_t *order) {
    if (order)
        mbp_fill_permutation(seed, (uint32_t)purpose, instance, n, order);
}
