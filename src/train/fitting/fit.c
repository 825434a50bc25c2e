/* mbp_trainer_fit: epochs, each with its order of rows, validation, early stopping and a callback. The net is held from
 * beginning to end; each epoch is a call of mbp_trainer_epoch and one of mbp_trainer_evaluate.
 *
 *     prepare      checks everything and takes all memory
 *     run          one epoch after the other; `judge` copies the state after an epoch that is the best so far
 *     restore      copies the best state back */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "passes/plan/pass.h"
#include "system/sized.h"
#include "system/text.h"
#include "train/fitting/ends.h"
#include "train/fitting/standardize.h"
#include "train/loss.h"
#include "train/solving.h"
#include "train/steps/step.h"

enum { DEFAULT_BATCH_ROWS = 32 };

/* A copy of what steps change. Its vectors are in the memory of the fit. */
typedef struct state {
    char *net, *trainer, *average;
    mbp_running running;
    double optimizer[MBP_PARAMETERS_MAX], dropout;
    int64_t average_count, epoch;
    double *solver; /* its state */
    int64_t solver_count;
} state;

typedef struct fit {
    mbp_trainer *trainer;
    const mbp_batch *data;
    mbp_record *record; /* the caller's, or NULL */
    mbp_fit how;
    int64_t rows, count;     /* of the data: in all, and with a weight above 0 */
    double validation_total; /* the sum of the weights of the validation rows */
    int validation_weighted; /* whether their outputs have weights of their own */
    int joined_weighted;     /* the same in any process */
    char *memory;
    size_t bytes;
    int64_t *present, *order; /* the numbers of the rows with a weight above 0; the order of these in an epoch */
    int64_t room;             /* rows in the workspace */
    double *numbers;          /* for mbp_standardize, ...; NULL: no statistics are to be set */
    char *buffers;            /* the net's before they are set */
    char *scaled;             /* per output: whether the fit has set its mean and std */
    state best;
    double best_loss;
    int64_t best_epoch;
    mbp_record best_record, last;
    const char *reason; /* NULL: nothing has ended the fit yet */
    int64_t began;      /* by the clock */
    mbp_error *error;
} fit;

/* ---- prepare ---- */

static mbp_status check_how(fit *f, const mbp_fit *how) {
    mbp_status status = mbp_sized_read(&f->how, sizeof f->how, how, "mbp_fit", f->error);
    const mbp_fit *h = &f->how;
    if (status == MBP_OK && h->epochs < 1)
        return mbp_fail(f->error, MBP_INVALID, "how.epochs is %lld, but must be at least 1", (long long)h->epochs);
    if (status == MBP_OK && (h->batch_rows < 0 || h->patience < 0))
        return mbp_fail(f->error, MBP_INVALID, "how.%s is %lld, but must be at least 0",
                        h->batch_rows < 0 ? "batch_rows" : "patience",
                        (long long)(h->batch_rows < 0 ? h->batch_rows : h->patience));
    if (status == MBP_OK && !(h->min_delta >= 0 && h->min_delta < INFINITY))
        return mbp_fail(f->error, MBP_INVALID, "how.min_delta must be finite and at least 0");
    if (status == MBP_OK && h->patience > 0 && !h->validation)
        return mbp_fail(f->error, MBP_INVALID, "how.patience needs how.validation, the rows whose loss is watched");
    if (status == MBP_OK && h->min_delta > 0 && h->patience == 0)
        return mbp_fail(f->error, MBP_INVALID, "how.min_delta needs how.patience, the number of epochs to wait");
    if (status == MBP_OK)
        status = mbp_ends_check(f->trainer, h, f->error);
    if (status == MBP_OK && h->standardize_targets)
        status = mbp_target_scales_check(f->trainer, f->error);
    if (h->batch_rows == 0)
        f->how.batch_rows = mbp_has_solver(f->trainer) ? INT64_MAX : DEFAULT_BATCH_ROWS;
    return status;
}

