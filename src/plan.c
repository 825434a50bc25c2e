/* Floor 3: shapes to offsets in a workspace, how many threads work is worth, and who stores first and who adds in the backward pass. */
#include "net.h"

#include <string.h>

/* ---- where values and deltas live ---- */

/* The first concat that takes node `id` as an operand, with the column where it does; -1: none. A producer writes straight into it. An
 * input is the caller's memory and has no such place. */
static int concat_home(const mbp_net *net, int id, int64_t *column) {
    if (net->node[id].kind == MBP_INPUT)
        return -1;
    for (int user = id + 1; user < net->nodes; user++) {
        const mbp_node *node = &net->node[user];
        if (node->kind != MBP_CONCAT || !node->reached)
            continue;
        *column = 0;
        for (int i = 0; i < node->operands; i++) {
            const int operand = net->operands[node->first_operand + i];
            if (operand == id)
                return user;
            *column += net->node[operand].width;
        }
    }
    return -1;
}

/* How many operands, and outputs, are this node. */
static int uses(const mbp_net *net, int id) {
    int count = 0;
    for (int user = id + 1; user < net->nodes; user++)
        for (int i = 0; net->node[user].reached && i < net->node[user].operands; i++)
            count += net->operands[net->node[user].first_operand + i] == id;
    for (int i = 0; i < net->outputs; i++)
        count += net->output[i].node == id;
    return count;
}

/* As concat_home, for the delta: only where the concat is the one user, since then the concat's delta is the operand's. */
static int delta_home(const mbp_net *net, int id, int64_t *column) { return uses(net, id) == 1 ? concat_home(net, id, column) : -1; }

/* Columns of a row in the workspace: whole cache lines once there is more than one, and no multiple of 1 KB, where the rows of a tile would
 * compete for the same cache sets. */
static int64_t leading_dimension(const mbp_net *net, int64_t width) {
    const int64_t line = MBP_ALIGNMENT / (int64_t)net->item;
    if (width <= line)
        return width;
    const int64_t padded = (width + line - 1) / line * line;
    return padded * (int64_t)net->item % 1024 ? padded : padded + line;
}

/* ---- how many threads ---- */

int mbp_net_threads(const mbp_net *net) {
    if (!net || !net->pool)
        return 1;
    const int limit = atomic_load_explicit(&net->threads, memory_order_relaxed), pool = mbp_pool_threads(net->pool);
    return limit && limit < pool ? limit : pool;
}

int mbp_product_threads(const mbp_net *net, int64_t rows) {
    const int threads = mbp_net_threads(net);
    double most = 0;
    for (int id = 0; threads > 1 && id < net->nodes; id++) {
        const mbp_node *node = &net->node[id];
        if (node->kind == MBP_DENSE && node->reached) {
            const double work = 2.0 * (double)rows * (double)net->layer[node->layer].in * (double)node->width;
            most = work > most ? work : most;
        }
    }
    return mbp_worthwhile_threads(threads, most);
}

int64_t mbp_piece_rows(int64_t n) {
    const int64_t rows = (16 << 10) / (n + 1);
    return rows < 1 ? 1 : rows;
}

/* ---- a workspace ---- */

/* A block being laid out: with base NULL only its size is counted. */
typedef struct layout {
    const mbp_net *net;
    char *base;
    size_t used;
    int64_t rows;
    int threads, overflow;
} layout;

static void *take(layout *l, int64_t count, size_t item) {
    size_t bytes;
    void *at = l->base ? l->base + l->used : NULL;
    l->overflow |= __builtin_mul_overflow((size_t)count, item, &bytes);
    l->overflow |= __builtin_add_overflow(bytes, (size_t)MBP_ALIGNMENT, &bytes);
    l->overflow |= __builtin_add_overflow(l->used, bytes, &l->used);
    l->used = l->used / MBP_ALIGNMENT * MBP_ALIGNMENT;
    return at;
}

static mbp_view take_rows(layout *l, int64_t width) {
    const int64_t ld = leading_dimension(l->net, width);
    return (mbp_view){take(l, l->rows, (size_t)ld * l->net->item), ld};
}

/* The node's columns in the concat that is its home, or rows of its own. */
static mbp_view place(layout *l, const mbp_view *homes, int id, int home, int64_t column) {
    if (home < 0)
        return take_rows(l, l->net->node[id].width);
    return l->base ? (mbp_view){(char *)homes[home].at + (size_t)column * l->net->item, homes[home].ld} : (mbp_view){0};
}

static void lay_node(layout *l, mbp_workspace *w, int id) {
    const mbp_net *net = l->net;
    const mbp_node *node = &net->node[id];
    int64_t column = 0, delta_column = 0;
    const int whole = concat_home(net, id, &column), delta_whole = delta_home(net, id, &delta_column);
    mbp_view none = {0}, home = place(l, w->home, id, whole, column), z = none, delta = none;
    if (w->needs & MBP_DELTAS && node->kind == MBP_DENSE && mbp_activation_keeps_z(node->activation.row))
        z = take_rows(l, node->width);
    if (w->needs & (node->kind == MBP_INPUT ? MBP_INPUT_DELTAS : MBP_DELTAS))
        delta = place(l, w->delta, id, delta_whole, delta_column);
    if (l->base) {
        w->home[id] = home;
        w->z[id] = z;
        w->delta[id] = delta;
    }
}

