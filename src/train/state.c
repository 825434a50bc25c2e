/* A trainer's state: its vectors, its numbers by name, its steps, and the average of its parameters and buffers. */
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "system/text.h"
#include "train/solving.h"

void *mbp_trainer_grads(mbp_trainer *trainer) { return trainer ? trainer->grads : NULL; }

void *mbp_trainer_slot(mbp_trainer *trainer, int i) {
    if (trainer)
        (void)mbp_net_settle(trainer->net, NULL);
    return trainer && i >= 0 && i < trainer->slot_count ? trainer->slots[i] : NULL;
}

int64_t mbp_trainer_solver_state(const mbp_trainer *trainer, double *numbers) {
#if MICROBP_SOLVERS
    if (trainer && trainer->solver)
        return trainer->solver->row->save(trainer->solver, numbers);
#endif
    return (void)trainer, (void)numbers, 0;
}

mbp_status mbp_trainer_set_solver_state(mbp_trainer *trainer, const double *numbers, int64_t count, mbp_error *error) {
    mbp_status status = mbp_trainer_enter(trainer, error);
    if (status != MBP_OK)
        return status;
#if MICROBP_SOLVERS
    if (trainer->solver)
        return mbp_trainer_leave(trainer, mbp_solver_set_state(trainer, numbers, count, error));
#endif
    (void)numbers, (void)count;
    return mbp_trainer_leave(trainer, mbp_fail(error, MBP_INVALID, "%s has no state of a solver: it is an optimizer",
                                               mbp_formula_name(mbp_trainer_kind(trainer), trainer->optimizer.row)));
}

static int parameter_index(const mbp_trainer *trainer, const char *name) {
    if (strcmp(name, "decay_bias") == 0 && !mbp_has_solver(trainer))
        return trainer->decay_bias;
    return mbp_parameter_index(mbp_formula_parameters(mbp_trainer_kind(trainer), trainer->optimizer.row),
                               mbp_slice_of(name));
}

static mbp_status find_parameter(const mbp_trainer *trainer, const char *name, int *index, mbp_error *error) {
    if (!trainer || !name)
        return mbp_fail_null(error, trainer ? "name" : "trainer", trainer ? "a name such as \"lr\"" : MBP_A_TRAINER);
    *index = parameter_index(trainer, name);
    if (*index >= 0)
        return MBP_OK;
    char what[60];
    mbp_unknown unknown = {.word = mbp_slice_of(name)};
    mbp_parameters_list(mbp_formula_parameters(mbp_trainer_kind(trainer), trainer->optimizer.row), &unknown);
    mbp_parameters_list(MBP_TRAINER_SETTINGS, &unknown);
    mbp_parameters_list("loss last_loss average_count epoch", &unknown);
    if (MICROBP_SOLVERS && trainer->solver)
        mbp_parameters_list("evaluations", &unknown);
    if (mbp_has_solver(trainer))
        mbp_parameters_list(mbp_formula_detail(MBP_SOLVER, trainer->optimizer.row), &unknown);
    snprintf(what, sizeof what, "a trainer with %s has no parameter",
             mbp_formula_name(mbp_trainer_kind(trainer), trainer->optimizer.row));
    return mbp_unknown_fail(&unknown, what, error);
}

static int setting_index(const mbp_trainer *trainer, const char *name) {
    return trainer && name ? mbp_parameter_index(MBP_TRAINER_SETTINGS, mbp_slice_of(name)) : -1;
}

/* "loss" and "last_loss" are read and set by name, like parameters, and so is "average_count". */
static double *running_loss(mbp_trainer *trainer, const char *name) {
    if (!trainer || !name)
        return NULL;
    return strcmp(name, "loss") == 0        ? &trainer->running.loss
           : strcmp(name, "last_loss") == 0 ? &trainer->running.last_loss
                                            : NULL;
}

/* So are the counts "average_count", "epoch" and, of a solver, "evaluations". */
static int64_t *running_count(mbp_trainer *trainer, const char *name) {
    if (!trainer || !name)
        return NULL;
    return strcmp(name, "average_count") == 0                                       ? &trainer->average.count
           : strcmp(name, "epoch") == 0                                             ? &trainer->epoch
           : MICROBP_SOLVERS && trainer->solver && strcmp(name, "evaluations") == 0 ? &trainer->solver->evaluations
                                                                                    : NULL;
}

