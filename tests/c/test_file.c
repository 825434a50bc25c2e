/* Files: what is read is what was written, everything else is refused, and no allocation that fails is forgotten. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "microbp.h"

static int failures;

#define CHECK(condition, ...)                                       \
    do {                                                            \
        if (!(condition)) {                                         \
            failures++;                                             \
            printf("%s:%d: %s: ", __FILE__, __LINE__, #condition);  \
            printf(__VA_ARGS__);                                    \
            putchar('\n');                                          \
        }                                                           \
    } while (0)

static const char *const graphs[] = {
    "input 3\ndense 0 units=2\noutput 1\n",
    ("input 7\ndense 0 layer=a units=33 activation=relu\ndense 1 units=33 activation=leaky_relu(slope=0.2)\nadd 1 2\n"
     "concat 3 0\ndense 4 units=5 bias=0 frozen=1\noutput 5\n"),
    "input 4\ninput 2\ndense 0 layer=shared units=4\ndense 2 layer=shared\nconcat 3 1\ndense 4 units=1\noutput 5 link=sigmoid\noutput 2\n",
    "input 3\nactivation 0 tanh\noutput 1\n",
};
enum { GRAPHS = sizeof graphs / sizeof *graphs, WITH_PARAMETERS = GRAPHS - 1 };

/* ---- an allocator that counts, and fails when asked to ---- */

typedef struct counter {
    size_t live, peak;
    long calls, fail_at; /* fail_at 0: never */
    int for_ever;        /* fail from then on, not once */
} counter;

