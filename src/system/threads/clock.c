#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE // clock_gettime
#endif
#include "system/threads/clock.h"

#include "config/config.h"

#if MICROBP_THREADS
#include <time.h>

int64_t mbp_clock(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * (int64_t)1000000000 + time.tv_nsec;
}
#endif
