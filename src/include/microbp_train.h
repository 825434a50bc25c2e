/* Part of microbp.h: training. A library that is compiled without MICROBP_TRAINING does not have these functions. */
#ifndef MICROBP_TRAIN_H
#define MICROBP_TRAIN_H

#include "microbp_net.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mbp_batch {
    size_t size;        /* sizeof(mbp_batch) */
    const mbp_array *x; /* one array per input, (rows, width) */
    int n_x;
    /* One array per output: (rows, width), or for cross_entropy integer labels (rows, 1), or (rows, positions). With
     * the parameter missing=1 of the loss, "mse(missing=1)", NaN and the label -1 are targets that are not there; so is
     * a row, or a position, of probabilities with a NaN. */
    const mbp_array *y;
    int n_y;
    const mbp_array *weight; /* of each row, (rows, 1), at least 0 (0: the row is not read); NULL: all 1 */
    /* One array per output: a factor of the row's weight, (rows, 1), or one for each target, as wide as y (not for
     * cross_entropy, kl and gaussian_nll, which need all targets of a row); of several positions one for each; data
     * NULL: all 1. NULL: none.
     * The weight of an element is 0 if its target is not there. An element of weight 0 is not read; a row is not read
     * if all its elements have weight 0, in all outputs whose loss weight is not 0. */
    const mbp_array *element_weights;
    /* One array per input: how many positions of each row are there, (rows, 1), integers from 0 to the positions of the
     * sequence, a grid of height 1 of this input; data NULL: all are there. NULL: none has lengths.
     * A row of length L gives what the same net for sequences of length L gives for it: the other positions have no
     * loss, no gradient and no statistics. Values beyond a length may be anything. */
    const mbp_array *lengths;
    /* What recurrent nodes go on from, and what they leave (mbp_state_create); no gradient goes into it. All rows go
     * on, also those of weight 0 or without targets. Not for mbp_trainer_epoch, fit and measure. NULL: they start from
     * zeros. */
    mbp_state *state;
    /* For mbp_trainer_step of a solver. 1: the rows are those of the step before, with the same numbers, so that their
     * loss at the parameters that it has left need not be computed again. 0: they may be others. */
    int same;
} mbp_batch;

/* A batch of a net with one input and one output, all rows with weight 1. */
MBP_INLINE mbp_batch mbp_batch_of(const mbp_array *x, const mbp_array *y) {
    mbp_batch batch;
    batch.size = sizeof batch;
    batch.x = x;
    batch.y = y;
    batch.n_x = batch.n_y = 1;
    batch.weight = batch.element_weights = batch.lengths = NULL;
    batch.state = NULL;
    batch.same = 0;
    return batch;
}

/* How many target columns a row has for an output of this many columns: as many, but with gaussian_nll half of them (T
 * means, then T log-variances), and with quantile(q=[0.1 0.9]) one for each 2 columns (the 0.1-quantiles of all T
 * targets, then their 0.9-quantiles). Fails if the numbers do not fit each other. */
MBP_API mbp_status mbp_loss_target_columns(const char *loss, int64_t columns, int64_t *targets, mbp_error *error);

/* optimizer: a SPEC of an optimizer or of a solver.
 * losses: one SPEC per output; NULL for an output whose gradient the caller passes to mbp_trainer_backward_from.
 * loss_weights: one factor per output, at least 0 (0: its targets are not read); NULL: all 1. The net must outlive the
 * trainer.
 * A loss implies an output activation (mbp_formula_detail). If none is chosen for the output yet, this call sets it in
 * the net. If a different one is chosen, the call fails; mbp_net_set_output changes it. */
MBP_API mbp_status mbp_trainer_create(mbp_trainer **trainer, mbp_net *net, const char *const *losses,
                                      const double *loss_weights, int n_losses, const char *optimizer,
                                      mbp_error *error);
/* If rows of its sparse layers have not caught up, waits until no other thread holds the net. */
MBP_API void mbp_trainer_free(mbp_trainer *trainer);

