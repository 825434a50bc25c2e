/* The statistics of standardize layers: the mean and the standard deviation of each column of the first node that uses
 * the layer, over rows of data, in double. Layers in their order, because one may depend on those before it. */
#include "train/fitting/standardize.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "passes/inputs.h"
#include "passes/plan/pass.h"
#include "system/floats.h"
#include "system/text.h"

enum { CHUNK = 256 }; /* rows per forward pass */

/* sums: the means of the columns, then the sums of squares, which become standard deviations. */
typedef struct sweep {
    mbp_net *net;
    mbp_workspace *w;
    const mbp_array *x;
    const int64_t *index; /* the numbers of the rows; NULL: all */
    int64_t rows;
    double *sums;
} sweep;

static double number(const mbp_net *net, const void *at, int64_t i) {
    return net->dtype == MBP_F64 ? ((const double *)at)[i] : (double)((const float *)at)[i];
}

static void *row_of(const mbp_net *net, mbp_view view, int64_t r) {
    return (char *)view.at + r * view.ld * (int64_t)net->item;
}

/* Whether training may set the statistics of this layer. */
static int is_open(const mbp_layer *layer) { return layer->kind == MBP_NODE_STANDARDIZE && !layer->frozen; }

/* Whether the statistics of this layer are open, and still mean 0 and std 1. */
static int is_unset(const mbp_net *net, int i) {
    const mbp_layer *layer = &net->layer[i];
    if (!is_open(layer))
        return 0;
    const char *mean = mbp_net_running(net) + (size_t)layer->running * net->item;
    for (int64_t j = 0; j < 2 * layer->out; j++)
        if (number(net, mean, j) != (j >= layer->out))
            return 0;
    return 1;
}

int mbp_has_unset(const mbp_net *net) {
    for (int i = 0; i < net->layers; i++)
        if (is_unset(net, i))
            return 1;
    return 0;
}

static int first_use(const mbp_net *net, int layer) {
    int id = 0;
    while (net->node[id].layer != layer || !net->node[id].uses)
        if (++id == net->nodes)
            return -1;
    return net->operands[net->node[id].first_operand];
}

/* The numbers of the next rows, and the values of a node for them. */
static mbp_view next_values(const sweep *s, int id, mbp_selection *rows) {
    rows->first += rows->count;
    const int64_t left = s->rows - rows->first, most = s->w->rows < CHUNK ? s->w->rows : CHUNK;
    rows->count = left < most ? left : most;
    if (rows->count == 0)
        return (mbp_view){0};
    mbp_inputs_load(s->net, s->w, s->x, rows);
    mbp_forward_pass(&(pass){.net = s->net, .w = s->w, .rows = rows->count}, id);
    return s->w->value[id];
}

static void add_row(const sweep *s, const void *row, int64_t n, int squares) {
    double *mean = s->sums, *sum = mean + n;
    for (int64_t j = 0; j < n; j++) {
        const double x = number(s->net, row, j);
        if (squares)
            sum[j] += (x - mean[j]) * (x - mean[j]);
        else
            mean[j] += x;
    }
}

/* Adds the values of a node over all rows, or the squares of their differences to the means. */
static void add(const sweep *s, int id, int squares) {
    const int64_t n = s->net->node[id].width, positions = mbp_positions(&s->net->node[id]);
    mbp_selection rows = {s->index, 0, 0};
    for (mbp_view v = next_values(s, id, &rows); rows.count; v = next_values(s, id, &rows))
        for (int64_t r = 0; r < rows.count * positions; r++)
            add_row(s, row_of(s->net, v, r), n, squares);
}

/* Fails with the first value that is not finite. */
static mbp_status fail_value(const sweep *s, int layer, int id, mbp_error *error) {
    const int64_t positions = mbp_positions(&s->net->node[id]);
    mbp_selection rows = {s->index, 0, 0};
    for (mbp_view v = next_values(s, id, &rows); rows.count; v = next_values(s, id, &rows))
        for (int64_t r = 0; r < rows.count * positions; r++)
            for (int64_t j = 0; j < s->net->node[id].width; j++)
                if (!isfinite(number(s->net, row_of(s->net, v, r), j))) {
                    const int64_t row = mbp_row_number(rows, r / positions);
                    if (error)
                        error->row = row;
                    return mbp_fail(error, MBP_INVALID,
                                    "row %lld, column %lld of node %d is not finite, so layer %s has no mean",
                                    (long long)row, (long long)j, id, s->net->layer[layer].name);
                }
    return mbp_fail(error, MBP_INVALID, "the sums of the values of node %d are not finite, so layer %s has no mean", id,
                    s->net->layer[layer].name);
}

double mbp_deviation(double squares, double mean, double rows, double unit) {
    const double variance = squares / rows, rounding = rows * DBL_EPSILON * mean;
    return variance <= rows * DBL_EPSILON * variance + rounding * rounding ? 1 : unit * sqrt(variance);
}

