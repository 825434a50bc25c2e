/* The activations of outputs: how they are chosen, which losses are refused, how they are saved, and their effect on
 * predictions, also if an output is the operand of another output or has the same values. */
#include "api.h"

enum { STATES = 5 }; /* an output's activation: not chosen, or one of four */
static const char *const states[STATES] = {NULL, "identity", "sigmoid", "exp", "softmax"};

static int same_name(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }
static const char *shown(const char *name) { return name ? name : "nothing"; }

/* ---- choosing ---- */

#define GRAPH "input 2\ndense 0 units=4\noutput 1\n"

static mbp_net *net_with(const char *state) {
    mbp_net *net = net_new(GRAPH, NULL);
    OK(mbp_net_set_output(net, 0, state, &error));
    CHECK(same_name(mbp_net_output_activation(net, 0), state), "set %s, got %s", shown(state),
          shown(mbp_net_output_activation(net, 0)));
    return net;
}

/* Creates another trainer for the net. It is accepted if no activation is chosen for the output, or the one that the
 * loss implies; otherwise nothing changes. */
static void check_trainer(mbp_net *net, const char *loss, const char *implied) {
    char text[2][500];
    const char *before = mbp_net_output_activation(net, 0);
    const int fits = !before || !*implied || strcmp(before, implied) == 0;
    mbp_trainer *trainer = NULL;
    mbp_error error = {0};
    mbp_net_text(net, text[0], sizeof text[0]);
    const mbp_status status = mbp_trainer_create(&trainer, net, &loss, NULL, 1, "sgd", &error);
    mbp_net_text(net, text[1], sizeof text[1]);
    CHECK(status == (fits ? MBP_OK : MBP_INVALID) && !trainer == !fits, "%s with %s chosen: status %d, %s", shown(loss),
          shown(before), (int)status, error.text);
    if (fits)
        CHECK(same_name(mbp_net_output_activation(net, 0), *implied ? implied : before), "%s with %s chosen gives %s",
              shown(loss), shown(before), shown(mbp_net_output_activation(net, 0)));
    else {
        char advice[80];
        snprintf(advice, sizeof advice, "mbp_net_set_output(net, 0, \"%s\"", implied);
        CHECK(strstr(error.text, advice) && strstr(error.text, before) && strstr(error.text, loss), "%s", error.text);
        CHECK(strcmp(text[0], text[1]) == 0, "a refused trainer turns %s into %s", text[0], text[1]);
    }
    mbp_trainer_free(trainer);
}

static void test_losses(void) {
    for (int i = 0; mbp_formula_name(MBP_LOSS, i); i++)
        for (int s = 0; s < STATES; s++) {
            mbp_net *net = net_with(states[s]);
            const char *loss = mbp_formula_name(MBP_LOSS, i), *implied = mbp_formula_detail(MBP_LOSS, i);
            check_trainer(net, NULL, ""); /* a custom loss implies no activation */
            check_trainer(net, loss, implied);
            for (int k = 0; mbp_formula_name(MBP_LOSS, k); k++)
                check_trainer(net, mbp_formula_name(MBP_LOSS, k), mbp_formula_detail(MBP_LOSS, k));
            OK(mbp_net_set_output(net, 0, implied, &error)); /* as the error suggests */
            check_trainer(net, loss, implied);
            OK(mbp_net_set_output(net, 0, NULL, &error));
            check_trainer(net, loss, implied);
            mbp_net_free(net);
        }
}

