#include <string.h>

#include "arrays/array.h"
#include "int8/int8.h"
#include "system/floats.h"
#include "system/text.h"

typedef struct prediction {
    mbp_int8 *net;
    const mbp_array *x, *out;
    int raw;
    mbp_int8_room *room;
    int64_t rows, block;
} prediction;

/* ---- steps on some rows: from the bytes `in` to the bytes `out` ---- */

/* The bytes under each place of a window side by side; outside of the operand: zero. */
static void run_window(const mbp_int8_part *part, int64_t rows, const uint8_t *in, uint8_t *out) {
    const int64_t *w = part->window, high = part->operand[0], wide = part->operand[1], n = part->operand[2];
    const int64_t across = (wide + 2 * w[5] - 1 - w[7] * (w[1] - 1)) / w[3] + 1;
    for (int64_t r = 0; r < rows; r++, in += high * wide * n)
        for (int64_t place = 0; place < part->positions; place++) {
            const int64_t top = place / across * w[2] - w[4], left = place % across * w[3] - w[5];
            for (int64_t k = 0; k < w[0]; k++) {
                const int64_t i = top + k * w[6], is_line = i >= 0 && i < high;
                for (int64_t l = 0; l < w[1]; l++, out += n) {
                    const int64_t j = left + l * w[7];
                    if (is_line && j >= 0 && j < wide)
                        memcpy(out, in + (i * wide + j) * n, (size_t)n);
                    else
                        memset(out, part->zero, (size_t)n);
                }
            }
        }
}

/* The largest number of a column under a window, or its rounded mean. */
static uint8_t pooled(const mbp_int8_part *part, const uint8_t *first) {
    const int64_t *w = part->window, wide = part->operand[1], n = part->operand[2];
    const int zero = part->zero;
    int64_t sum = 0;
    int largest = 0;
    for (int64_t k = 0; k < w[0]; k++)
        for (int64_t l = 0; l < w[1]; l++) {
            const int q = first[(k * wide + l) * n];
            largest = q > largest ? q : largest;
            sum += q - zero;
        }
    uint8_t q = (uint8_t)largest;
    if (part->is_mean) {
        const float mean = (float)sum / (float)(w[0] * w[1]), to_whole = 12582912.0f; /* see round_all */
        q = (uint8_t)((int)((mean + to_whole) - to_whole) + zero);
    }
    return q;
}

static void run_pool(const mbp_int8_part *part, int64_t rows, const uint8_t *in, uint8_t *out) {
    const int64_t *w = part->window, high = part->operand[0], wide = part->operand[1], n = part->operand[2];
    const int64_t across = (wide - w[1]) / w[3] + 1;
    for (int64_t r = 0; r < rows; r++, in += high * wide * n)
        for (int64_t place = 0; place < part->positions; place++)
            for (int64_t c = 0; c < n; c++)
                *out++ = pooled(part, in + (place / across * w[2] * wide + place % across * w[3]) * n + c);
}

static void run_dense(const mbp_int8 *net, const mbp_int8_part *part, int64_t rows, const uint8_t *in, float *z) {
    mbp_dots_job dot = part->dot;
    dot.m = rows * part->positions, dot.x = in, dot.z = z;
    net->dots->product(&dot);
    const mbp_view all = {z, dot.m * dot.n};
    if (part->activation.row != ACTIVATION_identity)
        net->kernels->map(net->kernels->forward[part->activation.row], 1, all.ld, all, all,
                          part->activation.parameters);
}

static void store(const mbp_int8 *net, const mbp_int8_part *part, int64_t rows, const float *z, uint8_t *out) {
    const int64_t n = part->dot.n, width = part->width, m = rows * part->positions;
    if (n == width) {
        net->dots->round(m * n, out, z, part->inverse, part->zero);
        return;
    }
    for (int64_t r = 0; r < m; r++)
        net->dots->round(width, out + r * width, z + r * n, part->inverse, part->zero);
}

/* ---- the input and the output ---- */

static void load(const prediction *p, int64_t first, int64_t rows, float *z, uint8_t *out) {
    const mbp_int8 *net = p->net;
    const mbp_selection slice = {NULL, first, rows};
    mbp_view x = {z, net->columns};
    if (!mbp_array_in_place(p->x, &slice, MBP_F32, &x))
        mbp_array_gather(p->x, slice, MBP_F32, x = (mbp_view){z, net->columns});
    const mbp_int8_part *part = net->part;
    const mbp_view mean = {(void *)part->mean, 0}, scale = {(void *)part->scale, 0}, to = {z, net->columns};
    if (part->mean) {
        net->kernels->binary(net->kernels->subtract, rows, net->columns, to, x, mean);
        x = to;
    }
    if (part->scale) {
        net->kernels->binary(net->kernels->multiply, rows, net->columns, to, x, scale);
        x = to;
    }
    for (int64_t r = 0; r < rows; r++)
        net->dots->round(net->columns, out + r * net->columns, (const float *)x.at + r * x.ld, part->inverse,
                         part->zero);
}

