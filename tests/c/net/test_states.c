/* States of recurrent nodes between calls: sequences in pieces have the bits of whole ones, for any split and number of
 * threads; training goes on from a state; what is refused changes nothing. */
#include "api.h"

enum { ROWS = 70, LENGTH = 9, WIDTH = 3, OUT = 2 };

static const char *const cells[] = {"tanh", "gru", "lstm"};
enum { CELLS = sizeof cells / sizeof *cells };

static mbp_net *sequence_net(const char *cell, int length, mbp_dtype dtype, mbp_pool *pool) {
    char graph[400];
    snprintf(graph, sizeof graph,
             "input %d\ngrid 0 height=1 width=%d\nrecurrent 1 units=7 cell=%s\ndense 2 units=5 activation=relu\n"
             "recurrent 3 units=4 cell=gru\ndense 4 units=%d\noutput 5\n",
             length * WIDTH, length, cell, OUT);
    return net_new(graph, OPTIONS(.dtype = dtype, .pool = pool));
}

/* `positions` positions from number t on, of all rows, where they are. */
static mbp_array piece(const mbp_array *whole, int t, int positions, int width) {
    mbp_array part = *whole;
    part.data = (const char *)whole->data + t * width * whole->col_stride;
    part.cols = positions * width;
    return part;
}

static mbp_status predict_on(mbp_net *net, const mbp_array *x, const mbp_array *out, mbp_state *state,
                             mbp_error *error) {
    const mbp_prediction how = {.size = sizeof how, .raw = 1, .state = state};
    return mbp_net_predict_with(net, x, 1, out, 1, &how, error);
}

/* The predictions of a net of LENGTH positions, and of nets of other lengths in pieces. */
static void check_pieces(const char *cell, mbp_dtype dtype, mbp_pool *pool) {
    mbp_net *net = sequence_net(cell, LENGTH, dtype, pool), *other[LENGTH + 1] = {0};
    mbp_array x = array_new(dtype, ROWS, LENGTH * WIDTH), whole = array_new(dtype, ROWS, LENGTH * OUT);
    mbp_array found = array_new(dtype, ROWS, LENGTH * OUT);
    mbp_state *state = NULL;
    array_fill(&x, -1, 1);
    OK(predict_on(net, &x, &whole, NULL, &error));
    OK(mbp_state_create(&state, net, ROWS + 1, &error));
    for (int trial = 0; trial < 6; trial++) {
        OK(mbp_state_reset(state, NULL, 0, &error));
        for (int t = 0, n; t < LENGTH; t += n) {
            n = 1 + random_below(LENGTH - t < 4 ? LENGTH - t : 4);
            const mbp_array in = piece(&x, t, n, WIDTH), out = piece(&found, t, n, OUT);
            if (!other[n])
                OK(mbp_net_with_length(&other[n], net, n, &error));
            OK(predict_on(other[n], &in, &out, state, &error));
        }
        CHECK(memcmp(found.data, whole.data, (size_t)(ROWS * LENGTH * OUT) * item_of(dtype)) == 0,
              "%s: pieces differ from the whole", cell);
    }
    mbp_net_free(net); /* the others share its parameters */
    const mbp_array in = piece(&x, 0, 1, WIDTH), out = piece(&found, 0, 1, OUT);
    OK(predict_on(other[1], &in, &out, state, &error));
    for (int n = 0; n <= LENGTH; n++)
        mbp_net_free(other[n]);
    mbp_state_free(state);
    array_free(&x), array_free(&whole), array_free(&found);
}

/* ---- training ---- */

typedef struct states {
    int64_t bytes;
    char at[2][ROWS * 14 * 8];
} states;

static void read_states(mbp_state *state, size_t item, states *s) {
    int64_t columns;
    void *values;
    memset(s, 0, sizeof *s);
    for (int i = 0; i < 2; i++) {
        values = mbp_state_values(state, i, &columns);
        s->bytes = mbp_state_rows(state) * columns * (int64_t)item;
        if (values)
            memcpy(s->at[i], values, (size_t)s->bytes);
    }
    CHECK(!mbp_state_values(state, 2, NULL) && !mbp_state_values(state, -1, NULL), "two nodes have states");
}

