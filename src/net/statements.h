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

/* The statements that choose columns or change positions (reshape.c). Each reads the words after the first. */
mbp_status mbp_read_slice(mbp_cursor *c, mbp_node *node);
mbp_status mbp_read_grid(mbp_cursor *c, mbp_node *node);
mbp_status mbp_read_window(mbp_cursor *c, mbp_node *node);
mbp_status mbp_read_pool(mbp_cursor *c, mbp_node *node);
mbp_status mbp_read_repeat(mbp_cursor *c, mbp_node *node);
mbp_status mbp_read_last(mbp_cursor *c, mbp_node *node);
/* The settings of a new recurrent layer; those of the node, and its shape. */
mbp_status mbp_read_cell(mbp_cursor *c, const mbp_node *node, const mbp_settings *found, mbp_layer *layer);
mbp_status mbp_read_direction(mbp_cursor *c, mbp_node *node, const mbp_settings *found);
/* Gives a node the positions of its operands, which must be the same, and refuses rows of too many numbers. */
mbp_status mbp_share_positions(mbp_cursor *c, mbp_node *node, const char *word);
/* Writes the settings of a window or a pool; nothing for other nodes. */
void mbp_put_window(mbp_writer *w, const mbp_node *node);

/* Writes the settings of a recurrent layer, and those of a recurrent node; nothing for other nodes. */
void mbp_put_recurrent(mbp_writer *w, const mbp_layer *layer);
void mbp_put_direction(mbp_writer *w, const mbp_net *net, const mbp_node *node, const int *number);
const char *mbp_cell_name(mbp_cell_kind cell);

/* The texts of `recurrent`. From MBP_LAYER_KEYS on they are those of the node: a layer that exists may have them. */
#define MBP_RECURRENT_TEXTS "layer units cell init bias bias_init frozen recurrent_init reverse state"
enum { MBP_LAYER_KEYS = 8 };

/* The settings with numbers of `slice`, `grid` and `repeat`. */
#define MBP_SLICE_NUMBERS "from=-1[0,inf) to=-1[0,inf)"
#define MBP_GRID_NUMBERS "height=-1[1,inf) width=-1[1,inf)"
#define MBP_REPEAT_NUMBERS "times=-1[1,inf)"

/* Writes the statement of a node. new_layer: also the settings of its layer, since this is the first node with it.
 * number: the number of each node in the text; NULL: its own. */
void mbp_statement_write(mbp_writer *w, const mbp_net *net, const mbp_node *node, int new_layer, const int *number);
/* Writes the statement of an input of a part: ids, if the node has them. */
void mbp_statement_write_input(mbp_writer *w, const mbp_node *node);

#endif
