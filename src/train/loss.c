#include "train/loss.h"

#include <math.h>
#include <string.h>

#include "net/states/states.h"
#include "passes/inputs.h"
#include "passes/plan/pass.h"
#include "passes/positions/lengths.h"
#include "passes/sparse.h"
#include "system/text.h"
#include "train/batch.h"

/* For an output whose loss weight is 0, so that its targets are not read, or all of whose targets are missing. */
static double no_loss(const mbp_trainer *t, int i, int64_t rows, int gradients) {
    const int id = t->net->output[i].node;
    const mbp_view g = t->workspace->delta[id];
    const size_t item = t->net->item;
    rows *= mbp_trainer_positions(t, i);
    for (int64_t r = 0; r < rows && gradients && t->plan.wanted[id]; r++)
        memset((char *)g.at + (size_t)(r * g.ld) * item, 0, (size_t)t->net->node[id].width * item);
    return 0;
}

/* `count` rows of one output, from row r on; if it has several positions, each is a row. */
static inline mbp_loss_rows chunk_of(const mbp_trainer *t, int i, int64_t r, int64_t count, double total,
                                     int gradients) {
    const mbp_objective *objective = &t->objective[i];
    const int id = t->net->output[i].node;
    const mbp_workspace *w = t->workspace;
    const mbp_view o = w->value[id], target = w->target[i],
                   g = gradients && t->plan.wanted[id] ? w->delta[id] : (mbp_view){0};
    const size_t item = t->net->item;
    return (mbp_loss_rows){
        .rows = count,
        .n = t->net->node[id].width,
        .output = {(char *)o.at + r * o.ld * (int64_t)item, o.ld},
        .target = {target.at ? (char *)target.at + r * target.ld * (int64_t)item : NULL, target.ld},
        .gradient = {g.at ? (char *)g.at + r * g.ld * (int64_t)item : NULL, g.ld},
        .labels = w->labels[i] + r,
        .weight = w->weight + (mbp_trainer_positions(t, i) > 1 ? 0 : r),
        .scale = objective->weight / total,
        .parameters = objective->loss.parameters,
        .columns = mbp_has_columns(objective) ? objective->columns : NULL,
        .targets = objective->width,
    };
}

/* The sum of the weighted losses of rows, without those of weight 0, whose gradients become 0. */
static double runs_loss(const mbp_trainer *t, int i, const mbp_loss_rows *all, const double *weight) {
    const int64_t item = (int64_t)t->net->item, o = all->output.ld * item, target = all->target.ld * item,
                  g = all->gradient.ld * item;
    double sum = 0;
    for (int64_t r = 0, end; r < all->rows; r = end) {
        mbp_loss_rows run = *all;
        for (end = r; end < all->rows && weight[end] != 0; end++) {
        }
        run.rows = end - r;
        run.output.at = (char *)all->output.at + r * o;
        run.target.at = all->target.at ? (char *)all->target.at + r * target : NULL;
        run.gradient.at = all->gradient.at ? (char *)all->gradient.at + r * g : NULL;
        run.labels = all->labels + r;
        run.weight = weight + r;
        if (end > r)
            sum += mbp_loss_of(t->net->kernels, t->objective[i].loss.row)(&run);
        for (; end < all->rows && weight[end] == 0; end++)
            if (all->gradient.at)
                memset((char *)all->gradient.at + end * g, 0, (size_t)(all->n * item));
    }
    return sum;
}

/* The sum of the weighted losses of rows whose targets have different weights: column by column, as rows of one column.
 * With several quantiles, column j is compared with target j % targets. */
