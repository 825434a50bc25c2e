/* Floor 3: the private structures, and who owns which memory.
 *
 *     net        one block: the graph (nodes, operands, layers, inputs, outputs); one block: parameters, then buffers, then 64 bytes that
 *                kernels may read past the end. Neither ever moves.
 *     workspace  one block: the views below, then everything whose size depends on rows: values, kept z, deltas, gathered inputs,
 *                targets, row weights, and the kernels' scratch; then 64 readable bytes. Grown by making a new one.
 *     trainer    one block: the structure, its plan of the backward pass, pending buffers, gradients, slots, then 64 readable bytes. Never
 *                moves. One block: the average of the parameters, where one is asked for. */
#ifndef MBP_NET_H
#define MBP_NET_H

#include <stdatomic.h>

#include "catalog.h"
#include "floats.h"
#include "threads.h"

enum { MBP_NAME_SIZE = 64, MBP_READABLE = 64, MBP_ALIGNMENT = 64, MBP_IDLE_MAX = 64 };

/* What an element costs, in floating-point operations of a product that take as long. */
enum { MBP_ELEMENT_WORK = 8, MBP_UPDATE_WORK = 16 };

typedef enum mbp_node_kind { MBP_INPUT, MBP_DENSE, MBP_ELEMENTWISE, MBP_ADD, MBP_MULTIPLY, MBP_CONCAT, MBP_DROPOUT, MBP_NOISE,
                             MBP_BATCH_NORM, MBP_LAYER_NORM, MBP_KINDS } mbp_node_kind;

typedef struct mbp_node {
    mbp_node_kind kind;
    int layer; /* into layers; -1: none */
    int input; /* MBP_INPUT: which one */
    int operands, first_operand; /* how many, and where they start in net->operands */
    int reached; /* whether an output depends on it */
    int64_t width;
    mbp_formula activation; /* MBP_DENSE and MBP_ELEMENTWISE; of MBP_DROPOUT (rate) and MBP_NOISE (std) the parameters alone */
} mbp_node;

/* What a layer is set to besides its shape, as mbp_layer_settings has it: of all kinds the factor of the learning rate; of MBP_DENSE the
 * penalty l1 |w|_1 + l2 / 2 |w|_2^2 of its weights, and the largest norm of a unit's incoming weights (0: none). */
enum { MBP_LAYER_LR, MBP_LAYER_L1, MBP_LAYER_L2, MBP_LAYER_MAX_NORM };
enum { MBP_NORM_EPS = 1, MBP_NORM_MOMENTUM };

typedef struct mbp_layer {
    char name[MBP_NAME_SIZE];
    mbp_node_kind kind;   /* MBP_DENSE; MBP_BATCH_NORM and MBP_LAYER_NORM have in = 1, gamma as weight and beta as bias */
    int64_t in, out;
    int64_t weight, bias; /* offsets in the flat vector; bias -1: none */
    int tensor;           /* the number of its first tensor */
    int64_t running;      /* MBP_BATCH_NORM: offset in the buffers of the running mean, then variance; -1: none */
    int frozen;
    double setting[MBP_PARAMETERS_MAX];  /* by mbp_layer_settings */
    mbp_formula activation, initialiser; /* MBP_DENSE */
} mbp_layer;

typedef struct mbp_output {
    int node, link;
} mbp_output;

typedef struct mbp_workspace mbp_workspace;

