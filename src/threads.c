/* Floor 2: the pool. A region in the life of its caller and of one of the pool's threads:
 *
 *     mbp_pool_take   takes the lock, or works alone; starts missing threads; decides whether sleeping ones are worth waking
 *     mbp_pool_run    describes the job, publishes a ticket, claims pieces until none is left, waits for those that others have claimed
 *     live            watches the ticket for a while, then sleeps; claims pieces, does them, and says how many are done
 *
 * The ticket is one word: everything a thread must know to claim the next piece, so that a claim is one compare-and-swap. A thread reads
 * the job only after a claim, and the job cannot change before that thread has reported its pieces. So it does not matter how late a
 * thread looks at a ticket: it either claims a piece of the present job or nothing.
 *
 * After fork the child has the memory but not the threads. The lock says whose it is: a process that finds another's takes it over,
 * however it was left, and starts threads of its own. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE // sched_getcpu
#endif
#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "floats.h"
#include "text.h"

enum {
    UNITS_MAX = 0xffff,      /* claims of a region */
    STACK_BYTES = 512 << 10, /* the kernels need a few KB */
    SPIN_NS = 60000,         /* how long a thread watches for the next region before it sleeps */
    NEAR_NS = 200000,        /* regions that follow each other this closely find their threads awake */
    LATE_NS = 50000,         /* a wait for others' pieces that is this much longer than the own part was is a preempted thread's */
    PATIENCE_NS = 20000,     /* how long a wait keeps the processor to itself */
    REST_LEAST_NS = 2000000,
    SOON_NS = 16000000, /* trouble that comes back within this time after a rest has not passed */
    REST_MOST_NS = 1024000000 /* the caller works alone for so long after threads got in its way, twice as long when they do again */
};
/* To wake a thread costs the caller some microseconds and the thread comes tens of them later: a single region must be as long as this. */
static const double WAKING_WORK = 1e7;

/* ---- the ticket: generation (24 bits), threads (8), units (16), the next unit (16) ---- */

typedef uint64_t ticket;

static ticket ticket_make(uint64_t generation, int threads, int units) {
    return generation << 40 | (uint64_t)threads << 32 | (uint64_t)units << 16;
}
static int ticket_threads(ticket t) { return (int)(t >> 32 & 0xff); }
static int ticket_units(ticket t) { return (int)(t >> 16 & 0xffff); }
static int ticket_next(ticket t) { return (int)(t & 0xffff); }
static int ticket_offers(ticket t, int thread) { return thread < ticket_threads(t) && ticket_next(t) < ticket_units(t); }

/* ---- the pool ---- */

typedef struct worker {
    mbp_pool *pool;
    int number, asleep; /* asleep: under the mutex */
    pthread_t thread;
    pthread_cond_t wake;
} worker;