/* A step leaves the states of a prediction, also of rows of weight 0 and without targets; one that fails changes none. */
static void check_training(const char *cell, mbp_dtype dtype, mbp_pool *pool) {
    mbp_net *net = sequence_net(cell, LENGTH, dtype, pool);
    mbp_trainer *t = trainer_new(net, (const char *[]){"mse(missing=1)"}, NULL, "sgd(lr=0.01)");
    mbp_array x = array_new(dtype, ROWS, LENGTH * WIDTH), y = array_new(dtype, ROWS, LENGTH * OUT);
    mbp_array out = array_new(dtype, ROWS, LENGTH * OUT), weight = array_new(MBP_F64, ROWS, 1);
    mbp_state *predicted = NULL, *trained = NULL;
    static states one, other;
    mbp_batch batch = mbp_batch_of(&x, &y);
    mbp_error error = {0};
    double loss, again;
    array_fill(&x, -1, 1), array_fill(&y, -1, 1), array_fill(&weight, 1, 1);
    for (int j = 0; j < LENGTH * OUT; j++)
        array_set(&y, 3, j, NAN); /* no target: the row goes on */
    OK(mbp_state_create(&predicted, net, ROWS, &error));
    OK(mbp_state_create(&trained, net, ROWS, &error));
    batch.state = trained;
    for (int k = 0; k < 3; k++) {
        OK(predict_on(net, &x, &out, predicted, &error));
        OK(mbp_trainer_step(t, &batch, &loss, &error));
        read_states(predicted, item_of(dtype), &one), read_states(trained, item_of(dtype), &other);
        CHECK(memcmp(&one, &other, sizeof one) == 0, "%s: a step leaves other states than a prediction", cell);
    }
    batch.weight = &weight;
    array_set(&weight, 5, 0, 0), array_set(&weight, 64, 0, 0);
    array_set(&y, 64, 1, NAN);
    OK(predict_on(net, &x, &out, predicted, &error));
    OK(mbp_trainer_backward(t, &batch, NULL, &loss, &error));
    read_states(predicted, item_of(dtype), &one), read_states(trained, item_of(dtype), &other);
    CHECK(memcmp(&one, &other, sizeof one) == 0, "%s: rows of weight 0 do not go on", cell);
    batch.weight = NULL;
    array_set(&x, 60, 4, NAN);
    CHECK(mbp_trainer_step(t, &batch, &again, &error) == MBP_NONFINITE, "NaN is refused");
    read_states(trained, item_of(dtype), &one);
    CHECK(memcmp(&one, &other, sizeof one) == 0, "a failed step changes no state");
    array_set(&x, 60, 4, 0);
    OK(mbp_trainer_evaluate(t, &batch, &loss, &error));
    read_states(trained, item_of(dtype), &other);
    CHECK(memcmp(&one, &other, sizeof one) != 0, "evaluate goes on");
    mbp_state_free(predicted), mbp_state_free(trained);
    mbp_trainer_free(t), mbp_net_free(net);
    array_free(&x), array_free(&y), array_free(&out), array_free(&weight);
}

/* ---- what is refused ---- */

static void check_refused(mbp_status status, mbp_status wanted, const mbp_error *error, const char *text) {
    CHECK(status == wanted && strstr(error->text, text), "status %d, not %d: %s", (int)status, (int)wanted,
          error->text);
}

#define REFUSED(call, wanted, text) \
    do { \
        mbp_error error = {0}; \
        const mbp_status refused_status = call; \
        check_refused(refused_status, wanted, &error, text); \
    } while (0)

