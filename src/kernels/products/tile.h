/* Part of kernels.c: tiles and strips. A tile is a block of c of a few rows and columns, whose accumulators fill the
 * registers. A strip is a column of tiles. */

enum {
    /* A tile of few rows is wider, and a tile of one vector is taller: two FMAs per cycle with a latency of 4 cycles
     * need 8 independent chains of additions. */
    TALL_ROWS = MICROBP_SMALL ? TILE_ROWS : 8,
    WIDE_1 = MICROBP_SMALL ? TILE_VECTORS : 8,
    WIDE_2 = MICROBP_SMALL ? TILE_VECTORS : 6,
    WIDE_3 = MICROBP_SMALL ? TILE_VECTORS : 4,
    WIDEST = WIDE_1 * VL,
    TILE_COLUMNS = TILE_VECTORS * VL,
};

static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

typedef enum { FROM_ZERO, FROM_BIAS, FROM_C } start;
/* What happens when c is stored. RELU: relu is applied. WATCHED: elements that are not finite are reported. */
typedef enum { AS_IT_IS, RELU, WATCHED } finish;

/* What the tiles of a strip share. a(i, k) is a[i * a_row + k * a_step]; the a of the next tile is a_next elements
 * further for each row of this tile. b is a panel: the columns of b that the strip needs. All vectors are whole: b and
 * bias may be read past their columns, and if the columns of c end within a vector, the caller passes a buffer as c. */
typedef struct strip {
    const T *b, *bias;
    int64_t a_row, a_step, a_next, ldb, k;
    int a_packed; /* 1: the rows of a tile are adjacent, and a_step is their number */
    start from;
    finish how;
} strip;

/* c = start + a b over k steps, for `count` tiles one below the other. `rows` and `vectors` are constants wherever this
 * is inlined, so that the accumulators stay in registers. Returns 0 in lanes whose watched elements are finite,
 * NaN in the others. */
static inline __attribute__((always_inline)) vr run_tiles(const strip *t, const T *first_a, T *c, int64_t ldc,
                                                          int64_t count, const int rows, const int vectors) {
    const int64_t a_row = t->a_row, a_step = t->a_packed ? rows : t->a_step, ldb = t->ldb;
    vr bad = {0};
    for (; count; count--, first_a += rows * t->a_next, c += rows * ldc) {
        vr acc[TALL_ROWS][WIDE_1];
        if (t->from == FROM_C) {
            EACH(i, rows)
                EACH(v, vectors)
                    acc[i][v] = load(c + i * ldc + v * VL);
        } else {
            EACH(v, vectors) {
                const vr first = t->from == FROM_BIAS ? load(t->bias + v * VL) : (vr){0};
                EACH(i, rows)
                    acc[i][v] = first;
            }
        }
        const T *a = first_a, *b = t->b;
        for (int64_t k = t->k; k; k--, a += a_step, b += ldb) {
            vr row[WIDE_1];
            EACH(v, vectors)
                row[v] = load(b + v * VL);
            EACH(i, rows) {
                const vr x = a[i * a_row] - (vr){0};
                EACH(v, vectors)
                    acc[i][v] = fma_vector(x, row[v], acc[i][v]);
            }
        }
        if (t->how == RELU) {
            EACH(i, rows)
                EACH(v, vectors)
                    store(c + i * ldc + v * VL, relu_vector(acc[i][v]));
            continue;
        }
        EACH(i, rows)
            EACH(v, vectors)
                store(c + i * ldc + v * VL, acc[i][v]);
        if (t->how == WATCHED) {
            EACH(i, rows)
                EACH(v, vectors)
                    bad += acc[i][v] - acc[i][v];
        }
    }
    return bad;
}

