/* Trainers in files. After a save and a load, training continues bit for bit; what only Python knows is kept; damaged
 * states are refused with an error that says what is wrong, and nothing leaks. */
#include <pthread.h>

#include "api.h"
#include "file/seeds.h"

/* ---- every optimizer, with everything that a trainer's state can have ---- */

static const char graph[] = "input 5\n"
                            "input 3\n"
                            "dense 0 layer=a units=7 activation=tanh\n"
                            "batch_norm 2 layer=norm\n"
                            "dropout 3 rate=0.25\n"
                            "dense 4 layer=b units=6 activation=gelu\n"
                            "noise 5 std=0.1\n"
                            "concat 6 1\n"
                            "dense 7 layer=out units=2\n"
                            "dense 6 layer=side units=1 bias=0\n"
                            "output 8\n"
                            "output 9\n";

typedef struct feature {
    const char *name, *spec; /* what follows the optimizer's name */
    double decay;            /* of the average; 0: none */
    int64_t start, every;
    const char *setting; /* set to `value` before the first step */
    double value;
    const char *frozen; /* a layer */
    uint64_t seed;
    double lr;              /* set in the middle; 0: not */
    const char *activation; /* of output 0, set in the middle */
} feature;

static const feature features[] = {
    {.name = "nothing"},
    {.name = "a running average", .decay = 0.9, .every = 1},
    {.name = "a mean that has not started", .decay = 1, .start = 100, .every = 3},
    {.name = "a mean", .decay = 1, .start = 1, .every = 2},
    {.name = "clip_norm", .setting = "clip_norm", .value = 0.1},
    {.name = "clip_layer_norm", .setting = "clip_layer_norm", .value = 1e-3},
    {.name = "clip_value", .setting = "clip_value", .value = 1.0 / 3},
    {.name = "penalties per row", .setting = "penalty_per_row", .value = 1},
    {.name = "an epoch", .setting = "epoch", .value = 123456789},
    {.name = "a frozen layer", .frozen = "b"},
    {.name = "a seed", .seed = UINT64_MAX},
    {.name = "a rate", .lr = 0.1 / 3},
    {.name = "a subnormal decay", .spec = "(weight_decay=1e-310)"},
    {.name = "decay of biases", .spec = "(lr=0.0123456789012,weight_decay=0.01,decay_bias=1)"},
    {.name = "another activation", .activation = "exp"},
};
enum { FEATURES = sizeof features / sizeof *features, ROWS = 8 };

static void step(mbp_trainer *trainer, const problem *p, int64_t first) {
    problem part;
    double loss;
    problem_rows(p, first, 4, &part);
    OK(mbp_trainer_step(trainer, &part.batch, &loss, &error));
}

/* A trainer after five steps and one backward pass. */
static mbp_trainer *begun(mbp_net *net, const char *optimizer, const feature *f, const problem *p) {
    char spec[200];
    snprintf(spec, sizeof spec, "%s%s", optimizer, f->spec ? f->spec : "");
    mbp_trainer *trainer = dag_trainer(net, spec);
    if (f->every)
        OK(mbp_trainer_set_average(trainer, f->decay, f->start, f->every, &error));
    if (f->setting)
        OK(mbp_trainer_set(trainer, f->setting, f->value, &error));
    if (f->frozen)
        OK(mbp_net_freeze(net, f->frozen, 1, &error));
    if (f->seed)
        OK(mbp_trainer_set_seed(trainer, f->seed, &error));
    for (int64_t i = 0; i < 5; i++) {
        if (i == 3 && f->lr > 0)
            OK(mbp_trainer_set(trainer, "lr", f->lr, &error));
        if (i == 3 && f->activation)
            OK(mbp_net_set_output(net, 0, f->activation, &error));
        step(trainer, p, i % 5);
    }
    return trainer;
}

static blob write_trainer(const mbp_trainer *trainer) {
    blob file = {NULL, 0};
    mbp_error error = {0};
    CHECK(mbp_trainer_write(trainer, NULL, &file.size, &error) == MBP_INVALID && file.size, "%s", error.text);
    file.bytes = malloc(file.size);
    OK(mbp_trainer_write(trainer, file.bytes, &file.size, &error));
    return file;
}

