#include "train/sparse/lazy.h"

#include <math.h>
#include <string.h>

#include "system/text.h"

#if MICROBP_SPARSE

/* After as many steps, all rows of a layer are brought up to date even if nobody looks at them: so many that this pass
 * over the layer costs little beside them, and their numbers take little memory beside it. */
enum { LEAST_STEPS = 256, MOST_STEPS = 1 << 16, NUMBERS_PER_STEP = 64 };

/* ---- create and free ---- */

static void settle_all(mbp_late *late);

mbp_lazy *mbp_lazy_create(const mbp_net *net, mbp_memory *memory, int optimizer, void *const *slots, int slot_count) {
    const size_t layers = (size_t)net->layers;
    const size_t bytes = sizeof(mbp_lazy) + layers * (sizeof(mbp_lazy_layer) + sizeof(mbp_sparse_grad));
    mbp_lazy *made = mbp_memory_take(memory, bytes);
    if (!made)
        return NULL;
    memset(made, 0, bytes);
    made->layer = (mbp_lazy_layer *)(made + 1);
    made->grad = (mbp_sparse_grad *)(made->layer + layers);
    made->late.settle = settle_all;
    made->net = net, made->memory = memory;
    made->optimizer = optimizer, made->slots = slots, made->slot_count = slot_count;
    return made;
}

void mbp_lazy_free(mbp_lazy *lazy) {
    const size_t layers = (size_t)lazy->net->layers;
    for (size_t i = 0; i < layers; i++) {
        mbp_memory_give(lazy->memory, lazy->layer[i].seen, lazy->layer[i].bytes);
        mbp_memory_give(lazy->memory, lazy->layer[i].grad, lazy->layer[i].grad_bytes);
    }
    mbp_memory_give(lazy->memory, lazy->joint, lazy->joint_bytes);
    mbp_memory_give(lazy->memory, lazy, sizeof(mbp_lazy) + layers * (sizeof(mbp_lazy_layer) + sizeof(mbp_sparse_grad)));
}

/* Returns the part of a block after *used, which grows; NULL if there is no block yet. */
static void *part(char *block, size_t *used, int64_t count, size_t item) {
    char *at = block ? block + *used : NULL;
    *used += mbp_aligned((size_t)count * item);
    return at;
}

/* Places everything in the block that `seen` points to; returns its size. */
static size_t lay_layer(mbp_lazy_layer *l, const mbp_layer *layer, mbp_idle_kind kind, size_t item) {
    size_t used = 0;
    char *block = (char *)l->seen;
    l->seen = part(block, &used, layer->in, sizeof *l->seen);
    if (kind == MBP_IDLE_SCALED)
        l->product = part(block, &used, l->room + 1, sizeof *l->product);
    if (kind == MBP_IDLE_LINEAR)
        l->matrix = part(block, &used, 2 * l->room, sizeof *l->matrix);
    if (kind == MBP_IDLE_REPEATED)
        l->zeros = part(block, &used, layer->out, item);
    return used;
}

mbp_status mbp_lazy_add(mbp_lazy *lazy, int layer, const mbp_idle *idle, mbp_error *error) {
    const mbp_layer *of = &lazy->net->layer[layer];
    /* With weight_decay set later, steps of the optimizer may be of this kind. */
    const mbp_idle_kind kind = idle->kind == MBP_IDLE_STILL ? MBP_IDLE_SCALED : idle->kind;
    mbp_lazy_layer *l = &lazy->layer[layer], made = {.room = LEAST_STEPS, .slot = idle->slot};
    while (made.room < MOST_STEPS && made.room < of->in * of->out / NUMBERS_PER_STEP)
        made.room *= 2;
    made.bytes = lay_layer(&made, of, kind, lazy->net->item);
    made.seen = mbp_memory_take(lazy->memory, made.bytes);
    if (!made.seen)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for the steps of the sparse layer %s", of->name);
    memset(made.seen, 0, made.bytes);
    lay_layer(&made, of, kind, lazy->net->item);
    if (made.product)
        made.product[0] = 1;
    *l = made;
    return MBP_OK;
}

static size_t lay_grad(mbp_sparse_grad *g, char *block, int merges, size_t row_bytes) {
    size_t used = 0;
    g->value = part(block, &used, g->room, row_bytes);
    g->next_value = part(block, &used, merges ? g->room : 0, row_bytes);
    g->row = part(block, &used, g->room, sizeof *g->row);
    g->next_row = part(block, &used, merges ? g->room : 0, sizeof *g->row);
    g->place = part(block, &used, merges ? g->room : 0, sizeof *g->place);
    if (!merges)
        g->next_value = NULL, g->next_row = g->place = NULL;
    return used;
}

