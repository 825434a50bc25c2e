#include "net/graph.h"

#include <stddef.h>
#include <string.h>

#include "net/statements.h"
#include "system/text.h"

enum { TEXT_MAX = 1 << 24 };
#define PARAMS_MAX ((int64_t)1 << 48)

/* ---- reading ---- */

static mbp_status read_line(mbp_cursor *c) {
    const mbp_slice word = mbp_take_term(&c->rest);
    return !word.length || *word.at == '#' ? MBP_OK : mbp_statement_read(c, word);
}

static mbp_status read_text(mbp_net *net, mbp_slice text, mbp_error *error) {
    mbp_cursor c = {.net = net, .error = error};
    mbp_status status = MBP_OK;
    while (text.length && status == MBP_OK) {
        c.rest = mbp_take_until(&text, '\n');
        c.line++;
        status = read_line(&c);
    }
    if (status == MBP_OK && !net->outputs)
        status = mbp_fail(error, MBP_INVALID,
                          "the graph has no output: add a line \"output N\", where N is the number of a node");
    return status;
}

/* Completes the uses of each node, which are 1 for outputs and 0 for others after reading. Operands have smaller
 * numbers than their node, so one pass from the last node to the first finds all nodes that an output depends on. */
static void count_uses(mbp_net *net) {
    for (int id = net->nodes - 1; id >= 0; id--)
        for (int i = 0; net->node[id].uses && i < net->node[id].operands; i++)
            net->node[net->operands[net->node[id].first_operand + i]].uses++;
}

/* Marks the windows whose values only dense nodes read. */
static void find_gathered(mbp_net *net) {
    for (int id = 0; id < net->nodes; id++) {
        mbp_node *node = &net->node[id];
        node->gathered = node->kind == MBP_NODE_WINDOW && mbp_positions(node) > 1;
        for (int i = 0; node->uses && node->kind != MBP_NODE_DENSE && i < node->operands; i++)
            net->node[net->operands[node->first_operand + i]].gathered = 0;
    }
    for (int i = 0; i < net->outputs; i++)
        net->node[net->output[i].node].gathered = 0;
}

static void find_homes(mbp_net *net) {
    for (int id = 0; id < net->nodes; id++) {
        const mbp_node *node = &net->node[id];
        int column = 0;
        for (int i = 0; node->kind == MBP_NODE_CONCAT && node->uses && mbp_positions(node) == 1 && i < node->operands;
             i++) {
            mbp_node *operand = &net->node[net->operands[node->first_operand + i]];
            if (operand->home < 0 && operand->input < 0 && !mbp_is_view(operand->kind) &&
                !mbp_is_embedding(operand->kind) && !mbp_is_recurrent(operand->kind))
                operand->home = (int16_t)id, operand->column = column;
            column += (int)operand->width;
        }
    }
}

/* ---- slices ---- */

static int operand_of(const mbp_net *net, int slice) { return net->operands[net->node[slice].first_operand]; }

static int starts_before(const mbp_net *net, int a, int b) {
    const int x = operand_of(net, a), y = operand_of(net, b);
    return x != y ? x < y : mbp_column(&net->node[a], MBP_COLUMN_FROM) < mbp_column(&net->node[b], MBP_COLUMN_FROM);
}

/* Lists of slices: `home` is the next one, or -1. Joins two sorted lists. */
static int16_t merge(mbp_net *net, int16_t a, int16_t b) {
    int16_t first = -1, *end = &first;
    while (a >= 0 && b >= 0) {
        int16_t *next = starts_before(net, b, a) ? &b : &a;
        *end = *next;
        end = &net->node[*next].home;
        *next = *end;
    }
    *end = a >= 0 ? a : b;
    return first;
}