/* Puts words before an error's text. */
static mbp_status at(mbp_error *error, const char *where, mbp_status status) {
    if (error && status != MBP_OK) {
        const mbp_error inner = *error;
        snprintf(error->text, sizeof error->text, "%s: %.200s", where, inner.text);
    }
    return status;
}

/* Refuses data without rows, unless other processes may have some. */
static mbp_status check_data(const fit *f, const mbp_batch *given, mbp_batch *batch, int64_t *rows) {
    mbp_status status = mbp_batch_check(f->trainer, given, batch, rows, f->error);
    if (status == MBP_OK)
        status = mbp_batch_refuse_state(batch, f->error);
    return status == MBP_OK && *rows == 0 && !mbp_ranks_of(f->trainer) ? mbp_total_check(0, 0, 0, f->error) : status;
}

static int64_t lower(int64_t a, int64_t b) { return a < b ? a : b; }

/* Lists the rows with a weight above 0, as many at a time as the workspace has room for. */
static mbp_status list_rows(fit *f, const mbp_batch *data, int64_t room) {
    mbp_batch_cursor from = {NULL, 0, f->rows};
    mbp_chosen chosen;
    mbp_status status = MBP_OK;
    while (status == MBP_OK && from.at < f->rows) {
        status = mbp_rows_next(f->trainer, data, &from, room, &chosen, f->error);
        for (int64_t r = 0; status == MBP_OK && r < chosen.rows.count; r++)
            f->present[f->count++] = mbp_row_number(chosen.rows, r);
    }
    if (status == MBP_OK && f->count == 0 && !mbp_ranks_of(f->trainer))
        return mbp_total_check(f->rows, 0, 0, f->error);
    return status;
}

/* Returns the part of the memory after *used, which grows; NULL if the memory is not taken yet. */
static void *part(const fit *f, size_t *used, int64_t count, size_t item, int *overflow) {
    size_t bytes;
    void *place = f->memory ? f->memory + *used : NULL;
    *overflow |= __builtin_mul_overflow((size_t)count, item, &bytes);
    *overflow |= __builtin_add_overflow(bytes, (size_t)MBP_ALIGNMENT, &bytes);
    *overflow |= __builtin_add_overflow(*used, mbp_aligned(bytes), used);
    return place;
}

/* Places everything in the memory; returns the bytes that it needs. */
static size_t lay_out(fit *f, int *overflow) {
    const mbp_trainer *t = f->trainer;
    const mbp_net *net = t->net;
    const int64_t kept = f->how.patience ? 1 : 0, averaged = kept && t->average.at ? 1 : 0;
    size_t used = 0;
    f->present = part(f, &used, f->rows, sizeof(int64_t), overflow);
    f->order = part(f, &used, f->how.keep_order ? 0 : f->rows, sizeof(int64_t), overflow);
    const int64_t inputs = mbp_has_unset(net) ? mbp_standardize_numbers(net) : 0,
                  targets = f->how.standardize_targets ? mbp_target_numbers(t, f->room) : 0;
    const int sets = inputs || targets;
    f->numbers = part(f, &used, inputs > targets ? inputs : targets, sizeof(double), overflow);
    f->buffers = part(f, &used, sets ? net->buffers : 0, net->item, overflow);
    f->scaled = part(f, &used, sets ? net->outputs : 0, 1, overflow);
    if (!sets)
        f->numbers = NULL;
    f->best.net = part(f, &used, kept * (net->params + net->buffers), net->item, overflow);
    f->best.trainer = part(f, &used, kept * (1 + t->slot_count) * net->params, net->item, overflow);
    f->best.average = part(f, &used, averaged * (net->params + net->buffers), net->item, overflow);
    if (!averaged)
        f->best.average = NULL;
    f->best.solver = part(f, &used, mbp_has_solver(t) ? kept * mbp_solver_most(t) : 0, sizeof(double), overflow);
    return used;
}

