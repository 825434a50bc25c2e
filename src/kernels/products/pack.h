/* Part of kernels.c: copies operands of a product into contiguous memory, in the order in which tiles read them. */

enum { LANES_16 = 16 / (int)sizeof(T), LINE = 64 / (int)sizeof(T) };

#if !MICROBP_SMALL
/* Transposes VL rows and LANES_16 columns: rows[k] = from[0 ... VL - 1][k]. Each vector is loaded in pieces of 16
 * bytes, one of each of VL / LANES_16 rows. Then vectors i and i + LANES_16 / 2 are interleaved within each 16 bytes,
 * and this is repeated log2(LANES_16) times. */
static inline __attribute__((always_inline)) void transpose(vr rows[LANES_16], const T *from, int64_t from_ld) {
    vr next[LANES_16];
    EACH(i, LANES_16)
        rows[i] = load_16s(from + i * from_ld, LANES_16 * from_ld);
    UNROLL
    for (int size = 1; size < LANES_16; size *= 2) {
        EACH(i, LANES_16 / 2) {
            next[2 * i] = INTERLEAVE(LOW, rows[i], rows[i + LANES_16 / 2]);
            next[2 * i + 1] = INTERLEAVE(HIGH, rows[i], rows[i + LANES_16 / 2]);
        }
        EACH(i, LANES_16)
            rows[i] = next[i];
    }
}

/* The first `steps` columns of such a block: to[k][j] = from[j][k]. */
static inline __attribute__((always_inline)) void pack_block(T *to, int64_t to_ld, const T *from, int64_t from_ld,
                                                             int64_t steps) {
    vr rows[LANES_16];
    transpose(rows, from, from_ld);
    EACH(i, LANES_16)
        if (i < steps)
            store(to + i * to_ld, rows[i]);
}

/* A panel of W^T, for less than one vector of columns: 16 bytes of each row are copied into a block. */
static void pack_narrow_panel(T *to, int64_t to_ld, const T *from, int64_t from_ld, int64_t k_count, int64_t columns) {
    T block[VL * LANES_16] = {0};
    for (int64_t k = 0; k < k_count; k += LANES_16) {
        for (int64_t j = 0; j < columns; j++)
            memcpy(block + j * LANES_16, from + j * from_ld + k, LANES_16 * sizeof(T)); /* constant size: no call */
        pack_block(to + k * to_ld, to_ld, block, LANES_16, k_count - k);
    }
}
#endif

/* A panel of W^T: to[k][j] = from[j][k]. Reads up to 16 bytes past the ends of rows. */
static HOT void pack_panel_transposed(T *to, int64_t to_ld, const T *from, int64_t from_ld, int64_t k_count,
                                      int64_t columns) {
#if MICROBP_SMALL
    for (int64_t j = 0; j < columns; j++)
        for (int64_t k = 0; k < k_count; k++)
            to[k * to_ld + j] = from[j * from_ld + k];
#else
    if (columns < VL) {
        pack_narrow_panel(to, to_ld, from, from_ld, k_count, columns);
        return;
    }
    for (int64_t j = 0; j < columns; j += VL) {
        const int64_t first = smaller(j, columns - VL);
        const T *const rows = from + first * from_ld;
        int64_t k = 0;
        for (; k + LANES_16 <= k_count; k += LANES_16)
            pack_block(to + k * to_ld + first, to_ld, rows + k, from_ld, LANES_16);
        if (k < k_count)
            pack_block(to + k * to_ld + first, to_ld, rows + k, from_ld, k_count - k);
    }
#endif
}

#if !MICROBP_SMALL
/* Panels of b, one after the other: to[panel][k][j] = from[k][column j of the panel]. It copies whole vectors. */
static HOT void pack_panels(T *to, const T *from, int64_t from_ld, int64_t k_count, int64_t columns) {
    const int64_t whole = columns / TILE_COLUMNS * TILE_COLUMNS;
    for (int64_t k = 0; k < k_count; k++, from += from_ld) {
        T *row = to + k * TILE_COLUMNS;
        for (int64_t j = 0; j < whole; j += TILE_COLUMNS, row += k_count * TILE_COLUMNS) {
            EACH(v, TILE_VECTORS)
                store(row + v * VL, load(from + j + v * VL));
        }
        for (int64_t j = whole; j < columns; j += VL)
            store(row + j - whole, load(from + j));
    }
}

static inline __attribute__((always_inline)) T *copy_tiles(T *to, const T *from, int64_t from_ld, int64_t k_count,
                                                           int64_t count, const int rows) {
    for (; count; count--, from += rows)
        for (int64_t k = 0; k < k_count; k++, to += rows)
            memcpy(to, from + k * from_ld, (size_t)rows * sizeof(T)); /* constant size: no call */
    return to;
}

static HOT T *copy_sized_tiles(T *to, const T *from, int64_t from_ld, int64_t k_count, int64_t count, int64_t rows) {
#define ONE(r) \
    case r: return copy_tiles(to, from, from_ld, k_count, count, r);
#if TILE_ROWS == 6
#define MORE ONE(5) ONE(6)
#else
#define MORE
#endif
    switch (rows) { ONE(1) ONE(2) ONE(3) ONE(4) MORE }
#undef MORE
#undef ONE
    return to;
}

/* Tiles of x^T, one after the other: to[tile][k][i] = from[k][row i of the tile]. */
static void pack_tiles(T *to, const T *from, int64_t from_ld, int64_t k_count, division d) {
    to = copy_sized_tiles(to, from, from_ld, k_count, d.larger, d.least + 1);
    copy_sized_tiles(to, from + d.larger * (d.least + 1), from_ld, k_count, d.tiles - d.larger, d.least);
}

/* Rows of x or dz: to[i][k] = from[i][k]. */
static HOT void pack_rows(T *to, int64_t to_ld, const T *from, int64_t from_ld, int64_t k_count, int64_t rows) {
    for (int64_t i = 0; i < rows; i++)
        memcpy(to + i * to_ld, from + i * from_ld, (size_t)k_count * sizeof(T));
}
#endif
