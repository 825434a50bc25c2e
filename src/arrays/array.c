#include "arrays/array.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "system/text.h"

static const struct {
    char name[8], size;
} dtypes[] = {
    [MBP_F32] = {"MBP_F32", 4}, [MBP_F64] = {"MBP_F64", 8}, [MBP_F16] = {"MBP_F16", 2}, [MBP_I8] = {"MBP_I8", 1},
    [MBP_U8] = {"MBP_U8", 1},   [MBP_I16] = {"MBP_I16", 2}, [MBP_U16] = {"MBP_U16", 2}, [MBP_I32] = {"MBP_I32", 4},
    [MBP_U32] = {"MBP_U32", 4}, [MBP_I64] = {"MBP_I64", 8}, [MBP_U64] = {"MBP_U64", 8},
};

static int is_dtype(mbp_dtype dtype) { return (unsigned)dtype < sizeof dtypes / sizeof *dtypes; }

int mbp_array_item(mbp_dtype dtype) { return is_dtype(dtype) ? dtypes[dtype].size : 0; }

const char *mbp_array_dtype_name(mbp_dtype dtype) { return dtypes[dtype].name; }

/* Fails with the array's name before the text: "input 0", or "weight" if which is -1. */
__attribute__((format(printf, 5, 6))) static mbp_status
fail_array(mbp_error *error, mbp_status status, const char *what, int which, const char *format, ...) {
    char number[16] = "", text[200];
    if (!error)
        return status;
    if (which >= 0)
        snprintf(number, sizeof number, " %d", which);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return mbp_fail(error, status, "%s%s%s", what, number, text);
}

static uint64_t magnitude(int64_t stride) { return stride < 0 ? -(uint64_t)stride : (uint64_t)stride; }

/* Refuses strides that make elements share memory: usually a stride was forgotten, or it counts elements instead of
 * bytes. */
static mbp_status check_strides(const mbp_array *array, int is_written, const char *what, int which, mbp_error *error) {
    const int by_row = magnitude(array->row_stride) >= magnitude(array->col_stride);
    const uint64_t inner = magnitude(by_row ? array->col_stride : array->row_stride);
    const uint64_t outer = magnitude(by_row ? array->row_stride : array->col_stride);
    const int64_t inner_count = by_row ? array->cols : array->rows, outer_count = by_row ? array->rows : array->cols;
    const uint64_t item = (uint64_t)mbp_array_item(array->dtype), span = (uint64_t)(inner_count - 1) * inner + item;
    if ((array->flags & MBP_SHARED && !is_written) || inner_count < 1 || outer_count < 1)
        return MBP_OK;
    if ((inner_count == 1 || inner >= item) && (outer_count == 1 || outer >= span))
        return MBP_OK;
    return fail_array(
        error, MBP_INVALID, what, which,
        ": elements share memory, because row_stride is %lld and col_stride is %lld; strides are in bytes, "
        "and mbp_f32 and mbp_f64 set the usual ones%s",
        (long long)array->row_stride, (long long)array->col_stride,
        is_written ? "" : "; if it is intended, set flags = MBP_SHARED");
}

/* How far the last of n elements is from the first. Returns 1 if sums of distances could overflow. */
static int is_too_far(int64_t n, int64_t stride, int64_t *distance) {
    *distance = 0;
    return n > 1 && (__builtin_mul_overflow(n - 1, stride, distance) || *distance > INT64_MAX / 4 ||
                     *distance < -(INT64_MAX / 4));
}

/* Whether an element would be before the first or after the last address. */
static int is_too_large(const mbp_array *array) {
    int64_t down, across;
    if (array->rows < 1 || array->cols < 1)
        return 0;
    if (is_too_far(array->rows, array->row_stride, &down) || is_too_far(array->cols, array->col_stride, &across))
        return 1;
    const uint64_t first = (uintptr_t)array->data;
    const int64_t lowest = (down < 0 ? down : 0) + (across < 0 ? across : 0);
    const int64_t highest = (down > 0 ? down : 0) + (across > 0 ? across : 0) + mbp_array_item(array->dtype);
    return first < (uint64_t)-lowest || (uint64_t)highest > UINTPTR_MAX - first;
}

