#include "system/floats.h"

#if defined(__SSE__)
#include <xmmintrin.h>
enum { STANDARD = 0x1f80, FLUSH = 0x8040 }; /* MXCSR: all exceptions masked; FTZ | DAZ */
static mbp_float_state read_state(void) { return _mm_getcsr(); }
static void write_state(mbp_float_state state) { _mm_setcsr((unsigned int)state); }
#elif defined(__aarch64__)
enum { STANDARD = 0, FLUSH = 1 << 24 }; /* FPCR: FZ. The state is FPCR, with the flags of FPSR in the upper half */
static mbp_float_state read_state(void) {
    mbp_float_state control, flags;
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(control), "=r"(flags));
    return control | flags << 32;
}
static void write_state(mbp_float_state state) {
    __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(state & 0xffffffff), "r"(state >> 32));
}
#elif defined(__arm__) && defined(__ARM_FP)
enum { STANDARD = 0, FLUSH = 1 << 24 }; /* FPSCR: FZ */
static mbp_float_state read_state(void) {
    uint32_t state;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(state));
    return state;
}
static void write_state(mbp_float_state state) { __asm__ volatile("vmsr fpscr, %0" : : "r"((uint32_t)state)); }
#else /* nothing that can be set: subnormals are kept */
enum { STANDARD = 0, FLUSH = 0 };
static mbp_float_state read_state(void) { return 0; }
static void write_state(mbp_float_state state) { (void)state; }
#endif

mbp_float_state mbp_float_enter(int subnormals) {
    const mbp_float_state before = read_state();
    write_state(subnormals == MBP_FLUSH_SUBNORMALS ? STANDARD | FLUSH : STANDARD);
    return before;
}

void mbp_float_leave(mbp_float_state before) { write_state(before); }
