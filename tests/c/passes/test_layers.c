/* Nodes that differ between training and inference, and layers with running statistics: seeds and modes, parts of a
 * batch, buffers among the tensors, files, single rows, and the same bits for any kernel variant and number of threads. */
#include "api.h"

/* The inputs and outputs of `dag`, so that its problem fits. */
static const char graph[] = "input 5\n"
                            "input 3\n"
                            "dropout 0 rate=0.25\n"
                            "dense 2 units=37 activation=tanh\n"
                            "batch_norm 3 layer=norm momentum=0.2\n"
                            "noise 4 std=0.3\n"
                            "layer_norm 5 eps=0.001\n"
                            "dense 6 units=37 activation=relu\n"
                            "batch_norm 7 layer=norm\n"
                            "dropout 8\n"
                            "concat 9 1 2\n"
                            "layer_norm 10\n"
                            "scale 11 layer=gain bias=0 lr=3\n"
                            "scale 12\n"
                            "scale 13 layer=gain\n"
                            "scale 14 gain=0\n"
                            "dense 15 units=2\n"
                            "dense 1 units=1\n"
                            "output 16\n"
                            "output 17\n";
enum { ROWS = 70 };

static double step(mbp_trainer *trainer, problem *p) {
    double loss = NAN;
    OK(mbp_trainer_step(trainer, &p->batch, &loss, &error));
    return loss;
}

/* Every kernel variant and number of threads, each with a new net. */
static void test_steps(mbp_dtype dtype) {
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 3, NULL, &error));
    problem *p = problem_new(dtype, ROWS);
    void *params = NULL;
    for (int i = 0; mbp_isa_name(i); i++)
        for (int threads = 1; mbp_isa_runs(i) && threads <= 3; threads += 2) {
            counter count = {0};
            const mbp_allocator allocator = {count_allocate, count_release, &count};
            mbp_net *net = net_new(graph, OPTIONS(.dtype = dtype, .seed = 3, .isa = mbp_isa_name(i),
                                                  .allocator = &allocator, .pool = pool, .threads = threads));
            mbp_trainer *trainer = dag_trainer(net, "adam");
            int64_t numbers, buffers;
            mbp_net_buffers(net, &buffers);
            mbp_net_params(net, &numbers);
            const size_t bytes = (size_t)(numbers + buffers) * item_of(dtype);
            for (int s = 0; s < 3; s++)
                step(trainer, p);
            const long calls = count.calls;
            step(trainer, p);
            CHECK(count.calls == calls, "a step allocated");
            OK(mbp_net_predict(net, p->x, 2, p->out, 2, 0, -1, &error));
            if (!params)
                params = memcpy(malloc(bytes), mbp_net_params(net, NULL), bytes);
            CHECK(strcmp(mbp_isa_name(i), "sse2") == 0 || memcmp(params, mbp_net_params(net, NULL), bytes) == 0,
                  "%s, %d threads: different bits", mbp_isa_name(i), threads);
            mbp_trainer_free(trainer);
            mbp_net_free(net);
            CHECK(count.live == 0, "%zu bytes were left", count.live);
        }
    free(params);
    problem_free(p);
    mbp_pool_free(pool);
}

static void test_seed_and_modes(void) {
    problem *p = problem_new(MBP_F64, ROWS);
    double first, again, other, evaluated[2];
    mbp_net *net = net_new(graph, OPTIONS(.dtype = MBP_F64, .seed = 3));
    mbp_trainer *trainer = dag_trainer(net, "sgd(lr=0)");
    const mbp_backward how = {.size = sizeof how, .accumulate = 1};
    OK(mbp_trainer_backward(trainer, &p->batch, NULL, &first, &error));
    OK(mbp_trainer_evaluate(trainer, &p->batch, &evaluated[0], &error));
    OK(mbp_trainer_set_seed(trainer, 3, &error)); /* the default, the net's seed */
    OK(mbp_trainer_backward(trainer, &p->batch, &how, &again, &error));
    OK(mbp_trainer_set_seed(trainer, 4, &error));
    OK(mbp_trainer_backward(trainer, &p->batch, &how, &other, &error));
    OK(mbp_trainer_evaluate(trainer, &p->batch, &evaluated[1], &error));
    CHECK(first == again && first != other && first != evaluated[0] && evaluated[0] == evaluated[1], "%g %g %g, %g %g",
          first, again, other, evaluated[0], evaluated[1]);
    mbp_trainer_free(trainer);
    mbp_net_free(net);
    problem_free(p);
}

/* If there is nothing to add to, backward with `accumulate` is backward: on a new trainer, and after an update if the
 * caller sets the gradients to 0. */
