/* Floor 4: the update: what clipping and then the optimizer make of the gradients, group by group of the flat vector; then the limits of
 * weights' norms, and the average of the parameters. It runs when all gradients have proved finite, and cannot fail. */
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

/* ---- a group in runs of UPDATE_RUN elements, which threads share ---- */

/* SUMS: of so many runs the sums are kept until they are added in order. */
enum { UPDATE_RUN = 32 << 10, SUMS = 64 };

typedef struct update_job {
    const mbp_trainer *trainer;
    mbp_group group;
    mbp_terms terms;
    double constants[MBP_CONSTANTS_MAX];
    int64_t first; /* the run whose sums are sum[0]; these are kept */
    double (*sum)[2];
} update_job;

/* Where some runs of the group lie. */
typedef struct place {
    int64_t length;
    char *p;
    const char *g;
    void *slots[MBP_SLOTS_MAX];
} place;

static int64_t runs_of(int64_t length) { return (length + UPDATE_RUN - 1) / UPDATE_RUN; }
static int64_t run_end(int64_t run, int64_t length) { return (run + 1) * UPDATE_RUN < length ? (run + 1) * UPDATE_RUN : length; }

static place place_of(const update_job *job, int64_t first, int64_t last) {
    const mbp_trainer *t = job->trainer;
    const int64_t begin = first * UPDATE_RUN;
    const size_t at = (size_t)(job->group.offset + begin) * t->net->item;
    place here = {run_end(last - 1, job->group.length) - begin, t->net->block + at, t->grads + at, {0}};
    for (int s = 0; s < t->slot_count; s++)
        here.slots[s] = (char *)t->slots[s] + at;
    return here;
}

static void run_update(void *context, int64_t first, int64_t last, int thread) {
    const update_job *job = context;
    const place here = place_of(job, first, last);
    const mbp_trainer *t = job->trainer;
    (void)thread;
    t->net->kernels->update[t->optimizer.row](here.length, here.p, here.g, here.slots, job->constants, &job->terms);
}

static void run_squares(void *context, int64_t first, int64_t last, int thread) {
    update_job *job = context;
    (void)thread;
    for (; first < last; first++) {
        const place here = place_of(job, job->first + first, job->first + first + 1);
        job->sum[first][0] = job->trainer->net->kernels->sum_squares(here.length, here.g);
    }
}

static void run_measure(void *context, int64_t first, int64_t last, int thread) {
    update_job *job = context;
    const mbp_trainer *t = job->trainer;
    (void)thread;
    for (; first < last; first++) {
        const place here = place_of(job, job->first + first, job->first + first + 1);
        t->net->kernels->measure[t->optimizer.row](here.length, here.p, here.g, here.slots, job->constants, &job->terms, job->sum[first]);
    }
}

static void share(const mbp_net *net, double work, int64_t runs, void (*run)(void *, int64_t, int64_t, int), void *job) {
    mbp_pool_run(net->pool, mbp_pool_take(net->pool, mbp_net_threads(net), work), runs, run, job);
}

/* The sums that `run` makes of each run of the group, added in the order of the runs. */
static void add_sums(update_job *job, double element_work, void (*run)(void *, int64_t, int64_t, int), double total[2]) {
    const int64_t runs = runs_of(job->group.length);
    double sums[SUMS][2] = {{0}};
    total[0] = total[1] = 0;
    job->sum = sums;
    for (job->first = 0; job->first < runs; job->first += SUMS) {
        const int64_t count = runs - job->first < SUMS ? runs - job->first : SUMS;
        share(job->trainer->net, element_work * (double)count * UPDATE_RUN, count, run, job);
        for (int64_t i = 0; i < count; i++) {
            total[0] += sums[i][0];
            total[1] += sums[i][1];
        }
    }
}

/* ---- clipping ---- */

/* The factor that brings a vector of so large a sum of squares down to the limit of its norm. */
static double shrink(double squares, double limit) {
    const double norm = sqrt(squares);
    return norm > limit ? limit / norm : 1;
}

/* Sets the scale of each layer: first each layer's gradient is clipped by its norm, then all of them by the norm of what these are now
 * (Pascanu et al. 2013, algorithm 1). Without clipping by layer groups span layers, and the first of them stands for all. */
static void set_scales(const mbp_trainer *t) {
    double *scale = t->plan.scale, squares = 0, total[2];
    update_job job = {.trainer = t};
    memset(scale, 0, (size_t)t->net->layers * sizeof *scale);
    for (int i = 0; i < t->plan.groups; i++) {
        job.group = t->plan.group[i];
        add_sums(&job, MBP_ELEMENT_WORK, run_squares, total);
        scale[job.group.layer] += total[0];
    }
    for (int i = 0; i < t->net->layers; i++) {
        const double factor = shrink(scale[i], t->setting[MBP_CLIP_LAYER_NORM]);
        squares += factor * factor * scale[i];
        scale[i] = factor;
    }
    const double factor = shrink(squares, t->setting[MBP_CLIP_NORM]);
    for (int i = 0; i < t->net->layers; i++)
        scale[i] *= factor;
}

