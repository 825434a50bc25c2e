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

/* ---- products ---- */

enum { READABLE = 64 - sizeof(T) }; /* bytes past the end of b that may be read */

typedef struct sizes {
    int64_t m, n, k;
} sizes;

static T a_at(const mbp_product *p, int64_t i, int64_t k) {
    return ((const T *)p->a.at)[p->pattern == MBP_TN ? k * p->a.ld + i : i * p->a.ld + k];
}

static T b_at(const mbp_product *p, int64_t k, int64_t j) {
    return ((const T *)p->b.at)[p->pattern == MBP_NT ? j * p->b.ld + k : k * p->b.ld + j];
}

#ifdef __x86_64__
#define WITH_FMA __attribute__((target("fma"))) /* one instruction; without it a call */
#else
#define WITH_FMA
#endif

/* The documented order of additions, as simple loops. */
WITH_FMA static T fused_chain(const mbp_product *p, int64_t i, int64_t j, T start) {
    for (int64_t k = 0; k < p->k; k++)
        start = FMA(a_at(p, i, k), b_at(p, k, j), start);
    return start;
}

static T chain(const mbp_product *p, int64_t i, int64_t j, T start) {
    for (int64_t k = 0; k < p->k; k++)
        start = a_at(p, i, k) * b_at(p, k, j) + start;
    return start;
}

static T column_sum(const mbp_product *p, int64_t j, T start) {
    for (int64_t chunk = 0; chunk < p->k; chunk += MBP_LOSS_CHUNK) {
        T sum = 0;
        for (int64_t k = chunk; k < p->k && k < chunk + MBP_LOSS_CHUNK; k++)
            sum += b_at(p, k, j);
        start += sum;
    }
    return start;
}

