/* Inputs in compressed sparse rows: the bits of dense rows, arrays that end where their values end, no allocation in
 * steps, gradients of the named rows, rows that catch up. Properties over many graphs and all optimizers:
 * tests/training/sparse. */
#include "api.h"

enum { ROWS = 9, WIDE = 50, NARROW = 3, MOST = ROWS * WIDE };
static const char GRAPH[] = "input 50\ninput 3\ndense 0 layer=a units=5 activation=gelu\ndense 1 layer=b units=4\n"
                            "concat 2 3\ndense 0 layer=c units=2\ndense 4 layer=d units=2\nadd 5 6\noutput 7\n";
static const char *const LOSSES[] = {"mse"};

/* Sparse rows whose parts end at, or start after, inaccessible pages; and the same rows, dense. */
typedef struct rows {
    guarded data, indices, indptr;
    float dense[ROWS][WIDE], others[ROWS][NARROW], targets[ROWS][2];
    mbp_array sparse[2], full[2], y;
} rows;

static guarded guarded_copy(const void *from, size_t bytes, int at_end) {
    guarded g = guarded_block(bytes ? bytes : 1, at_end);
    memcpy(g.at, from, bytes);
    return g;
}

static void rows_make(rows *r, mbp_dtype index, double density, int at_end) {
    float data[MOST];
    int64_t wide[2][MOST + 1] = {{0}};
    int32_t narrow[2][MOST + 1] = {{0}};
    size_t count = 0;
    memset(r->dense, 0, sizeof r->dense);
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < WIDE; j++)
            if (i != 4 && random_unit() < density) {
                narrow[0][count] = j, wide[0][count] = j;
                r->dense[i][j] = data[count++] = (float)random_unit() - 0.4f;
            }
        narrow[1][i + 1] = (int32_t)count, wide[1][i + 1] = (int64_t)count;
        for (int j = 0; j < NARROW; j++)
            r->others[i][j] = (float)random_unit();
        r->targets[i][0] = (float)random_unit(), r->targets[i][1] = (float)i / 9;
    }
    const size_t item = index == MBP_I64 ? 8 : 4;
    r->data = guarded_copy(data, count * sizeof *data, at_end);
    r->indices = guarded_copy(index == MBP_I64 ? (void *)wide[0] : (void *)narrow[0], count * item, at_end);
    r->indptr = guarded_copy(index == MBP_I64 ? (void *)wide[1] : (void *)narrow[1], (ROWS + 1) * item, at_end);
    r->full[0] = r->sparse[0] = mbp_f32(r->dense[0], ROWS, WIDE);
    r->full[1] = r->sparse[1] = mbp_f32(r->others[0], ROWS, NARROW);
    r->sparse[0].data = r->data.at;
    r->sparse[0].indices = r->indices.at, r->sparse[0].indptr = r->indptr.at, r->sparse[0].index_dtype = index;
    r->y = mbp_f32(r->targets[0], ROWS, 2);
}

static void rows_free(const rows *r) { guarded_free(r->data), guarded_free(r->indices), guarded_free(r->indptr); }

static mbp_batch batch_of(const rows *r, int is_sparse) {
    return (mbp_batch){.size = sizeof(mbp_batch), .x = is_sparse ? r->sparse : r->full, .n_x = 2, .y = &r->y, .n_y = 1};
}

/* A net trained in several ways, and its predictions: the same bits from both kinds of rows. */
static void train(const rows *r, int is_sparse, float params[1000], double losses[5], float predicted[ROWS][2]) {
    mbp_net *net = net_new(GRAPH, NULL);
    mbp_trainer *trainer = trainer_new(net, LOSSES, NULL, "sgd(lr=0.1)");
    const mbp_batch batch = batch_of(r, is_sparse);
    const int64_t order[] = {8, 4, 0, 3, 3};
    const mbp_array out = mbp_f32(predicted[0], ROWS, 2);
    int64_t count, steps;
    OK(mbp_trainer_step(trainer, &batch, &losses[0], &error));
    OK(mbp_trainer_epoch(trainer, &batch, order, 5, 2, NULL, NULL, NULL, &losses[1], &steps, &error));
    OK(mbp_trainer_fit(trainer, &batch, &(mbp_fit){.size = sizeof(mbp_fit), .epochs = 3, .batch_rows = 4}, NULL,
                       &error));
    OK(mbp_trainer_evaluate(trainer, &batch, &losses[2], &error));
    OK(mbp_trainer_measure(trainer, &batch, 0, "rmse", &losses[3], &error));
    OK(mbp_trainer_backward(trainer, &batch, NULL, &losses[4], &error));
    OK(mbp_trainer_apply(trainer, &error));
    const float *trained = mbp_net_params(net, &count);
    memcpy(params, trained, (size_t)count * sizeof *params);
    OK(mbp_net_predict(net, batch.x, 2, &out, 1, 0, -1, &error));
    mbp_trainer_free(trainer), mbp_net_free(net);
}

