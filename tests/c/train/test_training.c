/* Training through the public functions: the loss decreases, and different ways to the same step or gradient give the
 * same bits. */
#include "api.h"

static const mbp_dtype dtypes[] = {MBP_F32, MBP_F64};

static void test_loss_decreases(mbp_dtype dtype) {
    mbp_net *net = net_new(dag, OPTIONS(.dtype = dtype, .seed = 1));
    mbp_trainer *trainer = dag_trainer(net, "adam(lr=0.03)");
    problem *p = problem_new(dtype, 40);
    double first, loss, evaluated;
    OK(mbp_trainer_evaluate(trainer, &p->batch, &first, &error));
    for (int i = 0; i < 400; i++)
        OK(mbp_trainer_step(trainer, &p->batch, &loss, &error));
    OK(mbp_trainer_evaluate(trainer, &p->batch, &evaluated, &error));
    CHECK(evaluated < first / 3 && evaluated <= loss * 1.5, "400 steps reduce the loss from %g only to %g", first,
          evaluated);
    CHECK(mbp_trainer_steps(trainer) == 400, "%lld steps", (long long)mbp_trainer_steps(trainer));

    /* the definition of the loss, from predictions */
    double sum = 0, weights = 0;
    OK(mbp_net_predict(net, p->x, 2, p->out, 2, 1, -1, &error));
    for (int64_t r = 0; r < 40; r++) {
        const double d0 = array_get(&p->out[0], r, 0) - array_get(&p->y[0], r, 0),
                     d1 = array_get(&p->out[0], r, 1) - array_get(&p->y[0], r, 1);
        const double d = fabs(array_get(&p->out[1], r, 0) - array_get(&p->y[1], r, 0)), w = array_get(&p->weight, r, 0);
        sum += w * ((d0 * d0 + d1 * d1) / 2 + 0.5 * (d < 0.5 ? d * d / 2 : 0.5 * (d - 0.25)));
        weights += w;
    }
    CHECK(fabs(sum / weights - evaluated) < 1e-5 * evaluated + 1e-9, "evaluate returns %g, but the predictions give %g",
          evaluated, sum / weights);
    mbp_trainer_free(trainer), mbp_net_free(net), problem_free(p);
}

/* A step is the same as backward and apply. */
static void check_step_parts(const mbp_options *options, const char *optimizer) {
    mbp_net *a = net_new(dag, options), *b = net_new(dag, options);
    mbp_trainer *ta = dag_trainer(a, optimizer), *tb = dag_trainer(b, optimizer);
    problem *p = problem_new(options->dtype, 9);
    for (int i = 0; i < 20; i++) {
        double loss_a, loss_b;
        OK(mbp_trainer_step(ta, &p->batch, &loss_a, &error));
        OK(mbp_trainer_backward(tb, &p->batch, NULL, &loss_b, &error));
        OK(mbp_trainer_apply(tb, &error));
        CHECK(loss_a == loss_b && same_grads(a, ta, tb) && same_params(a, b) && same_state(a, ta, tb),
              "%s %s: step %d is not backward + apply", mbp_net_isa(a), optimizer, i);
    }
    mbp_trainer_free(ta), mbp_trainer_free(tb), mbp_net_free(a), mbp_net_free(b), problem_free(p);
}

static void test_step_parts(mbp_dtype dtype) {
    for (int isa = 0; mbp_isa_name(isa); isa++)
        for (int i = 0; mbp_isa_runs(isa) && mbp_formula_name(MBP_OPTIMIZER, i); i++)
            check_step_parts(OPTIONS(.dtype = dtype, .isa = mbp_isa_name(isa)), mbp_formula_name(MBP_OPTIMIZER, i));
    check_step_parts(OPTIONS(.dtype = dtype), "adam(lr=0.01,weight_decay=0.1,decay_bias=1)");
}

static int count_down(void *user) { return --*(int *)user < 0; }