static void test_first_part(void) {
    problem *p = problem_new(MBP_F64, ROWS);
    double loss, last[2];
    int64_t count;
    mbp_net *nets[2];
    mbp_trainer *trainers[2];
    for (int i = 0; i < 2; i++) {
        nets[i] = net_new(graph, OPTIONS(.dtype = MBP_F64, .seed = 3));
        trainers[i] = dag_trainer(nets[i], "sgd");
    }
    for (int update = 0; update < 2; update++) {
        for (int i = 0; i < 2; i++) {
            double *buffers = mbp_net_buffers(nets[i], &count);
            for (int64_t j = 0; j < count; j++)
                buffers[j] = 2;
            memset(mbp_trainer_grads(trainers[i]), 0, vector_bytes(nets[i]));
            OK(mbp_trainer_backward(trainers[i], &p->batch, HOW(.accumulate = i), &loss, &error));
            OK(mbp_trainer_apply(trainers[i], &error));
            OK(mbp_trainer_get(trainers[i], "last_loss", &last[i], &error));
        }
        CHECK(last[0] == loss && last[1] == loss && same_params(nets[0], nets[1]) &&
                  memcmp(mbp_net_buffers(nets[0], NULL), mbp_net_buffers(nets[1], NULL),
                         (size_t)count * sizeof(double)) == 0,
              "update %d: losses %g and %g", update, last[0], last[1]);
    }
    for (int i = 0; i < 2; i++)
        mbp_trainer_free(trainers[i]), mbp_net_free(nets[i]);
    problem_free(p);
}

static void test_tensors_and_files(void) {
    static const char *const names[] = {"dense_0.weight", "dense_0.bias",      "norm.weight",
                                        "norm.bias",      "norm.running_mean", "norm.running_var"};
    mbp_net *net = net_new(graph, NULL), *back = NULL;
    mbp_tensor tensor;
    char name[80], text[2][2000], *file = malloc(1 << 16);
    size_t size = 1 << 16;
    int64_t count;
    for (int i = 0; i < 6; i++) {
        CHECK(mbp_net_tensor(net, i, &tensor), "tensor %d", i);
        snprintf(name, sizeof name, "%s.%s", tensor.layer, tensor.name);
        CHECK(strcmp(name, names[i]) == 0 && tensor.dims == (i == 0 ? 2 : 1) && tensor.buffer == (i > 3) &&
                  tensor.out == 37,
              "%s", name);
        const float *vector = i > 3 ? mbp_net_buffers(net, &count) : mbp_net_params(net, &count);
        CHECK(tensor.offset + tensor.in * tensor.out <= count, "%s ends at %lld", name,
              (long long)(tensor.offset + tensor.out));
        for (int j = 0; i > 1 && j < 37; j++) /* those of dense_0 are random */
            CHECK(vector[tensor.offset + j] == (i == 2 || i == 5), "%s[%d] is %g", name, j,
                  (double)vector[tensor.offset + j]);
    }
    float *buffers = mbp_net_buffers(net, &count);
    for (int64_t j = 0; j < count; j++)
        buffers[j] = (float)j;
    OK(mbp_net_freeze(net, "norm", 1, &error));
    OK(mbp_net_write(net, file, &size, &error));
    OK(mbp_net_read(&back, file, size, NULL, &error));
    mbp_net_text(net, text[0], sizeof text[0]);
    mbp_net_text(back, text[1], sizeof text[1]);
    CHECK(same_params(net, back) && memcmp(buffers, mbp_net_buffers(back, NULL), (size_t)count * sizeof *buffers) == 0,
          "numbers differ");
    CHECK(strcmp(text[0], text[1]) == 0 &&
              strstr(text[0], "batch_norm 3 layer=norm frozen=1 lr=1 eps=0.00001 momentum=0.2\n"),
          "%s", text[0]);
    mbp_net_free(back);
    mbp_net_free(net);
    free(file);
}

static void test_single_rows(void) {
    problem *p = problem_new(MBP_F32, 9), part;
    mbp_net *net = net_new(graph, NULL);
    mbp_trainer *trainer = dag_trainer(net, "adam");
    mbp_error error;
    double loss;
    int64_t steps;
    problem_rows(p, 0, 1, &part);
#define REFUSED(call) \
    CHECK(call == MBP_INVALID && error.node == 4 && strstr(error.text, "at least 2 rows"), "%s: %s", #call, error.text)
    REFUSED(mbp_trainer_step(trainer, &part.batch, &loss, &error));
    REFUSED(mbp_trainer_backward(trainer, &part.batch, NULL, &loss, &error));
    REFUSED(mbp_trainer_forward(trainer, part.x, 2, &error));
    REFUSED(mbp_trainer_epoch(trainer, &p->batch, NULL, 9, 4, NULL, NULL, NULL, &loss, &steps, &error));
    REFUSED(mbp_trainer_epoch(trainer, &p->batch, NULL, 9, 1, NULL, NULL, NULL, &loss, &steps, &error));
#undef REFUSED
    CHECK(mbp_trainer_steps(trainer) == 0, "a refused call counts as a step");
    OK(mbp_trainer_evaluate(trainer, &part.batch, &loss, &error));
    OK(mbp_trainer_epoch(trainer, &p->batch, NULL, 9, 5, NULL, NULL, NULL, &loss, &steps, &error));
    OK(mbp_net_freeze(net, "norm", 1, &error));
    OK(mbp_trainer_step(trainer, &part.batch, &loss, &error));
    mbp_trainer_free(trainer);
    mbp_net_free(net);
    problem_free(p);
}

int main(void) {
    test_steps(MBP_F32);
    test_steps(MBP_F64);
    test_seed_and_modes();
    test_first_part();
    test_tensors_and_files();
    test_single_rows();
    return report("layers");
}
