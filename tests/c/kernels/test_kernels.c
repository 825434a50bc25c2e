/* The kernels of every variant that runs here, compiled for one dtype (MBP_DOUBLE or not).
 *   - Products have the bits of a scalar loop of fused multiply-adds (on SSE2, which has none: of multiplications and
 *     additions), for all patterns, edge sizes, starts and slices of k, with pieces in random order. Operands end at
 *     an inaccessible page, or start after one: b may be read 63 bytes past its end, a and c may not.
 *   - Activations, output activations, losses and updates have the same bits on all variants, in place or not, at any
 *     width. NaN in gives NaN out. */
#include "check.h"
#include "kernels/kernels.h"

#ifdef MBP_DOUBLE
typedef double T;
#define FMA fma
#define DTYPE MBP_F64
#define EMULATED mbp_kernels_avx512_by_avx2_f64
#else
typedef float T;
#define FMA fmaf
#define DTYPE MBP_F32
#define EMULATED mbp_kernels_avx512_by_avx2_f32
#endif

#ifdef HAVE_EMULATED
extern const mbp_kernels EMULATED;
#endif

enum { VARIANTS_MAX = 8 };
static const mbp_kernels *variants[VARIANTS_MAX];
static int variant_count;

static void collect_variants(void) {
    for (int i = 0; mbp_isa_name(i); i++) {
        if (mbp_isa_runs(i))
            variants[variant_count++] = mbp_kernels_find(mbp_isa_name(i), DTYPE);
        printf("%s: %s\n", mbp_isa_name(i), mbp_isa_runs(i) ? "runs" : "does not run on this processor");
    }
#ifdef HAVE_EMULATED
    if (mbp_kernels_find("avx2", DTYPE)) {
        variants[variant_count++] = &EMULATED;
        printf("avx512_by_avx2: runs\n");
    }
#endif
}

static T random_value(void) { return (T)((random_unit() - 0.5) * (random_below(8) ? 2 : 2000)); }

static T *random_matrix(int64_t count) {
    T *m = malloc((size_t)count * sizeof(T) + MBP_LOSS_CHUNK);
    for (int64_t i = 0; i < count; i++)
        m[i] = random_value();
    return m;
}

static int same(T a, T b) { return memcmp(&a, &b, sizeof a) == 0; }

#include "products.h"
#include "single_rows.h"

/* ---- elementwise ---- */

static const T specials[] = {0,   (T)-0.0, 1,    -1,  3,    -3,      (T)1e-30, (T)-1e-30, 88,        -88, 90,
                             -90, 104,     -104, 1e4, -1e4, (T)1e30, (T)-1e30, INFINITY,  -INFINITY, NAN};
enum { SPECIALS = sizeof specials / sizeof *specials, MAP_ROWS = 3, MAP_MAX = 70, MAP_SIZE = MAP_ROWS * (MAP_MAX + 1) };

static const T specials_finite[] = {0, (T)-0.0, 90, -90, (T)1e30, 1};

static T map_input(int i) { return i < SPECIALS ? specials[i] : random_value(); }

/* Equal bits, or both NaN: the sign and the payload of a NaN are not specified. */
static int same_all(const T *a, const T *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!same(a[i], b[i]) && !(isnan(a[i]) && isnan(b[i])))
            return 0;
    return 1;
}

/* Compares the map of every variant (maps NULL: its output activation) with that of the first one, in place and not. NaN in gives NaN out, and nothing
 * changes between the rows. */
static void check_map(const char *what, int row, mbp_map maps[], int from_dy, const double *parameters) {
    for (int64_t n = 1; n <= MAP_MAX; n += n < 41 ? 1 : 17) {
        T in[MAP_SIZE], start[MAP_SIZE], first[MAP_SIZE] = {0}, out[MAP_SIZE];
        const int64_t rows = MAP_ROWS, ld = n + random_below(2);
        for (int i = 0; i < rows * ld; i++) {
            in[i] = map_input(i);
            start[i] = from_dy ? random_value() : in[i];
        }
        for (int run = 0; run < variant_count * (from_dy ? 1 : 2); run++) {
            const int v = run % variant_count, in_place = !from_dy && run < variant_count;
            memcpy(out, start, sizeof out);
            const mbp_view to = {out, ld}, from = {in_place ? out : in, ld};
            if (maps)
                variants[v]->map(maps[v], rows, n, to, from, parameters);
            else
                variants[v]->output[row](rows, n, to, from);
            if (run == 0)
                memcpy(first, out, sizeof out);
            CHECK(same_all(out, first, rows * ld), "%s %d differs between %s and %s at width %lld", what, row,
                  variants[v]->isa, variants[0]->isa, (long long)n);
        }
        for (int64_t i = 0; i < rows * ld; i++)
            CHECK(i % ld < n || same_all(first + i, start + i, 1), "%s %d writes beside its rows", what, row);
        for (int64_t r = 0; r < rows && !from_dy; r++)
            for (int64_t j = 0; j < n; j++)
                CHECK(isnan(first[r * ld + j]) || !isnan(in[r * ld + j]), "%s %d loses NaN", what, row);
    }
}

