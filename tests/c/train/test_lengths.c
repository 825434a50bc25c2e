/* Sequences of different length. The values are compared with nets of each length, and with Python's reference, in
 * tests/network/positions; here are all calls that take lengths, and what they refuse. */
#include "api.h"

enum { ROWS = 70, LENGTH = 12, WIDTH = 2, OUT = 3, PLACES = 6 };

static mbp_error error;

static const char graph[] = "input 24\ngrid 0 height=1 width=12\n"
                            "window 1 size=1x3 stride=1x2 pad=0x1 dilation=1x1\n"
                            "dense 2 layer=a units=5 activation=tanh\nbatch_norm 3 layer=n\ndense 4 layer=b units=3\n"
                            "last 3\ndense 6 layer=c units=2\noutput 5\noutput 7\n";

typedef struct data {
    mbp_array x, y[2], lengths;
    mbp_batch batch;
} data;

static void data_new(data *d, mbp_dtype dtype) {
    d->x = array_new(dtype, ROWS, LENGTH * WIDTH);
    d->y[0] = array_new(dtype, ROWS, PLACES * OUT);
    d->y[1] = array_new(dtype, ROWS, 2);
    d->lengths = array_new(MBP_I64, ROWS, 1);
    array_fill(&d->x, -1, 1), array_fill(&d->y[0], -1, 1), array_fill(&d->y[1], -1, 1);
    for (int64_t r = 0; r < ROWS; r++) {
        const int64_t length = random_below(LENGTH + 1);
        array_set(&d->lengths, r, 0, (double)length);
        for (int64_t j = length * WIDTH; j < LENGTH * WIDTH; j++)
            array_set(&d->x, r, j, NAN);
    }
    d->batch = (mbp_batch){sizeof d->batch, &d->x, 1, d->y, 2, NULL, NULL, &d->lengths};
}

static void data_free(data *d) {
    array_free(&d->x), array_free(&d->y[0]), array_free(&d->y[1]), array_free(&d->lengths);
}

static mbp_trainer *new_trainer(mbp_dtype dtype, mbp_net **net) {
    *net = net_new(graph, OPTIONS(.dtype = dtype, .seed = 5));
    return trainer_new(*net, (const char *[]){"mse", "mse"}, NULL, "adam(lr=0.01)");
}

/* Values beyond the lengths may be any. */
static void test_padding(data *d, mbp_dtype dtype) {
    mbp_net *net[2];
    double loss[2], found[2], measured[2];
    const mbp_fit fit = {.size = sizeof fit, .epochs = 2, .batch_rows = 16, .validation = &d->batch};
    for (int i = 0; i < 2; i++) {
        mbp_trainer *t = new_trainer(dtype, &net[i]);
        OK(mbp_trainer_fit(t, &d->batch, &fit, NULL, &error));
        OK(mbp_trainer_step(t, &d->batch, &loss[i], &error));
        OK(mbp_trainer_evaluate(t, &d->batch, &found[i], &error));
        OK(mbp_trainer_measure(t, &d->batch, 0, "mae", &measured[i], &error));
        mbp_trainer_free(t);
        for (int64_t r = 0; r < ROWS; r++)
            for (int64_t j = 0; j < LENGTH * WIDTH; j++)
                if (isnan(array_get(&d->x, r, j)))
                    array_set(&d->x, r, j, 77);
    }
    CHECK(loss[0] == loss[1] && found[0] == found[1] && measured[0] == measured[1] && isfinite(loss[0]) &&
              isfinite(measured[0]),
          "losses %.17g and %.17g, %.17g and %.17g, mae %.17g and %.17g", loss[0], loss[1], found[0], found[1],
          measured[0], measured[1]);
    CHECK(memcmp(mbp_net_params(net[0], NULL), mbp_net_params(net[1], NULL), vector_bytes(net[0])) == 0,
          "values beyond the lengths change the parameters");
    mbp_net_free(net[0]), mbp_net_free(net[1]);
}

/* Predictions beyond the lengths are 0, those of slices and of one row are the same, and later calls have no lengths. */
static void test_predictions(const data *d, mbp_dtype dtype) {
    mbp_net *net = net_new(graph, OPTIONS(.dtype = dtype, .seed = 5));
    const mbp_array out[2] = {array_new(dtype, ROWS, PLACES * OUT), array_new(dtype, ROWS, 2)};
    const mbp_array one[2] = {array_new(dtype, 1, PLACES * OUT), array_new(dtype, 1, 2)};
    OK(mbp_net_set_output(net, 0, "sigmoid", &error));
    const mbp_prediction how = {.size = sizeof how, .lengths = &d->lengths};
    OK(mbp_net_predict_with(net, &d->x, 1, out, 2, &how, &error));
    for (int64_t r = 0; r < ROWS; r++) {
        const int64_t length = *(int64_t *)array_element(&d->lengths, r, 0);
        const mbp_array x = array_rows(&d->x, r, 1), lengths = array_rows(&d->lengths, r, 1);
        OK(mbp_net_predict_with(net, &x, 1, one, 2, &(mbp_prediction){.size = sizeof how, .lengths = &lengths},
                                &error));
        for (int64_t j = 0; j < PLACES * OUT; j++) {
            const double value = array_get(&out[0], r, j);
            CHECK((value != 0) == (j / OUT < (length + 1) / 2), "row %d of length %d: column %d is %g", (int)r,
                  (int)length, (int)j, value);
            CHECK(value == array_get(&one[0], 0, j), "row %d, column %d: %g alone, %g among others", (int)r, (int)j,
                  array_get(&one[0], 0, j), value);
        }
    }
    OK(mbp_net_predict_with(net, &d->x, 1, out, 2, NULL, &error));
    CHECK(array_get(&out[0], 0, PLACES * OUT - 1) != 0, "a call without lengths has some");
    for (int i = 0; i < 2; i++)
        array_free(&out[i]), array_free(&one[i]);
    mbp_net_free(net);
}

