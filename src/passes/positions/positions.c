/* Grids, repeat and last, and the passes of nodes over positions. The rows of a node with several
 * positions have no gaps, so such a node is also a matrix of rows x positions rows (net.h, workspace.c). */
#include <string.h>

#include "passes/positions/positions.h"

#if MICROBP_POSITIONS

/* ---- nodes that work on every position by itself: each position is a row ---- */

static void run_positions(const pass *p, int id, mbp_node_pass run) {
    const int64_t positions = mbp_positions(&p->net->node[id]);
    pass all = *p;
    mbp_chance chance;
    all.rows *= positions;
    all.of_rows = p->rows;
    if (p->chance) {
        chance = *p->chance;
        chance.first_row = (int64_t)((uint64_t)chance.first_row * (uint64_t)positions);
        all.chance = &chance;
    }
    run(&all, id);
}

static void run_node(const pass *p, int id, mbp_node_pass run) {
    if (p->net->node[id].positions > 1 && p->net->node[id].kind < MBP_NODE_GRID)
        run_positions(p, id, run);
    else
        run(p, id);
}

static void cut(const pass *p, int id, mbp_view view) {
    if (mbp_valid_of(p->w, id))
        mbp_clear_beyond(p->net, p->w, id, p->rows, view, p->net->node[id].positions * view.ld);
}

void mbp_run_forward(const pass *p, int id, mbp_node_pass run) {
    run_node(p, id, run);
    if (p->w->value[id].at != p->w->value[operand(p, &p->net->node[id], 0)].at)
        cut(p, id, p->w->value[id]);
}

void mbp_run_backward(const pass *p, int id, mbp_node_pass run) {
    cut(p, id, p->w->delta[id]);
    run_node(p, id, run);
}

/* ---- work that threads share row by row ---- */

typedef struct rows_job {
    const pass *p;
    int id;
    void (*run)(const pass *p, int id, int64_t row);
} rows_job;

static void run_rows(void *context, int64_t row, int64_t end, int thread) {
    const rows_job *job = context;
    (void)thread;
    for (; row < end; row++)
        job->run(job->p, job->id, row);
}

/* numbers: how many a row reads and writes. */
void mbp_by_rows(const pass *p, int id, int64_t numbers, void (*run)(const pass *p, int id, int64_t row)) {
    rows_job job = {p, id, run};
    const double work = (double)MBP_ELEMENT_WORK * (double)p->rows * (double)numbers;
    mbp_pool_run(p->net->pool, take_threads(p, work), p->rows, mbp_piece_rows(numbers), run_rows, &job);
}

typedef struct map_job {
    const pass *p;
    mbp_map map;
    int64_t n;
    mbp_view out, in;
} map_job;

static void run_maps(void *context, int64_t row, int64_t end, int thread) {
    const map_job *job = context;
    const mbp_view out = {element(job->p, job->out.at, row * job->out.ld), job->out.ld};
    const mbp_view in = {element(job->p, job->in.at, row * job->in.ld), job->in.ld};
    (void)thread;
    job->p->net->kernels->map(job->map, end - row, job->n, out, in, NULL);
}

/* The same as mbp_run_map, for this many rows. */
static void map_rows(const pass *p, int64_t rows, mbp_map map, int64_t n, mbp_view out, mbp_view in) {
    map_job job = {p, map, n, out, in};
    const double work = (double)MBP_ELEMENT_WORK * (double)rows * (double)n;
    mbp_pool_run(p->net->pool, take_threads(p, work), rows, mbp_piece_rows(n), run_maps, &job);
}

/* ---- grid: the same numbers, seen as other positions; y is x where it is, unless rows of x are apart ---- */

void mbp_forward_grid(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id], *from = operand_node(p, id);
    const mbp_view x = operand_value(p, id);
    if (mbp_positions(node) == 1 && mbp_positions(from) == 1)
        p->w->value[id] = x;
    else if (x.ld == from->width || p->rows == 1)
        p->w->value[id] = mbp_spread(x, node->width);
    else
        map_rows(p, p->rows, p->net->kernels->copy, from->width, mbp_spread(p->w->value[id], from->width), x);
}

