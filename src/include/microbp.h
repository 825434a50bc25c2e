/* microbp: small and medium dense networks, trained in C.
 *
 * A network is a directed acyclic graph of dense layers, written as text. A trainer adds losses and an optimizer; one
 * call does one training step, or one epoch.
 *
 *     float x[4][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}}, y[4] = {0, 1, 1, 0};
 *     mbp_array inputs = mbp_f32(x, 4, 2), targets = mbp_f32(y, 4, 1);
 *     mbp_batch batch = {.size = sizeof batch, .x = &inputs, .n_x = 1, .y = &targets, .n_y = 1};
 *     mbp_net *net; mbp_trainer *trainer; mbp_error error; double loss;
 *     mbp_net_create(&net, "input 2\ndense 0 units=8 activation=tanh\ndense 1 units=1\noutput 2\n", NULL, &error);
 *     mbp_trainer_create(&trainer, net, (const char *[]){"bce"}, NULL, 1, "adam(lr=0.05)", &error);
 *     mbp_trainer_step(trainer, &batch, &loss, &error);
 *
 * Graph text. One statement per line; blank lines and lines that start with '#' are skipped. Nodes are numbered from 0
 * in the order of their lines, and take only earlier nodes as operands (A, B below). A graph has at most 16384 nodes of
 * at most 2^31 - 1 columns each.
 *
 *     input WIDTH                 An input of WIDTH features per row.
 *     dense A layer=NAME units=N activation=SPEC init=SPEC bias=0|1 bias_init=SPEC frozen=0|1 lr=1 l1=0 l2=0 max_norm=0
 *         y = activation(x W + b). If the named layer exists, only `dense A layer=NAME` is allowed, which uses it
 *         again. For a new layer, units is required; the other defaults are layer=dense_K (K counts the dense layers,
 *         from 0), activation=identity, init=auto, bias=1, bias_init=auto, frozen=0, and the numbers above. auto: the
 *         initializer that suits the activation; bias_init=auto is zeros beside another init. frozen: see
 *         mbp_net_freeze. lr: a factor of the optimizer's learning rate; 0: no change. bias_lr=...: the same for
 *         the bias alone, by default lr. l1, l2: the penalty l1 |w|_1 + l2 / 2 |w|_2^2 of the weights (not of the
 *         bias), part of the gradients, but not of the reported losses. max_norm: after each update, a unit's weights
 *         are scaled down to this Euclidean norm if theirs is larger; 0: no limit.
 *     activation A SPEC           Applies the activation to each element.
 *     add A B  |  multiply A B    Element by element. A and B have the same width, and may be the same node.
 *     concat A B ...              The columns of all operands side by side.
 *     dropout A rate=0.5          In training, sets elements to 0 with this probability, divides others by 1 - rate.
 *     noise A std=0.1             In training, adds normal noise with this standard deviation.
 *     batch_norm A layer=NAME frozen=0|1 lr=1 eps=1e-05 momentum=0.1
 *         gamma (x - mean) / sqrt(variance + eps) + beta with the statistics of each column (Ioffe & Szegedy 2015): in
 *         training, the mean and the biased variance of the batch's rows (at least 2; all weights above 0 count alike);
 *         in inference, or if the layer is frozen, the running statistics. Each update changes a running value r to
 *         (1 - momentum) r + momentum s, where s is the batch's mean or unbiased variance.
 *     layer_norm A layer=NAME frozen=0|1 lr=1 eps=1e-05
 *         The same with the mean and the biased variance of each row (Ba et al. 2016).
 *     scale A layer=NAME gain=0|1 bias=0|1 frozen=0|1 lr=1
 *         x gain + bias, both trainable, for each column. One of the two may be left out (gain=0, bias=0).
 *         The gain, like gamma, is the layer's tensor "weight" and starts at 1; the bias, like beta, starts at 0.
 *     output A activation=NAME
 *         Makes node A an output. mbp_net_predict applies the activation to it: identity, softmax, sigmoid or exp. If
 *         none is chosen yet, predictions are raw values; mbp_trainer_create chooses the one that the loss implies.
 *
 * A SPEC is the name of a formula with its parameters: relu, adam(lr=1e-3, eps=1e-12). In graph text, blanks may only
 * be between its parentheses. Numbers are decimal (at most 15 digits) or hexadecimal (0x1.8p-3). mbp_formula_parameters
 * gives the parameters, defaults and ranges, mbp_formula_meaning the formula and source. The names are:
 *
 *     activations   identity relu leaky_relu elu selu gelu silu mish softplus softsign sigmoid hard_sigmoid tanh
 *                   scaled_tanh
 *     losses        mse half_sse mae huber quantile poisson bce hinge cross_entropy
 *     optimizers    sgd sgd_momentum sgd_nesterov momentum momentum_nesterov asgd adagrad adadelta rmsprop
 *                   rmsprop_momentum rmsprop_centered rmsprop_centered_momentum adam adam_amsgrad adamw adamw_amsgrad
 *                   adamax nadam radam adabelief lion ftrl rprop_minus irprop_minus irprop_plus lamb
 *     initializers  auto normal uniform glorot_normal glorot_uniform he_normal he_uniform lecun_normal lecun_uniform
 *                   fan_in_uniform zeros array (array: values that you write to mbp_net_params)
 *
 * Conventions. Every function that can fail returns an mbp_status and, if it fails, fills the caller's mbp_error (which
 * may be NULL). A call that fails changes no network, no optimizer state and no array of the caller; a step that fails
 * may leave its gradients in mbp_trainer_grads, and an epoch keeps the steps that it completed. Each create has its
 * free, which accepts NULL. The library never prints, exits, reads the environment or the locale, or has global state.
 *
 * Threads. One thread at a time may change a net or use its trainers: such a call holds the net until it returns, and
 * one of a second thread returns MBP_BUSY. An epoch's poll function may do everything but train (step, backward, apply,
 * forward, backward_from, epoch): MBP_BUSY. Any number of threads may predict, save and describe a net at a time, also
 * while one trains: they see the state between two steps. mbp_trainer_steps and mbp_trainer_get never wait.
 *
 * Memory. A net's parameters are allocated when it is created, a trainer's gradients and slots when that is created.
 * Memory for the rows of a batch is allocated by the first call, and again only by a call with more rows than any
 * before; otherwise, training and predictions allocate nothing. A net keeps one such block per concurrent prediction.
 *
 * Structures that start with `size` may get more fields in later versions. Set `size` to sizeof the structure, and all
 * fields that you do not use to 0, which is always the default: `mbp_batch batch = {.size = sizeof batch, ...}` in C,
 * `mbp_batch batch = {}; batch.size = sizeof batch;` in C++. */
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

