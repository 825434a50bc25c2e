/* mbp_trainer_fit is its epochs and evaluations one after the other, with the best state at the end. */
#include "api.h"

enum { ROWS = 150, TESTED = 40 };

#define FIT(...) (&(mbp_fit){.size = sizeof(mbp_fit), __VA_ARGS__})

/* A net with a trainer, rows to train on and rows for validation. */
typedef struct world {
    mbp_net *net;
    mbp_trainer *trainer;
    problem *data, *validation;
} world;

static world world_new(mbp_dtype dtype, const mbp_allocator *allocator) {
    world w = {.net = net_new(dag, OPTIONS(.dtype = dtype, .seed = 5, .allocator = allocator))};
    w.trainer = dag_trainer(w.net, "adam(lr=0.02)");
    w.data = problem_new(dtype, ROWS);
    w.validation = problem_new(dtype, TESTED);
    OK(mbp_trainer_set_average(w.trainer, 0.9, 0, 1, &error));
    return w;
}

/* A second net and trainer in the same state, on the same rows. */
static world world_again(const world *w) {
    world again = *w;
    again.net = net_new(dag, OPTIONS(.dtype = mbp_net_dtype(w->net), .seed = 5));
    again.trainer = dag_trainer(again.net, "adam(lr=0.02)");
    OK(mbp_trainer_set_average(again.trainer, 0.9, 0, 1, &error));
    return again;
}

static void trainer_end(world *w) { mbp_trainer_free(w->trainer), mbp_net_free(w->net); }
static void world_end(world *w) { trainer_end(w), problem_free(w->data), problem_free(w->validation); }

static double number_of(const world *w, const char *name) {
    double number = 0;
    OK(mbp_trainer_get(w->trainer, name, &number, &error));
    return number;
}

static int same_worlds(const world *a, const world *b) {
    int64_t counts[2];
    const void *averages[] = {mbp_trainer_average(a->trainer, &counts[0]), mbp_trainer_average(b->trainer, &counts[1])};
    return same_params(a->net, b->net) && same_state(a->net, a->trainer, b->trainer) && counts[0] == counts[1] &&
           memcmp(averages[0], averages[1], vector_bytes(a->net)) == 0 && number_of(a, "lr") == number_of(b, "lr") &&
           number_of(a, "epoch") == number_of(b, "epoch");
}

/* ---- the same as its parts ---- */

/* The numbers of the rows with a weight above 0, in the order of the next epoch. */
static int64_t order_rows(const world *w, int keep_order, int64_t epoch, int64_t *order) {
    int64_t present[ROWS], place[ROWS], count = 0;
    for (int64_t r = 0; r < ROWS; r++)
        if (array_get(&w->data->weight, r, 0) > 0)
            present[count++] = r;
    mbp_permutation(5, 2, (uint64_t)epoch, count, place);
    for (int64_t i = 0; i < count; i++)
        order[i] = present[keep_order ? i : place[i]];
    return count;
}

typedef struct records {
    mbp_record at[20];
    int64_t count, stop_at;
} records;

static int note(const mbp_record *record, void *user) {
    records *r = user;
    r->at[r->count++] = *record;
    return r->count == r->stop_at;
}

static void check_parts(mbp_dtype dtype, int keep_order, int64_t batch_rows, int weights, int validates) {
    world w = world_new(dtype, NULL);
    for (int64_t r = 0; r < ROWS && weights; r += 3)
        array_set(&w.data->weight, r, 0, 0);
    world parts = world_again(&w);
    records found = {.count = 0};
    double least = INFINITY;
    const mbp_batch *validation = validates ? &w.validation->batch : NULL;
    OK(mbp_trainer_fit(w.trainer, &w.data->batch,
                       FIT(.epochs = 4, .batch_rows = batch_rows, .keep_order = keep_order, .validation = validation,
                           .callback = note, .user = &found),
                       NULL, &error));
    CHECK(found.count == 4, "%lld records", (long long)found.count);
    for (int64_t e = 0; e < found.count; e++) {
        int64_t order[ROWS], steps;
        double loss, val_loss = NAN;
        const int64_t count = order_rows(&parts, keep_order, e, order);
        OK(mbp_trainer_epoch(parts.trainer, &w.data->batch, order, count, batch_rows ? batch_rows : 32, NULL, NULL,
                             NULL, &loss, &steps, &error));
        if (validates)
            OK(mbp_trainer_evaluate(parts.trainer, validation, &val_loss, &error));
        const mbp_record *r = &found.at[e];
        const int same_loss = validates ? r->val_loss == val_loss : isnan(r->val_loss);
        CHECK(r->epoch == e + 1 && r->steps == mbp_trainer_steps(parts.trainer) && r->loss == loss && same_loss &&
                  r->lr == 0.02 && r->best == (val_loss < least) && r->size == sizeof *r,
              "epoch %lld: loss %g, validation %g; parts %g, %g", (long long)r->epoch, r->loss, r->val_loss, loss,
              val_loss);
        least = val_loss < least ? val_loss : least;
    }
    OK(mbp_trainer_set(parts.trainer, "epoch", 4, &error));
    CHECK(same_worlds(&w, &parts), "a fit differs from its epochs");
    trainer_end(&parts), world_end(&w);
}

