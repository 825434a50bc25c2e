/* microbp: small and medium dense networks, trained in C.
 *
 * A network is a directed acyclic graph of dense layers, given as text; a trainer adds losses and an optimizer and
 * does one training step, or one epoch, per call.
 *
 *     mbp_net *net; mbp_trainer *trainer; mbp_error error; double loss;
 *     mbp_net_create(&net, "input 64\ndense 0 units=128 activation=relu\ndense 1 units=10\noutput 2\n", NULL, &error);
 *     mbp_trainer_create(&trainer, net, (const char *[]){"cross_entropy"}, NULL, 1, "adam(lr=0.001)", &error);
 *     mbp_trainer_step(trainer, &batch, &loss, &error);
 *
 * Graph text. One statement per line; blank lines and lines that start with '#' are skipped; nodes are numbered 0, 1, ... in
 * the order of their lines and name only earlier nodes, so a graph cannot have a cycle. At most 16384 nodes, 2^31 - 1 columns each.
 *
 *     input WIDTH                              one input of WIDTH features per row
 *     dense A layer=NAME units=N activation=SPEC init=SPEC bias=0|1 frozen=0|1 lr=1 l1=0 l2=0 max_norm=0
 *                                              all but A optional where the named layer exists already: the layer is then used
 *                                              again, with the same weights. Otherwise units is required, and the rest defaults to
 *                                              layer=dense_K (the K-th layer), identity, auto, 1, 0, and the numbers above.
 *                                              lr: factor of the optimizer's learning rate, 0: the layer stays. l1, l2: the penalty
 *                                              l1 |w|_1 + l2 / 2 |w|_2^2 of the weights, not of the bias: part of the gradients, but
 *                                              not of the losses that are told. max_norm: after each update a unit's incoming
 *                                              weights are scaled back to at most this Euclidean norm; 0: none.
 *     activation A SPEC                        elementwise
 *     add A B  |  multiply A B                 elementwise, equal widths; A and B may be the same node
 *     concat A B ...                           columns side by side
 *     dropout A rate=0.5                       in training each element is 0 with this probability, else divided by 1 - rate (Srivastava et
 *                                              al. 2014); in inference nothing happens
 *     noise A std=0.1                          in training, normal noise of this standard deviation is added
 *     batch_norm A layer=NAME frozen=0|1 lr=1 eps=1e-05 momentum=0.1
 *                                              gamma (x - mean) / sqrt(variance + eps) + beta (Ioffe & Szegedy 2015) by the statistics of each
 *                                              column: in training those of the batch's rows, at least 2 and each counted once; in inference,
 *                                              and where the layer is frozen, the running ones. These are r := (1 - momentum) r + momentum s
 *                                              at each update, s being the batch's mean and unbiased variance.
 *     layer_norm A layer=NAME frozen=0|1 lr=1 eps=1e-05
 *                                              gamma (x - mean) / sqrt(variance + eps) + beta by the statistics of each row (Ba et al. 2016),
 *                                              the biased variance; gamma ("weight") begins as 1, beta ("bias") as 0
 *     output A link=NAME                       an output of the network; link is identity unless set
 *
 * A SPEC is a formula's name with its parameters: relu, leaky_relu(slope=0.2), adam(lr=0.001,beta1=0.9). Names and parameters
 * are listed by mbp_formula_name and mbp_formula_parameters. Numbers are decimal (at most 15 digits) or hexadecimal (0x1.8p-3).
 *
 * Conventions. Every function that can fail returns an mbp_status and fills the mbp_error that the caller owns (NULL: not wanted);
 * a call that fails changes nothing. Handles are created and freed in pairs; free accepts NULL. A net may predict in any number of
 * threads at once while nobody changes it; a trainer serves one call at a time and answers MBP_BUSY to a second. The library
 * never prints, exits, reads the environment or the locale, and keeps no global state. */
#ifndef MICROBP_H
#define MICROBP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && !defined(_WIN32)
#define MBP_API __attribute__((visibility("default")))
#else
#define MBP_API
#endif

#define MBP_VERSION "0.1.0"

typedef enum mbp_status {
    MBP_OK = 0,
    MBP_INVALID = 10,     /* an argument is wrong; the text says which, and what would be right */
    MBP_UNSUPPORTED = 20, /* a valid request that this build cannot serve */
    MBP_NO_MEMORY = 30,
    MBP_NONFINITE = 40,   /* a loss or a gradient is NaN or infinite */
    MBP_BUSY = 50,        /* another call is using this trainer */
    MBP_CANCELLED = 60,   /* the poll function asked to stop */
    MBP_IO = 70,          /* the operating system refused a file operation */
    MBP_CORRUPT = 80      /* the bytes are not a microbp file, or are damaged */
} mbp_status;

