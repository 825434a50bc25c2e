/* Floor 4: the update: what the optimizer makes of the gradients, group by group of the flat vector. It runs when all gradients have
 * proved finite, and cannot fail. */
#include "net.h"

#include <math.h>
#include <string.h>

/* The first layer with a gradient that is not finite. */
mbp_status mbp_nonfinite_fail(const mbp_trainer *t, mbp_error *error) {
    const mbp_net *net = t->net;
    int index = 0;
    for (; index < net->layers - 1; index++) {
        const mbp_layer *layer = &net->layer[index];
        if (!net->kernels->finite(layer->in * layer->out, t->grads + (size_t)layer->weight * net->item) ||
            (layer->bias >= 0 && !net->kernels->finite(layer->out, t->grads + (size_t)layer->bias * net->item)))
            break;
    }
    mbp_status status = mbp_fail(error, MBP_NONFINITE, "the gradient of layer %s is not finite", net->layer[index].name);
    if (error)
        error->node = index;
    return status;
}

/* The optimizer's pass over one group, in runs of UPDATE_RUN elements. */
typedef struct update_job {
    const mbp_trainer *trainer;
    mbp_group group;
    mbp_terms terms;
    double constants[MBP_CONSTANTS_MAX];
} update_job;

enum { UPDATE_RUN = 32 << 10 };

static void run_update(void *context, int64_t first, int64_t last, int thread) {
    const update_job *job = context;
    const mbp_trainer *t = job->trainer;
    const mbp_group group = job->group;
    const int64_t begin = first * UPDATE_RUN, end = last * UPDATE_RUN < group.length ? last * UPDATE_RUN : group.length;
    const size_t at = (size_t)(group.offset + begin) * t->net->item;
    void *slots[MBP_SLOTS_MAX] = {0};
    (void)thread;
    for (int s = 0; s < t->slot_count; s++)
        slots[s] = (char *)t->slots[s] + at;
    t->net->kernels->update[t->optimizer.row](end - begin, t->net->block + at, t->grads + at, slots, job->constants, &job->terms);
}

void mbp_update_pass(mbp_trainer *t) {
    update_job job = {.trainer = t};
    double h[MBP_PARAMETERS_MAX];
    memcpy(h, t->optimizer.parameters, sizeof h);
    for (int i = 0; i < t->power_count; i++)
        t->powers[i] *= h[t->power_of[i]];
    for (int i = 0; i < t->plan.groups; i++) {
        job.group = t->plan.group[i];
        h[0] = t->optimizer.parameters[0] * job.group.lr;
        mbp_optimizer_prepare(t->optimizer.row, h, t->powers, job.constants);
        const double decay = mbp_optimizer_decouples(t->optimizer.row) ? h[0] * h[t->decay] : h[t->decay];
        job.terms = (mbp_terms){.scale = 1, .bound = INFINITY, .decay = job.group.decay ? decay : 0};
        const double work = (double)MBP_UPDATE_WORK * (double)job.group.length;
        const int threads = mbp_pool_take(t->net->pool, mbp_net_threads(t->net), work);
        mbp_pool_run(t->net->pool, threads, (job.group.length + UPDATE_RUN - 1) / UPDATE_RUN, run_update, &job);
    }
    mbp_statistics_commit(t);
    t->steps++;
}
