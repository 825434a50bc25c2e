/* Floor 4: batch_norm and layer_norm: y = gamma xhat + beta with xhat = (x - mean) / sqrt(variance + eps); and batch_norm's running
 * statistics, which a training pass prepares and the update takes over. */
#include "passes.h"

#include <string.h>

static const mbp_layer *layer_of(const pass *p, int id) { return &p->net->layer[p->net->node[id].layer]; }

static char *buffers_of(const mbp_net *net) { return net->block + (size_t)net->params * net->item; }

/* Where a layer's running statistics stand in buffers; NULL if it has none. */
static void *running(const mbp_net *net, char *buffers, const mbp_layer *layer) {
    return layer->running < 0 ? NULL : buffers + (size_t)layer->running * net->item;
}

static mbp_norm norm_of(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_layer *layer = layer_of(p, id);
    const mbp_statistics *s = &p->w->statistics[id];
    return (mbp_norm){.by_row = node->kind == MBP_LAYER_NORM,
                      .rows = p->rows,
                      .n = node->width,
                      .x = p->w->value[operand(p, node, 0)],
                      .y = p->w->value[id],
                      .gamma = element(p, p->net->block, layer->weight),
                      .beta = element(p, p->net->block, layer->bias),
                      .eps = layer->setting[MBP_NORM_EPS],
                      .mean = s->mean,
                      .variance = s->variance,
                      .inverse = s->inverse,
                      .sum = s->sum,
                      .product = s->product,
                      .running = running(p->net, buffers_of(p->net), layer),
                      .momentum = layer->setting[MBP_NORM_MOMENTUM]};
}

/* ---- regions that threads share ---- */

typedef struct norm_job {
    const mbp_norm *norm;
    mbp_norm_part part;
    int64_t piece, end; /* rows or columns: of a piece, and all */
} norm_job;

static void run_part(void *context, int64_t first, int64_t last, int thread) {
    const norm_job *job = context;
    (void)thread;
    job->part(job->norm, first * job->piece, last * job->piece < job->end ? last * job->piece : job->end);
}

static void run_norm(const pass *p, const mbp_norm *norm, mbp_norm_part part, int64_t piece, int64_t end) {
    norm_job job = {norm, part, piece, end};
    const int threads = mbp_pool_take(p->net->pool, threads_of(p), (double)MBP_ELEMENT_WORK * (double)norm->rows * (double)norm->n);
    mbp_pool_run(p->net->pool, threads, (end + piece - 1) / piece, run_part, &job);
}

static void by_rows(const pass *p, const mbp_norm *norm, mbp_norm_part part) {
    run_norm(p, norm, part, mbp_piece_rows(norm->n), norm->rows);
}

static void by_columns(const pass *p, const mbp_norm *norm, mbp_norm_part part) {
    enum { COLUMNS = 64 };
    run_norm(p, norm, part, COLUMNS, norm->n);
}

/* ---- backward, for both ---- */

/* norm.fixed: the statistics do not depend on x. */
static void backward_norm(const pass *p, int id, mbp_norm norm) {
    const mbp_node *node = &p->net->node[id];
    const mbp_layer *layer = layer_of(p, id);
    norm.dy = p->w->delta[id];
    mbp_trainer *t = p->trainer;
    if (t->plan.grads[id] != MBP_SKIP) {
        norm.dgamma = element(p, t->grads, layer->weight);
        norm.dbeta = element(p, t->grads, layer->bias);
        norm.add_gradients = p->accumulate || t->plan.grads[id] == MBP_ACCUMULATE;
        by_columns(p, &norm, p->kernels->norm_sums);
        t->nonfinite |= !p->kernels->finite(norm.n, norm.dgamma) || !p->kernels->finite(norm.n, norm.dbeta);
    }
    if (edge(p, node, 0) == MBP_SKIP)
        return;
    norm.dx = p->w->delta[operand(p, node, 0)];
    norm.add = edge(p, node, 0) == MBP_ACCUMULATE;
    by_rows(p, &norm, p->kernels->norm_backward);
}

/* ---- layer_norm: the statistics of each row (Ba, Kiros & Hinton 2016) ---- */

void mbp_forward_layer_norm(const pass *p, int id) {
    const mbp_norm norm = norm_of(p, id);
    by_rows(p, &norm, p->kernels->norm_rows);
    by_rows(p, &norm, p->kernels->norm_apply);
}

void mbp_backward_layer_norm(const pass *p, int id) { backward_norm(p, id, norm_of(p, id)); }

/* ---- batch_norm: the statistics of each column (Ioffe & Szegedy 2015); in inference, and where the layer is frozen, the running ones ---- */

void mbp_forward_batch_norm(const pass *p, int id) {
    const mbp_norm norm = norm_of(p, id);
    const mbp_layer *layer = layer_of(p, id);
    by_columns(p, &norm, p->trainer && !layer->frozen ? p->kernels->norm_columns : p->kernels->norm_fixed);
    by_rows(p, &norm, p->kernels->norm_apply);
}

void mbp_backward_batch_norm(const pass *p, int id) {
    mbp_norm norm = norm_of(p, id);
    norm.fixed = layer_of(p, id)->frozen;
    backward_norm(p, id, norm);
}

/* ---- running statistics ---- */

static int moves(const mbp_net *net, int id) {
    return net->node[id].kind == MBP_BATCH_NORM && net->node[id].reached && !net->layer[net->node[id].layer].frozen;
}

mbp_status mbp_statistics_check(const mbp_net *net, int64_t rows, mbp_error *error) {
    mbp_status status = MBP_OK;
    for (int id = 0; id < net->nodes && rows == 1 && status == MBP_OK; id++)
        if (moves(net, id)) {
            status = mbp_fail(error, MBP_INVALID,
                              "batch_norm (layer %s) needs at least 2 rows in training; choose a batch size that leaves no single row",
                              net->layer[net->node[id].layer].name);
            if (error)
                error->node = id;
        }
    return status;
}

static void prepare(mbp_trainer *t, int id, int64_t rows) {
    const mbp_net *net = t->net;
    const mbp_layer *layer = &net->layer[net->node[id].layer];
    const mbp_statistics *s = &t->workspace->statistics[id];
    const mbp_norm norm = {.rows = rows,
                           .n = layer->out,
                           .mean = s->mean,
                           .variance = s->variance,
                           .running = running(net, t->pending, layer),
                           .momentum = layer->setting[MBP_NORM_MOMENTUM]};
    net->kernels->norm_follow(&norm, 0, norm.n);
}

void mbp_statistics_prepare(mbp_trainer *t, int64_t rows, int accumulate) {
    const mbp_net *net = t->net;
    if (!net->buffers)
        return;
    if (!accumulate || !t->is_pending)
        memcpy(t->pending, buffers_of(net), (size_t)net->buffers * net->item);
    t->is_pending = 1;
    for (int id = 0; id < net->nodes; id++)
        if (moves(net, id))
            prepare(t, id, rows);
}

void mbp_statistics_commit(mbp_trainer *t) {
    const mbp_net *net = t->net;
    for (int i = 0; i < net->layers && t->is_pending; i++) {
        const mbp_layer *layer = &net->layer[i];
        const size_t at = (size_t)layer->running * net->item;
        if (layer->running >= 0 && !layer->frozen)
            memcpy(buffers_of(net) + at, t->pending + at, (size_t)(2 * layer->out) * net->item);
    }
    t->is_pending = 0;
}
