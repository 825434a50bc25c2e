/* Files of several networks: each is the net that was written, with its weight; damaged and
 * forged files are refused, within the documented memory. Python's files are read by the program in docs/ensembles.md. */
#include "files.h"

enum { MEMBERS = 3 };
static const char *const graphs[MEMBERS] = {"input 2\ndense 0 units=3 activation=tanh\ndense 1 units=1\noutput 2\n",
                                            "input 2\ndense 0 units=1\noutput 1\n",
                                            "input 2\nscale 0 gain=1 bias=1\ndense 1 units=1\noutput 2\n"};
static const double weights[MEMBERS] = {3, 0.30000000000000004, 1e-5};
static mbp_net *nets[MEMBERS];

static void add(blob *to, const char *bytes, size_t size) {
    to->bytes = realloc(to->bytes, to->size + size);
    memcpy(to->bytes + to->size, bytes, size);
    to->size += size;
}

static void add_text(blob *to, const char *text) { add(to, text, strlen(text)); }

static void add_escaped(blob *to, const char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"' || text[i] == '\\')
            add_text(to, "\\");
        add(to, text + i, 1);
    }
}

/* The CRC-32 of zlib, a bit at a time. libFuzzer does not instrument it. */
static uint32_t crc32(uint32_t crc, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        crc ^= (unsigned char)bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return crc;
}

/* Writes the checksum of a file whose header is whole: that of the data, then of all before it. */
static void seal(blob file) {
    uint64_t length;
    char digits[9], *at = find(file, "crc32\":\"");
    memcpy(&length, file.bytes, 8);
    memset(at + 8, '0', 8);
    const uint32_t data = crc32(0xffffffffu, file.bytes + 8 + length, file.size - 8 - length);
    snprintf(digits, sizeof digits, "%08" PRIx32, ~crc32(data, file.bytes, 8 + length));
    memcpy(at + 8, digits, 8);
}

/* A file as microbp/network/nets_file.py writes it, without the entries of tensors, which readers of members ignore.
 * weights: the list, or "". */
static blob make(int count, const char *weight_list) {
    blob header = {NULL, 0}, data = {NULL, 0}, file = {NULL, 0};
    char text[200];
    snprintf(text, sizeof text,
             "{\"__metadata__\":{\"format\":\"microbp\",\"microbp.ensemble\":\"%d\",\"microbp.crc32\":\"00000000\","
             "\"microbp.members\":\"%d\"",
             *weight_list ? 2 : 1, count);
    add_text(&header, text);
    for (int i = 0; i < count; i++) {
        size_t size = 0;
        uint64_t length;
        mbp_net_write(nets[i], NULL, &size, NULL);
        char *bytes = malloc(size);
        mbp_net_write(nets[i], bytes, &size, NULL);
        memcpy(&length, bytes, 8);
        snprintf(text, sizeof text, ",\"microbp.member.%d\":\"", i);
        add_text(&header, text);
        add_escaped(&header, bytes + 8, length);
        add_text(&header, "\"");
        add(&data, bytes + 8 + length, size - 8 - length);
        free(bytes);
    }
    if (*weight_list)
        add_text(&header, ",\"microbp.weights\":\""), add_text(&header, weight_list), add_text(&header, "\"");
    add_text(&header, "}}");
    const uint64_t length = header.size;
    add(&file, (const char *)&length, 8);
    add(&file, header.bytes, header.size);
    add(&file, data.bytes, data.size);
    free(header.bytes), free(data.bytes);
    seal(file);
    return file;
}

/* Whether the net's own file is that of member i. */
static int is_member(const mbp_net *net, int i) {
    char found[4096], expected[4096];
    size_t size = sizeof found, other = sizeof expected;
    return mbp_net_write(net, found, &size, NULL) == MBP_OK &&
           mbp_net_write(nets[i], expected, &other, NULL) == MBP_OK && size == other &&
           memcmp(found, expected, size) == 0;
}

/* Reads a member of a file that may be damaged; returns whether it was read. */
static int read_damaged(blob file, int member, const char *what, size_t where) {
    counter c = {0};
    mbp_allocator allocator = {count_allocate, count_release, &c};
    mbp_options options = {.size = sizeof options, .allocator = &allocator};
    mbp_error error = {0};
    mbp_net *net = NULL;
    const mbp_status status = mbp_net_read_member(&net, file.bytes, file.size, member, NULL, NULL, &options, &error);
    CHECK(status == MBP_OK ? is_member(net, member) : !net && strlen(error.text) > 20, "%s %zu: status %d, %s", what,
          where, (int)status, error.text);
    CHECK(c.peak <= most_memory(file), "%s %zu: peak %zu", what, where, c.peak);
    mbp_net_free(net);
    CHECK(c.live == 0, "%s %zu: left %zu", what, where, c.live);
    return status == MBP_OK;
}

