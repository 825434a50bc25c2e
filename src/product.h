/* Part of kernels.c: the three products of a dense layer. One driver: a piece is a block of at most PIECE_ROWS x PIECE_COLUMNS of c;
 * it is computed over slices of k, panel by panel (TILE_COLUMNS columns of b) and tile by tile (TILE_ROWS rows of a), and an
 * element's chain of additions goes through c from one slice to the next, so that neither blocking nor packing changes a bit. */

enum {
    TILE_COLUMNS = TILE_VECTORS * VL,
    /* A panel of b, SLICE x TILE_COLUMNS, and a tile of a must stay in a 32 KB L1: 256 x 64 bytes = 16 KB on AVX2. */
    SLICE = 16384 / (TILE_VECTORS * VB),
    PIECE_ROWS = 24 * TILE_ROWS,
    PIECE_COLUMNS = 16 * TILE_COLUMNS,
    /* Packing a (TN: its rows are read across) reads it once more, which one or two panels hardly repay. */
    PACK_A_FROM_COLUMNS = 2 * TILE_COLUMNS + 1,
    PANEL_ELEMENTS = SLICE * TILE_COLUMNS,
    PACK_BYTES = (PANEL_ELEMENTS + SLICE * PIECE_ROWS) * (int)sizeof(T)
};

static inline __attribute__((always_inline)) vr load(const T *at) { return (vr)(*(const vr_memory *)at); }
static inline __attribute__((always_inline)) void store(T *at, vr v) { *(vr_memory *)at = (vr_memory)v; }

/* ---- a tile ---- */

typedef enum { FROM_ZERO, FROM_BIAS, FROM_C } start;

/* One tile's operands: a(i, k) = a[i * a_row + k * a_step]; b's panel and c with their ld. All vectors are whole: b and bias may be read past
 * their columns, and where c ends early the caller gives a c of its own. */
typedef struct tile {
    const T *a, *b, *bias;
    T *c;
    int64_t a_row, a_step, ldb, ldc, k;
    start from;
    int relu, watch; /* apply relu at the store; look for non-finite elements at the store */
} tile;

/* c = start + a b over k steps; the accumulators live in registers because rows and vectors are constants wherever this is inlined. Returns
 * 0 in the lanes whose stored elements are all finite, else NaN. */
static inline __attribute__((always_inline)) vr run_tile(const tile *t, const int rows, const int vectors) {
    vr acc[TILE_ROWS][TILE_VECTORS], bad = {0};
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int v = 0; v < vectors; v++)
            acc[i][v] = t->from == FROM_C ? load(t->c + i * t->ldc + v * VL) : t->from == FROM_BIAS ? load(t->bias + v * VL) : (vr){0};
    }
    const T *a = t->a, *b = t->b;
    const int64_t a_row = t->a_row, a_step = t->a_step, ldb = t->ldb;
    for (int64_t k = t->k; k; k--, a += a_step, b += ldb) {
        vr row[TILE_VECTORS];
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
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int v = 0; v < vectors; v++) {
            vr z = acc[i][v];
            if (t->relu)
                z = (vr)(~(vi)(z < 0) & (vi)z); /* keeps NaN */
            if (t->watch)
                bad += z - z;
            store(t->c + i * t->ldc + v * VL, z);
        }
    }
    return bad;
}

/* run_tile for the tile sizes that occur, each compiled for itself. */
static vr run_sized_tile(const tile *t, int rows, int vectors) {
#define ONE(r, v)                                                                                                                          \
    case (r) * 8 + (v):                                                                                                                    \
        return run_tile(t, r, v);
#if TILE_VECTORS == 4
#define WIDTHS(r) ONE(r, 1) ONE(r, 2) ONE(r, 3) ONE(r, 4)
#else
#define WIDTHS(r) ONE(r, 1) ONE(r, 2)
#endif
    switch (rows * 8 + vectors) {
        WIDTHS(1) WIDTHS(2) WIDTHS(3) WIDTHS(4)
#if TILE_ROWS == 6
        WIDTHS(5) WIDTHS(6)
#endif
    }
#undef WIDTHS
#undef ONE
    return (vr){0};
}

/* ---- packing ---- */

