#include <limits.h>
#include <string.h>

#include "int8/int8.h"
#include "net/words.h"
#include "system/sized.h"

enum { BLOCK_BYTES = 256 << 10, BLOCK_ROWS = 48 }; /* 48: a multiple of the rows of all tiles */
static const int64_t MOST = (int64_t)1 << 31;
static const char A_NET[] = "an mbp_int8";

/* ---- checks ---- */

typedef struct chain {
    const mbp_int8_step *steps;
    int count, i; /* i: the step that is read */
    mbp_error *error;
} chain;

#define REFUSE(c, format, ...) mbp_fail((c)->error, MBP_INVALID, "step %d: " format, (c)->i, __VA_ARGS__)

static mbp_status check_window(const chain *c, const mbp_int8_step *step, int64_t numbers, int is_pool) {
    const int64_t *o = step->operand, *w = step->window;
    int64_t places[2];
    if (o[0] < 1 || o[1] < 1 || o[2] < 1 || o[0] > numbers || o[1] > numbers || o[2] > numbers ||
        o[0] * o[1] > numbers || o[0] * o[1] * o[2] != numbers)
        return REFUSE(c, "operand must be the height, width and columns of the %lld numbers before it",
                      (long long)numbers);
    for (int axis = 0; axis < 2; axis++) {
        const int64_t size = w[axis], stride = w[2 + axis], pad = is_pool ? 0 : w[4 + axis];
        const int64_t dilation = is_pool ? 1 : w[6 + axis];
        if (size < 1 || stride < 1 || pad < 0 || dilation < 1 || size > MOST || stride > MOST || pad > MOST ||
            dilation > MOST)
            return REFUSE(c, "window has a size, stride or dilation below 1, or a pad below 0 (%d)", axis);
        const int64_t room = o[axis] + 2 * pad - 1 - dilation * (size - 1);
        places[axis] = room < 0 ? 0 : room / stride + 1;
    }
    if (places[0] > MOST || places[1] > MOST || places[0] * places[1] != step->positions || step->positions < 1)
        return REFUSE(c, "positions is %lld, but there are %lld x %lld places of the window",
                      (long long)step->positions, (long long)places[0], (long long)places[1]);
    if (is_pool ? step->width != o[2] : (double)w[0] * (double)w[1] * (double)o[2] != (double)step->width)
        return REFUSE(c, "width is %lld, but must be the columns of the operand%s", (long long)step->width,
                      is_pool ? "" : " times the size of the window");
    if (is_pool && (!step->pool || (strcmp(step->pool, "max") != 0 && strcmp(step->pool, "mean") != 0)))
        return REFUSE(c, "pool is \"%.40s\", but must be max or mean", step->pool ? step->pool : "(NULL)");
    return MBP_OK;
}

static mbp_status check_dense(const chain *c, const mbp_int8_step *step, int64_t numbers, mbp_int8_part *part) {
    if (!step->weight || !step->start || !step->scale)
        return REFUSE(c, "%s is NULL", !step->weight ? "weight" : !step->start ? "start" : "scale");
    if (numbers % step->positions)
        return REFUSE(c, "positions is %lld, but must divide the %lld numbers before it", (long long)step->positions,
                      (long long)numbers);
    part->inputs = numbers / step->positions;
    for (int64_t u = 0; u < step->width; u++) {
        int64_t sum = 0;
        for (int64_t k = 0; k < part->inputs; k++) {
            const int w = step->weight[u * part->inputs + k];
            if (w < -127)
                return REFUSE(c, "weight of unit %lld has a -128, but must be -127 to 127", (long long)u);
            sum += w < 0 ? -w : w;
        }
        if (255 * sum + (step->start[u] < 0 ? -(int64_t)step->start[u] : step->start[u]) > INT32_MAX)
            return REFUSE(c, "the sum of unit %lld may not fit 32 bits: make its start or its weights smaller",
                          (long long)u);
    }
    return step->activation
               ? mbp_formula_parse(MBP_ACTIVATION, mbp_slice_of(step->activation), &part->activation, c->error)
               : MBP_OK;
}

