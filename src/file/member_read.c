/* Floor 6: reads one network of a file of several (microbp/network/nets_file.py describes the format). The metadata has
 * the header of each network's own file, and the data of these files follow one another; so this file puts the own file
 * of a network together, and mbp_net_read reads it and checks its checksum. */
#include "file/file.h"

#include "system/memory.h"

#include <stdio.h>
#include <string.h>

/* A file in memory. */
typedef struct source {
    const char *bytes;
    size_t size, data_at;
    json metadata; /* after its opening brace */
} source;

static const char start[] = "{\"__metadata__\"";

static mbp_status foreign(mbp_error *error) { return mbp_fail(error, MBP_CORRUPT, "not a microbp file, or cut short"); }

/* Refuses most other files before they are read whole (mbp_disk_check). */
static mbp_status check_start(const char *bytes, size_t count, size_t size, mbp_error *error) {
    const size_t length = sizeof start - 1;
    (void)size;
    return count > MBP_LENGTH_BYTES + length && memcmp(bytes + MBP_LENGTH_BYTES, start, length) == 0 ? MBP_OK
                                                                                                     : foreign(error);
}

/* Moves the cursor into "__metadata__", behind its opening brace. */
static int enter_metadata(json *j) { return json_take(j, '{') && json_key(j, "__metadata__") && json_take(j, '{'); }

static mbp_status find_header(source *s, mbp_error *error) {
    uint64_t length = 0;
    if (check_start(s->bytes, s->size, s->size, error) != MBP_OK)
        return MBP_CORRUPT;
    memcpy(&length, s->bytes, MBP_LENGTH_BYTES);
    if (length > s->size - MBP_LENGTH_BYTES)
        return foreign(error);
    s->data_at = MBP_LENGTH_BYTES + (size_t)length;
    s->metadata = (json){s->bytes + MBP_LENGTH_BYTES, s->bytes + s->data_at};
    return enter_metadata(&s->metadata) ? MBP_OK : foreign(error);
}

/* The text of a value of the metadata, in a new block of *size bytes, which the caller releases; NULL if the file has
 * no such value. */
static mbp_status value_of(const source *s, const char *name, const mbp_allocator *allocator, char **text, size_t *size,
                           mbp_error *error) {
    char key[MBP_FILE_TEXT];
    *text = NULL;
    for (json j = s->metadata; json_string(&j, key, sizeof key) >= 0 && json_take(&j, ':'); json_take(&j, ',')) {
        json value = j;
        const ptrdiff_t length = json_string(&j, NULL, 0);
        if (length < 0)
            break;
        if (strcmp(key, name) != 0)
            continue;
        *size = (size_t)length + 1;
        *text = mbp_allocate(allocator, *size);
        if (!*text)
            return mbp_file_no_memory(error, *size);
        json_string(&value, *text, *size);
        break;
    }
    return MBP_OK;
}

/* How many bytes of data the own file with this header has; -1 if the header is not valid. */
static int64_t data_bytes(const char *text, size_t size) {
    json j = {text, text + size - 1};
    int64_t end = 0;
    int valid = enter_metadata(&j) && !json_take(&j, '}');
    do
        valid = valid && json_string(&j, NULL, 0) >= 0 && json_take(&j, ':') && json_string(&j, NULL, 0) >= 0;
    while (valid && json_take(&j, ','));
    valid = valid && json_take(&j, '}');
    for (mbp_entry e; valid && !json_take(&j, '}'); end = e.end)
        valid = mbp_file_entry(&j, &e) && e.end >= end;
    return valid ? end : -1;
}

static mbp_status damaged(int member, mbp_error *error) {
    return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("it has no valid header of network %d"), member);
}

/* The text of a member's header, which the caller releases, and how many bytes of data it has. */
static mbp_status find_member(const source *s, int member, const mbp_allocator *allocator, char **text, size_t *size,
                              int64_t *data, mbp_error *error) {
    char key[MBP_FILE_TEXT];
    snprintf(key, sizeof key, "microbp.member.%d", member);
    const mbp_status status = value_of(s, key, allocator, text, size, error);
    if (status != MBP_OK)
        return status;
    *data = *text ? data_bytes(*text, *size) : -1;
    if (*data >= 0)
        return MBP_OK;
    if (*text)
        mbp_release(allocator, *text, *size);
    return damaged(member, error);
}

/* Puts the own file of a member together in a new block of *size bytes, which the caller releases. */
static mbp_status own_file(const source *s, int member, const mbp_allocator *allocator, char **file, size_t *size,
                           mbp_error *error) {
    uint64_t at = s->data_at;
    char *text = NULL;
    size_t length = 0;
    int64_t data = 0;
    for (int i = 0; i <= member; i++) {
        mbp_status status = find_member(s, i, allocator, &text, &length, &data, error);
        if (status != MBP_OK)
            return status;
        if (i < member || (uint64_t)data > s->size - at)
            mbp_release(allocator, text, length);
        if ((uint64_t)data > s->size - at)
            return damaged(i, error);
        at += (uint64_t)data;
    }
    *size = MBP_LENGTH_BYTES + length - 1 + (size_t)data;
    *file = mbp_allocate(allocator, *size);
    if (*file) {
        const uint64_t count = length - 1;
        memcpy(*file, &count, MBP_LENGTH_BYTES);
        memcpy(*file + MBP_LENGTH_BYTES, text, length - 1);
        memcpy(*file + MBP_LENGTH_BYTES + length - 1, s->bytes + at - (uint64_t)data, (size_t)data);
    }
    mbp_release(allocator, text, length);
    return *file ? MBP_OK : mbp_file_no_memory(error, *size);
}

