/* mbp_minimize: results, reasons to stop, functions that fail, and what is refused. */
#include "check.h"
#include "config/config.h"
#include "microbp.h"

#include <math.h>
#include <string.h>

#define HOLDS(condition) CHECK(condition, "%s", #condition)

/* Rosenbrock's valley, as a value with its gradient or as two residuals with their derivatives. */
typedef struct valley {
    int calls, fails_at, is_squares;
    double bad; /* what the value is at call 3; 0: itself */
} valley;

/* Not inlined: a compiler may round values of constants otherwise. */
static __attribute__((noinline)) int compute(const double *x, double *values, double *derivatives, void *user) {
    valley *v = user;
    const double r[2] = {10 * (x[1] - x[0] * x[0]), 1 - x[0]}, jacobian[4] = {-20 * x[0], 10, -1, 0};
    if (++v->calls == v->fails_at)
        return 1;
    if (v->is_squares) {
        memcpy(values, r, sizeof r);
        if (derivatives)
            memcpy(derivatives, jacobian, sizeof jacobian);
    } else {
        values[0] = (r[0] * r[0] + r[1] * r[1]) / 2;
        for (int i = 0; i < 2; i++)
            derivatives[i] = r[0] * jacobian[i] + r[1] * jacobian[2 + i];
    }
    if (v->calls == 3 && v->bad != 0)
        values[0] = v->bad;
    return 0;
}

static mbp_function function_of(valley *v) {
    return (mbp_function){sizeof(mbp_function), 2, v->is_squares ? 2 : 0, compute, v};
}

/* Whether a solver works with any function, or with least squares only. */
static int is_for_all(const char *solver) {
    valley v = {0};
    const mbp_function f = function_of(&v);
    mbp_error error;
    const mbp_status status = mbp_minimize(solver, &f, 1, 0, 0, (double[2]){0, 0}, NULL, NULL, &error);
    HOLDS(status == MBP_OK || strstr(error.text, " needs a function with residuals; for other functions, use lbfgs"));
    return status == MBP_OK;
}

static void test_minima(const char *solver, int is_squares, double bad) {
    valley v = {.is_squares = is_squares, .bad = bad};
    const mbp_function f = function_of(&v);
    mbp_minimum found = {.size = sizeof found};
    mbp_error error;
    double x[2] = {-1.2, 1}, gradient[2];
    HOLDS(mbp_minimize(solver, &f, 500, -INFINITY, 0, x, gradient, &found, &error) == MBP_OK);
    HOLDS(fabs(x[0] - 1) < 1e-8 && fabs(x[1] - 1) < 1e-8 && found.value < 1e-18 && fabs(gradient[0]) < 1e-9);
    HOLDS(found.size == sizeof found && found.iterations > 5 && found.evaluations == v.calls);
    HOLDS(strcmp(found.reason, "gradient") == 0 || strcmp(found.reason, "no step") == 0);
    const double few[2] = {-1.2, 1};
    memcpy(x, few, sizeof x);
    HOLDS(mbp_minimize(solver, &f, 3, -INFINITY, 0, x, NULL, &found, &error) == MBP_OK);
    HOLDS(found.iterations == 3 && strcmp(found.reason, "iterations") == 0);
    const double goal = found.value;
    memcpy(x, few, sizeof x);
    HOLDS(mbp_minimize(solver, &f, 500, goal, 0, x, NULL, &found, &error) == MBP_OK);
    HOLDS(found.iterations == 3 && strcmp(found.reason, "goal") == 0 && found.value == goal);
    HOLDS(mbp_minimize(solver, &f, 500, -INFINITY, 1e-3, x, gradient, NULL, &error) == MBP_OK);
    HOLDS(fabs(gradient[0]) <= 1e-3 && fabs(gradient[1]) <= 1e-3);
}

static void test_errors(const char *solver, int is_squares) {
    for (int at = 1; at < 30; at++) {
        valley v = {.fails_at = at, .is_squares = is_squares}, other = {0};
        const mbp_function f = function_of(&v);
        mbp_minimum found = {.size = sizeof found, .iterations = -1};
        mbp_error error;
        double x[2] = {-1.2, 1}, start[2] = {-1.2, 1}, values[2], gradient[2];
        HOLDS(mbp_minimize(solver, &f, 500, -INFINITY, 0, x, NULL, &found, &error) == MBP_CANCELLED);
        HOLDS(v.calls == at && found.iterations == -1);
        HOLDS(strcmp(error.text, "the function that is minimized failed") == 0);
        compute(start, &values[0], gradient, &other);
        compute(x, &values[1], gradient, &other);
        HOLDS(values[1] <= values[0] && (at > 1 || memcmp(x, start, sizeof x) == 0));
    }
}

