/* Floor 5: reading a network's file (file.h). Reading trusts nothing: every length is checked against the bytes that are there, before
 * memory is asked for, and the net is built by mbp_net_create from the graph text, so that no file can make a net that a caller could
 * not. */
#include "file.h"

#include "json.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

#define DAMAGED(what) "the file is damaged: " what "; restore it from a copy"
#define FOREIGN(why) "this is not a microbp file: " why
#define TENSORS "; if it is of another library, net.load_tensors(file) of Python takes its arrays by name"

enum { FORMAT, VERSION, GRAPH, SEED, GENERATOR, CRC, NOTES, TRAINER, KEYS };
static const char *const keys[KEYS] = {"format",      "microbp.format", "microbp.graph", "microbp.seed",
                                       "microbp.rng", "microbp.crc32c", "microbp.notes", "microbp.trainer"};
enum { TEXT_SIZE = 80 }; /* room for every string of ours but the long texts: a layer's name has at most 63 characters */

/* A file in memory, as far as its frame is known. */
typedef struct source {
    const char *bytes;
    size_t size;
    json values[KEYS]; /* where each metadata value stands; at = NULL: absent */
    int unknown;       /* there are other keys */
    json tensors;      /* what follows the metadata */
    size_t data_at;
} source;

static mbp_status malformed(mbp_error *error) {
    return mbp_fail(error, MBP_CORRUPT, DAMAGED("its header is not the JSON of a safetensors file"));
}

static int key_index(const char *key) {
    int k = 0;
    while (k < KEYS && strcmp(key, keys[k]) != 0)
        k++;
    return k;
}

/* The members of "__metadata__", after its opening brace. */
static mbp_status find_values(source *s, json *j, mbp_error *error) {
    char key[TEXT_SIZE];
    for (int more = !json_take(j, '}'); more;) {
        if (json_string(j, key, sizeof key) < 0 || !json_take(j, ':'))
            return malformed(error);
        json_space(j);
        int k = key_index(key);
        if (k == KEYS)
            s->unknown = 1;
        else if (s->values[k].at)
            return mbp_fail(error, MBP_CORRUPT, DAMAGED("\"%s\" is there twice"), key);
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
    if (s->size >= MBP_LENGTH_BYTES)
        memcpy(&length, s->bytes, MBP_LENGTH_BYTES);
    if (length < 2 || length > s->size - MBP_LENGTH_BYTES)
        return mbp_fail(error, MBP_CORRUPT, FOREIGN("or it was cut short: its %zu bytes do not hold the header they announce"), s->size);
    s->data_at = MBP_LENGTH_BYTES + (size_t)length;
    json j = {s->bytes + MBP_LENGTH_BYTES, s->bytes + s->data_at};
    if (*j.at != '{')
        return mbp_fail(error, MBP_CORRUPT, FOREIGN("it does not begin as a safetensors file does"));
    json_take(&j, '{');
    if (!json_key(&j, "__metadata__") || !json_take(&j, '{'))
        return mbp_fail(error, MBP_CORRUPT, FOREIGN("there is no microbp.graph at the start of its header" TENSORS));
    mbp_status status = find_values(s, &j, error);
    s->tensors = j;
    return status;
}

/* A short metadata value as text; "" when it is longer than any of ours. */
static const char *value_text(const source *s, int k, char text[TEXT_SIZE]) {
    json j = s->values[k];
    json_string(&j, text, TEXT_SIZE);
    return text;
}

/* A long one in a block of *size bytes from the allocator, which the caller releases. */
static mbp_status copy_value(const source *s, int k, const mbp_allocator *allocator, char **text, size_t *size, mbp_error *error) {
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
    const char *digits = s->values[CRC].at + 1; /* the string is known to be complete, so 8 digits lie inside the file */
    char text[TEXT_SIZE], expected[MBP_CRC_DIGITS + 1];
    if (strlen(value_text(s, CRC, text)) != MBP_CRC_DIGITS || memcmp(text, digits, MBP_CRC_DIGITS) != 0)
        return 0;
    snprintf(expected, sizeof expected, "%08x", (unsigned)mbp_file_checksum(s->bytes, s->size, (size_t)(digits - s->bytes)));
    return memcmp(digits, expected, MBP_CRC_DIGITS) == 0;
}

static mbp_status check_metadata(const source *s, mbp_error *error) {
    char text[TEXT_SIZE];
    if (s->values[CRC].at && !checksum_holds(s))
        return mbp_fail(error, MBP_CORRUPT, DAMAGED("its checksum does not match"));
    if (!s->values[GRAPH].at)
        return mbp_fail(error, MBP_CORRUPT, FOREIGN("its metadata has no microbp.graph" TENSORS));
    for (int k = CRC; k >= 0; k--)
        if (!s->values[k].at)
            return mbp_fail(error, MBP_CORRUPT, DAMAGED("its metadata has no %s"), keys[k]);
    if (strcmp(value_text(s, VERSION, text), "1") != 0)
        return mbp_fail(error, MBP_UNSUPPORTED, "the file is of another format than 1, which this microbp reads; use a newer microbp");
    if (strcmp(value_text(s, GENERATOR, text), MBP_RNG) != 0)
        return mbp_fail(error, MBP_UNSUPPORTED,
                        "the file's random numbers are not " MBP_RNG ", which this microbp has; use a newer microbp");
    if (strcmp(value_text(s, FORMAT, text), "microbp") != 0 || s->unknown)
        return mbp_fail(error, MBP_CORRUPT, DAMAGED("its metadata is not what microbp writes"));
    return MBP_OK;
}

/* 0 to 2^64 - 1 as put_integer writes it. */
static int parse_seed(const char *text, uint64_t *seed) {
    uint64_t value = 0;
    const char *c = text;
    for (; *c >= '0' && *c <= '9'; c++)
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, (uint64_t)(*c - '0'), &value))
            return 0;
    *seed = value;
    return c > text && !*c && (*text != '0' || c - text == 1);
}

