/* Training on several processes, which exchange bytes by shared memory: the processes stay equal to the bit, and
 * equal one process with all their rows up to rounding. They also fail together. */
#include "api.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { RANKS = 3, ROWS = 200, TESTED = 30, LONGEST = 1 << 14 };

/* ---- processes ---- */

typedef struct result {
    mbp_status status;
    mbp_error error;
    double loss, val_loss, last_loss, epoch;
    int64_t steps, calls;
    char params[LONGEST], slots[LONGEST];
} result;

typedef struct shared {
    atomic_int arrived, turn;
    char values[RANKS][LONGEST];
    result result[RANKS];
} shared;

static shared *common;

/* What a process has: its rows are first to first + count - 1 of all. */
typedef struct rank {
    int number, count_of_ranks;
    int64_t first, count;
    mbp_net *net;
    mbp_trainer *trainer;
    problem *all, *validation, part, tested;
    int64_t calls, fail_at, polls;
    result *result;
} rank;

static void meet(const rank *r) {
    const int turn = atomic_load(&common->turn);
    if (atomic_fetch_add(&common->arrived, 1) == r->count_of_ranks - 1) {
        atomic_store(&common->arrived, 0);
        atomic_fetch_add(&common->turn, 1);
    }
    while (atomic_load(&common->turn) == turn)
        sched_yield();
}

static int gather(const void *mine, void *all, int64_t bytes, void *user) {
    rank *r = user;
    if (++r->calls == r->fail_at)
        return 9;
    memcpy(common->values[r->number], mine, (size_t)bytes);
    meet(r);
    for (int k = 0; k < r->count_of_ranks; k++)
        memcpy((char *)all + k * bytes, common->values[k], (size_t)bytes);
    meet(r);
    return 0;
}

typedef void (*task)(rank *r);

static void keep_result(rank *r) {
    r->result->steps = mbp_trainer_steps(r->trainer);
    OK(mbp_trainer_get(r->trainer, "epoch", &r->result->epoch, &error));
    r->result->calls = r->calls;
    OK(mbp_trainer_get(r->trainer, "last_loss", &r->result->last_loss, &error));
    memcpy(r->result->params, mbp_net_params(r->net, NULL), vector_bytes(r->net));
    memcpy(r->result->slots, mbp_trainer_slot(r->trainer, 0), vector_bytes(r->net));
}

static problem *all_rows, *all_tested; /* the same in each process; a process may spoil its copy */
static const char *optimizer = "adam(lr=0.01)", *graph = dag;
static double l2; /* above 0: the loss contains the penalties */

static void rank_start(rank *r, mbp_dtype dtype) {
    r->net = net_new(graph, OPTIONS(.dtype = dtype, .seed = 5));
    r->trainer = dag_trainer(r->net, optimizer);
    r->all = all_rows, r->validation = all_tested;
    problem_rows(r->all, r->first, r->count, &r->part);
    OK(mbp_trainer_set(r->trainer, "clip_norm", 0.05, &error)); /* small enough to act */
    OK(mbp_net_set_layer(r->net, NULL, "l2", l2, &error));
    OK(mbp_trainer_set(r->trainer, "penalty_per_row", l2 > 0, &error));
}

static void rank_end(rank *r) {
    keep_result(r);
    mbp_trainer_free(r->trainer), mbp_net_free(r->net);
}

