/* Floor 2: the ticket of a region, one 64-bit word with everything that a thread needs to claim a piece: generation (24
 * bits), threads (8), the end of the pieces that are left (16), the first of them (16). The caller claims the first
 * piece, the other threads the last one. */
#ifndef MBP_TICKET_H
#define MBP_TICKET_H

#include <stdint.h>

typedef uint64_t ticket;

static inline ticket ticket_make(uint64_t generation, int threads, int pieces) {
    return generation << 40 | (uint64_t)threads << 32 | (uint64_t)pieces << 16;
}
static inline int ticket_threads(ticket t) { return (int)(t >> 32 & 0xff); }
static inline int ticket_end(ticket t) { return (int)(t >> 16 & 0xffff); }
static inline int ticket_first(ticket t) { return (int)(t & 0xffff); }
/* Whether a piece is left for this thread. */
static inline int ticket_offers(ticket t, int thread) {
    return thread < ticket_threads(t) && ticket_first(t) < ticket_end(t);
}

/* The ticket after the thread has claimed a piece, and the number of that piece. */
static inline ticket ticket_claim(ticket t, int thread, int *piece) {
    *piece = thread ? ticket_end(t) - 1 : ticket_first(t);
    return thread ? t - (1 << 16) : t + 1;
}

#endif
