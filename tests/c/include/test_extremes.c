/* Extreme sizes, row numbers and labels; numbers and formulas as text; and the row that an error names. */
#include "api.h"

#include <float.h>

static mbp_error refusal;
static const char plain[] = "input 3\ndropout 0 rate=0.5\ndense 1 units=2\noutput 2\n";

typedef struct setting {
    mbp_net *net;
    mbp_trainer *trainer;
    float x[4][3], y[4][2];
    mbp_array inputs, targets;
    mbp_batch batch;
} setting;

static void start(setting *s, const char *graph, const char *loss) {
    *s = (setting){.net = net_new(graph, NULL)};
    for (int i = 0; i < 12; i++)
        (&s->x[0][0])[i] = 0.25f * (float)i;
    s->inputs = mbp_f32(&s->x[0][0], 4, 3), s->targets = mbp_f32(&s->y[0][0], 4, 2);
    s->batch = (mbp_batch){.size = sizeof s->batch, .x = &s->inputs, .n_x = 1, .y = &s->targets, .n_y = 1};
    OK(mbp_trainer_create(&s->trainer, s->net, (const char *[]){loss}, NULL, 1, "adam", &error));
}

static void end(setting *s) { mbp_trainer_free(s->trainer), mbp_net_free(s->net); }

static void test_first_row(void) {
    setting s;
    double loss;
    start(&s, plain, "mse");
    for (int i = 0; i < 8; i++) {
        const int64_t first = INT64_MAX - i;
        const mbp_status status = mbp_trainer_backward(s.trainer, &s.batch, HOW(.first_row = first), &loss, &refusal);
        CHECK(status == (i < 4 ? MBP_INVALID : MBP_OK), "first_row %lld: %d", (long long)first, (int)status);
        CHECK(i >= 4 || strstr(refusal.text, "with 4 rows, row numbers would exceed"), "%s", refusal.text);
    }
    end(&s);
}

static void test_total(void) {
    static const struct {
        double total;
        mbp_status status;
    } cases[] = {{0, MBP_OK},
                 {-0.0, MBP_OK},
                 {DBL_MIN, MBP_NONFINITE},
                 {DBL_MIN / 2, MBP_INVALID},
                 {5e-324, MBP_INVALID},
                 {-5e-324, MBP_INVALID},
                 {DBL_MAX, MBP_OK},
                 {INFINITY, MBP_INVALID},
                 {NAN, MBP_INVALID},
                 {-DBL_MAX, MBP_INVALID},
                 {8, MBP_OK}};
    setting s;
    double loss;
    start(&s, plain, "mse");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const mbp_status status = mbp_trainer_backward(s.trainer, &s.batch, HOW(.total = cases[i].total), &loss, NULL);
        CHECK(status == cases[i].status || (status == MBP_OK && cases[i].status == MBP_NONFINITE), "total %g: %d",
              cases[i].total, (int)status);
    }
    end(&s);
}

/* Arrays whose last row would be beyond all addresses. */
static void test_sizes(void) {
    static const int64_t rows[] = {3, 1 << 20, INT64_MAX}, strides[] = {INT64_MAX, INT64_MIN, INT64_MAX / 2 + 1};
    setting s;
    double loss;
    start(&s, plain, "mse");
    for (int i = 0; i < 9; i++) {
        mbp_array x = s.inputs;
        x.rows = rows[i / 3], x.row_stride = strides[i % 3];
        CHECK(mbp_net_predict(s.net, &x, 1, &s.targets, 1, 1, -1, &refusal) == MBP_INVALID &&
                  strstr(refusal.text, "do not fit in memory"),
              "%lld rows, %lld apart: %s", (long long)x.rows, (long long)x.row_stride, refusal.text);
    }
    mbp_array x = s.inputs, y = s.targets;
    x.rows = y.rows = INT64_MAX, x.row_stride = y.row_stride = 0, x.flags = y.flags = MBP_SHARED;
    mbp_batch batch = {.size = sizeof batch, .x = &x, .n_x = 1, .y = &y, .n_y = 1};
    CHECK(mbp_trainer_step(s.trainer, &batch, &loss, &refusal) == MBP_NO_MEMORY, "%s", refusal.text);
    int64_t steps;
    OK(mbp_trainer_epoch(s.trainer, &s.batch, NULL, 4, INT64_MAX, NULL, NULL, NULL, &loss, &steps, &error));
    CHECK(steps == 1, "%lld steps", (long long)steps);
    mbp_permutation(0, MBP_SHUFFLE, 0, -1, NULL);
    end(&s);
}

static void test_labels(void) {
    static const struct {
        uint64_t label;
        mbp_dtype dtype;
        const char *text;
    } cases[] = {{UINT64_MAX, MBP_U64, "label 18446744073709551615 is not in 0 to 1"},
                 {(uint64_t)1 << 63, MBP_U64, "label 9223372036854775808 is not"},
                 {(uint64_t)1 << 63, MBP_I64, "label -9223372036854775808 is not"},
                 {UINT64_MAX, MBP_I64, "label -1 is not"},
                 {2, MBP_U64, "label 2 is not"}};
    setting s;
    double loss;
    start(&s, plain, "cross_entropy");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t labels[4] = {0, 1, 0, cases[i].label};
        s.targets = (mbp_array){
            .data = labels, .dtype = cases[i].dtype, .rows = 4, .cols = 1, .row_stride = 8, .col_stride = 8};
        CHECK(mbp_trainer_step(s.trainer, &s.batch, &loss, &refusal) == MBP_INVALID &&
                  strstr(refusal.text, cases[i].text) && refusal.row == 3,
              "%s, row %lld", refusal.text, (long long)refusal.row);
    }
    end(&s);
}

