/* Trainers with a solver: iterations on a loss of the caller, and fits. */
#include "api.h"

#include <math.h>

#define HOLDS(condition) CHECK(condition, "%s: %s", #condition, error.text)
#define FIT(...) (&(mbp_fit){.size = sizeof(mbp_fit), __VA_ARGS__})

#if MICROBP_SOLVERS
enum { ROWS = 40 };
static const char graph[] = "input 3\ndense 0 units=5 activation=tanh l2=0.01\ndense 1 units=1\noutput 2\n";

typedef struct rows {
    mbp_array x, y;
    mbp_batch batch;
} rows;

static void rows_start(rows *r, mbp_dtype dtype) {
    r->x = array_new(dtype, ROWS, 3), r->y = array_new(dtype, ROWS, 1);
    array_fill(&r->x, -1, 1);
    for (int i = 0; i < ROWS; i++)
        array_set(&r->y, i, 0, sin(3 * array_get(&r->x, i, 0)) + array_get(&r->x, i, 1));
    r->batch = (mbp_batch){.size = sizeof r->batch, .x = &r->x, .n_x = 1, .y = &r->y, .n_y = 1};
}

static void rows_end(rows *r) { array_free(&r->x), array_free(&r->y); }

static mbp_trainer *make(mbp_dtype dtype, const char *loss, const char *optimizer, mbp_net **net) {
    *net = net_new(graph, OPTIONS(.dtype = dtype, .seed = 3));
    return trainer_new(*net, (const char *[]){loss}, NULL, optimizer);
}

/* ---- a loss of the caller ---- */

typedef struct own {
    mbp_trainer *trainer;
    const rows *data;
    int calls, fails_at;
    mbp_status status; /* of that call */
    double most;       /* above this output, the loss is not finite */
} own;

static mbp_status mean_square(void *user, double *value, mbp_error *error) {
    own *o = user;
    mbp_array out, gradient = array_new(o->data->x.dtype, ROWS, 1);
    if (++o->calls == o->fails_at)
        return array_free(&gradient), o->status;
    mbp_status status = mbp_trainer_forward(o->trainer, &o->data->x, 1, error);
    if (status == MBP_OK)
        status = mbp_trainer_output(o->trainer, 0, &out, error);
    *value = 0;
    for (int i = 0; i < ROWS && status == MBP_OK; i++) {
        const double e = array_get(&out, i, 0) - array_get(&o->data->y, i, 0);
        *value += array_get(&out, i, 0) > o->most ? NAN : e * e / ROWS;
        array_set(&gradient, i, 0, 2 * e / ROWS);
    }
    if (status == MBP_OK)
        status = mbp_trainer_backward_from(o->trainer, &gradient, 1, NULL, error);
    array_free(&gradient);
    return status;
}

static mbp_status nothing(void *user, double *value, mbp_error *error) {
    (void)user, (void)error;
    *value = 1;
    return MBP_OK;
}

static void test_own_loss(mbp_dtype dtype) {
    const double near = dtype == MBP_F64 ? 1e-9 : 1e-2;
    mbp_error error = {0};
    mbp_net *nets[2];
    rows data;
    rows_start(&data, dtype);
    mbp_trainer *named = make(dtype, "mse", "lbfgs", &nets[0]), *t = make(dtype, NULL, "lbfgs", &nets[1]);
    own o = {.trainer = t, .data = &data, .most = INFINITY};
    double a, b = 0, before = INFINITY, count;
    for (int i = 0; i < 8; i++, before = b) {
        data.batch.same = i > 0;
        HOLDS(mbp_trainer_step(named, &data.batch, &a, &error) == MBP_OK);
        HOLDS(mbp_trainer_iterate(t, mean_square, &o, i > 0, &b, &error) == MBP_OK);
        CHECK(fabs(a - b) <= near && b < before, "iteration %d: %g and %g", i, a, b);
    }
    for (int64_t i = 0; i < (int64_t)(vector_bytes(nets[0]) / item_of(dtype)); i++)
        CHECK(fabs(vector_at(nets[0], mbp_net_params(nets[0], NULL), i) -
                   vector_at(nets[1], mbp_net_params(nets[1], NULL), i)) <= near,
              "parameter %lld", (long long)i);
    HOLDS(mbp_trainer_get(t, "evaluations", &count, &error) == MBP_OK && count == o.calls);
    HOLDS(mbp_trainer_get(t, "loss", &a, &error) == MBP_OK && a == b);
    HOLDS(mbp_trainer_steps(t) == 8);
    mbp_trainer_free(named), mbp_trainer_free(t), mbp_net_free(nets[0]), mbp_net_free(nets[1]);
    rows_end(&data);
}

