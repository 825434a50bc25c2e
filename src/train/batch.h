/* Floor 7: checks the caller's batch and loads its targets and row weights into the workspace. */
#ifndef MBP_BATCH_H
#define MBP_BATCH_H

#include "arrays/array.h"
#include "system/text.h"
#include "train/trainer.h"

/* Reads the caller's structure into *batch and checks it. *rows: the number of rows, which may be 0. */
mbp_status mbp_batch_check(const mbp_trainer *trainer, const mbp_batch *given, mbp_batch *batch, int64_t *rows,
                           mbp_error *error);

/* Whether recurrent nodes go on from a state: then all rows go on, also those without weights or targets. */
static inline int mbp_goes_on(const mbp_batch *batch) { return MICROBP_POSITIONS && batch->state; }

/* For a call that trains or measures batch after batch. */
static inline mbp_status mbp_batch_refuse_state(const mbp_batch *batch, mbp_error *error) {
    if (!mbp_goes_on(batch))
        return MBP_OK;
    return mbp_fail(error, MBP_UNSUPPORTED,
                    "state is for one batch: call mbp_trainer_step or mbp_trainer_evaluate for each batch");
}

/* MBP_WEIGHTS if the outputs have weights of their own in this batch, because of element weights or missing targets;
 * with lengths also MBP_LENGTHS; else 0. */
static inline int mbp_batch_needs(const mbp_trainer *t, const mbp_batch *batch) {
    if (!MICROBP_GAPS)
        return 0;
    if (MICROBP_POSITIONS && batch->lengths)
        return MBP_WEIGHTS | MBP_LENGTHS;
    return batch->element_weights || (mbp_goes_on(batch) && batch->weight) ? MBP_WEIGHTS : t->missing;
}

/* The rows that are still to be read: the numbers index[at] to index[end - 1]; if index is NULL, at to end - 1. */
typedef struct mbp_batch_cursor {
    const int64_t *index;
    int64_t at, end;
} mbp_batch_cursor;

/* Rows of a batch, and the sum of their weights, which are in the workspace. */
typedef struct mbp_chosen {
    mbp_selection rows;
    double total;
} mbp_chosen;

/* Chooses the next rows that are there, which are those with a weight above 0 in an output whose loss weight is not 0:
 * at most `limit`, for which the workspace must have room. Reads each row number and each row's weight once, checks it,
 * and keeps it in the workspace, because another thread may change the caller's arrays at any time. Element weights are
 * read again by mbp_targets_load, which checks them again. Sets mbp_workspace.valid for these rows. */
mbp_status mbp_rows_next(const mbp_trainer *t, const mbp_batch *batch, mbp_batch_cursor *from, int64_t limit,
                         mbp_chosen *chosen, mbp_error *error);
/* Refuses to go on with no rows, or if the sum of their weights is not positive or not finite. given: the number of
 * rows before those of weight 0 were left out. */
mbp_status mbp_total_check(int64_t given, int64_t rows, double total, mbp_error *error);
/* Reads column j of the i-th output's targets, those that are there, of rows that mbp_rows_next has chosen. *count: how
 * many. value and weight have room for these rows. */
mbp_status mbp_target_column(const mbp_trainer *t, const mbp_batch *batch, int i, int64_t j, const mbp_selection *rows,
                             double *value, double *weight, int64_t *count, mbp_error *error);
/* Loads the targets or labels of the selected rows, and checks their values. Those of an output whose loss weight is 0,
 * and elements of weight 0, are not read. Loads the weights of outputs that have their own, and sets their totals. */
mbp_status mbp_targets_load(const mbp_trainer *trainer, const mbp_batch *batch, const mbp_selection *rows,
                            mbp_error *error);

#endif
