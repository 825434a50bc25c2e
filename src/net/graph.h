/* Floor 3: reads a whole graph text into a net, and writes it. */
#ifndef MBP_GRAPH_H
#define MBP_GRAPH_H

#include "net/net.h"

/* Makes a net from a graph text, without kernels and without memory for its parameters. */
mbp_status mbp_graph_read(mbp_net **net, const char *graph, const mbp_allocator *allocator, mbp_error *error);
void mbp_graph_free(mbp_net *net);
/* mbp_net_text, for a caller who has entered the net (mbp_net_enter). */
size_t mbp_graph_write(const mbp_net *net, char *text, size_t size);
/* Checks a graph text. *numbers: how many parameters and buffers its net has, in total. */
mbp_status mbp_graph_count(const char *graph, int64_t *numbers, const mbp_allocator *allocator, mbp_error *error);
/* An upper bound on memory: mbp_graph_read allocates at most this many bytes plus 1 KiB for a net of this graph text
 * (parameters and buffers are not part of it). Counted are 128 bytes per statement, 512 more per statement that may
 * make a layer, and 4 per word after the first. The least size of a file depends on these numbers (mbp_file_least). */
size_t mbp_graph_cost(const char *graph);

#endif
