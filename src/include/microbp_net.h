/* Part of microbp.h: networks. microbp.h describes the graph text. */
#ifndef MICROBP_NET_H
#define MICROBP_NET_H

#include "microbp_base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Makes a network from its graph text and draws its initial parameters. options NULL: float32, seed 0. */
MBP_API mbp_status mbp_net_create(mbp_net **net, const char *graph, const mbp_options *options, mbp_error *error);
MBP_API void mbp_net_free(mbp_net *net);
/* Makes a net of its own with the same graph, parameters, buffers, layer settings, frozen layers, output activations,
 * notes, dtype and seed. Of options, the allocator, the ISA, the pool and the threads count; NULL: those of `net`. */
MBP_API mbp_status mbp_net_copy(mbp_net **copy, const mbp_net *net, const mbp_options *options, mbp_error *error);

/* Makes room for predictions: afterwards a prediction of at most this many rows allocates nothing, as long as
 * predictions do not run side by side and the limit of threads is not raised. (From 16 outputs on, a check that they
 * are apart borrows memory; it also works without.) So a device needs no malloc: give the net an allocator that takes
 * blocks from a static array, one after the other, each at a multiple of 64 bytes, and call mbp_net_reserve and
 * mbp_trainer_reserve first. No block is released before the net is freed, so the array needs exactly
 * mbp_net_bytes + mbp_trainer_bytes bytes. This sum depends on the kernel variant and on the size of pointers: read it
 * on the device, with an array that is large enough, or on a machine of the same kind. */
MBP_API mbp_status mbp_net_reserve(mbp_net *net, int64_t rows, mbp_error *error);
/* How many bytes the net has now: all its blocks, each rounded up to a multiple of 64. Predictions that run side by
 * side each need a workspace; afterwards the net keeps one, and others of at most 16 MB, or of as many bytes as
 * mbp_net_reserve has made room for. */
MBP_API size_t mbp_net_bytes(const mbp_net *net);

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
/* How many numbers a row has: the columns of arrays, for nodes with several positions those of all of them. */
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
    int64_t from, to;              /* slice: its columns are from to to - 1 of its operand; others: 0 */
    int64_t levels;                /* ids: they are 0 to levels - 1; others: 0 */
    int hash;                      /* ids: 1: any number is hashed to one of the levels */
    int positions, height;         /* of a row, each of `width` columns; how many rows of positions they are */
    /* window, pool: size, stride, pad, dilation, each for the height, then for the width; others: 0 */
    int64_t window[8];
    const char *pool; /* pool: "max" or "mean"; others: NULL */
    int reverse;      /* recurrent: 1: from the last position to the first. Its second operand, if any, is its state */
} mbp_node_info;
typedef struct mbp_layer_info {
    size_t size; /* sizeof(mbp_layer_info) */
    const char *name, *operation;
    int64_t in, out;        /* columns; of an embedding levels and units; of a norm or a scale, both are its width */
    int gain, bias, frozen; /* 0 or 1; gain: of a scale, otherwise 1; beta is a bias */
    double lr, l1, l2, max_norm, eps, momentum, bias_lr; /* 0 if there is no such setting; bias_lr: -1 if not given */
    char activation[MBP_SPEC_MAX], init[MBP_SPEC_MAX], bias_init[MBP_SPEC_MAX]; /* SPECs of the layer; or "" */
    int sums;                          /* embedding: 1: combine=sum, 0: combine=concat */
    const char *cell;                  /* recurrent: "tanh", "gru" or "lstm"; others: NULL */
    char recurrent_init[MBP_SPEC_MAX]; /* recurrent: the SPEC of the weights of h; init: that of the weights of x */
} mbp_layer_info;
/* Fill in *info for the i-th node or layer; info->size must be set. Layers are in the order of their first use. */
MBP_API mbp_status mbp_net_node(const mbp_net *net, int i, mbp_node_info *info, mbp_error *error);
MBP_API mbp_status mbp_net_layer(const mbp_net *net, int i, mbp_layer_info *info, mbp_error *error);

/* Makes a net of some nodes of `net`: those between `inputs` and `outputs`, which are numbers of nodes. Each of
 * `inputs` becomes an input of the part. The part has the same layers with the same parameters, buffers, names and
 * settings, and either may be freed first. It has the pool of `net`, nodes with numbers of their own, and outputs with
 * the activation that they have in `net`, if they are outputs there.
 * mbp_net_params, mbp_net_buffers, mbp_net_assign and the gradients of a trainer are those of the whole net;
 * mbp_net_tensor says where the layers of the part are. One thread at a time may change the net or its parts. A trainer
 * changes only layers of its own net, and each net has frozen layers and settings of its own. A saved part is a net. */
MBP_API mbp_status mbp_net_part(mbp_net **part, mbp_net *net, const int *inputs, int n_inputs, const int *outputs,
                                int n_outputs, mbp_error *error);