static void test_parts(mbp_dtype dtype) {
    for (int keep_order = 0; keep_order < 2; keep_order++)
        for (int weights = 0; weights < 2; weights++)
            for (int validates = 0; validates < 2; validates++)
                check_parts(dtype, keep_order, validates ? 0 : 64, weights, validates);
}

static void test_continues(mbp_dtype dtype) {
    world w = world_new(dtype, NULL), whole = world_again(&w);
    mbp_record record = {.size = sizeof record};
    OK(mbp_trainer_fit(whole.trainer, &w.data->batch, FIT(.epochs = 5), NULL, &error));
    OK(mbp_trainer_fit(w.trainer, &w.data->batch, FIT(.epochs = 2), &record, &error));
    CHECK(record.epoch == 2, "the record is of epoch %lld", (long long)record.epoch);
    OK(mbp_trainer_fit(w.trainer, &w.data->batch, FIT(.epochs = 3), &record, &error));
    CHECK(record.epoch == 5 && record.size == sizeof record, "the record is of epoch %lld", (long long)record.epoch);
    CHECK(same_worlds(&w, &whole), "2 + 3 epochs differ from 5");
    OK(mbp_trainer_reset(w.trainer, &error));
    CHECK(number_of(&w, "epoch") == 0, "reset keeps the epochs");
    trainer_end(&whole), world_end(&w);
}

/* ---- early stopping ---- */

/* Validation targets that the training moves away from, after some epochs. */
static void oppose(world *w) {
    for (int64_t r = 0; r < TESTED; r++)
        for (int i = 0; i < 2; i++)
            for (int64_t j = 0; j < w->validation->y[i].cols; j++)
                array_set(&w->validation->y[i], r, j, -0.5 * array_get(&w->validation->y[i], r, j));
}

typedef struct slower {
    world *w;
    records records;
} slower;

/* Each epoch has another learning rate. */
static int slow_down(const mbp_record *record, void *user) {
    slower *s = user;
    note(record, &s->records);
    OK(mbp_trainer_set(s->w->trainer, "lr", record->lr * 0.9, &error));
    return 0;
}

static void test_best_state(mbp_dtype dtype, int64_t patience) {
    world w = world_new(dtype, NULL), again = world_again(&w);
    oppose(&w);
    slower found = {.w = &w}, expected = {.w = &again};
    mbp_record record = {.size = sizeof record};
    OK(mbp_trainer_fit(w.trainer, &w.data->batch,
                       FIT(.epochs = 20, .validation = &w.validation->batch, .patience = patience, .batch_rows = 16,
                           .callback = slow_down, .user = &found),
                       &record, &error));
    CHECK(record.best && record.epoch >= 1 && found.records.count == record.epoch + patience &&
              found.records.count < 20,
          "the best epoch is %lld of %lld", (long long)record.epoch, (long long)found.records.count);
    OK(mbp_trainer_fit(again.trainer, &w.data->batch,
                       FIT(.epochs = record.epoch, .batch_rows = 16, .callback = slow_down, .user = &expected), NULL,
                       &error));
    OK(mbp_trainer_set(again.trainer, "lr", record.lr, &error)); /* that of the epoch, before its callback */
    CHECK(same_worlds(&w, &again), "the state is not that of epoch %lld", (long long)record.epoch);
    trainer_end(&again), world_end(&w);
}

static void test_min_delta(void) {
    world w = world_new(MBP_F64, NULL);
    mbp_record record = {.size = sizeof record};
    OK(mbp_trainer_fit(w.trainer, &w.data->batch,
                       FIT(.epochs = 20, .validation = &w.validation->batch, .patience = 2, .min_delta = 1000), &record,
                       &error));
    CHECK(record.epoch == 1 && number_of(&w, "epoch") == 1, "epoch %lld is better by 1000", (long long)record.epoch);
    world_end(&w);
}

