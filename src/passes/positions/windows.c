/* Windows and pools: rectangles of positions that move over a grid. The values of a window are patches of images, which
 * are the rows of its operand: each position's neighbours side by side, 0 where there are none. If only dense layers
 * read them, they are gathered when they are read, a block of them at a time, and are in no memory but the caches. */
#include <string.h>

#include "kernels/pooling/patches.h"
#include "kernels/pooling/pooling.h"
#include "passes/positions/positions.h"

#if MICROBP_POSITIONS

/* ---- the image of a row ---- */

/* A window in a pass. Work on its image is done where the operand is, unless that needs padding, or has gaps. */
typedef struct window {
    const pass *p;
    const mbp_node *node, *from;
    int id, is_apart;       /* 1: the image is in the scratch of a thread */
    mbp_view x;             /* the operand's values, or its deltas */
    int64_t across, inside; /* numbers of a line of the image, and where the operand begins in it */
    size_t image_bytes;
    int64_t start; /* the number of the image with which the first patch begins */
    int64_t block; /* rows of the window that are gathered at a time */
    mbp_patches patches;
} window;

static window window_of(const pass *p, int id, mbp_view x) {
    const mbp_node *node = &p->net->node[id], *from = operand_node(p, id);
    const int64_t n = from->width, pad = mbp_window_of(node, MBP_PAD + 1), wide = mbp_window_of(node, MBP_SIZE + 1);
    window w = {.p = p, .node = node, .from = from, .id = id, .x = x, .block = mbp_window_block(node, p->net->item)};
    w.is_apart = x.ld != n || pad || mbp_window_of(node, MBP_PAD);
    w.across = mbp_image_across(node, from) * n;
    w.inside = mbp_window_of(node, MBP_PAD) * w.across + pad * n;
    w.image_bytes = (size_t)(mbp_image_height(node, from) * w.across) * p->net->item;
    const int is_close = mbp_window_of(node, MBP_DILATION + 1) == 1;
    w.patches = (mbp_patches){.places = node->positions / node->height,
                              .beside = mbp_window_of(node, MBP_STRIDE + 1) * n,
                              .below = mbp_window_of(node, MBP_STRIDE) * w.across,
                              .lines = mbp_window_of(node, MBP_SIZE),
                              .line = mbp_window_of(node, MBP_DILATION) * w.across,
                              .runs = is_close ? 1 : wide,
                              .run = mbp_window_of(node, MBP_DILATION + 1) * n,
                              .length = is_close ? wide * n : n,
                              .ld = node->width};
    return w;
}

static char *scratch_of(const window *w, int thread) {
    return w->p->w->scratch + (size_t)thread * w->p->w->scratch_bytes;
}
static char *block_of(const window *w, char *scratch) { return scratch + mbp_aligned(w->image_bytes); }
static char *pack_of(const window *w, char *scratch) {
    return block_of(w, scratch) + mbp_aligned((size_t)(w->block * w->node->width) * w->p->net->item);
}

/* Between row r of the operand and its image: `in` 1: into the image. */
static void copy_lines(const window *w, int64_t r, char *image, int in) {
    const int64_t height = w->from->height, across = w->from->positions / height, n = w->from->width, ld = w->x.ld;
    const int is_whole = ld == n; /* whole lines; else position by position */
    char *inside = element(w->p, image, w->inside), *x = element(w->p, w->x.at, r * w->from->positions * ld);
    for (int64_t i = 0; i < (is_whole ? 1 : height); i++) {
        const int64_t apart = is_whole ? w->across : n, x_apart = is_whole ? across * ld : ld;
        char *line = element(w->p, inside, i * w->across), *x_line = element(w->p, x, i * across * ld);
        mbp_copy_rows(w->p->net->item, is_whole ? height : across, is_whole ? across * n : n, in ? line : x_line,
                      in ? apart : x_apart, in ? x_line : line, in ? x_apart : apart);
    }
}

/* Returns the image of row r. */
static char *image_of(const window *w, int64_t r, char *scratch) {
    if (!w->is_apart)
        return element(w->p, w->x.at, r * w->from->positions * w->x.ld);
    memset(scratch, 0, w->image_bytes);
    copy_lines(w, r, scratch, 1);
    return scratch;
}

/* Gathers rows of the window, as a matrix of rows x positions rows. *row: the row of the net whose image is in the
 * scratch. */