/* Sets the statistics of a layer; predictions of other threads see both or neither. */
static void set(const sweep *s, const mbp_layer *layer) {
    char *at = mbp_net_running(s->net) + (size_t)layer->running * s->net->item;
    mbp_gate_enter_alone(&s->net->shared->lock);
    s->net->shared->changes++;
    for (int64_t j = 0; j < 2 * layer->out; j++)
        if (s->net->dtype == MBP_F64)
            ((double *)at)[j] = s->sums[j];
        else
            ((float *)at)[j] = (float)s->sums[j];
    mbp_gate_leave_alone(&s->net->shared->lock);
}

static mbp_status set_layer(const sweep *s, int i, mbp_error *error) {
    const mbp_layer *layer = &s->net->layer[i];
    const int id = first_use(s->net, i);
    const int64_t n = layer->out;
    if (id < 0)
        return MBP_OK;
    const double count = (double)s->rows * mbp_positions(&s->net->node[id]);
    memset(s->sums, 0, (size_t)(2 * n) * sizeof *s->sums);
    add(s, id, 0);
    for (int64_t j = 0; j < n; j++)
        s->sums[j] /= count;
    add(s, id, 1);
    int finite = 1;
    for (int64_t j = 0; j < n; j++) {
        finite &= isfinite(s->sums[j]) && isfinite(s->sums[n + j]);
        s->sums[n + j] = mbp_deviation(s->sums[n + j], s->sums[j], count, 1);
    }
    if (!finite)
        return fail_value(s, i, id, error);
    set(s, layer);
    return MBP_OK;
}

int64_t mbp_standardize_numbers(const mbp_net *net) {
    int64_t most = 0;
    for (int i = 0; i < net->layers; i++)
        if (is_open(&net->layer[i]) && net->layer[i].out > most)
            most = net->layer[i].out;
    return 2 * most;
}

mbp_status mbp_standardize(mbp_net *net, mbp_workspace *w, const mbp_array *x, const int64_t *index, int64_t rows,
                           int only_unset, double *numbers, mbp_error *error) {
    const sweep s = {net, w, x, index, rows, numbers};
    mbp_status status = MBP_OK;
    for (int i = 0; i < net->layers && status == MBP_OK; i++)
        if (only_unset ? is_unset(net, i) : is_open(&net->layer[i]))
            status = set_layer(&s, i, error);
    return status;
}

/* ---- the public function ---- */

/* On an error, the statistics are what they were. memory: the numbers, then room for the buffers. */
static MBP_APART mbp_status standardize(mbp_net *net, mbp_workspace *w, const mbp_array *x, int64_t rows, int again,
                                        double *memory, mbp_error *error) {
    char *before = (char *)(memory + mbp_standardize_numbers(net));
    memcpy(before, mbp_net_running(net), (size_t)net->buffers * net->item);
    mbp_status status = mbp_standardize(net, w, x, NULL, rows, !again, memory, error);
    if (status != MBP_OK)
        mbp_net_assign(net, NULL, before, NULL);
    return status;
}

static mbp_status take_memory(mbp_net *net, const mbp_array *x, int64_t rows, int again, mbp_error *error) {
    const size_t bytes = (size_t)mbp_standardize_numbers(net) * sizeof(double) + (size_t)net->buffers * net->item;
    double *memory = mbp_allocate(mbp_net_allocator(net), bytes);
    mbp_workspace *w = mbp_workspace_take_idle(net);
    mbp_status status = MBP_OK;
    if (!memory)
        status = mbp_fail(error, MBP_NO_MEMORY, "no memory for the statistics of %lld columns",
                          (long long)net->buffers);
    if (status == MBP_OK)
        status = mbp_workspace_reserve(net, &net->memory, &w, rows < CHUNK ? rows : CHUNK, MBP_PREDICT, 1, x, error);
    if (status == MBP_OK) {
        const mbp_float_state floats = mbp_float_enter(MBP_FLUSH_SUBNORMALS);
        status = standardize(net, w, x, rows, again, memory, error);
        mbp_float_leave(floats);
    }
    if (w)
        mbp_workspace_give_idle(net, w);
    if (memory)
        mbp_release(mbp_net_allocator(net), memory, bytes);
    return status;
}

mbp_status mbp_net_standardize(mbp_net *net, const mbp_array *x, int n_x, int again, mbp_error *error) {
    int64_t rows;
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    mbp_status status = mbp_inputs_check(net, x, n_x, NULL, &rows, error);
    if (status == MBP_OK && !mbp_standardize_numbers(net))
        status = mbp_fail(error, MBP_INVALID, "the net has no standardize layer that is not frozen");
    if (status == MBP_OK && rows == 0)
        status = mbp_fail(error, MBP_INVALID, "x has 0 rows, but statistics need at least 1");
    if (status == MBP_OK)
        status = mbp_net_take(net, error);
    if (status != MBP_OK)
        return status;
    (void)mbp_net_settle(net, error); /* this thread holds the net */
    status = take_memory(net, x, rows, again, error);
    mbp_net_give(net);
    return status;
}
