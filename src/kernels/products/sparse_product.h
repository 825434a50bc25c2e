/* Part of kernels.c: products of sparse rows with a matrix. The rows of b that a row names come from memory, in which
 * they are far apart, so each is read from its first to its last element, SWEEP_ROWS_OF_B side by side. */

enum { SWEEP_ROWS_OF_B = 4 };

/* c += value[0] b[column[0]] + ... over whole vectors of n columns, entry by entry. */
static HOT void add_rows(int64_t n, T *c, const T *b, int64_t ldb, const int32_t *column, const T *value,
                         int64_t count) {
    int64_t i = 0;
    for (; i + SWEEP_ROWS_OF_B <= count; i += SWEEP_ROWS_OF_B) {
        const T *row[SWEEP_ROWS_OF_B];
        vr x[SWEEP_ROWS_OF_B];
        EACH(k, SWEEP_ROWS_OF_B) {
            row[k] = b + column[i + k] * ldb;
            x[k] = value[i + k] - (vr){0};
        }
        for (int64_t j = 0; j < n; j += VL) {
            vr sum = load(c + j);
            EACH(k, SWEEP_ROWS_OF_B)
                sum = fma_vector(x[k], load(row[k] + j), sum);
            store(c + j, sum);
        }
    }
    for (; i < count; i++) {
        const T *const row = b + column[i] * ldb;
        const vr x = value[i] - (vr){0};
        for (int64_t j = 0; j < n; j += VL)
            store(c + j, fma_vector(x, load(row + j), load(c + j)));
    }
}

/* The columns from `j` on, whole vectors of them, of row r. `c`: where they are. Returns 0 in lanes that are finite. */
static __attribute__((noinline)) vr sparse_row(const mbp_sparse_product *p, int64_t r, int64_t j, int64_t n, T *c) {
    const int64_t first = p->a.start[r], count = p->a.start[r + 1] - first;
    const T *const bias = p->bias ? (const T *)p->bias + j : NULL;
    vr bad = {0};
    for (int64_t k = 0; k < n && !p->add; k += VL)
        store(c + k, bias ? load(bias + k) : (vr){0});
    add_rows(n, c, (const T *)p->b.at + j, p->b.ld, p->a.column + first, (const T *)p->a.value + first, count);
    for (int64_t k = 0; k < n; k += VL) {
        vr sum = load(c + k);
        if (count < p->k) /* a zero that is added makes 0 of -0 */
            store(c + k, sum = sum + (vr){0});
        bad += sum - sum;
    }
    return bad;
}

static HOT void sparse_product(const mbp_sparse_product *p, int64_t first, int64_t last) {
    const int64_t whole = p->n / VL * VL, rest = p->n - whole;
    int is_bad = 0;
    for (int64_t r = first; r < last; r++) {
        T *const c = element(p->c, p->place ? p->place[r] : r, 0);
        if (whole)
            is_bad |= !is_zero(sparse_row(p, r, 0, whole, c));
#ifndef ONE_LANE
        if (rest) {
            T own[VL] = {0};
            copy_few(VL, rest, c + whole, own);
            is_bad |= !is_zero(first_lanes(sparse_row(p, r, whole, VL, own), rest));
            copy_few(VL, rest, own, c + whole);
        }
#else
        (void)rest;
#endif
    }
    if (is_bad && p->nonfinite)
        __atomic_store_n(p->nonfinite, 1, __ATOMIC_RELAXED);
}
