#include "net/statements.h"

#include <stdio.h>
#include <string.h>

typedef mbp_status (*reader)(mbp_cursor *c, mbp_node *node);

static mbp_status read_input(mbp_cursor *c, mbp_node *node);
static mbp_status read_ids(mbp_cursor *c, mbp_node *node);
static mbp_status read_dense(mbp_cursor *c, mbp_node *node);
static mbp_status read_embedding(mbp_cursor *c, mbp_node *node);
static mbp_status read_activation(mbp_cursor *c, mbp_node *node);
static mbp_status read_sum(mbp_cursor *c, mbp_node *node);
static mbp_status read_pair(mbp_cursor *c, mbp_node *node);
static mbp_status read_concat(mbp_cursor *c, mbp_node *node);
static mbp_status read_random(mbp_cursor *c, mbp_node *node);
static mbp_status read_columns(mbp_cursor *c, mbp_node *node);
#if MICROBP_POSITIONS
static mbp_status read_recurrent(mbp_cursor *c, mbp_node *node);
#endif
static mbp_status read_left_out(mbp_cursor *c, mbp_node *node);

/* Positions of the keys in DENSE_TEXTS and the other ..._TEXTS, the keys with a text value. LAYER is the first. */
enum { LAYER, UNITS, ACTIVATION, INIT, BIAS, BIAS_INIT, DENSE_FROZEN, DENSE_KEYS };
enum { COMBINE = 2, EMBEDDING_INIT, EMBEDDING_FROZEN };
enum { NORM_FROZEN = 1, GAIN = 1, ADDEND, SCALE_FROZEN };
#define DENSE_TEXTS "layer units activation init bias bias_init frozen"
#define DENSE_NUMBERS "lr=1[0,inf) l1=0[0,inf) l2=0[0,inf) max_norm=0[0,inf) bias_lr=-1[0,inf)"
#define EMBEDDING_TEXTS "layer units combine init frozen"
/* A left out statement has the name of its extra in place of its numbers: there is no room for what is not used. */
#define IF_SPARSE(text, otherwise) (MICROBP_SPARSE ? (text) : (otherwise))
#define NORM_TEXTS "layer frozen"
#define SCALE_TEXTS "layer gain bias frozen"

/* The statement of each kind of node: its first word, the keys with a text value, those with a number. A default out of
 * its interval means that the setting is not given. It is not written then. */
static const struct {
    const char *word, *texts, *numbers;
    reader read;
} statements[MBP_NODE_KINDS] = {
    [MBP_NODE_INPUT] = {"input", "", "", read_input},
    [MBP_NODE_IDS] = {"ids", "", IF_SPARSE("levels=-1[1,2147483647] hash=0[0,1]", "sparse"),
                      MICROBP_SPARSE ? read_ids : read_left_out},
    [MBP_NODE_DENSE] = {"dense", DENSE_TEXTS, DENSE_NUMBERS, read_dense},
    [MBP_NODE_EMBEDDING] = {"embedding", IF_SPARSE(EMBEDDING_TEXTS, ""),
                            IF_SPARSE("lr=1[0,inf) max_norm=0[0,inf)", "sparse"),
                            MICROBP_SPARSE ? read_embedding : read_left_out},
    [MBP_NODE_ACTIVATION] = {"activation", "", "", read_activation},
    [MBP_NODE_ADD] = {"add", "", "", read_sum},
    [MBP_NODE_SUBTRACT] = {"subtract", "", MICROBP_SUBTRACT ? "" : "subtract",
                           MICROBP_SUBTRACT ? read_pair : read_left_out},
    [MBP_NODE_MULTIPLY] = {"multiply", "", "", read_pair},
    [MBP_NODE_CONCAT] = {"concat", "", "", read_concat},
    [MBP_NODE_SLICE] = {"slice", "", MICROBP_SLICE ? MBP_SLICE_NUMBERS : "slice",
                        MICROBP_SLICE ? mbp_read_slice : read_left_out},
    [MBP_NODE_DROPOUT] = {"dropout", "", "rate=0.5[0,1)", read_random},
    [MBP_NODE_NOISE] = {"noise", "", "std=0.1[0,inf)", read_random},
    [MBP_NODE_BATCH_NORM] = {"batch_norm", NORM_TEXTS, "lr=1[0,inf) eps=1e-05(0,inf) momentum=0.1[0,1]", read_columns},
    [MBP_NODE_LAYER_NORM] = {"layer_norm", NORM_TEXTS, "lr=1[0,inf) eps=1e-05(0,inf)", read_columns},
    [MBP_NODE_SCALE] = {"scale", SCALE_TEXTS, "lr=1[0,inf)", read_columns},
    [MBP_NODE_STANDARDIZE] = {"standardize", NORM_TEXTS, MICROBP_STANDARDIZE ? "" : "standardize",
                              MICROBP_STANDARDIZE ? read_columns : read_left_out},
#if MICROBP_POSITIONS
    [MBP_NODE_GRID] = {"grid", "", MBP_GRID_NUMBERS, mbp_read_grid},
    [MBP_NODE_WINDOW] = {"window", "", "", mbp_read_window},
    [MBP_NODE_POOL] = {"pool", "", "", mbp_read_pool},
    [MBP_NODE_REPEAT] = {"repeat", "", MBP_REPEAT_NUMBERS, mbp_read_repeat},
    [MBP_NODE_LAST] = {"last", "", "", mbp_read_last},
    [MBP_NODE_RECURRENT] = {"recurrent", MBP_RECURRENT_TEXTS, DENSE_NUMBERS, read_recurrent},
#endif
};

