/* Creates and frees trainers, and locks them for calls. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

#include "system/text.h"

mbp_status mbp_trainer_enter(mbp_trainer *trainer, mbp_error *error) {
    if (!trainer)
        return mbp_fail_null(error, "trainer", MBP_A_TRAINER);
    if (atomic_flag_test_and_set(&trainer->busy))
        return mbp_fail(error, MBP_BUSY,
                        "the trainer is in use by another call: wait for it, or use one trainer per thread");
    trainer->floats = mbp_float_enter(MBP_FLUSH_SUBNORMALS);
    return MBP_OK;
}

mbp_status mbp_trainer_leave(mbp_trainer *trainer, mbp_status status) {
    mbp_float_leave(trainer->floats);
    atomic_flag_clear(&trainer->busy);
    return status;
}

mbp_status mbp_trainer_reserve(mbp_trainer *t, int64_t rows, int needs, mbp_error *error) {
    const mbp_workspace *before = t->workspace;
    const int threads = mbp_product_threads(t->net, rows);
    mbp_status status = mbp_workspace_reserve(t->net, &t->workspace, rows, needs, threads, error);
    if (t->workspace != before)
        mbp_trainer_forget(t);
    return status;
}

void mbp_trainer_plan(mbp_trainer *t, int input_grads) {
    const size_t item = t->net->item;
    const int per_tensor = t->setting[MBP_CLIP_LAYER_NORM] < INFINITY || t->net->kernels->measure[t->optimizer.row];
    if (t->plan.layers_version == t->net->layers_version && t->plan.input_grads == input_grads &&
        t->plan.per_tensor == per_tensor)
        return;
    mbp_plan_make(t->net, &t->plan, input_grads, t->optimizer.parameters[t->decay_bias] != 0, per_tensor);
    for (int i = 0; i < t->net->layers; i++) {
        const mbp_layer *layer = &t->net->layer[i];
        if (layer->frozen)
            memset(t->grads + (size_t)layer->weight * item, 0, (size_t)(layer->in * layer->out) * item);
        if (layer->frozen && layer->bias >= 0)
            memset(t->grads + (size_t)layer->bias * item, 0, (size_t)layer->out * item);
    }
}

/* ---- create and free ---- */

static mbp_status read_objective(mbp_objective *objective, int i, const char *loss, int64_t width, mbp_error *error) {
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
        return mbp_fail(error, MBP_INVALID,
                        "output %d has 1 column, but %s needs at least 2, one per class; for 1 column use bce", i,
                        mbp_formula_name(MBP_LOSS, objective->loss.row));
    if (!objective->signs)
        objective->targets = mbp_parse_interval(mbp_slice_of(objective->labels ? "[0,1]" : targets));
    return MBP_OK;
}

/* Allocates the block that trainer.h describes, all zero. */
static mbp_trainer *allocate_trainer(mbp_net *net, int slots) {
    const size_t head = mbp_aligned(sizeof(mbp_trainer) + (size_t)net->outputs * sizeof(mbp_objective));
    const size_t plan = mbp_aligned(mbp_plan_bytes(net)), vector = mbp_aligned((size_t)net->params * net->item),
                 buffers = mbp_aligned((size_t)net->buffers * net->item);
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

static MBP_APART void start(mbp_trainer *trainer) {
    for (int i = 0; i < trainer->slot_count; i++)
        fill_slot(trainer, i);
    trainer->running = (mbp_running){.power = {1, 1}, .loss = NAN, .last_loss = NAN};
}

void mbp_trainer_start(mbp_trainer *trainer) {
    const mbp_float_state before = mbp_float_enter(MBP_KEEP_SUBNORMALS);
    start(trainer);
    mbp_float_leave(before);
}

static void set_optimizer(mbp_trainer *trainer, const mbp_formula *optimizer) {
    trainer->optimizer = *optimizer;
    trainer->decay = mbp_optimizer_decay(optimizer->row);
    trainer->decay_bias = mbp_optimizer_decay_bias(optimizer->row);
    mbp_trainer_start(trainer);
}

/* Refuses a loss if it implies a different output activation than the chosen one. */
static mbp_status check_activation(const mbp_net *net, int i, const mbp_objective *objective, mbp_error *error) {
    const int chosen = net->output[i].activation;
    if (objective->loss.row < 0 || chosen < 0 || chosen == mbp_loss_activation(objective->loss.row))
        return MBP_OK;
    const char *loss = mbp_formula_name(MBP_LOSS, objective->loss.row);
    const char *implied = mbp_formula_name(MBP_OUTPUT_ACTIVATION, mbp_loss_activation(objective->loss.row));
    return mbp_fail(error, MBP_INVALID,
                    "output %d has the activation %s, but the loss %s needs %s; to change it, call "
                    "mbp_net_set_output(net, %d, \"%s\", error)",
                    i, mbp_net_output_activation(net, i), loss, implied, i, implied);
}

mbp_status mbp_trainer_create(mbp_trainer **trainer, mbp_net *net, const char *const *losses,
                              const double *loss_weights, int n_losses, const char *optimizer, mbp_error *error) {
    mbp_formula formula;
    if (!trainer)
        return mbp_fail_null(error, "trainer", "an mbp_trainer *, where the trainer is stored");
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    if (!losses)
        return mbp_fail_null(error, "losses", "an array with one loss per output");
    if (!optimizer)
        return mbp_fail_null(error, "optimizer", "a SPEC such as \"adam(lr=0.001)\"");
    if (n_losses != net->outputs)
        return mbp_fail(error, MBP_INVALID, "losses has %d item%s, but the net has %d output%s", n_losses,
                        mbp_plural(n_losses), net->outputs, mbp_plural(net->outputs));
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
            status = mbp_fail(error, MBP_INVALID, "loss_weights[%d] is not finite", i);
        else
            status = read_objective(&made->objective[i], i, losses[i], mbp_net_output_width(net, i), error);
        if (status == MBP_OK)
            status = check_activation(net, i, &made->objective[i], error);
    }
    if (status != MBP_OK) {
        mbp_trainer_free(made);
        return status;
    }
    for (int i = 0; i < n_losses; i++) /* last, because nothing can fail after this */
        if (losses[i] && net->output[i].activation < 0)
            net->output[i].activation = mbp_loss_activation(made->objective[i].loss.row);
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
