/* Floor 1: functions of a row of n raw outputs o: softmax and cross-entropy.
 *
 * A row is read in blocks of 16; the last block is padded with -inf, whose exponential is 0. A sum has 16 partial sums,
 * with element j in number j % 16, and one fixed tree adds these: the order is the same for every vector width. */
#ifndef MBP_ROWS_H
#define MBP_ROWS_H

#include "formulas/focal.h"
#include "formulas/formulas.h"

enum { ROW_BLOCK = 16 };

/* Large functions that are compiled once, not at each call. */
#define ONCE static __attribute__((noinline, unused))

/* Copies n < limit elements in two pieces, which may overlap: a loop or a call takes longer for so few. limit: a
 * constant, at most ROW_BLOCK. */
static inline __attribute__((always_inline)) void copy_few(const int limit, int64_t n, const T *from, T *to) {
#define TWO_PIECES(size) \
    if (limit > (size) && n >= (size)) { \
        memcpy(to, from, (size) * sizeof(T)); \
        memcpy(to + n - (size), from + n - (size), (size) * sizeof(T)); \
        return; \
    }
#if MICROBP_SMALL
    (void)limit;
    memcpy(to, from, (size_t)n * sizeof(T));
#else
    TWO_PIECES(8)
    TWO_PIECES(4)
    TWO_PIECES(2)
    TWO_PIECES(1)
#endif
#undef TWO_PIECES
}

/* The block that starts at o, where n elements of the row are left: o itself, or a padded copy in `filled`. */
static inline const T *row_block(int64_t n, const T *o, T pad, T filled[ROW_BLOCK]) {
    if (n >= ROW_BLOCK)
        return o;
    for (int k = 0; k < ROW_BLOCK; k++)
        filled[k] = pad;
    copy_few(ROW_BLOCK, n, o, filled);
    return filled;
}

/* The same for losses that are rarer: not inlined. */
ONCE const T *row_block_0(int64_t n, const T *o, T filled[ROW_BLOCK]) { return row_block(n, o, 0, filled); }

/* Stores the part of a block that belongs to the row: n elements, or all 16. */
static inline void row_store(int64_t n, const T block[ROW_BLOCK], T *y) {
    if (n >= ROW_BLOCK)
        memcpy(y, block, ROW_BLOCK * sizeof(T));
    else
        copy_few(ROW_BLOCK, n, block, y);
}

/* The largest element of a row without NaN. (With a NaN, the sum of exponentials is NaN anyway.) */
ONCE T row_max(int64_t n, const T *o) {
    T filled[ROW_BLOCK], m[ROW_BLOCK];
    memcpy(m, row_block(n, o, -INF, filled), sizeof m);
    for (int64_t j = ROW_BLOCK; j < n; j += ROW_BLOCK) {
        const T *block = o + (j < n - ROW_BLOCK ? j : n - ROW_BLOCK);
        for (int k = 0; k < ROW_BLOCK; k++)
            m[k] = MAX(block[k], m[k]);
    }
    for (int k = 0; k < 8; k++)
        m[k] = MAX(m[k], m[k + 8]);
    for (int k = 0; k < 4; k++)
        m[k] = MAX(m[k], m[k + 4]);
    return MAX(MAX(m[0], m[2]), MAX(m[1], m[3]));
}

/* Adds 16 partial sums by one tree. */
static inline T row_sum(const T s[ROW_BLOCK]) {
    T t[8];
    for (int k = 0; k < 8; k++)
        t[k] = s[k] + s[k + 8];
    for (int k = 0; k < 4; k++)
        t[k] += t[k + 4];
    return (t[0] + t[2]) + (t[1] + t[3]);
}

/* The same in double. */
static inline double sum_lanes(const double s[ROW_BLOCK]) {
    double t[8];
    for (int k = 0; k < 8; k++)
        t[k] = s[k] + s[k + 8];
    for (int k = 0; k < 4; k++)
        t[k] += t[k + 4];
    return (t[0] + t[2]) + (t[1] + t[3]);
}

