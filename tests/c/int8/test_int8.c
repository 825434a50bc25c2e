/* Networks of whole numbers: sums and roundings are exact on every instruction set and for any number of rows; steps that
 * do not fit are refused; after a reserve no prediction allocates, and a failed allocation changes nothing. */
#include "api.h"
#include "counter.h"

enum { MOST = 300, ROWS = 67 };

typedef struct two {
    mbp_int8_step step[3];
    int8_t weight[MOST * MOST], second[MOST];
    int32_t start[MOST], second_start;
    float scale[MOST], second_scale, x[ROWS * MOST];
} two;
static two t;

/* columns - units with relu - 1. */
static void make(int64_t columns, int64_t units) {
    const size_t size = sizeof *t.step;
    for (int64_t i = 0; i < units * columns; i++)
        t.weight[i] = (int8_t)(random_below(255) - 127);
    for (int64_t u = 0; u < units; u++) {
        t.start[u] = random_below(200000) - 100000, t.scale[u] = (float)random_unit() * 1e-4f;
        t.second[u] = (int8_t)(random_below(255) - 127);
    }
    for (int64_t i = 0; i < ROWS * columns; i++)
        t.x[i] = (float)(random_unit() * 320 - 30); /* some are cut off */
    t.x[0] = NAN, t.x[1 % columns] = 3.5f;
    t.second_start = 77, t.second_scale = 0.25f;
    t.step[0] = (mbp_int8_step){.size = size, .operation = "quantize", .positions = 1, .width = columns, .inverse = 1};
    t.step[1] = (mbp_int8_step){.size = size,
                                .operation = "dense",
                                .positions = 1,
                                .width = units,
                                .weight = t.weight,
                                .start = t.start,
                                .scale = t.scale,
                                .activation = "relu",
                                .inverse = 90,
                                .zero = 3};
    t.step[2] = (mbp_int8_step){.size = size,
                                .operation = "dense",
                                .positions = 1,
                                .width = 1,
                                .weight = t.second,
                                .start = &t.second_start,
                                .scale = &t.second_scale};
}

static int cut(float value, int zero) {
    const float low = (float)-zero, high = (float)(255 - zero);
    value = value > low ? value : low;
    return (int)rintf(value < high ? value : high) + zero;
}

static float expected(int64_t columns, int64_t units, const float *x) {
    int32_t sum = t.second_start;
    for (int64_t u = 0; u < units; u++) {
        int32_t of_unit = t.start[u];
        for (int64_t k = 0; k < columns; k++)
            of_unit += t.weight[u * columns + k] * cut(x[k], 0);
        const float z = (float)of_unit * t.scale[u];
        sum += t.second[u] * cut((z > 0 ? z : 0) * 90, 3);
    }
    return (float)sum * t.second_scale;
}

static void test_products(const char *isa) {
    static const int64_t shapes[][2] = {{1, 1}, {3, 16}, {4, 17}, {5, 63}, {64, 64}, {127, 80}, {130, 129}, {300, 300}};
    mbp_error error;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int64_t columns = shapes[i][0], units = shapes[i][1];
        mbp_int8 *net = NULL;
        make(columns, units);
        CHECK(mbp_int8_create(&net, t.step, 3, NULL, NULL, NULL, OPTIONS(.isa = isa), &error) == MBP_OK, "%s",
              error.text);
        for (int64_t rows = 1; rows <= ROWS; rows += rows < 14 ? 1 : 53) {
            float y[ROWS];
            const mbp_array x = mbp_f32(t.x, rows, columns), out = mbp_f32(y, rows, 1);
            CHECK(mbp_int8_predict(net, &x, &out, 0, &error) == MBP_OK, "%s", error.text);
            for (int64_t r = 0; r < rows; r++) {
                const float right = expected(columns, units, t.x + r * columns);
                CHECK(y[r] == right, "%s %lldx%lld, row %lld of %lld: %g instead of %g", isa, (long long)columns,
                      (long long)units, (long long)r, (long long)rows, (double)y[r], (double)right);
            }
        }
        mbp_int8_free(net);
    }
}

static void test_extremes(void) { /* the largest sums that fit */
    mbp_int8 *net = NULL;
    mbp_error error;
    float y = 0;
    make(300, 1);
    memset(t.weight, 127, 300);
    t.start[0] = INT32_MAX - 255 * 127 * 300;
    t.scale[0] = 1, t.step[1].inverse = 1, t.step[1].zero = 0, t.second[0] = 1, t.second_start = 0, t.second_scale = 1;
    for (int i = 0; i < 300; i++)
        t.x[i] = 1000;
    const mbp_array x = mbp_f32(t.x, 1, 300), out = mbp_f32(&y, 1, 1);
    OK(mbp_int8_create(&net, t.step, 3, NULL, NULL, NULL, NULL, &error));
    OK(mbp_int8_predict(net, &x, &out, 0, &error));
    CHECK(y == 255, "%g", (double)y);
    mbp_int8_free(net), net = NULL;
    t.start[0]++;
    CHECK(mbp_int8_create(&net, t.step, 3, NULL, NULL, NULL, NULL, &error) == MBP_INVALID && !net,
          "a sum may overflow");
}