typedef struct entry {
    char name[TEXT_SIZE], dtype[TEXT_SIZE];
    int64_t shape[2], begin, end;
    int dims;
} entry;

static int read_shape(json *j, entry *e) {
    e->dims = 1;
    if (!json_take(j, '[') || !json_integer(j, &e->shape[0]))
        return 0;
    if (json_take(j, ',')) {
        e->dims = 2;
        if (!json_integer(j, &e->shape[1]))
            return 0;
    }
    return json_take(j, ']');
}

/* One tensor with the comma before it, its members in the order in which put_tensor writes them. */
static int read_entry(json *j, entry *e) {
    return json_take(j, ',') && json_string(j, e->name, TEXT_SIZE) >= 0 && json_take(j, ':') && json_take(j, '{') && json_key(j, "dtype") &&
           json_string(j, e->dtype, TEXT_SIZE) >= 0 && json_take(j, ',') && json_key(j, "shape") && read_shape(j, e) && json_take(j, ',') &&
           json_key(j, "data_offsets") && json_take(j, '[') && json_integer(j, &e->begin) && json_take(j, ',') &&
           json_integer(j, &e->end) && json_take(j, ']') && json_take(j, '}');
}

static int entry_fits(const entry *e, const mbp_tensor *tensor, mbp_dtype dtype, int64_t begin, int64_t end) {
    char name[TEXT_SIZE];
    snprintf(name, sizeof name, "%s.%s", tensor->layer, tensor->name);
    return strcmp(e->name, name) == 0 && strcmp(e->dtype, mbp_dtype_name(dtype)) == 0 && e->begin == begin && e->end == end &&
           e->dims == tensor->dims && e->shape[0] == tensor->out && (tensor->dims == 1 || e->shape[1] == tensor->in);
}

/* Fills the net, which has at most as many numbers as the file has room for. What follows its tensors in the header: *rest; their end in
 * the data: *data_end. */
