/* Part of kernels.c: the three products of a dense layer, with one driver.
 *
 * A piece is a block of c. It is computed slice by slice (a slice is a range of k), in a slice group by group (columns
 * of b that are packed together), in a group panel by panel (the columns of one tile), and in a panel tile by tile. The
 * next slice continues each chain of additions from the value in c, so neither blocking nor packing changes a bit. */

/* ---- a piece ---- */

/* Small code without threads has no reason to cut a product. */
enum { ONE_PIECE = MICROBP_SMALL && !MICROBP_THREADS };

/* The size of a part if `size` is divided into `parts` parts: whole units, and not less than `least`. */
static int64_t part(int64_t size, int64_t parts, int64_t unit, int64_t least) {
    const int64_t whole = divide_up(divide_up(size, parts), unit) * unit;
    return smaller(size, whole > least ? whole : least);
}

/* Cuts the largest piece, at the top left, into parts for several threads. Pieces side by side share the block of a,
 * and pieces one above the other share b: the operand that costs more to pack is cut last. Few rows of x wait for W
 * from memory, which delivers long rows faster. */
static __attribute__((noinline)) void cut_piece(const mbp_product *p, int64_t *rows, int64_t *columns) {
    const int64_t wanted = (p->pattern == MBP_NN && p->m <= SWEEP_ROWS ? 1 : PIECES_PER_THREAD) * (int64_t)p->threads;
    for (int i = 0; i < 2; i++)
        if ((i == 0) == (p->pattern == MBP_TN))
            *rows = smaller(*rows, part(p->m, divide_up(wanted, divide_up(p->n, *columns)), TILE_ROWS, 4 * TILE_ROWS));
        else
            *columns = part(p->n, divide_up(wanted, divide_up(p->m, *rows)), GROUP_COLUMNS, 2 * GROUP_COLUMNS);
}

/* The piece at the top left, the largest. */
static inline piece first_piece(const mbp_product *p) {
    int64_t rows = MICROBP_SMALL ? p->m : smaller(p->m, BLOCK_ROWS), columns = p->n;
    if (MICROBP_THREADS && p->threads > 1)
        cut_piece(p, &rows, &columns);
    return (piece){0, rows, 0, columns};
}

static int64_t product_pieces(const mbp_product *p) {
    if (ONE_PIECE || (p->threads <= 1 && p->m <= BLOCK_ROWS))
        return 1;
    const piece q = first_piece(p);
    return q.rows == p->m && q.columns == p->n ? 1 : divide_up(p->m, q.rows) * divide_up(p->n, q.columns);
}

static inline piece piece_at(const mbp_product *p, int64_t index) {
    piece q = first_piece(p);
    if (ONE_PIECE || index == 0)
        return q;
    const int64_t across = divide_up(p->n, q.columns);
    q.row = index / across * q.rows, q.column = index % across * q.columns;
    q.rows = smaller(q.rows, p->m - q.row), q.columns = smaller(q.columns, p->n - q.column);
    return q;
}

static int is_relu(mbp_map map) {
#if MICROBP_SMALL || (MICROBP_FORMULAS && !MICROBP_HAS_relu)
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

/* A piece without slices, which packs only W^T, with as little planning as possible: 1x8x4 NN 45 -> 25 ns. Returns 1 if
 * a watched element is not finite. In small code all pieces are computed so. */
static int run_plain(const mbp_product *p, piece q, T *pack) {
    const int is_tn = p->pattern == MBP_TN, is_nt = p->pattern == MBP_NT, in_registers = map_in_registers(p);
    const T *const a = is_tn ? element(p->a, 0, q.row) : element(p->a, q.row, 0);
    const tile_size tile = find_tile(q.rows, q.columns, p->k);
    strip t = {.a_step = is_tn ? p->a.ld : 1, .ldb = p->b.ld, .k = p->k};
    t.a_row = t.a_next = is_tn ? 1 : p->a.ld;
    t.from = p->add ? FROM_C : p->bias ? FROM_BIAS : FROM_ZERO;
    t.how = p->nonfinite ? WATCHED : in_registers && is_relu(p->map) ? RELU : AS_IT_IS;
    vr bad = {0};
    const int64_t end = q.column + q.columns;
    for (int64_t j = q.column, columns; j < end; j += columns) {
        columns = next_columns(end - j, tile.vectors);
        t.bias = p->bias ? (const T *)p->bias + j : NULL;
        t.b = is_nt ? pack : element(p->b, 0, j);
        if (is_nt) {
            t.ldb = divide_up(columns, VL) * VL;
            pack_panel_transposed(pack, t.ldb, element(p->b, j, 0), p->b.ld, p->k, columns);
        }
        /* A tile of three vectors has room for four rows: 64x24x24 NN 75 -> 85. */
        const int fewer = !MICROBP_SMALL && TILE_VECTORS == 2 && tile.rows == TILE_ROWS && columns > 2 * VL;
        bad += run_strip(&t, a, element(p->c, q.row, j), p->c.ld, (int)q.rows, fewer ? 4 : tile.rows, columns);
    }
    if (p->map && !in_registers)
        map_rows(p->map, q.rows, q.columns, view_at(p->map_out, q.row, q.column), view_at(p->map_in, q.row, q.column),
                 p->parameters);
#if MICROBP_SMALL && MICROBP_TRAINING
    for (int64_t i = 0; p->nonfinite && i < q.rows; i++)
        if (!all_finite(q.columns, element(p->c, q.row + i, q.column)))
            return 1;
#endif
    return FINISHES && t.how == WATCHED && !is_zero(bad);
}
#if !MICROBP_SMALL
/* A slice of a piece. */
typedef struct slice {
    const mbp_product *p;
    piece q;
    int64_t first_k;
    int64_t width; /* columns of a panel */
    int64_t group; /* columns of b that are packed together */
    int tile_rows;
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
        pack_tiles(block, s->a, p->a.ld, s->t.k, divide_rows((int)s->q.rows, s->tile_rows));
        s->a = block, s->t.a_next = s->t.k;
    } else if (packs) {
        pack_rows(block, ld, s->a, p->a.ld, s->t.k, s->q.rows);
        s->a = block, s->t.a_row = s->t.a_next = ld;
    }
}

