/* Creates and frees trainers, and holds their net for calls. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

#include "system/text.h"
#include "train/solving.h"

mbp_status mbp_trainer_enter(mbp_trainer *trainer, mbp_error *error) {
    if (!trainer)
        return mbp_fail_null(error, "trainer", MBP_A_TRAINER);
    mbp_status status = mbp_net_take(trainer->net, error);
    if (status == MBP_OK)
        trainer->floats = mbp_float_enter(MBP_FLUSH_SUBNORMALS);
    return status;
}

/* Whether another trainer of the net has not brought its rows up to date. */
static int others_are_late(const mbp_trainer *t) {
    const mbp_late *late = MICROBP_SPARSE ? t->net->shared->late : NULL;
    return late && !(t->lazy && late == &t->lazy->late && !late->next);
}

mbp_status mbp_trainer_enter_training(mbp_trainer *trainer, mbp_error *error) {
    mbp_status status = mbp_trainer_enter(trainer, error);
    if (status == MBP_OK && others_are_late(trainer))
        status = mbp_net_settle(trainer->net, error);
    if (status != MBP_OK)
        return status;
    if (trainer->net->shared->lock.guests)
        return mbp_trainer_leave(trainer, mbp_lock_fail_guest(error));
    mbp_ranks *ranks = mbp_ranks_of(trainer);
    if (ranks) {
        ranks->failed_rank = ranks->peers.failed = 0;
        ranks->unsent = trainer->net->params;
    }
    return MBP_OK;
}

static void take_back(mbp_trainer *t) {
    mbp_workspace_free(&t->memory, t->workspace);
    t->workspace = t->before;
    t->before = NULL;
}

mbp_status mbp_trainer_leave(mbp_trainer *trainer, mbp_status status) {
    if (trainer->before)
        take_back(trainer);
    mbp_float_leave(trainer->floats);
    mbp_net_give(trainer->net);
    return status;
}

mbp_status mbp_trainer_make_room(mbp_trainer *t, int64_t rows, int needs, const mbp_array *x, mbp_error *error) {
    mbp_workspace *old = t->workspace;
    const int threads = mbp_product_threads(t->net, rows);
    if (mbp_workspace_fits(t->net, old, rows, needs, threads, x))
        return MBP_OK;
    mbp_status status = mbp_workspace_grow(t->net, &t->memory, old, rows, needs, threads, x, &t->workspace, error);
    if (status != MBP_OK)
        return status;
    if (t->forward_rows || t->input_grad_rows)
        t->before = old;
    else
        mbp_workspace_free(&t->memory, old);
    return status;
}

mbp_status mbp_trainer_reserve(mbp_trainer *trainer, int64_t rows, mbp_error *error) {
    mbp_status status = mbp_trainer_enter_training(trainer, error);
    if (status != MBP_OK)
        return status;
    if (rows < 1)
        status = mbp_fail(error, MBP_INVALID, "rows is %lld, but must be at least 1", (long long)rows);
    else
        status = mbp_trainer_make_room(trainer, rows, MBP_TARGETS | MBP_DELTAS | MBP_INPUT_DELTAS | trainer->missing,
                                       NULL, error);
    if (status == MBP_OK && trainer->before)
        mbp_trainer_forget(trainer);
    return mbp_trainer_leave(trainer, status);
}

size_t mbp_trainer_bytes(const mbp_trainer *trainer) { return trainer ? mbp_memory_bytes(&trainer->memory) : 0; }

void mbp_trainer_plan(mbp_trainer *t, int input_grads) {
    const size_t item = t->net->item;
    const int per_tensor = t->setting[MBP_CLIP_LAYER_NORM] < INFINITY ||
                           (!mbp_has_solver(t) && t->net->kernels->training->measure[t->optimizer.row]);
    if (t->plan.layers_version == t->net->layers_version && t->plan.input_grads == input_grads &&
        t->plan.per_tensor == per_tensor)
        return;
    mbp_plan_make(t->net, &t->plan, input_grads, t->optimizer.parameters[t->decay_bias] != 0, per_tensor);
    for (int i = 0; i < t->net->layers; i++) {
        const mbp_layer *layer = &t->net->layer[i];
        if (layer->frozen && mbp_trains_sparse(t, i))
            t->lazy->grad[i].count = 0;
        else if (layer->frozen && layer->weight >= 0)
            memset(t->grads + (size_t)layer->weight * item, 0, (size_t)(layer->in * layer->out) * item);
        if (layer->frozen && layer->bias >= 0)
            memset(t->grads + (size_t)layer->bias * item, 0, (size_t)mbp_bias_width(layer) * item);
    }
}

