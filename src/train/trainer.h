/* Floor 7: what a trainer is, and who owns which memory.
 *
 *     one block   struct mbp_trainer, its objectives and their columns, the plan of the backward pass, pending buffers,
 *                 gradients, slots, then MBP_READABLE bytes. It never moves.
 *     one block   the average of parameters and buffers, if there is one
 *     one block   its workspace
 *     one block   the state of its solver, if it has one (train/solvers)
 *     one block   the Jacobian of some rows, and the matrices of its solver, if that solves least squares
 *     one block   what it exchanges with other processes, if there are any
 *     blocks      of its sparse layers, if there are any (train/sparse/lazy.h)
 *     one block   what only Python knows, from the trainer's file, if there is any
 *
 * A trainer refers to its net and does not own it. */
#ifndef MBP_TRAINER_H
#define MBP_TRAINER_H

#include <math.h>
#include <string.h>

#include "formulas/running.h"
#include "net/workspace.h"
#include "passes/plan/peers.h"
#include "passes/plan/plan.h"
#include "system/floats.h"
#include "train/solvers/solver.h"
#include "train/sparse/lazy.h"

/* Whether a loss of this build takes labels: only losses of whole rows can. */
enum {
    MBP_HAS_LABELS = 0
#define ROW_LOSS(...) || 1
#include "formulas/formulas.def"
};

/* The loss of one output. */
typedef struct mbp_objective {
    mbp_formula loss; /* row -1: the caller computes the loss */
    double weight;
    int labels;  /* integer labels may be targets */
    int signs;   /* targets are -1 or +1 */
    int missing; /* targets may be missing: NaN, and the label -1 */
    mbp_interval targets;
    /* If the outputs have weights of their own: the mean over the columns of the weights, summed over the rows in the
     * workspace; over those of all processes; what the loss is divided by; `joint` summed over the batches of an epoch
     * or an evaluation. */
    double total, joint, divisor, whole;
    double sum;        /* of loss * total over the batches of an epoch or an evaluation */
    double value;      /* mbp_trainer_output_loss; any thread may read it */
    int64_t width;     /* the number of target columns of a position */
    int64_t positions; /* of a row */
    unsigned lists;    /* bit i: whether parameter i is a list */
    /* MBP_LOSS_PARAMETERS of each output column, if one is a list or outputs share targets; else NULL. */
    double *columns;
} mbp_objective;

static inline int mbp_has_columns(const mbp_objective *objective) { return MICROBP_LISTS && objective->columns; }

/* Whether every number may be a target, so that targets may be scaled. */
static inline int mbp_objective_has_unit(const mbp_objective *objective) {
    return !objective->signs && isinf(objective->targets.low) && isinf(objective->targets.high);
}

/* The targets that the loss takes. */
static inline const char *mbp_objective_targets(const mbp_objective *objective) {
    return objective->signs ? "{-1, 1}" : objective->labels ? "[0,1]" : mbp_loss_targets(objective->loss.row);
}

/* For mbp_fail_null: what an argument `trainer`, `batch` or `loss` must point to. */
#define MBP_A_TRAINER "a trainer from mbp_trainer_create"
#define MBP_GETS_TRAINER "an mbp_trainer *, where the trainer is stored"
#define MBP_A_BATCH "an mbp_batch"
#define MBP_A_LOSS "a double, where the loss is stored"

/* The settings that every trainer has besides its optimizer's parameters: gradient clipping, the factor of all dropout
 * rates, and whether the penalties are divided by the batch's weight and are part of the loss. */
#define MBP_TRAINER_SETTINGS \
    "clip_norm=inf(0,inf] clip_layer_norm=inf(0,inf] clip_value=inf(0,inf] dropout=1[0,1] penalty_per_row=0[0,1]"
enum { MBP_CLIP_NORM, MBP_CLIP_LAYER_NORM, MBP_CLIP_VALUE, MBP_DROPOUT, MBP_PENALTY_PER_ROW };

enum { MBP_UPDATE_RUN = 32 << 10 }; /* elements that a thread takes at a time in passes over flat vectors */

/* A running average of [parameters, buffers] over the states after the updates number start, start + every, ... Only
 * `count` tells how many of them it includes: the step count may be set to any number. */
typedef struct mbp_average {
    char *at; /* NULL: none */
    size_t bytes;
    double decay; /* 1: all states have the same weight */
    int64_t start, every;
    int64_t count; /* the first state is copied */
} mbp_average;

