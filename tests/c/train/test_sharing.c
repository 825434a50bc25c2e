/* Any number of threads gives the same bits as one thread: training, predictions, evaluations, and the state after
 * them. */
#include "api.h"
#include "train/trainer.h"

#include <pthread.h>
#include <stdatomic.h>

static const int thread_counts[] = {1, 2, 3, 4, 7, 8};
enum { THREAD_COUNTS = 6, STEPS = 2 };

/* ---- kernels that leave pieces to other threads ---- */

/* The caller's pieces are delayed, so that slow threads get pieces too. The pieces of other threads are counted. */
static const mbp_kernels *kernels_of[2];
static mbp_kernels slow_kernels[2];
static _Thread_local int is_caller;
static atomic_int by_others, most_threads;

static void hold_back(int threads) {
    if (is_caller)
        usleep(20);
    if (!is_caller)
        atomic_fetch_add(&by_others, 1);
    if (threads > atomic_load(&most_threads))
        atomic_store(&most_threads, threads);
}

static void run_f32(const mbp_product *p, int64_t first, int64_t last, void *pack) {
    hold_back(p->threads);
    kernels_of[0]->product_run(p, first, last, pack);
}

static void run_f64(const mbp_product *p, int64_t first, int64_t last, void *pack) {
    hold_back(p->threads);
    kernels_of[1]->product_run(p, first, last, pack);
}

static void make_slow_kernels(void) {
    for (int i = 0; i < 2; i++) {
        kernels_of[i] = mbp_kernels_find(NULL, i ? MBP_F64 : MBP_F32);
        slow_kernels[i] = *kernels_of[i];
        slow_kernels[i].product_run = i ? run_f64 : run_f32;
    }
}

static void use_slow_kernels(mbp_net *net) { net->kernels = &slow_kernels[net->dtype == MBP_F64]; }

/* ---- nets that are compared ---- */

typedef struct subject {
    const char *name, *graph, *loss, *optimizer;
    int64_t in, out, rows, more_rows; /* rows: of a step; more_rows: of a prediction and an evaluation */
} subject;

/* Widths and rows that are not multiples of a tile; maps inside and outside of the products; a large update with
 * penalties and max_norm; elementwise passes; a layer that is used twice. */
static const subject subjects[] = {
    {"chain",
     "input 131\ndense 0 units=257 activation=tanh\ndense 1 units=300 activation=relu\ndense 2 units=7\noutput 3\n",
     "mse", "adam(lr=0.01,weight_decay=0.01)", 131, 7, 203, 600},
    {"wide", "input 520\ndense 0 units=521 activation=gelu l1=0.001 l2=0.01 max_norm=1.3\ndense 1 units=33\noutput 2\n",
     "huber", "lamb(lr=0.01)", 520, 33, 64, 300},
    {"graph",
     "input 300\ndense 0 layer=a units=300 activation=tanh\ndense 1 layer=a\nadd 1 2\nmultiply 3 1\nconcat 4 "
     "0\nactivation 5 silu\n"
     "dense 6 units=5\noutput 7\n",
     "mse", "rmsprop(lr=0.001)", 300, 5, 450, 500},
    {"small", "input 20\ndense 0 units=30 activation=relu\ndense 1 units=3\noutput 2\n", "mse", "adam", 20, 3, 500,
     12000},
};
enum { SUBJECTS = 4 };

typedef struct outcome {
    mbp_net *net;
    mbp_trainer *trainer;
    mbp_array out;
    double losses[STEPS + 2];
} outcome;

static mbp_array data_new(mbp_dtype dtype, int64_t rows, int64_t cols) {
    mbp_array a = array_new(dtype, rows, cols);
    array_fill(&a, -1, 1);
    return a;
}

/* Steps with clipping and an average, an epoch in random order, an evaluation and a prediction. x has a different dtype
 * from the net, so that its rows are gathered. */
