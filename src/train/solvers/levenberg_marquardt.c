/* Levenberg-Marquardt, and Bayesian regularization on top of it. Both damp by mu I (D. W. Marquardt 1963, without his
 * scaling): the step solves (A + mu I) p = -slope, where A = J^T J + the second derivatives of the penalties.
 *
 *     mu         H. B. Nielsen, "Damping parameter in Marquardt's method" (1999), or factors as MATLAB's trainlm has
 *     geodesic   M. K. Transtrum and J. P. Sethna, "Improvements to the Levenberg-Marquardt algorithm for nonlinear
 *                least-squares minimization" (2012)
 *     Bayesian   D. J. C. MacKay, "Bayesian interpolation" (1992); F. D. Foresee and M. T. Hagan, "Gauss-Newton
 *                approximation to Bayesian learning" (1997)
 *
 * With fewer residuals than parameters, the system has the size of the residuals (Woodbury):
 *     (J^T J + D)^-1 b = D^-1 (b - J^T (I + J D^-1 J^T)^-1 J D^-1 b) */
#include "train/solvers/cholesky.h"
#include "train/solvers/solver.h"

#include "system/text.h"

#include <float.h>
#include <math.h>
#include <string.h>

#if MICROBP_SOLVERS
extern const mbp_solver_row mbp_solver_bayesian_regularization;

/* Positions among the parameters of both specs. */
enum { MU, DECREASE, INCREASE, MOST, DAMPING, GEODESIC };
enum { FLETCHER, NIELSEN, MATLAB }; /* damping: how mu changes */
enum { STRIP = 64 };

static const double least = DBL_EPSILON; /* mu: a smaller one changes no digit of the largest diagonal element */
/* Of alpha / beta, in the unit of the value: the first one, as a part of the largest diagonal element of J^T J, and how
 * much it grows at most in an iteration. If alpha and beta are estimated before the net fits anything, all parameters
 * become 0: in 20 of 24 fits of noisy sines (30 and 60 points; 31 and 91 parameters), with these numbers in none. */
static const double first_ratio = 1e-3, most_growth = 2;
static const double probe = 0.1;      /* part of the step where the second derivative is measured, and */
static const double most_turn = 0.75; /* the longest correction by it, as part of the step: Transtrum & Sethna */

/* What an iteration has in s->scratch, for this problem. */
typedef struct work {
    const mbp_problem *problem;
    int by_rows;
    int64_t order;    /* of the system: parameters, or residuals */
    double *jacobian; /* by_rows: (residuals, n), and a strip of it times D^-1 */
    double *strip;
    double *diagonal;    /* second derivatives of the penalties; -1: the parameter does not move */
    double *slope;       /* the gradient of what is minimized */
    double *damped;      /* D: what is added to the diagonal of J^T J */
    double *added;       /* to the diagonal of the system */
    double *bend, *rest; /* the correction of the step; order numbers */
    mbp_cholesky system;
    void *scratch; /* of products, by_rows */
} work;

static int is_bayesian(const mbp_solver *s) { return s->row == &mbp_solver_bayesian_regularization; }

static int64_t numbers(const mbp_solver *s) { return MBP_SOLVER_VECTORS * s->n; }

static void place(mbp_solver *s, double *numbers) { mbp_solver_place(s, numbers); }

/* The product of `rows` rows of J D^-1 with `columns` of J^T. */
static mbp_product strip_of(int64_t n, int64_t columns, int64_t rows) {
    const mbp_view view = {NULL, n};
    return (mbp_product){.pattern = MBP_NT, .m = rows, .n = columns, .k = n, .a = view, .b = view, .threads = 1};
}

static int64_t scratch(const mbp_solver *s, int64_t residuals) {
    const int by_rows = residuals < s->n;
    const int64_t order = by_rows ? residuals : s->n, height = residuals < STRIP ? residuals : STRIP;
    const mbp_product largest = strip_of(s->n, residuals, height);
    return order * order + 4 * s->n + 2 * order + mbp_cholesky_numbers(order) +
           (by_rows ? (residuals + height) * s->n + mbp_product_numbers(&largest) : 0);
}

static work start(const mbp_solver *s, const mbp_problem *problem) {
    const int64_t n = s->n, m = problem->residuals;
    work w = {.problem = problem, .by_rows = m < n, .order = m < n ? m : n};
    double *at = s->scratch, *const matrix = at;
    at += w.order * w.order;
    if (w.by_rows) {
        w.jacobian = at;
        w.strip = at + m * n;
        at = w.strip + (m < STRIP ? m : STRIP) * n;
    }
    double **vectors[] = {&w.diagonal, &w.slope, &w.damped, &w.bend};
    for (int i = 0; i < 4; i++, at += n)
        *vectors[i] = at;
    w.added = at;
    w.rest = at + w.order;
    mbp_cholesky_place(&w.system, w.order, matrix, at + 2 * w.order);
    w.scratch = mbp_product_place(at + 2 * w.order + mbp_cholesky_numbers(w.order));
    return w;
}

