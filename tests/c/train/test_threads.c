/* Threads: a net and its trainers serve one thread at a time; any number of threads can predict with one net; and the
 * results have the same bits as with one thread. */
#include "api.h"

#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 8, ROWS = 100, TIMES = 200 };

static void run(void *(*work)(void *), char *arguments, size_t size) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, arguments + size * (size_t)i))
            exit(2);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

/* ---- one trainer, two callers ---- */

typedef struct shared_trainer {
    mbp_trainer *trainer;
    problem *p;
    atomic_int polled, leave; /* polled: the epoch is in its poll function; leave: the function may return */
    mbp_status statuses[9];
} shared_trainer;

/* Calls that hold the net. Numbers 5, 7 and 8 do not train. */
static void call_all(shared_trainer *s, mbp_error *error) {
    double loss;
    int64_t steps = -1;
    mbp_status *status = s->statuses;
    *status++ = mbp_trainer_step(s->trainer, &s->p->batch, &loss, error);
    *status++ = mbp_trainer_backward(s->trainer, &s->p->batch, NULL, &loss, error);
    *status++ = mbp_trainer_apply(s->trainer, error);
    *status++ = mbp_trainer_forward(s->trainer, s->p->x, 2, error);
    *status++ = mbp_trainer_backward_from(s->trainer, s->p->y, 2, NULL, error);
    *status++ = mbp_trainer_evaluate(s->trainer, &s->p->batch, &loss, error);
    *status++ = mbp_trainer_epoch(s->trainer, &s->p->batch, NULL, 4, 4, NULL, NULL, NULL, &loss, &steps, error);
    CHECK(steps == 0, "a refused epoch reports %lld steps", (long long)steps);
    *status++ = mbp_trainer_reset(s->trainer, error);
    *status++ = mbp_trainer_set_steps(s->trainer, 3, error);
}

static int wait_at_poll(void *user) {
    shared_trainer *s = user;
    atomic_store(&s->polled, 1);
    while (!atomic_load(&s->leave)) {
    }
    return 0;
}

static int call_from_poll(void *user) {
    mbp_error error;
    call_all(user, &error);
    return 0;
}

static mbp_status train(shared_trainer *s, mbp_poll poll) {
    double loss;
    int64_t steps;
    return mbp_trainer_epoch(s->trainer, &s->p->batch, NULL, ROWS, ROWS, NULL, poll, s, &loss, &steps, NULL);
}

static void *train_in_thread(void *s) { return (void *)(intptr_t)train(s, wait_at_poll); }

static int trains(int call) { return call != 5 && call < 7; }

static void check_busy(const shared_trainer *s, int is_poll) {
    for (int i = 0; i < 9; i++)
        CHECK(s->statuses[i] == (is_poll && !trains(i) ? MBP_OK : MBP_BUSY),
              "call %d from %s while an epoch runs: status %d", i, is_poll ? "the poll" : "another thread",
              (int)s->statuses[i]);
}

static void test_busy(void) {
    mbp_net *net = net_new(dag, NULL);
    shared_trainer s = {.trainer = dag_trainer(net, "sgd"), .p = problem_new(MBP_F32, ROWS)};
    mbp_error error = {0};
    pthread_t thread;
    void *status;
    if (pthread_create(&thread, NULL, train_in_thread, &s))
        exit(2);
    while (!atomic_load(&s.polled)) {
    }
    call_all(&s, &error);
    CHECK(error.status == MBP_BUSY && strstr(error.text, "in use"), "%s", error.text);
    atomic_store(&s.leave, 1);
    pthread_join(thread, &status);
    CHECK((mbp_status)(intptr_t)status == MBP_OK, "the epoch ends with %d", (int)(intptr_t)status);
    check_busy(&s, 0);
    CHECK(train(&s, call_from_poll) == MBP_OK, "an epoch fails if its poll function calls the trainer");
    check_busy(&s, 1);
    CHECK(train(&s, NULL) == MBP_OK && mbp_trainer_steps(s.trainer) == 5, "%lld steps",
          (long long)mbp_trainer_steps(s.trainer));
    mbp_trainer_free(s.trainer), mbp_net_free(net), problem_free(s.p);
}

/* Threads that step as often as they can: each call succeeds or is refused, and the step count is the number of those
 * that succeed. */
typedef struct stepper {
    mbp_trainer *trainer;
    problem *p;
    long done, refused, failed;
} stepper;

static void *step_often(void *argument) {
    stepper *s = argument;
    double loss;
    for (int i = 0; i < TIMES; i++) {
        const mbp_status status = mbp_trainer_step(s->trainer, &s->p->batch, &loss, NULL);
        *(status == MBP_OK ? &s->done : status == MBP_BUSY ? &s->refused : &s->failed) += 1;
    }
    return NULL;
}

static void test_race(void) {
    mbp_net *net = net_new(dag, NULL);
    mbp_trainer *trainer = dag_trainer(net, "adam");
    problem *p = problem_new(MBP_F32, ROWS);
    stepper s[THREADS];
    long done = 0;
    for (int i = 0; i < THREADS; i++)
        s[i] = (stepper){trainer, p, 0, 0, 0};
    run(step_often, (char *)s, sizeof *s);
    for (int i = 0; i < THREADS; i++) {
        CHECK(s[i].failed == 0, "%ld steps failed", s[i].failed);
        done += s[i].done;
    }
    CHECK(mbp_trainer_steps(trainer) == done, "%lld steps, %ld done", (long long)mbp_trainer_steps(trainer), done);
    mbp_trainer_free(trainer), mbp_net_free(net), problem_free(p);
}