static outcome train(const subject *s, mbp_dtype dtype, mbp_pool *pool, int threads, const mbp_array *x,
                     const mbp_array *y) {
    outcome o = {.net = net_new(s->graph, OPTIONS(.dtype = dtype, .seed = 1, .pool = pool, .threads = threads))};
    const char *losses[] = {s->loss};
    const mbp_array some_x = array_rows(x, 5, s->rows), some_y = array_rows(y, 5, s->rows);
    const mbp_batch all = mbp_batch_of(x, y), batch = mbp_batch_of(&some_x, &some_y);
    int64_t *order = malloc((size_t)s->more_rows * sizeof *order), steps;
    use_slow_kernels(o.net);
    o.trainer = trainer_new(o.net, losses, NULL, s->optimizer);
    o.out = array_new(dtype, s->more_rows, s->out);
    OK(mbp_trainer_set(o.trainer, "clip_layer_norm", 0.02, &error));
    OK(mbp_trainer_set(o.trainer, "clip_norm", 0.025, &error));
    OK(mbp_trainer_set_average(o.trainer, 0.8, 0, 1, &error));
    mbp_permutation(3, MBP_SHUFFLE, 0, s->more_rows, order);
    for (int i = 0; i < STEPS; i++)
        OK(mbp_trainer_step(o.trainer, &batch, &o.losses[i], &error));
    OK(mbp_trainer_epoch(o.trainer, &all, order, s->rows, s->rows / 2 + 1, NULL, NULL, NULL, &o.losses[STEPS], &steps,
                         &error));
    OK(mbp_trainer_evaluate(o.trainer, &all, &o.losses[STEPS + 1], &error));
    OK(mbp_net_predict(o.net, x, 1, &o.out, 1, 1, -1, &error));
    free(order);
    return o;
}

static int same_average(const outcome *a, const outcome *b) {
    return memcmp(mbp_trainer_average(a->trainer, NULL), mbp_trainer_average(b->trainer, NULL), vector_bytes(a->net)) ==
           0;
}

static void outcome_free(outcome *o) { mbp_trainer_free(o->trainer), mbp_net_free(o->net), array_free(&o->out); }

static void test_same_bits(const subject *s, mbp_dtype dtype) {
    mbp_array x = data_new(dtype == MBP_F32 ? MBP_F64 : MBP_F32, s->more_rows, s->in),
              y = data_new(dtype, s->more_rows, s->out);
    outcome alone = train(s, dtype, NULL, 0, &x, &y);
    for (int i = 0; i < THREAD_COUNTS; i++) {
        mbp_pool *pool = NULL;
        OK(mbp_pool_create(&pool, 8, NULL, &error));
        outcome o = train(s, dtype, pool, thread_counts[i], &x, &y);
        CHECK(mbp_net_threads(o.net) == thread_counts[i], "%d threads instead of %d", mbp_net_threads(o.net),
              thread_counts[i]);
        CHECK(same_params(o.net, alone.net) && same_grads(o.net, o.trainer, alone.trainer) &&
                  same_state(o.net, o.trainer, alone.trainer),
              "%s, dtype %d: %d threads train different parameters from one thread", s->name, (int)dtype,
              thread_counts[i]);
        CHECK(same_average(&o, &alone), "%s, dtype %d: %d threads have a different average from one thread", s->name,
              (int)dtype, thread_counts[i]);
        CHECK(memcmp(o.losses, alone.losses, sizeof o.losses) == 0,
              "%s: %d threads have different losses from one thread", s->name, thread_counts[i]);
        CHECK(memcmp(o.out.data, alone.out.data, (size_t)(s->more_rows * o.out.row_stride)) == 0,
              "%s, dtype %d: %d threads predict different values from one thread", s->name, (int)dtype,
              thread_counts[i]);
        outcome_free(&o);
        mbp_pool_free(pool);
    }
    outcome_free(&alone);
    array_free(&x), array_free(&y);
}

/* ---- a limit that changes, and two trainers that share a pool ---- */

static void test_changing_threads(void) {
    const subject *s = &subjects[0];
    mbp_array x = data_new(MBP_F32, s->more_rows, s->in), y = data_new(MBP_F32, s->more_rows, s->out);
    outcome alone = train(s, MBP_F32, NULL, 0, &x, &y);
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 8, NULL, &error));
    outcome o = train(s, MBP_F32, pool, 1, &x, &y);
    const mbp_array some_x = array_rows(&x, 0, s->rows), some_y = array_rows(&y, 0, s->rows);
    const mbp_batch batch = mbp_batch_of(&some_x, &some_y);
    for (int i = 0; i < 12; i++) {
        double loss, other;
        OK(mbp_net_set_threads(o.net, i % 3 ? i : 0, &error));
        OK(mbp_pool_set_limit(pool, 1 + (i * 5) % 8, &error));
        OK(mbp_trainer_step(o.trainer, &batch, &loss, &error));
        OK(mbp_trainer_step(alone.trainer, &batch, &other, &error));
        CHECK(loss == other && same_params(o.net, alone.net), "step %d with another number of threads", i);
    }
    CHECK(mbp_net_set_threads(o.net, -1, NULL) == MBP_INVALID, "a negative number of threads is accepted");
    outcome_free(&o), outcome_free(&alone);
    mbp_pool_free(pool);
    array_free(&x), array_free(&y);
}

