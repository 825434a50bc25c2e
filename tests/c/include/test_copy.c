/* A copy of a net: equal in all that can be read, predicted, saved and trained, and independent from then on. */
#include "api.h"

static const char graph[] = "input 4\n"
                            "dense 0 layer=first units=6 activation=tanh l2=0.25 lr=0.5\n"
                            "batch_norm 1\n"
                            "scale 2\n"
                            "dropout 3 rate=0.25\n"
                            "dense 4 layer=last units=3 init=he_uniform\n"
                            "output 5\n";
enum { ROWS = 20, FILE_ROOM = 1 << 14 };

typedef struct world {
    mbp_array x, y, out;
} world;

static world world_new(mbp_dtype dtype) {
    world w = {array_new(dtype, ROWS, 4), array_new(dtype, ROWS, 3), array_new(dtype, ROWS, 3)};
    array_fill(&w.x, -1, 1), array_fill(&w.y, 0, 1);
    return w;
}

static void train(world *w, mbp_net *net, int steps) {
    const mbp_batch batch = mbp_batch_of(&w->x, &w->y);
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"bce"}, NULL, "adam(lr=0.1)");
    double loss;
    for (int i = 0; i < steps; i++)
        OK(mbp_trainer_step(trainer, &batch, &loss, &error));
    mbp_trainer_free(trainer);
}

/* The bytes of its file: graph text with all settings, output activations and frozen layers, values, seed, notes. */
static size_t written(mbp_net *net, char file[FILE_ROOM]) {
    size_t size = FILE_ROOM;
    memset(file, 0, FILE_ROOM);
    OK(mbp_net_write(net, file, &size, &error));
    return size;
}

static int same_nets(mbp_net *a, mbp_net *b) {
    static char x[FILE_ROOM], y[FILE_ROOM];
    return written(a, x) == written(b, y) && memcmp(x, y, FILE_ROOM) == 0;
}

/* A net whose state is not that of a new one. */
static mbp_net *used_net(world *w, const mbp_options *options) {
    mbp_net *net = net_new(graph, options);
    train(w, net, 5);
    OK(mbp_net_freeze(net, "last", 1, &error));
    OK(mbp_net_set_layer(net, "first", "max_norm", 0.7, &error));
    OK(mbp_net_set_notes(net, "what the columns mean", &error));
    return net;
}

static void test_copy(mbp_dtype dtype) {
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    world w = world_new(dtype);
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 2, NULL, &error));
    mbp_net *net = used_net(&w, OPTIONS(.dtype = dtype, .seed = 11, .allocator = &allocator, .pool = pool)),
            *copy = NULL;
    const size_t live = c.live;
    OK(mbp_net_copy(&copy, net, NULL, &error));
    CHECK(copy && c.live > live, "the copy does not use the net's allocator");
    CHECK(same_nets(net, copy), "the copy is different");
    CHECK(mbp_net_dtype(copy) == dtype && mbp_net_seed(copy) == 11 && mbp_net_threads(copy) == 2 &&
              strcmp(mbp_net_isa(copy), mbp_net_isa(net)) == 0,
          "the copy has other options");
    /* The same training and predictions; then each goes its own way. */
    train(&w, net, 3), train(&w, copy, 3);
    CHECK(same_nets(net, copy), "the copy trains differently");
    train(&w, copy, 1);
    OK(mbp_net_freeze(copy, NULL, 0, &error));
    CHECK(!same_params(net, copy) && !same_nets(net, copy), "the net changes with its copy");
    mbp_net_free(net);
    OK(mbp_net_predict(copy, &w.x, 1, &w.out, 1, 0, -1, &error));
    CHECK(strcmp(mbp_net_notes(copy), "what the columns mean") == 0, "the notes are the net's");
    mbp_net_free(copy), mbp_pool_free(pool);
    CHECK(c.live == 0, "%zu bytes are left", c.live);
    array_free(&w.x), array_free(&w.y), array_free(&w.out);
}

/* Other options; the dtype and the seed stay those of the net, whatever the options say. */
static void test_options(void) {
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    world w = world_new(MBP_F64);
    mbp_error error;
    mbp_net *net = used_net(&w, OPTIONS(.dtype = MBP_F64, .seed = 5)), *copy = NULL;
    for (int i = 0; mbp_isa_name(i); i++) {
        if (!mbp_isa_runs(i))
            continue;
        OK(mbp_net_copy(&copy, net, OPTIONS(.isa = mbp_isa_name(i), .allocator = &allocator, .seed = 9), &error));
        CHECK(strcmp(mbp_net_isa(copy), mbp_isa_name(i)) == 0 && mbp_net_seed(copy) == 5 &&
                  mbp_net_dtype(copy) == MBP_F64 && c.live > 0,
              "options of %s", mbp_isa_name(i));
        CHECK(same_nets(net, copy), "the copy for %s is different", mbp_isa_name(i));
        mbp_net_free(copy);
    }
    copy = NULL;
    CHECK(mbp_net_copy(&copy, net, OPTIONS(.isa = "z80"), &error) == MBP_UNSUPPORTED && !copy, "%s", error.text);
    CHECK(mbp_net_copy(&copy, net, OPTIONS(.threads = -1), &error) == MBP_INVALID && !copy, "%s", error.text);
    CHECK(mbp_net_copy(&copy, net, &(mbp_options){.size = 1}, &error) == MBP_INVALID && !copy, "%s", error.text);
    mbp_net_free(net);
    array_free(&w.x), array_free(&w.y), array_free(&w.out);
}

int main(void) {
    test_copy(MBP_F32);
    test_copy(MBP_F64);
    test_options();
    return report("copy");
}
