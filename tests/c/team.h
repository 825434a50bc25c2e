/* For tests of several processes: threads with a net each, which exchange bytes; nets with batch_norm and with sparse
 * layers, and rows for them. */
#ifndef TEAM_H
#define TEAM_H

#include "api.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { RANKS = 3, ROWS = 60, STEPS = 4, LONGEST = 1 << 16, IDS = 40, WIDE = 50, LENGTH = 12 };

/* ---- exchanges ---- */

typedef struct team {
    atomic_int arrived, turn, wrong; /* wrong: exchanges that were not the same in all */
    int ranks, swaps, begins;        /* swaps, begins: whether they are used */
    int64_t bytes[RANKS];
    char values[RANKS][LONGEST];
} team;

static team all;

static inline void meet(void) {
    const int turn = atomic_load(&all.turn);
    if (atomic_fetch_add(&all.arrived, 1) == all.ranks - 1) {
        atomic_store(&all.arrived, 0);
        atomic_fetch_add(&all.turn, 1);
    }
    while (atomic_load(&all.turn) == turn)
        sched_yield();
}

/* kind: of the exchange, which must be that of the others. */
static inline void show(int rank, const void *mine, int64_t bytes, int kind) {
    all.bytes[rank] = 2 * bytes + kind;
    memcpy(all.values[rank], mine, (size_t)bytes * (kind ? (size_t)all.ranks : 1));
    meet();
    for (int k = 0; k < all.ranks; k++)
        atomic_fetch_add(&all.wrong, all.bytes[k] != all.bytes[rank]);
}

static inline int gather(const void *mine, void *to, int64_t bytes, void *user) {
    show(*(const int *)user, mine, bytes, 0);
    for (int k = 0; k < all.ranks; k++)
        memcpy((char *)to + k * bytes, all.values[k], (size_t)bytes);
    meet();
    return 0;
}

static inline int swap(const void *mine, void *theirs, int64_t bytes, void *user) {
    const int rank = *(const int *)user;
    show(rank, mine, bytes, 1);
    for (int k = 0; k < all.ranks; k++)
        memcpy((char *)theirs + k * bytes, all.values[k] + rank * bytes, (size_t)bytes);
    meet();
    return 0;
}

static inline int finish(void *user) { return (void)user, 0; }

/* ---- nets and data ---- */

typedef struct model {
    const char *graph;
    int inputs, outputs, has_lengths;
    int64_t width, out[2];
} model;

static const model norms = {"input 5\nbatch_norm 0 layer=first\ndense 1 layer=a units=7 activation=tanh\n"
                            "batch_norm 2 layer=n\ndropout 3 rate=0.2\nadd 2 4\nbatch_norm 5 layer=m\n"
                            "dense 6 layer=b units=2\noutput 7\n",
                            1,
                            1,
                            0,
                            5,
                            {2}};
static const model lengths = {"input 24\ngrid 0 height=1 width=12\n"
                              "window 1 size=1x3 stride=1x2 pad=0x1 dilation=1x1\n"
                              "dense 2 layer=a units=5 activation=tanh\nbatch_norm 3 layer=n\ndense 4 layer=b units=3\n"
                              "last 3\ndense 6 layer=c units=2 bias=0\nbatch_norm 7 layer=m\noutput 5\noutput 8\n",
                              1,
                              2,
                              1,
                              2 * LENGTH,
                              {6 * 3, 2}};
static const model rows_of_all = {"input 50\nids 2 levels=40\ndense 0 layer=a units=5 activation=gelu\n"
                                  "embedding 1 layer=e units=3\nconcat 2 3\ndense 4 layer=b units=4 activation=tanh\n"
                                  "dense 5 layer=c units=2\noutput 6\n",
                                  2,
                                  1,
                                  0,
                                  WIDE,
                                  {2}};
static const model both = {"input 50\nids 2 levels=40\ndense 0 layer=a units=5 bias=0\nembedding 1 layer=e units=3\n"
                           "concat 2 3\nbatch_norm 4 layer=n\ndense 5 layer=c units=2\noutput 6\n",
                           2,
                           1,
                           0,
                           WIDE,
                           {2}};

typedef struct data {
    mbp_array x[2], dense, y[2], weight, lengths, gradient[2];
} data;