/* ---- calls that are refused or end early ---- */

/* Whatever the caller gets wrong, nothing changes. */
static void test_refusals(mbp_dtype dtype) {
    world w = world_new(dtype, NULL), before = world_again(&w);
    mbp_record record = {.size = sizeof record, .epoch = 77};
    mbp_error error;
    mbp_batch other = w.data->batch, tested = w.validation->batch;
    const mbp_array wide = w.data->x[0];
    OK(mbp_trainer_forward(w.trainer, w.data->x, 2, &error));
    other.x = &wide, other.n_x = 1;
    tested.n_y = 1;
#define REFUSED(data, how, words) \
    CHECK(mbp_trainer_fit(w.trainer, data, how, &record, &error) == MBP_INVALID && strstr(error.text, words), "%s", \
          error.text)
    const mbp_batch *good = &w.data->batch, *validation = &w.validation->batch;
    REFUSED(good, FIT(.epochs = -1), "how.epochs is -1");
    REFUSED(good, FIT(.epochs = 0), "how.epochs is 0, but must be at least 1");
    REFUSED(good, FIT(.epochs = 1, .batch_rows = -2), "how.batch_rows is -2");
    REFUSED(good, FIT(.epochs = 1, .patience = -3, .validation = validation), "how.patience is -3");
    REFUSED(good, FIT(.epochs = 1, .patience = 1), "how.patience needs how.validation");
    REFUSED(good, FIT(.epochs = 1, .validation = validation, .min_delta = 1), "how.min_delta needs how.patience");
    REFUSED(good, FIT(.epochs = 1, .validation = validation, .patience = 1, .min_delta = NAN), "how.min_delta");
    REFUSED(good, FIT(.epochs = 1, .validation = validation, .patience = 1, .min_delta = -1), "how.min_delta");
    REFUSED(good, (&(mbp_fit){.size = 3}), "mbp_fit.size");
    REFUSED(good, FIT(.epochs = 1, .validation = &tested), "validation: y has 1");
    REFUSED(&other, FIT(.epochs = 1), "x has 1");
    record.size = 1;
    REFUSED(good, FIT(.epochs = 1), "mbp_record.size");
    record.size = sizeof record;
    array_set(&w.validation->weight, 3, 0, -1);
    REFUSED(good, FIT(.epochs = 1, .validation = validation), "validation: the weight of row 3");
    array_set(&w.validation->weight, 3, 0, 1);
    array_set(&w.data->weight, 70, 0, -1);
    REFUSED(good, FIT(.epochs = 1, .validation = validation), "the weight of row 70");
    mbp_array output;
    OK(mbp_trainer_output(w.trainer, 0, &output, &error)); /* the values of the forward pass are still there */
    CHECK(record.epoch == 77 && same_worlds(&w, &before), "a refused call changes something");
    trainer_end(&before), world_end(&w);
}

typedef struct guest {
    world *w;
    int64_t calls, stop_at;
} guest;

/* Everything but training. */
static int visit(const mbp_record *record, void *user) {
    guest *g = user;
    mbp_trainer *t = g->w->trainer;
    char bytes[20000];
    size_t size = sizeof bytes;
    double value;
    int64_t steps;
    mbp_batch *batch = &g->w->validation->batch;
    OK(mbp_net_predict(g->w->net, g->w->data->x, 2, g->w->data->out, 2, 0, -1, &error));
    OK(mbp_net_write(g->w->net, bytes, &size, &error));
    OK(mbp_trainer_evaluate(t, batch, &value, &error));
    CHECK(value == record->val_loss, "the callback finds the loss %g, the record has %g", value, record->val_loss);
    OK(mbp_trainer_measure(t, batch, 0, "rmse", &value, &error));
    OK(mbp_trainer_set(t, "clip_norm", 2, &error));
    CHECK(mbp_trainer_step(t, batch, &value, NULL) == MBP_BUSY, "step");
    CHECK(mbp_trainer_epoch(t, batch, NULL, 4, 2, NULL, NULL, NULL, &value, &steps, NULL) == MBP_BUSY, "epoch");
    CHECK(mbp_trainer_fit(t, batch, FIT(.epochs = 1), NULL, NULL) == MBP_BUSY, "fit");
    CHECK(mbp_trainer_set_reduce(t, NULL, NULL) == MBP_BUSY, "set_reduce");
    return ++g->calls == g->stop_at;
}

