/* Floor 1: what an optimizer keeps from step to step besides its slots. */
#ifndef MBP_RUNNING_H
#define MBP_RUNNING_H

#include <stdint.h>

typedef struct mbp_running {
    int64_t steps;          /* updates made; while the constants of a step are prepared, this step is counted too */
    double power[2];        /* running products, such as beta1^t and beta2^t */
    double loss, last_loss; /* of the current gradients, and of those of the last update; NaN: unknown */
} mbp_running;

/* What a step without a gradient does to a parameter p and its slots. */
typedef enum mbp_idle_kind {
    MBP_IDLE_UNKNOWN, /* no formula is known for many such steps */
    MBP_IDLE_DECAYS,  /* the same, because of weight decay */
    MBP_IDLE_STILL,   /* nothing */
    MBP_IDLE_SCALED,  /* p becomes p[0] p, and a slot `others` times the slot */
    MBP_IDLE_LINEAR,  /* p becomes p[0] p + p[1] s, and s, the slot number `slot`, s[0] p + s[1] s; others as above */
    MBP_IDLE_REPEATED /* many such steps are the same as the last of them */
} mbp_idle_kind;

typedef struct mbp_idle {
    mbp_idle_kind kind;
    int slot;
    double p[2], s[2], others;
} mbp_idle;

#endif
