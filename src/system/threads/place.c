#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE // sched_getcpu, pthread_setaffinity_np
#endif
#include "system/threads/place.h"

#if defined(__linux__) && !defined(__ANDROID__)
#include <sched.h>

int mbp_this_cpu(void) { return sched_getcpu(); }

int mbp_may_spread(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) || CPU_COUNT(&set) > 1;
}

/* Takes cpu out of the thread's set; returns 0 if the set would be empty. Sets have room for 1024 processors; the
 * system refuses to read a larger one. */
static int take_out(int cpu, pthread_t thread, cpu_set_t *before) {
    if (cpu < 0 || cpu >= CPU_SETSIZE || pthread_getaffinity_np(thread, sizeof *before, before))
        return 0;
    cpu_set_t others = *before;
    CPU_CLR((size_t)cpu, &others);
    return CPU_COUNT(&others) > 0 && pthread_setaffinity_np(thread, sizeof others, &others) == 0;
}

int mbp_keep_off(int cpu, pthread_t thread, pthread_cond_t *wake) {
    cpu_set_t before;
    const int is_out = take_out(cpu, thread, &before);
    if (wake)
        pthread_cond_signal(wake);
    if (is_out)
        pthread_setaffinity_np(thread, sizeof before, &before);
    return is_out;
}
#else
int mbp_this_cpu(void) { return -1; }
int mbp_may_spread(void) { return 1; }

int mbp_keep_off(int cpu, pthread_t thread, pthread_cond_t *wake) {
    (void)cpu, (void)thread;
    if (wake)
        pthread_cond_signal(wake);
    return 0;
}
#endif
