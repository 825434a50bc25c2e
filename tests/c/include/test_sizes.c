/* Callers' structures: one that is too small is refused; the additional bytes of a larger one must be 0; fields that
 * are not supported yet give MBP_UNSUPPORTED; and an allocator must have both functions. */
#include "api.h"

#define GRAPH "input 4\ndense 0 units=4\noutput 1\n"

/* ---- structures with a size ---- */

static mbp_net *net;
static mbp_trainer *trainer;
static problem *p;
static char file[1 << 14];
static size_t file_size = sizeof file;

enum { BEHIND = 32, MOST = sizeof(mbp_options) + sizeof(mbp_batch) + sizeof(mbp_backward) + BEHIND };

/* Two numbers that depend on all fields of a structure. */
typedef struct seen {
    double numbers[2];
} seen;

static void see_net(mbp_net *made, seen *s) {
    if (made)
        *s = (seen){{mbp_net_dtype(made), vector_at(made, mbp_net_params(made, NULL), 0)}};
    mbp_net_free(made);
}

static mbp_status call_create(const void *options, seen *s, mbp_error *error) {
    mbp_net *made = NULL;
    const mbp_status status = mbp_net_create(&made, dag, options, error);
    return see_net(made, s), status;
}

static mbp_status call_read(const void *options, seen *s, mbp_error *error) {
    mbp_net *made = NULL;
    const mbp_status status = mbp_net_read(&made, file, file_size, options, error);
    return see_net(made, s), status;
}

static mbp_status call_step(const void *batch, seen *s, mbp_error *error) {
    const mbp_status status = mbp_trainer_step(trainer, batch, &s->numbers[0], error);
    s->numbers[1] = vector_at(net, mbp_trainer_grads(trainer), 0);
    return status;
}

static mbp_status call_backward(const void *batch, seen *s, mbp_error *error) {
    const mbp_status status = mbp_trainer_backward(trainer, batch, NULL, &s->numbers[0], error);
    s->numbers[1] = vector_at(net, mbp_trainer_grads(trainer), 0);
    return status;
}

static mbp_status call_evaluate(const void *batch, seen *s, mbp_error *error) {
    return mbp_trainer_evaluate(trainer, batch, &s->numbers[0], error);
}

static mbp_status call_epoch(const void *batch, seen *s, mbp_error *error) {
    int64_t steps = -1;
    const mbp_status status = mbp_trainer_epoch(trainer, batch, NULL, 8, 8, NULL, NULL, NULL, &s->numbers[0], &steps,
                                                error);
    s->numbers[1] = (double)steps;
    return status;
}

static mbp_status call_how(const void *how, seen *s, mbp_error *error) {
    const mbp_status status = mbp_trainer_backward(trainer, &p->batch, how, &s->numbers[0], error);
    s->numbers[1] = vector_at(net, mbp_trainer_grads(trainer), 0);
    return status;
}

static mbp_status call_how_from(const void *how, seen *s, mbp_error *error) {
    mbp_status status = mbp_trainer_forward(trainer, p->x, 2, error);
    if (status == MBP_OK)
        status = mbp_trainer_backward_from(trainer, p->y, 2, how, error);
    s->numbers[1] = vector_at(net, mbp_trainer_grads(trainer), 0);
    return status;
}

/* Complete structures. */
static mbp_options full_options;
static mbp_batch full_batch;
static mbp_backward full_how;
static const struct structure {
    const char *name;
    const void *full;
    size_t size;
} structures[] = {
    {"mbp_options", &full_options, sizeof(mbp_options)},
    {"mbp_batch", &full_batch, sizeof(mbp_batch)},
    {"mbp_backward", &full_how, sizeof(mbp_backward)},
};

static const struct sized_call {
    const char *name;
    const struct structure *s;
    mbp_status (*call)(const void *structure, seen *s, mbp_error *error);
} calls[] = {
    {"create", &structures[0], call_create},     {"read", &structures[0], call_read},
    {"step", &structures[1], call_step},         {"backward", &structures[1], call_backward},
    {"evaluate", &structures[1], call_evaluate}, {"epoch", &structures[1], call_epoch},
    {"backward", &structures[2], call_how},      {"backward_from", &structures[2], call_how_from},
};
enum { CALLS = sizeof calls / sizeof *calls };

static void sized_start(void) {
    net = net_new(dag, NULL);
    trainer = dag_trainer(net, "sgd(lr=0)"); /* so that all calls use the same parameters */
    p = problem_new(MBP_F32, 8);
    OK(mbp_net_write(net, file, &file_size, &error));
    full_options = (mbp_options){.dtype = MBP_F64, .seed = 9, .isa = mbp_net_isa(net), .threads = 1};
    full_batch = p->batch;
    full_how = (mbp_backward){.input_grads = 1, .total = 5, .first_row = 3};
}

static void sized_end(void) { mbp_trainer_free(trainer), mbp_net_free(net), problem_free(p); }

