/* The forward pass, and the functions with which both passes share large work among threads: in pieces that write
 * disjoint results, so the result does not depend on which thread does a piece. The letters are those of formulas.h. */
#include "kernels/pooling/patches.h"
#include "passes/positions/positions.h"
#include "passes/sparse.h"

/* ---- work that threads share ---- */

/* An elementwise function: of one matrix (map), of one matrix and random numbers (random), or of two matrices (binary).
 * The other two are NULL. */
typedef struct elementwise {
    const pass *pass;
    mbp_map map;
    mbp_binary binary;
    mbp_random_map random;
    mbp_view out, a, b;
    int64_t n;
    const double *parameters;
    mbp_chance chance;
} elementwise;

static mbp_view row_of(const pass *p, mbp_view view, int64_t row) {
    return (mbp_view){element(p, view.at, row * view.ld), view.ld};
}

static void run_rows(void *context, int64_t row, int64_t end, int thread) {
    const elementwise *e = context;
    const pass *p = e->pass;
    const mbp_view out = row_of(p, e->out, row), a = row_of(p, e->a, row);
    (void)thread;
#if MICROBP_POSITIONS && MICROBP_TRAINING
    /* Of many short rows; kernels take whole vectors of each. */
    const int is_short = e->n * (int64_t)p->net->item < MBP_ALIGNMENT && end - row > 1 &&
                         (out.ld != e->n || a.ld != e->n);
    if (is_short && e->map == p->net->kernels->copy)
        mbp_copy_rows(p->net->item, end - row, e->n, out.at, out.ld, a.at, a.ld);
    else if (is_short && e->map == p->net->kernels->accumulate)
        mbp_add_rows(p->net->dtype, end - row, e->n, out.at, out.ld, a.at, a.ld);
    else
#endif
        if (e->map)
        p->net->kernels->map(e->map, end - row, e->n, out, a, e->parameters);
    else if (e->random) {
        mbp_chance chance = e->chance;
        chance.first_row += row;
        e->random(end - row, e->n, out, a, &chance);
    } else
        p->net->kernels->binary(e->binary, end - row, e->n, out, a, row_of(p, e->b, row));
}

static void run_elementwise(const pass *p, elementwise *e) {
    const double work = (double)MBP_ELEMENT_WORK * (double)p->rows * (double)e->n;
    e->pass = p;
    mbp_pool_run(p->net->pool, take_threads(p, work), p->rows, mbp_piece_rows(e->n), run_rows, e);
}

void mbp_run_map(const pass *p, mbp_map map, int64_t n, mbp_view out, mbp_view in, const double *parameters) {
    run_elementwise(p, &(elementwise){.map = map, .n = n, .out = out, .a = in, .parameters = parameters});
}

void mbp_run_binary(const pass *p, mbp_binary binary, int64_t n, mbp_view out, mbp_view a, mbp_view b) {
    run_elementwise(p, &(elementwise){.binary = binary, .n = n, .out = out, .a = a, .b = b});
}

#if MICROBP_TRAINING
void mbp_run_random(const pass *p, mbp_random_map random, uint32_t purpose, int id, mbp_view out, mbp_view in) {
    elementwise e = {.random = random, .n = p->net->node[id].width, .out = out, .a = in, .chance = *p->chance};
    e.chance.stream = purpose << 24 | (uint32_t)id;
    e.chance.amount = p->net->node[id].activation.parameters[0] * (purpose == MBP_PURPOSE_DROPOUT ? p->dropout : 1);
    run_elementwise(p, &e);
}
#endif

/* ---- dense: z = x W + b, y = activation(z) ---- */

static __attribute__((noinline)) void forward_dense(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_layer *layer = &p->net->layer[node->layer];
    const mbp_view y = p->w->value[id], z = p->w->z[id].at ? p->w->z[id] : y;
    mbp_product product = {.pattern = MBP_NN,
                           .m = p->rows,
                           .n = layer->out,
                           .k = layer->in,
                           .a = p->w->value[operand(p, node, 0)],
                           .b = {element(p, p->net->block, layer->weight), layer->out},
                           .bias = layer->bias >= 0 ? element(p, p->net->block, layer->bias) : NULL,
                           .c = z,
                           CLEARED(.add = 0, .db = NULL, .nonfinite = NULL).threads = 1,
                           .map = p->net->kernels->forward[node->activation.row],
                           .map_out = y,
                           .map_in = z,
                           .parameters = node->activation.parameters};
    if (MICROBP_POSITIONS && !product.a.at)
        mbp_run_gathered(p, operand(p, node, 0), &product, 0);
    else
        mbp_run_product(p, &product);
}

/* Dense rows or sparse ones. Apart from forward_dense, so that dense rows pay only for the first test. */
static void forward_matrix(const pass *p, int id) {
#if MICROBP_SPARSE
    const mbp_sparse_input *sparse = p->w->sparse ? mbp_sparse_operand(p, &p->net->node[id]) : NULL;
    if (sparse) {
        mbp_forward_sparse(p, id, sparse);
        return;
    }
#endif
    forward_dense(p, id);
}

/* ---- activation: y = activation(z) ---- */

static void forward_activation(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    mbp_run_map(p, p->net->kernels->forward[node->activation.row], node->width, p->w->value[id],
                p->w->value[operand(p, node, 0)], node->activation.parameters);
}

/* ---- add: y = a + b + ...; subtract: y = a - b; multiply: y = a b ---- */

