/* Files: reading gives back the net that was written, and refuses everything else; also if an allocation fails. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file/seeds.h"

static const char *const graphs[] = {
    "input 3\ndense 0 units=2\noutput 1\n",
    ("input 7\ndense 0 layer=a units=33 activation=relu\ndense 1 units=33 activation=leaky_relu(slope=0.2)\nadd 1 2\n"
     "concat 3 0\ndense 4 units=5 bias=0 frozen=1\noutput 5\n"),
    "input 4\ninput 2\ndense 0 layer=shared units=4\ndense 2 layer=shared\nconcat 3 1\ndense 4 units=1\noutput 5 "
    "activation=sigmoid\noutput 2\n",
    "input 3\nactivation 0 tanh\noutput 1\n",
};
enum { GRAPHS = sizeof graphs / sizeof *graphs, WITH_PARAMETERS = GRAPHS - 1 };

static mbp_net *make(const char *graph, mbp_dtype dtype, uint64_t seed) {
    mbp_net *net = NULL;
    mbp_error error = {0};
    mbp_options options = {.size = sizeof options, .dtype = dtype, .seed = seed};
    CHECK(mbp_net_create(&net, graph, &options, &error) == MBP_OK, "%s", error.text);
    if (!net)
        exit(1);
    int64_t count;
    unsigned char *params = mbp_net_params(net, &count);
    size_t bytes = (size_t)count * (dtype == MBP_F64 ? 8 : 4);
    if (seed % 2)
        CHECK(mbp_net_set_notes(net, "a \"text\" with \\, \n, \x01 and \xc3\xa9", &error) == MBP_OK, "%s", error.text);
    for (size_t i = 0; i < bytes; i++) /* all bit patterns must be preserved, also those of NaNs */
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
    CHECK(count[0] == count[1] &&
              memcmp(params[0], params[1], (size_t)count[0] * (mbp_net_dtype(a) == MBP_F64 ? 8 : 4)) == 0,
          "%s", what);
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
    CHECK(memcmp(data, expected, sizeof data) == 0, "the weight in the file is not (out, in)");
    CHECK(find(file, "\"dense_0.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"),
          "the header has another entry for the weight");
    CHECK(crc32c("123456789", 9) == 0xe3069283u, "this test's CRC-32C is wrong");
    blob fixed = copy(file, file.size);
    fix_crc(fixed);
    CHECK(memcmp(fixed.bytes, file.bytes, file.size) == 0, "the checksum is not that of the whole file");

    size_t size = file.size - 1;
    memset(fixed.bytes, 7, file.size);
    CHECK(mbp_net_write(net, fixed.bytes, &size, NULL) == MBP_INVALID && size == file.size,
          "a buffer that is too small is accepted");
    CHECK(fixed.bytes[0] == 7 && fixed.bytes[file.size - 1] == 7, "a refused write changes the buffer");
    free(file.bytes), free(fixed.bytes);
    mbp_net_free(net);
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
    CHECK(mbp_net_read(&back, spaced.bytes, spaced.size, NULL, NULL) == MBP_OK, "space between tokens is refused");
    mbp_net_free(back);
    free(file.bytes), free(without.bytes), free(spaced.bytes);
    mbp_net_free(net);
}

/* The file of a graph with `lines` lines of this pattern, in which %d is the line's number. */
static blob many_lines(const char *pattern, int lines) {
    char *text = malloc((size_t)lines * 64 + 64), *end = text + sprintf(text, "input 1\n");
    for (int i = 0; i < lines; i++)
        end += sprintf(end, pattern, i);
    sprintf(end, "\noutput %d\n", lines);
    mbp_net *net = make(text, MBP_F32, 0);
    blob file = write_net(net);
    mbp_net_free(net);
    free(text);
    return file;
}

static double seconds_to_read(blob file) {
    counter c = {0};
    mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_options options = {.size = sizeof options, .allocator = &allocator};
    double best = 1e9;
    for (int k = 0; k < 3; k++) {
        mbp_net *net = NULL;
        mbp_error error = {0};
        const double start = cpu_seconds();
        CHECK(mbp_net_read(&net, file.bytes, file.size, &options, &error) == MBP_OK, "%s", error.text);
        best = fmin(best, cpu_seconds() - start);
        mbp_net_free(net);
    }
    CHECK(c.peak <= most_memory(file), "peak %zu, for %zu bytes", c.peak, file.size);
    return best;
}

