/* Floor 3: reads the words of a line of a graph text: widths, operands, layer names, key=value settings. */
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
int64_t mbp_operand_width(const mbp_cursor *c, const mbp_node *node, int i);

/* The layer of that name, or -1. */
int mbp_find_layer(const mbp_net *net, mbp_slice name);
/* Names the next new layer, whose kind is already set. An empty name becomes `word`, _ and a number. */
mbp_status mbp_name_layer(mbp_cursor *c, mbp_layer *layer, mbp_slice name, const char *word);

/* The settings of a statement: texts in the order of `keys` ("layer units"), numbers in the order of the parameter text
 * `numbers`. */
enum { MBP_KEYS_MAX = 7 };
typedef struct mbp_settings {
    mbp_slice text[MBP_KEYS_MAX]; /* empty: not given */
    double number[MBP_PARAMETERS_MAX];
    unsigned given; /* bit i: number i was given; otherwise it has its default */
} mbp_settings;

/* Reads the rest of the line as settings. */
mbp_status mbp_read_settings(mbp_cursor *c, const char *keys, const char *numbers, mbp_settings *found);
/* Refuses the scale of an output, unless its means are finite, and its standard deviations finite and above 0, in this
 * dtype. */
mbp_status mbp_scale_check(const double *mean, const double *std, int64_t n, mbp_dtype dtype, mbp_error *error);
/* Reads the scale of the last output from its settings, one of which is not empty: lists such as (0.5 2e3). */
mbp_status mbp_read_scale(mbp_cursor *c, mbp_slice mean, mbp_slice std);

#endif