#if defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 199901L)
#define MBP_INLINE static inline
#elif defined(__GNUC__)
#define MBP_INLINE static __inline__
#else
#define MBP_INLINE static
#endif

#define MBP_VERSION_MAJOR 0
#define MBP_VERSION_MINOR 1
#define MBP_VERSION_PATCH 0
#define MBP_VERSION "0.1.0"

typedef enum mbp_status {
    MBP_OK = 0,
    MBP_INVALID = 10,     /* an argument is wrong; the text names it and what it must be */
    MBP_UNSUPPORTED = 20, /* the request is valid, but this build cannot serve it */
    MBP_NO_MEMORY = 30,
    MBP_NONFINITE = 40, /* a loss or a gradient is NaN or infinite */
    MBP_BUSY = 50,      /* another thread is using the net or a trainer of it */
    MBP_CANCELLED = 60, /* the poll function asked to stop */
    MBP_IO = 70,        /* the operating system refused a file operation */
    MBP_CORRUPT = 80    /* the bytes are not a microbp file, or are damaged */
} mbp_status;

typedef struct mbp_error {
    mbp_status status;
    int node;     /* the number of the node or layer at fault, or -1 */
    int64_t row;  /* the row of the batch at fault, or -1 */
    int64_t step; /* the step of the epoch at fault, or -1 */
    int number;   /* the errno of MBP_IO, or 0 */
    char text[256];
} mbp_error;

/* ---- arrays ---- */

typedef enum mbp_dtype {
    MBP_F32,
    MBP_F64,
    MBP_F16,
    MBP_I8,
    MBP_U8,
    MBP_I16,
    MBP_U16,
    MBP_I32,
    MBP_U32,
    MBP_I64,
    MBP_U64
} mbp_dtype;