typedef struct training {
    mbp_pool *pool;
    const mbp_array *x, *y;
    outcome o;
} training;

static void *train_in_thread(void *argument) {
    training *l = argument;
    is_caller = 1;
    for (int i = 0; i < 4; i++) {
        if (l->o.net)
            outcome_free(&l->o);
        l->o = train(&subjects[0], MBP_F32, l->pool, 0, l->x, l->y);
    }
    return NULL;
}

static void test_two_trainers(void) {
    const subject *s = &subjects[0];
    mbp_array x = data_new(MBP_F64, s->more_rows, s->in), y = data_new(MBP_F32, s->more_rows, s->out);
    outcome alone = train(s, MBP_F32, NULL, 0, &x, &y);
    training l[2] = {{.x = &x, .y = &y}, {.x = &x, .y = &y}};
    pthread_t threads[2];
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 3, NULL, &error));
    for (int i = 0; i < 2; i++) {
        l[i].pool = pool;
        if (pthread_create(&threads[i], NULL, train_in_thread, &l[i]))
            exit(2);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        CHECK(same_params(l[i].o.net, alone.net) &&
                  memcmp(l[i].o.out.data, alone.out.data, (size_t)(s->more_rows * alone.out.row_stride)) == 0,
              "trainer %d of a shared pool differs from one without a pool", i);
        outcome_free(&l[i].o);
    }
    outcome_free(&alone);
    mbp_pool_free(pool);
    array_free(&x), array_free(&y);
}

/* ---- small work, failures and memory ---- */

static void test_small_work_is_not_shared(void) {
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 8, NULL, &error));
    mbp_net *net = net_new(dag, OPTIONS(.pool = pool));
    use_slow_kernels(net);
    mbp_trainer *trainer = dag_trainer(net, "adam");
    problem *p = problem_new(MBP_F32, 64);
    double loss;
    atomic_store(&most_threads, 0);
    for (int i = 0; i < 100; i++)
        OK(mbp_trainer_step(trainer, &p->batch, &loss, &error));
    CHECK(atomic_load(&most_threads) <= 1, "a small step is shared by %d threads", atomic_load(&most_threads));
    CHECK(trainer->workspace->threads == 1, "a small step has scratch for %d threads", trainer->workspace->threads);
    mbp_trainer_free(trainer), mbp_net_free(net), problem_free(p);
    mbp_pool_free(pool);
}

/* Products that are large enough to share, in a pass that is not. */
static void test_small_passes_are_not_shared(void) {
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 8, NULL, &error));
    mbp_net *net = net_new("input 128\ndense 0 units=128\ndense 1 units=128\noutput 2\n", OPTIONS(.pool = pool));
    use_slow_kernels(net);
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse"}, NULL, "adam");
    mbp_array x = data_new(MBP_F32, 64, 128);
    const mbp_batch batch = mbp_batch_of(&x, &x);
    double loss;
    CHECK(64 * net->largest_product > MBP_REGION_WORK && 64 * net->flops < MBP_PASS_WORK, "another net is needed");
    atomic_store(&most_threads, 0);
    for (int i = 0; i < 100; i++)
        OK(mbp_trainer_step(trainer, &batch, &loss, &error));
    CHECK(atomic_load(&most_threads) <= 1, "a small pass is shared by %d threads", atomic_load(&most_threads));
    mbp_trainer_free(trainer), mbp_net_free(net), mbp_pool_free(pool);
    array_free(&x);
}

