/* Part of kernels.c: the products whose result is a row or a column, and the column sums of a product. */

typedef struct piece {
    int64_t row, rows, column, columns;
} piece;

#if !MICROBP_SMALL
enum {
    ROW_STEPS = VB == 64 ? LINE : LANES_16,
    /* Two vectors of rows of W, a multiple of this many bytes apart, have more than 8 lines in a cache set. */
    ROW_APART = VL > 8 ? 2048 : 4096,
    /* A larger W comes from memory, which delivers VL rows at a time faster than 2 VL: 1x2048x4096 NT 10 -> 12 GB/s. */
    ROW_FAR_BYTES = 16 << 20,
    /* Steps in one sweep over a row of c, and vectors at once. 4 steps, or 4 vectors, were up to 15 % slower if W comes
     * from L3 or memory. Software prefetch halved the speed from L3. */
    SWEEP_STEPS = 8,
    SWEEP_VECTORS = 2,
    SWEEP_COLUMNS = 4 * VL,
    SWEEP_BYTES = 128 << 10, /* a smaller W comes from L1 or L2, where strips are as fast */
};

/* acc += the row a times VL rows of b, for `steps` steps of k. Each element of b is used only once, so b is transposed
 * in registers and not packed. */
static inline __attribute__((always_inline)) vr add_line(vr acc, const T *a, const T *b, int64_t ldb, const int steps) {
    UNROLL
    for (int k = 0; k < steps; k += LANES_16) {
        vr w[LANES_16];
        transpose(w, b + k, ldb);
        EACH(i, LANES_16)
            acc = fma_vector(a[k + i] - (vr){0}, w[i], acc);
    }
    return acc;
}

/* add_line for the steps from `k` to `end`. The last steps use a part of the last LANES_16 of them. */
static HOT vr add_steps(vr acc, const T *a, const T *b, int64_t ldb, int64_t k, int64_t end) {
    for (; k + ROW_STEPS <= end; k += ROW_STEPS)
        acc = add_line(acc, a + k, b + k, ldb, ROW_STEPS);
    for (; k + LANES_16 <= end; k += LANES_16)
        acc = add_line(acc, a + k, b + k, ldb, LANES_16);
    vr w[LANES_16];
    if (k < end && end >= LANES_16)
        transpose(w, b + end - LANES_16, ldb);
    else
        for (int64_t i = k; i < end; i++)
            for (int l = 0; l < VL; l++)
                w[LANES_16 - end + i][l] = b[l * ldb + i];
    for (; k < end; k++)
        acc = fma_vector(a[k] - (vr){0}, w[LANES_16 - end + k], acc);
    return acc;
}

static inline vr row_start(const strip *t, const T *c) {
    return t->from == FROM_C ? load(c) : t->from == FROM_BIAS ? *t->bias - (vr){0} : (vr){0};
}

/* run_row for two vectors of c at a time: one chain of additions is slower than the transposition. */
static HOT int64_t run_row_pairs(const strip *t, const T *a, const T *b, int64_t ldb, T *c, int64_t whole) {
    int64_t j = 0;
    for (; j + 2 * VL <= whole; j += 2 * VL) {
        const T *const row = b + j * ldb, *const below = row + VL * ldb;
        vr acc = row_start(t, c + j), next = row_start(t, c + j + VL);
        int64_t k = 0;
        for (; k + ROW_STEPS <= t->k; k += ROW_STEPS) {
            acc = add_line(acc, a + k, row + k, ldb, ROW_STEPS);
            next = add_line(next, a + k, below + k, ldb, ROW_STEPS);
        }
        store(c + j, add_steps(acc, a, row, ldb, k, t->k));
        store(c + j + VL, add_steps(next, a, below, ldb, k, t->k));
    }
    return j;
}

/* run_row for rows of b that share cache sets: side by side they would displace each other. So the two vectors of c are
 * half a row apart: while the steps from `half` on are added to one of them, those before `half` are added to the next.
 * 1x1024x1024 NT 8 -> 13. */