static double columns_loss(const mbp_trainer *t, int i, const mbp_loss_rows *all, const double *weight) {
    const int64_t item = (int64_t)t->net->item;
    const double share = mbp_loss_is_mean(t->objective[i].loss.row) ? 1 / (double)all->n : 1;
    double sum = 0;
    for (int64_t j = 0; j < all->n; j++) {
        mbp_loss_rows column = *all;
        column.n = column.targets = 1;
        column.columns = all->columns ? all->columns + MBP_LOSS_PARAMETERS * j : NULL;
        column.scale = all->scale * share;
        column.output.at = (char *)all->output.at + j * item;
        column.target.at = (char *)all->target.at + j % all->targets * item;
        column.gradient.at = all->gradient.at ? (char *)all->gradient.at + j * item : NULL;
        sum += runs_loss(t, i, &column, weight + j % all->targets * t->workspace->rows);
    }
    return sum * share;
}

/* The sum of the weighted losses of the positions of one row: of MBP_LOSS_CHUNK positions at a time. */
static double positions_loss(const mbp_trainer *t, int i, int64_t r, double total, int gradients) {
    const mbp_own *own = &t->workspace->own[i];
    const int64_t positions = mbp_trainer_positions(t, i);
    double weight[MBP_LOSS_CHUNK], sum = 0;
    for (int64_t at = 0, count; at < positions; at += count) {
        count = positions - at < MBP_LOSS_CHUNK ? positions - at : MBP_LOSS_CHUNK;
        for (int64_t k = 0; k < count; k++)
            weight[k] = own->at[(own->columns > 1 ? at + k : 0) * t->workspace->rows + r];
        const mbp_loss_rows chunk = chunk_of(t, i, r * positions + at, count, total, gradients);
        sum += runs_loss(t, i, &chunk, weight);
    }
    return sum;
}

/* The sum of the weighted losses of `count` rows of one output, from row r on. */
static double chunk_loss(const mbp_trainer *t, int i, int64_t r, int64_t count, double total, int gradients) {
    const mbp_workspace *w = t->workspace;
    if (mbp_trainer_positions(t, i) > 1) {
        double sum = 0;
        for (int64_t k = r; k < r + count; k++)
            sum += positions_loss(t, i, k, total, gradients);
        return sum;
    }
    const mbp_loss_rows chunk = chunk_of(t, i, r, count, total, gradients);
    const mbp_own *own = &w->own[i];
    if (!mbp_is_weighted(w) || !own->columns)
        return mbp_loss_of(t->net->kernels, t->objective[i].loss.row)(&chunk);
    return own->columns > 1 ? columns_loss(t, i, &chunk, own->at + r) : runs_loss(t, i, &chunk, own->at + r);
}

/* The loss of one output. The sums of chunks of MBP_LOSS_CHUNK rows are added in order. */
static double output_loss(mbp_trainer *t, int i, int64_t rows, double total, int gradients) {
    double sum = 0;
    t->now[i] = NAN;
    if (mbp_is_weighted(t->workspace))
        total = t->objective[i].divisor;
    if (t->objective[i].weight != 0 && total == 0)
        t->now[i] = 0; /* no row has a target */
    if (t->objective[i].weight == 0 || total == 0)
        return no_loss(t, i, rows, gradients);
    total *= (double)mbp_trainer_positions(t, i); /* the weight of a row is the mean of those of its positions */
    for (int64_t r = 0; r < rows; r += MBP_LOSS_CHUNK)
        sum += chunk_loss(t, i, r, rows - r < MBP_LOSS_CHUNK ? rows - r : MBP_LOSS_CHUNK, total, gradients);
    t->now[i] = sum / total;
    return t->objective[i].weight * (sum / total);
}

double mbp_loss_pass(mbp_trainer *trainer, int64_t rows, double total, int gradients) {
    double loss = 0;
    trainer->now[trainer->net->outputs] = 0;
    for (int i = 0; i < trainer->net->outputs; i++)
        loss += output_loss(trainer, i, rows, total, gradients);
    return loss;
}

/* ---- the losses of the outputs ---- */

