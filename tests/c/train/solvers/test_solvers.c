/* Line search and L-BFGS on the problems of More, Garbow & Hillstrom 1981, and on functions that are not finite everywhere. */
#include "check.h"
#include "train/solvers/solver.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HOLDS(condition) CHECK(condition, "%s", #condition)

#if MICROBP_SOLVERS
static double sq(double x) { return x * x; }

static double rosenbrock(const double *v, double *g) {
    const double p = v[1] - v[0] * v[0];
    g[0] = -400 * v[0] * p - 2 * (1 - v[0]);
    g[1] = 200 * p;
    return 100 * p * p + sq(1 - v[0]);
}

static double beale(const double *v, double *g) {
    const double x = v[0], y = v[1];
    const double a = 1.5 - x * (1 - y), b = 2.25 - x * (1 - y * y), c = 2.625 - x * (1 - y * y * y);
    g[0] = 2 * a * (y - 1) + 2 * b * (y * y - 1) + 2 * c * (y * y * y - 1);
    g[1] = 2 * a * x + 4 * b * x * y + 6 * c * x * y * y;
    return a * a + b * b + c * c;
}

static double powell(const double *v, double *g) {
    const double p = v[0] + 10 * v[1], q = v[2] - v[3], r = v[1] - 2 * v[2], s = v[0] - v[3];
    g[0] = 2 * p + 40 * s * s * s;
    g[1] = 20 * p + 4 * r * r * r;
    g[2] = 10 * q - 8 * r * r * r;
    g[3] = -10 * q - 40 * s * s * s;
    return p * p + 5 * q * q + sq(r * r) + 10 * sq(s * s);
}

static double wood(const double *v, double *g) {
    const double p = v[1] - v[0] * v[0], q = v[3] - v[2] * v[2], r = v[1] - 1, s = v[3] - 1;
    g[0] = -400 * v[0] * p - 2 * (1 - v[0]);
    g[1] = 200 * p + 20.2 * r + 19.8 * s;
    g[2] = -360 * v[2] * q - 2 * (1 - v[2]);
    g[3] = 180 * q + 20.2 * s + 19.8 * r;
    return 100 * p * p + sq(1 - v[0]) + 90 * q * q + sq(1 - v[2]) + 10.1 * (r * r + s * s) + 19.8 * r * s;
}

static double brown(const double *v, double *g) {
    const double p = v[0] - 1e6, q = v[1] - 2e-6, r = v[0] * v[1] - 2;
    g[0] = 2 * p + 2 * r * v[1];
    g[1] = 2 * q + 2 * r * v[0];
    return p * p + q * q + r * r;
}

/* The minimum is at the edge of where it is defined: not finite for x >= 1. */
static double barrier(const double *v, double *g) {
    g[0] = -100 + 1 / (1 - v[0]);
    return v[0] < 1 ? -100 * v[0] - log(1 - v[0]) : NAN;
}

/* Finite in a small ball around the start only, where it has no minimum. */
static double cliff(const double *v, double *g) {
    g[0] = 1;
    return v[0] > -1e-9 ? v[0] : INFINITY;
}

static double constant(const double *v, double *g) {
    (void)v;
    g[0] = g[1] = 0;
    return 3;
}

static double linear(const double *v, double *g) {
    g[0] = 1;
    return v[0];
}

typedef struct counted {
    double (*f)(const double *, double *);
    int64_t n;
    double at[4], value, gradient[4]; /* of the last call */
    int calls, fails_at;              /* the number of the call that fails; 0: none */
} counted;

static mbp_status call(void *user, double *x, double *value, double *gradient, mbp_error *error) {
    counted *c = user;
    (void)error;
    if (++c->calls == c->fails_at)
        return MBP_NO_MEMORY;
    c->value = *value = c->f(x, gradient);
    memcpy(c->at, x, (size_t)c->n * sizeof *x);
    memcpy(c->gradient, gradient, (size_t)c->n * sizeof *x);
    for (int64_t i = 0; i < c->n; i++)
        if (!isfinite(gradient[i]))
            return MBP_NONFINITE;
    return isfinite(*value) ? MBP_OK : MBP_NONFINITE;
}

/* A solver for every function. slower: how many times as many iterations it may need as L-BFGS. */
typedef struct method {
    const char *name;
    double parameters[2];
    int slower;
} method;
static const method methods[] = {
    {"lbfgs", {10}, 1}, {"scg", {5e-5, 5e-7}, 3}, {"lbfgs", {100}, 1}, {"lbfgs", {3}, 9}, {"lbfgs", {1}, 9}};
enum { METHODS = sizeof methods / sizeof *methods };

/* Without a state. room: how many numbers there are. */
static void make(mbp_solver *s, int64_t n, const method *m, double *numbers, int64_t room) {
    int row = 0;
    while (strcmp(mbp_formula_name(MBP_SOLVER, row), m->name) != 0)
        row++;
    *s = (mbp_solver){.row = mbp_solver_row_of(row), .n = n, .parameters = m->parameters};
    HOLDS(s->row->numbers(s) <= room);
    s->row->place(s, numbers);
}

