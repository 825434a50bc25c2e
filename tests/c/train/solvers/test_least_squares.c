/* Levenberg-Marquardt and Bayesian regularization on the problems of More, Garbow & Hillstrom 1981, on residuals that are
 * not finite everywhere, and on problems with more parameters than residuals. */
#include "check.h"
#include "train/solvers/solver.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HOLDS(condition) CHECK(condition, "%s", #condition)

#if MICROBP_SOLVERS && MICROBP_F64
extern const mbp_solver_row mbp_solver_levenberg_marquardt, mbp_solver_bayesian_regularization;

static uint64_t state = 1;
static double draw(void) { /* from -1 to 1 */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)state / 9.3e18;
}

static double *numbers_of(int64_t count) {
    double *numbers = aligned_alloc(64, ((size_t)count * sizeof *numbers + 63) / 64 * 64);
    HOLDS(numbers != NULL);
    return numbers;
}

/* ---- problems: residuals r (m) and their Jacobian J (m, n) ---- */

enum { MOST = 80 };

typedef void (*residuals)(const double *x, double *r, double *J);

static void rosenbrock(const double *x, double *r, double *J) {
    const double all[] = {-20 * x[0], 10, -1, 0};
    r[0] = 10 * (x[1] - x[0] * x[0]), r[1] = 1 - x[0];
    memcpy(J, all, sizeof all);
}

static void beale(const double *x, double *r, double *J) {
    static const double at[] = {1.5, 2.25, 2.625};
    for (int i = 0; i < 3; i++) {
        const double power = pow(x[1], i + 1);
        r[i] = at[i] - x[0] * (1 - power);
        J[2 * i] = power - 1;
        J[2 * i + 1] = x[0] * (i + 1) * pow(x[1], i);
    }
}

static void powell(const double *x, double *r, double *J) {
    const double p = x[1] - 2 * x[2], q = x[0] - x[3], five = sqrt(5.), ten = sqrt(10.);
    const double all[] = {1, 10, 0, 0, 0, 0, five, -five, 0, 2 * p, -4 * p, 0, 2 * ten * q, 0, 0, -2 * ten * q};
    r[0] = x[0] + 10 * x[1], r[1] = five * (x[2] - x[3]), r[2] = p * p, r[3] = ten * q * q;
    memcpy(J, all, sizeof all);
}

static void wood(const double *x, double *r, double *J) {
    const double a = sqrt(90.), b = sqrt(10.);
    const double all[] = {-20 * x[0], 10, 0, 0, -1, 0, 0, 0, 0,     0, -2 * a * x[2], a, 0,
                          0,          -1, 0, 0, b,  0, b, 0, 1 / b, 0, -1 / b};
    r[0] = 10 * (x[1] - x[0] * x[0]), r[1] = 1 - x[0], r[2] = a * (x[3] - x[2] * x[2]), r[3] = 1 - x[2];
    r[4] = b * (x[1] + x[3] - 2), r[5] = (x[1] - x[3]) / b;
    memcpy(J, all, sizeof all);
}

static void brown(const double *x, double *r, double *J) {
    const double all[] = {1, 0, 0, 1, x[1], x[0]};
    r[0] = x[0] - 1e6, r[1] = x[1] - 2e-6, r[2] = x[0] * x[1] - 2;
    memcpy(J, all, sizeof all);
}

static void helical(const double *x, double *r, double *J) {
    const double pi = acos(-1.), square = x[0] * x[0] + x[1] * x[1], length = sqrt(square), c = 50 / (pi * square);
    const double all[] = {c * x[1], -c * x[0], 10, 10 * x[0] / length, 10 * x[1] / length, 0, 0, 0, 1};
    r[0] = 10 * (x[2] - 10 * atan2(x[1], x[0]) / (2 * pi)), r[1] = 10 * (length - 1), r[2] = x[2];
    memcpy(J, all, sizeof all);
}

static void box(const double *x, double *r, double *J) {
    for (int i = 0; i < 10; i++) {
        const double t = 0.1 * (i + 1), a = exp(-t * x[0]), b = exp(-t * x[1]), c = exp(-t) - exp(-10 * t);
        r[i] = a - b - x[2] * c;
        J[3 * i] = -t * a, J[3 * i + 1] = t * b, J[3 * i + 2] = -c;
    }
}

/* Finite below 1 only; the minimum is at 0.9. */
static void barrier(const double *x, double *r, double *J) {
    r[0] = x[0] < 1 ? 10 * (x[0] - 0.9) / sqrt(1 - x[0]) : (double)NAN;
    J[0] = 10 / sqrt(1 - x[0]) + 5 * (x[0] - 0.9) / pow(1 - x[0], 1.5);
}

