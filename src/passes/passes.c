/* The forward and backward pass; each kind of node has two functions, side by side. The letters are those of formulas.h
 * (z, y, dz, dy). Threads share large work in pieces that write disjoint results, so the result does not depend on
 * which thread does a piece. */
#include "passes/pass.h"

/* ---- work that threads share ---- */

typedef struct product_job {
    const pass *pass;
    const mbp_product *product;
} product_job;

static void run_pieces(void *context, int64_t first, int64_t last, int thread) {
    const product_job *job = context;
    const mbp_workspace *w = job->pass->w;
    job->pass->net->kernels->product_run(job->product, first, last, w->pack + (size_t)thread * w->pack_bytes);
}

/* Sets the number of threads before it counts the pieces, which depend on that number. */
static void run_product(const pass *p, mbp_product *product) {
    product_job job = {p, product};
    const double work = 2.0 * (double)product->m * (double)product->n * (double)product->k;
    product->threads = mbp_pool_take(p->net->pool, threads_of(p), work);
    mbp_pool_run(p->net->pool, product->threads, p->net->kernels->product_pieces(product), 1, run_pieces, &job);
}

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
    if (e->map)
        e->map(end - row, e->n, out, a, e->parameters);
    else if (e->random) {
        mbp_chance chance = e->chance;
        chance.first_row += row;
        e->random(end - row, e->n, out, a, &chance);
    } else
        e->binary(end - row, e->n, out, a, row_of(p, e->b, row));
}

static void run_elementwise(const pass *p, elementwise *e) {
    const double work = (double)MBP_ELEMENT_WORK * (double)p->rows * (double)e->n;
    e->pass = p;
    mbp_share(p->net->pool, threads_of(p), work, p->rows, mbp_piece_rows(e->n), run_rows, e);
}

static void run_map(const pass *p, mbp_map map, int64_t n, mbp_view out, mbp_view in, const double *parameters) {
    run_elementwise(p, &(elementwise){.map = map, .n = n, .out = out, .a = in, .parameters = parameters});
}

static void run_binary(const pass *p, mbp_binary binary, int64_t n, mbp_view out, mbp_view a, mbp_view b) {
    run_elementwise(p, &(elementwise){.binary = binary, .n = n, .out = out, .a = a, .b = b});
}

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
        run_map(p, p->net->kernels->backward[activation->row], p->net->node[id].width, p->w->delta[id], kept(p, id),
                activation->parameters);
}

/* Stores `from` in the delta of the node's i-th operand, or adds it, or does nothing, as planned. */
static void write_delta(const pass *p, const mbp_node *node, int i, mbp_view from) {
    const mbp_map write = edge(p, node, i) == MBP_STORE ? p->net->kernels->copy : p->net->kernels->accumulate;
    if (edge(p, node, i) != MBP_SKIP)
        run_map(p, write, p->net->node[operand(p, node, i)].width, p->w->delta[operand(p, node, i)], from, NULL);
}

/* The same with the product of the node's delta and `factor`. */
static void write_product(const pass *p, int id, int i, mbp_view factor) {
    const mbp_node *node = &p->net->node[id];
    const mbp_binary write = edge(p, node, i) == MBP_STORE ? p->net->kernels->multiply
                                                           : p->net->kernels->accumulate_product;
    if (edge(p, node, i) != MBP_SKIP)
        run_binary(p, write, node->width, p->w->delta[operand(p, node, i)], p->w->delta[id], factor);
}

/* ---- dense: z = x W + b, y = activation(z) ---- */

static void forward_dense(const pass *p, int id) {
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
                           .map = p->net->kernels->forward[node->activation.row],
                           .map_out = y,
                           .map_in = z,
                           .parameters = node->activation.parameters};
    run_product(p, &product);
}

/* dW = x^T dz, db = sum of dz. */
static void backward_weights(const pass *p, const mbp_node *node, mbp_view dz, mbp_write write) {
    const mbp_layer *layer = &p->net->layer[node->layer];
    mbp_product product = {.pattern = MBP_TN,
                           .m = layer->in,
                           .n = layer->out,
                           .k = p->rows,
                           .a = p->w->value[operand(p, node, 0)],
                           .b = dz,
                           .c = {element(p, p->grads, layer->weight), layer->out},
                           .db = layer->bias >= 0 ? element(p, p->grads, layer->bias) : NULL,
                           .add = p->accumulate || write == MBP_ACCUMULATE,
                           .nonfinite = p->nonfinite};
    run_product(p, &product);
}

