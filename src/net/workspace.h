/* Floor 3: what a workspace is: one block with everything whose size depends on rows or threads.
 *
 *     the structure and its arrays of views | per node from the last to the first: values, kept z, delta, statistics |
 *     per input: sparse rows | per output: targets, labels | the scratch of matrix products, for each thread |
 *     MBP_READABLE bytes
 *
 * A workspace serves one call at a time. If a batch is larger than all before it, a larger block replaces this one,
 * before the call changes anything else; all views into the old block become invalid. */
#ifndef MBP_WORKSPACE_H
#define MBP_WORKSPACE_H

#include "net/net.h"
#include "system/csr.h"

/* What a call needs besides the values of nodes. What the build has no code for is 0, and the compiler leaves out what
 * depends on it. */
typedef enum mbp_need {
    MBP_PREDICT = 0,
    MBP_TARGETS = 1 * MICROBP_TRAINING,
    MBP_DELTAS = 2 * MICROBP_TRAINING,
    MBP_INPUT_DELTAS = 4 * MICROBP_TRAINING,
    MBP_WEIGHTS = 8 * MICROBP_TRAINING * MICROBP_GAPS, /* outputs with weights of their own */
    MBP_LENGTHS = 16 * MICROBP_POSITIONS               /* rows of different length */
} mbp_need;

/* The statistics of a norm or a scale node: see mbp_norm (kernels.h). After the means of columns: how many rows they
 * are of. */
typedef struct mbp_statistics {
    double *mean, *variance, *inverse, *sum, *product;
} mbp_statistics;

/* The states of a recurrent node between calls, a row of each for each row of the call. in: its states before the first
 * position; at NULL: zeros. out: gets its states after the last one; at NULL: not wanted. */
typedef struct mbp_carry {
    mbp_view in, out;
} mbp_carry;

/* Of a recurrent node, while its layer is trained. dz: of all positions, as of so many rows; state: of its first state,
 * if that is a node. */
typedef struct mbp_cell_deltas {
    mbp_view dz, state;
} mbp_cell_deltas;

/* How many rows go through all positions of a recurrent node together, and with what they have in cache. */
enum { MBP_CELL_ROWS = 64 };
/* The bytes of each of the two matrices, for h and c, that these rows have at the end of a thread's scratch. */
static inline size_t mbp_cell_block(const mbp_net *net, const mbp_node *node) {
    return mbp_aligned(MBP_CELL_ROWS * (size_t)node->width * net->item);
}
static inline size_t mbp_cell_scratch(const mbp_net *net, const mbp_node *node) {
    return 2 * mbp_cell_block(net, node);
}

/* The weights of h, or their transpose, are copied before many positions use them: some columns at a time side by side,
 * so that products read them where they are instead of packing them each time. Of a copy of k rows so many columns are
 * together; 0: the rows are too long for that. */
enum { MBP_PANEL_BYTES = 128 << 10, MBP_PANEL_UNIT = 64 };
static inline int64_t mbp_panel_columns(const mbp_net *net, int64_t k) {
    return MBP_PANEL_BYTES / (k * (int64_t)net->item) / MBP_PANEL_UNIT * MBP_PANEL_UNIT;
}

/* The weights of an output: row weight times element weight, 0 where the target is missing. */
typedef struct mbp_own {
    double *at;      /* column after column, each with room for all rows */
    int64_t columns; /* 1: the weights of a row are equal; 0: they are those of the row, in mbp_workspace.weight */
} mbp_own;

/* A value of a batch with its place, while they are sorted by columns. */
typedef struct mbp_sparse_entry {
    uint32_t column, row;
    uint64_t value; /* its bits, in the net's dtype */
} mbp_sparse_entry;

/* The rows of an input that sparse arrays may feed, or of ids: each id is a value of 1 in the column that it names, and
 * those of a row are in the order of the columns of ids. Such an input needs no memory for all its columns. */
typedef struct mbp_sparse_input {
    int64_t room;  /* how many values there is room for; 0: none */
    int has_home;  /* whether there is room for dense rows, too */
    int is_sparse; /* in this call */
    mbp_csr rows;
    int64_t *each; /* of ids: start[] of rows of one id each */
    /* While the net is trained: the columns that the rows name, ascending, and their values, column after column. */
    int64_t columns;
    int32_t *column;
    mbp_csr by_column; /* its column[] are rows of the batch; of ids, the numbers of the ids: row * columns + column */
    int32_t *id_row;   /* of ids: the rows, in the order of by_column */
    mbp_sparse_entry *entries[2];
} mbp_sparse_input;

/* The gradient of the weight of a layer that sparse rows feed: the rows of it that batches named. */
typedef struct mbp_sparse_grad {
    int is_on;  /* 0: the layer's gradient is in the flat vector */
    int is_new; /* whether the last pass has set is_on */
    int64_t count;
    int32_t *row; /* ascending */
    char *value;  /* row after row, as wide as the layer */
    int64_t room; /* how many rows there is room for */
    /* Room for as many rows, to add those of another pass; place: where the other pass's rows are among all. NULL: each
     * gradient comes from one pass. */
    int32_t *next_row, *place;
    char *next_value;
} mbp_sparse_grad;

