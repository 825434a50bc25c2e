/* Floor 6: reads one network of a file of several (microbp/network/nets_file.py describes the format). The metadata has
 * the header of each network's own file, and the data of these files follow one another; so this file puts the own file
 * of a network together, and mbp_net_read reads it. Before that, the whole file is checked: its checksum, the number of
 * networks, their sizes, the weights. */
#include "file/file.h"

#include "file/crc32c.h"
#include "system/memory.h"

#include <float.h>

#include <stdio.h>
#include <string.h>

/* A file in memory. */
typedef struct source {
    const char *bytes;
    size_t size, data_at;
    json metadata; /* after its opening brace */
} source;

/* The wanted network of a file of several. */
typedef struct wanted {
    int member;
    const mbp_allocator *allocator;
    int members;             /* how many the file has */
    char *text;              /* the header of its own file, or NULL; the caller releases it */
    size_t text_bytes;       /* with a zero at the end */
    uint64_t begin, data;    /* where its data begins in the file, and how many bytes it has */
    const char *digits;      /* of the checksum, in the file */
    char crc[MBP_FILE_TEXT]; /* the checksum as text */
    double weight;
} wanted;

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
    return digits > 0 && value <= DBL_MAX;
}

/* ---- the metadata, whose keys are in the order in which they are written ---- */

static mbp_status unlike(mbp_error *error) {
    return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its metadata is not what microbp writes"));
}

/* Replaces characters that a terminal would obey. */
static const char *printable(char *text) {
    for (char *c = text; *c; c++)
        *c = *c < ' ' || *c > '~' ? '?' : *c;
    return text;
}

/* Copies a string of the metadata into a new block, which the caller releases. */
static mbp_status copy_text(json *j, const mbp_allocator *allocator, char **text, size_t *size, mbp_error *error) {
    json value = *j;
    const ptrdiff_t length = json_string(j, NULL, 0);
    if (length < 0)
        return unlike(error);
    *size = (size_t)length + 1;
    *text = mbp_allocate(allocator, *size);
    if (!*text)
        return mbp_file_no_memory(error, *size);
    json_string(&value, *text, *size);
    return MBP_OK;
}

/* Whether a file of several networks starts like this; the cursor is then at the value of "microbp.ensemble". */
static int is_several(json *j) {
    return json_key(j, "format") && json_string(j, NULL, 0) >= 0 && json_take(j, ',') &&
           json_key(j, "microbp.ensemble");
}

/* The values before the members. *members: how many there should be, as text. */
static mbp_status read_start(json *j, wanted *w, int *has_weights, char members[MBP_FILE_TEXT], mbp_error *error) {
    char version[MBP_FILE_TEXT];
    if (json_string(j, version, sizeof version) < 0 || !json_take(j, ','))
        return unlike(error);
    if (strcmp(version, "1") != 0 && strcmp(version, "2") != 0)
        return mbp_fail(error, MBP_UNSUPPORTED,
                        "the file has the ensemble format %.40s, but this version of microbp reads only 1 and 2; use a "
                        "newer version",
                        printable(version));
    *has_weights = *version == '2';
    if (!json_key(j, "microbp.crc32") || json_string(j, w->crc, sizeof w->crc) != MBP_CRC_DIGITS)
        return unlike(error);
    w->digits = j->at - 1 - MBP_CRC_DIGITS; /* before the quote */
    const int valid = memcmp(w->crc, w->digits, MBP_CRC_DIGITS) == 0 && json_take(j, ',') &&
                      json_key(j, "microbp.members");
    return valid && json_string(j, members, MBP_FILE_TEXT) >= 0 ? MBP_OK : unlike(error);
}

