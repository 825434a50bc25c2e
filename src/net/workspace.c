#include "net/workspace.h"

#include "system/text.h"

/* The distance between rows in the workspace, in elements: a row longer than a cache line gets whole cache lines. The
 * distance is never a multiple of 1 KB, because the rows of a tile would then compete for the same cache sets. */
static int64_t leading_dimension(const mbp_net *net, int64_t width) {
    const int64_t line = MBP_ALIGNMENT / (int64_t)net->item;
    if (width <= line)
        return width;
    const int64_t padded = (width + line - 1) / line * line;
    return padded * (int64_t)net->item % 1024 ? padded : padded + line;
}

/* ---- laying out the block ---- */

/* base NULL: only the size is computed. */
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

/* Returns the place of a node's rows. in_concat 1: the node's columns in its home, whose place is homes[node->home]; 0:
 * memory of their own. */
static mbp_view place(layout *l, const mbp_view *homes, const mbp_node *node, int in_concat) {
    if (!in_concat)
        return take_rows(l, node->width);
    if (!l->base)
        return (mbp_view){0};
    return (mbp_view){(char *)homes[node->home].at + (size_t)node->column * l->net->item, homes[node->home].ld};
}

static void lay_node(layout *l, mbp_workspace *w, int id) {
    const mbp_node *node = &l->net->node[id];
    const int at_home = node->home >= 0;
    mbp_view home = place(l, w->home, node, at_home), z = {0}, delta = {0};
    if (w->needs & MBP_DELTAS && node->kind == MBP_NODE_DENSE && mbp_activation_keeps_z(node->activation.row))
        z = take_rows(l, node->width);
    if (w->needs & (node->kind == MBP_NODE_INPUT ? MBP_INPUT_DELTAS : MBP_DELTAS))
        delta = place(l, w->delta, node, at_home && node->uses == 1); /* else several nodes write to the delta */
    if (l->base) {
        w->home[id] = home;
        w->z[id] = z;
        w->delta[id] = delta;
    }
}

/* batch_norm has statistics of columns, layer_norm of rows; a scale only has the sums of its gradients. */
static void lay_statistics(layout *l, mbp_workspace *w, int id) {
    const mbp_node *node = &l->net->node[id];
    const int columns = node->kind == MBP_NODE_BATCH_NORM, trains = w->needs & MBP_DELTAS;
    const int64_t count = columns ? node->width : node->kind == MBP_NODE_LAYER_NORM ? l->rows : 0;
    if (!count && node->kind != MBP_NODE_SCALE)
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

/* Nodes from last to first, so that a concat has its place before its operands, which are inside it. */
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
    w->chosen = take(l, w->needs & MBP_TARGETS ? l->rows : 0, sizeof(int64_t));
    w->pack = take(l, l->threads, net->kernels->pack);
    for (int id = net->nodes - 1; id >= 0; id--)
        if (net->node[id].uses) {
            lay_node(l, w, id);
            lay_statistics(l, w, id);
        }
    for (int i = 0; i < net->outputs; i++)
        lay_output(l, w, i);
    take(l, MBP_READABLE, 1);
}

mbp_status mbp_workspace_grow(const mbp_net *net, mbp_workspace *old, int64_t rows, int needs, int threads,
                              mbp_workspace **grown, mbp_error *error) {
    if (old && old->rows >= rows && (old->needs & needs) == needs && old->threads >= threads)
        return *grown = old, MBP_OK;
    rows = old && old->rows > rows ? old->rows : rows;
    threads = old && old->threads > threads ? old->threads : threads;
    needs |= old ? old->needs : 0;
    mbp_workspace count = {.rows = rows, .needs = needs}, *made = NULL;
    layout l = {.net = net, .rows = rows, .threads = threads};
    lay_workspace(&l, &count);
    if (!l.overflow)
        made = mbp_allocate(net->allocator, l.used);
    if (!made)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for a batch of %lld row%s; use a smaller batch",
                        (long long)rows, mbp_plural(rows));
    *made = (mbp_workspace){.bytes = l.used,
                            .rows = rows,
                            .needs = needs,
                            .pack_bytes = net->kernels->pack,
                            .threads = threads,
                            .slot = old ? old->slot : -1};
    l = (layout){.net = net, .rows = rows, .threads = threads, .base = (char *)made};
    lay_workspace(&l, made);
    *grown = made;
    return MBP_OK;
}

