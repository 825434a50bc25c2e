/* Parts of a net: they compute what the net computes between the same nodes, share its parameters and its lock, train
 * their own layers only, and are nets of their own in files. */
#include <pthread.h>

#include "api.h"

enum { ROWS = 21, NODES_MAX = 4 };

/* A part of a graph: the numbers of its inputs and outputs, -1 after the last; a loss for each output. */
typedef struct part_case {
    const char *graph;
    int inputs[NODES_MAX], outputs[NODES_MAX];
    const char *losses[NODES_MAX];
} part_case;

static const char autoencoder[] = "input 6\ndense 0 units=3 activation=tanh\ndense 1 units=6\noutput 2\noutput 1\n";
static const char normed[] =
    "input 4\nbatch_norm 0\ndense 1 units=5 activation=relu\nlayer_norm 2\nscale 3 layer=s\n"
    "dense 4 units=2 init=he_normal bias=0 l2=0.1 max_norm=2\nadd 5 5\noutput 6 activation=exp\n";
static const part_case cases[] = {
    {autoencoder, {0, -1}, {1, -1}, {"mse"}},
    {autoencoder, {1, -1}, {2, -1}, {"mse"}},
    {autoencoder, {0, -1}, {2, 1, -1}, {"mse", "huber"}},
    {autoencoder, {0, -1}, {0, -1}, {"mse"}},
    {normed, {0, -1}, {6, -1}, {"poisson"}},
    {normed, {2, -1}, {5, -1}, {"mse"}},
    {normed, {0, -1}, {3, -1}, {"mae"}},
    {dag, {0, 1, -1}, {10, 11, -1}, {"mse", "mse"}},
    {dag, {1, 0, -1}, {10, -1}, {"mse"}},
    {dag, {2, -1}, {4, -1}, {"mse"}},
    {dag, {3, 2, 1, -1}, {9, 7, -1}, {"bce", "mse"}},
    {dag, {9, -1}, {10, -1}, {"bce"}},
};
enum { CASES = sizeof cases / sizeof *cases };

static int count(const int *nodes) {
    int n = 0;
    while (n < NODES_MAX && nodes[n] >= 0)
        n++;
    return n;
}

static mbp_net *part_new(mbp_net *net, const part_case *c) {
    mbp_net *part = NULL;
    OK(mbp_net_part(&part, net, c->inputs, count(c->inputs), c->outputs, count(c->outputs), &error));
    if (!part)
        exit(report("a part"));
    return part;
}

/* Rows for the inputs of the net, and the values of its nodes for them. */
typedef struct values {
    mbp_array x[2], node[DAG_NODES];
    int n_x, nodes;
} values;

static void values_new(values *v, mbp_net *net) {
    v->n_x = mbp_net_inputs(net), v->nodes = mbp_net_nodes(net);
    for (int i = 0; i < v->n_x; i++) {
        v->x[i] = array_new(mbp_net_dtype(net), ROWS, mbp_net_input_width(net, i));
        array_fill(&v->x[i], -1, 1);
    }
    for (int i = 0; i < v->nodes; i++) {
        v->node[i] = array_new(mbp_net_dtype(net), ROWS, mbp_net_node_width(net, i));
        OK(mbp_net_predict(net, v->x, v->n_x, &v->node[i], 1, 0, i, &error));
    }
}

static void values_free(values *v) {
    for (int i = 0; i < v->n_x; i++)
        array_free(&v->x[i]);
    for (int i = 0; i < v->nodes; i++)
        array_free(&v->node[i]);
}

static void pick(const values *v, const int *nodes, mbp_array *arrays) {
    for (int i = 0; i < count(nodes); i++)
        arrays[i] = v->node[nodes[i]];
}

/* The part's outputs for the values of its inputs must be the values of the net's nodes. */
static void check_values(mbp_net *part, const part_case *c, const values *v) {
    mbp_array x[NODES_MAX], out[NODES_MAX];
    pick(v, c->inputs, x);
    for (int i = 0; i < count(c->outputs); i++)
        out[i] = array_new(mbp_net_dtype(part), ROWS, mbp_net_output_width(part, i));
    OK(mbp_net_predict(part, x, count(c->inputs), out, count(c->outputs), /* raw: */ 1, -1, &error));
    for (int i = 0; i < count(c->outputs); i++) {
        const mbp_array *expected = &v->node[c->outputs[i]];
        CHECK(memcmp(out[i].data, expected->data, (size_t)(ROWS * expected->row_stride)) == 0,
              "node %d of %.20s differs in the part", c->outputs[i], c->graph);
        array_free(&out[i]);
    }
}

