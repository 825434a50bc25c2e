/* Recurrent nodes. The products of x with its weights are one product of all positions, as are the gradients of the
 * weights. In between, each block of rows goes through all positions by itself: position by position a product of h
 * and its weights, which continues the sums, and the gates. So the result does not depend on how the rows are shared,
 * nor on whether the positions come in one call or in several. */
#include "passes/positions/lengths.h"
#include "passes/positions/positions.h"

#if MICROBP_POSITIONS

/* The weights of h start at row `in` of the layer's weight. */
typedef struct cell {
    const pass *p;
    int id;
    const mbp_node *node;
    const mbp_layer *layer;
    int64_t in, units, gates; /* gates: of the columns of weights */
    mbp_view w, u;
    int64_t together; /* columns of a panel; 0: u is used where it is */
} cell;

static cell cell_of(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const mbp_layer *layer = &p->net->layer[node->layer];
    const int64_t in = layer->in - node->width;
    return (cell){p,
                  id,
                  node,
                  layer,
                  in,
                  node->width,
                  layer->out,
                  {element(p, p->net->block, layer->weight), layer->out},
                  {element(p, p->net->block, layer->weight + in * layer->out), layer->out},
                  0};
}

/* How many positions of a row are there: it ends after them. */
static int64_t valid_of(const cell *c, int64_t row) {
    const int32_t *valid = mbp_valid_of(c->p->w, c->id);
    return valid ? valid[row] : c->node->positions;
}

/* A position of the rows from `row` on, in a matrix with a row for each position. */
static mbp_view position_of(const cell *c, mbp_view view, int64_t row, int64_t t) {
    return (mbp_view){element(c->p, view.at, (row * c->node->positions + t) * view.ld), c->node->positions * view.ld};
}

/* The matrix number i (0: h, 1: c) of a block of rows, in the scratch of a thread. */
static char *block_of(const cell *c, int thread, int i) {
    const mbp_workspace *w = c->p->w;
    return w->scratch + (size_t)(thread + 1) * w->scratch_bytes - (size_t)(2 - i) * mbp_cell_block(c->p->net, c->node);
}

/* Copies units columns, of h (i 0) or c (1), between states and a matrix without gaps. from.at NULL: zeros. */
static void copy_state(const cell *c, int64_t rows, mbp_view to, mbp_view from) {
    for (int64_t r = 0; r < rows; r++)
        if (from.at)
            memcpy(element(c->p, to.at, r * to.ld), element(c->p, from.at, r * from.ld),
                   (size_t)c->units * c->p->net->item);
        else
            memset(element(c->p, to.at, r * to.ld), 0, (size_t)c->units * c->p->net->item);
}

/* h (i 0) or c (1) of the states of the rows from `row` on. */
static mbp_view part_of(const cell *c, mbp_view states, int64_t row, int i) {
    return (mbp_view){states.at ? element(c->p, states.at, row * states.ld + i * c->units) : NULL, states.ld};
}

static mbp_view first_states(const cell *c) {
    if (c->node->operands > 1)
        return c->p->w->value[operand(c->p, c->node, 1)];
    return c->p->w->carry ? c->p->w->carry[c->id].in : (mbp_view){0};
}

static int has_c(const cell *c) { return c->layer->cell == MBP_CELL_LSTM; }

/* The number of rows, from `row` on, that have position t, or have it not. */
static int64_t alike(const cell *c, int64_t row, int64_t end, int64_t t, int *is_there) {
    const int64_t first = row;
    *is_there = t < valid_of(c, row);
    while (row < end && (t < valid_of(c, row)) == *is_there)
        row++;
    return row - first;
}

/* ---- panels of U: columns `from` to `to` - 1 of it, or of its transpose ---- */

enum { PANEL_ROWS = 64 }; /* so many rows and positions use a copy */

/* Copies the panel from column j on; n columns. */
static void copy_panel(const cell *c, int64_t k, int64_t j, int64_t n, int transposed) {
    const pass *p = c->p;
    for (int64_t i = 0; i < k; i++) {
        char *to = element(p, p->w->panels, j * k + i * n);
        if (!transposed)
            memcpy(to, element(p, c->u.at, i * c->u.ld + j), (size_t)n * p->net->item);
        for (int64_t l = 0; l < n && transposed; l++)
            memcpy(element(p, to, l), element(p, c->u.at, (j + l) * c->u.ld + i), p->net->item);
    }
}