/* Whether none of the checks below can fail, without those of unusual arrays: this one is dense and not empty, its
 * columns are adjacent, and its rows follow each other, less than 2 GB apart. */
static inline int is_usual(const mbp_array *array, int64_t rows, int64_t cols) {
    const int64_t item = mbp_array_item(array->dtype), row = array->row_stride;
    return item && array->col_stride == item && !array->indptr && !array->indices && !array->flags &&
           array->cols == cols && row >= cols * item && row <= INT32_MAX && array->data && array->rows > 0 &&
           array->rows <= INT32_MAX && (array->rows == rows || rows < 0) &&
           (uint64_t)(array->rows * row) <= UINTPTR_MAX - (uintptr_t)array->data;
}

static __attribute__((noinline)) mbp_status check_unusual(const mbp_array *array, int is_written, const char *what,
                                                          int which, int64_t rows, int64_t cols, mbp_error *error) {
    if (!array)
        return fail_array(error, MBP_INVALID, what, which, " is NULL, but must point to an mbp_array");
    if (array->indptr || array->indices)
        return fail_array(error, MBP_UNSUPPORTED, what, which, " is sparse: pass a dense array");
    if (!is_dtype(array->dtype))
        return fail_array(error, MBP_INVALID, what, which, " has the unknown dtype %d", (int)array->dtype);
    if (array->flags & ~MBP_SHARED)
        return fail_array(error, MBP_INVALID, what, which, " has flags %d, but they must be 0 or MBP_SHARED",
                          array->flags);
    if (array->rows < 0 || array->cols != cols || (rows >= 0 && array->rows != rows)) {
        char expected[24] = "n";
        if (rows >= 0)
            expected[mbp_print_number(expected, (double)rows)] = 0;
        return fail_array(error, MBP_INVALID, what, which, " has shape (%lld, %lld), but (%s, %lld) is expected",
                          (long long)array->rows, (long long)array->cols, expected, (long long)cols);
    }
    if (!array->data && array->rows > 0)
        return fail_array(error, MBP_INVALID, what, which, ": data is NULL, but must point to %lld row%s",
                          (long long)array->rows, mbp_plural(array->rows));
    if (is_too_large(array))
        return fail_array(error, MBP_INVALID, what, which,
                          ": %lld rows with row_stride %lld and col_stride %lld do not fit in memory: correct them",
                          (long long)array->rows, (long long)array->row_stride, (long long)array->col_stride);
    return check_strides(array, is_written, what, which, error);
}

mbp_status mbp_array_check(const mbp_array *array, const char *what, int which, int64_t rows, int64_t cols,
                           mbp_error *error) {
    return !MICROBP_SMALL && array && is_usual(array, rows, cols)
               ? MBP_OK
               : check_unusual(array, 0, what, which, rows, cols, error);
}

mbp_status mbp_array_check_written(const mbp_array *array, const char *what, int which, int64_t rows, int64_t cols,
                                   mbp_error *error) {
    return !MICROBP_SMALL && array && is_usual(array, rows, cols)
               ? MBP_OK
               : check_unusual(array, 1, what, which, rows, cols, error);
}

/* The bytes of n elements of `size` bytes that are `stride` bytes apart. Moves *first, the address of the first
 * element, to the lowest one. */
static uint64_t length_of(int64_t n, int64_t stride, uint64_t size, uint64_t *first) {
    const uint64_t length = (uint64_t)(n - 1) * magnitude(stride);
    *first -= stride < 0 ? length : 0;
    return length + size;
}

