/* Floor 2: the rows of formulas.def as data: names, parameters, and the few facts that are not loops over arrays. */
#ifndef MBP_CATALOG_H
#define MBP_CATALOG_H

#include "kernels/kernels.h"
#include "system/spec.h"

typedef struct mbp_formula {
    int row; /* its position in the enumeration of its kind (kernels.h) */
    double parameters[MBP_PARAMETERS_MAX];
} mbp_formula;

/* Reads a spec: the row that it names, and its parameters. */
mbp_status mbp_formula_parse(mbp_kind kind, mbp_slice spec, mbp_formula *formula, mbp_error *error);
/* Writes the spec with all its parameters; returns its length. text has room for MBP_SPEC_SIZE bytes. */
enum { MBP_SPEC_SIZE = 64 + MBP_PARAMETERS_MAX * (32 + MBP_NUMBER_SIZE) };
size_t mbp_formula_print(mbp_kind kind, const mbp_formula *formula, char *text);

/* Whether a row has this name. Code that names formulas asks so, because a build may leave them out. */
int mbp_formula_is(mbp_kind kind, int i, const char *name);

int mbp_activation_keeps_z(int activation); /* 1: backward reads z; 0: it reads y */
int mbp_loss_activation(int loss);          /* the output activation that it implies */
const char *mbp_loss_targets(int loss);     /* an interval like "[0,1]", or "SIGNS" or "LABELS" */
int mbp_loss_is_mean(int loss);             /* a row's loss is the mean over its columns, not a sum */
/* Whether targets may be missing: a parameter that every loss has, after those of its row. */
int mbp_loss_missing(const mbp_formula *loss);
/* mbp_formula_parse for a loss, some of whose parameters may be lists. */
mbp_status mbp_loss_parse(mbp_slice spec, mbp_formula *loss, mbp_lists *lists, mbp_error *error);
/* Whether the numbers in the list of parameter i are for the columns of a target, not for those of the output. */
int mbp_loss_shares(int loss, int i);
/* Checks the number of columns of an output. *targets: the number of its targets. */
mbp_status mbp_loss_width(const mbp_formula *loss, const mbp_lists *lists, int64_t columns, int64_t *targets,
                          mbp_error *error);

/* The initializers that "auto" chooses for the weight and the bias of a layer with this activation. */
int mbp_activation_initializer(int activation);
int mbp_activation_bias_initializer(int activation);

typedef enum mbp_distribution { KEEP, UNIFORM, NORMAL, ORTHOGONAL } mbp_distribution;
/* Returns the distribution of the weights or biases of a layer (in, out). *scale: the standard deviation (NORMAL) or
 * half the width of the interval (UNIFORM), or the factor of the matrix (ORTHOGONAL). KEEP: they stay as they are. */
mbp_distribution mbp_initializer_scale(const mbp_formula *initializer, double in, double out, double *scale);

int mbp_optimizer_slots(int optimizer);
/* The start value of the i-th slot's elements. */
double mbp_optimizer_slot_start(int optimizer, int i, const double *parameters);
/* The positions of weight_decay and decay_bias. Every optimizer has decay_bias, after the parameters of its row. */
int mbp_optimizer_decay(int optimizer);
int mbp_optimizer_decay_bias(int optimizer);
/* Whether weight decay is subtracted from the parameters instead of added to the gradient. */
int mbp_optimizer_decouples(int optimizer);
/* Starts a step: adds 1 to the step count and updates the running products. */
void mbp_optimizer_advance(int optimizer, const double *parameters, mbp_running *running);
/* Computes the constants of the step from the parameters and the running values. */
void mbp_optimizer_prepare(int optimizer, const double *parameters, const mbp_running *running,
                           double constants[MBP_CONSTANTS_MAX]);
/* What a step with these parameters does where there is no gradient. decay: that at mbp_optimizer_decay. */
mbp_idle mbp_optimizer_idle(int optimizer, const double *parameters, double decay);

#endif
