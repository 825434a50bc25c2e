/* Solvers on functions of the caller. */
#include <math.h>
#include <string.h>

#include "kernels/catalog.h"
#include "system/memory.h"
#include "system/sized.h"
#include "train/solvers/solver.h"

#if MICROBP_SOLVERS
/* The function, and of least squares its residuals (m) and their derivatives (m, n) at the point `at`. */
typedef struct flat {
    mbp_function function;
    int64_t calls;
    double *residuals, *derivatives, *at;
} flat;

static int is_finite(int64_t n, const double *numbers) {
    double sum = 0; /* of zeros, or NaN */
    for (int64_t i = 0; i < n; i++)
        sum += numbers[i] * 0;
    return sum == 0;
}

static mbp_status compute(flat *f, const double *x, double *values, double *derivatives, mbp_error *error) {
    const int64_t n = f->function.n, m = f->function.residuals;
    f->calls++;
    if (f->function.compute(x, values, derivatives, f->function.user))
        return mbp_fail(error, MBP_CANCELLED, "the function that is minimized failed");
    if (is_finite(m ? m : 1, values) && (!derivatives || is_finite(m ? m * n : n, derivatives)))
        return MBP_OK;
    return mbp_fail(error, MBP_NONFINITE, "the function that is minimized is not finite");
}

static double half_square(const flat *f) { return mbp_dot(f->function.residuals, f->residuals, f->residuals) / 2; }

/* product = J^T r */
static void across(const flat *f, double *product) {
    const int64_t n = f->function.n;
    memset(product, 0, (size_t)n * sizeof *product);
    for (int64_t i = 0; i < f->function.residuals; i++)
        mbp_add_scaled(n, f->residuals[i], f->derivatives + i * n, product);
}

static mbp_status evaluate(void *user, double *x, double *value, double *gradient, mbp_error *error) {
    flat *f = user;
    if (f->function.residuals == 0)
        return compute(f, x, value, gradient, error);
    const mbp_status status = compute(f, x, f->residuals, f->derivatives, error);
    if (status != MBP_OK)
        return status;
    memcpy(f->at, x, (size_t)f->function.n * sizeof *x);
    *value = half_square(f);
    across(f, gradient);
    return isfinite(*value) && is_finite(f->function.n, gradient)
               ? MBP_OK
               : mbp_fail(error, MBP_NONFINITE, "the sum of squares is not finite");
}

static mbp_status value_alone(void *user, double *x, double *value, mbp_error *error) {
    flat *f = user;
    const mbp_status status = compute(f, x, f->residuals, NULL, error);
    *value = status == MBP_OK ? half_square(f) : NAN;
    return status != MBP_OK || isfinite(*value) ? status
                                                : mbp_fail(error, MBP_NONFINITE, "the sum of squares is not finite");
}

static mbp_status linearize(void *user, double *x, int by_rows, double *value, double *gradient, double *matrix,
                            double *diagonal, mbp_error *error) {
    const flat *f = user;
    const int64_t n = f->function.n, m = f->function.residuals;
    const mbp_status status = evaluate(user, x, value, gradient, error);
    if (status != MBP_OK)
        return status;
    memset(diagonal, 0, (size_t)n * sizeof *diagonal);
    memset(matrix, 0, (size_t)(by_rows ? m : n) * (size_t)n * sizeof *matrix);
    for (int64_t i = 0; i < m; i++) {
        const double *row = f->derivatives + i * n;
        for (int64_t k = 0; k < n && !by_rows; k++)
            mbp_add_scaled(k + 1, row[k], row, matrix + k * n);
        if (by_rows)
            memcpy(matrix + i * n, row, (size_t)n * sizeof *row);
    }
    return MBP_OK;
}

static mbp_status cross(void *user, double *x, double *trial, double *product, mbp_error *error) {
    flat *f = user;
    mbp_status status = MBP_OK;
    if (memcmp(x, f->at, (size_t)f->function.n * sizeof *x) != 0)
        status = evaluate(user, x, &(double){0}, product, error);
    if (status == MBP_OK)
        status = compute(f, trial, f->residuals, NULL, error);
    if (status == MBP_OK)
        across(f, product);
    return status;
}

/* ---- iterations ---- */

typedef struct stops {
    int64_t iterations;
    double goal, gradient_tolerance;
} stops;

/* Why to stop at x; NULL: go on. */
static const char *reason_at(const mbp_solver *s, const stops *when, mbp_progress progress, int64_t iterations) {
    return s->value <= when->goal                                       ? "goal"
           : mbp_largest(s->n, s->gradient) <= when->gradient_tolerance ? "gradient"
           : progress != MBP_MOVED                                      ? "no step"
           : iterations >= when->iterations                             ? "iterations"
                                                                        : NULL;
}

static mbp_status run(mbp_solver *s, const mbp_problem *problem, const stops *when, mbp_minimum *minimum,
                      mbp_error *error) {
    mbp_status status = MBP_OK;
    while (status == MBP_OK && !minimum->reason) {
        mbp_progress progress;
        double before;
        status = s->row->iterate(s, problem, &before, &progress, error);
        if (status != MBP_OK)
            continue;
        minimum->iterations += progress == MBP_MOVED;
        minimum->reason = reason_at(s, when, progress, minimum->iterations);
    }
    return status;
}

