/* Floor 6: reads the file of a network (file.h). Nothing in a file is trusted: every length is compared with the bytes
 * that the file has before memory is allocated for it. mbp_net_create builds the net from the graph text, so a file
 * cannot make a net that a caller could not make. */
#include "file/file.h"

#include "file/json.h"
#include "system/memory.h"
#include "system/sized.h"
#include "system/text.h"

#include <stdio.h>
#include <string.h>

#define FOREIGN(why) "not a microbp file: " why
#define TENSORS "; for arrays of another library use net.load_tensors(file) in Python"

enum { FORMAT, VERSION, GRAPH, SEED, GENERATOR, CRC, NOTES, TRAINER, DTYPE, ENSEMBLE, KEYS };
static const char *const keys[KEYS] = {"format",        "microbp.format",  "microbp.graph", "microbp.seed",
                                       "microbp.rng",   "microbp.crc32c",  "microbp.notes", "microbp.trainer",
                                       "microbp.dtype", "microbp.ensemble"};

/* A file in memory, and where its parts are. */
typedef struct source {
    const char *bytes;
    size_t count, size; /* the bytes in memory and in the file; they differ only in check_start */
    json values[KEYS];  /* at each value of the metadata; at = NULL: the file does not have it */
    int unknown;        /* whether the metadata has other keys */
    json tensors;       /* the rest of the header after the metadata */
    size_t data_at;
} source;

static mbp_status malformed(mbp_error *error) {
    return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its header is not valid safetensors JSON"));
}

static int key_index(const char *key) {
    int k = 0;
    while (k < KEYS && strcmp(key, keys[k]) != 0)
        k++;
    return k;
}

/* Finds the values in "__metadata__", after its opening brace. */
static mbp_status find_values(source *s, json *j, mbp_error *error) {
    char key[MBP_FILE_TEXT];
    for (int more = !json_take(j, '}'); more;) {
        if (json_string(j, key, sizeof key) < 0 || !json_take(j, ':'))
            return malformed(error);
        json_space(j);
        int k = key_index(key);
        if (k == KEYS)
            s->unknown = 1;
        else if (s->values[k].at)
            return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("the metadata key \"%s\" occurs twice"), key);
        else
            s->values[k] = *j;
        if (json_string(j, NULL, 0) < 0)
            return malformed(error);
        more = json_take(j, ',');
        if (!more && !json_take(j, '}'))
            return malformed(error);
    }
    return MBP_OK;
}

static mbp_status find_header(source *s, mbp_error *error) {
    uint64_t length = 0;
    if (s->count >= MBP_LENGTH_BYTES)
        memcpy(&length, s->bytes, MBP_LENGTH_BYTES);
    if (length < 2 || length > s->size - MBP_LENGTH_BYTES)
        return mbp_fail(error, MBP_CORRUPT,
                        "not a microbp file, or cut short: it has %zu byte%s, fewer than its header needs", s->size,
                        mbp_plural((int64_t)s->size));
    s->data_at = MBP_LENGTH_BYTES + (size_t)length;
    s->tensors = (json){s->bytes + MBP_LENGTH_BYTES, s->bytes + (s->data_at < s->count ? s->data_at : s->count)};
    json *j = &s->tensors;
    if (*j->at != '{')
        return mbp_fail(error, MBP_CORRUPT, FOREIGN("it does not start like a safetensors file"));
    json_take(j, '{');
    if (!json_key(j, "__metadata__") || !json_take(j, '{'))
        return mbp_fail(error, MBP_CORRUPT, FOREIGN("its header does not start with a microbp.graph" TENSORS));
    return find_values(s, j, error);
}

static mbp_status no_graph(mbp_error *error) {
    return mbp_fail(error, MBP_CORRUPT, FOREIGN("its metadata has no microbp.graph" TENSORS));
}

/* Python's bp.Ensemble writes files of several networks (microbp/network/nets_file.py). */
static mbp_status several(mbp_error *error) {
    return mbp_fail(error, MBP_CORRUPT,
                    "the file contains several networks; load them with bp.Ensemble.load, or a model of a table "
                    "with bp.load_table; in C, with mbp_net_load_member");
}

/* Refuses a file whose first bytes show that it is not microbp's, before the rest is read (mbp_disk_check). */
static mbp_status check_start(const char *bytes, size_t count, size_t size, mbp_error *error) {
    source s = {.bytes = bytes, .count = count, .size = size};
    mbp_error inner;
    const mbp_status status = find_header(&s, &inner);
    if (s.values[ENSEMBLE].at)
        return several(error);
    const int goes_on = count < s.data_at && s.tensors.at == s.tensors.end; /* the first bytes end in the metadata */
    int ours = 0;
    for (int k = VERSION; k < KEYS; k++)
        ours |= s.values[k].at != NULL;
    if (goes_on)
        return ours || !s.unknown ? MBP_OK : no_graph(error);
    if (status != MBP_OK)
        return mbp_fail(error, status, "%s", inner.text);
    return s.values[GRAPH].at || s.values[CRC].at ? MBP_OK : no_graph(error);
}

