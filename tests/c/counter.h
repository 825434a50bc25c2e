/* An allocator that counts, and can be set to fail. */
#ifndef COUNTER_H
#define COUNTER_H

#include <stdlib.h>

typedef struct counter {
    size_t live, peak, limit; /* bytes; limit of one block, 0: none */
    long calls, fail_at;      /* the call that fails; 0: none */
    int persistent;           /* 1: all later calls fail too */
} counter;

static inline void *count_allocate(void *user, size_t bytes, size_t alignment) {
    counter *c = user;
    c->calls++;
    if (c->fail_at && (c->persistent ? c->calls >= c->fail_at : c->calls == c->fail_at))
        return NULL;
    if (c->limit && bytes > c->limit)
        return NULL;
    void *block = NULL; /* of the exact size, so that a sanitizer sees any access past it */
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
