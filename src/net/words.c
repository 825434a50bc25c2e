#include "net/words.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

mbp_status mbp_fail_line(mbp_cursor *c, mbp_status status) {
    if (status != MBP_OK && c->error) {
        char text[sizeof c->error->text];
        memcpy(text, c->error->text, sizeof text);
        snprintf(c->error->text, sizeof text, "graph line %d: %.*s", c->line, (int)sizeof text - 32, text);
        c->error->node = c->net->nodes;
    }
    return status;
}

mbp_status mbp_fail_in_line(mbp_cursor *c, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const mbp_status status = mbp_fail_list(c->error, MBP_INVALID, format, arguments);
    va_end(arguments);
    return mbp_fail_line(c, status);
}

int mbp_shown(mbp_slice word) { return (int)(word.length > 60 ? 60 : word.length); }

/* ---- single words ---- */

mbp_status mbp_read_width(mbp_cursor *c, const char *what, mbp_slice word, int64_t *width) {
    if (!mbp_parse_integer(word, width) || *width < 1 || *width > INT32_MAX)
        return mbp_fail_in_line(c, "%s must be a whole number from 1 to %d, not \"%.*s\"", what, (int)INT32_MAX,
                                mbp_shown(word), word.at);
    return MBP_OK;
}

mbp_status mbp_read_formula(mbp_cursor *c, mbp_kind kind, mbp_slice spec, mbp_formula *formula) {
    return mbp_fail_line(c, mbp_formula_parse(kind, spec, formula, c->error));
}

mbp_status mbp_read_switch(mbp_cursor *c, const char *key, mbp_slice word, int *flag) {
    if (word.length && !mbp_slice_is(word, "0") && !mbp_slice_is(word, "1"))
        return mbp_fail_in_line(c, "%s must be 0 or 1, not \"%.*s\"", key, mbp_shown(word), word.at);
    if (word.length)
        *flag = *word.at == '1';
    return MBP_OK;
}

mbp_status mbp_read_operands(mbp_cursor *c, mbp_node *node, int count) {
    mbp_net *net = c->net;
    for (; count; count--, node->operands++) {
        const mbp_slice word = mbp_take_term(&c->rest);
        int64_t id;
        if (!word.length)
            return mbp_fail_in_line(c, "the number of an earlier node is missing");
        if (!mbp_parse_integer(word, &id))
            return mbp_fail_in_line(c, "expected the number of an earlier node, not \"%.*s\"", mbp_shown(word),
                                    word.at);
        if (!net->nodes)
            return mbp_fail_in_line(c, "there is no node %lld before this line: start with an input", (long long)id);
        if (id >= net->nodes)
            return mbp_fail_in_line(c, "there is no node %lld before this line: the last is node %d", (long long)id,
                                    net->nodes - 1);
        if (mbp_is_ids(&net->node[id]) && !mbp_is_embedding(node->kind))
            return mbp_fail_in_line(c,
                                    "node %lld has ids, which only embeddings read: write \"embedding %lld units=N\"",
                                    (long long)id, (long long)id);
        net->operands[net->operand_count++] = (int)id;
    }
    return MBP_OK;
}

mbp_status mbp_read_operand(mbp_cursor *c, mbp_node *node) {
    const mbp_status status = mbp_read_operands(c, node, 1);
    if (status == MBP_OK)
        node->width = mbp_operand_width(c, node, 0);
    return status;
}

int64_t mbp_operand_width(const mbp_cursor *c, const mbp_node *node, int i) {
    return c->net->node[c->net->operands[node->first_operand + i]].width;
}

/* ---- layers ---- */

/* The place of a name in the hash table net->names (FNV-1a, linear probing). The place is empty (0) if no layer has the
 * name. */
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

