/* A library for LD_PRELOAD that records the system calls of saves and loads. fault_arm, which faults.py calls, makes
 * the n-th call fail, or the n-th and all later ones. Changes of the disk are reported to the watcher of power_cuts.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FAIL,
    FAIL_FOREVER,
    KILL,
    TEAR,
    SHORTEN
}; /* tear: do half of a write, then kill the process; shorten: do half of a write or read */

/* data: the bytes of a write, or, if file is -1, the name of a file */
typedef void watcher(const char *call, int file, const void *data, ssize_t size, const char *to);

static watcher *watch;
static int armed, mode, number, nth, calls;
static char kind[16], seen[4096];

void fault_arm(const char *call, int which, int how, int error) {
    snprintf(kind, sizeof kind, "%s", call);
    nth = which, mode = how, number = error, calls = 0, armed = 1;
    *seen = 0;
}

/* The names of the calls since fault_arm. */
const char *fault_calls(void) {
    armed = 0;
    return seen;
}

void fault_watch(watcher *w) { watch = w; }

/* Counts and records a call; returns whether it must fail. */
static int meets(const char *call) {
    if (!armed)
        return 0;
    strncat(seen, call, sizeof seen - strlen(seen) - 2);
    strcat(seen, " ");
    if (*kind && strcmp(kind, call) != 0)
        return 0;
    calls++;
    if (calls == nth && mode == KILL)
        kill(getpid(), SIGKILL);
    return mode == FAIL_FOREVER ? calls >= nth : calls == nth;
}

static int fails(const char *call) {
    if (!meets(call) || mode > FAIL_FOREVER)
        return 0;
    errno = number;
    return 1;
}

/* Reports a successful call to the watcher; returns its result. */
static ssize_t report(ssize_t result, const char *call, int file, const void *data, const char *to) {
    if (watch && result >= 0)
        watch(call, file, data, result, to);
    return result;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CALL(type, name, call, parameters, arguments) \
    type name parameters { return fails(call) ? -1 : NEXT(name) arguments; }
#define CHANGE(name, call, parameters, arguments, file, data, to) \
    int name parameters { return fails(call) ? -1 : (int)report(NEXT(name) arguments, call, file, data, to); }

#define OPEN(name, call, parameters, ...) \
    int name parameters { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t bits = va_arg(rest, mode_t); \
        va_end(rest); \
        if (fails("open")) \
            return -1; \
        const int file = NEXT(name)(__VA_ARGS__, flags, bits); \
        return flags & O_CREAT ? (int)report(file, "create", file, NULL, NULL) : file; \
    }
OPEN(open, "open", (const char *path, int flags, ...), path)
OPEN(open64, "open", (const char *path, int flags, ...), path)
OPEN(openat, "open", (int at, const char *path, int flags, ...), at, path)
OPEN(openat64, "open", (int at, const char *path, int flags, ...), at, path)

/* How many of `size` bytes to read or write; -1 if the call must fail. */
static ssize_t part(const char *call, size_t size) {
    const int met = meets(call);
    if (met && mode <= FAIL_FOREVER)
        return errno = number, -1;
    return (ssize_t)(met && size > 1 ? size / 2 : size);
}

ssize_t read(int file, void *bytes, size_t size) {
    const ssize_t some = part("read", size);
    return some < 0 ? -1 : NEXT(read)(file, bytes, (size_t)some);
}

ssize_t write(int file, const void *bytes, size_t size) {
    const ssize_t some = part("write", size);
    const ssize_t done = some < 0 ? -1 : report(NEXT(write)(file, bytes, (size_t)some), "write", file, bytes, NULL);
    if (armed && mode == TEAR && calls == nth)
        kill(getpid(), SIGKILL);
    return done;
}

CHANGE(fsync, "fsync", (int file), (file), file, NULL, NULL)
int close(int file) { /* always closes the file, also if it reports a failure */
    const int failed = fails("close"), error = errno, closed = NEXT(close)(file);
    errno = failed ? error : errno;
    return failed ? -1 : closed;
}

CALL(int, fchmod, "fchmod", (int file, mode_t bits), (file, bits))
CALL(int, flock, "flock", (int file, int operation), (file, operation))
CHANGE(rename, "rename", (const char *from, const char *to), (from, to), -1, from, to)
CHANGE(renameat, "rename", (int a, const char *from, int b, const char *to), (a, from, b, to), -1, from, to)
CHANGE(unlink, "unlink", (const char *path), (path), -1, path, NULL)
CHANGE(unlinkat, "unlink", (int at, const char *path, int flags), (at, path, flags), -1, path, NULL)
CALL(int, fstat, "stat", (int file, struct stat *status), (file, status))
CALL(int, fstat64, "stat", (int file, struct stat64 *status), (file, status))
CALL(int, stat, "stat", (const char *path, struct stat *status), (path, status))
CALL(int, stat64, "stat", (const char *path, struct stat64 *status), (path, status))
CALL(int, lstat, "stat", (const char *path, struct stat *status), (path, status))
CALL(int, lstat64, "stat", (const char *path, struct stat64 *status), (path, status))
CALL(int, fstatat, "stat", (int at, const char *path, struct stat *status, int flags), (at, path, status, flags))
CALL(int, fstatat64, "stat", (int at, const char *path, struct stat64 *status, int flags), (at, path, status, flags))