/* From x on, which becomes the best point. */
static mbp_status minimize(mbp_solver *s, flat *f, const stops *when, double *x, double *gradient, mbp_minimum *minimum,
                           mbp_error *error) {
    const size_t bytes = (size_t)s->n * sizeof *x;
    const int64_t m = f->function.residuals;
    const mbp_problem problem = {.evaluate = evaluate,
                                 .user = f,
                                 .residuals = m,
                                 .targets = m,
                                 .kernels = m ? mbp_kernels_suited(MBP_F64, s->n) : NULL,
                                 .measure = m ? value_alone : NULL,
                                 .linearize = m ? linearize : NULL,
                                 .cross = m ? cross : NULL};
    mbp_minimum found = {.size = sizeof found};
    memcpy(s->x, x, bytes);
    const mbp_status status = run(s, &problem, when, &found, error);
    memcpy(x, s->x, bytes);
    if (status != MBP_OK)
        return status;
    found.value = s->value;
    found.evaluations = f->calls;
    if (gradient)
        memcpy(gradient, s->gradient, bytes);
    return minimum ? mbp_sized_write(minimum, &found, sizeof found, "mbp_minimum", error) : MBP_OK;
}

static mbp_status check(const mbp_function *f, const stops *when, const double *x, mbp_error *error) {
    if (!f->compute)
        return mbp_fail_null(error, "function.compute", "a function");
    if (!x)
        return mbp_fail_null(error, "x", "n numbers");
    const struct {
        const char *name;
        int64_t value, least;
    } numbers[] = {
        {"function.n", f->n, 1}, {"function.residuals", f->residuals, 0}, {"iterations", when->iterations, 1}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].value < numbers[i].least || numbers[i].value > INT32_MAX)
            return mbp_fail(error, MBP_INVALID, "%s is %lld, but must be at least %lld and at most %lld",
                            numbers[i].name, (long long)numbers[i].value, (long long)numbers[i].least,
                            (long long)INT32_MAX);
    if (!(when->gradient_tolerance >= 0) || isnan(when->goal))
        return mbp_fail(error, MBP_INVALID,
                        "goal must be a number, and gradient_tolerance a number that is at least 0");
    return MBP_OK;
}

/* With the solver's numbers and the function's in one block. */
static mbp_status run_in_block(const mbp_formula *formula, flat *f, const stops *when, double *x, double *gradient,
                               mbp_minimum *minimum, mbp_error *error) {
    const int64_t n = f->function.n, m = f->function.residuals;
    mbp_solver s = {.row = mbp_solver_row_of(formula->row), .n = n, .parameters = formula->parameters};
    const int fits = (double)n * (double)m < (double)(INT64_MAX / 64); /* so no sum here overflows */
    const int64_t own = s.row->numbers(&s), scratch = fits && s.row->scratch ? s.row->scratch(&s, m) : 0;
    const int64_t numbers = fits ? own + scratch + n + m + m * n : INT64_MAX;
    const size_t bytes = (size_t)numbers * sizeof(double);
    double *const block = numbers < INT64_MAX / 16 ? mbp_allocate(NULL, bytes) : NULL;
    if (!block)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for %s with %lld numbers and %lld residuals",
                        mbp_formula_name(MBP_SOLVER, formula->row), (long long)n, (long long)m);
    s.row->place(&s, block);
    s.scratch = block + own;
    f->at = s.scratch + scratch;
    f->residuals = f->at + n;
    f->derivatives = f->residuals + m;
    f->at[0] = NAN; /* equal to no x: the derivatives are not known yet */
    const mbp_status status = minimize(&s, f, when, x, gradient, minimum, error);
    mbp_release(NULL, block, bytes);
    return status;
}
#endif

mbp_status mbp_minimize(const char *solver, const mbp_function *function, int64_t iterations, double goal,
                        double gradient_tolerance, double *x, double *gradient, mbp_minimum *minimum,
                        mbp_error *error) {
#if MICROBP_SOLVERS
    flat f = {.calls = 0};
    const stops when = {iterations, goal, gradient_tolerance};
    mbp_formula formula;
    size_t size;
    mbp_status status = function ? MBP_OK : mbp_fail_null(error, "function", "an mbp_function");
    if (status == MBP_OK)
        status = mbp_sized_read(&f.function, sizeof f.function, function, "mbp_function", error);
    if (status == MBP_OK && minimum)
        status = mbp_sized_size(&size, sizeof *minimum, minimum, "mbp_minimum", error);
    if (status == MBP_OK)
        status = check(&f.function, &when, x, error);
    if (status == MBP_OK)
        status = solver ? mbp_formula_parse(MBP_SOLVER, mbp_slice_of(solver), &formula, error)
                        : mbp_fail_null(error, "solver", "a spec such as \"lbfgs(history=10)\"");
    if (status == MBP_OK)
        status = mbp_solver_check(&formula, error);
    if (status == MBP_OK && mbp_solver_row_of(formula.row)->needs_residuals && f.function.residuals == 0)
        status = mbp_fail(error, MBP_INVALID, "%s needs a function with residuals; for other functions, use lbfgs",
                          mbp_formula_name(MBP_SOLVER, formula.row));
    return status == MBP_OK ? run_in_block(&formula, &f, &when, x, gradient, minimum, error) : status;
#else
    (void)solver, (void)function, (void)iterations, (void)goal, (void)gradient_tolerance, (void)x, (void)gradient;
    (void)minimum;
    return mbp_fail_extra(error, "mbp_minimize", "solvers");
#endif
}