void mbp_outputs_clear(mbp_trainer *t) {
    for (int i = 0; i < t->net->outputs; i++)
        t->now[i] = t->objective[i].weight == 0 ? NAN : 0;
    t->now[t->net->outputs] = 0;
}

void mbp_outputs_keep(mbp_trainer *t) {
    for (int i = 0; i < t->net->outputs; i++)
        mbp_put_number(&t->objective[i].value, t->now[i]);
}

void mbp_outputs_start(mbp_trainer *t) {
    for (int i = 0; i < t->net->outputs; i++)
        t->objective[i].sum = t->objective[i].whole = 0;
    t->penalties = t->penalty_weight = 0;
}

void mbp_outputs_add(mbp_trainer *t, double total) {
    for (int i = 0; i < t->net->outputs; i++) {
        mbp_objective *objective = &t->objective[i];
        const double weight = mbp_is_weighted(t->workspace) ? objective->divisor : total;
        objective->sum += t->now[i] * weight;
        objective->whole += objective->joint;
        t->penalties += objective->weight == 0 ? 0 : t->now[t->net->outputs] * weight;
        t->penalty_weight += objective->weight == 0 ? 0 : weight;
    }
}

double mbp_outputs_keep_mean(mbp_trainer *t, const mbp_mean *mean) {
    const int weighted = mbp_is_weighted(t->workspace);
    double loss = 0;
    for (int i = 0; i < t->net->outputs; i++) {
        const mbp_objective *objective = &t->objective[i];
        const double whole = weighted ? objective->whole : mean->total;
        t->now[i] = whole == 0 && objective->weight != 0 ? 0 : objective->sum / whole;
        loss += objective->weight == 0 ? 0 : objective->weight * t->now[i];
    }
    mbp_outputs_keep(t);
    return !weighted ? mean->value : t->penalty_weight > 0 ? loss + t->penalties / t->penalty_weight : loss;
}

void mbp_outputs_divide(mbp_trainer *t, double total, const double *totals) {
    for (int i = 0; i < t->net->outputs && MICROBP_GAPS; i++)
        t->objective[i].divisor = totals ? totals[i] : total;
}

void mbp_outputs_weigh(mbp_trainer *t, double total) {
    for (int i = 0; i < t->net->outputs && MICROBP_GAPS; i++) {
        t->workspace->own[i].columns = 0;
        t->objective[i].total = t->objective[i].joint = t->objective[i].divisor = total;
    }
    t->workspace->weighted = 1;
}

mbp_status mbp_trainer_output_loss(const mbp_trainer *trainer, int i, double *value, mbp_error *error) {
    if (!trainer || !value)
        return mbp_fail_null(error, trainer ? "value" : "trainer",
                             trainer ? "a double, where the loss is stored" : MBP_A_TRAINER);
    if (i < 0 || i >= trainer->net->outputs)
        return mbp_fail_index(error, "output", i, trainer->net->outputs);
    *value = mbp_see_number(&trainer->objective[i].value);
    return MBP_OK;
}

/* ---- what makes a loss not finite ---- */

/* The first of these rows with an element that is not finite; -1: none. */
static int64_t nonfinite_row(const mbp_net *net, mbp_view view, int64_t width, int64_t rows) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < width; j++) {
            const int64_t at = r * view.ld + j;
            if (!isfinite(net->dtype == MBP_F64 ? ((const double *)view.at)[at] : ((const float *)view.at)[at]))
                return r;
        }
    return -1;
}

/* The first row that makes the loss of output i not finite: one with an input that is not finite; else one with such a
 * target; else one whose own loss is not finite; -1: none. The inputs come first, because with batch_norm such a row
 * spoils the losses of all others. */
