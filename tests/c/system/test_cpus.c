/* The number of processors that a process may use: its affinity, and the quotas of control groups, which are read from
 * files made for the test. */
#define _GNU_SOURCE // sched_setaffinity
#include "api.h"

#ifdef __linux__
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/stat.h>

static char root[64];

static int open_in_tree(const char *path, int flags) {
    char inside[700];
    snprintf(inside, sizeof inside, "%s%s", root, path);
    return open(inside, flags);
}

#define open open_in_tree
#define mbp_cpus cpus_of_tree
int cpus_of_tree(void);
#include "system/cpus.c"
#undef open
#undef mbp_cpus

static void run(const char *format, ...) {
    char command[1000];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    if (system(command))
        exit(2);
}

/* group: the text of /proc/self/cgroup. Then two files of the tree with their texts; NULL: no file. */
typedef struct tree {
    const char *group, *file, *text, *second_file, *second_text;
    int quota;
} tree;

#define V1 "/sys/fs/cgroup/cpu"
static const tree trees[] = {
    {"", NULL, NULL, NULL, NULL, 0},
    {"0::/\\n", "/sys/fs/cgroup/cpu.max", "300000 100000\\n", NULL, NULL, 3},
    {"0::/\\n", "/sys/fs/cgroup/cpu.max", "max 100000\\n", NULL, NULL, 0},
    {"0::/a/b\\n", "/sys/fs/cgroup/a/b/cpu.max", "250000 100000\\n", NULL, NULL, 3},
    {"0::/a/b\\n", "/sys/fs/cgroup/a/b/cpu.max", "max 100000\\n", "/sys/fs/cgroup/a/cpu.max", "1000 100000\\n", 1},
    {"0::/a/b\\n", "/sys/fs/cgroup/a/b/cpu.max", "200000 100000\\n", "/sys/fs/cgroup/a/cpu.max", "500000 100000\\n", 2},
    {"0::/not/here\\n", "/sys/fs/cgroup/cpu.max", "200000 100000\\n", NULL, NULL, 2},
    {"0::/a\\n", "/sys/fs/cgroup/a/cpu.max", "nonsense\\n", NULL, NULL, 0},
    {"0::/a\\n", "/sys/fs/cgroup/a/cpu.max", "200000 0\\n", NULL, NULL, 0},
    {"5:memory:/m\\n3:cpu,cpuacct:/c\\n0::/\\n", V1 "/c/cpu.cfs_quota_us", "150000\\n", V1 "/c/cpu.cfs_period_us",
     "50000\\n", 3},
    {"3:cpuacct,cpu:/c\\n", V1 "/cpu.cfs_quota_us", "100000\\n", V1 "/cpu.cfs_period_us", "100000\\n", 1},
    {"3:cpu:/c\\n", V1 "/c/cpu.cfs_quota_us", "-1\\n", V1 "/c/cpu.cfs_period_us", "100000\\n", 0},
    {"3:cpuset:/c\\n", V1 "/c/cpu.cfs_quota_us", "100000\\n", V1 "/c/cpu.cfs_period_us", "100000\\n", 0},
    {"3:cpuset\\nno colon at all\\n", V1 "/cpu.cfs_quota_us", "100000\\n", V1 "/cpu.cfs_period_us", "100000\\n", 0},
};

static void write_file(const char *file, const char *text) {
    if (file)
        run("mkdir -p \"$(dirname '%s%s')\" && printf '%%b' '%s' > '%s%s'", root, file, text, root, file);
}

static void test_quotas(void) {
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
        snprintf(root, sizeof root, "/tmp/microbp_cpus_XXXXXX");
        if (!mkdtemp(root))
            exit(2);
        write_file("/proc/self/cgroup", trees[i].group);
        write_file(trees[i].file, trees[i].text);
        write_file(trees[i].second_file, trees[i].second_text);
        CHECK(quota() == trees[i].quota, "tree %zu: a quota of %d, not %d", i, (int)quota(), trees[i].quota);
        const int allowed = affinity(),
                  expected = trees[i].quota && trees[i].quota < allowed ? trees[i].quota : allowed;
        CHECK(cpus_of_tree() == expected, "tree %zu: %d processors, not %d", i, cpus_of_tree(), expected);
        run("rm -r '%s'", root);
    }
}

static void test_affinity(void) {
    cpu_set_t before, one;
    CHECK(sched_getaffinity(0, sizeof before, &before) == 0 && mbp_cpus() <= CPU_COUNT(&before),
          "more processors than the affinity mask has");
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &before))
            CPU_SET(i, &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0 && mbp_cpus() == 1, "%d processors instead of one", mbp_cpus());
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 0, NULL, &error));
    CHECK(mbp_pool_threads(pool) == 1, "a pool of %d threads on one processor", mbp_pool_threads(pool));
    mbp_pool_free(pool);
    sched_setaffinity(0, sizeof before, &before);
}
#else
static void test_quotas(void) {}
static void test_affinity(void) {}
#endif

int main(void) {
    CHECK(mbp_cpus() >= 1, "%d processors", mbp_cpus());
    test_quotas();
    test_affinity();
    return report("cpus");
}