/* ---- the system ---- */

/* The lower triangle of J D^-1 J^T. */
static void multiply_rows(const mbp_solver *s, work *w) {
    const int64_t n = s->n, m = w->order;
    for (int64_t i = 0; i < m; i += STRIP) {
        const int64_t rows = m - i < STRIP ? m - i : STRIP;
        for (int64_t k = 0; k < rows * n; k++)
            w->strip[k] = w->jacobian[i * n + k] / w->damped[k % n];
        mbp_product product = strip_of(n, i + rows, rows);
        product.a.at = w->strip;
        product.b.at = w->jacobian;
        product.c = (mbp_view){w->system.matrix + i * m, m};
        w->problem->kernels->product_run(&product, 0, INT64_MAX, w->scratch);
    }
    mbp_cholesky_keep(&w->system);
}

/* Factors the system with D = mu + the penalties' diagonal. 0: it is not positive definite. */
static int factor(const mbp_solver *s, work *w, double mu, double ratio) {
    for (int64_t i = 0; i < s->n; i++)
        w->damped[i] = mu + (is_bayesian(s) ? ratio : fmax(w->diagonal[i], 0));
    if (w->by_rows)
        multiply_rows(s, w);
    for (int64_t i = 0; i < w->order; i++)
        w->added[i] = w->by_rows ? 1 : w->damped[i];
    return mbp_cholesky_factor(&w->system, w->added, w->problem->kernels);
}

/* Replaces v by (J^T J + D)^-1 v. */
static void solve(const mbp_solver *s, const work *w, double *v) {
    if (!w->by_rows) {
        mbp_cholesky_solve(&w->system, v);
        return;
    }
    for (int64_t i = 0; i < s->n; i++)
        v[i] /= w->damped[i];
    for (int64_t i = 0; i < w->order; i++)
        w->rest[i] = mbp_dot(s->n, w->jacobian + i * s->n, v);
    mbp_cholesky_solve(&w->system, w->rest);
    for (int64_t j = 0; j < s->n; j++)
        v[j] *= w->damped[j];
    for (int64_t i = 0; i < w->order; i++)
        mbp_add_scaled(s->n, -w->rest[i], w->jacobian + i * s->n, v);
    for (int64_t j = 0; j < s->n; j++)
        v[j] /= w->damped[j];
}

/* ---- Bayesian regularization ----
 * It minimizes beta E_D + alpha E_W, where E_D is `targets` times the value, and E_W the sum of squares of the
 * parameters that move. Divided by beta `targets`, that is value + ratio / 2 E_W. */

static double ratio_of(const mbp_solver *s, const work *w) {
    const mbp_damping *d = &s->of.damping;
    const double targets = (double)w->problem->targets;
    return is_bayesian(s) && targets > 0 ? 2 * d->alpha / (d->beta * targets) : 0;
}

/* E_W */
static double squares(const mbp_solver *s, const work *w, const double *x) {
    double sum = 0;
    for (int64_t i = 0; i < s->n; i++)
        sum += w->diagonal[i] >= 0 ? x[i] * x[i] : 0;
    return sum;
}

/* What is minimized: at x, where the problem's value is this. */
static double objective(const mbp_solver *s, const work *w, const double *x, double value) {
    const double ratio = ratio_of(s, w);
    return ratio != 0 ? value + ratio / 2 * squares(s, w, x) : value;
}

/* alpha and beta at x from the effective number of parameters. One that has no finite value above 0 stays. */
static void estimate(mbp_solver *s, const work *w) {
    mbp_damping *d = &s->of.damping;
    const double targets = (double)w->problem->targets, before = d->alpha / d->beta;
    const double alpha = d->effective / (2 * squares(s, w, s->x));
    const double beta = (targets - d->effective) / (2 * targets * s->value);
    d->beta = beta > 0 && beta < INFINITY ? beta : d->beta;
    d->alpha = fmin(alpha > 0 && alpha < INFINITY ? alpha : d->alpha, most_growth * before * d->beta);
}

/* n - ratio trace((J^T J + ratio I)^-1); with fewer residuals, the same from the system of their size. */
static void count_effective(mbp_solver *s, work *w) {
    const double ratio = ratio_of(s, w);
    if (!factor(s, w, 0, ratio))
        return;
    const double trace = mbp_cholesky_trace(&w->system, w->added);
    const double most = (double)(s->n < w->problem->targets ? s->n : w->problem->targets);
    s->of.damping.effective = fmin(fmax((double)w->order - (w->by_rows ? 1 : ratio) * trace, 0), most);
}

