/* Floor 5: checks the caller's batch and loads its targets and row weights into the workspace. */
#ifndef MBP_BATCH_H
#define MBP_BATCH_H

#include "passes/array.h"
#include "train/trainer.h"

/* Reads the caller's structure into *batch and checks it. *rows: the number of rows. */
mbp_status mbp_batch_check(const mbp_trainer *trainer, const mbp_batch *given, mbp_batch *batch, int64_t *rows,
                           mbp_error *error);
/* Loads the targets or labels, and the row weights, of the selected rows, and checks their values. *total: the sum of
 * the weights. */
mbp_status mbp_targets_load(const mbp_trainer *trainer, const mbp_batch *batch, mbp_selection rows, double *total,
                            mbp_error *error);
/* Refuses a sum of row weights that is not positive or not finite. */
mbp_status mbp_total_check(double total, mbp_error *error);

#endif
