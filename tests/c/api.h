/* For tests of the public functions: arrays, and a net with a batch for it. */
#ifndef API_H
#define API_H

#include "check.h"
#include "counter.h"
#include "microbp.h"

/* ---- arrays ---- */

static inline size_t item_of(mbp_dtype dtype) { return dtype == MBP_F64 || dtype == MBP_I64 ? 8 : 4; }

static inline mbp_array array_at(const void *data, mbp_dtype dtype, int64_t rows, int64_t cols) {
    return mbp_contiguous(data, dtype, (int64_t)item_of(dtype), rows, cols);
}

/* An array with `row_stride` bytes from row to row. */
static inline mbp_array array_apart(const void *data, mbp_dtype dtype, int64_t rows, int64_t cols, int64_t row_stride) {
    mbp_array array = array_at(data, dtype, rows, cols);
    array.row_stride = row_stride;
    return array;
}

static inline mbp_array array_new(mbp_dtype dtype, int64_t rows, int64_t cols) {
    return array_at(calloc((size_t)(rows * cols) + 1, item_of(dtype)), dtype, rows, cols);
}

static inline void array_free(const mbp_array *a) { free((void *)a->data); }

static inline void *array_element(const mbp_array *a, int64_t i, int64_t j) {
    return (char *)a->data + i * a->row_stride + j * a->col_stride;
}

static inline double array_get(const mbp_array *a, int64_t i, int64_t j) {
    const void *at = array_element(a, i, j);
    return a->dtype == MBP_F64 ? *(const double *)at : (double)*(const float *)at;
}

static inline void array_set(const mbp_array *a, int64_t i, int64_t j, double value) {
    if (a->dtype == MBP_F64)
        *(double *)array_element(a, i, j) = value;
    else if (a->dtype == MBP_I64)
        *(int64_t *)array_element(a, i, j) = (int64_t)value;
    else
        *(float *)array_element(a, i, j) = (float)value;
}

static inline void array_fill(const mbp_array *a, double low, double high) {
    for (int64_t i = 0; i < a->rows; i++)
        for (int64_t j = 0; j < a->cols; j++)
            array_set(a, i, j, low + (high - low) * random_unit());
}

/* Some of an array's rows, in place. */
static inline mbp_array array_rows(const mbp_array *a, int64_t first, int64_t count) {
    mbp_array part = *a;
    part.data = (const char *)a->data + first * a->row_stride;
    part.rows = count;
    return part;
}

/* ---- structures with their size ---- */

#define OPTIONS(...) (&(mbp_options){.size = sizeof(mbp_options), __VA_ARGS__})
#define HOW(...) (&(mbp_backward){.size = sizeof(mbp_backward), __VA_ARGS__})

/* ---- a network with all kinds of nodes, a layer used twice, two inputs, two outputs ---- */

static const char dag[] = "input 5\n"
                          "input 3\n"
                          "dense 0 layer=a units=7 activation=tanh\n"
                          "dense 2 layer=b units=7 activation=gelu\n"
                          "dense 3 layer=b\n"
                          "add 2 4\n"
                          "concat 5 1\n"
                          "dense 6 layer=c units=3 activation=softplus\n"
                          "multiply 7 1\n"
                          "activation 8 sigmoid\n"
                          "dense 9 layer=out units=2\n"
                          "dense 7 layer=side units=1 bias=0\n"
                          "output 10\n"
                          "output 11\n";
enum { DAG_NODES = 12 };
static const char *const dag_losses[] = {"mse", "huber(delta=0.5)"};
static const double dag_loss_weights[] = {1, 0.5};

/* A batch for `dag`. The field `batch` points into the same structure, so the structure must not be copied. */
typedef struct problem {
    mbp_array x[2], y[2], weight, out[2];
    mbp_batch batch;
} problem;

static inline void problem_point(problem *p) {
    p->batch = (mbp_batch){.size = sizeof p->batch, .x = p->x, .n_x = 2, .y = p->y, .n_y = 2, .weight = &p->weight};
}

