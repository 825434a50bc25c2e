/* An epoch: one step after the other on mini-batches, whose rows are given by an array of row numbers. */
#include <float.h>

#include "formulas/random.h"
#include "passes/plan/pass.h"
#include "system/text.h"
#include "train/loss.h"
#include "train/steps/step.h"

typedef struct epoch {
    mbp_trainer *trainer;
    const int64_t *index;
    int64_t n, batch_rows, steps; /* steps: how many there will be; rows of weight 0 are passed over */
    const double *lr;
    mbp_poll poll;
    void *user;
    mbp_error *error;
    mbp_batch data; /* last: the code is smaller with the others near the start */
} epoch;

static mbp_status check_index(const epoch *e, int64_t rows) {
    if (!e->index && e->n > rows)
        return mbp_fail(e->error, MBP_INVALID, "n is %lld, but the data has %lld row%s", (long long)e->n,
                        (long long)rows, mbp_plural(rows));
    return e->index ? mbp_index_check(e->index, e->n, 0, rows, e->error) : MBP_OK;
}

static mbp_status check_rate(const epoch *e, double rate) {
    if (rate > 0 && rate <= DBL_MAX) /* what every optimizer accepts */
        return MBP_OK;
    return mbp_parameter_check(mbp_formula_parameters(MBP_OPTIMIZER, e->trainer->optimizer.row), 0, rate, e->error);
}

static mbp_status check_rates(const epoch *e) {
    mbp_status status = MBP_OK;
    for (int64_t s = 0; e->lr && s < e->steps && status == MBP_OK; s++)
        status = check_rate(e, e->lr[s]);
    return status;
}

/* Checks every batch's row weights and targets, so that a bad one is refused before the first step. Counts the
 * steps. */
static mbp_status check_batches(epoch *e) {
    mbp_batch_cursor from = {e->index, 0, e->n};
    mbp_chosen chosen;
    mbp_status status = MBP_OK;
    while (status == MBP_OK && from.at < e->n) {
        status = mbp_step_load(e->trainer, &e->data, &from, e->batch_rows, e->steps > 0 || mbp_ranks_of(e->trainer),
                               &chosen, e->error);
        e->steps += status == MBP_OK && chosen.rows.count > 0;
    }
    return status;
}

/* Checks everything that can be refused, and makes room for the largest batch. */
static mbp_status check(epoch *e, const mbp_batch *given) {
    const int least = mbp_ranks_of(e->trainer) ? 0 : 1; /* other processes may have rows */
    int64_t rows;
    mbp_status status = mbp_batch_check(e->trainer, given, &e->data, &rows, e->error);
    if (MICROBP_SOLVERS && status == MBP_OK)
        status = mbp_solver_refuse(e->trainer, "an epoch in batches", e->error);
    if (status == MBP_OK)
        status = mbp_batch_refuse_state(&e->data, e->error);
    if (status == MBP_OK && rows == 0 && least)
        status = mbp_total_check(0, 0, 0, e->error);
    if (status != MBP_OK)
        return status;
    if (e->n < least)
        return mbp_fail(e->error, MBP_INVALID, "n is %lld, but must be at least %d", (long long)e->n, least);
    if (e->batch_rows < 1)
        return mbp_fail(e->error, MBP_INVALID, "batch_rows is %lld, but must be at least 1", (long long)e->batch_rows);
    status = check_index(e, rows);
    if (status == MBP_OK)
        status = mbp_trainer_make_room(e->trainer, e->n < e->batch_rows ? e->n : e->batch_rows,
                                       MBP_TARGETS | MBP_DELTAS | mbp_batch_needs(e->trainer, &e->data), e->data.x,
                                       e->error);
    if (status == MBP_OK)
        status = check_batches(e);
    return status == MBP_OK ? check_rates(e) : status;
}

static MBP_APART mbp_status ask_poll(const epoch *e, int64_t step) {
    mbp_guest_enter(e->trainer);
    const int cancelled = e->poll(e->user);
    mbp_guest_leave(e->trainer);
    if (!cancelled)
        return MBP_OK;
    return mbp_fail(e->error, MBP_CANCELLED, "cancelled after %lld step%s of the epoch", (long long)step,
                    mbp_plural(step));
}

