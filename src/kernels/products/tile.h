/* Part of kernels.c: tiles and strips. A tile is a block of c of a few rows and columns, whose accumulators fill the
 * registers. A strip is a column of tiles. */

enum {
    /* A tile of few rows is wider, and a tile of one vector is taller: two FMAs per cycle with a latency of 4 cycles
     * need 8 independent chains of additions. */
    TALL_ROWS = MICROBP_SMALL ? TILE_ROWS : 8,
    WIDE_1 = MICROBP_SMALL ? TILE_VECTORS : 8,
    WIDE_2 = MICROBP_SMALL ? TILE_VECTORS : 6,
    WIDE_3 = MICROBP_SMALL ? TILE_VECTORS : 4,
    NARROW_TILES = 4,
    WIDEST = WIDE_1 * VL,
    TILE_COLUMNS = TILE_VECTORS * VL,
    FINISHES = !MICROBP_SMALL, /* whether tiles apply relu and watch elements; in small code other functions do */
};

static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Columns of the next panel: `vectors` vectors, or what is left. A last vector alone would have too few chains of
 * additions to keep the processor busy, so the last two panels share their vectors. */
static inline int64_t next_columns(int64_t left, int64_t vectors) {
    const int64_t most = vectors * VL;
    return !MICROBP_SMALL && left > most && left <= most + VL ? smaller(left, 3 * VL) : smaller(left, most);
}

typedef enum { FROM_ZERO, FROM_BIAS, FROM_C } start;
/* What happens when c is stored. RELU: relu is applied. WATCHED: elements that are not finite are reported. */
typedef enum { AS_IT_IS, RELU, WATCHED } finish;

/* The first column of vector v of several: the last vector ends with the columns. So it may overlap the one before;
 * their common elements are computed twice, with the same bits. */
#define COLUMN(v) ((v) < vectors - 1 || vectors == 1 ? (v) * VL : last)

/* What the tiles of a strip share. a(i, k) is a[i * a_row + k * a_step]; the a of the next tile is a_next elements
 * further for each row of this tile. b is a panel: the columns of b that the strip needs. All vectors are whole: for
 * less than one vector of columns, b and bias are read past them, and c is a buffer. */
typedef struct strip {
    const T *b, *bias;
    int64_t a_row, a_step, a_next, ldb, k;
    int64_t last; /* the first column of the last vector */
    int a_packed; /* 1: the rows of a tile are adjacent, and a_step is their number */
    start from;
    finish how;
} strip;

/* c = start + a b over k steps, for `count` tiles one below the other. `rows` and `vectors` are constants wherever this
 * is inlined, so that the accumulators stay in registers. Returns 0 in lanes whose watched elements are finite,
 * NaN in the others. */