/* A flag of mbp_array: rows or columns share memory on purpose; for example, a row_stride of 0 repeats one row. Without
 * the flag such strides are refused, because they are usually a mistake. */
enum { MBP_SHARED = 1 };

/* A matrix in the caller's memory. Functions only read it unless documented otherwise, and keep no pointer
 * to it. An array that is read needs no alignment. Strides may be negative. mbp_f32, mbp_labels, ... fill it in. */
typedef struct mbp_array {
    const void *data;
    mbp_dtype dtype;
    int64_t rows, cols;
    int64_t row_stride, col_stride; /* bytes from one row to the next, and from one column to the next */
    /* Compressed sparse rows (CSR): row i has the values data[indptr[i]] to data[indptr[i + 1] - 1], whose columns are
     * at the same positions of `indices`. NULL: dense. For now, sparse arrays give MBP_UNSUPPORTED. */
    const void *indptr, *indices;
    mbp_dtype index_dtype; /* of indptr and indices: MBP_I32 or MBP_I64 */
    int flags;             /* 0 or MBP_SHARED */
} mbp_array;

/* rows x cols elements of `item` bytes, contiguous, row by row (C order). */
MBP_INLINE mbp_array mbp_contiguous(const void *data, mbp_dtype dtype, int64_t item, int64_t rows, int64_t cols) {
    mbp_array array;
    array.data = data;
    array.dtype = dtype;
    array.rows = rows;
    array.cols = cols;
    array.row_stride = cols * item;
    array.col_stride = item;
    array.indptr = array.indices = NULL;
    array.index_dtype = MBP_I64;
    array.flags = 0;
    return array;
}

/* rows x cols floats or doubles, contiguous, row by row. */
MBP_INLINE mbp_array mbp_f32(const void *data, int64_t rows, int64_t cols) {
    return mbp_contiguous(data, MBP_F32, 4, rows, cols);
}
MBP_INLINE mbp_array mbp_f64(const void *data, int64_t rows, int64_t cols) {
    return mbp_contiguous(data, MBP_F64, 8, rows, cols);
}
/* One class label per row, as int64_t. */
MBP_INLINE mbp_array mbp_labels(const int64_t *data, int64_t rows) { return mbp_contiguous(data, MBP_I64, 8, rows, 1); }
MBP_INLINE mbp_array mbp_row(const float *data, int64_t cols) { return mbp_f32(data, 1, cols); } /* one row of floats */

/* ---- options ---- */

typedef struct mbp_allocator {
    void *(*allocate)(void *user, size_t bytes, size_t alignment); /* returns NULL if there is no memory */
    void (*release)(void *user, void *block, size_t bytes);
    void *user;
} mbp_allocator;

typedef struct mbp_pool mbp_pool;

typedef struct mbp_options {
    size_t size;                    /* sizeof(mbp_options) */
    mbp_dtype dtype;                /* MBP_F32 or MBP_F64: the type of parameters and of all arithmetic */
    uint64_t seed;                  /* of the initial parameters */
    const char *isa;                /* a name from mbp_isa_name; NULL: the best that runs here */
    const mbp_allocator *allocator; /* NULL: malloc */
    mbp_pool *pool; /* threads that help; must outlive the net; many nets may share it. NULL: only the calling thread */
    int threads;    /* how many threads may work for the net, the calling one included; 0: all of the pool */
} mbp_options;

typedef struct mbp_net mbp_net;
typedef struct mbp_trainer mbp_trainer;

/* ---- lists of formulas; files and calls use their names, never their numbers ---- */

typedef enum mbp_kind { MBP_ACTIVATION, MBP_LOSS, MBP_OPTIMIZER, MBP_INITIALIZER, MBP_OUTPUT_ACTIVATION } mbp_kind;

/* The version of the linked library, such as "0.1.0". MBP_VERSION is the version of this header. */
MBP_API const char *mbp_version(void);
/* Of the i-th formula of a kind; NULL after the last. Its parameters with default and range: "lr=0.001[0,inf)
 * beta1=0.9[0,1)", or "". Its meaning, what it computes: "z if z > 0, else slope z; Maas et al. 2013". */
