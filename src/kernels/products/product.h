/* Part of kernels.c: the three products of a dense layer, with one driver.
 *
 * A piece is a block of c. It is computed slice by slice (a slice is a range of k), in a slice group by group (columns
 * of b that are packed together), in a group panel by panel (the columns of one tile), and in a panel tile by tile. The
 * next slice continues each chain of additions from the value in c, so neither blocking nor packing changes a bit. */

/* ---- a piece ---- */

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
