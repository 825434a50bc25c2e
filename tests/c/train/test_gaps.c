/* Weights of elements, missing targets, and a divisor per output. The values are compared with Python's reference in
 * tests/training/gaps; here are what only C has, its refusals, and several processes. */
#include "api.h"

enum { ROWS = 150, WIDE = 3, NARROW = 2 };

static mbp_error error;

static const char graph[] = "input 4\ndense 0 layer=a units=5 activation=tanh\ndense 1 layer=b units=3 l2=0.1\n"
                            "dense 1 layer=c units=2\noutput 2\noutput 3\n";

typedef struct data {
    mbp_array x, y[2], weight, elements[2];
    mbp_batch batch;
} data;

/* A third of the targets and of the labels is missing, and all of some rows. */
static void data_new(data *d, mbp_dtype dtype) {
    d->x = array_new(dtype, ROWS, 4);
    d->y[0] = array_new(dtype, ROWS, WIDE);
    d->y[1] = array_new(MBP_I64, ROWS, 1);
    d->weight = array_new(MBP_F64, ROWS, 1);
    d->elements[0] = array_new(MBP_F64, ROWS, WIDE);
    d->elements[1] = array_new(MBP_F32, ROWS, 1);
    for (int64_t r = 0; r < ROWS; r++) {
        for (int64_t j = 0; j < 4; j++)
            array_set(&d->x, r, j, random_unit());
        for (int64_t j = 0; j < WIDE; j++) {
            array_set(&d->y[0], r, j, r % 11 == 0 || random_below(3) == 0 ? (double)NAN : random_unit());
            array_set(&d->elements[0], r, j, r % 7 == 0 || random_below(4) == 0 ? 0 : 1 + random_unit() / 2);
        }
        *(int64_t *)array_element(&d->y[1], r, 0) = r % 11 == 0 || random_below(3) == 0 ? -1 : random_below(NARROW);
        array_set(&d->elements[1], r, 0, random_below(4) ? 1.5 + random_unit() : 0);
        array_set(&d->weight, r, 0, random_below(5) ? 1.5 + random_unit() : 0);
    }
    d->batch = (mbp_batch){sizeof d->batch, &d->x, 1, d->y, 2, &d->weight, d->elements, NULL, NULL};
}

static void data_free(data *d) {
    array_free(&d->x), array_free(&d->y[0]), array_free(&d->y[1]), array_free(&d->weight);
    array_free(&d->elements[0]), array_free(&d->elements[1]);
}

static mbp_trainer *gaps_trainer(mbp_dtype dtype, mbp_net **net) {
    *net = net_new(graph, OPTIONS(.dtype = dtype, .seed = 5));
    return trainer_new(*net, (const char *[]){"mse(missing=1)", "cross_entropy(label_smoothing=0.1,missing=1)"},
                       (const double[]){1, 0.5}, "adam(lr=0.01)");
}

static void refuse(mbp_status got, const mbp_error *e, mbp_status status, const char *text) {
    CHECK(got == status && e->status == status && strstr(e->text, text), "%s: status %d, %s", text, (int)got, e->text);
}

/* ---- several processes ---- */

static double train(mbp_trainer *t, const data *d, int how) {
    double loss = 0;
    int64_t steps;
    mbp_record record = {.size = sizeof record};
    const mbp_fit fit = {.size = sizeof fit, .epochs = 2, .batch_rows = 16, .validation = &d->batch};
    if (how == 0)
        OK(mbp_trainer_step(t, &d->batch, &loss, &error));
    else if (how == 1)
        OK(mbp_trainer_epoch(t, &d->batch, NULL, ROWS, 16, NULL, NULL, NULL, &loss, &steps, &error));
    else
        OK(mbp_trainer_fit(t, &d->batch, &fit, &record, &error));
    return how == 2 ? record.loss + 3 * record.val_loss : loss;
}