/* batch_norm's statistics are of columns, layer_norm's of rows. */
static void lay_statistics(layout *l, mbp_workspace *w, int id) {
    const mbp_node *node = &l->net->node[id];
    const int columns = node->kind == MBP_BATCH_NORM, trains = w->needs & MBP_DELTAS;
    const int64_t count = columns ? node->width : l->rows;
    if (!columns && node->kind != MBP_LAYER_NORM)
        return;
    mbp_statistics s;
    s.mean = take(l, count, sizeof(double));
    s.variance = take(l, columns ? count : 0, sizeof(double));
    s.inverse = take(l, count, sizeof(double));
    s.sum = take(l, trains ? node->width : 0, sizeof(double));
    s.product = take(l, trains ? node->width : 0, sizeof(double));
    if (l->base)
        w->statistics[id] = s;
}

static void lay_output(layout *l, mbp_workspace *w, int i) {
    if (!(w->needs & MBP_TARGETS))
        return;
    mbp_view target = take_rows(l, l->net->node[l->net->output[i].node].width);
    int64_t *labels = take(l, l->rows, sizeof(int64_t));
    if (l->base) {
        w->target_home[i] = target;
        w->labels[i] = labels;
    }
}

/* Lays everything out in falling order of nodes, so that a concat has its place before its operands ask for theirs. */
static void lay_workspace(layout *l, mbp_workspace *w) {
    const mbp_net *net = l->net;
    take(l, 1, sizeof *w);
    w->home = take(l, net->nodes, sizeof(mbp_view));
    w->value = take(l, net->nodes, sizeof(mbp_view));
    w->z = take(l, net->nodes, sizeof(mbp_view));
    w->delta = take(l, net->nodes, sizeof(mbp_view));
    w->statistics = take(l, net->nodes, sizeof(mbp_statistics));
    w->target_home = take(l, net->outputs, sizeof(mbp_view));
    w->target = take(l, net->outputs, sizeof(mbp_view));
    w->labels = take(l, net->outputs, sizeof(int64_t *));
    w->weight = take(l, w->needs & MBP_TARGETS ? l->rows : 0, sizeof(double));
    w->pack = take(l, l->threads, net->kernels->pack);
    for (int id = net->nodes - 1; id >= 0; id--)
        if (net->node[id].reached) {
            lay_node(l, w, id);
            lay_statistics(l, w, id);
        }
    for (int i = 0; i < net->outputs; i++)
        lay_output(l, w, i);
    take(l, MBP_READABLE, 1);
}

mbp_status mbp_workspace_reserve(const mbp_net *net, mbp_workspace **workspace, int64_t rows, int needs, int threads, mbp_error *error) {
    mbp_workspace *old = *workspace;
    if (old && old->rows >= rows && (old->needs & needs) == needs && old->threads >= threads)
        return MBP_OK;
    rows = old && old->rows > rows ? old->rows : rows;
    threads = old && old->threads > threads ? old->threads : threads;
    needs |= old ? old->needs : 0;
    mbp_workspace count = {.rows = rows, .needs = needs}, *made = NULL;
    layout l = {.net = net, .rows = rows, .threads = threads};
    lay_workspace(&l, &count);
    if (!l.overflow)
        made = mbp_allocate(net->allocator, l.used);
    if (!made)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for a batch of %lld rows; use a smaller batch", (long long)rows);
    *made = (mbp_workspace){.bytes = l.used, .rows = rows, .needs = needs, .pack_bytes = net->kernels->pack, .threads = threads};
    l = (layout){.net = net, .rows = rows, .threads = threads, .base = (char *)made};
    lay_workspace(&l, made);
    mbp_workspace_free(net, old);
    *workspace = made;
    return MBP_OK;
}

void mbp_workspace_free(const mbp_net *net, mbp_workspace *workspace) {
    if (workspace)
        mbp_release(net->allocator, workspace, workspace->bytes);
}

/* As many rows as keep a slice's values within about 256 KB, half of a small L2, but enough to repay that each slice packs all weights (64
 * rows of 1024-1024-1024-1024 instead of 256: 8 % slower); whole chunks of MBP_LOSS_CHUNK rows. */
int64_t mbp_slice_rows(const mbp_net *net) {
    int64_t width = 1;
    for (int id = 0; id < net->nodes; id++)
        width += net->node[id].reached ? net->node[id].width : 0;
    const int64_t rows = (256 << 10) / (width * (int64_t)net->item) / MBP_LOSS_CHUNK * MBP_LOSS_CHUNK;
    return rows < 256 ? 256 : rows > 1024 ? 1024 : rows;
}

/* ---- the backward pass ---- */