/* A value that is not finite: the error has its row, also with batch_norm and in an epoch in another order. */
static void test_rows_at_fault(void) {
    static const char *const graphs[] = {"input 3\ndense 0 units=2\noutput 1\n",
                                         "input 3\nbatch_norm 0\ndense 1 units=2\noutput 2\n"};
    static const int64_t order[4] = {3, 2, 1, 0};
    for (int i = 0; i < 12; i++) {
        setting s;
        double loss;
        int64_t steps;
        const int in_x = i / 2 % 2, row = 1 + i / 4;
        start(&s, graphs[i % 2], "mse");
        *(in_x ? &s.x[row][2] : &s.y[row][1]) = i % 3 ? NAN : INFINITY;
        for (int way = 0; way < 3; way++) {
            const mbp_status status = way == 0   ? mbp_trainer_step(s.trainer, &s.batch, &loss, &refusal)
                                      : way == 1 ? mbp_trainer_backward(s.trainer, &s.batch, NULL, &loss, &refusal)
                                                 : mbp_trainer_epoch(s.trainer, &s.batch, order, 4, 2, NULL, NULL, NULL,
                                                                     &loss, &steps, &refusal);
            CHECK(status == MBP_NONFINITE && refusal.row == row, "case %d, way %d: status %d, row %lld", i, way,
                  (int)status, (long long)refusal.row);
        }
        end(&s);
    }
    setting s;
    double loss, weights[4] = {1, 1, NAN, 1};
    const mbp_array weight = mbp_f64(weights, 4, 1);
    start(&s, plain, "mse");
    s.batch.weight = &weight;
    CHECK(mbp_trainer_step(s.trainer, &s.batch, &loss, &refusal) == MBP_INVALID && refusal.row == 2, "weight: row %lld",
          (long long)refusal.row);
    end(&s);
}

/* Numbers are the nearest doubles, in the notations of other programs too. */
static void test_numbers(void) {
    static const struct {
        const char *text;
        double value;
    } cases[] = {{"1e-30", 1e-30},
                 {"1E-3", 1e-3},
                 {"1e+22", 1e22},
                 {"1e23", 1e23},
                 {"9007199254740993e0", 0}, /* 16 digits */
                 {"123456789012345e-330", 123456789012345e-330},
                 {"5e-324", 5e-324},
                 {"2e-324", 0},
                 {"3e-324", 5e-324},
                 {"1.7976931348623e308", 1.7976931348623e308},
                 {"2.2250738585072e-308", 2.2250738585072e-308},
                 {"123456789012345e295", INFINITY},
                 {"1e-99999", 0},
                 {"1e-000000000030", 1e-30},
                 {"0x1P-3", 0.125},
                 {"0X.8p1", 1},
                 {"0x1.0000000000001p-1074", 5e-324},
                 {"0x1.8p-1074", 1e-323},
                 {"6.6e-30", 6.6e-30},
                 {"8.5e-50", 8.5e-50},
                 {"999999999999999e100", 999999999999999e100}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mbp_trainer *trainer = NULL;
        mbp_net *net = net_new("input 1\ndense 0 units=1\noutput 1\n", NULL);
        char spec[80];
        double value = -1;
        snprintf(spec, sizeof spec, " \tsgd ( lr = %s , ) ", cases[i].text);
        const mbp_status status = mbp_trainer_create(&trainer, net, (const char *[]){" mse "}, NULL, 1, spec, &refusal);
        const int is_refused = isinf(cases[i].value) || strlen(cases[i].text) == 18;
        CHECK((status == MBP_OK) == !is_refused, "%s: %s", spec, refusal.text);
        if (status == MBP_OK)
            OK(mbp_trainer_get(trainer, "lr", &value, &error));
        CHECK(is_refused || memcmp(&value, &cases[i].value, sizeof value) == 0, "%s is read as %.17g", cases[i].text,
              value);
        mbp_trainer_free(trainer), mbp_net_free(net);
    }
}

/* Blanks between parentheses in graph text; the canonical text has none. */
static void test_blanks(void) {
    char text[2][600];
    mbp_net *blank = net_new(
        "input 2\ndense 0 units=2 activation=leaky_relu( slope = 2E-1 ) init=normal(std= 1e-1) l2=1\n"
        "activation 1 elu(\talpha=1 )\noutput 2\n",
        NULL);
    mbp_net *none = net_new("input 2\ndense 0 units=2 activation=leaky_relu(slope=0.2) init=normal(std=0.1) l2=1\n"
                            "activation 1 elu(alpha=1)\noutput 2\n",
                            NULL);
    mbp_net_text(blank, text[0], 600), mbp_net_text(none, text[1], 600);
    CHECK(strcmp(text[0], text[1]) == 0, "%s and %s", text[0], text[1]);
    mbp_net_free(blank), mbp_net_free(none);
}

int main(void) {
    test_first_row();
    test_total();
    test_sizes();
    test_labels();
    test_rows_at_fault();
    test_numbers();
    test_blanks();
    return report("extremes");
}