/* Returns the sum of e^(beta (o - max)), minus 1, and stores each term in y unless y is NULL; y may be o. Exponentials
 * that are 1 are counted and the others added, so that the result is precise if all but the largest are tiny. */
ONCE T row_exponentials(int64_t n, const T *o, T max, T beta, T *y) {
    T filled[ROW_BLOCK], e[ROW_BLOCK], ones[ROW_BLOCK] = {0}, others[ROW_BLOCK] = {0};
    for (int64_t j = 0; j < n; j += ROW_BLOCK) {
        const T *block = row_block(n - j, o + j, -INF, filled);
        for (int k = 0; k < ROW_BLOCK; k++)
            e[k] = EXP((block[k] - max) * beta);
        for (int k = 0; k < ROW_BLOCK; k++) {
            ones[k] += PICK(e[k] == 1, 1, 0);
            others[k] += PICK(e[k] == 1, 0, e[k]);
        }
        if (y)
            row_store(n - j, e, y + j);
    }
    return row_sum(ones) - 1 + row_sum(others);
}

/* y = softmax(o); y may be o. An output of -inf gets probability 0. If all outputs are -inf, or one is NaN or +inf, the
 * whole row is NaN. */
static inline void row_softmax(int64_t n, const T *o, T *y) {
    T sum = 1 + row_exponentials(n, o, row_max(n, o), 1, y);
    for (int64_t j = 0; j < n; j++)
        y[j] /= sum;
}

/* Returns the sum of t_j (log(sum of e^(beta o)) - beta o_j) and stores the sum of t_j in *mass. log_sum is the
 * logarithm after beta max has been subtracted. t NULL: every t_j is 1 / n. In double, because max - o of floats can
 * overflow a float. */
ONCE double row_expectation(int64_t n, const T *o, const T *t, double max, double beta, double log_sum, double *mass) {
    const double unit = t ? 1 : 1 / (double)n;
    double loss[ROW_BLOCK] = {0}, total[ROW_BLOCK] = {0};
    T outputs[ROW_BLOCK], targets[ROW_BLOCK];
    for (int64_t j = 0; j < n; j += ROW_BLOCK) {
        const T *a = row_block_0(n - j, o + j, outputs), *b = targets;
        if (t)
            b = row_block_0(n - j, t + j, targets);
        else
            for (int k = 0; k < ROW_BLOCK; k++)
                targets[k] = k < n - j;
        for (int k = 0; k < ROW_BLOCK; k++) {
            const double p = unit * (double)b[k];
            loss[k] += p == 0 ? 0 : p * (beta * (max - (double)a[k]) + log_sum);
            total[k] += p;
        }
    }
    *mass = sum_lanes(total);
    return sum_lanes(loss);
}

/* Adds label smoothing s to a row's loss (Szegedy et al. 2016, section 7): the targets get the weight 1 - s, and every
 * class gets s / n more. */
static inline double row_smoothed_loss(int64_t n, const T *o, T max, double beta, double log_sum, double s,
                                       double loss) {
    double mass;
    return s > 0 ? (1 - s) * loss + s * row_expectation(n, o, NULL, (double)max, beta, log_sum, &mass) : loss;
}

/* The loss of one row against the probabilities t or, if t is NULL, against the class `label`. p: label smoothing s,
 * the temperature 1 / beta, and gamma. gradient, unless NULL, gets scale times the derivative
 * beta (softmax(beta o) * sum(t) - t), where t is smoothed. */