static void copy_panels(cell *c, int64_t k, int64_t from, int64_t to, int transposed) {
    if (c->node->positions == 1 || c->p->rows * c->node->positions < PANEL_ROWS)
        return;
    c->together = mbp_panel_columns(c->p->net, k);
    for (int64_t j = from; j < to && c->together; j += c->together)
        copy_panel(c, k, j, to - j < c->together ? to - j : c->together, transposed);
}

/* product.c = the sum of product.c or the bias, and of product.a and these columns. */
static void run_panels(const cell *c, mbp_product product, int64_t from, int64_t to, char *scratch) {
    const mbp_view sums = product.c;
    const void *bias = product.bias;
    for (int64_t j = from; j < to; j += product.n) {
        product.n = c->together && to - j > c->together ? c->together : to - j;
        product.c = columns(c->p, sums, j - from);
        if (bias)
            product.bias = element(c->p, (void *)bias, j - from);
        if (c->together) {
            product.pattern = MBP_NN;
            product.b = (mbp_view){element(c->p, c->p->w->panels, j * product.k), product.n};
        } else
            product.b = product.pattern == MBP_NN ? columns(c->p, c->u, j)
                                                  : (mbp_view){element(c->p, c->u.at, j * c->u.ld), c->u.ld};
        c->p->net->kernels->product_run(&product, 0, INT64_MAX, scratch);
    }
}

/* ---- forward ---- */

enum { STEP_NUMBERS = 512 }; /* of h: some 14 times as many are in L1 */

/* sums += h U, of columns `from` to `to` - 1 of U, for m rows. bias: start from it, not from the sums. */
static void add_states(const cell *c, int64_t m, int64_t from, int64_t to, const void *h, mbp_view sums,
                       const void *bias, int add, char *scratch) {
    const mbp_product product = {.pattern = MBP_NN,
                                 .m = m,
                                 .k = c->units,
                                 .a = {(void *)h, c->units},
                                 .bias = bias,
                                 .c = sums,
                                 .add = add,
                                 .threads = 1};
    run_panels(c, product, from, to, scratch);
}

/* One position of some rows, which are there. h, state: those before it, and after it. */
typedef struct rows_of {
    const cell *c;
    int64_t rows;
    mbp_view kept, y, h, state;
    mbp_view dy, dz; /* backward, where h and state are their deltas */
} rows_of;

static mbp_view slot(const rows_of *at, mbp_view view, int i) { return columns(at->c->p, view, i * at->c->units); }
static mbp_view later(const cell *c, mbp_view view, int64_t rows) {
    return (mbp_view){view.at ? element(c->p, view.at, rows * view.ld) : NULL, view.ld};
}

static void map_of(const rows_of *at, mbp_map map, int gates, mbp_view out, mbp_view in) {
    at->c->p->net->kernels->map(map, at->rows, gates * at->c->units, out, in, NULL);
}
static void of_two(const rows_of *at, mbp_binary binary, mbp_view out, mbp_view a, mbp_view b) {
    at->c->p->net->kernels->binary(binary, at->rows, at->c->units, out, a, b);
}

/* The cells are those of PyTorch:
 *     tanh  h' = tanh(x W + h U + b)
 *     gru   n = tanh(x W + b + r (h U + b')), h' = n + z (h - n)
 *     lstm  c' = f c + i g, h' = o tanh(c'); g = tanh(x W + h U + b)
 * with gates r, z, i, f, o, the sigmoids of such sums. */