/* Returns the list of all used slices, in the order of their operands and columns. */
static int16_t sort_slices(mbp_net *net) {
    enum { LISTS = 16 }; /* list[i]: 2^i slices, or -1 */
    _Static_assert(MBP_NODES_MAX < 1 << LISTS, "the lists have room for all slices");
    int16_t list[LISTS], all = -1;
    memset(list, -1, sizeof list);
    for (int id = 0; id < net->nodes; id++) {
        int i = 0;
        int16_t sorted = (int16_t)id;
        if (net->node[id].kind != MBP_NODE_SLICE || !net->node[id].uses)
            continue;
        for (; list[i] >= 0; list[i++] = -1)
            sorted = merge(net, list[i], sorted);
        list[i] = sorted;
    }
    for (int i = 0; i < LISTS; i++)
        all = merge(net, list[i], all);
    return all;
}

/* Whether a list starts with slices of disjoint columns, which are all uses of their operand. */
static int share_delta(const mbp_net *net, int slice) {
    const int operand = operand_of(net, slice);
    int64_t end = 0;
    int uses = 0;
    for (; slice >= 0 && operand_of(net, slice) == operand; slice = net->node[slice].home, uses++) {
        if (mbp_column(&net->node[slice], MBP_COLUMN_FROM) < end)
            return 0;
        end = mbp_column(&net->node[slice], MBP_COLUMN_TO);
    }
    return uses == net->node[operand].uses;
}

/* Sets the home of each slice, and the columns that it sets in backward. */
static void place_slices(mbp_net *net) {
    for (int slice = sort_slices(net), next = slice; slice >= 0; slice = next) {
        const int operand = operand_of(net, slice), shared = share_delta(net, slice);
        double low = 0, *last = NULL;
        while (next >= 0 && operand_of(net, next) == operand) {
            mbp_node *node = &net->node[next];
            double *column = node->activation.parameters;
            next = node->home;
            node->home = (int16_t)(shared ? operand : -1);
            column[MBP_COLUMN_LOW] = low;
            column[MBP_COLUMN_HIGH] = shared ? column[MBP_COLUMN_TO] : (double)net->node[operand].width;
            low = shared ? column[MBP_COLUMN_TO] : 0;
            last = column;
        }
        last[MBP_COLUMN_HIGH] = (double)net->node[operand].width;
    }
}

/* Counts the work of one row, over the nodes that an output depends on. */
static void count_work(mbp_net *net) {
    static const unsigned char each[MBP_NODE_RECURRENT + 1] = {
        /* operations per element; add: one less than its operands; dropout and noise: none in inference; slice: none */
        [MBP_NODE_INPUT] = 1,      [MBP_NODE_IDS] = 1,      [MBP_NODE_EMBEDDING] = 2,   [MBP_NODE_ACTIVATION] = 1,
        [MBP_NODE_SUBTRACT] = 1,   [MBP_NODE_MULTIPLY] = 1, [MBP_NODE_CONCAT] = 1,      [MBP_NODE_BATCH_NORM] = 4,
        [MBP_NODE_LAYER_NORM] = 8, [MBP_NODE_SCALE] = 2,    [MBP_NODE_STANDARDIZE] = 2, [MBP_NODE_WINDOW] = 1,
        [MBP_NODE_REPEAT] = 1};
    for (int id = 0; id < net->nodes; id++) {
        const mbp_node *node = &net->node[id];
        const int is_recurrent = mbp_is_recurrent(node->kind);
        const int is_dense = mbp_has_matrix(node->kind) && !mbp_is_ids(&net->node[net->operands[node->first_operand]]);
        if (!node->uses)
            continue;
        const double *size = &node->activation.parameters[MBP_SIZE];
        const double per_element = is_recurrent                 ? 2 * (double)net->layer[node->layer].in *
                                                                      mbp_cell_gates(net->layer[node->layer].cell)
                                   : is_dense                   ? 2 * (double)net->layer[node->layer].in
                                   : node->kind == MBP_NODE_ADD ? node->operands - 1
                                   : mbp_is_pool(node)          ? size[0] * size[1]
                                                                : each[node->kind];
        const double work = (double)mbp_row_width(node) * per_element;
        net->flops += work;
        if (!mbp_is_gathered(node))
            net->values += mbp_row_width(node) * (is_recurrent ? 1 + mbp_cell_kept(net->layer[node->layer].cell) : 1);
        if (MICROBP_POSITIONS && node->positions > net->most_positions)
            net->most_positions = node->positions;
        if (is_dense && work > net->largest_product)
            net->largest_product = work;
    }
}

