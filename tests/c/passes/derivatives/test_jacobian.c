/* Jacobians: the gradients of each row have the bits of a backward pass of this row alone, in any layout of the result
 * and for any number of threads; nothing else is written. Predictions of several nodes, with dropout and noise. */
#include "api.h"

#include <string.h>

enum { ROWS = 150, IN = 5, OUT = 3, GAP = 2 };

/* One input of 5 columns, outputs of 3 and 9. In the last two, gradients of slices are in place in those of a node, or
 * of the input. */
static const char *const graphs[] = {
    "input 5\n"
    "dense 0 units=9 activation=gelu l2=0.5\n"
    "layer_norm 1\n"
    "dense 2 units=9 activation=tanh\n"
    "add 1 3\n"
    "dense 4 units=3\n"
    "output 5\n"
    "output 4\n",
    "input 5\n"
    "standardize 0 layer=s\n"
    "slice 1 from=0 to=3\n"
    "slice 1 from=3 to=5\n"
    "slice 2 from=1 to=3\n"
    "subtract 3 4\n"
    "concat 5 2 3\n"
    "dense 6 units=9 activation=tanh l2=0.5\n"
    "batch_norm 7 frozen=1\n"
    "slice 8 from=6 to=9\n"
    "scale 9\n"
    "dense 10 units=3\n"
    "output 11\n"
    "output 8\n",
    "input 5\n"
    "slice 0 from=0 to=3\n"
    "slice 0 from=3 to=5\n"
    "slice 1 from=0 to=2\n"
    "multiply 2 3\n"
    "standardize 1\n"
    "dense 4 units=9 activation=gelu layer=a\n"
    "dense 3 layer=a\n"
    "dense 5 units=9 activation=sin\n"
    "add 6 7 8\n"
    "layer_norm 9\n"
    "slice 10 from=2 to=5\n"
    "subtract 11 5\n"
    "output 12\n"
    "output 10\n",
};

/* Whether rows of `a` are the gradients that a trainer computes from a 1 in one column of the first output. */
static void check_rows(mbp_net *net, const mbp_array *x, const mbp_array *by_params, const mbp_array *by_inputs) {
    mbp_trainer *t = NULL;
    int64_t params;
    const size_t item = item_of(x->dtype);
    mbp_net_params(net, &params);
    OK(mbp_trainer_create(&t, net, (const char *[]){NULL, NULL}, NULL, 2, "sgd", &error));
    mbp_array start[2] = {array_new(x->dtype, 1, OUT), array_new(x->dtype, 1, 9)}, gradient;
    for (int64_t r = 0; r < x->rows; r++)
        for (int64_t j = 0; j < OUT; j++) {
            const mbp_array row = array_rows(x, r, 1);
            for (int64_t k = 0; k < OUT; k++)
                array_set(&start[0], 0, k, k == j);
            OK(mbp_trainer_forward(t, &row, 1, &error));
            /* accumulate, onto zeros: without the penalties */
            memset(mbp_trainer_grads(t), 0, (size_t)params * item);
            OK(mbp_trainer_backward_from(
                t, start, 2, &(mbp_backward){.size = sizeof(mbp_backward), .accumulate = 1, .input_grads = 1}, &error));
            for (int64_t i = 0; i < params; i++) {
                const mbp_array grads = array_at(mbp_trainer_grads(t), x->dtype, 1, params);
                CHECK(array_get(by_params, r, j * params + i) == array_get(&grads, 0, i), "row %d, parameter %d",
                      (int)r, (int)i);
            }
            OK(mbp_trainer_input_grad(t, 0, &gradient, &error));
            for (int64_t i = 0; i < IN; i++)
                CHECK(array_get(by_inputs, r, j * IN + i) == array_get(&gradient, 0, i), "row %d, input %d", (int)r,
                      (int)i);
        }
    array_free(&start[0]);
    array_free(&start[1]);
    mbp_trainer_free(t);
}

/* An array whose rows have GAP more elements, which are -7. */
static mbp_array wide_new(mbp_dtype dtype, int64_t rows, int64_t cols) {
    mbp_array array = array_new(dtype, rows, cols + GAP);
    array_fill(&array, -7, -7);
    array.cols = cols;
    return array;
}

static void check_gap(const mbp_array *array) {
    for (int64_t r = 0; r < array->rows; r++)
        for (int64_t i = 0; i < GAP; i++)
            CHECK(array_get(array, r, array->cols + i) == -7, "row %d is longer than it was", (int)r);
}

/* Statistics that matter. */
static void fill_buffers(mbp_net *net, mbp_dtype dtype) {
    int64_t count;
    void *buffers = mbp_net_buffers(net, &count);
    mbp_array numbers = array_at(buffers, dtype, 1, count);
    array_fill(&numbers, 0.5, 2);
}

