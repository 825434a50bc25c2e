/* Floor 3: reads a whole graph text into a net, and writes it. */
#ifndef MBP_GRAPH_H
#define MBP_GRAPH_H

#include "net/net.h"

/* Makes a net from a graph text, without kernels and without memory for its parameters. */
mbp_status mbp_graph_read(mbp_net **net, const char *graph, const mbp_allocator *allocator, mbp_error *error);
void mbp_graph_free(mbp_net *net);
/* For a new net whose graph block is from this allocator (NULL: malloc): keeps the allocator, and counts the block. */
void mbp_graph_own(mbp_net *net, const mbp_allocator *allocator);
/* Copies all of the graph and its settings into a net whose block has the same size. */
void mbp_graph_copy(mbp_net *to, const mbp_net *net);
/* mbp_net_text, for a caller who has entered the net (mbp_net_enter). */
size_t mbp_graph_write(const mbp_net *net, char *text, size_t size);
/* Checks a graph text. *numbers: how many parameters and buffers its net has, in total. */
mbp_status mbp_graph_count(const char *graph, int64_t *numbers, const mbp_allocator *allocator, mbp_error *error);
/* An upper bound on memory: mbp_graph_read allocates at most this many bytes plus 1 KiB for a net of this graph text
 * (parameters and buffers are not part of it). Counted are 128 bytes per statement, 512 more per statement that may
 * make a layer, 4 per word after the first, and 16 per word of an output's lists. The least size of a file depends on
 * these numbers (mbp_file_least). */
size_t mbp_graph_cost(const char *graph);

/* The nodes of a part of a net: see mbp_net_part. */
typedef struct mbp_part {
    const int *inputs, *outputs; /* nodes of the net */
    int n_inputs, n_outputs;
    int *number; /* per node: its number in the part; negative: it is not in the part */
    int *first;  /* per layer of the part: the first node with it */
} mbp_part;

/* Fills in number and first. */
mbp_status mbp_part_choose(const mbp_net *net, const mbp_part *part, mbp_error *error);
/* Writes the graph text of the part, for a caller who has entered the net; sizes as those of mbp_net_text. */
size_t mbp_part_write(const mbp_net *net, const mbp_part *part, char *text, size_t size);

#endif
