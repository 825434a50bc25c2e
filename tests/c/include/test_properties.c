/* Properties of nets, trainers and formulas, also for numbers out of range; setting any step count; the factor of dropout. */
#include "api.h"

#include <sys/resource.h>
#include <sys/wait.h>

static void test_properties(void) {
    static const int64_t widths[DAG_NODES] = {5, 3, 7, 7, 7, 7, 10, 3, 3, 3, 2, 1};
    static const char *const layers[] = {"a", "b", "c", "out", "side"};
    mbp_net *net = net_new(dag, OPTIONS(.dtype = MBP_F64, .seed = UINT64_MAX));
    mbp_trainer *trainer = dag_trainer(net, "adam");
    int64_t count = -1, buffers = -1, next = 0, weights = 0;
    CHECK(strcmp(mbp_version(), MBP_VERSION) == 0, "%s", mbp_version());
    CHECK(mbp_net_dtype(net) == MBP_F64 && mbp_net_seed(net) == UINT64_MAX && strcmp(mbp_net_isa(net), "") != 0,
          "options");
    CHECK(mbp_net_inputs(net) == 2 && mbp_net_outputs(net) == 2 && mbp_net_nodes(net) == DAG_NODES, "counts");
    for (int i = 0; i < DAG_NODES; i++)
        CHECK(mbp_net_node_width(net, i) == widths[i], "node %d is %lld wide", i,
              (long long)mbp_net_node_width(net, i));
    CHECK(mbp_net_input_width(net, 1) == 3 && mbp_net_output_width(net, 0) == 2 && mbp_net_output_width(net, 1) == 1,
          "widths");
    static const int out_of_range[] = {-1, DAG_NODES, INT32_MAX, INT32_MIN};
    mbp_tensor t;
    for (int i = 0; i < 4; i++) {
        const int k = out_of_range[i];
        CHECK(mbp_net_node_width(net, k) == 0 && mbp_net_input_width(net, k) == 0 && mbp_net_output_width(net, k) == 0,
              "width of %d", k);
        CHECK(!mbp_net_tensor(net, k, &t) && !mbp_trainer_slot(trainer, k) && !mbp_isa_name(k) && !mbp_isa_runs(k),
              "index %d is accepted", k);
        for (int kind = -1; kind <= MBP_SOLVER + 1; kind++)
            CHECK(!mbp_formula_name((mbp_kind)kind, k == DAG_NODES ? 99 : k) &&
                      !mbp_formula_parameters((mbp_kind)kind, k == DAG_NODES ? 99 : k) &&
                      !mbp_formula_meaning((mbp_kind)kind, k == DAG_NODES ? 99 : k) &&
                      !mbp_formula_detail((mbp_kind)kind, k == DAG_NODES ? 99 : k),
                  "formula %d", k);
    }
    mbp_net_params(net, &count);
    mbp_net_buffers(net, &buffers);
    for (int pass = 0; pass < 2; pass++) /* all weights in layer order, then all biases */
        for (int i = 0, layer = 0; mbp_net_tensor(net, i, &t); i++) {
            const int is_bias = strcmp(t.name, "bias") == 0;
            CHECK(strcmp(t.layer, layers[layer]) == 0, "tensor %d is of layer %s", i, t.layer);
            CHECK(is_bias != pass || t.offset == next, "%s.%s at %lld, not %lld", t.layer, t.name, (long long)t.offset,
                  (long long)next);
            if (is_bias == pass)
                next += t.in * t.out;
            weights += is_bias || pass ? 0 : t.in * t.out;
            layer += is_bias || strcmp(t.layer, "side") == 0;
        }
    CHECK(next == count && count == 5 * 7 + 7 * 7 + 10 * 3 + 3 * 2 + 3 + 7 + 7 + 3 + 2 && buffers == 0,
          "%lld parameters, %lld in tensors", (long long)count, (long long)next);
    /* layer b is used twice */
    CHECK(mbp_net_flops(net) >= 2.0 * (double)(weights + 49), "%g operations", mbp_net_flops(net));
    CHECK(mbp_trainer_slot(trainer, 0) && mbp_trainer_slot(trainer, 1) && !mbp_trainer_slot(trainer, 2),
          "adam does not have two slots");
    double value;
    OK(mbp_trainer_set(trainer, "beta1", 0.5, &error));
    OK(mbp_trainer_get(trainer, "beta1", &value, &error));
    CHECK(value == 0.5, "beta1 is %g", value);
    OK(mbp_trainer_set_steps(trainer, 1000, &error));
    CHECK(mbp_trainer_steps(trainer) == 1000, "steps");
    OK(mbp_trainer_reset(trainer, &error));
    CHECK(mbp_trainer_steps(trainer) == 0, "steps after a reset");
    mbp_trainer_free(trainer), mbp_net_free(net);
}