static HOT int64_t run_row_halves(const strip *t, const T *a, const T *b, int64_t ldb, T *c, int64_t whole) {
    const int64_t page = 4096 / (int64_t)sizeof(T), middle = t->k / 2 / ROW_STEPS * ROW_STEPS;
    const int64_t half = middle && middle % page == 0 ? middle - 4 * LINE : middle;
    vr next = whole ? add_steps(row_start(t, c), a, b, ldb, 0, half) : (vr){0};
    for (int64_t j = 0; j < whole; j += VL) {
        const T *const row = b + j * ldb, *const below = row + VL * ldb;
        const int more = j + VL < whole;
        int64_t k = 0;
        vr acc = next;
        if (more)
            next = row_start(t, c + j + VL);
        for (; more && k < half; k += ROW_STEPS) {
            acc = add_line(acc, a + half + k, row + half + k, ldb, ROW_STEPS);
            next = add_line(next, a + k, below + k, ldb, ROW_STEPS);
        }
        store(c + j, add_steps(acc, a, row, ldb, half + k, t->k));
    }
    return whole;
}

/* c = start + the row a times the rows of b, for a vector of columns or more. The last one may overlap the one before.
 * From L1 it reaches 47 GB/s on Zen 3, and transposition alone 60: 16 elements take 6 shuffles or insertions. Packing
 * W^T in blocks of L1 was 30 % slower, and 3 or 4 vectors at a time up to 25 %. */
static void run_row(const strip *t, const T *a, const T *b, int64_t ldb, T *c, int64_t columns) {
    const int64_t whole = columns / VL * VL, end = columns - VL, bytes = span(columns, ldb);
    const vr last = row_start(t, c + end);
    int64_t j = 0;
    if (bytes <= L1_BYTES || (span(1, ldb) % ROW_APART && bytes <= ROW_FAR_BYTES))
        j = run_row_pairs(t, a, b, ldb, c, whole);
    else if (bytes <= ROW_FAR_BYTES)
        j = run_row_halves(t, a, b, ldb, c, whole);
    for (; j < whole; j += VL)
        store(c + j, add_steps(row_start(t, c + j), a, b + j * ldb, ldb, 0, t->k));
    if (whole < columns)
        store(c + end, add_steps(last, a, b + end * ldb, ldb, 0, t->k));
}

/* c += x b for some vectors of columns, where x holds a few steps of a row. */
static inline __attribute__((always_inline)) void sweep_vectors(T *c, const vr x[SWEEP_STEPS], const T *b, int64_t ldb,
                                                                const int steps, const int vectors) {
    vr acc[SWEEP_VECTORS];
    EACH(v, vectors)
        acc[v] = load(c + v * VL);
    EACH(k, steps)
        EACH(v, vectors)
            acc[v] = fma_vector(x[k], load(b + k * ldb + v * VL), acc[v]);
    EACH(v, vectors)
        store(c + v * VL, acc[v]);
}

/* c += a b for a few steps of a row. The last vector of columns that is not whole is in `end`. */
static inline __attribute__((always_inline)) void sweep_row(const T *a, const T *b, int64_t ldb, T *c, T *end,
                                                            int64_t columns, const int steps) {
    const int64_t whole = columns / VL * VL;
    vr x[SWEEP_STEPS];
    EACH(s, steps)
        x[s] = a[s] - (vr){0};
    int64_t j = 0;
    for (; j + SWEEP_VECTORS * VL <= whole; j += SWEEP_VECTORS * VL)
        sweep_vectors(c + j, x, b + j, ldb, steps, SWEEP_VECTORS);
    for (; j < whole; j += VL)
        sweep_vectors(c + j, x, b + j, ldb, steps, 1);
    if (j < columns)
        sweep_vectors(end, x, b + j, ldb, steps, 1);
}

/* c += a b for a few rows, SWEEP_STEPS steps at a time: W is read in the order of memory, and by the rows after the
 * first from L1 or L2. c stays in L1. */
