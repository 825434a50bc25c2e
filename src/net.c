/* Floor 4: a network's life, its parameters and what can be asked of it. */
#include "net.h"

#include <string.h>

#include "random.h"

/* ---- initial parameters ---- */

enum { PURPOSE_INIT = 1 };

static void init_weight(mbp_net *net, int index) {
    const mbp_layer *layer = &net->layer[index];
    double scale = 0, draws[256];
    mbp_distribution distribution = mbp_initialiser_scale(&layer->initialiser, (double)layer->in, (double)layer->out, &scale);
    if (distribution == KEEP)
        return;
    const int64_t count = layer->in * layer->out;
    for (int64_t first = 0; first < count; first += 256) {
        const int64_t n = count - first < 256 ? count - first : 256;
        mbp_draw(draws, first, n, distribution == NORMAL, net->dtype == MBP_F64, net->seed, PURPOSE_INIT, (uint32_t)index);
        for (int64_t i = 0; i < n; i++) {
            const double value = distribution == NORMAL ? scale * draws[i] : scale * (2 * draws[i] - 1);
            if (net->dtype == MBP_F64)
                ((double *)net->block)[layer->weight + first + i] = value;
            else
                ((float *)net->block)[layer->weight + first + i] = (float)value;
        }
    }
}

static void fill(mbp_net *net, int64_t offset, int64_t count, double value) {
    for (int64_t i = offset; i < offset + count; i++)
        if (net->dtype == MBP_F64)
            ((double *)net->block)[i] = value;
        else
            ((float *)net->block)[i] = (float)value;
}

static MBP_APART void init(mbp_net *net) {
    for (int i = 0; i < net->layers; i++) {
        const mbp_layer *layer = &net->layer[i];
        if (layer->kind == MBP_DENSE)
            init_weight(net, i);
        else
            fill(net, layer->weight, layer->out, 1);
        if (layer->bias >= 0)
            fill(net, layer->bias, layer->out, 0);
        if (layer->running >= 0) {
            fill(net, net->params + layer->running, layer->out, 0);
            fill(net, net->params + layer->running + layer->out, layer->out, 1);
        }
    }
}

mbp_status mbp_net_init(mbp_net *net, uint64_t seed, mbp_error *error) {
    if (!net)
        return mbp_fail(error, MBP_INVALID, "net is NULL");
    net->seed = seed;
    const mbp_float_state before = mbp_float_enter(MBP_KEEP_SUBNORMALS);
    init(net);
    mbp_float_leave(before);
    return MBP_OK;
}

/* ---- life ---- */

static mbp_status check_threads(int threads, mbp_error *error) {
    return threads >= 0 ? MBP_OK : mbp_fail(error, MBP_INVALID, "%d threads: give 1 or more, or 0 for as many as the pool has", threads);
}

static mbp_status check_options(const mbp_options *options, const mbp_kernels **kernels, mbp_error *error) {
    if (options->dtype != MBP_F32 && options->dtype != MBP_F64)
        return mbp_fail(error, MBP_INVALID, "dtype %d: a net computes in MBP_F32 or MBP_F64", (int)options->dtype);
    *kernels = mbp_kernels_find(options->isa, options->dtype);
    if (!*kernels)
        return mbp_fail(error, MBP_UNSUPPORTED, "the kernel variant \"%s\" is not in this build or does not run on this processor",
                        options->isa);
    return check_threads(options->threads, error);
}

mbp_status mbp_net_create(mbp_net **net, const char *graph, const mbp_options *options, mbp_error *error) {
    static const mbp_options standard = {.dtype = MBP_F32};
    const mbp_kernels *kernels = NULL;
    mbp_net *made;
    if (!net || !graph)
        return mbp_fail(error, MBP_INVALID, "%s is NULL", net ? "graph" : "net");
    options = options ? options : &standard;
    mbp_status status = check_options(options, &kernels, error);
    if (status == MBP_OK)
        status = mbp_graph_read(&made, graph, options->allocator, error);
    if (status != MBP_OK)
        return status;
    made->kernels = kernels;
    made->random = mbp_kernels_find(kernels->isa, MBP_F64);
    made->pool = options->pool;
    atomic_init(&made->threads, options->threads);
    made->dtype = options->dtype;
    made->item = options->dtype == MBP_F64 ? sizeof(double) : sizeof(float);
    made->block_bytes = (size_t)(made->params + made->buffers) * made->item + MBP_READABLE;
    made->block = mbp_allocate(made->allocator, made->block_bytes);
    if (!made->block) {
        long long params = made->params;
        mbp_graph_free(made);
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for %lld parameters", params);
    }
    memset(made->block, 0, made->block_bytes);
    *net = made;
    return mbp_net_init(made, options->seed, error);
}