static int same_bytes(blob a, blob b) { return a.size == b.size && memcmp(a.bytes, b.bytes, a.size) == 0; }

static int same_number(mbp_trainer *a, mbp_trainer *b, const char *name) {
    double x = 0, y = 0;
    OK(mbp_trainer_get(a, name, &x, &error));
    OK(mbp_trainer_get(b, name, &y, &error));
    return memcmp(&x, &y, sizeof x) == 0 || (isnan(x) && isnan(y));
}

static int same_trainer(mbp_net *net, mbp_trainer *a, mbp_net *other, mbp_trainer *b) {
    static const char *const numbers[] = {"lr",   "clip_norm", "clip_layer_norm", "clip_value",
                                          "loss", "last_loss", "average_count",   "epoch"};
    int64_t params, buffers, count;
    mbp_net_params(net, &params);
    const size_t item = item_of(mbp_net_dtype(net));
    const void *running = mbp_net_buffers(net, &buffers), *average = mbp_trainer_average(a, &count),
               *other_average = mbp_trainer_average(b, &count);
    int same = same_params(net, other) && same_state(net, a, b) && same_grads(net, a, b);
    same &= memcmp(running, mbp_net_buffers(other, NULL), (size_t)buffers * item) == 0;
    same &= !average == !other_average;
    if (average && other_average)
        same &= memcmp(average, other_average, (size_t)(params + buffers) * item) == 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        same &= same_number(a, b, numbers[i]);
    for (int i = 0; i < 2; i++) {
        const char *x = mbp_net_output_activation(net, i), *y = mbp_net_output_activation(other, i);
        same &= x == y || (x && y && strcmp(x, y) == 0);
    }
    return same;
}

static void check_continues(const char *optimizer, const feature *f, mbp_dtype dtype) {
    mbp_net *net = net_new(graph, OPTIONS(.dtype = dtype, .seed = 3)), *other = NULL;
    problem *p = problem_new(dtype, ROWS);
    mbp_trainer *once = begun(net, optimizer, f, p), *again = NULL;
    blob file = write_trainer(once);
    OK(mbp_trainer_read(&again, &other, file.bytes, file.size, NULL, &error));
    if (again) {
        CHECK(same_trainer(net, once, other, again), "%s with %s: another state", optimizer, f->name);
        blob written = write_trainer(again);
        CHECK(same_bytes(file, written), "%s with %s: other bytes", optimizer, f->name);
        free(written.bytes);
        for (int64_t i = 0; i < 4; i++)
            step(once, p, i), step(again, p, i);
        CHECK(same_trainer(net, once, other, again), "%s with %s: other steps", optimizer, f->name);
    }
    free(file.bytes), problem_free(p);
    mbp_trainer_free(once), mbp_trainer_free(again), mbp_net_free(net), mbp_net_free(other);
}

static void test_training_continues(void) {
    for (int i = 0; mbp_formula_name(MBP_OPTIMIZER, i); i++)
        for (int f = 0; f < FEATURES; f++)
            for (int dtype = MBP_F32; dtype <= MBP_F64; dtype++)
                check_continues(mbp_formula_name(MBP_OPTIMIZER, i), &features[f], (mbp_dtype)dtype);
}

/* Every loss, and losses with lists, of six outputs. */
static void check_loss_is_kept(const char *spec) {
    mbp_net *net = net_new("input 6\noutput 0\n", NULL), *other = NULL;
    mbp_trainer *trainer = trainer_new(net, &spec, NULL, "sgd"), *again = NULL;
    blob file = write_trainer(trainer), written;
    CHECK(find(file, spec), "%s is not in its file", spec);
    OK(mbp_trainer_read(&again, &other, file.bytes, file.size, NULL, &error));
    written = write_trainer(again);
    CHECK(same_bytes(file, written), "%s: other bytes", spec);
    free(file.bytes), free(written.bytes);
    mbp_trainer_free(trainer), mbp_trainer_free(again), mbp_net_free(net), mbp_net_free(other);
}