MBP_API const char *mbp_formula_name(mbp_kind kind, int i);
MBP_API const char *mbp_formula_parameters(mbp_kind kind, int i);
MBP_API const char *mbp_formula_meaning(mbp_kind kind, int i);
/* For an optimizer: the names of its slots (state per parameter), like "m v" or "prev step_size=lr". `name=parameter`:
 * the slot starts at that value; otherwise at 0. For a loss: the output activation that it implies. Otherwise "". */
MBP_API const char *mbp_formula_detail(mbp_kind kind, int i);
/* The i-th kernel variant of this build, best first, NULL after the last; whether it runs on this machine. */
MBP_API const char *mbp_isa_name(int i);
MBP_API int mbp_isa_runs(int i);

/* ---- threads ---- */

/* Makes a pool of threads that share the work of large calls; small calls run on the calling thread. Results have the
 * same bits for any number of threads. The threads start when they are first needed, and sleep when there is no work.
 * Any number of nets and threads may use one pool. It serves one caller at a time; a caller that finds it busy works
 * alone. After fork, the child may use the pool too; its threads are started again there. threads: the number of
 * threads, the calling one included, at most 255; 0: mbp_cpus(). allocator NULL: malloc. */
MBP_API mbp_status mbp_pool_create(mbp_pool **pool, int threads, const mbp_allocator *allocator, mbp_error *error);
MBP_API void mbp_pool_free(mbp_pool *pool); /* also stops its threads; no net may use it any more */
/* How many threads may share work: the number that the pool was made with, or its limit if lower. pool NULL: 1. */
MBP_API int mbp_pool_threads(const mbp_pool *pool);
/* Limits the threads of later work. Any thread may call it at any time. 1: no help; a large number: no limit. */
MBP_API mbp_status mbp_pool_set_limit(mbp_pool *pool, int limit, mbp_error *error);
MBP_API int mbp_cpus(void); /* how many processors this process may use, by affinity mask and control group's quota */

/* ---- networks ---- */

/* Makes a network from its graph text and draws its initial parameters. options NULL: float32, seed 0. */
MBP_API mbp_status mbp_net_create(mbp_net **net, const char *graph, const mbp_options *options, mbp_error *error);
MBP_API void mbp_net_free(mbp_net *net);

/* How many threads may work for the net, the calling one included. A limit applies to later calls; 0: no limit. */
MBP_API int mbp_net_threads(const mbp_net *net);
MBP_API mbp_status mbp_net_set_threads(mbp_net *net, int threads, mbp_error *error);

/* The graph text with all defaults written out, and with the current output activations, frozen layers and settings.
 * Writes at most `size` bytes, and returns the size of the whole text with its zero. (NULL, 0): only the size. */
MBP_API size_t mbp_net_text(const mbp_net *net, char *text, size_t size);
MBP_API mbp_dtype mbp_net_dtype(const mbp_net *net);
MBP_API uint64_t mbp_net_seed(const mbp_net *net);
MBP_API const char *mbp_net_isa(const mbp_net *net);
MBP_API int mbp_net_inputs(const mbp_net *net);
MBP_API int mbp_net_outputs(const mbp_net *net);
MBP_API int mbp_net_nodes(const mbp_net *net);
MBP_API int mbp_net_layers(const mbp_net *net);
/* The node that is the i-th input or output; -1 if there is none. */
MBP_API int mbp_net_input_node(const mbp_net *net, int i);
MBP_API int mbp_net_output_node(const mbp_net *net, int i);
MBP_API int64_t mbp_net_input_width(const mbp_net *net, int i);
MBP_API int64_t mbp_net_output_width(const mbp_net *net, int i);
MBP_API int64_t mbp_net_node_width(const mbp_net *net, int node);
MBP_API double mbp_net_flops(const mbp_net *net); /* the number of floating-point operations to predict one row */

