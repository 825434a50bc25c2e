#include "net/workspace.h"

#include <string.h>

#include "system/text.h"

/* The distance between rows in the workspace, in elements. Rows have no gaps, so that functions of each element go
 * through whole vectors from one row to the next, but they are never a multiple of 1 KB apart: the rows of a tile would
 * then compete for the same cache sets. */
static int64_t leading_dimension(const mbp_net *net, int64_t width) {
    const int64_t item = (int64_t)net->item;
    return width * item % 1024 ? width : width + MBP_ALIGNMENT / item;
}

/* The distance between the positions of a node. There are no gaps between several, nor between those of a grid, which
 * may be seen as others, nor between the rows of an embedding, which are those of its ids, one after the other. */
static int64_t node_ld(const mbp_net *net, const mbp_node *node) {
    const int is_dense = mbp_positions(node) > 1 || (MICROBP_POSITIONS && node->kind == MBP_NODE_GRID) ||
                         mbp_is_embedding(node->kind) || mbp_is_recurrent(node->kind);
    return is_dense ? node->width : leading_dimension(net, node->width);
}

/* ---- laying out the block ---- */

/* base NULL: only the size is computed. */
typedef struct layout {
    const mbp_net *net;
    char *base;
    size_t used;
    int64_t rows;
    int threads, overflow;
    const mbp_workspace *old; /* the workspace that this one replaces; NULL: none */
    const mbp_array *x;       /* the inputs of the call, of `asked` rows; NULL: all are dense */
    int64_t asked;
} layout;

static __attribute__((noinline)) void *take_aligned(layout *l, int64_t count, uint64_t item, size_t alignment) {
    size_t bytes;
    const size_t at = (l->used + alignment - 1) / alignment * alignment;
    l->overflow |= __builtin_mul_overflow(count, item, &bytes);
    l->overflow |= __builtin_add_overflow(at, bytes, &l->used);
    l->overflow |= l->used > PTRDIFF_MAX;
    return l->base ? l->base + at : NULL;
}

/* Pointers, doubles and 64-bit integers. */
static __attribute__((noinline)) void *take(layout *l, int64_t count, uint64_t item) {
    return take_aligned(l, count, item, sizeof(int64_t));
}

static mbp_view take_rows(layout *l, const mbp_node *node) {
    const int64_t ld = node_ld(l->net, node);
    const uint64_t row = (uint64_t)(mbp_positions(node) * ld) * l->net->item;
    return (mbp_view){take_aligned(l, l->rows, row, MBP_ALIGNMENT), ld};
}

/* Returns the place of a node's rows. in_concat 1: the node's columns in its home, whose place is homes[node->home]; 0:
 * memory of their own. */
static mbp_view place(layout *l, const mbp_view *homes, const mbp_node *node, int in_concat) {
    if (!in_concat)
        return take_rows(l, node);
    if (!l->base)
        return (mbp_view){0};
    return (mbp_view){(char *)homes[node->home].at + (size_t)node->column * l->net->item, homes[node->home].ld};
}

/* Whether a node may need a place for values. Others have those of their operand: slices of one position, the last of
 * several positions where rows have no lengths, and grids, unless their operand may have gaps between its rows. */
static int is_view(const mbp_net *net, const mbp_node *node, int needs) {
    if (node->kind == MBP_NODE_GRID)
        return mbp_positions(node) == 1 || mbp_positions(&net->node[net->operands[node->first_operand]]) > 1;
    return MICROBP_POSITIONS && node->kind == MBP_NODE_LAST ? !(needs & MBP_LENGTHS) : mbp_positions(node) == 1;
}

/* Slices, grids and the last position. A slice needs no place for its delta if that is in its operand's columns. */
static void lay_view(layout *l, mbp_workspace *w, int id) {
    const mbp_node *node = &l->net->node[id];
    const mbp_view none = {0}, home = is_view(l->net, node, w->needs) ? none : take_rows(l, node),
                   delta = w->needs & MBP_DELTAS && node->home < 0 ? take_rows(l, node) : none;
    if (l->base) {
        w->home[id] = home;
        w->z[id] = none;
        w->delta[id] = delta;
    }
}

void mbp_slices_place(const mbp_net *net, mbp_workspace *w) {
    for (int id = 0; id < net->nodes; id++) { /* from first to last, because a slice may be in another slice */
        const mbp_node *node = &net->node[id];
        if (node->kind != MBP_NODE_SLICE || !node->uses || node->home < 0 || !w->delta[node->home].at)
            continue;
        const mbp_view whole = w->delta[node->home];
        w->delta[id] = (mbp_view){(char *)whole.at + (size_t)mbp_column(node, MBP_COLUMN_FROM) * net->item, whole.ld};
    }
}

