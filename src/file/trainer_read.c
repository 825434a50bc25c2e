/* Floor 6: reads the files of trainers (trainer_file.h). file_read.c has checked everything but the meaning of the
 * extras. The trainer is made by the public functions, so a file cannot make one that a caller could not make. */
#include "file/trainer_file.h"

#include "system/memory.h"
#include "system/spec.h"
#include "system/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    VERSION,
    LOSSES,
    LOSS_WEIGHTS,
    OPTIMIZER,
    SEED,
    STEPS,
    EPOCH,
    LOSS,
    LAST_LOSS,
    AVERAGE_DECAY, /* from here on: only with an average */
    AVERAGE_START,
    AVERAGE_EVERY,
    AVERAGE_COUNT,
    SPARSE, /* only with sparse layers */
    KEYS
};
static const char *const keys[KEYS] = {"version",       "losses",        "loss_weights",  "optimizer", "seed",
                                       "steps",         "epoch",         "loss",          "last_loss", "average_decay",
                                       "average_start", "average_every", "average_count", "sparse"};

/* The lines of a trainer's text, in place. */
typedef struct lines {
    mbp_slice value[KEYS]; /* at = NULL: not there */
    double setting[MBP_PARAMETERS_MAX];
    unsigned settings;                      /* bit i: setting i has been read */
    mbp_slice python[MBP_PYTHON_LINES_MAX]; /* whole lines */
    int pythons;
} lines;

/* ---- from text to lines ---- */

static mbp_status fail_state(mbp_error *error, mbp_status status, const mbp_error *inner) {
    return status == MBP_INVALID ? mbp_fail(error, MBP_CORRUPT, "the trainer's state is invalid: %.200s", inner->text)
                                 : mbp_fail(error, status, "%.200s", inner->text);
}

static int is_printable(mbp_slice text) {
    for (size_t i = 0; i < text.length; i++)
        if (text.at[i] < ' ' || text.at[i] > '~')
            return 0;
    return 1;
}

static int begins(mbp_slice text, const char *start) {
    return text.length >= strlen(start) && memcmp(text.at, start, strlen(start)) == 0;
}

static mbp_status read_python(lines *l, mbp_slice line, mbp_slice key, mbp_error *error) {
    if (l->pythons == MBP_PYTHON_LINES_MAX)
        return mbp_fail(error, MBP_INVALID, "it has more than %d lines of Python", MBP_PYTHON_LINES_MAX);
    for (int i = 0; i < l->pythons; i++)
        if (l->python[i].length > key.length && memcmp(l->python[i].at, key.at, key.length) == 0 &&
            l->python[i].at[key.length] == '=')
            return mbp_fail(error, MBP_INVALID, "%.*s is given twice", (int)(key.length > 60 ? 60 : key.length),
                            key.at);
    l->python[l->pythons++] = line;
    return MBP_OK;
}

static mbp_status unknown_key(mbp_slice key, mbp_error *error) {
    mbp_unknown unknown = {.word = key};
    for (int k = 0; k < KEYS; k++)
        mbp_unknown_add(&unknown, mbp_slice_of(keys[k]));
    mbp_parameters_list(MBP_TRAINER_SETTINGS, &unknown);
    return mbp_unknown_fail(&unknown, "unknown entry, perhaps of a newer version,", error);
}

static mbp_status read_line(lines *l, mbp_slice line, mbp_error *error) {
    mbp_slice value = line;
    const mbp_slice key = mbp_take_until(&value, '=');
    if (!is_printable(key) || key.length == line.length)
        return mbp_fail(error, MBP_INVALID, "it is not key=value");
    if (begins(key, MBP_PYTHON_LINE))
        return read_python(l, line, key, error);
    if (!is_printable(value))
        return mbp_fail(error, MBP_INVALID, "it has a character that is not ASCII");
    if (mbp_parameter_index(MBP_TRAINER_SETTINGS, key) >= 0)
        return mbp_parameter_read(line, MBP_TRAINER_SETTINGS, l->setting, &l->settings, error);
    int k = 0;
    while (k < KEYS && !mbp_slice_is(key, keys[k]))
        k++;
    if (k == KEYS)
        return unknown_key(key, error);
    if (l->value[k].at)
        return mbp_fail(error, MBP_INVALID, "%s is given twice", keys[k]);
    l->value[k] = value;
    return MBP_OK;
}

