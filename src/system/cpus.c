/* Floor 1: how many processors this process may use. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "config/config.h"
#include "microbp.h"

#if MICROBP_THREADS
#include <unistd.h>

#ifdef __linux__
#include <fcntl.h>
#include <sched.h>
#include <string.h>

#include "system/text.h"

enum { PATH_SIZE = 512, LISTING_SIZE = 8192 };

static int affinity(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
}

/* Reads the start of a file into text; returns 0 if the file cannot be read or is empty. */
static int read_text(const char *path, char *text, size_t size) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t length = file < 0 ? -1 : read(file, text, size - 1);
    if (file >= 0)
        close(file);
    text[length > 0 ? length : 0] = 0;
    return length > 0;
}

/* The positive number at the start of a text, before a blank or the end of the line; 0 for other texts ("max",
 * "-1"). */
static int64_t number_of(const char *text) {
    int64_t value = 0;
    return mbp_parse_integer((mbp_slice){text, strcspn(text, " \n")}, &value) && value > 0 ? value : 0;
}

/* The path made of its three parts, or "" if it is too long. */
static const char *join(char path[PATH_SIZE], const char *mount, const char *group, size_t length, const char *file) {
    const size_t a = strlen(mount), b = strlen(file);
    path[0] = 0;
    if (a + length + b < PATH_SIZE) {
        memcpy(path, mount, a);
        memcpy(path + a, group, length);
        memcpy(path + a + length, file, b + 1);
    }
    return path;
}

/* The quota of one control group in processors, rounded up; 0 if it has no quota. Version 2 of control groups has
 * "QUOTA PERIOD" in one file, version 1 has two files. */
static int64_t group_quota(const char *mount, const char *group, size_t length, int version) {
    char path[PATH_SIZE], text[64];
    if (!read_text(join(path, mount, group, length, version == 2 ? "/cpu.max" : "/cpu.cfs_quota_us"), text,
                   sizeof text))
        return 0;
    const int64_t quota = number_of(text);
    if (version == 2)
        memmove(text, text + strcspn(text, " "), strlen(text + strcspn(text, " ")) + 1);
    else
        read_text(join(path, mount, group, length, "/cpu.cfs_period_us"), text, sizeof text);
    const int64_t period = number_of(text + strspn(text, " "));
    return quota && period ? (quota + period - 1) / period : 0;
}

/* The smallest quota of a group and its parents up to the mount; 0 if none has one. In a container the group's path
 * may not exist below the mount: the mount itself is the group then. */
static int64_t least_quota(const char *mount, const char *group, size_t length, int version) {
    int64_t least = 0;
    for (;;) {
        const int64_t quota = group_quota(mount, group, length, version);
        least = quota && (!least || quota < least) ? quota : least;
        if (length == 0)
            return least;
        while (length > 0 && group[--length] != '/') {
        }
    }
}

/* Whether "cpu" is one of the comma-separated words before the colon. */
static int names_cpu(const char *words) {
    for (; *words && *words != ':'; words += strcspn(words, ",:") + (words[strcspn(words, ",:")] == ','))
        if (strncmp(words, "cpu", 3) == 0 && (words[3] == ',' || words[3] == ':'))
            return 1;
    return 0;
}

/* The smallest quota that applies to this process; 0 if there is none. The lines of /proc/self/cgroup are
 * NUMBER:CONTROLLERS:GROUP; CONTROLLERS is empty for version 2. */
static int64_t quota(void) {
    char listing[LISTING_SIZE];
    int64_t least = 0;
    if (!read_text("/proc/self/cgroup", listing, sizeof listing))
        return 0;
    for (const char *line = listing; *line; line += strcspn(line, "\n") + (line[strcspn(line, "\n")] == '\n')) {
        const char *controllers = strchr(line, ':');
        const char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        const size_t length = strcspn(group + 1, "\n");
        int64_t found = 0;
        if (controllers + 1 == group)
            found = least_quota("/sys/fs/cgroup", group + 1, length, 2);
        else if (names_cpu(controllers + 1))
            found = least_quota("/sys/fs/cgroup/cpu", group + 1, length, 1);
        least = found && (!least || found < least) ? found : least;
    }
    return least;
}
#else
static int affinity(void) { return 0; }
static int64_t quota(void) { return 0; }
#endif

int mbp_cpus(void) {
    const int64_t allowed = affinity(), share = quota();
    const int64_t online = allowed > 0 ? allowed : (int64_t)sysconf(_SC_NPROCESSORS_ONLN);
    const int64_t cpus = share && share < online ? share : online;
    return cpus < 1 ? 1 : cpus > 4096 ? 4096 : (int)cpus;
}
#else
int mbp_cpus(void) { return 1; }
#endif
