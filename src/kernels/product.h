/* Part of kernels.c: the three products of a dense layer, with one driver.
 *
 * A piece is a block of c. It is computed slice by slice (a slice is a range of k), in a slice group by group (columns
 * of b that are packed together), in a group panel by panel (the columns of one tile), and in a panel tile by tile. The
 * next slice continues each chain of additions from the value in c, so neither blocking nor packing changes a bit. */

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
    L1_BYTES = 32768,
    ROW_VECTORS = 2, /* vectors of rows of W for one row of dz; 4 were 20 % slower at 1x512x512 */
    SUM_VECTORS = MICROBP_SMALL ? 1 : 4,
    PIECES_PER_THREAD = 4, /* so that the others wait only briefly for a thread that starts late or is interrupted */
};

/* ---- which tile, and what is packed ---- */

#define ANY INT64_MAX

/* The tile for a piece of at most these rows, columns and steps of k. The first rule that fits applies. Measurements
 * are in GFLOP/s with AVX2, float32. */
typedef struct tile_rule {
    int64_t rows, columns, k;
    int tile_rows, tile_vectors;
} tile_rule;
static const tile_rule tile_rules[] = {
    /* With few rows, a tile must be wide to have enough chains of additions: 1x512x512 NN 18 -> 25. */
    {1, ANY, ANY, 1, WIDE_1},
    {2, ANY, ANY, 2, WIDE_2},
    {3, ANY, ANY, TILE_ROWS < 3 ? TILE_ROWS : 3, WIDE_3},
    /* With one vector of columns, a tile must be tall: 128x64x4 NN 0.98 -> 1.09 of OpenBLAS. */
    {ANY, VL, ANY, TALL_ROWS, 1},
    /* Outer products write c row by row, without jumps: 1x512x512 TN 9 -> 22. */
    {ANY, ANY, 1, 1, WIDE_1},
    {ANY, ANY, ANY, TILE_ROWS, TILE_VECTORS},
};

static const tile_rule *find_tile(int64_t rows, int64_t columns, int64_t k) {
    const tile_rule *rule = tile_rules;
    while (rows > rule->rows || columns > rule->columns || k > rule->k)
        rule++;
    return rule;
}

/* Approximate number of bytes from the first to the last element of `rows` rows. */
static inline int64_t span(int64_t rows, int64_t ld) { return rows * ld * (int64_t)sizeof(T); }

/* Whether b is packed. Every tile of a panel reads b, which should then come from L1: it does if b is packed or small.
 * For two tiles packing does not pay, and a single row of b is contiguous anyway. */
static int packs_b(const mbp_product *p, int64_t rows, int64_t k_count) {
    return !MICROBP_SMALL && p->pattern != MBP_NT && rows > 2 * TILE_ROWS && k_count > 1 &&
           span(k_count, p->b.ld) > L1_BYTES;
}

/* Steps of k in a slice. If few rows use a large W once, it is read eight whole rows at a time, the order in which
 * memory streams it: 1x4096x4096 NN 8 -> 15. */
static int64_t slice_steps(const mbp_product *p, int64_t rows) {
    return p->pattern == MBP_NN && rows <= 3 && span(p->k, p->b.ld) > FAR_BYTES ? 8 : SLICE;
}

/* Whether there are enough rows and columns to pack a. */
static int may_pack_a(const mbp_product *p, int64_t rows, int64_t columns) {
    return !MICROBP_SMALL && rows > TILE_ROWS && columns > (p->pattern == MBP_TN ? 2 : 4) * TILE_COLUMNS;
}

/* Whether a is packed. A tile reads some 24 bytes of each row of x for x^T, so x is packed unless it stays in L1
 * (128x512x512 TN 77 -> 93). Otherwise x and dz are read along their rows, and packed only if their rows are a multiple
 * of 1 KB apart: such rows share cache sets. */
static int packs_a(const mbp_product *p, int64_t rows, int64_t columns, int64_t k_count) {
    if (!may_pack_a(p, rows, columns))
        return 0;
    if (p->pattern == MBP_TN)
        return span(k_count, p->a.ld) > L1_BYTES / 2;
    return span(1, p->a.ld) % 1024 == 0 && p->a.ld > k_count;
}

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
    const int64_t rows = smaller(p->m, BLOCK_ROWS), k_count = smaller(p->k, SLICE);
    int64_t size = may_pack_a(p, rows, p->n) ? block_size(p, rows, k_count) : 0;
    if (p->pattern == MBP_NT)
        size += k_count * panel_columns(WIDEST, p->n);
    else if (packs_b(p, rows, k_count))
        size += k_count * divide_up(smaller(group_columns(p), p->n), TILE_COLUMNS) * TILE_COLUMNS;
    return (size_t)size * sizeof(T);
}

