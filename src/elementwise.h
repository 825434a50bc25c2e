/* Part of kernels.c: passes over matrices, element by element or row by row, in loops that the compiler vectorises. */

/* Matrices without gaps between rows are one long row. */
static inline int64_t join_rows(int64_t *rows, int64_t n, int gapless) {
    if (!gapless)
        return n;
    n *= *rows;
    *rows = 1;
    return n;
}

/* One loop over all elements: `statement` sees to[j] and from[j]. */
#define MAP_LOOP(statement)                                                                                                                \
    n = join_rows(&rows, n, out.ld == n && in.ld == n);                                                                                    \
    for (int64_t r = 0; r < rows; r++) {                                                                                                   \
        T *to = (T *)out.at + r * out.ld;                                                                                                  \
        const T *from = (const T *)in.at + r * in.ld;                                                                                      \
        INDEPENDENT                                                                                                                        \
        for (int64_t j = 0; j < n; j++) {                                                                                                  \
            statement;                                                                                                                     \
        }                                                                                                                                  \
    }

#define PARAMETERS                                                                                                                         \
    const T p0 = parameters ? (T)parameters[0] : 0;                                                                                        \
    (void)p0

#define ACTIVATION(name, keep, initialiser, text, forward, backward)                                                                       \
    static void forward_##name(int64_t rows, int64_t n, mbp_view out, mbp_view in, const double *parameters) {                             \
        PARAMETERS;                                                                                                                        \
        MAP_LOOP(const T z = from[j]; to[j] = forward)                                                                                     \
    }                                                                                                                                      \
    static void backward_##name(int64_t rows, int64_t n, mbp_view out, mbp_view in, const double *parameters) {                            \
        PARAMETERS;                                                                                                                        \
        MAP_LOOP(const T kept = from[j]; const T dy = to[j]; READ_##keep; to[j] = backward)                                                \
    }
#define READ_Y const T y = kept; (void)y
#define READ_Z const T z = kept; (void)z
#include "formulas.def"
#undef READ_Y
#undef READ_Z

#define LINK(name, value)                                                                                                                  \
    static void link_##name(int64_t rows, int64_t n, mbp_view out, mbp_view in, const double *parameters) {                                \
        (void)parameters;                                                                                                                  \
        MAP_LOOP(const T z = from[j]; to[j] = value)                                                                                       \
    }
#define ROW_LINK(name, row_function)                                                                                                       \
    static void link_##name(int64_t rows, int64_t n, mbp_view out, mbp_view in, const double *parameters) {                                \
        (void)parameters;                                                                                                                  \
        for (int64_t r = 0; r < rows; r++)                                                                                                 \
            row_function(n, (const T *)in.at + r * in.ld, (T *)out.at + r * out.ld);                                                       \
    }
#include "formulas.def"

static void copy(int64_t rows, int64_t n, mbp_view out, mbp_view in, const double *parameters) {
    (void)parameters;
    MAP_LOOP(to[j] = from[j])
}

static void accumulate(int64_t rows, int64_t n, mbp_view out, mbp_view in, const double *parameters) {
    (void)parameters;
    MAP_LOOP(to[j] += from[j])
}

static void penalise(int64_t rows, int64_t n, mbp_view out, mbp_view in, const double *parameters) {
    const T p0 = (T)parameters[0], p1 = (T)parameters[1];
    MAP_LOOP(const T w = from[j]; to[j] += (w > 0 ? p0 : w < 0 ? -p0 : 0) + p1 * w)
}

static void mix(int64_t rows, int64_t n, mbp_view out, mbp_view in, const double *parameters) {
    const T p0 = (T)parameters[0];
    MAP_LOOP(to[j] += p0 * (from[j] - to[j]))
}

