/* Floor 5: predictions and evaluations over any number of rows, in slices. A row's result does not depend on the slice it is in. */
#include "net.h"

/* ---- the net's idle workspaces ---- */

static mbp_workspace *take_idle(mbp_net *net) {
    mbp_workspace *workspace = NULL;
    for (int i = 0; i < MBP_IDLE_MAX && !workspace; i++)
        if (atomic_load_explicit(&net->idle[i], memory_order_relaxed))
            workspace = atomic_exchange_explicit(&net->idle[i], NULL, memory_order_acquire);
    return workspace;
}

static void give_idle(mbp_net *net, mbp_workspace *workspace) {
    for (int i = 0; i < MBP_IDLE_MAX; i++) {
        mbp_workspace *none = NULL;
        if (atomic_compare_exchange_strong_explicit(&net->idle[i], &none, workspace, memory_order_release, memory_order_relaxed))
            return;
    }
    mbp_workspace_free(net, workspace);
}

/* ---- prediction ---- */

enum { SLICES_EACH = 4 }; /* so that a thread that comes late, or is slow, leaves its share to the others */

typedef struct prediction {
    mbp_net *net;
    mbp_workspace **w; /* of each thread */
    const mbp_array *x, *out;
    int n_out, link, node; /* node >= 0: this node's values are wanted instead of the outputs' */
    int64_t rows, slice_rows, most_rows; /* of all; of a slice; that a slice might have */
    int threads; /* that share the slices; 1: each slice's products are shared instead, where they are worth it */
} prediction;

static int wanted_node(const prediction *p, int i) { return p->node >= 0 ? p->node : p->net->output[i].node; }

/* The rows of the caller's array that a slice fills. */
static mbp_view out_view(const prediction *p, int i, mbp_selection slice) {
    mbp_view view = {0};
    mbp_array_in_place(&p->out[i], slice, p->net->dtype, &view);
    return view;
}

static void predict_slice(const prediction *p, mbp_workspace *w, mbp_selection slice) {
    const mbp_net *net = p->net;
    int last = 0;
    mbp_inputs_load(net, w, p->x, slice);
    for (int i = 0; i < p->n_out; i++) {
        const int id = wanted_node(p, i);
        last = id > last ? id : last;
        if (net->node[id].kind != MBP_INPUT) /* computed where the caller wants it */
            w->value[id] = out_view(p, i, slice);
    }
    mbp_forward_pass(net, w, slice.count, last, NULL);
    for (int i = 0; i < p->n_out; i++) {
        const int id = wanted_node(p, i);
        const mbp_view out = out_view(p, i, slice), from = w->value[id];
        const int link = p->link && p->node < 0 ? net->output[i].link : LINK_identity;
        if (link != LINK_identity)
            net->kernels->link[link](slice.count, net->node[id].width, out, from, NULL);
        else if (from.at != out.at)
            net->kernels->copy(slice.count, net->node[id].width, out, from, NULL);
    }
}

static void run_slices(void *context, int64_t first, int64_t last, int thread) {
    const prediction *p = context;
    for (int64_t row = first * p->slice_rows; first < last; first++, row += p->slice_rows) {
        const int64_t left = p->rows - row;
        predict_slice(p, p->w[thread], (mbp_selection){NULL, row, left < p->slice_rows ? left : p->slice_rows});
    }
}

static double prediction_work(const prediction *p) { return mbp_net_flops(p->net) * (double)p->rows; }
static int64_t slice_count(const prediction *p) { return (p->rows + p->slice_rows - 1) / p->slice_rows; }

static mbp_status work_predict(void *argument) {
    prediction *p = argument;
    const int threads = p->threads > 1 ? mbp_pool_take(p->net->pool, p->threads, prediction_work(p)) : 1;
    mbp_pool_run(p->net->pool, threads, slice_count(p), run_slices, p);
    return MBP_OK;
}

/* Threads share slices, which need no waiting between layers, where each has several; they may be shorter for that. */
static void plan_slices(prediction *p) {
    const int64_t most = mbp_slice_rows(p->net);
    const int limit = mbp_net_threads(p->net), threads = limit > 1 ? mbp_worthwhile_threads(limit, prediction_work(p)) : 1;
    const int64_t even = p->rows / (SLICES_EACH * threads) / MBP_LOSS_CHUNK * MBP_LOSS_CHUNK;
    p->most_rows = p->rows < most ? p->rows : most;
    p->slice_rows = threads > 1 && even > 0 && even < most ? even : p->most_rows;
    p->threads = slice_count(p) >= SLICES_EACH * threads ? threads : 1;
}

/* A workspace for each thread; without memory for all, for as many as there is. Shorter slices do not make them smaller, so that no
 * prediction of fewer rows needs larger ones. */
static mbp_status take_workspaces(prediction *p, mbp_error *error) {
    for (int i = 0; i < p->threads; i++) {
        const int packs = i ? 1 : mbp_product_threads(p->net, p->most_rows);
        p->w[i] = take_idle(p->net);
        const mbp_status status = mbp_workspace_reserve(p->net, &p->w[i], p->most_rows, MBP_PREDICT, packs, i ? NULL : error);
        if (status == MBP_OK)
            continue;
        if (p->w[i])
            give_idle(p->net, p->w[i]);
        p->threads = i;
        return i ? MBP_OK : status;
    }
    return MBP_OK;
}

