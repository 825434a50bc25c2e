/* Two and three threads call every function for one net at the same time. Each call succeeds or is refused as busy, and
 * the state is always that of whole calls, one after the other. */
#include "api.h"

#include <pthread.h>
#include <stdatomic.h>

enum { ROWS = 24, LEARNERS = 2 };
static const char graph[] = "input 5\ndense 0 layer=a units=6 activation=tanh\nbatch_norm 1 layer=n\n"
                            "dropout 2 rate=0.2\ndense 3 layer=b units=3\noutput 4\n";

/* A net with two trainers, and the calls in progress. */
typedef struct world {
    mbp_net *net;
    mbp_trainer *trainer[LEARNERS];
    mbp_array x, y;
    atomic_int stop;
} world;

typedef struct caller {
    world *w;
    int action, number;
    mbp_array out;
    char path[64];
    char bytes[8192];
    long done, busy;
    mbp_status wrong;
    mbp_error error;
} caller;

/* ---- every call; more and more rows, so that workspaces are replaced ---- */

static mbp_batch some_rows(caller *c, mbp_array part[2]) {
    const int64_t rows = c->w->x.rows == 2 ? 2 : 2 + (c->done + c->busy) % (ROWS - 2);
    part[0] = array_rows(&c->w->x, 0, rows), part[1] = array_rows(&c->w->y, 0, rows);
    return mbp_batch_of(&part[0], &part[1]);
}

static mbp_trainer *trainer_of(const caller *c) { return c->w->trainer[c->number % LEARNERS]; }

#define BATCH \
    mbp_array part[2]; \
    const mbp_batch batch = some_rows(c, part)

static mbp_status do_step(caller *c) {
    BATCH;
    double loss;
    return mbp_trainer_step(trainer_of(c), &batch, &loss, &c->error);
}

/* The gradients with respect to the inputs are read while they are valid. */
static mbp_status do_backward(caller *c) {
    BATCH;
    double loss;
    mbp_array gradient;
    volatile double sum = 0;
    mbp_status status = mbp_net_lock(c->w->net, &c->error);
    if (status != MBP_OK)
        return status;
    status = mbp_trainer_backward(trainer_of(c), &batch, HOW(.input_grads = 1), &loss, &c->error);
    if (status == MBP_OK)
        status = mbp_trainer_input_grad(trainer_of(c), 0, &gradient, &c->error);
    for (int64_t r = 0; status == MBP_OK && r < gradient.rows; r++)
        sum = sum + array_get(&gradient, r, 4);
    mbp_net_unlock(c->w->net);
    return status;
}

/* Without the lock, other calls may come between; the views are not read. */
static mbp_status do_parts(caller *c) {
    BATCH;
    mbp_array view;
    mbp_status status = mbp_trainer_forward(trainer_of(c), &batch.x[0], 1, &c->error);
    if (status == MBP_OK)
        status = mbp_trainer_output(trainer_of(c), 0, &view, &c->error);
    if (status == MBP_OK)
        status = mbp_trainer_backward_from(trainer_of(c), batch.y, 1, NULL, &c->error);
    if (status == MBP_OK)
        status = mbp_trainer_input_grad(trainer_of(c), 0, &view, &c->error);
    return status == MBP_INVALID ? MBP_BUSY : status; /* another call replaced the values of this forward */
}

static mbp_status do_apply(caller *c) { return mbp_trainer_apply(trainer_of(c), &c->error); }

static mbp_status do_evaluate(caller *c) {
    BATCH;
    double loss;
    return mbp_trainer_evaluate(trainer_of(c), &batch, &loss, &c->error);
}

static int poll_calls(void *argument) {
    caller *c = argument;
    BATCH;
    double loss;
    mbp_error error;
    if (mbp_trainer_step(trainer_of(c), &batch, &loss, &error) != MBP_BUSY ||
        mbp_trainer_evaluate(trainer_of(c), &batch, &loss, &error) != MBP_OK ||
        mbp_net_predict(c->w->net, &batch.x[0], 1, &(mbp_array){0}, 0, 1, -1, &error) != MBP_INVALID)
        c->wrong = MBP_CANCELLED;
    return 0;
}

static mbp_status do_epoch(caller *c) {
    BATCH;
    double loss;
    int64_t steps;
    return mbp_trainer_epoch(trainer_of(c), &batch, NULL, batch.x[0].rows, batch.x[0].rows, NULL, poll_calls, c, &loss,
                             &steps, &c->error);
}

