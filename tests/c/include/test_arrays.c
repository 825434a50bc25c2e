/* Callers' arrays. An array of any strides gives the same results as a dense copy of its elements. Strides that make
 * elements share memory are refused without MBP_SHARED. */
#include "api.h"

#define GRAPH "input 4\ndense 0 units=4\noutput 1\n"
enum { ROWS = 5, COLS = 4, POOL = 4000, MIDDLE = POOL / 2 };

/* ---- arrays ---- */

/* Strides in bytes for float32; for larger elements they are multiplied. */
static const struct layout {
    const char *name;
    int64_t rows, row_stride, col_stride;
    int shared;
} layouts[] = {
    {"dense", ROWS, 16, 4, 0},
    {"rows apart", ROWS, 28, 4, 0},
    {"rows upside down", ROWS, -16, 4, 0},
    {"columns from right to left", ROWS, 16, -4, 0},
    {"both turned", ROWS, -20, -4, 0},
    {"transposed", ROWS, 4, 20, 0},
    {"transposed and apart", ROWS, 4, 36, 0},
    {"transposed and turned", ROWS, -4, -20, 0},
    {"every second column", ROWS, 40, 8, 0},
    {"rows that are not aligned", ROWS, 17, 4, 0},
    {"columns that are not aligned", ROWS, 30, 7, 0},
    {"one row of stride 0", 1, 0, 4, 0},
    {"one row of a stride that is too short", 1, 2, 4, 0},
    {"one row of the least stride", 1, INT64_MIN, 4, 0},
    {"one row of the largest stride", 1, INT64_MAX, -4, 0},
    {"no strides", ROWS, 0, 0, 1},
    {"one row without strides", 1, 0, 0, 1},
    {"strides in elements", ROWS, 4, 1, 1},
    {"strides in elements, transposed", ROWS, 1, 5, 1},
    {"one row repeated", ROWS, 0, 4, 1},
    {"one column repeated", ROWS, 16, 0, 1},
    {"windows that slide by one", ROWS, 4, 4, 1},
    {"rows that share an element", ROWS, 12, 4, 1},
    {"rows that share an element, upside down", ROWS, -12, 4, 1},
    {"rows that share a byte", ROWS, 15, 4, 1},
    {"columns that share a byte", ROWS, 16, 3, 1},
    {"columns that share an element, transposed", ROWS, 4, 16, 1},
};
enum { LAYOUTS = sizeof layouts / sizeof *layouts };

/* Numbers between 1e-9 and 1, read as floats or doubles at any place. */
static unsigned char pool[POOL];

static void fill_pool(void) {
    for (int i = 0; i < POOL; i++)
        pool[i] = (unsigned char)(0x3e + random_below(2));
}

static int64_t scaled(int64_t stride, mbp_dtype dtype) {
    return stride == INT64_MIN || stride == INT64_MAX ? stride : stride * (int64_t)item_of(dtype) / 4;
}

static mbp_array laid_out(const struct layout *l, mbp_dtype dtype, int64_t cols, int flags) {
    mbp_array a = array_at(pool + MIDDLE, dtype, l->rows, cols);
    a.row_stride = scaled(l->row_stride, dtype), a.col_stride = scaled(l->col_stride, dtype), a.flags = flags;
    return a;
}

static mbp_array dense_copy(const mbp_array *a) {
    mbp_array dense = array_new(a->dtype, a->rows, a->cols);
    for (int64_t i = 0; i < a->rows; i++)
        for (int64_t j = 0; j < a->cols; j++)
            memcpy(array_element(&dense, i, j), array_element(a, i, j), item_of(a->dtype));
    return dense;
}

/* How an array is used. */
typedef enum role {
    TO_PREDICT,
    INPUT,
    TARGET,
    WEIGHT,
    EPOCH_INPUT,
    EVALUATED,
    FORWARD,
    GRADIENT,
    BACKWARD,
    EPOCH_TARGET,
    ROLES
} role;
static const char *const role_names[] = {"input 0", "input 0", "target 0",   "weight",  "input 0",
                                         "input 0", "input 0", "gradient 0", "input 0", "target 0"};

typedef struct result {
    float out[ROWS * COLS], params[(COLS + 1) * COLS];
    double loss;
} result;

