/* batch_norm and layer_norm: y = gamma xhat + beta with xhat = (x - mean) / sqrt(variance + eps); the running
 * statistics of batch_norm; and the gradients of a scale, a norm whose xhat is x. */
#include "passes/plan/pass.h"
#include "passes/positions/lengths.h"

#include <string.h>

#include "system/text.h"

static const mbp_layer *layer_of(const pass *p, int id) { return &p->net->layer[p->net->node[id].layer]; }

/* A layer's running statistics in `buffers`; NULL if it has none. */
static void *running(const mbp_net *net, char *buffers, const mbp_layer *layer) {
    return layer->running < 0 ? NULL : buffers + (size_t)layer->running * net->item;
}

/* How many rows of the net the rows of the pass are. */
static int64_t rows_of(const pass *p) { return p->of_rows ? p->of_rows : p->rows; }

static mbp_norm norm_of(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_layer *layer = layer_of(p, id);
    const mbp_statistics *s = &p->w->statistics[id];
    return (mbp_norm){.by_row = node->kind == MBP_NODE_LAYER_NORM,
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
                      .running = running(p->net, mbp_net_running(p->net), layer),
                      .momentum = layer->setting[MBP_NORM_MOMENTUM]};
}

/* ---- parts that threads share ---- */

typedef struct norm_job {
    const mbp_norm *norm;
    mbp_norm_part part;
} norm_job;

static void run_part(void *context, int64_t first, int64_t last, int thread) {
    const norm_job *job = context;
    (void)thread;
    job->part(job->norm, first, last);
}

static void run_norm(const pass *p, const mbp_norm *norm, mbp_norm_part part, int64_t end, int64_t piece) {
    norm_job job = {norm, part};
    const double work = (double)MBP_ELEMENT_WORK * (double)norm->rows * (double)norm->n;
    mbp_pool_run(p->net->pool, take_threads(p, work), end, piece, run_part, &job);
}

static void by_rows(const pass *p, const mbp_norm *norm, mbp_norm_part part) {
    run_norm(p, norm, part, norm->rows, mbp_piece_rows(norm->n));
}

static void by_columns(const pass *p, const mbp_norm *norm, mbp_norm_part part) {
    enum { COLUMNS = 64 };
    run_norm(p, norm, part, norm->n, COLUMNS);
}

/* ---- layer_norm: the statistics of each row (Ba, Kiros & Hinton 2016) ---- */

void mbp_forward_layer_norm(const pass *p, int id) {
    const mbp_norm norm = norm_of(p, id);
    by_rows(p, &norm, p->net->kernels->norm_rows);
    by_rows(p, &norm, p->net->kernels->norm_apply);
}

/* ---- batch_norm: the statistics of each column (Ioffe & Szegedy 2015); in inference, or if the layer is frozen, the
 * running ones ---- */

static mbp_norm_part statistics_of(const pass *p, int id) {
#if MICROBP_TRAINING
    if (p->chance && !p->fixed && !layer_of(p, id)->frozen)
        return p->net->kernels->training->norm_columns;
#endif
    (void)id;
    return p->net->kernels->norm_fixed;
}

void mbp_forward_batch_norm(const pass *p, int id) {
    mbp_norm norm = norm_of(p, id);
    const mbp_view x = norm.x;
    const mbp_norm_part statistics = statistics_of(p, id);
    const int is_fixed = statistics == p->net->kernels->norm_fixed;
    if (MICROBP_POSITIONS && mbp_valid_of(p->w, id) && !is_fixed) {
        norm.x = mbp_pack_valid(p->net, p->w, id, rows_of(p), x);
        norm.rows = mbp_count_valid(p->net, p->w, id, rows_of(p));
    }
    by_columns(p, &norm, statistics);
    norm.mean[norm.n] = (double)norm.rows;
    if (MICROBP_TRAINING && MICROBP_RANKS && p->peers && !is_fixed)
        p->peers->join_statistics(p->peers, &norm);
    if (MICROBP_POSITIONS)
        norm.x = x, norm.rows = p->rows;
    by_rows(p, &norm, p->net->kernels->norm_apply);
}

#if MICROBP_TRAINING

/* ---- backward ---- */

static int is_finite(const pass *p, int64_t n, const void *gradient) {
    return !gradient || p->net->kernels->finite(n, gradient);
}

/* The gradients of each row by itself. */
static void backward_rows(const pass *p, const mbp_norm *norm) {
    const int64_t each = mbp_rows_each(p);
    for (int64_t r = 0; r < norm->rows; r += each) {
        mbp_norm row = *norm;
        row.rows = each;
        row.x.at = element(p, norm->x.at, r * norm->x.ld);
        row.dy.at = element(p, norm->dy.at, r * norm->dy.ld);
        row.mean += norm->by_row ? r : 0;
        row.inverse += norm->by_row ? r : 0;
        row.dgamma = norm->dgamma ? element(p, norm->dgamma, r / each * mbp_apart(p)) : NULL;
        row.dbeta = norm->dbeta ? element(p, norm->dbeta, r / each * mbp_apart(p)) : NULL;
        p->net->kernels->training->norm_sums(&row, 0, row.n);
    }
}

