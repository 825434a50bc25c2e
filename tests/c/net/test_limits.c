/* Wrong graph texts, each with a text that the error must contain; and sizes at and beyond every limit. */
#include "api.h"

#include <time.h>

#define NAME63 "n23456789012345678901234567890123456789012345678901234567890123"
#define IN "input 4\n"
#define OUT "output 1\n"

static const struct {
    const char *text, *word;
} bad[] = {
    {"", "no output"},
    {"\n\n# only a comment\n", "no output"},
    {"input 4\n", "no output"},
    {"output 0\n", "graph line 1: there is no node 0 before this line: start with an input"},
    {"input\noutput 0\n", "the width of an input must be a whole number from 1 to 2147483647, not \"\""},
    {"input 0\noutput 0\n", "the width of an input must be a whole number from 1 to 2147483647, not \"0\""},
    {"input -1\noutput 0\n", "\"-1\""},
    {"input 4.0\noutput 0\n", "\"4.0\""},
    {"input 0x10\noutput 0\n", "\"0x10\""},
    {"input 2147483648\noutput 0\n", "1 to 2147483647"},
    {"input 4294967297\noutput 0\n", "1 to 2147483647"},
    {"input 9223372036854775808\noutput 0\n", "width"},
    {"input 18446744073709551617\noutput 0\n", "width"},
    {"input 4 5\noutput 0\n", "unexpected \"5\" at the end of the line"},
    {"Input 4\noutput 0\n", "unknown statement \"Input\"; did you mean \"input\"? valid: input, ids, dense, "},
    {"inputs 4\noutput 0\n", "unknown statement \"inputs\"; did you mean \"input\"?"},
    {IN "conv 0 units=2\n" OUT, "graph line 2: unknown statement \"conv\"; valid: input, "},
    {IN "dense 0\n" OUT, "the new layer dense_0 needs units=N"},
    {IN "dense units=2\n" OUT, "expected the number of an earlier node, not \"units=2\""},
    {IN "dense 1 units=2\n" OUT, "there is no node 1 before this line: the last is node 0"},
    {IN "dense -1 units=2\n" OUT, "not \"-1\""},
    {IN "dense 4294967296 units=2\n" OUT, "there is no node 4294967296"},
    {IN "dense 0 units=\n" OUT, "units needs a value: units=VALUE"},
    {IN "dense 0 units=0\n" OUT, "units must be a whole number from 1 to 2147483647, not \"0\""},
    {IN "dense 0 units=2147483648\n" OUT, "units must be"},
    {IN "dense 0 units=2 units=3\n" OUT, "units is given twice"},
    {IN "dense 0 units=2 width=3\n" OUT,
     "unknown setting \"width\"; valid: layer, units, activation, init, bias, bias_init, frozen, lr=1"},
    {IN "dense 0 units=2 actvation=relu\n" OUT, "unknown setting \"actvation\"; did you mean \"activation\"?"},
    {IN "dense 0 units=2 maxnorm=1\n" OUT, "did you mean \"max_norm\"?"},
    {IN "dense 0 units=2 =3\n" OUT, "unknown setting \"\""},
    {IN "dense 0 units=2 " NAME63 NAME63 NAME63 NAME63 "=1\n" OUT, "67890\"; valid: layer, units"},
    {IN "dense 0 units=2 activation=swish\n" OUT, "unknown activation \"swish\"; valid: identity, relu, "},
    {IN "dense 0 units=2 activation=ReLU\n" OUT, "unknown activation \"ReLU\"; did you mean \"relu\"?"},
    {IN "dense 0 units=2 activation=softmax\n" OUT, "softmax is an output activation, not a layer activation: keep the "
                                                    "layer linear and use the loss cross_entropy, which includes it, "
                                                    "or write \"output N activation=softmax\""},
    {IN "activation 0 softmax\n" OUT,
     "use the loss cross_entropy, which includes it, or write \"output N activation=softmax\""},
    {IN "dense 0 units=2 activation=relu(slope=1)\n" OUT, "unknown parameter \"slope\""},
    {IN "dense 0 units=2 activation=leaky_relu(slope=-1)\n" OUT, "[0,inf)"},
    {IN "dense 0 units=2 activation=elu(alpha=inf)\n" OUT, "alpha must be in [0,inf), not inf"},
    {IN "dense 0 units=2 activation=elu(alpha=1\n" OUT, "\"elu(alpha=1\" does not end with \")\""},
    {IN "dense 0 units=2 activation=elu( alpha=1 \n" OUT, "\"elu( alpha=1\" does not end with \")\": add \")\""},
    {IN "activation 0 elu( alpha\n" OUT, "\"elu( alpha\" does not end with \")\": add \")\""},
    {IN "activation 0 elu (alpha=1)\n" OUT, "unexpected \"(alpha=1)\" at the end of the line"},
    {IN "dense 0 units=2 init=xavier\n" OUT, "unknown initializer"},
    {IN "dense 0 units=2 init=normal(std=x)\n" OUT, "std must be a number, not \"x\""},
    {IN "dense 0 units=2 bias_init=xavier\n" OUT, "unknown initializer"},
    {IN "dense 0 units=2 bias=0 bias_init=zeros\n" OUT, "layer dense_0 has no bias: remove bias_init=, or set bias=1"},
    {IN "dense 0 units=2 bias=0 bias_lr=1\n" OUT, "layer dense_0 has no bias: remove bias_lr=, or set bias=1"},
    {IN "dense 0 units=2 bias=2\n" OUT, "bias must be 0 or 1, not \"2\""},
    {IN "dense 0 units=2 frozen=yes\n" OUT, "frozen must be 0 or 1, not \"yes\""},
    {IN "dense 0 units=2 lr=-1\n" OUT, "lr must be in [0,inf), not -1"},
    {IN "dense 0 units=2 l1=inf\n" OUT, "l1 must be in [0,inf), not inf"},
    {IN "dense 0 units=2 l2=\n" OUT, "l2 must be a number, not \"\""},
    {IN "dense 0 units=2 max_norm=1 max_norm=1\n" OUT, "max_norm is given twice"},
    {"input 2\noutput 0 activation=identity mean=(0 0)\n", "an output with mean needs std too"},
    {"input 2\noutput 0 activation=identity std=(1 1)\n", "an output with std needs mean too"},
    {"input 2\noutput 0 activation=identity mean=(0 0) std=(1 0)\n",
     "std of column 1 is 0, but must be finite and above 0"},
    {"input 2\noutput 0 activation=identity mean=(0 inf) std=(1 1)\n", "mean of column 1 is inf, but must be finite"},
    {"input 2\noutput 0 activation=identity mean=(0) std=(1 1)\n",
     "mean has fewer numbers than the output has columns: 2"},
    {"input 2\noutput 0 activation=identity mean=(0.25) std=(1 1)\n",
     "mean has 1 number, but the output has 2 columns"},
    {"input 2\noutput 0 activation=identity mean=(0 0 0) std=(1 1)\n",
     "mean has more than 2 numbers, but the output has 2 columns"},
    {"input 2\noutput 0 activation=identity mean=(0 x) std=(1 1)\n", "mean must be numbers, not \"x\""},
    {"input 2\noutput 0 activation=identity mean=0,0,0 std=(1 1)\n", "mean=0,0,0 must be a list of numbers in ( )"},
    {"input 2\noutput 0 activation=identity mean=(0 0 std=(1 1\n", "does not end with"},
    {"input 2\noutput 0 activation=exp mean=(0 0) std=(1 1)\n",
     "an output with mean and std needs activation=identity"},
    {"input 2\noutput 0 mean=(0 0) std=(1 1)\n", "an output with mean and std needs activation=identity"},
    {IN "dense 0 units=2 max_norm\n" OUT, "max_norm needs a value: max_norm=VALUE"},
    {IN "dense 0 units=2 layer=a\ndense 0 layer=a l2=0\noutput 2\n",
     "layer a already exists: remove l2= to use it again"},
    {IN "dense 0 units=2 layer=a.b\n" OUT, "\"a.b\" is not a valid layer name: use 1 to 63 letters"},
    {IN "dense 0 units=2 layer=\xc3\xa4\n" OUT, "not a valid layer name"},
    {IN "dense 0 units=2 layer=" NAME63 "4\n" OUT, "use 1 to 63 letters"},
    {IN "dense 0 units=3 layer=a\ndense 0 layer=a units=3\noutput 2\n", "layer a already exists: remove units="},
    {IN "dense 0 units=4 layer=a\nbatch_norm 1 layer=a\noutput 2\n", "layer a is a dense layer: choose another name"},
    {IN "scale 0 gain=0 bias=0\n" OUT, "layer scale_0 has neither a gain nor a bias: set gain=1 or bias=1"},
    {IN "scale 0 gain=2\n" OUT, "gain must be 0 or 1, not \"2\""},
    {IN "scale 0 bias=-1\n" OUT, "bias must be 0 or 1, not \"-1\""},
    {IN "scale 0 frozen=2\n" OUT, "frozen must be 0 or 1, not \"2\""},
    {IN "scale 0 lr=-1\n" OUT, "lr must be in [0,inf), not -1"},
    {IN "scale 0 l2=1\n" OUT, "unknown setting \"l2\"; valid: layer, gain, bias, frozen, lr=1[0,inf)"},
    {IN "scale 0 layer=a\nscale 1 layer=a gain=1\noutput 2\n", "layer a already exists: remove gain= to use it again"},
    {IN "scale 0 layer=a\ninput 1\nscale 2 layer=a\noutput 3\n", "layer a takes 4 columns, but node 2 has 1"},
    {IN "input 1\nlayer_norm 1 layer=a\nlayer_norm 0 layer=a\noutput 3\n", "layer a takes 1 column, but node 0 has 4"},
    {IN "dense 0 units=3 layer=a\ndense 1 layer=a\noutput 2\n", "layer a takes 4 columns, but node 1 has 3"},
    {IN "dense 0 units=4 layer=dense_1\ndense 1 units=4\noutput 2\n",
     "the name dense_1 is already used by another layer"},
    {IN "activation 0\n" OUT, "unknown activation \"\""},
    {IN "activation 0 relu relu\n" OUT, "unexpected \"relu\""},
    {IN "activation relu\n" OUT, "expected the number of an earlier node, not \"relu\""},
    {IN "add 0\n" OUT, "the number of an earlier node is missing"},
    {IN "multiply 0 0 0\n" OUT, "unexpected \"0\""},
    {IN "subtract 0 0 0\n" OUT, "unexpected \"0\""},
    {IN "add 0 0 x\n" OUT, "expected the number of an earlier node, not \"x\""},
    {IN "input 5\nadd 1 1 0\noutput 2\n", "add needs operands of the same width, but node 1 has 5 columns and node 0"},
    {IN "input 5\nsubtract 0 1\noutput 2\n", "subtract needs operands of the same width, but node 0 has 4 columns"},
    {IN "slice\n" OUT, "the number of an earlier node is missing"},
    {IN "slice 0\n" OUT, "slice needs from=F and to=T, for the columns F to T - 1"},
    {IN "slice 0 to=2\n" OUT, "slice needs from=F and to=T"},
    {IN "slice 0 from=1 to=1\n" OUT,
     "from=1 to=1 is not a range of columns of node 0: they must be whole numbers with "},
    {IN "slice 0 from=3 to=1\n" OUT, "from=3 to=1 is not a range"},
    {IN "slice 0 from=0 to=5\n" OUT, "with 0 <= from < to <= 4"},
    {IN "slice 0 from=0 to=1e300\n" OUT, "from=0 to=0x17e43c8800759cp944 is not a range"},
    {IN "slice 0 from=0.5 to=2\n" OUT, "from=0.5 to=2 is not a range"},
    {IN "slice 0 from=0 to=2.5\n" OUT, "from=0 to=2.5 is not a range"},
    {IN "slice 0 from=-1 to=2\n" OUT, "from must be in [0,inf), not -1"},
    {IN "slice 0 from=0 to=inf\n" OUT, "to must be in [0,inf), not inf"},
    {IN "slice 0 from=0 to=1 from=0\n" OUT, "from is given twice"},
    {IN "slice 0 from=0 to=1 step=2\n" OUT, "unknown setting \"step\"; valid: from=-1[0,inf), to=-1[0,inf)"},
    {IN "input 5\nadd 0 1\noutput 2\n",
     "add needs operands of the same width, but node 0 has 4 columns and node 1 has 5"},
    {IN "input 5\nmultiply 1 0\noutput 2\n", "node 1 has 5 columns and node 0 has 4"},
    {IN "concat\n" OUT, "the number of an earlier node is missing"},
    {IN "concat 0 x\n" OUT, "not \"x\""},
    {"input 2147483647\nconcat 0 0\n" OUT, "concat has more than 2147483647 columns"},
    {IN "output 0\noutput 0\n", "node 0 is already an output"},
    {IN "output 0 exp\n", "unknown setting \"exp\"; valid: activation"},
    {IN "output 0 activation=\n", "activation needs a value"},
    {IN "output 0 activation=relu\n", "unknown output activation \"relu\"; valid: identity, sigmoid, exp, softmax"},
    {IN "output 0 activation=exp more\n", "unknown setting \"more\""},
    {IN "output\n", "the number of an earlier node is missing"},
    {"input 2147483647\ndense 0 units=2147483647\n" OUT, "2^48 parameters"},
    {"input 16777216\ndense 0 units=16777217 bias=0\n" OUT, "2^48 parameters"},
};

