/* Floor 1: memory, from the caller's allocator or from malloc. */
#ifndef MBP_MEMORY_H
#define MBP_MEMORY_H

#include "microbp.h"

/* A cache line, and the widest vector of all kernels. */
enum { MBP_ALIGNMENT = 64 };

/* The number of bytes, rounded up to a multiple of MBP_ALIGNMENT. */
static inline size_t mbp_aligned(size_t bytes) { return (bytes + MBP_ALIGNMENT - 1) / MBP_ALIGNMENT * MBP_ALIGNMENT; }

/* A block aligned to MBP_ALIGNMENT bytes, or NULL. allocator NULL: malloc. */
void *mbp_allocate(const mbp_allocator *allocator, size_t bytes);
/* block may be NULL; bytes is the size passed to mbp_allocate. */
void mbp_release(const mbp_allocator *allocator, void *block, size_t bytes);

#endif