/* An epoch is the same as its steps on the same rows, with the same rates. */
static void test_epoch(mbp_dtype dtype) {
    enum { ROWS = 30, N = 23, BATCH = 8, STEPS = 3 };
    static const double rates[STEPS] = {0.1, 0.01, 0.05};
    const mbp_options options = {.size = sizeof options, .dtype = dtype};
    mbp_net *a = net_new(dag, &options), *b = net_new(dag, &options);
    mbp_trainer *ta = dag_trainer(a, "sgd_momentum"), *tb = dag_trainer(b, "sgd_momentum");
    problem *p = problem_new(dtype, ROWS), *rows = problem_new(dtype, BATCH);
    for (int indexed = 0; indexed < 2; indexed++) {
        int64_t index[ROWS], steps = -1;
        double loss, sum = 0, weights = 0;
        mbp_permutation(7, MBP_SHUFFLE, (uint64_t)indexed, ROWS, index);
        OK(mbp_trainer_epoch(ta, &p->batch, indexed ? index : NULL, N, BATCH, rates, NULL, NULL, &loss, &steps,
                             &error));
        CHECK(steps == STEPS, "%lld steps", (long long)steps);
        for (int s = 0; s < STEPS; s++) {
            const int64_t count = s == STEPS - 1 ? N - 2 * BATCH : BATCH;
            problem part;
            double total = 0, batch_loss;
            problem_rows(rows, 0, count, &part);
            for (int64_t r = 0; r < count; r++) {
                const int64_t from = indexed ? index[s * BATCH + r] : s * BATCH + r;
                for (int k = 0; k < 2; k++) {
                    memcpy(array_element(&part.x[k], r, 0), array_element(&p->x[k], from, 0),
                           (size_t)p->x[k].row_stride);
                    memcpy(array_element(&part.y[k], r, 0), array_element(&p->y[k], from, 0),
                           (size_t)p->y[k].row_stride);
                }
                array_set(&part.weight, r, 0, array_get(&p->weight, from, 0));
                total += array_get(&p->weight, from, 0);
            }
            OK(mbp_trainer_set(tb, "lr", rates[s], &error));
            OK(mbp_trainer_step(tb, &part.batch, &batch_loss, &error));
            sum += batch_loss * total;
            weights += total;
        }
        CHECK(same_params(a, b) && same_state(a, ta, tb), "an epoch differs from its steps");
        CHECK(fabs(loss - sum / weights) <= 1e-12 * loss, "the epoch's loss is %g, that of its steps %g", loss,
              sum / weights);
    }
    int64_t steps = -1, before = mbp_trainer_steps(ta);
    double loss = -1;
    mbp_error error = {0};
    CHECK(mbp_trainer_epoch(ta, &p->batch, NULL, N, BATCH, NULL, count_down, &(int){2}, &loss, &steps, &error) ==
                  MBP_CANCELLED &&
              steps == 2 && error.status == MBP_CANCELLED && mbp_trainer_steps(ta) == before + 2 && loss > 0,
          "a poll that cancels: %lld steps, loss %g, %s", (long long)steps, loss, error.text);
    OK(mbp_trainer_epoch(ta, &p->batch, NULL, N, 1000, NULL, NULL, NULL, &loss, &steps, &error));
    CHECK(steps == 1, "a batch larger than all rows is one step, not %lld", (long long)steps);
    mbp_trainer_free(ta), mbp_trainer_free(tb), mbp_net_free(a), mbp_net_free(b), problem_free(p), problem_free(rows);
}

/* The loss as a separate net: its input gradients are the gradients of the loss with respect to the outputs. */
static void loss_gradients(const problem *p, const mbp_array outputs[2], mbp_array gradients[2]) {
    mbp_net *net = net_new("input 2\ninput 1\noutput 0\noutput 1\n", OPTIONS(.dtype = outputs[0].dtype));
    mbp_trainer *trainer = dag_trainer(net, "sgd");
    const mbp_batch batch = {.size = sizeof batch, .x = outputs, .n_x = 2, .y = p->y, .n_y = 2, .weight = &p->weight};
    double loss;
    OK(mbp_trainer_backward(trainer, &batch, HOW(.input_grads = 1), &loss, &error));
    for (int i = 0; i < 2; i++) {
        mbp_array gradient;
        OK(mbp_trainer_input_grad(trainer, i, &gradient, &error));
        gradients[i] = array_new(gradient.dtype, gradient.rows, gradient.cols);
        for (int64_t r = 0; r < gradient.rows; r++)
            for (int64_t j = 0; j < gradient.cols; j++)
                array_set(&gradients[i], r, j, array_get(&gradient, r, j));
    }
    mbp_trainer_free(trainer), mbp_net_free(net);
}