struct mbp_pool {
    mbp_allocator own_allocator;
    const mbp_allocator *allocator; /* NULL, or own_allocator */
    size_t bytes;
    int threads;
    atomic_int limit;
    _Atomic uint64_t lock; /* process << 1 | taken; process 0: nobody's yet */
    /* The holder's of the lock. */
    int started, refused;   /* threads that run, the caller aside; the system starts no more */
    int eager;              /* sleeping threads are woken for this region */
    int64_t rest, rest_end; /* the last rest's length and end */
    int64_t began, ended;   /* this region, and the one before */
    /* The job: written before the ticket is published. */
    mbp_share run;
    void *context;
    int64_t pieces, units;
    _Alignas(64) _Atomic ticket ticket;
    atomic_int caller_cpu;        /* where the caller was then */
    _Alignas(64) atomic_int done; /* units that threads other than the caller have finished */
    atomic_int crowded;           /* a thread ran where the caller was, who was kept from running */
    _Alignas(64) atomic_int sleepers;
    int stop; /* under the mutex */
    pthread_mutex_t mutex;
    worker workers[]; /* number 0 is the caller's, and unused */
};

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * (int64_t)1000000000 + time.tv_nsec;
}

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The processor that this thread runs on; -1: unknown. */
static int this_cpu(void) {
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

static inline int smaller(int a, int b) { return a < b ? a : b; }

/* ---- doing pieces ---- */

/* The next unit, or -1. Acquire: what the caller wrote before it published is seen after a claim; each claim is a read-modify-write, so the
 * chain from the publishing store is unbroken. */
static int64_t claim(mbp_pool *pool, int thread) {
    ticket t = atomic_load_explicit(&pool->ticket, memory_order_relaxed);
    while (ticket_offers(t, thread))
        if (atomic_compare_exchange_weak_explicit(&pool->ticket, &t, t + 1, memory_order_acquire, memory_order_relaxed))
            return ticket_next(t);
    return -1;
}

/* Claims and does units until there is none; returns how many. */
static int do_units(mbp_pool *pool, int thread) {
    int count = 0;
    for (int64_t unit; (unit = claim(pool, thread)) >= 0; count++)
        pool->run(pool->context, unit * pool->pieces / pool->units, (unit + 1) * pool->pieces / pool->units, thread);
    return count;
}

static int is_crowded(mbp_pool *pool) {
    const int cpu = this_cpu();
    return cpu >= 0 && cpu == atomic_load_explicit(&pool->caller_cpu, memory_order_relaxed);
}

/* Release: the results are written before the caller, who acquires, counts them. */
static mbp_status help(void *argument) {
    const worker *self = argument;
    if (is_crowded(self->pool))
        atomic_store_explicit(&self->pool->crowded, 1, memory_order_relaxed);
    const int count = do_units(self->pool, self->number);
    atomic_fetch_add_explicit(&self->pool->done, count, memory_order_release);
    return MBP_OK;
}

/* ---- a thread's life ---- */

static int is_offered(mbp_pool *pool, int thread) {
    return ticket_offers(atomic_load_explicit(&pool->ticket, memory_order_relaxed), thread);
}

/* To watch where the caller runs would keep it from running. */
static int watch(const worker *self) {
    const int64_t end = is_crowded(self->pool) ? 0 : now() + SPIN_NS;
    do {
        for (int i = 0; i < 64; i++) {
            if (is_offered(self->pool, self->number))
                return 1;
            pause_briefly();
        }
    } while (now() < end);
    return 0;
}

/* Returns 0 when the pool stops. A sleeper counts itself before it looks at the ticket, and the caller publishes before it looks for
 * sleepers, all in one order (sequentially consistent): one of them sees the other. */
static int sleep_until_offered(worker *self) {
    mbp_pool *pool = self->pool;
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    self->asleep = 1;
    while (!pool->stop && !ticket_offers(atomic_load(&pool->ticket), self->number))
        pthread_cond_wait(&self->wake, &pool->mutex);
    self->asleep = 0;
    atomic_fetch_sub(&pool->sleepers, 1);
    const int stop = pool->stop;
    pthread_mutex_unlock(&pool->mutex);
    return !stop;
}

static void *live(void *argument) {
    worker *self = argument;
    while (watch(self) || sleep_until_offered(self))
        mbp_with_flush_to_zero(help, self);
    return NULL;
}

static void wake_sleepers(mbp_pool *pool, int threads) {
    if (atomic_load(&pool->sleepers) == 0)
        return;
    pthread_mutex_lock(&pool->mutex);
    for (int i = 1; i < threads; i++)
        if (pool->workers[i].asleep)
            pthread_cond_signal(&pool->workers[i].wake);
    pthread_mutex_unlock(&pool->mutex);
}

/* Signals are the program's: its own threads handle them. */
static int start_thread(worker *self) {
    pthread_attr_t attributes;
    sigset_t all, before;
    if (pthread_attr_init(&attributes))
        return 0;
    sigfillset(&all);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&self->thread, &attributes, live, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return !failed;
}

static void start_threads(mbp_pool *pool, int threads) {
    while (pool->started < threads - 1 && !pool->refused) {
        worker *next = &pool->workers[pool->started + 1];
        *next = (worker){.pool = pool, .number = pool->started + 1};
        if (pthread_cond_init(&next->wake, NULL) || !start_thread(next))
            pool->refused = 1;
        else
            pool->started++;
    }
}

static void stop_threads(mbp_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    pool->stop = 1;
    for (int i = 1; i <= pool->started; i++)
        pthread_cond_signal(&pool->workers[i].wake);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 1; i <= pool->started; i++) {
        pthread_join(pool->workers[i].thread, NULL);
        pthread_cond_destroy(&pool->workers[i].wake);
    }
    pthread_mutex_destroy(&pool->mutex);
}

/* ---- the lock ---- */

/* Everything but what was asked for at creation, as in a process without threads. */
static void forget_threads(mbp_pool *pool) {
    pool->started = pool->refused = pool->stop = 0;
    pool->rest = REST_LEAST_NS;
    pool->rest_end = pool->ended = 0;
    atomic_store(&pool->ticket, 0);
    atomic_store(&pool->caller_cpu, -1);
    atomic_store(&pool->done, 0);
    atomic_store(&pool->crowded, 0);
    atomic_store(&pool->sleepers, 0);
    pthread_mutex_init(&pool->mutex, NULL);
}

static uint64_t this_process(void) { return (uint64_t)getpid(); }

static int try_lock(mbp_pool *pool) {
    const uint64_t self = this_process() << 1;
    uint64_t lock = atomic_load_explicit(&pool->lock, memory_order_relaxed);
    if (lock == (self | 1) ||
        !atomic_compare_exchange_strong_explicit(&pool->lock, &lock, self | 1, memory_order_acquire, memory_order_relaxed))
        return 0;
    if (lock != self)
        forget_threads(pool);
    return 1;
}

static void unlock(mbp_pool *pool) { atomic_store_explicit(&pool->lock, this_process() << 1, memory_order_release); }

/* ---- regions ---- */