/* Its Jacobian is not finite left of 0.5, its residual is. */
static void edge(const double *x, double *r, double *J) {
    r[0] = x[0];
    J[0] = x[0] < 0.5 ? (double)INFINITY : 1;
}

static void constant(const double *x, double *r, double *J) {
    (void)x;
    r[0] = 2, J[0] = J[1] = 0;
}

/* 6 residuals of 80 parameters: an exponential of a sum. */
static void wide(const double *x, double *r, double *J) {
    for (int i = 0; i < 6; i++) {
        double sum = 0;
        for (int j = 0; j < 80; j++)
            sum += J[80 * i + j] = sin(1. + (i + 1) * j * j) / 10;
        for (int j = 0; j < 80; j++)
            sum += J[80 * i + j] * (x[j] - 1);
        for (int j = 0; j < 80; j++)
            J[80 * i + j] *= exp(sum);
        r[i] = exp(sum) - i - 1;
    }
}

/* A parabola through 40 points that are not on it, with 3 parameters. */
static void parabola(const double *x, double *r, double *J) {
    for (int i = 0; i < 40; i++) {
        const double t = i / 20. - 1;
        r[i] = x[0] + x[1] * t + x[2] * t * t - cos(3 * t) - 0.1 * sin(40 * t);
        J[3 * i] = 1, J[3 * i + 1] = t, J[3 * i + 2] = t * t;
    }
}

typedef struct counted {
    residuals f;
    int64_t n, m;
    double penalty, at[MOST], value, gradient[MOST]; /* of the last call */
    int frozen;                                      /* a parameter that does not move; -1: none */
    int force_rows;                                  /* zero residuals are added up to this number of them */
    int calls, fails_at;                             /* the number of the call that fails; 0: none */
    double r[MOST], J[MOST * MOST];
} counted;

static mbp_status call(counted *c, const double *x, double *value) {
    if (++c->calls == c->fails_at)
        return MBP_NO_MEMORY;
    memset(c->r, 0, sizeof c->r);
    memset(c->J, 0, sizeof c->J);
    c->f(x, c->r, c->J);
    memcpy(c->at, x, (size_t)c->n * sizeof *x);
    *value = mbp_dot(c->m, c->r, c->r) / 2;
    for (int64_t i = 0; i < c->n; i++)
        *value += i == c->frozen ? 0 : c->penalty * x[i] * x[i] / 2;
    c->value = *value;
    return isfinite(*value) ? MBP_OK : MBP_NONFINITE;
}

static mbp_status measure(void *user, double *x, double *value, mbp_error *error) {
    (void)error;
    return call(user, x, value);
}

static mbp_status linearize(void *user, double *x, int by_rows, double *value, double *gradient, double *matrix,
                            double *diagonal, mbp_error *error) {
    counted *c = user;
    mbp_status status = call(c, x, value);
    (void)error;
    if (status != MBP_OK)
        return status;
    for (int64_t k = 0; k < c->m * c->n; k++)
        if (k % c->n == c->frozen)
            c->J[k] = 0;
    for (int64_t i = 0; i < c->n; i++) {
        gradient[i] = i == c->frozen ? 0 : c->penalty * x[i];
        diagonal[i] = i == c->frozen ? -1 : c->penalty;
        for (int64_t k = 0; k < c->m; k++)
            gradient[i] += c->J[k * c->n + i] * c->r[k];
        if (!isfinite(gradient[i]))
            status = MBP_NONFINITE;
        for (int64_t j = 0; j <= i && !by_rows; j++) {
            double sum = 0;
            for (int64_t k = 0; k < c->m; k++)
                sum += c->J[k * c->n + i] * c->J[k * c->n + j];
            matrix[i * c->n + j] = sum;
        }
    }
    if (by_rows)
        memcpy(matrix, c->J, (size_t)(c->m * c->n) * sizeof *matrix);
    memcpy(c->gradient, gradient, (size_t)c->n * sizeof *gradient);
    return status;
}

static mbp_status cross(void *user, double *x, double *trial, double *product, mbp_error *error) {
    counted *c = user;
    double value, J[MOST * MOST];
    mbp_status status = call(c, x, &value);
    (void)error;
    memcpy(J, c->J, sizeof J);
    if (status == MBP_OK)
        status = call(c, trial, &value);
    for (int64_t i = 0; i < c->n; i++) {
        product[i] = 0;
        for (int64_t k = 0; k < c->m; k++)
            product[i] += i == c->frozen ? 0 : J[k * c->n + i] * c->r[k];
    }
    return status;
}

