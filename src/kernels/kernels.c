/* Floor 2: one table of kernels. This file is compiled once for each ISA (MBP_ISA and the compiler's flags) and each
 * dtype (MBP_DOUBLE or not). It exports one or two tables, mbp_kernels_<isa>_<dtype>. All else is static, so that no
 * function compiled for one ISA is linked into the kernels of another that its processor may lack. */
#include "kernels/kernels.h"

#include <string.h>

#include "formulas/optimizers.h"
#include "formulas/rows.h"

/* The parts of this file. Each may use those above it. */
#include "kernels/vector.h"

#include "kernels/elementwise.h"
#include "kernels/sums.h"
#include "kernels/products/tile.h"
#include "kernels/products/pack.h"
#include "kernels/products/rules.h"
#include "kernels/products/single.h"
#include "kernels/products/direct.h"
#include "kernels/products/product.h"
#if MICROBP_SPARSE
#include "kernels/products/sparse_product.h"
#endif
#include "kernels/norm.h"
#if MICROBP_TRAINING && MICROBP_SMALL
#include "kernels/losses_small.h"
#endif
#if MICROBP_TRAINING && !MICROBP_SMALL
#include "kernels/losses.h"
#endif
#if MICROBP_TRAINING && !BORROWS
#include "kernels/updates.h"
#endif
#if MICROBP_TRAINING
#include "kernels/dropout.h"
#endif

#define STRING_(x) #x
#define STRING(x) STRING_(x)

#if MICROBP_TRAINING
#define TRAINING JOIN(mbp_training_, LENDER, DTYPE_NAME)
extern const mbp_training_kernels TRAINING;
#endif
#if MICROBP_TRAINING && !BORROWS
const mbp_training_kernels TRAINING = {
#define LOSS(name, ...) .loss[LOSS_##name] = loss_##name,
#define TRUST_OPTIMIZER(name, ...) .measure[OPTIMIZER_##name] = measure_##name,
#include "formulas/formulas.def"
    .update = update,
#if MICROBP_SPARSE
    .combine = combine,
#endif
    .norm_columns = norm_columns,
    .norm_follow = norm_follow,
    .norm_sums = norm_sums,
    .norm_backward = norm_backward,
};
#endif

extern const mbp_kernels VARIANT_NAME(mbp_kernels_, DTYPE_NAME);
const mbp_kernels VARIANT_NAME(mbp_kernels_, DTYPE_NAME) = {
    .isa = STRING(MBP_ISA),
    .dtype = sizeof(T) == sizeof(float) ? MBP_F32 : MBP_F64,
    .product_scratch = product_scratch,
    .product_pieces = product_pieces,
    .product_run = product_run,
#if MICROBP_SPARSE
    .sparse_product = sparse_product,
#endif
    .map = map_rows,
    .binary = binary_rows,
#define ACTIVATION(name, ...) .forward[ACTIVATION_##name] = forward_##name,
#define OUTPUT_ACTIVATION(name, ...) .output[OUTPUT_ACTIVATION_##name] = output_##name,
#define ROW_OUTPUT_ACTIVATION(name, ...) .output[OUTPUT_ACTIVATION_##name] = output_##name,
#include "formulas/formulas.def"
    .copy = forward_identity,
    .add = (mbp_binary)add,
    .subtract = (mbp_binary)subtract,
    .multiply = (mbp_binary)multiply,
    .divide = (mbp_binary)divide,
    .norm_fixed = norm_fixed,
    .norm_rows = norm_rows,
    .norm_apply = norm_apply,
#if MICROBP_TRAINING
#define ACTIVATION(name, ...) .backward[ACTIVATION_##name] = backward_##name,
#define ROW_LOSS(name, ...) .row_loss[LOSS_##name] = loss_##name,
#include "formulas/formulas.def"
    .training = &TRAINING,
    .accumulate = accumulate,
    .negate = negate,
    .accumulate_product = (mbp_binary)accumulate_product,
    .penalize = penalize,
    .mix = mix,
    .dropout = dropout,
    .accumulate_dropout = accumulate_dropout,
    .noise = JOIN(mbp_noise_, LENDER, DTYPE_NAME),
    .finite = all_finite,
    .sum_squares = sum_squares,
    .limit_columns = limit_columns,
#endif
};