mbp_status mbp_name_layer(mbp_cursor *c, mbp_layer *layer, mbp_slice name, const char *word) {
    if (name.length && !is_name(name))
        return mbp_fail_in_line(c, "\"%.*s\" is not a valid layer name: use 1 to %d letters, digits, _ and -",
                                mbp_shown(name), name.at, MBP_NAME_SIZE - 1);
    if (name.length)
        memcpy(layer->name, name.at, name.length);
    else
        snprintf(layer->name, sizeof layer->name, "%s_%d", word, c->layers[layer->kind]);
    c->layers[layer->kind]++;
    int *place = name_place(c->net, mbp_slice_of(layer->name));
    if (*place)
        return mbp_fail_in_line(c, "the name %s is already used by another layer: choose another name (layer=NAME)",
                                layer->name);
    *place = c->net->layers + 1;
    return MBP_OK;
}

/* ---- settings ---- */

/* The position of a key in `keys` ("layer units ..."), or -1. */
static int key_index(const char *keys, mbp_slice key) {
    mbp_slice rest = mbp_slice_of(keys), word = mbp_take_word(&rest);
    for (int i = 0; word.length; i++, word = mbp_take_word(&rest))
        if (word.length == key.length && memcmp(word.at, key.at, key.length) == 0)
            return i;
    return -1;
}

/* Fails because the word is not a valid setting. */
static mbp_status fail_setting(mbp_cursor *c, mbp_slice word, const char *keys, const char *numbers) {
    mbp_slice value = word, rest = mbp_slice_of(keys);
    mbp_unknown unknown = {.word = mbp_take_until(&value, '=')};
    if (key_index(keys, unknown.word) >= 0 || mbp_parameter_index(numbers, unknown.word) >= 0)
        return mbp_fail_in_line(c, "%.*s needs a value: %.*s=VALUE", (int)unknown.word.length, unknown.word.at,
                                (int)unknown.word.length, unknown.word.at);
    for (mbp_slice key = mbp_take_word(&rest); key.length; key = mbp_take_word(&rest))
        mbp_unknown_add(&unknown, key);
    mbp_parameters_list(numbers, &unknown);
    return mbp_fail_line(c, mbp_unknown_fail(&unknown, "unknown setting", c->error));
}

mbp_status mbp_read_settings(mbp_cursor *c, const char *keys, const char *numbers, mbp_settings *found) {
    *found = (mbp_settings){0};
    mbp_parameter_defaults(numbers, found->number);
    for (mbp_slice word = mbp_take_term(&c->rest); word.length; word = mbp_take_term(&c->rest)) {
        mbp_slice value = word;
        const mbp_slice key = mbp_take_until(&value, '=');
        const int is_pair = key.length < word.length, text = key_index(keys, key);
        if (is_pair && mbp_parameter_index(numbers, key) >= 0) {
            mbp_status status = mbp_parameter_read(word, numbers, found->number, &found->given, c->error);
            if (status != MBP_OK)
                return mbp_fail_line(c, status);
            continue;
        }
        if (text >= 0 && value.length && memchr(value.at, '(', value.length) && value.at[value.length - 1] != ')')
            return mbp_fail_in_line(c, "\"%.*s\" does not end with \")\": add \")\"", mbp_shown(value), value.at);
        if (text < 0 || !value.length)
            return fail_setting(c, word, keys, numbers);
        if (found->text[text].length)
            return mbp_fail_in_line(c, "%.*s is given twice", (int)key.length, key.at);
        found->text[text] = value;
    }
    return MBP_OK;
}

/* ---- settings of layers ---- */

mbp_status mbp_layer_exists(mbp_cursor *c, const char *name, mbp_slice key) {
    return mbp_fail_in_line(
        c, "layer %s already exists: remove %.*s= to use it again, or choose another name (layer=NAME)", name,
        (int)key.length, key.at);
}

