/* The start of a Cortex-M4: where the stack is, and a reset that turns on the floating-point unit. */
#include <stdint.h>

void _start(void); /* of newlib */

static void reset(void) {
    volatile uint32_t *const access = (volatile uint32_t *)0xE000ED88; /* CPACR: coprocessors 10 and 11 */
    *access |= UINT32_C(0xF) << 20;
    __asm__ volatile("dsb\n\tisb");
    _start();
}

__attribute__((section(".vectors"), used)) const struct {
    void *stack;
    void (*reset)(void);
} vectors = {(void *)0x20400000, reset};
