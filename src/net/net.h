/* Floor 3: what a net is, and who owns which memory.
 *
 *     one block   struct mbp_net and the arrays of its graph: nodes, operands, layers, names, inputs, outputs
 *     one block   the lock; the parameters, then the buffers, then MBP_READABLE bytes that kernels may read. A net and
 *                 its parts share it; the last of them frees it.
 *     one block   the notes, if there are any
 *     one block   for each idle workspace (workspace.h), and for each shelf of places for them after the first
 *
 * The first two never move, so pointers into them stay valid as long as the net exists. */
#ifndef MBP_NET_H
#define MBP_NET_H

#include "kernels/kernels.h"
#include "kernels/catalog.h"
#include "net/lock/lock.h"
#include "system/memory.h"
#include "system/threads/pool.h"

enum { MBP_NODES_MAX = 1 << 14, MBP_NAME_SIZE = 64, MBP_READABLE = 64 };

typedef enum mbp_node_kind {
    MBP_NODE_INPUT,
    MBP_NODE_IDS,
    MBP_NODE_DENSE,
    MBP_NODE_EMBEDDING,
    MBP_NODE_ACTIVATION,
    MBP_NODE_ADD,
    MBP_NODE_SUBTRACT,
    MBP_NODE_MULTIPLY,
    MBP_NODE_CONCAT,
    MBP_NODE_SLICE,
    MBP_NODE_DROPOUT,
    MBP_NODE_NOISE,
    MBP_NODE_BATCH_NORM,
    MBP_NODE_LAYER_NORM,
    MBP_NODE_SCALE,
    MBP_NODE_STANDARDIZE,
    MBP_NODE_GRID, /* from here on: kinds that change positions */
    MBP_NODE_WINDOW,
    MBP_NODE_POOL,
    MBP_NODE_REPEAT,
    MBP_NODE_LAST,
    MBP_NODE_RECURRENT,
    MBP_NODE_KINDS = MICROBP_POSITIONS ? MBP_NODE_RECURRENT + 1 : MBP_NODE_GRID /* those that this build has */
} mbp_node_kind;

/* There are at most MBP_NODES_MAX nodes, layers and inputs. graph.h limits the size of the structure. */
typedef struct mbp_node {
    mbp_node_kind kind : 8;
    /* 1: only dense nodes read this window of several positions, and gather its values themselves, some rows at a time.
     * It has no memory for values and delta: their `at` is NULL. */
    unsigned char gathered;
    int16_t layer;               /* the number of its layer; -1: it has none */
    int16_t input;               /* of an input or ids: the number of the input; others: -1 */
    int16_t home;                /* see column */
    int operands, first_operand; /* how many, and where they start in net->operands */
    int uses; /* how many outputs, and operands of used nodes, refer to this node; 0: no output depends on it */
    /* home: the first used concat that has this node as an operand; -1: none. The node's values are stored in the
     * concat's columns, from `column` on, so the concat need not copy them. Without a home, the values have memory of
     * their own. Inputs have no home, because their values may be in the caller's memory; slices neither, because their
     * values are those of their operand. home of a slice: its operand, if the slice's delta is stored in the columns of
     * the operand's delta; -1: it has memory of its own. Nodes with several positions, and grids, have no home. */
    int column;
    /* A row of the node's value is positions x width numbers: a grid of `height` rows of positions. Of an input 1. */
    int positions, height;
    int64_t width; /* the columns of a position */
    /* Used by dense, embedding and activation nodes. Others use only its parameters: dropout and noise (rate, std),
     * slices (mbp_column), ids (MBP_IDS_LEVELS), windows and pools (mbp_window_of), recurrent (mbp_is_reverse). */
    mbp_formula activation;
} mbp_node;

/* Of a slice: its columns are FROM to TO - 1 of its operand. If the backward pass does not add to the operand's delta,
 * it sets columns LOW to HIGH - 1 of it: to the slice's delta, and to 0 on both sides of that. */