mbp_status mbp_use_layer(mbp_cursor *c, const mbp_node *node, int64_t columns) {
    const int64_t given = mbp_operand_width(c, node, 0);
    if (columns != given)
        return mbp_fail_in_line(c, "layer %s takes %lld column%s, but node %d has %lld",
                                c->net->layer[node->layer].name, (long long)columns, mbp_plural(columns),
                                c->net->operands[node->first_operand], (long long)given);
    return MBP_OK;
}

/* ---- lists of numbers ---- */

mbp_status mbp_scale_check(const double *mean, const double *std, int64_t n, mbp_dtype dtype, mbp_error *error) {
    char number[MBP_NUMBER_SIZE];
    const double most = dtype == MBP_F64 ? DBL_MAX : (double)FLT_MAX, least = dtype == MBP_F64 ? 0 : (double)FLT_MIN;
    for (int64_t j = 0; MICROBP_SCALES && j < n; j++) {
        const int of_mean = !(fabs(mean[j]) <= most);
        if (!of_mean && std[j] > 0 && std[j] >= least && std[j] <= most)
            continue;
        mbp_print_number(number, of_mean ? mean[j] : std[j]);
        return mbp_fail(error, MBP_INVALID, "%s of column %lld is %s, but must be finite%s%s", of_mean ? "mean" : "std",
                        (long long)j, number, of_mean ? "" : " and above 0", dtype == MBP_F64 ? "" : " in float32");
    }
    return MBP_OK;
}

#if MICROBP_SCALES
/* Reads a list of numbers, one per column: (0.5 -1e3). */
static mbp_status read_numbers(mbp_cursor *c, const char *key, mbp_slice list, int64_t n, double *to) {
    mbp_slice rest = list;
    rest.at++, rest.length -= 2;
    for (int64_t j = 0; j < n; j++) {
        const mbp_slice word = mbp_take_word(&rest);
        if (!word.length)
            return mbp_fail_in_line(c, "%s has %lld number%s, but the output has %lld column%s", key, (long long)j,
                                    mbp_plural(j), (long long)n, mbp_plural(n));
        if (!mbp_parse_number(word, &to[j]))
            return mbp_fail_in_line(c, "%s must be numbers, not \"%.*s\"", key, mbp_shown(word), word.at);
    }
    if (mbp_take_word(&rest).length)
        return mbp_fail_in_line(c, "%s has more than %lld number%s, but the output has %lld column%s", key,
                                (long long)n, mbp_plural(n), (long long)n, mbp_plural(n));
    return MBP_OK;
}

/* Refuses what is not a list, or too short for n numbers, before numbers are stored. */
static mbp_status check_list(mbp_cursor *c, const char *key, mbp_slice list, int64_t n) {
    if (*list.at != '(')
        return mbp_fail_in_line(c, "%s=%.*s must be a list of numbers in ( )", key, mbp_shown(list), list.at);
    if ((int64_t)list.length < 2 * n + 1)
        return mbp_fail_in_line(c, "%s has fewer numbers than the output has columns: %lld", key, (long long)n);
    return MBP_OK;
}

/* Reads the scale of the last output from its settings, one of which is not empty: lists such as (0.5 2e3). */
static mbp_status read_scale(mbp_cursor *c, mbp_slice mean, mbp_slice std) {
    mbp_net *net = c->net;
    const int last = net->outputs - 1;
    const int64_t n = mbp_output_width(net, last);
    double *scale = net->scales; /* NULL if the graph has no list */
    if (mbp_positions(&net->node[net->output[last].node]) > 1)
        return mbp_fail_line(c, mbp_fail(c->error, MBP_UNSUPPORTED,
                                         "output %d has several positions, so it cannot have mean and std", last));
    if (!mean.length || !std.length)
        return mbp_fail_in_line(c, "an output with %s needs %s too", mean.length ? "mean" : "std",
                                mean.length ? "std" : "mean");
    if (!mbp_formula_is(MBP_OUTPUT_ACTIVATION, net->output[last].activation, "identity"))
        return mbp_fail_in_line(c, "an output with mean and std needs activation=identity");
    mbp_status status = check_list(c, "mean", mean, n);
    if (status == MBP_OK)
        status = check_list(c, "std", std, n);
    if (status != MBP_OK)
        return status;
    if (net->scales_bytes / sizeof *scale < (size_t)(net->scales_count + 1 + 2 * n))
        return mbp_fail_in_line(c, "mean and std have fewer numbers than the output has columns: %lld", (long long)n);
    scale += net->scales_count;
    *scale++ = last;
    status = read_numbers(c, "mean", mean, n, scale);
    if (status == MBP_OK)
        status = read_numbers(c, "std", std, n, scale + n);
    if (status == MBP_OK)
        status = mbp_fail_line(c, mbp_scale_check(scale, scale + n, n, MBP_F64, c->error));
    net->scales_count += 1 + 2 * n;
    return status;
}
#endif

