/* Floor 3: reads the words of a line of a graph text: widths, operands, layer names, key=value settings; writes words;
 * the statement of an output. */
#ifndef MBP_WORDS_H
#define MBP_WORDS_H

#include "net/net.h"
#include "system/text.h"

/* The state of reading: the position in the text, and the net being built. */
typedef struct mbp_cursor {
    mbp_net *net;
    int line;
    mbp_slice rest;             /* the rest of the line */
    int layers[MBP_NODE_KINDS]; /* the number of layers so far, by kind */
    mbp_error *error;
} mbp_cursor;

/* Fails with an error in the current line. */
__attribute__((format(printf, 2, 3))) mbp_status mbp_fail_in_line(mbp_cursor *c, const char *format, ...);

/* Puts the line number before the error's text, unless status is MBP_OK; returns status. */
mbp_status mbp_fail_line(mbp_cursor *c, mbp_status status);
/* How many characters of a word an error shows. */
int mbp_shown(mbp_slice word);

/* what: names the width in an error. */
mbp_status mbp_read_width(mbp_cursor *c, const char *what, mbp_slice word, int64_t *width);
mbp_status mbp_read_formula(mbp_cursor *c, mbp_kind kind, mbp_slice spec, mbp_formula *formula);
/* Reads 0 or 1, the value of `key`. An empty word does not change the flag. */
mbp_status mbp_read_switch(mbp_cursor *c, const char *key, mbp_slice word, int *flag);
/* Adds operands to the node: the next `count` words must be numbers of earlier nodes. */
mbp_status mbp_read_operands(mbp_cursor *c, mbp_node *node, int count);
/* Reads the only operand, and gives the node its width. */
mbp_status mbp_read_operand(mbp_cursor *c, mbp_node *node);
int64_t mbp_operand_width(const mbp_cursor *c, const mbp_node *node, int i);

/* The layer of that name, or -1. */
int mbp_find_layer(const mbp_net *net, mbp_slice name);
/* Names the next new layer, whose kind is already set. An empty name becomes `word`, _ and a number. */
mbp_status mbp_name_layer(mbp_cursor *c, mbp_layer *layer, mbp_slice name, const char *word);

/* The settings of a statement: texts in the order of `keys` ("layer units"), numbers in the order of the parameter text
 * `numbers`. */
enum { MBP_KEYS_MAX = MICROBP_POSITIONS ? 10 : 7 };
typedef struct mbp_settings {
    mbp_slice text[MBP_KEYS_MAX]; /* empty: not given */
    double number[MBP_PARAMETERS_MAX];
    unsigned given; /* bit i: number i was given; otherwise it has its default */
} mbp_settings;

/* Reads the rest of the line as settings. */
mbp_status mbp_read_settings(mbp_cursor *c, const char *keys, const char *numbers, mbp_settings *found);
static inline int mbp_is_auto(mbp_slice spec) { return !spec.length || mbp_slice_is(spec, "auto"); }
/* Reads the initializers of a dense layer, whose activation is set. "auto" is the one that suits the activation; for
 * the bias, zeros if init is not "auto". */
static inline mbp_status mbp_read_initializers(mbp_cursor *c, mbp_slice init, mbp_slice bias_init, mbp_layer *layer) {
    mbp_status status = MBP_OK;
    layer->initializer.row = mbp_activation_initializer(layer->activation.row);
    layer->bias_initializer.row = mbp_is_auto(init) ? mbp_activation_bias_initializer(layer->activation.row)
                                                    : INITIALIZER_zeros;
    if (!mbp_is_auto(init))
        status = mbp_read_formula(c, MBP_INITIALIZER, init, &layer->initializer);
    if (status == MBP_OK && !mbp_is_auto(bias_init))
        status = mbp_read_formula(c, MBP_INITIALIZER, bias_init, &layer->bias_initializer);
    return status;
}
/* Fails because a statement sets `key` of a layer that exists. */
mbp_status mbp_layer_exists(mbp_cursor *c, const char *name, mbp_slice key);
/* Reads whether there is a bias. Without one, the settings of the bias must not be given. Text bias_key is `bias`, and
 * the next one `bias_init`. */
static inline mbp_status mbp_read_bias(mbp_cursor *c, const mbp_settings *found, int bias_key, mbp_layer *layer) {
    int bias = 1;
    mbp_status status = mbp_read_switch(c, "bias", found->text[bias_key], &bias);
    layer->bias = bias ? 0 : -1;
    if (status != MBP_OK || bias)
        return status;
    const int rate = found->given >> MBP_LAYER_BIAS_LR & 1;
    if (rate || !mbp_is_auto(found->text[bias_key + 1]))
        return mbp_fail_in_line(c, "layer %s has no bias: remove %s=, or set bias=1", layer->name,
                                rate ? "bias_lr" : "bias_init");
    return MBP_OK;
}
/* Uses an existing layer, which takes this number of columns. */
mbp_status mbp_use_layer(mbp_cursor *c, const mbp_node *node, int64_t columns);
/* Refuses the scale of an output, unless its means are finite, and its standard deviations finite and above 0, in this
 * dtype. */
mbp_status mbp_scale_check(const double *mean, const double *std, int64_t n, mbp_dtype dtype, mbp_error *error);

/* A text that is written piece by piece. Bytes after the first `size` are only counted. */
typedef struct mbp_writer {
    char *text;
    size_t size, length;
} mbp_writer;

__attribute__((format(printf, 2, 3))) void mbp_put(mbp_writer *w, const char *format, ...);
void mbp_put_formula(mbp_writer *w, const char *before, mbp_kind kind, const mbp_formula *formula);

/* The rest of the statement of an output, whose first word has been taken. */
mbp_status mbp_read_output(mbp_cursor *c);
/* i: the number of the output; -1: this node is not an output of the net yet. number: of each node in the text; NULL:
 * its own. */
void mbp_statement_write_output(mbp_writer *w, const mbp_net *net, int i, int node, const int *number);

#endif
