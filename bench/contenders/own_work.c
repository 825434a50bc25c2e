/* The work of microbp from C, run by by_c.py:
 *
 *     own_work GRAPH LOSS ROWS BATCH QUERIES INPUTS OUTPUTS < commands
 *
 * Standard input starts with the flat parameters, the training rows and their targets (floats, or int64 labels for
 * cross_entropy), the queries to predict, and an order of the rows (int64), all as bytes. Then come lines:
 *     results        prints the outputs of 8 queries, the losses of 4 steps, the outputs after them, and the loss of an
 *                    epoch in order
 *     KIND COUNT     prints the seconds of COUNT units; KIND: step, epoch, or the number of queries to predict */
#include <microbp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CHECKED_STEPS = 4, CHECKED_ROWS = 8 };

static mbp_net *net;
static mbp_trainer *trainer;
static mbp_array x, y, queries;
static float *initial, *outputs;
static int64_t *given, *order, batch, parameters;

static void require(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *read_all(size_t bytes) {
    void *block = malloc(bytes);
    require(block && fread(block, 1, bytes, stdin) == bytes, "standard input ends too early");
    return block;
}

static mbp_array rows_of(mbp_array whole, int64_t first, int64_t rows) {
    whole.data = (const char *)whole.data + first * whole.row_stride;
    whole.rows = rows;
    return whole;
}

static mbp_array matrix(int64_t rows, int64_t cols, mbp_dtype dtype) {
    const int64_t item = dtype == MBP_F32 ? 4 : 8;
    return mbp_contiguous(read_all((size_t)(rows * cols * item)), dtype, item, rows, cols);
}

static void reset(void) {
    memcpy(mbp_net_params(net, NULL), initial, (size_t)parameters * sizeof *initial);
    mbp_trainer_reset(trainer, NULL);
}

static double step(int64_t i) {
    mbp_array inputs = rows_of(x, i * batch % x.rows, batch), targets = rows_of(y, i * batch % x.rows, batch);
    const mbp_batch rows = mbp_batch_of(&inputs, &targets);
    double loss = 0;
    mbp_trainer_step(trainer, &rows, &loss, NULL);
    return loss;
}

static double epoch(const int64_t *rows) {
    const mbp_batch all = mbp_batch_of(&x, &y);
    double loss = 0;
    int64_t steps;
    mbp_trainer_epoch(trainer, &all, rows, x.rows, batch, NULL, NULL, NULL, &loss, &steps, NULL);
    return loss;
}

static void predict(int64_t rows) {
    const int64_t width = mbp_net_output_width(net, 0);
    mbp_array in = rows_of(queries, 0, rows);
    mbp_array out = mbp_f32(outputs, rows, width);
    mbp_net_predict(net, &in, 1, &out, 1, 1, -1, NULL);
}

static void print_outputs(void) {
    predict(queries.rows);
    for (int64_t i = 0; i < CHECKED_ROWS * mbp_net_output_width(net, 0); i++)
        printf("%.9g ", (double)outputs[i]);
}

static void print_results(void) {
    reset();
    print_outputs();
    for (int i = 0; i < CHECKED_STEPS; i++)
        printf("%.9g ", step(i));
    print_outputs();
    reset();
    printf("%.9g\n", epoch(given));
}

static double seconds(const char *kind, int64_t count) {
    const int64_t rows = atoll(kind);
    if (!rows)
        reset();
    const double start = now();
    for (int64_t i = 0; i < count; i++)
        if (rows)
            predict(rows);
        else if (strcmp(kind, "step") == 0)
            step(i);
        else {
            mbp_permutation(0, MBP_SHUFFLE, (uint64_t)i, x.rows, order);
            epoch(order);
        }
    return now() - start;
}

int main(int count, char **arguments) {
    require(count == 8, "usage: own_work GRAPH LOSS ROWS BATCH QUERIES INPUTS OUTPUTS");
    const int64_t rows = atoll(arguments[3]), n_queries = atoll(arguments[5]), in = atoll(arguments[6]),
                  out = atoll(arguments[7]);
    const int labels = strcmp(arguments[2], "cross_entropy") == 0;
    mbp_error error = {.text = ""};
    require(!mbp_net_create(&net, arguments[1], NULL, &error), error.text);
    require(!mbp_trainer_create(&trainer, net, (const char *[]){arguments[2]}, NULL, 1, "adam(lr=0.001)", &error),
            error.text);
    batch = atoll(arguments[4]);
    mbp_net_params(net, &parameters);
    initial = read_all((size_t)parameters * sizeof *initial);
    x = matrix(rows, in, MBP_F32);
    y = matrix(rows, labels ? 1 : out, labels ? MBP_I64 : MBP_F32);
    queries = matrix(n_queries, in, MBP_F32);
    given = read_all((size_t)rows * sizeof *given);
    order = malloc((size_t)rows * sizeof *order);
    outputs = malloc((size_t)(n_queries * out) * sizeof *outputs);
    require(order && outputs, "no memory");
    char kind[16];
    long long times;
    while (scanf("%15s", kind) == 1) {
        if (strcmp(kind, "results") == 0)
            print_results();
        else if (scanf("%lld", &times) == 1)
            printf("%.9g\n", seconds(kind, times));
        fflush(stdout);
    }
    mbp_trainer_free(trainer);
    mbp_net_free(net);
    return 0;
}
