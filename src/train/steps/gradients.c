/* The gradients of rows that are in the workspace or are loaded into it, and the update from them. */
#include <math.h>
#include <string.h>

#include "passes/inputs.h"
#include "passes/plan/pass.h"
#include "passes/sparse.h"
#include "train/loss.h"
#include "train/steps/step.h"
#include "train/update.h"

#if MICROBP_SPARSE
/* Brings the rows of sparse layers up to date that the inputs name. */
static void catch_up(mbp_trainer *t) {
    mbp_gate_enter_alone(&t->net->shared->lock);
    for (int id = 0; id < t->net->nodes; id++) {
        const mbp_node *node = &t->net->node[id];
        if (!mbp_reads_sparse(node->kind) || !node->uses || !mbp_trains_sparse(t, node->layer))
            continue;
        const int input = t->net->node[t->net->operands[node->first_operand]].input;
        const mbp_sparse_input *x = input >= 0 ? &t->workspace->input[input] : NULL;
        const int is_sparse = x && t->workspace->sparse && x->is_sparse;
        mbp_lazy_catch_up(t->lazy, node->layer, is_sparse ? x->column : NULL, x ? x->columns : 0);
    }
    mbp_gate_leave_alone(&t->net->shared->lock);
    t->lazy->is_ahead = 1;
}

void mbp_train_turn(mbp_trainer *t, int64_t rows) {
    mbp_sparse_turn(t->net, t->workspace, rows);
    if (t->lazy->late.is_listed)
        catch_up(t);
}
#endif

int mbp_joins_statistics(const mbp_trainer *t) {
    return mbp_is_joined(t) && mbp_ranks_of(t)->peers.rows > 0 && mbp_updates_any(t->net);
}

mbp_status mbp_pass_check(mbp_trainer *t, mbp_error *error) {
    return mbp_joins_statistics(t) ? t->together->check(t, error) : MBP_OK;
}

void mbp_train_forward(mbp_trainer *t, int64_t rows, int64_t first_row) {
    t->chance = (mbp_chance){
        .seed = t->seed + t->more_seed, .step = (uint64_t)t->running.steps, .first_row = first_row};
    t->dropout = t->setting[MBP_DROPOUT];
    mbp_forward_pass(&(pass){.net = t->net,
                             .w = t->workspace,
                             .rows = rows,
                             .chance = &t->chance,
                             .dropout = t->dropout,
                             .peers = mbp_peers_of(t)},
                     t->net->nodes - 1);
}

/* Computes in t->pending the running statistics that the next update will set. rows 0: there are none. accumulate:
 * starts from t->pending if a backward pass has set it; otherwise from the net's. Those of one forward count once. */
static void follow_statistics(mbp_trainer *t, int64_t rows, int accumulate) {
    const mbp_net *net = t->net;
    if (!net->buffers)
        return;
    if (!accumulate || !t->is_pending) {
        memcpy(t->pending, mbp_net_running(net), (size_t)net->buffers * net->item);
        t->forward_followed = 0;
    }
    t->is_pending = 1;
    if (rows > 0 && !t->forward_followed)
        mbp_statistics_follow(net, t->workspace, t->pending);
    t->forward_followed = 1;
}

void mbp_train_backward(mbp_trainer *t, int64_t rows, int accumulate, double share) {
    t->nonfinite = 0;
    mbp_backward_pass(&(pass){.net = t->net,
                              .w = t->workspace,
                              .rows = rows,
                              .chance = &t->chance,
                              .dropout = t->dropout,
                              .peers = mbp_peers_of(t),
                              .plan = &t->plan,
                              .grads = t->grads,
                              .sparse = MICROBP_SPARSE && t->lazy ? t->lazy->grad : NULL,
                              .accumulate = accumulate,
                              .share = share,
                              .nonfinite = &t->nonfinite});
    follow_statistics(t, rows, accumulate);
}

mbp_status mbp_step_load(const mbp_trainer *t, const mbp_batch *batch, mbp_batch_cursor *from, int64_t limit,
                         int may_be_none, mbp_chosen *chosen, mbp_error *error) {
    const int64_t given = from->end - from->at;
    mbp_status status = mbp_rows_next(t, batch, from, limit, chosen, error);
    if (status == MBP_OK && !(chosen->rows.count == 0 && may_be_none))
        status = mbp_total_check(given, chosen->rows.count, chosen->total, error);
    if (status == MBP_OK && !mbp_is_joined(t))
        status = mbp_statistics_check(t->net, t->workspace, chosen->rows.count, error);
    return status == MBP_OK ? mbp_targets_load(t, batch, &chosen->rows, error) : status;
}

