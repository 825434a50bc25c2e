/* Reads and changes properties of a net. */
#include "net/net.h"

#include <stdio.h>
#include <string.h>

#include "net/statements.h"
#include "system/sized.h"
#include "system/text.h"

/* ---- reading ---- */

mbp_dtype mbp_net_dtype(const mbp_net *net) { return net ? net->dtype : MBP_F32; }
uint64_t mbp_net_seed(const mbp_net *net) { return net ? MBP_SEE(&net->seed) : 0; }
const char *mbp_net_notes(const mbp_net *net) { return net ? MBP_SEE(&net->notes) : NULL; }
const char *mbp_net_isa(const mbp_net *net) { return net ? net->kernels->isa : NULL; }
int mbp_net_inputs(const mbp_net *net) { return net ? net->inputs : 0; }
int mbp_net_outputs(const mbp_net *net) { return net ? net->outputs : 0; }
int mbp_net_nodes(const mbp_net *net) { return net ? net->nodes : 0; }
int mbp_net_layers(const mbp_net *net) { return net ? net->layers : 0; }

int mbp_net_input_node(const mbp_net *net, int i) {
    return net && i >= 0 && i < net->inputs ? net->input_nodes[i] : -1;
}

int mbp_net_output_node(const mbp_net *net, int i) {
    return net && i >= 0 && i < net->outputs ? net->output[i].node : -1;
}

int64_t mbp_net_node_width(const mbp_net *net, int node) {
    return net && node >= 0 && node < net->nodes ? mbp_row_width(&net->node[node]) : 0;
}

int64_t mbp_net_input_width(const mbp_net *net, int i) {
    return net && i >= 0 && i < net->inputs ? net->node[net->input_nodes[i]].width : 0;
}

int64_t mbp_net_output_width(const mbp_net *net, int i) {
    return net && i >= 0 && i < net->outputs ? mbp_output_row(net, i) : 0;
}

static void put_spec(char to[MBP_SPEC_MAX], mbp_kind kind, const mbp_formula *formula) {
    char spec[MBP_SPEC_SIZE];
    const size_t length = mbp_formula_print(kind, formula, spec);
    memcpy(to, spec, length < MBP_SPEC_MAX ? length : MBP_SPEC_MAX - 1);
}

mbp_status mbp_net_node(const mbp_net *net, int i, mbp_node_info *info, mbp_error *error) {
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    if (i < 0 || i >= net->nodes)
        return mbp_fail_index(error, "node", i, net->nodes);
    const mbp_node *node = &net->node[i];
    mbp_node_info found = {.operation = mbp_statement_word(node->kind),
                           .width = node->width,
                           .layer = node->layer,
                           .operands = node->operands,
                           .operand = net->operands + node->first_operand};
    if (mbp_reads_sparse(node->kind) || node->kind == MBP_NODE_ACTIVATION)
        put_spec(found.activation, MBP_ACTIVATION, &node->activation);
    if (node->kind == MBP_NODE_DROPOUT || node->kind == MBP_NODE_NOISE)
        found.amount = node->activation.parameters[0];
    if (mbp_is_ids(node)) {
        found.levels = mbp_ids_levels(node);
        found.hash = mbp_is_hashed(node);
    }
    if (node->kind == MBP_NODE_SLICE) {
        found.from = mbp_column(node, MBP_COLUMN_FROM);
        found.to = mbp_column(node, MBP_COLUMN_TO);
    }
    found.positions = mbp_positions(node);
    found.height = MICROBP_POSITIONS ? node->height : 1;
    for (int k = 0; k < 8 && (node->kind == MBP_NODE_WINDOW || node->kind == MBP_NODE_POOL); k++)
        found.window[k] = mbp_window_of(node, k);
    if (node->kind == MBP_NODE_POOL)
        found.pool = node->activation.row == MBP_POOL_MEAN ? "mean" : "max";
    found.reverse = mbp_is_recurrent(node->kind) && mbp_is_reverse(node);
    return mbp_sized_write(info, &found, sizeof found, "mbp_node_info", error);
}

