/* The table of solvers. */
#include "train/solvers/solver.h"

#include "system/text.h"

#if MICROBP_SOLVERS
#define SOLVER(name, ...) extern const mbp_solver_row mbp_solver_##name;
#include "formulas/formulas.def"

const mbp_solver_row *mbp_solver_row_of(int i) {
    static const mbp_solver_row *const rows[] = {
#define SOLVER(name, ...) &mbp_solver_##name,
#include "formulas/formulas.def"
    };
    return rows[i];
}

mbp_status mbp_solver_check(const mbp_formula *formula, mbp_error *error) {
    const char *name = mbp_solver_row_of(formula->row)->whole;
    const char *names = mbp_formula_parameters(MBP_SOLVER, formula->row);
    const double value = name ? formula->parameters[mbp_parameter_index(names, mbp_slice_of(name))] : 0;
    if (value == (double)(int)value)
        return MBP_OK;
    char number[MBP_NUMBER_SIZE];
    mbp_print_number(number, value);
    return mbp_fail(error, MBP_INVALID, "%s must be a whole number, not %s", name, number);
}
#endif
