/* Part of kernels.c: functions of each element of one or two matrices, in loops that the compiler vectorizes. */

/* MAP(name, statement): a function of each element. `statement` uses to[j], from[j], and p0, the first parameter. It is
 * compiled once, for whole vectors; in small code for one element. */
#if MICROBP_SMALL
#define MAP(name, statement) \
    static int name(int64_t left, void *element, const void *of, const void *given) { \
        T *const to = element; \
        const T *const from = of, *const parameters = given; \
        enum { j = 0 }; \
        (void)left; \
        PARAMETERS; \
        statement; \
        return 1; \
    }

static void map_rows(mbp_map map, int64_t rows, int64_t n, mbp_view out, mbp_view in, const double *parameters) {
    const T given[] = {parameters ? (T)parameters[0] : 0, parameters ? (T)parameters[1] : 0};
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < n;)
            j += map(n - j, (T *)out.at + r * out.ld + j, (const T *)in.at + r * in.ld + j, given);
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

typedef void (*map_row)(int64_t n, T *to, const T *from, const double *parameters);
#define MAP(name, statement) \
    static HOT void row_##name(int64_t n, T *to, const T *from, const double *parameters) { \
        PARAMETERS; \
        n = n / VL * VL; \
        INDEPENDENT \
        for (int64_t j = 0; j < n; j++) { \
            statement; \
        } \
    } \
    static void name(int64_t rows, int64_t n, mbp_view out, mbp_view in, const double *parameters) { \
        map_rows(row_##name, rows, n, out, in, parameters); \
    }

/* The last vector of a row ends with the row. It is read before the others change it: both matrices may be the same. */
static __attribute__((noinline)) void map_rows(map_row map, int64_t rows, int64_t n, mbp_view out, mbp_view in,
                                               const double *parameters) {
    n = join_rows(&rows, n, out.ld == n && in.ld == n);
    T last_to[VL] = {0}, last_from[VL] = {0};
    const int64_t whole = n / VL * VL, end = n - VL;
    for (int64_t r = 0; r < rows; r++) {
        T *const to = (T *)out.at + r * out.ld;
        const T *const from = (const T *)in.at + r * in.ld;
        if (whole == n) {
            map(n, to, from, parameters);
        } else if (whole) {
            store(last_to, load(to + end));
            store(last_from, load(from + end));
            map(whole, to, from, parameters);
            map(VL, last_to, last_from, parameters);
            store(to + end, load(last_to));
        } else {
            copy_few(VL, n, to, last_to);
            copy_few(VL, n, from, last_from);
            map(VL, last_to, last_from, parameters);
            copy_few(VL, n, last_to, to);
        }
    }
}
#endif

/* Calls a map, from the functions of this file. */
#if MICROBP_SMALL
#define RUN_MAP map_rows
#else
#define RUN_MAP(map, ...) (map)(__VA_ARGS__)
#endif

#define PARAMETERS \
    const T p0 = parameters ? (T)parameters[0] : 0; \
    (void)p0
#define SECOND \
    const T p1 = parameters ? (T)parameters[1] : 0; \
    (void)p1

#define ACTIVATION(name, keep, initializer, bias_initializer, text, meaning, forward, backward) \
    MAP(forward_##name, SECOND; const T z = from[j]; to[j] = forward)
#define OUTPUT_ACTIVATION(name, meaning, value) MAP(output_##name, const T z = from[j]; to[j] = value)
#define ROW_OUTPUT_ACTIVATION(name, meaning, row_function) \
    static void output_##name(int64_t rows, int64_t n, mbp_view out, mbp_view in, const double *parameters) { \
        (void)parameters; \
        for (int64_t r = 0; r < rows; r++) \
            row_function(n, (const T *)in.at + r * in.ld, (T *)out.at + r * out.ld); \
    }
#if MICROBP_SMALL
#undef ROW_OUTPUT_ACTIVATION
#define ROW_OUTPUT_ACTIVATION(name, meaning, row_function) \
    static int output_##name(int64_t n, void *out, const void *in, const void *parameters) { \
        (void)parameters; \
        row_function(n, in, out); \
        return (int)n; /* columns are fewer than 2^31 */ \
    }
#endif
#include "formulas/formulas.def"

MAP(copy, to[j] = from[j])

#if MICROBP_SMALL
#define BINARY(name, statement) \
    static void name(void *out, const void *a, const void *b) { \
        T *const to = out; \
        const T *const x = a, *const y = b; \
        enum { j = 0 }; \
        statement; \
    }

static void binary_rows(mbp_binary binary, int64_t rows, int64_t n, mbp_view out, mbp_view a, mbp_view b) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < n; j++)
            binary((T *)out.at + r * out.ld + j, (const T *)a.at + r * a.ld + j, (const T *)b.at + r * b.ld + j);
}
#else
#define BINARY(name, statement) \
    static void name(int64_t rows, int64_t n, mbp_view out, mbp_view a, mbp_view b) { \
        n = join_rows(&rows, n, out.ld == n && a.ld == n && b.ld == n); \
        for (int64_t r = 0; r < rows; r++) { \
            T *to = (T *)out.at + r * out.ld; \
            const T *x = (const T *)a.at + r * a.ld, *y = (const T *)b.at + r * b.ld; \
            INDEPENDENT \
            for (int64_t j = 0; j < n; j++) \
                statement; \
        } \
    }
#endif
BINARY(add, to[j] = x[j] + y[j])
BINARY(subtract, to[j] = x[j] - y[j])
BINARY(multiply, to[j] = x[j] * y[j])
BINARY(divide, to[j] = x[j] / y[j])

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
MAP(penalize, const T w = from[j]; const T p1 = (T)parameters[1]; to[j] += (w > 0 ? p0 : w < 0 ? -p0 : 0) + p1 * w)
MAP(mix, to[j] += p0 * (from[j] - to[j]))
BINARY(accumulate_product, to[j] += x[j] * y[j])
#endif
#undef BINARY
