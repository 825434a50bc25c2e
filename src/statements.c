/* Floor 4: words of the graph's statements, and the statements that are one operand and key=value settings. */
#include "graph.h"

#include <stdio.h>
#include <string.h>

mbp_status mbp_fail_line(reader *r, mbp_status status) {
    if (r->error) {
        char text[sizeof r->error->text];
        memcpy(text, r->error->text, sizeof text);
        snprintf(r->error->text, sizeof text, "graph line %d: %.*s", r->line, (int)sizeof text - 32, text);
        r->error->node = r->net->nodes;
    }
    return status;
}

int mbp_shown(mbp_slice word) { return (int)(word.length > 60 ? 60 : word.length); }

mbp_status mbp_read_operand(reader *r, mbp_node *node) {
    mbp_net *net = r->net;
    mbp_slice word = mbp_take_word(&r->rest);
    int64_t id;
    if (!mbp_parse_integer(word, &id) || id >= net->nodes)
        return FAIL(r, "\"%.*s\" is not an earlier node (0 to %d)", mbp_shown(word), word.at, net->nodes - 1);
    net->operands[net->operand_count++] = (int)id;
    node->operands++;
    return MBP_OK;
}

mbp_status mbp_read_operands(reader *r, mbp_node *node, int count) {
    while (count--) {
        mbp_status status = mbp_read_operand(r, node);
        if (status != MBP_OK)
            return status;
    }
    return MBP_OK;
}

int64_t mbp_operand_width(const reader *r, const mbp_node *node, int i) {
    return r->net->node[r->net->operands[node->first_operand + i]].width;
}

/* ---- layers ---- */

/* Where net->names has the layer of a name, or the empty place where it would be: hashed by FNV-1a, with linear probing. */
static int *name_place(const mbp_net *net, mbp_slice name) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < name.length; i++)
        hash = (hash ^ (unsigned char)name.at[i]) * 16777619u;
    int *place = &net->names[hash & net->names_mask];
    while (*place && !mbp_slice_is(name, net->layer[*place - 1].name))
        place = &net->names[(uint32_t)(place - net->names + 1) & net->names_mask];
    return place;
}

int mbp_find_layer(const mbp_net *net, mbp_slice name) { return *name_place(net, name) - 1; }

static int is_name(mbp_slice name) {
    for (size_t i = 0; i < name.length; i++) {
        const char c = name.at[i], lower = (char)(c | 32);
        if (!((c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'z') || c == '_' || c == '-'))
            return 0;
    }
    return name.length > 0 && name.length < MBP_NAME_SIZE;
}

mbp_status mbp_name_layer(reader *r, mbp_layer *layer, mbp_slice name) {
    if (name.length && !is_name(name))
        return FAIL(r, "\"%.*s\" is no layer name: letters, digits, _ and -, at most %d", mbp_shown(name), name.at, MBP_NAME_SIZE - 1);
    if (name.length)
        memcpy(layer->name, name.at, name.length);
    else
        snprintf(layer->name, sizeof layer->name, "%s_%d", mbp_statement_word(layer->kind), r->layers[layer->kind]);
    r->layers[layer->kind]++;
    int *place = name_place(r->net, mbp_slice_of(layer->name));
    if (*place)
        return FAIL(r, "the name %s is taken by an earlier layer; give this one another by layer=", layer->name);
    *place = r->net->layers + 1;
    return MBP_OK;
}

mbp_status mbp_read_switch(reader *r, mbp_slice value, int *flag) {
    if (value.length && !mbp_slice_is(value, "0") && !mbp_slice_is(value, "1"))
        return FAIL(r, "bias= and frozen= are 0 or 1, not \"%.*s\"", mbp_shown(value), value.at);
    if (value.length)
        *flag = *value.at == '1';
    return MBP_OK;
}

/* ---- statements of one operand and settings ---- */

typedef struct statement {
    const char *word, *settings; /* as a parameter text of formulas.def */
} statement;

static const statement statements[] = {
    [MBP_INPUT] = {"input", ""},
    [MBP_DENSE] = {"dense", "lr=1[0,inf) l1=0[0,inf) l2=0[0,inf) max_norm=0[0,inf)"},
    [MBP_ELEMENTWISE] = {"activation", ""},
    [MBP_ADD] = {"add", ""},
    [MBP_MULTIPLY] = {"multiply", ""},
    [MBP_CONCAT] = {"concat", ""},
    [MBP_DROPOUT] = {"dropout", "rate=0.5[0,1)"},
    [MBP_NOISE] = {"noise", "std=0.1[0,inf)"},
    [MBP_BATCH_NORM] = {"batch_norm", "lr=1[0,inf) eps=1e-05(0,inf) momentum=0.1[0,1]"},
    [MBP_LAYER_NORM] = {"layer_norm", "lr=1[0,inf) eps=1e-05(0,inf)"},
};
enum { STATEMENTS = sizeof statements / sizeof *statements };