/* Runs the task in `ranks` processes; starts[k] is the first row of rank k, starts[ranks] the end. */
static void in_processes(int ranks, const int64_t *starts, mbp_dtype dtype, task run) {
    pid_t child[RANKS];
    memset(common, 0, sizeof *common);
    fflush(stdout);
    for (int k = 0; k < ranks; k++) {
        child[k] = fork();
        if (child[k])
            continue;
        rank r = {.number = k, .count_of_ranks = ranks, .first = starts[k], .count = starts[k + 1] - starts[k]};
        r.result = &common->result[k];
        failures = 0; /* those before are counted already */
        alarm(300);   /* a process that waits for ever ends the test */
        rank_start(&r, dtype);
        const mbp_reduce how = {.size = sizeof how, .rank = k, .ranks = ranks, .gather = gather, .user = &r};
        OK(mbp_trainer_set_reduce(r.trainer, &how, &error));
        run(&r);
        rank_end(&r);
        fflush(stdout);
        _exit(failures != 0);
    }
    for (int k = 0; k < ranks; k++) {
        int status;
        waitpid(child[k], &status, 0);
        CHECK(status == 0, "rank %d of %d: %s %d", k, ranks, WIFSIGNALED(status) ? "signal" : "exit",
              WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
}

/* One process with all rows; it shares no state with the others. */
static result alone(mbp_dtype dtype, task run) {
    static result found;
    rank r = {.count_of_ranks = 1, .count = ROWS, .result = &found};
    memset(&found, 0, sizeof found);
    rank_start(&r, dtype);
    run(&r);
    rank_end(&r);
    return found;
}

static size_t bytes_of(mbp_dtype dtype) {
    mbp_net *net = net_new(graph, OPTIONS(.dtype = dtype));
    const size_t bytes = vector_bytes(net);
    mbp_net_free(net);
    return bytes;
}

static double difference(mbp_dtype dtype, const char *a, const char *b) {
    double largest = 0;
    for (size_t i = 0; i < bytes_of(dtype) / item_of(dtype); i++) {
        const double d = dtype == MBP_F64 ? ((const double *)a)[i] - ((const double *)b)[i]
                                          : ((const float *)a)[i] - ((const float *)b)[i];
        largest = fabs(d) > largest || isnan(d) ? fabs(d) : largest;
    }
    return largest;
}

static void check_equal_ranks(int ranks, mbp_dtype dtype, const char *what) {
    const result *a = &common->result[0];
    for (int k = 1; k < ranks; k++) {
        const result *b = &common->result[k];
        CHECK(memcmp(a->params, b->params, bytes_of(dtype)) == 0 && memcmp(a->slots, b->slots, bytes_of(dtype)) == 0 &&
                  memcmp(&a->loss, &b->loss, 8) == 0 && memcmp(&a->val_loss, &b->val_loss, 8) == 0 &&
                  memcmp(&a->last_loss, &b->last_loss, 8) == 0 && a->steps == b->steps && a->epoch == b->epoch &&
                  a->calls == b->calls,
              "%s: rank %d of %d differs from rank 0", what, k, ranks);
    }
}

static void check_close(mbp_dtype dtype, const result *joined, const char *what) {
    const result *a = &common->result[0];
    const double bound = dtype == MBP_F64 ? 1e-12 : 1e-5, d = difference(dtype, a->params, joined->params);
    CHECK(d <= bound && fabs(a->loss - joined->loss) <= bound && a->steps == joined->steps && a->steps > 0,
          "%s: parameters differ by %g, the loss by %g; %lld and %lld steps", what, d, a->loss - joined->loss,
          (long long)a->steps, (long long)joined->steps);
}

/* ---- the same as all rows together ---- */

/* The losses of the outputs are of all rows too: they add up to the loss without penalties. */
static void check_outputs(const rank *r) {
    double sum = 0, value = 0;
    for (int i = 0; i < 2; i++) {
        OK(mbp_trainer_output_loss(r->trainer, i, &value, &error));
        sum += dag_loss_weights[i] * value;
    }
    CHECK(l2 > 0 ? sum < r->result->loss : fabs(sum - r->result->loss) < 1e-14, "the outputs' losses: %.17g, not %.17g",
          sum, r->result->loss);
}

static void do_steps(rank *r) {
    for (int i = 0; i < 5; i++) {
        OK(mbp_trainer_step(r->trainer, &r->part.batch, &r->result->loss, &error));
        check_outputs(r);
    }
}

static void do_parts(rank *r) {
    for (int i = 0; i < 5; i++) {
        OK(mbp_trainer_backward(r->trainer, &r->part.batch, NULL, &r->result->loss, &error));
        OK(mbp_trainer_apply(r->trainer, &error));
    }
    r->result->loss = 0; /* backward gives the part of this process */
}

/* Each process gives the sum of all weights, and its rows in two parts. */
static void do_accumulated_parts(rank *r) {
    double total = 0;
    problem half[2];
    problem_rows(r->all, r->first, r->count / 2, &half[0]);
    problem_rows(r->all, r->first + r->count / 2, r->count - r->count / 2, &half[1]);
    for (int64_t row = 0; row < ROWS; row++)
        total += array_get(&r->all->weight, row, 0);
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 2; k++)
            OK(mbp_trainer_backward(r->trainer, &half[k].batch, HOW(.total = total, .accumulate = k), &r->result->loss,
                                    &error));
        OK(mbp_trainer_apply(r->trainer, &error));
    }
    r->result->loss = 0;
}