/* Makes room for batches: afterwards every call for at most this many dense rows (an epoch: this many per step)
 * allocates nothing, but the first with element weights does, and one with more sparse values than any before. May end
 * the views of mbp_trainer_output and mbp_trainer_input_grad. Memory without malloc: mbp_net_reserve. A trainer
 * allocates only here, in its create, in its first call with more rows, sparse values or with element weights, in
 * mbp_trainer_set_average, and in mbp_trainer_fit, which takes one block and gives it back at its end. */
MBP_API mbp_status mbp_trainer_reserve(mbp_trainer *trainer, int64_t rows, mbp_error *error);
/* How many bytes the trainer has now, without its net: all its blocks, each rounded up to a multiple of 64. */
MBP_API size_t mbp_trainer_bytes(const mbp_trainer *trainer);

/* One training step: forward, loss, backward, update. *loss: the sum over the outputs of
 * loss weight * sum(row weight * row loss) / sum(row weights), before the update. With element weights or missing
 * targets, the loss of an output is
 *     c * sum(w * element loss) / total,   total = sum over the rows of the mean of w over the columns,
 * where w is the weight of the element and c is 1 / columns for a loss that is a mean over the columns, else 1. So such
 * a loss is sum(w * element loss) / sum(w); rows without a target count as if they were left out; and an output that
 * has no target in the batch adds 0.
 * If the trainer has a solver, such as "lbfgs(history=10)", a step is one iteration on these rows, which moves to a
 * point with a lower loss, penalties included, and *loss is the loss there; so are the gradients. If none is found, the
 * parameters stay, and it is not counted as a step. A solver does not work with mbp_trainer_apply and epoch,
 * clipping, averages, reduce functions, states, sparse layers, dropout, noise, batch_norm, l1, max_norm, and lr of
 * layers. */
MBP_API mbp_status mbp_trainer_step(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error);

/* A loss of the caller at the net's present parameters: calls mbp_trainer_forward, and mbp_trainer_backward_from with
 * its gradient. *value: the loss, without the layers' penalties. MBP_NONFINITE: it, or its gradient, is not finite. Any
 * other result than MBP_OK ends the iteration. It may do everything that an mbp_poll may, too. */
typedef mbp_status (*mbp_own_loss)(void *user, double *value, mbp_error *error);
/* One iteration of the trainer's solver (mbp_trainer_step) on such a loss; the solver must not need the losses that the
 * trainer has, as levenberg_marquardt does. same: 1: the loss is the same function as in the iteration before. *value:
 * the loss after the iteration. On an error, the parameters are as before. */
MBP_API mbp_status mbp_trainer_iterate(mbp_trainer *trainer, mbp_own_loss loss, void *user, int same, double *value,
                                       mbp_error *error);

typedef struct mbp_backward {
    size_t size;          /* sizeof(mbp_backward) */
    int accumulate;       /* 1: add to the gradients; 0: replace them */
    int input_grads;      /* 1: also compute the gradients with respect to the inputs; 0 for rows of weight 0 */
    double total;         /* the divisor: the sum of the row weights of the whole logical batch; 0: of this batch */
    const double *totals; /* instead, one total per output (mbp_trainer_step), 0 if it has no target; NULL: `total` */
    int64_t first_row;    /* how many rows of the logical batch are before this part; rows of weight 0 do not count */
} mbp_backward;

/* Computes the gradient of loss and penalties, without the update. A logical batch may be given in several parts, all
 * but the first with `accumulate`. So that the parts add up to the whole, the penalties are multiplied by this batch's
 * sum of row weights / total; with element weights, missing targets or totals, by the mean over the outputs of their
 * total here / divisor. If total or totals is set, a part may have no rows. how = NULL means that all fields are 0. */
MBP_API mbp_status mbp_trainer_backward(mbp_trainer *trainer, const mbp_batch *batch, const mbp_backward *how,
                                        double *loss, mbp_error *error);
/* Updates the parameters from the gradients and adds 1 to the step count. MBP_NONFINITE if a gradient is not finite.
 * Layers that were frozen after the backward pass do not change, and their gradients become 0.
 * The gradients are what mbp_trainer_grads has: those of the last backward pass, or numbers that you wrote. They stay,
 * so a second apply uses them again; in a new trainer they are 0. */
