/* Reserved memory: after mbp_net_reserve and mbp_trainer_reserve no call allocates; the reported bytes are exactly
 * those of an arena that is enough; a reserve that fails changes nothing; small networks need little. */
#include "api.h"

enum { ROWS = 70, STEPS = 20000 };

typedef struct task {
    const char *name, *graph, *loss, *optimizer;
} task;

/* Every kind of node. All have one input of 4 columns and one output of 3. */
static const task tasks[] = {
    {"dense", "input 4\ndense 0 units=8 activation=tanh\ndense 1 units=3\noutput 2\n", "mse", "adam"},
    {"keeps z", "input 4\ndense 0 units=40 activation=gelu\ndense 1 units=3 l2=0.1\noutput 2\n", "huber", "sgd"},
    {"labels", "input 4\ndense 0 units=20\nactivation 1 relu\ndense 2 units=3 max_norm=1\noutput 3\n", "cross_entropy",
     "lamb"},
    {"batch_norm", "input 4\ndense 0 units=9\nbatch_norm 1\nactivation 2 elu\ndense 3 units=3\noutput 4\n", "mae",
     "rmsprop"},
    {"layer_norm", "input 4\nlayer_norm 0\ndense 1 units=17\nlayer_norm 2\ndense 3 units=3\noutput 4\n", "mse",
     "momentum"},
    {"scale", "input 4\nscale 0\ndense 1 units=3\nscale 2 gain=0\noutput 3\n", "mse", "adam_amsgrad"},
    {"random", "input 4\nnoise 0\ndense 1 units=30\ndropout 2\ndense 3 units=3\noutput 4\n", "mse", "lion"},
    {"concat",
     "input 4\ndense 0 units=70\nconcat 0 1 1\ndense 2 units=70\nadd 1 3\nmultiply 4 4\ndense 5 units=3\n"
     "output 6\n",
     "mse", "adam"},
    {"wide", "input 4\ndense 0 units=300\ndense 1 units=300\ndense 2 units=3\noutput 3\n", "mse", "adagrad"},
};
enum { TASKS = sizeof tasks / sizeof *tasks };

/* A net with its trainer, and a batch in the net's dtype (0) and in another one (1), which has to be copied. */
typedef struct world {
    mbp_net *net;
    mbp_trainer *trainer;
    mbp_array x[2], y[2], out;
    int64_t order[ROWS];
} world;

static world world_new(const task *k, mbp_dtype dtype, const mbp_allocator *allocator, mbp_pool *pool) {
    const mbp_dtype types[] = {dtype, dtype == MBP_F64 ? MBP_F32 : MBP_F64};
    world w = {.net = net_new(k->graph, OPTIONS(.dtype = dtype, .allocator = allocator, .pool = pool))};
    w.trainer = trainer_new(w.net, &k->loss, NULL, k->optimizer);
    w.out = array_new(dtype, ROWS, 3);
    for (int i = 0; i < 2; i++) {
        w.x[i] = array_new(types[i], ROWS, 4), w.y[i] = array_new(types[i], ROWS, 3);
        array_fill(&w.x[i], -1, 1), array_fill(&w.y[i], 0, 1);
    }
    mbp_permutation(1, MBP_SHUFFLE, 0, ROWS, w.order);
    return w;
}

static void world_free(world *w) {
    mbp_trainer_free(w->trainer), mbp_net_free(w->net);
    for (int i = 0; i < 2; i++)
        array_free(&w->x[i]), array_free(&w->y[i]);
    array_free(&w->out);
}