static inline double row_cross_entropy(int64_t n, const T *o, const T *t, int64_t label, const double p[], double scale,
                                       T *gradient) {
    if (MICROBP_FOCAL && p[2] != 0)
        return mbp_focal_cross_entropy(sizeof(T) == sizeof(double), n, o, t, label, p, scale, gradient);
    const double s = p[0], beta = 1 / p[1];
    T max = row_max(n, o), excess = row_exponentials(n, o, max, (T)beta, gradient);
    double log_sum = (double)LOG1P(excess), mass = 1;
    double loss = t ? row_expectation(n, o, t, (double)max, beta, log_sum, &mass)
                    : beta * ((double)max - (double)o[label]) + log_sum;
    scale *= beta;
    if (gradient) {
        T factor = (T)(scale * ((1 - s) * mass + s) / (double)(1 + excess));
        T share = (T)(scale * (1 - s)), each = (T)(scale * s / (double)n);
        for (int64_t j = 0; j < n; j++)
            gradient[j] *= factor;
        if (t)
            for (int64_t j = 0; j < n; j++)
                gradient[j] -= share * t[j];
        else
            gradient[label] -= share;
        for (int64_t j = 0; s > 0 && j < n; j++)
            gradient[j] -= each;
    }
    return row_smoothed_loss(n, o, max, beta, log_sum, s, loss);
}

/* row_cross_entropy against labels, for `count` <= 16 rows of n <= 16 classes; the rows of o are `ld` elements apart.
 * It does the same operations in the same order with one row per lane, so that narrow rows fill the vectors too
 * (64 rows of 10 classes: 6.4 -> 1.9 microseconds). */
static inline void narrow_cross_entropy(int64_t n, int count, const T *o, int64_t ld, const int64_t label[],
                                        const double p[], const double scale[ROW_BLOCK], T *gradient,
                                        int64_t gradient_ld, double loss[]) {
    const double s = p[0], beta = 1 / p[1];
    T e[ROW_BLOCK][ROW_BLOCK], others[ROW_BLOCK][ROW_BLOCK];
    T m[ROW_BLOCK], ones[ROW_BLOCK] = {0}, factor[ROW_BLOCK], excess[ROW_BLOCK], log_sum[ROW_BLOCK];
    if (MICROBP_FOCAL && p[2] != 0) {
        for (int l = 0; l < count; l++)
            loss[l] = mbp_focal_cross_entropy(sizeof(T) == sizeof(double), n, o + l * ld, NULL, label[l], p, scale[l],
                                              gradient ? gradient + l * gradient_ld : NULL);
        return;
    }
    if (count < ROW_BLOCK)
        memset(e, 0, sizeof e);
    for (int l = 0; l < count; l++)
        for (int64_t k = 0; k < n; k++)
            e[k][l] = o[l * ld + k];
    memcpy(m, e[0], sizeof m);
    for (int64_t k = 1; k < n; k++)
        for (int l = 0; l < ROW_BLOCK; l++)
            m[l] = MAX(e[k][l], m[l]);
    for (int64_t k = 0; k < n; k++) {
        for (int l = 0; l < ROW_BLOCK; l++)
            e[k][l] = EXP((e[k][l] - m[l]) * (T)beta);
        for (int l = 0; l < ROW_BLOCK; l++) {
            ones[l] += PICK(e[k][l] == 1, 1, 0);
            others[k][l] = PICK(e[k][l] == 1, 0, e[k][l]);
        }
    }
    for (int half = ROW_BLOCK / 2; half; half /= 2)
        for (int k = 0; k < half && k + half < n; k++)
            for (int l = 0; l < ROW_BLOCK; l++)
                others[k][l] += others[k + half][l];
    for (int l = 0; l < ROW_BLOCK; l++) {
        excess[l] = ones[l] - 1 + others[0][l];
        log_sum[l] = LOG1P(excess[l]);
    }
    for (int l = 0; l < ROW_BLOCK; l++)
        factor[l] = (T)(beta * scale[l] * ((1 - s) + s) / (double)(1 + excess[l]));
    for (int l = 0; l < count; l++) {
        const double sharp = beta * ((double)m[l] - (double)o[l * ld + label[l]]) + (double)log_sum[l];
        loss[l] = row_smoothed_loss(n, o + l * ld, m[l], beta, (double)log_sum[l], s, sharp);
    }
    if (!gradient)
        return;
    for (int64_t k = 0; k < n; k++)
        for (int l = 0; l < ROW_BLOCK; l++)
            e[k][l] *= factor[l];
    for (int l = 0; l < count; l++) {
        T *const row = gradient + l * gradient_ld, each = (T)(beta * scale[l] * s / (double)n);
        for (int64_t k = 0; k < n; k++)
            row[k] = e[k][l];
        row[label[l]] -= (T)(beta * scale[l] * (1 - s));
        for (int64_t k = 0; s > 0 && k < n; k++)
            row[k] -= each;
    }
}

