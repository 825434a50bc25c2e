/* Floor 6: the statistics of standardize layers. */
#ifndef MBP_STANDARDIZE_H
#define MBP_STANDARDIZE_H

#include "net/workspace.h"

/* Whether there is a standardize layer that is not frozen, and whose statistics are still mean 0 and std 1. */
int mbp_has_unset(const mbp_net *net);
/* How many doubles mbp_standardize needs; 0: there is no standardize layer that it may set. */
int64_t mbp_standardize_numbers(const mbp_net *net);
/* Sets the statistics of all standardize layers that are not frozen, or only of those that are unset, from these rows
 * of x, which are checked (index NULL: the first `rows`). After an error, some may be set. The caller holds the net. */
mbp_status mbp_standardize(mbp_net *net, mbp_workspace *w, const mbp_array *x, const int64_t *index, int64_t rows,
                           int only_unset, double *numbers, mbp_error *error);

#endif