static mbp_status set_count(mbp_trainer *trainer, int64_t *count, const char *name, double value, mbp_error *error) {
    const double most = (double)((int64_t)1 << 53); /* up to here a double holds every whole number */
    char number[MBP_NUMBER_SIZE];
    mbp_print_number(number, value);
    if (!(value >= 0 && value <= most) || (double)(int64_t)value != value)
        return mbp_fail(error, MBP_INVALID, "%s must be a whole number from 0 to 2^53, not %s", name, number);
    if (value > 0 && count == &trainer->average.count && !trainer->average.at)
        return mbp_fail(error, MBP_INVALID, "average_count cannot be %s: the trainer has no average", number);
    MBP_PUT(count, (int64_t)value);
    return MBP_OK;
}

mbp_status mbp_trainer_get(const mbp_trainer *trainer, const char *name, double *value, mbp_error *error) {
    int i = trainer && name ? parameter_index(trainer, name) : -1; /* first, because "lr" is read most often */
    if (value && i >= 0)
        return *value = mbp_see_number(&trainer->optimizer.parameters[i]), MBP_OK;
    const double *loss = running_loss((mbp_trainer *)trainer, name);
    if (value && loss)
        return *value = mbp_see_number(loss), MBP_OK;
    const int64_t *count = running_count((mbp_trainer *)trainer, name);
    if (value && count)
        return *value = (double)MBP_SEE(count), MBP_OK;
    const int setting = setting_index(trainer, name);
    if (value && setting >= 0)
        return *value = mbp_see_number(&trainer->setting[setting]), MBP_OK;
    if (MICROBP_SOLVERS && value && trainer && name && trainer->solver && mbp_solver_number(trainer, name, value))
        return MBP_OK;
    return value ? find_parameter(trainer, name, &i, error)
                 : mbp_fail_null(error, "value", "a double, where the value is stored");
}

static mbp_status set_setting(mbp_trainer *trainer, int setting, double value, mbp_error *error) {
    mbp_status status = mbp_parameter_check(MBP_TRAINER_SETTINGS, setting, value, error);
    if (status == MBP_OK && setting <= MBP_CLIP_VALUE && value < INFINITY)
        status = mbp_solver_refuse(trainer, "clipping of gradients", error);
    if (status == MBP_OK && mbp_has_solver(trainer))
        trainer->solver->is_known = 0;
    if (status == MBP_OK)
        mbp_put_number(&trainer->setting[setting], value);
    return status;
}

static mbp_status set(mbp_trainer *trainer, const char *name, double value, mbp_error *error) {
    double *loss = running_loss(trainer, name);
    if (loss) /* set in each step with a loss of the caller, so it is looked for first */
        return mbp_put_number(loss, value), MBP_OK;
    int64_t *count = running_count(trainer, name);
    if (count)
        return set_count(trainer, count, name, value, error);
    int i = -1;
    const int setting = setting_index(trainer, name);
    if (setting >= 0)
        return set_setting(trainer, setting, value, error);
    mbp_status status = find_parameter(trainer, name, &i, error);
    if (status != MBP_OK)
        return status;
    if (i == trainer->decay_bias)
        return mbp_fail(error, MBP_INVALID,
                        "decay_bias cannot be changed: create a trainer with it, such as \"adam(decay_bias=1)\"");
    if (mbp_has_solver(trainer))
        return mbp_fail(error, MBP_INVALID, "%s cannot be changed: create a trainer with it, \"%s(%s=...)\"", name,
                        mbp_formula_name(mbp_trainer_kind(trainer), trainer->optimizer.row), name);
    status = mbp_parameter_check(mbp_formula_parameters(MBP_OPTIMIZER, trainer->optimizer.row), i, value, error);
    if (status == MBP_OK && i > 0) /* rows that missed steps need the old value; of lr, each step keeps its own */
        status = mbp_net_settle(trainer->net, error);
    if (status == MBP_OK)
        mbp_put_number(&trainer->optimizer.parameters[i], value);
    return status;
}