/* ---- a piece ---- */

typedef struct piece {
    int64_t row, rows, column, columns;
} piece;

/* The size of a part if `size` is divided into `parts` parts: whole units, and not less than `least`. */
static int64_t part(int64_t size, int64_t parts, int64_t unit, int64_t least) {
    const int64_t whole = divide_up(divide_up(size, parts), unit) * unit;
    return smaller(size, whole > least ? whole : least);
}

/* The piece at the top left, the largest. Pieces side by side share the block of a, and pieces one above the other
 * share b: the operand that costs more to pack is cut last. */
static piece first_piece(const mbp_product *p) {
    piece q = {0, smaller(p->m, BLOCK_ROWS), 0, p->n};
    if (!MICROBP_THREADS || p->threads <= 1)
        return q;
    const int64_t wanted = (int64_t)PIECES_PER_THREAD * p->threads;
    for (int i = 0; i < 2; i++)
        if ((i == 0) == (p->pattern == MBP_TN))
            q.rows = smaller(q.rows,
                             part(p->m, divide_up(wanted, divide_up(p->n, q.columns)), TILE_ROWS, 4 * TILE_ROWS));
        else
            q.columns = part(p->n, divide_up(wanted, divide_up(p->m, q.rows)), GROUP_COLUMNS, 2 * GROUP_COLUMNS);
    return q;
}

static int64_t product_pieces(const mbp_product *p) {
    const piece q = first_piece(p);
    return q.rows == p->m && q.columns == p->n ? 1 : divide_up(p->m, q.rows) * divide_up(p->n, q.columns);
}

static piece piece_at(const mbp_product *p, int64_t index) {
    piece q = first_piece(p);
    if (index == 0)
        return q;
    const int64_t across = divide_up(p->n, q.columns);
    q.row = index / across * q.rows, q.column = index % across * q.columns;
    q.rows = smaller(q.rows, p->m - q.row), q.columns = smaller(q.columns, p->n - q.column);
    return q;
}

static int is_zero(vr v) { return sum_vector(v) == 0; }

static int is_relu(mbp_map map) {
#if MICROBP_FORMULAS && !MICROBP_HAS_relu
    (void)map;
    return 0;
#else
    return map == forward_relu;
#endif
}

/* Whether the map needs no pass of its own: identity leaves c as it is, and tiles apply relu when they store c. */
static int map_in_registers(const mbp_product *p) {
    return p->map_out.at == p->c.at && p->map_in.at == p->c.at && (p->map == forward_identity || is_relu(p->map));
}

static mbp_view view_at(mbp_view v, int64_t row, int64_t column) {
    return (mbp_view){(T *)v.at + row * v.ld + column, v.ld};
}
static T *element(mbp_view v, int64_t row, int64_t column) { return (T *)v.at + row * v.ld + column; }

/* A slice of a piece. */
typedef struct slice {
    const mbp_product *p;
    piece q;
    int64_t first_k;
    int64_t width; /* columns of a panel */
    int64_t group; /* columns of b that are packed together */
    division rows; /* into tiles */
    int last, packs_b;
    const T *a; /* of the first tile */
    strip t;
    T *pack; /* of b */
} slice;

/* Sets the operand a of the tiles, packed or where it is, and the place of the packed b. */
static void set_a(slice *s, T *block) {
    const mbp_product *p = s->p;
    const int is_tn = p->pattern == MBP_TN, packs = packs_a(p, s->q.rows, s->q.columns, s->t.k);
    const int64_t ld = block_ld(s->t.k);
    s->a = is_tn ? element(p->a, s->first_k, s->q.row) : element(p->a, s->q.row, s->first_k);
    s->t.a_row = s->t.a_next = is_tn ? 1 : p->a.ld;
    s->t.a_step = is_tn ? p->a.ld : 1;
    s->t.a_packed = packs && is_tn;
    s->pack = packs ? block + block_size(p, s->q.rows, s->t.k) : block;
    if (packs && is_tn) {
        pack_tiles(block, s->a, p->a.ld, s->t.k, s->rows);
        s->a = block, s->t.a_next = s->t.k;
    } else if (packs) {
        pack_rows(block, ld, s->a, p->a.ld, s->t.k, s->q.rows);
        s->a = block, s->t.a_row = s->t.a_next = ld;
    }
}

