/* Files for damage and fuzzing: nets of many shapes, each in float32, and in float64 with extras. */
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
enum { SEEDS = 2 * sizeof seed_graphs / sizeof *seed_graphs };

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

static inline blob make_seed(int i) {
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
