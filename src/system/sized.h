/* Floor 1: callers' structures: allocators, and those that start with their size so that later versions can add fields
 * at the end. */
#ifndef MBP_SIZED_H
#define MBP_SIZED_H

#include <string.h>

#include "system/text.h"

/* Refuses an allocator without its functions. NULL: malloc. */
static inline mbp_status mbp_allocator_check(const mbp_allocator *allocator, mbp_error *error) {
    if (!allocator || (allocator->allocate && allocator->release))
        return MBP_OK;
    return mbp_fail(error, MBP_INVALID,
                    "allocator.%s is NULL: set both functions, or pass NULL as the allocator to use malloc",
                    allocator->allocate ? "release" : "allocate");
}

/* Reads the size of a caller's structure, which has `known` bytes in this version. Refuses a smaller size, since no
 * version had fewer fields: a smaller size is usually 0, or that of a pointer. */
static inline mbp_status mbp_sized_size(size_t *size, size_t known, const void *from, const char *name,
                                        mbp_error *error) {
    enum { MOST = 4096 }; /* bytes; a larger value is probably not a size */
    memcpy(size, from, sizeof *size);
    if (*size >= known && *size <= MOST)
        return MBP_OK;
    return mbp_fail(error, MBP_INVALID, "%s.size is %zu: set it to sizeof(%s)", name, *size, name);
}

/* Copies a structure into one of this build. Refuses fields that it does not have, which a later version may have, or
 * one with more extras, unless they are 0. from NULL: all 0. */
static inline mbp_status mbp_sized_read(void *to, size_t known, const void *from, const char *name, mbp_error *error) {
    size_t size = 0;
    memset(to, 0, known);
    if (!from)
        return MBP_OK;
    mbp_status status = mbp_sized_size(&size, known, from, name, error);
    if (status != MBP_OK)
        return status;
    for (size_t i = known; i < size; i++)
        if (((const char *)from)[i])
            return mbp_fail(error, MBP_UNSUPPORTED, "%s sets a field that this build of microbp does not have", name);
    memcpy(to, from, known);
    return MBP_OK;
}

/* Copies a structure of this version into the caller's, whose field `size` is set and does not change. Fields of a
 * later version become 0. */
static inline mbp_status mbp_sized_write(void *to, const void *from, size_t known, const char *name, mbp_error *error) {
    size_t size = 0;
    if (!to)
        return mbp_fail(error, MBP_INVALID, "info is NULL, but must point to an %s", name);
    mbp_status status = mbp_sized_size(&size, known, to, name, error);
    if (status != MBP_OK)
        return status;
    memset(to, 0, size);
    memcpy(to, from, known);
    memcpy(to, &size, sizeof size);
    return MBP_OK;
}

#endif