static mbp_status take_memory(fit *f) {
    int overflow = 0;
    f->bytes = lay_out(f, &overflow);
    f->memory = overflow ? NULL : mbp_allocate(mbp_net_allocator(f->trainer->net), f->bytes);
    if (!f->memory)
        return mbp_fail(f->error, MBP_NO_MEMORY, "no memory for a fit on %lld row%s", (long long)f->rows,
                        mbp_plural(f->rows));
    lay_out(f, &overflow);
    return MBP_OK;
}

static mbp_status check_validation(fit *f, const mbp_batch *validation, int64_t rows, int64_t slice) {
    mbp_mean mean = {0};
    mbp_status status = rows > 0 ? mbp_slices_check(f->trainer, validation, rows, slice, &mean, f->error) : MBP_OK;
    f->validation_total = mean.total;
    return at(f->error, "validation", status);
}

/* Takes back what `standardize` has set. */
static void unset(const fit *f) {
    mbp_net *net = f->trainer->net;
    mbp_net_assign(net, NULL, f->buffers, NULL);
    for (int i = 0; i < net->outputs; i++)
        if (f->scaled[i])
            mbp_net_set_output(net, i, "identity", NULL);
}

/* Sets the statistics of standardize layers and the scales of targets that have none yet. */
static mbp_status standardize(const fit *f, const mbp_batch *data) {
    const mbp_trainer *t = f->trainer;
    if (!f->numbers)
        return MBP_OK;
    if (mbp_ranks_of(t))
        return mbp_fail(f->error, MBP_INVALID,
                        "a net with standardize layers or standardize_targets is trained by several processes: call "
                        "mbp_net_standardize first, with the same rows in each, or mbp_net_set_scale");
    if (data->lengths && mbp_has_unset(t->net))
        return mbp_fail(
            f->error, MBP_INVALID,
            "a net with standardize layers is trained on rows with lengths: call mbp_net_standardize first, "
            "with rows of full length");
    mbp_trainer_forget(f->trainer); /* the passes overwrite the values of an earlier forward */
    memcpy(f->buffers, mbp_net_running(t->net), (size_t)t->net->buffers * t->net->item);
    memset(f->scaled, 0, (size_t)t->net->outputs);
    mbp_status status = mbp_standardize(t->net, t->workspace, data->x, f->present, f->count, 1, f->numbers, f->error);
    if (status == MBP_OK && f->how.standardize_targets)
        status = mbp_standardize_targets(t, data, f->present, f->count, f->room, f->numbers, f->scaled, f->error);
    if (status != MBP_OK)
        unset(f);
    return status;
}

/* The targets of the data are checked by the first epoch, before its first step. */
static mbp_status check(fit *f, const mbp_fit *how) {
    const int64_t slice = mbp_slice_rows(f->trainer->net);
    mbp_batch data, validation;
    int64_t tested = 0;
    size_t size;
    mbp_status status = check_how(f, how);
    if (status == MBP_OK && f->record)
        status = mbp_sized_size(&size, sizeof *f->record, f->record, "mbp_record", f->error);
    if (status == MBP_OK)
        status = check_data(f, f->data, &data, &f->rows);
    if (status == MBP_OK && f->how.validation)
        status = at(f->error, "validation", check_data(f, f->how.validation, &validation, &tested));
    if (status != MBP_OK)
        return status;
    const int64_t batch_rows = lower(f->rows, f->how.batch_rows), evaluated = lower(tested, slice);
    const int64_t room = batch_rows > evaluated ? batch_rows : evaluated;
    f->room = room;
    f->validation_weighted = f->how.validation && mbp_batch_needs(f->trainer, &validation);
    const int weights = mbp_batch_needs(f->trainer, &data) |
                        (f->how.validation ? mbp_batch_needs(f->trainer, &validation) : 0);
    status = mbp_trainer_make_room(f->trainer, room, MBP_TARGETS | MBP_DELTAS | weights, data.x, f->error);
    if (status == MBP_OK && f->how.validation)
        status = mbp_trainer_make_room(f->trainer, room, MBP_TARGETS | MBP_DELTAS | weights, validation.x, f->error);
    if (status == MBP_OK)
        status = take_memory(f);
    if (status == MBP_OK)
        status = list_rows(f, &data, room);
    if (status == MBP_OK && f->how.validation)
        status = check_validation(f, &validation, tested, lower(slice, room));
    return status == MBP_OK ? standardize(f, &data) : status;
}

