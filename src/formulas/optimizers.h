/* Floor 1: the optimizers of formulas.def. Each has two functions: one prepares the constants of a step, the other
 * updates one parameter.
 *
 * Letters: p parameter, g gradient, s slots of the parameter and h hyperparameters, both in the order of formulas.def,
 * c constants of the step. run->steps is the number of the step: 1, 2, ... Constants are prepared in double only
 * (net/catalog.c). They include every factor that all parameters share, so that updating a parameter takes at most one
 * division and one square root, even where the textbook has more. */
#ifndef MBP_OPTIMIZERS_H
#define MBP_OPTIMIZERS_H

#include "formulas/formulas.h"
#include "formulas/running.h"

/* What a step does to a parameter without a gradient, and to its slots: see mbp_idle. A sparse layer catches up on the
 * steps that its rows missed. adam and adamw are lazy as SparseAdam in PyTorch: moments of a row change in the steps
 * that name it; only adamw's decay is caught up. decay: weight_decay. */
static inline mbp_idle no_idle(const double h[], double decay) {
    (void)h, (void)decay;
    return (mbp_idle){.kind = MBP_IDLE_UNKNOWN};
}

static inline mbp_idle adam_idle(const double h[], double decay) {
    (void)h;
    return (mbp_idle){.kind = decay > 0 ? MBP_IDLE_DECAYS : MBP_IDLE_STILL};
}

static inline mbp_idle adamw_idle(const double h[], double decay) {
    return (mbp_idle){.kind = decay > 0 ? MBP_IDLE_SCALED : MBP_IDLE_STILL, .p = {1 - h[0] * decay, 0}, .others = 1};
}

static inline mbp_idle linear_idle(int slot, double others, double p0, double p1, double s0, double s1) {
    return (mbp_idle){MBP_IDLE_LINEAR, slot, {p0, p1}, {s0, s1}, others};
}

/* With an eps below the normal floats, a parameter without gradient would get 0 / 0. */
static inline double normal_eps(double eps) { return eps < 0x1p-126 ? 0x1p-126 : eps; }

/* ---- running products ---- */

static inline void no_powers(const double h[], mbp_running *run) { (void)h, (void)run; }

/* beta1^t and beta2^t without pow. */
static inline void beta_powers(const double h[], mbp_running *run) {
    run->power[0] *= h[1];
    run->power[1] *= h[2];
}

/* ---- gradient descent and momentum ---- */

static inline void sgd_prepare(const double h[], const mbp_running *run, double c[]) {
    (void)run;
    c[0] = h[0]; /* lr */
}

FORMULA T sgd_step(T p, T g, T s[], const T c[]) {
    (void)s;
    return p - c[0] * g;
}

static inline mbp_idle sgd_idle(const double h[], double decay) { return adamw_idle(h, decay); }

static inline void momentum_prepare(const double h[], const mbp_running *run, double c[]) {
    (void)run;
    c[0] = h[0]; /* lr */
    c[1] = h[1]; /* momentum */
}

FORMULA T sgd_momentum_step(T p, T g, T s[], const T c[]) {
    s[0] = c[1] * s[0] + g;
    return p - c[0] * s[0];
}

/* Nesterov momentum by Sutskever et al. 2013, as in PyTorch. */
FORMULA T sgd_nesterov_step(T p, T g, T s[], const T c[]) {
    s[0] = c[1] * s[0] + g;
    return p - c[0] * (g + c[1] * s[0]);
}

static inline mbp_idle sgd_momentum_idle(const double h[], double decay) {
    return linear_idle(0, 1, 1 - h[0] * decay, -h[0] * h[1], decay, h[1]);
}

static inline mbp_idle sgd_nesterov_idle(const double h[], double decay) {
    return linear_idle(0, 1, 1 - h[0] * decay * (1 + h[1]), -h[0] * h[1] * h[1], decay, h[1]);
}

/* The learning rate is part of the velocity, as in Rumelhart et al. 1986: a new rate affects new gradients only. */
FORMULA T momentum_step(T p, T g, T s[], const T c[]) {
    s[0] = c[1] * s[0] - c[0] * g;
    return p + s[0];
}

FORMULA T momentum_nesterov_step(T p, T g, T s[], const T c[]) {
    const T pull = c[0] * g;
    s[0] = c[1] * s[0] - pull;
    return p + (c[1] * s[0] - pull);
}

static inline mbp_idle momentum_idle(const double h[], double decay) {
    return linear_idle(0, 1, 1 - h[0] * decay, h[1], -h[0] * decay, h[1]);
}

static inline mbp_idle momentum_nesterov_idle(const double h[], double decay) {
    return linear_idle(0, 1, 1 - h[0] * decay * (1 + h[1]), h[1] * h[1], -h[0] * decay, h[1]);
}

