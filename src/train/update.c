/* The update: clipping and the optimizer, for each group of the flat vector; then max_norm, the running statistics and
 * the average. It starts only if all gradients are finite, and it cannot fail. */
#include "train/update.h"

#include <math.h>
#include <string.h>

#include "passes/plan/pass.h"
#include "system/text.h"

/* The first tensor of a layer with a gradient that is not finite; NULL if there is none. */
static const char *nonfinite_tensor(const mbp_trainer *t, const mbp_layer *layer) {
    const mbp_net *net = t->net;
    const int index = (int)(layer - net->layer);
    if (mbp_trains_sparse(t, index)) {
        const mbp_sparse_grad *g = &t->lazy->grad[index];
        if (!net->kernels->finite(g->count * layer->out, g->value))
            return "weight";
    } else if (layer->weight >= 0 &&
               !net->kernels->finite(layer->in * layer->out, t->grads + (size_t)layer->weight * net->item))
        return "weight";
    if (layer->bias >= 0 && !net->kernels->finite(mbp_bias_width(layer), t->grads + (size_t)layer->bias * net->item))
        return "bias";
    return NULL;
}

mbp_status mbp_nonfinite_fail(const mbp_trainer *t, mbp_error *error) {
    const mbp_net *net = t->net;
    const char *tensor = NULL;
    int index = -1;
    while (!tensor && ++index < net->layers)
        tensor = nonfinite_tensor(t, &net->layer[index]);
    if (!tensor)
        return mbp_fail(error, MBP_NONFINITE, "a gradient is not finite");
    mbp_status status = mbp_fail(error, MBP_NONFINITE, "the gradient of layer %s (%s) is not finite",
                                 net->layer[index].name, tensor);
    if (error)
        error->node = index;
    return status;
}

/* Whether an update changes rows of the weight of a layer. */
static int is_updated(const mbp_trainer *t, int layer) {
    return mbp_trains_sparse(t, layer) && !t->net->layer[layer].frozen;
}

mbp_status mbp_gradients_check(const mbp_trainer *t, mbp_error *error) {
    for (int i = 0; i < t->plan.groups; i++) {
        const mbp_group *group = &t->plan.group[i];
        if (!t->net->kernels->finite(group->length, t->grads + (size_t)group->offset * t->net->item))
            return mbp_nonfinite_fail(t, error);
    }
    for (int i = 0; i < t->net->layers && t->lazy; i++)
        if (is_updated(t, i) &&
            !t->net->kernels->finite(t->lazy->grad[i].count * t->net->layer[i].out, t->lazy->grad[i].value))
            return mbp_nonfinite_fail(t, error);
    return MBP_OK;
}

/* ---- a group in runs of MBP_UPDATE_RUN elements, which threads share ---- */

enum { SUMS = 64 }; /* runs whose sums are kept until they are added in order */

typedef struct update_job {
    const mbp_trainer *trainer;
    mbp_group group;
    mbp_terms terms;
    double constants[MBP_CONSTANTS_MAX];
    int64_t first; /* the first element of the run that sum[0] belongs to */
    double (*sum)[2];
} update_job;

/* Where a range of the group's elements is in memory: parameters, gradients, slots. */
typedef struct place {
    int64_t length;
    char *p;
    const char *g;
    void *slots[MBP_SLOTS_MAX];
} place;

static inline place place_of(const update_job *job, int64_t first, int64_t last) {
    const mbp_trainer *t = job->trainer;
    const size_t at = (size_t)(job->group.offset + first) * t->net->item;
    place here = {last - first, t->net->block + at, t->grads + at, {0}};
    for (int s = 0; s < t->slot_count; s++)
        here.slots[s] = (char *)t->slots[s] + at;
    return here;
}

static void run_update(void *context, int64_t first, int64_t last, int thread) {
    const update_job *job = context;
    const place here = place_of(job, first, last);
    const mbp_trainer *t = job->trainer;
    (void)thread;
    t->net->kernels->training->update(t->optimizer.row, here.length, here.p, here.g, here.slots, job->constants,
                                      &job->terms);
}

