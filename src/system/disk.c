/* The steps of a write: create a temporary file next to the target, write it, fsync it, rename it over the target,
 * fsync the directory. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE // openat, flock
#endif
#include "config/config.h"

#if MICROBP_FILES
#include "system/disk.h"
#include "system/memory.h"
#include "system/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Repeats a system call as long as signals interrupt it. */
#define UNINTERRUPTED(result, call) \
    do \
        (result) = (call); \
    while ((result) < 0 && errno == EINTR)

enum { CHUNK = 1 << 30 }; /* macOS refuses to read or write 2 GiB at once */

/* The path for an error text: its last `room` bytes if it is longer. */
static const char *shown_name(const char *path, size_t room) {
    size_t length = strlen(path);
    const char *shown = length > room ? path + length - room : path;
    /* Do not start in the middle of a UTF-8 character. */
    while (((unsigned char)*shown & 0xc0) == 0x80)
        shown++;
    return shown;
}

mbp_status mbp_disk_refuse(mbp_error *error, const char *path, const mbp_error *inner) {
    const size_t used = strlen(inner->text) + sizeof ": ";
    return mbp_fail(error, inner->status, "%s: %s", shown_name(path, used < 200 ? sizeof inner->text - used : 56),
                    inner->text);
}

enum { READ_ONLY = -1 }; /* a reason besides the errnos */

/* Instead of strerror, which is not thread-safe and depends on the locale. */
static const char *reason(int number) {
    static const struct {
        int number;
        const char *text;
    } reasons[] = {
        {READ_ONLY, "it is read-only; make it writable (chmod u+w) or remove it first"},
        {EACCES, "permission denied"},
        {EPERM, "operation not permitted"},
        {ENOENT, "no such file or directory"},
        {EISDIR, "is a directory"},
        {ENOTDIR, "not a directory"},
        {ENOSPC, "no space left on the device"},
        {EDQUOT, "disk quota exceeded"},
        {EROFS, "read-only file system"},
        {EIO, "input/output error"},
        {EFBIG, "file too large"},
        {EMFILE, "too many open files"},
        {ENFILE, "too many open files in the system"},
        {ENAMETOOLONG, "file name too long"},
        {ELOOP, "too many symbolic links"},
        {ENOMEM, "the system is out of memory"},
        {EBUSY, "busy"},
        {ENODEV, "not a regular file"},
        {ENXIO, "not a regular file"}, /* a socket */
        {EEXIST, "all temporary names for it are in use"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].number == number)
            return reasons[i].text;
    return "system error";
}

static mbp_status disk_failed(mbp_error *error, const char *action, const char *path, int number) {
    const char *why = reason(number);
    number = number == READ_ONLY ? EACCES : number;
    mbp_fail(error, MBP_IO, "cannot %s %s: %s (errno %d)", action, shown_name(path, 150), why, number);
    if (error)
        error->number = number;
    return MBP_IO;
}

/* ---- reading ---- */

/* Returns 0, or an errno. */
static int read_all(int file, char *bytes, size_t size) {
    for (ssize_t done; size; bytes += done, size -= (size_t)done) {
        UNINTERRUPTED(done, read(file, bytes, size < CHUNK ? size : CHUNK));
        if (done < 0)
            return errno;
        if (done == 0)
            return EBUSY; /* another process is shortening the file */
    }
    return 0;
}

/* Reads the first bytes and checks them. */
static mbp_status read_start(int file, const char *path, mbp_disk_check *check, char *start, size_t size,
                             mbp_error *error) {
    mbp_error inner;
    const size_t count = size < MBP_DISK_START ? size : MBP_DISK_START;
    const int number = read_all(file, start, count);
    if (number)
        return disk_failed(error, "read", path, number);
    return check(start, count, size, &inner) == MBP_OK ? MBP_OK : mbp_disk_refuse(error, path, &inner);
}

