/* Part of test_kernels.c: products whose result, or the sum for each element, is one row or one column. */

/* Compares with the chain of additions, followed by the map. Rows have gaps, which must not change. */
static void check_mapped(const mbp_kernels *kernels, mbp_pattern pattern, sizes s, int64_t gap, int add) {
    const int fused = strcmp(kernels->isa, "sse2") != 0, backward = pattern == MBP_NT;
    const int64_t a_rows = pattern == MBP_TN ? s.k : s.m, a_ld = (pattern == MBP_TN ? s.m : s.k) + gap,
                  b_rows = pattern == MBP_NT ? s.n : s.k, b_ld = (pattern == MBP_NT ? s.k : s.n) + gap, ld = s.n + gap;
    T *a = random_matrix(a_rows * a_ld), *b = random_matrix(b_rows * b_ld + MBP_LOSS_CHUNK),
      *c = random_matrix(s.m * ld), *y = random_matrix(s.m * ld), *bias = random_matrix(s.n + MBP_LOSS_CHUNK),
      *expected = malloc((size_t)(s.m * ld) * sizeof(T));
    const int activation = random_below(2) ? ACTIVATION_tanh : ACTIVATION_relu;
    const mbp_map map = pattern == MBP_TN ? NULL
                        : backward        ? kernels->backward[activation]
                                          : kernels->forward[activation];
    int nonfinite = 0;
    for (int64_t i = 0; activation == ACTIVATION_relu && i < s.m * ld; i += 5)
        y[i] = i % 3 == 0 ? 0 : i % 3 == 1 ? (T)-0.0 : (T)NAN;
    const mbp_product p = {.pattern = pattern,
                           .m = s.m,
                           .n = s.n,
                           .k = s.k,
                           .a = {a, a_ld},
                           .b = {b, b_ld},
                           .c = {c, ld},
                           .bias = pattern == MBP_NN && !add ? bias : NULL,
                           .add = add,
                           .map = map,
                           .map_out = {c, ld},
                           .map_in = {backward ? y : c, ld},
                           .nonfinite = pattern == MBP_TN ? &nonfinite : NULL,
                           .threads = random_below(4)};
    memcpy(expected, c, (size_t)(s.m * ld) * sizeof(T));
    for (int64_t i = 0; i < s.m; i++)
        for (int64_t j = 0; j < s.n; j++) {
            const T start = add ? c[i * ld + j] : p.bias ? bias[j] : 0;
            expected[i * ld + j] = fused ? fused_chain(&p, i, j, start) : chain(&p, i, j, start);
        }
    const mbp_view to = {expected, ld}, from = {backward ? y : expected, ld};
    if (map)
        kernels->map(map, s.m, s.n, to, from, NULL);
    guarded scratch = scratch_block(kernels, &p);
    run_shuffled(kernels, &p, scratch.at);
    CHECK(memcmp(c, expected, (size_t)(s.m * ld) * sizeof(T)) == 0, "%s pattern %d %lldx%lldx%lld gap %lld add %d",
          kernels->isa, (int)pattern, (long long)s.m, (long long)s.n, (long long)s.k, (long long)gap, add);
    CHECK(!nonfinite, "%s reports a non-finite gradient where there is none", kernels->isa);
    guarded_free(scratch);
    free(a), free(b), free(c), free(y), free(bias), free(expected);
}

/* Few rows and a large W: with rows that do or do not share cache sets, with widths and depths that do not fill the
 * last vector or step, and a W that comes from memory. */
static void test_few_rows(const mbp_kernels *kernels) {
    static const sizes all[] = {
        {1, 170, 211}, {2, 170, 213}, {3, 163, 211}, {1, 1100, 70}, {3, 256, 256}, {1, 3, 20000}, {1, 70, 3},
        {1, 45, 1024}, {1, 19, 2048}, {1, 40, 1023}, {1, 16, 2},    {1, 33, 19},   {1, 35, 2051},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        check_starts(kernels, all[i]);
        for (int add = 0; add < 2; add++) {
            check_mapped(kernels, MBP_NN, all[i], random_below(9), add);
            check_mapped(kernels, MBP_NT, all[i], random_below(2), add);
        }
    }
    check_mapped(kernels, MBP_NT, (sizes){1, 37, 21}, (9 << 20) / 16, 0);
}

/* One step of k or one column. */
static void test_one_step(const mbp_kernels *kernels) {
    static const sizes all[] = {{5, 9, 1},    {40, 301, 1}, {150, 64, 1}, {3, 5000, 1},
                                {90, 1, 500}, {71, 1, 13},  {7, 1, 9}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        check_starts(kernels, all[i]);
        for (int how = 0; how < 8; how++)
            for (int pattern = MBP_NN; pattern <= MBP_TN; pattern++)
                check_mapped(kernels, (mbp_pattern)pattern, all[i], how / 2 % 2 * 3, how % 2);
    }
}
