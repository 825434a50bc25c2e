/* Floor 0: the processor's floating-point state. Whatever the library computes, it computes in a state of its own: rounding to nearest,
 * nothing trapped, subnormals kept or flushed as the caller here says. On return the state, flags included, is as before. Compilers
 * move arithmetic across writes of the state, so what is computed between enter and leave is a call that is not inlined. */
#ifndef MBP_FLOATS_H
#define MBP_FLOATS_H

#include "microbp.h"

typedef uint64_t mbp_float_state;
enum { MBP_KEEP_SUBNORMALS = 0, MBP_FLUSH_SUBNORMALS = 1 };

/* Returns the state before. */
mbp_float_state mbp_float_enter(int subnormals);
void mbp_float_leave(mbp_float_state before);

/* work(argument) with subnormals flushed: they slow an update tenfold. */
mbp_status mbp_with_flush_to_zero(mbp_status (*work)(void *), void *argument);

#define MBP_APART __attribute__((noinline)) /* a function that computes between enter and leave */

#endif