mbp_status mbp_trainer_set(mbp_trainer *trainer, const char *name, double value, mbp_error *error) {
    if (!trainer)
        return mbp_fail_null(error, "trainer", MBP_A_TRAINER);
    mbp_status status = mbp_net_take(trainer->net, error);
    if (status != MBP_OK)
        return status;
    status = set(trainer, name, value, error); /* in the caller's floating-point state: a value may be subnormal */
    mbp_net_give(trainer->net);
    return status;
}

int64_t mbp_trainer_steps(const mbp_trainer *trainer) { return trainer ? MBP_SEE(&trainer->running.steps) : 0; }

/* After SETTLED updates each further one multiplies the running products by constants. Up to REPLAY_MAX updates they
 * are multiplied one by one, which takes less than 0.1 s. */
enum { SETTLED = 1 << 20, REPLAY_MAX = 1 << 24 };

/* product x factor^times. The first multiplications are done one by one, each with its rounding, the rest by
 * squaring. */
static double multiplied(double product, double factor, int64_t times) {
    int64_t single = times < REPLAY_MAX - SETTLED ? times : REPLAY_MAX - SETTLED;
    for (times -= single; single > 0; single--)
        product *= factor;
    for (; times > 0; times /= 2, factor *= factor)
        if (times % 2)
            product *= factor;
    return product;
}

/* Sets the running values to what `steps` updates would have left: the running products are computed update by update,
 * because each one rounds them, until they reach 0 or 1 and stop changing. After REPLAY_MAX updates they differ by
 * rounding; with betas up to 1 - 4e-6 no result of an update depends on this difference. */
static MBP_APART void set_steps(mbp_trainer *trainer, int64_t steps) {
    const double *parameters = trainer->optimizer.parameters;
    const int row = trainer->optimizer.row;
    mbp_running run = {.power = {1, 1}, .loss = NAN, .last_loss = NAN};
    double before[2] = {0, 0};
    while (!mbp_has_solver(trainer) && run.steps < steps && run.steps < SETTLED &&
           memcmp(before, run.power, sizeof before) != 0) {
        memcpy(before, run.power, sizeof before);
        mbp_optimizer_advance(row, parameters, &run);
    }
    if (run.steps == SETTLED) {
        mbp_running factor = {.steps = SETTLED, .power = {1, 1}};
        mbp_optimizer_advance(row, parameters, &factor);
        for (int i = 0; i < 2; i++)
            run.power[i] = multiplied(run.power[i], factor.power[i], steps - SETTLED);
    }
    run.steps = steps;
    mbp_trainer_run(trainer, &run);
}

/* Leaves room for more updates than anyone can make. */
static const int64_t steps_max = 9000000000000000000;

/* mbp_net_settle for a trainer that holds the net; gives it back if that fails. */
static mbp_status settle(mbp_trainer *t, mbp_error *error) {
    const mbp_status status = mbp_net_settle(t->net, error);
    return status == MBP_OK ? MBP_OK : mbp_trainer_leave(t, status);
}

mbp_status mbp_trainer_set_steps(mbp_trainer *trainer, int64_t steps, mbp_error *error) {
    if (steps < 0)
        return mbp_fail(error, MBP_INVALID, "steps is %lld, but must be at least 0", (long long)steps);
    if (steps > steps_max)
        return mbp_fail(error, MBP_INVALID, "steps is %lld, but must be at most %lld", (long long)steps,
                        (long long)steps_max);
    mbp_status status = mbp_trainer_enter(trainer, error);
    if (status == MBP_OK)
        status = settle(trainer, error);
    if (status != MBP_OK)
        return status;
    set_steps(trainer, steps);
    return mbp_trainer_leave(trainer, MBP_OK);
}

mbp_status mbp_trainer_set_seed(mbp_trainer *trainer, uint64_t seed, mbp_error *error) {
    mbp_status status = mbp_trainer_enter(trainer, error);
    if (status != MBP_OK)
        return status;
    trainer->seed = seed;
    return mbp_trainer_leave(trainer, MBP_OK);
}

#if MICROBP_SPARSE
static void show_layer(const mbp_trainer *t, int i, int shown) {
    const mbp_sparse_grad *g = &t->lazy->grad[i];
    const mbp_layer *layer = &t->net->layer[i];
    const size_t item = t->net->item;
    mbp_lazy_spread(g, (size_t)layer->out * item, shown ? g->value : NULL, t->grads + (size_t)layer->weight * item);
}