/* forward, then backward_from with the gradient of the loss, is the same as backward; also for input gradients, and for
 * a trainer without losses. */
static void test_backward_from(mbp_dtype dtype) {
    mbp_net *net = net_new(dag, OPTIONS(.dtype = dtype));
    mbp_trainer *a = dag_trainer(net, "sgd"), *b = trainer_new(net, (const char *[]){NULL, NULL}, NULL, "sgd");
    problem *p = problem_new(dtype, 11);
    const mbp_backward how = {.size = sizeof how, .input_grads = 1};
    mbp_array outputs[2], gradients[2], by_a[2], by_b[2];
    double loss;
    OK(mbp_trainer_backward(a, &p->batch, &how, &loss, &error));
    for (int repeat = 0; repeat < 2; repeat++) {
        OK(mbp_trainer_forward(b, p->x, 2, &error));
        for (int i = 0; i < 2; i++)
            OK(mbp_trainer_output(b, i, &outputs[i], &error));
        loss_gradients(p, outputs, gradients);
        OK(mbp_trainer_backward_from(b, gradients, 2, &how, &error));
        CHECK(same_grads(net, a, b), "backward_from with the gradient of the loss differs from backward");
        for (int i = 0; i < 2; i++) {
            OK(mbp_trainer_input_grad(a, i, &by_a[i], &error));
            OK(mbp_trainer_input_grad(b, i, &by_b[i], &error));
            for (int64_t r = 0; r < 11; r++)
                CHECK(memcmp(array_element(&by_a[i], r, 0), array_element(&by_b[i], r, 0),
                             (size_t)by_a[i].cols * item_of(dtype)) == 0,
                      "input gradient %d, row %lld", i, (long long)r);
        }
        OK(mbp_trainer_backward_from(b, gradients, 2, HOW(.accumulate = 1), &error));
        for (int64_t i = 0; i < (int64_t)(vector_bytes(net) / item_of(dtype)); i++) {
            const double once = vector_at(net, mbp_trainer_grads(a), i),
                         twice = vector_at(net, mbp_trainer_grads(b), i);
            CHECK(fabs(twice - 2 * once) <= 1e-5 * fabs(once) + 1e-6, "accumulate: %g and %g", once, twice);
        }
        OK(mbp_net_freeze(net, NULL, 0, &error));
        mbp_error error;
        CHECK(mbp_trainer_backward_from(b, gradients, 2, &how, &error) == MBP_INVALID &&
                  strstr(error.text, "forward again"),
              "outdated values are used");
        array_free(&gradients[0]), array_free(&gradients[1]);
    }
    mbp_trainer_free(a), mbp_trainer_free(b), mbp_net_free(net), problem_free(p);
}

/* The gradients and losses of micro-batches that are divided by the total weight add up to those of the whole batch. */
static void test_micro_batches(mbp_dtype dtype) {
    enum { ROWS = 26 };
    mbp_net *net = net_new(dag, OPTIONS(.dtype = dtype));
    mbp_trainer *whole = dag_trainer(net, "sgd"), *parts = dag_trainer(net, "sgd");
    problem *p = problem_new(dtype, ROWS), part;
    const double tolerance = dtype == MBP_F64 ? 1e-14 : 1e-6;
    double loss, total = 0, sum = 0, part_loss;
    for (int64_t r = 0; r < ROWS; r++)
        total += array_get(&p->weight, r, 0);
    OK(mbp_trainer_backward(whole, &p->batch, NULL, &loss, &error));
    for (int64_t first = 0, count; first < ROWS; first += count) {
        count = first + 8 < ROWS ? 8 : ROWS - first;
        problem_rows(p, first, count, &part);
        OK(mbp_trainer_backward(parts, &part.batch, HOW(.accumulate = first > 0, .total = total, .first_row = first),
                                &part_loss, &error));
        sum += part_loss;
    }
    CHECK(fabs(sum - loss) <= 1e-13 * loss, "the parts' losses add up to %.17g, not %.17g", sum, loss);
    for (int64_t i = 0; i < (int64_t)(vector_bytes(net) / item_of(dtype)); i++) {
        const double a = vector_at(net, mbp_trainer_grads(whole), i), b = vector_at(net, mbp_trainer_grads(parts), i);
        CHECK(fabs(a - b) <= tolerance, "gradient %lld: %.17g whole, %.17g in parts", (long long)i, a, b);
    }
    CHECK(mbp_trainer_steps(parts) == 0, "backward changes the step count");
    mbp_trainer_free(whole), mbp_trainer_free(parts), mbp_net_free(net), problem_free(p);
}