static void step_forward(const rows_of *at) {
    const mbp_kernels *k = at->c->p->net->kernels;
    const mbp_map sigmoid = k->forward[ACTIVATION_sigmoid], tanh = k->forward[ACTIVATION_tanh];
    const mbp_view y = at->y, n = slot(at, at->kept, MBP_GRU_N), g = slot(at, at->kept, MBP_LSTM_G);
    map_of(at, k->copy, 1, slot(at, at->kept, mbp_cell_kept(at->c->layer->cell) - 1), at->h);
    if (at->c->layer->cell == MBP_CELL_TANH) {
        map_of(at, tanh, 1, y, y);
    } else if (at->c->layer->cell == MBP_CELL_GRU) {
        map_of(at, sigmoid, 2, at->kept, at->kept);
        of_two(at, k->multiply, y, at->kept, slot(at, at->kept, MBP_GRU_HIDDEN));
        of_two(at, k->add, n, n, y);
        map_of(at, tanh, 1, n, n);
        of_two(at, k->subtract, y, at->h, n);
        of_two(at, k->multiply, y, y, slot(at, at->kept, MBP_GRU_Z));
        of_two(at, k->add, y, y, n);
    } else {
        const mbp_view o = slot(at, at->kept, MBP_LSTM_O), tanh_c = slot(at, at->kept, MBP_LSTM_TANH_C);
        map_of(at, sigmoid, 2, at->kept, at->kept);
        map_of(at, tanh, 1, g, g);
        map_of(at, sigmoid, 1, o, o);
        map_of(at, k->copy, 1, slot(at, at->kept, MBP_LSTM_C), at->state);
        of_two(at, k->multiply, at->state, at->state, slot(at, at->kept, MBP_LSTM_F));
        of_two(at, k->multiply, y, at->kept, g);
        of_two(at, k->add, at->state, at->state, y);
        map_of(at, tanh, 1, tanh_c, at->state);
        of_two(at, k->multiply, y, o, tanh_c);
    }
    map_of(at, k->copy, 1, at->h, y);
}

/* Calls `step` for the rows of a position that are there, few at a time, so that they stay in the nearest cache, and
 * `absent` for the others. */
static void run_steps(rows_of all, int64_t row, int64_t t, void (*step)(const rows_of *),
                      void (*absent)(const rows_of *)) {
    const cell *c = all.c;
    const int64_t few = STEP_NUMBERS / c->units + 1;
    for (int64_t r = 0; r < all.rows;) {
        int is_there;
        rows_of at = {c,
                      alike(c, row + r, row + all.rows, t, &is_there),
                      later(c, all.kept, r),
                      later(c, all.y, r),
                      later(c, all.h, r),
                      later(c, all.state, r),
                      later(c, all.dy, r),
                      later(c, all.dz, r)};
        at.rows = at.rows < few ? at.rows : few;
        (is_there ? step : absent)(&at);
        r += at.rows;
    }
}

/* Rows that are not there at a position have 0 there, and keep their state. The gradient of U multiplies what is kept
 * of h by 0, so that must be a number. */
static void clear_y(const rows_of *at) {
    copy_state(at->c, at->rows, at->y, (mbp_view){0});
    copy_state(at->c, at->rows, slot(at, at->kept, mbp_cell_kept(at->c->layer->cell) - 1), (mbp_view){0});
}

static void forward_position(const cell *c, int64_t row, int64_t m, int64_t t, char *h, char *state, char *scratch) {
    const pass *p = c->p;
    const mbp_view y = position_of(c, p->w->value[c->id], row, t), kept = position_of(c, p->w->z[c->id], row, t);
    if (c->layer->cell == MBP_CELL_GRU) {
        const void *bias = c->layer->bias >= 0 ? element(p, p->net->block, c->layer->bias + 3 * c->units) : NULL;
        add_states(c, m, 0, 2 * c->units, h, kept, NULL, 1, scratch);
        add_states(c, m, 2 * c->units, 3 * c->units, h, columns(p, kept, MBP_GRU_HIDDEN * c->units), bias, 0, scratch);
    } else
        add_states(c, m, 0, c->gates, h, c->layer->cell == MBP_CELL_TANH ? y : kept, NULL, 1, scratch);
    run_steps((rows_of){.c = c, .rows = m, .kept = kept, .y = y, .h = {h, c->units}, .state = {state, c->units}}, row,
              t, step_forward, clear_y);
}

