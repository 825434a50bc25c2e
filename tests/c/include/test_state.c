/* The processor's floating-point state. Its control and sticky bits are the same on return as on entry. Results do not
 * depend on whether the caller flushes subnormals. Subnormal numbers do not make a step slow. */
#include "api.h"

#include <time.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
typedef unsigned state;
enum { FLUSH = 0x8040, STICKY = 0x3f };
static state state_read(void) { return _mm_getcsr(); }
static void state_write(state s) { _mm_setcsr(s); }
#elif defined(__aarch64__)
typedef uint64_t state; /* FPCR, and FPSR in the upper half */
#define FLUSH ((uint64_t)1 << 24)
#define STICKY ((uint64_t)0x1f << 32)
static state state_read(void) {
    uint64_t control, flags;
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(control), "=r"(flags));
    return control | flags << 32;
}
static void state_write(state s) {
    __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(s & 0xffffffff), "r"(s >> 32));
}
#else
#error "no floating-point state is known for this processor"
#endif

/* ---- every public call, with the state before and after it ---- */

typedef struct world {
    mbp_options options;
    mbp_net *net, *made;
    mbp_trainer *trainer, *made_trainer;
    problem *p;
    char text[2000], file[1 << 15];
    size_t size;
    double loss;
    int64_t steps, order[100];
    mbp_array array;
    mbp_tensor tensor;
    mbp_layer_info layer;
    mbp_node_info node;
    mbp_error error;
} world;

static int poll_state_is_kept; /* a poll has the caller's state, not the library's */
static state poll_state;
static int poll_checks(void *user) {
    (void)user;
    poll_state_is_kept &= (state_read() & FLUSH) == (poll_state & FLUSH);
    return 0;
}