/* What a trainer exchanges with other processes. In one block with the arrays. */
typedef struct mbp_ranks {
    mbp_peers peers; /* first, because a pass gets only this */
    mbp_trainer *trainer;
    int64_t failed_rank; /* mbp_trainer_failed_rank, counted from 1; 0: none */
    mbp_reduce how;
    double *header;    /* 3 numbers of each process */
    double *numbers;   /* of this process, in one exchange: losses and totals of outputs */
    char *copy;        /* `every` > 1: room for parameters and buffers */
    char *theirs;      /* what all processes have sent */
    int64_t room;      /* the bytes there */
    int64_t block;     /* elements of the gradient that are exchanged at a time: a multiple of the processes */
    int64_t part_rows; /* of the parts of a logical batch so far, in all processes */
    const char *call;  /* the function of `how` that was called last */
    char *begun;       /* what `begin` receives, each at the place of its block; NULL: `begin` is not used */
    int64_t unsent;    /* the first elements of the gradient, whose exchange has not begun */
    int64_t *final;    /* per node: the first element that no node before it changes in the backward pass */
} mbp_ranks;

struct mbp_trainer {
    mbp_net *net;
    size_t bytes; /* of the first block */
    mbp_memory memory;
    mbp_float_state floats; /* the caller's state, during a call */
    mbp_formula optimizer;
    int decay, decay_bias; /* positions among the optimizer's parameters; of a solver, of a number that is 0 */
    const double *rate;    /* the next update's learning rate, in an epoch with its own; NULL: the optimizer's lr */
    mbp_running running;
    uint64_t more_seed; /* added to the seed for dropout and noise */
    uint64_t seed;      /* of dropout, noise, and the order of rows in mbp_trainer_fit */
    mbp_ranks *ranks;   /* the other processes; NULL: this one trains alone */
    size_t ranks_bytes;
    const struct mbp_together *together; /* what this trainer does with those of other processes (step.h) */
    mbp_objective *objective;            /* per output */
    int missing; /* a bit of mbp_need: some targets may be missing, or an output has several positions */
    double *now; /* per output: its loss in the last pass, before the loss weight; NaN if that is 0. Then the penalties
                  * in the loss of that pass */
    double penalties,
        penalty_weight; /* over the batches of an epoch: the sum of weight * penalties, and of the weights */
    mbp_plan plan;
    char *grads;
    mbp_lazy *lazy; /* layers that sparse rows have fed, whose weights have gradients of their own; NULL: none */
    void *slots[MBP_SLOTS_MAX];
    int slot_count;
    char *pending;  /* the buffers after the next update */
    int is_pending; /* whether a backward pass since the last update set `pending` */
    mbp_workspace *workspace;
    /* The workspace that a larger one has replaced in this call, as long as its values may be needed again:
     * mbp_trainer_leave takes it back if the call is refused. NULL: none. */
    mbp_workspace *before;
    mbp_chance chance;                        /* of the pass whose values are in the workspace: seed, step, first row */
    double dropout;                           /* of that pass: the factor of all dropout rates */
    int64_t forward_rows;                     /* rows whose values are in the workspace; 0: none */
    int64_t forward_joint;                    /* those of all processes */
    unsigned forward_layers, forward_changes; /* the net's layers_version and changes when they were computed */
    int forward_followed;                     /* whether `pending` includes their running statistics */
    int64_t input_grad_rows;                  /* rows whose input gradients are in the workspace; 0: none */
    int nonfinite; /* whether the last backward pass computed a gradient that is not finite */
    double setting[MBP_PARAMETERS_MAX];
    mbp_average average;
    int64_t epoch;               /* the count of epochs */
    mbp_extras *kept;            /* what the next save writes again (file/trainer_file.h); NULL: nothing */
    size_t kept_bytes;           /* of its block */
    mbp_kind kind;               /* of the optimizer: MBP_OPTIMIZER or MBP_SOLVER */
    mbp_solver *solver;          /* NULL: each step is an update of the optimizer */
    struct mbp_squares *squares; /* what it needs for least squares (steps/least_squares.h); NULL: nothing yet */
    size_t solver_bytes, squares_bytes;
    double solved_loss;      /* after its last iteration */
    unsigned solved_version; /* the net's layers_version then */
};

/* Holds the trainer's net for one call and sets the library's floating-point state, with subnormals flushed. Fails if
 * another thread holds the net; enter_training also in a function that a training call has called. The computation
 * between enter and leave must be in a function marked MBP_APART (floats.h). */
mbp_status mbp_trainer_enter(mbp_trainer *trainer, mbp_error *error);
mbp_status mbp_trainer_enter_training(mbp_trainer *trainer, mbp_error *error);
/* Restores the floating-point state and gives the net back; returns status. */
mbp_status mbp_trainer_leave(mbp_trainer *trainer, mbp_status status);

/* Around a function of the user inside a training call: it runs in the caller's floating-point state, and may call
 * everything for this net except training. */
static inline void mbp_guest_enter(mbp_trainer *t) {
    mbp_float_leave(t->floats);
    t->net->shared->lock.guests++;
}
static inline void mbp_guest_leave(mbp_trainer *t) {
    t->net->shared->lock.guests--;
    t->floats = mbp_float_enter(MBP_FLUSH_SUBNORMALS);
}