static void forward_rows(void *context, int64_t row, int64_t end, int thread) {
    const cell *c = context;
    const pass *p = c->p;
    char *const h = block_of(c, thread, 0), *const state = block_of(c, thread, 1);
    char *const scratch = p->w->scratch + (size_t)thread * p->w->scratch_bytes;
    const mbp_view first = first_states(c), last = p->w->carry ? p->w->carry[c->id].out : (mbp_view){0};
    const int64_t positions = c->node->positions;
    for (int64_t m; row < end; row += m) {
        m = end - row < MBP_CELL_ROWS ? end - row : MBP_CELL_ROWS;
        copy_state(c, m, (mbp_view){h, c->units}, part_of(c, first, row, 0));
        if (has_c(c))
            copy_state(c, m, (mbp_view){state, c->units}, part_of(c, first, row, 1));
        for (int64_t i = 0; i < positions; i++)
            forward_position(c, row, m, mbp_is_reverse(c->node) ? positions - 1 - i : i, h, state, scratch);
        if (last.at)
            copy_state(c, m, part_of(c, last, row, 0), (mbp_view){h, c->units});
        if (last.at && has_c(c))
            copy_state(c, m, part_of(c, last, row, 1), (mbp_view){state, c->units});
    }
}

/* Runs blocks of rows, which threads share. */
static void run_blocks(const cell *c, mbp_work run) {
    const pass *p = c->p;
    const int threads = take_threads(p,
                                     2.0 * (double)p->rows * c->node->positions * (double)c->units * (double)c->gates);
    const int64_t each = (p->rows + threads - 1) / threads;
    mbp_pool_run(p->net->pool, threads, p->rows, each < MBP_CELL_ROWS ? each : MBP_CELL_ROWS, run, (void *)c);
}

void mbp_forward_recurrent(const pass *p, int id) {
    cell c = cell_of(p, id);
    const mbp_view sums = c.layer->cell == MBP_CELL_TANH ? p->w->value[id] : p->w->z[id];
    mbp_product product = {.pattern = MBP_NN,
                           .m = p->rows * c.node->positions,
                           .n = c.gates,
                           .k = c.in,
                           .a = operand_value(p, id),
                           .b = c.w,
                           .bias = c.layer->bias >= 0 ? element(p, p->net->block, c.layer->bias) : NULL,
                           .c = sums};
    mbp_run_product(p, &product);
    const int64_t first = c.layer->cell == MBP_CELL_GRU ? 2 * c.units : c.gates;
    copy_panels(&c, c.units, 0, first, 0);
    copy_panels(&c, c.units, first, c.gates, 0);
    run_blocks(&c, forward_rows);
}

#if MICROBP_TRAINING

/* ---- backward ---- */

static mbp_view dz_of(const cell *c) {
    return c->layer->cell == MBP_CELL_TANH ? c->p->w->delta[c->id] : c->p->w->cell[c->id].dz;
}

static void step_backward(const rows_of *at) {
    const mbp_kernels *k = at->c->p->net->kernels;
    const mbp_map to_sigmoid = k->backward[ACTIVATION_sigmoid], to_tanh = k->backward[ACTIVATION_tanh];
    const mbp_view dh = at->h, dc = at->state, kept = at->kept;
    if (at->c->layer->cell == MBP_CELL_TANH) {
        of_two(at, k->add, at->dy, at->dy, dh);
        map_of(at, to_tanh, 1, at->dy, at->y);
        copy_state(at->c, at->rows, dh, (mbp_view){0});
    } else if (at->c->layer->cell == MBP_CELL_GRU) {
        const mbp_view z = slot(at, kept, MBP_GRU_Z), n = slot(at, kept, MBP_GRU_N);
        const mbp_view dr = at->dz, dz = slot(at, dr, 1), hidden = slot(at, dr, 2), dn = slot(at, dr, 3);
        of_two(at, k->add, dh, at->dy, dh);
        of_two(at, k->subtract, dz, slot(at, kept, mbp_cell_kept(MBP_CELL_GRU) - 1), n);
        of_two(at, k->multiply, dz, dz, dh);
        of_two(at, k->multiply, hidden, dh, z);
        of_two(at, k->subtract, dn, dh, hidden);
        map_of(at, k->copy, 1, dh, hidden);
        map_of(at, to_tanh, 1, dn, n);
        of_two(at, k->multiply, dr, dn, slot(at, kept, MBP_GRU_HIDDEN));
        map_of(at, to_sigmoid, 2, dr, kept);
        of_two(at, k->multiply, hidden, dn, kept);
    } else {
        const mbp_view f = slot(at, kept, MBP_LSTM_F), g = slot(at, kept, MBP_LSTM_G), o = slot(at, kept, MBP_LSTM_O);
        const mbp_view tanh_c = slot(at, kept, MBP_LSTM_TANH_C), di = at->dz, df = slot(at, di, MBP_LSTM_F);
        of_two(at, k->add, dh, at->dy, dh);
        of_two(at, k->multiply, df, dh, o);
        map_of(at, to_tanh, 1, df, tanh_c);
        of_two(at, k->add, dc, dc, df);
        of_two(at, k->multiply, slot(at, di, MBP_LSTM_O), dh, tanh_c);
        map_of(at, to_sigmoid, 1, slot(at, di, MBP_LSTM_O), o);
        of_two(at, k->multiply, di, dc, g);
        of_two(at, k->multiply, df, dc, slot(at, kept, MBP_LSTM_C));
        map_of(at, to_sigmoid, 2, di, kept);
        of_two(at, k->multiply, slot(at, di, MBP_LSTM_G), dc, kept);
        map_of(at, to_tanh, 1, slot(at, di, MBP_LSTM_G), g);
        of_two(at, k->multiply, dc, dc, f);
        copy_state(at->c, at->rows, dh, (mbp_view){0});
    }
}

