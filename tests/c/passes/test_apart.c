/* Outputs that share memory with other arrays: many arrays are answered like each pair of them, in time that does not
 * grow with the number of pairs. */
#include "api.h"

#include <string.h>

#include "passes/apart.h"

enum { OUTPUTS = 40, INPUTS = 10, ARRAYS = OUTPUTS + INPUTS, ROWS = 4, LAYOUTS = 6, POOL = 8192 };

static char pool[2 * POOL];

static mbp_net *net_of(int inputs, int outputs) {
    char *text = malloc((size_t)(inputs + outputs) * 60 + 60), *end = text;
    for (int i = 0; i < inputs; i++)
        end += sprintf(end, "input 1\n");
    for (int i = 0; i < outputs; i++)
        end += sprintf(end, "activation 0 relu\noutput %d\n", inputs + i);
    mbp_net *net = net_new(text, NULL);
    free(text);
    return net;
}

/* The array number i of a layout. 0: one after the other; 1: columns of one matrix; 2: columns of several matrices with
 * the same stride; 3: rows of one matrix, upwards; 4: one column of a matrix, and single elements of others; 5: any. */
static mbp_array array_of(int layout, int i, int rows) {
    static const int wide = ARRAYS * 8;
    char *at = pool + POOL / 4;
    switch (layout) {
    case 0: return array_apart(at + i * 40, MBP_F32, rows, 2, 8);
    case 1: return array_apart(at + i * 4, MBP_F32, rows, 1, wide);
    case 2: return array_apart(at + i % 2 * 2000 + i * 4, MBP_F32, rows, 1, wide);
    case 3: return array_apart(at + i * 40 + (rows - 1) * 8, MBP_F32, rows, 2, -8);
    case 4: return array_apart(at + (i ? i % 3 * 800 + 8 + i * 12 : 0), MBP_F32, i ? 1 : rows, 1, 800);
    default:
        return array_apart(at + random_below(1 << 10) * 4, MBP_F32, rows, 1 + random_below(2),
                           rows == 1 ? 0 : (random_below(2) ? 8 : -8) * (1 + random_below(20)));
    }
}

static int overlap(const mbp_array *a, const mbp_array *b) {
    const mbp_extent x = mbp_array_extent(a), y = mbp_array_extent(b);
    return mbp_extents_overlap(&x, &y);
}

static int pair_overlaps(const mbp_array *x, const mbp_array *out) {
    for (int i = 0; i < OUTPUTS; i++) {
        for (int k = 0; k < INPUTS; k++)
            if (overlap(&out[i], &x[k]))
                return 1;
        for (int k = 0; k < i; k++)
            if (overlap(&out[i], &out[k]))
                return 1;
    }
    return 0;
}

/* Arrays in a random order, some of them moved by some bytes. */
static void test_pairs(void) {
    mbp_net *net = net_of(INPUTS, OUTPUTS);
    int found[LAYOUTS][2] = {{0}};
    for (int trial = 0; trial < 6000; trial++) {
        const int layout = trial % LAYOUTS, rows = random_below(8) ? ROWS : random_below(3),
                  moved = random_below(3) ? 0 : 1;
        mbp_array arrays[ARRAYS];
        for (int i = 0; i < ARRAYS; i++)
            arrays[i] = array_of(layout, i, rows);
        for (int i = ARRAYS - 1; i > 0; i--) {
            const int k = random_below(i + 1);
            const mbp_array other = arrays[k];
            arrays[k] = arrays[i], arrays[i] = other;
        }
        if (moved) {
            mbp_array *one = &arrays[random_below(ARRAYS)];
            one->data = layout == 4 ? pool + POOL / 4 + random_below(4) * 800
                                    : (const char *)one->data + 4 * (random_below(16) - 8);
        }
        if (random_below(2)) /* inputs may share memory with each other */
            arrays[1] = arrays[0];
        mbp_error error = {0};
        const mbp_array *x = arrays, *out = arrays + INPUTS;
        const int overlap = pair_overlaps(x, out);
        const mbp_status status = mbp_outputs_apart(net, x, out, OUTPUTS, &error);
        found[layout][overlap]++;
        CHECK(status == (overlap ? MBP_INVALID : MBP_OK), "layout %d, trial %d: status %d, %s", layout, trial,
              (int)status, error.text);
        CHECK(!overlap || strstr(error.text, "shares memory with"), "%s", error.text);
    }
    for (int layout = 0; layout < LAYOUTS - 1; layout++)
        CHECK(found[layout][0] && found[layout][1], "layout %d: %d are apart, %d are not", layout, found[layout][0],
              found[layout][1]);
    CHECK(found[LAYOUTS - 1][1], "no array of any layout overlaps");
    mbp_net_free(net);
}

/* Many outputs beside the parameters: the last one reaches into them. */
static void test_parameters(void) {
    mbp_net *net = net_new("input 1\ndense 0 units=1\noutput 1\n", NULL);
    mbp_error error = {0};
    mbp_array x = array_at(pool, MBP_F32, 2, 1), out[OUTPUTS];
    for (int i = 0; i < OUTPUTS; i++)
        out[i] = array_at(pool + 64 + 8 * i, MBP_F32, 2, 1);
    OK(mbp_outputs_apart(net, &x, out, OUTPUTS, &error));
    out[OUTPUTS - 1].data = (const float *)mbp_net_params(net, NULL) + 1;
    CHECK(mbp_outputs_apart(net, &x, out, OUTPUTS, &error) == MBP_INVALID &&
              strstr(error.text, "output 39 shares memory with the net's parameters"),
          "%s", error.text);
    mbp_net_free(net);
}

/* The least processor time of three. layout 0: separate outputs; 1: columns of one matrix. */
static double seconds_for(int outputs, int layout) {
    mbp_net *net = net_of(1, outputs);
    mbp_array x = array_new(MBP_F32, 2, 1), y = array_new(MBP_F32, 2, outputs),
              *out = calloc((size_t)outputs, sizeof *out);
    double least = 1e9;
    for (int i = 0; i < outputs; i++)
        out[i] = layout ? array_apart((const float *)y.data + i, MBP_F32, 2, 1, y.row_stride)
                        : array_at((const float *)y.data + 2 * i, MBP_F32, 2, 1);
    for (int repeat = 0; repeat < 3; repeat++) {
        const double start = cpu_seconds();
        OK(mbp_outputs_apart(net, &x, out, outputs, &error));
        const double taken = cpu_seconds() - start;
        least = taken < least ? taken : least;
    }
    free(out), array_free(&x), array_free(&y), mbp_net_free(net);
    return least;
}

static void test_growth(void) {
    for (int layout = 0; layout < 2; layout++) {
        const double few = seconds_for(4000, layout), many = seconds_for(16000, layout);
        printf("layout %d: %.2f ms for 4,000 outputs, %.2f ms for 16,000\n", layout, 1e3 * few, 1e3 * many);
        CHECK(many < 9 * few + .005, "layout %d: %g s, then %g s", layout, few, many);
    }
}

int main(void) {
    test_pairs();
    test_parameters();
    test_growth();
    return report("apart");
}
