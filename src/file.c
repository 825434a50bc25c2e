/* Floor 5: networks as files. A file is a safetensors file that also carries the graph:
 *
 *     8 bytes        N, the header's length, little-endian
 *     N bytes        JSON, padded with spaces until 8 + N is a multiple of 64:
 *                    {"__metadata__":{"format":"microbp","microbp.format":"1","microbp.graph":"input 4\ndense 0 ...","microbp.seed":"0",
 *                     "microbp.rng":"philox4x32-10/1","microbp.crc32c":"1a2b3c4d"},
 *                     "dense_0.weight":{"dtype":"F32","shape":[out,in],"data_offsets":[begin,end]},"dense_0.bias":...}
 *     the rest       the tensors, in layer order and without gaps; a matrix is (out, in) row-major, the transpose of what memory holds
 *
 * The checksum is of the whole file with its own eight digits taken as zeros. The same net always gives the same bytes.
 *
 * Reading trusts nothing: every length is checked against the bytes that are there, before memory is asked for, and the net is built by
 * mbp_net_create from the graph text, so that no file can make a net that a caller could not. */
#include "crc32c.h"
#include "disk.h"
#include "json.h"
#include "net.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

#define DAMAGED(what) "the file is damaged: " what "; restore it from a copy"
#define FOREIGN(why) "this is not a microbp file: " why
#define RNG "philox4x32-10/1"

enum { LITTLE_ENDIAN_HOST = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, ALIGNMENT = 64, LENGTH_BYTES = 8, CRC_DIGITS = 8 };

static mbp_status wrong_host(mbp_error *error) {
    return mbp_fail(error, MBP_UNSUPPORTED, "microbp's files are little-endian, and this build is for a big-endian processor");
}

static mbp_status no_memory(mbp_error *error, size_t bytes) {
    return mbp_fail(error, MBP_NO_MEMORY, "no memory for %zu bytes of a network file", bytes);
}

static size_t item_size(mbp_dtype dtype) { return dtype == MBP_F64 ? sizeof(double) : sizeof(float); }
static const char *dtype_name(mbp_dtype dtype) { return dtype == MBP_F64 ? "F64" : "F32"; }

/* ---- the checksum ---- */

/* Of a whole file whose own digits begin at `digits`. */
static uint32_t checksum(const char *bytes, size_t size, size_t digits) {
    crc32c crc;
    crc_prepare(&crc);
    uint32_t value = crc_add(&crc, 0xffffffffu, bytes, digits);
    value = crc_add(&crc, value, "00000000", CRC_DIGITS);
    value = crc_add(&crc, value, bytes + digits + CRC_DIGITS, size - digits - CRC_DIGITS);
    return ~value;
}

/* ---- between memory (in, out) and file (out, in): squares of 32 x 32 stay in the first cache ---- */

static inline void transpose_items(char *to, const char *from, size_t rows, size_t cols, size_t item) {
    enum { BLOCK = 32 };
    for (size_t i0 = 0; i0 < rows; i0 += BLOCK)
        for (size_t j0 = 0; j0 < cols; j0 += BLOCK)
            for (size_t j = j0; j < cols && j < j0 + BLOCK; j++)
                for (size_t i = i0; i < rows && i < i0 + BLOCK; i++)
                    memcpy(to + (j * rows + i) * item, from + (i * cols + j) * item, item);
}

/* `from` is (rows, cols); neither side need be aligned. */
static void transpose(char *to, const char *from, size_t rows, size_t cols, size_t item) {
    if (item == sizeof(float))
        transpose_items(to, from, rows, cols, sizeof(float));
    else
        transpose_items(to, from, rows, cols, sizeof(double));
}

/* ---- writing ---- */

/* bytes NULL: only counts. */
typedef struct output {
    char *bytes;
    size_t length;
} output;

static void put_bytes(output *o, const char *bytes, size_t size) {
    if (o->bytes)
        memcpy(o->bytes + o->length, bytes, size);
    o->length += size;
}

static void put(output *o, const char *text) { put_bytes(o, text, strlen(text)); }

static void put_integer(output *o, uint64_t value) {
    char digits[24];
    put_bytes(o, digits, (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)value));
}