/* ---- one net, eight predictions ---- */

typedef struct predictor {
    mbp_net *net;
    const problem *p;
    mbp_array out[2];
    int number, wrong;
} predictor;

static void *predict_often(void *argument) {
    predictor *q = argument;
    for (int i = 0; i < TIMES; i++) {
        const int64_t rows = 1 +
                             (i * 7 + q->number * 13) % ROWS; /* so that workspaces grow and go from thread to thread */
        problem part;
        problem_rows(q->p, 0, rows, &part);
        const mbp_array out[2] = {array_rows(&q->out[0], 0, rows), array_rows(&q->out[1], 0, rows)};
        memset(array_element(&q->out[0], 0, 0), 0, (size_t)(ROWS * q->out[0].row_stride));
        if (mbp_net_predict(q->net, part.x, 2, out, 2, 1, -1, NULL) != MBP_OK ||
            memcmp(out[0].data, q->p->out[0].data, (size_t)(rows * out[0].row_stride)) != 0 ||
            memcmp(out[1].data, q->p->out[1].data, (size_t)(rows * out[1].row_stride)) != 0)
            q->wrong++;
    }
    return NULL;
}

static void test_predictions(mbp_dtype dtype) {
    mbp_net *net = net_new(dag, OPTIONS(.dtype = dtype));
    problem *p = problem_new(dtype, ROWS);
    predictor q[THREADS];
    OK(mbp_net_predict(net, p->x, 2, p->out, 2, 1, -1, &error));
    for (int i = 0; i < THREADS; i++)
        q[i] = (predictor){net, p, {array_new(dtype, ROWS, 2), array_new(dtype, ROWS, 1)}, i, 0};
    run(predict_often, (char *)q, sizeof *q);
    for (int i = 0; i < THREADS; i++) {
        CHECK(q[i].wrong == 0, "%d predictions of thread %d differ from those without threads", q[i].wrong, i);
        array_free(&q[i].out[0]), array_free(&q[i].out[1]);
    }
    mbp_net_free(net), problem_free(p);
}

/* ---- eight nets, eight trainings ---- */

typedef struct training {
    mbp_dtype dtype;
    const problem *p;
    mbp_net *net;
    mbp_trainer *trainer;
} training;

static void *train_often(void *argument) {
    training *l = argument;
    problem part;
    double loss;
    if (mbp_net_create(&l->net, dag, OPTIONS(.dtype = l->dtype), NULL) != MBP_OK ||
        mbp_trainer_create(&l->trainer, l->net, dag_losses, NULL, 2, "adam", NULL) != MBP_OK)
        return NULL;
    for (int i = 0; i < TIMES; i++) {
        problem_rows(l->p, i % 10, 1 + i % 33, &part);
        if (mbp_trainer_step(l->trainer, &part.batch, &loss, NULL) != MBP_OK)
            return NULL;
    }
    return NULL;
}

static void test_trainings(mbp_dtype dtype) {
    problem *p = problem_new(dtype, ROWS);
    training alone = {dtype, p, NULL, NULL}, all[THREADS];
    train_often(&alone);
    for (int i = 0; i < THREADS; i++)
        all[i] = (training){dtype, p, NULL, NULL};
    run(train_often, (char *)all, sizeof *all);
    for (int i = 0; i < THREADS; i++) {
        CHECK(same_params(all[i].net, alone.net) && same_state(alone.net, all[i].trainer, alone.trainer) &&
                  mbp_trainer_steps(all[i].trainer) == TIMES,
              "the training of thread %d differs from one without threads", i);
        mbp_trainer_free(all[i].trainer), mbp_net_free(all[i].net);
    }
    mbp_trainer_free(alone.trainer), mbp_net_free(alone.net), problem_free(p);
}

/* ---- creating and freeing at the same time ---- */

static void *make_and_free(void *argument) {
    int *failed = argument;
    for (int i = 0; i < 10 * TIMES; i++) {
        mbp_net *net = NULL;
        mbp_trainer *trainer = NULL;
        *failed += mbp_net_create(&net, dag, NULL, NULL) != MBP_OK ||
                   mbp_trainer_create(&trainer, net, dag_losses, NULL, 2, "adam", NULL) != MBP_OK;
        mbp_trainer_free(trainer), mbp_net_free(net);
    }
    return NULL;
}

static void test_create_and_free(void) {
    int failed[THREADS] = {0};
    run(make_and_free, (char *)failed, sizeof *failed);
    for (int i = 0; i < THREADS; i++)
        CHECK(failed[i] == 0, "thread %d: %d failures", i, failed[i]);
}

int main(void) {
    test_busy();
    test_race();
    test_predictions(MBP_F32);
    test_predictions(MBP_F64);
    test_trainings(MBP_F32);
    test_trainings(MBP_F64);
    test_create_and_free();
    return report("threads");
}