mbp_status mbp_workspace_reserve(const mbp_net *net, mbp_workspace **workspace, int64_t rows, int needs, int threads,
                                 mbp_error *error) {
    mbp_workspace *old = *workspace;
    mbp_status status = mbp_workspace_grow(net, old, rows, needs, threads, workspace, error);
    if (*workspace != old)
        mbp_workspace_free(net, old);
    return status;
}

void mbp_workspace_free(const mbp_net *net, mbp_workspace *workspace) {
    if (workspace)
        mbp_release(net->allocator, workspace, workspace->bytes);
}

/* ---- sizes that depend on the net ---- */

int mbp_product_threads(const mbp_net *net, int64_t rows) {
    return mbp_worthwhile_threads(mbp_net_threads(net), (double)rows * net->largest_product);
}

/* Returns the number of rows whose values take about 256 KB (half of a small L2 cache): a multiple of MBP_LOSS_CHUNK
 * from 256 to 1024. Not fewer than 256, because each slice packs all weights again: 1024-1024-1024-1024 is 8 % slower
 * with slices of 64 rows than with slices of 256. */
int64_t mbp_slice_rows(const mbp_net *net) {
    const int64_t rows = (256 << 10) / ((net->values + 1) * (int64_t)net->item) / MBP_LOSS_CHUNK * MBP_LOSS_CHUNK;
    return rows < 256 ? 256 : rows > 1024 ? 1024 : rows;
}

/* ---- idle workspaces ---- */

/* Stands in a slot while its workspace is in use. So the slot stays the workspace's, and giving it back is a store. */
static mbp_workspace *in_use(const mbp_net *net) { return (mbp_workspace *)net; }

static int is_idle(const mbp_net *net, const mbp_workspace *workspace) { return workspace && workspace != in_use(net); }

mbp_workspace *mbp_workspace_take_idle(mbp_net *net) {
    for (int i = 0; i < MBP_IDLE_MAX; i++) {
        mbp_workspace *workspace = atomic_load_explicit(&net->idle[i], memory_order_relaxed);
        if (is_idle(net, workspace))
            workspace = atomic_exchange_explicit(&net->idle[i], in_use(net), memory_order_acquire);
        if (is_idle(net, workspace)) {
            workspace->slot = i;
            return workspace;
        }
    }
    return NULL;
}

void mbp_workspace_give_idle(mbp_net *net, mbp_workspace *workspace) {
    if (workspace->slot >= 0) {
        atomic_store_explicit(&net->idle[workspace->slot], workspace, memory_order_release);
        return;
    }
    for (int i = 0; i < MBP_IDLE_MAX; i++) {
        mbp_workspace *none = NULL;
        if (atomic_compare_exchange_strong_explicit(&net->idle[i], &none, workspace, memory_order_release,
                                                    memory_order_relaxed))
            return;
    }
    mbp_workspace_free(net, workspace);
}

void mbp_workspace_free_idle(mbp_net *net) {
    for (int i = 0; i < MBP_IDLE_MAX; i++) {
        mbp_workspace *workspace = atomic_load(&net->idle[i]);
        if (is_idle(net, workspace))
            mbp_workspace_free(net, workspace);
    }
}

void mbp_workspace_after_fork(mbp_net *net) {
    for (int i = 0; i < MBP_IDLE_MAX; i++) {
        mbp_workspace *lost = in_use(net);
        atomic_compare_exchange_strong(&net->idle[i], &lost, NULL);
    }
}