static void check_unpadded(blob file) {
    char *end = file.bytes + file.size;
    while (end[-1] == ' ')
        end--;
    CHECK(end < file.bytes + file.size - 64, "a graph of many lines has no padding");
    blob bare = replace(file, end, (size_t)(file.bytes + file.size - end), "");
    check_refused(bare, "without the padding", 0);
    free(bare.bytes);
}

/* Many short lines: reading stays within the documented memory, and its time is linear in the number of lines. If it
 * were quadratic, 8 times the lines would take 64 times the time. The bound is higher than 8, because other programs
 * may slow down the longer file more than the shorter one, whose net fits a cache. A file without its padding is
 * refused. */
static void test_many_lines(void) {
    static const char *const layers[] = {"dense %d units=1 bias=0\n", "dense %1$d layer=a_layer_%1$d units=1\n",
                                         "batch_norm %d\n"};
    static const char *const others[] = {"add %d 0\n", "activation %d relu\n", "dropout %d\n", "concat %d\n"};
    for (int i = 0; i < 7; i++) {
        const char *pattern = i < 3 ? layers[i] : others[i - 3];
        blob few = many_lines(pattern, 1000), many = many_lines(pattern, 8000);
        const double short_time = seconds_to_read(few);
        double long_time = seconds_to_read(many);
        for (int tries = 0; tries < 4 && long_time > 24 * short_time; tries++)
            long_time = fmin(long_time, seconds_to_read(many));
        CHECK(long_time < 40 * short_time, "%s: 8 times the lines take %.1f times the time", pattern,
              long_time / short_time);
        if (i >= 3)
            check_unpadded(many);
        free(few.bytes), free(many.bytes);
    }
}

/* The n-th allocation fails, alone or with all later ones, for n = 1, 2, ... until the call succeeds. */
static void test_no_memory(const char *directory) {
    char path[200];
    snprintf(path, sizeof path, "%s/net.safetensors", directory);
    counter c = {0};
    mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_options options = {.size = sizeof options, .allocator = &allocator};
    mbp_error error = {0};
    mbp_net *net = NULL, *back = NULL;
    mbp_extras *extras = NULL;
    CHECK(mbp_net_create(&net, graphs[1], &options, &error) == MBP_OK, "%s", error.text);
    CHECK(mbp_net_set_notes(net, "notes", &error) == MBP_OK, "%s", error.text);
    blob file = write_seed(net, &seed_extras);
    CHECK(mbp_net_save_with(net, &seed_extras, path, &error) == MBP_OK, "%s", error.text);
    const size_t live = c.live;
    for (int scenario = 0; scenario < 14; scenario++) {
        mbp_status status = MBP_NO_MEMORY;
        for (long n = 1; status != MBP_OK && n < 100; n++) {
            size_t size = file.size;
            c = (counter){.live = live, .fail_at = n, .persistent = scenario & 1};
            switch (scenario / 2) {
            case 0: status = mbp_net_write_with(net, &seed_extras, file.bytes, &size, &error); break;
            case 1: status = mbp_net_save_with(net, &seed_extras, path, &error); break;
            case 2: status = mbp_net_read_with(&back, &extras, file.bytes, file.size, &options, &error); break;
            case 3: status = mbp_net_load_with(&back, &extras, path, &options, &error); break;
            case 4: status = mbp_net_read(&back, file.bytes, file.size, &options, &error); break;
            case 5: status = mbp_net_load(&back, path, &options, &error); break;
            default: status = mbp_net_set_notes(net, "notes", &error); break;
            }
            CHECK(status == MBP_OK || status == MBP_NO_MEMORY, "scenario %d, allocation %ld: %s", scenario, n,
                  error.text);
            CHECK((status == MBP_OK) == (c.calls < n), "scenario %d, allocation %ld of %ld", scenario, n, c.calls);
            c.fail_at = 0;
            if (status == MBP_OK && back)
                check_equal(net, back, "after failures");
            mbp_net_free(back);
            mbp_extras_free(extras);
            back = NULL, extras = NULL;
            CHECK(c.live == live, "scenario %d, allocation %ld: %zu bytes left", scenario, n, c.live - live);
        }
        CHECK(status == MBP_OK, "scenario %d never succeeds", scenario);
    }
    mbp_net_free(net);
    CHECK(c.live == 0, "%zu bytes left at the end", c.live);
    free(file.bytes);
    unlink(path);
}

