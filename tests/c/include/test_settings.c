/* Settings of layers, one by one and all at once; and the learning rate, which an epoch does not change. */
#include "api.h"

/* ---- layers ---- */

static const char all_kinds[] = "input 4\n"
                                "dense 0 layer=a units=5\n"
                                "batch_norm 1 layer=b\n"
                                "layer_norm 2 layer=c\n"
                                "dense 3 layer=d units=2\n"
                                "dense 2 layer=d\n"
                                "scale 5 layer=e\n"
                                "output 4\n"
                                "output 6\n";
static const char only_dense[] = "input 4\ndense 0 layer=a units=5\noutput 1\n";
static const char only_norms[] = "input 4\nlayer_norm 0 layer=c\noutput 1\n";
static const char no_layer[] = "input 4\nactivation 0 tanh\noutput 1\n";

static const struct {
    const char *name, *layers; /* the layers of all_kinds with this setting */
    double good, bad;
} settings[] = {
    {"lr", "abcde", 0.5, -1},    {"l1", "ad", 0.25, -1e-9},     {"l2", "ad", 0.125, INFINITY},
    {"max_norm", "ad", 3, -2},   {"eps", "bc", 1e-3, 0},        {"momentum", "b", 0.75, 1.5},
    {"lr", "abcde", 0, NAN},     {"eps", "bc", 0x1p-20, -1e-3}, {"max_norm", "ad", 0, INFINITY},
    {"bias_lr", "ad", 0.25, -1}, {"bias_lr", "ad", 0, NAN},
};
enum { SETTINGS = sizeof settings / sizeof *settings, ROOM = 1000 };

static int count_of(const char *text, const char *word) {
    int count = 0;
    for (const char *at = text; (at = strstr(at, word)); at++)
        count++;
    return count;
}

/* Setting all layers at once is the same as setting each layer that has the setting; and the text has it that often. */
static void test_all_layers(void) {
    static const char *const layers[] = {"a", "b", "c", "d", "e"};
    for (int i = 0; i < SETTINGS; i++) {
        mbp_net *all = net_new(all_kinds, NULL), *each = net_new(all_kinds, NULL);
        char text[2][ROOM], initial[ROOM], word[60];
        mbp_net_text(all, initial, ROOM);
        OK(mbp_net_set_layer(all, NULL, settings[i].name, settings[i].good, &error));
        for (int k = 0; k < 5; k++) {
            const int has = strchr(settings[i].layers, layers[k][0]) != NULL;
            const mbp_status status = mbp_net_set_layer(each, layers[k], settings[i].name, settings[i].good, NULL);
            CHECK(status == (has ? MBP_OK : MBP_INVALID), "%s of layer %s: status %d", settings[i].name, layers[k],
                  (int)status);
        }
        mbp_net_text(all, text[0], ROOM), mbp_net_text(each, text[1], ROOM);
        CHECK(strcmp(text[0], text[1]) == 0, "%s: all at once %s, one by one %s", settings[i].name, text[0], text[1]);
        snprintf(word, sizeof word, " %s=", settings[i].name);
        CHECK(count_of(text[0], word) == (int)strlen(settings[i].layers), "%s in %s", word, text[0]);
        CHECK(strcmp(text[0], initial) != 0 || settings[i].good == 0, "%s=%g is not in %s", settings[i].name,
              settings[i].good, text[0]);
        mbp_net *back = net_new(text[0], NULL);
        mbp_net_text(back, text[1], ROOM);
        CHECK(strcmp(text[0], text[1]) == 0, "%s becomes %s", text[0], text[1]);
        mbp_net_free(all), mbp_net_free(each), mbp_net_free(back);
    }
}

static void check_refused(mbp_net *net, const char *layer, const char *name, double value) {
    char text[2][ROOM];
    mbp_error error = {0};
    mbp_net_text(net, text[0], ROOM);
    const mbp_status status = mbp_net_set_layer(net, layer, name, value, &error);
    mbp_net_text(net, text[1], ROOM);
    CHECK(status == MBP_INVALID && error.status == MBP_INVALID && strstr(error.text, name), "%s=%g: status %d, %s",
          name, value, (int)status, error.text);
    CHECK(strcmp(text[0], text[1]) == 0, "%s=%g is refused, and %s becomes %s", name, value, text[0], text[1]);
}

static void test_refused_settings(void) {
    static const char *const unknown[] = {"",      "decay",  "epsilon", "LR",   "lr ",
                                          "units", "frozen", "bias",    "rate", "std"};
    mbp_net *kinds[] = {net_new(all_kinds, NULL), net_new(only_dense, NULL), net_new(only_norms, NULL),
                        net_new(no_layer, NULL)};
    for (int k = 0; k < 4; k++)
        for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
            check_refused(kinds[k], NULL, unknown[i], 0.5);
    for (int i = 0; i < SETTINGS; i++) {
        check_refused(kinds[0], NULL, settings[i].name, settings[i].bad);
        for (const char *layer = settings[i].layers; *layer; layer++)
            check_refused(kinds[0], (char[]){*layer, 0}, settings[i].name, settings[i].bad);
        if (!strchr(settings[i].layers, 'a')) /* no layer has it */
            check_refused(kinds[1], NULL, settings[i].name, settings[i].good);
        if (!strchr(settings[i].layers, 'c'))
            check_refused(kinds[2], NULL, settings[i].name, settings[i].good);
        check_refused(kinds[3], NULL, settings[i].name, settings[i].good);
    }
    for (int k = 0; k < 4; k++)
        mbp_net_free(kinds[k]);
}

