/* The time of a training step: steps SECONDS ROWS DTYPE GRAPH... The nets take turns, each with the same number of rows and Adam. Prints the
 * least nanoseconds of a step of each. DTYPE: f32 or f64. Compile with the static library of microbp. */
#include <microbp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_NETS = 64 };
static const double TURN = 2e-4; /* seconds: much longer than the clock's resolution, much shorter than a disturbance */

typedef struct work {
    mbp_net *net;
    mbp_trainer *trainer;
    mbp_array x, y;
    double least; /* seconds of a step */
    int count;    /* steps in a turn */
} work;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void require(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

static mbp_array numbers(int64_t rows, int64_t cols, mbp_dtype dtype) {
    const size_t item = dtype == MBP_F32 ? sizeof(float) : sizeof(double);
    void *at = malloc((size_t)(rows * cols) * item);
    require(at != NULL, "no memory");
    for (int64_t i = 0; i < rows * cols; i++) {
        const double value = (double)(i * 37 % 101) / 50 - 1;
        if (dtype == MBP_F32)
            ((float *)at)[i] = (float)value;
        else
            ((double *)at)[i] = value;
    }
    return mbp_contiguous(at, dtype, (int64_t)item, rows, cols);
}

static double turn(work *w, int count) {
    const mbp_batch batch = mbp_batch_of(&w->x, &w->y);
    mbp_error error;
    double loss;
    const double start = now();
    for (int i = 0; i < count; i++)
        require(!mbp_trainer_step(w->trainer, &batch, &loss, &error), "a step fails");
    return (now() - start) / count;
}

static void open_work(work *w, const char *graph, int64_t rows, mbp_dtype dtype) {
    mbp_options options;
    mbp_error error = {.text = ""};
    memset(&options, 0, sizeof options);
    options.size = sizeof options, options.dtype = dtype, options.isa = getenv("MICROBP_ISA");
    require(!mbp_net_create(&w->net, graph, &options, &error), error.text);
    require(!mbp_trainer_create(&w->trainer, w->net, (const char *[]){"mse"}, NULL, 1, "adam(lr=1e-6)", &error),
            error.text);
    w->x = numbers(rows, mbp_net_input_width(w->net, 0), dtype);
    w->y = numbers(rows, mbp_net_output_width(w->net, 0), dtype);
    turn(w, 1); /* makes room */
    w->least = turn(w, 3);
    w->count = (int)(TURN / w->least) + 1;
}

int main(int count, char **arguments) {
    static work works[MOST_NETS];
    const int nets = count - 4;
    require(nets > 0 && nets <= MOST_NETS, "usage: steps SECONDS ROWS DTYPE GRAPH...");
    const mbp_dtype dtype = strcmp(arguments[3], "f64") == 0 ? MBP_F64 : MBP_F32;
    for (int i = 0; i < nets; i++)
        open_work(&works[i], arguments[4 + i], atoll(arguments[2]), dtype);
    for (const double end = now() + atof(arguments[1]); now() < end;)
        for (int i = 0; i < nets; i++) {
            const double seconds = turn(&works[i], works[i].count);
            works[i].least = seconds < works[i].least ? seconds : works[i].least;
        }
    for (int i = 0; i < nets; i++)
        printf("%.1f\n", 1e9 * works[i].least);
    return 0; /* the process ends, and with it all memory */
}
