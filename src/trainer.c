/* Floor 4: a trainer's life, its state and what can be asked of it. */
#include "net.h"

#include <math.h>
#include <string.h>

mbp_status mbp_trainer_enter(mbp_trainer *trainer, mbp_error *error) {
    if (!trainer)
        return mbp_fail(error, MBP_INVALID, "trainer is NULL");
    if (atomic_flag_test_and_set(&trainer->busy))
        return mbp_fail(error, MBP_BUSY, "the trainer is in use by another call: wait for it, or use one trainer per thread");
    return MBP_OK;
}

mbp_status mbp_trainer_leave(mbp_trainer *trainer, mbp_status status) {
    atomic_flag_clear(&trainer->busy);
    return status;
}

mbp_status mbp_trainer_reserve(mbp_trainer *t, int64_t rows, int needs, mbp_error *error) {
    return mbp_workspace_reserve(t->net, &t->workspace, rows, needs, mbp_product_threads(t->net, rows), error);
}

/* ---- making one ---- */

static mbp_status read_objective(mbp_objective *objective, const char *loss, int64_t width, mbp_error *error) {
    if (!loss) {
        objective->loss.row = -1;
        return MBP_OK;
    }
    mbp_status status = mbp_formula_parse(MBP_LOSS, mbp_slice_of(loss), &objective->loss, error);
    if (status != MBP_OK)
        return status;
    const char *targets = mbp_loss_targets(objective->loss.row);
    objective->labels = strcmp(targets, "LABELS") == 0;
    objective->signs = strcmp(targets, "SIGNS") == 0;
    if (objective->labels && width < 2)
        return mbp_fail(error, MBP_INVALID, "%s needs at least 2 outputs, one per class; for one output use bce", loss);
    if (!objective->signs)
        objective->targets = mbp_parse_interval(mbp_slice_of(objective->labels ? "[0,1]" : targets));
    return MBP_OK;
}

static size_t round_up(size_t bytes) { return (bytes + MBP_ALIGNMENT - 1) / MBP_ALIGNMENT * MBP_ALIGNMENT; }

/* The structure, objectives, plan, pending buffers, gradients and slots in one zeroed block. */
static mbp_trainer *allocate_trainer(mbp_net *net, int slots) {
    const size_t head = round_up(sizeof(mbp_trainer) + (size_t)net->outputs * sizeof(mbp_objective));
    const size_t plan = round_up(mbp_plan_bytes(net)), vector = round_up((size_t)net->params * net->item),
                 buffers = round_up((size_t)net->buffers * net->item);
    size_t bytes = head + plan + buffers + vector * (size_t)(1 + slots) + MBP_READABLE;
    char *at = mbp_allocate(net->allocator, bytes);
    if (!at)
        return NULL;
    memset(at, 0, bytes);
    mbp_trainer *trainer = (mbp_trainer *)at;
    trainer->bytes = bytes;
    trainer->net = net;
    trainer->objective = (mbp_objective *)(at + sizeof *trainer);
    mbp_plan_place(net, &trainer->plan, at += head);
    trainer->pending = at += plan;
    trainer->grads = at += buffers;
    trainer->slot_count = slots;
    for (int i = 0; i < slots; i++)
        trainer->slots[i] = at += vector;
    atomic_flag_clear(&trainer->busy);
    return trainer;
}

static void fill_slot(const mbp_trainer *trainer, int i) {
    const double start = mbp_optimizer_slot_start(trainer->optimizer.row, i, trainer->optimizer.parameters);
    for (int64_t k = 0; k < trainer->net->params; k++)
        if (trainer->net->dtype == MBP_F64)
            ((double *)trainer->slots[i])[k] = start;
        else
            ((float *)trainer->slots[i])[k] = (float)start;
}

/* Slots and what runs along, as before the first step. */
static void start_optimizer(mbp_trainer *trainer) {
    for (int i = 0; i < trainer->slot_count; i++)
        fill_slot(trainer, i);
    trainer->running = (mbp_running){.power = {1, 1}, .loss = NAN, .last_loss = NAN};
}

static void set_optimizer(mbp_trainer *trainer, const mbp_formula *optimizer) {
    trainer->optimizer = *optimizer;
    trainer->decay = mbp_optimizer_decay(optimizer->row);
    trainer->decay_bias = mbp_optimizer_decay_bias(optimizer->row);
    start_optimizer(trainer);
}

