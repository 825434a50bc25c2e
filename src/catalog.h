/* Floor 2: what the rows of formulas.def say, as data: names, parameters, and the few facts that are not arithmetic on data. */
#ifndef MBP_CATALOG_H
#define MBP_CATALOG_H

#include "kernels.h"
#include "text.h"

typedef struct mbp_formula {
    int row; /* in the enumeration of its kind */
    double parameters[MBP_PARAMETERS_MAX];
} mbp_formula;

/* The row that a spec names, with its parameters. */
mbp_status mbp_formula_parse(mbp_kind kind, mbp_slice spec, mbp_formula *formula, mbp_error *error);
/* Writes the spec with all its parameters; returns its length. text has room for MBP_SPEC_SIZE. */
enum { MBP_SPEC_SIZE = 64 + MBP_PARAMETERS_MAX * (32 + MBP_NUMBER_SIZE) };
size_t mbp_formula_print(mbp_kind kind, const mbp_formula *formula, char *text);

int mbp_activation_keeps_z(int activation);            /* backward reads z, not y */
int mbp_activation_initialiser(int activation);        /* the row that suits it */
int mbp_loss_link(int loss);
const char *mbp_loss_targets(int loss);                /* "[0,1]", "SIGNS", "LABELS" */

typedef enum mbp_distribution { KEEP, UNIFORM, NORMAL } mbp_distribution;
/* Standard deviation (NORMAL) or half width (UNIFORM) for a weight (in, out). */
mbp_distribution mbp_initialiser_scale(const mbp_formula *initialiser, double in, double out, double *scale);

int mbp_optimizer_slots(int optimizer);
/* What the i-th slot is filled with at the start. */
double mbp_optimizer_slot_start(int optimizer, int i, const double *parameters);
/* The position of weight_decay; decay_bias, which every optimizer has, comes right after its row's parameters. */
int mbp_optimizer_decay(int optimizer);
int mbp_optimizer_decay_bias(int optimizer);
/* Whether weight decay is taken off the parameters instead of added to the gradient. */
int mbp_optimizer_decouples(int optimizer);
/* Begins a step: counts it, and multiplies the running products. */
void mbp_optimizer_advance(int optimizer, const double *parameters, mbp_running *running);
/* The step's constants from the parameters and what runs along. */
void mbp_optimizer_prepare(int optimizer, const double *parameters, const mbp_running *running, double constants[MBP_CONSTANTS_MAX]);

#endif