size_t mbp_plan_bytes(const mbp_net *net) {
    return (size_t)net->operand_count * sizeof(mbp_write) + (size_t)net->nodes * (sizeof(mbp_write) + 3 * sizeof(int)) +
           (size_t)net->layers * (sizeof(int) + sizeof(double) + 2 * sizeof(mbp_group)) + 16;
}

void mbp_plan_place(const mbp_net *net, mbp_plan *plan, char *block) {
    plan->group = (mbp_group *)block;
    plan->scale = (double *)(plan->group + 2 * net->layers);
    plan->edge = (mbp_write *)(plan->scale + net->layers);
    plan->grads = plan->edge + net->operand_count;
    plan->wanted = (int *)(plan->grads + net->nodes);
    plan->deriver = plan->wanted + net->nodes;
    plan->scratch = plan->deriver + net->nodes;
    plan->layers_version = net->layers_version - 1;
}

/* A delta is wanted where a trainable parameter, or an input whose gradient was asked for, lies below. */
static void plan_wanted(const mbp_net *net, mbp_plan *plan) {
    for (int id = 0; id < net->nodes; id++) {
        const mbp_node *node = &net->node[id];
        int wanted = node->kind == MBP_INPUT ? plan->input_grads : node->layer >= 0 && !net->layer[node->layer].frozen;
        for (int i = 0; i < node->operands; i++)
            wanted |= plan->wanted[net->operands[node->first_operand + i]];
        plan->wanted[id] = wanted && node->reached;
    }
}

static mbp_write next_write(int *written) { return (*written)++ ? MBP_ACCUMULATE : MBP_STORE; }

/* In the order in which backward will write: falling nodes, rising operands. The loss writes an output's delta before all. */
static void plan_deltas(const mbp_net *net, mbp_plan *plan) {
    int *written = plan->scratch;
    int64_t column;
    memset(written, 0, (size_t)net->nodes * sizeof(int));
    memset(plan->deriver, -1, (size_t)net->nodes * sizeof(int));
    for (int i = 0; i < net->outputs; i++)
        written[net->output[i].node] = 1;
    for (int id = net->nodes - 1; id >= 0; id--) {
        const mbp_node *node = &net->node[id];
        for (int i = 0; i < node->operands; i++) {
            const int operand = net->operands[node->first_operand + i];
            const int skip = !plan->wanted[id] || !plan->wanted[operand] ||
                             (node->kind == MBP_CONCAT && delta_home(net, operand, &column) == id);
            plan->edge[node->first_operand + i] = skip ? MBP_SKIP : next_write(&written[operand]);
            if (!skip) /* the smallest user comes last, and its verdict stays */
                plan->deriver[operand] = node->kind == MBP_DENSE ? id : -1;
        }
    }
}

static void plan_grads(const mbp_net *net, mbp_plan *plan) {
    int *written = plan->scratch;
    memset(written, 0, (size_t)net->layers * sizeof(int));
    for (int id = net->nodes - 1; id >= 0; id--) {
        const mbp_node *node = &net->node[id];
        const int trains = node->layer >= 0 && node->reached && !net->layer[node->layer].frozen;
        plan->grads[id] = trains ? next_write(&written[node->layer]) : MBP_SKIP;
    }
}

/* A group of its own, or more of the last one. */
static void add_group(mbp_plan *plan, mbp_group group) {
    mbp_group *last = plan->groups && !plan->per_tensor ? &plan->group[plan->groups - 1] : NULL;
    if (last && last->lr == group.lr && last->decay == group.decay && last->offset + last->length == group.offset)
        last->length += group.length;
    else
        plan->group[plan->groups++] = group;
}

static void plan_groups(const mbp_net *net, mbp_plan *plan, int decay_bias) {
    plan->groups = 0;
    for (int i = 0; i < net->layers; i++) {
        const mbp_layer *layer = &net->layer[i];
        if (!layer->frozen && layer->kind == MBP_DENSE)
            add_group(plan, (mbp_group){layer->weight, layer->in * layer->out, layer->setting[MBP_LAYER_LR], 1, i});
    }
    for (int i = 0; i < net->layers; i++) {
        const mbp_layer *layer = &net->layer[i];
        if (!layer->frozen && layer->kind != MBP_DENSE)
            add_group(plan, (mbp_group){layer->weight, layer->out, layer->setting[MBP_LAYER_LR], decay_bias, i});
        if (!layer->frozen && layer->bias >= 0)
            add_group(plan, (mbp_group){layer->bias, layer->out, layer->setting[MBP_LAYER_LR], decay_bias, i});
    }
}

void mbp_plan_make(const mbp_net *net, mbp_plan *plan, int input_grads, int decay_bias, int per_tensor) {
    plan->layers_version = net->layers_version;
    plan->input_grads = input_grads;
    plan->per_tensor = per_tensor;
    plan_wanted(net, plan);
    plan_deltas(net, plan);
    plan_grads(net, plan);
    plan_groups(net, plan, decay_bias);
}
