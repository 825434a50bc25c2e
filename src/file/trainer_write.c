/* Floor 6: writes the files of trainers (trainer_file.h). */
#include "file/trainer_file.h"

#include "system/memory.h"
#include "system/spec.h"
#include "system/text.h"
#include "train/loss.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void mbp_slot_name(const mbp_trainer *trainer, int i, char name[MBP_NAME_SIZE]) {
    mbp_slice rest = mbp_slice_of(mbp_formula_detail(mbp_trainer_kind(trainer), trainer->optimizer.row)), word;
    do
        word = mbp_take_word(&rest);
    while (i-- > 0);
    const mbp_slice slot = mbp_take_until(&word, '='); /* "sum=initial_accumulator_value" */
    snprintf(name, MBP_NAME_SIZE, MBP_SLOT "%.*s", (int)slot.length, slot.at);
}

/* ---- the text ---- */

__attribute__((format(printf, 2, 3))) static void put(mbp_writer *w, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const size_t room = w->length < w->size ? w->size - w->length : 0;
    w->length += (size_t)vsnprintf(room ? w->text + w->length : NULL, room, format, arguments);
    va_end(arguments);
}

static void put_number(mbp_writer *w, const char *before, double value, const char *after) {
    char number[MBP_NUMBER_SIZE];
    number[mbp_print_number(number, value)] = 0;
    put(w, "%s%s%s", before, number, after);
}

static void put_losses(mbp_writer *w, const mbp_trainer *t) {
    put(w, "losses=");
    for (int i = 0; i < t->net->outputs; i++) {
        put(w, "%s", i ? " " : "");
        if (t->objective[i].loss.row >= 0)
            mbp_objective_write(w, t, i);
        else
            put(w, "none");
    }
    put(w, "\nloss_weights=");
    for (int i = 0; i < t->net->outputs; i++)
        put_number(w, i ? " " : "", t->objective[i].weight, "");
}

/* The spec with the numbers of now. Every optimizer has parameters, so its spec ends with a parenthesis. */
static void put_optimizer(mbp_writer *w, const mbp_trainer *t) {
    char spec[MBP_SPEC_SIZE];
    const size_t length = mbp_formula_print(mbp_trainer_kind(t), &t->optimizer, spec);
    const double decay_bias = t->optimizer.parameters[t->decay_bias];
    put(w, "\noptimizer=%.*s", (int)length - 1, spec);
    if (decay_bias != 0)
        put_number(w, ",decay_bias=", decay_bias, "");
    put(w, ")\n");
}

/* A setting with its default is not written, so older versions read the files of trainers that do not use it. */
static void put_settings(mbp_writer *w, const mbp_trainer *t) {
    mbp_slice name;
    mbp_interval interval;
    double standard;
    for (int i = 0; mbp_parameter(MBP_TRAINER_SETTINGS, i, &name, &standard, &interval); i++)
        if (t->setting[i] != standard) {
            put(w, "%.*s", (int)name.length, name.at);
            put_number(w, "=", t->setting[i], "\n");
        }
}

static void put_average(mbp_writer *w, const mbp_average *average) {
    put_number(w, "average_decay=", average->decay, "\n");
    put(w, "average_start=%lld\naverage_every=%lld\naverage_count=%lld\n", (long long)average->start,
        (long long)average->every, (long long)average->count);
}

/* Of each sparse layer its name, and how many rows its gradient has. */
static void put_sparse(mbp_writer *w, const mbp_trainer *t) {
    int sparse = 0;
    for (int i = 0; i < t->net->layers; i++)
        if (mbp_trains_sparse(t, i))
            put(w, "%s%s %lld", sparse++ ? " " : "sparse=", t->net->layer[i].name, (long long)t->lazy->grad[i].count);
    if (sparse)
        put(w, "\n");
}

static MBP_APART void put_lines(mbp_writer *w, const mbp_trainer *t) {
    put(w, "version=" MBP_TRAINER_VERSION "\n");
    put_losses(w, t);
    put_optimizer(w, t);
    put_settings(w, t);
    put(w, "seed=%llu\nsteps=%lld\nepoch=%lld\n", (unsigned long long)t->seed, (long long)t->running.steps,
        (long long)t->epoch);
    put_number(w, "loss=", t->running.loss, "\n");
    put_number(w, "last_loss=", t->running.last_loss, "\n");
    if (t->average.at)
        put_average(w, &t->average);
    put_sparse(w, t);
    if (t->kept)
        put(w, "%s", t->kept->text);
}

/* Numbers are compared and printed with the library's floating-point state. */
static void put_text(mbp_writer *w, const mbp_trainer *t) {
    const mbp_float_state before = mbp_float_enter(MBP_KEEP_SUBNORMALS);
    put_lines(w, t);
    mbp_float_leave(before);
}

/* ---- the file ---- */

/* The extras of a file that is about to be written. */
typedef struct draft {
    mbp_extras extras;
    mbp_vector vector[3 + MBP_SLOTS_MAX + MBP_VECTORS_MAX];
    char slot[MBP_SLOTS_MAX][MBP_NAME_SIZE];
    char *text, *rows; /* rows: the vector of the numbers of sparse rows */
    size_t text_size, rows_size;
} draft;

static void add_vector(draft *d, const char *name, const void *data, int64_t count) {
    d->vector[d->extras.count++] = (mbp_vector){name, data, count};
}

