#include "passes/inputs.h"

#include <string.h>

#include "passes/positions/lengths.h"
#include "passes/sparse.h"
#include "system/text.h"

mbp_status mbp_count_check(const char *argument, const void *arrays, int given, const char *noun, int expected,
                           mbp_error *error) {
    if (given != expected)
        return mbp_fail(error, MBP_INVALID, "%s has %d array%s, but the net has %d %s%s", argument, given,
                        mbp_plural(given), expected, noun, mbp_plural(expected));
    if (!arrays)
        return mbp_fail(error, MBP_INVALID, "%s is NULL, but must point to %d array%s, one per %s", argument, expected,
                        mbp_plural(expected), noun);
    return MBP_OK;
}

static mbp_status check_sparse(const mbp_net *net, const mbp_array *x, int i, int64_t rows, int64_t width,
                               mbp_error *error) {
    if (!MICROBP_SPARSE)
        return mbp_fail_extra(error, "sparse rows", "sparse");
    const mbp_status status = mbp_sparse_check(&x[i], "input", i, rows, width, error);
    return status == MBP_OK ? mbp_sparse_readers_check(net, i, error) : status;
}

#if MICROBP_SPARSE
typedef struct beyond_lengths {
    const mbp_net *net;
    const mbp_array *lengths;
    int input;
} beyond_lengths;

static int is_beyond(const void *context, int64_t row, int64_t column) {
    const beyond_lengths *of = context;
    return MICROBP_POSITIONS && mbp_is_beyond(of->net, of->lengths, of->input, row, column);
}
#endif

static __attribute__((noinline)) mbp_status check_ids(const mbp_net *net, const mbp_node *node, const mbp_array *x,
                                                      const mbp_array *lengths, int64_t rows, mbp_error *error) {
#if MICROBP_SPARSE
    const beyond_lengths of = {net, lengths, node->input};
    return mbp_ids_check(x, node->input, rows, node->width, mbp_ids_levels(node), mbp_is_hashed(node),
                         lengths ? is_beyond : NULL, &of, error);
#else
    (void)net, (void)node, (void)x, (void)lengths, (void)rows, (void)error;
    return MBP_OK;
#endif
}

mbp_status mbp_inputs_check(const mbp_net *net, const mbp_array *x, int n_x, const mbp_array *lengths, int64_t *rows,
                            mbp_error *error) {
    mbp_status status = mbp_count_check("x", x, n_x, "input", net->inputs, error);
    *rows = n_x && x ? x[0].rows : 0;
#if MICROBP_POSITIONS
    if (status == MBP_OK && lengths)
        status = mbp_lengths_check(net, lengths, *rows, error);
#endif
    for (int i = 0; i < net->inputs && status == MBP_OK; i++) {
        const int64_t width = net->node[net->input_nodes[i]].width;
        const mbp_node *node = &net->node[net->input_nodes[i]];
        if (mbp_is_ids(node))
            status = check_ids(net, node, &x[i], lengths, *rows, error);
        else
            status = x[i].indptr || x[i].indices ? check_sparse(net, x, i, *rows, width, error)
                                                 : mbp_array_check(&x[i], "input", i, *rows, width, error);
    }
    return status;
}

mbp_status mbp_inputs_dense_check(const mbp_net *net, const mbp_array *x, const char *why, mbp_error *error) {
    for (int i = 0; i < net->inputs; i++) {
        if (mbp_is_ids(&net->node[net->input_nodes[i]]))
            return mbp_fail(error, MBP_INVALID, "input %d has ids, but %s numbers, which have derivatives", i, why);
        if (mbp_is_sparse(&x[i]))
            return mbp_fail(error, MBP_INVALID, "input %d is sparse, but %s dense rows: pass a dense array", i, why);
    }
    return MBP_OK;
}

typedef struct gather_job {
    const mbp_array *array;
    mbp_selection rows;
    mbp_dtype dtype;
    mbp_view to;
    size_t item;
} gather_job;

