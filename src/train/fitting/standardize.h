/* Floor 9: the statistics of standardize layers, and the scales of targets. */
#ifndef MBP_STANDARDIZE_H
#define MBP_STANDARDIZE_H

#include "train/trainer.h"

/* Whether there is a standardize layer that is not frozen, and whose statistics are still mean 0 and std 1. */
int mbp_has_unset(const mbp_net *net);
/* How many doubles mbp_standardize needs; 0: there is no standardize layer that it may set. */
int64_t mbp_standardize_numbers(const mbp_net *net);
/* Sets the statistics of all standardize layers that are not frozen, or only of those that are unset, from these rows
 * of x, which are checked (index NULL: the first `rows`). After an error, some may be set. The caller holds the net. */
mbp_status mbp_standardize(mbp_net *net, mbp_workspace *w, const mbp_array *x, const int64_t *index, int64_t rows,
                           int only_unset, double *numbers, mbp_error *error);
/* The standard deviation from a sum of squares, of values that were divided by `unit`, as their mean: 1 for a column
 * whose values differ by rounding errors only. */
double mbp_deviation(double squares, double mean, double rows, double unit);

/* Refuses losses and output activations that cannot learn from scaled targets. */
mbp_status mbp_target_scales_check(const mbp_trainer *t, mbp_error *error);
/* How many doubles mbp_standardize_targets needs, with room for `room` rows; 0: every output has its mean and std. */
int64_t mbp_target_numbers(const mbp_trainer *t, int64_t room);
/* Sets the mean and std of each output that has none, from the targets that are there in these rows of a checked batch.
 * set: a char per output, which becomes 1 if they were set, also after an error. The workspace has room for `room`
 * rows; the caller holds the net. */
mbp_status mbp_standardize_targets(const mbp_trainer *t, const mbp_batch *data, const int64_t *index, int64_t count,
                                   int64_t room, double *numbers, char *set, mbp_error *error);

#endif
