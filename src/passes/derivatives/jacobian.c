/* Jacobians: a forward pass for a slice of rows, then a backward pass for each column of the outputs. It starts from a
 * 1 in this column of every row and writes the gradients of each row to the caller's array. */
#include <string.h>

#include "passes/apart.h"
#include "passes/inputs.h"
#include "passes/plan/pass.h"
#include "system/floats.h"
#include "system/text.h"

enum {
    SLICE_ROWS = 32, /* at most */
    SLICES_EACH = 4, /* slices per thread, so that other threads can take slices from a slow one */
};

typedef struct jacobian {
    mbp_net *net;
    mbp_workspace **w; /* one per thread */
    const mbp_array *x, *out;
    mbp_by by;
    int first, last; /* the wanted outputs are first to last - 1 */
    int64_t rows, slice_rows;
    int threads;
    mbp_plan plan;
    char *block;   /* of the plan's arrays */
    int is_sparse; /* 1: no gradient is written for some of the parameters or inputs */
} jacobian;

/* How many numbers an output has in a row. */
static int64_t width_of(const jacobian *j, int output) { return mbp_output_row(j->net, output); }

/* How many arrays each output has, and how many columns the i-th one has for each column of the output. */
static int arrays_each(const jacobian *j) { return j->by == MBP_BY_INPUTS ? j->net->inputs : 1; }
static int64_t length_of(const jacobian *j, int i) {
    return j->by == MBP_BY_INPUTS ? j->net->node[j->net->input_nodes[i]].width : j->net->params;
}

/* ---- the plan of the backward passes ---- */

/* The net must be entered: frozen layers have no gradients. */
static void plan_backward(jacobian *j) {
    mbp_plan_place(j->net, &j->plan, j->block);
    mbp_plan_make(j->net, &j->plan, j->by == MBP_BY_INPUTS, 0, 0);
    j->is_sparse = j->by == MBP_BY_INPUTS || !mbp_plan_is_whole(j->net, &j->plan);
    for (int id = 0; id < j->net->nodes && j->by == MBP_BY_INPUTS; id++)
        j->plan.grads[id] = MBP_SKIP;
}

/* ---- a slice ---- */

static void zero_rows(const jacobian *j, int64_t rows, mbp_view view, int64_t width) {
    for (int64_t r = 0; r < rows; r++)
        memset((char *)view.at + r * view.ld * (int64_t)j->net->item, 0, (size_t)width * j->net->item);
}

/* The rows of an array, and of these the columns from number `column` on. */
static mbp_view columns_of(const jacobian *j, const mbp_array *array, int64_t row, int64_t column) {
    const mbp_view rows = mbp_array_rows(array, row, j->net->dtype);
    return (mbp_view){(char *)rows.at + column * (int64_t)j->net->item, rows.ld};
}

/* The deltas of all outputs: 0, except for 1 in one column of one output. */
static void start_deltas(const jacobian *j, const pass *p, int output, int64_t column) {
    for (int i = 0; i < j->net->outputs; i++) {
        const mbp_node *node = &j->net->node[j->net->output[i].node];
        zero_rows(j, p->rows * mbp_positions(node), p->w->delta[j->net->output[i].node], node->width);
    }
    const mbp_node *node = &j->net->node[j->net->output[output].node];
    const mbp_view delta = p->w->delta[j->net->output[output].node];
    for (int64_t r = column / node->width; r < p->rows * mbp_positions(node); r += mbp_positions(node)) {
        if (j->net->dtype == MBP_F64)
            ((double *)delta.at)[r * delta.ld + column % node->width] = 1;
        else
            ((float *)delta.at)[r * delta.ld + column % node->width] = 1;
    }
}

/* Makes the backward pass write the gradients of one column of an output to the caller's arrays. */
static void aim(const jacobian *j, pass *p, int output, int64_t column, int64_t row) {
    const mbp_array *out = j->out + (output - j->first) * arrays_each(j);
    for (int i = 0; i < arrays_each(j); i++) {
        const int64_t length = length_of(j, i);
        const mbp_view to = columns_of(j, &out[i], row, column * length);
        if (j->by == MBP_BY_INPUTS)
            p->w->delta[j->net->input_nodes[i]] = to;
        else
            p->grads = to.at, p->apart = to.ld;
        if (j->is_sparse)
            zero_rows(j, p->rows, to, length);
    }
    if (j->by == MBP_BY_INPUTS)
        mbp_slices_place(j->net, p->w);
}

static void run_slice(const jacobian *j, mbp_workspace *w, const mbp_selection *rows) {
    int ignored = 0;
    pass p = {.net = j->net, .w = w, .rows = rows->count, .fixed = 1, .plan = &j->plan, .nonfinite = &ignored};
    mbp_inputs_load(j->net, w, j->x, rows);
    mbp_forward_pass(&p, j->net->nodes - 1);
    for (int output = j->first; output < j->last; output++)
        for (int64_t column = 0; column < width_of(j, output); column++) {
            aim(j, &p, output, column, rows->first);
            start_deltas(j, &p, output, column);
            mbp_backward_pass(&p);
        }
}

static void run_slices(void *context, int64_t row, int64_t end, int thread) {
    const jacobian *j = context;
    for (; row < end; row += j->slice_rows) {
        const int64_t left = end - row;
        run_slice(j, j->w[thread], &(mbp_selection){NULL, row, left < j->slice_rows ? left : j->slice_rows});
    }
}