static void test_bits(void) {
    for (int index = 0; index < 2; index++)
        for (int at_end = 0; at_end < 2; at_end++)
            for (double density = 0; density < 1.1; density += 0.25) {
                rows r;
                float params[2][1000] = {{0}}, predicted[2][ROWS][2];
                double losses[2][5];
                rows_make(&r, index ? MBP_I64 : MBP_I32, density, at_end);
                for (int k = 0; k < 2; k++)
                    train(&r, k, params[k], losses[k], predicted[k]);
                CHECK(memcmp(params[0], params[1], sizeof params[0]) == 0, "density %g: parameters differ", density);
                CHECK(memcmp(losses[0], losses[1], sizeof losses[0]) == 0, "density %g: losses differ", density);
                CHECK(memcmp(predicted[0], predicted[1], sizeof predicted[0]) == 0, "density %g: predictions differ",
                      density);
                rows_free(&r);
            }
}

static void test_gradients(void) {
    mbp_net *net = net_new(GRAPH, NULL);
    mbp_trainer *sparse = trainer_new(net, LOSSES, NULL, "adam"), *dense = trainer_new(net, LOSSES, NULL, "adam");
    rows r;
    rows_make(&r, MBP_I32, 0.1, 1);
    mbp_batch named = batch_of(&r, 1), full = batch_of(&r, 0);
    mbp_tensor tensor;
    mbp_array values;
    const int32_t *numbers;
    double loss;
    mbp_error error = {0};
    CHECK(mbp_trainer_sparse_grad(sparse, "a", &numbers, &values, &error) == MBP_INVALID &&
              strstr(error.text, "the trainer has no sparse layer \"a\""),
          "%s", error.text);
    OK(mbp_trainer_backward(sparse, &named, NULL, &loss, &error));
    OK(mbp_trainer_backward(dense, &full, NULL, &loss, &error));
    OK(mbp_trainer_sparse_grad(sparse, "a", &numbers, &values, &error));
    CHECK(mbp_net_tensor(net, 0, &tensor) && values.cols == 5 && values.rows < WIDE, "%lld rows",
          (long long)values.rows);
    const float *expected = (float *)mbp_trainer_grads(dense) + tensor.offset;
    int64_t next = 0;
    for (int64_t i = 0; i < WIDE; i++) {
        static const float zeros[5] = {0};
        const int is_named = next < values.rows && numbers[next] == i;
        const float *got = is_named ? (const float *)values.data + 5 * next++ : zeros;
        CHECK(memcmp(got, expected + 5 * i, sizeof zeros) == 0, "row %d", (int)i);
    }
    CHECK(next == values.rows, "the rows do not ascend");
    CHECK(mbp_trainer_sparse_grad(sparse, "b", &numbers, &values, &error) == MBP_INVALID, "b is no sparse layer");
    mbp_trainer_free(sparse), mbp_trainer_free(dense), mbp_net_free(net), rows_free(&r);
}

