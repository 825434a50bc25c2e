/* Part of kernels.c: products of one row of a batch with a small W, without a plan: no pieces, slices, panels, tiles.
 * 4-8-2 predicts in 150 instead of 209 ns, and a step of 4-32-32-2 takes 1270 instead of 1700 ns (AVX2, Zen 3). The
 * bits are those of the tiles. */

#if !MICROBP_SMALL
enum {
    DIRECT_VECTORS = VB == 64 ? 2 : 4, /* of columns */
    DIRECT_STEPS_NT = 4,               /* for more, W is transposed in registers */
    DIRECT_NUMBERS = 4096,             /* of W */
};

static int is_direct(const mbp_product *p) {
    const int is_tn = p->pattern == MBP_TN;
    return (is_tn ? p->k : p->m) == 1 && p->threads <= 1 && !p->add && p->n <= DIRECT_VECTORS * VL &&
           p->m <= BLOCK_ROWS && p->m * p->n * p->k <= DIRECT_NUMBERS &&
           (is_tn ? p->n > 1 : p->pattern == MBP_NN || p->k <= DIRECT_STEPS_NT);
}

/* Stores the vectors of a row of n numbers. The last vector may overlap the one before, and both have the same numbers
 * there. */
static inline __attribute__((always_inline)) void store_row(T *c, int64_t n, const vr *row, const int vectors) {
    if (vectors > 1 || n == VL) {
        EACH(v, vectors - 1)
            store(c + v * VL, row[v]);
        store(c + n - VL, row[vectors - 1]);
        return;
    }
    T own[VL];
    store(own, row[0]);
    copy_few(VL, n, own, c);
}

/* Where the v-th vector of a row of n numbers starts. */
#define PLACE(v) ((v) < vectors - 1 || n < VL ? (v) * VL : n - VL)

/* c = bias + x W */
static inline __attribute__((always_inline)) void direct_nn(const mbp_product *p, const int vectors) {
    const int64_t n = p->n;
    const T *x = p->a.at, *w = p->b.at, *const bias = p->bias;
    vr sum[DIRECT_VECTORS];
    EACH(v, vectors)
        sum[v] = bias ? load(bias + PLACE(v)) : (vr){0};
    for (int64_t k = 0; k < p->k; k++, w += p->b.ld)
        EACH(v, vectors)
            sum[v] = fma_vector(x[k] - (vr){0}, load(w + PLACE(v)), sum[v]);
    store_row(p->c.at, n, sum, vectors);
}

/* c = x^T dz, one row after the other, and db = dz. Returns 1 if a number is not finite. */
static inline __attribute__((always_inline)) int direct_tn(const mbp_product *p, const int vectors) {
    const int64_t n = p->n;
    const T *x = p->a.at;
    vr dz[DIRECT_VECTORS], row[DIRECT_VECTORS], bad[DIRECT_VECTORS];
    EACH(v, vectors) {
        dz[v] = load((const T *)p->b.at + PLACE(v));
        row[v] = (vr){0} + dz[v]; /* as a sum that starts from 0, which makes 0 of -0 */
        bad[v] = row[v] - row[v];
    }
    if (p->db)
        store_row(p->db, n, row, vectors);
    for (int64_t i = 0; i < p->m; i++) {
        EACH(v, vectors) {
            row[v] = fma_vector(x[i] - (vr){0}, dz[v], (vr){0});
            bad[v] += row[v] - row[v];
        }
        store_row((T *)p->c.at + i * p->c.ld, n, row, vectors);
    }
    T own[DIRECT_VECTORS * VL], any = 0;
    store_row(own, n, bad, vectors);
    for (int64_t j = 0; j < n; j++)
        any += own[j];
    return any != 0;
}
#undef PLACE

/* c = dz W^T, each number by itself */
static void direct_nt(const mbp_product *p) {
    const T *const dz = p->a.at, *w = p->b.at;
    for (int64_t j = 0; j < p->n; j++, w += p->b.ld) {
        vr sum = {0};
        for (int64_t k = 0; k < p->k; k++)
            sum = fma_vector(dz[k] - (vr){0}, w[k] - (vr){0}, sum);
        ((T *)p->c.at)[j] = sum[0];
    }
}

/* Returns 1 if a number of dW or db is not finite. */
static HOT int run_direct(const mbp_product *p) {
    int bad = 0;
#define CASE(vectors) \
    case (vectors): \
        if ((vectors) > DIRECT_VECTORS) \
            break; \
        if (p->pattern == MBP_TN) \
            bad = direct_tn(p, vectors); \
        else \
            direct_nn(p, vectors); \
        break;
    if (p->pattern == MBP_NT)
        direct_nt(p);
    else
        switch (divide_up(p->n, VL)) { CASE(1) CASE(2) CASE(3) CASE(4) }
#undef CASE
    if (p->map && (p->map != forward_identity || p->map_out.at != p->c.at))
        map_rows(p->map, 1, p->n, p->map_out, p->map_in, p->parameters);
    return bad;
}
#endif