/* ---- "dropout": the factor of all rates ---- */

enum { ROWS = 23 };
static const double dropout_rates[] = {0.5, 0.25, 0.875};
static const double dropout_factors[] = {0, 0.125, 0.5, 1};

/* A net with three dropout nodes; the gradient of the first is stored, those of the others are added. */
static mbp_net *dropout_net(mbp_dtype dtype, double rate) {
    char text[400];
    snprintf(text, sizeof text,
             "input 5\ndense 0 units=9 activation=tanh\ndropout 1 rate=%.17g\ndropout 1 rate=%.17g\n"
             "dropout 0 rate=%.17g\nconcat 2 3 4 1\ndense 5 units=2\noutput 6\n",
             rate, rate / 2, rate);
    return net_new(text, OPTIONS(.dtype = dtype, .seed = 7));
}

static mbp_trainer *dropout_trainer(mbp_net *net, double factor) {
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse"}, NULL, "adam(lr=0.01)");
    OK(mbp_trainer_set(trainer, "dropout", factor, &error));
    return trainer;
}

/* Steps, an epoch, and a step in parts, in which the factor is changed between the passes. */
static void dropout_train(mbp_trainer *trainer, const mbp_batch *batch, double factor) {
    double loss;
    int64_t steps;
    OK(mbp_trainer_step(trainer, batch, &loss, &error));
    OK(mbp_trainer_epoch(trainer, batch, NULL, ROWS, 5, NULL, NULL, NULL, &loss, &steps, &error));
    OK(mbp_trainer_forward(trainer, batch->x, 1, &error));
    OK(mbp_trainer_set(trainer, "dropout", 0.75, &error));
    OK(mbp_trainer_backward_from(trainer, batch->y, 1, NULL, &error));
    OK(mbp_trainer_apply(trainer, &error));
    OK(mbp_trainer_set(trainer, "dropout", factor, &error));
}

/* A factor has the bits of nets whose rates are multiplied by it. */
static void test_dropout(mbp_dtype dtype) {
    const mbp_array x = array_new(dtype, ROWS, 5), y = array_new(dtype, ROWS, 2);
    const mbp_batch batch = mbp_batch_of(&x, &y);
    array_fill(&x, -1, 1), array_fill(&y, -1, 1);
    for (size_t i = 0; i < sizeof dropout_rates / sizeof *dropout_rates; i++)
        for (size_t k = 0; k < sizeof dropout_factors / sizeof *dropout_factors; k++) {
            const double rate = dropout_rates[i], factor = dropout_factors[k];
            mbp_net *nets[] = {dropout_net(dtype, rate), dropout_net(dtype, rate * factor), dropout_net(dtype, rate)};
            mbp_trainer *one = dropout_trainer(nets[0], factor), *two = dropout_trainer(nets[1], 1),
                        *whole = dropout_trainer(nets[2], 1);
            dropout_train(one, &batch, factor), dropout_train(two, &batch, 1), dropout_train(whole, &batch, 1);
            CHECK(same_params(nets[0], nets[1]) && same_state(nets[0], one, two) && same_grads(nets[0], one, two),
                  "rate %g, factor %g: other bits than with their product", rate, factor);
            CHECK(same_params(nets[0], nets[2]) == (factor == 1), "rate %g, factor %g has no effect", rate, factor);
            mbp_trainer_free(one), mbp_trainer_free(two), mbp_trainer_free(whole);
            for (int n = 0; n < 3; n++)
                mbp_net_free(nets[n]);
        }
    array_free(&x), array_free(&y);
}

static void test_range_of_dropout(void) {
    static const double bad[] = {-1e-9, 1 + 1e-9, NAN, INFINITY, -INFINITY};
    mbp_net *net = dropout_net(MBP_F32, 0.5);
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse"}, NULL, "sgd");
    mbp_error error;
    double value = NAN;
    OK(mbp_trainer_get(trainer, "dropout", &value, &error));
    CHECK(value == 1, "dropout is %g, not 1", value);
    OK(mbp_trainer_set(trainer, "dropout", 0.25, &error));
    OK(mbp_trainer_reset(trainer, &error)); /* which keeps it */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(mbp_trainer_set(trainer, "dropout", bad[i], &error) == MBP_INVALID &&
                  strstr(error.text, "dropout must be in [0,1], not "),
              "dropout=%g: %s", bad[i], error.text);
        OK(mbp_trainer_get(trainer, "dropout", &value, &error));
        CHECK(value == 0.25, "dropout=%g is refused, but now it is %g", bad[i], value);
    }
    CHECK(mbp_trainer_set(trainer, "dropou", 0.5, &error) == MBP_INVALID &&
              strstr(error.text, "did you mean \"dropout\""),
          "%s", error.text);
    mbp_trainer_free(trainer), mbp_net_free(net);
}