/* ---- writing ---- */

void mbp_put(mbp_writer *w, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t room = w->length < w->size ? w->size - w->length : 0;
    w->length += (size_t)vsnprintf(room ? w->text + w->length : NULL, room, format, arguments);
    va_end(arguments);
}

void mbp_put_formula(mbp_writer *w, const char *before, mbp_kind kind, const mbp_formula *formula) {
    char spec[MBP_SPEC_SIZE];
    mbp_formula_print(kind, formula, spec);
    mbp_put(w, "%s%s", before, spec);
}

/* ---- outputs ---- */

enum { OUTPUT_ACTIVATION, MEAN, STD }; /* positions of the keys in OUTPUT_TEXTS */
#define OUTPUT_TEXTS "activation mean std"

mbp_status mbp_read_output(mbp_cursor *c) {
    mbp_net *net = c->net;
    mbp_node named = {.first_operand = net->operand_count}; /* temporary: the output's node is read as its operand */
    mbp_formula activation = {-1, {0}};
    mbp_settings found;
    mbp_status status = mbp_read_operands(c, &named, 1);
    if (status != MBP_OK)
        return status;
    const int id = net->operands[--net->operand_count];
    if (net->node[id].uses++)
        return mbp_fail_in_line(c, "node %d is already an output", id);
    status = mbp_read_settings(c, OUTPUT_TEXTS, "", &found);
    if (status == MBP_OK && found.text[OUTPUT_ACTIVATION].length)
        status = mbp_read_formula(c, MBP_OUTPUT_ACTIVATION, found.text[OUTPUT_ACTIVATION], &activation);
    if (status != MBP_OK)
        return status;
    net->output[net->outputs++] = (mbp_output){id, activation.row};
    if (!found.text[MEAN].length && !found.text[STD].length)
        return MBP_OK;
#if MICROBP_SCALES
    return read_scale(c, found.text[MEAN], found.text[STD]);
#else
    return mbp_fail_line(c, mbp_fail_extra(c->error, "mean and std of outputs", "scales"));
#endif
}

static void put_list(mbp_writer *w, const char *key, const double *values, int64_t n) {
    char number[MBP_NUMBER_SIZE];
    for (int64_t j = 0; j < n; j++) {
        number[mbp_print_number(number, values[j])] = 0;
        mbp_put(w, "%s%s", j ? " " : key, number);
    }
    mbp_put(w, ")");
}

void mbp_statement_write_output(mbp_writer *w, const mbp_net *net, int i, int node, const int *number) {
    const double *scale = i >= 0 ? mbp_scale_of(net, i) : NULL;
    const int64_t n = net->node[node].width;
    mbp_put(w, "output %d", number ? number[node] : node);
    if (i >= 0 && net->output[i].activation >= 0)
        mbp_put(w, " activation=%s", mbp_formula_name(MBP_OUTPUT_ACTIVATION, net->output[i].activation));
    if (scale) {
        put_list(w, " mean=(", scale, n);
        put_list(w, " std=(", scale + n, n);
    }
    mbp_put(w, "\n");
}