/* Polyak & Juditsky 1992 as in PyTorch: eta = lr / (1 + lambd lr (t - 1))^alpha. From step t0 on, the slot averages the
 * parameters. */
static inline void asgd_prepare(const double h[], const mbp_running *run, double c[]) {
    const double before = (double)(run->steps - 1), averaged = before - h[3];
    const double eta = h[0] * (double)EXP((T)-h[2] * LOG1P((T)(h[1] * h[0] * before)));
    c[0] = eta;
    c[1] = h[1] * eta;                      /* lambd eta */
    c[2] = averaged > 1 ? 1 / averaged : 1; /* weight of the new parameter in the average */
    c[3] = 1 - c[2];
}

FORMULA T asgd_step(T p, T g, T s[], const T c[]) {
    const T q = p - (c[1] * p + c[0] * g);
    s[0] = c[3] * s[0] + c[2] * q;
    return q;
}

/* ---- steps divided by the size of past gradients ---- */

/* Duchi et al. 2011, with lr_decay as in PyTorch. */
static inline void adagrad_prepare(const double h[], const mbp_running *run, double c[]) {
    c[0] = h[0] / (1 + (double)(run->steps - 1) * h[1]); /* lr */
    c[1] = normal_eps(h[3]);
}

FORMULA T adagrad_step(T p, T g, T s[], const T c[]) {
    s[0] = s[0] + g * g;
    return p - c[0] * g / (SQRT(s[0]) + c[1]);
}

static inline mbp_idle adagrad_idle(const double h[], double decay) { return adam_idle(h, decay); }

/* Zeiler 2012, algorithm 1. One root of a quotient replaces two roots; for |g| < 1e16 this loses nothing in float. */
static inline void adadelta_prepare(const double h[], const mbp_running *run, double c[]) {
    (void)run;
    c[0] = h[0]; /* lr */
    c[1] = h[1]; /* rho */
    c[2] = 1 - h[1];
    c[3] = normal_eps(h[2]);
}

FORMULA T adadelta_step(T p, T g, T s[], const T c[]) {
    s[0] = c[1] * s[0] + c[2] * (g * g);
    const T change = SQRT((s[1] + c[3]) / (s[0] + c[3])) * g;
    s[1] = c[1] * s[1] + c[2] * (change * change);
    return p - c[0] * change;
}

/* The averages of squares, of changes and of gradients decay; p does not move. Also of rmsprop, whose h[1] is alpha. */
static inline mbp_idle decaying_idle(const double h[], double decay) {
    return (mbp_idle){.kind = decay > 0 ? MBP_IDLE_DECAYS : MBP_IDLE_SCALED, .p = {1, 0}, .others = h[1]};
}

/* Tieleman & Hinton 2012; eps is added to the root. */
static inline void rmsprop_prepare(const double h[], const mbp_running *run, double c[]) {
    (void)run;
    c[0] = h[0]; /* lr */
    c[1] = h[1]; /* alpha */
    c[2] = 1 - h[1];
    c[3] = normal_eps(h[2]);
}

static inline void rmsprop_momentum_prepare(const double h[], const mbp_running *run, double c[]) {
    rmsprop_prepare(h, run, c);
    c[4] = h[3]; /* momentum */
}

FORMULA T rmsprop_step(T p, T g, T s[], const T c[]) {
    s[0] = c[1] * s[0] + c[2] * (g * g);
    return p - c[0] * g / (SQRT(s[0]) + c[3]);
}

FORMULA T rmsprop_momentum_step(T p, T g, T s[], const T c[]) {
    s[0] = c[1] * s[0] + c[2] * (g * g);
    s[1] = c[4] * s[1] + g / (SQRT(s[0]) + c[3]);
    return p - c[0] * s[1];
}

static inline mbp_idle velocity_idle(const double h[], double decay, int slot) {
    return decay > 0 ? decaying_idle(h, decay) : linear_idle(slot, h[1], 1, -h[0] * h[3], 0, h[3]);
}
static inline mbp_idle rmsprop_momentum_idle(const double h[], double decay) { return velocity_idle(h, decay, 1); }
static inline mbp_idle rmsprop_centered_momentum_idle(const double h[], double decay) {
    return velocity_idle(h, decay, 2);
}

/* The standard deviation that divides steps in Graves 2013, section 4.2. MAX: rounding can make a variance negative. */
FORMULA T centered_deviation(T g, T s[], const T c[]) {
    s[0] = c[1] * s[0] + c[2] * (g * g);
    s[1] = c[1] * s[1] + c[2] * g;
    return SQRT(MAX(s[0] - s[1] * s[1], 0)) + c[3];
}

