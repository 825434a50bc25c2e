/* Wrong counts, shapes, names and values: each is refused with a text that names it, and nothing changes. */
#include "api.h"

static mbp_net *net, *made;
static mbp_trainer *trainer, *made_trainer;
static problem *p;
static mbp_array array;

/* ---- wrong arguments ---- */

/* Every call that takes a batch refuses this one, with `word` in the error's text. */
static void refuse_batch(const mbp_batch *batch, mbp_status status, const char *word, int64_t row) {
    char *before = malloc(vector_bytes(net));
    memcpy(before, mbp_net_params(net, NULL), vector_bytes(net));
    for (int call = 0; call < 4; call++) {
        mbp_error error = {0};
        double loss = 7;
        int64_t steps = 7;
        mbp_status got = MBP_OK;
        switch (call) {
        case 0: got = mbp_trainer_step(trainer, batch, &loss, &error); break;
        case 1: got = mbp_trainer_backward(trainer, batch, NULL, &loss, &error); break;
        case 2: got = mbp_trainer_evaluate(trainer, batch, &loss, &error); break;
        default:
            got = mbp_trainer_epoch(trainer, batch, NULL, batch->x && batch->x->rows > 0 ? batch->x->rows : 1, 100,
                                    NULL, NULL, NULL, &loss, &steps, &error);
        }
        CHECK(got == status && error.status == status, "call %d, %s: status %d, %s", call, word, (int)got, error.text);
        CHECK(strstr(error.text, word), "call %d: \"%s\" is not in \"%s\"", call, word, error.text);
        CHECK(error.row == row, "call %d, %s: row %lld instead of %lld", call, word, (long long)error.row,
              (long long)row);
        CHECK(memcmp(before, mbp_net_params(net, NULL), vector_bytes(net)) == 0, "call %d, %s: the parameters change",
              call, word);
    }
    free(before);
}

static void test_shapes(void) {
    const problem good = *p;
    mbp_batch batch = good.batch;
    mbp_array x[3] = {good.x[0], good.x[1], good.x[0]}, y[3] = {good.y[0], good.y[1], good.y[0]}, weight = good.weight;
    const int64_t few = 1, index = 0;
    batch.x = x, batch.y = y, batch.weight = &weight;
#define REFUSE(change, back, status, word) change, refuse_batch(&batch, status, word, -1), back
    REFUSE(batch.n_x = 1, batch.n_x = 2, MBP_INVALID, "x has 1 array, but the net has 2 inputs");
    REFUSE(batch.n_x = 3, batch.n_x = 2, MBP_INVALID, "x has 3 arrays");
    REFUSE(batch.n_x = -1, batch.n_x = 2, MBP_INVALID, "x has -1 arrays");
    REFUSE(batch.n_y = 0, batch.n_y = 2, MBP_INVALID, "y has 0 arrays, but the net has 2 outputs");
    REFUSE(batch.n_y = 3, batch.n_y = 2, MBP_INVALID, "y has 3 arrays");
    REFUSE(x[0].cols = 4, x[0].cols = 5, MBP_INVALID, "(8, 4), but (8, 5)");
    REFUSE(x[1].cols = INT64_MAX, x[1].cols = 3, MBP_INVALID, "input 1");
    REFUSE(x[1].cols = -3, x[1].cols = 3, MBP_INVALID, "(8, -3)");
    REFUSE(x[1].rows = 7, x[1].rows = 8, MBP_INVALID, "(7, 3), but (8, 3)");
    REFUSE(x[0].rows = -1, x[0].rows = 8, MBP_INVALID, "input 0");
    REFUSE(y[0].rows = 9, y[0].rows = 8, MBP_INVALID, "target 0");
    REFUSE(y[1].cols = 2, y[1].cols = 1, MBP_INVALID, "target 1");
    REFUSE(weight.rows = 1, weight.rows = 8, MBP_INVALID, "weight has shape (1, 1), but (8, 1)");
    REFUSE(weight.cols = 2, weight.cols = 1, MBP_INVALID, "weight has shape (8, 2)");
    REFUSE(batch.x = NULL, batch.x = x, MBP_INVALID, "x is NULL, but must point to 2 arrays, one per input");
    REFUSE(batch.y = NULL, batch.y = y, MBP_INVALID, "y is NULL, but must point to 2 arrays, one per output");
    REFUSE(x[0].data = NULL, x[0].data = good.x[0].data, MBP_INVALID,
           "input 0: data is NULL, but must point to 8 rows");
    REFUSE(y[1].data = NULL, y[1].data = good.y[1].data, MBP_INVALID, "target 1: data is NULL");
    REFUSE(weight.data = NULL, weight.data = good.weight.data, MBP_INVALID, "weight: data is NULL");
    REFUSE(x[0].dtype = (mbp_dtype)11, x[0].dtype = good.x[0].dtype, MBP_INVALID, "dtype 11");
    REFUSE(y[0].dtype = (mbp_dtype)1000, y[0].dtype = good.y[0].dtype, MBP_INVALID, "dtype 1000");
    REFUSE(y[0].indptr = &few, y[0].indptr = NULL, MBP_UNSUPPORTED, "target 0 is sparse: pass a dense array");
    REFUSE(weight.indices = &index, weight.indices = NULL, MBP_UNSUPPORTED, "weight is sparse: pass a dense array");
    for (int i = 0; i < 2; i++)
        x[i].rows = y[i].rows = 0;
    REFUSE(weight.rows = 0, weight.rows = 8, MBP_INVALID, "the batch has 0 rows, but needs at least 1");
#undef REFUSE
}

