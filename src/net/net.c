/* Creates networks, draws their initial parameters, holds them for one thread, and frees them. */
#include "net/net.h"

#include <string.h>

#include "formulas/random.h"
#include "net/graph.h"
#include "net/workspace.h"
#include "system/floats.h"
#include "system/sized.h"

/* ---- initial parameters ---- */

enum { PURPOSE_WEIGHTS = 1, PURPOSE_BIASES = 6 };

static void fill(mbp_net *net, int64_t offset, int64_t count, double value) {
    for (int64_t i = offset; i < offset + count; i++)
        if (net->dtype == MBP_F64)
            ((double *)net->block)[i] = value;
        else
            ((float *)net->block)[i] = (float)value;
}

/* Draws the weights or the biases of a dense layer. */
static void draw(mbp_net *net, int index, const mbp_formula *initializer, uint32_t purpose, int64_t offset,
                 int64_t count) {
    const mbp_layer *layer = &net->layer[index];
    double scale = 0, draws[256];
    mbp_distribution distribution = mbp_initializer_scale(initializer, (double)layer->in, (double)layer->out, &scale);
    if (distribution == KEEP)
        return;
    if (scale == 0) {
        fill(net, offset, count, 0);
        return;
    }
    for (int64_t first = 0; first < count; first += 256) {
        const int64_t n = count - first < 256 ? count - first : 256;
        mbp_draw(draws, first, n, distribution == NORMAL, net->dtype == MBP_F64, net->seed, purpose, (uint32_t)index);
        for (int64_t i = 0; i < n; i++) {
            const double value = distribution == NORMAL ? scale * draws[i] : scale * (2 * draws[i] - 1);
            if (net->dtype == MBP_F64)
                ((double *)net->block)[offset + first + i] = value;
            else
                ((float *)net->block)[offset + first + i] = (float)value;
        }
    }
}

static void init_dense(mbp_net *net, int index) {
    const mbp_layer *layer = &net->layer[index];
    draw(net, index, &layer->initializer, PURPOSE_WEIGHTS, layer->weight, layer->in * layer->out);
    if (layer->bias >= 0)
        draw(net, index, &layer->bias_initializer, PURPOSE_BIASES, layer->bias, layer->out);
}

static void init_columns(mbp_net *net, const mbp_layer *layer) { /* norms and scales */
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
        if (net->layer[i].kind == MBP_NODE_DENSE)
            init_dense(net, i);
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

mbp_status mbp_net_lock(mbp_net *net, mbp_error *error) {
    return net ? mbp_net_take(net, error) : mbp_fail_null(error, "net", MBP_A_NET);
}

void mbp_net_unlock(mbp_net *net) {
    if (net && atomic_load_explicit(&net->lock.owner, memory_order_relaxed) == mbp_this_thread())
        mbp_net_give(net);
}

void mbp_net_after_fork(mbp_net *net) {
    if (!net)
        return;
    mbp_lock_after_fork(&net->lock);
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
    mbp_unknown unknown = {.word = mbp_slice_of(isa)};
    for (int i = 0; mbp_isa_name(i); i++)
        if (mbp_isa_runs(i))
            mbp_unknown_add(&unknown, mbp_slice_of(mbp_isa_name(i)));
    mbp_unknown_fail(&unknown, "this build and processor have no kernel variant", error);
    if (error)
        error->status = MBP_UNSUPPORTED;
    return MBP_UNSUPPORTED;
}

static mbp_status check_options(const mbp_options *options, const mbp_kernels **kernels, mbp_error *error) {
    if (options->dtype != MBP_F32 && options->dtype != MBP_F64)
        return mbp_fail(error, MBP_INVALID, "options.dtype is %d, but must be MBP_F32 or MBP_F64", (int)options->dtype);
    *kernels = mbp_kernels_find(options->isa, options->dtype);
    if (!*kernels)
        return unknown_isa(options->isa, error);
    mbp_status status = mbp_allocator_check(options->allocator, error);
    return status == MBP_OK ? mbp_threads_check(options->threads, error) : status;
}

mbp_status mbp_net_create(mbp_net **net, const char *graph, const mbp_options *options, mbp_error *error) {
    const mbp_kernels *kernels = NULL;
    mbp_options own;
    mbp_net *made;
    if (!net || !graph)
        return mbp_fail_null(error, net ? "graph" : "net", net ? "a graph text" : MBP_GETS_NET);
    mbp_status status = mbp_sized_read(&own, sizeof own, options, "mbp_options", error);
    if (status == MBP_OK)
        status = check_options(&own, &kernels, error);
    if (status == MBP_OK)
        status = mbp_graph_read(&made, graph, own.allocator, error);
    if (status != MBP_OK)
        return status;
    made->kernels = kernels;
    made->random = mbp_kernels_find(kernels->isa, MBP_F64);
    made->pool = own.pool;
    atomic_init(&made->threads, own.threads);
    made->dtype = own.dtype;
    made->item = own.dtype == MBP_F64 ? sizeof(double) : sizeof(float);
    made->block_bytes = (size_t)(made->params + made->buffers) * made->item + MBP_READABLE;
    made->block = mbp_allocate(made->allocator, made->block_bytes);
    if (!made->block) {
        long long params = made->params;
        mbp_graph_free(made);
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for %lld parameters", params);
    }
    memset(made->block, 0, made->block_bytes);
    *net = made;
    return mbp_net_init(made, own.seed, error);
}

void mbp_net_free(mbp_net *net) {
    if (!net)
        return;
    mbp_workspace_free_idle(net);
    mbp_release(net->allocator, net->notes, net->notes_bytes);
    mbp_release(net->allocator, net->block, net->block_bytes);
    mbp_graph_free(net);
}
