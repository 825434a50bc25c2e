/* L-BFGS: J. Nocedal and S. J. Wright, "Numerical Optimization" (2006), algorithms 7.4 and 7.5, with the constants of
 * SciPy's L-BFGS-B (Zhu, Byrd, Lu & Nocedal 1997). */
#include "train/solvers/solver.h"

#include <float.h>
#include <math.h>
#include <string.h>

#if MICROBP_SOLVERS
static const mbp_wolfe search_rule = {.decrease = 1e-3, .curvature = 0.9, .tolerance = 0.1};
static const double longest = 1e10; /* step */
enum { MOST_PAIRS = 100, MOST_TRIALS = 20, MOST_HALVINGS = 60 };

/* ---- pairs ---- */

static int history_of(const mbp_solver *s) { return (int)s->parameters[0]; }

static int64_t count_numbers(const mbp_solver *s) {
    return (MBP_SOLVER_VECTORS + 2 * (int64_t)history_of(s)) * s->n + history_of(s);
}

static void place_pairs(mbp_solver *s, double *numbers) {
    mbp_pairs *const pairs = &s->of.pairs;
    pairs->s = mbp_solver_place(s, numbers);
    pairs->y = pairs->s + history_of(s) * s->n;
    pairs->sy = pairs->y + history_of(s) * s->n;
}

/* The number of the pair that was stored `age` pairs ago. */
static int64_t pair(const mbp_solver *s, int age) {
    const int history = history_of(s);
    return (s->of.pairs.next - 1 - age + 2 * history) % history;
}

static double *step_of(const mbp_solver *s, int64_t k) { return s->of.pairs.s + k * s->n; }
static double *change_of(const mbp_solver *s, int64_t k) { return s->of.pairs.y + k * s->n; }

/* Keeps the pair that has been written to the next place. */
static void keep_pair(mbp_solver *s, double sy) {
    mbp_pairs *const pairs = &s->of.pairs;
    pairs->sy[pairs->next] = sy;
    pairs->next = (pairs->next + 1) % history_of(s);
    pairs->count += pairs->count < history_of(s);
}

/* The pairs, the oldest first: its step, its change of the gradient. */
static int64_t save_pairs(const mbp_solver *s, double *numbers) {
    const size_t bytes = (size_t)s->n * sizeof *numbers;
    for (int age = s->of.pairs.count - 1; age >= 0 && numbers; age--, numbers += 2 * s->n) {
        memcpy(numbers, step_of(s, pair(s, age)), bytes);
        memcpy(numbers + s->n, change_of(s, pair(s, age)), bytes);
    }
    return 2 * s->n * s->of.pairs.count;
}

static int restore_pairs(mbp_solver *s, const double *numbers, int64_t count) {
    const size_t bytes = (size_t)s->n * sizeof *numbers;
    const int64_t each = 2 * s->n;
    if (count && (each == 0 || count % each || count / each > history_of(s)))
        return 0;
    s->of.pairs.count = s->of.pairs.next = 0;
    for (; count > 0; count -= each, numbers += each) {
        double *const step = step_of(s, s->of.pairs.next), *const change = change_of(s, s->of.pairs.next);
        memcpy(step, numbers, bytes);
        memcpy(change, numbers + s->n, bytes);
        keep_pair(s, mbp_dot(s->n, step, change));
    }
    return 1;
}

/* ---- the direction ---- */

/* direction = -H gradient: algorithm 7.4, with H0 = s y / y y of the newest pair. */
static void set_direction(mbp_solver *s) {
    double part[MOST_PAIRS], *d = s->direction;
    const double *sy = s->of.pairs.sy;
    for (int64_t i = 0; i < s->n; i++)
        d[i] = -s->gradient[i];
    for (int age = 0; age < s->of.pairs.count; age++) {
        const int64_t k = pair(s, age);
        part[age] = mbp_dot(s->n, step_of(s, k), d) / sy[k];
        mbp_add_scaled(s->n, -part[age], change_of(s, k), d);
    }
    if (s->of.pairs.count) {
        const int64_t k = pair(s, 0);
        const double *y = change_of(s, k), scale = sy[k] / mbp_dot(s->n, y, y);
        for (int64_t i = 0; i < s->n; i++)
            d[i] *= scale;
    }
    for (int age = s->of.pairs.count - 1; age >= 0; age--) {
        const int64_t k = pair(s, age);
        mbp_add_scaled(s->n, part[age] - mbp_dot(s->n, change_of(s, k), d) / sy[k], step_of(s, k), d);
    }
}