static void refuse(mbp_status got, const mbp_error *error, mbp_status status, const char *word) {
    CHECK(got == status && error->status == status && strstr(error->text, word), "%s: status %d, %s", word, (int)got,
          error->text);
}

static void test_predictions(void) {
    mbp_error error;
    mbp_array out[2] = {p->out[0], p->out[1]}, wide = array_new(MBP_F64, 8, 2);
    refuse(mbp_net_predict(net, p->x, 1, out, 2, 1, -1, &error), &error, MBP_INVALID,
           "x has 1 array, but the net has 2 inputs");
    refuse(mbp_net_predict(net, p->x, 2, out, 1, 1, -1, &error), &error, MBP_INVALID,
           "out has 1 array, but the net has 2 outputs");
    refuse(mbp_net_predict(net, p->x, 2, out, 2, 0, 3, &error), &error, MBP_INVALID, "out must be 1 array");
    refuse(mbp_net_predict(net, p->x, 2, NULL, 1, 0, 3, &error), &error, MBP_INVALID, "out must be 1 array");
    refuse(mbp_net_predict(net, p->x, 2, NULL, 2, 0, -1, &error), &error, MBP_INVALID,
           "out is NULL, but must point to 2 arrays, one per output");
    refuse(mbp_net_predict(net, p->x, 2, out, 1, 0, DAG_NODES, &error), &error, MBP_INVALID,
           "there is no node 12: the net has 12 nodes, numbered from 0");
    refuse(mbp_net_predict(net, p->x, 2, out, 2, -1, 0, &error), &error, MBP_INVALID, "raw is -1");
    refuse(mbp_net_predict(net, p->x, 2, out, 2, 2, -1, &error), &error, MBP_INVALID, "raw is 2");
    refuse(mbp_net_predict(net, p->x, 2, out, 2, 0, -2, &error), &error, MBP_INVALID, "node is -2");
    refuse(mbp_net_predict(net, p->x, 2, out, 1, 0, INT32_MAX, &error), &error, MBP_INVALID, "node 2147483647");
    refuse(mbp_net_predict(net, p->x, 2, out, 1, 0, 2, &error), &error, MBP_INVALID,
           "output 0 has shape (8, 2), but (8, 7)");
    out[0].rows = 7;
    refuse(mbp_net_predict(net, p->x, 2, out, 2, 1, -1, &error), &error, MBP_INVALID, "output 0 has shape (7, 2)");
    out[0] = wide;
    refuse(mbp_net_predict(net, p->x, 2, out, 2, 1, -1, &error), &error, MBP_INVALID,
           "output 0 has the dtype MBP_F64, but must have the dtype of the net, MBP_F32");
    out[0] = array_apart(wide.data, MBP_F32, 8, 2, 16);
    out[0].col_stride = 8;
    refuse(mbp_net_predict(net, p->x, 2, out, 2, 1, -1, &error), &error, MBP_INVALID,
           "output 0: col_stride is 8 bytes, but must be 4 (adjacent columns)");
    out[0] = p->out[0];
    out[0].row_stride++;
    refuse(mbp_net_predict(net, p->x, 2, out, 2, 1, -1, &error), &error, MBP_INVALID,
           "output 0: row_stride is 9 bytes, but must be a multiple of 4 (aligned)");
    out[0] = p->out[0];
    out[0].data = (const char *)out[0].data + 1;
    refuse(mbp_net_predict(net, p->x, 2, out, 2, 1, -1, &error), &error, MBP_INVALID,
           "output 0: data must be aligned to 4 bytes, but its address modulo 4 is 1");
    for (int i = 0; i < 2; i++) { /* no rows: nothing to do */
        p->x[i].rows = 0, p->out[i].rows = 0;
        p->out[i].data = NULL;
    }
    OK(mbp_net_predict(net, p->x, 2, p->out, 2, 1, -1, &error));
    for (int i = 0; i < 2; i++)
        p->x[i].rows = p->out[i].rows = 8;
    p->out[0].data = NULL;
    refuse(mbp_net_predict(net, p->x, 2, p->out, 2, 1, -1, &error), &error, MBP_INVALID, "output 0: data is NULL");
    array_free(&wide);
}