static mbp_status read_open(int file, const char *path, const mbp_allocator *allocator, mbp_disk_check *check,
                            char **bytes, size_t *size, mbp_error *error) {
    struct stat status;
    char start[MBP_DISK_START];
    if (fstat(file, &status) < 0)
        return disk_failed(error, "read", path, errno);
    if (!S_ISREG(status.st_mode))
        return disk_failed(error, "read", path, S_ISDIR(status.st_mode) ? EISDIR : ENODEV);
    if ((uint64_t)status.st_size > SIZE_MAX / 4)
        return disk_failed(error, "read", path, EFBIG);
    *size = (size_t)status.st_size;
    const mbp_status checked = read_start(file, path, check, start, *size, error);
    if (checked != MBP_OK)
        return checked;
    *bytes = *size ? mbp_allocate(allocator, *size) : NULL;
    if (!*bytes)
        return *size ? mbp_fail(error, MBP_NO_MEMORY, "no memory for the %zu bytes of %s", *size, shown_name(path, 160))
                     : MBP_OK;
    const size_t done = *size < MBP_DISK_START ? *size : MBP_DISK_START;
    memcpy(*bytes, start, done);
    int number = read_all(file, *bytes + done, *size - done);
    if (number) {
        mbp_release(allocator, *bytes, *size);
        return disk_failed(error, "read", path, number);
    }
    return MBP_OK;
}

