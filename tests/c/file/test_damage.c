/* Damaged files. From 23 seeds: every truncation, every flipped bit (with tests/long; else every third), every extreme
 * number, appended bytes, and sections swapped, dropped and doubled. All are refused, within the documented memory. A
 * flipped bit with a corrected checksum may give another valid file. */
#include "file/seeds.h"

static void test_ends(void) {
    for (int seed = 0; seed < SEEDS; seed++) {
        blob file = make_seed(seed);
        counter c = {0};
        mbp_allocator allocator = {count_allocate, count_release, &c};
        CHECK(check_stable(file, &(mbp_options){.size = sizeof(mbp_options), .allocator = &allocator}),
              "seed %d is refused", seed);
        CHECK(c.live == 0 && c.peak <= most_memory(file), "seed %d: peak %zu, left %zu", seed, c.peak, c.live);
        for (size_t size = 0; size < file.size + 16; size++) {
            if (size == file.size)
                continue;
            blob other = copy(file, size);
            if (size > file.size)
                memset(other.bytes + file.size, 0, size - file.size);
            check_refused(other, "of this size:", (long)size);
            fix_crc(other);
            check_refused(other, "with a corrected checksum, of this size:", (long)size);
            free(other.bytes);
        }
        free(file.bytes);
    }
}

static void test_bits(void) {
    const size_t step = is_long() ? 1 : 3;
    for (int seed = 0; seed < SEEDS; seed++) {
        blob file = make_seed(seed);
        for (size_t bit = (size_t)seed % step; bit < 8 * file.size; bit += step) {
            blob flipped = copy(file, file.size);
            flipped.bytes[bit / 8] = (char)(flipped.bytes[bit / 8] ^ (1 << bit % 8));
            check_refused(flipped, "bit", (long)bit);
            if (bit % 8 == (unsigned)seed % 8) {
                fix_crc(flipped);
                check_stable(flipped, NULL);
            }
            free(flipped.bytes);
        }
        free(file.bytes);
    }
}

static const char *const hostile[] = {
    "0",
    "1",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "4611686018427387904",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "-1",
    "02",
    "2.0",
    "2e0",
    "true",
    "\"2\"",
    "[2]",
    "",
};
enum { HOSTILE = sizeof hostile / sizeof *hostile };

/* Every number of a header and of its graph, and the header's length. */
static void test_numbers(void) {
    for (int seed = 0; seed < SEEDS; seed++) {
        blob file = make_seed(seed);
        static const char *const before[] = {"input ", "units=", "\"shape\":[", "\"data_offsets\":[", ","};
        for (size_t b = 0; b < sizeof before / sizeof *before; b++)
            for (char *at = find(file, before[b]); at < file.bytes + file.size - 64; at++) {
                size_t skip = strlen(before[b]), digits = strspn(at + skip, "0123456789");
                if (memcmp(at, before[b], skip) != 0 || !digits)
                    continue;
                for (int h = 0; h < HOSTILE; h++) {
                    int json = *before[b] == '"' ||
                               *before[b] == ','; /* 02 is not a number in JSON; in a graph it is 2 */
                    if (json ? strlen(hostile[h]) == digits && memcmp(hostile[h], at + skip, digits) == 0
                             : strtod(hostile[h], NULL) == strtod(at + skip, NULL))
                        continue;
                    blob changed = replace(file, at + skip, digits, hostile[h]);
                    check_refused(changed, hostile[h], (long)(at - file.bytes));
                    free(changed.bytes);
                }
            }
        static const uint64_t lengths[] = {0,          1,         2,          INT32_MAX,      1ull << 31,
                                           UINT32_MAX, INT64_MAX, 1ull << 63, UINT64_MAX - 7, UINT64_MAX};
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            blob changed = copy(file, file.size);
            memcpy(changed.bytes, &lengths[i], 8);
            fix_crc(changed);
            check_refused(changed, "header length", (long)i);
            free(changed.bytes);
        }
        free(file.bytes);
    }
}

/* Finds the header's entries: entry i is from at[i] to at[i + 1]. Returns the number of entries. */
enum { ENTRIES = 32 };

static int find_entries(blob file, char *at[ENTRIES]) {
    int count = 0;
    char *end = find(file, "}}  ");
    end = end ? end : find(file, "}}");
    for (char *c = find(file, "},\""); c < end; c++)
        if (memcmp(c, "},\"", 3) == 0)
            at[count++] = c + 1;
    at[count] = end + 1;
    return count;
}

static void check_spliced(blob file, char *from, char *to, const char *parts[2], const size_t sizes[2],
                          const char *what, int i) {
    char text[1000];
    memcpy(text, parts[0], sizes[0]);
    memcpy(text + sizes[0], parts[1], sizes[1]);
    text[sizes[0] + sizes[1]] = 0;
    blob changed = replace(file, from, (size_t)(to - from), text);
    check_refused(changed, what, i);
    free(changed.bytes);
}

static void test_sections(void) {
    for (int seed = 0; seed < SEEDS; seed++) {
        blob file = make_seed(seed);
        char *at[ENTRIES];
        const int count = find_entries(file, at);
        CHECK(count > 0 && count < ENTRIES - 1, "seed %d: %d entries", seed, count);
        for (int i = 0; i < count; i++) {
            const char *parts[2] = {at[i], at[i]};
            size_t sizes[2] = {(size_t)(at[i + 1] - at[i]), 0};
            if (i < count - 1 || !has_extras(seed)) /* a list of vectors may end after any vector */
                check_spliced(file, at[i], at[i + 1], (const char *[2]){"", ""}, (const size_t[2]){0, 0}, "dropped", i);
            sizes[1] = sizes[0];
            check_spliced(file, at[i], at[i + 1], parts, sizes, "doubled", i);
            if (i == count - 1)
                continue;
            parts[0] = at[i + 1];
            sizes[0] = (size_t)(at[i + 2] - at[i + 1]);
            check_spliced(file, at[i], at[i + 2], parts, sizes, "swapped", i);
        }
        uint64_t header;
        memcpy(&header, file.bytes, 8);
        blob turned = copy(file, file.size); /* the data before the header */
        const size_t data = file.size - 8 - header;
        memcpy(turned.bytes + 8, file.bytes + 8 + header, data);
        memcpy(turned.bytes + 8 + data, file.bytes + 8, header);
        check_refused(turned, "turned", seed);
        fix_crc(turned);
        check_refused(turned, "turned, with a corrected checksum", seed);
        free(turned.bytes), free(file.bytes);
    }
}

int main(void) {
    test_ends();
    test_bits();
    test_numbers();
    test_sections();
    if (failures)
        printf("%d checks failed\n", failures);
    return failures != 0;
}
