/* The backward pass: for each kind of node, how the gradient of its value becomes those of its operands and of its
 * layer. The letters are those of formulas.h (z, y, dz, dy). */
#include "passes/positions/positions.h"
#include "passes/sparse.h"

#include <string.h>

/* ---- from dy to dz ---- */

/* The y or z from which the derivative of a node's activation is computed. */
static mbp_view kept(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    if (!mbp_activation_keeps_z(node->activation.row))
        return p->w->value[id];
    return node->kind == MBP_NODE_DENSE ? p->w->z[id] : p->w->value[operand(p, node, 0)];
}

/* Turns the node's complete delta from dy into dz, unless the node that wrote it last has done so. */
static void derive(const pass *p, int id) {
    const mbp_formula *activation = &p->net->node[id].activation;
    if (activation->row != ACTIVATION_identity && p->plan->deriver[id] < 0)
        mbp_run_map(p, p->net->kernels->backward[activation->row], p->net->node[id].width, p->w->delta[id], kept(p, id),
                    activation->parameters);
}

/* Stores in, or adds to, the delta of the node's i-th operand, as planned. */
static mbp_map writer(const pass *p, const mbp_node *node, int i) {
    return edge(p, node, i) == MBP_STORE ? p->net->kernels->copy : p->net->kernels->accumulate;
}

/* Stores `from` in the delta of the node's i-th operand, or adds it, or does nothing, as planned. */
static void write_delta(const pass *p, const mbp_node *node, int i, mbp_view from) {
    if (edge(p, node, i) != MBP_SKIP)
        mbp_run_map(p, writer(p, node, i), p->net->node[operand(p, node, i)].width, p->w->delta[operand(p, node, i)],
                    from, NULL);
}

/* The same with the product of the node's delta and `factor`. */
static void write_product(const pass *p, int id, int i, mbp_view factor) {
    const mbp_node *node = &p->net->node[id];
    const mbp_binary write = edge(p, node, i) == MBP_STORE ? p->net->kernels->multiply
                                                           : p->net->kernels->accumulate_product;
    if (edge(p, node, i) != MBP_SKIP)
        mbp_run_binary(p, write, node->width, p->w->delta[operand(p, node, i)], p->w->delta[id], factor);
}

/* ---- dense ---- */

/* dW = x^T dz, db = sum of dz, over these rows. x.at NULL: those of a gathered window from row `first` on. dw NULL: dW
 * is in grads, too. Inlined, because a call more shows in steps of small networks. */
static inline __attribute__((always_inline)) void backward_rows(const pass *p, const mbp_node *node, mbp_view x,
                                                                mbp_view dz, int64_t first, int64_t rows, char *grads,
                                                                char *dw, mbp_write write) {
    const mbp_layer *layer = &p->net->layer[node->layer];
    mbp_product product = {.pattern = MBP_TN,
                           .m = layer->in,
                           .n = layer->out,
                           .k = rows,
                           .a = x,
                           .b = dz,
                           .c = {dw ? dw : element(p, grads, layer->weight), layer->out},
                           CLEARED(.bias = NULL, .map = NULL, .map_out = {NULL, 0}, .map_in = {NULL, 0})
                               CLEARED(.parameters = NULL)
                                   .threads = 1,
                           .db = layer->bias >= 0 ? element(p, grads, layer->bias) : NULL,
                           .add = p->accumulate || write == MBP_ACCUMULATE,
                           .nonfinite = p->nonfinite};
    if (MICROBP_POSITIONS && !x.at)
        mbp_run_gathered(p, operand(p, node, 0), &product, first);
    else
        mbp_run_product(p, &product);
}

#if MICROBP_SPARSE
/* The same for a layer whose gradient has only some rows of the weight. */
static __attribute__((noinline)) void backward_some(const pass *p, const mbp_node *node, mbp_view x, mbp_view dz,
                                                    mbp_write write) {
    const int id = (int)(node - p->net->node);
    const mbp_sparse_input *sparse = mbp_sparse_operand(p, node);
    mbp_sparse_grad *some = &p->sparse[node->layer];
    if (sparse) {
        mbp_backward_sparse(p, id, sparse, some);
        return;
    }
    mbp_sparse_name(p, id, NULL, some);
    backward_rows(p, node, x, dz, 0, p->rows, p->grads, some->value, write);
}
#endif