static MBP_APART mbp_status prepare(fit *f, const mbp_fit *how) {
    double weighted[2] = {0, 0};
    mbp_status status = check(f, how);
    weighted[0] = f->validation_weighted;
    status = mbp_join(f->trainer, status, weighted, f->error);
    if (status != MBP_OK)
        return status;
    f->joined_weighted = weighted[0] != 0;
    mbp_trainer_forget(f->trainer);
    return MBP_OK;
}

/* ---- the best state ---- */

static void keep(fit *f) {
    const mbp_trainer *t = f->trainer;
    const mbp_net *net = t->net;
    const size_t vector = (size_t)net->params * net->item, all = vector + (size_t)net->buffers * net->item;
    memcpy(f->best.net, net->block, all);
    memcpy(f->best.trainer, t->grads, vector);
    for (int i = 0; i < t->slot_count; i++)
        memcpy(f->best.trainer + (size_t)(1 + i) * vector, t->slots[i], vector);
    if (f->best.average)
        memcpy(f->best.average, t->average.at, all);
    f->best.running = t->running;
    memcpy(f->best.optimizer, t->optimizer.parameters, sizeof f->best.optimizer);
    f->best.dropout = t->setting[MBP_DROPOUT];
    f->best.average_count = t->average.count;
    f->best.epoch = t->epoch;
    if (mbp_has_solver(t))
        f->best.solver_count = mbp_trainer_solver_state(t, f->best.solver);
}

static void restore(const fit *f) {
    mbp_trainer *t = f->trainer;
    mbp_net *net = t->net;
    const size_t vector = (size_t)net->params * net->item, all = vector + (size_t)net->buffers * net->item;
    mbp_net_assign(net, f->best.net, f->best.net + vector, NULL);
    memcpy(t->grads, f->best.trainer, vector);
    for (int i = 0; i < t->slot_count; i++)
        memcpy(t->slots[i], f->best.trainer + (size_t)(1 + i) * vector, vector);
    if (f->best.average) {
        memcpy(t->average.at, f->best.average, all);
        MBP_PUT(&t->average.count, f->best.average_count);
    }
    mbp_trainer_run(t, &f->best.running);
    for (int i = 0; i < MBP_PARAMETERS_MAX; i++)
        mbp_put_number(&t->optimizer.parameters[i], f->best.optimizer[i]);
    mbp_put_number(&t->setting[MBP_DROPOUT], f->best.dropout);
    MBP_PUT(&t->epoch, f->best.epoch);
    if (mbp_has_solver(t))
        (void)mbp_trainer_set_solver_state(t, f->best.solver, f->best.solver_count, NULL);
}

/* ---- run ---- */

/* The row numbers of the next epoch; NULL: all rows in their order. */
static const int64_t *next_order(fit *f) {
    if (f->how.keep_order)
        return f->count < f->rows ? f->present : NULL;
    mbp_permutation(f->trainer->seed, MBP_SHUFFLE, (uint64_t)f->trainer->epoch, f->count, f->order);
    for (int64_t i = 0; i < f->count; i++)
        f->order[i] = f->present[f->order[i]];
    return f->order;
}

