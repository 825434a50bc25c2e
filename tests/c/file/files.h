/* For the tests of files: files as bytes, and damaged files. */
#ifndef FILES_H
#define FILES_H

#include <inttypes.h>

#include "check.h"
#include "counter.h"
#include "microbp.h"

/* ---- files as bytes ---- */

typedef struct blob {
    char *bytes;
    size_t size;
} blob;

/* CRC-32C, half a byte at a time, with a different table from the library's. libFuzzer does not instrument it. */
#ifdef __clang__
__attribute__((no_sanitize("coverage")))
#endif
static inline uint32_t crc32c(const char *bytes, size_t size) {
    static const uint32_t table[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
                                       0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                       0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= (unsigned char)bytes[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

/* The address of `text` in the file; NULL if the file does not contain it. */
static inline char *find(blob file, const char *text) {
    size_t length = strlen(text);
    for (size_t i = 0; i + length <= file.size; i++)
        if (memcmp(file.bytes + i, text, length) == 0)
            return file.bytes + i;
    return NULL;
}

static inline void fix_crc(blob file) {
    char digits[9], *at = find(file, "crc32c\":\"");
    if (!at || at + 17 > file.bytes + file.size)
        return;
    memset(at + 9, '0', 8);
    snprintf(digits, sizeof digits, "%08" PRIx32, crc32c(file.bytes, file.size));
    memcpy(at + 9, digits, 8);
}

static inline blob copy(blob file, size_t size) {
    blob made = {malloc(size), size}; /* of the exact size, so that a sanitizer sees any access past it */
    memcpy(made.bytes, file.bytes, size < file.size ? size : file.size);
    return made;
}

/* The memory that reading may allocate: of the documented 4 n + 64 KiB, n are for the file itself. */
static inline size_t most_memory(blob file) { return 3 * file.size + 65536; }

/* The file is refused, within the documented memory, and nothing is left allocated. */
static inline void check_refused(blob file, const char *what, long where) {
    counter c = {0};
    mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_options options = {.size = sizeof options, .allocator = &allocator};
    mbp_error error = {0};
    mbp_net *net = NULL;
    mbp_status status = mbp_net_read(&net, file.bytes, file.size, &options, &error);
    CHECK((status == MBP_CORRUPT || status == MBP_UNSUPPORTED) && !net, "%s %ld: status %d", what, where, (int)status);
    CHECK(strlen(error.text) > 20 && error.status == status, "%s %ld: %s", what, where, error.text);
    CHECK(c.live == 0 && c.peak <= most_memory(file), "%s %ld: peak %zu, left %zu", what, where, c.peak, c.live);
    mbp_net_free(net);
}

/* The file with `old` bytes at `at` replaced by `new`, and with the correct header length and checksum. */
static inline blob replace(blob file, const char *at, size_t old, const char *new) {
    size_t before = (size_t)(at - file.bytes), after = file.size - before - old, length = strlen(new);
    blob made = {malloc(before + length + after), before + length + after};
    memcpy(made.bytes, file.bytes, before);
    memcpy(made.bytes + before, new, length);
    memcpy(made.bytes + before + length, at + old, after);
    uint64_t header;
    memcpy(&header, made.bytes, sizeof header);
    header += length - old;
    memcpy(made.bytes, &header, sizeof header);
    fix_crc(made);
    return made;
}

#endif