typedef struct mbp_error {
    mbp_status status;
    int node;      /* the graph's node or the layer at fault, else -1 */
    int64_t row;   /* the batch's row at fault, else -1 */
    int64_t step;  /* the epoch's step at fault, else -1 */
    int number;    /* the errno behind MBP_IO, else 0 */
    char text[256];
} mbp_error;

typedef enum mbp_dtype {
    MBP_F32, MBP_F64, MBP_F16, MBP_I8, MBP_U8, MBP_I16, MBP_U16, MBP_I32, MBP_U32, MBP_I64, MBP_U64
} mbp_dtype;

/* A matrix in the caller's memory; it is only read unless a function says otherwise, and never kept. Strides are in bytes, may be
 * negative or 0, and elements need no alignment. Sparse rows (indptr and indices set) answer MBP_UNSUPPORTED for now. */
typedef struct mbp_array {
    void *data;
    mbp_dtype dtype;
    int64_t rows, cols;
    int64_t row_stride, col_stride;
    const int64_t *indptr, *indices;
} mbp_array;

typedef struct mbp_allocator {
    void *(*allocate)(void *user, size_t bytes, size_t alignment); /* NULL when there is no memory */
    void (*release)(void *user, void *block, size_t bytes);
    void *user;
} mbp_allocator;

typedef struct mbp_pool mbp_pool;

typedef struct mbp_options {
    mbp_dtype dtype;                /* MBP_F32 or MBP_F64: the type of parameters and of all arithmetic */
    uint64_t seed;                  /* of the initial parameters */
    const char *isa;                /* a name from mbp_isa_name; NULL: the best that runs here */
    const mbp_allocator *allocator; /* NULL: malloc */
    mbp_pool *pool;                 /* whose threads help; it must outlive the net, and may serve many. NULL: no threads */
    int threads;                    /* how many of them at most, the calling one included; 0: as many as the pool has */
} mbp_options;

typedef struct mbp_net mbp_net;
typedef struct mbp_trainer mbp_trainer;

/* ---- what is there: names, never numbers, are identity in files and calls ---- */

typedef enum mbp_kind { MBP_ACTIVATION, MBP_LOSS, MBP_OPTIMIZER, MBP_INITIALISER, MBP_LINK } mbp_kind;

MBP_API const char *mbp_version(void);
/* The i-th name of a kind; NULL past the last. */
MBP_API const char *mbp_formula_name(mbp_kind kind, int i);
/* Its parameters with default and range, "lr=0.001[0,inf) beta1=0.9[0,1)"; "" for none; NULL past the last. */
MBP_API const char *mbp_formula_parameters(mbp_kind kind, int i);
/* An optimizer's state per parameter, "m v", with the parameter that it starts from where that is not 0, "prev step_size=lr"; or a loss's
 * link; "" for the other kinds; NULL past the last. */
MBP_API const char *mbp_formula_detail(mbp_kind kind, int i);
/* The i-th kernel variant of this build, best first; NULL past the last. */
MBP_API const char *mbp_isa_name(int i);
/* Whether this processor and operating system run it. */
MBP_API int mbp_isa_runs(int i);

/* ---- threads ---- */

/* Threads that share the work of large calls; small ones stay on the calling thread. Results have the same bits for any number of
 * threads. A pool starts threads when work first wants them, and they sleep when there is none. Any number of nets and threads may use one
 * pool: it serves one at a time, and who finds it busy works alone. A child after fork may use it too: it gets threads of its own.
 * threads: the calling one included, at most 255; 0: as many as mbp_cpus. allocator NULL: malloc. */
MBP_API mbp_status mbp_pool_create(mbp_pool **pool, int threads, const mbp_allocator *allocator, mbp_error *error);
/* Ends its threads. No net may use it any more. */
MBP_API void mbp_pool_free(mbp_pool *pool);
/* How many threads share a region of work at most: as many as it was made with, or the limit. 1 for NULL. */
MBP_API int mbp_pool_threads(const mbp_pool *pool);
/* An upper limit for later regions, in any thread at any time; 1 turns the pool off, a large number takes the limit away. */
MBP_API mbp_status mbp_pool_set_limit(mbp_pool *pool, int limit, mbp_error *error);
/* The processors that this process may use: those of its affinity, fewer where a control group's quota allows less. */
MBP_API int mbp_cpus(void);

/* ---- networks ---- */

