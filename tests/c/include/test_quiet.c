/* Without a pool, steps, predictions and epochs use no mutex and no system call. The functions of the system that the
 * library could call are replaced here by ones that count. */
#include "api.h"

#include <pthread.h>
#include <sched.h>

static long calls;

/* These replace the functions of the C library for the whole program, so they do as little as possible. */
pid_t getpid(void) { return calls++, 1; }
int sched_yield(void) { return calls++, 0; }
int nanosleep(const struct timespec *time, struct timespec *left) { return (void)time, (void)left, calls++, 0; }
int pthread_mutex_lock(pthread_mutex_t *mutex) { return (void)mutex, calls++, 0; }
int pthread_mutex_trylock(pthread_mutex_t *mutex) { return (void)mutex, calls++, 0; }
int pthread_mutex_unlock(pthread_mutex_t *mutex) { return (void)mutex, calls++, 0; }
int pthread_cond_signal(pthread_cond_t *condition) { return (void)condition, calls++, 0; }

/* A pool asks for the process, so its end shows that the library's calls are counted. */
static void test_count(void) {
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 1, NULL, &error));
    calls = 0;
    mbp_pool_free(pool);
    CHECK(calls == 1, "a pool makes %ld calls, but should make 1", calls);
}

static void test_quiet(mbp_dtype dtype, int rows, int width, int repeats) {
    char graph[100];
    snprintf(graph, sizeof graph, "input 4\ndense 0 units=%d activation=tanh\ndense 1 units=%d\noutput 2\n", width,
             width);
    mbp_net *net = net_new(graph, OPTIONS(.dtype = dtype));
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse"}, NULL, "adam");
    const mbp_array x = array_new(dtype, rows, 4), y = array_new(dtype, rows, width),
                    out = array_new(dtype, rows, width);
    const mbp_batch batch = mbp_batch_of(&x, &y);
    double loss;
    int64_t steps;
    OK(mbp_net_reserve(net, rows, &error));
    OK(mbp_trainer_reserve(trainer, rows, &error));
    calls = 0;
    for (int i = 0; i < repeats; i++) {
        OK(mbp_trainer_step(trainer, &batch, &loss, &error));
        OK(mbp_trainer_epoch(trainer, &batch, NULL, rows, 1 + rows / 2, NULL, NULL, NULL, &loss, &steps, &error));
        OK(mbp_trainer_evaluate(trainer, &batch, &loss, &error));
        OK(mbp_net_predict(net, &x, 1, &out, 1, 0, -1, &error));
    }
    CHECK(calls == 0, "%d rows: %ld calls", rows, calls);
    array_free(&x), array_free(&y), array_free(&out);
    mbp_trainer_free(trainer), mbp_net_free(net);
}

int main(void) {
    test_count();
    for (int dtype = MBP_F32; dtype <= MBP_F64; dtype++) {
        test_quiet((mbp_dtype)dtype, 1, 4, 20000);
        test_quiet((mbp_dtype)dtype, 500, 128, 3); /* enough work for threads, if there were any */
    }
    return report("quiet");
}