enum { MBP_COLUMN_FROM, MBP_COLUMN_TO, MBP_COLUMN_LOW, MBP_COLUMN_HIGH };
static inline int64_t mbp_column(const mbp_node *slice, int which) {
    return (int64_t)slice->activation.parameters[which];
}

/* Of ids: 0 to LEVELS - 1 are valid, or with HASH 1 any number is hashed to one of these. */
enum { MBP_IDS_LEVELS, MBP_IDS_HASH };
static inline int mbp_is_ids(const mbp_node *node) { return MICROBP_SPARSE && node->kind == MBP_NODE_IDS; }
static inline int64_t mbp_ids_levels(const mbp_node *ids) {
    return (int64_t)ids->activation.parameters[MBP_IDS_LEVELS];
}
static inline int mbp_is_hashed(const mbp_node *ids) { return ids->activation.parameters[MBP_IDS_HASH] != 0; }
/* Whether nodes or layers of this kind have a weight (in, out), which they multiply by. */
static inline int mbp_is_embedding(mbp_node_kind kind) { return MICROBP_SPARSE && kind == MBP_NODE_EMBEDDING; }
static inline int mbp_is_recurrent(mbp_node_kind kind) { return MICROBP_POSITIONS && kind == MBP_NODE_RECURRENT; }
static inline int mbp_has_matrix(mbp_node_kind kind) {
    return kind == MBP_NODE_DENSE || mbp_is_embedding(kind) || mbp_is_recurrent(kind);
}
/* Those whose operand may have sparse rows. */
static inline int mbp_reads_sparse(mbp_node_kind kind) { return kind == MBP_NODE_DENSE || mbp_is_embedding(kind); }
/* Those whose layers have penalties, max_norm and bias_lr. */
static inline int mbp_is_penalized(mbp_node_kind kind) { return kind == MBP_NODE_DENSE || mbp_is_recurrent(kind); }

/* How many positions a row has. */
static inline int mbp_positions(const mbp_node *node) { return MICROBP_POSITIONS ? node->positions : 1; }

static inline int mbp_is_gathered(const mbp_node *node) { return MICROBP_POSITIONS && node->gathered; }

/* Whether values of a node of this kind may be those of its operand, seen as others. */
static inline int mbp_is_view(mbp_node_kind kind) {
    return (MICROBP_SLICE && kind == MBP_NODE_SLICE) ||
           (MICROBP_POSITIONS && (kind == MBP_NODE_GRID || kind == MBP_NODE_LAST));
}

/* The parameters of a window or a pool, each for the height, then for the width. The row of its formula, of a pool: how
 * it makes one number of several. */
enum { MBP_SIZE, MBP_STRIDE = 2, MBP_PAD = 4, MBP_DILATION = 6 };
enum { MBP_POOL_MAX, MBP_POOL_MEAN };
static inline int mbp_is_pool(const mbp_node *node) { return MICROBP_POSITIONS && node->kind == MBP_NODE_POOL; }
static inline int64_t mbp_window_of(const mbp_node *window, int which) {
    return (int64_t)window->activation.parameters[which];
}

/* Of a recurrent node: 1: it runs from the last position to the first. */
static inline int mbp_is_reverse(const mbp_node *node) { return node->activation.parameters[0] != 0; }

/* The cells of recurrent layers. The columns of their weight are as many gates of `units` columns each:
 * tanh; r, z, n; i, f, g, o. */
typedef enum mbp_cell_kind { MBP_CELL_TANH, MBP_CELL_GRU, MBP_CELL_LSTM } mbp_cell_kind;
static inline int mbp_cell_gates(mbp_cell_kind cell) {
    return cell == MBP_CELL_LSTM ? 4 : cell == MBP_CELL_GRU ? 3 : 1;
}