/* A pointer sees steps that rows missed after a flush, or when the trainer is freed. */
static void test_late_rows(void) {
    mbp_net *net[2];
    mbp_trainer *trainer[2];
    float *params[2];
    rows r;
    rows_make(&r, MBP_I64, 0.1, 0);
    const mbp_batch batch = batch_of(&r, 1);
    for (int k = 0; k < 2; k++) {
        net[k] = net_new(GRAPH, NULL);
        trainer[k] = trainer_new(net[k], LOSSES, NULL, "adamw(weight_decay=0.5, lr=0.1)");
        params[k] = mbp_net_params(net[k], NULL);
    }
    float before[5 * WIDE];
    double loss;
    memcpy(before, params[0], sizeof before);
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < 3; i++)
            OK(mbp_trainer_step(trainer[k], &batch, &loss, &error));
    int stale = 0, moved = 0;
    for (int i = 0; i < 5 * WIDE; i++)
        stale += params[0][i] == before[i];
    OK(mbp_net_flush(net[0], &error));
    for (int i = 0; i < 5 * WIDE; i++)
        moved += params[0][i] != before[i];
    CHECK(stale > 0 && moved == 5 * WIDE, "%d weights were late, %d have moved", stale, moved);
    mbp_trainer_free(trainer[1]);
    CHECK(memcmp(params[0], params[1], sizeof before) == 0, "freeing a trainer and a flush differ");
    mbp_trainer_free(trainer[0]);
    for (int k = 0; k < 2; k++)
        mbp_net_free(net[k]);
    rows_free(&r);
}

static void test_refusals(void) {
    mbp_net *net = net_new(GRAPH, NULL);
    mbp_trainer *trainer = trainer_new(net, LOSSES, NULL, "adam");
    rows r;
    rows_make(&r, MBP_I32, 0.3, 1);
    const mbp_batch batch = batch_of(&r, 1);
    mbp_array *x = &r.sparse[0];
    const mbp_array good = *x;
    double loss;
#define REFUSED(change, words) \
    do { \
        mbp_error error = {0}; \
        *x = good; \
        change; \
        CHECK(mbp_trainer_step(trainer, &batch, &loss, &error) == MBP_INVALID && strstr(error.text, words), "%s: %s", \
              words, error.text); \
        *x = good; \
    } while (0)
    REFUSED(x->indptr = NULL, "input 0: indptr is NULL, but must point to 10 numbers, because indices is set");
    REFUSED(x->indices = NULL, "input 0: indices is NULL, but must point to");
    REFUSED(x->data = NULL, "input 0: data is NULL, but must point to");
    REFUSED(x->index_dtype = MBP_U32, "input 0: index_dtype is 8, but must be MBP_I32 or MBP_I64");
    REFUSED(x->cols = 49, "input 0 has shape (9, 49), but (9, 50) is expected");
    REFUSED(x->rows = -1, "input 0 has shape (-1, 50)");
    REFUSED(x->dtype = (mbp_dtype)77, "input 0 has the unknown dtype 77");
    REFUSED(x->flags = 8, "input 0 has flags 9");
    CHECK(mbp_trainer_steps(trainer) == 0, "a refused step counts");
    mbp_trainer_free(trainer), mbp_net_free(net), rows_free(&r);
}

/* A trainer read from a file, or whose gradients were made dense and sparse again, updates the same rows. */
static void test_kept_gradients(const char *optimizer) {
    mbp_net *net = net_new(GRAPH, NULL), *read_net;
    mbp_trainer *trainer = trainer_new(net, LOSSES, NULL, optimizer), *read;
    rows r;
    rows_make(&r, MBP_I32, 0.1, 1);
    const mbp_batch batch = batch_of(&r, 1);
    int64_t count;
    size_t size = 0;
    double loss;
    OK(mbp_trainer_step(trainer, &batch, &loss, &error));
    OK(mbp_trainer_backward(trainer, &batch, NULL, &loss, &error));
    CHECK(mbp_trainer_write(trainer, NULL, &size, NULL) != MBP_OK && size > 0, "no size");
    char *bytes = malloc(size);
    OK(mbp_trainer_write(trainer, bytes, &size, &error));
    OK(mbp_trainer_read(&read, &read_net, bytes, size, NULL, &error));
    free(bytes);
    int32_t named[WIDE];
    const int32_t *numbers;
    mbp_array values;
    OK(mbp_trainer_sparse_grad(trainer, "a", &numbers, &values, &error));
    memcpy(named, numbers, (size_t)values.rows * sizeof *named);
    OK(mbp_trainer_set_sparse(trainer, NULL, NULL, 0, &error));
    OK(mbp_trainer_set_sparse(trainer, "a", named, values.rows, &error));
    OK(mbp_trainer_set_sparse(trainer, "c", named, values.rows, &error)); /* it reads the same rows */
    OK(mbp_trainer_apply(trainer, &error));
    OK(mbp_trainer_apply(read, &error));
    const float *a = mbp_net_params(net, &count), *b = mbp_net_params(read_net, NULL);
    CHECK(memcmp(a, b, (size_t)count * sizeof *a) == 0, "%s: parameters differ", optimizer);
    mbp_trainer_free(trainer), mbp_trainer_free(read), mbp_net_free(net), mbp_net_free(read_net), rows_free(&r);
}

