/* The pool: threads that help a caller with one region of work at a time.
 *
 * The life of a region --------------------
 *
 * A region is `end` items of work, cut into pieces that can be done in any order by any thread.
 *
 *   the caller   mbp_pool_take  takes the lock, starts threads that are missing, and decides how many share the region
 *                               (below). If another caller has the lock, this one works alone.
 *                mbp_pool_run   writes down the job, publishes a ticket, wakes sleeping threads, claims and does pieces
 *                               until none is left, waits for the pieces that others have claimed, and unlocks.
 *   a thread     live           watches the ticket for a while and then sleeps. When the ticket offers pieces, it
 *                               claims and does them until none is left, and adds their number to `done`.
 *
 * The caller never waits for a thread to start or to wake up, only for pieces that a thread has claimed. So a thread
 * that is late, or never starts, does not delay the caller.
 *
 * The ticket is one 64-bit word with everything that a thread needs to claim a piece, so a claim is one
 * compare-and-swap. A thread reads the job only after a claim, and the caller writes the next job only after all
 * claimed pieces are done. So it does not matter how late a thread looks at the ticket: it claims a piece of the
 * present job, or nothing. The caller claims the first piece that is left, the others the last one: so the same
 * processor gets the same rows in each region and finds them in its cache (64-128-128-10, 128 rows, on processors that
 * share no cache: 320 -> 296 us).
 *
 * After fork the child has the pool's memory but not its threads. The lock holds the number of a process: a process
 * that finds the number of another one takes the pool over, even in the middle of a region, and starts its own threads.
 *
 * Three decisions ---------------
 *
 * 1. Is the work worth threads? (mbp_worthwhile_threads.) A region has at least MBP_REGION_WORK, and each thread's
 *    share is at least MBP_THREAD_WORK. Smaller regions never touch the pool.
 * 2. Are sleeping threads woken? (`waking`, in available.) A wake-up costs the caller time, and the thread comes late.
 *    It pays if the region is long (WAKING_WORK), or if the last region ended less than NEAR_NS ago: then the next ones
 *    will probably follow soon, as in a training step, and the thread will be awake for them. If no thread is woken
 *    and all of them sleep, the caller works alone.
 * 3. Does the caller rest, that is, work alone for a while? (wait_for and rest.) Threads only help if they have
 *    processors of their own. They have none if a thread with a claimed piece was preempted, which shows in a long wait
 *    (LATE_NS), or if a thread is on the caller's own processor and cannot move away (`crowded`). Then other programs
 *    keep the processors busy, and each such region costs up to milliseconds. The caller rests for REST_LEAST_NS. Each
 *    time that the trouble is back within SOON_NS after a rest, the next rest is twice as long, up to REST_MOST_NS. A
 *    thread that stays on the caller's processor also goes to sleep at once instead of watching.
 *
 * On a virtual machine the system takes a processor that has halted for a busy one, and starts and wakes threads on the
 * caller's: in 32 of 40 new processes, and some 90 times in 210 steps with pauses of 3 ms. So the caller keeps a thread
 * that it starts or wakes off its own processor (place.h): then it was 1 of 39. A thread that finds itself there moves
 * away, at most once in SOON_NS.
 *
 * The constants -------------
 *
 * Figures without another source are from two processors of an AMD EPYC (Zen 3), a KVM guest with Linux 6.18, that
 * other programs used too: medians of at least 100 tries, and the fastest tenth where marked "best".
 *
 *   a watching thread sees a store after                        0.1 to 0.2 us
 *   an empty region, for its caller                             2 us
 *   20 pieces of 10 us by the caller alone                      202 us
 *       with a second thread that is awake                      105 us (best)
 *       with a second thread that sleeps and is woken           125 us (best)
 *       with a second thread that is preempted                  1.8 ms (the slowest tenth)
 *   pthread_cond_signal to a sleeping thread, for the caller    6 us; 23 us after 2 ms of sleep, 36 us after 20 ms
 *   from the signal until the thread runs                       25 us; 32 us after 20 ms of sleep
 *   pthread_create                                              19 us
 *   sched_yield, getpid, clock_gettime, sched_getcpu            0.8, 0.24, 0.03 and 0.006 us
 *
 * MBP_REGION_WORK (pool.h) is 10 to 30 us of one thread, depending on the processor and the shape of the product. Two
 * threads save at most half of that, and a region costs 2 to 5 us.
 *
 * SPIN_NS: how long a thread watches before it sleeps. It covers the gaps between the regions of a training step: 98 %
 * of them are shorter than 28 us (784-128-10, 64 rows), 24 us (256-256-256-10, 256 rows), 44 us (784-512-512-10, 256
 * rows) and 50 us (128-256-256-10 with tanh and batch norm, 32 rows). Longer watching would only keep a processor busy.
 *
 * WAKING_WORK: a region this long is worth a wake-up by itself. It is 0.1 to 0.3 ms of one thread; a second thread
 * saves up to half of that, less the 6 to 36 us of the signal and half of the 25 us until the thread runs. Predictions
 * of 256-256-256, one every 2 ms: 256 rows (work 7e7) take 0.78 ms with a wake-up and 1.3 ms alone; with 32 rows (work
 * 8e6) the difference is within the noise.
 *
 * NEAR_NS: after a gap shorter than this, sleeping threads are woken for a small region too. The gaps between
 * two steps of a Python loop are that short. If the guess is always wrong, the caller loses 6 us for each gap of 60 to
 * 200 us.
 *
 * PATIENCE_NS: how long the caller waits for others' pieces without giving its processor away, normally less than a
 * piece. After that the thread may need this processor to finish, so the caller calls sched_yield between its looks.
 * Without sched_yield, steps of 256-256-256-10 took 20 % longer.
 *
 * LATE_NS: a thread was preempted if the caller's wait is longer than its own part of the region by this time. A thread
 * that runs keeps the caller waiting for one piece at most; a preempted one is away for some milliseconds.
 *
 * REST_LEAST_NS: about the cost of one preemption. It was 16 ms until pools of one program disturbed each other: the
 * threads of one watch for SPIN_NS after its last region, and the other pool rested for 16 ms because of these 60 us.
 * SOON_NS: trouble that comes later than this is new, so rests do not grow on a quiet machine with rare trouble: a rest
 * of 2 ms every 16 ms leaves the caller its threads for 8/9 of the time. REST_MOST_NS: one bad region of some
 * milliseconds every second costs less than 1 % on a machine that stays busy.
 *
 * What the third decision is worth: with one busy processor, a step of 256-256-256-10 takes 2 % longer, and took 35 %
 * longer before threads left the caller's processor to it. On a quiet machine it costs nothing: steps and predictions
 * took the same time, within the noise of 10 %, without rests, with a REST_LEAST_NS of 16 ms, a LATE_NS of 10 us, a
 * SOON_NS of 0 or a PATIENCE_NS of 0. The exact values of these constants were not measured on a busy machine: they are
 * estimates for the reasons above. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE // clock_gettime, sigfillset
#endif
#include "system/threads/pool.h"

#if MICROBP_THREADS
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "system/floats.h"
#include "system/memory.h"
#include "system/sized.h"
#include "system/text.h"
#include "system/threads/place.h"
#include "system/threads/ticket.h"

/* Each constant has its reason in the comment at the top. */
enum {
    PIECES_MAX = 0xffff,     /* the ticket has 16 bits for them */
    STACK_BYTES = 512 << 10, /* the largest frame of a kernel is 17 KB; glibc puts thread-local variables there too */
    SPIN_NS = 60000,
    NEAR_NS = 200000,
    PATIENCE_NS = 20000,
    LATE_NS = 50000,
    REST_LEAST_NS = 2000000,
    SOON_NS = 16000000,
    REST_MOST_NS = 1024000000
};
static const double WAKING_WORK = 1e7;