/* A short metadata value as text; "" if it does not fit. */
static const char *value_text(const source *s, int k, char text[MBP_FILE_TEXT]) {
    json j = s->values[k];
    json_string(&j, text, MBP_FILE_TEXT);
    return text;
}

/* A short metadata value for an error, without characters that a terminal would obey. */
static const char *shown_value(const source *s, int k, char text[MBP_FILE_TEXT]) {
    value_text(s, k, text);
    for (char *c = text; *c; c++)
        *c = *c < ' ' || *c > '~' ? '?' : *c;
    return text;
}

/* Copies a long metadata value into a new block of *size bytes from the allocator. The caller releases it. */
static mbp_status copy_value(const source *s, int k, const mbp_allocator *allocator, char **text, size_t *size,
                             mbp_error *error) {
    json j = s->values[k];
    *size = (size_t)json_string(&j, NULL, 0) + 1;
    *text = mbp_allocate(allocator, *size);
    if (!*text)
        return mbp_file_no_memory(error, *size);
    j = s->values[k];
    json_string(&j, *text, *size);
    return MBP_OK;
}

static int checksum_holds(const source *s) {
    /* The digits start after the quote. find_values has read the whole string, so if it has 8 characters, they are
     * inside the file. */
    const char *digits = s->values[CRC].at + 1;
    char text[MBP_FILE_TEXT], expected[MBP_CRC_DIGITS + 1];
    if (strlen(value_text(s, CRC, text)) != MBP_CRC_DIGITS || memcmp(text, digits, MBP_CRC_DIGITS) != 0)
        return 0;
    snprintf(expected, sizeof expected, "%08x",
             (unsigned)mbp_file_checksum(s->bytes, s->size, (size_t)(digits - s->bytes)));
    return memcmp(digits, expected, MBP_CRC_DIGITS) == 0;
}

static mbp_status check_metadata(const source *s, mbp_error *error) {
    char text[MBP_FILE_TEXT];
    if (s->values[ENSEMBLE].at)
        return several(error);
    if (s->values[CRC].at && !checksum_holds(s))
        return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its checksum does not match"));
    if (!s->values[GRAPH].at)
        return no_graph(error);
    for (int k = CRC; k >= 0; k--)
        if (!s->values[k].at)
            return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its metadata has no %s"), keys[k]);
    if (strcmp(shown_value(s, VERSION, text), "1") != 0)
        return mbp_fail(error, MBP_UNSUPPORTED,
                        "the file has the format %.40s, but this version of microbp reads only format 1; use a newer "
                        "version",
                        text);
    if (strcmp(shown_value(s, GENERATOR, text), MBP_RNG) != 0)
        return mbp_fail(error, MBP_UNSUPPORTED,
                        "the file uses the random number generator %.40s, but this version of microbp only has " MBP_RNG
                        "; use a newer version",
                        text);
    if (strcmp(value_text(s, FORMAT, text), "microbp") != 0 || s->unknown)
        return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its metadata is not what microbp writes"));
    return MBP_OK;
}

int mbp_file_whole(mbp_slice text, uint64_t *value) {
    uint64_t total = 0;
    for (size_t i = 0; i < text.length; i++)
        if (text.at[i] < '0' || text.at[i] > '9' || __builtin_mul_overflow(total, 10, &total) ||
            __builtin_add_overflow(total, (uint64_t)(text.at[i] - '0'), &total))
            return 0;
    *value = total;
    return text.length == 1 || (text.length && *text.at != '0');
}

static int entry_fits(const mbp_entry *e, int keeps, const mbp_tensor *tensor, mbp_dtype dtype, int64_t begin,
                      int64_t end) {
    char name[MBP_FILE_TEXT];
    snprintf(name, sizeof name, "%s.%s", tensor->layer, tensor->name);
    return strcmp(e->name, name) == 0 && strcmp(e->dtype, mbp_dtype_name(dtype)) == 0 && e->begin == begin &&
           e->end == end && e->dims == tensor->dims && e->shape[0] == (keeps ? tensor->in : tensor->out) &&
           (tensor->dims == 1 || e->shape[1] == (keeps ? tensor->out : tensor->in));
}

/* Copies the tensors into the net. check_graph has checked that the file has data for all of them. *rest becomes the
 * rest of the header after the tensors, and *data_end the end of their data. */
