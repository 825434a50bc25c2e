/* Part of kernels.c: which tile computes a piece of a product, what is packed, and how much scratch that takes. */

enum {
    /* c is read and written once per slice, so slices are long. A packed panel, 512 x 64 bytes on AVX2, streams from L2
     * into the tile. With slices of 256 steps, whose panels are half as large as L1, 256x1024x1024 was 2 % slower. */
    SLICE = 512,
    /* The block of a, 264 x 512 floats, is read once per panel and must stay in L2 or near it. 264 rows divide evenly
     * into tiles and hold a batch of 256. */
    BLOCK_ROWS = 1056 / (int)sizeof(T),
    /* Columns of b that are packed at once. Two cache lines of each row if b comes from L2 or L3: 16 lines were 2 %
     * slower at 128x784x512. From 2 MB on, 16 lines, which memory delivers faster: 128x2048x4096 NN 0.86 -> 0.95 of the
     * speed of OpenBLAS. */
    GROUP_COLUMNS = TILE_COLUMNS > 2 * LINE ? TILE_COLUMNS : 2 * LINE,
    GROUP_COLUMNS_FAR = 16 * LINE,
    FAR_BYTES = 2 << 20,
    /* Operands up to this size (x^T: half of it) are read where they are, from L1 and L2. Packing them, as larger ones
     * are, took longer than it saved: 64x100x100 NN 79 -> 88, 64x160x160 NN 78 -> 83 GFLOP/s. */
    IN_PLACE_BYTES = 128 << 10,
    L1_BYTES = 32768,
    SUM_VECTORS = 4,
    SWEEP_ROWS = 3,        /* of x, which run_sweeps in single.h computes together */
    PIECES_PER_THREAD = 4, /* so that the others wait only briefly for a thread that starts late or is interrupted */
};

/* ---- which tile, and what is packed ---- */

/* The tile for a piece of these rows and columns, with k steps. Measurements are in GFLOP/s with AVX2, float32. */
typedef struct tile_size {
    int rows, vectors;
} tile_size;
static inline tile_size find_tile(int64_t rows, int64_t columns, int64_t k) {
    if (MICROBP_SMALL)
        return (tile_size){TILE_ROWS, TILE_VECTORS};
    /* With few rows, a tile must be wide to have enough chains of additions: 1x512x512 NN 18 -> 25. */
    if (rows == 1)
        return (tile_size){1, WIDE_1};
    if (rows == 2)
        return (tile_size){2, WIDE_2};
    if (rows == 3)
        return (tile_size){3, WIDE_3};
    /* With one vector of columns, a tile must be tall: 128x64x4 NN 0.98 -> 1.09 of OpenBLAS. */
    if (columns <= VL)
        return (tile_size){TALL_ROWS, 1};
    /* Outer products write c row by row, without jumps: 1x512x512 TN 9 -> 22. */
    if (k == 1)
        return (tile_size){1, WIDE_1};
    return (tile_size){TILE_ROWS, TILE_VECTORS};
}

/* Approximate number of bytes from the first to the last element of `rows` rows. */
static inline int64_t span(int64_t rows, int64_t ld) { return rows * ld * (int64_t)sizeof(T); }

/* Whether b is packed. Every tile of a panel reads b, which comes from L1 if b is packed or not too large. For two
 * tiles packing does not pay, and a single row of b is contiguous anyway. */
static int packs_b(const mbp_product *p, int64_t rows, int64_t k_count) {
    return !MICROBP_SMALL && p->pattern != MBP_NT && rows > 2 * TILE_ROWS && k_count > 1 &&
           span(k_count, p->b.ld) > IN_PLACE_BYTES;
}

/* Whether there are enough rows and columns to pack a. */
static int may_pack_a(const mbp_product *p, int64_t rows, int64_t columns) {
    return !MICROBP_SMALL && rows > TILE_ROWS && columns > (p->pattern == MBP_TN ? 2 : 4) * TILE_COLUMNS;
}

#if !MICROBP_SMALL
/* Whether a is packed. A tile reads some 24 bytes of each row of x for x^T, so a large x is packed (128x512x512 TN
 * 77 -> 93). Otherwise x and dz are read along their rows, and packed only if their rows are a multiple of 1 KB apart:
 * such rows share cache sets. */
static int packs_a(const mbp_product *p, int64_t rows, int64_t columns, int64_t k_count) {
    if (!may_pack_a(p, rows, columns))
        return 0;
    if (p->pattern == MBP_TN)
        return span(k_count, p->a.ld) > IN_PLACE_BYTES / 2;
    return span(1, p->a.ld) % 1024 == 0 && p->a.ld > k_count;
}
#endif

/* ---- the scratch of a product: the packed block of a, then the packed columns of b ---- */

/* The distance of the rows of a packed block of x or dz: an odd number of cache lines, because rows a multiple of 1 KB
 * apart would share cache sets. */
static int64_t block_ld(int64_t k_count) { return divide_up(k_count, LINE) * LINE | LINE; }

/* Elements of a packed block of a, in whole cache lines. */
static int64_t block_size(const mbp_product *p, int64_t rows, int64_t k_count) {
    return p->pattern == MBP_TN ? divide_up(rows * k_count, LINE) * LINE : rows * block_ld(k_count);
}

/* Columns of b that are packed together. */
static int64_t group_columns(const mbp_product *p) {
    return span(p->k, p->b.ld) > FAR_BYTES ? GROUP_COLUMNS_FAR : GROUP_COLUMNS;
}

/* Columns of a panel of W^T. */
static int64_t panel_columns(int64_t widest, int64_t columns) { return smaller(widest, divide_up(columns, VL) * VL); }

static size_t product_scratch(const mbp_product *p) {
    const int64_t rows = smaller(p->m, BLOCK_ROWS), k_count = MICROBP_SMALL ? p->k : smaller(p->k, SLICE);
    int64_t size = may_pack_a(p, rows, p->n) ? block_size(p, rows, k_count) : 0;
    if (p->pattern == MBP_NT)
        size += k_count * panel_columns(WIDEST, p->n);
    else if (packs_b(p, rows, k_count))
        size += k_count * divide_up(smaller(group_columns(p), p->n), TILE_COLUMNS) * TILE_COLUMNS;
    return (size_t)size * sizeof(T);
}