/* Sets the numbers of the tensors and their offsets in the flat vectors: parameters (the weights of dense layers in
 * layer order, then all biases and scales) and buffers (running statistics). */
static mbp_status place_params(mbp_net *net, mbp_error *error) {
    int64_t count = 0;
    int tensors = 0;
    for (int i = 0; i < net->layers; i++) {
        if (mbp_has_matrix(net->layer[i].kind)) {
            net->layer[i].weight = count;
            count += net->layer[i].in * net->layer[i].out; /* < 2^62 */
        }
        if (count > PARAMS_MAX)
            return mbp_fail(error, MBP_INVALID, "the net has more than 2^48 parameters (counted up to layer %s)",
                            net->layer[i].name);
    }
    for (int i = 0; i < net->layers; i++) {
        mbp_layer *layer = &net->layer[i];
        if (!mbp_has_matrix(layer->kind) && layer->weight >= 0) {
            layer->weight = count;
            count += layer->out;
        }
        if (layer->bias >= 0) {
            layer->bias = count;
            count += mbp_bias_width(layer);
        }
        if (layer->running >= 0) {
            layer->running = net->buffers;
            net->buffers += 2 * layer->out;
        }
        layer->tensor = tensors;
        tensors += (layer->weight >= 0) + (layer->bias >= 0) + 2 * (layer->running >= 0);
    }
    net->params = count;
    return MBP_OK;
}

/* ---- the block of a net ---- */

/* Upper bounds on the contents of a text. names: the size of the hash table of layer names, a power of 2 and at least
 * twice the number of layers. listed: words of the lists of outputs, two for each column. */
typedef struct bounds {
    size_t nodes, layers, names, inputs, outputs, operands, listed;
} bounds;

static size_t limited(size_t count) { return count < MBP_NODES_MAX ? count : MBP_NODES_MAX; }

/* Looks only at the first word of each line, and counts every other word as an operand. */
static bounds bound(mbp_slice text) {
    bounds most = {.names = 1};
    while (text.length) {
        mbp_slice line = mbp_take_until(&text, '\n'), word = mbp_take_word(&line);
        if (!word.length || *word.at == '#')
            continue;
        most.nodes++;
        most.layers += (size_t)mbp_statement_has_layer(word);
        most.inputs += (size_t)(mbp_statement_is(word, MBP_NODE_INPUT) ||
                                (MICROBP_SPARSE && mbp_statement_is(word, MBP_NODE_IDS)));
        const int is_output = mbp_slice_is(word, "output");
        int in_list = 0;
        most.outputs += (size_t)is_output;
        for (word = mbp_take_word(&line); word.length; word = mbp_take_word(&line)) {
            most.operands++;
            in_list |= MICROBP_SCALES && is_output && memchr(word.at, '(', word.length);
            most.listed += (size_t)in_list;
        }
    }
    most.nodes = limited(most.nodes), most.layers = limited(most.layers);
    most.inputs = limited(most.inputs), most.outputs = limited(most.outputs);
    while (most.names < 2 * most.layers)
        most.names *= 2;
    return most;
}

enum { LISTED_COST = 2 * sizeof(double) }; /* a column has 2 words, and 2 doubles; an output has a double more */

size_t mbp_graph_cost(const char *graph) {
    enum { NODE_COST = 128, LAYER_COST = 512, OPERAND_COST = 4 };
    _Static_assert(sizeof(mbp_node) + sizeof(mbp_output) + sizeof(int) <= NODE_COST, "graph.h documents it");
    _Static_assert(sizeof(mbp_layer) + 4 * sizeof(int) <= LAYER_COST, "graph.h documents it");
    _Static_assert(sizeof(int) <= OPERAND_COST, "graph.h documents it");
    const bounds most = bound(mbp_slice_of(graph));
    return NODE_COST * most.nodes + LAYER_COST * most.layers + OPERAND_COST * most.operands + LISTED_COST * most.listed;
}