static void test_losses_are_kept(void) {
    static const char *const lists[] = {"quantile(q=[0.05 0.5 0.95])", "huber(delta=[1 2 3 4 5 0x15555555555555p-54])",
                                        "bce(label_smoothing=0.1,pos_weight=[0 1 20 3 4 0.5],gamma=0)",
                                        "bce(label_smoothing=[0 0.1 0.2 0 0 0],pos_weight=2,gamma=[0 1 2 3 4 5])",
                                        "bce(label_smoothing=0,pos_weight=1,gamma=2)"};
    for (int i = 0; mbp_formula_name(MBP_LOSS, i); i++)
        check_loss_is_kept(mbp_formula_name(MBP_LOSS, i));
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        check_loss_is_kept(lists[i]);
}

/* ---- states that are edited ---- */

static const char small[] = "input 3\nbatch_norm 0\ndense 1 units=2\ndense 1 units=1\noutput 2\noutput 3\n";

/* A file of a trainer with an average and two lines and a vector of Python. */
static blob python_file(void) {
    static const double numbers[] = {1, -0.0, NAN};
    mbp_net *net = net_new(small, OPTIONS(.dtype = MBP_F64));
    mbp_trainer *trainer = trainer_new(net, (const char *const[]){"huber(delta=0.3)", NULL}, NULL, "adam");
    OK(mbp_trainer_set_average(trainer, 0.5, 0, 1, &error));
    blob plain = write_trainer(trainer), file = {NULL, 0};
    mbp_net *other = NULL;
    mbp_extras *extras = NULL;
    OK(mbp_net_read_with(&other, &extras, plain.bytes, plain.size, NULL, &error));
    char text[2000];
    mbp_vector vector[10];
    const int count = extras->count;
    snprintf(text, sizeof text, "%spython.history=[\"\xc3\xa9\"]\npython.z{}\"=\\n\n", extras->text);
    memcpy(vector, extras->vector, (size_t)count * sizeof *vector);
    vector[count] = (mbp_vector){"trainer.python.history", numbers, 3};
    file = write_seed(other, &(mbp_extras){text, vector, count + 1});
    mbp_extras_free(extras), mbp_trainer_free(trainer), mbp_net_free(net), mbp_net_free(other), free(plain.bytes);
    return file;
}

static void test_python_is_kept(void) {
    blob file = python_file(), again, last;
    mbp_net *net = NULL;
    mbp_trainer *trainer = NULL;
    OK(mbp_trainer_read(&trainer, &net, file.bytes, file.size, NULL, &error));
    again = write_trainer(trainer);
    CHECK(same_bytes(file, again), "a file with lines of Python is written differently");
    OK(mbp_trainer_set_steps(trainer, 7, &error));
    OK(mbp_trainer_set(trainer, "epoch", 2, &error));
    last = write_trainer(trainer);
    CHECK(find(last, "\\nsteps=7\\nepoch=2\\n"), "steps and epoch are not written");
    CHECK(find(last, "python.history=[\\\"\xc3\xa9\\\"]") && find(last, "\"trainer.python.history\""), "lost");
    free(file.bytes), free(again.bytes), free(last.bytes);
    mbp_trainer_free(trainer), mbp_net_free(net);
}

/* The file with `old` in the trainer's text replaced by `new`. */
static blob edited(blob file, const char *old, const char *new) {
    mbp_net *net = NULL;
    mbp_extras *extras = NULL;
    OK(mbp_net_read_with(&net, &extras, file.bytes, file.size, NULL, &error));
    const char *at = strstr(extras->text, old);
    CHECK(at, "\"%s\" is not in \"%s\"", old, extras->text);
    char text[4000];
    snprintf(text, sizeof text, "%.*s%s%s", at ? (int)(at - extras->text) : 0, extras->text, new,
             at ? at + strlen(old) : "");
    blob made = write_seed(net, &(mbp_extras){text, extras->vector, extras->count});
    mbp_extras_free(extras), mbp_net_free(net);
    return made;
}

typedef struct edit {
    const char *old, *new, *error; /* error: a part of its text */
    mbp_status status;             /* 0: MBP_CORRUPT */
} edit;

