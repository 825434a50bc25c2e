/* Floor 4: builds and validates a network from its graph text, and writes the text of a network. */
#include "graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Widths fit a 32-bit count. Planning a graph takes time by the square of its nodes, a quarter of a second at this many. */
enum { WIDTH_MAX = INT32_MAX, NODES_MAX = 1 << 14, TEXT_MAX = 1 << 24 };
#define PARAMS_MAX ((int64_t)1 << 48)

/* ---- reading: one function per statement ---- */

static mbp_status read_width(reader *r, mbp_slice word, int64_t *width) {
    if (!mbp_parse_integer(word, width) || *width < 1 || *width > WIDTH_MAX)
        return FAIL(r, "\"%.*s\" is not a width (1 to %d)", mbp_shown(word), word.at, WIDTH_MAX);
    return MBP_OK;
}

static mbp_status read_input(reader *r, mbp_node *node) {
    node->kind = MBP_INPUT;
    node->input = r->net->inputs;
    r->net->input_nodes[r->net->inputs++] = r->net->nodes;
    return read_width(r, mbp_take_word(&r->rest), &node->width);
}

static mbp_status read_formula(reader *r, mbp_kind kind, mbp_slice spec, mbp_formula *formula) {
    mbp_status status = mbp_formula_parse(kind, spec, formula, r->error);
    return status == MBP_OK ? status : mbp_fail_line(r, status);
}

static mbp_status read_activation(reader *r, mbp_node *node) {
    node->kind = MBP_ELEMENTWISE;
    mbp_status status = mbp_read_operand(r, node);
    if (status != MBP_OK)
        return status;
    node->width = mbp_operand_width(r, node, 0);
    return read_formula(r, MBP_ACTIVATION, mbp_take_word(&r->rest), &node->activation);
}

static mbp_status read_pair(reader *r, mbp_node *node) { /* add, multiply */
    mbp_status status = mbp_read_operands(r, node, 2);
    if (status != MBP_OK)
        return status;
    node->width = mbp_operand_width(r, node, 0);
    if (mbp_operand_width(r, node, 1) != node->width)
        return FAIL(r, "the operands have %lld and %lld columns; they must be equally wide", (long long)node->width,
                    (long long)mbp_operand_width(r, node, 1));
    return MBP_OK;
}

static mbp_status read_concat(reader *r, mbp_node *node) {
    node->kind = MBP_CONCAT;
    for (mbp_slice ahead = r->rest; node->operands < 1 || mbp_take_word(&ahead).length; ahead = r->rest) {
        mbp_status status = mbp_read_operand(r, node);
        if (status != MBP_OK)
            return status;
        node->width += mbp_operand_width(r, node, node->operands - 1);
        if (node->width > WIDTH_MAX)
            return FAIL(r, "concat is wider than %d columns", WIDTH_MAX);
    }
    return MBP_OK;
}

/* ---- dense layers ---- */

enum { LAYER, UNITS, ACTIVATION_KEY, INIT, BIAS, FROZEN, KEYS }; /* and mbp_layer_settings */
static const char *const dense_keys[KEYS] = {"layer", "units", "activation", "init", "bias", "frozen"};

/* The rest of the line as key=value words; absent ones have length 0, and settings stay as they are. given: bits of the settings that were
 * there. */
static mbp_status read_pairs(reader *r, mbp_slice values[KEYS], double settings[MBP_PARAMETERS_MAX], unsigned *given) {
    const char *known = mbp_layer_settings(MBP_DENSE);
    for (mbp_slice word = mbp_take_word(&r->rest); word.length; word = mbp_take_word(&r->rest)) {
        const char *equals = memchr(word.at, '=', word.length);
        mbp_slice key = {word.at, equals ? (size_t)(equals - word.at) : word.length};
        int i = 0;
        if (equals && mbp_parameter_index(known, key) >= 0) {
            mbp_status status = mbp_parameter_read(word, known, settings, given, r->error);
            if (status != MBP_OK)
                return mbp_fail_line(r, status);
            continue;
        }
        while (i < KEYS && !mbp_slice_is(key, dense_keys[i]))
            i++;
        if (i == KEYS || key.length + 1 >= word.length)
            return FAIL(r, "\"%.*s\" is not one of layer=, units=, activation=, init=, bias=, frozen=, lr=, l1=, l2=, max_norm=",
                        mbp_shown(word), word.at);
        if (values[i].length)
            return FAIL(r, "%s= is given twice", dense_keys[i]);
        values[i] = (mbp_slice){equals + 1, word.length - key.length - 1};
    }
    return MBP_OK;
}

