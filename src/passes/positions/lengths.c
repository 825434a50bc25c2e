/* Sequences of different length: how many positions of each row of a node are there. They start at the grid of a
 * sequence; windows and pools make fewer of them, as of a sequence of that length; nodes that work on each position
 * keep them, and if operands differ, a position is there that is there in all of them. What is not there is 0 in every
 * value, so that windows read 0, and 0 in every delta. */
#include "passes/positions/lengths.h"

#include <string.h>

#include "net/statements.h"
#include "system/text.h"

#if MICROBP_POSITIONS

static const mbp_node *operand_of(const mbp_net *net, const mbp_node *node, int i) {
    return &net->node[net->operands[node->first_operand + i]];
}

/* The input whose columns, or ids side by side, a node shows as several positions; -1: it does not. */
static int input_of(const mbp_net *net, const mbp_node *node) {
    if (node->kind != MBP_NODE_GRID || node->positions == 1)
        return -1;
    const mbp_node *from = operand_of(net, node, 0);
    if (mbp_is_embedding(from->kind) && mbp_is_ids(operand_of(net, from, 0)) && !net->layer[from->layer].sums)
        from = operand_of(net, from, 0);
    return from->input;
}

/* The first node that shows an input as several positions; NULL: none. */
static const mbp_node *sequence_of(const mbp_net *net, int input) {
    for (int id = 0; id < net->nodes; id++)
        if (net->node[id].uses && input_of(net, &net->node[id]) == input)
            return &net->node[id];
    return NULL;
}

/* Whether a pool has all positions under it: it then pools those that are there, however many. */
static int pools_all(const mbp_net *net, const mbp_node *node) {
    return mbp_is_pool(node) && mbp_window_of(node, MBP_SIZE + 1) == operand_of(net, node, 0)->positions;
}

/* The number of windows over a sequence of this length. */
static int32_t windows_over(const mbp_node *node, int32_t length) {
    const int64_t pad = mbp_is_pool(node) ? 0 : mbp_window_of(node, MBP_PAD + 1);
    const int64_t dilation = mbp_is_pool(node) ? 1 : mbp_window_of(node, MBP_DILATION + 1);
    const int64_t room = length + 2 * pad - dilation * (mbp_window_of(node, MBP_SIZE + 1) - 1) - 1;
    return length == 0 || room < 0 ? 0 : (int32_t)(room / mbp_window_of(node, MBP_STRIDE + 1)) + 1;
}

/* ---- the caller's arrays ---- */

static int64_t length_at(const mbp_array *lengths, int64_t row) {
    int64_t length;
    mbp_array_gather(lengths, (mbp_selection){NULL, row, 1}, MBP_I64, (mbp_view){&length, 1});
    return length;
}

static mbp_status check_values(const mbp_array *lengths, int input, int64_t rows, int64_t positions, mbp_error *error) {
    for (int64_t r = 0; r < rows; r++) {
        const int64_t length = length_at(lengths, r);
        if (length >= 0 && length <= positions)
            continue;
        if (error)
            error->row = r;
        return mbp_fail(error, MBP_INVALID, "lengths %d, row %lld: the length is %lld, but must be from 0 to %lld",
                        input, (long long)r, (long long)length, (long long)positions);
    }
    return MBP_OK;
}

static mbp_status check_input(const mbp_net *net, const mbp_array *lengths, int i, int64_t rows, mbp_error *error) {
    const mbp_node *sequence = sequence_of(net, i);
    if (!sequence)
        return mbp_fail(error, MBP_INVALID, "lengths %d: input %d is not a sequence, so its rows have no length", i, i);
    for (int id = 0; id < net->nodes; id++) {
        const mbp_node *node = &net->node[id];
        if (!node->uses || input_of(net, node) != i || (node->height == 1 && node->positions == sequence->positions))
            continue;
        return mbp_fail(
            error, MBP_INVALID,
            "lengths %d: node %d (grid) makes %d x %d positions of input %d, but only a sequence has a length", i, id,
            node->height, node->positions / node->height, i);
    }
    mbp_status status = mbp_array_check(&lengths[i], "lengths", i, rows, 1, error);
    if (status == MBP_OK && lengths[i].dtype < MBP_I8)
        status = mbp_fail(error, MBP_INVALID, "lengths %d must be of an integer dtype: convert them", i);
    return status == MBP_OK ? check_values(&lengths[i], i, rows, sequence->positions, error) : status;
}

mbp_status mbp_lengths_check(const mbp_net *net, const mbp_array *lengths, int64_t rows, mbp_error *error) {
    mbp_status status = MBP_OK;
    for (int i = 0; i < net->inputs && status == MBP_OK; i++)
        if (lengths[i].data)
            status = check_input(net, lengths, i, rows, error);
    for (int id = 0; id < net->nodes && status == MBP_OK; id++) {
        const mbp_node *node = &net->node[id];
        if (node->uses && node->kind == MBP_NODE_GRID && node->positions > 1 && operand_of(net, node, 0)->positions > 1)
            status = mbp_fail(error, MBP_INVALID,
                              "node %d (grid) makes other positions of several, so rows cannot have lengths", id);
        if (node->uses && node->kind == MBP_NODE_WINDOW && node->height > 1 && operand_of(net, node, 0)->height == 1)
            status = mbp_fail(error, MBP_INVALID,
                              "node %d (window) makes a grid of a sequence, so rows cannot have lengths", id);
    }
    return status;
}