/* A setting for all layers changes the next step. */
static void test_effect(void) {
    mbp_net *net = net_new(all_kinds, NULL);
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse", "mse"}, NULL, "sgd(lr=0.1)");
    mbp_array x = array_new(MBP_F32, 8, 4), y = array_new(MBP_F32, 8, 2);
    const mbp_array targets[2] = {y, y};
    const mbp_batch batch = {.size = sizeof batch, .x = &x, .n_x = 1, .y = targets, .n_y = 2};
    double loss;
    mbp_tensor t;
    array_fill(&x, -1, 1), array_fill(&y, -1, 1);
    OK(mbp_net_set_layer(net, NULL, "max_norm", 0.125, &error));
    OK(mbp_trainer_step(trainer, &batch, &loss, &error));
    for (int i = 0; mbp_net_tensor(net, i, &t); i++)
        for (int64_t j = 0; t.dims == 2 && j < t.out; j++) {
            double square = 0;
            for (int64_t k = 0; k < t.in; k++)
                square += pow(vector_at(net, mbp_net_params(net, NULL), t.offset + k * t.out + j), 2);
            CHECK(sqrt(square) < 0.125 * 1.00001, "unit %lld of layer %s has the norm %g", (long long)j, t.layer,
                  sqrt(square));
        }
    mbp_trainer_free(trainer), mbp_net_free(net);
    array_free(&x), array_free(&y);
}

/* ---- the learning rate ---- */

typedef struct stopper {
    mbp_trainer *trainer;
    int left;      /* polls until it cancels the epoch */
    double set_lr; /* the value to which it sets "lr"; 0: it does not set it */
    mbp_status set_status;
} stopper;

static int poll(void *user) {
    stopper *s = user;
    if (s->set_lr != 0)
        s->set_status = mbp_trainer_set(s->trainer, "lr", s->set_lr, NULL);
    return s->left-- <= 0;
}

static double lr_of(mbp_trainer *trainer) {
    double value = NAN;
    OK(mbp_trainer_get(trainer, "lr", &value, &error));
    return value;
}

enum { ROWS = 8, STEPS = 4 };

/* Epochs that succeed, that are cancelled at once and later, that are refused, and that fail with a loss that is not
 * finite. */
static void test_lr_stays(void) {
    static const double rates[STEPS] = {0.5, 0.25, 0.125, 0.0625}, bad_rates[STEPS] = {0.5, 0.25, -1, 0.1};
    for (int i = 0; mbp_formula_name(MBP_OPTIMIZER, i); i++)
        for (int way = 0; way < 7; way++) {
            mbp_net *net = net_new(dag, NULL);
            mbp_trainer *trainer = dag_trainer(net, mbp_formula_name(MBP_OPTIMIZER, i));
            problem *p = problem_new(MBP_F32, ROWS);
            stopper s = {trainer, way == 1 ? 0 : way == 2 ? 2 : 100, 0, MBP_OK};
            const double *lr = way == 3 ? bad_rates : way == 4 ? NULL : rates;
            const mbp_status expected = way == 1 || way == 2 ? MBP_CANCELLED
                                        : way == 3           ? MBP_INVALID
                                        : way == 5           ? MBP_NONFINITE
                                                             : MBP_OK;
            double loss;
            int64_t steps;
            OK(mbp_trainer_set(trainer, "lr", 0.0123, &error));
            if (way == 5)
                array_set(&p->x[0], 5, 0, NAN);
            const mbp_status status = mbp_trainer_epoch(trainer, &p->batch, NULL, ROWS, ROWS / STEPS, lr,
                                                        way == 6 ? NULL : poll, &s, &loss, &steps, NULL);
            CHECK(status == expected, "%s, way %d: status %d", mbp_formula_name(MBP_OPTIMIZER, i), way, (int)status);
            CHECK(lr_of(trainer) == 0.0123, "%s, way %d leaves lr=%g", mbp_formula_name(MBP_OPTIMIZER, i), way,
                  lr_of(trainer));
            mbp_trainer_free(trainer), mbp_net_free(net), problem_free(p);
        }
}

/* A poll that sets the rate is refused, or its rate remains. */
static void test_lr_of_a_poll(void) {
    static const double rates[STEPS] = {0.5, 0.25, 0.125, 0.0625};
    for (int with_rates = 0; with_rates < 2; with_rates++) {
        mbp_net *net = net_new(dag, NULL);
        mbp_trainer *trainer = dag_trainer(net, "sgd(lr=0.01)");
        problem *p = problem_new(MBP_F32, ROWS);
        stopper s = {trainer, 100, 0.04, MBP_OK};
        double loss;
        int64_t steps;
        OK(mbp_trainer_epoch(trainer, &p->batch, NULL, ROWS, ROWS / STEPS, with_rates ? rates : NULL, poll, &s, &loss,
                             &steps, &error));
        CHECK(lr_of(trainer) == (s.set_status == MBP_OK ? 0.04 : 0.01),
              "a poll sets lr=0.04, with status %d, but after the epoch%s it is %g", (int)s.set_status,
              with_rates ? " with rates of its own" : "", lr_of(trainer));
        mbp_trainer_free(trainer), mbp_net_free(net), problem_free(p);
    }
}

int main(void) {
    test_all_layers();
    test_refused_settings();
    test_effect();
    test_lr_stays();
    test_lr_of_a_poll();
    return report("settings");
}