#if MICROBP_JACOBIAN
/* dW and db of each row by itself, where a product for each row would take longer: the same bits. */
#define OUTER(name, type) \
    static void name(const pass *p, const mbp_layer *layer, mbp_view x, mbp_view dz) { \
        for (int64_t r = 0; r < p->rows; r++) { \
            const type *a = (const type *)x.at + r * x.ld, *b = (const type *)dz.at + r * dz.ld; \
            type *dw = (type *)(void *)p->grads + r * p->apart + layer->weight; \
            type *db = (type *)(void *)p->grads + r * p->apart + layer->bias; \
            for (int64_t i = 0; i < layer->in; i++) \
                for (int64_t j = 0; j < layer->out; j++) \
                    dw[i * layer->out + j] = 0 + a[i] * b[j]; \
            for (int64_t j = 0; layer->bias >= 0 && j < layer->out; j++) \
                db[j] = 0 + b[j]; \
        } \
    }
OUTER(outer_f32, float)
OUTER(outer_f64, double)

enum { OUTER_MOST = 256 }; /* weights */
static int is_outer(const pass *p, const mbp_layer *layer, mbp_view x, mbp_write write) {
    return p->apart && mbp_rows_each(p) == 1 && x.at && write == MBP_STORE && !p->accumulate &&
           layer->in * layer->out <= OUTER_MOST;
}
#endif

/* The gradients of all rows together, or of each row by itself. */
static void backward_weights(const pass *p, const mbp_node *node, mbp_view dz, mbp_write write) {
    const mbp_view x = p->w->value[operand(p, node, 0)];
    const int64_t each = mbp_apart(p) ? mbp_rows_each(p) : p->rows;
#if MICROBP_SPARSE
    if (p->sparse && p->sparse[node->layer].is_on) {
        backward_some(p, node, x, dz, write);
        return;
    }
#endif
#if MICROBP_JACOBIAN
    if (is_outer(p, &p->net->layer[node->layer], x, write)) {
        (p->net->dtype == MBP_F64 ? outer_f64 : outer_f32)(p, &p->net->layer[node->layer], x, dz);
        return;
    }
#endif
    for (int64_t r = 0; r < p->rows; r += each)
        backward_rows(p, node, (mbp_view){element(p, x.at, r * x.ld), x.ld},
                      (mbp_view){element(p, dz.at, r * dz.ld), dz.ld}, r, each,
                      element(p, p->grads, r / each * mbp_apart(p)), NULL, write);
}

/* Adds the derivative of the layer's penalty, l1 sign(w) + l2 w, where the gradient is complete. */
static void backward_penalty(const pass *p, int id) {
    const mbp_layer *layer = &p->net->layer[p->net->node[id].layer];
    /* only one node of a layer stores, so the penalty is added once */
    if (p->plan->grads[id] != MBP_STORE || mbp_apart(p) ||
        !(layer->setting[MBP_LAYER_L1] > 0 || layer->setting[MBP_LAYER_L2] > 0))
        return;
    const double parameters[] = {p->share * layer->setting[MBP_LAYER_L1], p->share * layer->setting[MBP_LAYER_L2]};
    const mbp_view g = {element(p, p->grads, layer->weight), layer->out};
    const mbp_view w = {element(p, p->net->block, layer->weight), layer->out};
    pass weights = *p;
    weights.rows = layer->in;
    mbp_run_map(&weights, p->net->kernels->penalize, layer->out, g, w, parameters);
    *p->nonfinite |= !p->net->kernels->finite(layer->in * layer->out, g.at);
}