/* Makes a net of the same nodes for sequences of this many positions, 1 or more: a grid of height 1 of an input, or of
 * an embedding of ids, is a sequence. It shares parameters and buffers with `net` as a part does, and has the output
 * activations, frozen layers and settings that `net` has now. So a net that was built for whole sequences runs on some
 * positions at a time, with a state. MBP_UNSUPPORTED: a node does not work position by position: window, pool, a grid
 * that makes one row of all positions, a recurrent node with reverse=1 or with the state of another node. */
MBP_API mbp_status mbp_net_with_length(mbp_net **other, mbp_net *net, int64_t positions, mbp_error *error);

/* The states of the recurrent nodes between calls: a row of numbers for each sequence and each recurrent node that
 * starts from zeros (one without state=). In mbp_prediction and mbp_batch, row r of the call goes on from row r of the
 * state, which becomes that after the last position; if the call fails, the state does not change. The rows of a state
 * may be more than those of the call. All numbers are 0 at first. One call at a time may use a state. It fits each net
 * with the same recurrent nodes and dtype: a copy, or one of mbp_net_with_length. The net may be freed first. */
MBP_API mbp_status mbp_state_create(mbp_state **state, const mbp_net *net, int64_t rows, mbp_error *error);
MBP_API void mbp_state_free(mbp_state *state);
MBP_API int64_t mbp_state_rows(const mbp_state *state);
/* Sets the states of these n rows to 0; rows NULL: of all. */
MBP_API mbp_status mbp_state_reset(mbp_state *state, const int64_t *rows, int64_t n, mbp_error *error);
/* The numbers of the i-th such node, (rows, columns) row-major in the net's dtype: the units, of lstm h, then c. You
 * may write to them. The pointer is valid as long as the state exists. NULL after the last node. */
MBP_API void *mbp_state_values(mbp_state *state, int i, int64_t *columns);
/* A state without its net, for numbers from a file of your own: of n nodes with these columns. */
MBP_API mbp_status mbp_state_create_for(mbp_state **state, mbp_dtype dtype, int64_t rows, const int64_t *columns, int n,
                                        mbp_error *error);

/* The flat parameter vector, in the net's dtype: first the weights of dense layers in layer order, each (in, out)
 * row-major; then, in layer order, all biases and the weights of norms and scales. You may write to it. The pointer is
 * valid as long as the net exists. */
MBP_API void *mbp_net_params(mbp_net *net, int64_t *count);
/* Brings all parameters up to date behind a pointer that you have: rows of sparse layers may have missed steps of
 * mbp_trainer_step (see mbp_trainer_sparse_grad). MBP_BUSY if there are such rows, and another thread uses the net. */
MBP_API mbp_status mbp_net_flush(mbp_net *net, mbp_error *error);
/* The flat vector of the buffers, the values that are saved but not trained: running statistics. */
MBP_API void *mbp_net_buffers(mbp_net *net, int64_t *count);

typedef struct mbp_tensor {
    const char *layer; /* the layer's name */
    const char *name;  /* "weight" or "bias"; a buffer's: "running_mean" or "running_var"; "mean" or "std" */
    int64_t offset;    /* the position of its first element in that flat vector (see buffer) */
    int64_t in, out;   /* a weight of dims 2 is (in, out) row-major; all other tensors have in = 1 */
    int dims;          /* 2: the weight of a dense or recurrent layer or an embedding; 1: all other tensors */
    int buffer;        /* 0: it is in mbp_net_params; 1: it is in mbp_net_buffers */
} mbp_tensor;

/* Fills in the i-th tensor and returns 1; 0 after the last. By layer: weight, bias, running_mean, running_var; of a
 * standardize layer mean, std. */
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
/* Sets the activation of the i-th output: "identity", "softmax", "sigmoid", "exp"; NULL: not chosen. It then has no
 * mean and std. */
MBP_API mbp_status mbp_net_set_output(mbp_net *net, int i, const char *activation, mbp_error *error);
/* The activation of the i-th output; NULL if none is chosen or there is no such output. */
MBP_API const char *mbp_net_output_activation(const mbp_net *net, int i);

/* Scales the i-th output, whose activation becomes identity: the predictions of column j are mean[j] + std[j] times the
 * raw output, and trainers of the net learn from (target - mean[j]) / std[j], with losses whose targets may be any
 * numbers. Losses, gradients and raw outputs are of scaled targets; measures are in the unit of the targets. One number
 * per column of the output, of which the first ones are the target's; gaussian_nll: mean 2 ln(std of the target) and
 * std 1 for a column of log-variances. mbp_trainer_fit with standardize_targets computes them from the targets; numbers
 * that the net's dtype cannot hold are refused. mbp_net_set_output(net, i, "identity") removes them. */
MBP_API mbp_status mbp_net_set_scale(mbp_net *net, int i, const double *mean, const double *std, mbp_error *error);
/* Copies them (NULL: not), and returns 1; 0: the output has none. */
MBP_API int mbp_net_scale(const mbp_net *net, int i, double *mean, double *std);

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