static mbp_status read_tensors(mbp_net *net, const source *s, json *rest, int64_t *data_end, mbp_error *error) {
    int64_t begin = 0;
    mbp_dtype dtype = mbp_net_dtype(net);
    size_t item = mbp_dtype_size(dtype);
    json j = s->tensors;
    mbp_tensor tensor;
    entry e;
    for (int i = 0; mbp_net_tensor(net, i, &tensor); i++) {
        int64_t end = begin + tensor.in * tensor.out * (int64_t)item;
        if (!read_entry(&j, &e) || !entry_fits(&e, &tensor, dtype, begin, end))
            return mbp_fail(error, MBP_CORRUPT, DAMAGED("the entry of %s.%s is not what the graph asks for"), tensor.layer, tensor.name);
        mbp_file_transpose(mbp_file_tensor(net, &tensor), s->bytes + s->data_at + begin, (size_t)tensor.out, (size_t)tensor.in, item);
        begin = end;
    }
    *rest = j;
    *data_end = begin;
    return MBP_OK;
}

/* The dtype is that of the first tensor; read_tensors compares the rest with it. */
static mbp_status read_dtype(const source *s, mbp_dtype *dtype, mbp_error *error) {
    json j = s->tensors;
    entry e;
    *dtype = MBP_F32;
    if (json_take(&j, '}'))
        return MBP_OK;
    j = s->tensors;
    if (!read_entry(&j, &e))
        return malformed(error);
    if (strcmp(e.dtype, "F64") == 0)
        *dtype = MBP_F64;
    else if (strcmp(e.dtype, "F32") != 0)
        return mbp_fail(error, MBP_CORRUPT, DAMAGED("its first tensor is neither F32 nor F64"));
    return MBP_OK;
}

/* Whether the graph is valid and asks for the parameters that are there, all of them if there are no extras: only then is memory asked for
 * them. */
static mbp_status check_graph(const source *s, const char *graph, mbp_dtype dtype, const mbp_allocator *allocator, mbp_error *error) {
    for (const char *c = graph; *c; c++)
        if ((*c < ' ' && *c != '\n') || *c > '~')
            return mbp_fail(error, MBP_CORRUPT, DAMAGED("its graph has a character that is not ASCII"));
    if (mbp_file_least(graph) > s->size)
        return mbp_fail(error, MBP_CORRUPT, DAMAGED("its %zu bytes are too few for the lines of its graph"), s->size);
    int64_t numbers;
    mbp_error inner;
    mbp_status status = mbp_graph_count(graph, &numbers, allocator, &inner);
    if (status != MBP_OK)
        return mbp_fail(error, status == MBP_INVALID ? MBP_CORRUPT : status, "the file's graph is refused: %.200s", inner.text);
    size_t item = mbp_dtype_size(dtype), data = s->size - s->data_at;
    if (data % item || (s->values[TRAINER].at ? (uint64_t)numbers > data / item : (uint64_t)numbers != data / item))
        return mbp_fail(error, MBP_CORRUPT, DAMAGED("its graph has %lld parameters of %zu bytes, and it holds %zu bytes of them"),
                        (long long)numbers, item, data);
    return MBP_OK;
}

/* ---- what is beside the net ---- */

/* Extras with what they point at, in one block. */
typedef struct kept_extras {
    mbp_extras extras;
    mbp_allocator allocator;
    int own; /* the allocator counts, else malloc */
    size_t bytes;
    mbp_vector vector[MBP_VECTORS_MAX];
    char names[MBP_VECTORS_MAX][MBP_NAME_SIZE];
} kept_extras;

static size_t aligned(size_t bytes) { return (bytes + MBP_ALIGNMENT - 1) / MBP_ALIGNMENT * MBP_ALIGNMENT; }

static kept_extras *make_extras(const source *s, size_t data, const mbp_allocator *allocator) {
    json j = s->values[TRAINER];
    const size_t text_size = (size_t)json_string(&j, NULL, 0) + 1;
    const size_t bytes = aligned(sizeof(kept_extras)) + data + MBP_VECTORS_MAX * MBP_ALIGNMENT + text_size;
    kept_extras *kept = mbp_allocate(allocator, bytes);
    if (!kept)
        return NULL;
    memset(kept, 0, sizeof *kept);
    if (allocator)
        kept->allocator = *allocator;
    kept->own = allocator != NULL;
    kept->bytes = bytes;
    kept->extras.vector = kept->vector;
    j = s->values[TRAINER];
    json_string(&j, (char *)kept + bytes - text_size, text_size);
    kept->extras.text = (char *)kept + bytes - text_size;
    return kept;
}

