/* Floor 4: what a pass exchanges with those of other processes. */
#ifndef MBP_PEERS_H
#define MBP_PEERS_H

#include <stdint.h>

struct mbp_norm;

typedef struct mbp_peers {
    int64_t rank, ranks; /* of this process, and how many there are */
    int64_t rows;        /* of the pass, in all processes */
    int failed;          /* what an exchange has returned that failed; then all later ones do nothing. 0: none has */
    /* Replaces numbers by their sums over all processes, added in the order of the ranks. */
    void (*sum)(struct mbp_peers *peers, double *values, int64_t count);
    /* After a node's part of the backward pass of a step: others may get gradients that are final. NULL: not yet. */
    void (*ended)(struct mbp_peers *peers, int id);
    /* Of a batch_norm: its statistics become those of the rows of all processes; the sums of its backward pass, too. */
    void (*join_statistics)(struct mbp_peers *peers, const struct mbp_norm *norm);
    void (*join_sums)(struct mbp_peers *peers, const struct mbp_norm *norm);
} mbp_peers;

#endif