/* A network from its graph text, with initial parameters. options NULL: float32, seed 0. */
MBP_API mbp_status mbp_net_create(mbp_net **net, const char *graph, const mbp_options *options, mbp_error *error);
MBP_API void mbp_net_free(mbp_net *net);

/* How many threads may work for the net, and a new limit (0: as many as the pool has), which counts from the next call. */
MBP_API int mbp_net_threads(const mbp_net *net);
MBP_API mbp_status mbp_net_set_threads(mbp_net *net, int threads, mbp_error *error);

/* The graph text with every default written out, links and frozen layers included. Writes at most `size` bytes with the closing
 * zero and returns the size that the whole text needs, so (NULL, 0) asks for it. */
MBP_API size_t mbp_net_text(const mbp_net *net, char *text, size_t size);
MBP_API mbp_dtype mbp_net_dtype(const mbp_net *net);
MBP_API uint64_t mbp_net_seed(const mbp_net *net);
MBP_API const char *mbp_net_isa(const mbp_net *net);
MBP_API int mbp_net_inputs(const mbp_net *net);
MBP_API int mbp_net_outputs(const mbp_net *net);
MBP_API int mbp_net_nodes(const mbp_net *net);
MBP_API int64_t mbp_net_input_width(const mbp_net *net, int i);
MBP_API int64_t mbp_net_output_width(const mbp_net *net, int i);
MBP_API int64_t mbp_net_node_width(const mbp_net *net, int node);
/* Floating-point operations of one row's prediction. */
MBP_API double mbp_net_flops(const mbp_net *net);

/* The flat parameter vector, in the net's dtype: the weights of dense layers in layer order, each (in, out) row-major, then
 * all biases and scales in layer order (of a norm: gamma, then beta). The pointer
 * stays valid, and may be written through, as long as the net lives. */
MBP_API void *mbp_net_params(mbp_net *net, int64_t *count);
/* The flat vector of what is saved but not trained (running statistics). */
MBP_API void *mbp_net_buffers(mbp_net *net, int64_t *count);

typedef struct mbp_tensor {
    const char *layer; /* the layer's name */
    const char *name;  /* "weight" or "bias"; "running_mean" or "running_var" */
    int64_t offset;    /* of its first element in the flat vector */
    int64_t in, out;   /* a dense layer's weight is (in, out) row-major; all others have in = 1 */
    int dims;          /* 2: a dense layer's weight; 1: all others */
    int buffer;        /* whether the flat vector is that of the buffers, not of the parameters */
} mbp_tensor;

/* The i-th tensor, in layer order, weight, bias, running_mean, running_var; 0 past the last, else 1. */
MBP_API int mbp_net_tensor(const mbp_net *net, int i, mbp_tensor *tensor);

/* Draws the parameters anew. */
MBP_API mbp_status mbp_net_init(mbp_net *net, uint64_t seed, mbp_error *error);
/* Freezes (1) or releases (0) a layer by name, or every layer (NULL): a frozen layer's parameters do not move. */
MBP_API mbp_status mbp_net_freeze(mbp_net *net, const char *layer, int frozen, mbp_error *error);
/* Changes a setting ("lr", "l2", ...) of a layer by name, or of every layer that has it (NULL), as in the graph text. Counts from the next
 * call. */
MBP_API mbp_status mbp_net_set_layer(mbp_net *net, const char *layer, const char *name, double value, mbp_error *error);
/* Sets the link of the i-th output: identity, softmax, sigmoid, exp. A trainer sets it from its loss. */
MBP_API mbp_status mbp_net_set_link(mbp_net *net, int output, const char *link, mbp_error *error);

/* A UTF-8 text of the program's own, such as what its columns mean, that the net carries and its file keeps. The net copies it; NULL or
 * "": none. mbp_net_notes answers NULL where there is none, else a text that is valid until the notes are set anew. */
enum { MBP_NOTES_MAX = 16 << 20 }; /* bytes, the closing zero included */
MBP_API mbp_status mbp_net_set_notes(mbp_net *net, const char *notes, mbp_error *error);
MBP_API const char *mbp_net_notes(const mbp_net *net);

/* Outputs (or, with node >= 0, that one node's values) for the rows of x into `out`, which has the net's dtype, col_stride of one
 * element, and the right rows and cols, in memory of its own. link: apply the outputs' links. May run in many threads at once. */
MBP_API mbp_status mbp_net_predict(mbp_net *net, const mbp_array *x, int n_x, const mbp_array *out, int n_out, int link, int node,
                                   mbp_error *error);

