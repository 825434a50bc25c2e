/* The gradients of sparse layers on several processes. Each process has some rows of such a gradient; all get the rows
 * of all, and their sums:
 *
 *     per layer     how many rows each process has, and how many steps its other rows miss
 *     a header      whether a process has no memory for what follows
 *     the rows      their numbers
 *     one vector    the values of the rows of all processes in ascending order, 0 where a process has none
 */
#include "train/steps/step.h"

#if MICROBP_SPARSE && MICROBP_TRAINING

/* What a process says about a layer. missed: of its rows, to be compared; negative: rows are at different steps. */
typedef struct part {
    int64_t rows; /* -1: its gradient is dense */
    int64_t missed;
} part;

/* What all processes have said. */
_Static_assert(sizeof(part) == MBP_JOINT_BYTES, "room in mbp_ranks.theirs");

typedef struct joint_layer {
    int64_t most, total; /* rows of one process; of all, if no two name the same */
    int is_sparse;       /* in some process */
    int is_mixed;        /* other processes have dense rows, and the flat vector the sum of their gradients */
    int is_uneven;       /* rows have caught up with different steps */
} joint_layer;

static part part_of(const mbp_trainer *t, int i) {
    if (!t->lazy)
        return (part){-1, 0};
    const int64_t missed = t->lazy->layer[i].count;
    return (part){mbp_trains_sparse(t, i) ? t->lazy->grad[i].count : -1, t->lazy->is_uneven ? -1 : missed};
}

static char *dense_grad(const mbp_trainer *t, int i) {
    return t->grads + (size_t)t->net->layer[i].weight * t->net->item;
}

static joint_layer joint_of(const mbp_trainer *t, int i) {
    const part *all = (const part *)(const void *)t->ranks->theirs;
    joint_layer joint = {0};
    for (int64_t k = 0; k < t->ranks->peers.ranks; k++) {
        const part *one = &all[k * t->net->layers + i];
        const int64_t rows = one->rows > 0 ? one->rows : 0;
        joint.most = rows > joint.most ? rows : joint.most;
        joint.total += rows;
        joint.is_sparse |= one->rows >= 0;
        joint.is_mixed |= one->rows < 0;
        joint.is_uneven |= one->missed < 0 || one->missed != all[i].missed;
    }
    const mbp_layer *layer = &t->net->layer[i];
    joint.is_mixed = joint.is_mixed && joint.is_sparse &&
                     !mbp_is_clear(dense_grad(t, i), (size_t)(layer->in * layer->out) * t->net->item);
    if (joint.is_mixed || joint.total > layer->in)
        joint.total = layer->in;
    return joint;
}

static mbp_status join_parts(mbp_trainer *t, mbp_error *error) {
    part *const own = (part *)(void *)t->ranks->theirs + t->ranks->peers.rank * t->net->layers;
    for (int i = 0; i < t->net->layers; i++)
        own[i] = part_of(t, i);
    return t->together->gather(t, own, t->ranks->theirs, (int64_t)sizeof(part) * t->net->layers, error);
}

/* ---- memory ---- */

/* What is in the block t->lazy->joint: a bit for each row of a layer; the rows that each process names, of all layers;
 * the values. */
typedef struct places {
    int64_t list; /* how many numbers of rows of a process there is room for */
    int64_t count;
    size_t lists, values, bytes;
} places;

static places places_of(const mbp_trainer *t) {
    places p = {0};
    for (int i = 0; i < t->net->layers; i++) {
        const mbp_layer *layer = &t->net->layer[i];
        const joint_layer joint = joint_of(t, i);
        const size_t bits = joint.is_sparse ? (size_t)(layer->in / 64 + 1) * sizeof(uint64_t) : 0;
        p.lists = bits > p.lists ? bits : p.lists;
        p.list += joint.most;
        p.count += joint.is_sparse ? joint.total * layer->out : 0;
    }
    p.values = mbp_aligned(p.lists + (size_t)(t->ranks->peers.ranks * p.list) * sizeof(int32_t));
    p.bytes = p.values + (size_t)p.count * t->net->item + MBP_READABLE;
    return p;
}

static mbp_status make_room(mbp_trainer *t, size_t bytes, mbp_error *error) {
    mbp_status status = MBP_OK;
    for (int i = 0; i < t->net->layers && status == MBP_OK; i++) {
        const joint_layer joint = joint_of(t, i);
        if (joint.is_sparse)
            status = mbp_sparse_reserve(t, i, joint.total, error);
    }
    return status == MBP_OK ? mbp_lazy_join(t->lazy, bytes, error) : status;
}

/* ---- rows that missed steps ---- */

/* A process brings all rows up to date before it predicts, or some that the others do not know: if a step did not end
 * in an update. So that all get the same bits, then all do. */
static void settle(mbp_trainer *t) {
    mbp_gate_enter_alone(&t->net->shared->lock);
    for (int i = 0; i < t->net->layers; i++)
        if (joint_of(t, i).is_uneven)
            mbp_lazy_catch_up(t->lazy, i, NULL, 0);
    mbp_gate_leave_alone(&t->net->shared->lock);
}

/* ---- the rows of all ---- */