static const edit edits[] = {
    {"version=3", "version=4", "version 4, but this microbp reads only version 3", MBP_UNSUPPORTED},
    {"version=3", "version=", "its first line is not version=3", 0},
    {"version=3\n", "", "its first line is not version=3", 0},
    {"version=3", "{\"version\":2}", "save it again", MBP_UNSUPPORTED},
    {"seed=0\n", "", "it has no seed", 0},
    {"seed=0", "seed=", "seed must be a whole number", 0},
    {"seed=0", "seed=-1", "seed must be", 0},
    {"seed=0", "seed=18446744073709551616", "seed must be", 0},
    {"seed=0", "seed=01", "seed must be", 0},
    {"seed=0", "seed=0\nseed=0", "line 6: seed is given twice", 0},
    {"seed=0", "seed", "line 5: it is not key=value", 0},
    {"seed=0", "", "line 5: it is not key=value", 0},
    {"seed=0", "seeds=0", "line 5: unknown entry, perhaps of a newer version, \"seeds\"; did you mean \"seed\"?", 0},
    {"seed=0", "\x1b[31m=0", "line 5: it is not key=value", 0},
    {"seed=0", "seed=\x1b[31m", "line 5: it has a character that is not ASCII", 0},
    {"steps=0", "steps=9000000000000000001", "steps is 9000000000000000001, but must be at most", 0},
    {"steps=0", "steps=9223372036854775808", "steps must be a whole number", 0},
    {"steps=0", "steps=1.5", "steps must be a whole number", 0},
    {"steps=0", "steps=nan", "steps must be a whole number", 0},
    {"epoch=0", "epoch=-1", "epoch must be a whole number", 0},
    {"\nloss=nan", "\nloss=x", "loss must be a number, not \"x\"", 0},
    {"\nloss=nan", "\nloss=1e5x", "loss must be a number", 0},
    {"last_loss=nan", "last_loss=", "last_loss must be a number", 0},
    {"seed=0", "clip_norm=0\nseed=0", "line 5: clip_norm must be in (0,inf], not 0", 0},
    {"seed=0", "clip_norm=nan\nseed=0", "line 5: clip_norm must be", 0},
    {"seed=0", "clip_norm=1\nclip_norm=1\nseed=0", "line 6: clip_norm is given twice", 0},
    {"losses=huber(delta=0.3) none", "losses=huber(delta=0.3)", "losses must have 2 items, one per output", 0},
    {"losses=huber(delta=0.3) none", "losses=mse none mse", "losses must have 2 items", 0},
    {"losses=huber(delta=0.3) none", "losses=crossentropy none", "unknown loss \"crossentropy\"", 0},
    {"losses=huber(delta=0.3) none", "losses=none cross_entropy", "output 1 has 1 column", 0},
    {"delta=0.3", "delta=-1", "delta must be in (0,inf)", 0},
    {"loss_weights=1 1", "loss_weights=1", "loss_weights must have 2 items", 0},
    {"loss_weights=1 1", "loss_weights=1 1 1", "loss_weights must have 2 items", 0},
    {"loss_weights=1 1", "loss_weights=1 inf", "loss_weights[1] is inf, but must be finite and at least 0", 0},
    {"loss_weights=1 1", "loss_weights=nan 1", "loss_weights: item 0 must be a number", 0},
    {"optimizer=adam", "optimizer=madam", "unknown optimizer \"madam\"", 0},
    {"beta1=0.9", "beta1=1", "beta1 must be in [0,1), not 1", 0},
    {"beta1=0.9", "beta3=0.9", "unknown parameter \"beta3\"", 0},
    {"lr=0.001", "lr=nan", "lr must be a number", 0},
    {"average_every=1\n", "", "it has no average_every", 0},
    {"average_every=1", "average_every=0", "every is 0, but must be at least 1", 0},
    {"average_decay=0.5", "average_decay=1.5", "decay must be in [0,1], not 1.5", 0},
    {"average_decay=0.5", "average_decay=nan", "decay must be in [0,1], not nan", 0},
    {"average_count=0", "average_count=9223372036854775807", "average_count must be", 0},
    {"python.history", "python.z{}\"=1\npython.history", "given twice", 0},
    {"optimizer=adam", "optimizer=sgd(lr=1)\npython.x=", "the vector trainer.slots.m is unknown", 0},
    {"optimizer=adam(lr=0.001,beta1=0.9,beta2=0.999,", "optimizer=adam_amsgrad(", "trainer.slots.v_max is missing", 0},
};

