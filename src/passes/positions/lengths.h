/* Floor 5: sequences of different length. How many positions of each row are there: mbp_workspace.valid. */
#ifndef MBP_LENGTHS_H
#define MBP_LENGTHS_H

#include "arrays/array.h"
#include "net/workspace.h"

/* Whether rows have lengths in this call. */
static inline int mbp_has_lengths(const mbp_workspace *w) { return MICROBP_POSITIONS && w->valid; }
/* How many positions of each row of a node are there; NULL: all. */
static inline const int32_t *mbp_valid_of(const mbp_workspace *w, int id) {
    return mbp_has_lengths(w) ? w->valid[id] : NULL;
}

/* What a call needs of its workspace. lengths NULL: there are none. */
static inline int mbp_lengths_needs(const mbp_array *lengths) { return MICROBP_POSITIONS && lengths ? MBP_LENGTHS : 0; }

/* Refuses lengths that do not fit the net or its rows. */
mbp_status mbp_lengths_check(const mbp_net *net, const mbp_array *lengths, int64_t rows, mbp_error *error);

/* Sets mbp_workspace.valid for these rows. lengths NULL: every position is there. */
void mbp_lengths_set(const mbp_net *net, mbp_workspace *w, const mbp_array *lengths, const mbp_selection *rows);
static inline void mbp_lengths_load(const mbp_net *net, mbp_workspace *w, const mbp_array *lengths,
                                    const mbp_selection *rows) {
    if (MICROBP_POSITIONS)
        w->valid = NULL;
    if (MICROBP_POSITIONS && lengths)
        mbp_lengths_set(net, w, lengths, rows);
}

/* Of an input's rows, which are in the workspace: sets to 0 what is beyond their lengths, and leaves out ids there. */
void mbp_lengths_cut(const mbp_net *net, mbp_workspace *w, int input, int64_t rows);
/* Whether an id is beyond the length of its row. */
int mbp_is_beyond(const mbp_net *net, const mbp_array *lengths, int input, int64_t row, int64_t column);

/* Sets the positions of rows to 0 that are not there. The rows of `view` are `ld` elements apart. */
void mbp_clear_beyond(const mbp_net *net, const mbp_workspace *w, int id, int64_t rows, mbp_view view, int64_t ld);
/* How many positions of all rows are there. w NULL: all. */
static inline int64_t mbp_count_valid(const mbp_net *net, const mbp_workspace *w, int id, int64_t rows) {
    const int32_t *valid = w ? mbp_valid_of(w, id) : NULL;
    int64_t count = 0;
    for (int64_t r = 0; r < rows && valid; r++)
        count += valid[r];
    return valid ? count : rows * mbp_positions(&net->node[id]);
}
/* Copies the positions of x, the operand of a node, that are there, to the front of the node's values. */
mbp_view mbp_pack_valid(const mbp_net *net, const mbp_workspace *w, int id, int64_t rows, mbp_view x);

#endif