/* Allocates a net with the arrays of its graph, all zero, and room for its scales. */
static mbp_net *allocate_graph(mbp_slice text, const mbp_allocator *allocator) {
    const bounds most = bound(text);
    const size_t head = (sizeof(mbp_net) + 15) / 16 * 16;
    const size_t bytes = head + most.layers * sizeof(mbp_layer) + most.nodes * sizeof(mbp_node) +
                         most.outputs * sizeof(mbp_output) + (most.names + most.inputs + most.operands) * sizeof(int);
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
    mbp_graph_own(net, allocator);
    net->scales_bytes = LISTED_COST * most.listed;
    net->scales = most.listed ? mbp_memory_take(&net->memory, net->scales_bytes) : NULL;
    if (most.listed && !net->scales) {
        mbp_graph_free(net);
        return NULL;
    }
    return net;
}

void mbp_graph_own(mbp_net *net, const mbp_allocator *allocator) {
    mbp_memory_count(&net->memory, net->graph_bytes);
    if (!allocator)
        return;
    net->own_allocator = *allocator;
    net->memory.allocator = &net->own_allocator;
}

void mbp_graph_free(mbp_net *net) {
    mbp_memory_give(&net->memory, net->scales, net->scales_bytes);
    mbp_allocator copy = net->own_allocator; /* own_allocator is in the block that is freed */
    mbp_release(net->memory.allocator ? &copy : NULL, net, net->graph_bytes);
}

/* The place in `to` that corresponds to a place in the graph block of `net`. */
static void *same_place(mbp_net *to, const mbp_net *net, const void *at) {
    return (char *)to + ((const char *)at - (const char *)net);
}

void mbp_graph_copy(mbp_net *to, const mbp_net *net) {
    memcpy(to, net, offsetof(mbp_net, memory));
    memcpy((char *)to + sizeof *to, (const char *)net + sizeof *net, net->graph_bytes - sizeof *net);
    to->node = same_place(to, net, net->node);
    to->operands = same_place(to, net, net->operands);
    to->layer = same_place(to, net, net->layer);
    to->names = same_place(to, net, net->names);
    to->input_nodes = same_place(to, net, net->input_nodes);
    to->output = same_place(to, net, net->output);
    to->buffers = 0;
    (void)place_params(to, NULL); /* those of a part are elsewhere in its block */
}

