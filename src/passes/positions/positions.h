/* Floor 5: the nodes that change the positions of rows. The rows of a node with several positions have no gaps, so its
 * values are also a matrix of rows x positions rows (net.h, workspace.c). */
#ifndef MBP_PASS_POSITIONS_H
#define MBP_PASS_POSITIONS_H

#include <string.h>

#include "passes/plan/pass.h"
#include "passes/positions/lengths.h"

static inline int has_positions(const pass *p) { return MICROBP_POSITIONS && p->net->most_positions > 1; }
/* Runs the function of a node; one that works on every position by itself runs for so many rows. What is not there
 * becomes 0 in values and deltas. */
void mbp_run_forward(const pass *p, int id, mbp_node_pass run);
void mbp_run_backward(const pass *p, int id, mbp_node_pass run);
void mbp_forward_grid(const pass *p, int id);
void mbp_backward_grid(const pass *p, int id);
void mbp_forward_window(const pass *p, int id);
/* Computes a product whose operand a is the window with number id, from its row `first` on: a gathered one. */
void mbp_run_gathered(const pass *p, int id, const mbp_product *product, int64_t first);
/* Writes the values of a window. to: a row for each row of the net. */
void mbp_write_window(const pass *p, int id, mbp_view to);
void mbp_backward_window(const pass *p, int id);
void mbp_forward_pool(const pass *p, int id);
void mbp_backward_pool(const pass *p, int id);
void mbp_forward_repeat(const pass *p, int id);
void mbp_backward_repeat(const pass *p, int id);
void mbp_forward_last(const pass *p, int id);
void mbp_backward_last(const pass *p, int id);
void mbp_forward_recurrent(const pass *p, int id);
void mbp_backward_recurrent(const pass *p, int id);

/* ---- for these functions ---- */

static inline const mbp_node *operand_node(const pass *p, int id) {
    return &p->net->node[operand(p, &p->net->node[id], 0)];
}
static inline mbp_view operand_value(const pass *p, int id) { return p->w->value[operand(p, &p->net->node[id], 0)]; }
static inline mbp_view mbp_spread(mbp_view view, int64_t ld) { return (mbp_view){view.at, ld}; }

/* Runs the function for each row; threads share the rows. numbers: how many a row reads and writes. */
void mbp_by_rows(const pass *p, int id, int64_t numbers, void (*run)(const pass *p, int id, int64_t row));

/* The row of a node's matrix. */
static inline void *row_at(const pass *p, mbp_view view, int id, int64_t r) {
    return element(p, view.at, r * p->net->node[id].positions * view.ld);
}

#if MICROBP_TRAINING

static inline mbp_view operand_delta(const pass *p, int id) { return p->w->delta[operand(p, &p->net->node[id], 0)]; }

/* How the first write to the operand's delta is done. */
static inline mbp_map first_write(const pass *p, int id) {
    return edge(p, &p->net->node[id], 0) == MBP_STORE ? p->net->kernels->copy : p->net->kernels->accumulate;
}

/* Sets a row of the operand's delta to 0, if it is to be stored. Returns the row. */
static inline void *start_row(const pass *p, int id, int64_t r) {
    const int below = operand(p, &p->net->node[id], 0);
    const mbp_view dx = p->w->delta[below];
    char *row = row_at(p, dx, below, r);
    const int64_t width = p->net->node[below].width, whole = dx.ld == width ? p->net->node[below].positions : 1;
    for (int64_t t = 0; t < p->net->node[below].positions && edge(p, &p->net->node[id], 0) == MBP_STORE; t += whole)
        memset(element(p, row, t * dx.ld), 0, (size_t)(whole * width) * p->net->item);
    return row;
}

#endif

#endif