MBP_API mbp_status mbp_trainer_apply(mbp_trainer *trainer, mbp_error *error);

/* The step in parts, for a custom loss of the caller; mbp_trainer_apply is the last part.
 * mbp_trainer_forward: the forward pass as in training, with x as the first rows of the logical batch.
 * mbp_trainer_output: *output becomes a view of the i-th output's raw values, valid until the next forward, backward,
 * step, evaluate, measure, epoch or fit of this trainer that is not refused. With several threads, read it under
 * mbp_net_lock.
 * mbp_trainer_backward_from: the backward pass. gradients: one array per output, (rows, width), the gradient of the
 * loss (all weights included) with respect to the output's raw values. The gradient of the penalties is added unless
 * `accumulate` is set. x must still be valid. After a change of layers, an update by any trainer of the net or of its
 * parts, or mbp_net_standardize, call mbp_trainer_forward again. May be called several times after one forward, whose
 * running statistics (batch_norm) count once. */
MBP_API mbp_status mbp_trainer_forward(mbp_trainer *trainer, const mbp_array *x, int n_x, mbp_error *error);
MBP_API mbp_status mbp_trainer_output(mbp_trainer *trainer, int i, mbp_array *output, mbp_error *error);
MBP_API mbp_status mbp_trainer_backward_from(mbp_trainer *trainer, const mbp_array *gradients, int n,
                                             const mbp_backward *how, mbp_error *error);

/* The loss of a batch of any size, as in inference (no dropout or noise, running statistics). Updates nothing. */
MBP_API mbp_status mbp_trainer_evaluate(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error);

/* The loss of output i in the last step, backward, evaluate or epoch that succeeded, before its loss weight: the sum of
 * loss weight * value over the outputs is the *loss of that call. In a callback of mbp_trainer_fit: of the validation
 * rows if there are any, else of the epoch. NaN: there was no such call yet, or the output's loss weight is 0, so that
 * its targets are not read. Files do not keep it. Any thread may call it at any time. With "penalty_per_row", *loss is
 * that sum and the penalties. */
MBP_API mbp_status mbp_trainer_output_loss(const mbp_trainer *trainer, int i, double *value, mbp_error *error);

/* How good the predictions of an output are, as in inference, by the name of a metric of Python (help(bp.accuracy)).
 * Rows, or elements, count by their weights, and missing targets do not count. For cross_entropy: accuracy,
 * subset_accuracy, balanced_accuracy, f1, brier. For hinge: the first four. For bce: all. For other losses: rmse, mae,
 * r2, pinball. Labels are decided by the rule of the loss:
 * for cross_entropy the largest raw output; for bce and hinge each column by itself, raw output > 0. Numbers are those
 * of mbp_net_predict. The value is that of Python's bp.rmse(y, net.predict(x)), ... to 12 digits. Python's fit applies
 * the output activation in double: its metrics of a float32 net differ by about 1e-7. Takes memory during the call. */
MBP_API mbp_status mbp_trainer_measure(mbp_trainer *trainer, const mbp_batch *batch, int output, const char *name,
                                       double *value, mbp_error *error);

typedef int (*mbp_poll)(void *user); /* called before each step of an epoch; a non-zero result cancels the epoch */

/* Trains on n rows of the data, one step for each `batch_rows` of them, without counting rows of weight 0; the last
 * batch may be smaller. index: the n row numbers, in the order of training; NULL: 0, 1, ..., n - 1. lr: one learning
 * rate per step; NULL: the trainer's "lr", which does not change. poll may be NULL. *loss: the weighted mean of the
 * losses of the rows, each at its own step (with element weights or missing targets, the mean of each output by its
 * totals); set on MBP_CANCELLED too if there was a step. *steps: the number of steps completed, even on failure; they
 * are not undone. All is checked before the first step, and again when it is used. */
MBP_API mbp_status mbp_trainer_epoch(mbp_trainer *trainer, const mbp_batch *data, const int64_t *index, int64_t n,
                                     int64_t batch_rows, const double *lr, mbp_poll poll, void *user, double *loss,
                                     int64_t *steps, mbp_error *error);