static void test_processes(const data *d, mbp_dtype dtype) {
    for (int how = 0; how < 3; how++) {
        mbp_net *net[2];
        mbp_trainer *t[2] = {gaps_trainer(dtype, &net[0]), gaps_trainer(dtype, &net[1])};
        OK(mbp_trainer_set_reduce(t[1], &twins, &error));
        const double alone = train(t[0], d, how), joined = train(t[1], d, how);
        CHECK(alone == joined && isfinite(alone), "%d: the loss is %.17g, and of two equal processes %.17g", how, alone,
              joined);
        CHECK(same_params(net[0], net[1]), "%d: two equal processes train otherwise than one", how);
        for (int i = 0; i < 2; i++)
            mbp_trainer_free(t[i]), mbp_net_free(net[i]);
    }
}

/* ---- totals ---- */

/* The totals of the batch: the sum over the rows of the mean of the weights. */
static void find_totals(const data *d, double totals[2]) {
    totals[0] = totals[1] = 0;
    for (int64_t r = 0; r < ROWS; r++) {
        const double weight = array_get(&d->weight, r, 0);
        double sum = 0;
        for (int64_t j = 0; j < WIDE; j++)
            sum += isnan(array_get(&d->y[0], r, j)) ? 0 : weight * array_get(&d->elements[0], r, j);
        totals[0] += sum / WIDE;
        totals[1] += *(int64_t *)array_element(&d->y[1], r, 0) < 0 ? 0 : weight * array_get(&d->elements[1], r, 0);
    }
}

static void test_totals(const data *d, mbp_dtype dtype) {
    mbp_net *net;
    mbp_trainer *t = gaps_trainer(dtype, &net);
    double whole, part, totals[2], both[2] = {NAN, NAN}, one[2];
    OK(mbp_trainer_backward(t, &d->batch, NULL, &whole, &error));
    for (int i = 0; i < 2; i++)
        OK(mbp_trainer_output_loss(t, i, &both[i], &error));
    CHECK(whole == both[0] + 0.5 * both[1], "the loss is %.17g, not %.17g", whole, both[0] + 0.5 * both[1]);
    find_totals(d, totals);
    totals[1] *= 4;
    OK(mbp_trainer_backward(t, &d->batch, HOW(.totals = totals), &part, &error));
    for (int i = 0; i < 2; i++)
        OK(mbp_trainer_output_loss(t, i, &one[i], &error));
    CHECK(fabs(one[0] - both[0]) < 1e-12 && fabs(4 * one[1] - both[1]) < 1e-12, "losses %.17g %.17g", one[0], one[1]);
    totals[0] = 0;
    refuse(mbp_trainer_backward(t, &d->batch, HOW(.totals = totals), &part, &error), &error, MBP_INVALID,
           "totals[0] is 0, but output 0 has targets in this part: set it to the sum of all its weights");
    totals[0] = 1, totals[1] = -1;
    refuse(mbp_trainer_backward(t, &d->batch, HOW(.totals = totals), &part, &error), &error, MBP_INVALID,
           "totals[1] must be the sum of all weights of output 1, finite and at least 2.3e-308, or 0");
    mbp_trainer_free(t), mbp_net_free(net);
}

/* Without weights of outputs, one divisor for each is that of all. */
static void test_totals_of_rows(const data *d, mbp_dtype dtype) {
    mbp_net *net = net_new(graph, OPTIONS(.dtype = dtype, .seed = 5));
    mbp_trainer *t[2];
    mbp_array y[2] = {d->x, d->x};
    y[0].cols = WIDE, y[1].cols = NARROW;
    const mbp_batch batch = {sizeof batch, &d->x, 1, y, 2, &d->weight, NULL, NULL, NULL};
    double loss[2];
    for (int i = 0; i < 2; i++) {
        t[i] = trainer_new(net, (const char *[]){"mse", "mae"}, NULL, "sgd");
        OK(mbp_trainer_backward(t[i], &batch, i ? HOW(.totals = (const double[]){77, 77}) : HOW(.total = 77), &loss[i],
                                &error));
    }
    CHECK(loss[0] == loss[1] && same_grads(net, t[0], t[1]), "totals of 77 give %.17g, a total of 77 %.17g", loss[1],
          loss[0]);
    mbp_trainer_free(t[0]), mbp_trainer_free(t[1]), mbp_net_free(net);
}