void mbp_sparse_show(const mbp_trainer *t, int shown) {
    for (int i = 0; i < t->net->layers; i++)
        if (mbp_trains_sparse(t, i))
            show_layer(t, i, shown);
}

void mbp_sparse_stop(mbp_trainer *t) {
    for (int i = 0; i < t->net->layers; i++) {
        if (!t->lazy->grad[i].is_new)
            continue;
        show_layer(t, i, 1);
        t->lazy->grad[i].is_on = t->lazy->grad[i].is_new = 0;
        t->plan.sparse[i] = 0;
        t->plan.layers_version = t->net->layers_version - 1;
    }
}

/* Its layers are dense again, until sparse rows feed them. */
static void forget_sparse(mbp_trainer *t) {
    mbp_lazy_free(t->lazy);
    t->lazy = NULL;
    memset(t->plan.sparse, 0, (size_t)t->net->layers);
    t->plan.layers_version = t->net->layers_version - 1;
}
#endif

mbp_status mbp_trainer_reset(mbp_trainer *trainer, mbp_error *error) {
    mbp_status status = mbp_trainer_enter(trainer, error);
    if (status == MBP_OK)
        status = settle(trainer, error);
    if (status != MBP_OK)
        return status;
    mbp_clear(trainer->grads, (size_t)trainer->net->params * trainer->net->item);
#if MICROBP_SPARSE
    if (trainer->lazy)
        forget_sparse(trainer);
#endif
    if (trainer->average.at)
        memset(trainer->average.at, 0, trainer->average.bytes);
    MBP_PUT(&trainer->average.count, 0);
    MBP_PUT(&trainer->epoch, 0);
    trainer->is_pending = 0;
    mbp_solver_reset(trainer);
    mbp_trainer_start(trainer);
    return mbp_trainer_leave(trainer, MBP_OK);
}

/* ---- gradients of sparse layers ---- */

static mbp_status sparse_grad(const mbp_trainer *t, const char *name, const int32_t **rows, mbp_array *values,
                              mbp_error *error) {
    mbp_unknown unknown = {.word = mbp_slice_of(name)};
    for (int i = 0; i < t->net->layers; i++) {
        const mbp_layer *layer = &t->net->layer[i];
        if (!mbp_trains_sparse(t, i))
            continue;
        mbp_unknown_add(&unknown, mbp_slice_of(layer->name));
        if (strcmp(layer->name, name) != 0)
            continue;
        const mbp_sparse_grad *g = &t->lazy->grad[i];
        *rows = g->row;
        *values = mbp_contiguous(g->value, t->net->dtype, (int64_t)t->net->item, g->count, layer->out);
        return MBP_OK;
    }
    return mbp_unknown_fail(&unknown, "the trainer has no sparse layer", error);
}

mbp_status mbp_trainer_sparse_grad(mbp_trainer *trainer, const char *layer, const int32_t **rows, mbp_array *values,
                                   mbp_error *error) {
    if (!layer || !rows || !values)
        return mbp_fail_null(error,
                             !layer  ? "layer"
                             : !rows ? "rows"
                                     : "values",
                             !layer  ? "the name of a layer"
                             : !rows ? "a const int32_t *, where the numbers of the rows are stored"
                                     : "an mbp_array, which this call fills in");
    mbp_status status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, sparse_grad(trainer, layer, rows, values, error)) : status;
}

#if MICROBP_SPARSE
static mbp_status set_sparse(mbp_trainer *t, const char *name, const int32_t *rows, int64_t count, mbp_error *error) {
    if (!name) {
        mbp_sparse_show(t, 1);
        if (t->lazy)
            forget_sparse(t);
        return MBP_OK;
    }
    int index = 0;
    while (index < t->net->layers && strcmp(t->net->layer[index].name, name) != 0)
        index++;
    if (index == t->net->layers || !mbp_reads_sparse(t->net->layer[index].kind) || mbp_trains_sparse(t, index))
        return mbp_fail(error, MBP_INVALID,
                        "layer %.60s is not a dense layer or embedding of this network, or is sparse already", name);
    const int64_t in = t->net->layer[index].in;
    for (int64_t i = 0, before = -1; i < count; before = rows[i++])
        if (rows[i] <= before || rows[i] >= in)
            return mbp_fail(error, MBP_INVALID,
                            "rows[%lld] is %d, but the rows of layer %s must ascend, without repeats, from 0 to %lld",
                            (long long)i, (int)rows[i], name, (long long)in - 1);
    return mbp_sparse_restore(t, index, rows, count, error);
}
#endif