static void train(mbp_net *net, const part_case *c, const values *v) {
    mbp_array x[NODES_MAX], y[NODES_MAX];
    double loss;
    pick(v, c->inputs, x);
    for (int i = 0; i < count(c->outputs); i++) {
        y[i] = array_new(mbp_net_dtype(net), ROWS, mbp_net_output_width(net, i));
        for (int64_t r = 0; r < ROWS; r++)
            for (int64_t j = 0; j < y[i].cols; j++)
                array_set(&y[i], r, j, (double)((r + j) % 5) / 4);
    }
    mbp_trainer *trainer = trainer_new(net, c->losses, NULL, "adamw(lr=0.01, weight_decay=0.1)");
    const mbp_batch batch = {sizeof batch, x, count(c->inputs), y, count(c->outputs), NULL, NULL, NULL, NULL};
    OK(mbp_trainer_set(trainer, "clip_norm", 0.5, &error));
    for (int step = 0; step < 5; step++)
        OK(mbp_trainer_step(trainer, &batch, &loss, &error));
    mbp_trainer_free(trainer);
    for (int i = 0; i < count(c->outputs); i++)
        array_free(&y[i]);
}

static char *numbers(mbp_net *net, const mbp_tensor *tensor) {
    char *vector = tensor->buffer ? mbp_net_buffers(net, NULL) : mbp_net_params(net, NULL);
    return vector + (size_t)tensor->offset * item_of(mbp_net_dtype(net));
}

/* Compares, or copies, the tensors of `part` with those of a net of its own. Returns whether all are the same. */
static int each_tensor(mbp_net *part, mbp_net *own, int copy) {
    mbp_tensor a, b;
    int same = 1;
    for (int i = 0; mbp_net_tensor(part, i, &a); i++) {
        const size_t bytes = (size_t)(a.in * a.out) * item_of(mbp_net_dtype(part));
        CHECK(mbp_net_tensor(own, i, &b) && strcmp(a.layer, b.layer) == 0 && strcmp(a.name, b.name) == 0 &&
                  a.in == b.in && a.out == b.out,
              "tensor %d", i);
        if (copy)
            memcpy(numbers(own, &b), numbers(part, &a), bytes);
        same &= memcmp(numbers(own, &b), numbers(part, &a), bytes) == 0;
    }
    return same;
}

/* How many numbers of the net differ from `before`, outside the tensors of the part (0 is right), and inside. */
static void count_changes(mbp_net *net, mbp_net *part, const char *before, int64_t *outside, int64_t *inside) {
    const size_t item = item_of(mbp_net_dtype(net));
    int64_t params, buffers;
    mbp_tensor tensor;
    const char *now = mbp_net_params(net, &params);
    mbp_net_buffers(net, &buffers);
    char *is_own = calloc((size_t)(params + buffers) + 1, 1);
    for (int i = 0; mbp_net_tensor(part, i, &tensor); i++)
        memset(is_own + tensor.offset + (tensor.buffer ? params : 0), 1, (size_t)(tensor.in * tensor.out));
    *outside = *inside = 0;
    for (int64_t i = 0; i < params + buffers; i++)
        if (memcmp(now + (size_t)i * item, before + (size_t)i * item, item) != 0)
            ++*(is_own[i] ? inside : outside);
    free(is_own);
}