static mbp_status read_tensors(mbp_net *net, const source *s, json *rest, int64_t *data_end, mbp_error *error) {
    int64_t begin = 0;
    mbp_dtype dtype = mbp_net_dtype(net);
    size_t item = mbp_dtype_size(dtype);
    json j = s->tensors;
    mbp_tensor tensor;
    mbp_entry e;
    for (int i = 0; mbp_net_tensor(net, i, &tensor); i++) {
        int64_t end = begin + tensor.in * tensor.out * (int64_t)item;
        const int keeps = mbp_file_keeps(net, &tensor);
        const size_t in = (size_t)tensor.in, out = (size_t)tensor.out;
        if (!mbp_file_entry(&j, &e) || !entry_fits(&e, keeps, &tensor, dtype, begin, end))
            return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("the entry of %s.%s does not match the graph"),
                            tensor.layer, tensor.name);
        mbp_file_transpose(mbp_net_at(net, &tensor), s->bytes + s->data_at + begin, keeps ? 1 : out,
                           keeps ? in * out : in, item);
        begin = end;
    }
    *rest = j;
    *data_end = begin;
    return MBP_OK;
}

/* The dtype of the first tensor; read_tensors checks that the others have the same. If there is none, that of the
 * metadata, or F32. */
static mbp_status read_dtype(const source *s, mbp_dtype *dtype, mbp_error *error) {
    json j = s->tensors;
    char text[MBP_FILE_TEXT];
    mbp_entry e;
    const int none = json_take(&j, '}');
    if (s->values[DTYPE].at && (!none || strcmp(value_text(s, DTYPE, text), "F64") != 0))
        return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its metadata is not what microbp writes"));
    *dtype = s->values[DTYPE].at ? MBP_F64 : MBP_F32;
    if (none)
        return MBP_OK;
    j = s->tensors;
    if (!mbp_file_entry(&j, &e))
        return malformed(error);
    if (strcmp(e.dtype, "F64") == 0)
        *dtype = MBP_F64;
    else if (strcmp(e.dtype, "F32") != 0)
        return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its first tensor is neither F32 nor F64"));
    return MBP_OK;
}

/* Checks the graph before memory is allocated for its net: it must be valid, and the file must have data for its
 * parameters, but not more unless it has extras. */
static mbp_status check_graph(const source *s, const char *graph, mbp_dtype dtype, const mbp_allocator *allocator,
                              mbp_error *error) {
    for (const char *c = graph; *c; c++)
        if ((*c < ' ' && *c != '\n') || *c > '~')
            return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its graph has a character that is not ASCII"));
    if (mbp_file_least(graph) > s->size)
        return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its %zu bytes are too few for the lines of its graph"),
                        s->size);
    int64_t numbers;
    mbp_error inner;
    mbp_status status = mbp_graph_count(graph, &numbers, allocator, &inner);
    if (status != MBP_OK)
        return status == MBP_INVALID ? mbp_fail(error, MBP_CORRUPT, "the file's graph is invalid: %.200s", inner.text)
                                     : mbp_fail(error, status, "%.200s", inner.text);
    size_t item = mbp_dtype_size(dtype), data = s->size - s->data_at;
    if (data % item || (s->values[TRAINER].at ? (uint64_t)numbers > data / item : (uint64_t)numbers != data / item))
        return mbp_fail(error, MBP_CORRUPT,
                        MBP_DAMAGED("its graph needs %lld parameter%s of %zu bytes, but its data has %zu bytes"),
                        (long long)numbers, mbp_plural(numbers), item, data);
    return MBP_OK;
}

/* ---- the whole file ---- */

static mbp_status read_notes(mbp_net *net, const source *s, mbp_error *error) {
    const mbp_allocator *allocator = mbp_net_allocator(net);
    char *notes;
    size_t size;
    if (!s->values[NOTES].at)
        return MBP_OK;
    mbp_status status = copy_value(s, NOTES, allocator, &notes, &size, error);
    if (status != MBP_OK)
        return status;
    if (!*notes || mbp_notes_check(notes, NULL) != MBP_OK) {
        mbp_release(allocator, notes, size);
        return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its notes are not a valid text"));
    }
    mbp_net_keep_notes(net, notes, size);
    return MBP_OK;
}

/* The extras follow the net's tensors: `rest` is at their entries, and their data starts at `begin`. *extras becomes
 * NULL if there are none. */
static mbp_status read_extras(mbp_extras **extras, const source *s, json rest, int64_t begin, const mbp_net *net,
                              mbp_error *error) {
    const mbp_extras_source from = {.text = s->values[TRAINER],
                                    .entries = rest,
                                    .data = s->bytes + s->data_at,
                                    .begin = begin,
                                    .end = (int64_t)(s->size - s->data_at),
                                    .file_bytes = s->size};
    if (from.text.at)
        return mbp_file_extras(extras, &from, net, error);
    if (json_take(&rest, '}') && json_done(&rest))
        return *extras = NULL, MBP_OK;
    return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its header has more entries than its graph has tensors"));
}

