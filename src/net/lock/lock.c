#include "net/lock/lock.h"

#include "system/text.h"

mbp_status mbp_lock_fail_busy(mbp_error *error) {
    return mbp_fail(error, MBP_BUSY,
                    "the network is in use by another thread: wait until its call returns, or use one network per "
                    "thread");
}

mbp_status mbp_lock_fail_guest(mbp_error *error) {
    return mbp_fail(error, MBP_BUSY,
                    "training is not possible inside a function that a training call has called: return from it "
                    "first");
}

mbp_status mbp_settle(mbp_lock *lock, mbp_late **list, mbp_error *error) {
    if (!mbp_lock_take(lock))
        return mbp_lock_fail_busy(error);
    for (mbp_late *late = *list; late; late = *list) {
        MBP_PUT(list, late->next);
        late->is_listed = 0;
        late->settle(late);
    }
    mbp_lock_give(lock);
    return MBP_OK;
}

#if MICROBP_THREADS
#include <sched.h>
#include <time.h>

void mbp_lock_after_fork(mbp_lock *lock) {
    if (atomic_load(&lock->owner) != mbp_this_thread()) {
        lock->depth = lock->guests = 0;
        atomic_store(&lock->owner, 0);
    }
    atomic_store(&lock->gate, 0);
}

/* ---- waiting at the gate ---- */

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Those inside need microseconds (an update of a small net) to seconds (a prediction of many rows), and perhaps this
 * processor: looks a few times, then gives the processor away, then sleeps. */
enum { SPINS = 200, YIELDS = 50, SLEEP_NS = 50000 };

static void wait_a_little(int *waits) {
    if (*waits < SPINS)
        pause_briefly();
    else if (*waits < SPINS + YIELDS)
        sched_yield();
    else
        nanosleep(&(struct timespec){.tv_nsec = SLEEP_NS}, NULL);
    *waits += *waits < SPINS + YIELDS;
}

void mbp_lock_wait(mbp_lock *lock) {
    int waits = 0;
    while (!mbp_lock_take(lock))
        wait_a_little(&waits);
}

void mbp_gate_wait_shared(mbp_lock *lock) {
    int waits = 0;
    for (;;) {
        unsigned gate = atomic_load_explicit(&lock->gate, memory_order_relaxed);
        if (gate & MBP_GATE_ALONE)
            wait_a_little(&waits);
        else if (atomic_compare_exchange_weak_explicit(&lock->gate, &gate, gate + 1, memory_order_acquire,
                                                       memory_order_relaxed))
            return;
    }
}

/* The flag keeps new readers out; then the readers inside leave. */
void mbp_gate_wait_alone(mbp_lock *lock) {
    int waits = 0;
    atomic_fetch_or_explicit(&lock->gate, MBP_GATE_ALONE, memory_order_relaxed);
    while (atomic_load_explicit(&lock->gate, memory_order_acquire) != MBP_GATE_ALONE)
        wait_a_little(&waits);
}
#endif