/* to[k][j] = from[j][k] for VL rows and columns: interleaving row i with row i + VL / 2, log2(VL) times, is a transposition. */
static inline void transpose_block(T *to, int64_t to_ld, const T *from, int64_t from_ld) {
    vr rows[VL], next[VL];
    UNROLL
    for (int i = 0; i < VL; i++)
        rows[i] = load(from + i * from_ld);
    UNROLL
    for (int size = 1; size < VL; size *= 2) {
        UNROLL
        for (int i = 0; i < VL / 2; i++) {
            next[2 * i] = INTERLEAVE(LOW, rows[i], rows[i + VL / 2]);
            next[2 * i + 1] = INTERLEAVE(HIGH, rows[i], rows[i + VL / 2]);
        }
        UNROLL
        for (int i = 0; i < VL; i++)
            rows[i] = next[i];
    }
    UNROLL
    for (int i = 0; i < VL; i++)
        store(to + i * to_ld, rows[i]);
}

/* A panel of W^T: to[k][j] = b[first_column + j][first_k + k]. */
static void pack_panel_transposed(T *to, const mbp_product *p, int64_t first_k, int64_t k_count, int64_t first_column, int64_t columns) {
    const T *from = (const T *)p->b.at + first_column * p->b.ld + first_k;
    const int64_t whole_columns = columns / VL * VL, whole_k = k_count / VL * VL;
    for (int64_t j = 0; j < whole_columns; j += VL)
        for (int64_t k = 0; k < whole_k; k += VL)
            transpose_block(to + k * TILE_COLUMNS + j, TILE_COLUMNS, from + j * p->b.ld + k, p->b.ld);
    for (int64_t j = 0; j < columns; j++)
        for (int64_t k = j < whole_columns ? whole_k : 0; k < k_count; k++)
            to[k * TILE_COLUMNS + j] = from[j * p->b.ld + k];
}

/* A block of x^T, the steps of k one after the other: to[k][i] = a[first_k + k][first_row + i]. */
static void pack_block(T *to, const mbp_product *p, int64_t first_k, int64_t k_count, int64_t first_row, int64_t rows) {
    const T *from = (const T *)p->a.at + first_k * p->a.ld + first_row;
    for (int64_t k = 0; k < k_count; k++)
        memcpy(to + k * rows, from + k * p->a.ld, (size_t)rows * sizeof(T));
}

/* ---- a piece ---- */

typedef struct piece {
    int64_t row, rows, column, columns;
} piece;

static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t product_pieces(const mbp_product *p) { return divide_up(p->m, PIECE_ROWS) * divide_up(p->n, PIECE_COLUMNS); }

static piece piece_at(const mbp_product *p, int64_t index) {
    int64_t across = divide_up(p->n, PIECE_COLUMNS);
    int64_t row = index / across * PIECE_ROWS, column = index % across * PIECE_COLUMNS;
    return (piece){row, smaller(PIECE_ROWS, p->m - row), column, smaller(PIECE_COLUMNS, p->n - column)};
}

static int is_zero(vr v) {
    T sum = 0;
    for (int l = 0; l < VL; l++)
        sum += v[l];
    return sum == 0;
}

/* A tile whose last vector is wider than c: it is computed in a c of its own. Returns as run_tile does. */
static vr run_edge_tile(tile t, int rows, int64_t columns) {
    T *const c = t.c, own[TILE_ROWS * TILE_COLUMNS], bad = 0;
    const int64_t ldc = t.ldc, whole = divide_up(columns, VL) * VL;
    for (int i = 0; t.from == FROM_C && i < rows; i++)
        for (int64_t j = 0; j < whole; j++)
            own[i * TILE_COLUMNS + j] = j < columns ? c[i * ldc + j] : 0;
    t.c = own, t.ldc = TILE_COLUMNS;
    run_sized_tile(&t, rows, (int)(whole / VL));
    for (int i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            const T z = own[i * TILE_COLUMNS + j];
            bad += z - z;
            c[i * ldc + j] = z;
        }
    return (vr){0} + bad;
}

/* All row tiles of one panel, in tiles as equal as they can be; t holds the panel's first tile. Returns as run_tile does. */
static vr run_panel(tile t, int64_t rows, int64_t columns) {
    const int64_t tiles = divide_up(rows, TILE_ROWS), least = rows / tiles, larger = rows % tiles;
    const int vectors = (int)(columns / VL), is_edge = columns % VL != 0;
    vr bad = {0};
    for (int64_t i = 0; i < tiles; i++) {
        const int here = (int)least + (i < larger);
        bad += is_edge ? run_edge_tile(t, here, columns) : run_sized_tile(&t, here, vectors);
        t.a += here * t.a_row;
        t.c += here * t.ldc;
    }
    return bad;
}

