/* Predictions for any number of rows, in slices. A row's result does not depend on the slice that it is in. */
#include <stddef.h>

#include "net/states/states.h"
#include "passes/apart.h"
#include "passes/inputs.h"
#include "passes/positions/lengths.h"
#include "passes/positions/positions.h"
#include "passes/sparse.h"
#include "system/floats.h"
#include "system/sized.h"
#include "system/text.h"

enum { SLICES_EACH = 4 }; /* slices per thread, so that other threads can take slices from a late or slow one */

typedef struct prediction {
    mbp_net *net;
    mbp_workspace **w; /* one per thread */
    const mbp_array *x, *out;
    const int *nodes; /* per array of `out` the number of a node, or -1 - i for the i-th output; NULL: all outputs */
    int n_out, raw;
    const mbp_array *lengths;            /* of the inputs, as in mbp_batch; NULL: none */
    const mbp_chance *chance;            /* of dropout and noise; NULL: without them */
    int64_t rows, slice_rows, most_rows; /* in total; per slice; the most of any slice */
    int threads;      /* threads that share the slices; 1: large products of each slice are shared instead */
    mbp_state *state; /* NULL: recurrent nodes start from zeros */
    int has_more;     /* whether there are nodes of several positions, lengths or states: others test only this */
} prediction;

/* The output that the i-th array gets; NULL: it gets a node. */
static const mbp_output *wanted_output(const prediction *p, int i) {
    const int wanted = p->nodes ? p->nodes[i] : -1 - i;
    return wanted < 0 ? &p->net->output[-1 - wanted] : NULL;
}

static int wanted_node(const prediction *p, int i) {
    const mbp_output *output = wanted_output(p, i);
    return output ? output->node : p->nodes[i];
}

/* The rows of the caller's array that a slice fills. */
static mbp_view out_view(const prediction *p, int i, const mbp_selection *slice) {
    return mbp_array_rows(&p->out[i], slice->first, p->net->dtype);
}

static inline int has_more(const prediction *p) { return MICROBP_POSITIONS && p->has_more; }

/* Makes a node write directly to the caller's array, unless the positions of its rows are apart there, or it is a
 * gathered window. */
static __attribute__((noinline)) void aim(const mbp_net *net, mbp_workspace *w, int id, mbp_view out) {
    const mbp_node *node = &net->node[id];
    if (mbp_positions(node) == 1)
        w->value[id] = out;
    else if (!node->gathered && out.ld == mbp_row_width(node))
        w->value[id] = (mbp_view){out.at, node->width};
}

/* A function of all positions of rows, if the node has several: returns 0 if not. `in` is a matrix of positions unless
 * it is `out`. */
static int map_positions(const mbp_net *net, int id, mbp_output_map map, int64_t rows, mbp_view out, mbp_view in) {
    const mbp_node *node = &net->node[id];
    const int64_t positions = mbp_positions(node), in_row = in.at == out.at ? out.ld : positions * in.ld;
    if (positions == 1)
        return 0;
    for (int64_t r = 0; r < rows; r++) {
        const mbp_view to = {(char *)out.at + (size_t)(r * out.ld) * net->item, node->width};
        const mbp_view from = {(char *)in.at + (size_t)(r * in_row) * net->item, in.at == out.at ? node->width : in.ld};
        map(positions, node->width, to, from);
    }
    return 1;
}

/* Dropout and noise are drawn for the row's number, so they are the same in any slice. */
static void forward(const prediction *p, mbp_workspace *w, const mbp_selection *slice, int last) {
    pass forward = {.net = p->net, .w = w, .rows = slice->count};
    mbp_chance chance;
    if (p->chance) {
        chance = *p->chance;
        chance.first_row = slice->first;
        forward.chance = &chance, forward.dropout = 1, forward.fixed = 1;
    }
    mbp_forward_pass(&forward, last);
}