/* ---- the pool ---- */

typedef struct worker {
    mbp_pool *pool;
    int number, asleep; /* asleep: only with the mutex */
    int64_t moved;      /* when the thread was last on the caller's processor */
    pthread_t thread;
    pthread_cond_t wake;
} worker;

struct mbp_pool {
    mbp_allocator own_allocator;
    const mbp_allocator *allocator; /* NULL, or own_allocator */
    size_t bytes;
    int threads;
    atomic_int limit;
    _Atomic uint64_t lock; /* process << 1 | taken; process 0: no process has used the pool yet */

    /* Only the owner of the lock uses these. */
    int started;            /* threads that run, without the caller */
    int refused;            /* whether the system has refused to start a thread */
    int waking;             /* whether this region wakes sleeping threads */
    int64_t rest, rest_end; /* the length and the end of the last rest */
    int64_t began, ended;   /* when this region began, and when the one before ended */

    /* The work of the region, written before the ticket is published. */
    mbp_work run;
    void *job;
    int64_t end, piece; /* the number of items, and the items of a piece */

    _Alignas(64) _Atomic ticket ticket;
    atomic_int caller_cpu;        /* the caller's processor when the region began */
    _Alignas(64) atomic_int done; /* pieces that threads other than the caller have finished */
    atomic_int crowded;           /* whether a thread stayed on the caller's processor */
    _Alignas(64) atomic_int sleepers;
    int stop; /* only with the mutex */
    pthread_mutex_t mutex;
    worker workers[]; /* number 0 would be the caller, and is not used */
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

static inline int smaller(int a, int b) { return a < b ? a : b; }
static int64_t pieces_of(int64_t end, int64_t piece) { return (end + piece - 1) / piece; }

/* ---- doing pieces ---- */

/* Claims the next piece; returns its number, or -1 if none is left. Acquire: a thread that claims sees everything
 * that the caller wrote before it published the ticket. This also holds after claims of other threads, because a
 * chain of read-modify-writes continues the release of the first store. */
static int64_t claim(mbp_pool *pool, int thread) {
    ticket t = atomic_load_explicit(&pool->ticket, memory_order_relaxed);
    while (ticket_offers(t, thread)) {
        int piece;
        const ticket rest = ticket_claim(t, thread, &piece);
        if (atomic_compare_exchange_weak_explicit(&pool->ticket, &t, rest, memory_order_acquire, memory_order_relaxed))
            return piece;
    }
    return -1;
}

/* Claims and does pieces until none is left; returns how many it did. */
static int do_pieces(mbp_pool *pool, int thread) {
    int count = 0;
    for (int64_t number; (number = claim(pool, thread)) >= 0; count++) {
        const int64_t first = number * pool->piece, left = pool->end - first;
        pool->run(pool->job, first, first + (left < pool->piece ? left : pool->piece), thread);
    }
    return count;
}

/* Whether this thread runs on the caller's processor, and could not move away. If it was there a short time ago too, a
 * busy processor sends it back: then it stays. */
static int is_crowded(worker *self) {
    const int cpu = mbp_this_cpu();
    if (cpu < 0 || cpu != atomic_load_explicit(&self->pool->caller_cpu, memory_order_relaxed))
        return 0;
    const int64_t time = now(), before = self->moved;
    self->moved = time;
    return time - before < SOON_NS || !mbp_keep_off(cpu, pthread_self(), NULL);
}

/* Does pieces as one of the pool's threads. Release: the caller, which acquires, sees the results of the pieces that it
 * counts. */
static MBP_APART void help(worker *self) {
    if (is_crowded(self))
        atomic_store_explicit(&self->pool->crowded, 1, memory_order_relaxed);
    const int count = do_pieces(self->pool, self->number);
    atomic_fetch_add_explicit(&self->pool->done, count, memory_order_release);
}

/* ---- a thread's life ---- */

static int is_offered(mbp_pool *pool, int thread) {
    return ticket_offers(atomic_load_explicit(&pool->ticket, memory_order_relaxed), thread);
}

/* Looks at the ticket for SPIN_NS; returns whether it offers pieces. On the caller's processor it looks only for a
 * moment, because it would keep the caller from running. */
static int watch(worker *self) {
    const int64_t end = is_crowded(self) ? 0 : now() + SPIN_NS;
    do {
        for (int i = 0; i < 64; i++) {
            if (is_offered(self->pool, self->number))
                return 1;
            pause_briefly();
        }
    } while (now() < end);
    return 0;
}

/* Returns 0 when the pool stops. No wake-up is lost: a thread first adds itself to `sleepers` and then looks at the
 * ticket; the caller first publishes the ticket and then looks at `sleepers`. All four are sequentially consistent,
 * so the thread sees the ticket or the caller sees the sleeper. */
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
    while (watch(self) || sleep_until_offered(self)) {
        const mbp_float_state before = mbp_float_enter(MBP_FLUSH_SUBNORMALS);
        help(self);
        mbp_float_leave(before);
    }
    return NULL;
}