/* ---- repeat: x at every position; last: the last position of x, where it is ---- */

/* Position t of a node as a matrix with a row for each row of the net. */
static mbp_view position(const pass *p, mbp_view view, int64_t positions, int64_t t) {
    return (mbp_view){element(p, view.at, t * view.ld), positions * view.ld};
}

void mbp_forward_repeat(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    for (int64_t t = 0; t < node->positions; t++)
        map_rows(p, p->rows, p->net->kernels->copy, node->width, position(p, p->w->value[id], node->positions, t),
                 operand_value(p, id));
}

/* Of a row with a length: the last position that is there; 0 if none is. */
static void copy_last(const pass *p, int id, int64_t r) {
    const int below = operand(p, &p->net->node[id], 0);
    const mbp_view x = p->w->value[below], y = p->w->value[id];
    const int64_t length = p->w->valid[below][r];
    const size_t bytes = (size_t)p->net->node[id].width * p->net->item;
    if (length)
        memcpy(element(p, y.at, r * y.ld), element(p, row_at(p, x, below, r), (length - 1) * x.ld), bytes);
    else
        memset(element(p, y.at, r * y.ld), 0, bytes);
}

void mbp_forward_last(const pass *p, int id) {
    const int64_t positions = operand_node(p, id)->positions;
    if (mbp_valid_of(p->w, operand(p, &p->net->node[id], 0)))
        mbp_by_rows(p, id, p->net->node[id].width, copy_last);
    else
        p->w->value[id] = position(p, operand_value(p, id), positions, positions - 1);
}

#if MICROBP_TRAINING

/* ---- backward ---- */

void mbp_backward_grid(const pass *p, int id) {
    const mbp_node *from = operand_node(p, id);
    if (edge(p, &p->net->node[id], 0) != MBP_SKIP)
        map_rows(p, p->rows * from->positions, first_write(p, id), from->width, operand_delta(p, id),
                 mbp_spread(p->w->delta[id], from->width));
}

void mbp_backward_repeat(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    for (int64_t t = 0; t < node->positions && edge(p, node, 0) != MBP_SKIP; t++)
        map_rows(p, p->rows, t ? p->net->kernels->accumulate : first_write(p, id), node->width, operand_delta(p, id),
                 position(p, p->w->delta[id], node->positions, t));
}

static void start_last(const pass *p, int id, int64_t r) { (void)start_row(p, id, r); }

static void add_last(const pass *p, int id, int64_t r) {
    const int below = operand(p, &p->net->node[id], 0);
    const mbp_view dx = p->w->delta[below], dy = p->w->delta[id];
    char *row = start_row(p, id, r);
    const int64_t length = p->w->valid[below][r];
    if (length)
        p->net->kernels->map(p->net->kernels->accumulate, 1, p->net->node[id].width,
                             (mbp_view){element(p, row, (length - 1) * dx.ld), dx.ld},
                             (mbp_view){element(p, dy.at, r * dy.ld), dy.ld}, NULL);
}

void mbp_backward_last(const pass *p, int id) {
    const mbp_node *node = &p->net->node[id];
    const int64_t positions = operand_node(p, id)->positions;
    if (edge(p, node, 0) == MBP_SKIP)
        return;
    if (mbp_valid_of(p->w, operand(p, node, 0))) {
        mbp_by_rows(p, id, mbp_row_width(operand_node(p, id)), add_last);
        return;
    }
    mbp_by_rows(p, id, mbp_row_width(operand_node(p, id)), start_last);
    map_rows(p, p->rows, p->net->kernels->accumulate, node->width,
             position(p, operand_delta(p, id), positions, positions - 1), p->w->delta[id]);
}

#endif
#endif