static void check_lengths(void) {
    static const struct {
        const char *graph, *text;
    } refused[] = {
        {"input 4\ndense 0 units=2\noutput 1\n", "the net has no sequence"},
        {"input 6\ngrid 0 height=1 width=3\nwindow 1 size=1x2\noutput 2\n", "node 2 (window) sees several"},
        {"input 6\ngrid 0 height=1 width=3\npool 1 size=1x2\noutput 2\n", "node 2 (pool) sees several"},
        {"input 6\ngrid 0 height=1 width=3\ngrid 1 height=1 width=1\noutput 2\n", "node 2 (grid) sees all"},
        {"input 6\ngrid 0 height=1 width=3\ndense 0 units=2\noutput 1\noutput 2\n", "node 2 (dense) sees all"},
        {"input 6\ngrid 0 height=1 width=3\nrecurrent 1 units=2 reverse=1\noutput 2\n",
         "node 2 (recurrent) runs in rev"},
        {"input 6\ninput 2\ngrid 0 height=1 width=3\nrecurrent 2 units=2 cell=tanh state=1\noutput 3\n",
         "node 3 (recurrent) starts from the state"},
        {"input 6\ninput 4\ngrid 0 height=1 width=3\ngrid 1 height=1 width=2\noutput 2\noutput 3\n",
         "node 2 has 3 positions, but node 3 has 2"},
        {"input 6\ninput 12\ngrid 0 height=1 width=3\ngrid 1 height=3 width=1\ngrid 3 height=1 width=3\n"
         "dense 4 units=2\nadd 2 5\noutput 6\n",
         "node 6 (add) needs the net's own number"},
    };
    for (int i = 0; i < (int)(sizeof refused / sizeof *refused); i++) {
        mbp_net *net = net_new(refused[i].graph, NULL), *other = NULL;
        REFUSED(mbp_net_with_length(&other, net, 2, &error), i == 0 ? MBP_INVALID : MBP_UNSUPPORTED, refused[i].text);
        CHECK(!other, "nothing is made");
        mbp_net_free(net);
    }
    /* An input that no sequence depends on may be repeated, and the last position has no length. */
    mbp_net *net = net_new("ids 8 levels=5\ninput 3\nembedding 0 units=2\ngrid 2 height=1 width=4\nrepeat 1 times=4\n"
                           "concat 3 4\nrecurrent 5 units=3\nlast 6\noutput 7\noutput 6\n",
                           NULL),
            *other = NULL;
    OK(mbp_net_with_length(&other, net, 1, &error));
    CHECK(mbp_net_input_width(other, 0) == 2 && mbp_net_input_width(other, 1) == 3, "inputs of one position");
    CHECK(mbp_net_output_width(other, 0) == 3 && mbp_net_output_width(other, 1) == 3, "outputs of one position");
    REFUSED(mbp_net_with_length(&other, net, 0, &error), MBP_INVALID, "positions is 0, but must be from 1 to");
    REFUSED(mbp_net_with_length(NULL, net, 1, &error), MBP_INVALID, "other is NULL");
    REFUSED(mbp_net_with_length(&other, NULL, 1, &error), MBP_INVALID, "net is NULL");
    mbp_net_free(net), mbp_net_free(other);
}