/* Files: safetensors with the graph in the metadata and a CRC-32C of the whole. A save is all or nothing. Of `options`,
 * dtype and seed do not count on loading: they are the file's. Loading n bytes, whatever they are, asks for less memory than 4 n + 64 KiB. */
MBP_API mbp_status mbp_net_save(const mbp_net *net, const char *path, mbp_error *error);
MBP_API mbp_status mbp_net_load(mbp_net **net, const char *path, const mbp_options *options, mbp_error *error);
/* The same bytes in memory. *size: in, the room at `bytes`; out, what is needed; MBP_INVALID if the room is too small. */
MBP_API mbp_status mbp_net_write(const mbp_net *net, void *bytes, size_t *size, mbp_error *error);
MBP_API mbp_status mbp_net_read(mbp_net **net, const void *bytes, size_t size, const mbp_options *options, mbp_error *error);

/* What a file may hold beside the net, as a trainer's does: a UTF-8 text, and flat vectors in the net's dtype. The name of a vector has
 * three or more parts with dots between them ("trainer.slots.m"), which no tensor's has; the parts are letters, digits, _ and -, and the
 * whole at most 63 characters. The functions above take such a file for the net's, but check all of it. */
typedef struct mbp_vector {
    const char *name;
    const void *data;
    int64_t count;
} mbp_vector;

typedef struct mbp_extras {
    const char *text; /* less than MBP_NOTES_MAX bytes, and not empty */
    const mbp_vector *vector;
    int count; /* at most MBP_VECTORS_MAX */
} mbp_extras;

enum { MBP_VECTORS_MAX = 64 };

/* As the four above; extras NULL: none. On reading, *extras is NULL if the file has none; else the caller frees it. */
MBP_API mbp_status mbp_net_save_with(const mbp_net *net, const mbp_extras *extras, const char *path, mbp_error *error);
MBP_API mbp_status mbp_net_load_with(mbp_net **net, mbp_extras **extras, const char *path, const mbp_options *options, mbp_error *error);
MBP_API mbp_status mbp_net_write_with(const mbp_net *net, const mbp_extras *extras, void *bytes, size_t *size, mbp_error *error);
MBP_API mbp_status mbp_net_read_with(mbp_net **net, mbp_extras **extras, const void *bytes, size_t size, const mbp_options *options,
                                     mbp_error *error);
MBP_API void mbp_extras_free(mbp_extras *extras);

/* ---- training ---- */

/* Rows to learn from: one array per input, one target array per output, and optionally a weight per row (rows x 1).
 * Targets have the output's width, except integer labels (rows x 1) under cross_entropy. */
typedef struct mbp_batch {
    const mbp_array *x;
    int n_x;
    const mbp_array *y;
    int n_y;
    const mbp_array *weight; /* NULL: every row weighs 1 */
} mbp_batch;

/* losses: a SPEC per output, or NULL for an output whose gradient the caller brings to mbp_trainer_backward_from;
 * loss_weights NULL: 1 each. The net must outlive the trainer. */
MBP_API mbp_status mbp_trainer_create(mbp_trainer **trainer, mbp_net *net, const char *const *losses, const double *loss_weights,
                                      int n_losses, const char *optimizer, mbp_error *error);
MBP_API void mbp_trainer_free(mbp_trainer *trainer);

/* Forward, loss, backward, update. *loss: sum of weight x row loss / sum of weights, over outputs times their loss weights. */
MBP_API mbp_status mbp_trainer_step(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error);

typedef struct mbp_backward {
    int accumulate;    /* add to the gradients instead of replacing them */
    int input_grads;   /* also the gradient by the inputs */
    double total;      /* divisor: the sum of row weights of the whole logical batch; 0: of this one */
    int64_t first_row; /* this batch's place in the logical batch */
} mbp_backward;

/* The gradient of loss and penalties, without the update. The penalties count by the share that this batch's row weights have in `total`,
 * so that parts add up to the whole. how NULL: all zero. */
MBP_API mbp_status mbp_trainer_backward(mbp_trainer *trainer, const mbp_batch *batch, const mbp_backward *how, double *loss,
                                        mbp_error *error);
/* The update from the gradients as they stand; refused when one is not finite. Advances the step count. */
MBP_API mbp_status mbp_trainer_apply(mbp_trainer *trainer, mbp_error *error);

/* The step in parts, for a loss of the caller's own: forward (in training, its rows being the first of the logical batch); then the outputs
 * are read (valid until the next call); then backward from the gradient of the (weighted) loss by each output, to which the penalties are
 * added unless `accumulate` says that they are there already. x must still be there, and the layers as they were. */
