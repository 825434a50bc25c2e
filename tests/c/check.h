/* For all C tests: a check that counts failures, random numbers, and memory between guard pages. */
#ifndef CHECK_H
#define CHECK_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int failures;

/* Prints a failed check, at most 20 of them. */
#define CHECK(condition, ...) \
    do { \
        if (!(condition) && failures++ < 20) { \
            printf("%s:%d: ", __FILE__, __LINE__); \
            printf(__VA_ARGS__); \
            printf("\n"); \
        } \
    } while (0)

static inline int report(const char *name) {
    printf("%s: %s\n", name, failures ? "FAILED" : "passed");
    return failures != 0;
}

/* Whether tests/long runs: all sizes, many repetitions. */
static inline int is_long(void) { return getenv("MICROBP_LONG") != NULL; }

static inline double cpu_seconds(void) { /* of this process alone */
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline uint64_t random_bits(void) { /* xorshift64*, one fixed stream */
    static uint64_t state = 88172645463325252u;
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return state * 2685821657736338717u;
}

static inline double random_unit(void) { return (double)(random_bits() >> 11) * 0x1p-53; }
static inline int random_below(int n) { return (int)(random_bits() % (uint64_t)n); }

/* A block of memory that ends exactly at an inaccessible page, or starts right after one. */
typedef struct guarded {
    void *at, *map;
    size_t size;
} guarded;

static inline guarded guarded_block(size_t bytes, int at_end) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), inside = (bytes + page - 1) / page * page;
    guarded g = {NULL, mmap(NULL, inside + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                 inside + 2 * page};
    mprotect(g.map, page, PROT_NONE);
    mprotect((char *)g.map + page + inside, page, PROT_NONE);
    g.at = (char *)g.map + page + (at_end ? inside - bytes : 0);
    return g;
}

static inline void guarded_free(guarded g) { munmap(g.map, g.size); }

#endif
