/* Floor 4: the states of recurrent nodes between calls, and nets of another length that share parameters.
 *
 * A state has, for each recurrent node that starts from zeros, a matrix with a row for each sequence. A call reads them
 * through views (mbp_carry, workspace.h), and writes those after it to others, which replace them if it succeeds. */
#ifndef MBP_STATES_H
#define MBP_STATES_H

#include "arrays/array.h"
#include "net/workspace.h"

/* Refuses a state that does not fit the net, or has fewer rows than the call. */
mbp_status mbp_state_check(const mbp_state *state, const mbp_net *net, int64_t rows, mbp_error *error);

/* The steps of a call: begin; load, then the pass, for each slice of its rows; at the end, if it succeeded, keep. */
void mbp_state_begin(mbp_state *state);
/* Sets w->carry for the rows of the call from `first` on. Slices may run side by side. */
void mbp_state_load(mbp_state *state, const mbp_net *net, mbp_workspace *w, int64_t first);
void mbp_state_keep(mbp_state *state);

#endif