/* A new layer at the end of net->layer; offsets are given when all are known. */
static mbp_status read_layer(reader *r, const mbp_slice values[KEYS], int64_t in) {
    mbp_layer *layer = &r->net->layer[r->net->layers];
    int bias = 1;
    layer->kind = MBP_DENSE;
    mbp_status status = mbp_name_layer(r, layer, values[LAYER]);
    if (status == MBP_OK && !values[UNITS].length)
        status = FAIL(r, "a new dense layer needs units=");
    if (status == MBP_OK)
        status = read_width(r, values[UNITS], &layer->out);
    if (status == MBP_OK)
        status = read_formula(r, MBP_ACTIVATION, values[ACTIVATION_KEY].length ? values[ACTIVATION_KEY] : mbp_slice_of("identity"),
                              &layer->activation);
    if (status != MBP_OK)
        return status;
    if (values[INIT].length && !mbp_slice_is(values[INIT], "auto"))
        status = read_formula(r, MBP_INITIALISER, values[INIT], &layer->initialiser);
    else
        layer->initialiser.row = mbp_activation_initialiser(layer->activation.row);
    if (status == MBP_OK)
        status = mbp_read_switch(r, values[BIAS], &bias);
    if (status == MBP_OK)
        status = mbp_read_switch(r, values[FROZEN], &layer->frozen);
    if (status != MBP_OK)
        return status;
    layer->in = in;
    layer->bias = bias ? 0 : -1;
    layer->running = -1;
    r->net->layers++;
    return MBP_OK;
}

static mbp_status read_dense(reader *r, mbp_node *node) {
    mbp_slice values[KEYS] = {{0}};
    double settings[MBP_PARAMETERS_MAX] = {0};
    unsigned given = 0;
    node->kind = MBP_DENSE;
    mbp_parameter_defaults(mbp_layer_settings(MBP_DENSE), settings);
    mbp_status status = mbp_read_operand(r, node);
    if (status == MBP_OK)
        status = read_pairs(r, values, settings, &given);
    if (status != MBP_OK)
        return status;
    const int64_t in = mbp_operand_width(r, node, 0);
    node->layer = values[LAYER].length ? mbp_find_layer(r->net, values[LAYER]) : -1;
    if (node->layer < 0) {
        node->layer = r->net->layers;
        memcpy(r->net->layer[node->layer].setting, settings, sizeof settings);
        status = read_layer(r, values, in);
    } else if (r->net->layer[node->layer].kind != MBP_DENSE) {
        return FAIL(r, "layer %s is not a dense layer; give this one another name by layer=", r->net->layer[node->layer].name);
    } else {
        for (int i = UNITS; i < KEYS; i++)
            if (values[i].length)
                return FAIL(r, "layer %s exists already: using it again takes no %s=", r->net->layer[node->layer].name, dense_keys[i]);
        if (given)
            return FAIL(r, "layer %s exists already: using it again takes no settings", r->net->layer[node->layer].name);
        if (r->net->layer[node->layer].in != in)
            return FAIL(r, "layer %s takes %lld columns, but node %d has %lld", r->net->layer[node->layer].name,
                        (long long)r->net->layer[node->layer].in, r->net->operands[node->first_operand], (long long)in);
    }
    node->width = r->net->layer[node->layer].out;
    node->activation = r->net->layer[node->layer].activation;
    return status;
}

/* ---- outputs ---- */

