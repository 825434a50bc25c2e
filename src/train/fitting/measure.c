/* mbp_trainer_measure: metrics of predictions, each a row of a table with a function that adds a row of the batch to
 * sums, and one that computes the metric from the sums. All in double. The same definitions are in Python, in
 * microbp/settings/class_metrics.py and number_metrics.py. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "system/text.h"
#include "train/loss.h"

enum { NO_LABEL = -1 }; /* of NaN */

/* How a loss decides between classes: by the largest of all columns; in each column by itself; not at all. */
typedef enum rule { CLASSES, COLUMNS, NUMBERS } rule;

/* One row of the batch, and the sums over the rows before it. */
typedef struct sums {
    rule rule;
    int signs; /* targets are -1 or +1 */
    double q;  /* of the quantile loss */
    int64_t n, rows;
    double weight, total;  /* the mean weight of this row; the sum over all rows */
    const double *weights; /* of its columns, `weight_ld` apart; NULL: all have the row's */
    int64_t weight_ld;
    const double *output, *target; /* n each: raw outputs for labels, else predictions; target NULL: it is a label */
    int64_t label;                 /* the row's class if target is NULL */
    double *sum;                   /* SUMS_EACH for each column, all 0 at first */
} sums;
enum { SUMS_EACH = 6 };

/* ---- labels ---- */

static int64_t largest(const double *values, int64_t n) {
    int64_t found = 0;
    for (int64_t j = 0; j < n; j++) {
        if (isnan(values[j]))
            return NO_LABEL;
        found = values[j] > values[found] ? j : found;
    }
    return found;
}

static int64_t above(double value, double cut) { return isnan(value) ? NO_LABEL : value > cut; }

/* How many labels a row has: one of the classes, or one of each column. */
static int64_t label_count(const sums *s) { return s->rule == CLASSES ? 1 : s->n; }
static int64_t true_label(const sums *s, int64_t j) {
    if (s->rule == CLASSES)
        return s->target ? largest(s->target, s->n) : s->label;
    return above(s->target[j], s->signs ? 0 : 0.5);
}
static int64_t decided_label(const sums *s, int64_t j) {
    return s->rule == CLASSES ? largest(s->output, s->n) : above(s->output[j], 0);
}

static double weight_of(const sums *s, int64_t j) { return s->weights ? s->weights[j * s->weight_ld] : s->weight; }

static int is_hit(const sums *s, int64_t j) {
    const int64_t decided = decided_label(s, j);
    return decided != NO_LABEL && decided == true_label(s, j);
}

static void add_accuracy(sums *s) {
    for (int64_t j = 0; j < label_count(s); j++)
        s->sum[0] += is_hit(s, j) ? weight_of(s, j) : 0;
}
static double end_accuracy(const sums *s) { return s->sum[0] / s->total / (double)label_count(s); }

/* Labels that are missing cannot be wrong. */
static void add_subset(sums *s) {
    int all = 1;
    for (int64_t j = 0; j < label_count(s); j++)
        all &= is_hit(s, j) || weight_of(s, j) == 0;
    s->sum[0] += all ? s->weight : 0;
}
static double end_mean(const sums *s) { return s->sum[0] / s->total; }

/* Per label, the sums of the weights of three sets of rows: of the label and right; of the label; decided to be of it.
 * A column by itself has two labels. */
enum { RIGHT, REAL, FOUND, SETS };
static int64_t label_kinds(const sums *s) { return s->rule == CLASSES ? s->n : 2; }
static double *label_sums(const sums *s, int64_t j, int64_t label) {
    return s->sum + (j * label_kinds(s) + label) * SETS;
}

static void add_labels(sums *s) {
    for (int64_t j = 0; j < label_count(s); j++) {
        const int64_t real = true_label(s, j), found = decided_label(s, j);
        const double weight = weight_of(s, j);
        if (real != NO_LABEL)
            label_sums(s, j, real)[REAL] += weight;
        if (found != NO_LABEL)
            label_sums(s, j, found)[FOUND] += weight;
        if (real != NO_LABEL && real == found)
            label_sums(s, j, real)[RIGHT] += weight;
    }
}

/* The mean of a score over the labels that have one, in column j; NaN if none has. */
static double mean_of_labels(const sums *s, int64_t j, int is_f1) {
    double sum = 0;
    int64_t count = 0;
    for (int64_t label = 0; label < label_kinds(s); label++) {
        const double *set = label_sums(s, j, label), all = is_f1 ? set[REAL] + set[FOUND] : set[REAL];
        if (all > 0) {
            sum += (is_f1 ? 2 : 1) * set[RIGHT] / all;
            count++;
        }
    }
    return sum / (double)count;
}

