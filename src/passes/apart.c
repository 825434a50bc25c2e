/* Outputs that share memory. A few arrays are compared pair by pair. Many are first sorted by address; pairs are
 * compared only if that does not show that all are apart, so the usual time is n log n. */
#include "passes/apart.h"

#include <stdio.h>
#include <stdlib.h>

#include "system/text.h"

enum { FEW_PAIRS = 256 };

/* Where the parameters and buffers are: one row. */
static mbp_extent block_extent(const mbp_net *net) {
    const uint64_t first = (uintptr_t)net->block, bytes = (uint64_t)(net->params + net->buffers) * net->item;
    return (mbp_extent){.first = first, .end = first + bytes, .row = bytes, .step = bytes};
}

#if !MICROBP_SMALL

/* ---- a sufficient test ---- */

typedef struct block {
    mbp_extent at;
    uint64_t column; /* its first byte in a row of the matrix that it is a part of */
    int is_output;
} block;

static int by_address(const void *a, const void *b) {
    const uint64_t x = ((const block *)a)->at.first, y = ((const block *)b)->at.first;
    return (x > y) - (x < y);
}

static int by_column(const void *a, const void *b) {
    const uint64_t x = ((const block *)a)->column, y = ((const block *)b)->column;
    return (x > y) - (x < y);
}

/* Whether the blocks are different columns of one matrix. */
static int are_columns(block *blocks, int n) {
    const uint64_t step = blocks->at.step, first = blocks->at.first;
    for (int i = 0; i < n; i++) {
        if (step == 0 || blocks[i].at.step != step)
            return 0;
        blocks[i].column = (blocks[i].at.first - first) % step; /* blocks are in the order of addresses */
    }
    qsort(blocks, (size_t)n, sizeof *blocks, by_column);
    for (int i = 0; i < n; i++) {
        const uint64_t next = i + 1 < n ? blocks[i + 1].column : blocks[0].column + step;
        if (blocks[i].column + blocks[i].at.row > next)
            return 0;
    }
    return 1;
}

/* Looks at each group of blocks whose address ranges overlap. */
static int are_apart(block *blocks, int n) {
    qsort(blocks, (size_t)n, sizeof *blocks, by_address);
    for (int i = 0, end; i < n; i = end) {
        uint64_t limit = blocks[i].at.end;
        int has_output = blocks[i].is_output;
        for (end = i + 1; end < n && blocks[end].at.first < limit; end++) {
            limit = blocks[end].at.end > limit ? blocks[end].at.end : limit;
            has_output |= blocks[end].is_output;
        }
        if (has_output && end - i > 1 && !are_columns(blocks + i, end - i))
            return 0;
    }
    return 1;
}

static int add_block(block *blocks, int n, mbp_extent at, int is_output) {
    blocks[n] = (block){.at = at, .is_output = is_output};
    return n + (blocks[n].at.first < blocks[n].at.end);
}

/* Returns 0 also if there is no memory for the test. */
static int surely_apart(const mbp_net *net, const mbp_array *x, const mbp_array *out, int n_out) {
    const size_t bytes = ((size_t)n_out + (size_t)net->inputs + 1) * sizeof(block);
    block *blocks = mbp_allocate(mbp_net_allocator(net), bytes);
    if (!blocks)
        return 0;
    int n = add_block(blocks, 0, block_extent(net), 0);
    for (int i = 0; i < net->inputs; i++)
        n = add_block(blocks, n, mbp_array_extent(&x[i]), 0);
    for (int i = 0; i < n_out; i++)
        n = add_block(blocks, n, mbp_array_extent(&out[i]), 1);
    const int apart = are_apart(blocks, n);
    mbp_release(mbp_net_allocator(net), blocks, bytes);
    return apart;
}

#else
static int surely_apart(const mbp_net *net, const mbp_array *x, const mbp_array *out, int n_out) {
    (void)net, (void)x, (void)out, (void)n_out;
    return 0;
}
#endif

/* ---- pair by pair ---- */

static mbp_status fail_shared(int i, const char *name, int k, mbp_error *error) {
    char number[16] = "";
    if (k >= 0)
        snprintf(number, sizeof number, " %d", k);
    return mbp_fail(error, MBP_INVALID, "output %d shares memory with %s%s: use separate memory", i, name, number);
}

static mbp_status check_output(const mbp_net *net, const mbp_array *x, const mbp_array *out, int i, mbp_error *error) {
    const mbp_extent at = mbp_array_extent(&out[i]), own = block_extent(net);
    if (mbp_extents_overlap(&at, &own))
        return fail_shared(i, "the net's parameters", -1, error);
    for (int k = 0; k < net->inputs; k++) {
        const mbp_extent input = mbp_array_extent(&x[k]);
        if (mbp_extents_overlap(&at, &input))
            return fail_shared(i, "input", k, error);
    }
    for (int k = 0; k < i; k++) {
        const mbp_extent output = mbp_array_extent(&out[k]);
        if (mbp_extents_overlap(&at, &output))
            return fail_shared(i, "output", k, error);
    }
    return MBP_OK;
}

mbp_status mbp_outputs_apart(const mbp_net *net, const mbp_array *x, const mbp_array *out, int n_out,
                             mbp_error *error) {
    mbp_status status = MBP_OK;
    if ((int64_t)n_out * (n_out + net->inputs) > FEW_PAIRS && surely_apart(net, x, out, n_out))
        return MBP_OK;
    for (int i = 0; i < n_out && status == MBP_OK; i++)
        status = check_output(net, x, out, i, error);
    return status;
}
