/* A row of weight 0 is not there, whatever its values are: every call gives the same bits as without such rows. And
 * arrays of the caller that change during an epoch: each number is read once, and checked. */
#include "api.h"

enum { ROWS = 300, BATCH = 16 };

/* Two outputs; the second has the loss weight 0, so its targets are not read. */
static const char *const graphs[] = {
    "input 4\ndense 0 layer=a units=5 activation=tanh\ndense 1 layer=b units=3\ndense 1 layer=c units=2 l2=0.1\n"
    "output 2\noutput 3\n",
    "input 4\ndense 0 layer=a units=5 activation=tanh\ndropout 1 rate=0.3\nnoise 2 std=0.1\ndense 3 layer=b units=3\n"
    "dense 3 layer=c units=2\noutput 4\noutput 5\n",
    "input 4\ndense 0 layer=a units=5 activation=gelu\nbatch_norm 1 layer=n\nlayer_norm 2 layer=m\n"
    "dense 3 layer=b units=3\ndense 3 layer=c units=2\noutput 4\noutput 5\n",
};
static const char *const losses[][2] = {{"mse", "cross_entropy"}, {"cross_entropy", "mse"}, {"bce", "poisson"}};
static const double loss_weights[] = {1, 0};

/* All rows, or only those that are there. */
typedef struct rows {
    mbp_array x, y[2], weight;
    mbp_batch batch;
    int64_t index[ROWS], n;
} rows;

typedef struct twin {
    mbp_net *net;
    mbp_trainer *trainer;
    rows data;
} twin;

static mbp_array target_new(const char *loss, mbp_dtype dtype, int64_t count, int64_t cols) {
    return strcmp(loss, "cross_entropy") == 0 ? array_new(MBP_I64, count, 1) : array_new(dtype, count, cols);
}

static void rows_new(rows *r, int64_t count, const char *const *loss, mbp_dtype dtype) {
    r->x = array_new(dtype, count, 4);
    r->y[0] = target_new(loss[0], dtype, count, 3);
    r->y[1] = target_new(loss[1], dtype, count, 2);
    r->weight = array_new(MBP_F64, count, 1);
    r->n = count;
    r->batch = (mbp_batch){sizeof r->batch, &r->x, 1, r->y, 2, &r->weight, NULL, NULL, NULL};
}

static void rows_free(rows *r) {
    array_free(&r->x), array_free(&r->y[0]), array_free(&r->y[1]), array_free(&r->weight);
}

static void fill_row(const mbp_array *a, int64_t row, int is_there) {
    static const double poison[] = {NAN, INFINITY, -1e30};
    for (int64_t j = 0; j < a->cols; j++)
        if (a->dtype == MBP_I64)
            *(int64_t *)array_element(a, row, j) = is_there ? random_below(3) : random_below(2) ? -100 : INT64_MAX;
        else
            array_set(a, row, j, is_there ? random_unit() : poison[random_below(3)]);
}

/* Fills `all`, and copies its rows that are there to `some`; `all` has the rows of some.index[i] at other places. */
static void fill(rows *all, rows *some, const int *is_there) {
    int64_t place[ROWS], left = 0;
    for (int64_t r = 0; r < ROWS; r++) {
        place[r] = left;
        fill_row(&all->x, r, is_there[r]);
        fill_row(&all->y[0], r, is_there[r]);
        fill_row(&all->y[1], r, 0);
        array_set(&all->weight, r, 0, is_there[r] ? 0.5 + random_unit() : random_below(2) ? 0.0 : -0.0);
        const mbp_array *const from[] = {&all->x, &all->y[0], &all->y[1], &all->weight}, *const to[] = {&some->x,
                                                                                                        &some->y[0],
                                                                                                        &some->y[1],
                                                                                                        &some->weight};
        for (int i = 0; i < 4 && is_there[r]; i++)
            memcpy(array_element(to[i], left, 0), array_element(from[i], r, 0), (size_t)from[i]->row_stride);
        left += is_there[r];
    }
    int64_t at = 0;
    mbp_permutation(7, MBP_SHUFFLE, 0, ROWS, all->index);
    for (int64_t i = 0; i < ROWS; i++)
        if (is_there[all->index[i]])
            some->index[at++] = place[all->index[i]];
}

