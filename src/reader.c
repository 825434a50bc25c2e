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

enum { FORMAT, VERSION, GRAPH, SEED, GENERATOR, CRC, NOTES, KEYS };
static const char *const keys[KEYS] = {"format",      "microbp.format", "microbp.graph", "microbp.seed",
                                       "microbp.rng", "microbp.crc32c", "microbp.notes"};
enum { TEXT_SIZE = 80 }; /* room for every string of ours but the graph and the notes: a layer's name has at most 63 characters */

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
        return mbp_fail(error, MBP_CORRUPT, FOREIGN("there is no microbp.graph at the start of its header"));
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
        return mbp_fail(error, MBP_CORRUPT, FOREIGN("its metadata has no microbp.graph"));
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
    int weight = strcmp(tensor->name, "weight") == 0;
    return strcmp(e->name, name) == 0 && strcmp(e->dtype, mbp_dtype_name(dtype)) == 0 && e->begin == begin && e->end == end &&
           e->dims == 1 + weight && e->shape[0] == tensor->out && (!weight || e->shape[1] == tensor->in);
}

/* Fills the net, which has as many parameters as the file has room for. */
static mbp_status read_tensors(mbp_net *net, const source *s, mbp_error *error) {
    int64_t count, begin = 0;
    char *params = mbp_net_params(net, &count);
    mbp_dtype dtype = mbp_net_dtype(net);
    size_t item = mbp_dtype_size(dtype);
    json j = s->tensors;
    mbp_tensor tensor;
    entry e;
    for (int i = 0; mbp_net_tensor(net, i, &tensor); i++) {
        int64_t end = begin + tensor.in * tensor.out * (int64_t)item;
        if (!read_entry(&j, &e) || !entry_fits(&e, &tensor, dtype, begin, end))
            return mbp_fail(error, MBP_CORRUPT, DAMAGED("the entry of %s.%s is not what the graph asks for"), tensor.layer, tensor.name);
        mbp_file_transpose(params + (size_t)tensor.offset * item, s->bytes + s->data_at + begin, (size_t)tensor.out, (size_t)tensor.in,
                           item);
        begin = end;
    }
    if (!json_take(&j, '}') || !json_done(&j))
        return mbp_fail(error, MBP_CORRUPT, DAMAGED("its header goes on after the last tensor of the graph"));
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

/* Whether the graph is valid and asks for exactly the parameters that are there: only then is memory asked for them. */
static mbp_status check_graph(const source *s, const char *graph, mbp_dtype dtype, mbp_error *error) {
    for (const char *c = graph; *c; c++)
        if ((*c < ' ' && *c != '\n') || *c > '~')
            return mbp_fail(error, MBP_CORRUPT, DAMAGED("its graph has a character that is not ASCII"));
    int64_t params;
    mbp_error inner;
    mbp_status status = mbp_graph_count(graph, &params, &inner);
    if (status != MBP_OK)
        return mbp_fail(error, status == MBP_INVALID ? MBP_CORRUPT : status, "the file's graph is refused: %.200s", inner.text);
    size_t item = mbp_dtype_size(dtype), data = s->size - s->data_at;
    if (data % item || (uint64_t)params != data / item)
        return mbp_fail(error, MBP_CORRUPT, DAMAGED("its graph has %lld parameters of %zu bytes, and it holds %zu bytes of them"),
                        (long long)params, item, data);
    return MBP_OK;
}

static mbp_status read_notes(mbp_net *net, const source *s, mbp_error *error) {
    const mbp_allocator *allocator = mbp_net_allocator(net);
    char *notes;
    size_t size;
    if (!s->values[NOTES].at)
        return MBP_OK;
    mbp_status status = copy_value(s, NOTES, allocator, &notes, &size, error);
    if (status != MBP_OK)
        return status;
    status = mbp_net_set_notes(net, notes, error);
    mbp_release(allocator, notes, size);
    if (status == MBP_INVALID || (status == MBP_OK && !mbp_net_notes(net)))
        return mbp_fail(error, MBP_CORRUPT, DAMAGED("its notes are no text"));
    return status;
}

static mbp_status read_net(mbp_net **net, const source *s, const char *graph, const mbp_options *options, mbp_error *error) {
    char text[TEXT_SIZE];
    mbp_options own = options ? *options : (mbp_options){0};
    mbp_net *made;
    mbp_status status = read_dtype(s, &own.dtype, error);
    if (status == MBP_OK && !parse_seed(value_text(s, SEED, text), &own.seed))
        status = mbp_fail(error, MBP_CORRUPT, DAMAGED("its seed is no number"));
    if (status == MBP_OK)
        status = check_graph(s, graph, own.dtype, error);
    if (status == MBP_OK)
        status = mbp_net_create(&made, graph, &own, error);
    if (status != MBP_OK)
        return status;
    status = read_tensors(made, s, error);
    if (status == MBP_OK)
        status = read_notes(made, s, error);
    if (status == MBP_OK)
        *net = made;
    else
        mbp_net_free(made);
    return status;
}

mbp_status mbp_net_read(mbp_net **net, const void *bytes, size_t size, const mbp_options *options, mbp_error *error) {
    if (!MBP_LITTLE_ENDIAN)
        return mbp_file_wrong_host(error);
    if (!net || (!bytes && size))
        return mbp_fail(error, MBP_INVALID, "mbp_net_read needs a place for the net, and bytes");
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
    status = read_net(net, &s, graph, options, error);
    mbp_release(allocator, graph, graph_size);
    return status;
}

/* ---- on disk ---- */

mbp_status mbp_net_load(mbp_net **net, const char *path, const mbp_options *options, mbp_error *error) {
    if (!net || !path)
        return mbp_fail(error, MBP_INVALID, "mbp_net_load needs a place for the net, and a path");
    const mbp_allocator *allocator = options ? options->allocator : NULL;
    char *bytes;
    size_t size;
    mbp_status status = mbp_disk_read(path, allocator, &bytes, &size, error);
    if (status != MBP_OK)
        return status;
    mbp_error inner;
    status = mbp_net_read(net, bytes, size, options, &inner);
    mbp_release(allocator, bytes, size);
    if (status == MBP_OK)
        return MBP_OK;
    size_t used = strlen(inner.text) + sizeof ": ";
    return mbp_fail(error, status, "%s: %s", mbp_disk_name(path, used < 200 ? sizeof inner.text - used : 56), inner.text);
}
