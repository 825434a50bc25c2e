/* No byte outside the caller's arrays is read or written. Each array ends at an inaccessible page, or starts right
 * after one, in all layouts (contiguous rows, rows apart, rows in reverse order, another dtype), for odd widths and
 * small batches, on every variant that runs here. Nothing is written between rows that are apart. */
#include "api.h"

typedef enum layout { DENSE, APART, REVERSE, OTHER_DTYPE, LAYOUTS } layout;
enum { GAP = 3, CANARY = 0xA5, WIDTH_MAX = 33, ROWS_MAX = 9, ARRAYS_MAX = 12 };

typedef struct guarded_array {
    guarded block;
    mbp_array array;
    size_t bytes;
} guarded_array;

/* An array of `value`s between guard pages, with CANARY bytes in its gaps. There is no gap after the last row. */
static guarded_array guard(mbp_dtype dtype, int64_t rows, int64_t cols, layout l, int at_end, double value) {
    const int64_t item = (int64_t)item_of(dtype), gap = l == APART || l == REVERSE ? GAP : 0,
                  stride = (cols + gap) * item;
    guarded_array g = {.bytes = (size_t)((rows - 1) * stride + cols * item)};
    g.block = guarded_block(g.bytes, at_end);
    memset(g.block.at, CANARY, g.bytes);
    g.array = array_apart(g.block.at, dtype, rows, cols, stride);
    if (l == REVERSE) {
        g.array.data = (char *)g.block.at + (rows - 1) * stride;
        g.array.row_stride = -stride;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < cols; j++)
            array_set(&g.array, r, j, value);
    return g;
}

static mbp_dtype other_dtype(mbp_dtype dtype) { return dtype == MBP_F32 ? MBP_F64 : MBP_F32; }

/* All values are 1, which every loss accepts as a target. */
static guarded_array guard_input(mbp_dtype dtype, int64_t rows, int64_t cols, layout l, int at_end) {
    return guard(l == OTHER_DTYPE ? other_dtype(dtype) : dtype, rows, cols, l, at_end, 1);
}

static guarded_array guard_output(mbp_dtype dtype, int64_t rows, int64_t cols, layout l, int at_end) {
    return guard(dtype, rows, cols, l, at_end, 0);
}

/* Whether the gaps still have only CANARY bytes. */
static int gaps_intact(const guarded_array *g) {
    const mbp_array *a = &g->array;
    const size_t row = (size_t)a->cols * item_of(a->dtype), stride = (size_t)llabs((long long)a->row_stride);
    for (size_t i = 0; i < g->bytes; i++)
        if (i % stride >= row && ((unsigned char *)g->block.at)[i] != CANARY)
            return 0;
    return 1;
}

/* A graph in which all kinds of nodes read the inputs and give the outputs. */
static const char shapes[] = "input %d\n"
                             "input %d\n"
                             "multiply 0 1\n"
                             "add 0 1\n"
                             "activation 0 gelu\n"
                             "concat 0 1\n"
                             "dense 5 units=%d activation=silu\n"
                             "add 6 2\n"
                             "add 7 3\n"
                             "multiply 8 4\n"
                             "dense 0 units=%d\n"
                             "output 9\n"
                             "output 10 activation=sigmoid\n"
                             "output 5\n"
                             "output 2\n"
                             "output 3\n"
                             "output 4\n"
                             "output 6\n";
enum { OUTPUTS = 7, CONCAT = 2 };

static mbp_net *shapes_net(int width, mbp_dtype dtype, const char *isa) {
    char text[600];
    snprintf(text, sizeof text, shapes, width, width, width, width);
    return net_new(text, OPTIONS(.dtype = dtype, .isa = isa));
}

/* Different losses for each turn; cross_entropy and kl only for several columns, gaussian_nll only for an even number
 * of them. Each loss chooses its output activation. columns: of the targets. */