/* Sets the mean and std of all standardize layers that are not frozen, from the rows of x: those of the values that
 * each layer gets. A column without differences gets std 1. again = 0: only of layers that have none yet, whose mean
 * and std are still 0 and 1. mbp_trainer_fit does this before its first epoch, without the rows of weight 0. Takes
 * memory during the call. */
MBP_API mbp_status mbp_net_standardize(mbp_net *net, const mbp_array *x, int n_x, int again, mbp_error *error);

typedef struct mbp_record {
    size_t size;     /* sizeof(mbp_record) */
    int64_t epoch;   /* its number, from 1: the trainer's "epoch" after it */
    int64_t steps;   /* mbp_trainer_steps after it */
    double loss;     /* as that of mbp_trainer_epoch */
    double val_loss; /* the loss of the validation rows after the epoch; NaN: there are none */
    double lr;       /* of its last step; NaN: of a solver */
    int best;        /* 1: with this epoch, val_loss has improved on its best by more than min_delta */
    /* What has ended the fit: "epochs" (there were as many as wanted), "goal", "gradient", "patience", "max_time",
     * "callback"; with a solver also "no step": no better point was found. NULL: nothing yet, or an error. */
    const char *reason;
} mbp_record;

typedef struct mbp_fit {
    size_t size;                 /* sizeof(mbp_fit) */
    int64_t epochs;              /* how many more epochs to train, at least 1 */
    int64_t batch_rows;          /* rows per step; 0: 32 */
    int keep_order;              /* 1: rows in their order; 0: each epoch has another order, by seed and epoch */
    const mbp_batch *validation; /* NULL: none */
    int64_t patience; /* stop after this many epochs without a better val_loss, and restore the best state; 0: never */
    double min_delta; /* the smallest improvement that counts */
    /* Called with the record of each epoch; a non-zero result ends the fit. It may save the net, evaluate, change "lr":
     * everything but train and free. An average that it starts or changes stays as it is. NULL: none. */
    int (*callback)(const mbp_record *record, void *user);
    mbp_poll poll; /* as in mbp_trainer_epoch; NULL: none */
    void *user;    /* the argument of callback and poll */
    /* 1: before the first epoch, sets the mean and std (mbp_net_set_scale) of each output that has none yet: those of
     * its targets that are there, by column, each counted once; a column without differences gets std 1. For losses of
     * any numbers. If the fit fails before its first step, they are removed again. */
    int standardize_targets;
    double goal;               /* stop after an epoch whose loss is at most this; 0: never */
    double gradient_tolerance; /* stop after an epoch after which no gradient has a larger absolute value; 0: never */
    double max_time;           /* stop after the first epoch that ends after so many seconds; 0: never. Needs threads */
} mbp_fit;

/* Trains for several epochs, on all rows of the data. With a solver, an epoch is one iteration on all rows, without
 * batch_rows and order; its loss is that after the iteration. Python's `fit` gives the same bits. With patience, the
 * best epoch's state comes back at the end, also after an error: parameters, buffers, gradients, slots, the optimizer's
 * parameters, average, the solver's state, steps and "epoch". *record (may be NULL): the record of the epoch whose
 * state the trainer has, if an epoch was completed. All is checked, and all memory is taken, before the first step. On
 * an error, an incomplete epoch does not count, but without patience its steps stay. */
MBP_API mbp_status mbp_trainer_fit(mbp_trainer *trainer, const mbp_batch *data, const mbp_fit *how, mbp_record *record,
                                   mbp_error *error);

/* ---- several processes ---- */

/* How a trainer exchanges bytes with those of other processes, each with its own rows and a copy of the net. The
 * functions may do what an mbp_poll may; a non-zero result: the exchange failed, and the call that needs it returns
 * MBP_CANCELLED. All but begin return when the exchange is done. At most 1 MB is exchanged at a time, or 512 bytes of
 * each process, if that is more. */
