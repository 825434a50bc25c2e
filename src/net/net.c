/* Creates networks, draws their initial parameters, holds them for one thread, and frees them. */
#include "net/net.h"

#include <math.h>
#include <string.h>

#include "formulas/random.h"
#include "net/graph.h"
#include "net/words.h"
#include "net/workspace.h"
#include "system/floats.h"
#include "system/sized.h"

/* ---- initial parameters ---- */

enum { PURPOSE_WEIGHTS = 1, PURPOSE_BIASES = 6, PURPOSE_STATES = 7 };

static void fill(mbp_net *net, int64_t offset, int64_t count, double value) {
    for (int64_t i = offset; i < offset + count; i++)
        if (net->dtype == MBP_F64)
            ((double *)net->block)[i] = value;
        else
            ((float *)net->block)[i] = (float)value;
}

#if MICROBP_POSITIONS
static double get(const mbp_net *net, int64_t i) {
    return net->dtype == MBP_F64 ? ((const double *)net->block)[i] : (double)((const float *)net->block)[i];
}

/* a += by b, of n numbers; their places in the block are `step` apart. */
static void add_multiple(mbp_net *net, int64_t n, int64_t step, int64_t a, int64_t b, double by) {
    for (int64_t i = 0; i < n; i++)
        fill(net, a + i * step, 1, get(net, a + i * step) + by * get(net, b + i * step));
}

static double dot(const mbp_net *net, int64_t n, int64_t step, int64_t a, int64_t b) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += get(net, a + i * step) * get(net, b + i * step);
    return sum;
}

/* Makes the columns of a matrix (rows, columns) orthogonal, or its rows if there are fewer, and `length` long, by the
 * method of Gram and Schmidt; twice, because once leaves rounding errors. ld: between the rows of the matrix. */
static void orthogonalize(mbp_net *net, int64_t offset, int64_t rows, int64_t columns, int64_t ld, double length) {
    const int tall = rows >= columns;
    const int64_t count = tall ? columns : rows, n = tall ? rows : columns, next = tall ? 1 : ld, step = tall ? ld : 1;
    for (int64_t a = 0; a < count; a++) {
        const int64_t at = offset + a * next;
        for (int pass = 0; pass < 2; pass++) {
            for (int64_t b = 0; b < a; b++)
                add_multiple(net, n, step, at, offset + b * next, -dot(net, n, step, at, offset + b * next));
            const double norm = sqrt(dot(net, n, step, at, at));
            add_multiple(net, n, step, at, at, 1 / norm - 1);
        }
    }
    for (int64_t a = 0; a < count && length != 1; a++)
        add_multiple(net, n, step, offset + a * next, offset + a * next, length - 1);
}
#endif

/* Draws count = rows x columns x gates numbers: weights or biases. in: how many inputs a unit has. */
static void draw(mbp_net *net, int index, const mbp_formula *initializer, uint32_t purpose, int64_t offset,
                 int64_t count, double in, int64_t rows, int gates) {
    const mbp_layer *layer = &net->layer[index];
    double scale = 0, draws[256];
    mbp_distribution distribution = mbp_initializer_scale(initializer, in, (double)(layer->out / gates), &scale);
#if MICROBP_POSITIONS
    const double length = scale;
    const int is_orthogonal = distribution == ORTHOGONAL;
    if (is_orthogonal)
        distribution = NORMAL, scale = scale == 0 ? 0 : 1;
#else
    (void)rows;
#endif
    if (distribution == KEEP)
        return;
    if (scale == 0) {
        fill(net, offset, count, 0);
        return;
    }
    for (int64_t first = 0; first < count; first += 256) {
        const int64_t n = count - first < 256 ? count - first : 256;
        mbp_draw(draws, first, n, distribution == NORMAL, net->dtype == MBP_F64, net->seed,
                 purpose << 24 | (uint32_t)index, 0);
        for (int64_t i = 0; i < n; i++) {
            const double value = distribution == NORMAL ? scale * draws[i] : scale * (2 * draws[i] - 1);
            if (net->dtype == MBP_F64)
                ((double *)net->block)[offset + first + i] = value;
            else
                ((float *)net->block)[offset + first + i] = (float)value;
        }
    }
#if MICROBP_POSITIONS
    const int64_t each = count / rows / gates;
    for (int g = 0; g < gates && is_orthogonal; g++)
        orthogonalize(net, offset + g * each, rows, each, gates * each, length);
#endif
}

