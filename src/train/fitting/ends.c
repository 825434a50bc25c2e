/* What ends a fit besides its number of epochs: a goal, a small gradient, a solver that finds no step, the time. */
#include "train/fitting/ends.h"

#include <math.h>

#include "system/text.h"
#include "system/threads/clock.h"
#include "train/solving.h"

mbp_status mbp_ends_check(const mbp_trainer *t, const mbp_fit *how, mbp_error *error) {
    const char *wrong = !isfinite(how->goal) ? "goal must be finite"
                        : !(how->gradient_tolerance >= 0 && how->gradient_tolerance < INFINITY)
                            ? "gradient_tolerance must be finite and at least 0"
                        : !(how->max_time >= 0) ? "max_time must be at least 0"
                                                : NULL;
    if (wrong)
        return mbp_fail(error, MBP_INVALID, "how.%s", wrong);
    if (how->max_time > 0 && !MICROBP_THREADS)
        return mbp_fail(error, MBP_UNSUPPORTED, "how.max_time needs a build with threads; use a callback with a clock");
    if (how->batch_rows > 0 && mbp_has_solver(t))
        return mbp_fail(error, MBP_INVALID, "how.batch_rows does not work with %s, which uses all rows at once",
                        mbp_formula_name(mbp_trainer_kind(t), t->optimizer.row));
    return MBP_OK;
}

/* Whether no element has an absolute value above `most`. */
static int is_small(const mbp_net *net, const void *values, int64_t count, double most) {
    int small = 1;
    for (int64_t i = 0; i < count; i++)
        small &= fabs(net->dtype == MBP_F64 ? ((const double *)values)[i] : (double)((const float *)values)[i]) <= most;
    return small;
}

static int is_flat(const mbp_trainer *t, double most) {
    int flat = is_small(t->net, t->grads, t->net->params, most);
    for (int i = 0; MICROBP_SPARSE && t->lazy && i < t->net->layers; i++)
        flat &= is_small(t->net, t->lazy->grad[i].value, t->lazy->grad[i].count * t->net->layer[i].out, most);
    return flat;
}

const char *mbp_ends_reached(const mbp_trainer *t, const mbp_fit *how, double loss, int64_t steps) {
    return how->goal != 0 && loss <= how->goal                                  ? "goal"
           : mbp_has_solver(t) && t->running.steps == steps                     ? "no step"
           : how->gradient_tolerance > 0 && is_flat(t, how->gradient_tolerance) ? "gradient"
                                                                                : NULL;
}

#if MICROBP_THREADS
int64_t mbp_ends_start(const mbp_fit *how) { return how->max_time > 0 ? mbp_clock() : 0; }

int mbp_ends_late(const mbp_fit *how, int64_t start) {
    return how->max_time > 0 && (double)(mbp_clock() - start) >= how->max_time * 1e9;
}
#else
int64_t mbp_ends_start(const mbp_fit *how) { return (void)how, 0; }
int mbp_ends_late(const mbp_fit *how, int64_t start) { return (void)how, (void)start, 0; }
#endif