static mbp_status do_refused_epoch(caller *c) { /* needs room for all rows before it is refused */
    double rates[] = {-1}, loss;
    int64_t steps;
    const mbp_batch batch = mbp_batch_of(&c->w->x, &c->w->y);
    const mbp_status status = mbp_trainer_epoch(trainer_of(c), &batch, NULL, ROWS, ROWS, rates, NULL, NULL, &loss,
                                                &steps, &c->error);
    return status == MBP_INVALID ? MBP_OK : status;
}

static int callback_calls(const mbp_record *record, void *argument) {
    (void)record;
    return poll_calls(argument);
}

static mbp_status do_fit(caller *c) {
    BATCH;
    const mbp_fit how = {.size = sizeof how,
                         .epochs = 2,
                         .validation = &batch,
                         .patience = 1,
                         .poll = poll_calls,
                         .callback = callback_calls,
                         .user = c};
    return mbp_trainer_fit(trainer_of(c), &batch, &how, NULL, &c->error);
}

static mbp_status do_measure(caller *c) {
    BATCH;
    double value;
    return mbp_trainer_measure(trainer_of(c), &batch, 0, "r2", &value, &c->error);
}

static mbp_status do_numbers(caller *c) {
    double value;
    int64_t count;
    mbp_trainer *t = trainer_of(c);
    mbp_trainer_average(t, &count);
    if (mbp_trainer_steps(t) < 0 || mbp_trainer_get(t, "lr", &value, &c->error) != MBP_OK || !(value >= 0) ||
        mbp_trainer_get(t, "last_loss", &value, &c->error) != MBP_OK ||
        mbp_trainer_get(t, "clip_norm", &value, &c->error) != MBP_OK || !(value > 0))
        return MBP_INVALID;
    mbp_net_seed(c->w->net), mbp_net_output_activation(c->w->net, 0);
    return MBP_OK;
}

static mbp_status do_set(caller *c) {
    mbp_status status = mbp_trainer_set(trainer_of(c), c->done % 2 ? "lr" : "clip_norm", 0.01, &c->error);
    if (status == MBP_OK)
        status = mbp_trainer_set_seed(trainer_of(c), (uint64_t)c->done, &c->error);
    return status == MBP_OK ? mbp_trainer_set_steps(trainer_of(c), c->done % 5, &c->error) : status;
}

static mbp_status do_reset(caller *c) {
    const mbp_status status = mbp_trainer_reset(trainer_of(c), &c->error);
    return status == MBP_OK ? mbp_trainer_set_average(trainer_of(c), 0.5, 0, 1 + c->done % 3, &c->error) : status;
}

static mbp_status do_settings(caller *c) {
    mbp_status status = mbp_net_freeze(c->w->net, "a", c->done % 2, &c->error);
    if (status == MBP_OK)
        status = mbp_net_set_layer(c->w->net, "b", "l2", (double)(c->done % 3) / 10, &c->error);
    if (status == MBP_OK)
        status = mbp_net_set_output(c->w->net, 0, c->done % 2 ? "identity" : NULL, &c->error);
    return status == MBP_OK ? mbp_net_set_notes(c->w->net, c->done % 2 ? "notes" : "", &c->error) : status;
}

static mbp_status do_init(caller *c) {
    const mbp_status status = mbp_net_init(c->w->net, (uint64_t)c->done, &c->error);
    return status == MBP_OK ? mbp_net_assign(c->w->net, c->w->x.data, NULL, &c->error) : status;
}

static mbp_status do_create(caller *c) {
    mbp_trainer *trainer = NULL;
    const mbp_status status = mbp_trainer_create(&trainer, c->w->net, (const char *[]){"mse"}, NULL, 1, "adam",
                                                 &c->error);
    mbp_trainer_free(trainer);
    return status;
}

static mbp_status do_predict(caller *c) {
    BATCH;
    const mbp_array out = array_rows(&c->out, 0, batch.x[0].rows);
    return mbp_net_predict(c->w->net, &batch.x[0], 1, &out, 1, (int)(c->done % 2), -1, &c->error);
}

static mbp_status do_jacobian(caller *c) {
    BATCH;
    float numbers[ROWS * 3 * 5];
    const mbp_array out = mbp_f32(numbers, batch.x[0].rows, 3 * 5);
    return mbp_net_jacobian(c->w->net, &batch.x[0], 1, MBP_BY_INPUTS, 0, &out, 1, &c->error);
}

static mbp_status do_save(caller *c) {
    size_t size = sizeof c->bytes;
    mbp_net *net = NULL;
    mbp_status status = mbp_net_write(c->w->net, c->bytes, &size, &c->error);
    if (status == MBP_OK)
        status = mbp_net_read(&net, c->bytes, size, NULL, &c->error);
    mbp_net_free(net);
    return status;
}

