/* Floor 1: numbers of callers' sparse arrays, which are in compressed sparse rows (CSR). */
#ifndef MBP_CSR_H
#define MBP_CSR_H

#include <string.h>

#include "config/config.h"
#include "microbp.h"

static inline int mbp_is_sparse(const mbp_array *array) { return MICROBP_SPARSE && array->indptr != NULL; }

/* Number i of indptr or indices. They need no alignment. */
static inline int64_t mbp_index_at(const mbp_array *array, const void *numbers, int64_t i) {
    int64_t wide;
    int32_t narrow;
    if (array->index_dtype == MBP_I64)
        return memcpy(&wide, (const char *)numbers + i * 8, 8), wide;
    return memcpy(&narrow, (const char *)numbers + i * 4, 4), narrow;
}

/* At most how many values any `rows` rows of a checked array have. */
static inline int64_t mbp_csr_most(const mbp_array *array, int64_t rows) {
    int64_t longest = 0, end = mbp_index_at(array, array->indptr, 0);
    const int64_t first = end;
    for (int64_t r = 0; r < array->rows; r++) {
        const int64_t start = end;
        end = mbp_index_at(array, array->indptr, r + 1);
        longest = end - start > longest ? end - start : longest;
    }
    const int64_t all = end - first;
    return longest > 0 && rows > all / longest ? all : rows * longest;
}

#endif
