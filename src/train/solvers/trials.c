/* What all solvers share: vectors, and trials of points. In the order of the numbers and by one thread: beside the
 * gradient of a whole batch this takes no time. */
#include "train/solvers/solver.h"

#include <math.h>

#if MICROBP_SOLVERS
double *mbp_solver_place(mbp_solver *s, double *numbers) {
    double **vectors[MBP_SOLVER_VECTORS] = {&s->x, &s->gradient, &s->trial, &s->trial_gradient, &s->direction};
    for (int i = 0; i < MBP_SOLVER_VECTORS; i++, numbers += s->n)
        *vectors[i] = numbers;
    return numbers;
}

mbp_status mbp_solver_return(mbp_solver *s, const mbp_problem *problem, mbp_error *error) {
    s->evaluations++;
    return problem->evaluate(problem->user, s->x, &s->value, s->gradient, error);
}

mbp_status mbp_solver_start(mbp_solver *s, const mbp_problem *problem, mbp_error *error) {
    const mbp_status status = s->is_known ? MBP_OK : mbp_solver_return(s, problem, error);
    s->is_known |= status == MBP_OK;
    return status;
}

mbp_status mbp_solver_try(mbp_solver *s, const mbp_problem *problem, mbp_error *error) {
    s->evaluations++;
    return problem->evaluate(problem->user, s->trial, &s->trial_value, s->trial_gradient, error);
}

int mbp_solver_is_better(const mbp_solver *s) {
    return s->trial_value < s->value ||
           (s->trial_value == s->value && mbp_largest(s->n, s->trial_gradient) < mbp_largest(s->n, s->gradient));
}

void mbp_solver_hold(const mbp_solver *s, const mbp_problem *problem) {
    if (problem->hold)
        problem->hold(problem->user, s->direction);
}

static void swap(double **a, double **b) {
    double *const before = *a;
    *a = *b;
    *b = before;
}

void mbp_solver_move(mbp_solver *s) {
    swap(&s->x, &s->trial);
    swap(&s->gradient, &s->trial_gradient);
    s->value = s->trial_value;
}

mbp_status mbp_solver_descend(mbp_solver *s, const mbp_problem *problem,
                              mbp_status (*step_on)(mbp_solver *s, const mbp_problem *problem, int *found,
                                                    mbp_error *error),
                              double *before, mbp_progress *progress, mbp_error *error) {
    const int was_known = s->is_known;
    int found = 0;
    mbp_status status = mbp_solver_start(s, problem, error);
    if (status != MBP_OK)
        return status;
    const int is_flat = mbp_largest(s->n, s->gradient) == 0;
    *before = s->value;
    if (!is_flat)
        status = step_on(s, problem, &found, error);
    if (status == MBP_OK && !is_flat && !found && s->row->save(s, NULL)) {
        s->row->restore(s, NULL, 0);
        status = step_on(s, problem, &found, error);
    }
    *progress = found ? MBP_MOVED : is_flat ? MBP_AT_MINIMUM : MBP_NO_STEP;
    const int is_elsewhere = !found && (was_known || !is_flat);
    return status == MBP_OK && is_elsewhere ? mbp_solver_return(s, problem, error) : status;
}

double mbp_dot(int64_t n, const double *a, const double *b) {
    enum { LANES = 16 };
    double sum[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            sum[l] += a[i + l] * b[i + l];
    for (int l = 0; i < n; i++, l++)
        sum[l] += a[i] * b[i];
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++)
            sum[l] += sum[l + width];
    return sum[0];
}

void mbp_add_scaled(int64_t n, double a, const double *x, double *y) {
    for (int64_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

double mbp_largest(int64_t n, const double *a) {
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(a[i]));
    return most;
}
#endif
