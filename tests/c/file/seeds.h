/* Files for damage and fuzzing: nets of many shapes, each in float32, and in float64 with extras; and trainers. */
#ifndef SEEDS_H
#define SEEDS_H

#include "file/files.h"

static const char *const seed_graphs[] = {
    "input 3\ndense 0 units=2\noutput 1\n",
    "input 1\ndense 0 units=1\noutput 1\n",
    "input 2\ndense 0 layer=a-b_C units=3 bias=0 frozen=1 init=zeros\noutput 1 activation=softmax\n",
    "input 5\ndense 0 units=3 activation=relu\ndense 1 units=3 activation=leaky_relu(slope=0.25)\nadd 1 2\noutput 3 "
    "activation=exp\n",
    "input 2\ndense 0 units=4 activation=tanh init=array\nmultiply 1 1\nactivation 2 elu\ndense 3 units=2\noutput 4 "
    "activation=sigmoid\n",
    "input 4\ninput 2\ndense 0 layer=shared units=4\ndense 2 layer=shared\nconcat 3 1\ndense 4 units=1\noutput "
    "5\noutput 2\n",
    "input 7\ndense 0 units=9\nconcat 1 0 1\ndense 2 units=3\noutput 3\n",
    "input 1\ndense 0 units=17\ndense 1 units=1\noutput 2\n",
    "input 16\ndense 0 units=1 bias=0\noutput 1\n",
    "input 3\ndense 0 units=2\ndense 1 units=2\ndense 2 units=2\ndense 3 units=2\noutput 4\noutput 1\n",
};
static const char *const seed_optimizers[] = {"sgd(decay_bias=1)", "adam_amsgrad(lr=0.3)", "irprop_plus"};
enum {
    NET_SEEDS = 2 * sizeof seed_graphs / sizeof *seed_graphs,
    SEEDS = NET_SEEDS + sizeof seed_optimizers / sizeof *seed_optimizers
};

/* Whether a seed has extras. */
static inline int has_extras(int seed) { return seed % 2 || seed >= NET_SEEDS; }

static const double seed_numbers[] = {0, -1.5, 3e300, 1e-310, 7};
static const mbp_vector seed_vectors[] = {
    {"trainer.slots.m", seed_numbers, 3}, {"trainer.slots.v", seed_numbers + 1, 4}, {"x.y-z.0_A", seed_numbers, 1}};
static const mbp_extras seed_extras = {"{\"steps\":12,\"text\":\"\xc3\xa9\\n\"}", seed_vectors, 3};

static inline blob write_seed(const mbp_net *net, const mbp_extras *extras) {
    blob file = {NULL, 0};
    mbp_error error = {0};
    mbp_net_write_with(net, extras, NULL, &file.size, &error);
    file.bytes = malloc(file.size);
    CHECK(mbp_net_write_with(net, extras, file.bytes, &file.size, &error) == MBP_OK, "%s", error.text);
    return file;
}

/* A trainer with one loss of the caller's, perhaps an average, a setting, and a line and a vector of Python. */
static inline blob make_trainer_seed(int i) {
    static const char graph[] = "input 2\nbatch_norm 0\ndense 1 units=1\ndense 1 units=2\noutput 2\noutput 3\n";
    mbp_net *net = NULL;
    mbp_trainer *trainer = NULL;
    mbp_extras *extras = NULL;
    mbp_error error = {0};
    mbp_options options = {.size = sizeof options, .dtype = i % 2 ? MBP_F64 : MBP_F32};
    const char *losses[] = {"huber(delta=[0.25])", NULL};
    int ok = mbp_net_create(&net, graph, &options, &error) == MBP_OK &&
             mbp_trainer_create(&trainer, net, losses, NULL, 2, seed_optimizers[i], &error) == MBP_OK &&
             (i == 0 || mbp_trainer_set_average(trainer, i == 1 ? 0.5 : 1, 3, 2, &error) == MBP_OK) &&
             (i == 1 || mbp_trainer_set(trainer, "clip_norm", 3e300, &error) == MBP_OK) &&
             mbp_trainer_set(trainer, "last_loss", 1.0 / 3, &error) == MBP_OK;
    blob plain = {NULL, 0}, file = {NULL, 0};
    mbp_trainer_write(trainer, NULL, &plain.size, NULL);
    plain.bytes = malloc(plain.size);
    ok = ok && mbp_trainer_write(trainer, plain.bytes, &plain.size, &error) == MBP_OK;
    mbp_trainer_free(trainer), mbp_net_free(net), net = NULL;
    ok = ok && mbp_net_read_with(&net, &extras, plain.bytes, plain.size, NULL, &error) == MBP_OK;
    CHECK(ok, "%s: %s", seed_optimizers[i], error.text);
    if (ok) {
        char text[1000];
        mbp_vector vector[MBP_VECTORS_MAX];
        snprintf(text, sizeof text, "%spython.history=[\"loss\",{\"$float\":\"nan\"}]\n", extras->text);
        memcpy(vector, extras->vector, (size_t)extras->count * sizeof *vector);
        vector[extras->count] = (mbp_vector){"trainer.python.history", seed_numbers, 2};
        file = write_seed(net, &(mbp_extras){text, vector, extras->count + 1});
    }
    mbp_extras_free(extras), mbp_net_free(net), free(plain.bytes);
    return file;
}

static inline blob make_seed(int i) {
    if (i >= NET_SEEDS)
        return make_trainer_seed(i - NET_SEEDS);
    mbp_net *net = NULL;
    mbp_error error = {0};
    mbp_options options = {.size = sizeof options, .dtype = i % 2 ? MBP_F64 : MBP_F32, .seed = (uint64_t)i << 59};
    CHECK(mbp_net_create(&net, seed_graphs[i / 2], &options, &error) == MBP_OK, "%s", error.text);
    CHECK(mbp_net_set_notes(net, i % 3 ? "{\"classes\":[\"a\",\"\\u00e9\"]}\t" : NULL, &error) == MBP_OK, "%s",
          error.text);
    blob file = write_seed(net, i % 2 ? &seed_extras : NULL);
    mbp_net_free(net);
    return file;
}

/* A file that can be read can be written again, and gives the same bytes after another read and write. Returns 0 if the
 * file is refused. */
static inline int check_stable(blob file, const mbp_options *options) {
    mbp_net *net = NULL;
    mbp_extras *extras = NULL;
    mbp_error error = {0};
    if (mbp_net_read_with(&net, &extras, file.bytes, file.size, options, &error) != MBP_OK)
        return 0;
    blob once = write_seed(net, extras);
    mbp_extras_free(extras);
    mbp_net_free(net);
    CHECK(mbp_net_read_with(&net, &extras, once.bytes, once.size, options, &error) == MBP_OK, "%s", error.text);
    blob again = write_seed(net, extras);
    CHECK(once.size == again.size && memcmp(once.bytes, again.bytes, once.size) == 0,
          "the file that is written again differs");
    mbp_extras_free(extras);
    mbp_net_free(net);
    free(once.bytes), free(again.bytes);
    return 1;
}

#endif
