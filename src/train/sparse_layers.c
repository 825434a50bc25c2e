/* Which layers of a trainer are sparse: embeddings of ids, and dense layers that sparse rows feed. */
#include "train/trainer.h"

#include <string.h>

#include "system/text.h"

#if MICROBP_SPARSE
/* The sparse rows that node `id` reads; NULL: it does not. x: the inputs; NULL: those in the workspace. */
static int reads_sparse(const mbp_trainer *t, const mbp_array *x, int id) {
    const mbp_node *node = &t->net->node[id];
    if (!mbp_reads_sparse(node->kind) || !node->uses || t->net->layer[node->layer].frozen)
        return 0;
    const mbp_node *from = &t->net->node[t->net->operands[node->first_operand]];
    const int input = from->input;
    if (mbp_is_ids(from))
        return 1;
    return input >= 0 && (x ? mbp_is_sparse(&x[input]) : t->workspace->sparse && t->workspace->input[input].is_sparse);
}

static mbp_idle idle_of(const mbp_trainer *t) {
    if (MICROBP_SOLVERS && t->solver)
        return (mbp_idle){.kind = MBP_IDLE_UNKNOWN};
    return mbp_optimizer_idle(t->optimizer.row, t->optimizer.parameters, t->optimizer.parameters[t->decay]);
}

/* Refuses what would change rows that a batch does not name, and what needs gradients in the flat vector. */
static mbp_status check_sparse(const mbp_trainer *t, int index, mbp_error *error) {
    const mbp_layer *layer = &t->net->layer[index];
    const int is_embedding = mbp_is_embedding(layer->kind);
    const char *has = is_embedding ? "is an embedding" : "has sparse rows";
    const char *advice = is_embedding ? "" : ", or pass dense arrays";
    const char *instead = is_embedding ? ", or use adamw" : ", use adamw";
    const char *optimizer = mbp_formula_name(mbp_trainer_kind(t), t->optimizer.row);
    const mbp_idle_kind kind = idle_of(t).kind;
    static const struct {
        int setting;
        char name[12];
    } settings[] = {{MBP_LAYER_L1, "l1"}, {MBP_LAYER_L2, "l2"}, {MBP_LAYER_MAX_NORM, "max_norm"}};
    if (kind == MBP_IDLE_UNKNOWN)
        return mbp_fail(
            error, MBP_INVALID,
            "layer %s %s, but %s changes all rows in each step: use another optimizer, such as adam or sgd_momentum%s",
            layer->name, has, optimizer, advice);
    if (kind == MBP_IDLE_DECAYS)
        return mbp_fail(
            error, MBP_INVALID,
            "layer %s %s, but %s with weight_decay changes all rows in each step: set weight_decay to 0%s%s",
            layer->name, has, optimizer, strcmp(optimizer, "adam") != 0 ? "" : instead, advice);
    if (is_embedding && layer->setting[MBP_EMBEDDING_MAX_NORM] > 0 && kind != MBP_IDLE_STILL && kind != MBP_IDLE_SCALED)
        return mbp_fail(error, MBP_INVALID,
                        "layer %s has a max_norm, but %s moves rows without a gradient: use another optimizer, such as "
                        "adam, or set max_norm to 0",
                        layer->name, optimizer);
    for (size_t i = 0; i < sizeof settings / sizeof *settings && !is_embedding; i++)
        if (layer->setting[settings[i].setting] > 0)
            return mbp_fail(error, MBP_INVALID,
                            "layer %s has sparse rows, but its %s changes all rows in each step: set %s to 0%s",
                            layer->name, settings[i].name, settings[i].name, advice);
    if (t->average.at)
        return mbp_fail(error, MBP_INVALID,
                        "layer %s %s, of which no average is kept: use a trainer without an average%s", layer->name,
                        has, advice);
    return MBP_OK;
}

/* The layer's gradient in the flat vector. */
static char *dense_grad(const mbp_trainer *t, int index) {
    return t->grads + (size_t)t->net->layer[index].weight * t->net->item;
}

/* How many rows that gradient names, before the layer is sparse: all, or none if it is 0. */
static int64_t dense_rows(const mbp_trainer *t, int index) {
    const mbp_layer *layer = &t->net->layer[index];
    return mbp_is_clear(dense_grad(t, index), (size_t)(layer->in * layer->out) * t->net->item) ? 0 : layer->in;
}

/* Room for the gradients of sparse layers, and of those that x will make sparse: from all their uses, and with those
 * that they have. */