/* The values of sparse rows: some columns of each, most of them near a row's own. */
static inline void make_sparse(data *d, mbp_dtype dtype) {
    enum { EACH = 4 };
    mbp_array values = array_new(dtype, 1, ROWS * EACH);
    int32_t *columns = malloc(ROWS * EACH * sizeof *columns), *starts = calloc(ROWS + 1, sizeof *starts);
    array_fill(&values, -1, 1);
    d->dense = array_new(dtype, ROWS, WIDE);
    for (int r = 0; r < ROWS; r++) {
        starts[r + 1] = (r + 1) * EACH;
        for (int k = 0; k < EACH; k++) {
            columns[r * EACH + k] = (r / 4 + 9 * k + random_below(2)) % (WIDE - 9) / 9 + k * 10;
            array_set(&d->dense, r, columns[r * EACH + k], array_get(&values, 0, r * EACH + k));
        }
    }
    d->x[0] = d->dense, d->x[0].data = values.data;
    d->x[0].indices = columns, d->x[0].indptr = starts, d->x[0].index_dtype = MBP_I32;
}

static inline void data_new(data *d, const model *m, mbp_dtype dtype) {
    d->dense = d->x[0] = array_new(dtype, ROWS, m->width);
    array_fill(&d->x[0], 1, 3);
    d->weight = array_new(MBP_F64, ROWS, 1), array_fill(&d->weight, 0.5, 1.5);
    d->lengths = array_new(MBP_I64, ROWS, 1);
    if (m->inputs == 2) {
        array_free(&d->dense);
        make_sparse(d, dtype);
        int64_t *ids = malloc(2 * ROWS * sizeof *ids);
        for (int i = 0; i < 2 * ROWS; i++)
            ids[i] = (i / 9 + 11 * random_below(3)) % IDS;
        d->x[1] = mbp_ids(ids, ROWS, 2);
    }
    for (int i = 0; i < m->outputs; i++) {
        d->y[i] = array_new(dtype, ROWS, m->out[i]), array_fill(&d->y[i], -1, 1);
        d->gradient[i] = array_new(dtype, ROWS, m->out[i]), array_fill(&d->gradient[i], -0.1, 0.1);
    }
    for (int r = 0; r < ROWS; r++)
        array_set(&d->lengths, r, 0, random_below(LENGTH + 1));
}

static inline void data_free(const data *d, const model *m) {
    array_free(&d->dense), array_free(&d->weight), array_free(&d->lengths);
    if (m->inputs == 2)
        free((void *)d->x[0].data), free((void *)d->x[0].indices), free((void *)d->x[0].indptr), array_free(&d->x[1]);
    for (int i = 0; i < m->outputs; i++)
        array_free(&d->y[i]), array_free(&d->gradient[i]);
}

static inline mbp_array some(const mbp_array *a, int64_t first, int64_t count) {
    mbp_array part = *a;
    part.rows = count;
    if (a->indptr)
        part.indptr = (const int32_t *)a->indptr + first;
    else
        part.data = (const char *)a->data + first * a->row_stride;
    return part;
}

/* Some rows of the data. The batch points into *part. */
static inline void data_rows(const data *d, const model *m, int64_t first, int64_t count, data *part,
                             mbp_batch *batch) {
    for (int i = 0; i < m->inputs; i++)
        part->x[i] = some(&d->x[i], first, count);
    part->dense = some(&d->dense, first, count);
    for (int i = 0; i < m->outputs; i++) {
        part->y[i] = some(&d->y[i], first, count);
        part->gradient[i] = some(&d->gradient[i], first, count);
    }
    part->weight = some(&d->weight, first, count), part->lengths = some(&d->lengths, first, count);
    *batch = (mbp_batch){.size = sizeof *batch,
                         .x = part->x,
                         .n_x = m->inputs,
                         .y = part->y,
                         .n_y = m->outputs,
                         .weight = &part->weight,
                         .lengths = m->has_lengths ? &part->lengths : NULL};
}

/* ---- what a process has and does ---- */

typedef struct rank {
    int number;
    int64_t first, count;
    const model *model;
    const data *data; /* of all */
    data part;
    mbp_batch batch;
    mbp_net *net;
    mbp_trainer *trainer;
    double total, loss;
    mbp_status status;
    mbp_error error;
    void (*run)(struct rank *r);
    counter memory;
} rank;

typedef void (*task)(rank *r);

static const char *optimizer = "adam(lr=0.01)";
static double clip_norm = 0.05; /* small enough to act */

static inline void rank_start(rank *r, const model *m, const data *d, mbp_dtype dtype, int64_t first, int64_t count) {
    static const char *const losses[] = {"mse", "mse"};
    r->model = m, r->data = d, r->first = first, r->count = count;
    const mbp_allocator allocator = {count_allocate, count_release, &r->memory};
    r->net = net_new(m->graph, OPTIONS(.dtype = dtype, .seed = 5, .allocator = &allocator));
    r->trainer = trainer_new(r->net, losses, NULL, optimizer);
    (void)mbp_trainer_set(r->trainer, "clip_norm", clip_norm, NULL);
    data_rows(d, m, first, count, &r->part, &r->batch);
    for (int64_t i = 0; i < ROWS; i++)
        r->total += array_get(&d->weight, i, 0);
}

