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
        if (is_unscaled(t, i) && mbp_net_output_width(t->net, i) > most)
            most = mbp_net_output_width(t->net, i);
    return most;
}

int64_t mbp_target_numbers(const mbp_trainer *t, int64_t room) {
    const int64_t most = widest(t);
    return most ? 2 * most + 2 * room : 0;
}

mbp_status mbp_target_scales_check(const mbp_trainer *t, mbp_error *error) {
    for (int i = 0; i < t->net->outputs; i++)
        if (!mbp_objective_has_unit(&t->objective[i]))
            return mbp_fail(error, MBP_INVALID,
                            "how.standardize_targets works with losses of any numbers, but the targets of %s (output "
                            "%d) have no unit; call mbp_net_set_scale for the other outputs",
                            mbp_formula_name(MBP_LOSS, t->objective[i].loss.row), i);
    return MBP_OK;
}

/* Adds the targets that are there, or the squares of their differences to the mean. */
static mbp_status add(const column *c, double mean, int squares, double *sum, int64_t *there, mbp_error *error) {
    mbp_batch_cursor from = {c->index, 0, c->count};
    mbp_chosen chosen;
    mbp_status status = MBP_OK;
    *sum = 0, *there = 0;
    while (status == MBP_OK && from.at < c->count) {
        int64_t count = 0;
        status = mbp_rows_next(c->t, c->data, &from, c->room, &chosen, error);
        if (status == MBP_OK)
            status = mbp_target_column(c->t, c->data, c->i, c->j, &chosen.rows, c->value, c->weight, &count, error);
        for (int64_t r = 0; r < count; r++)
            *sum += squares ? (c->value[r] - mean) * (c->value[r] - mean) : c->value[r];
        *there += count;
    }
    return status;
}

static mbp_status measure(const column *c, double *mean, double *std, mbp_error *error) {
    double sum, squares;
    int64_t there;
    *mean = 0, *std = 1;
    mbp_status status = add(c, 0, 0, &sum, &there, error);
    if (status != MBP_OK || there == 0)
        return status;
    *mean = sum / (double)there;
    status = add(c, *mean, 1, &squares, &there, error);
    if (status == MBP_OK && !(isfinite(sum) && isfinite(squares)))
        return mbp_fail(error, MBP_INVALID,
                        "how.standardize_targets: column %lld of the targets of output %d contains values that are not "
                        "finite",
                        (long long)c->j, c->i);
    *std = mbp_deviation(squares, *mean, (double)there);
    return status;
}

mbp_status mbp_standardize_targets(const mbp_trainer *t, const mbp_batch *data, const int64_t *index, int64_t count,
                                   int64_t room, double *numbers, char *set, mbp_error *error) {
    const int64_t most = widest(t);
    double *mean = numbers, *std = numbers + most;
    column c = {t, data, index, count, room, 0, 0, std + most, std + most + room};
    mbp_status status = MBP_OK;
    for (c.i = 0; c.i < t->net->outputs && status == MBP_OK; c.i++) {
        const int64_t n = mbp_net_output_width(t->net, c.i), targets = t->objective[c.i].width;
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
        if (status == MBP_OK)
            status = mbp_net_set_scale(t->net, c.i, mean, std, error);
        set[c.i] = status == MBP_OK;
    }
    return status;
}