const char *mbp_layer_settings(mbp_node_kind kind) { return statements[kind].numbers; }
const char *mbp_statement_word(mbp_node_kind kind) { return statements[kind].word; }
int mbp_statement_is(mbp_slice word, mbp_node_kind kind) { return mbp_slice_is(word, statements[kind].word); }

int mbp_statement_has_layer(mbp_slice word) {
    for (int kind = 0; kind < MBP_NODE_KINDS; kind++)
        if (*statements[kind].texts && mbp_slice_is(word, statements[kind].word))
            return 1;
    return 0;
}

static mbp_status read_settings(mbp_cursor *c, mbp_node_kind kind, mbp_settings *found) {
    return mbp_read_settings(c, statements[kind].texts, statements[kind].numbers, found);
}

/* A statement of which the build has nothing but the word. */
static mbp_status read_left_out(mbp_cursor *c, mbp_node *node) {
    return mbp_fail_line(c, mbp_fail_extra(c->error, statements[node->kind].word, statements[node->kind].numbers));
}

/* ---- nodes without a layer ---- */

static mbp_status add_input(mbp_cursor *c, mbp_node *node, const char *what) {
    node->input = (int16_t)c->net->inputs;
    c->net->input_nodes[c->net->inputs++] = c->net->nodes;
    return mbp_read_width(c, what, mbp_take_term(&c->rest), &node->width);
}

static mbp_status read_input(mbp_cursor *c, mbp_node *node) { return add_input(c, node, "the width of an input"); }

static mbp_status read_ids(mbp_cursor *c, mbp_node *node) {
    mbp_settings found;
    mbp_status status = add_input(c, node, "the number of columns of ids");
    if (status == MBP_OK)
        status = read_settings(c, node->kind, &found);
    if (status != MBP_OK)
        return status;
    if (!(found.given >> MBP_IDS_LEVELS & 1))
        return mbp_fail_in_line(c, "ids needs levels=N, for the ids 0 to N - 1");
    for (int i = 0; i <= MBP_IDS_HASH; i++)
        if (found.number[i] != (double)(int64_t)found.number[i])
            return mbp_fail_in_line(c, "%s must be a whole number", i == MBP_IDS_HASH ? "hash" : "levels");
    memcpy(node->activation.parameters, found.number, sizeof found.number);
    c->net->ids++;
    return MBP_OK;
}

static mbp_status read_activation(mbp_cursor *c, mbp_node *node) {
    mbp_status status = mbp_read_operand(c, node);
    return status == MBP_OK ? mbp_read_formula(c, MBP_ACTIVATION, mbp_take_term(&c->rest), &node->activation) : status;
}

/* Reads operands up to the end of the line, but at least this many. */
static mbp_status read_all_operands(mbp_cursor *c, mbp_node *node, int least) {
    mbp_status status = MBP_OK;
    for (mbp_slice ahead = c->rest; node->operands < least || mbp_take_word(&ahead).length; ahead = c->rest) {
        status = mbp_read_operands(c, node, 1);
        if (status != MBP_OK)
            break;
    }
    return status;
}

