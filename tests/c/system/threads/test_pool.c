/* The pool alone: every item is done exactly once, even if threads are late, busy, preempted or missing. */
#include "api.h"
#include "system/threads/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

enum { ITEMS = 70000, CALLERS = 8 };
static const double LARGE = 1e12; /* enough work for any number of threads, and to wake them */

/* ---- one region ---- */

typedef struct region {
    unsigned char done[ITEMS]; /* plain: an item belongs to one thread */
    int64_t end, piece;
    atomic_int others; /* pieces done by threads other than the caller */
    atomic_int wrong;  /* pieces with a thread number out of range, or cut in the wrong place */
    int threads, wait; /* wait: the caller keeps its first piece until another thread has one */
} region;

static void run_region(void *context, int64_t first, int64_t last, int thread) {
    region *r = context;
    for (int64_t i = first; i < last; i++)
        r->done[i]++;
    if (thread < 0 || thread >= r->threads || first % r->piece || (last % r->piece && last != r->end))
        atomic_fetch_add(&r->wrong, 1);
    if (thread)
        atomic_fetch_add(&r->others, 1);
    for (int i = 0; r->wait && !thread && !atomic_load(&r->others) && i < 1000000; i++)
        sched_yield();
}

static void begin(region *r, int threads, int64_t end, int64_t piece) {
    memset(r->done, 0, (size_t)end);
    r->threads = threads;
    r->end = end;
    r->piece = piece;
}

static void check(region *r) {
    int64_t once = 0;
    for (int64_t i = 0; i < r->end; i++)
        once += r->done[i] == 1;
    CHECK(once == r->end, "%lld of %lld items are done once", (long long)once, (long long)r->end);
    CHECK(atomic_load(&r->wrong) == 0, "%d pieces are wrong", atomic_load(&r->wrong));
}

/* Runs a region; returns how many threads were to share it. */
static int share_pieces(mbp_pool *pool, region *r, int threads, int64_t end, int64_t piece) {
    begin(r, mbp_pool_take(pool, threads, LARGE), end, piece);
    r->wait = r->wait && r->threads > 1;
    mbp_pool_run(pool, r->threads, end, piece, run_region, r);
    check(r);
    return r->threads;
}

static int share(mbp_pool *pool, region *r, int threads, int64_t end) { return share_pieces(pool, r, threads, end, 1); }

static mbp_pool *pool_new(int threads) {
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, threads, NULL, &error));
    return pool;
}

static void test_pieces(void) {
    static const int64_t counts[] = {2, 3, 7, 100, 65534, 65535, 65536, ITEMS};
    static const int threads[] = {2, 3, 4, 7, 8, MBP_THREADS_MAX};
    region *r = calloc(1, sizeof *r);
    for (int t = 0; t < 6; t++)
        for (int i = 0; i < 8; i++) {
            mbp_pool *pool = pool_new(threads[t] > 8 ? 8 : threads[t]);
            r->wait = 1;
            atomic_store(&r->others, 0);
            CHECK(share(pool, r, threads[t], counts[i]) > 1 || mbp_cpus() < 2,
                  "a new pool does not share with %d threads", threads[t]);
            CHECK(atomic_load(&r->others) > 0 || mbp_cpus() < 2, "no other thread took one of %lld pieces",
                  (long long)counts[i]);
            r->wait = 0;
            share(pool, r, threads[t], 1), share(pool, r, threads[t], 0);
            mbp_pool_free(pool);
        }
    free(r);
}

/* Pieces of several items, the last one shorter. */
static void test_long_pieces(void) {
    static const int64_t pieces[] = {2, 3, 64, ITEMS - 1, ITEMS, ITEMS + 1};
    region *r = calloc(1, sizeof *r);
    mbp_pool *pool = pool_new(4);
    for (int i = 0; i < 6; i++)
        for (int64_t end = ITEMS; end > ITEMS - 5; end--) {
            share_pieces(pool, r, 4, end, pieces[i]);
            share_pieces(pool, r, 1, end, pieces[i]);
            begin(r, 4, end, pieces[i]);
            mbp_share(pool, 4, LARGE, end, pieces[i], run_region, r);
            check(r);
        }
    free(r), mbp_pool_free(pool);
}

/* Many tiny regions, so that threads are late for most of them, and pauses in which they go to sleep. */
static void test_late_threads(void) {
    region *r = calloc(1, sizeof *r);
    mbp_pool *pool = pool_new(4);
    for (int i = 0; i < 50000; i++) {
        share(pool, r, 2 + i % 3, 1 + i % 5);
        if (i % 5000 == 0)
            usleep(1000);
    }
    mbp_pool_free(pool);
    free(r);
}

/* ---- refused calls ---- */

