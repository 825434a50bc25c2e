/* Part of kernels.c: normalization by the statistics of columns (batch_norm) or of rows (layer_norm). Sums are in
 * double. A sum over a row has 16 partial sums and one tree. A sum over the rows is in row order, in chunks of
 * NORM_CHUNK rows; the sums of the chunks are added in order. */

enum { NORM_CHUNK = 64, NORM_COLUMNS = 64 };

static inline const T *norm_row(mbp_view view, int64_t r) { return (const T *)view.at + r * view.ld; }

/* xhat of one element. Only small code computes it one by one. */
static inline double norm_hat(const mbp_norm *p, double x, int64_t r, int64_t j) {
    const int64_t i = p->by_row ? r : j;
    return p->mean ? (x - p->mean[i]) * p->inverse[i] : x;
}

/* ---- the columns first to last - 1 ---- */

static inline void norm_invert(const mbp_norm *p, int64_t first, int64_t last) {
    for (int64_t j = first; j < last; j++)
        p->inverse[j] = 1 / __builtin_sqrt(p->variance[j] + p->eps);
}

/* Takes mean, variance and inverse from the running statistics instead. */
static void norm_fixed(const mbp_norm *p, int64_t first, int64_t last) {
    const T *means = p->running, *variances = means + p->n;
    for (int64_t j = first; j < last; j++) {
        p->mean[j] = (double)means[j];
        p->variance[j] = (double)variances[j];
    }
    norm_invert(p, first, last);
}

/* ---- the rows first to last - 1 ---- */

/* result = the sum of `term` over a row of n elements; `term` uses the column j. */
#if MICROBP_SMALL
#define ROW_SUM(result, n, term) \
    { \
        double lanes[LANES] = {0}; \
        for (int64_t j = 0; j < (n); j++) \
            lanes[j % LANES] += term; \
        result = sum_lanes(lanes); \
    }
#else
#define ROW_SUM(result, n, term) \
    { \
        double lanes[LANES] = {0}; \
        int64_t j0 = 0; \
        for (; j0 + LANES <= (n); j0 += LANES) { \
            INDEPENDENT \
            for (int l = 0; l < LANES; l++) { \
                const int64_t j = j0 + l; \
                lanes[l] += term; \
            } \
        } \
        for (int64_t j = j0; j < (n); j++) \
            lanes[j - j0] += term; \
        result = sum_lanes(lanes); \
    }
#endif

/* Mean and inverse of rows. */
static void norm_rows(const mbp_norm *p, int64_t first, int64_t last) {
    const double n = (double)p->n;
    for (int64_t r = first; r < last; r++) {
        const T *x = norm_row(p->x, r);
        double sum, squares;
        ROW_SUM(sum, p->n, (double)x[j])
        const double mean = sum / n;
        ROW_SUM(squares, p->n, ((double)x[j] - mean) * ((double)x[j] - mean))
        p->mean[r] = mean;
        p->inverse[r] = 1 / __builtin_sqrt(squares / n + p->eps);
    }
}

/* y = gamma xhat + beta. */
static void norm_apply(const mbp_norm *p, int64_t first, int64_t last) {
    const T *gamma = p->gamma, *beta = p->beta;
    const double *mean = p->mean, *inverse = p->inverse;
    for (int64_t r = first; r < last; r++) {
        const T *x = norm_row(p->x, r);
        T *y = (T *)p->y.at + r * p->y.ld;
        if (MICROBP_SMALL) {
            for (int64_t j = 0; j < p->n; j++)
                y[j] = gamma[j] * (T)norm_hat(p, (double)x[j], r, j) + beta[j];
        } else if (p->by_row) {
            INDEPENDENT
            for (int64_t j = 0; j < p->n; j++)
                y[j] = gamma[j] * (T)(((double)x[j] - mean[r]) * inverse[r]) + beta[j];
        } else {
            INDEPENDENT
            for (int64_t j = 0; j < p->n; j++)
                y[j] = gamma[j] * (T)(((double)x[j] - mean[j]) * inverse[j]) + beta[j];
        }
    }
}

#if MICROBP_TRAINING && !BORROWS

/* ---- training: columns ---- */

