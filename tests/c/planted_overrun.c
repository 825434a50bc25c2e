/* Planted errors for a build with sanitizers, to check that they are found. A run without argument must pass; every
 * other run must fail.
 *     planted_overrun [write | read | leak | overflow | cast] */
#include "api.h"

static void *allocate_exactly(void *user, size_t bytes, size_t alignment) {
    void *block = NULL; /* aligned_alloc accepts only multiples of the alignment, and ASan checks that */
    (void)user;
    return posix_memalign(&block, alignment, bytes) == 0 ? block : NULL;
}

static void release(void *user, void *block, size_t bytes) {
    (void)user, (void)bytes;
    free(block);
}

int main(int count, char **arguments) {
    const char *error = count > 1 ? arguments[1] : "";
    const mbp_allocator allocator = {allocate_exactly, release, NULL};
    mbp_net *net = net_new("input 15\ndense 0 units=1\noutput 1\n",
                           OPTIONS(.allocator = &allocator)); /* 16 parameters, then 64 bytes */
    float *params = mbp_net_params(net, NULL);
    volatile int64_t end = 16 + 64 / sizeof *params;
    volatile int largest = INT32_MAX;
    volatile double large = 1e10;
    if (strcmp(error, "write") == 0)
        params[end] = 1;
    if (strcmp(error, "read") == 0)
        printf("%g\n", (double)params[end]);
    if (strcmp(error, "overflow") == 0)
        printf("%d\n", largest + 1);
    if (strcmp(error, "cast") == 0)
        printf("%d\n", (int)large);
    if (strcmp(error, "leak") != 0)
        mbp_net_free(net);
    net = NULL, params = NULL;
    return 0;
}
