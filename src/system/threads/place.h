/* Floor 2: on which processor a thread runs, and how another one is found for it. A thread always keeps to the set of
 * processors that it may use. Where the system has no such functions, nothing moves. */
#ifndef MBP_PLACE_H
#define MBP_PLACE_H

#include <pthread.h>

/* The number of the processor that this thread runs on, or -1 if unknown. */
int mbp_this_cpu(void);

/* Whether the calling thread, and the threads that it starts, may use more than one processor; 1 if unknown. */
int mbp_may_spread(void);

/* Takes processor `cpu` out of a thread's set of processors for a moment: a thread that runs on it moves to another
 * one, and a thread that sleeps and is woken by the signal to `wake` (NULL: none) starts on another one. Returns 0 if
 * the thread may use no other processor. */
int mbp_keep_off(int cpu, pthread_t thread, pthread_cond_t *wake);

#endif
