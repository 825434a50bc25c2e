/* mbp_net_set_scale: predictions and measures in the unit of the targets, training on scaled ones. Python tests compare
 * training with that on targets that are scaled by hand: tests/training/engine/test_target_scale.py. */
#include "api.h"

static mbp_error error;

static const char GRAPH[] =
    "input 2\ndense 0 units=3 activation=tanh\ndense 1 units=2\ndense 1 units=1\noutput 2\noutput 3\n";
static const double mean[2] = {100, -1}, std[2] = {20, 0.5};

#define REFUSED(call, words) \
    do { \
        CHECK(call == MBP_INVALID && strstr(error.text, words), "%s", error.text); \
    } while (0)

enum { ROWS = 5 };
typedef struct data {
    double x[ROWS][2], y[ROWS][2], z[ROWS][1];
} data;

static data new_data(void) {
    data d;
    for (int r = 0; r < ROWS; r++) {
        d.x[r][0] = random_unit(), d.x[r][1] = random_unit(), d.z[r][0] = random_unit();
        d.y[r][0] = mean[0] + std[0] * random_unit(), d.y[r][1] = mean[1] + std[1] * random_unit();
    }
    return d;
}

static void predict(mbp_net *net, const data *d, int raw, double *y, double *z) {
    const mbp_array x = mbp_f64(&d->x[0][0], ROWS, 2), out[2] = {mbp_f64(y, ROWS, 2), mbp_f64(z, ROWS, 1)};
    OK(mbp_net_predict(net, &x, 1, out, 2, raw, -1, &error));
}

static void expect_scale(const mbp_net *net) {
    double m[2] = {0}, s[2] = {0};
    CHECK(mbp_net_scale(net, 0, m, s) && !memcmp(m, mean, sizeof m) && !memcmp(s, std, sizeof s), "mean %g, std %g",
          m[0], s[0]);
    CHECK(!mbp_net_scale(net, 1, NULL, NULL) && !mbp_net_scale(net, 2, m, s) && !mbp_net_scale(net, -1, m, s),
          "others have a scale");
}

static void test_net(void) {
    const data d = new_data();
    double raw[ROWS][2], y[ROWS][2], z[ROWS][1], raw_z[ROWS][1];
    mbp_net *net = net_new(GRAPH, OPTIONS(.dtype = MBP_F64)), *copy, *part;
    OK(mbp_net_set_scale(net, 0, mean, std, &error));
    const size_t bytes = mbp_net_bytes(net);
    REFUSED(mbp_net_set_scale(net, 0, mean, (double[]){1, -1}, &error), "std of column 1 is -1");
    REFUSED(mbp_net_set_scale(net, 0, (double[]){NAN, 1}, std, &error), "mean of column 0 is nan");
    REFUSED(mbp_net_set_scale(net, 2, mean, std, &error), "there is no output 2");
    OK(mbp_net_set_scale(net, 0, mean, std, &error));
    CHECK(mbp_net_bytes(net) == bytes, "it has %zu instead of %zu bytes", mbp_net_bytes(net), bytes);
    predict(net, &d, 1, &raw[0][0], &raw_z[0][0]);
    predict(net, &d, 0, &y[0][0], &z[0][0]);
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < 2; j++)
            CHECK(y[r][j] == raw[r][j] * std[j] + mean[j] && z[r][0] == raw_z[r][0], "row %d, column %d is %g", r, j,
                  y[r][j]);
    OK(mbp_net_copy(&copy, net, NULL, &error));
    OK(mbp_net_part(&part, net, (int[]){0}, 1, (int[]){2, 3}, 2, &error));
    expect_scale(copy), expect_scale(part);
    OK(mbp_net_set_output(net, 0, "identity", &error));
    CHECK(!mbp_net_scale(net, 0, NULL, NULL), "it still has a scale");
    expect_scale(copy), expect_scale(part);
    mbp_net_free(net), mbp_net_free(copy), mbp_net_free(part);
}