static mbp_status use(role r, const mbp_array *a, result *made, mbp_error *error) {
    static float ones[ROWS * COLS];
    for (int i = 0; i < ROWS * COLS; i++)
        ones[i] = 1;
    mbp_net *net = net_new(GRAPH, OPTIONS(.seed = 3));
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"mse"}, NULL, "sgd(lr=0.1)");
    const mbp_array other = mbp_f32(ones, a->rows, COLS), out = mbp_f32(made->out, a->rows, COLS);
    const int is_target = r == TARGET || r == EPOCH_TARGET;
    mbp_batch batch = mbp_batch_of(is_target || r == WEIGHT ? &other : a, is_target ? a : &other);
    batch.weight = r == WEIGHT ? a : NULL;
    int64_t steps;
    mbp_status status;
    memset(made, 0, sizeof *made);
    switch (r) {
    case TO_PREDICT: status = mbp_net_predict(net, a, 1, &out, 1, 1, -1, error); break;
    case INPUT:
    case TARGET:
    case WEIGHT: status = mbp_trainer_step(trainer, &batch, &made->loss, error); break;
    case EPOCH_INPUT:
    case EPOCH_TARGET:
        status = mbp_trainer_epoch(trainer, &batch, NULL, a->rows, 2, NULL, NULL, NULL, &made->loss, &steps, error);
        break;
    case BACKWARD:
        status = mbp_trainer_backward(trainer, &batch, NULL, &made->loss, error);
        if (status == MBP_OK)
            status = mbp_trainer_apply(trainer, error);
        break;
    case EVALUATED: status = mbp_trainer_evaluate(trainer, &batch, &made->loss, error); break;
    default:
        status = mbp_trainer_forward(trainer, r == FORWARD ? a : &other, 1, error);
        if (status == MBP_OK)
            status = mbp_trainer_backward_from(trainer, r == FORWARD ? &other : a, 1, NULL, error);
        if (status == MBP_OK)
            status = mbp_trainer_apply(trainer, error);
    }
    memcpy(made->params, mbp_net_params(net, NULL), sizeof made->params);
    mbp_trainer_free(trainer), mbp_net_free(net);
    return status;
}

static void check_refused(role r, const mbp_array *a, const result *untouched, const char *name) {
    mbp_error error = {0};
    result got;
    char strides[120];
    snprintf(strides, sizeof strides, "row_stride is %lld and col_stride is %lld", (long long)a->row_stride,
             (long long)a->col_stride);
    const mbp_status status = use(r, a, &got, &error);
    CHECK(status == MBP_INVALID && error.status == MBP_INVALID, "%s as %s: status %d, %s", name, role_names[r],
          (int)status, error.text);
    CHECK(strstr(error.text, strides) && strstr(error.text, role_names[r]) && strstr(error.text, "mbp_f32") &&
              strstr(error.text, "strides are in bytes") && strstr(error.text, "MBP_SHARED"),
          "%s as %s: %s", name, role_names[r], error.text);
    CHECK(memcmp(got.params, untouched->params, sizeof got.params) == 0, "%s as %s: a refused array changes something",
          name, role_names[r]);
}

static void check_like_dense(role r, const mbp_array *a, const char *name) {
    mbp_error error = {0};
    result got, expected;
    mbp_array dense = dense_copy(a);
    const mbp_status status = use(r, a, &got, &error);
    CHECK(status == MBP_OK, "%s as %s: status %d, %s", name, role_names[r], (int)status, error.text);
    CHECK(use(r, &dense, &expected, &error) == MBP_OK, "%s, dense: %s", name, error.text);
    CHECK(status != MBP_OK || memcmp(&got, &expected, sizeof got) == 0, "%s as %s is not as its dense copy", name,
          role_names[r]);
    array_free(&dense);
}

static void test_strides(mbp_dtype dtype) {
    float zeros[COLS] = {0};
    const mbp_array nothing = mbp_row(zeros, COLS);
    result untouched;
    OK(use(EVALUATED, &nothing, &untouched, &error));
    for (int r = 0; r < ROLES; r++)
        for (int i = 0; i < LAYOUTS; i++) {
            const mbp_array plain = laid_out(&layouts[i], dtype, COLS, 0),
                            flagged = laid_out(&layouts[i], dtype, COLS, MBP_SHARED);
            if (r == WEIGHT)
                continue;
            if (layouts[i].shared)
                check_refused((role)r, &plain, &untouched, layouts[i].name);
            else
                check_like_dense((role)r, &plain, layouts[i].name);
            check_like_dense((role)r, &flagged, layouts[i].name);
        }
}