static mbp_status check_step(const chain *c, int64_t numbers, mbp_int8_part *part) {
    static const char *const operations[] = {"quantize", "dense", "window", "pool"};
    mbp_int8_step step;
    mbp_status status = mbp_sized_read(&step, sizeof step, &c->steps[c->i], "mbp_int8_step", c->error);
    if (status != MBP_OK)
        return status;
    int operation = 3;
    while (operation > 0 && !(step.operation && strcmp(step.operation, operations[operation]) == 0))
        operation--;
    const int is_last = c->i == c->count - 1;
    if ((operation == MBP_INT8_QUANTIZE) != (c->i == 0) || (is_last && operation != MBP_INT8_DENSE))
        return REFUSE(c,
                      "operation must be quantize for the first step, dense for the last, and dense, window or pool "
                      "for the others%s",
                      "");
    if (step.positions < 1 || step.width < 1 || step.positions >= MOST || step.width >= MOST ||
        step.positions * step.width >= MOST)
        return REFUSE(c, "positions %lld and width %lld must be at least 1, and together below 2^31",
                      (long long)step.positions, (long long)step.width);
    if (!is_last && (step.zero < 0 || step.zero > 255))
        return REFUSE(c, "zero is %d, but must be 0 to 255", step.zero);
    *part = (mbp_int8_part){.operation = (mbp_int8_operation)operation,
                            .positions = step.positions,
                            .width = step.width,
                            .inverse = step.inverse,
                            .zero = step.zero};
    if (operation == MBP_INT8_QUANTIZE)
        return step.positions == 1
                   ? MBP_OK
                   : REFUSE(c, "positions is %lld, but must be 1: width counts all columns", (long long)step.positions);
    if (operation == MBP_INT8_DENSE)
        return check_dense(c, &step, numbers, part);
    memcpy(part->operand, step.operand, sizeof part->operand);
    memcpy(part->window, step.window, sizeof part->window);
    part->is_mean = step.pool && strcmp(step.pool, "mean") == 0;
    if (operation == MBP_INT8_POOL)
        part->window[4] = part->window[5] = 0, part->window[6] = part->window[7] = 1;
    return check_window(c, &step, numbers, operation == MBP_INT8_POOL);
}

/* ---- the block of a net ---- */

/* Places `bytes` bytes in the block; at NULL: only counts them. */
static void *place(char *at, size_t *used, size_t bytes) {
    void *placed = at ? at + *used : NULL;
    *used += mbp_aligned(bytes);
    return placed;
}

/* Copies numbers, if there are any, to room for n. */
static const float *copy_floats(const float *from, int64_t count, int64_t n, char *at, size_t *used) {
    float *to = from ? place(at, used, (size_t)n * sizeof *to) : NULL;
    return to ? memcpy(to, from, (size_t)count * sizeof *to) : NULL;
}

static void pack(const mbp_int8 *net, const mbp_int8_step *step, const mbp_int8_part *part, int8_t *weight,
                 int32_t *start) {
    const int64_t fours = part->dot.fours, bytes = fours * MBP_DOT_INPUTS;
    for (int64_t u = 0; u < step->width; u++) {
        const int64_t panel = u / MBP_DOT_PANEL * MBP_DOT_PANEL;
        const int is_wide = part->dot.n - panel >= MBP_DOT_PANEL;
        const int64_t units = is_wide ? MBP_DOT_PANEL : MBP_DOT_UNITS, first = is_wide ? panel : u / units * units;
        int32_t sum = 0;
        for (int64_t k = 0; k < part->inputs; k++) {
            const int8_t w = step->weight[u * part->inputs + k];
            weight[first * bytes + (k / 4 * units + u - first) * MBP_DOT_INPUTS + k % 4] = w;
            sum += w;
        }
        start[u] = step->start[u] + (net->dots->is_signed ? 128 * sum : 0);
    }
}