MBP_API mbp_status mbp_trainer_forward(mbp_trainer *trainer, const mbp_array *x, int n_x, mbp_error *error);
MBP_API mbp_status mbp_trainer_output(mbp_trainer *trainer, int i, mbp_array *output, mbp_error *error);
MBP_API mbp_status mbp_trainer_backward_from(mbp_trainer *trainer, const mbp_array *gradients, int n, const mbp_backward *how,
                                             mbp_error *error);

/* The loss of a batch of any size, in inference; changes nothing. */
MBP_API mbp_status mbp_trainer_evaluate(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error);

/* Called between the steps of an epoch; non-zero cancels it. */
typedef int (*mbp_poll)(void *user);

/* One step for each `batch_rows` of the n row numbers at `index` (NULL: 0, 1, ...), the last, smaller batch included. lr: one rate per
 * step, or NULL for the optimizer's own. *loss: the mean over all rows as they were trained. *steps: those done, also on failure:
 * steps already done stay done. All targets and row weights are checked before the first step. */
MBP_API mbp_status mbp_trainer_epoch(mbp_trainer *trainer, const mbp_batch *data, const int64_t *index, int64_t n, int64_t batch_rows,
                                     const double *lr, mbp_poll poll, void *user, double *loss, int64_t *steps, mbp_error *error);

/* Flat vectors laid out as the parameters, in the net's dtype. */
MBP_API void *mbp_trainer_grads(mbp_trainer *trainer);
/* The i-th slot of the optimizer's state; its name in mbp_formula_detail; NULL past the last. */
MBP_API void *mbp_trainer_slot(mbp_trainer *trainer, int i);
/* The gradient by the i-th input of the last backward call with input_grads; valid until the next call. */
MBP_API mbp_status mbp_trainer_input_grad(mbp_trainer *trainer, int i, mbp_array *gradient, mbp_error *error);

/* The optimizer's parameters by name ("lr", ...); a value out of its range is refused. And the limits of the gradients that the optimizer
 * sees (those of mbp_trainer_grads stay as they are), infinite unless set: the Euclidean norm of each layer's, weight and bias together,
 * "clip_layer_norm"; then the norm of all that trains, "clip_norm" (Pascanu et al. 2013); then of each element, "clip_value". Two more names
 * are state: "loss", of the gradients as they stand (parts that were accumulated are added; the caller may set it after
 * mbp_trainer_backward_from), and "last_loss", of those of the last update; NaN: not known. irprop_plus compares them. */
MBP_API mbp_status mbp_trainer_get(const mbp_trainer *trainer, const char *name, double *value, mbp_error *error);
MBP_API mbp_status mbp_trainer_set(mbp_trainer *trainer, const char *name, double value, mbp_error *error);
/* Updates so far; set with the optimizer's slots it restores an earlier state. Setting forgets the losses, which can be set after it. */
MBP_API int64_t mbp_trainer_steps(const mbp_trainer *trainer);
MBP_API mbp_status mbp_trainer_set_steps(mbp_trainer *trainer, int64_t steps, mbp_error *error);
/* The seed of dropout and noise; the net's unless set. A mask is a function of seed, step count, node, row in the logical batch and
 * column: the same however a batch is split into parts or among threads. */
MBP_API mbp_status mbp_trainer_set_seed(mbp_trainer *trainer, uint64_t seed, mbp_error *error);
/* An average of [parameters, buffers] over the states after the updates number start, start + every, ..., counted as mbp_trainer_steps
 * does: a running one that gives a new state the weight 1 - decay (Polyak & Juditsky 1992), or with decay 1 the mean of all (Izmailov et
 * al. 2018, equation 2). It begins as a copy of the first state that is still to come. Allocates; a second call begins anew. */
MBP_API mbp_status mbp_trainer_set_average(mbp_trainer *trainer, double decay, int64_t start, int64_t every, mbp_error *error);
/* The average, laid out as parameters, then buffers; NULL without one. *count (unless NULL): of how many states; 0: not begun. */
MBP_API void *mbp_trainer_average(mbp_trainer *trainer, int64_t *count);
/* Gradients and average of zero, slots as at the start, no updates. */
MBP_API mbp_status mbp_trainer_reset(mbp_trainer *trainer, mbp_error *error);

/* ---- random numbers (Philox 4x32-10): the same for the same arguments, anywhere ---- */

/* order[0..n): a permutation of 0..n-1. purpose: 2 shuffling (instance: the epoch), 5 splitting. */
MBP_API void mbp_permutation(uint64_t seed, int purpose, uint64_t instance, int64_t n, int64_t *order);

#ifdef __cplusplus
}
#endif

#endif