/* The values of an output in the unit of its targets. In double: the result does not depend on the kernels. */
static void unscale(const mbp_net *net, int64_t n, const double *mean, int64_t rows, mbp_view out) {
    const double *std = mean + n;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < n; j++)
            if (net->dtype == MBP_F64) {
                double *value = (double *)out.at + r * out.ld + j;
                *value = *value * std[j] + mean[j];
            } else {
                float *value = (float *)out.at + r * out.ld + j;
                *value = (float)((double)*value * std[j] + mean[j]);
            }
}

#if MICROBP_POSITIONS
/* Returns the last node to compute, besides those of the outputs. */
static __attribute__((noinline)) int start_more(const prediction *p, mbp_workspace *w, const mbp_selection *slice) {
    if (p->lengths) {
        mbp_lengths_load(p->net, w, p->lengths, slice);
        mbp_inputs_cut(p->net, w, p->x, slice);
    }
    if (p->state)
        mbp_state_load(p->state, p->net, w, slice->first);
    return p->state ? p->net->nodes - 1 : 0; /* all recurrent nodes go on */
}

/* An idle workspace has no lengths and no states. An activation of 0 need not be 0. */
static __attribute__((noinline)) void end_more(const prediction *p, mbp_workspace *w, const mbp_selection *slice) {
    for (int i = 0; i < p->n_out && p->lengths; i++) {
        const int id = wanted_node(p, i);
        const mbp_view out = out_view(p, i, slice);
        mbp_clear_beyond(p->net, w, id, slice->count, (mbp_view){out.at, p->net->node[id].width}, out.ld);
    }
    mbp_lengths_load(p->net, w, NULL, slice);
    w->carry = NULL;
}
#else
#define start_more(p, w, slice) 0
#define end_more(p, w, slice) (void)0
#endif

static void predict_slice(const prediction *p, mbp_workspace *w, const mbp_selection *slice) {
    const mbp_net *net = p->net;
    const mbp_output_map copy = net->kernels->output[OUTPUT_ACTIVATION_identity];
    int last = 0;
    mbp_inputs_load(net, w, p->x, slice);
    if (has_more(p))
        last = start_more(p, w, slice);
    for (int i = 0; i < p->n_out; i++) {
        const int id = wanted_node(p, i);
        last = id > last ? id : last;
        /* Written directly to the caller's array, except those of an embedding, which have no gaps. */
        if (net->node[id].input >= 0 || mbp_is_embedding(net->node[id].kind))
            continue;
        if (has_more(p))
            aim(net, w, id, out_view(p, i, slice));
        else
            w->value[id] = out_view(p, i, slice);
    }
    forward(p, w, slice, last);
    for (int i = 0; i < p->n_out; i++) { /* raw values first: outputs may be operands of others, or share memory */
        const int id = wanted_node(p, i);
        const mbp_view out = out_view(p, i, slice), from = w->value[id];
        if (MICROBP_POSITIONS && has_more(p) && mbp_is_gathered(&net->node[id]))
            mbp_write_window(&(pass){.net = net, .w = w, .rows = slice->count}, id, out);
        else if (from.at != out.at && !(has_more(p) && map_positions(net, id, copy, slice->count, out, from)))
            copy(slice->count, net->node[id].width, out, from);
    }
    for (int i = 0; i < p->n_out && !p->raw && OUTPUT_ACTIVATION_COUNT > 1; i++) {
        const mbp_output *output = wanted_output(p, i);
        if (!output || output->activation <= OUTPUT_ACTIVATION_identity)
            continue;
        const mbp_view out = out_view(p, i, slice);
        const mbp_output_map map = net->kernels->output[output->activation];
        if (!(has_more(p) && map_positions(net, output->node, map, slice->count, out, out)))
            map(slice->count, net->node[output->node].width, out, out);
    }
    for (int i = 0; i < p->n_out && !p->raw && MICROBP_SCALES && net->scales_count; i++) {
        const mbp_output *output = wanted_output(p, i);
        const double *scale = output ? mbp_scale_of(net, (int)(output - net->output)) : NULL;
        if (scale)
            unscale(net, net->node[output->node].width, scale, slice->count, out_view(p, i, slice));
    }
    if (has_more(p))
        end_more(p, w, slice);
}