/* dx = dz W^T. The last node that writes dx also turns it into the dz of the operand. */
static void backward_operand(const pass *p, int id, mbp_view dz) {
    const mbp_node *node = &p->net->node[id];
    const mbp_layer *layer = &p->net->layer[node->layer];
    const int below = operand(p, node, 0);
    mbp_product product = {.pattern = MBP_NT,
                           .m = p->rows,
                           .n = layer->in,
                           .k = layer->out,
                           .a = dz,
                           .b = {element(p, p->net->block, layer->weight), layer->out},
                           .c = p->w->delta[below],
                           CLEARED(.bias = NULL, .map = NULL, .map_out = {NULL, 0}, .map_in = {NULL, 0})
                               CLEARED(.parameters = NULL, .db = NULL, .nonfinite = NULL)
                                   .threads = 1,
                           .add = edge(p, node, 0) == MBP_ACCUMULATE};
    const mbp_formula *activation = &p->net->node[below].activation;
    if (p->plan->deriver[below] == id && activation->row != ACTIVATION_identity) {
        product.map = p->net->kernels->backward[activation->row];
        product.map_out = product.c;
        product.map_in = kept(p, below);
        product.parameters = activation->parameters;
    }
    mbp_run_product(p, &product);
}

static void backward_dense(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_view dz = p->w->delta[id];
    derive(p, id);
    if (p->plan->grads[id] != MBP_SKIP)
        backward_weights(p, node, dz, p->plan->grads[id]);
    if (!mbp_is_embedding(node->kind))
        backward_penalty(p, id);
    if (edge(p, node, 0) != MBP_SKIP && (!MICROBP_POSITIONS || p->w->delta[operand(p, node, 0)].at))
        backward_operand(p, id, dz); /* a gathered window computes its own delta, from all nodes that read it */
}

/* ---- activation, add (da = db = dy), subtract (da = dy, db = -dy), multiply (da = b dy, db = a dy), concat ---- */

static void backward_activation(const pass *p, int id) {
    derive(p, id);
    write_delta(p, &p->net->node[id], 0, p->w->delta[id]);
}

static void backward_add(const pass *p, int id) {
    for (int i = 0; i < p->net->node[id].operands; i++)
        write_delta(p, &p->net->node[id], i, p->w->delta[id]);
}

static void backward_subtract(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_view dy = p->w->delta[id], db = p->w->delta[operand(p, node, 1)];
    write_delta(p, node, 0, dy);
    if (edge(p, node, 1) == MBP_STORE)
        mbp_run_map(p, p->net->kernels->negate, node->width, db, dy, NULL);
    if (edge(p, node, 1) == MBP_ACCUMULATE)
        mbp_run_binary(p, p->net->kernels->subtract, node->width, db, db, dy);
}

static void backward_multiply(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    for (int i = 0; i < 2; i++)
        write_product(p, id, i, p->w->value[operand(p, node, 1 - i)]);
}

static void backward_concat(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    int64_t column = 0;
    for (int i = 0; i < node->operands; i++) {
        write_delta(p, node, i, columns(p, p->w->delta[id], column));
        column += p->net->node[operand(p, node, i)].width;
    }
}

/* ---- slice: dx has dy in its columns, unless the two are the same memory ---- */

static void clear_columns(const pass *p, mbp_view view, int64_t first, int64_t end) {
    const mbp_view part = columns(p, view, first);
    for (int64_t r = 0; r < p->rows && first < end; r++)
        memset(element(p, part.at, r * part.ld), 0, (size_t)(end - first) * p->net->item);
}

static void backward_slice(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const int64_t from = mbp_column(node, MBP_COLUMN_FROM);
    const mbp_view dx = p->w->delta[operand(p, node, 0)], own = columns(p, dx, from);
    if (edge(p, node, 0) != MBP_ACCUMULATE) {
        clear_columns(p, dx, mbp_column(node, MBP_COLUMN_LOW), from);
        clear_columns(p, dx, mbp_column(node, MBP_COLUMN_TO), mbp_column(node, MBP_COLUMN_HIGH));
    }
    if (edge(p, node, 0) != MBP_SKIP)
        mbp_run_map(p, writer(p, node, 0), node->width, own, p->w->delta[id], NULL);
}