/* Adds the derivative of the layer's penalty, l1 sign(w) + l2 w. */
static void backward_penalty(const pass *p, const mbp_layer *layer) {
    const double parameters[] = {p->share * layer->setting[MBP_LAYER_L1], p->share * layer->setting[MBP_LAYER_L2]};
    const mbp_view g = {element(p, p->grads, layer->weight), layer->out};
    const mbp_view w = {element(p, p->net->block, layer->weight), layer->out};
    pass weights = *p;
    weights.rows = layer->in;
    run_map(&weights, p->net->kernels->penalize, layer->out, g, w, parameters);
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
                           .add = edge(p, node, 0) == MBP_ACCUMULATE};
    const mbp_formula *activation = &p->net->node[below].activation;
    if (p->plan->deriver[below] == id && activation->row != ACTIVATION_identity) {
        product.map = p->net->kernels->backward[activation->row];
        product.map_out = product.c;
        product.map_in = kept(p, below);
        product.parameters = activation->parameters;
    }
    run_product(p, &product);
}

static void backward_dense(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_view dz = p->w->delta[id];
    derive(p, id);
    if (p->plan->grads[id] != MBP_SKIP)
        backward_weights(p, node, dz, p->plan->grads[id]);
    const mbp_layer *layer = &p->net->layer[node->layer];
    if (p->plan->grads[id] == MBP_STORE && (layer->setting[MBP_LAYER_L1] > 0 || layer->setting[MBP_LAYER_L2] > 0))
        backward_penalty(p, layer); /* only one node of a layer stores, so the penalty is added once */
    if (edge(p, node, 0) != MBP_SKIP)
        backward_operand(p, id, dz);
}

/* ---- activation: y = activation(z) ---- */

static void forward_activation(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    run_map(p, p->net->kernels->forward[node->activation.row], node->width, p->w->value[id],
            p->w->value[operand(p, node, 0)], node->activation.parameters);
}

static void backward_activation(const pass *p, int id) {
    derive(p, id);
    write_delta(p, &p->net->node[id], 0, p->w->delta[id]);
}

/* ---- add: y = a + b ---- */

static void forward_add(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    run_binary(p, p->net->kernels->add, node->width, p->w->value[id], p->w->value[operand(p, node, 0)],
               p->w->value[operand(p, node, 1)]);
}

static void backward_add(const pass *p, int id) {
    for (int i = 0; i < 2; i++)
        write_delta(p, &p->net->node[id], i, p->w->delta[id]);
}

/* ---- multiply: y = a b, da = b dy, db = a dy ---- */

static void forward_multiply(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    run_binary(p, p->net->kernels->multiply, node->width, p->w->value[id], p->w->value[operand(p, node, 0)],
               p->w->value[operand(p, node, 1)]);
}

static void backward_multiply(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    for (int i = 0; i < 2; i++)
        write_product(p, id, i, p->w->value[operand(p, node, 1 - i)]);
}

/* ---- concat: y = [a b ...]; most operands are in its columns already (mbp_node.home) ---- */

static mbp_view columns(const pass *p, mbp_view whole, int64_t first) {
    return (mbp_view){element(p, whole.at, first), whole.ld};
}

static void forward_concat(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    int64_t column = 0;
    for (int i = 0; i < node->operands; i++) {
        const mbp_view from = p->w->value[operand(p, node, i)], to = columns(p, p->w->value[id], column);
        const int64_t width = p->net->node[operand(p, node, i)].width;
        if (from.at != to.at)
            run_map(p, p->net->kernels->copy, width, to, from, NULL);
        column += width;
    }
}

static void backward_concat(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    int64_t column = 0;
    for (int i = 0; i < node->operands; i++) {
        write_delta(p, node, i, columns(p, p->w->delta[id], column));
        column += p->net->node[operand(p, node, i)].width;
    }
}

/* ---- dropout: y = x mask / (1 - rate), Srivastava et al. 2014; the mask is drawn again for dx = dy mask / (1 - rate).
 * rate: that of the node times that of the pass. In inference y is x. ---- noise: y = x + std x normal; dx = dy ---- */

enum { PURPOSE_DROPOUT = 3, PURPOSE_NOISE = 4 };

static void run_random(const pass *p, mbp_random_map random, uint32_t purpose, int id, mbp_view out, mbp_view in) {
    elementwise e = {.random = random, .n = p->net->node[id].width, .out = out, .a = in, .chance = *p->chance};
    e.chance.stream = purpose << 24 | (uint32_t)id;
    e.chance.amount = p->net->node[id].activation.parameters[0] * (purpose == PURPOSE_DROPOUT ? p->dropout : 1);
    run_elementwise(p, &e);
}

