/* Floor 6: writes the file of a network (file.h). It also has helpers for reading. */
#include "file/file.h"

#include "file/crc32c.h"
#include "file/json.h"
#include "system/memory.h"
#include "system/text.h"

#include <stdio.h>
#include <string.h>

mbp_status mbp_file_wrong_host(mbp_error *error) {
    return mbp_fail(error, MBP_UNSUPPORTED,
                    "the files of microbp are little-endian, but this build is for a big-endian processor");
}

mbp_status mbp_file_no_memory(mbp_error *error, size_t bytes) {
    return mbp_fail(error, MBP_NO_MEMORY, "no memory for %zu bytes of a network file", bytes);
}

size_t mbp_dtype_size(mbp_dtype dtype) { return dtype == MBP_F64 ? sizeof(double) : sizeof(float); }
const char *mbp_dtype_name(mbp_dtype dtype) { return dtype == MBP_F64 ? "F64" : "F32"; }

int mbp_vector_named(const char *name) {
    int dots = 0;
    const char *c = name;
    for (; *c; c++) {
        const int dot = *c == '.', lower = *c | 32;
        if (dot ? c == name || c[-1] == '.' || !c[1]
                : !((lower >= 'a' && lower <= 'z') || (*c >= '0' && *c <= '9') || *c == '_' || *c == '-'))
            return 0;
        dots += dot;
    }
    return dots >= 2 && c - name < MBP_NAME_SIZE;
}

/* ---- the checksum ---- */

uint32_t mbp_file_checksum(const char *bytes, size_t size, size_t digits) {
    crc32c crc;
    crc_prepare(&crc, CRC_32C);
    uint32_t value = crc_add(&crc, 0xffffffffu, bytes, digits);
    value = crc_add(&crc, value, "00000000", MBP_CRC_DIGITS);
    value = crc_add(&crc, value, bytes + digits + MBP_CRC_DIGITS, size - digits - MBP_CRC_DIGITS);
    return ~value;
}

/* ---- transposing ---- */

/* Transposes in squares of 32 x 32 elements, which stay in the L1 cache. */
static inline void transpose_items(char *to, const char *from, size_t rows, size_t cols, size_t item) {
    enum { BLOCK = 32 };
    for (size_t i0 = 0; i0 < rows; i0 += BLOCK)
        for (size_t j0 = 0; j0 < cols; j0 += BLOCK)
            for (size_t j = j0; j < cols && j < j0 + BLOCK; j++)
                for (size_t i = i0; i < rows && i < i0 + BLOCK; i++)
                    memcpy(to + (j * rows + i) * item, from + (i * cols + j) * item, item);
}

void mbp_file_transpose(char *to, const char *from, size_t rows, size_t cols, size_t item) {
    if (item == sizeof(float))
        transpose_items(to, from, rows, cols, sizeof(float));
    else
        transpose_items(to, from, rows, cols, sizeof(double));
}

/* How many parameters and buffers the net has. A part has fewer than there are in its block. */
static int64_t count_numbers(const mbp_net *net) {
    int64_t count = 0;
    mbp_tensor tensor;
    for (int i = 0; mbp_net_tensor(net, i, &tensor); i++)
        count += tensor.in * tensor.out;
    return count;
}

size_t mbp_file_least(const char *graph) {
    const size_t cost = mbp_graph_cost(graph);
    return cost > MBP_FREE_COST ? (cost - MBP_FREE_COST) / 2 : 0;
}

/* ---- writing ---- */

int mbp_file_begun(const char *bytes, size_t count) {
    /* The header's length, which is 8 less than a multiple of 64 and below 2^32, and its first characters. */
    static const char first[] = "????\0\0\0\0{\"__metadata__\":{\"format\":\"microbp\"";
    const int length = count ? (unsigned char)*bytes : 0;
    if (length && length % 64 != 64 - MBP_LENGTH_BYTES)
        return 0;
    for (size_t i = MBP_LENGTH_BYTES / 2; i < count && i < sizeof first - 1; i++)
        if (bytes[i] && bytes[i] != first[i])
            return 0;
    return 1;
}