/* ---- sparse inputs ---- */

static const mbp_node *ids_of(const mbp_net *net, int i) {
    const mbp_node *node = &net->node[net->input_nodes[i]];
    return mbp_is_ids(node) ? node : NULL;
}

static int64_t values_of(const mbp_array *x, int i, int64_t rows) {
    return x && mbp_is_sparse(&x[i]) ? mbp_csr_most(&x[i], rows) : 0;
}

/* What an input needs in this call and in those that the old workspace is for. A quarter more values than that, because
 * the next batch may have a few more. */
static mbp_sparse_input sparse_input(const layout *l, int i) {
    const mbp_node *ids = ids_of(l->net, i);
    if (ids)
        return (mbp_sparse_input){.room = l->rows > INT64_MAX / 64 / ids->width ? INT64_MAX / 64
                                                                                : l->rows * ids->width};
    const int64_t room = l->old ? l->old->input[i].room : 0, values = values_of(l->x, i, l->asked);
    const int is_sparse = l->x && mbp_is_sparse(&l->x[i]);
    return (mbp_sparse_input){.room = is_sparse && room <= values ? values + values / 4 + 1 : room,
                              .has_home = !is_sparse || (l->old && l->old->input[i].has_home)};
}

int mbp_inputs_fit(const mbp_net *net, const mbp_workspace *w, int64_t rows, const mbp_array *x) {
    for (int i = 0; i < net->inputs && MICROBP_SPARSE; i++)
        if (!ids_of(net, i) &&
            (x && mbp_is_sparse(&x[i]) ? w->input[i].room <= values_of(x, i, rows) : !w->input[i].has_home))
            return 0;
    return 1;
}

/* ---- nodes ---- */

#if MICROBP_POSITIONS
/* A matrix with a row for each position of a recurrent node. */
static mbp_view take_positions(layout *l, const mbp_node *node, int64_t width) {
    const int64_t ld = leading_dimension(l->net, width);
    return (mbp_view){take_aligned(l, l->rows, (uint64_t)(node->positions * ld) * l->net->item, MBP_ALIGNMENT), ld};
}

static void lay_cell(layout *l, mbp_workspace *w, int id) {
    const mbp_node *node = &l->net->node[id];
    const mbp_layer *layer = &l->net->layer[node->layer];
    mbp_cell_deltas cell = {{0}, {0}};
    const mbp_view kept = take_positions(l, node, mbp_cell_kept(layer->cell) * node->width);
    if (w->needs & MBP_DELTAS && layer->cell != MBP_CELL_TANH)
        cell.dz = take_positions(l, node, MBP_CELL_DZ * node->width);
    const int64_t state = mbp_state_width(layer);
    if (w->needs & MBP_DELTAS && node->operands > 1)
        cell.state = (mbp_view){take_aligned(l, l->rows, (uint64_t)state * l->net->item, MBP_ALIGNMENT), state};
    if (l->base) {
        w->z[id] = kept;
        w->cell[id] = cell;
    }
}

/* The largest weight of h; 0: no node is recurrent. */
static int64_t panels_of(const mbp_net *net) {
    int64_t most = 0;
    for (int i = 0; i < net->layers; i++) {
        const mbp_layer *a = &net->layer[i];
        most = mbp_is_recurrent(a->kind) && mbp_units(a) * a->out > most ? mbp_units(a) * a->out : most;
    }
    return most;
}
#endif

static void lay_node(layout *l, mbp_workspace *w, int id) {
    const mbp_node *node = &l->net->node[id];
    if (mbp_is_gathered(node) || (MICROBP_SPARSE && node->input >= 0 && !sparse_input(l, node->input).has_home)) {
        if (l->base)
            w->home[id] = w->z[id] = w->delta[id] = (mbp_view){0};
        return;
    }
#if MICROBP_POSITIONS
    if (mbp_is_recurrent(node->kind))
        lay_cell(l, w, id);
#endif
    const int at_home = node->home >= 0;
    mbp_view home = place(l, w->home, node, at_home), z = {0}, delta = {0};
    if (w->needs & MBP_DELTAS && node->kind == MBP_NODE_DENSE && mbp_activation_keeps_z(node->activation.row))
        z = take_rows(l, node);
    if (w->needs & (node->input >= 0 ? MBP_INPUT_DELTAS : MBP_DELTAS))
        delta = place(l, w->delta, node, at_home && node->uses == 1); /* else several nodes write to the delta */
    if (l->base) {
        w->home[id] = home;
        if (!mbp_is_recurrent(node->kind))
            w->z[id] = z;
        w->delta[id] = delta;
    }
}