/* ---- values ---- */

/* A net of 3 outputs under a loss; element (row, col) of the targets is `value`, the others are good. */
static void refuse_target(const char *loss, double value, const char *word) {
    for (int dtype = 0; dtype < 2; dtype++) {
        mbp_net *saved_net = net;
        mbp_trainer *saved_trainer = trainer;
        net = net_new("input 2\ndense 0 units=3\noutput 1\n", OPTIONS(.dtype = (mbp_dtype)dtype));
        trainer = trainer_new(net, &loss, NULL, "sgd");
        mbp_array x = array_new(MBP_F32, 200, 2), y = array_new(MBP_F64, 200, 3);
        array_fill(&y, 1, 1);
        array_set(&y, 153, 2, value);
        const mbp_batch batch = mbp_batch_of(&x, &y);
        refuse_batch(&batch, MBP_INVALID, word, 153);
        array_free(&x), array_free(&y);
        mbp_trainer_free(trainer), mbp_net_free(net);
        net = saved_net, trainer = saved_trainer;
    }
}

static void test_targets(void) {
    refuse_target("bce", 1.25, "target 0, row 153, column 2 is 1.25, but bce needs values in [0,1]");
    refuse_target("bce", -INFINITY, "column 2 is -inf");
    refuse_target("poisson", -1e-3, "but poisson needs values in [0,inf)");
    refuse_target("poisson", INFINITY, "[0,inf)");
    refuse_target("hinge", 0, "is 0, but hinge needs values in {-1, 1}");
    refuse_target("cross_entropy", -0.1, "but cross_entropy needs values in [0,1]");
    refuse_target("cross_entropy", 2, "is 2, but cross_entropy");
}

static void test_labels(void) {
    static const int64_t bad[] = {-1, 4, INT64_MAX, INT64_MIN};
    const char *loss = "cross_entropy";
    mbp_net *saved_net = net;
    mbp_trainer *saved_trainer = trainer;
    net = net_new("input 2\ndense 0 units=4\noutput 1\n", NULL);
    trainer = trainer_new(net, &loss, NULL, "sgd");
    mbp_array x = array_new(MBP_F32, 10, 2), y = array_new(MBP_I64, 10, 1);
    const mbp_batch batch = mbp_batch_of(&x, &y);
    for (int i = 0; i < 4; i++) {
        char word[80];
        *(int64_t *)array_element(&y, 6, 0) = bad[i];
        snprintf(word, sizeof word, "target 0, row 6: label %lld is not in 0 to 3", (long long)bad[i]);
        refuse_batch(&batch, MBP_INVALID, word, 6);
    }
    /* through an index: the caller's row; the batches before it are not trained either */
    const int64_t index[] = {0, 1, 2, 3, 9, 6};
    mbp_error error = {0};
    double value;
    int64_t steps = -1;
    refuse(mbp_trainer_epoch(trainer, &batch, index, 6, 2, NULL, NULL, NULL, &value, &steps, &error), &error,
           MBP_INVALID, "row 6");
    CHECK(error.row == 6 && steps == 0 && mbp_trainer_steps(trainer) == 0, "row %lld, %lld steps", (long long)error.row,
          (long long)steps);
    mbp_array floats = array_new(MBP_F32, 10, 1);
    const mbp_batch as_floats = mbp_batch_of(&x, &floats);
    refuse_batch(
        &as_floats, MBP_INVALID,
        "target 0 has labels of dtype MBP_F32, but cross_entropy needs integer labels, or 4 probabilities per row", -1);
    array_free(&x), array_free(&y), array_free(&floats);
    mbp_trainer_free(trainer), mbp_net_free(net);
    net = saved_net, trainer = saved_trainer;
}