static void test_refusals(void) {
    mbp_pool *pool = pool_new(4), *none = NULL;
    CHECK(mbp_pool_take(NULL, 4, LARGE) == 1, "work is shared without a pool");
    CHECK(mbp_pool_take(pool, 1, LARGE) == 1, "work for one thread is shared");
    CHECK(mbp_pool_take(pool, 4, MBP_REGION_WORK - 1) == 1, "too little work is shared");
    CHECK(mbp_pool_create(&none, MBP_THREADS_MAX + 1, NULL, NULL) == MBP_INVALID && !none,
          "too many threads are accepted");
    CHECK(mbp_pool_create(&none, -1, NULL, NULL) == MBP_INVALID && !none, "a negative number of threads is accepted");
    mbp_error error;
    CHECK(mbp_pool_set_limit(pool, 0, &error) == MBP_INVALID && mbp_pool_threads(pool) == 4 &&
              strstr(error.text, "limit is 0, but must be at least 1"),
          "limit 0: %s", error.text);
    OK(mbp_pool_set_limit(pool, 1, &error));
    CHECK(mbp_pool_threads(pool) == 1 && mbp_pool_take(pool, 4, LARGE) == 1, "a pool with a limit of 1 shares");
    OK(mbp_pool_set_limit(pool, 1000, &error));
    CHECK(mbp_pool_threads(pool) == 4, "a limit above the pool's threads is not reduced to them");
    const int taken = mbp_pool_take(pool, 4, LARGE);
    CHECK(mbp_cpus() < 2 || taken > 1, "a free pool does not share");
    CHECK(mbp_pool_take(pool, 4, LARGE) == 1 || taken == 1, "a pool serves two regions at once");
    region *r = calloc(1, sizeof *r);
    begin(r, taken, 100, 1);
    mbp_pool_run(pool, taken, 100, 1, run_region, r);
    check(r);
    CHECK(mbp_pool_take(pool, 4, 3 * MBP_THREAD_WORK) <= 3, "too many threads for the work");
    free(r), mbp_pool_free(pool), mbp_pool_free(NULL);
}

static void test_allocator(void) {
    counter c = {0};
    mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 3, &allocator, &error));
    CHECK(c.calls == 1 && c.live > 0, "the pool does not use the allocator");
    region *r = calloc(1, sizeof *r);
    share(pool, r, 3, 10);
    allocator.release = NULL; /* the pool has a copy of the allocator */
    mbp_pool_free(pool);
    CHECK(c.calls == 1 && c.live == 0, "%zu bytes are left", c.live);
    c.fail_at = c.calls + 1;
    allocator.release = count_release;
    CHECK(mbp_pool_create(&pool, 3, &allocator, NULL) == MBP_NO_MEMORY, "no memory");
    free(r);
}

/* ---- signals ---- */

static void check_signals(void *context, int64_t first, int64_t last, int thread) {
    atomic_int *open = context;
    sigset_t set;
    (void)first, (void)last;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    if (thread && (!sigismember(&set, SIGINT) || !sigismember(&set, SIGALRM) || !sigismember(&set, SIGUSR1)))
        atomic_fetch_add(open, 1);
}

static void test_signals(void) {
    atomic_int open = 0;
    sigset_t set;
    mbp_pool *pool = pool_new(3);
    for (int i = 0; i < 1000; i++)
        mbp_pool_run(pool, mbp_pool_take(pool, 3, LARGE), 50, 1, check_signals, &open);
    CHECK(atomic_load(&open) == 0, "a thread of the pool does not block signals");
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    CHECK(!sigismember(&set, SIGINT), "the caller's signal mask has changed");
    mbp_pool_free(pool);
}

/* ---- several callers, many pools ---- */

static void run_callers(void *(*work)(void *), void *argument) {
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; i++)
        if (pthread_create(&threads[i], NULL, work, argument))
            exit(2);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
}

static void *share_often(void *pool) {
    region *r = calloc(1, sizeof *r);
    for (int i = 0; i < 2000; i++)
        share(pool, r, 4, 1 + i % 50);
    free(r);
    return NULL;
}

static void test_callers(void) {
    mbp_pool *pool = pool_new(4);
    run_callers(share_often, pool);
    region *r = calloc(1, sizeof *r);
    share(pool, r, 4, 100);
    free(r), mbp_pool_free(pool);
}

static void *limit_often(void *pool) {
    for (int i = 0; i < 2000; i++)
        mbp_pool_set_limit(pool, 1 + i % 5, NULL);
    return share_often(pool);
}

static void test_limits(void) {
    mbp_pool *pool = pool_new(4);
    run_callers(limit_often, pool);
    mbp_pool_free(pool);
}

static void *make_and_free(void *argument) {
    region *r = calloc(1, sizeof *r);
    (void)argument;
    for (int i = 0; i < 150; i++) {
        mbp_pool *pool = NULL;
        if (mbp_pool_create(&pool, 1 + i % 4, NULL, NULL) != MBP_OK)
            break;
        for (int j = 0; j < i % 3; j++)
            share(pool, r, 4, 10);
        mbp_pool_free(pool);
    }
    free(r);
    return NULL;
}

int main(void) {
    test_pieces();
    test_long_pieces();
    test_late_threads();
    test_refusals();
    test_allocator();
    test_signals();
    test_callers();
    test_limits();
    run_callers(make_and_free, NULL);
    return report("pool");
}