static mbp_status join_lists(mbp_trainer *t, const places *p, mbp_error *error) {
    int32_t *const lists = (int32_t *)(void *)(t->lazy->joint + p->lists);
    int32_t *const own = lists + t->ranks->peers.rank * p->list, *to = own;
    for (int i = 0; i < t->net->layers; i++) {
        const mbp_sparse_grad *g = &t->lazy->grad[i];
        if (mbp_trains_sparse(t, i) && g->count)
            memcpy(to, g->row, (size_t)g->count * sizeof *to);
        to += joint_of(t, i).most;
    }
    return t->together->gather(t, own, lists, p->list * (int64_t)sizeof *own, error);
}

/* rows[] becomes the rows of a layer that some process names; returns how many. lists: those of the first process. */
static int64_t unite(const mbp_trainer *t, int i, const int32_t *lists, int64_t list, int32_t *rows) {
    const part *all = (const part *)(const void *)t->ranks->theirs;
    uint64_t *const bits = (uint64_t *)(void *)t->lazy->joint;
    const int64_t words = t->net->layer[i].in / 64 + 1;
    int64_t count = 0;
    memset(bits, 0, (size_t)words * sizeof *bits);
    for (int64_t k = 0; k < t->ranks->peers.ranks; k++)
        for (int64_t r = 0; r < all[k * t->net->layers + i].rows; r++)
            bits[lists[k * list + r] / 64] |= (uint64_t)1 << lists[k * list + r] % 64;
    for (int64_t word = 0; word < words; word++)
        for (; bits[word]; bits[word] &= bits[word] - 1)
            rows[count++] = (int32_t)(word * 64 + __builtin_ctzll(bits[word]));
    return count;
}

/* The gradient of a layer gets the rows of all processes; `values` gets those of this one, and 0 for the other rows.
 * Returns their bytes. lists: as for unite. */
static size_t unite_layer(const mbp_trainer *t, int i, int is_mixed, const int32_t *lists, int64_t list, char *values) {
    mbp_sparse_grad *g = &t->lazy->grad[i];
    const size_t bytes = (size_t)t->net->layer[i].out * t->net->item;
    const int32_t *own = lists + t->ranks->peers.rank * list;
    const int64_t count = mbp_trains_sparse(t, i) ? g->count : 0;
    if (is_mixed)
        for (g->count = 0; g->count < t->net->layer[i].in; g->count++)
            g->row[g->count] = (int32_t)g->count;
    else
        g->count = unite(t, i, lists, list, g->row);
    t->lazy->layer[i].joint = is_mixed ? MBP_JOINT_MIXED : MBP_JOINT;
    memset(values, 0, (size_t)g->count * bytes);
    for (int64_t r = 0, at = 0; r < count; r++) {
        while (g->row[at] != own[r])
            at++;
        memcpy(values + (size_t)at * bytes, g->value + (size_t)r * bytes, bytes);
    }
    return (size_t)g->count * bytes;
}

static int64_t unite_layers(const mbp_trainer *t, const places *p) {
    const int32_t *lists = (int32_t *)(void *)(t->lazy->joint + p->lists);
    char *const values = t->lazy->joint + p->values;
    size_t used = 0;
    for (int i = 0; i < t->net->layers; i++) {
        const joint_layer joint = joint_of(t, i);
        if (joint.is_sparse)
            used += unite_layer(t, i, joint.is_mixed, lists, p->list, values + used);
        lists += joint.most;
    }
    return (int64_t)(used / t->net->item);
}

/* The gradients get the sums of the values. A layer that is sparse in any process is so in all from now on. */
static void take_sums(mbp_trainer *t, const char *values) {
    for (int i = 0; i < t->net->layers; i++) {
        mbp_sparse_grad *g = &t->lazy->grad[i];
        const int64_t count = g->count * t->net->layer[i].out;
        const mbp_joint_kind joint = t->lazy->layer[i].joint;
        if (joint == MBP_NOT_JOINT)
            continue;
        t->lazy->layer[i].joint = MBP_NOT_JOINT;
        memcpy(g->value, values, (size_t)count * t->net->item);
        values += (size_t)count * t->net->item;
        if (joint == MBP_JOINT_MIXED)
            t->net->kernels->map(t->net->kernels->accumulate, 1, count, (mbp_view){g->value, count},
                                 (mbp_view){dense_grad(t, i), count}, NULL);
        g->is_new |= !g->is_on;
        if (!g->is_on || joint == MBP_JOINT_MIXED)
            mbp_sparse_turn_on(t, i);
    }
    mbp_trainer_plan(t, t->plan.input_grads);
}

mbp_status mbp_join_rows(mbp_trainer *t, mbp_error *error) {
    mbp_status status = join_parts(t, error);
    if (status != MBP_OK)
        return status;
    const places p = places_of(t);
    status = t->together->join(t, make_room(t, p.bytes, error), (double[2]){0, 0}, error);
    if (status != MBP_OK)
        return status;
    settle(t);
    if (p.list > 0)
        status = join_lists(t, &p, error);
    if (status != MBP_OK)
        return status;
    const int64_t count = unite_layers(t, &p);
    status = t->together->add(t, t->lazy->joint + p.values, count, error);
    if (status == MBP_OK)
        take_sums(t, t->lazy->joint + p.values);
    return status;
}

#endif