mbp_status mbp_trainer_create(mbp_trainer **trainer, mbp_net *net, const char *const *losses, const double *loss_weights, int n_losses,
                              const char *optimizer, mbp_error *error) {
    mbp_formula formula;
    if (!trainer || !net || !losses || !optimizer)
        return mbp_fail(error, MBP_INVALID, "%s is NULL", !trainer ? "trainer" : !net ? "net" : !losses ? "losses" : "optimizer");
    if (n_losses != net->outputs)
        return mbp_fail(error, MBP_INVALID, "%d losses are given for %d outputs", n_losses, net->outputs);
    mbp_status status = mbp_formula_parse(MBP_OPTIMIZER, mbp_slice_of(optimizer), &formula, error);
    if (status != MBP_OK)
        return status;
    mbp_trainer *made = allocate_trainer(net, mbp_optimizer_slots(formula.row));
    if (!made)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for a trainer of %lld parameters", (long long)net->params);
    made->seed = net->seed;
    set_optimizer(made, &formula);
    mbp_parameter_defaults(MBP_TRAINER_SETTINGS, made->setting);
    for (int i = 0; i < n_losses && status == MBP_OK; i++) {
        made->objective[i].weight = loss_weights ? loss_weights[i] : 1;
        if (!isfinite(made->objective[i].weight))
            status = mbp_fail(error, MBP_INVALID, "the loss weight of output %d is not finite", i);
        else
            status = read_objective(&made->objective[i], losses[i], mbp_net_output_width(net, i), error);
    }
    if (status != MBP_OK) {
        mbp_trainer_free(made);
        return status;
    }
    for (int i = 0; i < n_losses; i++)
        if (losses[i])
            net->output[i].link = mbp_loss_link(made->objective[i].loss.row);
    *trainer = made;
    return MBP_OK;
}

void mbp_trainer_free(mbp_trainer *trainer) {
    if (!trainer)
        return;
    mbp_workspace_free(trainer->net, trainer->workspace);
    mbp_release(trainer->net->allocator, trainer->average.at, trainer->average.bytes);
    mbp_release(trainer->net->allocator, trainer, trainer->bytes);
}

/* ---- its state ---- */

void *mbp_trainer_grads(mbp_trainer *trainer) { return trainer ? trainer->grads : NULL; }

void *mbp_trainer_slot(mbp_trainer *trainer, int i) { return trainer && i >= 0 && i < trainer->slot_count ? trainer->slots[i] : NULL; }

static int parameter_index(const mbp_trainer *trainer, const char *name) {
    if (strcmp(name, "decay_bias") == 0)
        return trainer->decay_bias;
    return mbp_parameter_index(mbp_formula_parameters(MBP_OPTIMIZER, trainer->optimizer.row), mbp_slice_of(name));
}

static mbp_status find_parameter(const mbp_trainer *trainer, const char *name, int *index, mbp_error *error) {
    if (!trainer || !name)
        return mbp_fail(error, MBP_INVALID, "%s is NULL", trainer ? "name" : "trainer");
    *index = parameter_index(trainer, name);
    if (*index >= 0)
        return MBP_OK;
    return mbp_fail(error, MBP_INVALID, "%s has no parameter \"%.60s\"; it has: %s; every trainer has: %s",
                    mbp_formula_name(MBP_OPTIMIZER, trainer->optimizer.row), name,
                    mbp_formula_parameters(MBP_OPTIMIZER, trainer->optimizer.row), MBP_TRAINER_SETTINGS);
}

static int setting_index(const mbp_trainer *trainer, const char *name) {
    return trainer && name ? mbp_parameter_index(MBP_TRAINER_SETTINGS, mbp_slice_of(name)) : -1;
}

/* The losses that run along have names like parameters. */
static double *running_loss(mbp_trainer *trainer, const char *name) {
    if (!trainer || !name)
        return NULL;
    return strcmp(name, "loss") == 0 ? &trainer->running.loss : strcmp(name, "last_loss") == 0 ? &trainer->running.last_loss : NULL;
}

mbp_status mbp_trainer_get(const mbp_trainer *trainer, const char *name, double *value, mbp_error *error) {
    const int setting = setting_index(trainer, name);
    int i = -1;
    const double *loss = running_loss((mbp_trainer *)trainer, name);
    if (value && loss)
        return *value = *loss, MBP_OK;
    if (value && setting >= 0)
        return *value = trainer->setting[setting], MBP_OK;
    mbp_status status = value ? find_parameter(trainer, name, &i, error) : mbp_fail(error, MBP_INVALID, "value is NULL");
    if (status == MBP_OK)
        *value = trainer->optimizer.parameters[i];
    return status;
}

static mbp_status set_setting(mbp_trainer *trainer, int setting, double value, mbp_error *error) {
    mbp_status status = mbp_parameter_check(MBP_TRAINER_SETTINGS, setting, value, error);
    if (status == MBP_OK)
        trainer->setting[setting] = value;
    return status;
}

mbp_status mbp_trainer_set(mbp_trainer *trainer, const char *name, double value, mbp_error *error) {
    const int setting = setting_index(trainer, name);
    int i = -1;
    double *loss = running_loss(trainer, name);
    if (loss)
        return *loss = value, MBP_OK;
    if (setting >= 0)
        return set_setting(trainer, setting, value, error);
    mbp_status status = find_parameter(trainer, name, &i, error);
    if (status != MBP_OK)
        return status;
    if (i == trainer->decay_bias)
        return mbp_fail(error, MBP_INVALID, "decay_bias is chosen when the trainer is made");
    status = mbp_parameter_check(mbp_formula_parameters(MBP_OPTIMIZER, trainer->optimizer.row), i, value, error);
    if (status == MBP_OK)
        trainer->optimizer.parameters[i] = value;
    return status;
}

