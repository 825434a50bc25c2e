/* Memory: a call with enough workspace allocates nothing. A call whose allocation fails leaks nothing and changes
 * nothing. */
#include "api.h"

static const mbp_dtype dtypes[] = {MBP_F32, MBP_F64};

/* Every call that needs a workspace, for `rows` rows. */
static void call_all(mbp_net *net, mbp_trainer *trainer, const problem *p, int64_t rows) {
    problem part;
    mbp_array array;
    double loss;
    int64_t steps;
    problem_rows(p, 0, rows, &part);
    OK(mbp_trainer_step(trainer, &part.batch, &loss, &error));
    OK(mbp_trainer_backward(trainer, &part.batch, HOW(.input_grads = 1), &loss, &error));
    OK(mbp_trainer_input_grad(trainer, 1, &array, &error));
    OK(mbp_trainer_apply(trainer, &error));
    OK(mbp_trainer_evaluate(trainer, &part.batch, &loss, &error));
    OK(mbp_trainer_epoch(trainer, &part.batch, NULL, rows, rows < 3 ? rows : 3, NULL, NULL, NULL, &loss, &steps,
                         &error));
    OK(mbp_trainer_epoch(trainer, &part.batch, NULL, rows, rows, NULL, NULL, NULL, &loss, &steps, &error));
    OK(mbp_trainer_forward(trainer, part.x, 2, &error));
    OK(mbp_trainer_output(trainer, 0, &array, &error));
    OK(mbp_trainer_backward_from(trainer, part.out, 2, NULL, &error));
    OK(mbp_net_predict(net, part.x, 2, part.out, 2, 0, -1, &error));
    OK(mbp_net_predict(net, part.x, 2, part.out, 1, 0, 10, &error));
    OK(mbp_net_freeze(net, "b", (int)(rows % 2), &error));
    OK(mbp_trainer_set(trainer, "lr", 1e-4, &error));
    OK(mbp_trainer_set(trainer, "clip_layer_norm", 0.1, &error));
    OK(mbp_net_set_layer(net, "b", "max_norm", (double)rows, &error));
    OK(mbp_trainer_set_average(trainer, 0.5, 0, 1, &error));
    OK(mbp_net_set_output(net, 0, rows % 2 ? "sigmoid" : NULL, &error));
    OK(mbp_trainer_reset(trainer, &error));
    OK(mbp_net_init(net, 3, &error));
}

static void test_no_allocation(mbp_dtype dtype) {
    enum { ROWS = 3000 };
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_net *net = net_new(dag, OPTIONS(.dtype = dtype, .allocator = &allocator));
    mbp_trainer *trainer = dag_trainer(net, "adam");
    problem *p = problem_new(dtype, ROWS);
    static const int64_t larger[] = {1, 9, ROWS};
    for (int i = 0; i < 3; i++) {
        call_all(net, trainer, p, larger[i]);
        const long calls = c.calls;
        const size_t live = c.live;
        for (int64_t rows = larger[i]; rows > 0; rows = rows * 2 / 3)
            call_all(net, trainer, p, rows);
        CHECK(c.calls == calls && c.live == live, "%ld allocations with no more than %lld rows", c.calls - calls,
              (long long)larger[i]);
    }
    mbp_trainer_free(trainer), mbp_net_free(net), problem_free(p);
    CHECK(c.live == 0, "%zu bytes are left", c.live);
}

/* ---- the n-th allocation fails, alone or with all later ones, for n = 1, 2, ... until the call succeeds ---- */

typedef enum scenario {
    CREATE,
    CREATE_TRAINER,
    SET_AVERAGE,
    FIRST_STEP,
    LARGER_STEP,
    FIRST_BACKWARD,
    INPUT_GRADS,
    LARGER_FORWARD,
    LARGER_EPOCH,
    EVALUATE,
    PREDICT,
    LARGER_PREDICT,
    PREDICT_NODE,
    WRITE,
    COPY,
    RESERVE_NET,
    RESERVE_TRAINER,
    SCENARIOS
} scenario;
static const char *const scenario_names[] = {
    "create",         "create a trainer", "set an average", "first step",   "larger step",
    "first backward", "input gradients",  "larger forward", "larger epoch", "evaluate",
    "predict",        "larger predict",   "predict a node", "write",        "copy",
    "reserve a net",  "reserve a trainer"};

typedef struct world {
    mbp_options options;
    mbp_net *net, *made_net;
    mbp_trainer *trainer, *made_trainer;
    problem *p;
    double loss;
    char *file;
} world;

