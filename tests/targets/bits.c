/* Trains XOR, and one network after another until each activation, loss and optimizer has been used, and prints a
 * checksum of the trained parameters and of the predictions of each. Two builds whose lines are the same compute the same
 * bits. The first line names the kernels: bits [ISA]. */
#include "microbp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MOST = 40, INPUTS = 6, OUTPUTS = 3, STEPS = 4 };

static mbp_error error;

static void check(mbp_status status, const char *what) {
    if (status == MBP_OK)
        return;
    printf("%s: status %d, %s\n", what, (int)status, error.text);
    exit(1);
}

/* FNV-1a */
static uint64_t checksum(uint64_t sum, const void *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        sum = (sum ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
    return sum;
}

/* Prints a line. The checksum is printed in two parts, because small C libraries do not print long long. */
static void print(mbp_dtype dtype, const char *what, uint64_t sum) {
    printf("f%d %s %08lx%08lx\n", dtype == MBP_F64 ? 64 : 32, what, (unsigned long)(sum >> 32),
           (unsigned long)(sum & 0xffffffff));
}

static uint64_t checksum_net(mbp_net *net, const mbp_array *x, mbp_array *out) {
    const size_t item = mbp_net_dtype(net) == MBP_F64 ? sizeof(double) : sizeof(float);
    int64_t params, buffers;
    const void *vector = mbp_net_params(net, &params);
    uint64_t sum = checksum(UINT64_C(0xcbf29ce484222325), vector, (size_t)params * item);
    vector = mbp_net_buffers(net, &buffers);
    sum = checksum(sum, vector, (size_t)buffers * item);
    check(mbp_net_predict(net, x, 1, out, 1, 0, -1, &error), "predict");
    return checksum(sum, out->data, (size_t)(out->rows * out->cols) * item);
}

/* ---- data: multiples of 1/64 from -1 to 1 ---- */

static int draw(uint32_t *state) {
    *state = *state * 1664525 + 1013904223;
    return (int)(*state >> 24) % 129 - 64;
}

static void fill(mbp_array *array, void *data, uint32_t seed, double low, double high) {
    const int64_t count = array->rows * array->cols;
    for (int64_t i = 0; i < count; i++) {
        const double value = low + (high - low) * (draw(&seed) + 64) / 128;
        if (array->dtype == MBP_F64)
            ((double *)data)[i] = value;
        else
            ((float *)data)[i] = (float)value;
    }
}

/* ---- networks ---- */

static mbp_net *create(const char *graph, mbp_dtype dtype, const char *isa) {
    mbp_options options = {.size = sizeof options, .dtype = dtype, .seed = 7, .isa = isa};
    mbp_net *net = NULL;
    check(mbp_net_create(&net, graph, &options, &error), "create");
    return net;
}

/* Returns the loss before the last step. */
static double train(mbp_net *net, const char *loss_name, const char *optimizer, const mbp_batch *batch, int steps) {
    mbp_trainer *trainer = NULL;
    double loss = 0;
    check(mbp_trainer_create(&trainer, net, &loss_name, NULL, 1, optimizer, &error), "trainer");
    for (int i = 0; i < steps; i++)
        check(mbp_trainer_step(trainer, batch, &loss, &error), "step");
    mbp_trainer_free(trainer);
    return loss;
}

static void xor_net(mbp_dtype dtype, const char *isa) {
    static const char graph[] = "input 2\ndense 0 units=8 activation=tanh\ndense 1 units=1\noutput 2\n";
    static const double corners[4][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}}, answers[4] = {0, 1, 1, 0};
    double out[4];
    mbp_array x = mbp_f64(corners[0], 4, 2), y = mbp_f64(answers, 4, 1);
    mbp_array predicted = mbp_contiguous(out, dtype, dtype == MBP_F64 ? 8 : 4, 4, 1);
    mbp_batch batch = {.size = sizeof batch, .x = &x, .n_x = 1, .y = &y, .n_y = 1};
    mbp_net *net = create(graph, dtype, isa);
    const double loss = train(net, "bce", "adam(lr=0.05)", &batch, 300);
    print(dtype, loss < 0.05 ? "xor learnt" : "xor not learnt", checksum_net(net, &x, &predicted));
    mbp_net_free(net);
}

