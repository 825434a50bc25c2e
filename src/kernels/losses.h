/* Part of kernels.c: the losses, for a chunk of rows at a time. First those that need all columns of a row, such as
 * cross_entropy; then the sums over elements, which AVX-512 may borrow. */

enum { FEW = 3 }; /* for fewer labelled rows, filling 16 lanes does not pay */
enum { LOSS_ROWS = LANES };

/* The weights of up to 16 rows; the others get 0. One by one (`weight ? weight[r] : 1`) they would become masked loads
 * from NULL, which take 30 ns each. */
static inline void row_weights(const mbp_loss_rows *w, int64_t rows, int64_t r, double weight[LOSS_ROWS]) {
    for (int l = 0; l < LOSS_ROWS; l++)
        weight[l] = l < rows;
    for (int64_t l = 0; w->weight && l < rows; l++)
        weight[l] = w->weight[r + l];
}

#define ROW_LOSS(name, output_activation, targets, per_target, text, meaning, row_function, narrow_function) \
    static double loss_##name(const mbp_loss_rows *w) { \
        double total = 0; \
        for (int64_t r = 0; r < w->rows;) { \
            const T *o = (const T *)w->output.at + r * w->output.ld; \
            const T *t = w->target.at ? (const T *)w->target.at + r * w->target.ld : NULL; \
            T *g = w->gradient.at ? (T *)w->gradient.at + r * w->gradient.ld : NULL; \
            double loss[LOSS_ROWS], scale[LOSS_ROWS], weight[LOSS_ROWS]; \
            const int rows = t || w->n > LANES || w->rows - r < FEW \
                                 ? 1 \
                                 : (int)(w->rows - r < LANES ? w->rows - r : LANES); \
            row_weights(w, rows, r, weight); \
            for (int l = 0; l < LOSS_ROWS; l++) \
                scale[l] = w->scale * weight[l]; \
            if (rows == 1) \
                loss[0] = row_function(w->n, o, t, t ? 0 : w->labels[r], w->parameters, scale[0], g); \
            else \
                narrow_function(w->n, rows, o, w->output.ld, w->labels + r, w->parameters, scale, g, w->gradient.ld, \
                                loss); \
            for (int l = 0; l < rows; l++) \
                total += weight[l] * loss[l]; \
            r += rows; \
        } \
        return total; \
    }
#include "formulas/formulas.def"

#if !BORROWS
enum { SUM, MEAN }; /* the reductions of formulas.def */
enum { LOSS_BLOCK = LOSS_ROWS * LANES };

/* The values of n losses and, unless NULL, their derivatives x scale. n is at most LOSS_BLOCK and a multiple of VL. */
typedef void (*loss_formula)(int64_t n, const T *output, const T *target, T *value, T *gradient, T scale,
                             const double p[MBP_LOSS_PARAMETERS]);

/* Value and derivative of a loss of probabilities or counts share an exponential, so one loop computes both; of the
 * other losses a second loop computes the derivatives, if they are wanted. */
#define LOSS(name, output_activation, targets, per_target, reduction, text, meaning, value_of, derivative_of) \
    static void formula_##name(int64_t n, const T *output, const T *target, T *value, T *gradient, T scale, \
                               const double p[MBP_LOSS_PARAMETERS]) { \
        const T p0 = (T)p[0], p1 = (T)p[1]; \
        enum { BOTH = OUTPUT_ACTIVATION_##output_activation != OUTPUT_ACTIVATION_identity }; \
        T unwanted[BOTH ? LOSS_BLOCK : 1], *const derivative = BOTH && !gradient ? unwanted : gradient; \
        (void)p0, (void)p1; \
        n = n / VL * VL; \
        INDEPENDENT \
        for (int64_t l = 0; l < n; l++) { \
            const T o = output[l], t = target[l], d = o - t; \
            (void)d; \
            value[l] = (T)(value_of); \
            if (BOTH) \
                derivative[l] = scale * (T)(derivative_of); \
        } \
        if (!BOTH && gradient) { \
            INDEPENDENT \
            for (int64_t l = 0; l < n; l++) { \
                const T o = output[l], t = target[l], d = o - t; \
                (void)o, (void)t, (void)d; \
                derivative[l] = scale * (T)(derivative_of); \
            } \
        } \
    }
#if MICROBP_FOCAL /* not an `if`: without optimization, the function would stay and need another that is not there */
#define FOCAL(name, i, function) \
    static void focal_##name(int64_t n, const T *output, const T *target, T *value, T *gradient, T scale, \
                             const double p[MBP_LOSS_PARAMETERS]) { \
        function(sizeof(T) == sizeof(double), n, output, target, value, gradient, (double)scale, p); \
    }