/* Without an average, the lines of an average must all be missing. */
static mbp_status check_complete(const lines *l, mbp_error *error) {
    const int average = l->value[AVERAGE_DECAY].at || l->value[AVERAGE_START].at || l->value[AVERAGE_EVERY].at ||
                        l->value[AVERAGE_COUNT].at;
    for (int k = 0; k < (average ? SPARSE : AVERAGE_DECAY); k++)
        if (!l->value[k].at)
            return mbp_fail(error, MBP_CORRUPT, "the trainer's state is invalid: it has no %s", keys[k]);
    return MBP_OK;
}

/* The first line, so that the text of a later version is refused for its version. */
static mbp_status check_version(mbp_slice text, mbp_error *error) {
    if (text.length && *text.at == '{')
        return mbp_fail(error, MBP_UNSUPPORTED,
                        "the trainer was saved by an older version of microbp, in a form that only Python reads: load "
                        "it with bp.Trainer.load and save it again");
    mbp_slice version = mbp_take_until(&text, '\n');
    const mbp_slice key = mbp_take_until(&version, '=');
    if (!mbp_slice_is(key, keys[VERSION]) || !version.length || !is_printable(version))
        return mbp_fail(error, MBP_CORRUPT, "the trainer's state is invalid: its first line is not version=%s",
                        MBP_TRAINER_VERSION);
    if (!mbp_slice_is(version, MBP_TRAINER_VERSION))
        return mbp_fail(error, MBP_UNSUPPORTED,
                        "the trainer's state has the version %.*s, but this microbp reads only version %s; use the "
                        "version of microbp that wrote it",
                        (int)(version.length > 40 ? 40 : version.length), version.at, MBP_TRAINER_VERSION);
    return MBP_OK;
}

static mbp_status read_lines(lines *l, const char *text, mbp_error *error) {
    mbp_slice rest = mbp_slice_of(text);
    *l = (lines){0};
    mbp_parameter_defaults(MBP_TRAINER_SETTINGS, l->setting);
    mbp_status status = check_version(rest, error);
    for (int i = 1; rest.length && status == MBP_OK; i++) {
        mbp_error inner;
        status = read_line(l, mbp_take_until(&rest, '\n'), &inner);
        if (status != MBP_OK)
            status = mbp_fail(error, MBP_CORRUPT, "the trainer's state is invalid: line %d: %.200s", i, inner.text);
    }
    return status == MBP_OK ? check_complete(l, error) : status;
}

/* ---- from lines to a trainer ---- */

/* The arguments of mbp_trainer_create, and the net's output activations, in one block. */
typedef struct arguments {
    double *weight;
    const char **loss;
    int *activation;
    char *text; /* losses and optimizer, zero-terminated */
    size_t bytes;
} arguments;

static const char *add_text(char **end, mbp_slice text) {
    char *start = memcpy(*end, text.at, text.length);
    start[text.length] = 0;
    *end = start + text.length + 1;
    return start;
}

/* NaN is a loss that is not known. */
static int read_number(mbp_slice text, double *value) {
    if (mbp_slice_is(text, "nan"))
        return *value = NAN, 1;
    return mbp_parse_number(text, value);
}

static mbp_status read_number_line(const lines *l, int key, double *value, mbp_error *error) {
    if (read_number(l->value[key], value))
        return MBP_OK;
    return mbp_fail(error, MBP_INVALID, "%s must be a number, not \"%.*s\"", keys[key],
                    (int)(l->value[key].length > 60 ? 60 : l->value[key].length), l->value[key].at);
}