static void test_own_losses_that_fail(void) {
    mbp_error error = {0};
    mbp_net *net, *other, *copy = NULL;
    rows data;
    rows_start(&data, MBP_F64);
    mbp_trainer *t = make(MBP_F64, NULL, "lbfgs", &net);
    own o = {.trainer = t, .data = &data, .most = INFINITY};
    double loss, last;
    HOLDS(mbp_trainer_iterate(t, mean_square, &o, 0, &last, &error) == MBP_OK);
    HOLDS(mbp_net_copy(&copy, net, NULL, &error) == MBP_OK);
    o.fails_at = o.calls + 2, o.status = MBP_CANCELLED;
    HOLDS(mbp_trainer_iterate(t, mean_square, &o, 0, &loss, &error) == MBP_CANCELLED);
    HOLDS(same_params(net, copy) && mbp_trainer_steps(t) == 1);
    HOLDS(mbp_trainer_iterate(t, nothing, NULL, 0, &loss, &error) == MBP_INVALID &&
          strstr(error.text, "loss must call"));
    HOLDS(same_params(net, copy));
    o.most = 0.4;
    for (int i = 0; i < 5; i++, last = loss)
        if (mbp_trainer_iterate(t, mean_square, &o, 0, &loss, &error) == MBP_OK)
            CHECK(loss <= last, "%g after %g", loss, last);
    HOLDS(mbp_trainer_iterate(t, NULL, NULL, 0, &loss, &error) == MBP_INVALID && strstr(error.text, "loss is NULL"));
    HOLDS(mbp_trainer_iterate(t, mean_square, &o, 0, NULL, &error) == MBP_INVALID &&
          strstr(error.text, "value is NULL"));
    mbp_trainer *adam = make(MBP_F64, NULL, "adam", &other);
    HOLDS(mbp_trainer_iterate(adam, mean_square, &o, 0, &loss, &error) == MBP_INVALID &&
          strstr(error.text, "mbp_trainer_iterate needs a solver, such as lbfgs, not adam"));
    mbp_trainer_free(adam), mbp_trainer_free(t), mbp_net_free(other), mbp_net_free(copy), mbp_net_free(net);
    rows_end(&data);
}

/* ---- fits ---- */

static int stop(const mbp_record *record, void *user) {
    double *last = user;
    CHECK(record->loss <= *last && !record->reason && isnan(record->lr), "%g after %g", record->loss, *last);
    *last = record->loss;
    return record->epoch == 900;
}

static int cancel(void *user) { return --*(int *)user == 0; }

static void test_fit(mbp_dtype dtype) {
    mbp_error error = {0};
    mbp_net *net;
    rows data;
    rows_start(&data, dtype);
    mbp_trainer *t = make(dtype, "mse", "lbfgs(history=5)", &net);
    mbp_record record = {.size = sizeof record};
    double last = INFINITY;
#define ENDS(why, ...) \
    OK(mbp_trainer_fit(t, &data.batch, FIT(__VA_ARGS__), &record, &error)); \
    CHECK(strcmp(record.reason, why) == 0, "%s ends it, not %s", record.reason, why)
    ENDS("epochs", .epochs = 3, .callback = stop, .user = &last);
    ENDS("goal", .epochs = 1000, .goal = 0.9 * last);
    CHECK(record.loss <= 0.9 * last && record.epoch > 3, "%g", record.loss);
    int polls = 3;
    HOLDS(mbp_trainer_fit(t, &data.batch, FIT(.epochs = 9, .poll = cancel, .user = &polls), &record, &error) ==
              MBP_CANCELLED &&
          strstr(error.text, "cancelled before the iteration") && !record.reason);
    ENDS("patience", .epochs = 1000, .validation = &data.batch, .patience = 1, .min_delta = 100);
    ENDS("gradient", .epochs = 1000, .gradient_tolerance = 0.01);
    last = INFINITY;
    OK(mbp_trainer_set(t, "epoch", 899, &error));
    ENDS("callback", .epochs = 2, .callback = stop, .user = &last);
#if MICROBP_THREADS
    OK(mbp_trainer_reset(t, &error));
    ENDS("max_time", .epochs = 100000, .max_time = 1e-9);
    CHECK(record.epoch == 1, "%lld epochs", (long long)record.epoch);
#endif
#define REFUSED(words, ...) \
    HOLDS(mbp_trainer_fit(t, &data.batch, FIT(.epochs = 1, __VA_ARGS__), NULL, &error) == MBP_INVALID && \
          strstr(error.text, words))
    REFUSED("how.batch_rows does not work with lbfgs, which uses all rows at once", .batch_rows = 8);
    REFUSED("how.goal must be finite", .goal = NAN);
    REFUSED("how.gradient_tolerance must be finite and at least 0", .gradient_tolerance = -1);
    REFUSED("how.max_time must be at least 0", .max_time = -1);
    if (dtype == MBP_F32) { /* in float64, the valley is longer than this */
        ENDS("no step", .epochs = 100000);
    }
    mbp_trainer_free(t), mbp_net_free(net), rows_end(&data);
}
#endif

int main(void) {
#if MICROBP_SOLVERS
    test_own_loss(MBP_F64);
    test_own_loss(MBP_F32);
    test_own_losses_that_fail();
    test_fit(MBP_F64);
    test_fit(MBP_F32);
#endif
    return report("own losses and fits of solvers");
}