static void init_dense(mbp_net *net, int index) {
    const mbp_layer *layer = &net->layer[index];
    /* A unit of an embedding reads one weight of each id. */
    const double in = mbp_is_embedding(layer->kind) ? 1 : (double)layer->in;
    draw(net, index, &layer->initializer, PURPOSE_WEIGHTS, layer->weight, layer->in * layer->out, in, layer->in, 1);
    if (layer->bias >= 0)
        draw(net, index, &layer->bias_initializer, PURPOSE_BIASES, layer->bias, layer->out, in, 1, 1);
}

#if MICROBP_POSITIONS
/* Each gate is a matrix of its own. The bias of an lstm's forget gate is 1 larger (Gers et al. 2000). */
static void init_recurrent(mbp_net *net, int index) {
    const mbp_layer *layer = &net->layer[index];
    const int gates = mbp_cell_gates(layer->cell);
    double unused;
    const int64_t units = mbp_units(layer), in = layer->in - units, biases = mbp_bias_width(layer);
    draw(net, index, &layer->initializer, PURPOSE_WEIGHTS, layer->weight, in * layer->out, (double)in, in, gates);
    draw(net, index, &layer->recurrent_initializer, PURPOSE_STATES, layer->weight + in * layer->out, units * layer->out,
         (double)units, units, gates);
    if (layer->bias < 0)
        return;
    draw(net, index, &layer->bias_initializer, PURPOSE_BIASES, layer->bias, biases, (double)in, 1,
         (int)(biases / units));
    for (int64_t i = units; i < 2 * units && layer->cell == MBP_CELL_LSTM &&
                            mbp_initializer_scale(&layer->bias_initializer, 1, 1, &unused) != KEEP;
         i++)
        fill(net, layer->bias + i, 1, get(net, layer->bias + i) + 1);
}
#endif

static void init_columns(mbp_net *net, const mbp_layer *layer) { /* norms, scales, standardize */
    if (layer->weight >= 0)
        fill(net, layer->weight, layer->out, 1);
    if (layer->bias >= 0)
        fill(net, layer->bias, layer->out, 0);
    if (layer->running >= 0) {
        fill(net, net->params + layer->running, layer->out, 0);
        fill(net, net->params + layer->running + layer->out, layer->out, 1);
    }
}

static MBP_APART void init(mbp_net *net) {
    for (int i = 0; i < net->layers; i++)
        if (mbp_reads_sparse(net->layer[i].kind))
            init_dense(net, i);
#if MICROBP_POSITIONS
        else if (mbp_is_recurrent(net->layer[i].kind))
            init_recurrent(net, i);
#endif
        else
            init_columns(net, &net->layer[i]);
}

mbp_status mbp_net_init(mbp_net *net, uint64_t seed, mbp_error *error) {
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    mbp_status status = mbp_net_open(net, error);
    if (status != MBP_OK)
        return status;
    MBP_PUT(&net->seed, seed);
    const mbp_float_state before = mbp_float_enter(MBP_KEEP_SUBNORMALS);
    init(net);
    mbp_float_leave(before);
    mbp_net_close(net);
    return MBP_OK;
}

mbp_status mbp_net_assign(mbp_net *net, const void *params, const void *buffers, mbp_error *error) {
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    mbp_status status = mbp_net_open(net, error);
    if (status != MBP_OK)
        return status;
    if (params)
        memcpy(net->block, params, (size_t)net->params * net->item);
    if (buffers)
        memcpy(mbp_net_running(net), buffers, (size_t)net->buffers * net->item);
    mbp_net_close(net);
    return MBP_OK;
}

/* ---- one thread at a time ---- */

mbp_status mbp_net_flush(mbp_net *net, mbp_error *error) {
    return net ? mbp_net_settle(net, error) : mbp_fail_null(error, "net", MBP_A_NET);
}

mbp_status mbp_net_lock(mbp_net *net, mbp_error *error) {
    return net ? mbp_net_take(net, error) : mbp_fail_null(error, "net", MBP_A_NET);
}

void mbp_net_unlock(mbp_net *net) {
    if (net && mbp_lock_is_mine(&net->shared->lock))
        mbp_net_give(net);
}

void mbp_net_after_fork(mbp_net *net) {
    if (!net)
        return;
    mbp_lock_after_fork(&net->shared->lock);
    mbp_workspace_after_fork(net);
}

/* ---- the graph text ---- */

size_t mbp_net_text(const mbp_net *net, char *text, size_t size) {
    if (!net)
        return 0;
    mbp_net_enter(net);
    size = mbp_graph_write(net, text, size);
    mbp_net_leave(net);
    return size;
}

