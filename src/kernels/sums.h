/* Part of kernels.c: sums over many elements, and functions that depend on such sums. */

enum { LANES = ROW_BLOCK };

#if MICROBP_TRAINING
#if MICROBP_SMALL
static int all_finite(int64_t n, const void *v) {
    const T *x = v;
    int64_t j = 0;
    while (j < n && x[j] - x[j] == 0)
        j++;
    return j == n;
}
#else
static int all_finite(int64_t n, const void *v) {
    const T *x = v;
    T bad[LANES] = {0}; /* x - x is 0, but NaN for NaN and infinities */
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES)
        for (int l = 0; l < LANES; l++)
            bad[l] += x[j + l] - x[j + l];
    for (; j < n; j++)
        bad[0] += x[j] - x[j];
    return row_sum(bad) == 0;
}
#endif

/* Adds n squares to 16 partial sums. The square of a float cannot overflow a double. */
static __attribute__((noinline)) void add_squares(int64_t n, const T *x, double s[LANES]) {
    int64_t j = 0;
#define SQUARE_OF(i) ((double)x[j + (i)] * (double)x[j + (i)])
    for (; !MICROBP_SMALL && j + 4 * LANES <= n; j += 4 * LANES) /* the sums are stored between the blocks */
        for (int l = 0; l < LANES; l++)
            s[l] = s[l] + SQUARE_OF(l) + SQUARE_OF(l + LANES) + SQUARE_OF(l + 2 * LANES) + SQUARE_OF(l + 3 * LANES);
    for (; !MICROBP_SMALL && j + LANES <= n; j += LANES)
        for (int l = 0; l < LANES; l++)
            s[l] += SQUARE_OF(l);
#undef SQUARE_OF
    for (; j < n; j++)
        s[j % LANES] += (double)x[j] * (double)x[j];
}

static double sum_squares(int64_t n, const void *v) {
    double s[LANES] = {0};
    add_squares(n, v, s);
    return sum_lanes(s);
}

#if MICROBP_SMALL
static void limit_columns(int64_t rows, int64_t n, mbp_view w, double limit) {
    for (int64_t j = 0; j < n; j++) {
        T *const column = (T *)w.at + j;
        double squares = 0;
        for (int64_t r = 0; r < rows; r++)
            squares += (double)column[r * w.ld] * (double)column[r * w.ld];
        const double norm = __builtin_sqrt(squares);
        for (int64_t r = 0; norm > limit && r < rows; r++)
            column[r * w.ld] *= (T)(limit / norm);
    }
}
#else
static void limit_columns(int64_t rows, int64_t n, mbp_view w, double limit) {
    for (int64_t first = 0; first < n; first += MBP_COLUMN_BLOCK) {
        const int64_t count = n - first < MBP_COLUMN_BLOCK ? n - first : MBP_COLUMN_BLOCK;
        T *const block = (T *)w.at + first, factor[MBP_COLUMN_BLOCK];
        double squares[MBP_COLUMN_BLOCK] = {0};
        int above = 0;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < count; j++)
                squares[j] += (double)block[r * w.ld + j] * (double)block[r * w.ld + j];
        for (int64_t j = 0; j < count; j++) {
            const double norm = __builtin_sqrt(squares[j]);
            factor[j] = norm > limit ? (T)(limit / norm) : 1;
            above |= norm > limit;
        }
        for (int64_t r = 0; above && r < rows; r++)
            for (int64_t j = 0; j < count; j++)
                block[r * w.ld + j] *= factor[j];
    }
}
#endif
#endif