static const int64_t splits[][RANKS + 1] = {{0, ROWS},         {0, 90, ROWS},   {0, 64, 128, ROWS},
                                            {0, 0, 150, ROWS}, {0, ROWS, ROWS}, {0, 1, 2, ROWS}};
static const int split_ranks[] = {1, 2, 3, 3, 2, 3};
enum { SPLITS = 6 };

static void test_steps(mbp_dtype dtype) {
    const result whole = alone(dtype, do_steps), parts = alone(dtype, do_parts);
    static result stepped;
    for (int i = 0; i < SPLITS; i++) {
        in_processes(split_ranks[i], splits[i], dtype, do_steps);
        check_equal_ranks(split_ranks[i], dtype, "step");
        check_close(dtype, &whole, "step");
        stepped = common->result[0];
        if (split_ranks[i] == 1)
            CHECK(memcmp(stepped.params, whole.params, bytes_of(dtype)) == 0, "one process with a function differs");
        in_processes(split_ranks[i], splits[i], dtype, do_parts);
        check_equal_ranks(split_ranks[i], dtype, "backward and apply");
        check_close(dtype, &parts, "backward and apply");
        CHECK(memcmp(common->result[0].params, stepped.params, bytes_of(dtype)) == 0 &&
                  common->result[0].last_loss == stepped.last_loss,
              "backward and apply differ from a step");
        in_processes(split_ranks[i], splits[i], dtype, do_accumulated_parts);
        check_equal_ranks(split_ranks[i], dtype, "backward in parts");
        check_close(dtype, &parts, "backward in parts");
    }
}

/* ---- epochs and fits ---- */

enum { BATCH = 16 };

static void do_epoch(rank *r) {
    OK(mbp_trainer_epoch(r->trainer, &r->part.batch, NULL, r->count, BATCH, NULL, NULL, NULL, &r->result->loss,
                         &r->result->steps, &error));
    check_outputs(r);
}

static const int64_t *joined_starts;
static int joined_ranks;

/* The same steps in one process: each takes the next BATCH rows of every rank. */
static void do_joined_steps(rank *r) {
    double sum = 0, weights = 0;
    for (int64_t s = 0;; s++) {
        int64_t index[RANKS * BATCH], n = 0, steps;
        double loss, weight = 0;
        for (int k = 0; k < joined_ranks; k++)
            for (int64_t i = joined_starts[k] + s * BATCH; i < joined_starts[k] + (s + 1) * BATCH; i++)
                if (i < joined_starts[k + 1])
                    index[n++] = i;
        if (n == 0)
            break;
        for (int64_t i = 0; i < n; i++)
            weight += array_get(&r->all->weight, index[i], 0);
        OK(mbp_trainer_epoch(r->trainer, &r->all->batch, index, n, n, NULL, NULL, NULL, &loss, &steps, &error));
        sum += weight * loss, weights += weight;
    }
    r->result->loss = sum / weights;
}

