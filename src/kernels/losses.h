/* Part of kernels.c: the losses, for a chunk of rows at a time. */

enum { SUM, MEAN }; /* the reductions of formulas.def */
enum { FEW = 4 };   /* for fewer labelled rows, filling 16 lanes does not pay */

static inline double row_weight(const mbp_loss_rows *w, int64_t r) { return w->weight ? w->weight[r] : 1; }

/* LANES if rows have a single output and are contiguous, else 1. LANES such rows are computed like one row, with a lane
 * per row; their losses are then added in row order. */
static inline int rows_at_once(const mbp_loss_rows *w) {
    return w->n == 1 && w->output.ld == 1 && w->target.ld == 1 && (w->gradient.ld == 1 || !w->gradient.at) ? LANES : 1;
}

/* Adds the values of up to 16 outputs to the partial sums s, and stores their derivatives in the gradient unless it is
 * NULL. `count` is LANES except in the last block of a row. */
typedef void (*loss_lanes)(int count, const T *output, const T *target, T *gradient, const T scale[LANES], T p0,
                           double s[LANES]);

static double loss_of_lanes(const mbp_loss_rows *w, loss_lanes lanes, double share) {
    const T p0 = w->parameters ? (T)w->parameters[0] : 0;
    const int step = rows_at_once(w);
    double total = 0;
    for (int64_t r = 0; r < w->rows; r += step) {
        const T *o = (const T *)w->output.at + r * w->output.ld, *t = (const T *)w->target.at + r * w->target.ld;
        T *g = w->gradient.at ? (T *)w->gradient.at + r * w->gradient.ld : NULL, scale[LANES];
        const int64_t n = step == 1 ? w->n : w->rows - r < LANES ? w->rows - r : LANES;
        double s[LANES] = {0};
        for (int l = 0; l < LANES; l++)
            scale[l] = (T)(w->scale * row_weight(w, step > 1 && l < n ? r + l : r) * share);
        for (int64_t j = 0; j < n; j += LANES)
            lanes(n - j < LANES ? (int)(n - j) : LANES, o + j, t + j, g ? g + j : NULL, scale, p0, s);
        if (step == 1)
            total += row_weight(w, r) * (sum_lanes(s) * share);
        for (int64_t l = 0; step > 1 && l < n; l++)
            total += row_weight(w, r + l) * (s[l] * share);
    }
    return total;
}

#define LOSS(name, output_activation, targets, reduction, text, meaning, value, derivative) \
    static inline __attribute__((always_inline)) void add_##name( \
        int count, const T *output, const T *target, T *gradient, const T scale[LANES], T p0, double s[LANES]) { \
        (void)p0; \
        INDEPENDENT \
        for (int l = 0; l < count; l++) { \
            const T o = output[l], t = target[l], d = o - t; \
            (void)d; \
            s[l] += (double)(T)(value); \
        } \
        if (gradient) { \
            INDEPENDENT \
            for (int l = 0; l < count; l++) { \
                const T o = output[l], t = target[l], d = o - t; \
                (void)o, (void)t, (void)d; \
                gradient[l] = scale[l] * (T)(derivative); \
            } \
        } \
    } \
    static void lanes_##name(int count, const T *output, const T *target, T *gradient, const T scale[LANES], T p0, \
                             double s[LANES]) { \
        if (!MICROBP_SMALL && count == LANES) /* a constant, for loops without a rest */ \
            add_##name(LANES, output, target, gradient, scale, p0, s); \
        else \
            add_##name(count, output, target, gradient, scale, p0, s); \
    } \
    static double loss_##name(const mbp_loss_rows *w) { \
        return loss_of_lanes(w, lanes_##name, reduction == MEAN ? 1 / (double)w->n : 1); \
    }
#define ROW_LOSS(name, output_activation, targets, text, meaning, row_function, narrow_function) \
    static double loss_##name(const mbp_loss_rows *w) { \
        const double p0 = w->parameters ? w->parameters[0] : 0; \
        double total = 0; \
        for (int64_t r = 0; r < w->rows;) { \
            const T *o = (const T *)w->output.at + r * w->output.ld; \
            const T *t = w->target.at ? (const T *)w->target.at + r * w->target.ld : NULL; \
            T *g = w->gradient.at ? (T *)w->gradient.at + r * w->gradient.ld : NULL; \
            double loss[LANES], scale[LANES]; \
            const int rows = MICROBP_SMALL || t || w->n > LANES || w->rows - r < FEW \
                                 ? 1 \
                                 : (int)(w->rows - r < LANES ? w->rows - r : LANES); \
            for (int l = 0; l < rows; l++) \
                scale[l] = w->scale * row_weight(w, r + l); \
            if (rows == 1) \
                loss[0] = row_function(w->n, o, t, t ? 0 : w->labels[r], p0, scale[0], g); \
            else \
                narrow_function(w->n, rows, o, w->output.ld, w->labels + r, p0, scale, g, w->gradient.ld, loss); \
            for (int l = 0; l < rows; l++) \
                total += row_weight(w, r + l) * loss[l]; \
            r += rows; \
        } \
        return total; \
    }
#include "formulas/formulas.def"