static void set_slice(slice *s, const mbp_product *p, piece q, int64_t first_k, int64_t k_count, T *pack) {
    const tile_rule *rule = find_tile(q.rows, q.columns, p->k);
    s->p = p, s->q = q, s->first_k = first_k;
    s->width = panel_columns(rule->tile_vectors * VL, q.columns);
    s->rows = divide_rows((int)q.rows, rule->tile_rows);
    s->last = first_k + k_count == p->k;
    s->packs_b = packs_b(p, q.rows, k_count);
    s->group = s->packs_b ? group_columns(p) : WIDEST;
    s->t.k = k_count;
    s->t.ldb = s->packs_b ? TILE_COLUMNS : p->pattern == MBP_NT ? s->width : p->b.ld;
    s->t.from = first_k || p->add ? FROM_C : p->bias ? FROM_BIAS : FROM_ZERO;
    s->t.how = !s->last ? AS_IT_IS : p->nonfinite ? WATCHED : is_relu(p->map) && map_in_registers(p) ? RELU : AS_IT_IS;
    set_a(s, pack);
}

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
#endif

/* Computes one panel: columns of c from column j on, in the group that starts at column `group`. Returns 1 if a watched
 * element is not finite. */
static int run_panel(slice *s, int64_t group, int64_t j, int64_t columns) {
    const mbp_product *p = s->p;
    T *c = element(p->c, s->q.row, j);
    s->t.bias = p->bias ? (const T *)p->bias + j : NULL;
    s->t.b = s->packs_b ? s->pack + (j - group) * s->t.k : element(p->b, s->first_k, j);
    if (p->pattern == MBP_NT) {
        const T *const w = element(p->b, j, s->first_k);
#if MICROBP_SMALL
        const int64_t done = 0;
#else
        const int64_t done = s->q.rows == 1 ? run_row(&s->t, s->a, w, p->b.ld, c, columns) : 0;
#endif
        if (done == columns)
            return 0;
        c += done, columns -= done;
        pack_panel_transposed(s->pack, s->width, w + done * p->b.ld, p->b.ld, s->t.k, columns);
        s->t.b = s->pack;
    }
    const vr bad = run_strip(&s->t, s->a, c, p->c.ld, s->rows, columns);
    return s->t.how == WATCHED && !is_zero(bad);
}

/* Computes one slice for all columns of a piece. In the last slice finished columns go through the map while they are
 * in cache. Returns 1 if a watched element is not finite. */
static int run_slice(slice *s) {
    const mbp_product *p = s->p;
    const int maps = s->last && p->map && !map_in_registers(p);
    const int64_t end = s->q.column + s->q.columns;
    int bad = 0;
    for (int64_t group = s->q.column; group < end; group += s->group) {
        const int64_t group_end = smaller(group + s->group, end);
        if (s->packs_b)
            pack_panels(s->pack, element(p->b, s->first_k, group), p->b.ld, s->t.k, group_end - group);
        for (int64_t j = group; j < group_end; j += s->width)
            bad |= run_panel(s, group, j, smaller(s->width, group_end - j));
        if (maps)
            p->map(s->q.rows, group_end - group, view_at(p->map_out, s->q.row, group),
                   view_at(p->map_in, s->q.row, group), p->parameters);
    }
    return bad;
}

#if !MICROBP_SMALL
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

static HOT void product_run(const mbp_product *p, int64_t first, int64_t last, void *pack) {
    int bad = 0;
    for (int64_t i = first; i < last; i++) {
        piece q = piece_at(p, i);
        if (p->db && q.row == 0)
            bad |= sum_columns(p, q.column, q.columns);
#if !MICROBP_SMALL
        if (p->n == 1 && p->c.ld == 1 && (p->b.ld == 1 || p->pattern != MBP_NN)) {
            const int64_t done = run_single_column(p, q, &bad);
            q.row += done, q.rows -= done;
        }
#endif
        const int64_t steps = slice_steps(p, q.rows);
        for (int64_t k = q.rows ? 0 : p->k; k < p->k; k += steps) {
            slice s;
            set_slice(&s, p, q, k, smaller(steps, p->k - k), pack);
            bad |= run_slice(&s);
        }
    }
    if (p->nonfinite && bad)
        __atomic_store_n(p->nonfinite, 1, __ATOMIC_RELAXED);
}
