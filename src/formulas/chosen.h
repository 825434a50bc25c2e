/* Floor 1: which rows of formulas.def this build has: all, or, if MICROBP_FORMULAS is 1, those whose macro
 * MICROBP_HAS_name is 1, and the rows that these need. */
#ifndef MBP_CHOSEN_H
#define MBP_CHOSEN_H

#include "config/config.h"

#if MICROBP_FORMULAS

/* Every net may have a layer without an activation, and its initial weights. */
#define MBP_NEEDS_ACTIVATION_identity 1
#define MBP_NEEDS_OUTPUT_ACTIVATION_identity 1
#define MBP_NEEDS_INITIALIZER_glorot_uniform 1
#define MBP_NEEDS_INITIALIZER_zeros 1
#if MICROBP_POSITIONS /* recurrent layers: their gates, and the initial weights of h */
#define MBP_NEEDS_ACTIVATION_sigmoid 1
#define MBP_NEEDS_ACTIVATION_tanh 1
#define MBP_NEEDS_INITIALIZER_orthogonal 1
#endif

/* What init=auto and bias_init=auto choose for an activation. */
#if MICROBP_HAS_silu || MICROBP_HAS_mish
#define MBP_NEEDS_INITIALIZER_lecun_normal 1
#endif
#if MICROBP_HAS_softplus || MICROBP_HAS_sigmoid || MICROBP_HAS_hard_sigmoid || MICROBP_POSITIONS
#define MBP_NEEDS_INITIALIZER_he_normal 1
#endif
#if MBP_NEEDS_INITIALIZER_lecun_normal || MBP_NEEDS_INITIALIZER_he_normal || MICROBP_HAS_tanh || \
    MICROBP_HAS_scaled_tanh || MICROBP_HAS_square || MICROBP_HAS_exp || MICROBP_HAS_sin || MICROBP_HAS_cos
#define MBP_NEEDS_INITIALIZER_fan_in_uniform 1
#endif

/* The output activation that a loss implies. */
#if MICROBP_HAS_poisson
#define MBP_NEEDS_OUTPUT_ACTIVATION_exp 1
#endif
#if MICROBP_HAS_bce
#define MBP_NEEDS_OUTPUT_ACTIVATION_sigmoid 1
#endif
#if MICROBP_HAS_cross_entropy || MICROBP_HAS_kl
#define MBP_NEEDS_ROW_OUTPUT_ACTIVATION_softmax 1
#endif

/* Whether normal numbers are drawn: by an initializer, or by noise. */
#if MICROBP_TRAINING || MICROBP_POSITIONS || MBP_NEEDS_INITIALIZER_lecun_normal || MBP_NEEDS_INITIALIZER_he_normal || \
    MICROBP_HAS_normal || MICROBP_HAS_glorot_normal || MICROBP_HAS_he_normal || MICROBP_HAS_lecun_normal
#define MBP_NORMALS 1
#else
#define MBP_NORMALS 0
#endif

#define ROW(kind, name, ...) MBP_EITHER(MICROBP_HAS_##name, MBP_NEEDS_##kind##_##name)(kind, name, __VA_ARGS__)

#else
#define MBP_NORMALS 1
#define ROW(kind, ...) kind(__VA_ARGS__)
#endif

#endif