static void check_same(twin *t, double a, double b, const char *call) {
    int64_t buffers;
    const void *before = mbp_net_buffers(t[0].net, &buffers), *after = mbp_net_buffers(t[1].net, NULL);
    CHECK(a == b && isfinite(a), "%s: the loss is %.17g with rows of weight 0, %.17g without", call, a, b);
    CHECK(same_params(t[0].net, t[1].net) && same_state(t[0].net, t[0].trainer, t[1].trainer) &&
              same_grads(t[0].net, t[0].trainer, t[1].trainer) &&
              (buffers == 0 || memcmp(before, after, (size_t)buffers * item_of(mbp_net_dtype(t[0].net))) == 0),
          "%s: another state than without the rows of weight 0", call);
}

/* Input gradients are in the caller's rows: 0 for rows of weight 0. */
static void check_input_grads(twin *t, const int *is_there) {
    mbp_array all, some;
    int64_t left = 0;
    OK(mbp_trainer_input_grad(t[0].trainer, 0, &all, &error));
    OK(mbp_trainer_input_grad(t[1].trainer, 0, &some, &error));
    CHECK(all.rows == ROWS, "%lld rows of input gradients", (long long)all.rows);
    for (int64_t r = 0; r < ROWS; left += is_there[r++])
        for (int64_t j = 0; j < 4; j++)
            CHECK(array_get(&all, r, j) == (is_there[r] ? array_get(&some, left, j) : 0), "input gradient of row %lld",
                  (long long)r);
}

/* Parts of a logical batch: the middle one has no row with a weight. */
static double parts(twin *t, const int *is_there, int whole) {
    double sum = 0, loss, total = 0;
    int64_t place = 0, first = 0, ends[] = {0, 100, 140, ROWS};
    for (int64_t r = 0; r < t->data.n; r++)
        total += array_get(&t->data.weight, r, 0);
    for (int part = 0; part < 3; part++) {
        int64_t there = 0;
        for (int64_t r = ends[part]; r < ends[part + 1]; r++)
            there += is_there[r];
        const int64_t count = whole ? ends[part + 1] - ends[part] : there;
        const mbp_array x = array_rows(&t->data.x, place, count), weight = array_rows(&t->data.weight, place, count),
                        y[] = {array_rows(&t->data.y[0], place, count), array_rows(&t->data.y[1], place, count)};
        const mbp_batch batch = {sizeof batch, &x, 1, y, 2, &weight, NULL, NULL, NULL};
        loss = NAN;
        OK(mbp_trainer_backward(t->trainer, &batch, HOW(.accumulate = part > 0, .total = total, .first_row = first),
                                &loss, &error));
        sum += loss;
        place += count;
        first += there;
    }
    OK(mbp_trainer_apply(t->trainer, &error));
    return sum;
}

/* Every call on all rows (first twin) and on those that are there (second). */
static void check_calls(twin *t, const int *is_there) {
    double loss[2];
    int64_t steps[2];
    for (int call = 0; call < 6; call++) {
        static const char *const names[] = {"step", "backward", "evaluate", "epoch", "epoch with an index", "parts"};
        static const double rates[ROWS] = {0.01, 0.02, 0.005, 0.03};
        for (int i = 0; i < 2; i++) {
            mbp_trainer *trainer = t[i].trainer;
            const rows *data = &t[i].data;
            if (call == 0)
                OK(mbp_trainer_step(trainer, &data->batch, &loss[i], &error));
            else if (call == 1)
                OK(mbp_trainer_backward(trainer, &data->batch, HOW(.input_grads = 1), &loss[i], &error));
            else if (call == 2)
                OK(mbp_trainer_evaluate(trainer, &data->batch, &loss[i], &error));
            else if (call < 5)
                OK(mbp_trainer_epoch(trainer, &data->batch, call == 4 ? data->index : NULL, data->n, BATCH, rates, NULL,
                                     NULL, &loss[i], &steps[i], &error));
            else
                loss[i] = parts(&t[i], is_there, i == 0);
        }
        check_same(t, loss[0], loss[1], names[call]);
        CHECK(call < 3 || call == 5 || steps[0] == steps[1], "%lld steps", (long long)steps[0]);
        if (call == 1)
            check_input_grads(t, is_there);
    }
}