/* Iterates until there is no better point; returns the number of iterations. No point is worse than the one before. */
static int solve(counted *c, const method *m, const double *start, double x[4], double *value, mbp_progress *last) {
    double numbers[4096], before = INFINITY, now;
    mbp_solver l;
    int iterations = 0;
    make(&l, c->n, m, numbers, 4096);
    memcpy(l.x, start, (size_t)c->n * sizeof *start);
    const mbp_problem problem = {call, c};
    *last = MBP_MOVED;
    while (*last == MBP_MOVED && iterations++ < 500) {
        HOLDS(l.row->iterate(&l, &problem, &now, last, NULL) == MBP_OK);
        HOLDS(now <= before && l.value <= now);
        HOLDS(memcmp(c->at, l.x, (size_t)c->n * sizeof *l.x) == 0 && c->value == l.value);
        HOLDS(memcmp(c->gradient, l.gradient, (size_t)c->n * sizeof *l.x) == 0);
        before = l.value;
    }
    HOLDS(l.evaluations == c->calls);
    memcpy(x, l.x, (size_t)c->n * sizeof *x);
    *value = l.value;
    return iterations;
}

static void test_problems(void) {
    static const struct {
        double (*f)(const double *, double *);
        int64_t n;
        double start[4], minimum[4], near, least;
        int iterations;
    } problems[] = {
        {rosenbrock, 2, {-1.2, 1}, {1, 1}, 1e-8, 1e-20, 60},
        {beale, 2, {1, 1}, {3, 0.5}, 1e-8, 1e-20, 40},
        {powell, 4, {3, -1, 0, 1}, {0, 0, 0, 0}, 1e-3, 1e-14, 501},
        {wood, 4, {-3, -1, -3, -1}, {1, 1, 1, 1}, 1e-8, 1e-20, 150},
        {brown, 2, {1, 1}, {1e6, 2e-6}, 1e-8, 1e-20, 40},
    };
    for (size_t p = 0; p < sizeof problems / sizeof *problems; p++)
        for (const method *m = methods; m < methods + METHODS; m++) {
            counted c = {.f = problems[p].f, .n = problems[p].n};
            double x[4], value;
            mbp_progress last;
            const int iterations = solve(&c, m, problems[p].start, x, &value, &last);
            HOLDS(value <= problems[p].least);
            HOLDS(iterations <= m->slower * problems[p].iterations);
            for (int64_t i = 0; i < c.n; i++)
                HOLDS(fabs(x[i] - problems[p].minimum[i]) <= problems[p].near * fmax(1, fabs(x[i])));
        }
}

static void test_functions_that_are_not_finite(const method *m) {
    double x[4], value;
    mbp_progress last;
    counted c = {.f = barrier, .n = 1};
    solve(&c, m, (const double[]){0}, x, &value, &last);
    HOLDS(fabs(x[0] - 0.99) < 1e-8);
    c = (counted){.f = cliff, .n = 1};
    solve(&c, m, (const double[]){0}, x, &value, &last);
    HOLDS(x[0] > -1e-9 && x[0] < 0 && isfinite(value));
    c = (counted){.f = barrier, .n = 1};
    mbp_solver l;
    double numbers[4096], before;
    make(&l, 1, m, numbers, 4096);
    l.x[0] = 2;
    HOLDS(l.row->iterate(&l, &(mbp_problem){call, &c}, &before, &last, NULL) == MBP_NONFINITE);
    HOLDS(l.x[0] == 2 && c.calls == 1);
}

static void test_no_minimum_and_no_gradient(const method *m) {
    double x[4], value;
    mbp_progress last;
    counted c = {.f = constant, .n = 2};
    HOLDS(solve(&c, m, (const double[]){1, 2}, x, &value, &last) == 1);
    HOLDS(last == MBP_AT_MINIMUM && x[0] == 1 && x[1] == 2);
    c = (counted){.f = linear, .n = 1};
    solve(&c, m, (const double[]){0}, x, &value, &last);
    HOLDS(isfinite(value) && value < -1e6);
}

static void test_an_error_leaves_the_old_point(const method *m) {
    for (int at = 1; at < 12; at++) {
        counted c = {.f = rosenbrock, .n = 2, .fails_at = at};
        double numbers[4096], before = 0, old[2];
        mbp_solver l;
        mbp_progress progress;
        mbp_status status = MBP_OK;
        make(&l, 2, m, numbers, 4096);
        l.x[0] = -1.2, l.x[1] = 1;
        while (status == MBP_OK) {
            memcpy(old, l.x, sizeof old);
            status = l.row->iterate(&l, &(mbp_problem){call, &c}, &before, &progress, NULL);
        }
        HOLDS(status == MBP_NO_MEMORY && memcmp(old, l.x, sizeof old) == 0);
    }
}