static mbp_status read_count(const lines *l, int key, int64_t *value, mbp_error *error) {
    uint64_t whole;
    if (!mbp_file_whole(l->value[key], &whole) || whole > INT64_MAX)
        return mbp_fail(error, MBP_INVALID, "%s must be a whole number from 0 to 2^63 - 1, not \"%.*s\"", keys[key],
                        (int)(l->value[key].length > 60 ? 60 : l->value[key].length), l->value[key].at);
    *value = (int64_t)whole;
    return MBP_OK;
}

static mbp_status fail_number_of(const char *key, int outputs, mbp_error *error) {
    return mbp_fail(error, MBP_INVALID, "%s must have %d item%s, one per output", key, outputs, mbp_plural(outputs));
}

static mbp_status read_losses(arguments *a, const lines *l, int outputs, char **end, mbp_error *error) {
    mbp_slice losses = l->value[LOSSES], weights = l->value[LOSS_WEIGHTS];
    for (int i = 0; i < outputs; i++) {
        const mbp_slice loss = mbp_take_term(&losses), weight = mbp_take_word(&weights);
        if (!loss.length || !weight.length)
            return fail_number_of(keys[loss.length ? LOSS_WEIGHTS : LOSSES], outputs, error);
        a->loss[i] = mbp_slice_is(loss, "none") ? NULL : add_text(end, loss);
        if (!mbp_parse_number(weight, &a->weight[i]))
            return mbp_fail(error, MBP_INVALID, "loss_weights: item %d must be a number", i);
    }
    if (mbp_trimmed(losses).length || mbp_trimmed(weights).length)
        return fail_number_of(keys[mbp_trimmed(losses).length ? LOSSES : LOSS_WEIGHTS], outputs, error);
    return MBP_OK;
}

/* The net may have another output activation than the loss implies, because it was changed later. It is taken away
 * while the trainer is made. */
static mbp_status create_with(mbp_trainer **trainer, mbp_net *net, const lines *l, arguments *a, mbp_error *error) {
    char *end = a->text;
    mbp_status status = read_losses(a, l, net->outputs, &end, error);
    if (status != MBP_OK)
        return status;
    const char *optimizer = add_text(&end, l->value[OPTIMIZER]);
    for (int i = 0; i < net->outputs; i++) {
        a->activation[i] = net->output[i].activation;
        net->output[i].activation = -1;
    }
    status = mbp_trainer_create(trainer, net, a->loss, a->weight, net->outputs, optimizer, error);
    for (int i = 0; i < net->outputs; i++)
        net->output[i].activation = a->activation[i];
    return status;
}

static mbp_status create(mbp_trainer **trainer, mbp_net *net, const lines *l, mbp_error *error) {
    const size_t n = (size_t)net->outputs;
    arguments a = {.bytes = n * (sizeof *a.weight + sizeof *a.loss + sizeof *a.activation) + l->value[LOSSES].length +
                            l->value[OPTIMIZER].length + 2};
    char *block = mbp_allocate(mbp_net_allocator(net), a.bytes);
    if (!block)
        return mbp_file_no_memory(error, a.bytes);
    a.weight = (double *)block;
    a.loss = (const char **)(a.weight + n);
    a.activation = (int *)(a.loss + n);
    a.text = (char *)(a.activation + n);
    mbp_status status = create_with(trainer, net, l, &a, error);
    mbp_release(mbp_net_allocator(net), block, a.bytes);
    return status;
}

static mbp_status read_average(mbp_trainer *t, const lines *l, mbp_error *error) {
    double decay = 0;
    int64_t start = 0, every = 0, count = 0;
    if (!l->value[AVERAGE_DECAY].at)
        return MBP_OK;
    mbp_status status = read_number_line(l, AVERAGE_DECAY, &decay, error);
    if (status == MBP_OK)
        status = read_count(l, AVERAGE_START, &start, error);
    if (status == MBP_OK)
        status = read_count(l, AVERAGE_EVERY, &every, error);
    if (status == MBP_OK)
        status = read_count(l, AVERAGE_COUNT, &count, error);
    if (status == MBP_OK)
        status = mbp_trainer_set_average(t, decay, start, every, error);
    return status == MBP_OK ? mbp_trainer_set(t, keys[AVERAGE_COUNT], (double)count, error) : status;
}