static void *count_allocate(void *user, size_t bytes, size_t alignment) {
    counter *c = user;
    c->calls++;
    if (c->fail_at && (c->for_ever ? c->calls >= c->fail_at : c->calls == c->fail_at))
        return NULL;
    c->live += bytes;
    c->peak = c->live > c->peak ? c->live : c->peak;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void count_release(void *user, void *block, size_t bytes) {
    ((counter *)user)->live -= bytes;
    free(block);
}

/* ---- nets and files ---- */

typedef struct blob {
    char *bytes;
    size_t size;
} blob;

static mbp_net *make(const char *graph, mbp_dtype dtype, uint64_t seed) {
    mbp_net *net = NULL;
    mbp_error error = {0};
    mbp_options options = {.dtype = dtype, .seed = seed};
    CHECK(mbp_net_create(&net, graph, &options, &error) == MBP_OK, "%s", error.text);
    if (!net)
        exit(1);
    int64_t count;
    unsigned char *params = mbp_net_params(net, &count);
    size_t bytes = (size_t)count * (dtype == MBP_F64 ? 8 : 4);
    if (seed % 2) /* an empty one is none */
        CHECK(mbp_net_set_notes(net, "a \"text\" with \\, \n, \x01 and \xc3\xa9", &error) == MBP_OK, "%s", error.text);
    for (size_t i = 0; i < bytes; i++) /* every bit pattern must survive, those of NaNs too */
        params[i] = (unsigned char)(i * 37 + 11);
    return net;
}

static blob write_net(const mbp_net *net) {
    blob file = {NULL, 0};
    mbp_error error = {0};
    CHECK(mbp_net_write(net, NULL, &file.size, NULL) == MBP_INVALID, "no room");
    file.bytes = malloc(file.size);
    CHECK(mbp_net_write(net, file.bytes, &file.size, &error) == MBP_OK, "%s", error.text);
    return file;
}

static void check_equal(mbp_net *a, mbp_net *b, const char *what) {
    char text[2][2000];
    int64_t count[2];
    const void *params[2] = {mbp_net_params(a, &count[0]), mbp_net_params(b, &count[1])};
    mbp_net_text(a, text[0], sizeof text[0]);
    mbp_net_text(b, text[1], sizeof text[1]);
    CHECK(strcmp(text[0], text[1]) == 0, "%s: %s became %s", what, text[0], text[1]);
    const char *notes[2] = {mbp_net_notes(a), mbp_net_notes(b)};
    CHECK(!notes[0] == !notes[1] && (!notes[0] || strcmp(notes[0], notes[1]) == 0), "%s: notes", what);
    CHECK(mbp_net_dtype(a) == mbp_net_dtype(b) && mbp_net_seed(a) == mbp_net_seed(b), "%s", what);
    CHECK(count[0] == count[1] && memcmp(params[0], params[1], (size_t)count[0] * (mbp_net_dtype(a) == MBP_F64 ? 8 : 4)) == 0, "%s", what);
}

/* Bit by bit, and so independent of the library's tables. */
static uint32_t crc32c(const char *bytes, size_t size) {
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= (unsigned char)bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

/* Where `text` stands in the file; NULL if nowhere. */
static char *find(blob file, const char *text) {
    size_t length = strlen(text);
    for (size_t i = 0; i + length <= file.size; i++)
        if (memcmp(file.bytes + i, text, length) == 0)
            return file.bytes + i;
    return NULL;
}

static void fix_crc(blob file) {
    char digits[9], *at = find(file, "crc32c\":\"");
    if (!at || at + 17 > file.bytes + file.size)
        return;
    memset(at + 9, '0', 8);
    snprintf(digits, sizeof digits, "%08" PRIx32, crc32c(file.bytes, file.size));
    memcpy(at + 9, digits, 8);
}

static blob copy(blob file, size_t size) {
    blob made = {malloc(size), size}; /* of its own exact size, so that a checker sees any reading past it */
    memcpy(made.bytes, file.bytes, size < file.size ? size : file.size);
    return made;
}

/* Refused, within the promised memory, with nothing left allocated. */
static void check_refused(blob file, const char *what, long where) {
    counter c = {0};
    mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_options options = {.allocator = &allocator};
    mbp_error error = {0};
    mbp_net *net = NULL;
    mbp_status status = mbp_net_read(&net, file.bytes, file.size, &options, &error);
    CHECK((status == MBP_CORRUPT || status == MBP_UNSUPPORTED) && !net, "%s %ld: status %d", what, where, (int)status);
    CHECK(strlen(error.text) > 20 && error.status == status, "%s %ld: %s", what, where, error.text);
    CHECK(c.live == 0 && c.peak <= 4 * file.size + 65536, "%s %ld: peak %zu, left %zu", what, where, c.peak, c.live);
    mbp_net_free(net);
}

/* ---- the tests ---- */

static void test_round_trip(const char *directory) {
    char path[200];
    snprintf(path, sizeof path, "%s/net.safetensors", directory);
    for (int i = 0; i < 2 * GRAPHS - 1; i++) {
        const char *graph = graphs[i / 2];
        mbp_net *net = make(graph, i % 2 ? MBP_F64 : MBP_F32, i ? UINT64_MAX - (unsigned)i : 0), *back = NULL;
        mbp_error error = {0};
        blob file = write_net(net), again = write_net(net), shifted = copy(file, file.size + 1);
        CHECK(file.size == again.size && memcmp(file.bytes, again.bytes, file.size) == 0, "%s", graph);
        CHECK(mbp_net_read(&back, file.bytes, file.size, NULL, &error) == MBP_OK, "%s: %s", graph, error.text);
        check_equal(net, back, graph);
        mbp_net_free(back);

        memmove(shifted.bytes + 1, file.bytes, file.size);
        CHECK(mbp_net_read(&back, shifted.bytes + 1, file.size, NULL, &error) == MBP_OK, "unaligned: %s", error.text);
        check_equal(net, back, "unaligned");
        mbp_net_free(back);

        for (int repeat = 0; repeat < 2; repeat++)
            CHECK(mbp_net_save(net, path, &error) == MBP_OK, "%s", error.text);
        CHECK(mbp_net_load(&back, path, NULL, &error) == MBP_OK, "%s", error.text);
        check_equal(net, back, "on disk");
        mbp_net_free(back);
        free(file.bytes), free(again.bytes), free(shifted.bytes);
        mbp_net_free(net);
    }
    unlink(path);
}

static void test_layout(void) {
    mbp_net *net = make(graphs[0], MBP_F32, 0);
    float *params = mbp_net_params(net, NULL);
    for (int i = 0; i < 8; i++) /* weight (3, 2), then bias (2) */
        params[i] = (float)i;
    blob file = write_net(net);
    uint64_t header;
    float data[8];
    const float expected[8] = {0, 2, 4, 1, 3, 5, 6, 7};
    memcpy(&header, file.bytes, sizeof header);
    CHECK(header + 8 + sizeof data == file.size && (header + 8) % 64 == 0, "header of %" PRIu64, header);
    memcpy(data, file.bytes + 8 + header, sizeof data);
    CHECK(memcmp(data, expected, sizeof data) == 0, "a weight is (out, in) in a file");
    CHECK(find(file, "\"dense_0.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"), "the entry of a weight");
    CHECK(crc32c("123456789", 9) == 0xe3069283u, "the check value of CRC-32C");
    blob fixed = copy(file, file.size);
    fix_crc(fixed);
    CHECK(memcmp(fixed.bytes, file.bytes, file.size) == 0, "the checksum is that of the whole file");

    size_t size = file.size - 1;
    memset(fixed.bytes, 7, file.size);
    CHECK(mbp_net_write(net, fixed.bytes, &size, NULL) == MBP_INVALID && size == file.size, "too little room");
    CHECK(fixed.bytes[0] == 7 && fixed.bytes[file.size - 1] == 7, "a refused write changes nothing");
    free(file.bytes), free(fixed.bytes);
    mbp_net_free(net);
}

static void test_damage(void) {
    mbp_net *net = make(graphs[0], MBP_F32, 5);
    blob file = write_net(net);
    for (size_t size = 0; size < file.size; size++) {
        blob part = copy(file, size);
        check_refused(part, "cut to", (long)size);
        fix_crc(part);
        check_refused(part, "cut, with its checksum made right, to", (long)size);
        free(part.bytes);
    }
    for (size_t bit = 0; bit < 8 * file.size; bit++) {
        file.bytes[bit / 8] = (char)(file.bytes[bit / 8] ^ (1 << bit % 8));
        check_refused(file, "bit", (long)bit);
        file.bytes[bit / 8] = (char)(file.bytes[bit / 8] ^ (1 << bit % 8));
    }
    for (size_t extra = 1; extra <= 16; extra++) {
        blob longer = copy(file, file.size + extra);
        memset(longer.bytes + file.size, 0, extra);
        check_refused(longer, "appended", (long)extra);
        fix_crc(longer);
        check_refused(longer, "appended, with the checksum made right,", (long)extra);
        free(longer.bytes);
    }
    free(file.bytes);
    mbp_net_free(net);
}

/* The file with `old` at `at` replaced, the header's length and the checksum made right. */
static blob replace(blob file, const char *at, size_t old, const char *new) {
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

static const char *const hostile[] = {
    "0", "1", "2147483647", "2147483648", "4294967295", "4294967296", "4611686018427387904", "9223372036854775807", "9223372036854775808",
    "18446744073709551615", "18446744073709551616", "99999999999999999999999999", "-1", "02", "2.0", "2e0", "true", "\"2\"", "[2]", "",
};
enum { HOSTILE = sizeof hostile / sizeof *hostile };

static void test_hostile_numbers(void) {
    for (int g = 0; g < WITH_PARAMETERS; g++) {
        mbp_net *net = make(graphs[g], MBP_F64, 0);
        blob file = write_net(net);
        static const char *const before[] = {"input ", "units=", "\"shape\":[", "\"data_offsets\":[", ","};
        for (size_t b = 0; b < sizeof before / sizeof *before; b++)
            for (char *at = find(file, before[b]); at < file.bytes + file.size - 64; at++) {
                size_t skip = strlen(before[b]), digits = strspn(at + skip, "0123456789");
                if (memcmp(at, before[b], skip) != 0 || !digits)
                    continue;
                for (int h = 0; h < HOSTILE; h++) {
                    int json = *before[b] == '"' || *before[b] == ','; /* where 02 is no number; in a graph it is 2 */
                    if (json ? strlen(hostile[h]) == digits && memcmp(hostile[h], at + skip, digits) == 0
                             : strtod(hostile[h], NULL) == strtod(at + skip, NULL))
                        continue;
                    blob changed = replace(file, at + skip, digits, hostile[h]);
                    check_refused(changed, hostile[h], (long)(at - file.bytes));
                    free(changed.bytes);
                }
            }
        static const uint64_t lengths[] = {0, 1, 2, INT32_MAX, 1ull << 31, UINT32_MAX, INT64_MAX, 1ull << 63, UINT64_MAX - 7, UINT64_MAX};
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            blob changed = copy(file, file.size);
            memcpy(changed.bytes, &lengths[i], 8);
            fix_crc(changed);
            check_refused(changed, "header length", (long)i);
            free(changed.bytes);
        }
        free(file.bytes);
        mbp_net_free(net);
    }
}

static void test_hostile_texts(void) {
    static const struct {
        const char *old, *new;
    } cases[] = {
        {"\"microbp.format\":\"1\"", "\"microbp.format\":\"2\""},
        {"\"format\":\"microbp\"", "\"format\":\"pt\""},
        {"\"format\":\"microbp\"", "\"format\":\"microbp\",\"format\":\"microbp\""},
        {"\"format\":\"microbp\"", "\"format\":\"microbp\",\"other\":\"x\""},
        {"\"format\":\"microbp\",", ""},
        {"\"microbp.seed\":\"0\"", "\"microbp.seed\":\"18446744073709551616\""},
        {"\"microbp.seed\":\"0\"", "\"microbp.seed\":\"-1\""},
        {"\"microbp.seed\":\"0\"", "\"microbp.seed\":\"00\""},
        {"\"microbp.seed\":\"0\"", "\"microbp.seed\":\"\""},
        {"\"microbp.seed\":\"0\"", "\"microbp.seed\":0"},
        {"\"microbp.seed\":\"0\",", ""},
        {"philox4x32-10/1", "philox4x32-10/2"},
        {"microbp.graph", "microbp.grapf"},
        {"input 3\\n", "input 3\n"},
        {"input 3\\n", "input 3\\n\\u0000"},
        {"input 3\\n", "input 3\\n# \xc3\xa9\\n"},
        {"input 3\\n", "input 3\\n# \\u00e9\\n"},
        {"input 3\\n", "input 3\\x"},
        {"activation=identity", "activation=wishful"},
        {"dense_0.weight", "dense_1.weight"},
        {"dense_0.weight", "dense_0.bias"},
        {"\"F32\"", "\"F64\""},
        {"\"F32\"", "\"BF16\""},
        {"[2,3]", "[3,2]"},
        {"[2,3]", "[6]"},
        {"[2,3]", "[2,3,1]"},
        {"[2,3]", "[]"},
        {"[2,3]", "[[2,3]]"},
        {"[2]", "[2,1]"},
        {"[24,32]", "[0,8]"},
        {"[0,24]", "[24,0]"},
        {"\"dtype\":\"F32\",\"shape\":[2]", "\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2]"},
        {",\"dense_0.bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[24,32]}", ""},
        {"[24,32]}", "[24,32]},\"dense_0.bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[24,32]}"},
        {"[24,32]}", "[24,32]},\"extra\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[32,32]}"},
        {"[24,32]}}", "[24,32]}"},
        {"[24,32]}}", "[24,32]}}}"},
        {"[24,32]}}", "[24,32]},}"},
        {"{\"__metadata__\"", "{\"\":{},\"__metadata__\""},
        {"{\"__metadata__\"", " {\"__metadata__\""},
        {"{\"__metadata__\"", "[{\"__metadata__\""},
        {"\"__metadata__\":{", "\"__metadata__\":{{"},
        {"\"__metadata__\":{", "\"__metadata__\":{\"deep\":{\"deeper\":\"\"},"},
    };
    mbp_net *net = make(graphs[0], MBP_F32, 0);
    blob file = write_net(net);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *at = find(file, cases[i].old);
        CHECK(at, "no %s in the file", cases[i].old);
        if (!at)
            continue;
        blob changed = replace(file, at, strlen(cases[i].old), cases[i].new);
        check_refused(changed, cases[i].new, (long)i);
        free(changed.bytes);
    }
    char *crc = find(file, ",\"microbp.crc32c\"");
    blob without = replace(file, crc, strlen(",\"microbp.crc32c\":\"00000000\""), "");
    check_refused(without, "no checksum", 0);
    char *space = find(file, ",\"dense_0.bias\"");
    blob spaced = replace(file, space, 1, " \t\n, ");
    mbp_net *back = NULL;
    CHECK(mbp_net_read(&back, spaced.bytes, spaced.size, NULL, NULL) == MBP_OK, "space between tokens is JSON");
    mbp_net_free(back);
    free(file.bytes), free(without.bytes), free(spaced.bytes);
    mbp_net_free(net);
}

/* Each n-th allocation fails, once or from then on, until the call succeeds. */
static void test_no_memory(const char *directory) {
    char path[200];
    snprintf(path, sizeof path, "%s/net.safetensors", directory);
    counter c = {0};
    mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_options options = {.allocator = &allocator};
    mbp_error error = {0};
    mbp_net *net = NULL, *back = NULL;
    CHECK(mbp_net_create(&net, graphs[1], &options, &error) == MBP_OK, "%s", error.text);
    CHECK(mbp_net_set_notes(net, "notes", &error) == MBP_OK, "%s", error.text);
    blob file = write_net(net);
    CHECK(mbp_net_save(net, path, &error) == MBP_OK, "%s", error.text);
    const size_t live = c.live;
    for (int scenario = 0; scenario < 8; scenario++) {
        mbp_status status = MBP_NO_MEMORY;
        for (long n = 1; status != MBP_OK && n < 100; n++) {
            size_t size = file.size;
            c = (counter){.live = live, .fail_at = n, .for_ever = scenario & 1};
            switch (scenario / 2) {
            case 0: status = mbp_net_write(net, file.bytes, &size, &error); break;
            case 1: status = mbp_net_save(net, path, &error); break;
            case 2: status = mbp_net_read(&back, file.bytes, file.size, &options, &error); break;
            default: status = mbp_net_load(&back, path, &options, &error); break;
            }
            CHECK(status == MBP_OK || status == MBP_NO_MEMORY, "scenario %d, allocation %ld: %s", scenario, n, error.text);
            CHECK((status == MBP_OK) == (c.calls < n), "scenario %d, allocation %ld of %ld", scenario, n, c.calls);
            c.fail_at = 0;
            if (status == MBP_OK && back)
                check_equal(net, back, "after failures");
            mbp_net_free(back);
            back = NULL;
            CHECK(c.live == live, "scenario %d, allocation %ld: %zu bytes left", scenario, n, c.live - live);
        }
        CHECK(status == MBP_OK, "scenario %d never succeeds", scenario);
    }
    mbp_net_free(net);
    CHECK(c.live == 0, "%zu bytes left at the end", c.live);
    free(file.bytes);
    unlink(path);
}

static void check_io(mbp_status status, const mbp_error *error, const char *path, const char *text) {
    CHECK(status == MBP_IO && strstr(error->text, path) && strstr(error->text, text), "%s: status %d: %s", path, (int)status, error->text);
}

static void test_io(const char *directory) {
    char path[200], missing[200], pipe[200], empty[200], link[200];
    snprintf(path, sizeof path, "%s/net.safetensors", directory);
    snprintf(missing, sizeof missing, "%s/none/net.safetensors", directory);
    snprintf(pipe, sizeof pipe, "%s/pipe", directory);
    snprintf(empty, sizeof empty, "%s/empty", directory);
    snprintf(link, sizeof link, "%s/link", directory);
    mbp_net *net = make(graphs[0], MBP_F32, 0), *back = NULL;
    mbp_error error = {0};
    check_io(mbp_net_load(&back, path, NULL, &error), &error, path, "no such file");
    check_io(mbp_net_load(&back, directory, NULL, &error), &error, directory, "directory");
    check_io(mbp_net_save(net, missing, &error), &error, missing, "no such file");
    check_io(mbp_net_save(net, directory, &error), &error, directory, "directory");
    CHECK(mkfifo(pipe, 0600) == 0, "mkfifo");
    check_io(mbp_net_load(&back, pipe, NULL, &error), &error, pipe, "not a regular file");
    check_io(mbp_net_save(net, pipe, &error), &error, pipe, "not a regular file");
    fclose(fopen(empty, "w"));
    CHECK(mbp_net_load(&back, empty, NULL, &error) == MBP_CORRUPT && strstr(error.text, empty), "%s", error.text);

    CHECK(mbp_net_save(net, path, &error) == MBP_OK && chmod(path, 0604) == 0 && symlink("net.safetensors", link) == 0, "%s", error.text);
    CHECK(mbp_net_save(net, link, &error) == MBP_OK, "%s", error.text);
    struct stat status;
    CHECK(lstat(link, &status) == 0 && S_ISLNK(status.st_mode), "a link is written through");
    CHECK(lstat(path, &status) == 0 && S_ISREG(status.st_mode) && (status.st_mode & 0777) == 0604, "a file keeps its permissions");
    unlink(link), unlink(empty), unlink(pipe), unlink(path);
    mbp_net_free(net);
}

int main(void) {
    char directory[] = "/tmp/microbp_file_XXXXXX";
    if (!mkdtemp(directory)) {
        printf("no directory for temporary files\n");
        return 1;
    }
    test_round_trip(directory);
    test_layout();
    test_damage();
    test_hostile_numbers();
    test_hostile_texts();
    test_no_memory(directory);
    test_io(directory);
    CHECK(rmdir(directory) == 0, "files are left in %s", directory);
    if (failures)
        printf("%d checks failed\n", failures);
    return failures != 0;
}