mbp_status mbp_lazy_reserve(mbp_lazy *lazy, int layer, int64_t rows, int merges, mbp_error *error) {
    const mbp_layer *of = &lazy->net->layer[layer];
    const size_t row_bytes = (size_t)of->out * lazy->net->item;
    mbp_sparse_grad *old = &lazy->grad[layer], made = {.is_on = old->is_on, .count = old->count};
    merges = merges || old->next_row;
    rows = rows < of->in ? rows : of->in;
    if (old->room >= rows && (old->next_row || !merges))
        return MBP_OK;
    made.room = rows > old->room ? rows : old->room;
    const size_t bytes = lay_grad(&made, NULL, merges, row_bytes);
    char *block = mbp_memory_take(lazy->memory, bytes);
    if (!block)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for a gradient of %lld rows of layer %s", (long long)rows,
                        of->name);
    lay_grad(&made, block, merges, row_bytes);
    if (old->count) {
        memcpy(made.row, old->row, (size_t)old->count * sizeof *made.row);
        memcpy(made.value, old->value, (size_t)old->count * row_bytes);
    }
    mbp_memory_give(lazy->memory, lazy->layer[layer].grad, lazy->layer[layer].grad_bytes);
    lazy->layer[layer].grad = block, lazy->layer[layer].grad_bytes = bytes;
    *old = made;
    return MBP_OK;
}

mbp_status mbp_lazy_join(mbp_lazy *lazy, size_t bytes, mbp_error *error) {
    if (lazy->joint_bytes >= bytes)
        return MBP_OK;
    char *block = mbp_memory_take(lazy->memory, bytes);
    if (!block)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory to exchange the rows of sparse layers");
    mbp_memory_give(lazy->memory, lazy->joint, lazy->joint_bytes);
    lazy->joint = block, lazy->joint_bytes = bytes;
    return MBP_OK;
}

void mbp_lazy_start(mbp_lazy *lazy, int layer, const int32_t *rows, int64_t count, const char *dense) {
    const size_t bytes = (size_t)lazy->net->layer[layer].out * lazy->net->item;
    mbp_sparse_grad *g = &lazy->grad[layer];
    g->is_on = g->is_new = 1, g->count = count;
    for (int64_t i = 0; i < count; i++) {
        g->row[i] = rows ? rows[i] : (int32_t)i;
        memcpy(g->value + (size_t)i * bytes, dense + (size_t)g->row[i] * bytes, bytes);
    }
}

void mbp_lazy_spread(const mbp_sparse_grad *g, size_t row_bytes, const char *from, char *dense) {
    for (int64_t i = 0; i < g->count; i++) {
        char *to = dense + (size_t)g->row[i] * row_bytes;
        if (from)
            memcpy(to, from + (size_t)i * row_bytes, row_bytes);
        else
            memset(to, 0, row_bytes);
    }
}

/* ---- rows that missed steps ---- */

static void multiply(double by[4], const double later[4]) {
    const double a = later[0] * by[0] + later[1] * by[2], b = later[0] * by[1] + later[1] * by[3];
    const double c = later[2] * by[0] + later[3] * by[2], d = later[2] * by[1] + later[3] * by[3];
    by[0] = a, by[1] = b, by[2] = c, by[3] = d;
}

/* The place of a level of the tree: it has room >> level matrices. */
static int64_t level_at(const mbp_lazy_layer *l, int level) { return 2 * l->room - (2 * l->room >> level); }

/* The matrix of the steps from `step` on: large blocks, each aligned to its size. */
static void find_matrix(const mbp_lazy_layer *l, int64_t step, double by[4]) {
    by[0] = by[3] = 1, by[1] = by[2] = 0;
    while (step < l->count) {
        int level = 0;
        while (step >> level & 1 ? 0 : step + ((int64_t)2 << level) <= l->count)
            level++;
        multiply(by, l->matrix[level_at(l, level) + (step >> level)]);
        step += (int64_t)1 << level;
    }
}

static double power(double factor, int64_t times) {
    double result = 1;
    for (; times > 0; times /= 2, factor *= factor)
        if (times % 2)
            result *= factor;
    return result;
}

