/* Steps on several processes have the bits of one process that makes the same additions: the gradients of each part by
 * itself, then their sum in the order of the parts, then one update. By gather alone, with swap, and with exchanges that
 * end only when they are waited for. */
#include "api.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { RANKS = 4, ROWS = 90, STEPS = 3, LONGEST = (1 << 20) + 4096, BEGUN = 16 };

static struct {
    atomic_int arrived, turn;
    char values[RANKS][LONGEST];
} *common;

typedef struct rank {
    int64_t number, count;
    const int64_t *starts;
    struct {
        const void *mine;
        void *theirs;
        int64_t bytes;
    } begun[BEGUN];
    int pending, begins;
} rank;

static void meet(const rank *r) {
    const int turn = atomic_load(&common->turn);
    if (atomic_fetch_add(&common->arrived, 1) == r->count - 1) {
        atomic_store(&common->arrived, 0);
        atomic_fetch_add(&common->turn, 1);
    }
    while (atomic_load(&common->turn) == turn)
        sched_yield();
}

static int exchange(const rank *r, const void *mine, int64_t given, void *to, int64_t bytes, int64_t from) {
    CHECK(given <= LONGEST, "%lld bytes at a time", (long long)given);
    memcpy(common->values[r->number], mine, (size_t)given);
    meet(r);
    for (int64_t k = 0; k < r->count; k++)
        memcpy((char *)to + k * bytes, common->values[k] + from, (size_t)bytes);
    meet(r);
    return 0;
}

static int gather(const void *mine, void *all, int64_t bytes, void *user) {
    return exchange(user, mine, bytes, all, bytes, 0);
}
static int swap(const void *mine, void *theirs, int64_t bytes, void *user) {
    const rank *r = user;
    return exchange(r, mine, bytes * r->count, theirs, bytes, r->number * bytes);
}
static int begin(const void *mine, void *theirs, int64_t bytes, void *user) {
    rank *r = user;
    r->begun[r->pending].mine = mine, r->begun[r->pending].theirs = theirs, r->begun[r->pending].bytes = bytes;
    r->pending++, r->begins++;
    return 0;
}
static int finish(void *user) {
    rank *r = user;
    for (int i = 0; i < r->pending; i++)
        swap(r->begun[i].mine, r->begun[i].theirs, r->begun[i].bytes, user);
    r->pending = 0;
    return 0;
}

/* ---- the same in one process ---- */

/* Large enough for blocks; layer b, which ends in another block than it starts, is used twice. */
static const char large[] = "input 5\ninput 3\ndense 0 layer=a units=600 activation=tanh\ndropout 2 rate=0.2\n"
                            "dense 3 layer=b units=600 activation=gelu\ndense 4 layer=b\nadd 3 5\nconcat 6 1\n"
                            "dense 7 layer=c units=300 activation=tanh\ndense 8 layer=out units=2\n"
                            "dense 8 layer=side units=1 bias=0\noutput 9\noutput 10\n";

static problem *all;

static double total_of(int64_t first, int64_t end) {
    double total = 0; /* exact: the weights are multiples of 1/8 */
    for (int64_t row = first; row < end; row++)
        total += array_get(&all->weight, row, 0);
    return total;
}

static void add(mbp_net *net, void *sum, const void *part) {
    int64_t count;
    mbp_net_params(net, &count);
    for (int64_t i = 0; i < count; i++)
        if (mbp_net_dtype(net) == MBP_F64)
            ((double *)sum)[i] += ((const double *)part)[i];
        else
            ((float *)sum)[i] += ((const float *)part)[i];
}

/* The loss and the update of the parts of all ranks. */
static double step_in_parts(mbp_net *net, mbp_trainer *t, const rank *r, char *sum) {
    double loss = 0, part_loss;
    for (int64_t k = 0; k < r->count; k++) {
        problem part;
        problem_rows(all, r->starts[k], r->starts[k + 1] - r->starts[k], &part);
        OK(mbp_trainer_backward(t, &part.batch,
                                HOW(.total = total_of(0, r->starts[r->count]), .first_row = r->starts[k]), &part_loss,
                                &error));
        loss = k ? loss + part_loss : part_loss;
        if (k)
            add(net, sum, mbp_trainer_grads(t));
        else
            memcpy(sum, mbp_trainer_grads(t), vector_bytes(net));
    }
    memcpy(mbp_trainer_grads(t), sum, vector_bytes(net));
    OK(mbp_trainer_set(t, "loss", loss, &error));
    OK(mbp_trainer_apply(t, &error));
    return loss;
}