static mbp_trainer *shapes_trainer(mbp_net *net, int width, int turn, int64_t columns[OUTPUTS]) {
    const char *losses[OUTPUTS];
    int count = 0;
    while (mbp_formula_name(MBP_LOSS, count))
        count++;
    for (int i = 0; i < OUTPUTS; i++) {
        losses[i] = mbp_formula_name(MBP_LOSS, (turn + i) % count);
        const int wide = i == CONCAT ? 2 * width : width;
        const int has_classes = strcmp(losses[i], "cross_entropy") == 0 || strcmp(losses[i], "kl") == 0;
        if ((wide == 1 && has_classes) || mbp_loss_target_columns(losses[i], wide, &columns[i], NULL) != MBP_OK)
            losses[i] = "mse", columns[i] = wide;
        OK(mbp_net_set_output(net, i, NULL, &error));
    }
    return trainer_new(net, losses, NULL, mbp_formula_name(MBP_OPTIMIZER, turn % 5));
}

static void check_predictions(mbp_net *net, const mbp_array *x, int rows, int width, layout l, int at_end) {
    const mbp_dtype dtype = mbp_net_dtype(net);
    for (int raw = 0; raw < 2; raw++) {
        guarded_array out[OUTPUTS];
        mbp_array arrays[OUTPUTS];
        for (int i = 0; i < OUTPUTS; i++) {
            out[i] = guard_output(dtype, rows, i == CONCAT ? 2 * width : width, l, (at_end + i) % 2);
            arrays[i] = out[i].array;
        }
        OK(mbp_net_predict(net, x, 2, arrays, OUTPUTS, raw, -1, &error));
        for (int i = 0; i < OUTPUTS; i++) {
            CHECK(gaps_intact(&out[i]), "%s: predict writes between the rows of output %d, width %d, rows %d",
                  mbp_net_isa(net), i, width, rows);
            guarded_free(out[i].block);
        }
    }
    for (int node = 0; node < mbp_net_nodes(net); node++) {
        guarded_array out = guard_output(dtype, rows, mbp_net_node_width(net, node), l, at_end);
        OK(mbp_net_predict(net, x, 2, &out.array, 1, 0, node, &error));
        CHECK(gaps_intact(&out), "%s: predict writes between the rows of node %d, width %d, rows %d", mbp_net_isa(net),
              node, width, rows);
        guarded_free(out.block);
    }
}

static void check_training(mbp_net *net, const mbp_array *x, int rows, int width, layout l, int at_end) {
    const mbp_dtype dtype = mbp_net_dtype(net);
    int64_t columns[OUTPUTS];
    mbp_trainer *trainer = shapes_trainer(net, width, width + rows + (int)l, columns);
    guarded_array y[OUTPUTS], gradient[OUTPUTS],
        weight = guard(l == OTHER_DTYPE ? MBP_F32 : MBP_F64, rows, 1, l, at_end, 1);
    guarded_array index = guard(MBP_I64, rows, 1, DENSE, at_end, 0),
                  rates = guard(MBP_F64, rows, 1, DENSE, at_end, 1e-6);
    mbp_array targets[OUTPUTS], gradients[OUTPUTS];
    for (int i = 0; i < OUTPUTS; i++) {
        const int cols = i == CONCAT ? 2 * width : width;
        targets[i] = (y[i] = guard_input(dtype, rows, columns[i], l, (at_end + i) % 2)).array;
        gradients[i] = (gradient[i] = guard_input(dtype, rows, cols, l, (at_end + i) % 2)).array;
    }
    const mbp_batch batch = {
        .size = sizeof batch, .x = x, .n_x = 2, .y = targets, .n_y = OUTPUTS, .weight = &weight.array};
    double loss;
    int64_t steps;
    for (int64_t r = 0; r < rows; r++)
        array_set(&index.array, r, 0, (double)(rows - 1 - r));
    OK(mbp_trainer_step(trainer, &batch, &loss, &error));
    OK(mbp_trainer_backward(trainer, &batch, HOW(.input_grads = 1), &loss, &error));
    OK(mbp_trainer_evaluate(trainer, &batch, &loss, &error));
    const int batch_rows = 1 + rows / 3, step_count = (rows + batch_rows - 1) / batch_rows;
    const double *lr = (const double *)rates.array.data + (at_end ? rows - step_count : 0); /* one per step, no more */
    OK(mbp_trainer_epoch(trainer, &batch, index.array.data, rows, batch_rows, lr, NULL, NULL, &loss, &steps, &error));
    OK(mbp_trainer_epoch(trainer, &batch, NULL, rows, batch_rows, lr, NULL, NULL, &loss, &steps, &error));
    OK(mbp_trainer_forward(trainer, x, 2, &error));
    OK(mbp_trainer_backward_from(trainer, gradients, OUTPUTS, NULL, &error));
    for (int i = 0; i < OUTPUTS; i++)
        guarded_free(y[i].block), guarded_free(gradient[i].block);
    guarded_free(weight.block), guarded_free(index.block), guarded_free(rates.block);
    mbp_trainer_free(trainer);
}