static double end_balanced(const sums *s) {
    double sum = 0;
    for (int64_t j = 0; j < label_count(s); j++)
        sum += mean_of_labels(s, j, 0);
    return sum / (double)label_count(s);
}

/* Of columns by themselves, f1 is that of label 1. */
static double end_f1(const sums *s) {
    double sum = 0;
    if (s->rule == CLASSES)
        return mean_of_labels(s, 0, 1);
    for (int64_t j = 0; j < s->n; j++) {
        const double *set = label_sums(s, j, 1), all = set[REAL] + set[FOUND];
        sum += all > 0 ? 2 * set[RIGHT] / all : 0;
    }
    return sum / (double)s->n;
}

/* ---- numbers ---- */

/* The target of an element of weight 0 may be NaN. */
static double weighted(const sums *s, int64_t j, double value) {
    const double weight = weight_of(s, j);
    return weight == 0 ? 0 : weight * value;
}

static double target_of(const sums *s, int64_t j) { return s->target ? s->target[j] : j == s->label; }

static void add_squares(sums *s) {
    for (int64_t j = 0; j < s->n; j++) {
        const double d = s->output[j] - target_of(s, j);
        s->sum[0] += weighted(s, j, d * d);
    }
}
static double end_mean_of_columns(const sums *s) { return s->sum[0] / s->total / (double)s->n; }
static double end_rmse(const sums *s) { return sqrt(end_mean_of_columns(s)); }
/* For two classes, that of class 1; for more, the sum over the classes. */
static double end_brier(const sums *s) {
    return s->rule != CLASSES ? end_mean_of_columns(s) : s->n == 2 ? end_mean(s) / 2 : end_mean(s);
}

static void add_absolute(sums *s) {
    for (int64_t j = 0; j < s->n; j++)
        s->sum[0] += weighted(s, j, fabs(s->output[j] - s->target[j]));
}

static void add_pinball(sums *s) {
    for (int64_t j = 0; j < s->n; j++) {
        const double d = s->target[j] - s->output[j];
        s->sum[0] += weighted(s, j, d > 0 ? s->q * d : (s->q - 1) * d);
    }
}

/* Of each column: the sum of squares around the predictions, and that around the mean of the targets, which moves with
 * each row (West 1979). */
enum { RESIDUAL, SPREAD, CENTRE, FIRST, DIFFERS, TOTAL };

static void add_variance(sums *s) {
    for (int64_t j = 0; j < s->n; j++) {
        double *sum = s->sum + j * SUMS_EACH;
        const double t = s->target[j], d = t - s->output[j], weight = weight_of(s, j);
        if (weight == 0)
            continue;
        if (sum[TOTAL] == 0)
            sum[FIRST] = t;
        const double before = t - sum[CENTRE];
        sum[TOTAL] += weight;
        sum[RESIDUAL] += weight * (d * d);
        sum[CENTRE] += before * (weight / sum[TOTAL]);
        sum[SPREAD] += weight * before * (t - sum[CENTRE]);
        sum[DIFFERS] = sum[DIFFERS] != 0 || t != sum[FIRST];
    }
}

static double end_r2(const sums *s) {
    double total = 0;
    int64_t columns = 0;
    for (int64_t j = 0; j < s->n; j++) {
        const double *sum = s->sum + j * SUMS_EACH, residual = sum[RESIDUAL];
        columns += sum[TOTAL] > 0; /* one without targets has no r2 */
        if (sum[TOTAL] == 0)
            continue;
        if (sum[DIFFERS] != 0 && sum[SPREAD] != 0)
            total += 1 - residual / sum[SPREAD];
        else
            total += isnan(residual) ? residual : residual == 0;
    }
    return s->rows == 1 ? NAN : total / (double)columns;
}

/* ---- the table ---- */

typedef enum need { LABELS, PROBABILITIES, VALUES } need;
typedef struct measure {
    const char *name;
    need need;
    void (*add)(sums *s);
    double (*end)(const sums *s);
} measure;

static const measure measures[] = {
    {"accuracy", LABELS, add_accuracy, end_accuracy},        {"subset_accuracy", LABELS, add_subset, end_mean},
    {"balanced_accuracy", LABELS, add_labels, end_balanced}, {"f1", LABELS, add_labels, end_f1},
    {"brier", PROBABILITIES, add_squares, end_brier},        {"rmse", VALUES, add_squares, end_rmse},
    {"mae", VALUES, add_absolute, end_mean_of_columns},      {"r2", VALUES, add_variance, end_r2},
    {"pinball", VALUES, add_pinball, end_mean_of_columns},
};
enum { MEASURES = sizeof measures / sizeof *measures };