struct mbp_workspace {
    size_t bytes;
    int64_t rows; /* capacity */
    int needs;    /* mbp_need bits */
    /* Per node. home: its place in this block. value: where its values are in this call: at home, or directly in the
     * caller's array (of an input or output). z: the values before the activation, kept for the derivative; z.at is
     * NULL if y is enough. delta: the gradient of the loss with respect to y, and later with respect to z. */
    mbp_view *home, *value, *z, *delta;
    void *panels;               /* see mbp_panel_columns: of one recurrent node at a time */
    mbp_cell_deltas *cell;      /* per node; only in a net with recurrent nodes. z: what they keep (net.h) */
    mbp_statistics *statistics; /* per node; only in a net with norms or scales */
    /* Per node: how many positions of each row are there; NULL: all are, and valid NULL: of every node. valid_home:
     * room of each node. See passes/positions/lengths.h. */
    int32_t **valid, **valid_home;
    mbp_carry *carry;        /* per node, in the caller's memory; NULL: no states are carried */
    mbp_carry *carry_home;   /* its place in this block, if the net has recurrent nodes */
    mbp_sparse_input *input; /* per input; only where MICROBP_SPARSE */
    int homeless;            /* how many inputs have no room for dense rows */
    int roomy;               /* how many have room for sparse rows or ids; if none has, all are dense */
    int sparse;              /* how many inputs are sparse in this call; if none is, input[].is_sparse is not set */
    mbp_view *target_home, *target; /* per output; target.at NULL: the targets are labels */
    int64_t **labels;               /* per output */
    double *weight;                 /* per row */
    int weighted;                   /* see mbp_is_weighted */
    mbp_own *own;                   /* per output */
    double *column[3];              /* while rows are chosen: a number per row */
    int64_t *chosen; /* per row: the caller's number of the row, if the rows are not consecutive ones of the caller's */
    char *scratch;   /* of matrix products: scratch_bytes for each of `threads` */
    size_t scratch_bytes;
    int threads;
    mbp_place *place; /* among the net's idle workspaces; NULL: none yet */
};

/* Whether outputs have weights, or divisors, of their own in this call. */
static inline int mbp_is_weighted(const mbp_workspace *w) { return MICROBP_GAPS && w->weighted; }

/* The inputs of a call are dense where the workspace has room for dense rows, and sparse where it has room for the most
 * values that `rows` rows may have. x NULL: all are dense. */
int mbp_inputs_fit(const mbp_net *net, const mbp_workspace *w, int64_t rows, const mbp_array *x);
static inline int mbp_inputs_are_usual(const mbp_net *net, const mbp_workspace *w, const mbp_array *x) {
    int dense = 0;
    while (MICROBP_SPARSE && x && dense < net->inputs && !mbp_is_sparse(&x[dense]))
        dense++;
    return !MICROBP_SPARSE || (!w->homeless && (!x || dense == net->inputs));
}
/* Whether a workspace (NULL: none) is large enough for these rows, needs, threads and inputs. */
static inline int mbp_workspace_fits(const mbp_net *net, const mbp_workspace *w, int64_t rows, int needs, int threads,
                                     const mbp_array *x) {
    return w && w->rows >= rows && (w->needs & needs) == needs && w->threads >= threads &&
           (mbp_inputs_are_usual(net, w, x) || mbp_inputs_fit(net, w, rows, x));
}
/* *grown becomes `old` if that fits; otherwise a new workspace, which is large enough also for all that `old` (may be
 * NULL) is for. */
mbp_status mbp_workspace_grow(const mbp_net *net, mbp_memory *memory, mbp_workspace *old, int64_t rows, int needs,
                              int threads, const mbp_array *x, mbp_workspace **grown, mbp_error *error);
/* The same, and frees the old one. If this fails, *workspace is unchanged. */
mbp_status mbp_workspace_reserve(const mbp_net *net, mbp_memory *memory, mbp_workspace **workspace, int64_t rows,
                                 int needs, int threads, const mbp_array *x, mbp_error *error);
void mbp_workspace_free(mbp_memory *memory, mbp_workspace *workspace);
/* Points the deltas of slices to those of their operands, if they share memory: needed again if an operand's moved. */
void mbp_slices_place(const mbp_net *net, mbp_workspace *w);

/* How many threads to use for the net's largest matrix product with this number of rows. */
int mbp_product_threads(const mbp_net *net, int64_t rows);
/* How many rows a prediction handles at a time, and the least of them: fewer if rows have several positions. */
static inline int64_t mbp_slice_least(const mbp_net *net) {
    return MICROBP_POSITIONS && net->most_positions > 1 ? MBP_LOSS_CHUNK : 256;
}
int64_t mbp_slice_rows(const mbp_net *net);

/* The net's idle workspaces. Any number of threads may call this at the same time. take: returns one, or NULL.
 * find_place: makes sure that the workspace has a place; returns 0 if there is no memory for one. give: keeps the
 * workspace, or frees it: if there is no memory for a place, or if the idle ones had more than MBP_IDLE_BYTES, besides
 * one of any size. reserve_idle: this many bytes are kept, if they are more than MBP_IDLE_BYTES. */
enum { MBP_IDLE_BYTES = 16 << 20 };
mbp_workspace *mbp_workspace_take_idle(mbp_net *net);
int mbp_workspace_find_place(mbp_net *net, mbp_workspace *workspace);
void mbp_workspace_give_idle(mbp_net *net, mbp_workspace *workspace);
void mbp_workspace_reserve_idle(mbp_net *net, size_t bytes);
void mbp_workspace_free_idle(mbp_net *net);
/* After fork, in the child: frees the places of the workspaces that the parent's other threads were using. */
void mbp_workspace_after_fork(mbp_net *net);

#endif