static void test_bad_texts(void) {
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mbp_net *net = NULL;
        mbp_error error = {0};
        const mbp_status status = mbp_net_create(&net, bad[i].text, OPTIONS(.allocator = &allocator), &error);
        CHECK(status == MBP_INVALID && error.status == MBP_INVALID && !net, "\"%s\": status %d", bad[i].text,
              (int)status);
        CHECK(strstr(error.text, bad[i].word), "\"%s\": \"%s\" is not in \"%s\"", bad[i].text, bad[i].word, error.text);
        CHECK(c.live == 0, "\"%s\": %zu bytes are left", bad[i].text, c.live);
        CHECK(mbp_net_create(&net, bad[i].text, NULL, NULL) == MBP_INVALID && !net, "\"%s\" without an error",
              bad[i].text);
    }
}

/* Any characters between words: all parts of the reader agree on what a blank is. The block has the least size that the
 * graph allows. */
static void test_blanks(void) {
    static const char blanks[] = " \t\r\v\f\n\x7f\x80,;";
    for (size_t b = 0; b < sizeof blanks; b++)
        for (int width = 0; width < 2; width++) {
            char text[800] = "input 1\ndense 0 units=1\nconcat", *end = text + strlen(text);
            for (int i = 0; i < 300; i++)
                *end++ = blanks[b], *end++ = (char)('0' + i % 2);
            strcpy(end, width ? "\noutput 2" : "\noutput 2\n");
            counter c = {0};
            const mbp_allocator allocator = {count_allocate, count_release, &c};
            mbp_net *net = NULL;
            if (mbp_net_create(&net, text, OPTIONS(.allocator = &allocator), NULL) == MBP_OK)
                CHECK(mbp_net_node_width(net, 2) == 300, "blank %d: width %lld", blanks[b],
                      (long long)mbp_net_node_width(net, 2));
            mbp_net_free(net);
            CHECK(c.live == 0, "blank %d: %zu bytes are left", blanks[b], c.live);
        }
}