/* Copies the arrays of a step to the block; at NULL: only counts their bytes. The block is all 0 before. */
static void copy_step(const mbp_int8 *net, const mbp_int8_step *step, mbp_int8_part *part, char *at, size_t *used) {
    const int64_t n = mbp_int8_padded(step->width);
    if (part->operation == MBP_INT8_QUANTIZE) {
        part->mean = copy_floats(step->mean, step->width, n, at, used);
        part->scale = copy_floats(step->scale, step->width, n, at, used);
    } else if (part->operation == MBP_INT8_DENSE) {
        const int64_t fours = (part->inputs + MBP_DOT_INPUTS - 1) / MBP_DOT_INPUTS;
        const float *scale = copy_floats(step->scale, step->width, n, at, used);
        int32_t *start = place(at, used, (size_t)n * sizeof *start);
        int8_t *weight = place(at, used, (size_t)(n * fours) * MBP_DOT_INPUTS);
        part->dot = (mbp_dots_job){
            .n = n, .fours = fours, .ld = part->inputs, .weight = weight, .start = start, .scale = scale};
        if (at)
            pack(net, step, part, weight, start);
    }
}

static size_t copy_all(mbp_int8 *net, const chain *c, const double *mean, const double *std, char *at) {
    size_t used = 0;
    mbp_int8 *here = place(at, &used, sizeof *net);
    mbp_int8_part *parts = place(at, &used, (size_t)c->count * sizeof *parts);
    if (at) {
        *here = *net;
        memcpy(parts, net->part, (size_t)c->count * sizeof *parts);
        here->part = parts;
    }
    for (int i = 0; i < c->count; i++)
        copy_step(net, &c->steps[i], at ? &parts[i] : &net->part[i], at, &used);
    double *numbers = mean ? place(at, &used, 2 * (size_t)net->outputs * sizeof *numbers) : NULL;
    if (numbers) {
        memcpy(numbers, mean, (size_t)net->outputs * sizeof *numbers);
        memcpy(numbers + net->outputs, std, (size_t)net->outputs * sizeof *numbers);
        here->mean = numbers, here->std = numbers + net->outputs;
    }
    return used;
}

static void measure(mbp_int8 *net) {
    net->row_floats = net->columns;
    for (int i = 0; i < net->count; i++) {
        const mbp_int8_part *part = &net->part[i];
        const int64_t numbers = mbp_int8_numbers(part), floats = part->positions * mbp_int8_padded(part->width);
        net->row_bytes = numbers > net->row_bytes ? numbers : net->row_bytes;
        net->work += (double)numbers * (1 + (double)part->inputs / 4); /* a fourth of the time of floats */
        if (part->operation == MBP_INT8_DENSE && floats > net->row_floats)
            net->row_floats = floats;
    }
    const int64_t fit = BLOCK_BYTES / (net->row_bytes + net->row_floats);
    net->block = fit < 1 ? 1 : fit > BLOCK_ROWS ? BLOCK_ROWS : fit;
}

static mbp_status check_output(mbp_int8 *net, const char *output, const double *mean, const double *std,
                               mbp_error *error) {
    mbp_formula formula;
    mbp_status status = MBP_OK;
    net->output = -1;
    if (output) {
        status = mbp_formula_parse(MBP_OUTPUT_ACTIVATION, mbp_slice_of(output), &formula, error);
        if (status == MBP_OK)
            net->output = formula.row;
    }
    if (status == MBP_OK && (!mean != !std))
        return mbp_fail(error, MBP_INVALID, "%s is NULL: pass mean and std, or neither", mean ? "std" : "mean");
    return status == MBP_OK && mean ? mbp_scale_check(mean, std, net->outputs, MBP_F32, error) : status;
}

static mbp_status make(mbp_int8 **made, mbp_int8 *net, chain *c, const char *output, const double *mean,
                       const double *std) {
    mbp_status status = MBP_OK;
    int64_t numbers = 0;
    for (; c->i < c->count && status == MBP_OK; c->i++) {
        status = check_step(c, numbers, &net->part[c->i]);
        numbers = mbp_int8_numbers(&net->part[c->i]);
    }
    net->columns = mbp_int8_numbers(net->part), net->outputs = numbers;
    if (status == MBP_OK)
        status = check_output(net, output, mean, std, c->error);
    if (status != MBP_OK)
        return status;
    measure(net);
    net->bytes = copy_all(net, c, mean, std, NULL);
    char *block = mbp_allocate_zero(net->memory.allocator, net->bytes);
    if (!block)
        return mbp_fail(c->error, MBP_NO_MEMORY, "no memory for a network of %zu bytes", net->bytes);
    mbp_memory_count(&net->memory, net->bytes);
    copy_all(net, c, mean, std, block);
    *made = (mbp_int8 *)(void *)block;
    return MBP_OK;
}

