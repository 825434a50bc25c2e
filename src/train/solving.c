/* Trainers with a solver: creation, state, and what they refuse. */
#include "train/solving.h"

#include "system/text.h"

#if MICROBP_SOLVERS
mbp_status mbp_solver_refusal(const mbp_trainer *t, const char *what, mbp_error *error) {
    return mbp_fail(error, MBP_INVALID,
                    "%s does not work with %s, which finds its steps by losses of the same rows; use another "
                    "optimizer, such as adam",
                    what, mbp_formula_name(MBP_SOLVER, t->optimizer.row));
}

mbp_kind mbp_solver_kind(mbp_slice spec) {
    const mbp_slice name = mbp_spec_name(spec);
    for (int i = 0; mbp_formula_name(MBP_SOLVER, i); i++)
        if (mbp_slice_is(name, mbp_formula_name(MBP_SOLVER, i)))
            return MBP_SOLVER;
    return MBP_OPTIMIZER;
}

mbp_status mbp_solver_create(mbp_trainer *t, mbp_error *error) {
    mbp_solver s = {
        .row = mbp_solver_row_of(t->optimizer.row), .n = t->net->params, .parameters = t->optimizer.parameters};
    mbp_status status = mbp_solver_check(&t->optimizer, error);
    if (status != MBP_OK)
        return status;
    const size_t first = mbp_aligned(sizeof s);
    t->decay = t->decay_bias = MBP_PARAMETERS_MAX - 1; /* a number that is 0 */
    t->solver_bytes = first + (size_t)s.row->numbers(&s) * sizeof(double);
    t->solver = mbp_memory_take(&t->memory, t->solver_bytes);
    if (!t->solver)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for %s of %lld parameters: it needs %lld bytes",
                        mbp_formula_name(MBP_SOLVER, t->optimizer.row), (long long)s.n, (long long)t->solver_bytes);
    *t->solver = s;
    s.row->place(t->solver, (double *)((char *)t->solver + first));
    return MBP_OK;
}

int mbp_solver_number(const mbp_trainer *t, const char *name, double *value) {
    mbp_slice rest = mbp_slice_of(mbp_formula_detail(MBP_SOLVER, t->optimizer.row));
    int i = 0;
    for (mbp_slice word = mbp_take_word(&rest); word.length; word = mbp_take_word(&rest), i++)
        if (mbp_slice_is(word, name))
            return *value = t->solver->row->number(t->solver, i), 1;
    return 0;
}

void mbp_solver_free(mbp_trainer *t) {
    mbp_memory_give(&t->memory, t->solver, t->solver_bytes);
    mbp_memory_give(&t->memory, t->squares, t->squares_bytes);
}

mbp_status mbp_solver_set_state(mbp_trainer *t, const double *numbers, int64_t count, mbp_error *error) {
    if (count > 0 && !numbers)
        return mbp_fail_null(error, "numbers", "the state of a solver");
    t->solver->is_known = 0;
    if (count >= 0 && t->solver->row->restore(t->solver, numbers, count))
        return MBP_OK;
    return mbp_fail(error, MBP_INVALID, "a state of %s for %lld parameters cannot have %lld numbers",
                    mbp_formula_name(MBP_SOLVER, t->optimizer.row), (long long)t->solver->n, (long long)count);
}
#endif