static mbp_problem problem_of(counted *c) {
    return (mbp_problem){.user = c,
                         .residuals = c->m,
                         .targets = c->m,
                         .kernels = mbp_kernels_find(NULL, MBP_F64),
                         .measure = measure,
                         .linearize = linearize,
                         .cross = cross};
}

/* mu decrease increase most damping geodesic */
static const double settings[][6] = {{0.3, 0.1, 10, 1e10, 0, 0},  {1e-2, 0.1, 10, 1e10, 1, 0},
                                     {1e-2, 0.1, 10, 1e10, 1, 1}, {1e-3, 0.1, 10, 1e10, 2, 0},
                                     {1e-3, 0.1, 10, 1e10, 2, 1}, {1, 0.5, 3, 1e10, 2, 0}};
enum { SETTINGS = sizeof settings / sizeof *settings };

static void open_solver(mbp_solver *s, const mbp_solver_row *row, const counted *c, const double *parameters,
                        const double *start, double **numbers) {
    *s = (mbp_solver){.row = row, .n = c->n, .parameters = parameters};
    *numbers = numbers_of(row->numbers(s) + row->scratch(s, c->m));
    row->place(s, *numbers);
    s->scratch = *numbers + row->numbers(s);
    memcpy(s->x, start, (size_t)c->n * sizeof *start);
}

static int is_at(const counted *c, const mbp_solver *s) {
    return memcmp(c->at, s->x, (size_t)c->n * sizeof *s->x) == 0 && c->value == s->value &&
           memcmp(c->gradient, s->gradient, (size_t)c->n * sizeof *s->x) == 0;
}

/* Iterates until there is no better point; returns the number of iterations. No point is worse than the one before. */
static int minimize(counted *c, const double *parameters, const double *start, double *x, mbp_progress *last) {
    double *numbers, before = INFINITY, now;
    mbp_solver s;
    int iterations = 0;
    open_solver(&s, &mbp_solver_levenberg_marquardt, c, parameters, start, &numbers);
    const mbp_problem problem = problem_of(c);
    for (*last = MBP_MOVED; *last == MBP_MOVED && iterations < 1000; iterations++) {
        HOLDS(s.row->iterate(&s, &problem, &now, last, NULL) == MBP_OK);
        HOLDS(now <= before && s.value <= now && (*last != MBP_MOVED || s.value < now));
        HOLDS(is_at(c, &s));
        before = s.value;
    }
    memcpy(x, s.x, (size_t)c->n * sizeof *x);
    c->value = s.value;
    free(numbers);
    return iterations;
}

static const struct {
    residuals f;
    int64_t n, m;
    double start[4], minimum[4], near, least;
    int iterations;
} problems[] = {
    {rosenbrock, 2, 2, {-1.2, 1}, {1, 1}, 1e-10, 1e-20, 60},
    {beale, 2, 3, {1, 1}, {3, 0.5}, 1e-10, 1e-20, 40},
    {powell, 4, 4, {3, -1, 0, 1}, {0, 0, 0, 0}, 1e-3, 1e-14, 1000},
    {wood, 4, 6, {-3, -1, -3, -1}, {1, 1, 1, 1}, 1e-10, 1e-20, 400},
    {brown, 2, 3, {1, 1}, {1e6, 2e-6}, 1e-8, 1e-18, 200},
    {helical, 3, 3, {-1, 0, 0}, {1, 0, 0}, 1e-10, 1e-20, 50},
    {box, 3, 10, {0, 10, 20}, {1, 10, 1}, 1e-8, 1e-20, 100},
};

/* Also with zero residuals below, which change nothing but the shape of the system. */
static void test_problems(void) {
    for (size_t p = 0; p < sizeof problems / sizeof *problems; p++)
        for (int k = 0; k < SETTINGS; k++) {
            counted c = {.f = problems[p].f, .n = problems[p].n, .m = problems[p].m, .frozen = -1};
            double x[MOST];
            mbp_progress last;
            const int iterations = minimize(&c, settings[k], problems[p].start, x, &last);
            CHECK(c.value <= problems[p].least && iterations <= problems[p].iterations,
                  "problem %d, settings %d: %g in %d", (int)p, k, c.value, iterations);
            for (int64_t i = 0; i < c.n; i++)
                CHECK(fabs(x[i] - problems[p].minimum[i]) <= problems[p].near * fmax(1, fabs(x[i])),
                      "problem %d, settings %d: x[%d] = %.17g", (int)p, k, (int)i, x[i]);
        }
}