static mbp_status do_describe(caller *c) {
    char text[1024];
    mbp_layer_info info = {.size = sizeof info};
    if (mbp_net_text(c->w->net, text, sizeof text) > sizeof text)
        return MBP_INVALID;
    return mbp_net_layer(c->w->net, 1, &info, &c->error);
}

static mbp_status do_part(caller *c) {
    mbp_net *part = NULL;
    const mbp_status status = mbp_net_part(&part, c->w->net, (const int[]){1}, 1, (const int[]){4}, 1, &c->error);
    mbp_net_free(part);
    return status;
}

typedef struct action {
    const char *name;
    mbp_status (*call)(caller *);
    int is_free; /* never refused */
} action;

static const action actions[] = {
    {"step", do_step, 0},
    {"backward", do_backward, 0},
    {"parts", do_parts, 0},
    {"apply", do_apply, 0},
    {"evaluate", do_evaluate, 0},
    {"epoch", do_epoch, 0},
    {"refused epoch", do_refused_epoch, 0},
    {"set", do_set, 0},
    {"reset", do_reset, 0},
    {"settings", do_settings, 0},
    {"init", do_init, 0},
    {"create", do_create, 0},
    {"numbers", do_numbers, 1},
    {"predict", do_predict, 1},
    {"jacobian", do_jacobian, 1},
    {"save", do_save, 1},
    {"describe", do_describe, 1},
    {"part", do_part, 1},
    {"fit", do_fit, 0},
    {"measure", do_measure, 0},
};
enum { ACTIONS = sizeof actions / sizeof *actions };

/* ---- storms ---- */

static void *call_often(void *argument) {
    caller *c = argument;
    do {
        const mbp_status status = actions[c->action].call(c);
        if (status == MBP_OK)
            c->done++;
        else if (status == MBP_BUSY && !actions[c->action].is_free)
            c->busy++;
        else
            c->wrong = status;
    } while (!atomic_load_explicit(&c->w->stop, memory_order_relaxed));
    return NULL;
}

static void storm(const int *which, int count, int microseconds) {
    static caller c[3];
    pthread_t threads[3];
    world w = {
        .net = net_new(graph, OPTIONS(.seed = 3)), .x = array_new(MBP_F32, ROWS, 5), .y = array_new(MBP_F32, ROWS, 3)};
    array_fill(&w.x, -1, 1), array_fill(&w.y, -1, 1);
    for (int i = 0; i < LEARNERS; i++)
        w.trainer[i] = trainer_new(w.net, (const char *[]){"mse"}, NULL, "adam");
    for (int i = 0; i < count; i++) {
        c[i] = (caller){.w = &w, .action = which[i], .number = i ? i - 1 : 0, .out = array_new(MBP_F32, ROWS, 3)};
        if (pthread_create(&threads[i], NULL, call_often, &c[i]))
            exit(2);
    }
    usleep((useconds_t)microseconds);
    atomic_store(&w.stop, 1);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < count; i++) {
        CHECK(c[i].wrong == MBP_OK, "%s beside %s: status %d, %s", actions[which[i]].name, actions[which[!i]].name,
              (int)c[i].wrong, c[i].error.text);
        CHECK(c[i].done || !actions[which[i]].is_free, "%s beside %s: no call", actions[which[i]].name,
              actions[which[!i]].name);
        array_free(&c[i].out);
    }
    mbp_trainer *last = w.trainer[0]; /* nothing is left busy */
    const mbp_batch batch = mbp_batch_of(&w.x, &w.y);
    double loss;
    OK(mbp_net_init(w.net, 1, &error));
    OK(mbp_trainer_reset(last, &error));
    OK(mbp_trainer_step(last, &batch, &loss, &error));
    for (int i = 0; i < LEARNERS; i++)
        mbp_trainer_free(w.trainer[i]);
    mbp_net_free(w.net), array_free(&w.x), array_free(&w.y);
}

static void test_all_pairs(void) {
    const int time = is_long() ? 200000 : 10000;
    for (int a = 0; a < ACTIONS; a++)
        for (int b = a; b < ACTIONS; b++)
            storm((int[]){a, b}, 2, time);
}

static void test_triples(void) {
    for (int i = 0; i < (is_long() ? 500 : 40); i++) {
        const int which[] = {random_below(ACTIONS), random_below(ACTIONS), random_below(ACTIONS)};
        storm(which, 3, is_long() ? 50000 : 10000);
    }
}

