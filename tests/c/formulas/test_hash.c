/* mbp_hash, mbp_hash_number and mbp_hash_level: published results of XXH64, places in memory, the ends of the range. */
#include "microbp.h"

#include <stdio.h>
#include <string.h>

static int failures;

static void expect(int good, const char *what, uint64_t got, uint64_t expected) {
    if (!good) {
        printf("FAILED %s: got %#llx, expected %#llx\n", what, (unsigned long long)got, (unsigned long long)expected);
        failures++;
    }
}

/* From the program of the author of XXH64, xxHash 0.8. */
#define FOX "The quick brown fox jumps over the lazy dog, and the lazy dog does not mind at all."
static const struct {
    const char *text;
    size_t count;
    uint64_t seed, hash;
} answers[] = {
    {NULL, 0, 0, 0xef46db3751d8e999},
    {"", 0, 0, 0xef46db3751d8e999},
    {"", 0, UINT64_MAX, 0x298f4c84b24f5380},
    {"a", 1, 0, 0xd24ec4f1a98c6e5b},
    {"abc", 3, 0, 0x44bc2cf5ad770999},
    {"Rome", 4, 0, 0xf56804e558b0db3c},
    {FOX, 31, 0, 0x3f8d95ab32c127d9},
    {FOX, 32, 0, 0xe2bbc9136629a4ee},
    {FOX, 32, UINT64_MAX, 0x1c0b92df3c260bb2},
    {FOX, sizeof FOX - 1, 0, 0x8f07cdd8c59a769},
    {FOX, sizeof FOX - 1, UINT64_MAX, 0xa3eaa47ab36d69c8},
};

static void check_answers(void) {
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        for (size_t offset = 0; offset < 8; offset++) { /* bytes need no alignment */
            char moved[sizeof FOX + 8];
            if (answers[i].count)
                memcpy(moved + offset, answers[i].text, answers[i].count);
            const uint64_t got = mbp_hash(answers[i].text ? moved + offset : NULL, answers[i].count, answers[i].seed);
            expect(got == answers[i].hash, "hash", got, answers[i].hash);
        }
    expect(mbp_hash(NULL, 1, 0) == 0, "hash of nothing", mbp_hash(NULL, 1, 0), 0);
}

static void check_numbers(void) {
    static const int64_t numbers[] = {0, 31, -1, INT64_MAX, INT64_MIN};
    static const uint64_t hashes[] = {0x8562a8ca30d1d8c7, 0xd76da0cf527c8368, 0x78653e7f1b122749};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        unsigned char bytes[8];
        for (int k = 0; k < 8; k++)
            bytes[k] = (unsigned char)((uint64_t)numbers[i] >> 8 * k);
        const uint64_t got = mbp_hash_number(numbers[i], 7);
        expect(got == mbp_hash(bytes, 8, 7), "hash of a number", got, mbp_hash(bytes, 8, 7));
        expect(i >= 3 || got == hashes[i], "hash of a number", got, hashes[i % 3]);
    }
}

static void check_levels(void) {
    static const struct {
        uint64_t hash;
        int64_t levels, level;
    } rows[] = {
        {0, 10, 0},
        {UINT64_MAX, 10, 9},
        {UINT64_MAX, 1, 0},
        {UINT64_MAX, INT64_MAX, INT64_MAX - 1},
        {(uint64_t)1 << 63, 10, 5},
        {((uint64_t)1 << 63) - 1, 10, 4},
        {5, 0, -1},
        {5, INT64_MIN, -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const int64_t got = mbp_hash_level(rows[i].hash, rows[i].levels);
        expect(got == rows[i].level, "level", (uint64_t)got, (uint64_t)rows[i].level);
    }
}

int main(void) {
    check_answers();
    check_numbers();
    check_levels();
    return failures != 0;
}
