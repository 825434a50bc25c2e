/* An iteration of a solver: makes of a batch the problem that the solver minimizes, the loss and the layers' penalties
 * as a function of all parameters. */
#include "train/steps/iterate.h"

#include <math.h>
#include <string.h>

#include "train/solving.h"
#include "train/steps/least_squares.h"
#include "train/steps/step.h"
#include "train/update.h"

#if MICROBP_SOLVERS
mbp_status mbp_parameters_put(const mbp_net *net, double *x, mbp_error *error) {
    int is_finite = 1;
    net->shared->changes++;
    for (int64_t i = 0; i < net->params; i++) {
        if (net->dtype == MBP_F64)
            ((double *)net->block)[i] = x[i];
        else
            x[i] = ((float *)net->block)[i] = (float)x[i];
        is_finite &= isfinite(x[i]) != 0;
    }
    return is_finite ? MBP_OK : mbp_fail(error, MBP_NONFINITE, "a parameter is not finite");
}

static double number(const mbp_net *net, const void *from, int64_t i) {
    return net->dtype == MBP_F64 ? ((const double *)from)[i] : (double)((const float *)from)[i];
}

void mbp_parameters_get(const mbp_net *net, const void *from, double *x) {
    for (int64_t i = 0; i < net->params; i++)
        x[i] = number(net, from, i);
}

void mbp_parameters_hold(const mbp_net *net, double *x) {
    for (const mbp_layer *layer = net->layer; layer < net->layer + net->layers; layer++) {
        if (layer->frozen && layer->weight >= 0)
            memset(x + layer->weight, 0, (size_t)(layer->in * layer->out) * sizeof *x);
        if (layer->frozen && layer->bias >= 0)
            memset(x + layer->bias, 0, (size_t)mbp_bias_width(layer) * sizeof *x);
    }
}

int mbp_iterate_knows(const mbp_trainer *t, int same) {
    const mbp_solver *s = t->solver;
    int is_same = same && s->is_known && t->solved_version == t->net->layers_version;
    for (int64_t i = 0; i < t->net->params && is_same; i++)
        is_same = s->x[i] == number(t->net, t->net->block, i);
    return is_same;
}

static mbp_status evaluate(void *user, double *x, double *value, double *gradient, mbp_error *error) {
    mbp_batch_loss *o = user;
    mbp_trainer *t = o->trainer;
    mbp_status status = mbp_parameters_put(t->net, x, error);
    if (status == MBP_OK)
        status = mbp_gradients(t, o->batch, o->chosen, &(mbp_backward){.total = o->total}, &o->loss, error);
    if (status == MBP_OK && t->nonfinite)
        status = mbp_nonfinite_fail(t, error);
    if (status != MBP_OK)
        return status;
    mbp_parameters_get(t->net, t->grads, gradient);
    o->first = isnan(o->first) ? o->loss : o->first;
    *value = o->loss;
    if (t->setting[MBP_PENALTY_PER_ROW] == 0) /* else the loss contains them */
        *value += o->share * mbp_penalties(t);
    return isfinite(*value) ? MBP_OK : mbp_fail(error, MBP_NONFINITE, "the penalties are not finite");
}

static void hold(const void *user, double *direction) {
    const mbp_batch_loss *o = user;
    mbp_parameters_hold(o->trainer->net, direction);
}

static mbp_status evaluate_value(void *user, double *x, double *value, mbp_error *error) {
    const mbp_batch_loss *o = user;
    const mbp_status status = mbp_parameters_put(o->trainer->net, x, error);
    return status == MBP_OK ? mbp_squares_value(o, value, error) : status;
}

static mbp_status linearize(void *user, double *x, int by_rows, double *value, double *gradient, double *matrix,
                            double *diagonal, mbp_error *error) {
    const mbp_status status = evaluate(user, x, value, gradient, error);
    if (status != MBP_OK)
        return status;
    mbp_squares_matrix(user, by_rows, matrix);
    mbp_squares_diagonal(user, diagonal);
    return MBP_OK;
}

static mbp_status cross(void *user, double *x, double *trial, double *product, mbp_error *error) {
    const mbp_batch_loss *o = user;
    mbp_status status = mbp_parameters_put(o->trainer->net, trial, error);
    if (status == MBP_OK)
        status = mbp_squares_keep(o, error);
    if (status == MBP_OK)
        status = mbp_parameters_put(o->trainer->net, x, error);
    return status == MBP_OK ? mbp_squares_cross(o, product, error) : status;
}