/* While the operand of a window is read or its delta is written, a row of it is an image with padding on all sides. */
static inline int64_t mbp_image_height(const mbp_node *window, const mbp_node *from) {
    return from->height + 2 * mbp_window_of(window, MBP_PAD);
}
static inline int64_t mbp_image_across(const mbp_node *window, const mbp_node *from) {
    return from->positions / from->height + 2 * mbp_window_of(window, MBP_PAD + 1);
}
/* Rows of a gathered window that are in memory at a time: about 128 KB, but enough for large tiles. */
static inline int64_t mbp_window_block(const mbp_node *window, size_t item) {
    const int64_t rows = (128 << 10) / (window->width * (int64_t)item);
    return rows < 64 ? 64 : rows / 8 * 8;
}

/* Positions in mbp_layer.setting: for all kinds of layers, for dense layers, for embeddings, for norms. */
enum { MBP_LAYER_LR };
enum { MBP_LAYER_L1 = 1, MBP_LAYER_L2, MBP_LAYER_MAX_NORM, MBP_LAYER_BIAS_LR };
enum { MBP_EMBEDDING_MAX_NORM = 1 };
enum { MBP_NORM_EPS = 1, MBP_NORM_MOMENTUM };

typedef struct mbp_layer {
    char name[MBP_NAME_SIZE];
    /* Without a matrix (mbp_has_matrix), in = 1; gamma or the gain is the weight, beta or the addend the bias */
    mbp_node_kind kind;
    int64_t in, out;
    int64_t weight, bias; /* offsets in the flat vector; -1: none */
    int tensor;           /* the number of its first tensor */
    /* Offset in the buffers of the means, after which come the variances (batch_norm) or standard deviations
     * (standardize). -1: none */
    int64_t running;
    int frozen;
    int sums; /* of an embedding: 1: adds the rows of all columns of ids; 0: puts them side by side */
    mbp_cell_kind
        cell; /* of a recurrent layer: the first `in` - units rows of its weight are those of x, then come h's */
    double setting[MBP_PARAMETERS_MAX]; /* in the order of mbp_layer_settings */
    /* Of an embedding only initializer; recurrent layers have recurrent_initializer, for the rows of h. */
    union {
        mbp_formula activation, recurrent_initializer;
    };
    mbp_formula initializer, bias_initializer;
} mbp_layer;

/* Of a recurrent layer: the columns of h; the numbers of its state (lstm: h, then c). */
static inline int64_t mbp_units(const mbp_layer *layer) { return layer->out / mbp_cell_gates(layer->cell); }
static inline int64_t mbp_state_width(const mbp_layer *layer) {
    return mbp_units(layer) * (layer->cell == MBP_CELL_LSTM ? 2 : 1);
}
/* How many numbers the bias has: of gru r, z, n and another n, for its part of h alone. */
static inline int64_t mbp_bias_width(const mbp_layer *layer) {
    const int more = mbp_is_recurrent(layer->kind) && layer->cell == MBP_CELL_GRU;
    return layer->out + (more ? mbp_units(layer) : 0);
}

/* What a recurrent node keeps of a position, each `units` columns, the last of which is the h that the cell started
 * from. tanh: that alone. gru: r, z, n, h U + b of n. lstm: i, f, g, o, the c that it started from, tanh(c). */
enum { MBP_GRU_Z = 1, MBP_GRU_N, MBP_GRU_HIDDEN };
enum { MBP_LSTM_F = 1, MBP_LSTM_G, MBP_LSTM_O, MBP_LSTM_C, MBP_LSTM_TANH_C };
static inline int mbp_cell_kept(mbp_cell_kind cell) { return cell == MBP_CELL_LSTM ? 7 : cell == MBP_CELL_GRU ? 5 : 1; }
/* Of gru dz has the gradients of r, z, n's part of h, n, and of lstm those of i, f, g, o. Of tanh it is the delta. */
enum { MBP_CELL_DZ = 4 };

/* Whether the layer has parameters, and training may change them. */
static inline int mbp_layer_trains(const mbp_layer *layer) {
    return !layer->frozen && (layer->weight >= 0 || layer->bias >= 0);
}

/* The factor of the learning rate for a layer's bias. */
static inline double mbp_bias_lr(const mbp_layer *layer) {
    const int own = mbp_is_penalized(layer->kind) && layer->setting[MBP_LAYER_BIAS_LR] >= 0;
    return layer->setting[own ? MBP_LAYER_BIAS_LR : MBP_LAYER_LR];
}