/* Row weights are one column, so col_stride has no meaning. */
static void test_one_column(mbp_dtype dtype) {
    static const struct layout columns[] = {
        {"a column", ROWS, 4, 4, 0},        {"a column of stride 0", ROWS, 4, 0, 0},
        {"a column apart", ROWS, 20, 0, 0}, {"a column upside down", ROWS, -4, 1, 0},
        {"a short column", ROWS, 4, 2, 0},  {"one weight of stride 0", 1, 0, 0, 0},
        {"the same weight", ROWS, 0, 4, 1}, {"weights that share a byte", ROWS, 3, 100, 1},
        {"no strides", ROWS, 0, 0, 1},
    };
    float zeros[COLS] = {0};
    const mbp_array nothing = mbp_row(zeros, COLS);
    result untouched;
    OK(use(EVALUATED, &nothing, &untouched, &error));
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        const mbp_array plain = laid_out(&columns[i], dtype, 1, 0),
                        flagged = laid_out(&columns[i], dtype, 1, MBP_SHARED);
        if (columns[i].shared)
            check_refused(WEIGHT, &plain, &untouched, columns[i].name);
        else
            check_like_dense(WEIGHT, &plain, columns[i].name);
        check_like_dense(WEIGHT, &flagged, columns[i].name);
    }
}

/* An initializer with forgotten strides. */
static void test_forgotten_strides(void) {
    float x[2][COLS] = {{1, 2, 3, 4}, {5, 6, 7, 8}}, y[2][COLS];
    const mbp_array a = {.data = x, .dtype = MBP_F32, .rows = 2, .cols = COLS}, out = mbp_f32(y[0], 2, COLS);
    mbp_net *net = net_new(GRAPH, NULL);
    mbp_error error = {0};
    CHECK(mbp_net_predict(net, &a, 1, &out, 1, 1, -1, &error) == MBP_INVALID &&
              strstr(error.text, "row_stride is 0 and col_stride is 0; strides are in bytes"),
          "%s", error.text);
    mbp_net_free(net);
}

/* Predictions are never written to elements that share memory, and the error does not suggest MBP_SHARED. */
static void test_shared_outputs(void) {
    mbp_net *net = net_new(GRAPH, NULL);
    const float x[ROWS * COLS] = {1, 2, 3};
    unsigned char before[POOL];
    int advised = 0;
    memcpy(before, pool, sizeof pool);
    for (int i = 0; i < LAYOUTS; i++)
        for (int flags = 0; flags <= MBP_SHARED && layouts[i].shared; flags += MBP_SHARED) {
            const mbp_array in = mbp_f32(x, layouts[i].rows, COLS), out = laid_out(&layouts[i], MBP_F32, COLS, flags);
            mbp_error error = {0};
            const mbp_status status = mbp_net_predict(net, &in, 1, &out, 1, 1, -1, &error);
            CHECK(status == MBP_INVALID && strstr(error.text, "output 0"), "%s: status %d, %s", layouts[i].name,
                  (int)status, error.text);
            advised += strstr(error.text, "MBP_SHARED") != NULL;
            CHECK(memcmp(before, pool, sizeof pool) == 0, "%s: something is written", layouts[i].name);
        }
    CHECK(advised == 0, "%d refusals of outputs suggest MBP_SHARED, which outputs do not support", advised);
    mbp_net_free(net);
}

static void test_sparse(void) {
    static const int64_t indices[ROWS * COLS + 1] = {0};
    mbp_net *net = net_new(GRAPH, NULL);
    for (int which = 0; which < 2; which++) {
        mbp_error error = {0};
        result got;
        for (int r = 0; r < ROLES; r++) {
            mbp_array a = array_at(pool + MIDDLE, MBP_F32, ROWS, r == WEIGHT ? 1 : COLS);
            if (strcmp(role_names[r], "input 0") == 0) /* inputs may be sparse: tests/c/train/test_sparse.c */
                continue;
            *(which ? &a.indptr : &a.indices) = indices;
            CHECK(use((role)r, &a, &got, &error) == MBP_UNSUPPORTED && strstr(error.text, "sparse"), "%s: %s",
                  role_names[r], error.text);
        }
        const mbp_array in = mbp_f32((float *)(void *)(pool + MIDDLE), ROWS, COLS);
        mbp_array out = mbp_f32(got.out, ROWS, COLS);
        *(which ? &out.indptr : &out.indices) = indices;
        CHECK(mbp_net_predict(net, &in, 1, &out, 1, 1, -1, &error) == MBP_UNSUPPORTED, "out: %s", error.text);
    }
    mbp_net_free(net);
}