mbp_extent mbp_array_extent(const mbp_array *array) {
    mbp_extent e = {.first = (uintptr_t)array->data, .step = magnitude(array->row_stride)};
    if (array->rows == 0 || array->cols == 0)
        return e.end = e.first, e;
    e.row = length_of(array->cols, array->col_stride, (uint64_t)mbp_array_item(array->dtype), &e.first);
    e.end = length_of(array->rows, array->row_stride, e.row, &e.first);
    e.end += e.first;
    return e;
}

/* Matrices with the same row stride may be column blocks of one matrix: then their address ranges overlap, but not
 * their elements. */
int mbp_ranges_overlap(const mbp_extent *x, const mbp_extent *y) {
    if (x->first == x->end || y->first == y->end)
        return 0;
    if (x->step == 0 || x->step != y->step)
        return 1;
    const mbp_extent *const low = x->first < y->first ? x : y, *const high = low == x ? y : x;
    const uint64_t apart = (high->first - low->first) % x->step;
    return apart < low->row || high->row > x->step - apart;
}

mbp_status mbp_array_check_layout(const mbp_array *array, mbp_dtype dtype, const char *what, int which,
                                  mbp_error *error) {
    const int64_t item = mbp_array_item(dtype);
    if (array->dtype != dtype)
        return fail_array(error, MBP_INVALID, what, which, " has the dtype %s, but must have the dtype of the net, %s",
                          mbp_array_dtype_name(array->dtype), mbp_array_dtype_name(dtype));
    if (array->cols > 1 && array->col_stride != item)
        return fail_array(error, MBP_INVALID, what, which,
                          ": col_stride is %lld bytes, but must be %lld (adjacent columns)",
                          (long long)array->col_stride, (long long)item);
    if (array->rows > 1 && array->row_stride & (item - 1))
        return fail_array(error, MBP_INVALID, what, which,
                          ": row_stride is %lld bytes, but must be a multiple of %lld (aligned)",
                          (long long)array->row_stride, (long long)item);
    if ((uintptr_t)array->data & (uintptr_t)(item - 1))
        return fail_array(error, MBP_INVALID, what, which,
                          ": data must be aligned to %lld bytes, but its address modulo %lld is %d", (long long)item,
                          (long long)item, (int)((uintptr_t)array->data % (uintptr_t)item));
    return MBP_OK;
}

int mbp_array_in_place(const mbp_array *array, const mbp_selection *rows, mbp_dtype dtype, mbp_view *view) {
    if (rows->index || mbp_array_check_layout(array, dtype, "", 0, NULL) != MBP_OK)
        return 0;
    *view = mbp_array_rows(array, rows->first, dtype);
    return 1;
}

/* IEEE binary16: 1 sign, 5 exponent, 10 mantissa bits. */
static inline float half_to_float(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
    const uint32_t bits = magnitude >= 0x7c00 ? magnitude << 13 | 0x7f800000 : (magnitude << 13) + (112u << 23);
    union {
        uint32_t bits;
        float value;
    } u = {bits}, tiny = {113u << 23}; /* 2^-14, the smallest normal */
    if (magnitude < 0x400) {
        u.bits = tiny.bits | magnitude << 13;
        u.value -= tiny.value;
    }
    u.bits |= sign;
    return u.value;
}

#if MICROBP_SMALL

/* One number of the caller's: `real` if it is a float, otherwise `whole`. */
typedef struct number {
    int is_real, is_unsigned;
    double real;
    int64_t whole;
} number;

#define CASE(CODE, S, field, value) \
    case CODE: { \
        S s; \
        memcpy(&s, from, sizeof s); \
        x.field = value; \
        break; \
    }

