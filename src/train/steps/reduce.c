/* Training on several processes, each with its own rows. A process calls the user's function for the same sums in the
 * same order as all others do:
 *
 *     each step     two numbers (the sum of row weights, the number of rows) and whether a process has failed
 *                   the total of each output, if the outputs have weights of their own
 *                   the gradients
 *                   the loss, that of each output, and the penalties in it
 *     apply         the gradients, the loss
 *
 * A process whose call is refused or cancelled says so in the first sum of the next step. A loss that is not finite
 * makes the sum of the losses not finite. So all processes fail in the same step. */
#include <math.h>

#include "system/text.h"
#include "train/steps/step.h"
#include "train/update.h"

static MBP_APART mbp_status reduce_values(mbp_trainer *t, void *values, int64_t count, mbp_dtype dtype,
                                          mbp_error *error) {
    mbp_guest_enter(t);
    const int failed = t->reduce(values, count, dtype, t->reduce_user);
    mbp_guest_leave(t);
    return failed ? mbp_fail(error, MBP_CANCELLED, "the reduce function returned %d, but must return 0", failed)
                  : MBP_OK;
}

static mbp_status join(mbp_trainer *t, mbp_status status, double values[2], mbp_error *error) {
    double all[3] = {status == MBP_OK ? values[0] : 0, status == MBP_OK ? values[1] : 0, status != MBP_OK};
    const mbp_status reduced = reduce_values(t, all, 3, MBP_F64, status == MBP_OK ? error : NULL);
    if (status != MBP_OK || reduced != MBP_OK)
        return status == MBP_OK ? reduced : status;
    if (all[2] != 0)
        return mbp_fail(error, MBP_CANCELLED, "another process failed or was cancelled");
    values[0] = all[0];
    values[1] = all[1];
    return MBP_OK;
}

/* The totals of outputs that have weights of their own. */
static mbp_status join_totals(mbp_trainer *t, mbp_error *error) {
    mbp_status status = MBP_OK;
    for (int i = 0; i < t->net->outputs && status == MBP_OK; i++) {
        status = reduce_values(t, &t->objective[i].joint, 1, MBP_F64, error);
        t->objective[i].divisor = t->objective[i].joint;
    }
    return status;
}

static mbp_status join_rows(mbp_trainer *t, mbp_status status, const mbp_chosen *chosen, int may_be_none,
                            mbp_joint *joint, mbp_error *error) {
    const int is_read = status == MBP_OK;
    double sums[2] = {is_read ? chosen->total : 0, is_read ? (double)chosen->rows.count : 0};
    status = join(t, status, sums, error);
    *joint = (mbp_joint){sums[0], (int64_t)sums[1]};
    if (status == MBP_OK && mbp_is_weighted(t->workspace))
        status = join_totals(t, error);
    if (status != MBP_OK || (joint->rows == 0 && may_be_none))
        return status;
    return mbp_total_check(joint->rows, joint->rows, joint->total, error);
}

static mbp_status add_gradients(mbp_trainer *t, double *loss, mbp_error *error) {
    mbp_status status = reduce_values(t, t->grads, t->net->params, t->net->dtype, error);
    return status == MBP_OK ? reduce_values(t, loss, 1, MBP_F64, error) : status;
}

static mbp_status join_gradients(mbp_trainer *t, mbp_status status, double *loss, mbp_error *error) {
    mbp_error *first = status == MBP_OK ? error : NULL;
    mbp_status reduced = add_gradients(t, loss, first);
    if (reduced == MBP_OK)
        reduced = reduce_values(t, t->now, t->net->outputs + 1, MBP_F64, first);
    if (status != MBP_OK || reduced != MBP_OK)
        return status == MBP_OK ? reduced : status;
    mbp_put_number(&t->running.loss, *loss);
    if (!isfinite(*loss))
        return mbp_fail(error, MBP_NONFINITE, "the sum of the losses of all processes is not finite");
    return mbp_gradients_check(t, error);
}

static const mbp_together together = {join, join_rows, join_gradients, add_gradients};

mbp_status mbp_trainer_set_reduce(mbp_trainer *trainer, mbp_reduce reduce, void *user, mbp_error *error) {
    mbp_status status = mbp_trainer_enter_training(trainer, error);
    if (status != MBP_OK)
        return status;
    if (reduce && (status = mbp_solver_refuse(trainer, "a reduce function", error)) != MBP_OK)
        return mbp_trainer_leave(trainer, status);
    trainer->together = &together;
    trainer->reduce = reduce;
    trainer->reduce_user = user;
    return mbp_trainer_leave(trainer, MBP_OK);
}