/* total[column] = the sum of `term` over the rows, for NORM_COLUMNS columns at a time. `term` uses x[j] and dy[j] of
 * row r and column c + j. */

#define COLUMN_SUMS(total, term) \
    for (int64_t c = first; c < last; c += NORM_COLUMNS) { \
        const int64_t count = last - c < NORM_COLUMNS ? last - c : NORM_COLUMNS; \
        double sums[NORM_COLUMNS] = {0}; \
        for (int64_t chunk = 0; chunk < p->rows; chunk += NORM_CHUNK) { \
            const int64_t end = p->rows - chunk < NORM_CHUNK ? p->rows : chunk + NORM_CHUNK; \
            double part[NORM_COLUMNS] = {0}; \
            for (int64_t r = chunk; r < end; r++) { \
                const T *x = norm_row(p->x, r) + c, *dy = p->dy.at ? norm_row(p->dy, r) + c : NULL; \
                (void)x, (void)dy; \
                INDEPENDENT \
                for (int64_t j = 0; j < count; j++) \
                    part[j] += term; \
            } \
            for (int64_t j = 0; j < count; j++) \
                sums[j] += part[j]; \
        } \
        memcpy((total) + c, sums, (size_t)count * sizeof *sums); \
    }

#if MICROBP_SMALL
typedef enum { SUM_OF_X, SQUARES, SUM_OF_DY, PRODUCTS } norm_total;

/* An element of which norm_columns and norm_sums add all of a column. */
static double norm_term(const mbp_norm *p, norm_total which, int64_t r, int64_t j) {
    const double x = (double)norm_row(p->x, r)[j];
    if (which == SUM_OF_X)
        return x;
    if (which == SQUARES)
        return (x - p->mean[j]) * (x - p->mean[j]);
    const double dy = (double)norm_row(p->dy, r)[j];
    return which == SUM_OF_DY ? dy : dy * norm_hat(p, x, r, j);
}

static __attribute__((noinline)) void column_totals(const mbp_norm *p, norm_total which, double *total, int64_t first,
                                                    int64_t last){COLUMN_SUMS(total, norm_term(p, which, r, c + j))}
#define TOTALS_OF(view, which) p, which
#else
/* total[column] = the sum of a column of `of`. */
static __attribute__((noinline)) void column_totals(const mbp_norm *p, mbp_view of, double *total, int64_t first,
                                                    int64_t last){
    COLUMN_SUMS(total, (double)((const T *)of.at)[r * of.ld + c + j])}
#define TOTALS_OF(view, which) p, view
#endif

/* Mean, biased variance and inverse of columns. */
static void norm_columns(const mbp_norm *p, int64_t first, int64_t last) {
    column_totals(TOTALS_OF(p->x, SUM_OF_X), p->mean, first, last);
    for (int64_t j = first; j < last; j++)
        p->mean[j] /= (double)p->rows;
#if MICROBP_SMALL
    column_totals(p, SQUARES, p->variance, first, last);
#else
    COLUMN_SUMS(p->variance, ((double)x[j] - p->mean[c + j]) * ((double)x[j] - p->mean[c + j]))
#endif
    for (int64_t j = first; j < last; j++)
        p->variance[j] /= (double)p->rows;
    norm_invert(p, first, last);
}

/* Moves the running statistics towards the statistics of x. As in PyTorch, the variance is unbiased here. */
static void norm_follow(const mbp_norm *p, int64_t first, int64_t last) {
    T *means = p->running, *variances = means + p->n;
    const double unbiased = (double)p->rows / (double)(p->rows - 1), rest = 1 - p->momentum;
    for (int64_t j = first; j < last; j++) {
        means[j] = (T)(rest * (double)means[j] + p->momentum * p->mean[j]);
        variances[j] = (T)(rest * (double)variances[j] + p->momentum * (p->variance[j] * unbiased));
    }
}