/* ---- noise: dx = dy; dropout: the mask is drawn again for dx = dy mask / (1 - rate). In inference dx = dy ---- */

static void backward_noise(const pass *p, int id) { write_delta(p, &p->net->node[id], 0, p->w->delta[id]); }

static void backward_dropout(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    if (!p->chance) {
        backward_noise(p, id);
        return;
    }
    const mbp_random_map write = edge(p, node, 0) == MBP_STORE ? p->net->kernels->dropout
                                                               : p->net->kernels->accumulate_dropout;
    if (edge(p, node, 0) != MBP_SKIP)
        mbp_run_random(p, write, MBP_PURPOSE_DROPOUT, id, p->w->delta[operand(p, node, 0)], p->w->delta[id]);
}

/* ---- scale: dx = dy gain ---- */

static void backward_scale(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_layer *layer = &p->net->layer[node->layer];
    mbp_backward_scale_layer(p, id);
    if (layer->weight >= 0)
        write_product(p, id, 0, each_row(p, layer->weight));
    else
        write_delta(p, node, 0, p->w->delta[id]);
}

/* ---- standardize: dx = dy / std ---- */

static void backward_standardize(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    mbp_run_binary(p, p->net->kernels->divide, node->width, p->w->delta[id], p->w->delta[id], running_row(p, node, 1));
    write_delta(p, node, 0, p->w->delta[id]);
}

/* ---- recurrent ---- */

#if MICROBP_POSITIONS
static void backward_recurrent(const pass *p, int id) {
    mbp_backward_recurrent(p, id);
    backward_penalty(p, id);
}
#endif

/* ---- the pass ---- */

void mbp_backward_pass(const pass *p) {
    static const mbp_node_pass backward[MBP_NODE_KINDS] = {
        [MBP_NODE_DENSE] = backward_dense,
        [MBP_NODE_EMBEDDING] = MICROBP_SPARSE ? backward_dense : NULL,
        [MBP_NODE_ACTIVATION] = backward_activation,
        [MBP_NODE_ADD] = backward_add,
        [MBP_NODE_SUBTRACT] = MICROBP_SUBTRACT ? backward_subtract : NULL,
        [MBP_NODE_MULTIPLY] = backward_multiply,
        [MBP_NODE_CONCAT] = backward_concat,
        [MBP_NODE_SLICE] = MICROBP_SLICE ? backward_slice : NULL,
        [MBP_NODE_DROPOUT] = backward_dropout,
        [MBP_NODE_NOISE] = backward_noise,
        [MBP_NODE_BATCH_NORM] = mbp_backward_batch_norm,
        [MBP_NODE_LAYER_NORM] = mbp_backward_layer_norm,
        [MBP_NODE_SCALE] = backward_scale,
        [MBP_NODE_STANDARDIZE] = MICROBP_STANDARDIZE ? backward_standardize : NULL,
#if MICROBP_POSITIONS
        [MBP_NODE_GRID] = mbp_backward_grid,
        [MBP_NODE_WINDOW] = mbp_backward_window,
        [MBP_NODE_POOL] = mbp_backward_pool,
        [MBP_NODE_REPEAT] = mbp_backward_repeat,
        [MBP_NODE_LAST] = mbp_backward_last,
        [MBP_NODE_RECURRENT] = backward_recurrent,
#endif
    };
    const mbp_node *node = p->net->node;
    const int has = has_positions(p);
    for (int id = p->net->nodes - 1; id >= 0; id--) {
        if (p->plan->wanted[id] && node[id].input < 0) {
            if (MICROBP_POSITIONS && has)
                mbp_run_backward(p, id, backward[node[id].kind]);
            else
                backward[node[id].kind](p, id);
        }
        if (MICROBP_RANKS && p->peers && p->peers->ended)
            p->peers->ended(p->peers, id);
    }
}
