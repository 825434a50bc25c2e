/* Floor 1: the processor's floating-point state. The library computes in a state of its own: it rounds to nearest,
 * traps nothing, and keeps or flushes subnormals. mbp_float_leave restores the program's state, flags included.
 *
 * A compiler may move arithmetic across the two calls. So the arithmetic between them must be in a function that is
 * not inlined (MBP_APART). */
#ifndef MBP_FLOATS_H
#define MBP_FLOATS_H

#include "microbp.h"

typedef uint64_t mbp_float_state;
enum { MBP_KEEP_SUBNORMALS = 0, MBP_FLUSH_SUBNORMALS = 1 };

/* Sets the library's state and returns the one before. Flushing matters: an update with subnormals takes ten times as
 * long. */
mbp_float_state mbp_float_enter(int subnormals);
void mbp_float_leave(mbp_float_state before);

/* A function that is called between enter and leave. */
#define MBP_APART __attribute__((noinline))

#endif