typedef struct mbp_prediction {
    size_t size;      /* sizeof(mbp_prediction) */
    const int *nodes; /* what each array of `out` gets: a node's number, or -1 - i for output i; NULL: all outputs */
    int n_nodes;      /* the length of nodes */
    int raw;          /* 1: outputs without their activation */
    int training;     /* 1: with dropout and noise (Gal & Ghahramani 2016) as of a first step; norms as in inference */
    uint64_t seed;    /* of dropout and noise; they depend on seed, node, row and column */
    const mbp_array *lengths; /* of sequences, as in mbp_batch; positions beyond them are 0 in `out`; NULL: none */
    mbp_state *state;         /* what recurrent nodes go on from, and what they leave; NULL: they start from zeros */
} mbp_prediction;

/* mbp_net_predict with more choices. how NULL: all fields are 0. `training` needs a build with trainers. */
MBP_API mbp_status mbp_net_predict_with(mbp_net *net, const mbp_array *x, int n_x, const mbp_array *out, int n_out,
                                        const mbp_prediction *how, mbp_error *error);

/* The derivatives of each row's raw outputs, as in inference: running statistics, no dropout or noise.
 * MBP_BY_PARAMS: with respect to the parameters. One array per output, of shape (rows, output's width * parameters):
 * the derivatives of the first column in the order of mbp_net_params, then those of the second, ... They are 0 for
 * frozen layers, and do not contain penalties.
 * MBP_BY_INPUTS: with respect to the row's inputs. One array per input for the first output, then those of the second,
 * ..., each of shape (rows, output's width * input's width).
 * output: the number of the only output that is wanted; -1: all. Each array of `out` must be as in mbp_net_predict.
 * Takes memory during the call. Only in a build with trainers. */
typedef enum mbp_by { MBP_BY_PARAMS, MBP_BY_INPUTS } mbp_by;
MBP_API mbp_status mbp_net_jacobian(mbp_net *net, const mbp_array *x, int n_x, mbp_by by, int output,
                                    const mbp_array *out, int n_out, mbp_error *error);

/* ---- networks in int8; a library that is compiled without MICROBP_INT8 has no such functions ---- */

/* A step of a chain of whole numbers; each reads the value of the one before it. A number q of a value, from 0 to 255,
 * stands for (q - zero) / inverse. `bp.quantize` of Python makes such a chain of a network.
 *     "quantize"  The first step: q = round((x - mean) * scale * inverse) + zero of each column of x, cut to 0 to 255;
 *                 NaN is 0.
 *     "dense"     Of each position: z = float(start + weight q) * scale, y = activation(z), and q from y * inverse in
 *                 the same way. The last step is dense; its value is y.
 *     "window", "pool"  The positions of the operand under a window, as in the statements of a graph; zero is that of
 *                 the operand. A mean is rounded.
 * All round half-way cases to the even number. Results have the same bits on every processor. */
typedef struct mbp_int8_step {
    size_t size; /* sizeof(mbp_int8_step) */
    const char *operation;
    int64_t positions, width; /* of its value; quantize: all columns are one position */
    int64_t operand[3];       /* window, pool: height, width and columns of the operand */
    int64_t window[8];        /* window, pool: as in mbp_node_info */
    const char *pool;         /* pool: "max" or "mean" */
    const int8_t
        *weight; /* dense: (width, inputs) row-major, without -128; inputs: numbers of the operand / positions */
    const int32_t *start;   /* dense: of each unit. start + 255 x the sum of |weight| must fit an int32_t */
    const float *scale;     /* quantize: of each column, or NULL: 1; dense: of each unit */
    const float *mean;      /* quantize: of each column; NULL: 0 */
    const char *activation; /* dense: a SPEC; NULL: identity */
    float inverse;          /* quantize, and dense but the last */
    int zero;               /* all but the last dense step: 0 to 255 */
} mbp_int8_step;

typedef struct mbp_int8 mbp_int8;

/* Makes a network of these steps, of which it keeps nothing. output: the output activation, as of mbp_net_set_output;
 * NULL: none. mean, std: of the targets, one for each number of a row's output, as of mbp_net_set_scale; NULL: none.
 * Of options, the allocator, the ISA, the pool and the threads count. */
MBP_API mbp_status mbp_int8_create(mbp_int8 **net, const mbp_int8_step *steps, int count, const char *output,
                                   const double *mean, const double *std, const mbp_options *options, mbp_error *error);
MBP_API void mbp_int8_free(mbp_int8 *net);
/* As mbp_net_predict, of one input and one output of floats. Threads may predict with one network side by side. */
MBP_API mbp_status mbp_int8_predict(mbp_int8 *net, const mbp_array *x, const mbp_array *out, int raw, mbp_error *error);
/* As mbp_net_reserve and mbp_net_bytes. */
MBP_API mbp_status mbp_int8_reserve(mbp_int8 *net, int64_t rows, mbp_error *error);
MBP_API size_t mbp_int8_bytes(const mbp_int8 *net);

#ifdef __cplusplus
}
#endif

#endif