/* Reads the header of network i. *begin: where its data begins, which moves to the end of the data. */
static mbp_status read_header(const source *s, json *j, wanted *w, int i, uint64_t *begin, mbp_error *error) {
    char *text;
    size_t size;
    mbp_status status = copy_text(j, w->allocator, &text, &size, error);
    if (status != MBP_OK)
        return status;
    const int64_t data = data_bytes(text, size), left = (int64_t)(s->size - *begin);
    if (data < 0)
        status = mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("it has no valid header of network %d"), i);
    else if (data > left)
        status = mbp_fail(error, MBP_CORRUPT,
                          MBP_DAMAGED("it is cut short: network %d needs %lld byte%s, but %lld byte%s of data are "
                                      "left"),
                          i, (long long)data, mbp_plural(data), (long long)left, mbp_plural(left));
    if (status == MBP_OK && i == w->member)
        w->text = text, w->text_bytes = size, w->begin = *begin, w->data = (uint64_t)data;
    else
        mbp_release(w->allocator, text, size);
    *begin += status == MBP_OK ? (uint64_t)data : 0;
    return status;
}

/* Reads the headers of all networks, and checks that their data fills the file. */
static mbp_status read_headers(const source *s, json *j, wanted *w, char *members, mbp_error *error) {
    char key[MBP_FILE_TEXT], shown[MBP_FILE_TEXT];
    uint64_t begin = s->data_at;
    mbp_status status = MBP_OK;
    for (; status == MBP_OK; w->members++) {
        json next = *j;
        snprintf(key, sizeof key, "microbp.member.%d", w->members);
        if (!json_take(&next, ',') || !json_key(&next, key))
            break;
        *j = next;
        status = read_header(s, j, w, w->members, &begin, error);
    }
    if (status != MBP_OK)
        return status;
    snprintf(shown, sizeof shown, "%d", w->members);
    if (w->members == 0 || strcmp(shown, members) != 0)
        return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("it has %d network%s, but should have %.20s"), w->members,
                        mbp_plural(w->members), printable(members));
    const int64_t rest = (int64_t)(s->size - begin);
    return rest == 0 ? MBP_OK
                     : mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("after its networks, it has %lld byte%s more"),
                                (long long)rest, mbp_plural(rest));
}

/* Reads a list of one weight per network. */
static mbp_status read_weights(json *j, wanted *w, mbp_error *error) {
    size_t size;
    char *text;
    const mbp_status status = copy_text(j, w->allocator, &text, &size, error);
    if (status != MBP_OK)
        return status;
    mbp_slice rest = mbp_trimmed(mbp_slice_of(text));
    double weight, most = 0;
    int valid = rest.length > 2 && *rest.at == '[' && rest.at[rest.length - 1] == ']', count = 0;
    rest.at += valid, rest.length -= 2 * (size_t)valid;
    for (; valid && rest.length && count < w->members; count++) {
        valid = read_weight(mbp_trimmed(mbp_take_until(&rest, ',')), &weight);
        most = valid && weight > most ? weight : most;
        if (valid && count == w->member)
            w->weight = weight;
    }
    valid = valid && count == w->members && !rest.length && most > 0;
    mbp_release(w->allocator, text, size);
    return valid ? MBP_OK
                 : mbp_fail(error, MBP_CORRUPT,
                            MBP_DAMAGED("its weights are not a number of at least 0 for each network, not all 0"));
}

/* Reads the metadata. The cursor is at the value of "microbp.ensemble". */
static mbp_status read_metadata(const source *s, json *j, wanted *w, mbp_error *error) {
    char members[MBP_FILE_TEXT];
    int has_weights = 0;
    mbp_status status = read_start(j, w, &has_weights, members, error);
    if (status == MBP_OK)
        status = read_headers(s, j, w, members, error);
    json next = *j;
    if (status == MBP_OK && json_take(&next, ',') && json_key(&next, "microbp.notes") &&
        json_string(&next, NULL, 0) >= 0)
        *j = next;
    if (status == MBP_OK && has_weights)
        status = json_take(j, ',') && json_key(j, "microbp.weights") ? read_weights(j, w, error) : unlike(error);
    return status == MBP_OK && !json_take(j, '}') ? unlike(error) : status;
}