mbp_status mbp_disk_read(const char *path, const mbp_allocator *allocator, mbp_disk_check *check, char **bytes,
                         size_t *size, mbp_error *error) {
    int file;
    /* O_NONBLOCK: opening a pipe would wait for a writer. */
    UNINTERRUPTED(file, open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (file < 0)
        return disk_failed(error, "read", path, errno);
    mbp_status status = read_open(file, path, allocator, check, bytes, size, error);
    close(file);
    return status;
}

/* ---- writing ---- */

enum {
    NAMES = 32, /* temporary names of one target, so this many processes or threads can write it at the same time */
    AROUND = 16 /* the bytes that ".%s.microbp-31.tmp" adds to the name */
};

/* Where the file goes: an open directory, and the names of the file and the temporary file in it. */
typedef struct place {
    char path[PATH_MAX], temp[NAME_MAX + 1];
    const char *name;
    int directory, exists;
    mode_t mode; /* these three: of the file that will be replaced, if it exists */
    uid_t owner;
    gid_t group;
    mbp_disk_begun *begun;
} place;

/* Why the file may not be replaced: 0, an errno or READ_ONLY. The directory alone decides what a rename may do, so the
 * permissions of the file are checked here. Root may write a file without write permission, but its owner took that
 * permission away to keep the file. */
static int check_replaceable(const place *p) {
    if (S_ISDIR(p->mode) || !S_ISREG(p->mode))
        return S_ISDIR(p->mode) ? EISDIR : ENODEV;
    const int same = getuid() == geteuid() && getgid() == getegid();
    const int denied = faccessat(p->directory, p->name, W_OK, same ? 0 : AT_EACCESS) < 0 && errno == EACCES;
    return denied || !(p->mode & 0222) ? READ_ONLY : 0;
}

/* Fills everything except temp and begun. Returns 0, an errno or READ_ONLY. The directory is open only if it returns
 * 0. */
static int find_place(place *p, const char *path) {
    /* realpath follows links, so that the rename replaces the file and not the link to it. */
    if (!realpath(path, p->path)) {
        if (errno != ENOENT || strlen(path) >= PATH_MAX)
            return errno == ENOENT ? ENAMETOOLONG : errno;
        memcpy(p->path, path, strlen(path) + 1);
    }
    char *slash = strrchr(p->path, '/');
    p->name = slash ? slash + 1 : p->path;
    char directory[PATH_MAX] = ".";
    if (slash)
        snprintf(directory, sizeof directory, "%.*s", (int)(slash - p->path) + 1, p->path);
    UNINTERRUPTED(p->directory, open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (p->directory < 0)
        return errno;
    struct stat status;
    p->exists = fstatat(p->directory, p->name, &status, AT_SYMLINK_NOFOLLOW) == 0;
    int number = errno == ENOENT ? 0 : errno;
    p->mode = 0666;
    if (p->exists) {
        p->mode = status.st_mode, p->owner = status.st_uid, p->group = status.st_gid;
        number = check_replaceable(p);
    }
    p->mode &= 0777;
    if (number)
        close(p->directory);
    return number;
}

/* Whether the temporary name still belongs to this open file. */
static int is_temp(const place *p, int file) {
    struct stat mine, named;
    return fstat(file, &mine) == 0 && fstatat(p->directory, p->temp, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

/* Whether the file is one that a writer began: not another file that happens to have the temporary name. */
static int is_begun(const place *p, int file) {
    struct stat status;
    char start[MBP_DISK_START];
    if (fstat(file, &status) < 0 || !S_ISREG(status.st_mode))
        return 0;
    const size_t count = status.st_size < MBP_DISK_START ? (size_t)status.st_size : MBP_DISK_START;
    return read_all(file, start, count) == 0 && p->begun(start, count);
}

/* Removes the file that a killed writer left under the temporary name. A lock ends with its process: if we get it,
 * no process is writing the file. Only the owner of the lock removes the file. */
static void remove_stale(const place *p) {
    int file = openat(p->directory, p->temp, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file < 0)
        return;
    if (flock(file, LOCK_EX | LOCK_NB) == 0 && is_temp(p, file) && is_begun(p, file))
        unlinkat(p->directory, p->temp, 0);
    close(file);
}

/* Creates and locks the temporary file; returns -1 and sets errno if it cannot. Each name is tried twice: the first
 * try may find and remove a stale file, and the second then creates a new one. */
static int create_temp(place *p) {
    for (int i = 0; i < 2 * NAMES; i++) {
        snprintf(p->temp, sizeof p->temp, ".%.*s.microbp-%d.tmp", NAME_MAX - AROUND, p->name, i / 2);
        int file;
        UNINTERRUPTED(file, openat(p->directory, p->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, p->mode));
        if (file < 0 && errno != EEXIST)
            return -1;
        if (file < 0) {
            remove_stale(p);
            continue;
        }
        /* On a file system without locks, other processes cannot lock the file either, so they do not remove it. */
        int locked = flock(file, LOCK_EX | LOCK_NB);
        if ((locked == 0 || errno != EWOULDBLOCK) && is_temp(p, file))
            return file;
        /* Another writer found the file before we locked it, considered it stale, and removes it. */
        close(file);
    }
    errno = EEXIST;
    return -1;
}

/* Returns 0, or an errno. */
static int write_all(int file, const char *bytes, size_t size) {
    for (ssize_t done; size; bytes += done, size -= (size_t)done) {
        UNINTERRUPTED(done, write(file, bytes, size < CHUNK ? size : CHUNK));
        if (done < 0)
            return errno;
    }
    int synced;
    UNINTERRUPTED(synced, fsync(file));
    return synced < 0 ? errno : 0;
}

static int write_place(place *p, const char *bytes, size_t size) {
    int file = create_temp(p);
    if (file < 0)
        return errno;
    if (p->exists) {
        /* These may fail: only root may give a file away, and a file system may have no owners or permissions. fchown
         * comes first, because it may take permissions away. */
        if (fchown(file, p->owner, p->group) < 0 && fchown(file, (uid_t)-1, p->group) < 0)
            errno = 0;
        (void)fchmod(file, p->mode);
    }
    int number = write_all(file, bytes, size);
    if (!number && renameat(p->directory, p->temp, p->directory, p->name) < 0)
        number = errno;
    if (number)
        unlinkat(p->directory, p->temp, 0);
    /* After the rename, because close releases the lock. Errors of close can be ignored: fsync has reported them. */
    close(file);
    return number;
}

mbp_status mbp_disk_write(const char *path, const char *bytes, size_t size, mbp_disk_begun *begun, mbp_error *error) {
    place p = {.begun = begun};
    int number = find_place(&p, path);
    if (number)
        return disk_failed(error, "write", path, number);
    number = write_place(&p, bytes, size);
    if (number) {
        close(p.directory);
        return disk_failed(error, "write", path, number);
    }
    int synced;
    UNINTERRUPTED(synced, fsync(p.directory));
    /* EINVAL: this file system cannot sync a directory. */
    number = synced < 0 && errno != EINVAL ? errno : 0;
    close(p.directory);
    if (number)
        return disk_failed(error, "sync the directory of the written file", path, number);
    return MBP_OK;
}
#endif
