/* Floor 4: what the functions of one node need, for all kinds of nodes. */
#ifndef MBP_PASSES_H
#define MBP_PASSES_H

#include "net.h"

typedef struct pass {
    const mbp_net *net;
    const mbp_kernels *kernels;
    mbp_workspace *w;
    mbp_trainer *trainer; /* NULL: forward in inference */
    int64_t rows;
    int accumulate; /* backward: add to the gradients that are there */
    double share;   /* backward: of the penalties */
} pass;

static inline int operand(const pass *p, const mbp_node *node, int i) { return p->net->operands[node->first_operand + i]; }
static inline mbp_write edge(const pass *p, const mbp_node *node, int i) { return p->trainer->plan.edge[node->first_operand + i]; }
static inline void *element(const pass *p, void *base, int64_t i) { return (char *)base + (size_t)i * p->net->item; }

static inline int threads_of(const pass *p) {
    const int threads = mbp_net_threads(p->net);
    return threads < p->w->threads ? threads : p->w->threads;
}

void mbp_forward_batch_norm(const pass *p, int id);
void mbp_backward_batch_norm(const pass *p, int id);
void mbp_forward_layer_norm(const pass *p, int id);
void mbp_backward_layer_norm(const pass *p, int id);

#endif