/* Gives the node the width of its operands, which must be the same. */
static mbp_status set_width(mbp_cursor *c, mbp_node *node) {
    const int *operands = &c->net->operands[node->first_operand];
    node->width = mbp_operand_width(c, node, 0);
    for (int i = 1; i < node->operands; i++)
        if (mbp_operand_width(c, node, i) != node->width)
            return mbp_fail_in_line(
                c, "%s needs operands of the same width, but node %d has %lld columns and node %d has %lld",
                statements[node->kind].word, operands[0], (long long)node->width, operands[i],
                (long long)mbp_operand_width(c, node, i));
    return MBP_OK;
}

static mbp_status read_sum(mbp_cursor *c, mbp_node *node) { /* add */
    mbp_status status = read_all_operands(c, node, 2);
    return status == MBP_OK ? set_width(c, node) : status;
}

static mbp_status read_pair(mbp_cursor *c, mbp_node *node) { /* multiply, subtract */
    mbp_status status = mbp_read_operands(c, node, 2);
    return status == MBP_OK ? set_width(c, node) : status;
}

static mbp_status read_concat(mbp_cursor *c, mbp_node *node) {
    mbp_status status = read_all_operands(c, node, 1);
    if (status != MBP_OK)
        return status;
    for (int i = 0; i < node->operands; i++)
        node->width += mbp_operand_width(c, node, i); /* fewer than 2^24 operands of at most 2^31 columns */
    if (node->width > INT32_MAX)
        return mbp_fail_in_line(c, "concat has more than %d columns", (int)INT32_MAX);
    return MBP_OK;
}

static mbp_status read_random(mbp_cursor *c, mbp_node *node) { /* dropout, noise */
    mbp_settings found;
    mbp_status status = mbp_read_operand(c, node);
    if (status == MBP_OK)
        status = read_settings(c, node->kind, &found);
    if (status == MBP_OK)
        memcpy(node->activation.parameters, found.number, sizeof found.number);
    return status;
}

/* ---- layers ---- */

/* Sets node->layer to the layer that the statement names, or to -1. A layer that exists must be of the same kind, and
 * the statement must not set anything else. */
static mbp_status find_layer(mbp_cursor *c, mbp_node *node, const mbp_settings *found) {
    const mbp_net *net = c->net;
    node->layer = (int16_t)(found->text[LAYER].length ? mbp_find_layer(net, found->text[LAYER]) : -1);
    if (node->layer < 0)
        return MBP_OK;
    const char *name = net->layer[node->layer].name;
    mbp_slice keys = mbp_slice_of(statements[node->kind].texts);
    if (net->layer[node->layer].kind != node->kind)
        return mbp_fail_in_line(c, "layer %s is a %s layer: choose another name (layer=NAME)", name,
                                statements[net->layer[node->layer].kind].word);
    for (int i = 0; i < MBP_KEYS_MAX; i++) {
        const mbp_slice key = mbp_take_word(&keys);
        if (i != LAYER && i < MBP_LAYER_KEYS && found->text[i].length)
            return mbp_layer_exists(c, name, key);
    }
    mbp_slice key = {0};
    double standard;
    mbp_interval interval;
    for (int i = 0; mbp_parameter(statements[node->kind].numbers, i, &key, &standard, &interval); i++)
        if (found->given >> i & 1)
            return mbp_layer_exists(c, name, key);
    return MBP_OK;
}

static mbp_status read_layer(mbp_cursor *c, mbp_node *node, mbp_settings *found) {
    mbp_status status = mbp_read_operand(c, node);
    if (status == MBP_OK)
        status = read_settings(c, node->kind, found);
    return status == MBP_OK ? find_layer(c, node, found) : status;
}

static mbp_layer *next_layer(mbp_cursor *c, mbp_node *node, const mbp_settings *found) {
    mbp_layer *layer = &c->net->layer[c->net->layers];
    node->layer = (int16_t)c->net->layers;
    *layer = (mbp_layer){.kind = node->kind, .in = 1, .running = -1};
    memcpy(layer->setting, found->number, sizeof layer->setting);
    return layer;
}

static mbp_status name_layer(mbp_cursor *c, mbp_layer *layer, mbp_slice name) {
    return mbp_name_layer(c, layer, name, statements[layer->kind].word);
}

