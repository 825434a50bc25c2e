/* Floor 6: inputs with sparse rows, and the dense layers that read them. */
#ifndef MBP_SPARSE_H
#define MBP_SPARSE_H

#include "arrays/array.h"
#include "passes/plan/pass.h"

/* Refuses a sparse input that other nodes than dense ones read. */
mbp_status mbp_sparse_readers_check(const mbp_net *net, int input, mbp_error *error);
/* Sorts the values of the sparse inputs by columns, for the backward pass. */
void mbp_sparse_turn(const mbp_net *net, mbp_workspace *w, int64_t rows);
/* The first row of a sparse input with a value that is not finite; -1: none. */
int64_t mbp_sparse_nonfinite(const mbp_net *net, const mbp_workspace *w, int input, int64_t rows);

/* The sparse rows that are the operand of a dense node; NULL: its rows are dense. */
static inline const mbp_sparse_input *mbp_sparse_operand(const pass *p, const mbp_node *node) {
    if (!MICROBP_SPARSE || !p->w->sparse)
        return NULL;
    const int input = p->net->node[operand(p, node, 0)].input;
    return input >= 0 && p->w->input[input].is_sparse ? &p->w->input[input] : NULL;
}

/* z = x W + b, y = activation(z) */
void mbp_forward_sparse(const pass *p, int id, const mbp_sparse_input *x);
/* Makes the rows of dW that x names; NULL: the operand is dense, and names all rows. Returns whether products are added
 * to the rows, in the places dw->place of those that x names, or stored. */
int mbp_sparse_name(const pass *p, int id, const mbp_sparse_input *x, mbp_sparse_grad *dw);
/* The same, then dW = x^T dz in these rows, db = sum of dz. */
void mbp_backward_sparse(const pass *p, int id, const mbp_sparse_input *x, mbp_sparse_grad *dw);

#endif