enum { WORLD_ROWS = 200, FILE_ROOM = 1 << 16 };

static int needs_a_step(scenario s) {
    return s == LARGER_STEP || s == INPUT_GRADS || s == LARGER_FORWARD || s == LARGER_EPOCH;
}

static void copy_problem(problem *to, const problem *from) {
    for (int i = 0; i < 2; i++) {
        memcpy(array_element(&to->x[i], 0, 0), from->x[i].data, (size_t)(from->x[i].row_stride * WORLD_ROWS));
        memcpy(array_element(&to->y[i], 0, 0), from->y[i].data, (size_t)(from->y[i].row_stride * WORLD_ROWS));
    }
    memcpy(array_element(&to->weight, 0, 0), from->weight.data, (size_t)(from->weight.row_stride * WORLD_ROWS));
}

/* The state before the scenario's call. Its rows are copied from `other`, if not NULL. */
static world world_new(mbp_dtype dtype, const mbp_allocator *allocator, scenario s, const world *other) {
    world w = {.options = {.size = sizeof w.options, .dtype = dtype, .seed = 4, .allocator = allocator}};
    w.net = net_new(dag, &w.options);
    OK(mbp_net_set_notes(w.net, s == COPY ? "notes" : NULL, &error));
    w.trainer = dag_trainer(w.net, "adam(lr=0.01)");
    w.p = problem_new(dtype, WORLD_ROWS);
    w.file = malloc(FILE_ROOM);
    if (other)
        copy_problem(w.p, other->p);
    problem part;
    problem_rows(w.p, 0, 2, &part);
    if (needs_a_step(s))
        OK(mbp_trainer_step(w.trainer, &part.batch, &w.loss, &error));
    if (s == LARGER_PREDICT)
        OK(mbp_net_predict(w.net, part.x, 2, part.out, 2, 1, -1, &error));
    return w;
}

static void world_free(world *w) {
    mbp_trainer_free(w->trainer), mbp_net_free(w->net), problem_free(w->p);
    free(w->file);
}

static mbp_status world_call(world *w, scenario s, mbp_error *error) {
    int64_t steps;
    size_t size = FILE_ROOM;
    switch (s) {
    case CREATE: return mbp_net_create(&w->made_net, dag, &w->options, error);
    case CREATE_TRAINER: return mbp_trainer_create(&w->made_trainer, w->net, dag_losses, NULL, 2, "adam", error);
    case SET_AVERAGE: return mbp_trainer_set_average(w->trainer, 0.9, 0, 1, error);
    case FIRST_STEP:
    case LARGER_STEP: return mbp_trainer_step(w->trainer, &w->p->batch, &w->loss, error);
    case FIRST_BACKWARD: return mbp_trainer_backward(w->trainer, &w->p->batch, NULL, &w->loss, error);
    case INPUT_GRADS: return mbp_trainer_backward(w->trainer, &w->p->batch, HOW(.input_grads = 1), &w->loss, error);
    case LARGER_FORWARD: return mbp_trainer_forward(w->trainer, w->p->x, 2, error);
    case LARGER_EPOCH:
        return mbp_trainer_epoch(w->trainer, &w->p->batch, NULL, WORLD_ROWS, 64, NULL, NULL, NULL, &w->loss, &steps,
                                 error);
    case EVALUATE: return mbp_trainer_evaluate(w->trainer, &w->p->batch, &w->loss, error);
    case PREDICT:
    case LARGER_PREDICT: return mbp_net_predict(w->net, w->p->x, 2, w->p->out, 2, 0, -1, error);
    case PREDICT_NODE: return mbp_net_predict(w->net, w->p->x, 2, w->p->out, 1, 0, 10, error);
    case WRITE: return mbp_net_write(w->net, w->file, &size, error);
    case COPY: return mbp_net_copy(&w->made_net, w->net, NULL, error);
    case RESERVE_NET: return mbp_net_reserve(w->net, WORLD_ROWS, error);
    case RESERVE_TRAINER: return mbp_trainer_reserve(w->trainer, WORLD_ROWS, error);
    default: return MBP_INVALID;
    }
}

/* Whether parameters, optimizer state and gradients are the same. */
static int same_world(const world *a, const world *b) {
    return same_params(a->net, b->net) && same_state(a->net, a->trainer, b->trainer) &&
           same_grads(a->net, a->trainer, b->trainer);
}

