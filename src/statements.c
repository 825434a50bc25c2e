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

int mbp_find_layer(const mbp_net *net, mbp_slice name) {
    for (int i = 0; i < net->layers; i++)
        if (mbp_slice_is(name, net->layer[i].name))
            return i;
    return -1;
}

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
        snprintf(layer->name, sizeof layer->name, "dense_%d", r->net->layers);
    if (mbp_find_layer(r->net, mbp_slice_of(layer->name)) >= 0)
        return FAIL(r, "the name %s is taken by an earlier layer; give this one another by layer=", layer->name);
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
    mbp_node_kind kind;
} statement;

static const statement statements[] = {
    {"dropout", "rate=0.5[0,1)", MBP_DROPOUT},
    {"noise", "std=0.1[0,inf)", MBP_NOISE},
};
enum { STATEMENTS = sizeof statements / sizeof *statements };

int mbp_is_setting(mbp_slice word, mbp_node_kind *kind) {
    for (int i = 0; i < STATEMENTS; i++)
        if (mbp_slice_is(word, statements[i].word)) {
            *kind = statements[i].kind;
            return 1;
        }
    return 0;
}

static const char *settings_of(mbp_node_kind kind) {
    int i = 0;
    while (statements[i].kind != kind)
        i++;
    return statements[i].settings;
}

mbp_status mbp_read_setting(reader *r, mbp_node *node) {
    const char *settings = settings_of(node->kind);
    unsigned given = 0;
    mbp_status status = mbp_read_operand(r, node);
    if (status != MBP_OK)
        return status;
    node->width = mbp_operand_width(r, node, 0);
    mbp_parameter_defaults(settings, node->settings);
    for (mbp_slice word = mbp_take_word(&r->rest); word.length && status == MBP_OK; word = mbp_take_word(&r->rest))
        status = mbp_parameter_read(word, settings, node->settings, &given, r->error);
    return status == MBP_OK ? status : mbp_fail_line(r, status);
}

size_t mbp_print_settings(const mbp_node *node, char *text) {
    const char *settings = settings_of(node->kind);
    mbp_slice name;
    mbp_interval interval;
    double standard;
    size_t length = 0;
    for (int i = 0; mbp_parameter(settings, i, &name, &standard, &interval); i++) {
        length += (size_t)sprintf(text + length, " %.*s=", (int)name.length, name.at);
        length += mbp_print_number(text + length, node->settings[i]);
    }
    text[length] = 0;
    return length;
}
