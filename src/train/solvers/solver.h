/* Floor 3: minimizing a function of many numbers by its gradient. What the numbers are, a solver does not know. */
#ifndef MBP_SOLVER_H
#define MBP_SOLVER_H

#include "config/config.h"
#include "kernels/catalog.h"
#include "microbp_base.h"

/* ---- the line search of More & Thuente 1994 (line_search.c) ---- */

/* A step along the line, the function there, and its derivative by the step. */
typedef struct mbp_sample {
    double step, value, slope;
} mbp_sample;

/* What a step must satisfy, with f the function along the line:
 *     f(step) <= f(0) + decrease step f'(0)     it decreases enough
 *     |f'(step)| <= curvature |f'(0)|           a longer or shorter step would not decrease it much more
 * tolerance: the search also ends if an interval with such a step is as short as this part of its upper end. */
typedef struct mbp_wolfe {
    double decrease, curvature, tolerance;
} mbp_wolfe;

/* The interval of uncertainty: from the best step so far to another one. */
typedef struct mbp_line_search {
    mbp_wolfe rule;
    double most; /* no step is longer */
    mbp_sample start, best, other;
    int is_bracketed;           /* whether a step that satisfies the rule is between best and other */
    int is_settled;             /* the second stage: the function decreased enough at a step with f' >= 0 */
    double low, high;           /* bounds of the next step */
    double width, width_before; /* of the interval, after the last step and the one before */
} mbp_line_search;

typedef enum mbp_verdict {
    MBP_GO_ON, /* the next step must be tried */
    MBP_FOUND, /* this step satisfies the rule */
    MBP_ENDED  /* no further step can be found; `best` is the best one */
} mbp_verdict;

/* slope: f'(0), below 0. step: the first one that will be tried, above 0. */
void mbp_line_search_start(mbp_line_search *search, mbp_wolfe rule, double value, double slope, double step,
                           double most);
/* value, slope: those at *step, finite. MBP_GO_ON: *step becomes the next step. */
mbp_verdict mbp_line_search_next(mbp_line_search *search, double *step, double value, double slope);
/* The function is not finite at `step`: returns half of the way back to the best step, and searches only below `step`
 * from now on. */
double mbp_line_search_back(mbp_line_search *search, double step);

/* ---- problems ---- */

/* Computes the value and the gradient at x, and may round x to the numbers that it can represent. MBP_NONFINITE: one of
 * them is not finite. Any other error ends the iteration. */
typedef mbp_status (*mbp_flat)(void *user, double *x, double *value, double *gradient, mbp_error *error);

typedef struct mbp_problem {
    mbp_flat evaluate;
    void *user;
    /* Sets a direction to 0 along the numbers that must not move, where the gradient is 0, too. NULL: all may move. */
    void (*hold)(const void *user, double *direction);
    /* Only of least squares, where the value is made of residuals: (J^T J) is the matrix of its second derivatives, up
     * to terms with second derivatives of the residuals. 0: the problem is another one. */
    int64_t residuals;
    int64_t targets;            /* how many residuals have a target and a weight above 0 */
    const mbp_kernels *kernels; /* those of float64 */
    /* The value alone. May round x, and fails, as `evaluate`. */
    mbp_status (*measure)(void *user, double *x, double *value, mbp_error *error);
    /* Value and gradient at x, and the matrix. by_rows 1: J (residuals, n); 0: the lower triangle of J^T J (n, n), and
     * nothing is promised about what is above it. It is without penalties: diagonal (n) has their second derivatives,
     * and -1 for parameters that must not move. */
    mbp_status (*linearize)(void *user, double *x, int by_rows, double *value, double *gradient, double *matrix,
                            double *diagonal, mbp_error *error);
    /* product (n) = J(x)^T r(trial), with the residuals at another point; without the penalties. */
    mbp_status (*cross)(void *user, double *x, double *trial, double *product, mbp_error *error);
} mbp_problem;

/* ---- solvers ---- */

typedef enum mbp_progress {
    MBP_MOVED,
    MBP_AT_MINIMUM, /* the gradient is 0 */
    MBP_NO_STEP     /* no step makes the function smaller: x is as good as rounding allows */
} mbp_progress;

/* What L-BFGS knows of the last steps. */
typedef struct mbp_pairs {
    int count, next;    /* how many there are; where the next one goes */
    double *s, *y, *sy; /* change of x, change of the gradient, their product */
} mbp_pairs;