static mbp_status read_output(reader *r) {
    mbp_net *net = r->net;
    mbp_slice word = mbp_take_word(&r->rest), link = mbp_take_word(&r->rest);
    mbp_formula formula = {LINK_identity, {0}};
    int64_t id;
    if (!mbp_parse_integer(word, &id) || id >= net->nodes)
        return FAIL(r, "\"%.*s\" is not an earlier node (0 to %d)", mbp_shown(word), word.at, net->nodes - 1);
    for (int i = 0; i < net->outputs; i++)
        if (net->output[i].node == id)
            return FAIL(r, "node %d is an output already", (int)id);
    if (link.length) {
        if (link.length < 6 || memcmp(link.at, "link=", 5) != 0)
            return FAIL(r, "\"%.*s\" is not link=NAME", mbp_shown(link), link.at);
        mbp_status status = read_formula(r, MBP_LINK, (mbp_slice){link.at + 5, link.length - 5}, &formula);
        if (status != MBP_OK)
            return status;
    }
    net->output[net->outputs++] = (mbp_output){(int)id, formula.row};
    return MBP_OK;
}

/* ---- a whole text ---- */

static mbp_status read_node(reader *r, mbp_slice statement) {
    mbp_net *net = r->net;
    if (net->nodes == NODES_MAX)
        return FAIL(r, "a graph has at most %d nodes", NODES_MAX);
    mbp_node *node = &net->node[net->nodes];
    *node = (mbp_node){.layer = -1, .input = -1, .first_operand = net->operand_count};
    mbp_status status;
    if (mbp_slice_is(statement, "input"))
        status = read_input(r, node);
    else if (mbp_slice_is(statement, "dense"))
        status = read_dense(r, node);
    else if (mbp_slice_is(statement, "activation"))
        status = read_activation(r, node);
    else if (mbp_slice_is(statement, "add") || mbp_slice_is(statement, "multiply"))
        node->kind = *statement.at == 'a' ? MBP_ADD : MBP_MULTIPLY, status = read_pair(r, node);
    else if (mbp_slice_is(statement, "concat"))
        status = read_concat(r, node);
    else if (mbp_is_setting(statement, &node->kind))
        status = mbp_read_setting(r, node);
    else
        return FAIL(
            r,
            "\"%.*s\" is not a statement: input, dense, activation, add, multiply, concat, dropout, noise, batch_norm, layer_norm, output",
            mbp_shown(statement), statement.at);
    net->nodes += status == MBP_OK;
    return status;
}

static mbp_status read_line(reader *r) {
    mbp_slice statement = mbp_take_word(&r->rest);
    if (!statement.length || *statement.at == '#')
        return MBP_OK;
    mbp_status status = mbp_slice_is(statement, "output") ? read_output(r) : read_node(r, statement);
    mbp_slice extra = mbp_take_word(&r->rest);
    if (status == MBP_OK && extra.length)
        return FAIL(r, "\"%.*s\" is too much here", mbp_shown(extra), extra.at);
    return status;
}

static mbp_status read_text(mbp_net *net, mbp_slice text, mbp_error *error) {
    reader r = {.net = net, .error = error};
    while (text.length) {
        r.rest = mbp_take_until(&text, '\n');
        r.line++;
        mbp_status status = read_line(&r);
        if (status != MBP_OK)
            return status;
    }
    if (!net->outputs)
        return mbp_fail(error, MBP_INVALID, "the graph has no output: end it with a line \"output N\", N a node's number");
    return MBP_OK;
}

/* Marks the nodes that an output depends on; operands have smaller numbers, so one pass down does. */
static void mark_reached(mbp_net *net) {
    for (int i = 0; i < net->outputs; i++)
        net->node[net->output[i].node].reached = 1;
    for (int id = net->nodes - 1; id >= 0; id--)
        if (net->node[id].reached)
            for (int i = 0; i < net->node[id].operands; i++)
                net->node[net->operands[net->node[id].first_operand + i]].reached = 1;
}

