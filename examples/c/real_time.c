/* A controller that learns while it runs: all memory comes from one array, and the loop allocates nothing. */
#include <math.h>
#include <microbp.h>
#include <stdio.h>

static _Alignas(64) char memory[16 << 10];
static size_t used;
static void *allocate(void *user, size_t bytes, size_t alignment) {
    (void)user;
    const size_t start = (used + alignment - 1) / alignment * alignment;
    return start + bytes <= sizeof memory ? used = start + bytes, memory + start : NULL;
}
static void release(void *user, void *block, size_t bytes) { (void)user, (void)block, (void)bytes; }

int main(void) {
    const mbp_allocator arena = {allocate, release, NULL};
    const mbp_options options = {.size = sizeof options, .allocator = &arena};
    float sensor[4] = {0}, next = 0, predicted = 0;
    mbp_array in = mbp_row(sensor, 4), target = mbp_row(&next, 1), out = mbp_row(&predicted, 1);
    mbp_batch row = mbp_batch_of(&in, &target);
    mbp_net *net = NULL;
    mbp_trainer *trainer = NULL;
    mbp_error error;
    double loss, mean = 0;
    if (mbp_net_create(&net, "input 4\ndense 0 units=8 activation=tanh\ndense 1 units=1\noutput 2\n", &options,
                       &error) ||
        mbp_trainer_create(&trainer, net, (const char *[]){"mse"}, NULL, 1, "rmsprop(lr=0.001)", &error) ||
        mbp_net_reserve(net, 1, &error) || mbp_trainer_reserve(trainer, 1, &error))
        return puts(error.text), 1;
    for (int tick = 0; tick < 20000; tick++) { /* predicts the next value of a wave from the last four */
        next = sinf(0.1f * (float)tick);
        mbp_net_predict(net, &in, 1, &out, 1, 0, -1, NULL);
        mean += ((predicted - next) * (predicted - next) - mean) / (tick < 1000 ? tick + 1 : 1000);
        if (mbp_trainer_step(trainer, &row, &loss, &error))
            return puts(error.text), 1;
        sensor[0] = sensor[1], sensor[1] = sensor[2], sensor[2] = sensor[3], sensor[3] = next;
    }
    printf("mean squared error %.5f; %d KB of memory\n", mean, (int)(used >> 10));
}