/* ---- create and free ---- */

static mbp_status unknown_isa(const char *isa, mbp_error *error) {
    mbp_unknown unknown = {.word = mbp_slice_of(isa), .status = MBP_UNSUPPORTED};
    for (int i = 0; mbp_isa_name(i); i++)
        if (mbp_isa_runs(i))
            mbp_unknown_add(&unknown, mbp_slice_of(mbp_isa_name(i)));
    return mbp_unknown_fail(&unknown, "this build and processor have no kernel variant", error);
}

mbp_status mbp_options_check(const mbp_options *options, const mbp_kernels **kernels, mbp_error *error) {
    if (options->dtype != MBP_F32 && options->dtype != MBP_F64)
        return mbp_fail(error, MBP_INVALID, "options.dtype is %d, but must be MBP_F32 or MBP_F64", (int)options->dtype);
    if (options->dtype == MBP_F64 ? !MICROBP_F64 : !MICROBP_F32)
        return mbp_fail(error, MBP_UNSUPPORTED, "this build has no float%d: build it with %s",
                        options->dtype == MBP_F64 ? 64 : 32,
                        options->dtype == MBP_F64 ? "MICROBP_DTYPES=f32;f64, or microbp.c with -DMICROBP_DOUBLE"
                                                  : "MICROBP_DTYPES=f32;f64, or microbp.c with -DMICROBP_F32=1");
    *kernels = mbp_kernels_find(options->isa, options->dtype);
    if (!*kernels)
        return unknown_isa(options->isa, error);
    mbp_status status = mbp_allocator_check(options->allocator, error);
    return status == MBP_OK ? mbp_threads_check(options->threads, error) : status;
}

/* A net with its trainer has at most 8 copies of its parameters and buffers, of 8 bytes each. So the sizes of their
 * blocks fit in a size_t. */
#define MOST_NUMBERS (SIZE_MAX / 64)
/* Allocates the block that the net shares with its parts, all zero. Returns 0 if there is no memory. */
static int allocate_block(mbp_net *net) {
    const size_t head = mbp_aligned(sizeof(mbp_shared));
    const size_t bytes = head + (size_t)(net->params + net->buffers) * net->item + MBP_READABLE;
    net->shared = (uint64_t)(net->params + net->buffers) > MOST_NUMBERS ? NULL
                                                                        : mbp_allocate(mbp_net_allocator(net), bytes);
    if (!net->shared)
        return 0;
    memset(net->shared, 0, bytes);
    net->shared->bytes = bytes;
    net->shared->nets = 1;
    net->block = (char *)net->shared + head;
    return 1;
}

/* The columns that vectors should suit: those of the widest node; in a net with several positions, whose products have
 * many rows, twice those of the dense layer with the most work. Two convolutions of MNIST, 8 and 16 columns, take 0.92
 * of the time with AVX2, and two of 32 columns 1.05 (Zen 4, float32). */
static int64_t usual_columns(const mbp_net *net) {
    int64_t widest = 0, busiest = 0;
    double most = 0;
    for (int i = 0; i < net->nodes; i++) {
        const mbp_node *node = &net->node[i];
        const double work = node->kind == MBP_NODE_DENSE
                                ? (double)mbp_row_width(node) * (double)net->layer[node->layer].in
                                : 0;
        widest = node->width > widest ? node->width : widest;
        if (work > most)
            most = work, busiest = node->width;
    }
    return MICROBP_POSITIONS && net->most_positions > 1 && busiest ? 2 * busiest : widest;
}

/* The net has its graph and its dtype. kernels: those of options->isa. */
static void apply_options(mbp_net *net, const mbp_options *options, const mbp_kernels *kernels) {
    net->kernels = options->isa ? kernels : mbp_kernels_suited(net->dtype, usual_columns(net));
    net->pool = options->pool;
    net->threads = options->threads;
}

/* Refuses scales that the dtype cannot hold. Those of float64 are checked with the graph. */
static mbp_status check_scales(const mbp_net *net, mbp_error *error) {
    mbp_error inner;
    for (int i = 0; MICROBP_SCALES && net->scales_count && i < net->outputs && net->dtype != MBP_F64; i++) {
        const double *mean = mbp_scale_of(net, i);
        const int64_t n = mbp_output_width(net, i);
        if (mean && mbp_scale_check(mean, mean + n, n, net->dtype, &inner) != MBP_OK)
            return mbp_fail(error, MBP_INVALID, "output %d: %.200s", i, inner.text);
    }
    return MBP_OK;
}