static mbp_status read_numbers(mbp_trainer *t, const lines *l, mbp_error *error) {
    int64_t steps = 0;
    mbp_status status = mbp_file_whole(l->value[SEED], &t->seed)
                            ? MBP_OK
                            : mbp_fail(error, MBP_INVALID, "seed must be a whole number from 0 to 2^64 - 1");
    memcpy(t->setting, l->setting, sizeof t->setting);
    if (status == MBP_OK)
        status = read_count(l, STEPS, &steps, error);
    if (status == MBP_OK)
        status = mbp_trainer_set_steps(t, steps, error);
    int64_t epoch = 0;
    if (status == MBP_OK)
        status = read_count(l, EPOCH, &epoch, error);
    if (status == MBP_OK)
        status = mbp_trainer_set(t, keys[EPOCH], (double)epoch, error);
    if (status == MBP_OK)
        status = read_number_line(l, LOSS, &t->running.loss, error);
    if (status == MBP_OK)
        status = read_number_line(l, LAST_LOSS, &t->running.last_loss, error);
    return status == MBP_OK ? read_average(t, l, error) : status;
}

/* ---- the vectors ---- */

/* NULL: there is none. */
static const mbp_vector *find_vector(const mbp_extras *extras, const char *name) {
    for (int i = 0; i < extras->count; i++)
        if (strcmp(extras->vector[i].name, name) == 0)
            return &extras->vector[i];
    return NULL;
}

static mbp_status copy_vector(const mbp_extras *extras, const char *name, void *to, int64_t count, size_t item,
                              mbp_error *error) {
    const mbp_vector *vector = find_vector(extras, name);
    if (!vector)
        return mbp_fail(error, MBP_INVALID, "the vector %s is missing", name);
    if (vector->count != count)
        return mbp_fail(error, MBP_INVALID, "the vector %s has %lld number%s, but must have %lld", name,
                        (long long)vector->count, mbp_plural(vector->count), (long long)count);
    memcpy(to, vector->data, (size_t)count * item);
    return MBP_OK;
}

static int is_known(const mbp_trainer *t, const char *name) {
    char slot[MBP_NAME_SIZE] = "";
    for (int i = 0; i < t->slot_count && strcmp(name, slot) != 0; i++)
        mbp_slot_name(t, i, slot);
    return strcmp(name, slot) == 0 || strcmp(name, MBP_GRADS) == 0 || strcmp(name, MBP_ROWS) == 0 ||
           (t->average.at && strcmp(name, MBP_AVERAGE) == 0) || begins(mbp_slice_of(name), MBP_PYTHON_VECTOR);
}

static mbp_status read_vectors(mbp_trainer *t, const mbp_extras *extras, mbp_error *error) {
    const int64_t params = t->net->params;
    const size_t item = t->net->item;
    for (int i = 0; i < extras->count; i++)
        if (!is_known(t, extras->vector[i].name))
            return mbp_fail(error, MBP_INVALID, "the vector %s is unknown", extras->vector[i].name);
    mbp_status status = copy_vector(extras, MBP_GRADS, t->grads, params, item, error);
    for (int i = 0; i < t->slot_count && status == MBP_OK; i++) {
        char name[MBP_NAME_SIZE];
        mbp_slot_name(t, i, name);
        status = copy_vector(extras, name, t->slots[i], params, item, error);
    }
    if (t->average.at && status == MBP_OK)
        status = copy_vector(extras, MBP_AVERAGE, t->average.at, params + t->net->buffers, item, error);
    return status;
}

/* ---- sparse layers ---- */