/* The mean loss over the validation rows of all processes, output by output: they have weights of their own. */
static mbp_status join_losses(const fit *f, mbp_status status, double *loss) {
    mbp_trainer *t = f->trainer;
    *loss = 0;
    for (int i = 0; i < t->net->outputs; i++) {
        const mbp_objective *objective = &t->objective[i];
        const int any = f->validation_total > 0 && objective->weight != 0;
        double sums[2] = {any ? objective->sum : 0, !any                     ? 0
                                                    : f->validation_weighted ? objective->whole
                                                                             : f->validation_total};
        status = mbp_join(t, status, sums, f->error);
        if (status == MBP_OK && sums[1] > 0)
            *loss += objective->weight * (sums[0] / sums[1]);
    }
    return status;
}

/* The mean of a loss over the validation rows of all processes. */
static MBP_APART mbp_status join_loss(const fit *f, mbp_status status, double *loss) {
    double sums[2] = {*loss * f->validation_total, f->validation_total};
    if (f->joined_weighted)
        return join_losses(f, status, loss);
    status = mbp_join(f->trainer, status, sums, f->error);
    if (status == MBP_OK && mbp_ranks_of(f->trainer))
        *loss = sums[0] / sums[1];
    return status;
}

static mbp_status validate(const fit *f, double *loss) {
    mbp_trainer *t = f->trainer;
    mbp_status status = MBP_OK;
    *loss = f->how.validation ? 0 : NAN;
    if (!f->how.validation)
        return MBP_OK;
    if (f->validation_total > 0)
        status = mbp_trainer_evaluate(t, f->how.validation, loss, f->error);
    if (mbp_ranks_of(t)) {
        t->floats = mbp_float_enter(MBP_FLUSH_SUBNORMALS);
        status = join_loss(f, status, loss);
        mbp_float_leave(t->floats);
    }
    return at(f->error, "validation", status);
}

/* Whether the epoch is the best so far; then its state is kept, if that may be needed. */
static MBP_APART int judge(fit *f, double loss) {
    if (!(loss < f->best_loss - f->how.min_delta))
        return 0;
    f->best_loss = loss;
    f->best_epoch = f->trainer->epoch;
    if (f->how.patience)
        keep(f);
    return 1;
}

/* Calls the user's function with the record. Sets f->reason if the fit is to end, in this or in another process. */
static void ask(fit *f, mbp_status *status) {
    mbp_trainer *t = f->trainer;
    double asked[2] = {0, mbp_ends_late(&f->how, f->began)};
    if (f->how.callback) {
        t->net->shared->lock.guests++;
        const mbp_record record = f->last;
        asked[0] = f->how.callback(&record, f->how.user) != 0;
        t->net->shared->lock.guests--;
    }
    if (mbp_ranks_of(t)) {
        t->floats = mbp_float_enter(MBP_FLUSH_SUBNORMALS);
        *status = mbp_join(t, MBP_OK, asked, f->error);
        mbp_float_leave(t->floats);
    }
    f->reason = asked[0] != 0 ? "callback" : asked[1] != 0 ? "max_time" : NULL;
}

/* Asks poll whether to cancel, as an epoch does before each step. */
static mbp_status ask_poll(const fit *f) {
    mbp_lock *lock = &f->trainer->net->shared->lock;
    if (!f->how.poll)
        return MBP_OK;
    lock->guests++;
    const int cancelled = f->how.poll(f->how.user);
    lock->guests--;
    return cancelled ? mbp_fail(f->error, MBP_CANCELLED, "cancelled before the iteration") : MBP_OK;
}

/* An epoch of a solver: one iteration on all rows. */
static mbp_status iterate(const fit *f, double *loss) {
    mbp_batch data;
    mbp_status status = ask_poll(f);
    if (status == MBP_OK)
        status = mbp_sized_read(&data, sizeof data, f->data, "mbp_batch", f->error);
    if (status != MBP_OK)
        return status;
    data.size = sizeof data;
    data.same = f->last.epoch > 0; /* the data are not changed during a fit */
    return mbp_trainer_step(f->trainer, &data, loss, f->error);
}

