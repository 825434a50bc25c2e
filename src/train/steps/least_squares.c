#include "train/steps/least_squares.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "passes/plan/pass.h"
#include "train/loss.h"
#include "train/steps/step.h"
#include "train/update.h"

#if MICROBP_SOLVERS
enum {
    BLOCK_BYTES = 256 << 10, /* of the part of J that is in memory: it stays in L2 between the passes and the product */
    BLOCK_RESIDUALS = 64,    /* but at least so many rows of J, so that reading and writing J^T J takes less time */
    PANEL = 48,              /* rows of J^T J that are computed together, up to the diagonal */
};
static const double most_bytes = 256 << 20; /* of matrices */

/* Memory for J and what it is computed from. After this structure come the solver's matrices. */
typedef struct mbp_squares {
    int64_t residuals; /* of a row of the net */
    int64_t block;     /* rows of the net whose part of J is computed together */
    int64_t rows;      /* of the net: room for `kept` */
    char *jacobian;    /* (block * residuals, n) in the net's dtype */
    double *wide;      /* the same in double; the same memory, if that is the net's dtype */
    char *outputs;     /* the probabilities of an output of these rows */
    char *kept;        /* the deltas of the outputs, one after the other */
    char *scratch;     /* of the product, for each thread */
    size_t scratch_bytes;
    int threads;
} mbp_squares;

/* ---- losses ---- */

/* Positions of parameters of bce and of cross_entropy. */
enum { SMOOTHING = 0, POSITIVE = 1, TEMPERATURE = 1, GAMMA = 2 };

/* What H is: a number, p (1 - p), or diag(p) - p p^T. */
typedef enum curvature { NONE, OF_SQUARES, OF_SIGMOID, OF_SOFTMAX } curvature;