static HOT void run_sweep(const strip *t, const T *a, T *c, int64_t ldc, T *end, int64_t columns, int64_t rows) {
    int64_t k = 0;
    for (; k + SWEEP_STEPS <= t->k; k += SWEEP_STEPS)
        for (int64_t i = 0; i < rows; i++)
            sweep_row(a + i * t->a_row + k, t->b + k * t->ldb, t->ldb, c + i * ldc, end + i * VL, columns, SWEEP_STEPS);
    for (; k < t->k; k++)
        for (int64_t i = 0; i < rows; i++)
            sweep_row(a + i * t->a_row + k, t->b + k * t->ldb, t->ldb, c + i * ldc, end + i * VL, columns, 1);
}

/* Whether sweeps compute a piece: few rows use a large W once. 1x1024x1024 NN 20 -> 26, 1x4096x4096 NN 5 -> 8. */
static int sweeps(const mbp_product *p, piece q) {
    return p->pattern == MBP_NN && q.rows <= SWEEP_ROWS && q.columns >= SWEEP_COLUMNS &&
           span(p->k, p->b.ld) > SWEEP_BYTES;
}

/* Computes a piece. Each sweep continues the chains of additions in c. */
static void run_sweeps(const mbp_product *p, piece q) {
    const strip t = {.b = element(p->b, 0, q.column), .ldb = p->b.ld, .k = p->k, .a_row = p->a.ld};
    const int64_t whole = q.columns / VL * VL;
    const T *const bias = p->bias ? (const T *)p->bias + q.column : NULL;
    T *const c = element(p->c, q.row, q.column), end[SWEEP_ROWS * VL];
    for (int64_t i = 0; i < q.rows; i++) {
        T *const row = c + i * p->c.ld, *const rest = end + i * VL;
        store(rest, bias && whole < q.columns ? load(bias + whole) : (vr){0});
        for (int64_t j = 0; !p->add && j < whole; j += VL)
            store(row + j, bias ? load(bias + j) : (vr){0});
        for (int64_t j = whole; p->add && j < q.columns; j++)
            rest[j - whole] = row[j];
    }
    run_sweep(&t, element(p->a, q.row, 0), c, p->c.ld, end, q.columns, q.rows);
    for (int64_t i = 0; i < q.rows; i++)
        for (int64_t j = whole; j < q.columns; j++)
            c[i * p->c.ld + j] = end[i * VL + j - whole];
    if (p->map)
        map_rows(p->map, q.rows, q.columns, view_at(p->map_out, q.row, q.column), view_at(p->map_in, q.row, q.column),
                 p->parameters);
}

/* One row of an outer product: c = start + x b, for a vector of columns or more. The start values are from[j & mask].
 * The last vector may overlap the one before. Returns as run_tiles does. */
static inline vr run_outer_row(T x, const T *b, const T *from, int64_t mask, T *c, int64_t columns) {
    const int64_t end = columns - VL;
    const vr a = x - (vr){0}, last = fma_vector(a, load(b + end), load(from + (end & mask)));
    vr bad = last - last;
    for (int64_t j = 0; j < end; j += VL) {
        const vr z = fma_vector(a, load(b + j), load(from + (j & mask)));
        bad = (vr)((vi)bad | (vi)(z - z)); /* a sum would be a slow chain */
        store(c + j, z);
    }
    store(c + end, last);
    return bad;
}

#define HAS_RELU_DERIVATIVE (MICROBP_TRAINING && (!MICROBP_FORMULAS || MICROBP_HAS_relu))
#if HAS_RELU_DERIVATIVE
static int is_relu_derivative(const mbp_product *p) {
    return p->pattern == MBP_NT && p->map == backward_relu && p->map_out.at == p->c.at && !p->add && !p->nonfinite;
}

/* run_outer_row without start values, and then backward_relu; y: outputs of relu. c is stored only once: a step of
 * 4-500-1 takes 0.9 of the time (Zen 4). */
static inline void run_outer_row_relu(T x, const T *b, const T *y, T *c, int64_t columns) {
    const int64_t end = columns - VL;
    const vr a = x - (vr){0}, zero = {0};
    for (int64_t j = 0; j < end; j += VL)
        store(c + j, (vr)(~(vi)(load(y + j) <= 0) & (vi)fma_vector(a, load(b + j), zero)));
    store(c + end, (vr)(~(vi)(load(y + end) <= 0) & (vi)fma_vector(a, load(b + end), zero)));
}
#endif