/* The sums of dy and of dy xhat; they are the gradients of beta and gamma. */
static void norm_sums(const mbp_norm *p, int64_t first, int64_t last) {
    column_totals(TOTALS_OF(p->dy, SUM_OF_DY), p->sum, first, last);
#if MICROBP_SMALL
    column_totals(p, PRODUCTS, p->product, first, last);
#else
    if (!p->mean)
        COLUMN_SUMS(p->product, (double)dy[j] * (double)x[j])
    else if (p->by_row)
        COLUMN_SUMS(p->product, (double)dy[j] * (((double)x[j] - p->mean[r]) * p->inverse[r]))
    else
        COLUMN_SUMS(p->product, (double)dy[j] * (((double)x[j] - p->mean[c + j]) * p->inverse[c + j]))
#endif
    T *dgamma = p->dgamma, *dbeta = p->dbeta;
    for (int64_t j = first; dgamma && j < last; j++)
        dgamma[j] = (p->add_gradients ? dgamma[j] : 0) + (T)p->product[j];
    for (int64_t j = first; dbeta && j < last; j++)
        dbeta[j] = (p->add_gradients ? dbeta[j] : 0) + (T)p->sum[j];
}
#undef TOTALS_OF
#undef COLUMN_SUMS

/* ---- training: rows ---- */

/* dx = inverse (g - mean of g - xhat * mean of g xhat) with g = gamma dy. The means are over a row or over a column,
 * like the statistics. */
#if MICROBP_SMALL
static void norm_backward(const mbp_norm *p, int64_t first, int64_t last) {
    const T *gamma = p->gamma;
    const double count = (double)(p->by_row ? p->n : p->count);
    for (int64_t r = first; r < last; r++) {
        const T *x = norm_row(p->x, r), *dy = norm_row(p->dy, r);
        T *dx = (T *)p->dx.at + r * p->dx.ld;
        double sums[2][LANES] = {{0}}, sum = 0, product = 0;
        for (int64_t j = 0; p->by_row && j < p->n; j++) {
            const double g = (double)gamma[j] * (double)dy[j];
            sums[0][j % LANES] += g;
            sums[1][j % LANES] += g * norm_hat(p, (double)x[j], r, j);
        }
        if (p->by_row)
            sum = sum_lanes(sums[0]), product = sum_lanes(sums[1]);
        for (int64_t j = 0; j < p->n; j++) {
            double g = (double)dy[j], factor = p->inverse[p->by_row ? r : j];
            if (p->by_row)
                g = (double)gamma[j] * g;
            else
                factor = (double)gamma[j] * factor, sum = p->sum[j], product = p->product[j];
            if (!p->fixed || p->by_row)
                g = g - sum / count - norm_hat(p, (double)x[j], r, j) * (product / count);
            const T d = (T)(factor * g);
            dx[j] = p->add ? dx[j] + d : d;
        }
    }
}
#else
static void norm_backward(const mbp_norm *p, int64_t first, int64_t last) {
    const T *gamma = p->gamma;
    const double *mean = p->mean, *inverse = p->inverse, rows = (double)p->count, n = (double)p->n;
    for (int64_t r = first; r < last; r++) {
        const T *x = norm_row(p->x, r), *dy = norm_row(p->dy, r);
        T *dx = (T *)p->dx.at + r * p->dx.ld;
        if (p->by_row) {
            double sum, product;
            ROW_SUM(sum, p->n, (double)gamma[j] * (double)dy[j])
            ROW_SUM(product, p->n, (double)gamma[j] * (double)dy[j] * (((double)x[j] - mean[r]) * inverse[r]))
            INDEPENDENT
            for (int64_t j = 0; j < p->n; j++) {
                const double hat = ((double)x[j] - mean[r]) * inverse[r], g = (double)gamma[j] * (double)dy[j];
                const T d = (T)(inverse[r] * (g - sum / n - hat * (product / n)));
                dx[j] = p->add ? dx[j] + d : d;
            }
        } else if (p->fixed) {
            INDEPENDENT
            for (int64_t j = 0; j < p->n; j++) {
                const T d = (T)((double)gamma[j] * inverse[j] * (double)dy[j]);
                dx[j] = p->add ? dx[j] + d : d;
            }
        } else {
            INDEPENDENT
            for (int64_t j = 0; j < p->n; j++) {
                const double hat = ((double)x[j] - mean[j]) * inverse[j];
                const T d = (T)((double)gamma[j] * inverse[j] *
                                ((double)dy[j] - p->sum[j] / rows - hat * (p->product[j] / rows)));
                dx[j] = p->add ? dx[j] + d : d;
            }
        }
    }
}
#endif
#endif
#undef ROW_SUM