static void run_slices(void *context, int64_t row, int64_t end, int thread) {
    const prediction *p = context;
    for (; row < end; row += p->slice_rows) {
        const int64_t left = end - row;
        predict_slice(p, p->w[thread], &(mbp_selection){NULL, row, left < p->slice_rows ? left : p->slice_rows});
    }
}

static double prediction_work(const prediction *p) { return p->net->flops * (double)p->rows; }
static int64_t slice_count(const prediction *p) { return p->rows / p->slice_rows + (p->rows % p->slice_rows > 0); }

/* Threads share slices if each thread gets several, because slices need no waiting between layers. Slices are made
 * shorter if that gives each thread enough of them. */
static void plan_slices(prediction *p) {
    const int64_t most = p->rows <= mbp_slice_least(p->net) ? p->rows : mbp_slice_rows(p->net);
    const int threads = mbp_net_worthwhile(p->net, prediction_work(p));
    p->slice_rows = p->most_rows = p->rows < most ? p->rows : most;
    p->threads = 1;
    if (threads == 1)
        return;
    const int64_t even = p->rows / (SLICES_EACH * threads) / MBP_LOSS_CHUNK * MBP_LOSS_CHUNK;
    if (even > 0 && even < most)
        p->slice_rows = even;
    if (slice_count(p) >= SLICES_EACH * threads)
        p->threads = threads;
}

/* Takes a workspace for each thread. If memory is short, fewer threads work. Each workspace has room for most_rows even
 * if slices are shorter, so that a later prediction of fewer rows never needs a larger one. */
static mbp_status take_workspaces(prediction *p, mbp_error *error) {
    for (int i = 0; i < p->threads; i++) {
        const int packs = i ? 1 : mbp_product_threads(p->net, p->most_rows), needs = mbp_lengths_needs(p->lengths);
        p->w[i] = mbp_workspace_take_idle(p->net);
        if (mbp_workspace_fits(p->net, p->w[i], p->most_rows, needs, packs, p->x))
            continue;
        const mbp_status status = mbp_workspace_reserve(p->net, &p->net->memory, &p->w[i], p->most_rows, needs, packs,
                                                        p->x, i ? NULL : error);
        if (status == MBP_OK)
            continue;
        if (p->w[i])
            mbp_workspace_give_idle(p->net, p->w[i]);
        p->threads = i;
        return i ? MBP_OK : status;
    }
    return MBP_OK;
}

static mbp_status check_node(const mbp_net *net, const mbp_array *x, int node, mbp_error *error) {
    if (node < 0 && -1 - node >= net->outputs)
        return mbp_fail_index(error, "output", -1 - node, net->outputs);
    if (node >= net->nodes)
        return mbp_fail_index(error, "node", node, net->nodes);
    if (node >= 0 && !net->node[node].uses)
        return mbp_fail(error, MBP_INVALID, "node %d is not computed, because no output depends on it", node);
    if (node >= 0 && mbp_is_ids(&net->node[node]))
        return mbp_fail(error, MBP_INVALID, "node %d has ids, which are not predicted: choose another node", node);
    if (node >= 0 && net->node[node].kind == MBP_NODE_INPUT && mbp_is_sparse(&x[net->node[node].input]))
        return mbp_fail(error, MBP_INVALID, "node %d is a sparse input: pass a dense array to get its values", node);
    return MBP_OK;
}

/* n_nodes: the length of p->nodes. */
static mbp_status check_nodes(const prediction *p, int n_nodes, mbp_error *error) {
    mbp_status status = MBP_OK;
    for (int i = 0; i < n_nodes && status == MBP_OK; i++)
        status = check_node(p->net, p->x, p->nodes[i], error);
    if (status != MBP_OK || (p->out && p->n_out == n_nodes))
        return status;
    if (n_nodes == 1 && p->nodes[0] >= 0)
        return mbp_fail(error, MBP_INVALID, "out must be 1 array, for the values of node %d", p->nodes[0]);
    return mbp_fail(error, MBP_INVALID, "out must be %d array%s, one for each number in nodes", n_nodes,
                    mbp_plural(n_nodes));
}