FORMULA T rmsprop_centered_step(T p, T g, T s[], const T c[]) { return p - c[0] * g / centered_deviation(g, s, c); }

FORMULA T rmsprop_centered_momentum_step(T p, T g, T s[], const T c[]) {
    s[2] = c[4] * s[2] + g / centered_deviation(g, s, c);
    return p - c[0] * s[2];
}

/* ---- adaptive moments ---- */

/* Kingma & Ba 2015, section 2. Both bias corrections are part of lr and eps. */
static inline void adam_prepare(const double h[], const mbp_running *run, double c[]) {
    const double root = __builtin_sqrt(1 - run->power[1]);
    c[0] = h[0] * root / (1 - run->power[0]); /* lr */
    c[1] = h[1];                              /* beta1 */
    c[2] = 1 - h[1];
    c[3] = h[2]; /* beta2 */
    c[4] = 1 - h[2];
    c[5] = normal_eps(h[3] * root);
}

/* With eps_hat, eps is added before the bias correction: the form at the end of Kingma & Ba 2015, section 2. */
static inline void adam_hat_prepare(const double h[], const mbp_running *run, double c[]) {
    adam_prepare(h, run, c);
    if (h[4] != 0)
        c[5] = normal_eps(h[3]);
}

FORMULA void adam_moments(T g, T s[], const T c[]) {
    s[0] = c[1] * s[0] + c[2] * g;
    s[1] = c[3] * s[1] + c[4] * (g * g);
}

FORMULA T adam_step(T p, T g, T s[], const T c[]) {
    adam_moments(g, s, c);
    return p - c[0] * s[0] / (SQRT(s[1]) + c[5]);
}

/* Reddi et al. 2018, with the bias corrections of PyTorch. */
FORMULA T adam_amsgrad_step(T p, T g, T s[], const T c[]) {
    adam_moments(g, s, c);
    s[2] = MAX(s[1], s[2]);
    return p - c[0] * s[0] / (SQRT(s[2]) + c[5]);
}

/* Kingma & Ba 2015, algorithm 2, with eps as in PyTorch. */
static inline void adamax_prepare(const double h[], const mbp_running *run, double c[]) {
    adam_prepare(h, run, c);
    c[0] = h[0] / (1 - run->power[0]);
    c[5] = normal_eps(h[3]);
}

FORMULA T adamax_step(T p, T g, T s[], const T c[]) {
    s[0] = c[1] * s[0] + c[2] * g;
    s[1] = MAX(c[3] * s[1], ABS(g) + c[5]);
    return p - c[0] * s[0] / s[1];
}

/* Dozat 2016, algorithm 2 and section 3: momentum at step t is beta1 (1 - 0.96^(t momentum_decay) / 2). */
static inline double nadam_momentum(const double h[], int64_t t) {
    static const double log_096 = -0.040821994520255166;
    return h[1] * (1 - 0.5 * (double)EXP((T)((double)t * h[4] * log_096)));
}

static inline void nadam_powers(const double h[], mbp_running *run) {
    run->power[0] *= nadam_momentum(h, run->steps);
    run->power[1] *= h[2];
}

static inline void nadam_prepare(const double h[], const mbp_running *run, double c[]) {
    const double root = __builtin_sqrt(1 - run->power[1]), next = nadam_momentum(h, run->steps + 1);
    adam_prepare(h, run, c);
    c[0] = h[0] * root * (1 - nadam_momentum(h, run->steps)) / (1 - run->power[0]); /* factor of the gradient */
    c[6] = h[0] * root * next / (1 - run->power[0] * next);                         /* factor of the first moment */
}

FORMULA T nadam_step(T p, T g, T s[], const T c[]) {
    adam_moments(g, s, c);
    return p - (c[0] * g + c[6] * s[0]) / (SQRT(s[1]) + c[5]);
}

/* Liu et al. 2020, algorithm 2. While the variance is not tractable the step divides by 1: the second moment is cut to
 * c[6] = 0, and eps is 1. */
static inline void radam_prepare(const double h[], const mbp_running *run, double c[]) {
    const double longest = 2 / (1 - h[2]) - 1;
    const double length = longest - 2 * (double)run->steps * run->power[1] / (1 - run->power[1]);
    adam_prepare(h, run, c);
    c[0] = h[0] / (1 - run->power[0]);
    c[5] = 1;
    c[6] = 0;
    if (length > 5) {
        const double rectifier = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length);
        c[0] *= __builtin_sqrt(rectifier * (1 - run->power[1]));
        c[5] = normal_eps(h[3]);
        c[6] = __builtin_inf();
    }
}

FORMULA T radam_step(T p, T g, T s[], const T c[]) {
    adam_moments(g, s, c);
    return p - c[0] * s[0] / (SQRT(MIN(s[1], c[6])) + c[5]);
}