/* ---- all rows ---- */

/* Numbers written, and operations of the passes. */
static double work_of(const jacobian *j) {
    double columns = 0, numbers = 0;
    for (int i = j->first; i < j->last; i++)
        columns += (double)width_of(j, i);
    for (int i = 0; i < arrays_each(j); i++)
        numbers += (double)length_of(j, i);
    return (double)j->rows * (j->net->flops + columns * (2 * j->net->flops + numbers));
}

/* Takes a workspace for each thread; fewer threads work if memory is short. They are not those of predictions, which
 * would be slower if their workspaces kept the values before activations. */
static mbp_status take_workspaces(jacobian *j, mbp_error *error) {
    for (int i = 0; i < j->threads; i++) {
        const int packs = i ? 1 : mbp_product_threads(j->net, j->slice_rows);
        j->w[i] = NULL;
        const mbp_status status = mbp_workspace_reserve(j->net, &j->net->memory, &j->w[i], j->slice_rows,
                                                        MBP_DELTAS | MBP_INPUT_DELTAS, packs, NULL, i ? NULL : error);
        if (status != MBP_OK) {
            j->threads = i;
            return i ? MBP_OK : status;
        }
    }
    return MBP_OK;
}

static mbp_status run(jacobian *j, mbp_error *error) {
    const double work = work_of(j);
    const int64_t share = j->rows / (SLICES_EACH * mbp_net_worthwhile(j->net, work));
    j->threads = mbp_net_worthwhile(j->net, work);
    j->slice_rows = j->threads == 1 || share > SLICE_ROWS ? SLICE_ROWS : share > 1 ? share : 1;
    j->slice_rows = j->slice_rows < j->rows ? j->slice_rows : j->rows;
    const mbp_status status = take_workspaces(j, error);
    if (status == MBP_OK) {
        mbp_net_enter(j->net);
        plan_backward(j);
        mbp_share(j->net->pool, j->threads, work, j->rows, j->slice_rows, run_slices, j);
        mbp_net_leave(j->net);
    }
    for (int i = 0; i < j->threads; i++)
        mbp_workspace_free(&j->net->memory, j->w[i]);
    return status;
}

static mbp_status check_array(const jacobian *j, int i, mbp_error *error) {
    const int each = arrays_each(j);
    int64_t cols;
    if (__builtin_mul_overflow(width_of(j, j->first + i / each), length_of(j, i % each), &cols))
        return mbp_fail(error, MBP_NO_MEMORY, "the Jacobian of one row does not fit in memory");
    mbp_status status = mbp_array_check_written(&j->out[i], "output", i, j->rows, cols, error);
    return status == MBP_OK ? mbp_array_check_layout(&j->out[i], j->net->dtype, "output", i, error) : status;
}

/* n_out: the length of j->out. */
static mbp_status check(jacobian *j, int output, int n_out, mbp_error *error) {
    if (j->by != MBP_BY_PARAMS && j->by != MBP_BY_INPUTS)
        return mbp_fail(error, MBP_INVALID, "by is %d, but must be MBP_BY_PARAMS or MBP_BY_INPUTS", (int)j->by);
    if (output < -1 || output >= j->net->outputs)
        return mbp_fail_index(error, "output", output, j->net->outputs);
    j->first = output < 0 ? 0 : output;
    j->last = output < 0 ? j->net->outputs : output + 1;
    const int expected = (j->last - j->first) * arrays_each(j);
    if (!j->out || n_out != expected)
        return mbp_fail(error, MBP_INVALID, "out must be %d array%s: one per output%s", expected, mbp_plural(expected),
                        j->by == MBP_BY_INPUTS ? " and input" : "");
    mbp_status status = MBP_OK;
    for (int i = 0; i < n_out && status == MBP_OK; i++)
        status = check_array(j, i, error);
    return status == MBP_OK ? mbp_outputs_apart(j->net, j->x, j->out, n_out, error) : status;
}

mbp_status mbp_net_jacobian(mbp_net *net, const mbp_array *x, int n_x, mbp_by by, int output, const mbp_array *out,
                            int n_out, mbp_error *error) {
    mbp_workspace *workspaces[MBP_THREADS_MAX];
    jacobian j = {.net = net, .w = workspaces, .x = x, .out = out, .by = by};
    if (!MICROBP_JACOBIAN)
        return mbp_fail_extra(error, "Jacobians", "jacobian");
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    mbp_status status = mbp_inputs_check(net, x, n_x, NULL, &j.rows, error);
    if (status == MBP_OK)
        status = mbp_inputs_dense_check(net, x, "a Jacobian needs", error);
    if (status == MBP_OK)
        status = check(&j, output, n_out, error);
    if (status != MBP_OK || j.rows == 0 || (by == MBP_BY_PARAMS && net->params == 0))
        return status;
    status = mbp_net_settle(net, error);
    if (status != MBP_OK)
        return status;
    const size_t bytes = mbp_plan_bytes(net);
    j.block = mbp_memory_take(&net->memory, bytes);
    if (!j.block)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for the Jacobian");
    const mbp_float_state before = mbp_float_enter(MBP_FLUSH_SUBNORMALS);
    status = run(&j, error);
    mbp_float_leave(before);
    mbp_memory_give(&net->memory, j.block, bytes);
    return status;
}