static void run_shuffled(const mbp_kernels *kernels, const mbp_product *p, void *pack) {
    const int64_t pieces = kernels->product_pieces(p);
    int64_t *order = malloc((size_t)pieces * sizeof *order);
    for (int64_t i = 0; i < pieces; i++) {
        const int64_t j = random_below((int)i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (int64_t i = 0; i < pieces; i++)
        kernels->product_run(p, order[i], order[i] + 1, pack);
    free(order);
}

/* As many bytes as the kernels ask for, before an inaccessible page. They are NaN until the kernels write to them. */
static guarded scratch_block(const mbp_kernels *kernels, const mbp_product *p) {
    const size_t bytes = kernels->product_scratch(p);
    guarded scratch = guarded_block(bytes, 1);
    memset(scratch.at, 0xff, bytes);
    return scratch;
}

static int same(T a, T b) { return memcmp(&a, &b, sizeof a) == 0; }

static void check_product(const mbp_kernels *kernels, mbp_pattern pattern, sizes s, int from_bias, int add,
                          int at_end) {
    const int fused = strcmp(kernels->isa, "sse2") != 0;
    const size_t a_bytes = (size_t)(s.m * s.k) * sizeof(T), b_bytes = (size_t)(s.n * s.k) * sizeof(T),
                 c_bytes = (size_t)(s.m * s.n) * sizeof(T);
    guarded a = guarded_block(a_bytes, at_end), b = guarded_block(b_bytes + READABLE, at_end),
            c = guarded_block(c_bytes, at_end);
    guarded db = guarded_block((size_t)s.n * sizeof(T), at_end);
    T *bias = random_matrix(s.n + 16), *before = random_matrix(s.m * s.n), *db_before = random_matrix(s.n);
    for (size_t i = 0; i < a_bytes / sizeof(T); i++)
        ((T *)a.at)[i] = random_value();
    for (size_t i = 0; i < b_bytes / sizeof(T); i++)
        ((T *)b.at)[i] = random_value();
    memcpy(c.at, before, c_bytes);
    memcpy(db.at, db_before, (size_t)s.n * sizeof(T));
    int nonfinite = 0;
    const mbp_product p = {.pattern = pattern,
                           .m = s.m,
                           .n = s.n,
                           .k = s.k,
                           .a = {a.at, pattern == MBP_TN ? s.m : s.k},
                           .b = {b.at, pattern == MBP_NT ? s.k : s.n},
                           .c = {c.at, s.n},
                           .bias = from_bias ? bias : NULL,
                           .add = add,
                           .db = pattern == MBP_TN ? db.at : NULL,
                           .nonfinite = &nonfinite,
                           .threads = random_below(9)};
    guarded scratch = scratch_block(kernels, &p);
    run_shuffled(kernels, &p, scratch.at);
    for (int64_t i = 0; i < s.m; i++)
        for (int64_t j = 0; j < s.n; j++) {
            const T start = add         ? before[i * s.n + j]
                            : from_bias ? bias[j]
                                        : 0,
                    expected = fused ? fused_chain(&p, i, j, start) : chain(&p, i, j, start);
            CHECK(same(((T *)c.at)[i * s.n + j], expected),
                  "%s pattern %d %lldx%lldx%lld bias %d add %d at (%lld, %lld): %a, expected %a", kernels->isa, pattern,
                  (long long)s.m, (long long)s.n, (long long)s.k, from_bias, add, (long long)i, (long long)j,
                  (double)((T *)c.at)[i * s.n + j], (double)expected);
        }
    for (int64_t j = 0; p.db && j < s.n; j++)
        CHECK(same(((T *)db.at)[j], column_sum(&p, j, add ? db_before[j] : 0)),
              "%s db of %lldx%lldx%lld add %d at %lld", kernels->isa, (long long)s.m, (long long)s.n, (long long)s.k,
              add, (long long)j);
    CHECK(!nonfinite, "%s reports a non-finite gradient where there is none", kernels->isa);
    guarded_free(a), guarded_free(b), guarded_free(c), guarded_free(db), guarded_free(scratch);
    free(bias), free(before), free(db_before);
}

static void check_starts(const mbp_kernels *kernels, sizes s) {
    const int at_end = random_below(2);
    check_product(kernels, MBP_NN, s, 1, 0, at_end);
    check_product(kernels, MBP_NN, s, 0, 0, at_end);
    check_product(kernels, MBP_NT, s, 0, random_below(2), at_end);
    check_product(kernels, MBP_TN, s, 0, random_below(2), at_end);
}

/* every: checks one in `every` edge sizes. */
static void test_products(const mbp_kernels *kernels, int every) {
    static const int edge[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65};
    const int n = sizeof edge / sizeof *edge;
    for (int i = 0; i < n * n * n; i++)
        if (i % every == 0)
            check_starts(kernels, (sizes){edge[i % n], edge[i / n % n], edge[i / n / n]});
    /* several pieces in both directions, and several slices of k */
    check_starts(kernels, (sizes){150, 530, 70});
    check_starts(kernels, (sizes){7, 1030, 9});
    check_starts(kernels, (sizes){301, 5, 600});
    check_starts(kernels, (sizes){3, 40, 1100});
    /* packed operands: rows a multiple of 1 KB apart, more than L1 holds, edges in every direction */
    check_starts(kernels, (sizes){290, 70, 520});
    check_starts(kernels, (sizes){50, 256, 512});
    check_starts(kernels, (sizes){256, 150, 300});
    check_starts(kernels, (sizes){20, 300, 1024});
    check_starts(kernels, (sizes){30, 20, 512});
    check_starts(kernels, (sizes){30, 12, 512});
    check_starts(kernels, (sizes){1, 75, 1041});
    check_starts(kernels, (sizes){9, 6, 2048});
    check_starts(kernels, (sizes){2, 1100, 601}); /* a large W with few rows */
}

/* A product never needs more scratch than one with more rows, columns or steps, so a workspace has enough for any batch
 * up to the largest. Tiny products need none or little, and none needs more than 1.2 MB. */
static void test_scratch(const mbp_kernels *kernels) {
    static const int most[] = {3, 20, 300, 3000};
    for (int i = 0; i < 20000; i++) {
        const int limit = most[i % 4];
        const mbp_product p = {.pattern = (mbp_pattern)random_below(3),
                               .m = 1 + random_below(limit),
                               .n = 1 + random_below(limit),
                               .k = 1 + random_below(limit),
                               .b.ld = limit + random_below(100)};
        mbp_product fewer = p;
        fewer.m -= random_below((int)p.m), fewer.n -= random_below((int)p.n), fewer.k -= random_below((int)p.k);
        const size_t bytes = kernels->product_scratch(&p);
        CHECK(kernels->product_scratch(&fewer) <= bytes && bytes <= 1200000 && (limit > 3 || bytes <= 192),
              "%s pattern %d %lldx%lldx%lld: %zu bytes, with fewer %zu", kernels->isa, (int)p.pattern, (long long)p.m,
              (long long)p.n, (long long)p.k, bytes, kernels->product_scratch(&fewer));
    }
}

/* A NaN or an infinity anywhere in x or dz is reported with dW. */
static void test_nonfinite(const mbp_kernels *kernels) {
    enum { M = 13, N = 21, K = 5 };
    for (int place = 0; place < (M + N) * K; place++) {
        T *a = random_matrix(M * K), *b = random_matrix(N * K), *c = random_matrix(M * N), db[N];
        *(place < M * K ? &a[place] : &b[place - M * K]) = place % 2 ? (T)NAN : (T)INFINITY;
        int nonfinite = 0;
        const mbp_product p = {.pattern = MBP_TN,
                               .m = M,
                               .n = N,
                               .k = K,
                               .a = {a, M},
                               .b = {b, N},
                               .c = {c, N},
                               .db = db,
                               .nonfinite = &nonfinite};
        guarded scratch = scratch_block(kernels, &p);
        kernels->product_run(&p, 0, kernels->product_pieces(&p), scratch.at);
        guarded_free(scratch);
        CHECK(nonfinite, "%s misses a non-finite operand at %d", kernels->isa, place);
        free(a), free(b), free(c);
    }
}

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

/* Compares the map of every variant with that of the first one, and checks that NaN in gives NaN out. */
static void check_map(const char *what, int row, mbp_map maps[], int from_dy, const double *parameters) {
    for (int64_t n = 1; n <= MAP_MAX; n += n < 36 ? 1 : 17) {
        T in[MAP_SIZE], start[MAP_SIZE], first[MAP_SIZE] = {0}, out[MAP_SIZE];
        const int64_t rows = MAP_ROWS, ld = n + random_below(2);
        for (int i = 0; i < rows * ld; i++) {
            in[i] = map_input(i);
            start[i] = from_dy ? random_value() : in[i];
        }
        for (int v = 0; v < variant_count; v++) {
            memcpy(out, start, sizeof out);
            maps[v](rows, n, (mbp_view){out, ld}, (mbp_view){from_dy ? in : out, ld}, parameters);
            if (v == 0)
                memcpy(first, out, sizeof out);
            CHECK(same_all(out, first, rows * ld), "%s %d differs between %s and %s at width %lld", what, row,
                  variants[v]->isa, variants[0]->isa, (long long)n);
        }
        for (int64_t r = 0; r < rows && !from_dy; r++)
            for (int64_t j = 0; j < n; j++)
                CHECK(isnan(first[r * ld + j]) || !isnan(in[r * ld + j]), "%s %d loses NaN", what, row);
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
    mbp_map penalize[VARIANTS_MAX], mix[VARIANTS_MAX];
    for (int v = 0; v < variant_count; v++) {
        penalize[v] = variants[v]->penalize;
        mix[v] = variants[v]->mix;
    }
    check_map("penalty", 0, penalize, 1, (const double[]){0.25, 0.5});
    check_map("average", 0, mix, 1, (const double[]){0.25});
    for (int row = 0; row < OUTPUT_ACTIVATION_COUNT; row++) {
        mbp_map output[VARIANTS_MAX];
        for (int v = 0; v < variant_count; v++)
            output[v] = variants[v]->output[row];
        check_map("output activation", row, output, 0, NULL);
    }
}

static void test_losses(void) {
    for (int row = 0; row < LOSS_COUNT; row++)
        for (int64_t n = 2; n <= 40; n++) {
            enum { ROWS = 5 };
            T o[ROWS * 40], t[ROWS * 40], g[ROWS * 40], first[ROWS * 40];
            const double p0 = row == LOSS_cross_entropy && n % 2 ? 0 : 0.5;
            double weight[ROWS], value = 0;
            for (int i = 0; i < ROWS * n; i++)
                o[i] = random_value(), t[i] = (T)random_unit();
            for (int r = 0; r < ROWS; r++)
                weight[r] = random_unit();
            for (int v = 0; v < variant_count; v++) {
                const mbp_loss_rows rows = {ROWS, n, {o, n}, {t, n}, {g, n}, NULL, weight, 0.125, &p0};
                const double here = variants[v]->loss[row](&rows);
                if (v == 0)
                    value = here, memcpy(first, g, sizeof g);
                CHECK(memcmp(&here, &value, sizeof here) == 0 && memcmp(g, first, (size_t)(ROWS * n) * sizeof(T)) == 0,
                      "loss %d differs between %s and %s at width %lld: %a, %a", row, variants[v]->isa,
                      variants[0]->isa, (long long)n, here, value);
            }
        }
}

/* A chunk of rows has the same bits as its rows one by one, whether a lane holds an output or a row. */
static void test_loss_rows(const mbp_kernels *kernels) {
    enum { ROWS = 23, WIDE = 20 };
    for (int row = 0; row < LOSS_COUNT; row++)
        for (int64_t n = row == LOSS_cross_entropy ? 2 : 1; n <= WIDE; n++) {
            const double p0 = row == LOSS_cross_entropy && n % 2 ? 0 : 0.5; /* label smoothing or none */
            T o[ROWS * WIDE], t[ROWS * WIDE], together[ROWS * WIDE], alone[ROWS * WIDE];
            double weight[ROWS], sum = 0;
            int64_t labels[ROWS];
            for (int i = 0; i < ROWS * n; i++)
                o[i] = i % 7 ? random_value() : specials_finite[i % 6], t[i] = (T)random_unit();
            for (int r = 0; r < ROWS; r++)
                weight[r] = random_unit(), labels[r] = random_below((int)n);
            const int by_labels = row == LOSS_cross_entropy;
            mbp_loss_rows rows = {ROWS,   n,     {o, n}, {by_labels ? NULL : t, n}, {together, n}, labels,
                                  weight, 0.125, &p0};
            const double all = kernels->loss[row](&rows);
            rows.gradient.at = NULL;
            CHECK(kernels->loss[row](&rows) == all, "%s loss %d of width %lld depends on the gradient", kernels->isa,
                  row, (long long)n);
            for (int r = 0; r < ROWS; r++) {
                const mbp_loss_rows one = {1,
                                           n,
                                           {o + r * n, n},
                                           {by_labels ? NULL : t + r * n, n},
                                           {alone + r * n, n},
                                           labels + r,
                                           weight + r,
                                           0.125,
                                           &p0};
                sum += kernels->loss[row](&one);
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
                variants[v]->update(row, n, out[0], out[1], slots, constants, &terms);
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
        for (int64_t n = 1; variants[0]->measure[row] && n <= SIZE; n += 1 + n / 3) {
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
                variants[v]->measure[row](n, out[0], out[1], slots, constants, &terms, sums);
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
        test_scratch(variants[v]);
        test_nonfinite(variants[v]);
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