/* A part is trained like a net of its own with the same text and values, and nothing else of the whole changes. */
static void test_training(const part_case *c, mbp_dtype dtype) {
    mbp_net *net = net_new(c->graph, OPTIONS(.dtype = dtype, .seed = 3)), *part = part_new(net, c);
    char *text = malloc(mbp_net_text(part, NULL, 0));
    mbp_net_text(part, text, mbp_net_text(part, NULL, 0));
    mbp_net *own = net_new(text, OPTIONS(.dtype = dtype, .seed = 3));
    values v;
    values_new(&v, net);
    check_values(part, c, &v);
    each_tensor(part, own, 1);
    int64_t params, buffers, outside, inside;
    mbp_net_params(net, &params), mbp_net_buffers(net, &buffers);
    const size_t bytes = (size_t)(params + buffers) * item_of(dtype);
    char *before = malloc(bytes + 1);
    memcpy(before, mbp_net_params(net, NULL), bytes);
    train(part, c, &v);
    train(own, c, &v);
    CHECK(each_tensor(part, own, 0), "%s is trained otherwise as a part", text);
    count_changes(net, part, before, &outside, &inside);
    mbp_tensor any;
    CHECK(outside == 0 && (inside > 0 || !mbp_net_tensor(part, 0, &any)), "%s: %lld numbers of other layers changed",
          text, (long long)outside);
    values_free(&v);
    values_new(&v, net);
    check_values(part, c, &v); /* the net has the part's new values */
    values_free(&v);
    free(before), free(text), mbp_net_free(own);
    mbp_net_free(net); /* the part keeps the parameters */
    CHECK(mbp_net_init(part, 1, NULL) == MBP_OK, "the part lives on");
    mbp_net_free(part);
}

/* A written part is a net: it has the part's layers alone, and predicts the same. */
static void test_file(const part_case *c, mbp_dtype dtype) {
    if (c->inputs[0] == c->outputs[0]) /* a file stores the dtype with the tensors, and this part has none */
        return;
    mbp_net *net = net_new(c->graph, OPTIONS(.dtype = dtype, .seed = 4)), *part = part_new(net, c), *read = NULL;
    size_t size = 0;
    values v;
    values_new(&v, net);
    (void)mbp_net_write(part, NULL, &size, NULL);
    char *bytes = malloc(size);
    OK(mbp_net_write(part, bytes, &size, &error));
    OK(mbp_net_read(&read, bytes, size, NULL, &error));
    CHECK(each_tensor(part, read, 0), "the tensors of %.20s", c->graph);
    check_values(read, c, &v);
    mbp_net_free(read), mbp_net_free(part), mbp_net_free(net);
    values_free(&v), free(bytes);
}

/* A copy of a part has the part's numbers alone, and is another net. */
static void test_copy(const part_case *c, mbp_dtype dtype) {
    mbp_net *net = net_new(c->graph, OPTIONS(.dtype = dtype, .seed = 5)), *part = part_new(net, c), *copy = NULL;
    values v;
    int64_t count, own = 0;
    mbp_tensor tensor;
    values_new(&v, net);
    OK(mbp_net_copy(&copy, part, NULL, &error));
    check_values(copy, c, &v);
    for (int i = 0; mbp_net_tensor(part, i, &tensor); i++)
        own += tensor.buffer ? 0 : tensor.in * tensor.out;
    mbp_net_params(copy, &count);
    CHECK(each_tensor(part, copy, 0) && count == own, "%lld parameters instead of %lld", (long long)count,
          (long long)own);
    train(copy, c, &v);
    check_values(part, c, &v);
    mbp_net_free(copy), mbp_net_free(part), mbp_net_free(net);
    values_free(&v);
}

/* The vectors of a trainer of a part are those of the whole. They fit a net of its own only if that has all layers in
 * the same order. */
static void test_trainers_in_files(void) {
    static const char graph[] = "input 2\ndense 0 layer=a units=2\ndense 0 layer=b units=2\ndense 2 layer=a\noutput 1\n"
                                "output 3\n";
    static const part_case alone[] = {{graph, {0, -1}, {1, 2, -1}, {"mse", "mse"}},
                                      {graph, {0, -1}, {3, -1}, {"mse"}},
                                      {graph, {0, -1}, {2, -1}, {"mse"}}};
    for (int i = 0; i < 3; i++) {
        mbp_net *net = net_new(graph, NULL), *part = part_new(net, &alone[i]);
        mbp_trainer *trainer = trainer_new(part, alone[i].losses, NULL, "adam");
        size_t size = 0;
        const mbp_status status = mbp_trainer_write(trainer, NULL, &size, NULL);
        CHECK(i ? status == MBP_UNSUPPORTED : size > 0, "%d: status %d", i, status);
        mbp_trainer_free(trainer), mbp_net_free(part), mbp_net_free(net);
    }
}