static mbp_trainer *trainer_of(mbp_net *net, const char *optimizer) {
    mbp_trainer *t = dag_trainer(net, optimizer);
    OK(mbp_trainer_set(t, "clip_norm", 0.05, &error));
    OK(mbp_net_set_layer(net, NULL, "l2", 0.01, &error));
    return t;
}

static void check_steps(rank *r, const char *graph, mbp_dtype dtype, const char *optimizer, int how) {
    mbp_net *net = net_new(graph, OPTIONS(.dtype = dtype, .seed = 5)),
            *same = net_new(graph, OPTIONS(.dtype = dtype, .seed = 5));
    mbp_trainer *t = trainer_of(net, optimizer), *one = trainer_of(same, optimizer);
    char *sum = malloc(vector_bytes(net));
    problem part;
    const mbp_reduce reduce = {.size = sizeof reduce,
                               .rank = r->number,
                               .ranks = r->count,
                               .gather = gather,
                               .swap = how > 0 ? swap : NULL,
                               .begin = how > 1 ? begin : NULL,
                               .finish = how > 1 ? finish : NULL,
                               .user = r};
    OK(mbp_trainer_set_reduce(t, &reduce, &error));
    problem_rows(all, r->starts[r->number], r->starts[r->number + 1] - r->starts[r->number], &part);
    for (int i = 0; i < STEPS; i++) {
        double loss;
        OK(mbp_trainer_step(t, &part.batch, &loss, &error));
        const double expected = step_in_parts(same, one, r, sum);
        CHECK(loss == expected, "%s, %d: the loss is %.17g, not %.17g", optimizer, how, loss, expected);
        CHECK(same_params(net, same) && same_state(net, t, one), "%s, %d: other bits after step %d", optimizer, how, i);
    }
    free(sum), mbp_trainer_free(t), mbp_net_free(net), mbp_trainer_free(one), mbp_net_free(same);
}

/* ---- steps on the own rows ---- */

static void divide(mbp_net *net, void *values, int64_t by) {
    int64_t count;
    mbp_net_params(net, &count);
    for (int64_t i = 0; i < count; i++)
        if (mbp_net_dtype(net) == MBP_F64)
            ((double *)values)[i] /= (double)by;
        else
            ((float *)values)[i] /= (float)by;
}

/* vector[k] of each process becomes their mean. */
static void take_mean(mbp_net *net, void *const vector[RANKS], int64_t count) {
    for (int64_t k = 1; k < count; k++)
        add(net, vector[0], vector[k]);
    divide(net, vector[0], count);
    for (int64_t k = 1; k < count; k++)
        memcpy(vector[k], vector[0], vector_bytes(net));
}

static void check_means(rank *r, mbp_dtype dtype) {
    enum { EVERY = 2 };
    static const char optimizer[] = "adam(lr=0.01)";
    mbp_net *net[RANKS + 1];
    mbp_trainer *t[RANKS + 1];
    problem part[RANKS];
    double loss, own;
    for (int64_t k = 0; k <= r->count; k++) {
        net[k] = net_new(dag, OPTIONS(.dtype = dtype, .seed = 5));
        t[k] = trainer_of(net[k], optimizer);
    }
    const mbp_reduce reduce = {
        .size = sizeof reduce, .rank = r->number, .ranks = r->count, .gather = gather, .every = EVERY, .user = r};
    OK(mbp_trainer_set_reduce(t[r->count], &reduce, &error));
    for (int64_t k = 0; k < r->count; k++)
        problem_rows(all, k * 20, 20, &part[k]);
    for (int64_t i = 1; i <= 2 * EVERY; i++) {
        void *vector[RANKS];
        OK(mbp_trainer_step(t[r->count], &part[r->number].batch, &loss, &error));
        for (int64_t k = 0; k < r->count; k++) {
            OK(mbp_trainer_step(t[k], &part[k].batch, &own, &error));
            CHECK(k != r->number || loss == own, "the loss of the own rows is %.17g, not %.17g", loss, own);
        }
        for (int s = -1; i % EVERY == 0 && (s < 0 || mbp_trainer_slot(t[0], s)); s++) {
            for (int64_t k = 0; k < r->count; k++)
                vector[k] = s < 0 ? mbp_net_params(net[k], NULL) : mbp_trainer_slot(t[k], s);
            take_mean(net[0], vector, r->count);
        }
        CHECK(same_params(net[r->count], net[r->number]) && same_state(net[0], t[r->count], t[r->number]),
              "other bits after step %lld of %d", (long long)i, EVERY);
    }
    for (int64_t k = 0; k <= r->count; k++)
        mbp_trainer_free(t[k]), mbp_net_free(net[k]);
}