struct mbp_net {
    const mbp_allocator *allocator; /* NULL, or own_allocator */
    mbp_allocator own_allocator;
    const mbp_kernels *kernels, *random; /* of the dtype; of the same variant for double, where noise is drawn */
    mbp_dtype dtype;
    size_t item; /* bytes of an element */
    uint64_t seed;
    int nodes, operand_count, layers, inputs, outputs;
    mbp_node *node;
    int *operands;
    mbp_layer *layer;
    int *names;          /* layer numbers + 1 by the hash of their names, 0: none (statements.c) */
    uint32_t names_mask; /* how many there are, a power of 2, less 1 */
    int *input_nodes;
    mbp_output *output;
    size_t graph_bytes, block_bytes;
    int64_t params, buffers;
    char *block;
    char *notes; /* a text of the program's own; NULL: none */
    size_t notes_bytes;
    unsigned layers_version; /* counts changes of layers (frozen, settings), so that trainers know when to plan anew */
    mbp_pool *pool;
    atomic_int threads;                          /* the limit; 0: none */
    _Atomic(mbp_workspace *) idle[MBP_IDLE_MAX]; /* of predictions that are over; each taken by an exchange, which no fork can leave half done */
};

/* The settings of a kind of layer, as a parameter text of formulas.def (statements.c). */
const char *mbp_layer_settings(mbp_node_kind kind);
/* A network without its parameters (graph.c). */
mbp_status mbp_graph_read(mbp_net **net, const char *graph, const mbp_allocator *allocator, mbp_error *error);
void mbp_graph_free(mbp_net *net);
/* How many numbers, parameters and buffers, a valid graph text asks for. */
mbp_status mbp_graph_count(const char *graph, int64_t *numbers, const mbp_allocator *allocator, mbp_error *error);
/* No fewer bytes than a network of the graph text takes, its parameters and a KiB aside: 128 for a statement, 512 for one of a layer, 4 for
 * each word after the first. Files depend on these numbers (file.h). */
size_t mbp_graph_cost(const char *graph);
const mbp_allocator *mbp_net_allocator(const mbp_net *net);
/* Gives the net a text of its allocator's, checked by mbp_notes_check, in a block of so many bytes; NULL: none. */
void mbp_net_keep_notes(mbp_net *net, char *notes, size_t bytes);
mbp_status mbp_notes_check(const char *notes, mbp_error *error);

/* ---- rows of the caller's arrays (array.c) ---- */

/* Which rows: those numbered index[first ...], or first, first + 1, ... when index is NULL. */
typedef struct mbp_selection {
    const int64_t *index;
    int64_t first, count;
} mbp_selection;

/* Refuses an array that cannot be `what` with so many columns; rows -1: any number. */
mbp_status mbp_array_check(const mbp_array *array, const char *what, int which, int64_t rows, int64_t cols, mbp_error *error);
/* Whether the selected rows can be used where they are, as a view in this dtype. */
int mbp_array_in_place(const mbp_array *array, mbp_selection rows, mbp_dtype dtype, mbp_view *view);
/* Whether two checked arrays have a byte in common; of arrays with different strides, whether one reaches into the other. */
int mbp_array_overlap(const mbp_array *a, const mbp_array *b);
/* Copies the selected rows into `to` (net dtype F32 or F64, or I64), converting. */
void mbp_array_gather(const mbp_array *array, mbp_selection rows, mbp_dtype dtype, mbp_view to);

/* ---- workspaces (plan.c) ---- */

typedef enum mbp_need { MBP_PREDICT = 0, MBP_TARGETS = 1, MBP_DELTAS = 2, MBP_INPUT_DELTAS = 4 } mbp_need;

/* Of a norm node, as in mbp_norm. */
typedef struct mbp_statistics {
    double *mean, *variance, *inverse, *sum, *product;
} mbp_statistics;

struct mbp_workspace {
    size_t bytes;
    int64_t rows; /* capacity */
    int needs;    /* mbp_need bits */
    /* Per node. home: its place in this block; value: where y is in this call: at home, or for an input in the caller's memory, or for
     * an output straight in the caller's; z: kept for the derivative, at NULL when y will do; delta: dy, then dz. */
    mbp_view *home, *value, *z, *delta;
    mbp_statistics *statistics; /* per node */
    mbp_view *target_home, *target; /* per output; target.at NULL: labels count */
    int64_t **labels;               /* per output */
    double *weight;                 /* of rows */
    char *pack;                     /* the kernels' scratch, pack_bytes for each of `threads` */
    size_t pack_bytes;
    int threads;
};

