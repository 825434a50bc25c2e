/* mbp_net_standardize: statistics that can be computed by hand; a refused call changes nothing. Whether mbp_trainer_fit
 * gives what Python's fit gives: tests/training/loop/test_fit_in_c.py. */
#include "api.h"

static const char GRAPH[] = "input 2\nstandardize 0 layer=data\ndense 1 units=1\noutput 2\n";

#define REFUSED(call, words) \
    do { \
        mbp_error error = {0}; \
        CHECK(call == MBP_INVALID && strstr(error.text, words), "%s", error.text); \
    } while (0)

static void expect(mbp_net *net, const double expected[4]) {
    int64_t count;
    const double *buffers = mbp_net_buffers(net, &count);
    CHECK(count == 4, "%d buffers", (int)count);
    for (int i = 0; i < 4; i++)
        CHECK(fabs(buffers[i] - expected[i]) < 1e-15, "buffer %d is %.17g instead of %.17g", i, buffers[i],
              expected[i]);
}

static void test_statistics(void) {
    static const double x[] = {1, 5, 3, 5, 5, 5, NAN, 5}, others[] = {-1, 0, 1, 8};
    const mbp_array rows = mbp_f64(x, 3, 2), wrong = mbp_f64(x, 4, 2), none = mbp_f64(x, 0, 2),
                    few = mbp_f64(others, 2, 2);
    mbp_net *net = net_new(GRAPH, OPTIONS(.dtype = MBP_F64));
    expect(net, (double[]){0, 0, 1, 1});
    REFUSED(mbp_net_standardize(net, &wrong, 1, 1, &error), "row 3, column 0 of node 0 is not finite");
    REFUSED(mbp_net_standardize(net, &none, 1, 1, &error), "x has 0 rows");
    expect(net, (double[]){0, 0, 1, 1});
    OK(mbp_net_standardize(net, &rows, 1, 0, &error));
    expect(net, (double[]){3, 5, sqrt(8. / 3), 1});
    OK(mbp_net_standardize(net, &few, 1, 0, &error)); /* it has statistics already */
    expect(net, (double[]){3, 5, sqrt(8. / 3), 1});
    OK(mbp_net_standardize(net, &few, 1, 1, &error));
    expect(net, (double[]){0, 4, 1, 4});
    OK(mbp_net_freeze(net, "data", 1, &error));
    REFUSED(mbp_net_standardize(net, &rows, 1, 1, &error), "no standardize layer that is not frozen");
    expect(net, (double[]){0, 4, 1, 4});
    mbp_net_free(net);
}

static void test_several_processes(void) {
    static const double x[] = {1, 2, 3, 4}, y[] = {0, 1};
    const mbp_array rows = mbp_f64(x, 2, 2), targets = mbp_f64(y, 2, 1);
    const mbp_batch batch = mbp_batch_of(&rows, &targets);
    const mbp_fit how = {.size = sizeof how, .epochs = 1};
    mbp_net *net = net_new(GRAPH, OPTIONS(.dtype = MBP_F64));
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse"}, NULL, "sgd");
    OK(mbp_trainer_set_reduce(trainer, &twins, &error));
    REFUSED(mbp_trainer_fit(trainer, &batch, &how, NULL, &error), "call mbp_net_standardize first");
    OK(mbp_net_standardize(net, &rows, 1, 1, &error));
    OK(mbp_trainer_fit(trainer, &batch, &how, NULL, &error));
    mbp_trainer_free(trainer), mbp_net_free(net);
}

int main(void) {
    test_statistics();
    test_several_processes();
    return report("standardize");
}