static void test_members(void) {
    blob file = make(MEMBERS, "[3.0, 0.30000000000000004, 1e-05]");
    for (int i = 0; i < MEMBERS; i++) {
        int count = 0;
        double weight = 0;
        mbp_net *net = NULL;
        mbp_error error = {0};
        const mbp_status status = mbp_net_read_member(&net, file.bytes, file.size, i, &count, &weight, NULL, &error);
        CHECK(status == MBP_OK && is_member(net, i), "network %d: %s", i, error.text);
        CHECK(count == MEMBERS && fabs(weight / weights[i] - 1) < 1e-15, "network %d of %d: weight %.17g", i, count,
              weight);
        mbp_net_free(net);
    }
    for (int i = -1; i <= MEMBERS; i += MEMBERS + 1) {
        mbp_net *net = NULL;
        mbp_error error = {0};
        char text[100];
        snprintf(text, sizeof text, "member is %d, but the file has 3 networks, numbered from 0", i);
        CHECK(mbp_net_read_member(&net, file.bytes, file.size, i, NULL, NULL, NULL, &error) == MBP_INVALID && !net,
              "%d", i);
        CHECK(strcmp(error.text, text) == 0, "%s", error.text);
    }
    free(file.bytes);
}

static void test_weights(void) {
    static const struct {
        const char *list;
        double first, second; /* -1: refused */
    } lists[] = {{"", 1, 1},
                 {"[1, 2]", 1, 2},
                 {"[0.5,0.25]", 0.5, 0.25},
                 {"[1e3, 2.5e+2]", 1000, 250},
                 {"[0, 1.]", 0, 1},
                 {"[1]", -1, -1},
                 {"[1, 2, 3]", -1, -1},
                 {"[0, 0.0]", -1, -1},
                 {"[-1, 2]", -1, -1},
                 {"[nan, 1.]", -1, -1},
                 {"[1e999, .5]", -1, -1},
                 {"[1e399, .5]", -1, -1},
                 {"1, 2", -1, -1},
                 {"[1 2]", -1, -1},
                 {"[]", -1, -1},
                 {"[1.2.3, 4e]", -1, -1},
                 {"[e5, 0.0]", -1, -1},
                 {"[1e-2,1e-02]", 0.01, 0.01}};
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++)
        for (int i = 0; i < 2; i++) {
            blob file = make(2, lists[k].list);
            const double expected = i ? lists[k].second : lists[k].first;
            double weight = -1;
            mbp_net *net = NULL;
            const mbp_status status = mbp_net_read_member(&net, file.bytes, file.size, i, NULL, &weight, NULL, NULL);
            CHECK(status == (expected < 0 ? MBP_CORRUPT : MBP_OK) && fabs(weight - expected) <= 1e-15 * fabs(expected),
                  "%s, network %d: status %d, weight %.17g", lists[k].list, i, (int)status, weight);
            mbp_net_free(net), free(file.bytes);
        }
}

static void test_a_file_of_one_network(void) {
    char bytes[4096];
    size_t size = sizeof bytes;
    int count = 0;
    double weight = 0;
    mbp_net *net = NULL;
    mbp_net_write(nets[0], bytes, &size, NULL);
    CHECK(mbp_net_read_member(&net, bytes, size, 0, &count, &weight, NULL, NULL) == MBP_OK && is_member(net, 0), "one");
    CHECK(count == 1 && weight == 1, "%d, %g", count, weight);
    mbp_net_free(net), net = NULL;
    CHECK(mbp_net_read_member(&net, bytes, size, 1, NULL, NULL, NULL, NULL) == MBP_INVALID && !net, "a second one");
}

static void test_on_disk(void) {
    blob file = make(MEMBERS, "");
    char path[] = "/tmp/microbp-members-XXXXXX";
    const int at = mkstemp(path);
    CHECK(write(at, file.bytes, file.size) == (ssize_t)file.size, "cannot write %s", path);
    close(at);
    mbp_net *net = NULL;
    mbp_error error = {0};
    CHECK(mbp_net_load_member(&net, path, 2, NULL, NULL, NULL, &error) == MBP_OK && is_member(net, 2), "%s",
          error.text);
    mbp_net_free(net), net = NULL;
    CHECK(mbp_net_load_member(&net, path, 3, NULL, NULL, NULL, &error) == MBP_INVALID && strstr(error.text, path), "%s",
          error.text);
    CHECK(mbp_net_load_member(&net, "/tmp/microbp-no-such-file", 0, NULL, NULL, NULL, &error) == MBP_IO && !net, "%s",
          error.text);
    unlink(path);
    free(file.bytes);
}