static void clear_dz(const rows_of *at) {
    for (int i = 0; i < (at->c->layer->cell == MBP_CELL_TANH ? 1 : MBP_CELL_DZ); i++)
        copy_state(at->c, at->rows, slot(at, at->dz, i), (mbp_view){0});
}

/* dh and dc: the deltas of the states after the position, which become those of the states before it. to_before: 0: dh
 * is not needed. */
static void backward_position(const cell *c, int64_t row, int64_t m, int64_t t, char *dh, char *dc, int to_before,
                              char *scratch) {
    const pass *p = c->p;
    const mbp_view dz = position_of(c, dz_of(c), row, t);
    run_steps((rows_of){.c = c,
                        .rows = m,
                        .kept = position_of(c, p->w->z[c->id], row, t),
                        .y = position_of(c, p->w->value[c->id], row, t),
                        .h = {dh, c->units},
                        .state = {dc, c->units},
                        .dy = position_of(c, p->w->delta[c->id], row, t),
                        .dz = dz},
              row, t, step_backward, clear_dz);
    const mbp_product product = {
        .pattern = MBP_NT, .m = m, .k = c->gates, .a = dz, .c = {dh, c->units}, .add = 1, .threads = 1};
    if (to_before)
        run_panels(c, product, 0, c->units, scratch);
}

static void backward_rows(void *context, int64_t row, int64_t end, int thread) {
    const cell *c = context;
    const pass *p = c->p;
    char *const dh = block_of(c, thread, 0), *const dc = block_of(c, thread, 1);
    char *const scratch = p->w->scratch + (size_t)thread * p->w->scratch_bytes;
    const int64_t positions = c->node->positions;
    const int to_state = c->node->operands > 1 && edge(p, c->node, 1) != MBP_SKIP;
    for (int64_t m; row < end; row += m) {
        m = end - row < MBP_CELL_ROWS ? end - row : MBP_CELL_ROWS;
        copy_state(c, m, (mbp_view){dh, c->units}, (mbp_view){0});
        copy_state(c, m, (mbp_view){dc, c->units}, (mbp_view){0});
        for (int64_t i = positions - 1; i >= 0; i--)
            backward_position(c, row, m, mbp_is_reverse(c->node) ? positions - 1 - i : i, dh, dc, i > 0 || to_state,
                              scratch);
        if (to_state)
            copy_state(c, m, part_of(c, p->w->cell[c->id].state, row, 0), (mbp_view){dh, c->units});
        if (to_state && has_c(c))
            copy_state(c, m, part_of(c, p->w->cell[c->id].state, row, 1), (mbp_view){dc, c->units});
    }
}