static void test_good_texts(void) {
    static const char *const good[] = {
        "input 4\noutput 0",
        "  input\t4  \r\n\r\n# comment\n   # another\noutput   0   activation=exp\n",
        IN "dense 0 layer=" NAME63 " units=2\n" OUT,
        IN "dense 0 max_norm=3 units=2 l2=0.001 lr=0x1.8p-3 l1=1e-4\n" OUT,
        IN "dense 0 frozen=1 bias=0 init=uniform(limit=0x1.8p-3) activation=elu(alpha=2.5) units=3 layer=x\n" OUT,
        IN "dense 0 units=3 bias_init=normal(std=0.25) init=lecun_normal\n" OUT,
        IN "dense 0 units=3 bias_init=auto bias=0\n" OUT,
        IN "concat 0\n" OUT,
        IN "concat 0 0 0\n" OUT,
        IN "add 0 0\nmultiply 1 1\noutput 2\noutput 0\n",
        IN "add 0 0 0 0 0\nsubtract 1 0\nslice 2 to=3 from=0x1p0\noutput 3\n",
        "input 2147483647\nslice 0 from=2147483646 to=2147483647\noutput 1\n",
        "input 2147483647\noutput 0\n",
        "input 2147483646\ninput 1\nconcat 0 1\noutput 2\n",
        IN "dense 0 units=2\ndense 0 units=3\n" OUT, /* the second reaches no output */
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        mbp_net *net = net_new(good[i], NULL), *again;
        char text[600], back[600];
        const size_t needed = mbp_net_text(net, NULL, 0);
        CHECK(mbp_net_text(net, text, sizeof text) == needed && strlen(text) + 1 == needed, "%s: %zu bytes for \"%s\"",
              good[i], needed, text);
        again = net_new(text, NULL);
        mbp_net_text(again, back, sizeof back);
        CHECK(strcmp(text, back) == 0, "%s became %s", text, back);
        CHECK(vector_bytes(net) == vector_bytes(again) && same_params(net, again), "%s: parameters", text);
        memset(back, '#', sizeof back);
        for (size_t room = 0; room < needed; room++) {
            CHECK(mbp_net_text(net, back, room) == needed, "room of %zu", room);
            CHECK(back[room] == '#' && (!room || (back[room - 1] == 0 && memcmp(back, text, room - 1) == 0)),
                  "room of %zu", room);
        }
        mbp_net_free(net), mbp_net_free(again);
    }
}