/* What dense and recurrent layers have. */
static void put_penalties(mbp_layer_info *info, const mbp_layer *layer) {
    info->l1 = layer->setting[MBP_LAYER_L1];
    info->l2 = layer->setting[MBP_LAYER_L2];
    info->max_norm = layer->setting[MBP_LAYER_MAX_NORM];
    info->bias_lr = layer->setting[MBP_LAYER_BIAS_LR];
    put_spec(info->init, MBP_INITIALIZER, &layer->initializer);
    if (layer->bias >= 0)
        put_spec(info->bias_init, MBP_INITIALIZER, &layer->bias_initializer);
}

static void put_dense(mbp_layer_info *info, const mbp_layer *layer) {
    put_penalties(info, layer);
    info->in = layer->in;
    put_spec(info->activation, MBP_ACTIVATION, &layer->activation);
}

#if MICROBP_POSITIONS
static void put_recurrent(mbp_layer_info *info, const mbp_layer *layer) {
    put_penalties(info, layer);
    info->out = mbp_units(layer);
    info->in = layer->in - info->out;
    info->cell = mbp_cell_name(layer->cell);
    put_spec(info->recurrent_init, MBP_INITIALIZER, &layer->recurrent_initializer);
}
#endif

static void put_embedding(mbp_layer_info *info, const mbp_layer *layer) {
    info->in = layer->in;
    info->sums = layer->sums;
    info->max_norm = layer->setting[MBP_EMBEDDING_MAX_NORM];
    put_spec(info->activation, MBP_ACTIVATION, &layer->activation);
    put_spec(info->init, MBP_INITIALIZER, &layer->initializer);
}

static void put_columnwise(mbp_layer_info *info, const mbp_layer *layer) { /* norms, scales, standardize */
    info->in = layer->out;
    if (layer->kind == MBP_NODE_BATCH_NORM || layer->kind == MBP_NODE_LAYER_NORM)
        info->eps = layer->setting[MBP_NORM_EPS];
    if (layer->kind == MBP_NODE_BATCH_NORM)
        info->momentum = layer->setting[MBP_NORM_MOMENTUM];
}

mbp_status mbp_net_layer(const mbp_net *net, int i, mbp_layer_info *info, mbp_error *error) {
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    if (i < 0 || i >= net->layers)
        return mbp_fail_index(error, "layer", i, net->layers);
    const mbp_layer *layer = &net->layer[i];
    mbp_net_enter(net);
    mbp_layer_info found = {.name = layer->name,
                            .operation = mbp_statement_word(layer->kind),
                            .out = layer->out,
                            .gain = layer->weight >= 0,
                            .bias = layer->bias >= 0,
                            .frozen = layer->frozen,
                            .lr = layer->setting[MBP_LAYER_LR]};
    (layer->kind == MBP_NODE_DENSE ? put_dense
#if MICROBP_POSITIONS
     : mbp_is_recurrent(layer->kind) ? put_recurrent
#endif
     : mbp_is_embedding(layer->kind) ? put_embedding
                                     : put_columnwise)(&found, layer);
    mbp_net_leave(net);
    return mbp_sized_write(info, &found, sizeof found, "mbp_layer_info", error);
}

double mbp_net_flops(const mbp_net *net) { return net ? net->flops : 0; }

void *mbp_net_params(mbp_net *net, int64_t *count) {
    if (count)
        *count = net ? net->params : 0;
    if (net) /* if another thread trains, its numbers change all the time */
        (void)mbp_net_settle(net, NULL);
    return net ? net->block : NULL;
}

void *mbp_net_buffers(mbp_net *net, int64_t *count) {
    if (count)
        *count = net ? net->buffers : 0;
    return net ? mbp_net_running(net) : NULL;
}