int mbp_is_beyond(const mbp_net *net, const mbp_array *lengths, int input, int64_t row, int64_t column) {
    if (!lengths || !lengths[input].data)
        return 0;
    const mbp_node *node = &net->node[net->input_nodes[input]];
    return column >= length_at(&lengths[input], row) * (node->width / sequence_of(net, input)->positions);
}

/* ---- how many positions are there ---- */

/* Another thread may have changed the lengths since they were checked. */
static int32_t *load(const mbp_array *lengths, const mbp_selection *rows, int64_t positions, int32_t *to) {
    for (int64_t r = 0; r < rows->count; r++) {
        const int64_t length = length_at(lengths, mbp_row_number(*rows, r));
        to[r] = (int32_t)(length < 0 ? 0 : length > positions ? positions : length);
    }
    return to;
}

/* Of a node that works on each position. own: room of the node. */
static int32_t *joined(const mbp_net *net, int32_t *const *valid, const mbp_node *node, int64_t rows, int32_t *own) {
    int32_t *found = NULL;
    for (int i = 0; i < node->operands; i++) {
        const mbp_node *from = operand_of(net, node, i);
        const int32_t *next = from->positions == node->positions ? valid[from - net->node] : NULL;
        if (!next || next == found)
            continue;
        for (int64_t r = 0; r < rows; r++)
            own[r] = found && found[r] < next[r] ? found[r] : next[r];
        found = own;
    }
    return found;
}

void mbp_lengths_set(const mbp_net *net, mbp_workspace *w, const mbp_array *lengths, const mbp_selection *rows) {
    w->valid = w->valid_home + net->nodes;
    for (int id = 0; id < net->nodes; id++) {
        const mbp_node *node = &net->node[id];
        const int input = input_of(net, node), is_grid = node->kind == MBP_NODE_GRID;
        int32_t *own = w->valid_home[id];
        w->valid[id] = NULL;
        if (!node->uses || node->kind == MBP_NODE_LAST || node->kind == MBP_NODE_REPEAT || pools_all(net, node))
            continue;
        const int32_t *x = node->kind == MBP_NODE_WINDOW || mbp_is_pool(node)
                               ? w->valid[net->operands[node->first_operand]]
                               : NULL;
        if (input >= 0 && lengths[input].data)
            w->valid[id] = load(&lengths[input], rows, node->positions, own);
        else if (x) {
            for (int64_t r = 0; r < rows->count; r++)
                own[r] = windows_over(node, x[r]);
            w->valid[id] = own;
        } else if (!is_grid && node->kind != MBP_NODE_WINDOW && !mbp_is_pool(node))
            w->valid[id] = joined(net, w->valid, node, rows->count, own);
    }
}

/* ---- values ---- */

void mbp_lengths_cut(const mbp_net *net, mbp_workspace *w, int input, int64_t rows) {
    const mbp_node *sequence = sequence_of(net, input), *node = &net->node[net->input_nodes[input]];
    const int32_t *valid = sequence ? w->valid[sequence - net->node] : NULL;
    if (!valid)
        return;
    const int64_t each = node->width / sequence->positions;
    if (!mbp_is_ids(node)) {
        const mbp_view x = w->value[net->input_nodes[input]];
        for (int64_t r = 0; r < rows; r++)
            memset((char *)x.at + (size_t)(r * x.ld + valid[r] * each) * net->item, 0,
                   (size_t)(node->width - valid[r] * each) * net->item);
        return;
    }
    mbp_sparse_input *ids = &w->input[input];
    int64_t left = 0;
    for (int64_t r = 0; r < rows; r++) {
        ids->rows.start[r] = left;
        for (int64_t j = 0; j < node->width; j++) {
            ids->each[r * node->width + j] = left;
            ids->rows.column[left] = ids->rows.column[r * node->width + j];
            left += j < valid[r] * each;
        }
    }
    ids->rows.start[rows] = ids->each[rows * node->width] = left;
}

void mbp_clear_beyond(const mbp_net *net, const mbp_workspace *w, int id, int64_t rows, mbp_view view, int64_t ld) {
    const mbp_node *node = &net->node[id];
    const int32_t *valid = mbp_valid_of(w, id);
    for (int64_t r = 0; r < rows && valid && view.at; r++) /* a gathered window has no values */
        for (int64_t t = valid[r]; t < node->positions; t++)
            memset((char *)view.at + (size_t)(r * ld + t * view.ld) * net->item, 0, (size_t)node->width * net->item);
}

mbp_view mbp_pack_valid(const mbp_net *net, const mbp_workspace *w, int id, int64_t rows, mbp_view x) {
    const mbp_node *node = &net->node[id];
    const mbp_view y = w->value[id];
    const int32_t *valid = mbp_valid_of(w, id);
    int64_t left = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t t = 0; t < valid[r]; t++)
            memcpy((char *)y.at + (size_t)(left++ * y.ld) * net->item,
                   (char *)x.at + (size_t)((r * node->positions + t) * x.ld) * net->item,
                   (size_t)node->width * net->item);
    return y;
}

#endif