/* Files that are not what was written, but have the checksum of what they are. */
static void test_forged(void) {
    static const struct {
        const char *old, *new; /* in the header */
        int more;              /* bytes of data */
        const char *text;
    } rows[] = {{"ensemble\":\"2", "ensemble\":\"3", 0, "the file has the ensemble format 3, but"},
                {"members\":\"3", "members\":\"2", 0, "it has 3 networks, but should have 2"},
                {"members\":\"3", "members\":\"9", 0, "it has 3 networks, but should have 9"},
                {"members\":\"3", "memberx\":\"3", 0, "its metadata is not what microbp writes"},
                {"[1, 2, 3]", "[0, 0, 0]", 0, "its weights are not a number of at least 0 for each network, not all 0"},
                {"weights", "weightz", 0, "its metadata is not what microbp writes"},
                {"crc32", "crc32", 1, "after its networks, it has 1 byte more"},
                {"crc32", "crc32", -1, "it is cut short: network 2 needs 28 bytes, but 27 bytes of data are left"}};
    blob file = make(MEMBERS, "[1, 2, 3]");
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
        for (int member = 0; member < MEMBERS; member++) {
            blob other = copy(file, file.size + (size_t)rows[k].more);
            mbp_error error = {0};
            mbp_net *net = NULL;
            if (rows[k].more > 0)
                other.bytes[file.size] = 0;
            memcpy(find(other, rows[k].old), rows[k].new, strlen(rows[k].new));
            seal(other);
            mbp_net_read_member(&net, other.bytes, other.size, member, NULL, NULL, NULL, &error);
            CHECK(!net && strstr(error.text, rows[k].text), "%s: %s", rows[k].new, error.text);
            mbp_net_free(net), free(other.bytes);
        }
    free(file.bytes);
}

/* Every byte counts, those of other networks too. */
static void test_damage(void) {
    blob file = make(MEMBERS, "[1, 2, 3]");
    const size_t step = is_long() ? 1 : 3;
    for (size_t size = 0; size < file.size; size++) {
        blob shorter = copy(file, size);
        CHECK(!read_damaged(shorter, (int)(size % MEMBERS), "size", size), "it is complete in %zu bytes", size);
        free(shorter.bytes);
    }
    for (size_t bit = 0; bit < 8 * file.size; bit += step) {
        blob flipped = copy(file, file.size);
        flipped.bytes[bit / 8] = (char)(flipped.bytes[bit / 8] ^ (1 << bit % 8));
        CHECK(!read_damaged(flipped, (int)(bit / step % MEMBERS), "bit", bit), "bit %zu does not count", bit);
        free(flipped.bytes);
    }
    free(file.bytes);
}

static void test_without_memory(void) {
    blob file = make(MEMBERS, "[1, 2, 3]");
    int done = 0;
    for (long call = 1; call < 200 && !done; call++) {
        counter c = {.fail_at = call};
        mbp_allocator allocator = {count_allocate, count_release, &c};
        mbp_options options = {.size = sizeof options, .allocator = &allocator};
        mbp_net *net = NULL;
        const mbp_status status = mbp_net_read_member(&net, file.bytes, file.size, 2, NULL, NULL, &options, NULL);
        done = status == MBP_OK;
        CHECK(done || (status == MBP_NO_MEMORY && !net), "call %ld: status %d", call, (int)status);
        mbp_net_free(net);
        CHECK(c.live == 0, "call %ld leaves %zu bytes", call, c.live);
    }
    CHECK(done, "it needs more than 200 allocations");
    free(file.bytes);
}

int main(void) {
    for (int i = 0; i < MEMBERS; i++) {
        mbp_error error = {0};
        const mbp_options options = {
            .size = sizeof options, .seed = (uint64_t)i + 7, .dtype = i == 1 ? MBP_F64 : MBP_F32};
        CHECK(mbp_net_create(&nets[i], graphs[i], &options, &error) == MBP_OK, "%s", error.text);
        mbp_net_set_notes(nets[i], i ? "" : "{\"unit\": \"\\u00b5m \\\\ \xc2\xb5\"}", NULL);
    }
    if (failures)
        return report("members");
    test_members();
    test_weights();
    test_a_file_of_one_network();
    test_on_disk();
    test_forged();
    test_damage();
    test_without_memory();
    for (int i = 0; i < MEMBERS; i++)
        mbp_net_free(nets[i]);
    return report("members");
}