static int64_t row_at_fault(mbp_trainer *t, int i, int64_t rows) {
    const mbp_net *net = t->net;
    const mbp_workspace *w = t->workspace;
    int64_t found = -1;
    for (int k = 0; k < net->inputs && found < 0; k++) {
        const int id = net->input_nodes[k];
        if (MICROBP_SPARSE && w->sparse && w->input[k].is_sparse)
            found = mbp_sparse_nonfinite(net, w, k, rows);
        else if (net->node[id].uses)
            found = nonfinite_row(net, w->value[id], net->node[id].width, rows);
    }
    if (found < 0 && w->target[i].at && !mbp_is_weighted(w))
        found = nonfinite_row(net, w->target[i], t->objective[i].width, rows);
    for (int64_t r = 0; r < rows && found < 0; r++)
        if (!isfinite(chunk_loss(t, i, r, 1, 1, 0)))
            found = r;
    return found;
}

static void append(mbp_writer *w, const char *text, size_t length) {
    if (w->length + length < w->size) {
        memcpy(w->text + w->length, text, length);
        w->text[w->length + length] = 0;
    }
    w->length += length;
}

void mbp_objective_write(mbp_writer *w, const mbp_trainer *t, int i) {
    const mbp_objective *objective = &t->objective[i];
    const int64_t width = mbp_output_width(t->net, i);
    char spec[MBP_SPEC_SIZE], text[MBP_NUMBER_SIZE + 1];
    const char *from = spec, *number = spec;
    mbp_formula_print(MBP_LOSS, &objective->loss, spec);
    for (int p = 0; p < MBP_LOSS_PARAMETERS && objective->lists >> p; p++) {
        number = strchr(number, '=') + 1;
        if (!(objective->lists >> p & 1))
            continue;
        const int64_t each = mbp_loss_shares(objective->loss.row, p) ? objective->width : 1;
        append(w, from, (size_t)(number - from));
        for (int64_t j = 0; j < width; j += each) {
            *text = j ? ' ' : '[';
            append(w, text, 1 + mbp_print_number(text + 1, objective->columns[MBP_LOSS_PARAMETERS * j + p]));
        }
        append(w, "]", 1);
        from = number += strcspn(number, ",)");
    }
    append(w, from, strlen(from));
}

mbp_status mbp_loss_fail(mbp_trainer *t, mbp_selection rows, double total, mbp_error *error) {
    char spec[160] = "...", number[MBP_NUMBER_SIZE];
    for (int i = 0; i < t->net->outputs; i++) {
        const double loss = output_loss(t, i, rows.count, total, 0);
        mbp_print_float(number, loss);
        if (isfinite(loss))
            continue;
        mbp_objective_write(&(mbp_writer){.text = spec, .size = sizeof spec}, t, i);
        mbp_status status = mbp_fail(error, MBP_NONFINITE, "the loss of output %d (%s) is %s, not a finite number", i,
                                     spec, number);
        const int64_t row = error ? row_at_fault(t, i, rows.count) : -1;
        if (row >= 0)
            error->row = mbp_row_number(rows, row);
        return status;
    }
    return mbp_fail(error, MBP_NONFINITE, "the sum of the losses of the outputs is not finite");
}

void mbp_mean_add(mbp_mean *mean, int64_t rows, double sum, double total) {
    mean->rows += rows;
    mean->sum += sum;
    mean->total += total;
    mean->value = mean->sum / mean->total;
}

/* ---- the loss of any number of rows in inference, in slices ---- */

mbp_status mbp_slice_predict(mbp_trainer *t, const mbp_batch *batch, mbp_batch_cursor *from, int64_t slice,
                             mbp_chosen *chosen, mbp_error *error) {
    mbp_status status = mbp_rows_next(t, batch, from, slice, chosen, error);
    if (status == MBP_OK)
        status = mbp_targets_load(t, batch, &chosen->rows, error);
    if (status != MBP_OK || chosen->rows.count == 0)
        return status;
    mbp_inputs_load(t->net, t->workspace, batch->x, &chosen->rows);
    if (MICROBP_POSITIONS && batch->state)
        mbp_state_load(batch->state, t->net, t->workspace, chosen->rows.first);
    if (MICROBP_POSITIONS && mbp_has_lengths(t->workspace))
        mbp_inputs_cut(t->net, t->workspace, batch->x, &chosen->rows);
    mbp_forward_pass(&(pass){.net = t->net, .w = t->workspace, .rows = chosen->rows.count}, t->net->nodes - 1);
    if (MICROBP_POSITIONS)
        t->workspace->carry = NULL;
    return MBP_OK;
}