/* *factor: of H. */
static curvature curvature_of(const mbp_objective *objective, double *factor) {
    const int row = objective->loss.row;
#define CURVATURE(name, kind, number) \
    if (row == LOSS_##name) \
        return *factor = number, kind;
#include "formulas/formulas.def"
    (void)row, (void)factor;
    return NONE;
}

/* The parameters of the loss of column j. */
static const double *parameters_of(const mbp_objective *objective, int64_t j) {
    return mbp_has_columns(objective) ? objective->columns + MBP_LOSS_PARAMETERS * j : objective->loss.parameters;
}

/* Whether the loss has a gamma, which makes its second derivatives negative at some outputs. */
static int has_gamma(const mbp_objective *objective) {
    double factor;
    const curvature kind = curvature_of(objective, &factor);
    for (int64_t j = 0; (kind == OF_SIGMOID || kind == OF_SOFTMAX) && j < objective->width; j++)
        if (parameters_of(objective, j)[GAMMA] != 0)
            return 1;
    return 0;
}

mbp_status mbp_squares_check(const mbp_trainer *t, const mbp_batch *batch, mbp_error *error) {
    const char *name = mbp_formula_name(MBP_SOLVER, t->optimizer.row);
    char why[96];
    double factor;
    if (!MICROBP_JACOBIAN)
        return mbp_fail_extra(error, name, "jacobian");
    if (!MICROBP_F64)
        return mbp_fail(error, MBP_UNSUPPORTED, "%s needs a build with float64", name);
    for (int i = 0; i < t->net->outputs; i++) {
        const int gamma = has_gamma(&t->objective[i]);
        if (t->objective[i].weight != 0 && (gamma || curvature_of(&t->objective[i], &factor) == NONE))
            return mbp_fail(error, MBP_INVALID,
                            "the loss of output %d is %s%s, but %s needs mse, half_sse, bce or cross_entropy, without "
                            "gamma; use another loss, or lbfgs",
                            i, mbp_formula_name(MBP_LOSS, t->objective[i].loss.row), gamma ? " with gamma" : "", name);
    }
    snprintf(why, sizeof why, "%s needs", name);
    return mbp_inputs_dense_check(t->net, batch->x, why, error);
}

/* ---- memory ---- */

static int64_t residuals_each(const mbp_trainer *t) {
    int64_t residuals = 0;
    for (int i = 0; i < t->net->outputs; i++)
        residuals += t->objective[i].weight != 0 ? mbp_output_row(t->net, i) : 0;
    return residuals;
}

int64_t mbp_squares_residuals(const mbp_trainer *t, int64_t rows) { return rows * residuals_each(t); }

/* The weight of an element. r: the row's number among those of the batch. */
static double weight_of(const mbp_trainer *t, int i, int64_t r, int64_t position, int64_t j) {
    const mbp_workspace *w = t->workspace;
    const mbp_own *own = &w->own[i];
    if (!mbp_is_weighted(w) || !own->columns)
        return w->weight[r];
    const int64_t column = own->columns == 1 ? 0 : mbp_trainer_positions(t, i) > 1 ? position : j;
    return own->at[column * w->rows + r];
}

int64_t mbp_squares_targets(const mbp_batch_loss *o) {
    const mbp_trainer *t = o->trainer;
    int64_t targets = 0;
    for (int i = 0; i < t->net->outputs; i++)
        for (int64_t k = 0; t->objective[i].weight != 0 && k < mbp_output_row(t->net, i); k++)
            for (int64_t r = 0; r < o->chosen->rows.count; r++)
                targets += weight_of(t, i, r, k / t->objective[i].width, k % t->objective[i].width) != 0;
    return targets;
}

const mbp_kernels *mbp_squares_kernels(const mbp_net *net) {
    return net->dtype == MBP_F64 ? net->kernels : mbp_kernels_suited(MBP_F64, net->params);
}

/* Lays the arrays out in a block, from byte number `bytes` on; returns its size. at NULL: only that. */
static size_t place(const mbp_trainer *t, mbp_squares *s, size_t bytes, char *at) {
    const mbp_net *net = t->net;
    const int64_t n = net->params, residuals = s->block * s->residuals;
    int64_t widest = 0, all = 0;
    for (int i = 0; i < net->outputs; i++) {
        const int64_t width = mbp_output_row(net, i);
        widest = width > widest ? width : widest;
        all += width;
    }
    const mbp_product largest = {.pattern = MBP_TN, .m = PANEL, .n = n, .k = residuals, .b = {NULL, n}};
    s->scratch_bytes = mbp_aligned(mbp_squares_kernels(net)->product_scratch(&largest));
    const size_t numbers = mbp_aligned((size_t)(residuals * n) * net->item + MBP_READABLE);
    s->jacobian = at ? at + bytes : NULL;
    bytes += numbers;
    s->wide = at ? (double *)(net->dtype == MBP_F64 ? s->jacobian : at + bytes) : NULL;
    bytes += net->dtype == MBP_F64 ? 0 : mbp_aligned((size_t)(residuals * n) * sizeof(double) + MBP_READABLE);
    s->outputs = at ? at + bytes : NULL;
    bytes += mbp_aligned((size_t)(s->block * widest) * net->item);
    s->kept = at ? at + bytes : NULL;
    bytes += mbp_aligned((size_t)(s->rows * all) * net->item);
    s->scratch = at ? at + bytes : NULL;
    return bytes + s->scratch_bytes * (size_t)s->threads + MBP_READABLE;
}

/* How many rows of the net make a block. */
static int64_t block_rows(int64_t rows, int64_t residuals, int64_t n) {
    const int64_t bytes = residuals * n * (int64_t)sizeof(double);
    const int64_t fit = bytes ? BLOCK_BYTES / bytes : rows;
    const int64_t least = residuals ? (BLOCK_RESIDUALS + residuals - 1) / residuals : 1;
    const int64_t block = fit > least ? fit : least;
    return block < rows ? block : rows;
}

mbp_status mbp_squares_open(mbp_trainer *t, int64_t rows, mbp_error *error) {
    const int64_t n = t->net->params, residuals = residuals_each(t), m = rows * residuals, less = m < n ? m : n;
    const double size = (double)less * (double)(m < n ? n + m : n) * sizeof(double); /* J and J J^T, or J^T J */
    if (size > most_bytes)
        return mbp_fail(error, MBP_NO_MEMORY,
                        "%s needs matrices of %.0f bytes for %lld parameters, but at most %.0f are allowed; use lbfgs",
                        mbp_formula_name(MBP_SOLVER, t->optimizer.row), size, (long long)n, most_bytes);
    mbp_squares s = {.residuals = residuals,
                     .block = block_rows(rows, residuals, n),
                     .rows = rows,
                     .threads = mbp_net_worthwhile(t->net, (double)m * (double)n * (double)n)};
    const size_t head = mbp_aligned(sizeof s),
                 first = head + mbp_aligned((size_t)t->solver->row->scratch(t->solver, m) * sizeof(double)),
                 bytes = place(t, &s, first, NULL);
    if (t->squares_bytes < bytes) {
        struct mbp_squares *grown = mbp_memory_take(&t->memory, bytes);
        if (!grown)
            return mbp_fail(error, MBP_NO_MEMORY, "no memory for the matrices of %s",
                            mbp_formula_name(MBP_SOLVER, t->optimizer.row));
        mbp_memory_give(&t->memory, t->squares, t->squares_bytes);
        t->squares = grown;
        t->squares_bytes = bytes;
        t->solver->is_known = 0;
    }
    (void)place(t, &s, first, (char *)t->squares);
    *t->squares = s;
    t->solver->scratch = (double *)((char *)t->squares + head);
    return MBP_OK;
}

/* ---- the deltas of the outputs ---- */

static inline double number_at(const mbp_net *net, const void *from, int64_t i) {
    return net->dtype == MBP_F64 ? ((const double *)from)[i] : (double)((const float *)from)[i];
}
static inline double get(const mbp_net *net, mbp_view view, int64_t r, int64_t j) {
    return number_at(net, view.at, r * view.ld + j);
}

static inline void put(const mbp_net *net, mbp_view view, int64_t r, int64_t j, double value) {
    const int64_t at = r * view.ld + j;
    if (net->dtype == MBP_F64)
        ((double *)view.at)[at] = value;
    else
        ((float *)view.at)[at] = (float)value;
}

/* Rows of the net in the workspace, with `first` the number of the first of them among those of the batch. */
typedef struct part {
    mbp_trainer *t;
    int64_t first, count;
} part;

static void clear_deltas(const part *p, int i) {
    const mbp_net *net = p->t->net;
    const int id = net->output[i].node;
    const mbp_view delta = p->t->workspace->delta[id];
    const int64_t rows = p->count * mbp_trainer_positions(p->t, i), width = net->node[id].width;
    if (delta.ld == width)
        memset(delta.at, 0, (size_t)(rows * width) * net->item);
    for (int64_t r = 0; r < rows && delta.ld != width; r++)
        memset((char *)delta.at + (size_t)(r * delta.ld) * net->item, 0, (size_t)width * net->item);
}

/* What the second derivatives of a loss of weight 1 are multiplied by. */
static double scale_of(const mbp_trainer *t, int i, double total) {
    const mbp_objective *objective = &t->objective[i];
    const double divisor = mbp_is_weighted(t->workspace) ? objective->divisor : total;
    const double share = mbp_loss_is_mean(objective->loss.row) ? 1 / (double)objective->width : 1;
    return divisor > 0 ? objective->weight / (divisor * (double)mbp_trainer_positions(t, i)) * share : 0;
}

/* The probabilities of an output: p = activation(o / temperature). */
static mbp_view probabilities(const part *p, int i, double temperature) {
    const mbp_trainer *t = p->t;
    const mbp_net *net = t->net;
    const int64_t rows = p->count * mbp_trainer_positions(t, i), width = t->objective[i].width;
    const mbp_view o = t->workspace->value[net->output[i].node], to = {t->squares->outputs, width};
    for (int64_t r = 0; r < rows && temperature != 1; r++)
        for (int64_t j = 0; j < width; j++)
            put(net, to, r, j, get(net, o, r, j) / temperature);
    net->kernels->output[net->output[i].activation](rows, width, to, temperature != 1 ? to : o);
    return to;
}

/* One row of F for an output and its column `column` of a position. */
typedef struct factor {
    int output;
    curvature kind;
    double scale; /* of H, without the weight */
    mbp_view p;   /* probabilities */
} factor;

static factor factor_of(const part *p, int i, double total) {
    double number = 0;
    const curvature kind = curvature_of(&p->t->objective[i], &number);
    const double temperature = kind == OF_SOFTMAX ? parameters_of(&p->t->objective[i], 0)[TEMPERATURE] : 1;
    return (factor){i, kind, number * scale_of(p->t, i, total) / (temperature * temperature),
                    kind == OF_SQUARES ? (mbp_view){NULL, 0} : probabilities(p, i, temperature)};
}

/* The target of an element, with label smoothing over `parts`. r: a position of a row of the batch. */
static double smoothed(const mbp_trainer *t, int i, int64_t r, int64_t j, double smoothing, double parts) {
    return (1 - smoothing) * get(t->net, t->workspace->target[i], r, j) + smoothing / parts;
}

/* The sum of the targets of a row of probabilities or a label. */
static double mass_of(const mbp_trainer *t, int i, int64_t r) {
    const double smoothing = parameters_of(&t->objective[i], 0)[SMOOTHING];
    double mass = 0;
    for (int64_t j = 0; t->workspace->target[i].at && j < t->objective[i].width; j++)
        mass += get(t->net, t->workspace->target[i], r, j);
    return t->workspace->target[i].at ? (1 - smoothing) * mass + smoothing : 1;
}

/* The second derivative of an element, before the scale and the weight: r of the part, `all` of the batch. */
static double second(const part *p, const factor *f, int64_t r, int64_t all, int64_t j) {
    const double *parameters = parameters_of(&p->t->objective[f->output], j);
    if (f->kind == OF_SQUARES)
        return 1;
    const double probability = get(p->t->net, f->p, r, j);
    if (f->kind == OF_SOFTMAX)
        return probability * mass_of(p->t, f->output, all);
    const double target = smoothed(p->t, f->output, all, j, parameters[SMOOTHING], 2);
    return (parameters[POSITIVE] * target + (1 - target)) * probability * (1 - probability);
}

/* Sets the deltas of all outputs to row j of F of one position of each row: sqrt(h) e_j, or of softmax
 * sqrt(p_j) (e_j - p). */
static void start_deltas(const part *p, const factor *f, int64_t position, int64_t j) {
    const mbp_trainer *t = p->t;
    const mbp_net *net = t->net;
    const int64_t positions = mbp_trainer_positions(t, f->output), width = t->objective[f->output].width;
    const int id = net->output[f->output].node;
    const mbp_view delta = t->workspace->delta[id];
    for (int i = 0; i < net->outputs; i++)
        if (t->plan.wanted[net->output[i].node] && (i != f->output || positions * width > 1))
            clear_deltas(p, i);
    for (int64_t r = 0; r < p->count; r++) {
        const int64_t at = r * positions + position, all = at + p->first * positions;
        const double weight = weight_of(t, f->output, p->first + r, position, j);
        const double root = weight != 0 ? sqrt(f->scale * weight * second(p, f, at, all, j)) : 0;
        for (int64_t k = 0; f->kind == OF_SOFTMAX && root != 0 && k < width; k++)
            put(net, delta, at, k, -root * get(net, f->p, at, k));
        put(net, delta, at, j, f->kind == OF_SOFTMAX ? root * (1 - get(net, f->p, at, j)) : root);
    }
}

/* ---- J ---- */

/* Writes the rows of J of a part in the net's dtype. */
static void write_jacobian(const part *p, double total, char *to) {
    mbp_trainer *t = p->t;
    const mbp_net *net = t->net;
    const int64_t n = net->params, row = t->squares->residuals * n;
    int ignored = 0;
    pass backward = {.net = net,
                     .w = t->workspace,
                     .rows = p->count,
                     .fixed = 1,
                     .plan = &t->plan,
                     .grads = to,
                     .apart = row,
                     .nonfinite = &ignored};
    if (!mbp_plan_is_whole(net, &t->plan))
        memset(to, 0, (size_t)(p->count * row) * net->item);
    for (int i = 0; i < net->outputs; i++) {
        const int64_t width = mbp_output_width(net, i), positions = mbp_trainer_positions(t, i);
        if (t->objective[i].weight == 0)
            continue;
        if (!t->plan.wanted[net->output[i].node]) { /* it depends on no parameter that is trained */
            for (int64_t r = 0; r < p->count; r++)
                memset(backward.grads + (size_t)(r * row) * net->item, 0, (size_t)(positions * width * n) * net->item);
            backward.grads += (size_t)(positions * width * n) * net->item;
            continue;
        }
        const factor f = factor_of(p, i, total);
        for (int64_t k = 0; k < positions * width; k++, backward.grads += (size_t)n * net->item) {
            start_deltas(p, &f, k / width, k % width);
            mbp_backward_pass(&backward);
        }
    }
}

/* Brings a part of the batch into the workspace, and computes its values again. */
static void load_part(const part *p, const mbp_batch_loss *o) {
    mbp_trainer *t = p->t;
    const mbp_selection all = o->chosen->rows, some = {all.index, all.first + p->first, p->count};
    mbp_lengths_load(t->net, t->workspace, o->batch->lengths, &some);
    mbp_train_load(t, o->batch->x, &some);
    mbp_forward_pass(&(pass){.net = t->net, .w = t->workspace, .rows = p->count, .fixed = 1}, t->net->nodes - 1);
}

static void widen(int64_t count, const char *from, double *to) {
    for (int64_t i = 0; i < count; i++)
        to[i] = (double)((const float *)from)[i];
}

/* ---- J^T J ---- */

typedef struct square {
    const mbp_squares *squares;
    const mbp_kernels *kernels;
    const double *jacobian;
    int64_t rows, n; /* of it */
    double *matrix;
    int add;
} square;

/* Panels of rows, from the last one, which is the longest. */
static void run_panels(void *context, int64_t first, int64_t last, int thread) {
    const square *s = context;
    for (; first < last; first++) {
        const int64_t from = ((s->n - 1) / PANEL - first) * PANEL, end = from + PANEL < s->n ? from + PANEL : s->n;
        const mbp_product product = {.pattern = MBP_TN,
                                     .m = end - from,
                                     .n = end,
                                     .k = s->rows,
                                     .a = {(void *)(uintptr_t)(s->jacobian + from), s->n},
                                     .b = {(void *)(uintptr_t)s->jacobian, s->n},
                                     .c = {s->matrix + from * s->n, s->n},
                                     .threads = 1,
                                     .add = s->add};
        s->kernels->product_run(&product, 0, INT64_MAX,
                                s->squares->scratch + (size_t)thread * s->squares->scratch_bytes);
    }
}

static void add_square(const mbp_trainer *t, int64_t rows, int add, double *matrix) {
    const int64_t n = t->net->params;
    square s = {t->squares, mbp_squares_kernels(t->net), t->squares->wide, rows, n, matrix, add};
    mbp_share(t->net->pool, t->squares->threads, (double)rows * (double)n * (double)n, (n + PANEL - 1) / PANEL, 1,
              run_panels, &s);
}

void mbp_squares_matrix(const mbp_batch_loss *o, int by_rows, double *matrix) {
    mbp_trainer *t = o->trainer;
    const mbp_net *net = t->net;
    const mbp_squares *s = t->squares;
    const int64_t count = o->chosen->rows.count, row = s->residuals * net->params;
    const int in_place = by_rows && net->dtype == MBP_F64;
    for (int64_t first = 0; first < count && row > 0; first += s->block) {
        const part p = {t, first, count - first < s->block ? count - first : s->block};
        char *jacobian = in_place ? (char *)(matrix + first * row) : s->jacobian;
        if (count > s->block)
            load_part(&p, o);
        write_jacobian(&p, o->total, jacobian);
        if (net->dtype != MBP_F64)
            widen(p.count * row, jacobian, by_rows ? matrix + first * row : s->wide);
        if (!by_rows)
            add_square(t, p.count * s->residuals, first > 0, matrix);
    }
    if (count > s->block)
        mbp_lengths_load(net, t->workspace, o->batch->lengths, &o->chosen->rows);
}

/* ---- penalties ---- */

static int64_t bias_of(const mbp_layer *layer) { return layer->bias >= 0 ? mbp_bias_width(layer) : 0; }

void mbp_squares_diagonal(const mbp_batch_loss *o, double *diagonal) {
    const mbp_trainer *t = o->trainer;
    for (int64_t i = 0; i < t->net->params; i++)
        diagonal[i] = -1;
    for (int id = 0; id < t->net->nodes; id++) {
        if (t->plan.grads[id] != MBP_STORE)
            continue;
        const mbp_layer *layer = &t->net->layer[t->net->node[id].layer];
        const double l2 = mbp_is_penalized(layer->kind) ? layer->setting[MBP_LAYER_L2] : 0;
        for (int64_t i = layer->weight; layer->weight >= 0 && i < layer->weight + layer->in * layer->out; i++)
            diagonal[i] = o->share * l2;
        for (int64_t i = layer->bias; i < layer->bias + bias_of(layer); i++)
            diagonal[i] = 0;
    }
}

/* ---- other points ---- */

/* Forward and loss of all rows. */
static double pass_forward(const mbp_batch_loss *o, int gradients) {
    mbp_trainer *t = o->trainer;
    const int64_t count = o->chosen->rows.count;
    mbp_trainer_forget(t);
    mbp_trainer_plan(t, 0);
    mbp_train_load(t, o->batch->x, &o->chosen->rows);
    mbp_train_forward(t, count, 0);
    return mbp_loss_pass(t, count, o->total, gradients);
}

mbp_status mbp_squares_value(const mbp_batch_loss *o, double *value, mbp_error *error) {
    mbp_trainer *t = o->trainer;
    *value = pass_forward(o, 0);
    if (!isfinite(*value))
        return mbp_loss_fail(t, o->chosen->rows, o->total, error);
    *value += o->share * mbp_penalties(t);
    return isfinite(*value) ? MBP_OK : mbp_fail(error, MBP_NONFINITE, "the penalties are not finite");
}

/* Copies the deltas of all outputs to memory without gaps, or back. */
static void copy_deltas(const mbp_trainer *t, int64_t rows, int back) {
    char *kept = t->squares->kept;
    for (int i = 0; i < t->net->outputs; i++) {
        const int id = t->net->output[i].node;
        const mbp_view delta = t->workspace->delta[id];
        const size_t bytes = (size_t)t->net->node[id].width * t->net->item;
        for (int64_t r = 0; r < rows * mbp_trainer_positions(t, i) && t->plan.wanted[id]; r++, kept += bytes) {
            char *at = (char *)delta.at + (size_t)(r * delta.ld) * t->net->item;
            memcpy(back ? at : kept, back ? kept : at, bytes);
        }
    }
}

mbp_status mbp_squares_keep(const mbp_batch_loss *o, mbp_error *error) {
    mbp_trainer *t = o->trainer;
    const double loss = pass_forward(o, 1);
    copy_deltas(t, o->chosen->rows.count, 0);
    return isfinite(loss) ? MBP_OK : mbp_loss_fail(t, o->chosen->rows, o->total, error);
}

mbp_status mbp_squares_cross(const mbp_batch_loss *o, double *product, mbp_error *error) {
    mbp_trainer *t = o->trainer;
    const int64_t count = o->chosen->rows.count;
    (void)pass_forward(o, 0);
    copy_deltas(t, count, 1);
    mbp_train_backward(t, count, 0, 0);
    if (t->nonfinite)
        return mbp_nonfinite_fail(t, error);
    for (int64_t i = 0; i < t->net->params; i++)
        product[i] = number_at(t->net, t->grads, i);
    return MBP_OK;
}

#endif
