/* mbp_trainer_iterate: an iteration of a solver on a loss of the caller. Each evaluation calls the caller's function,
 * which calls mbp_trainer_forward and mbp_trainer_backward_from. */
#include <math.h>

#include "system/text.h"
#include "train/solving.h"
#include "train/steps/iterate.h"
#include "train/update.h"

#if MICROBP_SOLVERS
typedef struct own_loss {
    mbp_trainer *trainer;
    mbp_own_loss function;
    void *user;
    double first, loss; /* of the first and of the last evaluation */
} own_loss;

/* The function may predict, so unlike in an iteration on a batch, the gate is open while it runs. */
static mbp_status put(const mbp_net *net, double *x, mbp_error *error) {
    mbp_gate_enter_alone(&net->shared->lock);
    const mbp_status status = mbp_parameters_put(net, x, error);
    mbp_gate_leave_alone(&net->shared->lock);
    return status;
}

static mbp_status call(own_loss *o, mbp_error *error) {
    mbp_trainer *t = o->trainer;
    mbp_trainer_forget(t);
    mbp_float_leave(t->floats);
    const mbp_status status = o->function(o->user, &o->loss, error);
    t->floats = mbp_float_enter(MBP_FLUSH_SUBNORMALS);
    if (status == MBP_OK && !t->forward_rows)
        return mbp_fail(error, MBP_INVALID, "loss must call mbp_trainer_forward and mbp_trainer_backward_from");
    return status;
}

static mbp_status evaluate(void *user, double *x, double *value, double *gradient, mbp_error *error) {
    own_loss *o = user;
    mbp_trainer *t = o->trainer;
    mbp_status status = put(t->net, x, error);
    if (status == MBP_OK)
        status = call(o, error);
    if (status == MBP_OK)
        status = mbp_gradients_check(t, error);
    if (status != MBP_OK)
        return status;
    mbp_parameters_get(t->net, t->grads, gradient);
    o->first = isnan(o->first) ? o->loss : o->first;
    const double share = t->setting[MBP_PENALTY_PER_ROW] != 0 ? 1 / (double)t->forward_rows : 1;
    *value = o->loss + share * mbp_penalties(t);
    return isfinite(*value) ? MBP_OK : mbp_fail(error, MBP_NONFINITE, "the loss is not finite");
}

static void hold(const void *user, double *direction) {
    const own_loss *o = user;
    mbp_parameters_hold(o->trainer->net, direction);
}

static mbp_status check(const mbp_trainer *t, mbp_own_loss loss, const double *value, mbp_error *error) {
    const char *name = mbp_formula_name(mbp_trainer_kind(t), t->optimizer.row);
    if (!loss || !value)
        return mbp_fail_null(error, loss ? "value" : "loss", loss ? MBP_A_LOSS : "a function");
    if (!t->solver)
        return mbp_fail(error, MBP_INVALID,
                        "mbp_trainer_iterate needs a solver, such as lbfgs, not %s: call mbp_trainer_apply", name);
    if (t->solver->row->needs_residuals)
        return mbp_fail(error, MBP_INVALID, "%s does not work with a loss of your own; use lbfgs", name);
    return mbp_iterate_check(t, error);
}

static MBP_APART mbp_status iterate(own_loss *o, int same, double *value, mbp_error *error) {
    mbp_trainer *t = o->trainer;
    mbp_solver *s = t->solver;
    mbp_running running = t->running;
    mbp_progress progress;
    double before;
    s->is_known = mbp_iterate_knows(t, same);
    if (s->is_known)
        o->first = t->solved_loss;
    else
        mbp_parameters_get(t->net, t->net->block, s->x);
    const mbp_problem problem = {.evaluate = evaluate, .user = o, .hold = hold};
    const mbp_status status = s->row->iterate(s, &problem, &before, &progress, error);
    if (status != MBP_OK) {
        s->is_known = 0;
        (void)put(t->net, s->x, NULL);
    } else
        *value = mbp_iterate_end(t, &running, progress, o->first, o->loss);
    mbp_trainer_run(t, &running);
    return status;
}
#endif

mbp_status mbp_trainer_iterate(mbp_trainer *trainer, mbp_own_loss loss, void *user, int same, double *value,
                               mbp_error *error) {
    mbp_status status = mbp_trainer_enter_training(trainer, error);
    if (status != MBP_OK)
        return status;
#if MICROBP_SOLVERS
    own_loss o = {trainer, loss, user, NAN, 0};
    status = check(trainer, loss, value, error);
    return mbp_trainer_leave(trainer, status == MBP_OK ? iterate(&o, same, value, error) : status);
#else
    (void)loss, (void)user, (void)same, (void)value;
    return mbp_trainer_leave(trainer, mbp_fail_extra(error, "mbp_trainer_iterate", "solvers"));
#endif
}
