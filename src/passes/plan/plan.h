/* Floor 4: the plan of the backward pass. It is made once, and rebuilt when layers are frozen, unfrozen or changed. */
#ifndef MBP_PLAN_H
#define MBP_PLAN_H

#include "net/net.h"

/* How backward writes a delta or a gradient. If several nodes write to the same one, the first stores and the others
 * add, so nothing has to be zeroed. */
typedef enum mbp_write { MBP_SKIP, MBP_STORE, MBP_ACCUMULATE } mbp_write;

/* A range of the flat vector with the same settings in the update. */
typedef struct mbp_group {
    int64_t offset, length;
    double lr; /* factor of the learning rate */
    int decay; /* whether weight decay acts on it */
    int layer; /* its layer, or the first of its layers */
} mbp_group;

typedef struct mbp_plan {
    unsigned layers_version; /* the net's, when the plan was made */
    int input_grads, per_tensor;
    mbp_write *edge;  /* per operand: how its delta is written */
    mbp_write *grads; /* per node with a layer: how its layer's gradient is written */
    int *wanted;      /* per node: whether its delta is needed */
    int *deriver;     /* per node: the dense node that writes its delta last and turns it from dy into dz; -1: none */
    int *scratch;     /* only used while the plan is made */
    mbp_group *group;
    int groups;
    char *sparse;  /* per layer: whether its weight is in no group, because its gradient has only some rows */
    double *scale; /* per layer: in this update, clipping multiplies the gradients of its groups by this */
} mbp_plan;

/* Whether `next` is the range right after `group`, with the same learning rate. */
static inline int mbp_group_follows(const mbp_group *group, const mbp_group *next) {
    return group->offset + group->length == next->offset && group->lr == next->lr;
}

size_t mbp_plan_bytes(const mbp_net *net);
/* Places the plan's arrays in `block`, which has mbp_plan_bytes bytes. */
void mbp_plan_place(const mbp_net *net, mbp_plan *plan, char *block);
/* decay_bias: weight decay acts on biases too. per_tensor: each tensor is a group of its own. */
void mbp_plan_make(const mbp_net *net, mbp_plan *plan, int input_grads, int decay_bias, int per_tensor);
/* Whether all parameters of the block have a gradient: no layer is frozen, or not in this net. */
int mbp_plan_is_whole(const mbp_net *net, const mbp_plan *plan);

#endif
