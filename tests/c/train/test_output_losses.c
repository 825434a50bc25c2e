/* mbp_trainer_output_loss: the losses of the outputs, times their weights, add up to the loss of the call; each is the
 * loss of a trainer that has this output's loss alone; a refused call leaves them; a callback of a fit can ask. */
#include "api.h"

enum { ROWS = 150, BATCH = 32 };

static double loss_of(const mbp_trainer *trainer, int i) {
    double value = -7;
    OK(mbp_trainer_output_loss(trainer, i, &value, &error));
    return value;
}

/* Whether the losses of the outputs add up to `loss`. */
static void check_sum(const mbp_trainer *trainer, double loss, const char *call) {
    double sum = 0;
    for (int i = 0; i < 2; i++)
        sum += dag_loss_weights[i] * loss_of(trainer, i);
    CHECK(fabs(sum - loss) <= 1e-14 * fabs(loss), "%s: %.17g instead of %.17g", call, sum, loss);
}

static void test_calls(mbp_dtype dtype) {
    mbp_net *net = net_new(dag, OPTIONS(.dtype = dtype, .seed = 3));
    mbp_trainer *trainer = dag_trainer(net, "adam");
    problem *p = problem_new(dtype, ROWS), part;
    double loss = 0, whole[2];
    int64_t steps;
    CHECK(isnan(loss_of(trainer, 0)) && isnan(loss_of(trainer, 1)), "before the first call");
    OK(mbp_trainer_backward(trainer, &p->batch, NULL, &loss, &error));
    check_sum(trainer, loss, "backward");
    whole[0] = loss_of(trainer, 0), whole[1] = loss_of(trainer, 1);
    double total = 0;
    for (int64_t r = 0; r < ROWS; r++)
        total += array_get(&p->weight, r, 0);
    for (int64_t r = 0; r < ROWS; r += BATCH) { /* the parts of a batch add up to it */
        problem_rows(p, r, r + BATCH < ROWS ? BATCH : ROWS - r, &part);
        OK(mbp_trainer_backward(trainer, &part.batch, HOW(.accumulate = r > 0, .total = total), &loss, &error));
        check_sum(trainer, loss, "backward of a part");
        whole[0] -= loss_of(trainer, 0), whole[1] -= loss_of(trainer, 1);
    }
    CHECK(fabs(whole[0]) < 1e-7 && fabs(whole[1]) < 1e-7, "the parts: %g and %g too much", -whole[0], -whole[1]);
    problem_rows(p, 0, 0, &part);
    OK(mbp_trainer_backward(trainer, &part.batch, HOW(.total = 1), &loss, &error));
    CHECK(loss_of(trainer, 0) == 0 && loss_of(trainer, 1) == 0, "a part without rows");
    OK(mbp_trainer_step(trainer, &p->batch, &loss, &error));
    check_sum(trainer, loss, "step");
    OK(mbp_trainer_epoch(trainer, &p->batch, NULL, ROWS, BATCH, NULL, NULL, NULL, &loss, &steps, &error));
    check_sum(trainer, loss, "epoch");
    OK(mbp_trainer_evaluate(trainer, &p->batch, &loss, &error));
    check_sum(trainer, loss, "evaluate");
    OK(mbp_trainer_reset(trainer, &error));
    CHECK(isnan(loss_of(trainer, 0)) && isnan(loss_of(trainer, 1)), "after a reset");
    problem_free(p), mbp_trainer_free(trainer), mbp_net_free(net);
}

/* Steps and evaluations of three equal trainers: both losses; the first alone; the second alone, with another
 * factor. */