/* Reads the step's learning rate once, and checks it again: another thread may change the caller's array. */
static mbp_status read_rate(const epoch *e, int64_t step, double *rate) {
    e->trainer->rate = NULL;
    if (!e->lr)
        return MBP_OK;
    *rate = mbp_see_number(&e->lr[step]);
    e->trainer->rate = rate;
    return check_rate(e, *rate);
}

/* Loads the rows and the rate of the next step and joins the rows with those of other processes. */
static mbp_status next(const epoch *e, mbp_batch_cursor *from, int64_t step, mbp_chosen *chosen, mbp_joint *joint,
                       double *rate) {
    mbp_trainer *t = e->trainer;
    mbp_status status = e->poll ? ask_poll(e, step) : MBP_OK;
    if (status == MBP_OK)
        status = read_rate(e, step, rate);
    if (status == MBP_OK)
        status = mbp_step_load(t, &e->data, from, e->batch_rows, mbp_ranks_of(t) != NULL, chosen, e->error);
    status = mbp_sparse_ask(t, status, e->data.x, 0, e->error);
    return mbp_step_join(t, status, chosen, 1, joint, e->error);
}

static mbp_status run(const epoch *e, mbp_mean *mean, int64_t *steps) {
    mbp_batch_cursor from = {e->index, 0, e->n};
    mbp_chosen chosen;
    mbp_joint joint;
    double loss, rate;
    for (; *steps < e->steps; ++*steps) {
        mbp_status status = next(e, &from, *steps, &chosen, &joint, &rate);
        if (status == MBP_OK)
            status = mbp_step_rows(e->trainer, &e->data, &chosen, &joint, &loss, e->error);
        if (mbp_ranks_of(e->trainer))
            status = e->trainer->together->end_step(e->trainer, status, e->error);
        if (status != MBP_OK) {
            if (e->error && status != MBP_CANCELLED)
                e->error->step = *steps;
            return status;
        }
        if (joint.rows > 0) {
            mbp_mean_add(mean, joint.rows, loss * joint.total, joint.total);
            mbp_outputs_add(e->trainer, joint.total);
        }
    }
    return mbp_ranks_of(e->trainer) ? e->trainer->together->end_epoch(e->trainer, mean, e->error) : MBP_OK;
}

static MBP_APART mbp_status train(epoch *e, const mbp_batch *given, double *loss, int64_t *steps) {
    mbp_mean mean = {0};
    mbp_status status = check(e, given);
    if (mbp_ranks_of(e->trainer)) /* steps until all processes are out of rows */
        status = e->trainer->together->most(e->trainer, status, &e->steps, e->error);
    if (status == MBP_OK) {
        mbp_trainer_forget(e->trainer);
        mbp_outputs_start(e->trainer);
        status = run(e, &mean, steps);
    }
    e->trainer->rate = NULL;
    (void)mbp_net_settle(e->trainer->net, NULL); /* this thread holds the net */
    if (status == MBP_OK || (status == MBP_CANCELLED && *steps > 0))
        *loss = mbp_outputs_keep_mean(e->trainer, &mean);
    return status;
}

mbp_status mbp_trainer_epoch(mbp_trainer *trainer, const mbp_batch *data, const int64_t *index, int64_t n,
                             int64_t batch_rows, const double *lr, mbp_poll poll, void *user, double *loss,
                             int64_t *steps, mbp_error *error) {
    epoch e = {trainer, index, n, batch_rows, 0, lr, poll, user, error, {0}};
    if (!data)
        return mbp_fail_null(error, "data", MBP_A_BATCH);
    if (!loss)
        return mbp_fail_null(error, "loss", MBP_A_LOSS);
    if (!steps)
        return mbp_fail_null(error, "steps", "an int64_t, where the number of steps is stored");
    *steps = 0;
    mbp_status status = mbp_trainer_enter_training(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, train(&e, data, loss, steps)) : status;
}

void mbp_permutation(uint64_t seed, mbp_purpose purpose, uint64_t instance, int64_t n, int64_t *order) {
    if (order)
        mbp_fill_permutation(seed, (uint32_t)purpose, instance, n, order);
}
