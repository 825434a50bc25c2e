/* Outputs that share memory. A few arrays are compared pair by pair. Many are first sorted by address; pairs are
 * compared only if that does not show that all are apart, so the usual time is n log n. */
#include "passes/apart.h"

#include <stdio.h>
#include <stdlib.h>

#include "system/csr.h"
#include "system/text.h"

enum { FEW_PAIRS = 256 };

/* Where the parameters and buffers are: one row. */
static mbp_extent block_extent(const mbp_net *net) {
    const uint64_t first = (uintptr_t)net->block, bytes = (uint64_t)(net->params + net->buffers) * net->item;
    return (mbp_extent){.first = first, .end = first + bytes, .row = bytes, .step = bytes};
}

enum { SPARSE_PARTS = 3 };

/* Where the k-th part of sparse rows is: the values, the column numbers, indptr. */
static __attribute__((noinline)) mbp_extent sparse_extent(const mbp_array *x, int k) {
    const int64_t first = mbp_index_at(x, x->indptr, 0), count = mbp_index_at(x, x->indptr, x->rows) - first;
    const int64_t item = k == 0 ? mbp_array_item(x->dtype) : mbp_array_item(x->index_dtype);
    const void *at = k == 0 ? x->data : k == 1 ? x->indices : x->indptr;
    mbp_array part = mbp_contiguous((const char *)at + (k < 2 ? first * item : 0), MBP_I8, 1, 1,
                                    (k < 2 ? count : x->rows + 1) * item);
    return mbp_array_extent(&part);
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
    const size_t bytes = ((size_t)n_out + 3 * (size_t)net->inputs + 1) * sizeof(block);
    block *blocks = mbp_allocate(mbp_net_allocator(net), bytes);
    if (!blocks)
        return 0;
    int n = add_block(blocks, 0, block_extent(net), 0);
    for (int i = 0; i < net->inputs; i++)
        for (int k = 0; k < (mbp_is_sparse(&x[i]) ? SPARSE_PARTS : 1); k++)
            n = add_block(blocks, n, mbp_is_sparse(&x[i]) ? sparse_extent(&x[i], k) : mbp_array_extent(&x[i]), 0);
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

static inline int overlaps_dense(const mbp_extent *at, const mbp_array *x) {
    const mbp_extent input = mbp_array_extent(x);
    return mbp_extents_overlap(at, &input);
}

static __attribute__((noinline)) int overlaps_sparse(const mbp_extent *at, const mbp_array *x) {
    for (int k = 0; k < SPARSE_PARTS; k++) {
        const mbp_extent part = sparse_extent(x, k);
        if (mbp_extents_overlap(at, &part))
            return 1;
    }
    return 0;
}

static mbp_status check_output(const mbp_net *net, const mbp_array *x, const mbp_array *out, int i, mbp_error *error) {
    const mbp_extent at = mbp_array_extent(&out[i]), own = block_extent(net);
    if (mbp_extents_overlap(&at, &own))
        return fail_shared(i, "the net's parameters", -1, error);
    for (int k = 0; k < net->inputs; k++)
        if (mbp_is_sparse(&x[k]) ? overlaps_sparse(&at, &x[k]) : overlaps_dense(&at, &x[k]))
            return fail_shared(i, "input", k, error);
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
