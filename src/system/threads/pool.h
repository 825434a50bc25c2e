/* Floor 2: the pool of threads.
 *
 * A region is work on items 0 .. end - 1, whose results are disjoint. Threads share it in pieces of several items.
 * The caller does pieces itself and never waits for a thread to start, only for pieces that a thread has claimed. So
 * threads may be late, busy or missing: then the caller does more, or all. */
#ifndef MBP_POOL_H
#define MBP_POOL_H

#include "config/config.h"
#include "microbp.h"

/* The least work of a region that threads share, and of each thread's part. Work is measured in floating-point
 * operations of a matrix product: one thread does 1000000 in 10 to 30 microseconds. */
enum { MBP_REGION_WORK = 1000000, MBP_THREAD_WORK = MBP_REGION_WORK / 2 };
/* The least work of a forward pass whose regions threads share. A step of 64-128-128-10 with 128 rows (work 7e6) takes
 * 0.85 to 1 of the time of one thread on two processors with a common cache, and 1.3 on two without. */
enum { MBP_PASS_WORK = 8 * MBP_REGION_WORK };
enum { MBP_THREADS_MAX = MICROBP_THREADS ? 255 : 1 };
/* The work of an element in an elementwise pass, and in an update, in the same unit. */
enum { MBP_ELEMENT_WORK = 8, MBP_UPDATE_WORK = 16 };
/* Rows of n elements that make a piece of an elementwise pass: about 16 K elements. */
static inline int64_t mbp_piece_rows(int64_t n) { return n < 16 << 10 ? (16 << 10) / (n + 1) : 1; }

/* Does items first .. last - 1 as thread number `thread`. The caller is number 0; no two threads have the same
 * number at the same time. */
typedef void (*mbp_work)(void *job, int64_t first, int64_t last, int thread);

/* Whether a thread does this amount of work alone. */
static inline int mbp_is_small(double work) { return MBP_THREADS_MAX == 1 || work < (double)MBP_REGION_WORK; }

/* How many threads this amount of work is worth, at most `threads`. */
static inline int mbp_worthwhile_threads(int threads, double work) {
    if (threads < 2 || mbp_is_small(work))
        return 1;
    const double parts = work / (double)MBP_THREAD_WORK;
    return parts < threads ? (int)parts : threads;
}

/* The parts of mbp_pool_take and mbp_pool_run that are not inline. Without MICROBP_THREADS nothing calls them. */
int mbp_pool_try(mbp_pool *pool, int threads, double work);
void mbp_pool_run_shared(mbp_pool *pool, int threads, int64_t end, int64_t piece, mbp_work run, void *job);

/* How many threads will share a region with this amount of work, at most `threads`. It is 1, and the caller works
 * alone, if the work is small, the pool is NULL, off or in another region, or threads did not help recently.
 * Otherwise the pool is taken, and the caller must call mbp_pool_run. */
static inline int mbp_pool_take(mbp_pool *pool, int threads, double work) {
    if (MBP_THREADS_MAX == 1 || threads < 2 || mbp_is_small(work)) /* the first: no call without optimization */
        return 1;
    return mbp_pool_try(pool, threads, work);
}

/* Does items 0 .. end - 1 with the number of threads that mbp_pool_take returned, and gives the pool back. Each call
 * of run is for one piece of `piece` items; the last piece may be shorter. If there are more than 65535 pieces,
 * `piece` is multiplied. With one thread run(job, 0, end, 0) is called once. The pool's threads flush subnormals. */
static inline void mbp_pool_run(mbp_pool *pool, int threads, int64_t end, int64_t piece, mbp_work run, void *job) {
    if (MBP_THREADS_MAX == 1 || threads < 2)
        run(job, 0, end, 0);
    else
        mbp_pool_run_shared(pool, threads, end, piece, run, job);
}

/* mbp_pool_take, then mbp_pool_run. */
static inline void mbp_share(mbp_pool *pool, int threads, double work, int64_t end, int64_t piece, mbp_work run,
                             void *job) {
    mbp_pool_run(pool, mbp_pool_take(pool, threads, work), end, piece, run, job);
}

#endif
