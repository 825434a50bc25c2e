/* A program for builds that leave code out: it makes a net, trains it if the build has trainers, predicts, and prints the
 * bits of the predictions. With a path, it reads the net from that file, or saves it there if it has trained it. DTYPE,
 * ACTIVATION, LOSS and OPTIMIZER are what the build has. LAST is the last line of the graph; WEIGHTS, JACOBIAN,
 * RANKS and SPARSE use extras that a build may not have. With SILENT it prints nothing, so that only the library needs
 * the C library. If a call fails, it exits with the status. */
#include "microbp.h"

#ifndef SILENT
#include <stdio.h>
#endif
#ifndef ACTIVATION
#define ACTIVATION tanh
#define LOSS mse
#define OPTIMIZER adam
#endif
#ifndef DTYPE
#define DTYPE F32
#endif
#ifndef LAST
#define LAST output 6
#endif
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define STRING_(x) #x
#define STRING(x) STRING_(x)

enum { ROWS = 9, INPUTS = 4, OUTPUTS = 2 };
typedef float number_F32;
typedef double number_F64;
typedef JOIN(number_, DTYPE) number;

static mbp_error error;
static const char graph[] = "input 4\n"
                            "dense 0 units=8 activation=" STRING(ACTIVATION) "\n"
                                                                             "dropout 1 rate=0.25\n"
                                                                             "noise 2 std=0.5\n"
                                                                             "batch_norm 3\n"
                                                                             "layer_norm 4\n"
                                                                             "dense 5 units=2\n" STRING(LAST) "\n";

static mbp_array array(const number *data, int64_t cols) {
    return mbp_contiguous(data, JOIN(MBP_, DTYPE), sizeof(number), ROWS, cols);
}

static int fail(void) {
#ifndef SILENT
    puts(error.text);
#endif
    return (int)error.status;
}

static mbp_status make(mbp_net **net, const char *path) {
    const mbp_options options = {.size = sizeof options, .dtype = JOIN(MBP_, DTYPE), .seed = 1};
#if defined(FILES) && !defined(TRAINING)
    (void)graph;
    return mbp_net_load(net, path, &options, &error);
#else
    (void)path;
    return mbp_net_create(net, graph, &options, &error);
#endif
}

#ifdef TRAINING
#ifdef SPARSE
static const int64_t no_values[ROWS + 1];
#endif

static mbp_status train(mbp_net *net, mbp_array *x) {
    static const number targets[ROWS * OUTPUTS] = {0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1};
    const mbp_array y = array(targets, OUTPUTS);
    mbp_batch batch = {.size = sizeof batch, .x = x, .n_x = 1, .y = &y, .n_y = 1};
#ifdef SPARSE
    x->indptr = no_values;
#endif
#ifdef WEIGHTS
    batch.element_weights = &y;
#endif
    const char *losses[] = {STRING(LOSS)};
    mbp_trainer *trainer;
    double loss;
    int64_t steps;
    mbp_status status = mbp_trainer_create(&trainer, net, losses, NULL, 1, STRING(OPTIMIZER), &error);
    if (status != MBP_OK)
        return status;
    status = mbp_trainer_set(trainer, "lr", 0.01, &error);
#ifdef RANKS
    if (status == MBP_OK)
        status = mbp_trainer_set_reduce(trainer, &(mbp_reduce){.size = sizeof(mbp_reduce)}, &error);
#endif
    for (int i = 0; i < 100 && status == MBP_OK; i++)
        status = mbp_trainer_step(trainer, &batch, &loss, &error);
    if (status == MBP_OK)
        status = mbp_trainer_epoch(trainer, &batch, NULL, ROWS, 3, NULL, NULL, NULL, &loss, &steps, &error);
    if (status == MBP_OK)
        status = mbp_trainer_evaluate(trainer, &batch, &loss, &error);
    mbp_trainer_free(trainer);
    return status;
}
#endif

int main(int count, char **arguments) {
    static number inputs[ROWS * INPUTS], predicted[ROWS * OUTPUTS];
    mbp_array x = array(inputs, INPUTS);
    const mbp_array out = array(predicted, OUTPUTS);
    const char *path = count > 1 ? arguments[1] : NULL;
    mbp_net *net;
    for (int i = 0; i < ROWS * INPUTS; i++)
        inputs[i] = (number)(i * 7 % 16) / 8 - 1;
    mbp_status status = make(&net, path);
    if (status != MBP_OK)
        return fail();
#ifdef TRAINING
    status = train(net, &x);
#ifdef JACOBIAN
    if (status == MBP_OK)
        status = mbp_net_jacobian(net, &x, 1, MBP_BY_INPUTS, -1, &out, 1, &error);
#endif
#ifdef FILES
    if (status == MBP_OK && path)
        status = mbp_net_save(net, path, &error);
#endif
#endif
    if (status == MBP_OK)
        status = mbp_net_predict(net, &x, 1, &out, 1, 0, -1, &error);
    if (status != MBP_OK)
        return fail();
#ifndef SILENT
    for (size_t i = 0; i < sizeof predicted; i++)
        printf("%02x", ((const unsigned char *)predicted)[i]);
    puts("");
#endif
    mbp_net_free(net);
    return 0;
}