/* The sum of t log(t). */
ONCE double row_minus_entropy(int64_t n, const T *t) {
    T targets[ROW_BLOCK];
    double sum[ROW_BLOCK] = {0};
    for (int64_t j = 0; j < n; j += ROW_BLOCK) {
        const T *b = row_block_0(n - j, t + j, targets);
        for (int k = 0; k < ROW_BLOCK; k++)
            sum[k] += (double)(b[k] == 0 ? 0 : b[k] * LOG(b[k]));
    }
    return sum_lanes(sum);
}

/* Cross-entropy without smoothing, minus the entropy of the targets, which is 0 for a label. */
static const double SHARP[] = {0, 1, 0};
static inline double row_kl(int64_t n, const T *o, const T *t, int64_t label, const double p[], double scale,
                            T *gradient) {
    (void)p;
    return row_cross_entropy(n, o, t, label, SHARP, scale, gradient) + (t ? row_minus_entropy(n, t) : 0);
}
static inline void narrow_kl(int64_t n, int count, const T *o, int64_t ld, const int64_t label[], const double p[],
                             const double scale[ROW_BLOCK], T *gradient, int64_t gradient_ld, double loss[]) {
    (void)p;
    narrow_cross_entropy(n, count, o, ld, label, SHARP, scale, gradient, gradient_ld, loss);
}

/* The mean of (v + d^2 e^-v) / 2 over n / 2 targets t: o has their means, then their log-variances v. */
static inline double row_gaussian_nll(int64_t n, const T *o, const T *t, int64_t label, const double p[], double scale,
                                      T *gradient) {
    const int64_t targets = n / 2;
    const T share = (T)(scale / (double)targets);
    T mean[ROW_BLOCK], log_variance[ROW_BLOCK], target[ROW_BLOCK], to_mean[ROW_BLOCK], to_log_variance[ROW_BLOCK];
    double sum[ROW_BLOCK] = {0};
    (void)label, (void)p;
    for (int64_t j = 0; j < targets; j += ROW_BLOCK) {
        const T *m = row_block_0(targets - j, o + j, mean), *y = row_block_0(targets - j, t + j, target);
        const T *v = row_block_0(targets - j, o + targets + j, log_variance);
        for (int k = 0; k < ROW_BLOCK; k++) {
            const T d = m[k] - y[k], slope = d * EXP(-v[k]), square = d * slope;
            sum[k] += (double)((v[k] + square) / 2);
            to_mean[k] = share * slope;
            to_log_variance[k] = share * ((1 - square) / 2);
        }
        if (gradient) {
            row_store(targets - j, to_mean, gradient + j);
            row_store(targets - j, to_log_variance, gradient + targets + j);
        }
    }
    return sum_lanes(sum) / (double)targets;
}
/* Where the narrow function would be, of a loss that has no labels. */
static inline void no_labels(int64_t n, int count, const T *o, int64_t ld, const int64_t label[], const double p[],
                             const double scale[ROW_BLOCK], T *gradient, int64_t gradient_ld, double loss[]) {
    (void)n, (void)o, (void)ld, (void)label, (void)p, (void)scale, (void)gradient, (void)gradient_ld;
    for (int l = 0; l < count; l++)
        loss[l] = (double)NOT_A_NUMBER;
}

#endif