/* A backward pass from the outputs makes layers sparse even if a reset after the forward pass has made them dense. */
static void test_reset_after_forward(void) {
    mbp_net *net = net_new(GRAPH, NULL);
    mbp_trainer *trainer = trainer_new(net, LOSSES, NULL, "adam");
    rows r;
    rows_make(&r, MBP_I32, 0.1, 1);
    const int32_t *numbers;
    mbp_array values;
    OK(mbp_trainer_forward(trainer, r.sparse, 2, &error));
    OK(mbp_trainer_reset(trainer, &error));
    OK(mbp_trainer_backward_from(trainer, &r.y, 1, NULL, &error));
    OK(mbp_trainer_sparse_grad(trainer, "a", &numbers, &values, &error));
    CHECK(values.rows > 0 && values.rows < WIDE, "%lld rows", (long long)values.rows);
    mbp_trainer_free(trainer), mbp_net_free(net), rows_free(&r);
}

/* With no more rows and values than before, steps and predictions allocate nothing; without dense rows, there is no
 * memory for them. */
static void test_memory(void) {
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    static const char wide[] = "input 1000000\ndense 0 units=1\noutput 1\n";
    static const int32_t indices[] = {5, 999999, 7}, indptr[] = {0, 2, 3};
    static const float values[] = {1, 2, 3}, y[] = {0, 1};
    mbp_array x = mbp_f32(values, 2, 1000000), targets = mbp_f32(y, 2, 1);
    x.indices = indices, x.indptr = indptr, x.index_dtype = MBP_I32;
    float predicted[2];
    const mbp_array out = mbp_f32(predicted, 2, 1);
    const mbp_batch batch = mbp_batch_of(&x, &targets);
    mbp_net *net = net_new(wide, OPTIONS(.allocator = &allocator));
    mbp_trainer *trainer = trainer_new(net, LOSSES, NULL, "sgd(weight_decay=0.1)");
    const size_t before = mbp_trainer_bytes(trainer);
    double loss;
    OK(mbp_trainer_backward(trainer, &batch, HOW(.accumulate = 1), &loss, &error));
    OK(mbp_trainer_step(trainer, &batch, &loss, &error));
    OK(mbp_net_predict(net, &x, 1, &out, 1, 0, -1, &error));
    CHECK(mbp_trainer_bytes(trainer) - before < 5000000, "a step takes %zu bytes", mbp_trainer_bytes(trainer) - before);
    CHECK(mbp_net_bytes(net) < 5000000, "predictions take %zu bytes", mbp_net_bytes(net));
    const long calls = c.calls;
    for (int i = 0; i < 1000; i++)
        OK(mbp_trainer_step(trainer, &batch, &loss, &error));
    OK(mbp_net_predict(net, &x, 1, &out, 1, 0, -1, &error));
    CHECK(c.calls == calls, "%ld allocations in steps", c.calls - calls);
    mbp_trainer_free(trainer), mbp_net_free(net);
}

/* ---- ids ---- */

static const char IDS[] = "ids 2 levels=50\nids 1 levels=50 hash=1\nembedding 0 layer=e units=3\nembedding 1 layer=e\n"
                          "embedding 0 layer=s units=2 combine=sum\nconcat 2 3 4\ndense 5 units=2\noutput 6\n";