/* The i-th name of a kind, from the start again after the last; *count becomes the number of names. */
static const char *name_of(mbp_kind kind, int i, int *count) {
    for (*count = 0; mbp_formula_name(kind, *count);)
        ++*count;
    return mbp_formula_name(kind, i % *count);
}

/* All kinds of nodes, and layers of more and less than a vector of columns. */
static const char graph_format[] = "input 6\n"
                                   "dense 0 units=%d activation=%s l2=0.01\n"
                                   "layer_norm 1\n"
                                   "dropout 2 rate=0.25\n"
                                   "dense 3 layer=twice units=%d\n"
                                   "dense 4 layer=twice\n"
                                   "batch_norm 5\n"
                                   "activation 6 %s\n"
                                   "multiply 7 1\n"
                                   "scale 8\n"
                                   "concat 9 0\n"
                                   "noise 10 std=0.125\n"
                                   "dense 11 units=%d max_norm=2\n"
                                   "output 12\n";

static void table_net(int i, mbp_dtype dtype, const char *isa, int *rows_of_table) {
    static const int units[] = {4, 17, 33, 64, 7};
    static double data[ROWS_MOST * INPUTS], goals[ROWS_MOST * OUTPUTS], out[ROWS_MOST * 2 * OUTPUTS];
    static int64_t labels[ROWS_MOST];
    int counts[3];
    const char *activation = name_of(MBP_ACTIVATION, i, &counts[0]), *loss_name = name_of(MBP_LOSS, i, &counts[1]);
    const char *optimizer = name_of(MBP_OPTIMIZER, i, &counts[2]);
    const int width = units[i % 5], rows = 2 + 7 * i % (ROWS_MOST - 2);
    int64_t targets;
    const int outputs = mbp_loss_target_columns(loss_name, OUTPUTS, &targets, NULL) == MBP_OK ? OUTPUTS : 2 * OUTPUTS;
    char graph[600];
    for (int k = 0; k < 3; k++)
        *rows_of_table = counts[k] > *rows_of_table ? counts[k] : *rows_of_table;
    snprintf(graph, sizeof graph, graph_format, width, activation, width, activation, outputs);

    mbp_array x = mbp_f64(data, rows, INPUTS), y = mbp_f64(goals, rows, OUTPUTS);
    mbp_array predicted = mbp_contiguous(out, dtype, dtype == MBP_F64 ? 8 : 4, rows, outputs);
    fill(&x, data, (uint32_t)i, -1, 1);
    fill(&y, goals, 1000 + (uint32_t)i, 0, 1);
    for (int r = 0; r < rows; r++)
        labels[r] = r % OUTPUTS;
    for (int k = 0; strcmp(loss_name, "hinge") == 0 && k < rows * OUTPUTS; k++)
        goals[k] = goals[k] < 0.5 ? -1 : 1;
    if (strcmp(loss_name, "cross_entropy") == 0)
        y = mbp_labels(labels, rows);

    mbp_batch batch = {.size = sizeof batch, .x = &x, .n_x = 1, .y = &y, .n_y = 1};
    mbp_net *net = create(graph, dtype, isa);
    train(net, loss_name, optimizer, &batch, STEPS);
    snprintf(graph, sizeof graph, "%s %s %s", activation, loss_name, optimizer);
    print(dtype, graph, checksum_net(net, &x, &predicted));
    mbp_net_free(net);
}

int main(int count, char **words) {
    const char *isa = count > 1 ? words[1] : NULL;
    for (int i = 0; !isa && mbp_isa_name(i); i++)
        if (mbp_isa_runs(i))
            isa = mbp_isa_name(i);
    printf("%s\n", isa);
    for (int k = 0; k < 2; k++) {
        const mbp_dtype dtype = k ? MBP_F64 : MBP_F32;
        const mbp_options options = {.size = sizeof options, .dtype = dtype};
        mbp_net *net = NULL;
        int rows = 1;
        if (mbp_net_create(&net, "input 1\noutput 0\n", &options, &error) == MBP_UNSUPPORTED)
            continue; /* a build without this dtype */
        mbp_net_free(net);
        xor_net(dtype, isa);
        for (int i = 0; i < rows; i++)
            table_net(i, dtype, isa, &rows);
    }
    return 0;
}
