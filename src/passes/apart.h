/* Floor 6: outputs of a prediction that share memory with other arrays. */
#ifndef MBP_APART_H
#define MBP_APART_H

#include "net/net.h"
#include "arrays/array.h"

/* Refuses outputs that share memory with an input, with each other or with the parameters: the inputs of a slice are
 * read after the outputs of other slices were written. All arrays must have been checked. */
mbp_status mbp_outputs_apart(const mbp_net *net, const mbp_array *x, const mbp_array *out, int n_out, mbp_error *error);

#endif
