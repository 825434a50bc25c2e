/* The time of predictions in float32 and in int8, in turns: int8_rows ROWS SECONDS WIDTH WIDTH ... prints for each the
 * median of the nanoseconds of a call. Hidden layers have relu; weights are random, which does not change the time. */
#include <microbp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LAYERS = 32, ROUNDS = 41 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void *filled(size_t bytes, size_t item) {
    unsigned char *block = malloc(bytes);
    for (size_t i = 0; block && i < bytes / item; i++)
        if (item == 1)
            ((signed char *)block)[i] = (signed char)(rand() % 255 - 127);
        else
            ((float *)(void *)block)[i] = (float)rand() / (float)RAND_MAX * 1e-3f;
    return block;
}

int main(int count, char **words) {
    const int64_t rows = atoll(words[1]), layers = count - 4;
    const double each = atof(words[2]) * 1e9 / (2 * ROUNDS);
    char graph[4096];
    mbp_int8_step steps[LAYERS + 1] = {{0}};
    int length = snprintf(graph, sizeof graph, "input %s\n", words[3]);
    const int64_t columns = atoll(words[3]), outputs = atoll(words[count - 1]);
    steps[0] = (mbp_int8_step){.size = sizeof *steps,
                               .operation = "quantize",
                               .positions = 1,
                               .width = columns,
                               .scale = filled((size_t)columns * 4, 4)};
    for (int64_t i = 0; i < layers; i++) {
        const int64_t in = atoll(words[3 + i]), out = atoll(words[4 + i]);
        const char *activation = i < layers - 1 ? "relu" : "identity";
        length += snprintf(graph + length, sizeof graph - (size_t)length, "dense %d units=%d activation=%s\n", (int)i,
                           (int)out, activation);
        steps[i + 1] = (mbp_int8_step){.size = sizeof *steps,
                                       .operation = "dense",
                                       .positions = 1,
                                       .width = out,
                                       .weight = filled((size_t)(in * out), 1),
                                       .scale = filled((size_t)out * 4, 4),
                                       .start = calloc((size_t)out, 4),
                                       .activation = activation,
                                       .inverse = 1};
    }
    snprintf(graph + length, sizeof graph - (size_t)length, "output %d\n", (int)layers);
    mbp_net *net = NULL;
    mbp_int8 *whole = NULL;
    mbp_error error;
    if (mbp_net_create(&net, graph, NULL, &error) != MBP_OK ||
        mbp_int8_create(&whole, steps, (int)layers + 1, NULL, NULL, NULL, NULL, &error) != MBP_OK)
        return fprintf(stderr, "%s\n", error.text), 1;
    float *x = filled((size_t)(rows * columns) * 4, 4), *y = filled((size_t)(rows * outputs) * 4, 4);
    const mbp_array in = mbp_f32(x, rows, columns), out = mbp_f32(y, rows, outputs);
    double found[2][ROUNDS];
    for (int round = 0; round < ROUNDS; round++)
        for (int k = 0; k < 2; k++) {
            long calls = 0;
            const double start = now();
            double end = start;
            while (end - start < each) {
                const mbp_status status = k ? mbp_int8_predict(whole, &in, &out, 0, &error)
                                            : mbp_net_predict(net, &in, 1, &out, 1, 0, -1, &error);
                if (status != MBP_OK)
                    return fprintf(stderr, "%s\n", error.text), 1;
                calls++, end = now();
            }
            found[k][round] = (end - start) / (double)calls;
        }
    for (int k = 0; k < 2; k++)
        qsort(found[k], ROUNDS, sizeof(double), by_size);
    printf("%.1f %.1f\n", found[0][ROUNDS / 2], found[1][ROUNDS / 2]);
    return 0;
}