static void set_slice(slice *s, const mbp_product *p, piece q, int64_t first_k, int64_t k_count, T *pack) {
    const tile_size tile = find_tile(q.rows, q.columns, p->k);
    s->p = p, s->q = q, s->first_k = first_k;
    s->width = panel_columns(tile.vectors * VL, q.columns);
    s->tile_rows = tile.rows;
    s->last = first_k + k_count == p->k;
    s->packs_b = packs_b(p, q.rows, k_count);
    s->group = s->packs_b ? group_columns(p) : WIDEST;
    s->t.k = k_count;
    s->t.ldb = s->packs_b ? TILE_COLUMNS : p->pattern == MBP_NT ? s->width : p->b.ld;
    s->t.from = first_k || p->add ? FROM_C : p->bias ? FROM_BIAS : FROM_ZERO;
    s->t.how = !s->last ? AS_IT_IS : p->nonfinite ? WATCHED : is_relu(p->map) && map_in_registers(p) ? RELU : AS_IT_IS;
    set_a(s, pack);
}

/* Computes one panel: columns of c from column j on, in the group that starts at column `group`. Returns 1 if a watched
 * element is not finite. */
static int run_panel(slice *s, int64_t group, int64_t j, int64_t columns) {
    const mbp_product *p = s->p;
    T *c = element(p->c, s->q.row, j);
    s->t.bias = p->bias ? (const T *)p->bias + j : NULL;
    s->t.b = s->packs_b ? s->pack + (j - group) * s->t.k : element(p->b, s->first_k, j);
    if (p->pattern == MBP_NT) {
        const T *const w = element(p->b, j, s->first_k);
        pack_panel_transposed(s->pack, s->width, w, p->b.ld, s->t.k, columns);
        s->t.b = s->pack;
    }
    const vr bad = run_strip(&s->t, s->a, c, p->c.ld, (int)s->q.rows, s->tile_rows, columns);
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
            map_rows(p->map, s->q.rows, group_end - group, view_at(p->map_out, s->q.row, group),
                     view_at(p->map_in, s->q.row, group), p->parameters);
    }
    return bad;
}

/* Whether a piece is one slice, packs neither a nor b (except W^T, panel by panel), and has no way of its own in
 * single.h. */
static inline int is_plain(const mbp_product *p, piece q) {
    const int64_t rows_of_b = p->pattern == MBP_NT ? p->n : p->k;
    return p->k <= SLICE && span(rows_of_b, p->b.ld) <= IN_PLACE_BYTES && (p->n > 1 || q.rows < VL) &&
           !has_own_way(p, q) && !packs_a(p, q.rows, q.columns, p->k);
}

static int run_slices(const mbp_product *p, piece q, T *pack) {
    int bad = 0;
    for (int64_t k = q.rows ? 0 : p->k; k < p->k; k += SLICE) {
        slice s;
        set_slice(&s, p, q, k, smaller(SLICE, p->k - k), pack);
        bad |= run_slice(&s);
    }
    return bad;
}
#endif

/* ---- all pieces ---- */

/* Computes a piece in the way that suits it. Returns 1 if a watched element is not finite. */
static HOT int run_piece(const mbp_product *p, piece q, T *pack) {
    if (!q.rows) /* only db is wanted */
        return 0;
#if MICROBP_SMALL
    return run_plain(p, q, pack);
#else
    int bad = 0;
    if (is_plain(p, q))
        return run_plain(p, q, pack);
    if (is_outer(p, q))
        return run_outer(p, q);
    if (is_row_of_w_transposed(p, q))
        return run_single_row(p, q), 0;
    if (sweeps(p, q))
        return run_sweeps(p, q), 0;
    if (is_single_column(p, q)) {
        const int64_t done = run_single_column(p, q, &bad);
        q.row += done, q.rows -= done;
    }
    return bad | run_slices(p, q, pack);
#endif
}

/* Computes the pieces first to last - 1. Returns 1 if a watched element or sum is not finite. */
static HOT __attribute__((noinline)) int run_pieces(const mbp_product *p, int64_t first, int64_t last, T *pack) {
    int bad = 0;
    for (int64_t i = first; i < last; i++) {
        const piece q = piece_at(p, i);
        if (p->db && q.row == 0)
            bad |= sum_columns(p, q.column, q.columns);
        bad |= run_piece(p, q, pack);
    }
    return bad;
}

static void product_run(const mbp_product *p, int64_t first, int64_t last, void *pack) {
    last = smaller(last, product_pieces(p));
#if MICROBP_SMALL
    const int bad = run_pieces(p, first, last, pack);
#else
    const int bad = is_direct(p) ? run_direct(p) : run_pieces(p, first, last, pack);
#endif
    if (bad && p->nonfinite)
        __atomic_store_n(p->nonfinite, 1, __ATOMIC_RELAXED);
}