/* The place of the i-th run after job->first. */
static place run_of(const update_job *job, int64_t i) {
    const int64_t first = job->first + i * MBP_UPDATE_RUN, left = job->group.length - first;
    return place_of(job, first, first + (left < MBP_UPDATE_RUN ? left : MBP_UPDATE_RUN));
}

static void run_squares(void *context, int64_t first, int64_t last, int thread) {
    update_job *job = context;
    (void)thread;
    for (; first < last; first++) {
        const place here = run_of(job, first);
        job->sum[first][0] = job->trainer->net->kernels->sum_squares(here.length, here.g);
    }
}

static void run_measure(void *context, int64_t first, int64_t last, int thread) {
    update_job *job = context;
    const mbp_trainer *t = job->trainer;
    (void)thread;
    for (; first < last; first++) {
        const place here = run_of(job, first);
        t->net->kernels->training->measure[t->optimizer.row](here.length, here.p, here.g, here.slots, job->constants,
                                                             &job->terms, job->sum[first]);
    }
}

/* total: the sums that `work` computes for each run of the group, added in the order of the runs. */
static void add_sums(update_job *job, double element_work, mbp_work work, double total[2]) {
    const int64_t step = (int64_t)SUMS * MBP_UPDATE_RUN;
    double sums[SUMS][2] = {{0}};
    total[0] = total[1] = 0;
    job->sum = sums;
    for (job->first = 0; job->first < job->group.length; job->first += step) {
        const int64_t left = job->group.length - job->first, length = left < step ? left : step;
        const int64_t runs = (length + MBP_UPDATE_RUN - 1) / MBP_UPDATE_RUN;
        mbp_net_share(job->trainer->net, element_work * (double)length, runs, 1, work, job);
        for (int64_t i = 0; i < runs; i++) {
            total[0] += sums[i][0];
            total[1] += sums[i][1];
        }
    }
}

/* ---- clipping ---- */

/* The factor that clips a vector with this sum of squares to a norm of at most `limit`. */
static double shrink(double squares, double limit) {
    const double norm = sqrt(squares);
    return norm > limit ? limit / norm : 1;
}

/* Sets the scale of each layer. First the gradient of each layer is clipped by its own norm; then the whole gradient is
 * clipped by the norm that is left (Pascanu et al. 2013, algorithm 1). Without clipping by layer, a group may span
 * several layers: its sum and its scale are those of the first one. */
static void set_scales(const mbp_trainer *t) {
    double *scale = t->plan.scale, squares = 0, total[2];
    update_job job = {.trainer = t};
    memset(scale, 0, (size_t)t->net->layers * sizeof *scale);
    for (int i = 0; i < t->plan.groups; i++) {
        job.group = t->plan.group[i];
        add_sums(&job, MBP_ELEMENT_WORK, run_squares, total);
        scale[job.group.layer] += total[0];
    }
    for (int i = 0; i < t->net->layers && t->lazy; i++)
        if (is_updated(t, i))
            scale[i] += t->net->kernels->sum_squares(t->lazy->grad[i].count * t->net->layer[i].out,
                                                     t->lazy->grad[i].value);
    for (int i = 0; i < t->net->layers; i++) {
        const double factor = shrink(scale[i], t->setting[MBP_CLIP_LAYER_NORM]);
        squares += factor * factor * scale[i];
        scale[i] = factor;
    }
    const double factor = shrink(squares, t->setting[MBP_CLIP_NORM]);
    for (int i = 0; i < t->net->layers; i++)
        scale[i] *= factor;
}

/* ---- penalties ---- */