/* Whether the parameters of a layer are the same as in `before`. */
static int layer_same(mbp_net *net, const char *layer, const char *before) {
    const size_t item = item_of(mbp_net_dtype(net));
    mbp_tensor t;
    for (int i = 0; mbp_net_tensor(net, i, &t); i++)
        if (strcmp(t.layer, layer) == 0 && memcmp((char *)mbp_net_params(net, NULL) + (size_t)t.offset * item,
                                                  before + (size_t)t.offset * item, (size_t)(t.in * t.out) * item) != 0)
            return 0;
    return 1;
}

/* Whether all gradients of a layer are 0. */
static int layer_gradient_is_0(mbp_net *net, mbp_trainer *trainer, const char *layer) {
    mbp_tensor t;
    for (int i = 0; mbp_net_tensor(net, i, &t); i++)
        for (int64_t k = 0; k < t.in * t.out; k++)
            if (strcmp(t.layer, layer) == 0 && vector_at(net, mbp_trainer_grads(trainer), t.offset + k) != 0)
                return 0;
    return 1;
}

static void test_freeze(mbp_dtype dtype) {
    mbp_net *net = net_new(dag, OPTIONS(.dtype = dtype));
    mbp_trainer *trainer = dag_trainer(net, "adam(lr=0.1,weight_decay=0.1,decay_bias=1)");
    problem *p = problem_new(dtype, 8);
    static const char *const layers[] = {"a", "b", "c", "out", "side"};
    char *before = malloc(vector_bytes(net));
    double loss;
    OK(mbp_trainer_step(trainer, &p->batch, &loss, &error)); /* so that the moments are not 0 */
    for (int frozen = 0; frozen < 32; frozen++) {
        for (int i = 0; i < 5; i++)
            OK(mbp_net_freeze(net, layers[i], frozen >> i & 1, &error));
        memcpy(before, mbp_net_params(net, NULL), vector_bytes(net));
        for (int way = 0; way < 2; way++) {
            if (way)
                OK(mbp_trainer_step(trainer, &p->batch, &loss, &error));
            else {
                OK(mbp_trainer_backward(trainer, &p->batch, HOW(.input_grads = 1), &loss, &error));
                OK(mbp_trainer_apply(trainer, &error));
            }
            for (int i = 0; i < 5; i++) {
                CHECK(layer_same(net, layers[i], before) == (frozen >> i & 1), "layer %s, frozen %d", layers[i],
                      frozen >> i & 1);
                CHECK(!(frozen >> i & 1) || layer_gradient_is_0(net, trainer, layers[i]),
                      "layer %s is frozen and has a gradient", layers[i]);
            }
        }
    }
    OK(mbp_net_freeze(net, NULL, 0, &error));
    OK(mbp_trainer_step(trainer, &p->batch, &loss, &error));
    for (int i = 0; i < 5; i++)
        CHECK(!layer_same(net, layers[i], before), "layer %s does not change after it is unfrozen", layers[i]);
    free(before);
    mbp_trainer_free(trainer), mbp_net_free(net), problem_free(p);
}