static void test_weights(void) {
    static const double bad[] = {NAN, INFINITY, -INFINITY, -1};
    static const char *const words[] = {"the weight of row 5 is nan, but must be finite and at least 0",
                                        "the weight of row 5 is inf", "the weight of row 5 is -inf",
                                        "the weight of row 5 is -1, but must be finite and at least 0"};
    mbp_array weight = array_new(MBP_F64, 8, 1);
    mbp_batch batch = p->batch;
    batch.weight = &weight;
    refuse_batch(&batch, MBP_INVALID,
                 "all row weights are 0, so no row is there: give at least one row a weight above 0", -1);
    array_fill(&weight, 1e308, 1e308);
    refuse_batch(&batch, MBP_INVALID, "weights of a batch sum to inf", -1);
    for (int i = 0; i < 4; i++) {
        array_fill(&weight, 1, 1);
        array_set(&weight, 3, 0, 0); /* the row's number is the caller's */
        array_set(&weight, 5, 0, bad[i]);
        refuse_batch(&batch, MBP_INVALID, words[i], 5);
    }
    array_free(&weight);
}

/* Rows of weight 0 do not change the loss, even thousands of them. */
static void test_zero_weights(void) {
    enum { ROWS = 3000 };
    problem *many = problem_new(MBP_F32, ROWS), part;
    double all = 0, some = 0;
    problem_rows(many, ROWS - 10, 10, &part);
    for (int64_t r = 0; r < ROWS - 10; r++)
        array_set(&many->weight, r, 0, 0);
    OK(mbp_trainer_evaluate(trainer, &part.batch, &some, &error));
    OK(mbp_trainer_evaluate(trainer, &many->batch, &all, &error));
    CHECK(all == some, "rows of weight 0 make the loss %g instead of %g", all, some);
    problem_free(many);
}

static void test_nonfinite(mbp_dtype dtype) {
    mbp_net *wide = net_new("input 3\ndense 0 layer=first units=3 bias=0\ndense 1 layer=second units=1\noutput 2\n",
                            OPTIONS(.dtype = dtype));
    mbp_trainer *t = trainer_new(wide, (const char *[]){"mae"}, (const double[]){1e4}, "adam(lr=1e-12)");
    mbp_array x = array_new(dtype, 6, 3), y = array_new(dtype, 6, 1);
    const mbp_batch batch = mbp_batch_of(&x, &y);
    char *before = malloc(vector_bytes(wide));
    mbp_error error = {0};
    double loss;
    int64_t steps;
    array_fill(&x, 1, 2);
    /* so small that the outputs, and so the loss, stay finite when an input is very large */
    for (int i = 0; i < 9; i++) {
        if (dtype == MBP_F64)
            ((double *)mbp_net_params(wide, NULL))[i] = 1e-10;
        else
            ((float *)mbp_net_params(wide, NULL))[i] = 1e-10f;
    }
    OK(mbp_trainer_step(t, &batch, &loss, &error));
    memcpy(before, mbp_net_params(wide, NULL), vector_bytes(wide));
    for (int kind = 0; kind < 3; kind++) {
        static const char *const words[] = {"the loss of output 0 (mae) is nan", "the loss of output 0 (mae) is ",
                                            "layer first (weight)"};
        array_set(&x, 4, 1, kind == 0 ? NAN : kind == 1 ? INFINITY : dtype == MBP_F32 ? 1e37 : 1e307);
        refuse(mbp_trainer_step(t, &batch, &loss, &error), &error, MBP_NONFINITE, words[kind]);
        refuse(mbp_trainer_epoch(t, &batch, NULL, 6, 4, NULL, NULL, NULL, &loss, &steps, &error), &error, MBP_NONFINITE,
               words[kind]);
        CHECK(error.step == 1 && steps == 1, "step %lld", (long long)error.step);
        memcpy(mbp_net_params(wide, NULL), before, vector_bytes(wide));
        if (kind == 2) {
            OK(mbp_trainer_backward(t, &batch, NULL, &loss, &error));
            refuse(mbp_trainer_apply(t, &error), &error, MBP_NONFINITE, "layer first");
        }
        CHECK(memcmp(before, mbp_net_params(wide, NULL), vector_bytes(wide)) == 0,
              "a refused update changes parameters");
    }
    CHECK(mbp_trainer_steps(t) == 1 + 3, "%lld steps", (long long)mbp_trainer_steps(t));
    free(before), array_free(&x), array_free(&y);
    mbp_trainer_free(t), mbp_net_free(wide);
}

