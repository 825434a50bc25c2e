/* Floor 3: what the readers and writers of the graph's statements share. */
#ifndef MBP_GRAPH_H
#define MBP_GRAPH_H

#include "net.h"

typedef struct reader {
    mbp_net *net;
    int line;
    mbp_slice rest;        /* of the line */
    int layers[MBP_KINDS]; /* so far, by kind */
    mbp_error *error;
} reader;

#define FAIL(reader, ...) mbp_fail_line(reader, mbp_fail((reader)->error, MBP_INVALID, __VA_ARGS__))

/* Puts the line number before the error's text. */
mbp_status mbp_fail_line(reader *r, mbp_status status);
/* How much of a word an error shows. */
int mbp_shown(mbp_slice word);
/* The next word as the number of an earlier node; the next `count` words. */
mbp_status mbp_read_operand(reader *r, mbp_node *node);
mbp_status mbp_read_operands(reader *r, mbp_node *node, int count);
int64_t mbp_operand_width(const reader *r, const mbp_node *node, int i);
/* The layer of that name, or -1. */
int mbp_find_layer(const mbp_net *net, mbp_slice name);
/* Gives the layer that comes next its name; an empty one: that of its kind, counted. */
mbp_status mbp_name_layer(reader *r, mbp_layer *layer, mbp_slice name);
/* 0 or 1; an empty value leaves the flag as it is. */
mbp_status mbp_read_switch(reader *r, mbp_slice value, int *flag);

/* ---- statements of one operand and key=value settings ---- */

/* The first word of any statement that makes a node. */
const char *mbp_statement_word(mbp_node_kind kind);
/* Whether the word is one of them; if so, the node's kind. */
int mbp_is_setting(mbp_slice word, mbp_node_kind *kind);
mbp_status mbp_read_setting(reader *r, mbp_node *node);
/* Writes the settings, each with a blank before it; returns their length. text has room for MBP_SPEC_SIZE. */
size_t mbp_print_settings(const mbp_net *net, const mbp_node *node, char *text);

#endif