static mbp_status train_epoch(fit *f, double *loss, double *val_loss) {
    mbp_trainer *t = f->trainer;
    int64_t steps;
    char where[40];
    mbp_status status = mbp_has_solver(t) ? iterate(f, loss)
                                          : mbp_trainer_epoch(t, f->data, next_order(f), f->count, f->how.batch_rows,
                                                              NULL, f->how.poll, f->how.user, loss, &steps, f->error);
    if (status == MBP_OK)
        status = validate(f, val_loss);
    snprintf(where, sizeof where, "epoch %lld", (long long)t->epoch + 1);
    return status == MBP_INVALID ? status : at(f->error, where, status);
}

static int is_over(const fit *f) { return f->how.patience && f->trainer->epoch - f->best_epoch >= f->how.patience; }

static mbp_status run(fit *f) {
    mbp_trainer *t = f->trainer;
    mbp_status status = MBP_OK;
    double loss, val_loss;
    for (int64_t e = 0; e < f->how.epochs && status == MBP_OK && !f->reason && !is_over(f); e++) {
        const int64_t steps = t->running.steps;
        status = train_epoch(f, &loss, &val_loss);
        if (status != MBP_OK)
            break;
        MBP_PUT(&t->epoch, t->epoch + 1);
        f->last = (mbp_record){sizeof f->last,
                               t->epoch,
                               t->running.steps,
                               loss,
                               val_loss,
                               mbp_has_solver(t) ? NAN : t->optimizer.parameters[0],
                               0,
                               NULL};
        const mbp_float_state before = mbp_float_enter(MBP_KEEP_SUBNORMALS);
        f->last.best = judge(f, val_loss);
        mbp_float_leave(before);
        if (f->last.best)
            f->best_record = f->last;
        ask(f, &status);
        if (!f->reason)
            f->reason = mbp_ends_reached(t, &f->how, loss, steps);
    }
    if (status == MBP_OK && !f->reason)
        f->reason = is_over(f) ? "patience" : "epochs";
    return status;
}

static mbp_status start(fit *f, const mbp_fit *how) {
    mbp_status status = mbp_trainer_enter_training(f->trainer, f->error);
    if (status == MBP_OK)
        status = mbp_trainer_leave(f->trainer, prepare(f, how));
    if (status == MBP_OK) {
        f->best_epoch = f->trainer->epoch;
        const int64_t steps = f->trainer->running.steps;
        f->began = mbp_ends_start(&f->how);
        status = run(f);
        if (status != MBP_OK && f->numbers && f->trainer->running.steps == steps) /* nothing else has changed */
            unset(f);
    }
    if (f->how.patience && f->best_record.best)
        restore(f);
    mbp_release(mbp_net_allocator(f->trainer->net), f->memory, f->bytes);
    return status;
}

mbp_status mbp_trainer_fit(mbp_trainer *trainer, const mbp_batch *data, const mbp_fit *how, mbp_record *record,
                           mbp_error *error) {
    fit f = {.trainer = trainer, .data = data, .record = record, .best_loss = INFINITY, .error = error};
    if (!trainer)
        return mbp_fail_null(error, "trainer", MBP_A_TRAINER);
    if (!data || !how)
        return mbp_fail_null(error, data ? "how" : "data", data ? "an mbp_fit" : MBP_A_BATCH);
    mbp_status status = mbp_net_take(trainer->net, error);
    if (status != MBP_OK)
        return status;
    status = start(&f, how);
    mbp_record *found = f.how.patience && f.best_record.best ? &f.best_record : &f.last;
    found->reason = f.reason;
    if (record && f.last.epoch)
        mbp_sized_write(record, found, sizeof *record, "mbp_record", NULL);
    mbp_net_give(trainer->net);
    return status;
}