/* ---- create and free ---- */

/* How many doubles the columns of an objective take. */
static int64_t columns_size(const char *loss, int64_t width) {
    return MICROBP_LISTS && loss && strchr(loss, '[') ? MBP_LOSS_PARAMETERS * width : 0;
}

/* Fills the columns from the lists. The numbers have been checked. */
static void read_lists(mbp_objective *objective, const mbp_lists *lists, int64_t width) {
    for (int p = 0; p < MBP_LOSS_PARAMETERS; p++) {
        const int64_t each = mbp_loss_shares(objective->loss.row, p) ? objective->width : 1;
        mbp_slice rest = lists->of[p].inside;
        double number = objective->loss.parameters[p];
        for (int64_t j = 0; j < width; j++) {
            if (lists->of[p].count && j % each == 0)
                mbp_parse_number(mbp_take_word(&rest), &number);
            objective->columns[MBP_LOSS_PARAMETERS * j + p] = number;
        }
        objective->lists |= lists->of[p].count ? 1u << p : 0;
    }
}

static int has_gamma(const mbp_formula *loss, const mbp_lists *lists) {
    enum { GAMMA = 2 }; /* the place of the parameter, if the loss has it */
    const char *parameters = mbp_formula_parameters(MBP_LOSS, loss->row);
    mbp_slice name;
    double standard;
    mbp_interval interval;
    return mbp_parameter(parameters, GAMMA, &name, &standard, &interval) && mbp_slice_is(name, "gamma") &&
           (loss->parameters[GAMMA] != 0 || lists->of[GAMMA].count);
}

static mbp_status read_objective(mbp_objective *objective, int i, const char *loss, int64_t width, mbp_error *error) {
    mbp_lists lists;
    if (!loss) {
        objective->loss.row = -1;
        return MBP_OK;
    }
    mbp_status status = mbp_loss_parse(mbp_slice_of(loss), &objective->loss, &lists, error);
    if (status == MBP_OK)
        status = mbp_loss_width(&objective->loss, &lists, width, &objective->width, error);
    if (status != MBP_OK)
        return status;
    if (mbp_has_columns(objective))
        read_lists(objective, &lists, width);
    const char *targets = mbp_loss_targets(objective->loss.row);
    objective->labels = MBP_HAS_LABELS && strcmp(targets, "LABELS") == 0;
    objective->signs = strcmp(targets, "SIGNS") == 0;
    objective->missing = mbp_loss_missing(&objective->loss);
    if (objective->missing && !MICROBP_GAPS)
        return mbp_fail_extra(error, "missing targets", "gaps");
    if (!MICROBP_FOCAL && has_gamma(&objective->loss, &lists))
        return mbp_fail_extra(error, "losses with gamma", "focal");
    if (objective->labels && width < 2)
        return mbp_fail(error, MBP_INVALID,
                        "output %d has 1 column, but %s needs at least 2, one per class; for 1 column use bce", i,
                        mbp_formula_name(MBP_LOSS, objective->loss.row));
    if (!objective->signs)
        objective->targets = mbp_parse_interval(mbp_slice_of(objective->labels ? "[0,1]" : targets));
    return MBP_OK;
}

/* Allocates the block that trainer.h describes, all zero. */
static mbp_trainer *allocate_trainer(mbp_net *net, const char *const *losses, int slots) {
    int64_t columns = 0;
    for (int i = 0; i < net->outputs; i++)
        columns += columns_size(losses[i], mbp_output_width(net, i));
    const size_t of_outputs = (size_t)net->outputs * (sizeof(mbp_objective) + sizeof(double));
    const size_t head = mbp_aligned(sizeof(mbp_trainer) + of_outputs + sizeof(double) +
                                    (size_t)columns * sizeof(double));
    const size_t plan = mbp_aligned(mbp_plan_bytes(net)), vector = mbp_aligned((size_t)net->params * net->item),
                 buffers = mbp_aligned((size_t)net->buffers * net->item);
    size_t bytes = head + plan + buffers + vector * (size_t)(1 + slots) + MBP_READABLE;
    char *at = mbp_allocate_zero(mbp_net_allocator(net), bytes);
    if (!at)
        return NULL;
    mbp_trainer *trainer = (mbp_trainer *)at;
    trainer->bytes = bytes;
    trainer->net = net;
    trainer->memory.allocator = mbp_net_allocator(net);
    mbp_memory_count(&trainer->memory, bytes);
    trainer->objective = (mbp_objective *)(at + sizeof *trainer);
    trainer->now = (double *)(trainer->objective + net->outputs);
    double *next = trainer->now + net->outputs + 1;
    for (int i = 0; i < net->outputs; i++) {
        const int64_t size = columns_size(losses[i], mbp_output_width(net, i));
        trainer->objective[i].columns = size ? next : NULL;
        next += size;
    }
    mbp_plan_place(net, &trainer->plan, at += head);
    trainer->pending = at += plan;
    trainer->grads = at += buffers;
    trainer->slot_count = slots;
    for (int i = 0; i < slots; i++)
        trainer->slots[i] = at += vector;
    return trainer;
}