/* identity and relu on c itself need no pass of their own: relu happens where the tile is stored. */
static int map_in_registers(const mbp_product *p) {
    return p->map_out.at == p->c.at && p->map_in.at == p->c.at && (p->map == forward_identity || p->map == forward_relu);
}

/* One slice of k for all panels of a piece. */
static int run_slice(const mbp_product *p, piece q, int64_t first_k, int64_t k_count, T *panel) {
    const int last = first_k + k_count == p->k;
    T *block = panel + PANEL_ELEMENTS;
    tile t = {.k = k_count, .ldc = p->c.ld, .watch = last && p->nonfinite, .relu = last && p->map == forward_relu && map_in_registers(p)};
    t.from = first_k || p->add ? FROM_C : p->bias ? FROM_BIAS : FROM_ZERO;
    if (p->pattern != MBP_TN) {
        t.a = (const T *)p->a.at + q.row * p->a.ld + first_k;
        t.a_row = p->a.ld, t.a_step = 1;
    } else if (q.columns >= PACK_A_FROM_COLUMNS) {
        pack_block(block, p, first_k, k_count, q.row, q.rows);
        t.a = block;
        t.a_row = 1, t.a_step = q.rows;
    } else {
        t.a = (const T *)p->a.at + first_k * p->a.ld + q.row;
        t.a_row = 1, t.a_step = p->a.ld;
    }
    int bad = 0;
    for (int64_t column = q.column; column < q.column + q.columns; column += TILE_COLUMNS) {
        const int64_t columns = smaller(TILE_COLUMNS, q.column + q.columns - column);
        t.c = (T *)p->c.at + q.row * p->c.ld + column;
        t.bias = p->bias ? (const T *)p->bias + column : NULL;
        if (p->pattern == MBP_NT) {
            pack_panel_transposed(panel, p, first_k, k_count, column, columns);
            t.b = panel, t.ldb = TILE_COLUMNS;
        } else {
            t.b = (const T *)p->b.at + first_k * p->b.ld + column;
            t.ldb = p->b.ld;
        }
        const vr lanes = run_panel(t, q.rows, columns);
        bad |= t.watch && !is_zero(lanes);
    }
    return bad;
}

/* db = the sums of b's columns, rows in order, in chunks of MBP_LOSS_CHUNK added in order. Returns whether one is not finite. */
static int sum_columns(const mbp_product *p, int64_t first, int64_t columns) {
    T bad = 0;
    for (int64_t j = first; j < first + columns; j += VL) {
        T *const db = (T *)p->db + j, part[VL] = {0};
        const int64_t n = smaller(VL, first + columns - j);
        for (int64_t l = 0; p->add && l < n; l++)
            part[l] = db[l];
        vr total = load(part);
        for (int64_t chunk = 0; chunk < p->k; chunk += MBP_LOSS_CHUNK) {
            vr sum = {0};
            for (int64_t k = chunk; k < smaller(p->k, chunk + MBP_LOSS_CHUNK); k++)
                sum += load((const T *)p->b.at + k * p->b.ld + j);
            total += sum;
        }
        store(part, total);
        for (int64_t l = 0; l < n; l++) {
            bad += part[l] - part[l];
            db[l] = part[l];
        }
    }
    return bad != 0;
}

static mbp_view view_at(mbp_view v, int64_t row, int64_t column) { return (mbp_view){(T *)v.at + row * v.ld + column, v.ld}; }

static void product_run(const mbp_product *p, int64_t first, int64_t last, void *pack) {
    int bad = 0;
    for (int64_t i = first; i < last; i++) {
        const piece q = piece_at(p, i);
        for (int64_t k = 0; k < p->k; k += SLICE)
            bad |= run_slice(p, q, k, smaller(SLICE, p->k - k), pack);
        if (p->db && q.row == 0)
            bad |= sum_columns(p, q.column, q.columns);
        if (p->map && !map_in_registers(p))
            p->map(q.rows, q.columns, view_at(p->map_out, q.row, q.column), view_at(p->map_in, q.row, q.column), p->parameters);
    }
    if (p->nonfinite && bad)
        __atomic_store_n(p->nonfinite, 1, __ATOMIC_RELAXED);
}