/* Extras are read as they were written. Invalid extras are refused before anything is written. */
static void test_extras(void) {
    mbp_net *net = make(graphs[0], MBP_F64, 1), *back = NULL;
    mbp_extras *extras = NULL;
    mbp_error error = {0};
    blob file = write_seed(net, &seed_extras), bare = write_net(net);
    CHECK(mbp_net_read_with(&back, &extras, file.bytes, file.size, NULL, &error) == MBP_OK && extras, "%s", error.text);
    check_equal(net, back, "with extras");
    CHECK(strcmp(extras->text, seed_extras.text) == 0 && extras->count == seed_extras.count, "%s", extras->text);
    for (int i = 0; i < extras->count; i++) {
        const mbp_vector *a = &extras->vector[i], *b = &seed_extras.vector[i];
        CHECK(strcmp(a->name, b->name) == 0 && a->count == b->count &&
                  memcmp(a->data, b->data, (size_t)a->count * 8) == 0,
              "%s", b->name);
        CHECK((uintptr_t)a->data % 64 == 0, "a vector is not aligned");
    }
    mbp_net_free(back);
    mbp_extras_free(extras);
    CHECK(mbp_net_read_with(&back, &extras, bare.bytes, bare.size, NULL, &error) == MBP_OK && !extras, "%s",
          error.text);
    mbp_net_free(back);

    const mbp_vector good = {"a.b.c", seed_numbers, 1};
    const mbp_vector bad[] = {{NULL, seed_numbers, 1},
                              {"", NULL, 0},
                              {"a.b", NULL, 0},
                              {"a.b.c", NULL, 1},
                              {"a.b.d", seed_numbers, -1},
                              {"a.b.d", seed_numbers, INT64_MAX},
                              {"a.b.c", seed_numbers, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const mbp_vector both[2] = {good, bad[i]};
        size_t size = file.size;
        CHECK(mbp_net_write_with(net, &(mbp_extras){"text", both, 2}, file.bytes, &size, &error) == MBP_INVALID,
              "vector %zu", i);
    }
    const mbp_extras none[] = {{NULL, NULL, 0}, {"", NULL, 0},    {"\xff", NULL, 0},
                               {"x", NULL, 1},  {"x", &good, -1}, {"x", &good, 65}};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        CHECK(mbp_net_save_with(net, &none[i], "/tmp/never", &error) == MBP_INVALID, "extras %zu", i);
    free(file.bytes), free(bare.bytes);
    mbp_net_free(net);
}

static void check_io(mbp_status status, const mbp_error *error, const char *path, const char *text) {
    CHECK(status == MBP_IO && strstr(error->text, path) && strstr(error->text, text), "%s: status %d: %s", path,
          (int)status, error->text);
}

/* A file of 1 TiB that is no net: refused by its first bytes, with no memory for the rest. */
static void check_large(const char *path) {
    static const char *const starts[] = {"", "PK", "\x40\0\0\0\0\0\0\0{\"w\":{\"dtype\"",
                                         "\0\1\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"}"};
    static const size_t sizes[] = {0, 2, 20, 40};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unlink(path);
        FILE *file = fopen(path, "wb");
        CHECK(file && fwrite(starts[i], 1, sizes[i], file) == sizes[i] && fclose(file) == 0, "%s", path);
        CHECK(truncate(path, (off_t)1 << 40) == 0, "truncate");
        counter c = {0};
        mbp_allocator allocator = {count_allocate, count_release, &c};
        const mbp_options options = {.size = sizeof options, .allocator = &allocator};
        mbp_error error = {0};
        mbp_net *net = NULL;
        CHECK(mbp_net_load(&net, path, &options, &error) == MBP_CORRUPT && c.peak == 0, "%zu: %s", i, error.text);
    }
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

    CHECK(mbp_net_save(net, path, &error) == MBP_OK && chmod(path, 0604) == 0 && symlink("net.safetensors", link) == 0,
          "%s", error.text);
    CHECK(mbp_net_save(net, link, &error) == MBP_OK, "%s", error.text);
    struct stat status;
    CHECK(lstat(link, &status) == 0 && S_ISLNK(status.st_mode), "a save replaces a symbolic link");
    CHECK(lstat(path, &status) == 0 && S_ISREG(status.st_mode) && (status.st_mode & 0777) == 0604,
          "a save changes the permissions");
    CHECK(chmod(path, 0444) == 0, "chmod");
    check_io(mbp_net_save(net, link, &error), &error, "link", "read-only; make it writable");
    CHECK(error.number == EACCES, "errno %d", error.number);
    check_large(path);
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
    test_hostile_texts();
    test_extras();
    test_many_lines();
    test_no_memory(directory);
    test_io(directory);
    CHECK(rmdir(directory) == 0, "files are left in %s", directory);
    if (failures)
        printf("%d checks failed\n", failures);
    return failures != 0;
}