/* Inputs are read, slice by slice, after outputs were written. */
static mbp_status check_apart(const prediction *p, int i, mbp_error *error) {
    const mbp_net *net = p->net;
    const mbp_array params = {net->block, net->dtype, 1, net->params + net->buffers, 0, (int64_t)net->item, NULL, NULL};
    int shared = net->params && mbp_array_overlap(&p->out[i], &params);
    for (int k = 0; k < net->inputs && !shared; k++)
        shared = mbp_array_overlap(&p->out[i], &p->x[k]);
    for (int k = 0; k < i && !shared; k++)
        shared = mbp_array_overlap(&p->out[i], &p->out[k]);
    if (shared)
        return mbp_fail(error, MBP_INVALID, "output %d shares memory with an input, another output or the parameters: give it its own", i);
    return MBP_OK;
}

static mbp_status check_outputs(const prediction *p, mbp_error *error) {
    const mbp_net *net = p->net;
    if (p->node >= net->nodes || (p->node >= 0 && !net->node[p->node].reached))
        return mbp_fail(error, MBP_INVALID, "node %d does not exist, or no output depends on it", p->node);
    if (p->n_out != (p->node >= 0 ? 1 : net->outputs) || !p->out)
        return mbp_fail(error, MBP_INVALID, "%d arrays are given for %d outputs", p->out ? p->n_out : 0, p->node >= 0 ? 1 : net->outputs);
    for (int i = 0; i < p->n_out; i++) {
        mbp_view view;
        mbp_status status = mbp_array_check(&p->out[i], "output", i, p->rows, net->node[wanted_node(p, i)].width, error);
        if (status != MBP_OK)
            return status;
        if (!mbp_array_in_place(&p->out[i], (mbp_selection){NULL, 0, p->rows}, net->dtype, &view))
            return mbp_fail(error, MBP_INVALID, "output %d must have the network's dtype, aligned, with neighbouring columns", i);
        status = check_apart(p, i, error);
        if (status != MBP_OK)
            return status;
    }
    return MBP_OK;
}

mbp_status mbp_net_predict(mbp_net *net, const mbp_array *x, int n_x, const mbp_array *out, int n_out, int link, int node, mbp_error *error) {
    mbp_workspace *workspaces[MBP_THREADS_MAX];
    prediction p = {.net = net, .w = workspaces, .x = x, .out = out, .n_out = n_out, .link = link, .node = node};
    if (!net)
        return mbp_fail(error, MBP_INVALID, "net is NULL");
    mbp_status status = mbp_inputs_check(net, x, n_x, &p.rows, error);
    if (status == MBP_OK)
        status = check_outputs(&p, error);
    if (status != MBP_OK || p.rows == 0)
        return status;
    plan_slices(&p);
    status = take_workspaces(&p, error);
    if (status == MBP_OK)
        mbp_with_flush_to_zero(work_predict, &p);
    for (int i = 0; i < p.threads; i++)
        give_idle(net, p.w[i]);
    return status;
}

/* ---- evaluation ---- */

typedef struct evaluation {
    mbp_trainer *trainer;
    const mbp_batch *batch;
    mbp_selection rows;
    mbp_mean mean;
    mbp_error *error;
} evaluation;

static mbp_status work_slice(void *argument) {
    evaluation *e = argument;
    mbp_trainer *t = e->trainer;
    double total;
    mbp_inputs_load(t->net, t->workspace, e->batch->x, e->rows);
    mbp_status status = mbp_targets_load(t, e->batch, e->rows, &total, e->error);
    if (status != MBP_OK)
        return status;
    mbp_forward_pass(t->net, t->workspace, e->rows.count, t->net->nodes - 1, NULL);
    mbp_mean_add(&e->mean, mbp_loss_pass(t, e->rows.count, 1, 0), total);
    return MBP_OK;
}

static mbp_status evaluate(mbp_trainer *t, const mbp_batch *batch, double *loss, mbp_error *error) {
    evaluation e = {.trainer = t, .batch = batch, .error = error};
    const int64_t slice = mbp_slice_rows(t->net);
    int64_t rows;
    mbp_status status = mbp_batch_check(t, batch, &rows, error);
    if (status == MBP_OK)
        status = mbp_trainer_reserve(t, rows < slice ? rows : slice, MBP_TARGETS, error);
    t->forward_rows = t->input_grad_rows = 0;
    for (int64_t first = 0; status == MBP_OK && first < rows; first += slice) {
        e.rows = (mbp_selection){NULL, first, rows - first < slice ? rows - first : slice};
        status = mbp_with_flush_to_zero(work_slice, &e);
    }
    if (status == MBP_OK)
        status = mbp_total_check(e.mean.total, error);
    if (status == MBP_OK)
        *loss = e.mean.value;
    return status;
}

mbp_status mbp_trainer_evaluate(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error) {
    if (!batch || !loss)
        return mbp_fail(error, MBP_INVALID, "%s is NULL", batch ? "loss" : "batch");
    mbp_status status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, evaluate(trainer, batch, loss, error)) : status;
}
