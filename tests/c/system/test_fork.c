/* fork: a child trains with its own threads, regardless of what the parent's threads were doing. Each child has a time
 * limit. */
#include "api.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { ROWS = 128, WIDTH = 256, LIMIT = 10 /* seconds */ };
static const char graph[] = "input 256\ndense 0 units=256 activation=tanh\ndense 1 units=256\noutput 2\n";

typedef struct world {
    mbp_pool *pool;
    mbp_net *net;
    mbp_trainer *trainer;
    mbp_array x;
} world;

static world world_new(int threads) {
    world w = {.x = array_new(MBP_F32, ROWS, WIDTH)};
    OK(mbp_pool_create(&w.pool, threads, NULL, &error));
    w.net = net_new(graph, OPTIONS(.pool = w.pool, .seed = 5));
    w.trainer = trainer_new(w.net, (const char *[]){"mse"}, NULL, "adam");
    for (int64_t i = 0; i < ROWS * WIDTH; i++)
        array_set(&w.x, i / WIDTH, i % WIDTH, (double)(i * 37 % 101) / 101);
    return w;
}

static void world_free(world *w) {
    mbp_trainer_free(w->trainer), mbp_net_free(w->net), mbp_pool_free(w->pool), array_free(&w->x);
}

static int train(world *w, int steps) {
    const mbp_batch batch = mbp_batch_of(&w->x, &w->x);
    double loss;
    for (int i = 0; i < steps; i++)
        if (mbp_trainer_step(w->trainer, &batch, &loss, NULL) != MBP_OK)
            return 0;
    return 1;
}

/* Whether the child exits with 0 within the limit. */
static int wait_for(pid_t child) {
    int status = -1;
    for (int tries = 0; tries < LIMIT * 10000; tries++) {
        if (waitpid(child, &status, WNOHANG) == child)
            return status == 0;
        usleep(100);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return 0;
}

/* Steps in a process, then in its child or grandchild, give the same bits as all steps in one process. */
static void test_child_trains(void) {
    world alone = world_new(1), w = world_new(4);
    CHECK(train(&alone, 20) && train(&w, 10), "training");
    const pid_t child = fork();
    if (child == 0) {
        if (!train(&w, 5))
            _exit(1);
        const pid_t grandchild = fork();
        if (grandchild == 0)
            _exit(!(train(&w, 5) && same_params(w.net, alone.net)));
        if (!wait_for(grandchild))
            _exit(2);
        const int same = train(&w, 5) && same_params(w.net, alone.net) && same_state(w.net, w.trainer, alone.trainer);
        world_free(&w); /* joins the child's own threads */
        _exit(same ? 0 : 3);
    }
    CHECK(wait_for(child), "the child continues with different bits");
    CHECK(train(&w, 10) && same_params(w.net, alone.net), "the parent continues with different bits");
    world_free(&w), world_free(&alone);
}

static void test_child_frees(void) {
    world w = world_new(4);
    train(&w, 3);
    const pid_t child = fork();
    if (child == 0) {
        world_free(&w); /* must not join the parent's threads, which do not exist in the child */
        _exit(0);
    }
    CHECK(wait_for(child), "a child cannot free a pool that it never used");
    world_free(&w);
}

static void *lock_in_thread(void *net) { return mbp_net_lock(net, NULL) == MBP_BUSY ? net : NULL; }

static atomic_int stop;

static void *train_until_stopped(void *w) {
    while (!atomic_load(&stop) && train(w, 1)) {
    }
    return NULL;
}

/* In the child, nothing remains busy with the parent's other threads: not the nets, their gates, their idle workspaces,
 * or the pool. The parameters of w may be those in the middle of an update. */
static int child_works(world *w, mbp_net *shared, const mbp_array *expected) {
    mbp_net_after_fork(w->net), mbp_net_after_fork(shared);
    mbp_array out = array_new(MBP_F32, ROWS, WIDTH);
    mbp_trainer *own = trainer_new(shared, (const char *[]){"mse"}, NULL, "adam");
    const mbp_batch batch = mbp_batch_of(&w->x, &w->x);
    double loss;
    return mbp_net_predict(shared, &w->x, 1, &out, 1, 1, -1, NULL) == MBP_OK &&
           memcmp(out.data, expected->data, (size_t)(ROWS * out.row_stride)) == 0 &&
           mbp_trainer_step(own, &batch, &loss, NULL) == MBP_OK &&
           mbp_trainer_step(own, &batch, &loss, NULL) == MBP_OK && train(w, 2) &&
           mbp_net_predict(w->net, &w->x, 1, &out, 1, 1, -1, NULL) == MBP_OK;
}

/* A child of the thread that holds a net holds it too. */
static void test_fork_of_the_holder(void) {
    world w = world_new(2);
    OK(mbp_net_lock(w.net, &error));
    const pid_t child = fork();
    if (child == 0) {
        pthread_t other;
        void *refused = NULL;
        mbp_net_after_fork(w.net);
        if (pthread_create(&other, NULL, lock_in_thread, w.net))
            _exit(2);
        pthread_join(other, &refused);
        mbp_net_unlock(w.net);
        _exit(!(refused && train(&w, 1) && mbp_net_lock(w.net, NULL) == MBP_OK));
    }
    CHECK(wait_for(child), "the child of a thread that holds a net");
    mbp_net_unlock(w.net);
    world_free(&w);
}

typedef struct predictor {
    world *w;
    mbp_net *net;
} predictor;

static void *predict_until_stopped(void *argument) {
    const predictor *p = argument;
    mbp_array out = array_new(MBP_F32, ROWS, WIDTH);
    while (!atomic_load(&stop) && mbp_net_predict(p->net, &p->w->x, 1, &out, 1, 1, -1, NULL) == MBP_OK) {
    }
    array_free(&out);
    return NULL;
}

static void test_fork_during_regions(void) {
    world w = world_new(4);
    mbp_net *shared = net_new(graph, OPTIONS(.pool = w.pool, .seed = 9));
    mbp_array expected = array_new(MBP_F32, ROWS, WIDTH);
    predictor p = {&w, shared};
    pthread_t threads[2];
    OK(mbp_net_predict(shared, &w.x, 1, &expected, 1, 1, -1, &error));
    if (pthread_create(&threads[0], NULL, train_until_stopped, &w) ||
        pthread_create(&threads[1], NULL, predict_until_stopped, &p))
        exit(2);
    for (int i = 0; i < (is_long() ? 100 : 20); i++) {
        const pid_t child = fork();
        if (child == 0)
            _exit(!child_works(&w, shared, &expected));
        CHECK(wait_for(child), "child %d of a process with regions in other threads", i);
    }
    atomic_store(&stop, 1);
    pthread_join(threads[0], NULL), pthread_join(threads[1], NULL);
    mbp_net_free(shared), world_free(&w);
    array_free(&expected);
}

static void test_many_forks(void) {
    world w = world_new(2);
    train(&w, 2);
    for (int i = 0; i < (is_long() ? 1000 : 100); i++) {
        const pid_t child = fork();
        if (child == 0)
            _exit(!train(&w, 1));
        CHECK(wait_for(child), "child %d", i);
    }
    world_free(&w);
}

int main(void) {
    test_child_trains();
    test_child_frees();
    test_fork_during_regions();
    test_fork_of_the_holder();
    test_many_forks();
    return report("fork");
}