/* Gradients of some columns of the weights of x or h: a^T dz over k positions. db: of the bias; NULL: not wanted. */
static void add_gradient(const cell *c, int64_t k, int64_t m, mbp_view a, mbp_view dz, int64_t columns, void *dw,
                         void *db, int add) {
    mbp_product product = {.pattern = MBP_TN,
                           .m = m,
                           .n = columns,
                           .k = k,
                           .a = a,
                           .b = dz,
                           .c = {dw, c->gates},
                           .db = db,
                           .add = add,
                           .nonfinite = c->p->nonfinite,
                           .threads = 1};
    if (m)
        mbp_run_product(c->p, &product);
    else /* only db is wanted */
        c->p->net->kernels->product_run(&product, 0, INT64_MAX, c->p->w->scratch);
}

static mbp_view from_row(const cell *c, mbp_view view, int64_t row) {
    return (mbp_view){element(c->p, view.at, row * c->node->positions * view.ld), view.ld};
}

/* The gradients of the layer over `rows` rows of the net. */
static void backward_layer(const cell *c, int64_t row, int64_t rows, char *grads, int add) {
    const pass *p = c->p;
    const int64_t k = rows * c->node->positions, n = c->units;
    const mbp_view x = from_row(c, operand_value(p, c->id), row), dz = from_row(c, dz_of(c), row);
    const mbp_view kept = from_row(c, p->w->z[c->id], row);
    const mbp_view h = columns(p, kept, (mbp_cell_kept(c->layer->cell) - 1) * n);
    char *const dw = element(p, grads, c->layer->weight);
    char *const db = c->layer->bias >= 0 ? element(p, grads, c->layer->bias) : NULL;
    if (c->layer->cell == MBP_CELL_GRU) {
        add_gradient(c, k, c->in, x, dz, 2 * n, dw, db, add);
        add_gradient(c, k, c->in, x, columns(p, dz, 3 * n), n, element(p, dw, 2 * n), db ? element(p, db, 2 * n) : NULL,
                     add);
        if (db)
            add_gradient(c, k, 0, x, columns(p, dz, 2 * n), n, NULL, element(p, db, 3 * n), add);
    } else
        add_gradient(c, k, c->in, x, dz, c->gates, dw, db, add);
    add_gradient(c, k, n, h, dz, c->gates, element(p, dw, c->in * c->gates), NULL, add);
}

/* dx of columns `from` to `to` - 1 of the weights of x: += dz W^T. */
static void add_operand(const cell *c, mbp_view dz, int64_t from, int64_t to, int add) {
    mbp_product product = {.pattern = MBP_NT,
                           .m = c->p->rows * c->node->positions,
                           .n = c->in,
                           .k = to - from,
                           .a = dz,
                           .b = columns(c->p, c->w, from),
                           .c = operand_delta(c->p, c->id),
                           .add = add,
                           .threads = 1};
    mbp_run_product(c->p, &product);
}

static void backward_state(const cell *c) {
    const pass *p = c->p;
    const mbp_map write = edge(p, c->node, 1) == MBP_STORE ? p->net->kernels->copy : p->net->kernels->accumulate;
    if (edge(p, c->node, 1) != MBP_SKIP)
        p->net->kernels->map(write, p->rows, mbp_state_width(c->layer), p->w->delta[operand(p, c->node, 1)],
                             p->w->cell[c->id].state, NULL);
}

void mbp_backward_recurrent(const pass *p, int id) {
    cell c = cell_of(p, id);
    const mbp_write write = p->plan->grads[id];
    const int64_t each = mbp_apart(p) ? 1 : p->rows;
    copy_panels(&c, c.gates, 0, c.units, 1);
    run_blocks(&c, backward_rows);
    for (int64_t r = 0; r < p->rows && write != MBP_SKIP; r += each)
        backward_layer(&c, r, each, element(p, p->grads, r * mbp_apart(p)), p->accumulate || write == MBP_ACCUMULATE);
    const int add = edge(p, c.node, 0) == MBP_ACCUMULATE;
    if (edge(p, c.node, 0) != MBP_SKIP && c.layer->cell == MBP_CELL_GRU) {
        add_operand(&c, dz_of(&c), 0, 2 * c.units, add);
        add_operand(&c, columns(p, dz_of(&c), 3 * c.units), 2 * c.units, 3 * c.units, 1);
    } else if (edge(p, c.node, 0) != MBP_SKIP)
        add_operand(&c, dz_of(&c), 0, c.gates, add);
    if (c.node->operands > 1)
        backward_state(&c);
}

#endif
#endif
