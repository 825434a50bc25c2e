/* Trains a net from each of several first points until the goal, run by by_c.py:
 *
 *     run GRAPH OPTIMIZER GOAL MOST ROWS INPUTS OUTPUTS STARTS REPEATS < numbers
 *
 * Standard input: the rows, the targets, and the parameters of each start, as doubles. Prints a line for each start:
 * the number of steps, the loss, and the seconds of CPU time, the least of the repeated runs. A run resets the trainer, and ends at a
 * loss of at most GOAL, or after the most steps. */
#include <microbp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void require(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

static double *numbers(int64_t count) {
    double *block = malloc((size_t)count * sizeof *block);
    require(block && fread(block, sizeof *block, (size_t)count, stdin) == (size_t)count,
            "standard input ends too early");
    return block;
}

int main(int count, char **words) {
    require(count == 10, "usage: run GRAPH OPTIMIZER GOAL MOST ROWS INPUTS OUTPUTS STARTS");
    const double goal = atof(words[3]);
    const int64_t most = atoll(words[4]), rows = atoll(words[5]), repeats = atoll(words[9]);
    mbp_net *net = NULL;
    mbp_trainer *trainer = NULL;
    mbp_error error = {.text = ""};
    const mbp_options options = {.size = sizeof options, .dtype = MBP_F64};
    require(!mbp_net_create(&net, words[1], &options, &error), error.text);
    require(!mbp_trainer_create(&trainer, net, (const char *[]){"mse"}, NULL, 1, words[2], &error), error.text);
    mbp_array x = mbp_f64(numbers(rows * atoll(words[6])), rows, atoll(words[6]));
    mbp_array y = mbp_f64(numbers(rows * atoll(words[7])), rows, atoll(words[7]));
    int64_t parameters;
    double *own = mbp_net_params(net, &parameters);
    for (long long start = atoll(words[8]); start; start--) {
        const double *first = numbers(parameters);
        double loss = 0, least = 1e300;
        int64_t steps = 0;
        for (int64_t repeat = 0; repeat < repeats; repeat++) {
            const double began = now();
            mbp_batch batch = mbp_batch_of(&x, &y);
            memcpy(own, first, (size_t)parameters * sizeof *own);
            mbp_trainer_reset(trainer, NULL);
            for (loss = goal + 1, steps = 0; loss > goal && steps < most; steps++) {
                require(!mbp_trainer_step(trainer, &batch, &loss, &error), error.text);
                batch.same = 1;
            }
            const double seconds = now() - began;
            least = seconds < least ? seconds : least;
        }
        printf("%lld %.9g %.9g\n", (long long)steps, loss, least);
    }
    return 0;
}