/* Reads a decimal number that is not negative, as Python writes it, up to rounding: only ratios of weights matter. */
static int read_weight(mbp_slice word, double *weight) {
    mbp_slice exponent = word, number;
    int64_t scale = 0, digits = 0, places = 0;
    number = mbp_take_until(&exponent, 'e');
    const int is_small = exponent.length && *exponent.at == '-';
    if (exponent.length && (*exponent.at == '-' || *exponent.at == '+'))
        exponent.at++, exponent.length--;
    if (number.length < word.length && (!mbp_parse_integer(exponent, &scale) || scale > 400))
        return 0;
    double value = 0;
    for (size_t i = 0; i < number.length; i++) {
        const int is_point = number.at[i] == '.';
        if (is_point ? places : number.at[i] < '0' || number.at[i] > '9')
            return 0;
        value = is_point ? value : 10 * value + (number.at[i] - '0');
        digits += !is_point;
        places += is_point || places;
    }
    scale = (is_small ? -scale : scale) - (places ? places - 1 : 0);
    for (; scale > 0; scale--)
        value *= 10;
    for (; scale < 0; scale++)
        value /= 10;
    *weight = value;
    return digits > 0;
}

/* The member's weight from the list in the metadata; 1 if there is none. */
static mbp_status find_weight(const source *s, int member, const mbp_allocator *allocator, double *weight,
                              mbp_error *error) {
    size_t size;
    char *text;
    const mbp_status status = value_of(s, "microbp.weights", allocator, &text, &size, error);
    *weight = 1;
    if (!text)
        return status;
    mbp_slice rest = mbp_trimmed(mbp_slice_of(text)), word = {0};
    int valid = rest.length > 2 && *rest.at == '[' && rest.at[rest.length - 1] == ']';
    rest.at += valid, rest.length -= 2 * (size_t)valid;
    for (int i = 0; valid && i <= member; i++)
        word = mbp_take_until(&rest, ',');
    valid = valid && read_weight(mbp_trimmed(word), weight);
    mbp_release(allocator, text, size);
    return valid ? MBP_OK : mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("it has no weight of network %d"), member);
}

/* How many networks the file has; 0 if it is a file of one network. */
static mbp_status count_members(const source *s, const mbp_allocator *allocator, uint64_t *count, mbp_error *error) {
    size_t size;
    char *text;
    const mbp_status status = value_of(s, "microbp.members", allocator, &text, &size, error);
    *count = 0;
    if (!text)
        return status;
    const int valid = mbp_file_whole(mbp_slice_of(text), count) && *count > 0 && *count <= INT32_MAX;
    mbp_release(allocator, text, size);
    return valid ? MBP_OK : mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its number of networks is not a number"));
}

static mbp_status read_one(mbp_net **net, const source *s, int member, double *weight, const mbp_options *options,
                           mbp_error *error) {
    char *file = NULL;
    size_t size = 0;
    mbp_status status = find_weight(s, member, options->allocator, weight, error);
    if (status == MBP_OK)
        status = own_file(s, member, options->allocator, &file, &size, error);
    if (status != MBP_OK)
        return status;
    mbp_error inner;
    status = mbp_net_read(net, file, size, options, &inner);
    mbp_release(options->allocator, file, size);
    return status == MBP_OK ? MBP_OK : mbp_fail(error, status, "network %d: %.200s", member, inner.text);
}

mbp_status mbp_net_read_member(mbp_net **net, const void *bytes, size_t size, int member, int *members, double *weight,
                               const mbp_options *options, mbp_error *error) {
    source s = {.bytes = bytes, .size = size};
    mbp_options own;
    uint64_t count = 0;
    double own_weight = 1;
    if (!net || (!bytes && size))
        return mbp_fail_null(error, net ? "bytes" : "net", net ? "the bytes of a file" : MBP_GETS_NET);
    mbp_status status = mbp_file_options(&own, options, error);
    if (status == MBP_OK)
        status = find_header(&s, error);
    if (status == MBP_OK)
        status = count_members(&s, own.allocator, &count, error);
    if (status != MBP_OK)
        return status;
    const int64_t there = count ? (int64_t)count : 1;
    if (member < 0 || member >= there)
        return mbp_fail(error, MBP_INVALID, "member is %d, but the file has %lld network%s, numbered from 0", member,
                        (long long)there, mbp_plural(there));
    status = count ? read_one(net, &s, member, &own_weight, &own, error)
                   : mbp_net_read(net, bytes, size, options, error);
    if (status != MBP_OK)
        return status;
    if (members)
        *members = (int)there;
    if (weight)
        *weight = own_weight;
    return MBP_OK;
}

mbp_status mbp_net_load_member(mbp_net **net, const char *path, int member, int *members, double *weight,
                               const mbp_options *options, mbp_error *error) {
    char *bytes;
    size_t size;
    mbp_options own;
    if (!net || !path)
        return mbp_fail_null(error, net ? "path" : "net", net ? "the path of a file" : MBP_GETS_NET);
    mbp_status status = mbp_file_options(&own, options, error);
    if (status == MBP_OK)
        status = mbp_disk_read(path, own.allocator, check_start, &bytes, &size, error);
    if (status != MBP_OK)
        return status;
    mbp_error inner;
    status = mbp_net_read_member(net, bytes, size, member, members, weight, options, &inner);
    mbp_release(own.allocator, bytes, size);
    return status == MBP_OK ? MBP_OK : mbp_disk_refuse(error, path, &inner);
}
