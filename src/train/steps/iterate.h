/* Floor 8: an iteration of a solver on a batch. */
#ifndef MBP_ITERATE_H
#define MBP_ITERATE_H

#include "train/batch.h"
#include "train/solvers/solver.h"

/* The loss of a batch and the penalties, as a function of the parameters. */
typedef struct mbp_batch_loss {
    mbp_trainer *trainer;
    const mbp_batch *batch;
    const mbp_chosen *chosen;
    double total, share;
    double first, loss; /* the losses of the first and of the last pass, as calls return them */
} mbp_batch_loss;

/* Sets the net's parameters, and x to the numbers in the net's dtype that they have become. */
mbp_status mbp_parameters_put(const mbp_net *net, double *x, mbp_error *error);
/* Reads a vector over the net's parameters. */
void mbp_parameters_get(const mbp_net *net, const void *from, double *x);
/* Sets a vector over them to 0 along those of frozen layers. */
void mbp_parameters_hold(const mbp_net *net, double *x);

/* Refuses nodes and layers that do not work with solvers. */
mbp_status mbp_iterate_check(const mbp_trainer *t, mbp_error *error);
/* Whether value and gradient at the net's parameters are known: those of the last iteration, if it was on the same
 * rows. */
int mbp_iterate_knows(const mbp_trainer *t, int same);
/* Counts an iteration. first, loss: the losses before and after it. Returns `loss`. */
double mbp_iterate_end(mbp_trainer *t, mbp_running *running, mbp_progress progress, double first, double loss);
/* One iteration with these rows. *loss: their loss after it. If the solver finds no better point, it is no step. */
mbp_status mbp_iterate(mbp_trainer *t, const mbp_batch *batch, const mbp_chosen *chosen, double total, double *loss,
                       mbp_error *error);

#endif