typedef struct mbp_reduce {
    size_t size;
    int64_t rank, ranks; /* of this process, from 0 on, and how many there are */
    /* `all` gets the `bytes` bytes of each process, in the order of the ranks (MPI_Allgather). `mine` may be the place
     * in `all` where they go. */
    int (*gather)(const void *mine, void *all, int64_t bytes, void *user);
    /* The j-th `bytes` bytes of `mine` go to process j; `theirs` gets what the processes have for this one, in the
     * order of the ranks (MPI_Alltoall). NULL: gather does it, which sends more. */
    int (*swap)(const void *mine, void *theirs, int64_t bytes, void *user);
    /* As swap, but may return before it is done (MPI_Ialltoall): the gradients of a step are sent while the backward
     * pass goes on, and other exchanges are made meanwhile. NULL: they are sent after it. */
    int (*begin)(const void *mine, void *theirs, int64_t bytes, void *user);
    int (*finish)(void *user); /* waits for all that begin has begun (MPI_Waitall); with begin */
    /* 0 or 1: each step is on the rows of all processes. k: on the own rows, without an exchange. After each step whose
     * number k divides, and at the end of an epoch, parameters, running statistics, slots and the average become their
     * means over all processes: sums in the order of the ranks, divided by `ranks`. */
    int64_t every;
    void *user;
} mbp_reduce;

/* how NULL: this process trains alone. All processes make the same calls at the same time, with equal nets, trainers
 * and seeds. A step on N processes is then the step on all their rows together, in the order of the ranks: gradients,
 * losses and totals are added in that order and in their dtype, whatever the network does, so that all processes stay
 * equal to the bit. The result differs from that of one process with all rows by rounding. *loss is the loss of all
 * rows.
 *     mbp_trainer_step        joins the row weights, losses and gradients; then come clipping and the update. Dropout
 *                             and noise are those of the joined rows
 *     mbp_trainer_backward    joins the row weights, unless how->total is set: to the sum over all processes and parts.
 *                             Gradients and loss are the parts of this process. how->first_row is not used: with
 *                             `accumulate`, rows are counted over all parts and processes
 *     mbp_trainer_forward     counts the rows of all processes. After mbp_trainer_backward_from, the penalties of all
 *                             processes add up to one
 *     mbp_trainer_apply       joins the gradients and the loss
 *     mbp_trainer_epoch       as in a step. There are steps until all processes are out of rows; `lr` is as long, and
 *                             n may be 0
 *     mbp_trainer_fit         as in an epoch; joins the validation loss, which is that of all validation rows, and
 *                             whether a callback ends the fit. All processes have validation rows, or none does
 * One process may have no rows, except in mbp_trainer_forward. If a call is refused in one process or cancelled by its
 * poll, the others return MBP_CANCELLED before they change anything; if a loss or gradient of a step is not finite, all
 * return MBP_NONFINITE. An argument NULL and MBP_BUSY are not told to the others. Evaluate and measure are of this
 * process alone. batch_norm has the statistics of the rows of all processes, unless it is frozen; mbp_trainer_forward
 * and mbp_trainer_backward_from join these too. A layer that is sparse in one process becomes sparse in all, and a step
 * changes the rows that any of them names. All memory is taken here, except that of sparse layers, which grows.
 *
 * With `every` > 1, *loss and the statistics of batch_norm of a step are those of the own rows, and the loss of an
 * epoch is of all rows. A process without rows in a step, or whose epoch ends before those of others, counts the steps
 * without an update. Dropout and noise add the rank to the seed. The others learn at the next means that a process has
 * failed: until then, they go on. Means of processes that have made different numbers of steps are refused in all. */
MBP_API mbp_status mbp_trainer_set_reduce(mbp_trainer *trainer, const mbp_reduce *how, mbp_error *error);
/* The first process that failed in the trainer's last call, if the others know it; else -1. */
MBP_API int64_t mbp_trainer_failed_rank(const mbp_trainer *trainer);

/* ---- solvers on any function ---- */

/* A function of n numbers, for mbp_minimize. */
typedef struct mbp_function {
    size_t size;       /* sizeof(mbp_function) */
    int64_t n;         /* how many numbers x has */
    int64_t residuals; /* 0: any function. m: least squares, half the sum of the squares of m residuals */
    /* Writes what the function is at x (n): its value and its gradient (n); of least squares the m residuals, and
     * unless `derivatives` is NULL, their derivatives (m, n), row by row. A non-zero result ends mbp_minimize, which
     * returns MBP_CANCELLED. NaN and infinity mean that x is outside of the domain: the step will be shorter. */
    int (*compute)(const double *x, double *values, double *derivatives, void *user);
    void *user; /* the argument of compute */
} mbp_function;