/* Whether a piece is an outer product whose b is contiguous. With one vector of columns, tall tiles are faster. */
static int is_outer(const mbp_product *p, piece q) {
    return p->k == 1 && q.columns > VL && (p->pattern != MBP_NT || p->b.ld == 1);
}

/* Computes such a piece row by row, in the order of memory: 1x784x500 TN 10 -> 16. Rows go through the map while they
 * are in L1. Returns 1 if a watched element is not finite. */
static HOT int run_outer(const mbp_product *p, piece q) {
    static const vr zero = {0};
    const T *const b = p->pattern == MBP_NT ? element(p->b, q.column, 0) : element(p->b, 0, q.column);
    const T *const from = p->bias ? (const T *)p->bias + q.column : (const T *)&zero;
    const int64_t rows = L1_BYTES / 2 / span(1, q.columns) + 1;
    vr bad = {0};
#if HAS_RELU_DERIVATIVE
    if (is_relu_derivative(p)) {
        for (int64_t i = q.row; i < q.row + q.rows; i++)
            run_outer_row_relu(*element(p->a, i, 0), b, element(p->map_in, i, q.column), element(p->c, i, q.column),
                               q.columns);
        return 0;
    }
#endif
    for (int64_t i = q.row, first = i; i < q.row + q.rows; i++) {
        const T x = p->pattern == MBP_TN ? *element(p->a, 0, i) : *element(p->a, i, 0);
        T *const c = element(p->c, i, q.column);
        bad += run_outer_row(x, b, p->add ? c : from, p->add || p->bias ? -1 : 0, c, q.columns);
        if (p->map && (i + 1 - first == rows || i + 1 == q.row + q.rows)) {
            map_rows(p->map, i + 1 - first, q.columns, view_at(p->map_out, first, q.column),
                     view_at(p->map_in, first, q.column), p->parameters);
            first = i + 1;
        }
    }
    return p->nonfinite && !is_zero(bad);
}

static int is_row_of_w_transposed(const mbp_product *p, piece q) {
    return p->pattern == MBP_NT && q.rows == 1 && q.columns >= VL;
}

/* Computes a piece of dz W^T with one row. */
static void run_single_row(const mbp_product *p, piece q) {
    const strip t = {.k = p->k, .from = p->add ? FROM_C : FROM_ZERO};
    run_row(&t, element(p->a, q.row, 0), element(p->b, q.column, 0), p->b.ld, element(p->c, q.row, q.column),
            q.columns);
    if (p->map)
        map_rows(p->map, 1, q.columns, view_at(p->map_out, q.row, q.column), view_at(p->map_in, q.row, q.column),
                 p->parameters);
}

static int is_single_column(const mbp_product *p, piece q) {
    return p->n == 1 && q.rows >= VL && p->c.ld == 1 && (p->b.ld == 1 || p->pattern != MBP_NN);
}

/* A single column of c is a row of c^T = b^T a^T. If its elements are contiguous, vectors can run along it: 128x500x1
 * NN 10 -> 21 GFLOP/s. Computes the whole vectors of the rows of a piece and returns the number of these rows. */
static int64_t run_single_column(const mbp_product *p, piece q, int *bad) {
    const int64_t rows = p->pattern == MBP_TN ? q.rows / VL * VL : q.rows;
    strip t = {.bias = p->bias, .k = p->k, .how = p->nonfinite ? WATCHED : AS_IT_IS};
    T *const c = element(p->c, q.row, 0);
    t.from = p->add ? FROM_C : p->bias ? FROM_BIAS : FROM_ZERO;
    if (p->pattern == MBP_TN) {
        t.ldb = p->a.ld, t.a_step = p->b.ld;
        for (int64_t j = 0; j < rows; j += WIDEST) {
            t.b = element(p->a, 0, q.row + j);
            *bad |= !is_zero(run_strip(&t, p->b.at, c + j, 0, 1, 1, smaller(WIDEST, rows - j)));
        }
    } else {
        run_row(&t, p->b.at, element(p->a, q.row, 0), p->a.ld, c, rows);
    }
    if (p->map)
        map_rows(p->map, rows, 1, view_at(p->map_out, q.row, 0), view_at(p->map_in, q.row, 0), p->parameters);
    return rows;
}
#endif