/* The other processes; NULL: this one trains alone, as always in builds without them. */
static inline mbp_ranks *mbp_ranks_of(const mbp_trainer *t) { return MICROBP_RANKS ? t->ranks : NULL; }
/* The kind of its optimizer, a constant in builds without solvers. */
static inline mbp_kind mbp_trainer_kind(const mbp_trainer *t) { return MICROBP_SOLVERS ? t->kind : MBP_OPTIMIZER; }
/* Refuses `what`, if the trainer has a solver (solving.c). */
mbp_status mbp_solver_refusal(const mbp_trainer *t, const char *what, mbp_error *error);
static inline mbp_status mbp_solver_refuse(const mbp_trainer *t, const char *what, mbp_error *error) {
    return MICROBP_SOLVERS && t->solver ? mbp_solver_refusal(t, what, error) : MBP_OK;
}

/* Makes room for a batch in the trainer's workspace. x: its inputs, or those of the data that it is from. The values
 * that are in the workspace are lost only by mbp_trainer_forget. */
mbp_status mbp_trainer_make_room(mbp_trainer *t, int64_t rows, int needs, const mbp_array *x, mbp_error *error);
/* How many positions each row of an output has. */
static inline int64_t mbp_trainer_positions(const mbp_trainer *t, int i) {
    return MICROBP_POSITIONS ? t->objective[i].positions : 1;
}
/* Whether the weight of a layer has a gradient in t->lazy, and not in t->grads. */
static inline int mbp_trains_sparse(const mbp_trainer *t, int layer) {
    return MICROBP_SPARSE && t->lazy && t->lazy->grad[layer].is_on;
}
/* Writes the gradients of sparse layers into t->grads, where they are 0; shown 0: zeros again. */
void mbp_sparse_show(const mbp_trainer *t, int shown);
/* Plans the backward pass again if layers were changed, or if input gradients or clipping by layer were turned on or
 * off. If so, it also sets the gradients of frozen layers to 0. */
void mbp_trainer_plan(mbp_trainer *t, int input_grads);

/* ---- sparse layers (sparse_layers.c) ---- */

/* Before a pass: makes room for the gradients of sparse layers, and of those that sparse rows feed. Refuses what cannot
 * be done with such layers. x: the inputs; NULL: those in the workspace. accumulate: as in the backward pass. */
mbp_status mbp_sparse_open(mbp_trainer *t, const mbp_array *x, int accumulate, mbp_error *error);
/* The same for the layers that are sparse, before an update. */
mbp_status mbp_sparse_check_layers(const mbp_trainer *t, mbp_error *error);
/* When nothing is refused any more: makes the layers sparse that sparse rows feed. */
void mbp_sparse_start(mbp_trainer *t, const mbp_array *x, int accumulate);
/* After a step that fails because a gradient is not finite: makes the layers dense again that it has made sparse. */
void mbp_sparse_stop(mbp_trainer *t);
/* Makes room for what a sparse layer has, and for a gradient of so many rows. */
mbp_status mbp_sparse_reserve(mbp_trainer *t, int index, int64_t rows, mbp_error *error);
/* Makes a layer sparse whose gradient is in t->lazy already, and clears that in the flat vector. */
void mbp_sparse_turn_on(mbp_trainer *t, int index);
/* Makes a layer sparse, whose gradient in the flat vector names these rows. */
mbp_status mbp_sparse_restore(mbp_trainer *t, int index, const int32_t *rows, int64_t count, mbp_error *error);
/* Whether mbp_sparse_open may have anything to do; there is room for the batch. */
static inline int mbp_may_be_sparse(const mbp_trainer *t) { return MICROBP_SPARSE && (t->lazy || t->workspace->roomy); }

/* Refuses a loss if it implies a different output activation than the chosen one. */
mbp_status mbp_objective_check_activation(const mbp_net *net, int i, const mbp_objective *objective, mbp_error *error);
/* Marks the values and input gradients in the workspace as invalid; called before they are overwritten, when nothing is
 * refused any more. */
static inline void mbp_trainer_forget(mbp_trainer *t) {
    t->forward_rows = t->input_grad_rows = 0;
    t->forward_followed = 0;
    if (t->before)
        mbp_workspace_free(&t->memory, t->before);
    t->before = NULL;
}
/* Sets the running values. Any thread may read steps and losses meanwhile. */
static inline void mbp_trainer_run(mbp_trainer *t, const mbp_running *running) {
    MBP_PUT(&t->running.steps, running->steps);
    memcpy(t->running.power, running->power, sizeof running->power);
    mbp_put_number(&t->running.loss, running->loss);
    mbp_put_number(&t->running.last_loss, running->last_loss);
}
/* Resets the slots and the running values to their state before the first step. */
void mbp_trainer_start(mbp_trainer *trainer);

/* ---- the average (state.c) ---- */

/* Adds the state after the latest update to the average if it is to include this state: a += rate (p - a). */
void mbp_average_update(mbp_trainer *t);

#endif