/* ---- whole states ---- */

enum { STEPS = 400 };

/* Its parameters are equal after each step, because their gradients are. So parts of two states show. */
static const char wide[] = "input 1\ndense 0 units=64 init=zeros bias=0\noutput 1\n";

typedef struct reader {
    mbp_net *net;
    atomic_int stop;
    int saves;
    long seen, torn;
} reader;

static void *read_states(void *argument) {
    reader *r = argument;
    char bytes[4096];
    float one = 1, out[64];
    const mbp_array x = mbp_f32(&one, 1, 1), to = mbp_f32(out, 1, 64);
    do {
        size_t size = sizeof bytes;
        mbp_status status = r->saves ? mbp_net_write(r->net, bytes, &size, NULL)
                                     : mbp_net_predict(r->net, &x, 1, &to, 1, 1, -1, NULL);
        if (r->saves)
            memcpy(out, bytes + size - sizeof out, sizeof out);
        for (int i = 1; i < 64; i++)
            if (out[i] != out[0]) {
                r->torn++;
                break;
            }
        r->seen += status == MBP_OK;
    } while (!atomic_load(&r->stop));
    return NULL;
}

static void test_readers_see_whole_states(int assigns) {
    mbp_net *net = net_new(wide, NULL);
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse"}, NULL, "sgd(lr=0.01)");
    mbp_array x = array_new(MBP_F32, 4, 1), y = array_new(MBP_F32, 4, 64);
    array_fill(&x, 1, 1), array_fill(&y, 1, 1);
    const mbp_batch batch = mbp_batch_of(&x, &y);
    reader r[2] = {{.net = net}, {.net = net, .saves = 1}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, read_states, &r[i]))
            exit(2);
    for (int i = 0; i < (is_long() ? 100 : 10) * STEPS; i++) {
        float values[64];
        double loss;
        for (int k = 0; k < 64; k++)
            values[k] = (float)i;
        if (assigns)
            OK(mbp_net_assign(net, values, NULL, &error));
        else
            OK(mbp_trainer_step(trainer, &batch, &loss, &error));
        if (i % 100 == 0)
            usleep(1000);
    }
    for (int i = 0; i < 2; i++) {
        atomic_store(&r[i].stop, 1);
        pthread_join(threads[i], NULL);
        CHECK(r[i].seen && !r[i].torn, "%ld of %ld %s show parts of two states", r[i].torn, r[i].seen,
              i ? "files" : "predictions");
    }
    mbp_trainer_free(trainer), mbp_net_free(net), array_free(&x), array_free(&y);
}

/* Steps that succeed, from any thread and trainer, are those of one thread: all have the same data, in any order. */
static void test_steps_are_a_serial_replay(void) {
    world w = {.net = net_new(graph, NULL), .x = array_new(MBP_F32, 2, 5), .y = array_new(MBP_F32, 2, 3)};
    mbp_net *alone = net_new(graph, NULL);
    array_fill(&w.x, -1, 1), array_fill(&w.y, -1, 1);
    w.trainer[0] = w.trainer[1] = trainer_new(w.net, (const char *[]){"mse"}, NULL, "adam");
    mbp_trainer *other = trainer_new(alone, (const char *[]){"mse"}, NULL, "adam");
    static caller c[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) { /* two step, one predicts */
        c[i] = (caller){.w = &w, .action = i < 2 ? 0 : 13, .out = array_new(MBP_F32, 2, 3)};
        if (pthread_create(&threads[i], NULL, call_often, &c[i]))
            exit(2);
    }
    usleep(is_long() ? 2000000 : 100000);
    atomic_store(&w.stop, 1);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL), array_free(&c[i].out);
    const mbp_batch batch = mbp_batch_of(&w.x, &w.y);
    double loss;
    const long done = c[0].done + c[1].done;
    for (long i = 0; i < done; i++)
        OK(mbp_trainer_step(other, &batch, &loss, &error));
    CHECK(done > 0 && mbp_trainer_steps(w.trainer[0]) == done && same_params(w.net, alone) &&
              same_state(w.net, w.trainer[0], other),
          "%ld steps of two threads differ from those of one", done);
    mbp_trainer_free(w.trainer[0]), mbp_trainer_free(other), mbp_net_free(w.net), mbp_net_free(alone);
    array_free(&w.x), array_free(&w.y);
}

int main(void) {
    test_all_pairs();
    test_triples();
    test_readers_see_whole_states(0);
    test_readers_see_whole_states(1);
    test_steps_are_a_serial_replay();
    return report("callers");
}