mbp_status mbp_graph_read(mbp_net **net, const char *graph, const mbp_allocator *allocator, mbp_error *error) {
    const mbp_slice text = mbp_slice_of(graph);
    if (text.length > TEXT_MAX)
        return mbp_fail(error, MBP_INVALID, "the graph text is longer than %d bytes", TEXT_MAX);
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
    count_uses(made);
    if (MICROBP_POSITIONS)
        find_gathered(made);
    find_homes(made);
    if (MICROBP_TRAINING && MICROBP_SLICE) /* only for gradients */
        place_slices(made);
    count_work(made);
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

size_t mbp_graph_write(const mbp_net *net, char *text, size_t size) {
    mbp_writer w = {text, text ? size : 0, 0};
    int layers = 0;
    for (int id = 0; id < net->nodes; id++) {
        const int new_layer = net->node[id].layer == layers;
        layers += new_layer;
        mbp_statement_write(&w, net, &net->node[id], new_layer, NULL);
    }
    for (int i = 0; i < net->outputs; i++)
        mbp_statement_write_output(&w, net, i, net->output[i].node, NULL);
    return w.length + 1;
}

/* ---- the text of a part ---- */

/* part->number of a node while the part is chosen: outside; inside; an input of the part; the same, and it is used. */
enum { OUTSIDE = -4, INSIDE, BOUNDARY, USED };

static mbp_status mark(const mbp_net *net, int *number, const int *nodes, int count, int as, mbp_error *error) {
    const char *what = as == INSIDE ? "outputs" : "inputs";
    for (int i = 0; i < count; i++) {
        if (nodes[i] < 0 || nodes[i] >= net->nodes)
            return mbp_fail(error, MBP_INVALID, "%s[%d] is %d, but the nodes have the numbers 0 to %d", what, i,
                            nodes[i], net->nodes - 1);
        if (number[nodes[i]] == as || number[nodes[i]] == USED)
            return mbp_fail(error, MBP_INVALID, "node %d is twice among the %s", nodes[i], what);
        number[nodes[i]] = number[nodes[i]] == INSIDE ? USED : as;
    }
    return MBP_OK;
}

/* Goes from the outputs back to the inputs of the part. */
static mbp_status reach(const mbp_net *net, int *number, mbp_error *error) {
    for (int id = net->nodes - 1; id >= 0; id--) {
        const mbp_node *node = &net->node[id];
        if (number[id] != INSIDE)
            continue;
        if (node->input >= 0)
            return mbp_fail(error, MBP_INVALID,
                            "the outputs depend on node %d, an input of the net: add it, or a node between, to inputs",
                            id);
        for (int i = 0; i < node->operands; i++) {
            int *operand = &number[net->operands[node->first_operand + i]];
            *operand = *operand == BOUNDARY || *operand == USED ? USED : INSIDE;
        }
    }
    return MBP_OK;
}

/* Numbers the nodes of the part: first its inputs, then the others in their order. */
static mbp_status number_nodes(const mbp_net *net, const mbp_part *part, mbp_error *error) {
    int next = part->n_inputs;
    for (int i = 0; i < part->n_inputs; i++) {
        if (part->number[part->inputs[i]] == BOUNDARY)
            return mbp_fail(error, MBP_INVALID, "no output depends on node %d, which is inputs[%d]", part->inputs[i],
                            i);
        part->number[part->inputs[i]] = i;
        if (mbp_positions(&net->node[part->inputs[i]]) > 1)
            return mbp_fail(error, MBP_UNSUPPORTED,
                            "a part begins with nodes of 1 position, but node %d has %d: begin before its grid",
                            part->inputs[i], mbp_positions(&net->node[part->inputs[i]]));
    }
    for (int id = net->nodes - 1; id >= 0; id--)
        if (part->number[id] == INSIDE && net->node[id].layer >= 0)
            part->first[net->node[id].layer] = id;
    for (int id = 0; id < net->nodes; id++)
        if (part->number[id] == INSIDE)
            part->number[id] = next++;
    return MBP_OK;
}

mbp_status mbp_part_choose(const mbp_net *net, const mbp_part *part, mbp_error *error) {
    for (int id = 0; id < net->nodes; id++)
        part->number[id] = OUTSIDE;
    mbp_status status = mark(net, part->number, part->outputs, part->n_outputs, INSIDE, error);
    if (status == MBP_OK)
        status = mark(net, part->number, part->inputs, part->n_inputs, BOUNDARY, error);
    if (status == MBP_OK)
        status = reach(net, part->number, error);
    return status == MBP_OK ? number_nodes(net, part, error) : status;
}

/* The number of the output that this node is; -1: none. */
static int output_of(const mbp_net *net, int node) {
    int i = net->outputs - 1;
    while (i >= 0 && net->output[i].node != node)
        i--;
    return i;
}

size_t mbp_part_write(const mbp_net *net, const mbp_part *part, char *text, size_t size) {
    mbp_writer w = {text, text ? size : 0, 0};
    for (int i = 0; i < part->n_inputs; i++)
        mbp_statement_write_input(&w, &net->node[part->inputs[i]]);
    for (int id = 0; id < net->nodes; id++) {
        const mbp_node *node = &net->node[id];
        if (part->number[id] >= part->n_inputs)
            mbp_statement_write(&w, net, node, node->layer >= 0 && part->first[node->layer] == id, part->number);
    }
    for (int i = 0; i < part->n_outputs; i++)
        mbp_statement_write_output(&w, net, output_of(net, part->outputs[i]), part->outputs[i], part->number);
    return w.length + 1;
}