/* Row number i of the vector, of two numbers below 2^16; -1: it is none. */
static int32_t row_at(const mbp_vector *vector, mbp_dtype dtype, int64_t i) {
    int32_t row = 0;
    for (int64_t k = 2 * i; k < 2 * i + 2; k++) {
        const double half = dtype == MBP_F64 ? ((const double *)vector->data)[k] : ((const float *)vector->data)[k];
        if (!(half >= 0 && half < (k % 2 ? 65536 : 32768)))
            return -1;
        row = row << 16 | (int32_t)half;
    }
    return row;
}

static mbp_status read_rows(mbp_trainer *t, const char *layer, const mbp_vector *vector, int64_t first, int64_t count,
                            mbp_error *error) {
    const mbp_allocator *allocator = mbp_net_allocator(t->net);
    const size_t bytes = (size_t)(count + 1) * sizeof(int32_t);
    int32_t *rows = mbp_allocate(allocator, bytes);
    if (!rows)
        return mbp_file_no_memory(error, bytes);
    for (int64_t i = 0; i < count; i++)
        rows[i] = row_at(vector, t->net->dtype, first + i);
    mbp_status status = mbp_trainer_set_sparse(t, layer, rows, count, error);
    mbp_release(allocator, rows, bytes);
    return status;
}

static mbp_status read_sparse(mbp_trainer *t, const lines *l, const mbp_extras *extras, mbp_error *error) {
    mbp_slice rest = l->value[SPARSE];
    mbp_status status = MBP_OK;
    const mbp_vector *vector = find_vector(extras, MBP_ROWS);
    int64_t first = 0;
    if (!rest.at != !vector)
        return mbp_fail(error, MBP_INVALID, vector ? "it has no sparse" : "the vector %s is missing", MBP_ROWS);
    while (mbp_trimmed(rest).length && status == MBP_OK) {
        char name[MBP_NAME_SIZE];
        uint64_t count;
        const mbp_slice layer = mbp_take_word(&rest);
        snprintf(name, sizeof name, "%.*s", (int)(layer.length < sizeof name ? layer.length : sizeof name), layer.at);
        if (!mbp_file_whole(mbp_take_word(&rest), &count) || count > (uint64_t)(vector->count / 2 - first))
            return mbp_fail(error, MBP_INVALID, "sparse must have the number of rows of layer %s", name);
        status = read_rows(t, name, vector, first, (int64_t)count, error);
        first += (int64_t)count;
    }
    if (status == MBP_OK && vector && 2 * first != vector->count)
        status = mbp_fail(error, MBP_INVALID, "the vector %s has %lld numbers, but must have %lld", MBP_ROWS,
                          (long long)vector->count, 2 * (long long)first);
    return status;
}

/* ---- what only Python knows ---- */

/* The extras of Python alone, in one block: the structure, the vectors, their data and names, the lines. */
static size_t kept_bytes(const lines *l, const mbp_extras *extras, size_t item) {
    size_t bytes = 0;
    for (int i = 0; i < extras->count; i++)
        if (begins(mbp_slice_of(extras->vector[i].name), MBP_PYTHON_VECTOR))
            bytes += sizeof *extras->vector + (size_t)extras->vector[i].count * item + MBP_NAME_SIZE;
    for (int i = 0; i < l->pythons; i++)
        bytes += l->python[i].length + 1;
    return bytes ? sizeof *extras + bytes + 1 : 0;
}

static void fill_kept(mbp_extras *kept, const lines *l, const mbp_extras *extras, size_t item) {
    mbp_vector *vector = (mbp_vector *)(kept + 1);
    *kept = (mbp_extras){.vector = vector};
    for (int i = 0; i < extras->count; i++)
        if (begins(mbp_slice_of(extras->vector[i].name), MBP_PYTHON_VECTOR))
            vector[kept->count++] = extras->vector[i];
    char *end = (char *)(vector + kept->count);
    for (int i = 0; i < kept->count; i++) {
        const size_t bytes = (size_t)vector[i].count * item;
        vector[i].data = memcpy(end, vector[i].data, bytes);
        end += bytes;
    }
    for (int i = 0; i < kept->count; i++)
        vector[i].name = add_text(&end, mbp_slice_of(vector[i].name));
    kept->text = end;
    for (int i = 0; i < l->pythons; i++) {
        memcpy(end, l->python[i].at, l->python[i].length);
        end += l->python[i].length;
        *end++ = '\n';
    }
    *end = 0;
}

