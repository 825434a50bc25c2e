/* What the page calls of the library. It has two networks: TRAINED, and PROBE, which has the same layers and shows one
 * row, forward and backward; and two places where the next ones are made. Each function that can fail returns an
 * mbp_status; message() is then its text. */
#include <stdlib.h>
#include <string.h>

#include "microbp.h"

#define PAGE(name) __attribute__((export_name(#name)))

enum { TRAINED, PROBE, NEXT, NEXT_PROBE, PLACES };

typedef struct place {
    mbp_net *net;
    mbp_trainer *trainer;
} place;

static place places[PLACES];
static mbp_error error;
static char text[1 << 16];

/* Memory for the arrays that the page writes and reads. */
PAGE(take) void *take(size_t bytes) { return malloc(bytes); }
PAGE(give) void give(void *block) { free(block); }

PAGE(message) const char *message(void) { return error.text; }
PAGE(formula) const char *formula(mbp_kind kind, int i) { return mbp_formula_name(kind, i); }
PAGE(meaning) const char *meaning(mbp_kind kind, int i) { return mbp_formula_meaning(kind, i); }

/* Whether a network has one input and one output of these widths. If not, the page knows the text of the error. */
static mbp_status check_widths(const mbp_net *net, int in, int out) {
    if (mbp_net_inputs(net) == 1 && mbp_net_outputs(net) == 1 && mbp_net_input_width(net, 0) == in &&
        mbp_net_output_width(net, 0) == out)
        return MBP_OK;
    error = (mbp_error){.status = MBP_INVALID};
    return MBP_INVALID;
}

static void replace(place *old, place by) {
    mbp_trainer_free(old->trainer);
    mbp_net_free(old->net);
    *old = by;
}

/* Makes a network with its trainer in NEXT or NEXT_PROBE, with memory for predictions of `rows` rows. */
PAGE(create)
mbp_status create(int at, const char *graph, const char *loss, const char *optimizer, uint32_t seed, int in, int out,
                  int rows) {
    const mbp_options options = {.size = sizeof options, .seed = seed};
    place made = {0};
    mbp_status status = mbp_net_create(&made.net, graph, &options, &error);
    if (!status)
        status = check_widths(made.net, in, out);
    if (!status)
        status = mbp_trainer_create(&made.trainer, made.net, &loss, NULL, 1, optimizer, &error);
    if (!status)
        status = mbp_net_reserve(made.net, rows, &error);
    replace(&places[at], made);
    return status;
}

/* The next networks take the places of TRAINED and PROBE. */
PAGE(adopt) void adopt(void) {
    for (int at = TRAINED; at <= PROBE; at++) {
        replace(&places[at], places[at + NEXT]);
        places[at + NEXT] = (place){0};
    }
}

PAGE(graph) const char *graph(int at) {
    mbp_net_text(places[at].net, text, sizeof text);
    return text;
}

/* Targets are labels, int32, or numbers, float32. */
static mbp_array targets(const void *y, int labels, int64_t rows) {
    return mbp_contiguous(y, labels ? MBP_I32 : MBP_F32, 4, rows, 1);
}

static mbp_array inputs(int at, const float *x, int64_t rows) {
    return mbp_f32(x, rows, mbp_net_input_width(places[at].net, 0));
}

static int keep_loss(const mbp_record *record, void *losses) {
    *(*(double **)losses)++ = record->loss;
    return 0;
}

/* Trains for some epochs. losses: that of each completed epoch. */
PAGE(fit)
mbp_status fit(const float *x, const void *y, int labels, int rows, int batch_rows, int epochs, double *losses) {
    const mbp_array in = inputs(TRAINED, x, rows), out = targets(y, labels, rows);
    const mbp_batch data = mbp_batch_of(&in, &out);
    const mbp_fit how = {
        .size = sizeof how, .epochs = epochs, .batch_rows = batch_rows, .callback = keep_loss, .user = &losses};
    return mbp_trainer_fit(places[TRAINED].trainer, &data, &how, NULL, &error);
}