static int implies(const mbp_objective *objective, const char *activation) {
    return mbp_formula_is(MBP_OUTPUT_ACTIVATION, mbp_loss_activation(objective->loss.row), activation);
}

/* Whether a measure makes sense for a loss. */
static int fits(need wanted, const mbp_objective *objective) {
    if (objective->lists && mbp_loss_shares(objective->loss.row, 0)) /* several predictions of a target */
        return 0;
    if (objective->signs)
        return wanted == LABELS;
    return implies(objective, "sigmoid") || (objective->labels ? wanted != VALUES : wanted == VALUES);
}

static mbp_status find(const mbp_objective *objective, const char *name, const measure **found, mbp_error *error) {
    char what[80];
    mbp_unknown unknown = {.word = mbp_slice_of(name)};
    *found = NULL;
    for (int i = 0; i < MEASURES; i++) {
        if (!fits(measures[i].need, objective))
            continue;
        if (strcmp(measures[i].name, name) == 0)
            *found = &measures[i];
        mbp_unknown_add(&unknown, mbp_slice_of(measures[i].name));
    }
    snprintf(what, sizeof what, "the loss %s has no measure", mbp_formula_name(MBP_LOSS, objective->loss.row));
    return *found ? MBP_OK : mbp_unknown_fail(&unknown, what, error);
}

/* ---- the rows of a batch ---- */

typedef struct reading {
    mbp_trainer *trainer;
    int output;
    const measure *chosen;
    sums sums;
    double *memory; /* the sums; then an output, a target, and a prediction in the net's dtype */
    size_t bytes;
} reading;

static mbp_status take_memory(reading *r, mbp_error *error) {
    const mbp_net *net = r->trainer->net;
    const size_t n = (size_t)r->sums.n;
    r->bytes = (SUMS_EACH + 3) * n * sizeof(double) + MBP_READABLE;
    r->memory = mbp_allocate(mbp_net_allocator(net), r->bytes);
    if (!r->memory)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for the sums of %lld column%s", (long long)n,
                        mbp_plural((int64_t)n));
    memset(r->memory, 0, r->bytes);
    r->sums.sum = r->memory;
    return MBP_OK;
}

static void to_doubles(const mbp_net *net, const void *from, int64_t n, double *to) {
    for (int64_t j = 0; j < n; j++)
        to[j] = net->dtype == MBP_F64 ? ((const double *)from)[j] : (double)((const float *)from)[j];
}

static void *row_of(const mbp_net *net, mbp_view view, int64_t row) {
    return (char *)view.at + (size_t)(row * view.ld) * net->item;
}

/* Sets the weights of a row; returns 0 if all are 0. position: its only position with a weight of its own; -1: none. */
static int set_weights(sums *s, const mbp_workspace *w, const mbp_own *own, int64_t row, int64_t position) {
    const int64_t columns = mbp_is_weighted(w) ? own->columns : 0;
    if (position >= 0) {
        s->weight = own->at[(columns > 1 ? position : 0) * w->rows + row];
        return s->weight > 0;
    }
    s->weight = columns ? 0 : w->weight[row];
    for (int64_t j = 0; j < columns; j++)
        s->weight += own->at[j * w->rows + row];
    if (columns > 1)
        s->weight /= (double)columns;
    s->weights = columns > 1 ? own->at + row : NULL;
    s->weight_ld = w->rows;
    return s->weight > 0;
}

/* Brings values of a scaled output into the unit of its targets. */
static void unscale(const reading *r, double *values) {
    const mbp_net *net = r->trainer->net;
    const double *mean = mbp_scale_of(net, r->output);
    if (!mean)
        return;
    const double *std = mean + mbp_output_width(net, r->output);
    for (int64_t j = 0; j < r->sums.n; j++)
        values[j] = values[j] * std[j] + mean[j];
}