/* A canonical graph text has one character that JSON escapes: the end of a line. */
static void put_graph(output *o, const char *text) {
    for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
        put_bytes(o, text, (size_t)(end - text));
        put(o, "\\n");
    }
    put(o, text);
}

static void put_tensor(output *o, const mbp_tensor *tensor, mbp_dtype dtype, uint64_t begin, uint64_t end) {
    put(o, ",\"");
    put(o, tensor->layer);
    put(o, ".");
    put(o, tensor->name);
    put(o, "\":{\"dtype\":\"");
    put(o, dtype_name(dtype));
    put(o, "\",\"shape\":[");
    put_integer(o, (uint64_t)tensor->out);
    if (tensor->dims == 2) {
        put(o, ",");
        put_integer(o, (uint64_t)tensor->in);
    }
    put(o, "],\"data_offsets\":[");
    put_integer(o, begin);
    put(o, ",");
    put_integer(o, end);
    put(o, "]}");
}

/* The JSON without its padding; returns where the checksum's digits begin. */
static size_t put_header(output *o, const mbp_net *net, const char *graph) {
    put(o, "{\"__metadata__\":{\"format\":\"microbp\",\"microbp.format\":\"1\",\"microbp.graph\":\"");
    put_graph(o, graph);
    put(o, "\",\"microbp.seed\":\"");
    put_integer(o, mbp_net_seed(net));
    put(o, "\",\"microbp.rng\":\"" RNG "\",\"microbp.crc32c\":\"");
    size_t digits = o->length;
    put(o, "00000000\"}");
    mbp_dtype dtype = mbp_net_dtype(net);
    mbp_tensor tensor;
    uint64_t begin = 0;
    for (int i = 0; mbp_net_tensor(net, i, &tensor); i++) {
        uint64_t end = begin + (uint64_t)tensor.in * (uint64_t)tensor.out * item_size(dtype);
        put_tensor(o, &tensor, dtype, begin, end);
        begin = end;
    }
    put(o, "}");
    return digits;
}

/* A net's file before it is written. */
typedef struct draft {
    const mbp_net *net;
    char *graph;
    size_t graph_size, data_at, size;
} draft;

/* Where a tensor stands in memory. */
static char *tensor_at(const mbp_net *net, const mbp_tensor *tensor) {
    return net->block + (size_t)(tensor->offset + (tensor->buffer ? net->params : 0)) * net->item;
}