static void fill_slot(const mbp_trainer *trainer, int i) {
    const double start = mbp_optimizer_slot_start(trainer->optimizer.row, i, trainer->optimizer.parameters);
    if (start == 0) {
        mbp_clear(trainer->slots[i], (size_t)trainer->net->params * trainer->net->item);
        return;
    }
    for (int64_t k = 0; k < trainer->net->params; k++)
        if (trainer->net->dtype == MBP_F64)
            ((double *)trainer->slots[i])[k] = start;
        else
            ((float *)trainer->slots[i])[k] = (float)start;
}

static MBP_APART void start(mbp_trainer *trainer) {
    for (int i = 0; i < trainer->slot_count; i++)
        fill_slot(trainer, i);
    for (int i = 0; i < trainer->net->outputs; i++)
        mbp_put_number(&trainer->objective[i].value, NAN);
    mbp_trainer_run(trainer, &(mbp_running){.power = {1, 1}, .loss = NAN, .last_loss = NAN});
}

void mbp_trainer_start(mbp_trainer *trainer) {
    const mbp_float_state before = mbp_float_enter(MBP_KEEP_SUBNORMALS);
    start(trainer);
    mbp_float_leave(before);
}

static mbp_status set_optimizer(mbp_trainer *trainer, mbp_kind kind, const mbp_formula *optimizer, mbp_error *error) {
    mbp_status status = MBP_OK;
    if (MICROBP_SOLVERS)
        trainer->kind = kind;
    trainer->optimizer = *optimizer;
    if (MICROBP_SOLVERS && kind == MBP_SOLVER)
        status = mbp_solver_create(trainer, error);
    else
        trainer->decay = mbp_optimizer_decay(optimizer->row),
        trainer->decay_bias = mbp_optimizer_decay_bias(optimizer->row);
    mbp_trainer_start(trainer);
    return status;
}