/* The table of names has room for a name that no layer has, whatever the number of layers. */
static void test_unknown_names(void) {
    for (int layers = 1; layers <= 17; layers++) {
        char text[600] = IN, *end = text + strlen(text);
        for (int i = 0; i < layers; i++)
            end += sprintf(end, "dense %d units=1\n", i);
        sprintf(end, "output %d\n", layers);
        mbp_net *net = net_new(text, NULL);
        CHECK(mbp_net_freeze(net, "dense_17", 1, NULL) == MBP_INVALID, "%d layers", layers);
        CHECK(mbp_net_freeze(net, "dense_0", 1, NULL) == MBP_OK, "%d layers", layers);
        mbp_net_free(net);
    }
}

static void test_most_nodes(void) {
    enum { MOST = 1 << 14 };
    for (int more = 0; more < 2; more++) {
        char *text = malloc(MOST * 24), *end = text + sprintf(text, "input 1\n");
        mbp_net *net = NULL;
        mbp_error error = {0};
        for (int i = 1; i < MOST + more; i++)
            end += sprintf(end, "dense 0 units=1\n");
        sprintf(end, "output %d\n", MOST - 1);
        const mbp_status status = mbp_net_create(&net, text, NULL, &error);
        CHECK(status == (more ? MBP_INVALID : MBP_OK), "%d more: status %d, %s", more, (int)status, error.text);
        CHECK(!more || strstr(error.text, "a graph has at most 16384 nodes"), "%s", error.text);
        mbp_net_free(net), free(text);
    }
}

