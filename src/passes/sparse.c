/* Dense layers with sparse rows. The forward pass adds the rows of W that a row names. The backward pass needs the
 * values column by column: they are sorted, so that each row of dW is again a sum of a few rows, those of dz. Both sums
 * are in the order of the dense product, and skip its zeros. */
#include "passes/sparse.h"

#include <math.h>

#include "net/statements.h"
#include "system/text.h"

#if MICROBP_SPARSE

mbp_status mbp_sparse_readers_check(const mbp_net *net, int input, mbp_error *error) {
    const int id = net->input_nodes[input];
    for (int reader = 0; reader < net->nodes; reader++) {
        const mbp_node *node = &net->node[reader];
        for (int i = 0; i < node->operands; i++)
            if (node->uses && !mbp_reads_sparse(node->kind) && net->operands[node->first_operand + i] == id)
                return mbp_fail(error, MBP_INVALID,
                                "input %d is sparse, but node %d (%s) reads it, and only dense layers and embeddings "
                                "read sparse rows: pass a dense array",
                                input, reader, mbp_statement_word(node->kind));
    }
    for (int i = 0; i < net->outputs; i++)
        if (net->output[i].node == id)
            return mbp_fail(error, MBP_INVALID, "input %d is sparse, but is output %d too: pass a dense array", input,
                            i);
    return MBP_OK;
}

/* ---- products ---- */

typedef struct sparse_job {
    const pass *pass;
    const mbp_sparse_product *product;
    mbp_map map; /* y = map(z) of finished rows; NULL: none */
    mbp_view y;
    const double *parameters;
} sparse_job;

static void run_rows(void *context, int64_t first, int64_t last, int thread) {
    const sparse_job *job = context;
    const mbp_sparse_product *product = job->product;
    const mbp_kernels *kernels = job->pass->net->kernels;
    (void)thread;
    kernels->sparse_product(product, first, last);
    if (!job->map)
        return;
    const mbp_view z = {element(job->pass, product->c.at, first * product->c.ld), product->c.ld};
    const mbp_view y = {element(job->pass, job->y.at, first * job->y.ld), job->y.ld};
    kernels->map(job->map, last - first, product->n, y, z, job->parameters);
}

/* Whether the node puts the weights of ids side by side: a row of it is several rows of a product, one for each id. */
static int is_joined(const pass *p, const mbp_node *node) {
    return mbp_is_ids(&p->net->node[operand(p, node, 0)]) && !p->net->layer[node->layer].sums;
}

/* rows: of the product's a. */
static void run_product(sparse_job *job, int64_t rows) {
    enum { PIECES_PER_THREAD = 4 };
    const mbp_csr *a = &job->product->a;
    const int threads = take_threads(job->pass, 2.0 * (double)a->start[rows] * (double)job->product->n);
    mbp_pool_run(job->pass->net->pool, threads, rows, rows / (PIECES_PER_THREAD * threads) + 1, run_rows, job);
}

void mbp_forward_sparse(const pass *p, int id, const mbp_sparse_input *x) {
    const mbp_node *node = &p->net->node[id];
    const mbp_layer *layer = &p->net->layer[node->layer];
    const int joined = is_joined(p, node);
    const mbp_view y = p->w->value[id], z = p->w->z[id].at ? p->w->z[id] : y;
    const mbp_sparse_product product = {.a = {joined ? x->each : x->rows.start, x->rows.column, x->rows.value},
                                        .n = layer->out,
                                        .k = layer->in,
                                        .b = {element(p, p->net->block, layer->weight), layer->out},
                                        .c = {z.at, joined ? layer->out : z.ld},
                                        .bias = layer->bias >= 0 ? element(p, p->net->block, layer->bias) : NULL};
    const int is_done = node->activation.row == ACTIVATION_identity && z.at == y.at;
    sparse_job job = {.pass = p, .product = &product, .y = y, .parameters = node->activation.parameters};
    job.map = is_done ? NULL : p->net->kernels->forward[node->activation.row];
    run_product(&job, joined ? p->rows * (node->width / layer->out) : p->rows);
}

#if MICROBP_TRAINING

/* ---- by columns ---- */

enum { DIGIT = 8, DIGITS = 1 << DIGIT };

/* Sorts entries by one digit of their columns, and keeps the order of equal ones. */
static void sort_digit(int64_t count, const mbp_sparse_entry *from, mbp_sparse_entry *to, int shift) {
    int64_t place[DIGITS] = {0};
    for (int64_t i = 0; i < count; i++)
        place[from[i].column >> shift & (DIGITS - 1)]++;
    for (int64_t d = 0, before = 0; d < DIGITS; d++) {
        const int64_t own = place[d];
        place[d] = before;
        before += own;
    }
    for (int64_t i = 0; i < count; i++)
        to[place[from[i].column >> shift & (DIGITS - 1)]++] = from[i];
}