static void test_float32(void) {
    static const double large[2] = {1, 0x1p130}, small[2] = {1, 0x1p-130}, ones[2] = {1, 1};
    mbp_net *net = net_new(GRAPH, NULL);
    REFUSED(mbp_net_set_scale(net, 0, large, ones, &error), "mean of column 1 is 0x");
    REFUSED(mbp_net_set_scale(net, 0, ones, large, &error), "std of column 1 is 0x");
    REFUSED(mbp_net_set_scale(net, 0, ones, small, &error), "but must be finite and above 0 in float32");
    mbp_net_free(net);
}

static void test_training(void) {
    data d = new_data();
    double loss, by_hand, rmse, y[ROWS][2], z[ROWS][1], squares = 0;
    mbp_array x = mbp_f64(&d.x[0][0], ROWS, 2),
              targets[2] = {mbp_f64(&d.y[0][0], ROWS, 2), mbp_f64(&d.z[0][0], ROWS, 1)};
    mbp_batch batch = mbp_batch_of(&x, targets);
    batch.n_y = 2;
    mbp_net *net = net_new(GRAPH, OPTIONS(.dtype = MBP_F64)), *plain;
    OK(mbp_net_copy(&plain, net, NULL, &error));
    OK(mbp_net_set_scale(net, 0, mean, std, &error));
    mbp_trainer *none = NULL;
    REFUSED(mbp_trainer_create(&none, net, (const char *[]){"hinge", "mse"}, NULL, 2, "sgd", &error),
            "output 0 scales its targets, but the loss hinge needs values in {-1, 1}");
    mbp_trainer *t = trainer_new(net, (const char *[]){"mse", "mae"}, NULL, "adam(lr=0.01)"),
                *u = trainer_new(plain, (const char *[]){"mse", "mae"}, NULL, "adam(lr=0.01)");
    OK(mbp_trainer_step(t, &batch, &loss, &error));
    OK(mbp_trainer_measure(t, &batch, 0, "rmse", &rmse, &error));
    predict(net, &d, 0, &y[0][0], &z[0][0]);
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < 2; j++) {
            squares += (y[r][j] - d.y[r][j]) * (y[r][j] - d.y[r][j]);
            d.y[r][j] = (d.y[r][j] - mean[j]) / std[j];
        }
    CHECK(fabs(rmse - sqrt(squares / (2 * ROWS))) < 1e-12 * rmse, "rmse %.17g", rmse);
    OK(mbp_trainer_step(u, &batch, &by_hand, &error));
    int64_t count;
    const void *params = mbp_net_params(net, &count);
    CHECK(loss == by_hand && !memcmp(params, mbp_net_params(plain, NULL), (size_t)count * sizeof(double)),
          "loss %.17g and by hand %.17g", loss, by_hand);
    mbp_trainer_free(t), mbp_trainer_free(u), mbp_net_free(net), mbp_net_free(plain);
}

static void expect(const mbp_net *net, int i, int64_t n, const double *m, const double *s) {
    double found[2][4];
    CHECK(mbp_net_scale(net, i, found[0], found[1]), "output %d has no scale", i);
    for (int64_t j = 0; j < n; j++)
        CHECK(fabs(found[0][j] - m[j]) <= 1e-15 * fabs(m[j]) && fabs(found[1][j] - s[j]) <= 1e-15 * s[j],
              "output %d, column %d: mean %.17g, std %.17g", i, (int)j, found[0][j], found[1][j]);
}