/* Every call that needs memory for rows, with at most `rows` rows. */
static void call_all(world *w, int64_t rows) {
    double loss;
    int64_t steps;
    mbp_array view;
    const mbp_array out = array_rows(&w->out, 0, rows);
    for (int i = 0; i < 2; i++) {
        const mbp_array x = array_rows(&w->x[i], 0, rows), y = array_rows(&w->y[i], 0, rows);
        const mbp_batch batch = mbp_batch_of(&x, &y);
        OK(mbp_trainer_step(w->trainer, &batch, &loss, &error));
        OK(mbp_trainer_backward(w->trainer, &batch, HOW(.input_grads = 1), &loss, &error));
        OK(mbp_trainer_apply(w->trainer, &error));
        OK(mbp_trainer_evaluate(w->trainer, &batch, &loss, &error));
        OK(mbp_trainer_forward(w->trainer, &x, 1, &error));
        OK(mbp_trainer_output(w->trainer, 0, &view, &error));
        OK(mbp_trainer_backward_from(w->trainer, &out, 1, HOW(.input_grads = 1), &error));
        OK(mbp_net_predict(w->net, &x, 1, &out, 1, 0, -1, &error));
        OK(mbp_net_predict(w->net, &x, 1, &out, 1, 1, -1, &error));
        const mbp_batch all = mbp_batch_of(&w->x[i], &w->y[i]);
        OK(mbp_trainer_epoch(w->trainer, &all, w->order, ROWS / rows * rows, rows, NULL, NULL, NULL, &loss, &steps,
                             &error));
        OK(mbp_trainer_evaluate(w->trainer, &batch, &loss, &error));
    }
}

static void test_no_allocation(const task *k, mbp_dtype dtype) {
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    world w = world_new(k, dtype, &allocator, NULL);
    OK(mbp_net_reserve(w.net, ROWS, &error));
    OK(mbp_trainer_reserve(w.trainer, ROWS, &error));
    const long calls = c.calls;
    const size_t live = c.live;
    c.fail_at = calls + 1, c.persistent = 1;
    for (int64_t rows = ROWS; rows > 1; rows = rows * 3 / 4)
        call_all(&w, rows);
    CHECK(c.calls == calls && c.live == live, "%s: %ld allocations", k->name, c.calls - calls);
    world_free(&w);
    CHECK(c.live == 0, "%s: %zu bytes are left", k->name, c.live);
}

/* 20,000 steps, predictions and epochs of one row. */
static void test_many_steps(void) {
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    world w = world_new(&tasks[0], MBP_F32, &allocator, NULL);
    const mbp_array x = array_rows(&w.x[0], 0, 1), y = array_rows(&w.y[0], 0, 1), out = array_rows(&w.out, 0, 1);
    const mbp_batch batch = mbp_batch_of(&x, &y);
    double loss;
    int64_t steps;
    OK(mbp_net_reserve(w.net, 1, &error));
    OK(mbp_trainer_reserve(w.trainer, 1, &error));
    const long calls = c.calls;
    c.fail_at = calls + 1, c.persistent = 1;
    for (int i = 0; i < STEPS; i++) {
        OK(mbp_trainer_step(w.trainer, &batch, &loss, &error));
        OK(mbp_trainer_epoch(w.trainer, &batch, NULL, 1, 1, NULL, NULL, NULL, &loss, &steps, &error));
        OK(mbp_net_predict(w.net, &x, 1, &out, 1, 0, -1, &error));
    }
    CHECK(c.calls == calls && mbp_trainer_steps(w.trainer) == 2 * STEPS, "%ld allocations", c.calls - calls);
    world_free(&w);
}

/* ---- an arena: a static array whose blocks are never released ---- */

typedef struct arena {
    char *at;
    size_t used, size;
} arena;

static void *arena_allocate(void *user, size_t bytes, size_t alignment) {
    arena *a = user;
    const size_t whole = (bytes + alignment - 1) / alignment * alignment;
    if (alignment != 64 || whole > a->size - a->used)
        return NULL;
    a->used += whole;
    return a->at + a->used - whole;
}

static void arena_release(void *user, void *block, size_t bytes) { (void)user, (void)block, (void)bytes; }