mbp_status mbp_net_create(mbp_net **net, const char *graph, const mbp_options *options, mbp_error *error) {
    const mbp_kernels *kernels = NULL;
    mbp_options own;
    mbp_net *made;
    if (!net || !graph)
        return mbp_fail_null(error, net ? "graph" : "net", net ? "a graph text" : MBP_GETS_NET);
    mbp_status status = mbp_sized_read(&own, sizeof own, options, "mbp_options", error);
    if (status == MBP_OK)
        status = mbp_options_check(&own, &kernels, error);
    if (status == MBP_OK)
        status = mbp_graph_read(&made, graph, own.allocator, error);
    if (status != MBP_OK)
        return status;
    made->dtype = own.dtype;
    status = check_scales(made, error);
    if (status != MBP_OK) {
        mbp_graph_free(made);
        return status;
    }
    apply_options(made, &own, kernels);
    made->item = own.dtype == MBP_F64 ? sizeof(double) : sizeof(float);
    if (!allocate_block(made)) {
        long long params = made->params;
        mbp_graph_free(made);
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for %lld parameters", params);
    }
    *net = made;
    return mbp_net_init(made, own.seed, error);
}

/* ---- parts ---- */

mbp_status mbp_net_sharing(mbp_net **part, const mbp_net *net, const char *text, mbp_error *error) {
    mbp_net *made;
    mbp_status status = mbp_graph_read(&made, text, mbp_net_allocator(net), error);
    if (status != MBP_OK)
        return status;
    made->kernels = net->kernels;
    made->dtype = net->dtype, made->item = net->item, made->seed = net->seed;
    made->pool = net->pool;
    made->threads = MBP_SEE(&net->threads);
    made->params = net->params, made->buffers = net->buffers;
    made->shared = net->shared, made->block = net->block;
    for (int i = 0; i < made->layers; i++) {
        const mbp_layer *layer = &net->layer[mbp_find_layer(net, mbp_slice_of(made->layer[i].name))];
        made->layer[i].weight = layer->weight;
        made->layer[i].bias = layer->bias;
        made->layer[i].running = layer->running;
    }
    mbp_count(&net->shared->nets, 1);
    *part = made;
    return MBP_OK;
}

static mbp_status make_part(mbp_net **part, const mbp_net *net, const mbp_part *nodes, mbp_error *error) {
    mbp_status status = mbp_part_choose(net, nodes, error);
    if (status != MBP_OK)
        return status;
    const size_t size = mbp_part_write(net, nodes, NULL, 0);
    char *text = mbp_allocate(mbp_net_allocator(net), size);
    if (!text)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for the graph text of the part");
    mbp_part_write(net, nodes, text, size);
    status = mbp_net_sharing(part, net, text, error);
    mbp_release(mbp_net_allocator(net), text, size);
    return status;
}

mbp_status mbp_net_part(mbp_net **part, mbp_net *net, const int *inputs, int n_inputs, const int *outputs,
                        int n_outputs, mbp_error *error) {
    if (!part || !net)
        return mbp_fail_null(error, part ? "net" : "part", part ? MBP_A_NET : MBP_GETS_NET);
    if (!inputs || !outputs)
        return mbp_fail_null(error, inputs ? "outputs" : "inputs", "an array of nodes");
    if (n_inputs < 1 || n_outputs < 1)
        return mbp_fail(error, MBP_INVALID, "a part has at least one input and one output");
    mbp_part nodes = {.inputs = inputs, .n_inputs = n_inputs, .outputs = outputs, .n_outputs = n_outputs};
    const size_t bytes = (size_t)(net->nodes + net->layers) * sizeof(int);
    nodes.number = mbp_allocate(mbp_net_allocator(net), bytes);
    if (!nodes.number)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for the nodes of the part");
    nodes.first = nodes.number + net->nodes;
    mbp_net_enter(net);
    const mbp_status status = make_part(part, net, &nodes, error);
    mbp_net_leave(net);
    mbp_release(mbp_net_allocator(net), nodes.number, bytes);
    return status;
}

void mbp_net_free(mbp_net *net) {
    if (!net)
        return;
    mbp_workspace_free_idle(net);
    mbp_memory_give(&net->memory, net->notes, net->notes_bytes);
    if (mbp_count(&net->shared->nets, -1) == 0)
        mbp_release(mbp_net_allocator(net), net->shared, net->shared->bytes);
    mbp_graph_free(net);
}