/* What SCG knows: lambda, 0 before the first step, and the number of steps since the last one along the gradient. */
typedef struct mbp_scg {
    double lambda;
    int64_t age;
} mbp_scg;
/* What Levenberg-Marquardt knows of the last steps: all 0 before the first one. */
typedef struct mbp_damping {
    double mu, growth;             /* as a part of scale; by which factor it grows next */
    double scale;                  /* the largest diagonal element of the first J^T J */
    double alpha, beta, effective; /* of Bayesian regularization: factors of both sums; number of parameters */
} mbp_damping;

typedef struct mbp_solver mbp_solver;

/* What a solver is: one constant per row SOLVER of formulas.def. */
typedef struct mbp_solver_row {
    /* The name of a parameter that must be a whole number; NULL: none. */
    const char *whole;
    int needs_residuals; /* 1: it solves least squares only */
    int sets_l2;         /* 1: it has penalties of its own, so layers must not have l2 */
    /* How many doubles `place` needs for n parameters. */
    int64_t (*numbers)(const mbp_solver *s);
    void (*place)(mbp_solver *s, double *numbers);
    /* How many more doubles an iteration needs, in s->scratch, for a problem of so many residuals. NULL: none. */
    int64_t (*scratch)(const mbp_solver *s, int64_t residuals);
    /* One iteration from s->x. The new x is never worse. The last evaluation was at x, also if it has not moved; after
     * an error, x is the old one. *before: the value at the old x. MBP_NONFINITE: it, or the gradient there, is not
     * finite. */
    mbp_status (*iterate)(mbp_solver *s, const mbp_problem *problem, double *before, mbp_progress *progress,
                          mbp_error *error);
    /* Writes what the next iteration depends on besides x; returns how many doubles that is. numbers NULL: only counts
     * them. */
    int64_t (*save)(const mbp_solver *s, double *numbers);
    /* Takes what `save` has written; count 0: starts anew. 0: a state cannot have so many numbers. */
    int (*restore)(mbp_solver *s, const double *numbers, int64_t count);
    /* Number i of those that formulas.def names; NaN: not known yet. NULL: it names none. */
    double (*number)(const mbp_solver *s, int i);
} mbp_solver_row;

/* Numbers n doubles long are vectors over the parameters. */
struct mbp_solver {
    const mbp_solver_row *row;
    int64_t n;
    const double *parameters; /* of its spec */
    int is_known;             /* whether value and gradient are those at x */
    int64_t evaluations;      /* in all iterations */
    double value, trial_value;
    double *x, *gradient, *trial, *trial_gradient, *direction;
    double *scratch;
    union {
        mbp_pairs pairs;
        mbp_scg scg;
        mbp_damping damping;
    } of;
};

/* The solver in row i of the table of formulas. */
const mbp_solver_row *mbp_solver_row_of(int i);
/* Refuses a number that must be whole. */
mbp_status mbp_solver_check(const mbp_formula *formula, mbp_error *error);

/* Takes memory for the vectors of `struct mbp_solver`; returns what follows them. */
enum { MBP_SOLVER_VECTORS = 5 };
double *mbp_solver_place(mbp_solver *s, double *numbers);

/* Evaluates at x, if that is not known. */
mbp_status mbp_solver_start(mbp_solver *s, const mbp_problem *problem, mbp_error *error);
/* Evaluates at x again, after trials elsewhere. */
mbp_status mbp_solver_return(mbp_solver *s, const mbp_problem *problem, mbp_error *error);
/* Evaluates at s->trial. */
mbp_status mbp_solver_try(mbp_solver *s, const mbp_problem *problem, mbp_error *error);
/* Whether the trial is better than x: lower, or as low and less steep, where the value is too coarse to tell. */
int mbp_solver_is_better(const mbp_solver *s);
/* Along the direction, numbers that must not move do not: the last steps, of which it is made, may have moved them. */
void mbp_solver_hold(const mbp_solver *s, const mbp_problem *problem);
/* The trial becomes x. */
void mbp_solver_move(mbp_solver *s);

/* The function of a row `iterate` whose solver starts anew if it finds no better point. step_on moves to a better one,
 * which was the last evaluated, and sets *found. */
mbp_status mbp_solver_descend(mbp_solver *s, const mbp_problem *problem,
                              mbp_status (*step_on)(mbp_solver *s, const mbp_problem *problem, int *found,
                                                    mbp_error *error),
                              double *before, mbp_progress *progress, mbp_error *error);

/* ---- vectors (trials.c) ---- */

/* The sum of products, in 16 partial sums and one tree, as all sums of this library. */
double mbp_dot(int64_t n, const double *a, const double *b);
/* y += a x */
void mbp_add_scaled(int64_t n, double a, const double *x, double *y);
/* The largest absolute value. */
double mbp_largest(int64_t n, const double *a);
#endif