/* What of a layer does not work with solvers: it makes the loss of the same rows and parameters differ from pass to
 * pass, or moves parameters otherwise than by the gradient. NULL: nothing. */
static const char *unfit(const mbp_solver_row *row, const mbp_layer *layer) {
    const int has_penalties = mbp_is_penalized(layer->kind);
    if (!mbp_layer_trains(layer))
        return NULL;
    return layer->kind == MBP_NODE_BATCH_NORM                                  ? "batch_norm"
           : has_penalties && layer->setting[MBP_LAYER_L1] > 0                 ? "l1"
           : has_penalties && row->sets_l2 && layer->setting[MBP_LAYER_L2] > 0 ? "l2"
           : has_penalties && layer->setting[MBP_LAYER_MAX_NORM] > 0           ? "max_norm"
           : layer->setting[MBP_LAYER_LR] != 1 || mbp_bias_lr(layer) != 1      ? "a factor of lr"
                                                                               : NULL;
}

mbp_status mbp_iterate_check(const mbp_trainer *t, mbp_error *error) {
    const char *name = mbp_formula_name(MBP_SOLVER, t->optimizer.row);
    for (int id = 0; id < t->net->nodes; id++)
        if (t->net->node[id].uses &&
            (t->net->node[id].kind == MBP_NODE_DROPOUT || t->net->node[id].kind == MBP_NODE_NOISE))
            return mbp_fail(error, MBP_INVALID, "node %d is %s, which does not work with %s: remove it, or use adam",
                            id, t->net->node[id].kind == MBP_NODE_NOISE ? "noise" : "dropout", name);
    for (int i = 0; i < t->net->layers; i++) {
        const char *has = unfit(t->solver->row, &t->net->layer[i]);
        if (has)
            return mbp_fail(error, MBP_INVALID,
                            "layer %s has %s, which does not work with %s: remove it, freeze the layer, or use adam",
                            t->net->layer[i].name, has, name);
    }
    return MBP_OK;
}

double mbp_iterate_end(mbp_trainer *t, mbp_running *running, mbp_progress progress, double first, double loss) {
    t->is_pending = 0;
    running->steps += progress == MBP_MOVED;
    running->last_loss = first;
    running->loss = t->solved_loss = loss;
    t->solved_version = t->net->layers_version;
    return loss;
}

/* From the net's parameters, if the others cannot be known. */
static mbp_status run(mbp_batch_loss *o, mbp_progress *progress, mbp_error *error) {
    mbp_trainer *t = o->trainer;
    mbp_solver *s = t->solver;
    double before;
    s->is_known = mbp_iterate_knows(t, o->batch->same);
    if (s->is_known)
        o->first = t->solved_loss;
    else
        mbp_parameters_get(t->net, t->net->block, s->x);
    mbp_problem problem = {.evaluate = evaluate, .user = o, .hold = hold};
    if (s->row->needs_residuals) {
        problem.residuals = mbp_squares_residuals(t, o->chosen->rows.count);
        problem.targets = mbp_squares_targets(o);
        problem.kernels = mbp_squares_kernels(t->net);
        problem.measure = evaluate_value, problem.linearize = linearize, problem.cross = cross;
    }
    const mbp_status status = s->row->iterate(s, &problem, &before, progress, error);
    if (status != MBP_OK) {
        s->is_known = 0;
        (void)mbp_parameters_put(t->net, s->x, NULL);
    }
    return status;
}

mbp_status mbp_iterate(mbp_trainer *t, const mbp_batch *batch, const mbp_chosen *chosen, double total, double *loss,
                       mbp_error *error) {
    mbp_running running = t->running;
    mbp_batch_loss o = {t, batch, chosen, total, mbp_penalty_share(t, chosen, total), NAN, 0};
    mbp_progress progress;
    mbp_status status = batch->state ? mbp_solver_refuse(t, "state", error) : mbp_iterate_check(t, error);
    if (status == MBP_OK && t->solver->row->needs_residuals)
        status = mbp_squares_check(t, batch, error);
    if (status == MBP_OK && t->solver->row->needs_residuals)
        status = mbp_squares_open(t, chosen->rows.count, error);
    if (status != MBP_OK)
        return status;
    mbp_gate_enter_alone(&t->net->shared->lock); /* predictions of other threads do not see what is tried */
    status = run(&o, &progress, error);
    mbp_gate_leave_alone(&t->net->shared->lock);
    if (status == MBP_OK)
        *loss = mbp_iterate_end(t, &running, progress, o.first, o.loss);
    mbp_trainer_run(t, &running);
    return status;
}
#endif