typedef struct mbp_output {
    int node;
    int activation; /* a row of the output activations; -1: not chosen */
} mbp_output;

typedef struct mbp_workspace mbp_workspace;

/* Places of workspaces of finished predictions, to be used again: a list of shelves that only becomes longer. Taking a
 * workspace is a single atomic exchange and giving it back a store, which a fork cannot interrupt half-way. */
typedef void *mbp_place;                       /* an mbp_workspace */
enum { MBP_PLACES = MICROBP_THREADS ? 7 : 1 }; /* 7 and a pointer: a cache line. One thread needs one place */
typedef struct mbp_shelf {
    mbp_place place[MBP_PLACES];
    void *next; /* an mbp_shelf */
} mbp_shelf;

/* What a net and its parts share, before the parameters. */
typedef struct mbp_shared {
    mbp_lock lock; /* of these nets and all their trainers */
    size_t bytes;
    int nets;         /* how many refer to it */
    unsigned changes; /* how often an update or standardize has changed the values */
    mbp_late *late;   /* a list, which only the holder of the net changes; NULL: all rows are up to date */
} mbp_shared;

struct mbp_net {
    const mbp_kernels *kernels;
    mbp_dtype dtype;
    size_t item; /* bytes of an element */
    uint64_t seed;
    int nodes, operand_count, layers, inputs, outputs;
    int ids; /* how many of the inputs have ids */
    mbp_node *node;
    int *operands;
    mbp_layer *layer;
    int *names;          /* a hash table of the layers' names: layer number + 1, or 0 (words.c) */
    uint32_t names_mask; /* its size, a power of 2, less 1 */
    int *input_nodes;
    mbp_output *output;
    size_t graph_bytes;
    int64_t params, buffers; /* how many numbers are in the block; of a part, those of the whole net */
    /* For one row, over the nodes that an output depends on; counted when the graph is read. */
    double flops, largest_product; /* operations of a prediction, and of its largest matrix product */
    int64_t values;                /* the sum of the numbers of the nodes */
    int most_positions;            /* of a node */
    unsigned layers_version; /* goes up when layers are frozen, unfrozen or changed: trainers then make a new plan */
    /* ---- from here on each net has its own; mbp_graph_copy copies what is above ---- */
    mbp_memory memory;
    mbp_allocator own_allocator; /* memory.allocator is NULL or refers to it */
    mbp_shared *shared;
    char *block; /* the parameters, in the block of `shared` */
    char *notes; /* of mbp_net_set_notes; NULL: none */
    size_t notes_bytes;
    /* The scales of outputs (mbp_net_set_scale), one after the other: the number of the output, its means, its standard
     * deviations. NULL: there are none. */
    double *scales;
    int64_t scales_count; /* of doubles */
    size_t scales_bytes;  /* of the block, which may be longer */
    mbp_pool *pool;
    int threads; /* the limit; 0: no limit */
    mbp_shelf idle;
    /* Bytes of the idle workspaces but for one, and the most that a reserve made: see mbp_workspace_give_idle. */
    size_t idle_bytes, idle_reserved;
};

/* For mbp_fail_null: what an argument `net` must point to, to be used or to be set. */
#define MBP_A_NET "a net from mbp_net_create or mbp_net_load"
#define MBP_GETS_NET "an mbp_net *, where the net is stored"

static inline const mbp_allocator *mbp_net_allocator(const mbp_net *net) { return net->memory.allocator; }

/* How many of the net's threads this amount of work is worth. Small work does not ask how many there are. */
static inline int mbp_net_worthwhile(const mbp_net *net, double work) {
    return mbp_is_small(work) ? 1 : mbp_worthwhile_threads(mbp_net_threads(net), work);
}
/* mbp_share with the net's pool and limit of threads. */
static inline void mbp_net_share(const mbp_net *net, double work, int64_t end, int64_t piece, mbp_work run, void *job) {
    mbp_share(net->pool, mbp_is_small(work) ? 1 : mbp_net_threads(net), work, end, piece, run, job);
}