/* start: of x->rows; of ids, one row for each. */
static void turn(mbp_sparse_input *x, const int64_t *start, size_t item, int64_t rows, int64_t width) {
    const int64_t count = start[rows];
    mbp_sparse_entry *from = x->entries[0], *to = x->entries[1];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = start[r]; i < start[r + 1]; i++) {
            from[i] = (mbp_sparse_entry){(uint32_t)x->rows.column[i], (uint32_t)r, 0};
            memcpy(&from[i].value, (char *)x->rows.value + (size_t)i * item, item);
        }
    for (int shift = 0; rows > 1 && (width - 1) >> shift > 0; shift += DIGIT) { /* a single row is sorted */
        sort_digit(count, from, to, shift);
        mbp_sparse_entry *const sorted = to;
        to = from, from = sorted;
    }
    x->columns = 0;
    for (int64_t i = 0; i < count; i++) {
        if (i == 0 || from[i].column != from[i - 1].column) {
            x->by_column.start[x->columns] = i;
            x->column[x->columns++] = (int32_t)from[i].column;
        }
        x->by_column.column[i] = (int32_t)from[i].row;
        memcpy((char *)x->by_column.value + (size_t)i * item, &from[i].value, item);
    }
    x->by_column.start[x->columns] = count;
}

void mbp_sparse_turn(const mbp_net *net, mbp_workspace *w, int64_t rows) {
    for (int i = 0; i < net->inputs && w->sparse; i++) {
        const mbp_node *node = &net->node[net->input_nodes[i]];
        mbp_sparse_input *x = &w->input[i];
        if (!x->is_sparse)
            continue;
        if (!mbp_is_ids(node)) {
            turn(x, x->rows.start, net->item, rows, node->width);
            continue;
        }
        turn(x, x->each, net->item, rows * node->width, mbp_ids_levels(node));
        for (int64_t k = 0; k < x->each[rows * node->width]; k++)
            x->id_row[k] = x->by_column.column[k] / (int32_t)node->width;
    }
}

int64_t mbp_sparse_nonfinite(const mbp_net *net, const mbp_workspace *w, int input, int64_t rows) {
    const mbp_csr *x = &w->input[input].rows;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = x->start[r]; i < x->start[r + 1]; i++)
            if (!isfinite(net->dtype == MBP_F64 ? ((double *)x->value)[i] : (double)((float *)x->value)[i]))
                return r;
    return -1;
}

/* ---- the gradient ---- */

/* Makes `count` rows of dW, those in `rows` (NULL: 0, 1, ...), and keeps the rows that it has. Sets dw->place. */
static void add_named(mbp_sparse_grad *dw, const int32_t *rows, int64_t count, size_t bytes) {
    int64_t n = 0;
    for (int64_t old = 0, own = 0; old < dw->count || own < count; n++) {
        const int32_t mine = own == count ? INT32_MAX : rows ? rows[own] : (int32_t)own;
        const int32_t before = old == dw->count ? INT32_MAX : dw->row[old];
        char *to = dw->next_value + (size_t)n * bytes;
        dw->next_row[n] = mine < before ? mine : before;
        if (before <= mine)
            memcpy(to, dw->value + (size_t)old++ * bytes, bytes);
        else
            memset(to, 0, bytes);
        if (mine <= before)
            dw->place[own++] = (int32_t)n;
    }
    int32_t *const row = dw->row;
    char *const value = dw->value;
    dw->row = dw->next_row, dw->value = dw->next_value, dw->count = n;
    dw->next_row = row, dw->next_value = value;
}

/* Makes the rows of dW that a pass stores. */
static void name(mbp_sparse_grad *dw, const int32_t *rows, int64_t count) {
    dw->count = count;
    for (int64_t i = 0; i < count; i++)
        dw->row[i] = rows ? rows[i] : (int32_t)i;
}

int mbp_sparse_name(const pass *p, int id, const mbp_sparse_input *x, mbp_sparse_grad *dw) {
    const mbp_layer *layer = &p->net->layer[p->net->node[id].layer];
    const int add = p->accumulate || p->plan->grads[id] == MBP_ACCUMULATE;
    const int32_t *const rows = x ? x->column : NULL;
    const int64_t count = x ? x->columns : layer->in;
    if (add)
        add_named(dw, rows, count, (size_t)layer->out * p->net->item);
    else
        name(dw, rows, count);
    return add;
}

void mbp_backward_sparse(const pass *p, int id, const mbp_sparse_input *x, mbp_sparse_grad *dw) {
    const mbp_layer *layer = &p->net->layer[p->net->node[id].layer];
    const int add = mbp_sparse_name(p, id, x, dw);
    const mbp_node *node = &p->net->node[id];
    const int joined = is_joined(p, node), added = mbp_is_ids(&p->net->node[operand(p, node, 0)]) && !joined;
    const mbp_view c = {dw->value, layer->out}, dz = p->w->delta[id];
    int32_t *const row = added ? x->id_row : x->by_column.column;
    const mbp_sparse_product product = {.a = {x->by_column.start, row, x->by_column.value},
                                        .n = layer->out,
                                        .k = p->rows,
                                        .b = {dz.at, joined ? layer->out : dz.ld},
                                        .c = c,
                                        .add = add,
                                        .place = add ? dw->place : NULL,
                                        .nonfinite = p->nonfinite};
    run_product(&(sparse_job){.pass = p, .product = &product}, x->columns);
    const mbp_product sums = {.pattern = MBP_TN, /* without rows of c: only db */
                              .n = layer->out,
                              .k = p->rows,
                              .b = dz,
                              .c = c,
                              .threads = 1,
                              .db = layer->bias >= 0 ? element(p, p->grads, layer->bias) : NULL,
                              .add = add,
                              .nonfinite = p->nonfinite};
    p->net->kernels->product_run(&sums, 0, INT64_MAX, p->w->scratch);
}
#endif
#endif