static mbp_status check_outputs(const prediction *p, int n_nodes, mbp_error *error) {
    const mbp_net *net = p->net;
    mbp_status status = p->nodes ? check_nodes(p, n_nodes, error)
                                 : mbp_count_check("out", p->out, p->n_out, "output", net->outputs, error);
    for (int i = 0; i < p->n_out && status == MBP_OK; i++) {
        const int64_t width = mbp_row_width(&net->node[wanted_node(p, i)]);
        status = mbp_array_check_written(&p->out[i], "output", i, p->rows, width, error);
        if (status == MBP_OK)
            status = mbp_array_check_layout(&p->out[i], net->dtype, "output", i, error);
    }
    return status == MBP_OK ? mbp_outputs_apart(net, p->x, p->out, p->n_out, error) : status;
}

static MBP_APART mbp_status predict(prediction *p, mbp_error *error) {
    plan_slices(p);
    const mbp_status status = take_workspaces(p, error);
    if (MICROBP_POSITIONS && has_more(p) && status == MBP_OK && p->state)
        mbp_state_begin(p->state);
    if (status == MBP_OK) {
        mbp_net_enter(p->net);
        mbp_share(p->net->pool, p->threads, prediction_work(p), p->rows, p->slice_rows, run_slices, p);
        mbp_net_leave(p->net);
    }
    if (MICROBP_POSITIONS && has_more(p) && status == MBP_OK && p->state)
        mbp_state_keep(p->state);
    for (int i = 0; i < p->threads; i++)
        mbp_workspace_give_idle(p->net, p->w[i]);
    return status;
}

/* ---- reserve ---- */

/* Makes a workspace for the i-th thread, which replaces *old (NULL: none). */
static mbp_status make_workspace(prediction *p, int i, mbp_workspace **old, mbp_error *error) {
    const int packs = i ? 1 : mbp_product_threads(p->net, p->most_rows);
    p->w[i] = *old = mbp_workspace_take_idle(p->net);
    mbp_status status = mbp_workspace_grow(p->net, &p->net->memory, *old, p->most_rows, MBP_PREDICT, packs, NULL,
                                           &p->w[i], error);
    if (status == MBP_OK && !mbp_workspace_find_place(p->net, p->w[i]))
        status = mbp_fail(error, MBP_NO_MEMORY, "no memory for a batch; reserve fewer rows, or use fewer threads");
    return status;
}

/* The workspaces stay when they are idle. */
static void keep_idle(const prediction *p, int count) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += p->w[i]->bytes;
    mbp_workspace_reserve_idle(p->net, bytes);
}

/* First makes all workspaces, then keeps them; if one cannot be made, keeps the old ones. */
static mbp_status reserve(prediction *p, mbp_error *error) {
    mbp_workspace *old[MBP_THREADS_MAX];
    mbp_status status = MBP_OK;
    int count = 0;
    while (count < p->threads && status == MBP_OK) {
        status = make_workspace(p, count, &old[count], error);
        count++;
    }
    if (MICROBP_THREADS && status == MBP_OK)
        keep_idle(p, count);
    for (int i = 0; i < count; i++) {
        mbp_workspace *kept = status == MBP_OK ? p->w[i] : old[i], *other = status == MBP_OK ? old[i] : p->w[i];
        if (!kept && other && other->place)
            mbp_pass_on(other->place, NULL);
        if (other != kept)
            mbp_workspace_free(&p->net->memory, other);
        if (kept)
            mbp_workspace_give_idle(p->net, kept);
    }
    return status;
}