/* The bytes that a host reports are exactly enough, and the calls give the same results there. */
static void test_arena(const task *k, mbp_dtype dtype) {
    world host = world_new(k, dtype, NULL, NULL);
    const size_t first = mbp_net_bytes(host.net), created = mbp_trainer_bytes(host.trainer);
    OK(mbp_net_reserve(host.net, ROWS, &error));
    OK(mbp_trainer_reserve(host.trainer, ROWS, &error));
    arena a = {.size = mbp_net_bytes(host.net) + mbp_trainer_bytes(host.trainer)};
    CHECK(first < mbp_net_bytes(host.net) && created < mbp_trainer_bytes(host.trainer), "%s: nothing is reserved",
          k->name);
    a.at = aligned_alloc(64, a.size);
    const mbp_allocator allocator = {arena_allocate, arena_release, &a};
    world w = world_new(k, dtype, &allocator, NULL);
    OK(mbp_net_reserve(w.net, ROWS, &error));
    OK(mbp_trainer_reserve(w.trainer, ROWS, &error));
    CHECK(a.used == a.size, "%s: %zu bytes of %zu are used", k->name, a.used, a.size);
    for (int i = 0; i < 2; i++) {
        memcpy(array_element(&w.x[i], 0, 0), host.x[i].data, (size_t)(ROWS * host.x[i].row_stride));
        memcpy(array_element(&w.y[i], 0, 0), host.y[i].data, (size_t)(ROWS * host.y[i].row_stride));
    }
    call_all(&host, ROWS), call_all(&w, ROWS);
    CHECK(same_params(host.net, w.net), "%s: other results in the arena", k->name);
    world_free(&host), world_free(&w);
    free(a.at);
}

/* The reported bytes are those that the allocator sees, in whole lines, whatever was called. */
static void check_bytes(const world *w, const counter *c, const char *when) {
    const size_t bytes = mbp_net_bytes(w->net) + mbp_trainer_bytes(w->trainer);
    CHECK(bytes >= c->live && bytes < c->live + 64 * 20, "%s: %zu bytes are reported, %zu in use", when, bytes,
          c->live);
}

static void test_bytes(void) {
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    world w = world_new(&tasks[3], MBP_F32, &allocator, NULL);
    check_bytes(&w, &c, "after create");
    call_all(&w, 10), check_bytes(&w, &c, "after calls");
    call_all(&w, ROWS), check_bytes(&w, &c, "after larger calls");
    char *notes = calloc(1, 100000);
    memset(notes, 'n', 99999);
    OK(mbp_net_set_notes(w.net, notes, &error));
    check_bytes(&w, &c, "with notes");
    OK(mbp_trainer_set_average(w.trainer, 1, 0, 1, &error));
    check_bytes(&w, &c, "with an average");
    OK(mbp_net_set_notes(w.net, NULL, &error));
    check_bytes(&w, &c, "without notes");
    free(notes);
    world_free(&w);
}

/* ---- a reserve that fails ---- */