void mbp_net_free(mbp_net *net) {
    if (!net)
        return;
    for (int i = 0; i < MBP_IDLE_MAX; i++)
        mbp_workspace_free(net, atomic_load(&net->idle[i]));
    mbp_release(net->allocator, net->notes, net->notes_bytes);
    mbp_release(net->allocator, net->block, net->block_bytes);
    mbp_graph_free(net);
}

/* ---- what can be asked ---- */

const mbp_allocator *mbp_net_allocator(const mbp_net *net) { return net->allocator; }
mbp_dtype mbp_net_dtype(const mbp_net *net) { return net ? net->dtype : MBP_F32; }
uint64_t mbp_net_seed(const mbp_net *net) { return net ? net->seed : 0; }
const char *mbp_net_notes(const mbp_net *net) { return net ? net->notes : NULL; }
const char *mbp_net_isa(const mbp_net *net) { return net ? net->kernels->isa : NULL; }
int mbp_net_inputs(const mbp_net *net) { return net ? net->inputs : 0; }
int mbp_net_outputs(const mbp_net *net) { return net ? net->outputs : 0; }
int mbp_net_nodes(const mbp_net *net) { return net ? net->nodes : 0; }

int64_t mbp_net_node_width(const mbp_net *net, int node) { return net && node >= 0 && node < net->nodes ? net->node[node].width : 0; }

int64_t mbp_net_input_width(const mbp_net *net, int i) {
    return net && i >= 0 && i < net->inputs ? net->node[net->input_nodes[i]].width : 0;
}

int64_t mbp_net_output_width(const mbp_net *net, int i) {
    return net && i >= 0 && i < net->outputs ? net->node[net->output[i].node].width : 0;
}

double mbp_net_flops(const mbp_net *net) {
    static const int each[] = {[MBP_INPUT] = 1,  [MBP_ELEMENTWISE] = 1, [MBP_ADD] = 1,       [MBP_MULTIPLY] = 1,
                               [MBP_CONCAT] = 1, [MBP_BATCH_NORM] = 4,  [MBP_LAYER_NORM] = 8}; /* operations of an element */
    double flops = 0;
    for (int id = 0; net && id < net->nodes; id++) {
        const mbp_node *node = &net->node[id];
        if (node->reached)
            flops += (double)node->width * (node->kind == MBP_DENSE ? 2 * (double)net->layer[node->layer].in : each[node->kind]);
    }
    return flops;
}

void *mbp_net_params(mbp_net *net, int64_t *count) {
    if (count)
        *count = net ? net->params : 0;
    return net ? net->block : NULL;
}

void *mbp_net_buffers(mbp_net *net, int64_t *count) {
    if (count)
        *count = net ? net->buffers : 0;
    return !net ? NULL : net->block + (size_t)net->params * net->item;
}

int mbp_net_tensor(const mbp_net *net, int i, mbp_tensor *tensor) {
    if (!net || !tensor || i < 0 || !net->layers)
        return 0;
    int low = 0; /* the layer whose tensor it is, between low and high */
    for (int high = net->layers; high - low > 1;) {
        const int middle = low + (high - low) / 2;
        *(net->layer[middle].tensor <= i ? &low : &high) = middle;
    }
    const mbp_layer *layer = &net->layer[low];
    i -= layer->tensor;
    if (i-- == 0)
        return *tensor = (mbp_tensor){layer->name, "weight", layer->weight, layer->in, layer->out, layer->kind == MBP_DENSE ? 2 : 1, 0}, 1;
    if (layer->bias >= 0 && i-- == 0)
        return *tensor = (mbp_tensor){layer->name, "bias", layer->bias, 1, layer->out, 1, 0}, 1;
    if (layer->running >= 0 && i-- == 0)
        return *tensor = (mbp_tensor){layer->name, "running_mean", layer->running, 1, layer->out, 1, 1}, 1;
    if (layer->running >= 0 && i == 0)
        return *tensor = (mbp_tensor){layer->name, "running_var", layer->running + layer->out, 1, layer->out, 1, 1}, 1;
    return 0;
}

/* ---- what can be changed ---- */

mbp_status mbp_net_set_threads(mbp_net *net, int threads, mbp_error *error) {
    if (!net)
        return mbp_fail(error, MBP_INVALID, "net is NULL");
    mbp_status status = check_threads(threads, error);
    if (status == MBP_OK)
        atomic_store_explicit(&net->threads, threads, memory_order_relaxed);
    return status;
}