/* Settings, frozen layers and output activations belong to each net. */
static void test_settings(void) {
    mbp_net *net = net_new(normed, NULL), *part = part_new(net, &cases[4]), *head = part_new(net, &cases[5]);
    mbp_layer_info info = {.size = sizeof info};
    CHECK(strcmp(mbp_net_output_activation(part, 0), "exp") == 0 && !mbp_net_output_activation(head, 0),
          "only an output of the net has its activation");
    OK(mbp_net_freeze(part, NULL, 1, &error));
    OK(mbp_net_layer(net, 0, &info, &error));
    CHECK(!info.frozen, "the net's own layer is frozen");
    mbp_net *frozen = part_new(part, &cases[4]); /* a part of a part */
    OK(mbp_net_layer(frozen, 0, &info, &error));
    CHECK(info.frozen && mbp_net_params(frozen, NULL) == mbp_net_params(net, NULL),
          "a part has the settings of its net");
    mbp_net_free(part), mbp_net_free(net), mbp_net_free(head), mbp_net_free(frozen);
}

static void *init_other(void *net) { return (void *)(intptr_t)mbp_net_init(net, 1, NULL); }

static void test_one_thread_at_a_time(void) {
    mbp_net *net = net_new(autoencoder, NULL), *part = part_new(net, &cases[0]);
    mbp_net *pairs[2][2] = {{net, part}, {part, net}};
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        void *status;
        OK(mbp_net_lock(pairs[i][0], &error));
        pthread_create(&thread, NULL, init_other, pairs[i][1]);
        pthread_join(thread, &status);
        CHECK((intptr_t)status == MBP_BUSY, "a net and its part have one lock");
        mbp_net_unlock(pairs[i][0]);
    }
    mbp_net_free(part), mbp_net_free(net);
}

static void test_refusals(void) {
    static const struct {
        int inputs[3], n_inputs, outputs[3], n_outputs;
        const char *text;
    } wrong[] = {
        {{0}, 0, {2}, 1, "at least one input"},
        {{0}, 1, {2}, 0, "at least one input"},
        {{0, 3}, 2, {2}, 1, "inputs[1] is 3, but the nodes have the numbers 0 to 2"},
        {{0}, 1, {-1}, 1, "outputs[0] is -1"},
        {{0, 0}, 2, {2}, 1, "node 0 is twice among the inputs"},
        {{0}, 1, {2, 2}, 2, "node 2 is twice among the outputs"},
        {{2}, 1, {1}, 1, "the outputs depend on node 0"},
        {{0, 2}, 2, {1}, 1, "no output depends on node 2"},
    };
    mbp_net *net = net_new(autoencoder, NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        mbp_net *part = NULL;
        mbp_error error = {0};
        const mbp_status status = mbp_net_part(&part, net, wrong[i].inputs, wrong[i].n_inputs, wrong[i].outputs,
                                               wrong[i].n_outputs, &error);
        CHECK(status == MBP_INVALID && !part && strstr(error.text, wrong[i].text), "%zu: %s", i, error.text);
    }
    mbp_net_free(net);
}

static void test_no_memory(void) {
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_net *net = net_new(dag, OPTIONS(.allocator = &allocator)), *part = NULL;
    const size_t live = c.live;
    for (c.calls = 0, c.fail_at = 1; !part; c.calls = 0, c.fail_at++) {
        const mbp_status status = mbp_net_part(&part, net, cases[7].inputs, 2, cases[7].outputs, 2, NULL);
        CHECK(status == (part ? MBP_OK : MBP_NO_MEMORY) && (part || c.live == live), "allocation %ld", c.fail_at);
    }
    mbp_net_free(net), mbp_net_free(part);
    CHECK(c.live == 0 && c.fail_at > 3, "%zu bytes are left", c.live);
}

int main(void) {
    for (int i = 0; i < CASES; i++)
        for (mbp_dtype dtype = MBP_F32; dtype <= MBP_F64; dtype++) {
            test_training(&cases[i], dtype);
            test_file(&cases[i], dtype);
            test_copy(&cases[i], dtype);
        }
    test_settings();
    test_one_thread_at_a_time();
    test_refusals();
    test_trainers_in_files();
    test_no_memory();
    return report("test_part");
}