/* Adds a step to those that rows miss. */
static void keep_step(mbp_lazy_layer *l, const mbp_lazy_step *step) {
    const mbp_idle *idle = &step->idle;
    const int64_t i = l->count++;
    l->others = idle->others;
    if (l->product)
        l->product[i + 1] = l->product[i] * idle->p[0];
    if (l->matrix) {
        const double own[4] = {idle->p[0], idle->p[1], idle->s[0], idle->s[1]};
        memcpy(l->matrix[i], own, sizeof own);
        for (int level = 1; !(l->count & (((int64_t)1 << level) - 1)); level++) {
            double (*const below)[4] = l->matrix + level_at(l, level - 1) + (i >> level << 1);
            double *const to = l->matrix[level_at(l, level) + (i >> level)];
            memcpy(to, below[0], sizeof below[0]);
            multiply(to, below[1]);
        }
    }
    memcpy(l->constants, step->constants, sizeof l->constants);
}

typedef struct rows_job {
    mbp_lazy *lazy;
    int layer;
    const int32_t *rows;       /* NULL: all */
    const mbp_lazy_step *step; /* of an update */
} rows_job;

/* Where a row of the weight, and of the slots, is. */
typedef struct place {
    void *p, *slots[MBP_SLOTS_MAX];
} place;

static place place_of(const rows_job *job, int64_t row) {
    const mbp_lazy *lazy = job->lazy;
    const mbp_layer *layer = &lazy->net->layer[job->layer];
    const size_t at = (size_t)(layer->weight + row * layer->out) * lazy->net->item;
    place here = {lazy->net->block + at, {0}};
    for (int s = 0; s < lazy->slot_count; s++)
        here.slots[s] = (char *)lazy->slots[s] + at;
    return here;
}

/* What the steps from number `from` on do with a row. */
typedef struct missed {
    int64_t from;
    double by[4], others;
} missed;

static missed find_missed(const mbp_lazy_layer *l, int64_t from) {
    missed m = {.from = from, .by = {1, 0, 0, 1}, .others = power(l->others, l->count - from)};
    if (l->matrix)
        find_matrix(l, from, m.by);
    else if (l->product)
        m.by[0] = l->product[l->count] / l->product[from];
    return m;
}

static void apply_missed(const rows_job *job, const missed *m, int slot, int64_t row) {
    const mbp_lazy *lazy = job->lazy;
    const mbp_lazy_layer *l = &lazy->layer[job->layer];
    const mbp_kernels *kernels = lazy->net->kernels;
    const int64_t n = lazy->net->layer[job->layer].out;
    const place at = place_of(job, row);
    if (l->zeros) {
        kernels->training->update(lazy->optimizer, n, at.p, l->zeros, at.slots, l->constants,
                                  &(mbp_terms){1, INFINITY, 0});
        return;
    }
    if (l->matrix)
        kernels->training->combine(n, at.p, at.slots[slot], m->by);
    else if (m->by[0] != 1)
        kernels->training->combine(n, at.p, NULL, m->by);
    for (int s = 0; s < lazy->slot_count && m->others != 1; s++)
        if (!l->matrix || s != slot)
            kernels->training->combine(n, at.slots[s], NULL, (const double[4]){m->others, 0, 0, 0});
}

/* Rows are far apart in memory, where the processor does not expect them: fetches the start of one that will be used
 * AHEAD rows later. slots 1: of the slots, too. 1600 rows of 32 numbers among 10^7: 1.9 -> 1.4 ms a step. */
enum { AHEAD = 8, LINES = 4 };
static void fetch(const rows_job *job, int64_t row, int slots) {
    const place at = place_of(job, row);
    const size_t bytes = (size_t)job->lazy->net->layer[job->layer].out * job->lazy->net->item;
    if (!slots)
        __builtin_prefetch(&job->lazy->layer[job->layer].seen[row]);
    for (size_t line = 0; line < LINES && line * 64 < bytes; line++) {
        __builtin_prefetch((char *)at.p + line * 64);
        for (int s = 0; s < job->lazy->slot_count && slots; s++)
            __builtin_prefetch((char *)at.slots[s] + line * 64);
    }
}