static void check_states(void) {
    mbp_net *net = sequence_net("gru", LENGTH, MBP_F32, NULL), *lstm = sequence_net("lstm", LENGTH, MBP_F32, NULL);
    mbp_net *doubles = sequence_net("gru", LENGTH, MBP_F64, NULL), *plain = net_new("input 2\noutput 0\n", NULL);
    mbp_net *reversed = net_new("input 6\ngrid 0 height=1 width=3\nrecurrent 1 units=2 reverse=1\noutput 2\n", NULL);
    mbp_array x = array_new(MBP_F32, ROWS, LENGTH * WIDTH), out = array_new(MBP_F32, ROWS, LENGTH * OUT);
    mbp_array y = array_new(MBP_F32, ROWS, LENGTH * OUT), wide = array_new(MBP_F64, ROWS, LENGTH * OUT);
    mbp_state *state = NULL, *other = NULL, *few = NULL;
    double loss = 0;
    array_fill(&x, -1, 1), array_fill(&y, -1, 1);
    OK(mbp_state_create(&state, net, ROWS, &error));
    OK(mbp_state_create(&few, net, ROWS - 1, &error));
    OK(mbp_state_create_for(&other, MBP_F32, ROWS, (int64_t[]){7, 4, 4}, 3, &error));
    REFUSED(predict_on(lstm, &x, &out, state, &error), MBP_INVALID,
            "state has 7 numbers for node 2, but the node has 14");
    REFUSED(predict_on(doubles, &x, &wide, state, &error), MBP_INVALID,
            "state is of float32, but the net is of float64");
    REFUSED(predict_on(net, &x, &out, other, &error), MBP_INVALID,
            "of a net with 3 recurrent nodes, but this net has 2");
    REFUSED(predict_on(net, &x, &out, few, &error), MBP_INVALID, "state has 69 rows, but the call has 70");
    REFUSED(mbp_state_create(&other, plain, 1, &error), MBP_INVALID, "no recurrent node that starts from zeros");
    REFUSED(mbp_state_create(&other, reversed, 1, &error), MBP_UNSUPPORTED, "node 2 runs in reverse");
    REFUSED(mbp_state_create(&other, net, 0, &error), MBP_INVALID, "rows is 0, but must be at least 1");
    REFUSED(mbp_state_create(&other, net, INT64_MAX / 2, &error), MBP_NO_MEMORY, "no memory for the states of");
    REFUSED(mbp_state_create(NULL, net, 1, &error), MBP_INVALID, "state is NULL");
    REFUSED(mbp_state_create_for(&other, MBP_I8, 1, (int64_t[]){1}, 1, &error), MBP_INVALID, "dtype is");
    REFUSED(mbp_state_create_for(&other, MBP_F32, 1, (int64_t[]){0}, 1, &error), MBP_INVALID, "columns[0] is 0");
    REFUSED(mbp_state_create_for(&other, MBP_F32, 1, NULL, 1, &error), MBP_INVALID, "columns is NULL");
    REFUSED(mbp_state_create_for(&other, MBP_F32, 1, (int64_t[]){1}, 0, &error), MBP_INVALID, "n is 0");
    REFUSED(mbp_state_reset(state, (int64_t[]){1, ROWS}, 2, &error), MBP_INVALID, "rows[1] is 70, but must be");
    REFUSED(mbp_state_reset(NULL, NULL, 0, &error), MBP_INVALID, "state is NULL");
    mbp_trainer *t = trainer_new(net, (const char *[]){"mse"}, NULL, "sgd");
    mbp_batch batch = mbp_batch_of(&x, &y);
    int64_t steps;
    batch.state = state;
    REFUSED(mbp_trainer_epoch(t, &batch, NULL, ROWS, 8, NULL, NULL, NULL, &loss, &steps, &error), MBP_UNSUPPORTED,
            "state is for one batch");
    REFUSED(mbp_trainer_measure(t, &batch, 0, "rmse", &loss, &error), MBP_UNSUPPORTED, "state is for one batch");
    OK(mbp_trainer_step(t, &batch, &loss, &error));
    OK(mbp_state_reset(state, (int64_t[]){2, 3}, 2, &error));
    int64_t columns = 0;
    const float *values = mbp_state_values(state, 0, &columns);
    for (int r = 0; r < ROWS && columns == 7; r++)
        CHECK((values[r * 7] == 0) == (r == 2 || r == 3), "reset of row %d", r);
    CHECK(mbp_state_rows(state) == ROWS && mbp_state_rows(NULL) == 0, "rows");
    mbp_state_free(NULL), mbp_state_free(state), mbp_state_free(other), mbp_state_free(few);
    mbp_trainer_free(t);
    mbp_net_free(net), mbp_net_free(lstm), mbp_net_free(doubles), mbp_net_free(plain), mbp_net_free(reversed);
    array_free(&x), array_free(&y), array_free(&out), array_free(&wide);
}

int main(void) {
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 3, NULL, &error));
    for (int i = 0; i < CELLS; i++)
        for (int k = 0; k < 4; k++) {
            check_pieces(cells[i], k & 1 ? MBP_F64 : MBP_F32, k & 2 ? pool : NULL);
            check_training(cells[i], k & 1 ? MBP_F64 : MBP_F32, k & 2 ? pool : NULL);
        }
    check_lengths();
    check_states();
    mbp_pool_free(pool);
    return report("states");
}