/* ---- the optimizer's pass ---- */

/* |p| / |direction| of the group, which is one tensor; 1 where one of them is 0. */
static double trust_ratio(update_job *job) {
    double squares[2];
    add_sums(job, MBP_UPDATE_WORK, run_measure, squares);
    return squares[0] > 0 && squares[1] > 0 ? sqrt(squares[0]) / sqrt(squares[1]) : 1;
}

static void update_groups(mbp_trainer *t) {
    const int row = t->optimizer.row;
    const int by_norm = t->setting[MBP_CLIP_NORM] < INFINITY || t->setting[MBP_CLIP_LAYER_NORM] < INFINITY;
    update_job job = {.trainer = t};
    double h[MBP_PARAMETERS_MAX];
    memcpy(h, t->optimizer.parameters, sizeof h);
    mbp_optimizer_advance(row, h, &t->running);
    if (by_norm)
        set_scales(t);
    for (int i = 0; i < t->plan.groups; i++) {
        job.group = t->plan.group[i];
        if (job.group.lr == 0) /* these stay, also where lr says something else than how far, as in Rprop */
            continue;
        h[0] = t->optimizer.parameters[0] * job.group.lr;
        mbp_optimizer_prepare(row, h, &t->running, job.constants);
        const double decay = mbp_optimizer_decouples(row) ? h[0] * h[t->decay] : h[t->decay];
        job.terms = (mbp_terms){.scale = by_norm ? t->plan.scale[job.group.layer] : 1,
                                .bound = t->setting[MBP_CLIP_VALUE],
                                .decay = job.group.decay ? decay : 0};
        if (t->net->kernels->measure[row])
            job.constants[0] *= trust_ratio(&job);
        share(t->net, (double)MBP_UPDATE_WORK * (double)job.group.length, runs_of(job.group.length), run_update, &job);
    }
    t->running.last_loss = t->running.loss;
    t->running.loss = NAN;
}

/* ---- the largest norm of a unit's incoming weights (Srivastava et al. 2014, section 5.1), in blocks of columns ---- */

typedef struct limit_job {
    const mbp_net *net;
    const mbp_layer *layer;
} limit_job;

static void run_limit(void *context, int64_t first, int64_t last, int thread) {
    const limit_job *job = context;
    const int64_t n = job->layer->out, begin = first * MBP_COLUMN_BLOCK, end = last * MBP_COLUMN_BLOCK < n ? last * MBP_COLUMN_BLOCK : n;
    const mbp_view columns = {job->net->block + (size_t)(job->layer->weight + begin) * job->net->item, n};
    (void)thread;
    job->net->kernels->limit_columns(job->layer->in, end - begin, columns, job->layer->setting[MBP_LAYER_MAX_NORM]);
}

static void limit_weights(const mbp_net *net) {
    for (int i = 0; i < net->layers; i++) {
        limit_job job = {net, &net->layer[i]};
        if (job.layer->frozen || !(job.layer->setting[MBP_LAYER_MAX_NORM] > 0))
            continue;
        const double work = (double)MBP_ELEMENT_WORK * (double)job.layer->in * (double)job.layer->out;
        share(net, work, (job.layer->out + MBP_COLUMN_BLOCK - 1) / MBP_COLUMN_BLOCK, run_limit, &job);
    }
}

/* ---- the average of [parameters, buffers]: a += rate (p - a) ---- */

typedef struct average_job {
    const mbp_trainer *trainer;
    mbp_map map;
    double rate;
} average_job;

static void run_average(void *context, int64_t first, int64_t last, int thread) {
    const average_job *job = context;
    const mbp_net *net = job->trainer->net;
    const int64_t begin = first * UPDATE_RUN, n = run_end(last - 1, net->params + net->buffers) - begin;
    const size_t at = (size_t)begin * net->item;
    (void)thread;
    job->map(1, n, (mbp_view){job->trainer->average.at + at, n}, (mbp_view){net->block + at, n}, &job->rate);
}

static void update_average(const mbp_trainer *t) {
    const mbp_net *net = t->net;
    const mbp_average *average = &t->average;
    if (!average->at || t->running.steps < average->first || (t->running.steps - average->first) % average->every)
        return;
    const int64_t count = mbp_average_count(t), length = net->params + net->buffers;
    average_job job = {t, count == 1 ? net->kernels->copy : net->kernels->mix, average->decay < 1 ? 1 - average->decay : 1 / (double)count};
    share(net, (double)MBP_ELEMENT_WORK * (double)length, runs_of(length), run_average, &job);
}

void mbp_update_pass(mbp_trainer *t) {
    update_groups(t);
    limit_weights(t->net);
    mbp_statistics_commit(t);
    update_average(t);
}