static void gather(const window *w, int64_t first, int64_t count, char *to, char *scratch, int64_t *row) {
    const int64_t places = w->node->positions;
    for (int64_t n; count; first += n, count -= n, to += (size_t)(n * w->patches.ld) * w->p->net->item) {
        const int64_t r = first / places, place = first - r * places;
        n = count < places - place ? count : places - place;
        char *image = *row == r ? scratch : image_of(w, r, scratch);
        *row = w->is_apart ? r : -1;
        mbp_patches_gather(&w->patches, w->p->net->item, element(w->p, image, w->start), place, n, to);
    }
}

/* ---- values in memory ---- */

typedef struct rows_job {
    window w;
    mbp_view to; /* a row for each row of the net */
} rows_job;

static void gather_rows(void *context, int64_t r, int64_t end, int thread) {
    const rows_job *job = context;
    int64_t row = -1;
    for (; r < end; r++)
        gather(&job->w, r * job->w.node->positions, job->w.node->positions,
               element(job->w.p, job->to.at, r * job->to.ld), scratch_of(&job->w, thread), &row);
}

void mbp_write_window(const pass *p, int id, mbp_view to) {
    rows_job job = {window_of(p, id, operand_value(p, id)), to};
    const int64_t numbers = mbp_row_width(job.w.node);
    mbp_pool_run(p->net->pool, take_threads(p, (double)MBP_ELEMENT_WORK * (double)p->rows * (double)numbers), p->rows,
                 mbp_piece_rows(numbers), gather_rows, &job);
}

void mbp_forward_window(const pass *p, int id) {
    const mbp_view y = p->w->value[id];
    if (!p->net->node[id].gathered)
        mbp_write_window(p, id, mbp_spread(y, p->net->node[id].positions * y.ld));
}

/* ---- products of dense layers with a gathered window ---- */

typedef struct product_job {
    window w;
    const mbp_product *product;
    int64_t first;   /* the row of the window that is the first of the product */
    int by_position; /* whether threads share the positions of a patch, or its lines */
} product_job;

static void run_product(const window *w, const mbp_product *product, char *scratch) {
    w->p->net->kernels->product_run(product, 0, INT64_MAX, pack_of(w, scratch));
}

/* Rows of a product x W, a block at a time. */
static void run_forward(void *context, int64_t row, int64_t end, int thread) {
    const product_job *job = context;
    const window *w = &job->w;
    char *scratch = scratch_of(w, thread), *block = block_of(w, scratch);
    int64_t image = -1;
    for (mbp_product part = *job->product; row < end; row += part.m) {
        part.m = end - row < w->block ? end - row : w->block;
        part.threads = 1;
        part.a = (mbp_view){block, w->patches.ld};
        part.c.at = element(w->p, job->product->c.at, row * part.c.ld);
        part.map_out.at = element(w->p, job->product->map_out.at, row * part.map_out.ld);
        part.map_in.at = element(w->p, job->product->map_in.at, row * part.map_in.ld);
        gather(w, job->first + row, part.m, block, scratch, &image);
        run_product(w, &part, scratch);
    }
}

#if MICROBP_TRAINING
/* The rows of a product x^T dz that belong to a part of each patch, from number `start` of the image on. row: the first
 * of them. Each block continues the chains of additions of the one before. */
static void run_part(const product_job *job, const mbp_patches *patches, int64_t start, int64_t row, int thread) {
    window w = job->w;
    char *scratch = scratch_of(&w, thread), *block = block_of(&w, scratch);
    int64_t image = -1;
    mbp_product part = *job->product;
    if (row) /* one part computes db */
        part.db = NULL;
    part.threads = 1, part.m = 0;
    if (part.db) /* its chunks of rows are not those of the blocks */
        run_product(&w, &part, scratch);
    part.db = NULL;
    part.m = patches->lines * patches->runs * patches->length;
    part.c.at = element(w.p, part.c.at, row * part.c.ld);
    part.a = (mbp_view){block, part.m};
    w.patches = *patches, w.patches.ld = part.m, w.start = start;
    for (int64_t at = 0; at < job->product->k; at += part.k) {
        part.k = job->product->k - at < w.block ? job->product->k - at : w.block;
        part.b.at = element(w.p, job->product->b.at, at * part.b.ld);
        gather(&w, job->first + at, part.k, block, scratch, &image);
        run_product(&w, &part, scratch);
        part.add = 1;
    }
}