/* ---- processes ---- */

static void check_rank(rank *r, mbp_dtype dtype) {
    for (int i = 0; mbp_formula_name(MBP_OPTIMIZER, i); i++)
        check_steps(r, dag, dtype, mbp_formula_name(MBP_OPTIMIZER, i), 0);
    for (int how = 0; how < 3; how++)
        check_steps(r, large, dtype, "adam(lr=0.01)", how);
    CHECK(r->begins >= STEPS * 2, "%d blocks are sent during %d steps", r->begins, STEPS);
    check_means(r, dtype);
}

static void in_processes(int64_t ranks, const int64_t *starts, mbp_dtype dtype) {
    pid_t child[RANKS];
    memset(common, 0, sizeof *common);
    fflush(stdout);
    for (int64_t k = 0; k < ranks; k++) {
        child[k] = fork();
        if (child[k])
            continue;
        rank r = {.number = k, .count = ranks, .starts = starts};
        failures = 0;
        alarm(300); /* a process that waits for ever ends the test */
        check_rank(&r, dtype);
        fflush(stdout);
        _exit(failures != 0);
    }
    for (int64_t k = 0; k < ranks; k++) {
        int status;
        waitpid(child[k], &status, 0);
        CHECK(status == 0, "rank %lld of %lld: status %d", (long long)k, (long long)ranks, status);
    }
}

static void test_arguments(void) {
    mbp_net *net = net_new(dag, NULL);
    mbp_trainer *t = dag_trainer(net, "sgd");
    mbp_error error;
#define REFUSED(words, ...) \
    do { \
        const mbp_reduce reduce = {.size = sizeof reduce, __VA_ARGS__}; \
        CHECK(mbp_trainer_set_reduce(t, &reduce, &error) == MBP_INVALID && strstr(error.text, words), "%s: %s", words, \
              error.text); \
    } while (0)
    REFUSED("how.gather is NULL", .ranks = 1);
    REFUSED("how.ranks is 0, but must be at least 1", .gather = gather);
    REFUSED("how.rank is 2, but must be at least 0 and below how.ranks, 2", .gather = gather, .ranks = 2, .rank = 2);
    REFUSED("how.every is -1", .gather = gather, .ranks = 2, .every = -1);
    REFUSED("how.finish is NULL, but how.begin is not", .gather = gather, .ranks = 2, .begin = begin);
    CHECK(mbp_trainer_failed_rank(t) == -1, "nobody has failed");
    mbp_trainer_free(t), mbp_net_free(net);
}

int main(void) {
    static const mbp_dtype dtypes[] = {MBP_F32, MBP_F64};
    static const int64_t two[] = {0, 50, ROWS}, three[] = {0, 20, 20, ROWS}, four[] = {0, 1, 40, 41, ROWS};
    common = mmap(NULL, sizeof *common, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 2; i++) {
        all = problem_new(dtypes[i], ROWS);
        for (int64_t r = 0; r < ROWS; r++)
            array_set(&all->weight, r, 0, (double)(r % 7 + 1) / 8);
        in_processes(2, two, dtypes[i]);
        in_processes(3, three, dtypes[i]);
        in_processes(4, four, dtypes[i]);
        problem_free(all);
    }
    test_arguments();
    return report("ranks");
}