static void refuse_all(mbp_net *net, mbp_trainer *t, const mbp_batch *batch, const char *text) {
    double loss = 7;
    const mbp_array out[2] = {array_new(mbp_net_dtype(net), ROWS, PLACES * OUT),
                              array_new(mbp_net_dtype(net), ROWS, 2)};
    const mbp_status got[] = {mbp_trainer_step(t, batch, &loss, &error), mbp_trainer_evaluate(t, batch, &loss, &error),
                              mbp_net_predict_with(net, batch->x, 1, out, 2,
                                                   &(mbp_prediction){sizeof(mbp_prediction), .lengths = batch->lengths},
                                                   &error)};
    for (int i = 0; i < 3; i++)
        CHECK(got[i] == MBP_INVALID, "call %d: status %d", i, (int)got[i]);
    CHECK(strstr(error.text, text) && loss == 7 && mbp_trainer_steps(t) == 0, "%s instead of %s", error.text, text);
    array_free(&out[0]), array_free(&out[1]);
}

static void test_refusals(data *d, mbp_dtype dtype) {
    mbp_net *net;
    mbp_trainer *t = new_trainer(dtype, &net);
    const int64_t before = *(int64_t *)array_element(&d->lengths, 7, 0);
    array_set(&d->lengths, 7, 0, LENGTH + 1);
    refuse_all(net, t, &d->batch, "lengths 0, row 7: the length is 13, but must be from 0 to 12");
    array_set(&d->lengths, 7, 0, -1);
    refuse_all(net, t, &d->batch, "lengths 0, row 7: the length is -1, but must be from 0 to 12");
    array_set(&d->lengths, 7, 0, (double)before);
    mbp_array other = array_rows(&d->lengths, 0, ROWS - 1);
    mbp_batch batch = d->batch;
    batch.lengths = &other;
    refuse_all(net, t, &batch, "lengths 0 has shape (69, 1), but (70, 1) is expected");
    other = d->y[1], other.cols = 1;
    refuse_all(net, t, &batch, "lengths 0 must be of an integer dtype");
    mbp_trainer_free(t), mbp_net_free(net);
}

static void test_graphs(const data *d) {
    static const char *const text[][2] = {
        {"input 24\ndense 0 layer=a units=3\noutput 1\n", "lengths 0: input 0 is not a sequence"},
        {"input 24\ngrid 0 height=2 width=6\noutput 1\n", "makes 2 x 6 positions of input 0, but only a sequence has"},
        {"input 24\ngrid 0 height=1 width=12\ngrid 0 height=1 width=6\nlast 1\nlast 2\noutput 3\noutput 4\n",
         "node 2 (grid) makes 1 x 6 positions of input 0"},
        {"input 24\ngrid 0 height=1 width=12\ngrid 1 height=3 width=4\noutput 2\n",
         "node 2 (grid) makes other positions of several"},
        {"input 24\ngrid 0 height=1 width=12\nwindow 1 size=1x2 stride=1x1 pad=1x0 dilation=1x1\noutput 2\n",
         "node 2 (window) makes a grid of a sequence"}};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        mbp_net *net = net_new(text[i][0], OPTIONS(.dtype = d->x.dtype));
        mbp_array out[2];
        for (int k = 0; k < mbp_net_outputs(net); k++)
            out[k] = array_new(d->x.dtype, ROWS, mbp_net_output_width(net, k));
        const mbp_status got = mbp_net_predict_with(net, &d->x, 1, out, mbp_net_outputs(net),
                                                    &(mbp_prediction){sizeof(mbp_prediction), .lengths = &d->lengths},
                                                    &error);
        CHECK(got == MBP_INVALID && strstr(error.text, text[i][1]), "status %d, %s", (int)got, error.text);
        for (int k = 0; k < mbp_net_outputs(net); k++)
            array_free(&out[k]);
        mbp_net_free(net);
    }
}

int main(void) {
    for (int i = 0; i < 2; i++) {
        data d;
        const mbp_dtype dtype = i ? MBP_F64 : MBP_F32;
        data_new(&d, dtype);
        test_predictions(&d, dtype);
        test_refusals(&d, dtype);
        test_graphs(&d);
        test_padding(&d, dtype);
        data_free(&d);
    }
    return report("lengths");
}