#define CALLS(X) \
    X(mbp_net_create(&w->made, dag, &w->options, &w->error)) \
    X(mbp_net_init(w->made, 5, &w->error)) \
    X(mbp_trainer_create(&w->made_trainer, w->made, dag_losses, dag_loss_weights, 2, "adam(lr=0.0123,beta1=0.8)", \
                         &w->error)) \
    X((mbp_trainer_free(w->made_trainer), mbp_net_free(w->made), w->made = NULL, 0)) \
    X((mbp_net_text(w->net, w->text, sizeof w->text), 0)) \
    X((mbp_net_flops(w->net) == 0)) \
    X((mbp_net_tensor(w->net, 2, &w->tensor) == 0)) \
    X((w->layer.size = sizeof w->layer, mbp_net_layer(w->net, 2, &w->layer, &w->error))) \
    X((w->node.size = sizeof w->node, mbp_net_node(w->net, 4, &w->node, &w->error))) \
    X(mbp_net_freeze(w->net, "c", 0, &w->error)) \
    X(mbp_net_set_layer(w->net, "c", "l2", 0.1, &w->error)) \
    X(mbp_net_set_layer(w->net, NULL, "max_norm", 0.7, &w->error)) \
    X(mbp_net_set_output(w->net, 0, "sigmoid", &w->error)) \
    X(mbp_net_predict(w->net, w->p->x, 2, w->p->out, 2, 0, -1, &w->error)) \
    X(mbp_net_predict(w->net, w->p->x, 2, w->p->out, 1, 0, 10, &w->error)) \
    X((w->size = sizeof w->file, mbp_net_write(w->net, w->file, &w->size, &w->error))) \
    X(mbp_net_read(&w->made, w->file, w->size, &w->options, &w->error)) \
    X((mbp_net_free(w->made), w->made = NULL, 0)) \
    X(mbp_net_copy(&w->made, w->net, NULL, &w->error)) \
    X((mbp_net_free(w->made), w->made = NULL, 0)) \
    X(mbp_net_reserve(w->net, 100, &w->error)) \
    X(mbp_trainer_reserve(w->trainer, 100, &w->error)) \
    X((mbp_net_bytes(w->net) == 0 || mbp_trainer_bytes(w->trainer) == 0)) \
    X(mbp_trainer_step(w->trainer, &w->p->batch, &w->loss, &w->error)) \
    X(mbp_trainer_backward(w->trainer, &w->p->batch, HOW(.input_grads = 1, .total = 3), &w->loss, &w->error)) \
    X(mbp_trainer_input_grad(w->trainer, 0, &w->array, &w->error)) \
    X(mbp_trainer_apply(w->trainer, &w->error)) \
    X(mbp_trainer_forward(w->trainer, w->p->x, 2, &w->error)) \
    X(mbp_trainer_output(w->trainer, 0, &w->array, &w->error)) \
    X(mbp_trainer_backward_from(w->trainer, w->p->y, 2, NULL, &w->error)) \
    X(mbp_trainer_evaluate(w->trainer, &w->p->batch, &w->loss, &w->error)) \
    X(mbp_trainer_epoch(w->trainer, &w->p->batch, NULL, 7, 2, NULL, poll_checks, NULL, &w->loss, &w->steps, \
                        &w->error)) \
    X(mbp_trainer_set(w->trainer, "lr", 0.1, &w->error)) \
    X(mbp_trainer_get(w->trainer, "lr", &w->loss, &w->error)) \
    X(mbp_trainer_set(w->trainer, "clip_norm", 0.01, &w->error)) \
    X(mbp_trainer_set_average(w->trainer, 0.3, 0, 1, &w->error)) \
    X(mbp_trainer_step(w->trainer, &w->p->batch, &w->loss, &w->error)) \
    X(mbp_trainer_set_steps(w->trainer, 100, &w->error)) \
    X(mbp_trainer_set_seed(w->trainer, 100, &w->error)) \
    X(mbp_trainer_reset(w->trainer, &w->error)) \
    X((mbp_permutation(1, MBP_SHUFFLE, 3, 100, w->order), 0)) \
    X((mbp_trainer_set(w->trainer, "lr", -0.3, &w->error) != MBP_INVALID)) \
    X((mbp_trainer_set(w->trainer, "lr", NAN, &w->error) != MBP_INVALID)) \
    X((mbp_trainer_set(w->trainer, "lr", -1e-310, &w->error) != MBP_INVALID)) \
    X((mbp_net_set_layer(w->net, NULL, "l2", NAN, &w->error) != MBP_INVALID)) \
    X((mbp_net_set_layer(w->net, NULL, "l2", -1e-310, &w->error) != MBP_INVALID)) \
    X((mbp_trainer_set_average(w->trainer, NAN, 0, 1, &w->error) != MBP_INVALID)) \
    X(mbp_trainer_set(w->trainer, "lr", 1e-310, &w->error)) \
    X((w->size = sizeof w->file, mbp_trainer_write(w->trainer, w->file, &w->size, &w->error))) \
    X(mbp_trainer_read(&w->made_trainer, &w->made, w->file, w->size, &w->options, &w->error)) \
    X((mbp_trainer_get(w->made_trainer, "lr", &w->loss, &w->error) || memcmp(&w->loss, &(double){1e-310}, 8))) \
    X((mbp_trainer_free(w->made_trainer), mbp_net_free(w->made), w->made = NULL, 0)) \
    X(mbp_net_create(&w->made, "input 3\nlayer_norm 0 eps=0x1p-1074\noutput 1\n", &w->options, &w->error)) \
    X((mbp_net_free(w->made), w->made = NULL, 0)) \
    X((mbp_net_create(&w->made, "input 3\ndense 0 units=2 activation=elu(alpha=-0.3)\n", NULL, &w->error) != \
       MBP_INVALID))

/* All calls, each with the same state on entry. */
static void call_all(world *w, state entry, const char *how) {
    poll_state = entry, poll_state_is_kept = 1;
#define X(call) \
    { \
        const state before = state_read(); \
        state_write(entry); \
        const int status = (int)(call); \
        const state after = state_read(); \
        state_write(before); \
        CHECK(status == 0, "%s: %s", #call, w->error.text); \
        CHECK(after == entry, "%s: state %llx on entry, %llx on return (%s)", #call, (unsigned long long)entry, \
              (unsigned long long)after, how); \
    }
    CALLS(X)
#undef X
    CHECK(poll_state_is_kept, "a poll does not see the caller's state (%s)", how);
}

static void test_state(mbp_dtype dtype, const char *isa) {
    world *w = calloc(1, sizeof *w);
    const state normal = state_read() & ~(state)(STICKY | FLUSH);
    w->options = (mbp_options){.size = sizeof w->options, .dtype = dtype, .isa = isa};
    w->net = net_new(dag, &w->options);
    w->trainer = dag_trainer(w->net, "adam");
    w->p = problem_new(dtype, 7);
    call_all(w, normal, "no flag set");
    call_all(w, normal | STICKY, "all flags set");
    call_all(w, normal | FLUSH, "no flag set, subnormals flushed");
    call_all(w, normal | STICKY | FLUSH, "all flags set, subnormals flushed");
    mbp_trainer_free(w->trainer), mbp_net_free(w->net), problem_free(w->p);
    free(w);
}

/* A prediction that threads share computes the number of threads in floating point. */
static void test_state_with_threads(void) {
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 3, NULL, &error));
    mbp_net *net = net_new("input 61\ndense 0 units=257\ndense 1 units=67\noutput 2\n", OPTIONS(.pool = pool));
    mbp_array x = array_new(MBP_F32, 1003, 61), out = array_new(MBP_F32, 1003, 67);
    const state normal = state_read() & ~(state)(STICKY | FLUSH), entries[] = {normal, normal | FLUSH};
    for (int i = 0; i < 2; i++) {
        const state before = state_read();
        state_write(entries[i]);
        const mbp_status status = mbp_net_predict(net, &x, 1, &out, 1, 0, -1, NULL);
        const state after = state_read();
        state_write(before);
        CHECK(status == MBP_OK && after == entries[i], "with threads: state %llx on entry, %llx on return",
              (unsigned long long)entries[i], (unsigned long long)after);
    }
    array_free(&x), array_free(&out);
    mbp_net_free(net), mbp_pool_free(pool);
}