/* Zhuang et al. 2020, algorithm 1. */
static inline void adabelief_prepare(const double h[], const mbp_running *run, double c[]) {
    adam_prepare(h, run, c);
    c[6] = h[4]; /* eps_root */
}

FORMULA T adabelief_step(T p, T g, T s[], const T c[]) {
    s[0] = c[1] * s[0] + c[2] * g;
    s[1] = c[3] * s[1] + (c[4] * SQUARE(g - s[0]) + c[6]);
    return p - c[0] * s[0] / (SQRT(s[1]) + c[5]);
}

/* Chen et al. 2023, algorithm 2. */
static inline void lion_prepare(const double h[], const mbp_running *run, double c[]) {
    (void)run;
    c[0] = h[0]; /* lr */
    c[1] = h[1]; /* beta1 */
    c[2] = 1 - h[1];
    c[3] = h[2]; /* beta2 */
    c[4] = 1 - h[2];
}

FORMULA T lion_step(T p, T g, T s[], const T c[]) {
    const T sign = SIGN(c[1] * s[0] + c[2] * g);
    s[0] = c[3] * s[0] + c[4] * g;
    return p - c[0] * sign;
}

/* You et al. 2020, algorithm 2. The learning rate c[0] is scaled by the trust ratio later (train/update.c). */
static inline void lamb_prepare(const double h[], const mbp_running *run, double c[]) {
    adam_prepare(h, run, c);
    c[6] = __builtin_sqrt(1 - run->power[1]) / (1 - run->power[0]);
    c[0] = h[0];
}

FORMULA T lamb_direction(const T s[], const T c[]) { return c[6] * s[0] / (SQRT(s[1]) + c[5]); }

/* ---- follow the regularized leader ---- */

/* McMahan et al. 2013, algorithm 1, per coordinate. */
static inline void ftrl_prepare(const double h[], const mbp_running *run, double c[]) {
    (void)run;
    c[0] = h[0]; /* lr */
    c[1] = 1 / h[0];
    c[2] = h[2];                           /* l1 */
    c[3] = normal_eps(h[4] + h[0] * h[3]); /* beta + lr l2 */
}

FORMULA T ftrl_step(T p, T g, T s[], const T c[]) {
    const T before = SQRT(s[1]);
    s[1] = s[1] + g * g;
    const T root = SQRT(s[1]);
    s[0] = s[0] + (g - (root - before) * c[1] * p);
    return c[0] * (MIN(MAX(s[0], -c[2]), c[2]) - s[0]) / (root + c[3]);
}

/* p follows from z and n, at the present learning rate: a step with the gradient 0 catches up on any number. */
static inline mbp_idle ftrl_idle(const double h[], double decay) {
    (void)h;
    return (mbp_idle){.kind = decay > 0 ? MBP_IDLE_DECAYS : MBP_IDLE_REPEATED};
}

/* ---- resilient propagation: only the sign of the gradient matters ---- */

static inline void rprop_prepare(const double h[], const mbp_running *run, double c[]) {
    c[0] = h[1]; /* eta_minus */
    c[1] = h[2]; /* eta_plus */
    c[2] = h[3]; /* step_min */
    c[3] = h[4]; /* step_max */
    c[4] = run->loss > run->last_loss;
}

/* Returns 1 if the gradient kept its sign, -1 if the sign changed, 0 if the gradient is or was 0. Adapts the step size
 * s[1]. */
FORMULA T rprop_turn(T g, T s[], const T c[]) {
    const T turn = SIGN(g) * SIGN(s[0]);
    const T size = PICK(turn > 0, s[1] * c[1], PICK(turn < 0, s[1] * c[0], s[1]));
    s[1] = MIN(MAX(size, c[2]), c[3]);
    return turn;
}

/* Riedmiller 1994, section 3.1, without weight backtracking. */
FORMULA T rprop_minus_step(T p, T g, T s[], const T c[]) {
    (void)rprop_turn(g, s, c);
    s[0] = g;
    return p - SIGN(g) * s[1];
}

/* Igel & Huesken 2000, section 3: after a change of sign the weight does not change in this step. */
FORMULA T irprop_minus_step(T p, T g, T s[], const T c[]) {
    s[0] = PICK(rprop_turn(g, s, c) < 0, 0, g);
    return p - SIGN(s[0]) * s[1];
}

/* Igel & Huesken 2000, section 2: after a change of sign the last step is undone if the loss increased. */
FORMULA T irprop_plus_step(T p, T g, T s[], const T c[]) {
    const T turn = rprop_turn(g, s, c);
    s[0] = PICK(turn < 0, 0, g);
    s[2] = PICK(turn < 0, -c[4] * s[2], -SIGN(g) * s[1]);
    return p + s[2];
}

#endif
