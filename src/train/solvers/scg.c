/* SCG: M. F. Moller, "A scaled conjugate gradient algorithm for fast supervised learning", Neural Networks 6 (1993),
 * section 4. An iteration here goes on until a step is taken: the paper counts each refused step as one.
 * lambda makes the curvature along the direction d larger, until a parabola predicts the function well. */
#include "train/solvers/solver.h"

#include <math.h>
#include <string.h>

#if MICROBP_SOLVERS
enum { SIGMA, LAMBDA }; /* its parameters */
enum { NUMBERS = 2, MOST_TRIALS = 20, MOST_HALVINGS = 60 };
/* Netlab's bound, so that a step along a straight line has a length; and a function that rises faster than any parabola
 * may not shorten the step more than this at once, as it need not be steep everywhere. */
static const double least_lambda = 1e-15, worst_ratio = -1e3;

static int64_t count_vectors(const mbp_solver *s) { return MBP_SOLVER_VECTORS * s->n; }

static void place_vectors(mbp_solver *s, double *numbers) { (void)mbp_solver_place(s, numbers); }

/* lambda, the number of steps since the last restart, the direction; nothing before the first step. */
static int64_t save_scg(const mbp_solver *s, double *numbers) {
    const mbp_scg *scg = &s->of.scg;
    if (scg->lambda == 0)
        return 0;
    if (numbers) {
        numbers[0] = scg->lambda;
        numbers[1] = (double)scg->age;
        memcpy(numbers + NUMBERS, s->direction, (size_t)s->n * sizeof *numbers);
    }
    return NUMBERS + s->n;
}

static int restore_scg(mbp_solver *s, const double *numbers, int64_t count) {
    if (count && (count != NUMBERS + s->n || !(numbers[0] > 0 && numbers[1] >= 0 && numbers[1] < (double)s->n)))
        return 0;
    s->of.scg = count ? (mbp_scg){numbers[0], (int64_t)numbers[1]} : (mbp_scg){0, 0};
    if (count)
        memcpy(s->direction, numbers + NUMBERS, (size_t)s->n * sizeof *numbers);
    return 1;
}

static mbp_status try_step(mbp_solver *s, const mbp_problem *problem, double step, mbp_error *error) {
    for (int64_t i = 0; i < s->n; i++)
        s->trial[i] = s->x[i] + step * s->direction[i];
    return mbp_solver_try(s, problem, error);
}

/* d^T H d, with H the second derivatives, by the change of the gradient over a distance of sigma. The problem may have
 * rounded the trial, so it is divided by the way that was really made. square: d^T d. */
static mbp_status find_curvature(mbp_solver *s, const mbp_problem *problem, double square, double *curvature,
                                 mbp_error *error) {
    double step = s->parameters[SIGMA] / sqrt(square);
    mbp_status status = try_step(s, problem, step, error);
    for (int i = 0; status == MBP_NONFINITE && i < MOST_HALVINGS; i++)
        status = try_step(s, problem, step /= 2, error);
    if (status != MBP_OK)
        return status;
    for (int64_t i = 0; i < s->n; i++) {
        s->trial[i] -= s->x[i];
        s->trial_gradient[i] -= s->gradient[i];
    }
    const double way = mbp_dot(s->n, s->trial, s->trial);
    *curvature = way > 0 ? mbp_dot(s->n, s->trial, s->trial_gradient) / way * square : 0;
    return MBP_OK;
}

/* The trial becomes x. The next direction is conjugate to the last one; each n steps, it is the steepest descent. */
static void move(mbp_solver *s, double slope) {
    const double square = mbp_dot(s->n, s->trial_gradient, s->trial_gradient);
    const double beta = (square - mbp_dot(s->n, s->trial_gradient, s->gradient)) / slope;
    mbp_solver_move(s);
    for (int64_t i = 0; i < s->n; i++)
        s->direction[i] = beta * s->direction[i] - s->gradient[i];
    s->of.scg.age = s->of.scg.age + 1 < s->n ? s->of.scg.age + 1 : 0;
}

/* A step along the direction. Names of the paper: slope is mu, curvature delta, ratio Delta. */
static mbp_status step_on(mbp_solver *s, const mbp_problem *problem, int *found, mbp_error *error) {
    const int64_t n = s->n;
    for (int64_t i = 0; i < n && s->of.scg.age == 0; i++)
        s->direction[i] = -s->gradient[i];
    mbp_solver_hold(s, problem);
    const double square = mbp_dot(n, s->direction, s->direction), slope = -mbp_dot(n, s->direction, s->gradient);
    double lambda = s->of.scg.lambda > 0 ? s->of.scg.lambda : s->parameters[LAMBDA], curvature = 0, ratio = 0;
    if (!(slope > 0 && square > 0 && square < INFINITY))
        return MBP_OK;
    mbp_status status = find_curvature(s, problem, square, &curvature, error);
    if (status != MBP_OK)
        return status == MBP_NONFINITE ? MBP_OK : status;
    curvature += lambda * square;
    if (curvature <= 0) {
        const double larger = 2 * (lambda - curvature / square);
        curvature = -curvature + lambda * square;
        lambda = larger;
    }
    double step = slope / curvature;
    for (int trials = 0, halvings = 0;
         !*found && step > 0 && step < INFINITY && trials < MOST_TRIALS && halvings < MOST_HALVINGS;) {
        status = try_step(s, problem, step, error);
        if (status != MBP_OK && status != MBP_NONFINITE)
            return status;
        trials += status == MBP_OK;
        halvings += status != MBP_OK;
        ratio = status == MBP_OK ? 2 * (s->value - s->trial_value) / slope / step : 0;
        *found = status == MBP_OK && mbp_solver_is_better(s);
        if (*found && ratio >= 0.75)
            lambda = fmax(lambda / 4, least_lambda);
        if (ratio < 0.25) {
            const double more = curvature * (1 - fmax(ratio, worst_ratio));
            lambda += more / square;
            curvature += more;
        }
        step = slope / curvature;
    }
    if (*found) {
        s->of.scg.lambda = lambda;
        move(s, slope);
    }
    return MBP_OK;
}

static mbp_status iterate_scg(mbp_solver *s, const mbp_problem *problem, double *before, mbp_progress *progress,
                              mbp_error *error) {
    return mbp_solver_descend(s, problem, step_on, before, progress, error);
}

const mbp_solver_row mbp_solver_scg = {
    .numbers = count_vectors, .place = place_vectors, .iterate = iterate_scg, .save = save_scg, .restore = restore_scg};
#endif