/* Descriptions of a node and a layer. Pointers are valid as long as the net exists. */
enum { MBP_SPEC_MAX = 128 }; /* bytes of a SPEC, including the terminating zero */
typedef struct mbp_node_info {
    size_t size;           /* sizeof(mbp_node_info) */
    const char *operation; /* the first word of its statement: "input", "dense", "add", ... */
    int64_t width;
    int layer;                     /* the number of its layer; -1: none */
    int operands;                  /* the number of its operands */
    const int *operand;            /* their numbers */
    double amount;                 /* dropout: rate; noise: std; others: 0 */
    char activation[MBP_SPEC_MAX]; /* dense, activation: the SPEC; others: "" */
} mbp_node_info;
typedef struct mbp_layer_info {
    size_t size; /* sizeof(mbp_layer_info) */
    const char *name, *operation;
    int64_t in, out;                                     /* columns; of a norm or a scale, both are its width */
    int gain, bias, frozen;                              /* 0 or 1; gain: of a scale, otherwise 1; beta is a bias */
    double lr, l1, l2, max_norm, eps, momentum, bias_lr; /* 0 if there is no such setting; bias_lr: -1 if not given */
    char activation[MBP_SPEC_MAX], init[MBP_SPEC_MAX], bias_init[MBP_SPEC_MAX]; /* SPECs of a dense layer; or "" */
} mbp_layer_info;
/* Fill in *info for the i-th node or layer; info->size must be set. Layers are in the order of their first use. */
MBP_API mbp_status mbp_net_node(const mbp_net *net, int i, mbp_node_info *info, mbp_error *error);
MBP_API mbp_status mbp_net_layer(const mbp_net *net, int i, mbp_layer_info *info, mbp_error *error);

/* The flat parameter vector, in the net's dtype: first the weights of dense layers in layer order, each (in, out)
 * row-major; then, in layer order, all biases and the weights of norms and scales. You may write to it. The pointer is
 * valid as long as the net exists. */
MBP_API void *mbp_net_params(mbp_net *net, int64_t *count);
/* The flat vector of the buffers, the values that are saved but not trained: running statistics. */
MBP_API void *mbp_net_buffers(mbp_net *net, int64_t *count);

typedef struct mbp_tensor {
    const char *layer; /* the layer's name */
    const char *name;  /* "weight" or "bias"; "running_mean" or "running_var" */
    int64_t offset;    /* the position of its first element in that flat vector (see buffer) */
    int64_t in, out;   /* a dense layer's weight is (in, out) row-major; all other tensors have in = 1 */
    int dims;          /* 2: a dense layer's weight; 1: all other tensors */
    int buffer;        /* 0: it is in mbp_net_params; 1: it is in mbp_net_buffers */
} mbp_tensor;

/* Fills in the i-th tensor and returns 1; 0 after the last. By layer: weight, bias, running_mean, running_var. */
MBP_API int mbp_net_tensor(const mbp_net *net, int i, mbp_tensor *tensor);

/* Holds the net over several calls of this thread, such as a step in parts. It may lock again, and unlocks as often. */
MBP_API mbp_status mbp_net_lock(mbp_net *net, mbp_error *error);
MBP_API void mbp_net_unlock(mbp_net *net);
/* For the child after a fork: forgets the parent's other threads, which may have been using the net. Without it the net
 * may stay busy, and predictions may wait for ever. */
MBP_API void mbp_net_after_fork(mbp_net *net);

/* Copies new values into the parameters and the buffers (NULL: unchanged); predictions see all of them or none. */
MBP_API mbp_status mbp_net_assign(mbp_net *net, const void *params, const void *buffers, mbp_error *error);
MBP_API mbp_status mbp_net_init(mbp_net *net, uint64_t seed, mbp_error *error); /* draws new initial parameters */
/* Freezes (1) or unfreezes (0) the layer of this name, or all (NULL). Training does not change parameters and running
 * statistics of a frozen layer. */
MBP_API mbp_status mbp_net_freeze(mbp_net *net, const char *layer, int frozen, mbp_error *error);
/* Changes a setting ("lr", "l2", ...) of the layer of this name, or of every layer that has it (NULL). */
MBP_API mbp_status mbp_net_set_layer(mbp_net *net, const char *layer, const char *name, double value, mbp_error *error);
/* Sets the activation of the i-th output: "identity", "softmax", "sigmoid", "exp"; NULL: not chosen. */
MBP_API mbp_status mbp_net_set_output(mbp_net *net, int i, const char *activation, mbp_error *error);
/* The activation of the i-th output; NULL if none is chosen or there is no such output. */
MBP_API const char *mbp_net_output_activation(const mbp_net *net, int i);