/* batch_norm has statistics of columns, layer_norm of rows; a scale only has the sums of its gradients. */
static void lay_statistics(layout *l, mbp_workspace *w, int id) {
    const mbp_node *node = &l->net->node[id];
    const int columns = node->kind == MBP_NODE_BATCH_NORM, trains = w->needs & MBP_DELTAS;
    const int64_t rows = l->overflow ? 0 : l->rows * mbp_positions(node);
    const int64_t count = columns ? node->width : node->kind == MBP_NODE_LAYER_NORM ? rows : 0;
    if (!count && node->kind != MBP_NODE_SCALE)
        return;
    mbp_statistics s;
    s.mean = take(l, count + columns, sizeof(double));
    s.variance = take(l, columns ? count : 0, sizeof(double));
    s.inverse = take(l, count, sizeof(double));
    s.sum = take(l, trains ? node->width : 0, sizeof(double));
    s.product = take(l, trains ? node->width : 0, sizeof(double));
    if (l->base)
        w->statistics[id] = s;
}

/* Sparse rows, and if their layers are trained, the same column by column. */
static void lay_input(layout *l, mbp_workspace *w, int i) {
    mbp_sparse_input laid = sparse_input(l, i);
    const int64_t turned = laid.room && w->needs & MBP_DELTAS ? laid.room + 1 : 0;
    const int is_ids = ids_of(l->net, i) != NULL;
    laid.each = take(l, is_ids ? laid.room + 1 : 0, sizeof(int64_t));
    laid.rows.start = take(l, laid.room ? l->rows + 1 : 0, sizeof(int64_t));
    laid.rows.value = take(l, laid.room, sizeof(double));
    laid.by_column.start = take(l, turned, sizeof(int64_t));
    laid.by_column.value = take(l, turned, sizeof(double));
    for (int k = 0; k < 2; k++)
        laid.entries[k] = take(l, turned, sizeof(mbp_sparse_entry));
    laid.rows.column = take(l, laid.room, sizeof(int32_t));
    laid.by_column.column = take(l, turned, sizeof(int32_t));
    laid.column = take(l, turned, sizeof(int32_t));
    laid.id_row = take(l, is_ids ? turned : 0, sizeof(int32_t));
    if (l->base) {
        w->input[i] = laid;
        w->homeless += !laid.has_home;
        w->roomy += laid.room > 0;
    }
}

static void lay_output(layout *l, mbp_workspace *w, int i) {
    if (!(w->needs & MBP_TARGETS))
        return;
    const mbp_node *node = &l->net->node[l->net->output[i].node];
    mbp_view target = take_rows(l, node);
    int64_t *labels = take(l, l->rows, (uint64_t)mbp_positions(node) * sizeof *labels);
    const int64_t weights = mbp_positions(node) > 1 ? mbp_positions(node) : node->width;
    const uint64_t columns = w->needs & MBP_WEIGHTS ? (uint64_t)weights : 0;
    double *own = take(l, l->rows, columns * sizeof *own);
    if (l->base) {
        w->own[i].at = own;
        w->target_home[i] = target;
        w->labels[i] = labels;
    }
}

/* ---- the scratch of matrix products ---- */