/* With penalties, too: the system of the residuals' size has the same solution as that of the parameters' size. */
static void test_few_residuals(void) {
    for (int penalized = 0; penalized < 2; penalized++)
        for (int k = 0; k < SETTINGS; k++) {
            counted few = {.f = wide, .n = 80, .m = 6, .penalty = 0.01 * penalized, .frozen = 3}, many = few;
            double *numbers[2], before;
            mbp_solver s[2];
            mbp_progress progress;
            static const double start[80];
            many.m = 80;
            counted *c[] = {&few, &many};
            for (int i = 0; i < 2; i++)
                open_solver(&s[i], &mbp_solver_levenberg_marquardt, c[i], settings[k], start, &numbers[i]);
            double near = 1e-8; /* the condition number of J^T J + mu I is up to 1 / mu; geodesic: times 2 / probe^2 */
            for (int iteration = 0; iteration < 10; iteration++) {
                near += (settings[k][5] ? 1e-9 : 1e-11) / (iteration ? s[1].of.damping.mu : settings[k][0]);
                for (int i = 0; i < 2; i++) {
                    const mbp_problem problem = problem_of(c[i]);
                    HOLDS(s[i].row->iterate(&s[i], &problem, &before, &progress, NULL) == MBP_OK);
                }
                for (int64_t j = 0; j < 80; j++)
                    CHECK(fabs(s[0].x[j] - s[1].x[j]) <= near, "settings %d, iteration %d: %g", k, iteration,
                          s[0].x[j] - s[1].x[j]);
            }
            CHECK(s[0].x[3] == 0 && (penalized || s[0].value < 1e-10), "settings %d: %g", k, s[0].value);
            HOLDS(!penalized || (s[0].value > 1e-3 && mbp_largest(80, s[0].gradient) < 1e-6));
            free(numbers[0]);
            free(numbers[1]);
        }
}

static void test_residuals_that_are_not_finite(void) {
    for (int k = 0; k < SETTINGS; k++) {
        double x[MOST], before, *numbers;
        mbp_progress last;
        counted c = {.f = barrier, .n = 1, .m = 1, .frozen = -1};
        minimize(&c, settings[k], (const double[]){-30}, x, &last);
        HOLDS(fabs(x[0] - 0.9) < 1e-10 && last != MBP_MOVED);
        c = (counted){.f = edge, .n = 1, .m = 1, .frozen = -1};
        minimize(&c, settings[k], (const double[]){4}, x, &last);
        HOLDS(x[0] >= 0.5 && x[0] < 0.6 && last == MBP_NO_STEP);
        c = (counted){.f = barrier, .n = 1, .m = 1, .frozen = -1};
        mbp_solver s;
        open_solver(&s, &mbp_solver_levenberg_marquardt, &c, settings[k], (const double[]){2}, &numbers);
        const mbp_problem problem = problem_of(&c);
        HOLDS(s.row->iterate(&s, &problem, &before, &last, NULL) == MBP_NONFINITE && s.x[0] == 2 && c.calls == 1);
        free(numbers);
        c = (counted){.f = constant, .n = 2, .m = 1, .frozen = -1};
        HOLDS(minimize(&c, settings[k], (const double[]){1, 2}, x, &last) == 1);
        HOLDS(last == MBP_AT_MINIMUM && x[0] == 1 && x[1] == 2);
    }
}

static void test_an_error_leaves_the_old_point(void) {
    for (int k = 0; k < SETTINGS; k++)
        for (int at = 1; at < 20; at++) {
            counted c = {.f = rosenbrock, .n = 2, .m = 2, .frozen = -1, .fails_at = at};
            double *numbers, before = 0, old[2], kept[6], now[6];
            mbp_solver s;
            mbp_progress progress;
            mbp_status status = MBP_OK;
            open_solver(&s, &mbp_solver_levenberg_marquardt, &c, settings[k], (const double[]){-1.2, 1}, &numbers);
            const mbp_problem problem = problem_of(&c);
            int64_t count = 0;
            while (status == MBP_OK) {
                memcpy(old, s.x, sizeof old);
                count = s.row->save(&s, kept);
                status = s.row->iterate(&s, &problem, &before, &progress, NULL);
            }
            HOLDS(status == MBP_NO_MEMORY && memcmp(old, s.x, sizeof old) == 0);
            HOLDS(count == 0 || (s.row->save(&s, now) == count && memcmp(kept, now, (size_t)count * sizeof *now) == 0));
            free(numbers);
        }
}