/* ---- names and numbers ---- */

static void test_names(void) {
    mbp_error error;
    double value = 7;
    refuse(mbp_net_create(&made, dag, OPTIONS(.isa = "mmx"), &error), &error, MBP_UNSUPPORTED,
           "no kernel variant \"mmx\"; valid: ");
    refuse(mbp_net_create(&made, dag, OPTIONS(.isa = ""), &error), &error, MBP_UNSUPPORTED, "no kernel variant \"\"");
    refuse(mbp_net_create(&made, dag, OPTIONS(.dtype = MBP_F16), &error), &error, MBP_INVALID, "MBP_F32 or MBP_F64");
    refuse(mbp_net_create(&made, dag, OPTIONS(.dtype = (mbp_dtype)77), &error), &error, MBP_INVALID, "dtype is 77");
    refuse(mbp_net_freeze(net, "dense_9", 1, &error), &error, MBP_INVALID,
           "no layer is named \"dense_9\"; valid: a, b, c, out, side");
    refuse(mbp_net_set_layer(net, "Side", "lr", 1, &error), &error, MBP_INVALID, "did you mean \"side\"?");
    refuse(mbp_net_set_layer(net, "a", "decay", 1, &error), &error, MBP_INVALID,
           "layer a has no setting \"decay\"; valid: lr=1[0,inf)");
    refuse(mbp_net_set_layer(net, NULL, "max_nrom1", 1, &error), &error, MBP_INVALID,
           "no layer has a setting \"max_nrom1\"; did you mean \"max_norm\"?");
    refuse(mbp_net_set_layer(net, NULL, "l1", -1, &error), &error, MBP_INVALID, "l1 must be in [0,inf), not -1");
    refuse(mbp_net_set_layer(net, "a", "max_norm", INFINITY, &error), &error, MBP_INVALID,
           "max_norm must be in [0,inf), not inf");
    refuse(mbp_net_set_layer(net, "a", "l2", NAN, &error), &error, MBP_INVALID, "l2 must be in [0,inf), not nan");
    refuse(mbp_net_set_output(net, 0, "logit", &error), &error, MBP_INVALID, "softmax");
    refuse(mbp_net_set_notes(net, "\xc3(", &error), &error, MBP_INVALID, "UTF-8");
    refuse(mbp_net_set_output(net, 2, "exp", &error), &error, MBP_INVALID,
           "there is no output 2: the net has 2 outputs, numbered from 0");
    refuse(mbp_net_set_output(net, -1, "exp", &error), &error, MBP_INVALID, "output -1");
    refuse(mbp_trainer_get(trainer, "momentum", &value, &error), &error, MBP_INVALID, "lr=");
    refuse(mbp_trainer_get(trainer, "", &value, &error), &error, MBP_INVALID, "a trainer with adam has no parameter");
    refuse(mbp_trainer_set(trainer, "beta3", 0.5, &error), &error, MBP_INVALID,
           "no parameter \"beta3\"; did you mean \"beta1\"? valid: lr=");
    refuse(mbp_trainer_set(trainer, "lr", -1, &error), &error, MBP_INVALID, "lr must be in [0,inf), not -1");
    refuse(mbp_trainer_set(trainer, "lr", NAN, &error), &error, MBP_INVALID, "nan");
    refuse(mbp_trainer_set(trainer, "lr", INFINITY, &error), &error, MBP_INVALID, "inf");
    refuse(mbp_trainer_set(trainer, "beta1", 1, &error), &error, MBP_INVALID, "[0,1)");
    refuse(mbp_trainer_set(trainer, "decay_bias", 1, &error), &error, MBP_INVALID, "decay_bias cannot be changed");
    refuse(mbp_trainer_set(trainer, "clip_norm", 0, &error), &error, MBP_INVALID,
           "clip_norm must be in (0,inf], not 0");
    refuse(mbp_trainer_set(trainer, "clip_layer_norm", NAN, &error), &error, MBP_INVALID, "(0,inf]");
    refuse(mbp_trainer_set(trainer, "clip_value", -1, &error), &error, MBP_INVALID,
           "clip_value must be in (0,inf], not -1");
    refuse(mbp_trainer_set_average(trainer, -0.25, 0, 1, &error), &error, MBP_INVALID,
           "decay must be in [0,1], not -0.25");
    refuse(mbp_trainer_set_average(trainer, NAN, 0, 1, &error), &error, MBP_INVALID, "[0,1]");
    refuse(mbp_trainer_set_average(trainer, 1, -1, 1, &error), &error, MBP_INVALID,
           "start is -1, but must be at least 0");
    refuse(mbp_trainer_set_average(trainer, 1, 0, 0, &error), &error, MBP_INVALID,
           "every is 0, but must be at least 1");
    CHECK(!mbp_trainer_average(trainer, NULL), "a refused call starts an average");
    refuse(mbp_trainer_set_steps(trainer, -1, &error), &error, MBP_INVALID, "steps is -1, but must be at least 0");
    refuse(mbp_trainer_set_steps(trainer, INT64_MAX, &error), &error, MBP_INVALID,
           "steps is 9223372036854775807, but must be at most 9000000000000000000");
    OK(mbp_trainer_get(trainer, "decay_bias", &value, &error));
    CHECK(value == 0 && !made, "decay_bias=%g", value);
    OK(mbp_trainer_get(trainer, "clip_norm", &value, &error));
    CHECK(value == INFINITY, "clip_norm=%g", value);
}

