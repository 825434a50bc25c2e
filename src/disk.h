/* Floor 2: whole files in and out of memory; the only file that knows the operating system's file calls. */
#ifndef MBP_DISK_H
#define MBP_DISK_H

#include "microbp.h"

/* A regular file's bytes, in a block of *size bytes from the allocator that the caller releases; NULL for an
 * empty file. */
mbp_status mbp_disk_read(const char *path, const mbp_allocator *allocator, char **bytes, size_t *size, mbp_error *error);

/* All or nothing: at every moment, and after a crash, the path names the old contents or the new. A symbolic link is written through,
 * and an existing file keeps its permissions. A temporary file that a killed process left behind is removed by the next write to its
 * target. */
mbp_status mbp_disk_write(const char *path, const char *bytes, size_t size, mbp_error *error);

/* The path for an error text, or its end where it is longer than `room`. */
const char *mbp_disk_name(const char *path, size_t room);

#endif