static void forward_dropout(const pass *p, int id) {
    const int below = operand(p, &p->net->node[id], 0);
    if (p->chance)
        run_random(p, p->net->kernels->dropout, PURPOSE_DROPOUT, id, p->w->value[id], p->w->value[below]);
    else
        p->w->value[id] = p->w->value[below];
}

static void backward_dropout(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_random_map write = edge(p, node, 0) == MBP_STORE ? p->net->kernels->dropout
                                                               : p->net->kernels->accumulate_dropout;
    if (edge(p, node, 0) != MBP_SKIP)
        run_random(p, write, PURPOSE_DROPOUT, id, p->w->delta[operand(p, node, 0)], p->w->delta[id]);
}

static void forward_noise(const pass *p, int id) {
    const int below = operand(p, &p->net->node[id], 0);
    if (p->chance)
        run_random(p, p->net->random->noise[p->net->dtype], PURPOSE_NOISE, id, p->w->value[id], p->w->value[below]);
    else
        p->w->value[id] = p->w->value[below];
}

static void backward_noise(const pass *p, int id) { write_delta(p, &p->net->node[id], 0, p->w->delta[id]); }

/* ---- scale: y = x gain + bias, dx = dy gain; gain and bias are rows, the same for each row of x (ld 0) ---- */

static mbp_view each_row(const pass *p, int64_t offset) { return (mbp_view){element(p, p->net->block, offset), 0}; }

static void forward_scale(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_layer *layer = &p->net->layer[node->layer];
    mbp_view x = p->w->value[operand(p, node, 0)];
    const mbp_view y = p->w->value[id];
    if (layer->weight >= 0) {
        run_binary(p, p->net->kernels->multiply, node->width, y, x, each_row(p, layer->weight));
        x = y;
    }
    if (layer->bias >= 0)
        run_binary(p, p->net->kernels->add, node->width, y, x, each_row(p, layer->bias));
}

static void backward_scale(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_layer *layer = &p->net->layer[node->layer];
    mbp_backward_scale_layer(p, id);
    if (layer->weight >= 0)
        write_product(p, id, 0, each_row(p, layer->weight));
    else
        write_delta(p, node, 0, p->w->delta[id]);
}

/* ---- the passes ---- */

typedef void (*node_pass)(const pass *p, int id);

void mbp_forward_pass(const pass *p, int last) {
    static const node_pass forward[MBP_NODE_KINDS] = {
        [MBP_NODE_DENSE] = forward_dense,
        [MBP_NODE_ACTIVATION] = forward_activation,
        [MBP_NODE_ADD] = forward_add,
        [MBP_NODE_MULTIPLY] = forward_multiply,
        [MBP_NODE_CONCAT] = forward_concat,
        [MBP_NODE_DROPOUT] = forward_dropout,
        [MBP_NODE_NOISE] = forward_noise,
        [MBP_NODE_BATCH_NORM] = mbp_forward_batch_norm,
        [MBP_NODE_LAYER_NORM] = mbp_forward_layer_norm,
        [MBP_NODE_SCALE] = forward_scale,
    };
    const mbp_node *node = p->net->node;
    for (int id = 0; id <= last; id++)
        if (node[id].uses && node[id].kind != MBP_NODE_INPUT)
            forward[node[id].kind](p, id);
}

void mbp_backward_pass(const pass *p) {
    static const node_pass backward[MBP_NODE_KINDS] = {
        [MBP_NODE_DENSE] = backward_dense,
        [MBP_NODE_ACTIVATION] = backward_activation,
        [MBP_NODE_ADD] = backward_add,
        [MBP_NODE_MULTIPLY] = backward_multiply,
        [MBP_NODE_CONCAT] = backward_concat,
        [MBP_NODE_DROPOUT] = backward_dropout,
        [MBP_NODE_NOISE] = backward_noise,
        [MBP_NODE_BATCH_NORM] = mbp_backward_batch_norm,
        [MBP_NODE_LAYER_NORM] = mbp_backward_layer_norm,
        [MBP_NODE_SCALE] = backward_scale,
    };
    const mbp_node *node = p->net->node;
    for (int id = p->net->nodes - 1; id >= 0; id--)
        if (p->plan->wanted[id] && node[id].kind != MBP_NODE_INPUT)
            backward[node[id].kind](p, id);
}
