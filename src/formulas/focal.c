#include "formulas/focal.h"

#define MBP_DOUBLE
#include "formulas/formulas.h"

#if MICROBP_FOCAL

static double read_number(int f64, const void *x, int64_t i) {
    return f64 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

/* scale x value, both rounded to the dtype first, as in the kernels. */
static void write_number(int f64, void *x, int64_t i, double scale, double value) {
    if (f64)
        ((double *)x)[i] = scale * value;
    else
        ((float *)x)[i] = (float)scale * (float)value;
}

/* The loss -log(p) q^gamma, q = 1 - p. *pull: minus its derivative by log(p). */
static double focal(double minus_log, double gamma, double *pull) {
    const double q = -EXPM1(-minus_log), factor = EXP(gamma * LOG(q));
    *pull = factor * (q > 0 ? 1 + gamma * (1 - q) * minus_log / q : 1 + gamma);
    return factor * minus_log;
}

void mbp_focal_bce(int f64, int64_t n, const void *output, const void *target, void *value, void *gradient,
                   double scale, const double p[]) {
    for (int64_t i = 0; i < n; i++) {
        const double o = read_number(f64, output, i), t = smoothed(read_number(f64, target, i), p[0]);
        const double e = EXP(-ABS(o)), tail = LOG1P(e), larger = 1 / (1 + e), smaller = e * larger;
        double to_one, to_zero;
        const double one = p[1] * t * focal(MAX(-o, 0) + tail, p[2], &to_one);
        const double zero = (1 - t) * focal(MAX(o, 0) + tail, p[2], &to_zero);
        write_number(f64, value, i, 1, one + zero);
        to_one *= p[1] * t * (o < 0 ? larger : smaller);
        to_zero *= (1 - t) * (o < 0 ? smaller : larger);
        if (gradient)
            write_number(f64, gradient, i, scale, to_zero - to_one);
    }
}

double mbp_focal_cross_entropy(int f64, int64_t n, const void *o, const void *t, int64_t label, const double p[],
                               double scale, void *gradient) {
    const double s = p[0], beta = 1 / p[1];
    double others = 0, loss = 0, pull, pulls = 0;
    int64_t largest = 0;
    for (int64_t j = 1; j < n; j++)
        if (read_number(f64, o, j) > read_number(f64, o, largest))
            largest = j;
    const double max = read_number(f64, o, largest);
    for (int64_t j = 0; j < n; j++)
        others += j == largest ? 0 : EXP(beta * (read_number(f64, o, j) - max));
    const double log_sum = LOG1P(others);
    for (int pass = 0; pass < (gradient ? 2 : 1); pass++)
        for (int64_t j = 0; j < n; j++) {
            const double part = (1 - s) * (t ? read_number(f64, t, j) : j == label) + s / (double)n;
            const double minus_log = beta * (max - read_number(f64, o, j)) + log_sum;
            const double value = part == 0 ? pull = 0 : focal(minus_log, p[2], &pull);
            if (pass)
                write_number(f64, gradient, j, scale * beta, pulls * EXP(-minus_log) - part * pull);
            else {
                loss += part * value;
                pulls += part * pull;
            }
        }
    return loss;
}

#endif
