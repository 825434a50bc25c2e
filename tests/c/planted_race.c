/* A planted data race between threads of the pool, for a build with ThreadSanitizer, to check that it is found. A run
 * without argument must pass; with `race` it must fail. */
#include "api.h"
#include "system/threads/pool.h"

#include <sched.h>
#include <stdatomic.h>

enum { REGIONS = 100, PIECES = 100 };

typedef struct sums {
    int race;
    long plain;
    atomic_long safe;
    atomic_int others;
} sums;

/* The caller keeps its first piece until another thread has one; relaxed, so that nothing orders the two sums. */
static void count(void *context, int64_t first, int64_t last, int thread) {
    sums *s = context;
    if (s->race)
        s->plain += last - first;
    else
        atomic_fetch_add(&s->safe, last - first);
    if (thread)
        atomic_fetch_add_explicit(&s->others, 1, memory_order_relaxed);
    for (int i = 0; !thread && !atomic_load_explicit(&s->others, memory_order_relaxed) && i < 10000; i++)
        sched_yield();
}

int main(int arguments, char **argument) {
    sums s = {.race = arguments > 1 && strcmp(argument[1], "race") == 0};
    /* gcc's ThreadSanitizer finds the race in about every second region; a new pool never rests in its first region */
    for (int i = 0; i < REGIONS; i++) {
        mbp_pool *pool = NULL;
        OK(mbp_pool_create(&pool, 4, NULL, &error));
        atomic_store(&s.others, 0);
        mbp_pool_run(pool, mbp_pool_take(pool, 4, 1e12), PIECES, 1, count, &s);
        mbp_pool_free(pool);
    }
    CHECK(s.race || atomic_load(&s.safe) == REGIONS * PIECES, "%ld pieces", atomic_load(&s.safe));
    return report("planted race");
}