static void test_absent_rows(const char *graph, const char *const *loss, mbp_dtype dtype, int share) {
    int is_there[ROWS];
    int64_t count = 0;
    for (int64_t r = 0; r < ROWS; r++)
        is_there[r] = r != 0 && (r < 100 || r >= 140) && r != ROWS - 1 && random_below(100) < share;
    for (int64_t r = 0; r < 100; r++)
        count += is_there[r];
    for (int64_t r = 140; r < ROWS; r++)
        count += is_there[r];
    for (int64_t r = 1; r < 4; r++) { /* batch_norm needs two rows in the last batch */
        count += !is_there[r];
        is_there[r] = 1;
    }
    if (count % BATCH == 1)
        is_there[3] = 0, count--;
    twin t[2];
    for (int i = 0; i < 2; i++) {
        t[i].net = net_new(graph, OPTIONS(.dtype = dtype, .seed = 5));
        t[i].trainer = trainer_new(t[i].net, loss, loss_weights, "adam(lr=0.02)");
        rows_new(&t[i].data, i ? count : ROWS, loss, dtype);
    }
    fill(&t[0].data, &t[1].data, is_there);
    check_calls(t, is_there);
    for (int i = 0; i < 2; i++)
        mbp_trainer_free(t[i].trainer), mbp_net_free(t[i].net), rows_free(&t[i].data);
}

/* ---- the caller's arrays change during an epoch ---- */

typedef struct meddler {
    int countdown;
    int64_t *index;
    double *rate, *weight, value;
} meddler;

static int meddle(void *user) {
    meddler *m = user;
    if (m->countdown-- == 0) {
        for (int64_t i = 0; i < 40 && m->index; i++)
            m->index[i] = (int64_t)m->value;
        for (int64_t i = 0; i < 5 && m->rate; i++)
            m->rate[i] = m->value;
        for (int64_t i = 0; i < 40 && m->weight; i++)
            m->weight[i] = m->value;
    }
    return 0;
}

static void test_changing_arrays(void) {
    static const struct {
        int what;
        double value;
        const char *words;
    } cases[] = {{0, 1e15, "index[16] is 1000000000000000, but must be a row number from 0 to 39"},
                 {0, -3, "index[16] is -3, but"},
                 {1, NAN, "lr must be"},
                 {1, -1, "lr must be"},
                 {2, NAN, "the weight of row 16 is nan"},
                 {2, -1, "the weight of row 16 is -1"},
                 {2, 0, "all row weights are 0"}};
    mbp_net *net = net_new("input 2\ndense 0 layer=a units=1\noutput 1\n", NULL);
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse"}, NULL, "sgd");
    mbp_array x = array_new(MBP_F32, 40, 2), y = array_new(MBP_F32, 40, 1);
    array_fill(&x, -1, 1), array_fill(&y, -1, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t index[40], steps = -1;
        double rates[5] = {0.01, 0.01, 0.01, 0.01, 0.01}, weights[40], loss = 7;
        for (int64_t r = 0; r < 40; r++)
            index[r] = r, weights[r] = 1;
        const mbp_array weight = mbp_f64(weights, 40, 1);
        mbp_batch batch = mbp_batch_of(&x, &y);
        batch.weight = &weight;
        meddler m = {2, cases[i].what == 0 ? index : NULL, cases[i].what == 1 ? rates : NULL,
                     cases[i].what == 2 ? weights : NULL, cases[i].value};
        const int64_t before = mbp_trainer_steps(trainer);
        mbp_error error = {0};
        const mbp_status status = mbp_trainer_epoch(trainer, &batch, index, 40, 8, rates, meddle, &m, &loss, &steps,
                                                    &error);
        CHECK(status == MBP_INVALID && strstr(error.text, cases[i].words), "case %d: status %d, %s", (int)i,
              (int)status, error.text);
        CHECK(steps == 2 && error.step == 2 && mbp_trainer_steps(trainer) == before + 2 && loss == 7,
              "case %d: %lld steps", (int)i, (long long)steps);
        CHECK(cases[i].what != 2 || cases[i].value == 0 || error.row == 16, "case %d: row %lld", (int)i,
              (long long)error.row);
    }
    array_free(&x), array_free(&y);
    mbp_trainer_free(trainer), mbp_net_free(net);
}

int main(void) {
    for (int g = 0; g < 3; g++)
        for (int l = 0; l < 3; l++)
            for (int d = 0; d < 2; d++)
                for (int share = 10; share <= 100; share += 45)
                    test_absent_rows(graphs[g], losses[l], d ? MBP_F64 : MBP_F32, share);
    test_changing_arrays();
    return report("absent rows");
}
