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

/* The optimizer's pass over one group, in runs of MBP_UPDATE_RUN elements. */
typedef struct update_job {
    const mbp_trainer *trainer;
    mbp_group group;
    mbp_terms terms;
    double constants[MBP_CONSTANTS_MAX];
} update_job;

/* Where a piece of the group lies. */
typedef struct place {
    int64_t length;
    char *p;
    const char *g;
    void *slots[MBP_SLOTS_MAX];
} place;

static place place_of(const update_job *job, int64_t first, int64_t last) {
    const mbp_trainer *t = job->trainer;
    const int64_t begin = first * MBP_UPDATE_RUN, end = last * MBP_UPDATE_RUN;
    const size_t at = (size_t)(job->group.offset + begin) * t->net->item;
    place here = {(end < job->group.length ? end : job->group.length) - begin, t->net->block + at, t->grads + at, {0}};
    for (int s = 0; s < t->slot_count; s++)
        here.slots[s] = (char *)t->slots[s] + at;
    return here;
}

static void run_update(void *context, int64_t first, int64_t last, int thread) {
    const update_job *job = context;
    const mbp_trainer *t = job->trainer;
    const place here = place_of(job, first, last);
    (void)thread;
    t->net->kernels->update[t->optimizer.row](here.length, here.p, here.g, here.slots, job->constants, &job->terms);
}

static void run_measure(void *context, int64_t first, int64_t last, int thread) {
    const update_job *job = context;
    const mbp_trainer *t = job->trainer;
    (void)thread;
    for (; first < last; first++) {
        const place here = place_of(job, first, first + 1);
        t->net->kernels->measure[t->optimizer.row](here.length, here.p, here.g, here.slots, job->constants, &job->terms, t->sums[first]);
    }
}

static int64_t runs_of(const mbp_group *group) { return (group->length + MBP_UPDATE_RUN - 1) / MBP_UPDATE_RUN; }

static void share_runs(update_job *job, void (*run)(void *, int64_t, int64_t, int)) {
    const mbp_net *net = job->trainer->net;
    const double work = (double)MBP_UPDATE_WORK * (double)job->group.length;
    mbp_pool_run(net->pool, mbp_pool_take(net->pool, mbp_net_threads(net), work), runs_of(&job->group), run, job);
}

/* |p| / |direction| of the group, which is one tensor; 1 where one of them is 0 (the runs' sums are added in order). */
static double trust_ratio(update_job *job) {
    double p = 0, direction = 0;
    share_runs(job, run_measure);
    for (int64_t i = 0; i < runs_of(&job->group); i++) {
        p += job->trainer->sums[i][0];
        direction += job->trainer->sums[i][1];
    }
    return p > 0 && direction > 0 ? sqrt(p) / sqrt(direction) : 1;
}

void mbp_update_pass(mbp_trainer *t) {
    const int row = t->optimizer.row;
    update_job job = {.trainer = t};
    double h[MBP_PARAMETERS_MAX];
    memcpy(h, t->optimizer.parameters, sizeof h);
    mbp_optimizer_advance(row, h, &t->running);
    for (int i = 0; i < t->plan.groups; i++) {
        job.group = t->plan.group[i];
        h[0] = t->optimizer.parameters[0] * job.group.lr;
        mbp_optimizer_prepare(row, h, &t->running, job.constants);
        const double decay = mbp_optimizer_decouples(row) ? h[0] * h[t->decay] : h[t->decay];
        job.terms = (mbp_terms){.scale = 1, .bound = INFINITY, .decay = job.group.decay ? decay : 0};
        if (t->net->kernels->measure[row])
            job.constants[0] *= trust_ratio(&job);
        share_runs(&job, run_update);
    }
    t->running.last_loss = t->running.loss;
    t->running.loss = NAN;
}