int64_t mbp_trainer_steps(const mbp_trainer *trainer) { return trainer ? trainer->running.steps : 0; }

enum { REPLAY_MAX = 1 << 30 }; /* updates; a second or two. With a beta of 1 - 1e-6 the products are 0 before. */

/* What runs along as so many updates would have left it; the products, rounded step by step, end at 0 or at 1. 0: they do not in time. */
static MBP_APART int replay(mbp_trainer *trainer, int64_t steps) {
    mbp_running run = {.power = {1, 1}, .loss = NAN, .last_loss = NAN};
    double before[2] = {0, 0};
    while (run.steps < steps && memcmp(before, run.power, sizeof before) != 0) {
        memcpy(before, run.power, sizeof before);
        mbp_optimizer_advance(trainer->optimizer.row, trainer->optimizer.parameters, &run);
        if (run.steps == REPLAY_MAX && steps > REPLAY_MAX)
            return 0;
    }
    run.steps = steps;
    trainer->running = run;
    return 1;
}

/* Subnormals flushed, as in the update. */
static mbp_status set_steps(mbp_trainer *trainer, int64_t steps, mbp_error *error) {
    const mbp_float_state before = mbp_float_enter(MBP_FLUSH_SUBNORMALS);
    const int done = replay(trainer, steps);
    mbp_float_leave(before);
    return done ? MBP_OK
                : mbp_fail(error, MBP_INVALID, "the state after %lld updates takes too long to restore with such betas", (long long)steps);
}

mbp_status mbp_trainer_set_steps(mbp_trainer *trainer, int64_t steps, mbp_error *error) {
    if (steps < 0)
        return mbp_fail(error, MBP_INVALID, "the step count cannot be negative");
    mbp_status status = mbp_trainer_enter(trainer, error);
    if (status != MBP_OK)
        return status;
    return mbp_trainer_leave(trainer, set_steps(trainer, steps, error));
}

mbp_status mbp_trainer_set_seed(mbp_trainer *trainer, uint64_t seed, mbp_error *error) {
    mbp_status status = mbp_trainer_enter(trainer, error);
    if (status != MBP_OK)
        return status;
    trainer->seed = seed;
    return mbp_trainer_leave(trainer, MBP_OK);
}

mbp_status mbp_trainer_reset(mbp_trainer *trainer, mbp_error *error) {
    mbp_status status = mbp_trainer_enter(trainer, error);
    if (status != MBP_OK)
        return status;
    memset(trainer->grads, 0, (size_t)trainer->net->params * trainer->net->item);
    if (trainer->average.at)
        memset(trainer->average.at, 0, trainer->average.bytes);
    trainer->is_pending = 0;
    start_optimizer(trainer);
    return mbp_trainer_leave(trainer, MBP_OK);
}

/* ---- the average of its parameters ---- */

int64_t mbp_average_count(const mbp_trainer *t) {
    return t->average.at && t->running.steps >= t->average.first ? (t->running.steps - t->average.first) / t->average.every + 1 : 0;
}

static mbp_status check_average(double decay, int64_t start, int64_t every, mbp_error *error) {
    if (!(decay >= 0 && decay <= 1))
        return mbp_fail(error, MBP_INVALID, "the decay of an average is in [0,1]");
    if (start < 0 || every < 1)
        return mbp_fail(error, MBP_INVALID, "an average starts at update %lld, at least 0, and takes every %lld-th, at least 1",
                        (long long)start, (long long)every);
    return MBP_OK;
}

/* The first of start, start + every, ... that is still to come. */
static int64_t next_of(int64_t start, int64_t every, int64_t steps) {
    if (steps < start)
        return start;
    return every > INT64_MAX - steps ? INT64_MAX : steps - (steps - start) % every + every;
}

static mbp_status set_average(mbp_trainer *t, double decay, int64_t start, int64_t every, mbp_error *error) {
    const size_t bytes = (size_t)(t->net->params + t->net->buffers) * t->net->item + MBP_READABLE;
    mbp_status status = check_average(decay, start, every, error);
    if (status != MBP_OK)
        return status;
    char *at = t->average.at ? t->average.at : mbp_allocate(t->net->allocator, bytes);
    if (!at)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for an average of %lld parameters", (long long)t->net->params);
    memset(at, 0, bytes);
    t->average = (mbp_average){at, bytes, decay, next_of(start, every, t->running.steps), every};
    return MBP_OK;
}

mbp_status mbp_trainer_set_average(mbp_trainer *trainer, double decay, int64_t start, int64_t every, mbp_error *error) {
    mbp_status status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, set_average(trainer, decay, start, every, error)) : status;
}

void *mbp_trainer_average(mbp_trainer *trainer, int64_t *count) {
    if (count)
        *count = trainer ? mbp_average_count(trainer) : 0;
    return trainer ? trainer->average.at : NULL;
}