static void test_jacobian(const char *graph, mbp_dtype dtype, mbp_pool *pool, int threads) {
    mbp_options options = {.size = sizeof options, .dtype = dtype, .seed = 3, .pool = pool, .threads = threads};
    mbp_net *net = net_new(graph, &options);
    int64_t params;
    mbp_net_params(net, &params);
    fill_buffers(net, dtype);
    mbp_array x = array_new(dtype, ROWS, IN);
    array_fill(&x, -1, 1);
    mbp_array by_params = wide_new(dtype, ROWS, OUT * params), by_inputs = wide_new(dtype, ROWS, OUT * IN);
    const size_t before = mbp_net_bytes(net);
    OK(mbp_net_jacobian(net, &x, 1, MBP_BY_PARAMS, 0, &by_params, 1, &error));
    OK(mbp_net_jacobian(net, &x, 1, MBP_BY_INPUTS, 0, &by_inputs, 1, &error));
    CHECK(mbp_net_bytes(net) == before, "a Jacobian keeps memory");
    check_rows(net, &x, &by_params, &by_inputs);
    check_gap(&by_params);
    check_gap(&by_inputs);
    array_free(&x);
    array_free(&by_params);
    array_free(&by_inputs);
    mbp_net_free(net);
}

static void refused(mbp_status status, const mbp_error *error, const char *text) {
    CHECK(status == MBP_INVALID && strstr(error->text, text), "%s instead of %s", error->text, text);
}

static void test_refused(void) {
    mbp_net *net = net_new(graphs[0], NULL);
    mbp_error error;
    mbp_array x = array_new(MBP_F32, 2, IN), out = array_new(MBP_F32, 2, OUT * IN);
    const int nodes[] = {0, 9}, outputs[] = {-1, -3};
    mbp_prediction how = {.size = sizeof how, .nodes = nodes, .n_nodes = 2};
    refused(mbp_net_jacobian(net, &x, 1, (mbp_by)7, -1, &out, 1, &error), &error, "by is 7");
    refused(mbp_net_jacobian(net, &x, 1, MBP_BY_INPUTS, 2, &out, 1, &error), &error, "there is no output 2");
    refused(mbp_net_jacobian(net, &x, 1, MBP_BY_INPUTS, -1, &out, 1, &error), &error,
            "out must be 2 arrays: one per output and input");
    refused(mbp_net_jacobian(net, &x, 1, MBP_BY_PARAMS, 0, &out, 1, &error), &error, "output 0 has shape (2, 15)");
    refused(mbp_net_predict_with(net, &x, 1, &out, 1, &how, &error), &error, "there is no node 9");
    how.nodes = outputs;
    refused(mbp_net_predict_with(net, &x, 1, &out, 1, &how, &error), &error, "there is no output 2");
    how.n_nodes = 1;
    refused(mbp_net_predict_with(net, &x, 1, &out, 2, &how, &error), &error,
            "out must be 1 array, one for each number");
    how.n_nodes = 0;
    refused(mbp_net_predict_with(net, &x, 1, &out, 1, &how, &error), &error, "n_nodes is 0");
    how.nodes = NULL, how.training = 2;
    refused(mbp_net_predict_with(net, &x, 1, &out, 1, &how, &error), &error, "training is 2, but must be 0 or 1");
    how.size = 0;
    refused(mbp_net_predict_with(net, &x, 1, &out, 1, &how, &error), &error, "mbp_prediction.size is 0");
    array_free(&x);
    array_free(&out);
    mbp_net_free(net);
}

/* Several nodes, drawn for all rows, and for the first rows alone. */
static void test_draws(mbp_pool *pool) {
    mbp_options options = {.size = sizeof options, .pool = pool, .threads = 3};
    mbp_net *net = net_new("input 5\ndropout 0 rate=0.5\nnoise 1 std=0.5\noutput 2\n", &options);
    enum { MANY = 3000 };
    const int nodes[] = {-1, 1};
    mbp_prediction how = {.size = sizeof how, .nodes = nodes, .n_nodes = 2, .training = 1, .seed = 5};
    mbp_array x = array_new(MBP_F32, MANY, 5), out[2] = {array_new(MBP_F32, MANY, 5), array_new(MBP_F32, MANY, 5)};
    mbp_array few[2] = {array_new(MBP_F32, 7, 5), array_new(MBP_F32, 7, 5)};
    array_fill(&x, 1, 1);
    const mbp_array first = array_rows(&x, 0, 7);
    OK(mbp_net_predict_with(net, &x, 1, out, 2, &how, &error));
    OK(mbp_net_predict_with(net, &first, 1, few, 2, &how, &error));
    int dropped = 0;
    for (int64_t i = 0; i < MANY * 5; i++) {
        const double value = array_get(&out[1], i / 5, i % 5);
        CHECK(value == 0 || value == 2, "dropout gives %g", value);
        dropped += value == 0;
    }
    CHECK(abs(dropped - MANY * 5 / 2) < MANY * 5 / 20, "%d are dropped", dropped);
    for (int k = 0; k < 2; k++)
        CHECK(!memcmp(few[k].data, out[k].data, 7 * 5 * sizeof(float)), "a row depends on other rows");
    for (int k = 0; k < 2; k++) {
        array_free(&out[k]);
        array_free(&few[k]);
    }
    array_free(&x);
    mbp_net_free(net);
}

int main(void) {
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 4, NULL, &error));
    for (int threads = 1; threads <= 4; threads += 3) {
        for (size_t i = 0; i < sizeof graphs / sizeof *graphs; i++) {
            test_jacobian(graphs[i], MBP_F32, pool, threads);
            test_jacobian(graphs[i], MBP_F64, pool, threads);
        }
    }
    test_refused();
    test_draws(pool);
    mbp_pool_free(pool);
    return report("jacobian");
}