/* The checksum is that of the data, and then of all before it, with zeros in place of its digits. */
static int checksum_holds(const source *s, const wanted *w) {
    char expected[MBP_CRC_DIGITS + 1];
    const char *after = w->digits + MBP_CRC_DIGITS, *data = s->bytes + s->data_at;
    crc32c crc;
    crc_prepare(&crc, CRC_32);
    uint32_t value = crc_add(&crc, 0xffffffffu, data, s->size - s->data_at);
    value = crc_add(&crc, value, s->bytes, (size_t)(w->digits - s->bytes));
    value = crc_add(&crc, value, "00000000", MBP_CRC_DIGITS);
    value = crc_add(&crc, value, after, (size_t)(data - after));
    snprintf(expected, sizeof expected, "%08x", (unsigned)~value);
    return strcmp(w->crc, expected) == 0;
}

static mbp_status fail_member(int member, int members, mbp_error *error) {
    return mbp_fail(error, MBP_INVALID, "member is %d, but the file has %d network%s, numbered from 0", member, members,
                    mbp_plural(members));
}

/* Puts the own file of the wanted network together, and reads it. */
static mbp_status read_own(mbp_net **net, const source *s, const wanted *w, const mbp_options *options,
                           mbp_error *error) {
    const uint64_t length = w->text_bytes - 1;
    const size_t size = MBP_LENGTH_BYTES + w->text_bytes - 1 + (size_t)w->data;
    char *file = mbp_allocate(w->allocator, size);
    if (!file)
        return mbp_file_no_memory(error, size);
    memcpy(file, &length, MBP_LENGTH_BYTES);
    memcpy(file + MBP_LENGTH_BYTES, w->text, (size_t)length);
    memcpy(file + MBP_LENGTH_BYTES + length, s->bytes + w->begin, (size_t)w->data);
    mbp_error inner;
    const mbp_status status = mbp_net_read(net, file, size, options, &inner);
    mbp_release(w->allocator, file, size);
    return status == MBP_OK ? MBP_OK : mbp_fail(error, status, "network %d: %.200s", w->member, inner.text);
}

static mbp_status read_one_of_several(mbp_net **net, const source *s, json at, wanted *w, const mbp_options *options,
                                      mbp_error *error) {
    mbp_status status = read_metadata(s, &at, w, error);
    if (status == MBP_OK && !checksum_holds(s, w))
        status = mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its header or its checksum is not that of its networks"));
    if (status == MBP_OK && !w->text)
        status = fail_member(w->member, w->members, error);
    if (status == MBP_OK)
        status = read_own(net, s, w, options, error);
    if (w->text)
        mbp_release(w->allocator, w->text, w->text_bytes);
    return status;
}

mbp_status mbp_net_read_member(mbp_net **net, const void *bytes, size_t size, int member, int *members, double *weight,
                               const mbp_options *options, mbp_error *error) {
    source s = {.bytes = bytes, .size = size};
    mbp_options own;
    if (!net || (!bytes && size))
        return mbp_fail_null(error, net ? "bytes" : "net", net ? "the bytes of a file" : MBP_GETS_NET);
    mbp_status status = mbp_file_options(&own, options, error);
    if (status == MBP_OK)
        status = find_header(&s, error);
    if (status != MBP_OK)
        return status;
    wanted w = {.member = member, .allocator = own.allocator, .weight = 1};
    json at = s.metadata;
    if (is_several(&at))
        status = read_one_of_several(net, &s, at, &w, &own, error);
    else
        status = member == 0 ? mbp_net_read(net, bytes, size, options, error) : fail_member(member, 1, error);
    if (status != MBP_OK)
        return status;
    if (members)
        *members = w.members > 0 ? w.members : 1;
    if (weight)
        *weight = w.weight;
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
