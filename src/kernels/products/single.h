/* Part of kernels.c: the products whose result is a row or a column, and the column sums of a product. */

typedef struct piece {
    int64_t row, rows, column, columns;
} piece;

static int is_zero(vr v) { return sum_vector(v) == 0; }

static mbp_view view_at(mbp_view v, int64_t row, int64_t column) {
    return (mbp_view){(T *)v.at + row * v.ld + column, v.ld};
}
static T *element(mbp_view v, int64_t row, int64_t column) { return (T *)v.at + row * v.ld + column; }

#if !MICROBP_SMALL
/* c = start + the row a times the rows of b, for `vectors` vectors of c. Each element of b is used only once, so b is
 * transposed in registers and not packed. One cache line of each row is read at a time, because many rows side by side
 * compete for cache sets. */
static inline __attribute__((always_inline)) void run_row_vectors(const strip *t, const T *a, const T *b, int64_t ldb,
                                                                  T *c, const int vectors) {
    const int64_t whole = t->k / LINE * LINE;
    vr acc[ROW_VECTORS];
    EACH(v, vectors)
        acc[v] = t->from == FROM_C ? load(c + v * VL) : t->from == FROM_BIAS ? *t->bias - (vr){0} : (vr){0};
    for (int64_t k = 0; k < whole; k += LINE)
        EACH(v, vectors) {
            UNROLL
            for (int q = 0; q < LINE; q += LANES_16) {
                vr w[LANES_16];
                transpose(w, b + v * VL * ldb + k + q, ldb);
                EACH(i, LANES_16)
                    acc[v] = fma_vector(a[k + q + i] - (vr){0}, w[i], acc[v]);
            }
        }
    for (int64_t k = whole; k < t->k; k++)
        for (int v = 0; v < vectors; v++) {
            T w[VL];
            for (int l = 0; l < VL; l++)
                w[l] = b[(v * VL + l) * ldb + k];
            acc[v] = fma_vector(a[k] - (vr){0}, load(w), acc[v]);
        }
    EACH(v, vectors)
        store(c + v * VL, acc[v]);
}

/* run_row_vectors for all whole vectors of c. Returns the number of columns computed. */
static HOT int64_t run_row(const strip *t, const T *a, const T *b, int64_t ldb, T *c, int64_t columns) {
    int64_t j = 0;
    for (; j + ROW_VECTORS * VL <= columns; j += ROW_VECTORS * VL)
        run_row_vectors(t, a, b + j * ldb, ldb, c + j, ROW_VECTORS);
    for (; j + VL <= columns; j += VL)
        run_row_vectors(t, a, b + j * ldb, ldb, c + j, 1);
    return j;
}

/* A single column of c is a row of c^T = b^T a^T. If its elements are contiguous, vectors can run along it: 128x500x1
 * NN 10 -> 21 GFLOP/s. Computes the whole vectors of the rows of a piece and returns the number of these rows. */
static int64_t run_single_column(const mbp_product *p, piece q, int *bad) {
    const int64_t rows = q.rows / VL * VL;
    strip t = {.bias = p->bias, .k = p->k, .how = p->nonfinite ? WATCHED : AS_IT_IS};
    T *const c = element(p->c, q.row, 0);
    t.from = p->add ? FROM_C : p->bias ? FROM_BIAS : FROM_ZERO;
    if (p->pattern == MBP_TN) {
        t.ldb = p->a.ld, t.a_step = p->b.ld;
        for (int64_t j = 0; j < rows; j += WIDEST) {
            t.b = element(p->a, 0, q.row + j);
            *bad |= !is_zero(run_strip(&t, p->b.at, c + j, 0, (division){1, 1, 0}, smaller(WIDEST, rows - j)));
        }
    } else {
        run_row(&t, p->b.at, element(p->a, q.row, 0), p->a.ld, c, rows);
    }
    if (p->map)
        p->map(rows, 1, view_at(p->map_out, q.row, 0), view_at(p->map_in, q.row, 0), p->parameters);
    return rows;
}
#endif

/* ---- db ---- */

/* Adds the sums of columns of b to total, for `vectors` vectors of columns. Rows are added in order, in chunks of
 * MBP_LOSS_CHUNK; the sums of the chunks are added in order. */
static inline __attribute__((always_inline)) void sum_vectors(T *total, const T *b, int64_t ldb, int64_t k_count,
                                                              const int vectors) {
    for (int64_t k = 0; k < k_count; k += MBP_LOSS_CHUNK) {
        vr sum[SUM_VECTORS];
        EACH(v, vectors)
            sum[v] = (vr){0};
        for (int64_t rows = smaller(k_count - k, MBP_LOSS_CHUNK); rows; rows--, b += ldb) {
            EACH(v, vectors)
                sum[v] += load(b + v * VL);
        }
        EACH(v, vectors)
            store(total + v * VL, load(total + v * VL) + sum[v]);
    }
}

/* Computes db for `columns` columns from `first` on. Returns 1 if a sum is not finite. */
static HOT int sum_columns(const mbp_product *p, int64_t first, int64_t columns) {
    T bad = 0;
    for (int64_t j = first, n; j < first + columns; j += n) {
        T *const db = (T *)p->db + j, total[SUM_VECTORS * VL];
        const int64_t left = first + columns - j;
        n = left >= SUM_VECTORS * VL ? SUM_VECTORS * VL : smaller(left, VL);
        for (int64_t l = 0; l < n; l += VL)
            store(total + l, (vr){0});
        for (int64_t l = 0; p->add && l < n; l++)
            total[l] = db[l];
        if (n == SUM_VECTORS * VL)
            sum_vectors(total, element(p->b, 0, j), p->b.ld, p->k, SUM_VECTORS);
        else
            sum_vectors(total, element(p->b, 0, j), p->b.ld, p->k, 1);
        for (int64_t l = 0; l < n; l++) {
            bad += total[l] - total[l];
            db[l] = total[l];
        }
    }
    return bad != 0;
}