/* The layers from *first to *last - 1: the one of this name, or all (NULL). */
static mbp_status find_layers(const mbp_net *net, const char *name, int *first, int *last, mbp_error *error) {
    if (!net)
        return mbp_fail(error, MBP_INVALID, "net is NULL");
    *first = 0, *last = net->layers;
    if (!name)
        return MBP_OK;
    while (*first < *last && strcmp(name, net->layer[*first].name) != 0)
        ++*first;
    if (*first == *last)
        return mbp_fail(error, MBP_INVALID, "there is no layer \"%.60s\"", name);
    *last = *first + 1;
    return MBP_OK;
}

mbp_status mbp_net_freeze(mbp_net *net, const char *layer, int frozen, mbp_error *error) {
    int i = 0, end = 0;
    mbp_status status = find_layers(net, layer, &i, &end, error);
    if (status != MBP_OK)
        return status;
    for (; i < end; i++)
        net->layer[i].frozen = frozen != 0;
    net->layers_version++;
    return MBP_OK;
}

static int setting_index(const mbp_layer *layer, const char *name) {
    return name ? mbp_parameter_index(mbp_layer_settings(layer->kind), mbp_slice_of(name)) : -1;
}

/* Refuses a value that is out of range; named: also a setting that this kind of layer does not have, as none has an unknown one. */
static mbp_status check_setting(const mbp_layer *layer, const char *name, int named, double value, mbp_error *error) {
    const char *settings = mbp_layer_settings(layer->kind), *dense = mbp_layer_settings(MBP_DENSE);
    const int setting = setting_index(layer, name);
    if (setting >= 0)
        return mbp_parameter_check(settings, setting, value, error);
    if (!named && name && mbp_parameter_index(dense, mbp_slice_of(name)) >= 0)
        return MBP_OK;
    return mbp_fail(error, MBP_INVALID, "layer %s has no setting \"%.60s\"; it has: %s", layer->name, name ? name : "NULL", settings);
}

mbp_status mbp_net_set_layer(mbp_net *net, const char *layer, const char *name, double value, mbp_error *error) {
    int i = 0, end = 0;
    mbp_status status = find_layers(net, layer, &i, &end, error);
    if (status != MBP_OK)
        return status;
    for (int k = i; k < end && status == MBP_OK; k++)
        status = check_setting(&net->layer[k], name, layer != NULL, value, error);
    if (status != MBP_OK)
        return status;
    for (; i < end; i++)
        if (setting_index(&net->layer[i], name) >= 0)
            net->layer[i].setting[setting_index(&net->layer[i], name)] = value;
    net->layers_version++;
    return MBP_OK;
}

mbp_status mbp_net_set_link(mbp_net *net, int output, const char *link, mbp_error *error) {
    mbp_formula formula;
    if (!net || !link)
        return mbp_fail(error, MBP_INVALID, "%s is NULL", net ? "link" : "net");
    if (output < 0 || output >= net->outputs)
        return mbp_fail(error, MBP_INVALID, "output %d does not exist: the net has %d", output, net->outputs);
    mbp_status status = mbp_formula_parse(MBP_LINK, mbp_slice_of(link), &formula, error);
    if (status == MBP_OK)
        net->output[output].link = formula.row;
    return status;
}

mbp_status mbp_notes_check(const char *notes, mbp_error *error) {
    const size_t bytes = strlen(notes) + 1;
    if (bytes > MBP_NOTES_MAX)
        return mbp_fail(error, MBP_INVALID, "the notes have %zu bytes; a network carries at most %d", bytes - 1, MBP_NOTES_MAX - 1);
    return mbp_is_utf8(notes) ? MBP_OK : mbp_fail(error, MBP_INVALID, "the notes are not UTF-8");
}

void mbp_net_keep_notes(mbp_net *net, char *notes, size_t bytes) {
    mbp_release(net->allocator, net->notes, net->notes_bytes);
    net->notes = notes;
    net->notes_bytes = bytes;
}

mbp_status mbp_net_set_notes(mbp_net *net, const char *notes, mbp_error *error) {
    if (!net)
        return mbp_fail(error, MBP_INVALID, "net is NULL");
    if (!notes || !*notes)
        return mbp_net_keep_notes(net, NULL, 0), MBP_OK;
    mbp_status status = mbp_notes_check(notes, error);
    if (status != MBP_OK)
        return status;
    const size_t bytes = strlen(notes) + 1;
    char *kept = mbp_allocate(net->allocator, bytes);
    if (!kept)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for notes of %zu bytes", bytes);
    mbp_net_keep_notes(net, memcpy(kept, notes, bytes), bytes);
    return MBP_OK;
}
