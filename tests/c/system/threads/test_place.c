/* The processors of the pool's threads: they are moved, but may use the same set before and after. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "api.h"
#include "system/threads/place.h"
#include "system/threads/pool.h"

#ifdef __linux__
#include <sched.h>
#include <stdatomic.h>

enum { THREADS = 3, TRIES = 100 };
static const double LARGE = 1e12; /* enough work to start threads and to wake them */

static cpu_set_t own_set(void) {
    cpu_set_t set;
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0, "this machine has too many processors for the test");
    return set;
}

static void use(const cpu_set_t *set) { CHECK(sched_setaffinity(0, sizeof *set, set) == 0, "no such set"); }

/* The n-th processor of a set. */
static int member(const cpu_set_t *set, int n) {
    int cpu = 0;
    while (!CPU_ISSET((size_t)cpu, set) || n-- > 0)
        cpu++;
    return cpu;
}

static cpu_set_t only(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return set;
}

/* ---- one thread ---- */

static void test_keep_off(const cpu_set_t *all) {
    int moved = 0;
    for (int i = 0; i < TRIES && CPU_COUNT(all) > 1; i++) {
        const cpu_set_t one = only(member(all, i % CPU_COUNT(all)));
        use(&one), use(all);
        const int cpu = mbp_this_cpu();
        CHECK(mbp_keep_off(cpu, pthread_self(), NULL), "there is another processor");
        moved += mbp_this_cpu() != cpu;
        const cpu_set_t after = own_set();
        CHECK(CPU_EQUAL(&after, all), "the thread does not get its set back");
    }
    CHECK(moved > 0 || CPU_COUNT(all) < 2, "the thread never moves");
    const cpu_set_t one = only(mbp_this_cpu());
    use(&one);
    CHECK(!mbp_keep_off(mbp_this_cpu(), pthread_self(), NULL), "the only processor is taken away");
    CHECK(!mbp_keep_off(-1, pthread_self(), NULL), "a processor that is not known");
    const cpu_set_t after = own_set();
    CHECK(CPU_EQUAL(&after, &one) && !mbp_may_spread(), "a set of one processor is not kept");
    use(all);
}

/* ---- the threads of a pool ---- */

typedef struct region {
    const cpu_set_t *allowed;
    pthread_t thread[THREADS];
    atomic_int seen[THREADS], outside;
} region;

static void look(void *context, int64_t first, int64_t last, int thread) {
    region *r = context;
    const cpu_set_t set = own_set();
    cpu_set_t both;
    (void)first, (void)last;
    CPU_AND(&both, &set, r->allowed);
    if (!CPU_EQUAL(&both, &set))
        atomic_fetch_add(&r->outside, 1);
    r->thread[thread] = pthread_self();
    atomic_store(&r->seen[thread], 1);
    usleep(20);
}

/* Whether a thread has this set; a thread that moves at the moment gets some time. */
static int has_set(pthread_t thread, const cpu_set_t *expected) {
    cpu_set_t set;
    for (int i = 0; i < 10000; i++) {
        if (pthread_getaffinity_np(thread, sizeof set, &set) == 0 && CPU_EQUAL(&set, expected))
            return 1;
        usleep(100);
    }
    return 0;
}

/* Regions after pauses of different lengths, so that threads are awake or asleep, on all processors of the set. */
static void test_pool(const cpu_set_t *allowed) {
    region r = {.allowed = allowed};
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, THREADS, NULL, &error));
    use(allowed);
    for (int i = 0; i < TRIES; i++) {
        mbp_share(pool, THREADS, LARGE, 20, 1, look, &r);
        usleep((unsigned)(i % 5 * 100));
    }
    CHECK(atomic_load(&r.outside) == 0, "a thread leaves the set that the program has");
    for (int i = 0; i < THREADS; i++)
        CHECK(!atomic_load(&r.seen[i]) || has_set(r.thread[i], allowed), "thread %d does not get its set back", i);
    mbp_pool_free(pool);
}

/* No thread is started that would share the caller's only processor. It is started when there are more. */
static void test_one_processor(const cpu_set_t *all) {
    const cpu_set_t one = only(member(all, 0));
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, THREADS, NULL, &error));
    use(&one);
    for (int i = 0; i < TRIES; i++)
        CHECK(mbp_pool_take(pool, THREADS, LARGE) == 1, "threads share one processor");
    use(all);
    region r = {.allowed = all};
    const int threads = mbp_pool_take(pool, THREADS, LARGE);
    mbp_pool_run(pool, threads, 20, 1, look, &r);
    CHECK(threads > 1 || CPU_COUNT(all) < 2, "more processors, but no threads");
    mbp_pool_free(pool);
}

int main(void) {
    const cpu_set_t all = own_set();
    test_keep_off(&all);
    test_pool(&all);
    for (int i = 0; i < 4 && CPU_COUNT(&all) > 2; i++) {
        cpu_set_t part = only(member(&all, i % CPU_COUNT(&all)));
        CPU_SET((size_t)member(&all, (i + 1) % CPU_COUNT(&all)), &part);
        test_pool(&part);
    }
    use(&all);
    test_one_processor(&all);
    return report("place");
}
#else
int main(void) {
    CHECK(mbp_this_cpu() == -1 && mbp_may_spread() && !mbp_keep_off(0, pthread_self(), NULL), "a thread has moved");
    return report("place");
}
#endif