/* A workspace with at least these rows and needs, for so many threads: *workspace itself, or a new one in its place. */
mbp_status mbp_workspace_reserve(const mbp_net *net, mbp_workspace **workspace, int64_t rows, int needs, int threads, mbp_error *error);
/* How many threads can share the largest product of so many rows. */
int mbp_product_threads(const mbp_net *net, int64_t rows);
/* Rows of n elements that make a piece of an elementwise pass. */
int64_t mbp_piece_rows(int64_t n);
void mbp_workspace_free(const mbp_net *net, mbp_workspace *workspace);
/* Rows that a prediction handles at a time. */
int64_t mbp_slice_rows(const mbp_net *net);

/* ---- the backward pass's plan (plan.c) ---- */

/* What backward does with a destination: several nodes may write one delta or one gradient; the first stores, later ones add. */
typedef enum mbp_write { MBP_SKIP, MBP_STORE, MBP_ACCUMULATE } mbp_write;

typedef struct mbp_group { /* a run of the flat vector that the update treats alike */
    int64_t offset, length;
    double lr; /* factor of the learning rate */
    int decay; /* whether weight decay acts on it */
    int layer; /* its only layer, or the first of them */
} mbp_group;

typedef struct mbp_plan {
    unsigned layers_version;
    int input_grads, per_tensor;
    mbp_write *edge;  /* per operand: how its delta is written */
    mbp_write *grads; /* per node with a layer: how its layer's gradient is written */
    int *wanted;      /* per node: its delta is needed */
    int *deriver;     /* per node: the dense node that writes its delta last, and then turns dy into dz; -1: none */
    int *scratch;     /* per node and per layer, for making the plan */
    mbp_group *group;
    int groups;
    double *scale; /* per layer: what clipping multiplies the gradients of its groups by in this update */
} mbp_plan;

size_t mbp_plan_bytes(const mbp_net *net);
/* Lays the plan's arrays into `block`. */
void mbp_plan_place(const mbp_net *net, mbp_plan *plan, char *block);
/* per_tensor: each tensor is a group of its own. */
void mbp_plan_make(const mbp_net *net, mbp_plan *plan, int input_grads, int decay_bias, int per_tensor);

/* ---- the trainer (trainer.c) ---- */

typedef struct mbp_objective { /* of one output */
    mbp_formula loss; /* row -1: the caller's own */
    double weight;
    int labels; /* integer labels may be targets */
    int signs;  /* targets are -1 or +1 */
    mbp_interval targets;
} mbp_objective;

/* What every trainer has besides its optimizer's parameters: limits of the gradients that the optimizer sees. */
#define MBP_TRAINER_SETTINGS "clip_norm=inf(0,inf] clip_layer_norm=inf(0,inf] clip_value=inf(0,inf]"
enum { MBP_CLIP_NORM, MBP_CLIP_LAYER_NORM, MBP_CLIP_VALUE };

/* A running average of [parameters, buffers], in a block of its own: after the updates first, first + every, ... */
typedef struct mbp_average {
    char *at; /* NULL: none */
    size_t bytes;
    double decay; /* 1: all count the same */
    int64_t first, every;
} mbp_average;

struct mbp_trainer {
    mbp_net *net;
    size_t bytes;
    atomic_flag busy;
    mbp_formula optimizer;
    int decay, decay_bias; /* where these stand among its parameters, looked up once */
    mbp_running running;
    uint64_t seed; /* of dropout and noise */
    mbp_objective *objective; /* per output */
    mbp_plan plan;
    char *grads;
    void *slots[MBP_SLOTS_MAX];
    int slot_count;
    char *pending;  /* the buffers after the next update */
    int is_pending; /* whether a training pass came after the last update */
    mbp_workspace *workspace;
    mbp_chance chance;       /* of the pass whose values are in the workspace: seed, step, first row */
    int64_t forward_rows;    /* rows whose values are in the workspace; 0: none */
    unsigned forward_layers; /* the net's layers_version as they were computed */
    int64_t input_grad_rows; /* rows whose input gradients are; 0: none */
    int nonfinite;           /* set by the products that finish a gradient */
    double setting[MBP_PARAMETERS_MAX];
    mbp_average average;
};