/* Every edit is refused, and the error says what is wrong. `sgd` leaves the vectors of adam. */
static void test_invalid_states_are_refused(void) {
    blob file = python_file();
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        const edit *e = &edits[i];
        blob made = edited(file, e->old, e->new);
        counter c = {0};
        mbp_allocator allocator = {count_allocate, count_release, &c};
        mbp_net *net = NULL;
        mbp_trainer *trainer = NULL;
        mbp_error error = {0};
        const mbp_status status = mbp_trainer_read(&trainer, &net, made.bytes, made.size,
                                                   OPTIONS(.allocator = &allocator), &error);
        CHECK(status == (e->status ? e->status : MBP_CORRUPT) && !net && !trainer, "%s: status %d", e->new,
              (int)status);
        CHECK(strstr(error.text, e->error) && error.status == status, "%s: \"%s\" does not contain \"%s\"", e->new,
              error.text, e->error);
        CHECK(!strpbrk(error.text, "\x1b\n") && c.live == 0, "%s: %zu bytes are left", e->new, c.live);
        free(made.bytes);
    }
    free(file.bytes);
}

/* Each vector left out, one number shorter, and with another name. */
static void test_invalid_vectors_are_refused(void) {
    blob file = python_file();
    mbp_net *net = NULL, *other = NULL;
    mbp_extras *extras = NULL;
    mbp_trainer *trainer = NULL;
    OK(mbp_net_read_with(&net, &extras, file.bytes, file.size, NULL, &error));
    CHECK(extras->count == 5, "%d vectors", extras->count);
    for (int i = 0; i < 3 * 4; i++) { /* the fifth is Python's */
        mbp_vector vector[10];
        memcpy(vector, extras->vector, (size_t)extras->count * sizeof *vector);
        if (i % 3 == 0)
            vector[i / 3] = vector[4];
        else if (i % 3 == 1)
            vector[i / 3].count--;
        else
            vector[i / 3].name = "trainer.slots.other";
        blob made = write_seed(net, &(mbp_extras){extras->text, vector, i % 3 ? 5 : 4});
        mbp_error error = {0};
        CHECK(mbp_trainer_read(&trainer, &other, made.bytes, made.size, NULL, &error) == MBP_CORRUPT, "%d", i);
        CHECK(strstr(error.text, i % 3 < 2 ? extras->vector[i / 3].name : "trainer.slots.other is unknown") &&
                  !trainer && !other,
              "%d: %s", i, error.text);
        free(made.bytes);
    }
    mbp_extras_free(extras), mbp_net_free(net), free(file.bytes);
}

/* ---- memory, disk, other threads ---- */

/* The n-th allocation fails, for n = 1, 2, ... until the call succeeds. */
static void test_failing_allocations(void) {
    blob file = python_file();
    counter c = {0};
    mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_net *net = NULL;
    mbp_trainer *trainer = NULL;
    mbp_status status = MBP_NO_MEMORY;
    for (c.fail_at = 1; status == MBP_NO_MEMORY; c.fail_at++) {
        c.calls = 0;
        status = mbp_trainer_read(&trainer, &net, file.bytes, file.size, OPTIONS(.allocator = &allocator), NULL);
        CHECK(status == MBP_OK || (status == MBP_NO_MEMORY && c.live == 0 && !net && !trainer),
              "reading, allocation %ld: status %d, %zu bytes are left", c.fail_at, (int)status, c.live);
    }
    CHECK(status == MBP_OK && c.fail_at > 8 && c.peak <= 5 * file.size + 65536, "%ld, %zu", c.fail_at, c.peak);
    const size_t live = c.live;
    char *bytes = malloc(file.size);
    for (c.fail_at = 1, status = MBP_NO_MEMORY; status == MBP_NO_MEMORY; c.fail_at++) {
        size_t size = file.size;
        c.calls = 0;
        status = mbp_trainer_write(trainer, bytes, &size, NULL);
        CHECK(c.live == live, "writing, allocation %ld leaks", c.fail_at);
    }
    CHECK(status == MBP_OK && c.fail_at > 3 && memcmp(bytes, file.bytes, file.size) == 0, "%ld", c.fail_at);
    mbp_trainer_free(trainer), mbp_net_free(net), free(bytes), free(file.bytes);
    CHECK(c.live == 0, "%zu bytes are left", c.live);
}

