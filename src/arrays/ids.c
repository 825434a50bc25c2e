#include "arrays/array.h"

#include <string.h>

#include "system/text.h"

#if MICROBP_SPARSE

/* Whether numbers above INT64_MAX become INT64_MAX, which is no id, or keep their bits, which are hashed. */
static mbp_array as_signed(const mbp_array *array, int hash) {
    mbp_array ids = *array;
    if (hash && ids.dtype == MBP_U64)
        ids.dtype = MBP_I64;
    return ids;
}

/* An id above INT64_MAX is read again, because `id` cannot hold it. */
static mbp_status fail_id(const mbp_array *array, int which, int64_t row, int64_t column, int64_t id, int64_t levels,
                          mbp_error *error) {
    uint64_t size = id < 0 ? -(uint64_t)id : (uint64_t)id;
    if (array->dtype == MBP_U64)
        memcpy(&size, (const char *)array->data + row * array->row_stride + column * array->col_stride, sizeof size);
    const mbp_status status = mbp_fail(
        error, MBP_INVALID,
        "input %d, row %lld, column %lld: the id is %s%llu, but must be from 0 to %lld; or set hash=1", which,
        (long long)row, (long long)column, id < 0 ? "-" : "", (unsigned long long)size, (long long)levels - 1);
    if (error)
        error->row = row;
    return status;
}

mbp_status mbp_ids_check(const mbp_array *array, int which, int64_t rows, int64_t cols, int64_t levels, int hash,
                         int (*may_be_any)(const void *of, int64_t row, int64_t column), const void *of,
                         mbp_error *error) {
    enum { AT_ONCE = 256 };
    int64_t id[AT_ONCE];
    mbp_status status = mbp_array_check(array, "input", which, rows, cols, error);
    if (status == MBP_OK && array->dtype < MBP_I8)
        status = mbp_fail(error, MBP_INVALID, "input %d has ids, which must be of an integer dtype: convert them",
                          which);
    if (status != MBP_OK || hash)
        return status;
    const int64_t columns = cols < AT_ONCE ? cols : AT_ONCE, at_once = AT_ONCE / columns;
    for (int64_t r = 0; r < array->rows; r += at_once)
        for (int64_t j = 0; j < cols; j += columns) {
            const int64_t count = array->rows - r < at_once ? array->rows - r : at_once;
            mbp_array part = *array;
            part.data = (const char *)array->data + j * array->col_stride;
            part.cols = cols - j < columns ? cols - j : columns;
            mbp_array_gather(&part, (mbp_selection){NULL, r, count}, MBP_I64, (mbp_view){id, columns});
            for (int64_t i = 0; i < count * columns; i++)
                if (i % columns < part.cols && (id[i] < 0 || id[i] >= levels) &&
                    !(may_be_any && may_be_any(of, r + i / columns, j + i % columns)))
                    return fail_id(array, which, r + i / columns, j + i % columns, id[i], levels, error);
        }
    return MBP_OK;
}

void mbp_ids_load(const mbp_array *array, const mbp_selection *rows, mbp_dtype dtype, int64_t levels, int hash,
                  mbp_csr *to) {
    const int64_t count = rows->count * array->cols;
    const mbp_array ids = as_signed(array, hash);
    int64_t *const id = to->value; /* first the ids, then the values */
    mbp_array_gather(&ids, *rows, MBP_I64, (mbp_view){id, array->cols});
    for (int64_t i = 0; i < count; i++) {
        const int64_t level = hash ? mbp_hash_level(mbp_hash_number(id[i], 0), levels) : id[i];
        to->column[i] = (uint64_t)level < (uint64_t)levels ? (int32_t)level : 0;
    }
    for (int64_t i = 0; i < count; i++)
        if (dtype == MBP_F64)
            ((double *)to->value)[i] = 1;
        else
            ((float *)to->value)[i] = 1;
    for (int64_t r = 0; r <= rows->count; r++)
        to->start[r] = r * array->cols;
}
#endif
