/* Properties of nets, trainers and formulas, also for numbers out of range; and setting any step count. */
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
        for (int kind = -1; kind <= MBP_OUTPUT_ACTIVATION + 1; kind++)
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
    test_large_step_count();
    return report("properties");
}