/* ---- results: the same bits whether the caller flushes or not ---- */

/* A net and data whose numbers are all near the smallest normal of the dtype. */
static const char small_f32[] = "input 9\ndense 0 units=17 activation=tanh init=normal(std=0x1p-130)\ndense 1 units=5 "
                                "init=normal(std=0x1p-140)\noutput 2\n";
static const char small_f64[] = "input 9\ndense 0 units=17 activation=tanh init=normal(std=0x1p-1025)\ndense 1 units=5 "
                                "init=normal(std=0x1p-1040)\noutput 2\n";

typedef struct result {
    double losses[4];
    float out_f32[12 * 5];
    double out_f64[12 * 5];
    char params[2000], initial[2000];
} result;

static result *train_small(mbp_dtype dtype, const char *isa, int flush) {
    enum { ROWS = 12 };
    result *r = calloc(1, sizeof *r);
    const state before = state_read();
    mbp_array x = array_new(MBP_F64, ROWS, 9), y = array_new(MBP_F64, ROWS, 5), weight = array_new(MBP_F64, ROWS, 1);
    for (int64_t i = 0; i < ROWS; i++) { /* subnormal in the net's dtype, some only there */
        for (int64_t j = 0; j < 9; j++)
            array_set(&x, i, j, ldexp((double)(i + 1) / (double)(j + 7), dtype == MBP_F32 ? -128 : -1024));
        for (int64_t j = 0; j < 5; j++)
            array_set(&y, i, j, ldexp((double)(j + 1) / (double)(i + 3), dtype == MBP_F32 ? -130 : -1030));
        array_set(&weight, i, 0, 1 + (double)i / 7);
    }
    const mbp_array out = array_at(dtype == MBP_F32 ? (void *)r->out_f32 : (void *)r->out_f64, dtype, ROWS, 5);
    mbp_batch batch = mbp_batch_of(&x, &y);
    batch.weight = &weight;
    int64_t steps;
    state_write(flush ? before | FLUSH : before & ~(state)FLUSH);
    mbp_net *net = net_new(dtype == MBP_F32 ? small_f32 : small_f64, OPTIONS(.dtype = dtype, .isa = isa));
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"half_sse"}, NULL,
                                       "sgd_momentum(lr=0.3,weight_decay=0.1)");
    const size_t bytes = vector_bytes(net) < sizeof r->params ? vector_bytes(net) : sizeof r->params;
    memcpy(r->initial, mbp_net_params(net, NULL), bytes);
    OK(mbp_trainer_step(trainer, &batch, &r->losses[0], &error));
    OK(mbp_trainer_backward(trainer, &batch, NULL, &r->losses[1], &error));
    OK(mbp_trainer_apply(trainer, &error));
    OK(mbp_trainer_epoch(trainer, &batch, NULL, ROWS, 5, NULL, NULL, NULL, &r->losses[2], &steps, &error));
    OK(mbp_trainer_evaluate(trainer, &batch, &r->losses[3], &error));
    OK(mbp_net_predict(net, &x, 1, &out, 1, 0, -1, &error));
    memcpy(r->params, mbp_net_params(net, NULL), bytes);
    mbp_trainer_free(trainer), mbp_net_free(net);
    state_write(before);
    array_free(&x), array_free(&y), array_free(&weight);
    return r;
}