/* The distance between the rows of a node's delta, or of dz. */
static int64_t delta_ld(const mbp_net *net, const mbp_node *node) {
    if (mbp_is_recurrent(node->kind))
        return leading_dimension(net, MBP_CELL_DZ * node->width);
    while (node->home >= 0 && node->uses == 1)
        node = &net->node[node->home];
    return node_ld(net, node);
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* The most that a product of this node needs. Small builds pack only W^T, for the operand's delta. */
static size_t node_scratch(const layout *l, const mbp_workspace *w, const mbp_node *node) {
    const mbp_net *net = l->net;
    const mbp_layer *layer = &net->layer[node->layer];
    const int64_t rows = l->rows * mbp_positions(node);
    const mbp_product forward = {.pattern = MBP_NN, .m = rows, .n = layer->out, .k = layer->in, .b.ld = layer->out};
    const mbp_product weights = {
        .pattern = MBP_TN, .m = layer->in, .n = layer->out, .k = rows, .b.ld = delta_ld(net, node)};
    const mbp_product operand = {.pattern = MBP_NT, .m = rows, .n = layer->in, .k = layer->out, .b.ld = layer->out};
    const mbp_node *from = &net->node[net->operands[node->first_operand]];
    const int is_first = from->input >= 0 && !mbp_is_recurrent(node->kind);
    size_t most = MICROBP_SMALL ? 0 : net->kernels->product_scratch(&forward);
    if (!MICROBP_SMALL && w->needs & MBP_DELTAS)
        most = larger(most, net->kernels->product_scratch(&weights));
    if (w->needs & (is_first ? MBP_INPUT_DELTAS : MBP_DELTAS))
        most = larger(most, net->kernels->product_scratch(&operand));
    const size_t own = mbp_is_recurrent(node->kind) ? mbp_cell_scratch(net, node) : 0;
    return mbp_is_ids(from) ? 0 : mbp_aligned(most) + own;
}

/* What comes before it, if the node is a window, or reads a gathered one: the image of a row, and a block of rows. */
static size_t window_scratch(layout *l, const mbp_node *node) {
    const mbp_net *net = l->net;
    const mbp_node *from = node->operands ? &net->node[net->operands[node->first_operand]] : node;
    size_t image = net->item;
    if (!MICROBP_POSITIONS || (node->kind != MBP_NODE_WINDOW && !from->gathered))
        return 0;
    const mbp_node *window = from->gathered ? from : node, *x = &net->node[net->operands[window->first_operand]];
    l->overflow |= __builtin_mul_overflow(image, mbp_image_height(window, x), &image);
    l->overflow |= __builtin_mul_overflow(image, mbp_image_across(window, x), &image);
    l->overflow |= __builtin_mul_overflow(image, x->width, &image) || image > PTRDIFF_MAX / 2;
    const int64_t block = window->gathered ? mbp_window_block(window, net->item) * window->width : 0;
    return mbp_aligned(image) + mbp_aligned((size_t)block * net->item);
}

static void lay_scratch(layout *l, mbp_workspace *w) {
    size_t most = 0;
    for (int id = 0; id < l->net->nodes && !l->overflow; id++) {
        const mbp_node *node = &l->net->node[id];
        if (node->uses)
            most = larger(most, window_scratch(l, node) + (mbp_has_matrix(node->kind) ? node_scratch(l, w, node) : 0));
    }
    w->scratch_bytes = most;
    w->scratch = take_aligned(l, l->threads, most, MBP_ALIGNMENT);
}

/* Where rows may have lengths: how many positions of each row are there, for each node. */
static void lay_valid(layout *l, mbp_workspace *w) {
    const int count = w->needs & MBP_LENGTHS ? l->net->nodes : 0;
    w->valid_home = take(l, 2 * (int64_t)count, sizeof(int32_t *));
    for (int id = 0; id < count; id++) {
        int32_t *room = take(l, l->net->node[id].uses ? l->rows : 0, sizeof(int32_t));
        if (l->base)
            w->valid_home[id] = room;
    }
}

/* ---- the whole block ---- */

static int has_statistics(const mbp_net *net) {
    for (int i = 0; i < net->layers; i++)
        if (!mbp_has_matrix(net->layer[i].kind))
            return 1;
    return 0;
}

/* Nodes from last to first, so that a concat has its place before its operands, which are inside it. */
static void lay_workspace(layout *l, mbp_workspace *w) {
    const mbp_net *net = l->net;
    const int64_t target_rows = w->needs & MBP_TARGETS ? l->rows : 0;
    take(l, 1, sizeof *w);
    w->home = take(l, net->nodes, sizeof(mbp_view));
    w->value = take(l, net->nodes, sizeof(mbp_view));
    w->z = take(l, net->nodes, sizeof(mbp_view));
    w->delta = take(l, net->nodes, sizeof(mbp_view));
#if MICROBP_POSITIONS
    w->cell = take(l, panels_of(net) ? net->nodes : 0, sizeof(mbp_cell_deltas));
    w->carry_home = take(l, panels_of(net) ? net->nodes : 0, sizeof(mbp_carry));
#endif
    w->statistics = take(l, has_statistics(net) ? net->nodes : 0, sizeof(mbp_statistics));
    if (MICROBP_SPARSE)
        w->input = take(l, net->inputs, sizeof(mbp_sparse_input));
    w->target_home = take(l, net->outputs, sizeof(mbp_view));
    w->target = take(l, net->outputs, sizeof(mbp_view));
    w->labels = take(l, net->outputs, sizeof(int64_t *));
    w->weight = take(l, target_rows, sizeof(double));
    w->chosen = take(l, target_rows, sizeof(int64_t));
    w->own = take(l, net->outputs, sizeof(mbp_own));
    for (int k = 0; k < 3; k++)
        w->column[k] = take(l, w->needs & MBP_WEIGHTS ? l->rows : 0, sizeof(double));
    if (MICROBP_POSITIONS)
        lay_valid(l, w);
    for (int id = net->nodes - 1; id >= 0; id--)
        if (net->node[id].uses) {
            (mbp_is_view(net->node[id].kind) ? lay_view : lay_node)(l, w, id);
            lay_statistics(l, w, id);
        }
    if (l->base && MICROBP_TRAINING && MICROBP_SLICE)
        mbp_slices_place(net, w);
    for (int i = 0; i < net->inputs && MICROBP_SPARSE; i++)
        lay_input(l, w, i);
    for (int i = 0; i < net->outputs; i++)
        lay_output(l, w, i);
    lay_scratch(l, w);
#if MICROBP_POSITIONS
    w->panels = take_aligned(l, panels_of(net), net->item, MBP_ALIGNMENT);
#endif
    take(l, MBP_READABLE, 1);
}

mbp_status mbp_workspace_grow(const mbp_net *net, mbp_memory *memory, mbp_workspace *old, int64_t rows, int needs,
                              int threads, const mbp_array *x, mbp_workspace **grown, mbp_error *error) {
    if (mbp_workspace_fits(net, old, rows, needs, threads, x))
        return *grown = old, MBP_OK;
    layout l = {.net = net, .old = old, .x = x, .asked = rows};
    l.rows = rows = old && old->rows > rows ? old->rows : rows;
    l.threads = threads = old && old->threads > threads ? old->threads : threads;
    needs |= old ? old->needs : 0;
    mbp_workspace count = {.rows = rows, .needs = needs}, *made = NULL;
    lay_workspace(&l, &count);
    if (!l.overflow)
        made = mbp_memory_take(memory, l.used);
    if (!made)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for a batch of %lld row%s; use a smaller batch",
                        (long long)rows, mbp_plural(rows));
    *made = (mbp_workspace){
        .bytes = l.used, .rows = rows, .needs = needs, .threads = threads, .place = old ? old->place : NULL};
    l.base = (char *)made, l.used = 0;
    lay_workspace(&l, made);
    if (MICROBP_SPARSE && l.used > made->bytes) { /* sparse rows have changed since they were counted */
        mbp_workspace_free(memory, made);
        return mbp_fail(error, MBP_INVALID, "another thread changes the rows: give them to one thread at a time");
    }
    *grown = made;
    return MBP_OK;
}