static number read_number(const char *from, mbp_dtype dtype) {
    number x = {.is_real = dtype < MBP_I8, .is_unsigned = dtype == MBP_U64};
    switch (dtype) {
        CASE(MBP_F32, float, real, (double)s)
        CASE(MBP_F64, double, real, s)
        CASE(MBP_F16, uint16_t, real, (double)half_to_float(s))
        CASE(MBP_I8, int8_t, whole, s)
        CASE(MBP_U8, uint8_t, whole, s)
        CASE(MBP_I16, int16_t, whole, s)
        CASE(MBP_U16, uint16_t, whole, s)
        CASE(MBP_I32, int32_t, whole, s)
        CASE(MBP_U32, uint32_t, whole, s)
        CASE(MBP_I64, int64_t, whole, s)
        CASE(MBP_U64, uint64_t, whole, (int64_t)s)
    }
    return x;
}

#define AS(TO) (x.is_real ? (TO)x.real : x.is_unsigned ? (TO)(uint64_t)x.whole : (TO)x.whole)

/* Labels: one above INT64_MAX becomes INT64_MAX, which is no class either. */
void mbp_array_gather(const mbp_array *array, mbp_selection rows, mbp_dtype dtype, mbp_view to) {
    for (int64_t r = 0; r < rows.count; r++)
        for (int64_t j = 0; j < array->cols; j++) {
            const number x = read_number((const char *)array->data + mbp_row_number(rows, r) * array->row_stride +
                                             j * array->col_stride,
                                         array->dtype);
            const int64_t at = r * to.ld + j;
            if (dtype == MBP_F32)
                ((float *)to.at)[at] = AS(float);
            else if (dtype == MBP_F64)
                ((double *)to.at)[at] = AS(double);
            else
                ((int64_t *)to.at)[at] = x.is_unsigned && x.whole < 0 ? INT64_MAX : x.whole;
        }
}

#else

/* Converts one row of type S, at any address and with any stride, to `to`. */
#define LOOP(S, decode, stride) \
    for (int64_t j = 0; j < n; j++) { \
        S s; \
        memcpy(&s, from + j * (stride), sizeof s); \
        to[j] = (TO)decode(s); \
    }
#define CASE(CODE, S, decode) \
    case CODE: \
        if (stride == (int64_t)sizeof(S)) \
            LOOP(S, decode, (int64_t)sizeof(S)) \
        else \
            LOOP(S, decode, stride) \
        break;
#define CONVERT_ROW \
    switch (dtype) { \
        CASE(MBP_F32, float, ) \
        CASE(MBP_F64, double, ) \
        CASE(MBP_F16, uint16_t, half_to_float) \
        CASE(MBP_I8, int8_t, ) \
        CASE(MBP_U8, uint8_t, ) \
        CASE(MBP_I16, int16_t, ) \
        CASE(MBP_U16, uint16_t, ) \
        CASE(MBP_I32, int32_t, ) \
        CASE(MBP_U32, uint32_t, ) \
        CASE(MBP_I64, int64_t, ) \
        CASE(MBP_U64, uint64_t, ) \
    }

#if MICROBP_F32
#define TO float
static void row_to_f32(float *to, const char *from, int64_t n, int64_t stride, mbp_dtype dtype){CONVERT_ROW}
#undef TO
#endif
#if MICROBP_F64 || MICROBP_TRAINING /* row weights are double */
#define TO double
static void row_to_f64(double *to, const char *from, int64_t n, int64_t stride, mbp_dtype dtype) {
    CONVERT_ROW
}
#undef TO
#endif

#if MICROBP_TRAINING || MICROBP_SPARSE
static inline int64_t at_most_i64(uint64_t label) { return label > INT64_MAX ? INT64_MAX : (int64_t)label; }

/* Labels and ids, so only integer dtypes. One above INT64_MAX becomes INT64_MAX, which is no class either. */
static void row_to_i64(int64_t *to, const char *from, int64_t n, int64_t stride, mbp_dtype dtype) {
#define TO int64_t
    switch (dtype) {
        CASE(MBP_I8, int8_t, )
        CASE(MBP_U8, uint8_t, )
        CASE(MBP_I16, int16_t, )
        CASE(MBP_U16, uint16_t, )
        CASE(MBP_I32, int32_t, )
        CASE(MBP_U32, uint32_t, )
        CASE(MBP_I64, int64_t, )
        CASE(MBP_U64, uint64_t, at_most_i64)
    case MBP_F16:
    case MBP_F32:
    case MBP_F64: break;
    }
#undef TO
}
#endif