static mbp_status new_dense(mbp_cursor *c, mbp_node *node, const mbp_settings *found) {
    const mbp_slice activation = found->text[ACTIVATION];
    mbp_layer *layer = next_layer(c, node, found);
    layer->in = mbp_operand_width(c, node, 0);
    mbp_status status = name_layer(c, layer, found->text[LAYER]);
    if (status == MBP_OK && !found->text[UNITS].length)
        status = mbp_fail_in_line(c, "the new layer %s needs units=N", layer->name);
    if (status == MBP_OK)
        status = mbp_read_width(c, "units", found->text[UNITS], &layer->out);
    if (status == MBP_OK)
        status = mbp_read_formula(c, MBP_ACTIVATION, activation.length ? activation : mbp_slice_of("identity"),
                                  &layer->activation);
    if (status == MBP_OK)
        status = mbp_read_initializers(c, found->text[INIT], found->text[BIAS_INIT], layer);
    if (status == MBP_OK)
        status = mbp_read_bias(c, found, BIAS, layer);
    if (status == MBP_OK)
        status = mbp_read_switch(c, "frozen", found->text[DENSE_FROZEN], &layer->frozen);
    c->net->layers += status == MBP_OK;
    return status;
}

static mbp_status read_dense(mbp_cursor *c, mbp_node *node) {
    mbp_settings found;
    mbp_status status = read_layer(c, node, &found);
    if (status == MBP_OK)
        status = node->layer < 0 ? new_dense(c, node, &found) : mbp_use_layer(c, node, c->net->layer[node->layer].in);
    if (status != MBP_OK)
        return status;
    node->width = c->net->layer[node->layer].out;
    node->activation = c->net->layer[node->layer].activation;
    return MBP_OK;
}

/* The levels that an embedding needs for its operand: those of ids, or the columns of another node. */
static int64_t levels_of(const mbp_cursor *c, const mbp_node *node) {
    const mbp_node *operand = &c->net->node[c->net->operands[node->first_operand]];
    return mbp_is_ids(operand) ? mbp_ids_levels(operand) : operand->width;
}

static mbp_status new_embedding(mbp_cursor *c, mbp_node *node, const mbp_settings *found) {
    const mbp_slice combine = found->text[COMBINE];
    mbp_layer *layer = next_layer(c, node, found);
    layer->in = levels_of(c, node);
    layer->bias = -1;
    layer->activation.row = ACTIVATION_identity;
    layer->sums = mbp_slice_is(combine, "sum");
    mbp_status status = name_layer(c, layer, found->text[LAYER]);
    if (status == MBP_OK && !found->text[UNITS].length)
        status = mbp_fail_in_line(c, "the new layer %s needs units=N", layer->name);
    if (status == MBP_OK)
        status = mbp_read_width(c, "units", found->text[UNITS], &layer->out);
    if (status == MBP_OK && combine.length && !layer->sums && !mbp_slice_is(combine, "concat"))
        status = mbp_fail_in_line(c, "combine must be concat or sum, not \"%.*s\"", mbp_shown(combine), combine.at);
    if (status == MBP_OK)
        status = mbp_read_formula(c, MBP_INITIALIZER,
                                  mbp_is_auto(found->text[EMBEDDING_INIT]) ? mbp_slice_of("normal")
                                                                           : found->text[EMBEDDING_INIT],
                                  &layer->initializer);
    if (status == MBP_OK)
        status = mbp_read_switch(c, "frozen", found->text[EMBEDDING_FROZEN], &layer->frozen);
    c->net->layers += status == MBP_OK;
    return status;
}

static mbp_status read_embedding(mbp_cursor *c, mbp_node *node) {
    mbp_settings found;
    mbp_status status = read_layer(c, node, &found);
    if (status == MBP_OK && node->layer < 0)
        status = new_embedding(c, node, &found);
    if (status != MBP_OK)
        return status;
    const mbp_layer *layer = &c->net->layer[node->layer];
    const int operand = c->net->operands[node->first_operand];
    if (layer->in != levels_of(c, node))
        return mbp_fail_in_line(c, "layer %s has %lld level%s, but node %d has %lld", layer->name, (long long)layer->in,
                                mbp_plural(layer->in), operand, (long long)levels_of(c, node));
    node->activation = layer->activation;
    node->width = layer->out * (mbp_is_ids(&c->net->node[operand]) && !layer->sums ? mbp_operand_width(c, node, 0) : 1);
    if (node->width > INT32_MAX)
        return mbp_fail_in_line(c, "embedding has more than %d columns", (int)INT32_MAX);
    return MBP_OK;
}