typedef struct mbp_minimum {
    size_t size;         /* sizeof(mbp_minimum) */
    double value;        /* of the function at x */
    int64_t iterations;  /* how many have moved x */
    int64_t evaluations; /* calls of `compute` */
    const char *reason;  /* to stop: "goal", "gradient", "no step" (no better point can be found), "iterations" */
} mbp_minimum;

/* Minimizes a function from x on, with a solver: a SPEC such as "lbfgs(history=10)". Never ends at a worse point.
 * iterations: how many at most. goal: stop at a value that is at most this; -INFINITY: none. gradient_tolerance: stop
 * where no element of the gradient is larger than this. gradient (n): becomes the one at x; may be NULL. *minimum may
 * be NULL. On an error, x is the best point so far, and gradient and *minimum do not change. MBP_NONFINITE: the
 * function is not finite at the first x. Takes one block of memory during the call. */
MBP_API mbp_status mbp_minimize(const char *solver, const mbp_function *function, int64_t iterations, double goal,
                                double gradient_tolerance, double *x, double *gradient, mbp_minimum *minimum,
                                mbp_error *error);

/* The flat gradient vector, in the net's dtype, in the order of mbp_net_params; 0 for the weights of sparse layers. */
MBP_API void *mbp_trainer_grads(mbp_trainer *trainer);
/* The optimizer's i-th slot (state per parameter), in the same order; NULL after the last. See mbp_formula_detail. */
MBP_API void *mbp_trainer_slot(mbp_trainer *trainer, int i);
/* The state of a solver: what its next iteration depends on besides the parameters. Returns how many numbers it is (0:
 * the trainer has no solver, or that has not begun), and writes them to `numbers`, unless that is NULL. */
MBP_API int64_t mbp_trainer_solver_state(const mbp_trainer *trainer, double *numbers);
/* To restore it. count 0: the solver starts anew. */
MBP_API mbp_status mbp_trainer_set_solver_state(mbp_trainer *trainer, const double *numbers, int64_t count,
                                                mbp_error *error);
/* Sparse layers. A dense layer is sparse from the first step or backward pass on in which it reads a sparse input
 * (mbp_array.indptr), until mbp_trainer_reset. Each step changes only the rows of its weight that the batch names:
 * those of columns with a stored value. A dense batch names all. So the cost does not depend on the number of columns.
 *     sgd, sgd_momentum, sgd_nesterov, momentum, momentum_nesterov; without weight_decay also adagrad, adadelta, ftrl,
 *     rmsprop and its variants: rows catch up on the steps that they missed. Results equal those of dense rows, up to
 *     rounding.
 *     adam without weight_decay, and adamw: the moments of a row change in the steps that name it, as in PyTorch's
 *     SparseAdam. Rows catch up on adamw's decay.
 * Other optimizers, l1, l2, max_norm and an average are refused. Rows catch up before a step uses
 * them, at the end of an epoch, and before any other call reads or changes parameters or slots. A pointer that you have
 * from mbp_net_params sees them then, or after mbp_net_flush. While rows have not caught up, predictions in another
 * thread than the one that trains are refused (MBP_BUSY).
 * mbp_trainer_sparse_grad: the gradient of a sparse layer's weight. *values becomes a view of its rows that were named,
 * (count, units), and *rows of their numbers, in ascending order; valid until the next call. */
MBP_API mbp_status mbp_trainer_sparse_grad(mbp_trainer *trainer, const char *layer, const int32_t **rows,
                                           mbp_array *values, mbp_error *error);
/* To restore a state: makes a dense layer sparse. Its gradient in mbp_trainer_grads becomes that of these `count` rows
 * of its weight, in ascending order; what other rows have there is lost. layer NULL: makes all sparse layers dense,
 * with their gradients in mbp_trainer_grads. */
MBP_API mbp_status mbp_trainer_set_sparse(mbp_trainer *trainer, const char *layer, const int32_t *rows, int64_t count,
                                          mbp_error *error);
