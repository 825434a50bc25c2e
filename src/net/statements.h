/* Floor 3: reads and writes single statements of a graph. Each kind of statement has a row in a table and a function
 * (statements.c). */
#ifndef MBP_STATEMENTS_H
#define MBP_STATEMENTS_H

#include "net/words.h"

/* The numeric settings of this kind of layer, as a parameter text (spec.h); "": none. */
const char *mbp_layer_settings(mbp_node_kind kind);
/* The first word of the statement that makes this kind of node. */
const char *mbp_statement_word(mbp_node_kind kind);
/* Whether a statement that starts with this word makes a node of this kind. */
int mbp_statement_is(mbp_slice word, mbp_node_kind kind);
/* Whether a statement that starts with this word may make a layer. */
int mbp_statement_has_layer(mbp_slice word);

/* Reads a statement whose first word has been taken, and adds its node or output to the net. */
mbp_status mbp_statement_read(mbp_cursor *c, mbp_slice word);

/* Writes the statement of a node. new_layer: also the settings of its layer, since this is the first node with it.
 * number: the number of each node in the text; NULL: its own. */
void mbp_statement_write(mbp_writer *w, const mbp_net *net, const mbp_node *node, int new_layer, const int *number);
/* Writes the statement of an input of a part: ids, if the node has them. */
void mbp_statement_write_input(mbp_writer *w, const mbp_node *node);

#endif