/* Called with the lock: how many threads can share a region now. */
static int available(mbp_pool *pool, int threads, double work) {
    pool->began = now();
    if (pool->began < pool->rest_end)
        return 1;
    pool->eager = work >= WAKING_WORK || pool->began - pool->ended < NEAR_NS;
    if (pool->eager)
        start_threads(pool, threads);
    threads = smaller(threads, pool->started + 1);
    if (!pool->eager && atomic_load_explicit(&pool->sleepers, memory_order_relaxed) == pool->started)
        threads = 1;
    if (threads < 2)
        pool->ended = pool->began;
    return threads;
}

int mbp_worthwhile_threads(int threads, double work) {
    if (threads < 2 || work < MBP_REGION_WORK)
        return 1;
    return work / MBP_THREAD_WORK < threads ? (int)(work / MBP_THREAD_WORK) : threads;
}

int mbp_pool_take(mbp_pool *pool, int threads, double work) {
    threads = mbp_worthwhile_threads(smaller(threads, mbp_pool_threads(pool)), work);
    if (threads < 2 || !try_lock(pool))
        return 1;
    threads = available(pool, threads, work);
    if (threads < 2)
        unlock(pool);
    return threads;
}

/* A thread that was preempted with a piece in its hands, or that took the caller's processor, means that others keep the processors busy,
 * and costs up to milliseconds. Rests make that a small part: they grow where trouble comes back at once. */
static void rest(mbp_pool *pool, int64_t time) {
    const int64_t longer = pool->rest < REST_MOST_NS ? 2 * pool->rest : REST_MOST_NS;
    pool->rest = time - pool->rest_end > SOON_NS ? REST_LEAST_NS : longer;
    pool->rest_end = time + pool->rest;
}

/* Until the others have finished their units. Acquire: their results are seen. */
static void wait_for(mbp_pool *pool, int units) {
    const int64_t begin = now();
    int64_t time = begin;
    while (atomic_load_explicit(&pool->done, memory_order_acquire) != units) {
        if (time - begin > PATIENCE_NS)
            sched_yield();
        for (int i = 0; i < 64 && atomic_load_explicit(&pool->done, memory_order_relaxed) != units; i++)
            pause_briefly();
        time = now();
    }
    const int crowded = atomic_exchange_explicit(&pool->crowded, 0, memory_order_relaxed);
    if (crowded || time - begin > begin - pool->began + LATE_NS)
        rest(pool, time);
    pool->ended = time;
}

void mbp_pool_run(mbp_pool *pool, int threads, int64_t pieces, mbp_share run, void *context) {
    if (threads < 2) {
        run(context, 0, pieces, 0);
        return;
    }
    const int units = pieces < UNITS_MAX ? (int)pieces : UNITS_MAX;
    const uint64_t generation = (atomic_load_explicit(&pool->ticket, memory_order_relaxed) >> 40) + 1;
    pool->run = run;
    pool->context = context;
    pool->pieces = pieces;
    pool->units = units;
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->caller_cpu, this_cpu(), memory_order_relaxed);
    atomic_store(&pool->ticket, ticket_make(generation, threads, units));
    if (pool->eager)
        wake_sleepers(pool, threads);
    const int own = do_units(pool, 0);
    wait_for(pool, units - own);
    unlock(pool);
}

/* ---- its life ---- */

mbp_status mbp_pool_create(mbp_pool **pool, int threads, const mbp_allocator *allocator, mbp_error *error) {
    if (!pool)
        return mbp_fail(error, MBP_INVALID, "pool is NULL");
    if (threads < 0 || threads > MBP_THREADS_MAX)
        return mbp_fail(error, MBP_INVALID, "%d threads: a pool has 1 to %d, or 0 for one per processor", threads, MBP_THREADS_MAX);
    threads = threads ? threads : smaller(mbp_cpus(), MBP_THREADS_MAX);
    const size_t bytes = sizeof(mbp_pool) + (size_t)threads * sizeof(worker);
    mbp_pool *made = mbp_allocate(allocator, bytes);
    if (!made)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for a pool of %d threads", threads);
    memset(made, 0, bytes);
    made->bytes = bytes;
    made->threads = threads;
    atomic_init(&made->limit, threads);
    if (allocator) {
        made->own_allocator = *allocator;
        made->allocator = &made->own_allocator;
    }
    *pool = made;
    return MBP_OK;
}

void mbp_pool_free(mbp_pool *pool) {
    if (!pool)
        return;
    if (atomic_load_explicit(&pool->lock, memory_order_acquire) >> 1 == this_process())
        stop_threads(pool);
    const mbp_allocator allocator = pool->own_allocator;
    mbp_release(pool->allocator ? &allocator : NULL, pool, pool->bytes);
}

int mbp_pool_threads(const mbp_pool *pool) { return pool ? atomic_load_explicit(&pool->limit, memory_order_relaxed) : 1; }

mbp_status mbp_pool_set_limit(mbp_pool *pool, int limit, mbp_error *error) {
    if (!pool)
        return mbp_fail(error, MBP_INVALID, "pool is NULL");
    if (limit < 1)
        return mbp_fail(error, MBP_INVALID, "%d is no limit of threads: it is at least 1, which turns the pool off", limit);
    atomic_store_explicit(&pool->limit, smaller(limit, pool->threads), memory_order_relaxed);
    return MBP_OK;
}