void mbp_extras_free(mbp_extras *extras) {
    kept_extras *kept = (kept_extras *)extras;
    if (!kept)
        return;
    const mbp_allocator allocator = kept->allocator;
    mbp_release(kept->own ? &allocator : NULL, kept, kept->bytes);
}

/* The next vector into the list, or refused: its place in the data must begin where that of the one before it ends. */
static mbp_status read_vector(kept_extras *kept, const source *s, json *j, mbp_dtype dtype, int64_t begin, int64_t *end, mbp_error *error) {
    const int i = kept->extras.count;
    const int64_t item = (int64_t)mbp_dtype_size(dtype), data = (int64_t)(s->size - s->data_at);
    entry e;
    if (i == MBP_VECTORS_MAX || !read_entry(j, &e) || !mbp_vector_named(e.name) || e.dims != 1 ||
        strcmp(e.dtype, mbp_dtype_name(dtype)) != 0 || e.begin != begin || e.end < begin || e.end > data || (e.end - begin) % item ||
        e.shape[0] != (e.end - begin) / item)
        return mbp_fail(error, MBP_CORRUPT, DAMAGED("the entry after its tensors, number %d, is none of a vector"), i);
    for (int k = 0; k < i; k++)
        if (strcmp(kept->names[k], e.name) == 0)
            return mbp_fail(error, MBP_CORRUPT, DAMAGED("\"%s\" is there twice"), e.name);
    memcpy(kept->names[i], e.name, strlen(e.name) + 1);
    kept->vector[i] = (mbp_vector){kept->names[i], NULL, e.shape[0]};
    kept->extras.count++;
    *end = e.end;
    return MBP_OK;
}

/* The vectors that `rest` tells of, from `begin` on in the data. */
static mbp_status read_vectors(kept_extras *kept, const source *s, json rest, mbp_dtype dtype, int64_t begin, mbp_error *error) {
    char *to = (char *)kept + aligned(sizeof *kept);
    while (!json_take(&rest, '}')) {
        int64_t end = begin;
        mbp_status status = read_vector(kept, s, &rest, dtype, begin, &end, error);
        if (status != MBP_OK)
            return status;
        const size_t bytes = (size_t)(end - begin);
        kept->vector[kept->extras.count - 1].data = memcpy(to, s->bytes + s->data_at + begin, bytes);
        to += aligned(bytes);
        begin = end;
    }
    if (!json_done(&rest) || (size_t)begin != s->size - s->data_at)
        return mbp_fail(error, MBP_CORRUPT, DAMAGED("its header and its data end at different places"));
    return MBP_OK;
}

/* From the end of the net's tensors to the end of the file; *extras NULL if there are none. */
static mbp_status read_extras(mbp_extras **extras, const source *s, json rest, int64_t begin, const mbp_net *net, mbp_error *error) {
    if (!s->values[TRAINER].at) {
        if (json_take(&rest, '}') && json_done(&rest))
            return *extras = NULL, MBP_OK;
        return mbp_fail(error, MBP_CORRUPT, DAMAGED("its header goes on after the last tensor of the graph"));
    }
    kept_extras *kept = make_extras(s, s->size - s->data_at - (size_t)begin, mbp_net_allocator(net));
    if (!kept)
        return mbp_file_no_memory(error, s->size);
    mbp_status status = read_vectors(kept, s, rest, mbp_net_dtype(net), begin, error);
    const size_t length = strlen(kept->extras.text);
    if (status == MBP_OK && (!length || length >= MBP_NOTES_MAX || !mbp_is_utf8(kept->extras.text)))
        status = mbp_fail(error, MBP_CORRUPT, DAMAGED("its microbp.trainer is no text"));
    if (status == MBP_OK)
        *extras = &kept->extras;
    else
        mbp_extras_free(&kept->extras);
    return status;
}