/* A trainer that fails for another reason, or at a later output, does not choose an activation of an earlier output. */
static void test_all_or_nothing(void) {
    static const struct {
        const char *losses[2];
        double weight;
        const char *optimizer, *second;
    } bad[] = {
        {{"bce", "mse"}, 1, "sgd", "exp"},  {{"bce", "square"}, 1, "sgd", NULL},
        {{"bce", "mse"}, NAN, "sgd", NULL}, {{"bce", "mse"}, 1, "adamy", NULL},
        {{"bce", NULL}, NAN, "sgd", "exp"}, {{"bce", "poisson"}, 1, "sgd", "identity"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mbp_net *net = net_new("input 2\ndense 0 units=3\noutput 1\noutput 0\n", NULL);
        mbp_trainer *trainer = NULL;
        const double weights[2] = {1, bad[i].weight};
        OK(mbp_net_set_output(net, 1, bad[i].second, &error));
        CHECK(mbp_trainer_create(&trainer, net, bad[i].losses, weights, 2, bad[i].optimizer, NULL) == MBP_INVALID,
              "case %zu", i);
        CHECK(!trainer && !mbp_net_output_activation(net, 0) &&
                  same_name(mbp_net_output_activation(net, 1), bad[i].second),
              "case %zu: %s, %s", i, shown(mbp_net_output_activation(net, 0)),
              shown(mbp_net_output_activation(net, 1)));
        mbp_net_free(net);
    }
}

static void test_refused_names(void) {
    static const char *const bad[] = {"", "relu", "Softmax", "softmax ", "softmax()x", "link", "none"};
    for (int s = 0; s < STATES; s++) {
        mbp_net *net = net_with(states[s]);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
            CHECK(mbp_net_set_output(net, 0, bad[i], NULL) == MBP_INVALID &&
                      same_name(mbp_net_output_activation(net, 0), states[s]),
                  "\"%s\" turns %s into %s", bad[i], shown(states[s]), shown(mbp_net_output_activation(net, 0)));
        for (int k = -1; k < 3; k += 2)
            CHECK(mbp_net_set_output(net, k, "exp", NULL) == MBP_INVALID && !mbp_net_output_activation(net, k),
                  "output %d", k);
        mbp_net_free(net);
    }
}

/* ---- in texts and files ---- */

static void check_same_text(const mbp_net *net, mbp_net *other, const char *how) {
    char text[2][500];
    mbp_net_text(net, text[0], sizeof text[0]), mbp_net_text(other, text[1], sizeof text[1]);
    CHECK(strcmp(text[0], text[1]) == 0, "%s: %s becomes %s", how, text[0], text[1]);
    CHECK(same_name(mbp_net_output_activation(net, 0), mbp_net_output_activation(other, 0)), "%s: %s", how, text[1]);
    mbp_net_free(other);
}

static void test_texts(void) {
    for (int s = 0; s < STATES; s++) {
        mbp_net *net = net_with(states[s]), *read = NULL;
        char text[500], line[60], file[2000];
        size_t size = sizeof file;
        mbp_net_text(net, text, sizeof text);
        snprintf(line, sizeof line, "\noutput 1%s%s\n", states[s] ? " activation=" : "", states[s] ? states[s] : "");
        CHECK(strstr(text, line), "%s is not in %s", line, text);
        check_same_text(net, net_new(text, NULL), "text");
        OK(mbp_net_write(net, file, &size, &error));
        OK(mbp_net_read(&read, file, size, NULL, &error));
        check_same_text(net, read, "file");
        mbp_net_free(net);
    }
}

/* ---- predictions ---- */

/* Outputs that are operands of others, that have the same values as others (dropout and noise in inference), and that
 * are inputs. */
static const struct {
    const char *graph;
    int count, nodes[4];
} graphs[] = {
    {"input 3\ndense 0 units=3\n", 1, {1}},
    {"input 3\n", 1, {0}},
    {"input 3\ndense 0 units=4\ndropout 1\n", 2, {1, 2}},
    {"input 3\ndense 0 units=4\ndropout 1\n", 2, {2, 1}},
    {"input 3\ndense 0 units=4\ndropout 1\nnoise 2\n", 3, {2, 3, 1}},
    {"input 3\ndropout 0\n", 2, {1, 0}},
    {"input 3\nnoise 0\ndropout 1\ndense 2 units=2\n", 3, {2, 3, 1}},
    {"input 3\ndense 0 units=3\nactivation 1 tanh\ndense 2 units=3\nadd 1 3\n", 3, {1, 2, 4}},
    {"input 3\ndense 0 units=2\nconcat 1 1\nmultiply 2 2\n", 3, {1, 2, 3}},
    {"input 3\ndense 0 units=2\ndropout 1\nconcat 2 1 0\ndropout 3\n", 4, {4, 2, 1, 3}},
    {"input 3\ndense 0 layer=a units=3\ndense 1 layer=a\nadd 2 1\n", 3, {1, 2, 3}},
    {"input 3\ndense 0 units=3\nbatch_norm 1\nlayer_norm 2\n", 3, {1, 2, 3}},
    {"input 3\nscale 0 layer=s\nscale 1 layer=s\nscale 2 gain=0\n", 3, {2, 1, 3}},
    {"input 3\nlayer_norm 0\ndropout 1\nadd 2 0\n", 4, {1, 0, 2, 3}},
};
enum { GRAPHS = sizeof graphs / sizeof *graphs, OUTPUTS = 4, WIDEST = 8, ROWS = 300 };

static mbp_net *graph_net(int g, mbp_dtype dtype) {
    char text[300];
    int end = snprintf(text, sizeof text, "%s", graphs[g].graph);
    for (int i = 0; i < graphs[g].count; i++)
        end += snprintf(text + end, sizeof text - (size_t)end, "output %d\n", graphs[g].nodes[i]);
    return net_new(text, OPTIONS(.dtype = dtype, .seed = 2));
}

/* Applies an output activation by its definition, in a simple loop. */
static double activated(const char *activation, const mbp_array *raw, int64_t row, int64_t col) {
    const double z = array_get(raw, row, col);
    double sum = 0;
    if (same_name(activation, "sigmoid"))
        return 1 / (1 + exp(-z));
    if (same_name(activation, "exp"))
        return exp(z);
    if (!same_name(activation, "softmax"))
        return z;
    for (int64_t j = 0; j < raw->cols; j++)
        sum += exp(array_get(raw, row, j) - z);
    return 1 / sum;
}

static void check_output(int g, int i, const char *activation, const mbp_array *raw, const mbp_array *got,
                         const mbp_array *got_raw) {
    const double tolerance = raw->dtype == MBP_F64 ? 1e-14 : 1e-6;
    double worst = 0;
    int same = 1;
    for (int64_t r = 0; r < raw->rows; r++)
        for (int64_t j = 0; j < raw->cols; j++) {
            const double expected = activated(activation, raw, r, j);
            worst = fmax(worst, fabs(array_get(got, r, j) - expected) / fmax(1, fabs(expected)));
            same &= array_get(got_raw, r, j) == array_get(raw, r, j);
        }
    CHECK(worst <= tolerance, "%s with %s at output %d: wrong by %g", graphs[g].graph, shown(activation), i, worst);
    CHECK(same, "%s: output %d, raw", graphs[g].graph, i);
}

/* raw: the values of the output's node; otherwise its activation is applied once. */
static void check_activations(mbp_net *net, int g, const mbp_array *x, const mbp_array *node_values, int combination) {
    mbp_array out[2][OUTPUTS];
    const char *chosen[OUTPUTS];
    const int count = graphs[g].count;
    for (int i = 0; i < count; i++, combination /= STATES) {
        const int64_t cols = mbp_net_output_width(net, i), item = (int64_t)item_of(x->dtype);
        chosen[i] = states[combination % STATES];
        OK(mbp_net_set_output(net, i, chosen[i], &error));
        for (int raw = 0; raw < 2; raw++) {
            out[raw][i] = array_new(x->dtype, x->rows, cols + i % 2);
            out[raw][i].cols = cols;
            array_fill(&out[raw][i], -9, 9);
            CHECK(out[raw][i].col_stride == item, "columns");
        }
    }
    for (int raw = 0; raw < 2; raw++)
        OK(mbp_net_predict(net, x, 1, out[raw], count, raw, -1, &error));
    for (int i = 0; i < count; i++) {
        check_output(g, i, chosen[i], &node_values[i], &out[0][i], &out[1][i]);
        array_free(&out[0][i]), array_free(&out[1][i]);
    }
}

static void test_predictions(mbp_dtype dtype, int64_t rows) {
    for (int g = 0; g < GRAPHS; g++) {
        mbp_net *net = graph_net(g, dtype);
        mbp_array x = array_new(dtype, rows, 3), values[OUTPUTS];
        int combinations = 1;
        array_fill(&x, -2, 2);
        for (int i = 0; i < graphs[g].count; i++, combinations *= STATES) {
            values[i] = array_new(dtype, rows, mbp_net_output_width(net, i));
            OK(mbp_net_predict(net, &x, 1, &values[i], 1, 0, graphs[g].nodes[i], &error));
        }
        for (int c = 0; c < combinations; c += 1 + random_below(rows < ROWS && combinations < 200 ? 1 : 40))
            check_activations(net, g, &x, values, c);
        check_activations(net, g, &x, values, combinations - 1); /* softmax everywhere */
        for (int i = 0; i < graphs[g].count; i++)
            array_free(&values[i]);
        array_free(&x), mbp_net_free(net);
    }
}

int main(void) {
    test_losses();
    test_all_or_nothing();
    test_refused_names();
    test_texts();
    for (int dtype = MBP_F32; dtype <= MBP_F64; dtype++) {
        test_predictions((mbp_dtype)dtype, 1);
        test_predictions((mbp_dtype)dtype, 7);
        test_predictions((mbp_dtype)dtype, ROWS);
    }
    return report("outputs");
}