static void test_memory(void) {
    counter c = {0};
    const mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_int8 *net = NULL;
    mbp_error error;
    float y[ROWS];
    make(130, 129);
    const mbp_array x = mbp_f32(t.x, ROWS, 130), out = mbp_f32(y, ROWS, 1);
    for (c.fail_at = 1; c.fail_at < 3; c.fail_at++, c.calls = 0)
        CHECK(mbp_int8_create(&net, t.step, 3, NULL, NULL, NULL, OPTIONS(.allocator = &allocator), &error) ==
                      MBP_NO_MEMORY &&
                  !net && !c.live,
              "a failed create");
    c.fail_at = 0;
    OK(mbp_int8_create(&net, t.step, 3, NULL, NULL, NULL, OPTIONS(.allocator = &allocator), &error));
    c.fail_at = 1, c.calls = 0;
    CHECK(mbp_int8_predict(net, &x, &out, 0, &error) == MBP_NO_MEMORY, "no memory");
    c.calls = 0;
    CHECK(mbp_int8_reserve(net, ROWS, &error) == MBP_NO_MEMORY, "no memory");
    c.fail_at = 0;
    OK(mbp_int8_reserve(net, ROWS, &error));
    CHECK(mbp_int8_bytes(net) >= c.live && mbp_int8_bytes(net) < c.live + 2 * 64, "%zu bytes, %zu live",
          mbp_int8_bytes(net), c.live);
    c.calls = 0;
    OK(mbp_int8_predict(net, &x, &out, 0, &error));
    CHECK(!c.calls, "a prediction allocated");
    mbp_int8_free(net);
    CHECK(!c.live, "%zu bytes are left", c.live);
}

static void test_refusals(void) {
    mbp_int8 *net = NULL;
    mbp_error error;
    float y[ROWS];
#define REFUSED(change, words) \
    make(4, 3); \
    change; \
    CHECK(mbp_int8_create(&net, t.step, 3, NULL, NULL, NULL, NULL, &error) == MBP_INVALID && !net && \
              strcmp(error.text, words) == 0, \
          "%s: %s", #change, error.text)
    REFUSED(t.step[1].size = 0, "mbp_int8_step.size is 0: set it to sizeof(mbp_int8_step)");
    REFUSED(t.step[0].operation = "dense", "step 0: operation must be quantize for the first step, dense for the last, "
                                           "and dense, window or pool for the others");
    REFUSED(t.step[2].operation = "pool", "step 2: operation must be quantize for the first step, dense for the last, "
                                          "and dense, window or pool for the others");
    REFUSED(t.step[1].zero = 256, "step 1: zero is 256, but must be 0 to 255");
    REFUSED(t.step[0].positions = 2, "step 0: positions is 2, but must be 1: width counts all columns");
    REFUSED(t.step[1].positions = 3, "step 1: positions is 3, but must divide the 4 numbers before it");
    REFUSED(t.step[1].width = 0, "step 1: positions 1 and width 0 must be at least 1, and together below 2^31");
    REFUSED(t.step[1].scale = NULL, "step 1: scale is NULL");
    REFUSED(t.weight[5] = -128, "step 1: weight of unit 1 has a -128, but must be -127 to 127");
    REFUSED(t.start[2] = INT32_MIN,
            "step 1: the sum of unit 2 may not fit 32 bits: make its start or its weights smaller");
    REFUSED((t.step[1].operation = "pool", t.step[1].operand[0] = 9),
            "step 1: operand must be the height, width and columns of the 4 numbers before it");
    make(4, 3);
    CHECK(mbp_int8_create(&net, t.step, 3, "nonsense", NULL, NULL, NULL, &error) == MBP_INVALID, "an activation");
    CHECK(mbp_int8_create(&net, t.step, 3, NULL, &(double){0}, NULL, NULL, &error) == MBP_INVALID, "std is NULL");
    CHECK(mbp_int8_create(&net, t.step, 3, NULL, NULL, NULL, OPTIONS(.isa = "no"), &error) == MBP_UNSUPPORTED, "isa");
    OK(mbp_int8_create(&net, t.step, 3, NULL, NULL, NULL, NULL, &error));
    const mbp_array x = mbp_f32(t.x, 2, 4), wide = mbp_f32(t.x, 2, 5), out = mbp_f32(y, 2, 1),
                    same = mbp_f32(t.x, 2, 1);
    CHECK(mbp_int8_predict(net, &wide, &out, 0, &error) == MBP_INVALID, "too wide");
    CHECK(mbp_int8_predict(net, &x, &same, 0, &error) == MBP_INVALID, "memory is shared");
    CHECK(mbp_int8_predict(net, &x, &out, 2, &error) == MBP_INVALID, "raw");
    CHECK(mbp_int8_reserve(net, 0, &error) == MBP_INVALID, "no rows");
    mbp_int8_free(net);
}

int main(void) {
    for (int i = 0; mbp_isa_name(i); i++)
        if (mbp_isa_runs(i))
            test_products(mbp_isa_name(i));
    test_extremes();
    test_memory();
    test_refusals();
    return report("int8");
}