/* The same ids in every integer dtype, at the end of a guarded block: the bits of int64. */
static void test_ids(void) {
    static const mbp_dtype dtypes[] = {MBP_I8, MBP_U8, MBP_I16, MBP_U16, MBP_I32, MBP_U32, MBP_I64, MBP_U64};
    int64_t ids[ROWS][2], users[ROWS];
    float expected[ROWS][2], out[ROWS][2];
    const mbp_array y = mbp_f32(out[0], ROWS, 2);
    mbp_net *net = net_new(IDS, NULL);
    for (int i = 0; i < ROWS; i++)
        ids[i][0] = (int64_t)(random_unit() * 50), ids[i][1] = (int64_t)(random_unit() * 50), users[i] = 7 * i - 20;
    for (size_t k = sizeof dtypes / sizeof *dtypes; k-- > 0;) {
        const int64_t item = (int64_t[]){1, 1, 2, 2, 4, 4, 8, 8}[k];
        const guarded at = guarded_block((size_t)(2 * ROWS * item), 1);
        for (int i = 0; i < 2 * ROWS; i++)
            memcpy((char *)at.at + i * item, (char *)&ids[i / 2][i % 2], (size_t)item);
        const mbp_array x[] = {mbp_contiguous(at.at, dtypes[k], item, ROWS, 2), mbp_ids(users, ROWS, 1)};
        OK(mbp_net_predict(net, x, 2, &y, 1, 0, -1, &error));
        if (k == 7)
            memcpy(expected, out, sizeof out);
        CHECK(memcmp(out, expected, sizeof out) == 0, "ids of dtype %d give other bits", (int)dtypes[k]);
        guarded_free(at);
    }
    for (int i = 0; i < ROWS; i++) /* as levels, they are the same */
        users[i] = mbp_hash_level(mbp_hash_number(users[i], 0), 50);
    mbp_net_free(net);
    char text[sizeof IDS];
    memcpy(text, IDS, sizeof IDS);
    strstr(text, "hash=1")[5] = '0';
    net = net_new(text, NULL);
    const mbp_array x[] = {mbp_ids(ids[0], ROWS, 2), mbp_ids(users, ROWS, 1)};
    OK(mbp_net_predict(net, x, 2, &y, 1, 0, -1, &error));
    CHECK(memcmp(out, expected, sizeof out) == 0, "hashed ids are not their levels");
    mbp_net_free(net);
}

/* Steps name rows in ascending order, once each, and allocate nothing; wrong ids change nothing. */
static void test_steps_of_ids(void) {
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    int64_t ids[3][2] = {{9, 4}, {4, 49}, {0, 9}}, users[3] = {1, 2, 3};
    const float targets[3][2] = {{1, 0}, {0, 1}, {1, 1}};
    const mbp_array x[] = {mbp_ids(ids[0], 3, 2), mbp_ids(users, 3, 1)}, y = mbp_f32(targets[0], 3, 2);
    const mbp_batch batch = {.size = sizeof batch, .x = x, .n_x = 2, .y = &y, .n_y = 1};
    static const int32_t named[] = {0, 4, 9, 49};
    mbp_net *net = net_new(IDS, OPTIONS(.allocator = &allocator));
    mbp_trainer *trainer = trainer_new(net, LOSSES, NULL, "adamw(weight_decay=0.1)");
    const int32_t *rows = NULL;
    mbp_array values;
    double loss;
    OK(mbp_trainer_step(trainer, &batch, &loss, &error));
    OK(mbp_trainer_sparse_grad(trainer, "s", &rows, &values, &error));
    CHECK(values.rows == 4 && values.cols == 2 && memcmp(rows, named, sizeof named) == 0, "other rows are named");
    const long calls = c.calls;
    for (int i = 0; i < 100; i++)
        OK(mbp_trainer_step(trainer, &batch, &loss, &error));
    CHECK(c.calls == calls, "%ld allocations in steps", c.calls - calls);
    mbp_error error = {0};
    ids[1][1] = 50;
    CHECK(mbp_trainer_step(trainer, &batch, &loss, &error) == MBP_INVALID && error.row == 1 &&
              strstr(error.text, "input 0, row 1, column 1: the id is 50, but must be from 0 to 49; or set hash=1"),
          "%s", error.text);
    CHECK(mbp_trainer_steps(trainer) == 101, "a refused step counts");
    mbp_trainer_free(trainer), mbp_net_free(net);
}

int main(void) {
    test_ids();
    test_steps_of_ids();
    test_bits();
    test_gradients();
    test_late_rows();
    test_refusals();
    test_kept_gradients("adam"), test_kept_gradients("sgd_momentum(momentum=0.9)");
    test_reset_after_forward();
    test_memory();
    return report("sparse");
}