static mbp_status reserve_sparse(mbp_trainer *t, const mbp_array *x, int accumulate, mbp_error *error) {
    mbp_status status = MBP_OK;
    for (int i = 0; i < t->net->layers && status == MBP_OK; i++) {
        int is_sparse = mbp_trains_sparse(t, i);
        int64_t rows = 0, passes = accumulate;
        for (int id = 0; id < t->net->nodes; id++) {
            if (t->net->node[id].layer != i || !t->net->node[id].uses)
                continue;
            const int input = t->net->node[t->net->operands[t->net->node[id].first_operand]].input;
            const int64_t most = input >= 0 ? t->workspace->input[input].room : 0;
            const int reads = reads_sparse(t, x, id);
            is_sparse |= reads;
            rows += reads && most < t->net->layer[i].in ? most : t->net->layer[i].in;
            passes++;
        }
        if (is_sparse && accumulate)
            rows += mbp_trains_sparse(t, i) ? t->lazy->grad[i].count : dense_rows(t, i);
        if (is_sparse)
            status = mbp_lazy_reserve(t->lazy, i, rows, passes > 1, error);
    }
    return status;
}

/* Room for what a sparse layer has, if there is none yet. */
static mbp_status add_layer(mbp_trainer *t, int index, mbp_error *error) {
    mbp_idle idle = idle_of(t);
    if (idle.kind == MBP_IDLE_DECAYS) /* no step is done with it */
        idle = mbp_optimizer_idle(t->optimizer.row, t->optimizer.parameters, 0);
    if (!t->lazy)
        t->lazy = mbp_lazy_create(t->net, &t->memory, t->optimizer.row, t->slots, t->slot_count);
    if (!t->lazy)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for sparse layers");
    return t->lazy->layer[index].seen ? MBP_OK : mbp_lazy_add(t->lazy, index, &idle, error);
}

mbp_status mbp_sparse_check_layers(const mbp_trainer *t, mbp_error *error) {
    mbp_status status = MBP_OK;
    for (int i = 0; i < t->net->layers && status == MBP_OK; i++)
        if (mbp_trains_sparse(t, i) && !t->net->layer[i].frozen)
            status = check_sparse(t, i, error);
    return status;
}

mbp_status mbp_sparse_open(mbp_trainer *t, const mbp_array *x, int accumulate, mbp_error *error) {
    mbp_status status = mbp_sparse_check_layers(t, error);
    if (t->lazy && x && !accumulate)
        t->lazy->is_uneven |= t->lazy->is_ahead;
    for (int id = 0; id < t->net->nodes && status == MBP_OK; id++)
        if (reads_sparse(t, x, id))
            status = check_sparse(t, t->net->node[id].layer, error);
    for (int id = 0; id < t->net->nodes && status == MBP_OK; id++)
        if (reads_sparse(t, x, id))
            status = add_layer(t, t->net->node[id].layer, error);
    return status == MBP_OK && t->lazy ? reserve_sparse(t, x, accumulate, error) : status;
}

void mbp_sparse_turn_on(mbp_trainer *t, int index) {
    const mbp_layer *layer = &t->net->layer[index];
    t->lazy->grad[index].is_on = 1;
    mbp_clear(dense_grad(t, index), (size_t)(layer->in * layer->out) * t->net->item);
    t->plan.sparse[index] = 1;
    t->plan.layers_version = t->net->layers_version - 1;
}

/* Its gradient becomes that of these rows of the flat vector, where it becomes 0. rows NULL: 0, 1, ... */
static void start_layer(mbp_trainer *t, int index, const int32_t *rows, int64_t count) {
    mbp_lazy_start(t->lazy, index, rows, count, dense_grad(t, index));
    mbp_sparse_turn_on(t, index);
}

void mbp_sparse_start(mbp_trainer *t, const mbp_array *x, int accumulate) {
    for (int i = 0; i < t->net->layers; i++)
        t->lazy->grad[i].is_new = 0;
    for (int id = 0; id < t->net->nodes; id++) {
        const int index = t->net->node[id].layer;
        if (reads_sparse(t, x, id) && !mbp_trains_sparse(t, index))
            start_layer(t, index, NULL, accumulate ? dense_rows(t, index) : 0);
    }
    mbp_trainer_plan(t, t->plan.input_grads);
}

mbp_status mbp_sparse_reserve(mbp_trainer *t, int index, int64_t rows, mbp_error *error) {
    const mbp_status status = add_layer(t, index, error);
    return status == MBP_OK ? mbp_lazy_reserve(t->lazy, index, rows, 0, error) : status;
}

mbp_status mbp_sparse_restore(mbp_trainer *t, int index, const int32_t *rows, int64_t count, mbp_error *error) {
    mbp_status status = idle_of(t).kind == MBP_IDLE_UNKNOWN ? check_sparse(t, index, error) : MBP_OK;
    if (status == MBP_OK)
        status = mbp_sparse_reserve(t, index, count, error);
    if (status == MBP_OK)
        start_layer(t, index, rows, count);
    return status;
}
#endif