/* Offsets in the flat vectors: the weights of dense layers in layer order, then all biases and scales; running statistics. And the numbers
 * of the tensors. */
static mbp_status place_params(mbp_net *net, mbp_error *error) {
    int64_t count = 0;
    int tensors = 0;
    for (int i = 0; i < net->layers; i++) {
        if (net->layer[i].kind == MBP_DENSE) {
            net->layer[i].weight = count;
            count += net->layer[i].in * net->layer[i].out; /* < 2^62 */
        }
        if (count > PARAMS_MAX)
            return mbp_fail(error, MBP_INVALID, "the network has more than 2^48 parameters, up to layer %s", net->layer[i].name);
    }
    for (int i = 0; i < net->layers; i++) {
        mbp_layer *layer = &net->layer[i];
        if (layer->kind != MBP_DENSE) {
            layer->weight = count;
            count += layer->out;
        }
        if (layer->bias >= 0) {
            layer->bias = count;
            count += layer->out;
        }
        if (layer->running >= 0) {
            layer->running = net->buffers;
            net->buffers += 2 * layer->out;
        }
        layer->tensor = tensors;
        tensors += 1 + (layer->bias >= 0) + 2 * (layer->running >= 0);
    }
    net->params = count;
    return MBP_OK;
}

/* How many of each a text may have at most. */
typedef struct bounds {
    size_t nodes, layers, names, inputs, outputs, operands;
} bounds;

static size_t limited(size_t count) { return count < NODES_MAX ? count : NODES_MAX; }

/* By the first words of the lines; an operand is a word. names: a power of 2 at least twice the layers. */
static bounds bound(mbp_slice text) {
    bounds most = {0};
    while (text.length) {
        mbp_slice line = mbp_take_until(&text, '\n'), word = mbp_take_word(&line);
        if (!word.length || *word.at == '#')
            continue;
        most.nodes++;
        if (mbp_slice_is(word, "dense") || mbp_slice_is(word, "batch_norm") || mbp_slice_is(word, "layer_norm"))
            most.layers++;
        else if (mbp_slice_is(word, "input"))
            most.inputs++;
        else if (mbp_slice_is(word, "output"))
            most.outputs++;
        while (mbp_take_word(&line).length)
            most.operands++;
    }
    most = (bounds){limited(most.nodes), limited(most.layers), 1, limited(most.inputs), limited(most.outputs), most.operands};
    while (most.names < 2 * most.layers)
        most.names *= 2;
    return most;
}

size_t mbp_graph_cost(const char *graph) {
    enum { NODE_COST = 128, LAYER_COST = 512, OPERAND_COST = 4 };
    _Static_assert(sizeof(mbp_node) + sizeof(mbp_output) + sizeof(int) <= NODE_COST && sizeof(int) <= OPERAND_COST, "net.h promises");
    _Static_assert(sizeof(mbp_layer) + 4 * sizeof(int) <= LAYER_COST, "net.h promises");
    const bounds most = bound(mbp_slice_of(graph));
    return NODE_COST * most.nodes + LAYER_COST * most.layers + OPERAND_COST * most.operands;
}

/* The structure with its arrays, in one zeroed block. */
static mbp_net *allocate_graph(mbp_slice text, const mbp_allocator *allocator) {
    const bounds most = bound(text);
    const size_t head = (sizeof(mbp_net) + 15) / 16 * 16;
    const size_t bytes = head + most.layers * sizeof(mbp_layer) + most.nodes * sizeof(mbp_node) + most.outputs * sizeof(mbp_output) +
                         (most.names + most.inputs + most.operands) * sizeof(int);
    char *at = mbp_allocate(allocator, bytes);
    if (!at)
        return NULL;
    memset(at, 0, bytes);
    mbp_net *net = (mbp_net *)at;
    net->graph_bytes = bytes;
    net->layer = (mbp_layer *)(at += head);
    net->node = (mbp_node *)(at += most.layers * sizeof(mbp_layer));
    net->output = (mbp_output *)(at += most.nodes * sizeof(mbp_node));
    net->names = (int *)(at += most.outputs * sizeof(mbp_output));
    net->names_mask = (uint32_t)most.names - 1;
    net->input_nodes = net->names + most.names;
    net->operands = net->input_nodes + most.inputs;
    if (allocator) {
        net->own_allocator = *allocator;
        net->allocator = &net->own_allocator;
    }
    return net;
}