/* The functions of two matrices have the bits of one operation of C per element, in place and not, and where b is one
 * row for all. */
static void test_binaries(const mbp_kernels *kernels) {
    for (int64_t n = 1; n <= MAP_MAX; n += n < 41 ? 1 : 17) {
        T a[MAP_SIZE], b[MAP_SIZE], sum[MAP_SIZE], difference[MAP_SIZE], product[MAP_SIZE];
        const int64_t ld = n + random_below(2), b_ld = random_below(2) ? ld : 0;
        for (int i = 0; i < MAP_SIZE; i++)
            a[i] = sum[i] = difference[i] = map_input(i), b[i] = map_input(MAP_SIZE - 1 - i), product[i] = 7;
        const mbp_view x = {a, ld}, y = {b, b_ld}, minus = {difference, ld}, plus = {sum, ld}, times = {product, ld};
        kernels->binary(kernels->add, MAP_ROWS, n, plus, plus, y);
        kernels->binary(kernels->subtract, MAP_ROWS, n, minus, minus, y);
        kernels->binary(kernels->multiply, MAP_ROWS, n, times, x, y);
        for (int64_t i = 0; i < MAP_ROWS * ld; i++) {
            const T left = a[i], right = b[i / ld * b_ld + i % ld];
            const T expected[] = {left + right, left - right, left * right}, beside[] = {left, left, 7};
            const T found[] = {sum[i], difference[i], product[i]};
            CHECK(same_all(found, i % ld < n ? expected : beside, 3), "%s, width %lld: %g and %g give %g %g %g",
                  kernels->isa, (long long)n, (double)left, (double)right, (double)found[0], (double)found[1],
                  (double)found[2]);
        }
    }
}

static void test_maps(void) {
    for (int row = 0; row < ACTIVATION_COUNT; row++) {
        static const double parameters[2] = {0.25, 0.5};
        mbp_map forward[VARIANTS_MAX], backward[VARIANTS_MAX];
        for (int v = 0; v < variant_count; v++) {
            forward[v] = variants[v]->forward[row];
            backward[v] = variants[v]->backward[row];
        }
        check_map("activation", row, forward, 0, parameters);
        check_map("derivative", row, backward, 1, parameters);
    }
    mbp_map penalize[VARIANTS_MAX], mix[VARIANTS_MAX], negate[VARIANTS_MAX];
    for (int v = 0; v < variant_count; v++) {
        penalize[v] = variants[v]->penalize;
        mix[v] = variants[v]->mix;
        negate[v] = variants[v]->negate;
    }
    check_map("negation", 0, negate, 0, NULL);
    check_map("penalty", 0, penalize, 1, (const double[]){0.25, 0.5});
    check_map("average", 0, mix, 1, (const double[]){0.25, 0});
    for (int row = 0; row < OUTPUT_ACTIVATION_COUNT; row++)
        check_map("output activation", row, NULL, 0, NULL);
}

static int takes_labels(int row) { return row == LOSS_cross_entropy || row == LOSS_kl; }
static int least_step(int row) { return row == LOSS_gaussian_nll ? 2 : 1; }
static int least_width(int row) { return takes_labels(row) ? 2 : least_step(row); }

/* Every width up to 40, and several blocks of a long row; rows with and without gaps, weights, labels, a gradient. What
 * lies between the rows of the gradient must not change. */
static void test_losses(void) {
    enum { ROWS = 21, WIDEST = 600 };
    static T o[ROWS * WIDEST], t[ROWS * WIDEST], g[ROWS * WIDEST], first[ROWS * WIDEST];
    for (int row = 0; row < LOSS_COUNT; row++)
        for (int64_t n = least_width(row); n <= WIDEST - 2; n += n < 40 ? least_step(row) : WIDEST - 42)
            for (int way = 0; way < 6; way++) {
                const int64_t ld = n + way % 3, count = way % 2 ? ROWS : 1 + n % 6;
                const int labelled = takes_labels(row) && way >= 3;
                double weight[ROWS], value = 0,
                                     p[] = {row == LOSS_cross_entropy && way % 2 ? 0 : 0.5, 1.5, way % 3 ? 0 : 1.5};
                int64_t labels[ROWS];
                for (int64_t i = 0; i < ROWS * ld; i++)
                    o[i] = i % 7 ? random_value() : specials_finite[i % 6], t[i] = (T)random_unit();
                for (int r = 0; r < ROWS; r++)
                    weight[r] = random_unit(), labels[r] = random_below((int)n);
                for (int v = 0; v < variant_count; v++) {
                    for (int64_t i = 0; i < ROWS * ld; i++)
                        g[i] = 77;
                    mbp_loss_rows rows = {count, n, {o, ld}, {t, ld}, {g, ld}, labels, weight, 0.125, p, NULL, n};
                    rows.target.at = labelled ? NULL : t;
                    rows.gradient.at = way == 4 ? NULL : g, rows.weight = way % 2 ? weight : NULL;
                    const double here = mbp_loss_of(variants[v], row)(&rows);
                    if (v == 0)
                        value = here, memcpy(first, g, sizeof g);
                    CHECK(same_all(g, first, ROWS * ld) && (here == value || (isnan(here) && isnan(value))),
                          "loss %d differs: %s, %s at width %lld, way %d: %a, %a", row, variants[v]->isa,
                          variants[0]->isa, (long long)n, way, here, value);
                }
                for (int64_t i = 0; i < ROWS * ld; i++)
                    CHECK(way == 4 || (i < count * ld && i % ld < n) || g[i] == 77,
                          "loss %d of width %lld writes beside its rows", row, (long long)n);
            }
}

