#include "passes/inputs.h"

#include <string.h>

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

mbp_status mbp_inputs_check(const mbp_net *net, const mbp_array *x, int n_x, int64_t *rows, mbp_error *error) {
    mbp_status status = mbp_count_check("x", x, n_x, "input", net->inputs, error);
    *rows = n_x && x ? x[0].rows : 0;
    for (int i = 0; i < net->inputs && status == MBP_OK; i++)
        status = mbp_array_check(&x[i], "input", i, *rows, net->node[net->input_nodes[i]].width, error);
    return status;
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

void mbp_inputs_load(const mbp_net *net, mbp_workspace *w, const mbp_array *x, const mbp_selection *rows) {
    memcpy(w->value, w->home, (size_t)net->nodes * sizeof(mbp_view));
    for (int i = 0; i < net->inputs; i++) {
        const int id = net->input_nodes[i];
        if (net->node[id].uses && !mbp_array_in_place(&x[i], rows, net->dtype, &w->value[id]))
            mbp_gather(net, &x[i], *rows, w->home[id]);
    }
}

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