/* row: of all positions of the output. */
static void add_row(reading *r, int64_t row) {
    const mbp_trainer *t = r->trainer;
    const mbp_workspace *w = t->workspace;
    const int activation = mbp_loss_activation(t->objective[r->output].loss.row);
    const int64_t n = r->sums.n, positions = mbp_trainer_positions(t, r->output);
    double *output = r->memory + SUMS_EACH * n, *target = output + n;
    void *raw = row_of(t->net, w->value[t->net->output[r->output].node], row), *predicted = target + n;
    if (OUTPUT_ACTIVATION_COUNT > 1 && r->chosen->need != LABELS && activation != OUTPUT_ACTIVATION_identity)
        t->net->kernels->output[activation](1, n, (mbp_view){predicted, n}, (mbp_view){raw, n});
    else
        predicted = raw;
    to_doubles(t->net, predicted, n, output);
    unscale(r, output);
    r->sums.output = output;
    r->sums.target = w->target[r->output].at ? target : NULL;
    if (r->sums.target) {
        to_doubles(t->net, row_of(t->net, w->target[r->output], row), n, target);
        unscale(r, target);
    }
    r->sums.label = w->labels[r->output][row];
    if (!set_weights(&r->sums, w, &w->own[r->output], row / positions, positions > 1 ? row % positions : -1))
        return;
    r->sums.total += r->sums.weight;
    r->sums.rows++;
    r->chosen->add(&r->sums);
}

static mbp_status add_slice(reading *r, const mbp_batch *batch, mbp_batch_cursor *from, int64_t slice,
                            mbp_error *error) {
    mbp_chosen chosen;
    mbp_status status = mbp_slice_predict(r->trainer, batch, from, slice, &chosen, error);
    for (int64_t row = 0; status == MBP_OK && row < chosen.rows.count * mbp_trainer_positions(r->trainer, r->output);
         row++)
        add_row(r, row);
    return status;
}

/* Checks all that can be refused and makes room, for slices of this many rows. */
static mbp_status prepare(reading *r, const mbp_batch *given, const char *name, mbp_batch *batch, int64_t *rows,
                          mbp_error *error) {
    mbp_trainer *t = r->trainer;
    const int64_t slice = mbp_slice_rows(t->net);
    mbp_mean mean = {0};
    mbp_status status = mbp_batch_check(t, given, batch, rows, error);
    if (status == MBP_OK)
        status = mbp_batch_refuse_state(batch, error);
    if (status == MBP_OK && (r->output < 0 || r->output >= t->net->outputs))
        return mbp_fail_index(error, "output", r->output, t->net->outputs);
    if (status == MBP_OK)
        status = find(&t->objective[r->output], name, &r->chosen, error);
    if (status == MBP_OK && t->objective[r->output].weight == 0)
        return mbp_fail(error, MBP_INVALID, "output %d has the loss weight 0, so its targets are not read", r->output);
    if (status == MBP_OK)
        status = mbp_trainer_make_room(t, *rows < slice ? *rows : slice, MBP_TARGETS | mbp_batch_needs(t, batch),
                                       batch->x, error);
    if (status == MBP_OK)
        status = mbp_net_settle(t->net, error);
    return status == MBP_OK ? mbp_slices_check(t, batch, *rows, slice, &mean, error) : status;
}

static MBP_APART mbp_status run(reading *r, const mbp_batch *given, const char *name, double *value, mbp_error *error) {
    mbp_trainer *t = r->trainer;
    mbp_batch batch;
    int64_t rows;
    mbp_status status = prepare(r, given, name, &batch, &rows, error);
    if (status != MBP_OK)
        return status;
    const mbp_objective *objective = &t->objective[r->output];
    r->sums.rule = objective->labels ? CLASSES : implies(objective, "sigmoid") || objective->signs ? COLUMNS : NUMBERS;
    r->sums.signs = objective->signs;
    r->sums.q = mbp_formula_is(MBP_LOSS, objective->loss.row, "quantile") ? objective->loss.parameters[0] : 0.5;
    r->sums.n = objective->width; /* gaussian_nll: its first columns are the means */
    status = take_memory(r, error);
    if (status != MBP_OK)
        return status;
    mbp_trainer_forget(t);
    mbp_batch_cursor from = {NULL, 0, rows};
    while (status == MBP_OK && from.at < rows)
        status = add_slice(r, &batch, &from, mbp_slice_rows(t->net), error);
    if (status == MBP_OK)
        *value = r->chosen->end(&r->sums);
    mbp_release(mbp_net_allocator(t->net), r->memory, r->bytes);
    return status;
}

mbp_status mbp_trainer_measure(mbp_trainer *trainer, const mbp_batch *batch, int output, const char *name,
                               double *value, mbp_error *error) {
    reading r = {.trainer = trainer, .output = output};
    if (!batch)
        return mbp_fail_null(error, "batch", MBP_A_BATCH);
    if (!name || !value)
        return mbp_fail_null(error, name ? "value" : "name",
                             name ? "a double, where the value is stored"
                                  : "the name of a measure, such as \"accuracy\"");
    mbp_status status = mbp_trainer_enter(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, run(&r, batch, name, value, error)) : status;
}