/* From a state that was saved, in the middle of the way, a solver goes on as if it had not stopped. */
static void test_states(const method *m) {
    counted c = {.f = wood, .n = 4};
    double numbers[2][4096], saved[4096], before;
    mbp_progress progress;
    const mbp_problem problem = {call, &c};
    mbp_solver s[2];
    make(&s[0], 4, m, numbers[0], 4096);
    memcpy(s[0].x, (const double[]){-3, -1, -3, -1}, 4 * sizeof(double));
    HOLDS(s[0].row->save(&s[0], NULL) == 0);
    for (int i = 0; i < 30; i++) {
        HOLDS(s[0].row->iterate(&s[0], &problem, &before, &progress, NULL) == MBP_OK);
        const int64_t count = s[0].row->save(&s[0], saved);
        make(&s[1], 4, m, numbers[1], 4096);
        HOLDS(count > 0 && !s[1].row->restore(&s[1], saved, count + 1) && s[1].row->restore(&s[1], saved, count));
        memcpy(s[1].x, s[0].x, 4 * sizeof(double));
        for (int k = 0; k < 2; k++)
            HOLDS(s[k].row->iterate(&s[k], &problem, &before, &progress, NULL) == MBP_OK);
        HOLDS(memcmp(s[0].x, s[1].x, 4 * sizeof(double)) == 0);
        HOLDS(s[1].row->restore(&s[1], NULL, 0) && s[1].row->save(&s[1], NULL) == 0);
    }
}

/* The test problems of More & Thuente 1994, section 5. */
static double mt1(double a, double *slope) {
    *slope = (a * a - 2) / sq(a * a + 2);
    return -a / (a * a + 2);
}
static double mt2(double a, double *slope) {
    const double b = a + 0.004, cube = b * b * b;
    *slope = cube * (5 * b - 8);
    return cube * b * (b - 2);
}
static double mt4(double a, double *slope, double b1, double b2) {
    const double g1 = sqrt(1 + b1 * b1) - b1, g2 = sqrt(1 + b2 * b2) - b2, p = sqrt(sq(1 - a) + b2 * b2),
                 q = sqrt(a * a + b1 * b1);
    *slope = g1 * (a - 1) / p + g2 * a / q;
    return g1 * p + g2 * q;
}
static double line(int number, double a, double *slope) {
    return number == 0   ? mt1(a, slope)
           : number == 1 ? mt2(a, slope)
           : number == 2 ? mt4(a, slope, 0.001, 0.001)
           : number == 3 ? mt4(a, slope, 0.01, 0.001)
                         : mt4(a, slope, 0.001, 0.01);
}

/* Every first step from 1e-3 to 1e3 leads to a step that satisfies the rule, in few trials. */
static void test_line_search(void) {
    static const mbp_wolfe rules[] = {{1e-3, 0.1, 1e-10}, {0.1, 0.1, 1e-10}, {1e-3, 0.9, 0.1}};
    for (int number = 0; number < 5; number++)
        for (int r = 0; r < 3; r++)
            for (double first = 1e-3; first < 2e3; first *= 10) {
                mbp_line_search s;
                mbp_verdict verdict = MBP_GO_ON;
                double step = first, slope0, slope = 0, value = 0;
                const double value0 = line(number, 0, &slope0);
                int trials = 0;
                mbp_line_search_start(&s, rules[r], value0, slope0, step, 1e10);
                while (verdict == MBP_GO_ON && trials++ < 20) {
                    value = line(number, step, &slope);
                    verdict = mbp_line_search_next(&s, &step, value, slope);
                }
                HOLDS(verdict == MBP_FOUND || (verdict == MBP_ENDED && rules[r].tolerance == 0.1));
                if (verdict == MBP_ENDED)
                    continue;
                HOLDS(value <= value0 + rules[r].decrease * step * slope0);
                HOLDS(fabs(slope) <= rules[r].curvature * -slope0);
            }
}

/* A solver is an optimizer to the caller, so its name is among those that are meant. */
static void test_names(void) {
    mbp_formula formula;
    mbp_error error = {0};
    HOLDS(mbp_formula_parse(MBP_OPTIMIZER, mbp_slice_of("levenberg_marquart"), &formula, &error) != MBP_OK);
    HOLDS(strstr(error.text, "did you mean \"levenberg_marquardt\"? "));
}
#endif

int main(void) {
#if MICROBP_SOLVERS
    test_problems();
    for (const method *m = methods; m < methods + METHODS; m++)
        test_functions_that_are_not_finite(m);
    for (const method *m = methods; m < methods + METHODS; m++)
        test_no_minimum_and_no_gradient(m);
    for (const method *m = methods; m < methods + METHODS; m++)
        test_an_error_leaves_the_old_point(m);
    for (const method *m = methods; m < methods + METHODS; m++)
        test_states(m);
    test_line_search();
    test_names();
#endif
    return report("solvers");
}
