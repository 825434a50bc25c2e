/* Floor 8: steps on the own rows of several processes, and the means after every few of them. */
#ifndef MBP_MEANS_H
#define MBP_MEANS_H

#include "train/loss.h"
#include "train/steps/step.h"

/* Counts a step in which this process has no rows. */
void mbp_means_count(mbp_trainer *t);
/* After a step, or one that has failed with `status`: takes the means if it is time, or tells the others. */
mbp_status mbp_means_step(mbp_trainer *t, mbp_status status, mbp_error *error);
/* After an epoch: takes the means if the last step did not. *mean and the losses of the outputs: those of all
 * processes. */
mbp_status mbp_means_epoch(mbp_trainer *t, mbp_mean *mean, mbp_error *error);

#endif