static inline void rank_end(rank *r) { mbp_trainer_free(r->trainer), mbp_net_free(r->net); }

static inline void *run_rank(void *of) {
    rank *r = of;
    const mbp_reduce how = {.size = sizeof how,
                            .rank = r->number,
                            .ranks = all.ranks,
                            .gather = gather,
                            .swap = all.swaps ? swap : NULL,
                            .begin = all.begins ? swap : NULL,
                            .finish = all.begins ? finish : NULL,
                            .user = &r->number};
    r->status = mbp_trainer_set_reduce(r->trainer, &how, &r->error);
    if (r->status == MBP_OK)
        r->run(r);
    return NULL;
}

/* Runs the task on some ranks; starts[k] is the first row of rank k. */
static inline void run_ranks(rank r[RANKS], int ranks, const int64_t *starts, const model *m, const data *d,
                             mbp_dtype dtype, task run) {
    pthread_t thread[RANKS];
    all.ranks = ranks;
    memset(r, 0, RANKS * sizeof *r);
    for (int k = 0; k < ranks; k++) {
        r[k].number = k, r[k].run = run;
        rank_start(&r[k], m, d, dtype, starts[k], starts[k + 1] - starts[k]);
    }
    for (int k = 0; k < ranks; k++)
        if (pthread_create(&thread[k], NULL, run_rank, &r[k]))
            exit(2);
    for (int k = 0; k < ranks; k++)
        pthread_join(thread[k], NULL);
    CHECK(atomic_exchange(&all.wrong, 0) == 0, "processes made different exchanges");
}

static inline void end_ranks(rank r[RANKS], int ranks) {
    for (int k = 0; k < ranks; k++)
        rank_end(&r[k]);
}

/* One process with all rows. */
static inline void run_alone(rank *r, const model *m, const data *d, mbp_dtype dtype, task run) {
    memset(r, 0, sizeof *r);
    rank_start(r, m, d, dtype, 0, ROWS);
    run(r);
    CHECK(r->status == MBP_OK, "alone: %s", r->error.text);
}

/* ---- comparisons ---- */

static inline double difference(mbp_net *net, const void *a, const void *b, int64_t count) {
    double most = 0;
    for (int64_t i = 0; i < count; i++) {
        const double d = fabs(vector_at(net, a, i) - vector_at(net, b, i));
        most = d > most || isnan(d) ? d : most;
    }
    return most;
}

static inline void check_equal(rank r[RANKS], int ranks, const char *what) {
    for (int k = 0; k < ranks; k++) {
        int64_t buffers;
        const char *own = mbp_net_buffers(r[k].net, &buffers), *first = mbp_net_buffers(r[0].net, &buffers);
        CHECK(r[k].status == MBP_OK, "%s: rank %d of %d: %s", what, k, ranks, r[k].error.text);
        CHECK(same_params(r[0].net, r[k].net) && same_state(r[0].net, r[0].trainer, r[k].trainer) &&
                  memcmp(own, first, (size_t)buffers * item_of(mbp_net_dtype(r[0].net))) == 0 &&
                  memcmp(&r[0].loss, &r[k].loss, 8) == 0,
              "%s: rank %d of %d differs from rank 0", what, k, ranks);
    }
}

static inline void check_close(const rank *a, const rank *b, const char *what) {
    int64_t params, buffers;
    const void *own = mbp_net_params(a->net, &params), *own_buffers = mbp_net_buffers(a->net, &buffers);
    const double bound = mbp_net_dtype(a->net) == MBP_F64 ? 1e-12 : 2e-5;
    const double d = difference(a->net, own, mbp_net_params(b->net, NULL), params);
    const double e = difference(a->net, own_buffers, mbp_net_buffers(b->net, NULL), buffers);
    CHECK(d <= bound && e <= bound && fabs(a->loss - b->loss) <= bound && mbp_trainer_steps(a->trainer) > 0,
          "%s: parameters differ by %g, buffers by %g, losses by %g", what, d, e, a->loss - b->loss);
}

/* ---- the rows of each rank ---- */

static const int64_t splits[][RANKS + 1] = {
    {0, ROWS}, {0, 25, ROWS}, {0, 20, 21, ROWS}, {0, 0, 41, ROWS}, {0, ROWS, ROWS}};
static const int split_ranks[] = {1, 2, 3, 3, 2};
enum { SPLITS = 5 };

/* ---- tasks ---- */

static inline int go_on(rank *r, mbp_status status) { return (r->status = status) == MBP_OK; }

static inline void do_steps(rank *r) {
    for (int i = 0; i < STEPS; i++)
        if (!go_on(r, mbp_trainer_step(r->trainer, &r->batch, &r->loss, &r->error)))
            return;
}

#endif