static mbp_status new_norm(mbp_cursor *c, mbp_node *node, const mbp_settings *found) {
    mbp_layer *layer = next_layer(c, node, found);
    layer->out = node->width;
    layer->running = node->kind == MBP_NODE_LAYER_NORM ? -1 : 0;
    if (MICROBP_STANDARDIZE && node->kind == MBP_NODE_STANDARDIZE)
        layer->weight = layer->bias = -1;
    mbp_status status = name_layer(c, layer, found->text[LAYER]);
    if (status == MBP_OK)
        status = mbp_read_switch(c, "frozen", found->text[NORM_FROZEN], &layer->frozen);
    c->net->layers += status == MBP_OK;
    return status;
}

static mbp_status new_scale(mbp_cursor *c, mbp_node *node, const mbp_settings *found) {
    mbp_layer *layer = next_layer(c, node, found);
    int gain = 1, bias = 1;
    layer->out = node->width;
    mbp_status status = name_layer(c, layer, found->text[LAYER]);
    if (status == MBP_OK)
        status = mbp_read_switch(c, "gain", found->text[GAIN], &gain);
    if (status == MBP_OK)
        status = mbp_read_switch(c, "bias", found->text[ADDEND], &bias);
    if (status == MBP_OK)
        status = mbp_read_switch(c, "frozen", found->text[SCALE_FROZEN], &layer->frozen);
    if (status == MBP_OK && !gain && !bias)
        status = mbp_fail_in_line(c, "layer %s has neither a gain nor a bias: set gain=1 or bias=1", layer->name);
    layer->weight = gain ? 0 : -1;
    layer->bias = bias ? 0 : -1;
    c->net->layers += status == MBP_OK;
    return status;
}

static mbp_status read_columns(mbp_cursor *c, mbp_node *node) { /* batch_norm, layer_norm, scale, standardize */
    mbp_settings found;
    mbp_status status = read_layer(c, node, &found);
    if (status != MBP_OK)
        return status;
    if (node->layer >= 0)
        return mbp_use_layer(c, node, c->net->layer[node->layer].out);
    return node->kind == MBP_NODE_SCALE ? new_scale(c, node, &found) : new_norm(c, node, &found);
}

#if MICROBP_POSITIONS
static mbp_status read_recurrent(mbp_cursor *c, mbp_node *node) {
    mbp_settings found;
    mbp_status status = read_layer(c, node, &found);
    if (status == MBP_OK && node->layer < 0) {
        mbp_layer *layer = next_layer(c, node, &found);
        status = name_layer(c, layer, found.text[LAYER]);
        if (status == MBP_OK)
            status = mbp_read_cell(c, node, &found, layer);
        c->net->layers += status == MBP_OK;
    } else if (status == MBP_OK) {
        const mbp_layer *layer = &c->net->layer[node->layer];
        status = mbp_use_layer(c, node, layer->in - mbp_units(layer));
    }
    return status == MBP_OK ? mbp_read_direction(c, node, &found) : status;
}
#endif

/* ---- any statement ---- */

static mbp_status unknown_statement(mbp_cursor *c, mbp_slice word) {
    mbp_unknown unknown = {.word = word};
    for (int kind = 0; kind < MBP_NODE_KINDS; kind++)
        mbp_unknown_add(&unknown, mbp_slice_of(statements[kind].word));
    mbp_unknown_add(&unknown, mbp_slice_of("output"));
    return mbp_fail_line(c, mbp_unknown_fail(&unknown, "unknown statement", c->error));
}

static mbp_status read_node(mbp_cursor *c, mbp_slice word) {
    mbp_net *net = c->net;
    int kind = 0;
    while (kind < MBP_NODE_KINDS && !mbp_slice_is(word, statements[kind].word))
        kind++;
    if (kind == MBP_NODE_KINDS)
        return unknown_statement(c, word);
    if (net->nodes == MBP_NODES_MAX)
        return mbp_fail_in_line(c, "a graph has at most %d nodes", MBP_NODES_MAX);
    mbp_node *node = &net->node[net->nodes];
    *node = (mbp_node){
        .kind = (mbp_node_kind)kind, .layer = -1, .input = -1, .home = -1, .first_operand = net->operand_count};
#if MICROBP_POSITIONS
    node->positions = node->height = 1;
#endif
    mbp_status status = statements[kind].read(c, node);
#if MICROBP_POSITIONS
    if (status == MBP_OK && node->operands && kind < MBP_NODE_GRID)
        status = mbp_share_positions(c, node, statements[kind].word);
#endif
    net->nodes += status == MBP_OK;
    return status;
}