/* Targets that are missing, elements and rows of weight 0, a constant column, two columns per target. */
static void test_fit(void) {
    enum { ROWS = 6 };
    static const double x[ROWS][2] = {{0, 1}, {1, 1}, {2, 0}, {0, 0}, {1, 0}, {9, 9}},
                        weight[ROWS] = {1, 2, 1, 1, 1, 0};
    static const double elements[ROWS][2] = {{1, 1}, {1, 1}, {1, 1}, {0, 1}, {1, 3}, {1, 1}};
    double y[ROWS][2] = {{1, 4}, {5, 4}, {NAN, 4}, {100, 4}, {3, 4}, {INFINITY, 9}}, z[ROWS] = {2, 4, 2, 4, 3, NAN};
    const mbp_array in = mbp_f64(&x[0][0], ROWS, 2), of_rows = mbp_f64(weight, ROWS, 1),
                    targets[2] = {mbp_f64(&y[0][0], ROWS, 2), mbp_f64(z, ROWS, 1)},
                    of_elements[2] = {mbp_f64(&elements[0][0], ROWS, 2), {0}};
    const char *const losses[] = {"mse(missing=1)", "gaussian_nll"};
    mbp_batch batch = mbp_batch_of(&in, targets);
    batch.n_y = 2, batch.weight = &of_rows, batch.element_weights = of_elements;
    mbp_fit how = {.size = sizeof how, .epochs = 2, .batch_rows = 2, .standardize_targets = 1};
    mbp_net *net = net_new("input 2\ndense 0 units=2\ndense 0 units=2\noutput 1\noutput 2\n",
                           OPTIONS(.dtype = MBP_F64)),
            *twin = NULL;
    OK(mbp_net_copy(&twin, net, NULL, &error));
    mbp_trainer *t = trainer_new(net, losses, NULL, "adam(lr=0.01)"),
                *u = trainer_new(twin, losses, NULL, "adam(lr=0.01)");
    const double first = y[0][0];
    y[0][0] = INFINITY;
    REFUSED(mbp_trainer_fit(t, &batch, &how, NULL, &error), "column 0 of the targets of output 0 contains values");
    y[0][0] = first, z[1] = NAN;
    REFUSED(mbp_trainer_fit(t, &batch, &how, NULL, &error), "column 0 of the targets of output 1 contains values");
    z[1] = 4;
    CHECK(!mbp_net_scale(net, 0, NULL, NULL) && !mbp_net_scale(net, 1, NULL, NULL), "a refused fit has set a scale");
    OK(mbp_trainer_fit(t, &batch, &how, NULL, &error));
    const double m[2][2] = {{3, 4}, {3, log(0.8)}}, s[2][2] = {{sqrt(8. / 3), 1}, {sqrt(0.8), 1}};
    expect(net, 0, 2, m[0], s[0]), expect(net, 1, 2, m[1], s[1]);
    for (int i = 0; i < 2; i++) {
        double mean[2], std[2];
        CHECK(mbp_net_scale(net, i, mean, std), "output %d has no scale", i);
        OK(mbp_net_set_scale(twin, i, mean, std, &error));
    }
    how.standardize_targets = 0;
    OK(mbp_trainer_fit(u, &batch, &how, NULL, &error));
    int64_t count;
    const void *params = mbp_net_params(net, &count);
    CHECK(!memcmp(params, mbp_net_params(twin, NULL), (size_t)count * sizeof(double)), "another training");
    how.standardize_targets = 1, y[0][0] = 7;
    OK(mbp_trainer_fit(t, &batch, &how, NULL, &error)); /* the outputs have their scales */
    expect(net, 0, 2, m[0], s[0]);
    mbp_trainer_free(t), mbp_trainer_free(u);
    OK(mbp_net_set_output(net, 0, NULL, &error));
    OK(mbp_net_set_output(net, 1, NULL, &error));
    t = trainer_new(net, (const char *[]){"mse", "poisson"}, NULL, "sgd");
    REFUSED(mbp_trainer_fit(t, &batch, &how, NULL, &error), "the loss poisson of output 1 needs values in [0,inf)");
    mbp_trainer_free(t);
    OK(mbp_net_set_output(net, 1, NULL, &error));
    t = trainer_new(net, (const char *[]){"mse", NULL}, NULL, "sgd");
    REFUSED(mbp_trainer_fit(t, &batch, &how, NULL, &error), "how.standardize_targets: output 1 has no loss");
    mbp_trainer_free(t);
    t = trainer_new(net, (const char *[]){"mse", "gaussian_nll"}, NULL, "sgd");
    OK(mbp_net_set_output(net, 0, "sigmoid", &error));
    REFUSED(mbp_trainer_fit(t, &batch, &how, NULL, &error), "output 0 has the activation sigmoid, but the loss mse");
    CHECK(!strcmp(mbp_net_output_activation(net, 0), "sigmoid"), "a refused fit has changed the activation");
    mbp_trainer_free(t), mbp_net_free(net), mbp_net_free(twin);
}

int main(void) {
    test_net();
    test_float32();
    test_training();
    test_fit();
    return report("scale");
}
