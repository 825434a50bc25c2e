#include "system/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

enum { HUGE_PAGE = 2 << 20, LARGE = 4 * HUGE_PAGE };

/* A block inside one of malloc, whose address is stored in front of it: not every C library has aligned_alloc. Large
 * blocks request huge pages: a training step of a 2048-4096-4096-1000 network is 3 % faster with them. */
static void *allocate_own(size_t bytes) {
    const size_t alignment = bytes < LARGE ? MBP_ALIGNMENT : HUGE_PAGE;
    char *const whole = malloc(sizeof whole + alignment - 1 + bytes);
    if (!whole)
        return NULL;
    char *const after = whole + sizeof whole, *const block = after + (-(uintptr_t)after & (alignment - 1));
    memcpy(block - sizeof whole, &whole, sizeof whole);
#ifdef MADV_HUGEPAGE
    if (bytes >= LARGE)
        (void)madvise(block, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
    return block;
}

static void release_own(char *block) {
    char *whole;
    memcpy(&whole, block - sizeof whole, sizeof whole);
    free(whole);
}

void *mbp_allocate(const mbp_allocator *allocator, size_t bytes) {
    if (bytes > PTRDIFF_MAX - 2 * HUGE_PAGE)
        return NULL;
    return allocator ? allocator->allocate(allocator->user, bytes, MBP_ALIGNMENT) : allocate_own(bytes);
}

void mbp_release(const mbp_allocator *allocator, void *block, size_t bytes) {
    if (block && allocator)
        allocator->release(allocator->user, block, bytes);
    else if (block)
        release_own(block);
}
