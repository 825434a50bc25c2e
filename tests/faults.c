/* A library for LD_PRELOAD that knows the system calls of a save, writes them down, and lets the n-th of them go wrong, or all from the n-th
 * on. tests/faults.py arms it. */
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

enum { FAIL, FAIL_FOR_EVER, KILL, TEAR, SHORTEN }; /* tear: half of a write, then kill; shorten: half of a write */

static int armed, mode, number, nth, calls;
static char kind[16], seen[4096];

void fault_arm(const char *call, int which, int how, int error) {
    snprintf(kind, sizeof kind, "%s", call);
    nth = which, mode = how, number = error, calls = 0, armed = 1;
    *seen = 0;
}

/* The names of the calls since then. */
const char *fault_calls(void) {
    armed = 0;
    return seen;
}

/* Whether this call goes wrong. */
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
    return mode == FAIL_FOR_EVER ? calls >= nth : calls == nth;
}

static int fails(const char *call) {
    if (!meets(call) || mode > FAIL_FOR_EVER)
        return 0;
    errno = number;
    return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CALL(type, name, call, parameters, arguments) \
    type name parameters { return fails(call) ? -1 : NEXT(name) arguments; }

#define OPEN(name, call, parameters, ...)              \
    int name parameters {                              \
        va_list rest;                                  \
        va_start(rest, flags);                         \
        mode_t bits = va_arg(rest, mode_t);            \
        va_end(rest);                                  \
        return fails("open") ? -1 : NEXT(name)(__VA_ARGS__, flags, bits); \
    }
OPEN(open, "open", (const char *path, int flags, ...), path)
OPEN(open64, "open", (const char *path, int flags, ...), path)
OPEN(openat, "open", (int at, const char *path, int flags, ...), at, path)
OPEN(openat64, "open", (int at, const char *path, int flags, ...), at, path)

ssize_t write(int file, const void *bytes, size_t size) {
    const int met = meets("write");
    if (met && mode <= FAIL_FOR_EVER)
        return errno = number, -1;
    const ssize_t done = NEXT(write)(file, bytes, met && size > 1 ? size / 2 : size);
    if (met && mode == TEAR)
        kill(getpid(), SIGKILL);
    return done;
}

CALL(int, fsync, "fsync", (int file), (file))
int close(int file) { /* which gives the file up, whatever it answers */
    const int failed = fails("close"), error = errno, closed = NEXT(close)(file);
    errno = failed ? error : errno;
    return failed ? -1 : closed;
}

CALL(int, fchmod, "fchmod", (int file, mode_t bits), (file, bits))
CALL(int, flock, "flock", (int file, int operation), (file, operation))
CALL(int, rename, "rename", (const char *from, const char *to), (from, to))
CALL(int, renameat, "rename", (int a, const char *from, int b, const char *to), (a, from, b, to))
CALL(int, unlink, "unlink", (const char *path), (path))
CALL(int, unlinkat, "unlink", (int at, const char *path, int flags), (at, path, flags))
CALL(int, fstat, "stat", (int file, struct stat *status), (file, status))
CALL(int, fstat64, "stat", (int file, struct stat64 *status), (file, status))
CALL(int, stat, "stat", (const char *path, struct stat *status), (path, status))
CALL(int, stat64, "stat", (const char *path, struct stat64 *status), (path, status))
CALL(int, lstat, "stat", (const char *path, struct stat *status), (path, status))
CALL(int, lstat64, "stat", (const char *path, struct stat64 *status), (path, status))
CALL(int, fstatat, "stat", (int at, const char *path, struct stat *status, int flags), (at, path, status, flags))
CALL(int, fstatat64, "stat", (int at, const char *path, struct stat64 *status, int flags), (at, path, status, flags))
