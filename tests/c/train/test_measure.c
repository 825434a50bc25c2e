/* mbp_trainer_measure: values that can be computed by hand; more of them are compared with Python's in
 * tests/training/loop/test_fit_in_c.py. A refused call changes nothing. */
#include "api.h"

/* A network that gives its input. */
static mbp_trainer *through(int64_t width, mbp_dtype dtype, const mbp_allocator *allocator, const char *loss,
                            mbp_net **net) {
    char text[60];
    snprintf(text, sizeof text, "input %d\nactivation 0 identity\noutput 1\n", (int)width);
    *net = net_new(text, OPTIONS(.dtype = dtype, .allocator = allocator));
    return trainer_new(*net, (const char *[]){loss}, NULL, "sgd");
}

typedef struct expected {
    const char *loss, *name;
    double value;
} expected;

static void check_values(mbp_dtype dtype, const mbp_array *x, const mbp_array *y, const mbp_array *weight,
                         const expected *all, int count) {
    for (int i = 0; i < count; i++) {
        mbp_net *net;
        mbp_trainer *trainer = through(x->cols, dtype, NULL, all[i].loss, &net);
        mbp_batch batch = mbp_batch_of(x, y);
        double value = -7;
        batch.weight = weight;
        OK(mbp_trainer_measure(trainer, &batch, 0, all[i].name, &value, &error));
        CHECK(fabs(value - all[i].value) < 1e-15, "%s, %s: %.17g instead of %.17g", all[i].loss, all[i].name, value,
              all[i].value);
        mbp_trainer_free(trainer), mbp_net_free(net);
    }
}

static void test_values(mbp_dtype dtype) {
    /* The second row of each is not there; the last one has no label and no number. */
    static const float numbers[] = {1, NAN, 2, 4}, wanted[] = {2, 7, 2, 1};
    static const float signs[] = {0.5f, NAN, -1, NAN}, signed_wanted[] = {1, 0, 1, 1};
    static const float classes[] = {1, 0, 2, NAN, 5, 5, 3, 1, 2, 4, NAN, 9};
    static const int64_t labels[] = {2, -5, 1, 1};
    static const double weights[] = {1, 0, 2, 1};
    const mbp_array w = mbp_f64(weights, 4, 1), x = mbp_f32(numbers, 4, 1), y = mbp_f32(wanted, 4, 1),
                    s = mbp_f32(signs, 4, 1), st = mbp_f32(signed_wanted, 4, 1), c = mbp_f32(classes, 4, 3),
                    l = mbp_labels(labels, 4);
    /* errors -1, 0, 3 with the weights 1, 2, 1; the targets' mean is 7/4, their sum of squares around it 3/4 */
    check_values(dtype, &x, &y, &w,
                 (expected[]){{"mse", "mae", 1},
                              {"mse", "rmse", sqrt(2.5)},
                              {"mse", "r2", 1 - 10 / 0.75},
                              {"mse", "pinball", 0.5},
                              {"quantile(q=0.75)", "pinball", (0.75 + 0.75) / 4}},
                 5);
    /* right, wrong, no label */
    check_values(dtype, &s, &st, &w,
                 (expected[]){{"hinge", "accuracy", 0.25},
                              {"hinge", "subset_accuracy", 0.25},
                              {"hinge", "balanced_accuracy", 0.25},
                              {"hinge", "f1", 2. / 5},
                              {"bce", "accuracy", 0.25}},
                 5);
    /* decided 2 (right), 0 (wrong), none */
    check_values(dtype, &c, &l, &w,
                 (expected[]){{"cross_entropy", "accuracy", 0.25},
                              {"cross_entropy", "balanced_accuracy", 0.5},
                              {"cross_entropy", "f1", 1. / 3}},
                 3);
}

static void test_refusals(void) {
    mbp_net *net = net_new(dag, NULL);
    mbp_trainer *trainer = trainer_new(net, dag_losses, (double[]){1, 0}, "sgd");
    problem *p = problem_new(MBP_F32, 40);
    mbp_array output;
    mbp_error error;
    double value = 5;
    OK(mbp_trainer_forward(trainer, p->x, 2, &error));
#define REFUSED(i, name, words) \
    CHECK(mbp_trainer_measure(trainer, &p->batch, i, name, &value, &error) == MBP_INVALID && \
              strstr(error.text, words) && value == 5, \
          "%s", error.text)
    REFUSED(-1, "mae", "output -1");
    REFUSED(2, "mae", "output 2");
    REFUSED(0, "accuracy", "the loss mse has no measure \"accuracy\"; valid: rmse, mae, r2, pinball");
    REFUSED(1, "mae", "output 1 has the loss weight 0, so its targets are not read");
    array_set(&p->weight, 9, 0, NAN);
    REFUSED(0, "mae", "the weight of row 9");
    OK(mbp_trainer_output(trainer, 0, &output, &error)); /* the values of the forward pass are still there */
    mbp_trainer_free(trainer), mbp_net_free(net), problem_free(p);
}

static void test_memory(void) {
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_net *net;
    mbp_trainer *trainer = through(3, MBP_F32, &allocator, "mse", &net);
    mbp_array x = array_new(MBP_F32, 9, 3);
    const mbp_batch batch = mbp_batch_of(&x, &x);
    mbp_status status = MBP_NO_MEMORY;
    for (long n = 1; status != MBP_OK && n < 9; n++) {
        mbp_error error;
        double value;
        c.fail_at = c.calls + n;
        status = mbp_trainer_measure(trainer, &batch, 0, "r2", &value, &error);
        CHECK(status == MBP_OK ? n > 1 : status == MBP_NO_MEMORY, "allocation %ld: status %d", n, (int)status);
    }
    CHECK(status == MBP_OK, "no call succeeds");
    mbp_trainer_free(trainer), mbp_net_free(net), array_free(&x);
    CHECK(c.live == 0, "%zu bytes are left", c.live);
}

int main(void) {
    test_values(MBP_F32), test_values(MBP_F64);
    test_refusals();
    test_memory();
    return report("measure");
}