/* ---- an iteration ---- */

/* Value, gradient and matrix at x. */
static mbp_status linearize(mbp_solver *s, work *w, double *x, double *value, double *gradient, mbp_error *error) {
    double *matrix = w->by_rows ? w->jacobian : w->system.matrix;
    const mbp_problem *p = w->problem;
    s->evaluations++;
    s->is_known = 0;
    const mbp_status status = p->linearize(p->user, x, w->by_rows, value, gradient, matrix, w->diagonal, error);
    if (status == MBP_OK && !w->by_rows)
        mbp_cholesky_keep(&w->system);
    return status;
}

/* The largest diagonal element of J^T J, or 1 if that is 0. */
static double scale_of(const mbp_solver *s, const work *w) {
    double most = 0;
    for (int64_t j = 0; j < s->n; j++) {
        double sum = w->by_rows ? 0 : w->system.diagonal[j];
        for (int64_t i = 0; w->by_rows && i < w->order; i++)
            sum += w->jacobian[i * s->n + j] * w->jacobian[i * s->n + j];
        most = fmax(most, sum);
    }
    return most > 0 && most < INFINITY ? most : 1;
}

/* The first linearization starts the state. */
static void start_state(mbp_solver *s, const work *w) {
    mbp_damping *d = &s->of.damping;
    if (d->scale > 0)
        return;
    *d = (mbp_damping){.mu = s->parameters[MU], .growth = 2, .scale = scale_of(s, w), .beta = 1};
    d->alpha = first_ratio * d->scale * (double)w->problem->targets / 2;
    for (int64_t i = 0; i < s->n; i++)
        d->effective += w->diagonal[i] >= 0;
}

static void set_slope(const mbp_solver *s, work *w) {
    const double ratio = ratio_of(s, w);
    for (int64_t i = 0; i < s->n; i++)
        w->slope[i] = s->gradient[i] + (w->diagonal[i] >= 0 ? ratio * s->x[i] : 0);
}

/* Adds to the step half of the second derivative of the residuals along it, unless that is too long:
 *     J^T r'' = 2 / h ((J^T r(x + h p) - J^T r) / h - J^T J p), with J^T J p = -slope - D p. */
static mbp_status bend(mbp_solver *s, work *w, mbp_error *error) {
    const double *p = s->direction;
    for (int64_t i = 0; i < s->n; i++)
        s->trial[i] = s->x[i] + probe * p[i];
    const mbp_status status = w->problem->cross(w->problem->user, s->x, s->trial, w->bend, error);
    s->evaluations++;
    if (status != MBP_OK)
        return status == MBP_NONFINITE ? MBP_OK : status;
    for (int64_t i = 0; i < s->n; i++) {
        const double here = s->gradient[i] - fmax(w->diagonal[i], 0) * s->x[i];
        w->bend[i] = 2 / probe * ((w->bend[i] - here) / probe + w->slope[i] + w->damped[i] * p[i]);
    }
    solve(s, w, w->bend);
    if (mbp_dot(s->n, w->bend, w->bend) <= most_turn * most_turn * mbp_dot(s->n, p, p))
        mbp_add_scaled(s->n, -0.5, w->bend, s->direction);
    return MBP_OK;
}

/* The step with a damping: what the model of it promises, whether its point is better, and whether it is x itself. */
typedef struct attempt {
    double decrease;
    int is_better, is_stuck;
} attempt;

/* Leaves the point in s->trial. */
static mbp_status try_damping(mbp_solver *s, work *w, double mu, attempt *a, mbp_error *error) {
    *a = (attempt){0};
    if (!factor(s, w, mu, ratio_of(s, w)))
        return MBP_OK;
    for (int64_t i = 0; i < s->n; i++)
        s->direction[i] = -w->slope[i];
    solve(s, w, s->direction);
    a->decrease = (mu * mbp_dot(s->n, s->direction, s->direction) - mbp_dot(s->n, w->slope, s->direction)) / 2;
    mbp_status status = s->parameters[GEODESIC] != 0 ? bend(s, w, error) : MBP_OK;
    if (status != MBP_OK)
        return status;
    for (int64_t i = 0; i < s->n; i++)
        s->trial[i] = s->x[i] + s->direction[i];
    s->evaluations++;
    status = w->problem->measure(w->problem->user, s->trial, &s->trial_value, error);
    if (status != MBP_OK)
        return status == MBP_NONFINITE ? MBP_OK : status;
    a->is_better = objective(s, w, s->trial, s->trial_value) < objective(s, w, s->x, s->value);
    a->is_stuck = memcmp(s->trial, s->x, (size_t)s->n * sizeof *s->x) == 0;
    return MBP_OK;
}

/* By which factor mu changes after a better point, whose decrease is this part of what the model promised. The parts
 * 1/4 and 1/2: bench/SECOND.md. */