static void gather_rows(void *context, int64_t first, int64_t last, int thread) {
    const gather_job *job = context;
    const mbp_selection rows = {job->rows.index, job->rows.first + first, last - first};
    const mbp_view to = {(char *)job->to.at + (size_t)(first * job->to.ld) * job->item, job->to.ld};
    (void)thread;
    mbp_array_gather(job->array, rows, job->dtype, to);
}

void mbp_gather(const mbp_net *net, const mbp_array *array, mbp_selection rows, mbp_view to) {
    gather_job job = {array, rows, net->dtype, to, net->item};
    const double work = (double)MBP_ELEMENT_WORK * (double)rows.count * (double)array->cols;
    mbp_net_share(net, work, rows.count, mbp_piece_rows(array->cols), gather_rows, &job);
}

static void load_dense(const mbp_net *net, mbp_workspace *w, const mbp_array *x, const mbp_selection *rows, int id) {
    if (net->node[id].uses && !mbp_array_in_place(x, rows, net->dtype, &w->value[id]))
        mbp_gather(net, x, *rows, w->home[id]);
}

#if MICROBP_SPARSE
static __attribute__((noinline)) void load_sparse(const mbp_net *net, mbp_workspace *w, const mbp_array *x,
                                                  const mbp_selection *rows) {
    for (int i = 0; i < net->inputs; i++) {
        const mbp_node *node = &net->node[net->input_nodes[i]];
        w->input[i].is_sparse = mbp_is_ids(node) || mbp_is_sparse(&x[i]);
        w->sparse += w->input[i].is_sparse;
        if (mbp_is_ids(node)) {
            mbp_ids_load(&x[i], rows, net->dtype, mbp_ids_levels(node), mbp_is_hashed(node), &w->input[i].rows);
            for (int64_t k = 0; k <= rows->count * node->width; k++)
                w->input[i].each[k] = k;
        } else if (w->input[i].is_sparse)
            mbp_sparse_load(&x[i], rows, net->dtype, w->input[i].room, &w->input[i].rows);
        else
            load_dense(net, w, &x[i], rows, net->input_nodes[i]);
    }
}
#endif

void mbp_inputs_load(const mbp_net *net, mbp_workspace *w, const mbp_array *x, const mbp_selection *rows) {
    memcpy(w->value, w->home, (size_t)net->nodes * sizeof(mbp_view));
    w->sparse = 0;
#if MICROBP_SPARSE
    if (w->roomy) {
        load_sparse(net, w, x, rows);
        return;
    }
#endif
    for (int i = 0; i < net->inputs; i++)
        load_dense(net, w, &x[i], rows, net->input_nodes[i]);
}

#if MICROBP_POSITIONS
void mbp_inputs_cut(const mbp_net *net, mbp_workspace *w, const mbp_array *x, const mbp_selection *rows) {
    for (int i = 0; i < net->inputs; i++) {
        const int id = net->input_nodes[i];
        if (net->node[id].uses && w->value[id].at != w->home[id].at) {
            w->value[id] = w->home[id];
            mbp_gather(net, &x[i], *rows, w->home[id]);
        }
        mbp_lengths_cut(net, w, i, rows->count);
    }
}
#endif

/* From the last row to the first, because a row never moves towards the first. */
static void spread_rows(mbp_view view, size_t item, int64_t width, mbp_selection selected, int64_t rows) {
    const size_t apart = (size_t)view.ld * item, bytes = (size_t)width * item;
    int64_t left = selected.count;
    for (int64_t r = rows - 1; r >= left; r--) {
        char *to = (char *)view.at + (size_t)r * apart;
        if (left > 0 && mbp_row_number(selected, left - 1) == r)
            memcpy(to, (char *)view.at + (size_t)--left * apart, bytes);
        else
            memset(to, 0, bytes);
    }
}

void mbp_input_grads_spread(const mbp_net *net, const mbp_workspace *w, mbp_selection selected, int64_t rows) {
    for (int i = 0; i < net->inputs; i++) {
        const int id = net->input_nodes[i];
        if (net->node[id].uses)
            spread_rows(w->delta[id], net->item, net->node[id].width, selected, rows);
    }
}