int mbp_net_tensor(const mbp_net *net, int i, mbp_tensor *tensor) {
    if (!net || !tensor || i < 0 || !net->layers)
        return 0;
    int low = 0; /* bisection: the tensor's layer is in [low, high) */
    for (int high = net->layers; high - low > 1;) {
        const int middle = low + (high - low) / 2;
        *(net->layer[middle].tensor <= i ? &low : &high) = middle;
    }
    const mbp_layer *layer = &net->layer[low];
    i -= layer->tensor;
    if (layer->weight >= 0 && i-- == 0)
        return *tensor = (mbp_tensor){layer->name,
                                      "weight",
                                      layer->weight,
                                      layer->in,
                                      layer->out,
                                      mbp_has_matrix(layer->kind) ? 2 : 1,
                                      0},
               1;
    if (layer->bias >= 0 && i-- == 0)
        return *tensor = (mbp_tensor){layer->name, "bias", layer->bias, 1, mbp_bias_width(layer), 1, 0}, 1;
    if (layer->running < 0 || i > 1)
        return 0;
    static const char *const names[2][2] = {{"running_mean", "running_var"}, {"mean", "std"}};
    const char *name = names[layer->kind == MBP_NODE_STANDARDIZE][i];
    *tensor = (mbp_tensor){layer->name, name, layer->running + i * layer->out, 1, layer->out, 1, 1};
    return 1;
}

/* ---- changing ---- */

int mbp_net_threads(const mbp_net *net) {
#if MICROBP_THREADS
    if (net && net->pool) {
        const int limit = MBP_SEE(&net->threads), pool = mbp_pool_threads(net->pool);
        return limit && limit < pool ? limit : pool;
    }
#endif
    (void)net;
    return 1;
}

mbp_status mbp_threads_check(int threads, mbp_error *error) {
    if (threads >= 0)
        return MBP_OK;
    return mbp_fail(error, MBP_INVALID, "threads is %d, but must be at least 1, or 0 for all threads of the pool",
                    threads);
}

mbp_status mbp_net_set_threads(mbp_net *net, int threads, mbp_error *error) {
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    mbp_status status = mbp_threads_check(threads, error);
    if (status == MBP_OK)
        MBP_PUT(&net->threads, threads);
    return status;
}

static mbp_status unknown_layer(const mbp_net *net, const char *name, mbp_error *error) {
    mbp_unknown unknown = {.word = mbp_slice_of(name)};
    for (int i = 0; i < net->layers; i++)
        mbp_unknown_add(&unknown, mbp_slice_of(net->layer[i].name));
    return mbp_unknown_fail(&unknown, "no layer is named", error);
}

/* Finds the layer of this name, or all layers (name NULL): they are *first to *last - 1. */
static mbp_status find_layers(const mbp_net *net, const char *name, int *first, int *last, mbp_error *error) {
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    *first = 0, *last = net->layers;
    if (!name)
        return MBP_OK;
    *first = mbp_find_layer(net, mbp_slice_of(name));
    if (*first < 0)
        return unknown_layer(net, name, error);
    *last = *first + 1;
    return MBP_OK;
}

mbp_status mbp_net_freeze(mbp_net *net, const char *layer, int frozen, mbp_error *error) {
    int i = 0, end = 0;
    mbp_status status = find_layers(net, layer, &i, &end, error);
    if (status == MBP_OK)
        status = mbp_net_open(net, error);
    if (status != MBP_OK)
        return status;
    for (; i < end; i++)
        net->layer[i].frozen = frozen != 0;
    net->layers_version++;
    mbp_net_close(net);
    return MBP_OK;
}

/* The position of the setting, or -1 if the layer does not have it. bias_lr needs a bias. */
static int setting_index(const mbp_layer *layer, const char *name) {
    const int index = mbp_parameter_index(mbp_layer_settings(layer->kind), mbp_slice_of(name));
    const int needs_bias = mbp_is_penalized(layer->kind) && index == MBP_LAYER_BIAS_LR;
    return needs_bias && layer->bias < 0 ? -1 : index;
}

/* If the layer has the setting, adds 1 to *found and refuses a value that is out of range. */
static mbp_status check_setting(const mbp_layer *layer, const char *name, double value, int *found, mbp_error *error) {
    const int setting = setting_index(layer, name);
    if (setting < 0)
        return MBP_OK;
    ++*found;
    return mbp_parameter_check(mbp_layer_settings(layer->kind), setting, value, error);
}