static void run_catch_up(void *context, int64_t first, int64_t last, int thread) {
    const rows_job *job = context;
    mbp_lazy_layer *l = &job->lazy->layer[job->layer];
    missed m = {.from = -1};
    (void)thread;
    for (int64_t i = first; i < last; i++) {
        const int64_t row = job->rows ? job->rows[i] : i;
        if (job->rows && i + AHEAD < last)
            fetch(job, job->rows[i + AHEAD], 0);
        if (l->seen[row] == l->count)
            continue;
        if (m.from != l->seen[row])
            m = find_missed(l, l->seen[row]);
        apply_missed(job, &m, l->slot, row);
        l->seen[row] = (uint32_t)l->count;
    }
}

static void share_rows(rows_job *job, int64_t count, mbp_work run) {
    const mbp_net *net = job->lazy->net;
    const double work = (double)MBP_UPDATE_WORK * (double)count * (double)net->layer[job->layer].out;
    mbp_net_share(net, work, count, count / 64 + 1, run, job);
}

void mbp_lazy_catch_up(mbp_lazy *lazy, int layer, const int32_t *rows, int64_t count) {
    mbp_lazy_layer *l = &lazy->layer[layer];
    if (l->count == 0)
        return;
    share_rows(&(rows_job){.lazy = lazy, .layer = layer, .rows = rows}, rows ? count : lazy->net->layer[layer].in,
               run_catch_up);
    if (rows)
        return;
    memset(l->seen, 0, (size_t)lazy->net->layer[layer].in * sizeof *l->seen);
    l->count = 0;
}

static void settle_all(mbp_late *late) {
    mbp_lazy *lazy = (mbp_lazy *)late;
    mbp_gate_enter_alone(&lazy->net->shared->lock);
    for (int i = 0; i < lazy->net->layers; i++)
        mbp_lazy_catch_up(lazy, i, NULL, 0);
    mbp_gate_leave_alone(&lazy->net->shared->lock);
}

/* ---- updates ---- */

void mbp_limit_row(const mbp_net *net, int layer, void *row) {
    const mbp_layer *of = &net->layer[layer];
    const double limit = mbp_is_embedding(of->kind) ? of->setting[MBP_EMBEDDING_MAX_NORM] : 0;
    const double norm = limit > 0 ? sqrt(net->kernels->sum_squares(of->out, row)) : 0;
    if (norm > limit)
        net->kernels->training->combine(of->out, row, NULL, (const double[4]){limit / norm, 0, 0, 0});
}

static void run_update(void *context, int64_t first, int64_t last, int thread) {
    const rows_job *job = context;
    const mbp_lazy *lazy = job->lazy;
    const mbp_sparse_grad *g = &lazy->grad[job->layer];
    const int64_t n = lazy->net->layer[job->layer].out;
    (void)thread;
    for (int64_t i = first; i < last; i++) {
        const place at = place_of(job, g->row[i]);
        if (i + AHEAD < last)
            fetch(job, g->row[i + AHEAD], 1);
        lazy->net->kernels->training->update(lazy->optimizer, n, at.p, g->value + (size_t)(i * n) * lazy->net->item,
                                             at.slots, job->step->constants, &job->step->terms);
        mbp_limit_row(lazy->net, job->layer, at.p);
    }
}

/* Whether there is no room for more steps, or a quotient of products would not be exact. */
static int is_full(const mbp_lazy_layer *l) {
    const double product = l->product ? fabs(l->product[l->count]) : 1;
    return l->count == l->room || !(product > 0x1p-500 && product < 0x1p500);
}

void mbp_lazy_update(mbp_lazy *lazy, int layer, const mbp_lazy_step *step) {
    const mbp_sparse_grad *g = &lazy->grad[layer];
    mbp_lazy_layer *l = &lazy->layer[layer];
    mbp_lazy_catch_up(lazy, layer, g->row, g->count);
    share_rows(&(rows_job){.lazy = lazy, .layer = layer, .step = step}, g->count, run_update);
    if (step->idle.kind == MBP_IDLE_STILL)
        return;
    keep_step(l, step);
    for (int64_t i = 0; i < g->count; i++)
        l->seen[g->row[i]] = (uint32_t)l->count;
    if (is_full(l))
        mbp_lazy_catch_up(lazy, layer, NULL, 0);
}

void mbp_lazy_list(mbp_lazy *lazy) {
    mbp_shared *shared = lazy->net->shared;
    int64_t steps = 0;
    for (int i = 0; i < lazy->net->layers; i++)
        steps += lazy->layer[i].count;
    if (steps > 0 && !lazy->late.is_listed) {
        lazy->late.is_listed = 1;
        lazy->late.next = shared->late;
        MBP_PUT(&shared->late, &lazy->late);
    }
}
#endif