#define BINARY(name, statement)                                                                                                            \
    static void name(int64_t rows, int64_t n, mbp_view out, mbp_view a, mbp_view b) {                                                      \
        n = join_rows(&rows, n, out.ld == n && a.ld == n && b.ld == n);                                                                    \
        for (int64_t r = 0; r < rows; r++) {                                                                                               \
            T *to = (T *)out.at + r * out.ld;                                                                                              \
            const T *x = (const T *)a.at + r * a.ld, *y = (const T *)b.at + r * b.ld;                                                      \
            INDEPENDENT                                                                                                                    \
            for (int64_t j = 0; j < n; j++)                                                                                                \
                statement;                                                                                                                 \
        }                                                                                                                                  \
    }
BINARY(add, to[j] = x[j] + y[j])
BINARY(multiply, to[j] = x[j] * y[j])
BINARY(accumulate_product, to[j] += x[j] * y[j])
#undef BINARY

/* ---- losses ---- */

enum { LANES = 16, SUM = 0, MEAN = 1, FEW = 4 /* rows for which filling 16 lanes does not pay */ };

/* 16 partial sums by one fixed tree. */
static inline double sum_lanes(const double s[LANES]) {
    double t[LANES];
    for (int l = 0; l < LANES; l++)
        t[l] = s[l];
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++)
            t[l] += t[l + half];
    return t[0];
}

static inline double row_weight(const mbp_loss_rows *w, int64_t r) { return w->weight ? w->weight[r] : 1; }

/* A single output in neighbouring memory is seen as one row of LANES rows: a lane each, and their losses are then added in row order. */
static inline int rows_at_once(const mbp_loss_rows *w) {
    return w->n == 1 && w->output.ld == 1 && w->target.ld == 1 && (w->gradient.ld == 1 || !w->gradient.at) ? LANES : 1;
}

/* Values of up to 16 outputs into the partial sums, derivatives into the gradient; `count` is LANES in all blocks but the last. */
#define LOSS(name, link, targets, reduction, text, value, derivative)                                                                      \
    static inline __attribute__((always_inline)) void lanes_##name(int count, const T *output, const T *target, T *gradient,               \
                                                                   const T scale[LANES], T p0, double s[LANES]) {                          \
        (void)p0;                                                                                                                          \
        INDEPENDENT                                                                                                                        \
        for (int l = 0; l < count; l++) {                                                                                                  \
            const T o = output[l], t = target[l], d = o - t;                                                                               \
            (void)d;                                                                                                                       \
            s[l] += (double)(T)(value);                                                                                                    \
        }                                                                                                                                  \
        if (gradient) {                                                                                                                    \
            INDEPENDENT                                                                                                                    \
            for (int l = 0; l < count; l++) {                                                                                              \
                const T o = output[l], t = target[l], d = o - t;                                                                           \
                (void)o, (void)t, (void)d;                                                                                                 \
                gradient[l] = scale[l] * (T)(derivative);                                                                                  \
            }                                                                                                                              \
        }                                                                                                                                  \
    }                                                                                                                                      \
    static double loss_##name(const mbp_loss_rows *w) {                                                                                    \
        const T p0 = w->parameters ? (T)w->parameters[0] : 0;                                                                              \
        const double share = reduction == MEAN ? 1 / (double)w->n : 1;                                                                     \
        const int step = rows_at_once(w);                                                                                                  \
        double total = 0;                                                                                                                  \
        for (int64_t r = 0; r < w->rows; r += step) {                                                                                      \
            const T *o = (const T *)w->output.at + r * w->output.ld, *t = (const T *)w->target.at + r * w->target.ld;                      \
            T *g = w->gradient.at ? (T *)w->gradient.at + r * w->gradient.ld : NULL, scale[LANES];                                         \
            const int64_t n = step == 1 ? w->n : w->rows - r < LANES ? w->rows - r : LANES;                                                \
            double s[LANES] = {0};                                                                                                         \
            for (int l = 0; l < LANES; l++)                                                                                                \
                scale[l] = (T)(w->scale * row_weight(w, step > 1 && l < n ? r + l : r) * share);                                           \
            int64_t j = 0;                                                                                                                 \
            for (; j + LANES <= n; j += LANES)                                                                                             \
                lanes_##name(LANES, o + j, t + j, g ? g + j : NULL, scale, p0, s);                                                         \
            lanes_##name((int)(n - j), o + j, t + j, g ? g + j : NULL, scale, p0, s);                                                      \
            if (step == 1)                                                                                                                 \
                total += row_weight(w, r) * (sum_lanes(s) * share);                                                                        \
            for (int64_t l = 0; step > 1 && l < n; l++)                                                                                    \
                total += row_weight(w, r + l) * (s[l] * share);                                                                            \
        }                                                                                                                                  \
        return total;                                                                                                                      \
    }