/* layer: the layer without the setting; NULL: no layer has it. */
static mbp_status unknown_setting(const mbp_layer *layer, const char *name, mbp_error *error) {
    char what[MBP_NAME_SIZE + 40];
    mbp_unknown unknown = {.word = mbp_slice_of(name)};
    const char *settings = mbp_layer_settings(layer ? layer->kind : MBP_NODE_DENSE);
    if ((!layer || mbp_is_penalized(layer->kind)) && mbp_parameter_index(settings, unknown.word) == MBP_LAYER_BIAS_LR)
        return mbp_fail(error, MBP_INVALID, "%s%s has %s bias, so bias_lr cannot be set",
                        layer ? "layer " : "no dense layer", layer ? layer->name : "", layer ? "no" : "a");
    mbp_parameters_list(settings, &unknown);
    snprintf(what, sizeof what, "%s%s has %s setting", layer ? "layer " : "no layer", layer ? layer->name : "",
             layer ? "no" : "a");
    return mbp_unknown_fail(&unknown, what, error);
}

mbp_status mbp_net_set_layer(mbp_net *net, const char *layer, const char *name, double value, mbp_error *error) {
    int first = 0, end = 0, found = 0;
    mbp_status status = find_layers(net, layer, &first, &end, error);
    if (status == MBP_OK && !name)
        status = mbp_fail_null(error, "name", "the name of a setting, such as \"lr\"");
    for (int i = first; i < end && status == MBP_OK; i++)
        status = check_setting(&net->layer[i], name, value, &found, error);
    if (status != MBP_OK)
        return status;
    if (!found)
        return unknown_setting(layer ? &net->layer[first] : NULL, name, error);
    status = mbp_net_open(net, error);
    if (status != MBP_OK)
        return status;
    for (int i = first; i < end; i++)
        if (setting_index(&net->layer[i], name) >= 0)
            net->layer[i].setting[setting_index(&net->layer[i], name)] = value;
    net->layers_version++;
    mbp_net_close(net);
    return MBP_OK;
}

static mbp_status check_output(const mbp_net *net, int i, mbp_error *error) {
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    return i < 0 || i >= net->outputs ? mbp_fail_index(error, "output", i, net->outputs) : MBP_OK;
}

/* Copies the scales of all outputs but the i-th. */
static void copy_scales(const mbp_net *net, int i, double *to) {
    for (int64_t at = 0, size; at < net->scales_count; at += size) {
        size = 1 + 2 * mbp_output_width(net, (int)net->scales[at]);
        if ((int)net->scales[at] == i)
            continue;
        memcpy(to, net->scales + at, (size_t)size * sizeof *to);
        to += size;
    }
}

/* Sets the activation and the scale of an output; mean NULL: it has none. The caller holds the net. */
static mbp_status set_output(mbp_net *net, int i, int activation, const double *mean, const double *std,
                             mbp_error *error) {
    if (mean && !MICROBP_SCALES)
        return mbp_fail_extra(error, "mean and std of outputs", "scales");
    const int64_t n = mbp_output_width(net, i);
    const int64_t size = 1 + 2 * n, others = net->scales_count - (mbp_scale_of(net, i) ? size : 0);
    const size_t bytes = (size_t)(others + (mean ? size : 0)) * sizeof(double), bytes_before = net->scales_bytes;
    double *made = bytes ? mbp_memory_take(&net->memory, bytes) : NULL, *before = net->scales;
    if (bytes && !made)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for the scales of the outputs");
    copy_scales(net, i, made);
    if (mean) {
        made[others] = i;
        memcpy(made + others + 1, mean, (size_t)n * sizeof *mean);
        memcpy(made + others + 1 + n, std, (size_t)n * sizeof *std);
    }
    mbp_gate_enter_alone(&net->shared->lock);
    MBP_PUT(&net->output[i].activation, activation);
    net->scales = made, net->scales_count = others + (mean ? size : 0), net->scales_bytes = bytes;
    mbp_gate_leave_alone(&net->shared->lock);
    mbp_memory_give(&net->memory, before, bytes_before);
    return MBP_OK;
}

static mbp_status hold_and_set(mbp_net *net, int i, int activation, const double *mean, const double *std,
                               mbp_error *error) {
    mbp_status status = mbp_net_take(net, error);
    if (status != MBP_OK)
        return status;
    status = set_output(net, i, activation, mean, std, error);
    mbp_net_give(net);
    return status;
}

