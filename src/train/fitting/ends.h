/* Floor 9: what ends a fit besides its number of epochs. */
#ifndef MBP_ENDS_H
#define MBP_ENDS_H

#include "train/trainer.h"

mbp_status mbp_ends_check(const mbp_trainer *t, const mbp_fit *how, mbp_error *error);
/* What an epoch has reached, as mbp_record.reason; NULL: nothing. steps: the trainer's before it. */
const char *mbp_ends_reached(const mbp_trainer *t, const mbp_fit *how, double loss, int64_t steps);
/* Whether how->max_time has passed since `start`, which mbp_ends_start returned. */
int64_t mbp_ends_start(const mbp_fit *how);
int mbp_ends_late(const mbp_fit *how, int64_t start);

#endif