/* The gradients of gamma and beta. */
static void backward_layer(const pass *p, int id, mbp_norm *norm) {
    const mbp_layer *layer = layer_of(p, id);
    if (p->plan->grads[id] == MBP_SKIP)
        return;
    norm->dgamma = layer->weight >= 0 ? element(p, p->grads, layer->weight) : NULL;
    norm->dbeta = layer->bias >= 0 ? element(p, p->grads, layer->bias) : NULL;
    norm->add_gradients = p->accumulate || p->plan->grads[id] == MBP_ACCUMULATE;
    if (mbp_apart(p)) {
        backward_rows(p, norm);
        return;
    }
    by_columns(p, norm, p->net->kernels->training->norm_sums);
    *p->nonfinite |= !is_finite(p, norm->n, norm->dgamma) || !is_finite(p, norm->n, norm->dbeta);
}

void mbp_backward_scale_layer(const pass *p, int id) {
    const mbp_statistics *s = &p->w->statistics[id];
    backward_layer(p, id,
                   &(mbp_norm){.rows = p->rows,
                               .n = p->net->node[id].width,
                               .x = p->w->value[operand(p, &p->net->node[id], 0)],
                               .dy = p->w->delta[id],
                               .sum = s->sum,
                               .product = s->product});
}

/* norm.fixed: the statistics do not depend on x. */
static void backward_norm(const pass *p, int id, mbp_norm norm) {
    const mbp_node *node = &p->net->node[id];
    norm.dy = p->w->delta[id];
    backward_layer(p, id, &norm);
    if (MICROBP_RANKS && p->peers && !norm.by_row && !norm.fixed)
        p->peers->join_sums(p->peers, &norm);
    if (edge(p, node, 0) == MBP_SKIP)
        return;
    norm.dx = p->w->delta[operand(p, node, 0)];
    norm.add = edge(p, node, 0) == MBP_ACCUMULATE;
    by_rows(p, &norm, p->net->kernels->training->norm_backward);
}

void mbp_backward_layer_norm(const pass *p, int id) { backward_norm(p, id, norm_of(p, id)); }

void mbp_backward_batch_norm(const pass *p, int id) {
    mbp_norm norm = norm_of(p, id);
    norm.fixed = p->fixed || layer_of(p, id)->frozen;
    norm.count = (int64_t)norm.mean[norm.n];
    backward_norm(p, id, norm);
}

/* ---- running statistics ---- */

int mbp_updates_any(const mbp_net *net) {
    int id = net->buffers ? 0 : net->nodes;
    while (id < net->nodes && !mbp_updates_statistics(net, id))
        id++;
    return id < net->nodes;
}

mbp_status mbp_statistics_fail(const mbp_net *net, int id, mbp_error *error) {
    const mbp_status status = mbp_fail(error, MBP_INVALID,
                                       "batch_norm (layer %s) needs at least 2 rows in training; choose a batch size "
                                       "that leaves no single row",
                                       net->layer[net->node[id].layer].name);
    if (error)
        error->node = id;
    return status;
}

mbp_status mbp_statistics_check(const mbp_net *net, const mbp_workspace *w, int64_t rows, mbp_error *error) {
    mbp_status status = MBP_OK;
    for (int id = 0; rows > 0 && net->buffers && id < net->nodes && status == MBP_OK; id++)
        if (mbp_updates_statistics(net, id) && mbp_count_valid(net, w, id, rows) < 2)
            status = mbp_statistics_fail(net, id, error);
    return status;
}

void mbp_statistics_follow(const mbp_net *net, const mbp_workspace *w, char *buffers) {
    for (int id = 0; id < net->nodes; id++) {
        if (!mbp_updates_statistics(net, id))
            continue;
        const mbp_layer *layer = &net->layer[net->node[id].layer];
        const double *mean = w->statistics[id].mean;
        const mbp_norm norm = {.rows = (int64_t)mean[layer->out],
                               .n = layer->out,
                               .mean = w->statistics[id].mean,
                               .variance = w->statistics[id].variance,
                               .running = running(net, buffers, layer),
                               .momentum = layer->setting[MBP_NORM_MOMENTUM]};
        net->kernels->training->norm_follow(&norm, 0, norm.n);
    }
}

void mbp_statistics_commit(const mbp_net *net, const char *buffers) {
    for (int i = 0; i < net->layers; i++) {
        const mbp_layer *layer = &net->layer[i];
        const size_t at = (size_t)layer->running * net->item;
        if (layer->kind == MBP_NODE_BATCH_NORM && !layer->frozen)
            memcpy(mbp_net_running(net) + at, buffers + at, (size_t)(2 * layer->out) * net->item);
    }
}

#endif