/* Fills the net, which was made from the graph, with everything else in the file. */
static mbp_status fill_net(mbp_net *net, mbp_extras **extras, const source *s, mbp_error *error) {
    json rest = {0};
    int64_t end = 0;
    mbp_status status = read_tensors(net, s, &rest, &end, error);
    if (status == MBP_OK)
        status = read_notes(net, s, error);
    return status == MBP_OK ? read_extras(extras, s, rest, end, net, error) : status;
}

static mbp_status read_net(mbp_net **net, mbp_extras **extras, const source *s, const char *graph,
                           const mbp_options *options, mbp_error *error) {
    char text[MBP_FILE_TEXT];
    mbp_options own = *options;
    mbp_net *made;
    mbp_status status = read_dtype(s, &own.dtype, error);
    if (status == MBP_OK && !mbp_file_whole(mbp_slice_of(value_text(s, SEED, text)), &own.seed))
        status = mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its seed is not a number"));
    if (status == MBP_OK)
        status = check_graph(s, graph, own.dtype, own.allocator, error);
    if (status != MBP_OK)
        return status;
    mbp_error inner;
    status = mbp_net_create(&made, graph, &own, &inner);
    if (status == MBP_INVALID)
        return mbp_fail(error, MBP_CORRUPT, "the file's graph is invalid: %.200s", inner.text);
    if (status != MBP_OK)
        return mbp_fail(error, status, "%s", inner.text);
    status = fill_net(made, extras, s, error);
    if (status == MBP_OK)
        *net = made;
    else
        mbp_net_free(made);
    return status;
}

mbp_status mbp_file_options(mbp_options *own, const mbp_options *options, mbp_error *error) {
    mbp_status status = mbp_sized_read(own, sizeof *own, options, "mbp_options", error);
    own->size = sizeof *own;
    return status == MBP_OK ? mbp_allocator_check(own->allocator, error) : status;
}

mbp_status mbp_net_read_with(mbp_net **net, mbp_extras **extras, const void *bytes, size_t size,
                             const mbp_options *options, mbp_error *error) {
    if (!MBP_LITTLE_ENDIAN)
        return mbp_file_wrong_host(error);
    if (!net || !extras)
        return mbp_fail_null(error, net ? "extras" : "net", net ? MBP_GETS_EXTRAS : MBP_GETS_NET);
    if (!bytes && size)
        return mbp_fail_null(error, "bytes", "the bytes of a file");
    source s = {.bytes = bytes, .count = size, .size = size};
    mbp_options own;
    mbp_status status = mbp_file_options(&own, options, error);
    if (status == MBP_OK)
        status = find_header(&s, error);
    if (status == MBP_OK)
        status = check_metadata(&s, error);
    if (status != MBP_OK)
        return status;

    char *graph;
    size_t graph_size;
    status = copy_value(&s, GRAPH, own.allocator, &graph, &graph_size, error);
    if (status != MBP_OK)
        return status;
    status = read_net(net, extras, &s, graph, &own, error);
    mbp_release(own.allocator, graph, graph_size);
    return status;
}

mbp_status mbp_net_read(mbp_net **net, const void *bytes, size_t size, const mbp_options *options, mbp_error *error) {
    mbp_extras *extras;
    mbp_status status = mbp_net_read_with(net, &extras, bytes, size, options, error);
    if (status == MBP_OK)
        mbp_extras_free(extras);
    return status;
}

/* ---- on disk ---- */

mbp_status mbp_net_load_with(mbp_net **net, mbp_extras **extras, const char *path, const mbp_options *options,
                             mbp_error *error) {
    if (!net || !extras)
        return mbp_fail_null(error, net ? "extras" : "net", net ? MBP_GETS_EXTRAS : MBP_GETS_NET);
    if (!path)
        return mbp_fail_null(error, "path", "the path of a file");
    char *bytes;
    size_t size;
    mbp_options own;
    mbp_status status = mbp_file_options(&own, options, error);
    if (status == MBP_OK)
        status = mbp_disk_read(path, own.allocator, check_start, &bytes, &size, error);
    if (status != MBP_OK)
        return status;
    mbp_error inner;
    status = mbp_net_read_with(net, extras, bytes, size, options, &inner);
    mbp_release(own.allocator, bytes, size);
    return status == MBP_OK ? MBP_OK : mbp_disk_refuse(error, path, &inner);
}

mbp_status mbp_net_load(mbp_net **net, const char *path, const mbp_options *options, mbp_error *error) {
    mbp_extras *extras;
    mbp_status status = mbp_net_load_with(net, &extras, path, options, error);
    if (status == MBP_OK)
        mbp_extras_free(extras);
    return status;
}
