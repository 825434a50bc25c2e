/* Floor 1: what the formulas compute, as texts. They are in a file of their own, so that a program that does not ask
 * for them is linked without them. */
#include "microbp.h"

#define ACTIVATION(name, keep, initializer, bias_initializer, parameters, meaning, ...) meaning,
static const char *const activations[] = {
#include "formulas/formulas.def"
    NULL};
#define LOSS(name, activation, targets, columns, reduction, parameters, meaning, ...) meaning,
#define ROW_LOSS(name, activation, targets, columns, parameters, meaning, ...) meaning,
static const char *const losses[] = {
#include "formulas/formulas.def"
    NULL};
#define OPTIMIZER(name, slots, parameters, meaning, ...) meaning,
#define TRUST_OPTIMIZER OPTIMIZER
static const char *const optimizers[] = {
#include "formulas/formulas.def"
    NULL};
#define SOLVER(name, parameters, numbers, meaning) meaning,
static const char *const solvers[] = {
#include "formulas/formulas.def"
    NULL};
#define INITIALIZER(name, parameters, meaning, ...) meaning,
static const char *const initializers[] = {
#include "formulas/formulas.def"
    NULL};
#define OUTPUT_ACTIVATION(name, meaning, ...) meaning,
#define ROW_OUTPUT_ACTIVATION OUTPUT_ACTIVATION
static const char *const output_activations[] = {
#include "formulas/formulas.def"
    NULL};

const char *mbp_formula_meaning(mbp_kind kind, int i) {
    static const char *const *const kinds[] = {[MBP_ACTIVATION] = activations,
                                               [MBP_LOSS] = losses,
                                               [MBP_OPTIMIZER] = optimizers,
                                               [MBP_INITIALIZER] = initializers,
                                               [MBP_OUTPUT_ACTIVATION] = output_activations,
                                               [MBP_SOLVER] = solvers};
    if ((unsigned)kind > MBP_SOLVER || i < 0)
        return NULL;
    const char *const *meaning = kinds[kind];
    while (*meaning && i-- > 0)
        meaning++;
    return *meaning;
}