#endif
#include "formulas/formulas.def"

/* The formula for these parameters: another one if gamma is not 0. */
static loss_formula formula_for(loss_formula formula, const double p[MBP_LOSS_PARAMETERS]) {
#if MICROBP_FOCAL
#define FOCAL(name, i, function) \
    if (formula == formula_##name && p[i] != 0) \
        return focal_##name;
#endif
#include "formulas/formulas.def"
    (void)p;
    return formula;
}

/* Copies `rows` rows of n elements into one block without gaps, whose last vector is filled with zeros. */
static inline void take_rows(int64_t rows, int64_t n, const T *from, int64_t ld, T to[LOSS_BLOCK]) {
    store(to + (rows * n - 1) / VL * VL, (vr){0});
    for (int64_t i = 0; i < rows; i++) {
        if (n < ROW_BLOCK)
            copy_few(ROW_BLOCK, n, from + i * ld, to + i * n);
        else
            memcpy(to + i * n, from + i * ld, (size_t)n * sizeof(T));
    }
}

/* Computes the columns j to j + n - 1 of `rows` rows, at most LOSS_BLOCK elements: gets the values, without gaps, and
 * stores scale x derivative in the gradient unless it is NULL; `scale` has the scale of each row. Copies only what is
 * not whole vectors in memory: with a copy of all, 1000 mse take 1.3 times as long. */
static void loss_block(const mbp_loss_rows *w, loss_formula formula, int64_t rows, int64_t n, int64_t r, int64_t j,
                       const T scale[LOSS_ROWS], T value[LOSS_BLOCK]) {
    T output[LOSS_BLOCK], target[LOSS_BLOCK], derivative[LOSS_BLOCK];
    const double *const p = w->parameters;
    const T *o = (const T *)w->output.at + r * w->output.ld + j, *t = (const T *)w->target.at + r * w->target.ld + j;
    T *const gradient = w->gradient.at ? (T *)w->gradient.at + r * w->gradient.ld + j : NULL;
    const int direct = rows == 1 || (w->output.ld == n && w->target.ld == n && w->gradient.ld == n && !w->weight);
    const int64_t count = rows * n, whole = direct ? count & -(int64_t)VL : 0;
    const int64_t left = count - whole;
    if (whole)
        formula(whole, o, t, value, gradient, scale[0], p);
    if (left) {
        take_rows(direct ? 1 : rows, direct ? left : n, o + whole, w->output.ld, output);
        take_rows(direct ? 1 : rows, direct ? left : n, t + whole, w->target.ld, target);
        formula((left + VL - 1) & -(int64_t)VL, output, target, value + whole, gradient ? derivative : NULL,
                direct ? scale[0] : 1, p);
    }
    if (gradient && left && direct)
        copy_few(ROW_BLOCK, left, derivative, gradient + whole);
    for (int64_t i = 0; gradient && !direct && i < rows; i++) {
        INDEPENDENT
        for (int64_t k = 0; k < n; k++)
            gradient[i * w->gradient.ld + k] = scale[i] * derivative[i * n + k];
    }
}

/* Adds n values to 16 partial sums. Four blocks at a time: the sums are stored between the blocks. */
static inline void add_values(int64_t n, const T *value, double s[LANES]) {
    T filled[ROW_BLOCK];
    int64_t k = 0;
    for (; k + 4 * LANES <= n; k += 4 * LANES) {
        const T *v = value + k;
        for (int l = 0; l < LANES; l++)
            s[l] = s[l] + (double)v[l] + (double)v[l + LANES] + (double)v[l + 2 * LANES] + (double)v[l + 3 * LANES];
    }
    for (; k < n; k += LANES) {
        const T *block = row_block(n - k, value + k, 0, filled);
        for (int l = 0; l < LANES; l++)
            s[l] += (double)block[l];
    }
}

/* The same sums of n <= 16 values, with a row in each lane. `lanes` is at least the number of rows. */
static inline __attribute__((always_inline)) void add_narrow(int lanes, int64_t rows, int64_t n, const T *value,
                                                             double sum[LOSS_ROWS]) {
    double s[LANES][LOSS_ROWS];
    for (int64_t j = 0; j < n; j++)
        for (int64_t l = 0; l < lanes; l++)
            s[j][l] = l < rows ? (double)value[l * n + j] : 0;
    for (int half = LANES / 2; half; half /= 2)
        for (int64_t j = 0; j < half && j + half < n; j++)
            for (int l = 0; l < lanes; l++)
                s[j][l] += s[j + half][l];
    memcpy(sum, s[0], (size_t)lanes * sizeof *sum);
}

/* The sums of the values of `rows` rows: several only if they are narrow. Stores their gradients. */
static void loss_sums(const mbp_loss_rows *w, loss_formula formula, int64_t rows, int64_t r, const T scale[LOSS_ROWS],
                      double sum[LOSS_ROWS]) {
    T value[LOSS_BLOCK];
    double s[LANES] = {0};
    if (w->n <= LANES) {
        loss_block(w, formula, rows, w->n, r, 0, scale, value);
        if (rows == 1)
            add_narrow(1, 1, w->n, value, sum);
        else
            add_narrow(LOSS_ROWS, rows, w->n, value, sum);
        return;
    }
    for (int64_t j = 0; j < w->n; j += LOSS_BLOCK) {
        const int64_t n = w->n - j < LOSS_BLOCK ? w->n - j : LOSS_BLOCK;
        loss_block(w, formula, 1, n, r, j, scale, value);
        add_values(n, value, s);
    }
    sum[0] = sum_lanes(s);
}

static double loss_of_rows(const mbp_loss_rows *w, loss_formula formula, double share) {
    double total = 0, sum[LOSS_ROWS], weight[LOSS_ROWS];
    int64_t rows;
    formula = formula_for(formula, w->parameters);
    for (int64_t r = 0; r < w->rows; r += rows) {
        rows = w->rows - r < LANES ? w->rows - r : LANES;
        if (w->n > LANES || 3 * rows < w->n) /* filling 16 lanes does not pay */
            rows = 1;
        T scale[LOSS_ROWS];
        row_weights(w, rows, r, weight);
        for (int l = 0; l < LOSS_ROWS; l++)
            scale[l] = (T)(w->scale * weight[l] * share);
        loss_sums(w, formula, rows, r, scale, sum);
        for (int64_t i = 0; i < rows; i++)
            total += weight[i] * (sum[i] * share);
    }
    return total;
}

/* The same, one column at a time: columns have parameters of their own, and several may share a target. */
ONCE double loss_of_columns(const mbp_loss_rows *w, loss_formula formula, double share) {
    T output[MBP_LOSS_CHUNK] = {0}, target[MBP_LOSS_CHUNK] = {0}, value[MBP_LOSS_CHUNK], derivative[MBP_LOSS_CHUNK];
    double sum[MBP_LOSS_CHUNK][LANES] = {{0}}, total = 0;
    for (int64_t j = 0; j < w->n; j++) {
        for (int64_t r = 0; r < w->rows; r++) {
            output[r] = ((const T *)w->output.at)[r * w->output.ld + j];
            target[r] = ((const T *)w->target.at)[r * w->target.ld + j % w->targets];
        }
        const double *p = w->columns + MBP_LOSS_PARAMETERS * j;
        formula_for(formula, p)((w->rows + VL - 1) / VL * VL, output, target, value, derivative, 1, p);
        for (int64_t r = 0; r < w->rows; r++) {
            sum[r][j % LANES] += (double)value[r];
            if (w->gradient.at)
                ((T *)w->gradient.at)[r * w->gradient.ld + j] = (T)(w->scale * (w->weight ? w->weight[r] : 1) * share) *
                                                                derivative[r];
        }
    }
    for (int64_t r = 0; r < w->rows; r++)
        total += (w->weight ? w->weight[r] : 1) * (sum_lanes(sum[r]) * share);
    return total;
}

#define LOSS(name, output_activation, targets, per_target, reduction, text, meaning, value_of, derivative_of) \
    static double loss_##name(const mbp_loss_rows *w) { \
        return (MICROBP_LISTS && w->columns ? loss_of_columns : loss_of_rows)( \
            w, formula_##name, reduction == MEAN ? 1 / (double)w->n : 1); \
    }
#include "formulas/formulas.def"
#endif