#define ROW_LOSS(name, link, targets, text, row_function, narrow_function)                                                                 \
    static double loss_##name(const mbp_loss_rows *w) {                                                                                    \
        const double p0 = w->parameters ? w->parameters[0] : 0;                                                                            \
        double total = 0;                                                                                                                  \
        for (int64_t r = 0; r < w->rows;) {                                                                                                \
            const T *o = (const T *)w->output.at + r * w->output.ld;                                                                       \
            const T *t = w->target.at ? (const T *)w->target.at + r * w->target.ld : NULL;                                                 \
            T *g = w->gradient.at ? (T *)w->gradient.at + r * w->gradient.ld : NULL;                                                       \
            double loss[LANES], scale[LANES];                                                                                              \
            const int rows = t || w->n > LANES || w->rows - r < FEW ? 1 : (int)(w->rows - r < LANES ? w->rows - r : LANES);                \
            for (int l = 0; l < rows; l++)                                                                                                 \
                scale[l] = w->scale * row_weight(w, r + l);                                                                                \
            if (rows == 1)                                                                                                                 \
                loss[0] = row_function(w->n, o, t, t ? 0 : w->labels[r], p0, scale[0], g);                                                 \
            else                                                                                                                           \
                narrow_function(w->n, rows, o, w->output.ld, w->labels + r, p0, scale, g, w->gradient.ld, loss);                           \
            for (int l = 0; l < rows; l++)                                                                                                 \
                total += row_weight(w, r + l) * loss[l];                                                                                   \
            r += rows;                                                                                                                     \
        }                                                                                                                                  \
        return total;                                                                                                                      \
    }
#include "formulas.def"

static int all_finite(int64_t n, const void *v) {
    const T *x = v;
    T bad[LANES] = {0}; /* x - x is 0, or NaN for NaN and the infinities */
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES)
        for (int l = 0; l < LANES; l++)
            bad[l] += x[j + l] - x[j + l];
    for (; j < n; j++)
        bad[0] += x[j] - x[j];
    return row_sum(bad) == 0;
}

/* n squares into 16 partial sums, in double, which no float's square overflows. */
static inline void add_squares(int64_t n, const T *x, double s[LANES]) {
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES)
        for (int l = 0; l < LANES; l++)
            s[l] += (double)x[j + l] * (double)x[j + l];
    for (; j < n; j++)
        s[j % LANES] += (double)x[j] * (double)x[j];
}

static double sum_squares(int64_t n, const void *v) {
    double s[LANES] = {0};
    add_squares(n, v, s);
    return sum_lanes(s);
}

static void limit_columns(int64_t rows, int64_t n, mbp_view w, double limit) {
    for (int64_t first = 0; first < n; first += MBP_COLUMN_BLOCK) {
        const int64_t count = n - first < MBP_COLUMN_BLOCK ? n - first : MBP_COLUMN_BLOCK;
        T *const block = (T *)w.at + first, factor[MBP_COLUMN_BLOCK];
        double squares[MBP_COLUMN_BLOCK] = {0};
        int above = 0;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < count; j++)
                squares[j] += (double)block[r * w.ld + j] * (double)block[r * w.ld + j];
        for (int64_t j = 0; j < count; j++) {
            const double norm = __builtin_sqrt(squares[j]);
            factor[j] = norm > limit ? (T)(limit / norm) : 1;
            above |= norm > limit;
        }
        for (int64_t r = 0; above && r < rows; r++)
            for (int64_t j = 0; j < count; j++)
                block[r * w.ld + j] *= factor[j];
    }
}