static int same_results(const world *a, const world *b) {
    for (int i = 0; i < 2; i++)
        if (memcmp(a->p->out[i].data, b->p->out[i].data, (size_t)(a->p->out[i].row_stride * WORLD_ROWS)) != 0)
            return 0;
    return a->loss == b->loss;
}

/* One scenario whose n-th allocation fails; returns whether there was an n-th allocation. */
static int check_failure(mbp_dtype dtype, scenario s, long n, int persistent) {
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    world w = world_new(dtype, &allocator, s, NULL), untouched = world_new(dtype, NULL, s, &w);
    mbp_error error = {0};
    const size_t live = c.live;
    c.calls = 0, c.fail_at = n, c.persistent = persistent;
    mbp_status status = world_call(&w, s, &error);
    const int reached = c.calls >= n;
    c.fail_at = 0;
    CHECK(status == (reached ? MBP_NO_MEMORY : MBP_OK), "%s, allocation %ld of %ld: status %d", scenario_names[s], n,
          c.calls, (int)status);
    if (reached) {
        CHECK(error.status == MBP_NO_MEMORY && strstr(error.text, "memory"), "%s: %s", scenario_names[s], error.text);
        CHECK(c.live == live, "%s, allocation %ld: %zd bytes are left", scenario_names[s], n, (ssize_t)(c.live - live));
        CHECK(!w.made_net && !w.made_trainer, "%s fails, but sets a pointer", scenario_names[s]);
        CHECK(same_world(&w, &untouched), "%s, allocation %ld: something has changed", scenario_names[s], n);
        status = world_call(&w, s, &error);
        CHECK(status == MBP_OK, "%s after a failure: %s", scenario_names[s], error.text);
    }
    CHECK(world_call(&untouched, s, &error) == MBP_OK, "%s without failure: %s", scenario_names[s], error.text);
    CHECK(same_world(&w, &untouched) && same_results(&w, &untouched),
          "%s: the result after a failure differs from that without", scenario_names[s]);
    mbp_trainer_free(w.made_trainer), mbp_net_free(w.made_net);
    mbp_trainer_free(untouched.made_trainer), mbp_net_free(untouched.made_net);
    world_free(&w), world_free(&untouched);
    CHECK(c.live == 0, "%s: %zu bytes are left at the end", scenario_names[s], c.live);
    return reached;
}

static void test_no_memory(mbp_dtype dtype) {
    for (int s = 0; s < SCENARIOS; s++)
        for (int persistent = 0; persistent < 2; persistent++) {
            long n = 1;
            while (n < 50 && check_failure(dtype, (scenario)s, n, persistent))
                n++;
            CHECK(n < 50 && n > 1, "%s: %ld allocations", scenario_names[s], n - 1);
        }
}

/* A thousand nets 4-8-2 with trainers, which have done a step and a prediction of 32 rows, take less than 20 MB. */
static void test_many_small_nets(void) {
    enum { NETS = 1000, ROWS = 32, MOST = 20000000 };
    static mbp_net *net[NETS];
    static mbp_trainer *trainer[NETS];
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_array x = array_new(MBP_F32, ROWS, 4), y = array_new(MBP_F32, ROWS, 2), out = array_new(MBP_F32, ROWS, 2);
    const mbp_batch batch = mbp_batch_of(&x, &y);
    double loss;
    array_fill(&x, -1, 1), array_fill(&y, -1, 1);
    for (int i = 0; i < NETS; i++) {
        net[i] = net_new("input 4\ndense 0 units=8 activation=tanh\ndense 1 units=2\noutput 2\n",
                         OPTIONS(.allocator = &allocator));
        OK(mbp_trainer_create(&trainer[i], net[i], (const char *[]){"mse"}, NULL, 1, "adam", &error));
        OK(mbp_trainer_step(trainer[i], &batch, &loss, &error));
        OK(mbp_net_predict(net[i], &x, 1, &out, 1, 0, -1, &error));
    }
    CHECK(c.live > 0 && c.live < MOST, "%d nets have %zu bytes", NETS, c.live);
    for (int i = 0; i < NETS; i++)
        mbp_trainer_free(trainer[i]), mbp_net_free(net[i]);
    array_free(&x), array_free(&y), array_free(&out);
}

int main(void) {
    test_many_small_nets();
    for (int i = 0; i < 2; i++) {
        test_no_allocation(dtypes[i]);
        test_no_memory(dtypes[i]);
    }
    return report("memory");
}