/* bytes NULL: nothing is written, only `length` is counted. */
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

/* Writes ,"key":"text" with the escapes of JSON in the text. */
static void put_text(output *o, const char *key, const char *text) {
    put(o, ",\"");
    put(o, key);
    put(o, "\":\"");
    for (; *text; text++) {
        char escape = json_escape_of(*text), escaped[7];
        if (!escape)
            put_bytes(o, text, 1);
        else
            put_bytes(o, escaped,
                      (size_t)snprintf(escaped, sizeof escaped, escape == 'u' ? "\\u%04x" : "\\%c",
                                       escape == 'u' ? *text : escape));
    }
    put(o, "\"");
}

/* An entry from the end of its name to its first dimension. put_offsets writes the rest after the last dimension. */
static void put_shape(output *o, mbp_dtype dtype, int64_t first) {
    put(o, "\":{\"dtype\":\"");
    put(o, mbp_dtype_name(dtype));
    put(o, "\",\"shape\":[");
    put_integer(o, (uint64_t)first);
}

static void put_offsets(output *o, uint64_t begin, uint64_t end) {
    put(o, "],\"data_offsets\":[");
    put_integer(o, begin);
    put(o, ",");
    put_integer(o, end);
    put(o, "]}");
}

static void put_tensor(output *o, const mbp_net *net, const mbp_tensor *tensor, mbp_dtype dtype, uint64_t begin,
                       uint64_t end) {
    put(o, ",\"");
    put(o, tensor->layer);
    put(o, ".");
    put(o, tensor->name);
    const int keeps = mbp_file_keeps(net, tensor);
    put_shape(o, dtype, keeps ? tensor->in : tensor->out);
    if (tensor->dims == 2) {
        put(o, ",");
        put_integer(o, (uint64_t)(keeps ? tensor->out : tensor->in));
    }
    put_offsets(o, begin, end);
}

static void put_vector(output *o, const mbp_vector *vector, mbp_dtype dtype, uint64_t begin, uint64_t end) {
    put(o, ",\"");
    put(o, vector->name);
    put_shape(o, dtype, vector->count);
    put_offsets(o, begin, end);
}

/* Writes the JSON without its padding; returns the position of the checksum's digits. */
static size_t put_header(output *o, const mbp_net *net, const mbp_extras *extras, const char *graph) {
    put(o, "{\"__metadata__\":{\"format\":\"microbp\",\"microbp.format\":\"1\"");
    put_text(o, "microbp.graph", graph);
    put(o, ",\"microbp.seed\":\"");
    put_integer(o, mbp_net_seed(net));
    put(o, "\",\"microbp.rng\":\"" MBP_RNG "\",\"microbp.crc32c\":\"");
    size_t digits = o->length;
    put(o, "00000000\"");
    if (mbp_net_notes(net))
        put_text(o, "microbp.notes", mbp_net_notes(net));
    if (extras)
        put_text(o, "microbp.trainer", extras->text);
    const mbp_dtype dtype = mbp_net_dtype(net);
    mbp_tensor tensor;
    if (dtype != MBP_F32 && !mbp_net_tensor(net, 0, &tensor) && !(extras && extras->count))
        put_text(o, "microbp.dtype", mbp_dtype_name(dtype));
    put(o, "}");
    uint64_t begin = 0;
    for (int i = 0; mbp_net_tensor(net, i, &tensor); i++) {
        uint64_t end = begin + (uint64_t)tensor.in * (uint64_t)tensor.out * mbp_dtype_size(dtype);
        put_tensor(o, net, &tensor, dtype, begin, end);
        begin = end;
    }
    for (int i = 0; extras && i < extras->count; i++) {
        uint64_t end = begin + (uint64_t)extras->vector[i].count * mbp_dtype_size(dtype);
        put_vector(o, &extras->vector[i], dtype, begin, end);
        begin = end;
    }
    put(o, "}");
    return digits;
}