static void write_rows(const prediction *p, int64_t first, int64_t rows, const float *z) {
    const mbp_int8 *net = p->net;
    const mbp_int8_part *last = &net->part[net->count - 1];
    const mbp_view out = mbp_array_rows(p->out, first, MBP_F32);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < last->positions; i++) {
            const mbp_view to = {(float *)out.at + r * out.ld + i * last->width, last->width};
            memcpy(to.at, z + (r * last->positions + i) * last->dot.n, (size_t)last->width * sizeof *z);
            if (!p->raw && net->output > OUTPUT_ACTIVATION_identity)
                net->kernels->output[net->output](1, last->width, to, to);
        }
    for (int64_t r = 0; r < rows && net->mean && !p->raw; r++)
        for (int64_t j = 0; j < net->outputs; j++) {
            float *value = (float *)out.at + r * out.ld + j;
            *value = (float)((double)*value * net->std[j] + net->mean[j]);
        }
}

static void run_block(const prediction *p, int64_t first, int64_t rows, int thread) {
    const mbp_int8 *net = p->net;
    const mbp_int8_room *room = p->room;
    char *mine = (char *)room + mbp_aligned(sizeof *room) + room->each * (size_t)thread;
    const size_t bytes = mbp_aligned((size_t)(room->rows * net->row_bytes) + MBP_READABLE);
    uint8_t *in = (uint8_t *)mine, *out = in + bytes;
    float *z = (float *)(void *)(mine + 2 * bytes);
    load(p, first, rows, z, in);
    for (int i = 1; i < net->count; i++) {
        const mbp_int8_part *part = &net->part[i];
        if (part->operation == MBP_INT8_DENSE)
            run_dense(net, part, rows, in, z);
        if (part->operation == MBP_INT8_WINDOW)
            run_window(part, rows, in, out);
        else if (part->operation == MBP_INT8_POOL)
            run_pool(part, rows, in, out);
        else if (i < net->count - 1)
            store(net, part, rows, z, out);
        uint8_t *const used = in;
        in = out, out = used;
    }
    write_rows(p, first, rows, z);
}

static void run_blocks(void *job, int64_t block, int64_t end, int thread) {
    const prediction *p = job;
    for (; block < end; block++) {
        const int64_t first = block * p->block, left = p->rows - first;
        run_block(p, first, left < p->block ? left : p->block, thread);
    }
}

/* ---- the call ---- */

static mbp_status check(const prediction *p, mbp_error *error) {
    const mbp_int8 *net = p->net;
    if (p->raw != 0 && p->raw != 1)
        return mbp_fail(error, MBP_INVALID, "raw is %d, but must be 0 or 1", p->raw);
    if (!p->x || !p->out)
        return mbp_fail_null(error, p->x ? "out" : "x", "an mbp_array");
    if (p->x->indptr)
        return mbp_fail(error, MBP_UNSUPPORTED,
                        "x is sparse, but a network in int8 reads dense rows: pass a dense array");
    mbp_status status = mbp_array_check(p->x, "input", 0, -1, net->columns, error);
    if (status == MBP_OK)
        status = mbp_array_check_written(p->out, "output", 0, p->x->rows, net->outputs, error);
    if (status == MBP_OK)
        status = mbp_array_check_layout(p->out, MBP_F32, "output", 0, error);
    const mbp_extent from = mbp_array_extent(p->x), to = mbp_array_extent(p->out);
    if (status == MBP_OK && mbp_extents_overlap(&from, &to))
        return mbp_fail(error, MBP_INVALID, "output 0 shares memory with input 0: use separate memory");
    return status;
}

mbp_status mbp_int8_predict(mbp_int8 *net, const mbp_array *x, const mbp_array *out, int raw, mbp_error *error) {
    prediction p = {.net = net, .x = x, .out = out, .raw = raw};
    if (!net)
        return mbp_fail_null(error, "net", "an mbp_int8");
    const mbp_status status = check(&p, error);
    if (status != MBP_OK || !x->rows)
        return status;
    p.rows = x->rows, p.block = net->block;
    const int threads = mbp_int8_threads(net, p.rows);
    p.room = mbp_int8_take(net, p.rows, threads);
    if (!p.room)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory to predict %lld rows", (long long)p.rows);
    const mbp_float_state before = mbp_float_enter(MBP_FLUSH_SUBNORMALS);
    mbp_share(net->pool, threads, net->work * (double)p.rows, (p.rows - 1) / p.block + 1, 1, run_blocks, &p);
    mbp_float_leave(before);
    mbp_int8_give(net, p.room);
    return MBP_OK;
}
