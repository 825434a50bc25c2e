/* Part of kernels.c: the losses in plain code, one element or one row at a time. The sums are those of losses.h. */

enum { SUM, MEAN }; /* the reductions of formulas.def */

/* The loss of an output o with the target t, and its derivative. */
typedef T (*element_loss)(T o, T t, T p0, T p1, T *derivative);
typedef void (*focal_loss)(int f64, int64_t n, const void *o, const void *t, void *value, void *gradient, double scale,
                           const double p[]);

#define LOSS(name, output_activation, targets, per_target, reduction, text, meaning, value_of, derivative_of) \
    static T element_##name(T o, T t, T p0, T p1, T *derivative) { \
        const T d = o - t; \
        (void)d, (void)p0, (void)p1; \
        *derivative = (T)(derivative_of); \
        return (T)(value_of); \
    }
#include "formulas/formulas.def"

/* The function for these parameters if gamma is not 0, else NULL. */
static focal_loss focal_for(element_loss formula, const double p[MBP_LOSS_PARAMETERS]) {
#define FOCAL(name, i, function) \
    if (MICROBP_FOCAL && formula == element_##name && p[i] != 0) \
        return function;
#include "formulas/formulas.def"
    (void)formula, (void)p;
    return NULL;
}

/* Column j has the parameters from columns[MBP_LOSS_PARAMETERS j] on, if there are columns, and target j % targets. */
static double loss_of_elements(const mbp_loss_rows *w, element_loss formula, int reduction) {
    const double share = reduction == MEAN ? 1 / (double)w->n : 1;
    double total = 0;
    for (int64_t r = 0; r < w->rows; r++) {
        const T *o = (const T *)w->output.at + r * w->output.ld, *t = (const T *)w->target.at + r * w->target.ld;
        T *const gradient = w->gradient.at ? (T *)w->gradient.at + r * w->gradient.ld : NULL;
        const double weight = w->weight ? w->weight[r] : 1, *parameters = w->parameters;
        const T scale = (T)(w->scale * weight * share);
        double sum[LANES] = {0};
        for (int64_t j = 0, k = 0; j < w->n; j++, k++) {
            T derivative;
            if (MICROBP_LISTS && w->columns) {
                parameters = w->columns + MBP_LOSS_PARAMETERS * j;
                k = k == w->targets ? 0 : k;
            }
            T value = formula(o[j], t[k], (T)parameters[0], (T)parameters[1], &derivative);
            const focal_loss focal = focal_for(formula, parameters);
            if (focal)
                focal(sizeof(T) == sizeof(double), 1, o + j, t + k, &value, &derivative, 1, parameters);
            sum[j % LANES] += (double)value;
            if (gradient)
                gradient[j] = scale * derivative;
        }
        total += weight * (sum_lanes(sum) * share);
    }
    return total;
}

#define LOSS(name, output_activation, targets, per_target, reduction, ...) \
    static double loss_##name(const mbp_loss_rows *w) { return loss_of_elements(w, element_##name, reduction); }
#include "formulas/formulas.def"

typedef double (*row_loss)(int64_t n, const T *o, const T *t, int64_t label, const double p[], double scale,
                           T *gradient);

ONCE double loss_of_rows(const mbp_loss_rows *w, row_loss formula) {
    double total = 0;
    for (int64_t r = 0; r < w->rows; r++) {
        const T *t = w->target.at ? (const T *)w->target.at + r * w->target.ld : NULL;
        T *const gradient = w->gradient.at ? (T *)w->gradient.at + r * w->gradient.ld : NULL;
        const double weight = w->weight ? w->weight[r] : 1;
        total += weight * formula(w->n, (const T *)w->output.at + r * w->output.ld, t, t ? 0 : w->labels[r],
                                  w->parameters, w->scale * weight, gradient);
    }
    return total;
}

#define ROW_LOSS(name, output_activation, targets, per_target, text, meaning, row_function, narrow_function) \
    static double loss_##name(const mbp_loss_rows *w) { return loss_of_rows(w, row_function); }
#include "formulas/formulas.def"