/* Takes the trainer for one call, or refuses; leave passes the call's status on. */
mbp_status mbp_trainer_enter(mbp_trainer *trainer, mbp_error *error);
mbp_status mbp_trainer_leave(mbp_trainer *trainer, mbp_status status);
/* How many states the average is of, after so many updates as there were. */
int64_t mbp_average_count(const mbp_trainer *trainer);
/* Makes room for a batch in the trainer's workspace. */
mbp_status mbp_trainer_reserve(mbp_trainer *trainer, int64_t rows, int needs, mbp_error *error);

/* ---- a batch, checked and brought into a workspace (batch.c) ---- */

mbp_status mbp_inputs_check(const mbp_net *net, const mbp_array *x, int n_x, int64_t *rows, mbp_error *error);
mbp_status mbp_batch_check(const mbp_trainer *trainer, const mbp_batch *batch, int64_t *rows, mbp_error *error);
/* Sets the workspace's values of the inputs, and all other values to their homes. */
void mbp_inputs_load(const mbp_net *net, mbp_workspace *workspace, const mbp_array *x, mbp_selection rows);
/* Sets targets, labels and row weights; *total: the sum of the weights. */
mbp_status mbp_targets_load(const mbp_trainer *trainer, const mbp_batch *batch, mbp_selection rows, double *total, mbp_error *error);
/* Refuses a sum of row weights that nothing can be divided by. */
mbp_status mbp_total_check(double total, mbp_error *error);

/* The mean loss of several batches, each counted by the sum of its row weights. */
typedef struct mbp_mean {
    double sum, total, value;
} mbp_mean;
/* sum: of weight x loss over the batch's rows; total: of the weights. */
void mbp_mean_add(mbp_mean *mean, double sum, double total);

/* ---- the passes (passes.c) ---- */

/* Values of all nodes up to `last`, from the inputs in the workspace. trainer: in training, by its chance; NULL: in inference. */
void mbp_forward_pass(const mbp_net *net, mbp_workspace *workspace, int64_t rows, int last, mbp_trainer *trainer);
/* Gradients from the deltas of the outputs, and `share` of those of the layers' penalties; accumulate: added to those that are there. */
void mbp_backward_pass(mbp_trainer *trainer, int64_t rows, int accumulate, double share);

/* ---- running statistics (norms.c) ---- */

/* Refuses a training batch of one row where its columns' statistics are wanted. */
mbp_status mbp_statistics_check(const mbp_net *net, int64_t rows, mbp_error *error);
/* What the running statistics become by the pass in the workspace, into `pending`; accumulate: on top of what is pending. */
void mbp_statistics_prepare(mbp_trainer *trainer, int64_t rows, int accumulate);
/* Takes over what is pending. */
void mbp_statistics_commit(mbp_trainer *trainer);

/* ---- the update (apply.c) ---- */

/* The status of gradients that are not finite; names the first layer that has one. */
mbp_status mbp_nonfinite_fail(const mbp_trainer *trainer, mbp_error *error);
/* Parameters from gradients, which are finite, over all groups of the plan; then the limits of norms, and the average. */
void mbp_update_pass(mbp_trainer *trainer);

/* ---- the step (step.c) ---- */

/* The weighted loss of the rows in the trainer's workspace over `total`; with gradients into the deltas of the outputs, or without. */
double mbp_loss_pass(mbp_trainer *trainer, int64_t rows, double total, int gradients);
/* Load, forward, loss, backward, update for some rows of a checked batch, in a workspace that has room. mean: the loss is added to it;
 * or NULL. */
mbp_status mbp_step_rows(mbp_trainer *trainer, const mbp_batch *batch, mbp_selection rows, double *loss, mbp_mean *mean, mbp_error *error);

#endif