static void test_trainers(void) {
    static const struct {
        const char *losses[2];
        double weight;
        const char *optimizer, *word;
    } bad[] = {
        {{"mse", "square"}, 1, "sgd", "unknown loss \"square\""},
        {{"mse", ""}, 1, "sgd", "unknown loss"},
        {{"mse", "cross_entropy"}, 1, "sgd", "output 1 has 1 column, but cross_entropy needs at least 2"},
        {{"mse", "crossentropy"}, 1, "sgd", "did you mean \"cross_entropy\"?"},
        {{"huber(delta=0)", "mse"}, 1, "sgd", "(0,inf)"},
        {{"huber(delta=1", "mse"}, 1, "sgd", "\"huber(delta=1\" does not end with \")\""},
        {{"huber(beta=1)", "mse"}, 1, "sgd", "unknown parameter \"beta\"; valid: delta=1(0,inf)"},
        {{"huber(Delta=2)", "mse"}, 1, "sgd", "did you mean \"delta\"?"},
        {{"mse(a=1)", "mse"}, 1, "sgd", "unknown parameter \"a\"; valid: missing=0[0,1]"},
        {{"quantile(q=1)", "mse"}, 1, "sgd", "(0,1)"},
        {{"mse", "mse"}, 1, "adamy", "unknown optimizer \"adamy\"; did you mean \"adam\"? valid: sgd, "},
        {{"mse", "mse"}, 1, "Adam", "unknown optimizer \"Adam\"; did you mean \"adam\"?"},
        {{"mse", "mse"}, 1, "gradient_descent", "unknown optimizer \"gradient_descent\"; valid: sgd, "},
        {{"mse", "mse"}, 1, "", "unknown optimizer"},
        {{"mse", "mse"}, 1, "sgd(lr=-1)", "lr must be in [0,inf), not -1"},
        {{"mse", "mse"}, 1, "sgd(lr=nan)", "lr must be a number, not \"nan\""},
        {{"mse", "mse"}, 1, "sgd(lr=1e400)", "lr must be in [0,inf), not inf"},
        {{"mse", "mse"}, 1, "sgd(lr=0.1234567890123456789)", "15 digits"},
        {{"mse", "mse"}, 1, "sgd(momentum=0.5)", "unknown parameter \"momentum\""},
        {{"mse", "mse"}, 1, "sgd(lr=0.1,lr=0.2)", "twice"},
        {{"mse", "mse"}, 1, "sgd(lr=)", "lr must be a number, not \"\""},
        {{"mse", "mse"}, 1, "sgd(,)", "unknown parameter"},
        {{"mse", "mse"}, 1, "sg d(lr=0.1)", "unknown optimizer \"sg d\"; did you mean \"sgd\"?"},
        {{"mse", "mse"}, 1, "sgd(lr=0. 1)", "lr must be a number, not \"0. 1\""},
        {{"mse", "mse"}, 1, "sgd(lr=1e)", "lr must be a number, not \"1e\""},
        {{"mse", "mse"}, 1, "sgd(lr=0x1.23456789abcdefp1)", "lr must be a number"},
        {{"mse", "mse"}, 1, "adam(beta2=1)", "[0,1)"},
        {{"mse", "mse"}, 1, "adam(decay_bias=2)", "[0,1]"},
        {{"mse", "mse"}, NAN, "sgd", "loss_weights[1] is nan, but must be finite and at least 0"},
        {{"mse", "mse"}, -0.5, "sgd", "loss_weights[1] is -0.5, but must be finite and at least 0"},
    };
    mbp_error error;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const double weights[2] = {1, bad[i].weight};
        refuse(mbp_trainer_create(&made_trainer, net, bad[i].losses, weights, 2, bad[i].optimizer, &error), &error,
               MBP_INVALID, bad[i].word);
        CHECK(!made_trainer, "a trainer of %s", bad[i].optimizer);
        mbp_trainer_free(made_trainer);
        made_trainer = NULL;
    }
    refuse(mbp_trainer_create(&made_trainer, net, dag_losses, NULL, 1, "sgd", &error), &error, MBP_INVALID,
           "losses has 1 item, but the net has 2 outputs");
    refuse(mbp_trainer_create(&made_trainer, net, dag_losses, NULL, -2, "sgd", &error), &error, MBP_INVALID,
           "losses has -2 items");
}