/* Whether a piece is a row of dz W^T or an outer product, and has a way of its own above. */
static inline int has_own_way(const mbp_product *p, piece q) {
#if MICROBP_SMALL
    (void)p, (void)q;
    return 0;
#else
    return is_row_of_w_transposed(p, q) || is_outer(p, q);
#endif
}

/* ---- db ---- */

#if MICROBP_SMALL
/* db = start + the sums of columns of b. Rows are added in order, in chunks of MBP_LOSS_CHUNK; the sums of the chunks
 * are added in order. Returns 1 if a sum is not finite. */
static int sum_columns(const mbp_product *p, int64_t first, int64_t columns) {
    int bad = 0;
    for (int64_t j = first; j < first + columns; j++) {
        T *const db = (T *)p->db + j;
        T total = p->add ? *db : 0, sum = 0;
        for (int64_t k = 0; k < p->k; k++) {
            sum += *element(p->b, k, j);
            if (k % MBP_LOSS_CHUNK == MBP_LOSS_CHUNK - 1 || k == p->k - 1)
                total += sum, sum = 0;
        }
        *db = total;
        bad |= total - total != 0;
    }
    return bad;
}
#else
/* db = start + the sums of columns of b, for `vectors` vectors of columns; the last one ends with the columns. Rows are
 * added in order, in chunks of MBP_LOSS_CHUNK; the sums of the chunks are added in order. Returns as run_tiles does. */
static inline __attribute__((always_inline)) vr sum_vectors(T *db, int add, const T *b, int64_t ldb, int64_t k_count,
                                                            int64_t columns, const int vectors) {
    const int64_t last = columns - VL;
    vr total[SUM_VECTORS], bad = {0};
    EACH(v, vectors)
        total[v] = add ? load(db + COLUMN(v)) : (vr){0};
    for (int64_t k = 0; k < k_count; k += MBP_LOSS_CHUNK) {
        vr sum[SUM_VECTORS];
        EACH(v, vectors)
            sum[v] = (vr){0};
        for (int64_t rows = smaller(k_count - k, MBP_LOSS_CHUNK); rows; rows--, b += ldb) {
            EACH(v, vectors)
                sum[v] += load(b + COLUMN(v));
        }
        EACH(v, vectors)
            total[v] += sum[v];
    }
    EACH(v, vectors) {
        store(db + COLUMN(v), total[v]);
        bad += total[v] - total[v];
    }
    return bad;
}

static HOT vr sum_sized_vectors(T *db, int add, const T *b, int64_t ldb, int64_t k_count, int64_t columns) {
#define ONE(v) \
    case v: return sum_vectors(db, add, b, ldb, k_count, columns, v);
    switch (divide_up(columns, VL)) { ONE(1) ONE(2) ONE(3) ONE(4) }
#undef ONE
    return (vr){0};
}

/* Computes db for `columns` columns from `first` on. Returns 1 if a sum is not finite. */
static HOT int sum_columns(const mbp_product *p, int64_t first, int64_t columns) {
    vr bad = {0};
    for (int64_t j = first, n; j < first + columns; j += n) {
        T *const db = (T *)p->db + j;
        n = next_columns(first + columns - j, SUM_VECTORS);
#ifndef ONE_LANE
        if (n < VL) {
            T own[VL] = {0};
            if (p->add)
                copy_few(VL, n, db, own);
            bad += first_lanes(sum_sized_vectors(own, p->add, element(p->b, 0, j), p->b.ld, p->k, n), n);
            copy_few(VL, n, own, db);
            continue;
        }
#endif
        bad += sum_sized_vectors(db, p->add, element(p->b, 0, j), p->b.ld, p->k, n);
    }
    return !is_zero(bad);
}
#endif