/* The number of bytes may be too large for an integer. */
static void test_too_large(const char *solver) {
    valley v = {0};
    mbp_function f = function_of(&v);
    mbp_error error;
    double x[2] = {0, 0};
    f.n = f.residuals = INT32_MAX;
    HOLDS(mbp_minimize(solver, &f, 1, 0, 0, x, NULL, NULL, &error) == MBP_NO_MEMORY && v.calls == 0);
}

static void refused(mbp_status status, const mbp_error *error, const char *text) {
    CHECK(status == MBP_INVALID && strcmp(error->text, text) == 0, "%s", error->text);
}

static void test_refusals(void) {
    valley v = {0};
    mbp_function f = function_of(&v);
    mbp_minimum found = {.size = 1};
    mbp_error error;
    double x[2] = {0, 0};
    refused(mbp_minimize("lbfgs", &f, 0, 0, 0, x, NULL, NULL, &error), &error,
            "iterations is 0, but must be at least 1 and at most 2147483647");
    refused(mbp_minimize("lbfgs", &f, 1, NAN, 0, x, NULL, NULL, &error), &error,
            "goal must be a number, and gradient_tolerance a number that is at least 0");
    refused(mbp_minimize("lbfgs", &f, 1, 0, -1, x, NULL, NULL, &error), &error,
            "goal must be a number, and gradient_tolerance a number that is at least 0");
    refused(mbp_minimize("lbfgs", &f, 1, 0, 0, NULL, NULL, NULL, &error), &error,
            "x is NULL, but must point to n numbers");
    refused(mbp_minimize(NULL, &f, 1, 0, 0, x, NULL, NULL, &error), &error,
            "solver is NULL, but must point to a spec such as \"lbfgs(history=10)\"");
    refused(mbp_minimize("lbfgs", NULL, 1, 0, 0, x, NULL, NULL, &error), &error,
            "function is NULL, but must point to an mbp_function");
    refused(mbp_minimize("lbfgs", &f, 1, 0, 0, x, NULL, &found, &error), &error,
            "mbp_minimum.size is 1: set it to sizeof(mbp_minimum)");
    refused(mbp_minimize("lbfgs(history=1.5)", &f, 1, 0, 0, x, NULL, NULL, &error), &error,
            "history must be a whole number, not 1.5");
    HOLDS(mbp_minimize("adam", &f, 1, 0, 0, x, NULL, NULL, &error) == MBP_INVALID);
    f.n = 0;
    refused(mbp_minimize("lbfgs", &f, 1, 0, 0, x, NULL, NULL, &error), &error,
            "function.n is 0, but must be at least 1 and at most 2147483647");
    f.compute = NULL;
    refused(mbp_minimize("lbfgs", &f, 1, 0, 0, x, NULL, NULL, &error), &error,
            "function.compute is NULL, but must point to a function");
    HOLDS(v.calls == 0 && x[0] == 0 && x[1] == 0);
    double y[2] = {NAN, 0};
    f = function_of(&v);
    HOLDS(mbp_minimize("lbfgs", &f, 1, 0, 0, y, NULL, NULL, &error) == MBP_NONFINITE);
}

int main(void) {
#if MICROBP_SOLVERS
    const char *solver;
    for (int i = 0; (solver = mbp_formula_name(MBP_SOLVER, i)); i++) {
        test_too_large(solver);
        if (strcmp(solver, "bayesian_regularization") == 0) /* adds a penalty of its own */
            continue;
        for (int is_squares = !is_for_all(solver); is_squares < 2; is_squares++) {
            test_minima(solver, is_squares, 0);
            test_minima(solver, is_squares, NAN);
            test_minima(solver, is_squares, -INFINITY);
            test_errors(solver, is_squares);
        }
    }
    test_refusals();
#endif
    return report("minimize");
}