/* ---- sizes ---- */

/* Numbers of rows from small to absurd; all rows share one number in memory. A batch that cannot be allocated is
 * refused. */
static void test_rows(mbp_dtype dtype) {
    static const int64_t sizes[] = {1,
                                    1 << 16,
                                    INT32_MAX,
                                    (int64_t)1 << 31,
                                    (int64_t)1 << 32,
                                    ((int64_t)1 << 58) - 1,
                                    (int64_t)1 << 58,
                                    ((int64_t)1 << 59) - 1,
                                    ((int64_t)1 << 60) - 1,
                                    (int64_t)1 << 60,
                                    ((int64_t)1 << 60) + 1,
                                    ((int64_t)1 << 61) - 8,
                                    ((int64_t)1 << 61) - 1,
                                    (int64_t)1 << 61,
                                    ((int64_t)1 << 61) + 1,
                                    ((int64_t)1 << 62) - 1,
                                    (int64_t)1 << 62,
                                    ((int64_t)1 << 62) + 1,
                                    INT64_MAX - 7,
                                    INT64_MAX - 1,
                                    INT64_MAX};
    static const char *const graphs[] = {
        "input 1\ndense 0 units=1\noutput 1\n", "input 1\ndense 0 units=1 activation=gelu\ndense 1 units=1\noutput 2\n",
        "input 1\noutput 0\n", "input 1\ndense 0 units=1025\ndense 1 units=1\noutput 2\n"};
    counter c = {.limit = 1 << 28};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    double one = 1;
    for (int g = 0; g < 4; g++) {
        mbp_net *net = net_new(graphs[g], OPTIONS(.dtype = dtype, .allocator = &allocator));
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse"}, NULL, "sgd");
            mbp_array x = mbp_f64(&one, sizes[i], 1);
            x.row_stride = 0, x.flags = MBP_SHARED;
            const mbp_batch batch = mbp_batch_of(&x, &x);
            const int small = sizes[i] <= (g == 3 ? 1 : 1 << 16);
            double loss;
            int64_t steps;
            mbp_status status[4];
            status[0] = mbp_trainer_step(trainer, &batch, &loss, NULL);
            status[1] = mbp_trainer_backward(trainer, &batch, HOW(.input_grads = 1), &loss, NULL);
            status[2] = mbp_trainer_forward(trainer, &x, 1, NULL);
            status[3] = mbp_trainer_epoch(trainer, &batch, NULL, sizes[i], INT64_MAX, NULL, NULL, NULL, &loss, &steps,
                                          NULL);
            for (int k = 0; k < 4; k++)
                CHECK(status[k] == (small ? MBP_OK : MBP_NO_MEMORY), "graph %d, %lld rows, call %d: status %d", g,
                      (long long)sizes[i], k, (int)status[k]);
            mbp_trainer_free(trainer);
        }
        mbp_net_free(net);
    }
    CHECK(c.live == 0, "%zu bytes are left", c.live);
}