/* A number of the trainer ("lr", "epoch"), and how good its predictions are ("accuracy", "rmse"); NaN if that fails. */
PAGE(set) mbp_status set(const char *name, double value) {
    return mbp_trainer_set(places[TRAINED].trainer, name, value, &error);
}
PAGE(get) double get(const char *name) {
    double value = __builtin_nan("");
    mbp_trainer_get(places[TRAINED].trainer, name, &value, &error);
    return value;
}
PAGE(steps) double steps(void) { return (double)mbp_trainer_steps(places[TRAINED].trainer); }
PAGE(measure) double measure(const char *name, const float *x, const void *y, int labels, int rows) {
    const mbp_array in = inputs(TRAINED, x, rows), out = targets(y, labels, rows);
    const mbp_batch data = mbp_batch_of(&in, &out);
    double value = __builtin_nan("");
    mbp_trainer_measure(places[TRAINED].trainer, &data, 0, name, &value, &error);
    return value;
}

PAGE(predict) mbp_status predict(const float *x, int rows, float *out) {
    mbp_net *net = places[TRAINED].net;
    const mbp_array in = inputs(TRAINED, x, rows), to = mbp_f32(out, rows, mbp_net_output_width(net, 0));
    return mbp_net_predict(net, &in, 1, &to, 1, 0, -1, &error);
}

/* ---- one row ---- */

PAGE(nodes) int nodes(void) { return mbp_net_nodes(places[PROBE].net); }
PAGE(width) int width(int node) { return (int)mbp_net_node_width(places[PROBE].net, node); }
PAGE(params) float *params(int at) { return mbp_net_params(places[at].net, NULL); }
PAGE(grads) float *grads(void) { return mbp_trainer_grads(places[PROBE].trainer); }

/* The name of the i-th tensor of PROBE, that of its layer, and its shape: offset, in, out. NULL after the last. */
PAGE(tensor) const char *tensor(int i, const char **layer, int *shape) {
    mbp_tensor found;
    if (!mbp_net_tensor(places[PROBE].net, i, &found))
        return NULL;
    shape[0] = (int)found.offset, shape[1] = (int)found.in, shape[2] = (int)found.out;
    *layer = found.layer;
    return found.name;
}

static float *numbers(int at, const mbp_tensor *tensor) {
    mbp_net *net = places[at].net;
    return (float *)(tensor->buffer ? mbp_net_buffers(net, NULL) : mbp_net_params(net, NULL)) + tensor->offset;
}

/* Copies the numbers of all layers that both networks have to PROBE. */
static void copy_layers(void) {
    mbp_tensor from, to;
    for (int i = 0; mbp_net_tensor(places[TRAINED].net, i, &from); i++)
        for (int j = 0; mbp_net_tensor(places[PROBE].net, j, &to); j++)
            if (!strcmp(from.layer, to.layer) && !strcmp(from.name, to.name))
                memcpy(numbers(PROBE, &to), numbers(TRAINED, &from), (size_t)(from.in * from.out) * sizeof(float));
}

/* One row through PROBE, with the numbers that the layers of TRAINED have now. values: those of all nodes, one after
 * the other. grads() are then the gradients of the loss. */
PAGE(explain) mbp_status explain(const float *x, const void *y, int labels, float *values, double *loss) {
    copy_layers();
    mbp_net *net = places[PROBE].net;
    const mbp_array in = inputs(PROBE, x, 1), out = targets(y, labels, 1);
    const mbp_batch data = mbp_batch_of(&in, &out);
    for (int node = 0; node < mbp_net_nodes(net); node++) {
        const mbp_array to = mbp_row(values, mbp_net_node_width(net, node));
        const mbp_status status = mbp_net_predict(net, &in, 1, &to, 1, 1, node, &error);
        if (status)
            return status;
        values += to.cols;
    }
    return mbp_trainer_backward(places[PROBE].trainer, &data, NULL, loss, &error);
}