/* A file that is about to be written: its graph text and its sizes. */
typedef struct draft {
    const mbp_net *net;
    const mbp_extras *extras;
    char *graph;
    size_t graph_size, data_at, size;
} draft;

static mbp_status check_vector(const mbp_extras *extras, int i, mbp_error *error) {
    const mbp_vector *vector = &extras->vector[i];
    if (!vector->name || !mbp_vector_named(vector->name))
        return mbp_fail(error, MBP_INVALID,
                        "extras.vector[%d].name must have at least three parts, like "
                        "\"trainer.slots.m\", and at most %d characters",
                        i, MBP_NAME_SIZE - 1);
    for (int k = 0; k < i; k++)
        if (strcmp(vector->name, extras->vector[k].name) == 0)
            return mbp_fail(error, MBP_INVALID, "two vectors are named \"%s\"", vector->name);
    if (vector->count < 0 || vector->count > INT64_MAX / 1024)
        return mbp_fail(error, MBP_INVALID, "vector %s: count is %lld, but must be from 0 to 2^53 - 1", vector->name,
                        (long long)vector->count);
    if (vector->count && !vector->data)
        return mbp_fail(error, MBP_INVALID, "vector %s: data is NULL, but must point to %lld number%s", vector->name,
                        (long long)vector->count, mbp_plural(vector->count));
    return MBP_OK;
}

static mbp_status check_extras(const mbp_extras *extras, mbp_error *error) {
    if (!extras)
        return MBP_OK;
    if (!extras->text || !*extras->text || !mbp_is_utf8(extras->text) || strlen(extras->text) >= MBP_NOTES_MAX)
        return mbp_fail(error, MBP_INVALID, "extras.text must be valid UTF-8 of 1 to %d bytes", MBP_NOTES_MAX - 1);
    if (extras->count < 0 || extras->count > MBP_VECTORS_MAX)
        return mbp_fail(error, MBP_INVALID, "extras.count is %d, but must be from 0 to %d", extras->count,
                        MBP_VECTORS_MAX);
    if (extras->count && !extras->vector)
        return mbp_fail_null(error, "extras.vector", "an array of extras.count vectors");
    mbp_status status = MBP_OK;
    for (int i = 0; status == MBP_OK && i < extras->count; i++)
        status = check_vector(extras, i, error);
    return status;
}

/* From here to draft_end the net is entered, also if this fails: the file is of one state. */
static mbp_status draft_begin(draft *d, const mbp_net *net, const mbp_extras *extras, mbp_error *error) {
    int64_t count = count_numbers(net);
    mbp_dtype dtype = mbp_net_dtype(net);
    *d = (draft){.net = net, .extras = extras};
    mbp_status status = mbp_net_settle(net, error);
    mbp_net_enter(net);
    if (status == MBP_OK)
        status = check_extras(extras, error);
    if (status != MBP_OK)
        return status;
    d->graph_size = mbp_graph_write(net, NULL, 0);
    d->graph = mbp_allocate(mbp_net_allocator(net), d->graph_size);
    if (!d->graph)
        return mbp_file_no_memory(error, d->graph_size);
    mbp_graph_write(net, d->graph, d->graph_size);
    output counted = {0};
    put_header(&counted, net, extras, d->graph);
    for (int i = 0; extras && i < extras->count; i++)
        count += extras->vector[i].count;
    const size_t data = (size_t)count * mbp_dtype_size(dtype), least = mbp_file_least(d->graph);
    d->data_at = MBP_LENGTH_BYTES + counted.length;
    d->data_at = least > d->data_at + data ? least - data : d->data_at;
    d->data_at = mbp_aligned(d->data_at);
    d->size = d->data_at + data;
    return MBP_OK;
}

