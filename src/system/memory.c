#include "system/memory.h"

#include <stdint.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

enum { HUGE_PAGE = 2 << 20, LARGE = 4 * HUGE_PAGE };

/* Large blocks request huge pages: a training step of a 2048-4096-4096-1000 network is 3 % faster with them. */
static void *allocate_own(size_t bytes) {
    const size_t alignment = bytes < LARGE ? MBP_ALIGNMENT : HUGE_PAGE;
    bytes = (bytes + alignment - 1) / alignment * alignment;
    void *block = aligned_alloc(alignment, bytes);
#ifdef MADV_HUGEPAGE
    if (block && bytes >= LARGE)
        (void)madvise(block, bytes, MADV_HUGEPAGE);
#endif
    return block;
}

void *mbp_allocate(const mbp_allocator *allocator, size_t bytes) {
    if (bytes > PTRDIFF_MAX - HUGE_PAGE)
        return NULL;
    return allocator ? allocator->allocate(allocator->user, bytes, MBP_ALIGNMENT) : allocate_own(bytes);
}

void mbp_release(const mbp_allocator *allocator, void *block, size_t bytes) {
    if (allocator && block)
        allocator->release(allocator->user, block, bytes);
    else
        free(block);
}
