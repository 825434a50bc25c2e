/* Floor 2: one table of kernels. This file is compiled once for each ISA (MBP_ISA and the compiler's flags) and each
 * dtype (MBP_DOUBLE or not). It exports one symbol, mbp_kernels_<isa>_<dtype>. All else is static, so that no function
 * compiled for one ISA can be linked into the kernels of another. */
#include "kernels/kernels.h"

#include <string.h>

#include "formulas/optimizers.h"
#include "formulas/rows.h"

/* The parts of this file. Each may use those above it. */
#include "kernels/vector.h"

#include "kernels/elementwise.h"
#include "kernels/sums.h"
#include "kernels/losses.h"
#include "kernels/tile.h"
#include "kernels/pack.h"
#include "kernels/product.h"
#include "kernels/updates.h"
#include "kernels/dropout.h"
#include "kernels/norm.h"

#define JOIN_(a, b, c) a##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define STRING_(x) #x
#define STRING(x) STRING_(x)
#ifdef MBP_DOUBLE
#define DTYPE_NAME f64
#else
#define DTYPE_NAME f32
#endif

extern const mbp_kernels JOIN(mbp_kernels_, MBP_ISA, DTYPE_NAME);
const mbp_kernels JOIN(mbp_kernels_, MBP_ISA, DTYPE_NAME) = {
    .isa = STRING(MBP_ISA),
    .dtype = sizeof(T) == sizeof(float) ? MBP_F32 : MBP_F64,
    .pack = PACK_BYTES,
    .product_pieces = product_pieces,
    .product_run = product_run,
#define ACTIVATION(name, ...) \
    .forward[ACTIVATION_##name] = forward_##name, .backward[ACTIVATION_##name] = backward_##name,
#define OUTPUT_ACTIVATION(name, ...) .output[OUTPUT_ACTIVATION_##name] = output_##name,
#define ROW_OUTPUT_ACTIVATION(name, ...) .output[OUTPUT_ACTIVATION_##name] = output_##name,
#define LOSS(name, ...) .loss[LOSS_##name] = loss_##name,
#define ROW_LOSS(name, ...) .loss[LOSS_##name] = loss_##name,
#define OPTIMIZER(name, ...) .update[OPTIMIZER_##name] = update_##name,
#define TRUST_OPTIMIZER(name, ...) \
    .update[OPTIMIZER_##name] = update_##name, .measure[OPTIMIZER_##name] = measure_##name,
#include "formulas/formulas.def"
    .copy = copy,
    .accumulate = accumulate,
    .penalize = penalize,
    .mix = mix,
    .dropout = dropout,
    .accumulate_dropout = accumulate_dropout,
#ifdef MBP_DOUBLE
    .noise = {[MBP_F32] = noise_f32, [MBP_F64] = noise_f64},
#endif
    .norm_columns = norm_columns,
    .norm_fixed = norm_fixed,
    .norm_follow = norm_follow,
    .norm_sums = norm_sums,
    .norm_rows = norm_rows,
    .norm_apply = norm_apply,
    .norm_backward = norm_backward,
    .add = add,
    .multiply = multiply,
    .accumulate_product = accumulate_product,
    .finite = all_finite,
    .sum_squares = sum_squares,
    .limit_columns = limit_columns,
};