mbp_status mbp_statement_read(mbp_cursor *c, mbp_slice word) {
    mbp_status status = mbp_slice_is(word, "output") ? mbp_read_output(c) : read_node(c, word);
    const mbp_slice extra = mbp_take_term(&c->rest);
    if (status == MBP_OK && extra.length)
        return mbp_fail_in_line(c, "unexpected \"%.*s\" at the end of the line", mbp_shown(extra), extra.at);
    return status;
}

/* ---- writing ---- */

static void put_numbers(mbp_writer *w, mbp_node_kind kind, const double *values) {
    char number[MBP_NUMBER_SIZE];
    mbp_slice name;
    mbp_interval interval;
    double standard;
    for (int i = 0; mbp_parameter(statements[kind].numbers, i, &name, &standard, &interval); i++) {
        if (values[i] == standard && !mbp_interval_has(interval, standard)) /* not given */
            continue;
        number[mbp_print_number(number, values[i])] = 0;
        mbp_put(w, " %.*s=%s", (int)name.length, name.at, number);
    }
}

static void put_layer(mbp_writer *w, const mbp_layer *layer) {
    if (layer->kind == MBP_NODE_DENSE) {
        mbp_put(w, " units=%lld", (long long)layer->out);
        mbp_put_formula(w, " activation=", MBP_ACTIVATION, &layer->activation);
        mbp_put_formula(w, " init=", MBP_INITIALIZER, &layer->initializer);
        mbp_put(w, " bias=%d", layer->bias >= 0);
        if (layer->bias >= 0 && layer->bias_initializer.row != INITIALIZER_zeros) /* zeros: not written */
            mbp_put_formula(w, " bias_init=", MBP_INITIALIZER, &layer->bias_initializer);
    }
    if (mbp_is_embedding(layer->kind)) {
        mbp_put(w, " units=%lld combine=%s", (long long)layer->out, layer->sums ? "sum" : "concat");
        mbp_put_formula(w, " init=", MBP_INITIALIZER, &layer->initializer);
    }
#if MICROBP_POSITIONS
    if (mbp_is_recurrent(layer->kind))
        mbp_put_recurrent(w, layer);
#endif
    if (layer->kind == MBP_NODE_SCALE)
        mbp_put(w, " gain=%d bias=%d", layer->weight >= 0, layer->bias >= 0);
    mbp_put(w, " frozen=%d", layer->frozen);
    put_numbers(w, layer->kind, layer->setting);
}

void mbp_statement_write_input(mbp_writer *w, const mbp_node *node) {
    mbp_put(w, "%s %lld", statements[mbp_is_ids(node) ? MBP_NODE_IDS : MBP_NODE_INPUT].word, (long long)node->width);
    if (mbp_is_ids(node))
        put_numbers(w, node->kind, node->activation.parameters);
    mbp_put(w, "\n");
}

void mbp_statement_write(mbp_writer *w, const mbp_net *net, const mbp_node *node, int new_layer, const int *number) {
    if (node->input >= 0) {
        mbp_statement_write_input(w, node);
        return;
    }
    mbp_put(w, "%s", statements[node->kind].word);
    for (int i = 0; i < (mbp_is_recurrent(node->kind) ? 1 : node->operands); i++) {
        const int operand = net->operands[node->first_operand + i];
        mbp_put(w, " %d", number ? number[operand] : operand);
    }
    if (node->kind == MBP_NODE_ACTIVATION)
        mbp_put_formula(w, " ", MBP_ACTIVATION, &node->activation);
    if (node->layer >= 0)
        mbp_put(w, " layer=%s", net->layer[node->layer].name);
    if (node->layer >= 0 && new_layer)
        put_layer(w, &net->layer[node->layer]);
    if (node->layer < 0)
        put_numbers(w, node->kind, node->activation.parameters);
#if MICROBP_POSITIONS
    mbp_put_window(w, node);
    mbp_put_direction(w, net, node, number);
#endif
    mbp_put(w, "\n");
}