mbp_status mbp_workspace_reserve(const mbp_net *net, mbp_memory *memory, mbp_workspace **workspace, int64_t rows,
                                 int needs, int threads, const mbp_array *x, mbp_error *error) {
    mbp_workspace *old = *workspace;
    mbp_status status = mbp_workspace_grow(net, memory, old, rows, needs, threads, x, workspace, error);
    if (*workspace != old)
        mbp_workspace_free(memory, old);
    return status;
}

void mbp_workspace_free(mbp_memory *memory, mbp_workspace *workspace) {
    if (workspace)
        mbp_memory_give(memory, workspace, workspace->bytes);
}

/* ---- sizes that depend on the net ---- */

int mbp_product_threads(const mbp_net *net, int64_t rows) {
    return mbp_net_worthwhile(net, (double)rows * net->largest_product);
}

/* Returns the number of rows whose values take about 256 KB (half of a small L2 cache): a multiple of MBP_LOSS_CHUNK
 * from mbp_slice_least to 1024. Not fewer than 256, because each slice packs all weights again: 1024-1024-1024-1024 is
 * 8 % slower with slices of 64 rows than with slices of 256. */
int64_t mbp_slice_rows(const mbp_net *net) {
    const int64_t least = mbp_slice_least(net);
    const int64_t rows = (256 << 10) / ((net->values + 1) * (int64_t)net->item) / MBP_LOSS_CHUNK * MBP_LOSS_CHUNK;
    return rows < least ? least : rows > 1024 ? 1024 : rows;
}