const char *mbp_statement_word(mbp_node_kind kind) { return statements[kind].word; }
const char *mbp_layer_settings(mbp_node_kind kind) { return statements[kind].settings; }

int mbp_is_setting(mbp_slice word, mbp_node_kind *kind) {
    for (int i = 0; i < STATEMENTS; i++)
        if (*statements[i].settings && mbp_slice_is(word, statements[i].word)) {
            *kind = (mbp_node_kind)i;
            return 1;
        }
    return 0;
}

/* What may stand after the operand; of the last two only the statement of a layer takes any. */
typedef struct pairs {
    double values[MBP_PARAMETERS_MAX];
    unsigned given; /* bits of the values */
    mbp_slice layer, frozen;
} pairs;

static mbp_status read_pair(reader *r, mbp_node_kind kind, mbp_slice word, pairs *found) {
    const char *equals = memchr(word.at, '=', word.length);
    const mbp_slice key = {word.at, equals ? (size_t)(equals - word.at) : word.length};
    mbp_slice *text = mbp_slice_is(key, "layer") ? &found->layer : mbp_slice_is(key, "frozen") ? &found->frozen : NULL;
    if (!text || kind == MBP_DROPOUT || kind == MBP_NOISE) {
        const mbp_status status = mbp_parameter_read(word, statements[kind].settings, found->values, &found->given, r->error);
        return status == MBP_OK ? status : mbp_fail_line(r, status);
    }
    if (text->length || key.length + 1 >= word.length)
        return FAIL(r, "\"%.*s\": %.*s= takes one value, once", mbp_shown(word), word.at, (int)key.length, key.at);
    *text = (mbp_slice){equals + 1, word.length - key.length - 1};
    return MBP_OK;
}

static mbp_status read_norm(reader *r, mbp_node *node, const pairs *found) {
    mbp_layer *layer = &r->net->layer[r->net->layers];
    layer->kind = node->kind;
    mbp_status status = mbp_name_layer(r, layer, found->layer);
    if (status == MBP_OK)
        status = mbp_read_switch(r, found->frozen, &layer->frozen);
    if (status != MBP_OK)
        return status;
    memcpy(layer->setting, found->values, sizeof layer->setting);
    layer->in = 1;
    layer->out = node->width;
    layer->running = node->kind == MBP_BATCH_NORM ? 0 : -1;
    node->layer = r->net->layers++;
    return MBP_OK;
}

static mbp_status use_norm(reader *r, mbp_node *node, const pairs *found) {
    const mbp_layer *layer = &r->net->layer[node->layer];
    if (layer->kind != node->kind)
        return FAIL(r, "layer %s is of another kind; give this one another name by layer=", layer->name);
    if (found->given || found->frozen.length)
        return FAIL(r, "layer %s exists already: using it again takes no settings", layer->name);
    if (layer->out != node->width)
        return FAIL(r, "layer %s takes %lld columns, but the node has %lld", layer->name, (long long)layer->out, (long long)node->width);
    return MBP_OK;
}

mbp_status mbp_read_setting(reader *r, mbp_node *node) {
    pairs found = {0};
    mbp_status status = mbp_read_operand(r, node);
    if (status != MBP_OK)
        return status;
    node->width = mbp_operand_width(r, node, 0);
    mbp_parameter_defaults(statements[node->kind].settings, found.values);
    for (mbp_slice word = mbp_take_word(&r->rest); word.length && status == MBP_OK; word = mbp_take_word(&r->rest))
        status = read_pair(r, node->kind, word, &found);
    if (status != MBP_OK)
        return status;
    if (node->kind == MBP_DROPOUT || node->kind == MBP_NOISE) {
        memcpy(node->activation.parameters, found.values, sizeof found.values);
        return MBP_OK;
    }
    node->layer = found.layer.length ? mbp_find_layer(r->net, found.layer) : -1;
    return node->layer >= 0 ? use_norm(r, node, &found) : read_norm(r, node, &found);
}

size_t mbp_print_settings(const mbp_net *net, const mbp_node *node, char *text) {
    const double *values = node->layer >= 0 ? net->layer[node->layer].setting : node->activation.parameters;
    mbp_slice name;
    mbp_interval interval;
    double standard;
    size_t length = 0;
    if (node->layer >= 0)
        length += (size_t)sprintf(text, " frozen=%d", net->layer[node->layer].frozen);
    for (int i = 0; mbp_parameter(statements[node->kind].settings, i, &name, &standard, &interval); i++) {
        length += (size_t)sprintf(text + length, " %.*s=", (int)name.length, name.at);
        length += mbp_print_number(text + length, values[i]);
    }
    text[length] = 0;
    return length;
}
