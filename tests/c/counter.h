/* An allocator that counts, and fails when asked to. */
#ifndef COUNTER_H
#define COUNTER_H

#include <stdlib.h>

typedef struct counter {
    size_t live, peak, limit; /* bytes; limit of one block, 0: none */
    long calls, fail_at;      /* fail_at 0: never */
    int for_ever;             /* fail from then on, not once */
} counter;

static inline void *count_allocate(void *user, size_t bytes, size_t alignment) {
    counter *c = user;
    c->calls++;
    if (c->fail_at && (c->for_ever ? c->calls >= c->fail_at : c->calls == c->fail_at))
        return NULL;
    if (c->limit && bytes > c->limit)
        return NULL;
    void *block = NULL; /* of its exact size, so that a checker sees any access past it */
    if (posix_memalign(&block, alignment, bytes))
        return NULL;
    c->live += bytes;
    c->peak = c->live > c->peak ? c->live : c->peak;
    return block;
}

static inline void count_release(void *user, void *block, size_t bytes) {
    ((counter *)user)->live -= bytes;
    free(block);
}

#endif
