/* Floor 2: time that goes by. */
#ifndef MBP_CLOCK_H
#define MBP_CLOCK_H

#include "microbp.h"

/* Nanoseconds since some moment. A build without threads needs no operating system, and has no clock. */
int64_t mbp_clock(void);

#endif