static void test_callback(mbp_dtype dtype) {
    world w = world_new(dtype, NULL);
    guest g = {.w = &w, .stop_at = 3};
    mbp_record record = {.size = sizeof record};
    OK(mbp_trainer_fit(w.trainer, &w.data->batch,
                       FIT(.epochs = 9, .validation = &w.validation->batch, .callback = visit, .user = &g), &record,
                       &error));
    CHECK(g.calls == 3 && record.epoch == 3 && number_of(&w, "epoch") == 3, "%lld calls", (long long)g.calls);
    double loss;
    OK(mbp_trainer_step(w.trainer, &w.data->batch, &loss, &error)); /* nothing is left busy */
    world_end(&w);
}

static int count_down(void *user) { return --*(int *)user == 0; }

/* 150 rows are 5 steps of 32 rows: the 13th poll is before the 3rd step of the 3rd epoch. */
static void test_cancelled(int64_t patience) {
    world w = world_new(MBP_F32, NULL);
    mbp_error error;
    mbp_record record = {.size = sizeof record};
    int polls = 13;
    const mbp_status status = mbp_trainer_fit(
        w.trainer, &w.data->batch,
        FIT(.epochs = 9, .validation = &w.validation->batch, .patience = patience, .poll = count_down, .user = &polls),
        &record, &error);
    CHECK(status == MBP_CANCELLED && strcmp(error.text, "epoch 3: cancelled after 2 steps of the epoch") == 0, "%s",
          error.text);
    CHECK(record.epoch == 2 && number_of(&w, "epoch") == 2 && mbp_trainer_steps(w.trainer) == (patience ? 10 : 12),
          "%lld steps are left", (long long)mbp_trainer_steps(w.trainer));
    world_end(&w);
}

static int blow_up(const mbp_record *record, void *user) {
    if (record->epoch == 2)
        array_set(&((world *)user)->data->x[0], 17, 0, NAN);
    return 0;
}

static void test_nonfinite(void) {
    world w = world_new(MBP_F32, NULL);
    mbp_error error;
    const mbp_status status = mbp_trainer_fit(
        w.trainer, &w.data->batch, FIT(.epochs = 9, .keep_order = 1, .callback = blow_up, .user = &w), NULL, &error);
    CHECK(status == MBP_NONFINITE && strncmp(error.text, "epoch 3: the loss of output", 27) == 0 && error.row == 17 &&
              error.step == 0 && number_of(&w, "epoch") == 2,
          "status %d, row %lld, step %lld: %s", (int)status, (long long)error.row, (long long)error.step, error.text);
    world_end(&w);
}

/* ---- memory ---- */

typedef struct watched {
    counter counter;
    long at_first_step;
} watched;

static int watch_memory(void *user) {
    watched *m = user;
    m->at_first_step = m->at_first_step ? m->at_first_step : m->counter.calls;
    return 0;
}

static void test_memory(mbp_dtype dtype) {
    watched m = {{0}, 0};
    const mbp_allocator allocator = {count_allocate, count_release, &m.counter};
    world w = world_new(dtype, &allocator), before = world_again(&w);
    const mbp_fit *how = FIT(.epochs = 4, .validation = &w.validation->batch, .patience = 2, .poll = watch_memory,
                             .user = &m);
    mbp_status status = MBP_NO_MEMORY;
    const long start = m.counter.calls;
    for (long n = 1; status != MBP_OK && n < 20; n++) {
        mbp_error error = {0};
        m.counter.fail_at = m.counter.calls + n;
        m.counter.persistent = 1;
        status = mbp_trainer_fit(w.trainer, &w.data->batch, how, NULL, &error);
        CHECK(status == MBP_OK || (status == MBP_NO_MEMORY && !m.at_first_step && same_worlds(&w, &before)),
              "allocation %ld: status %d, %s", n, (int)status, error.text);
    }
    CHECK(status == MBP_OK && m.counter.calls > start && m.counter.calls == m.at_first_step,
          "%ld allocations after the first step", m.counter.calls - m.at_first_step);
    trainer_end(&before), world_end(&w);
    CHECK(m.counter.live == 0, "%zu bytes are left", m.counter.live);
}

int main(void) {
    static const mbp_dtype dtypes[] = {MBP_F32, MBP_F64};
    for (int i = 0; i < 2; i++) {
        test_parts(dtypes[i]);
        test_continues(dtypes[i]);
        test_best_state(dtypes[i], 1);
        test_best_state(dtypes[i], 3);
        test_refusals(dtypes[i]);
        test_callback(dtypes[i]);
        test_memory(dtypes[i]);
    }
    test_min_delta();
    test_cancelled(0), test_cancelled(2);
    test_nonfinite();
    return report("fit");
}