void mbp_graph_free(mbp_net *net) {
    mbp_allocator copy = net->own_allocator; /* it lives in the block that it frees */
    mbp_release(net->allocator ? &copy : NULL, net, net->graph_bytes);
}

mbp_status mbp_graph_read(mbp_net **net, const char *graph, const mbp_allocator *allocator, mbp_error *error) {
    mbp_slice text = mbp_slice_of(graph);
    if (text.length > TEXT_MAX)
        return mbp_fail(error, MBP_INVALID, "the graph text has more than %d bytes", TEXT_MAX);
    mbp_net *made = allocate_graph(text, allocator);
    if (!made)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for the graph");
    mbp_status status = read_text(made, text, error);
    if (status == MBP_OK)
        status = place_params(made, error);
    if (status != MBP_OK) {
        mbp_graph_free(made);
        return status;
    }
    mark_reached(made);
    *net = made;
    return MBP_OK;
}

mbp_status mbp_graph_count(const char *graph, int64_t *numbers, const mbp_allocator *allocator, mbp_error *error) {
    mbp_net *net;
    mbp_status status = mbp_graph_read(&net, graph, allocator, error);
    if (status == MBP_OK) {
        *numbers = net->params + net->buffers;
        mbp_graph_free(net);
    }
    return status;
}

/* ---- writing ---- */

typedef struct writer {
    char *text;
    size_t size, length;
} writer;

__attribute__((format(printf, 2, 3))) static void put(writer *w, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t room = w->length < w->size ? w->size - w->length : 0;
    w->length += (size_t)vsnprintf(room ? w->text + w->length : NULL, room, format, arguments);
    va_end(arguments);
}

static void put_layer(writer *w, const mbp_layer *layer) {
    char activation[MBP_SPEC_SIZE], initialiser[MBP_SPEC_SIZE];
    mbp_formula_print(MBP_ACTIVATION, &layer->activation, activation);
    mbp_formula_print(MBP_INITIALISER, &layer->initialiser, initialiser);
    put(w, " units=%lld activation=%s init=%s bias=%d", (long long)layer->out, activation, initialiser, layer->bias >= 0);
}

static void put_node(writer *w, const mbp_net *net, const mbp_node *node, int new_layer) {
    char spec[MBP_SPEC_SIZE];
    put(w, "%s", mbp_statement_word(node->kind));
    for (int i = 0; i < node->operands; i++)
        put(w, " %d", net->operands[node->first_operand + i]);
    if (node->kind == MBP_INPUT)
        put(w, " %lld", (long long)node->width);
    if (node->kind == MBP_ELEMENTWISE) {
        mbp_formula_print(MBP_ACTIVATION, &node->activation, spec);
        put(w, " %s", spec);
    }
    if (node->layer >= 0)
        put(w, " layer=%s", net->layer[node->layer].name);
    if (node->kind == MBP_DENSE && new_layer)
        put_layer(w, &net->layer[node->layer]);
    if (node->layer < 0 || new_layer) {
        mbp_print_settings(net, node, spec);
        put(w, "%s", spec);
    }
    put(w, "\n");
}

size_t mbp_net_text(const mbp_net *net, char *text, size_t size) {
    if (!net)
        return 0;
    writer w = {text, text ? size : 0, 0};
    int layers = 0;
    for (int id = 0; id < net->nodes; id++) {
        int new_layer = net->node[id].layer == layers;
        layers += new_layer;
        put_node(&w, net, &net->node[id], new_layer);
    }
    for (int i = 0; i < net->outputs; i++)
        put(&w, "output %d link=%s\n", net->output[i].node, mbp_formula_name(MBP_LINK, net->output[i].link));
    return w.length + 1;
}
