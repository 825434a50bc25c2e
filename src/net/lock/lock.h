/* Floor 2: who may use a net at a time.
 *
 * The lock: calls that change a net or a trainer of it, or need a steady state, hold the net from beginning to end. It
 * remembers its thread, which may hold it several times; another thread is refused.
 *
 * The gate: predictions and saves only read parameters, buffers, settings and notes. They pass it together, beside a
 * training too. What writes these values holds the lock and passes the gate alone, so readers see the state between two
 * steps. Behind the gate no function of the user runs. */
#ifndef MBP_LOCK_H
#define MBP_LOCK_H

#include "config/config.h"
#include "microbp.h"

#if MICROBP_THREADS
#include <pthread.h>
#include <stdatomic.h>

typedef struct mbp_lock {
    _Atomic uintptr_t owner; /* the thread that holds it; 0: none */
    int depth;               /* how many times; only the owner uses it */
    int guests;              /* how many functions of the user run inside training calls; only the owner uses it */
    atomic_uint gate;        /* the number of readers, and MBP_GATE_ALONE: a writer is inside or waits */
} mbp_lock;

enum { MBP_GATE_ALONE = 1 << 30 };

/* Never 0: the address of the thread's structure in glibc, musl and macOS. */
static inline uintptr_t mbp_this_thread(void) { return (uintptr_t)pthread_self(); }

/* Returns 0 if another thread holds the lock. */
static inline int mbp_lock_take(mbp_lock *lock) {
    const uintptr_t self = mbp_this_thread();
    uintptr_t owner = atomic_load_explicit(&lock->owner, memory_order_relaxed);
    if (owner == self)
        return ++lock->depth;
    if (owner || !atomic_compare_exchange_strong_explicit(&lock->owner, &owner, self, memory_order_acquire,
                                                          memory_order_relaxed))
        return 0;
    return lock->depth = 1;
}

static inline void mbp_lock_give(mbp_lock *lock) {
    if (--lock->depth == 0)
        atomic_store_explicit(&lock->owner, 0, memory_order_release);
}

/* Takes the lock when other threads give it. */
void mbp_lock_wait(mbp_lock *lock);

static inline int mbp_lock_is_mine(const mbp_lock *lock) {
    return atomic_load_explicit(&lock->owner, memory_order_relaxed) == mbp_this_thread();
}

/* After fork, in the child: forgets the threads of the parent, except the one that called fork. */
void mbp_lock_after_fork(mbp_lock *lock);

/* ---- the gate ---- */

/* The slow parts: wait until no writer, or no reader, is inside. */
void mbp_gate_wait_shared(mbp_lock *lock);
void mbp_gate_wait_alone(mbp_lock *lock);

static inline void mbp_gate_enter(mbp_lock *lock) {
    unsigned gate = atomic_load_explicit(&lock->gate, memory_order_relaxed);
    if (gate & MBP_GATE_ALONE || !atomic_compare_exchange_strong_explicit(&lock->gate, &gate, gate + 1,
                                                                          memory_order_acquire, memory_order_relaxed))
        mbp_gate_wait_shared(lock);
}
static inline void mbp_gate_leave(mbp_lock *lock) { atomic_fetch_sub_explicit(&lock->gate, 1, memory_order_release); }

/* Only for the thread that holds the lock, and once at a time. */
static inline void mbp_gate_enter_alone(mbp_lock *lock) {
    unsigned none = 0;
    if (!atomic_compare_exchange_strong_explicit(&lock->gate, &none, MBP_GATE_ALONE, memory_order_acquire,
                                                 memory_order_relaxed))
        mbp_gate_wait_alone(lock);
}
/* No reader changes the gate while a writer is inside. */
static inline void mbp_gate_leave_alone(mbp_lock *lock) { atomic_store_explicit(&lock->gate, 0, memory_order_release); }

/* ---- single numbers that any thread may read at any time, while the owner of the lock changes them ---- */

static inline void mbp_put_number(double *at, double value) { __atomic_store(at, &value, __ATOMIC_RELAXED); }
static inline double mbp_see_number(const double *at) {
    double value;
    __atomic_load(at, &value, __ATOMIC_RELAXED);
    return value;
}
#define MBP_PUT(at, value) __atomic_store_n(at, value, __ATOMIC_RELAXED)
#define MBP_SEE(at) __atomic_load_n(at, __ATOMIC_RELAXED)

/* Adds to a count; returns the new count. */
static inline int mbp_count(int *at, int by) { return __atomic_add_fetch(at, by, __ATOMIC_ACQ_REL); }
static inline size_t mbp_sum(size_t *at, size_t by) { return __atomic_add_fetch(at, by, __ATOMIC_RELAXED); }

/* ---- pointers that one thread leaves for another. replace: returns 0 if *at was not `expected` ---- */

static inline void *mbp_look(void *const *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
static inline void mbp_pass_on(void **at, void *value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }
static inline void *mbp_exchange(void **at, void *value) { return __atomic_exchange_n(at, value, __ATOMIC_ACQUIRE); }
static inline int mbp_replace(void **at, void *expected, void *value) {
    return __atomic_compare_exchange_n(at, &expected, value, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

#else /* one thread: no atomic operations, which small processors have no instructions for */

typedef struct mbp_lock {
    int depth, guests;
} mbp_lock;

static inline int mbp_lock_take(mbp_lock *lock) { return ++lock->depth; }
static inline void mbp_lock_give(mbp_lock *lock) { lock->depth--; }
static inline void mbp_lock_wait(mbp_lock *lock) { (void)mbp_lock_take(lock); }
static inline int mbp_lock_is_mine(const mbp_lock *lock) { return lock->depth > 0; }
static inline void mbp_lock_after_fork(mbp_lock *lock) { (void)lock; }
static inline void mbp_gate_enter(mbp_lock *lock) { (void)lock; }
static inline void mbp_gate_leave(mbp_lock *lock) { (void)lock; }
static inline void mbp_gate_enter_alone(mbp_lock *lock) { (void)lock; }
static inline void mbp_gate_leave_alone(mbp_lock *lock) { (void)lock; }
static inline void mbp_put_number(double *at, double value) { *at = value; }
static inline double mbp_see_number(const double *at) { return *at; }
#define MBP_PUT(at, value) (*(at) = (value))
#define MBP_SEE(at) (*(at))
static inline int mbp_count(int *at, int by) { return *at += by; }
static inline size_t mbp_sum(size_t *at, size_t by) { return *at += by; }
static inline void *mbp_look(void *const *at) { return *at; }
static inline void mbp_pass_on(void **at, void *value) { *at = value; }
static inline void *mbp_exchange(void **at, void *value) {
    void *before = *at;
    *at = value;
    return before;
}
static inline int mbp_replace(void **at, void *expected, void *value) {
    const int is_expected = *at == expected;
    if (is_expected)
        *at = value;
    return is_expected;
}
#endif

/* ---- what the holder of the lock has put off ---- */

/* A trainer that has not brought all rows up to date (train/sparse). */
typedef struct mbp_late {
    struct mbp_late *next;
    int is_listed;
    void (*settle)(struct mbp_late *late); /* brings them up to date; the lock is held */
} mbp_late;

/* Takes the lock, settles all of the list, and gives the lock. Fails with MBP_BUSY if another thread holds it. */
mbp_status mbp_settle(mbp_lock *lock, mbp_late **list, mbp_error *error);

/* Fails with MBP_BUSY. busy: another thread holds the net. guest: training inside a function that a training calls. */
mbp_status mbp_lock_fail_busy(mbp_error *error);
mbp_status mbp_lock_fail_guest(mbp_error *error);

#endif