static mbp_status draft_begin(draft *d, const mbp_net *net, mbp_error *error) {
    const int64_t count = net->params + net->buffers;
    mbp_dtype dtype = mbp_net_dtype(net);
    if (count == 0 && dtype != MBP_F32)
        return mbp_fail(error, MBP_UNSUPPORTED,
                        "a float64 network without parameters cannot be written: a file keeps the dtype with the tensors");
    *d = (draft){.net = net, .graph_size = mbp_net_text(net, NULL, 0)};
    d->graph = mbp_allocate(mbp_net_allocator(net), d->graph_size);
    if (!d->graph)
        return no_memory(error, d->graph_size);
    mbp_net_text(net, d->graph, d->graph_size);
    output counted = {0};
    put_header(&counted, net, d->graph);
    d->data_at = (LENGTH_BYTES + counted.length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    d->size = d->data_at + (size_t)count * item_size(dtype);
    return MBP_OK;
}

static void draft_write(const draft *d, char *bytes) {
    uint64_t header = d->data_at - LENGTH_BYTES;
    memcpy(bytes, &header, LENGTH_BYTES);
    memset(bytes + LENGTH_BYTES, ' ', header);
    output text = {bytes + LENGTH_BYTES, 0};
    size_t digits = LENGTH_BYTES + put_header(&text, d->net, d->graph);

    size_t item = item_size(mbp_net_dtype(d->net));
    char *data = bytes + d->data_at;
    mbp_tensor tensor;
    for (int i = 0; mbp_net_tensor(d->net, i, &tensor); i++) {
        size_t in = (size_t)tensor.in, out = (size_t)tensor.out;
        transpose(data, tensor_at(d->net, &tensor), in, out, item);
        data += in * out * item;
    }
    char crc[CRC_DIGITS + 1];
    snprintf(crc, sizeof crc, "%08x", (unsigned)checksum(bytes, d->size, digits));
    memcpy(bytes + digits, crc, CRC_DIGITS);
}

static void draft_end(draft *d) { mbp_release(mbp_net_allocator(d->net), d->graph, d->graph_size); }

mbp_status mbp_net_write(const mbp_net *net, void *bytes, size_t *size, mbp_error *error) {
    if (!LITTLE_ENDIAN_HOST)
        return wrong_host(error);
    if (!net || !size)
        return mbp_fail(error, MBP_INVALID, "mbp_net_write needs a net and a size");
    draft d;
    mbp_status status = draft_begin(&d, net, error);
    if (status != MBP_OK)
        return status;
    size_t room = bytes ? *size : 0;
    *size = d.size;
    if (room >= d.size)
        draft_write(&d, bytes);
    else
        status = mbp_fail(error, MBP_INVALID, "the net needs %zu bytes, and there is room for %zu", d.size, room);
    draft_end(&d);
    return status;
}

/* ---- reading ---- */

enum { FORMAT, VERSION, GRAPH, SEED, GENERATOR, CRC, KEYS };
static const char *const keys[KEYS] = {"format", "microbp.format", "microbp.graph", "microbp.seed", "microbp.rng", "microbp.crc32c"};
enum { TEXT_SIZE = 80 }; /* room for every string of ours but the graph: a layer's name has at most 63 characters */

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
    if (s->size >= LENGTH_BYTES)
        memcpy(&length, s->bytes, LENGTH_BYTES);
    if (length < 2 || length > s->size - LENGTH_BYTES)
        return mbp_fail(error, MBP_CORRUPT, FOREIGN("or it was cut short: its %zu bytes do not hold the header they announce"),
                        s->size);
    s->data_at = LENGTH_BYTES + (size_t)length;
    json j = {s->bytes + LENGTH_BYTES, s->bytes + s->data_at};
    if (*j.at != '{')
        return mbp_fail(error, MBP_CORRUPT, FOREIGN("it does not begin as a safetensors file does"));
    json_take(&j, '{');
    if (!json_key(&j, "__metadata__") || !json_take(&j, '{'))
        return mbp_fail(error, MBP_CORRUPT, FOREIGN("there is no microbp.graph at the start of its header"));
    mbp_status status = find_values(s, &j, error);
    s->tensors = j;
    return status;
}

/* A metadata value as text; "" when it is longer than any of ours. */
static const char *value_text(const source *s, int k, char text[TEXT_SIZE]) {
    json j = s->values[k];
    json_string(&j, text, TEXT_SIZE);
    return text;
}

static int checksum_holds(const source *s) {
    const char *digits = s->values[CRC].at + 1; /* the string is known to be complete, so 8 digits lie inside the file */
    char text[TEXT_SIZE], expected[CRC_DIGITS + 1];
    if (strlen(value_text(s, CRC, text)) != CRC_DIGITS || memcmp(text, digits, CRC_DIGITS) != 0)
        return 0;
    snprintf(expected, sizeof expected, "%08x", (unsigned)checksum(s->bytes, s->size, (size_t)(digits - s->bytes)));
    return memcmp(digits, expected, CRC_DIGITS) == 0;
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
    if (strcmp(value_text(s, GENERATOR, text), RNG) != 0)
        return mbp_fail(error, MBP_UNSUPPORTED, "the file's random numbers are not " RNG ", which this microbp has; use a newer microbp");
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
    return json_take(j, ',') && json_string(j, e->name, TEXT_SIZE) >= 0 && json_take(j, ':') && json_take(j, '{') &&
           json_key(j, "dtype") && json_string(j, e->dtype, TEXT_SIZE) >= 0 && json_take(j, ',') &&
           json_key(j, "shape") && read_shape(j, e) && json_take(j, ',') &&
           json_key(j, "data_offsets") && json_take(j, '[') && json_integer(j, &e->begin) && json_take(j, ',') &&
           json_integer(j, &e->end) && json_take(j, ']') && json_take(j, '}');
}