mbp_status mbp_objective_check_activation(const mbp_net *net, int i, const mbp_objective *objective, mbp_error *error) {
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

/* Refuses a loss that cannot learn from scaled targets. Its activation has been checked. */
static mbp_status check_scale(const mbp_net *net, int i, const mbp_objective *objective, mbp_error *error) {
    if (!mbp_scale_of(net, i) || objective->loss.row < 0 || mbp_objective_has_unit(objective))
        return MBP_OK;
    return mbp_fail(
        error, MBP_INVALID,
        "output %d scales its targets, but the loss %s needs values in %s; to remove its mean and std, call "
        "mbp_net_set_output(net, %d, \"identity\", error)",
        i, mbp_formula_name(MBP_LOSS, objective->loss.row), mbp_objective_targets(objective), i);
}

/* Sets the output activations that the losses imply where none is chosen. */
static void choose_activations(const mbp_trainer *trainer) {
    mbp_net *net = trainer->net;
    mbp_gate_enter_alone(&net->shared->lock);
    for (int i = 0; i < net->outputs; i++)
        if (trainer->objective[i].loss.row >= 0 && net->output[i].activation < 0)
            MBP_PUT(&net->output[i].activation, mbp_loss_activation(trainer->objective[i].loss.row));
    mbp_gate_leave_alone(&net->shared->lock);
}

static mbp_status fail_loss_weight(int i, double weight, mbp_error *error) {
    char number[MBP_NUMBER_SIZE];
    mbp_print_number(number, weight);
    return mbp_fail(error, MBP_INVALID, "loss_weights[%d] is %s, but must be finite and at least 0", i, number);
}

static mbp_status set_up(mbp_trainer *made, const char *const *losses, const double *loss_weights, mbp_kind kind,
                         const mbp_formula *optimizer, mbp_error *error) {
    mbp_status status = set_optimizer(made, kind, optimizer, error);
    made->seed = made->net->seed;
    mbp_parameter_defaults(MBP_TRAINER_SETTINGS, made->setting);
    for (int i = 0; i < made->net->outputs && status == MBP_OK; i++) {
        made->objective[i].weight = loss_weights ? loss_weights[i] : 1;
        made->objective[i].positions = mbp_positions(&made->net->node[made->net->output[i].node]);
        if (!(made->objective[i].weight >= 0 && made->objective[i].weight < INFINITY))
            status = fail_loss_weight(i, made->objective[i].weight, error);
        else
            status = read_objective(&made->objective[i], i, losses[i], mbp_output_width(made->net, i), error);
        if (status == MBP_OK)
            status = mbp_objective_check_activation(made->net, i, &made->objective[i], error);
        if (status == MBP_OK)
            status = check_scale(made->net, i, &made->objective[i], error);
        if (status == MBP_OK && losses[i] && mbp_trainer_positions(made, i) > 1 && !MICROBP_GAPS)
            status = mbp_fail_extra(error, "losses over several positions", "gaps");
        if (made->objective[i].missing || (losses[i] && mbp_trainer_positions(made, i) > 1))
            made->missing = MBP_WEIGHTS;
    }
    if (status == MBP_OK) /* last, because nothing can fail after this */
        choose_activations(made);
    return status;
}

mbp_status mbp_trainer_create(mbp_trainer **trainer, mbp_net *net, const char *const *losses,
                              const double *loss_weights, int n_losses, const char *optimizer, mbp_error *error) {
    mbp_formula formula;
    if (!trainer)
        return mbp_fail_null(error, "trainer", MBP_GETS_TRAINER);
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    if (!losses)
        return mbp_fail_null(error, "losses", "an array with one loss per output");
    if (!optimizer)
        return mbp_fail_null(error, "optimizer", "a SPEC such as \"adam(lr=0.001)\"");
    if (n_losses != net->outputs)
        return mbp_fail(error, MBP_INVALID, "losses has %d item%s, but the net has %d output%s", n_losses,
                        mbp_plural(n_losses), net->outputs, mbp_plural(net->outputs));
    const mbp_kind kind = MICROBP_SOLVERS ? mbp_solver_kind(mbp_slice_of(optimizer)) : MBP_OPTIMIZER;
    mbp_status status = mbp_formula_parse(kind, mbp_slice_of(optimizer), &formula, error);
    if (status != MBP_OK)
        return status;
    status = mbp_net_take(net, error);
    if (status != MBP_OK)
        return status;
    mbp_trainer *made = allocate_trainer(net, losses,
                                         MICROBP_SOLVERS && kind == MBP_SOLVER ? 0 : mbp_optimizer_slots(formula.row));
    if (made)
        status = set_up(made, losses, loss_weights, kind, &formula, error);
    else
        status = mbp_fail(error, MBP_NO_MEMORY, "no memory for a trainer of %lld parameters", (long long)net->params);
    if (status == MBP_OK)
        *trainer = made;
    else
        mbp_trainer_free(made);
    mbp_net_give(net);
    return status;
}

#if MICROBP_SPARSE
/* Rows that are not up to date are the net's, so they are brought up to date first. */
static void free_lazy(mbp_trainer *t) {
    mbp_lock *lock = &t->net->shared->lock;
    mbp_lock_wait(lock);
    (void)mbp_net_settle(t->net, NULL);
    mbp_lock_give(lock);
    mbp_lazy_free(t->lazy);
}
#endif

void mbp_trainer_free(mbp_trainer *trainer) {
    if (!trainer)
        return;
#if MICROBP_SPARSE
    if (trainer->lazy)
        free_lazy(trainer);
#endif
    mbp_workspace_free(&trainer->memory, trainer->workspace);
    mbp_memory_give(&trainer->memory, trainer->average.at, trainer->average.bytes);
    mbp_memory_give(&trainer->memory, trainer->kept, trainer->kept_bytes);
    mbp_memory_give(&trainer->memory, trainer->ranks, trainer->ranks_bytes);
    if (MICROBP_SOLVERS && mbp_has_solver(trainer))
        mbp_solver_free(trainer);
    mbp_release(mbp_net_allocator(trainer->net), trainer, trainer->bytes);
}