/* The state and x are all that the next iterations depend on. */
static void test_states(const mbp_solver_row *row, int64_t size) {
    double *numbers[2], before, kept[8];
    mbp_progress progress;
    mbp_solver s[2];
    counted c = {.f = parabola, .n = 3, .m = 40, .frozen = -1};
    static const double start[3] = {3, 3, 3};
    const mbp_problem problem = problem_of(&c);
    open_solver(&s[0], row, &c, settings[1], start, &numbers[0]);
    HOLDS(row->save(&s[0], NULL) == 0);
    for (int i = 0; i < 3; i++)
        HOLDS(row->iterate(&s[0], &problem, &before, &progress, NULL) == MBP_OK);
    HOLDS(row->save(&s[0], NULL) == size && row->save(&s[0], kept) == size);
    open_solver(&s[1], row, &c, settings[1], s[0].x, &numbers[1]);
    HOLDS(!row->restore(&s[1], kept, size - 1) && !row->restore(&s[1], kept, 1) && row->restore(&s[1], kept, size));
    for (int i = 0; i < 3; i++)
        for (int which = 0; which < 2; which++)
            HOLDS(row->iterate(&s[which], &problem, &before, &progress, NULL) == MBP_OK);
    HOLDS(memcmp(s[0].x, s[1].x, sizeof start) == 0);
    HOLDS(row->restore(&s[1], kept, 0) && row->save(&s[1], NULL) == 0);
    free(numbers[0]);
    free(numbers[1]);
}

/* ---- Bayesian regularization ---- */

/* A linear problem: at the end, x minimizes beta E_D + alpha E_W, and alpha, beta are those of the number of parameters
 * that the eigenvalues give (MacKay 1992, equations 4.5 to 4.11). */
static void test_evidence(void) {
    counted c = {.f = parabola, .n = 3, .m = 40, .frozen = -1};
    double *numbers, before;
    mbp_progress progress = MBP_MOVED;
    mbp_solver s;
    open_solver(&s, &mbp_solver_bayesian_regularization, &c, settings[0], (const double[]){3, 3, 3}, &numbers);
    const mbp_problem problem = problem_of(&c);
    for (int i = 0; i < 60; i++)
        HOLDS(s.row->iterate(&s, &problem, &before, &progress, NULL) == MBP_OK);
    const mbp_damping *d = &s.of.damping;
    const double errors = 40 * s.value, weights = mbp_dot(3, s.x, s.x);
    for (int64_t i = 0; i < 3; i++) /* the gradient of E_D is 40 times that of the value */
        HOLDS(fabs(d->beta * 40 * s.gradient[i] + 2 * d->alpha * s.x[i]) < 1e-6 * d->beta);
    HOLDS(d->effective > 2.5 && d->effective < 3);
    HOLDS(fabs(d->alpha * 2 * weights - d->effective) < 1e-6);
    HOLDS(fabs(d->beta * 2 * errors - (40 - d->effective)) < 1e-6);
    free(numbers);
}

/* With fewer residuals than parameters the numbers are the same, and the frozen parameter is not counted. */
static void test_evidence_of_few_residuals(void) {
    counted few = {.f = wide, .n = 80, .m = 6, .frozen = 3}, many = few;
    double *numbers[2], before, start[80];
    mbp_progress progress;
    mbp_solver s[2];
    many.m = 80;
    counted *c[] = {&few, &many};
    for (int i = 0; i < 80; i++)
        start[i] = i == 3 ? 7 : draw();
    for (int i = 0; i < 2; i++)
        open_solver(&s[i], &mbp_solver_bayesian_regularization, c[i], settings[0], start, &numbers[i]);
    for (int iteration = 0; iteration < 3; iteration++)
        for (int i = 0; i < 2; i++) {
            mbp_problem problem = problem_of(c[i]);
            problem.targets = 80;
            HOLDS(s[i].row->iterate(&s[i], &problem, &before, &progress, NULL) == MBP_OK);
        }
    const mbp_damping *d = &s[0].of.damping, *other = &s[1].of.damping;
    HOLDS(s[0].x[3] == 7 && s[1].x[3] == 7);
    CHECK(fabs(d->effective - other->effective) < 1e-6 && d->effective > 0 && d->effective <= 6, "%g", d->effective);
    HOLDS(fabs(d->alpha - other->alpha) < 1e-6 * d->alpha && fabs(d->beta - other->beta) < 1e-6 * d->beta);
    free(numbers[0]);
    free(numbers[1]);
}
#endif

int main(void) {
#if MICROBP_SOLVERS && MICROBP_F64
    test_problems();
    test_few_residuals();
    test_residuals_that_are_not_finite();
    test_an_error_leaves_the_old_point();
    test_states(&mbp_solver_levenberg_marquardt, 3);
    test_states(&mbp_solver_bayesian_regularization, 6);
    test_evidence();
    test_evidence_of_few_residuals();
#endif
    return report("least squares");
}
