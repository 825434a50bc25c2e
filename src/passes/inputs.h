/* Floor 6: brings the net's inputs from callers' arrays into a workspace. */
#ifndef MBP_INPUTS_H
#define MBP_INPUTS_H

#include "net/workspace.h"
#include "arrays/array.h"

/* Refuses NULL and a wrong number of arrays: there must be one per input or output (noun). */
mbp_status mbp_count_check(const char *argument, const void *arrays, int given, const char *noun, int expected,
                           mbp_error *error);
/* Refuses sparse inputs and ids; why: "a Jacobian needs". */
mbp_status mbp_inputs_dense_check(const mbp_net *net, const mbp_array *x, const char *why, mbp_error *error);
/* lengths: as in mbp_batch; NULL: none. */
mbp_status mbp_inputs_check(const mbp_net *net, const mbp_array *x, int n_x, const mbp_array *lengths, int64_t *rows,
                            mbp_error *error);
/* Sets where the workspace's values are: an input in the caller's array if it can be used in place, otherwise copied to
 * its home; all other nodes at home. */
void mbp_inputs_load(const mbp_net *net, mbp_workspace *w, const mbp_array *x, const mbp_selection *rows);
/* After it, where rows have lengths (mbp_lengths_load): copies inputs that are in the caller's memory, and sets to 0
 * what is beyond the lengths. */
void mbp_inputs_cut(const mbp_net *net, mbp_workspace *w, const mbp_array *x, const mbp_selection *rows);
/* Moves the gradients of the inputs from the selected rows, whose numbers are in ascending order, to the places of
 * these rows among all `rows`; those of the other rows are 0. */
void mbp_input_grads_spread(const mbp_net *net, const mbp_workspace *w, mbp_selection selected, int64_t rows);
/* mbp_array_gather in the net's dtype, shared among threads. */
void mbp_gather(const mbp_net *net, const mbp_array *array, mbp_selection rows, mbp_view to);

#endif
