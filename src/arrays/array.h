/* Floor 3: callers' arrays: checks them, uses them in place, and copies their rows. */
#ifndef MBP_ARRAY_H
#define MBP_ARRAY_H

#include "kernels/kernels.h"

/* Selected rows: the numbers index[first], index[first + 1], ...; if index is NULL, first, first + 1, ... Functions
 * that get one just after it was written take a pointer: a copy would be read 16 bytes at a time, and such a load waits
 * for the stores of 8 bytes. */
typedef struct mbp_selection {
    const int64_t *index;
    int64_t first, count;
} mbp_selection;

/* The caller's number of the r-th selected row. */
static inline int64_t mbp_row_number(mbp_selection rows, int64_t r) {
    return rows.index ? rows.index[rows.first + r] : rows.first + r;
}

/* Refuses an array that does not have this shape (rows = -1: any number of rows) or cannot be read. `what` and `which`
 * name it in the error: "input 0"; which = -1: no number. */
mbp_status mbp_array_check(const mbp_array *array, const char *what, int which, int64_t rows, int64_t cols,
                           mbp_error *error);
/* The same for an array that is written: its elements must not share memory. */
mbp_status mbp_array_check_written(const mbp_array *array, const char *what, int which, int64_t rows, int64_t cols,
                                   mbp_error *error);
/* The same for an input with indptr, whose rows are sparse (sparse_array.c). */
mbp_status mbp_sparse_check(const mbp_array *array, const char *what, int which, int64_t rows, int64_t cols,
                            mbp_error *error);
/* Copies the selected rows of a checked sparse array, at most `room` values. Values that another thread has moved to a
 * column that there is not since the check are those of column 0. */
void mbp_sparse_load(const mbp_array *array, const mbp_selection *rows, mbp_dtype dtype, int64_t room, mbp_csr *to);
/* Checks row numbers. first: the place of the first of them in the caller's index, for the error. */
mbp_status mbp_index_check(const int64_t *index, int64_t count, int64_t first, int64_t rows, mbp_error *error);
/* Refuses an input of ids that has another shape or no integer dtype, or an id that is not one of 0 to levels - 1,
 * unless ids are hashed (ids.c). */
mbp_status mbp_ids_check(const mbp_array *array, int which, int64_t rows, int64_t cols, int64_t levels, int hash,
                         int (*may_be_any)(const void *of, int64_t row, int64_t column), const void *of,
                         mbp_error *error);
/* The selected rows of a checked array of ids as rows with the value 1 in the columns that they name, in the order of
 * the array's columns. Ids that another thread has changed since the check may become 0. */
void mbp_ids_load(const mbp_array *array, const mbp_selection *rows, mbp_dtype dtype, int64_t levels, int hash,
                  mbp_csr *to);
/* Refuses a checked array that cannot be used in place as a matrix of this dtype. */
mbp_status mbp_array_check_layout(const mbp_array *array, mbp_dtype dtype, const char *what, int which,
                                  mbp_error *error);
/* "MBP_F32", ...; the dtype must be valid. */
const char *mbp_array_dtype_name(mbp_dtype dtype);
int mbp_array_item(mbp_dtype dtype); /* bytes; 0: it is no dtype */
/* The rows from number `first` on, in place, of an array that can be used as a matrix of this dtype. */
static inline mbp_view mbp_array_rows(const mbp_array *array, int64_t first, mbp_dtype dtype) {
    if (array->rows == 1) /* the row stride is not used, and may be anything */
        return (mbp_view){(void *)array->data, array->cols};
    return (mbp_view){(char *)array->data + first * array->row_stride, array->row_stride >> (dtype == MBP_F64 ? 3 : 2)};
}
/* Whether the selected rows can be used in place as a matrix of this dtype; *view is then set to them. */
int mbp_array_in_place(const mbp_array *array, const mbp_selection *rows, mbp_dtype dtype, mbp_view *view);
/* Where a checked array is in memory: its bytes are from `first` to `end` - 1 (none if these are equal), in rows of
 * `row` bytes that are `step` bytes apart. */
typedef struct mbp_extent {
    uint64_t first, end, row, step;
} mbp_extent;

mbp_extent mbp_array_extent(const mbp_array *array);
/* Whether arrays at these places may have a byte in common: exact for equal row strides; otherwise compares address
 * ranges. */
int mbp_ranges_overlap(const mbp_extent *x, const mbp_extent *y);
static inline int mbp_extents_overlap(const mbp_extent *x, const mbp_extent *y) {
    return x->end > y->first && y->end > x->first && mbp_ranges_overlap(x, y);
}
/* Copies the selected rows to `to` in this dtype: F32, F64, or I64 (labels). */
void mbp_array_gather(const mbp_array *array, mbp_selection rows, mbp_dtype dtype, mbp_view to);

#endif