static void draft_write(const draft *d, char *bytes) {
    uint64_t header = d->data_at - MBP_LENGTH_BYTES;
    memcpy(bytes, &header, MBP_LENGTH_BYTES);
    memset(bytes + MBP_LENGTH_BYTES, ' ', header);
    output text = {bytes + MBP_LENGTH_BYTES, 0};
    size_t digits = MBP_LENGTH_BYTES + put_header(&text, d->net, d->extras, d->graph);

    size_t item = mbp_dtype_size(mbp_net_dtype(d->net));
    char *data = bytes + d->data_at;
    mbp_tensor tensor;
    for (int i = 0; mbp_net_tensor(d->net, i, &tensor); i++) {
        size_t in = (size_t)tensor.in, out = (size_t)tensor.out;
        const int keeps = mbp_file_keeps(d->net, &tensor);
        mbp_file_transpose(data, mbp_net_at(d->net, &tensor), keeps ? 1 : in, keeps ? in * out : out, item);
        data += in * out * item;
    }
    output rest = {data, 0};
    for (int i = 0; d->extras && i < d->extras->count; i++)
        if (d->extras->vector[i].count)
            put_bytes(&rest, d->extras->vector[i].data, (size_t)d->extras->vector[i].count * item);
    char crc[MBP_CRC_DIGITS + 1];
    snprintf(crc, sizeof crc, "%08x", (unsigned)mbp_file_checksum(bytes, d->size, digits));
    memcpy(bytes + digits, crc, MBP_CRC_DIGITS);
}

static void draft_end(draft *d) {
    mbp_net_leave(d->net);
    mbp_release(mbp_net_allocator(d->net), d->graph, d->graph_size);
}

mbp_status mbp_net_write_with(const mbp_net *net, const mbp_extras *extras, void *bytes, size_t *size,
                              mbp_error *error) {
    if (!MBP_LITTLE_ENDIAN)
        return mbp_file_wrong_host(error);
    if (!net || !size)
        return mbp_fail_null(error, net ? "size" : "net",
                             net ? "a size_t, the size of the buffer in bytes" : MBP_A_NET);
    draft d;
    mbp_status status = draft_begin(&d, net, extras, error);
    size_t room = bytes ? *size : 0;
    if (status == MBP_OK)
        *size = d.size;
    if (status == MBP_OK && room >= d.size)
        draft_write(&d, bytes);
    else if (status == MBP_OK)
        status = mbp_fail(error, MBP_INVALID, "the file needs %zu bytes, but the buffer has %zu", d.size, room);
    draft_end(&d);
    return status;
}

mbp_status mbp_net_write(const mbp_net *net, void *bytes, size_t *size, mbp_error *error) {
    return mbp_net_write_with(net, NULL, bytes, size, error);
}

/* ---- on disk ---- */

mbp_status mbp_net_save_with(const mbp_net *net, const mbp_extras *extras, const char *path, mbp_error *error) {
    if (!MBP_LITTLE_ENDIAN)
        return mbp_file_wrong_host(error);
    if (!net || !path)
        return mbp_fail_null(error, net ? "path" : "net", net ? "the path of a file" : MBP_A_NET);
    draft d;
    mbp_status status = draft_begin(&d, net, extras, error);
    char *bytes = status == MBP_OK ? mbp_allocate(mbp_net_allocator(net), d.size) : NULL;
    if (bytes)
        draft_write(&d, bytes);
    draft_end(&d);
    if (!bytes)
        return status == MBP_OK ? mbp_file_no_memory(error, d.size) : status;
    status = mbp_disk_write(path, bytes, d.size, mbp_file_begun, error);
    mbp_release(mbp_net_allocator(net), bytes, d.size);
    return status;
}

mbp_status mbp_net_save(const mbp_net *net, const char *path, mbp_error *error) {
    return mbp_net_save_with(net, NULL, path, error);
}
