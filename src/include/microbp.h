/* microbp: small and medium dense networks, trained in C.
 *
 * A network is a directed acyclic graph of dense layers, written as text. A trainer adds losses and an optimizer; one
 * call does one training step, or one epoch.
 *
 *     float x[4][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}}, y[4] = {0, 1, 1, 0};
 *     mbp_array inputs = mbp_f32(x[0], 4, 2), targets = mbp_f32(y, 4, 1);
 *     mbp_batch batch = {.size = sizeof batch, .x = &inputs, .n_x = 1, .y = &targets, .n_y = 1};
 *     mbp_net *net; mbp_trainer *trainer; mbp_error error; double loss;
 *     mbp_net_create(&net, "input 2\ndense 0 units=8 activation=tanh\ndense 1 units=1\noutput 2\n", NULL, &error);
 *     mbp_trainer_create(&trainer, net, (const char *[]){"bce"}, NULL, 1, "adam(lr=0.05)", &error);
 *     mbp_trainer_step(trainer, &batch, &loss, &error);
 *
 * Graph text. One statement per line; blank lines and lines that start with '#' are skipped. Nodes are numbered from 0
 * in the order of their lines, and take only earlier nodes as operands (A, B below). A graph has at most 16384 nodes of
 * at most 2^31 - 1 columns each. A row of a node is one position, or several: see grid, window, pool. Statements work
 * on each position by itself, as on rows; batch_norm has statistics over all of them. Operands have the same positions.
 * Arrays of callers have positions x columns numbers in a row, and so have targets. Labels and weights: one for each
 * position.
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
 *     ids COLUMNS levels=N hash=0|1
 *         An input of whole numbers of any integer dtype, each from 0 to N - 1. hash=1: any whole number of 64 bits;
 *         the level of n is mbp_hash_level(mbp_hash_number(n, 0), N). Only embeddings read it.
 *     embedding A layer=NAME units=N combine=concat|sum init=SPEC frozen=0|1 lr=1 max_norm=0
 *         The rows of the weight (levels, N) that the ids of A name, side by side (concat: COLUMNS N columns), or added
 *         in the order of the columns (sum: N columns). In a trainer its gradient has only the rows that a batch names:
 *         see mbp_trainer_sparse_grad. init=auto is normal(std=0.05); for other initializers, the inputs of a unit are
 *         1. max_norm: after an update, the rows that its batch names are scaled down to this norm; 0: no limit. If A
 *         is another node, x W, as by a dense layer without bias. A layer that exists is used again as above.
 *     activation A SPEC           Applies the activation to each element.
 *     add A B ...  |  subtract A B  |  multiply A B
 *         Element by element. The operands have the same width, and may be the same node. add takes two or more, and
 *         adds them in this order.
 *     concat A B ...              The columns of all operands side by side.
 *     slice A from=F to=T         The columns F to T - 1 of A, counted from 0: 0 <= F < T <= width of A. It is no copy.
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
 *     standardize A layer=NAME frozen=0|1
 *         (x - mean) / std for each column, with the layer's buffers "mean" (0 at first) and "std" (1 at first), which
 *         mbp_net_standardize and mbp_trainer_fit set, and you may write. Steps do not change them.
 *     grid A height=H width=W     The numbers of a row of A as H x W positions, row by row, of equally many columns.
 *         1 x 1: as one position. It is no copy.
 *     window A size=HxW stride=HxW pad=HxW dilation=HxW
 *         For each place of a window, the H x W positions of A under it side by side, as the columns of one position; 0
 *         outside of A. The defaults are stride=1x1 pad=0x0 dilation=1x1. A dense layer of it is a convolution.
 *     pool A size=HxW stride=HxW kind=max|mean
 *         For each place of a window and each column, the largest number or the mean. The default of stride is the
 *         size. Of equal numbers, the gradient goes to the first; NaN is the largest.
 *     repeat A times=T  |  last A
 *         T positions, each with the columns of A, which has one position; the last position of A.
 *     recurrent A layer=NAME units=N cell=tanh|gru|lstm init=SPEC recurrent_init=SPEC bias=0|1 bias_init=SPEC
 *               frozen=0|1 lr=1 l1=0 l2=0 max_norm=0 bias_lr=0.5 reverse=0|1 state=B
 *         Goes from position to position, with reverse=1 from the last to the first, with a state h of N columns, which
 *         is its value there. s: the sigmoid; each gate has its own part of the weights W (of A), U (of h) and b.
 *             tanh  h' = tanh(x W + h U + b)
 *             gru   r, z = s(x W + h U + b), n = tanh(x W + b + r (h U + b2)), h' = (1 - z) n + z h
 *             lstm  i, f, o = s(x W + h U + b), g = tanh(x W + h U + b), c' = f c + i g, h' = o tanh(c')
 *         The weight is (columns of A + N, gates x N): W above U, gates side by side in the order r z n or i f g o. The
 *         bias is as long as a row of it, of gru followed by b2. init: of W, auto is glorot_uniform; recurrent_init: of
 *         U, auto is orthogonal; bias_init: auto is zeros; the biases of f are 1 larger. The default cell is gru. B: a
 *         node of one position with the first state, N columns, of lstm 2 N, h and then c; without it, zeros. Again:
 *         recurrent A layer=NAME reverse=0|1 state=B.
 *     output A activation=NAME
 *         Makes node A an output. mbp_net_predict applies the activation to it: identity, softmax, sigmoid or exp. If
 *         none is chosen yet, predictions are raw values; mbp_trainer_create chooses the one that the loss implies.
 *         With activation=identity it may have mean=(M0 M1 ...) std=(S0 S1 ...), a number per column: see
 *         mbp_net_set_scale.
 *
 * A SPEC is the name of a formula with its parameters: relu, adam(lr=1e-3, eps=1e-12). In graph text, blanks may only
 * be between its parentheses. Numbers are decimal (at most 15 digits) or hexadecimal (0x1.8p-3). mbp_formula_parameters
 * gives the parameters, defaults and ranges, mbp_formula_meaning the formula and source. Parameters of losses that are
 * sums over the outputs may be lists, one number for each output: bce(pos_weight=[1 20 3]). The names are:
 *
 *     activations   identity relu leaky_relu elu selu gelu silu mish softplus softsign sigmoid hard_sigmoid tanh
 *                   scaled_tanh affine abs square exp sin cos
 *     losses        mse half_sse mae huber smooth_l1 log_cosh quantile poisson bce hinge cross_entropy kl gaussian_nll
 *     optimizers    sgd sgd_momentum sgd_nesterov momentum momentum_nesterov asgd adagrad adadelta rmsprop
 *                   rmsprop_momentum rmsprop_centered rmsprop_centered_momentum adam adam_amsgrad adamw adamw_amsgrad
 *                   adamax nadam radam adabelief lion ftrl rprop_minus irprop_minus irprop_plus lamb
 *     initializers  auto normal uniform glorot_normal glorot_uniform he_normal he_uniform lecun_normal lecun_uniform
 *                   fan_in_uniform orthogonal zeros array (array: values that you write to mbp_net_params)
 *
 * Conventions. Every function that can fail returns an mbp_status and, if it fails, fills the caller's mbp_error (which
 * may be NULL). A call that fails changes no network, no optimizer state and no array of the caller; a step that fails
 * may leave its gradients in mbp_trainer_grads, and an epoch keeps the steps that it completed. Each create has its
 * free, which accepts NULL. The library never prints, exits, reads the environment or the locale, or has global state.
 *
 * Threads. One thread at a time may change a net or use its trainers: such a call holds the net until it returns, and
 * one of a second thread returns MBP_BUSY. A function of yours that a training calls (poll, callback, gather) may do
 * everything but free, and train (step, backward, apply, forward, backward_from, epoch, fit; also mbp_trainer_reserve
 * and mbp_trainer_set_reduce): MBP_BUSY. Any number of threads may predict, save, copy and describe a net, or make
 * parts of it, at a time, also while one trains: they see the state between two steps. mbp_trainer_steps and
 * mbp_trainer_get never wait.
 *
 * Memory. A net's parameters are allocated when it is created, a trainer's gradients and slots when that is created.
 * Memory for the rows of a batch is allocated by the first call, and again only by a call with more rows than any
 * before; otherwise, training and predictions allocate nothing. mbp_net_reserve and mbp_trainer_reserve allocate it in
 * advance. A net keeps one such block per concurrent prediction.
 *
 * Structures that start with `size` may get more fields in later versions. Set `size` to sizeof the structure, and all
 * fields that you do not use to 0, which is always the default: `mbp_batch batch = {.size = sizeof batch, ...}` in C,
 * `mbp_batch batch = {}; batch.size = sizeof batch;` in C++. */
#ifndef MICROBP_H
#define MICROBP_H

#include "microbp_base.h"
#include "microbp_file.h"
#include "microbp_net.h"
#include "microbp_train.h"

#endif