mbp_status mbp_trainer_set_sparse(mbp_trainer *trainer, const char *layer, const int32_t *rows, int64_t count,
                                  mbp_error *error) {
    if (count < 0)
        return mbp_fail(error, MBP_INVALID, "count is %lld, but must be at least 0", (long long)count);
    if (count && !rows)
        return mbp_fail_null(error, "rows", "the numbers of the rows");
    mbp_status status = mbp_trainer_enter(trainer, error);
    if (status == MBP_OK)
        status = settle(trainer, error);
    if (status != MBP_OK)
        return status;
#if MICROBP_SPARSE
    status = set_sparse(trainer, layer, rows, count, error);
#else
    status = layer ? mbp_fail_extra(error, "sparse rows", "sparse") : MBP_OK;
#endif
    return mbp_trainer_leave(trainer, status);
}

/* ---- the average ---- */

static mbp_status check_average(double decay, int64_t start, int64_t every, mbp_error *error) {
    char number[MBP_NUMBER_SIZE];
    mbp_print_number(number, decay);
    if (!(decay >= 0 && decay <= 1))
        return mbp_fail(error, MBP_INVALID, "decay must be in [0,1], not %s", number);
    if (start < 0)
        return mbp_fail(error, MBP_INVALID, "start is %lld, but must be at least 0", (long long)start);
    if (every < 1)
        return mbp_fail(error, MBP_INVALID, "every is %lld, but must be at least 1", (long long)every);
    return MBP_OK;
}

static MBP_APART mbp_status set_average(mbp_trainer *t, double decay, int64_t start, int64_t every, mbp_error *error) {
    const size_t bytes = (size_t)(t->net->params + t->net->buffers) * t->net->item + MBP_READABLE;
    mbp_status status = check_average(decay, start, every, error);
    if (status == MBP_OK)
        status = mbp_solver_refuse(t, "an average", error);
    if (status != MBP_OK)
        return status;
    char *at = t->average.at ? t->average.at : mbp_memory_take(&t->memory, bytes);
    if (!at)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for an average of %lld parameters", (long long)t->net->params);
    memset(at, 0, bytes);
    t->average.bytes = bytes;
    t->average.decay = decay;
    t->average.start = start;
    t->average.every = every;
    MBP_PUT(&t->average.count, 0);
    MBP_PUT(&t->average.at, at);
    return MBP_OK;
}

mbp_status mbp_trainer_set_average(mbp_trainer *trainer, double decay, int64_t start, int64_t every, mbp_error *error) {
    mbp_status status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, set_average(trainer, decay, start, every, error)) : status;
}

void *mbp_trainer_average(mbp_trainer *trainer, int64_t *count) {
    if (count)
        *count = trainer ? MBP_SEE(&trainer->average.count) : 0;
    return trainer ? MBP_SEE(&trainer->average.at) : NULL;
}

typedef struct average_job {
    const mbp_trainer *trainer;
    mbp_map map;
    double rate;
} average_job;

static void run_average(void *context, int64_t first, int64_t last, int thread) {
    const average_job *job = context;
    const mbp_net *net = job->trainer->net;
    const size_t at = (size_t)first * net->item;
    const int64_t n = last - first;
    (void)thread;
    const mbp_view average = {job->trainer->average.at + at, n}, now = {net->block + at, n};
    net->kernels->map(job->map, 1, n, average, now, (const double[]){job->rate, 0});
}

void mbp_average_update(mbp_trainer *t) {
    const mbp_net *net = t->net;
    mbp_average *average = &t->average;
    if (!average->at || t->running.steps < average->start || (t->running.steps - average->start) % average->every)
        return;
    const int64_t length = net->params + net->buffers, count = average->count + 1;
    MBP_PUT(&average->count, count);
    average_job job = {t, count == 1 ? net->kernels->copy : net->kernels->mix,
                       average->decay < 1 ? 1 - average->decay : 1 / (double)count};
    mbp_net_share(net, (double)MBP_ELEMENT_WORK * (double)length, length, MBP_UPDATE_RUN, run_average, &job);
}