/* Lines `first` to end - 1 of the patches, or these positions of them. */
static void run_weights(void *context, int64_t first, int64_t end, int thread) {
    const product_job *job = context;
    const int64_t n = job->w.from->width, wide = mbp_window_of(job->w.node, MBP_SIZE + 1);
    mbp_patches part = job->w.patches;
    if (job->by_position)
        part.lines = part.runs = 1, part.length = n;
    else
        part.lines = end - first;
    for (; first < end; first += job->by_position ? 1 : end - first)
        run_part(job, &part, job->by_position ? first / wide * part.line + first % wide * part.run : first * part.line,
                 first * (job->by_position ? n : wide * n), thread);
}
#endif

void mbp_run_gathered(const pass *p, int id, const mbp_product *product, int64_t first) {
    product_job job = {window_of(p, id, operand_value(p, id)), product, first, 0};
    const int threads = take_threads(p, 2.0 * (double)product->m * (double)product->n * (double)product->k);
    if (product->pattern == MBP_NN)
        mbp_pool_run(p->net->pool, threads, product->m, job.w.block, run_forward, &job);
#if MICROBP_TRAINING
    const int64_t lines = job.w.patches.lines, wide = mbp_window_of(job.w.node, MBP_SIZE + 1);
    if (product->pattern == MBP_NN)
        return;
    /* Lines are gathered faster than positions of few columns, but may be too few. */
    job.by_position = threads > 1 && (lines < threads || (size_t)job.w.from->width * p->net->item >= MBP_ALIGNMENT);
    mbp_pool_run(p->net->pool, threads, job.by_position ? lines * wide : lines, 1, run_weights, &job);
#endif
}

/* ---- pool: the largest or the mean of some positions ---- */

static mbp_pooling pooling_of(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id], *x = operand_node(p, id);
    return (mbp_pooling){.across = x->positions / x->height,
                         .out_height = node->height,
                         .out_across = node->positions / node->height,
                         .size = {mbp_window_of(node, MBP_SIZE), mbp_window_of(node, MBP_SIZE + 1)},
                         .stride = {mbp_window_of(node, MBP_STRIDE), mbp_window_of(node, MBP_STRIDE + 1)},
                         .n = x->width,
                         .ld = operand_value(p, id).ld};
}

/* A pool over all positions of a row takes those that are there. Returns 0 if none is. */
static int fit_pool(const pass *p, int below, int64_t r, mbp_pooling *pool) {
    const int32_t *valid = mbp_valid_of(p->w, below);
    if (valid && pool->size[1] == pool->across)
        pool->size[1] = valid[r];
    return pool->size[1] > 0;
}

static void pool_row(const pass *p, int id, int64_t r) {
    mbp_pooling pool = pooling_of(p, id);
    const int below = operand(p, &p->net->node[id], 0);
    if (!fit_pool(p, below, r, &pool)) {
        memset(row_at(p, p->w->value[id], id, r), 0, (size_t)pool.n * p->net->item);
        return;
    }
    mbp_pool_forward_of(p->net->dtype, p->net->node[id].activation.row)(&pool, row_at(p, p->w->value[below], below, r),
                                                                        row_at(p, p->w->value[id], id, r));
}

void mbp_forward_pool(const pass *p, int id) { mbp_by_rows(p, id, mbp_row_width(operand_node(p, id)), pool_row); }

#if MICROBP_TRAINING

/* ---- backward: the deltas of a window are added to those of its operand, the last place first ---- */

/* Adds those of `count` places of row r, after all places behind them. */
static void add_places(const window *w, int64_t r, int64_t place, int64_t count, const void *from, char *scratch) {
    const mbp_node *below = w->from;
    const int64_t places = w->node->positions;
    const int stores = edge(w->p, w->node, 0) == MBP_STORE;
    char *image = element(w->p, w->x.at, r * below->positions * w->x.ld);
    if (w->is_apart)
        image = scratch;
    if (place + count == places && stores)
        memset(image, 0, w->image_bytes);
    else if (place + count == places && w->is_apart)
        (void)image_of(w, r, scratch);
    mbp_patches_add(&w->patches, w->p->net->dtype, from, place, count, image);
    if (place == 0 && w->is_apart)
        copy_lines(w, r, scratch, 0);
}

typedef struct delta_job {
    window w;
    mbp_view dy;
    int last; /* of a gathered window: the last dense node that reads it */
} delta_job;

