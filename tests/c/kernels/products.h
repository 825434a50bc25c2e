/* Part of test_kernels.c: the three products of a dense layer. */

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

/* A product whose c has neighbours on both sides and rows above and below, none of which may change. */
static void check_neighbours(const mbp_kernels *kernels, mbp_product p, int with_relu) {
    enum { MARGIN = 3 };
    const int fused = strcmp(kernels->isa, "sse2") != 0;
    const int64_t a_rows = p.pattern == MBP_TN ? p.k : p.m, a_columns = p.pattern == MBP_TN ? p.m : p.k,
                  b_rows = p.pattern == MBP_NT ? p.n : p.k, b_columns = p.pattern == MBP_NT ? p.k : p.n;
    p.a.ld = a_columns + random_below(3), p.b.ld = b_columns + random_below(3), p.c.ld = p.n + 2 * MARGIN;
    const int64_t size = (p.m + 2) * p.c.ld;
    T *a = random_matrix(a_rows * p.a.ld), *b = random_matrix(b_rows * p.b.ld), *c = random_matrix(size),
      *bias = random_matrix(p.n), *db = random_matrix(p.n + 1), *expected = malloc((size_t)size * sizeof(T)), db_end;
    int nonfinite = 0;
    p.a.at = a, p.b.at = b, p.c.at = c + p.c.ld + MARGIN, p.nonfinite = p.pattern == MBP_TN ? &nonfinite : NULL;
    p.bias = p.pattern == MBP_NN && !p.add ? bias : NULL, p.db = p.pattern == MBP_TN ? db : NULL, db_end = db[p.n];
    if (with_relu)
        p.map = kernels->forward[ACTIVATION_relu], p.map_out = p.map_in = p.c;
    memcpy(expected, c, (size_t)size * sizeof(T));
    for (int64_t i = 0; i < p.m; i++)
        for (int64_t j = 0; j < p.n; j++) {
            T *const at = &expected[(i + 1) * p.c.ld + MARGIN + j], start = p.add ? *at : p.bias ? bias[j] : 0;
            *at = fused ? fused_chain(&p, i, j, start) : chain(&p, i, j, start);
            *at = with_relu && *at < 0 ? 0 : *at;
        }
    guarded scratch = scratch_block(kernels, &p);
    run_shuffled(kernels, &p, scratch.at);
    CHECK(memcmp(c, expected, (size_t)size * sizeof(T)) == 0 && same(db[p.n], db_end) && !nonfinite,
          "%s pattern %d %lldx%lldx%lld add %d relu %d threads %d: wrong, or neighbours changed", kernels->isa,
          (int)p.pattern, (long long)p.m, (long long)p.n, (long long)p.k, p.add, with_relu, p.threads);
    guarded_free(scratch);
    free(a), free(b), free(c), free(bias), free(db), free(expected);
}

/* Every width up to two of the widest vectors and one column, every height up to more than a tile. */
static void test_widths(const mbp_kernels *kernels) {
    for (int64_t n = 1; n <= 2 * (64 / (int64_t)sizeof(T)) + 1; n++)
        for (int64_t m = 1; m <= 9; m++)
            for (int i = 0; i < 12; i++)
                check_neighbours(kernels,
                                 (mbp_product){.pattern = (mbp_pattern)(i % 3),
                                               .m = m,
                                               .n = n,
                                               .k = 1 + random_below(i < 6 ? 9 : 70),
                                               .add = i / 3 % 2,
                                               .threads = 1 + random_below(3)},
                                 i >= 6 && i % 3 == MBP_NN);
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
        kernels->product_run(&p, 0, INT64_MAX, scratch.at);
        guarded_free(scratch);
        CHECK(nonfinite, "%s misses a non-finite operand at %d", kernels->isa, place);
        free(a), free(b), free(c);
    }
}