static void test_alone(mbp_dtype dtype) {
    mbp_net *net = net_new(dag, OPTIONS(.dtype = dtype, .seed = 3));
    mbp_trainer *both = dag_trainer(net, "sgd(lr=0)");
    problem *p = problem_new(dtype, ROWS);
    for (int i = 0; i < 2; i++) {
        const double weights[] = {i ? 0 : 1, i ? 4 : 0};
        mbp_trainer *alone = trainer_new(net, dag_losses, weights, "sgd(lr=0)");
        double loss;
        OK(mbp_trainer_step(both, &p->batch, &loss, &error));
        OK(mbp_trainer_step(alone, &p->batch, &loss, &error));
        CHECK(loss_of(both, i) == loss_of(alone, i) && isnan(loss_of(alone, 1 - i)), "output %d of a step", i);
        CHECK(loss == weights[i] * loss_of(alone, i), "output %d: the factor", i);
        OK(mbp_trainer_evaluate(both, &p->batch, &loss, &error));
        OK(mbp_trainer_evaluate(alone, &p->batch, &loss, &error));
        CHECK(loss_of(both, i) == loss_of(alone, i) && isnan(loss_of(alone, 1 - i)), "output %d of evaluate", i);
        mbp_trainer_free(alone);
    }
    problem_free(p), mbp_trainer_free(both), mbp_net_free(net);
}

static void test_refused(mbp_dtype dtype) {
    mbp_net *net = net_new(dag, OPTIONS(.dtype = dtype, .seed = 3));
    mbp_trainer *trainer = dag_trainer(net, "adam");
    problem *p = problem_new(dtype, ROWS);
    mbp_error error = {0};
    double loss, value = -7;
    int64_t steps;
    OK(mbp_trainer_step(trainer, &p->batch, &loss, &error));
    array_set(&p->x[0], ROWS - 1, 0, NAN);
    CHECK(mbp_trainer_step(trainer, &p->batch, &loss, &error) == MBP_NONFINITE, "a step with NaN");
    CHECK(mbp_trainer_backward(trainer, &p->batch, NULL, &loss, &error) == MBP_NONFINITE, "a backward with NaN");
    CHECK(mbp_trainer_epoch(trainer, &p->batch, NULL, ROWS, BATCH, NULL, NULL, NULL, &loss, &steps, &error) ==
              MBP_NONFINITE,
          "an epoch with NaN");
    p->batch.n_y = 1;
    CHECK(mbp_trainer_evaluate(trainer, &p->batch, &loss, &error) == MBP_INVALID, "evaluate with one target");
    check_sum(trainer, loss, "after refused calls");
    for (int i = -1; i < 3; i += 3) {
        CHECK(mbp_trainer_output_loss(trainer, i, &value, &error) == MBP_INVALID && value == -7, "output %d", i);
        CHECK(strstr(error.text, "output") && strstr(error.text, i < 0 ? "-1" : "2"), "%s", error.text);
    }
    problem_free(p), mbp_trainer_free(trainer), mbp_net_free(net);
}

static int ask(const mbp_record *record, void *user) {
    check_sum(user, isnan(record->val_loss) ? record->loss : record->val_loss, "a callback");
    return 0;
}

static void test_fit(mbp_dtype dtype) {
    mbp_net *net = net_new(dag, OPTIONS(.dtype = dtype, .seed = 3));
    mbp_trainer *trainer = dag_trainer(net, "adam");
    problem *p = problem_new(dtype, ROWS), *tested = problem_new(dtype, 40);
    mbp_fit how = {.size = sizeof how, .epochs = 3, .callback = ask, .user = trainer};
    OK(mbp_trainer_fit(trainer, &p->batch, &how, NULL, &error));
    how.validation = &tested->batch;
    OK(mbp_trainer_fit(trainer, &p->batch, &how, NULL, &error));
    problem_free(p), problem_free(tested), mbp_trainer_free(trainer), mbp_net_free(net);
}

int main(void) {
    for (int dtype = MBP_F32; dtype <= MBP_F64; dtype++) {
        test_calls((mbp_dtype)dtype);
        test_alone((mbp_dtype)dtype);
        test_refused((mbp_dtype)dtype);
        test_fit((mbp_dtype)dtype);
    }
    return report("output losses");
}
