/* Floor 2: the pool. A region is work in pieces that own disjoint results; the caller does pieces itself and never waits for a thread to
 * start, only for pieces that one has taken. So a pool may always be late, busy or refused its threads: the caller then works alone. */
#ifndef MBP_THREADS_H
#define MBP_THREADS_H

#include "microbp.h"

/* Threads are only worth their cost from here on, in floating-point operations of a product: 20 to 30 microseconds of one thread. */
enum { MBP_REGION_WORK = 1000000, MBP_THREAD_WORK = MBP_REGION_WORK / 2 };
enum { MBP_THREADS_MAX = 255 };

/* Does the pieces from first to last - 1 as thread number `thread`: 0 is the caller, and no two have the same number at a time. */
typedef void (*mbp_share)(void *context, int64_t first, int64_t last, int thread);

/* How many threads such work is worth, at most `threads`. */
int mbp_worthwhile_threads(int threads, double work);
/* How many threads will share a region of so much work, at most `threads`. 1: the caller works alone, because the work is small, the pool
 * is NULL, in another region or off, or threads did not pay lately. Otherwise the pool is taken until mbp_pool_run. */
int mbp_pool_take(mbp_pool *pool, int threads, double work);
/* Runs all pieces, with the number of threads that mbp_pool_take answered, and gives the pool back. Other threads flush subnormals. */
void mbp_pool_run(mbp_pool *pool, int threads, int64_t pieces, mbp_share run, void *context);

#endif