/* The gradient with respect to the i-th input, from a backward or backward_from with input_grads. Valid as those of
 * mbp_trainer_output, and until the next backward_from. */
MBP_API mbp_status mbp_trainer_input_grad(mbp_trainer *trainer, int i, mbp_array *gradient, mbp_error *error);

/* Numbers of the trainer, by name. A value out of range is refused.
 * Parameters of the optimizer: "lr", "beta1", ...
 * Gradient clipping, off (infinity) unless set. The optimizer gets the clipped gradients; mbp_trainer_grads is not
 * clipped. Applied in this order: "clip_layer_norm" limits the Euclidean norm of each layer's gradient, weight and bias
 * together; "clip_norm" limits the norm of the whole gradient, of all layers that are not frozen (Pascanu et al. 2013);
 * "clip_value" limits the absolute value of each element.
 * "dropout": a factor in [0, 1] of the rates of all dropout nodes, from the next forward pass on; 1 unless set.
 * "penalty_per_row": 1: the penalties l1 and l2 of the layers are divided by the sum of row weights of each batch (of a
 * part: of the logical batch; with element weights or missing targets, multiplied by the mean over the outputs of
 * 1 / total), as in scikit-learn, so that a small batch feels them more; and the losses of step, backward, epoch and
 * fit contain them, not those of evaluate and measure. mbp_trainer_backward_from divides by the rows of the forward.
 * 0 unless set: each batch has the whole penalty, and no loss contains it.
 * State: "loss" is the loss of the current gradients (with `accumulate` the parts' losses are added), "last_loss" that
 * of the last update; NaN: unknown, as after mbp_trainer_backward_from. "average_count": the states in the average.
 * "epoch": the number of epochs that mbp_trainer_fit has completed; it counts on from here, and files keep it.
 * Of a solver, to read: the numbers that mbp_formula_detail names. bayesian_regularization: "alpha", "beta", and
 * "effective_parameters", how many parameters the data determine; NaN: no iteration yet. */
MBP_API mbp_status mbp_trainer_get(const mbp_trainer *trainer, const char *name, double *value, mbp_error *error);
MBP_API mbp_status mbp_trainer_set(mbp_trainer *trainer, const char *name, double value, mbp_error *error);
/* The number of updates so far, up to 9e18. To restore an earlier state of the optimizer, set it and write the slots.
 * mbp_trainer_set_steps also resets "loss" and "last_loss" to NaN, and keeps the average. */
MBP_API int64_t mbp_trainer_steps(const mbp_trainer *trainer);
MBP_API mbp_status mbp_trainer_set_steps(mbp_trainer *trainer, int64_t steps, mbp_error *error);
/* Sets the seed of dropout, noise and the order of rows in mbp_trainer_fit; the default is the net's. A number of
 * dropout or noise depends only on seed, step count, node, row in the logical batch, and column, so it is the same for
 * any split of a batch into parts or among threads. */
MBP_API mbp_status mbp_trainer_set_seed(mbp_trainer *trainer, uint64_t seed, mbp_error *error);
/* Keeps an average of [parameters, buffers] over the states after updates number start, start + every, ..., as counted
 * by mbp_trainer_steps. decay < 1: a running average, in which a new state has the weight 1 - decay (Polyak & Juditsky
 * 1992). decay = 1: the mean of all these states (Izmailov et al. 2018, equation 2). It starts as a copy of the first
 * such state from now on. The first call allocates memory; each further call, and a reset, starts a new average. */
MBP_API mbp_status mbp_trainer_set_average(mbp_trainer *trainer, double decay, int64_t start, int64_t every,
                                           mbp_error *error);
/* The average: parameters, then buffers; NULL: none. *count (may be NULL): its number of states; 0: not started. */
MBP_API void *mbp_trainer_average(mbp_trainer *trainer, int64_t *count);
/* Zeroes gradients, average and "epoch", and resets slots, step count, "loss" and "last_loss". */
MBP_API mbp_status mbp_trainer_reset(mbp_trainer *trainer, mbp_error *error);

#ifdef __cplusplus
}
#endif

#endif