/* y becomes binary(y, operand i), or binary(operand 0, operand 1). */
static void fold(const pass *p, int id, mbp_binary binary, int i) {
    const mbp_node *node = &p->net->node[id];
    mbp_run_binary(p, binary, node->width, p->w->value[id], p->w->value[i == 1 ? operand(p, node, 0) : id],
                   p->w->value[operand(p, node, i)]);
}

static void forward_add(const pass *p, int id) {
    for (int i = 1; i < p->net->node[id].operands; i++)
        fold(p, id, p->net->kernels->add, i);
}

static void forward_subtract(const pass *p, int id) { fold(p, id, p->net->kernels->subtract, 1); }

static void forward_multiply(const pass *p, int id) { fold(p, id, p->net->kernels->multiply, 1); }

/* ---- concat: y = [a b ...]; most operands are in its columns already (mbp_node.home) ---- */

static void forward_concat(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    int64_t column = 0;
    for (int i = 0; i < node->operands; i++) {
        const mbp_view from = p->w->value[operand(p, node, i)], to = columns(p, p->w->value[id], column);
        const int64_t width = p->net->node[operand(p, node, i)].width;
        if (from.at != to.at)
            mbp_run_map(p, p->net->kernels->copy, width, to, from, NULL);
        column += width;
    }
}

/* ---- slice: y is some columns of x, where they are; of several positions a copy, without gaps ---- */

static void forward_slice(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_view x = columns(p, p->w->value[operand(p, node, 0)], mbp_column(node, MBP_COLUMN_FROM));
    if (mbp_positions(node) == 1)
        p->w->value[id] = x;
    else
        mbp_run_map(p, p->net->kernels->copy, node->width, p->w->value[id], x, NULL);
}

/* ---- dropout: y = x mask / (1 - rate), Srivastava et al. 2014, with the node's rate times that of the pass; noise:
 * y = x + std x normal. In inference y is x ---- */

static void pass_on(const pass *p, int id) { p->w->value[id] = p->w->value[operand(p, &p->net->node[id], 0)]; }

#if MICROBP_TRAINING
static void forward_random(const pass *p, int id, mbp_random_map random, uint32_t purpose) {
    if (p->chance)
        mbp_run_random(p, random, purpose, id, p->w->value[id], p->w->value[operand(p, &p->net->node[id], 0)]);
    else
        pass_on(p, id);
}

static void forward_dropout(const pass *p, int id) {
    forward_random(p, id, p->net->kernels->dropout, MBP_PURPOSE_DROPOUT);
}

static void forward_noise(const pass *p, int id) { forward_random(p, id, p->net->kernels->noise, MBP_PURPOSE_NOISE); }
#else
#define forward_dropout pass_on
#define forward_noise pass_on
#endif

/* ---- scale: y = x gain + bias; gain and bias are rows, the same for each row of x (ld 0) ---- */

static void forward_scale(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_layer *layer = &p->net->layer[node->layer];
    mbp_view x = p->w->value[operand(p, node, 0)];
    const mbp_view y = p->w->value[id];
    if (layer->weight >= 0) {
        mbp_run_binary(p, p->net->kernels->multiply, node->width, y, x, each_row(p, layer->weight));
        x = y;
    }
    if (layer->bias >= 0)
        mbp_run_binary(p, p->net->kernels->add, node->width, y, x, each_row(p, layer->bias));
}

/* ---- standardize: y = (x - mean) / std ---- */

static void forward_standardize(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_view y = p->w->value[id];
    mbp_run_binary(p, p->net->kernels->subtract, node->width, y, p->w->value[operand(p, node, 0)],
                   running_row(p, node, 0));
    mbp_run_binary(p, p->net->kernels->divide, node->width, y, y, running_row(p, node, 1));
}

/* ---- the pass ---- */

void mbp_forward_pass(const pass *p, int last) {
    static const mbp_node_pass forward[MBP_NODE_KINDS] = {
        [MBP_NODE_DENSE] = forward_matrix,
        [MBP_NODE_EMBEDDING] = MICROBP_SPARSE ? forward_matrix : NULL,
        [MBP_NODE_ACTIVATION] = forward_activation,
        [MBP_NODE_ADD] = forward_add,
        [MBP_NODE_SUBTRACT] = MICROBP_SUBTRACT ? forward_subtract : NULL,
        [MBP_NODE_MULTIPLY] = forward_multiply,
        [MBP_NODE_CONCAT] = forward_concat,
        [MBP_NODE_SLICE] = MICROBP_SLICE ? forward_slice : NULL,
        [MBP_NODE_DROPOUT] = forward_dropout,
        [MBP_NODE_NOISE] = forward_noise,
        [MBP_NODE_BATCH_NORM] = mbp_forward_batch_norm,
        [MBP_NODE_LAYER_NORM] = mbp_forward_layer_norm,
        [MBP_NODE_SCALE] = forward_scale,
        [MBP_NODE_STANDARDIZE] = MICROBP_STANDARDIZE ? forward_standardize : NULL,
#if MICROBP_POSITIONS
        [MBP_NODE_GRID] = mbp_forward_grid,
        [MBP_NODE_WINDOW] = mbp_forward_window,
        [MBP_NODE_POOL] = mbp_forward_pool,
        [MBP_NODE_REPEAT] = mbp_forward_repeat,
        [MBP_NODE_LAST] = mbp_forward_last,
        [MBP_NODE_RECURRENT] = mbp_forward_recurrent,
#endif
    };
    const mbp_node *node = p->net->node;
    const int has = has_positions(p);
    for (int id = 0; id <= last; id++)
        if (node[id].uses && node[id].input < 0) {
            if (MICROBP_POSITIONS && has)
                mbp_run_forward(p, id, forward[node[id].kind]);
            else
                forward[node[id].kind](p, id);
        }
}