/* ---- along the line ---- */

static mbp_status try_step(mbp_solver *s, const mbp_problem *problem, double step, mbp_error *error) {
    for (int64_t i = 0; i < s->n; i++)
        s->trial[i] = s->x[i] + step * s->direction[i];
    return mbp_solver_try(s, problem, error);
}

/* Leaves in s->trial a point that is better than x, which was the last one evaluated; *found 0: there is none. A point
 * that satisfies the rule, else the best one that was tried. */
static mbp_status search(mbp_solver *s, const mbp_problem *problem, double slope, double step, int *found,
                         mbp_error *error) {
    mbp_line_search line;
    mbp_verdict verdict = MBP_GO_ON;
    int trials = 0, halvings = 0;
    mbp_line_search_start(&line, search_rule, s->value, slope, step, longest);
    while (verdict == MBP_GO_ON && trials < MOST_TRIALS && halvings < MOST_HALVINGS) {
        const mbp_status status = try_step(s, problem, step, error);
        if (status == MBP_NONFINITE) {
            halvings++;
            step = mbp_line_search_back(&line, step);
            continue;
        }
        if (status != MBP_OK)
            return status;
        trials++;
        verdict = mbp_line_search_next(&line, &step, s->trial_value, mbp_dot(s->n, s->trial_gradient, s->direction));
    }
    *found = verdict != MBP_GO_ON && mbp_solver_is_better(s);
    if (*found || !(line.best.value < s->value))
        return MBP_OK;
    const mbp_status status = try_step(s, problem, line.best.step, error);
    *found = status == MBP_OK && mbp_solver_is_better(s);
    return status == MBP_NONFINITE ? MBP_OK : status;
}

/* Keeps the pair of the step from x to the trial, unless the function is not convex along it: then H would not be
 * positive definite. */
static void add_pair(mbp_solver *s) {
    double *step = step_of(s, s->of.pairs.next), *change = change_of(s, s->of.pairs.next);
    for (int64_t i = 0; i < s->n; i++) {
        step[i] = s->trial[i] - s->x[i];
        change[i] = s->trial_gradient[i] - s->gradient[i];
    }
    const double sy = mbp_dot(s->n, step, change);
    if (sy > DBL_EPSILON * -mbp_dot(s->n, step, s->gradient) && sy < INFINITY)
        keep_pair(s, sy);
}

/* A step in the direction of the pairs, or, without pairs, of the steepest descent, of length 1 at first. */
static mbp_status step_on(mbp_solver *s, const mbp_problem *problem, int *found, mbp_error *error) {
    set_direction(s);
    mbp_solver_hold(s, problem);
    const double slope = mbp_dot(s->n, s->gradient, s->direction);
    if (!(slope < 0 && slope > -INFINITY))
        return MBP_OK;
    const double first = s->of.pairs.count ? 1 : fmin(1 / sqrt(mbp_dot(s->n, s->direction, s->direction)), longest);
    const mbp_status status = search(s, problem, slope, first, found, error);
    if (status == MBP_OK && *found) {
        add_pair(s);
        mbp_solver_move(s);
    }
    return status;
}

static mbp_status iterate_lbfgs(mbp_solver *s, const mbp_problem *problem, double *before, mbp_progress *progress,
                                mbp_error *error) {
    return mbp_solver_descend(s, problem, step_on, before, progress, error);
}

const mbp_solver_row mbp_solver_lbfgs = {.whole = "history",
                                         .numbers = count_numbers,
                                         .place = place_pairs,
                                         .iterate = iterate_lbfgs,
                                         .save = save_pairs,
                                         .restore = restore_pairs};
#endif
