/* Floor 1: reads and writes whole files. Only disk.c calls the operating system's file functions for files of the
 * user. */
#ifndef MBP_DISK_H
#define MBP_DISK_H

#include "microbp.h"

enum { MBP_DISK_START = 4096 };
/* Looks at the first bytes of a file of `size` bytes: all of them, or MBP_DISK_START. If it fails, the rest is not
 * read. */
typedef mbp_status mbp_disk_check(const char *bytes, size_t count, size_t size, mbp_error *error);
/* Whether these first bytes, at most MBP_DISK_START, can be those of a file that was not written to its end. Some of
 * the bytes may be zero instead, because a power cut leaves zeros. */
typedef int mbp_disk_begun(const char *bytes, size_t count);

/* Reads a regular file into a new block of *size bytes from the allocator, if `check` does not fail. The caller
 * releases it. *bytes is NULL for an empty file. */
mbp_status mbp_disk_read(const char *path, const mbp_allocator *allocator, mbp_disk_check *check, char **bytes,
                         size_t *size, mbp_error *error);

/* Writes all or nothing: at every moment, and after a crash, the file has its old contents or the new. If the path
 * is a symbolic link, the file that it points at is written. An existing file keeps its permissions, and its owner and
 * group where the system allows it; a file that this user may not write, or that has no write permission at all, is
 * refused. If a process is killed while it writes, it leaves a temporary file next to the target; the next write to the
 * same target removes it. `begun` tells such a file from another that happens to have its name, which stays. */
mbp_status mbp_disk_write(const char *path, const char *bytes, size_t size, mbp_disk_begun *begun, mbp_error *error);

/* Fails with the error `inner` about the contents of a file, with the path before its text. */
mbp_status mbp_disk_refuse(mbp_error *error, const char *path, const mbp_error *inner);

#endif