/* ---- the whole ---- */

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
        return mbp_fail(error, MBP_CORRUPT, DAMAGED("its notes are no text"));
    }
    mbp_net_keep_notes(net, notes, size);
    return MBP_OK;
}

/* All of the file into a net that its graph made. */
static mbp_status fill_net(mbp_net *net, mbp_extras **extras, const source *s, mbp_error *error) {
    json rest = {0};
    int64_t end = 0;
    mbp_status status = read_tensors(net, s, &rest, &end, error);
    if (status == MBP_OK)
        status = read_notes(net, s, error);
    return status == MBP_OK ? read_extras(extras, s, rest, end, net, error) : status;
}

static mbp_status read_net(mbp_net **net, mbp_extras **extras, const source *s, const char *graph, const mbp_options *options,
                           mbp_error *error) {
    char text[TEXT_SIZE];
    mbp_options own = options ? *options : (mbp_options){0};
    mbp_net *made;
    mbp_status status = read_dtype(s, &own.dtype, error);
    if (status == MBP_OK && !parse_seed(value_text(s, SEED, text), &own.seed))
        status = mbp_fail(error, MBP_CORRUPT, DAMAGED("its seed is no number"));
    if (status == MBP_OK)
        status = check_graph(s, graph, own.dtype, own.allocator, error);
    if (status == MBP_OK)
        status = mbp_net_create(&made, graph, &own, error);
    if (status != MBP_OK)
        return status;
    status = fill_net(made, extras, s, error);
    if (status == MBP_OK)
        *net = made;
    else
        mbp_net_free(made);
    return status;
}

mbp_status mbp_net_read_with(mbp_net **net, mbp_extras **extras, const void *bytes, size_t size, const mbp_options *options,
                             mbp_error *error) {
    if (!MBP_LITTLE_ENDIAN)
        return mbp_file_wrong_host(error);
    if (!net || !extras || (!bytes && size))
        return mbp_fail(error, MBP_INVALID, "mbp_net_read_with needs a place for the net, one for the extras, and bytes");
    source s = {.bytes = bytes, .size = size};
    mbp_status status = find_header(&s, error);
    if (status == MBP_OK)
        status = check_metadata(&s, error);
    if (status != MBP_OK)
        return status;

    const mbp_allocator *allocator = options ? options->allocator : NULL;
    char *graph;
    size_t graph_size;
    status = copy_value(&s, GRAPH, allocator, &graph, &graph_size, error);
    if (status != MBP_OK)
        return status;
    status = read_net(net, extras, &s, graph, options, error);
    mbp_release(allocator, graph, graph_size);
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

mbp_status mbp_net_load_with(mbp_net **net, mbp_extras **extras, const char *path, const mbp_options *options, mbp_error *error) {
    if (!net || !extras || !path)
        return mbp_fail(error, MBP_INVALID, "mbp_net_load_with needs a place for the net, one for the extras, and a path");
    const mbp_allocator *allocator = options ? options->allocator : NULL;
    char *bytes;
    size_t size;
    mbp_status status = mbp_disk_read(path, allocator, &bytes, &size, error);
    if (status != MBP_OK)
        return status;
    mbp_error inner;
    status = mbp_net_read_with(net, extras, bytes, size, options, &inner);
    mbp_release(allocator, bytes, size);
    if (status == MBP_OK)
        return MBP_OK;
    size_t used = strlen(inner.text) + sizeof ": ";
    return mbp_fail(error, status, "%s: %s", mbp_disk_name(path, used < 200 ? sizeof inner.text - used : 56), inner.text);
}

mbp_status mbp_net_load(mbp_net **net, const char *path, const mbp_options *options, mbp_error *error) {
    mbp_extras *extras;
    mbp_status status = mbp_net_load_with(net, &extras, path, options, error);
    if (status == MBP_OK)
        mbp_extras_free(extras);
    return status;
}