/* Copies n bytes that do not overlap. For few of them, a call of memcpy would take most of the time. */
static inline void copy_row(char *to, const char *from, int64_t n) {
    int64_t i = 0;
    if (n >= 1024)
        memcpy(to, from, (size_t)n);
    else {
        for (; i + 16 <= n; i += 16)
            memcpy(to + i, from + i, 16);
        for (; i < n; i += 4)
            memcpy(to + i, from + i, 4);
    }
}

/* Copies rows whose columns are adjacent. They may be anywhere in a large array, so the first lines of a row are
 * prefetched AHEAD rows before it is copied; further lines the processor prefetches itself. 64 rows of 64 floats from
 * 4 MB: 3.7 -> 1.6 microseconds. Prefetching a whole batch one step earlier was slower. */
static void copy_rows(const mbp_array *array, mbp_selection rows, int64_t item, mbp_view to) {
    enum { AHEAD = 16, LINE = 64, LINES = 8 };
    const int64_t bytes = array->cols * item, near = bytes < LINES * LINE ? bytes : LINES * LINE;
    const char *const data = array->data;
    for (int64_t r = -AHEAD; r < rows.count; r++) {
        if (rows.index && r + AHEAD < rows.count) {
            const char *const row = data + mbp_row_number(rows, r + AHEAD) * array->row_stride;
            for (int64_t i = 0; i < near; i += LINE)
                __builtin_prefetch(row + i);
            __builtin_prefetch(row + near - 1); /* rows need not start at a line */
        }
        if (r >= 0)
            copy_row((char *)to.at + r * to.ld * item, data + mbp_row_number(rows, r) * array->row_stride, bytes);
    }
}

void mbp_array_gather(const mbp_array *array, mbp_selection rows, mbp_dtype dtype, mbp_view to) {
    if (array->dtype == dtype && array->col_stride == mbp_array_item(dtype)) {
        copy_rows(array, rows, mbp_array_item(dtype), to);
        return;
    }
    for (int64_t r = 0; r < rows.count; r++) {
        const char *from = (const char *)array->data + mbp_row_number(rows, r) * array->row_stride;
        switch ((int)dtype) {
#if MICROBP_F32
        case MBP_F32: row_to_f32((float *)to.at + r * to.ld, from, array->cols, array->col_stride, array->dtype); break;
#endif
#if MICROBP_F64 || MICROBP_TRAINING
        case MBP_F64:
            row_to_f64((double *)to.at + r * to.ld, from, array->cols, array->col_stride, array->dtype);
            break;
#endif
#if MICROBP_TRAINING || MICROBP_SPARSE
        case MBP_I64:
            row_to_i64((int64_t *)to.at + r * to.ld, from, array->cols, array->col_stride, array->dtype);
            break;
#endif
        }
    }
}
#endif

mbp_status mbp_index_check(const int64_t *index, int64_t count, int64_t first, int64_t rows, mbp_error *error) {
    const uint64_t last = (uint64_t)rows - 1;
    uint64_t wrong = 0; /* its top bit: a number is below 0, or above the last one */
    int64_t i = 0;
    for (int64_t k = 0; k < count; k++)
        wrong |= (uint64_t)index[k] | (last - (uint64_t)index[k]);
    if (wrong >> 63 == 0)
        return MBP_OK;
    while (i < count - 1 && index[i] >= 0 && index[i] < rows) /* another thread may have mended the wrong one */
        i++;
    return mbp_fail(error, MBP_INVALID, "index[%lld] is %lld, but must be a row number from 0 to %lld",
                    (long long)(first + i), (long long)index[i], (long long)rows - 1);
}