/* The gradient of a layer that is used twice is the sum of the gradients of two layers with the same weights. */
static void test_shared_layer(void) {
    const mbp_options options = {.size = sizeof options, .dtype = MBP_F64};
    mbp_net *shared = net_new(
        "input 4\ndense 0 layer=s units=4 activation=tanh\ndense 1 layer=s\nmultiply 1 2\noutput 3\n", &options);
    mbp_net *apart = net_new("input 4\ndense 0 layer=s units=4 activation=tanh\ndense 1 layer=t units=4 "
                             "activation=tanh\nmultiply 1 2\noutput 3\n",
                             &options);
    /* parameters of `shared`: 16 weights, 4 biases of s; of `apart`: 16 weights of s, 16 of t, then 4 biases of each */
    double *w = mbp_net_params(shared, NULL), *v = mbp_net_params(apart, NULL), loss[2];
    w[17] = 0.5;
    for (int i = 0; i < 2; i++) {
        memcpy(v + 16 * i, w, 16 * sizeof *w);
        memcpy(v + 32 + 4 * i, w + 16, 4 * sizeof *w);
    }
    mbp_array x = array_new(MBP_F64, 6, 4), y = array_new(MBP_F64, 6, 4);
    array_fill(&x, -1, 1), array_fill(&y, -1, 1);
    const mbp_batch batch = mbp_batch_of(&x, &y);
    mbp_trainer *ts = trainer_new(shared, (const char *[]){"mse"}, NULL, "sgd"),
                *ta = trainer_new(apart, (const char *[]){"mse"}, NULL, "sgd");
    OK(mbp_trainer_backward(ts, &batch, NULL, &loss[0], &error));
    OK(mbp_trainer_backward(ta, &batch, NULL, &loss[1], &error));
    CHECK(loss[0] == loss[1], "%g, %g", loss[0], loss[1]);
    const double *gs = mbp_trainer_grads(ts), *ga = mbp_trainer_grads(ta);
    for (int i = 0; i < 20; i++) {
        const double sum = i < 16 ? ga[i] + ga[16 + i] : ga[16 + i] + ga[20 + i];
        CHECK(fabs(gs[i] - sum) < 1e-15, "gradient %d of a shared layer: %g, not %g", i, gs[i], sum);
    }
    mbp_trainer_free(ts), mbp_trainer_free(ta), mbp_net_free(shared), mbp_net_free(apart);
    array_free(&x), array_free(&y);
}

/* Gradients with respect to parameters and inputs, compared with finite differences. */
static void test_differences(void) {
    mbp_net *net = net_new(dag, OPTIONS(.dtype = MBP_F64, .seed = 3));
    mbp_trainer *trainer = dag_trainer(net, "sgd");
    problem *p = problem_new(MBP_F64, 4);
    const double h = 1e-5;
    double *params = mbp_net_params(net, NULL), loss, up, down;
    OK(mbp_trainer_backward(trainer, &p->batch, HOW(.input_grads = 1), &loss, &error));
    const int64_t count = (int64_t)(vector_bytes(net) / sizeof *params);
    double *analytic = malloc(((size_t)count + 4 * 8) * sizeof *analytic),
           **at = malloc(((size_t)count + 4 * 8) * sizeof *at);
    memcpy(analytic, mbp_trainer_grads(trainer), (size_t)count * sizeof *analytic);
    for (int64_t i = 0; i < count; i++)
        at[i] = &params[i];
    int64_t n = count;
    for (int k = 0; k < 2; k++) {
        mbp_array gradient;
        OK(mbp_trainer_input_grad(trainer, k, &gradient, &error));
        for (int64_t r = 0; r < 4; r++)
            for (int64_t j = 0; j < gradient.cols; j++, n++) {
                at[n] = array_element(&p->x[k], r, j);
                analytic[n] = array_get(&gradient, r, j);
            }
    }
    for (int64_t i = 0; i < n; i++) {
        const double before = *at[i];
        *at[i] = before + h;
        OK(mbp_trainer_evaluate(trainer, &p->batch, &up, &error));
        *at[i] = before - h;
        OK(mbp_trainer_evaluate(trainer, &p->batch, &down, &error));
        *at[i] = before;
        CHECK(fabs((up - down) / (2 * h) - analytic[i]) < 1e-8, "%s %lld: %g by differences, %g by backward",
              i < count ? "parameter" : "input", (long long)i, (up - down) / (2 * h), analytic[i]);
    }
    free(analytic), free(at);
    mbp_trainer_free(trainer), mbp_net_free(net), problem_free(p);
}

int main(void) {
    for (int i = 0; i < 2; i++) {
        test_loss_decreases(dtypes[i]);
        test_step_parts(dtypes[i]);
        test_epoch(dtypes[i]);
        test_backward_from(dtypes[i]);
        test_micro_batches(dtypes[i]);
        test_freeze(dtypes[i]);
    }
    test_shared_layer();
    test_differences();
    return report("training");
}