static void wake_sleepers(mbp_pool *pool, int threads) {
    if (atomic_load(&pool->sleepers) == 0)
        return;
    const int cpu = mbp_this_cpu();
    pthread_mutex_lock(&pool->mutex);
    for (int i = 1; i < threads; i++)
        if (pool->workers[i].asleep)
            mbp_keep_off(cpu, pool->workers[i].thread, &pool->workers[i].wake);
    pthread_mutex_unlock(&pool->mutex);
}

/* The pool's threads block all signals, so that the program's own threads handle them. */
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

/* Starts threads, unless the caller may use one processor only: so could they. */
static void start_threads(mbp_pool *pool, int threads) {
    while (pool->started < threads - 1 && !pool->refused && mbp_may_spread()) {
        worker *next = &pool->workers[pool->started + 1];
        *next = (worker){.pool = pool, .number = pool->started + 1};
        if (pthread_cond_init(&next->wake, NULL) || !start_thread(next))
            pool->refused = 1;
        else {
            pool->started++;
            mbp_keep_off(mbp_this_cpu(), next->thread, NULL);
        }
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

/* Resets everything except the fields that mbp_pool_create set, for a process in which the pool has no threads yet. */
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

/* After a fork the lock still names the parent's process, whose threads do not exist in this one. */
static int try_lock(mbp_pool *pool) {
    const uint64_t self = this_process() << 1;
    uint64_t lock = atomic_load_explicit(&pool->lock, memory_order_relaxed);
    if (lock == (self | 1) || !atomic_compare_exchange_strong_explicit(&pool->lock, &lock, self | 1,
                                                                       memory_order_acquire, memory_order_relaxed))
        return 0;
    if (lock != self)
        forget_threads(pool);
    return 1;
}

static void unlock(mbp_pool *pool) {
    const uint64_t lock = atomic_load_explicit(&pool->lock, memory_order_relaxed);
    atomic_store_explicit(&pool->lock, lock & ~(uint64_t)1, memory_order_release);
}

/* ---- regions ---- */

/* How many threads share a region that starts now. The caller has the lock. */
static int available(mbp_pool *pool, int threads, double work) {
    pool->began = now();
    if (pool->began < pool->rest_end)
        return 1;
    atomic_store_explicit(&pool->caller_cpu, mbp_this_cpu(), memory_order_relaxed);
    pool->waking = work >= WAKING_WORK || pool->began - pool->ended < NEAR_NS;
    if (pool->waking)
        start_threads(pool, threads);
    threads = smaller(threads, pool->started + 1);
    if (!pool->waking && atomic_load_explicit(&pool->sleepers, memory_order_relaxed) == pool->started)
        threads = 1;
    if (threads < 2)
        pool->ended = pool->began; /* a region that follows soon is near this one, although no thread helps here */
    return threads;
}

int mbp_pool_try(mbp_pool *pool, int threads, double work) {
    threads = mbp_worthwhile_threads(smaller(threads, mbp_pool_threads(pool)), work);
    if (threads < 2 || !try_lock(pool))
        return 1;
    threads = available(pool, threads, work);
    if (threads < 2)
        unlock(pool);
    return threads;
}

/* Starts a rest. It is longer than the last one if that ended a short time ago. */
static void rest(mbp_pool *pool, int64_t time) {
    const int64_t longer = pool->rest < REST_MOST_NS ? 2 * pool->rest : REST_MOST_NS;
    pool->rest = time - pool->rest_end > SOON_NS ? REST_LEAST_NS : longer;
    pool->rest_end = time + pool->rest;
}

/* Waits until the other threads have finished this number of pieces. Acquire: the caller then sees their results. */
static void wait_for(mbp_pool *pool, int pieces) {
    const int64_t begin = now();
    int64_t time = begin;
    while (atomic_load_explicit(&pool->done, memory_order_acquire) != pieces) {
        if (time - begin > PATIENCE_NS)
            sched_yield();
        for (int i = 0; i < 64 && atomic_load_explicit(&pool->done, memory_order_relaxed) != pieces; i++)
            pause_briefly();
        time = now();
    }
    const int crowded = atomic_exchange_explicit(&pool->crowded, 0, memory_order_relaxed);
    if (crowded || time - begin > begin - pool->began + LATE_NS)
        rest(pool, time);
    pool->ended = time;
}

void mbp_pool_run_shared(mbp_pool *pool, int threads, int64_t end, int64_t piece, mbp_work run, void *job) {
    if (pieces_of(end, piece) > PIECES_MAX)
        piece *= pieces_of(pieces_of(end, piece), PIECES_MAX);
    const int pieces = (int)pieces_of(end, piece);
    const uint64_t generation = (atomic_load_explicit(&pool->ticket, memory_order_relaxed) >> 40) + 1;
    pool->run = run;
    pool->job = job;
    pool->end = end;
    pool->piece = piece;
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    atomic_store(&pool->ticket, ticket_make(generation, threads, pieces));
    if (pool->waking)
        wake_sleepers(pool, threads);
    const int own = do_pieces(pool, 0);
    wait_for(pool, pieces - own);
    unlock(pool);
}

/* ---- the life of a pool ---- */

mbp_status mbp_pool_create(mbp_pool **pool, int threads, const mbp_allocator *allocator, mbp_error *error) {
    if (!pool)
        return mbp_fail_null(error, "pool", "an mbp_pool *, where the pool is stored");
    mbp_status status = mbp_allocator_check(allocator, error);
    if (status != MBP_OK)
        return status;
    if (threads < 0 || threads > MBP_THREADS_MAX)
        return mbp_fail(error, MBP_INVALID, "threads is %d, but must be from 1 to %d, or 0 for one per processor",
                        threads, MBP_THREADS_MAX);
    threads = threads ? threads : smaller(mbp_cpus(), MBP_THREADS_MAX);
    const size_t bytes = sizeof(mbp_pool) + (size_t)threads * sizeof(worker);
    mbp_pool *made = mbp_allocate(allocator, bytes);
    if (!made)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for a pool of %d thread%s", threads, mbp_plural(threads));
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

int mbp_pool_threads(const mbp_pool *pool) {
    return pool ? atomic_load_explicit(&pool->limit, memory_order_relaxed) : 1;
}

mbp_status mbp_pool_set_limit(mbp_pool *pool, int limit, mbp_error *error) {
    if (!pool)
        return mbp_fail_null(error, "pool", "a pool from mbp_pool_create");
    if (limit < 1)
        return mbp_fail(error, MBP_INVALID,
                        "limit is %d, but must be at least 1; 1 turns the pool off, a large number removes the limit",
                        limit);
    atomic_store_explicit(&pool->limit, smaller(limit, pool->threads), memory_order_relaxed);
    return MBP_OK;
}
#endif