static void test_on_disk(void) {
    char folder[] = "/tmp/microbp-XXXXXX", path[100];
    mbp_error error = {0};
    blob file = python_file(), again;
    mbp_net *net = NULL, *other = NULL;
    mbp_trainer *trainer = NULL, *loaded = NULL;
    CHECK(mkdtemp(folder), "no folder");
    snprintf(path, sizeof path, "%s/run", folder);
    OK(mbp_trainer_read(&trainer, &net, file.bytes, file.size, NULL, &error));
    CHECK(mbp_trainer_load(&loaded, &other, path, NULL, &error) == MBP_IO && strstr(error.text, path), "%s",
          error.text);
    OK(mbp_trainer_save(trainer, path, &error));
    OK(mbp_trainer_load(&loaded, &other, path, NULL, &error));
    again = write_trainer(loaded);
    CHECK(same_bytes(file, again), "the file on disk differs");
    OK(mbp_net_save(net, path, &error));
    mbp_trainer_free(loaded), mbp_net_free(other), loaded = NULL, other = NULL;
    CHECK(mbp_trainer_load(&loaded, &other, path, NULL, &error) == MBP_CORRUPT && !loaded && !other &&
              strstr(error.text, "run: the file contains a network but no trainer"),
          "%s", error.text);
    unlink(path), rmdir(folder);
    free(file.bytes), free(again.bytes), mbp_trainer_free(trainer), mbp_net_free(net);
}

static void *write_elsewhere(void *trainer) {
    size_t size = 0;
    mbp_error error = {0};
    CHECK(mbp_trainer_write(trainer, NULL, &size, &error) == MBP_BUSY, "%s", error.text);
    return NULL;
}

/* While a thread holds the net, another cannot save its trainer. */
static void test_other_threads(void) {
    pthread_t other;
    mbp_net *net = net_new(dag, NULL);
    mbp_trainer *trainer = dag_trainer(net, "adam");
    OK(mbp_net_lock(net, &error));
    pthread_create(&other, NULL, write_elsewhere, trainer);
    pthread_join(other, NULL);
    blob file = write_trainer(trainer);
    mbp_net_unlock(net);
    mbp_trainer_free(trainer), mbp_net_free(net), free(file.bytes);
}

/* The largest allocations for a file of this size: a graph with as many nodes, all of them outputs, as it can have. */
static void test_memory_of_many_outputs(void) {
    enum { OUTPUTS = 8000, LINE = 20 };
    char *text = malloc(2 * OUTPUTS * LINE);
    const char **losses = malloc(OUTPUTS * sizeof *losses);
    size_t length = (size_t)sprintf(text, "input 1\n");
    for (int i = 1; i <= OUTPUTS; i++)
        length += (size_t)sprintf(text + length, "add 0 0\n");
    for (int i = 1; i <= OUTPUTS; i++) {
        length += (size_t)sprintf(text + length, "output %d\n", i);
        losses[i - 1] = i % 2 ? "mse" : NULL;
    }
    counter c = {0};
    mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_net *net = net_new(text, NULL), *other = NULL;
    mbp_trainer *trainer = trainer_new(net, losses, NULL, "adam"), *again = NULL;
    blob file = write_trainer(trainer);
    OK(mbp_trainer_read(&again, &other, file.bytes, file.size, OPTIONS(.allocator = &allocator), &error));
    CHECK(c.peak <= 5 * file.size + 65536, "%zu bytes for a file of %zu", c.peak, file.size);
    mbp_trainer_free(trainer), mbp_net_free(net), mbp_trainer_free(again), mbp_net_free(other);
    free(file.bytes), free(text), free(losses);
}

int main(void) {
    test_training_continues();
    test_losses_are_kept();
    test_python_is_kept();
    test_invalid_states_are_refused();
    test_invalid_vectors_are_refused();
    test_failing_allocations();
    test_on_disk();
    test_other_threads();
    test_memory_of_many_outputs();
    return report("trainer files");
}