static void refuse_all(mbp_trainer *t, const mbp_batch *batch, const char *text) {
    double loss = 7;
    int64_t steps;
    const mbp_fit fit = {.size = sizeof fit, .epochs = 1};
    mbp_error *const e = &error;
    refuse(mbp_trainer_step(t, batch, &loss, e), e, MBP_INVALID, text);
    refuse(mbp_trainer_backward(t, batch, NULL, &loss, e), e, MBP_INVALID, text);
    refuse(mbp_trainer_evaluate(t, batch, &loss, e), e, MBP_INVALID, text);
    refuse(mbp_trainer_epoch(t, batch, NULL, ROWS, 16, NULL, NULL, NULL, &loss, &steps, e), e, MBP_INVALID, text);
    refuse(mbp_trainer_fit(t, batch, &fit, NULL, e), e, MBP_INVALID, text);
    refuse(mbp_trainer_measure(t, batch, 0, "mae", &loss, e), e, MBP_INVALID, text);
    CHECK(loss == 7 && mbp_trainer_steps(t) == 0, "a refused call changes something: %s", text);
}

static void test_refusals(data *d, mbp_dtype dtype) {
    mbp_net *net;
    mbp_trainer *t = gaps_trainer(dtype, &net);
    mbp_array elements[2] = {d->elements[0], d->elements[1]};
    mbp_batch batch = d->batch;
    batch.element_weights = elements;
    elements[0].cols = NARROW;
    refuse_all(t, &batch, "element_weights 0 has shape (150, 2), but (150, 3) is expected");
    elements[0] = d->elements[0], elements[1] = d->elements[0];
    refuse_all(t, &batch, "element_weights 1 has shape (150, 3), but (150, 1) is expected");
    elements[1] = d->elements[1], elements[1].rows = ROWS - 1;
    refuse_all(t, &batch, "element_weights 1 has shape (149, 1), but (150, 1) is expected");
    elements[1] = d->elements[1];
    int64_t there = 0;
    while (array_get(&d->weight, there, 0) == 0)
        there++;
    const double bad[] = {-1, NAN, INFINITY}, before = array_get(&d->elements[0], there, 1);
    for (int i = 0; i < 3; i++) {
        char text[100];
        array_set(&d->elements[0], there, 1, bad[i]);
        snprintf(text, sizeof text, "element_weights 0, row %d, column 1 is %s, but must be finite and at least 0",
                 (int)there,
                 i == 0   ? "-1"
                 : i == 1 ? "nan"
                          : "inf");
        refuse_all(t, &batch, text);
    }
    array_set(&d->elements[0], there, 1, 1.7e308);
    array_set(&d->y[0], there, 1, 1);
    refuse_all(t, &batch, "the weights of output 0 in a batch sum to inf, but the sum must be finite and above 0");
    array_set(&d->elements[0], there, 1, before);
    mbp_trainer_free(t), mbp_net_free(net);
}

/* The label -1 without missing=1, and a list of numbers `missing`. */
static void test_labels(const data *d, mbp_dtype dtype) {
    mbp_net *net = net_new(graph, OPTIONS(.dtype = dtype, .seed = 5));
    mbp_trainer *t = trainer_new(net, (const char *[]){"mse(missing=1)", "cross_entropy"}, NULL, "sgd");
    mbp_batch batch = d->batch;
    double loss;
    batch.element_weights = NULL, batch.weight = NULL;
    refuse(
        mbp_trainer_step(t, &batch, &loss, &error), &error, MBP_INVALID,
        "label -1 is not in 0 to 1, the classes of the output; if -1 means that the row has no label, set missing=1");
    mbp_trainer_free(t);
    t = NULL;
    refuse(mbp_trainer_create(&t, net, (const char *[]){"mae(missing=[1 1 1])", "mse"}, NULL, 2, "sgd", &error), &error,
           MBP_INVALID, "missing must be 0 or 1, not a list");
    mbp_net_free(net);
}

int main(void) {
    const mbp_dtype dtypes[] = {MBP_F32, MBP_F64};
    for (int i = 0; i < 2; i++) {
        data d;
        data_new(&d, dtypes[i]);
        test_processes(&d, dtypes[i]);
        test_totals(&d, dtypes[i]);
        test_totals_of_rows(&d, dtypes[i]);
        test_labels(&d, dtypes[i]);
        test_refusals(&d, dtypes[i]);
        data_free(&d);
    }
    return report("gaps");
}