/* run_tiles, compiled separately for each size that occurs. */
static HOT vr run_sized_tiles(const strip *t, const T *a, T *c, int64_t ldc, int64_t count, int rows, int vectors) {
#define ONE(r, v) \
    case (r) * 16 + (v): return run_tiles(t, a, c, ldc, count, r, v);
#define ROWS_2(v) ONE(1, v) ONE(2, v)
#define ROWS_3(v) ROWS_2(v) ONE(3, v)
#define ROWS_8(v) ROWS_3(v) ONE(4, v) ONE(5, v) ONE(6, v) ONE(7, v) ONE(8, v)
#if TILE_ROWS == 6
#define ROWS_ALL(v) ROWS_3(v) ONE(4, v) ONE(5, v) ONE(6, v)
#else
#define ROWS_ALL(v) ROWS_3(v) ONE(4, v)
#endif
#if TILE_VECTORS == 4
#define MIDDLE(v) ROWS_ALL(v)
#else
#define MIDDLE(v) ROWS_3(v)
#endif
#if MICROBP_SMALL
    switch (rows * 16 + vectors) { ROWS_2(1) ROWS_2(2) }
#else
    switch (rows * 16 + vectors) { ROWS_8(1) ROWS_ALL(2) MIDDLE(3) MIDDLE(4) ROWS_2(5) ROWS_2(6) ONE(1, 7) ONE(1, 8) }
#endif
#undef MIDDLE
#undef ROWS_ALL
#undef ROWS_8
#undef ROWS_3
#undef ROWS_2
#undef ONE
    return (vr){0};
}

/* Rows divided into tiles of nearly equal size: first `larger` tiles of least + 1 rows, then tiles of `least` rows. */
typedef struct division {
    int tiles, least, larger;
} division;

static inline division divide_rows(int rows, int tile_rows) {
    if (rows <= tile_rows)
        return (division){1, rows, 0};
    const int tiles = (rows + tile_rows - 1) / tile_rows, least = rows / tiles;
    return (division){tiles, least, rows - least * tiles};
}

/* For columns that do not fill their last vector: computes each tile in the buffer `own`. Returns as run_tiles does. */
static HOT vr run_edge_tiles(const strip *t, const T *a, T *c, int64_t ldc, int64_t count, int rows, int64_t columns) {
    T own[TALL_ROWS * WIDEST], bad = 0;
    const int64_t whole = columns / VL * VL;
    vr lanes = {0};
    for (; count; count--, a += rows * t->a_next, c += rows * ldc) {
        for (int i = 0; t->from == FROM_C && i < rows; i++) {
            store(own + i * WIDEST + whole, (vr){0});
            for (int64_t j = 0; j < columns; j++)
                own[i * WIDEST + j] = c[i * ldc + j];
        }
        run_sized_tiles(t, a, own, WIDEST, 1, rows, (int)(whole / VL) + 1);
        for (int i = 0; i < rows; i++) {
            for (int64_t j = 0; j < whole; j += VL) {
                const vr z = load(own + i * WIDEST + j);
                lanes += z - z;
                store(c + i * ldc + j, z);
            }
            for (int64_t j = whole; j < columns; j++) {
                const T z = own[i * WIDEST + j];
                bad += z - z;
                c[i * ldc + j] = z;
            }
        }
    }
    return lanes + bad;
}

/* `count` tiles, whether the columns fill whole vectors or not. Returns as run_tiles does. */
static inline vr run_any_tiles(const strip *t, const T *a, T *c, int64_t ldc, int64_t count, int rows,
                               int64_t columns) {
    if (columns % VL)
        return run_edge_tiles(t, a, c, ldc, count, rows, columns);
    return run_sized_tiles(t, a, c, ldc, count, rows, (int)(columns / VL));
}

/* All tiles of a strip. Returns as run_tiles does. */
static vr run_strip(const strip *t, const T *a, T *c, int64_t ldc, division d, int64_t columns) {
    vr bad = {0};
    const int64_t rows = d.larger * (d.least + 1);
    if (rows)
        bad = run_any_tiles(t, a, c, ldc, d.larger, d.least + 1, columns);
    return bad + run_any_tiles(t, a + rows * t->a_next, c + rows * ldc, ldc, d.tiles - d.larger, d.least, columns);
}
