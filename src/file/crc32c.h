/* Floor 8: CRC-32C and CRC-32, eight bytes at a time, for little-endian processors.
 * Each use makes its own table, which takes about 3 microseconds: so there is no global state. */
#ifndef MBP_CRC32C_H
#define MBP_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct crc32c {
    uint32_t table[8][256]; /* table[k][b]: the CRC of byte b followed by k zero bytes */
} crc32c;

/* Reflected polynomials: Castagnoli's, and that of zlib, whose CRC-32 is in files of several networks. */
#define CRC_32C 0x82f63b78u
#define CRC_32 0xedb88320u

static inline void crc_prepare(crc32c *crc, uint32_t polynomial) {
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t c = b;
        for (int bit = 0; bit < 8; bit++)
            c = (c >> 1) ^ (c & 1 ? polynomial : 0);
        crc->table[0][b] = c;
    }
    for (int k = 1; k < 8; k++)
        for (int b = 0; b < 256; b++) {
            uint32_t c = crc->table[k - 1][b];
            crc->table[k][b] = (c >> 8) ^ crc->table[0][c & 255];
        }
}

static inline uint32_t crc_add(const crc32c *crc, uint32_t value, const char *bytes, size_t size) {
    for (; size >= 8; bytes += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        word ^= value;
        value = 0;
        for (int k = 0; k < 8; k++)
            value ^= crc->table[7 - k][(word >> (8 * k)) & 255];
    }
    for (; size; bytes++, size--)
        value = (value >> 8) ^ crc->table[0][(value ^ (unsigned char)*bytes) & 255];
    return value;
}

#endif