/* The sum of the absolute values of n weights, in 16 partial sums; a few layers have it, so no kernel is made of it. */
static double sum_sizes(mbp_dtype dtype, int64_t n, const void *at) {
    enum { LANES = 16 };
    double sum[LANES] = {0};
    for (int64_t i = 0; i < n; i++)
        sum[i % LANES] += fabs(dtype == MBP_F64 ? ((const double *)at)[i] : (double)((const float *)at)[i]);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++)
            sum[l] += sum[l + width];
    return sum[0];
}

static void run_sizes(void *context, int64_t first, int64_t last, int thread) {
    update_job *job = context;
    const mbp_net *net = job->trainer->net;
    const double *setting = net->layer[job->group.layer].setting;
    (void)thread;
    for (; first < last; first++) {
        const place here = run_of(job, first);
        job->sum[first][0] = setting[MBP_LAYER_L2] > 0 ? net->kernels->sum_squares(here.length, here.p) : 0;
        job->sum[first][1] = setting[MBP_LAYER_L1] > 0 ? sum_sizes(net->dtype, here.length, here.p) : 0;
    }
}

double mbp_penalties(const mbp_trainer *t) {
    const mbp_net *net = t->net;
    double penalties = 0, total[2];
    update_job job = {.trainer = t};
    for (int id = 0; id < net->nodes; id++) {
        if (!mbp_is_penalized(net->node[id].kind) || t->plan.grads[id] != MBP_STORE)
            continue;
        const mbp_layer *layer = &net->layer[net->node[id].layer];
        const double l1 = layer->setting[MBP_LAYER_L1], l2 = layer->setting[MBP_LAYER_L2];
        if (!(l1 > 0 || l2 > 0))
            continue;
        job.group = (mbp_group){
            .offset = layer->weight, .length = layer->in * layer->out, .layer = net->node[id].layer};
        add_sums(&job, MBP_ELEMENT_WORK, run_sizes, total);
        penalties += l2 / 2 * total[0] + l1 * total[1];
    }
    return penalties;
}

/* ---- the optimizer's pass ---- */

/* |p| / |direction| of the group, which is one tensor; 1 if one of the two norms is 0. */
static double trust_ratio(update_job *job) {
    double squares[2];
    add_sums(job, MBP_UPDATE_WORK, run_measure, squares);
    return squares[0] > 0 && squares[1] > 0 ? sqrt(squares[0]) / sqrt(squares[1]) : 1;
}

#if MICROBP_SPARSE
/* The same for the layers whose gradients have only some rows. */
static void update_sparse(mbp_trainer *t, double lr, int by_norm) {
    const int row = t->optimizer.row;
    double h[MBP_PARAMETERS_MAX];
    memcpy(h, t->optimizer.parameters, sizeof h);
    for (int i = 0; i < t->net->layers; i++) {
        const double factor = t->net->layer[i].setting[MBP_LAYER_LR];
        if (!is_updated(t, i) || factor == 0)
            continue;
        h[0] = lr * factor;
        mbp_lazy_step step = {.idle = mbp_optimizer_idle(row, h, h[t->decay])};
        mbp_optimizer_prepare(row, h, &t->running, step.constants);
        step.terms = (mbp_terms){.scale = by_norm ? t->plan.scale[i] : 1,
                                 .bound = t->setting[MBP_CLIP_VALUE],
                                 .decay = mbp_optimizer_decouples(row) ? h[0] * h[t->decay] : h[t->decay]};
        mbp_lazy_update(t->lazy, i, &step);
    }
    t->lazy->is_ahead = t->lazy->is_uneven = 0;
    mbp_lazy_list(t->lazy);
}
#endif