/* Calls in the wrong order, and their arguments. */
static void test_order(void) {
    mbp_trainer *fresh = trainer_new(net, (const char *[]){"mse", NULL}, NULL, "adam");
    mbp_error error;
    double loss;
    refuse(mbp_trainer_output(fresh, 0, &array, &error), &error, MBP_INVALID,
           "output 0 has no values: call forward first");
    refuse(mbp_trainer_output(fresh, 2, &array, &error), &error, MBP_INVALID, "there is no output 2");
    refuse(mbp_trainer_input_grad(fresh, 0, &array, &error), &error, MBP_INVALID,
           "input 0 has no gradient: call backward with input_grads=1 first");
    refuse(mbp_trainer_input_grad(fresh, 2, &array, &error), &error, MBP_INVALID, "there is no input 2");
    refuse(mbp_trainer_backward_from(fresh, p->y, 2, NULL, &error), &error, MBP_INVALID,
           "the outputs have no values: call forward first");
    refuse(mbp_trainer_step(fresh, &p->batch, &loss, &error), &error, MBP_INVALID, "output 1 has no loss");
    OK(mbp_trainer_forward(fresh, p->x, 2, &error));
    refuse(mbp_trainer_output(fresh, 2, &array, &error), &error, MBP_INVALID,
           "there is no output 2: the net has 2 outputs, numbered from 0");
    refuse(mbp_trainer_output(fresh, -1, &array, &error), &error, MBP_INVALID, "there is no output -1");
    refuse(mbp_trainer_backward_from(fresh, p->y, 1, NULL, &error), &error, MBP_INVALID,
           "gradients has 1 array, but the net has 2 outputs");
    refuse(mbp_trainer_backward_from(fresh, NULL, 2, NULL, &error), &error, MBP_INVALID,
           "gradients is NULL, but must point to 2 arrays, one per output");
    refuse(mbp_trainer_backward_from(fresh, p->x, 2, NULL, &error), &error, MBP_INVALID,
           "gradient 0 has shape (8, 5), but (8, 2)");
    OK(mbp_trainer_backward_from(fresh, p->y, 2, HOW(.input_grads = 1), &error));
    refuse(mbp_trainer_input_grad(fresh, 2, &array, &error), &error, MBP_INVALID,
           "there is no input 2: the net has 2 inputs, numbered from 0");
    OK(mbp_trainer_input_grad(fresh, 1, &array, &error));
    mbp_trainer_free(fresh);
    static const double totals[] = {-1, NAN, INFINITY};
    for (int i = 0; i < 3; i++)
        refuse(mbp_trainer_backward(trainer, &p->batch, HOW(.total = totals[i]), &loss, &error), &error, MBP_INVALID,
               "total must be the sum of all row weights, finite and at least");
    refuse(mbp_trainer_backward(trainer, &p->batch, HOW(.first_row = -1), &loss, &error), &error, MBP_INVALID,
           "first_row is -1, but must be at least 0");
}

