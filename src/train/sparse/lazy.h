/* Floor 6: the sparse layers of a trainer: those that sparse rows have fed. A step changes only the rows of their
 * weights that its batch names. What the others miss, such as weight decay, they catch up on before they are used. */
#ifndef MBP_LAZY_H
#define MBP_LAZY_H

#include "net/workspace.h"

/* While the gradients of several processes are added: whether this one is; mixed: with a dense one, too. */
typedef enum mbp_joint_kind { MBP_NOT_JOINT, MBP_JOINT, MBP_JOINT_MIXED } mbp_joint_kind;

/* A sparse layer, and the steps since all its rows were up to date. */
typedef struct mbp_lazy_layer {
    int64_t count, room; /* of these steps; how many there may be, a power of 2 */
    uint32_t *seen;      /* per row: how many of the steps it has caught up on */
    double others;       /* the factor of each of these steps for the slots besides that of mbp_idle */
    /* MBP_IDLE_SCALED: product[i] is the factor of the first i steps for the parameters. MBP_IDLE_LINEAR: the matrices
     * of the steps, then level by level the products of two neighbours of the level before. */
    double *product, (*matrix)[4];
    double constants[MBP_CONSTANTS_MAX]; /* MBP_IDLE_REPEATED: of the last step */
    char *zeros;                         /* MBP_IDLE_REPEATED: a gradient of 0 */
    int slot;                            /* of mbp_idle */
    mbp_joint_kind joint;
    char *grad;               /* the block of the gradient */
    size_t bytes, grad_bytes; /* of the blocks of these numbers and of the gradient */
} mbp_lazy_layer;

typedef struct mbp_lazy {
    mbp_late late; /* in the list of the net while rows are not up to date */
    const mbp_net *net;
    mbp_memory *memory;
    int optimizer, slot_count;
    void *const *slots;
    mbp_lazy_layer *layer; /* per layer of the net */
    mbp_sparse_grad *grad; /* the same */
    /* Whether rows have caught up since the last update; whether some of them may be in none of the batches of the next
     * one. */
    int is_ahead, is_uneven;
    char *joint; /* what several processes exchange; NULL: nothing yet */
    size_t joint_bytes;
} mbp_lazy;

/* What a step does with a sparse layer. */
typedef struct mbp_lazy_step {
    double constants[MBP_CONSTANTS_MAX];
    mbp_terms terms;
    mbp_idle idle;
} mbp_lazy_step;

/* A new one without sparse layers; NULL: no memory. idle: the kind of the optimizer's steps. */
mbp_lazy *mbp_lazy_create(const mbp_net *net, mbp_memory *memory, int optimizer, void *const *slots, int slot_count);
void mbp_lazy_free(mbp_lazy *lazy); /* all rows must be up to date */
/* Makes room for what a sparse layer has. idle: of the optimizer. */
mbp_status mbp_lazy_add(mbp_lazy *lazy, int layer, const mbp_idle *idle, mbp_error *error);
/* Makes room for gradients of `rows` rows; merges: of several passes. */
mbp_status mbp_lazy_reserve(mbp_lazy *lazy, int layer, int64_t rows, int merges, mbp_error *error);
/* Makes lazy->joint at least as large. */
mbp_status mbp_lazy_join(mbp_lazy *lazy, size_t bytes, mbp_error *error);
/* Makes a layer sparse. Its gradient, for which there is room, becomes these rows of `dense`; NULL: rows 0, 1, ... */
void mbp_lazy_start(mbp_lazy *lazy, int layer, const int32_t *rows, int64_t count, const char *dense);
/* Writes the gradient into the same rows of `dense`; from NULL: zeros instead. */
void mbp_lazy_spread(const mbp_sparse_grad *g, size_t row_bytes, const char *from, char *dense);
/* Brings these rows of a layer up to date; NULL: all. Behind the gate. */
void mbp_lazy_catch_up(mbp_lazy *lazy, int layer, const int32_t *rows, int64_t count);
/* Updates the rows with a gradient of a layer, and counts the step for the others. Behind the gate. */
void mbp_lazy_update(mbp_lazy *lazy, int layer, const mbp_lazy_step *step);
/* Scales a row of an embedding to its max_norm, if its norm is above that. */
void mbp_limit_row(const mbp_net *net, int layer, void *row);
/* After the updates: adds the trainer to the list of the net if rows are not up to date now. */
void mbp_lazy_list(mbp_lazy *lazy);
#endif
