/* Floor 4: the forward and the backward pass, and helpers for the functions of one node. */
#ifndef MBP_PASS_H
#define MBP_PASS_H

#include "net/workspace.h"
#include "passes/plan/peers.h"
#include "passes/plan/plan.h"

typedef struct pass {
    const mbp_net *net;
    mbp_workspace *w; /* the values of the inputs are loaded */
    int64_t rows;
    int64_t of_rows;          /* of nodes with several positions: how many rows of the net these are; else 0 */
    const mbp_chance *chance; /* seed, step and first row of dropout and noise; NULL: inference */
    double dropout;           /* the factor of all dropout rates */
    int fixed; /* 1: batch_norm uses its running statistics, as in inference, also with `chance` and in backward */
    mbp_peers *peers; /* other processes have a part of the same batch; NULL: none has */
    /* Only for backward. The deltas of the outputs are in the workspace. */
    const mbp_plan *plan;
    char *grads;
    mbp_sparse_grad *sparse; /* per layer; NULL: none has sparse rows */
    int accumulate;          /* 1: add to grads; 0: replace them */
    double share;            /* factor of the gradients of the penalties */
    int *nonfinite;          /* set to 1 if the gradient of a layer is not finite */
    /* 0: gradients are sums over the rows. Else each row has gradients of its own, without those of the penalties: so
     * many elements after those of the row before. */
    int64_t apart;
} pass;

static inline int64_t mbp_apart(const pass *p) { return MICROBP_JACOBIAN ? p->apart : 0; }
/* How many rows of the pass are one row of the net. */
static inline int64_t mbp_rows_each(const pass *p) { return p->of_rows ? p->rows / p->of_rows : 1; }

/* Computes the values of all nodes up to number `last`. */
void mbp_forward_pass(const pass *p, int last);
/* Computes all gradients that the plan asks for (backward.c). */
void mbp_backward_pass(const pass *p);

/* ---- running statistics of batch_norm (norms.c) ---- */

/* Whether training moves the running statistics of a node; of any. */
static inline int mbp_updates_statistics(const mbp_net *net, int id) {
    return net->node[id].kind == MBP_NODE_BATCH_NORM && net->node[id].uses && !net->layer[net->node[id].layer].frozen;
}
int mbp_updates_any(const mbp_net *net);

/* Refuses a training batch of one row, or one position, if the net has a batch_norm layer that is not frozen. w: has
 * `valid`; NULL: all positions are there. */
mbp_status mbp_statistics_check(const mbp_net *net, const mbp_workspace *w, int64_t rows, mbp_error *error);
mbp_status mbp_statistics_fail(const mbp_net *net, int id, mbp_error *error);
/* Updates `buffers`, a copy of the net's, with the statistics of the training pass in the workspace. */
void mbp_statistics_follow(const mbp_net *net, const mbp_workspace *w, char *buffers);
/* Copies `buffers` into the net, except those of frozen layers. */
void mbp_statistics_commit(const mbp_net *net, const char *buffers);

/* ---- batch_norm of several processes (joint_norms.c) ---- */

/* For mbp_peers. */
void mbp_norms_join_statistics(mbp_peers *peers, const mbp_norm *norm);
void mbp_norms_join_sums(mbp_peers *peers, const mbp_norm *norm);
/* The part of a process without rows in the passes of the others. p->plan NULL: in the forward pass. */
void mbp_norms_absent(const pass *p);
/* After the forward pass: refuses statistics of a single row of all processes. */
mbp_status mbp_statistics_check_joint(const mbp_net *net, const mbp_workspace *w, mbp_error *error);

/* ---- for the functions of one node ---- */

static inline int operand(const pass *p, const mbp_node *node, int i) {
    return p->net->operands[node->first_operand + i];
}
static inline mbp_write edge(const pass *p, const mbp_node *node, int i) {
    return p->plan->edge[node->first_operand + i];
}
static inline void *element(const pass *p, void *base, int64_t i) { return (char *)base + (size_t)i * p->net->item; }

/* mbp_pool_take for the net's pool: at most its limit of threads, and at most those that the workspace has scratch
 * for. One if the whole pass is small: its regions would only pass rows from one processor's cache to the other's. */
static inline int take_threads(const pass *p, double work) {
    if (mbp_is_small(work) || p->net->flops * (double)(p->of_rows ? p->of_rows : p->rows) < MBP_PASS_WORK)
        return 1;
    const int threads = mbp_net_threads(p->net);
    return mbp_pool_take(p->net->pool, threads < p->w->threads ? threads : p->w->threads, work);
}

static inline mbp_view columns(const pass *p, mbp_view whole, int64_t first) {
    return (mbp_view){element(p, whole.at, first), whole.ld};
}
/* Parameters that are the same for each row. */
static inline mbp_view each_row(const pass *p, int64_t offset) {
    return (mbp_view){element(p, p->net->block, offset), 0};
}

/* The means (part 0) or the standard deviations (1) of a standardize node, the same for each row. */
static inline mbp_view running_row(const pass *p, const mbp_node *node, int part) {
    const mbp_layer *layer = &p->net->layer[node->layer];
    return (mbp_view){element(p, mbp_net_running(p->net), layer->running + part * layer->out), 0};
}

/* Fields of a structure that are 0. Compilers set those with a name one by one, and clear the others by a loop, which
 * takes longer but is smaller. */
#if MICROBP_SMALL
#define CLEARED(...)
#else
#define CLEARED(...) __VA_ARGS__,
#endif

typedef void (*mbp_node_pass)(const pass *p, int id);

/* Work on all rows of the pass, which threads share. run_random: for the node `id`. */
void mbp_run_product(const pass *p, mbp_product *product);
void mbp_run_map(const pass *p, mbp_map map, int64_t n, mbp_view out, mbp_view in, const double *parameters);
void mbp_run_binary(const pass *p, mbp_binary binary, int64_t n, mbp_view out, mbp_view a, mbp_view b);
enum { MBP_PURPOSE_DROPOUT = 3, MBP_PURPOSE_NOISE = 4 };
void mbp_run_random(const pass *p, mbp_random_map random, uint32_t purpose, int id, mbp_view out, mbp_view in);

/* ---- norms (norms.c) ---- */

void mbp_forward_batch_norm(const pass *p, int id);
void mbp_backward_batch_norm(const pass *p, int id);
void mbp_forward_layer_norm(const pass *p, int id);
void mbp_backward_layer_norm(const pass *p, int id);
/* The gradients of a scale's gain and bias. */
void mbp_backward_scale_layer(const pass *p, int id);

#endif