static void update_groups(mbp_trainer *t) {
    const int row = t->optimizer.row;
    const int by_norm = t->setting[MBP_CLIP_NORM] < INFINITY || t->setting[MBP_CLIP_LAYER_NORM] < INFINITY;
    update_job job;
    const double lr = t->rate ? *t->rate : t->optimizer.parameters[0];
    double h[MBP_PARAMETERS_MAX];
    memcpy(h, t->optimizer.parameters, sizeof h);
    mbp_running next = t->running;
    mbp_optimizer_advance(row, h, &next);
    mbp_trainer_run(t, &next);
    if (by_norm)
        set_scales(t);
    job.trainer = t;
    const int joins = h[t->decay] == 0 && !t->plan.per_tensor; /* groups that differ in weight decay only */
    for (int i = 0; i < t->plan.groups; i++) {
        job.group = t->plan.group[i];
        while (joins && i + 1 < t->plan.groups && mbp_group_follows(&job.group, &t->plan.group[i + 1]))
            job.group.length += t->plan.group[++i].length;
        if (job.group.lr == 0) /* lr 0: no change, even if lr is not a factor of the step, as in Rprop */
            continue;
        h[0] = lr * job.group.lr;
        mbp_optimizer_prepare(row, h, &t->running, job.constants);
        const double decay = mbp_optimizer_decouples(row) ? h[0] * h[t->decay] : h[t->decay];
        job.terms = (mbp_terms){.scale = by_norm ? t->plan.scale[job.group.layer] : 1,
                                .bound = t->setting[MBP_CLIP_VALUE],
                                .decay = job.group.decay ? decay : 0};
        if (t->net->kernels->training->measure[row])
            job.constants[0] *= trust_ratio(&job);
        mbp_net_share(t->net, (double)MBP_UPDATE_WORK * (double)job.group.length, job.group.length, MBP_UPDATE_RUN,
                      run_update, &job);
    }
#if MICROBP_SPARSE
    if (t->lazy)
        update_sparse(t, lr, by_norm);
#endif
    mbp_put_number(&t->running.last_loss, t->running.loss);
    mbp_put_number(&t->running.loss, NAN);
}

/* ---- max_norm of a unit's incoming weights (Srivastava et al. 2014, section 5.1), in blocks of columns ---- */

typedef struct limit_job {
    const mbp_net *net;
    const mbp_layer *layer;
} limit_job;

static void run_limit(void *context, int64_t first, int64_t last, int thread) {
    const limit_job *job = context;
    const mbp_view columns = {job->net->block + (size_t)(job->layer->weight + first) * job->net->item, job->layer->out};
    (void)thread;
    job->net->kernels->limit_columns(job->layer->in, last - first, columns, job->layer->setting[MBP_LAYER_MAX_NORM]);
}

#if MICROBP_SPARSE
/* Dense rows have fed the embedding, so a step names all its rows. */
static void limit_rows(const mbp_net *net, int layer) {
    const mbp_layer *of = &net->layer[layer];
    for (int64_t r = 0; r < of->in && of->setting[MBP_EMBEDDING_MAX_NORM] > 0; r++)
        mbp_limit_row(net, layer, net->block + (size_t)(of->weight + r * of->out) * net->item);
}
#endif

static void limit_weights(const mbp_trainer *t) {
    const mbp_net *net = t->net;
    for (int i = 0; i < net->layers; i++) {
        limit_job job = {net, &net->layer[i]};
#if MICROBP_SPARSE
        if (mbp_is_embedding(job.layer->kind) && !job.layer->frozen && !mbp_trains_sparse(t, i))
            limit_rows(net, i);
#endif
        if (!mbp_is_penalized(job.layer->kind) || job.layer->frozen || !(job.layer->setting[MBP_LAYER_MAX_NORM] > 0))
            continue;
        const double work = (double)MBP_ELEMENT_WORK * (double)job.layer->in * (double)job.layer->out;
        mbp_net_share(net, work, job.layer->out, MBP_COLUMN_BLOCK, run_limit, &job);
    }
}

void mbp_update_pass(mbp_trainer *t) {
    mbp_gate_enter_alone(&t->net->shared->lock); /* predictions of other threads see the state before or after */
    t->net->shared->changes++;
    update_groups(t);
    limit_weights(t);
    if (t->is_pending)
        mbp_statistics_commit(t->net, t->pending);
    mbp_gate_leave_alone(&t->net->shared->lock);
    t->is_pending = 0;
    mbp_average_update(t);
}
