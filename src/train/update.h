/* Floor 5: the update of the parameters from the gradients. */
#ifndef MBP_UPDATE_H
#define MBP_UPDATE_H

#include "train/trainer.h"

/* Fails with MBP_NONFINITE; the error names the first layer that has a gradient that is not finite. */
mbp_status mbp_nonfinite_fail(const mbp_trainer *t, mbp_error *error);
/* The same if a gradient of a layer that is trained is not finite. */
mbp_status mbp_gradients_check(const mbp_trainer *t, mbp_error *error);
/* Updates the parameters, slots, running statistics and average. All gradients must be finite. */
void mbp_update_pass(mbp_trainer *t);

#endif