static void add_rows(void *context, int64_t r, int64_t end, int thread) {
    const delta_job *job = context;
    const window *w = &job->w;
    const int64_t places = w->node->positions;
    for (; r < end; r++)
        add_places(w, r, 0, places, element(w->p, job->dy.at, r * places * job->dy.ld), scratch_of(w, thread));
}

/* Rows of the delta of a gathered window: the sum of dz W^T of all dense nodes that read it. */
static void multiply_back(const delta_job *job, int64_t first, int64_t rows, mbp_view to, char *scratch) {
    const pass *p = job->w.p;
    int uses = job->w.node->uses;
    for (int id = job->last; uses; id--) {
        const mbp_node *node = &p->net->node[id];
        if (!node->uses || node->kind != MBP_NODE_DENSE || operand(p, node, 0) != job->w.id)
            continue;
        const mbp_layer *layer = &p->net->layer[node->layer];
        const mbp_view dz = p->w->delta[id];
        const mbp_product product = {.pattern = MBP_NT,
                                     .m = rows,
                                     .n = layer->in,
                                     .k = layer->out,
                                     .a = {element(p, dz.at, first * dz.ld), dz.ld},
                                     .b = {element(p, p->net->block, layer->weight), layer->out},
                                     .c = to,
                                     .add = uses < job->w.node->uses,
                                     .threads = 1};
        run_product(&job->w, &product, scratch);
        uses--;
    }
}

/* Several rows of few places are one product. */
static void add_products(void *context, int64_t r, int64_t end, int thread) {
    const delta_job *job = context;
    const window *w = &job->w;
    const int64_t places = w->node->positions, most = w->block / places > 1 ? w->block / places : 1;
    const int64_t each = most > 1 || places < w->block ? places : w->block;
    char *scratch = scratch_of(w, thread), *block = block_of(w, scratch);
    const mbp_view to = {block, w->patches.ld};
    for (int64_t rows; r < end; r += rows) {
        rows = end - r < most ? end - r : most;
        for (int64_t place = (places - 1) / each * each; place >= 0; place -= each) {
            const int64_t count = places - place < each ? places - place : each;
            multiply_back(job, r * places + place, rows > 1 ? rows * places : count, to, scratch);
            for (int64_t k = 0; k < rows; k++)
                add_places(w, r + k, place, count, element(w->p, block, k * places * to.ld), scratch);
        }
    }
}

/* The last dense node that reads a window. */
static int last_reader(const pass *p, int id) {
    int uses = p->net->node[id].uses, last = id;
    while (uses) {
        const mbp_node *node = &p->net->node[++last];
        uses -= node->uses && node->kind == MBP_NODE_DENSE && operand(p, node, 0) == id;
    }
    return last;
}

void mbp_backward_window(const pass *p, int id) {
    if (edge(p, &p->net->node[id], 0) == MBP_SKIP)
        return;
    delta_job job = {window_of(p, id, operand_delta(p, id)), p->w->delta[id], 0};
    const int gathered = job.w.node->gathered;
    const int64_t numbers = mbp_row_width(job.w.node);
    double work = (double)MBP_ELEMENT_WORK * (double)p->rows * (double)numbers;
    if (gathered)
        job.last = last_reader(p, id), work *= (double)p->net->node[job.last].width;
    else
        job.w.patches.ld = job.dy.ld;
    mbp_pool_run(p->net->pool, take_threads(p, work), p->rows, mbp_piece_rows(numbers),
                 gathered ? add_products : add_rows, &job);
}

static void unpool_row(const pass *p, int id, int64_t r) {
    mbp_pooling pool = pooling_of(p, id);
    const int below = operand(p, &p->net->node[id], 0);
    void *dx = start_row(p, id, r);
    if (!fit_pool(p, below, r, &pool))
        return;
    mbp_pool_backward_of(p->net->dtype, p->net->node[id].activation.row)(
        &pool, row_at(p, p->w->value[below], below, r), row_at(p, p->w->value[id], id, r),
        row_at(p, p->w->delta[id], id, r), dx, p->w->delta[below].ld);
}

void mbp_backward_pool(const pass *p, int id) {
    if (edge(p, &p->net->node[id], 0) != MBP_SKIP)
        mbp_by_rows(p, id, mbp_row_width(operand_node(p, id)), unpool_row);
}

#endif
#endif
