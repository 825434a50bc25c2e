/* Floor 7: the update of the parameters from the gradients. */
#ifndef MBP_UPDATE_H
#define MBP_UPDATE_H

#include "train/trainer.h"

/* Fails with MBP_NONFINITE; the error names the first layer that has a gradient that is not finite. */
mbp_status mbp_nonfinite_fail(const mbp_trainer *t, mbp_error *error);
/* The same if a gradient of a layer that is trained is not finite. */
mbp_status mbp_gradients_check(const mbp_trainer *t, mbp_error *error);
/* The sum of the layers' penalties, l1 |w|_1 + l2 / 2 |w|_2^2, of which the planned backward pass adds the gradient. */
double mbp_penalties(const mbp_trainer *t);
/* Updates the parameters, slots, running statistics and average. All gradients must be finite. */
void mbp_update_pass(mbp_trainer *t);

#endif