static double factor_for(const mbp_solver *s, double gain) {
    const double turn = 2 * fmin(fmax(gain, 0), 1) - 1;
    const int damping = (int)s->parameters[DAMPING];
    if (damping == NIELSEN)
        return fmax(1. / 3, 1 - turn * turn * turn);
    return damping == MATLAB || gain > 0.5 ? s->parameters[DECREASE] : gain > 0.25 ? 1 : 2;
}

static void relax(mbp_solver *s, double gain) {
    mbp_damping *d = &s->of.damping;
    d->mu = fmax(factor_for(s, gain) * d->mu, least);
    d->growth = 2;
}

/* After a worse one. */
static void damp(mbp_solver *s) {
    mbp_damping *d = &s->of.damping;
    d->mu *= (int)s->parameters[DAMPING] == MATLAB ? s->parameters[INCREASE] : d->growth;
    d->growth *= 2;
}

/* The better point in s->trial becomes x. *found 0: it cannot be linearized, and x is as before. */
static mbp_status go(mbp_solver *s, work *w, double decrease, int *found, mbp_error *error) {
    const double gain = (objective(s, w, s->x, s->value) - objective(s, w, s->trial, s->trial_value)) / decrease;
    mbp_status status = linearize(s, w, s->trial, &s->trial_value, s->trial_gradient, error);
    *found = status == MBP_OK;
    if (*found) {
        mbp_solver_move(s);
        relax(s, gain);
    } else if (status == MBP_NONFINITE) {
        status = linearize(s, w, s->x, &s->value, s->gradient, error);
    }
    return status;
}

/* Searches the damping whose step leads to a better point, and goes there. */
static mbp_status step(mbp_solver *s, work *w, int *found, mbp_error *error) {
    mbp_damping *d = &s->of.damping;
    attempt a = {0};
    for (*found = 0; !a.is_stuck && d->mu <= s->parameters[MOST]; damp(s)) {
        mbp_status status = try_damping(s, w, d->mu * d->scale, &a, error);
        if (status == MBP_OK && a.is_better)
            status = go(s, w, a.decrease, found, error);
        if (status != MBP_OK || *found)
            return status;
    }
    return MBP_OK;
}

static mbp_status iterate(mbp_solver *s, const mbp_problem *problem, double *before, mbp_progress *progress,
                          mbp_error *error) {
    work w = start(s, problem);
    int found = 0;
    mbp_status status = s->is_known ? MBP_OK : linearize(s, &w, s->x, &s->value, s->gradient, error);
    if (status != MBP_OK)
        return status;
    start_state(s, &w);
    *before = s->value;
    set_slope(s, &w);
    const int is_flat = mbp_largest(s->n, w.slope) == 0;
    const mbp_damping kept = s->of.damping;
    if (!is_flat)
        status = step(s, &w, &found, error);
    *progress = found ? MBP_MOVED : is_flat ? MBP_AT_MINIMUM : MBP_NO_STEP;
    if (!found)
        s->of.damping = kept;
    if (status == MBP_OK && !found)
        status = linearize(s, &w, s->x, &s->value, s->gradient, error);
    s->is_known = status == MBP_OK;
    if (found && is_bayesian(s)) {
        count_effective(s, &w);
        estimate(s, &w);
    }
    return status;
}

/* ---- states ---- */

static int64_t save(const mbp_solver *s, double *numbers) {
    const mbp_damping *d = &s->of.damping;
    const double all[] = {d->mu, d->growth, d->scale, d->alpha, d->beta, d->effective};
    const int64_t count = d->scale == 0 ? 0 : is_bayesian(s) ? 6 : 3;
    if (numbers)
        memcpy(numbers, all, (size_t)count * sizeof *numbers);
    return count;
}

static int restore(mbp_solver *s, const double *numbers, int64_t count) {
    double all[6] = {0};
    if (count != 0 && count != (is_bayesian(s) ? 6 : 3))
        return 0;
    if (count)
        memcpy(all, numbers, (size_t)count * sizeof *all);
    s->of.damping = (mbp_damping){all[0], all[1], all[2], all[3], all[4], all[5]};
    return 1;
}

static double number(const mbp_solver *s, int i) {
    const mbp_damping *d = &s->of.damping;
    const double *const all[] = {&d->alpha, &d->beta, &d->effective};
    return d->scale == 0 ? (double)NAN : *all[i];
}

#define SHARED \
    .whole = "damping", .needs_residuals = 1, .numbers = numbers, .place = place, .scratch = scratch, \
    .iterate = iterate, .save = save, .restore = restore
const mbp_solver_row mbp_solver_levenberg_marquardt = {SHARED};
const mbp_solver_row mbp_solver_bayesian_regularization = {SHARED, .sets_l2 = 1, .number = number};
#endif
