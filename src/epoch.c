/* Floor 5: an epoch: minibatches by an index array, one step after the other, without a look back. */
#include "net.h"
#include "random.h"

typedef struct epoch {
    mbp_trainer *trainer;
    const mbp_batch *data;
    const int64_t *index;
    int64_t n, batch_rows;
    const double *lr;
    mbp_poll poll;
    void *user;
} epoch;

static mbp_status check_index(const int64_t *index, int64_t n, int64_t rows, mbp_error *error) {
    if (!index && n > rows)
        return mbp_fail(error, MBP_INVALID, "%lld rows are asked for, but the data has %lld", (long long)n, (long long)rows);
    for (int64_t i = 0; index && i < n; i++)
        if (index[i] < 0 || index[i] >= rows)
            return mbp_fail(error, MBP_INVALID, "index %lld is row %lld, but the data has %lld rows", (long long)i, (long long)index[i],
                            (long long)rows);
    return MBP_OK;
}

static mbp_status check_rates(const epoch *e, mbp_error *error) {
    const char *parameters = mbp_formula_parameters(MBP_OPTIMIZER, e->trainer->optimizer.row);
    mbp_status status = MBP_OK;
    for (int64_t first = 0, s = 0; e->lr && first < e->n && status == MBP_OK; first += e->batch_rows, s++)
        status = mbp_parameter_check(parameters, 0, e->lr[s], error);
    return status;
}

static mbp_selection batch_rows_at(const epoch *e, int64_t first) {
    const int64_t left = e->n - first;
    return (mbp_selection){e->index, first, left < e->batch_rows ? left : e->batch_rows};
}

/* Every batch's targets and row weights, before the first step, so that a bad one is refused with nothing changed. */
static mbp_status check_targets(const epoch *e, mbp_error *error) {
    mbp_status status = MBP_OK;
    double total;
    for (int64_t first = 0; first < e->n && status == MBP_OK; first += e->batch_rows)
        status = mbp_targets_load(e->trainer, e->data, batch_rows_at(e, first), &total, error);
    return status;
}

static mbp_status prepare(const epoch *e, mbp_error *error) {
    int64_t rows;
    mbp_status status = mbp_batch_check(e->trainer, e->data, &rows, error);
    if (status != MBP_OK)
        return status;
    if (e->n < 1 || e->batch_rows < 1)
        return mbp_fail(error, MBP_INVALID, "an epoch needs at least one row, and batches of at least one");
    status = check_index(e->index, e->n, rows, error);
    if (status == MBP_OK)
        status = check_rates(e, error);
    if (status == MBP_OK)
        status = mbp_workspace_reserve(e->trainer->net, &e->trainer->workspace, e->n < e->batch_rows ? e->n : e->batch_rows,
                                       MBP_TARGETS | MBP_DELTAS, error);
    if (status == MBP_OK)
        status = check_targets(e, error);
    return status;
}

static mbp_status run(const epoch *e, double *loss, int64_t *steps, mbp_error *error) {
    double sum = 0, weights = 0, batch_loss, total;
    for (int64_t first = 0; first < e->n; first += e->batch_rows, ++*steps) {
        if (e->poll && e->poll(e->user))
            return mbp_fail(error, MBP_CANCELLED, "cancelled after %lld steps of the epoch", (long long)*steps);
        if (e->lr)
            e->trainer->optimizer.parameters[0] = e->lr[*steps];
        mbp_status status = mbp_step_rows(e->trainer, e->data, batch_rows_at(e, first), &batch_loss, &total, error);
        if (status != MBP_OK) {
            if (error)
                error->step = *steps;
            return status;
        }
        sum += batch_loss * total;
        weights += total;
    }
    *loss = sum / weights;
    return MBP_OK;
}

mbp_status mbp_trainer_epoch(mbp_trainer *trainer, const mbp_batch *data, const int64_t *index, int64_t n, int64_t batch_rows, const double *lr,
                             mbp_poll poll, void *user, double *loss, int64_t *steps, mbp_error *error) {
    const epoch e = {trainer, data, index, n, batch_rows, lr, poll, user};
    mbp_status status = mbp_trainer_enter(trainer, error);
    if (status != MBP_OK)
        return status;
    *steps = 0;
    status = prepare(&e, error);
    if (status == MBP_OK)
        status = run(&e, loss, steps, error);
    return mbp_trainer_leave(trainer, status);
}

void mbp_permutation(uint64_t seed, int purpose, uint64_t instance, int64_t n, int64_t *order) {
    mbp_fill_permutation(seed, (uint32_t)purpose, instance, n, order);
}