mbp_status mbp_net_set_output(mbp_net *net, int i, const char *activation, mbp_error *error) {
    mbp_formula formula = {-1, {0}};
    mbp_status status = check_output(net, i, error);
    if (status == MBP_OK && activation)
        status = mbp_formula_parse(MBP_OUTPUT_ACTIVATION, mbp_slice_of(activation), &formula, error);
    return status == MBP_OK ? hold_and_set(net, i, formula.row, NULL, NULL, error) : status;
}

mbp_status mbp_net_set_scale(mbp_net *net, int i, const double *mean, const double *std, mbp_error *error) {
    mbp_formula identity = {-1, {0}};
    mbp_status status = check_output(net, i, error);
    if (status == MBP_OK && (!mean || !std))
        return mbp_fail_null(error, mean ? "std" : "mean", "one number per column of the output");
    if (status == MBP_OK && mbp_positions(&net->node[net->output[i].node]) > 1)
        return mbp_fail(error, MBP_UNSUPPORTED, "output %d has several positions, so it cannot have mean and std", i);
    if (status == MBP_OK)
        status = mbp_scale_check(mean, std, mbp_output_width(net, i), net->dtype, error);
    if (status == MBP_OK)
        status = mbp_formula_parse(MBP_OUTPUT_ACTIVATION, mbp_slice_of("identity"), &identity, error);
    return status == MBP_OK ? hold_and_set(net, i, identity.row, mean, std, error) : status;
}

int mbp_net_scale(const mbp_net *net, int i, double *mean, double *std) {
    if (!net || i < 0 || i >= net->outputs)
        return 0;
    mbp_net_enter(net);
    const double *scale = mbp_scale_of(net, i);
    const int64_t n = mbp_output_width(net, i);
    if (scale && mean)
        memcpy(mean, scale, (size_t)n * sizeof *mean);
    if (scale && std)
        memcpy(std, scale + n, (size_t)n * sizeof *std);
    mbp_net_leave(net);
    return scale != NULL;
}

const char *mbp_net_output_activation(const mbp_net *net, int i) {
    return net && i >= 0 && i < net->outputs
               ? mbp_formula_name(MBP_OUTPUT_ACTIVATION, MBP_SEE(&net->output[i].activation))
               : NULL;
}

mbp_status mbp_notes_check(const char *notes, mbp_error *error) {
    const size_t bytes = strlen(notes) + 1;
    if (bytes > MBP_NOTES_MAX)
        return mbp_fail(error, MBP_INVALID, "the notes have %zu bytes, but may have at most %d", bytes - 1,
                        MBP_NOTES_MAX - 1);
    return mbp_is_utf8(notes) ? MBP_OK : mbp_fail(error, MBP_INVALID, "the notes are not valid UTF-8");
}

/* Replaces the notes; *notes and *bytes become those before. */
static void swap_notes(mbp_net *net, char **notes, size_t *bytes) {
    char *old = net->notes;
    const size_t old_bytes = net->notes_bytes;
    MBP_PUT(&net->notes, *notes);
    net->notes_bytes = *bytes;
    *notes = old, *bytes = old_bytes;
}

void mbp_net_keep_notes(mbp_net *net, char *notes, size_t bytes) {
    mbp_memory_count(&net->memory, bytes);
    swap_notes(net, &notes, &bytes);
    mbp_memory_give(&net->memory, notes, bytes);
}

mbp_status mbp_net_set_notes(mbp_net *net, const char *notes, mbp_error *error) {
    if (!net)
        return mbp_fail_null(error, "net", MBP_A_NET);
    mbp_status status = notes ? mbp_notes_check(notes, error) : MBP_OK;
    if (status != MBP_OK)
        return status;
    size_t bytes = notes && *notes ? strlen(notes) + 1 : 0;
    char *kept = bytes ? mbp_memory_take(&net->memory, bytes) : NULL;
    if (bytes && !kept)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for notes of %zu bytes", bytes);
    if (bytes)
        memcpy(kept, notes, bytes);
    status = mbp_net_open(net, error);
    if (status == MBP_OK) {
        swap_notes(net, &kept, &bytes);
        mbp_net_close(net);
    }
    mbp_memory_give(&net->memory, kept, bytes);
    return status;
}
