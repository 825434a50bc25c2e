/* Part of kernels.c: a tile, the few rows and columns of c whose accumulators fill the registers, and a column of such tiles. */

enum {
    /* With fewer rows, or a single vector of columns, a tile of other proportions keeps as many chains of additions in flight: two FMAs a
     * cycle of 4 cycles' latency need 8. */
    TALL_ROWS = 8,
    WIDE_1 = 8,
    WIDE_2 = 6,
    WIDE_3 = 4,
    WIDEST = WIDE_1 * VL,
    TILE_COLUMNS = TILE_VECTORS * VL,
};

static inline __attribute__((always_inline)) vr load(const T *at) { return (vr)(*(const vr_memory *)at); }
static inline __attribute__((always_inline)) void store(T *at, vr v) { *(vr_memory *)at = (vr_memory)v; }
static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

typedef enum { FROM_ZERO, FROM_BIAS, FROM_C } start;
typedef enum { AS_IT_IS, RELU, WATCHED } finish; /* what happens to z at the store; WATCHED: one that is not finite is reported */

/* What the tiles of a column have in common: a(i, k) = a[i * a_row + k * a_step], where the next tile's a stands a_next further for each
 * row of this one; b's panel; the start and the end. All vectors are whole: b and bias may be read past their columns, and where c ends
 * early the caller gives a c of its own. */
typedef struct strip {
    const T *b, *bias;
    int64_t a_row, a_step, a_next, ldb, k;
    int a_packed; /* a tile's rows stand side by side, so that a_step is their number */
    start from;
    finish how;
} strip;

/* c = start + a b over k steps for `count` tiles, one below the other; the accumulators live in registers because rows and vectors are
 * constants wherever this is inlined. Returns 0 in the lanes whose watched elements are all finite, else NaN. */
static inline __attribute__((always_inline)) vr run_tiles(const strip *t, const T *first_a, T *c, int64_t ldc, int64_t count,
                                                          const int rows, const int vectors) {
    const int64_t a_row = t->a_row, a_step = t->a_packed ? rows : t->a_step, ldb = t->ldb;
    vr bad = {0};
    for (; count; count--, first_a += rows * t->a_next, c += rows * ldc) {
        vr acc[TALL_ROWS][WIDE_1];
        if (t->from == FROM_C) {
            UNROLL
            for (int i = 0; i < rows; i++)
                UNROLL
                for (int v = 0; v < vectors; v++)
                    acc[i][v] = load(c + i * ldc + v * VL);
        } else {
            UNROLL
            for (int v = 0; v < vectors; v++) {
                const vr first = t->from == FROM_BIAS ? load(t->bias + v * VL) : (vr){0};
                UNROLL
                for (int i = 0; i < rows; i++)
                    acc[i][v] = first;
            }
        }
        const T *a = first_a, *b = t->b;
        for (int64_t k = t->k; k; k--, a += a_step, b += ldb) {
            vr row[WIDE_1];
            UNROLL
            for (int v = 0; v < vectors; v++)
                row[v] = load(b + v * VL);
            UNROLL
            for (int i = 0; i < rows; i++) {
                const vr x = a[i * a_row] - (vr){0};
                UNROLL
                for (int v = 0; v < vectors; v++)
                    acc[i][v] = fma_vector(x, row[v], acc[i][v]);
            }
        }
        if (t->how == RELU) {
            UNROLL
            for (int i = 0; i < rows; i++)
                UNROLL
                for (int v = 0; v < vectors; v++)
                    store(c + i * ldc + v * VL, (vr)(~(vi)(acc[i][v] < 0) & (vi)acc[i][v])); /* keeps NaN */
            continue;
        }
        UNROLL
        for (int i = 0; i < rows; i++)
            UNROLL
            for (int v = 0; v < vectors; v++)
                store(c + i * ldc + v * VL, acc[i][v]);
        if (t->how == WATCHED) {
            UNROLL
            for (int i = 0; i < rows; i++)
                UNROLL
                for (int v = 0; v < vectors; v++)
                    bad += acc[i][v] - acc[i][v];
        }
    }
    return bad;
}

/* run_tiles for the sizes that occur, each compiled for itself. */
static vr run_sized_tiles(const strip *t, const T *a, T *c, int64_t ldc, int64_t count, int rows, int vectors) {
#define ONE(r, v)                                                                                                                          \
    case (r) * 16 + (v):                                                                                                                   \
        return run_tiles(t, a, c, ldc, count, r, v);
#define ROWS_3(v) ONE(1, v) ONE(2, v) ONE(3, v)
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
    switch (rows * 16 + vectors) {
        ROWS_3(1) ONE(4, 1) ONE(5, 1) ONE(6, 1) ONE(7, 1) ONE(8, 1)
        ROWS_ALL(2) MIDDLE(3) MIDDLE(4)
        ONE(1, 5) ONE(2, 5) ONE(1, 6) ONE(2, 6)
        ONE(1, 7) ONE(1, 8)
    }
#undef MIDDLE
#undef ROWS_ALL
#undef ROWS_3
#undef ONE
    return (vr){0};
}

/* How many rows fall into tiles, as equal as they can be: first `larger` tiles of least + 1 rows, then the others of `least`. */
typedef struct division {
    int tiles, least, larger;
} division;

static inline division divide_rows(int rows, int tile_rows) {
    if (rows <= tile_rows)
        return (division){1, rows, 0};
    const int tiles = (rows + tile_rows - 1) / tile_rows, least = rows / tiles;
    return (division){tiles, least, rows - least * tiles};
}

/* Columns that do not fill their last vector: each tile is computed in a c of its own. Returns as run_tiles does. */
static vr run_edge_tiles(const strip *t, const T *a, T *c, int64_t ldc, int64_t count, int rows, int64_t columns) {
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

/* `count` tiles of a panel's columns, whole vectors or not. Returns as run_tiles does. */
static inline vr run_any_tiles(const strip *t, const T *a, T *c, int64_t ldc, int64_t count, int rows, int64_t columns) {
    if (columns % VL)
        return run_edge_tiles(t, a, c, ldc, count, rows, columns);
    return run_sized_tiles(t, a, c, ldc, count, rows, (int)(columns / VL));
}

/* All tiles of a panel's columns. Returns as run_tiles does. */
static vr run_strip(const strip *t, const T *a, T *c, int64_t ldc, division d, int64_t columns) {
    vr bad = {0};
    const int64_t rows = d.larger * (d.least + 1);
    if (rows)
        bad = run_any_tiles(t, a, c, ldc, d.larger, d.least + 1, columns);
    return bad + run_any_tiles(t, a + rows * t->a_next, c + rows * ldc, ldc, d.tiles - d.larger, d.least, columns);
}