static void add_vectors(draft *d, const mbp_trainer *t) {
    const int64_t params = t->net->params;
    add_vector(d, MBP_GRADS, t->grads, params);
    for (int i = 0; i < t->slot_count; i++) {
        mbp_slot_name(t, i, d->slot[i]);
        add_vector(d, d->slot[i], t->slots[i], params);
    }
    if (t->average.at)
        add_vector(d, MBP_AVERAGE, t->average.at, params + t->net->buffers);
    if (d->rows)
        add_vector(d, MBP_ROWS, d->rows, (int64_t)(d->rows_size / t->net->item));
    for (int i = 0; t->kept && i < t->kept->count; i++)
        d->vector[d->extras.count++] = t->kept->vector[i];
}

/* The numbers of the rows of sparse layers, each as two numbers below 2^16, so that float32 holds them. */
static mbp_status add_rows(draft *d, const mbp_trainer *t, mbp_error *error) {
    int64_t count = 0, n = 0;
    for (int i = 0; i < t->net->layers; i++)
        count += mbp_trains_sparse(t, i) ? 2 * t->lazy->grad[i].count : 0;
    d->rows_size = (size_t)count * t->net->item;
    d->rows = mbp_allocate(mbp_net_allocator(t->net), d->rows_size + t->net->item);
    if (!d->rows)
        return mbp_file_no_memory(error, d->rows_size);
    for (int i = 0; i < t->net->layers; i++)
        for (int64_t r = 0; mbp_trains_sparse(t, i) && r < t->lazy->grad[i].count; r++)
            for (int half = 0; half < 2; half++, n++) {
                const int32_t row = t->lazy->grad[i].row[r], number = half ? row & 0xffff : row >> 16;
                if (t->net->dtype == MBP_F64)
                    ((double *)d->rows)[n] = number;
                else
                    ((float *)d->rows)[n] = (float)number;
            }
    return MBP_OK;
}

/* Whether parameters and buffers are where a net of its own has them (place_params in net/graph.c): in a part, layers
 * may be missing or have another order. */
static int has_own_vectors(const mbp_net *net) {
    int64_t params = 0, buffers = 0;
    int same = 1;
    for (int i = 0; i < net->layers; i++)
        if (mbp_has_matrix(net->layer[i].kind)) {
            same &= net->layer[i].weight == params;
            params += net->layer[i].in * net->layer[i].out;
        }
    for (int i = 0; i < net->layers; i++) {
        const mbp_layer *layer = &net->layer[i];
        const int64_t gain = mbp_has_matrix(layer->kind) ? -1 : layer->weight;
        same &= gain < 0 || gain == params;
        params += gain < 0 ? 0 : layer->out;
        same &= layer->bias < 0 || layer->bias == params;
        params += layer->bias < 0 ? 0 : mbp_bias_width(layer);
        same &= layer->running < 0 || layer->running == buffers;
        buffers += layer->running < 0 ? 0 : 2 * layer->out;
    }
    return same && params == net->params && buffers == net->buffers;
}

static void draft_free(draft *d, const mbp_trainer *t) {
    mbp_release(mbp_net_allocator(t->net), d->text, d->text_size);
    mbp_release(mbp_net_allocator(t->net), d->rows, d->rows_size + t->net->item);
    mbp_net_give(t->net);
}

/* Until draft_end the net is held, unless this fails. */
static mbp_status draft_begin(draft *d, const mbp_trainer *t, mbp_error *error) {
    *d = (draft){.extras.vector = d->vector};
    if (!t)
        return mbp_fail_null(error, "trainer", MBP_A_TRAINER);
    if (!has_own_vectors(t->net))
        return mbp_fail(
            error, MBP_UNSUPPORTED,
            "a trainer of a part of a net cannot be saved, because its vectors are those of the whole: save the "
            "part alone, or make a trainer of a copy of the part");
    mbp_status status = mbp_net_take(t->net, error);
    if (status != MBP_OK)
        return status;
    (void)mbp_net_settle(t->net, error); /* this thread holds the net */
    mbp_writer counted = {0};
    put_text(&counted, t);
    d->text_size = counted.length + 1;
    d->extras.text = d->text = mbp_allocate(mbp_net_allocator(t->net), d->text_size);
    status = d->text ? MBP_OK : mbp_file_no_memory(error, d->text_size);
    if (status == MBP_OK && MICROBP_SPARSE && t->lazy)
        status = add_rows(d, t, error);
    if (status != MBP_OK) {
        draft_free(d, t);
        return status;
    }
    put_text(&(mbp_writer){.text = d->text, .size = d->text_size}, t);
    add_vectors(d, t);
    if (MICROBP_SPARSE)
        mbp_sparse_show(t, 1);
    return MBP_OK;
}

static void draft_end(draft *d, const mbp_trainer *t) {
    if (MICROBP_SPARSE)
        mbp_sparse_show(t, 0);
    draft_free(d, t);
}

mbp_status mbp_trainer_write(const mbp_trainer *trainer, void *bytes, size_t *size, mbp_error *error) {
    draft d;
    mbp_status status = draft_begin(&d, trainer, error);
    if (status != MBP_OK)
        return status;
    status = mbp_net_write_with(trainer->net, &d.extras, bytes, size, error);
    draft_end(&d, trainer);
    return status;
}

mbp_status mbp_trainer_save(const mbp_trainer *trainer, const char *path, mbp_error *error) {
    draft d;
    mbp_status status = draft_begin(&d, trainer, error);
    if (status != MBP_OK)
        return status;
    status = mbp_net_save_with(trainer->net, &d.extras, path, error);
    draft_end(&d, trainer);
    return status;
}