/* A copy with the first `kept` bytes of the structure, then bytes of the value `behind`, and with this `size`. */
static const void *sized_copy(unsigned char copy[MOST], const struct structure *s, size_t kept, int behind,
                              size_t size) {
    memset(copy, behind, MOST);
    memcpy(copy, s->full, kept < s->size ? kept : s->size);
    memcpy(copy, &size, sizeof size);
    return copy;
}

static void refuse_sized(const struct sized_call *c, const void *structure, mbp_status status, const char *word,
                         size_t where) {
    const int64_t before = mbp_trainer_steps(trainer);
    const size_t bytes = vector_bytes(net);
    char *grads = memcpy(malloc(bytes), mbp_trainer_grads(trainer), bytes);
    mbp_error error = {0};
    seen s = {{7, 7}};
    const mbp_status got = c->call(structure, &s, &error);
    CHECK(got == status && error.status == status && strstr(error.text, word), "%s of %s, %zu: status %d, %s", c->name,
          c->s->name, where, (int)got, error.text);
    CHECK(s.numbers[0] == 7 && mbp_trainer_steps(trainer) == before &&
              memcmp(grads, mbp_trainer_grads(trainer), bytes) == 0,
          "%s of %s, %zu: a refused call changes something", c->name, c->s->name, where);
    free(grads);
}

static void accept_sized(const struct sized_call *c, const void *structure, const seen *expected, size_t size) {
    mbp_error error = {0};
    seen s = {{0}};
    const mbp_status got = c->call(structure, &s, &error);
    CHECK(got == MBP_OK, "%s of %s, size %zu: status %d, %s", c->name, c->s->name, size, (int)got, error.text);
    CHECK(memcmp(&s, expected, sizeof s) == 0, "%s of %s, size %zu: %g %g, not %g %g", c->name, c->s->name, size,
          s.numbers[0], s.numbers[1], expected->numbers[0], expected->numbers[1]);
}

static void test_sizes(void) {
    unsigned char copy[MOST];
    for (int i = 0; i < CALLS; i++) {
        const struct sized_call *c = &calls[i];
        const struct structure *s = c->s;
        char word[60];
        for (size_t size = 0; size < s->size;
             size++) { /* 0, the size of a pointer, and all other sizes that are too small */
            snprintf(word, sizeof word, "%s.size is %zu: set it to sizeof(%s)", s->name, size, s->name);
            refuse_sized(c, sized_copy(copy, s, s->size, 0, size), MBP_INVALID, word, size);
        }
        seen expected = {{0}};
        CHECK(c->call(sized_copy(copy, s, s->size, 0xA5, s->size), &expected, NULL) == MBP_OK, "%s", c->name);
        for (size_t size = s->size; size <= s->size + BEHIND; size++) {
            accept_sized(c, sized_copy(copy, s, s->size, 0, size), &expected, size);
            if (size == s->size)
                continue;
            sized_copy(copy, s, s->size, 0, size);
            copy[size - 1] = 1;
            refuse_sized(c, copy, MBP_UNSUPPORTED, s->name, size);
        }
    }
}

static void test_version(void) {
    char numbers[40];
    snprintf(numbers, sizeof numbers, "%d.%d.%d", MBP_VERSION_MAJOR, MBP_VERSION_MINOR, MBP_VERSION_PATCH);
    CHECK(strcmp(numbers, MBP_VERSION) == 0, "%s is not %s", MBP_VERSION, numbers);
    CHECK(strcmp(mbp_version(), MBP_VERSION) == 0, "the library is of version %s", mbp_version());
}

/* ---- allocators ---- */

static void test_allocators(void) {
    counter c = {0};
    const mbp_allocator halves[] = {{NULL, count_release, &c}, {count_allocate, NULL, &c}, {NULL, NULL, NULL}};
    for (int i = 0; i < 3; i++) {
        const char *word = i == 1 ? "allocator.release is NULL" : "allocator.allocate is NULL";
        const mbp_options *options = OPTIONS(.allocator = &halves[i]);
        mbp_net *made = NULL;
        mbp_pool *pool = NULL;
        mbp_error error = {0};
        CHECK(mbp_net_create(&made, GRAPH, options, &error) == MBP_INVALID && !made && strstr(error.text, word),
              "create: %s", error.text);
        CHECK(mbp_net_read(&made, "", 0, options, &error) == MBP_INVALID && !made && strstr(error.text, word),
              "read: %s", error.text);
        CHECK(mbp_net_load(&made, "none", options, &error) == MBP_INVALID && !made && strstr(error.text, word),
              "load: %s", error.text);
        CHECK(mbp_pool_create(&pool, 2, &halves[i], &error) == MBP_INVALID && !pool && strstr(error.text, word),
              "pool: %s", error.text);
    }
    CHECK(c.calls == 0, "an allocator with only one function is called");
}

int main(void) {
    sized_start();
    test_sizes();
    test_allocators();
    sized_end();
    test_version();
    return report("sizes");
}
