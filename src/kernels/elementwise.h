/* Part of kernels.c: functions of each element of one or two matrices, in loops that the compiler vectorizes. */

static inline mbp_view view_at(mbp_view v, int64_t row, int64_t column) {
    return (mbp_view){(T *)v.at + row * v.ld + column, v.ld};
}
static inline T *element(mbp_view v, int64_t row, int64_t column) { return (T *)v.at + row * v.ld + column; }

/* MAP(name, statement): a function of each element. `statement` uses to[j], from[j], and p0, the first parameter.
 * BINARY(name, value): one of two matrices; `value` uses x, y, and `old`, the element of out before. Both are compiled
 * once, for whole vectors; in small code for one element. */
#if MICROBP_SMALL
#define LOOP(statement) \
    enum { j = 0 }; \
    (void)n; \
    statement
#define BINARY(name, value) \
    static void name(void *out, const void *a, const void *b) { \
        const T x = *(const T *)a, y = *(const T *)b, old = *(T *)out; \
        (void)old; \
        *(T *)out = value; \
    }
typedef void (*binary_function)(void *out, const void *a, const void *b);
#else
#define LOOP(statement) \
    n = n / VL * VL; \
    INDEPENDENT \
    for (int64_t j = 0; j < n; j++) { \
        statement; \
    }
#define BINARY(name, value) \
    HOT static void name(int64_t rows, int64_t n, mbp_view out, mbp_view a, mbp_view b) { \
        for (int64_t r = 0; r < rows; r++) \
            for (int64_t j = 0; j < n; j += VL) { \
                const vr x = load(element(a, r, j)), y = load(element(b, r, j)), old = load(element(out, r, j)); \
                (void)old; \
                store(element(out, r, j), value); \
            } \
    }
typedef void (*binary_function)(int64_t rows, int64_t n, mbp_view out, mbp_view a, mbp_view b);
#endif
#define MAP(name, statement) \
    HOT static void name(int64_t n, void *out, const void *in, const void *given) { \
        T *const to = out; \
        const T *const from = in, *const parameters = given; \
        const T p0 = parameters[0]; \
        (void)p0; \
        LOOP(statement); \
    }
#if MICROBP_SMALL
static __attribute__((noinline)) void map_rows(mbp_map map, int64_t rows, int64_t n, mbp_view out, mbp_view in,
                                               const double *parameters) {
    const T given[] = {parameters ? (T)parameters[0] : 0, parameters ? (T)parameters[1] : 0};
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < n; j++)
            map(1, (T *)out.at + r * out.ld + j, (const T *)in.at + r * in.ld + j, given);
}

static __attribute__((noinline)) void binary_rows(mbp_binary binary, int64_t rows, int64_t n, mbp_view out, mbp_view a,
                                                  mbp_view b) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < n; j++)
            ((binary_function)binary)(element(out, r, j), element(a, r, j), element(b, r, j));
}
#else
/* If no matrix has gaps between its rows, they are treated as one long row. Returns the length of a row. */
static inline int64_t join_rows(int64_t *rows, int64_t n, int gapless) {
    if (!gapless)
        return n;
    n *= *rows;
    *rows = 1;
    return n;
}

/* The last vector of a row ends with the row. It is read before the others change it: the matrices may be the same. */
static __attribute__((noinline)) void map_rows(mbp_map map, int64_t rows, int64_t n, mbp_view out, mbp_view in,
                                               const double *parameters) {
    const T given[] = {parameters ? (T)parameters[0] : 0, parameters ? (T)parameters[1] : 0};
    n = join_rows(&rows, n, out.ld == n && in.ld == n);
    T last_to[VL] = {0}, last_from[VL] = {0};
    const int64_t whole = n / VL * VL, end = n - VL;
    for (int64_t r = 0; r < rows; r++) {
        T *const to = (T *)out.at + r * out.ld;
        const T *const from = (const T *)in.at + r * in.ld;
        if (whole == n) {
            map(n, to, from, given);
        } else if (whole) {
            store(last_to, load(to + end));
            store(last_from, load(from + end));
            map(whole, to, from, given);
            map(VL, last_to, last_from, given);
            store(to + end, load(last_to));
        } else {
            copy_few(VL, n, to, last_to);
            copy_few(VL, n, from, last_from);
            map(VL, last_to, last_from, given);
            copy_few(VL, n, last_to, to);
        }
    }
}

static __attribute__((noinline)) void binary_rows(mbp_binary binary, int64_t rows, int64_t n, mbp_view out, mbp_view a,
                                                  mbp_view b) {
    const binary_function run = (binary_function)binary;
    n = join_rows(&rows, n, out.ld == n && a.ld == n && b.ld == n);
    T to[VL] = {0}, x[VL] = {0}, y[VL] = {0};
    const int64_t whole = n / VL * VL;
    if (whole)
        run(rows, whole, out, a, b);
    for (int64_t r = 0; r < rows && whole < n; r++) {
        T *const last = element(out, r, whole);
        copy_few(VL, n - whole, last, to);
        copy_few(VL, n - whole, element(a, r, whole), x);
        copy_few(VL, n - whole, element(b, r, whole), y);
        run(1, VL, (mbp_view){to, VL}, (mbp_view){x, VL}, (mbp_view){y, VL});
        copy_few(VL, n - whole, to, last);
    }
}
#endif

#define SECOND \
    const T p1 = parameters[1]; \
    (void)p1

#define ACTIVATION(name, keep, initializer, bias_initializer, text, meaning, forward, backward) \
    MAP(forward_##name, SECOND; const T z = from[j]; to[j] = forward)
#define OUTPUT_ACTIVATION(name, meaning, value) \
    MAP(map_##name, const T z = from[j]; to[j] = value) \
    static void output_##name(int64_t rows, int64_t n, mbp_view out, mbp_view in) { \
        map_rows(map_##name, rows, n, out, in, NULL); \
    }
#define ROW_OUTPUT_ACTIVATION(name, meaning, row_function) \
    static void output_##name(int64_t rows, int64_t n, mbp_view out, mbp_view in) { \
        for (int64_t r = 0; r < rows; r++) \
            row_function(n, (const T *)in.at + r * in.ld, (T *)out.at + r * out.ld); \
    }
#include "formulas/formulas.def"

BINARY(add, x + y)
BINARY(subtract, x - y)
BINARY(multiply, x *y)
BINARY(divide, x / y)

/* ---- for training ---- */

#if MICROBP_TRAINING
#define ACTIVATION(name, keep, initializer, bias_initializer, text, meaning, forward, backward) \
    MAP(backward_##name, SECOND; const T kept = from[j]; const T dy = to[j]; READ_##keep; to[j] = backward)
#define READ_Y \
    const T y = kept; \
    (void)y
#define READ_Z \
    const T z = kept; \
    (void)z
#include "formulas/formulas.def"
#undef READ_Y
#undef READ_Z

MAP(accumulate, to[j] += from[j])
MAP(negate, to[j] = -from[j])
MAP(penalize, SECOND; const T w = from[j]; to[j] += (w > 0 ? p0 : w < 0 ? -p0 : 0) + p1 * w)
MAP(mix, to[j] += p0 * (from[j] - to[j]))
BINARY(accumulate_product, old + x * y)
#endif
#undef BINARY
#undef LOOP