static void test_helpers(void) {
    const float m[6] = {1, 2, 3, 4, 5, 6};
    const double d[6] = {1, 2, 3, 4, 5, 6};
    const int64_t labels[3] = {1, 2, 3};
    const struct {
        mbp_array made;
        const void *data;
        mbp_dtype dtype;
        int64_t rows, cols, item;
    } cases[] = {
        {mbp_f32(m, 2, 3), m, MBP_F32, 2, 3, 4},
        {mbp_f64(d, 3, 2), d, MBP_F64, 3, 2, 8},
        {mbp_labels(labels, 3), labels, MBP_I64, 3, 1, 8},
        {mbp_row(m, 6), m, MBP_F32, 1, 6, 4},
        {mbp_contiguous(m, MBP_U16, 2, 4, 3), m, MBP_U16, 4, 3, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const mbp_array *a = &cases[i].made;
        CHECK(a->data == cases[i].data && a->dtype == cases[i].dtype && a->rows == cases[i].rows &&
                  a->cols == cases[i].cols && a->row_stride == cases[i].cols * cases[i].item &&
                  a->col_stride == cases[i].item && !a->indptr && !a->indices && a->flags == 0,
              "case %zu", i);
    }
}

/* An output that overlaps an input, another output or the parameters is refused; an output next to them in the same
 * matrix is accepted. */
static void test_outputs_apart(void) {
    enum { ROWS = 5, WIDE = 8 };
    float m[(ROWS + 1) * WIDE] = {0};
    mbp_net *net = net_new("input 3\ndense 0 units=3\noutput 1\noutput 0\n", NULL);
    float *params = mbp_net_params(net, NULL);
    const mbp_array x = array_apart(m, MBP_F32, ROWS, 3, WIDE * 4),
                    up = array_apart(m + (ROWS - 1) * WIDE, MBP_F32, ROWS, 3, -WIDE * 4);
    const struct {
        const mbp_array *x;
        void *first, *second;
        int row_stride;
        const char *word;
    } cases[] = {
        /* the second reaches the input of the next row */
        {&x, m + 3, m + WIDE - 2, WIDE * 4, "output 1 shares memory with input 0: use separate memory"},
        {&x, m + 3, m + 5, WIDE * 4, "output 1 shares memory with output 0"},
        {&x, m + 2, m + 5, WIDE * 4, "output 0 shares memory with input 0"},
        {&x, m, m + 4, WIDE * 4, "output 0 shares memory with input 0"},
        {&x, params, m + 4, WIDE * 4, "output 0 shares memory with the net's parameters"},
        {&x, m + 4, m + 12, 3 * 4, "shares memory"},
        {&up, m + 2, m + 5, WIDE * 4, "output 0 shares memory with input 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mbp_error error;
        const mbp_array out[] = {array_apart(cases[i].first, MBP_F32, ROWS, 3, cases[i].row_stride),
                                 array_apart(cases[i].second, MBP_F32, ROWS, 3, cases[i].row_stride)};
        const mbp_status status = mbp_net_predict(net, cases[i].x, 1, out, 2, 1, -1, &error);
        CHECK(status == MBP_INVALID && strstr(error.text, cases[i].word), "outputs of case %zu: status %d, %s", i,
              (int)status, error.text);
    }
    const mbp_array next = array_apart(m + 3, MBP_F32, ROWS, 3, WIDE * 4),
                    down = array_apart(m + 5, MBP_F32, ROWS, 3, WIDE * 4);
    CHECK(mbp_net_predict(net, &x, 1, &next, 1, 0, 1, NULL) == MBP_OK, "an output next to the input is refused");
    CHECK(mbp_net_predict(net, &up, 1, &down, 1, 0, 1, NULL) == MBP_OK,
          "an output next to an input with negative strides is refused");
    mbp_net_free(net);
}

int main(void) {
    fill_pool();
    for (int dtype = MBP_F32; dtype <= MBP_F64; dtype++) {
        test_strides((mbp_dtype)dtype);
        test_one_column((mbp_dtype)dtype);
    }
    test_forgotten_strides();
    test_shared_outputs();
    test_sparse();
    test_helpers();
    test_outputs_apart();
    return report("arrays");
}