/* The gradients of a part of a logical batch in which no row is there. */
static void no_gradients(mbp_trainer *t, int accumulate) {
    if (!accumulate)
        mbp_clear(t->grads, (size_t)t->net->params * t->net->item);
    for (int i = 0; i < t->net->layers && !accumulate; i++)
        if (mbp_trains_sparse(t, i))
            t->lazy->grad[i].count = 0;
    const int joins = mbp_joins_statistics(t);
    if (joins)
        t->together->absent_backward(t, accumulate);
    follow_statistics(t, joins, accumulate);
}

double mbp_penalty_share(const mbp_trainer *t, const mbp_chosen *chosen, double total) {
    const int per_row = t->setting[MBP_PENALTY_PER_ROW] != 0;
    double sum = 0, count = 0;
    for (int i = 0; i < t->net->outputs && mbp_is_weighted(t->workspace); i++) {
        const double divisor = t->objective[i].divisor;
        if (t->objective[i].weight != 0 && divisor != 0) {
            sum += t->objective[i].total / divisor / (per_row ? divisor : 1);
            count++;
        }
    }
    return count > 0 ? sum / count : chosen->total / total / (per_row ? total : 1);
}

/* The loss of the rows whose values are in the workspace. With "penalty_per_row" it contains the penalties. */
static double full_loss(mbp_trainer *t, int64_t rows, double total, double share) {
    double *penalty = &t->now[t->net->outputs];
    const double loss = mbp_loss_pass(t, rows, total, 1);
    if (t->setting[MBP_PENALTY_PER_ROW] == 0)
        return loss;
    *penalty = share * mbp_penalties(t);
    return loss + *penalty;
}

mbp_status mbp_gradients(mbp_trainer *t, const mbp_batch *batch, const mbp_chosen *chosen, const mbp_backward *how,
                         double *loss, mbp_error *error) {
    const int64_t rows = chosen->rows.count;
    mbp_status status = MBP_OK;
    if (MICROBP_SPARSE && mbp_may_be_sparse(t))
        status = mbp_sparse_open(t, batch->x, how->accumulate, error);
    *loss = 0;
    if (status != MBP_OK)
        return status;
    mbp_trainer_forget(t);
    mbp_trainer_plan(t, how->input_grads != 0);
    double share = 0;
    if (rows > 0) {
        mbp_train_load(t, batch->x, &chosen->rows);
        share = mbp_penalty_share(t, chosen, how->total);
        mbp_train_forward(t, rows, how->first_row);
        *loss = full_loss(t, rows, how->total, share);
        if (!isfinite(*loss))
            status = mbp_loss_fail(t, chosen->rows, how->total, error);
    }
    if (mbp_joins_statistics(t))
        status = t->together->join_loss(t, rows, status, error);
    if (status != MBP_OK)
        return status;
    if (MICROBP_SPARSE && t->lazy)
        mbp_sparse_start(t, batch->x, how->accumulate);
    if (rows > 0) {
        mbp_train_backward(t, rows, how->accumulate, share);
    } else {
        mbp_outputs_clear(t);
        no_gradients(t, how->accumulate);
    }
    const double before = how->accumulate && !isnan(t->running.loss) ? t->running.loss : 0;
    mbp_put_number(&t->running.loss, before + *loss);
    return mbp_pass_check(t, error);
}

static mbp_status fail_nonfinite(mbp_trainer *t, mbp_error *error) {
    const mbp_status status = mbp_nonfinite_fail(t, error);
    if (MICROBP_SPARSE && t->lazy)
        mbp_sparse_stop(t);
    return status;
}

/* The gradients of all processes. status: of this one's. */
static mbp_status join_gradients(mbp_trainer *t, mbp_status status, double *loss, mbp_error *error) {
    const mbp_status joined = t->together->join_gradients(t, status, loss, error);
    if (MICROBP_SPARSE && t->lazy && status == MBP_OK && joined != MBP_OK)
        mbp_sparse_stop(t);
    return joined;
}

mbp_status mbp_step_rows(mbp_trainer *t, const mbp_batch *batch, const mbp_chosen *chosen, const mbp_joint *joint,
                         double *loss, mbp_error *error) {
    const mbp_backward how = {.total = joint->total, .first_row = joint->first_row};
    if (mbp_ranks_of(t) && joint->rows == 0) {
        *loss = 0;
        t->together->count_step(t);
        return MBP_OK;
    }
    mbp_peers *peers = mbp_peers_of(t);
    if (peers)
        peers->ended = t->together->ended;
    mbp_status status = mbp_gradients(t, batch, chosen, &how, loss, error);
    if (peers)
        peers->ended = NULL;
    if (peers && (status == MBP_OK || !mbp_joins_statistics(t)))
        status = join_gradients(t, status, loss, error);
    else if (status == MBP_OK && t->nonfinite)
        status = fail_nonfinite(t, error);
    if (status == MBP_OK)
        mbp_update_pass(t);
    return status;
}