static int entry_fits(const entry *e, const mbp_tensor *tensor, mbp_dtype dtype, int64_t begin, int64_t end) {
    char name[TEXT_SIZE];
    snprintf(name, sizeof name, "%s.%s", tensor->layer, tensor->name);
    return strcmp(e->name, name) == 0 && strcmp(e->dtype, dtype_name(dtype)) == 0 && e->begin == begin && e->end == end &&
           e->dims == tensor->dims && e->shape[0] == tensor->out && (tensor->dims == 1 || e->shape[1] == tensor->in);
}

/* Fills the net, which has as many numbers as the file has room for. */
static mbp_status read_tensors(mbp_net *net, const source *s, mbp_error *error) {
    int64_t begin = 0;
    mbp_dtype dtype = mbp_net_dtype(net);
    size_t item = item_size(dtype);
    json j = s->tensors;
    mbp_tensor tensor;
    entry e;
    for (int i = 0; mbp_net_tensor(net, i, &tensor); i++) {
        int64_t end = begin + tensor.in * tensor.out * (int64_t)item;
        if (!read_entry(&j, &e) || !entry_fits(&e, &tensor, dtype, begin, end))
            return mbp_fail(error, MBP_CORRUPT, DAMAGED("the entry of %s.%s is not what the graph asks for"), tensor.layer, tensor.name);
        transpose(tensor_at(net, &tensor), s->bytes + s->data_at + begin, (size_t)tensor.out, (size_t)tensor.in, item);
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
        if ((unsigned char)*c >= JSON_OTHER)
            return mbp_fail(error, MBP_CORRUPT, DAMAGED("its graph has a character that is not ASCII"));
    int64_t numbers;
    mbp_error inner;
    mbp_status status = mbp_graph_count(graph, &numbers, &inner);
    if (status != MBP_OK)
        return mbp_fail(error, status == MBP_INVALID ? MBP_CORRUPT : status, "the file's graph is refused: %.200s", inner.text);
    size_t item = item_size(dtype), data = s->size - s->data_at;
    if (data % item || (uint64_t)numbers != data / item)
        return mbp_fail(error, MBP_CORRUPT, DAMAGED("its graph has %lld parameters of %zu bytes, and it holds %zu bytes of them"),
                        (long long)numbers, item, data);
    return MBP_OK;
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
        *net = made;
    else
        mbp_net_free(made);
    return status;
}

mbp_status mbp_net_read(mbp_net **net, const void *bytes, size_t size, const mbp_options *options, mbp_error *error) {
    if (!LITTLE_ENDIAN_HOST)
        return wrong_host(error);
    if (!net || (!bytes && size))
        return mbp_fail(error, MBP_INVALID, "mbp_net_read needs a place for the net, and bytes");
    source s = {.bytes = bytes, .size = size};
    mbp_status status = find_header(&s, error);
    if (status == MBP_OK)
        status = check_metadata(&s, error);
    if (status != MBP_OK)
        return status;

    const mbp_allocator *allocator = options ? options->allocator : NULL;
    json j = s.values[GRAPH];
    size_t graph_size = (size_t)json_string(&j, NULL, 0) + 1;
    char *graph = mbp_allocate(allocator, graph_size);
    if (!graph)
        return no_memory(error, graph_size);
    j = s.values[GRAPH];
    json_string(&j, graph, graph_size);
    status = read_net(net, &s, graph, options, error);
    mbp_release(allocator, graph, graph_size);
    return status;
}

/* ---- on disk ---- */

mbp_status mbp_net_save(const mbp_net *net, const char *path, mbp_error *error) {
    if (!LITTLE_ENDIAN_HOST)
        return wrong_host(error);
    if (!net || !path)
        return mbp_fail(error, MBP_INVALID, "mbp_net_save needs a net and a path");
    draft d;
    mbp_status status = draft_begin(&d, net, error);
    if (status != MBP_OK)
        return status;
    char *bytes = mbp_allocate(mbp_net_allocator(net), d.size);
    if (bytes)
        draft_write(&d, bytes);
    draft_end(&d);
    if (!bytes)
        return no_memory(error, d.size);
    status = mbp_disk_write(path, bytes, d.size, error);
    mbp_release(mbp_net_allocator(net), bytes, d.size);
    return status;
}

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