static inline int64_t mbp_output_width(const mbp_net *net, int i) { return net->node[net->output[i].node].width; }
/* How many numbers a row of a node or an output has, in arrays of callers. */
static inline int64_t mbp_row_width(const mbp_node *node) { return mbp_positions(node) * node->width; }
static inline int64_t mbp_output_row(const mbp_net *net, int i) {
    return mbp_row_width(&net->node[net->output[i].node]);
}
/* The means of an output's columns, followed by their standard deviations; NULL: it is not scaled. */
static inline const double *mbp_scale_of(const mbp_net *net, int i) {
    for (int64_t at = 0; MICROBP_SCALES && at < net->scales_count;
         at += 1 + 2 * mbp_output_width(net, (int)net->scales[at]))
        if ((int)net->scales[at] == i)
            return net->scales + at + 1;
    return NULL;
}

/* Holds the net for a call; fails if another thread holds it. */
static inline mbp_status mbp_net_take(mbp_net *net, mbp_error *error) {
    return mbp_lock_take(&net->shared->lock) ? MBP_OK : mbp_lock_fail_busy(error);
}
static inline void mbp_net_give(mbp_net *net) { mbp_lock_give(&net->shared->lock); }

/* Brings all rows up to date, before they are read or changed by others than their trainer. Fails if there are such
 * rows and another thread holds the net. Not behind the gate. */
static inline mbp_status mbp_net_settle(const mbp_net *net, mbp_error *error) {
    mbp_shared *shared = net->shared;
    return MICROBP_SPARSE && MBP_SEE(&shared->late) ? mbp_settle(&shared->lock, &shared->late, error) : MBP_OK;
}

/* Around a change of parameters, buffers, settings or notes: holds the net, and passes the gate alone. */
static inline mbp_status mbp_net_open(mbp_net *net, mbp_error *error) {
    mbp_status status = mbp_net_settle(net, error);
    if (status == MBP_OK)
        status = mbp_net_take(net, error);
    if (status == MBP_OK)
        mbp_gate_enter_alone(&net->shared->lock);
    return status;
}
static inline void mbp_net_close(mbp_net *net) {
    mbp_gate_leave_alone(&net->shared->lock);
    mbp_net_give(net);
}

/* Around a call that only reads them. Must not be nested: a writer that waits in between would wait for ever. */
static inline void mbp_net_enter(const mbp_net *net) { mbp_gate_enter((mbp_lock *)&net->shared->lock); }
static inline void mbp_net_leave(const mbp_net *net) { mbp_gate_leave((mbp_lock *)&net->shared->lock); }

/* The buffers (running statistics). They follow the parameters in the same block. */
static inline char *mbp_net_running(const mbp_net *net) { return net->block + (size_t)net->params * net->item; }

/* Where the numbers of a tensor are. */
static inline char *mbp_net_at(const mbp_net *net, const mbp_tensor *tensor) {
    return (tensor->buffer ? mbp_net_running(net) : net->block) + (size_t)tensor->offset * net->item;
}

/* Makes the net of this text a part of `net`: its layers refer to the parameters of those with the same names. */
mbp_status mbp_net_sharing(mbp_net **part, const mbp_net *net, const char *text, mbp_error *error);
/* Replaces the notes of a new net. They must have passed mbp_notes_check and be in a block of `bytes` bytes from its
 * allocator, which the net then owns. NULL: no notes. */
void mbp_net_keep_notes(mbp_net *net, char *notes, size_t bytes);
/* Refuses options that this build or processor cannot serve. kernels: those of options->isa. */
mbp_status mbp_options_check(const mbp_options *options, const mbp_kernels **kernels, mbp_error *error);
/* Refuses a negative number of threads. */
mbp_status mbp_threads_check(int threads, mbp_error *error);
mbp_status mbp_notes_check(const char *notes, mbp_error *error);

#endif