/* A chunk of rows has the same bits as its rows one by one, whether a lane holds an output or a row. */
static void test_loss_rows(const mbp_kernels *kernels) {
    enum { ROWS = 23, WIDE = 20 };
    T o[ROWS * WIDE], t[ROWS * WIDE], together[ROWS * WIDE], alone[ROWS * WIDE];
    for (int row = 0; row < LOSS_COUNT; row++)
        for (int64_t n = least_width(row); n <= WIDE; n += least_step(row)) {
            double weight[ROWS], sum = 0, p[] = {row == LOSS_cross_entropy && n % 2 ? 0 : 0.5, 1.5, n % 3 ? 0 : 1.5};
            int64_t labels[ROWS];
            for (int i = 0; i < ROWS * n; i++)
                o[i] = i % 7 ? random_value() : specials_finite[i % 6], t[i] = (T)random_unit();
            for (int r = 0; r < ROWS; r++)
                weight[r] = random_unit(), labels[r] = random_below((int)n);
            const int by_labels = takes_labels(row);
            mbp_loss_rows rows = {ROWS, n,    {o, n}, {by_labels ? NULL : t, n}, {together, n}, labels, weight, 0.125,
                                  p,    NULL, n};
            const double all = mbp_loss_of(kernels, row)(&rows);
            rows.gradient.at = NULL;
            CHECK(mbp_loss_of(kernels, row)(&rows) == all, "%s loss %d of width %lld depends on the gradient",
                  kernels->isa, row, (long long)n);
            for (int r = 0; r < ROWS; r++) {
                const mbp_view target = {by_labels ? NULL : t + r * n, n};
                const mbp_loss_rows one = {1,     n, {o + r * n, n}, target, {alone + r * n, n}, labels + r, weight + r,
                                           0.125, p, NULL,           n};
                sum += mbp_loss_of(kernels, row)(&one);
            }
            CHECK(sum == all && same_all(alone, together, ROWS * n),
                  "%s loss %d of width %lld: rows together differ from rows alone", kernels->isa, row, (long long)n);
        }
}

static void test_updates(void) {
    for (int row = 0; row < OPTIMIZER_COUNT; row++)
        for (int64_t n = 1; n <= 67; n++) {
            T state[5][67], first[5][67], out[5][67];
            static const double constants[MBP_CONSTANTS_MAX] = {0.125, 0.5, 0.25, 0.75, 0.3, 0.7, 0.2, 0.1};
            for (int s = 0; s < 5; s++)
                for (int i = 0; i < 67; i++)
                    state[s][i] = s < 2 ? random_value() : (T)random_unit();
            const mbp_terms terms = {.scale = n % 2 ? 0.9 : 1, .bound = n % 2 ? 0.5 : INFINITY, .decay = 0.01};
            for (int v = 0; v < variant_count; v++) {
                memcpy(out, state, sizeof out);
                void *slots[MBP_SLOTS_MAX] = {out[2], out[3], out[4]};
                variants[v]->training->update(row, n, out[0], out[1], slots, constants, &terms);
                if (v == 0)
                    memcpy(first, out, sizeof out);
                CHECK(memcmp(out, first, sizeof out) == 0, "update %d differs between %s and %s at length %lld", row,
                      variants[v]->isa, variants[0]->isa, (long long)n);
                CHECK(memcmp(out[1], state[1], sizeof state[1]) == 0, "update %d writes its gradient", row);
            }
        }
}

