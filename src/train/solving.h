/* Floor 7: the solver of a trainer. */
#ifndef MBP_SOLVING_H
#define MBP_SOLVING_H

#include "train/trainer.h"

/* Whether the trainer has a solver, as a constant in builds without solvers. */
static inline int mbp_has_solver(const mbp_trainer *t) { return MICROBP_SOLVERS && t->solver; }
/* The kind of formula that an optimizer's spec names: MBP_SOLVER or MBP_OPTIMIZER. */
mbp_kind mbp_solver_kind(mbp_slice spec);
/* Creates the solver that t->optimizer names. */
mbp_status mbp_solver_create(mbp_trainer *t, mbp_error *error);
void mbp_solver_free(mbp_trainer *t);
/* Takes a state that mbp_trainer_solver_state has written. */
mbp_status mbp_solver_set_state(mbp_trainer *t, const double *numbers, int64_t count, mbp_error *error);
/* The most numbers that its state can have. */
static inline int64_t mbp_solver_most(const mbp_trainer *t) {
    enum { SCALARS = 8 }; /* of solvers that keep some numbers of their own */
    return MICROBP_SOLVERS ? t->solver->row->numbers(t->solver) + SCALARS : 0;
}
/* A number of the solver, by name. 0: it has none of this name. */
int mbp_solver_number(const mbp_trainer *t, const char *name, double *value);
/* Starts anew. */
static inline void mbp_solver_reset(mbp_trainer *t) {
    if (MICROBP_SOLVERS && t->solver) {
        t->solver->row->restore(t->solver, NULL, 0);
        t->solver->evaluations = 0;
    }
}

#endif