static void test_epochs(mbp_dtype dtype) {
    for (int i = 0; i < SPLITS; i++) {
        joined_starts = splits[i], joined_ranks = split_ranks[i];
        const result joined = alone(dtype, do_joined_steps);
        in_processes(joined_ranks, joined_starts, dtype, do_epoch);
        check_equal_ranks(joined_ranks, dtype, "epoch");
        check_close(dtype, &joined, "epoch");
    }
}

static int64_t stop_at[RANKS]; /* per rank: the epoch after which its callback ends the fit */

static int note(const mbp_record *record, void *user) {
    rank *r = user;
    r->result->loss = record->loss;
    r->result->val_loss = record->val_loss;
    return record->epoch == stop_at[r->number];
}

/* Each process validates on its own rows; the last of three has none. */
static void do_fit(rank *r) {
    const int64_t each = r->count_of_ranks == 1 ? TESTED : TESTED / 2, first = each * r->number;
    problem_rows(r->validation, first < TESTED ? first : 0, first < TESTED ? each : 0, &r->tested);
    r->result->status = mbp_trainer_fit(r->trainer, &r->part.batch,
                                        &(mbp_fit){.size = sizeof(mbp_fit),
                                                   .epochs = 6,
                                                   .batch_rows = ROWS,
                                                   .keep_order = 1,
                                                   .validation = &r->tested.batch,
                                                   .patience = 2,
                                                   .callback = note,
                                                   .user = r},
                                        NULL, &r->result->error);
}

static void test_fits(mbp_dtype dtype) {
    const result whole = alone(dtype, do_fit);
    for (int i = 0; i < SPLITS; i++) {
        in_processes(split_ranks[i], splits[i], dtype, do_fit);
        check_equal_ranks(split_ranks[i], dtype, "fit");
        check_close(dtype, &whole, "fit");
        CHECK(fabs(common->result[0].val_loss - whole.val_loss) < (dtype == MBP_F64 ? 1e-12 : 1e-5) &&
                  common->result[0].epoch == whole.epoch,
              "the validation loss is %g, that of all rows %g", common->result[0].val_loss, whole.val_loss);
    }
    stop_at[1] = 3; /* one callback ends the fit everywhere */
    in_processes(3, splits[2], dtype, do_fit);
    check_equal_ranks(3, dtype, "a fit that ends early");
    CHECK(common->result[0].epoch == 3, "%g epochs", common->result[0].epoch);
    stop_at[1] = 0;
}

/* ---- failures ---- */

static int faulty; /* the rank that fails */

static int count_polls(void *user) {
    rank *r = user;
    return r->number == faulty && ++r->polls == 3;
}

static void epoch_into(rank *r, mbp_poll poll, int64_t rows) {
    double loss;
    int64_t steps;
    r->result->status = mbp_trainer_epoch(r->trainer, &r->part.batch, NULL, r->count, rows, NULL, poll, r, &loss,
                                          &steps, &r->result->error);
}

static void do_cancelled_epoch(rank *r) { epoch_into(r, count_polls, BATCH); }

static void spoil_weight(rank *r) {
    if (r->number == faulty)
        array_set(&r->part.weight, 0, 0, -1);
}
static void spoil_input(rank *r) {
    if (r->number == faulty)
        array_set(&r->part.x[0], 0, 0, NAN);
}

static void do_refused_step(rank *r) {
    double loss;
    spoil_weight(r);
    r->result->status = mbp_trainer_step(r->trainer, &r->part.batch, &loss, &r->result->error);
}
static void do_refused_backward(rank *r) {
    double loss;
    spoil_weight(r);
    r->result->status = mbp_trainer_backward(r->trainer, &r->part.batch, NULL, &loss, &r->result->error);
}
static void do_refused_epoch(rank *r) {
    spoil_weight(r);
    epoch_into(r, NULL, BATCH);
}
static void do_refused_fit(rank *r) {
    spoil_weight(r);
    do_fit(r);
}
static void do_refused_settings(rank *r) {
    r->result->status = mbp_trainer_fit(
        r->trainer, &r->part.batch, &(mbp_fit){.size = sizeof(mbp_fit), .epochs = 2, .patience = r->number == faulty},
        NULL, &r->result->error);
}
static void do_nonfinite_step(rank *r) {
    double loss;
    spoil_input(r);
    r->result->status = mbp_trainer_step(r->trainer, &r->part.batch, &loss, &r->result->error);
}
static void do_nonfinite_fit(rank *r) {
    spoil_input(r);
    do_fit(r);
}
static void do_failing_reduce(rank *r) {
    double loss;
    r->fail_at = 2; /* in all processes: a connection is lost */
    r->result->status = mbp_trainer_step(r->trainer, &r->part.batch, &loss, &r->result->error);
}
static void do_nothing(rank *r) { r->result->loss = 0; }