/* Nets whose parameters do not fit into memory, up to the limit of 2^48. */
static void test_large_nets(void) {
    static const char *const graphs[] = {"input 16777216\ndense 0 units=16777216 bias=0\n" OUT,
                                         "input 2147483647\ndense 0 units=65536\n" OUT,
                                         "input 65536\ndense 0 units=65536 layer=a\ndense 1 layer=a\noutput 2\n"};
    counter c = {.limit = 1 << 28};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    for (int g = 0; g < 3; g++)
        for (int dtype = 0; dtype < 2; dtype++) {
            mbp_net *net = NULL;
            mbp_error error = {0};
            const mbp_status status = mbp_net_create(
                &net, graphs[g], OPTIONS(.dtype = (mbp_dtype)dtype, .allocator = &allocator), &error);
            CHECK(status == MBP_NO_MEMORY && !net && strstr(error.text, "parameters"), "%s: status %d, %s", graphs[g],
                  (int)status, error.text);
            CHECK(c.live == 0, "%zu bytes are left", c.live);
        }
    char *text = malloc((1 << 24) + 40); /* a text at and above the limit of 2^24 bytes */
    mbp_net *net = NULL;
    mbp_error error = {0};
    memset(text, ' ', (1 << 24) + 20);
    memcpy(text, "input 4\noutput 0\n", 17);
    text[1 << 24] = 0;
    OK(mbp_net_create(&net, text, NULL, &error));
    mbp_net_free(net);
    text[1 << 24] = ' ', text[(1 << 24) + 1] = 0, net = NULL;
    CHECK(mbp_net_create(&net, text, NULL, &error) == MBP_INVALID && !net && strstr(error.text, "16777216"), "%s",
          error.text);
    free(text);
}

/* A chain of 10,000 nodes, or one concat of 10,000 operands: no recursion, and less than a minute. */
static void test_deep(void) {
    enum { DEEP = 10000 };
    static const char *const lines[] = {"activation %d tanh\n", "dense %d units=1\n", "dense %d layer=a\n",
                                        "add %d 0\n", "dense 0 units=1\n"};
    for (int kind = 0; kind < 5; kind++) {
        char *text = malloc(DEEP * 40),
             *end = text + sprintf(text, "input 1\ndense 0 layer=a units=1 activation=tanh\n");
        for (int i = 1; i < DEEP; i++)
            end += sprintf(end, lines[kind], i);
        if (kind == 4) {
            end += sprintf(end, "concat");
            for (int i = 0; i <= DEEP; i++)
                end += sprintf(end, " %d", i);
            end += sprintf(end, "\n");
        }
        sprintf(end, "output %d\n", kind == 4 ? DEEP + 1 : DEEP);
        const clock_t start = clock();
        mbp_net *net = net_new(text, OPTIONS(.dtype = MBP_F64));
        mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse"}, NULL, "sgd");
        const int64_t width = kind == 4 ? DEEP + 1 : 1;
        mbp_array x = array_new(MBP_F64, 3, 1), y = array_new(MBP_F64, 3, width), out = array_new(MBP_F64, 3, width);
        const mbp_batch batch = mbp_batch_of(&x, &y);
        double loss;
        array_fill(&x, -1e-4, 1e-4);
        OK(mbp_trainer_step(trainer, &batch, &loss, &error));
        OK(mbp_net_predict(net, &x, 1, &out, 1, 1, -1, &error));
        CHECK(mbp_net_nodes(net) == DEEP + 1 + (kind == 4), "%d nodes", mbp_net_nodes(net));
        mbp_trainer_free(trainer), mbp_net_free(net);
        const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        printf("10,000 times \"%.*s\": %.2f s\n", (int)strlen(lines[kind]) - 1, lines[kind], seconds);
        CHECK(seconds < 60, "%g s", seconds);
        free(text), array_free(&x), array_free(&y), array_free(&out);
    }
}

int main(void) {
    test_bad_texts();
    test_blanks();
    test_good_texts();
    test_unknown_names();
    test_most_nodes();
    test_rows(MBP_F32);
    test_rows(MBP_F64);
    test_large_nets();
    test_deep();
    return report("limits");
}
