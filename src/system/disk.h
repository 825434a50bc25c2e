/* Floor 1: reads and writes whole files. Only disk.c calls the operating system's file functions for files of the
 * user. */
#ifndef MBP_DISK_H
#define MBP_DISK_H

#include "microbp.h"

/* Reads a regular file into a new block of *size bytes from the allocator. The caller releases it. *bytes is NULL
 * for an empty file. */
mbp_status mbp_disk_read(const char *path, const mbp_allocator *allocator, char **bytes, size_t *size,
                         mbp_error *error);

/* Writes all or nothing: at every moment, and after a crash, the file has its old contents or the new. If the path
 * is a symbolic link, the file that it points at is written. An existing file keeps its permissions. If a process is
 * killed while it writes, it leaves a temporary file next to the target; the next write to the same target removes
 * it. */
mbp_status mbp_disk_write(const char *path, const char *bytes, size_t size, mbp_error *error);

/* The path for an error text: its last `room` bytes if it is longer. */
const char *mbp_disk_name(const char *path, size_t room);

#endif