static void check_failure(task run, mbp_status own, mbp_status others, int64_t steps, const char *text) {
    const result before = alone(MBP_F64, do_nothing);
    for (faulty = 0; faulty < 2; faulty++) {
        in_processes(2, splits[1], MBP_F64, run);
        for (int k = 0; k < 2; k++) {
            const result *r = &common->result[k];
            const mbp_status expected = k == faulty ? own : others;
            CHECK(r->status == expected && strstr(r->error.text, k == faulty ? text : ""),
                  "rank %d of 2, fault in rank %d: status %d, %s", k, faulty, (int)r->status, r->error.text);
            CHECK(r->steps == steps && (steps || memcmp(r->params, before.params, bytes_of(MBP_F64)) == 0),
                  "%lld steps, or the parameters changed", (long long)r->steps);
        }
        check_equal_ranks(2, MBP_F64, text);
    }
}

static void test_failures(void) {
    check_failure(do_refused_step, MBP_INVALID, MBP_CANCELLED, 0, "the weight of row 0");
    check_failure(do_refused_backward, MBP_INVALID, MBP_CANCELLED, 0, "the weight of row 0");
    check_failure(do_refused_epoch, MBP_INVALID, MBP_CANCELLED, 0, "the weight of row 0");
    check_failure(do_refused_fit, MBP_INVALID, MBP_CANCELLED, 0, "the weight of row 0");
    check_failure(do_refused_settings, MBP_INVALID, MBP_CANCELLED, 0, "how.patience needs how.validation");
    check_failure(do_cancelled_epoch, MBP_CANCELLED, MBP_CANCELLED, 2, "cancelled after 2 steps of the epoch");
    check_failure(do_nonfinite_step, MBP_NONFINITE, MBP_NONFINITE, 0, "the loss of output 0");
    check_failure(do_nonfinite_fit, MBP_NONFINITE, MBP_NONFINITE, 0, "the loss of output 0");
    check_failure(do_failing_reduce, MBP_CANCELLED, MBP_CANCELLED, 0, "how.gather returned 9, but must return 0");
}

/* No process has a row. */
static void do_empty_step(rank *r) {
    double loss;
    r->result->status = mbp_trainer_step(r->trainer, &r->part.batch, &loss, &r->result->error);
}

static void test_no_rows(void) {
    in_processes(2, (const int64_t[]){0, 0, 0}, MBP_F64, do_empty_step);
    for (int k = 0; k < 2; k++)
        CHECK(common->result[k].status == MBP_INVALID && common->result[k].steps == 0, "status %d, %s",
              (int)common->result[k].status, common->result[k].error.text);
}

int main(void) {
    common = mmap(NULL, sizeof *common, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    static const mbp_dtype dtypes[] = {MBP_F32, MBP_F64};
    for (int i = 0; i < 2; i++) {
        all_rows = problem_new(dtypes[i], ROWS), all_tested = problem_new(dtypes[i], TESTED);
        test_steps(dtypes[i]);
        test_epochs(dtypes[i]);
        test_fits(dtypes[i]);
        l2 = 0.3;
        test_steps(dtypes[i]);
        test_epochs(dtypes[i]);
        l2 = 0;
        if (dtypes[i] == MBP_F64)
            test_failures(), test_no_rows();
        problem_free(all_rows), problem_free(all_tested);
    }
    return report("reduce");
}