static inline __attribute__((always_inline)) vr run_tiles(const strip *t, const T *first_a, T *c, int64_t ldc,
                                                          int64_t count, const int rows, const int vectors) {
    const int64_t a_row = t->a_row, a_step = t->a_packed ? rows : t->a_step, ldb = t->ldb, last = t->last;
    vr bad = {0};
    for (; count; count--, first_a += rows * t->a_next, c += rows * ldc) {
        vr acc[TALL_ROWS][WIDE_1];
        if (t->from == FROM_C) {
            EACH(i, rows)
                EACH(v, vectors)
                    acc[i][v] = load(c + i * ldc + COLUMN(v));
        } else {
            EACH(v, vectors) {
                const vr first = t->from == FROM_BIAS ? load(t->bias + COLUMN(v)) : (vr){0};
                EACH(i, rows)
                    acc[i][v] = first;
            }
        }
        const T *a = first_a, *b = t->b;
        for (int64_t k = t->k; k; k--, a += a_step, b += ldb) {
            vr row[WIDE_1];
            EACH(v, vectors)
                row[v] = load(b + COLUMN(v));
            EACH(i, rows) {
                const vr x = a[i * a_row] - (vr){0};
                EACH(v, vectors)
                    acc[i][v] = fma_vector(x, row[v], acc[i][v]);
            }
        }
        if (FINISHES && t->how == RELU) {
            EACH(i, rows)
                EACH(v, vectors)
                    acc[i][v] = relu_vector(acc[i][v]);
        }
        EACH(i, rows)
            EACH(v, vectors)
                store(c + i * ldc + COLUMN(v), acc[i][v]);
        if (FINISHES && t->how == WATCHED) {
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
#if TILE_ROWS == 6
#define ROWS_ALL(v) ROWS_3(v) ONE(4, v) ONE(5, v) ONE(6, v)
#define ROWS_TO_8 ONE(7, 1) ONE(8, 1)
#else
#define ROWS_ALL(v) ROWS_3(v) ONE(4, v)
#define ROWS_TO_8 ONE(5, 1) ONE(6, 1) ONE(7, 1) ONE(8, 1)
#endif
#if TILE_VECTORS == 4
#define MIDDLE(v) ROWS_ALL(v)
#define FEWER
#else
#define MIDDLE(v) ROWS_3(v)
#define FEWER ONE(4, 3)
#endif
#define WIDER ROWS_TO_8 MIDDLE(4) ROWS_2(5) ROWS_2(6) ONE(1, 7) ONE(1, 8)
#if MICROBP_SMALL /* columns of one vector are computed twice */
    (void)vectors;
    return rows == 1 ? run_tiles(t, a, c, ldc, count, 1, 2) : run_tiles(t, a, c, ldc, count, 2, 2);
#else
    switch (rows * 16 + vectors) { ROWS_ALL(1) ROWS_ALL(2) MIDDLE(3) FEWER WIDER }
    return (vr){0};
#endif
#undef WIDER
#undef FEWER
#undef MIDDLE
#undef ROWS_ALL
#undef ROWS_TO_8
#undef ROWS_3
#undef ROWS_2
#undef ONE
}

/* Rows divided into tiles of nearly equal size: first `larger` tiles of least + 1 rows, then tiles of `least` rows. */
typedef struct division {
    int tiles, least, larger;
} division;

static inline division divide_rows(int rows, int tile_rows) {
    if (!MICROBP_SMALL && rows <= tile_rows)
        return (division){1, rows, 0};
    const int tiles = (rows + tile_rows - 1) / tile_rows, least = rows / tiles;
    return (division){tiles, least, rows - least * tiles};
}

#ifndef ONE_LANE
/* v with zeros in all lanes but the first n. */
static inline vr first_lanes(vr v, int64_t n) {
    T all[VL], first[VL] = {0};
    store(all, v);
    copy_few(VL, n, all, first);
    return load(first);
}

static HOT void copy_few_columns(T *to, int64_t to_ld, const T *from, int64_t from_ld, int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows; i++)
        copy_few(VL, columns, from + i * from_ld, to + i * to_ld);
}

/* run_tiles for less than one vector of columns: a few tiles at a time are computed in a buffer. */
static HOT vr run_narrow_tiles(const strip *t, const T *a, T *c, int64_t ldc, int64_t count, int rows,
                               int64_t columns) {
    T own[NARROW_TILES * TALL_ROWS * VL];
    vr bad = {0};
    for (int64_t tiles; count; count -= tiles, a += tiles * rows * t->a_next, c += tiles * rows * ldc) {
        tiles = smaller(count, NARROW_TILES);
        if (t->from == FROM_C)
            copy_few_columns(own, VL, c, ldc, tiles * rows, columns);
        bad += run_sized_tiles(t, a, own, VL, tiles, rows, 1);
        copy_few_columns(c, ldc, own, VL, tiles * rows, columns);
    }
    return FINISHES && t->how == WATCHED ? first_lanes(bad, columns) : bad; /* the other lanes have read past b */
}
#endif

/* `count` tiles, whether the columns fill a vector or not. Returns as run_tiles does. */
static inline vr run_any_tiles(const strip *t, const T *a, T *c, int64_t ldc, int count, int rows, int64_t columns) {
#ifndef ONE_LANE
    if (columns < VL)
        return run_narrow_tiles(t, a, c, ldc, count, rows, columns);
#endif
    return run_sized_tiles(t, a, c, ldc, count, rows, (int)divide_up(columns, VL));
}

/* All tiles of a strip of `rows` rows. Returns as run_tiles does. */
static __attribute__((noinline)) vr run_strip(strip *t, const T *a, T *c, int64_t ldc, int rows, int tile_rows,
                                              int64_t columns) {
    t->last = MICROBP_SMALL && columns < VL ? 0 : columns - VL;
    if (!MICROBP_SMALL && rows <= tile_rows)
        return run_any_tiles(t, a, c, ldc, 1, rows, columns);
    const division d = divide_rows(rows, tile_rows);
    const int64_t above = d.larger * (d.least + 1);
    vr bad = {0};
    if (above)
        bad = run_any_tiles(t, a, c, ldc, d.larger, d.least + 1, columns);
    return bad + run_any_tiles(t, a + above * t->a_next, c + above * ldc, ldc, d.tiles - d.larger, d.least, columns);
}
