/* The line search of J. J. More and D. J. Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM
 * Transactions on Mathematical Software 20 (1994). Section numbers are of that paper. As in MINPACK-2, the next step is
 * within [low, high]: between the ends of the interval once it is bracketed, before that between 1.1 and 4 times the
 * last move beyond the last step. */
#include "train/solvers/solver.h"

#include <math.h>

#if MICROBP_SOLVERS
static const double nearest = 1.1, farthest = 4; /* of extrapolation */
static const double shrinks = 0.66;              /* two steps must make the interval shorter by this factor */

void mbp_line_search_start(mbp_line_search *search, mbp_wolfe rule, double value, double slope, double step,
                           double most) {
    const mbp_sample start = {0, value, slope};
    *search = (mbp_line_search){.rule = rule,
                                .most = most,
                                .start = start,
                                .best = start,
                                .other = start,
                                .high = step + farthest * step,
                                .width = most,
                                .width_before = 2 * most};
}

static double largest(double a, double b, double c) { return fmax(fmax(fabs(a), fabs(b)), fabs(c)); }

/* Minimizers of what interpolates two samples: of the cubic by values and slopes, as a part of the way from a to b,
 * with the square root in it; of the quadratic by both values and the slope at a; of the quadratic by both slopes. */
static double cubic_part(mbp_sample a, mbp_sample b, double *root) {
    const double theta = 3 * (a.value - b.value) / (b.step - a.step) + a.slope + b.slope;
    const double scale = largest(theta, a.slope, b.slope);
    const double square = (theta / scale) * (theta / scale) - (a.slope / scale) * (b.slope / scale);
    *root = scale * sqrt(fmax(0, square));
    if (b.step < a.step)
        *root = -*root;
    return (*root - a.slope + theta) / (*root - a.slope + *root + b.slope);
}
static double cubic(mbp_sample a, mbp_sample b) {
    double root;
    return a.step + cubic_part(a, b, &root) * (b.step - a.step);
}
static double quadratic(mbp_sample a, mbp_sample b) {
    const double rise = (a.value - b.value) / (b.step - a.step) + a.slope;
    return a.step + a.slope / rise / 2 * (b.step - a.step);
}
static double secant(mbp_sample a, mbp_sample b) { return b.step + b.slope / (b.slope - a.slope) * (a.step - b.step); }

static double nearer(double to, double a, double b) { return fabs(a - to) < fabs(b - to) ? a : b; }
static double farther(double from, double a, double b) { return fabs(a - from) > fabs(b - from) ? a : b; }

/* Case 3: the slope has the sign of that at the best step, and is flatter. The cubic has a minimizer beyond the new
 * step, or none; then it goes as far as it may. */
static double beyond(const mbp_line_search *s, mbp_sample now) {
    const mbp_sample best = s->best;
    double root;
    const double part = cubic_part(now, best, &root), flat = secant(best, now);
    const double end = now.step > best.step ? s->high : s->low;
    const double c = part < 0 && root != 0 ? now.step + part * (best.step - now.step) : end;
    if (!s->is_bracketed)
        return fmin(fmax(farther(now.step, c, flat), s->low), s->high);
    const double limit = now.step + shrinks * (s->other.step - now.step), next = nearer(now.step, c, flat);
    return now.step > best.step ? fmin(limit, next) : fmax(limit, next);
}

/* Section 4: the next step, from the samples at the ends of the interval and the new one; updates the interval. */
static double trial(mbp_line_search *s, mbp_sample now) {
    const mbp_sample best = s->best;
    const int turns = now.slope * (best.slope < 0 ? -1 : 1) < 0;
    double next;
    if (now.value > best.value) { /* case 1: higher, so the minimum is before it */
        const double c = cubic(best, now), q = quadratic(best, now);
        next = fabs(c - best.step) < fabs(q - best.step) ? c : c + (q - c) / 2;
        s->is_bracketed = 1;
    } else if (turns) { /* case 2: lower, and the slope has changed its sign, so the minimum is before it */
        next = farther(now.step, cubic(now, best), secant(best, now));
        s->is_bracketed = 1;
    } else if (fabs(now.slope) < fabs(best.slope)) {
        next = beyond(s, now);
    } else if (s->is_bracketed) { /* case 4: lower, and as steep */
        next = cubic(now, s->other);
    } else {
        next = now.step > best.step ? s->high : s->low;
    }
    if (now.value > best.value) {
        s->other = now;
    } else {
        if (turns)
            s->other = best;
        s->best = now;
    }
    return next;
}

/* Section 3: in the first stage, the interval is updated by psi(step) = f(step) - f(0) - decrease step f'(0), which is
 * negative where the function has decreased enough. */
static mbp_sample tilted(mbp_sample a, double slope, double sign) {
    return (mbp_sample){a.step, a.value - sign * a.step * slope, a.slope - sign * slope};
}

static double trial_of_psi(mbp_line_search *s, mbp_sample now, double slope) {
    s->best = tilted(s->best, slope, 1);
    s->other = tilted(s->other, slope, 1);
    const double next = trial(s, tilted(now, slope, 1));
    s->best = tilted(s->best, slope, -1);
    s->other = tilted(s->other, slope, -1);
    return next;
}

/* Sets the bounds of the next step, and bisects the interval if it has not become much shorter. */
static double within(mbp_line_search *s, double next) {
    const double best = s->best.step, other = s->other.step;
    if (s->is_bracketed) {
        if (fabs(other - best) >= shrinks * s->width_before)
            next = best + (other - best) / 2;
        s->width_before = s->width;
        s->width = fabs(other - best);
        s->low = fmin(best, other);
        s->high = fmax(best, other);
    } else {
        s->low = next + nearest * (next - best);
        s->high = next + farthest * (next - best);
    }
    next = fmin(fmax(next, 0), s->most);
    const int is_tight = s->is_bracketed &&
                         (next <= s->low || next >= s->high || s->high - s->low <= s->rule.tolerance * s->high);
    return is_tight ? best : next;
}

mbp_verdict mbp_line_search_next(mbp_line_search *s, double *step, double value, double slope) {
    const mbp_sample now = {*step, value, slope};
    const double least = s->rule.decrease * s->start.slope, enough = s->start.value + *step * least;
    const int is_low = value <= enough;
    if (is_low && slope >= 0)
        s->is_settled = 1;
    if (is_low && fabs(slope) <= s->rule.curvature * -s->start.slope)
        return MBP_FOUND;
    if (s->is_bracketed && (*step <= s->low || *step >= s->high || s->high - s->low <= s->rule.tolerance * s->high))
        return MBP_ENDED;
    if ((*step >= s->most && is_low && slope <= least) || *step <= 0)
        return MBP_ENDED;
    const int by_psi = !s->is_settled && value <= s->best.value && !is_low;
    const double next = by_psi ? trial_of_psi(s, now, least) : trial(s, now);
    *step = within(s, next);
    return MBP_GO_ON;
}

double mbp_line_search_back(mbp_line_search *s, double step) {
    s->most = fmin(s->most, step);
    return s->best.step + (step - s->best.step) / 2;
}
#endif