/* Notes: a UTF-8 text for the program's own use, such as the meaning of its columns. It is saved with the net. The net
 * copies it; NULL or "" removes it. mbp_net_notes: NULL if there are none; valid until they are set again. */
enum { MBP_NOTES_MAX = 16 << 20 }; /* bytes, including the terminating zero */
MBP_API mbp_status mbp_net_set_notes(mbp_net *net, const char *notes, mbp_error *error);
MBP_API const char *mbp_net_notes(const mbp_net *net);

/* Predicts the rows of x and writes the results to `out`. node = -1: one array per output. node >= 0: one array, for
 * the values of that node; raw is then ignored. Each array of `out` must have the net's dtype, be aligned for it, have
 * adjacent columns (col_stride of one element), and not overlap another array of `out`, the inputs or the parameters.
 * raw = 0: the output activations are applied (probabilities, rates). raw = 1: they are not (what the loss takes). */
MBP_API mbp_status mbp_net_predict(mbp_net *net, const mbp_array *x, int n_x, const mbp_array *out, int n_out, int raw,
                                   int node, mbp_error *error);

/* Files: safetensors with the graph in the metadata and a CRC-32C of the whole file. A save writes all or nothing. A
 * loaded net has the dtype and the seed of the file, not those of `options`. Loading a file of n bytes allocates less
 * than 4 n + 64 KiB, even if the file is damaged. */
MBP_API mbp_status mbp_net_save(const mbp_net *net, const char *path, mbp_error *error);
MBP_API mbp_status mbp_net_load(mbp_net **net, const char *path, const mbp_options *options, mbp_error *error);
/* Like save and load, but in memory. *size: on entry the size of the buffer `bytes`, on return the size needed.
 * MBP_INVALID if the buffer is too small. */
MBP_API mbp_status mbp_net_write(const mbp_net *net, void *bytes, size_t *size, mbp_error *error);
MBP_API mbp_status mbp_net_read(mbp_net **net, const void *bytes, size_t size, const mbp_options *options,
                                mbp_error *error);

/* Extras: data that a file may have besides the net, such as the state of a trainer: a UTF-8 text, and flat vectors in
 * the net's dtype. The name of a vector has at least three parts with dots between them ("trainer.slots.m"), so it is
 * never the name of a tensor. The parts consist of letters, digits, _ and -. The name has at most 63 characters. The
 * functions above load only the net of such a file, but they check the whole file. */
typedef struct mbp_vector {
    const char *name;
    const void *data;
    int64_t count;
} mbp_vector;

typedef struct mbp_extras {
    const char *text; /* not empty, and shorter than MBP_NOTES_MAX bytes */
    const mbp_vector *vector;
    int count; /* at most MBP_VECTORS_MAX */
} mbp_extras;
enum { MBP_VECTORS_MAX = 64 };

/* Like the four functions above, with extras (NULL: none). Load and read set *extras to NULL if the file has none;
 * otherwise the caller frees it. */
MBP_API mbp_status mbp_net_save_with(const mbp_net *net, const mbp_extras *extras, const char *path, mbp_error *error);
MBP_API mbp_status mbp_net_load_with(mbp_net **net, mbp_extras **extras, const char *path, const mbp_options *options,
                                     mbp_error *error);
MBP_API mbp_status mbp_net_write_with(const mbp_net *net, const mbp_extras *extras, void *bytes, size_t *size,
                                      mbp_error *error);
MBP_API mbp_status mbp_net_read_with(mbp_net **net, mbp_extras **extras, const void *bytes, size_t size,
                                     const mbp_options *options, mbp_error *error);
MBP_API void mbp_extras_free(mbp_extras *extras);

/* ---- training ---- */

typedef struct mbp_batch {
    size_t size;        /* sizeof(mbp_batch) */
    const mbp_array *x; /* one array per input, (rows, width) */
    int n_x;
    const mbp_array *y; /* one array per output: (rows, width), or for cross_entropy integer labels (rows, 1) */
    int n_y;
    const mbp_array *weight;          /* of each row, (rows, 1), at least 0 (0: the row is not read); NULL: all 1 */
    const mbp_array *element_weights; /* per output, (rows, 1) or (rows, width); not supported yet: NULL */
    const mbp_array *lengths;         /* the number of valid positions of each row; not supported yet: NULL */
} mbp_batch;