/* All rows and both ends for every width with tests/long, else a third of them. */
static void test_shapes(const char *isa, mbp_dtype dtype) {
    const int step = is_long() ? 1 : 3;
    for (int width = 1; width <= WIDTH_MAX; width++) {
        mbp_net *net = shapes_net(width, dtype, isa);
        for (int turn = width % step; turn < ROWS_MAX * 2; turn += step) {
            const int rows = turn / 2 + 1, at_end = turn % 2;
            const layout l = (layout)((width + turn / 2) % LAYOUTS);
            for (int other = 0; other < 2; other++) { /* dense arrays, and one other layout for each turn */
                const layout here = other ? l : DENSE;
                guarded_array x[2] = {guard_input(dtype, rows, width, here, at_end),
                                      guard_input(dtype, rows, width, here, !at_end)};
                const mbp_array arrays[2] = {x[0].array, x[1].array};
                check_predictions(net, arrays, rows, width, here, at_end);
                check_training(net, arrays, rows, width, here, at_end);
                guarded_free(x[0].block), guarded_free(x[1].block);
            }
        }
        mbp_net_free(net);
    }
}

/* Labels of every integer type, at every offset from an aligned address. */
static void test_labels(mbp_dtype dtype) {
    static const mbp_dtype types[] = {MBP_I8, MBP_U8, MBP_I16, MBP_U16, MBP_I32, MBP_U32, MBP_I64, MBP_U64};
    static const int size[] = {1, 1, 2, 2, 4, 4, 8, 8};
    enum { ROWS = 5 };
    mbp_net *net = net_new("input 3\ndense 0 units=4\noutput 1\n", OPTIONS(.dtype = dtype));
    mbp_trainer *trainer = trainer_new(net, (const char *[]){"cross_entropy"}, NULL, "sgd");
    mbp_array x = array_new(dtype, ROWS, 3);
    array_fill(&x, -1, 1);
    for (int t = 0; t < 8; t++)
        for (int offset = 0; offset < 8; offset++)
            for (int at_end = 0; at_end < 2; at_end++) {
                guarded g = guarded_block((size_t)(ROWS * size[t] + offset), at_end);
                const mbp_array y = mbp_contiguous((char *)g.at + (at_end ? 0 : offset), types[t], size[t], ROWS, 1);
                const mbp_batch batch = mbp_batch_of(&x, &y);
                double loss;
                OK(mbp_trainer_step(trainer, &batch, &loss, &error)); /* all labels 0 */
                guarded_free(g);
            }
    mbp_trainer_free(trainer), mbp_net_free(net);
    array_free(&x);
}

int main(void) {
    for (int i = 0; mbp_isa_name(i); i++) {
        printf("%s: %s\n", mbp_isa_name(i), mbp_isa_runs(i) ? "runs" : "does not run on this processor");
        for (int d = 0; d < 2 && mbp_isa_runs(i); d++)
            test_shapes(mbp_isa_name(i), d ? MBP_F64 : MBP_F32);
    }
    test_labels(MBP_F32);
    test_labels(MBP_F64);
    return report("guards");
}