static void test_epochs(void) {
    mbp_error error;
    double loss;
    int64_t steps = 7;
    const int64_t bad[] = {0, 8}, negative[] = {0, 1, -1};
    const double rates[] = {0.1, -0.1}, no_rates[] = {0.1, NAN};
#define EPOCH(index, n, rows, lr, word) \
    refuse(mbp_trainer_epoch(trainer, &p->batch, index, n, rows, lr, NULL, NULL, &loss, &steps, &error), &error, \
           MBP_INVALID, word); \
    CHECK(steps == 0, "%s: %lld steps", word, (long long)steps)
    EPOCH(NULL, 9, 4, NULL, "n is 9, but the data has 8 rows");
    EPOCH(NULL, 0, 4, NULL, "n is 0, but must be at least 1");
    EPOCH(NULL, -1, 4, NULL, "n is -1");
    EPOCH(NULL, 8, 0, NULL, "batch_rows is 0, but must be at least 1");
    EPOCH(NULL, 8, -1, NULL, "batch_rows is -1");
    EPOCH(NULL, 8, INT64_MIN, NULL, "batch_rows is -9223372036854775808");
    EPOCH(bad, 2, 2, NULL, "index[1] is 8, but must be a row number from 0 to 7");
    EPOCH(negative, 3, 1, NULL, "index[2] is -1");
    EPOCH(NULL, 8, 4, rates, "lr must be in [0,inf), not -0.1");
    EPOCH(NULL, 8, 4, no_rates, "lr must be in [0,inf), not nan");
#undef EPOCH
}

/* A refused call does not change the values and input gradients of an earlier forward and backward_from, even if it has
 * more rows than any call before. */
static void test_forward_before_refusals(void) {
    problem part, *larger = problem_new(MBP_F32, 64);
    double zeros[64] = {0}, loss = 7;
    int64_t steps = 7;
    const mbp_array none = mbp_f64(zeros, 8, 1), none_larger = mbp_f64(zeros, 64, 1);
    problem_rows(p, 0, 8, &part);
    mbp_batch batch = part.batch, large = larger->batch;
    batch.weight = &none, large.weight = &none_larger;
    mbp_trainer *other = dag_trainer(net, "adam");
    OK(mbp_trainer_forward(other, p->x, 2, &error));
    OK(mbp_trainer_backward_from(other, p->y, 2, HOW(.input_grads = 1), &error));
    for (int call = 0; call < 2; call++) {
        mbp_trainer *t = dag_trainer(net, "adam");
        const mbp_batch *given = call ? &large : &batch;
        const int64_t rows = call ? 64 : 8;
        mbp_array gradients[2];
        mbp_error error;
        OK(mbp_trainer_forward(t, p->x, 2, &error));
        for (int time = 0; time < 2; time++) {
            const mbp_status status[] = {
                mbp_trainer_step(t, given, &loss, &error),
                mbp_trainer_backward(t, given, HOW(.input_grads = 1), &loss, &error),
                mbp_trainer_evaluate(t, given, &loss, &error),
                mbp_trainer_epoch(t, given, NULL, rows, rows, NULL, NULL, NULL, &loss, &steps, &error)};
            for (int i = 0; i < 4; i++)
                CHECK(status[i] == MBP_INVALID && strstr(error.text, "weights"), "call %d: %s", i, error.text);
            if (time == 0)
                OK(mbp_trainer_backward_from(t, p->y, 2, HOW(.input_grads = 1), &error));
        }
        CHECK(same_grads(net, t, other), "%d rows: different gradients after refusals", (int)rows);
        OK(mbp_trainer_input_grad(t, 0, &gradients[0], &error));
        OK(mbp_trainer_input_grad(other, 0, &gradients[1], &error));
        for (int r = 0; r < 8; r++)
            CHECK(memcmp(array_element(&gradients[0], r, 0), array_element(&gradients[1], r, 0), 20) == 0,
                  "%d rows: different input gradients after refusals", (int)rows);
        mbp_trainer_free(t);
    }
    mbp_trainer_free(other), problem_free(larger);
}

int main(void) {
    net = net_new(dag, NULL);
    trainer = dag_trainer(net, "adam");
    p = problem_new(MBP_F32, 8);
    const void *const out[2] = {p->out[0].data, p->out[1].data};
    test_shapes();
    test_targets();
    test_labels();
    test_weights();
    test_zero_weights();
    test_nonfinite(MBP_F32);
    test_nonfinite(MBP_F64);
    test_names();
    test_trainers();
    test_order();
    test_epochs();
    test_forward_before_refusals();
    test_predictions();
    p->out[0].data = out[0], p->out[1].data = out[1];
    mbp_trainer_free(trainer), mbp_net_free(net), problem_free(p);
    return report("refusals");
}
