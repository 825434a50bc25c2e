/* Floor 1: memory, from the caller's allocator or from malloc; and how much of it a net or a trainer has. */
#ifndef MBP_MEMORY_H
#define MBP_MEMORY_H

#include "config/config.h"
#include "microbp.h"

/* A cache line, and the widest vector of all kernels. */
enum { MBP_ALIGNMENT = 64 };

/* The number of bytes, rounded up to a multiple of MBP_ALIGNMENT. */
static inline size_t mbp_aligned(size_t bytes) { return (bytes + MBP_ALIGNMENT - 1) / MBP_ALIGNMENT * MBP_ALIGNMENT; }

/* A block aligned to MBP_ALIGNMENT bytes, or NULL. allocator NULL: malloc. */
void *mbp_allocate(const mbp_allocator *allocator, size_t bytes);
/* The same, filled with 0. From malloc, a large block takes memory of the machine only where it is written. */
void *mbp_allocate_zero(const mbp_allocator *allocator, size_t bytes);
/* block may be NULL; bytes is the size passed to mbp_allocate. */
void mbp_release(const mbp_allocator *allocator, void *block, size_t bytes);

/* Where the blocks of a net or a trainer come from, and how many bytes it has: each block counts as whole cache lines.
 * Predictions run in parallel, so the count is atomic. */
typedef struct mbp_memory {
    const mbp_allocator *allocator; /* NULL: malloc */
    size_t bytes;
} mbp_memory;

static inline size_t mbp_memory_bytes(const mbp_memory *memory) {
#if MICROBP_THREADS
    return __atomic_load_n(&memory->bytes, __ATOMIC_RELAXED);
#else
    return memory->bytes;
#endif
}
static inline void mbp_memory_add(mbp_memory *memory, size_t bytes) {
#if MICROBP_THREADS
    __atomic_add_fetch(&memory->bytes, bytes, __ATOMIC_RELAXED);
#else
    memory->bytes += bytes;
#endif
}
/* Counts a block that the net or trainer has, or no longer has. */
static inline void mbp_memory_count(mbp_memory *memory, size_t bytes) { mbp_memory_add(memory, mbp_aligned(bytes)); }
static inline void mbp_memory_discount(mbp_memory *memory, size_t bytes) {
    mbp_memory_add(memory, 0 - mbp_aligned(bytes));
}
/* mbp_allocate and mbp_release for blocks that count. */
static inline void *mbp_memory_take(mbp_memory *memory, size_t bytes) {
    void *block = mbp_allocate(memory->allocator, bytes);
    if (block)
        mbp_memory_count(memory, bytes);
    return block;
}
static inline void mbp_memory_give(mbp_memory *memory, void *block, size_t bytes) {
    if (block)
        mbp_memory_discount(memory, bytes);
    mbp_release(memory->allocator, block, bytes);
}

/* Sets numbers to 0, and does not touch those before the first that is not: a new block takes no memory before it is
 * written. */
void mbp_clear(void *numbers, size_t bytes);
/* Whether all numbers are 0. */
int mbp_is_clear(const void *numbers, size_t bytes);

#endif
