/* Floor 1: what an optimizer keeps from step to step besides its slots. */
#ifndef MBP_RUNNING_H
#define MBP_RUNNING_H

#include <stdint.h>

typedef struct mbp_running {
    int64_t steps;          /* updates made; while the constants of a step are prepared, this step is counted too */
    double power[2];        /* running products, such as beta1^t and beta2^t */
    double loss, last_loss; /* of the current gradients, and of those of the last update; NaN: unknown */
} mbp_running;

#endif
