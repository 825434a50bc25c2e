/* With other processes and `every` > 1, each process makes steps on its own rows. After every so many of them, by the
 * step count, and at the end of an epoch, the processes exchange:
 *
 *     a header: the number of steps, and whether the process has failed since the last
 *     parameters and buffers, the slots, the running average: each becomes the mean over all processes
 *
 * A process whose rows have ended before those of others counts their steps. */
#include "train/steps/means.h"

#include "kernels/catalog.h"

static void divide(const mbp_net *net, void *values, int64_t count, int64_t by) {
    for (int64_t i = 0; i < count; i++)
        if (net->dtype == MBP_F64)
            ((double *)values)[i] /= (double)by;
        else
            ((float *)values)[i] /= (float)by;
}

/* Numbers of the net's dtype become their means over all processes. */
static mbp_status average(mbp_trainer *t, void *values, int64_t count, mbp_error *error) {
    mbp_status status = t->together->add(t, values, count, error);
    if (status == MBP_OK)
        divide(t->net, values, count, t->ranks->how.ranks);
    return status;
}

/* Fails in all processes if they have made different numbers of steps: after an error, those that it has not reached
 * are ahead of the others. header: the numbers. */
static mbp_status check_steps(const mbp_trainer *t, const double *header, mbp_error *error) {
    for (int64_t k = 1; k < t->ranks->how.ranks; k++)
        if (header[k * MBP_HEADER] != header[0])
            return mbp_fail(error, MBP_CANCELLED,
                            "process 0 has made %.0f steps, but process %lld %.0f: start all of them again from one "
                            "file",
                            header[0], (long long)k, header[k * MBP_HEADER]);
    return MBP_OK;
}

/* Parameters, buffers, slots and the running average become their means. Predictions of other threads see the state
 * before or after. */
static MBP_APART mbp_status take_means(mbp_trainer *t, mbp_error *error) {
    const mbp_net *net = t->net;
    char *copy = t->ranks->copy;
    const int64_t all = net->params + net->buffers;
    mbp_status status = t->together->join(t, MBP_OK, (double[]){(double)t->running.steps, 0}, error);
    if (status == MBP_OK)
        status = check_steps(t, t->ranks->header, error);
    if (status != MBP_OK)
        return status;
    (void)mbp_net_settle(net, NULL); /* this thread holds the net */
    memcpy(copy, net->block, (size_t)all * net->item);
    status = average(t, copy, all, error);
    for (int i = 0; i < t->slot_count && status == MBP_OK; i++)
        status = average(t, t->slots[i], net->params, error);
    if (status == MBP_OK && t->average.at)
        status = average(t, t->average.at, all, error);
    if (status == MBP_OK)
        mbp_net_assign(t->net, copy, copy + (size_t)net->params * net->item, NULL);
    return status;
}

void mbp_means_count(mbp_trainer *t) {
    mbp_running next = t->running;
    mbp_optimizer_advance(t->optimizer.row, t->optimizer.parameters, &next);
    mbp_trainer_run(t, &next);
    mbp_average_update(t);
    mbp_outputs_clear(t);
}

mbp_status mbp_means_step(mbp_trainer *t, mbp_status status, mbp_error *error) {
    if (mbp_is_joined(t))
        return status;
    if (status != MBP_OK)
        return mbp_tell(t, status);
    return t->running.steps % t->ranks->how.every == 0 ? take_means(t, error) : MBP_OK;
}

mbp_status mbp_means_epoch(mbp_trainer *t, mbp_mean *mean, mbp_error *error) {
    double *numbers = t->ranks->numbers;
    const int outputs = t->net->outputs;
    mbp_status status = MBP_OK;
    if (mbp_is_joined(t))
        return MBP_OK;
    if (t->running.steps % t->ranks->how.every != 0)
        status = take_means(t, error);
    if (status != MBP_OK)
        return status;
    const double own[] = {mean->sum, mean->total, t->penalties, t->penalty_weight};
    memcpy(numbers, own, sizeof own);
    for (int i = 0; i < outputs; i++) {
        numbers[4 + 2 * i] = t->objective[i].sum;
        numbers[5 + 2 * i] = t->objective[i].whole;
    }
    status = t->together->sum(t, numbers, 4 + 2 * outputs, error);
    for (int i = 0; i < outputs && status == MBP_OK; i++) {
        t->objective[i].sum = numbers[4 + 2 * i];
        t->objective[i].whole = numbers[5 + 2 * i];
    }
    if (status == MBP_OK) {
        t->penalties = numbers[2], t->penalty_weight = numbers[3];
        *mean = (mbp_mean){0};
        mbp_mean_add(mean, 0, numbers[0], numbers[1]);
    }
    return status;
}