/* losses: one SPEC per output; NULL for an output whose gradient the caller passes to mbp_trainer_backward_from.
 * loss_weights: one factor per output (0: its targets are not read); NULL: all 1. The net must outlive the trainer.
 * A loss implies an output activation (mbp_formula_detail). If none is chosen for the output yet, this call sets it in
 * the net. If a different one is chosen, the call fails; mbp_net_set_output changes it. */
MBP_API mbp_status mbp_trainer_create(mbp_trainer **trainer, mbp_net *net, const char *const *losses,
                                      const double *loss_weights, int n_losses, const char *optimizer,
                                      mbp_error *error);
MBP_API void mbp_trainer_free(mbp_trainer *trainer);

/* One training step: forward, loss, backward, update. *loss: the sum over the outputs of
 * loss weight * sum(row weight * row loss) / sum(row weights), before the update. */
MBP_API mbp_status mbp_trainer_step(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error);

typedef struct mbp_backward {
    size_t size;          /* sizeof(mbp_backward) */
    int accumulate;       /* 1: add to the gradients; 0: replace them */
    int input_grads;      /* 1: also compute the gradients with respect to the inputs; 0 for rows of weight 0 */
    double total;         /* the divisor: the sum of the row weights of the whole logical batch; 0: of this batch */
    const double *totals; /* instead, one divisor per output; NULL: `total` for all. For now MBP_UNSUPPORTED */
    int64_t first_row;    /* how many rows of the logical batch are before this part; rows of weight 0 do not count */
} mbp_backward;

/* Computes the gradient of loss and penalties, without the update. A logical batch may be given in several parts, all
 * but the first with `accumulate`. So that the parts add up to the whole, the penalties are multiplied by this batch's
 * sum of row weights / total. If total is set, a part may have no rows. how = NULL means that all fields are 0. */
MBP_API mbp_status mbp_trainer_backward(mbp_trainer *trainer, const mbp_batch *batch, const mbp_backward *how,
                                        double *loss, mbp_error *error);
/* Updates the parameters from the gradients and adds 1 to the step count. MBP_NONFINITE if a gradient is not finite. */
MBP_API mbp_status mbp_trainer_apply(mbp_trainer *trainer, mbp_error *error);

/* The step in parts, for a custom loss of the caller; mbp_trainer_apply is the last part.
 * mbp_trainer_forward: the forward pass as in training, with x as the first rows of the logical batch.
 * mbp_trainer_output: *output becomes a view of the i-th output's raw values, valid until the next forward, backward,
 * step, evaluate or epoch of this trainer that is not refused. With several threads, read it under mbp_net_lock.
 * mbp_trainer_backward_from: the backward pass. gradients: one array per output, (rows, width), the gradient of the
 * loss (all weights included) with respect to the output's raw values. The gradient of the penalties is added unless
 * `accumulate` is set. x must still be valid, and the layers unchanged since mbp_trainer_forward. */
MBP_API mbp_status mbp_trainer_forward(mbp_trainer *trainer, const mbp_array *x, int n_x, mbp_error *error);
MBP_API mbp_status mbp_trainer_output(mbp_trainer *trainer, int i, mbp_array *output, mbp_error *error);
MBP_API mbp_status mbp_trainer_backward_from(mbp_trainer *trainer, const mbp_array *gradients, int n,
                                             const mbp_backward *how, mbp_error *error);

/* The loss of a batch of any size, as in inference (no dropout or noise, running statistics). Updates nothing. */
MBP_API mbp_status mbp_trainer_evaluate(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error);

typedef int (*mbp_poll)(void *user); /* called before each step of an epoch; a non-zero result cancels the epoch */

/* Trains on n rows of the data, one step for each `batch_rows` of them, without counting rows of weight 0; the last
 * batch may be smaller. index: the n row numbers, in the order of training; NULL: 0, 1, ..., n - 1. lr: one learning
 * rate per step; NULL: the trainer's "lr", which does not change. poll may be NULL. *loss: the weighted mean of the
 * losses of the rows, each at its own step; set on MBP_CANCELLED too if there was a step. *steps: the number of steps
 * completed, even on failure; they are not undone. All is checked before the first step, and again when it is used. */