static inline problem *problem_new(mbp_dtype dtype, int64_t rows) {
    static const int64_t cols[] = {5, 3, 2, 1};
    problem *p = malloc(sizeof *p);
    for (int i = 0; i < 2; i++) {
        p->x[i] = array_new(dtype, rows, cols[i]);
        p->y[i] = array_new(dtype, rows, cols[2 + i]);
        p->out[i] = array_new(dtype, rows, cols[2 + i]);
        array_fill(&p->x[i], -1, 1);
        for (int64_t r = 0; r < rows; r++) /* targets: simple functions of the inputs */
            for (int64_t j = 0; j < cols[2 + i]; j++)
                array_set(&p->y[i], r, j, array_get(&p->x[0], r, j) * (i ? -1 : 1) + array_get(&p->x[0], r, 2 + j) / 2);
    }
    p->weight = array_new(MBP_F64, rows, 1);
    array_fill(&p->weight, 0.5, 1.5);
    problem_point(p);
    return p;
}

static inline void problem_free(problem *p) {
    for (int i = 0; i < 2; i++)
        array_free(&p->x[i]), array_free(&p->y[i]), array_free(&p->out[i]);
    array_free(&p->weight);
    free(p);
}

/* Some rows of a problem, in place. */
static inline void problem_rows(const problem *p, int64_t first, int64_t count, problem *part) {
    for (int i = 0; i < 2; i++) {
        part->x[i] = array_rows(&p->x[i], first, count);
        part->y[i] = array_rows(&p->y[i], first, count);
        part->out[i] = array_rows(&p->out[i], first, count);
    }
    part->weight = array_rows(&p->weight, first, count);
    problem_point(part);
}

/* ---- nets and trainers; a failure ends the program ---- */

static inline mbp_net *net_new(const char *graph, const mbp_options *options) {
    mbp_net *net = NULL;
    mbp_error error = {0};
    CHECK(mbp_net_create(&net, graph, options, &error) == MBP_OK, "%.60s: %s", graph, error.text);
    if (!net)
        exit(report("a net"));
    return net;
}

static inline mbp_trainer *trainer_new(mbp_net *net, const char *const *losses, const double *loss_weights,
                                       const char *optimizer) {
    mbp_trainer *trainer = NULL;
    mbp_error error = {0};
    const mbp_status status = mbp_trainer_create(&trainer, net, losses, loss_weights, mbp_net_outputs(net), optimizer,
                                                 &error);
    CHECK(status == MBP_OK, "%s: %s", optimizer, error.text);
    if (!trainer)
        exit(report("a trainer"));
    return trainer;
}

static inline mbp_trainer *dag_trainer(mbp_net *net, const char *optimizer) {
    return trainer_new(net, dag_losses, dag_loss_weights, optimizer);
}

/* The size of the flat parameter vector in bytes. */
static inline size_t vector_bytes(mbp_net *net) {
    int64_t count;
    mbp_net_params(net, &count);
    return (size_t)count * item_of(mbp_net_dtype(net));
}

static inline int same_params(mbp_net *a, mbp_net *b) {
    return memcmp(mbp_net_params(a, NULL), mbp_net_params(b, NULL), vector_bytes(a)) == 0;
}

static inline int same_state(mbp_net *net, mbp_trainer *a, mbp_trainer *b) {
    for (int i = 0; mbp_trainer_slot(a, i); i++)
        if (memcmp(mbp_trainer_slot(a, i), mbp_trainer_slot(b, i), vector_bytes(net)) != 0)
            return 0;
    return mbp_trainer_steps(a) == mbp_trainer_steps(b);
}

static inline int same_grads(mbp_net *net, mbp_trainer *a, mbp_trainer *b) {
    return memcmp(mbp_trainer_grads(a), mbp_trainer_grads(b), vector_bytes(net)) == 0;
}

static inline double vector_at(mbp_net *net, const void *vector, int64_t i) {
    return mbp_net_dtype(net) == MBP_F64 ? ((const double *)vector)[i] : (double)((const float *)vector)[i];
}

#define OK(call) \
    do { \
        mbp_error error = {0}; \
        const mbp_status ok_status = call; \
        CHECK(ok_status == MBP_OK, "%s: status %d, %s", #call, (int)ok_status, error.text); \
    } while (0)

/* ---- several processes: this one, and one that does the same ---- */

static inline int twin_gather(const void *mine, void *all, int64_t bytes, void *user) {
    (void)user;
    for (int64_t k = 0; k < 2; k++)
        memmove((char *)all + k * bytes, mine, (size_t)bytes);
    return 0;
}

static const mbp_reduce twins = {.size = sizeof(mbp_reduce), .ranks = 2, .gather = twin_gather};

#endif