mbp_status mbp_int8_create(mbp_int8 **net, const mbp_int8_step *steps, int count, const char *output,
                           const double *mean, const double *std, const mbp_options *options, mbp_error *error) {
    mbp_options given;
    mbp_int8 head = {.count = count};
    chain c = {.steps = steps, .count = count, .error = error};
    if (!net || !steps)
        return mbp_fail_null(error, net ? "steps" : "net",
                             net ? "an array of mbp_int8_step" : "an mbp_int8 *, which gets the network");
    if (count < 2 || count > MBP_NODES_MAX)
        return mbp_fail(error, MBP_INVALID, "count is %d, but must be 2 to %d", count, (int)MBP_NODES_MAX);
    mbp_status status = mbp_sized_read(&given, sizeof given, options, "mbp_options", error);
    given.dtype = MBP_F32;
    if (status == MBP_OK)
        status = mbp_options_check(&given, &head.kernels, error);
    if (status != MBP_OK)
        return status;
    head.memory.allocator = given.allocator;
    head.dots = mbp_dots_find(head.kernels), head.pool = given.pool, head.threads = given.threads;
    const size_t bytes = (size_t)count * sizeof *head.part;
    head.part = mbp_allocate_zero(given.allocator, bytes);
    if (!head.part)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for a network of %d steps", count);
    status = make(net, &head, &c, output, mean, std);
    mbp_release(given.allocator, head.part, bytes);
    return status;
}

/* ---- rooms ---- */

int mbp_int8_threads(const mbp_int8 *net, int64_t rows) {
    const double work = net->work * (double)rows;
    const int pool = mbp_is_small(work) ? 1 : MICROBP_THREADS ? mbp_pool_threads(net->pool) : 1;
    const int threads = mbp_worthwhile_threads(net->threads && net->threads < pool ? net->threads : pool, work);
    const int64_t blocks = (rows - 1) / net->block + 1;
    return blocks < threads ? (int)blocks : threads;
}

void mbp_int8_give(mbp_int8 *net, mbp_int8_room *room) {
    if (room && !mbp_replace(&net->room, NULL, room)) /* another call, which ran beside this one, has left its room */
        mbp_memory_give(&net->memory, room, room->bytes);
}

mbp_int8_room *mbp_int8_take(mbp_int8 *net, int64_t rows, int threads) {
    mbp_int8_room *room = mbp_exchange(&net->room, NULL);
    rows = rows < net->block ? rows : net->block;
    if (room && room->rows >= rows && room->threads >= threads)
        return room;
    if (room) {
        rows = room->rows > rows ? room->rows : rows, threads = room->threads > threads ? room->threads : threads;
        mbp_memory_give(&net->memory, room, room->bytes);
    }
    const size_t bytes = mbp_aligned((size_t)(rows * net->row_bytes) + MBP_READABLE);
    const size_t each = 2 * bytes + mbp_aligned((size_t)(rows * net->row_floats) * sizeof(float) + MBP_READABLE);
    const size_t all = mbp_aligned(sizeof *room) + each * (size_t)threads;
    room = mbp_memory_take(&net->memory, all);
    if (room)
        *room = (mbp_int8_room){.rows = rows, .threads = threads, .bytes = all, .each = each};
    return room;
}

mbp_status mbp_int8_reserve(mbp_int8 *net, int64_t rows, mbp_error *error) {
    if (!net)
        return mbp_fail_null(error, "net", A_NET);
    if (rows < 1)
        return mbp_fail(error, MBP_INVALID, "rows is %lld, but must be at least 1", (long long)rows);
    mbp_int8_room *room = mbp_int8_take(net, rows, mbp_int8_threads(net, rows));
    if (!room)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory to predict %lld rows", (long long)rows);
    mbp_int8_give(net, room);
    return MBP_OK;
}

size_t mbp_int8_bytes(const mbp_int8 *net) { return net ? mbp_memory_bytes(&net->memory) : 0; }

void mbp_int8_free(mbp_int8 *net) {
    if (!net)
        return;
    mbp_int8_room *room = mbp_exchange(&net->room, NULL);
    if (room)
        mbp_memory_give(&net->memory, room, room->bytes);
    mbp_release(net->memory.allocator, net, net->bytes);
}