MBP_API mbp_status mbp_trainer_epoch(mbp_trainer *trainer, const mbp_batch *data, const int64_t *index, int64_t n,
                                     int64_t batch_rows, const double *lr, mbp_poll poll, void *user, double *loss,
                                     int64_t *steps, mbp_error *error);

/* The flat gradient vector, in the net's dtype, in the order of mbp_net_params. */
MBP_API void *mbp_trainer_grads(mbp_trainer *trainer);
/* The optimizer's i-th slot (state per parameter), in the same order; NULL after the last. See mbp_formula_detail. */
MBP_API void *mbp_trainer_slot(mbp_trainer *trainer, int i);
/* The gradient with respect to the i-th input, from a backward or backward_from with input_grads. Valid as those of
 * mbp_trainer_output, and until the next backward_from. */
MBP_API mbp_status mbp_trainer_input_grad(mbp_trainer *trainer, int i, mbp_array *gradient, mbp_error *error);

/* Numbers of the trainer, by name. A value out of range is refused.
 * Parameters of the optimizer: "lr", "beta1", ...
 * Gradient clipping, off (infinity) unless set. The optimizer gets the clipped gradients; mbp_trainer_grads is not
 * clipped. Applied in this order: "clip_layer_norm" limits the Euclidean norm of each layer's gradient, weight and bias
 * together; "clip_norm" limits the norm of the whole gradient, of all layers that are not frozen (Pascanu et al. 2013);
 * "clip_value" limits the absolute value of each element.
 * State: "loss" is the loss of the current gradients (with `accumulate` the parts' losses are added), "last_loss" that
 * of the last update; NaN: unknown, as after mbp_trainer_backward_from. "average_count": the states in the average. */
MBP_API mbp_status mbp_trainer_get(const mbp_trainer *trainer, const char *name, double *value, mbp_error *error);
MBP_API mbp_status mbp_trainer_set(mbp_trainer *trainer, const char *name, double value, mbp_error *error);
/* The number of updates so far, up to 9e18. To restore an earlier state of the optimizer, set it and write the slots.
 * mbp_trainer_set_steps also resets "loss" and "last_loss" to NaN, and keeps the average. */
MBP_API int64_t mbp_trainer_steps(const mbp_trainer *trainer);
MBP_API mbp_status mbp_trainer_set_steps(mbp_trainer *trainer, int64_t steps, mbp_error *error);
/* Sets the seed of dropout and noise; the default is the net's. Each number depends only on seed, step count, node, row
 * in the logical batch, and column, so it is the same for any split of a batch into parts or among threads. */
MBP_API mbp_status mbp_trainer_set_seed(mbp_trainer *trainer, uint64_t seed, mbp_error *error);
/* Keeps an average of [parameters, buffers] over the states after updates number start, start + every, ..., as counted
 * by mbp_trainer_steps. decay < 1: a running average, in which a new state has the weight 1 - decay (Polyak & Juditsky
 * 1992). decay = 1: the mean of all these states (Izmailov et al. 2018, equation 2). It starts as a copy of the first
 * such state from now on. The first call allocates memory; each further call, and a reset, starts a new average. */
MBP_API mbp_status mbp_trainer_set_average(mbp_trainer *trainer, double decay, int64_t start, int64_t every,
                                           mbp_error *error);
/* The average: parameters, then buffers; NULL: none. *count (may be NULL): its number of states; 0: not started. */
MBP_API void *mbp_trainer_average(mbp_trainer *trainer, int64_t *count);
/* Zeroes gradients and average, and resets slots, step count, "loss" and "last_loss". */
MBP_API mbp_status mbp_trainer_reset(mbp_trainer *trainer, mbp_error *error);

/* ---- random numbers (Philox 4x32-10): the same arguments give the same numbers on every machine ---- */

/* Fills `order` with a permutation of 0 to n - 1. purpose: 2 to shuffle (instance: the epoch's number), 5 to split. */
MBP_API void mbp_permutation(uint64_t seed, int purpose, uint64_t instance, int64_t n, int64_t *order);

#ifdef __cplusplus
}
#endif

#endif