static void test_failure(void) {
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    world w = world_new(&tasks[0], MBP_F32, &allocator, NULL);
    const mbp_array x = array_rows(&w.x[0], 0, 5), out = array_rows(&w.out, 0, 5);
    mbp_array before, after;
    mbp_error error = {0};
    OK(mbp_trainer_forward(w.trainer, &x, 1, &error));
    OK(mbp_trainer_output(w.trainer, 0, &before, &error));
    OK(mbp_net_predict(w.net, &x, 1, &out, 1, 0, -1, &error));
    const size_t net_bytes = mbp_net_bytes(w.net), trainer_bytes = mbp_trainer_bytes(w.trainer), live = c.live;
    c.fail_at = c.calls + 1, c.persistent = 1;
    const struct {
        int64_t rows;
        mbp_status status;
        const char *text;
    } cases[] = {{ROWS, MBP_NO_MEMORY, "no memory for a batch of"},
                 {INT64_MAX, MBP_NO_MEMORY, "no memory for a batch of"},
                 {(int64_t)1 << 58, MBP_NO_MEMORY, "no memory for a batch of"},
                 {0, MBP_INVALID, "rows is 0, but must be at least 1"},
                 {-7, MBP_INVALID, "rows is -7, but must be at least 1"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(mbp_net_reserve(w.net, cases[i].rows, &error) == cases[i].status && strstr(error.text, cases[i].text),
              "net, case %zu: %s", i, error.text);
        CHECK(mbp_trainer_reserve(w.trainer, cases[i].rows, &error) == cases[i].status &&
                  strstr(error.text, cases[i].text),
              "trainer, case %zu: %s", i, error.text);
    }
    OK(mbp_trainer_output(w.trainer, 0, &after, &error));
    CHECK(before.data == after.data && after.rows == 5, "the outputs are lost");
    CHECK(c.live == live && mbp_net_bytes(w.net) == net_bytes && mbp_trainer_bytes(w.trainer) == trainer_bytes,
          "a reserve that fails changes the memory");
    OK(mbp_net_predict(w.net, &x, 1, &out, 1, 0, -1, &error));
    OK(mbp_trainer_backward_from(w.trainer, &out, 1, NULL, &error));
    c.fail_at = 0;
    OK(mbp_trainer_reserve(w.trainer, ROWS, &error));
    world_free(&w);
}

/* ---- with threads ---- */

/* Many workspaces, one per thread that shares a prediction, more than one shelf has places. The n-th allocation fails
 * until all are there. */
static void test_threads(void) {
    enum { MANY = 16000, THREADS = 20 };
    static const char graph[] = "input 4\ndense 0 units=64\ndense 1 units=64\noutput 2\n";
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_pool *pool = NULL;
    mbp_error error;
    OK(mbp_pool_create(&pool, THREADS, NULL, &error));
    mbp_net *net = net_new(graph, OPTIONS(.allocator = &allocator, .pool = pool));
    const size_t live = c.live, bytes = mbp_net_bytes(net);
    const long calls = c.calls;
    long n = 0;
    do {
        CHECK(c.live - live == mbp_net_bytes(net) - bytes && c.live - live <= (n <= 7 ? 0 : 64 * THREADS / 7),
              "failure %ld: %zu bytes more", n, c.live - live); /* places may be made, but no workspace */
        c.calls = 0, c.fail_at = ++n, c.persistent = 1;
    } while (mbp_net_reserve(net, MANY, &error) == MBP_NO_MEMORY);
    CHECK(n > THREADS && n < 100, "%ld allocations of %d threads", n, THREADS);
    c.fail_at = 1, c.calls = calls;
    mbp_array x = array_new(MBP_F32, MANY, 4), out = array_new(MBP_F32, MANY, 64);
    array_fill(&x, -1, 1);
    for (int64_t rows = MANY; rows > 0; rows = rows * 2 / 3) {
        const mbp_array some = array_rows(&x, 0, rows), to = array_rows(&out, 0, rows);
        OK(mbp_net_predict(net, &some, 1, &to, 1, 0, -1, &error));
    }
    CHECK(c.calls == calls, "%ld allocations", c.calls - calls);
    array_free(&x), array_free(&out);
    mbp_net_free(net), mbp_pool_free(pool);
    CHECK(c.live == 0, "%zu bytes are left", c.live);
}

/* ---- small networks ---- */

static void test_small(const char *graph, int inputs, int outputs, size_t most) {
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_net *net = net_new(graph, OPTIONS(.allocator = &allocator));
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse"}, NULL, "adam");
    const mbp_array x = array_new(MBP_F32, 1, inputs), y = array_new(MBP_F32, 1, outputs);
    const mbp_batch batch = mbp_batch_of(&x, &y);
    double loss;
    OK(mbp_trainer_step(trainer, &batch, &loss, &error));
    OK(mbp_net_predict(net, &x, 1, &y, 1, 0, -1, &error));
    CHECK(c.peak <= most, "%s: %zu bytes, more than %zu", graph, c.peak, most);
    array_free(&x), array_free(&y), mbp_trainer_free(trainer), mbp_net_free(net);
}

int main(void) {
    for (int i = 0; i < TASKS; i++)
        for (int dtype = MBP_F32; dtype <= MBP_F64; dtype++) {
            test_no_allocation(&tasks[i], (mbp_dtype)dtype);
            test_arena(&tasks[i], (mbp_dtype)dtype);
        }
    test_many_steps();
    test_bytes();
    test_failure();
    test_threads();
    test_small("input 4\ndense 0 units=8 activation=tanh\ndense 1 units=2\noutput 2\n", 4, 2, 8 << 10);
    test_small("input 64\ndense 0 units=32 activation=relu\ndense 1 units=10\noutput 2\n", 64, 10, 56 << 10);
    return report("reserve");
}
