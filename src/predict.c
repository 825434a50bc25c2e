/* Floor 5: predictions and evaluations over any number of rows, in slices. A row's result does not depend on the slice it is in. */
#include "net.h"

/* ---- the net's stack of idle workspaces ---- */

static mbp_workspace *take_idle(mbp_net *net) {
    while (atomic_flag_test_and_set(&net->idle_lock)) {
    }
    mbp_workspace *workspace = net->idle;
    if (workspace)
        net->idle = workspace->next;
    atomic_flag_clear(&net->idle_lock);
    return workspace;
}

static void give_idle(mbp_net *net, mbp_workspace *workspace) {
    while (atomic_flag_test_and_set(&net->idle_lock)) {
    }
    workspace->next = net->idle;
    net->idle = workspace;
    atomic_flag_clear(&net->idle_lock);
}

/* ---- prediction ---- */

typedef struct prediction {
    mbp_net *net;
    mbp_workspace *w;
    const mbp_array *x, *out;
    int n_out, link, node; /* node >= 0: this node's values are wanted instead of the outputs' */
    int64_t rows;
} prediction;

static int wanted_node(const prediction *p, int i) { return p->node >= 0 ? p->node : p->net->output[i].node; }

/* The rows of the caller's array that a slice fills. */
static mbp_view out_view(const prediction *p, int i, mbp_selection slice) {
    mbp_view view = {0};
    mbp_array_in_place(&p->out[i], slice, p->net->dtype, &view);
    return view;
}

static void predict_slice(const prediction *p, mbp_selection slice) {
    const mbp_net *net = p->net;
    int last = 0;
    mbp_inputs_load(net, p->w, p->x, slice);
    for (int i = 0; i < p->n_out; i++) {
        const int id = wanted_node(p, i);
        last = id > last ? id : last;
        if (net->node[id].kind != MBP_INPUT) /* computed where the caller wants it */
            p->w->value[id] = out_view(p, i, slice);
    }
    mbp_forward(net, p->w, slice.count, last);
    for (int i = 0; i < p->n_out; i++) {
        const int id = wanted_node(p, i);
        const mbp_view out = out_view(p, i, slice), from = p->w->value[id];
        const int link = p->link && p->node < 0 ? net->output[i].link : LINK_identity;
        if (link != LINK_identity)
            net->kernels->link[link](slice.count, net->node[id].width, out, from, NULL);
        else if (from.at != out.at)
            net->kernels->copy(slice.count, net->node[id].width, out, from, NULL);
    }
}

static mbp_status work_predict(void *argument) {
    const prediction *p = argument;
    for (int64_t first = 0; first < p->rows; first += p->w->rows)
        predict_slice(p, (mbp_selection){NULL, first, p->rows - first < p->w->rows ? p->rows - first : p->w->rows});
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
    }
    return MBP_OK;
}

mbp_status mbp_net_predict(mbp_net *net, const mbp_array *x, int n_x, const mbp_array *out, int n_out, int link, int node, mbp_error *error) {
    prediction p = {.net = net, .x = x, .out = out, .n_out = n_out, .link = link, .node = node};
    if (!net)
        return mbp_fail(error, MBP_INVALID, "net is NULL");
    mbp_status status = mbp_inputs_check(net, x, n_x, &p.rows, error);
    if (status == MBP_OK)
        status = check_outputs(&p, error);
    if (status != MBP_OK || p.rows == 0)
        return status;
    const int64_t slice = mbp_slice_rows(net);
    p.w = take_idle(net);
    status = mbp_workspace_reserve(net, &p.w, p.rows < slice ? p.rows : slice, MBP_PREDICT, error);
    if (status == MBP_OK)
        mbp_with_flush_to_zero(work_predict, &p);
    if (p.w)
        give_idle(net, p.w);
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
    mbp_forward(t->net, t->workspace, e->rows.count, t->net->nodes - 1);
    mbp_mean_add(&e->mean, mbp_loss_pass(t, e->rows.count, 1, 0), total);
    return MBP_OK;
}

static mbp_status evaluate(mbp_trainer *t, const mbp_batch *batch, double *loss, mbp_error *error) {
    evaluation e = {.trainer = t, .batch = batch, .error = error};
    const int64_t slice = mbp_slice_rows(t->net);
    int64_t rows;
    mbp_status status = mbp_batch_check(t, batch, &rows, error);
    if (status == MBP_OK)
        status = mbp_workspace_reserve(t->net, &t->workspace, rows < slice ? rows : slice, MBP_TARGETS, error);
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