static const int64_t steps_max = 9000000000000000000;

/* Also with powers of beta2 that reach 0 only after years of multiplying. */
static int accepts_any_step_count(mbp_net *net) {
    for (int i = 0; mbp_formula_name(MBP_OPTIMIZER, i); i++) {
        mbp_trainer *trainer = dag_trainer(net, mbp_formula_name(MBP_OPTIMIZER, i));
        for (int slow = 0; slow < 2; slow++) {
            if (mbp_trainer_set_steps(trainer, steps_max, NULL) != MBP_OK || mbp_trainer_steps(trainer) != steps_max)
                return 0;
            if (mbp_trainer_set_steps(trainer, steps_max + 1, NULL) != MBP_INVALID ||
                mbp_trainer_steps(trainer) != steps_max)
                return 0;
            mbp_trainer_set(trainer, "beta2", 0.999999999999999, NULL); /* an error without this parameter */
        }
        mbp_trainer_free(trainer);
    }
    return 1;
}

/* Any step count is set quickly. In a separate process, with a limit of 10 s of processor time. */
static void test_large_step_count(void) {
    mbp_net *net = net_new(dag, NULL);
    int status;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CPU, &(struct rlimit){10, 10});
        _exit(!accepts_any_step_count(net));
    }
    waitpid(child, &status, 0);
    CHECK(status == 0, "setting a large step count: %s", WIFSIGNALED(status) ? "takes more than 10 s" : "wrong answer");
    mbp_net_free(net);
}

/* The average contains exactly the states after the updates since the last reset, whatever the step count. */
static void test_average_count(void) {
    mbp_net *net = net_new("input 2\ndense 0 units=1\noutput 1\n", NULL);
    mbp_trainer *trainer = NULL;
    const float x[2][2] = {{1, 2}, {3, 5}}, y[2] = {1, -1};
    const mbp_array in = mbp_contiguous(x, MBP_F32, sizeof(float), 2, 2),
                    out = mbp_contiguous(y, MBP_F32, sizeof(float), 2, 1);
    const mbp_batch batch = {.size = sizeof batch, .x = &in, .n_x = 1, .y = &out, .n_y = 1};
    double loss, count;
    int64_t states;
    mbp_error error;
    OK(mbp_trainer_create(&trainer, net, (const char *[]){"mse"}, NULL, 1, "sgd(lr=0.01)", &error));
    CHECK(mbp_trainer_set(trainer, "average_count", 1, &error) == MBP_INVALID, "a count without an average");
    OK(mbp_trainer_set_average(trainer, 1, 3, 2, &error));
    OK(mbp_trainer_set_steps(trainer, 1000, &error));
    for (int round = 0; round < 2; round++) { /* 1001, 1003, 1005; after the reset 3 and 5 */
        for (int i = 0; i < 5; i++)
            OK(mbp_trainer_step(trainer, &batch, &loss, &error));
        const float *average = mbp_trainer_average(trainer, &states);
        OK(mbp_trainer_get(trainer, "average_count", &count, &error));
        CHECK(states == 3 - round && count == 3 - round, "%lld states, round %d", (long long)states, round);
        CHECK(average && fabsf(average[0]) > 1e-3F, "the average is near 0");
        OK(mbp_trainer_reset(trainer, &error));
        mbp_trainer_average(trainer, &states);
        CHECK(states == 0, "%lld states after a reset", (long long)states);
    }
    for (int i = 0; i < 4; i++)
        CHECK(mbp_trainer_set(trainer, "average_count", (const double[]){-1, 0.5, NAN, 1e16}[i], &error) == MBP_INVALID,
              "count %d is accepted", i);
    OK(mbp_trainer_set(trainer, "average_count", 7, &error));
    mbp_trainer_average(trainer, &states);
    CHECK(states == 7, "%lld states", (long long)states);
    mbp_trainer_free(trainer), mbp_net_free(net);
}

int main(void) {
    test_properties();
    test_average_count();
    test_dropout(MBP_F32);
    test_dropout(MBP_F64);
    test_range_of_dropout();
    test_large_step_count();
    return report("properties");
}