/* The first pass of optimizers with a trust ratio: slots and sums, over several blocks. */
static void test_measures(void) {
    enum { SIZE = 2500 };
    for (int row = 0; row < OPTIMIZER_COUNT; row++)
        for (int64_t n = 1; variants[0]->training->measure[row] && n <= SIZE; n += 1 + n / 3) {
            T state[5][SIZE], first[5][SIZE], out[5][SIZE];
            double sums[2], first_sums[2] = {0};
            static const double constants[MBP_CONSTANTS_MAX] = {0.125, 0.5, 0.25, 0.75, 0.3, 0.7, 0.2, 0.1};
            const mbp_terms terms = {.scale = n % 2 ? 0.9 : 1, .bound = n % 2 ? 0.5 : INFINITY, .decay = 0.01};
            for (int s = 0; s < 5; s++)
                for (int i = 0; i < SIZE; i++)
                    state[s][i] = s < 2 ? random_value() : (T)random_unit();
            for (int v = 0; v < variant_count; v++) {
                memcpy(out, state, sizeof out);
                void *slots[MBP_SLOTS_MAX] = {out[2], out[3], out[4]};
                variants[v]->training->measure[row](n, out[0], out[1], slots, constants, &terms, sums);
                if (v == 0)
                    memcpy(first, out, sizeof out), memcpy(first_sums, sums, sizeof sums);
                CHECK(memcmp(out, first, sizeof out) == 0 && memcmp(sums, first_sums, sizeof sums) == 0,
                      "measure %d differs between %s and %s at length %lld", row, variants[v]->isa, variants[0]->isa,
                      (long long)n);
                CHECK(memcmp(out, state, sizeof state[0] * 2) == 0, "measure %d writes more than slots", row);
                CHECK(sums[0] == variants[v]->sum_squares(n, out[0]),
                      "measure %d: another sum of squares at length %lld", row, (long long)n);
            }
        }
}

static void test_finite(const mbp_kernels *kernels) {
    T v[600];
    for (int n = 0; n <= 600; n += 1 + n / 8) {
        for (int i = 0; i < n; i++)
            v[i] = random_value();
        CHECK(kernels->finite(n, v), "%s calls %d finite elements infinite", kernels->isa, n);
        if (n == 0)
            continue;
        v[random_below(n)] = random_below(2) ? (T)NAN : -(T)INFINITY;
        CHECK(!kernels->finite(n, v), "%s misses a non-finite element of %d", kernels->isa, n);
    }
}

/* The documented order of additions, and the same bits on all variants. */
static void test_sum_squares(const mbp_kernels *kernels) {
    T v[300];
    for (int n = 0; n <= 300; n += 1 + n / 20) {
        double s[16] = {0};
        for (int i = 0; i < n; i++) {
            v[i] = random_value();
            s[i % 16] += (double)v[i] * (double)v[i];
        }
        for (int half = 8; half; half /= 2)
            for (int l = 0; l < half; l++)
                s[l] += s[l + half];
        const double sum = kernels->sum_squares(n, v);
        CHECK(sum == s[0], "%s: the sum of %d squares is %a, expected %a", kernels->isa, n, sum, s[0]);
    }
}

/* Compares with a loop over single columns; memory next to the columns must not change. */
static void test_limit_columns(const mbp_kernels *kernels) {
    for (int64_t n = 1; n <= 70; n += n < 36 ? 5 : 17)
        for (int64_t rows = 1; rows <= 12; rows += 4) {
            const int64_t ld = n + random_below(2);
            T *w = random_matrix(rows * ld), *expected = random_matrix(rows * ld);
            memcpy(expected, w, (size_t)(rows * ld) * sizeof(T));
            for (int64_t j = 0; j < n; j++) {
                double squares = 0;
                for (int64_t r = 0; r < rows; r++)
                    squares += (double)w[r * ld + j] * (double)w[r * ld + j];
                for (int64_t r = 0; r < rows && sqrt(squares) > 0.7; r++)
                    expected[r * ld + j] *= (T)(0.7 / sqrt(squares));
            }
            kernels->limit_columns(rows, n, (mbp_view){w, ld}, 0.7);
            CHECK(memcmp(w, expected, (size_t)(rows * ld) * sizeof(T)) == 0, "%s: limited norms of %lldx%lld",
                  kernels->isa, (long long)rows, (long long)n);
            free(w), free(expected);
        }
}

int main(void) {
    collect_variants();
    for (int v = 0; v < variant_count; v++) {
        test_products(variants[v], is_long() ? 1 : 7);
        test_few_rows(variants[v]);
        test_one_step(variants[v]);
        test_widths(variants[v]);
        test_scratch(variants[v]);
        test_nonfinite(variants[v]);
        test_binaries(variants[v]);
        test_finite(variants[v]);
        test_sum_squares(variants[v]);
        test_limit_columns(variants[v]);
        test_loss_rows(variants[v]);
    }
    test_maps();
    test_losses();
    test_updates();
    test_measures();
    return report(sizeof(T) == 8 ? "kernels, float64" : "kernels, float32");
}