/* Adds the loss of the next rows that are there. Slices have the same rows as if the others were left out, so the sums
 * are the same. */
static mbp_status add_slice(mbp_trainer *t, const mbp_batch *batch, mbp_batch_cursor *from, int64_t slice,
                            mbp_mean *mean, mbp_error *error) {
    mbp_chosen chosen;
    mbp_status status = mbp_slice_predict(t, batch, from, slice, &chosen, error);
    if (status == MBP_OK && chosen.rows.count > 0) {
        mbp_outputs_divide(t, 1, NULL);
        mbp_mean_add(mean, chosen.rows.count, mbp_loss_pass(t, chosen.rows.count, 1, 0), chosen.total);
        mbp_outputs_add(t, 1);
    }
    return status;
}

mbp_status mbp_slices_check(mbp_trainer *t, const mbp_batch *batch, int64_t rows, int64_t slice, mbp_mean *mean,
                            mbp_error *error) {
    mbp_batch_cursor from = {NULL, 0, rows};
    mbp_chosen chosen;
    mbp_status status = MBP_OK;
    while (status == MBP_OK && from.at < rows) {
        status = mbp_rows_next(t, batch, &from, slice, &chosen, error);
        if (status == MBP_OK)
            status = mbp_targets_load(t, batch, &chosen.rows, error);
        if (status == MBP_OK)
            mbp_mean_add(mean, chosen.rows.count, 0, chosen.total);
    }
    return status == MBP_OK ? mbp_total_check(rows, mean->rows, mean->total, error) : status;
}

static MBP_APART mbp_status evaluate(mbp_trainer *t, const mbp_batch *given, double *loss, mbp_error *error) {
    const int64_t slice = mbp_slice_rows(t->net);
    mbp_batch batch;
    mbp_mean mean = {0};
    int64_t rows;
    mbp_status status = mbp_batch_check(t, given, &batch, &rows, error);
    if (status == MBP_OK)
        status = mbp_trainer_make_room(t, rows < slice ? rows : slice, MBP_TARGETS | mbp_batch_needs(t, &batch),
                                       batch.x, error);
    if (status == MBP_OK && (t->forward_rows || t->input_grad_rows)) /* a refused call must leave these values */
        status = mbp_slices_check(t, &batch, rows, slice, &mean, error);
    if (status == MBP_OK)
        status = mbp_net_settle(t->net, error);
    if (status != MBP_OK)
        return status;
    mbp_trainer_forget(t);
    mean = (mbp_mean){0};
    mbp_outputs_start(t);
    mbp_batch_cursor from = {NULL, 0, rows};
    if (MICROBP_POSITIONS && batch.state)
        mbp_state_begin(batch.state);
    while (status == MBP_OK && from.at < rows)
        status = add_slice(t, &batch, &from, slice, &mean, error);
    if (status == MBP_OK)
        status = mbp_total_check(rows, mean.rows, mean.total, error);
    if (status == MBP_OK)
        *loss = mbp_outputs_keep_mean(t, &mean);
    if (MICROBP_POSITIONS && status == MBP_OK && batch.state)
        mbp_state_keep(batch.state);
    return status;
}

mbp_status mbp_trainer_evaluate(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error) {
    if (!batch || !loss)
        return mbp_fail_null(error, batch ? "loss" : "batch", batch ? MBP_A_LOSS : MBP_A_BATCH);
    mbp_status status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, evaluate(trainer, batch, loss, error)) : status;
}