static void test_flushing_callers(mbp_dtype dtype, const char *isa) {
    result *a = train_small(dtype, isa, 0), *b = train_small(dtype, isa, 1);
    CHECK(memcmp(a->initial, b->initial, sizeof a->initial) == 0,
          "%s: initial parameters depend on the caller's flushing", isa);
    CHECK(memcmp(a->losses, b->losses, sizeof a->losses) == 0,
          "%s: losses %g %g %g %g become %g %g %g %g when the caller flushes", isa, a->losses[0], a->losses[1],
          a->losses[2], a->losses[3], b->losses[0], b->losses[1], b->losses[2], b->losses[3]);
    CHECK(memcmp(a->params, b->params, sizeof a->params) == 0, "%s: parameters depend on the caller's flushing", isa);
    CHECK(memcmp(a->out_f32, b->out_f32, sizeof a->out_f32) == 0 &&
              memcmp(a->out_f64, b->out_f64, sizeof a->out_f64) == 0,
          "%s: predictions depend on the caller's flushing", isa);
    free(a), free(b);
}

/* ---- speed ---- */

static int by_value(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

typedef enum work { STEP, UPDATE } work;

/* The median seconds of a step, or of an update alone, with parameters of 2^lowest to 2^highest. Before an update,
 * gradients and moments have such values too. */
static double median_seconds(const char *isa, work kind, int lowest, int highest) {
    enum { TIMES = 101, ROWS = 16 };
    mbp_net *net = net_new(
        "input 32\ndense 0 units=64 activation=relu\ndense 1 units=64 activation=tanh\ndense 2 units=8\noutput 3\n",
        OPTIONS(.isa = isa));
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse"}, NULL, "adam(lr=0)");
    mbp_array x = array_new(MBP_F32, ROWS, 32), y = array_new(MBP_F32, ROWS, 8);
    const mbp_batch batch = mbp_batch_of(&x, &y);
    double seconds[TIMES], loss;
    float *vectors[] = {mbp_net_params(net, NULL), mbp_trainer_grads(trainer), mbp_trainer_slot(trainer, 0),
                        mbp_trainer_slot(trainer, 1)};
    array_fill(&x, -1, 1), array_fill(&y, -1, 1);
    for (int i = 0; i < TIMES; i++) {
        for (int v = 0; v < (kind == STEP ? 1 : 4); v++)
            for (size_t k = 0; k < vector_bytes(net) / sizeof(float); k++)
                vectors[v][k] = (float)ldexp(v < 3 && k % 2 ? -1 : 1, lowest + random_below(highest - lowest + 1));
        const double start = cpu_seconds();
        if (kind == STEP)
            OK(mbp_trainer_step(trainer, &batch, &loss, &error));
        else
            OK(mbp_trainer_apply(trainer, &error));
        seconds[i] = cpu_seconds() - start;
    }
    qsort(seconds, TIMES, sizeof *seconds, by_value);
    mbp_trainer_free(trainer), mbp_net_free(net);
    array_free(&x), array_free(&y);
    return seconds[TIMES / 2];
}

/* 2^-139 to 2^-126 is 1e-42 to 1e-38. There are three attempts, because other programs run too. The time that is lost
 * without flushing depends on the processor, and may be less than the bound; test_flushing_callers shows that
 * subnormals are flushed at all. */
static void test_speed(const char *isa, work kind) {
    static const char *const names[] = {"step", "update"};
    double best = 1e9;
    for (int i = 0; i < 3 && best > 1.5; i++) {
        const double normal = median_seconds(isa, kind, -4, -2), ratio = median_seconds(isa, kind, -139, -126) / normal;
        best = ratio < best ? ratio : best;
    }
    printf("%s: with subnormal numbers the %s takes %.2f times as long\n", isa, names[kind], best);
    CHECK(best < 3, "%s: subnormal numbers make the %s %.1f times slower", isa, names[kind], best);
}

int main(void) {
    for (int i = 0; mbp_isa_name(i); i++)
        if (mbp_isa_runs(i)) {
            test_state(MBP_F32, mbp_isa_name(i));
            test_state(MBP_F64, mbp_isa_name(i));
            test_flushing_callers(MBP_F32, mbp_isa_name(i));
            test_flushing_callers(MBP_F64, mbp_isa_name(i));
            test_speed(mbp_isa_name(i), STEP);
            test_speed(mbp_isa_name(i), UPDATE);
        }
    test_state_with_threads();
    return report("floating-point state");
}
