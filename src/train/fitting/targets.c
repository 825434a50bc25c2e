/* The mean and the standard deviation of targets, for outputs that learn from (target - mean) / std. */
#include <math.h>

#include "train/batch.h"
#include "train/fitting/standardize.h"

/* Column j of the targets of output i, over `count` rows, `room` at a time. value and weight have room for these. */
typedef struct column {
    const mbp_trainer *t;
    const mbp_batch *data;
    const int64_t *index;
    int64_t count, room;
    int i;
    int64_t j;
    double *value, *weight;
} column;

/* Whether the output's mean and std are to be set. */
static int is_unscaled(const mbp_trainer *t, int i) { return t->objective[i].weight != 0 && !mbp_scale_of(t->net, i); }

static int64_t widest(const mbp_trainer *t) {
    int64_t most = 0;
    for (int i = 0; i < t->net->outputs; i++)
        if (is_unscaled(t, i) && mbp_output_width(t->net, i) > most)
            most = mbp_output_width(t->net, i);
    return most;
}

int64_t mbp_target_numbers(const mbp_trainer *t, int64_t room) {
    const int64_t most = widest(t);
    return most ? 2 * most + 2 * room : 0;
}

mbp_status mbp_target_scales_check(const mbp_trainer *t, mbp_error *error) {
    if (!MICROBP_SCALES)
        return mbp_fail_extra(error, "mean and std of outputs", "scales");
    mbp_status status = MBP_OK;
    for (int i = 0; i < t->net->outputs && status == MBP_OK; i++) {
        const mbp_objective *objective = &t->objective[i];
        if (objective->loss.row < 0)
            return mbp_fail(error, MBP_INVALID, "how.standardize_targets: output %d has no loss", i);
        if (mbp_positions(&t->net->node[t->net->output[i].node]) > 1)
            return mbp_fail(error, MBP_UNSUPPORTED, "output %d has several positions, so it cannot have mean and std",
                            i);
        if (!mbp_objective_has_unit(objective))
            return mbp_fail(error, MBP_INVALID,
                            "how.standardize_targets needs losses whose targets may be any numbers, but the loss %s of "
                            "output %d needs values in %s; call mbp_net_set_scale for the other outputs",
                            mbp_formula_name(MBP_LOSS, objective->loss.row), i, mbp_objective_targets(objective));
        if (is_unscaled(t, i))
            status = mbp_objective_check_activation(t->net, i, objective, error);
    }
    return status;
}

/* ---- sums, whose rounding errors do not grow with the number of rows; Python's fit adds in the same order ---- */

enum { LEAF = 64 }; /* consecutive numbers are added to a leaf; then pairs of leaves, pairs of these sums, ... */

typedef struct tree {
    double at[64]; /* at[k]: the sum of 2^k leaves, if bit k of `leaves` is set */
    int64_t leaves;
    double leaf;
    int in_leaf;
} tree;

static void end_leaf(tree *t) {
    int level = 0;
    for (int64_t n = t->leaves++; n & 1; n >>= 1)
        t->leaf = t->at[level++] + t->leaf;
    t->at[level] = t->leaf;
    t->leaf = 0, t->in_leaf = 0;
}

static void add(tree *t, double number) {
    t->leaf += number;
    if (++t->in_leaf == LEAF)
        end_leaf(t);
}

static double sum_of(tree *t) {
    double sum = 0;
    if (t->in_leaf)
        end_leaf(t);
    for (int level = 0; t->leaves >> level; level++)
        if (t->leaves >> level & 1)
            sum = t->at[level] + sum;
    return sum;
}

/* ---- a column ---- */

typedef enum measurement { LARGEST, SUM, SQUARES } measurement;

/* Of the targets that are there, times `factor`: the largest absolute value (NaN if one is NaN), the sum, or the sum of
 * the squares of their differences to the mean. *there: how many there are. */
static mbp_status go_over(const column *c, measurement what, double factor, double mean, double *result, int64_t *there,
                          mbp_error *error) {
    mbp_batch_cursor from = {c->index, 0, c->count};
    mbp_chosen chosen;
    tree sum = {.leaves = 0};
    double most = 0;
    mbp_status status = MBP_OK;
    *there = 0;
    while (status == MBP_OK && from.at < c->count) {
        int64_t count = 0;
        status = mbp_rows_next(c->t, c->data, &from, c->room, &chosen, error);
        if (status == MBP_OK)
            status = mbp_target_column(c->t, c->data, c->i, c->j, &chosen.rows, c->value, c->weight, &count, error);
        for (int64_t r = 0; r < count; r++) {
            const double value = factor * c->value[r];
            if (what == LARGEST)
                most = fabs(value) > most || isnan(value) ? fabs(value) : most;
            else
                add(&sum, what == SUM ? value : (value - mean) * (value - mean));
        }
        *there += count;
    }
    *result = what == LARGEST ? most : sum_of(&sum);
    return status;
}

static mbp_status measure(const column *c, double *mean, double *std, mbp_error *error) {
    double most, squares = 0;
    int64_t there;
    *mean = 0, *std = 1;
    mbp_status status = go_over(c, LARGEST, 1, 0, &most, &there, error);
    if (status != MBP_OK || there == 0)
        return status;
    if (!isfinite(most))
        return mbp_fail(error, MBP_INVALID,
                        "how.standardize_targets: column %lld of the targets of output %d contains values that are not "
                        "finite",
                        (long long)c->j, c->i);
    /* Squares of larger numbers would overflow, and those of smaller ones underflow. A power of 2 changes no digit. */
    const double unit = most > 0x1p400 ? 0x1p600 : most < 0x1p-400 ? 0x1p-600 : 1;
    status = go_over(c, SUM, 1 / unit, 0, mean, &there, error);
    *mean /= (double)there;
    if (status == MBP_OK)
        status = go_over(c, SQUARES, 1 / unit, *mean, &squares, &there, error);
    *std = mbp_deviation(squares, *mean, (double)there, unit);
    *mean *= unit;
    return status;
}

mbp_status mbp_standardize_targets(const mbp_trainer *t, const mbp_batch *data, const int64_t *index, int64_t count,
                                   int64_t room, double *numbers, char *set, mbp_error *error) {
    const int64_t most = widest(t);
    double *mean = numbers, *std = numbers + most;
    column c = {t, data, index, count, room, 0, 0, std + most, std + most + room};
    mbp_error inner;
    mbp_status status = MBP_OK;
    for (c.i = 0; c.i < t->net->outputs && status == MBP_OK; c.i++) {
        const int64_t n = mbp_output_width(t->net, c.i), targets = t->objective[c.i].width;
        if (!is_unscaled(t, c.i))
            continue;
        for (c.j = 0; c.j < targets && status == MBP_OK; c.j++)
            status = measure(&c, &mean[c.j], &std[c.j], error);
        /* The second half of gaussian_nll are logarithms of variances. */
        const int is_log = mbp_formula_is(MBP_LOSS, t->objective[c.i].loss.row, "gaussian_nll");
        for (int64_t j = targets; j < n && status == MBP_OK; j++) {
            mean[j] = is_log ? 2 * log(std[j - targets]) : mean[j - targets];
            std[j] = is_log ? 1 : std[j - targets];
        }
        if (status == MBP_OK && mbp_net_set_scale(t->net, c.i, mean, std, &inner) != MBP_OK)
            status = mbp_fail(error, inner.status, "how.standardize_targets: output %d: %.200s", c.i, inner.text);
        set[c.i] = status == MBP_OK;
    }
    return status;
}