static mbp_status keep(mbp_trainer *t, const lines *l, const mbp_extras *extras, mbp_error *error) {
    const size_t bytes = kept_bytes(l, extras, t->net->item);
    if (!bytes)
        return MBP_OK;
    t->kept = mbp_memory_take(&t->memory, bytes);
    if (!t->kept)
        return mbp_file_no_memory(error, bytes);
    t->kept_bytes = bytes;
    fill_kept(t->kept, l, extras, t->net->item);
    return MBP_OK;
}

/* ---- the whole trainer ---- */

static MBP_APART mbp_status make(mbp_trainer **trainer, mbp_net *net, const mbp_extras *extras, mbp_error *error) {
    lines l;
    mbp_error inner;
    mbp_trainer *made = NULL;
    mbp_status status = read_lines(&l, extras->text, error);
    if (status != MBP_OK)
        return status;
    status = create(&made, net, &l, &inner);
    if (status == MBP_OK)
        status = read_numbers(made, &l, &inner);
    if (status == MBP_OK)
        status = read_vectors(made, extras, &inner);
    if (status == MBP_OK)
        status = read_sparse(made, &l, extras, &inner);
    if (status == MBP_OK)
        status = keep(made, &l, extras, &inner);
    if (status == MBP_OK)
        return *trainer = made, MBP_OK;
    mbp_trainer_free(made);
    return fail_state(error, status, &inner);
}

/* Makes the trainer of a net that has just been read, and frees the extras. If this fails, it frees the net too. */
static mbp_status finish(mbp_trainer **trainer, mbp_net **net, mbp_net *made, mbp_extras *extras, mbp_error *error) {
    const mbp_float_state before = mbp_float_enter(MBP_KEEP_SUBNORMALS);
    mbp_status status = extras ? make(trainer, made, extras, error)
                               : mbp_fail(error, MBP_CORRUPT,
                                          "the file contains a network but no trainer; load it with mbp_net_load and "
                                          "create a trainer for it");
    mbp_float_leave(before);
    mbp_extras_free(extras);
    if (status == MBP_OK)
        *net = made;
    else
        mbp_net_free(made);
    return status;
}

static mbp_status check_targets(mbp_trainer **trainer, mbp_net **net, mbp_error *error) {
    if (!trainer)
        return mbp_fail_null(error, "trainer", MBP_GETS_TRAINER);
    return net ? MBP_OK : mbp_fail_null(error, "net", MBP_GETS_NET);
}

mbp_status mbp_trainer_read(mbp_trainer **trainer, mbp_net **net, const void *bytes, size_t size,
                            const mbp_options *options, mbp_error *error) {
    mbp_net *made;
    mbp_extras *extras;
    mbp_status status = check_targets(trainer, net, error);
    if (status == MBP_OK)
        status = mbp_net_read_with(&made, &extras, bytes, size, options, error);
    return status == MBP_OK ? finish(trainer, net, made, extras, error) : status;
}

mbp_status mbp_trainer_load(mbp_trainer **trainer, mbp_net **net, const char *path, const mbp_options *options,
                            mbp_error *error) {
    mbp_net *made;
    mbp_extras *extras;
    mbp_error inner;
    mbp_status status = check_targets(trainer, net, error);
    if (status == MBP_OK)
        status = mbp_net_load_with(&made, &extras, path, options, error);
    if (status != MBP_OK)
        return status;
    status = finish(trainer, net, made, extras, &inner);
    return status == MBP_OK ? MBP_OK : mbp_disk_refuse(error, path, &inner);
}