size_t mbp_net_bytes(const mbp_net *net) {
    return net ? mbp_memory_bytes(&net->memory) + mbp_aligned(net->shared->bytes) : 0;
}

/* ---- copy ---- */

/* A net with room for a copy of `net`, except its notes, and without contents; NULL: no memory. */
static mbp_net *allocate_like(const mbp_net *net, const mbp_allocator *allocator) {
    mbp_net *made = mbp_allocate(allocator, net->graph_bytes);
    if (!made)
        return NULL;
    memset(made, 0, net->graph_bytes);
    made->graph_bytes = net->graph_bytes;
    made->params = net->params, made->buffers = net->buffers, made->item = net->item;
    mbp_graph_own(made, allocator);
    if (allocate_block(made))
        return made;
    mbp_graph_free(made);
    return NULL;
}

/* Tensor by tensor, because a part has only some of the numbers in its block. */
static void copy_numbers(mbp_net *to, const mbp_net *net) {
    mbp_tensor from, into;
    for (int i = 0; mbp_net_tensor(net, i, &from) && mbp_net_tensor(to, i, &into); i++)
        memcpy(mbp_net_at(to, &into), mbp_net_at(net, &from), (size_t)(from.in * from.out) * net->item);
}

/* Copies everything that predictions and saves see, in one state, if there is room for the notes and the scales.
 * *notes, *scales: how many bytes they need. */
static int copy_contents(mbp_net *to, const mbp_net *net, size_t *notes, size_t *scales) {
    mbp_net_enter(net);
    *notes = net->notes_bytes, *scales = (size_t)net->scales_count * sizeof(double);
    const int has_room = to->notes_bytes == *notes && to->scales_bytes == *scales;
    if (has_room) {
        mbp_graph_copy(to, net);
        copy_numbers(to, net);
        if (net->notes_bytes)
            memcpy(to->notes, net->notes, net->notes_bytes);
        if (*scales)
            memcpy(to->scales, net->scales, *scales);
        to->scales_count = net->scales_count;
    }
    mbp_net_leave(net);
    return has_room;
}

/* Replaces a block by one of another size; returns 0 if there is no memory. */
static int resize(mbp_net *net, void **block, size_t *size, size_t bytes) {
    if (*size == bytes)
        return 1;
    mbp_memory_give(&net->memory, *block, *size);
    *block = bytes ? mbp_memory_take(&net->memory, bytes) : NULL;
    *size = *block ? bytes : 0;
    return *size == bytes;
}

/* They may change between two tries, because no function of the user, such as its allocator, runs in the gate. */
static mbp_status fill_copy(mbp_net *to, const mbp_net *net, mbp_error *error) {
    size_t notes, scales;
    void *block;
    while (!copy_contents(to, net, &notes, &scales)) {
        int done = resize(to, (block = to->notes, &block), &to->notes_bytes, notes);
        to->notes = block;
        if (!done)
            return mbp_fail(error, MBP_NO_MEMORY, "no memory for notes of %zu bytes", notes);
        done = resize(to, (block = to->scales, &block), &to->scales_bytes, scales);
        to->scales = block;
        if (!done)
            return mbp_fail(error, MBP_NO_MEMORY, "no memory for the scales of the outputs");
    }
    return MBP_OK;
}

mbp_status mbp_net_copy(mbp_net **copy, const mbp_net *net, const mbp_options *options, mbp_error *error) {
    const mbp_kernels *kernels = NULL;
    mbp_options own;
    if (!copy || !net)
        return mbp_fail_null(error, copy ? "net" : "copy", copy ? MBP_A_NET : MBP_GETS_NET);
    mbp_status status = mbp_sized_read(&own, sizeof own, options, "mbp_options", error);
    if (!options)
        own = (mbp_options){.isa = net->kernels->isa,
                            .allocator = mbp_net_allocator(net),
                            .pool = net->pool,
                            .threads = MBP_SEE(&net->threads)};
    own.dtype = net->dtype;
    if (status == MBP_OK)
        status = mbp_net_settle(net, error);
    if (status == MBP_OK)
        status = mbp_options_check(&own, &kernels, error);
    if (status != MBP_OK)
        return status;
    mbp_net *made = allocate_like(net, own.allocator);
    if (!made)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for %lld parameters", (long long)net->params);
    status = fill_copy(made, net, error);
    apply_options(made, &own, kernels);
    if (status == MBP_OK)
        *copy = made;
    else
        mbp_net_free(made);
    return status;
}