mbp_status mbp_net_reserve(mbp_net *net, int64_t rows, mbp_error *error) {
    mbp_workspace *workspaces[MBP_THREADS_MAX];
    prediction p = {.net = net, .w = workspaces, .rows = rows};
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    if (rows < 1)
        return mbp_fail(error, MBP_INVALID, "rows is %lld, but must be at least 1", (long long)rows);
    plan_slices(&p);
    /* Fewer rows may be shared by more threads, if they are enough slices: as many as their work is worth. */
    p.threads = mbp_net_worthwhile(net, prediction_work(&p));
    return reserve(&p, error);
}

/* n_nodes: the length of p->nodes. */
static mbp_status check_and_predict(prediction *p, int n_x, int n_nodes, mbp_error *error) {
    mbp_workspace *workspaces[MBP_THREADS_MAX];
    p->w = workspaces;
    p->has_more = MICROBP_POSITIONS && (p->net->most_positions > 1 || p->lengths || p->state);
    mbp_status status = mbp_inputs_check(p->net, p->x, n_x, p->lengths, &p->rows, error);
    if (status == MBP_OK)
        status = check_outputs(p, n_nodes, error);
    if (MICROBP_POSITIONS && has_more(p) && status == MBP_OK && p->state)
        status = mbp_state_check(p->state, p->net, p->rows, error);
    if (status == MBP_OK)
        status = mbp_net_settle(p->net, error);
    if (status != MBP_OK || p->rows == 0)
        return status;
    const mbp_float_state before = mbp_float_enter(MBP_FLUSH_SUBNORMALS);
    status = predict(p, error);
    mbp_float_leave(before);
    return status;
}

mbp_status mbp_net_predict(mbp_net *net, const mbp_array *x, int n_x, const mbp_array *out, int n_out, int raw,
                           int node, mbp_error *error) {
    prediction p = {.net = net, .x = x, .out = out, .n_out = n_out, .raw = raw, .nodes = node < 0 ? NULL : &node};
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    if (raw != 0 && raw != 1)
        return mbp_fail(error, MBP_INVALID, "raw is %d, but must be 0 or 1; node is the next argument", raw);
    if (node < -1)
        return mbp_fail(error, MBP_INVALID, "node is %d, but must be the number of a node, or -1 for the outputs",
                        node);
    return check_and_predict(&p, n_x, 1, error);
}

mbp_status mbp_net_predict_with(mbp_net *net, const mbp_array *x, int n_x, const mbp_array *out, int n_out,
                                const mbp_prediction *how, mbp_error *error) {
    mbp_prediction with;
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    const mbp_status status = mbp_sized_read(&with, MICROBP_POSITIONS ? sizeof with : offsetof(mbp_prediction, lengths),
                                             how, "mbp_prediction", error);
    if (status != MBP_OK)
        return status;
    if ((with.raw != 0 && with.raw != 1) || (with.training != 0 && with.training != 1))
        return mbp_fail(error, MBP_INVALID, "%s is %d, but must be 0 or 1",
                        with.raw == 0 || with.raw == 1 ? "training" : "raw",
                        with.raw == 0 || with.raw == 1 ? with.training : with.raw);
    if (with.training && !MICROBP_TRAINING)
        return mbp_fail(error, MBP_UNSUPPORTED, "this build has no training, so it cannot draw dropout and noise");
    if (with.nodes && with.n_nodes < 1)
        return mbp_fail(error, MBP_INVALID, "n_nodes is %d, but must be at least 1, or set nodes to NULL",
                        with.n_nodes);
    const mbp_chance chance = {.seed = with.seed};
    prediction p = {.net = net, .x = x, .out = out, .n_out = n_out, .raw = with.raw, .nodes = with.nodes};
    p.chance = with.training ? &chance : NULL;
    p.state = MICROBP_POSITIONS ? with.state : NULL;
    p.lengths = MICROBP_POSITIONS ? with.lengths : NULL;
    return check_and_predict(&p, n_x, with.n_nodes, error);
}