static void test_failures(void) { /* a step with a gradient that is not finite, in any thread, changes nothing */
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 4, NULL, &error));
    mbp_net *net = net_new("input 520\ndense 0 units=521 init=zeros\noutput 1\n", OPTIONS(.pool = pool));
    use_slow_kernels(net);
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse"}, NULL, "adam");
    mbp_array x = data_new(MBP_F32, 64, 520), y = data_new(MBP_F32, 64, 521);
    const mbp_batch batch = mbp_batch_of(&x, &y);
    mbp_error error = {0};
    double loss;
    int64_t count;
    const float *params = mbp_net_params(net, &count);
    for (int64_t r = 0; r < 64; r++) { /* one column of dW overflows */
        array_set(&x, r, 519, 3e38);
        array_set(&y, r, 520, 1e6);
    }
    for (int i = 0; i < 5; i++)
        CHECK(mbp_trainer_step(trainer, &batch, &loss, &error) == MBP_NONFINITE && strstr(error.text, "gradient"), "%s",
              error.text);
    for (int64_t i = 0; i < count; i++)
        CHECK(params[i] == 0, "a step that failed changed parameter %lld", (long long)i);
    mbp_trainer_free(trainer), mbp_net_free(net), mbp_pool_free(pool);
    array_free(&x), array_free(&y);
}

static void test_no_memory_for_others(void) { /* a prediction then uses fewer threads */
    const subject *s = &subjects[3];
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 8, NULL, &error));
    mbp_net *alone = net_new(s->graph, NULL);
    mbp_array x = data_new(MBP_F64, s->more_rows, s->in), out = array_new(MBP_F32, s->more_rows, s->out);
    mbp_array other = array_new(MBP_F32, s->more_rows, s->out);
    OK(mbp_net_predict(alone, &x, 1, &out, 1, 1, -1, &error));
    for (int memory = 0; memory < 8; memory++) {
        mbp_net *net = net_new(s->graph, OPTIONS(.pool = pool, .allocator = &allocator));
        c.fail_at = c.calls + 1 + memory;
        c.persistent = 1;
        const mbp_status status = mbp_net_predict(net, &x, 1, &other, 1, 1, -1, NULL);
        c.fail_at = 0;
        CHECK(status == (memory ? MBP_OK : MBP_NO_MEMORY), "with memory for %d threads: status %d", memory,
              (int)status);
        CHECK(!memory || memcmp(out.data, other.data, (size_t)(s->more_rows * out.row_stride)) == 0,
              "memory for %d threads", memory);
        mbp_net_free(net);
    }
    CHECK(c.live == 0, "%zu bytes are left", c.live);
    mbp_net_free(alone), mbp_pool_free(pool);
    array_free(&x), array_free(&out), array_free(&other);
}

static void test_no_allocation(void) { /* with no more rows than before */
    const subject *s = &subjects[3];
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 8, NULL, &error));
    mbp_net *net = net_new(s->graph, OPTIONS(.pool = pool, .allocator = &allocator));
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse"}, NULL, "adam");
    mbp_array x = data_new(MBP_F64, s->more_rows, s->in), y = data_new(MBP_F32, s->more_rows, s->out);
    long calls = 0;
    for (int64_t rows = s->more_rows; rows > 0; rows = rows * 4 / 5) {
        const mbp_array some_x = array_rows(&x, 0, rows), some_y = array_rows(&y, 0, rows);
        const mbp_batch batch = mbp_batch_of(&some_x, &some_y);
        double loss;
        OK(mbp_trainer_step(trainer, &batch, &loss, &error));
        OK(mbp_net_predict(net, &some_x, 1, &some_y, 1, 1, -1, &error));
        calls = calls ? calls : c.calls;
        CHECK(c.calls == calls, "%ld allocations with only %lld rows", c.calls - calls, (long long)rows);
    }
    mbp_trainer_free(trainer), mbp_net_free(net), mbp_pool_free(pool);
    array_free(&x), array_free(&y);
}

int main(void) {
    is_caller = 1;
    make_slow_kernels();
    for (int i = 0; i < SUBJECTS; i++) {
        atomic_store(&by_others, 0);
        test_same_bits(&subjects[i], MBP_F32);
        test_same_bits(&subjects[i], MBP_F64);
        CHECK(atomic_load(&by_others) > 0, "%s: no other thread did a piece, so the test shows nothing",
              subjects[i].name);
    }
    test_changing_threads();
    test_two_trainers();
    test_small_work_is_not_shared();
    test_small_passes_are_not_shared();
    test_failures();
    test_no_memory_for_others();
    test_no_allocation();
    return report("sharing");
}
